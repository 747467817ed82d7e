package mux_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
)

func TestSendWindowLevel0(t *testing.T) {
	w := mux.NewSendWindow(wire.Level0)
	for range 100 {
		if err := w.Acquire(t.Context(), 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	w.Close(io.EOF)
	if err := w.Grant(-1); err != nil {
		t.Error(err)
	}
}

func TestSendWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := mux.NewSendWindow(wire.Level1)
		const part = 1000
		n := 0
		for ; (n+1)*(part+mux.PartCost) <= mux.Window; n++ {
			if err := w.Acquire(t.Context(), part); err != nil {
				t.Fatal(err)
			}
		}
		acquired := make(chan error, 1)
		go func() { acquired <- w.Acquire(t.Context(), part) }()
		synctest.Wait()
		if len(acquired) > 0 {
			t.Fatalf("part %d passed without credit", n+1)
		}
		if err := w.Grant(10); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(acquired) > 0 {
			t.Fatal("ten bytes of credit paid for a part")
		}
		if err := w.Grant(part + mux.PartCost); err != nil {
			t.Error(err)
		}
		if err := <-acquired; err != nil {
			t.Error(err)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Acquire(ctx, part); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Acquire = %v, want the deadline", err)
		}
		go func() { acquired <- w.Acquire(context.Background(), part) }()
		synctest.Wait()
		cancelled := errors.New("cancelled")
		w.Close(cancelled)
		if err := <-acquired; err != cancelled {
			t.Errorf("Acquire = %v, want the reason of Close", err)
		}
	})
}

func TestSendWindowRefuses(t *testing.T) {
	w := mux.NewSendWindow(wire.Level1)
	if err := w.Acquire(t.Context(), mux.MaxPart+1); !errors.Is(err, mux.ErrPartTooLarge) {
		t.Errorf("Acquire = %v", err)
	}
	for _, n := range []int{0, -1, -1 << 31} {
		if err := w.Grant(n); !errors.Is(err, mux.ErrViolation) {
			t.Errorf("Grant(%d) = %v, want ErrViolation", n, err)
		}
	}
	// Credit does not pile up beyond a window.
	for range 10 {
		if err := w.Grant(1<<31 - 1); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; i < mux.Window; i += mux.MaxPart {
		if err := w.Acquire(t.Context(), mux.MaxPart-mux.PartCost); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Acquire(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("more than a window was credited: %v", err)
	}
}

// queue is a RecvQueue of plain bytes.
func queue(level, limit int, grant func(int)) *mux.RecvQueue[[]byte] {
	return mux.NewRecvQueue(level, limit, func(b []byte) int { return len(b) }, grant)
}

func TestRecvQueue(t *testing.T) {
	q := queue(wire.Level0, 0, nil)
	for i := range 1000 {
		if err := q.Push([]byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if i%3 == 2 { // pop one for each three pushed
			part, err := q.Pop(t.Context())
			if err != nil || string(part) != fmt.Sprint(i/3) {
				t.Fatalf("Pop = %q, %v, want %d", part, err, i/3)
			}
		}
	}
	q.Close(nil)
	if err := q.Push(nil); !errors.Is(err, mux.ErrQueueClosed) {
		t.Errorf("Push after Close = %v", err)
	}
	q.Close(errors.New("second"))
	for i := 333; i < 1000; i++ {
		if n := q.Len(); n != 1000-i {
			t.Fatalf("Len = %d, want %d", n, 1000-i)
		}
		part, err := q.Pop(t.Context())
		if err != nil || string(part) != fmt.Sprint(i) {
			t.Fatalf("Pop = %q, %v, want %d", part, err, i)
		}
	}
	for range 2 {
		if part, err := q.Pop(t.Context()); err != io.EOF {
			t.Errorf("Pop at the end = %q, %v", part, err)
		}
	}
}

func TestRecvQueueLimits(t *testing.T) {
	for name, c := range map[string]struct {
		queue *mux.RecvQueue[[]byte]
		part  int
		most  int
	}{
		"level 0":            {queue(wire.Level0, 0, nil), 1 << 16, mux.QueueLimit},
		"level 0, own limit": {queue(wire.Level0, 10000, nil), 100, 10000},
		"level 0, empty":     {queue(wire.Level0, 10000, nil), 0, 10000},
		"level 1":            {queue(wire.Level1, 0, nil), 1000, mux.Window + mux.MaxPart},
		"level 1, empty":     {queue(wire.Level1, 0, nil), 0, mux.Window + mux.MaxPart},
	} {
		n := 0
		for c.queue.Push(make([]byte, c.part)) == nil {
			n++
		}
		if want := c.most / (c.part + mux.PartCost); n != want {
			t.Errorf("%s: %d parts of %d bytes were held, want %d", name, n, c.part, want)
		}
		if err := c.queue.Push(make([]byte, c.part)); !errors.Is(err, mux.ErrOverflow) {
			t.Errorf("%s: Push = %v, want ErrOverflow", name, err)
		}
	}
}

func TestRecvQueueWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue(wire.Level1, 0, func(int) { t.Error("granted too early") })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := q.Pop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Pop = %v, want the deadline", err)
		}
		go func() {
			time.Sleep(time.Minute)
			q.Push([]byte("x"))
			time.Sleep(time.Minute)
			q.Close(mux.ErrPeerGone)
		}()
		if part, err := q.Pop(t.Context()); err != nil || string(part) != "x" {
			t.Errorf("Pop = %q, %v", part, err)
		}
		if _, err := q.Pop(t.Context()); err != mux.ErrPeerGone {
			t.Errorf("Pop = %v, want the reason of Close", err)
		}
	})
}

