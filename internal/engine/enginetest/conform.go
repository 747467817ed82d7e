package enginetest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/engine"
)

// Conform runs the cases every engine behind a worker must pass (spec engines
// 2 and 7): what the worker meters, cuts and forwards depends on them. Cases
// about abilities run only where c.Caps has them. model must be served by c.
func Conform(t *testing.T, c *engine.Client, model string) {
	k := &conform{c: c, model: model}
	t.Run("check", func(t *testing.T) {
		if err := c.Check(t.Context(), model); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("usage", k.usage)
	t.Run("limit", k.limit)
	t.Run("completions", k.completions)
	t.Run("unicode", k.unicode)
	t.Run("cancel", k.cancel)
	t.Run("errors", k.errors)
	if c.Caps().ContinuousUsage {
		t.Run("continuous usage", k.continuous)
	}
	if c.Caps().CachedTokens {
		t.Run("cached tokens", k.cached)
	}
	if c.Caps().Schema {
		t.Run("schema", k.schema)
	}
	if c.Caps().Tools {
		t.Run("tools", k.tools)
	}
}

type conform struct {
	c     *engine.Client
	model string
}

const conformTimeout = 2 * time.Minute

// result is one answer, whole or put together from a stream.
type result struct {
	status  int
	text    string
	finish  string
	usage   openai.Usage
	has     bool // there was usage
	running int  // events that carried usage with choices
	events  int
	body    []byte
	tool    string
	args    string
}

type object struct {
	Choices []struct {
		Text           string
		Delta, Message struct {
			Content   *string
			ToolCalls []struct {
				Function struct{ Name, Arguments string }
			} `json:"tool_calls"`
		}
		FinishReason *string `json:"finish_reason"`
	}
}

func (r *result) add(t *testing.T, data []byte) {
	t.Helper()
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		t.Fatalf("not a completion object: %v", err)
	}
	for _, ch := range o.Choices {
		r.text += ch.Text
		for _, m := range []*string{ch.Delta.Content, ch.Message.Content} {
			if m != nil {
				r.text += *m
			}
		}
		for _, tc := range append(ch.Delta.ToolCalls, ch.Message.ToolCalls...) {
			r.tool += tc.Function.Name
			r.args += tc.Function.Arguments
		}
		if ch.FinishReason != nil {
			r.finish = *ch.FinishReason
		}
	}
	u, ok, err := openai.ScanUsage(data)
	if err != nil {
		t.Fatal(err)
	}
	if ok {
		r.usage.Merge(u)
		r.has = true
		if len(o.Choices) > 0 {
			r.running++
		}
	}
}

// call sends {"model":…,members} and reads the whole answer.
func (k *conform) call(t *testing.T, path, members string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), conformTimeout)
	defer cancel()
	body := string(openai.AppendString([]byte(`{"model":`), k.model)) + "," + members + "}"
	resp, err := k.c.Do(ctx, &engine.Request{Path: path, ContentType: "application/json", Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := result{status: resp.StatusCode}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		if r.body, err = io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		if r.status == 200 {
			r.add(t, r.body)
		}
		return r
	}
	er := openai.NewEventReader(resp.Body, 1<<20)
	for {
		ev, err := er.Next()
		if err != nil {
			t.Fatalf("the stream ends without [DONE]: %v", err)
		}
		if ev.IsDone() {
			return r
		}
		if ev.Data != nil {
			r.events++
			r.add(t, ev.Data)
		}
	}
}

const (
	chatPath = "/v1/chat/completions"
	textPath = "/v1/completions"
	hello    = `"messages":[{"role":"user","content":"What is Cocoon?"}],"temperature":0`
)

// usage: the same request counts the same whole, streamed and again; with
// include_usage the stream tells it, without it does not.
func (k *conform) usage(t *testing.T) {
	whole := k.call(t, chatPath, hello+`,"max_tokens":64`)
	if whole.status != 200 || !whole.has || whole.usage.PromptTokens == 0 || whole.usage.CompletionTokens == 0 {
		t.Fatalf("status %d, usage %+v", whole.status, whole.usage)
	}
	if u := whole.usage; u.TotalTokens != u.PromptTokens+u.CompletionTokens || u.CachedTokens > u.PromptTokens || u.CompletionTokens > 64 {
		t.Errorf("usage does not add up: %+v", u)
	}
	streamed := k.call(t, chatPath, hello+`,"max_tokens":64,"stream":true,"stream_options":{"include_usage":true}`)
	if !streamed.has || streamed.usage.PromptTokens != whole.usage.PromptTokens || streamed.usage.CompletionTokens != whole.usage.CompletionTokens {
		t.Errorf("streamed %+v, whole %+v", streamed.usage, whole.usage)
	}
	if streamed.text != whole.text || streamed.finish != whole.finish {
		t.Errorf("the streamed answer differs: %d and %d bytes, %s and %s", len(streamed.text), len(whole.text), streamed.finish, whole.finish)
	}
	if silent := k.call(t, chatPath, hello+`,"max_tokens":8,"stream":true`); silent.has {
		t.Error("usage in a stream that did not ask for it")
	}
}

