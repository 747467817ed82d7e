package api

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// POST /v1/responses, without state: the input becomes the messages of a chat
// completion, and its answer the output items.

// responseChoice checks a tool_choice that is an object.
func responseChoice(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	if t, _ := o.Get("type"); str(t) == "allowed_tools" {
		one := shape(fields{"type": oneOf("function"), "name": isString}, "type", "name")
		return fields{"mode": oneOf("auto", "required"), "tools": notEmpty(arrayOf(one, 1024))}.check(path+".", o, "mode", "tools")
	}
	return fields{"type": oneOf("function", "allowed_tools"), "name": isString}.check(path+".", o, "type", "name")
}

// chatChoice is a checked choice in the form of a chat completion.
func chatChoice(o *openai.Object) json.RawMessage {
	function := func(o *openai.Object) []byte {
		name, _ := o.Get("name")
		return fmt.Appendf(nil, `{"type":"function","function":{"name":%s}}`, name)
	}
	list, ok := o.Get("tools")
	if !ok {
		return function(o)
	}
	mode, _ := o.Get("mode")
	out := fmt.Appendf(nil, `{"type":"allowed_tools","allowed_tools":{"mode":%s,"tools":[`, mode)
	for i, v := range openai.Elements(list) {
		if i > 0 {
			out = append(out, ',')
		}
		t, _ := openai.ParseObject(v)
		out = append(out, function(t)...)
	}
	return append(out, "]}}"...)
}

var responseFields = common.with(fields{
	"input":                either('"', isString, either('[', notEmpty(arrayOf(isInputItem, many)), wrong("a string or an array of input items"))),
	"instructions":         isString,
	"max_output_tokens":    integerIn(1, math.MaxInt32),
	"max_tokens":           refuse("max_output_tokens"),
	"n":                    never1("The responses form has one choice."),
	"tools":                arrayOf(responseTool, 1024),
	"tool_choice":          either('"', oneOf("none", "auto", "required"), either('{', responseChoice, wrong("a string or an object"))),
	"parallel_tool_calls":  isBool,
	"text":                 shape(fields{"format": responseText, "verbosity": isString}),
	"reasoning":            shape(fields{"effort": isString, "summary": isString}),
	"metadata":             stringMap,
	"store":                onlyFalse("Nothing is stored here: answers cannot be fetched again."),
	"background":           onlyFalse("There are no background answers here: nothing is stored."),
	"previous_response_id": never1("Nothing is stored here: send the whole conversation as 'input'."),
	"conversation":         never1("Nothing is stored here: send the whole conversation as 'input'."),
	"prompt":               never1("There are no stored prompts here: send 'instructions' and 'input'."),
	"truncation":           oneOf("disabled"),
	"include":              arrayOf(oneOf("message.output_text.logprobs", "reasoning.encrypted_content"), 16),
	"top_logprobs":         integerIn(0, 20),
	"max_tool_calls":       never1("No tool is run here, so there is nothing to limit."),
	"service_tier":         isString,
	"prompt_cache_key":     isString,
	"safety_identifier":    isString,
	"stream_options":       shape(fields{"include_obfuscation": isBool}),
	"chat_template_kwargs": isObject,
})

// never1 refuses a field for a reason; onlyFalse all but false.
func never1(why string) check {
	return func(path string, _ json.RawMessage) *openai.Error { return openai.Unsupported(path, "%s", why) }
}

func onlyFalse(why string) check {
	return func(path string, v json.RawMessage) *openai.Error {
		if err := isBool(path, v); err != nil {
			return err
		}
		if string(v) == "true" {
			return openai.Unsupported(path, "%s", why)
		}
		return nil
	}
}

func responseTool(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	if err := (fields{"type": isString}).check(path+".", o, "type"); err != nil {
		return err
	}
	if raw, _ := o.Get("type"); str(raw) != "function" {
		return openai.Unsupported(path+".type", "Only tools of type 'function' exist here: nothing is searched or run on the caller's behalf.")
	}
	return fields{"name": isFunctionName, "description": isString, "parameters": isObject, "strict": isBool}.check(path+".", o, "name")
}

