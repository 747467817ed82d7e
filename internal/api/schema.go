package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// A check says what is wrong with the value found at path, nil if nothing is.
// It is never given null: for an optional field that means absent.
type check func(path string, v json.RawMessage) *openai.Error

// fields says what the known members of an object must be. Unknown members are
// the engine's business and pass.
type fields map[string]check

func kind(v json.RawMessage) byte {
	if len(v) == 0 {
		return 0
	}
	switch c := v[0]; c {
	case '{', '[', '"', 'n':
		return c
	case 't', 'f':
		return 't'
	}
	return '0'
}

func isString(path string, v json.RawMessage) *openai.Error {
	if kind(v) != '"' {
		return openai.InvalidType(path, "a string")
	}
	return nil
}

func isBool(path string, v json.RawMessage) *openai.Error {
	if kind(v) != 't' {
		return openai.InvalidType(path, "a boolean")
	}
	return nil
}

func isNumber(path string, v json.RawMessage) *openai.Error {
	if kind(v) != '0' {
		return openai.InvalidType(path, "a number")
	}
	return nil
}

func isObject(path string, v json.RawMessage) *openai.Error {
	if kind(v) != '{' {
		return openai.InvalidType(path, "an object")
	}
	return nil
}

func isArray(path string, v json.RawMessage) *openai.Error {
	if kind(v) != '[' {
		return openai.InvalidType(path, "an array")
	}
	return nil
}

// integer reads v as an integer written as one: no fraction, no exponent.
func integer(path string, v json.RawMessage) (int64, *openai.Error) {
	if kind(v) != '0' || strings.ContainsAny(string(v), ".eE") {
		return 0, openai.InvalidType(path, "an integer")
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		return 0, openai.InvalidRequest(path, "'%s' is beyond 64 bits.", path)
	}
	return n, nil
}

func integerIn(low, high int64) check {
	return func(path string, v json.RawMessage) *openai.Error {
		n, err := integer(path, v)
		if err != nil {
			return err
		}
		if n < low || n > high {
			return openai.InvalidRequest(path, "'%s' must be an integer from %d to %d.", path, low, high)
		}
		return nil
	}
}

func numberIn(low, high float64) check {
	return func(path string, v json.RawMessage) *openai.Error {
		if err := isNumber(path, v); err != nil {
			return err
		}
		if n, err := strconv.ParseFloat(string(v), 64); err != nil || n < low || n > high {
			return openai.InvalidRequest(path, "'%s' must be a number from %g to %g.", path, low, high)
		}
		return nil
	}
}

func oneOf(values ...string) check {
	return func(path string, v json.RawMessage) *openai.Error {
		s, ok := openai.String(v)
		if !ok {
			return openai.InvalidType(path, "a string")
		}
		for _, want := range values {
			if s == want {
				return nil
			}
		}
		return openai.InvalidRequest(path, "'%s' must be one of '%s'.", path, strings.Join(values, "', '"))
	}
}

func arrayOf(each check, atMost int) check {
	return func(path string, v json.RawMessage) *openai.Error {
		if err := isArray(path, v); err != nil {
			return err
		}
		for i, e := range openai.Elements(v) {
			if i >= atMost {
				return openai.InvalidRequest(path, "'%s' may have at most %d elements.", path, atMost)
			}
			// Only a bad element is worth a path of its own: there may be
			// millions of good ones.
			if each(path, e) != nil {
				return each(fmt.Sprintf("%s[%d]", path, i), e)
			}
		}
		return nil
	}
}

// notEmpty refuses [] besides what c refuses.
func notEmpty(c check) check {
	return func(path string, v json.RawMessage) *openai.Error {
		if err := c(path, v); err != nil {
			return err
		}
		for range openai.Elements(v) {
			return nil
		}
		return openai.InvalidRequest(path, "'%s' must not be empty.", path)
	}
}

func valuesOf(each check) check {
	return func(path string, v json.RawMessage) *openai.Error {
		o, err := object(path, v)
		if err != nil {
			return err
		}
		for _, value := range o.All {
			// The key is the caller's text and stays out of the error.
			if err := each(path, value); err != nil {
				err.Message = strings.Replace(err.Message, "'"+path+"'", "Each value in '"+path+"'", 1)
				return err
			}
		}
		return nil
	}
}

