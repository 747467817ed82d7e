package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// A chat answer with everything in it, whole and streamed.
const (
	fullAnswer = `{"id":"a","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hi there","reasoning_content":"Hm.","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}},{"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}`
	fullUsage  = `{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}`
)

func fullStream() string {
	var b strings.Builder
	for _, delta := range []string{
		`{"role":"assistant","content":""}`, `{"reasoning":"H"}`, `{"reasoning_content":"m."}`, `{"content":"Hi "}`, `{"content":"there"}`,
		`{"tool_calls":[{"index":0,"id":"c1","type":"function","function":{"name":"f","arguments":""}}]}`, `{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}`,
		`{"tool_calls":[{"index":0,"function":{"arguments":":1}"}}]}`, `{"tool_calls":[{"index":1,"id":"c2","type":"function","function":{"name":"g","arguments":"{}"}}]}`,
	} {
		fmt.Fprintf(&b, "data: {\"choices\":[{\"index\":0,\"delta\":%s,\"finish_reason\":null}]}\n\n", delta)
	}
	return b.String() + "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: " + fullUsage + "\n\ndata: [DONE]\n\n"
}

// scrub makes the ids that are random comparable.
func scrub(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if s, ok := x.(string); ok && (k == "id" || k == "item_id") && strings.Contains(s, "_") {
				prefix, _, _ := strings.Cut(s, "_")
				v[k] = prefix + "_"
				continue
			}
			if k == "created_at" {
				v[k] = 0
				continue
			}
			v[k] = scrub(t, x)
		}
	case []any:
		for i := range v {
			v[i] = scrub(t, v[i])
		}
	}
	return v
}

func scrubbed(t *testing.T, b []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	out, _ := json.Marshal(scrub(t, v))
	return string(out)
}

type namedEvent struct{ name, data string }

func namedEvents(t *testing.T, stream string) (out []namedEvent) {
	t.Helper()
	for _, e := range strings.Split(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
		var n namedEvent
		for _, line := range strings.Split(e, "\n") {
			if v, ok := strings.CutPrefix(line, "event: "); ok {
				n.name = v
			}
			if v, ok := strings.CutPrefix(line, "data: "); ok {
				n.data = v
			}
		}
		var d struct{ Type string }
		if json.Unmarshal([]byte(n.data), &d) != nil || d.Type != n.name {
			t.Fatalf("event %q", e)
		}
		out = append(out, n)
	}
	return out
}

func TestResponses(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	b.answer = b.says("application/json", fullAnswer)
	const in = `{"model":"words","instructions":"be brief","input":[{"role":"user","content":[{"type":"input_text","text":"hi"},{"type":"input_image","image_url":"data:image/png;base64,aGk=","detail":"low"}]},` +
		`{"type":"reasoning","id":"r","summary":[]},{"role":"assistant","content":[{"type":"output_text","text":"wait"}]},{"type":"function_call","call_id":"k","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"k","output":"4"}],` +
		`"tools":[{"type":"function","name":"f","parameters":{"type":"object"}}],"tool_choice":{"type":"function","name":"f"},"max_output_tokens":9,"reasoning":{"effort":"low"},"temperature":0.5,"metadata":{"a":"b"},"store":false}`
	w := ask(g, "POST", "/v1/responses", in)
	const chat = `{"model":"words","messages":[{"role":"system","content":"be brief"},{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk=","detail":"low"}}]},` +
		`{"role":"assistant","content":[{"type":"text","text":"wait"}],"tool_calls":[{"id":"k","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","tool_call_id":"k","content":"4"}],` +
		`"max_completion_tokens":9,"temperature":0.5,"metadata":{"a":"b"},"reasoning_effort":"low","tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"max_tokens":9}`
	if got := string(b.call().Body); got != chat || b.call().Path != chatPath {
		t.Errorf("the engine is asked\n%s, want\n%s", got, chat)
	}
	var whole struct {
		Object, Status string
		Output         json.RawMessage
		Usage          json.RawMessage
		Temperature    float64
	}
	if err := json.Unmarshal(w.Body.Bytes(), &whole); err != nil || w.Code != 200 || whole.Object != "response" || whole.Status != "completed" || whole.Temperature != 0.5 {
		t.Fatalf("%d %v %s", w.Code, err, w.Body)
	}
	const output = `[{"content":[{"text":"Hm.","type":"reasoning_text"}],"id":"rs_","status":"completed","summary":[],"type":"reasoning"},` +
		`{"content":[{"annotations":[],"logprobs":[],"text":"Hi there","type":"output_text"}],"id":"msg_","role":"assistant","status":"completed","type":"message"},` +
		`{"arguments":"{\"a\":1}","call_id":"c1","id":"fc_","name":"f","status":"completed","type":"function_call"},{"arguments":"{}","call_id":"c2","id":"fc_","name":"g","status":"completed","type":"function_call"}]`
	if got := scrubbed(t, whole.Output); got != output {
		t.Errorf("output\n%s, want\n%s", got, output)
	}
	const usage = `{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":7,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":17,"cost_nano":12}`
	if string(whole.Usage) != usage {
		t.Errorf("usage %s", whole.Usage)
	}

	b.answer = b.says("text/event-stream", fullStream())
	w = ask(g, "POST", "/v1/responses", in[:len(in)-1]+`,"stream":true}`)
	ev := namedEvents(t, w.Body.String())
	var names []string
	texts := map[string]string{}
	for i, e := range ev {
		names = append(names, strings.TrimPrefix(e.name, "response."))
		var d struct {
			Seq   *int `json:"sequence_number"`
			Delta string
		}
		if json.Unmarshal([]byte(e.data), &d) != nil || d.Seq == nil || *d.Seq != i {
			t.Fatalf("event %d: %s", i, e.data)
		}
		texts[e.name] += d.Delta
	}
	want := "created in_progress output_item.added content_part.added reasoning_text.delta reasoning_text.delta reasoning_text.done content_part.done output_item.done " +
		"output_item.added content_part.added output_text.delta output_text.delta output_text.done content_part.done output_item.done " +
		"output_item.added function_call_arguments.delta function_call_arguments.delta function_call_arguments.done output_item.done " +
		"output_item.added function_call_arguments.delta function_call_arguments.done output_item.done completed"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("events\n%s, want\n%s", got, want)
	}
	if texts["response.output_text.delta"] != "Hi there" || texts["response.function_call_arguments.delta"] != `{"a":1}{}` || texts["response.reasoning_text.delta"] != "Hm." {
		t.Errorf("deltas %q", texts)
	}
	var last struct {
		Response struct {
			Status string
			Output json.RawMessage
			Usage  json.RawMessage
		}
	}
	if json.Unmarshal([]byte(ev[len(ev)-1].data), &last) != nil || last.Response.Status != "completed" || scrubbed(t, last.Response.Output) != output || string(last.Response.Usage) != usage {
		t.Errorf("last event %s", ev[len(ev)-1].data)
	}

	// A stream that breaks ends with an error and without an end.
	b.answer = b.says("text/event-stream", "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n")
	w = ask(g, "POST", "/v1/responses", `{"model":"words","input":"a","stream":true}`)
	ev = namedEvents(t, w.Body.String())
	if e := ev[len(ev)-1]; e.name != "error" || !strings.Contains(e.data, `"code":"answer_incomplete"`) || strings.Contains(w.Body.String(), "completed") {
		t.Errorf("broken stream ends with %v", e)
	}
}