func responseText(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	if err := (fields{"type": oneOf("text", "json_object", "json_schema")}).check(path+".", o, "type"); err != nil {
		return err
	}
	if raw, _ := o.Get("type"); str(raw) != "json_schema" {
		return nil
	}
	return fields{"name": isString, "description": isString, "schema": isObject, "strict": isBool}.check(path+".", o, "name", "schema")
}

func isInputItem(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	prefix := path + "."
	if err := (fields{"type": isString}).check(prefix, o); err != nil {
		return err
	}
	raw, _ := o.Get("type")
	switch str(raw) {
	case "", "message":
		return fields{
			"role":    oneOf("user", "assistant", "system", "developer"),
			"content": either('"', isString, either('[', arrayOf(isInputPart, many), wrong("a string or an array of content parts"))),
		}.check(prefix, o, "role", "content")
	case "function_call":
		return fields{"call_id": isString, "name": isString, "arguments": isString}.check(prefix, o, "call_id", "name", "arguments")
	case "function_call_output":
		return fields{
			"call_id": isString,
			"output":  either('"', isString, either('[', arrayOf(isInputPart, many), wrong("a string or an array of content parts"))),
		}.check(prefix, o, "call_id", "output")
	case "reasoning":
		return nil
	}
	return openai.Unsupported(prefix+"type", "Input items of this type need state or tools that do not exist here.")
}

func isInputPart(path string, v json.RawMessage) *openai.Error {
	o, err := object(path, v)
	if err != nil {
		return err
	}
	prefix := path + "."
	if err := (fields{"type": isString}).check(prefix, o, "type"); err != nil {
		return err
	}
	raw, _ := o.Get("type")
	switch str(raw) {
	case "input_text", "output_text", "text":
		return fields{"text": isString}.check(prefix, o, "text")
	case "refusal":
		return fields{"refusal": isString}.check(prefix, o, "refusal")
	case "input_image":
		return fields{"image_url": isDataURL, "detail": isString, "file_id": noFiles}.check(prefix, o, "image_url")
	case "input_file":
		return fields{"file_data": isString, "filename": isString, "file_id": noFiles, "file_url": noFiles}.check(prefix, o, "file_data")
	case "input_audio":
		return fields{"input_audio": shape(fields{"data": isString, "format": isString}, "data", "format")}.check(prefix, o, "input_audio")
	}
	return openai.Unsupported(prefix+"type", "Content parts of this type are not served here.")
}

// parseResponses turns a responses request into a chat call.
func (g *Gateway) parseResponses(x *exchange, body []byte) (*request, error) {
	o, fail := parseBody(body)
	if fail != nil {
		return nil, fail
	}
	if fail := responseFields.check("", o, "model", "input"); fail != nil {
		return nil, fail
	}
	f := &responseForm{request: o, id: newID("resp_"), created: time.Now().Unix()}
	chat, fail := f.chat()
	if fail != nil {
		return nil, fail
	}
	rq, fail := g.buildRequest(pathChat, x.r.Header, chat, len(body))
	if fail != nil {
		return nil, renamed(fail, responseNames)
	}
	rq.form = f
	return rq, nil
}

// responseNames are the fields whose names differ in the two forms.
var responseNames = []string{
	"max_completion_tokens", "max_output_tokens", "max_tokens", "max_output_tokens", "messages", "input",
	"response_format.json_schema", "text.format", "response_format", "text.format", "reasoning_effort", "reasoning.effort", ".function.parameters", ".parameters",
}

// renamed puts an error about a chat completion in the words of another form.
func renamed(e *openai.Error, names []string) *openai.Error {
	c := *e
	r := strings.NewReplacer(names...)
	c.Param, c.Message = r.Replace(e.Param), r.Replace(e.Message)
	return &c
}

func newID(prefix string) string { return prefix + strings.ToLower(rand.Text()) }

// copied moves members from one object to another under other names.
func copied(to, from *openai.Object, names ...string) {
	for i := 0; i < len(names); i += 2 {
		if v, ok := from.Get(names[i]); ok && kind(v) != 'n' {
			to.Set(names[i+1], v)
		}
	}
}

// responseForm tells an answer as a response.
type responseForm struct {
	request *openai.Object
	id      string
	created int64
	blocks  blocks
	seq     int
}

