package worker

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
)

// request is one inference that runs for a proxy.
type request struct {
	s      *session
	id     cocoon.RequestID
	window *mux.SendWindow
	cancel context.CancelCauseFunc
	done   chan struct{}

	start    time.Time
	received time.Time // when the engine's head came
	debug    bool      // the caller wants times
	salt     string    // of the prefix cache, if the request brought its own; "" = made of what is known of the caller
	begun    bool      // the head went out
	meter    meter
	opened   *sealed                // a sealed request
	sealed   atomic.Pointer[sealed] // the same, once it is accepted
}

// Why a request's context ended.
var (
	errCancelled = &wire.Error{Code: wire.CodeCancelled, Text: "worker: cancelled by the caller"}
	errTimeout   = &wire.Error{Code: wire.CodeTimeout, Text: "worker: timeout"}
	errNoAnswer  = &wire.Error{Code: wire.CodeTimeout, Text: "worker: timeout: the engine did not begin to answer"}
	errNoConsent = &wire.Error{Code: wire.CodeNoConsent, Text: "worker: " + envelope.ErrNoConsent.Error()}
	errGone      = &wire.Error{Code: wire.CodeFailure, Text: "worker: the proxy connection ended"}
)

// Limits on what an engine may send.
const (
	maxEvent  = 4 << 20
	maxAnswer = 32 << 20

	// An engine that sends more events than these and never ends is cut off:
	// keep-alives and pieces of tokens fit in well.
	spareEvents    = 1000
	eventsPerToken = 8

	// usualAnswer is room for most answers that are not streamed.
	usualAnswer = 2 << 10
	// endWait is how long an engine may keep a stream open after its last event.
	endWait = time.Second
	// maxSeconds is the longest a request may take.
	maxSeconds = 24 * 3600
)

// start admits a request and runs it on its own goroutine. It is called on the
// connection's reader and must not block.
func (s *session) start(id cocoon.RequestID, query []byte, coefficient int64, seconds float64, debug bool) {
	w := s.w
	refuse := func(err *wire.Error) {
		w.stats.Reject()
		// Not sent only if the connection is ending.
		_ = s.conn.SendUrgent(marshalPart(s.version, &role.Part{ID: id, Err: err, Final: &role.Final{}}))
	}
	if err := role.Usable(s.nc); err != nil {
		refuse(err)
		return
	}
	if w.active.Add(1) > int64(w.limit()) {
		w.active.Add(-1)
		refuse(wire.Errorf(wire.CodeError, "too many active queries"))
		return
	}
	if !(seconds > 0) {
		w.active.Add(-1)
		refuse(errTimeout)
		return
	}
	if coefficient < 0 || coefficient >= 1e9 {
		w.active.Add(-1)
		refuse(wire.Errorf(wire.CodeProtocolViolation, "worker: invalid coefficient value"))
		return
	}
	// The answer must reach the proxy before its own limit (spec
	// network-protocol 5.8).
	limit := time.Duration(0.95 * min(seconds, maxSeconds) * float64(time.Second))
	ctx, cancel := context.WithCancelCause(context.Background())
	timer := time.AfterFunc(limit, func() { cancel(errTimeout) })
	r := &request{s: s, id: id, cancel: cancel, done: make(chan struct{}), start: time.Now()}
	if envelope.IsMessage(query) {
		r.window = mux.NewClosedWindow()
	} else {
		r.window = mux.NewSendWindow(s.conn.Level())
	}
	r.debug = debug
	r.meter = meter{coefficient: coefficient, multipliers: s.snap.Params.Multipliers, price: s.snap.Params.PricePerToken}
	s.mu.Lock()
	if _, twice := s.requests[id]; twice {
		s.mu.Unlock()
		w.active.Add(-1)
		timer.Stop()
		refuse(wire.Errorf(wire.CodeProtocolViolation, "worker: request id in use"))
		return
	}
	s.requests[id] = r
	s.mu.Unlock()
	w.stats.Begin()
	w.running.Add(1)
	w.pressure()
	go func() {
		growStack(0)
		defer w.running.Add(-1)
		defer timer.Stop()
		defer cancel(nil)
		err := r.serve(ctx, query)
		// The place is free before the proxy hears that it is.
		w.active.Add(-1)
		w.pressure()
		r.end(ctx, err)
		s.mu.Lock()
		delete(s.requests, id)
		s.mu.Unlock()
		close(r.done)
	}()
}

