package settle

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

const ton = coins.PerCoin

func addr(b byte) cocoon.Address {
	var a cocoon.Address
	a.Hash[0] = b
	return a
}

// emptyCell stands for every code.
var emptyCell = []byte{0xb5, 0xee, 0x9c, 0x72, 0x01, 0x01, 0x01, 0x01, 0x00, 0x02, 0x00, 0x00, 0x00}

// world is a network with one proxy, one client and one worker.
type world struct {
	t      *testing.T
	chain  *memoryChain
	source *registry.Holder
	snap   *registry.Snapshot
	signer bindings.KeySigner
	key    [32]byte
	dir    string

	proxyWallet, clientWallet, workerWallet *memoryWallet

	proxyContract, clientContract, workerContract cocoon.Address
}

var (
	proxyOwner  = addr(0xa0)
	workerOwner = addr(0xa1)
	secret      = sha256.Sum256([]byte("secret"))
)

func newWorld(t *testing.T) *world {
	w := &world{t: t, chain: newChain(t), dir: t.TempDir(), signer: bindings.KeySigner(ed25519.NewKeyFromSeed(make([]byte, 32)))}
	w.key = [32]byte(ed25519.PrivateKey(w.signer).Public().(ed25519.PublicKey))
	w.snap = &registry.Snapshot{Root: addr(1), Version: 1, Time: time.Now(), Params: registry.Params{
		StructVersion: 3, ParamsVersion: 1, PricePerToken: 20, WorkerFeePerToken: 19,
		Multipliers:           pricing.Multipliers{Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000},
		ProxyDelayBeforeClose: 600, ClientDelayBeforeClose: 300, MinProxyStake: ton, MinClientStake: 2 * ton,
		ProxyCode: emptyCell, WorkerCode: emptyCell, ClientCode: emptyCell,
	}}
	w.source = registry.NewHolder(registry.HolderConfig{})
	w.must(w.source.Publish(w.snap))
	fund := func(b byte) *memoryWallet {
		m := &memoryWallet{chain: w.chain, addr: addr(b)}
		w.chain.account(m.addr).balance = 100 * ton
		return m
	}
	w.proxyWallet, w.clientWallet, w.workerWallet = fund(0xb0), fund(0xb1), fund(0xb2)
	w.proxyContract = w.address(bindings.ProxyAddress(w.snap, w.key, proxyOwner))
	w.clientContract = w.address(bindings.ClientAddress(w.snap, w.clientWallet.addr, w.proxyContract, w.key))
	w.workerContract = w.address(bindings.WorkerAddress(w.snap, workerOwner, w.proxyContract, w.key))
	params := w.snap.Params
	w.chain.births[w.proxyContract] = func() storage {
		return &bindings.ProxyStorage{Owner: proxyOwner, Key: w.key, Root: w.snap.Root, Params: params}
	}
	w.chain.births[w.clientContract] = func() storage {
		return &bindings.ClientStorage{Stake: params.MinClientStake, Owner: w.clientWallet.addr, Proxy: w.proxyContract, ProxyKey: w.key, Params: params}
	}
	w.chain.births[w.workerContract] = func() storage {
		return &bindings.WorkerStorage{Owner: workerOwner, Proxy: w.proxyContract, ProxyKey: w.key, Params: params}
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) address(a cocoon.Address, err error) cocoon.Address {
	w.t.Helper()
	w.must(err)
	return a
}

func (w *world) config(m *memoryWallet) Config {
	return Config{Chain: view{w.chain, m.addr}, Wallet: m, Every: time.Second}
}

// openLedger opens the ledger below dir and runs it until closed.
func (w *world) openLedger(dir string) (l *ledger.Ledger, closed func()) {
	w.t.Helper()
	l, err := ledger.Open(dir, ledger.Config{Contract: w.proxyContract})
	w.must(err)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	return l, func() {
		cancel()
		w.must(errors.Join(<-ended, l.Close()))
	}
}

func (w *world) proxy(l *ledger.Ledger, change func(*ProxyConfig)) *Proxy {
	w.t.Helper()
	c := ProxyConfig{Config: w.config(w.proxyWallet), Terms: w.snap, Ledger: l, Signer: w.signer, Key: w.key, Owner: proxyOwner, Contract: w.proxyContract}
	if change != nil {
		change(&c)
	}
	p, err := NewProxy(c)
	w.must(err)
	return p
}

func (w *world) client(views Views, policy ClientPolicy) *Client {
	w.t.Helper()
	c, err := NewClient(ClientConfig{Config: w.config(w.clientWallet), Policy: policy, Source: w.source, Views: views, SecretHash: func(cocoon.Address) [32]byte { return secret }})
	w.must(err)
	return c
}

// rounds lets a party act n times, a second apart.
func (w *world) rounds(a *agent, p party, n int) {
	w.t.Helper()
	for range n {
		if _, err := a.round(w.t.Context(), p); err != nil {
			w.t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
}

// memoryViews is what a party holds.
type memoryViews map[cocoon.Address]channel.View

var viewsMu sync.Mutex // of all memoryViews

func (m memoryViews) View(a cocoon.Address) channel.View {
	viewsMu.Lock()
	defer viewsMu.Unlock()
	return m[a]
}

func (m memoryViews) Know(_ context.Context, a cocoon.Address) error {
	viewsMu.Lock()
	defer viewsMu.Unlock()
	m[a] = m[a]
	return nil
}

func (m memoryViews) Contracts() []cocoon.Address {
	viewsMu.Lock()
	defer viewsMu.Unlock()
	return slices.Collect(maps.Keys(m))
}

// holding returns the views of a party that holds one signed payment.
func (w *world) holding(kind bindings.PaymentKind, contract cocoon.Address, tokens int64) memoryViews {
	w.t.Helper()
	data, err := bindings.SignPayment(w.signer, kind, contract, uint64(tokens), 1, w.proxyWallet.addr)
	w.must(err)
	v, err := channel.View{}.Hear(channel.Report{Payment: &channel.SignedPayment{Tokens: tokens, Data: data}})
	w.must(err)
	return memoryViews{contract: v}
}

func (w *world) clientStorage() *bindings.ClientStorage {
	return w.chain.account(w.clientContract).storage.(*bindings.ClientStorage)
}

func (w *world) proxyStorage() *bindings.ProxyStorage {
	return w.chain.account(w.proxyContract).storage.(*bindings.ProxyStorage)
}

// opened brings the network to where requests flow: proxy ready, client
// funded and registered.
func (w *world) opened(p *Proxy) {
	w.t.Helper()
	if err := p.Ready(); !errors.Is(err, ErrStarting) {
		w.t.Fatalf("before the start: %v", err)
	}
	w.rounds(p.agent, p, 6)
	w.must(p.Ready())
	c := w.client(memoryViews{}, ClientPolicy{TopUp: 5 * ton, Budget: 5 * ton})
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	w.must(c.Register(w.t.Context(), w.proxyContract, w.clientContract, 77))
	time.Sleep(10 * time.Second)
	cancel()
	w.must(<-ended)
	if s := w.clientStorage(); s.Balance != 5*ton || s.SecretHash != secret {
		w.t.Fatalf("client contract is %+v", s)
	}
	w.rounds(p.agent, p, 3)
	w.must(p.AwaitRegistration(w.t.Context(), w.clientWallet.addr, 77))
}

func (w *world) charge(l *ledger.Ledger, n byte, tokens int64) {
	w.t.Helper()
	w.must(l.Charge(w.t.Context(), ledger.Charge{RequestID: cocoon.RequestID{n}, Client: w.clientWallet.addr, Worker: workerOwner, Tokens: tokens}))
}

// TestSettlement runs the whole way of money: deposits, charges, payouts,
// earnings. In the end paid = kept + earned, and a second Settle does nothing.
func TestSettlement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		p := w.proxy(l, nil)
		w.opened(p)
		if _, err := p.Client(addr(9)); !errors.Is(err, ErrNotFound) {
			t.Errorf("a stranger's contract: %v", err)
		}
		if c, err := p.Client(w.clientWallet.addr); err != nil || !c.Open || c.Balance != 5*ton || c.SecretHash != secret {
			t.Errorf("the client's contract is %+v, %v", c, err)
		}
		w.charge(l, 1, 1_000_000)
		w.charge(l, 2, 500_000)
		w.must(p.Settle(t.Context()))
		w.rounds(p.agent, p, 2) // what the proxy contract pays is one hop behind
		const tokens = 1_500_000
		if s := w.clientStorage(); s.Tokens != tokens || s.Balance != 5*ton-tokens*20 {
			t.Errorf("client contract %+v", s)
		}
		if got := w.chain.account(workerOwner).balance; got != tokens*19 {
			t.Errorf("the worker has %v", got)
		}
		if got := w.chain.account(proxyOwner).balance; got != tokens*1 {
			t.Errorf("the proxy's owner has %v", got)
		}
		if a := l.ClientAccount(w.clientWallet.addr); a.Contract.Charged != tokens || a.Counters.Committed != tokens || l.WorkerAccount(workerOwner).Paid != tokens {
			t.Errorf("the ledger says %+v, %+v", a, l.WorkerAccount(workerOwner))
		}
		sent := w.proxyWallet.sent
		w.must(p.Settle(t.Context()))
		if n := w.proxyWallet.sent - sent; n != 0 {
			t.Errorf("%d messages were sent for nothing", n)
		}
	})
}

