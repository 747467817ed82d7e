package api

import (
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// The paths that engines serve.
const (
	pathChat           = "/v1/chat/completions"
	pathCompletions    = "/v1/completions"
	pathEmbeddings     = "/v1/embeddings"
	pathTranscriptions = "/v1/audio/transcriptions"
)

// request is a caller's call, checked and rewritten.
type request struct {
	Call
	stream bool
	// usage says that the caller asked for usage in the stream, running that
	// it asked for it on each chunk.
	usage, running bool
	// form tells the answer; nil = the engine's answer as it comes.
	form form
	// same is what two calls that are the same have in common, where that is not
	// the body: a form has another boundary each time.
	same []byte
	// meter counts what the call costs.
	meter *meter
	// promise is what the answer's content must fit; nil = nothing.
	promise *promise
	// prompted is the body for workers that take no response_format: it asks in
	// words. Empty if there is no need of one.
	prompted []byte
}

// A form tells an engine's answer in another way. Its values serve one request.
type form interface {
	// whole makes the answer and names its type. usage is the usage object with
	// the cost.
	whole(answer []byte, usage []byte) (contentType string, body []byte, err error)
}

// A streamForm is another way to ask for what a chat completion does.
type streamForm interface {
	form
	// begin, chunk and end write a stream; chunk gets each chunk of a chat
	// stream, without usage. fail tells an error in the middle.
	begin(w *streamWriter) error
	chunk(w *streamWriter, data []byte) error
	end(w *streamWriter, usage []byte) error
	fail(w *streamWriter, e *openai.Error) error
}

// parseBody reads a body as one JSON object.
func parseBody(body []byte) (*openai.Object, *openai.Error) {
	if len(body) == 0 {
		return nil, openai.InvalidJSON("The request body is empty.")
	}
	if !utf8.Valid(body) {
		return nil, openai.InvalidJSON("The request body is not valid UTF-8.")
	}
	o, err := openai.ParseObject(body)
	switch {
	case errors.Is(err, openai.ErrTooDeep):
		return nil, openai.InvalidJSON("The request body nests more than %d levels.", openai.MaxDepth)
	case errors.Is(err, openai.ErrTooMany):
		return nil, openai.InvalidJSON("The request body has more than %d members.", openai.MaxMembers)
	case errors.Is(err, openai.ErrNoObject):
		return nil, openai.InvalidJSON("The request body must be a JSON object.")
	case err != nil:
		return nil, openai.InvalidJSON("The request body is not valid JSON.")
	}
	return o, nil
}

// parseRequest checks a body and turns it into a call. All errors are the
// caller's and name the field at fault; nothing has been spent. What leaves:
// compact JSON in the caller's order of members, last of duplicate keys, numbers
// as written, null for known fields dropped, token limits in place.
func (g *Gateway) parseRequest(path string, header http.Header, body []byte) (*request, error) {
	o, fail := parseBody(body)
	if fail == nil {
		var rq *request
		if rq, fail = g.buildRequest(path, header, o, len(body)); fail == nil {
			return rq, nil
		}
	}
	return nil, fail
}

// buildRequest is parseRequest for a body that is read; size is a guess at the
// size of what leaves.
func (g *Gateway) buildRequest(path string, header http.Header, o *openai.Object, size int) (*request, *openai.Error) {
	known, content := chatFields, "messages"
	switch path {
	case pathCompletions:
		known, content = completionFields, "prompt"
	case pathEmbeddings:
		known, content = embeddingFields, "input"
	}
	if fail := known.check("", o, "model", content); fail != nil {
		return nil, fail
	}
	for name, v := range o.All {
		if _, ok := known[name]; ok && kind(v) == 'n' {
			o.Delete(name)
		}
	}
	rq := &request{Call: Call{Path: path, ContentType: "application/json"}}
	fail := rq.splitModel(o)
	if fail == nil {
		fail = rq.choices(g, header, o)
	}
	if fail == nil {
		fail = rq.sealing(g, header)
	}
	if path == pathEmbeddings {
		if fail == nil {
			fail = rq.embed(g, o)
		}
	} else {
		if fail == nil {
			fail = rq.streaming(o)
		}
		if fail == nil {
			fail = rq.limits(g, path, o)
		}
		if fail == nil && path == pathChat {
			fail = rq.chat(o)
		}
	}
	if fail != nil {
		return nil, fail
	}
	if g.cfg.Reference {
		if o, fail = rq.forReference(path, o); fail != nil {
			return nil, fail
		}
	}
	var err error
	rq.Body, err = o.AppendJSON(make([]byte, 0, size+128))
	if err != nil {
		return nil, openai.InvalidJSON("An object in the request body has more than %d members.", openai.MaxMembers)
	}
	return rq, nil
}

// chat holds what depends on several fields of a chat completion.
func (rq *request) chat(o *openai.Object) *openai.Error {
	// Engines ignore the form before tools, and would answer something else.
	if v, ok := o.Get("functions"); ok && !isEmpty(v) {
		return openai.Unsupported("functions", "'functions' is not served any more: use 'tools'.")
	}
	if fail := allowedTools(o); fail != nil {
		return fail
	}
	names := map[string]bool{}
	tools, _ := o.Get("tools")
	for _, v := range openai.Elements(tools) {
		t, err := openai.ParseObject(v)
		if err != nil {
			continue // checked
		}
		for _, kind := range []string{"function", "custom"} {
			f, _ := t.Get(kind)
			if f, err := openai.ParseObject(f); err == nil {
				name, _ := f.Get("name")
				names[str(name)] = true
			}
		}
	}
	if choice, ok := o.Get("tool_choice"); ok {
		if len(names) == 0 && str(choice) != "none" && str(choice) != "auto" {
			return openai.InvalidRequest("tool_choice", "'tool_choice' is only allowed when 'tools' are specified.")
		}
		if c, err := openai.ParseObject(choice); err == nil {
			f, _ := c.Get("function")
			if f, err := openai.ParseObject(f); err == nil {
				if name, _ := f.Get("name"); !names[str(name)] {
					return openai.InvalidRequest("tool_choice", "'tool_choice' names a function that is not in 'tools'.")
				}
			}
		}
	}
	var fail *openai.Error
	rq.promise, fail = promised(o)
	return fail
}

// allowedTools puts a choice of allowed tools, which engines do not know, as
// those tools alone.
func allowedTools(o *openai.Object) *openai.Error {
	v, _ := o.Get("tool_choice")
	choice, err := openai.ParseObject(v)
	if err != nil {
		return nil
	}
	v, ok := choice.Get("allowed_tools")
	if !ok {
		return nil
	}
	from, _ := openai.ParseObject(v) // checked
	list, _ := from.Get("tools")
	allowed := map[string]bool{}
	for _, t := range openai.Elements(list) {
		allowed[toolNamed(t)] = true
	}
	tools, _ := o.Get("tools")
	kept := []byte{'['}
	for _, t := range openai.Elements(tools) {
		name := toolNamed(t)
		if !allowed[name] {
			continue
		}
		delete(allowed, name)
		if len(kept) > 1 {
			kept = append(kept, ',')
		}
		kept = append(kept, t...)
	}
	if len(allowed) > 0 {
		return openai.InvalidRequest("tool_choice", "'tool_choice' allows a tool that is not in 'tools'.")
	}
	mode, _ := from.Get("mode")
	o.Set("tools", append(kept, ']'))
	o.Set("tool_choice", mode)
	return nil
}

// toolNamed is the type and name of a tool or of a choice of one.
func toolNamed(tool json.RawMessage) string {
	t, err := openai.ParseObject(tool)
	if err != nil {
		return ""
	}
	kind, _ := t.Get("type")
	f, _ := t.Get(str(kind))
	inner, err := openai.ParseObject(f)
	if err != nil {
		return ""
	}
	name, _ := inner.Get("name")
	return str(kind) + " " + str(name)
}

// streaming asks the engine for usage, whatever the caller asked for: it is
// what the call is billed by.
func (rq *request) streaming(o *openai.Object) *openai.Error {
	v, _ := o.Get("stream")
	rq.stream = string(v) == "true"
	options, given := o.Get("stream_options")
	if !rq.stream {
		if given {
			return openai.InvalidRequest("stream_options", "'stream_options' is only allowed when 'stream' is true.")
		}
		return nil
	}
	so := &openai.Object{}
	if given {
		so, _ = openai.ParseObject(options) // checked to be an object
		include, _ := so.Get("include_usage")
		rq.usage = string(include) == "true"
		running, _ := so.Get("continuous_usage_stats")
		rq.running = rq.usage && string(running) == "true"
	}
	so.Set("include_usage", json.RawMessage("true"))
	b, err := so.AppendJSON(nil)
	if err != nil {
		return openai.InvalidJSON("'stream_options' has more than %d members.", openai.MaxMembers)
	}
	o.Set("stream_options", b)
	return nil
}

// limits makes the engine's limit and the reservation the same number. Each
// choice of each prompt may use the limit; best_of candidates are generated and
// paid even where only n are returned.
func (rq *request) limits(g *Gateway, path string, o *openai.Object) *openai.Error {
	number := func(name string, absent int64) int64 {
		v, ok := o.Get(name)
		if !ok {
			return absent
		}
		n, _ := strconv.ParseInt(string(v), 10, 64) // checked to be in range
		return n
	}
	n := number("n", 1)
	best := number("best_of", n)
	if best < n {
		return openai.InvalidRequest("best_of", "'best_of' must be at least 'n'.")
	}
	if best > n && rq.stream {
		return openai.InvalidRequest("best_of", "'best_of' above 'n' cannot be streamed.")
	}
	if _, ok := o.Get("top_logprobs"); ok && path == pathChat {
		if on, _ := o.Get("logprobs"); string(on) != "true" {
			return openai.InvalidRequest("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.")
		}
	}
	choices := best
	if v, ok := o.Get("prompt"); ok {
		choices *= prompts(v)
	}
	// Both names are in use, and engines differ in which they obey, so a call
	// that gives two limits gets the lower, and chat carries it under both.
	param := "max_tokens"
	if _, ok := o.Get("max_completion_tokens"); ok {
		param = "max_completion_tokens"
	}
	limit := min(number("max_tokens", math.MaxInt32), number("max_completion_tokens", math.MaxInt32))
	if _, ok := o.Get("max_tokens"); !ok && param == "max_tokens" {
		limit = int64(g.cfg.DefaultMaxTokens)
	}
	if limit > int64(g.cfg.MaxTokens)/choices {
		return openai.InvalidRequest(param, "The limit of output tokens, %d for each of %d choices, exceeds the %d tokens that one call may reserve.", limit, choices, g.cfg.MaxTokens)
	}
	o.SetInt("max_tokens", limit)
	if path == pathChat {
		o.SetInt("max_completion_tokens", limit)
	}
	rq.MaxTokens = int32(limit * choices)
	return nil
}
