package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
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
					w.running = running
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
