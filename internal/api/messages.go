package api

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// POST /v1/messages, the Anthropic form: what it asks for becomes a chat
// completion, and its answer a message of content blocks.

const pathMessages = "/v1/messages"

var anthropicFields = fields{
	"model":           isModel,
	"max_tokens":      integerIn(1, math.MaxInt32),
	"messages":        notEmpty(arrayOf(anthropicMessage, many)),
	"system":          either('"', isString, either('[', arrayOf(anthropicText, many), wrong("a string or an array of text blocks"))),
	"stop_sequences":  arrayOf(isString, 64),
	"stream":          isBool,
	"temperature":     numberIn(0, 1),
	"top_p":           numberIn(0, 1),
	"top_k":           integerIn(0, math.MaxInt32),
	"metadata":        shape(fields{"user_id": isString}),
	"tools":           arrayOf(anthropicTool, 1024),
	"tool_choice":     anthropicChoice,
	"thinking":        shape(fields{"type": oneOf("enabled", "disabled", "adaptive"), "budget_tokens": integerIn(1, math.MaxInt32)}, "type"),
	"output_config":   shape(fields{"format": anthropicFormat, "effort": isString}),
	"output_format":   anthropicFormat,
	"service_tier":    isString,
	"container":       never1("There are no containers here."),
	"mcp_servers":     never1("Nothing is connected to on the caller's behalf."),
	"max_coefficient": choiceFields["max_coefficient"],
	"timeout":         isNumber,
	"cocoon":          isObject,
}

func anthropicText(path string, v json.RawMessage) *openai.Error {
	return shape(fields{"type": oneOf("text"), "text": isString}, "type", "text")(path, v)
}

var anthropicFormat = shape(fields{"type": oneOf("json_schema"), "schema": isObject}, "type", "schema")

func anthropicTool(path string, v json.RawMessage) *openai.Error {
	return shape(fields{
		"type": oneOf("custom"), "name": isFunctionName, "description": isString, "input_schema": isObject, "strict": isBool,
	}, "name", "input_schema")(path, v)
}

func anthropicChoice(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	var required []string
	if t, _ := o.Get("type"); str(t) == "tool" {
		required = []string{"name"}
	}
	return fields{"type": oneOf("auto", "any", "tool", "none"), "name": isString, "disable_parallel_tool_use": isBool}.check(path+".", o, append(required, "type")...)
}

func anthropicMessage(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	if err := (fields{"role": oneOf("user", "assistant")}).check(path+".", o, "role"); err != nil {
		return err
	}
	raw, _ := o.Get("role")
	block := anthropicBlock(str(raw))
	return fields{"content": either('"', isString, either('[', arrayOf(block, many), wrong("a string or an array of content blocks")))}.check(path+".", o, "content")
}

// anthropicBlock checks a block of a message; each role has its own.
func anthropicBlock(role string) check {
	return func(path string, v json.RawMessage) *openai.Error {
		o, err := object(path, v)
		if err != nil {
			return err
		}
		prefix := path + "."
		if err := (fields{"type": isString}).check(prefix, o, "type"); err != nil {
			return err
		}
		raw, _ := o.Get("type")
		switch t := str(raw); {
		case t == "text":
			return fields{"text": isString}.check(prefix, o, "text")
		case t == "image" && role == "user":
			return fields{"source": anthropicSource}.check(prefix, o, "source")
		case t == "tool_result" && role == "user":
			return fields{
				"tool_use_id": isString, "is_error": isBool,
				"content": either('"', isString, either('[', arrayOf(anthropicBlock("user"), many), wrong("a string or an array of content blocks"))),
			}.check(prefix, o, "tool_use_id")
		case t == "tool_use" && role == "assistant":
			return fields{"id": isString, "name": isString, "input": isObject}.check(prefix, o, "id", "name", "input")
		case (t == "thinking" || t == "redacted_thinking") && role == "assistant":
			return nil
		}
		return openai.Unsupported(prefix+"type", "Content blocks of this type are not served in this role.")
	}
}

func anthropicSource(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	if t, _ := o.Get("type"); str(t) == "url" || str(t) == "file" {
		return openai.Unsupported(path+".type", "Images are sent as base64: nothing is fetched on the caller's behalf.")
	}
	return fields{"type": oneOf("base64"), "media_type": isString, "data": isString}.check(path+".", o, "type", "media_type", "data")
}

// messageNames are the fields whose names differ in the two forms.
var messageNames = []string{
	"max_completion_tokens", "max_tokens", "stop[", "stop_sequences[", "response_format.json_schema", "output_config.format", "response_format", "output_config.format",
	".function.parameters", ".input_schema", "parallel_tool_calls", "tool_choice.disable_parallel_tool_use",
}

