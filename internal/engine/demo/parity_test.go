//go:build !tee && external

package demo_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
)

// TestLlamaParity compares our engine with a llama-server that serves the same
// file at COCOON_LLAMA_URL: the same tokens, and the same greedy text and
// counts. llama.cpp rounds activations to eight bits before it multiplies with
// Q8_0 weights and we do not, so a near tie may fall differently: one answer in
// ten may differ, a token never.
func TestLlamaParity(t *testing.T) {
	url := os.Getenv("COCOON_LLAMA_URL")
	if url == "" {
		t.Skip("set COCOON_LLAMA_URL to a llama-server that serves weights/cocoon-demo-1.gguf")
	}
	s, err := demo.New(demo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := engine.New(engine.Config{BaseURL: "http://demo", Transport: s.Transport()})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := engine.New(engine.Config{BaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := theirs.Detect(t.Context()); err != nil || d != engine.LlamaCpp {
		t.Errorf("detected as %q, %v", d, err)
	}
	type answer struct {
		Choices []struct{ Message struct{ Content string } }
		Usage   struct {
			Prompt     int `json:"prompt_tokens"`
			Completion int `json:"completion_tokens"`
		}
	}
	ask := func(c *engine.Client, q string) answer {
		t.Helper()
		b, _ := json.Marshal(map[string]any{"model": demo.Model, "temperature": 0, "max_tokens": 80, "messages": []map[string]string{{"role": "user", "content": q}}})
		resp, err := c.Do(t.Context(), &engine.Request{Path: "/v1/chat/completions", ContentType: "application/json", Body: b})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var a answer
		if err := json.NewDecoder(resp.Body).Decode(&a); err != nil || len(a.Choices) == 0 {
			t.Fatalf("status %d: %v", resp.StatusCode, err)
		}
		return a
	}
	prompts := []string{
		"Hello!", "What is Cocoon?", "Who are you?", "Wer bist du?", "Что такое воркер?", "Apa itu Cocoon?", "What is a TEE?", "How do I start Cocoon?", "What can you do?", "Thanks!",
		"Translate \"Good morning!\" to Indonesian", "Wie geht es dir?", "Capital of France?", "Suggest replies: are you coming?", "Label: you won 50 thousand dollars, click here!",
		"Summarise:\nAnna: coffee tomorrow?\nBob: ok, 10:30 at the park.\nAnna: deal.", "Was ist ein Beleg?", "Is my data private?", "Bye!", "How do I become a worker?",
	}
	same := 0
	for _, q := range prompts {
		a, b := ask(ours, q), ask(theirs, q)
		if a.Usage.Prompt != b.Usage.Prompt {
			t.Errorf("%q has %d tokens here, %d there", q, a.Usage.Prompt, b.Usage.Prompt)
		}
		if x, y := a.Choices[0].Message.Content, b.Choices[0].Message.Content; x == y && a.Usage == b.Usage {
			same++
		} else if strings.HasPrefix(x, demo.Sentence) {
			t.Logf("%q: unsure here, %q there", q, y)
		} else {
			t.Logf("%q: %q here, %q there (%+v, %+v)", q, x, y, a.Usage, b.Usage)
		}
	}
	t.Logf("%d of %d answers are the same, with the same counts", same, len(prompts))
	if same < len(prompts)*9/10 {
		t.Errorf("only %d of %d answers are the same", same, len(prompts))
	}
	for _, text := range []string{"Hello, I'm Bob's  friend!\n\n 12:30  ", "Привет, мир! 🙂 ok", "a\r\n\r\nb  c", "x=1+2;  {\"a\":[1,2]}", "  lead", "tail  ", "Größe über Straße", "don't CAN'T we'Ll"} {
		body, _ := json.Marshal(map[string]any{"content": text})
		resp, err := http.Post(url+"/tokenize", "application/json", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		var out struct{ Tokens []int32 }
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
		if got := demo.Tokenize(s, text); fmt.Sprint(got) != fmt.Sprint(out.Tokens) {
			t.Errorf("%q: %v here, %v there", text, got, out.Tokens)
		}
	}
}
