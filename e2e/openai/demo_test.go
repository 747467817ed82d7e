package openai_test

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
	"time"

	openai "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/shared"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
)

// TestDemo holds what `cocoon up` serves by default against the demo engine
// asked directly, in this process.
func TestDemo(t *testing.T) {
	base := startUp(t)
	srv, err := demo.New(demo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	direct := openai.NewClient(option.WithBaseURL("http://demo/v1"), option.WithAPIKey("x"), option.WithMaxRetries(0), option.WithHTTPClient(&http.Client{Transport: srv.Transport()}))
	model := cocoon.ModelName(demo.FullName()).Base()
	say := func(prompt string) openai.ChatCompletionNewParams {
		p := chat(prompt)
		p.Model = model
		p.Temperature = openai.Float(0)
		p.MaxTokens = openai.Int(48)
		return p
	}
	cases := map[string]openai.ChatCompletionNewParams{
		"question":  say("What is Cocoon?"),
		"sum":       say("What is 7 + 5?"),
		"translate": say("Translate to German: good morning"),
	}
	short := say("What is Cocoon?")
	short.MaxTokens = openai.Int(3)
	cases["limited"] = short
	sampled := say("Tell me about workers")
	sampled.Temperature, sampled.Seed = openai.Float(1), openai.Int(7)
	cases["sampled with a seed"] = sampled
	schema := say("Summarise: Anna: coffee tomorrow? Bob: ok.")
	schema.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{
		Name:   "answer",
		Schema: map[string]any{"type": "object", "properties": map[string]any{"ok": map[string]any{"type": "boolean"}}, "required": []string{"ok"}, "additionalProperties": false},
	}}
	cases["schema"] = schema
	for name, p := range cases {
		t.Run(name, func(t *testing.T) {
			ctx := deadline(t)
			want, _, err := ask(ctx, direct, p)
			if err != nil {
				t.Fatal(err)
			}
			// How much of a prompt was cached depends on who asked before.
			want.Cached = 0
			got, c, err := ask(ctx, client(base), p)
			got.Cached = 0
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("whole: got %+v, %v; want %+v", got, err, want)
			}
			if want.Texts[0] == "" || want.Total <= want.Prompt {
				t.Errorf("the engine says nothing: %+v", want)
			}
			if costOf(t, c.Usage.RawJSON()) <= 0 {
				t.Errorf("cost in %s", c.Usage.RawJSON())
			}
			got, _, err = askStream(ctx, client(base), p)
			got.Cached = 0
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("streamed: got %+v, %v; want %+v", got, err, want)
			}
			if name == "schema" {
				var v struct{ OK *bool }
				if err := json.Unmarshal([]byte(got.Texts[0]), &v); err != nil || v.OK == nil {
					t.Errorf("%q does not fit the schema: %v", got.Texts[0], err)
				}
			}
		})
	}
	t.Run("cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(deadline(t))
		defer cancel()
		p := say("What is Cocoon?")
		p.MaxTokens = openai.Int(4096)
		s := func() bool {
			cl := client(base)
			s := cl.Chat.Completions.NewStreaming(ctx, p)
			defer s.Close()
			return s.Next()
		}
		if !s() {
			t.Fatal("no chunk")
		}
		cancel()
		// Whoever left does not stand in the way of the next.
		after, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		if _, _, err := ask(after, client(base), say("What is Cocoon?")); err != nil {
			t.Error(err)
		}
	})
}
