package tl_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

// TestBytes holds the length examples of spec network-protocol 3.1.
func TestBytes(t *testing.T) {
	for _, c := range []struct {
		n    int
		head string
		size int
	}{
		{0, "00000000", 4},
		{1, "01610000", 4},
		{3, "03616161", 4},
		{4, "0461616161000000", 8},
		{253, "fd616161", 256},
		{254, "fefe0000", 260},
		{256, "fe000100", 260},
		{1<<24 - 1, "feffffff", 1<<24 + 4},
		{1 << 24, "ff00000001000000", 1<<24 + 8},
	} {
		v := strings.Repeat("a", c.n)
		b := tl.AppendBytes(nil, v)
		if len(b) != c.size || tl.BytesSize(c.n) != c.size || !strings.HasPrefix(hex.EncodeToString(b[:min(len(b), 16)]), c.head) {
			t.Errorf("length %d: %d bytes starting %x (BytesSize %d), want %d starting %s", c.n, len(b), b[:4], tl.BytesSize(c.n), c.size, c.head)
		}
		if !bytes.Equal(b, tl.AppendBytes(nil, []byte(v))) {
			t.Errorf("length %d: string and bytes differ", c.n)
		}
		r := tl.NewReader(b)
		if got := r.String(); got != v || r.Finish() != nil {
			t.Errorf("length %d reads as length %d, %v", c.n, len(got), r.Err())
		}
	}
}

// TestLenient: readers check neither padding nor the choice of prefix.
func TestLenient(t *testing.T) {
	for _, in := range []string{"0161ffff", "fe01000061000000", "ff0100000000000061ffffff"} {
		b, _ := hex.DecodeString(in)
		r := tl.NewReader(b)
		if got := r.String(); got != "a" || r.Finish() != nil {
			t.Errorf("%s reads as %q, %v", in, got, r.Err())
		}
	}
}

func TestScalars(t *testing.T) {
	b := tl.AppendUint32(nil, 0xbbe9627c)
	b = tl.AppendInt32(b, -2)
	b = tl.AppendInt64(b, math.MinInt64)
	b = tl.AppendFloat64(b, 114)
	b = tl.AppendBool(b, true)
	b = tl.AppendBool(b, false)
	b = append(b, bytes.Repeat([]byte{7}, 32)...)
	b = tl.AppendUint32(b, 1<<31-1)
	const want = "7c62e9bb" + "feffffff" + "0000000000000080" + "0000000000805c40" + "b5757299" + "379779bc"
	if got := hex.EncodeToString(b[:len(b)-36]); got != want {
		t.Errorf("encoded as %s, want %s", got, want)
	}
	r := tl.NewReader(b)
	if r.ID() != 0xbbe9627c || r.Int32() != -2 || r.Int64() != math.MinInt64 || r.Float64() != 114 || !r.Bool() || r.Bool() ||
		r.Int256() != [32]byte(bytes.Repeat([]byte{7}, 32)) || r.Flags() != 1<<31-1 {
		t.Error("values differ after a round")
	}
	if err := r.Finish(); err != nil {
		t.Error(err)
	}
}

