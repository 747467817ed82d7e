package openai_test

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	openai "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
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
	t.Run("parallel tools", func(t *testing.T) { parallelTools(t, client(base), direct, say("Weather in Bandung, and the time?")) })
	t.Run("several prompts", func(t *testing.T) {
		ctx := deadline(t)
		p := openai.CompletionNewParams{Model: openai.CompletionNewParamsModel(model), Prompt: openai.CompletionNewParamsPromptUnion{OfArrayOfStrings: []string{"Cocoon is", "TON is"}}, MaxTokens: openai.Int(4), N: openai.Int(2), Seed: openai.Int(3), Temperature: openai.Float(1)}
		texts := func(cl openai.Client) (out []string) {
			t.Helper()
			c, err := cl.Completions.New(ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, ch := range c.Choices {
				out = append(out, ch.Text)
			}
			return out
		}
		if got, want := texts(client(base)), texts(direct); len(want) != 4 || !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		cl := client(base)
		s := cl.Completions.NewStreaming(ctx, p)
		seen := map[int64]bool{}
		for s.Next() {
			for _, ch := range s.Current().Choices {
				seen[ch.Index] = true
			}
		}
		if s.Err() != nil || len(seen) != 4 {
			t.Errorf("streamed: choices %v, %v", seen, s.Err())
		}
	})
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

// parallelTools holds forced calls of two functions in one answer against the
// engine's own: whole, streamed, as a response, and one alone where only one is
// allowed.
func parallelTools(t *testing.T, cl, direct openai.Client, p openai.ChatCompletionNewParams) {
	ctx := deadline(t)
	town := map[string]any{"type": "object", "properties": map[string]any{"town": map[string]any{"enum": []string{"Bandung", "Cologne"}}}, "required": []string{"town"}, "additionalProperties": false}
	none := map[string]any{"type": "object", "properties": map[string]any{}, "required": []string{}, "additionalProperties": false}
	p.Tools = []openai.ChatCompletionToolUnionParam{
		openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "weather", Parameters: town, Strict: openai.Bool(true)}),
		openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "time", Parameters: none, Strict: openai.Bool(true)}),
	}
	p.MaxTokens = openai.Int(400)
	p.ToolChoice.OfAuto = openai.String("required")
	p.ParallelToolCalls = openai.Bool(true)
	// Ids are random, and must differ.
	calls := func(r result, err error) []string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		ids := map[string]bool{}
		for i, c := range r.Tools {
			id, rest, _ := strings.Cut(c, " ")
			ids[id], r.Tools[i] = true, rest
		}
		if len(ids) != len(r.Tools) || ids[""] || r.Finish[0] != "tool_calls" {
			t.Errorf("%+v", r)
		}
		return r.Tools
	}
	whole := func(cl openai.Client) []string { r, _, err := ask(ctx, cl, p); return calls(r, err) }
	want := whole(direct)
	if len(want) != 2 || !strings.HasPrefix(want[0], `weather {"town":"`) || want[1] != "time {}" {
		t.Fatalf("the engine calls %q", want)
	}
	if got := whole(cl); !slices.Equal(got, want) {
		t.Errorf("whole: %q, want %q", got, want)
	}
	r, _, err := askStream(ctx, cl, p)
	if got := calls(r, err); !slices.Equal(got, want) {
		t.Errorf("streamed: %q, want %q", got, want)
	}
	q := responses.ResponseNewParams{
		Model: p.Model, Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Weather in Bandung, and the time?")}, Temperature: openai.Float(0), ParallelToolCalls: openai.Bool(true),
		Tools:      []responses.ToolUnionParam{responses.ToolParamOfFunction("weather", town, true), responses.ToolParamOfFunction("time", none, true)},
		ToolChoice: responses.ResponseNewParamsToolChoiceUnion{OfToolChoiceMode: openai.Opt(responses.ToolChoiceOptionsRequired)},
	}
	items := func(r *responses.Response) (out []string) {
		for _, o := range r.Output {
			out = append(out, o.Name+" "+o.Arguments.OfString)
		}
		return out
	}
	resp, err := cl.Responses.New(ctx, q)
	if err != nil || !slices.Equal(items(resp), want) {
		t.Errorf("responses: %v, %v; want %q", resp, err, want)
	}
	s := cl.Responses.NewStreaming(ctx, q)
	var streamed, done []string
	for s.Next() {
		switch e := s.Current().AsAny().(type) {
		case responses.ResponseFunctionCallArgumentsDoneEvent:
			streamed = append(streamed, e.Arguments)
		case responses.ResponseCompletedEvent:
			done = items(&e.Response)
		}
	}
	if s.Err() != nil || !slices.Equal(done, want) || len(streamed) != 2 || "weather "+streamed[0] != want[0] {
		t.Errorf("responses streamed: %q, %q, %v; want %q", done, streamed, s.Err(), want)
	}
	p.ParallelToolCalls = openai.Bool(false)
	if got := whole(cl); len(got) != 1 || !slices.Equal(got, whole(direct)) {
		t.Errorf("only one is allowed: %q", got)
	}
}
