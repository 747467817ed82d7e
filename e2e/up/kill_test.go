package up_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// load keeps asking with some callers at a time until the returned function
// is called, which waits for all answers.
type load struct {
	complete, broken, wrong atomic.Int64
	cost                    atomic.Int64 // of complete answers, nano
	stop                    func()
}

func (n *network) load(t *testing.T, callers, tokens int) *load {
	l := &load{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				r := n.ask(t.Context(), question{model: "stand-in", prompt: "count for me", stream: true, maxTokens: tokens})
				switch {
				case r.complete() && r.text == words(tokens):
					l.complete.Add(1)
					l.cost.Add(r.cost)
				case r.brokenHonestly(words(tokens)):
					l.broken.Add(1)
				default:
					l.wrong.Add(1)
					t.Errorf("%v", r)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(l.stop)
	return l
}

// TestKillWorkers: workers die under load again and again. Requests that had
// not begun are served by others; those that had end with an error event.
func TestKillWorkers(t *testing.T) {
	const kills, tokens = 9, 30
	e := &enginetest.StandIn{Pace: time.Millisecond}
	n := up(t, t.TempDir(), append(startEngine(t, e), "--workers", "3")...)
	l := n.load(t, 24, tokens)
	for i := range kills {
		// A network with one worker left is asked too much of: the others are
		// back before the next one dies.
		eventually(t, "three connected workers", func() bool { return n.workers(t) == 3 })
		served := l.complete.Load()
		eventually(t, "answers", func() bool { return l.complete.Load() > served+20 })
		n.kill(fmt.Sprintf("worker-%d", 1+i%3))
	}
	eventually(t, "three connected workers", func() bool { return n.workers(t) == 3 })
	l.stop()
	eventually(t, "idle engine", func() bool { return e.Active.Load() == 0 })

	eventually(t, fmt.Sprintf("%d restarts after as many kills", kills), func() bool {
		restarts := 0
		for _, c := range n.status().Children {
			restarts += c.Restarts
		}
		return restarts == kills
	})
	s := n.quiet()
	for _, c := range s.Children {
		if !c.Alive {
			t.Errorf("%s: %s", c.Name, c.Error)
		}
	}
	// Billed is what callers got, or a part of it was lost with a worker that
	// was killed; never more than what the engine made.
	if low, high := l.cost.Load(), worth(e); s.Paid < low || s.Paid > high {
		t.Errorf("paid %d nano; callers got answers for %d, the engine made them for %d", s.Paid, low, high)
	}
	t.Logf("%d kills: %d complete, %d ended with an error event, %d wrong; paid %d nano, told %d, made %d", kills, l.complete.Load(), l.broken.Load(), l.wrong.Load(), s.Paid, l.cost.Load(), worth(e))
	n.stop()
}

// worth is the price of everything an engine made, in nano: 20 a token, eight
// times that for a token of an answer.
func worth(e *enginetest.StandIn) int64 {
	return 20 * (e.PromptTokens.Load() + 8*e.CompletionTokens.Load())
}

// workers counts the workers that the proxy would give requests to.
func (n *network) workers(t *testing.T) (ready int) {
	var stats struct {
		Workers []struct{ Enabled bool } `json:"worker_connections"`
	}
	_, _, body, err := get(n.children()["proxy"].Status + "/jsonstats")
	if err != nil {
		return 0 // the proxy is being restarted
	}
	unmarshal(t, body, &stats)
	for _, w := range stats.Workers {
		if w.Enabled {
			ready++
		}
	}
	return ready
}

// TestKillProxyAndClient: the service comes back by itself, and what was
// charged before stays charged.
func TestKillProxyAndClient(t *testing.T) {
	e := &enginetest.StandIn{}
	n := up(t, t.TempDir(), startEngine(t, e)...)
	var cost int64
	ask := func(what string) {
		t.Helper()
		r := n.ask(t.Context(), question{model: "stand-in", prompt: "count", maxTokens: 10, stream: true})
		if !r.complete() || r.text != words(10) {
			t.Errorf("%s: %v", what, r)
		}
		cost += r.cost
	}
	ask("at first")
	for i := range 2 {
		n.kill("client")
		caller.CloseIdleConnections() // they ended with it
		// The listening socket outlives the process: nobody is refused.
		ask(fmt.Sprintf("after the client was killed, %d", i))
		n.kill("proxy")
		eventually(t, "an answer after the proxy was killed", func() bool {
			r := n.ask(t.Context(), question{model: "stand-in", prompt: "count", maxTokens: 10})
			cost += r.cost
			switch {
			case r.complete():
				return true
			case r.status == 0 || r.status == 200:
				t.Errorf("while the proxy is away: %v", r)
			}
			return false
		})
	}
	s := n.quiet()
	if s.Paid != cost {
		t.Errorf("paid %d nano, callers were told %d", s.Paid, cost)
	}
	for _, c := range s.Children {
		// Both answer again, so both were counted.
		if want := map[string]int{"client": 2, "proxy": 2}[c.Name]; c.Restarts != want || !c.Alive {
			t.Errorf("%+v; want %d restarts", c, want)
		}
	}
	n.stop()
}

// TestKillProxyUnderLoad: a proxy that dies in the midst of answers leaves no
// false end, and no charge that was told is lost.
func TestKillProxyUnderLoad(t *testing.T) {
	const tokens = 30
	e := &enginetest.StandIn{Pace: time.Millisecond}
	n := up(t, t.TempDir(), append(startEngine(t, e), "--workers", "2")...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var complete, broken, refused, told atomic.Int64
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r := n.ask(t.Context(), question{model: "stand-in", prompt: "count for me", stream: true, maxTokens: tokens})
				told.Add(r.cost)
				switch {
				case r.complete() && r.text == words(tokens):
					complete.Add(1)
				case r.brokenHonestly(words(tokens)):
					broken.Add(1)
				case r.status >= 500 && r.err != "" && r.text == "":
					refused.Add(1) // nobody to serve it
				default:
					t.Errorf("%v", r)
				}
			}
		})
	}
	for range 3 {
		served := complete.Load()
		eventually(t, "answers", func() bool { return complete.Load() > served+30 })
		n.kill("proxy")
	}
	served := complete.Load()
	eventually(t, "answers after the last kill", func() bool { return complete.Load() > served+30 })
	stop()
	wg.Wait()
	eventually(t, "idle engine", func() bool { return e.Active.Load() == 0 })
	s := n.quiet()
	if made := worth(e); s.Paid < told.Load() || s.Paid > made {
		t.Errorf("paid %d nano; callers were told %d, the engine made them for %d", s.Paid, told.Load(), made)
	}
	t.Logf("3 kills: %d complete, %d ended with an error event, %d refused; paid %d nano, told %d", complete.Load(), broken.Load(), refused.Load(), s.Paid, told.Load())
	n.stop()
}

