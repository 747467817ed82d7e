// Package pricing turns model tokens into adjusted tokens and money. It is
// the one place where prices are computed: the worker counts with it, the
// proxy reserves with it, the client checks with it.
//
// Owns: Multipliers, Usage, Tokens, Cost, Adjust, Reserve.
// Imports: coins.
// Trust: counts, coefficients and multipliers are foreign; every result is
// non-negative and saturates instead of wrapping around.
// Concurrency: pure functions.
package pricing

import (
	"math"
	"math/bits"

	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Multipliers are the root contract's price multipliers in ten-thousandths
// (10000 = 1.0).
type Multipliers struct {
	Prompt, Cached, Completion, Reasoning uint32
}

// Usage is what an engine counted: Prompt includes Cached, Completion
// includes Reasoning, as in the OpenAI usage object.
type Usage struct {
	Prompt, Cached, Completion, Reasoning int64
}

// Tokens are adjusted tokens, the unit of all charges. The four classes are
// disjoint; Total is their sum: what the client is charged and the worker is
// credited.
type Tokens struct {
	Prompt, Cached, Completion, Reasoning, Total int64
}

// Cost is the price of one answer as the worker writes it into usage.
type Cost struct {
	Prompt     coins.Nano // prompt and cached
	Completion coins.Nano // completion and reasoning
	Total      coins.Nano
}

// Adjust prices n tokens of one class: coefficient is the worker's factor in
// thousandths, multiplier the class's in ten-thousandths. It is the IEEE
// double expression of spec network-protocol 5.7, multiplication by
// multiplication, truncated; exact arithmetic would give other numbers
// (Adjust(232, 300, 12500) is 86, not 87). Negative input counts as 0, a
// result beyond int64 as the largest.
func Adjust(n, coefficient int64, multiplier uint32) int64 {
	if n <= 0 || coefficient <= 0 || multiplier == 0 {
		return 0
	}
	factor := float64(float64(coefficient) * 0.001)
	scaled := float64(float64(n) * factor)
	scaled = float64(scaled * float64(multiplier))
	scaled = float64(scaled * 0.0001)
	if scaled >= math.MaxInt64 { // the constant rounds up to 2^63
		return math.MaxInt64
	}
	return int64(scaled)
}

// Adjust prices what an engine counted. A cached or reasoning count above the
// count that includes it is cut to that count.
func (m Multipliers) Adjust(u Usage, coefficient int64) Tokens {
	prompt, completion := max(u.Prompt, 0), max(u.Completion, 0)
	cached := min(max(u.Cached, 0), prompt)
	reasoning := min(max(u.Reasoning, 0), completion)
	t := Tokens{
		Prompt:     Adjust(prompt-cached, coefficient, m.Prompt),
		Cached:     Adjust(cached, coefficient, m.Cached),
		Completion: Adjust(completion-reasoning, coefficient, m.Completion),
		Reasoning:  Adjust(reasoning, coefficient, m.Reasoning),
	}
	t.Total = add(add(t.Prompt, t.Cached), add(t.Completion, t.Reasoning))
	return t
}

// Cost returns what t costs at price nano a token.
func (t Tokens) Cost(price coins.Nano) Cost {
	prompt := Amount(add(t.Prompt, t.Cached), price)
	completion := Amount(add(t.Completion, t.Reasoning), price)
	total, err := prompt.Add(completion)
	if err != nil {
		total = math.MaxUint64
	}
	return Cost{Prompt: prompt, Completion: completion, Total: total}
}

// Amount returns tokens times price; too much for a Nano is the largest Nano,
// a negative count is 0.
func Amount(tokens int64, price coins.Nano) coins.Nano {
	v, err := price.Times(max(tokens, 0))
	if err != nil {
		return math.MaxUint64
	}
	return v
}

// Reserve returns an upper bound, in adjusted tokens, of what a request can
// cost: a prompt has at most one token a byte of the query, each at the dearer
// of the two prompt multipliers; maxTokens are at the dearer of the two output
// multipliers. No worker with a coefficient up to maxCoefficient can honestly
// report more.
func Reserve(queryBytes int, maxTokens, maxCoefficient int64, m Multipliers) int64 {
	return add(
		ceiling(int64(queryBytes), maxCoefficient, max(m.Prompt, m.Cached)),
		ceiling(maxTokens, maxCoefficient, max(m.Completion, m.Reasoning)),
	)
}

// ReserveReference is the reference proxy's own reservation (spec
// network-protocol 6): it knows no multipliers and is no bound.
func ReserveReference(queryBytes int, maxTokens, maxCoefficient int64) int64 {
	return Adjust(add(max(int64(queryBytes), 0), max(maxTokens, 0)), maxCoefficient, 10000)
}

// ceiling bounds Adjust over every way to split n tokens among classes with
// at most this multiplier. The exact product is a multiple of 10^-7 and the
// double expression is off by less than 2^-50 of it. Below 2^26 that cannot
// carry it over an integer; above, the last term covers it.
func ceiling(n, coefficient int64, multiplier uint32) int64 {
	if n <= 0 || coefficient <= 0 || multiplier == 0 {
		return 0
	}
	hi, factor := bits.Mul64(uint64(coefficient), uint64(multiplier))
	if hi != 0 {
		return math.MaxInt64
	}
	hi, lo := bits.Mul64(uint64(n), factor)
	const unit = 1000 * 10000
	if hi >= unit {
		return math.MaxInt64
	}
	exact, _ := bits.Div64(hi, lo, unit)
	if exact > math.MaxInt64 {
		return math.MaxInt64
	}
	return add(int64(exact), int64(exact>>26))
}

// add returns a+b for non-negative a and b, at most the largest int64.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