func TestMessages(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	b.answer = b.says("application/json", fullAnswer)
	const in = `{"model":"words","max_tokens":9,"system":[{"type":"text","text":"be"},{"type":"text","text":"brief"}],"messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}}]},` +
		`{"role":"assistant","content":[{"type":"thinking","thinking":"x","signature":""},{"type":"text","text":"wait"},{"type":"tool_use","id":"k","name":"f","input":{"a": 1}}]},` +
		`{"role":"user","content":[{"type":"tool_result","tool_use_id":"k","content":[{"type":"text","text":"4"}]},{"type":"text","text":"go on"}]}],` +
		`"tools":[{"name":"f","input_schema":{"type":"object"}}],"tool_choice":{"type":"tool","name":"f","disable_parallel_tool_use":true},"stop_sequences":["x"],"top_k":3,"metadata":{"user_id":"u"},"thinking":{"type":"disabled"}}`
	w := ask(g, "POST", "/v1/messages", in)
	const chat = `{"model":"words","max_completion_tokens":9,"stop":["x"],"top_k":3,"messages":[{"role":"system","content":"be\nbrief"},{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,aGk="}}]},` +
		`{"role":"assistant","content":[{"type":"text","text":"wait"}],"tool_calls":[{"id":"k","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},{"role":"tool","tool_call_id":"k","content":"4"},{"role":"user","content":[{"type":"text","text":"go on"}]}],` +
		`"user":"u","tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}],"tool_choice":{"type":"function","function":{"name":"f"}},"parallel_tool_calls":false,"chat_template_kwargs":{"enable_thinking":false},"max_tokens":9}`
	if got := string(b.call().Body); got != chat {
		t.Errorf("the engine is asked\n%s, want\n%s", got, chat)
	}
	const want = `{"content":[{"signature":"","thinking":"Hm.","type":"thinking"},{"text":"Hi there","type":"text"},{"id":"c1","input":{"a":1},"name":"f","type":"tool_use"},{"id":"c2","input":{},"name":"g","type":"tool_use"}],` +
		`"id":"msg_","model":"words","role":"assistant","stop_reason":"tool_use","stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"cost_nano":12,"input_tokens":6,"output_tokens":7}}`
	if got := scrubbed(t, w.Body.Bytes()); w.Code != 200 || got != want {
		t.Errorf("%d\n%s, want\n%s", w.Code, got, want)
	}

	b.answer = b.says("text/event-stream", fullStream())
	w = ask(g, "POST", "/v1/messages", in[:len(in)-1]+`,"stream":true}`)
	var got []string
	for _, e := range namedEvents(t, w.Body.String()) {
		got = append(got, scrubbed(t, []byte(e.data)))
	}
	stream := []string{
		`{"message":{"content":[],"id":"msg_","model":"words","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"input_tokens":0,"output_tokens":0}},"type":"message_start"}`,
		`{"type":"ping"}`,
		`{"content_block":{"signature":"","thinking":"","type":"thinking"},"index":0,"type":"content_block_start"}`,
		`{"delta":{"thinking":"H","type":"thinking_delta"},"index":0,"type":"content_block_delta"}`,
		`{"delta":{"thinking":"m.","type":"thinking_delta"},"index":0,"type":"content_block_delta"}`,
		`{"index":0,"type":"content_block_stop"}`,
		`{"content_block":{"text":"","type":"text"},"index":1,"type":"content_block_start"}`,
		`{"delta":{"text":"Hi ","type":"text_delta"},"index":1,"type":"content_block_delta"}`,
		`{"delta":{"text":"there","type":"text_delta"},"index":1,"type":"content_block_delta"}`,
		`{"index":1,"type":"content_block_stop"}`,
		`{"content_block":{"id":"c1","input":{},"name":"f","type":"tool_use"},"index":2,"type":"content_block_start"}`,
		`{"delta":{"partial_json":"{\"a\"","type":"input_json_delta"},"index":2,"type":"content_block_delta"}`,
		`{"delta":{"partial_json":":1}","type":"input_json_delta"},"index":2,"type":"content_block_delta"}`,
		`{"index":2,"type":"content_block_stop"}`,
		`{"content_block":{"id":"c2","input":{},"name":"g","type":"tool_use"},"index":3,"type":"content_block_start"}`,
		`{"delta":{"partial_json":"{}","type":"input_json_delta"},"index":3,"type":"content_block_delta"}`,
		`{"index":3,"type":"content_block_stop"}`,
		`{"delta":{"stop_reason":"tool_use","stop_sequence":null},"type":"message_delta","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":4,"cost_nano":12,"input_tokens":6,"output_tokens":7}}`,
		`{"type":"message_stop"}`,
	}
	if a, b := strings.Join(got, "\n"), strings.Join(stream, "\n"); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
	b.answer = b.says("text/event-stream", "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n")
	w = ask(g, "POST", "/v1/messages", `{"model":"words","max_tokens":5,"messages":[{"role":"user","content":"a"}],"stream":true}`)
	ev := namedEvents(t, w.Body.String())
	if e := ev[len(ev)-1]; e.name != "error" || strings.Contains(w.Body.String(), "message_stop") {
		t.Errorf("broken stream ends with %v", e)
	}
}

