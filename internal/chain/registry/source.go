package registry

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// MaxAge is how long a proven state may be used after it was last
// proven. It is the default of HolderConfig.MaxAge.
const MaxAge = 2 * time.Hour

// What a Holder refuses.
var (
	// ErrNoState is returned until a first snapshot was published.
	ErrNoState = errors.New("the root contract's state is not known yet")
	// ErrStale is returned when the last proven state is too old.
	ErrStale = errors.New("the root contract's state is too old to be used: no liteserver proved a newer one")
	// ErrOlder is returned by Publish for a snapshot older than the held one.
	ErrOlder = errors.New("snapshot is older than the one in use")
)

// Static is a Source whose snapshot never changes: a root file's.
type Static struct{ snapshot *Snapshot }

// NewStatic returns a Source of s alone.
func NewStatic(s *Snapshot) *Static { return &Static{s} }

// Current implements Source.
func (s *Static) Current() (*Snapshot, error) { return s.snapshot, nil }

// Changed implements Source: a channel that is never closed.
func (s *Static) Changed() <-chan struct{} { return nil }

// HolderConfig configures a Holder.
type HolderConfig struct {
	// MaxAge is how old the last proof may be; 0 = the MaxAge constant.
	MaxAge time.Duration
	// Now is the clock; nil = time.Now.
	Now func() time.Time
}

// Holder is a Source whose snapshot is replaced by whoever follows the chain.
// All methods are safe for concurrent use.
type Holder struct {
	maxAge time.Duration
	now    func() time.Time

	mu       sync.Mutex
	snapshot *Snapshot
	proven   time.Time     // block time of the latest proof of snapshot
	changed  chan struct{} // closed and replaced by Publish
}

// NewHolder returns a Holder without a snapshot.
func NewHolder(c HolderConfig) *Holder {
	h := &Holder{maxAge: c.MaxAge, now: c.Now, changed: make(chan struct{})}
	if h.maxAge == 0 {
		h.maxAge = MaxAge
	}
	if h.now == nil {
		h.now = time.Now
	}
	return h
}

// Publish makes s the current snapshot; s must not be changed afterwards. A
// snapshot with a lower version or an earlier block than the held one is
// refused with ErrOlder: a root's versions only grow, and so does the chain.
func (h *Holder) Publish(s *Snapshot) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if old := h.snapshot; old != nil && (s.Version < old.Version || s.Seqno < old.Seqno) {
		return fmt.Errorf("%w: version %d of block %d, in use is version %d of block %d", ErrOlder, s.Version, s.Seqno, old.Version, old.Seqno)
	}
	h.snapshot, h.proven = s, s.Time
	close(h.changed)
	h.changed = make(chan struct{})
	return nil
}

// Confirm notes that a block of the given time proved the held snapshot once
// more. Subscribers are not woken.
func (h *Holder) Confirm(blockTime time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if blockTime.After(h.proven) {
		h.proven = blockTime
	}
}

// Current implements Source. It fails with ErrNoState or ErrStale.
func (h *Holder) Current() (*Snapshot, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.snapshot == nil {
		return nil, ErrNoState
	}
	if age := h.now().Sub(h.proven); age > h.maxAge {
		return nil, fmt.Errorf("%w (last proof %v ago, at most %v is allowed)", ErrStale, age.Round(time.Second), h.maxAge)
	}
	return h.snapshot, nil
}

// Changed implements Source.
func (h *Holder) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}
