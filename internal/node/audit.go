package node

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// head is what a proxy says of its log.
type head struct {
	NetworkID   receipt.Hash   `json:"network_id"`
	ContractKey receipt.Hash   `json:"contract_key"`
	Anchor      cocoon.Address `json:"anchor"`
	Log         audit.State    `json:"log"`
	Simulated   bool           `json:"simulated"`
}

// ProxyStatus is the status address of a proxy of a network here, by its name
// in `cocoon status`; "proxy" is the first one.
func ProxyStatus(s *State, name string) (string, error) {
	var have []string
	for _, c := range s.Children {
		if c.Role != "proxy" || c.Status == "" {
			continue
		}
		if name == "proxy" || name == c.Name {
			return c.Status, nil
		}
		have = append(have, c.Name)
	}
	return "", fmt.Errorf("no proxy %q of this network shows its log; those that do: %q", name, have)
}

// Audit follows a proxy's log at its status address and holds it against the
// chain: its newest anchored head, the growth from each epoch to the next, the
// totals of clients and workers, promises, and sets of workers.
func Audit(ctx context.Context, c *Config, proxy string, log *slog.Logger) (*Scorecard, error) {
	s := &Scorecard{Target: proxy, Policy: "audit", Verdict: "agrees", Factors: []VerifiedFactor{}}
	ch, err := openChain(ctx, c, log)
	if err != nil {
		return nil, err
	}
	defer ch.close()
	if !ch.real() {
		return nil, errNoChain
	}
	if c.Measured.Accepts(attest.Simulated) {
		s.Simulated = true
		s.skip(againstConfig, "hardware", "SIMULATED network")
	}
	seen := map[string]json.RawMessage{}
	get := func(what string, into any) error {
		var raw json.RawMessage
		if err := getJSON(ctx, strings.TrimSuffix(proxy, "/")+auditPath+what, &raw); err != nil {
			return err
		}
		seen[what] = raw
		return json.Unmarshal(raw, into)
	}
	var h head
	if err := get("head", &h); err != nil {
		return nil, err
	}
	address, err := audit.AnchorAddress(audit.LogConfig{NetworkID: ch.networkID(), ContractKey: h.ContractKey})
	switch {
	case err != nil:
		return nil, err
	case h.NetworkID != ch.networkID() || h.Anchor != address:
		s.fail(againstChain, "anchor", errors.New("the log is of another network, or names another anchor than its key's"))
		s.Verdict = "disagrees"
		return s, nil
	}
	var epochs []audit.Epoch
	for {
		var page []audit.Epoch
		if err := get(fmt.Sprintf("epochs?first=%d", len(epochs)+1), &page); err != nil {
			return nil, err
		}
		if len(page) == 0 || len(epochs) > 1<<20 {
			break
		}
		epochs = append(epochs, page...)
	}
	// The chain is read after the log, so it can only be ahead of what was shown.
	acc, err := ch.client.Account(ctx, address)
	if err != nil {
		return nil, err
	}
	var stored bindings.AnchorStorage
	if acc.Deployed() {
		if stored, err = bindings.ParseAnchorStorage(acc.Data); err != nil {
			return nil, err
		}
	}
	s.auditAnchor(stored, epochs, acc.Block.Seqno)
	if acc.Deployed() {
		all, err := ch.client.Transactions(ctx, acc, 0)
		s.auditHistory(all, err, h.ContractKey, stored.Epoch, epochs)
	}
	s.auditPromises(stored, epochs, acc.Block.Time)
	s.auditGrowth(epochs, h.Log, get)
	s.auditTotals(stored, get)
	if t, ok := totalsOf(stored, get); ok {
		for i, c := range t.Clients {
			sum, err := settledAt(ctx, ch.client, c.Contract)
			s.auditSettled(c.Contract, sum, err, c.Sum.Sum, t.Workers[i].Sum.Sum)
		}
	}
	s.auditSets(stored, get)
	if s.Failed() != nil {
		s.Verdict = "disagrees"
		// Whoever reads this need believe neither us nor the proxy.
		e, err := ch.client.Evidence(ctx, nil, address)
		if err != nil {
			log.Warn("the proof of the anchor could not be kept", "err", err)
		}
		s.Proofs = map[string]any{"chain": e, "log": seen}
	}
	return s, nil
}

