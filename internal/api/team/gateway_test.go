package team_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/api/team"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// network answers calls and charges for them, once each, as the client role
// does: it asks before it sends, and tells what it did cost.
type network struct {
	most, cost coins.Nano
	runs       atomic.Int64
	// release, if set, lets answers end.
	release chan struct{}
	// fails makes calls fail before they cost anything.
	fails atomic.Bool
	// breaks ends answers in the middle, charged.
	breaks atomic.Bool
	large  atomic.Bool
}

func (n *network) Models(context.Context) ([]api.Model, error) {
	return []api.Model{{ID: "words"}, {ID: "other"}}, nil
}

func (n *network) Do(ctx context.Context, c *api.Call) (*api.Answer, error) {
	settle, err := c.Hold(ctx, n.most)
	if err != nil {
		return nil, err
	}
	if n.fails.Load() {
		settle(api.Final{})
		return nil, openai.Unavailable("No worker is there.")
	}
	run := n.runs.Add(1)
	final := api.Final{PromptTokens: 2, CompletionTokens: 3, TotalTokens: 5, CostNano: n.cost}
	text := fmt.Sprintf("answer-canary-%d", run)
	if n.large.Load() {
		text += strings.Repeat("x", 5<<20)
	}
	stream := bytes.Contains(c.Body, []byte(`"stream":true`))
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		if stream {
			fmt.Fprintf(w, "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}]}\n\n", text)
		}
		if n.release != nil {
			select {
			case <-n.release:
			case <-ctx.Done():
			}
		}
		settle(final)
		switch {
		case n.breaks.Load():
			w.CloseWithError(openai.Cut("The answer broke off."))
			return
		case stream:
			io.WriteString(w, "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n")
		default:
			fmt.Fprintf(w, `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}}`, text)
		}
		w.Close()
	}()
	return &api.Answer{Status: 200, Header: http.Header{}, Body: r, Final: func() api.Final { return final }}, nil
}