// either takes a value that is of the kind that opens with c to one check, and
// everything else to the other.
func either(c byte, then, otherwise check) check {
	return func(path string, v json.RawMessage) *openai.Error {
		if kind(v) == c {
			return then(path, v)
		}
		return otherwise(path, v)
	}
}

// wrong refuses; want is "a string or an array".
func wrong(want string) check {
	return func(path string, _ json.RawMessage) *openai.Error { return openai.InvalidType(path, want) }
}

// shape checks an object's fields; required ones must be there and not null.
func shape(known fields, required ...string) check {
	return func(path string, v json.RawMessage) *openai.Error {
		o, err := object(path, v)
		if err != nil {
			return err
		}
		return known.check(path+".", o, required...)
	}
}

func object(path string, v json.RawMessage) (*openai.Object, *openai.Error) {
	o, err := openai.ParseObject(v)
	switch err {
	case nil:
		return o, nil
	case openai.ErrTooMany:
		return nil, openai.InvalidJSON("'%s' has more than %d members.", path, openai.MaxMembers)
	}
	return nil, openai.InvalidType(path, "an object")
}

func (f fields) check(prefix string, o *openai.Object, required ...string) *openai.Error {
	for _, name := range required {
		if v, ok := o.Get(name); !ok || kind(v) == 'n' {
			return openai.Missing(prefix + name)
		}
	}
	var fail *openai.Error
	for name, v := range o.All {
		if c, ok := f[name]; ok && kind(v) != 'n' {
			if fail = c(prefix+name, v); fail != nil {
				return fail
			}
		}
	}
	return nil
}

const many = 1 << 20 // more elements than a body holds by other limits

var (
	stop        = either('"', isString, either('[', arrayOf(isString, 64), wrong("a string or an array of strings")))
	stringMap   = valuesOf(isString)
	toolName    = shape(fields{"name": isString}, "name")
	allowed     = shape(fields{"mode": oneOf("auto", "required"), "tools": notEmpty(arrayOf(typed(fields{"function": toolName, "custom": toolName}), 1024))}, "mode", "tools")
	calledTool  = shape(fields{"name": isString, "arguments": isString}, "name", "arguments")
	textOrParts = either('"', isString, either('[', arrayOf(part, many), wrong("a string or an array of content parts")))

	streamOptions = shape(fields{"include_usage": isBool, "include_obfuscation": isBool, "continuous_usage_stats": isBool})

	common = fields{
		"model":               isModel,
		"frequency_penalty":   numberIn(-2, 2),
		"presence_penalty":    numberIn(-2, 2),
		"temperature":         numberIn(0, 2),
		"top_p":               numberIn(0, 1),
		"n":                   integerIn(1, maxChoices),
		"best_of":             integerIn(1, maxChoices),
		"max_tokens":          integerIn(1, math.MaxInt32),
		"seed":                integerIn(math.MinInt64, math.MaxInt64),
		"stop":                stop,
		"stream":              isBool,
		"stream_options":      streamOptions,
		"user":                isString,
		"logit_bias":          valuesOf(numberIn(-100, 100)),
		"skip_special_tokens": isBool,
		"max_coefficient":     integerIn(1, math.MaxInt32),
		"timeout":             isNumber,
		"cocoon":              isObject,
	}

	chatFields = common.with(fields{
		"messages":               notEmpty(arrayOf(message, many)),
		"max_completion_tokens":  integerIn(1, math.MaxInt32),
		"logprobs":               isBool,
		"top_logprobs":           integerIn(0, 20),
		"parallel_tool_calls":    isBool,
		"reasoning_effort":       isString,
		"verbosity":              isString,
		"modalities":             arrayOf(isString, 16),
		"prompt_cache_key":       isString,
		"prompt_cache_retention": isString,
		"safety_identifier":      isString,
		"service_tier":           isString,
		"store":                  isBool,
		"metadata":               stringMap,
		"audio":                  shape(fields{"format": isString}),
		"prediction":             shape(fields{"type": isString, "content": textOrParts}, "type", "content"),
		"response_format":        responseFormat,
		"tools":                  arrayOf(tool, 1024),
		"tool_choice":            either('"', oneOf("none", "auto", "required"), either('{', typed(fields{"function": toolName, "allowed_tools": allowed}), wrong("a string or an object"))),
		"functions":              arrayOf(shape(fields{"name": isString, "description": isString, "parameters": isObject}, "name"), 1024),
		"function_call":          either('"', oneOf("none", "auto"), either('{', toolName, wrong("a string or an object"))),
		"web_search_options":     never1("There is no web search here."),
		"chat_template_kwargs":   isObject,
	})

	completionFields = common.with(fields{
		"prompt":                isPrompt,
		"max_completion_tokens": refuse("max_tokens"),
		"logprobs":              integerIn(0, 20),
		"echo":                  isBool,
		"suffix":                isString,
	})
)

