package pricing

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// TestReferenceExample is the worked example of spec network-protocol 5.7.
func TestReferenceExample(t *testing.T) {
	m := Multipliers{Prompt: 10000, Cached: 5000, Completion: 20000, Reasoning: 30000}
	got := m.Adjust(Usage{Prompt: 34, Cached: 11, Completion: 100, Reasoning: 10}, 1000)
	if want := (Tokens{Prompt: 23, Cached: 5, Completion: 180, Reasoning: 30, Total: 238}); got != want {
		t.Fatalf("Adjust = %+v, want %+v", got, want)
	}
	if cost, want := got.Cost(20), (Cost{Prompt: 560, Completion: 4200, Total: 4760}); cost != want {
		t.Errorf("Cost = %+v, want %+v", cost, want)
	}
}

func TestAdjust(t *testing.T) {
	for _, c := range []struct {
		n, coefficient int64
		multiplier     uint32
		want           int64
	}{
		{232, 300, 12500, 86}, // exact arithmetic: 87
		{0, 1000, 10000, 0},
		{100, 0, 10000, 0},
		{100, 1000, 0, 0},
		{-5, 1000, 10000, 0},
		{5, -1000, 10000, 0},
		{1, 999, 10000, 0},
		{1, 1000, 10000, 1},
		{7, 2500, 10000, 17},
		{math.MaxInt64, 1000, 10000, math.MaxInt64},
		{math.MaxInt64, math.MaxInt64, math.MaxUint32, math.MaxInt64},
		{math.MinInt64, math.MinInt64, math.MaxUint32, 0},
	} {
		if got := Adjust(c.n, c.coefficient, c.multiplier); got != c.want {
			t.Errorf("Adjust(%d, %d, %d) = %d, want %d", c.n, c.coefficient, c.multiplier, got, c.want)
		}
	}
}

func TestAbsurdUsage(t *testing.T) {
	m := Multipliers{10000, 1000, 80000, 80000}
	for _, c := range []struct {
		usage Usage
		want  Tokens
	}{
		{Usage{Prompt: 10, Cached: 50}, Tokens{Cached: 1, Total: 1}},
		{Usage{Prompt: -10, Cached: 50, Completion: -1, Reasoning: 7}, Tokens{}},
		{Usage{Prompt: 10, Cached: math.MinInt64}, Tokens{Prompt: 10, Total: 10}},
		{Usage{Completion: 10, Reasoning: 99}, Tokens{Reasoning: 80, Total: 80}},
		{Usage{Prompt: math.MaxInt64, Completion: math.MaxInt64}, Tokens{Prompt: math.MaxInt64, Completion: math.MaxInt64, Total: math.MaxInt64}},
	} {
		if got := m.Adjust(c.usage, 1000); got != c.want {
			t.Errorf("Adjust(%+v) = %+v, want %+v", c.usage, got, c.want)
		}
	}
	most := Tokens{Prompt: math.MaxInt64, Cached: math.MaxInt64, Completion: math.MaxInt64, Reasoning: math.MaxInt64}.Cost(math.MaxUint64)
	if most.Total != math.MaxUint64 {
		t.Errorf("Cost does not saturate: %+v", most)
	}
	if Amount(-1, 20) != 0 || Amount(3, coins.Nano(20)) != 60 {
		t.Error("Amount is wrong")
	}
}

// TestAdjustAgainstExact holds the doubles within one token of exact
// arithmetic over all honest inputs.
func TestAdjustAgainstExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		n, c, m := r.Int64N(1<<24), r.Int64N(100000), uint32(r.Int64N(1000000))
		exact := new(big.Rat).SetFrac(product(n, c, m), big.NewInt(1e7))
		diff := new(big.Rat).Sub(exact, new(big.Rat).SetInt64(Adjust(n, c, m)))
		if diff.Cmp(big.NewRat(1001, 1000)) > 0 || diff.Cmp(big.NewRat(-1, 1000)) < 0 {
			t.Fatalf("Adjust(%d, %d, %d) = %d, exactly %s", n, c, m, Adjust(n, c, m), exact.FloatString(9))
		}
	}
}

