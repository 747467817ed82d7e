//go:build !tee

package cli

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/assist/telegram"
	"github.com/cocoon-network/cocoon/internal/assist/telegram/telegramtest"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
)

func TestAssistRefusesStrangers(t *testing.T) {
	s := newShell(t)
	short := s.file("short.txt", "# keys\nabc\n", 0o600)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"assist", "--listen", "0.0.0.0:0"}, exitUsage, "--keys"},
		{[]string{"assist", "--listen", "127.0.0.1:0", "--host", "assist.example"}, exitUsage, "--keys"},
		{[]string{"assist", "--listen", "nowhere"}, exitUsage, "--listen"},
		{[]string{"assist", "--per-minute", "0"}, exitUsage, "--per-minute"},
		{[]string{"assist", "--listen", "127.0.0.1:0", "--upstream", "x"}, exitUsage, "http://"},
		{[]string{"assist", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1/v1", "--keys", short}, exitFailed, "16 characters"},
		{[]string{"assist", "--mini-app-bot", "42"}, exitUsage, "--total-daily-nano"},
		{[]string{"assist", "--mini-app-bot", "-1"}, exitUsage, "token"},
		{[]string{"assist", "--mini-app-user", "7"}, exitUsage, "--mini-app-bot"},
		{[]string{"assist", "--mini-app-bot", "42", "--mini-app-user", "7", "--mini-app-key", "00"}, exitUsage, "--mini-app-key"},
		{[]string{"assist", "--index-messages", "-1"}, exitUsage, "--index-messages"},
		{[]string{"assist", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1/v1", "--frame", "web.telegram.org"}, exitFailed, "https://"},
		{[]string{"up", "--assist=0.0.0.0:0"}, exitUsage, "--keys"},
	} {
		if got := s.run(c.args...); got.code != c.code || !strings.Contains(got.stderr, c.says) {
			t.Errorf("%v: %+v", c.args, got)
		}
	}
}

// An endpoint that is not there yet is told of, and waited for.
func TestAssistWithoutEndpoint(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	var stderr strings.Builder
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, Env{Args: []string{"assist", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1/v1", "--dir", t.TempDir()}, Stdin: strings.NewReader(""), Stdout: w, Stderr: &stderr})
		w.Close()
	}()
	b := make([]byte, 200)
	if n, err := r.Read(b); err != nil || !strings.HasPrefix(string(b[:n]), "assist http://") {
		t.Fatalf("%q %v", b[:n], err)
	}
	cancel()
	if code := <-done; code != exitOK || !strings.Contains(stderr.String(), "does not answer") {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

// A user of Telegram gets in by its signature, others do not.
func TestMiniAppUsers(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	m := miniAppFlags{bot: telegramtest.BotID, users: []int64{77}, key: hex.EncodeToString(key.Public().(ed25519.PublicKey))}
	verify, err := m.launches()
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1_790_000_000, 0)
	data := func(id int) string {
		return telegramtest.InitData(key, map[string]string{"auth_date": "1789999990", "query_id": "q", "user": fmt.Sprintf(`{"id":%d}`, id)})
	}
	l, err := verify(data(77), now)
	if err != nil || l.User != "telegram 77" || l.ID == [32]byte{} || l.Expires.Sub(now) != telegram.InitDataAge-10*time.Second {
		t.Errorf("%+v %v", l, err)
	}
	if _, err := verify(data(78), now); err == nil || !strings.Contains(err.Error(), "none of them") {
		t.Errorf("somebody else: %v", err)
	}
	if _, err := verify(data(77), now.Add(2*time.Hour)); !errors.Is(err, telegram.ErrInitData) {
		t.Errorf("hours later: %v", err)
	}
	m.key = "production"
	if verify, err = m.launches(); err != nil {
		t.Fatal(err)
	}
	if _, err := verify(data(77), now); !errors.Is(err, telegram.ErrInitData) {
		t.Errorf("by another key than Telegram's: %v", err)
	}
}

// The command serves the tasks of an endpoint until it is stopped.
func TestAssistServes(t *testing.T) {
	e, err := demo.New(demo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(e)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, Env{Args: []string{"assist", "--listen", "127.0.0.1:0", "--upstream", srv.URL + "/v1", "--dir", t.TempDir()}, Stdin: strings.NewReader(""), Stdout: w, Stderr: io.Discard})
		w.Close()
	}()
	b := make([]byte, 200)
	n, err := r.Read(b)
	line, ok := strings.CutPrefix(strings.TrimSpace(string(b[:n])), "assist ")
	if err != nil || !ok {
		t.Fatalf("%q %v", b[:n], err)
	}
	resp, err := http.Post(line+"/assist/v1/translate", "application/json", strings.NewReader(`{"texts":[{"text":"Thank you!"}],"to":"id"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || !strings.Contains(string(answer), `"texts":[{"text":`) {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
