package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// Receipt is what a client keeps of one request: all that proves what was
// served and charged, and neither request nor answer.
type Receipt struct {
	RequestID cocoon.RequestID
	// Worker and Proxy are the signed parts. Worker is nil where the worker gave
	// none.
	Worker, Proxy []byte
	// Salts open the commitments in the worker's part.
	Salts receipt.Salts
	// WorkerBundle and ProxyBundle are the statements whose node keys signed.
	WorkerBundle, ProxyBundle []byte
	Sealed                    bool
}

// ReceiptStore keeps receipts.
type ReceiptStore interface {
	// Keep returns once r is durable.
	Keep(ctx context.Context, r Receipt) error
	// Last returns the newest proxy's part, signed, of a client contract's chain
	// that was kept; nil if there is none.
	Last(client cocoon.Address) []byte
}

// Why a proxy's part is refused.
var (
	ErrProxyPart   = errors.New("the proxy's part of a receipt is refused")
	ErrUnexplained = errors.New("the proxy counts charges that no receipt explains")
)

// explainWithin is how long a counter may be ahead of the receipts.
const explainWithin = 10 * time.Second

// askAfter is how long after a connection began, and after the end of a
// request, its receipt is missed.
const askAfter = time.Second

// forgetAfter is how long after its end a request's receipt is asked for, and
// maxAsked how many at a time.
const (
	forgetAfter = 2 * time.Minute
	maxAsked    = 32
)

// settling is how long after its start a client takes charges of its earlier run
// for granted, as far as its count of requests explains them.
const settling = 2 * time.Minute

// maxExpected bounds the requests whose receipts are waited for.
const maxExpected = 8192

// expected is a request whose receipt is to come.
type expected struct {
	id      cocoon.RequestID // the receipt's
	sealing *sealing         // nil for an unsealed request
	worker  []byte           // signed part, once it is here
	part    *receipt.WorkerPart
	most    int64 // tokens that may be charged
	charged int64
	over    time.Time // when its answer ended; zero: not yet
	early   []byte    // the proxy's part, which came before the answer was read
}

// books are the receipts of one client contract: the chain of charges.
type books struct {
	mu       sync.Mutex
	nodes    []*tee.Node        // that sessions proved, newest last
	begun    bool               // after is known
	after    int64              // the counter as far as it is explained
	last     *receipt.ProxyPart // newest step; nil before the first
	digest   [32]byte
	expected map[cocoon.RequestID]*expected // by the hop's id
	waiting  map[int64]*step                // steps that came before their turn, by counter before
	since    time.Time                      // when this process first heard of the counter
	ahead    time.Time                      // since when the counter is ahead of the receipts
}

type step struct {
	part   *receipt.ProxyPart
	digest [32]byte
}

// booksOf returns the books of a client contract, which outlive connections.
func (c *Client) booksOf(contract cocoon.Address) *books {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.books[contract]
	if b == nil {
		b = &books{expected: map[cocoon.RequestID]*expected{}, waiting: map[int64]*step{}}
		if c.cfg.Receipts != nil {
			if signed, err := receipt.ParseSigned(c.cfg.Receipts.Last(contract)); err == nil {
				if p, err := receipt.ParseProxy(signed.Part); err == nil {
					b.last, b.digest, b.after = p, signed.Digest(), p.After
				}
			}
		}
		c.books[contract] = b
	}
	return b
}

// expect notes a request that may be charged.
func (s *session) expect(hop, id cocoon.RequestID, most int64) {
	if s.books == nil {
		return
	}
	b := s.books
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, e := range b.expected { // the oldest that ended make room
		if len(b.expected) < maxExpected {
			break
		}
		if !e.over.IsZero() {
			delete(b.expected, k)
		}
	}
	b.expected[hop] = &expected{id: id, most: most}
}

// consented notes the worker that a sealed request was accepted by.
func (s *session) consented(hop cocoon.RequestID, x *sealing) {
	if s.books == nil {
		return
	}
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	if e := s.books.expected[hop]; e != nil {
		e.sealing = x
	}
}

