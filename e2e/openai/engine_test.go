package openai_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

const engineModel = "words"

// wordEngine is a small real engine: an OpenAI server that answers with the
// last message's words backwards, one token a word. A first word can ask it to
// misbehave: "stall" (one token, then silence), "break" (two tokens, then the
// connection is cut), "refuse" (status 400), "busy" (status 503).
type wordEngine struct {
	*httptest.Server

	mu      sync.Mutex
	stopped chan time.Time // when a stalled request was cancelled
	bodies  []map[string]json.RawMessage
}

// asked is how often the engine was asked about a text.
func (e *wordEngine) asked(text string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, b := range e.bodies {
		if strings.Contains(string(b["messages"]), text) {
			n++
		}
	}
	return n
}

func startEngine(t *testing.T) *wordEngine {
	t.Helper()
	e := &wordEngine{stopped: make(chan time.Time, 16)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model","created":0,"owned_by":"test"}]}`, engineModel)
	})
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/chat/completions", e.serve)
	mux.HandleFunc("POST /v1/completions", e.serve)
	mux.HandleFunc("POST /v1/embeddings", embed)
	mux.HandleFunc("POST /v1/audio/transcriptions", transcribe)
	e.Server = httptest.NewServer(mux)
	t.Cleanup(func() { e.CloseClientConnections(); e.Close() })
	return e
}

// embed answers each text with the lengths of its first words.
func embed(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Input      []string
		Dimensions int
	}
	if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	type vector struct {
		Object    string    `json:"object"`
		Index     int       `json:"index"`
		Embedding []float64 `json:"embedding"`
	}
	var data []vector
	tokens := 0
	for i, text := range req.Input {
		v := make([]float64, max(req.Dimensions, 4))
		for k, word := range strings.Fields(text) {
			v[k%len(v)] += float64(len(word)) / 8
			tokens++
		}
		data = append(data, vector{"embedding", i, v})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "model": engineModel, "data": data, "usage": map[string]int{"prompt_tokens": tokens, "total_tokens": tokens}})
}