func TestEmbeddings(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	b.answer = b.says("application/json", `{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-1]}],"model":"words","usage":{"prompt_tokens":2,"total_tokens":2}}`)
	for _, c := range []struct{ format, want string }{{"float", "[0.5,-1]"}, {"base64", `"AAAAPwAAgL8="`}} {
		w := ask(g, "POST", "/v1/embeddings", `{"model":"words","input":["a","b"],"dimensions":2,"encoding_format":"`+c.format+`"}`)
		want := `{"object":"list","data":[{"object":"embedding","index":0,"embedding":` + c.want + `}],"model":"words","usage":{"prompt_tokens":2,"total_tokens":2,"cost_nano":12}}` + "\n"
		if w.Code != 200 || w.Body.String() != want {
			t.Errorf("%d %s, want %s", w.Code, w.Body, want)
		}
		if call := b.call(); call.MaxTokens != 0 || call.Path != "/v1/embeddings" || string(call.Body) != `{"model":"words","input":["a","b"],"dimensions":2,"encoding_format":"`+c.format+`"}` {
			t.Errorf("call %+v: %s", call, call.Body)
		}
	}
}

// makeForm writes a form of names and values; a file's value is its bytes.
func makeForm(pairs ...string) (body, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == "file" {
			f, _ := w.CreateFormFile("file", "My Secret.WAV")
			_, _ = io.WriteString(f, pairs[i+1])
			continue
		}
		_ = w.WriteField(pairs[i], pairs[i+1])
	}
	_ = w.Close()
	return b.String(), w.FormDataContentType()
}

func askForm(g *Gateway, pairs ...string) *httptest.ResponseRecorder {
	body, contentType := makeForm(pairs...)
	return ask(g, "POST", "/v1/audio/transcriptions", body, "Content-Type", contentType)
}

func TestTranscriptions(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	b.answer = b.says("application/json", `{"text":"hello"}`)
	w := askForm(g, "model", "words", "file", "RIFF", "language", "en", "timestamp_granularities[]", "word", "max_coefficient", "7", "response_format", "verbose_json")
	if w.Code != 200 || w.Body.String() != `{"text":"hello","usage":{"cost_nano":12}}`+"\n" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	call := b.call()
	if call.MaxCoefficient != 7 || call.Model != "words" || call.MaxTokens != transcriptTokens {
		t.Errorf("call %+v", call)
	}
	_, params, err := mime.ParseMediaType(call.ContentType)
	if err != nil || !strings.HasPrefix(call.ContentType, "multipart/form-data; boundary=") {
		t.Fatalf("%s: %v", call.ContentType, err)
	}
	got := map[string]string{}
	r := multipart.NewReader(bytes.NewReader(call.Body), params["boundary"])
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			break
		}
		data, _ := io.ReadAll(p)
		got[p.FormName()+"/"+p.FileName()] = string(data)
	}
	want := map[string]string{"file/audio.wav": "RIFF", "language/": "en", "timestamp_granularities[]/": "word", "response_format/": "verbose_json", "model/": "words", "max_tokens/": "16384"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("form %v, want %v", got, want)
	}
	const verbose = `{"task":"transcribe","text":"Hello. A --> B","segments":[{"id":0,"start":0,"end":1.2345,"text":" Hello.\n\n"},{"id":1,"start":3599.9996,"end":3661.5,"text":" A --> <B>"}],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}}`
	for _, c := range []struct {
		format, asked, says, want string
		status                    int
	}{
		{"json", "json", `{"text":"hello","usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}}`, `{"text":"hello","usage":{"type":"tokens","input_tokens":10,"output_tokens":3,"total_tokens":13,"cost_nano":12}}` + "\n", 200},
		{"json", "json", `{"text":"hello","usage":{"type":"duration","seconds":3}}`, `{"text":"hello","usage":{"type":"duration","seconds":3,"cost_nano":12}}` + "\n", 200},
		{"text", "json", `{"text":"hello"}`, "hello\n", 200},
		{"srt", "verbose_json", verbose, "1\n00:00:00,000 --> 00:00:01,235\nHello.\n\n2\n01:00:00,000 --> 01:01:01,500\nA -> <B>\n\n", 200},
		{"vtt", "verbose_json", verbose, "WEBVTT\n\n00:00:00.000 --> 00:00:01.235\nHello.\n\n01:00:00.000 --> 01:01:01.500\nA -&gt; &lt;B&gt;\n\n", 200},
		{"vtt", "verbose_json", `{"text":" ","segments":[]}`, "WEBVTT\n\n", 200},
		{"srt", "verbose_json", `{"text":"b","segments":[{"start":0,"end":1,"text":" "},{"start":1,"end":2,"text":"b"}]}`, "1\n00:00:01,000 --> 00:00:02,000\nb\n\n", 200},
		{"srt", "verbose_json", `{"text":"hello"}`, openai.CodeUpstream, 502},
		{"srt", "verbose_json", `{"text":"hello","segments":[{"start":2,"end":1,"text":"x"}]}`, openai.CodeUpstream, 502},
		{"srt", "verbose_json", `{"text":"hello","segments":[{"start":0,"end":1e300,"text":"x"}]}`, openai.CodeUpstream, 502},
		{"srt", "verbose_json", `{"text":"hello","segments":{}}`, openai.CodeUpstream, 502},
		{"text", "json", `{"words":[]}`, openai.CodeUpstream, 502},
	} {
		b.answer = b.says("application/json", c.says)
		w := askForm(g, "model", "words", "file", "RIFF", "response_format", c.format)
		got := w.Body.String()
		if c.status != 200 {
			_, got, _ = errorOf(t, w.Body.Bytes())
		} else if plain := c.asked != c.format; plain != (w.Header().Get("X-Cocoon-Cost-Nano") == "12") || plain != (w.Header().Get("Content-Type") == "text/plain; charset=utf-8") {
			t.Errorf("%s: header %v", c.format, w.Header())
		}
		if w.Code != c.status || got != c.want || !strings.Contains(string(b.call().Body), "\r\n\r\n"+c.asked+"\r\n") {
			t.Errorf("%s of %s: %d %q, want %d %q", c.format, c.says, w.Code, got, c.status, c.want)
		}
	}
}