// gateways are two that share a database and a network.
func gateways(t *testing.T, p place, n *network, log io.Writer) (stores [2]*team.Store, srv [2]*httptest.Server) {
	t.Helper()
	for i := range srv {
		stores[i] = p.open(t)
		g, err := api.New(api.Config{Backend: n, Team: stores[i], Answers: stores[i], Logger: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		if err != nil {
			t.Fatal(err)
		}
		srv[i] = httptest.NewServer(g)
		t.Cleanup(func() { srv[i].Close(); g.Settled() })
	}
	return stores, srv
}

const (
	chat     = `{"model":"words","messages":[{"role":"user","content":"prompt-canary"}]}`
	chatS    = `{"model":"words","stream":true,"messages":[{"role":"user","content":"prompt-canary"}]}`
	chatPath = "/v1/chat/completions"
)

type reply struct {
	status int
	header http.Header
	body   string
}

func (r reply) code() string {
	var e struct{ Error struct{ Code string } }
	_ = json.Unmarshal([]byte(r.body), &e)
	return e.Error.Code
}

func send(t *testing.T, ctx context.Context, srv *httptest.Server, method, path, body, key string, header ...string) reply {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, srv.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return reply{}
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(b)}
}

func TestGatewayKeys(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		n := &network{most: 100, cost: 10}
		stores, srv := gateways(t, p, n, io.Discard)
		secret, k := create(t, stores[0], "alice", team.Limits{Models: []string{"words"}})
		gone, _ := create(t, stores[0], "gone", team.Limits{})
		if _, err := stores[0].Set(t.Context(), "gone", func(_ *team.Limits, d *bool) error { *d = true; return nil }); err != nil {
			t.Fatal(err)
		}
		other := strings.Replace(chat, "words", "other", 1)
		for name, c := range map[string]struct {
			method, path, body, key string
			header                  []string
			status                  int
			code                    string
		}{
			"no key":                 {"POST", chatPath, chat, "", nil, 401, openai.CodeInvalidKey},
			"wrong key":              {"POST", chatPath, chat, secret + "x", nil, 401, openai.CodeInvalidKey},
			"only the prefix":        {"POST", chatPath, chat, "ck-", nil, 401, openai.CodeInvalidKey},
			"an SQL key":             {"POST", chatPath, chat, "' OR 1=1 --", nil, 401, openai.CodeInvalidKey},
			"another scheme":         {"POST", chatPath, chat, "", []string{"Authorization", "Basic " + secret}, 401, openai.CodeInvalidKey},
			"disabled":               {"POST", chatPath, chat, gone, nil, 401, openai.CodeInvalidKey},
			"messages without":       {"POST", "/v1/messages", chat, "", nil, 401, openai.CodeInvalidKey},
			"models without":         {"GET", "/v1/models", "", "", nil, 401, openai.CodeInvalidKey},
			"usage without":          {"GET", "/v1/usage", "", "", nil, 401, openai.CodeInvalidKey},
			"embeddings without":     {"POST", "/v1/embeddings", `{"model":"words","input":"x"}`, "", nil, 401, openai.CodeInvalidKey},
			"another model":          {"POST", chatPath, other, secret, nil, 403, openai.CodeModelNotAllowed},
			"another, idempotent":    {"POST", chatPath, other, secret, []string{"Idempotency-Key", "m"}, 403, openai.CodeModelNotAllowed},
			"another's page":         {"GET", "/v1/models/other", "", secret, nil, 404, openai.CodeModelNotFound},
			"usage of no day":        {"GET", "/v1/usage?from=yesterday", "", secret, nil, 400, openai.CodeInvalidValue},
			"usage to no day":        {"GET", "/v1/usage?to=2026-13-01", "", secret, nil, 400, openai.CodeInvalidValue},
			"an empty idempotency":   {"POST", chatPath, chat, secret, []string{"Idempotency-Key", ""}, 400, openai.CodeInvalidValue},
			"a long idempotency":     {"POST", chatPath, chat, secret, []string{"Idempotency-Key", strings.Repeat("x", 256)}, 400, openai.CodeInvalidValue},
			"a foreign idempotency":  {"POST", chatPath, chat, secret, []string{"Idempotency-Key", "ключ"}, 400, openai.CodeInvalidValue},
			"a blank in idempotency": {"POST", chatPath, chat, secret, []string{"Idempotency-Key", "a b"}, 400, openai.CodeInvalidValue},
		} {
			r := send(t, t.Context(), srv[0], c.method, c.path, c.body, c.key, c.header...)
			if r.status != c.status || r.code() != c.code {
				t.Errorf("%s: %d %s", name, r.status, r.body)
			}
		}
		if n.runs.Load() != 0 {
			t.Errorf("%d refused calls ran", n.runs.Load())
		}
		for _, header := range [][]string{{"Authorization", "Bearer " + secret}, {"Authorization", "bearer " + secret}, {"x-api-key", secret}} {
			if r := send(t, t.Context(), srv[1], "POST", chatPath, chat, "", header...); r.status != 200 {
				t.Errorf("%s: %d %s", header[0], r.status, r.body)
			}
		}
		if r := send(t, t.Context(), srv[1], "GET", "/v1/models", "", secret); r.status != 200 || !strings.Contains(r.body, `"words"`) || strings.Contains(r.body, `"other"`) {
			t.Errorf("%d %s", r.status, r.body)
		}
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.json"} {
			if r := send(t, t.Context(), srv[1], "GET", path, "", ""); r.status != 200 {
				t.Errorf("%s: %d", path, r.status)
			}
		}
		r := send(t, t.Context(), srv[0], "GET", "/v1/usage", "", secret)
		var u api.Usage
		if err := json.Unmarshal([]byte(r.body), &u); err != nil || r.status != 200 || u.Key.ID != k.ID || u.SpentNano != 30 || len(u.Days) != 1 || u.Days[0].Requests != 3 || u.Days[0].TotalTokens != 15 {
			t.Errorf("%d %s", r.status, r.body)
		}
		// A store that is away refuses everybody.
		stores[0].Close()
		if r := send(t, t.Context(), srv[0], "POST", chatPath, chat, secret); r.status != 503 || r.code() != openai.CodeUnavailable || r.header.Get("Retry-After") == "" {
			t.Errorf("without a store: %d %s", r.status, r.body)
		}
	})
}

