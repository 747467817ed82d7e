package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/receipt"
)

// watched is a client's watch over one proxy, whose chain and answers are ours.
type watched struct {
	*logWatch
	t         *testing.T
	key       [32]byte
	stored    bindings.AnchorStorage
	now       time.Time
	pages     map[string]any
	gone      bool  // the connection
	counter   int64 // that a worker is told
	convicted error
}

// A proxy contract, and our contract there.
var testPool, testParty = cocoon.Address{Hash: [32]byte{7}}, cocoon.Address{Hash: [32]byte{8}}

func (w *watched) Account(context.Context, cocoon.Address) (access.Account, error) {
	data, err := w.stored.Encode()
	return access.Account{Exists: true, Code: []byte{1}, Data: data, Block: access.Block{Seqno: 9, Time: w.now}}, err
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, key: [32]byte{5}, now: time.Unix(1000, 0), pages: map[string]any{}}
	w.logWatch = &logWatch{
		networkID: [32]byte{1}, chain: w, log: slog.New(slog.DiscardHandler),
		proxies: func() []role.Watched {
			return []role.Watched{{ContractKey: w.key, Proxy: testPool, Party: testParty, Sets: [][32]byte{{3}}, Counter: w.counter}}
		},
		page: func(_ context.Context, key [32]byte, page string) ([]byte, error) {
			v, ok := w.pages[strings.ReplaceAll(page, "leaf="+leafOf(1).String(), "leaf=ours")]
			switch {
			case w.gone:
				return nil, errors.New("the connection ended")
			case !ok:
				return nil, wire.Errorf(wire.CodeError, "no such page")
			}
			return json.Marshal(v)
		},
		suspend: func(_ [32]byte, fault error) { w.convicted = fault },
	}
	store, err := audit.OpenStore(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	if err := newLogWatch(t.TempDir(), w.logWatch, store); err != nil {
		t.Fatal(err)
	}
	return w
}

func leafOf(n byte) receipt.Hash { return receipt.LeafHash(receipt.LeafReceipt, [32]byte{n}) }

// anchored puts a head on chain.
func (w *watched) anchored(epoch uint32, size uint64, root receipt.Hash) {
	w.stored = bindings.AnchorStorage{NetworkID: w.networkID, ProxyKey: w.key, Epoch: epoch, Size: size, Roots: bindings.AnchorRoots{Log: root}}
}

// balances anchors our balance in the epoch on chain, of both sides, and shows it.
func (w *watched) balances(total uint64) *receipt.BalanceProof {
	w.t.Helper()
	p := &receipt.BalanceProof{Proxy: testPool, Contract: testParty, Salt: receipt.Hash{byte(total)}, Total: total}
	p.All = []receipt.ContractTotal{{Contract: testPool, Sum: receipt.BalanceLeaf(p.Salt, testParty, total)}}
	root, err := receipt.BalancesRoot(p.All)
	if err != nil {
		w.t.Fatal(err)
	}
	w.stored.Roots.Clients, w.stored.Roots.Workers = root, root
	w.pages[fmt.Sprintf("balance?epoch=%d", w.stored.Epoch)] = p
	return p
}

func (w *watched) owesReceipt() {
	w.add(w.key, owedLeaf{leafOf(1), "receipt", 1, time.Unix(2000, 0), 50, testParty})
}

// rounds looks as often as it takes to lose patience.
func (w *watched) rounds() {
	for range patientFor + 1 {
		w.round(w.t.Context())
	}
}