// TestFormAgain: a form that is sent again has another boundary, and is the same
// call all the same.
func TestFormAgain(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	b.answer = b.says("application/json", `{"text":"hello"}`)
	post := func(said string) *httptest.ResponseRecorder {
		body, contentType := makeForm("model", "words", "file", said)
		return ask(g, "POST", pathTranscriptions, body, "Content-Type", contentType, "Idempotency-Key", "k")
	}
	first := post("RIFF")
	if w := post("RIFF"); w.Code != 200 || w.Header().Get("Idempotent-Replayed") != "true" || w.Body.String() != first.Body.String() {
		t.Errorf("again: %d %s", w.Code, w.Body)
	}
	if w := post("RAFF"); w.Code != 409 {
		t.Errorf("another file: %d %s", w.Code, w.Body)
	}
}

// TestTranscriptionStreams: whatever form an engine streams in, the caller gets
// the OpenAI events, and an answer that was cut has no end.
func TestTranscriptionStreams(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	events := func(data ...string) string { return "data: " + strings.Join(data, "\n\ndata: ") + "\n\n" }
	const (
		one  = `{"type":"transcript.text.delta","delta":"Hi "}`
		two  = `{"type":"transcript.text.delta","delta":"there"}`
		done = `{"type":"transcript.text.done","text":"Hi there","usage":{"type":"tokens","input_tokens":10,"output_tokens":3,"total_tokens":13,"cost_nano":12}}`
		bare = `{"type":"transcript.text.done","text":"Hi there","usage":{"cost_nano":12}}`
		cut  = `{"error":{"message":"The answer ended before it was finished.","type":"server_error","param":null,"code":"answer_incomplete"}}`
		odd  = `{"error":{"message":"An event of the answer is no part of a transcript.","type":"server_error","param":null,"code":"upstream_error"}}`
	)
	for _, c := range []struct{ media, says, want string }{
		{"text/event-stream", events(one, two, `{"type":"transcript.text.done","text":"Hi there","usage":{"type":"tokens","input_tokens":10,"output_tokens":3,"total_tokens":13}}`), events(one, two, done, "[DONE]")},
		{"text/event-stream", events(one, two, `{"type":"transcript.text.done","text":"Hi there"}`, "[DONE]"), events(one, two, bare, "[DONE]")},
		{"text/event-stream", events(one, two), events(one, two, cut)},
		{"text/event-stream", events(one, `{"type":"transcript.text.delta","delta":7}`), events(one, odd)},
		{"text/event-stream", events(`{"object":"transcription.chunk","choices":[{"delta":{"content":"Hi "}}]}`, `{"choices":[{"delta":{"content":"there"},"finish_reason":null}]}`, `{"choices":[{"delta":{"content":""},"finish_reason":"stop"}]}`,
			`{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}}`, "[DONE]"), events(one, two, done, "[DONE]")},
		{"text/event-stream", events(`{"choices":[{"delta":{"content":"Hi "}}]}`), events(one, cut)},
		{"application/json", `{"text":"Hi there"}`, events(`{"type":"transcript.text.delta","delta":"Hi there"}`, bare, "[DONE]")},
	} {
		b.answer = b.says(c.media, c.says)
		w := askForm(g, "model", "words", "file", "RIFF", "stream", "true")
		if w.Code != 200 || w.Body.String() != c.want {
			t.Errorf("%s:\n%d %s\nwant %s", c.says, w.Code, w.Body, c.want)
		}
		if form := string(b.call().Body); !strings.Contains(form, "name=\"stream\"\r\n\r\ntrue\r\n") {
			t.Errorf("the form is %s", form)
		}
	}
}

// TestBadForms and the tables after it are the other endpoints' part of
// TestBadRequests.
func TestBadForms(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, func(c *Config) { c.MaxBody = 100_000 })
	d := readDocument(t)
	for _, c := range []struct {
		pairs       []string
		code, param string
	}{
		{[]string{"file", "x"}, openai.CodeMissingParameter, "model"},
		{[]string{"model", "words"}, openai.CodeMissingParameter, "file"},
		{[]string{"model", "words", "file", ""}, openai.CodeInvalidValue, "file"},
		{[]string{"model", "", "file", "x"}, openai.CodeInvalidValue, "model"},
		{[]string{"model", "a@b", "file", "x"}, openai.CodeInvalidValue, "model"},
		{[]string{"model", "words", "file", "x", "temperature", "hot"}, openai.CodeInvalidType, "temperature"},
		{[]string{"model", "words", "file", "x", "temperature", "2"}, openai.CodeInvalidValue, "temperature"},
		{[]string{"model", "words", "file", "x", "response_format", "srt", "stream", "true"}, openai.CodeInvalidValue, "response_format"},
		{[]string{"model", "words", "file", "x", "response_format", "json", "timestamp_granularities[]", "word"}, openai.CodeInvalidValue, "timestamp_granularities"},
		{[]string{"model", "words", "file", "x", "response_format", "xml"}, openai.CodeInvalidValue, "response_format"},
		{[]string{"model", "words", "file", "x", "stream", "yes"}, openai.CodeInvalidValue, "stream"},
		{[]string{"model", "words", "file", "x", "timestamp_granularities[]", "year"}, openai.CodeInvalidValue, "timestamp_granularities"},
		{[]string{"model", "words", "file", "x", "max_tokens", "0"}, openai.CodeInvalidValue, "max_tokens"},
		{[]string{"model", "words", "file", "x", "max_coefficient", "x"}, openai.CodeInvalidType, "max_coefficient"},
		{[]string{"model", "words", "file", "x", "timeout", "-1"}, openai.CodeInvalidValue, "timeout"},
		{[]string{"model", "words", "file", "x", "language", "\xff"}, openai.CodeInvalidValue, "language"},
		{[]string{"model", "words", "file", "x", "prompt", strings.Repeat("x", 70_000)}, openai.CodeInvalidValue, "prompt"},
		{[]string{"", "words", "file", "x"}, openai.CodeInvalidForm, ""},
		{strings.Split(strings.Repeat("language|en|", 70)+"a|b", "|"), openai.CodeInvalidForm, ""},
	} {
		w := askForm(g, c.pairs...)
		if _, code, param := errorOf(t, w.Body.Bytes()); w.Code != 400 || code != c.code || param != c.param {
			t.Errorf("%.100q: %d %s %q, want %s %q", c.pairs, w.Code, code, param, c.code, c.param)
		}
		d.documented(t, pathTranscriptions, "POST", w.Code, w.Header(), w.Body.Bytes())
	}
	if w := ask(g, "POST", pathTranscriptions, "{}"); w.Code != 415 {
		t.Errorf("JSON: %d", w.Code)
	}
	if w := ask(g, "POST", pathTranscriptions, "nothing", "Content-Type", "multipart/form-data; boundary=x"); w.Code != 400 {
		t.Errorf("no form: %d", w.Code)
	}
	if w := askForm(g, "model", "words", "file", strings.Repeat("x", 200_000)); w.Code != 413 {
		t.Errorf("large: %d", w.Code)
	}
	if b.call().Path != "" {
		t.Error("a call went out")
	}
}

