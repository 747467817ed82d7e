//go:build !tee

package demo

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// answer is what all choices of one request share.
type answer struct {
	s         *Server
	w         http.ResponseWriter
	c         *common
	kind      string // object name
	eventKind string // of a stream's events
	id        string
	at        int64
	usage     openai.Usage
	buf       []byte
	opened    bool
}

func (s *Server) answer(w http.ResponseWriter, c *common, prefix, kind, event string) *answer {
	return &answer{s: s, w: w, c: c, kind: kind, eventKind: event, id: prefix + rand.Text(), at: time.Now().Unix()}
}

// head begins an object.
func (a *answer) head(kind string) []byte {
	a.buf = fmt.Appendf(a.buf[:0], `{"id":%q,"object":%q,"created":%d,"model":%q,"system_fingerprint":%q,"choices":[`, a.id, kind, a.at, Model, Model)
	return a.buf
}

// event sends one event of a stream: a choice, or none in the last one.
func (a *answer) event(choice string, usage bool) error {
	if !a.opened {
		a.opened = true
		a.w.Header().Set("Content-Type", "text/event-stream")
		a.w.Header().Set("Cache-Control", "no-store")
	}
	b := append(a.head(a.eventKind), choice...)
	b = append(b, ']')
	switch {
	case usage || a.c.continuous:
		b = a.usage.AppendJSON(append(b, `,"usage":`...))
	case a.c.streaming.usage:
		b = append(b, `,"usage":null`...)
	}
	a.buf = append(b, '}')
	return a.send(a.buf)
}

func (a *answer) send(data []byte) error {
	if _, err := fmt.Fprintf(a.w, "data: %s\n\n", data); err != nil {
		return errGone
	}
	if f, ok := a.w.(http.Flusher); ok {
		f.Flush()
	}
	return nil
}

// finish ends a stream.
func (a *answer) finish() error {
	if a.c.streaming.usage {
		if err := a.event("", true); err != nil {
			return err
		}
	}
	return a.send([]byte("[DONE]"))
}

// count takes the prompt into the usage; several choices share one prompt.
func (a *answer) count(q *state) {
	a.usage.PromptTokens += int64(q.prompt)
	a.usage.CachedTokens += int64(q.cached)
	a.total()
}

func (a *answer) total() { a.usage.TotalTokens = a.usage.PromptTokens + a.usage.CompletionTokens }

func (s *Server) chat(w http.ResponseWriter, r *http.Request, o *openai.Object) error {
	f := &fields{o: o}
	c := s.common(f)
	msgs := f.messages()
	if f.bool("logprobs") {
		c.logprobs = int(f.int("top_logprobs", 0, 0, 20))
	} else if _, ok := f.get("top_logprobs"); ok && f.int("top_logprobs", 0, 0, 20) > 0 {
		f.fail(openai.InvalidRequest("top_logprobs", "top_logprobs needs logprobs: true"))
	}
	f.format(&c)
	f.textOnly()
	tool := f.tools(&c)
	if f.err != nil {
		return f.err
	}
	c.confident = c.grammar == nil && !c.ignoreEnd
	prompt := s.model.tok.render(msgs)
	if len(prompt) >= s.model.context {
		return tooLong("messages", "the conversation", len(prompt), s.model.context)
	}
	q, err := s.prefill(r.Context(), c.salt, prompt)
	if err != nil {
		return err
	}
	a := s.answer(w, &c, "chatcmpl-", "chat.completion", "chat.completion.chunk")
	a.count(q)
	var whole []string
	for i := range c.n {
		one := &chatChoice{a: a, index: i, tool: tool, base: a.usage.CompletionTokens}
		sub := q
		if i+1 < c.n {
			sub = q.fork(s.model)
		}
		if c.on {
			if err := one.open(); err != nil {
				return err
			}
		}
		finish, err := s.generate(r.Context(), sub, &c.sampling, i, one.piece)
		if err != nil {
			if a.opened {
				return errGone
			}
			return err
		}
		if c.on {
			if err := one.close(finish); err != nil {
				return err
			}
			continue
		}
		whole = append(whole, one.whole(finish))
	}
	if c.on {
		return a.finish()
	}
	b := append(a.head(a.kind), strings.Join(whole, ",")...)
	b = a.usage.AppendJSON(append(b, `],"usage":`...))
	writeJSON(w, append(b, '}'))
	return nil
}