// chat makes the chat completion.
func (f *responseForm) chat() (*openai.Object, *openai.Error) {
	o, chat := f.request, &openai.Object{}
	copied(chat, o, "model", "model")
	m := &messageList{}
	if v, ok := o.Get("instructions"); ok && kind(v) != 'n' {
		m.say("system", v)
	}
	input, _ := o.Get("input")
	if kind(input) == '"' {
		m.say("user", input)
	}
	for _, item := range openai.Elements(input) {
		m.item(item)
	}
	chat.Set("messages", m.done())
	copied(chat, o, "max_output_tokens", "max_completion_tokens", "temperature", "temperature", "top_p", "top_p", "presence_penalty", "presence_penalty",
		"frequency_penalty", "frequency_penalty", "seed", "seed", "stop", "stop", "stream", "stream", "user", "user", "metadata", "metadata", "parallel_tool_calls", "parallel_tool_calls",
		"service_tier", "service_tier", "prompt_cache_key", "prompt_cache_key", "safety_identifier", "safety_identifier", "cocoon", "cocoon",
		"max_coefficient", "max_coefficient", "timeout", "timeout", "chat_template_kwargs", "chat_template_kwargs", "logit_bias", "logit_bias")
	if v, ok := o.Get("reasoning"); ok && kind(v) != 'n' {
		r, _ := openai.ParseObject(v)
		copied(chat, r, "effort", "reasoning_effort")
	}
	if v, ok := o.Get("text"); ok && kind(v) != 'n' {
		t, _ := openai.ParseObject(v)
		copied(chat, t, "verbosity", "verbosity")
		if v, ok := t.Get("format"); ok && kind(v) != 'n' {
			format, _ := openai.ParseObject(v)
			t, _ := format.Get("type")
			out := &openai.Object{}
			out.Set("type", t)
			if str(t) == "json_schema" {
				js := &openai.Object{}
				copied(js, format, "name", "name", "description", "description", "schema", "schema", "strict", "strict")
				if fail := setObject(out, "json_schema", js); fail != nil {
					return nil, fail
				}
			}
			if fail := setObject(chat, "response_format", out); fail != nil {
				return nil, fail
			}
		}
	}
	if v, ok := o.Get("tools"); ok && kind(v) != 'n' {
		list := []byte{'['}
		for i, t := range openai.Elements(v) {
			t, _ := openai.ParseObject(t)
			fn := &openai.Object{}
			copied(fn, t, "name", "name", "description", "description", "parameters", "parameters", "strict", "strict")
			b, err := fn.AppendJSON(nil)
			if err != nil {
				return nil, tooMany("tools")
			}
			if i > 0 {
				list = append(list, ',')
			}
			list = fmt.Appendf(list, `{"type":"function","function":%s}`, b)
		}
		if list = append(list, ']'); len(list) > 2 {
			chat.Set("tools", list)
		}
	}
	if v, ok := o.Get("tool_choice"); ok && kind(v) != 'n' {
		if c, err := openai.ParseObject(v); err == nil {
			v = chatChoice(c)
		}
		chat.Set("tool_choice", v)
	}
	include, _ := o.Get("include")
	for _, v := range openai.Elements(include) {
		if str(v) == "message.output_text.logprobs" {
			chat.Set("logprobs", json.RawMessage("true"))
		}
	}
	if v, ok := o.Get("top_logprobs"); ok && kind(v) != 'n' && string(v) != "0" {
		chat.Set("logprobs", json.RawMessage("true"))
		chat.Set("top_logprobs", v)
	}
	return chat, nil
}

func setObject(o *openai.Object, key string, v *openai.Object) *openai.Error {
	b, err := v.AppendJSON(nil)
	if err != nil {
		return tooMany(key)
	}
	o.Set(key, b)
	return nil
}

func tooMany(path string) *openai.Error {
	return openai.InvalidJSON("'%s' has an object of more than %d members.", path, openai.MaxMembers)
}

// messageList makes the messages of a chat completion. Calls that follow an
// assistant's message belong to it.
type messageList struct {
	out   []byte
	text  json.RawMessage // content of an assistant's message that is not written yet
	calls []byte
	open  bool
}

// say adds a message with a content that is JSON.
func (m *messageList) say(role string, content json.RawMessage) {
	m.flush()
	if role == "assistant" {
		m.text, m.open = content, true
		return
	}
	m.write(fmt.Appendf(nil, `{"role":%q,"content":%s}`, role, content))
}

