//go:build !tee

package demo

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

const maxPrompts = 64

// prompt is one prompt of /v1/completions.
type prompt struct {
	text   string
	tokens []int32
}

// prompts reads a text, a list of texts, tokens or a list of token lists.
func (f *fields) prompts(tok *tokenizer) []prompt {
	v, ok := f.get("prompt")
	if !ok {
		f.fail(openai.Missing("prompt"))
		return nil
	}
	if s, ok := openai.String(v); ok {
		return []prompt{tok.prompt(s)}
	}
	if isArray(v) {
		if ids, ok := tok.tokens(v); ok && len(ids) > 0 {
			return []prompt{{text: tok.decode(ids), tokens: ids}}
		}
	}
	var out []prompt
	for _, e := range openai.Elements(v) {
		if s, ok := openai.String(e); ok {
			out = append(out, tok.prompt(s))
		} else if ids, ok := tok.tokens(e); ok && len(ids) > 0 {
			out = append(out, prompt{tok.decode(ids), ids})
		} else {
			out = nil
			break
		}
	}
	if len(out) == 0 || len(out) > maxPrompts {
		f.fail(openai.InvalidType("prompt", fmt.Sprintf("a string, an array of at most %d strings, or tokens of the model", maxPrompts)))
	}
	return out
}

func (t *tokenizer) prompt(s string) prompt {
	ids := t.encode(nil, s)
	if len(ids) == 0 {
		ids = []int32{t.end} // something must come before the first token
	}
	return prompt{s, ids}
}

func (t *tokenizer) tokens(v json.RawMessage) ([]int32, bool) {
	if !isArray(v) {
		return nil, false
	}
	var out []int32
	for _, e := range openai.Elements(v) {
		n, err := strconv.ParseUint(string(e), 10, 31)
		if err != nil || n >= uint64(len(t.text)) {
			return nil, false
		}
		out = append(out, int32(n))
	}
	return out, true
}

func (t *tokenizer) decode(ids []int32) string {
	var b strings.Builder
	for _, id := range ids {
		b.WriteString(t.text[id])
	}
	return strings.ToValidUTF8(b.String(), "\uFFFD")
}

func (s *Server) completions(w http.ResponseWriter, r *http.Request, o *openai.Object) error {
	f := &fields{o: o}
	c := s.common(f)
	if _, ok := f.get("max_tokens"); !ok {
		c.maxTokens = min(c.maxTokens, 16) // the OpenAI default of this endpoint
	}
	if _, ok := f.get("max_completion_tokens"); ok {
		c.maxTokens = int(min(f.int("max_tokens", 1<<30, 0, 1<<40), f.int("max_completion_tokens", 0, 0, 1<<40)))
	}
	if v, ok := f.get("logprobs"); ok && string(v) != "false" {
		c.logprobs = 0
		if string(v) != "true" {
			c.logprobs = int(f.int("logprobs", 0, 0, 20))
		}
	}
	if n := f.int("best_of", int64(c.n), 1, maxChoices); n != int64(c.n) {
		f.fail(openai.Unsupported("best_of", "the demo engine has no best_of other than n"))
	}
	if f.string("suffix") != "" {
		f.fail(openai.Unsupported("suffix", "the demo model cannot fill in the middle"))
	}
	echo := f.bool("echo")
	f.format(&c)
	prompts := f.prompts(s.model.tok)
	if f.err != nil {
		return f.err
	}
	for _, p := range prompts {
		if len(p.tokens) >= s.model.context {
			return tooLong("prompt", "the prompt", len(p.tokens), s.model.context)
		}
	}
	a := s.answer(w, &c, "cmpl-", "text_completion", "text_completion")
	var whole []string
	for i, p := range prompts {
		q, err := s.prefill(r.Context(), c.salt, p.tokens)
		if err != nil {
			if a.opened {
				return errGone
			}
			return err
		}
		a.count(q)
		for j := range c.n {
			one := &textChoice{a: a, index: i*c.n + j, base: a.usage.CompletionTokens}
			if echo {
				if err := one.piece(piece{text: p.text}); err != nil {
					return err
				}
			}
			sub := q
			if j+1 < c.n {
				sub = q.fork(s.model)
			}
			finish, err := s.generate(r.Context(), sub, &c.sampling, j, one.piece)
			if err != nil {
				if a.opened {
					return errGone
				}
				return err
			}
			if c.on {
				if err := a.event(one.choice("", finish, nil), false); err != nil {
					return err
				}
			} else {
				whole = append(whole, one.choice(one.text.String(), finish, one.probs))
			}
		}
	}
	if c.on {
		return a.finish()
	}
	b := append(a.head(a.kind), strings.Join(whole, ",")...)
	b = a.usage.AppendJSON(append(b, `],"usage":`...))
	writeJSON(w, append(b, '}'))
	return nil
}

// textChoice is one answer of a plain completion.
type textChoice struct {
	a     *answer
	index int
	base  int64
	text  strings.Builder
	probs []logprob
}

func (c *textChoice) piece(p piece) error {
	c.a.usage.CompletionTokens = c.base + int64(p.made)
	c.a.total()
	if !c.a.c.on {
		c.text.WriteString(p.text)
		c.probs = append(c.probs, p.logprobs...)
		return nil
	}
	if p.text == "" && len(p.logprobs) == 0 {
		return nil
	}
	return c.a.event(c.choice(p.text, "", p.logprobs), false)
}

func (c *textChoice) choice(text, finish string, probs []logprob) string {
	b := fmt.Appendf(nil, `{"index":%d,"text":`, c.index)
	b = openai.AppendString(b, text)
	if c.a.c.logprobs >= 0 {
		b = appendTextLogprobs(append(b, `,"logprobs":`...), probs)
	} else {
		b = append(b, `,"logprobs":null`...)
	}
	if finish == "" {
		return string(append(b, `,"finish_reason":null}`...))
	}
	return string(fmt.Appendf(b, `,"finish_reason":%q}`, finish))
}

// appendTextLogprobs writes the older form of this endpoint.
func appendTextLogprobs(b []byte, probs []logprob) []byte {
	b = append(b, `{"tokens":[`...)
	comma := func(i int) {
		if i > 0 {
			b = append(b, ',')
		}
	}
	for i, p := range probs {
		comma(i)
		b = openai.AppendString(b, strings.ToValidUTF8(p.text, "\uFFFD"))
	}
	b = append(b, `],"token_logprobs":[`...)
	for i, p := range probs {
		comma(i)
		b = fmt.Appendf(b, "%.6g", max(p.p, -9999))
	}
	b = append(b, `],"top_logprobs":[`...)
	for i, p := range probs {
		comma(i)
		b = append(b, '{')
		for j, t := range p.top {
			comma(j)
			b = openai.AppendString(b, strings.ToValidUTF8(t.text, "\uFFFD"))
			b = fmt.Appendf(b, ":%.6g", max(t.p, -9999))
		}
		b = append(b, '}')
	}
	return append(b, "]}"...)
}