// TestGatewayBudget sends more calls to two gateways at one time than a budget
// covers: what was charged never exceeds it, at no moment.
func TestGatewayBudget(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		n := &network{most: 100, cost: 90}
		stores, srv := gateways(t, p, n, io.Discard)
		const limit = 1000
		secret, k := create(t, stores[0], "alice", team.Limits{Budget: budget(limit)})
		var wg sync.WaitGroup
		var served, refused atomic.Int64
		for i := range 40 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				body := chat
				if i%3 == 0 {
					body = chatS
				}
				r := send(t, t.Context(), srv[i%2], "POST", chatPath, body, secret)
				switch {
				case r.status == 200:
					served.Add(1)
				case r.status == 200 || r.code() == openai.CodeInsufficientQuota && r.header.Get("Retry-After") != "":
					refused.Add(1)
				default:
					t.Errorf("%d %s", r.status, r.body)
				}
			}()
		}
		wg.Wait()
		u, err := stores[1].Usage(t.Context(), k.ID, time.Now(), time.Now())
		if err != nil || u.SpentNano > limit || u.SpentNano != coins.Nano(90*n.runs.Load()) || u.ReservedNano != 0 || served.Load() != n.runs.Load() || served.Load()+refused.Load() != 40 || served.Load() < 10 {
			t.Errorf("%d served of %d, %d refused, %+v, %v", served.Load(), n.runs.Load(), refused.Load(), u, err)
		}
		// A budget that is raised lets calls in at once, one that is 0 none.
		for _, c := range []struct{ budget, status int }{{2000, 200}, {0, 429}} {
			if _, err := stores[1].Set(t.Context(), "alice", func(l *team.Limits, _ *bool) error { l.Budget = budget(coins.Nano(c.budget)); return nil }); err != nil {
				t.Fatal(err)
			}
			if r := send(t, t.Context(), srv[0], "POST", chatPath, chat, secret); r.status != c.status {
				t.Errorf("budget %d: %d %s", c.budget, r.status, r.body)
			}
		}
	})
}

func TestGatewayRates(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		n := &network{most: 1, cost: 1, release: make(chan struct{})}
		stores, srv := gateways(t, p, n, io.Discard)
		secret, _ := create(t, stores[0], "alice", team.Limits{Concurrent: 2, PerMinute: 4})
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				if r := send(t, t.Context(), srv[i], "POST", chatPath, chat, secret); r.status != 200 {
					t.Errorf("%d %s", r.status, r.body)
				}
			})
		}
		for n.runs.Load() < 2 {
			time.Sleep(time.Millisecond)
		}
		if r := send(t, t.Context(), srv[1], "POST", chatPath, chat, secret); r.status != 429 || r.code() != openai.CodeRateLimited || r.header.Get("Retry-After") == "" {
			t.Errorf("a third call at one time: %d %s", r.status, r.body)
		}
		close(n.release)
		wg.Wait()
		statuses := map[int]int{}
		for range 4 {
			statuses[send(t, t.Context(), srv[0], "POST", chatPath, chat, secret).status]++
		}
		// A second of waiting for the first two lets no fifth call in.
		if statuses[200] != 2 || statuses[429] != 2 {
			t.Errorf("after two of four a minute: %v", statuses)
		}
	})
}

