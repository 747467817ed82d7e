package proxy

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// inference is one request of a client.
type inference struct {
	s      *clientSession
	query  *schema.ClientRunQueryEx
	id     cocoon.RequestID
	window *mux.SendWindow
	cancel context.CancelCauseFunc

	start    time.Time
	deadline time.Time
	reserved int64
	charged  int64 // written to the ledger
	begun    bool  // the head of the answer went to the client
	gone     bool  // nobody takes the rest of the answer
	first    time.Time
	sealed   *sealedRequest // nil for one that the proxy can read
	// workerPart is the worker's signed part of the receipt.
	workerPart []byte
}

// attempt is one try of an inference at a worker.
type attempt struct {
	id    cocoon.RequestID // the worker's id, random: not the client's
	w     *workerSession
	queue *role.Queue
	// coefficient is what the worker asked for when it was chosen: what it
	// bills with, whatever it asks for meanwhile.
	coefficient int32
	// statement is the one that a sealed request is opened with.
	statement [32]byte
}

var (
	errCancelled = &wire.Error{Code: wire.CodeCancelled, Text: "cancelled by the caller"}
	errTimeout   = &wire.Error{Code: wire.CodeTimeout, Text: "timeout in proxy"}
)

const (
	// maxAttempts bounds the workers that may fail a request before its first
	// byte, maxLost those whose connection may break over it. Breaks are mostly
	// restarts and can come in a row, but a request that kills whoever reads it
	// must not meet every worker there is.
	maxAttempts = 4
	maxLost     = 16
	// cancelWait is how long a worker has to answer a cancel.
	cancelWait = 5 * time.Second
	maxTimeout = 24 * time.Hour
	// creditWait is how long a client of level 1 may read nothing of an answer
	// while a worker's place is held for it; sayWait how long its send queue may
	// be full when a request has failed.
	creditWait = 60 * time.Second
	sayWait    = 10 * time.Second
)

// begin admits a request (spec network-protocol 6). On the reader goroutine:
// whatever can wait goes to the request's own.
func (s *clientSession) begin(q *schema.ClientRunQueryEx) {
	p := s.p
	p.mu.Lock()
	if p.draining {
		p.mu.Unlock()
		s.refuse(q.RequestID, wire.Errorf(wire.CodeNotReady, "proxy is disabled"))
		return
	}
	p.running.Add(1)
	p.mu.Unlock()
	r := &inference{s: s, query: q, id: q.RequestID, start: time.Now()}
	var account *account
	var werr *wire.Error
	if envelope.IsMessage(q.Query) {
		werr = r.parseSealed()
	}
	if werr == nil {
		account, werr = r.admit()
	}
	if werr != nil {
		p.running.Done()
		s.refuse(q.RequestID, werr)
		return
	}
	ctx, stop := context.WithDeadlineCause(s.ctx, r.deadline, errTimeout)
	ctx, r.cancel = context.WithCancelCause(ctx)
	r.window = mux.NewSendWindow(s.mux.Level())
	if r.sealed != nil {
		r.window = mux.NewClosedWindow()
	}
	s.mu.Lock()
	// Without cancels the id is never looked up, and the reference allows
	// one id twice (spec network-protocol 5.2).
	if s.requests[r.id] == nil {
		s.requests[r.id] = r
	}
	s.active++
	s.mu.Unlock()
	p.stats.Begin()
	go func() {
		defer p.running.Done()
		defer stop()
		defer r.cancel(nil)
		r.run(ctx)
		if r.sealed != nil && r.sealed.consent != nil {
			r.sealed.consent.Stop()
		}
		if err := account.settle(r.reserved, r.charged); err != nil {
			p.log.Error("account out of order", "client", s.owner, "err", err)
		}
		s.mu.Lock()
		if s.requests[r.id] == r {
			delete(s.requests, r.id)
		}
		s.active--
		s.mu.Unlock()
		r.sendPart()
	}()
}

