package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon"
)

func noted(n int) Charge {
	c := charge(n)
	c.Note = fmt.Sprint("note ", n)
	return c
}

// A note lives from its charge to the Take, over restarts and rewrites.
func TestNotes(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := openDir(t, dir, Config{})
	must(t, l.Charge(ctx, charge(0))) // without one
	for n := 1; n <= 5; n++ {
		must(t, l.Charge(ctx, noted(n)))
		must(t, l.Charge(ctx, noted(n))) // again: counted once
	}
	<-l.NoteWritten()
	check := func(l *running, first, last int) {
		t.Helper()
		got := l.Notes(0, 100)
		if len(got) != last-first+1 {
			t.Fatalf("%d notes, want %d to %d", len(got), first, last)
		}
		for i, n := range got {
			if int(n.Number) != first+i || n.Note != fmt.Sprint("note ", first+i) || n.RequestID != request(first+i) {
				t.Errorf("note %d is %+v", i, n)
			}
		}
	}
	check(l, 1, 5)
	if got := l.Notes(0, 100)[4]; got.ClientAfter != l.Client(owner(1)).Used || got.WorkerAfter != l.Worker(got.Worker).Used {
		t.Errorf("counters after the last charge: %+v", got)
	}
	opening := func(l *running) {
		t.Helper()
		clients, workers := l.Opening()
		if len(clients) != 1 || clients[owner(0)] != 1 || len(workers) != 1 || workers[owner(100)] != 1 {
			t.Errorf("opening %v, %v", clients, workers)
		}
	}
	opening(l)
	must(t, l.stop())
	l = openDir(t, dir, Config{})
	<-l.NoteWritten() // of the run before
	check(l, 1, 5)
	opening(l)
	must(t, l.Take(ctx, 3))
	must(t, l.Take(ctx, 2))
	check(l, 4, 5)
	size := l.j.size
	must(t, l.Take(ctx, 4)) // no write for it alone
	check(l, 5, 5)
	if l.j.size != size {
		t.Error("a take waited for the disk")
	}
	if err := l.Take(ctx, 6); !errors.Is(err, ErrNote) {
		t.Error(err)
	}
	must(t, l.stop())
	l = openDir(t, dir, Config{})
	check(l, 5, 5)
	must(t, l.Take(ctx, 5))
	must(t, l.Charge(ctx, noted(6)))
	check(l, 6, 6)
	long := noted(7)
	long.Note = strings.Repeat("x", maxNote+1)
	if err := l.Charge(ctx, long); !errors.Is(err, ErrCharge) {
		t.Error(err)
	}
}

// TestNotesDeath lets the machine die at every operation: a charge that was
// acknowledged has its note, and no note is there without its charge.
func TestNotesDeath(t *testing.T) {
	const charges = 12
	config := Config{CompactAfter: 200, Window: 64}
	for dieAt := 1; ; dieAt++ {
		alive := false
		for way := range waysToDie {
			disk := newDisk()
			disk.dieAt = dieAt
			acked, durable := 0, false
			l, err := open(disk, config)
			if err == nil {
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan struct{})
				go func() { _ = l.Run(ctx); close(ended) }()
				for n := range charges {
					if l.Charge(ctx, noted(n)) == nil {
						acked++
						durable = n > charges/2 // with the take before it
					}
					if n == charges/2 {
						_ = l.Take(ctx, 3)
					}
				}
				cancel()
				<-ended
				alive = l.Err() == nil
			} else if !errors.Is(err, errDied) {
				t.Fatal(err)
			}
			after, err := open(disk.survivors(way), config)
			if err != nil {
				t.Fatalf("died at %d (way %d): %v", dieAt, way, err)
			}
			var used int64
			for _, a := range []cocoon.Address{owner(0), owner(1)} {
				used += after.Client(a).Used
			}
			var want int64
			for n := range int(after.s.notes) {
				want += charge(n).Tokens
			}
			if used != want || int(after.s.notes) < acked {
				t.Fatalf("died at %d (way %d): %d tokens, %d notes (%d tokens), %d acknowledged", dieAt, way, used, after.s.notes, want, acked)
			}
			if missing := int(after.s.notes) - len(after.Notes(0, 100)); missing != 0 && missing != 3 || missing == 0 && durable {
				t.Fatalf("died at %d (way %d): %d notes are gone", dieAt, way, missing)
			}
		}
		if alive {
			return
		}
	}
}
