package api

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Workers of the reference network take a narrow list of fields and fail the
// whole call on any other, after it was queued (spec changes-2026-04 7). Where
// such workers may serve a call, the same list is held here, first: what means
// the same in their words is put so; the rest only other workers may serve.

// forReference returns o, a checked request, in the words of reference workers
// if they have some; else o as it is, with what they refuse in rq.Reference, and
// in rq.prompted, if that helps, the request for them that asks in words.
func (rq *request) forReference(path string, o *openai.Object) (*openai.Object, *openai.Error) {
	there, refused := inReference(path, o)
	if refused == nil {
		return there, nil
	}
	rq.Reference = refused
	asked, ok := inWords(o)
	if !ok {
		return o, nil
	}
	if asked, refused := inReference(path, asked); refused == nil {
		b, err := asked.AppendJSON(nil)
		if err != nil {
			return nil, tooMany("messages")
		}
		rq.prompted = b
	}
	return o, nil
}

// inReference returns o in the words of reference workers.
func inReference(path string, o *openai.Object) (*openai.Object, *openai.Error) {
	copied := &openai.Object{}
	for name, v := range o.All {
		copied.Set(name, v)
	}
	return copied, forReference(path, copied)
}

// forReference rewrites o.
func forReference(path string, o *openai.Object) *openai.Error {
	if path == pathEmbeddings {
		return openai.Unsupported("model", "Workers of the reference network do not serve embeddings.")
	}
	if v, ok := o.Get("stop"); ok && kind(v) == '"' {
		o.Set("stop", append(append(json.RawMessage{'['}, v...), ']'))
	}
	for name, same := range neutral {
		if v, ok := o.Get(name); ok && same(v) {
			o.Delete(name)
		}
	}
	if v, ok := o.Get("messages"); ok {
		messages, err := withoutNulls(v)
		if err != nil {
			return err
		}
		o.Set("messages", messages)
	}
	list := referenceChat
	if path == pathCompletions {
		list = referenceCompletion
	}
	return list.only("", o)
}

// neutral says which values ask for what happens anyway.
var neutral = map[string]func(json.RawMessage) bool{
	"response_format": func(v json.RawMessage) bool {
		o, err := openai.ParseObject(v)
		if err != nil || o.Len() != 1 {
			return false
		}
		t, _ := o.Get("type")
		s, _ := openai.String(t)
		return s == "text"
	},
	"service_tier": isOneOf("auto", "default"),
	"tool_choice":  isOneOf("none"),
	"tools":        isEmpty,
	"functions":    isEmpty,
	"logit_bias":   isEmpty,
	"metadata":     isEmpty,
}

func isOneOf(values ...string) func(json.RawMessage) bool {
	c := oneOf(values...)
	return func(v json.RawMessage) bool { return c("", v) == nil }
}

func isEmpty(v json.RawMessage) bool {
	b, err := openai.Compact(nil, v)
	return err == nil && (string(b) == "[]" || string(b) == "{}")
}

// withoutNulls drops the null members of messages: null is no type there.
func withoutNulls(messages json.RawMessage) (json.RawMessage, *openai.Error) {
	out := json.RawMessage{'['}
	for i, v := range openai.Elements(messages) {
		m, fail := object(fmt.Sprintf("messages[%d]", i), v)
		if fail != nil {
			return nil, fail
		}
		var nulls []string
		for name, v := range m.All {
			if kind(v) == 'n' {
				nulls = append(nulls, name)
			}
		}
		for _, name := range nulls {
			m.Delete(name)
		}
		if i > 0 {
			out = append(out, ',')
		}
		var err error
		if out, err = m.AppendJSON(out); err != nil {
			return nil, openai.InvalidJSON("'messages[%d]' has an object of more than %d members.", i, openai.MaxMembers)
		}
	}
	return append(out, ']'), nil
}

// only refuses unknown members besides what the checks refuse.
func (f fields) only(prefix string, o *openai.Object) *openai.Error {
	for name, v := range o.All {
		c, ok := f[name]
		if !ok {
			return refusedThere(prefix + name)
		}
		if err := c(prefix+name, v); err != nil {
			return err
		}
	}
	return nil
}

func refusedThere(path string) *openai.Error {
	path = path[:min(len(path), 128)] // it may end in a key of the caller's
	return openai.Unsupported(path, "Workers of the reference network do not accept '%s'.", path)
}

