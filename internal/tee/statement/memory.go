package statement

import (
	"container/list"
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// memory remembers a bounded number of things by a digest, the most recently
// used ones.
type memory[V any] struct {
	mu     sync.Mutex
	max    int
	byKey  map[[32]byte]*list.Element // of remembered[V]
	recent *list.List
}

type remembered[V any] struct {
	key   [32]byte
	value V
}

func newMemory[V any](max int) *memory[V] {
	return &memory[V]{max: max, byKey: map[[32]byte]*list.Element{}, recent: list.New()}
}

func (m *memory[V]) get(key [32]byte) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.byKey[key]
	if !ok {
		return v, false
	}
	m.recent.MoveToFront(e)
	return e.Value.(remembered[V]).value, true
}

func (m *memory[V]) put(key [32]byte, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.byKey[key]; ok {
		m.recent.Remove(e)
	}
	m.byKey[key] = m.recent.PushFront(remembered[V]{key, v})
	if m.recent.Len() > m.max {
		last := m.recent.Back()
		m.recent.Remove(last)
		delete(m.byKey, last.Value.(remembered[V]).key)
	}
}

// turns lets one appraisal run per core, and one per peer address, so that
// nobody gets more of us by sending more evidence.
type turns struct {
	cores chan struct{}

	mu     sync.Mutex
	byAddr map[string]*turn
}

type turn struct {
	place chan struct{}
	users int
}

func newTurns(cores int) *turns {
	return &turns{cores: make(chan struct{}, cores), byAddr: map[string]*turn{}}
}

// take waits for a turn of the peer at addr, host:port. done gives it back.
func (t *turns) take(ctx context.Context, addr string) (done func(), err error) {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		addr = host
	}
	t.mu.Lock()
	own := t.byAddr[addr]
	if own == nil {
		own = &turn{place: make(chan struct{}, 1)}
		t.byAddr[addr] = own
	}
	own.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(t.byAddr, addr)
		}
	}
	select {
	case own.place <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("%w: %v", ErrBusy, context.Cause(ctx))
	}
	select {
	case t.cores <- struct{}{}:
	case <-ctx.Done():
		<-own.place
		leave()
		return nil, fmt.Errorf("%w: %v", ErrBusy, context.Cause(ctx))
	}
	return func() {
		<-t.cores
		<-own.place
		leave()
	}, nil
}

// ticks is a monotonic clock: the host cannot set it back.
type ticks struct{ start time.Time }

func newTicks() ticks { return ticks{time.Now()} }

func (t ticks) now() time.Duration { return time.Since(t.start) }
