//go:build !tee

package settle

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/contracts"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// realWorld is a development chain with the real contracts.
type realWorld struct {
	t      *testing.T
	chain  *devnet.Chain
	client *access.Client
	source *registry.Holder
	snap   *registry.Snapshot
	signer bindings.KeySigner
	key    [32]byte
}

func newRealWorld(t *testing.T) *realWorld {
	t.Helper()
	chain, err := devnet.Open(devnet.Config{Dir: t.TempDir(), Idle: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx) }()
	client, err := access.Open(t.Context(), access.Config{GlobalConfig: chain.GlobalConfig(), Now: chain.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := client.Close()
		cancel()
		if err := errors.Join(err, <-done); err != nil {
			t.Error(err)
		}
	})
	w := &realWorld{t: t, chain: chain, client: client, signer: bindings.KeySigner(ed25519.NewKeyFromSeed(make([]byte, 32)))}
	w.key = [32]byte(ed25519.PrivateKey(w.signer).Public().(ed25519.PublicKey))
	w.snap = &registry.Snapshot{Root: addr(1), Version: 1, Time: chain.Now(), Params: registry.Params{
		StructVersion: 3, ParamsVersion: 1, PricePerToken: 20, WorkerFeePerToken: 19,
		Multipliers:           pricing.Multipliers{Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000},
		ProxyDelayBeforeClose: 600, ClientDelayBeforeClose: 300, MinProxyStake: ton, MinClientStake: ton,
		ProxyCode: contracts.Proxy(), WorkerCode: contracts.Worker(), ClientCode: contracts.Client(),
	}}
	w.source = registry.NewHolder(registry.HolderConfig{Now: chain.Now})
	w.must(w.source.Publish(w.snap))
	return w
}

