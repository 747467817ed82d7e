package settle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
)

// Why a proxy must not serve.
var (
	// ErrStarting lasts until the ledger's own first mark was read back from
	// the chain, which proves that it is not an old copy.
	ErrStarting = errors.New("proxy contract is not ready yet")
	// ErrProxyClosed lasts until the root's params change and another contract
	// takes its place.
	ErrProxyClosed = errors.New("proxy contract is closing or closed")
)

// ProxyConfig configures a Proxy. Fields without a remark are required.
type ProxyConfig struct {
	Config
	Policy ProxyPolicy
	// Terms is the root state under which the contract was derived. Of a
	// contract to be retired it may be nil: it holds its own terms.
	Terms  *registry.Snapshot
	Ledger *ledger.Ledger
	// Signer holds the contract key, Key is its public half.
	Signer bindings.Signer
	Key    [32]byte
	Owner  cocoon.Address // of the proxy contract
	// Contract is the address all of this gives.
	Contract cocoon.Address
	// Retire closes the contract instead of serving it.
	Retire bool
	// Idle reports whether no request of a client is running; nil = always.
	Idle func(owner cocoon.Address) bool
}

// Proxy settles one proxy contract.
type Proxy struct {
	cfg ProxyConfig
	*agent

	// Of the round.
	terms     *registry.Snapshot
	addresses map[cocoon.Address]ownerContracts // by owner
	storage   *bindings.ProxyStorage
	pool      access.Account
	firstMark uint32 // of this run; 0 = none yet
	markedAt  time.Time
	marked    int64 // total use at the last mark
	hurry     bool  // settle everything

	stateMu    sync.Mutex
	retire     bool
	finished   bool
	prices     *prices
	fatal      error // the ledger and the chain contradict one another
	ready      error
	registered map[registration]bool
	order      []registration
	arrival    chan struct{} // closed and replaced when registered grows
}

// prices are what a token costs and what a worker gets of it.
type prices struct{ price, fee coins.Nano }

// ownerContracts are the addresses derived for one owner.
type ownerContracts struct{ client, worker cocoon.Address }

type registration struct {
	owner cocoon.Address
	nonce int64
}

// maxRegistrations bounds the nonces remembered.
const maxRegistrations = 4096

// NewProxy prepares the settling of a contract. It asks the chain nothing.
func NewProxy(c ProxyConfig) (*Proxy, error) {
	if c.Chain == nil || c.Wallet == nil || c.Ledger == nil || c.Signer == nil || c.Terms == nil && !c.Retire {
		return nil, errors.New("settle: chain, wallet, ledger, signer and terms are required")
	}
	c.Policy = c.Policy.withDefaults()
	return &Proxy{
		cfg: c, agent: newAgent(c.Config), terms: c.Terms, addresses: map[cocoon.Address]ownerContracts{},
		retire: c.Retire, ready: ErrStarting, registered: map[registration]bool{}, arrival: make(chan struct{}),
	}, nil
}

// Run settles until ctx ends.
func (p *Proxy) Run(ctx context.Context) error { return p.run(ctx, p) }

// Settle charges, pays and withdraws whatever is due, regardless of the
// policy, and returns when the chain has all of it.
func (p *Proxy) Settle(ctx context.Context) error {
	return p.settleNow(ctx, hurried{p})
}

// Retire begins to close the contract: no more service, refunds to all
// clients, last payouts to all workers, and after the delay the rest to its
// owner. Run does the steps; Finished says when they are done.
func (p *Proxy) Retire() {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	p.retire = true
}

func (p *Proxy) retiring() bool {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	return p.retire
}

// Finished reports whether the contract is closed for good.
func (p *Proxy) Finished() bool {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	return p.finished
}

// Prices returns the price of a token under this contract and the part of it
// that is the worker's. known is false for an old contract until the chain told
// its terms.
func (p *Proxy) Prices() (price, fee coins.Nano, known bool) {
	if t := p.cfg.Terms; t != nil {
		return t.Params.PricePerToken, t.Params.WorkerFeePerToken, true
	}
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	if p.prices == nil {
		return 0, 0, false
	}
	return p.prices.price, p.prices.fee, true
}

type hurried struct{ *Proxy }

func (h hurried) plan(ctx context.Context) ([]Action, error) {
	h.hurry = true
	defer func() { h.hurry = false }()
	return h.Proxy.plan(ctx)
}

// Ready returns nil while the contract may be served, else why not:
// ErrStarting, ErrProxyClosed, or channel.ErrRollback, which lasts.
func (p *Proxy) Ready() error {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	if p.fatal != nil {
		return p.fatal
	}
	return p.ready
}

// Client returns the state of an owner's client contract as its latest
// message told it, or ErrNotFound.
func (p *Proxy) Client(owner cocoon.Address) (channel.ClientContract, error) {
	c := p.cfg.Ledger.ClientAccount(owner).Contract
	if c == (channel.ClientContract{}) {
		return c, fmt.Errorf("%w: client of %v", ErrNotFound, owner)
	}
	return c, nil
}

