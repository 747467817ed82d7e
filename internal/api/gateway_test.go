package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api/openai"
)

const (
	chatPath = "/v1/chat/completions"
	hello    = `{"model":"words","messages":[{"role":"user","content":"one two three"}]}`
	helloS   = `{"model":"words","messages":[{"role":"user","content":"one two three"}],"stream":true}`
)

func TestWholeAnswer(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	for path, body := range map[string]string{chatPath: hello, "/v1/completions": `{"model":"words","prompt":"one two three"}`} {
		w := ask(g, "POST", path, body)
		if w.Code != 200 {
			t.Fatalf("%s: %d %s", path, w.Code, w.Body)
		}
		var got struct {
			Choices []struct {
				Text    string
				Message struct{ Content string }
			}
			Usage struct {
				Prompt int   `json:"prompt_tokens"`
				Total  int   `json:"total_tokens"`
				Cost   int64 `json:"cost_nano"`
			}
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if text := got.Choices[0].Text + got.Choices[0].Message.Content; text != "three two one" {
			t.Errorf("%s: text %q", path, text)
		}
		if got.Usage.Prompt != 3 || got.Usage.Total != 6 || got.Usage.Cost != 18 {
			t.Errorf("%s: usage %+v", path, got.Usage)
		}
		for name, want := range map[string]string{
			"X-Cocoon-Verdict": "simulated", "X-Cocoon-Simulated": "true", "X-Cocoon-Image": "01" + strings.Repeat("00", 31),
			"X-Cocoon-Proxy": "127.0.0.1:11000", "X-Cocoon-Level": "1", "X-Cocoon-Claimed": "usage, cost",
			"X-Cocoon-Proxy-Start": "1700000000.123456", "X-Cocoon-Worker-Start": "", "Set-Cookie": "", "Server": "",
			"Content-Type": "application/json", "Access-Control-Allow-Origin": "",
		} {
			if w.Header().Get(name) != want {
				t.Errorf("header %s is %q, want %q", name, w.Header().Get(name), want)
			}
		}
		if id := w.Header().Get("X-Request-ID"); len(id) != 36 || !strings.HasPrefix(id, "req_") {
			t.Errorf("request id %q", id)
		}
		if b.open.Load() != 0 {
			t.Error("the answer's body was not closed")
		}
	}
}

func TestStream(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	for _, c := range []struct {
		name, options string
		usage         bool
	}{{"without usage", "", false}, {"usage refused", `,"stream_options":{"include_usage":false}`, false}, {"with usage", `,"stream_options":{"include_usage":true}`, true}} {
		t.Run(c.name, func(t *testing.T) {
			w := ask(g, "POST", chatPath, helloS[:len(helloS)-1]+c.options+"}")
			if w.Code != 200 || w.Header().Get("Content-Type") != "text/event-stream; charset=utf-8" || w.Header().Get("X-Cocoon-Simulated") != "true" {
				t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
			}
			if !strings.Contains(string(b.call().Body), `"include_usage":true`) {
				t.Errorf("the engine is not asked for usage: %s", b.call().Body)
			}
			ev := events(t, w.Body.Bytes())
			if ev[len(ev)-1] != "[DONE]" {
				t.Fatalf("no [DONE]: %q", ev)
			}
			text, usage := "", ""
			for _, e := range ev[:len(ev)-1] {
				var chunk struct {
					Choices []struct{ Delta struct{ Content string } }
					Usage   json.RawMessage
				}
				if err := json.Unmarshal([]byte(e), &chunk); err != nil {
					t.Fatal(err)
				}
				if c.usage != (chunk.Usage != nil) {
					t.Errorf("usage member in %s", e)
				}
				for _, ch := range chunk.Choices {
					text += ch.Delta.Content
				}
				if len(chunk.Choices) == 0 {
					usage = string(chunk.Usage)
				}
			}
			if text != "three two one" {
				t.Errorf("text %q", text)
			}
			want := ""
			if c.usage {
				want = `{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6,"cost_nano":18}`
			}
			if usage != want {
				t.Errorf("usage %s, want %s", usage, want)
			}
		})
	}
}

// TestStreamForms feeds what other workers and engines send.
func TestStreamForms(t *testing.T) {
	const chunk = `{"id":"a","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}`
	const last = `{"id":"a","object":"chat.completion.chunk","created":5,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	const usage = `{"id":"a","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1,"cost_nano":99}}`
	const costUsage = `{"id":"a","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1,"cost_nano":12}}`
	both := last[:len(last)-1] + `,"usage":{"completion_tokens":2}}`
	for _, c := range []struct {
		name, contentType, body string
		options                 string // members of stream_options
		want                    []string
		code                    string // of the error event, if any
	}{
		{name: "NDJSON", contentType: "application/x-ndjson", body: chunk + "\n" + last + "\n" + usage + "\n", want: []string{chunk, last, "[DONE]"}},
		{name: "NDJSON called events", contentType: "text/event-stream", body: "\n" + chunk + last + usage, options: `"include_usage":true`, want: []string{chunk, last, costUsage, "[DONE]"}},
		{
			name: "whole chat answer", contentType: "application/json",
			body: `{"id":"a","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi","tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"total_tokens":3}}`,
			want: []string{`{"id":"a","object":"chat.completion.chunk","choices":[{"index":0,"finish_reason":"tool_calls","delta":{"role":"assistant","content":"hi","tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{}"},"index":0}]}}]}`, "[DONE]"},
		},
		{name: "whole completion", contentType: "application/json", body: `{"id":"a","object":"text_completion","choices":[{"text":"hi","finish_reason":"stop"}]}`, want: []string{`{"id":"a","object":"text_completion","choices":[{"text":"hi","finish_reason":"stop"}]}`, "[DONE]"}},
		{name: "usage beside content", body: "data: " + chunk + "\n\ndata: " + both + "\n\ndata: [DONE]\n\n", options: `"include_usage":true`, want: []string{chunk, last[:len(last)-1] + `,"usage":null}`, `{"id":"a","object":"chat.completion.chunk","created":5,"model":"m","choices":[],"usage":{"completion_tokens":2,"cost_nano":12}}`, "[DONE]"}},
		{name: "running usage", body: "data: " + both + "\n\ndata: " + usage + "\n\ndata: [DONE]\n\n", options: `"include_usage":true,"continuous_usage_stats":true`, want: []string{both, costUsage, "[DONE]"}},
		{name: "usage not asked for", body: "data: " + both + "\n\ndata: " + usage + "\n\ndata: [DONE]\n\n", want: []string{last, "[DONE]"}},
		{name: "no usage at all", body: "data: " + last + "\n\ndata: [DONE]\n\n", options: `"include_usage":true`, want: []string{last, `{"id":"a","object":"chat.completion.chunk","created":5,"model":"m","choices":[],"usage":{"cost_nano":12}}`, "[DONE]"}},
		{name: "no end mark", body: "data: " + last + "\n\n", want: []string{last, "[DONE]"}},
		{name: "comments, names and line ends", body: ": hi\r\n\r\nevent: x\r\nid: 4\r\ndata: {\"choices\":\r\ndata: [ ]}\r\n\r\ndata: [DONE]\r\n\r\n: bye\r\n\r\n", want: []string{`{"choices":[]}`, "[DONE]"}},
		{name: "cut", body: "data: " + chunk + "\n\n", want: []string{chunk}, code: openai.CodeCut},
		{name: "cut inside", body: "data: " + chunk + "\n\ndata: {\"choi", want: []string{chunk}, code: openai.CodeUpstream},
		{name: "cut NDJSON", body: chunk + "\n{\"choi", want: []string{chunk}, code: openai.CodeCut},
		{name: "empty", body: "", code: openai.CodeUpstream},
		{name: "page", contentType: "text/html", body: "<html>secret</html>", code: openai.CodeUpstream},
		{name: "no object", body: "data: 5\n\n", code: openai.CodeUpstream},
		{name: "broken NDJSON", body: "{]", code: openai.CodeUpstream},
		{name: "after the end", body: "data: [DONE]\n\ndata: {}\n\n", code: openai.CodeUpstream},
		{name: "error event", body: "data: " + chunk + "\n\ndata: {\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\",\"code\":\"oom\"}}\n\ndata: [DONE]\n\n", want: []string{chunk}, code: "oom"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &wordBackend{}
			if c.contentType == "" {
				c.contentType = "text/event-stream"
			}
			b.answer = b.says(c.contentType, c.body)
			w := ask(newGateway(t, b, nil), "POST", chatPath, helloS[:len(helloS)-1]+`,"stream_options":{`+c.options+`}}`)
			got := events(t, w.Body.Bytes())
			if c.code != "" {
				if len(got) == 0 {
					t.Fatal("no error event")
				}
				if _, code, _ := errorOf(t, []byte(got[len(got)-1])); code != c.code {
					t.Errorf("code %q, want %q", code, c.code)
				}
				got = got[:len(got)-1]
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Error("foreign text in an error")
			}
		})
	}
}

func TestUpstreamErrors(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, func(c *Config) { c.MaxAnswer = 1000 })
	status := func(status int, retry, body string) func(context.Context, *Call) (*Answer, error) {
		return func(ctx context.Context, call *Call) (*Answer, error) {
			a, err := b.says("application/json", body)(ctx, call)
			a.Status = status
			a.Header.Set("Retry-After", retry)
			return a, err
		}
	}
	refuse := func(err error) func(context.Context, *Call) (*Answer, error) {
		return func(context.Context, *Call) (*Answer, error) { return nil, err }
	}
	broken := func(err error) func(context.Context, *Call) (*Answer, error) {
		return func(ctx context.Context, _ *Call) (*Answer, error) {
			return b.reply(ctx, "application/json", Final{}, func(w io.Writer) error {
				_, _ = io.WriteString(w, `{"id":`)
				return err
			}), nil
		}
	}
	for _, c := range []struct {
		name   string
		answer func(context.Context, *Call) (*Answer, error)
		status int
		code   string
		retry  string
	}{
		{"engine 400", status(400, "", `{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`), 400, "context_length_exceeded", ""},
		{"engine 429", status(429, "7", `{}`), 429, openai.CodeRateLimited, "7"},
		{"engine 503", status(503, "x", `busy`), 503, openai.CodeUnavailable, "1"},
		{"engine 500", status(500, "", ``), 502, openai.CodeUpstream, ""},
		{"engine 401", status(401, "", `{"error":{"message":"internals","code":"invalid_api_key"}}`), 502, openai.CodeUpstream, ""},
		{"engine 402", status(402, "", `{"error":{"message":"internals"}}`), 502, openai.CodeUpstream, ""},
		{"engine 404", status(404, "", `{"detail":"Not Found"}`), 400, openai.CodeUnsupported, ""},
		{"engine 501", status(501, "", `{"error":{"message":"no embeddings here","code":501}}`), 400, openai.CodeUnsupported, ""},
		{"engine 413", status(413, "", ``), 413, openai.CodeTooLarge, ""},
		{"engine 422", status(422, "", `{"detail":[{"loc":["body","n"]}]}`), 400, openai.CodeInvalidValue, ""},
		{"engine 499", status(499, "", ``), 400, openai.CodeInvalidValue, ""},
		{"engine 599", status(599, "", `{"error":{"code":"internal_error"}}`), 502, openai.CodeUpstream, ""},
		{"engine's quota", status(429, "", `{"error":{"message":"pay","type":"insufficient_quota","code":"insufficient_quota"}}`), 429, openai.CodeRateLimited, "1"},
		{"engine speaks for the gateway", status(503, "", `{"error":{"message":"x","code":"peer_not_verified"}}`), 503, openai.CodeUnavailable, "1"},
		{"redirect", status(302, "", `{}`), 502, openai.CodeUpstream, ""},
		{"not JSON", b.says("application/json", "hello"), 502, openai.CodeUpstream, ""},
		{"two values", b.says("application/json", "{}{}"), 502, openai.CodeUpstream, ""},
		{"array", b.says("application/json", "[]"), 502, openai.CodeUpstream, ""},
		{"empty", b.says("application/json", ""), 502, openai.CodeUpstream, ""},
		{"too large", b.says("application/json", `{"a":"`+strings.Repeat("x", 2000)+`"}`), 502, openai.CodeUpstream, ""},
		{"error with 200", b.says("application/json", `{"error":{"message":"bad","code":"engine_code"}}`), 502, "engine_code", ""},
		{"no model", refuse(openai.ModelNotFound("x")), 404, openai.CodeModelNotFound, ""},
		{"no proxy", refuse(openai.Unavailable("no proxy")), 503, openai.CodeUnavailable, "1"},
		{"no money", refuse(fmt.Errorf("call: %w", openai.InsufficientBalance("top up"))), 402, openai.CodeInsufficientBalance, ""},
		{"not verified", refuse(openai.NotVerified("image unknown")), 503, openai.CodeNotVerified, "1"},
		{"proxy timeout", refuse(openai.Timeout("proxy")), 504, openai.CodeTimeout, ""},
		{"other error", refuse(errors.New("internals")), 500, openai.CodeInternal, ""},
		{"cut", broken(openai.Cut("cut")), 502, openai.CodeCut, ""},
		{"cut by the connection", broken(io.ErrUnexpectedEOF), 502, openai.CodeCut, ""},
		{"read error", broken(errors.New("internals")), 500, openai.CodeInternal, ""},
	} {
		b.answer = c.answer
		w := ask(g, "POST", chatPath, hello)
		message, code, _ := errorOf(t, w.Body.Bytes())
		if w.Code != c.status || code != c.code || w.Header().Get("Retry-After") != c.retry || strings.Contains(message, "internals") {
			t.Errorf("%s: %d %s %q %q, want %d %s %q", c.name, w.Code, code, message, w.Header().Get("Retry-After"), c.status, c.code, c.retry)
		}
	}
	if b.open.Load() != 0 {
		t.Errorf("%d bodies were not closed", b.open.Load())
	}
}

