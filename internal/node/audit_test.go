//go:build !tee

package node

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

func testKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, 32))
}

func testPublic(k ed25519.PrivateKey) [32]byte { return [32]byte(k.Public().(ed25519.PublicKey)) }

// exported is a receipt file with real signatures.
func exported(t *testing.T) *ReceiptFile {
	t.Helper()
	contract, proxyNode, workNode := testKey(1), testKey(2), testKey(3)
	block := statement.Block{Seqno: 9, RootHash: [32]byte{1}, FileHash: [32]byte{2}, Time: time.Unix(1_800_000_000, 0)}
	sp := statement.Statement{
		Role: cocoon.RoleProxy, NetworkID: [32]byte{1}, NodeKey: testPublic(proxyNode), Contract: cocoon.Address{Hash: [32]byte{4}}, ContractKey: testPublic(contract),
		Owner: cocoon.Address{Hash: [32]byte{5}}, Block: block, Counter: 1,
	}
	sw := statement.Statement{Role: cocoon.RoleWorker, NetworkID: [32]byte{1}, NodeKey: testPublic(workNode), Model: "m@1:2", Owner: cocoon.Address{Hash: [32]byte{6}}, Block: block, Counter: 1}
	digest := statement.Digest(sp.Encode())
	pb := statement.Bundle{Statement: sp.Encode(), ContractSignature: ed25519.Sign(contract, append([]byte(wire.LabelProxyStatement), digest[:]...))}
	wb := statement.Bundle{Statement: sw.Encode()}
	sign := func(k ed25519.PrivateKey) func([]byte) []byte {
		return func(m []byte) []byte { return ed25519.Sign(k, m) }
	}
	w := receipt.WorkerPart{
		RequestID: cocoon.RequestID{7}, Request: [32]byte{1}, Answer: [32]byte{2}, Statement: statement.Digest(sw.Encode()), Model: "m@1:2",
		Usage: receipt.Usage{Prompt: 10, Completion: 5}, Tokens: 50, End: receipt.EndComplete,
	}
	ws, err := w.Sign(sign(workNode))
	if err != nil {
		t.Fatal(err)
	}
	p := receipt.ProxyPart{
		RequestID: w.RequestID, WorkerPart: ws.Digest(), Statement: digest, Contract: sp.Contract, Client: cocoon.Address{Hash: [32]byte{8}},
		Before: 100, After: 150, Price: receipt.Price{PerToken: 20, Coefficient: 1000, Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000},
	}
	ps, err := p.Sign(sign(proxyNode))
	if err != nil {
		t.Fatal(err)
	}
	leaf, other := receipt.LeafHash(receipt.LeafReceipt, ps.Digest()), receipt.Hash{9}
	return &ReceiptFile{
		Kept: audit.Kept{RequestID: receipt.Hash(w.RequestID), Sealed: false, Worker: ws.Encode(), Proxy: ps.Encode(), WorkerBundle: wb.Encode(), ProxyBundle: pb.Encode()},
		Log: &LogProof{
			Inclusion: audit.Inclusion{Index: 0, Size: 2, Proof: []receipt.Hash{other}},
			Epoch:     audit.Epoch{Number: 1, Size: 2, Log: receipt.NodeHash(leaf, other)},
		},
	}
}

// stated is the statement inside an encoded bundle. The evidence beside it is
// not judged offline, and the check says so.
func stated(bundle []byte) []byte {
	b, err := statement.ParseBundle(bundle)
	if err != nil {
		return bundle
	}
	i := bytes.Index(bundle, b.Statement)
	return bundle[i : i+len(b.Statement)]
}

// One changed byte in anything that is signed or proven makes a receipt fail.
func TestReceiptFileFlips(t *testing.T) {
	if f := VerifyReceipt(exported(t)).Failed(); f != nil {
		t.Fatalf("an honest one: %s: %s", f.Name, f.Detail)
	}
	for name, part := range map[string]struct {
		of   func(*ReceiptFile) []byte
		want string
	}{
		"proxy's part":  {func(f *ReceiptFile) []byte { return f.Proxy }, "proxy's part"},
		"worker's part": {func(f *ReceiptFile) []byte { return f.Worker }, "worker's part"},
		"proxy bundle":  {func(f *ReceiptFile) []byte { return stated(f.ProxyBundle) }, "proxy's part"},
		"worker bundle": {func(f *ReceiptFile) []byte { return stated(f.WorkerBundle) }, "worker's part"},
		"request id":    {func(f *ReceiptFile) []byte { return f.RequestID[:] }, "proxy's part"},
		"inclusion":     {func(f *ReceiptFile) []byte { return f.Log.Inclusion.Proof[0][:] }, "log"},
		"root":          {func(f *ReceiptFile) []byte { return f.Log.Epoch.Log[:] }, "log"},
	} {
		for i := range part.of(exported(t)) {
			f := exported(t)
			part.of(f)[i] ^= 1
			failed := VerifyReceipt(f).Failed()
			if failed == nil || failed.Name != part.want {
				t.Fatalf("%s, byte %d: %+v", name, i, failed)
			}
		}
	}
	for name, spoil := range map[string]func(*LogProof){
		"index": func(l *LogProof) { l.Inclusion.Index = 1 }, "size": func(l *LogProof) { l.Inclusion.Size = 3 }, "epoch's size": func(l *LogProof) { l.Epoch.Size = 3 },
	} {
		f := exported(t)
		spoil(f.Log)
		if failed := VerifyReceipt(f).Failed(); failed == nil || failed.Name != "log" {
			t.Errorf("%s: %+v", name, failed)
		}
	}
}

