package mux_test

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// BenchmarkPaced is the load that decides: 128 streams, a token every 20 ms
// each, over one TLS connection; spread over the time, or all at once as an
// engine makes them that serves its requests in one batch. What counts is the
// processor time of both ends for a token, cpu-us/msg; a run takes as long as
// its tokens do.
func BenchmarkPaced(b *testing.B) {
	for _, name := range []string{"spread", "batch"} {
		b.Run(name, func(b *testing.B) { paced(b, name == "spread") })
	}
}

func paced(b *testing.B, spread bool) {
	const streams = 128
	part := &schema.ClientQueryAnswerPartEx{Answer: make([]byte, 155)}
	near, far := overTLS(b)
	var got atomic.Int64
	d, _ := pair(b, near, far, nil, handler{message: func(*mux.Conn, []byte) { got.Add(1) }})
	var wg sync.WaitGroup
	b.ResetTimer()
	before := processorTime(b)
	start := time.Now()
	for s := range streams {
		wg.Go(func() {
			due := start
			if spread {
				due = due.Add(rand.N(20 * time.Millisecond))
			}
			for i := s; i < b.N; i += streams {
				due = due.Add(20 * time.Millisecond)
				time.Sleep(time.Until(due))
				if err := d.SendObject(b.Context(), part); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	// The last ones may still be on the way.
	for until := time.Now().Add(10 * time.Second); got.Load() < int64(b.N) && time.Now().Before(until); {
		time.Sleep(time.Millisecond)
	}
	b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-us/msg")
	if n := got.Load(); n < int64(b.N) {
		b.Errorf("%d of %d arrived", n, b.N)
	}
}

// processorTime is what this process has used so far.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
