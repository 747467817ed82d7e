//go:build !tee

package node

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// newAuditor audits what answers show.
func newAuditor(stored bindings.AnchorStorage, answers map[string]any) *auditor {
	return &auditor{
		Scorecard: &Scorecard{}, stored: stored, most: DefaultMost, progress: func(string, int, int) {},
		get: func(page string, into any) error {
			v, ok := answers[page]
			if !ok {
				return fmt.Errorf("%w: %s", audit.ErrNotFound, page)
			}
			b, err := json.Marshal(v)
			return errors.Join(err, json.Unmarshal(b, into))
		},
	}
}

// found holds what an audit found against what it had to find: the failed
// check and what it says, or nothing.
func found(t *testing.T, name string, s *Scorecard, want, detail string) {
	t.Helper()
	f := s.Failed()
	if want == "" && f != nil || want != "" && (f == nil || f.Name != want || !strings.Contains(f.Detail, detail)) {
		t.Errorf("%s: %+v", name, f)
	}
}

// skipped reports whether a check says that it was not made.
func skipped(s *Scorecard, name string) bool {
	return slices.ContainsFunc(s.Factors, func(f VerifiedFactor) bool { return f.Name == name && f.Result == attest.Skip })
}

// What an auditor must find in heads and totals, each by its name.
func TestAuditFaults(t *testing.T) {
	leaf := func(n byte) receipt.Hash { return receipt.LeafHash(receipt.LeafReceipt, [32]byte{n}) }
	root2 := receipt.NodeHash(leaf(1), leaf(2))
	epochs := []audit.Epoch{
		{Number: 1, Size: 1, Log: leaf(1), Until: 1000},
		{Number: 2, Size: 2, Previous: leaf(1), Log: root2, Until: 2000},
	}
	onChain := bindings.AnchorStorage{Epoch: 2, Size: 2, Roots: bindings.AnchorRoots{Log: root2}}
	forked := onChain
	forked.Roots.Log[0]++
	for name, c := range map[string]struct {
		stored       bindings.AnchorStorage
		shown        []audit.Epoch
		want, detail string
	}{
		"agrees":        {onChain, epochs, "", ""},
		"forked log":    {forked, epochs, "anchor", "forked"},
		"epochs hidden": {onChain, epochs[:1], "anchor", "epoch 2 is not shown"},
		"out of order":  {onChain, []audit.Epoch{epochs[1], epochs[0]}, "anchor", "epoch 2 is shown where epoch 1 belongs"},
	} {
		a := newAuditor(c.stored, map[string]any{"epochs?first=1": c.shown, "epochs?first=2": c.shown[1:]})
		if got := a.epochs(2); a.Failed() == nil {
			a.anchor(got, 2, 1)
		}
		found(t, name, a.Scorecard, c.want, c.detail)
	}
	a := newAuditor(onChain, nil)
	a.anchor(epochs[:1], 1, 1)
	found(t, "an older log", a.Scorecard, "anchor", "the proxy shows 1")

	first := bindings.AnchorStorage{Epoch: 1}
	for name, c := range map[string]struct {
		stored       bindings.AnchorStorage
		came         map[uint32]time.Time
		now          int64
		want, detail string
		note         bool
	}{
		"in time":                    {first, nil, 2000, "", "", false},
		"an anchor that never comes": {first, nil, 2001, "promise", "epoch 2", false},
		"it came":                    {onChain, map[uint32]time.Time{2: time.Unix(2000, 0)}, 9000, "", "", false},
		"it came late":               {onChain, map[uint32]time.Time{2: time.Unix(2001, 0)}, 9000, "", "", true},
	} {
		a := newAuditor(c.stored, nil)
		a.promises(epochs, c.came, time.Unix(c.now, 0))
		if found(t, name, a.Scorecard, c.want, c.detail); skipped(a.Scorecard, "kept promises") != c.note {
			t.Errorf("%s: %+v", name, a.Factors)
		}
	}

	growth := map[string]any{"consistency?first=0&second=1": []receipt.Hash{}, "consistency?first=1&second=2": []receipt.Hash{leaf(2)}, "consistency?first=2&second=2": []receipt.Hash{}}
	now := audit.State{Size: 2, Root: root2, Epoch: epochs[1]}
	a = newAuditor(onChain, growth)
	a.growth(epochs, now)
	found(t, "grew", a.Scorecard, "", "")
	a = newAuditor(onChain, growth)
	if a.growth(epochs[1:], now); !skipped(a.Scorecard, "older growth") {
		t.Errorf("the newest epochs alone: %+v", a.Factors)
	}
	found(t, "the newest epochs alone", a.Scorecard, "", "")
	growth["consistency?first=1&second=2"] = []receipt.Hash{leaf(3)}
	a = newAuditor(onChain, growth)
	a.growth(epochs, now)
	found(t, "a receipt left out", a.Scorecard, "growth", "forked or rewritten")

	total := func(n uint64) []receipt.ContractTotal {
		return []receipt.ContractTotal{{Contract: cocoon.Address{Hash: [32]byte{1}}, Sum: receipt.Sum{Hash: receipt.Hash{byte(n)}, Sum: n}}}
	}
	totals := func(clients, workers uint64) *auditor {
		st := onChain
		c, err := receipt.BalancesRoot(total(clients))
		w, err2 := receipt.BalancesRoot(total(workers))
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		st.Roots.Clients, st.Roots.Workers = c, w
		return newAuditor(st, map[string]any{"totals?epoch=2": audit.Totals{Epoch: 2, Clients: total(clients), Workers: total(workers)}})
	}
	a = totals(7, 7)
	if got := a.totals(); len(got.Clients) != 1 {
		t.Errorf("totals %+v", got)
	}
	found(t, "balanced", a.Scorecard, "", "")
	a = totals(7, 7)
	a.stored = onChain
	a.totals()
	found(t, "other totals than anchored", a.Scorecard, "totals", "not in the anchored tree")
	a = totals(7, 6)
	if got := a.totals(); len(got.Clients) != 0 {
		t.Error("totals that disagree are used")
	}
	found(t, "clients pay more than workers get", a.Scorecard, "totals", "7 tokens, workers credited 6")
	a = newAuditor(onChain, nil)
	a.totals()
	found(t, "totals hidden", a.Scorecard, "totals", "does not show")

	a = newAuditor(onChain, nil)
	a.key = receipt.Hash{5}
	a.own([]OwnLog{{Name: "worker-1", Seen: []role.LogSeen{{ContractKey: a.key.String(), BalanceEpoch: 2, Tokens: 9}, {ContractKey: "another", BalanceEpoch: 1}}}})
	if found(t, "own balance", a.Scorecard, "", ""); len(a.Factors) != 1 || !strings.Contains(a.Factors[0].Detail, "worker-1 proved its leaf: 9 tokens") {
		t.Errorf("own balance: %+v", a.Factors)
	}
	a.own([]OwnLog{{Name: "worker-2", Faults: []role.LogFault{{ContractKey: a.key.String(), Fault: "behind"}}}})
	found(t, "a party that disagrees", a.Scorecard, "own balance", "worker-2 found: behind")
}

