package role

import "github.com/cocoon-network/cocoon/internal/wire/mux"

// Queue holds the parts of one answer between the connection they arrive on
// and whoever reads them.
type Queue = mux.RecvQueue[Part]

// NewQueue makes the queue of an answer from a peer of the given level. At
// level 1 grant is called with the bytes to grant back; it must not block.
func NewQueue(level int, grant func(n int)) *Queue {
	return mux.NewRecvQueue(level, 0, func(p Part) int { return len(p.Head) + len(p.Body) }, grant)
}

// Deliver puts a part into its answer's queue. One that has no room ends the
// answer, since a part is missing then; other answers go on.
func Deliver(q *Queue, p Part) {
	if err := q.Push(p); err != nil {
		q.Close(err)
	}
}