func TestGuard(t *testing.T) {
	g := newGateway(t, &wordBackend{}, func(c *Config) {
		c.Hosts = []string{"Gateway.Example", "ported.example:8443"}
		c.Origins = []string{"https://app.example"}
	})
	for _, c := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		code                     string
	}{
		{"loopback", "GET", "/v1/models", "", nil, 200, ""},
		{"localhost", "GET", "/v1/models", "", []string{"Host", "LOCALHOST:1"}, 200, ""},
		{"localhost with dot", "GET", "/v1/models", "", []string{"Host", "localhost."}, 200, ""},
		{"IPv6", "GET", "/v1/models", "", []string{"Host", "[::1]:10000"}, 200, ""},
		{"IPv6 without port", "GET", "/v1/models", "", []string{"Host", "[::1]"}, 200, ""},
		{"allowed host", "GET", "/v1/models", "", []string{"Host", "gateway.example:99"}, 200, ""},
		{"allowed host and port", "GET", "/v1/models", "", []string{"Host", "ported.example:8443"}, 200, ""},
		{"allowed host, other port", "GET", "/v1/models", "", []string{"Host", "ported.example:1"}, 403, openai.CodeHostNotAllowed},
		{"rebound name", "POST", chatPath, hello, []string{"Host", "evil.example"}, 403, openai.CodeHostNotAllowed},
		{"localhost as prefix", "GET", "/v1/models", "", []string{"Host", "localhost.evil.example"}, 403, openai.CodeHostNotAllowed},
		{"private address", "GET", "/v1/models", "", []string{"Host", "192.168.0.1"}, 403, openai.CodeHostNotAllowed},
		{"own origin", "POST", chatPath, hello, []string{"Origin", "http://127.0.0.1:10000"}, 200, ""},
		{"other port is foreign", "POST", chatPath, hello, []string{"Origin", "http://127.0.0.1:10001"}, 403, openai.CodeOriginNotAllowed},
		{"null origin", "POST", chatPath, hello, []string{"Origin", "null"}, 403, openai.CodeOriginNotAllowed},
		{"foreign origin", "GET", "/v1/models", "", []string{"Origin", "https://evil.example"}, 403, openai.CodeOriginNotAllowed},
		{"foreign preflight", "OPTIONS", chatPath, "", []string{"Origin", "https://evil.example"}, 403, openai.CodeOriginNotAllowed},
		{"allowed origin", "POST", chatPath, hello, []string{"Origin", "https://app.example"}, 200, ""},
		{"preflight", "OPTIONS", chatPath, "", []string{"Origin", "https://app.example", "Access-Control-Request-Headers", "content-type, x-stainless-os"}, 204, ""},
		{"options without origin", "OPTIONS", chatPath, "", nil, 405, openai.CodeMethodNotAllowed},
		{"form", "POST", chatPath, hello, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, openai.CodeUnsupportedMedia},
		{"text", "POST", chatPath, hello, []string{"Content-Type", "text/plain"}, 415, openai.CodeUnsupportedMedia},
		{"no type", "POST", chatPath, hello, []string{"Content-Type", ""}, 415, openai.CodeUnsupportedMedia},
		{"JSON with charset", "POST", chatPath, hello, []string{"Content-Type", "Application/JSON; charset=UTF-8"}, 200, ""},
		{"JSON in latin 1", "POST", chatPath, hello, []string{"Content-Type", "application/json; charset=latin1"}, 415, openai.CodeUnsupportedMedia},
		{"compressed", "POST", chatPath, hello, []string{"Content-Encoding", "gzip"}, 415, openai.CodeUnsupportedMedia},
		{"unknown path", "POST", "/v1/nothing", "{}", nil, 404, openai.CodeNotFound},
		{"root", "GET", "/", "", nil, 404, openai.CodeNotFound},
		{"trailing slash", "GET", "/v1/models/", "", nil, 404, openai.CodeNotFound},
		{"unknown model", "GET", "/v1/models/a/b", "", nil, 404, openai.CodeModelNotFound},
		{"model", "GET", "/v1/models/words", "", nil, 200, ""},
		{"get on chat", "GET", chatPath, "", nil, 405, openai.CodeMethodNotAllowed},
		{"post on models", "POST", "/v1/models", "{}", nil, 405, openai.CodeMethodNotAllowed},
		{"head", "HEAD", "/v1/models", "", nil, 200, ""},
		{"strange method", "BREW", "/v1/models", "", nil, 405, openai.CodeMethodNotAllowed},
		{"health", "GET", "/healthz", "", nil, 200, ""},
		{"ready", "GET", "/readyz", "", nil, 200, ""},
		{"metrics", "GET", "/metrics", "", nil, 200, ""},
	} {
		w := ask(g, c.method, c.path, c.body, c.header...)
		if w.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.status)
			continue
		}
		if c.code != "" {
			if _, code, _ := errorOf(t, w.Body.Bytes()); code != c.code {
				t.Errorf("%s: code %s, want %s", c.name, code, c.code)
			}
		}
		if cors := w.Header().Get("Access-Control-Allow-Origin"); (cors != "") != (c.name == "allowed origin" || c.name == "preflight") {
			t.Errorf("%s: Access-Control-Allow-Origin %q", c.name, cors)
		}
		if c.status == 405 && w.Header().Get("Allow") == "" {
			t.Errorf("%s: no Allow header", c.name)
		}
	}
}

