package api

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Request headers with which a caller chooses what the body's fields
// max_coefficient and timeout choose too; the field wins.
const (
	headerMaxCoefficient = "X-Cocoon-Max-Coefficient"
	headerTimeout        = "X-Cocoon-Timeout"
	headerMinReputation  = "X-Cocoon-Min-Reputation"
)

// request is a caller's call, checked and rewritten.
type request struct {
	Call
	stream bool
	// usage says that the caller asked for usage in the stream, running that
	// it asked for it on each chunk.
	usage, running bool
}

// parseRequest checks a body and turns it into a call. All errors are the
// caller's and name the field at fault; nothing has been spent. What leaves:
// compact JSON in the caller's order of members, last of duplicate keys, numbers
// as written, null for known fields dropped, token limits in place.
func (g *Gateway) parseRequest(path string, header http.Header, body []byte) (*request, error) {
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
	known, content := chatFields, "messages"
	if path == "/v1/completions" {
		known, content = completionFields, "prompt"
	}
	if fail := known.check("", o, "model", content); fail != nil {
		return nil, fail
	}
	for name := range known {
		if v, ok := o.Get(name); ok && kind(v) == 'n' {
			o.Delete(name)
		}
	}
	rq := &request{Call: Call{Path: path, ContentType: "application/json"}}
	raw, _ := o.Get("model")
	rq.Model, _ = openai.String(raw)
	fail := rq.choices(g, header, o)
	if fail == nil {
		fail = rq.sealing(g, header)
	}
	if fail == nil {
		fail = rq.streaming(o)
	}
	if fail == nil {
		fail = rq.limits(g, path, o)
	}
	if fail == nil && g.cfg.Reference {
		fail = forReference(path, o)
	}
	if fail != nil {
		return nil, fail
	}
	rq.Body, err = o.AppendJSON(make([]byte, 0, len(body)+128))
	if err != nil {
		return nil, openai.InvalidJSON("An object in the request body has more than %d members.", openai.MaxMembers)
	}
	return rq, nil
}

// choices takes out what is meant for us: price and time. The reference client
// has two more such fields, of which nothing remains to be done here.
func (rq *request) choices(g *Gateway, header http.Header, o *openai.Object) *openai.Error {
	coefficient, param, fail := choice(o, header, "max_coefficient", headerMaxCoefficient)
	if fail != nil {
		return fail
	}
	if coefficient != nil {
		n, err := strconv.ParseInt(string(coefficient), 10, 32)
		if err != nil || n < 1 {
			return openai.InvalidRequest(param, "'%s' must be an integer from 1 to %d.", param, math.MaxInt32)
		}
		rq.MaxCoefficient = int32(n)
	}
	rq.Timeout = g.cfg.Timeout
	seconds, param, fail := choice(o, header, "timeout", headerTimeout)
	if fail != nil {
		return fail
	}
	if seconds != nil {
		s, err := strconv.ParseFloat(string(seconds), 64)
		if err != nil || !(s > 0) || s > g.cfg.MaxTimeout.Seconds() {
			return openai.InvalidRequest(param, "'%s' must be a number of seconds above 0 and at most %g.", param, g.cfg.MaxTimeout.Seconds())
		}
		rq.Timeout = max(time.Duration(s*float64(time.Second)), time.Millisecond)
	}
	if values := header.Values(headerMinReputation); len(values) > 0 {
		r, err := strconv.ParseFloat(values[0], 64)
		if len(values) > 1 || err != nil || !(r >= 0 && r <= 1) {
			return openai.InvalidRequest(headerMinReputation, "The header '%s' must be one number from 0 to 1.", headerMinReputation)
		}
		rq.MinReputation = r
	}
	if key, ok := strings.CutPrefix(header.Get("Authorization"), "Bearer "); ok && key != "" {
		rq.Caller = sha256.Sum256([]byte(key))
	}
	o.Delete("enable_debug")
	o.Delete("request_guid")
	return nil
}

// choice returns the JSON number in a body field, else in a header, nil if in
// neither, and which of them it is.
func choice(o *openai.Object, header http.Header, field, name string) (json.RawMessage, string, *openai.Error) {
	if v, ok := o.Get(field); ok {
		o.Delete(field)
		return v, field, nil
	}
	values := header.Values(name)
	if len(values) == 0 {
		return nil, name, nil
	}
	v := json.RawMessage(values[0])
	if len(values) > 1 || openai.Valid(v) != nil || kind(v) != '0' {
		return nil, name, openai.InvalidRequest(name, "The header '%s' must be one number.", name)
	}
	return v, name, nil
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
	if _, ok := o.Get("top_logprobs"); ok && path == "/v1/chat/completions" {
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
	if path == "/v1/chat/completions" {
		o.SetInt("max_completion_tokens", limit)
	}
	rq.MaxTokens = int32(limit * choices)
	return nil
}
