package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// maxEvent bounds one event of a stream; images and audio come in one piece.
const maxEvent = 8 << 20

// stream forwards an answer event by event. Its status is sent at once, so
// every later error is an event, and none is followed by [DONE].
func (g *Gateway) stream(ctx context.Context, x *exchange, rq *request, answer *Answer) error {
	h := x.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-cache, no-store")
	h.Set("X-Accel-Buffering", "no")
	sw := &streamWriter{w: x.w, rc: x.rc(), timeout: g.cfg.WriteTimeout, unsent: true} // the head
	x.w.WriteHeader(http.StatusOK)
	if err := sw.flush(); err != nil {
		return openai.Cancelled()
	}
	defer sw.keepAlive(g.cfg.KeepAlive)()

	s := &streamer{out: sw, usage: rq.usage, running: rq.running, promise: rq.promise}
	s.form, _ = rq.form.(streamForm)
	var err error
	if s.form != nil {
		err = s.form.begin(sw)
	}
	if err == nil {
		err = s.copy(answer)
	}
	if err == nil && s.promise != nil {
		err = s.kept()
	}
	if err == nil {
		final := answer.Final()
		g.metrics.final(final)
		rq.meter.settled()
		if err = s.end(final); err == nil {
			return nil
		}
	}
	if sw.failed() {
		return openai.Cancelled()
	}
	fail := callError(ctx, err)
	if fail.Code != openai.CodeCancelled {
		var told error
		if s.form != nil {
			told = s.form.fail(sw, fail)
		} else {
			b, _ := fail.MarshalJSON() // strings always marshal
			told = sw.event(b)
		}
		if told == nil {
			_ = sw.flush()
		}
	}
	return fail
}

// kept checks what was streamed against what was promised. It cannot be asked
// for again: the caller has it.
func (s *streamer) kept() error {
	if err := s.promise.checkAll(s.choices); err != nil {
		return brokenPromise(err)
	}
	return nil
}

// gather keeps the content of the choices for kept.
func (s *streamer) gather(data []byte) error {
	if s.gathered += len(data); s.gathered > maxBlocks {
		return openai.Upstream("The answer is larger than %d bytes.", maxBlocks)
	}
	o, err := parseChat(data)
	if err != nil {
		return err
	}
	for _, c := range o.Choices {
		if c.Index < 0 || c.Index >= maxChoices {
			return errNoChat
		}
		for len(s.choices) <= c.Index {
			s.choices = append(s.choices, finished{})
		}
		s.choices[c.Index].add(c.Delta, c.FinishReason)
	}
	return nil
}

// maxChoices is the most that "n" may ask for.
const maxChoices = 128

// streamer turns what the worker sends into the events that the caller gets.
type streamer struct {
	out            *streamWriter
	usage, running bool
	held           []byte // the last chunk that only had usage, for the end
	last           []byte // the last other chunk, if usage is asked for
	scratch        []byte
	events         int
	finished       bool // a choice gave its finish_reason
	done           bool // [DONE] came

	form     streamForm // nil = chunks as they are
	rawUsage []byte     // the last usage, where a form tells it
	promise  *promise
	choices  []finished // what was streamed, where something was promised
	gathered int
}

// copy forwards chunks until the answer is complete. Workers of ours send
// events; those of the reference network send bare JSON values (spec
// network-protocol 5.6), whatever the content type says, so the first byte
// decides.
func (s *streamer) copy(answer *Answer) error {
	// Small, as it only serves the first byte: longer reads pass it by.
	body := bufio.NewReaderSize(flushFirst{answer.Body, s.out}, 64)
	var err error
	if first, e := firstByte(body); e != nil {
		err = e
	} else if first == '{' {
		err = s.copyValues(body)
	} else {
		err = s.copyEvents(body)
	}
	switch {
	case !errors.Is(err, io.EOF):
		return err
	case s.events == 0:
		return openai.Upstream("The answer to the streamed request is empty. Workers that cannot stream answer so; ask again without 'stream'.")
	case !s.done && !s.finished:
		return openai.Cut("The answer ended before it was finished.")
	}
	return nil
}

// flushFirst sends what is written before it waits for more: an event leaves
// when it is the last of those that came, not one by one out of a burst.
type flushFirst struct {
	r   io.Reader
	out *streamWriter
}

func (f flushFirst) Read(p []byte) (int, error) {
	if err := f.out.flush(); err != nil {
		return 0, err
	}
	return f.r.Read(p)
}

// firstByte looks at the first byte that is not white space.
func firstByte(r *bufio.Reader) (byte, error) {
	for range 4096 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, err
		}
		if b != ' ' && b != '\n' && b != '\r' && b != '\t' {
			return b, r.UnreadByte()
		}
	}
	return 0, openai.Upstream("The answer begins with nothing but white space.")
}