func (g *Gateway) parseMessages(x *exchange, body []byte) (*request, error) {
	o, fail := parseBody(body)
	if fail != nil {
		return nil, fail
	}
	if fail := anthropicFields.check("", o, "model", "messages", "max_tokens"); fail != nil {
		return nil, fail
	}
	f := &messageForm{request: o, id: newID("msg_")}
	chat, fail := f.chat()
	if fail != nil {
		return nil, fail
	}
	rq, fail := g.buildRequest(pathChat, x.r.Header, chat, len(body))
	if fail != nil {
		return nil, renamed(fail, messageNames)
	}
	rq.form = f
	return rq, nil
}

// messageForm tells an answer as a message.
type messageForm struct {
	request *openai.Object
	id      string
	blocks  blocks
}

func (f *messageForm) chat() (*openai.Object, *openai.Error) {
	o, chat := f.request, &openai.Object{}
	copied(chat, o, "model", "model", "max_tokens", "max_completion_tokens", "stop_sequences", "stop", "stream", "stream", "temperature", "temperature",
		"top_p", "top_p", "top_k", "top_k", "cocoon", "cocoon", "max_coefficient", "max_coefficient", "timeout", "timeout")
	m := &messageList{}
	if v, ok := o.Get("system"); ok && kind(v) != 'n' {
		m.say("system", joinedText(v))
	}
	list, _ := o.Get("messages")
	for _, v := range openai.Elements(list) {
		msg, _ := openai.ParseObject(v)
		role, _ := msg.Get("role")
		content, _ := msg.Get("content")
		f.message(m, str(role), content)
	}
	chat.Set("messages", m.done())
	if v, ok := o.Get("metadata"); ok && kind(v) != 'n' {
		meta, _ := openai.ParseObject(v)
		copied(chat, meta, "user_id", "user")
	}
	if v, ok := o.Get("tools"); ok && kind(v) != 'n' {
		tools := []byte{'['}
		for i, t := range openai.Elements(v) {
			t, _ := openai.ParseObject(t)
			fn := &openai.Object{}
			copied(fn, t, "name", "name", "description", "description", "input_schema", "parameters", "strict", "strict")
			b, err := fn.AppendJSON(nil)
			if err != nil {
				return nil, tooMany("tools")
			}
			if i > 0 {
				tools = append(tools, ',')
			}
			tools = fmt.Appendf(tools, `{"type":"function","function":%s}`, b)
		}
		if tools = append(tools, ']'); len(tools) > 2 {
			chat.Set("tools", tools)
		}
	}
	if v, ok := o.Get("tool_choice"); ok && kind(v) != 'n' {
		c, _ := openai.ParseObject(v)
		t, _ := c.Get("type")
		name, _ := c.Get("name")
		chat.Set("tool_choice", map[string]json.RawMessage{
			"auto": json.RawMessage(`"auto"`), "any": json.RawMessage(`"required"`), "none": json.RawMessage(`"none"`),
			"tool": fmt.Appendf(nil, `{"type":"function","function":{"name":%s}}`, name),
		}[str(t)])
		switch v, _ := c.Get("disable_parallel_tool_use"); string(v) {
		case "true":
			chat.Set("parallel_tool_calls", json.RawMessage("false"))
		case "false":
			chat.Set("parallel_tool_calls", json.RawMessage("true"))
		}
	}
	if v, ok := o.Get("thinking"); ok && kind(v) != 'n' {
		t, _ := openai.ParseObject(v)
		switch v, _ := t.Get("type"); str(v) {
		case "enabled":
			chat.Set("chat_template_kwargs", json.RawMessage(`{"enable_thinking":true}`))
		case "disabled":
			chat.Set("chat_template_kwargs", json.RawMessage(`{"enable_thinking":false}`))
		}
	}
	format, _ := o.Get("output_format")
	if v, ok := o.Get("output_config"); ok && kind(v) != 'n' {
		c, _ := openai.ParseObject(v)
		copied(chat, c, "effort", "reasoning_effort")
		if v, ok := c.Get("format"); ok {
			format = v
		}
	}
	if kind(format) == '{' {
		c, _ := openai.ParseObject(format)
		schema, _ := c.Get("schema")
		chat.Set("response_format", fmt.Appendf(nil, `{"type":"json_schema","json_schema":{"name":"answer","strict":true,"schema":%s}}`, schema))
	}
	return chat, nil
}