// admit checks what can be checked without a worker and reserves.
func (r *inference) admit() (*account, *wire.Error) {
	s, q := r.s, r.query
	if err := role.Usable(s.conn); err != nil {
		return nil, err
	}
	timeout := q.Timeout
	if math.IsNaN(timeout) || timeout <= 0 {
		return nil, errTimeout
	}
	r.deadline = r.start.Add(time.Duration(min(timeout, maxTimeout.Seconds()) * float64(time.Second)))
	if q.MaxTokens < 0 || q.MaxCoefficient < 0 {
		return nil, wire.Errorf(wire.CodeProtocolViolation, "negative max_tokens or max_coefficient")
	}
	s.mu.Lock()
	busy := s.active >= maxClientRequests
	s.mu.Unlock()
	if busy {
		return nil, wire.Errorf(wire.CodeNotReady, "too many active queries of this client")
	}
	inst, err := s.p.current()
	if err != nil {
		return nil, wire.Errorf(wire.CodeNotReady, "proxy is disabled")
	}
	if int64(q.MinConfigVersion) > int64(inst.snap.Version) {
		return nil, wire.Errorf(wire.CodeError, "active config version is too low")
	}
	if q.Flags&2 != 0 && q.PublicKey != [32]byte{} {
		// No key manager stands behind this proxy.
		return nil, wire.Errorf(wire.CodeError, "unknown public key %s", keyText(q.PublicKey))
	}
	if !s.p.pool.known(q.ModelName) {
		return nil, wire.Errorf(wire.CodeProtocolViolation, "unknown model %s", clip(q.ModelName, 128))
	}
	r.reserved = r.bound(int64(q.MaxCoefficient))
	return s.p.reserve(s.inst, s.owner, s.contract, r.reserved)
}

// run finds a worker, relays its answer and settles.
func (r *inference) run(ctx context.Context) {
	p := r.s.p
	want := want{model: r.query.ModelName, maxCoefficient: r.query.MaxCoefficient, tried: map[*workerSession]bool{}, candidates: r.candidates(), wait: p.cfg.Wait}
	var failure *wire.Error
	for tries, lost := 0, 0; tries < maxAttempts && lost < maxLost; {
		w, coefficient, werr := p.pool.acquire(ctx, want)
		var statement [32]byte
		if werr == nil && r.sealed != nil {
			statement = p.pool.statement(w, want.candidates)
		}
		if werr != nil {
			if cause := wireCause(ctx); cause != nil {
				werr = cause
			} else if failure != nil {
				werr = failure // says more than that nobody else is there
			}
			failure = werr
			break
		}
		final, err := r.try(ctx, w, coefficient, statement)
		p.pool.release(w)
		p.note(w, r, err)
		if err == nil {
			r.settle(ctx, w, final)
			return
		}
		failure = betterFailure(failure, err.wire)
		if err.wire.Code == wire.CodeSealRefused {
			r.s.refusedTooOften(time.Now(), true)
		}
		if !err.retry || r.begun || ctx.Err() != nil {
			r.fail(ctx, failure)
			r.notify(w, 0)
			return
		}
		p.log.Warn("trying another worker", "model", want.model, "failed", w.conn.Peer.Addr, "code", failure.Code)
		want.tried[w] = true
		if r.sealed != nil && (err.sent || !err.lost) {
			// That worker may have seen it, and takes an envelope once.
			want.candidates = slices.DeleteFunc(slices.Clone(want.candidates), func(d [32]byte) bool { return d == statement })
			if len(want.candidates) == 0 {
				break
			}
		}
		// A worker whose connection broke may be back in a moment; one that
		// failed will fail again.
		want.noWait = !err.lost
		switch {
		case !err.lost:
			tries++
		case err.sent:
			lost++
		}
	}
	r.fail(ctx, failure)
}

// tryError is a failed attempt; retry says that another worker may do better,
// lost that this one's connection ended, sent that it had the request by then.
type tryError struct {
	wire              *wire.Error
	retry, lost, sent bool
}