// TestVerdictHeaders holds what each kind of peer is said to be.
func TestVerdictHeaders(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	image := "07" + strings.Repeat("00", 31)
	for _, c := range []struct {
		kind                               attest.Kind
		verdict, image, simulated, claimed string
	}{
		{attest.TDX, "tdx", image, "", "usage, cost"},
		{attest.SEVSNP, "sev-snp", image, "", "usage, cost"},
		{attest.Simulated, "simulated", image, "true", "usage, cost"},
		{attest.Fake, "fake", image, "", "usage, cost, image"},
		{attest.None, "none", "", "", "usage, cost"},
		{"", "none", "", "", "usage, cost"},
	} {
		b.answer = func(ctx context.Context, call *Call) (*Answer, error) {
			a, err := b.says("application/json", "{}")(ctx, call)
			a.Peer = Peer{Verdict: c.kind, ImageHash: attest.ImageHash{7}, Addr: "a b\r\nX: y", Level: 0}
			return a, err
		}
		h := ask(g, "POST", chatPath, hello).Header()
		got := [4]string{h.Get("X-Cocoon-Verdict"), h.Get("X-Cocoon-Image"), h.Get("X-Cocoon-Simulated"), h.Get("X-Cocoon-Claimed")}
		if want := [4]string{c.verdict, c.image, c.simulated, c.claimed}; got != want || h.Get("X-Cocoon-Proxy") != "a_b__X:_y" || h.Get("X-Cocoon-Level") != "0" {
			t.Errorf("%q: %q, want %q; proxy %q", c.kind, got, want, h.Get("X-Cocoon-Proxy"))
		}
	}
}

