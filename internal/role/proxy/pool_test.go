package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
)

func testWorker(name string, coefficient, running, limit int32) *workerSession {
	return &workerSession{conn: &tee.Conn{}, model: cocoon.ModelName(name), enabled: true, coefficient: coefficient, running: running, limit: limit, version: 2}
}

func ask(model string) want {
	return want{model: model, maxCoefficient: 4000, tried: map[*workerSession]bool{}}
}

func TestChoice(t *testing.T) {
	disabled, refused, keys := testWorker("m@1:0", 1, 0, 1), testWorker("m@1:0", 1, 0, 1), testWorker("m@1:0", 3000, 0, 1)
	disabled.enabled, refused.refused, keys.version = false, true, 3
	for _, c := range []struct {
		name    string
		workers []*workerSession
		change  func(*want)
		want    int // index; -1 = none
		text    string
	}{
		{"least busy", []*workerSession{testWorker("m", 1000, 2, 4), testWorker("m", 1000, 1, 4)}, nil, 1, ""},
		{"relative to its limit", []*workerSession{testWorker("m", 1000, 2, 40), testWorker("m", 1000, 1, 4)}, nil, 0, ""},
		{"cheapest among equals", []*workerSession{testWorker("m", 2000, 0, 4), testWorker("m", 1000, 0, 4)}, nil, 1, ""},
		{"full", []*workerSession{testWorker("m", 1000, 4, 4)}, nil, -1, "no ready workers for model m"},
		{"disabled or refused", []*workerSession{disabled, refused}, nil, -1, "no ready workers for model m"},
		{"too dear", []*workerSession{testWorker("m", 5000, 0, 4), testWorker("m", 4001, 0, 4)}, nil, -1, "can run this query with coefficient=4001"},
		{"dear but not too dear", []*workerSession{testWorker("m", 5000, 0, 4), testWorker("m", 4000, 0, 4)}, nil, 1, ""},
		{"without keys", []*workerSession{testWorker("m", 1000, 0, 4), keys}, func(w *want) { w.keys = true }, 1, ""},
		{"the client's first among equals", []*workerSession{sealable(1, 0), sealable(2, 0), sealable(3, 0)}, func(w *want) { w.candidates = [][32]byte{{9}, {3}, {1}} }, 2, ""},
		{"the least busy before the client's first", []*workerSession{sealable(1, 0), sealable(2, 0), sealable(3, 1)}, func(w *want) { w.candidates = [][32]byte{{3}, {2}} }, 1, ""},
		{"other model", []*workerSession{testWorker("other", 1000, 0, 4)}, nil, -1, "unknown model m"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool()
				for _, w := range c.workers {
					running := w.running
					w.running = 0
					if err := p.add(w); err != nil {
						t.Fatal(err)
					}
					p.update(w, func() { w.running = running })
				}
				time.Sleep(settleTime + time.Second)
				wt := ask("m")
				if c.change != nil {
					c.change(&wt)
				}
				ctx, stop := context.WithTimeout(t.Context(), time.Second)
				defer stop()
				got, coefficient, err := p.acquire(ctx, wt)
				if c.want < 0 {
					if err == nil || err.Text != c.text {
						t.Errorf("got %v, want %q", err, c.text)
					}
					return
				}
				if err != nil || got != c.workers[c.want] {
					t.Fatalf("chose %+v, %v", got, err)
				}
				if coefficient != got.coefficient {
					t.Errorf("coefficient %d, the worker asks for %d", coefficient, got.coefficient)
				}
			})
		})
	}
}

// sealable is a worker with a statement.
func sealable(statement byte, running int32) *workerSession {
	w := testWorker("m", 1000, running, 4)
	w.statements = [][32]byte{{statement}}
	return w
}

// TestPriceIsThatOfTheChoice: a worker that becomes dearer while a request is
// on its way to it does not get more for it.
func TestPriceIsThatOfTheChoice(t *testing.T) {
	p := newPool()
	w := testWorker("m", 1000, 0, 4)
	if err := p.add(w); err != nil {
		t.Fatal(err)
	}
	_, coefficient, err := p.acquire(t.Context(), ask("m"))
	p.update(w, func() { w.coefficient = 9000 })
	if err != nil || coefficient != 1000 {
		t.Errorf("%d, %v", coefficient, err)
	}
}

