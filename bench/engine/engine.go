// Package engine is the benchmark's inference engine: an OpenAI server whose
// answers are made beforehand, so that what is measured is the way to it.
//
// What to answer stands in the prompt (Order), so that one running engine
// serves every scenario, and every answer carries the number of its request,
// so that a mixed up or shortened one is noticed.
//
// Owns: Order, Handler.
// Imports: the standard library.
// Concurrency: a Handler is safe for concurrent use.
package engine

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Model is the name the engine serves.
const Model = "bench-model"

// Order says what one request is to be answered with.
type Order struct {
	ID     int           // number of the request, in each piece of the answer
	Stream bool          // events, or one JSON object
	NDJSON bool          // a stream of bare JSON lines instead of events
	Chunks int           // pieces of the answer; tokens in its usage
	Size   int           // bytes of content in each piece
	Pace   time.Duration // between pieces
	First  time.Duration // before the first piece
}

const mark = "bench "

// Body writes the order as an OpenAI chat request.
func (o Order) Body() []byte {
	flag := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	options := ""
	if o.Stream {
		options = `,"stream_options":{"include_usage":true}`
	}
	return fmt.Appendf(nil, `{"model":%q,"stream":%t%s,"max_tokens":%d,"messages":[{"role":"user","content":"%s%d %d %d %d %d %d."}]}`,
		Model, o.Stream, options, o.Chunks+8, mark, o.ID, flag(o.NDJSON), o.Chunks, o.Size, o.Pace.Microseconds(), o.First.Microseconds())
}

// ParseOrder reads what Body wrote, also after a worker rewrote the request.
func ParseOrder(body []byte) (Order, error) {
	_, rest, ok := bytes.Cut(body, []byte(`"`+mark))
	line, _, ok2 := bytes.Cut(rest, []byte("."))
	f := strings.Fields(string(line))
	if !ok || !ok2 || len(f) != 6 {
		return Order{}, fmt.Errorf("the prompt holds no order")
	}
	var n [6]int
	for i := range f {
		v, err := strconv.Atoi(f[i])
		if err != nil || v < 0 || v > 1<<30 {
			return Order{}, fmt.Errorf("the prompt's order has a bad number")
		}
		n[i] = v
	}
	return Order{ID: n[0], NDJSON: n[1] == 1, Chunks: n[2], Size: n[3], Stream: streams(body),
		Pace: time.Duration(n[4]) * time.Microsecond, First: time.Duration(n[5]) * time.Microsecond}, nil
}

func streams(body []byte) bool {
	return bytes.Contains(body, []byte(`"stream":true`)) || bytes.Contains(body, []byte(`"stream": true`))
}

// filler is what pieces are padded with.
var filler = strings.Repeat("the quick brown fox jumps over the lazy dog ", 400)

// AppendContent appends piece i of the answer: "<id.i.padding>".
func (o Order) AppendContent(b []byte, i int) []byte {
	start := len(b)
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(o.ID), 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(i), 10)
	b = append(b, '.')
	if pad := o.Size - (len(b) - start) - 1; pad > 0 {
		b = append(b, filler[:min(pad, len(filler))]...)
	}
	return append(b, '>')
}

// Handler is the engine. The zero value is ready.
type Handler struct {
	stopped sync.Map // order's ID → when its caller was seen to be gone
}

// Stopped is the path that tells, in nanoseconds since 1970, when the stream
// whose number is given as ?id= was stopped by its caller; 404 = it was not.
const Stopped = "/stopped"

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/models" {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model","owned_by":"bench"}]}`, Model)
		return
	}
	if r.URL.Path == Stopped {
		id, _ := strconv.Atoi(r.URL.Query().Get("id"))
		at, ok := h.stopped.LoadAndDelete(id)
		if !ok {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, at.(time.Time).UnixNano())
		return
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	o, err := ParseOrder(body)
	if err != nil { // a worker trying out its engine
		o = Order{Chunks: 1, Size: 8, Stream: streams(body)}
	}
	if o.Stream {
		o.stream(w, r)
		if r.Context().Err() != nil {
			h.stopped.Store(o.ID, time.Now())
		}
		return
	}
	o.wait(r, o.First)
	b := append(make([]byte, 0, 512+o.Chunks*(o.Size+8)), `{"id":"chatcmpl-0","object":"chat.completion","created":1700000000,"model":"`+Model+`","choices":[{"index":0,"message":{"role":"assistant","content":"`...)
	for i := range o.Chunks {
		b = o.AppendContent(b, i)
	}
	b = append(b, `"},"finish_reason":"stop"}],`...)
	b = o.appendUsage(b)
	b = append(b, '}')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	_, _ = w.Write(b)
}

const promptTokens = 12

func (o Order) appendUsage(b []byte) []byte {
	return fmt.Appendf(b, `"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, promptTokens, o.Chunks, promptTokens+o.Chunks)
}

func (o Order) wait(r *http.Request, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.Context().Done():
	}
}

const chunkHead = `{"id":"chatcmpl-0","object":"chat.completion.chunk","created":1700000000,"model":"` + Model + `","choices":[`

func (o Order) stream(w http.ResponseWriter, r *http.Request) {
	before, after := "data: ", "\n\n"
	if o.NDJSON {
		before, after = "", "\n"
		w.Header().Set("Content-Type", "application/x-ndjson")
	} else {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	rc := http.NewResponseController(w)
	buf := make([]byte, 0, 512+o.Size)
	send := func() bool {
		if _, err := w.Write(buf); err != nil {
			return false
		}
		return rc.Flush() == nil
	}
	o.wait(r, o.First)
	// Pieces are due at fixed times, so that a late one does not delay the rest.
	due := time.Now()
	for i := range o.Chunks {
		if o.Pace > 0 {
			due = due.Add(o.Pace)
			o.wait(r, time.Until(due))
		}
		if r.Context().Err() != nil {
			return
		}
		buf = append(append(buf[:0], before...), chunkHead+`{"index":0,"delta":{"content":"`...)
		buf = o.AppendContent(buf, i)
		buf = append(append(buf, `"},"finish_reason":null}]}`...), after...)
		if !send() {
			return
		}
	}
	buf = append(append(buf[:0], before...), chunkHead+`{"index":0,"delta":{},"finish_reason":"stop"}]}`+after+before+chunkHead+`],`...)
	buf = append(append(o.appendUsage(buf), '}'), after...)
	if !o.NDJSON {
		buf = append(buf, "data: [DONE]\n\n"...)
	}
	send()
}
