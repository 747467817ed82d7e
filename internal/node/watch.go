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
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/receipt"
)

// What a proxy's log can be convicted of. Each suspends the proxy, but for
// ErrLate, ErrHidden and ErrShort, which are reported for as long as they last.
var (
	ErrLate    = errors.New("a promised epoch of the proxy's log is not on chain")
	ErrLeftOut = errors.New("the proxy's log does not hold what it promised to")
	ErrForked  = errors.New("the proxy's log was forked or rewritten")
	ErrBalance = errors.New("the proxy's anchored balance of ours is not what it told us")
	ErrHidden  = errors.New("the proxy does not show what its anchored log must hold")
	ErrShort   = errors.New("the proxy's anchored balance of ours is behind what it told us")
)

// convicts reports whether a fault suspends.
func convicts(err error) bool {
	return errors.Is(err, ErrLeftOut) || errors.Is(err, ErrForked) || errors.Is(err, ErrBalance)
}

// seenHead is the newest anchored head of a log that we held against the one
// before it, and our own balance there.
type seenHead struct {
	Epoch uint32       `json:"epoch"`
	Size  uint64       `json:"tree_size"`
	Log   receipt.Hash `json:"log"`
	// Balance is of BalanceEpoch, which may be an earlier one.
	Balance      *receipt.BalanceProof `json:"balance,omitempty"`
	BalanceEpoch uint32                `json:"balance_epoch,omitempty"`
}

// told is a counter of ours that a proxy named: the balances of an epoch from
// here on hold it, at the latest at a block time.
type told struct {
	party   cocoon.Address
	counter int64
	epoch   uint32
	until   time.Time
}