// TestSimulatedEverywhere holds that a simulated network says so on every
// answer and log line.
func TestSimulatedEverywhere(t *testing.T) {
	var logs bytes.Buffer
	g := newGateway(t, &wordBackend{}, func(c *Config) { c.Simulated, c.Logger = true, slog.New(slog.NewTextHandler(&logs, nil)) })
	for _, path := range []string{"/v1/models", "/healthz", "/metrics", "/nothing"} {
		if h := ask(g, "GET", path, "").Header(); h.Get("X-Cocoon-Simulated") != "true" {
			t.Errorf("%s: %v", path, h)
		}
	}
	for line := range strings.Lines(logs.String()) {
		if !strings.Contains(line, "SIMULATED") {
			t.Errorf("log line %s", line)
		}
	}
	if logs.Len() == 0 {
		t.Error("nothing was logged")
	}
}

func TestNewRefuses(t *testing.T) {
	b := &wordBackend{}
	for name, cfg := range map[string]Config{
		"no backend":     {},
		"negative":       {Backend: b, MaxBody: -1},
		"wildcard host":  {Backend: b, Hosts: []string{"*"}},
		"origin, path":   {Backend: b, Origins: []string{"https://a.example/"}},
		"origin, any":    {Backend: b, Origins: []string{"*"}},
		"default tokens": {Backend: b, DefaultMaxTokens: 100, MaxTokens: 10},
		"timeout":        {Backend: b, Timeout: 2 * time.Hour},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestModelsAndReadiness(t *testing.T) {
	b := &wordBackend{models: []Model{{ID: "z"}, {ID: "org/a", PricePerToken: 20, Workers: []Worker{{1000, 2, 4}}}}}
	g := newGateway(t, b, nil)
	const a = `{"id":"org/a","object":"model","created":0,"owned_by":"cocoon","price_per_token_nano":20,"workers":[{"coefficient":1000,"running_requests":2,"max_running_requests":4}]}`
	if w := ask(g, "GET", "/v1/models", ""); w.Body.String() != `{"object":"list","data":[`+a+`,{"id":"z","object":"model","created":0,"owned_by":"cocoon","price_per_token_nano":0,"workers":[]}]}`+"\n" {
		t.Errorf("models: %s", w.Body)
	}
	if w := ask(g, "GET", "/v1/models/org/a", ""); w.Body.String() != a+"\n" {
		t.Errorf("model: %s", w.Body)
	}
	b.models = []Model{}
	if w := ask(g, "GET", "/readyz", ""); w.Code != 503 {
		t.Errorf("ready without models: %d", w.Code)
	}
	g = newGateway(t, b, func(c *Config) { c.Ready = func(context.Context) error { return errors.New("internals") } })
	if w := ask(g, "GET", "/readyz", ""); w.Code != 503 || strings.Contains(w.Body.String(), "internals") {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
}

func TestMetrics(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	ask(g, "POST", chatPath, hello)
	ask(g, "POST", chatPath, helloS)
	ask(g, "POST", chatPath, `{"model":"secret-model","messages":[{"role":"user","content":"secret"}]}`)
	ask(g, "GET", "/secret", "")
	b.answer = b.says("application/json", `{"error":{"message":"m","code":"secret-code"}}`)
	ask(g, "POST", chatPath, hello)
	got := ask(g, "GET", "/metrics", "").Body.String()
	for _, line := range []string{
		`cocoon_gateway_requests_total{route="chat",status="200"} 2`,
		`cocoon_gateway_requests_total{route="chat",status="404"} 1`,
		`cocoon_gateway_requests_total{route="chat",status="502"} 1`,
		`cocoon_gateway_requests_total{route="unknown",status="404"} 1`,
		`cocoon_gateway_errors_total{code="model_not_found"} 1`,
		`cocoon_gateway_errors_total{code="other"} 1`,
		`cocoon_gateway_tokens_total{kind="prompt"} 6`,
		`cocoon_gateway_cost_nano_total 36`,
		`cocoon_gateway_requests_in_flight 1`,
	} {
		if !strings.Contains(got, line+"\n") {
			t.Errorf("no line %s in\n%s", line, got)
		}
	}
	if strings.Contains(got, "secret") {
		t.Error("foreign text in the metrics")
	}
}

// TestCanary sends a word in every place a caller or a peer can write to, and
// looks for it in what must not hold it.
func TestCanary(t *testing.T) {
	const canary = "kanarienvogel"
	var logs bytes.Buffer
	b := &wordBackend{}
	g := newGateway(t, b, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	secretHeaders := []string{"Authorization", "Bearer " + canary, "Cookie", canary, "X-Anything", canary, "X-Request-Id", canary, "User-Agent", canary}
	good := strings.Replace(hello, "one", canary, 1)
	if w := ask(g, "POST", chatPath, good, secretHeaders...); w.Code != 200 || strings.Contains(fmt.Sprint(w.Header()), canary) {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	call := b.call()
	call.Body = nil
	if strings.Contains(fmt.Sprintf("%+v", call), canary) || call.ContentType != "application/json" {
		t.Errorf("a caller header travelled inwards: %+v", call)
	}
	for _, body := range []string{
		`{"model":"words","messages":[{"role":"user","content":["` + canary + `"]}]}`,
		`{"model":"words","messages":[{"role":"` + canary + `","content":""}]}`,
		`{"model":"words","messages":"` + canary + `"}`,
		`{"model":"words","messages":[{"role":"user","content":"` + canary + `"}],"metadata":{"` + canary + `":5}}`,
		`{"model":"words","messages":[{"role":"user","content":"` + canary + `"}],"tool_choice":"` + canary + `"}`,
		`{"` + canary + `":1`,
		`{"model":"words","` + canary + `":1}`,
	} {
		w := ask(g, "POST", chatPath, body, secretHeaders...)
		if w.Code != 400 || strings.Contains(w.Body.String(), canary) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
	for _, answer := range []string{canary, `{"error":{"message":"` + canary + `","param":"` + canary + `","code":"` + canary + `"}}`, "data: " + canary + "\n\n"} {
		b.answer = b.says("text/"+canary, answer)
		ask(g, "POST", chatPath, good)
		ask(g, "POST", chatPath, helloS)
	}
	for path, body := range map[string]string{
		"/v1/responses":  `{"model":"words","input":[{"role":"user","content":[{"type":"` + canary + `"}]}],"instructions":"` + canary + `"}`,
		"/v1/messages":   `{"model":"words","max_tokens":5,"messages":[{"role":"user","content":[{"type":"` + canary + `"}]}],"system":"` + canary + `"}`,
		"/v1/embeddings": `{"model":"words","input":["` + canary + `",5]}`,
	} {
		for _, good := range []bool{false, true} {
			if good {
				body = strings.NewReplacer(`[{"type":"`+canary+`"}]`, `"`+canary+`"`, `",5]`, `"]`).Replace(body)
			}
			b.answer = b.says("application/json", `{"choices":"`+canary+`","data":"`+canary+`"}`)
			w := ask(g, "POST", path, body, append(secretHeaders, "X-Api-Key", canary)...)
			if w.Code != map[bool]int{false: 400, true: 502}[good] || strings.Contains(w.Body.String(), canary) {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	}
	b.answer = b.says("application/json", `{"text":5,"x":"`+canary+`"}`)
	if w := askForm(g, "model", "words", "file", canary, "prompt", canary); w.Code != 502 || strings.Contains(w.Body.String(), canary) {
		t.Errorf("form: %d %s", w.Code, w.Body)
	}
	b.answer = func(context.Context, *Call) (*Answer, error) { panic(canary) }
	if w := ask(g, "POST", chatPath, good); w.Code != 500 {
		t.Errorf("panic: %d", w.Code)
	}
	ask(g, canary, "/"+canary, good)
	if !strings.Contains(logs.String(), "gateway panicked") || strings.Count(logs.String(), "msg=request") < 10 {
		t.Error("the log lacks lines")
	}
	if i := strings.Index(logs.String(), canary); i >= 0 {
		t.Errorf("the log holds the canary: %s", logs.String()[max(0, i-200):])
	}
	if strings.Contains(ask(g, "GET", "/metrics", "").Body.String(), canary) {
		t.Error("the metrics hold the canary")
	}
}

// TestUnknownOrAway holds that a refusal for want of workers is a 404 only for
// a model that is not served, while others are.
func TestUnknownOrAway(t *testing.T) {
	b := &wordBackend{answer: func(context.Context, *Call) (*Answer, error) { return nil, openai.Unavailable("no workers") }}
	g := newGateway(t, b, nil)
	for _, c := range []struct {
		models []Model
		status int
	}{{[]Model{{ID: "words"}}, 503}, {[]Model{{ID: "other"}}, 404}, {[]Model{}, 503}} {
		b.models = c.models
		if w := ask(g, "POST", chatPath, hello); w.Code != c.status {
			t.Errorf("%v: %d %s", c.models, w.Code, w.Body)
		}
	}
}

func TestTooManyCalls(t *testing.T) {
	b := &wordBackend{}
	enter, leave := make(chan struct{}), make(chan struct{})
	b.answer = func(context.Context, *Call) (*Answer, error) {
		enter <- struct{}{}
		<-leave
		return nil, openai.Internal()
	}
	g := newGateway(t, b, func(c *Config) { c.MaxCalls, c.MaxWaiting, c.QueueWait = 1, 1, time.Minute })
	var wg sync.WaitGroup
	wg.Go(func() { ask(g, "POST", chatPath, hello) })
	<-enter
	wg.Go(func() { ask(g, "POST", chatPath, hello) })
	for _, waiting := g.queue.state(); waiting == 0; _, waiting = g.queue.state() {
		runtime.Gosched()
	}
	w := ask(g, "POST", chatPath, hello)
	if _, code, _ := errorOf(t, w.Body.Bytes()); w.Code != 429 || code != openai.CodeRateLimited || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	close(leave)
	<-enter // the one that waited
	wg.Wait()
	b.answer = nil
	if w := ask(g, "POST", chatPath, hello); w.Code != 200 {
		t.Errorf("the slot was not given back: %d", w.Code)
	}
}

// TestCallerLeaves holds that a caller who goes away in the middle of a stream
// ends the call without any time passing.
func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &wordBackend{}
		gone := make(chan time.Time, 1)
		b.answer = func(ctx context.Context, _ *Call) (*Answer, error) {
			return b.reply(ctx, "text/event-stream", Final{}, func(w io.Writer) error {
				_, _ = io.WriteString(w, "data: {\"choices\":[]}\n\n")
				<-ctx.Done() // the engine thinks until it is stopped
				gone <- time.Now()
				return ctx.Err()
			}), nil
		}
		g := newGateway(t, b, nil)
		conn := pipeServer(t, g)()
		if _, err := io.WriteString(conn, rawPost(chatPath, helloS)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != "data: {\"choices\":[]}\n" {
			t.Fatalf("%q, %v", line, err)
		}
		time.Sleep(time.Second)
		left := time.Now()
		_ = conn.Close()
		synctest.Wait()
		select {
		case at := <-gone:
			if d := at.Sub(left); d != 0 {
				t.Errorf("the call was stopped %v after the caller left", d)
			}
		default:
			t.Error("the call goes on")
		}
		if n := b.open.Load(); n != 0 || g.Active() != 0 {
			t.Errorf("%d bodies open, %d requests active", n, g.Active())
		}
	})
}

// TestHeadAtOnce holds that the head travels before the first token.
func TestHeadAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &wordBackend{}
		b.answer = func(ctx context.Context, _ *Call) (*Answer, error) {
			return b.reply(ctx, "text/event-stream", Final{}, func(io.Writer) error { <-ctx.Done(); return ctx.Err() }), nil
		}
		conn := pipeServer(t, newGateway(t, b, nil))()
		defer conn.Close()
		begin := time.Now()
		_, _ = io.WriteString(conn, rawPost(chatPath, helloS))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 200 || time.Since(begin) != 0 {
			t.Fatal(resp, err, time.Since(begin))
		}
	})
}

// TestBackpressure holds that a caller who does not read stops the engine, and
// is given up when the write timeout is over.
func TestBackpressure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &wordBackend{}
		var written atomic.Int64
		b.answer = func(ctx context.Context, _ *Call) (*Answer, error) {
			return b.reply(ctx, "text/event-stream", Final{}, func(w io.Writer) error {
				for {
					n, err := io.WriteString(w, "data: {\"choices\":[],\"filler\":\""+strings.Repeat("x", 1000)+"\"}\n\n")
					written.Add(int64(n))
					if err != nil {
						return err
					}
				}
			}), nil
		}
		g := newGateway(t, b, nil)
		conn := pipeServer(t, g)()
		defer conn.Close()
		_, _ = io.WriteString(conn, rawPost(chatPath, helloS))
		br := bufio.NewReaderSize(conn, 16)
		if _, err := br.ReadByte(); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := written.Load(); n > 64<<10 {
			t.Errorf("%d bytes were taken from the engine for a caller who reads none", n)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := b.open.Load(); n != 0 {
			t.Errorf("the call still runs after the write timeout")
		}
	})
}

// TestSlowBody holds that a body must arrive in time, on every path.
func TestSlowBody(t *testing.T) {
	for _, path := range []string{chatPath, "/nowhere"} {
		synctest.Test(t, func(t *testing.T) {
			g := newGateway(t, &wordBackend{}, nil)
			conn := pipeServer(t, g)()
			defer conn.Close()
			begin, ended := time.Now(), make(chan struct{})
			go func() {
				defer close(ended)
				req := rawPost(path, hello)
				for i := range req { // the header at once, then a byte every 10 s
					if i > strings.Index(req, "\r\n\r\n")+4 {
						time.Sleep(10 * time.Second)
					}
					if _, err := io.WriteString(conn, req[i:i+1]); err != nil {
						return
					}
				}
			}()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			_, code, _ := errorOf(t, body)
			if path == chatPath && (resp.StatusCode != 408 || code != openai.CodeRequestTimeout || time.Since(begin) != time.Minute) {
				t.Errorf("%d %s after %v", resp.StatusCode, code, time.Since(begin))
			}
			if _, err := conn.Read(make([]byte, 1)); err == nil || time.Since(begin) > 2*time.Minute {
				t.Errorf("the connection stays open: %v after %v", err, time.Since(begin))
			}
			_ = conn.Close()
			<-ended
		})
	}
}

// TestSlowHeader holds that a header must arrive within 10 s.
func TestSlowHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := pipeServer(t, newGateway(t, &wordBackend{}, nil))()
		defer conn.Close()
		begin, ended := time.Now(), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				if _, err := io.WriteString(conn, "G"); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}()
		if b, _ := io.ReadAll(conn); len(b) > 200 || time.Since(begin) != 10*time.Second {
			t.Errorf("%q after %v", b, time.Since(begin))
		}
		<-ended
	})
}