// seq yields transactions newest first, and then an error.
func seq(err error, oldestFirst ...access.Transaction) iter.Seq2[access.Transaction, error] {
	return func(yield func(access.Transaction, error) bool) {
		for _, tx := range slices.Backward(oldestFirst) {
			if !yield(tx, nil) {
				return
			}
		}
		if err != nil {
			yield(access.Transaction{}, err)
		}
	}
}

// TestAuditSettled: what was settled on chain is within the anchored totals.
func TestAuditSettled(t *testing.T) {
	contract := cocoon.Address{Hash: [32]byte{1}}
	cut := errors.New("the server has no more")
	for name, c := range map[string]struct {
		sum          settled
		err          error
		want, detail string
		note         bool
	}{
		"settled":                        {settled{7, 6, 7, 6}, nil, "", "", false},
		"charged more than receipts say": {settled{8, 6, 8, 6}, nil, "settled", "8 tokens were charged", false},
		"paid more than receipts say":    {settled{7, 8, 7, 8}, nil, "settled", "8 tokens were paid", false},
		"settled a moment ago":           {settled{8, 8, 7, 7}, nil, "", "", true},
		"not all was read":               {settled{7, 6, 7, 6}, errMore, "", "", true},
		"more, though not all was read":  {settled{8, 6, 8, 6}, errMore, "settled", "8 tokens were charged", false},
		"a server that ends":             {settled{7, 6, 7, 6}, cut, "", "", true},
	} {
		a := newAuditor(bindings.AnchorStorage{}, nil)
		a.settled(contract, c.sum, c.err, 7, 7)
		if found(t, name, a.Scorecard, c.want, c.detail); skipped(a.Scorecard, "settled") != c.note {
			t.Errorf("%s: %+v", name, a.Factors)
		}
	}
	told := func(from byte, at int64, m bindings.Message) access.Transaction {
		body, err := bindings.EncodeMessage(1, m)
		if err != nil {
			t.Fatal(err)
		}
		return access.Transaction{Success: true, Time: time.Unix(at, 0), In: &access.Message{Source: cocoon.Address{Hash: [32]byte{from}}, Body: body}}
	}
	all := []access.Transaction{
		told(1, 1, &bindings.ClientRequest{Tokens: 5}), told(2, 1, &bindings.ClientRequest{Tokens: 2}), told(1, 9, &bindings.ClientRequest{Tokens: 8}),
		told(3, 9, &bindings.WorkerRequest{Tokens: 4}),
	}
	a := newAuditor(bindings.AnchorStorage{}, nil)
	for most, want := range map[int]settled{100: {charged: 10, oldCharged: 7, paid: 4}, 4: {charged: 10, oldCharged: 7, paid: 4}, 2: {charged: 8, paid: 4}} {
		a.most = most
		got, err := a.settledBy(seq(nil, all...), time.Unix(5, 0))
		if got != want || (err != nil) != (most < 4) || err != nil && !errors.Is(err, errMore) {
			t.Errorf("of %d: %+v, %v; want %+v", most, got, err, want)
		}
	}
	if got, err := a.settledBy(seq(cut, all[3]), time.Unix(5, 0)); !errors.Is(err, cut) || got.paid != 4 {
		t.Errorf("%+v, %v", got, err)
	}
}