func TestBadOtherForms(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	d := readDocument(t)
	resp := func(members string) string { return `{"model":"words","input":"a",` + members + `}` }
	items := func(item string) string { return `{"model":"words","input":[` + item + `]}` }
	mess := func(members string) string {
		return `{"model":"words","max_tokens":5,"messages":[{"role":"user","content":"a"}],` + members + `}`
	}
	blocks := func(role, block string) string {
		return `{"model":"words","max_tokens":5,"messages":[{"role":"` + role + `","content":[` + block + `]}]}`
	}
	emb := func(members string) string { return `{"model":"words",` + members + `}` }
	const r, m, e = "/v1/responses", "/v1/messages", "/v1/embeddings"
	for _, c := range []struct{ path, body, code, param string }{
		{chatPath, with(`"tool_choice":"required"`), openai.CodeInvalidValue, "tool_choice"},
		{chatPath, with(`"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"g"}}`), openai.CodeInvalidValue, "tool_choice"},
		{chatPath, with(`"tools":[{"type":"function","function":{"name":"a b"}}]`), openai.CodeInvalidValue, "tools[0].function.name"},
		{chatPath, with(`"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"x"}}}]`), openai.CodeInvalidValue, "tools[0].function.parameters"},
		{chatPath, with(`"response_format":{"type":"xml"}`), openai.CodeInvalidValue, "response_format.type"},
		{chatPath, with(`"response_format":{"type":"json_schema"}`), openai.CodeMissingParameter, "response_format.json_schema"},
		{chatPath, with(`"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"allOf":[]}}}`), openai.CodeInvalidValue, "response_format.json_schema.schema"},
		{chatPath, with(`"web_search_options":{}`), openai.CodeUnsupported, "web_search_options"},
		{chatPath, msg(`{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://a.example/x.png"}}]}`), openai.CodeInvalidValue, "messages[0].content[0].image_url.url"},
		{chatPath, msg(`{"role":"user","content":[{"type":"file","file":{"file_id":"f","file_data":"x"}}]}`), openai.CodeUnsupported, "messages[0].content[0].file.file_id"},
		{chatPath, with(`"cocoon":5`), openai.CodeInvalidType, "cocoon"},
		{chatPath, with(`"cocoon":{"wish":1}`), openai.CodeUnsupported, "cocoon.wish"},
		{chatPath, with(`"cocoon":{"max_price":0}`), openai.CodeInvalidValue, "cocoon.max_price"},
		{chatPath, with(`"cocoon":{"max_price":"cheap"}`), openai.CodeInvalidType, "cocoon.max_price"},
		{chatPath, with(`"cocoon":{"verdicts":[]}`), openai.CodeInvalidValue, "cocoon.verdicts"},
		{chatPath, with(`"cocoon":{"verdicts":["sgx"]}`), openai.CodeInvalidValue, "cocoon.verdicts[0]"},
		{chatPath, with(`"cocoon":{"gpu_evidence":"yes"}`), openai.CodeInvalidType, "cocoon.gpu_evidence"},
		{chatPath, with(`"cocoon":{"min_reputation":2}`), openai.CodeInvalidValue, "cocoon.min_reputation"},
		{chatPath, with(`"cocoon":{"model":"words"}`), openai.CodeInvalidValue, "cocoon.model"},
		{chatPath, with(`"cocoon":{"model":"other@1:2"}`), openai.CodeInvalidValue, "cocoon.model"},
		{r, `{}`, openai.CodeMissingParameter, "model"},
		{r, `[]`, openai.CodeInvalidJSON, ""},
		{r, resp(`"input":5`), openai.CodeInvalidType, "input"},
		{r, resp(`"input":[]`), openai.CodeInvalidValue, "input"},
		{r, items(`5`), openai.CodeInvalidType, "input[0]"},
		{r, items(`{"role":"robot","content":"a"}`), openai.CodeInvalidValue, "input[0].role"},
		{r, items(`{"role":"user"}`), openai.CodeMissingParameter, "input[0].content"},
		{r, items(`{"type":"item_reference","id":"x"}`), openai.CodeUnsupported, "input[0].type"},
		{r, items(`{"type":"function_call","name":"f","arguments":"{}"}`), openai.CodeMissingParameter, "input[0].call_id"},
		{r, items(`{"role":"user","content":[{"type":"input_image","image_url":"http://a"}]}`), openai.CodeInvalidValue, "input[0].content[0].image_url"},
		{r, items(`{"role":"user","content":[{"type":"input_image","file_id":"f"}]}`), openai.CodeMissingParameter, "input[0].content[0].image_url"},
		{r, items(`{"role":"user","content":[{"type":"hologram"}]}`), openai.CodeUnsupported, "input[0].content[0].type"},
		{r, resp(`"max_output_tokens":0`), openai.CodeInvalidValue, "max_output_tokens"},
		{r, resp(`"max_output_tokens":2000000`), openai.CodeInvalidValue, "max_output_tokens"},
		{r, resp(`"temperature":3`), openai.CodeInvalidValue, "temperature"},
		{r, resp(`"store":true`), openai.CodeUnsupported, "store"},
		{r, resp(`"background":true`), openai.CodeUnsupported, "background"},
		{r, resp(`"previous_response_id":"r"`), openai.CodeUnsupported, "previous_response_id"},
		{r, resp(`"conversation":"c"`), openai.CodeUnsupported, "conversation"},
		{r, resp(`"truncation":"auto"`), openai.CodeInvalidValue, "truncation"},
		{r, resp(`"include":["file_search_call.results"]`), openai.CodeInvalidValue, "include[0]"},
		{r, resp(`"tools":[{"type":"web_search"}]`), openai.CodeUnsupported, "tools[0].type"},
		{r, resp(`"tools":[{"type":"function"}]`), openai.CodeMissingParameter, "tools[0].name"},
		{r, resp(`"tool_choice":{"type":"function","name":"f"}`), openai.CodeInvalidValue, "tool_choice"},
		{r, resp(`"text":{"format":{"type":"json_schema","name":"n"}}`), openai.CodeMissingParameter, "text.format.schema"},
		{r, resp(`"text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":{"oneOf":[]}}}`), openai.CodeInvalidValue, "text.format.schema"},
		{r, resp(`"n":2`), openai.CodeUnsupported, "n"},
		{r, resp(`"metadata":{"a":1}`), openai.CodeInvalidType, "metadata"},
		{m, `{"model":"words","messages":[{"role":"user","content":"a"}]}`, openai.CodeMissingParameter, "max_tokens"},
		{m, `{"model":"words","max_tokens":5}`, openai.CodeMissingParameter, "messages"},
		{m, `{"model":"words","max_tokens":5,"messages":[]}`, openai.CodeInvalidValue, "messages"},
		{m, mess(`"temperature":1.5`), openai.CodeInvalidValue, "temperature"},
		{m, mess(`"stop_sequences":"x"`), openai.CodeInvalidType, "stop_sequences"},
		{m, mess(`"system":[{"type":"image"}]`), openai.CodeMissingParameter, "system[0].text"},
		{m, mess(`"tools":[{"name":"f"}]`), openai.CodeMissingParameter, "tools[0].input_schema"},
		{m, mess(`"tool_choice":{"type":"tool"}`), openai.CodeMissingParameter, "tool_choice.name"},
		{m, mess(`"tool_choice":{"type":"any"}`), openai.CodeInvalidValue, "tool_choice"},
		{m, mess(`"mcp_servers":[]`), openai.CodeUnsupported, "mcp_servers"},
		{m, mess(`"thinking":{"type":"maybe"}`), openai.CodeInvalidValue, "thinking.type"},
		{m, blocks("user", `{"type":"image","source":{"type":"url","url":"http://a"}}`), openai.CodeUnsupported, "messages[0].content[0].source.type"},
		{m, blocks("user", `{"type":"tool_use","id":"a","name":"f","input":{}}`), openai.CodeUnsupported, "messages[0].content[0].type"},
		{m, blocks("assistant", `{"type":"tool_use","id":"a","name":"f"}`), openai.CodeMissingParameter, "messages[0].content[0].input"},
		{m, `{"model":"words","max_tokens":5,"messages":[{"role":"system","content":"a"}]}`, openai.CodeInvalidValue, "messages[0].role"},
		{e, emb(`"x":1`), openai.CodeMissingParameter, "input"},
		{e, emb(`"input":[]`), openai.CodeInvalidValue, "input"},
		{e, emb(`"input":""`), openai.CodeInvalidValue, "input"},
		{e, emb(`"input":["a",""]`), openai.CodeInvalidValue, "input[1]"},
		{e, emb(`"input":["a",1]`), openai.CodeInvalidType, "input[1]"},
		{e, emb(`"input":{}`), openai.CodeInvalidType, "input"},
		{e, emb(`"input":["a"` + strings.Repeat(`,"a"`, 2048) + `]`), openai.CodeInvalidValue, "input"},
		{e, emb(`"input":"a","dimensions":0`), openai.CodeInvalidValue, "dimensions"},
		{e, emb(`"input":"a","dimensions":1.5`), openai.CodeInvalidType, "dimensions"},
		{e, emb(`"input":"a","encoding_format":"hex"`), openai.CodeInvalidValue, "encoding_format"},
		{e, emb(`"input":"a","stream":true`), openai.CodeUnsupported, "stream"},
	} {
		w := ask(g, "POST", c.path, c.body)
		if _, code, param := errorOf(t, w.Body.Bytes()); w.Code != 400 || code != c.code || param != c.param {
			t.Errorf("%s %.200s: %d %s %q, want %s %q", c.path, c.body, w.Code, code, param, c.code, c.param)
		}
		d.documented(t, c.path, "POST", w.Code, w.Header(), w.Body.Bytes())
		if b.last.Path != "" {
			t.Errorf("%s: the call went out", c.body)
		}
	}
}