// TestKillClientUnderLoad: a client that dies in the midst of requests, some of
// them left by their callers, comes back without taking an honest proxy for a
// thief: what it cannot remember was on its disk before it asked.
func TestKillClientUnderLoad(t *testing.T) {
	const tokens = 30
	e := &enginetest.StandIn{Pace: time.Millisecond}
	n := up(t, t.TempDir(), append(startEngine(t, e), "--workers", "2")...)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var complete, left atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for ctx.Err() == nil {
				q := question{model: "stand-in", prompt: "count for me", stream: true, maxTokens: tokens}
				if i%3 == 0 {
					q.seen = func(i int) bool { return i < 5 } // leaves
				}
				r := n.ask(t.Context(), q)
				switch {
				case q.seen != nil:
					left.Add(1)
				case r.complete() && r.text == words(tokens):
					complete.Add(1)
				case r.done && r.text != words(tokens):
					t.Errorf("a false end: %v", r)
				}
			}
		})
	}
	for range 3 {
		served := complete.Load()
		eventually(t, "answers", func() bool { return complete.Load() > served+30 })
		n.kill("client")
		caller.CloseIdleConnections()
	}
	served := complete.Load()
	eventually(t, "answers after the last kill", func() bool { return complete.Load() > served+30 })
	stop()
	wg.Wait()
	eventually(t, "idle engine", func() bool { return e.Active.Load() == 0 })
	s := n.quiet() // and everything the proxy counts is explained
	if made := worth(e); s.Paid > made {
		t.Errorf("paid %d nano, the engine made answers for %d", s.Paid, made)
	}
	t.Logf("3 kills: %d complete, %d left by their callers; paid %d nano", complete.Load(), left.Load(), s.Paid)
	n.stop()
}