// served notes the worker's part and what was charged.
func (s *session) served(hop cocoon.RequestID, signed []byte, w *receipt.WorkerPart, charged int64) {
	if s.books == nil {
		return
	}
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	e := s.books.expected[hop]
	if e == nil {
		return
	}
	e.worker, e.part, e.charged = signed, w, charged
	s.catchUp(hop, e)
}

// catchUp takes a proxy's part that came early; the lock is held.
func (s *session) catchUp(hop cocoon.RequestID, e *expected) {
	if b := e.early; b != nil {
		e.early = nil
		go s.receipt(s.ctx, hop, b, nil)
	}
}

// over notes the end of a request. One that cannot have been charged is not
// waited for.
func (s *session) over(hop cocoon.RequestID, chargeable bool) {
	if s.books == nil {
		return
	}
	s.books.mu.Lock()
	defer s.books.mu.Unlock()
	e := s.books.expected[hop]
	if e == nil {
		return
	}
	e.over = time.Now()
	s.catchUp(hop, e)
	if !chargeable || e.part != nil && e.charged == 0 {
		delete(s.books.expected, hop)
	}
}

// receipt takes the proxy's part of a request.
func (s *session) receipt(ctx context.Context, hop cocoon.RequestID, part, worker []byte) {
	if s.books == nil {
		return
	}
	if err := s.takeReceipt(ctx, hop, part, worker); err != nil {
		s.c.log.Error("a receipt is refused", "proxy", s.peer.Addr, "err", err)
	}
}

func (s *session) takeReceipt(ctx context.Context, hop cocoon.RequestID, b, worker []byte) error {
	signed, err := receipt.ParseSigned(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProxyPart, err)
	}
	p, err := receipt.ParseProxy(signed.Part)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProxyPart, err)
	}
	node, err := s.signer(signed, p.Statement)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProxyPart, err)
	}
	if p.Client != s.contract || p.Contract != s.proxyContract {
		return fmt.Errorf("%w: it is another contract's", ErrProxyPart)
	}
	books := s.books
	books.mu.Lock()
	defer books.mu.Unlock()
	e := books.expected[hop]
	if e == nil {
		return nil // known already, or of an earlier life of ours
	}
	if p.RequestID != e.id {
		return fmt.Errorf("%w: it names another request", ErrProxyPart)
	}
	if e.sealing != nil && e.part == nil && len(worker) == 0 && e.over.IsZero() {
		// Whoever reads the answer has not come to its end, where the worker's
		// part stands.
		e.early = b
		return nil
	}
	if err := s.c.promised(p, node); err != nil {
		return fmt.Errorf("%w: %w", ErrProxyPart, err)
	}
	if err := e.check(p, worker, &s.snap.Params); err != nil {
		return fmt.Errorf("%w: %w", ErrProxyPart, err)
	}
	books.waiting[p.Before] = &step{p, signed.Digest()}
	if err := books.advance(); err != nil {
		return err
	}
	delete(books.expected, hop)
	if s.c.cfg.Receipts == nil {
		return nil
	}
	r := Receipt{RequestID: e.id, Proxy: b, Worker: e.worker, Sealed: e.sealing != nil}
	if x := e.sealing; x != nil {
		r.Salts, r.WorkerBundle = x.salts, x.worker.node.Bundle
	}
	// Its own time: whoever closes the connection must not lose it.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), explainWithin)
	go func() {
		defer stop()
		r.ProxyBundle = s.named(ctx, p.Statement, node)
		if err := s.c.cfg.Receipts.Keep(ctx, r); err != nil {
			s.c.log.Error("a receipt could not be kept", "err", err)
		}
	}()
	return nil
}

