package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/role"
)

// Suspension is a proxy that named a counter our requests do not explain: it
// gets no more of them.
type Suspension struct {
	ContractKey string         `json:"contract_key"` // hex; names the proxy whatever its contract
	Owner       cocoon.Address `json:"owner"`
	Proxy       cocoon.Address `json:"proxy_contract"`
	Contract    cocoon.Address `json:"client_contract"`
	Endpoint    string         `json:"endpoint"`
	Since       time.Time      `json:"since"`
	Named       int64          `json:"named_tokens"`       // the proxy's counter
	Explained   int64          `json:"explained_tokens"`   // the most our requests can have cost
	Unexplained int64          `json:"unexplained_tokens"` // the difference,
	Nano        uint64         `json:"unexplained_nano"`   // and its price
	// Fault is what the proxy's log was convicted of, where that is the reason.
	Fault string `json:"fault,omitempty"`
	// Remedy says how to lift it; filled in where it is shown.
	Remedy string `json:"remedy,omitempty"`
}

// Suspensions remembers suspended proxies over restarts.
type Suspensions interface {
	// Check says why a proxy is not to be used; nil if it may be.
	Check(contractKey [32]byte) error
	// Suspend returns once it is remembered.
	Suspend(contractKey [32]byte, s Suspension) error
	List() []Suspension
}

// errSuspended ends the sessions with a proxy that was suspended.
var errSuspended = errors.New("the proxy is suspended: it named a counter that our requests do not explain")

// growBy is for how many requests like the present one a limit is written
// ahead, so that most requests wait for no disk.
const growBy = 16

// reckoning holds what one client contract's proxy names against what our own
// requests can have cost, over all sessions and over restarts.
type reckoning struct {
	book     Book
	contract cocoon.Address
	patience time.Duration

	grow sync.Mutex // held while disk is raised

	mu        sync.Mutex
	tally     channel.Tally
	disk      int64 // tally.Limit() never exceeds it while a request is out
	waiting   bool  // until patience is over
	suspected bool
	suspect   func(*reckoning, channel.Tally) // called when a counter stayed unexplained; once
}

// reckoning returns the one of a client contract. used is what its proxy says
// now: where nothing was ever counted, it is taken as it is.
func (c *Client) reckoning(ctx context.Context, s *session, used int64) (*reckoning, error) {
	c.mu.Lock()
	r := c.reckonings[s.contract]
	c.mu.Unlock()
	if r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.suspect = s.suspend // the newest connection says where
		return r, nil
	}
	r = &reckoning{book: c.cfg.Book, contract: s.contract, patience: c.cfg.Patience, suspect: s.suspend}
	limit, err := c.cfg.Book.Limit(s.contract)
	if err != nil {
		// The book knows nothing of this contract: it is new, or used by a program
		// that did not count, or the book was lost.
		if used > 0 {
			c.log.Warn("nothing was counted here yet: taking the proxy's count as it is", "proxy", s.peer.Addr, "contract", s.contract, "tokens", used,
				"nano", uint64(pricing.Amount(used, s.snap.Params.PricePerToken)))
		}
		limit = max(used, 0)
		if err := c.cfg.Book.PutLimit(ctx, s.contract, limit); err != nil {
			return nil, fmt.Errorf("cannot store the count of requests: %w", err)
		}
	}
	r.tally, r.disk = channel.NewTally(limit), limit
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.reckonings[s.contract]; other != nil {
		return other, nil
	}
	c.reckonings[s.contract] = r
	return r, nil
}

