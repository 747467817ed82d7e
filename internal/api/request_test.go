package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// with returns the hello call with more members.
func with(members string) string { return hello[:len(hello)-1] + "," + members + "}" }

// msg returns a call whose only message is m.
func msg(m string) string { return `{"model":"words","messages":[` + m + `]}` }

// text returns a completion call with more members.
func text(members string) string { return `{"model":"words","prompt":"a",` + members + `}` }

func TestBadRequests(t *testing.T) {
	const textPath = "/v1/completions"
	b := &wordBackend{}
	g := newGateway(t, b, func(c *Config) { c.MaxBody, c.MaxTokens = 4096, 100_000 })
	cases := []struct {
		path, body string
		status     int
		code       string
		param      string
	}{
		// The body as such.
		{chatPath, ``, 415, openai.CodeUnsupportedMedia, ""},
		{chatPath, ` `, 400, openai.CodeInvalidJSON, ""},
		{chatPath, `{`, 400, openai.CodeInvalidJSON, ""},
		{chatPath, `[]`, 400, openai.CodeInvalidJSON, ""},
		{chatPath, `null`, 400, openai.CodeInvalidJSON, ""},
		{chatPath, hello + "x", 400, openai.CodeInvalidJSON, ""},
		{chatPath, hello + hello, 400, openai.CodeInvalidJSON, ""},
		{chatPath, "\ufeff" + hello, 400, openai.CodeInvalidJSON, ""},
		{chatPath, "{\"model\":\"\xff\"}", 400, openai.CodeInvalidJSON, ""},
		{chatPath, with(`"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200)), 400, openai.CodeInvalidJSON, ""},
		{chatPath, with(`"x":"` + strings.Repeat("x", 5000) + `"`), 413, openai.CodeTooLarge, ""},
		// Model.
		{chatPath, `{"messages":[{"role":"user","content":"a"}]}`, 400, openai.CodeMissingParameter, "model"},
		{chatPath, `{"model":null,"messages":[]}`, 400, openai.CodeMissingParameter, "model"},
		{chatPath, `{"model":5,"messages":[{"role":"user","content":"a"}]}`, 400, openai.CodeInvalidType, "model"},
		{chatPath, `{"model":"","messages":[{"role":"user","content":"a"}]}`, 400, openai.CodeInvalidValue, "model"},
		{chatPath, `{"model":"` + strings.Repeat("m", 300) + `","messages":[{"role":"user","content":"a"}]}`, 400, openai.CodeInvalidValue, "model"},
		{chatPath, `{"model":"other","messages":[{"role":"user","content":"a"}]}`, 404, openai.CodeModelNotFound, "model"},
		{chatPath, with(`"metadata":{"a":1}`), 400, openai.CodeInvalidType, "metadata"},
		{chatPath, with(`"functions":[{"name":"f"}]`), 400, openai.CodeUnsupported, "functions"},
		{chatPath, with(`"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function"}`), 400, openai.CodeMissingParameter, "tool_choice.function"},
		{chatPath, with(`"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"allowed_tools"}`), 400, openai.CodeMissingParameter, "tool_choice.allowed_tools"},
		{chatPath, with(`"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"none","tools":[]}}`), 400, openai.CodeInvalidValue, "tool_choice.allowed_tools.mode"},
		{chatPath, with(`"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}`), 400, openai.CodeInvalidValue, "tool_choice.allowed_tools.tools"},
		{chatPath, with(`"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"g"}}]}}`), 400, openai.CodeInvalidValue, "tool_choice"},
		// Messages.
		{chatPath, `{"model":"words"}`, 400, openai.CodeMissingParameter, "messages"},
		{chatPath, `{"model":"words","messages":"hi"}`, 400, openai.CodeInvalidType, "messages"},
		{chatPath, `{"model":"words","messages":[ ]}`, 400, openai.CodeInvalidValue, "messages"},
		{chatPath, msg(`"hi"`), 400, openai.CodeInvalidType, "messages[0]"},
		{chatPath, msg(`null`), 400, openai.CodeInvalidType, "messages[0]"},
		{chatPath, msg(`{"content":"a"}`), 400, openai.CodeMissingParameter, "messages[0].role"},
		{chatPath, msg(`{"role":1,"content":"a"}`), 400, openai.CodeInvalidType, "messages[0].role"},
		{chatPath, msg(`{"role":"robot","content":"a"}`), 400, openai.CodeInvalidValue, "messages[0].role"},
		{chatPath, msg(`{"role":"user"}`), 400, openai.CodeMissingParameter, "messages[0].content"},
		{chatPath, msg(`{"role":"user","content":null}`), 400, openai.CodeMissingParameter, "messages[0].content"},
		{chatPath, msg(`{"role":"user","content":{}}`), 400, openai.CodeInvalidType, "messages[0].content"},
		{chatPath, msg(`{"role":"user","content":"a","name":3}`), 400, openai.CodeInvalidType, "messages[0].name"},
		{chatPath, msg(`{"role":"user","content":"a"},{"role":"system","content":7}`), 400, openai.CodeInvalidType, "messages[1].content"},
		{chatPath, msg(`{"role":"user","role":"x","content":"a"}`), 400, openai.CodeInvalidValue, "messages[0].role"},
		{chatPath, msg(`{"role":"user","content":["a"]}`), 400, openai.CodeInvalidType, "messages[0].content[0]"},
		{chatPath, msg(`{"role":"user","content":[{"text":"a"}]}`), 400, openai.CodeMissingParameter, "messages[0].content[0].type"},
		{chatPath, msg(`{"role":"user","content":[{"type":"","text":"a"}]}`), 400, openai.CodeInvalidValue, "messages[0].content[0].type"},
		{chatPath, msg(`{"role":"user","content":[{"type":"text"}]}`), 400, openai.CodeMissingParameter, "messages[0].content[0].text"},
		{chatPath, msg(`{"role":"user","content":[{"type":"text","text":["a"]}]}`), 400, openai.CodeInvalidType, "messages[0].content[0].text"},
		{chatPath, msg(`{"role":"user","content":[{"type":"image_url","image_url":"http://a"}]}`), 400, openai.CodeInvalidType, "messages[0].content[0].image_url"},
		{chatPath, msg(`{"role":"user","content":[{"type":"image_url","image_url":{}}]}`), 400, openai.CodeMissingParameter, "messages[0].content[0].image_url.url"},
		{chatPath, msg(`{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"aa"}}]}`), 400, openai.CodeMissingParameter, "messages[0].content[0].input_audio.format"},
		{chatPath, msg(`{"role":"assistant"}`), 400, openai.CodeMissingParameter, "messages[0].content"},
		{chatPath, msg(`{"role":"assistant","content":null}`), 400, openai.CodeMissingParameter, "messages[0].content"},
		{chatPath, msg(`{"role":"assistant","tool_calls":{}}`), 400, openai.CodeInvalidType, "messages[0].tool_calls"},
		{chatPath, msg(`{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f","arguments":"{}"}}]}`), 400, openai.CodeMissingParameter, "messages[0].tool_calls[0].id"},
		{chatPath, msg(`{"role":"assistant","tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":{}}}]}`), 400, openai.CodeInvalidType, "messages[0].tool_calls[0].function.arguments"},
		{chatPath, msg(`{"role":"tool","content":"a"}`), 400, openai.CodeMissingParameter, "messages[0].tool_call_id"},
		{chatPath, msg(`{"role":"function","content":"a"}`), 400, openai.CodeMissingParameter, "messages[0].name"},
		// Limits and choices.
		{chatPath, with(`"max_tokens":-1`), 400, openai.CodeInvalidValue, "max_tokens"},
		{chatPath, with(`"max_tokens":0`), 400, openai.CodeInvalidValue, "max_tokens"},
		{chatPath, with(`"max_tokens":1.5`), 400, openai.CodeInvalidType, "max_tokens"},
		{chatPath, with(`"max_tokens":1e2`), 400, openai.CodeInvalidType, "max_tokens"},
		{chatPath, with(`"max_tokens":"5"`), 400, openai.CodeInvalidType, "max_tokens"},
		{chatPath, with(`"max_tokens":3000000000`), 400, openai.CodeInvalidValue, "max_tokens"},
		{chatPath, with(`"max_tokens":99999999999999999999999`), 400, openai.CodeInvalidValue, "max_tokens"},
		{chatPath, with(`"max_tokens":100001`), 400, openai.CodeInvalidValue, "max_tokens"},
		{chatPath, with(`"max_completion_tokens":-5`), 400, openai.CodeInvalidValue, "max_completion_tokens"},
		{chatPath, with(`"max_completion_tokens":50001,"n":2`), 400, openai.CodeInvalidValue, "max_completion_tokens"},
		{chatPath, with(`"n":0`), 400, openai.CodeInvalidValue, "n"},
		{chatPath, with(`"n":-5`), 400, openai.CodeInvalidValue, "n"},
		{chatPath, with(`"n":1000`), 400, openai.CodeInvalidValue, "n"},
		{chatPath, with(`"n":true`), 400, openai.CodeInvalidType, "n"},
		{chatPath, with(`"best_of":1,"n":2`), 400, openai.CodeInvalidValue, "best_of"},
		{textPath, text(`"best_of":2,"stream":true`), 400, openai.CodeInvalidValue, "best_of"},
		// Sampling.
		{chatPath, with(`"temperature":"hot"`), 400, openai.CodeInvalidType, "temperature"},
		{chatPath, with(`"temperature":2.1`), 400, openai.CodeInvalidValue, "temperature"},
		{chatPath, with(`"temperature":-0.1`), 400, openai.CodeInvalidValue, "temperature"},
		{chatPath, with(`"temperature":1e999`), 400, openai.CodeInvalidValue, "temperature"},
		{chatPath, with(`"top_p":1.01`), 400, openai.CodeInvalidValue, "top_p"},
		{chatPath, with(`"frequency_penalty":-3`), 400, openai.CodeInvalidValue, "frequency_penalty"},
		{chatPath, with(`"presence_penalty":[]`), 400, openai.CodeInvalidType, "presence_penalty"},
		{chatPath, with(`"seed":1.0`), 400, openai.CodeInvalidType, "seed"},
		{chatPath, with(`"logit_bias":[]`), 400, openai.CodeInvalidType, "logit_bias"},
		{chatPath, with(`"logit_bias":{"5":101}`), 400, openai.CodeInvalidValue, "logit_bias"},
		{chatPath, with(`"logprobs":3`), 400, openai.CodeInvalidType, "logprobs"},
		{chatPath, with(`"logprobs":true,"top_logprobs":21`), 400, openai.CodeInvalidValue, "top_logprobs"},
		{chatPath, with(`"top_logprobs":2`), 400, openai.CodeInvalidValue, "top_logprobs"},
		{chatPath, with(`"stop":5`), 400, openai.CodeInvalidType, "stop"},
		{chatPath, with(`"stop":["a",5]`), 400, openai.CodeInvalidType, "stop[1]"},
		// The rest.
		{chatPath, with(`"stream":"yes"`), 400, openai.CodeInvalidType, "stream"},
		{chatPath, with(`"stream_options":{"include_usage":true}`), 400, openai.CodeInvalidValue, "stream_options"},
		{chatPath, with(`"stream":true,"stream_options":true`), 400, openai.CodeInvalidType, "stream_options"},
		{chatPath, with(`"stream":true,"stream_options":{"include_usage":1}`), 400, openai.CodeInvalidType, "stream_options.include_usage"},
		{chatPath, with(`"user":{}`), 400, openai.CodeInvalidType, "user"},
		{chatPath, with(`"metadata":{"a":1}`), 400, openai.CodeInvalidType, "metadata"},
		{chatPath, with(`"tools":{}`), 400, openai.CodeInvalidType, "tools"},
		{chatPath, with(`"tools":[{"function":{"name":"f"}}]`), 400, openai.CodeMissingParameter, "tools[0].type"},
		{chatPath, with(`"tools":[{"type":"function"}]`), 400, openai.CodeMissingParameter, "tools[0].function"},
		{chatPath, with(`"tools":[{"type":"function","function":{"name":"f","parameters":[]}}]`), 400, openai.CodeInvalidType, "tools[0].function.parameters"},
		{chatPath, with(`"tool_choice":"maybe"`), 400, openai.CodeInvalidValue, "tool_choice"},
		{chatPath, with(`"tool_choice":1`), 400, openai.CodeInvalidType, "tool_choice"},
		{chatPath, with(`"response_format":"json"`), 400, openai.CodeInvalidType, "response_format"},
		{chatPath, with(`"response_format":{"type":"json_schema"}`), 400, openai.CodeMissingParameter, "response_format.json_schema"},
		{chatPath, with(`"response_format":{"type":"json_schema","json_schema":{"schema":{}}}`), 400, openai.CodeMissingParameter, "response_format.json_schema.name"},
		{chatPath, with(`"max_coefficient":0`), 400, openai.CodeInvalidValue, "max_coefficient"},
		{chatPath, with(`"max_coefficient":"cheap"`), 400, openai.CodeInvalidType, "max_coefficient"},
		{chatPath, with(`"timeout":0`), 400, openai.CodeInvalidValue, "timeout"},
		{chatPath, with(`"timeout":-1`), 400, openai.CodeInvalidValue, "timeout"},
		{chatPath, with(`"timeout":1e300`), 400, openai.CodeInvalidValue, "timeout"},
		{chatPath, with(`"timeout":"1m"`), 400, openai.CodeInvalidType, "timeout"},
		// Completions.
		{textPath, `{"model":"words"}`, 400, openai.CodeMissingParameter, "prompt"},
		{textPath, `{"model":"words","prompt":5}`, 400, openai.CodeInvalidType, "prompt"},
		{textPath, `{"model":"words","prompt":[]}`, 400, openai.CodeInvalidValue, "prompt"},
		{textPath, `{"model":"words","prompt":["a",5]}`, 400, openai.CodeInvalidType, "prompt[1]"},
		{textPath, `{"model":"words","prompt":[5,-1]}`, 400, openai.CodeInvalidValue, "prompt[1]"},
		{textPath, `{"model":"words","prompt":[[1],[]]}`, 400, openai.CodeInvalidValue, "prompt[1]"},
		{textPath, `{"model":"words","prompt":[{}]}`, 400, openai.CodeInvalidType, "prompt[0]"},
		{textPath, text(`"logprobs":true`), 400, openai.CodeInvalidType, "logprobs"},
		{textPath, text(`"suffix":true`), 400, openai.CodeInvalidType, "suffix"},
		{textPath, text(`"echo":1`), 400, openai.CodeInvalidType, "echo"},
		{textPath, text(`"max_completion_tokens":5`), 400, openai.CodeUnsupported, "max_completion_tokens"},
	}
	if len(cases) < 60 {
		t.Fatalf("only %d cases", len(cases))
	}
	for _, c := range cases {
		b.last = Call{}
		w := ask(g, "POST", c.path, c.body)
		_, code, param := errorOf(t, w.Body.Bytes())
		if w.Code != c.status || code != c.code || param != c.param {
			t.Errorf("%.200s: %d %s %q, want %d %s %q", c.body, w.Code, code, param, c.status, c.code, c.param)
		}
		if c.status != 404 && b.last.Path != "" {
			t.Errorf("%.200s: the call went out", c.body)
		}
	}
}

func TestBadHeaders(t *testing.T) {
	g := newGateway(t, &wordBackend{}, nil)
	for _, c := range [][2]string{
		{"X-Cocoon-Timeout", "soon"}, {"X-Cocoon-Timeout", "0"}, {"X-Cocoon-Timeout", "1e9"}, {"X-Cocoon-Timeout", "0x10"},
		{"X-Cocoon-Max-Coefficient", "-1"}, {"X-Cocoon-Max-Coefficient", "1.5"}, {"X-Cocoon-Max-Coefficient", "{}"}, {"X-Cocoon-Max-Coefficient", "99999999999"},
	} {
		w := ask(g, "POST", chatPath, hello, c[0], c[1])
		want := openai.CodeInvalidValue
		if c[1] == "1.5" {
			want = openai.CodeInvalidType
		}
		if _, code, param := errorOf(t, w.Body.Bytes()); w.Code != 400 || code != want || param != c[0] {
			t.Errorf("%v: %d %s", c, w.Code, w.Body)
		}
	}
}

func TestRewriting(t *testing.T) {
	const m = `"messages":[{"role":"user","content":"a"}]`
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	for _, c := range []struct {
		name, path, in, want string
		header               []string
		maxTokens            int32
		coefficient          int32
		timeout              time.Duration
	}{
		{name: "default limit", in: `{"model":"words",` + m + `}`, want: `{"model":"words",` + m + `,"max_tokens":1024,"max_completion_tokens":1024}`, maxTokens: 1024},
		{name: "limit", in: `{"max_tokens":5,"model":"words",` + m + `}`, want: `{"max_tokens":5,"model":"words",` + m + `,"max_completion_tokens":5}`, maxTokens: 5},
		{name: "new limit", in: `{"model":"words",` + m + `,"max_completion_tokens":6}`, want: `{"model":"words",` + m + `,"max_completion_tokens":6,"max_tokens":6}`, maxTokens: 6},
		{name: "both limits", in: `{"model":"words",` + m + `,"max_completion_tokens":6,"max_tokens":9}`, want: `{"model":"words",` + m + `,"max_completion_tokens":6,"max_tokens":6}`, maxTokens: 6},
		{name: "both limits, other way", in: `{"model":"words",` + m + `,"max_completion_tokens":9,"max_tokens":6}`, want: `{"model":"words",` + m + `,"max_completion_tokens":6,"max_tokens":6}`, maxTokens: 6},
		{name: "null is absent", in: `{"model":"words",` + m + `,"max_tokens":null,"stop":null,"tools":null,"unknown":null}`, want: `{"model":"words",` + m + `,"unknown":null,"max_tokens":1024,"max_completion_tokens":1024}`, maxTokens: 1024},
		{name: "choices", in: `{"model":"words",` + m + `,"n":3,"max_tokens":5}`, want: `{"model":"words",` + m + `,"n":3,"max_tokens":5,"max_completion_tokens":5}`, maxTokens: 15},
		{name: "prompts and candidates", path: "/v1/completions", in: `{"model":"words","prompt":["a","b"],"n":2,"best_of":4,"max_tokens":5}`, want: `{"model":"words","prompt":["a","b"],"n":2,"best_of":4,"max_tokens":5}`, maxTokens: 40},
		{name: "one prompt of tokens", path: "/v1/completions", in: `{"model":"words","prompt":[1,2,3]}`, want: `{"model":"words","prompt":[1,2,3],"max_tokens":1024}`, maxTokens: 1024},
		{name: "prompts of tokens", path: "/v1/completions", in: `{"model":"words","prompt":[[1],[2,3]],"max_tokens":5}`, want: `{"model":"words","prompt":[[1],[2,3]],"max_tokens":5}`, maxTokens: 10},
		{name: "numbers, spaces, order and extensions", in: ` { "top_k" : 1.50 , "big":123456789012345678901234567890,"z":{"b":1,"a":[1 , 2]},"model":"words",` + m + `,"guided_json":{"y":0,"x":1} } `, want: `{"top_k":1.50,"big":123456789012345678901234567890,"z":{"b":1,"a":[1,2]},"model":"words",` + m + `,"guided_json":{"y":0,"x":1},"max_tokens":1024,"max_completion_tokens":1024}`, maxTokens: 1024},
		{name: "duplicates", in: `{"model":"other","model":"words",` + m + `,"max_tokens":-1,"max_tokens":7,"x":{"a":1,"a":2}}`, want: `{"model":"words",` + m + `,"max_tokens":7,"x":{"a":2},"max_completion_tokens":7}`, maxTokens: 7},
		{name: "stream", in: `{"model":"words",` + m + `,"stream":true,"max_tokens":1}`, want: `{"model":"words",` + m + `,"stream":true,"max_tokens":1,"stream_options":{"include_usage":true},"max_completion_tokens":1}`, maxTokens: 1},
		{name: "stream options", in: `{"model":"words",` + m + `,"stream":true,"max_tokens":1,"stream_options":{"x":1,"include_usage":false}}`, want: `{"model":"words",` + m + `,"stream":true,"max_tokens":1,"stream_options":{"x":1,"include_usage":true},"max_completion_tokens":1}`, maxTokens: 1},
		{name: "our fields", in: `{"model":"words",` + m + `,"max_tokens":1,"max_coefficient":2500,"timeout":1.5,"enable_debug":true,"request_guid":"x"}`, want: `{"model":"words",` + m + `,"max_tokens":1,"max_completion_tokens":1}`, maxTokens: 1, coefficient: 2500, timeout: 1500 * time.Millisecond},
		{name: "our headers", in: `{"model":"words",` + m + `,"max_tokens":1}`, header: []string{"X-Cocoon-Timeout", "20", "x-cocoon-max-coefficient", "700"}, want: `{"model":"words",` + m + `,"max_tokens":1,"max_completion_tokens":1}`, maxTokens: 1, coefficient: 700, timeout: 20 * time.Second},
		{name: "fields before headers", in: `{"model":"words",` + m + `,"max_tokens":1,"timeout":4}`, header: []string{"X-Cocoon-Timeout", "20"}, want: `{"model":"words",` + m + `,"max_tokens":1,"max_completion_tokens":1}`, maxTokens: 1, timeout: 4 * time.Second},
	} {
		if c.path == "" {
			c.path = chatPath
		}
		if c.timeout == 0 {
			c.timeout = 300 * time.Second
		}
		w := ask(g, "POST", c.path, c.in, c.header...)
		call := b.call()
		if w.Code != 200 || string(call.Body) != c.want {
			t.Errorf("%s: %d\n%s, want\n%s", c.name, w.Code, call.Body, c.want)
		}
		if call.MaxTokens != c.maxTokens || call.MaxCoefficient != c.coefficient || call.Timeout != c.timeout || call.Model != "words" {
			t.Errorf("%s: %d tokens, coefficient %d, timeout %v", c.name, call.MaxTokens, call.MaxCoefficient, call.Timeout)
		}
	}
}

// TestGoodRequests holds that what the OpenAI API and vLLM accept passes.
func TestGoodRequests(t *testing.T) {
	g := newGateway(t, &wordBackend{}, nil)
	for _, body := range []string{
		msg(`{"role":"developer","content":"d"},{"role":"system","content":[{"type":"text","text":"s"}]},{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk=","detail":"low"}},{"type":"video_url","video_url":{"url":"x"}},{"type":"file","file":{"file_data":"aGk="}}],"name":null}`),
		msg(`{"role":"assistant","content":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"a","content":"4"}`),
		msg(`{"role":"assistant","refusal":"no"},{"role":"assistant","function_call":{"name":"f","arguments":""}},{"role":"function","name":"f","content":null}`),
		with(`"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":null}},{"type":"web_search"}],"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false`),
		with(`"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},"strict":true}},"max_tokens":1,"messages":[{"role":"user","content":"{}"}]`),
		with(`"response_format":{"type":"json_object"},"messages":[{"role":"user","content":"{}"}],"temperature":2,"top_p":0,"seed":-9223372036854775808,"logprobs":true,"top_logprobs":20,"logit_bias":{"1":-100}`),
		with(`"stop":"x","user":"u","metadata":{"a":"b"},"store":false,"service_tier":"auto","reasoning_effort":"low","modalities":["text"]`),
		with(`"stop":["a","b"],"chat_template_kwargs":{"enable_thinking":false},"min_p":0.1,"repetition_penalty":1.1,"cache_salt":"s"`),
	} {
		if w := ask(g, "POST", chatPath, body); w.Code != 200 {
			t.Errorf("%s: %s", body, w.Body)
		}
	}
}

// TestAllowedTools: engines know no such choice, so they get the tools alone.
func TestAllowedTools(t *testing.T) {
	b := &wordBackend{}
	b.answer = b.says("application/json", fullAnswer)
	g := newGateway(t, b, nil)
	const want = `"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"h"}}],"tool_choice":"required"`
	for path, body := range map[string]string{
		chatPath: with(`"tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"g"}},{"type":"function","function":{"name":"h"}}],` +
			`"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"h"}},{"type":"function","function":{"name":"f"}}]}}`),
		"/v1/responses": `{"model":"words","input":"a","tools":[{"type":"function","name":"f"},{"type":"function","name":"g"},{"type":"function","name":"h"}],` +
			`"tool_choice":{"type":"allowed_tools","mode":"required","tools":[{"type":"function","name":"h"},{"type":"function","name":"f"}]}}`,
	} {
		w := ask(g, "POST", path, body)
		if got := string(b.call().Body); w.Code != 200 || !strings.Contains(got, want) {
			t.Errorf("%s: %d %s; the engine gets %s", path, w.Code, w.Body, got)
		}
	}
}

// FuzzParseRequest holds that whatever is accepted leaves as one valid JSON
// object with the limits that are reserved, and is stable when parsed again.
func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{hello, helloS, text(`"n":2,"best_of":3`), with(`"timeout":1,"max_coefficient":7`), `{"model":"m","prompt":[[1],[2]]}`, msg(`{"role":"tool","tool_call_id":"x","content":[{"type":"text","text":"\ud83d"}]}`)} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	g, err := New(Config{Backend: &wordBackend{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte, chat bool) {
		path := "/v1/completions"
		if chat {
			path = chatPath
		}
		rq, err := g.parseRequest(path, http.Header{}, body)
		if err != nil {
			if e := openai.From(err); e.Status != 400 || e.Message == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		var out map[string]json.RawMessage // a struct would match keys in any case
		if err := json.Unmarshal(rq.Body, &out); err != nil {
			t.Fatalf("%s: %v", rq.Body, err)
		}
		limit, _ := strconv.ParseInt(string(out["max_tokens"]), 10, 64)
		n, _ := strconv.ParseInt(string(out["n"]), 10, 64)
		if limit < 1 || int64(rq.MaxTokens) < limit*max(n, 1) || rq.MaxTokens > 1<<20 || string(out["stream"]) == "true" != rq.stream {
			t.Fatalf("%s reserves %d", rq.Body, rq.MaxTokens)
		}
		again, err := g.parseRequest(path, http.Header{}, rq.Body)
		if err != nil || !bytes.Equal(again.Body, rq.Body) || again.MaxTokens != rq.MaxTokens {
			t.Fatalf("%s became %s, %v", rq.Body, fmt.Sprint(again), err)
		}
	})
}

func BenchmarkParseRequest(b *testing.B) {
	g, err := New(Config{Backend: &wordBackend{}})
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(msg(strings.Repeat(`{"role":"user","content":"`+strings.Repeat("word ", 200)+`"},`, 20) + `{"role":"user","content":"end"}`))
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.parseRequest(chatPath, http.Header{}, body); err != nil {
			b.Fatal(err)
		}
	}
}
