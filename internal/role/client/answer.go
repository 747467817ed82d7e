package client

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"math"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// doAs runs a call at this session, sealed as mode says. An unknown session is
// set up again once, with a new envelope. patience is how long it waits for
// workers that may come back.
func (s *session) doAs(ctx context.Context, mode api.Seal, call *api.Call, query []byte, maxCoefficient int32, deadline time.Time, patience time.Duration) (a *api.Answer, retry bool, err error) {
	if mode == api.SealOff {
		a, retry, err = s.do(ctx, call, query, nil, maxCoefficient, deadline)
		if err == nil {
			a.Sealing = api.Sealing{Mode: mode}
		}
		return a, retry, err
	}
	until := time.Now().Add(patience)
	failures := 0
	for repaired, tries := false, 0; ; tries++ {
		x, message, err := s.seal(ctx, call, query, maxCoefficient, deadline, patience)
		var not *notSealedError
		if errors.As(err, &not) {
			if ctx.Err() != nil {
				return nil, false, openai.From(ctx.Err())
			}
			if mode == api.SealRequire {
				s.c.log.Warn("a request cannot be sealed at this proxy", "proxy", s.peer.Addr, "err", err)
				return nil, true, openai.Errorf(openai.CodeNotSealed, "The request must be sealed to a worker, and cannot be at this proxy: %s.", not.reason)
			}
			a, retry, err := s.do(ctx, call, query, nil, maxCoefficient, deadline)
			if err == nil {
				a.Sealing = api.Sealing{Mode: mode, Reason: not.reason}
			}
			return a, retry, err
		}
		if err != nil && mode == api.SealPrefer && tries == 0 {
			// The proxy says best what it lacks.
			a, retry, err := s.do(ctx, call, query, nil, maxCoefficient, deadline)
			if err == nil {
				a.Sealing = api.Sealing{Mode: mode, Reason: "no worker to seal to"}
			}
			return a, retry, err
		}
		if err != nil {
			return nil, tries == 0, err
		}
		a, retry, err := s.do(ctx, call, message, x, maxCoefficient, deadline)
		var unknown *unknownSessionError
		if errors.As(err, &unknown) {
			s.directory.forget(x.sessions)
			if !repaired {
				repaired = true
				continue
			}
			return nil, true, openai.Upstream("No worker knows the session that was just set up.")
		}
		var gone *candidatesGoneError
		if errors.As(err, &gone) {
			// No worker accepted, so a new envelope may go to others.
			pause := min(setAgain, time.Duration(tries*tries)*10*time.Millisecond)
			if gone.failed {
				// It may be this very request that engines fail at, each time at
				// its full cost, which nobody pays.
				failures++
				pause = failPause << (2 * failures)
			}
			if tries >= maxSealTries || failures >= maxFailures || !time.Now().Add(pause).Before(until) || ctx.Err() != nil {
				return nil, retry, gone.err
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			_ = s.directory.refresh(ctx)
			continue
		}
		if err == nil {
			a.Sealing = x.info(mode)
		}
		return a, retry, err
	}
}

// unknownSessionError is a worker's word that a seal session has to be set up.
type unknownSessionError struct{}

func (*unknownSessionError) Error() string { return "unknown session" }

// candidatesGoneError says that none of the workers a request was sealed to was
// there to take it, or that those who were failed at it, as they say.
type candidatesGoneError struct {
	err    *openai.Error
	failed bool
}

func (e *candidatesGoneError) Error() string { return e.err.Error() }

// maxSealTries bounds the envelopes that are made of one call at one proxy.
const maxSealTries = 64

// maxFailures bounds how often one call may fail at the workers behind one
// proxy; failPause is a quarter of the time after the first.
const (
	maxFailures = 4
	failPause   = 25 * time.Millisecond
)

// do runs a call at this session and returns when the head of the answer is
// there. retry says that nothing was begun and another session may do better.
// query is an http.request, or sealed as x says.
func (s *session) do(ctx context.Context, call *api.Call, query []byte, x *sealing, maxCoefficient int32, deadline time.Time) (a *api.Answer, retry bool, err error) {
	if err := role.Usable(s.nc); err != nil {
		return nil, true, openai.Unavailable("The session with the proxy was not renewed in time.")
	}
	var id cocoon.RequestID
	if _, err := rand.Read(id[:]); err != nil {
		return nil, false, openai.Internal()
	}
	b := &body{s: s, id: id, sealing: x}
	b.queue = role.NewQueue(s.conn.Level(), func(n int) { b.tell(&schema.CocoonWindow{RequestID: id, Bytes: int32(n)}) })
	b.ctx, b.stop = context.WithDeadlineCause(ctx, deadline, errDeadline)
	if !s.attach(id, b.queue) {
		b.stop()
		return nil, true, openai.Unavailable("The connection to the proxy ended.")
	}
	prompt, receiptID := len(query), id
	if x != nil {
		prompt, receiptID = x.prompt, x.call.ID()
	}
	most := pricing.Reserve(prompt, int64(call.MaxTokens), int64(maxCoefficient), s.snap.Params.Multipliers)
	if err := s.owe(ctx, call, id, most); err != nil {
		b.Close()
		if said := (*openai.Error)(nil); errors.As(err, &said) {
			return nil, false, said
		}
		s.c.log.Error("a request cannot be counted, and is not sent", "err", err)
		return nil, false, openai.Internal()
	}
	s.expect(id, receiptID, most)
	timeout := 0.95 * time.Until(deadline).Seconds()
	m := &schema.ClientRunQueryEx{
		ModelName: call.Model, Query: query, MaxCoefficient: maxCoefficient, MaxTokens: call.MaxTokens,
		Timeout: math.Max(timeout, 0), RequestID: id, MinConfigVersion: int32(s.snap.Version), Flags: 1,
	}
	if s.version >= role.VersionKeys {
		m.Flags |= 2 // the key stays zero: not encrypted
	}
	if err := s.conn.SendObject(b.ctx, m); err != nil {
		b.Close()
		if errors.Is(err, mux.ErrTooLarge) {
			s.told(id, noTokens) // it was not sent
			return nil, false, openai.TooLarge(wire.MaxPacket)
		}
		return nil, true, b.explain(err)
	}
	part, err := b.queue.Pop(b.ctx)
	if err != nil {
		b.Close()
		return nil, errors.Is(err, errProxyLost), b.explain(err)
	}
	if part.Err != nil {
		b.ended.Store(true)
		b.Close()
		if x != nil {
			if part.Err.Code == wire.CodeUnknownSession {
				return nil, true, &unknownSessionError{}
			}
			if part.Err.Code == wire.CodeNoCandidate || part.Err.Code == wire.CodeFailure {
				failed := part.Err.Code == wire.CodeFailure && strings.HasPrefix(part.Err.Text, "worker: ")
				return nil, true, &candidatesGoneError{openaiError(part.Err, call.Model), failed}
			}
			x.refused(s.c)
			// No credit was given: a new envelope may go elsewhere.
			return nil, tryElsewhere(part.Err) || part.Err.Code == wire.CodeSealRefused, openaiError(part.Err, call.Model)
		}
		return nil, tryElsewhere(part.Err), openaiError(part.Err, call.Model)
	}
	if part.Head == nil {
		b.Close()
		return nil, false, openai.Upstream("The proxy sent an answer without a head.")
	}
	var status int
	var header http.Header
	if x != nil {
		var first []byte
		if status, header, first, retry, err = b.begin(part); err != nil {
			b.Close()
			return nil, retry, err
		}
		b.rest, b.begun = first, true
	} else {
		var first []byte
		if status, header, first, err = role.DecodeResponse(part.Head); err != nil {
			b.Close()
			return nil, false, openai.Upstream("The answer's head cannot be read.")
		}
		b.rest, b.begun = first, true
		b.take(part)
	}
	return &api.Answer{
		Status: status,
		Header: header,
		Body:   b,
		Peer:   api.Peer{Verdict: s.peer.Kind, ImageHash: s.peer.ImageHash, Addr: s.peer.Addr, Level: s.peer.Level},
		Final:  func() api.Final { return b.final },
	}, false, nil
}

var errDeadline = errors.New("the call's time is over")

// body is the body of an answer. One goroutine reads it; Close may come from
// another.
type body struct {
	s     *session
	id    cocoon.RequestID
	queue *role.Queue
	ctx   context.Context
	stop  context.CancelFunc

	sealing   *sealing // nil for an unsealed call
	consented bool     // credit was given: what is made is paid

	rest  []byte
	begun bool        // the caller got its head, so this body counts the end
	ended atomic.Bool // the last part is here
	err   error       // sticky
	final api.Final

	once sync.Once
}

// Read implements io.Reader. It takes all parts that are here already, which
// saves whoever reads a write for each. It returns io.EOF only after the proxy
// said that the answer is complete.
func (b *body) Read(p []byte) (n int, err error) {
	for {
		m := copy(p[n:], b.rest)
		b.rest = b.rest[m:]
		n += m
		over := b.err != nil || b.ended.Load()
		switch {
		case n == len(p), n > 0 && (over || b.queue.Len() == 0):
			return n, nil
		case b.err != nil:
			return 0, b.err
		case over:
			b.err = io.EOF
			b.finish(role.Complete)
			return 0, io.EOF
		}
		b.next()
	}
}

// next waits for the next part.
func (b *body) next() {
	part, err := b.queue.Pop(b.ctx)
	switch {
	case err != nil:
		b.fail(b.explain(err))
	case part.Err != nil:
		b.ended.Store(true)
		b.fail(openai.Cut("The answer broke off: %s", part.Err.Text))
	case b.sealing != nil:
		f, err := b.open(part)
		if err != nil {
			b.fail(b.untrue(err))
			return
		}
		b.rest = f.Body
		b.take(part)
		if f.Error != nil {
			b.fail(openai.Cut("The answer broke off: %s", f.Error.Text))
		}
	case part.Head != nil:
		b.fail(openai.Upstream("The proxy sent a second head."))
	default:
		b.rest = part.Body
		b.take(part)
	}
}

// take notes the end of an answer.
func (b *body) take(p role.Part) {
	if p.Final == nil {
		return
	}
	defer b.ended.Store(true) // whoever sees it may read final
	b.final = b.s.final(p.Final.Tokens)
}

func (b *body) fail(err *openai.Error) {
	b.err = err
	b.finish(role.Failed)
}

// Close ends the call; before its end it cancels it.
func (b *body) Close() error {
	if b.ended.Load() {
		b.finish(role.Complete) // paid for, read or not
	} else {
		b.finish(role.Cancelled)
	}
	return nil
}

func (b *body) finish(outcome role.Outcome) {
	b.once.Do(func() {
		tokens := noTokens
		if outcome == role.Complete {
			tokens = tokensOf(b.final)
		}
		if b.begun {
			b.s.c.stats.End(tokens, outcome)
		}
		if !b.ended.Load() {
			b.tell(&schema.CocoonCancel{RequestID: b.id})
		}
		if x := b.sealing; x != nil && b.consented && outcome == role.Failed {
			x.note(b.s.c, endNoAnswer)
		}
		// An unsealed call may be charged from its first part on, a sealed one
		// from the consent on.
		b.s.over(b.id, b.consented || b.sealing == nil)
		b.s.detach(b.id)
		b.stop()
	})
}

func (b *body) tell(o schema.Object) {
	if b.s.conn.Level() >= wire.Level1 {
		_ = b.s.conn.SendUrgent(schema.Marshal(o))
	}
}

// explain makes a failure of the way to the proxy into what a caller hears.
func (b *body) explain(err error) *openai.Error {
	switch {
	case errors.Is(err, errDeadline):
		return openai.Timeout("The call's time is over.")
	case errors.Is(err, context.Canceled):
		return openai.Cancelled()
	case errors.Is(err, mux.ErrOverflow):
		return openai.Cut("The answer was read too slowly.")
	case errors.Is(err, errProxyLost):
		return openai.Cut("The connection to the proxy ended in the middle of the answer.")
	}
	return openai.Cut("The connection to the proxy failed.")
}

// tryElsewhere reports whether a refusal says nothing about the request, so
// that another proxy may take it.
func tryElsewhere(err *wire.Error) bool {
	return err.Code == wire.CodeNotReady && !strings.Contains(err.Text, "balance")
}

// openaiError is the one place where errors of the network become errors of
// the API (spec network-protocol 4.6, 6; changes-2026-04 5.1).
func openaiError(err *wire.Error, model string) *openai.Error {
	text := err.Text
	switch {
	case err.Code == wire.CodeTimeout:
		return openai.Timeout("The network did not answer in time: %s", text)
	case err.Code == wire.CodeCancelled:
		return openai.Cancelled()
	case strings.HasPrefix(text, "unknown model"):
		return openai.ModelNotFound(model)
	case strings.Contains(text, "balance is too low"):
		return openai.InsufficientBalance("The channel cannot pay for this call: %s", text)
	case strings.HasPrefix(text, "can run this query with coefficient="):
		return openai.InvalidRequest("max_coefficient", "Only dearer workers are there: the proxy %s thousandths.", text)
	case err.Code == wire.CodeNotReady, err.Code == wire.CodeNoCandidate, text == "too many active queries":
		return openai.Unavailable("The network cannot take this call now: %s", text)
	case err.Code == wire.CodeProtocolViolation:
		return openai.InvalidRequest("", "%s", strings.TrimPrefix(text, "worker: "))
	}
	return openai.Upstream("The network failed on this call: %s", text)
}

func tokensOf(f api.Final) pricing.Tokens {
	return pricing.Tokens{Prompt: f.PromptTokens, Cached: f.CachedTokens, Completion: f.CompletionTokens, Reasoning: f.ReasoningTokens, Total: f.TotalTokens}
}
