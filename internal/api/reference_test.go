package api

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

func TestForReference(t *testing.T) {
	b := &wordBackend{referenceOnly: true}
	g := newGateway(t, b, func(c *Config) { c.Reference = true })
	const m = `"messages":[{"role":"user","content":"a"}]`
	const tail = `,"max_tokens":1024,"max_completion_tokens":1024}`
	for _, c := range []struct{ in, want, param string }{
		// Put in their words.
		{in: `{"model":"words",` + m + `,"stop":"x"}`, want: `{"model":"words",` + m + `,"stop":["x"]` + tail},
		{in: `{"model":"words",` + m + `,"stop":["x"],"seed":1,"logprobs":true,"top_logprobs":2,"user":"u"}`, want: `{"model":"words",` + m + `,"stop":["x"],"seed":1,"logprobs":true,"top_logprobs":2,"user":"u"` + tail},
		{in: `{"model":"words",` + m + `,"response_format":{"type":"text"},"service_tier":"auto","tools":[ ],"tool_choice":"none","logit_bias":{},"metadata":{}}`, want: `{"model":"words",` + m + tail},
		{in: `{"model":"words","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}]}`, want: `{"model":"words","messages":[{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]}]` + tail},
		{in: `{"model":"words","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image","image":{"url":"u"}}]}],"chat_template_kwargs":{"enable_thinking":false}}`, want: `{"model":"words","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image","image":{"url":"u"}}]}],"chat_template_kwargs":{"enable_thinking":false}` + tail},
		{in: `{"model":"words",` + m + `,"stream":true}`, want: `{"model":"words",` + m + `,"stream":true,"stream_options":{"include_usage":true}` + tail},
		// Refused before anything is spent.
		{in: `{"model":"words",` + m + `,"tools":[{"type":"function","function":{"name":"f"}}]}`, param: "tools"},
		{in: `{"model":"words",` + m + `,"tool_choice":"auto"}`, param: "tool_choice"},
		{in: `{"model":"words",` + m + `,"response_format":{"type":"json_object"},"metadata":{"a":"b"}}`, param: "response_format"},
		{in: `{"model":"words",` + m + `,"service_tier":"flex"}`, param: "service_tier"},
		{in: `{"model":"words",` + m + `,"metadata":{"a":"b"}}`, param: "metadata"},
		{in: `{"model":"words",` + m + `,"logit_bias":{"1":1}}`, param: "logit_bias"},
		{in: `{"model":"words",` + m + `,"top_k":5}`, param: "top_k"},
		{in: `{"model":"words",` + m + `,"anything":null}`, param: "anything"},
		{in: `{"model":"words",` + m + `,"stream":true,"stream_options":{"continuous_usage_stats":true}}`, param: "stream_options.continuous_usage_stats"},
		{in: `{"model":"words",` + m + `,"chat_template_kwargs":{"x":1}}`, param: "chat_template_kwargs.x"},
		{in: msg(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]}`), param: "messages[0].content[0].type"},
		{in: msg(`{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"aGk=","format":"wav"}}]}`), param: "messages[0].content[0].input_audio.data"},
		{in: msg(`{"role":"assistant","content":"a","reasoning_content":"b"}`), param: "messages[0].reasoning_content"},
		{in: msg(`{"role":"tool","tool_call_id":"a","content":"b","name":"c"}`), param: "messages[0].name"},
		{in: msg(`{"role":"assistant","tool_calls":[{"id":"a","type":"function","index":0,"function":{"name":"f","arguments":"{}"}}]}`), param: "messages[0].tool_calls[0].index"},
	} {
		b.last = Call{}
		w := ask(g, "POST", chatPath, c.in)
		if c.param != "" {
			if _, code, param := errorOf(t, w.Body.Bytes()); w.Code != 400 || code != openai.CodeUnsupported || param != c.param {
				t.Errorf("%s: %d %s %s, want param %s", c.in, w.Code, code, param, c.param)
			}
			if b.call().Path != "" {
				t.Errorf("%s: the call went out", c.in)
			}
			continue
		}
		if w.Code != 200 || string(b.call().Body) != c.want {
			t.Errorf("%d\n%s, want\n%s", w.Code, b.call().Body, c.want)
		}
	}
	for in, param := range map[string]string{text(`"logprobs":1`): "logprobs", `{"model":"words","prompt":[1,2]}`: "prompt[0]", text(`"response_format":{"type":"text"}`): "", text(`"suffix":"s","best_of":1`): ""} {
		w := ask(g, "POST", "/v1/completions", in)
		if param == "" {
			if w.Code != 200 {
				t.Errorf("%s: %s", in, w.Body)
			}
			continue
		}
		if _, _, got := errorOf(t, w.Body.Bytes()); got != param {
			t.Errorf("%s: param %q, want %q", in, got, param)
		}
	}
}

// TestReferenceNames holds the list of fields to the one the specification
// gives (changes-2026-04 7.2), written down once more in testdata.
func TestReferenceNames(t *testing.T) {
	b, err := os.ReadFile("testdata/reference-fields.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string][]string
	if err := json.Unmarshal(b, &want); err != nil {
		t.Fatal(err)
	}
	for path, have := range map[string]fields{"chat": referenceChat, "completions": referenceCompletion} {
		if len(want[path]) < 10 {
			t.Fatalf("testdata lists %d fields for %s", len(want[path]), path)
		}
		listed := map[string]bool{}
		for _, name := range want[path] {
			listed[name] = true
			if _, ok := have[name]; !ok {
				t.Errorf("%s: %s is refused", path, name)
			}
		}
		for name := range have {
			if !listed[name] {
				t.Errorf("%s: %s is accepted", path, name)
			}
		}
	}
	if strings.Contains(string(b), "tools") {
		t.Error("tools are listed")
	}
}