// TestNothingTwice keeps all messages on their way while rounds go on and
// while the process is started anew.
func TestNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		p := w.proxy(l, nil)
		w.opened(p)
		w.charge(l, 1, 1_000_000_000/20*2) // two coins: more than the policy's one
		w.rounds(p.agent, p, 1)
		w.chain.stuck = true
		w.rounds(p.agent, p, 20)
		again := w.proxy(l, nil)
		again.firstMark, again.marked = p.firstMark, p.marked // its mark is not the point here
		again.ready = nil
		w.rounds(again.agent, again, 20)
		charges := 0
		for _, m := range w.chain.pending {
			if m.Dest == w.clientContract {
				charges++
			}
		}
		if charges != 1 {
			t.Errorf("%d charges are on their way", charges)
		}
		w.chain.stuck = false
		w.rounds(again.agent, again, 5)
		if s := w.clientStorage(); s.Tokens != 100_000_000 {
			t.Errorf("charged %d", s.Tokens)
		}
	})
}

// TestRollback starts a proxy from an old copy of its ledger: it refuses to
// serve, and goes on refusing.
func TestRollback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		p := w.proxy(l, nil)
		w.opened(p)
		closed()
		old := t.TempDir()
		w.must(os.CopyFS(old, os.DirFS(w.dir)))

		l, closed = w.openLedger(w.dir)
		p = w.proxy(l, nil)
		w.rounds(p.agent, p, 5)
		w.must(p.Ready())
		w.charge(l, 1, 1000)
		w.must(p.Settle(t.Context()))
		closed()

		l, closed = w.openLedger(old)
		defer closed()
		p = w.proxy(l, nil)
		for range 3 {
			if _, err := p.round(t.Context(), p); !errors.Is(err, channel.ErrRollback) {
				t.Errorf("round: %v", err)
			}
		}
		if err := p.Ready(); !errors.Is(err, channel.ErrRollback) {
			t.Errorf("ready: %v", err)
		}
		if files, err := filepath.Glob(filepath.Join(old, "*", "journal.*")); err != nil || len(files) != 1 {
			t.Errorf("journal files %v, %v", files, err)
		}
	})
}