// AwaitRegistration waits until owner's client contract has registered nonce
// at the proxy contract, now or earlier in this run.
func (p *Proxy) AwaitRegistration(ctx context.Context, owner cocoon.Address, nonce int64) error {
	for {
		p.stateMu.Lock()
		known, arrival := p.registered[registration{owner, nonce}], p.arrival
		p.stateMu.Unlock()
		if known {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-arrival:
		}
	}
}

// plan implements party.
func (p *Proxy) plan(ctx context.Context) ([]Action, error) {
	if err := p.sync(ctx); err != nil {
		return nil, err
	}
	used := p.cfg.Ledger.Totals().Used
	s := ProxyState{
		Now: p.now(), Policy: p.cfg.Policy, Contract: p.cfg.Contract, Storage: p.storage, Pool: p.pool.Balance, Retire: p.retiring(),
		MarkAge: p.now().Sub(p.markedAt), MarkNeeded: p.firstMark == 0 || used != p.marked,
	}
	last, confirmed := p.cfg.Ledger.Marks()
	if p.firstMark != 0 && confirmed < last.Seqno {
		s.MarkNeeded = true // on its way, or lost with its message
	}
	if p.hurry {
		s.Policy = s.Policy.everything()
	}
	if p.storage == nil {
		return PlanProxy(s), nil
	}
	for _, c := range p.cfg.Ledger.Clients() {
		if c.Contract == (channel.ClientContract{}) {
			continue // never seen on chain: nothing can be charged there
		}
		a, err := p.derive(c.Owner)
		if err != nil {
			return nil, err
		}
		s.Clients = append(s.Clients, ClientDue{c.Owner, a.client, c.Counters, c.Contract, p.cfg.Idle == nil || p.cfg.Idle(c.Owner)})
	}
	for _, w := range p.cfg.Ledger.Workers() {
		a, err := p.derive(w.Owner)
		if err != nil {
			return nil, err
		}
		s.Workers = append(s.Workers, WorkerDue{w.Owner, a.worker, w.Counters, w.Paid})
	}
	return PlanProxy(s), nil
}

// sync reads the contract and every transaction it had since the last time.
func (p *Proxy) sync(ctx context.Context) error {
	if err := p.Ready(); errors.Is(err, channel.ErrRollback) {
		return err
	}
	acc, err := p.chain.Account(ctx, p.cfg.Contract)
	if err != nil {
		return fmt.Errorf("proxy contract: %w", err)
	}
	p.pool, p.storage = acc, nil
	if !acc.Deployed() {
		p.stateMu.Lock()
		defer p.stateMu.Unlock()
		p.finished = p.retire && len(p.flying) == 0 // nothing there to be closed
		return nil
	}
	if p.storage, err = bindings.DecodeProxy(acc.Data); err != nil {
		return err
	}
	if p.terms == nil {
		p.terms = &registry.Snapshot{Root: p.storage.Root, Params: p.storage.Params}
	}
	err = History(ctx, p.chain, acc, p.cfg.Ledger.Position().LT, func(tx access.Transaction) error {
		if err := p.read(ctx, tx); err != nil {
			return err
		}
		return p.cfg.Ledger.SetPosition(ctx, ledger.Position{LT: tx.LT, Hash: tx.Hash})
	})
	if err != nil {
		if errors.Is(err, channel.ErrRollback) {
			p.refuse(err)
		}
		return fmt.Errorf("proxy contract's transactions: %w", err)
	}
	_, confirmed := p.cfg.Ledger.Marks()
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	p.finished = p.storage.State == bindings.Closed
	p.prices = &prices{p.storage.Params.PricePerToken, p.storage.Params.WorkerFeePerToken}
	switch {
	case p.retire:
		p.ready = fmt.Errorf("%w: it is being retired", ErrProxyClosed)
	case p.storage.State != bindings.Open:
		p.ready = fmt.Errorf("%w: it is %v", ErrProxyClosed, p.storage.State)
	case p.firstMark == 0 || confirmed < p.firstMark:
		p.ready = ErrStarting
	default:
		p.ready = nil
	}
	return nil
}

func (p *Proxy) refuse(err error) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	p.fatal = err
	p.log.Error("this proxy must not serve", "error", err)
}