// joinedText makes text blocks into one string.
func joinedText(v json.RawMessage) json.RawMessage {
	if kind(v) == '"' {
		return v
	}
	var all []string
	for _, e := range openai.Elements(v) {
		o, err := openai.ParseObject(e)
		if err != nil {
			continue
		}
		if t, _ := o.Get("type"); str(t) == "text" {
			t, _ := o.Get("text")
			all = append(all, str(t))
		}
	}
	return openai.AppendString(nil, strings.Join(all, "\n"))
}

// message adds one message; results of tools are messages of their own.
func (f *messageForm) message(m *messageList, role string, content json.RawMessage) {
	if kind(content) == '"' {
		m.say(role, content)
		return
	}
	var parts []byte
	flush := func() {
		if parts != nil {
			m.say(role, append(parts, ']'))
			parts = nil
		}
	}
	said := false
	for _, e := range openai.Elements(content) {
		o, _ := openai.ParseObject(e)
		get := func(name string) json.RawMessage { v, _ := o.Get(name); return v }
		switch str(get("type")) {
		case "text", "image":
			if parts == nil {
				parts = []byte{'['}
			} else {
				parts = append(parts, ',')
			}
			parts = append(parts, anthropicPart(o)...)
			said = true
		case "tool_result":
			flush()
			m.result(get("tool_use_id"), resultText(get("content")))
			said = true
		case "tool_use":
			flush()
			m.call(get("id"), get("name"), openai.AppendString(nil, compacted(get("input"))))
			said = true
		}
	}
	flush()
	if !said {
		m.say(role, json.RawMessage(`""`))
	}
}

func anthropicPart(o *openai.Object) []byte {
	get := func(name string) json.RawMessage { v, _ := o.Get(name); return v }
	if str(get("type")) == "text" {
		return fmt.Appendf(nil, `{"type":"text","text":%s}`, get("text"))
	}
	src, err := openai.ParseObject(get("source"))
	if err != nil {
		return []byte(`{"type":"text","text":""}`)
	}
	media, _ := src.Get("media_type")
	data, _ := src.Get("data")
	return fmt.Appendf(nil, `{"type":"image_url","image_url":{"url":%s}}`, openai.AppendString(nil, "data:"+str(media)+";base64,"+str(data)))
}

// resultText is the content of a tool's result: its text, or parts where there
// are images.
func resultText(v json.RawMessage) json.RawMessage {
	switch kind(v) {
	case '"':
		return v
	case '[':
	default:
		return json.RawMessage(`""`)
	}
	out, images := []byte{'['}, false
	for i, e := range openai.Elements(v) {
		o, _ := openai.ParseObject(e)
		t, _ := o.Get("type")
		images = images || str(t) == "image"
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, anthropicPart(o)...)
	}
	if !images {
		return joinedText(v)
	}
	return append(out, ']')
}

func compacted(v json.RawMessage) string {
	b, err := openai.Compact(nil, v)
	if err != nil {
		return string(v)
	}
	return string(b)
}

// The answer.

func (f *messageForm) whole(answer, usage []byte) (string, []byte, error) {
	if err := f.blocks.chunk(answer, noSink{}); err != nil {
		return "", nil, err
	}
	b := f.head()
	b = append(b, `,"content":[`...)
	for i, x := range f.blocks.list {
		if i > 0 {
			b = append(b, ',')
		}
		text := openai.AppendString(nil, x.text.String())
		switch x.kind {
		case blockReasoning:
			b = fmt.Appendf(b, `{"type":"thinking","thinking":%s,"signature":""}`, text)
		case blockCall:
			input := x.text.String()
			if o, err := openai.ParseObject([]byte(input)); err != nil || o == nil {
				if f.blocks.reason != "length" {
					return "", nil, openai.Upstream("The arguments of a tool call are not a JSON object.")
				}
				input = "{}" // cut by the limit, which stop_reason says
			}
			b = fmt.Appendf(b, `{"type":"tool_use","id":%s,"name":%s,"input":%s}`, openai.AppendString(nil, callID(x)), openai.AppendString(nil, x.name), input)
		default:
			b = fmt.Appendf(b, `{"type":"text","text":%s}`, text)
		}
	}
	b = fmt.Appendf(b, `],"stop_reason":%s,"stop_sequence":null,"usage":%s}`, f.stopReason(), messageUsage(usage))
	return "application/json", b, nil
}

func callID(x *block) string {
	if x.callID == "" {
		x.callID = newID("toolu_")
	}
	return x.callID
}

func (f *messageForm) head() []byte {
	model, _ := f.request.Get("model")
	return fmt.Appendf(nil, `{"id":%q,"type":"message","role":"assistant","model":%s`, f.id, model)
}

