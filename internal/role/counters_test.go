package role

import (
	"encoding/json"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// TestRates: a counter is its total and its rates, which decay each over its own
// time, in the form of the reference's statistics.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Counters
		for range 600 { // two requests a second for five minutes
			c.Begin()
			c.End(pricing.Tokens{Total: 10, Completion: 10}, Complete)
			time.Sleep(500 * time.Millisecond)
		}
		c.Begin()
		c.End(pricing.Tokens{}, Failed)
		c.Reject()
		r := c.Stats().Rates
		near := func(got, want float64) bool { return math.Abs(got-want) <= 0.1*want }
		if r.Queries[0] != 601 || r.Success[0] != 600 || r.Failed[0] != 1 || r.Rejected[0] != 1 || r.Total[0] != 6000 {
			t.Errorf("totals %+v", r)
		}
		if !near(r.Success[2], 2) || !near(r.Total[2], 20) || !near(r.Success[3], 2) || !near(r.Success[6], 600/86400.0) || r.Prompt[2] != 0 {
			t.Errorf("rates %+v", r)
		}
		time.Sleep(10 * time.Minute)
		later := c.Stats().Rates
		if later.Success[2] > 1e-9 || !near(later.Success[4], r.Success[4]/math.E) || later.Success[0] != 600 {
			t.Errorf("after ten minutes %+v, before %+v", later.Success, r.Success)
		}
		b, err := json.Marshal(c.Stats())
		var shown struct {
			Stats map[string][]float64
		}
		if err != nil || json.Unmarshal(b, &shown) != nil || len(shown.Stats) != 9 || len(shown.Stats["queries"]) != 7 {
			t.Errorf("%s, %v", b, err)
		}
	})
}

func BenchmarkCounters(b *testing.B) {
	var c Counters
	for b.Loop() {
		c.Begin()
		c.End(pricing.Tokens{Total: 10, Completion: 10}, Complete)
	}
}
