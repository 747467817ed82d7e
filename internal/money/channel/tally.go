package channel

// maxBound caps what one request counts for, so that sums cannot overflow. It
// is far above what any deposit pays for.
const maxBound = 1 << 50

// Tally is a client's own account of one channel: what its requests cost, and
// with it, whether they explain the counter that the proxy names. Each request
// counts with the most it can cost until the proxy has told what it did cost;
// one that nothing more will be heard of counts with the most for ever. So a
// lost message never makes an honest proxy look like a thief, and what a thief
// can take unseen is bounded by what the client itself asked for.
type Tally struct {
	counted int64 // requests that ended
	open    int64 // requests that have not: the most they can cost
	named   int64 // the highest counter the proxy named
}

// NewTally begins with what is known to be owed, or may be.
func NewTally(counted int64) Tally { return Tally{counted: max(counted, 0)} }

// Begin counts a request that can cost bound at most.
func (t Tally) Begin(bound int64) Tally {
	t.open = add(t.open, clampBound(bound))
	return t
}

// End closes a request that was begun with bound and cost told, as its answer
// or its payment says. It never counts for more than bound.
func (t Tally) End(bound, told int64) Tally {
	bound = clampBound(bound)
	t.open = max(0, t.open-bound)
	t.counted = add(t.counted, min(max(told, 0), bound))
	return t
}

// Hear takes in a counter that the proxy names. A lower one changes nothing.
func (t Tally) Hear(used int64) Tally {
	t.named = max(t.named, used)
	return t
}

// Limit is the most that the requests so far can have cost.
func (t Tally) Limit() int64 { return add(t.counted, t.open) }

// Named is the highest counter the proxy named.
func (t Tally) Named() int64 { return t.named }

// Unexplained is by how much the proxy's counter exceeds what all requests can
// have cost; 0 if they explain it.
func (t Tally) Unexplained() int64 { return max(0, t.named-t.Limit()) }

// Accept counts the unexplained part as owed. Whoever calls it has said so.
func (t Tally) Accept() Tally {
	t.counted = add(t.counted, t.Unexplained())
	return t
}

func clampBound(n int64) int64 { return min(max(n, 0), maxBound) }