// auditHistory holds every epoch that was ever anchored, signed by the contract
// key and proven by the chain of the account's transactions, against what the
// proxy shows.
func (s *Scorecard) auditHistory(all []access.Transaction, err error, key receipt.Hash, newest uint32, epochs []audit.Epoch) {
	if errors.Is(err, access.ErrTooMany) {
		s.skip(againstChain, "anchors", fmt.Sprintf("the anchor has more than %d transactions: its newest state was held against the log, and each epoch against the next", access.MaxTransactions))
		return
	}
	if err != nil {
		s.skip(againstChain, "anchors", err.Error())
		return
	}
	next := uint32(1)
	for _, tx := range all {
		if !tx.Success || tx.In == nil {
			continue
		}
		step, err := bindings.ParseAnchor(tx.In.Body, key)
		if err != nil {
			continue // the contract took no step for it
		}
		if step.Epoch != next {
			s.fail(againstChain, "anchors", fmt.Errorf("epoch %d was anchored where epoch %d belongs", step.Epoch, next))
			return
		}
		next++
		if int(step.Epoch) > len(epochs) {
			continue // auditAnchor says so, or it came after we asked
		}
		e := epochs[step.Epoch-1]
		if e.Number != step.Epoch || e.Size != step.Size || e.Previous != step.PreviousLog || (bindings.AnchorRoots{Log: e.Log, Clients: e.Clients, Workers: e.Workers}) != step.Roots {
			s.fail(againstChain, "anchors", fmt.Errorf("forked log: epoch %d was anchored with %d leaves and root %x…, the proxy shows %d and %x…", step.Epoch, step.Size, step.Roots.Log[:4], e.Size, e.Log[:4]))
			return
		}
	}
	if next-1 != newest {
		s.fail(againstChain, "anchors", fmt.Errorf("%d epochs were anchored by transactions, the contract is at %d", next-1, newest))
		return
	}
	s.pass(againstChain, "anchors", "all %d since the first, by the proven transactions of the anchor", newest)
}

// settled is what a proxy contract's clients were charged and its workers paid
// on chain, in tokens: up to now, and so long ago that receipts must be anchored.
type settled struct{ charged, paid, oldCharged, oldPaid uint64 }

// settledAt adds up what a proxy contract was told by its client and worker
// contracts, which it takes requests of alone, in its proven transactions.
func settledAt(ctx context.Context, c *access.Client, contract cocoon.Address) (settled, error) {
	acc, err := c.Account(ctx, contract)
	if err != nil {
		return settled{}, err
	}
	all, err := c.Transactions(ctx, acc, 0)
	return settledBy(all, acc.Block.Time.Add(-receipt.MaxPromise)), err
}

func settledBy(all []access.Transaction, old time.Time) (out settled) {
	type counter struct{ now, old uint64 }
	clients, workers := map[cocoon.Address]counter{}, map[cocoon.Address]counter{}
	for _, tx := range all {
		if !tx.Success || tx.In == nil || tx.In.External {
			continue
		}
		_, m, err := bindings.DecodeMessage(tx.In.Body)
		if err != nil {
			continue
		}
		side, tokens := clients, uint64(0)
		switch r := m.(type) {
		case *bindings.ClientRequest:
			tokens = r.Tokens
		case *bindings.WorkerRequest:
			side, tokens = workers, r.Tokens
		default:
			continue
		}
		c := side[tx.In.Source]
		if c.now = max(c.now, tokens); tx.Time.Before(old) {
			c.old = max(c.old, tokens)
		}
		side[tx.In.Source] = c
	}
	for _, c := range clients {
		out.charged, out.oldCharged = out.charged+c.now, out.oldCharged+c.old
	}
	for _, c := range workers {
		out.paid, out.oldPaid = out.paid+c.now, out.oldPaid+c.old
	}
	return out
}