func (m *messageList) call(id, name, arguments json.RawMessage) {
	m.open = true
	if len(m.calls) > 0 {
		m.calls = append(m.calls, ',')
	}
	m.calls = fmt.Appendf(m.calls, `{"id":%s,"type":"function","function":{"name":%s,"arguments":%s}}`, id, name, arguments)
}

func (m *messageList) result(id, content json.RawMessage) {
	m.flush()
	m.write(fmt.Appendf(nil, `{"role":"tool","tool_call_id":%s,"content":%s}`, id, content))
}

func (m *messageList) write(b []byte) {
	if len(m.out) > 0 {
		m.out = append(m.out, ',')
	}
	m.out = append(m.out, b...)
}

func (m *messageList) flush() {
	if !m.open {
		return
	}
	b := []byte(`{"role":"assistant"`)
	if m.text != nil {
		b = append(append(b, `,"content":`...), m.text...)
	} else {
		b = append(b, `,"content":null`...)
	}
	if len(m.calls) > 0 {
		b = append(append(append(b, `,"tool_calls":[`...), m.calls...), ']')
	}
	m.write(append(b, '}'))
	m.open, m.text, m.calls = false, nil, nil
}

func (m *messageList) done() json.RawMessage {
	m.flush()
	return append(append([]byte{'['}, m.out...), ']')
}

// item adds a checked input item.
func (m *messageList) item(v json.RawMessage) {
	o, _ := openai.ParseObject(v)
	get := func(name string) json.RawMessage { v, _ := o.Get(name); return v }
	switch str(get("type")) {
	case "function_call":
		m.call(get("call_id"), get("name"), get("arguments"))
	case "function_call_output":
		m.result(get("call_id"), inputContent(get("output")))
	case "reasoning": // engines want none of it back
	default:
		m.say(str(get("role")), inputContent(get("content")))
	}
}

// inputContent turns the parts of an input item into those of a message.
func inputContent(v json.RawMessage) json.RawMessage {
	if kind(v) == '"' {
		return v
	}
	out := []byte{'['}
	for i, p := range openai.Elements(v) {
		o, _ := openai.ParseObject(p)
		get := func(name string) json.RawMessage { v, _ := o.Get(name); return v }
		if i > 0 {
			out = append(out, ',')
		}
		switch str(get("type")) {
		case "refusal":
			out = fmt.Appendf(out, `{"type":"refusal","refusal":%s}`, get("refusal"))
		case "input_image":
			out = fmt.Appendf(out, `{"type":"image_url","image_url":{"url":%s`, get("image_url"))
			if d := get("detail"); kind(d) == '"' {
				out = fmt.Appendf(out, `,"detail":%s`, d)
			}
			out = append(out, "}}"...)
		case "input_file":
			out = fmt.Appendf(out, `{"type":"file","file":{"file_data":%s`, get("file_data"))
			if n := get("filename"); kind(n) == '"' {
				out = fmt.Appendf(out, `,"filename":%s`, n)
			}
			out = append(out, "}}"...)
		case "input_audio":
			out = fmt.Appendf(out, `{"type":"input_audio","input_audio":%s}`, get("input_audio"))
		default:
			out = fmt.Appendf(out, `{"type":"text","text":%s}`, get("text"))
		}
	}
	return append(out, ']')
}

// The answer.

func (f *responseForm) whole(answer, usage []byte) (string, []byte, error) {
	if err := f.blocks.chunk(answer, noSink{}); err != nil {
		return "", nil, err
	}
	for _, b := range f.blocks.list {
		f.name(b)
	}
	return "application/json", f.object(f.status(), usage), nil
}

// status says how the answer ended.
func (f *responseForm) status() string {
	switch f.blocks.reason {
	case "length", "content_filter":
		return "incomplete"
	}
	return "completed"
}

// name gives a block its id.
func (f *responseForm) name(b *block) {
	b.id = newID(map[blockKind]string{blockReasoning: "rs_", blockText: "msg_", blockRefusal: "msg_", blockCall: "fc_"}[b.kind])
	if b.kind == blockCall && b.callID == "" {
		b.callID = newID("call_")
	}
}

