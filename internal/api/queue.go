package api

import (
	"context"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// queue admits calls: some run, some wait for a bounded time, the rest are
// refused. Callers are told apart by their API keys: a place goes to who runs
// the fewest calls, and who comes late to a full queue takes the place of the
// one that has most in it, so that no key shuts the others out.
type queue struct {
	places, room int // running and waiting at one time
	patience     time.Duration

	mu      sync.Mutex
	running int
	waiting int
	turn    uint64
	callers map[[32]byte]*party // those with calls that run or wait
	holds   time.Duration       // about how long a call runs
}

type party struct {
	running int
	served  uint64 // the turn in which it last got a place
	waiters []*waiter
}

// waiter hears nil when it has a place, or why it will not get one.
type waiter struct{ heard chan *openai.Error }

func newQueue(places, room int, patience time.Duration) *queue {
	return &queue{places: places, room: room, patience: patience, callers: map[[32]byte]*party{}}
}

// enter waits for a place; leave gives it back.
func (q *queue) enter(ctx context.Context, caller [32]byte) (leave func(), fail *openai.Error) {
	q.mu.Lock()
	p := q.callers[caller]
	if p == nil {
		p = &party{}
		q.callers[caller] = p
	}
	if q.running < q.places && q.waiting == 0 {
		q.takeLocked(p)
		q.mu.Unlock()
		return q.leave(caller, p), nil
	}
	if q.waiting >= q.room && !q.evictLocked(p) {
		q.forgetLocked(caller, p)
		fail := q.fullLocked()
		q.mu.Unlock()
		return nil, fail
	}
	w := &waiter{make(chan *openai.Error, 1)}
	p.waiters = append(p.waiters, w)
	q.waiting++
	q.mu.Unlock()

	late := time.NewTimer(q.patience)
	defer late.Stop()
	select {
	case fail = <-w.heard:
	case <-late.C:
		fail = openai.Unavailable("No place came free within %v.", q.patience)
	case <-ctx.Done():
		fail = openai.From(context.Cause(ctx))
	}
	if fail == nil {
		return q.leave(caller, p), nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, x := range p.waiters {
		if x == w {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			q.waiting--
			fail.RetryAfter = max(fail.RetryAfter, q.clearsLocked())
			q.forgetLocked(caller, p)
			return nil, fail
		}
	}
	select {
	case heard := <-w.heard: // came just now
		if heard == nil {
			q.backLocked(caller, p, 0)
		}
	default: // was evicted
		q.forgetLocked(caller, p)
	}
	return nil, fail
}

func (q *queue) takeLocked(p *party) {
	q.turn++
	q.running++
	p.running++
	p.served = q.turn
}

func (q *queue) leave(caller [32]byte, p *party) func() {
	begin := time.Now()
	return func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.backLocked(caller, p, time.Since(begin))
	}
}

func (q *queue) backLocked(caller [32]byte, p *party, held time.Duration) {
	q.running--
	p.running--
	if held > 0 {
		q.holds += (held - q.holds) / 8
	}
	q.forgetLocked(caller, p)
	for q.running < q.places && q.waiting > 0 {
		var next *party
		for _, x := range q.callers {
			if len(x.waiters) > 0 && (next == nil || x.running < next.running || x.running == next.running && x.served < next.served) {
				next = x
			}
		}
		w := next.waiters[0]
		next.waiters = next.waiters[1:]
		q.waiting--
		q.takeLocked(next)
		w.heard <- nil
	}
}

// evictLocked makes room for one more of p by refusing the newest of whoever
// has most waiting, unless that is p itself.
func (q *queue) evictLocked(p *party) bool {
	var most *party
	for _, x := range q.callers {
		if most == nil || len(x.waiters) > len(most.waiters) {
			most = x
		}
	}
	n := len(most.waiters)
	if n <= len(p.waiters)+1 {
		return false
	}
	w := most.waiters[n-1]
	most.waiters = most.waiters[:n-1]
	q.waiting--
	w.heard <- q.fullLocked()
	return true
}

// forgetLocked drops a party that has no calls. One who was refused may say so
// late, when p is gone already and the key has come back as another party.
func (q *queue) forgetLocked(caller [32]byte, p *party) {
	if p.running == 0 && len(p.waiters) == 0 && q.callers[caller] == p {
		delete(q.callers, caller)
	}
}

func (q *queue) fullLocked() *openai.Error {
	return openai.RateLimited(q.clearsLocked(), "The gateway is serving %d calls and %d wait already.", q.running, q.waiting)
}

// clearsLocked is about when those who wait have had their turn.
func (q *queue) clearsLocked() time.Duration {
	rounds := time.Duration(q.waiting/max(q.places, 1) + 1)
	return min(max(rounds*q.holds, time.Second), time.Minute)
}

// state is how many run and wait now.
func (q *queue) state() (running, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running, q.waiting
}