// auditSettled holds what was settled on chain against the anchored totals.
func (s *Scorecard) auditSettled(contract cocoon.Address, sum settled, err error, clients, workers uint64) {
	switch {
	case err != nil:
		s.skip(againstChain, "settled", fmt.Sprintf("proxy contract %s: %v", contract, err))
	case sum.oldCharged > clients:
		s.fail(againstChain, "settled", fmt.Errorf("proxy contract %s: %d tokens were charged on chain more than %v ago, its anchored receipts come to %d", contract, sum.oldCharged, receipt.MaxPromise, clients))
	case sum.oldPaid > workers:
		s.fail(againstChain, "settled", fmt.Errorf("proxy contract %s: %d tokens were paid out on chain more than %v ago, its anchored receipts come to %d", contract, sum.oldPaid, receipt.MaxPromise, workers))
	case sum.charged > clients || sum.paid > workers:
		s.skip(againstChain, "settled", fmt.Sprintf("proxy contract %s: %d tokens charged and %d paid out on chain, of %d and %d: receipts of the last %v may not be anchored yet, look again then", contract, sum.charged, sum.paid, clients, workers, receipt.MaxPromise))
	default:
		s.pass(againstChain, "settled", "proxy contract %s: %d tokens charged and %d paid out on chain, of %d and %d", contract, sum.charged, sum.paid, clients, workers)
	}
}

// totalsOf returns the anchored totals, if they are those of the anchor and of
// the same contracts on both sides.
func totalsOf(stored bindings.AnchorStorage, get func(string, any) error) (t audit.Totals, ok bool) {
	if stored.Epoch == 0 || get(fmt.Sprintf("totals?epoch=%d", stored.Epoch), &t) != nil {
		return t, false
	}
	clients, err := receipt.BalancesRoot(t.Clients)
	workers, err2 := receipt.BalancesRoot(t.Workers)
	return t, errors.Join(err, err2) == nil && clients == stored.Roots.Clients && workers == stored.Roots.Workers && len(t.Clients) == len(t.Workers)
}

func (s *Scorecard) auditAnchor(stored bindings.AnchorStorage, epochs []audit.Epoch, seqno uint32) {
	if stored.Epoch == 0 {
		s.skip(againstChain, "anchor", "nothing is anchored yet")
		return
	}
	if int(stored.Epoch) > len(epochs) {
		s.fail(againstChain, "anchor", fmt.Errorf("epoch %d is on chain, the proxy shows %d", stored.Epoch, len(epochs)))
		return
	}
	e := epochs[stored.Epoch-1]
	if e.Number != stored.Epoch || e.Size != stored.Size || (bindings.AnchorRoots{Log: e.Log, Clients: e.Clients, Workers: e.Workers}) != stored.Roots {
		s.fail(againstChain, "anchor", fmt.Errorf("forked log: epoch %d on chain has %d leaves and root %x…, the proxy shows %d and %x…", stored.Epoch, stored.Size, stored.Roots.Log[:4], e.Size, e.Log[:4]))
		return
	}
	s.pass(againstChain, "anchor", "epoch %d, %d leaves, root %x…, account proven in block %d", stored.Epoch, stored.Size, stored.Roots.Log[:4], seqno)
}

func (s *Scorecard) auditPromises(stored bindings.AnchorStorage, epochs []audit.Epoch, now time.Time) {
	for _, e := range epochs {
		if e.Number > stored.Epoch && now.Unix() > e.Until {
			s.fail(againstChain, "promise", fmt.Errorf("epoch %d was promised until block time %d and is not on chain at %d", e.Number, e.Until, now.Unix()))
			return
		}
	}
	s.pass(againstChain, "promise", "no epoch is late")
}

