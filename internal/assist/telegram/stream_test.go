package telegram

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/assist/telegram/telegramtest"
)

// Two long answers at once in one chat stay below Telegram's limits, begin at
// the first token, and show the newest text.
func TestDraftPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var limits telegramtest.Rates
		r := rates{m: map[int64]*peerRate{}}
		ctx, cancel := context.WithCancel(t.Context())
		refused, sent := 0, 0
		var texts []string
		var first time.Duration
		start := time.Now()
		var mu sync.Mutex
		draft := func(_ context.Context, text string) error {
			time.Sleep(30 * time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			sent++
			if text != "" && first == 0 {
				first = time.Since(start)
			}
			texts = append(texts, text)
			if limits.Take(time.Now()) > 0 {
				refused++
				return errors.New("429")
			}
			return nil
		}
		for range 2 {
			s := newStream(draft, func(now time.Time) time.Duration { return r.wait(7, now) })
			go s.run(ctx)
			go func() {
				for ctx.Err() == nil {
					time.Sleep(20 * time.Millisecond)
					s.add("x")
				}
			}()
		}
		time.Sleep(60 * time.Second)
		cancel()
		time.Sleep(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if refused > 0 {
			t.Errorf("%d of %d drafts were refused", refused, sent)
		}
		if sent < 60 || first > 100*time.Millisecond {
			t.Errorf("%d drafts in a minute, the first after %v", sent, first)
		}
		if n := len(texts[len(texts)-1]); n < 2800 {
			t.Errorf("the newest text has %d of 3000 characters", n)
		}
	})
}

// A draft lives for 30 s: a slow model's is shown again, an unchanged one not
// more often.
func TestDraftRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var texts []string
		s := newStream(func(_ context.Context, text string) error { texts = append(texts, text); return nil }, func(time.Time) time.Duration { return 0 })
		go s.run(ctx)
		time.Sleep(70 * time.Second)
		s.add("done")
		s.add("")
		time.Sleep(5 * time.Second)
		cancel()
		synctest.Wait()
		if got := strings.Join(texts, "|"); got != "||||done" {
			t.Errorf("%q", got)
		}
	})
}
