// Package load generates requests and records what became of each.
//
// Owns: Histogram, Conn (a lean HTTP/1.1 client), Run (closed and open loop).
// Imports: bench/engine, for what an answer must be.
// Concurrency: Run owns its goroutines; a Histogram belongs to one of them
// until it is merged.
package load

import (
	"encoding/json"
	"math/bits"
	"time"
)

// Histogram counts durations in buckets 1/64 of a power of two wide: every
// value is kept within 1.6 %, from a nanosecond to centuries. The zero value is
// empty.
type Histogram struct {
	counts map[int]int64
	n      int64
	sum    time.Duration
	max    time.Duration
}

const subBits = 6

func bucketOf(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < 1<<subBits {
		return int(v)
	}
	shift := bits.Len64(v) - subBits - 1
	return shift<<subBits + int(v>>shift)
}

// lowest returns the smallest value of a bucket.
func lowest(b int) time.Duration {
	if b < 2<<subBits {
		return time.Duration(b)
	}
	shift := b>>subBits - 1
	return time.Duration(uint64(b-shift<<subBits) << shift)
}

// Add records one value.
func (h *Histogram) Add(d time.Duration) {
	if h.counts == nil {
		h.counts = map[int]int64{}
	}
	h.counts[bucketOf(d)]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

// Merge adds everything o holds.
func (h *Histogram) Merge(o *Histogram) {
	if h.counts == nil {
		h.counts = map[int]int64{}
	}
	for b, n := range o.counts {
		h.counts[b] += n
	}
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// Count returns how many values there are.
func (h *Histogram) Count() int64 { return h.n }

// Quantile returns the value that the share q of all does not exceed, 0 if
// there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := max(int64(q*float64(h.n)+0.999999), 1)
	if rank >= h.n {
		return h.max
	}
	seen := int64(0)
	last := bucketOf(h.max)
	for b := 0; b <= last; b++ {
		if seen += h.counts[b]; seen >= rank {
			return (lowest(b) + lowest(b+1)) / 2
		}
	}
	return h.max
}

// MarshalJSON writes the usual quantiles in microseconds and all buckets as
// pairs of lowest value in nanoseconds and count.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	us := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e3 }
	buckets := [][2]int64{}
	if h.n > 0 {
		for b := 0; b <= bucketOf(h.max); b++ {
			if n := h.counts[b]; n > 0 {
				buckets = append(buckets, [2]int64{int64(lowest(b)), n})
			}
		}
	}
	mean := 0.0
	if h.n > 0 {
		mean = us(h.sum) / float64(h.n)
	}
	return json.Marshal(map[string]any{
		"count": h.n, "mean_us": mean, "p50_us": us(h.Quantile(0.5)), "p90_us": us(h.Quantile(0.9)), "p99_us": us(h.Quantile(0.99)), "p999_us": us(h.Quantile(0.999)), "max_us": us(h.max),
		"buckets": buckets,
	})
}