// try runs the request at one worker. It returns the worker's final word, or
// why there is none.
func (r *inference) try(ctx context.Context, w *workerSession, coefficient int32, statement [32]byte) (*role.Final, *tryError) {
	a := &attempt{w: w, coefficient: coefficient, statement: statement}
	a.queue = role.NewQueue(w.mux.Level(), func(n int) {
		_ = w.mux.SendUrgent(schema.Marshal(&schema.CocoonWindow{RequestID: a.id, Bytes: int32(n)}))
	})
	if _, err := rand.Read(a.id[:]); err != nil {
		return nil, &tryError{wire: wire.Public(err)}
	}
	if !w.attach(a) {
		return nil, &tryError{wire: wire.Errorf(wire.CodeError, "connection is dead"), retry: true, lost: true}
	}
	defer w.detach(a)
	if err := r.ask(ctx, a); err != nil {
		return nil, r.broken(ctx, a, err)
	}
	for {
		part, err := a.queue.Pop(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return r.stopWorker(ctx, a)
			}
			return nil, r.broken(ctx, a, err)
		}
		if part.Err != nil {
			return nil, &tryError{wire: part.Err, retry: retryable(part.Err)}
		}
		if part.Head != nil == r.begun {
			a.tellCancel()
			return nil, &tryError{wire: wire.Errorf(wire.CodeProtocolViolation, "out of order answer parts")}
		}
		if part.Head != nil && r.sealed != nil {
			if err := r.accept(a, part.Head); err != nil {
				a.tellCancel()
				return nil, &tryError{wire: err, retry: true}
			}
			r.first = time.Now()
		} else if part.Head != nil {
			if err := role.CheckResponse(part.Head); err != nil {
				a.tellCancel()
				return nil, &tryError{wire: wire.Errorf(wire.CodeProtocolViolation, "received malformed answer from worker")}
			}
			r.first = time.Now()
		}
		final := part.Final
		if final != nil {
			if err := r.chargeFor(ctx, a, part); err != nil {
				return nil, &tryError{wire: err}
			}
		}
		// What came with more leaves with more.
		if err := r.forward(ctx, part, final == nil && a.queue.Len() > 0); err != nil {
			if final != nil {
				return final, nil // it was made and is owed, heard or not
			}
			return r.stopWorker(ctx, a)
		}
		if final != nil {
			return final, nil
		}
	}
}

// ask sends the request to the worker.
func (r *inference) ask(ctx context.Context, a *attempt) error {
	w := a.w
	query := r.query.Query
	if r.sealed != nil && len(r.sealed.message.Setups) > 0 {
		query = r.sealed.sealedFor(a.statement)
	}
	c := r.s.p.cfg.Ledger.Worker(w.owner)
	pay, err := r.s.p.payment(bindings.WorkerPayout, w.contract, c.Committed)
	if err != nil {
		return err
	}
	timeout := 0.95 * time.Until(r.deadline).Seconds()
	if w.version == 0 {
		return w.mux.SendObject(ctx, &schema.ProxyRunQuery{
			Query: query, SignedPayment: pay, Coefficient: int64(a.coefficient), Timeout: timeout, RequestID: a.id,
		})
	}
	m := &schema.ProxyRunQueryEx{
		Query: query, SignedPayment: pay, Coefficient: int64(a.coefficient), Timeout: timeout, RequestID: a.id,
		Flags: 1, EnableDebug: r.query.EnableDebug,
	}
	if w.version >= versionKeys {
		m.Flags |= 2 // the key stays zero: not encrypted
	}
	return w.mux.SendObject(ctx, m)
}