// TestCallTimeout holds that the whole call ends in time, with the true status
// before the head and an error event after it, and that the body's deadline
// does not stay behind.
func TestCallTimeout(t *testing.T) {
	for _, stream := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := &wordBackend{}
			b.answer = func(ctx context.Context, _ *Call) (*Answer, error) {
				return b.reply(ctx, "text/event-stream", Final{}, func(w io.Writer) error { <-ctx.Done(); return ctx.Err() }), nil
			}
			conn := pipeServer(t, newGateway(t, b, nil))()
			defer conn.Close()
			begin := time.Now()
			_, _ = io.WriteString(conn, rawPost(chatPath, fmt.Sprintf(`{"timeout":90.5,"stream":%v,%s`, stream, hello[1:])))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || time.Since(begin) != 90*time.Second+500*time.Millisecond {
				t.Fatalf("%v after %v", err, time.Since(begin))
			}
			status := 504
			if stream {
				status = 200
				ev := events(t, body)
				if len(ev) != 1 {
					t.Fatalf("events %q", ev)
				}
				body = []byte(ev[0])
			}
			if _, code, _ := errorOf(t, body); resp.StatusCode != status || code != openai.CodeTimeout {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
			if got := b.call().Timeout; got != 90*time.Second+500*time.Millisecond {
				t.Errorf("the backend is given %v", got)
			}
		})
	}
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &wordBackend{}
		b.answer = func(ctx context.Context, _ *Call) (*Answer, error) {
			return b.reply(ctx, "text/event-stream", Final{}, func(w io.Writer) error {
				time.Sleep(35 * time.Second)
				_, err := io.WriteString(w, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n")
				return err
			}), nil
		}
		w := ask(newGateway(t, b, func(c *Config) { c.KeepAlive = 10 * time.Second }), "POST", chatPath, helloS)
		if want := strings.Repeat(": waiting\n\n", 3) + "data: {\"choices\":[]}\n\ndata: [DONE]\n\n"; w.Body.String() != want {
			t.Errorf("%q", w.Body)
		}
	})
}

