package worker

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
)

func planner(change ...func(*Config)) *Worker {
	eng, err := engine.New(engine.Config{BaseURL: "http://127.0.0.1:1", Caps: engine.Caps{ContinuousUsage: true}})
	if err != nil {
		panic(err) // the address stands above
	}
	w := &Worker{cfg: Config{Model: "m@1:0", ServedModel: "m", Engine: eng}}
	for _, c := range change {
		c(&w.cfg)
	}
	return w
}

func query(path, body string) []byte {
	return role.EncodeRequest(path, "application/json", []byte(body))
}

// TestPlan: what goes to the engine, and what may be billed at most.
func TestPlan(t *testing.T) {
	const chat = "/v1/chat/completions"
	usage := `"stream_options":{"include_usage":true,"continuous_usage_stats":true}`
	for _, c := range []struct {
		body, want string
		most       int64
	}{
		{`{"model":"m","messages":[]}`, `{"model":"m","messages":[],"max_tokens":1000}`, 1000},
		{`{"model":"m","messages":[],"max_tokens":7}`, `{"model":"m","messages":[],"max_tokens":7}`, 7},
		{`{"model":"m","messages":[],"max_tokens":null}`, `{"model":"m","messages":[],"max_tokens":1000}`, 1000},
		{`{"model":"m","messages":[],"max_tokens":7,"max_completion_tokens":9}`, `{"model":"m","messages":[],"max_tokens":7,"max_completion_tokens":9}`, 9},
		{`{"model":"m","messages":[],"max_tokens":7,"n":3}`, `{"model":"m","messages":[],"max_tokens":7,"n":3}`, 21},
		{`{"model":"m","prompt":"","max_tokens":7,"n":2,"best_of":5}`, `{"model":"m","prompt":"","max_tokens":7,"n":2,"best_of":5}`, 35},
		{`{"model":"m","messages":[],"max_tokens":2147483647,"n":2147483647}`, `{"model":"m","messages":[],"max_tokens":2147483647,"n":2147483647}`, mostTokens},
		{`{"model":"m","prompt":["a","b"],"max_tokens":7,"n":2}`, `{"model":"m","prompt":["a","b"],"max_tokens":7,"n":2}`, 28},
		{`{"model":"m","prompt":[[1,2],[3],[4]],"max_tokens":7}`, `{"model":"m","prompt":[[1,2],[3],[4]],"max_tokens":7}`, 21},
		{`{"model":"m","prompt":[1,2,3],"max_tokens":7}`, `{"model":"m","prompt":[1,2,3],"max_tokens":7}`, 7},
		{`{"model":"m","prompt":[],"max_tokens":7}`, `{"model":"m","prompt":[],"max_tokens":7}`, 7},
		{`{"model":"m","prompt":["a","b"],"max_tokens":2147483647,"n":2147483647}`, `{"model":"m","prompt":["a","b"],"max_tokens":2147483647,"n":2147483647}`, mostTokens},
		{`{"model":"m","max_tokens":7,"stream":true}`, `{"model":"m","max_tokens":7,"stream":true,` + usage + `}`, 7},
		{`{"model":"m","max_tokens":7,"stream":true,"stream_options":null}`, `{"model":"m","max_tokens":7,"stream":true,` + usage + `}`, 7},
		{`{"model":"m","max_tokens":7,"stream":true,"stream_options":{"include_usage":false}}`, `{"model":"m","max_tokens":7,"stream":true,` + usage + `}`, 7},
		{`{"model":"m","max_tokens":7,"stream":false,"stream_options":{"include_usage":true}}`, `{"model":"m","max_tokens":7,"stream":false}`, 7},
		{`{"model":"m","max_tokens":7,"tools":[{"x":1.0}]}`, `{"model":"m","max_tokens":7,"tools":[{"x":1.0}]}`, 7},
	} {
		p, err := planner().prepare(query(chat, c.body))
		if err != nil {
			t.Errorf("%s: %v", c.body, err)
			continue
		}
		var got, want any
		if json.Unmarshal(p.request.Body, &got) != nil || json.Unmarshal([]byte(c.want), &want) != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\n got %s\nwant %s", c.body, p.request.Body, c.want)
		}
		if p.maxCompletion != c.most {
			t.Errorf("%s: at most %d tokens, want %d", c.body, p.maxCompletion, c.most)
		}
	}
}