// textOnly refuses what asks for other answers than text, and calls in the form
// that tools replaced: ignored, the answer would not be what was asked for.
func (f *fields) textOnly() {
	if v, ok := f.get("modalities"); ok {
		for _, e := range openai.Elements(v) {
			if s, _ := openai.String(e); s != "text" {
				f.fail(openai.Unsupported("modalities", "the demo engine answers with text only"))
			}
		}
	}
	if v, ok := f.get("functions"); ok && string(v) != "[]" {
		f.fail(openai.Unsupported("functions", "the demo engine knows tools, not functions"))
	}
}

// tooLong has the code by which OpenAI's callers know that they have to shorten.
func tooLong(param, what string, tokens, most int) *openai.Error {
	e := openai.InvalidRequest(param, "%s has %d tokens, the model's context is %d", what, tokens, most)
	e.Code = "context_length_exceeded"
	return e
}

// format reads response_format.
func (f *fields) format(c *common) {
	o, ok := f.object("response_format")
	if !ok {
		return
	}
	in := fields{o: o}
	switch kind := in.string("type"); kind {
	case "text", "":
	case "json_object":
		c.grammar = objectGrammar()
	case "json_schema":
		js, ok := in.object("json_schema")
		if !ok {
			in.fail(openai.Missing("json_schema"))
			break
		}
		schema, ok := js.Get("schema")
		if !ok {
			in.fail(openai.Missing("json_schema.schema"))
			break
		}
		g, err := schemaGrammar(schema, "json_schema.schema")
		if err != nil {
			in.fail(err)
		}
		c.grammar = g
	default:
		in.fail(openai.InvalidRequest("type", "type must be text, json_object or json_schema"))
	}
	if in.err != nil {
		in.err.Param = "response_format." + in.err.Param
		f.fail(in.err)
	}
}

// tools reads tools, tool_choice and parallel_tool_calls. The model was not
// trained on tools: left to itself ("auto") it never calls one, but a forced call
// is decoded under the schema of its parameters. "required" is one call of a
// function that the model chooses; with parallel_tool_calls it is one of each
// function, in their order.
func (f *fields) tools(c *common) bool {
	each := f.bool("parallel_tool_calls")
	v, ok := f.get("tools")
	if !ok {
		if _, ok := f.get("tool_choice"); ok {
			f.fail(openai.InvalidRequest("tool_choice", "tool_choice needs tools"))
		}
		return false
	}
	if !isArray(v) {
		f.fail(openai.InvalidType("tools", "an array"))
		return false
	}
	forced, want := false, ""
	if v, ok := f.get("tool_choice"); ok {
		if mode, ok := openai.String(v); ok {
			switch mode {
			case "none", "auto":
			case "required":
				forced = true
			default:
				f.fail(openai.InvalidRequest("tool_choice", "tool_choice must be none, auto, required or a function"))
			}
		} else if o, ok := f.object("tool_choice"); ok {
			in := fields{o: o}
			if fn, ok := in.object("function"); ok {
				name := fields{o: fn}
				want, forced = name.string("name"), true
			}
			if want == "" {
				f.fail(openai.InvalidRequest("tool_choice", "tool_choice must name a function"))
			}
		}
	}
	var alts []function
	for i, e := range openai.Elements(v) {
		at := fmt.Sprintf("tools[%d]", i)
		o, err := openai.ParseObject(e)
		if err != nil {
			f.fail(openai.InvalidType(at, "an object"))
			return false
		}
		in := fields{o: o}
		fn, ok := in.object("function")
		if !ok || in.string("type") != "function" {
			f.fail(openai.Unsupported(at, "the demo engine knows tools of type function only"))
			return false
		}
		name := (&fields{o: fn}).string("name")
		if name == "" {
			f.fail(openai.Missing(at + ".function.name"))
			return false
		}
		if !forced || want != "" && want != name {
			continue
		}
		params, ok := fn.Get("parameters")
		if !ok {
			params = json.RawMessage(`{"type":"object","properties":{},"additionalProperties":false}`)
		}
		alts = append(alts, function{name, params, at + ".function.parameters"})
	}
	if !forced || f.err != nil {
		return false
	}
	if len(alts) == 0 {
		f.fail(openai.InvalidRequest("tool_choice", "tool_choice names a function that is not in tools"))
		return false
	}
	if each = each && want == ""; each && len(alts) > maxCalls {
		f.fail(openai.Unsupported("tools", "the demo engine calls at most %d functions in one answer; parallel_tool_calls: false lets it choose one", maxCalls))
		return false
	}
	g, err := toolGrammar(alts, each)
	if err != nil {
		f.fail(err)
		return false
	}
	c.grammar = g
	return true
}