// TestRealServer runs the whole way over TCP with many calls at once.
func TestRealServer(t *testing.T) {
	b := &wordBackend{}
	srv := httptest.NewUnstartedServer(newGateway(t, b, nil))
	srv.Config = Server(srv.Config.Handler, nil)
	srv.Start()
	defer srv.Close()
	errs := make(chan error)
	const calls = 32
	for i := range calls {
		go func() {
			errs <- func() error {
				word := fmt.Sprintf("w%d", i)
				resp, err := srv.Client().Post(srv.URL+chatPath, "application/json", strings.NewReader(strings.Replace(helloS, "one", word, 1)))
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || !strings.Contains(string(body), word) || !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
					return fmt.Errorf("%w: %s", err, body)
				}
				return nil
			}()
		}()
	}
	for range calls {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// BenchmarkStreamEvent is the cost of one event on its way through.
func BenchmarkStreamEvent(b *testing.B) {
	for name, options := range map[string]string{"plain": "", "usage": `,"stream_options":{"include_usage":true}`} {
		b.Run(name, func(b *testing.B) {
			be := &wordBackend{}
			event := "data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
			body := &countedEvents{event: event, n: b.N}
			be.answer = func(context.Context, *Call) (*Answer, error) {
				return &Answer{Status: 200, Header: http.Header{}, Body: body, Final: func() Final { return Final{} }}, nil
			}
			g := newGateway(b, be, nil)
			r := httptest.NewRequest("POST", chatPath, strings.NewReader(helloS[:len(helloS)-1]+options+"}"))
			r.Host = "localhost"
			r.Header.Set("Content-Type", "application/json")
			b.SetBytes(int64(len(event)))
			b.ReportAllocs()
			b.ResetTimer()
			g.ServeHTTP(&nullWriter{header: http.Header{}}, r)
		})
	}
}

// countedEvents gives one event at a read.
type countedEvents struct {
	event string
	n     int
}

func (c *countedEvents) Read(p []byte) (int, error) {
	if c.n == 0 {
		return 0, io.EOF
	}
	c.n--
	return copy(p, c.event), nil
}
func (c *countedEvents) Close() error { return nil }

type nullWriter struct{ header http.Header }

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(int)             {}
func (w *nullWriter) Write(b []byte) (int, error) { return len(b), nil }
func (w *nullWriter) Flush()                      {}

// TestTooLargeIsRead: who sends all of a body that is too large before it reads
// finds the answer, and no reset connection.
func TestTooLargeIsRead(t *testing.T) {
	g := newGateway(t, &wordBackend{}, func(c *Config) { c.MaxBody = 1 << 20 })
	srv := httptest.NewUnstartedServer(g)
	srv.Config = Server(g, nil)
	srv.Start()
	defer srv.Close()
	body := strings.Repeat("x", 3<<20)
	for _, head := range []string{fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)), fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", len(body))} {
		c, err := net.Dial("tcp", srv.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "POST "+chatPath+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"+head+body+"\r\n0\r\n\r\n"); err != nil {
			t.Errorf("%q: %v", head, err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 413 {
			t.Errorf("%q: %v, %v", head, resp, err)
		}
		c.Close()
	}
}