// object writes the response. usage is a chat completion's, nil = not yet.
func (f *responseForm) object(status string, usage []byte) []byte {
	o := f.request
	b := fmt.Appendf(nil, `{"id":%q,"object":"response","created_at":%d,"status":%q,"error":null,"incomplete_details":`, f.id, f.created, status)
	switch {
	case status == "incomplete" && f.blocks.reason == "length":
		b = append(b, `{"reason":"max_output_tokens"}`...)
	case status == "incomplete":
		b = append(b, `{"reason":"content_filter"}`...)
	default:
		b = append(b, "null"...)
	}
	b = append(b, `,"background":false,"output":[`...)
	if status != "in_progress" {
		for i, x := range f.blocks.list {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, f.item(x, "completed")...)
		}
	}
	b = append(b, `],"previous_response_id":null,"store":false,"truncation":"disabled"`...)
	for _, echo := range []struct{ name, absent string }{
		{"model", "null"}, {"instructions", "null"}, {"max_output_tokens", "null"}, {"metadata", "{}"}, {"parallel_tool_calls", "true"},
		{"reasoning", `{"effort":null,"summary":null}`}, {"temperature", "null"}, {"text", `{"format":{"type":"text"}}`}, {"tool_choice", `"auto"`}, {"tools", "[]"},
		{"top_p", "null"}, {"top_logprobs", "0"}, {"user", "null"}, {"service_tier", `"default"`},
	} {
		v, ok := o.Get(echo.name)
		if !ok || kind(v) == 'n' {
			v = json.RawMessage(echo.absent)
		}
		b = append(fmt.Appendf(b, `,%q:`, echo.name), v...)
	}
	b = append(b, `,"usage":`...)
	if usage == nil {
		return append(b, "null}"...)
	}
	return append(append(b, responseUsage(usage)...), '}')
}

// responseUsage writes a chat completion's usage in the names of responses.
func responseUsage(usage []byte) []byte {
	u, cost := splitUsage(usage)
	return fmt.Appendf(nil, `{"input_tokens":%d,"input_tokens_details":{"cached_tokens":%d},"output_tokens":%d,"output_tokens_details":{"reasoning_tokens":%d},"total_tokens":%d,"cost_nano":%s}`,
		u.PromptTokens, u.CachedTokens, u.CompletionTokens, u.ReasoningTokens, u.PromptTokens+u.CompletionTokens, cost)
}

// splitUsage reads the counters and the cost of a usage object.
func splitUsage(usage []byte) (u openai.Usage, cost string) {
	_ = u.UnmarshalJSON(usage) // ours, or checked
	cost = "0"
	if o, err := openai.ParseObject(usage); err == nil {
		if v, ok := o.Get("cost_nano"); ok {
			cost = string(v)
		}
	}
	return u, cost
}

// item writes an output item.
func (f *responseForm) item(x *block, status string) []byte {
	text := openai.AppendString(nil, x.text.String())
	switch x.kind {
	case blockReasoning:
		return fmt.Appendf(nil, `{"id":%q,"type":"reasoning","status":%q,"summary":[],"content":[{"type":"reasoning_text","text":%s}]}`, x.id, status, text)
	case blockCall:
		return fmt.Appendf(nil, `{"id":%q,"type":"function_call","status":%q,"call_id":%s,"name":%s,"arguments":%s}`,
			x.id, status, openai.AppendString(nil, x.callID), openai.AppendString(nil, x.name), text)
	}
	return fmt.Appendf(nil, `{"id":%q,"type":"message","status":%q,"role":"assistant","content":[%s]}`, x.id, status, f.part(x, text))
}

// part writes the one content part of a message.
func (f *responseForm) part(x *block, text []byte) []byte {
	if x.kind == blockRefusal {
		return fmt.Appendf(nil, `{"type":"refusal","refusal":%s}`, text)
	}
	return fmt.Appendf(nil, `{"type":"output_text","text":%s,"annotations":[],"logprobs":%s}`, text, rawList(x.logprobs))
}

func rawList(list []json.RawMessage) []byte {
	b := []byte{'['}
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, v...)
	}
	return append(b, ']')
}