// signer returns the node whose key signed a proxy's part: the proxy as it is
// now, or as a session proved it before it was started anew. Of several
// statements of that key it is the one that the part names, else the newest.
func (s *session) signer(signed receipt.Signed, statement [32]byte) (*tee.Node, error) {
	b := s.books
	b.mu.Lock()
	if s.nc.Session != nil {
		b.seen(s.nc.Session.Node())
	}
	nodes := slices.Clone(b.nodes)
	b.mu.Unlock()
	// Most statements are of one key, so each key is tried once.
	tried := map[[32]byte]bool{}
	signs := func(n *tee.Node) bool {
		if tried[n.Key] {
			return false
		}
		tried[n.Key] = true
		return signed.Verify(n.Key) == nil
	}
	if i := slices.IndexFunc(nodes, func(n *tee.Node) bool { return n.Digest == statement }); i >= 0 && signs(nodes[i]) {
		return nodes[i], nil
	}
	for _, n := range slices.Backward(nodes) {
		if signs(n) {
			return n, nil
		}
	}
	return nil, receipt.ErrSignature
}

// named returns the statement that a part names, as a bundle: the one its
// signer showed, or, where that is another of the same node, what the proxy
// hands out. It is held against the digest alone; whoever verifies the receipt
// appraises it.
func (s *session) named(ctx context.Context, digest [32]byte, by *tee.Node) []byte {
	if by.Digest == digest {
		return by.Bundle
	}
	answer, err := role.Ask[*schema.CocoonBundled](ctx, s.conn, fetchLimit, &schema.CocoonGetBundle{Statement: digest})
	if err != nil {
		return by.Bundle
	}
	b, err := schema.DecodeAs[*schema.CocoonBundle](answer.Bundle)
	if err != nil || sha256.Sum256(b.Statement) != digest {
		return by.Bundle
	}
	return answer.Bundle
}

// seen remembers a proven node of the proxy; the lock is held.
func (b *books) seen(n *tee.Node) {
	if k := len(b.nodes); k > 0 && b.nodes[k-1] == n {
		return
	}
	b.nodes = slices.DeleteFunc(b.nodes, func(o *tee.Node) bool { return o.Digest == n.Digest })
	b.nodes = append(b.nodes, n)
	b.nodes = b.nodes[max(0, len(b.nodes)-maxNodes):]
}

// maxNodes is how many statements of a proxy are remembered: each of its lives
// has a node key of its own, and makes a new one every few minutes.
const maxNodes = 24

// check holds a proxy's part against what the worker signed, or where it signed
// nothing, against what the request could cost.
func (e *expected) check(p *receipt.ProxyPart, worker []byte, terms *registry.Params) error {
	if p.Price.PerToken != uint64(terms.PricePerToken) {
		return fmt.Errorf("%w: %d nano a token, the root contract says %d", receipt.ErrPrice, p.Price.PerToken, terms.PricePerToken)
	}
	if m := (pricing.Multipliers{Prompt: p.Price.Prompt, Cached: p.Price.Cached, Completion: p.Price.Completion, Reasoning: p.Price.Reasoning}); m != terms.Multipliers {
		return fmt.Errorf("%w: multipliers %+v, the root contract says %+v", receipt.ErrPrice, m, terms.Multipliers)
	}
	if e.part == nil && e.sealing != nil && len(worker) > 0 {
		// The answer was given up; the worker's part comes beside the proxy's.
		w, err := e.sealing.checkWorkerPart(worker, nil)
		if err != nil {
			return err
		}
		e.part, e.worker = w, worker
	}
	switch {
	case e.part != nil:
		return receipt.CheckPair(e.part, receipt.Digest(mustSigned(e.worker)), p)
	case e.sealing != nil && p.Marked():
		return fmt.Errorf("%w: a sealed request is charged without the worker's part", receipt.ErrParts)
	case p.Tokens() > e.most:
		// Of a sealed answer that was given up, or lost with its connection, the
		// proxy names the worker's part, which nobody shows any more: what we
		// consented to bounds it.
		return fmt.Errorf("%w: %d tokens charged, the request could cost %d", receipt.ErrPrice, p.Tokens(), e.most)
	}
	return nil
}

// maxAhead is how far a proxy's newest block may be ahead of ours, as in its
// statement.
const maxAhead = 10 * time.Minute