// TestWindowNeverStalls: whatever the sizes of the parts, a sender and a
// receiver that follow the rules never wait for each other, and the receiver
// never holds more than a window.
func TestWindowNeverStalls(t *testing.T) {
	for _, most := range []int{1, 100, 5000, mux.MaxPart} {
		synctest.Test(t, func(t *testing.T) {
			w := mux.NewSendWindow(wire.Level1)
			q := queue(wire.Level1, 0, func(n int) {
				if err := w.Grant(n); err != nil {
					t.Error(err)
				}
			})
			const total = 4 << 20
			go func() {
				defer q.Close(nil)
				for sent, parts := 0, 0; sent < total && parts < 20000; parts++ {
					n := rand.IntN(most) + 1
					if parts%7 == 0 {
						n = most
					}
					if err := w.Acquire(t.Context(), n); err != nil {
						t.Error(err)
						return
					}
					if err := q.Push(make([]byte, n)); err != nil {
						t.Error(err)
						return
					}
					sent += n
				}
			}()
			held := 0
			for {
				if n := q.Len(); n%13 == 0 {
					synctest.Wait() // let the sender run as far as it can
				}
				part, err := q.Pop(t.Context())
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				held += len(part)
			}
			if held == 0 {
				t.Error("nothing arrived")
			}
		})
	}
}

func TestTryAcquire(t *testing.T) {
	var none *mux.SendWindow
	if !none.TryAcquire(1 << 20) {
		t.Error("level 0 knows windows")
	}
	w := mux.NewSendWindow(wire.Level1)
	if w.TryAcquire(mux.MaxPart + 1) {
		t.Error("a part above the limit was admitted")
	}
	taken := 0
	for w.TryAcquire(mux.MaxPart) {
		taken += mux.MaxPart + mux.PartCost
	}
	if taken > mux.Window || taken+mux.MaxPart+mux.PartCost <= mux.Window {
		t.Errorf("%d bytes were taken of a window of %d", taken, mux.Window)
	}
	if err := w.Grant(mux.MaxPart + mux.PartCost); err != nil || !w.TryAcquire(mux.MaxPart) {
		t.Errorf("a grant gave no room: %v", err)
	}
	w.Close(mux.ErrQueueClosed)
	if w.TryAcquire(0) {
		t.Error("a closed window gave credit")
	}
}
