package coins

import (
	"math"
	"testing"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Nano
	}{
		{"1.5", 1500000000}, {"0", 0}, {".5 GRAM", 500000000}, {"2 TON", 2e9}, {"0.000000001", 1}, {"7nano", 7}, {"18446744072", 18446744072e9},
	} {
		got, err := Parse(c.in)
		if err != nil || got != c.want {
			t.Errorf("Parse(%q) = %d, %v, want %d", c.in, got, err, c.want)
		}
	}
	for _, in := range []string{"", ".", "-1", "1e9", "0.0000000001", "18446744073710", "x", "1.x", "+1", "nano", "1.+5"} {
		if got, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %d, want an error", in, got)
		}
	}
}

func TestPrint(t *testing.T) {
	for n, want := range map[Nano]string{0: "0 GRAM", 1: "0.000000001 GRAM", 1500000000: "1.5 GRAM", 20 * PerCoin: "20 GRAM", math.MaxUint64: "18446744073.709551615 GRAM"} {
		if got := n.String(); got != want {
			t.Errorf("%d prints %q, want %q", uint64(n), got, want)
		}
	}
}

func TestArithmetic(t *testing.T) {
	if _, err := Nano(math.MaxUint64).Add(1); err == nil {
		t.Error("Add does not see the overflow")
	}
	if _, err := Nano(1).Sub(2); err == nil {
		t.Error("Sub does not see the underflow")
	}
	if _, err := Nano(1 << 40).Times(1 << 40); err == nil {
		t.Error("Times does not see the overflow")
	}
	if _, err := Nano(1).Times(-1); err == nil {
		t.Error("Times takes a negative count")
	}
	if v, err := Nano(20).Times(238); err != nil || v != 4760 {
		t.Errorf("Times = %d, %v", v, err)
	}
}