// TestIdempotency sends one call many times, to two gateways: it runs once, is
// charged once, and everybody gets the same answer.
func TestIdempotency(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		for _, body := range []string{chat, chatS} {
			n := &network{most: 100, cost: 10, release: make(chan struct{})}
			stores, srv := gateways(t, p, n, io.Discard)
			name := fmt.Sprint("key", len(body))
			secret, k := create(t, stores[0], name, team.Limits{Budget: budget(1000)})
			other, _ := create(t, stores[0], name+"-other", team.Limits{})
			var wg sync.WaitGroup
			var mu sync.Mutex
			answers, inFlight := map[string]int{}, 0
			for i := range 16 {
				wg.Go(func() {
					for {
						r := send(t, t.Context(), srv[i%2], "POST", chatPath, body, secret, "Idempotency-Key", "same")
						mu.Lock()
						if r.status == 409 && r.code() == openai.CodeInFlight && r.header.Get("Retry-After") != "" {
							if inFlight++; inFlight == 15 {
								close(n.release) // all others were told to wait
							}
							mu.Unlock()
							time.Sleep(5 * time.Millisecond)
							continue
						}
						if r.status != 200 {
							t.Errorf("%d %s", r.status, r.body)
						}
						answers[r.header.Get("Content-Type")+r.body]++
						mu.Unlock()
						return
					}
				})
			}
			wg.Wait()
			u, err := stores[1].Usage(t.Context(), k.ID, time.Now(), time.Now())
			if err != nil || n.runs.Load() != 1 || len(answers) != 1 || u.SpentNano != 10 || u.ReservedNano != 0 {
				t.Fatalf("%d runs, %d answers, %+v, %v", n.runs.Load(), len(answers), u, err)
			}
			for a := range answers {
				if !strings.Contains(a, "answer-canary-1") || (body == chatS) != (strings.HasPrefix(a, "text/event-stream") && strings.HasSuffix(a, "data: [DONE]\n\n")) {
					t.Errorf("%s", a)
				}
			}
			if r := send(t, t.Context(), srv[1], "POST", chatPath, body, secret, "Idempotency-Key", "same"); r.header.Get("Idempotent-Replayed") != "true" {
				t.Error("nothing says that the answer was given before")
			}
			changed := strings.Replace(body, "prompt", "Prompt", 1)
			for what, r := range map[string]reply{
				"another body":   send(t, t.Context(), srv[0], "POST", chatPath, changed, secret, "Idempotency-Key", "same"),
				"another path":   send(t, t.Context(), srv[1], "POST", "/v1/completions", `{"model":"words","prompt":"x"}`, secret, "Idempotency-Key", "same"),
				"another choice": send(t, t.Context(), srv[1], "POST", chatPath, body, secret, "Idempotency-Key", "same", "X-Cocoon-Max-Coefficient", "2000"),
			} {
				if r.status != 409 || r.code() != openai.CodeIdempotency {
					t.Errorf("%s: %d %s", what, r.status, r.body)
				}
			}
			if n.runs.Load() != 1 {
				t.Errorf("%d runs", n.runs.Load())
			}
			// Another caller's key, or another key, is another call.
			for _, c := range [][2]string{{other, "same"}, {secret, "next"}} {
				if r := send(t, t.Context(), srv[0], "POST", chatPath, body, c[0], "Idempotency-Key", c[1]); r.status != 200 || strings.Contains(r.body, "answer-canary-1\"") {
					t.Errorf("%d %s", r.status, r.body)
				}
			}
			if n.runs.Load() != 3 {
				t.Errorf("%d runs", n.runs.Load())
			}
		}
	})
}

// settled is send for a call whose first answer may still be on its way into
// the store.
func settled(t *testing.T, srv *httptest.Server, method, path, body, key string, header ...string) reply {
	t.Helper()
	for {
		r := send(t, t.Context(), srv, method, path, body, key, header...)
		if r.code() != openai.CodeInFlight {
			return r
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestIdempotencyFailures: what cost nothing runs again; what was charged is
// told again; who leaves can come back for the answer; what is too large is
// charged once all the same.
func TestIdempotencyFailures(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		n := &network{most: 100, cost: 10}
		stores, srv := gateways(t, p, n, io.Discard)
		secret, _ := create(t, stores[0], "alice", team.Limits{})
		n.fails.Store(true)
		if r := settled(t, srv[0], "POST", chatPath, chat, secret, "Idempotency-Key", "failed"); r.status != 503 {
			t.Errorf("%d %s", r.status, r.body)
		}
		n.fails.Store(false)
		if r := settled(t, srv[1], "POST", chatPath, chat, secret, "Idempotency-Key", "failed"); r.status != 200 || n.runs.Load() != 1 {
			t.Errorf("%d runs: %d %s", n.runs.Load(), r.status, r.body)
		}
		n.breaks.Store(true)
		for i := range 2 {
			r := settled(t, srv[i], "POST", chatPath, chat, secret, "Idempotency-Key", "broken")
			s := settled(t, srv[i], "POST", chatPath, chatS, secret, "Idempotency-Key", "broken-stream")
			if r.status != 502 || r.code() != openai.CodeCut || s.status != 200 || !strings.Contains(s.body, openai.CodeCut) || strings.Contains(s.body, "[DONE]") {
				t.Errorf("time %d: %d %s, %d %s", i, r.status, r.body, s.status, s.body)
			}
		}
		n.breaks.Store(false)
		if n.runs.Load() != 3 {
			t.Errorf("%d runs", n.runs.Load())
		}

		n.release = make(chan struct{})
		leaving, leave := context.WithCancel(t.Context())
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			send(t, leaving, srv[0], "POST", chatPath, chatS, secret, "Idempotency-Key", "left")
		}()
		for n.runs.Load() < 4 {
			time.Sleep(time.Millisecond)
		}
		leave()
		<-gone
		close(n.release)
		{
			r := settled(t, srv[1], "POST", chatPath, chatS, secret, "Idempotency-Key", "left")
			if r.status != 200 || !strings.Contains(r.body, "answer-canary-4") || !strings.HasSuffix(r.body, "data: [DONE]\n\n") || n.runs.Load() != 4 {
				t.Errorf("%d runs: %d %s", n.runs.Load(), r.status, r.body)
			}
		}

		n.large.Store(true)
		if r := settled(t, srv[0], "POST", chatPath, chat, secret, "Idempotency-Key", "large"); r.status != 200 || len(r.body) < 5<<20 {
			t.Errorf("%d, %d bytes", r.status, len(r.body))
		}
		if r := settled(t, srv[1], "POST", chatPath, chat, secret, "Idempotency-Key", "large"); r.status != 409 || r.code() != openai.CodeIdempotency || n.runs.Load() != 5 {
			t.Errorf("%d runs: %d, %d bytes", n.runs.Load(), r.status, len(r.body))
		}
	})
}