// signerOf signs anchors in tests.
type signerOf struct{ ed25519.PrivateKey }

func (s signerOf) SignHash(h [32]byte) ([]byte, error) { return ed25519.Sign(s.PrivateKey, h[:]), nil }

// TestAuditHistory: every anchor since the first is held against the log.
func TestAuditHistory(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	epochs := []audit.Epoch{{Number: 1, Size: 1, Log: receipt.Hash{1}}, {Number: 2, Size: 2, Previous: receipt.Hash{1}, Log: receipt.Hash{2}}}
	tx := func(e audit.Epoch) access.Transaction {
		body, err := bindings.SignAnchor(signerOf{key}, bindings.AnchorStep{Epoch: e.Number, Size: e.Size, PreviousLog: e.Previous, Roots: bindings.AnchorRoots{Log: e.Log}}, 1, cocoon.Address{})
		if err != nil {
			t.Fatal(err)
		}
		return access.Transaction{Success: true, Time: time.Unix(int64(e.Number), 0), In: &access.Message{Body: body}}
	}
	failed := tx(epochs[0])
	failed.Success = false
	other := epochs[0]
	other.Log = receipt.Hash{9}
	cut := errors.New("the server has no more")
	for name, c := range map[string]struct {
		all    iter.Seq2[access.Transaction, error]
		newest uint32
		shown  []audit.Epoch
		most   int
		want   string
		partly string
	}{
		"all":                 {seq(nil, tx(epochs[0]), failed, tx(epochs[1])), 2, epochs, 100, "", ""},
		"rewritten":           {seq(nil, tx(other), tx(epochs[1])), 2, epochs, 100, "forked log: epoch 1", ""},
		"the first left out":  {seq(nil, tx(epochs[1])), 2, epochs, 100, "no transaction anchored epoch 1", ""},
		"one left out":        {seq(nil, tx(epochs[0])), 2, epochs, 100, "epoch 1 was anchored where epoch 2 belongs", ""},
		"one never taken":     {seq(nil, tx(epochs[0]), failed), 2, epochs, 100, "epoch 1 was anchored where", ""},
		"twice":               {seq(nil, tx(epochs[0]), tx(epochs[0]), tx(epochs[1])), 2, epochs, 100, "epoch 1 was anchored where epoch 0", ""},
		"as far as the bound": {seq(nil, tx(other), failed, tx(epochs[1])), 2, epochs, 2, "", "epochs 1 to 1: more than 2 transactions"},
		"epochs not read":     {seq(nil, tx(other), tx(epochs[1])), 2, epochs[1:], 100, "", "epochs 1 to 1: more than the 1 epochs"},
		"a server that ends":  {seq(cut, tx(epochs[1])), 2, epochs, 100, "", cut.Error()},
	} {
		a := newAuditor(bindings.AnchorStorage{Epoch: c.newest}, nil)
		a.key, a.most = receipt.Hash(key.Public().(ed25519.PublicKey)), c.most
		came := a.history(c.all, c.shown)
		want := "anchors"
		if c.want == "" {
			want = ""
		}
		found(t, name, a.Scorecard, want, c.want)
		i := slices.IndexFunc(a.Factors, func(f VerifiedFactor) bool { return f.Name == "older anchors" })
		if (i >= 0) != (c.partly != "") || i >= 0 && !strings.Contains(a.Factors[i].Detail, c.partly) {
			t.Errorf("%s: %+v", name, a.Factors)
		}
		if name == "all" && (came[1] != time.Unix(1, 0) || came[2] != time.Unix(2, 0)) {
			t.Errorf("came %v", came)
		}
	}
}