// TestKillUp: children do not outlive `up`, and the same folder starts again
// at once with the same books.
func TestKillUp(t *testing.T) {
	e := &enginetest.StandIn{Pace: 2 * time.Millisecond}
	dir := t.TempDir()
	args := append(startEngine(t, e), "--workers", "2")
	n := up(t, dir, args...)
	r := n.ask(t.Context(), question{model: "stand-in", prompt: "count", maxTokens: 10})
	if !r.complete() {
		t.Fatalf("%v", r)
	}
	paid := n.quiet().Paid
	begun, gone := make(chan struct{}), make(chan reply, 1)
	go func() {
		gone <- n.ask(t.Context(), question{model: "stand-in", prompt: "count", stream: true, maxTokens: 20000, seen: func(i int) bool {
			if i == 5 {
				close(begun)
			}
			return true
		}})
	}()
	<-begun
	if err := n.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-n.ended
	killed := time.Now()

	// At once, while the children of the first one still end.
	second := up(t, dir, args...)
	if s := second.status(); s.Paid < paid {
		t.Errorf("paid %d nano before, %d after", paid, s.Paid)
	}
	if r := second.ask(t.Context(), question{model: "stand-in", prompt: "count", maxTokens: 10}); !r.complete() {
		t.Errorf("after the restart: %v", r)
	}
	if r := <-gone; r.complete() || r.done || r.err == "" {
		r.text = ""
		t.Errorf("the answer that was cut: %v", r)
	}
	eventually(t, "idle engine", func() bool { return e.Active.Load() == 0 })

	if err := second.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-second.ended
	second.gone()
	t.Logf("all children of the second one ended; the first one's within %v", time.Since(killed).Round(time.Millisecond))
	if c, err := net.DialTimeout("tcp", strings.TrimPrefix(second.base, "http://"), 5*time.Second); err == nil {
		c.Close()
		t.Error("the endpoint of a dead network still takes connections")
	}
	code, _, errs := run(t, "", "status", "--dir", dir)
	if code != 1 || !strings.Contains(errs, "not running any more") {
		t.Errorf("status: exit code %d, %q", code, errs)
	}
}

// TestKillEarly: a child that is killed in its first second is restarted, as
// at any other time; one that cannot start ends the network with its reason.
func TestKillEarly(t *testing.T) {
	n := up(t, t.TempDir(), startEngine(t, &enginetest.StandIn{})...)
	for _, name := range []string{"worker-1", "client", "proxy"} {
		n.kill(name)
	}
	eventually(t, "an answer", func() bool {
		select {
		case <-n.ended:
			t.Fatalf("the network ended: %s", n.stderr.String())
		default:
		}
		return n.ask(t.Context(), question{model: "stand-in", prompt: "count", maxTokens: 10}).complete()
	})
	n.stop()

	// A key file that others may read is refused by the child that needs it.
	dir := t.TempDir()
	n = up(t, dir)
	n.stop()
	if err := os.Chmod(dir+"/platform.seed", 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, errs := run(t, "", "up", "--dir", dir, "--listen", "127.0.0.1:0")
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	if last := lines[len(lines)-1]; code != 1 || out != "" || !strings.Contains(last, "platform.seed") || !strings.Contains(last, "chmod 600") {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
}