// TestWatchHonest: a log that keeps its word is left in peace.
func TestWatchHonest(t *testing.T) {
	w := newWatched(t)
	w.owesReceipt()
	w.rounds() // nothing is on chain, and nothing is late
	set := receipt.LeafHash(receipt.LeafSet, [32]byte{3})
	w.anchored(1, 1, leafOf(1))
	w.balances(50)
	w.pages["inclusion?leaf=ours&size=1"] = audit.Inclusion{Index: 0, Size: 1, Proof: []receipt.Hash{}}
	w.rounds()
	root := receipt.NodeHash(leafOf(1), set)
	w.now = time.Unix(9000, 0)
	w.anchored(2, 2, root)
	w.balances(60)
	w.pages["consistency?first=1&second=2"] = []receipt.Hash{set}
	w.pages["inclusion?leaf="+set.String()+"&size=2"] = audit.Inclusion{Index: 1, Size: 2, Proof: []receipt.Hash{leafOf(1)}}
	w.rounds()
	if w.convicted != nil || len(w.Faults()) != 0 || len(w.owed[w.key]) != 0 {
		t.Fatalf("%v, %v, %v", w.convicted, w.Faults(), w.owed)
	}
	again := &logWatch{networkID: w.networkID}
	store, err := audit.OpenStore(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := newLogWatch(strings.TrimSuffix(w.path, "/logs.json"), again, store); err != nil || again.heads[again.name(w.key)].Size != 2 {
		t.Errorf("after a restart: %v, %+v", err, again.heads)
	}
	if got := again.Seen(); len(got) != 1 || got[0].Tokens != 60 || got[0].BalanceEpoch != 2 || got[0].Contract != testParty {
		t.Errorf("after a restart: %+v", got)
	}
}

// TestWatchLate: an anchor that never comes is a fault as long as it lasts.
func TestWatchLate(t *testing.T) {
	w := newWatched(t)
	w.owesReceipt()
	w.now = time.Unix(2001, 0)
	w.rounds()
	if f := w.Faults(); len(f) != 1 || !strings.Contains(f[0].Fault, ErrLate.Error()) || w.convicted != nil {
		t.Fatalf("%v, %v", f, w.convicted)
	}
	w.anchored(1, 1, leafOf(1))
	w.balances(50)
	w.pages["inclusion?leaf=ours&size=1"] = audit.Inclusion{Index: 0, Size: 1, Proof: []receipt.Hash{}}
	w.rounds()
	if f := w.Faults(); len(f) != 0 || w.convicted != nil {
		t.Errorf("it came: %v, %v", f, w.convicted)
	}
}

// TestWatchConvicts: what a lying proxy is suspended for.
func TestWatchConvicts(t *testing.T) {
	other := leafOf(9)
	for name, c := range map[string]struct {
		do   func(*watched)
		want error
	}{
		"a receipt left out": {func(w *watched) { w.now = time.Unix(2001, 0) }, ErrLeftOut},
		"a false proof": {func(w *watched) {
			w.now = time.Unix(2001, 0)
			w.pages["inclusion?leaf=ours&size=1"] = audit.Inclusion{Index: 0, Size: 1, Proof: []receipt.Hash{leafOf(1)}}
		}, ErrLeftOut},
		"in time yet": {func(*watched) {}, nil},
		"a lost connection": {func(w *watched) {
			w.now, w.gone = time.Unix(2001, 0), true
		}, nil},
		"a fork": {func(w *watched) {
			w.round(w.t.Context())
			w.anchored(2, 2, receipt.NodeHash(leafOf(7), leafOf(8)))
			w.pages["consistency?first=1&second=2"] = []receipt.Hash{leafOf(8)}
		}, ErrForked},
		"a log cut back": {func(w *watched) {
			w.round(w.t.Context())
			w.anchored(2, 0, receipt.EmptyRoot())
			w.pages["consistency?first=1&second=0"] = []receipt.Hash{}
		}, ErrForked},
		"a balance that is not anchored": {func(w *watched) { w.balances(50).Total = 1 }, ErrBalance},
		"another party's balance":        {func(w *watched) { w.balances(50); w.Party(cocoon.Address{Hash: [32]byte{99}}) }, ErrBalance},
		"a balance at another proxy contract": {func(w *watched) {
			p := w.balances(50)
			p.Proxy, p.All[0].Contract = cocoon.Address{Hash: [32]byte{98}}, cocoon.Address{Hash: [32]byte{98}}
			w.stored.Roots.Clients, _ = receipt.BalancesRoot(p.All)
		}, ErrBalance},
		"a balance below our receipts": {func(w *watched) {
			w.anchored(1, 1, leafOf(1))
			w.pages["inclusion?leaf=ours&size=1"] = audit.Inclusion{Index: 0, Size: 1, Proof: []receipt.Hash{}}
			w.balances(49)
		}, ErrBalance},
		"a balance that goes back": {func(w *watched) {
			w.balances(90)
			w.round(w.t.Context())
			w.anchored(2, 2, receipt.NodeHash(other, leafOf(1)))
			w.pages["consistency?first=1&second=2"] = []receipt.Hash{leafOf(1)}
			w.balances(80)
		}, ErrBalance},
		"an older state of the chain": {func(w *watched) {
			w.anchored(2, 2, receipt.NodeHash(other, leafOf(1)))
			w.balances(90)
			w.round(w.t.Context())
			w.anchored(1, 1, other)
		}, nil},
		"a set left out": {func(w *watched) {
			w.round(w.t.Context())
			w.anchored(3, 1, other)
			w.now = time.Unix(1500, 0)
		}, ErrLeftOut},
	} {
		w := newWatched(t)
		w.owesReceipt()
		w.anchored(1, 1, other)
		c.do(w)
		w.rounds()
		if !errors.Is(w.convicted, c.want) || c.want == nil && w.convicted != nil {
			t.Errorf("%s: %v", name, w.convicted)
		}
	}
}

// Party makes the balance shown another party's, as it would be anchored.
func (w *watched) Party(other cocoon.Address) {
	p := w.pages["balance?epoch=1"].(*receipt.BalanceProof)
	p.Contract = other
	p.All[0].Sum = receipt.BalanceLeaf(p.Salt, other, p.Total)
	w.stored.Roots.Clients, _ = receipt.BalancesRoot(p.All)
}

// TestWatchHidden: what an honest log can always show is a fault while it is not
// shown, and ends the use of the proxy when no promise can be open any more.
func TestWatchHidden(t *testing.T) {
	other := leafOf(9)
	for name, c := range map[string]struct {
		hide func(*watched)
		show func(*watched)
		what string
	}{
		"growth": {func(w *watched) {
			w.round(w.t.Context())
			w.anchored(2, 2, receipt.NodeHash(other, leafOf(7)))
		}, func(w *watched) { w.pages["consistency?first=1&second=2"] = []receipt.Hash{leafOf(7)} }, whatGrowth},
		"balance": {func(w *watched) {
			w.balances(50)
			w.round(w.t.Context())
			w.anchored(2, 2, receipt.NodeHash(other, leafOf(7)))
			w.pages["consistency?first=1&second=2"] = []receipt.Hash{leafOf(7)}
		}, func(w *watched) { w.balances(50) }, whatBalance},
	} {
		t.Run(name, func(t *testing.T) {
			start := func() *watched {
				w := newWatched(t)
				w.anchored(1, 1, other)
				c.hide(w)
				w.round(t.Context())
				if f := w.Faults(); len(f) != 0 {
					t.Fatalf("after one look: %v", f)
				}
				w.rounds()
				if f := w.Faults(); len(f) != 1 || !strings.Contains(f[0].Fault, c.what) || w.convicted != nil {
					t.Fatalf("hidden: %v, %v", f, w.convicted)
				}
				return w
			}
			w := start()
			c.show(w)
			w.rounds()
			if f := w.Faults(); len(f) != 0 || w.convicted != nil {
				t.Errorf("shown again: %v, %v", f, w.convicted)
			}
			w = start()
			w.now = w.now.Add(receipt.MaxPromise + time.Second)
			w.round(t.Context())
			if !errors.Is(w.convicted, ErrLeftOut) {
				t.Errorf("hidden for good: %v", w.convicted)
			}
		})
	}
}

// TestWatchWorker: a worker holds what it was told to have earned against its
// own leaf in the workers' balances.
func TestWatchWorker(t *testing.T) {
	// grow anchors the next epoch, honestly but for the balance.
	grow := func(w *watched, total uint64) {
		e := w.stored.Epoch + 1
		root, proof := leafOf(1), []receipt.Hash{}
		if e > 1 { // nothing new but the epoch itself
			w.pages[fmt.Sprintf("consistency?first=%d&second=%d", 1, 1)] = proof
		}
		w.anchored(e, 1, root)
		if total > 0 {
			w.balances(total)
		}
	}
	start := func(t *testing.T) *watched {
		w := newWatched(t)
		w.worker, w.counter = true, 50
		w.proxies = func() []role.Watched {
			return []role.Watched{{ContractKey: w.key, Proxy: testPool, Party: testParty, Counter: w.counter}}
		}
		grow(w, 0)
		w.rounds() // told 50 at epoch 1, and no balance is due
		if f := w.Faults(); len(f) != 0 || w.convicted != nil {
			t.Fatalf("%v, %v", f, w.convicted)
		}
		return w
	}
	t.Run("honest", func(t *testing.T) {
		w := start(t)
		for i := range 8 {
			w.counter += 10
			grow(w, uint64(w.counter)-10*uint64(i%3))
			w.now = w.now.Add(20 * time.Minute)
			if w.rounds(); w.convicted != nil || len(w.Faults()) != 0 {
				t.Fatalf("round %d: %v, %v", i, w.convicted, w.Faults())
			}
		}
		if got := w.Seen(); len(got) != 1 || got[0].BalanceEpoch != 9 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("behind", func(t *testing.T) {
		w := start(t)
		for i := range 4 {
			grow(w, 40)
			w.rounds()
			if f := w.Faults(); (len(f) == 1) != (i >= 2) || w.convicted != nil {
				t.Fatalf("epoch %d: %v, %v", w.stored.Epoch, f, w.convicted)
			}
		}
		if f := w.Faults(); !strings.Contains(f[0].Fault, ErrShort.Error()) || !strings.Contains(f[0].Fault, "50 tokens, epoch 5 has 40") {
			t.Errorf("%v", f)
		}
		w.now = w.now.Add(receipt.MaxPromise + time.Second)
		if w.rounds(); !errors.Is(w.convicted, ErrBalance) {
			t.Errorf("for good: %v", w.convicted)
		}
	})
	t.Run("left out", func(t *testing.T) {
		w := start(t)
		for range 4 {
			grow(w, 0)
			w.rounds()
		}
		if f := w.Faults(); len(f) != 1 || !strings.Contains(f[0].Fault, whatBalance) || w.convicted != nil {
			t.Fatalf("%v, %v", f, w.convicted)
		}
		w.now = w.now.Add(receipt.MaxPromise + time.Second)
		if w.rounds(); !errors.Is(w.convicted, ErrLeftOut) {
			t.Errorf("for good: %v", w.convicted)
		}
	})
	t.Run("no epoch comes", func(t *testing.T) {
		w := start(t)
		w.now = w.now.Add(receipt.MaxPromise + time.Second)
		w.rounds()
		if f := w.Faults(); len(f) != 1 || !strings.Contains(f[0].Fault, ErrLate.Error()) || w.convicted != nil {
			t.Errorf("%v, %v", f, w.convicted)
		}
	})
	t.Run("the clients' root", func(t *testing.T) {
		w := start(t)
		grow(w, 50)
		w.stored.Roots.Workers = receipt.Hash{1}
		if w.rounds(); !errors.Is(w.convicted, ErrBalance) {
			t.Errorf("%v", w.convicted)
		}
	})
}