// TestReserveBounds splits requests in every way the classes allow and
// checks that none costs more than was reserved.
func TestReserveBounds(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200000 {
		size := 1 << r.IntN(45)
		bytes, maxTokens := r.IntN(size)+1, r.Int64N(int64(size))+1
		coefficient := r.Int64N(1<<r.IntN(30)) + 1
		m := Multipliers{mult(r), mult(r), mult(r), mult(r)}
		u := Usage{Prompt: r.Int64N(int64(bytes)) + 1, Completion: r.Int64N(maxTokens) + 1}
		if r.IntN(2) == 0 {
			u.Prompt, u.Completion = int64(bytes), maxTokens
		}
		u.Cached, u.Reasoning = r.Int64N(u.Prompt+1), r.Int64N(u.Completion+1)
		if got, most := m.Adjust(u, coefficient).Total, Reserve(bytes, maxTokens, coefficient, m); got > most {
			t.Fatalf("%+v at %d, %+v costs %d, above the reservation %d", u, coefficient, m, got, most)
		}
	}
}

func TestReserve(t *testing.T) {
	m := Multipliers{10000, 1000, 80000, 80000}
	for _, c := range []struct {
		bytes                     int
		maxTokens, maxCoefficient int64
		want, reference           int64
	}{
		{400, 100, 1000, 400 + 800, 500},
		{400, 100, 2500, 1000 + 2000, 1250},
		{0, 0, 1000, 0, 0},
		{-1, -1, -1, 0, 0},
		{400, 100, 0, 0, 0},
		{400, math.MaxInt64, 1000, math.MaxInt64, math.MaxInt64},
		{400, math.MaxInt64, math.MaxInt64, math.MaxInt64, math.MaxInt64},
	} {
		if got := Reserve(c.bytes, c.maxTokens, c.maxCoefficient, m); got != c.want {
			t.Errorf("Reserve(%d, %d, %d) = %d, want %d", c.bytes, c.maxTokens, c.maxCoefficient, got, c.want)
		}
		if got := ReserveReference(c.bytes, c.maxTokens, c.maxCoefficient); got != c.reference {
			t.Errorf("ReserveReference(%d, %d, %d) = %d, want %d", c.bytes, c.maxTokens, c.maxCoefficient, got, c.reference)
		}
	}
}

func FuzzAdjust(f *testing.F) {
	f.Add(int64(34), int64(11), int64(100), int64(10), int64(1000), uint32(10000), uint32(20000))
	f.Add(int64(math.MaxInt64), int64(-1), int64(1), int64(math.MinInt64), int64(math.MaxInt64), uint32(math.MaxUint32), uint32(1))
	f.Fuzz(func(t *testing.T, prompt, cached, completion, reasoning, coefficient int64, a, b uint32) {
		m := Multipliers{a, b, b, a}
		u := Usage{prompt, cached, completion, reasoning}
		got := m.Adjust(u, coefficient)
		for _, v := range []int64{got.Prompt, got.Cached, got.Completion, got.Reasoning} {
			if v < 0 || v > got.Total {
				t.Fatalf("Adjust(%+v) = %+v", u, got)
			}
		}
		if most := Reserve(int(max(prompt, 0)), max(completion, 0), coefficient, m); got.Total > most {
			t.Fatalf("%+v costs %d, reserved %d", u, got.Total, most)
		}
	})
}

func mult(r *rand.Rand) uint32 { return uint32(r.Int64N(1<<r.IntN(33)) | 1) }

func product(n, c int64, m uint32) *big.Int {
	p := new(big.Int).Mul(big.NewInt(n), big.NewInt(c))
	return p.Mul(p, new(big.Int).SetUint64(uint64(m)))
}
