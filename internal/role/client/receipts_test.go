package client

import (
	"errors"
	"testing"

	"github.com/cocoon-network/cocoon/receipt"
)

func stepOf(before, after int64, previous [32]byte) (*step, [32]byte) {
	p := &receipt.ProxyPart{RequestID: [32]byte{byte(after)}, Statement: [32]byte{1}, Before: before, After: after, Previous: previous}
	d := receipt.Digest(p.Encode())
	return &step{p, d}, d
}

// TestSteps: parts explain the counter in whatever order they come, and what
// does not join on is refused by name.
func TestSteps(t *testing.T) {
	first, d1 := stepOf(10, 15, [32]byte{9})
	second, d2 := stepOf(15, 20, d1)
	third, _ := stepOf(20, 30, d2)
	b := &books{waiting: map[int64]*step{}}
	if b.begin(10) {
		t.Error("a new book has a gap")
	}
	for _, s := range []*step{third, second, first} {
		b.waiting[s.part.Before] = s
		if err := b.advance(); err != nil {
			t.Fatal(err)
		}
	}
	if b.after != 30 || len(b.waiting) != 0 {
		t.Errorf("at %d, %d wait", b.after, len(b.waiting))
	}
	again, _ := stepOf(15, 40, d1)
	b.waiting[15] = again
	if err := b.advance(); !errors.Is(err, receipt.ErrJump) {
		t.Errorf("a counter that jumps: %v", err)
	}
	other, _ := stepOf(30, 40, [32]byte{7})
	b.waiting[30] = other
	if err := b.advance(); !errors.Is(err, receipt.ErrStep) {
		t.Errorf("another predecessor: %v", err)
	}
	if !b.begun || b.begin(99) {
		t.Error("a book begins twice")
	}
}