func TestErrors(t *testing.T) {
	for name, c := range map[string]struct {
		in     string
		read   func(*tl.Reader)
		want   error
		offset int
	}{
		"int":               {"000000", func(r *tl.Reader) { r.Int32() }, tl.ErrTruncated, 0},
		"second int":        {"00000000ffff", func(r *tl.Reader) { r.Int32(); r.Int32() }, tl.ErrTruncated, 4},
		"long":              {"00000000", func(r *tl.Reader) { r.Int64() }, tl.ErrTruncated, 0},
		"int256":            {"00000000", func(r *tl.Reader) { r.Int256() }, tl.ErrTruncated, 0},
		"bool":              {"00000000", func(r *tl.Reader) { r.Bool() }, tl.ErrBool, 0},
		"flags":             {"00000080", func(r *tl.Reader) { r.Flags() }, tl.ErrFlags, 0},
		"no prefix":         {"", func(r *tl.Reader) { r.Bytes() }, tl.ErrTruncated, 0},
		"data missing":      {"04616161", func(r *tl.Reader) { r.Bytes() }, tl.ErrTruncated, 0},
		"padding missing":   {"0461616161", func(r *tl.Reader) { r.Bytes() }, tl.ErrTruncated, 0},
		"long prefix cut":   {"ff000000", func(r *tl.Reader) { r.Bytes() }, tl.ErrTruncated, 0},
		"giant length":      {"ffffffffffffffff", func(r *tl.Reader) { r.Bytes() }, tl.ErrTruncated, 0},
		"giant medium":      {"feffffff00000000", func(r *tl.Reader) { r.Bytes() }, tl.ErrTruncated, 0},
		"negative count":    {"ffffffff", func(r *tl.Reader) { r.Count(1) }, tl.ErrCount, 0},
		"count over bytes":  {"0500000000000000", func(r *tl.Reader) { r.Count(0) }, tl.ErrCount, 0},
		"count over size":   {"0200000000000000", func(r *tl.Reader) { r.Count(4) }, tl.ErrCount, 0},
		"left over":         {"0000000000", func(r *tl.Reader) { r.Int32() }, tl.ErrTrailing, 4},
		"wrong constructor": {"0000000001000000", func(r *tl.Reader) { r.Int32(); r.ID(); r.Unexpected() }, tl.ErrConstructor, 4},
	} {
		b, err := hex.DecodeString(c.in)
		if err != nil {
			t.Fatal(err)
		}
		r := tl.NewReader(b)
		c.read(r)
		err = r.Finish()
		var e *tl.Error
		if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Offset != c.offset {
			t.Errorf("%s: %v, want %v at %d", name, err, c.want, c.offset)
		}
		// Sticky: whatever comes next is empty and keeps the first error.
		if r.Int64() != 0 || r.Bytes() != nil || r.Count(1) != 0 || r.Bool() || r.Flags() != 0 || r.Int256() != [32]byte{} || r.Finish() != err {
			t.Errorf("%s: the first error does not stick", name)
		}
	}
}

func TestBytesAlias(t *testing.T) {
	in := tl.AppendBytes(tl.AppendBytes(nil, "abc"), "def")
	got := tl.NewReader(in).Bytes()
	if &got[0] != &in[1] {
		t.Error("Bytes copied")
	}
	_ = append(got, 'X')
	if !bytes.Equal(in, tl.AppendBytes(tl.AppendBytes(nil, "abc"), "def")) {
		t.Error("appending to a result wrote over the input")
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7}, tl.AppendBytes(tl.AppendBool(nil, true), "hello"))
	f.Add([]byte{6, 6, 6}, []byte{0xff, 0, 0, 0, 0, 0, 0, 0x80})
	f.Fuzz(func(t *testing.T, ops, in []byte) {
		r := tl.NewReader(in)
		var out []byte
		for _, op := range ops {
			before := r.Left()
			switch op % 7 {
			case 0:
				out = tl.AppendInt32(out, r.Int32())
			case 1:
				out = tl.AppendInt64(out, r.Int64())
			case 2:
				out = tl.AppendFloat64(out, r.Float64())
			case 3:
				v := r.Int256()
				out = append(out, v[:]...)
			case 4:
				out = tl.AppendBool(out, r.Bool())
			case 5:
				out = tl.AppendUint32(out, r.Flags())
			case 6:
				v := r.Bytes()
				if len(v) > before {
					t.Fatalf("%d bytes out of %d", len(v), before)
				}
				if r.Err() == nil && tl.BytesSize(len(v)) < before-r.Left() {
					return // not the shortest form: legal, but re-encodes shorter
				}
				out = tl.AppendBytes(out, v)
			}
			if r.Err() != nil {
				return
			}
		}
		// A second reader of what was written gives the same again.
		r2, n := tl.NewReader(out), 0
		for _, op := range ops {
			switch op % 7 {
			case 0, 5:
				r2.Int32()
			case 1:
				r2.Int64()
			case 2:
				r2.Float64()
			case 3:
				r2.Int256()
			case 4:
				r2.Bool()
			case 6:
				r2.Bytes()
			}
			n++
		}
		if err := r2.Finish(); err != nil {
			t.Fatalf("own output unreadable after %d values: %v", n, err)
		}
		if len(out) != len(in)-r.Left() {
			t.Fatalf("%d bytes in, %d out", len(in)-r.Left(), len(out))
		}
	})
}

func BenchmarkBytes(b *testing.B) {
	in := tl.AppendBytes(nil, strings.Repeat("a", 200))
	b.ReportAllocs()
	for b.Loop() {
		r := tl.NewReader(in)
		if len(r.Bytes()) != 200 {
			b.Fatal("wrong length")
		}
	}
}
