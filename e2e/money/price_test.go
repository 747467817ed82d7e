package money_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/chain/bindings"
)

// TestPriceChange: the owner of the root contract changes the terms of a
// running network. Everybody moves to new contracts, the old ones close, every
// deposit comes back, and the books of all of them together are even, also
// after the delays.
func TestPriceChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := up(t, dir)
	c := openChain(t, dir)
	cost := askMany(t, n.base, 20)

	// serves waits until requests are charged under new terms. A move takes a
	// moment in which nobody may be there to serve.
	serves := func(params uint32) {
		t.Helper()
		eventually(t, fmt.Sprintf("a client contract under params %d", params), func() bool {
			for _, p := range n.channels().Processes {
				for _, ch := range p.Channels {
					if ch.Kind == "client" && ch.Params == params && ch.State == "open" {
						return true
					}
				}
			}
			return false
		})
		eventually(t, "an answer", func() bool {
			more, err := ask(n.base)
			cost += more
			return err == nil
		})
	}
	// The contracts of the first terms stay closing for minutes; those made
	// under these for seconds.
	must(t, "", nil, "root", "set-params", "--proxy-delay", "6s", "--client-delay", "3s", "--yes", "--json", "--dir", dir)
	serves(2)
	cost += askMany(t, n.base, 20)
	must(t, "", nil, "root", "set-prices", "--price", "30nano", "--worker-fee", "28nano", "--yes", "--json", "--dir", dir)
	serves(3)
	before := n.status().Paid
	if more := askMany(t, n.base, 20); more%30 != 0 || n.status().Paid-before != more {
		t.Errorf("under the new price 20 answers cost %d nano, the books say %d", more, n.status().Paid-before)
	} else {
		cost += more
	}

	eventually(t, "end of the old contracts", func() bool {
		for _, p := range n.channels().Processes {
			for _, ch := range p.Channels {
				if ch.Kind == "client" && ch.Params < 3 && ch.State != "closed" || ch.Kind == "proxy" && ch.Params == 2 && ch.State != "closed" {
					return false
				}
			}
		}
		return true
	})
	s := n.settle()
	if s.Paid != cost {
		t.Errorf("paid %d nano, callers were told %d", s.Paid, cost)
	}
	n.even(c, s)
	old := 0
	for _, p := range n.channels().Processes {
		for _, ch := range p.Channels {
			switch {
			case ch.Kind == "client" && ch.Params < 3:
				old++
				if on := c.client(ch.Contract); on.State != bindings.Closed || on.Balance != 0 {
					t.Errorf("old client contract %v holds a deposit: %+v", ch.Contract, on)
				}
			case ch.Kind == "proxy" && ch.Params == 2:
				if on := c.proxy(ch.Contract); on.Stake != 0 || on.Earnings != 0 {
					t.Errorf("old proxy contract %v holds stake or earnings: %+v", ch.Contract, on)
				}
			}
		}
	}
	if old != 2 {
		t.Errorf("%d old client contracts, want 2", old)
	}

	// The first proxy contract stays closing for ten minutes, which pass while
	// nobody runs.
	n.stop()
	advance(t, dir, 601*time.Second)
	n = up(t, dir)
	c = openChain(t, dir)
	eventually(t, "end of the first proxy contract", func() bool {
		closed := 0
		for _, p := range n.channels().Processes {
			for _, ch := range p.Channels {
				if ch.Kind == "proxy" && ch.Params < 3 && ch.State == "closed" {
					closed++
				}
			}
		}
		return closed == 2
	})
	for _, p := range n.channels().Processes {
		for _, ch := range p.Channels {
			on := c.account(ch.Proxy)
			switch {
			case ch.Params == 3:
			case ch.Kind == "client" && ch.Balance != 0:
				t.Errorf("old client contract %v holds %d nano", ch.Contract, ch.Balance)
			case ch.Kind == "proxy" && (ch.Stake != 0 || ch.Earnings != 0 || on.Balance > 1e9):
				// What stays is for rent, and the gas that its deployment left over.
				t.Errorf("old proxy contract %v has %v, stake %d, earnings %d", ch.Contract, on.Balance, ch.Stake, ch.Earnings)
			}
		}
	}
	more, err := ask(n.base)
	if err != nil {
		t.Fatal(err)
	}
	if s = n.settle(); s.Paid != cost+more {
		t.Errorf("paid %d nano, callers were told %d", s.Paid, cost+more)
	}
	n.even(c, s)
}
