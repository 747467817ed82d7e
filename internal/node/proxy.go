package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/money/settle"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
)

// keySigner signs payments with a key of the wallet package.
type keySigner struct{ key wallet.Key }

func (s keySigner) SignHash(hash [32]byte) ([]byte, error) {
	sig := s.key.Sign(hash)
	return sig[:], nil
}

// proxyHost runs the proxy role: one proxy contract after another, as the
// root's parameters change, and the closing of the old ones beside it.
type proxyHost struct {
	cfg   *Config
	log   *slog.Logger
	chain *chain
	l1    *level1
	// receipts are nil where none are given.
	receipts *receipts
	key      wallet.Key
	owner    cocoon.Address
	wallet   *wallet.Wallet // nil without a chain
	workers  tee.Listener
	clients  tee.Listener

	mu      sync.Mutex
	proxy   *proxy.Proxy // nil while the contract is not ready
	settler *settle.Proxy
	waiting error // why proxy is nil
	books   map[cocoon.Address]*contractBook
	opened  bool // books has every contract
	old     sync.WaitGroup
}

// runProxy assembles the proxy role.
func runProxy(ctx context.Context, c *Config, ls *Listeners, log *slog.Logger) error {
	if err := c.Measured.own(cocoon.RoleProxy); err != nil {
		return err
	}
	owner, err := c.Runtime.owner()
	if err != nil {
		return err
	}
	if c.Runtime.KeyFile == "" {
		return errors.New("configuration: runtime.key_file is missing: set the file with the proxy's contract key")
	}
	h := &proxyHost{cfg: c, log: log, owner: owner, waiting: errors.New("starting"), books: map[cocoon.Address]*contractBook{}}
	if h.key, err = c.keys.walletKey(useContractKey, c.Runtime.KeyFile); err != nil {
		return fmt.Errorf("configuration: runtime.key_file: %w", err)
	}
	if h.chain, err = openChain(ctx, c, log); err != nil {
		return err
	}
	defer h.chain.close()
	if h.chain.real() {
		if h.wallet, err = h.chain.wallet(c, owner, log); err != nil {
			return err
		}
	}
	l1, err := newLevel1(c, h.chain, cocoon.RoleProxy, h.facts, &h.key, log)
	if err != nil {
		return err
	}
	h.l1 = l1
	if c.keepsReceipts(h.chain) {
		if h.receipts, err = h.openReceipts(); err != nil {
			return err
		}
		defer h.receipts.log.Close()
	}
	id, err := identity(c, h.chain, log)
	if err != nil {
		return err
	}
	var closers []func() error
	defer func() {
		for _, f := range closers {
			_ = f()
		}
	}()
	listen := func(name, addr string, peer cocoon.Role) (tee.Listener, net.Addr, error) {
		ln, err := ls.Listen(name, addr)
		if err != nil {
			return nil, nil, err
		}
		l, err := listener(c, l1, ln, peer, id, log)
		if err != nil {
			return nil, nil, err
		}
		closers = append(closers, l.Close)
		return l, ln.Addr(), nil
	}
	var workersAddr, clientsAddr net.Addr
	if h.workers, workersAddr, err = listen("workers", c.Runtime.ListenWorkers, cocoon.RoleWorker); err != nil {
		return err
	}
	if h.clients, clientsAddr, err = listen("clients", c.Runtime.ListenClients, cocoon.RoleClient); err != nil {
		return err
	}
	log.Info("proxy listens", "workers", workersAddr, "clients", clientsAddr)
	parts := append(h.chain.parts(), h.run)
	if h.receipts != nil && h.chain.real() {
		parts = append(parts, h.anchor)
	}
	var d *desk
	if h.chain.real() {
		d = &desk{chain: h.chain.client, wallet: h.wallet, party: h.party, channels: h.channels, books: h.money}
		if d.gas, err = openGas(h.chain, c.Runtime.Dir, h.accounts, log); err != nil {
			return err
		}
		parts = append(parts, d.gas.run)
	}
	if c.Runtime.Status != "" {
		status, err := statusPart(c, ls, h.stats, h.ready, d, page{path: bundlesPath, content: h.bundles}, page{path: auditPath, serve: h.serveAudit})
		if err != nil {
			return err
		}
		parts = append(parts, status)
	}
	return group(ctx, parts...)
}