// What an auditor must find, each by its name.
func TestAuditFaults(t *testing.T) {
	fails := func(name, want, detail string, do func(*Scorecard)) {
		t.Helper()
		s := &Scorecard{}
		do(s)
		f := s.Failed()
		if want == "" && f != nil || want != "" && (f == nil || f.Name != want || !strings.Contains(f.Detail, detail)) {
			t.Errorf("%s: %+v", name, f)
		}
	}
	leaf := func(n byte) receipt.Hash { return receipt.LeafHash(receipt.LeafReceipt, [32]byte{n}) }
	root2 := receipt.NodeHash(leaf(1), leaf(2))
	epochs := []audit.Epoch{
		{Number: 1, Size: 1, Log: leaf(1), Until: 1000},
		{Number: 2, Size: 2, Previous: leaf(1), Log: root2, Until: 2000},
	}
	onChain := bindings.AnchorStorage{Epoch: 2, Size: 2, Roots: bindings.AnchorRoots{Log: root2}}
	fails("agrees", "", "", func(s *Scorecard) { s.auditAnchor(onChain, epochs, 1) })
	forked := onChain
	forked.Roots.Log[0]++
	fails("forked log", "anchor", "forked", func(s *Scorecard) { s.auditAnchor(forked, epochs, 1) })
	fails("epochs hidden", "anchor", "the proxy shows 1", func(s *Scorecard) { s.auditAnchor(onChain, epochs[:1], 1) })

	first := bindings.AnchorStorage{Epoch: 1}
	fails("in time", "", "", func(s *Scorecard) { s.auditPromises(first, epochs, time.Unix(2000, 0)) })
	fails("an anchor that never comes", "promise", "epoch 2", func(s *Scorecard) { s.auditPromises(first, epochs, time.Unix(2001, 0)) })
	fails("anchored late is no matter afterwards", "", "", func(s *Scorecard) { s.auditPromises(onChain, epochs, time.Unix(9000, 0)) })

	answer := func(all map[string]any) func(string, any) error {
		return func(what string, into any) error {
			v, ok := all[what]
			if !ok {
				return fmt.Errorf("%w: %s", audit.ErrNotFound, what)
			}
			b, err := json.Marshal(v)
			return errors.Join(err, json.Unmarshal(b, into))
		}
	}
	growth := map[string]any{"consistency?first=0&second=1": []receipt.Hash{}, "consistency?first=1&second=2": []receipt.Hash{leaf(2)}, "consistency?first=2&second=2": []receipt.Hash{}}
	now := audit.State{Size: 2, Root: root2, Epoch: epochs[1]}
	fails("grew", "", "", func(s *Scorecard) { s.auditGrowth(epochs, now, answer(growth)) })
	growth["consistency?first=1&second=2"] = []receipt.Hash{leaf(3)}
	fails("a receipt left out", "growth", "forked or rewritten", func(s *Scorecard) { s.auditGrowth(epochs, now, answer(growth)) })

	total := func(n uint64) []receipt.ContractTotal {
		return []receipt.ContractTotal{{Contract: cocoon.Address{Hash: [32]byte{1}}, Sum: receipt.Sum{Hash: receipt.Hash{byte(n)}, Sum: n}}}
	}
	totals := func(clients, workers uint64) (bindings.AnchorStorage, func(string, any) error) {
		st := onChain
		c, err := receipt.BalancesRoot(total(clients))
		w, err2 := receipt.BalancesRoot(total(workers))
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		st.Roots.Clients, st.Roots.Workers = c, w
		return st, answer(map[string]any{"totals?epoch=2": audit.Totals{Epoch: 2, Clients: total(clients), Workers: total(workers)}})
	}
	st, get := totals(7, 7)
	fails("balanced", "", "", func(s *Scorecard) { s.auditTotals(st, get) })
	fails("other totals than anchored", "totals", "not in the anchored tree", func(s *Scorecard) { s.auditTotals(onChain, get) })
	st, get = totals(7, 6)
	fails("clients pay more than workers get", "totals", "7 tokens, workers credited 6", func(s *Scorecard) { s.auditTotals(st, get) })

	set := func(version int64, at int32) audit.LoggedSet {
		return audit.LoggedSet{Index: uint64(at), Signed: schema.Marshal(&schema.CocoonSignedSet{Set: schema.Marshal(&schema.CocoonSet{Version: version, Time: at})})}
	}
	sets := func(all ...audit.LoggedSet) func(string, any) error {
		return answer(map[string]any{"sets?first=0": all, fmt.Sprintf("sets?first=%d", all[len(all)-1].Index+1): []audit.LoggedSet{}})
	}
	fails("two versions", "", "", func(s *Scorecard) { s.auditSets(sets(set(1, 1), set(2, 2))) })
	fails("two sets of one version", "sets", "two sets of version 1", func(s *Scorecard) { s.auditSets(sets(set(1, 1), set(1, 2))) })
}
