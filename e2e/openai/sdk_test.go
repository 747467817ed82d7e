package openai_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	openai "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// client is the official Go client without retries, so that errors show.
func client(base string) openai.Client {
	return openai.NewClient(option.WithBaseURL(base), option.WithAPIKey("sk-unused"), option.WithMaxRetries(0))
}

func chat(prompt string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{Model: engineModel, Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(prompt)}}
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// result is what two endpoints must agree on.
type result struct {
	Texts, Finish []string
	Tools         []string
	Prompt, Total int64
	Cached        int64
}

func wholeResult(c *openai.ChatCompletion) (r result) {
	for _, ch := range c.Choices {
		r.Texts = append(r.Texts, ch.Message.Content)
		r.Finish = append(r.Finish, ch.FinishReason)
		for _, tc := range ch.Message.ToolCalls {
			r.Tools = append(r.Tools, tc.ID+" "+tc.Function.Name+" "+tc.Function.Arguments)
		}
	}
	r.Prompt, r.Total, r.Cached = c.Usage.PromptTokens, c.Usage.TotalTokens, c.Usage.PromptTokensDetails.CachedTokens
	return r
}

func ask(ctx context.Context, cl openai.Client, p openai.ChatCompletionNewParams) (result, *openai.ChatCompletion, error) {
	c, err := cl.Chat.Completions.New(ctx, p)
	if err != nil {
		return result{}, nil, err
	}
	return wholeResult(c), c, nil
}

// askStream reads a stream through the client's own accumulator.
func askStream(ctx context.Context, cl openai.Client, p openai.ChatCompletionNewParams) (result, *openai.ChatCompletionAccumulator, error) {
	p.StreamOptions.IncludeUsage = openai.Bool(true)
	s := cl.Chat.Completions.NewStreaming(ctx, p)
	defer s.Close()
	acc := &openai.ChatCompletionAccumulator{}
	var cached int64
	for s.Next() {
		if !acc.AddChunk(s.Current()) {
			return result{}, acc, errors.New("the accumulator refuses a chunk")
		}
		cached = max(cached, s.Current().Usage.PromptTokensDetails.CachedTokens)
	}
	r := wholeResult(&acc.ChatCompletion)
	r.Cached = cached
	return r, acc, s.Err()
}

// TestSameAsEngine holds text, finish reasons, tool calls and usage against the
// engine asked directly, whole and streamed.
func TestSameAsEngine(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		prompts := map[string]openai.ChatCompletionNewParams{
			"plain":   chat("one two three"),
			"unicode": chat("день 夜 🌙 \u2028 \"quoted\" back\\slash"),
			"long":    chat(strings.Repeat("word ", 900)),
		}
		limited := chat("one two three four")
		limited.MaxTokens = openai.Int(2)
		prompts["limited"] = limited
		several := chat("one two")
		several.N = openai.Int(3)
		prompts["several"] = several
		tools := chat("call it now")
		tools.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "say", Parameters: openai.FunctionParameters{"type": "object"}})}
		prompts["tools"] = tools
		parallel := chat("call them all")
		parallel.Tools = append(tools.Tools[:1:1], openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "sing"}), openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{Name: "dance"}))
		parallel.ParallelToolCalls = openai.Bool(true)
		prompts["parallel tools"] = parallel
		full := chat("one two three")
		full.Seed, full.User, full.Logprobs, full.TopLogprobs = openai.Int(5), openai.String("u"), openai.Bool(true), openai.Int(2)
		full.Stop = openai.ChatCompletionNewParamsStopUnion{OfStringArray: []string{"x", "y"}}
		full.Metadata = map[string]string{"a": "b"}
		full.ReasoningEffort = "low"
		prompts["many fields"] = full
		parts := chat("")
		parts.Messages = []openai.ChatCompletionMessageParamUnion{
			openai.SystemMessage("be brief"),
			openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{openai.TextContentPart("one "), openai.TextContentPart("two")}),
		}
		prompts["parts"] = parts
		for name, p := range prompts {
			t.Run(name, func(t *testing.T) {
				ctx := deadline(t)
				want, _, err := ask(ctx, client(to.direct()), p)
				if err != nil {
					t.Fatal(err)
				}
				got, whole, err := ask(ctx, client(to.base), p)
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("whole: got %+v, %v; want %+v", got, err, want)
				} else if cost := costOf(t, whole.Usage.RawJSON()); to.price > 0 && cost <= 0 {
					t.Errorf("whole: cost %d in %s", cost, whole.Usage.RawJSON())
				}
				want, _, err = askStream(ctx, client(to.direct()), p)
				if err != nil {
					t.Fatal(err)
				}
				got, _, err = askStream(ctx, client(to.base), p)
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("streamed: got %+v, %v; want %+v", got, err, want)
				}
			})
		}
	})
}

func costOf(t *testing.T, usage string) int64 {
	t.Helper()
	var u struct {
		Cost *int64 `json:"cost_nano"`
	}
	if err := json.Unmarshal([]byte(usage), &u); err != nil || u.Cost == nil {
		t.Fatalf("no cost_nano in %s", usage)
	}
	return *u.Cost
}

