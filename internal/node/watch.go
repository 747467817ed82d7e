package node

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/receipt"
)

// What a proxy's log can be convicted of. Each suspends the proxy, but for
// ErrLate, which is reported for as long as it lasts.
var (
	ErrLate    = errors.New("a promised epoch of the proxy's log is not on chain")
	ErrLeftOut = errors.New("the proxy's log does not hold what it promised to")
	ErrForked  = errors.New("the proxy's log was forked or rewritten")
	ErrBalance = errors.New("the proxy's anchored balance of ours is not what its receipts say")
)

// seenHead is the newest anchored head of a log that this client held against
// the one before it, and its own balance there.
type seenHead struct {
	Epoch   uint32                `json:"epoch"`
	Size    uint64                `json:"tree_size"`
	Log     receipt.Hash          `json:"log"`
	Balance *receipt.BalanceProof `json:"balance,omitempty"`
}

// owedLeaf is what a log has to hold.
type owedLeaf struct {
	leaf   receipt.Hash
	what   string
	epoch  uint32         // from this one on
	until  time.Time      // block time, after which a lack is a fault
	after  int64          // our counter there; 0 of sets
	client cocoon.Address // whose counter
}

// logWatch holds the logs of the proxies that a client uses against the chain
// and against what it was given: in the background, a bounded number of
// questions a round, through the sessions that it has anyway.
type logWatch struct {
	path      string // where heads are remembered
	networkID [32]byte
	chain     audit.Chain
	proxies   func() []client.Watched
	page      func(ctx context.Context, contractKey [32]byte, page string) ([]byte, error)
	suspend   func(contractKey [32]byte, fault error)
	log       *slog.Logger

	mu     sync.Mutex
	heads  map[string]seenHead // by contract key
	owed   map[[32]byte][]owedLeaf
	sets   map[[32]byte]bool // noted ones
	faults map[[32]byte]string
	misses map[receipt.Hash]int // rounds in which a leaf was not shown though it was late
}

// name is a log's in the file: a key may serve several networks.
func (w *logWatch) name(key [32]byte) string {
	return hex.EncodeToString(w.networkID[:8]) + "/" + hex.EncodeToString(key[:])
}

const (
	watchEvery    = 15 * time.Second
	watchedAtMost = 64   // leaves asked for in a round, of each proxy
	owedAtMost    = 8192 // leaves remembered of each proxy
	patientFor    = 3    // rounds in which a late leaf may stay away: a proxy may be ending
)

// newLogWatch reads what was seen before and takes up the newest receipts.
func newLogWatch(dir string, w *logWatch, store *audit.Store) error {
	w.path, w.heads, w.owed = filepath.Join(dir, "logs.json"), map[string]seenHead{}, map[[32]byte][]owedLeaf{}
	w.sets, w.faults = map[[32]byte]bool{}, map[[32]byte]string{}
	w.misses = map[receipt.Hash]int{}
	b, err := readSmall(w.path)
	if err == nil {
		err = json.Unmarshal(b, &w.heads)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s cannot be read: %w; restore it, or delete it to forget which logs were seen", w.path, err)
	}
	kept, err := store.List(1000)
	if err != nil {
		return err
	}
	for _, k := range slices.Backward(kept) {
		w.owes(k.Proxy, k.ProxyBundle)
	}
	return nil
}

// owes notes a receipt that a log promised to hold.
func (w *logWatch) owes(part, bundle []byte) {
	signed, p, err := readProxyPart(part)
	if err != nil || p.Epoch == 0 {
		return
	}
	_, st, err := bundleOf(bundle, cocoon.RoleProxy)
	if err != nil {
		return
	}
	w.add(st.ContractKey, owedLeaf{receipt.LeafHash(receipt.LeafReceipt, signed.Digest()), fmt.Sprintf("receipt %x…", p.RequestID[:4]), p.Epoch, p.Time, p.After, p.Client})
}

func (w *logWatch) add(key [32]byte, l owedLeaf) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := append(w.owed[key], l)
	w.owed[key] = all[max(0, len(all)-owedAtMost):]
}

