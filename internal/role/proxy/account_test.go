package proxy

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// testBooks is a ledger and a chain in memory.
type testBooks struct {
	mu       sync.Mutex
	used     map[cocoon.Address]int64
	contract channel.ClientContract
	absent   bool
}

func (b *testBooks) Charge(_ context.Context, client, worker cocoon.Address, _ cocoon.RequestID, tokens int64, _ string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used[client] += tokens
	b.used[worker] += tokens
	return nil
}

func (b *testBooks) counters(owner cocoon.Address) channel.Counters {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.used[owner]
	return channel.Counters{Used: n, Durable: n}
}

func (b *testBooks) Worker(owner cocoon.Address) channel.Counters { return b.counters(owner) }
func (b *testBooks) Totals() (channel.Counters, int64)            { return channel.Counters{}, 0 }

// testLedger and testChain are the two faces of testBooks.
type testLedger struct{ *testBooks }

func (l testLedger) Client(owner cocoon.Address) channel.Counters { return l.counters(owner) }

type testChain struct{ *testBooks }

func (c testChain) Client(cocoon.Address) (channel.ClientContract, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.absent {
		return channel.ClientContract{}, ErrNoContract
	}
	return c.contract, nil
}

func (c testChain) AwaitRegistration(context.Context, cocoon.Address, int64) error { return nil }

func testProxy(t *testing.T, balance, stake coins.Nano) (*Proxy, *testBooks, *instance) {
	t.Helper()
	b := &testBooks{used: map[cocoon.Address]int64{}, contract: channel.ClientContract{Open: true, Balance: balance, Stake: stake}}
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	p := &Proxy{
		cfg: Config{Ledger: testLedger{b}, Contracts: testChain{b}, Signer: bindings.KeySigner(key), PublicKey: [32]byte(key.Public().(ed25519.PublicKey))},
		log: slog.New(slog.DiscardHandler), pool: newPool(), accounts: map[cocoon.Address]*account{}, signed: map[signedKey]signedPayment{},
	}
	snap := &registry.Snapshot{}
	snap.Params.PricePerToken = 10
	return p, b, &instance{snap: snap, contract: cocoon.Address{Hash: [32]byte{9}}}
}

var testOwner, testContract = cocoon.Address{Hash: [32]byte{1}}, cocoon.Address{Hash: [32]byte{2}}

// TestReserveRefusals: codes and texts of spec network-protocol 6.
func TestReserveRefusals(t *testing.T) {
	p, b, i := testProxy(t, 1000, 1000) // 100 tokens
	for _, c := range []struct {
		name   string
		before func()
		tokens int64
		code   wire.Code
		text   string
	}{
		{"more than there is", func() {}, 101, wire.CodeError, "client balance is too low: to_reserve=101 tokens_payed=100 tokens_used=0 tokens_reserved=0 tokens_stake=100"},
		{"closing", func() { b.contract.Open = false; b.contract.Balance = 1001 }, 1, wire.CodeNotReady, "client is closing"},
		{"no contract", func() { b.absent = true }, 1, wire.CodeError, "client balance is too low: no client contract"},
		{"the chain knows more", func() { b.absent = false; b.contract.Charged = 5 }, 1, wire.CodeNotReady, "the proxy cannot keep this client's account"},
	} {
		c.before()
		if _, err := p.reserve(i, testOwner, testContract, c.tokens); err == nil || err.Code != c.code || err.Text != c.text {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestReservations: however requests begin and end side by side, what is
// reserved and used never exceeds the deposit, and in the end nothing is lost.
func TestReservations(t *testing.T) {
	const deposit = 5000 // tokens
	p, b, i := testProxy(t, deposit*10, deposit*10)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for range 300 {
				want := r.Int64N(200)
				a, err := p.reserve(i, testOwner, testContract, want)
				if err != nil {
					continue
				}
				used := r.Int64N(want + 1)
				if r.IntN(3) == 0 {
					used = 0 // failed
				}
				if err := p.cfg.Ledger.Charge(t.Context(), testOwner, cocoon.Address{Hash: [32]byte{3}}, cocoon.RequestID{}, used, ""); err != nil {
					t.Error(err)
				}
				a.mu.Lock()
				total := a.book.Reserved() + a.book.Counters().Used
				a.mu.Unlock()
				if total > deposit {
					t.Errorf("%d tokens reserved or used of %d", total, deposit)
				}
				if err := a.settle(want, used); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	a := p.accounts[testContract]
	if a.book.Reserved() != 0 || a.book.Running() != 0 || !p.Idle(testOwner) {
		t.Errorf("%d tokens stay reserved", a.book.Reserved())
	}
	if got, want := a.book.Counters().Used, b.counters(testOwner).Used; got != want || got > deposit {
		t.Errorf("the account says %d, the ledger %d", got, want)
	}
}

// TestPaymentSignedOnce: one signature for each value of a counter, never for
// a lower one, and a bounded number kept.
func TestPaymentSignedOnce(t *testing.T) {
	p, _, _ := testProxy(t, 0, 0)
	data := func(contract cocoon.Address, tokens int64) string {
		t.Helper()
		pay, err := p.payment(bindings.WorkerPayout, contract, tokens)
		if err != nil {
			t.Fatal(err)
		}
		return string(pay.(*schema.ProxySignedPayment).Data)
	}
	if _, empty := p.paymentAtHand(bindings.WorkerPayout, testContract).(*schema.ProxySignedPaymentEmpty); !empty {
		t.Error("a payment is at hand before one was signed")
	}
	first, second := data(testContract, 5), data(testContract, 6)
	if first == second || data(testContract, 6) != second || data(testContract, 5) != second {
		t.Error("a payment is signed anew, or one goes back")
	}
	parsed, err := bindings.ParsePayment([]byte(second))
	if err != nil || parsed.Tokens != 6 || parsed.Verify(bindings.WorkerPayout, testContract, p.cfg.PublicKey) != nil {
		t.Errorf("%+v, %v", parsed, err)
	}
	for n := range maxSigned + 10 {
		p.mu.Lock()
		p.signed[signedKey{bindings.WorkerPayout, cocoon.Address{Hash: sha256.Sum256([]byte{byte(n), byte(n >> 8)})}}] = signedPayment{}
		full := len(p.signed) >= maxSigned
		p.mu.Unlock()
		if full {
			break
		}
	}
	data(cocoon.Address{Hash: [32]byte{0xff}}, 1)
	if len(p.signed) > maxSigned {
		t.Errorf("%d payments are kept", len(p.signed))
	}
}
