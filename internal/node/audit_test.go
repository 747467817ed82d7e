//go:build !tee

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/audit"
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
	fails("two versions", "", "", func(s *Scorecard) { s.auditSets(sets(set(1, 1), set(2, 2))) })
	fails("two sets of one version", "sets", "two sets of version 1", func(s *Scorecard) { s.auditSets(sets(set(1, 1), set(1, 2))) })
}
