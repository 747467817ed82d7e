package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// FuzzStream holds that whatever a worker sends, the caller gets events of
// valid JSON and either [DONE] or one error at the end, the same however the
// bytes arrive.
func FuzzStream(f *testing.F) {
	for _, s := range []string{
		"data: {\"choices\":[{\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":1}}\n\ndata: [DONE]\n\n",
		"{\"object\":\"chat.completion\",\"choices\":[{\"message\":{\"tool_calls\":[{}]},\"finish_reason\":\"stop\"}]}\n{\"choices\":[],\"usage\":{}}",
		"data: {\"a\":\ndata: 1}\n\n", "", "\n\n{", "<html>", "data: {\"error\":{}}\n\n", "{\"object\":\"chat.completion\",\"choices\":[5]}",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, body []byte, usage bool) {
		options := ""
		if usage {
			options = `,"stream_options":{"include_usage":true}`
		}
		run := func(r io.Reader) string {
			b := &wordBackend{answer: func(context.Context, *Call) (*Answer, error) {
				return &Answer{Status: 200, Header: http.Header{}, Body: io.NopCloser(r), Final: func() Final { return Final{CostNano: 5} }}, nil
			}}
			return ask(newGateway(t, b, nil), "POST", chatPath, helloS[:len(helloS)-1]+options+"}").Body.String()
		}
		out := run(bytes.NewReader(body))
		if other := run(iotest.OneByteReader(bytes.NewReader(body))); other != out {
			t.Fatalf("%q gives %q, byte by byte %q", body, out, other)
		}
		ev := events(t, []byte(out))
		if len(ev) == 0 {
			t.Fatal("neither end nor error")
		}
		for i, e := range ev {
			if last := i == len(ev)-1; last && e == "[DONE]" {
				continue
			} else if last {
				errorOf(t, []byte(e))
			}
			if !json.Valid([]byte(e)) || e[0] != '{' {
				t.Fatalf("event %q", e)
			}
			if c, err := openai.ParseChunk([]byte(e)); err != nil || !usage && c.MentionsUsage() && !c.IsError {
				t.Fatalf("event %q: %v, or usage nobody asked for", e, err)
			}
		}
	})
}

// TestCallerLeavesEarly holds that a caller who goes away before the head ends
// the call at once too.
func TestCallerLeavesEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &wordBackend{}
		ended := make(chan error, 1)
		b.answer = func(ctx context.Context, _ *Call) (*Answer, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}
		g := newGateway(t, b, nil)
		conn := pipeServer(t, g)()
		_, _ = io.WriteString(conn, rawPost(chatPath, hello))
		time.Sleep(time.Second)
		_ = conn.Close()
		synctest.Wait()
		select {
		case err := <-ended:
			if err != context.Canceled {
				t.Errorf("the call ended with %v", err)
			}
		default:
			t.Error("the call goes on")
		}
		if got := ask(g, "GET", "/metrics", "").Body.String(); !strings.Contains(got, `{route="chat",status="499"} 1`) {
			t.Errorf("metrics:\n%s", got)
		}
	})
}

// countedFlushes is a ResponseWriter that counts what goes out together.
type countedFlushes struct {
	*httptest.ResponseRecorder
	flushes int
}

func (c *countedFlushes) FlushError() error { c.flushes++; return nil }

// TestBurstsGoOutTogether holds that events which come at once are not sent one
// by one; TestStream holds that none waits for another.
func TestBurstsGoOutTogether(t *testing.T) {
	const events = 200
	b := &wordBackend{}
	b.answer = func(ctx context.Context, _ *Call) (*Answer, error) {
		body := strings.Repeat("data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n", events) + "data: [DONE]\n\n"
		return &Answer{Status: 200, Body: io.NopCloser(strings.NewReader(body)), Final: func() Final { return Final{} }}, nil
	}
	g := newGateway(t, b, nil)
	r := httptest.NewRequest(http.MethodPost, chatPath, strings.NewReader(helloS))
	r.Host = "localhost"
	r.Header.Set("Content-Type", "application/json")
	w := &countedFlushes{ResponseRecorder: httptest.NewRecorder()}
	g.ServeHTTP(w, r)
	if n := strings.Count(w.Body.String(), `"content":"x"`); n != events || !strings.HasSuffix(w.Body.String(), "data: [DONE]\n\n") {
		t.Fatalf("%d of %d events", n, events)
	}
	if w.flushes > events/10 {
		t.Errorf("%d events went out in %d pieces", events, w.flushes)
	}
}