// TestRetirement closes a contract whose params are outdated: everybody gets
// what is his, and the owner the rest.
func TestRetirement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		w.opened(w.proxy(l, nil))
		before := w.chain.account(w.clientWallet.addr).balance
		w.charge(l, 1, 1_000_000)
		p := w.proxy(l, func(c *ProxyConfig) { c.Retire, c.Terms = true, nil })
		w.rounds(p.agent, p, 20)
		if s := w.proxyStorage(); s.State != bindings.Closing {
			t.Fatalf("proxy contract is %v", s.State)
		}
		if s := w.clientStorage(); s.State != bindings.Closed || s.Balance != 0 || s.Tokens != 1_000_000 {
			t.Errorf("client contract %+v", s)
		}
		if got := w.chain.account(w.clientWallet.addr).balance - before; got != 5*ton-20_000_000 {
			t.Errorf("the client got %v", got)
		}
		if got := w.chain.account(workerOwner).balance; got != 19_000_000 {
			t.Errorf("the worker got %v", got)
		}
		if err := p.Ready(); !errors.Is(err, ErrProxyClosed) {
			t.Errorf("ready: %v", err)
		}
		time.Sleep(600 * time.Second)
		w.rounds(p.agent, p, 5)
		if s := w.proxyStorage(); s.State != bindings.Closed || !p.Finished() {
			t.Errorf("proxy contract is %v, finished: %v", s.State, p.Finished())
		}
		if got := w.chain.account(proxyOwner).balance; got < 1_000_000 {
			t.Errorf("the owner got %v", got)
		}
	})
}

// TestPendingTopUp loses sight of a deposit on its way: it is not made twice.
func TestPendingTopUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		w.opened(w.proxy(l, nil))
		w.clientStorage().Balance = 0
		c := w.client(memoryViews{w.clientContract: {}}, ClientPolicy{TopUp: ton, Budget: ton})
		w.clientWallet.flaky = true
		if _, err := c.round(t.Context(), c); !errors.Is(err, wallet.ErrPending) {
			t.Errorf("a send of unknown fate: %v", err)
		}
		w.rounds(c.agent, c, 5)
		if s := w.clientStorage(); s.Balance != ton {
			t.Errorf("deposited %v", s.Balance)
		}
		// On command, the same: done once, or known to be not done.
		w.clientWallet.flaky = true
		w.must(c.Do(t.Context(), Order{Verb: OrderTopUp, Amount: ton}))
		w.clientWallet.flaky, w.clientWallet.expires = true, true
		if err := c.Do(t.Context(), Order{Verb: OrderTopUp, Amount: ton}); !errors.Is(err, wallet.ErrExpired) {
			t.Errorf("a deposit that expired: %v", err)
		}
		if s := w.clientStorage(); s.Balance != 2*ton {
			t.Errorf("deposited %v", s.Balance)
		}
		w.clientWallet.flaky, w.clientWallet.elsewhere = true, true
		w.must(c.Do(t.Context(), Order{Verb: OrderTopUp, Amount: ton}))
		w.clientWallet.flaky, w.clientWallet.elsewhere, w.clientWallet.expires = true, true, true
		if err := c.Do(t.Context(), Order{Verb: OrderTopUp, Amount: ton}); !errors.Is(err, wallet.ErrExpired) {
			t.Errorf("a deposit that expired in another process: %v", err)
		}
		if s := w.clientStorage(); s.Balance != 3*ton {
			t.Errorf("deposited %v", s.Balance)
		}
	})
}

// TestRetireNothing retires a contract that was never deployed.
func TestRetireNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		p := w.proxy(l, nil)
		p.Retire()
		w.rounds(p.agent, p, 1)
		if !p.Finished() || w.proxyWallet.sent != 0 {
			t.Errorf("finished: %v, %d messages", p.Finished(), w.proxyWallet.sent)
		}
	})
}

// TestBusyWallet starts with a wallet that has more transactions than can be
// read at once.
func TestBusyWallet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		for range 2000 {
			w.chain.transact(w.proxyWallet.addr, nil, 0, true, nil)
			w.chain.lt += 3_000_000
		}
		p := w.proxy(l, nil)
		w.opened(p)
	})
}

// TestHistory reads long histories in windows: nothing is left out, nothing
// comes twice, whatever the gaps.
func TestHistory(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	for round := range 40 {
		c := newChain(t)
		n := r.IntN(5 * access.MaxTransactions)
		at := addr(1)
		c.account(at)
		for range n {
			c.transact(at, nil, 0, true, nil)
			if c.lt -= 999_999; r.IntN(50) == 0 { // close together, now and then far apart
				c.lt += uint64(r.Int64N(1 << r.IntN(40)))
			}
		}
		acc, err := c.Account(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		since, all := uint64(0), c.accounts[at].txs
		if skip := r.IntN(n + 1); round%2 == 0 && skip > 0 {
			since, all = all[skip-1].LT, all[skip:]
		}
		seen := 0
		err = History(t.Context(), c, acc, since, func(tx access.Transaction) error {
			if seen >= len(all) || tx.LT != all[seen].LT {
				t.Fatalf("%d transactions: the %dth is of %d", n, seen, tx.LT)
			}
			seen++
			return nil
		})
		if err != nil || seen != len(all) {
			t.Fatalf("%d of %d transactions, %v", seen, len(all), err)
		}
	}
}

// TestFlood buries a wallet, and the contract it sends to, under messages of
// strangers: what was sent is still seen to arrive, and nothing is sent twice.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		w.opened(w.proxy(l, nil))
		flood := func(at cocoon.Address) {
			for range access.MaxTransactions + 10 {
				w.chain.transact(at, nil, 0, true, nil)
			}
		}
		c := w.client(memoryViews{w.clientContract: {}}, ClientPolicy{TopUp: ton, Budget: 100 * ton})
		w.clientStorage().Balance = 0
		w.chain.stuck = true
		w.rounds(c.agent, c, 3)
		if n := len(c.flying); n != 1 {
			t.Fatalf("%d messages are on their way", n)
		}
		sent := w.clientWallet.sent
		flood(w.clientWallet.addr)
		flood(w.clientContract)
		w.chain.stuck = false
		w.rounds(c.agent, c, 5)
		if len(c.flying) != 0 || w.clientWallet.sent != sent || w.clientStorage().Balance != ton {
			t.Errorf("%d messages are on their way, %d were sent, the contract has %v", len(c.flying), w.clientWallet.sent-sent, w.clientStorage().Balance)
		}
		// A process that starts in the midst of it.
		w.clientStorage().Balance = 0
		flood(w.clientWallet.addr)
		c = w.client(memoryViews{w.clientContract: {}}, ClientPolicy{TopUp: ton, Budget: 100 * ton})
		w.rounds(c.agent, c, 5)
		if w.clientStorage().Balance != ton {
			t.Errorf("after a restart the contract has %v", w.clientStorage().Balance)
		}
	})
}