func (s *Scorecard) auditGrowth(epochs []audit.Epoch, now audit.State, get func(string, any) error) {
	last := audit.Epoch{Log: receipt.EmptyRoot()}
	end := audit.Epoch{Number: uint32(len(epochs)) + 1, Size: now.Size, Previous: now.Epoch.Log, Log: now.Root}
	for i, e := range append(epochs, end) {
		var proof []receipt.Hash
		err := get(fmt.Sprintf("consistency?first=%d&second=%d", last.Size, e.Size), &proof)
		if err == nil {
			err = receipt.VerifyConsistency(last.Size, e.Size, last.Log, e.Log, proof)
		}
		if err == nil && i > 0 && i < len(epochs) && e.Previous != last.Log {
			err = receipt.ErrConsistency
		}
		if err != nil {
			s.fail(againstAnchor, "growth", fmt.Errorf("from %d to %d leaves: %w", last.Size, e.Size, err))
			return
		}
		last = e
	}
	s.pass(againstAnchor, "growth", "%d epochs and the log of now, each the continuation of the one before", len(epochs))
}

func (s *Scorecard) auditTotals(stored bindings.AnchorStorage, get func(string, any) error) {
	if stored.Epoch == 0 {
		return
	}
	var t audit.Totals
	if err := get(fmt.Sprintf("totals?epoch=%d", stored.Epoch), &t); err != nil {
		s.skip(againstChain, "totals", err.Error())
		return
	}
	clients, err := receipt.BalancesRoot(t.Clients)
	workers, err2 := receipt.BalancesRoot(t.Workers)
	if err := errors.Join(err, err2); err != nil || clients != stored.Roots.Clients || workers != stored.Roots.Workers {
		s.fail(againstChain, "totals", receipt.ErrBalance)
		return
	}
	if len(t.Clients) != len(t.Workers) {
		s.fail(againstChain, "totals", errors.New("clients and workers are not of the same proxy contracts"))
		return
	}
	for i, c := range t.Clients {
		if w := t.Workers[i]; w.Contract != c.Contract || w.Sum.Sum != c.Sum.Sum {
			s.fail(againstChain, "totals", fmt.Errorf("proxy contract %s: clients were charged %d tokens, workers credited %d", c.Contract, c.Sum.Sum, w.Sum.Sum))
			return
		}
		s.pass(againstChain, "totals", "proxy contract %s: clients and workers both at %d tokens", c.Contract, c.Sum.Sum)
	}
}

func (s *Scorecard) auditSets(stored bindings.AnchorStorage, get func(string, any) error) {
	seen := map[string][]byte{}
	n, proven, first := 0, 0, uint64(0)
	for {
		var page []audit.LoggedSet
		if err := get("sets?first="+url.QueryEscape(fmt.Sprint(first)), &page); err != nil {
			s.fail(againstAnchor, "sets", err)
			return
		}
		if len(page) == 0 {
			break
		}
		for _, l := range page {
			first = l.Index + 1
			outer, err := schema.DecodeAs[*schema.CocoonSignedSet](l.Signed)
			if err != nil {
				s.fail(againstAnchor, "sets", err)
				return
			}
			set, err := schema.DecodeAs[*schema.CocoonSet](outer.Set)
			if err != nil {
				s.fail(againstAnchor, "sets", err)
				return
			}
			if l.Index < stored.Size {
				var in audit.Inclusion
				leaf := receipt.LeafHash(receipt.LeafSet, sha256.Sum256(outer.Set))
				err := get(fmt.Sprintf("inclusion?leaf=%s&size=%d", leaf, stored.Size), &in)
				if err == nil {
					err = receipt.VerifyInclusion(leaf, in.Index, stored.Size, in.Proof, stored.Roots.Log)
				}
				if err != nil {
					s.fail(againstAnchor, "sets", fmt.Errorf("the set of version %d is not in the anchored log: %w", set.Version, err))
					return
				}
				proven++
			}
			key := fmt.Sprint(set.Contract, set.Version)
			if other, ok := seen[key]; ok && string(other) != string(outer.Set) {
				s.fail(againstAnchor, "sets", fmt.Errorf("two sets of version %d", set.Version))
				return
			}
			seen[key] = outer.Set
			n++
		}
	}
	s.pass(againstAnchor, "sets", "%d sets of workers, no version twice; %d proven in the anchored log", n, proven)
}
