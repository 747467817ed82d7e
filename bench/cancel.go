package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/bench/engine"
	"github.com/cocoon-network/cocoon/bench/load"
	"github.com/cocoon-network/cocoon/bench/topo"
)

// runCancel measures how long an engine works on after its caller has hung up
// (goal P12), with other streams running beside.
func runCancel(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("cancel", flag.ContinueOnError)
	o.flags(f)
	kind := f.String("topology", "ours1", "what is asked")
	count := f.Int("requests", 1000, "how often callers hang up")
	conns := f.Int("conns", 16, "connections")
	if err := f.Parse(args); err != nil {
		return err
	}
	b, cleanup, err := o.setup()
	if err != nil {
		return err
	}
	defer cleanup()
	t, err := topo.StartTopology(ctx, topo.Kind(*kind), b.env)
	if err != nil {
		return err
	}
	defer t.Stop()
	var mu sync.Mutex
	var took load.Histogram
	var failed error
	var wg sync.WaitGroup
	for i := range *conns {
		wg.Go(func() {
			c := load.NewConn(t.Addrs[0])
			defer c.Close()
			for n := i + 1; n <= *count && ctx.Err() == nil; n += *conns {
				// It would go on for ten seconds.
				_, err := c.Do(engine.Order{ID: n, Stream: true, Chunks: 500, Size: 24, Pace: 20 * time.Millisecond}, 2+n%5)
				left := time.Now()
				d := time.Duration(0)
				if err == nil {
					d, err = stopped(ctx, b.env.Engine, n, left)
				}
				mu.Lock()
				if err != nil {
					failed = err
				} else {
					took.Add(max(d, 0))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	fmt.Printf("P12  %s: caller gone to engine stopped, %d times over %d connections: p50 %.2f ms, p99 %.2f ms (at most 50)\n",
		t.Kind, *count, *conns, ms(took.Quantile(0.5)), ms(took.Quantile(0.99)))
	return nil
}

// stopped asks the engine when it stopped an order, and returns how long after
// left that was.
func stopped(ctx context.Context, addr string, id int, left time.Time) (time.Duration, error) {
	for time.Since(left) < 5*time.Second {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+engine.Stopped+"?id="+strconv.Itoa(id), nil)
		if err != nil {
			return 0, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		text, err := io.ReadAll(io.LimitReader(resp.Body, 64))
		resp.Body.Close()
		if err != nil {
			return 0, err
		}
		if resp.StatusCode == http.StatusOK {
			at, err := strconv.ParseInt(string(text), 10, 64)
			return time.Unix(0, at).Sub(left), err
		}
		time.Sleep(5 * time.Millisecond)
	}
	return 0, fmt.Errorf("the engine still worked on order %d five seconds after its caller had left", id)
}