// send writes one event; members begins with a comma or is empty.
func (f *responseForm) send(w *streamWriter, event, members string) error {
	b := fmt.Appendf(nil, `{"type":%q,"sequence_number":%d%s}`, event, f.seq, members)
	f.seq++
	return w.named(event, b)
}

func (f *responseForm) begin(w *streamWriter) error {
	for _, event := range []string{"response.created", "response.in_progress"} {
		if err := f.send(w, event, `,"response":`+string(f.object("in_progress", nil))); err != nil {
			return err
		}
	}
	return nil
}

func (f *responseForm) chunk(w *streamWriter, data []byte) error {
	return f.blocks.chunk(data, responseSink{f, w})
}

func (f *responseForm) end(w *streamWriter, usage []byte) error {
	if err := f.blocks.shut(responseSink{f, w}); err != nil {
		return err
	}
	status := f.status()
	return f.send(w, "response."+status, `,"response":`+string(f.object(status, usage)))
}

func (f *responseForm) fail(w *streamWriter, e *openai.Error) error {
	param := "null"
	if e.Param != "" {
		param = string(openai.AppendString(nil, e.Param))
	}
	return f.send(w, "error", fmt.Sprintf(`,"code":%q,"message":%s,"param":%s`, e.Code, openai.AppendString(nil, e.Message), param))
}

// responseSink writes blocks as they grow.
type responseSink struct {
	f *responseForm
	w *streamWriter
}

func (s responseSink) at(x *block) string {
	return fmt.Sprintf(`,"item_id":%q,"output_index":%d`, x.id, x.index)
}

func (s responseSink) open(x *block) error {
	f := s.f
	f.name(x)
	var item string
	switch x.kind {
	case blockReasoning:
		item = fmt.Sprintf(`{"id":%q,"type":"reasoning","status":"in_progress","summary":[],"content":[]}`, x.id)
	case blockCall:
		item = string(f.item(x, "in_progress"))
	default:
		item = fmt.Sprintf(`{"id":%q,"type":"message","status":"in_progress","role":"assistant","content":[]}`, x.id)
	}
	if err := f.send(s.w, "response.output_item.added", fmt.Sprintf(`,"output_index":%d,"item":%s`, x.index, item)); err != nil || x.kind == blockCall {
		return err
	}
	return f.send(s.w, "response.content_part.added", s.at(x)+`,"content_index":0,"part":`+s.part(x))
}

func (s responseSink) part(x *block) string {
	text := openai.AppendString(nil, x.text.String())
	if x.kind == blockReasoning {
		return fmt.Sprintf(`{"type":"reasoning_text","text":%s}`, text)
	}
	return string(s.f.part(x, text))
}

var responseEvents = map[blockKind]string{blockReasoning: "reasoning_text", blockText: "output_text", blockRefusal: "refusal", blockCall: "function_call_arguments"}

func (s responseSink) add(x *block, text string, logprobs []json.RawMessage) error {
	members := s.at(x)
	if x.kind != blockCall {
		members += `,"content_index":0`
	}
	members += `,"delta":` + string(openai.AppendString(nil, text))
	if x.kind == blockText {
		members += `,"logprobs":` + string(rawList(logprobs))
	}
	return s.f.send(s.w, "response."+responseEvents[x.kind]+".delta", members)
}

func (s responseSink) close(x *block) error {
	f, text := s.f, string(openai.AppendString(nil, x.text.String()))
	var members string
	switch x.kind {
	case blockCall:
		members = fmt.Sprintf(`,"name":%s,"arguments":%s`, openai.AppendString(nil, x.name), text)
	case blockRefusal:
		members = `,"content_index":0,"refusal":` + text
	case blockText:
		members = `,"content_index":0,"text":` + text + `,"logprobs":` + string(rawList(x.logprobs))
	default:
		members = `,"content_index":0,"text":` + text
	}
	if err := f.send(s.w, "response."+responseEvents[x.kind]+".done", s.at(x)+members); err != nil {
		return err
	}
	if x.kind != blockCall {
		if err := f.send(s.w, "response.content_part.done", s.at(x)+`,"content_index":0,"part":`+s.part(x)); err != nil {
			return err
		}
	}
	return f.send(s.w, "response.output_item.done", fmt.Sprintf(`,"output_index":%d,"item":%s`, x.index, f.item(x, "completed")))
}
