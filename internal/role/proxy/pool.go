package proxy

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// pool is the choice of worker: who serves which model, how busy they are,
// and who waits for one.
type pool struct {
	start time.Time

	mu      sync.Mutex
	workers map[*workerSession]struct{}
	models  map[string]*modelPool // every base name ever seen
}

type modelPool struct {
	seen    bool             // a worker has served it
	workers []*workerSession // the best choice first: workerSession.before
	picked  uint64           // choices made
	waiting []*waiter        // in order of arrival
}

// want is what a request asks of a worker.
type want struct {
	model          string
	maxCoefficient int32
	// keys: the request is encrypted, so the worker must understand keys.
	keys bool
	// candidates are the statements that the request is sealed to: workers with
	// none of them are no use. nil = it is not sealed.
	candidates [][32]byte
	// tried are sessions that failed this request already.
	tried map[*workerSession]bool
	// noWait: do not wait for a worker that is not there yet.
	noWait bool
	// wait bounds the wait for a worker; 0 = the context alone does.
	wait time.Duration
}

type waiter struct {
	want want
	got  chan place // capacity 1
}

// place is a worker that will serve a request, at the price factor it asked
// for at that moment.
type place struct {
	w           *workerSession
	coefficient int32
}

// settleTime is how long after its start a pool waits for workers of names it
// has not seen: after a restart of the proxy they are on their way back.
const settleTime = 15 * time.Second

// maxModels bounds the names that workers can make us remember; maxWaiting
// bounds the requests that wait for one model.
const (
	maxModels  = 10000
	maxWaiting = 4096
)

func newPool() *pool {
	return &pool{start: time.Now(), workers: map[*workerSession]struct{}{}, models: map[string]*modelPool{}}
}

// add gives a worker its place.
func (p *pool) add(w *workerSession) *wire.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	base := w.model.Base()
	m := p.models[base]
	if m == nil {
		if len(p.models) >= maxModels {
			return wire.Errorf(wire.CodeNotReady, "too many models")
		}
		m = &modelPool{}
		p.models[base] = m
	}
	p.workers[w] = struct{}{}
	m.seen = true
	m.insert(w)
	m.dispatch()
	return nil
}

// remove takes a worker out.
func (p *pool) remove(w *workerSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.workers, w)
	m := p.models[w.model.Base()]
	if m == nil {
		return
	}
	m.change(w, func() bool { return false })
}

// update changes what the pool knows of a worker under its lock.
func (p *pool) update(w *workerSession, change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.models[w.model.Base()]
	if m == nil {
		change()
		return
	}
	m.change(w, func() bool { change(); return true })
	m.dispatch()
}

// all returns the workers now.
func (p *pool) all() []*workerSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.workers))
}

// acquire takes a place at a worker, waiting for one. release gives it back.
func (p *pool) acquire(ctx context.Context, want want) (*workerSession, int32, *wire.Error) {
	got, err := p.place(ctx, want)
	return got.w, got.coefficient, err
}

func (p *pool) place(ctx context.Context, want want) (place, *wire.Error) {
	p.mu.Lock()
	m := p.models[want.model]
	if m == nil {
		if time.Since(p.start) > settleTime || len(p.models) >= maxModels {
			p.mu.Unlock()
			return place{}, wire.Errorf(wire.CodeProtocolViolation, "unknown model %s", clip(want.model, 128))
		}
		m = &modelPool{}
		p.models[want.model] = m
	}
	if got, ok := m.choose(want); ok {
		defer p.mu.Unlock()
		return got, nil
	}
	if lowest, dear := m.tooDear(want); dear {
		p.mu.Unlock()
		return place{}, wire.Errorf(wire.CodeNotReady, "can run this query with coefficient=%d", lowest)
	}
	if want.candidates != nil && (!m.serves(want) || m.othersFree(want)) {
		// Others may be there by now, or have room: the client seals anew.
		defer p.mu.Unlock()
		return place{}, wire.Errorf(wire.CodeNoCandidate, "none of the workers that the request is sealed to is connected and free")
	}
	if len(m.waiting) >= maxWaiting || want.noWait && !m.serves(want) {
		defer p.mu.Unlock()
		return place{}, m.none(want)
	}
	wt := &waiter{want: want, got: make(chan place, 1)}
	m.waiting = append(m.waiting, wt)
	p.mu.Unlock()

	if want.wait > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, want.wait)
		defer stop()
	}
	select {
	case got := <-wt.got:
		return got, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, x := range m.waiting {
		if x == wt {
			m.waiting = append(m.waiting[:i:i], m.waiting[i+1:]...)
			break
		}
	}
	select {
	case got := <-wt.got: // came just now
		return got, nil
	default:
	}
	if !m.seen && len(m.waiting) == 0 {
		delete(p.models, want.model)
	}
	return place{}, m.none(want)
}