func (f fields) with(more fields) fields {
	all := fields{}
	for _, m := range []fields{f, more} {
		for name, c := range m {
			all[name] = c
		}
	}
	return all
}

// refuse names the field that does what this one would.
func refuse(instead string) check {
	return func(path string, _ json.RawMessage) *openai.Error {
		return openai.Unsupported(path, "'%s' does not exist here; use '%s'.", path, instead)
	}
}

func isModel(path string, v json.RawMessage) *openai.Error {
	s, ok := openai.String(v)
	if !ok {
		return openai.InvalidType(path, "a string")
	}
	if s == "" || len(s) > 256 {
		return openai.InvalidRequest(path, "'%s' must have 1 to 256 bytes.", path)
	}
	return nil
}

func isPrompt(path string, v json.RawMessage) *openai.Error {
	switch kind(v) {
	case '"':
		return nil
	case '[':
	default:
		return openai.InvalidType(path, "a string or an array of strings, of token ids or of arrays of token ids")
	}
	var first byte
	ids := notEmpty(arrayOf(integerIn(0, math.MaxInt32), many))
	for i, e := range openai.Elements(v) {
		at := fmt.Sprintf("%s[%d]", path, i)
		if i == 0 {
			first = kind(e)
		}
		var err *openai.Error
		switch {
		case kind(e) != first:
			err = openai.InvalidType(at, "of the same type as the first element")
		case first == '"':
		case first == '0':
			err = integerIn(0, math.MaxInt32)(at, e)
		case first == '[':
			err = ids(at, e)
		default:
			err = openai.InvalidType(at, "a string, a token id or a non-empty array of token ids")
		}
		if err != nil {
			return err
		}
	}
	if first == 0 {
		return openai.InvalidRequest(path, "'%s' must not be empty.", path)
	}
	return nil
}

// prompts returns how many prompts a valid prompt field holds.
func prompts(v json.RawMessage) int64 {
	if kind(v) != '[' {
		return 1
	}
	n := int64(0)
	for _, e := range openai.Elements(v) {
		if kind(e) == '0' {
			return 1
		}
		n++
	}
	return n
}

func message(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	prefix := path + "."
	if err := (fields{"role": isString}).check(prefix, o, "role"); err != nil {
		return err
	}
	raw, _ := o.Get("role")
	role, _ := openai.String(raw)
	switch role {
	case "developer", "system", "user":
		return fields{"content": textOrParts, "name": isString}.check(prefix, o, "content")
	case "assistant":
		if err := assistantFields.check(prefix, o); err != nil {
			return err
		}
		for _, name := range []string{"content", "tool_calls", "function_call", "refusal", "audio", "reasoning_content"} {
			if v, ok := o.Get(name); ok && kind(v) != 'n' {
				return nil
			}
		}
		return openai.Missing(prefix + "content")
	case "tool":
		return fields{"content": textOrParts, "tool_call_id": isString}.check(prefix, o, "tool_call_id", "content")
	case "function":
		return fields{"content": isString, "name": isString}.check(prefix, o, "name")
	}
	return openai.InvalidRequest(prefix+"role", "'%srole' must be one of 'developer', 'system', 'user', 'assistant', 'tool', 'function'.", prefix)
}

