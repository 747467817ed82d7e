package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/audit"
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
		s.skip(againstConfig, "hardware", "SIMULATED network")
	}
	get := func(what string, into any) error {
		return getJSON(ctx, strings.TrimSuffix(proxy, "/")+auditPath+what, into)
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
	s.auditPromises(stored, epochs, acc.Block.Time)
	s.auditGrowth(epochs, h.Log, get)
	s.auditTotals(stored, get)
	s.auditSets(get)
	if s.Failed() != nil {
		s.Verdict = "disagrees"
	}
	return s, nil
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

func (s *Scorecard) auditSets(get func(string, any) error) {
	seen := map[string][]byte{}
	n, first := 0, uint64(0)
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
			key := fmt.Sprint(set.Contract, set.Version)
			if other, ok := seen[key]; ok && string(other) != string(outer.Set) {
				s.fail(againstAnchor, "sets", fmt.Errorf("two sets of version %d", set.Version))
				return
			}
			seen[key] = outer.Set
			n++
		}
	}
	s.pass(againstAnchor, "sets", "%d sets of workers, no version twice", n)
}