// TestWaiting: those who wait are served in the order in which they came, as
// places become free; those whose time is over hear why.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		w := testWorker("m", 1000, 0, 1)
		if err := p.add(w); err != nil {
			t.Fatal(err)
		}
		if _, _, err := p.acquire(t.Context(), ask("m")); err != nil {
			t.Fatal(err)
		}
		served := make(chan int, 3)
		for i := range 3 {
			go func() {
				limit := time.Minute
				if i == 1 {
					limit = time.Second
				}
				ctx, stop := context.WithTimeout(t.Context(), limit)
				defer stop()
				if _, _, err := p.acquire(ctx, ask("m")); err == nil {
					served <- i
				} else if i != 1 || err.Text != "no ready workers for model m" || err.Code != wire.CodeNotReady {
					t.Errorf("%d: %v", i, err)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(2 * time.Second)
		for _, want := range []int{0, 2} {
			p.release(w)
			if got := <-served; got != want {
				t.Errorf("served %d, want %d", got, want)
			}
		}
		p.release(w)
		if w.running != 0 {
			t.Errorf("%d places are lost", w.running)
		}
	})
}

// staleSession is a session of level 1 that has run out.
type staleSession struct {
	tee.Session
	fresh atomic.Bool
}

func (s *staleSession) Usable() error {
	if s.fresh.Load() {
		return nil
	}
	return errors.New("the session was not renewed in time")
}

// TestRenewedWhileWaiting: who waits for a worker whose session had run out
// gets it when it is renewed, without anything else happening.
func TestRenewedWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		s := &staleSession{}
		w := testWorker("m", 1000, 0, 1)
		w.conn, w.p = &tee.Conn{Session: s}, &Proxy{pool: p}
		if err := p.add(w); err != nil {
			t.Fatal(err)
		}
		got := make(chan *workerSession, 1)
		go func() {
			w, _, err := p.acquire(t.Context(), ask("m"))
			if err != nil {
				t.Error(err)
			}
			got <- w
		}()
		synctest.Wait()
		w.Renewed() // not yet
		synctest.Wait()
		if len(got) > 0 {
			t.Fatal("a request began under a session that had run out")
		}
		s.fresh.Store(true)
		w.Renewed()
		if <-got != w {
			t.Error("another worker")
		}
	})
}

// TestUnknownNames: names that only callers use are forgotten with them, wait
// only after a start, and are no models.
func TestUnknownNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool()
		for i := range 100 {
			go func() {
				ctx, stop := context.WithTimeout(t.Context(), time.Second)
				defer stop()
				if _, _, err := p.acquire(ctx, ask(fmt.Sprint("name", i/2))); err == nil || !strings.HasPrefix(err.Text, "no workers for model") {
					t.Errorf("%v", err)
				}
			}()
		}
		synctest.Wait()
		if len(p.models) != 50 {
			t.Errorf("%d names", len(p.models))
		}
		if n := len(p.typesV2().Types) + len(p.types().Types); n != 0 {
			t.Errorf("%d of them are listed as models", n)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(p.models) != 0 {
			t.Errorf("%d names are kept", len(p.models))
		}
		time.Sleep(settleTime)
		if _, _, err := p.acquire(t.Context(), ask("x")); err == nil || err.Code != wire.CodeProtocolViolation {
			t.Errorf("%v", err)
		}
	})
}

