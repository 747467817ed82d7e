// Package enginetest provides engines for tests and benchmarks: a stand-in
// that speaks the OpenAI interface, writes words at a pace, counts exactly,
// and can be told to misbehave.
//
// Owns: StandIn, Conform (the conformance suite).
// Imports: engine, api/openai.
// Concurrency: safe for concurrent use.
package enginetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// StandIn is an engine without a model. The answer to any prompt is "w0 w1 …",
// one token a word, up to the output limit of the request or Tokens.
type StandIn struct {
	// Model is the name it serves.
	Model string
	// Tokens is the length of answers; 0 = up to the request's limit.
	Tokens int
	// Pace is the time between two tokens.
	Pace time.Duration
	// Fault, if set, is asked before each request what to do wrong.
	Fault func() Fault

	// Requests, Completed and Cancelled count requests; PromptTokens and
	// CompletionTokens what was really made.
	Requests, Completed, Cancelled, PromptTokens, CompletionTokens atomic.Int64
	// Active is how many requests run now.
	Active atomic.Int64
}

// Fault is a way to misbehave.
type Fault int

// The faults.
const (
	None       Fault = iota
	Refuse           // 503 with an OpenAI error
	Hang             // nothing at all
	HTML             // 200 with a page
	CutHead          // the connection closes before the head
	CutBody          // it closes in the middle
	NoDone           // the stream ends without [DONE]
	BrokenSSE        // an event that is not JSON
	Overrun          // more tokens than allowed
	Lie              // usage far above what was made
	CutStart         // the connection closes between the head and the first event
	BrokenText       // bytes that are no UTF-8 in the text
	NoUsage          // usage is never told
	Negative         // usage below zero
	Endless          // a stream of comments without an end
	HugeHead         // an endless head
)