// TestRefusedQueries: texts and codes of spec network-protocol 5.4. None
// repeats what the caller wrote.
func TestRefusedQueries(t *testing.T) {
	const chat = "/v1/chat/completions"
	for _, c := range []struct{ path, body, text string }{
		{"/v1/responses", `{"model":"m"}`, "unsupported method"},
		{"/v1/embeddings", `{"model":"m","input":"SECRET","stream":true}`, "embeddings are not streamed"},
		{"/v1/audio/transcriptions", `{"model":"m"}`, "expected multipart/form-data content type"},
		{chat + "?x=1", `{"model":"m"}`, "unsupported method"},
		{chat, `[]`, "expected json object"},
		{chat, `{"model":"m"} SECRET`, "expected json object"},
		{chat, `{"messages":["SECRET"]}`, "missing required field 'model'"},
		{chat, `{"model":"SECRET"}`, "model name mismatch"},
		{chat, `{"model":"m@1:0"}`, "model name mismatch"},
		{chat, `{"model":7}`, "model name mismatch"},
		{chat, `{"model":"m","stream":"SECRET"}`, "stream must be a boolean"},
		{chat, `{"model":"m","max_tokens":-1}`, "max_tokens must be an integer of at least 0"},
		{chat, `{"model":"m","max_tokens":1.5}`, "max_tokens must be an integer of at least 0"},
		{chat, `{"model":"m","max_tokens":4294967297}`, "max_tokens must be an integer of at least 0"},
		{chat, `{"model":"m","n":0}`, "n must be an integer of at least 1"},
		{chat, `{"model":"m","stream":true,"stream_options":7}`, "stream_options must be an object"},
		{chat, `{"model":"m","stream":true,"stream_options":{"include_usage":"SECRET"}}`, "stream_options.include_usage must be a boolean"},
	} {
		_, err := planner().prepare(query(c.path, c.body))
		if err == nil || err.Code != wire.CodeProtocolViolation || err.Text != "worker: invalid http request: "+c.text {
			t.Errorf("%s: %v, want %q", c.body, err, c.text)
		}
	}
	if _, err := planner().prepare([]byte("SECRET")); err == nil || err.Code != wire.CodeNone || strings.Contains(err.Text, "SECRET") {
		t.Errorf("%v", err)
	}
	if _, err := planner().prepare(query("http://h"+chat, `{"model":"m"}`)); err == nil {
		// Everything from the first slash, as the reference reads it.
		t.Error("an absolute URL passes")
	}
}

func TestServedModel(t *testing.T) {
	p, err := planner(func(c *Config) { c.ServedModel = "other/name" }).prepare(query("/v1/completions", `{"model":"m","prompt":"x"}`))
	if err != nil || !strings.Contains(string(p.request.Body), `"other/name"`) {
		t.Errorf("%v", err)
	}
}

