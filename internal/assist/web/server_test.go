//go:build !tee

package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
)

// server makes a server of the tasks on an OpenAI endpoint, closed at the end.
func server(t *testing.T, transport http.RoundTripper, log io.Writer, change func(*Config)) *Server {
	t.Helper()
	cfg := Config{
		Endpoint: &assist.Endpoint{Base: "http://engine/v1", HTTP: &http.Client{Transport: transport}},
		Logger:   slog.New(slog.NewTextHandler(log, nil)), IndexDir: t.TempDir(), PerMinute: 6000, Burst: 1000,
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// serve lets it listen; its log goes to log.
func serve(t *testing.T, transport http.RoundTripper, change func(*Config)) (url string, log *syncBuffer) {
	t.Helper()
	log = &syncBuffer{}
	srv := httptest.NewServer(server(t, transport, log, change))
	t.Cleanup(srv.Close)
	return srv.URL, log
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// engine is the demo engine, which needs no port.
var engine = sync.OnceValue(func() http.RoundTripper {
	s, err := demo.New(demo.Config{})
	if err != nil {
		panic(err)
	}
	return s.Transport()
})

func request(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

const chatJSON = `[{"id":1,"from":"Anna","ts":100,"text":"Shall we meet at the harbour on Monday at 10:30?"},{"id":"x-2","from":"Ben","ts":200,"text":"Yes, I bring the boat keys."}]`

// Every task with the real demo engine: an answer of the right form that says
// what it cost and what vouches for it.
func TestTasksOnTheDemoEngine(t *testing.T) {
	url, log := serve(t, engine(), nil)
	for _, c := range []struct{ task, body, has string }{
		{"translate", `{"texts":[{"text":"See you tomorrow!"}],"to":"ru"}`, `"texts":[{"text":`},
		{"summarize", `{"messages":` + chatJSON + `}`, `"refs":[`},
		{"compose", `{"text":"i hav a car","proofread":true}`, `"diff":[`},
		{"replies", `{"messages":` + chatJSON + `}`, `"intent":`},
		{"classify", `{"messages":` + chatJSON + `}`, `"id":"x-2"`},
		{"extract", `{"messages":` + chatJSON + `}`, `"10:30"`},
		{"recommend", `{"posts":` + chatJSON + `,"interests":"boats and harbours"}`, `"score":`},
		{"index", `{"chat":"c","messages":` + chatJSON + `}`, `"indexed":2`},
		{"search", `{"query":"boat"}`, `"id":"x-2"`},
		{"ask", `{"query":"Who has the boat keys?"}`, `"fallback":true`},
		{"index", `{"chat":"c","delete":["x-2"]}`, `"deleted":1,"total":1`},
		{"search", `{"query":"boat keys"}`, `"mode":"lexical"`},
	} {
		resp, body := request(t, "POST", url+prefix+c.task, c.body)
		if resp.StatusCode != 200 || !strings.Contains(body, c.has) {
			t.Errorf("%s: %d %s", c.task, resp.StatusCode, body)
			continue
		}
		var a struct {
			Receipts  []string
			Verdict   *string
			Simulated *bool
			Usage     *openai.Usage
			CostNano  *uint64 `json:"cost_nano"`
			Prompt    string
			Model     *string
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil || a.Receipts == nil || a.Verdict == nil || a.Simulated == nil || a.Usage == nil || a.CostNano == nil || a.Prompt == "" || a.Model == nil {
			t.Errorf("%s: the proof is not whole: %s", c.task, body)
		}
	}
	if _, body := request(t, "POST", url+prefix+"search", `{"query":"boat keys"}`); strings.Contains(body, "x-2") {
		t.Errorf("a deleted message is found: %s", body)
	}
	_, body := request(t, "GET", url+prefix+"info", "")
	var info Info
	if err := json.Unmarshal([]byte(body), &info); err != nil || info.Model != demo.Model || !info.Small || info.Search != "lexical" || info.Languages["id"] != "Indonesian" || info.Limits.Messages != assist.MaxMessages {
		t.Errorf("info: %s %v", body, err)
	}
	if strings.Contains(log.String(), "boat") || strings.Contains(log.String(), "Anna") {
		t.Error("the log repeats what was written")
	}
}

// What people write stands in no log, error or file in plain.
func TestCanary(t *testing.T) {
	dir := t.TempDir()
	url, log := serve(t, engine(), func(c *Config) { c.IndexDir = dir })
	msg := `[{"id":1,"from":"Canarian","text":"canarytext is here"}]`
	var errs strings.Builder
	for _, c := range [][2]string{
		{"index", `{"chat":"canarychat","messages":` + msg + `}`}, {"summarize", `{"messages":` + msg + `}`},
		{"search", `{"query":"canarytext","canaryfield":1}`}, {"translate", `{"texts":"canarytext","to":"ru"}`},
		{"compose", `{"text":"canarytext"}`}, {"nowhere", `{"text":"canarytext"}`},
		{"translate", `{"texts":[{"text":"canarytext"}],"to":"canarylang"}`}, {"replies", `{"messages":[{"id":"canarytext"}, canarytext]}`},
	} {
		if resp, body := request(t, "POST", url+prefix+c[0], c[1]); resp.StatusCode != 200 {
			errs.WriteString(body)
		}
	}
	if strings.Contains(log.String(), "canary") || strings.Contains(log.String(), "Canar") {
		t.Errorf("the log: %s", log.String())
	}
	if strings.Contains(errs.String(), "canarytext") {
		t.Errorf("an error: %s", errs.String())
	}
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(name)
		if bytes.Contains(bytes.ToLower(b), []byte("canar")) || strings.Contains(name, "canary") {
			t.Errorf("%s has plain text", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestRefusals(t *testing.T) {
	url, _ := serve(t, engine(), nil)
	many := `{"messages":[` + strings.Repeat(`{"id":1,"text":"x"},`, 49_999) + `{"id":1,"text":"x"}]}`
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		code                     string
	}{
		{"foreign host", "POST", prefix + "translate", "{}", []string{"Host", "evil.example"}, 403, openai.CodeHostNotAllowed},
		{"foreign origin", "POST", prefix + "translate", "{}", []string{"Origin", "https://evil.example"}, 403, openai.CodeOriginNotAllowed},
		{"preflight", "OPTIONS", prefix + "translate", "", []string{"Origin", "https://evil.example"}, 403, openai.CodeOriginNotAllowed},
		{"text/plain", "POST", prefix + "translate", "{}", []string{"Content-Type", "text/plain"}, 415, openai.CodeUnsupportedMedia},
		{"GET", "GET", prefix + "translate", "", nil, 405, openai.CodeMethodNotAllowed},
		{"unknown task", "POST", prefix + "dance", "{}", nil, 404, openai.CodeNotFound},
		{"unknown file", "GET", "/../server.go", "", nil, 404, openai.CodeNotFound},
		{"empty", "POST", prefix + "summarize", "", nil, 400, openai.CodeInvalidJSON},
		{"a list", "POST", prefix + "summarize", "[]", nil, 400, openai.CodeInvalidJSON},
		{"two values", "POST", prefix + "summarize", "{} {}", nil, 400, openai.CodeInvalidJSON},
		{"no messages", "POST", prefix + "summarize", "{}", nil, 400, openai.CodeMissingParameter},
		{"wrong type", "POST", prefix + "summarize", `{"messages":[{"id":1,"text":7}]}`, nil, 400, openai.CodeInvalidType},
		{"wrong id", "POST", prefix + "summarize", `{"messages":[{"id":{},"text":"x"}]}`, nil, 400, openai.CodeInvalidType},
		{"unknown field", "POST", prefix + "summarize", `{"message":[]}`, nil, 400, openai.CodeUnsupported},
		{"50,000 messages", "POST", prefix + "summarize", many, nil, 400, openai.CodeInvalidValue},
		{"10 MB", "POST", prefix + "summarize", `{"text":"` + strings.Repeat("a", 10<<20) + `"}`, nil, 413, openai.CodeTooLarge},
		{"unknown language", "POST", prefix + "translate", `{"texts":[{"text":"x"}],"to":"xx"}`, nil, 400, openai.CodeInvalidValue},
		{"broken entity", "POST", prefix + "translate", `{"texts":[{"text":"x","entities":[{"type":"bold","offset":0,"length":9}]}],"to":"ru"}`, nil, 400, openai.CodeInvalidValue},
		{"stream refused", "POST", prefix + "summarize", `{}`, []string{"Accept", "text/event-stream"}, 400, openai.CodeMissingParameter},
		{"no receipt's id", "GET", prefix + "receipts/..", "", nil, 400, openai.CodeInvalidValue},
		{"unknown receipt", "GET", prefix + "receipts/abc", "", nil, 404, openai.CodeNotFound},
	} {
		resp, body := request(t, c.method, url+c.path, c.body, c.headers...)
		var e struct {
			Error struct{ Code, Message string }
		}
		if err := json.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != c.status || e.Error.Code != c.code || e.Error.Message == "" {
			t.Errorf("%s: %d %s", c.name, resp.StatusCode, body[:min(len(body), 200)])
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: a foreign page may read the answer", c.name)
		}
	}
	// A page of the server's own may call.
	if resp, body := request(t, "POST", url+prefix+"extract", `{"messages":`+chatJSON+`}`, "Origin", url); resp.StatusCode != 200 {
		t.Errorf("own origin: %d %s", resp.StatusCode, body)
	}
}

func TestApp(t *testing.T) {
	url, _ := serve(t, engine(), func(c *Config) { c.Frames = []string{"https://web.telegram.org"} })
	resp, body := request(t, "GET", url+"/", "")
	csp := resp.Header.Get("Content-Security-Policy")
	if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || !strings.Contains(body, "<html") ||
		!strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || !strings.Contains(csp, "frame-ancestors https://web.telegram.org") {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	if resp, _ := request(t, "GET", url+"/", "", "If-None-Match", resp.Header.Get("ETag")); resp.StatusCode != 304 {
		t.Errorf("an unchanged file: %d", resp.StatusCode)
	}
	if resp, body := request(t, "HEAD", url+"/", ""); resp.StatusCode != 200 || body != "" {
		t.Errorf("HEAD: %d %q", resp.StatusCode, body)
	}
	if resp, _ := request(t, "POST", url+"/", "{}"); resp.StatusCode != 405 {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

// bigModel answers like a large model behind our gateway: it refers to messages
// it was given, in pieces. After slow, it waits until the caller leaves.
type bigModel struct {
	slow chan struct{} // closed when the caller of a slow answer left
	cost string
}

func (m *bigModel) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	h := rec.Header()
	h.Set("X-Cocoon-Simulated", "true")
	switch r.URL.Path {
	case "/v1/models":
		_, _ = io.WriteString(rec, `{"data":[{"id":"big"},{"id":"big-embed"}]}`)
	case "/v1/receipts/r1":
		_, _ = io.WriteString(rec, `{"receipt":"signed"}`)
	case "/v1/embeddings":
		var in struct{ Input []string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		data := make([]string, len(in.Input))
		for i := range data {
			b, _ := json.Marshal(map[string]any{"index": i, "embedding": []int{1, i % 2}})
			data[i] = string(b)
		}
		_, _ = io.WriteString(rec, `{"data":[`+strings.Join(data, ",")+`],"usage":{"prompt_tokens":1,"total_tokens":1,"cost_nano":`+m.cost+`}}`)
	case "/v1/chat/completions":
		b, _ := io.ReadAll(r.Body)
		h.Set("X-Cocoon-Seal", "sealed")
		h.Set("X-Cocoon-Verdict", "tdx")
		h.Set("X-Cocoon-Worker-Verdict", "simulated")
		h.Set("X-Cocoon-Worker-Image", "ab")
		h.Set("X-Cocoon-Receipt", "r1")
		pieces := []string{`{"summary":[{"te`, `xt":"They me`, `et.","refs":[2]}],"decisions":[],"open_questions":[]}`}
		if bytes.Contains(b, []byte(`"ask"`)) {
			pieces = []string{`{"answer":"Ben h`, `as them.","refs":[1]}`}
		}
		if m.slow != nil {
			pieces = []string{`{"text":"Good day`}
		}
		pr, pw := io.Pipe()
		rec.Body = nil
		go func() {
			for _, p := range pieces {
				c, _ := json.Marshal(map[string]any{"choices": []any{map[string]any{"delta": map[string]string{"content": p}}}})
				if _, err := pw.Write([]byte("data: " + string(c) + "\n\n")); err != nil {
					return
				}
				if m.slow != nil {
					<-r.Context().Done()
					close(m.slow)
					pw.CloseWithError(r.Context().Err())
					return
				}
			}
			_, _ = pw.Write([]byte(`data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7,"cost_nano":` + m.cost + "}}\n\ndata: [DONE]\n\n"))
			pw.Close()
		}()
		return &http.Response{StatusCode: 200, Header: h, Body: pr, Request: r}, nil
	default:
		rec.WriteHeader(404)
	}
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

func TestStreams(t *testing.T) {
	url, _ := serve(t, &bigModel{cost: "40"}, nil)
	resp, body := request(t, "POST", url+prefix+"summarize", `{"messages":`+chatJSON+`}`, "Accept", "text/event-stream")
	if resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("X-Cocoon-Simulated") != "true" {
		t.Errorf("%v", resp.Header)
	}
	if !strings.HasPrefix(body, "event: draft\ndata: {\"text\":\"They me\"}\n\nevent: draft\ndata: {\"text\":\"et.\"}\n\nevent: result\ndata: {") {
		t.Errorf("%s", body)
	}
	_, result, _ := strings.Cut(body, "event: result\ndata: ")
	var r assist.SummarizeResult
	if err := json.Unmarshal([]byte(result), &r); err != nil || len(r.Summary) != 1 || r.Summary[0].Refs[0] != `"x-2"` || r.CostNano != 40 ||
		r.Verdict != "simulated" || r.ProxyVerdict != "tdx" || r.Sealed != "worker" || r.Image != "ab" || !r.Simulated || !slices.Equal(r.Receipts, []string{"r1"}) {
		t.Errorf("%s %v", result, err)
	}
	if _, body := request(t, "GET", url+prefix+"receipts/r1", ""); !strings.Contains(body, "signed") {
		t.Errorf("receipt: %s", body)
	}
	request(t, "POST", url+prefix+"index", `{"chat":"c","messages":`+chatJSON+`}`)
	_, body = request(t, "POST", url+prefix+"ask", `{"query":"boat keys","to":"en"}`, "Accept", "text/event-stream")
	if !strings.Contains(body, `{"text":"as them."}`) || !strings.Contains(body, `"answer":"Ben has them.","refs":[{"chat":"c","id":"x-2"}]`) {
		t.Errorf("%s", body)
	}
}

// A caller who leaves stops the model.
func TestCancel(t *testing.T) {
	m := &bigModel{slow: make(chan struct{}), cost: "1"}
	url, _ := serve(t, m, nil)
	req, _ := http.NewRequestWithContext(t.Context(), "POST", url+prefix+"compose", strings.NewReader(`{"text":"hello there","tone":"formal"}`))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	done := make(chan struct{})
	go func() { // the head comes with the first event
		defer close(done)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return
		}
		_, _ = bufio.NewReader(resp.Body).ReadString('\n')
		resp.Body.Close()
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("no draft came")
	}
	select {
	case <-m.slow:
	case <-time.After(10 * time.Second):
		t.Fatal("the model was not stopped")
	}
}

func TestUsersByKey(t *testing.T) {
	keys := []string{"key-of-the-first-user", "key-of-the-second-one"}
	url, _ := serve(t, &bigModel{cost: "60"}, func(c *Config) { c.User, c.DailyNano = KeyUsers(keys), 100 })
	for _, auth := range []string{"", "Bearer wrong", keys[0]} {
		if resp, body := request(t, "POST", url+prefix+"summarize", `{}`, "Authorization", auth); resp.StatusCode != 401 || !strings.Contains(body, openai.CodeInvalidKey) {
			t.Errorf("%q: %d %s", auth, resp.StatusCode, body)
		}
	}
	first, second := "Bearer "+keys[0], "Bearer "+keys[1]
	index := `{"chat":"c","messages":` + chatJSON + `}`
	if resp, body := request(t, "POST", url+prefix+"index", index, "Authorization", first); resp.StatusCode != 200 {
		t.Fatal(body)
	}
	if _, body := request(t, "POST", url+prefix+"search", `{"query":"boat"}`, "Authorization", second); !strings.Contains(body, `"hits":[]`) {
		t.Errorf("one user finds another's messages: %s", body)
	}
	sum := `{"messages":` + chatJSON + `}`
	if resp, body := request(t, "POST", url+prefix+"summarize", sum, "Authorization", first); resp.StatusCode != 200 {
		t.Fatal(body)
	}
	resp, body := request(t, "POST", url+prefix+"summarize", sum, "Authorization", first)
	if resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "budget") {
		t.Errorf("above the budget: %d %s", resp.StatusCode, body)
	}
	if resp, body := request(t, "POST", url+prefix+"summarize", sum, "Authorization", second); resp.StatusCode != 200 {
		t.Errorf("another user pays for it: %s", body)
	}
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(&Config{PerMinute: 60, Burst: 3, DailyNano: 10})
		enter := func(user string) (time.Duration, func()) {
			done, err := l.enter(user)
			if err != nil {
				return openai.From(err).RetryAfter, nil
			}
			return 0, done
		}
		var running []func()
		for range 3 {
			_, done := enter("a")
			running = append(running, done)
		}
		if wait, _ := enter("a"); wait != time.Second {
			t.Errorf("wait %v after a burst, want 1s", wait)
		}
		time.Sleep(time.Second)
		_, done := enter("a")
		running = append(running, done)
		time.Sleep(time.Minute)
		if wait, _ := enter("a"); wait != time.Second {
			t.Errorf("a fifth at once: wait %v", wait)
		}
		for _, done := range running {
			done()
		}
		if _, done := enter("a"); done == nil {
			t.Error("refused after all ended")
		} else {
			done()
		}
		l.spend("a", 9)
		if l.may("a") != nil || l.left("a") != 1 {
			t.Error("refused below the budget")
		}
		l.spend("a", 1)
		wait, _ := enter("a")
		if midnight := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour); wait != time.Until(midnight) || l.may("a") == nil {
			t.Errorf("above the budget: wait %v, want until %v", wait, midnight)
		}
		l.spend("a", ^uint64(0))
		if l.left("a") != 0 {
			t.Error("the sum went round")
		}
		time.Sleep(24 * time.Hour)
		if _, done := enter("a"); done == nil {
			t.Error("refused on the next day")
		}
	})
}

func TestRemoteUser(t *testing.T) {
	for addr, want := range map[string]string{"127.0.0.1:9": "ip 127.0.0.1", "[::ffff:1.2.3.4]:9": "ip 1.2.3.4", "[2001:db8:1:2:3::4]:9": "ip 2001:db8:1:2::/64"} {
		if got, err := RemoteUser(&http.Request{RemoteAddr: addr}); err != nil || got != want {
			t.Errorf("%s: %q %v", addr, got, err)
		}
	}
}

// The description names every path, and every reference in it stands there.
func TestOpenAPI(t *testing.T) {
	url, _ := serve(t, engine(), nil)
	_, body := request(t, "GET", url+prefix+"openapi.json", "")
	var doc struct {
		Paths      map[string]any
		Components struct {
			Schemas map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(body), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Paths) != len(routes()) || doc.Paths["/assist/v1/receipts/{id}"] == nil {
		t.Errorf("%d paths", len(doc.Paths))
	}
	for part := range strings.SplitSeq(body, `"$ref":"#/components/schemas/`) {
		name, _, _ := strings.Cut(part, `"`)
		if name != "{" && doc.Components.Schemas[name].Properties == nil {
			t.Errorf("%q is referred to and not described", name)
		}
	}
	props := doc.Components.Schemas["SummarizeResult"].Properties
	for _, name := range []string{"receipts", "cost_nano", "verdict", "simulated", "usage", "model", "prompt", "summary"} {
		if props[name] == nil {
			t.Errorf("the result of summarize has no %q", name)
		}
	}
}

// More users than indexes are held open: the idle one makes room, a used one does not.
func TestIndexesMakeRoom(t *testing.T) {
	x := newIndexes(&Config{IndexDir: t.TempDir(), IndexMessages: 1})
	defer x.close()
	use := func(user string) (done func()) {
		t.Helper()
		_, done, err := x.of(user)
		if err != nil {
			t.Fatal(err)
		}
		return done
	}
	for i := range 3 {
		use(string(rune('a' + i)))()
	}
	x.open["a"].last, x.open["b"].last, x.open["c"].last = time.Unix(3, 0), time.Unix(1, 0), time.Unix(2, 0)
	hold := use("b")
	x.mu.Lock()
	if !x.closeIdleLocked() || x.open["c"] != nil || x.open["b"] == nil {
		t.Errorf("closed: %v", slices.Collect(maps.Keys(x.open)))
	}
	if !x.closeIdleLocked() || x.closeIdleLocked() {
		t.Error("an index in use was closed, or an idle one not")
	}
	x.mu.Unlock()
	hold()
	var all sync.WaitGroup // opens again, once for all who come
	for range 8 {
		all.Go(func() {
			if _, done, err := x.of("c"); err != nil {
				t.Error(err)
			} else {
				done()
			}
		})
	}
	all.Wait()
	if n := x.open["c"].users; n != 0 {
		t.Errorf("%d users of an idle index", n)
	}
}

func TestIndexMessages(t *testing.T) {
	url, _ := serve(t, engine(), func(c *Config) { c.IndexMessages = 2 })
	add := func(ids string) (int, string) {
		resp, body := request(t, "POST", url+prefix+"index", `{"chat":"c","messages":[`+ids+`]}`)
		return resp.StatusCode, body
	}
	if code, body := add(`{"id":1,"text":"one"},{"id":2,"text":"two"}`); code != 200 {
		t.Fatal(body)
	}
	if code, body := add(`{"id":3,"text":"three"}`); code != 400 || !strings.Contains(body, "may hold 2") {
		t.Errorf("%d %s", code, body)
	}
}

// With a mask no name of a sender and nothing with a form leaves, and all of it
// can still be found and is in the answer.
func TestMaskedSearch(t *testing.T) {
	var mu sync.Mutex
	var sent strings.Builder
	big := &bigModel{cost: "1"}
	url, _ := serve(t, roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			b, _ := io.ReadAll(r.Body)
			mu.Lock()
			sent.Write(b)
			mu.Unlock()
			r.Body = io.NopCloser(bytes.NewReader(b))
		}
		return big.RoundTrip(r)
	}), nil)
	messages := `"messages":[{"id":1,"from":"Citra Dewi","text":"My number is +62 812 3456 7890"},{"id":2,"from":"Ben","text":"Thanks, citra dewi!"}]`
	for _, c := range []struct{ path, body, want string }{
		{"index", `{"chat":"c",` + messages + `,"mask":true}`, `"indexed":2`},
		{"search", `{"query":"what number has Citra Dewi","mask":true}`, `+62 812 3456 7890`},
		{"ask", `{"query":"who has Citra Dewi's number?","from":"Ben","mask":true}`, `"answer":"Ben has them."`},
	} {
		resp, body := request(t, "POST", url+prefix+c.path, c.body)
		if resp.StatusCode != 200 || !strings.Contains(body, c.want) {
			t.Errorf("%s: %d %s", c.path, resp.StatusCode, body)
		}
	}
	for _, secret := range []string{"Citra", "citra", "3456"} {
		if strings.Contains(sent.String(), secret) {
			t.Errorf("%q left: %s", secret, sent.String())
		}
	}
	if !strings.Contains(sent.String(), "[NAME-1]") || !strings.Contains(sent.String(), "[PHONE-1]") {
		t.Errorf("nothing was replaced: %s", sent.String())
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
