package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/bench/engine"
)

// Plan is one measurement.
type Plan struct {
	Addrs []string     // gateways; connections are spread over them
	Order engine.Order // of every request; ID is the request's number
	Conns int
	// Rate makes an open loop: requests per second at Poisson times, whatever
	// becomes of earlier ones; latency counts from when one was due. 0 is a
	// closed loop: each connection asks as soon as it has its answer.
	Rate float64
	// Warm is dropped; Time is measured. In a closed loop Count > 0 ends the
	// run, too.
	Warm, Time time.Duration
	Count      int64
	// Cancel is the share of requests whose caller hangs up in the middle.
	Cancel float64
}

// Result is what a Plan gave.
type Result struct {
	Seconds   float64          `json:"seconds"`
	Requests  int64            `json:"requests"`
	Chunks    int64            `json:"chunks"`
	Cancelled int64            `json:"cancelled"`
	Errors    map[string]int64 `json:"errors,omitempty"`
	Samples   []string         `json:"error_samples,omitempty"`
	Late      int64            `json:"late,omitempty"` // open loop: found no free connection in time
	Latency   Histogram        `json:"latency"`
	First     Histogram        `json:"first_byte"`
	Gaps      Histogram        `json:"gaps"`
}

func kind(err error) string {
	for _, k := range []error{ErrRefused, ErrTruncated, ErrWrong, ErrDial} {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	return "other"
}

// numbers gives every request of a process its own.
var numbers atomic.Int64

// Run carries out a plan. marks are called when measuring begins and ends.
func Run(ctx context.Context, p Plan, begin, end func()) *Result {
	var mu sync.Mutex
	total := &Result{Errors: map[string]int64{}}
	warmUntil := time.Now().Add(p.Warm)
	until := warmUntil.Add(p.Time)
	ctx, stop := context.WithDeadline(ctx, until)
	defer stop()
	var due chan time.Time
	if p.Rate > 0 {
		due = make(chan time.Time, 1<<16)
		go arrivals(ctx, p.Rate, due)
	}
	var started atomic.Int64
	var wg sync.WaitGroup
	for i := range p.Conns {
		wg.Go(func() {
			c := NewConn(p.Addrs[i%len(p.Addrs)])
			defer c.Close()
			mine := &Result{Errors: map[string]int64{}}
			for ctx.Err() == nil {
				var from time.Time
				if due != nil {
					select {
					case from = <-due:
					case <-ctx.Done():
						continue
					}
				}
				if p.Count > 0 && started.Add(1) > p.Count {
					stop()
					break
				}
				one(c, &p, mine, from, warmUntil, until)
			}
			mu.Lock()
			total.merge(mine)
			mu.Unlock()
		})
	}
	time.Sleep(time.Until(warmUntil))
	if begin != nil {
		begin()
	}
	from := time.Now()
	<-ctx.Done()
	total.Seconds = time.Since(from).Seconds()
	if end != nil {
		end()
	}
	wg.Wait()
	if p.Count > 0 {
		total.Seconds = time.Since(from).Seconds()
	}
	return total
}

// arrivals are the moments of a Poisson process.
func arrivals(ctx context.Context, rate float64, due chan<- time.Time) {
	next := time.Now()
	for {
		next = next.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second)))
		if d := time.Until(next); d > 0 {
			select {
			case <-time.After(d):
			case <-ctx.Done():
				return
			}
		}
		select {
		case due <- next:
		case <-ctx.Done():
			return
		}
	}
}

// one makes one request and counts it where it belongs: pieces and requests by
// when they ended, within the measured time only.
func one(c *Conn, p *Plan, r *Result, due, warmUntil, until time.Time) {
	o := p.Order
	o.ID = int(numbers.Add(1))
	leave := 0
	if p.Cancel > 0 && rand.Float64() < p.Cancel && o.Stream {
		leave = 1 + rand.IntN(max(o.Chunks-1, 1))
	}
	start := time.Now()
	a, err := c.Do(o, leave)
	end := time.Now()
	if err != nil {
		// A fault counts at any time.
		r.Errors[kind(err)]++
		if len(r.Samples) < 3 {
			r.Samples = append(r.Samples, err.Error())
		}
		return
	}
	if p.Count == 0 && !due.IsZero() && due.Before(warmUntil) {
		return
	}
	r.pieces(p, &a, start, end, warmUntil, until)
	if end.Before(warmUntil) || p.Count == 0 && end.After(until) {
		return
	}
	if a.Cancelled {
		r.Cancelled++
		return
	}
	r.Requests++
	extra := time.Duration(0)
	if !due.IsZero() {
		extra = start.Sub(due)
		if extra > time.Millisecond {
			r.Late++
		}
	}
	r.Latency.Add(a.Total + extra)
}

// pieces counts the pieces that came within the measured time and what was
// waited for each.
func (r *Result) pieces(p *Plan, a *Answer, start, end, warmUntil, until time.Time) {
	in := func(t time.Time) bool { return !t.Before(warmUntil) && (p.Count > 0 || !t.After(until)) }
	if !p.Order.Stream {
		if in(end) {
			r.Chunks += int64(a.Chunks)
			r.First.Add(a.First)
		}
		return
	}
	at := start.Add(a.First)
	if in(at) && a.Chunks > 0 {
		r.First.Add(a.First)
		r.Chunks++
	}
	for _, g := range a.Gaps {
		if at = at.Add(g); in(at) {
			r.Gaps.Add(g)
			r.Chunks++
		}
	}
}

func (r *Result) merge(o *Result) {
	r.Requests += o.Requests
	r.Chunks += o.Chunks
	r.Cancelled += o.Cancelled
	r.Late += o.Late
	for k, n := range o.Errors {
		r.Errors[k] += n
	}
	if len(r.Samples) < 8 {
		r.Samples = append(r.Samples, o.Samples...)
	}
	r.Latency.Merge(&o.Latency)
	r.First.Merge(&o.First)
	r.Gaps.Merge(&o.Gaps)
}