// forward sends a part on to the client; more follows at once, or it leaves now.
func (r *inference) forward(ctx context.Context, part role.Part, more bool) error {
	part.ID = r.id
	for len(part.Body) > mux.MaxPart {
		// A C++ worker makes parts of any length; windows want short ones.
		piece := role.Part{ID: r.id, Body: part.Body[:mux.MaxPart]}
		if err := r.forward(ctx, piece, true); err != nil {
			return err
		}
		part.Body = part.Body[mux.MaxPart:]
	}
	if len(part.Body) > 0 && !r.window.TryAcquire(len(part.Body)) {
		r.s.mux.Flush()
		credit, stop := context.WithTimeout(ctx, creditWait)
		err := r.window.Acquire(credit, len(part.Body))
		stop()
		if err != nil {
			return err
		}
	}
	if part.Final != nil {
		f := *part.Final
		f.ProxyStart, f.ProxyEnd = role.Seconds(r.start), role.Seconds(time.Now())
		if r.query.EnableDebug {
			f.ProxyDebug = r.debug()
			if !json.Valid([]byte(f.WorkerDebug)) {
				f.WorkerDebug = "{}" // clients parse it, and some do not survive their failure
			}
		} else {
			f.WorkerDebug = ""
		}
		part.Final = &f
	}
	send := r.s.mux.SendObject
	if more {
		send = r.s.mux.SendLater
	}
	if err := send(ctx, role.ToClient(r.s.version, &part, r.begun)); err != nil {
		return err
	}
	r.begun = r.begun || part.Head != nil
	return nil
}

// stopWorker ends an attempt whose caller is gone or whose time is over. A
// worker of ours stops and says what it made until then; a C++ worker cannot
// be stopped and is heard to its end, as it is owed for it.
func (r *inference) stopWorker(ctx context.Context, a *attempt) (*role.Final, *tryError) {
	cause := wireCause(ctx)
	if cause == nil {
		cause = errCancelled
	}
	r.gone = true
	wait := time.Until(r.deadline)
	if a.w.mux.Level() >= wire.Level1 {
		a.tellCancel()
		wait = cancelWait
	}
	if (!r.begun || r.sealed != nil && !r.sealed.credit.Given()) && a.w.mux.Level() >= wire.Level1 {
		return nil, &tryError{wire: cause}
	}
	late, stop := context.WithTimeout(context.WithoutCancel(ctx), max(wait, 0))
	defer stop()
	for {
		part, err := a.queue.Pop(late)
		if err != nil {
			return nil, &tryError{wire: cause}
		}
		if part.Err != nil {
			return nil, &tryError{wire: part.Err}
		}
		if part.Final != nil {
			if err := r.chargeFor(late, a, part); err != nil {
				return nil, &tryError{wire: err}
			}
			return part.Final, nil
		}
	}
}

// broken is an attempt whose worker cannot be talked to any more.
func (r *inference) broken(ctx context.Context, a *attempt, err error) *tryError {
	if cause := wireCause(ctx); cause != nil {
		return &tryError{wire: cause}
	}
	if errors.Is(err, mux.ErrOverflow) {
		a.tellCancel()
		return &tryError{wire: wire.Errorf(wire.CodeError, "the client reads too slowly")}
	}
	if errors.Is(err, mux.ErrTooLarge) {
		return &tryError{wire: wire.Errorf(wire.CodeProtocolViolation, "the request is too large to be passed on")}
	}
	if !errors.Is(err, mux.ErrClosed) && !errors.Is(err, errWorkerLost) {
		r.s.p.log.Error("a request could not be passed on", "worker", a.w.conn.Peer.Addr, "err", err)
		return &tryError{wire: wire.Public(err)}
	}
	return &tryError{wire: wire.Errorf(wire.CodeFailure, "the worker's connection ended before its answer was complete"), retry: true, lost: true, sent: true}
}

