package mux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cocoon-network/cocoon/internal/wire"
)

// Flow control of one answer between peers of level 1. The receiver grants
// bytes with cocoon.window, the sender spends them: an answer that its reader
// does not take stops at its source and holds up nobody else on the
// connection. Both sides start with Window. A part costs its length and
// PartCost, so that empty parts are not free.
const (
	// Window is what a sender may send before the first grant.
	Window = 256 << 10
	// PartCost is added to the length of each part.
	PartCost = 64
	// MaxPart is the longest part that a sender of level 1 makes. It fits into
	// half a window, and a receiver grants whenever half is used up, so no part
	// waits for ever.
	MaxPart = 64 << 10

	// QueueLimit is what a RecvQueue holds for a peer of level 0, which knows
	// no windows.
	QueueLimit = 16 << 20
	// slack is what a RecvQueue of level 1 holds beyond the window. A sender
	// that counts right needs none of it.
	slack = MaxPart
)

// What can go wrong with an answer in parts.
var (
	ErrPartTooLarge = errors.New("mux: part of an answer above 64 KiB")
	ErrOverflow     = errors.New("mux: answer held back: the peer sent more than was granted, or its reader is too slow")
	ErrQueueClosed  = errors.New("mux: part after the end of the answer")
)

// SendWindow is the sender's side of one answer. A nil *SendWindow is that of
// level 0: it never blocks.
type SendWindow struct {
	mu     sync.Mutex
	credit int64
	more   chan struct{} // closed when credit came or the window was closed
	err    error
}

// NewSendWindow returns the window of an answer to a peer of the given level.
func NewSendWindow(level int) *SendWindow {
	if level < wire.Level1 {
		return nil
	}
	return &SendWindow{credit: Window}
}

// NewClosedWindow returns a window without any credit: nothing is sent before
// the receiver's first grant.
func NewClosedWindow() *SendWindow { return &SendWindow{} }

// Acquire waits until a part of n bytes may be sent, and counts it as sent. It
// fails when ctx ends and after Close, and with ErrPartTooLarge above MaxPart.
func (w *SendWindow) Acquire(ctx context.Context, n int) error {
	if w == nil {
		return nil
	}
	if n > MaxPart {
		return ErrPartTooLarge
	}
	cost := int64(n + PartCost)
	w.mu.Lock()
	for {
		if w.err != nil {
			defer w.mu.Unlock()
			return w.err
		}
		if w.credit >= cost {
			w.credit -= cost
			w.mu.Unlock()
			return nil
		}
		if w.more == nil {
			w.more = make(chan struct{})
		}
		more := w.more
		w.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
			return fmt.Errorf("mux: waiting for window: %w", context.Cause(ctx))
		}
		w.mu.Lock()
	}
}

// TryAcquire is Acquire if it need not wait; false means ask Acquire.
func (w *SendWindow) TryAcquire(n int) bool {
	if w == nil {
		return true
	}
	cost := int64(n + PartCost)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || n > MaxPart || w.credit < cost {
		return false
	}
	w.credit -= cost
	return true
}

// Grant adds what the peer granted. Credit never exceeds a window. A grant of
// nothing or less fails with ErrViolation.
func (w *SendWindow) Grant(n int) error {
	if w == nil {
		return nil
	}
	if n <= 0 {
		return violation("a window of %d bytes was granted", n)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.credit = min(w.credit+int64(n), Window)
	w.signal()
	return nil
}

// Close makes Acquire fail with err: the request was cancelled.
func (w *SendWindow) Close(err error) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	w.signal()
}

func (w *SendWindow) signal() {
	if w.more != nil {
		close(w.more)
		w.more = nil
	}
}

// RecvQueue is the receiver's side of one answer: a bounded queue of parts
// between the connection's reader, which must not wait, and the answer's one
// consumer.
type RecvQueue[Part any] struct {
	limit int
	size  func(Part) int
	grant func(n int)
	ready chan struct{} // capacity 1: there may be something to pop

	mu       sync.Mutex
	parts    []Part // from head on
	head     int
	held     int // cost of the parts
	consumed int // cost popped and not granted yet
	closed   bool
	err      error
}

// NewRecvQueue returns the queue of an answer from a peer of the given level.
// size gives a part's length in bytes. limit is the most the queue holds from a
// peer of level 0; 0 means QueueLimit. At level 1 it holds a window, and grant,
// which must not block, is called by Pop with the bytes to grant back; it
// should send cocoon.window with SendUrgent.
func NewRecvQueue[Part any](level, limit int, size func(Part) int, grant func(n int)) *RecvQueue[Part] {
	q := &RecvQueue[Part]{limit: limit, size: size, ready: make(chan struct{}, 1)}
	switch {
	case level >= wire.Level1:
		q.limit, q.grant = Window+slack, grant
	case limit <= 0:
		q.limit = QueueLimit
	}
	return q
}

// Push adds a part and keeps it. It never blocks: it fails with ErrOverflow
// when the queue would hold more than it may, and with ErrQueueClosed after
// Close.
func (q *RecvQueue[Part]) Push(part Part) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrQueueClosed
	}
	cost := q.size(part) + PartCost
	if q.held+cost > q.limit {
		return ErrOverflow
	}
	if q.head > 0 && len(q.parts) == cap(q.parts) { // reuse the room in front
		n := copy(q.parts, q.parts[q.head:])
		clear(q.parts[n:])
		q.parts, q.head = q.parts[:n], 0
	}
	q.held += cost
	q.parts = append(q.parts, part)
	q.notify()
	return nil
}

// Pop returns the next part, waiting for it until ctx ends. After the last one
// it returns what Close said: io.EOF for a complete answer. One goroutine pops.
func (q *RecvQueue[Part]) Pop(ctx context.Context) (part Part, err error) {
	for {
		if part, ok, err := q.pop(); ok || err != nil {
			return part, err
		}
		select {
		case <-q.ready:
		case <-ctx.Done():
			return part, fmt.Errorf("mux: waiting for the answer: %w", context.Cause(ctx))
		}
	}
}

func (q *RecvQueue[Part]) pop() (part Part, ok bool, err error) {
	q.mu.Lock()
	if q.head == len(q.parts) {
		defer q.mu.Unlock()
		if q.closed {
			return part, false, q.err
		}
		return part, false, nil
	}
	part, q.parts[q.head] = q.parts[q.head], part // the queue keeps a zero part
	if q.head++; q.head == len(q.parts) {
		q.parts, q.head = q.parts[:0], 0
	}
	cost := q.size(part) + PartCost
	q.held -= cost
	q.consumed += cost
	grant := 0
	if q.grant != nil && q.consumed >= Window/2 && !q.closed {
		grant, q.consumed = q.consumed, 0
	}
	q.mu.Unlock()
	if grant > 0 {
		q.grant(grant)
	}
	return part, true, nil
}

// Len returns how many parts wait: 0 tells the consumer to flush.
func (q *RecvQueue[Part]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.parts) - q.head
}

// Close ends the answer. Parts pushed before are still popped; then Pop returns
// err, or io.EOF if it is nil. The first Close counts.
func (q *RecvQueue[Part]) Close(err error) {
	if err == nil {
		err = io.EOF
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.closed, q.err = true, err
		q.notify()
	}
}

func (q *RecvQueue[Part]) notify() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