// begin counts a request before it is sent: what it can cost is on disk then,
// so that a client that is killed does not take what it forgot for theft.
func (r *reckoning) begin(ctx context.Context, bound int64) error {
	r.mu.Lock()
	r.tally = r.tally.Begin(bound)
	enough := r.tally.Limit() <= r.disk
	r.mu.Unlock()
	if enough {
		return nil
	}
	r.grow.Lock()
	defer r.grow.Unlock()
	r.mu.Lock()
	limit, disk := r.tally.Limit(), r.disk
	r.mu.Unlock()
	if limit <= disk {
		return nil
	}
	limit = channel.NewTally(limit).Begin(growBy * bound).Limit()
	if err := r.book.PutLimit(ctx, r.contract, limit); err != nil {
		r.end(bound, 0)
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.disk = max(r.disk, limit)
	return nil
}

// end closes a request that cost told.
func (r *reckoning) end(bound, told int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally = r.tally.End(bound, told)
	r.judgeLocked()
}

// hear takes in a counter that the proxy names.
func (r *reckoning) hear(used int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tally = r.tally.Hear(used)
	r.judgeLocked()
}

func (r *reckoning) judgeLocked() {
	if r.waiting || r.suspected || r.tally.Unexplained() == 0 {
		return
	}
	r.waiting = true
	time.AfterFunc(r.patience, func() {
		r.mu.Lock()
		t, suspect := r.tally, r.suspect
		r.waiting, r.suspected = false, t.Unexplained() > 0
		suspected := r.suspected
		r.mu.Unlock()
		if suspected {
			suspect(r, t)
		}
	})
}

// limit is the most that our requests can have cost.
func (r *reckoning) limit() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tally.Limit()
}

// accept takes the proxy's counter as it is, once its suspension is remembered:
// whoever lifts that has said that this step is settled.
func (r *reckoning) accept(ctx context.Context) error {
	r.mu.Lock()
	r.tally = r.tally.Accept()
	r.disk = max(r.disk, r.tally.Limit())
	limit := r.disk
	r.mu.Unlock()
	return r.book.PutLimit(ctx, r.contract, limit)
}

// close writes the exact count at an orderly end, when nothing is open.
func (r *reckoning) close(ctx context.Context) error {
	r.mu.Lock()
	limit := r.tally.Limit()
	r.mu.Unlock()
	return r.book.PutLimit(ctx, r.contract, limit)
}

// suspend ends the use of a proxy, now and after restarts.
func (s *session) suspend(r *reckoning, t channel.Tally) {
	c := s.c
	nano := uint64(pricing.Amount(t.Unexplained(), s.snap.Params.PricePerToken))
	err := c.cfg.Suspensions.Suspend(s.proxyKey, Suspension{
		Owner: s.proxyOwner, Proxy: s.proxyContract, Contract: s.contract, Endpoint: s.peer.Addr, Since: time.Now().UTC(),
		Named: t.Named(), Explained: t.Limit(), Unexplained: t.Unexplained(), Nano: nano,
	})
	if err == nil {
		err = r.accept(context.WithoutCancel(s.ctx))
	}
	if err != nil {
		c.log.Error("a suspension could not be stored: it ends with this process", "proxy", s.peer.Addr, "err", err)
	}
	c.log.Error("proxy suspended: it counts tokens that no request of ours explains. No more requests go there; what it charged stays charged. `cocoon status` says how to lift this",
		"proxy", s.peer.Addr, "contract", s.contract, "named", t.Named(), "explained", t.Limit(), "unexplained", t.Unexplained(), "unexplained_nano", nano)
	c.leave(s.proxyKey)
}

// suspendFor suspends a proxy for a counter step that no receipt explains,
// though it is below what our requests can have cost.
func (s *session) suspendFor(ctx context.Context, reason error) {
	c := s.c
	b := s.books
	s.mu.Lock()
	named := s.view.Heard().Used
	s.mu.Unlock()
	b.mu.Lock()
	explained := b.after
	b.after, b.last = max(named, b.after), nil // whoever lifts it says that this step is settled
	b.mu.Unlock()
	err := c.cfg.Suspensions.Suspend(s.proxyKey, Suspension{
		Owner: s.proxyOwner, Proxy: s.proxyContract, Contract: s.contract, Endpoint: s.peer.Addr, Since: time.Now().UTC(),
		Named: named, Explained: explained, Unexplained: named - explained, Nano: uint64(pricing.Amount(named-explained, s.snap.Params.PricePerToken)),
	})
	if err != nil {
		c.log.Error("a suspension could not be stored: it ends with this process", "proxy", s.peer.Addr, "err", err)
	}
	c.log.Error("proxy suspended: its receipts do not explain its counter. No more requests go there; what it charged stays charged", "proxy", s.peer.Addr, "err", reason)
	c.leave(s.proxyKey)
}

