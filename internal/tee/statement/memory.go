package statement

import (
	"container/list"
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

// ticks is a monotonic clock: the host cannot set it back.
type ticks struct{ start time.Time }

func newTicks() ticks { return ticks{time.Now()} }

func (t ticks) now() time.Duration { return time.Since(t.start) }