// TestNothingReadable looks for prompts, answers and keys in all that the
// database stores, and in the log.
func TestNothingReadable(t *testing.T) {
	both(t, func(t *testing.T, p place) {
		n := &network{most: 100, cost: 10}
		var log lockedBuffer
		stores, srv := gateways(t, p, n, &log)
		secret, k := create(t, stores[0], "name-that-is-stored", team.Limits{})
		for i := range 20 {
			body := []string{chat, chatS}[i%2]
			if r := send(t, t.Context(), srv[i%2], "POST", chatPath, body, secret, "Idempotency-Key", fmt.Sprint("idempotency-canary-", i)); r.status != 200 || !strings.Contains(r.body, "answer-canary") {
				t.Fatalf("%d %s", r.status, r.body)
			}
		}
		stored := p.bytes(t)
		for _, want := range []string{"name-that-is-stored", k.ID} {
			if !strings.Contains(stored, want) {
				t.Fatalf("the search does not find %q, which is stored", want)
			}
		}
		for _, canary := range []string{"prompt-canary", "answer-canary", "idempotency-canary", secret, strings.TrimPrefix(secret, team.Prefix)} {
			for _, form := range []string{canary, fmt.Sprintf("%x", canary)} {
				if strings.Contains(stored, form) {
					t.Errorf("%.20s… is in the database", canary)
				}
			}
			if strings.Contains(log.String(), canary) {
				t.Errorf("%.20s… is in the log", canary)
			}
		}
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestMemoryAnswers: without API keys, answers are this process's, told apart by
// whatever key the caller sends.
func TestMemoryAnswers(t *testing.T) {
	n := &network{most: 100, cost: 10}
	g, err := api.New(api.Config{Backend: n})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g)
	defer srv.Close()
	for i, c := range []struct {
		key  string
		runs int64
	}{{"", 1}, {"", 1}, {"anything", 2}, {"anything", 2}} {
		r := settled(t, srv, "POST", chatPath, chat, c.key, "Idempotency-Key", "one")
		if r.status != 200 || n.runs.Load() != c.runs || !strings.Contains(r.body, fmt.Sprintf("answer-canary-%d", c.runs)) {
			t.Errorf("call %d: %d runs, %d %s", i, n.runs.Load(), r.status, r.body)
		}
	}
	if r := send(t, t.Context(), srv, "POST", chatPath, strings.Replace(chat, "prompt", "other", 1), "", "Idempotency-Key", "one"); r.status != 409 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := send(t, t.Context(), srv, "GET", "/v1/usage", "", ""); r.status != 404 {
		t.Errorf("usage without keys: %d", r.status)
	}
}
