package channel

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// open is the contract of a client with balance and stake in tokens at price
// 20.
func open(balance, stake, charged int64) ClientContract {
	return ClientContract{Open: true, Balance: coins.Nano(20 * balance), Stake: coins.Nano(20 * stake), Charged: charged}
}

func mustBook(t *testing.T, c ClientContract, counters Counters) ClientBook {
	t.Helper()
	b, err := NewClientBook(20, c, counters)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAvailable is the formula of spec network-protocol 6.
func TestAvailable(t *testing.T) {
	for _, c := range []struct {
		balance, stake, charged int64
		counters                Counters
		reserve, want           int64
	}{
		{1000, 100, 0, Counters{}, 0, 100},                  // the stake limits
		{50, 100, 0, Counters{}, 0, 50},                     // the deposit limits
		{1000, 100, 500, Counters{Used: 550}, 0, 50},        // beyond the charge: stake less 50
		{1000, 100, 500, Counters{Used: 550}, 30, 20},       // and less what is reserved
		{1000, 100, 500, Counters{Used: 700}, 0, 0},         // never negative
		{math.MaxInt64 / 40, 5, 0, Counters{Used: 5}, 0, 0}, // no overflow
	} {
		b := mustBook(t, open(c.balance, c.stake, c.charged), c.counters)
		b, err := b.Reserve(c.reserve)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.Available(); got != c.want {
			t.Errorf("%+v: available %d", c, got)
		}
	}
	free, err := NewClientBook(0, ClientContract{Open: true}, Counters{})
	if err != nil || free.Available() != 1e12 {
		t.Errorf("price 0: %d, %v", free.Available(), err)
	}
	rich, err := NewClientBook(1, ClientContract{Open: true, Balance: math.MaxUint64, Stake: math.MaxUint64}, Counters{})
	if err != nil || rich.Available() != math.MaxInt64 {
		t.Errorf("largest balance: %d, %v", rich.Available(), err)
	}
}

func TestReserveRefuses(t *testing.T) {
	b := mustBook(t, open(1000, 100, 0), Counters{})
	var be *BalanceError
	if _, err := b.Reserve(101); !errors.As(err, &be) || *be != (BalanceError{Need: 101, Paid: 1000, Stake: 100}) {
		t.Errorf("too much: %v", err)
	}
	if got := be.Error(); got != "client balance is too low: to_reserve=101 tokens_payed=1000 tokens_used=0 tokens_reserved=0 tokens_stake=100" {
		t.Error(got)
	}
	if _, err := b.Reserve(-1); !errors.As(err, &be) {
		t.Errorf("negative: %v", err)
	}
	closing := open(1000, 100, 0)
	closing.Open = false
	if _, err := mustBook(t, closing, Counters{}).Reserve(1); !errors.Is(err, ErrClosing) {
		t.Errorf("closing: %v", err)
	}
}

func TestSettle(t *testing.T) {
	b := mustBook(t, open(1000, 100, 0), Counters{})
	b, err := b.Reserve(60)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.Settle(61, 1); !errors.Is(err, ErrReservation) {
		t.Errorf("settling what was not reserved: %v", err)
	}
	next, charge, err := b.Settle(60, 45)
	if err != nil || charge != 45 || next.Counters().Used != 45 || next.Reserved() != 0 || next.Running() != 0 {
		t.Errorf("settled %+v, %d, %v", next, charge, err)
	}
	if _, charge, _ = b.Settle(60, 1e9); charge != 60 {
		t.Errorf("a charge of %d went beyond the reservation", charge)
	}
	if _, charge, _ = b.Settle(60, -5); charge != 0 {
		t.Errorf("a negative report charged %d", charge)
	}
	if b.Counters().Used != 0 || b.Reserved() != 60 {
		t.Error("an event changed its receiver")
	}
	if _, err := next.Release(0); !errors.Is(err, ErrReservation) {
		t.Errorf("releasing without a reservation: %v", err)
	}
}

func TestOnChain(t *testing.T) {
	b := mustBook(t, open(1000, 100, 0), Counters{Used: 50, Durable: 50})
	b, err := b.OnChain(open(960, 100, 40))
	if err != nil || b.Contract().Charged != 40 || b.Available() != 90 {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err = b.OnChain(open(1000, 100, 30)); err != nil || b.Contract().Charged != 40 {
		t.Errorf("an older state was taken over: %+v, %v", b, err)
	}
	if _, err = b.OnChain(open(900, 100, 51)); !errors.Is(err, ErrRollback) {
		t.Errorf("chain ahead of the ledger: %v", err)
	}
	if _, err := NewClientBook(20, open(1, 1, 1), Counters{}); !errors.Is(err, ErrRollback) {
		t.Errorf("new book behind the chain: %v", err)
	}
	if _, err := NewClientBook(20, open(1, 1, 0), Counters{Used: 1, Durable: 2}); !errors.Is(err, ErrCounters) {
		t.Errorf("counters out of order: %v", err)
	}
}

func TestStages(t *testing.T) {
	b := mustBook(t, open(1000, 100, 0), Counters{Used: 50})
	if _, err := b.Commit(1); !errors.Is(err, ErrCounters) {
		t.Errorf("committed before durable: %v", err)
	}
	if _, err := b.Durable(51); !errors.Is(err, ErrCounters) {
		t.Errorf("durable before used: %v", err)
	}
	b, err := b.Durable(40)
	if err != nil {
		t.Fatal(err)
	}
	if b, err = b.Commit(30); err != nil || b.Counters() != (Counters{50, 40, 30}) {
		t.Errorf("%+v, %v", b.Counters(), err)
	}
	if b, err = b.Durable(10); err != nil || b.Counters().Durable != 40 {
		t.Errorf("an older durable count: %+v, %v", b.Counters(), err)
	}
}

// TestClientBookInvariants runs random events with random, also absurd,
// numbers and checks after each what must always hold.
func TestClientBookInvariants(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		b := mustBook(t, open(r.Int64N(10000), r.Int64N(1000), 0), Counters{})
		var running []int64
		amount := func() int64 {
			if r.IntN(20) == 0 {
				return []int64{-1, math.MinInt64, math.MaxInt64, 0}[r.IntN(4)]
			}
			return r.Int64N(300)
		}
		for range 300 {
			before := b
			var err error
			switch n := amount(); r.IntN(7) {
			case 0, 1:
				if b, err = b.Reserve(n); err == nil {
					running = append(running, n)
				}
			case 2:
				if len(running) > 0 {
					i := r.IntN(len(running))
					var charge int64
					b, charge, err = b.Settle(running[i], n)
					if err != nil || charge < 0 || charge > running[i] || charge > max(n, 0) {
						t.Fatalf("settling %d used %d charged %d, %v", running[i], n, charge, err)
					}
					running = append(running[:i], running[i+1:]...)
				}
			case 3:
				if len(running) > 0 {
					if b, err = b.Release(running[0]); err != nil {
						t.Fatal(err)
					}
					running = running[1:]
				}
			case 4:
				b, _ = b.Durable(n + b.counters.Durable)
			case 5:
				b, _ = b.Commit(n + b.counters.Committed)
			case 6:
				b, _ = b.OnChain(open(r.Int64N(10000), r.Int64N(1000), n))
			}
			var sum int64
			for _, n := range running {
				sum += n
			}
			switch {
			case b.counters.Check() != nil:
				t.Fatalf("%+v: %v", b, b.counters.Check())
			case b.reserved != sum || b.running != len(running):
				t.Fatalf("%d reserved by %d, the requests hold %d, %d", b.reserved, b.running, sum, len(running))
			case b.Available() < 0:
				t.Fatalf("available %d", b.Available())
			case b.counters.Used < before.counters.Used || b.counters.Durable < before.counters.Durable || b.counters.Committed < before.counters.Committed || b.contract.Charged < before.contract.Charged:
				t.Fatalf("a counter fell: %+v, before %+v", b, before)
			}
		}
	}
}

func TestWorkerBook(t *testing.T) {
	b, err := NewWorkerBook(10, Counters{30, 20, 10})
	if err != nil {
		t.Fatal(err)
	}
	if b, err = b.Earn(5); err != nil || b.Counters().Used != 35 {
		t.Errorf("%+v, %v", b, err)
	}
	if b, err = b.Durable(35); err != nil {
		t.Fatal(err)
	}
	if b, err = b.Commit(25); err != nil || b.Due(19) != 15*19 {
		t.Errorf("due %v, %v", b.Due(19), err)
	}
	if b.Due(math.MaxUint64) != math.MaxUint64 {
		t.Error("Due does not saturate")
	}
	if b, err = b.Paid(25); err != nil || b.Due(19) != 0 || b.PaidTokens() != 25 {
		t.Errorf("%+v, %v", b, err)
	}
	if _, err = b.Paid(36); !errors.Is(err, ErrRollback) {
		t.Errorf("paid beyond the ledger: %v", err)
	}
	if _, err = b.Earn(-1); !errors.Is(err, ErrCounters) {
		t.Errorf("negative earnings: %v", err)
	}
	if _, err = b.Earn(math.MaxInt64); !errors.Is(err, ErrCounters) {
		t.Errorf("overflow: %v", err)
	}
	for _, theirs := range []Counters{{}, {35, 35, 25}, {1, 1, 1}} {
		if err := b.Compare(theirs); err != nil {
			t.Errorf("%+v: %v", theirs, err)
		}
	}
	for _, theirs := range []Counters{{36, 0, 0}, {0, 36, 0}, {0, 0, 26}} {
		if err := b.Compare(theirs); !errors.Is(err, ErrPeerAhead) {
			t.Errorf("%+v: %v", theirs, err)
		}
	}
	if _, err := NewWorkerBook(1, Counters{}); !errors.Is(err, ErrRollback) {
		t.Errorf("new book behind the chain: %v", err)
	}
}

func payment(tokens int64) *SignedPayment { return &SignedPayment{tokens, []byte{byte(tokens)}} }

func TestView(t *testing.T) {
	for _, c := range []struct {
		name    string
		reports []Report
		err     error // of the last
		heard   Counters
		best    int64
	}{
		{"first payment of 0", []Report{{Payment: payment(0)}}, nil, Counters{}, 0},
		{"empty payment", []Report{{HasCounters: true, Durable: 3, Used: 5}}, nil, Counters{5, 3, 0}, 0},
		{"all three", []Report{{payment(1), true, 3, 5}}, nil, Counters{5, 3, 1}, 1},
		{"a payment alone raises the rest", []Report{{Payment: payment(7)}}, nil, Counters{7, 7, 7}, 7},
		{"growing", []Report{{payment(1), true, 3, 5}, {payment(3), true, 6, 9}}, nil, Counters{9, 6, 3}, 3},
		{"empty in between", []Report{{payment(1), true, 3, 5}, {nil, true, 5, 5}}, nil, Counters{5, 5, 1}, 1},
		{"payment goes back", []Report{{payment(3), true, 3, 5}, {payment(2), true, 4, 6}}, ErrCounterBack, Counters{6, 4, 3}, 3},
		{"database goes back", []Report{{payment(1), true, 3, 5}, {payment(2), true, 2, 6}}, ErrCounterBack, Counters{6, 3, 2}, 2},
		{"counter goes back", []Report{{payment(1), true, 3, 5}, {payment(2), true, 3, 4}}, ErrCounterBack, Counters{5, 3, 2}, 2},
		{"payment above the counters", []Report{{payment(9), true, 3, 5}}, ErrCounters, Counters{9, 9, 9}, 9},
		{"negative counters", []Report{{nil, true, -3, -3}}, ErrCounters, Counters{}, 0},
	} {
		var v View
		var err error
		for _, r := range c.reports {
			v, err = v.Hear(r)
		}
		if !errors.Is(err, c.err) || v.Heard() != c.heard || v.Best().Tokens != c.best {
			t.Errorf("%s: %+v, best %d, %v", c.name, v.Heard(), v.Best().Tokens, err)
		}
	}
}

func TestRestoredView(t *testing.T) {
	v, err := View{}.Hear(Report{payment(3), true, 5, 15})
	if err != nil {
		t.Fatal(err)
	}
	back, err := Restore(v.Best(), v.Heard())
	if err != nil || back.Heard() != v.Heard() || back.Best().Tokens != 3 {
		t.Errorf("restored %+v, %v", back, err)
	}
	for _, bad := range []struct {
		best  int64
		heard Counters
	}{{2, Counters{1, 1, 1}}, {0, Counters{1, 2, 3}}} {
		if _, err := Restore(SignedPayment{Tokens: bad.best}, bad.heard); !errors.Is(err, ErrCounters) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestTally(t *testing.T) {
	for _, c := range []struct {
		name        string
		t           Tally
		unexplained int64
	}{
		{"nothing", Tally{}, 0},
		{"charged without a request", NewTally(0).Hear(7), 7},
		{"an open request explains what it can cost", NewTally(0).Begin(10).Hear(10), 0},
		{"and no more", NewTally(0).Begin(10).Hear(11), 1},
		{"what was told", NewTally(0).Begin(10).End(10, 4).Hear(4), 0},
		{"more than was told", NewTally(0).Begin(10).Hear(5).End(10, 4), 1},
		{"told more than it can cost", NewTally(0).Begin(10).End(10, 100).Hear(100), 90},
		{"a negative cost takes nothing back", NewTally(5).Begin(10).End(10, -5).Hear(5), 0},
		{"a lost answer counts for the most", NewTally(0).Begin(10).End(10, 10).Hear(9), 0},
		{"what an earlier run may owe", NewTally(30).Hear(30), 0},
		{"a lower counter takes nothing back", NewTally(0).Hear(9).Hear(2), 9},
		{"accepted", NewTally(3).Hear(9).Accept(), 0},
		{"only once", NewTally(3).Hear(9).Accept().Hear(10), 1},
		{"no overflow", NewTally(math.MaxInt64).Begin(math.MaxInt64).Begin(math.MaxInt64).Hear(math.MaxInt64), 0},
	} {
		if got := c.t.Unexplained(); got != c.unexplained {
			t.Errorf("%s: %d unexplained, want %d (%+v)", c.name, got, c.unexplained, c.t)
		}
	}
}

// TestTallyIsFair runs random requests at an honest proxy, with answers that
// are lost, late or overtaken, and restarts of the client: the limit that was
// on disk before each request is all that is left then. Nothing is ever
// unexplained; and a single token more than the limit is.
func TestTallyIsFair(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		type request struct{ bound, cost int64 }
		var owed int64 // the proxy's counter
		var tally Tally
		var open []request
		disk := int64(0)
		for range 200 {
			switch r.IntN(6) {
			case 0, 1:
				b := r.Int64N(100) + 1
				tally = tally.Begin(b)
				disk = max(disk, tally.Limit())
				open = append(open, request{b, r.Int64N(b + 1)})
			case 2, 3: // told, before or after the counter was
				if n := len(open); n > 0 {
					q := open[n-1]
					open = open[:n-1]
					owed += q.cost
					if r.IntN(2) == 0 {
						tally = tally.Hear(owed)
					}
					tally = tally.End(q.bound, q.cost)
				}
			case 4: // charged and lost
				if n := len(open); n > 0 {
					q := open[n-1]
					open = open[:n-1]
					owed += q.cost
					tally = tally.End(q.bound, q.bound)
				}
			case 5: // killed
				if r.IntN(10) == 0 {
					for _, q := range open {
						owed += q.cost
					}
					open, tally = nil, NewTally(disk)
				}
			}
			tally = tally.Hear(owed)
			if n := tally.Unexplained(); n != 0 {
				t.Fatalf("%d tokens of an honest proxy are unexplained: %+v", n, tally)
			}
		}
		if tally.Hear(tally.Limit()+1).Unexplained() != 1 {
			t.Fatalf("a token beyond the limit is not seen: %+v", tally)
		}
	}
}

// TestViewInvariants feeds random reports: nothing heard is ever forgotten.
func TestViewInvariants(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		var v View
		for range 100 {
			before := v
			rep := Report{HasCounters: r.IntN(3) > 0, Durable: r.Int64N(50) - 5, Used: r.Int64N(50) - 5}
			if r.IntN(2) == 0 {
				rep.Payment = payment(r.Int64N(50) - 5)
			}
			v, _ = v.Hear(rep)
			if v.heard.Check() != nil || v.heard != v.heard.max(before.heard) || v.best.Tokens < before.best.Tokens || v.best.Tokens != v.heard.Committed {
				t.Fatalf("%+v after %+v became %+v", before, rep, v)
			}
		}
	}
}
