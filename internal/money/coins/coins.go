// Package coins holds amounts of money as integers of nano.
//
// Owns: Nano.
// Imports: nothing of this module.
package coins

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"
)

// Nano is an amount in nano, 10^-9 of a coin. People see the coin as GRAM
// (formerly TON).
type Nano uint64

// PerCoin is the number of nano in one coin.
const PerCoin Nano = 1e9

// ErrOverflow is returned by arithmetic that leaves uint64.
var ErrOverflow = errors.New("amount out of range")

// Add returns a+b.
func (a Nano) Add(b Nano) (Nano, error) {
	s, c := bits.Add64(uint64(a), uint64(b), 0)
	if c != 0 {
		return 0, ErrOverflow
	}
	return Nano(s), nil
}

// Sub returns a-b.
func (a Nano) Sub(b Nano) (Nano, error) {
	if b > a {
		return 0, ErrOverflow
	}
	return a - b, nil
}

// Times returns n·a, for a price a and n tokens.
func (a Nano) Times(n int64) (Nano, error) {
	if n < 0 {
		return 0, ErrOverflow
	}
	hi, lo := bits.Mul64(uint64(a), uint64(n))
	if hi != 0 {
		return 0, ErrOverflow
	}
	return Nano(lo), nil
}

// String prints the exact amount in coins: "1.5 GRAM".
func (a Nano) String() string { return a.Decimal() + " GRAM" }

// Decimal prints the exact amount in coins without a unit.
func (a Nano) Decimal() string {
	s := fmt.Sprintf("%d.%09d", a/PerCoin, a%PerCoin)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// Parse reads a decimal number of coins with up to nine places, "1.5", with
// or without a unit GRAM or TON, or an integer of nano, "1500000000nano".
func Parse(s string) (Nano, error) {
	t := strings.TrimSpace(s)
	if n, ok := strings.CutSuffix(t, "nano"); ok {
		v, err := strconv.ParseUint(strings.TrimSpace(n), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not a number of nano", s)
		}
		return Nano(v), nil
	}
	for _, unit := range []string{"GRAM", "TON"} {
		t = strings.TrimSpace(strings.TrimSuffix(t, unit))
	}
	whole, frac, _ := strings.Cut(t, ".")
	if len(frac) > 9 {
		return 0, fmt.Errorf("%q has more than nine decimal places", s)
	}
	if whole == "" && frac == "" {
		return 0, fmt.Errorf("%q is not an amount", s)
	}
	w, err := strconv.ParseUint("0"+whole, 10, 64)
	f, err2 := strconv.ParseUint((frac + "000000000")[:9], 10, 64)
	if err != nil || err2 != nil || w > math.MaxUint64/uint64(PerCoin)-1 {
		return 0, fmt.Errorf("%q is not an amount", s)
	}
	return Nano(w)*PerCoin + Nano(f), nil
}
