package api

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// TestQueueShares: a caller with one call is served next, however many another
// one has waiting.
func TestQueueShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2, 8, time.Minute)
		var mu sync.Mutex
		var order []byte
		var refused []byte
		call := func(who byte) {
			go func() {
				leave, fail := q.enter(t.Context(), [32]byte{who})
				mu.Lock()
				if fail != nil {
					refused = append(refused, who)
					if fail.Code != openai.CodeRateLimited || fail.RetryAfter < time.Second {
						t.Errorf("%c: %v after %v", who, fail, fail.RetryAfter)
					}
				} else {
					order = append(order, who)
				}
				mu.Unlock()
				if fail == nil {
					time.Sleep(time.Second)
					leave()
				}
			}()
			synctest.Wait()
		}
		for range 12 { // two run, eight wait, two are refused
			call('a')
		}
		if string(refused) != "aa" {
			t.Fatalf("refused %s", refused)
		}
		for range 3 {
			call('b') // takes the places of a's newest
		}
		call('c')
		if running, waiting := q.state(); running != 2 || waiting != 8 || string(refused) != "aaaaaa" {
			t.Fatalf("%d run, %d wait, refused %s", running, waiting, refused)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(order) != 10 || !slices.Contains(order[2:4], 'b') || !slices.Contains(order[2:5], 'c') || string(order[:2]) != "aa" {
			t.Errorf("served in the order %s", order)
		}
		if running, waiting := q.state(); running != 0 || waiting != 0 || len(q.callers) != 0 {
			t.Errorf("%d run, %d wait, %d callers remembered", running, waiting, len(q.callers))
		}
	})
}

// TestQueueWait: who waits too long or leaves is refused, and takes no place
// with him.
func TestQueueWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 4, 5*time.Second)
		leave, fail := q.enter(t.Context(), [32]byte{})
		if fail != nil {
			t.Fatal(fail)
		}
		begin := time.Now()
		if _, fail := q.enter(t.Context(), [32]byte{}); fail == nil || fail.Code != openai.CodeUnavailable || fail.RetryAfter < time.Second || time.Since(begin) != 5*time.Second {
			t.Errorf("%v after %v", fail, time.Since(begin))
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, fail := q.enter(ctx, [32]byte{1}); fail == nil || fail.Code != openai.CodeCancelled {
			t.Errorf("%v", fail)
		}
		if running, waiting := q.state(); running != 1 || waiting != 0 {
			t.Errorf("%d run, %d wait", running, waiting)
		}
		leave()
		if leave, fail = q.enter(t.Context(), [32]byte{}); fail != nil {
			t.Fatal(fail)
		}
		leave()
		if len(q.callers) != 0 {
			t.Errorf("%d callers remembered", len(q.callers))
		}
	})
}

// TestQueueRace: places are given back and handed on while callers leave.
func TestQueueRace(t *testing.T) {
	q := newQueue(3, 20, 3*time.Millisecond)
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for n := range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n%5+1)*time.Millisecond)
				if leave, fail := q.enter(ctx, [32]byte{byte(i % 5)}); fail == nil {
					if running, waiting := q.state(); running > 3 || waiting > 20 {
						t.Errorf("%d run, %d wait", running, waiting)
					}
					leave()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if running, waiting := q.state(); running != 0 || waiting != 0 || len(q.callers) != 0 {
		t.Errorf("%d run, %d wait, %d callers remembered", running, waiting, len(q.callers))
	}
}

// TestQueueForgets: who was refused and hears of it late takes nothing from the
// party under which the same key came back meanwhile.
func TestQueueForgets(t *testing.T) {
	q := newQueue(1, 1, time.Second)
	was := &party{} // its last waiter was evicted and has not looked yet
	leave, fail := q.enter(t.Context(), [32]byte{1})
	if fail != nil {
		t.Fatal(fail)
	}
	q.mu.Lock()
	q.forgetLocked([32]byte{1}, was)
	q.mu.Unlock()
	if len(q.callers) != 1 {
		t.Error("a party with a call was forgotten")
	}
	leave()
	if running, waiting := q.state(); running != 0 || waiting != 0 || len(q.callers) != 0 {
		t.Errorf("%d run, %d wait, %d callers remembered", running, waiting, len(q.callers))
	}
}