// read takes in one transaction of the proxy contract. Messages that are not
// from the address derived for the owner they name are nobody's.
func (p *Proxy) read(ctx context.Context, tx access.Transaction) error {
	in := tx.In
	if in == nil || in.External || in.Bounced || in.Body == nil {
		return nil
	}
	_, m, err := bindings.DecodeMessage(in.Body)
	if err != nil {
		return nil // anybody may send anything
	}
	switch m := m.(type) {
	case *bindings.SaveState:
		if in.Source != p.wallet.Address() {
			return nil
		}
		if err := p.cfg.Ledger.Recognize(ledger.Mark{Seqno: m.Seqno, Session: m.Session}); err != nil {
			return err
		}
		return p.cfg.Ledger.Confirm(ctx, m.Seqno)
	case *bindings.ClientRequest:
		a, err := p.derive(m.Owner)
		if err != nil || in.Source != a.client || m.Tokens > 1<<63-1 {
			return nil
		}
		c := channel.ClientContract{Open: m.State == bindings.Open, Balance: m.Balance, Stake: m.Stake, Charged: int64(m.Tokens), SecretHash: m.SecretHash}
		if err := p.cfg.Ledger.SetContract(ctx, m.Owner, c); err != nil {
			return err
		}
		if m.Payload != nil && m.Payload.Kind == bindings.PayloadRegister {
			p.register(registration{m.Owner, int64(m.Payload.Nonce)})
		}
	case *bindings.WorkerRequest:
		a, err := p.derive(m.Owner)
		if err != nil || in.Source != a.worker || m.Tokens > 1<<63-1 {
			return nil
		}
		if m.Payment != nil && tx.Computed && !tx.Success {
			return nil // refused: the worker was not paid, and its contract takes it back
		}
		return p.cfg.Ledger.SetPaid(ctx, m.Owner, int64(m.Tokens))
	}
	return nil
}

func (p *Proxy) register(r registration) {
	p.stateMu.Lock()
	defer p.stateMu.Unlock()
	if p.registered[r] {
		return
	}
	if len(p.order) == maxRegistrations {
		delete(p.registered, p.order[0])
		p.order = p.order[1:]
	}
	p.registered[r] = true
	p.order = append(p.order, r)
	close(p.arrival)
	p.arrival = make(chan struct{})
}

// derive returns the contracts of an owner.
func (p *Proxy) derive(owner cocoon.Address) (ownerContracts, error) {
	if a, ok := p.addresses[owner]; ok {
		return a, nil
	}
	client, err := bindings.ClientAddress(p.terms, owner, p.cfg.Contract, p.cfg.Key)
	if err != nil {
		return ownerContracts{}, err
	}
	worker, err := bindings.WorkerAddress(p.terms, owner, p.cfg.Contract, p.cfg.Key)
	if err != nil {
		return ownerContracts{}, err
	}
	if len(p.addresses) > 1<<16 {
		clear(p.addresses) // strangers may have filled it
	}
	p.addresses[owner] = ownerContracts{client, worker}
	return p.addresses[owner], nil
}

// message implements party.
func (p *Proxy) message(ctx context.Context, a Action) (*wallet.Message, error) {
	var body, init []byte
	var err error
	switch kind, signed := a.Kind.signed(); {
	case signed:
		var id uint64
		if id, err = queryID(); err == nil {
			body, err = bindings.SignPayment(p.cfg.Signer, kind, a.To, uint64(a.Tokens), id, p.wallet.Address())
		}
	case a.Kind == Mark:
		body, err = p.mark(ctx)
	case a.Kind == IncreaseStake:
		body, err = bodyOf(&bindings.Funding{Op: bindings.OpIncreaseProxyStake, Amount: a.Amount, ExcessTo: p.wallet.Address()})
	case a.Kind == WithdrawEarnings:
		body, err = bodyOf(&bindings.Request{Op: bindings.OpWithdrawEarnings, ExcessTo: p.wallet.Address()})
	case a.Kind != Deploy:
		err = fmt.Errorf("a proxy does not send %s", a.Kind)
	}
	if err != nil {
		return nil, err
	}
	if a.Init {
		if init, err = p.init(ctx, a); err != nil {
			return nil, err
		}
	}
	return outgoing(a, body, init), nil
}

// init returns the StateInit of a contract that is not deployed yet.
func (p *Proxy) init(ctx context.Context, a Action) ([]byte, error) {
	acc, err := p.chain.Account(ctx, a.To)
	if err != nil || acc.Deployed() {
		return nil, err
	}
	if a.Kind == Deploy {
		return bindings.ProxyInit(p.terms, p.cfg.Key, p.cfg.Owner)
	}
	return bindings.WorkerInit(p.terms, a.Owner, p.cfg.Contract, p.cfg.Key)
}

// mark draws a mark, or takes the last one of this run again if the chain
// does not have it yet and nothing was charged since.
func (p *Proxy) mark(ctx context.Context) ([]byte, error) {
	used := p.cfg.Ledger.Totals().Used
	m, confirmed := p.cfg.Ledger.Marks()
	if p.firstMark == 0 || confirmed >= m.Seqno || used != p.marked {
		var err error
		if m, err = p.cfg.Ledger.Mark(ctx); err != nil {
			return nil, err
		}
		p.marked = used
		if p.firstMark == 0 {
			p.firstMark = m.Seqno
		}
	}
	p.markedAt = p.now()
	return bodyOf(&bindings.SaveState{Seqno: m.Seqno, Session: m.Session})
}