func (w *realWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// config returns a node wallet with 20 coins, and how to settle with it.
func (w *realWorld) config(owner cocoon.Address) Config {
	w.t.Helper()
	m, err := wallet.Open(wallet.Config{
		Chain: w.client, Key: wallet.NewKey(), Dir: w.t.TempDir(), Now: w.chain.Now,
		Contract: wallet.Contract{Kind: wallet.Node, Owner: owner, Code: contracts.Wallet()},
	})
	w.must(err)
	w.must(w.chain.Faucet(w.t.Context(), m.Address(), 20*ton))
	return Config{Chain: w.client, Wallet: m, Every: 50 * time.Millisecond, Now: w.chain.Now}
}

func (w *realWorld) balance(a cocoon.Address) coins.Nano {
	w.t.Helper()
	acc, err := w.client.Account(w.t.Context(), a)
	w.must(err)
	return acc.Balance
}

// until waits for the chain.
func (w *realWorld) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// network is a proxy and a client that run, funded and registered, and a
// worker to come.
type network struct {
	*realWorld
	ledger *ledger.Ledger
	proxy  *Proxy
	client *Client

	ledgerDir   string
	proxyConfig ProxyConfig

	proxyContract, clientContract, workerContract, clientOwner cocoon.Address

	// stopProxy ends the proxy, as if its machine had died.
	stopProxy func()
}

func newNetwork(t *testing.T, ctx context.Context) *network {
	t.Helper()
	n := &network{realWorld: newRealWorld(t)}
	proxyConfig, clientConfig := n.config(proxyOwner), n.config(addr(0xc1))
	n.clientOwner = clientConfig.Wallet.Address()
	var err error
	n.proxyContract, err = bindings.ProxyAddress(n.snap, n.key, proxyOwner)
	n.must(err)
	n.clientContract, err = bindings.ClientAddress(n.snap, n.clientOwner, n.proxyContract, n.key)
	n.must(err)
	n.workerContract, err = bindings.WorkerAddress(n.snap, workerOwner, n.proxyContract, n.key)
	n.must(err)
	n.ledgerDir = t.TempDir()
	n.ledger, err = ledger.Open(n.ledgerDir, ledger.Config{Contract: n.proxyContract})
	n.must(err)
	n.proxyConfig = ProxyConfig{Config: proxyConfig, Terms: n.snap, Ledger: n.ledger, Signer: n.signer, Key: n.key, Owner: proxyOwner, Contract: n.proxyContract}
	n.proxy, err = NewProxy(n.proxyConfig)
	n.must(err)
	code, err := bindings.Hash(contracts.Proxy())
	n.must(err)
	n.client, err = NewClient(ClientConfig{Config: clientConfig, Policy: ClientPolicy{TopUp: 5 * ton, Budget: 5 * ton}, Source: n.source, Views: memoryViews{}, PoolCodes: [][32]byte{code}, SecretHash: func(cocoon.Address) [32]byte { return secret }})
	n.must(err)
	start := func(run func(context.Context) error) func() {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		return sync.OnceFunc(func() {
			cancel()
			n.must(<-done)
		})
	}
	stopLedger, stopClient := start(n.ledger.Run), start(n.client.Run)
	n.stopProxy = start(n.proxy.Run)
	t.Cleanup(func() {
		n.stopProxy()
		stopClient()
		stopLedger()
		n.must(n.ledger.Close())
	})
	n.until("the proxy's first mark", func() bool { return n.proxy.Ready() == nil })
	n.must(n.client.Register(ctx, n.proxyContract, n.clientContract, 77))
	n.must(n.proxy.AwaitRegistration(ctx, n.clientOwner, 77))
	n.until("the client's deposit and secret", func() bool {
		s, err := n.proxy.Client(n.clientOwner)
		return err == nil && s.Open && s.Balance == 5*ton && s.SecretHash == secret
	})
	return n
}

// order gives the client an order.
func (n *network) order(ctx context.Context, o Order) error { return n.client.Do(ctx, o) }

func (n *network) charge(id byte, tokens int64) {
	n.t.Helper()
	n.must(n.ledger.Charge(n.t.Context(), ledger.Charge{RequestID: cocoon.RequestID{id}, Client: n.clientOwner, Worker: workerOwner, Tokens: tokens}))
}

// near reports whether an amount arrived, but for forwarding fees.
func near(got, want coins.Nano) bool { return got <= want && got >= want-ton/100 }

const oneCoin = 50_000_000 // tokens

// TestOnDevnet runs deposit, charge, payout, earnings, marks and a granted
// refund with the real contracts on a real chain, from proven state alone.
func TestOnDevnet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	n := newNetwork(t, ctx)
	n.charge(1, oneCoin)
	n.must(n.proxy.Settle(ctx))
	n.until("the payout", func() bool { return n.balance(workerOwner) > 0 })
	n.until("the earnings", func() bool { return n.balance(proxyOwner) > 0 })
	if got := n.balance(workerOwner); !near(got, oneCoin*19) {
		t.Errorf("the worker has %v", got)
	}
	if got := n.balance(proxyOwner); !near(got, oneCoin*1) {
		t.Errorf("the proxy's owner has %v", got)
	}
	a := n.ledger.ClientAccount(n.clientOwner)
	if a.Contract.Charged != oneCoin || a.Contract.Balance != 4*ton || a.Counters.Committed != oneCoin || n.ledger.WorkerAccount(workerOwner).Paid != oneCoin {
		t.Errorf("the ledger says %+v, %+v", a, n.ledger.WorkerAccount(workerOwner))
	}

	// A second payment, cashed in by the worker itself.
	n.charge(2, oneCoin)
	workerConfig := n.config(workerOwner)
	data, err := bindings.SignPayment(n.signer, bindings.WorkerPayout, n.workerContract, 2*oneCoin, 9, n.proxy.wallet.Address())
	n.must(err)
	v, err := channel.View{}.Hear(channel.Report{Payment: &channel.SignedPayment{Tokens: 2 * oneCoin, Data: data}})
	n.must(err)
	wk, err := NewWorker(WorkerConfig{Config: workerConfig, Source: n.source, Views: memoryViews{n.workerContract: v}, Owner: workerOwner})
	n.must(err)
	n.must(wk.Settle(ctx))
	n.until("the second payout in the ledger", func() bool { return n.ledger.WorkerAccount(workerOwner).Paid == 2*oneCoin })

	// The client leaves; the proxy grants what is left after the last charge.
	before := n.balance(n.clientOwner)
	n.must(n.order(ctx, Order{Verb: OrderClose}))
	n.until("the refund", func() bool {
		s, err := n.proxy.Client(n.clientOwner)
		return err == nil && !s.Open && s.Balance == 0 && s.Charged == 2*oneCoin
	})
	n.until("the money", func() bool { return n.balance(n.clientOwner) > before+3*ton-ton/10 })
}