// run watches until ctx ends.
func (w *logWatch) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
		w.round(ctx)
	}
}

// round looks at each log once.
func (w *logWatch) round(ctx context.Context) {
	connected := map[[32]byte]client.Watched{}
	for _, p := range w.proxies() {
		connected[p.ContractKey] = p
	}
	w.mu.Lock()
	keys := slices.Collect(maps.Keys(w.owed))
	w.mu.Unlock()
	for key := range connected {
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	for _, key := range keys {
		p, here := connected[key]
		err := w.look(ctx, key, p, here)
		if ctx.Err() != nil {
			return
		}
		fault := errors.Is(err, ErrLate) || errors.Is(err, ErrLeftOut) || errors.Is(err, ErrForked) || errors.Is(err, ErrBalance)
		w.mu.Lock()
		was := w.faults[key]
		if delete(w.faults, key); fault {
			w.faults[key] = err.Error()
		}
		w.mu.Unlock()
		switch {
		case fault && !errors.Is(err, ErrLate):
			w.suspend(key, err)
		case fault && was == "":
			w.log.Error("a proxy broke its promise", "contract_key", hex.EncodeToString(key[:]), "err", err)
		case err != nil && !fault:
			w.log.Debug("a proxy's log could not be looked at", "err", err)
		}
	}
}

// Faults are the ones that stand now, by contract key.
func (w *logWatch) Faults() []client.LogFault {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []client.LogFault
	for key, f := range w.faults {
		out = append(out, client.LogFault{ContractKey: hex.EncodeToString(key[:]), Fault: f})
	}
	slices.SortFunc(out, func(a, b client.LogFault) int { return slices.Compare([]byte(a.ContractKey), []byte(b.ContractKey)) })
	return out
}

// look holds one log against the chain. here says whether its proxy can be asked.
func (w *logWatch) look(ctx context.Context, key [32]byte, p client.Watched, here bool) error {
	address, err := audit.AnchorAddress(audit.LogConfig{NetworkID: w.networkID, ContractKey: key})
	if err != nil {
		return err
	}
	acc, err := w.chain.Account(ctx, address)
	if err != nil {
		return err
	}
	var stored bindings.AnchorStorage
	if acc.Deployed() {
		if stored, err = bindings.ParseAnchorStorage(acc.Data); err != nil {
			return err
		}
	}
	if here {
		w.noteSets(key, p, stored.Epoch, acc.Block)
		if stored.Epoch > 0 {
			// A proxy that gives no proof is convicted by the leaves that it owes.
			if err := w.grown(ctx, key, p, stored); errors.Is(err, ErrForked) || errors.Is(err, ErrBalance) || ctx.Err() != nil {
				return err
			}
		}
	}
	return w.included(ctx, key, stored, acc.Block, here)
}

// noteSets makes a log owe the sets that were used: they were logged before
// they were shown, so at the latest the epoch after the next one holds them.
func (w *logWatch) noteSets(key [32]byte, p client.Watched, epoch uint32, now access.Block) {
	for _, set := range p.Sets {
		w.mu.Lock()
		noted := w.sets[set]
		if len(w.sets) > owedAtMost {
			clear(w.sets)
		}
		w.sets[set] = true
		w.mu.Unlock()
		if !noted {
			w.add(key, owedLeaf{leaf: receipt.LeafHash(receipt.LeafSet, set), what: fmt.Sprintf("set of workers %x…", set[:4]), epoch: epoch + 2, until: now.Time})
		}
	}
}

// grown checks that the log only grew since it was last seen, and our balance.
func (w *logWatch) grown(ctx context.Context, key [32]byte, p client.Watched, stored bindings.AnchorStorage) error {
	name := w.name(key)
	w.mu.Lock()
	last, seen := w.heads[name]
	w.mu.Unlock()
	now := seenHead{Epoch: stored.Epoch, Size: stored.Size, Log: stored.Roots.Log}
	if seen && last.Epoch == now.Epoch {
		return nil
	}
	if seen {
		b, err := w.page(ctx, key, fmt.Sprintf("consistency?first=%d&second=%d", last.Size, now.Size))
		if err != nil {
			return err
		}
		var proof []receipt.Hash
		if err := json.Unmarshal(b, &proof); err != nil {
			return fmt.Errorf("%w: its proof cannot be read", ErrForked)
		}
		if err := receipt.VerifyConsistency(last.Size, now.Size, last.Log, now.Log, proof); err != nil {
			return fmt.Errorf("%w: epoch %d with %d leaves is not the continuation of epoch %d with %d: %v", ErrForked, now.Epoch, now.Size, last.Epoch, last.Size, err)
		}
	}
	if b, err := w.page(ctx, key, fmt.Sprintf("balance?epoch=%d", now.Epoch)); err == nil {
		now.Balance = &receipt.BalanceProof{}
		if err := json.Unmarshal(b, now.Balance); err != nil {
			return fmt.Errorf("%w: its proof cannot be read", ErrBalance)
		}
		if err := now.Balance.Verify(stored.Roots.Clients); err != nil || now.Balance.Contract != p.Client {
			return fmt.Errorf("%w: the proof of epoch %d does not hold: %v", ErrBalance, now.Epoch, err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heads[name] = now
	b, err := json.MarshalIndent(w.heads, "", " ")
	if err != nil {
		return err
	}
	return writeFile(w.path, append(b, '\n'), 0o600)
}

// included asks for the places of owed leaves.
func (w *logWatch) included(ctx context.Context, key [32]byte, stored bindings.AnchorStorage, now access.Block, here bool) error {
	w.mu.Lock()
	owed := slices.Clone(w.owed[key])
	balance := w.heads[w.name(key)].Balance
	w.mu.Unlock()
	done := map[receipt.Hash]bool{}
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.owed[key] = slices.DeleteFunc(w.owed[key], func(l owedLeaf) bool { return done[l.leaf] })
	}()
	for _, l := range owed {
		late := now.Time.After(l.until)
		if stored.Epoch < l.epoch {
			if late && l.after > 0 { // sets have no promise of their own
				return fmt.Errorf("%w: epoch %d until %s, for %s; block %d of %s has epoch %d", ErrLate, l.epoch, l.until.UTC().Format(time.DateTime), l.what, now.Seqno, now.Time.UTC().Format(time.DateTime), stored.Epoch)
			}
			continue
		}
		if !here || len(done) >= watchedAtMost {
			continue
		}
		b, err := w.page(ctx, key, fmt.Sprintf("inclusion?leaf=%s&size=%d", l.leaf, stored.Size))
		var in audit.Inclusion
		var answered *wire.Error
		lost := err != nil && !errors.As(err, &answered)
		if err == nil {
			if err = json.Unmarshal(b, &in); err == nil {
				err = receipt.VerifyInclusion(l.leaf, in.Index, stored.Size, in.Proof, stored.Roots.Log)
			}
		}
		w.mu.Lock()
		if err != nil && late && !lost {
			w.misses[l.leaf]++
		} else {
			delete(w.misses, l.leaf)
		}
		missed := w.misses[l.leaf]
		w.mu.Unlock()
		switch {
		case ctx.Err() != nil || lost:
			return err // it is gone, and is asked when it is back
		case missed >= patientFor:
			return fmt.Errorf("%w: %s is not in epoch %d: %v", ErrLeftOut, l.what, stored.Epoch, err)
		case err != nil:
			continue
		}
		done[l.leaf] = true
		if balance != nil && l.client == balance.Contract && balance.Total < uint64(l.after) && w.epochOf(key) == stored.Epoch {
			return fmt.Errorf("%w: %s brought our counter to %d, the balance of epoch %d is %d", ErrBalance, l.what, l.after, stored.Epoch, balance.Total)
		}
	}
	return nil
}

func (w *logWatch) epochOf(key [32]byte) uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heads[w.name(key)].Epoch
}
