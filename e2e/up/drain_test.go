package up_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/e2e/testee"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// TestDrain: processes of each role are asked to end while they are in use and
// start again; no caller notices, since what they had begun ends and the rest
// goes elsewhere or waits. An answer longer than that ends with an error event.
func TestDrain(t *testing.T) {
	const tokens = 50
	e := &enginetest.StandIn{Pace: 2 * time.Millisecond}
	n := up(t, t.TempDir(), append(startEngine(t, e), "--proxies", "2", "--workers", "3")...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var complete atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				// A connection that the gateway closes while it is idle is no failure
				// of the gateway, so each has its own.
				r := n.ask(t.Context(), question{model: "stand-in", prompt: "count for me", stream: true, maxTokens: tokens, header: http.Header{"Connection": {"close"}}})
				if !r.complete() || r.text != words(tokens) {
					t.Errorf("%v", r)
				}
				complete.Add(1)
			}
		})
	}
	for _, name := range []string{"worker-1", "proxy", "worker-2", "proxy-2", "client", "proxy"} {
		served := complete.Load()
		eventually(t, "answers", func() bool { return complete.Load() > served+20 })
		pid := n.alive(name)
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		eventually(t, "end of "+name, func() bool { return !testee.Lives(pid) })
		n.alive(name)
	}
	served := complete.Load()
	eventually(t, "answers after the last end", func() bool { return complete.Load() > served+20 })
	stop()
	wg.Wait()

	begun := make(chan struct{})
	var r reply
	wg.Go(func() {
		r = n.ask(t.Context(), question{model: "stand-in", prompt: "count", stream: true, maxTokens: 20000, seen: func(i int) bool {
			if i == 5 {
				close(begun)
			}
			return true
		}})
	})
	<-begun
	if err := syscall.Kill(n.alive("client"), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if !r.brokenHonestly(words(20000)) || len(r.text) < 1000 {
		r.text = r.text[:min(len(r.text), 50)]
		t.Errorf("a long answer: %v", r)
	}
	caller.CloseIdleConnections()
	eventually(t, "idle engine", func() bool { return e.Active.Load() == 0 })
	s := n.quiet()
	if made := worth(e); s.Paid > made {
		t.Errorf("paid %d nano, made %d", s.Paid, made)
	}
	n.stop()
}