// TestWorkerLists: spec network-protocol 4.2, both forms.
func TestWorkerLists(t *testing.T) {
	p := newPool()
	off := testWorker("m@1:0", 10, 0, 7)
	off.enabled = false
	for _, w := range []*workerSession{testWorker("m@1:0", 3000, 0, 9), testWorker("m@2:1", 1000, 0, 5), off} {
		if err := p.add(w); err != nil {
			t.Fatal(err)
		}
	}
	v2 := p.typesV2()
	if len(v2.Types) != 1 || v2.Types[0].Name != "m" || len(v2.Types[0].Workers) != 2 || v2.Types[0].Workers[0].Coefficient != 1000 || v2.Types[0].Workers[1].MaxActiveRequests != 9 {
		t.Errorf("%+v", v2)
	}
	v1 := p.types().Types[0]
	if v1.ActiveWorkers != 3 || v1.CoefficientMin != 10 || v1.CoefficientBucket50 != 3000 || v1.CoefficientMax != 2147483647 {
		t.Errorf("%+v", v1)
	}
	p.remove(off)
	if v1 := p.types().Types[0]; v1.ActiveWorkers != 2 {
		t.Errorf("%+v", v1)
	}
}

// TestVersions: spec network-protocol 4.1.
func TestVersions(t *testing.T) {
	for _, c := range []struct {
		flags     uint32
		low, high int32
		want      int32 // -1 = refused
	}{
		{1, 0, 0, 0}, {1, 3, 9, 0}, {3, 1, 2, 2}, {3, 1, 4, 4}, {3, 3, 4, 4}, {3, 1, 99, 4}, {3, 2, 1, 1},
		{3, 5, 9, -1}, {3, -9, -1, -1}, {3, -9, 0, 0},
	} {
		got, err := chooseVersion(c.flags, c.low, c.high)
		if c.want < 0 {
			var werr *wire.Error
			if !errors.As(err, &werr) || werr.Code != wire.CodeProtocolViolation || werr.Text != "cannot choose common protocol version" {
				t.Errorf("%+v: %v", c, err)
			}
		} else if err != nil || got != c.want {
			t.Errorf("%+v: %d, %v", c, got, err)
		}
	}
}

// TestOrder: whatever happens to workers, the choice is the one that a look at
// all of them gives.
func TestOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	p := newPool()
	var all []*workerSession
	for step := range 5000 {
		switch n := random.IntN(10); {
		case n == 0 && len(all) < 40 || len(all) == 0:
			w := testWorker("m", 1000+random.Int32N(3)*1000, 0, 1+random.Int32N(5))
			if err := p.add(w); err != nil {
				t.Fatal(err)
			}
			all = append(all, w)
		case n == 1 && random.IntN(4) == 0:
			i := random.IntN(len(all))
			p.remove(all[i])
			all = slices.Delete(all, i, i+1)
		case n < 4:
			w := all[random.IntN(len(all))]
			p.update(w, func() {
				w.enabled, w.coefficient = random.IntN(4) > 0, 1000+random.Int32N(5)*1000
			})
		case n < 6:
			if w := all[random.IntN(len(all))]; w.running > 0 {
				p.release(w)
			}
		default:
			asked := ask("m")
			asked.noWait = true
			best := map[*workerSession]bool{nil: true} // several if they are equal
			for _, w := range all {
				if w.free() && w.coefficient <= asked.maxCoefficient && !slices.ContainsFunc(all, func(x *workerSession) bool {
					return x.coefficient <= asked.maxCoefficient && x.before(w)
				}) {
					best[w], best[nil] = true, false
				}
			}
			ctx, stop := context.WithCancel(t.Context())
			if best[nil] {
				stop() // whoever would wait hears at once
			}
			got, _, err := p.acquire(ctx, asked)
			stop()
			if !best[got] {
				t.Fatalf("step %d: chose %+v (%v), the best are %v", step, got, err, best)
			}
		}
	}
}

// BenchmarkChoice is one decision of a proxy with 1,000 workers, and the place
// given back: a quarter of them busy, some disabled, some too dear.
func BenchmarkChoice(b *testing.B) {
	p := newPool()
	for i := range 1000 {
		w := testWorker("m", 1000+int32(i%7)*500, 0, 60)
		w.enabled = i%50 != 0
		if i%4 == 0 {
			w.running = int32(i % 60)
		}
		if err := p.add(w); err != nil {
			b.Fatal(err)
		}
	}
	asked := ask("m")
	b.ReportAllocs()
	for b.Loop() {
		w, _, err := p.acquire(b.Context(), asked)
		if err != nil {
			b.Fatal(err)
		}
		p.release(w)
	}
}