// run serves under one set of parameters after another.
func (h *proxyHost) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer h.old.Wait()
	defer stop() // whatever ends the serving ends the closing of old contracts
	first := true
	for ctx.Err() == nil {
		snap, err := h.chain.Current()
		if err != nil {
			return err
		}
		contract, err := bindings.ProxyAddress(snap, h.key.Public(), h.owner)
		if err != nil {
			return err
		}
		if first && h.chain.real() {
			first = false
			if err := h.retireOthers(ctx, contract); err != nil {
				return err
			}
		}
		if err := h.serve(ctx, snap, contract); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return ctx.Err()
}

// facts are what this proxy says of itself: the contract under the newest
// parameters, whose key it holds.
func (h *proxyHost) facts() (statement.Facts, error) {
	snap, err := h.chain.Current()
	if err != nil {
		return statement.Facts{}, err
	}
	contract, err := bindings.ProxyAddress(snap, h.key.Public(), h.owner)
	return statement.Facts{Contract: contract, ContractKey: h.key.Public(), Owner: h.owner}, err
}

func (h *proxyHost) ledgers() string { return filepath.Join(h.cfg.Runtime.Dir, "ledger") }

// serve runs the proxy under snap's parameters until they change.
func (h *proxyHost) serve(ctx context.Context, snap *registry.Snapshot, contract cocoon.Address) error {
	book, err := openLedger(ctx, h.ledgers(), contract, h.log)
	if err != nil {
		return err
	}
	h.log.Info("proxy contract", "address", contract, "params_version", snap.Params.ParamsVersion)
	cfg := proxy.Config{
		Contract: contract, Signer: keySigner{h.key}, PublicKey: h.key.Public(), Owner: h.owner,
		IsTest: h.cfg.Measured.IsTest, TestOnly: h.cfg.Measured.TestOnly,
		Source: h.chain, Ledger: book, Clients: h.clients, Workers: h.workers,
		AdmitWorker: h.cfg.Measured.admit(role.AdmitWorker), AnyModel: h.cfg.Measured.Accepts(attest.None),
		Sign: h.l1.issuer.Sign, Now: h.chain.now,
		Logger: h.log,
	}
	if h.receipts != nil {
		cfg.Receipts, cfg.Log = h.receipts, h.receipts
	}
	h.follow(ctx, contract, book, snap)
	if !h.chain.real() {
		defer book.close()
		if cfg.Wallet, err = bindings.WalletAddress(h.key.Public(), h.owner); err != nil {
			return err
		}
		cfg.Contracts = fakeContracts{}
		p, err := proxy.New(cfg)
		if err != nil {
			return err
		}
		h.set(p, nil, nil)
		return group(ctx, p.Run, book.commit)
	}

	var p *proxy.Proxy
	s, err := h.newSettler(snap, book.l, contract, false, func(owner cocoon.Address) bool { return p == nil || p.Idle(owner) })
	if err != nil {
		return errors.Join(err, book.close())
	}
	cfg.Wallet, cfg.Contracts = h.wallet.Address(), chainContracts{s}
	if p, err = proxy.New(cfg); err != nil {
		return errors.Join(err, book.close())
	}
	h.set(nil, s, settle.ErrStarting)

	// The settler outlives the serving: it writes the last charges and, when
	// the parameters changed, closes the contract.
	settleCtx, stopSettler := context.WithCancel(context.WithoutCancel(ctx))
	settled := make(chan error, 1)
	go func() { settled <- s.Run(settleCtx) }()
	serveCtx, stop := context.WithCancel(ctx)
	defer stop()
	err = group(serveCtx,
		func(ctx context.Context) error { return h.serveWhenReady(ctx, p, s, book) },
		func(ctx context.Context) error {
			h.untilOutdated(ctx, snap.Params.ParamsVersion)
			stop()
			return nil
		})
	h.set(nil, nil, errors.New("the network's parameters changed"))
	if ctx.Err() == nil && err == nil {
		s.Retire()
		h.log.Info("closing the contract of the old parameters", "address", contract)
		h.old.Go(func() { h.untilFinished(ctx, s, stopSettler, settled, book) })
		return nil
	}
	stopSettler()
	return errors.Join(err, <-settled, book.close())
}

