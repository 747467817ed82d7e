// Package proxy is the proxy role: it accepts clients and workers, picks a
// worker for each request, relays the answer and keeps the accounts. It never
// looks into bodies.
//
// Owns: sessions of clients and workers, the choice of worker, reservation.
// Imports: role, wire, tee, registry, bindings, pricing, channel.
// Trust: both sides are foreign; workers are attested. A peer's message ends
// at worst its own request or connection.
// Concurrency: one goroutine a session and one a request; the pool of workers
// and each account stand under their own mutex, never held together with
// another.
package proxy

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// Ledger is the durable book of one proxy contract. Parties are named by
// their owner addresses.
type Ledger interface {
	// Charge adds tokens to a client's and a worker's counter and returns
	// once that is durable. The same id counts once.
	Charge(ctx context.Context, client, worker cocoon.Address, id cocoon.RequestID, tokens int64) error
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
	// AnyModel admits models the root contract does not list; test networks
	// whose peers carry no evidence only.
	AnyModel bool
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
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Proxy{
		cfg: cfg, log: cfg.Logger, pool: newPool(),
		accounts: map[cocoon.Address]*account{}, clients: map[*clientSession]struct{}{}, signed: map[signedKey]signedPayment{},
	}, nil
}

// Run serves until ctx ends, then drains.
func (p *Proxy) Run(ctx context.Context) error {
	serveCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { p.accept(ctx, serveCtx, p.cfg.Clients, p.serveClient) })
	wg.Go(func() { p.accept(ctx, serveCtx, p.cfg.Workers, p.serveWorker) })
	wg.Go(func() { p.follow(serveCtx) })
	<-ctx.Done()
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
	return ctx.Err()
}

// accept takes connections until ctx ends; sessions live in serveCtx.
func (p *Proxy) accept(ctx, serveCtx context.Context, l tee.Listener, serve func(context.Context, *tee.Conn) error) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept(ctx)
		if err != nil {
			if ctx.Err() == nil {
				p.log.Error("cannot accept connections any more", "addr", l.Addr(), "err", err)
			}
			return
		}
		wg.Go(func() {
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
		if snap, err := p.cfg.Source.Current(); err == nil {
			p.pool.judge(func(w *workerSession) error { return p.admitWorker(snap, w.conn.Peer, w.model) })
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

func (p *Proxy) admitWorker(s *registry.Snapshot, peer tee.Peer, model cocoon.ModelName) error {
	if err := p.cfg.AdmitWorker(s, peer); err != nil {
		return err
	}
	if !p.cfg.AnyModel && !s.HasModel(model) {
		return errors.New("invalid worker model '" + clip(string(model), 128) + "'")
	}
	return nil
}

// current returns the contract under the newest parameters.
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

// Idle reports whether no request of a client is running.
func (p *Proxy) Idle(owner cocoon.Address) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.clients {
		s.mu.Lock()
		busy := len(s.requests) > 0
		s.mu.Unlock()
		if busy && s.owner == owner {
			return false
		}
	}
	return true
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}
