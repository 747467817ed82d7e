package api

import (
	"context"
	"errors"
	"fmt"

	"github.com/cocoon-network/cocoon/internal/api/jsonschema"
	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// promise is what the content of an answer must fit: the schema of a
// response_format and those of strict tools. Engines that can decode under a
// schema keep it; it is checked here all the same, since not every engine can.
type promise struct {
	content *jsonschema.Schema            // nil = any text
	tools   map[string]*jsonschema.Schema // arguments of strict tools
}

// promised reads the promise a checked chat request asks for.
func promised(o *openai.Object) (*promise, *openai.Error) {
	p := &promise{tools: map[string]*jsonschema.Schema{}}
	if v, ok := o.Get("response_format"); ok {
		format, _ := openai.ParseObject(v)
		t, _ := format.Get("type")
		switch str(t) {
		case "json_object":
			p.content = &jsonschema.Schema{Types: []string{"object"}}
		case "json_schema":
			v, _ := format.Get("json_schema")
			js, _ := openai.ParseObject(v)
			s, fail := strictSchema(js, "schema", "response_format.json_schema.schema")
			if fail != nil {
				return nil, fail
			}
			if s == nil { // promised is some JSON
				s = &jsonschema.Schema{}
			}
			p.content = s
		}
	}
	tools, _ := o.Get("tools")
	for i, v := range openai.Elements(tools) {
		t, _ := openai.ParseObject(v)
		f, _ := t.Get("function")
		fn, err := openai.ParseObject(f)
		if err != nil {
			continue
		}
		s, fail := strictSchema(fn, "parameters", fmt.Sprintf("tools[%d].function.parameters", i))
		if fail != nil {
			return nil, fail
		}
		if s != nil {
			name, _ := fn.Get("name")
			p.tools[str(name)] = s
		}
	}
	if p.content == nil && len(p.tools) == 0 {
		return nil, nil
	}
	return p, nil
}

// strictSchema reads the schema under a key if "strict" stands beside it.
func strictSchema(o *openai.Object, key, path string) (*jsonschema.Schema, *openai.Error) {
	strict, _ := o.Get("strict")
	v, ok := o.Get(key)
	if string(strict) != "true" || !ok || kind(v) == 'n' {
		return nil, nil
	}
	s, err := jsonschema.Parse(v)
	if err != nil {
		return nil, openai.InvalidRequest(path, "'%s' is no schema for strict output: %s.", path, err)
	}
	return s, nil
}

// finished is one choice of a chat answer, whole or put together.
type finished struct {
	content []byte
	has     bool // there is content
	refused bool
	calls   []calledFunction
	reason  string
}

type calledFunction struct {
	id, name  string
	arguments []byte
}

// check returns why a choice breaks the promise. What was cut by a limit, by a
// filter or by a refusal promises nothing, as with OpenAI.
func (p *promise) check(c finished) error {
	if c.refused || c.reason == "length" || c.reason == "content_filter" {
		return nil
	}
	for _, call := range c.calls {
		s := p.tools[call.name]
		if s == nil {
			continue
		}
		if err := s.Validate(call.arguments); err != nil {
			return fmt.Errorf("the arguments of a call of %s: %w", call.name, err)
		}
	}
	if p.content == nil || len(c.calls) > 0 {
		return nil
	}
	if !c.has {
		return errors.New("there is no content")
	}
	return p.content.Validate(c.content)
}

// checkAll checks every choice of an answer.
func (p *promise) checkAll(choices []finished) error {
	if len(choices) == 0 {
		return errors.New("there is no choice in it")
	}
	for i, c := range choices {
		if err := p.check(c); err != nil && len(choices) > 1 {
			return fmt.Errorf("choice %d: %w", i, err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// brokenPromise is what a caller hears of an answer that does not fit. The
// reason names places of the schema and nothing that the answer says.
func brokenPromise(err error) *openai.Error {
	return openai.Errorf(openai.CodeSchemaMismatch, "The model's answer does not fit the schema: %s.", err)
}

// fulfil returns a whole answer that keeps the promise: the one given, or, if
// there is one choice, the one to a single further call that says what was
// wrong. Its usage and cost are those of both calls.
func (g *Gateway) fulfil(ctx context.Context, x *exchange, rq *request, first *told) (*told, error) {
	choices, err := readChat(first.body)
	if err != nil {
		return nil, err
	}
	wrong := rq.promise.checkAll(choices)
	if wrong == nil {
		return first, nil
	}
	body, ok := repairBody(rq.Body, choices, wrong)
	if !ok {
		return nil, brokenPromise(wrong)
	}
	call := rq.Call
	call.Body = body
	answer, err := g.cfg.Backend.Do(ctx, &call)
	if err != nil {
		return nil, callError(ctx, err)
	}
	defer answer.Body.Close()
	defer context.AfterFunc(ctx, func() { _ = answer.Body.Close() })()
	x.w.Header().Set("X-Cocoon-Repaired", "1")
	if answer.Status != 200 {
		return nil, g.engineError(ctx, answer)
	}
	second, err := g.readWhole(ctx, answer)
	if err != nil {
		return nil, err
	}
	second.usage.PromptTokens += first.usage.PromptTokens
	second.usage.CachedTokens += first.usage.CachedTokens
	second.usage.CompletionTokens += first.usage.CompletionTokens
	second.usage.ReasoningTokens += first.usage.ReasoningTokens
	second.usage.TotalTokens += first.usage.TotalTokens
	second.final.CostNano += first.final.CostNano
	second.summed = true
	if choices, err = readChat(second.body); err != nil {
		return nil, err
	}
	if err := rq.promise.checkAll(choices); err != nil {
		return nil, brokenPromise(err)
	}
	return second, nil
}

// repairBody adds to a chat request what was wrong with the answer, and the
// answer itself where it is text: calls with arguments that are no JSON cannot be
// told in every model's words. It reports false where several choices were asked
// for: there is no telling which of them to repair.
func repairBody(request []byte, choices []finished, wrong error) ([]byte, bool) {
	o, err := openai.ParseObject(request)
	if err != nil || len(choices) != 1 {
		return nil, false
	}
	messages, _ := o.Get("messages")
	list := []byte{'['}
	for _, m := range openai.Elements(messages) {
		list = append(append(list, m...), ',')
	}
	again := "This does not fit the schema: " + wrong.Error() + ". Answer again with nothing but the JSON that fits."
	if c := choices[0]; len(c.calls) > 0 {
		again = "Your tool calls do not fit their schemas: " + wrong.Error() + ". Make them again with arguments that fit."
	} else {
		list = openai.AppendString(append(list, `{"role":"assistant","content":`...), string(c.content))
		list = append(list, "},"...)
	}
	list = openai.AppendString(append(list, `{"role":"user","content":`...), again)
	o.Set("messages", append(list, `}]`...))
	b, err := o.AppendJSON(nil)
	return b, err == nil
}

// inWords asks for what response_format asks for in a system message, for
// workers that take no such field. Tools cannot be asked for so.
func inWords(o *openai.Object) (*openai.Object, bool) {
	v, ok := o.Get("response_format")
	if !ok {
		return nil, false
	}
	format, err := openai.ParseObject(v)
	if err != nil {
		return nil, false
	}
	text := "Answer with one JSON object and nothing else: no code fence, no comment."
	if v, ok := format.Get("json_schema"); ok {
		js, err := openai.ParseObject(v)
		if err != nil {
			return nil, false
		}
		if schema, ok := js.Get("schema"); ok {
			text = "Answer with one JSON text and nothing else: no code fence, no comment. It must fit this JSON schema: " + string(schema)
		}
	}
	out := &openai.Object{}
	for name, v := range o.All {
		switch name {
		case "response_format":
		case "messages":
			list := openai.AppendString([]byte(`[{"role":"system","content":`), text)
			list = append(list, '}')
			for _, m := range openai.Elements(v) {
				list = append(append(list, ','), m...)
			}
			out.Set(name, append(list, ']'))
		default:
			out.Set(name, v)
		}
	}
	return out, true
}