// serveWhenReady serves once the contract is deployed and the ledger is
// proven to be the newest.
func (h *proxyHost) serveWhenReady(ctx context.Context, p *proxy.Proxy, s *settle.Proxy, b *book) error {
	for {
		err := s.Ready()
		if err == nil {
			break
		}
		h.set(nil, s, err)
		if errors.Is(err, channel.ErrRollback) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
	h.set(p, s, nil)
	h.log.Info("proxy is ready")
	err := group(ctx, p.Run, b.watch, func(ctx context.Context) error { return h.untilUnfit(ctx, s) })
	if ctx.Err() != nil || !errors.Is(err, settle.ErrProxyClosed) {
		return err
	}
	// Its owner closed it. What is owed is still settled; new parameters make
	// a new contract.
	h.log.Warn("not serving any more", "reason", err)
	h.set(nil, s, err)
	return group(ctx, b.watch, func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
}

// untilUnfit ends when the contract must not be served any more: it was closed,
// or the chain knows of more than the ledger.
func (h *proxyHost) untilUnfit(ctx context.Context, s *settle.Proxy) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(commitEvery):
		}
		if err := s.Ready(); errors.Is(err, settle.ErrProxyClosed) || errors.Is(err, channel.ErrRollback) {
			return fmt.Errorf("the proxy contract cannot be served any more: %w", err)
		}
	}
}

func (h *proxyHost) untilOutdated(ctx context.Context, params uint32) {
	for {
		changed := h.chain.Changed()
		if snap, err := h.chain.Current(); err == nil && snap.Params.ParamsVersion != params {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// untilFinished closes an old contract to its end.
func (h *proxyHost) untilFinished(ctx context.Context, s *settle.Proxy, stop func(), settled <-chan error, b *book) {
	for !s.Finished() && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	stop()
	if err := errors.Join(<-settled, b.close()); err != nil && ctx.Err() == nil {
		h.log.Error("closing an old contract", "err", err)
	}
}

// retireOthers goes on closing the contracts of earlier parameters.
func (h *proxyHost) retireOthers(ctx context.Context, current cocoon.Address) error {
	known, err := ledger.Contracts(h.ledgers())
	if err != nil {
		return err
	}
	for _, contract := range known {
		if contract == current {
			continue
		}
		book, err := openLedger(ctx, h.ledgers(), contract, h.log)
		if err != nil {
			return err
		}
		h.follow(ctx, contract, book, nil)
		s, err := h.newSettler(nil, book.l, contract, true, nil)
		if err != nil {
			return errors.Join(err, book.close())
		}
		settleCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
		settled := make(chan error, 1)
		go func() { settled <- s.Run(settleCtx) }()
		h.old.Go(func() { h.untilFinished(ctx, s, stop, settled, book) })
	}
	return nil
}

func (h *proxyHost) newSettler(terms *registry.Snapshot, l *ledger.Ledger, contract cocoon.Address, retire bool, idle func(cocoon.Address) bool) (*settle.Proxy, error) {
	policy := settle.ProxyPolicy{MarkEvery: time.Duration(h.cfg.Runtime.MarkEvery * float64(time.Second))}
	if !retire {
		least := terms.Params.MinProxyStake
		if policy.Stake = least; h.cfg.Runtime.Stake != "" {
			var err error
			if policy.Stake, err = amount("stake", h.cfg.Runtime.Stake); err != nil {
				return nil, err
			}
		}
		if policy.Stake < least {
			h.log.Warn("the stake is below what the network asks of proxies", "stake", policy.Stake, "least", least)
		}
	}
	s, err := settle.NewProxy(settle.ProxyConfig{
		Config: h.chain.settling(h.cfg, h.wallet, h.log), Policy: policy,
		Terms: terms, Ledger: l, Signer: keySigner{h.key}, Key: h.key.Public(), Owner: h.owner, Contract: contract,
		Retire: retire, Idle: idle,
	})
	if err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.books[contract] = &contractBook{s, l}
		h.opened = h.opened || !retire // those of earlier parameters come first
	}
	return s, err
}

func (h *proxyHost) set(p *proxy.Proxy, s *settle.Proxy, waiting error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.proxy, h.settler, h.waiting = p, s, waiting
}

func (h *proxyHost) now() (*proxy.Proxy, *settle.Proxy, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.proxy, h.settler, h.waiting
}

// stats, ready and bundles are what the status server asks.

func (h *proxyHost) stats() any {
	p, _, waiting := h.now()
	if p == nil {
		return map[string]any{"waiting": waiting.Error()}
	}
	return p.Stats()
}

func (h *proxyHost) bundles() any {
	p, _, _ := h.now()
	if p == nil {
		return []proxy.WorkerBundle{}
	}
	return p.Bundles()
}

func (h *proxyHost) ready() error {
	_, _, waiting := h.now()
	return waiting
}

// contractBook is what is known of one proxy contract, whether it is served,
// being closed or closed.
type contractBook struct {
	settler *settle.Proxy
	ledger  *ledger.Ledger // readable after its close, too
}

// party is who takes orders: the settler of the contract that is served, or
// would be.
func (h *proxyHost) party() (settler, error) {
	_, s, waiting := h.now()
	if s == nil {
		return nil, fmt.Errorf("the proxy has no contract now: %w", waiting)
	}
	return s, nil
}

func (h *proxyHost) allBooks() []*contractBook {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.books))
}

