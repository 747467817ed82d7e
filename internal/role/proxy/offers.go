package proxy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// offers are the workers that requests can be sealed to: their bundles, and the
// signed sets that name them (docs/protocol.md, bundles and sets).
type offers struct {
	p *Proxy

	making sync.Mutex // held while a set is made

	mu      sync.Mutex
	bundles map[[32]byte]*offer
	set     *schema.CocoonSet
	hash    [32]byte // of set
	signed  []byte   // boxed cocoon.signedSet
	allowed float64  // versions that may be made now
	counted time.Time
	broken  bool // a set could not be logged, and that was said
}

// offer is one statement of a worker.
type offer struct {
	bundle []byte
	seen   time.Time // last in force
}

// Versions of sets: at most one in 30 s in the long run, with some in hand for
// workers that come at once.
const (
	setEvery = 30 * time.Second
	setBurst = 20
	// setAge is when a set is made anew though nothing changed: clients refuse
	// those older than 2 minutes.
	setAge = time.Minute
	// offerLife is how long the bundle of an old statement is still given out:
	// as long as requests may be sealed to it.
	offerLife = 20 * time.Minute
	// maxStatements is how many of a worker's statements may still be in use.
	maxStatements = 8
	maxEntries    = 4096
	lookEvery     = time.Second
)

func newOffers(p *Proxy) *offers {
	return &offers{p: p, bundles: map[[32]byte]*offer{}, allowed: setBurst, counted: time.Now()}
}

// run keeps bundles and set up to date until ctx ends.
func (o *offers) run(ctx context.Context) {
	for {
		o.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(lookEvery):
		}
	}
}

// look gathers what workers show now, and makes a new set if that is due.
func (o *offers) look(ctx context.Context) {
	if o.p.cfg.Sign == nil {
		return
	}
	o.making.Lock()
	defer o.making.Unlock()
	now := time.Now()
	var entries []schema.CocoonSetEntry
	o.p.pool.mu.Lock()
	for w := range o.p.pool.workers {
		if w.conn.Session == nil {
			continue
		}
		n := w.conn.Session.Node()
		if len(n.SealKey) == 0 {
			continue
		}
		if !slices.Contains(w.statements, n.Digest) {
			w.statements = append(w.statements, n.Digest)
			w.statements = w.statements[max(0, len(w.statements)-maxStatements):]
		}
		o.mu.Lock()
		o.bundles[n.Digest] = &offer{n.Bundle, now}
		o.mu.Unlock()
		if w.enabled && !w.refused && role.Usable(w.conn) == nil {
			entries = append(entries, schema.CocoonSetEntry{Statement: n.Digest, Model: string(n.Model), Coefficient: w.coefficient, Platform: n.Result.Platform})
		}
	}
	o.p.pool.mu.Unlock()
	slices.SortFunc(entries, func(a, b schema.CocoonSetEntry) int { return bytes.Compare(a.Statement[:], b.Statement[:]) })
	entries = entries[:min(len(entries), maxEntries)]

	o.mu.Lock()
	for d, x := range o.bundles {
		if now.Sub(x.seen) > offerLife {
			delete(o.bundles, d)
		}
	}
	due := o.due(entries, now)
	o.mu.Unlock()
	if due {
		o.make(ctx, entries)
	}
}

// due reports whether a set of these entries is to be made now; the lock is
// held.
func (o *offers) due(entries []schema.CocoonSetEntry, now time.Time) bool {
	o.allowed = min(o.allowed+float64(now.Sub(o.counted))/float64(setEvery), setBurst)
	o.counted = now
	switch {
	case o.set == nil:
		return len(entries) > 0
	case o.allowed < 1:
		return false
	}
	return !slices.Equal(o.set.Entries, entries) || o.p.cfg.Now().Sub(time.Unix(int64(o.set.Time), 0)) >= setAge
}

// make makes the next version.
func (o *offers) make(ctx context.Context, entries []schema.CocoonSetEntry) {
	inst, err := o.p.current()
	if err != nil {
		return
	}
	o.mu.Lock()
	set := &schema.CocoonSet{Contract: schema.CocoonAddress(inst.contract), Time: int32(o.p.cfg.Now().Unix()), Entries: entries}
	last := uint64(0)
	if o.set != nil {
		last, set.Previous = uint64(o.set.Version), o.hash
	} else if o.p.cfg.Receipts != nil {
		last, set.Previous = o.p.cfg.Receipts.LastSet()
	}
	o.mu.Unlock()
	// Milliseconds of the clock: no version comes twice over a restart, even of
	// a proxy that logs nothing.
	set.Version = max(int64(last)+1, time.Now().UnixMilli())
	b := schema.Marshal(set)
	hash := sha256.Sum256(b)
	signed := schema.Marshal(&schema.CocoonSignedSet{Set: b, Signature: o.p.cfg.Sign(role.SetMessage(inst.contract, uint64(set.Version), set.Previous, hash))})
	if o.p.cfg.Receipts != nil {
		if err := o.p.cfg.Receipts.LogSet(ctx, signed); err != nil {
			o.mu.Lock()
			said := o.broken
			o.broken = true
			o.mu.Unlock()
			if !said && ctx.Err() == nil {
				o.p.log.Error("cannot log the set of workers: the old one stays", "err", err)
			}
			return
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.set, o.hash, o.signed, o.broken = set, hash, signed, false
	o.allowed--
}

// version is that of the set in force, 0 without one.
func (o *offers) version() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set == nil {
		return 0
	}
	return uint64(o.set.Version)
}

// answerSet gives a client the set in force, or nothing if it has it.
func (o *offers) answerSet(known int64) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set == nil || o.set.Version == known {
		return schema.Marshal(&schema.CocoonSignedSet{})
	}
	return o.signed
}

func (o *offers) answerBundle(statement [32]byte) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.bundles[statement]
	if x == nil && o.p.cfg.Log != nil {
		if own := o.p.cfg.Log.Statement(statement); own != nil {
			return schema.Marshal(&schema.CocoonBundled{Bundle: own}), nil
		}
	}
	if x == nil {
		return nil, wire.Errorf(wire.CodeError, "no such statement")
	}
	return schema.Marshal(&schema.CocoonBundled{Bundle: x.bundle}), nil
}

// statement returns which of the candidates a worker can open; under the pool's
// lock.
func (w *workerSession) statement(candidates [][32]byte) (d [32]byte, ok bool) {
	for _, c := range candidates {
		if slices.Contains(w.statements, c) {
			return c, true
		}
	}
	return d, false
}

// rank is where the worker stands among the candidates.
func (w *workerSession) rank(candidates [][32]byte) int {
	return slices.IndexFunc(candidates, func(c [32]byte) bool { return slices.Contains(w.statements, c) })
}

// statement is the same for callers without the lock.
func (p *pool) statement(w *workerSession, candidates [][32]byte) (d [32]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, _ = w.statement(candidates)
	return d
}
