package worker

import (
	"encoding/json"
	"math"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// defaultMaxTokens is set where a request names no limit: what the reference
// client then reserves (spec network-protocol 5.1).
const defaultMaxTokens = 1000

// plan is a request as it goes to the engine, and what is needed to answer it.
type plan struct {
	request engine.Request
	stream  bool
	// transcript: the events of a stream may have the form of transcriptions.
	transcript bool
	// usageAsked: the caller wants the usage event of a stream;
	// runningAsked: it wants usage in every event.
	usageAsked, runningAsked bool
	// maxPrompt and maxCompletion bound what can be billed: bytes stand for
	// prompt tokens, as in the proxy's reservation.
	maxPrompt, maxCompletion int64
	// caller is what the request says of who asks, for the cache's salt.
	caller []byte
}

// invalid is a refusal in the reference's form (spec network-protocol 5.4).
func invalid(format string, args ...any) *wire.Error {
	return wire.Errorf(wire.CodeProtocolViolation, "worker: invalid http request: "+format, args...)
}

// prepare reads a query and rewrites its body for the engine: usage is always
// asked for, the output is always limited. Fields it does not know go to the
// engine as they are.
func (w *Worker) prepare(query []byte) (*plan, *wire.Error) {
	r, err := role.DecodeRequest(query)
	if err != nil {
		return nil, &wire.Error{Code: wire.CodeNone, Text: "worker: invalid http request: the query is no http.request"}
	}
	path := r.URL
	if i := strings.IndexByte(path, '/'); i > 0 {
		path = path[i:]
	}
	switch path {
	case "/v1/chat/completions", "/v1/completions", "/v1/embeddings":
	case "/v1/audio/transcriptions":
		return w.prepareForm(r, len(query))
	default:
		return nil, invalid("unsupported method")
	}
	body, err := openai.ParseObject(r.Payload)
	if err != nil {
		return nil, invalid("expected json object")
	}
	var model string
	if raw, ok := body.Get("model"); !ok {
		return nil, invalid("missing required field 'model'")
	} else if json.Unmarshal(raw, &model) != nil || model != w.cfg.Model.Base() {
		return nil, invalid("model name mismatch")
	}
	p := &plan{maxPrompt: int64(len(query))}
	if model != w.cfg.ServedModel {
		name, _ := json.Marshal(w.cfg.ServedModel)
		body.Set("model", name)
	}
	if raw, ok := body.Get("stream"); ok && json.Unmarshal(raw, &p.stream) != nil {
		return nil, invalid("stream must be a boolean")
	}
	if path == "/v1/embeddings" {
		if p.stream {
			return nil, invalid("embeddings are not streamed")
		}
	} else if err := p.limit(body); err != nil {
		return nil, err
	}
	if err := p.forceUsage(body, w.cfg.Engine.Caps().ContinuousUsage); err != nil {
		return nil, err
	}
	// A caller's own salt divides its share further. It does not reach the
	// engine as it is: that would open the share of whoever chose the same.
	for _, name := range []string{"cache_salt", "user"} {
		raw, _ := body.Get(name)
		p.caller = append(append(p.caller, raw...), 0)
	}
	body.Delete("cache_salt")
	b, err := body.AppendJSON(nil)
	if err != nil {
		return nil, invalid("expected json object")
	}
	p.request = engine.Request{Path: path, ContentType: "application/json", Body: b}
	return p, nil
}

// limit reads or sets the output limit.
func (p *plan) limit(body *openai.Object) *wire.Error {
	limit, choices := int64(-1), int64(1)
	for _, f := range []struct {
		name string
		into *int64
		low  int64
	}{{"max_tokens", &limit, 0}, {"max_completion_tokens", &limit, 0}, {"n", &choices, 1}, {"best_of", &choices, 1}} {
		raw, ok := body.Get(f.name)
		if !ok || string(raw) == "null" {
			continue
		}
		var v int64
		if json.Unmarshal(raw, &v) != nil || v < f.low || v > math.MaxInt32 {
			return invalid("%s must be an integer of at least %d", f.name, f.low)
		}
		*f.into = max(v, *f.into)
	}
	if limit < 0 {
		limit = defaultMaxTokens
		body.SetInt("max_tokens", limit)
	}
	p.maxCompletion = min(limit*choices, mostTokens)
	if raw, ok := body.Get("prompt"); ok {
		p.maxCompletion = min(p.maxCompletion*prompts(raw), mostTokens)
	}
	return nil
}

// mostTokens is beyond what anybody can pay for, and can be multiplied.
const mostTokens = 1 << 36

// prompts counts the prompts of a text completion: a text, texts, the tokens of
// one or the tokens of several.
func prompts(raw json.RawMessage) int64 {
	n := int64(0)
	for _, e := range openai.Elements(raw) {
		if e[0] != '"' && e[0] != '[' {
			return 1
		}
		n++
	}
	return max(n, 1)
}

// forceUsage asks the engine to report usage in streams.
func (p *plan) forceUsage(body *openai.Object, continuous bool) *wire.Error {
	raw, given := body.Get("stream_options")
	if !p.stream {
		body.Delete("stream_options")
		return nil
	}
	options := &openai.Object{}
	if given && string(raw) != "null" {
		var err error
		if options, err = openai.ParseObject(raw); err != nil {
			return invalid("stream_options must be an object")
		}
		for name, into := range map[string]*bool{"include_usage": &p.usageAsked, "continuous_usage_stats": &p.runningAsked} {
			if v, ok := options.Get(name); ok && json.Unmarshal(v, into) != nil {
				return invalid("stream_options.%s must be a boolean", name)
			}
		}
	}
	options.Set("include_usage", json.RawMessage("true"))
	if continuous {
		options.Set("continuous_usage_stats", json.RawMessage("true"))
	}
	b, err := options.AppendJSON(nil)
	if err != nil {
		return invalid("stream_options must be an object")
	}
	body.Set("stream_options", b)
	return nil
}
