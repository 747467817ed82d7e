package proxy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// Receipts makes the proxy's parts of receipts, and logs them and the sets that
// were offered.
type Receipts interface {
	// Note is what the receipt of a charge must say. The ledger keeps it with
	// the charge, durable at the same moment, so that no charge goes without.
	Note(ChargeNote) (string, error)
	// Part waits for the signed part of a charged request, until ctx ends.
	Part(ctx context.Context, id cocoon.RequestID) ([]byte, error)
	// LastSet names the newest set that was logged; zero for none. LogSet logs
	// one before anybody sees it.
	LastSet() (version uint64, hash [32]byte)
	LogSet(ctx context.Context, signed []byte) error
}

// ChargeNote is what a receipt says of a charge.
type ChargeNote struct {
	RequestID cocoon.RequestID
	// WorkerPart is the worker's signed part, nil where it gave none.
	WorkerPart []byte
	// Client and Worker are their contracts at this proxy.
	Client, Worker cocoon.Address
	Price          receipt.Price
	SetVersion     uint64
}

// sealedRequest is what a proxy knows of a request that it cannot read.
type sealedRequest struct {
	message  *envelope.Message
	envelope *envelope.Envelope
	credit   envelope.Credit
	consent  *time.Timer
	version  uint64 // of the set in force

	// Of the worker whose acceptance went on.
	attempt    *attempt
	acceptance *envelope.Acceptance
}

var errNoConsent = &wire.Error{Code: wire.CodeNoConsent, Text: "accepted, and no credit came in time: nothing is charged"}

// parseSealed reads a sealed request and takes what it says in clear over
// whatever stands beside it.
func (r *inference) parseSealed() *wire.Error {
	if r.s.mux.Level() < wire.Level1 {
		return wire.Errorf(wire.CodeProtocolViolation, "sealed requests are level 1's")
	}
	if r.s.refusedTooOften(time.Now(), false) {
		return wire.Errorf(wire.CodeNotReady, "too many sealed requests of this client were refused: wait a minute")
	}
	m, err := envelope.ParseMessage(r.query.Query)
	if err != nil {
		return wire.Errorf(wire.CodeSealRefused, "%v", err)
	}
	e, err := envelope.ParseEnvelope(m.Envelope)
	if err != nil {
		return wire.Errorf(wire.CodeSealRefused, "%v", err)
	}
	h := &e.Header
	r.query.ModelName, r.query.MaxCoefficient, r.query.MaxTokens = h.Model, h.MaxCoefficient, h.OutputTokens
	r.query.Timeout = min(r.query.Timeout, h.Timeout.Seconds())
	r.sealed = &sealedRequest{message: m, envelope: e, version: r.s.p.offers.version()}
	return nil
}

// refusals counts envelopes of one connection that workers refused for good:
// each takes some of a worker's memory, which it never gives up early.
type refusals struct {
	since time.Time
	n     int
}

// maxRefusals is how many a connection may cause in a minute.
const maxRefusals = 256

// refusedTooOften reports whether a client has caused too many refusals, and
// counts one more.
func (s *clientSession) refusedTooOften(now time.Time, another bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := &s.refused
	if now.Sub(x.since) > time.Minute {
		*x = refusals{since: now}
	}
	if another {
		x.n++
	}
	return x.n > maxRefusals
}

// bound is the most a request can cost at a coefficient, in adjusted tokens.
func (r *inference) bound(coefficient int64) int64 {
	prompt := len(r.query.Query)
	if r.sealed != nil {
		prompt = int(r.sealed.envelope.Header.PromptTokens)
	}
	return pricing.Reserve(prompt, int64(r.query.MaxTokens), coefficient, r.s.inst.snap.Params.Multipliers)
}

// receiptID names the request in its receipt: the id the client chose.
func (r *inference) receiptID() cocoon.RequestID {
	if r.sealed != nil {
		return r.sealed.envelope.Header.RequestID
	}
	return r.id
}

// candidates are the statements a sealed request is for; nil = any worker.
func (r *inference) candidates() [][32]byte {
	if r.sealed == nil {
		return nil
	}
	out := make([][32]byte, 0, len(r.sealed.envelope.Wraps))
	for _, w := range r.sealed.envelope.Wraps {
		out = append(out, w.Statement)
	}
	return out
}

// sealedFor is the query as a worker with one of these statements needs it.
func (x *sealedRequest) sealedFor(statement [32]byte) []byte {
	for _, w := range x.envelope.Wraps {
		if w.Statement == statement {
			return x.message.For(w.Session).Encode()
		}
	}
	return nil
}

// accept lets an acceptance through: the first one of the request. From here on
// no other worker is tried, and the client has to consent.
func (r *inference) accept(a *attempt, head []byte) *wire.Error {
	x := r.sealed
	acc, err := envelope.ParseAcceptance(head)
	if err != nil || acc.Statement != a.statement {
		return wire.Errorf(wire.CodeProtocolViolation, "the worker's acceptance is of something else")
	}
	r.s.mu.Lock()
	x.attempt, x.acceptance = a, acc
	r.s.mu.Unlock()
	x.credit.Accepted()
	x.consent = time.AfterFunc(r.s.p.cfg.ConsentWithin, func() {
		if !x.credit.Given() {
			r.cancel(errNoConsent)
		}
	})
	return nil
}

// granted takes credit of the client. The first is its consent, which goes on
// to the worker; on the reader goroutine.
func (r *inference) granted() {
	x := r.sealed
	if x == nil || !x.credit.Give() {
		return
	}
	r.s.mu.Lock()
	a := x.attempt
	r.s.mu.Unlock()
	_ = a.w.mux.SendUrgent(schema.Marshal(&schema.CocoonWindow{RequestID: a.id, Bytes: mux.Window}))
}