type request struct {
	Model         string          `json:"model"`
	Messages      json.RawMessage `json:"messages"`
	Prompt        json.RawMessage `json:"prompt"`
	Stream        bool            `json:"stream"`
	MaxTokens     *int            `json:"max_tokens"`
	MaxCompletion *int            `json:"max_completion_tokens"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
		Continuous   bool `json:"continuous_usage_stats"`
	} `json:"stream_options"`
}

// ServeHTTP implements http.Handler.
func (e *StandIn) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v1/models":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model"}]}`, e.Model)
	case "/v1/chat/completions", "/v1/completions":
		e.Active.Add(1)
		defer e.Active.Add(-1)
		e.complete(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (e *StandIn) complete(w http.ResponseWriter, r *http.Request) {
	e.Requests.Add(1)
	var q request
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":{"message":"not JSON","type":"invalid_request_error","param":null,"code":null}}`)
		return
	}
	fault := None
	if e.Fault != nil {
		fault = e.Fault()
	}
	switch fault {
	case Refuse:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"error":{"message":"busy","type":"server_error","param":null,"code":null}}`)
		return
	case Hang:
		<-r.Context().Done()
		return
	case HTML:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>it works</html>")
		return
	case CutHead:
		cut(w)
		return
	case HugeHead:
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nX: %s", strings.Repeat("x", 1<<20))
			c.Close()
		}
		return
	}
	limit := 1 << 20
	if q.MaxTokens != nil {
		limit = *q.MaxTokens
	}
	if q.MaxCompletion != nil {
		limit = min(limit, *q.MaxCompletion)
	}
	n := limit
	if e.Tokens > 0 {
		n = min(e.Tokens, limit)
	}
	if fault == Overrun {
		n = limit + 5
	}
	prompt := len(strings.Fields(string(q.Messages)+string(q.Prompt))) + 1
	e.PromptTokens.Add(int64(prompt))
	a := answer{e: e, w: w, r: r, q: &q, chat: strings.Contains(r.URL.Path, "chat"), prompt: prompt, n: n, fault: fault}
	if q.Stream {
		a.stream()
	} else {
		a.whole()
	}
}

type answer struct {
	e         *StandIn
	w         http.ResponseWriter
	r         *http.Request
	q         *request
	chat      bool
	prompt, n int
	fault     Fault
	made      int
}

// token makes one token; false if the caller left.
func (a *answer) token() (string, bool) {
	if a.e.Pace > 0 {
		select {
		case <-time.After(a.e.Pace):
		case <-a.r.Context().Done():
		}
	}
	if a.r.Context().Err() != nil {
		a.e.Cancelled.Add(1)
		return "", false
	}
	word := "w" + strconv.Itoa(a.made)
	if a.made > 0 {
		word = " " + word
	}
	a.made++
	a.e.CompletionTokens.Add(1)
	return word, true
}

func (a *answer) usage() string {
	made := a.made
	switch a.fault {
	case Lie:
		made += 1 << 40
	case Negative:
		made = -made - 1
	}
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, a.prompt, made, a.prompt+made)
}

func (a *answer) stream() {
	h := a.w.Header()
	h.Set("Content-Type", "text/event-stream")
	flush := a.w.(http.Flusher).Flush
	flush()
	if a.fault == CutStart {
		cut(a.w)
		return
	}
	for a.fault == Endless && a.r.Context().Err() == nil {
		if _, err := fmt.Fprint(a.w, ": still here\n\n"); err != nil {
			return
		}
		flush()
		time.Sleep(time.Millisecond)
	}
	for a.made < a.n {
		word, ok := a.token()
		if !ok {
			return
		}
		if a.fault == CutBody && a.made > a.n/2 {
			cut(a.w)
			return
		}
		if a.fault == BrokenSSE && a.made > a.n/2 {
			fmt.Fprint(a.w, "data: {oops\n\n")
			return
		}
		if a.fault == BrokenText {
			word += "\xff\xfe"
		}
		choice := `{"index":0,"delta":{"content":"` + word + `"},"finish_reason":null}`
		if !a.chat {
			choice = fmt.Sprintf(`{"index":0,"text":%q,"finish_reason":null}`, word)
		}
		running := ""
		if a.q.StreamOptions.Continuous && a.fault != NoUsage {
			running = `,"usage":` + a.usage()
		}
		fmt.Fprintf(a.w, "data: {\"id\":\"x\",\"model\":%q,\"choices\":[%s]%s}\n\n", a.e.Model, choice, running)
		flush()
	}
	finish := `{"index":0,"delta":{},"finish_reason":"stop"}`
	if !a.chat {
		finish = `{"index":0,"text":"","finish_reason":"stop"}`
	}
	fmt.Fprintf(a.w, "data: {\"id\":\"x\",\"model\":%q,\"choices\":[%s]}\n\n", a.e.Model, finish)
	if a.q.StreamOptions.IncludeUsage && a.fault != NoUsage {
		fmt.Fprintf(a.w, "data: {\"id\":\"x\",\"model\":%q,\"choices\":[],\"usage\":%s}\n\n", a.e.Model, a.usage())
	}
	if a.fault != NoDone {
		fmt.Fprint(a.w, "data: [DONE]\n\n")
	}
	a.e.Completed.Add(1)
}

func (a *answer) whole() {
	var text strings.Builder
	for a.made < a.n {
		word, ok := a.token()
		if !ok {
			return
		}
		text.WriteString(word)
	}
	if a.fault == BrokenText {
		text.WriteString("\xff\xfe")
	}
	choice := `{"index":0,"message":{"role":"assistant","content":"` + text.String() + `"},"finish_reason":"stop"}`
	if !a.chat {
		choice = fmt.Sprintf(`{"index":0,"text":%q,"finish_reason":"stop"}`, text.String())
	}
	a.w.Header().Set("Content-Type", "application/json")
	body := fmt.Sprintf(`{"id":"x","model":%q,"choices":[%s],"usage":%s}`, a.e.Model, choice, a.usage())
	switch a.fault {
	case NoUsage:
		body = fmt.Sprintf(`{"id":"x","model":%q,"choices":[%s]}`, a.e.Model, choice)
	case CutBody, BrokenSSE, NoDone, CutStart, Endless:
		a.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		fmt.Fprint(a.w, body[:len(body)/2])
		cut(a.w)
		return
	}
	fmt.Fprint(a.w, body)
	a.e.Completed.Add(1)
}

// cut closes the connection as a dying process does.
func cut(w http.ResponseWriter) {
	if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
		c.Close()
	}
}
