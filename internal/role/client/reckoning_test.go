package client

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// diskBook is a Book in memory that counts its writes of limits.
type diskBook struct {
	mu     sync.Mutex
	limit  int64
	stored bool
	writes int
	fails  error
}

func (b *diskBook) View(cocoon.Address) channel.View { return channel.View{} }
func (b *diskBook) Put(context.Context, cocoon.Address, channel.View) error {
	return nil
}

func (b *diskBook) Limit(cocoon.Address) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stored {
		return 0, errors.New("nothing is stored")
	}
	return b.limit, nil
}

func (b *diskBook) PutLimit(_ context.Context, _ cocoon.Address, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails != nil {
		return b.fails
	}
	b.limit, b.stored, b.writes = n, true, b.writes+1
	return nil
}

// TestLimitIsOnDiskFirst: whatever is asked for at one time, the most it can
// cost stands on disk before, with a write for many requests.
func TestLimitIsOnDiskFirst(t *testing.T) {
	b := &diskBook{}
	r := &reckoning{book: b, patience: time.Hour}
	const bound, requests = 50, 1000
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range requests / 8 {
				if err := r.begin(t.Context(), bound); err != nil {
					t.Error(err)
				}
				r.mu.Lock()
				limit := r.tally.Limit()
				b.mu.Lock()
				if b.limit < limit-8*bound { // the others' may be on their way
					t.Errorf("%d tokens may be owed, %d are on disk", limit, b.limit)
				}
				b.mu.Unlock()
				r.mu.Unlock()
				r.end(bound, 40)
			}
		})
	}
	wg.Wait()
	if b.limit < 40*requests || b.writes > requests/4 {
		t.Errorf("limit %d after %d writes", b.limit, b.writes)
	}
	if err := r.close(t.Context()); err != nil || b.limit != 40*requests {
		t.Errorf("an orderly end stores %d (%v), want the exact %d", b.limit, err, 40*requests)
	}

	// What cannot be written is not asked for, and not owed.
	b.fails = errors.New("disk full")
	if err := r.begin(t.Context(), 1<<30); !errors.Is(err, b.fails) {
		t.Errorf("begun without the disk: %v", err)
	}
	if r.tally.Limit() != 40*requests {
		t.Errorf("a request that was not sent counts: %d", r.tally.Limit())
	}
}

// TestLatePart: a counter that runs ahead of its explanation is forgiven if
// that comes in time, and only then.
func TestLatePart(t *testing.T) {
	for name, late := range map[string]bool{"in time": false, "too late": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				suspected := 0
				r := &reckoning{book: &diskBook{}, patience: defaultPatience}
				r.suspect = func(*reckoning, channel.Tally) { suspected++ }
				r.hear(30)
				time.Sleep(defaultPatience - time.Second)
				if late {
					time.Sleep(2 * time.Second)
				}
				if err := r.begin(t.Context(), 30); err != nil {
					t.Fatal(err)
				}
				r.hear(31) // and again, before the first doubt is settled
				r.end(30, 30)
				if err := r.begin(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				r.end(1, 1)
				time.Sleep(time.Hour)
				synctest.Wait()
				if want := map[bool]int{false: 0, true: 1}[late]; suspected != want {
					t.Errorf("suspected %d times, want %d", suspected, want)
				}
			})
		})
	}
}

// TestHistory: what an earlier run may owe explains counters after a restart;
// a contract on which nothing was counted begins with what its proxy says.
func TestHistory(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stored bool
		limit  int64
		named  int64
		want   int64 // limit of the reckoning
	}{
		{"killed client", true, 500, 480, 500},
		{"counted nothing yet", true, 0, 480, 0},
		{"new contract", false, 0, 0, 0},
		{"book was lost", false, 0, 480, 480},
		{"nonsense", false, 0, -480, 0},
	} {
		b := &diskBook{stored: tt.stored, limit: tt.limit}
		c := mustClient(t, b)
		r, err := c.reckoning(t.Context(), testSession(c), tt.named)
		if err != nil {
			t.Fatal(err)
		}
		if got := r.tally.Limit(); got != tt.want || !b.stored || b.limit != tt.want {
			t.Errorf("%s: limit %d, on disk %d (%t), want %d", tt.name, got, b.limit, b.stored, tt.want)
		}
		if again, err := c.reckoning(t.Context(), testSession(c), tt.named+1000); err != nil || again != r {
			t.Errorf("%s: the next connection begins anew (%v)", tt.name, err)
		}
	}
}

// TestPaymentAnswerOvertaken: the answer to a payment query is taken a moment
// after messages that came behind it. That is no counter that went back; an
// answer below what was known before the question is.
func TestPaymentAnswerOvertaken(t *testing.T) {
	for _, tt := range []struct {
		name  string
		asked int64 // known before the question
		want  string
	}{
		{"overtaken", 10, ""},
		{"went back", 30, "the proxy contradicts itself"},
	} {
		var log bytes.Buffer
		c := mustClient(t, &diskBook{})
		c.log = slog.New(slog.NewTextHandler(&log, nil))
		s := testSession(c)
		s.learn(&schema.ProxySignedPaymentEmpty{}, &counters{tt.asked, tt.asked}, nil)
		before := s.known()
		s.learn(&schema.ProxySignedPaymentEmpty{}, &counters{40, 40}, nil)     // the message
		s.learn(&schema.ProxySignedPaymentEmpty{}, &counters{20, 20}, &before) // the answer
		if got := log.String(); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: log %q, want %q", tt.name, got, tt.want)
		}
		if s.view.Heard().Used != 40 {
			t.Errorf("%s: %+v is known", tt.name, s.view.Heard())
		}
	}
}

func mustClient(t *testing.T, b Book) *Client {
	t.Helper()
	c, err := New(Config{Owner: cocoon.Address{Hash: [32]byte{1}}, Source: registry.NewStatic(&registry.Snapshot{}), Dialer: noDialer{}, Book: b, Registrar: noRegistrar{}, Seal: api.SealOff})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testSession(c *Client) *session {
	return &session{c: c, ctx: context.Background(), snap: &registry.Snapshot{}, contract: cocoon.Address{Hash: [32]byte{5}}}
}

// Nobody is dialled and nothing registered here.
type (
	noDialer    struct{ tee.Dialer }
	noRegistrar struct{ Registrar }
)