// loggedSets is a proxy's real log of sets, of several lives of its process.
type loggedSets struct {
	t        *testing.T
	log      *audit.Log
	key      wallet.Key
	contract cocoon.Address
	r        *receipts
	sign     func(message []byte) []byte
	last     [32]byte
}

func newLoggedSets(t *testing.T) *loggedSets {
	t.Helper()
	l := &loggedSets{t: t, key: wallet.NewKey(), contract: cocoon.Address{Hash: [32]byte{9}}}
	var err error
	if l.log, err = audit.OpenLog(t.TempDir(), audit.LogConfig{ContractKey: l.key.Public()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.log.Close() })
	l.restart(l.key)
	return l
}

// restart makes another node key; contract is the key that vouches for it.
func (l *loggedSets) restart(contract wallet.Key) {
	l.t.Helper()
	issuer, err := statement.NewIssuer(statement.IssuerConfig{Role: cocoon.RoleProxy, ContractKey: contract, Facts: func() (statement.Facts, error) {
		return statement.Facts{Contract: l.contract, ContractKey: contract.Public(), Owner: cocoon.Address{Hash: [32]byte{2}}}, nil
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.r = &receipts{log: l.log, statement: issuer.Current, nodeKey: issuer.Key()}
	l.sign = issuer.Sign
}

// raw logs a set of any contract, past what an honest proxy checks.
func (l *loggedSets) raw(version int64, contract cocoon.Address) {
	l.t.Helper()
	set := schema.Marshal(&schema.CocoonSet{Contract: schema.CocoonAddress(contract), Version: version, Previous: l.last, Entries: []schema.CocoonSetEntry{}})
	hash := receipt.Digest(set)
	signed := &schema.CocoonSignedSet{Set: set, Signature: l.sign(role.SetMessage(contract, uint64(version), l.last, hash))}
	if err := l.log.AppendSet(hash, schema.Marshal(signed)); err != nil {
		l.t.Fatal(err)
	}
}

// add logs a set, as change made it, signed as it is then.
func (l *loggedSets) add(version int64, change func(set *schema.CocoonSet, signature []byte)) {
	l.t.Helper()
	set := &schema.CocoonSet{Contract: schema.CocoonAddress(l.contract), Version: version, Time: int32(version), Previous: l.last, Entries: []schema.CocoonSetEntry{}}
	if change != nil {
		change(set, nil)
	}
	b := schema.Marshal(set)
	hash := receipt.Digest(b)
	sig := l.sign(role.SetMessage(cocoon.Address(set.Contract), uint64(set.Version), set.Previous, hash))
	if change != nil {
		change(&schema.CocoonSet{}, sig)
	}
	if err := l.r.LogSet(l.t.Context(), schema.Marshal(&schema.CocoonSignedSet{Set: b, Signature: sig})); err != nil {
		l.t.Fatal(err)
	}
	l.last = hash
}

// audit audits the sets and leaves of the log as it is, anchored, through pages
// that bend changes.
func (l *loggedSets) audit(most int, bend func(page string, v any) any) *auditor {
	l.t.Helper()
	st := l.log.State()
	a := newAuditor(bindings.AnchorStorage{Epoch: 1, Size: st.Size, Roots: bindings.AnchorRoots{Log: st.Root}}, nil)
	a.key, a.most = l.key.Public(), most
	a.get = func(page string, into any) error {
		v, err := l.r.page(cocoon.Address{}, page)
		if err != nil {
			return err
		}
		if bend != nil {
			v = bend(page, v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		a.keep(page, b)
		return json.Unmarshal(b, into)
	}
	var sets []uint64
	whole := false
	a.check(func() { sets, whole = a.sets() })
	if whole {
		a.check(func() { a.leaves(sets) })
	}
	return a
}

// TestAuditSets: sets are signed by the proxy, in order, each once, and none is
// kept back. What is wrong is shown by the sets themselves.
func TestAuditSets(t *testing.T) {
	flip := func(_ *schema.CocoonSet, sig []byte) {
		if sig != nil {
			sig[3] ^= 1
		}
	}
	only := func(name string, f func(v any) any) func(string, any) any {
		return func(page string, v any) any {
			if strings.HasPrefix(page, name+"?") {
				return f(v)
			}
			return v
		}
	}
	for name, c := range map[string]struct {
		do           func(l *loggedSets)
		bend         func(page string, v any) any
		want, detail string
		shown        int // signed sets in the proof
	}{
		"honest": {func(l *loggedSets) {}, nil, "", "", 0},
		"a forged signature": {func(l *loggedSets) { l.add(9, flip) }, nil,
			"sets", "signed by no node key", 1},
		"signed by another's node key": {func(l *loggedSets) { l.restart(wallet.NewKey()); l.add(9, nil) }, nil,
			"sets", statement.ErrContractKey.Error(), 0},
		"statements hidden": {func(l *loggedSets) {}, only("nodes", func(any) any { return [][]byte{} }),
			"sets", "signed by no node key", 1},
		"of another contract": {func(l *loggedSets) { l.raw(9, cocoon.Address{Hash: [32]byte{8}}) }, nil,
			"sets", "signed by no node key", 1},
		"two sets of one version":  {func(l *loggedSets) { l.add(5, nil) }, nil, "sets", "two sets of version 5", 2},
		"a version that goes back": {func(l *loggedSets) { l.add(4, nil) }, nil, "sets", "version 4 stands behind version 5", 2},
		"a set left out": {func(l *loggedSets) {
			l.add(9, func(s *schema.CocoonSet, _ []byte) { s.Previous[0]++ })
		}, nil, "sets", "a set was left out", 1},
		"not in the anchored log": {func(l *loggedSets) {}, only("inclusion", func(v any) any { in := v.(audit.Inclusion); in.Proof[0][0]++; return in }),
			"sets", "is not in the anchored log", 1},
		"the newest kept back": {func(l *loggedSets) {}, only("sets", func(v any) any {
			all := v.([]audit.LoggedSet)
			return all[:min(len(all), 3)]
		}), "leaves", "kept back", 0},
		"nothing but a hash": {func(l *loggedSets) {}, only("leaves", func(v any) any {
			all := slices.Clone(v.([]audit.LoggedLeaf))
			all[1].Digest[0]++
			return all
		}), "leaves", "give root", 0},
		"leaves not shown": {func(l *loggedSets) {}, only("leaves", func(any) any { return []audit.LoggedLeaf{} }), "leaves", "leaf 0 is not shown", 0},
		"no set": {func(l *loggedSets) {
			if err := l.log.AppendSet([32]byte{1}, []byte("rubbish of a proxy")); err != nil {
				t.Fatal(err)
			}
		}, nil, "sets", "leaf 4", 1},
	} {
		l := newLoggedSets(t)
		l.add(1, nil)
		l.add(2, nil)
		l.restart(l.key)
		l.add(3, nil)
		l.add(5, nil)
		c.do(l)
		bend := c.bend
		if name == "the newest kept back" {
			told := false // the page behind it must not show them either
			bend = func(page string, v any) any {
				if !strings.HasPrefix(page, "sets?") {
					return v
				}
				if told {
					return []audit.LoggedSet{}
				}
				told = true
				return c.bend(page, v)
			}
		}
		a := l.audit(100, bend)
		found(t, name, a.Scorecard, c.want, c.detail)
		if c.want == "" {
			if len(a.Factors) != 2 || !strings.Contains(a.Factors[0].Detail, "4 sets of workers") || !strings.Contains(a.Factors[1].Detail, "all 4 give the anchored root") {
				t.Errorf("%s: %+v", name, a.Factors)
			}
			continue
		}
		if pages, ok := a.Proofs["pages of "+c.want].([]shownPage); !ok || len(pages) == 0 {
			t.Errorf("%s: no proof: %+v", name, a.Proofs)
		}
		if sets, _ := a.Proofs["signed sets"].([]audit.LoggedSet); len(sets) != c.shown {
			t.Errorf("%s: %d sets in the proof, want %d", name, len(sets), c.shown)
		}
	}
	l := newLoggedSets(t)
	for v := range int64(4) {
		l.add(v+1, nil)
	}
	a := l.audit(3, nil)
	if found(t, "beyond the bound", a.Scorecard, "", ""); !skipped(a.Scorecard, "later sets") {
		t.Errorf("beyond the bound: %+v", a.Factors)
	}
	if a.leaves(nil); !skipped(a.Scorecard, "leaves") {
		t.Errorf("beyond the bound: %+v", a.Factors)
	}
}

// What is kept of a check for its proof is bounded.
func TestAuditKeepsLittle(t *testing.T) {
	a := newAuditor(bindings.AnchorStorage{}, nil)
	for i := range 1000 {
		a.keep(fmt.Sprint(i), make([]byte, 1<<20))
	}
	if len(a.pages) != 8 || a.bytes != 8<<20 || a.pages[7].Page != "999" {
		t.Errorf("%d pages, %d bytes", len(a.pages), a.bytes)
	}
}

// FuzzAudit holds an audit against pages of a hostile proxy: it ends, whatever
// they say, and takes none of it for what the chain has.
func FuzzAudit(f *testing.F) {
	f.Add([]byte(`[{"epoch":1,"tree_size":3}]`))
	f.Add([]byte(`[{"kind":1,"digest":"` + receipt.Hash{1}.String() + `"}]`))
	f.Add([]byte(`[{"index":0,"signed":"AAAA"}]`))
	f.Add([]byte(`{"epoch":1,"clients":[],"workers":[]}`))
	f.Add([]byte(`["AAAA"]`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := newAuditor(bindings.AnchorStorage{Epoch: 1, Size: 3, Roots: bindings.AnchorRoots{Log: receipt.Hash{7}, Clients: receipt.Hash{8}, Workers: receipt.Hash{9}}}, nil)
		a.most = 50
		a.get = func(page string, into any) error {
			a.keep(page, b)
			return json.Unmarshal(b, into)
		}
		a.check(func() { a.totals() })
		var epochs []audit.Epoch
		a.check(func() { epochs = a.epochs(1) })
		a.check(func() { a.anchor(epochs, 1, 1) })
		a.check(func() {
			a.growth([]audit.Epoch{{Number: 1, Size: 2, Log: receipt.Hash{6}}}, audit.State{Size: 3, Root: receipt.Hash{7}})
		})
		var sets []uint64
		a.check(func() { sets, _ = a.sets() })
		a.check(func() { a.leaves(sets) })
		for _, x := range a.Factors {
			if x.Result == attest.Pass && x.Name != "sets" && x.Name != "anchor" {
				t.Errorf("%+v", x)
			}
		}
	})
}