func (h *proxyHost) channels(ctx context.Context) ([]settle.Channel, error) {
	out := []settle.Channel{}
	for _, b := range h.allBooks() {
		list, err := b.settler.Channels(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, list...)
	}
	slices.SortFunc(out, func(a, b settle.Channel) int { return cmp.Compare(b.ParamsVersion, a.ParamsVersion) })
	return out, nil
}

// money adds up the books of all contracts, each at its own price, and says
// what is missing.
func (h *proxyHost) money() (all Books, missing string) {
	h.mu.Lock()
	if !h.opened {
		missing = "its ledgers are not open yet"
	}
	h.mu.Unlock()
	for _, b := range h.allBooks() {
		price, fee, known := b.settler.Prices()
		used, paid := b.ledger.Totals().Used, int64(0)
		if !known {
			if used > 0 {
				missing = "the chain has not told the price of an old contract yet"
			}
			continue
		}
		for _, w := range b.ledger.Workers() {
			paid += w.Paid
		}
		all.Paid += pricing.Amount(used, price)
		all.Earned += pricing.Amount(paid, fee)
		all.Kept += pricing.Amount(paid, price) - pricing.Amount(paid, fee)
		all.Pending += pricing.Amount(used, price) - pricing.Amount(paid, price)
	}
	return all, missing
}

// accounts are the wallet and all contracts.
func (h *proxyHost) accounts() []cocoon.Address {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append(slices.Collect(maps.Keys(h.books)), h.wallet.Address())
}

// errNoChain says that there is nothing to settle on.
var errNoChain = errors.New("no chain stands behind this network, or its contract is not ready")

// chainContracts is the proxy's view of the chain.
type chainContracts struct{ s *settle.Proxy }

func (c chainContracts) Client(owner cocoon.Address) (channel.ClientContract, error) {
	state, err := c.s.Client(owner)
	if errors.Is(err, settle.ErrNotFound) {
		err = proxy.ErrNoContract
	}
	return state, err
}

func (c chainContracts) AwaitRegistration(ctx context.Context, owner cocoon.Address, nonce int64) error {
	return c.s.AwaitRegistration(ctx, owner, nonce)
}

// fakeContracts is the proxy's view of a chain that is not there: every
// client has a contract with plenty of money and the empty secret (spec
// network-protocol 7.9).
type fakeContracts struct{}

func (fakeContracts) Client(cocoon.Address) (channel.ClientContract, error) {
	return channel.ClientContract{Open: true, Balance: 1e6 * coins.PerCoin, Stake: 1e6 * coins.PerCoin, SecretHash: sha256.Sum256(nil)}, nil
}

func (fakeContracts) AwaitRegistration(context.Context, cocoon.Address, int64) error { return nil }

// commitEvery is how often counters are committed where no chain delays it.
const commitEvery = time.Second