// TestStrangers lets others send what only the derived contracts may say.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		p := w.proxy(l, nil)
		w.opened(p)
		want := l.ClientAccount(w.clientWallet.addr)
		for _, m := range []bindings.Message{
			&bindings.ClientRequest{Owner: w.clientWallet.addr, Balance: 1000 * ton, Stake: 1000 * ton, Payload: &bindings.ClientPayload{Kind: bindings.PayloadRegister, Nonce: 5}},
			&bindings.WorkerRequest{Owner: workerOwner, Tokens: 99},
			&bindings.SaveState{Seqno: 1000},
		} {
			forged := post(w.proxyContract, 1, m)
			forged.Source = addr(0xee)
			w.chain.deliver(forged)
		}
		w.rounds(p.agent, p, 3)
		w.must(p.Ready())
		if got := l.ClientAccount(w.clientWallet.addr); got != want {
			t.Errorf("a stranger changed the client's account: %+v", got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.AwaitRegistration(ctx, w.clientWallet.addr, 5); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a stranger registered: %v", err)
		}
	})
}

// TestRefusedAction checks that a contract that refuses is left alone for a
// while and that Settle says so.
func TestRefusedAction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		p := w.proxy(l, nil)
		w.opened(p)
		w.charge(l, 1, 1_000_000)
		w.clientStorage().Tokens = 5_000_000 // out of reach, and the ledger was not told
		if err := p.Settle(t.Context()); !errors.Is(err, ErrRefused) {
			t.Errorf("Settle: %v", err)
		}
		sent := w.proxyWallet.sent
		w.rounds(p.agent, hurried{p}, 20)
		if n := w.proxyWallet.sent - sent; n != 0 {
			t.Errorf("%d more attempts", n)
		}
	})
}

func TestWorkerCashesIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		w.opened(w.proxy(l, nil))
		views := w.holding(bindings.WorkerPayout, w.workerContract, 1_000_000)
		wk, err := NewWorker(WorkerConfig{Config: w.config(w.workerWallet), Source: w.source, Views: views, Owner: workerOwner})
		w.must(err)
		w.must(wk.Settle(t.Context()))
		if n := w.workerWallet.sent; n != 0 {
			t.Errorf("%d messages to a contract that nobody named", n)
		}
		w.must(wk.Track(t.Context(), w.proxyContract, w.workerContract))
		w.rounds(wk.agent, wk, 3)
		if n := w.workerWallet.sent; n != 0 {
			t.Errorf("%d messages below the policy's amount", n)
		}
		w.must(wk.Settle(t.Context()))
		w.rounds(wk.agent, wk, 2) // the money is one hop behind
		if got := w.chain.account(workerOwner).balance; got != 19_000_000 || w.workerWallet.sent != 1 {
			t.Errorf("the worker has %v after %d messages", got, w.workerWallet.sent)
		}
	})
}

// TestUnreadableContract puts a contract that cannot be read beside a good
// one, which must be served all the same.
func TestUnreadableContract(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		w.opened(w.proxy(l, nil))
		views := w.holding(bindings.ClientCharge, w.clientContract, 10_000_000)
		views[addr(0x77)] = channel.View{}
		w.chain.account(addr(0x77)).storage = &bindings.WalletStorage{}
		c := w.client(views, ClientPolicy{})
		if _, err := c.round(t.Context(), hurriedClient{c}); err != nil {
			t.Error(err)
		}
		if len(w.chain.pending) == 0 || w.chain.pending[0].Dest != w.clientContract {
			t.Error("the good contract was not charged")
		}
		if err := c.Settle(t.Context()); !errors.Is(err, bindings.ErrMalformed) {
			t.Errorf("with nothing else to do: %v", err)
		}
	})
}

func TestClientChargesAndLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		w.opened(w.proxy(l, nil))
		c := w.client(w.holding(bindings.ClientCharge, w.clientContract, 10_000_000), ClientPolicy{})
		w.must(c.Settle(t.Context()))
		if s := w.clientStorage(); s.Tokens != 10_000_000 || s.Balance != 5*ton-200_000_000 {
			t.Errorf("client contract %+v", s)
		}
		w.proxyStorage().Stake = 10 * ton
		w.rounds(c.agent, c, 3) // the excess comes back
		before := w.chain.account(w.clientWallet.addr).balance
		w.must(c.Do(t.Context(), Order{Verb: OrderClose}))
		w.rounds(c.agent, c, 5)
		if s := w.clientStorage(); s.State != bindings.Closing || s.Balance != 2*ton {
			t.Errorf("client contract %+v", s)
		}
		time.Sleep(301 * time.Second)
		w.rounds(c.agent, c, 5)
		if s := w.clientStorage(); s.State != bindings.Closed {
			t.Errorf("client contract %+v", s)
		}
		if got := w.chain.account(w.clientWallet.addr).balance - before; got != 5*ton-200_000_000 {
			t.Errorf("the client got %v back", got)
		}
	})
}