var assistantFields = fields{
	"content":           textOrParts,
	"name":              isString,
	"refusal":           isString,
	"reasoning_content": isString,
	"audio":             shape(fields{"id": isString}, "id"),
	"function_call":     calledTool,
	"tool_calls":        arrayOf(toolCall, 1024),
}

// part is one piece of a message's content. Types that are not known here are
// the engine's.
func part(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	prefix := path + "."
	if err := (fields{"type": isString}).check(prefix, o, "type"); err != nil {
		return err
	}
	raw, _ := o.Get("type")
	switch s, _ := openai.String(raw); s {
	case "text":
		return fields{"text": isString}.check(prefix, o, "text")
	case "refusal":
		return fields{"refusal": isString}.check(prefix, o, "refusal")
	case "image_url":
		return fields{"image_url": shape(fields{"url": isDataURL, "detail": isString}, "url")}.check(prefix, o, "image_url")
	case "input_audio":
		return fields{"input_audio": shape(fields{"data": isString, "format": isString}, "data", "format")}.check(prefix, o, "input_audio")
	case "file":
		return fields{"file": shape(fields{"file_data": isString, "file_id": noFiles, "filename": isString}, "file_data")}.check(prefix, o, "file")
	case "":
		return openai.InvalidRequest(prefix+"type", "'%stype' must not be empty.", prefix)
	}
	return nil
}

// typed checks an object whose member of the name of its type must have a shape.
func typed(shapes fields, required ...string) check {
	return func(path string, v json.RawMessage) *openai.Error {
		o, err := object(path, v)
		if err != nil {
			return err
		}
		known := fields{"type": isString}
		if err := known.check(path+".", o, append(required, "type")...); err != nil {
			return err
		}
		raw, _ := o.Get("type")
		s, _ := openai.String(raw)
		if c, ok := shapes[s]; ok {
			return fields{s: c}.check(path+".", o, s)
		}
		return nil
	}
}

var (
	tool = typed(fields{
		"function": shape(fields{"name": isFunctionName, "description": isString, "parameters": isObject, "strict": isBool}, "name"),
		"custom":   toolName,
	})
	toolCall = typed(fields{
		"function": calledTool,
		"custom":   shape(fields{"name": isString, "input": isString}, "name", "input"),
	}, "id")
)

func responseFormat(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	if err := (fields{"type": oneOf("text", "json_object", "json_schema")}).check(path+".", o, "type"); err != nil {
		return err
	}
	if t, _ := o.Get("type"); str(t) != "json_schema" {
		return nil
	}
	return fields{
		"json_schema": shape(fields{"name": isFunctionName, "description": isString, "schema": isObject, "strict": isBool}, "name"),
	}.check(path+".", o, "json_schema")
}

// isFunctionName holds names of tools and schemas to what the OpenAI API takes.
func isFunctionName(path string, v json.RawMessage) *openai.Error {
	s, ok := openai.String(v)
	if !ok {
		return openai.InvalidType(path, "a string")
	}
	good := s != "" && len(s) <= 64
	for _, c := range []byte(s) {
		good = good && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-')
	}
	if !good {
		return openai.InvalidRequest(path, "'%s' must be 1 to 64 letters, digits, '_' or '-'.", path)
	}
	return nil
}

// isDataURL refuses addresses that somebody would have to fetch: whoever serves
// them would learn when and by whom the call is served.
func isDataURL(path string, v json.RawMessage) *openai.Error {
	s, ok := openai.String(v)
	if !ok {
		return openai.InvalidType(path, "a string")
	}
	head, data, ok := strings.Cut(s, ",")
	if !ok || data == "" || !strings.HasPrefix(head, "data:") || !strings.HasSuffix(head, ";base64") {
		return openai.InvalidRequest(path, "'%s' must be a data URL, data:image/png;base64,…: remote addresses are not fetched.", path)
	}
	return nil
}

// noFiles refuses references to stored or remote files.
func noFiles(path string, _ json.RawMessage) *openai.Error {
	return openai.Unsupported(path, "No files are stored or fetched here; send the data itself instead of '%s'.", path)
}