// TestChoices holds that every choice reaches the backend, from each place.
func TestChoices(t *testing.T) {
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	for name, c := range map[string]struct {
		body   string
		header []string
	}{
		"fields":  {body: with(`"cocoon":{"max_coefficient":5,"max_price":77,"verdicts":["tdx","sev-snp"],"gpu_evidence":true,"min_reputation":0.5,"model":"words@c:h"}`)},
		"headers": {body: hello, header: []string{"X-Cocoon-Max-Coefficient", "5", "X-Cocoon-Max-Price", "77", "X-Cocoon-Verdicts", "tdx, sev-snp", "X-Cocoon-Gpu-Evidence", "true", "X-Cocoon-Min-Reputation", "0.5", "X-Cocoon-Model", "words@c:h"}},
		"both":    {body: strings.Replace(with(`"max_coefficient":9,"cocoon":{"max_coefficient":5,"max_price":77,"verdicts":["tdx","sev-snp"],"gpu_evidence":true,"min_reputation":0.5}`), `"words"`, `"words@c:h"`, 1), header: []string{"X-Cocoon-Max-Price", "88"}},
	} {
		w := ask(g, "POST", chatPath, c.body, c.header...)
		got := b.call()
		if w.Code != 200 || got.MaxCoefficient != 5 || got.MaxPrice != 77 || fmt.Sprint(got.Verdicts) != "[tdx sev-snp]" || !got.GPUEvidence || got.MinReputation != 0.5 || got.Pin != "words@c:h" || got.Model != "words" {
			t.Errorf("%s: %d, %+v", name, w.Code, got)
		}
		if strings.Contains(string(got.Body), "cocoon") || strings.Contains(string(got.Body), "c:h") {
			t.Errorf("%s: the engine sees %s", name, got.Body)
		}
	}
}