// chargeFor charges the last part of an answer: of a sealed one only with the
// worker's part of its receipt.
func (r *inference) chargeFor(ctx context.Context, a *attempt, part role.Part) *wire.Error {
	var workerPart []byte
	if r.sealed != nil {
		var err *wire.Error
		workerPart, err = r.checkPart(a, part)
		if r.workerPart = workerPart; err != nil {
			r.s.p.shun(a.w)
			r.s.p.log.Error("a worker's answer ends without a good receipt: nothing is charged, and it gets no requests for a while", "worker", a.w.owner, "err", err)
			return err
		}
	}
	r.charge(ctx, a, part.Final, workerPart)
	return nil
}

// charge caps what a worker claims at the reservation and writes it down.
// Nothing is signed or told before it is durable.
func (r *inference) charge(ctx context.Context, a *attempt, f *role.Final, workerPart []byte) {
	w := a.w
	// At this worker's own coefficient the bound is lower than what was
	// reserved for the dearest one.
	most := min(r.reserved, r.bound(int64(a.coefficient)))
	if f.Tokens.Total > most {
		r.s.p.log.Error("a worker claims more than the request can cost: charging the most it can", "worker", w.owner, "claimed", f.Tokens.Total, "charged", most)
		f.Tokens.Total = most
	}
	if f.Tokens.Total == 0 {
		return
	}
	var id cocoon.RequestID
	if _, err := rand.Read(id[:]); err != nil {
		f.Tokens = pricing.Tokens{}
		return
	}
	note, err := r.note(a, workerPart)
	if err != nil {
		r.s.p.log.Error("cannot write a receipt's note: the request is not charged", "err", err)
		f.Tokens = pricing.Tokens{}
		return
	}
	// The write must not depend on a caller who may be gone.
	if err := r.s.p.cfg.Ledger.Charge(context.WithoutCancel(ctx), r.s.owner, w.owner, id, f.Tokens.Total, note); err != nil {
		r.s.p.log.Error("cannot write the ledger: the request is not charged", "err", err)
		f.Tokens = pricing.Tokens{}
		return
	}
	r.charged = f.Tokens.Total
}

// settle counts a request that has a final word and tells both sides.
func (r *inference) settle(ctx context.Context, w *workerSession, f *role.Final) {
	outcome := role.Complete
	if r.gone {
		outcome = role.Cancelled
	}
	r.s.p.stats.End(f.Tokens, outcome)
	if r.gone {
		// A caller that cancelled on a live connection hears the cost.
		cause := wireCause(ctx)
		if cause == nil {
			cause = errCancelled
		}
		r.sayError(cause, f.Tokens)
	}
	r.notify(w, f.Tokens.Total)
}

// fail ends a request with an error; it costs nothing.
func (r *inference) fail(ctx context.Context, err *wire.Error) {
	outcome := role.Failed
	if err.Code == wire.CodeCancelled {
		outcome = role.Cancelled
	}
	r.s.p.stats.End(pricing.Tokens{}, outcome)
	r.sayError(err, pricing.Tokens{})
}

// sayError tells the client how its request ended and what it cost. It waits
// for room, as the client would wait for the answer for ever, but not for long.
func (r *inference) sayError(err *wire.Error, cost pricing.Tokens) {
	ctx, stop := context.WithTimeout(r.s.ctx, sayWait)
	defer stop()
	f := &role.Final{Tokens: cost, ProxyStart: role.Seconds(r.start), ProxyEnd: role.Seconds(time.Now())}
	_ = r.s.mux.SendObject(ctx, r.s.errorAnswer(r.id, err, r.begun, f))
}

// notify sends the payment messages that follow every request (spec
// network-protocol 7.3). They carry only what is durable.
func (r *inference) notify(w *workerSession, tokens int64) {
	w.notify(r, tokens)
	r.s.notify(r, tokens)
}

