package node

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/role/client"
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
	gone      bool // the connection
	convicted error
}

func (w *watched) Account(context.Context, cocoon.Address) (access.Account, error) {
	data, err := w.stored.Encode()
	return access.Account{Exists: true, Code: []byte{1}, Data: data, Block: access.Block{Seqno: 9, Time: w.now}}, err
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, key: [32]byte{5}, now: time.Unix(1000, 0), pages: map[string]any{}}
	own := cocoon.Address{Hash: [32]byte{8}}
	w.logWatch = &logWatch{
		networkID: [32]byte{1}, chain: w, log: slog.New(slog.DiscardHandler),
		proxies: func() []client.Watched {
			return []client.Watched{{ContractKey: w.key, Client: own, Sets: [][32]byte{{3}}}}
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

func (w *watched) owesReceipt() {
	w.add(w.key, owedLeaf{leafOf(1), "receipt", 1, time.Unix(2000, 0), 50, cocoon.Address{Hash: [32]byte{8}}})
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
	w.pages["inclusion?leaf=ours&size=1"] = audit.Inclusion{Index: 0, Size: 1, Proof: []receipt.Hash{}}
	w.rounds()
	root := receipt.NodeHash(leafOf(1), set)
	w.now = time.Unix(9000, 0)
	w.anchored(2, 2, root)
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
		"a balance that is not anchored": {func(w *watched) {
			w.pages["balance?epoch=1"] = receipt.BalanceProof{Contract: cocoon.Address{Hash: [32]byte{8}}, Total: 1}
		}, ErrBalance},
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