// TestPromise holds structured output to its schema: kept, repaired once, or
// refused, whole and streamed, with the price of both calls.
func TestPromise(t *testing.T) {
	const good, bad = `{\"ok\":true}`, `{\"ok\":\"secret\"}`
	answer := func(content, finish string) string {
		return `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"` + content + `"},"finish_reason":"` + finish + `"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}`
	}
	format := with(`"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"],"additionalProperties":false}}}`)
	b := &wordBackend{}
	g := newGateway(t, b, nil)
	var calls []string
	script := func(answers ...string) {
		calls = nil
		b.answer = func(ctx context.Context, call *Call) (*Answer, error) {
			calls = append(calls, string(call.Body))
			n := min(len(calls), len(answers)) - 1
			return b.reply(ctx, "application/json", Final{TotalTokens: 5, CostNano: coins.Nano(10 * len(calls))}, func(w io.Writer) error {
				_, err := io.WriteString(w, answers[n])
				return err
			}), nil
		}
	}
	script(answer(good, "stop"))
	if w := ask(g, "POST", chatPath, format); w.Code != 200 || len(calls) != 1 || w.Header().Get("X-Cocoon-Repaired") != "" {
		t.Errorf("kept: %d %s, %d calls", w.Code, w.Body, len(calls))
	}
	script(answer(bad, "length"))
	if w := ask(g, "POST", chatPath, format); w.Code != 200 || len(calls) != 1 {
		t.Errorf("cut by the limit: %d %s, %d calls", w.Code, w.Body, len(calls))
	}
	script(answer(bad, "stop"), answer(good, "stop"))
	w := ask(g, "POST", chatPath, format)
	if w.Code != 200 || len(calls) != 2 || w.Header().Get("X-Cocoon-Repaired") != "1" || !strings.Contains(w.Body.String(), `"usage":{"prompt_tokens":6,"completion_tokens":4,"total_tokens":10,"cost_nano":30}`) {
		t.Errorf("repaired: %d %s %s, %d calls", w.Code, w.Header(), w.Body, len(calls))
	}
	if !strings.Contains(calls[1], `"content":"This does not fit the schema: ok must be of type boolean. `) {
		t.Errorf("the repair asks %s", calls[1])
	}
	script(answer(bad, "stop"), answer("no", "stop"))
	w = ask(g, "POST", chatPath, format)
	if _, code, _ := errorOf(t, w.Body.Bytes()); w.Code != 502 || code != openai.CodeSchemaMismatch || len(calls) != 2 || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("broken twice: %d %s, %d calls", w.Code, w.Body, len(calls))
	}
	// The other forms stand on the same.
	script(answer(bad, "stop"), answer(good, "stop"))
	w = ask(g, "POST", "/v1/responses", `{"model":"words","input":"a","text":{"format":{"type":"json_schema","name":"n","strict":true,"schema":{"type":"object","properties":{"ok":{"type":"boolean"}}}}}}`)
	if w.Code != 200 || len(calls) != 2 || !strings.Contains(w.Body.String(), `"cost_nano":30`) {
		t.Errorf("responses: %d %s", w.Code, w.Body)
	}
	// A stream cannot be taken back: it ends with an error.
	piece := func(content string) string {
		return "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" + content + "\"},\"finish_reason\":null}]}\n\n"
	}
	const end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
	streamed := format[:len(format)-1] + `,"stream":true}`
	b.answer = b.says("text/event-stream", piece(`{\"ok\":`)+piece("true}")+end)
	if ev := events(t, ask(g, "POST", chatPath, streamed).Body.Bytes()); ev[len(ev)-1] != "[DONE]" {
		t.Errorf("kept in a stream: %q", ev)
	}
	b.answer = b.says("text/event-stream", piece(`{\"ok\":`)+piece("1}")+end)
	ev := events(t, ask(g, "POST", chatPath, streamed).Body.Bytes())
	if _, code, _ := errorOf(t, []byte(ev[len(ev)-1])); code != openai.CodeSchemaMismatch {
		t.Errorf("broken in a stream: %q", ev)
	}
	// Arguments of strict tools.
	tools := with(`"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}}}]`)
	call := func(arguments string) string {
		return `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"x","type":"function","function":{"name":"f","arguments":"` + arguments + `"}}]},"finish_reason":"tool_calls"}]}`
	}
	script(call(`{\"a\":1}`))
	if w := ask(g, "POST", chatPath, tools); w.Code != 200 {
		t.Errorf("arguments: %d %s", w.Code, w.Body)
	}
	script(call(`{\"a\":\"secret\"}`))
	if w := ask(g, "POST", chatPath, tools); w.Code != 502 || strings.Contains(w.Body.String(), "secret") || len(calls) != 2 {
		t.Errorf("bad arguments twice: %d %s, %d calls", w.Code, w.Body, len(calls))
	}
	script(call(`{\"a\":`), call(`{\"a\":2}`))
	w = ask(g, "POST", chatPath, tools)
	if w.Code != 200 || len(calls) != 2 || w.Header().Get("X-Cocoon-Repaired") != "1" || !strings.Contains(w.Body.String(), `{\"a\":2}`) {
		t.Errorf("repaired arguments: %d %s, %d calls", w.Code, w.Body, len(calls))
	}
	if !strings.Contains(calls[1], `{"role":"user","content":"Your tool calls do not fit their schemas: the arguments of a call of f: `) || strings.Contains(calls[1], "tool_calls") {
		t.Errorf("the repair of a call asks %s", calls[1])
	}
	// Of several choices each is checked, and none repaired.
	several := func(second string) string {
		return `{"object":"chat.completion","choices":[{"index":0,"message":{"content":"` + good + `"},"finish_reason":"stop"},{"index":1,"message":{"content":"` + second + `"},"finish_reason":"stop"}]}`
	}
	two := format[:len(format)-1] + `,"n":2}`
	script(several(good))
	if w := ask(g, "POST", chatPath, two); w.Code != 200 || len(calls) != 1 {
		t.Errorf("two good choices: %d %s, %d calls", w.Code, w.Body, len(calls))
	}
	script(several(bad))
	w = ask(g, "POST", chatPath, two)
	if message, code, _ := errorOf(t, w.Body.Bytes()); w.Code != 502 || code != openai.CodeSchemaMismatch || len(calls) != 1 || !strings.Contains(message, "choice 1: ok must be of type boolean") {
		t.Errorf("one bad choice: %d %s, %d calls", w.Code, w.Body, len(calls))
	}
	b.answer = b.says("text/event-stream", piece(good)+strings.ReplaceAll(piece(bad), `"index":0`, `"index":1`)+end)
	ev = events(t, ask(g, "POST", chatPath, two[:len(two)-1]+`,"stream":true}`).Body.Bytes())
	if message, _, _ := errorOf(t, []byte(ev[len(ev)-1])); !strings.Contains(message, "choice 1: ") {
		t.Errorf("one bad choice in a stream: %q", ev)
	}
	for _, empty := range []string{`{"object":"chat.completion","choices":[]}`, `{"object":"chat.completion","choices":[{"index":0,"message":{"content":null},"finish_reason":"stop"}]}`} {
		script(empty)
		if w := ask(g, "POST", chatPath, format); w.Code != 502 || !strings.Contains(w.Body.String(), openai.CodeSchemaMismatch) {
			t.Errorf("%s: %d %s", empty, w.Code, w.Body)
		}
	}
}

