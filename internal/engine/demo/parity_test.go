//go:build !tee

package demo_test

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// modelFile is our model as a file, for other engines.
func modelFile(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("weights/cocoon-demo-1.gguf")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func ourEngine(t *testing.T) (*demo.Server, *engine.Client) {
	t.Helper()
	s, err := demo.New(demo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := engine.New(engine.Config{BaseURL: "http://demo", Transport: s.Transport(), Dialect: engine.Demo})
	if err != nil {
		t.Fatal(err)
	}
	return s, c
}

// TestLlamaServer runs the conformance suite on a real llama.cpp server with our
// model, and compares the two engines: the same tokens, and the same greedy
// text and counts. llama.cpp rounds activations to eight bits before it
// multiplies with Q8_0 weights and we do not, so a near tie may fall
// differently: one answer in ten may differ, a token never.
func TestLlamaServer(t *testing.T) {
	theirs := enginetest.LlamaServer(t, modelFile(t), demo.Model, 2, 1024)
	s, ours := ourEngine(t)
	if d, err := theirs.Detect(t.Context()); err != nil || d != engine.LlamaCpp {
		t.Errorf("detected as %q, %v", d, err)
	}
	if n := theirs.Slots(t.Context()); n != 2 {
		t.Errorf("%d slots, want 2", n)
	}
	t.Run("conform", func(t *testing.T) { enginetest.Conform(t, theirs, demo.Model) })
	t.Run("parity", func(t *testing.T) { parity(t, ours, theirs, 9) })
	t.Run("tokens", func(t *testing.T) { tokens(t, s, theirs) })
}

// parity asks both engines the same and wants tenths of the answers to be equal,
// and all counts of prompts.
func parity(t *testing.T, ours, theirs *engine.Client, tenths int) {
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
	if same < len(prompts)*tenths/10 {
		t.Errorf("only %d of %d answers are the same", same, len(prompts))
	}
}

// tokens compares how both split texts.
func tokens(t *testing.T, s *demo.Server, theirs *engine.Client) {
	for _, text := range []string{"Hello, I'm Bob's  friend!\n\n 12:30  ", "Привет, мир! 🙂 ok", "a\r\n\r\nb  c", "x=1+2;  {\"a\":[1,2]}", "  lead", "tail  ", "Größe über Straße", "don't CAN'T we'Ll"} {
		body, _ := json.Marshal(map[string]any{"content": text})
		resp, err := theirs.Do(t.Context(), &engine.Request{Path: "/tokenize", ContentType: "application/json", Body: body})
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