// TestOnDemand are the commands of people.
func TestOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		p := w.proxy(l, func(c *ProxyConfig) { c.Policy.Stake = 3 * ton })
		w.opened(p)
		if got := w.proxyStorage().Stake; got != 3*ton {
			t.Errorf("the proxy's stake is %v", got)
		}
		c := w.client(memoryViews{}, ClientPolicy{})
		ctx := t.Context()
		do := func(verb Verb, amount coins.Nano, force bool) error {
			return c.Do(ctx, Order{Verb: verb, Contract: w.clientContract, Amount: amount, Force: force})
		}
		w.must(do(OrderTopUp, ton, false))
		if s := w.clientStorage(); s.Balance != 6*ton {
			t.Errorf("topped up to %v", s.Balance)
		}
		w.must(do(OrderStake, 3*ton, false))
		w.must(do(OrderWithdraw, 0, false))
		if s := w.clientStorage(); s.Balance != 3*ton || s.Stake != 3*ton {
			t.Errorf("after the withdrawal %+v", s)
		}
		sent := w.clientWallet.sent
		for name, err := range map[string]error{
			"nothing above the stake": do(OrderWithdraw, 0, false),
			"no larger stake":         do(OrderStake, 3*ton, false),
			"another's contract": func() error {
				w.clientStorage().Owner = addr(9)
				defer func() { w.clientStorage().Owner = w.clientWallet.addr }()
				return do(OrderTopUp, ton, false)
			}(),
			"not found":      c.Do(ctx, Order{Verb: OrderTopUp, Contract: addr(9), Amount: ton}),
			"endless amount": do(OrderTopUp, ^coins.Nano(0), false),
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		w.proxyStorage().State = bindings.Closing
		if err := do(OrderTopUp, ton, false); !errors.Is(err, ErrProxyClosed) {
			t.Errorf("top-up at a closing proxy: %v", err)
		}
		w.proxyStorage().State = bindings.Open
		if w.clientWallet.sent != sent {
			t.Error("what makes no sense was sent")
		}
	})
}

// early is views that must be told of a contract before anything is sent.
type early struct {
	memoryViews
	wallet *memoryWallet
	t      *testing.T
}

func (e early) Know(ctx context.Context, a cocoon.Address) error {
	if e.wallet.sent > 0 {
		e.t.Error("something was sent to a contract that was not remembered")
	}
	return e.memoryViews.Know(ctx, a)
}

// TestForgetsNoDeposit starts a client anew right after its first deposit, of
// which no proxy has told it anything: it knows the contract with its money.
func TestForgetsNoDeposit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		p := w.proxy(l, nil)
		w.rounds(p.agent, p, 6)
		views := memoryViews{}
		c := w.client(early{views, w.clientWallet, t}, ClientPolicy{TopUp: 5 * ton, Budget: 5 * ton})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		w.must(c.Register(ctx, w.proxyContract, w.clientContract, 77))
		cancel()
		w.must(<-ended)
		list, err := w.client(views, ClientPolicy{}).Channels(t.Context())
		w.must(err)
		if len(list) != 1 || list[0].Contract != w.clientContract || list[0].Balance != 5*ton || list[0].Recoverable != 3*ton {
			t.Errorf("known after the restart: %+v", list)
		}
	})
}

// TestForce takes the way out of a proxy that is gone, order by order: nothing
// is sent before its time, nothing is lost without a word, nothing twice.
func TestForce(t *testing.T) {
	for name, tt := range map[string]struct {
		stake coins.Nano
		state bindings.State // of the proxy contract
		pays  bool           // after its close
		pool  coins.Nano     // 0 = as it is
		force bool
		back  coins.Nano // by the second step
		text  string     // why there is none
	}{
		"covered":                 {stake: 2 * ton, back: 2 * ton},
		"not covered":             {stake: ton, text: "give up 1 GRAM with --force"},
		"not covered, given up":   {stake: ton, force: true, back: ton},
		"no stake":                {text: "covers 0 GRAM of 2 GRAM"},
		"closed, the pool pays":   {state: bindings.Closed, pays: true, back: 2 * ton},
		"closed, nothing is left": {state: bindings.Closed, text: "refunds nothing any more"},
		"the pool is too small":   {stake: 2 * ton, pool: ton, text: "holds 1 GRAM and cannot pay 2 GRAM"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				l, closed := w.openLedger(w.dir)
				defer closed()
				w.opened(w.proxy(l, nil))
				c := w.client(memoryViews{w.clientContract: {}}, ClientPolicy{})
				if tt.pays {
					code, err := bindings.Hash(emptyCell)
					w.must(err)
					c.cfg.PoolCodes = [][32]byte{code}
				}
				w.proxyStorage().Stake = tt.stake
				w.chain.account(w.proxyContract).balance += tt.stake
				ctx, o := t.Context(), Order{Verb: OrderClose, Force: tt.force}
				plan := func() (Plan, error) { return c.Plan(ctx, o) }

				p, err := plan()
				w.must(err)
				if len(p.Actions) != 1 || len(p.Notes) < 3 || !strings.Contains(p.Notes[0], "3 GRAM above the stake come back at once, the other 2 GRAM") || !strings.Contains(p.Notes[1], "5m0s later") {
					t.Fatalf("first step: %+v", p)
				}
				w.must(c.Do(ctx, o))
				if s := w.clientStorage(); s.State != bindings.Closing || s.Balance != 2*ton {
					t.Fatalf("after the first step %+v", s)
				}
				sent := w.clientWallet.sent
				p, err = plan()
				w.must(err)
				if len(p.Actions) != 0 || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "closing already") {
					t.Errorf("before the time has come: %+v", p)
				}
				w.must(c.Do(ctx, o)) // nothing is to be done
				if w.clientWallet.sent != sent {
					t.Error("something was sent before its time")
				}

				time.Sleep(301 * time.Second)
				w.proxyStorage().State = tt.state
				if tt.pool != 0 {
					w.chain.account(w.proxyContract).balance = tt.pool
				}
				p, err = plan()
				if tt.text != "" {
					if err == nil || !strings.Contains(err.Error(), tt.text) {
						t.Errorf("%+v, %v; want %q", p, err, tt.text)
					}
					if err := c.Do(ctx, o); err == nil || w.clientWallet.sent != sent {
						t.Errorf("it was sent in spite of it: %v", err)
					}
					return
				}
				w.must(err)
				if len(p.Actions) != 1 || p.Actions[0].Amount != tt.back {
					t.Errorf("second step: %+v", p)
				}
				w.rounds(c.agent, &errand{party: c, agent: c.agent, sent: true}, 3) // all the gas is back
				before := w.chain.account(w.clientWallet.addr).balance
				w.must(c.Do(ctx, o))
				if s := w.clientStorage(); s.State != bindings.Closed {
					t.Errorf("after the second step %+v", s)
				}
				w.rounds(c.agent, c, 3)
				if got := w.chain.account(w.clientWallet.addr).balance - before; got != tt.back {
					t.Errorf("%v came back, want %v", got, tt.back)
				}
				if err := c.Do(ctx, o); err == nil {
					t.Error("a closed contract was closed")
				}
			})
		})
	}
}