// promised refuses a part that promises nothing on a network with a chain, or
// whose promise ends later than one of now can: it could never be broken.
func (c *Client) promised(p *receipt.ProxyPart, by *tee.Node) error {
	switch {
	case by.NetworkID == [32]byte{}:
		return nil // no chain stands behind the network
	case p.Block.IsZero():
		return fmt.Errorf("%w: it names no block of the chain", receipt.ErrPromise)
	case p.Block.Time.Sub(c.cfg.Now()) > maxAhead:
		return fmt.Errorf("%w: it counts from a block of %s, which is far ahead of ours", receipt.ErrPromise, p.Block.Time.UTC().Format(time.DateTime))
	}
	return nil
}

func mustSigned(b []byte) []byte {
	s, err := receipt.ParseSigned(b)
	if err != nil {
		return nil // its digest is that of nothing, and matches nothing
	}
	return s.Part
}

// advance takes the steps whose turn it is; the lock is held.
func (b *books) advance() error {
	for {
		x := b.waiting[b.after]
		if x == nil {
			for before, y := range b.waiting {
				if before < b.after {
					delete(b.waiting, before)
					return fmt.Errorf("%w: %w: from %d to %d, the receipts are at %d", ErrProxyPart, receipt.ErrJump, before, y.part.After, b.after)
				}
			}
			return nil
		}
		delete(b.waiting, b.after)
		if b.last != nil {
			if err := receipt.CheckStep(b.last, b.digest, x.part); err != nil {
				return fmt.Errorf("%w: %w", ErrProxyPart, err)
			}
		}
		b.last, b.digest, b.after = x.part, x.digest, x.part.After
	}
}

// begin says where the counter is when this process first hears of it: what was
// charged before is an earlier one's.
func (b *books) begin(used int64) (gap bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.begun {
		return false
	}
	b.begun, b.since = true, time.Now()
	if used > b.after {
		gap = b.last != nil
		b.after, b.last = used, nil
	}
	return gap
}

// explain asks for the receipts that are missing, and reports a counter that
// none explains.
func (s *session) explain(ctx context.Context) error {
	b := s.books
	if b == nil {
		return nil
	}
	s.mu.Lock()
	used := s.view.Heard().Used
	s.mu.Unlock()
	b.mu.Lock()
	if used <= b.after {
		b.ahead = time.Time{}
		b.mu.Unlock()
		return nil
	}
	if b.ahead.IsZero() {
		b.ahead = time.Now()
	}
	late := time.Since(b.ahead) >= explainWithin
	type ask struct{ hop, id cocoon.RequestID }
	var missing []ask
	running := false
	for hop, e := range b.expected {
		switch ended := time.Since(e.over); {
		case e.over.IsZero():
		case ended > forgetAfter:
			delete(b.expected, hop)
		case ended > askAfter/2 && len(missing) < maxAsked:
			missing = append(missing, ask{hop, e.id})
		}
		running = running || e.over.IsZero()
	}
	b.mu.Unlock()
	for _, m := range missing {
		answer, err := role.Ask[*schema.CocoonReceipts](ctx, s.conn, paymentTimeout, &schema.CocoonGetReceipt{RequestID: m.id})
		if err != nil {
			var werr *wire.Error
			if errors.As(err, &werr) {
				continue // it was not charged, or the proxy keeps none
			}
			return err
		}
		s.receipt(ctx, m.hop, answer.Part, nil)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if used <= b.after || running || !late {
		return nil
	}
	if time.Since(b.since) < settling && len(b.expected) == 0 {
		// What an earlier run of ours asked for may be charged after its end, and
		// nobody knows those requests' ids any more. Reckoning bounds it.
		s.c.log.Warn("charges of an earlier run have no receipt here", "proxy", s.peer.Addr, "tokens", used-b.after)
		b.after, b.last, b.ahead = used, nil, time.Time{}
		return nil
	}
	return fmt.Errorf("%w: its counter is %d, the receipts end at %d", ErrUnexplained, used, b.after)
}
