//go:build !tee

package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

func server(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func post(t testing.TB, s *Server, path, body string) (int, []byte) {
	t.Helper()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("POST", path, strings.NewReader(body)))
	return w.Code, w.Body.Bytes()
}

type completion struct {
	Choices []struct {
		Index   int
		Text    string
		Message struct {
			Content   *string
			ToolCalls []struct {
				Index    int
				ID, Type string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		Delta struct {
			Role      string
			Content   string
			ToolCalls []struct {
				Index    int
				ID, Type string
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		Logprobs struct {
			Content []struct {
				Token       string
				Logprob     float64
				TopLogprobs []struct{ Logprob float64 } `json:"top_logprobs"`
			}
		}
		FinishReason string `json:"finish_reason"`
	}
	Usage *openai.Usage
	Error struct{ Message, Type, Param, Code string }
}

func ask(t testing.TB, s *Server, path, body string) completion {
	t.Helper()
	code, b := post(t, s, path, body)
	if code != 200 {
		t.Fatalf("%s: status %d: %s", body, code, b)
	}
	var c completion
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return c
}

func chatBody(user, more string) string {
	b := openai.AppendString([]byte(`{"model":"cocoon-demo-1","messages":[{"role":"user","content":`), user)
	return string(b) + "}]" + more + "}"
}

const chatPath, textPath = "/v1/chat/completions", "/v1/completions"

func stream(t testing.TB, s *Server, path, body string) []completion {
	t.Helper()
	code, b := post(t, s, path, body)
	if code != 200 {
		t.Fatalf("status %d: %s", code, b)
	}
	er := openai.NewEventReader(bytes.NewReader(b), 1<<20)
	var out []completion
	for {
		ev, err := er.Next()
		if err != nil {
			t.Fatalf("stream ended without [DONE]: %v", err)
		}
		if ev.IsDone() {
			return out
		}
		var c completion
		if err := json.Unmarshal(ev.Data, &c); err != nil {
			t.Fatalf("%v in %s", err, ev.Data)
		}
		out = append(out, c)
	}
}

// TestAnswers holds what the trained model says, greedily: the weights are part
// of the program. Kept to what any good training run gives.
func TestAnswers(t *testing.T) {
	s := server(t, Config{})
	for q, want := range map[string]string{
		"Hello!":                           "Hello! I am the Cocoon demo model. How can I help?",
		"What is Cocoon?":                  "Cocoon is an open network for private AI: owners of GPUs run models inside protected hardware, apps send them sealed requests, and TON pays for each token.",
		"Wer bist du?":                     "Ich bin cocoon-demo-1, ein sehr kleines Modell, das zeigt, wie Cocoon funktioniert.",
		"Как запустить Cocoon?":            "Запустите cocoon up. Команда поднимает всю сеть на вашей машине: блокчейн, прокси, воркеров и API OpenAI. Монеты не нужны.",
		"Terima kasih!":                    "Sama-sama!",
		"Capital of France?":               "The capital of France is Paris.",
		"How do I bake bread?":             Sentence,
		"Suggest replies: are you coming?": "1. On my way!\n2. I will be late, sorry.\n3. I can't come today.",
		"Label this message as JSON: You won 50 thousand dollars, click here!":         `{"label":"spam"}`,
		"Summarise:\nAnna: coffee tomorrow?\nBob: ok, 10:30 at the park.\nAnna: deal.": "Anna and Bob agreed on coffee tomorrow at 10:30 at the park.",
	} {
		c := ask(t, s, chatPath, chatBody(q, ""))
		if got := *c.Choices[0].Message.Content; got != want {
			t.Errorf("%q: %q, want %q", q, got, want)
		}
	}
}

// TestUnsure: an untrained model is never sure, and then the fixed sentence is
// made of real, counted tokens.
func TestUnsure(t *testing.T) {
	s := server(t, Config{})
	for i := range s.model.output {
		s.model.output[i] = 0
	}
	c := ask(t, s, chatPath, chatBody("Hello!", ""))
	n := int64(len(s.model.tok.encode(nil, Sentence)) + 1)
	if got := *c.Choices[0].Message.Content; got != Sentence || c.Usage.CompletionTokens != n || s.Stats().PredictedTokens != n {
		t.Errorf("%q, %+v, want %d tokens", got, *c.Usage, n)
	}
}

// TestUsage compares what is billed with what was computed: the sum over
// requests, streamed, cut short and with several choices, equals the counters.
func TestUsage(t *testing.T) {
	s := server(t, Config{})
	var sum openai.Usage
	add := func(u *openai.Usage) {
		sum.PromptTokens += u.PromptTokens
		sum.CompletionTokens += u.CompletionTokens
		sum.CachedTokens += u.CachedTokens
		if u.TotalTokens != u.PromptTokens+u.CompletionTokens || u.CachedTokens > u.PromptTokens {
			t.Errorf("usage %+v does not add up", *u)
		}
	}
	for _, more := range []string{"", `,"max_tokens":3`, `,"n":3,"temperature":1,"seed":7`, `,"stop":["Cocoon"]`, `,"max_tokens":0`} {
		body := chatBody("What is Cocoon?", more)
		c := ask(t, s, chatPath, body)
		add(c.Usage)
		streamed := strings.TrimSuffix(body, "}") + `,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}}`
		events := stream(t, s, chatPath, streamed)
		last := events[len(events)-1]
		if len(last.Choices) != 0 || last.Usage == nil {
			t.Fatalf("%s: the last event is %+v, want usage without choices", more, last)
		}
		add(last.Usage)
		if last.Usage.CompletionTokens != c.Usage.CompletionTokens || last.Usage.PromptTokens != c.Usage.PromptTokens {
			t.Errorf("%s: streamed usage %+v, whole %+v", more, *last.Usage, *c.Usage)
		}
		texts := map[int]string{}
		var running int64
		for _, e := range events {
			if e.Usage == nil || e.Usage.CompletionTokens < running {
				t.Fatalf("%s: running usage is missing or falls", more)
			}
			running = e.Usage.CompletionTokens
			for _, ch := range e.Choices {
				texts[ch.Index] += ch.Delta.Content
			}
		}
		for _, ch := range c.Choices {
			if texts[ch.Index] != *ch.Message.Content {
				t.Errorf("%s: streamed %q, whole %q", more, texts[ch.Index], *ch.Message.Content)
			}
		}
	}
	st := s.Stats()
	if st.PredictedTokens != sum.CompletionTokens || st.PromptTokens+st.CachedTokens != sum.PromptTokens || st.CachedTokens != sum.CachedTokens {
		t.Errorf("computed %+v, reported %+v", st, sum)
	}
	if sum.CachedTokens == 0 {
		t.Error("the same prompt twice was never taken from the prefix cache")
	}
}

// TestDeterminism: batch size, prefix cache and company do not change a token.
func TestDeterminism(t *testing.T) {
	long := chatBody(strings.Repeat("Anna: coffee tomorrow? Bob: ok, 10:30 at the park. ", 4), `,"max_tokens":40`)
	a := ask(t, server(t, Config{PrefixTokens: -1, Threads: 1}), chatPath, long)
	s := server(t, Config{Threads: 3})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			b := ask(t, s, chatPath, long)
			if *b.Choices[0].Message.Content != *a.Choices[0].Message.Content {
				t.Errorf("%q differs from %q", *b.Choices[0].Message.Content, *a.Choices[0].Message.Content)
			}
		})
	}
	wg.Wait()
	m := s.model
	tokens := m.tok.encode(nil, "One two three four five six seven eight nine ten eleven.")
	c1, c2, sc := m.newCache(), m.newCache(), m.newScratch()
	for i := range tokens {
		m.forward(sc, c1, tokens[i:i+1], true)
	}
	single := append([]float32(nil), sc.logits...)
	for at := 0; at < len(tokens); at += chunk {
		m.forward(sc, c2, tokens[at:min(at+chunk, len(tokens))], true)
	}
	for i, v := range sc.logits {
		if v != single[i] {
			t.Fatalf("logit %d is %g in a batch, %g alone", i, v, single[i])
		}
	}
	seeded := chatBody("Tell me", `,"temperature":1.5,"seed":5,"max_tokens":20`)
	if x, y := ask(t, s, chatPath, seeded), ask(t, s, chatPath, seeded); *x.Choices[0].Message.Content != *y.Choices[0].Message.Content {
		t.Error("the same seed gives different answers")
	}
}

func TestCancel(t *testing.T) {
	s := server(t, Config{Threads: 1})
	tr := s.Transport()
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, "POST", "http://demo/v1/completions", strings.NewReader(`{"model":"cocoon-demo-1","prompt":"Cocoon","max_tokens":1000,"ignore_eos":true,"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	cancel()
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	for s.Stats().Active > 0 {
		time.Sleep(time.Millisecond)
	}
	if n := s.Stats().PredictedTokens; n >= 1000 {
		t.Errorf("the engine made %d tokens for a caller who left", n)
	}
}

func TestQueue(t *testing.T) {
	s := server(t, Config{Active: 1, Queue: 1, Threads: 1})
	var wg sync.WaitGroup
	var mu sync.Mutex
	codes := map[int]int{}
	for range 6 {
		wg.Go(func() {
			code, b := post(t, s, textPath, `{"model":"cocoon-demo-1","prompt":"Cocoon","max_tokens":200,"ignore_eos":true}`)
			mu.Lock()
			defer mu.Unlock()
			codes[code]++
			if code != 200 && !bytes.Contains(b, []byte("rate_limit_exceeded")) {
				t.Errorf("%d %s", code, b)
			}
		})
	}
	wg.Wait()
	if codes[200] == 0 || codes[200]+codes[429] != 6 {
		t.Errorf("statuses %v", codes)
	}
}

func TestBadRequests(t *testing.T) {
	s := server(t, Config{MaxBody: 1 << 16})
	for _, c := range []struct {
		path, body string
		status     int
		param      string
	}{
		{chatPath, `{"model":"cocoon-demo-1"}`, 400, "messages"},
		{chatPath, `{"messages":[{"role":"user","content":"x"}]}`, 400, "model"},
		{chatPath, `{"model":"other","messages":[{"role":"user","content":"x"}]}`, 404, "model"},
		{chatPath, `{"model":"cocoon-demo-1","messages":"x"}`, 400, "messages"},
		{chatPath, `{"model":"cocoon-demo-1","messages":[]}`, 400, "messages"},
		{chatPath, `{"model":"cocoon-demo-1","messages":[{"role":"king","content":"x"}]}`, 400, "messages[0].role"},
		{chatPath, `{"model":"cocoon-demo-1","messages":[{"role":"user","content":[{"type":"image_url"}]}]}`, 400, "messages[0].content[0].type"},
		{chatPath, chatBody("x", `,"temperature":3`), 400, "temperature"},
		{chatPath, chatBody("x", `,"max_tokens":"5"`), 400, "max_tokens"},
		{chatPath, chatBody("x", `,"n":0`), 400, "n"},
		{chatPath, chatBody("x", `,"stop":[""]`), 400, "stop"},
		{chatPath, chatBody("x", `,"stream":"yes"`), 400, "stream"},
		{chatPath, chatBody("x", `,"stream_options":{"include_usage":1}`), 400, "stream_options.include_usage"},
		{chatPath, chatBody("x", `,"response_format":{"type":"xml"}`), 400, "response_format.type"},
		{chatPath, chatBody("x", `,"response_format":{"type":"json_schema","json_schema":{"schema":{"type":"string","pattern":"a"}}}`), 400, "response_format.json_schema.schema"},
		{chatPath, chatBody("x", `,"tool_choice":"required"`), 400, "tool_choice"},
		{chatPath, chatBody("x", `,"tools":[`+strings.Repeat(`{"type":"function","function":{"name":"f"}},`, 8)+`{"type":"function","function":{"name":"f"}}],"tool_choice":"required","parallel_tool_calls":true`), 400, "tools"},
		{chatPath, chatBody("x", `,"parallel_tool_calls":1`), 400, "parallel_tool_calls"},
		{chatPath, chatBody("x", `,"modalities":["text","audio"]`), 400, "modalities"},
		{chatPath, chatBody("x", `,"functions":[{"name":"f"}]`), 400, "functions"},
		{chatPath, `{"model":"cocoon-demo-embed-1","messages":[{"role":"user","content":"x"}]}`, 400, "model"},
		{"/v1/embeddings", `{"model":"cocoon-demo-1","input":"x"}`, 400, "model"},
		{chatPath, chatBody(strings.Repeat("long ", 2000), ""), 400, "messages"},
		{chatPath, chatBody(strings.Repeat("x", 1<<16), ""), 413, ""},
		{chatPath, `{"model":`, 400, ""},
		{chatPath, `[]`, 400, ""},
		{chatPath, strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000), 400, ""},
		{textPath, `{"model":"cocoon-demo-1"}`, 400, "prompt"},
		{textPath, `{"model":"cocoon-demo-1","prompt":[1,99999]}`, 400, "prompt"},
		{textPath, `{"model":"cocoon-demo-1","prompt":"a","best_of":4}`, 400, "best_of"},
		{"/v1/embeddings", `{"model":"cocoon-demo-embed-1","input":[]}`, 400, "input"},
		{"/v1/embeddings", `{"model":"cocoon-demo-embed-1","input":"a","dimensions":4}`, 400, "dimensions"},
		{"/v1/audio/speech", `{}`, 404, ""},
	} {
		code, b := post(t, s, c.path, c.body)
		var e completion
		if err := json.Unmarshal(b, &e); err != nil {
			t.Errorf("%.80s: %v in %s", c.body, err, b)
			continue
		}
		if code != c.status || e.Error.Message == "" || e.Error.Param != c.param {
			t.Errorf("%.80s: status %d param %q message %q, want %d %q", c.body, code, e.Error.Param, e.Error.Message, c.status, c.param)
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", chatPath, nil))
	if w.Code != 405 {
		t.Errorf("GET gives %d", w.Code)
	}
	if s.Stats().PredictedTokens != 0 {
		t.Error("a refused request ran the model")
	}
}

func TestCompletions(t *testing.T) {
	s := server(t, Config{})
	c := ask(t, s, textPath, `{"model":"cocoon-demo-1","prompt":["Cocoon is","A worker is"],"max_tokens":8,"echo":true,"n":2,"logprobs":2}`)
	if len(c.Choices) != 4 || !strings.HasPrefix(c.Choices[2].Text, "A worker is") || c.Choices[0].Text != c.Choices[1].Text {
		t.Fatalf("%+v", c.Choices)
	}
	var text string
	for _, e := range stream(t, s, textPath, `{"model":"cocoon-demo-1","prompt":"Cocoon is","max_tokens":8,"echo":true,"stream":true}`) {
		text += e.Choices[0].Text
	}
	if text != c.Choices[0].Text {
		t.Errorf("streamed %q, whole %q", text, c.Choices[0].Text)
	}
	ids := s.model.tok.encode(nil, "Cocoon is")
	b, _ := json.Marshal(ids)
	d := ask(t, s, textPath, `{"model":"cocoon-demo-1","prompt":`+string(b)+`,"max_tokens":8,"echo":true}`)
	if d.Choices[0].Text != text || d.Usage.PromptTokens != int64(len(ids)) {
		t.Errorf("prompt as tokens gives %q, %+v", d.Choices[0].Text, d.Usage)
	}
}

func TestLogprobs(t *testing.T) {
	s := server(t, Config{})
	c := ask(t, s, chatPath, chatBody("Hello!", `,"logprobs":true,"top_logprobs":3`))
	lp := c.Choices[0].Logprobs.Content
	var text string
	for _, p := range lp {
		text += p.Token
		if p.Logprob > 1e-6 || len(p.TopLogprobs) != 3 || p.TopLogprobs[0].Logprob < p.TopLogprobs[1].Logprob {
			t.Fatalf("%+v", p)
		}
	}
	if int64(len(lp)) != c.Usage.CompletionTokens || text != *c.Choices[0].Message.Content+"<|im_end|>" {
		t.Errorf("%d logprobs spell %q for %q", len(lp), text, *c.Choices[0].Message.Content)
	}
}

func TestStop(t *testing.T) {
	s := server(t, Config{})
	full := *ask(t, s, chatPath, chatBody("What is Cocoon?", "")).Choices[0].Message.Content
	for _, stop := range []string{full[3:9], full[len(full)/2 : len(full)/2+4], "never there"} {
		b, _ := json.Marshal(stop)
		c := ask(t, s, chatPath, chatBody("What is Cocoon?", `,"stop":`+string(b)))
		want, _, _ := strings.Cut(full, stop)
		if got := *c.Choices[0].Message.Content; got != want || c.Choices[0].FinishReason != "stop" {
			t.Errorf("stop %q: %q, want %q", stop, got, want)
		}
	}
}

func TestHolder(t *testing.T) {
	h := holder{stops: []string{"END", "ö!"}}
	var out string
	for _, s := range []string{"a\xc3", "\xb6", "b E", "N", "X \xf0\x9f", "\x99\x82", " \xff\xc3"} {
		text, stopped := h.add(s)
		if stopped {
			t.Fatal("stopped")
		}
		out += text
	}
	if out += h.rest(); out != "aöb ENX 🙂 \uFFFD\uFFFD" {
		t.Errorf("%q", out)
	}
}

func TestMetricsAndModels(t *testing.T) {
	s := server(t, Config{})
	ask(t, s, chatPath, chatBody("Hello!", ""))
	for path, want := range map[string]string{"/metrics": "cocoon_demo:tokens_predicted_total ", "/v1/models": `"id":"cocoon-demo-1"`, "/health": "ok"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if name := FullName(); !strings.HasPrefix(name, "cocoon-demo-1@") || len(name) != len("cocoon-demo-1@")+12+1+64 {
		t.Error(name)
	}
}

func TestEmbeddings(t *testing.T) {
	s := server(t, Config{})
	var out struct {
		Data []struct {
			Embedding []float64
		}
		Usage openai.Usage
	}
	code, b := post(t, s, "/v1/embeddings", `{"model":"cocoon-demo-embed-1","input":["the cat sat on the mat","a cat on a mat","payment channels on TON"],"dimensions":128}`)
	if err := json.Unmarshal(b, &out); code != 200 || err != nil || len(out.Data) != 3 || len(out.Data[0].Embedding) != 128 || out.Usage.PromptTokens == 0 {
		t.Fatalf("%d %v %s", code, err, b)
	}
	cos := func(i, j int) (d float64) {
		for k, x := range out.Data[i].Embedding {
			d += x * out.Data[j].Embedding[k]
		}
		return d
	}
	if n := cos(0, 0); n < 0.999 || n > 1.001 || cos(0, 1) < cos(0, 2)+0.2 {
		t.Errorf("norm %g, near %g, far %g", n, cos(0, 1), cos(0, 2))
	}
	if code, b := post(t, s, "/v1/embeddings", `{"model":"cocoon-demo-embed-1","input":"cat","encoding_format":"base64"}`); code != 200 || !bytes.Contains(b, []byte(`"embedding":"`)) {
		t.Errorf("%d %s", code, b)
	}
}

func BenchmarkGenerate(b *testing.B) {
	s := server(b, Config{PrefixTokens: -1, Threads: 1})
	for b.Loop() {
		ask(b, s, textPath, `{"model":"cocoon-demo-1","prompt":"Cocoon is","max_tokens":100,"ignore_eos":true}`)
	}
	b.ReportMetric(float64(s.Stats().PredictedTokens)/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkPrefill(b *testing.B) {
	s := server(b, Config{PrefixTokens: -1, Threads: 1})
	body := chatBody(strings.Repeat("Anna: coffee tomorrow? Bob: ok, 10:30 at the park. ", 8), `,"max_tokens":0`)
	for b.Loop() {
		ask(b, s, chatPath, body)
	}
	b.ReportMetric(float64(s.Stats().PromptTokens)/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		server(b, Config{})
	}
}