func TestCompletionsAndModels(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		ctx := deadline(t)
		cl := client(to.base)
		c, err := cl.Completions.New(ctx, openai.CompletionNewParams{Model: engineModel, Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("one two three")}})
		if err != nil || c.Choices[0].Text != "three two one" || c.Usage.TotalTokens != 6 {
			t.Fatalf("%+v, %v", c, err)
		}
		s := cl.Completions.NewStreaming(ctx, openai.CompletionNewParams{Model: engineModel, Prompt: openai.CompletionNewParamsPromptUnion{OfString: openai.String("one two three")}})
		text := ""
		for s.Next() {
			for _, ch := range s.Current().Choices {
				text += ch.Text
			}
			if s.Current().Usage.TotalTokens != 0 {
				t.Error("usage nobody asked for")
			}
		}
		if s.Err() != nil || text != "three two one" {
			t.Errorf("streamed %q, %v", text, s.Err())
		}
		models, err := cl.Models.List(ctx)
		if err != nil || len(models.Data) != 1 || models.Data[0].ID != engineModel {
			t.Fatalf("%+v, %v", models, err)
		}
		if m, err := cl.Models.Get(ctx, engineModel); err != nil || m.ID != engineModel {
			t.Errorf("%+v, %v", m, err)
		}
		_, err = cl.Models.Get(ctx, "no-such")
		wantError(t, err, 404, "model_not_found")
	})
}

func wantError(t *testing.T, err error, status int, code string) *openai.Error {
	t.Helper()
	var e *openai.Error
	if !errors.As(err, &e) {
		t.Errorf("error %v (%T), want status %d", err, err, status)
		return &openai.Error{}
	}
	if e.StatusCode != status || e.Code != code || e.Message == "" {
		t.Errorf("%d %s %q, want %d %s", e.StatusCode, e.Code, e.Message, status, code)
	}
	return e
}

// TestErrors holds that the official client understands what went wrong.
func TestErrors(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		ctx := deadline(t)
		p := chat("hello")
		p.Temperature = openai.Float(9)
		_, _, err := ask(ctx, client(to.base), p)
		if e := wantError(t, err, 400, "invalid_value"); e.Param != "temperature" {
			t.Errorf("param %q", e.Param)
		}
		p = chat("hello")
		p.Model = "no-such-model"
		_, _, err = ask(ctx, client(to.base), p)
		wantError(t, err, 404, "model_not_found")
		_, _, err = askStream(ctx, client(to.base), p)
		wantError(t, err, 404, "model_not_found")
		_, _, err = ask(ctx, client(to.base), chat("refuse this"))
		wantError(t, err, 400, "context_length_exceeded")
		_, _, err = askStream(ctx, client(to.base), chat("refuse this"))
		wantError(t, err, 400, "context_length_exceeded")
		_, _, err = ask(ctx, client(to.base), chat("busy now"))
		wantError(t, err, 503, "busy")
		cl := client(strings.TrimSuffix(to.base, "/v1") + "/v2")
		_, err = cl.Models.List(ctx)
		wantError(t, err, 404, "not_found")
	})
}

// TestBrokenStream holds that a stream that the engine cut is an error to the
// official client, not a short answer.
func TestBrokenStream(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		got, _, err := askStream(deadline(t), client(to.base), chat("break after two"))
		if err == nil {
			t.Fatalf("no error, but %+v", got)
		}
		if len(got.Texts) != 1 || got.Texts[0] != "two after" {
			t.Errorf("text before the break: %q", got.Texts)
		}
	})
}

// TestFirstTokenAtOnce holds that a token travels while the engine still works,
// and TestCancel's matter: that leaving stops the engine.
func TestFirstTokenAtOnceAndCancel(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		ctx, cancel := context.WithCancel(deadline(t))
		defer cancel()
		cl := client(to.base)
		s := cl.Chat.Completions.NewStreaming(ctx, chat("stall here"))
		defer s.Close()
		if !s.Next() || s.Current().Choices[0].Delta.Content != "here" {
			t.Fatalf("first chunk %s, %v", s.Current().RawJSON(), s.Err())
		}
		left := time.Now()
		cancel()
		select {
		case at := <-to.engine.stopped:
			t.Logf("the engine was stopped %v after the caller left", at.Sub(left).Round(time.Microsecond))
		case <-time.After(30 * time.Second):
			t.Error("the engine still works 30 s after the caller left")
		}
	})
}

// TestLimitReachesEngine holds that the engine is never left without a limit.
func TestLimitReachesEngine(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		if _, _, err := ask(deadline(t), client(to.base), chat("one")); err != nil {
			t.Fatal(err)
		}
		to.engine.mu.Lock()
		defer to.engine.mu.Unlock()
		if got := string(to.engine.bodies[len(to.engine.bodies)-1]["max_tokens"]); got != "1024" {
			t.Errorf("max_tokens %q", got)
		}
	})
}

// TestManyAtOnce holds that answers do not mix.
func TestManyAtOnce(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		ctx := deadline(t)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for k := range 5 {
					word := fmt.Sprintf("w%d-%d", i, k)
					r, _, err := askStream(ctx, client(to.base), chat("end "+word))
					if err != nil || r.Texts[0] != word+" end" {
						t.Errorf("%s: %+v, %v", word, r, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// TestCrowd sends more callers than a worker takes at once, a fifth of whom
// leave in the middle, with the retries that the official client makes by
// itself: everyone who stays gets the own answer.
func TestCrowd(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		ctx := deadline(t)
		cl := openai.NewClient(option.WithBaseURL(to.base), option.WithAPIKey("sk-unused"))
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				for k := range 5 {
					word := fmt.Sprintf("w%d-%d", i, k)
					p := chat(strings.Repeat("end ", 10*k) + word)
					if leaves := (i+k)%5 == 0; leaves {
						s := cl.Chat.Completions.NewStreaming(ctx, p)
						s.Next()
						_ = s.Close()
						continue
					}
					r, _, err := askStream(ctx, cl, p)
					if err != nil || len(r.Texts) != 1 || !strings.HasPrefix(r.Texts[0], word) || r.Total != int64(2+20*k) {
						t.Errorf("%s: %.80v, %v", word, r, err)
					}
				}
			})
		}
		wg.Wait()
	})
}