// checkPart holds the last part of a sealed answer against what was asked:
// without a good worker's part, and without consent, nothing is charged.
func (r *inference) checkPart(a *attempt, part role.Part) (signed []byte, werr *wire.Error) {
	x := r.sealed
	bad := func(format string, args ...any) ([]byte, *wire.Error) {
		return nil, wire.Errorf(wire.CodeProtocolViolation, "bad receipt of the worker: %s", fmt.Sprintf(format, args...))
	}
	if !x.credit.Given() || x.acceptance == nil {
		return bad("an end without consent")
	}
	f, err := envelope.ParseFrame(part.Body)
	if err != nil || !f.Final {
		return bad("no last frame")
	}
	s, err := receipt.ParseSigned(f.Receipt)
	if err != nil {
		return bad("%v", err)
	}
	if err := s.Verify(a.w.conn.Peer.Node.Key); err != nil {
		return bad("%v", err)
	}
	w, err := receipt.ParseWorker(s.Part)
	if err != nil {
		return bad("%v", err)
	}
	e := x.envelope
	switch {
	case w.RequestID != e.Header.RequestID, w.Envelope != e.Hash, w.Session != x.acceptance.Session,
		w.Nonce != x.acceptance.Nonce, w.Statement != x.acceptance.Statement:
		return bad("it is about another request")
	case w.Model != a.w.model:
		return bad("it names another model")
	case w.Tokens != part.Final.Tokens.Total:
		return bad("it asks for %d tokens, the answer's end for %d", w.Tokens, part.Final.Tokens.Total)
	case w.Tokens != r.price(a).Tokens(w.Usage):
		return bad("its counts do not give its tokens at the price agreed")
	}
	return f.Receipt, nil
}

// price is what a charge at the attempt's worker is computed with.
func (r *inference) price(a *attempt) receipt.Price {
	p := &r.s.inst.snap.Params
	return receipt.Price{
		PerToken: uint64(p.PricePerToken), Coefficient: uint32(a.coefficient),
		Prompt: p.Multipliers.Prompt, Cached: p.Multipliers.Cached, Completion: p.Multipliers.Completion, Reasoning: p.Multipliers.Reasoning,
	}
}

// note is what the ledger keeps with the charge.
func (r *inference) note(a *attempt, workerPart []byte) (string, error) {
	if r.s.p.cfg.Receipts == nil {
		return "", nil
	}
	n := ChargeNote{RequestID: r.receiptID(), WorkerPart: workerPart, Client: r.s.contract, Worker: a.w.contract, Price: r.price(a)}
	if r.sealed != nil {
		n.SetVersion = r.sealed.version
	}
	return r.s.p.cfg.Receipts.Note(n)
}

// partWait is how long the proxy's part may follow the answer.
const partWait = 5 * time.Second

// sendPart sends the proxy's part of the receipt behind the answer, once it is
// logged. A client that misses it asks for it.
func (r *inference) sendPart() {
	p := r.s.p
	if p.cfg.Receipts == nil || r.charged == 0 || r.s.mux.Level() < wire.Level1 {
		return
	}
	ctx, stop := context.WithTimeout(r.s.ctx, partWait)
	defer stop()
	b, err := p.cfg.Receipts.Part(ctx, r.receiptID())
	if err != nil {
		if r.s.ctx.Err() == nil {
			p.log.Warn("a receipt is late", "err", err)
		}
		return
	}
	m := &schema.CocoonReceipt{RequestID: r.id, Part: b}
	if r.gone {
		m.Worker = r.workerPart
	}
	_ = r.s.mux.SendUrgent(schema.Marshal(m))
}

// answerReceipt answers a client that asks for the proxy's part again.
func (s *clientSession) answerReceipt(ctx context.Context, id cocoon.RequestID) ([]byte, error) {
	if s.p.cfg.Receipts == nil {
		return nil, wire.Errorf(wire.CodeError, "this proxy keeps no receipts")
	}
	ctx, stop := context.WithTimeout(ctx, partWait)
	defer stop()
	b, err := s.p.cfg.Receipts.Part(ctx, id)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return nil, wire.Errorf(wire.CodeTimeout, "no receipt of this request within %v", partWait)
		}
		return nil, wire.Errorf(wire.CodeError, "no receipt of this request")
	}
	part, err := receipt.ParseSigned(b)
	if err != nil {
		return nil, err
	}
	// It is the client's own, or nobody's.
	if w, err := receipt.ParseProxy(part.Part); err != nil || w.Client != s.contract {
		return nil, wire.Errorf(wire.CodeError, "no receipt of this request")
	}
	return schema.Marshal(&schema.CocoonReceipts{Part: b}), nil
}

// Log shows what the proxy's audit log holds.
type Log interface {
	// Page answers a page with JSON. party is the contract of who asks: the only
	// one whose balance it may see.
	Page(party cocoon.Address, page string) ([]byte, error)
	// Statement returns a statement of this proxy's own that its parts of
	// receipts name, as a bundle; nil if it is unknown.
	Statement(digest [32]byte) []byte
}

// maxLogPage bounds the name of a page.
const maxLogPage = 256

func (p *Proxy) answerLog(party cocoon.Address, page string) ([]byte, error) {
	if p.cfg.Log == nil || len(page) > maxLogPage {
		return nil, wire.Errorf(wire.CodeError, "no such page of a log")
	}
	b, err := p.cfg.Log.Page(party, page)
	if err != nil {
		return nil, wire.Errorf(wire.CodeError, "no such page of the log")
	}
	return schema.Marshal(&schema.CocoonLogPage{Json: b}), nil
}