// transcribe takes the file for what was said, a word a second. Streams have the
// form of vLLM; files that begin with "openai" are streamed in that form.
func transcribe(w http.ResponseWriter, r *http.Request) {
	f, _, err := r.FormFile("file")
	if err != nil || r.FormValue("model") != engineModel {
		http.Error(w, "bad form", http.StatusBadRequest)
		return
	}
	said, _ := io.ReadAll(f)
	text := string(said) + " in " + r.FormValue("language")
	usage := map[string]int{"prompt_tokens": len(said), "completion_tokens": 3, "total_tokens": len(said) + 3}
	if r.FormValue("stream") == "true" {
		w.Header().Set("Content-Type", "text/event-stream")
		event := func(v any) {
			b, _ := json.Marshal(v)
			fmt.Fprintf(w, "data: %s\n\n", b)
		}
		for _, word := range strings.SplitAfter(text, " ") {
			if strings.HasPrefix(text, "openai") {
				event(map[string]any{"type": "transcript.text.delta", "delta": word})
			} else {
				event(map[string]any{"object": "transcription.chunk", "choices": []any{map[string]any{"delta": map[string]string{"content": word}}}})
			}
		}
		if strings.HasPrefix(text, "openai") {
			event(map[string]any{"type": "transcript.text.done", "text": text, "usage": map[string]any{"type": "tokens", "input_tokens": len(said), "output_tokens": 3, "total_tokens": len(said) + 3}})
			return
		}
		event(map[string]any{"object": "transcription.chunk", "choices": []any{map[string]any{"delta": map[string]string{}, "finish_reason": "stop"}}})
		if r.FormValue("stream_include_usage") == "true" {
			event(map[string]any{"object": "transcription.chunk", "choices": []any{}, "usage": usage})
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
		return
	}
	answer := map[string]any{"text": text, "usage": usage}
	if r.FormValue("response_format") == "verbose_json" {
		var segments []any
		for i, word := range strings.Fields(text) {
			segments = append(segments, map[string]any{"id": i, "start": i, "end": i + 1, "text": " " + word})
		}
		answer["segments"] = segments
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

type engineRequest struct {
	Messages []struct {
		Content json.RawMessage `json:"content"`
	} `json:"messages"`
	Prompt    string `json:"prompt"`
	Stream    bool   `json:"stream"`
	N         int    `json:"n"`
	MaxTokens int    `json:"max_tokens"`
	Options   struct {
		Usage bool `json:"include_usage"`
	} `json:"stream_options"`
	Tools []struct {
		Function struct {
			Name string `json:"name"`
		} `json:"function"`
	} `json:"tools"`
}

// prompt is the last message's text, whole or in parts.
func (r engineRequest) prompt() string {
	if len(r.Messages) == 0 {
		return r.Prompt
	}
	content := r.Messages[len(r.Messages)-1].Content
	var text string
	if json.Unmarshal(content, &text) == nil {
		return text
	}
	var parts []struct {
		Text string `json:"text"`
	}
	_ = json.Unmarshal(content, &parts)
	for _, p := range parts {
		text += p.Text
	}
	return text
}

func (e *wordEngine) serve(w http.ResponseWriter, r *http.Request) {
	var raw map[string]json.RawMessage
	var req engineRequest
	body := json.NewDecoder(r.Body)
	if err := body.Decode(&raw); err != nil {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	whole, _ := json.Marshal(raw)
	if err := json.Unmarshal(whole, &req); err != nil {
		http.Error(w, "bad body", http.StatusBadRequest)
		return
	}
	e.mu.Lock()
	e.bodies = append(e.bodies, raw)
	e.mu.Unlock()
	words := strings.Fields(req.prompt())
	mode := ""
	if len(words) > 0 {
		mode = words[0]
	}
	w.Header().Set("Content-Type", "application/json")
	switch mode {
	case "refuse":
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"message":"the engine refuses this","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`)
		return
	case "busy":
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error":{"message":"busy","type":"server_error","param":null,"code":"busy"}}`)
		return
	}
	var out []string
	for i := len(words) - 1; i >= 0; i-- {
		out = append(out, words[i])
	}
	finish := "stop"
	if req.MaxTokens > 0 && len(out) > req.MaxTokens {
		out, finish = out[:req.MaxTokens], "length"
	}
	n := max(req.N, 1)
	usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":1}}`, len(words), n*len(out), len(words)+n*len(out))
	a := answerForm{chat: strings.HasSuffix(r.URL.Path, "/chat/completions"), finish: finish}
	for i, tool := range req.Tools {
		if i == 0 {
			a.tool = tool.Function.Name
		} else {
			a.more = append(a.more, tool.Function.Name)
		}
	}
	if !req.Stream {
		var choices []string
		for i := range n {
			choices = append(choices, a.whole(i, strings.Join(out, " ")))
		}
		fmt.Fprintf(w, `{"id":"e1","object":%q,"created":1,"model":%q,"choices":[%s],"usage":%s}`, a.object(false), engineModel, strings.Join(choices, ","), usage)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	send := func(choices, usage string) {
		fmt.Fprintf(w, "data: {\"id\":\"e1\",\"object\":%q,\"created\":1,\"model\":%q,\"choices\":[%s],\"usage\":%s}\n\n", a.object(true), engineModel, choices, usage)
		_ = flush.Flush()
	}
	for i := range n {
		for k, word := range out {
			if k > 0 {
				word = " " + word
			}
			send(a.piece(i, word, k == 0), "null")
			switch {
			case mode == "stall":
				<-r.Context().Done()
				e.stopped <- time.Now()
				return
			case mode == "break" && k == 1:
				panic(http.ErrAbortHandler)
			}
		}
		send(a.last(i), "null")
	}
	if req.Options.Usage {
		send("", usage)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

// answerForm writes choices in the form that was asked for.
type answerForm struct {
	chat         bool
	tool, finish string
	more         []string // further tools that are called, with no arguments
}

// calls writes the calls after the first; stream says that they have an index.
func (a answerForm) calls(stream bool) string {
	var b strings.Builder
	for i, name := range a.more {
		index := ""
		if stream {
			index = fmt.Sprintf(`"index":%d,`, i+1)
		}
		fmt.Fprintf(&b, `,{%s"id":"call_%d","type":"function","function":{"name":%q,"arguments":"{}"}}`, index, i+2, name)
	}
	return b.String()
}

func (a answerForm) object(stream bool) string {
	switch {
	case !a.chat:
		return "text_completion"
	case stream:
		return "chat.completion.chunk"
	}
	return "chat.completion"
}

func (a answerForm) whole(i int, text string) string {
	q := quote(text)
	switch {
	case !a.chat:
		return fmt.Sprintf(`{"index":%d,"text":%s,"logprobs":null,"finish_reason":%q}`, i, q, a.finish)
	case a.tool != "":
		return fmt.Sprintf(`{"index":%d,"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":%q,"arguments":%s}}%s]},"finish_reason":"tool_calls"}`, i, a.tool, quote(`{"text":`+q+`}`), a.calls(false))
	}
	return fmt.Sprintf(`{"index":%d,"message":{"role":"assistant","content":%s},"logprobs":null,"finish_reason":%q}`, i, q, a.finish)
}

func (a answerForm) piece(i int, word string, first bool) string {
	switch {
	case !a.chat:
		return fmt.Sprintf(`{"index":%d,"text":%s,"logprobs":null,"finish_reason":null}`, i, quote(word))
	case a.tool != "" && first:
		return fmt.Sprintf(`{"index":%d,"delta":{"role":"assistant","tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":%q,"arguments":%s}}]},"finish_reason":null}`, i, a.tool, quote(`{"text":"`+inside(word)))
	case a.tool != "":
		return fmt.Sprintf(`{"index":%d,"delta":{"tool_calls":[{"index":0,"function":{"arguments":%s}}]},"finish_reason":null}`, i, quote(inside(word)))
	case first:
		return fmt.Sprintf(`{"index":%d,"delta":{"role":"assistant","content":%s},"finish_reason":null}`, i, quote(word))
	}
	return fmt.Sprintf(`{"index":%d,"delta":{"content":%s},"finish_reason":null}`, i, quote(word))
}

func (a answerForm) last(i int) string {
	switch {
	case !a.chat:
		return fmt.Sprintf(`{"index":%d,"text":"","logprobs":null,"finish_reason":%q}`, i, a.finish)
	case a.tool != "":
		return fmt.Sprintf(`{"index":%d,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\"}"}}%s]},"finish_reason":"tool_calls"}`, i, a.calls(true))
	}
	return fmt.Sprintf(`{"index":%d,"delta":{},"finish_reason":%q}`, i, a.finish)
}

// inside is a part of a text in JSON.
func inside(s string) string { q := quote(s); return q[1 : len(q)-1] }

func quote(s string) string { b, _ := json.Marshal(s); return string(b) }
