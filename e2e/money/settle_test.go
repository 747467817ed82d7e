package money_test

import "testing"

// TestBooks: after two hundred requests the books are even, the contracts on
// chain say the same, and so they do after everything was killed.
func TestBooks(t *testing.T) {
	const requests = 200
	dir := t.TempDir()
	n := up(t, dir)
	c := openChain(t, dir)
	deposit := n.deposits(c)

	cost := askMany(t, n.base, requests)
	if s := n.status(); s.Paid != cost {
		t.Errorf("paid %d nano, callers were told %d", s.Paid, cost)
	}
	s := n.settle()
	if s.Paid != cost || s.Earned*20 != s.Paid*19 || s.Gas <= 0 {
		t.Errorf("callers were told %d nano; settled: %+v", cost, s)
	}
	n.even(c, s)
	if now := n.deposits(c); deposit-now != cost {
		t.Errorf("the deposit went from %d to %d nano, callers were told %d", deposit, now, cost)
	}

	// A power cut, with charges that no chain has seen.
	more := askMany(t, n.base, 20)
	n.killAll()
	caller.CloseIdleConnections()
	n = up(t, dir)
	c = openChain(t, dir)
	if after := n.status(); after.Paid != cost+more || after.Gas < s.Gas {
		t.Errorf("before the kill callers were told %d nano, gas was %d; after it %+v", cost+more, s.Gas, after)
	}
	more += askMany(t, n.base, 20)
	s = n.settle()
	if s.Paid != cost+more {
		t.Errorf("paid %d nano, callers were told %d", s.Paid, cost+more)
	}
	n.even(c, s)
	if now := n.deposits(c); deposit-now != cost+more {
		t.Errorf("the deposit went from %d to %d nano, callers were told %d", deposit, now, cost+more)
	}
}