// TestMeter: what is billed for an answer that came whole or in part.
func TestMeter(t *testing.T) {
	usage := func(prompt, completion int) string {
		return fmt.Sprintf(`{"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"prompt_tokens_details":{"cached_tokens":11},"completion_tokens_details":{"reasoning_tokens":10}}}`, prompt, completion)
	}
	const text, role, empty = `{"choices":[{"delta":{"content":"x"}}]}`, `{"choices":[{"delta":{"role":"assistant","content":""}}]}`, `{"choices":[{"delta":{},"finish_reason":"stop"}]}`
	for _, c := range []struct {
		name    string
		events  []string
		want    pricing.Usage
		overrun bool
	}{
		{"usage counts", []string{role, text, text, usage(34, 100)}, pricing.Usage{Prompt: 34, Cached: 11, Completion: 100, Reasoning: 10}, false},
		{"the highest counts", []string{usage(34, 50), text, usage(30, 100), usage(1, 1)}, pricing.Usage{Prompt: 34, Cached: 11, Completion: 100, Reasoning: 10}, false},
		{"cut before usage: pieces", []string{role, text, text, empty}, pricing.Usage{Completion: 2}, false},
		{"nothing made", []string{role, empty}, pricing.Usage{}, false},
		{"a lie is cut", []string{usage(1e9, 1e9)}, pricing.Usage{Prompt: 500, Cached: 11, Completion: 200, Reasoning: 10}, true},
		{"null is none", []string{`{"choices":[],"usage":null}`, text}, pricing.Usage{Completion: 1}, false},
	} {
		m := meter{plan: &plan{maxPrompt: 500, maxCompletion: 200}, coefficient: 1000, multipliers: pricing.Multipliers{Prompt: 10000, Cached: 5000, Completion: 20000, Reasoning: 30000}, price: 20}
		for _, e := range c.events {
			chunk, err := openai.ParseChunk([]byte(e))
			if err != nil {
				t.Fatal(err)
			}
			m.see(chunk, []byte(e))
		}
		if got := m.counted(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if m.overrun() != c.overrun {
			t.Errorf("%s: overrun %v", c.name, m.overrun())
		}
	}
}

// TestPiecesAreNoTokens: an engine within its limit is not taken for one that
// went beyond it, only because it wrote a token in two events.
func TestPiecesAreNoTokens(t *testing.T) {
	m := meter{plan: &plan{maxPrompt: 9, maxCompletion: 10}}
	e := []byte(`{"choices":[{"delta":{"content":"x"}}]}`)
	see := func(n int) {
		for range n {
			c, err := openai.ParseChunk(e)
			if err != nil {
				t.Fatal(err)
			}
			m.see(c, e)
		}
	}
	if see(15); m.overrun() {
		t.Error("15 events of at most 10 tokens are refused")
	}
	if see(100); !m.overrun() {
		t.Error("115 events of at most 10 tokens pass")
	}
	if got := m.counted().Completion; got != 10 {
		t.Errorf("billed %d tokens of at most 10", got)
	}
}

// TestCost is the worked example of spec network-protocol 5.7.
func TestCost(t *testing.T) {
	m := meter{plan: &plan{maxPrompt: 500, maxCompletion: 200}, coefficient: 1000, multipliers: pricing.Multipliers{Prompt: 10000, Cached: 5000, Completion: 20000, Reasoning: 30000}, price: 20}
	e := []byte(`{"choices":[],"usage":{"prompt_tokens":34,"completion_tokens":100,"prompt_tokens_details":{"cached_tokens":11},"completion_tokens_details":{"reasoning_tokens":10}}}`)
	c, err := openai.ParseChunk(e)
	if err != nil {
		t.Fatal(err)
	}
	m.see(c, e)
	if got, want := m.tokens(), (pricing.Tokens{Prompt: 23, Cached: 5, Completion: 180, Reasoning: 30, Total: 238}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	var v struct {
		Usage struct {
			Prompt     int64 `json:"prompt_total_cost"`
			Completion int64 `json:"completion_total_cost"`
			Total      int64 `json:"total_cost"`
		}
	}
	if err := json.Unmarshal(m.withCost(nil, c), &v); err != nil || v.Usage.Prompt != 560 || v.Usage.Completion != 4200 || v.Usage.Total != 4760 {
		t.Errorf("%+v, %v", v, err)
	}
}

// TestCacheSalt: what a request says of its caller divides the cache, never by
// a salt that somebody else could choose, and differently at each proxy.
func TestCacheSalt(t *testing.T) {
	w := planner()
	seen := map[string]string{}
	for _, body := range []string{
		`{"model":"m","messages":[]}`, `{"model":"m","messages":[],"user":"a"}`, `{"model":"m","messages":[],"cache_salt":"a"}`, `{"model":"m","messages":[],"user":"a","cache_salt":"b"}`,
	} {
		p, werr := w.prepare(query("/v1/chat/completions", body))
		if werr != nil {
			t.Fatal(werr)
		}
		if strings.Contains(string(p.request.Body), "cache_salt") {
			t.Errorf("the caller's own salt goes on: %s", p.request.Body)
		}
		for _, proxy := range []byte{1, 2} {
			salt := w.salt(cocoon.Address{Hash: [32]byte{proxy}}.String(), p.caller)
			if again := w.salt(cocoon.Address{Hash: [32]byte{proxy}}.String(), p.caller); len(salt) != 32 || again != salt {
				t.Errorf("salt %q, then %q", salt, again)
			}
			if other := seen[salt]; other != "" {
				t.Errorf("%s at proxy %d shares the cache of %s", body, proxy, other)
			}
			seen[salt] = body
		}
	}
}
