package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/receipt"
)

// open opens a sealed request and holds it to its clear header. With r.opened
// set, an error is about the content, and travels inside a frame.
func (r *request) open(ctx context.Context, query []byte) (*plan, *wire.Error) {
	s := r.s
	w := s.w
	if s.lane == nil {
		return nil, wire.Errorf(wire.CodeSealRefused, "worker: nothing sealed is taken on this connection")
	}
	o, err := s.lane.Open(w.cfg.Sealer.now(), query)
	if err != nil {
		return nil, openError(err)
	}
	h := &o.Header
	p, werr := w.prepare(o.Request)
	if werr != nil {
		p = &plan{} // nothing can be billed
	}
	r.meter.plan = p
	switch {
	case h.Model != w.cfg.Model.Base():
		return nil, wire.Errorf(wire.CodeSealRefused, "worker: sealed request: it is for another model")
	case r.meter.coefficient > int64(h.MaxCoefficient):
		return nil, wire.Errorf(wire.CodeSealRefused, "worker: sealed request: the price is above its cap")
	case werr == nil && (p.maxPrompt > int64(h.PromptTokens) || p.maxCompletion > int64(h.OutputTokens)):
		// The proxy reserved by the header, so beyond it nothing could be paid.
		return nil, wire.Errorf(wire.CodeSealRefused, "worker: sealed request: it goes beyond the bounds of its own header")
	case ctx.Err() != nil:
		return nil, engineFailure(context.Cause(ctx))
	}
	if len(o.CacheSalt) > 0 && werr == nil {
		salt := sha256.Sum256(append(append([]byte(wire.LabelCacheSalt), o.CacheSalt...), p.caller...))
		r.salt = hex.EncodeToString(salt[:])
	}
	salts := receipt.NewSalts(o.Secret, h.RequestID)
	x := &sealed{Opened: o, consent: make(chan struct{}), answer: receipt.CommitAnswer(salts.Answer)}
	x.ready = sync.OnceValue(func() (y readied) {
		y.acceptance, y.writer, y.err = o.Accept(w.cfg.Sign)
		y.request = receipt.CommitRequest(salts.Request, o.Plain)
		return y
	})
	r.opened = x
	// The time that the engine takes is free.
	go x.ready()
	return p, werr
}

// accept accepts an opened request, once the engine has taken it: until then
// the proxy may try another worker, and nobody notices that this one failed.
func (r *request) accept(ctx context.Context) error {
	x := r.opened
	y := x.ready()
	if y.err != nil {
		return wire.Public(y.err)
	}
	x.writer = y.writer
	x.credit.Accepted()
	x.timer = time.AfterFunc(envelope.ConsentWithin, func() { r.cancel(errNoConsent) })
	r.sealed.Store(x)
	r.begun = true
	return r.send(ctx, &role.Part{ID: r.id, Head: y.acceptance})
}

// awaitConsent waits for the client's first credit: nothing of an answer, its
// end included, goes out before.
func (r *request) awaitConsent(ctx context.Context) error {
	select {
	case <-r.sealed.Load().consent:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hold keeps what comes from here on for the last frame.
func (r *request) hold() {
	if r.opened != nil {
		r.opened.holding = true
	}
}

// sealedHead sends the head of a stream at once; that of an answer which is
// there already goes with it.
func (r *request) sealedHead(ctx context.Context, x *sealed, head []byte) error {
	if err := r.accept(ctx); err != nil {
		return err
	}
	x.head = head
	x.answer.Write(head)
	if x.holding {
		return nil
	}
	return r.frame(ctx, x, nil)
}

// sealedPiece sends body bytes in frames. b is not kept.
func (r *request) sealedPiece(ctx context.Context, x *sealed, b []byte) error {
	x.answer.Write(b)
	if x.holding {
		x.tail = append(x.tail, b...)
		for len(x.tail) > envelope.MaxBody {
			if err := r.frame(ctx, x, x.tail[:envelope.MaxBody]); err != nil {
				return err
			}
			x.tail = x.tail[envelope.MaxBody:]
		}
		return nil
	}
	for len(b) > 0 {
		n := min(len(b), envelope.MaxBody)
		if err := r.frame(ctx, x, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// frame sends one frame that is not the last, waiting for credit.
func (r *request) frame(ctx context.Context, x *sealed, body []byte) error {
	box, err := x.writer.Seal(envelope.Frame{Head: x.head, Body: body}, nil)
	if err != nil {
		return err
	}
	x.head = nil
	if err := r.window.Acquire(ctx, len(box)); err != nil {
		return err
	}
	return r.send(ctx, &role.Part{ID: r.id, Body: box})
}

// endSealed makes the last part of an accepted request: with the client's
// consent the last frame and the worker's part of the receipt, without it an
// error that costs nothing. It reports whether the client hears in that frame
// how the answer ended.
func (r *request) endSealed(ctx context.Context, x *sealed, failure error, last *role.Part) bool {
	x.timer.Stop()
	if !x.credit.End() {
		last.Final.Tokens = pricing.Tokens{}
		if last.Err == nil {
			last.Err = errCancelled
		}
		return false
	}
	end, f := receipt.EndComplete, envelope.Frame{Head: x.head, Body: x.tail}
	switch {
	case failure == nil:
	case errors.Is(failure, errCancelled):
		end = receipt.EndCancelled
	default:
		end = receipt.EndFailed
		if errors.Is(failure, errTimeout) {
			end = receipt.EndCut
		}
		// What was held back was not sent.
		f.Error = engineFailure(failure)
	}
	part := receipt.WorkerPart{
		RequestID: x.Header.RequestID, Request: x.ready().request, Answer: x.answer.Sum(),
		Statement: x.Statement, Model: r.s.w.cfg.Model, Tokens: last.Final.Tokens.Total,
		Envelope: x.Hash, Session: x.Session, Nonce: x.Nonce, End: end, Block: r.s.w.cfg.Block(),
	}
	if part.Tokens > 0 {
		part.Usage = r.meter.receipt()
	}
	signed, err := part.Sign(r.s.w.cfg.Sign)
	var box []byte
	if err == nil {
		digest := signed.Digest()
		f.End = &digest
		box, err = x.writer.Seal(f, signed.Encode())
	}
	if err != nil {
		r.s.w.log.Error("cannot end a sealed answer", "err", err)
		last.Final.Tokens, last.Err = pricing.Tokens{}, wire.Public(err)
		return false
	}
	last.Err, last.Body = nil, box
	return true
}

// receipt is what the meter counted, in a form that cannot contradict itself.
func (m *meter) receipt() receipt.Usage {
	u := m.counted()
	return receipt.Usage{
		Prompt: max(u.Prompt, 0), Cached: min(max(u.Cached, 0), max(u.Prompt, 0)),
		Completion: max(u.Completion, 0), Reasoning: min(max(u.Reasoning, 0), max(u.Completion, 0)),
	}
}