// TestPrompted holds that where only reference workers serve a model, a schema
// is asked for in words, said in a header, and checked.
func TestPrompted(t *testing.T) {
	b := &wordBackend{referenceOnly: true}
	g := newGateway(t, b, func(c *Config) { c.Reference = true })
	b.answer = nil
	w := ask(g, "POST", chatPath, `{"model":"words","messages":[{"role":"user","content":"{}"}],"response_format":{"type":"json_object"}}`)
	const want = `{"model":"words","messages":[{"role":"system","content":"Answer with one JSON object and nothing else: no code fence, no comment."},{"role":"user","content":"{}"}],"max_tokens":1024,"max_completion_tokens":1024}`
	if w.Code != 200 || w.Header().Get("X-Cocoon-Structured") != "prompted" || string(b.call().Body) != want {
		t.Errorf("%d %v\n%s, want\n%s", w.Code, w.Header(), b.call().Body, want)
	}
}

func FuzzOtherForms(f *testing.F) {
	f.Add("/v1/responses", `{"model":"words","input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call","call_id":"k","name":"f","arguments":"{}"}],"tools":[{"type":"function","name":"f"}]}`)
	f.Add("/v1/messages", `{"model":"words","max_tokens":5,"messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"k"}]}],"tools":[{"name":"f","input_schema":{}}]}`)
	f.Add("/v1/embeddings", `{"model":"words","input":[[1,2],[3]]}`)
	b := &wordBackend{}
	b.answer = b.says("application/json", fullAnswer)
	g := newGateway(f, b, nil)
	f.Fuzz(func(t *testing.T, path, body string) {
		if path != "/v1/responses" && path != "/v1/messages" && path != "/v1/embeddings" {
			return
		}
		w := ask(g, "POST", path, body)
		if w.Code == 500 {
			t.Errorf("%s: %s", body, w.Body)
		}
		if w.Code == 200 && (!json.Valid(w.Body.Bytes()) || !json.Valid(b.call().Body)) {
			t.Errorf("%s becomes %s, answered %s", body, b.call().Body, w.Body)
		}
	})
}

// FuzzTranscript: whatever an engine says of a file, whole or streamed, the
// caller gets an answer or an error in the form that was asked for, and a stream
// that ends well ends with one event that holds all of the text.
func FuzzTranscript(f *testing.F) {
	f.Add(`{"text":"a","segments":[{"start":0,"end":1.5,"text":"a"}],"usage":{"prompt_tokens":1}}`, "srt")
	f.Add(`{"text":"a","segments":[{"start":1,"end":3,"text":"<a> --> b"}]}`, "vtt")
	f.Add(`{"text":"a","segments":[{"text":""},{"text":"a"}]}`, "srt")
	f.Add("data: {\"type\":\"transcript.text.delta\",\"delta\":\"a\"}\n\ndata: {\"type\":\"transcript.text.done\",\"text\":\"a\"}\n\n", "stream")
	f.Add("data: {\"choices\":[{\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", "stream")
	b := &wordBackend{}
	g := newGateway(f, b, nil)
	f.Fuzz(func(t *testing.T, says, format string) {
		media, field := "application/json", "response_format"
		if format == "stream" {
			media, field, format = "text/event-stream", "stream", "true"
		}
		b.answer = b.says(media, says)
		w := askForm(g, "model", "words", "file", "x", field, format)
		switch {
		case w.Code >= 400:
			if message, _, _ := errorOf(t, w.Body.Bytes()); w.Code == 500 || message == "" {
				t.Fatalf("%q: %d %s", says, w.Code, w.Body)
			}
		case field == "stream":
			ev := events(t, w.Body.Bytes())
			if ev[len(ev)-1] != "[DONE]" {
				if message, _, _ := errorOf(t, []byte(ev[len(ev)-1])); message == "" {
					t.Fatalf("%q ends with %q", says, ev)
				}
				return
			}
			var last struct{ Type string }
			if len(ev) < 2 || json.Unmarshal([]byte(ev[len(ev)-2]), &last) != nil || last.Type != "transcript.text.done" {
				t.Fatalf("%q ends with %q", says, ev)
			}
		case format == "srt", format == "vtt":
			if strings.Contains(w.Body.String(), "\n\n\n") || strings.Count(w.Body.String(), "-->") != strings.Count(w.Body.String(), " --> ") {
				t.Fatalf("%q becomes %q", says, w.Body)
			}
		}
	})
}

func FuzzForm(f *testing.F) {
	body, _ := makeForm("model", "words", "file", "x")
	f.Add([]byte(body), "x")
	f.Fuzz(func(t *testing.T, body []byte, boundary string) {
		parts, err := readForm(body, boundary)
		if err != nil {
			return
		}
		again, contentType := writeForm(parts)
		_, params, _ := mime.ParseMediaType(contentType)
		same, err := readForm(again, params["boundary"])
		if err != nil || len(same) != len(parts) {
			t.Errorf("%q: written %q: %v", body, again, err)
		}
	})
}