// known reports whether the name is worth waiting for.
func (p *pool) known(model string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.models[model] != nil || time.Since(p.start) < settleTime
}

func (p *pool) release(w *workerSession) { p.update(w, func() { w.running-- }) }

// none is the refusal when nobody became free in time.
func (m *modelPool) none(want want) *wire.Error {
	if len(m.workers) == 0 {
		return wire.Errorf(wire.CodeNotReady, "no workers for model %s", clip(want.model, 128))
	}
	return wire.Errorf(wire.CodeNotReady, "no ready workers for model %s", clip(want.model, 128))
}

// dispatch gives free places to those who wait, first come first served.
func (m *modelPool) dispatch() {
	if len(m.workers) == 0 || !m.workers[0].free() {
		return // the usual case under load: nobody needs to be asked
	}
	kept := m.waiting[:0]
	for i, wt := range m.waiting {
		if got, ok := m.choose(wt.want); ok {
			wt.got <- got
			m.waiting[i] = nil
			continue
		}
		kept = append(kept, wt)
	}
	m.waiting = kept
}

// choose takes a place at the least busy usable worker; among equals the
// cheapest, then the one that was not picked for longest, so that a quiet
// network spreads its requests. Of equal ones that a request is sealed to, the
// client's first wins instead: it may hold the conversation in its cache. The
// workers stand in that order, so that few looks are enough however many there
// are.
func (m *modelPool) choose(want want) (place, bool) {
	var best *workerSession
	rank, found := 0, 0
	for _, w := range m.workers {
		if !w.free() || best != nil && !w.equals(best) {
			break // nor is any behind it
		}
		if !w.usable(want) || w.coefficient > want.maxCoefficient {
			continue
		}
		if want.candidates == nil {
			best = w
			break
		}
		if r := w.rank(want.candidates); best == nil || r < rank {
			best, rank = w, r
		}
		if found++; rank == 0 || found == len(want.candidates) {
			break
		}
	}
	if best == nil {
		return place{}, false
	}
	m.change(best, func() bool {
		m.picked++
		best.picked = m.picked
		best.running++
		return true
	})
	return place{best, best.coefficient}, true
}

// change changes a worker and moves it to where it then belongs, which is
// nowhere if it does not stay. One that is not here is only changed.
func (m *modelPool) change(w *workerSession, change func() (stays bool)) {
	i := slices.Index(m.workers, w)
	if i >= 0 {
		m.workers = slices.Delete(m.workers, i, i+1)
	}
	if change() && i >= 0 {
		m.insert(w)
	}
}

func (m *modelPool) insert(w *workerSession) {
	i, _ := slices.BinarySearchFunc(m.workers, w, func(x, w *workerSession) int {
		if w.before(x) {
			return 1
		}
		return -1 // behind its equals
	})
	m.workers = slices.Insert(m.workers, i, w)
}

// othersFree reports whether a worker that the request is not sealed to could
// take it now.
func (m *modelPool) othersFree(want want) bool {
	want.candidates = nil
	return slices.ContainsFunc(m.workers, func(w *workerSession) bool {
		return w.free() && w.usable(want) && w.coefficient <= want.maxCoefficient
	})
}

// serves reports whether some worker could take the request once it is free.
func (m *modelPool) serves(want want) bool {
	return slices.ContainsFunc(m.workers, func(w *workerSession) bool { return w.usable(want) })
}

func (m *modelPool) tooDear(want want) (lowest int32, dear bool) {
	for _, w := range m.workers {
		if !w.usable(want) {
			continue
		}
		if w.coefficient <= want.maxCoefficient {
			return 0, false
		}
		if !dear || w.coefficient < lowest {
			lowest, dear = w.coefficient, true
		}
	}
	return lowest, dear
}

// free, usable, before: under the pool's lock.

func (w *workerSession) free() bool { return w.enabled && !w.refused && w.running < w.limit }

func (w *workerSession) usable(want want) bool {
	if want.candidates != nil {
		if _, ok := w.statement(want.candidates); !ok {
			return false
		}
	}
	return w.enabled && !w.refused && !want.tried[w] && (!want.keys || w.version >= versionKeys) && role.Usable(w.conn) == nil
}

// equals reports that nothing but the turn tells two free workers apart.
func (w *workerSession) equals(o *workerSession) bool {
	return w.coefficient == o.coefficient && int64(w.running)*int64(o.limit) == int64(o.running)*int64(w.limit)
}

// before is the order of choice: who can take nothing stands behind all others.
func (w *workerSession) before(o *workerSession) bool {
	if free := w.free(); free != o.free() || !free {
		return free && !o.free()
	}
	// running/limit compared without division.
	a, b := int64(w.running)*int64(o.limit), int64(o.running)*int64(w.limit)
	if a != b {
		return a < b
	}
	if w.coefficient != o.coefficient {
		return w.coefficient < o.coefficient
	}
	return w.picked < o.picked
}