// TestRestoredLedgerOnDevnet starts a proxy on the copy of its ledger from before
// the last charges, as after a restored backup: it never becomes ready, says
// what is the matter, and sends nothing. The newest ledger serves on.
func TestRestoredLedgerOnDevnet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	n := newNetwork(t, ctx)
	old := t.TempDir()
	n.must(os.CopyFS(old, os.DirFS(n.ledgerDir)))
	n.charge(1, oneCoin)
	n.must(n.proxy.Settle(ctx))
	n.stopProxy()

	restored, err := ledger.Open(old, ledger.Config{Contract: n.proxyContract})
	n.must(err)
	runCtx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { n.must(restored.Run(runCtx)) })
	cfg := n.proxyConfig
	cfg.Ledger = restored
	p, err := NewProxy(cfg)
	n.must(err)
	wg.Go(func() { n.must(p.Run(runCtx)) })
	n.until("the refusal", func() bool { return errors.Is(p.Ready(), channel.ErrRollback) })
	if err := p.Ready(); !strings.Contains(err.Error(), "restore the newest ledger") {
		t.Errorf("%v does not say what to do", err)
	}
	spent := n.balance(cfg.Wallet.Address())
	if err := p.Settle(ctx); !errors.Is(err, channel.ErrRollback) {
		t.Errorf("settling on the old ledger: %v", err)
	}
	if got := n.balance(cfg.Wallet.Address()); got != spent {
		t.Errorf("a refused proxy spent %v", spent-got)
	}
	stop()
	wg.Wait()
	n.must(restored.Close())

	// Nothing is lost: the newest ledger goes on where it was.
	p, err = NewProxy(n.proxyConfig)
	n.must(err)
	runCtx, stop = context.WithCancel(ctx)
	wg.Go(func() { n.must(p.Run(runCtx)) })
	n.until("the newest ledger to serve", func() bool { return p.Ready() == nil })
	n.charge(2, oneCoin)
	n.must(p.Settle(ctx))
	stop()
	wg.Wait()
	if a := n.ledger.ClientAccount(n.clientOwner); a.Contract.Charged != 2*oneCoin || a.Contract.Balance != 3*ton {
		t.Errorf("the ledger says %+v", a)
	}
	if got := n.balance(workerOwner); !near(got, 2*oneCoin*19) {
		t.Errorf("the worker has %v", got)
	}
}

// TestRefusalsOnDevnet asks for what cannot be had: each refusal names its
// cause, and no coin but gas moves.
func TestRefusalsOnDevnet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	n := newNetwork(t, ctx)
	before := n.balance(n.clientOwner)
	for _, tt := range []struct {
		name string
		try  func() error
		text string
	}{
		{"deposit above the wallet's balance", func() error { return n.order(ctx, Order{Verb: OrderTopUp, Amount: 1000 * ton}) }, "from the balance of"},
		{"deposit into no contract", func() error { return n.order(ctx, Order{Verb: OrderTopUp, Contract: addr(0x77), Amount: ton}) }, "no such contract"},
		{"stake below what it is", func() error { return n.order(ctx, Order{Verb: OrderStake, Amount: ton / 2}) }, "already"},
	} {
		err := tt.try()
		if err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.text)
		}
	}
	if got := n.balance(n.clientOwner); got != before {
		t.Errorf("refusals cost %v", before-got)
	}

	// A payment under another proxy's key is refused on chain; a replayed one
	// changes nothing. The wallet pays gas, the channel nothing.
	n.charge(1, oneCoin)
	n.must(n.proxy.Settle(ctx))
	stranger := bindings.KeySigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32)))
	for name, by := range map[string]bindings.KeySigner{"forged": stranger, "replayed": n.signer} {
		tokens := uint64(oneCoin)
		if name == "forged" {
			tokens = 3 * oneCoin
		}
		data, err := bindings.SignPayment(by, bindings.ClientCharge, n.clientContract, tokens, 9, n.clientOwner)
		n.must(err)
		p, err := bindings.ParsePayment(data)
		n.must(err)
		body, err := p.Rewrap(n.clientOwner)
		n.must(err)
		n.client.mu.Lock() // the wallet is the client's
		_, err = n.client.wallet.Send(ctx, []wallet.Message{{To: n.clientContract, Amount: clientValue, Bounce: true, Body: body}})
		n.client.mu.Unlock()
		n.must(err)
	}
	n.until("both refusals", func() bool {
		n.client.mu.Lock()
		defer n.client.mu.Unlock()
		return n.client.failures == 2
	})
	s, err := n.client.look(ctx, n.clientContract)
	n.must(err)
	if s.Balance != 4*ton || s.Tokens != oneCoin {
		t.Errorf("the channel has %v and %d tokens charged", s.Balance, s.Tokens)
	}

	// Closed is closed. A contract that refused something is left alone for a
	// while first.
	n.must(n.chain.Advance(afterFailure + time.Second))
	n.must(n.order(ctx, Order{Verb: OrderClose}))
	n.until("the close", func() bool {
		s, err := n.client.look(ctx, n.clientContract)
		n.must(err)
		return s.State == bindings.Closed
	})
	if err := n.order(ctx, Order{Verb: OrderTopUp, Amount: ton}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("deposit into a closed contract: %v", err)
	}
	if err := n.client.Register(ctx, n.proxyContract, n.clientContract, 78); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("registration with a closed contract: %v", err)
	}
}

