// Package proxy is the proxy role: it accepts clients and workers, picks a
// worker for each request, relays the answer and keeps the accounts. It never
// looks into bodies.
//
// Owns: sessions of clients and workers, the choice of worker, reservation.
// Imports: role, wire, tee, registry, bindings, pricing, channel; envelope and
// receipt for sealed requests.
// Trust: both sides are foreign; workers are attested. A peer's message ends
// at worst its own request or connection.
// Concurrency: one goroutine a session and one a request; the pool of workers
// and each account stand under their own mutex, never held together with
// another.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// Ledger is the durable book of one proxy contract. Parties are named by
// their owner addresses.
type Ledger interface {
	// Charge adds tokens to a client's and a worker's counter and returns
	// once that is durable. The same id counts once. Peers hear of durable
	// counts only: one that a crash undid would be a lie they remember.
	// note is kept with the charge for the receipts that follow from it; "" =
	// none follows.
	Charge(ctx context.Context, client, worker cocoon.Address, id cocoon.RequestID, tokens int64, note string) error
	Client(owner cocoon.Address) channel.Counters
	Worker(owner cocoon.Address) channel.Counters
	// Totals returns the sums over all clients, which are those over all
	// workers too, and the tokens paid to workers on chain.
	Totals() (all channel.Counters, paid int64)
}

// ErrNoContract says that the chain holds no such client contract.
var ErrNoContract = errors.New("no client contract on chain")

// Contracts is the proxy's view of the chain.
type Contracts interface {
	// Client returns the state of owner's client contract; ErrNoContract if
	// there is none.
	Client(owner cocoon.Address) (channel.ClientContract, error)
	// AwaitRegistration waits until owner's client contract has registered
	// nonce at the proxy contract.
	AwaitRegistration(ctx context.Context, owner cocoon.Address, nonce int64) error
}

