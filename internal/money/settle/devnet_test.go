package settle

import (
	"context"
	"errors"
	"testing"
	"time"

	"crypto/ed25519"

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

// TestOnDevnet runs deposit, charge, payout, earnings, mark and refund with
// the real contracts on a real chain, from proven state alone.
func TestOnDevnet(t *testing.T) {
	w := newRealWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	proxyConfig, clientConfig, workerConfig := w.config(proxyOwner), w.config(addr(0xc1)), w.config(workerOwner)
	clientOwner := clientConfig.Wallet.Address()
	proxyContract, err := bindings.ProxyAddress(w.snap, w.key, proxyOwner)
	w.must(err)
	clientContract, err := bindings.ClientAddress(w.snap, clientOwner, proxyContract, w.key)
	w.must(err)
	workerContract, err := bindings.WorkerAddress(w.snap, workerOwner, proxyContract, w.key)
	w.must(err)

	l, err := ledger.Open(t.TempDir(), ledger.Config{Contract: proxyContract})
	w.must(err)
	running, stop := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	go func() { ended <- l.Run(running) }()
	p, err := NewProxy(ProxyConfig{Config: proxyConfig, Terms: w.snap, Ledger: l, Signer: w.signer, Key: w.key, Owner: proxyOwner, Contract: proxyContract})
	w.must(err)
	go func() { ended <- p.Run(running) }()
	c, err := NewClient(ClientConfig{Config: clientConfig, Policy: ClientPolicy{TopUp: 5 * ton, Budget: 5 * ton}, Source: w.source, Views: memoryViews{}, SecretHash: secret})
	w.must(err)
	go func() { ended <- c.Run(running) }()
	defer func() {
		stop()
		for range 3 {
			w.must(<-ended)
		}
		w.must(l.Close())
	}()

	w.until("the proxy's first mark", func() bool { return p.Ready() == nil })
	w.must(c.Register(ctx, proxyContract, clientContract, 77))
	w.must(p.AwaitRegistration(ctx, clientOwner, 77))
	w.until("the client's deposit and secret", func() bool {
		s, err := p.Client(clientOwner)
		return err == nil && s.Open && s.Balance == 5*ton && s.SecretHash == secret
	})

	const tokens = 50_000_000 // one coin
	w.must(l.Charge(ctx, ledger.Charge{RequestID: cocoon.RequestID{1}, Client: clientOwner, Worker: workerOwner, Tokens: tokens}))
	w.must(p.Settle(ctx))
	w.until("the payout", func() bool { return w.balance(workerOwner) > 0 })
	w.until("the earnings", func() bool { return w.balance(proxyOwner) > 0 })
	// Forwarding fees come off what arrives.
	if got, want := w.balance(workerOwner), coins.Nano(tokens*19); got > want || got < want-ton/100 {
		t.Errorf("the worker has %v of %v", got, want)
	}
	if got, want := w.balance(proxyOwner), coins.Nano(tokens*1); got > want || got < want-ton/100 {
		t.Errorf("the proxy's owner has %v of %v", got, want)
	}
	a := l.ClientAccount(clientOwner)
	if a.Contract.Charged != tokens || a.Contract.Balance != 4*ton || a.Counters.Committed != tokens || l.WorkerAccount(workerOwner).Paid != tokens {
		t.Errorf("the ledger says %+v, %+v", a, l.WorkerAccount(workerOwner))
	}

	// A second payment, cashed in by the worker itself.
	w.must(l.Charge(ctx, ledger.Charge{RequestID: cocoon.RequestID{2}, Client: clientOwner, Worker: workerOwner, Tokens: tokens}))
	data, err := bindings.SignPayment(w.signer, bindings.WorkerPayout, workerContract, 2*tokens, 9, proxyConfig.Wallet.Address())
	w.must(err)
	v, err := channel.View{}.Hear(channel.Report{Payment: &channel.SignedPayment{Tokens: 2 * tokens, Data: data}})
	w.must(err)
	wk, err := NewWorker(WorkerConfig{Config: workerConfig, Source: w.source, Views: memoryViews{workerContract: v}, Owner: workerOwner})
	w.must(err)
	w.must(wk.Settle(ctx))
	w.until("the second payout in the ledger", func() bool { return l.WorkerAccount(workerOwner).Paid == 2*tokens })

	// The client leaves; the proxy grants what is left after the last charge.
	before := w.balance(clientOwner)
	c.Leave(clientContract)
	w.until("the refund", func() bool {
		s, err := p.Client(clientOwner)
		return err == nil && !s.Open && s.Balance == 0 && s.Charged == 2*tokens
	})
	w.until("the money", func() bool { return w.balance(clientOwner) > before+3*ton-ton/10 })
}