// TestRefusedPayoutOnDevnet has a worker cash in more than the pool holds: it is
// not paid, the ledger does not say that it was, and once there is enough it is
// paid after all.
func TestRefusedPayoutOnDevnet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	n := newNetwork(t, ctx)
	const tokens = 7 * oneCoin // of the five that were deposited
	n.charge(1, tokens)
	workerConfig := n.config(workerOwner)
	data, err := bindings.SignPayment(n.signer, bindings.WorkerPayout, n.workerContract, tokens, 9, workerConfig.Wallet.Address())
	n.must(err)
	v, err := channel.View{}.Hear(channel.Report{Payment: &channel.SignedPayment{Tokens: tokens, Data: data}})
	n.must(err)
	wk, err := NewWorker(WorkerConfig{Config: workerConfig, Source: n.source, Views: memoryViews{n.workerContract: v}, Owner: workerOwner})
	n.must(err)
	n.must(wk.Track(ctx, n.proxyContract, n.workerContract))
	n.must(wk.Settle(ctx)) // which knows better than to ask
	if n.balance(n.workerContract) != 0 {
		t.Error("a payout was asked for that the pool cannot pay")
	}

	init, err := bindings.WorkerInit(n.snap, workerOwner, n.proxyContract, n.key)
	n.must(err)
	err = wk.perform(ctx, hasty{wk, data, init}, func(context.Context) (*Action, error) {
		return &Action{Kind: PayWorker, To: n.workerContract, Value: workerPayoutValue}, nil
	})
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), n.proxyContract.String()) {
		t.Errorf("a payout that the pool cannot pay: %v", err)
	}
	counter := func() uint64 {
		acc, err := n.realWorld.client.Account(ctx, n.workerContract)
		n.must(err)
		s, err := bindings.DecodeWorker(acc.Data)
		n.must(err)
		return s.Tokens
	}
	n.until("the counter to go back", func() bool { return counter() == 0 })
	acc, err := n.realWorld.client.Account(ctx, n.proxyContract)
	n.must(err)
	n.until("the ledger to have read it all", func() bool { return n.ledger.Position().LT >= acc.LastTxLT })
	if got := n.ledger.WorkerAccount(workerOwner).Paid; got != 0 || n.balance(workerOwner) != 0 {
		t.Errorf("the ledger says that %d tokens were paid; the worker has %v", got, n.balance(workerOwner))
	}

	n.must(n.chain.Faucet(ctx, n.proxyContract, 10*ton))
	n.must(wk.Settle(ctx))
	n.until("the payout in the ledger", func() bool { return n.ledger.WorkerAccount(workerOwner).Paid == tokens })
	if got := n.balance(workerOwner); !near(got, tokens*19) {
		t.Errorf("the worker has %v", got)
	}
}

// hasty is a worker that cashes in whatever the pool holds.
type hasty struct {
	*Worker
	payment, init []byte
}

func (h hasty) message(_ context.Context, a Action) (*wallet.Message, error) {
	return outgoing(a, h.payment, h.init), nil
}

// TestRetirementOnDevnet closes a proxy contract: refunds, last payouts, and
// after the delay the rest.
func TestRetirementOnDevnet(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	n := newNetwork(t, ctx)
	n.charge(1, oneCoin)
	before := n.balance(n.clientOwner)
	n.proxy.Retire()
	n.until("the last payout", func() bool { return n.ledger.WorkerAccount(workerOwner).Paid == oneCoin })
	n.until("the worker's money", func() bool { return near(n.balance(workerOwner), oneCoin*19) })
	n.until("the client's money", func() bool { return n.balance(n.clientOwner) > before+4*ton-ton/10 })
	if n.proxy.Finished() {
		t.Error("closed before the delay")
	}
	n.must(n.chain.Advance(601 * time.Second))
	n.until("the close", n.proxy.Finished)
	n.until("the owner's earnings", func() bool { return n.balance(proxyOwner) > oneCoin*1-ton/100 })
}

// TestSilentProxy lets the proxy die: the client gets its deposit in two steps,
// the second of them from the stake.
func TestSilentProxy(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	n := newNetwork(t, ctx)
	n.must(n.proxy.Do(ctx, Order{Verb: OrderStake, Amount: 2 * ton}))
	n.stopProxy()
	before := n.balance(n.clientOwner)
	n.must(n.order(ctx, Order{Verb: OrderClose}))
	storage := func() *bindings.ClientStorage {
		s, err := n.client.look(ctx, n.clientContract)
		n.must(err)
		return s
	}
	n.until("the first step", func() bool { return storage().State == bindings.Closing })
	n.must(n.chain.Advance(301 * time.Second))
	n.until("the second step", func() bool { return storage().State == bindings.Closed })
	n.until("the money", func() bool { return n.balance(n.clientOwner) > before+5*ton-ton/10 })
}