func (f *messageForm) stopReason() string {
	switch f.blocks.reason {
	case "length":
		return `"max_tokens"`
	case "tool_calls", "function_call":
		return `"tool_use"`
	case "content_filter":
		return `"refusal"`
	}
	for _, x := range f.blocks.list {
		if x.kind == blockRefusal {
			return `"refusal"`
		}
	}
	return `"end_turn"`
}

// messageUsage writes a chat completion's usage in the names of this form,
// where input tokens are those that did not come from the cache.
func messageUsage(usage []byte) []byte {
	u, cost := splitUsage(usage)
	return fmt.Appendf(nil, `{"input_tokens":%d,"cache_creation_input_tokens":0,"cache_read_input_tokens":%d,"output_tokens":%d,"cost_nano":%s}`,
		max(u.PromptTokens-u.CachedTokens, 0), u.CachedTokens, u.CompletionTokens, cost)
}

func (f *messageForm) begin(w *streamWriter) error {
	b := append([]byte(`{"type":"message_start","message":`), f.head()...)
	b = append(b, `,"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":0,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}}}`...)
	if err := w.named("message_start", b); err != nil {
		return err
	}
	return w.named("ping", []byte(`{"type":"ping"}`))
}

func (f *messageForm) chunk(w *streamWriter, data []byte) error {
	return f.blocks.chunk(data, messageSink{w})
}

func (f *messageForm) end(w *streamWriter, usage []byte) error {
	if err := f.blocks.shut(messageSink{w}); err != nil {
		return err
	}
	b := fmt.Appendf(nil, `{"type":"message_delta","delta":{"stop_reason":%s,"stop_sequence":null},"usage":%s}`, f.stopReason(), messageUsage(usage))
	if err := w.named("message_delta", b); err != nil {
		return err
	}
	return w.named("message_stop", []byte(`{"type":"message_stop"}`))
}

func (f *messageForm) fail(w *streamWriter, e *openai.Error) error {
	return w.named("error", anthropicError(e, ""))
}

// messageSink writes blocks as they grow.
type messageSink struct{ w *streamWriter }

func (s messageSink) open(x *block) error {
	content := `{"type":"text","text":""}`
	switch x.kind {
	case blockReasoning:
		content = `{"type":"thinking","thinking":"","signature":""}`
	case blockCall:
		content = fmt.Sprintf(`{"type":"tool_use","id":%s,"name":%s,"input":{}}`, openai.AppendString(nil, callID(x)), openai.AppendString(nil, x.name))
	}
	return s.w.named("content_block_start", fmt.Appendf(nil, `{"type":"content_block_start","index":%d,"content_block":%s}`, x.index, content))
}

func (s messageSink) add(x *block, text string, _ []json.RawMessage) error {
	kind, member := "text_delta", "text"
	switch x.kind {
	case blockReasoning:
		kind, member = "thinking_delta", "thinking"
	case blockCall:
		kind, member = "input_json_delta", "partial_json"
	}
	return s.w.named("content_block_delta", fmt.Appendf(nil, `{"type":"content_block_delta","index":%d,"delta":{"type":%q,%q:%s}}`, x.index, kind, member, openai.AppendString(nil, text)))
}

func (s messageSink) close(x *block) error {
	return s.w.named("content_block_stop", fmt.Appendf(nil, `{"type":"content_block_stop","index":%d}`, x.index))
}

// anthropicError writes an error in the form of /v1/messages; code and param
// are those of every other path.
func anthropicError(e *openai.Error, requestID string) []byte {
	kind := "api_error"
	switch {
	case e.Status == http.StatusTooManyRequests:
		kind = "rate_limit_error"
	case e.Status == http.StatusServiceUnavailable:
		kind = "overloaded_error"
	case e.Status == http.StatusNotFound:
		kind = "not_found_error"
	case e.Status == http.StatusUnauthorized:
		kind = "authentication_error"
	case e.Status == http.StatusForbidden:
		kind = "permission_error"
	case e.Status == http.StatusPaymentRequired:
		kind = "billing_error"
	case e.Status == http.StatusRequestEntityTooLarge:
		kind = "request_too_large"
	case e.Status == http.StatusGatewayTimeout:
		kind = "timeout_error"
	case e.Status < 500:
		kind = "invalid_request_error"
	}
	param := "null"
	if e.Param != "" {
		param = string(openai.AppendString(nil, e.Param))
	}
	b := fmt.Appendf(nil, `{"type":"error","error":{"type":%q,"message":%s,"code":%s,"param":%s}`, kind, openai.AppendString(nil, e.Message), openai.AppendString(nil, e.Code), param)
	if requestID != "" {
		b = fmt.Appendf(b, `,"request_id":%s`, strconv.Quote(requestID))
	}
	return append(b, '}')
}