// Suspend ends the use of a proxy whose audit log was convicted of a fault.
func (c *Client) Suspend(contractKey [32]byte, fault error) {
	c.mu.Lock()
	e := Suspension{Since: time.Now().UTC(), Fault: fault.Error()}
	done := c.suspended[contractKey]
	for s := range c.sessions {
		if s.proxyKey == contractKey {
			e.Owner, e.Proxy, e.Contract, e.Endpoint = s.proxyOwner, s.proxyContract, s.contract, s.peer.Addr
		}
	}
	c.mu.Unlock()
	if done {
		return
	}
	if err := c.cfg.Suspensions.Suspend(contractKey, e); err != nil {
		c.log.Error("a suspension could not be stored: it ends with this process", "proxy", e.Endpoint, "err", err)
	}
	c.log.Error("proxy suspended: its audit log is not honest. No more requests go there; what it charged stays charged. `cocoon status` says how to lift this", "proxy", e.Endpoint, "err", fault)
	c.leave(contractKey)
}

// leave ends the use of a suspended proxy's sessions.
func (c *Client) leave(key [32]byte) {
	c.mu.Lock()
	c.suspended[key] = true
	for other := range c.sessions {
		if other.proxyKey == key {
			delete(c.sessions, other)
			close(other.retired)
		}
	}
	c.mu.Unlock()
}

// mayUse refuses a suspended proxy.
func (c *Client) mayUse(key [32]byte) error {
	c.mu.Lock()
	suspended := c.suspended[key]
	c.mu.Unlock()
	if suspended {
		return errSuspended
	}
	return c.cfg.Suspensions.Check(key)
}

// retire waits until the calls that still run at a suspended proxy are over.
func (s *session) retire(ctx context.Context) error {
	for s.running() > 0 && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errSuspended
}

// owing is a request whose cost is not known: the most it can be, in tokens,
// and who is told of the cost; nil = nobody.
type owing struct {
	bound  int64
	settle func(api.Final)
}

// owe counts a request that is about to be sent, here and with the caller.
func (s *session) owe(ctx context.Context, call *api.Call, id cocoon.RequestID, bound int64) error {
	o := owing{bound: bound}
	if call.Hold != nil {
		var err error
		if o.settle, err = call.Hold(ctx, pricing.Amount(bound, s.snap.Params.PricePerToken)); err != nil {
			return err
		}
	}
	if err := s.reckoning.begin(ctx, bound); err != nil {
		s.settle(o, pricing.Tokens{})
		return err
	}
	s.mu.Lock()
	ended := s.ended
	if !ended {
		s.owed[id] = o
	}
	s.mu.Unlock()
	if ended {
		s.reckoning.end(bound, 0) // it is not sent any more
		s.settle(o, pricing.Tokens{})
	}
	return nil
}

// settle tells the caller's side what a request cost.
func (s *session) settle(o owing, t pricing.Tokens) {
	if o.settle != nil {
		o.settle(s.final(t))
	}
}

// final is the accounting of an answer, at the session's price.
func (s *session) final(t pricing.Tokens) api.Final {
	return api.Final{
		PromptTokens: t.Prompt, CachedTokens: t.Cached, CompletionTokens: t.Completion, ReasoningTokens: t.Reasoning, TotalTokens: t.Total,
		CostNano: pricing.Amount(t.Total, s.snap.Params.PricePerToken),
	}
}

// told closes a request whose cost the proxy names; a second word on it
// changes nothing.
func (s *session) told(id cocoon.RequestID, tokens pricing.Tokens) {
	s.mu.Lock()
	o, ok := s.owed[id]
	delete(s.owed, id)
	s.mu.Unlock()
	if ok {
		s.reckoning.end(o.bound, tokens.Total)
		s.settle(o, tokens)
	}
}

// toldBy takes the cost from the last part of an answer. What a request that
// failed at level 0 cost is left to the payment that follows it: errors there
// name no cost.
func (s *session) toldBy(p role.Part) {
	if p.Final != nil && (p.Err == nil || s.peer.Level > 0) {
		s.told(p.ID, p.Final.Tokens)
	}
}

// forget counts what was not told when the connection ended with the most it
// can have cost.
func (s *session) forget(owed map[cocoon.RequestID]owing) {
	for _, o := range owed {
		s.reckoning.end(o.bound, o.bound)
		s.settle(o, pricing.Tokens{Total: o.bound})
	}
}

// noSuspensions is for clients that remember none beyond their process.
type noSuspensions struct{}

func (noSuspensions) Check([32]byte) error               { return nil }
func (noSuspensions) Suspend([32]byte, Suspension) error { return nil }
func (noSuspensions) List() []Suspension                 { return nil }
