package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	openai "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// keyring makes API keys of a network on this machine.
type keyring struct {
	t    *testing.T
	path string
	dir  string
}

func (k keyring) run(args ...string) []byte {
	k.t.Helper()
	out, err := exec.CommandContext(deadline(k.t), k.path, append([]string{"key", "--dir", k.dir}, args...)...).Output()
	if err != nil {
		var exit *exec.ExitError
		_ = errors.As(err, &exit)
		k.t.Fatalf("cocoon key %v: %v\n%s", args, err, exit.Stderr)
	}
	return out
}

func (k keyring) create(name string, args ...string) string {
	k.t.Helper()
	var key struct{ Secret string }
	if b := k.run(append([]string{"create", "--json", "--name", name}, args...)...); json.Unmarshal(b, &key) != nil || !strings.HasPrefix(key.Secret, "ck-") {
		k.t.Fatalf("no key in %s", b)
	}
	return key.Secret
}

// TestKeys: the official clients against a gateway that asks for API keys. What a
// key may not do is refused with the status and code that the clients turn into
// their own errors, before anything is spent; what it did is told by /v1/usage.
func TestKeys(t *testing.T) {
	engine := startEngine(t)
	dir := t.TempDir()
	base := startUp(t, "--dir", dir, "--keys", "--engine", engine.URL, "--model", engineModel)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	keys := keyring{t, path, dir}
	with := func(key string) openai.Client {
		return openai.NewClient(option.WithBaseURL(base), option.WithAPIKey(key), option.WithMaxRetries(0))
	}
	say := func(key string) (*openai.ChatCompletion, error) {
		cl := with(key)
		p := chat("one two three")
		p.MaxTokens = openai.Int(10)
		return cl.Chat.Completions.New(deadline(t), p)
	}
	free := keys.create("free")
	elsewhere := keys.create("elsewhere", "--models", "another")
	slow := keys.create("slow", "--per-minute", "1")
	single := keys.create("single", "--concurrent", "1")
	poor := keys.create("poor", "--budget", "0.000001")
	gone := keys.create("gone")
	keys.run("disable", "gone")

	t.Run("refused", func(t *testing.T) {
		for _, c := range []struct {
			key, code, kind string
			status          int
			retry           bool
		}{
			{"ck-nobody", "invalid_api_key", "invalid_request_error", 401, false},
			{gone, "invalid_api_key", "invalid_request_error", 401, false},
			{elsewhere, "model_not_allowed", "permission_error", 403, false},
			{poor, "insufficient_quota", "insufficient_quota", 429, true},
		} {
			_, err := say(c.key)
			e := wantError(t, err, c.status, c.code)
			if e.Response == nil || e.Type != c.kind || (e.Response.Header.Get("Retry-After") != "") != c.retry || strings.Contains(e.Message, c.key) {
				t.Errorf("%s: %s, %+v", c.code, e.RawJSON(), e.Response)
			}
			cl := with(c.key)
			s := cl.Chat.Completions.NewStreaming(deadline(t), chat("one two"))
			if s.Next() {
				t.Errorf("%s: a stream begins", c.code)
			}
			wantError(t, s.Err(), c.status, c.code)
		}
		if n := engine.asked("one two"); n != 0 {
			t.Errorf("the engine was asked %d times", n)
		}
	})
	t.Run("rate", func(t *testing.T) {
		if _, err := say(slow); err != nil {
			t.Fatal(err)
		}
		_, err := say(slow)
		if e := wantError(t, err, 429, "rate_limit_exceeded"); e.Response != nil && e.Response.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
	t.Run("one at a time", func(t *testing.T) {
		ctx, cancel := context.WithCancel(deadline(t))
		defer cancel()
		cl := with(single)
		s := cl.Chat.Completions.NewStreaming(ctx, chat("stall here"))
		if !s.Next() {
			t.Fatal(s.Err())
		}
		_, err := say(single)
		wantError(t, err, 429, "rate_limit_exceeded")
		cancel()
		_ = s.Close()
		for until := time.Now().Add(20 * time.Second); ; {
			if _, err = say(single); err == nil || time.Now().After(until) {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if err != nil {
			t.Errorf("after the first one left: %v", err)
		}
	})
	t.Run("budget and usage", func(t *testing.T) {
		c, err := say(free)
		if err != nil {
			t.Fatal(err)
		}
		cost := costOf(t, c.Usage.RawJSON())
		type usage struct {
			Data []struct {
				Model     string
				Requests  int64
				CostNano  int64 `json:"cost_nano"`
				Completed int64 `json:"completion_tokens"`
			}
			Spent    int64 `json:"spent_today_nano"`
			Reserved int64 `json:"reserved_today_nano"`
		}
		used := func(key string) (u usage) {
			t.Helper()
			cl := with(key)
			if err := cl.Get(deadline(t), "usage", nil, &u); err != nil {
				t.Fatal(err)
			}
			return u
		}
		for until := time.Now().Add(20 * time.Second); used(free).Reserved != 0 && time.Now().Before(until); {
			time.Sleep(10 * time.Millisecond)
		}
		if u := used(free); u.Spent != cost || u.Reserved != 0 || len(u.Data) != 1 || u.Data[0].Requests != 1 || u.Data[0].Model != engineModel || u.Data[0].CostNano != cost || u.Data[0].Completed == 0 {
			t.Errorf("usage %+v; the call cost %d", u, cost)
		}
		if u := used(poor); u.Spent != 0 || u.Reserved != 0 || len(u.Data) != 0 {
			t.Errorf("the refused key used %+v", u)
		}
		keys.run("set", "poor", "--budget", "1")
		if _, err := say(poor); err != nil {
			t.Errorf("with a budget that does: %v", err)
		}
		cl := with(elsewhere)
		if list, err := cl.Models.List(deadline(t)); err != nil || len(list.Data) != 0 {
			t.Errorf("models of a key for another one: %v, %v", list, err)
		}
	})
	t.Run("without a key", func(t *testing.T) {
		resp, err := http.Get(base + "/models")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 401 || resp.Header.Get("Www-Authenticate") != "Bearer" {
			t.Errorf("%d, %v", resp.StatusCode, resp.Header)
		}
		if ready := strings.TrimSuffix(base, "/v1") + "/readyz"; page(t, ready) == "" {
			t.Error("readiness says nothing")
		}
	})
	t.Run("JavaScript", func(t *testing.T) {
		node := needNode(t)
		cmd := exec.CommandContext(deadline(t), node, "--test", "keys.test.mjs")
		cmd.Dir = "../js"
		keys.run("set", "poor", "--budget", "0.000001")
		cmd.Env = append(os.Environ(), "COCOON_BASE_URL="+base, "COCOON_MODEL="+engineModel,
			"KEY_FREE="+free, "KEY_GONE="+gone, "KEY_ELSEWHERE="+elsewhere, "KEY_SLOW="+slow, "KEY_POOR="+poor)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
}