func (w *workerSession) notify(r *inference, tokens int64) {
	p := w.p
	w.money.Lock()
	defer w.money.Unlock()
	c := p.cfg.Ledger.Worker(w.owner)
	pay, err := p.payment(bindings.WorkerPayout, w.contract, c.Committed)
	if err != nil {
		p.log.Error("cannot sign a payment", "err", err)
		return
	}
	m := &schema.ProxyWorkerRequestPayment{SignedPayment: pay, DbTokens: c.Durable, MaxTokens: c.Durable, RequestTokens: tokens}
	if w.mux.Level() == wire.Level0 {
		// The reference tells workers who asked; ours are not told.
		m.RequestClientOwner = p.text(r.s.owner)
	}
	_ = w.mux.SendUrgent(schema.Marshal(m))
}

func (s *clientSession) notify(r *inference, tokens int64) {
	p := s.p
	s.money.Lock()
	defer s.money.Unlock()
	c := p.cfg.Ledger.Client(s.owner)
	pay, err := p.payment(bindings.ClientCharge, s.contract, c.Committed)
	if err != nil {
		p.log.Error("cannot sign a payment", "err", err)
		return
	}
	_ = s.mux.SendUrgent(schema.Marshal(&schema.ProxyClientRequestPayment{
		RequestID: r.id, SignedPayment: pay, DbTokens: c.Durable, MaxTokens: c.Durable, RequestTokens: tokens,
	}))
}

// debug is the proxy's debug object (spec network-protocol 5.9).
func (r *inference) debug() string {
	b, _ := json.Marshal(map[string]any{
		"type": "proxy_stats", "start_time": role.Seconds(r.start),
		"answer_receive_start_at": role.Seconds(r.first), "answer_receive_end_at": role.Seconds(time.Now()),
	})
	return string(b)
}

// refuse answers a request that was not admitted; nothing follows it.
func (s *clientSession) refuse(id cocoon.RequestID, err *wire.Error) {
	s.p.stats.Reject()
	now := role.Seconds(time.Now())
	f := &role.Final{ProxyStart: now, ProxyEnd: now, WorkerStart: now, WorkerEnd: now}
	_ = s.mux.SendUrgent(schema.Marshal(s.errorAnswer(id, err, false, f)))
}

// errorAnswer is a failure in the form the client survives: our own clients
// get the error, others a complete HTTP answer.
func (s *clientSession) errorAnswer(id cocoon.RequestID, err *wire.Error, begun bool, f *role.Final) schema.Object {
	p := role.Part{ID: id, Err: err, Final: f}
	if s.mux.Level() == wire.Level0 && s.version > 0 && !begun {
		p = role.Part{ID: id, Head: role.ErrorAnswer(err), Final: f}
	}
	return role.ToClient(s.version, &p, begun)
}

func (a *attempt) tellCancel() {
	if a.w.mux.Level() >= wire.Level1 {
		_ = a.w.mux.SendUrgent(schema.Marshal(&schema.CocoonCancel{RequestID: a.id}))
	}
}

// betterFailure keeps what helps the client most: that a session has to be set
// up again says more than that somebody else was busy.
func betterFailure(was, is *wire.Error) *wire.Error {
	if was != nil && was.Code == wire.CodeUnknownSession {
		return was
	}
	return is
}

// retryable reports whether a worker's refusal says nothing about the request
// itself.
func retryable(err *wire.Error) bool {
	switch err.Code {
	case wire.CodeFailure, wire.CodeNotReady, wire.CodeUnknownSession, wire.CodeSealRefused:
		return true
	case wire.CodeError:
		return err.Text == "too many active queries"
	}
	return false
}

// wireCause is why ctx ended, in words a peer may hear; nil if it did not.
func wireCause(ctx context.Context) *wire.Error {
	cause := context.Cause(ctx)
	if cause == nil {
		return nil
	}
	var werr *wire.Error
	if errors.As(cause, &werr) {
		return werr
	}
	if errors.Is(cause, errClientGone) || errors.Is(cause, context.Canceled) {
		return errCancelled
	}
	if errors.Is(cause, context.DeadlineExceeded) {
		return errTimeout
	}
	return wire.Errorf(wire.CodeFailure, "%v", fmt.Sprint("connection ended"))
}
