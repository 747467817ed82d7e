package channel

import (
	"errors"
	"fmt"
	"math"
)

// ErrCounters says that counters contradict one another or overflow.
var ErrCounters = errors.New("token counters are inconsistent")

// Counters are the three stages of one cumulative count of adjusted tokens
// (spec network-protocol 7.1): a client's use or a worker's earnings at one
// proxy contract. Used ≥ Durable ≥ Committed ≥ 0, and none ever falls.
type Counters struct {
	Used      int64 // now, in memory: max_tokens on the wire
	Durable   int64 // in the ledger: db_tokens
	Committed int64 // covered by a mark on chain, the most that is signed
}

// Check reports whether the stages are in order.
func (c Counters) Check() error {
	if c.Committed < 0 || c.Durable < c.Committed || c.Used < c.Durable {
		return fmt.Errorf("%w: used %d, durable %d, committed %d", ErrCounters, c.Used, c.Durable, c.Committed)
	}
	return nil
}

// add counts n more tokens.
func (c Counters) add(n int64) (Counters, error) {
	if n < 0 || n > math.MaxInt64-c.Used {
		return c, fmt.Errorf("%w: %d tokens on top of %d", ErrCounters, n, c.Used)
	}
	c.Used += n
	return c, nil
}

// durable notes that the count up to n is in the ledger. An older n changes
// nothing.
func (c Counters) durable(n int64) (Counters, error) {
	if n > c.Used {
		return c, fmt.Errorf("%w: %d tokens durable, %d used", ErrCounters, n, c.Used)
	}
	c.Durable = max(c.Durable, n)
	return c, nil
}

// commit notes that a mark on chain covers the count up to n.
func (c Counters) commit(n int64) (Counters, error) {
	if n > c.Durable {
		return c, fmt.Errorf("%w: %d tokens committed, %d durable", ErrCounters, n, c.Durable)
	}
	c.Committed = max(c.Committed, n)
	return c, nil
}

// max returns the higher of each stage.
func (c Counters) max(o Counters) Counters {
	return Counters{max(c.Used, o.Used), max(c.Durable, o.Durable), max(c.Committed, o.Committed)}
}
