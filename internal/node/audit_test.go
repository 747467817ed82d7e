//go:build !tee

package node

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

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
	fails("two versions", "", "", func(s *Scorecard) { s.auditSets(bindings.AnchorStorage{}, sets(set(1, 1), set(2, 2))) })
	fails("two sets of one version", "sets", "two sets of version 1", func(s *Scorecard) { s.auditSets(bindings.AnchorStorage{}, sets(set(1, 1), set(1, 2))) })

	contract := cocoon.Address{Hash: [32]byte{1}}
	fails("settled", "", "", func(s *Scorecard) { s.auditSettled(contract, settled{7, 6, 7, 6}, nil, 7, 7) })
	fails("charged more than receipts say", "settled", "8 tokens were charged", func(s *Scorecard) { s.auditSettled(contract, settled{8, 6, 8, 6}, nil, 7, 7) })
	fails("paid more than receipts say", "settled", "8 tokens were paid", func(s *Scorecard) { s.auditSettled(contract, settled{7, 8, 7, 8}, nil, 7, 7) })
	fails("settled a moment ago", "", "", func(s *Scorecard) { s.auditSettled(contract, settled{8, 8, 7, 7}, nil, 7, 7) })
	told := func(from byte, at int64, m bindings.Message) access.Transaction {
		body, err := bindings.EncodeMessage(1, m)
		if err != nil {
			t.Fatal(err)
		}
		return access.Transaction{Success: true, Time: time.Unix(at, 0), In: &access.Message{Source: cocoon.Address{Hash: [32]byte{from}}, Body: body}}
	}
	got := settledBy([]access.Transaction{
		told(1, 1, &bindings.ClientRequest{Tokens: 5}), told(1, 9, &bindings.ClientRequest{Tokens: 8}), told(2, 1, &bindings.ClientRequest{Tokens: 2}),
		told(3, 9, &bindings.WorkerRequest{Tokens: 4}),
	}, time.Unix(5, 0))
	if want := (settled{charged: 10, oldCharged: 7, paid: 4}); got != want {
		t.Errorf("settled %+v, want %+v", got, want)
	}
	fails("a set that is not in the anchored log", "sets", "not in the anchored log", func(s *Scorecard) {
		s.auditSets(bindings.AnchorStorage{Size: 9}, sets(set(1, 1)))
	})
}

// signerOf signs anchors in tests.
type signerOf struct{ ed25519.PrivateKey }

func (s signerOf) SignHash(h [32]byte) ([]byte, error) { return ed25519.Sign(s.PrivateKey, h[:]), nil }

// TestAuditHistory: every anchor since the first is held against the log.
func TestAuditHistory(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	public := receipt.Hash(key.Public().(ed25519.PublicKey))
	epochs := []audit.Epoch{{Number: 1, Size: 1, Log: receipt.Hash{1}}, {Number: 2, Size: 2, Previous: receipt.Hash{1}, Log: receipt.Hash{2}}}
	tx := func(e audit.Epoch) access.Transaction {
		body, err := bindings.SignAnchor(signerOf{key}, bindings.AnchorStep{Epoch: e.Number, Size: e.Size, PreviousLog: e.Previous, Roots: bindings.AnchorRoots{Log: e.Log}}, 1, cocoon.Address{})
		if err != nil {
			t.Fatal(err)
		}
		return access.Transaction{Success: true, In: &access.Message{Body: body}}
	}
	failed := tx(epochs[0])
	failed.Success = false
	other := epochs[0]
	other.Log = receipt.Hash{9}
	for name, c := range map[string]struct {
		all    []access.Transaction
		newest uint32
		want   string
	}{
		"all":             {[]access.Transaction{tx(epochs[0]), failed, tx(epochs[1])}, 2, ""},
		"rewritten":       {[]access.Transaction{tx(other), tx(epochs[1])}, 2, "forked log: epoch 1"},
		"one left out":    {[]access.Transaction{tx(epochs[1])}, 2, "epoch 2 was anchored where"},
		"one never taken": {[]access.Transaction{tx(epochs[0]), failed}, 2, "1 epochs were anchored"},
	} {
		s := &Scorecard{}
		s.auditHistory(c.all, nil, public, c.newest, epochs)
		f := s.Failed()
		if c.want == "" && f != nil || c.want != "" && (f == nil || !strings.Contains(f.Detail, c.want)) {
			t.Errorf("%s: %+v", name, f)
		}
	}
}