func (s *streamer) copyEvents(r io.Reader) error {
	er := openai.NewEventReader(r, maxEvent)
	for {
		ev, err := er.Next()
		switch {
		case errors.Is(err, openai.ErrTooLong):
			return openai.Upstream("An event of the answer is larger than %d bytes.", maxEvent)
		case err != nil:
			return err
		case ev.Data == nil:
		case s.done:
			return openai.Upstream("The answer goes on after its end.")
		case ev.IsDone():
			s.done = true
			s.events++
		default:
			if err := s.chunk(ev.Data); err != nil {
				return err
			}
		}
	}
}

func (s *streamer) copyValues(r io.Reader) error {
	vr := openai.NewValueReader(r, maxEvent)
	for {
		v, err := vr.Next()
		switch {
		case errors.Is(err, openai.ErrTooLong):
			return openai.Upstream("A part of the answer is larger than %d bytes.", maxEvent)
		case errors.Is(err, openai.ErrSyntax), errors.Is(err, openai.ErrTooDeep):
			return openai.Upstream("The answer is not readable JSON.")
		case err != nil:
			return err
		}
		if v, err = asChunk(v); err != nil {
			return err
		}
		if err := s.chunk(v); err != nil {
			return err
		}
	}
}

// chunk forwards one chunk, with as much usage as the caller asked for.
func (s *streamer) chunk(data []byte) error {
	c, err := openai.ParseChunk(data)
	if err != nil {
		return openai.Upstream("An event of the answer is not a JSON object.")
	}
	if c.IsError {
		return engineFault(http.StatusBadGateway, data)
	}
	s.events++
	if !s.finished {
		s.finished = c.Finished()
	}
	if s.promise != nil {
		if err := s.gather(data); err != nil {
			return err
		}
	}
	if s.form != nil {
		if c.HasUsage {
			s.rawUsage = append(s.rawUsage[:0], c.RawUsage()...)
		}
		err := s.form.chunk(s.out, data)
		if t, ok := s.form.(*transcriptForm); ok && t.ended {
			s.finished = true
		}
		return err
	}
	switch {
	case c.UsageOnly():
		s.held = append(s.held[:0], data...)
		return nil
	case s.usage:
		s.last = append(s.last[:0], data...)
		if c.HasUsage && !s.running {
			s.scratch = c.AppendWithUsage(s.scratch[:0], []byte("null"))
			data = s.scratch
		}
	case c.MentionsUsage():
		s.scratch = c.AppendWithoutUsage(s.scratch[:0])
		data = s.scratch
	}
	return s.out.event(data)
}

// end sends what waited for the accounting.
func (s *streamer) end(final Final) error {
	if s.form != nil {
		if err := s.form.end(s.out, billedUsage(s.rawUsage, final)); err != nil {
			return err
		}
		return s.out.flush()
	}
	if s.usage {
		b, err := s.usageChunk(final)
		if err != nil {
			return err
		}
		if err := s.out.event(b); err != nil {
			return err
		}
	}
	if err := s.out.event([]byte("[DONE]")); err != nil {
		return err
	}
	return s.out.flush()
}

// usageChunk makes the last chunk: the engine's own, or, from an engine that
// sent none or put usage beside content, one like the last chunk.
func (s *streamer) usageChunk(final Final) ([]byte, error) {
	data := s.held
	if data == nil {
		o, err := openai.ParseObject(s.last)
		if err != nil {
			o = &openai.Object{} // only [DONE] came
		}
		o.Set("choices", json.RawMessage("[]"))
		if data, err = o.AppendJSON(nil); err != nil {
			return nil, openai.Upstream("A chunk of the answer has too many members.")
		}
	}
	c, err := openai.ParseChunk(data)
	if err != nil {
		return nil, fmt.Errorf("usage chunk: %w", err)
	}
	return c.AppendWithUsage(nil, billedUsage(c.RawUsage(), final)), nil
}

