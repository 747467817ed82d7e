package tee

import (
	"context"
	"errors"
	"testing"
)

// One peer address has one appraisal at a time, and waits no longer than its
// connection may.
func TestTurns(t *testing.T) {
	turns := NewTurns(2)
	done, err := turns.Take(t.Context(), "192.0.2.1:1")
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turns.Take(over, "192.0.2.1:2"); !errors.Is(err, ErrBusy) {
		t.Errorf("the same address: %v, want ErrBusy", err)
	}
	other, err := turns.Take(t.Context(), "192.0.2.2:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := turns.Take(over, "192.0.2.3:1"); !errors.Is(err, ErrBusy) {
		t.Errorf("all cores taken: %v, want ErrBusy", err)
	}
	waiting, err := turns.Alone(t.Context(), "192.0.2.3:1")
	if err != nil {
		t.Fatalf("without a core: %v", err)
	}
	if _, err := turns.Alone(over, "192.0.2.3:2"); !errors.Is(err, ErrBusy) {
		t.Errorf("the same address without a core: %v, want ErrBusy", err)
	}
	if _, err := turns.Core(over); !errors.Is(err, ErrBusy) {
		t.Errorf("one more core: %v, want ErrBusy", err)
	}
	waiting()
	done()
	other()
	if len(turns.byAddr) > 0 || len(turns.cores) > 0 {
		t.Error("places are left over")
	}
}
