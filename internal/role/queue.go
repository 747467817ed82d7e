package role

import (
	"context"
	"errors"
	"sync"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
)

// ErrQueueFull says that a peer sent more of one answer than it had credit
// for, or, without credit (level 0), more than is buffered for a slow reader.
var ErrQueueFull = errors.New("the answer comes faster than it is read and its buffer is full")

// Queue holds the parts of one answer between the connection they arrive on
// and whoever reads them. Push never blocks, so that one slow reader never
// holds up the other requests of a connection; it is bounded in bytes.
type Queue struct {
	limit int
	grant func(n int)

	mu     sync.Mutex
	parts  []Part
	bytes  int // cost of parts
	unread int // cost popped and not granted again
	err    error
	signal chan struct{} // capacity 1: something changed
}

// NewQueue makes the queue of an answer from a peer of the given level. At
// level 1 grant is called with the bytes to grant back; it must not block.
func NewQueue(level int, grant func(n int)) *Queue {
	q := &Queue{limit: mux.QueueLimit, signal: make(chan struct{}, 1)}
	if level >= wire.Level1 {
		// The head comes beside the window.
		q.limit, q.grant = mux.Window+mux.MaxPart, grant
	}
	return q
}

// Push adds a part. It fails if the queue is full or closed.
func (q *Queue) Push(p Part) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return q.err
	}
	if q.bytes += p.cost(); q.bytes > q.limit {
		q.closeLocked(ErrQueueFull)
		return ErrQueueFull
	}
	q.parts = append(q.parts, p)
	q.wake()
	return nil
}

// cost is what a part takes of a window.
func (p *Part) cost() int { return len(p.Head) + len(p.Body) + mux.PartCost }

// Close ends the queue: after the parts already in it, Pop returns err.
func (q *Queue) Close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closeLocked(err)
}

func (q *Queue) closeLocked(err error) {
	if q.err == nil {
		q.err = err
		q.wake()
	}
}

func (q *Queue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// Pop returns the next part, waiting for one. One goroutine may call it.
func (q *Queue) Pop(ctx context.Context) (Part, error) {
	for {
		q.mu.Lock()
		if len(q.parts) > 0 {
			p := q.parts[0]
			q.parts[0] = Part{}
			q.parts = q.parts[1:]
			q.bytes -= p.cost()
			q.unread += p.cost()
			grant := 0
			if q.grant != nil && q.unread >= mux.Window/2 && !p.Last() {
				grant, q.unread = q.unread, 0
			}
			q.mu.Unlock()
			if grant > 0 {
				q.grant(grant)
			}
			return p, nil
		}
		err := q.err
		q.mu.Unlock()
		if err != nil {
			return Part{}, err
		}
		select {
		case <-q.signal:
		case <-ctx.Done():
			return Part{}, context.Cause(ctx)
		}
	}
}