// limit: max_tokens is a limit, and reaching it is said.
func (k *conform) limit(t *testing.T) {
	r := k.call(t, chatPath, hello+`,"max_tokens":3`)
	if r.usage.CompletionTokens != 3 || r.finish != "length" {
		t.Errorf("%d tokens, finish %q", r.usage.CompletionTokens, r.finish)
	}
}

func (k *conform) completions(t *testing.T) {
	r := k.call(t, textPath, `"prompt":"Cocoon is","max_tokens":5,"temperature":0`)
	if r.status != 200 || !r.has || r.usage.CompletionTokens == 0 || r.usage.CompletionTokens > 5 {
		t.Errorf("status %d, usage %+v", r.status, r.usage)
	}
}

// unicode: whatever is streamed is valid UTF-8, piece by piece.
func (k *conform) unicode(t *testing.T) {
	r := k.call(t, chatPath, `"messages":[{"role":"user","content":"Что такое Cocoon? 🙂"}],"temperature":0,"max_tokens":40,"stream":true`)
	if r.status != 200 || !bytes.Equal([]byte(r.text), bytes.ToValidUTF8([]byte(r.text), nil)) {
		t.Errorf("status %d, %d bytes", r.status, len(r.text))
	}
}

// cancel: a caller who leaves ends the request.
func (k *conform) cancel(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), conformTimeout)
	defer cancel()
	body := string(openai.AppendString([]byte(`{"model":`), k.model)) + `,"prompt":"Cocoon","max_tokens":900,"ignore_eos":true,"stream":true}`
	resp, err := k.c.Do(ctx, &engine.Request{Path: textPath, ContentType: "application/json", Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := openai.NewEventReader(resp.Body, 1<<20).Next(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	k.stopped(t)
	if r := k.call(t, chatPath, hello+`,"max_tokens":2`); r.status != 200 {
		t.Errorf("the next request gets %d", r.status)
	}
}

// stopped waits until the engine, if it tells, works on nothing any more. A
// worker's promise is 50 ms; what it took is logged, and far too long fails.
func (k *conform) stopped(t *testing.T) {
	for begin := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		l, err := k.c.Load(t.Context())
		took := time.Since(begin)
		switch {
		case err != nil || math.IsNaN(l.Running):
			return // it does not tell
		case l.Running == 0:
			t.Logf("the engine stopped within %v", took.Round(time.Millisecond))
			return
		case took > 5*time.Second:
			t.Errorf("the engine still works %v after the caller left", took)
			return
		}
	}
}

// errors: a bad request is refused as one, in JSON.
func (k *conform) errors(t *testing.T) {
	for _, members := range []string{`"messages":5`, `"messages":[{"role":"user","content":"x"}],"temperature":"hot"`} {
		r := k.call(t, chatPath, members)
		if r.status < 400 || r.status > 499 || !json.Valid(r.body) {
			t.Errorf("%s: status %d", members, r.status)
		}
	}
}

func (k *conform) continuous(t *testing.T) {
	r := k.call(t, chatPath, hello+`,"max_tokens":20,"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":true}`)
	if r.running < 2 || r.running < r.events-2 {
		t.Errorf("%d of %d events carry running usage", r.running, r.events)
	}
}

func (k *conform) cached(t *testing.T) {
	long := `"messages":[{"role":"user","content":"` + strings.Repeat("Tell me about the same long thing again. ", 12) + `"}],"max_tokens":2`
	first := k.call(t, chatPath, long)
	again := k.call(t, chatPath, long)
	if again.usage.PromptTokens != first.usage.PromptTokens || again.usage.CachedTokens == 0 || again.usage.CachedTokens > again.usage.PromptTokens {
		t.Errorf("first %+v, again %+v", first.usage, again.usage)
	}
}

func (k *conform) schema(t *testing.T) {
	r := k.call(t, chatPath, `"messages":[{"role":"user","content":"Label: buy now!"}],"temperature":0,"max_tokens":200,"response_format":{"type":"json_schema","json_schema":{"name":"l","strict":true,"schema":{"type":"object","properties":{"label":{"enum":["spam","work"]},"score":{"type":"integer","minimum":0,"maximum":9}},"required":["label","score"],"additionalProperties":false}}}`)
	var v struct {
		Label string
		Score *int
	}
	if err := json.Unmarshal([]byte(r.text), &v); err != nil || v.Label != "spam" && v.Label != "work" || v.Score == nil || *v.Score < 0 || *v.Score > 9 {
		t.Errorf("status %d: %s is not what the schema allows (%v)", r.status, strconv.Quote(r.text), err)
	}
}

func (k *conform) tools(t *testing.T) {
	r := k.call(t, chatPath, `"messages":[{"role":"user","content":"Wake me at 7."}],"temperature":0,"max_tokens":200,"tools":[{"type":"function","function":{"name":"alarm","parameters":{"type":"object","properties":{"hour":{"type":"integer","minimum":0,"maximum":23}},"required":["hour"],"additionalProperties":false}}}],"tool_choice":"required"`)
	var v struct{ Hour *int }
	if err := json.Unmarshal([]byte(r.args), &v); err != nil || r.tool != "alarm" || v.Hour == nil {
		t.Errorf("status %d: call %s(%s): %v", r.status, r.tool, r.args, err)
	}
}