// TestRefusedByTheProxy lets the proxy contract refuse what the client contract
// took: the order fails and says why, and what is sent by itself is tried less
// and less often, as each attempt costs gas.
func TestRefusedByTheProxy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		w.opened(w.proxy(l, nil))
		w.chain.refuse = 5
		c := w.client(memoryViews{w.clientContract: {}}, ClientPolicy{TopUp: ton, Budget: 100 * ton})
		err := c.Do(t.Context(), Order{Verb: OrderWithdraw})
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "contract "+w.proxyContract.String()+": a number is out of range") {
			t.Errorf("withdrawal: %v", err)
		}
		w.clientStorage().Balance = 0
		attempts := func(d time.Duration) (n int) {
			before := w.clientWallet.sent
			for end := time.Now().Add(d); time.Now().Before(end); {
				fresh := *w.snap
				fresh.Seqno, fresh.Time = uint32(time.Now().Unix()), time.Now()
				w.must(w.source.Publish(&fresh))
				w.rounds(c.agent, c, 1)
				time.Sleep(30 * time.Second)
				w.clientStorage().Balance = 0 // it was not credited
			}
			return w.clientWallet.sent - before
		}
		if n := attempts(time.Hour); n < 1 || n > 3 {
			t.Errorf("%d top-ups in an hour", n)
		}
		if n := attempts(24 * time.Hour); n < 1 || n > 6 {
			t.Errorf("%d top-ups in a day", n)
		}
		w.chain.refuse = 0
		w.must(c.Do(t.Context(), Order{Verb: OrderTopUp, Amount: 3 * ton})) // whoever asks is not kept waiting
		if len(c.failed) != 0 {
			t.Errorf("a contract that takes orders again is left alone: %v", c.failed)
		}
	})
}

// TestRestarts starts the proxy anew at random moments, with messages at
// random stages of their way, while charges come in. In the end every token
// was charged and paid once, and no contract ever had to refuse anything.
func TestRestarts(t *testing.T) {
	for seed := range uint64(8) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			l, closed := w.openLedger(w.dir)
			tiny := func(c *ProxyConfig) {
				c.Policy = ProxyPolicy{Charge: 1, Payout: 1, Withdraw: 1, MarkEvery: 3 * time.Second}
			}
			p := w.proxy(l, tiny)
			w.opened(p)
			var used int64
			for n := range 120 {
				switch r.IntN(6) {
				case 0:
					closed()
					l, closed = w.openLedger(w.dir)
					p = w.proxy(l, tiny)
				case 1:
					if w.chain.stuck = !w.chain.stuck; w.chain.stuck {
						w.proxyWallet.flaky = true
					}
				case 2:
					tokens := r.Int64N(1000)
					used += tokens
					w.charge(l, byte(n), tokens)
				default:
					if _, err := p.round(t.Context(), p); err != nil && !errors.Is(err, wallet.ErrPending) {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
				}
			}
			w.chain.stuck, w.proxyWallet.flaky = false, false
			w.must(p.Settle(t.Context()))
			w.rounds(p.agent, p, 3)
			if s := w.clientStorage(); int64(s.Tokens) != used || s.Balance != 5*ton-coins.Nano(used)*20 {
				t.Errorf("seed %d: charged %d of %d", seed, s.Tokens, used)
			}
			if got := w.chain.account(workerOwner).balance; got != coins.Nano(used)*19 {
				t.Errorf("seed %d: the worker has %v", seed, got)
			}
			if got := w.chain.account(proxyOwner).balance; got != coins.Nano(used) {
				t.Errorf("seed %d: the owner has %v", seed, got)
			}
			for a, acc := range w.chain.accounts {
				for _, tx := range acc.txs {
					if tx.ExitCode != 0 {
						t.Errorf("seed %d: %v refused something: %d", seed, a, tx.ExitCode)
					}
				}
			}
			closed()
		})
	}
}

func TestEmptyWallet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		l, closed := w.openLedger(w.dir)
		defer closed()
		w.chain.account(w.proxyWallet.addr).balance = 0
		p := w.proxy(l, nil)
		if err := p.Settle(t.Context()); err == nil || w.proxyWallet.sent != 0 {
			t.Errorf("settled from an empty wallet: %v", err)
		}
	})
}

func TestRequiredFields(t *testing.T) {
	if _, err := NewProxy(ProxyConfig{}); err == nil {
		t.Error("a proxy without anything")
	}
	if _, err := NewClient(ClientConfig{}); err == nil {
		t.Error("a client without anything")
	}
	if _, err := NewWorker(WorkerConfig{}); err == nil {
		t.Error("a worker without anything")
	}
}

func kinds(actions []Action) (out []Kind) {
	for _, a := range actions {
		out = append(out, a.Kind)
	}
	return out
}