// withheld is something that a proxy has refused to show since a block time.
type withheld struct {
	looks int
	since time.Time
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

// logWatch holds the logs of the proxies that a client or a worker uses against
// the chain and against what it was given: in the background, a bounded number
// of questions a round, through the sessions that it has anyway.
type logWatch struct {
	path      string // where heads are remembered
	networkID [32]byte
	chain     audit.Chain
	worker    bool // whose balances are ours
	proxies   func() []role.Watched
	page      func(ctx context.Context, contractKey [32]byte, page string) ([]byte, error)
	suspend   func(contractKey [32]byte, fault error)
	log       *slog.Logger

	mu     sync.Mutex
	heads  map[string]seenHead // by contract key
	owed   map[[32]byte][]owedLeaf
	sets   map[[32]byte]bool // noted ones
	faults map[[32]byte]string
	misses map[receipt.Hash]int // rounds in which a leaf was not shown though it was late
	told   map[[32]byte]told    // what a worker's balance has to come to, by contract key
	least  map[string]int64     // highest counter of an anchored receipt, by log and party
	hidden map[string]withheld  // by log and what is hidden
}

// name is a log's in the file: a key may serve several networks.
func (w *logWatch) name(key [32]byte) string {
	return hex.EncodeToString(w.networkID[:8]) + "/" + hex.EncodeToString(key[:])
}

const (
	watchEvery    = 15 * time.Second
	watchedAtMost = 256  // leaves asked for in a round, of each proxy
	owedAtMost    = 8192 // leaves remembered of each proxy
	patientFor    = 3    // rounds in which a late leaf may stay away: a proxy may be ending
)

// newLogWatch reads what was seen before and takes up a client's newest receipts;
// store is nil for workers.
func newLogWatch(dir string, w *logWatch, store *audit.Store) error {
	w.path, w.heads, w.owed = filepath.Join(dir, "logs.json"), map[string]seenHead{}, map[[32]byte][]owedLeaf{}
	w.sets, w.faults = map[[32]byte]bool{}, map[[32]byte]string{}
	w.misses, w.told, w.least, w.hidden = map[receipt.Hash]int{}, map[[32]byte]told{}, map[string]int64{}, map[string]withheld{}
	b, err := readSmall(w.path)
	if err == nil {
		err = json.Unmarshal(b, &w.heads)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s cannot be read: %w; restore it, or delete it to forget which logs were seen", w.path, err)
	}
	if store == nil {
		return nil
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
	connected := map[[32]byte]role.Watched{}
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
		fault := convicts(err) || errors.Is(err, ErrLate) || errors.Is(err, ErrHidden) || errors.Is(err, ErrShort)
		w.mu.Lock()
		was := w.faults[key]
		if delete(w.faults, key); fault {
			w.faults[key] = err.Error()
		}
		w.mu.Unlock()
		switch {
		case convicts(err):
			w.suspend(key, err)
		case fault && was == "":
			w.log.Error("a proxy broke its promise", "contract_key", hex.EncodeToString(key[:]), "err", err)
		case err != nil && !fault:
			w.log.Debug("a proxy's log could not be looked at", "err", err)
		}
	}
}

// Faults are the ones that stand now, by contract key.
func (w *logWatch) Faults() []role.LogFault {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []role.LogFault
	for key, f := range w.faults {
		out = append(out, role.LogFault{ContractKey: hex.EncodeToString(key[:]), Fault: f})
	}
	slices.SortFunc(out, func(a, b role.LogFault) int { return strings.Compare(a.ContractKey, b.ContractKey) })
	return out
}

// Seen is what the logs of this network proved last, by contract key.
func (w *logWatch) Seen() []role.LogSeen {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []role.LogSeen
	for _, name := range slices.Sorted(maps.Keys(w.heads)) {
		network, key, _ := strings.Cut(name, "/")
		if network != hex.EncodeToString(w.networkID[:8]) {
			continue
		}
		h := w.heads[name]
		seen := role.LogSeen{ContractKey: key, Epoch: h.Epoch, Size: h.Size}
		if b := h.Balance; b != nil {
			seen.Contract, seen.BalanceEpoch, seen.Tokens = b.Contract, h.BalanceEpoch, b.Total
		}
		out = append(out, seen)
	}
	return out
}

// look holds one log against the chain. here says whether its proxy can be asked.
func (w *logWatch) look(ctx context.Context, key [32]byte, p role.Watched, here bool) error {
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
	var found error
	if here {
		w.noteSets(key, p, stored.Epoch, acc.Block)
		if stored.Epoch > 0 {
			if found = w.grown(ctx, key, stored, acc.Block.Time); found == nil {
				found = w.balance(ctx, key, p, stored, acc.Block.Time)
			}
		}
		if found == nil {
			found = w.credited(key, p, stored, acc.Block.Time)
		}
		if convicts(found) || ctx.Err() != nil {
			return found
		}
	}
	if err := w.included(ctx, key, p, stored, acc.Block, here); err != nil {
		return err
	}
	return found
}

// withholds judges a proxy that refused to show something that its anchored log
// must hold: patient at first, then a fault, and a conviction when promises are
// over. A connection that broke is nobody's fault.
func (w *logWatch) withholds(key [32]byte, what string, now time.Time, err error) error {
	var answered *wire.Error
	if !errors.As(err, &answered) {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	name := w.name(key) + " " + what
	h, ok := w.hidden[name]
	if !ok {
		h.since = now
	}
	h.looks++
	w.hidden[name] = h
	switch {
	case now.Sub(h.since) > receipt.MaxPromise:
		return fmt.Errorf("%w: since %s it does not show %s", ErrLeftOut, h.since.UTC().Format(time.DateTime), what)
	case h.looks >= patientFor:
		return fmt.Errorf("%w: %s", ErrHidden, what)
	}
	return nil
}

// shows forgets that something was withheld.
func (w *logWatch) shows(key [32]byte, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.hidden, w.name(key)+" "+what)
}

// noteSets makes a log owe the sets that were used: they were logged before
// they were shown, so at the latest the epoch after the next one holds them.
func (w *logWatch) noteSets(key [32]byte, p role.Watched, epoch uint32, now access.Block) {
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

// The things that a log is asked for at each new epoch.
const (
	whatGrowth  = "the proof that its log only grew"
	whatBalance = "our balance"
)

// grown checks that the log only grew since it was last seen.
func (w *logWatch) grown(ctx context.Context, key [32]byte, stored bindings.AnchorStorage, at time.Time) error {
	name := w.name(key)
	w.mu.Lock()
	last, seen := w.heads[name]
	w.mu.Unlock()
	now := seenHead{Epoch: stored.Epoch, Size: stored.Size, Log: stored.Roots.Log, Balance: last.Balance, BalanceEpoch: last.BalanceEpoch}
	if seen && (now.Epoch < last.Epoch || now.Epoch == last.Epoch && now.Log == last.Log) {
		return nil // nothing new; after a start our own chain may be behind what we saw
	}
	if seen {
		b, err := w.page(ctx, key, fmt.Sprintf("consistency?first=%d&second=%d", last.Size, now.Size))
		if err != nil {
			return w.withholds(key, whatGrowth, at, err)
		}
		w.shows(key, whatGrowth)
		var proof []receipt.Hash
		if err := json.Unmarshal(b, &proof); err != nil {
			return fmt.Errorf("%w: its proof cannot be read", ErrForked)
		}
		if err := receipt.VerifyConsistency(last.Size, now.Size, last.Log, now.Log, proof); err != nil {
			return fmt.Errorf("%w: epoch %d with %d leaves is not the continuation of epoch %d with %d: %v", ErrForked, now.Epoch, now.Size, last.Epoch, last.Size, err)
		}
	}
	return w.saw(name, now)
}

// saw remembers a head, on disk.
func (w *logWatch) saw(name string, h seenHead) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heads[name] = h
	b, err := json.MarshalIndent(w.heads, "", " ")
	if err != nil {
		return err
	}
	return writeFile(w.path, append(b, '\n'), 0o600)
}

// balance checks our own leaf in the balances of the epoch on chain.
func (w *logWatch) balance(ctx context.Context, key [32]byte, p role.Watched, stored bindings.AnchorStorage, at time.Time) error {
	name := w.name(key)
	w.mu.Lock()
	last := w.heads[name]
	w.mu.Unlock()
	if last.Epoch != stored.Epoch || last.BalanceEpoch == stored.Epoch && last.Balance != nil && last.Balance.Contract == p.Party {
		return nil // not shown to continue yet, or checked already
	}
	b, err := w.page(ctx, key, fmt.Sprintf("balance?epoch=%d", stored.Epoch))
	if err != nil {
		if w.leastAt(key, p.Party, stored.Epoch) == 0 {
			var answered *wire.Error
			if errors.As(err, &answered) {
				return nil // nothing of ours need be there
			}
			return err
		}
		return w.withholds(key, whatBalance, at, err)
	}
	w.shows(key, whatBalance)
	var own receipt.BalanceProof
	if err := json.Unmarshal(b, &own); err != nil {
		return fmt.Errorf("%w: its proof cannot be read", ErrBalance)
	}
	root := stored.Roots.Clients
	if w.worker {
		root = stored.Roots.Workers
	}
	switch err := own.Verify(root); {
	case err != nil:
		return fmt.Errorf("%w: the proof of epoch %d does not hold: %v", ErrBalance, stored.Epoch, err)
	case own.Contract != p.Party || own.Proxy != p.Proxy:
		return fmt.Errorf("%w: epoch %d has it for contract %s at proxy contract %s, ours is %s at %s", ErrBalance, stored.Epoch, own.Contract, own.Proxy, p.Party, p.Proxy)
	case last.Balance != nil && last.Balance.Contract == own.Contract && own.Total < last.Balance.Total:
		return fmt.Errorf("%w: it went back from %d in epoch %d to %d in epoch %d", ErrBalance, last.Balance.Total, last.BalanceEpoch, own.Total, stored.Epoch)
	}
	last.Balance, last.BalanceEpoch = &own, stored.Epoch
	return w.saw(name, last)
}

// leastAt is the least that our balance must be in an epoch.
func (w *logWatch) leastAt(key [32]byte, party cocoon.Address, epoch uint32) (least uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	name := w.name(key)
	if b := w.heads[name].Balance; b != nil && b.Contract == party {
		least = b.Total
	}
	if t, ok := w.told[key]; ok && t.party == party && t.epoch <= epoch {
		least = max(least, uint64(t.counter))
	}
	return max(least, uint64(w.least[name+party.Raw()]))
}

// credited holds what a worker was told to have earned against its balance. A
// charge is logged a moment after the worker hears of it, so the epoch that is
// prepared then may lack it, and we may have seen the newest one late: from the
// third after it on all do. A balance that is behind then is a fault, and a
// conviction once no promise of that time can be open any more.
func (w *logWatch) credited(key [32]byte, p role.Watched, stored bindings.AnchorStorage, now time.Time) error {
	if p.Counter <= 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	have, at := int64(0), uint32(0)
	if h := w.heads[w.name(key)]; h.Balance != nil && h.Balance.Contract == p.Party {
		have, at = int64(min(h.Balance.Total, math.MaxInt64)), h.BalanceEpoch
	}
	t, ok := w.told[key]
	if !ok || t.party != p.Party || have >= t.counter {
		w.told[key] = told{p.Party, p.Counter, stored.Epoch + 3, now.Add(receipt.MaxPromise)}
		return nil
	}
	switch over := now.After(t.until); {
	case over && stored.Epoch < t.epoch:
		return fmt.Errorf("%w: we were told to have earned %d tokens, and until %s no epoch had them", ErrLate, t.counter, t.until.UTC().Format(time.DateTime))
	case over:
		return fmt.Errorf("%w: we were told to have earned %d tokens, epoch %d has %d", ErrBalance, t.counter, stored.Epoch, have)
	case at >= t.epoch:
		return fmt.Errorf("%w: we were told to have earned %d tokens, epoch %d has %d", ErrShort, t.counter, at, have)
	}
	return nil
}

// included asks for the places of owed leaves.
func (w *logWatch) included(ctx context.Context, key [32]byte, p role.Watched, stored bindings.AnchorStorage, now access.Block, here bool) error {
	w.mu.Lock()
	owed := slices.Clone(w.owed[key])
	seen := w.heads[w.name(key)]
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
		if l.after == 0 {
			continue
		}
		if b := seen.Balance; b != nil && l.client == b.Contract && b.Total < uint64(l.after) && seen.BalanceEpoch == stored.Epoch {
			return fmt.Errorf("%w: %s brought our counter to %d, the balance of epoch %d is %d", ErrBalance, l.what, l.after, stored.Epoch, b.Total)
		}
		w.mu.Lock()
		name := w.name(key) + l.client.Raw()
		w.least[name] = max(w.least[name], l.after)
		w.mu.Unlock()
	}
	return nil
}