// growStack makes room on the goroutine's stack for what a request needs, while
// there is next to nothing on it to be moved.
//
//go:noinline
func growStack(i int) byte {
	var room [4 << 10]byte
	return room[i]
}

// serve carries the request out up to its last part: as it is, or once it was
// opened and accepted.
func (r *request) serve(ctx context.Context, query []byte) error {
	if !envelope.IsMessage(query) {
		p, werr := r.s.w.prepare(query)
		if werr != nil {
			return werr
		}
		return r.run(ctx, p)
	}
	p, werr := r.open(ctx, query)
	if r.opened == nil {
		return werr // refused in clear
	}
	var err error
	if werr == nil {
		err = r.run(ctx, p)
	} else if err = r.accept(ctx); err == nil {
		err = werr // what is wrong with the content is the client's to read
	}
	if r.sealed.Load() == nil {
		return err // the engine took nothing: another worker may
	}
	if werr := r.awaitConsent(ctx); werr != nil {
		return werr
	}
	return err
}

// run asks the engine.
func (r *request) run(ctx context.Context, p *plan) error {
	r.meter.plan = p
	p.request.Salt = r.salt
	if r.salt == "" {
		p.request.Salt = r.s.w.salt(r.s.proxyName, p.caller)
	}
	resp, err := r.s.w.cfg.Engine.Do(ctx, &p.request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	contentType := resp.Header.Get("Content-Type")
	r.received = time.Now()
	header := http.Header{
		"Content-Type":          {contentType},
		"X-Cocoon-Worker-Start": {strconv.FormatFloat(role.Seconds(r.start), 'f', 6, 64)},
		"X-Cocoon-Worker-End":   {strconv.FormatFloat(role.Seconds(r.received), 'f', 6, 64)},
	}
	if v := resp.Header.Get("Retry-After"); v != "" {
		header.Set("Retry-After", v)
	}
	media, _, _ := mime.ParseMediaType(contentType)
	switch {
	case resp.StatusCode >= 400:
		return r.whole(ctx, resp, header, false)
	case media == "text/event-stream":
		if err := r.head(ctx, resp.StatusCode, header); err != nil {
			return err
		}
		return r.events(ctx, resp.Body)
	default:
		return r.whole(ctx, resp, header, true)
	}
}

// outbox gathers what an engine sent at once: it goes out in one part when more
// would have to be waited for, so that nothing is held back and a burst does
// not cost a part for each event.
type outbox struct {
	engine io.Reader
	send   func([]byte) error
	b      []byte
	err    error // of send
}

// maxOutbox is how much is gathered at most.
const maxOutbox = 8 << 10

// Read implements io.Reader: it sends what is gathered before it waits.
func (o *outbox) Read(p []byte) (int, error) {
	if err := o.flush(); err != nil {
		return 0, err
	}
	return o.engine.Read(p)
}

// add gathers b, which is not kept.
func (o *outbox) add(b []byte) error {
	o.b = append(o.b, b...)
	if len(o.b) < maxOutbox {
		return nil
	}
	return o.flush()
}

func (o *outbox) flush() error {
	if o.err == nil && len(o.b) > 0 {
		o.err = o.send(o.b)
		o.b = o.b[:0]
	}
	return o.err
}

// events forwards a stream of server-sent events as they come and counts them.
func (r *request) events(ctx context.Context, body io.Reader) error {
	out := &outbox{engine: body, send: func(b []byte) error { return r.piece(ctx, b) }}
	err := r.readEvents(ctx, out)
	// What came before a failure was made, too.
	if ferr := out.flush(); ferr != nil {
		return ferr
	}
	return err
}

func (r *request) readEvents(ctx context.Context, box *outbox) error {
	er := openai.NewEventReader(box, maxEvent)
	var buf []byte
	events := int64(0)
	for done := false; ; {
		ev, err := er.Next()
		if done && err != nil {
			return nil // it was complete, however the stream ends
		}
		if errors.Is(err, io.EOF) {
			return wire.Errorf(wire.CodeFailure, "worker: the engine ended its answer in the middle")
		}
		if err != nil {
			return engineError(ctx, err)
		}
		if done {
			continue // nothing follows [DONE]
		}
		if events++; events > spareEvents+eventsPerToken*r.meter.plan.maxCompletion {
			return wire.Errorf(wire.CodeFailure, "worker: the engine does not end: %d events for at most %d tokens", events, r.meter.plan.maxCompletion)
		}
		out, seen := ev.Raw, ev.Data
		switch {
		case ev.IsDone():
			done = true
		case ev.Data != nil:
			if r.meter.plan.transcript && endsTranscript(ev.Data) {
				done, seen = true, nil // it says again what came before
			}
			c, err := openai.ParseChunk(ev.Data)
			if err != nil || !utf8.Valid(ev.Data) {
				return wire.Errorf(wire.CodeFailure, "worker: the engine sent an event that is not JSON")
			}
			r.meter.see(c, seen)
			if r.meter.overrun() {
				return wire.Errorf(wire.CodeFailure, "worker: the engine went beyond the output limit of %d tokens", r.meter.plan.maxCompletion)
			}
			if c.IsError {
				// It is the caller's to read, and nothing is charged.
				if err := box.add(ev.Raw); err != nil {
					return err
				}
				return wire.Errorf(wire.CodeFailure, "worker: the engine failed in the middle of its answer")
			}
			if c.UsageOnly() && !r.meter.plan.usageAsked {
				continue
			}
			if c.HasUsage {
				buf = append(buf[:0], "data: "...)
				if c.UsageOnly() || done {
					buf = r.meter.withCost(buf, c)
				} else if r.meter.plan.runningAsked {
					buf = append(buf, ev.Data...)
				} else {
					buf = c.AppendWithoutUsage(buf)
				}
				buf = append(buf, "\n\n"...)
				out = buf
			}
		}
		if done {
			r.hold()
		}
		if err := box.add(out); err != nil {
			return err
		}
		if done {
			// All is sent before the clock runs: a caller may read slowly.
			if err := box.flush(); err != nil {
				return err
			}
			// Reading on to the end lets the connection be used again, but an
			// engine that does not end it must not hold up the answer.
			defer time.AfterFunc(endWait, func() { r.cancel(nil) }).Stop()
		}
	}
}

// endsTranscript reports whether an event is the last one of a transcription in
// the OpenAI form, which engines may leave without [DONE].
func endsTranscript(data []byte) bool {
	o, err := openai.ParseObject(data)
	if err != nil {
		return false
	}
	raw, _ := o.Get("type")
	s, _ := openai.String(raw)
	return s == "transcript.text.done"
}

// whole forwards an answer that is read to its end first: one JSON value, or
// an engine's error.
func (r *request) whole(ctx context.Context, resp *engine.Response, header http.Header, mustBeJSON bool) error {
	buf := bytes.NewBuffer(make([]byte, 0, usualAnswer+bytes.MinRead))
	_, err := buf.ReadFrom(io.LimitReader(resp.Body, maxAnswer+1))
	b := buf.Bytes()
	if err != nil {
		return engineError(ctx, err)
	}
	if len(b) > maxAnswer {
		return wire.Errorf(wire.CodeFailure, "worker: the engine's answer is above %d bytes", maxAnswer)
	}
	if mustBeJSON {
		c, err := openai.ParseChunk(b)
		if err != nil || !utf8.Valid(b) {
			return wire.Errorf(wire.CodeFailure, "worker: the engine's answer is not a JSON object")
		}
		r.meter.see(c, nil)
		if r.meter.overrun() {
			return wire.Errorf(wire.CodeFailure, "worker: the engine went beyond the output limit of %d tokens", r.meter.plan.maxCompletion)
		}
		if c.HasUsage {
			b = r.meter.withCost(make([]byte, 0, len(b)+256), c)
		}
	}
	r.hold()
	if err := r.head(ctx, resp.StatusCode, header); err != nil {
		return err
	}
	return r.piece(ctx, b)
}

func (r *request) head(ctx context.Context, status int, header http.Header) error {
	r.begun = true
	if x := r.opened; x != nil {
		return r.sealedHead(ctx, x, role.EncodeResponse(status, header, nil))
	}
	return r.send(ctx, &role.Part{ID: r.id, Head: role.EncodeResponse(status, header, nil)})
}

// piece sends body bytes in parts, waiting for credit. b is not kept.
func (r *request) piece(ctx context.Context, b []byte) error {
	if x := r.opened; x != nil {
		return r.sealedPiece(ctx, x, b)
	}
	for len(b) > 0 {
		n := min(len(b), mux.MaxPart)
		if err := r.window.Acquire(ctx, n); err != nil {
			return err
		}
		if err := r.send(ctx, &role.Part{ID: r.id, Body: b[:n]}); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (r *request) send(ctx context.Context, p *role.Part) error {
	if err := r.s.conn.SendObject(ctx, role.ToProxy(r.s.version, p)); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

// end sends the last part and counts the request.
func (r *request) end(ctx context.Context, err error) {
	// What ended the context is the reason, whatever it broke.
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
		if errors.Is(cause, errTimeout) && r.meter.plan != nil && r.received.IsZero() {
			err = errNoAnswer
		}
	}
	final := &role.Final{WorkerStart: role.Seconds(r.start), WorkerEnd: role.Seconds(time.Now())}
	if r.debug {
		final.WorkerDebug = r.stats()
	}
	last := role.Part{ID: r.id, Final: final}
	outcome := role.Complete
	switch {
	case err == nil:
		final.Tokens = r.meter.tokens()
	case errors.Is(err, errCancelled) && r.begun:
		// What was made until then is owed; the answer ends here.
		outcome = role.Cancelled
		final.Tokens = r.meter.tokens()
	case errors.Is(err, errCancelled):
		outcome = role.Cancelled
		last.Err = errCancelled
	default:
		outcome = role.Failed
		last.Err = engineFailure(err)
	}
	if x := r.sealed.Load(); x != nil && r.endSealed(ctx, x, err, &last) && outcome == role.Failed {
		r.s.w.log.Warn("sealed request failed", "code", int32(engineFailure(err).Code)) // the client hears the rest
		err = nil
	}
	r.s.w.stats.End(final.Tokens, outcome)
	if errors.Is(err, errGone) {
		return
	}
	if err != nil && outcome == role.Failed {
		r.s.w.log.Warn("request failed", "request", r.id, "err", last.Err)
	}
	// The context may be over; the connection says itself when it is.
	sendCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = r.send(sendCtx, &last)
}

// stats is the worker's debug object (spec network-protocol 5.9).
func (r *request) stats() string {
	var head float64
	if !r.received.IsZero() {
		head = role.Seconds(r.received)
	}
	b, _ := json.Marshal(map[string]any{
		"type": "worker_stats", "start_time": role.Seconds(r.start),
		"answer_receive_start_at": head, "answer_receive_end_at": role.Seconds(time.Now()),
	})
	return string(b)
}

// engineError names a failure while an answer was read.
func engineError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, openai.ErrTooLong) {
		return wire.Errorf(wire.CodeFailure, "worker: the engine sent an event above %d bytes", maxEvent)
	}
	return wire.Errorf(wire.CodeFailure, "worker: the engine broke off in the middle of its answer")
}

// salt divides the engine's prefix cache by caller, as far as callers are known
// here: by proxy, and by what the request says of who asks.
func (w *Worker) salt(proxy string, caller []byte) string {
	h := hmac.New(sha256.New, w.saltKey[:])
	io.WriteString(h, proxy)
	h.Write([]byte{0})
	h.Write(caller)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// engineFailure makes any failure into what a proxy may hear.
func engineFailure(err error) *wire.Error {
	var werr *wire.Error
	if errors.As(err, &werr) {
		return werr
	}
	if errors.Is(err, engine.ErrBusy) || errors.Is(err, engine.ErrNotReady) {
		return wire.Errorf(wire.CodeNotReady, "worker: engine: %v", err)
	}
	// The engine package's errors name a class and no content.
	return wire.Errorf(wire.CodeFailure, "worker: engine: %v", err)
}
