package up_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// resident returns the memory of a process in bytes.
func resident(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// TestOverload: ten times as many callers as there are places. Who is admitted
// waits for a turn or two, the others are told at once when to come
// again, a quiet key is not shut out by a loud one, memory stays where it was,
// and the first call afterwards is served as if nothing had been.
func TestOverload(t *testing.T) {
	const (
		tokens  = 20
		places  = 8
		callers = 10 * places
		// As many wait as run, and a call that runs takes tokens × pace: half a
		// second, were there nothing else on the machine.
		bound  = 10 * time.Second
		memory = 200 << 20
	)
	length := 6 * time.Second
	if os.Getenv("COCOON_SOAK") != "" {
		length = 30 * time.Second
	}
	e := &enginetest.StandIn{Pace: 10 * time.Millisecond}
	n := up(t, t.TempDir(), append(startEngine(t, e), "--workers", "2", "--max-calls", strconv.Itoa(places))...)
	var mu sync.Mutex
	var told int64
	ask := func(key string) (reply, time.Duration) {
		begin := time.Now()
		r := n.ask(t.Context(), question{model: "stand-in", prompt: "count", stream: true, maxTokens: tokens, header: http.Header{"Authorization": {"Bearer " + key}}})
		mu.Lock()
		defer mu.Unlock()
		told += r.cost
		return r, time.Since(begin)
	}
	for range 5 {
		if r, _ := ask("quiet"); !r.complete() {
			t.Fatal(r)
		}
	}
	client, proxy := n.alive("client"), n.alive("proxy")
	before := resident(t, client) + resident(t, proxy)
	var slowest, slowestRefusal time.Duration
	var took []time.Duration
	var served, refused, quiet int
	var most int64
	ctx, stop := context.WithTimeout(t.Context(), length)
	defer stop()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				r, d := ask("loud")
				mu.Lock()
				switch {
				case r.complete() && r.text == words(tokens):
					served++
					slowest = max(slowest, d)
					took = append(took, d)
				case (r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable) && r.err != "":
					refused++
					slowestRefusal = max(slowestRefusal, d)
					if after, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || after < 1 || after > 60 {
						t.Errorf("refused with Retry-After %q", r.header.Get("Retry-After"))
					}
				default:
					t.Errorf("%v", r)
				}
				mu.Unlock()
				if !r.complete() { // impatient, but no tight loop
					time.Sleep(50 * time.Millisecond)
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			r, d := ask("quiet")
			if !r.complete() || d > bound {
				t.Errorf("a quiet key beside a loud one, after %v: %v", d, r)
			}
			quiet++
			time.Sleep(50 * time.Millisecond)
		}
	})
	for ctx.Err() == nil {
		most = max(most, resident(t, client)+resident(t, proxy))
		time.Sleep(100 * time.Millisecond)
	}
	wg.Wait()
	begin := time.Now()
	r, d := ask("loud")
	if !r.complete() || d > bound {
		t.Errorf("the first call afterwards, after %v: %v", d, r)
	}
	slices.Sort(took)
	if served == 0 || refused == 0 || quiet == 0 || slowest > bound || slowestRefusal > bound {
		t.Errorf("%d served, slowest %v; %d refused, slowest %v; %d of the quiet key", served, slowest, refused, slowestRefusal, quiet)
	}
	if most > before+memory {
		t.Errorf("client and proxy took %d MiB before, %d MiB under load", before>>20, most>>20)
	}
	if s := n.quiet(); s.Paid != told {
		t.Errorf("paid %d nano, callers were told %d", s.Paid, told)
	}
	t.Logf("%d served, median %v, slowest %v; %d refused, slowest %v; %d of the quiet key; memory %d MiB, then %d; again in %v",
		served, took[len(took)/2].Round(time.Millisecond), slowest.Round(time.Millisecond), refused, slowestRefusal.Round(time.Millisecond), quiet, before>>20, most>>20, time.Since(begin).Round(time.Millisecond))
	n.stop()
}