func TestPlanProxy(t *testing.T) {
	params := registry.Params{PricePerToken: 20, WorkerFeePerToken: 19}
	now := time.Unix(1750000000, 0)
	used := func(n int64) channel.Counters { return channel.Counters{Used: n, Durable: n, Committed: n} }
	const coin = 50_000_000 // tokens that cost a coin
	base := func() ProxyState {
		return ProxyState{Now: now, Policy: ProxyPolicy{}.withDefaults(), Storage: &bindings.ProxyStorage{Params: params}, Pool: 100 * ton}
	}
	for name, c := range map[string]struct {
		change func(*ProxyState)
		want   []Kind
	}{
		"not deployed":            {func(s *ProxyState) { s.Storage = nil }, []Kind{Deploy}},
		"not deployed, to retire": {func(s *ProxyState) { s.Storage, s.Retire = nil, true }, nil},
		"nothing due":             {func(*ProxyState) {}, nil},
		"mark":                    {func(s *ProxyState) { s.MarkNeeded, s.MarkAge = true, time.Minute }, []Kind{Mark}},
		"mark too soon":           {func(s *ProxyState) { s.MarkNeeded, s.MarkAge = true, time.Second }, nil},
		"charge": {func(s *ProxyState) {
			s.Clients = []ClientDue{{Counters: used(coin), Chain: channel.ClientContract{Open: true, Balance: 1}}}
		}, []Kind{Charge}},
		"charge below the policy": {func(s *ProxyState) {
			s.Clients = []ClientDue{{Counters: used(coin - 1), Chain: channel.ClientContract{Open: true, Balance: 1}}}
		}, nil},
		"closing client": {func(s *ProxyState) {
			s.Clients = []ClientDue{{Counters: used(1), Chain: channel.ClientContract{Balance: 1}, Idle: true}}
		}, []Kind{GrantRefund}},
		"closing client with requests": {func(s *ProxyState) {
			s.Clients = []ClientDue{{Counters: used(1), Chain: channel.ClientContract{Balance: 1}}}
		}, nil},
		"closed client": {func(s *ProxyState) {
			s.Clients = []ClientDue{{Counters: used(1), Idle: true, Chain: channel.ClientContract{Charged: 1}}}
		}, nil},
		"payout":                  {func(s *ProxyState) { s.Workers = []WorkerDue{{Counters: used(11 * coin)}} }, []Kind{PayWorker}},
		"payout below the policy": {func(s *ProxyState) { s.Workers = []WorkerDue{{Counters: used(10 * coin)}} }, nil},
		"payout not committed": {func(s *ProxyState) {
			s.Workers = []WorkerDue{{Counters: channel.Counters{Used: 11 * coin, Durable: 11 * coin}}}
		}, nil},
		"pool too small": {func(s *ProxyState) { s.Pool, s.Workers = ton, []WorkerDue{{Counters: used(11 * coin)}} }, nil},
		"pool for one": {func(s *ProxyState) {
			s.Pool, s.Workers = 11*ton, []WorkerDue{{Counters: used(11 * coin)}, {Counters: used(11 * coin)}}
		}, []Kind{PayWorker}},
		"earnings": {func(s *ProxyState) { s.Storage.Earnings = 10 * ton }, []Kind{WithdrawEarnings}},
		"retire":   {func(s *ProxyState) { s.Retire = true }, []Kind{CloseProxy}},
		"retire: wait": {func(s *ProxyState) {
			s.Retire = true
			s.Storage.State, s.Storage.UnlockAt = bindings.Closing, uint32(now.Unix())
		}, nil},
		"retire: complete": {func(s *ProxyState) { s.Retire = true; s.Storage.State = bindings.Closing }, []Kind{CompleteClose}},
		"retire: done":     {func(s *ProxyState) { s.Retire = true; s.Storage.State = bindings.Closed }, nil},
		"closed by its owner": {func(s *ProxyState) {
			s.Storage.State = bindings.Closing
			s.Clients = []ClientDue{{Idle: true, Chain: channel.ClientContract{Open: true}}}
		}, []Kind{GrantRefund}},
		"retire: busy client": {func(s *ProxyState) {
			s.Retire = true
			s.Storage.State = bindings.Closing
			s.Clients = []ClientDue{{Chain: channel.ClientContract{Open: true}}}
		}, nil},
		"retire: clients first": {func(s *ProxyState) {
			s.Retire = true
			s.Storage.State = bindings.Closing
			s.Workers = []WorkerDue{{Counters: used(1)}}
			s.Clients = []ClientDue{{Idle: true, Chain: channel.ClientContract{Open: true}}}
		}, []Kind{GrantRefund}},
		"retire: workers": {func(s *ProxyState) {
			s.Retire = true
			s.Storage.State = bindings.Closing
			s.Workers = []WorkerDue{{Counters: used(1)}}
		}, []Kind{LastPayout}},
		"retire: pool is missing": {func(s *ProxyState) {
			s.Retire, s.Pool = true, 0
			s.Storage.State = bindings.Closing
			s.Workers = []WorkerDue{{Counters: used(1)}}
		}, nil},
	} {
		s := base()
		c.change(&s)
		if got := kinds(PlanProxy(s)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestPlanClient(t *testing.T) {
	now := time.Unix(1750000000, 0)
	base := func() ClientState {
		return ClientState{
			Now: now, Policy: ClientPolicy{Budget: 10 * ton}, Proxy: &bindings.ProxyStorage{}, SecretHash: secret,
			Storage: &bindings.ClientStorage{Balance: 2 * ton, Stake: 2 * ton, SecretHash: secret, Params: registry.Params{PricePerToken: 20, ProxyDelayBeforeClose: 600, ClientDelayBeforeClose: 300}},
		}
	}
	closing := func(s *ClientState, ago time.Duration) {
		s.Storage.State, s.Storage.UnlockAt = bindings.Closing, uint32(now.Add(-ago).Unix())
	}
	for name, c := range map[string]struct {
		change func(*ClientState)
		want   []Kind
	}{
		"nothing to do":               {func(*ClientState) {}, nil},
		"not deployed, not wanted":    {func(s *ClientState) { s.Storage = nil }, nil},
		"wanted":                      {func(s *ClientState) { s.Storage, s.Wanted = nil, true }, []Kind{Deploy}},
		"wanted without a budget":     {func(s *ClientState) { s.Storage, s.Wanted, s.Policy.Budget = nil, true, 0 }, nil},
		"wanted by no proxy":          {func(s *ClientState) { s.Storage, s.Wanted, s.Proxy = nil, true, nil }, nil},
		"secret":                      {func(s *ClientState) { s.SecretHash[0]++ }, []Kind{ChangeSecret}},
		"low balance":                 {func(s *ClientState) { s.Storage.Balance = ton - 1 }, []Kind{TopUp}},
		"low balance, budget is used": {func(s *ClientState) { s.Storage.Balance, s.Storage.Tokens = ton-1, 500_000_000 }, nil},
		"low balance, proxy closed":   {func(s *ClientState) { s.Storage.Balance, s.Proxy.State = ton-1, bindings.Closed }, nil},
		"charge":                      {func(s *ClientState) { s.Signed = 50_000_001 }, []Kind{Charge}},
		"small charge":                {func(s *ClientState) { s.Signed = 50_000_000 }, nil},
		"small charge now":            {func(s *ClientState) { s.Signed, s.Settle = 1, true }, []Kind{Charge}},
		"no charge now":               {func(s *ClientState) { s.Signed, s.Settle, s.Storage.Tokens = 1, true, 1 }, nil},
		"proxy closes":                {func(s *ClientState) { s.Proxy.State = bindings.Closing }, []Kind{RequestRefund}},
		"outdated":                    {func(s *ClientState) { s.OutdatedSince = now.Add(-149 * time.Second) }, nil},
		"outdated for long":           {func(s *ClientState) { s.OutdatedSince = now.Add(-150 * time.Second) }, []Kind{RequestRefund}},
		"closing":                     {func(s *ClientState) { closing(s, 0); s.Proxy.Stake = 2 * ton }, nil},
		"unlocked, stake covers":      {func(s *ClientState) { closing(s, time.Second); s.Proxy.Stake = 2 * ton }, []Kind{RequestRefund}},
		"unlocked, stake is short":    {func(s *ClientState) { closing(s, time.Hour); s.Proxy.Stake = ton }, nil},
		"short, proxy may go":         {func(s *ClientState) { closing(s, time.Hour); s.Proxy.Stake = ton; s.Proxy.State = bindings.Closing }, []Kind{RequestRefund}},
		"short, proxy stays yet": {func(s *ClientState) {
			closing(s, time.Hour)
			s.Proxy.Stake = ton
			s.Proxy.State, s.Proxy.UnlockAt = bindings.Closing, uint32(now.Unix())
		}, nil},
		"short, the pool will pay": {func(s *ClientState) {
			closing(s, time.Hour)
			s.Proxy.Stake = ton
			s.Proxy.State = bindings.Closing
			s.PoolPays = true
		}, nil},
		"no stake, proxy may go":   {func(s *ClientState) { closing(s, time.Hour); s.Proxy.State = bindings.Closing }, nil},
		"proxy is gone":            {func(s *ClientState) { closing(s, time.Hour); s.Proxy.State = bindings.Closed }, nil},
		"proxy is gone, pool pays": {func(s *ClientState) { closing(s, time.Hour); s.Proxy.State, s.PoolPays = bindings.Closed, true }, []Kind{RequestRefund}},
		"closed":                   {func(s *ClientState) { s.Storage.State = bindings.Closed }, nil},
	} {
		s := base()
		c.change(&s)
		if got := kinds(PlanClient(s)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	s := base()
	s.Storage.Balance, s.Policy = 19, ClientPolicy{TopUp: 99, Budget: 110}
	if got := PlanClient(s); len(got) != 1 || got[0].Amount != 80 || got[0].Value != clientValue+80 {
		t.Errorf("a top-up within the budget, in whole tokens: %+v", got)
	}
}

func TestPlanWorker(t *testing.T) {
	now := time.Unix(1750000000, 0)
	base := func() WorkerState {
		return WorkerState{
			Now: now, Policy: WorkerPolicy{Payout: 10 * ton, Last: ton / 10}, Pool: 100 * ton, Storage: &bindings.WorkerStorage{},
			Proxy: &bindings.ProxyStorage{Params: registry.Params{PricePerToken: 20, WorkerFeePerToken: 20, ClientDelayBeforeClose: 300}},
		}
	}
	for name, c := range map[string]struct {
		change func(*WorkerState)
		want   []Kind
	}{
		"nothing signed":     {func(*WorkerState) {}, nil},
		"enough":             {func(s *WorkerState) { s.Signed = 500_000_000 }, []Kind{PayWorker}},
		"not deployed":       {func(s *WorkerState) { s.Signed, s.Storage = 500_000_000, nil }, []Kind{PayWorker}},
		"not enough":         {func(s *WorkerState) { s.Signed = 499_999_999 }, nil},
		"paid already":       {func(s *WorkerState) { s.Signed, s.Storage.Tokens = 500_000_000, 1 }, nil},
		"unknown proxy":      {func(s *WorkerState) { s.Signed, s.Proxy = 500_000_000, nil }, nil},
		"closed proxy":       {func(s *WorkerState) { s.Signed, s.Proxy.State = 500_000_000, bindings.Closed }, nil},
		"closed":             {func(s *WorkerState) { s.Signed, s.Storage.State = 500_000_000, bindings.Closed }, nil},
		"pool too small":     {func(s *WorkerState) { s.Signed, s.Pool = 500_000_000, 10*ton }, nil},
		"outdated":           {func(s *WorkerState) { s.Signed, s.OutdatedSince = 5_000_000, now.Add(-149*time.Second) }, nil},
		"outdated for long":  {func(s *WorkerState) { s.Signed, s.OutdatedSince = 5_000_000, now.Add(-150*time.Second) }, []Kind{PayWorker}},
		"outdated, a trifle": {func(s *WorkerState) { s.Signed, s.OutdatedSince = 4_999_999, now.Add(-150*time.Second) }, nil},
	} {
		s := base()
		c.change(&s)
		if got := kinds(PlanWorker(s)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestActionText(t *testing.T) {
	if got := (Action{Kind: TopUp, To: addr(1), Amount: ton}).String(); !bytes.Contains([]byte(got), []byte("top up of 1 GRAM at ")) {
		t.Error(got)
	}
}