// anyValue passes what was checked already.
func anyValue(string, json.RawMessage) *openai.Error { return nil }

// never refuses a known field.
func never(path string, _ json.RawMessage) *openai.Error { return refusedThere(path) }

// anyOf lists fields that were checked already.
func anyOf(names ...string) fields {
	f := fields{}
	for _, name := range names {
		f[name] = anyValue
	}
	return f
}

// onlyOf is an object with no other members than f's.
func onlyOf(f fields) check {
	return func(path string, v json.RawMessage) *openai.Error {
		o, err := object(path, v)
		if err != nil {
			return err
		}
		return f.only(path+".", o)
	}
}

var (
	referenceOptions = onlyOf(anyOf("include_usage", "include_obfuscation"))

	referenceCommon = anyOf("model", "frequency_penalty", "presence_penalty", "temperature", "top_p", "n", "max_tokens", "max_completion_tokens",
		"seed", "stop", "stream", "user", "skip_special_tokens").with(fields{"stream_options": referenceOptions})

	referenceChat = referenceCommon.with(anyOf("logprobs", "top_logprobs", "modalities", "parallel_tool_calls", "prompt_cache_key",
		"prompt_cache_retention", "reasoning_effort", "safety_identifier", "store", "verbosity")).with(fields{
		"messages":             arrayOf(referenceMessage, many),
		"audio":                onlyOf(fields{"format": isString, "voice": isString}),
		"prediction":           onlyOf(fields{"type": anyValue, "content": referenceContent}),
		"chat_template_kwargs": onlyOf(fields{"enable_thinking": isBool}),
	})

	referenceCompletion = referenceCommon.with(fields{
		"prompt":   either('"', anyValue, arrayOf(either('"', anyValue, never), many)),
		"best_of":  anyValue,
		"echo":     anyValue,
		"suffix":   anyValue,
		"logprobs": isBool,
	})

	referenceContent = either('"', anyValue, arrayOf(referencePart, many))

	referenceRoles = map[string]fields{
		"developer": {"role": anyValue, "content": referenceContent, "name": anyValue},
		"system":    {"role": anyValue, "content": referenceContent, "name": anyValue},
		"user":      {"role": anyValue, "content": referenceContent, "name": anyValue},
		"assistant": {
			"role": anyValue, "content": referenceContent, "name": anyValue, "refusal": anyValue,
			"audio":         onlyOf(anyOf("id")),
			"function_call": onlyOf(anyOf("arguments", "name")),
			"tool_calls": arrayOf(onlyOf(fields{
				"id": anyValue, "type": oneOf("function", "custom"),
				"function": onlyOf(anyOf("arguments", "name")), "custom": onlyOf(anyOf("input", "name")),
			}), many),
		},
		"tool":     {"role": anyValue, "content": referenceContent, "tool_call_id": anyValue},
		"function": {"role": anyValue, "content": anyValue, "name": anyValue},
	}
)

func referenceMessage(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	raw, _ := o.Get("role")
	role, _ := openai.String(raw)
	if role == "function" {
		if _, ok := o.Get("content"); !ok {
			return openai.Missing(path + ".content")
		}
	}
	return referenceRoles[role].only(path+".", o)
}

// referencePart knows the parts by their own names: "image", not "image_url",
// and data in hex.
func referencePart(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	raw, _ := o.Get("type")
	f, ok := referenceParts[str(raw)]
	if !ok {
		return refusedThere(path + ".type")
	}
	return f.only(path+".", o)
}

var referenceParts = map[string]fields{
	"text":        anyOf("type", "text"),
	"refusal":     anyOf("type", "refusal"),
	"image":       {"type": anyValue, "image": onlyOf(fields{"url": isString, "detail": isString})},
	"input_audio": {"type": anyValue, "input_audio": onlyOf(fields{"format": anyValue, "data": isHex})},
	"file":        {"type": anyValue, "file": onlyOf(fields{"file_data": isHex, "file_id": anyValue, "filename": anyValue})},
}

func isHex(path string, v json.RawMessage) *openai.Error {
	if _, err := hex.DecodeString(str(v)); err != nil || kind(v) != '"' {
		return openai.Unsupported(path, "Workers of the reference network take '%s' in hex only.", path)
	}
	return nil
}

// str returns the string v is, "" for anything else.
func str(v json.RawMessage) string { s, _ := openai.String(v); return s }