// chatChoice is one answer of a chat.
type chatChoice struct {
	a     *answer
	index int
	tool  bool
	base  int64 // completion tokens of earlier choices
	text  strings.Builder
	probs []logprob
	calls toolCalls
}

func (c *chatChoice) choice(delta, finish string, probs []logprob) string {
	b := fmt.Appendf(nil, `{"index":%d,"delta":{%s}`, c.index, delta)
	if c.a.c.logprobs >= 0 {
		b = appendLogprobs(append(b, `,"logprobs":`...), probs)
	}
	if finish == "" {
		return string(append(b, `,"finish_reason":null}`...))
	}
	return string(fmt.Appendf(b, `,"finish_reason":%q}`, finish))
}

func (c *chatChoice) open() error {
	return c.a.event(c.choice(`"role":"assistant","content":`+c.empty(), "", nil), false)
}

func (c *chatChoice) empty() string {
	if c.tool {
		return "null"
	}
	return `""`
}

func (c *chatChoice) piece(p piece) error {
	c.a.usage.CompletionTokens = c.base + int64(p.made)
	c.a.total()
	if c.tool {
		c.calls.add(p.text)
	}
	if !c.a.c.on {
		c.text.WriteString(p.text)
		c.probs = append(c.probs, p.logprobs...)
		return nil
	}
	var delta string
	switch {
	case c.tool:
		if delta = c.calls.delta(); delta == "" {
			return nil
		}
	case p.text == "" && len(p.logprobs) == 0:
		return nil
	default:
		delta = `"content":` + string(openai.AppendString(nil, p.text))
	}
	return c.a.event(c.choice(delta, "", p.logprobs), false)
}

func (c *chatChoice) finish(reason string) string {
	if c.tool && reason == "stop" {
		return "tool_calls"
	}
	return reason
}

func (c *chatChoice) close(reason string) error {
	return c.a.event(c.choice("", c.finish(reason), nil), false)
}

func (c *chatChoice) whole(reason string) string {
	b := fmt.Appendf(nil, `{"index":%d,"message":{"role":"assistant","content":`, c.index)
	if c.tool {
		b = append(b, `null,"refusal":null`...)
		if calls := c.calls.whole(); calls != "" {
			b = append(append(b, ','), calls...)
		}
		b = append(b, '}')
	} else {
		b = openai.AppendString(b, c.text.String())
		b = append(b, `,"refusal":null}`...)
	}
	if c.a.c.logprobs >= 0 {
		b = appendLogprobs(append(b, `,"logprobs":`...), c.probs)
	}
	return string(fmt.Appendf(b, `,"finish_reason":%q}`, c.finish(reason)))
}

func appendLogprobs(b []byte, probs []logprob) []byte {
	b = append(b, `{"content":[`...)
	for i, p := range probs {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendLogprob(b, p), `,"top_logprobs":[`...)
		for j, t := range p.top {
			if j > 0 {
				b = append(b, ',')
			}
			b = append(appendLogprob(b, t), '}')
		}
		b = append(b, "]}"...)
	}
	return append(b, `],"refusal":null}`...)
}

// appendLogprob leaves the object open.
func appendLogprob(b []byte, p logprob) []byte {
	b = openai.AppendString(append(b, `{"token":`...), strings.ToValidUTF8(p.text, "\uFFFD"))
	b = fmt.Appendf(b, `,"logprob":%.6g,"bytes":[`, max(p.p, -9999))
	for i := range len(p.text) {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "%d", p.text[i])
	}
	return append(b, ']')
}