// Config configures a Proxy. Fields without a remark are required.
type Config struct {
	// Contract is the proxy contract that Ledger belongs to; zero = the one of
	// the parameters at New.
	Contract cocoon.Address
	// Signer holds the contract key, which signs payments; PublicKey is its
	// public half.
	Signer    bindings.Signer
	PublicKey [32]byte
	// Owner of the proxy contract; Wallet gets the excess of messages.
	Owner, Wallet cocoon.Address
	// IsTest must equal the network's; TestOnly sets the test-only flag in
	// the addresses sent to peers.
	IsTest, TestOnly bool

	Source    registry.Source
	Ledger    Ledger
	Contracts Contracts
	// Clients and Workers are the two ports: which one a peer dials says what
	// it is.
	Clients, Workers tee.Listener
	// AdmitWorker decides about a worker's evidence; nil = role.AdmitWorker.
	AdmitWorker func(*registry.Snapshot, tee.Peer) error
	// AnyModel admits models the root contract does not list from workers that
	// carry no evidence; for test networks only.
	AnyModel bool
	// Sign signs with the node key that sessions prove: sets of workers. nil =
	// none are offered, so nothing can be sealed.
	Sign func(message []byte) []byte
	// Log shows the audit log to peers of level 1; nil = there is none.
	Log Log
	// Receipts makes and logs the proxy's parts of receipts; nil = there are
	// none.
	Receipts Receipts
	// Now is the time of sets: the newest proven block's, or the clock where
	// there is no chain; nil = the clock.
	Now func() time.Time
	// ConsentWithin is how long a client has to give credit to an accepted
	// request; 0 = 10 s.
	ConsentWithin time.Duration
	// Wait is how long a request may wait for a free worker; 0 = 10 s.
	Wait time.Duration
	// Drain is how long requests may go on after Run's context ended; 0 = 10 s.
	Drain time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Proxy is one proxy.
type Proxy struct {
	cfg  Config
	log  *slog.Logger
	pool *pool
	// offers are what clients can seal to.
	offers *offers

	mu       sync.Mutex
	instance *instance
	accounts map[cocoon.Address]*account // by client owner
	clients  map[*clientSession]struct{}
	signed   map[signedKey]signedPayment
	draining bool

	running sync.WaitGroup // requests
	stats   role.Counters
}

// instance is the proxy contract under one set of parameters.
type instance struct {
	snap     *registry.Snapshot
	contract cocoon.Address
}

// New checks cfg and makes a Proxy.
func New(cfg Config) (*Proxy, error) {
	switch {
	case cfg.Signer == nil:
		return nil, errors.New("proxy: no contract key")
	case cfg.Owner.IsZero():
		return nil, errors.New("proxy: no owner address: set the owner of the proxy contract")
	case cfg.Source == nil || cfg.Ledger == nil || cfg.Contracts == nil || cfg.Clients == nil || cfg.Workers == nil:
		return nil, errors.New("proxy: registry, ledger, contracts and both listeners are required")
	}
	if cfg.AdmitWorker == nil {
		cfg.AdmitWorker = role.AdmitWorker
	}
	if cfg.Wait == 0 {
		cfg.Wait = 10 * time.Second
	}
	if cfg.Drain == 0 {
		cfg.Drain = 10 * time.Second
	}
	if cfg.ConsentWithin == 0 {
		cfg.ConsentWithin = envelope.ConsentWithin
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{
		cfg: cfg, log: cfg.Logger, pool: newPool(),
		accounts: map[cocoon.Address]*account{}, clients: map[*clientSession]struct{}{}, signed: map[signedKey]signedPayment{},
	}
	p.offers = newOffers(p)
	if cfg.Contract.IsZero() {
		if _, err := p.current(); err != nil {
			return nil, fmt.Errorf("proxy: %w", err)
		}
	}
	return p, nil
}

// Run serves until ctx ends, then drains.
func (p *Proxy) Run(ctx context.Context) error {
	serveCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	acceptCtx, deafen := context.WithCancel(ctx)
	defer deafen()
	var wg sync.WaitGroup
	deaf := make(chan error, 2)
	wg.Go(func() { deaf <- p.accept(acceptCtx, serveCtx, &wg, p.cfg.Clients, p.serveClient) })
	wg.Go(func() { deaf <- p.accept(acceptCtx, serveCtx, &wg, p.cfg.Workers, p.serveWorker) })
	wg.Go(func() { p.follow(serveCtx) })
	wg.Go(func() { p.offers.run(serveCtx) })
	var err error
	select {
	case <-ctx.Done():
		err = ctx.Err()
	case err = <-deaf: // a proxy that nobody can reach is to be started anew
	}
	deafen()
	p.mu.Lock()
	p.draining = true
	p.mu.Unlock()
	drained := make(chan struct{})
	go func() {
		p.running.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(p.cfg.Drain):
	}
	stop()
	wg.Wait()
	// Their connections are gone, so they end; what they still charge must be
	// written before the ledger closes.
	<-drained
	return err
}

// accept takes connections until ctx ends; sessions live in serveCtx and are
// counted in sessions.
func (p *Proxy) accept(ctx, serveCtx context.Context, sessions *sync.WaitGroup, l tee.Listener, serve func(context.Context, *tee.Conn) error) error {
	for {
		conn, err := l.Accept(ctx)
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("cannot accept connections at %v any more: %w", l.Addr(), err)
		}
		sessions.Go(func() {
			defer conn.Close()
			if err := serve(serveCtx, conn); err != nil && serveCtx.Err() == nil {
				p.log.Info("connection ended", "peer", conn.Peer.Addr, "err", err)
			}
		})
	}
}

// follow reacts to a changed registry: workers whose image or model was
// removed lose their place; new parameters mean new contracts, so everybody
// connects anew.
func (p *Proxy) follow(ctx context.Context) {
	for {
		changed := p.cfg.Source.Changed()
		for _, w := range p.pool.all() {
			p.judge(w)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(time.Minute): // evidence runs out without a change
		}
	}
}

// judge asks again whether a worker in the pool may serve.
func (p *Proxy) judge(w *workerSession) {
	p.pool.update(w, func() {
		// Read under the lock: the last word is that of the newest registry.
		snap, err := p.cfg.Source.Current()
		if err != nil {
			return
		}
		err = p.admitWorker(snap, w.conn.Peer, w.model)
		if err != nil && !w.refused {
			p.log.Warn("a worker left the root contract's lists: it gets no requests", "worker", w.conn.Peer.Addr, "owner", w.owner, "err", err)
		}
		w.refused = err != nil
	})
}

func (p *Proxy) admitWorker(s *registry.Snapshot, peer tee.Peer, model cocoon.ModelName) error {
	if err := p.cfg.AdmitWorker(s, peer); err != nil {
		return err
	}
	if !(p.cfg.AnyModel && (peer.Kind == attest.None || peer.Kind == "")) && !s.HasModel(model) {
		return errors.New("invalid worker model '" + clip(string(model), 128) + "'")
	}
	return nil
}

// errOutdated ends the service of a contract whose parameters are old: a proxy
// for the new one takes over.
var errOutdated = errors.New("the network's parameters changed: the contract is of older ones")

// current returns the contract under the newest snapshot.
func (p *Proxy) current() (*instance, error) {
	snap, err := p.cfg.Source.Current()
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.instance != nil && p.instance.snap == snap {
		return p.instance, nil
	}
	contract, err := bindings.ProxyAddress(snap, p.cfg.PublicKey, p.cfg.Owner)
	if err != nil {
		return nil, err
	}
	if p.cfg.Contract.IsZero() {
		p.cfg.Contract = contract
	}
	if contract != p.cfg.Contract {
		// The counters of our ledger mean nothing at another contract.
		return nil, errOutdated
	}
	p.instance = &instance{snap: snap, contract: contract}
	return p.instance, nil
}

// Contract returns the address of the proxy contract now.
func (p *Proxy) Contract() (cocoon.Address, error) {
	i, err := p.current()
	if err != nil {
		return cocoon.Address{}, err
	}
	return i.contract, nil
}

// Idle reports whether no request of a client is running, those included
// whose connection has ended: they may still be charged.
func (p *Proxy) Idle(owner cocoon.Address) bool {
	p.mu.Lock()
	var accounts []*account
	for _, a := range p.accounts {
		if a.owner == owner {
			accounts = append(accounts, a)
		}
	}
	p.mu.Unlock()
	return !slices.ContainsFunc(accounts, (*account).busy)
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