// asChunk turns a complete chat answer into a chunk of a stream; what is a
// chunk already, and the answers of /v1/completions, stay as they are.
func asChunk(value []byte) ([]byte, error) {
	o, err := openai.ParseObject(value)
	if err != nil {
		return nil, openai.Upstream("A part of the answer is not a JSON object.")
	}
	raw, _ := o.Get("object")
	if kind, _ := openai.String(raw); kind != "chat.completion" {
		return value, nil
	}
	o.Set("object", json.RawMessage(`"chat.completion.chunk"`))
	choices := []byte{'['}
	all, _ := o.Get("choices")
	for i, v := range openai.Elements(all) {
		choice, err := openai.ParseObject(v)
		if err != nil {
			return nil, openai.Upstream("A choice of the answer is not a JSON object.")
		}
		if m, ok := choice.Get("message"); ok {
			choice.Delete("message")
			delta, err := asDelta(m)
			if err != nil {
				return nil, err
			}
			choice.Set("delta", delta)
		}
		if i > 0 {
			choices = append(choices, ',')
		}
		if choices, err = choice.AppendJSON(choices); err != nil {
			return nil, openai.Upstream("A choice of the answer has too many members.")
		}
	}
	o.Set("choices", append(choices, ']'))
	b, err := o.AppendJSON(nil)
	if err != nil {
		return nil, openai.Upstream("The answer has too many members.")
	}
	return b, nil
}

// asDelta gives the tool calls of a message the index they have in a stream.
func asDelta(message json.RawMessage) (json.RawMessage, error) {
	m, err := openai.ParseObject(message)
	if err != nil {
		return nil, openai.Upstream("A message of the answer is not a JSON object.")
	}
	calls, ok := m.Get("tool_calls")
	if !ok || len(calls) == 0 || calls[0] != '[' {
		return message, nil
	}
	out := []byte{'['}
	for i, v := range openai.Elements(calls) {
		call, err := openai.ParseObject(v)
		if err != nil {
			return nil, openai.Upstream("A tool call of the answer is not a JSON object.")
		}
		call.SetInt("index", int64(i))
		if i > 0 {
			out = append(out, ',')
		}
		if out, err = call.AppendJSON(out); err != nil {
			return nil, openai.Upstream("A tool call of the answer has too many members.")
		}
	}
	m.Set("tool_calls", append(out, ']'))
	b, err := m.AppendJSON(nil)
	if err != nil {
		return nil, openai.Upstream("A message of the answer has too many members.")
	}
	return b, nil
}

// streamWriter writes events; flush sends them. A caller who does not read
// makes both wait, so nothing piles up, and after timeout makes them fail.
type streamWriter struct {
	mu       sync.Mutex
	w        io.Writer
	rc       *http.ResponseController
	timeout  time.Duration
	deadline time.Time // of writes, renewed when half is gone
	wrote    time.Time // of the last write, for keepAlive
	buf      []byte
	unsent   bool // something waits for flush
	err      error
}

// event writes one event. data is JSON or [DONE].
func (s *streamWriter) event(data []byte) error { return s.named("", data) }

// named writes one event with a name, "" = none.
func (s *streamWriter) named(name string, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = s.buf[:0]
	if name != "" {
		s.buf = append(append(append(s.buf, "event: "...), name...), '\n')
	}
	s.buf = append(s.buf, "data: "...)
	if bytes.IndexByte(data, '\n') < 0 && bytes.IndexByte(data, '\r') < 0 {
		s.buf = append(s.buf, data...)
	} else {
		// A line end would end the field; in JSON it is only white space.
		var err error
		if s.buf, err = openai.Compact(s.buf, data); err != nil {
			return openai.Upstream("An event of the answer cannot be written.")
		}
	}
	s.buf = append(s.buf, "\n\n"...)
	return s.writeLocked(s.buf)
}

func (s *streamWriter) writeLocked(b []byte) error {
	if s.err != nil {
		return s.err
	}
	s.renewLocked()
	_, s.err = s.w.Write(b)
	s.unsent = s.unsent || s.err == nil
	return s.err
}

// renewLocked notes that something is written now and until when it may wait.
func (s *streamWriter) renewLocked() {
	s.wrote = time.Now()
	if s.deadline.Sub(s.wrote) < s.timeout/2 {
		s.deadline = s.wrote.Add(s.timeout)
		_ = s.rc.SetWriteDeadline(s.deadline)
	}
}

// flush sends what was written, if anything was.
func (s *streamWriter) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushLocked()
}

func (s *streamWriter) flushLocked() error {
	if s.err == nil && s.unsent {
		s.renewLocked()
		s.err = s.rc.Flush()
		s.unsent = false
	}
	return s.err
}

// failed reports whether the caller can no longer be reached.
func (s *streamWriter) failed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err != nil
}

// keepAlive sends a comment whenever nothing was sent for the interval, until
// the returned function is called. 0 means never.
func (s *streamWriter) keepAlive(interval time.Duration) (stop func()) {
	if interval == 0 {
		return func() {}
	}
	quit, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-quit:
				return
			case now := <-tick.C:
				s.mu.Lock()
				if now.Sub(s.wrote) >= interval {
					if s.writeLocked([]byte(": waiting\n\n")) == nil {
						_ = s.flushLocked()
					}
				}
				s.mu.Unlock()
			}
		}
	}()
	return func() { close(quit); <-ended }
}
