package role

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// Counters count a role's requests. The zero value is ready for use.
type Counters struct {
	queries, success, failed, cancelled, rejected atomic.Int64
	total, prompt, cached, completion, reasoning  atomic.Int64
	rates                                         rates
}

// Begin counts a request that was taken.
func (c *Counters) Begin() {
	c.queries.Add(1)
	c.rates.add(time.Now(), deltas{rateQueries: 1})
}

// Reject counts a request that was refused before anything was spent.
func (c *Counters) Reject() {
	c.rejected.Add(1)
	c.rates.add(time.Now(), deltas{rateRejected: 1})
}

// End counts a request's end.
func (c *Counters) End(t pricing.Tokens, outcome Outcome) {
	d := deltas{rateTotal: t.Total, ratePrompt: t.Prompt, rateCached: t.Cached, rateCompletion: t.Completion, rateReasoning: t.Reasoning}
	switch outcome {
	case Complete:
		c.success.Add(1)
		d[rateSuccess] = 1
	case Cancelled:
		c.cancelled.Add(1)
	default:
		c.failed.Add(1)
		d[rateFailed] = 1
	}
	c.rates.add(time.Now(), d)
	c.total.Add(t.Total)
	c.prompt.Add(t.Prompt)
	c.cached.Add(t.Cached)
	c.completion.Add(t.Completion)
	c.reasoning.Add(t.Reasoning)
}

// Outcome is how a request ended.
type Outcome int

// The outcomes.
const (
	Failed Outcome = iota
	Complete
	Cancelled
)

// CounterStats is a snapshot of Counters, named as in the reference's
// /jsonstats (spec network-protocol 10.1).
type CounterStats struct {
	Queries    int64 `json:"queries"`
	Success    int64 `json:"success"`
	Failed     int64 `json:"failed"`
	Cancelled  int64 `json:"cancelled"`
	Rejected   int64 `json:"rejected"`
	Total      int64 `json:"total_adjusted_tokens_used"`
	Prompt     int64 `json:"prompt_adjusted_tokens_used"`
	Cached     int64 `json:"cached_adjusted_tokens_used"`
	Completion int64 `json:"completion_adjusted_tokens_used"`
	Reasoning  int64 `json:"reasoning_adjusted_tokens_used"`
	// Rates has the same in the reference's form.
	Rates Rates `json:"stats"`
}

// Rate is a counter as the reference shows it: the total, then what came a second,
// decaying over 1 s, 10 s, 1 min, 10 min, 1 h and 1 day.
type Rate [1 + len(windows)]float64

// Rates are counters with their rates.
type Rates struct {
	Queries    Rate `json:"queries"`
	Success    Rate `json:"success"`
	Failed     Rate `json:"failed"`
	Rejected   Rate `json:"rejected"`
	Total      Rate `json:"total_adjusted_tokens_used"`
	Prompt     Rate `json:"prompt_adjusted_tokens_used"`
	Cached     Rate `json:"cached_adjusted_tokens_used"`
	Completion Rate `json:"completion_adjusted_tokens_used"`
	Reasoning  Rate `json:"reasoning_adjusted_tokens_used"`
}

var windows = [...]time.Duration{time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 24 * time.Hour}

const (
	rateQueries = iota
	rateSuccess
	rateFailed
	rateRejected
	rateTotal
	ratePrompt
	rateCached
	rateCompletion
	rateReasoning
	rateCount
)

type deltas [rateCount]int64

// rates decay together, so that a change costs one power for each window.
type rates struct {
	mu     sync.Mutex
	at     time.Time
	values [rateCount][len(windows)]float64 // a second
}

func (r *rates) add(now time.Time, d deltas) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decayLocked(now)
	for i, n := range d {
		if n <= 0 {
			continue
		}
		for w := range windows {
			r.values[i][w] += float64(n) / windows[w].Seconds()
		}
	}
}

// rateStep is how exactly rates are kept in time, for busy roles.
const rateStep = 50 * time.Millisecond

func (r *rates) decayLocked(now time.Time) {
	passed := now.Sub(r.at)
	if passed < rateStep {
		return
	}
	r.at = now
	for w := range windows {
		left := math.Exp(-passed.Seconds() / windows[w].Seconds())
		for i := range r.values {
			r.values[i][w] *= left
		}
	}
}

// now is all of them beside their totals.
func (r *rates) now(now time.Time, totals deltas) (all [rateCount]Rate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.decayLocked(now)
	for i := range all {
		all[i][0] = float64(totals[i])
		copy(all[i][1:], r.values[i][:])
	}
	return all
}

// Stats returns the counters now.
func (c *Counters) Stats() CounterStats {
	s := CounterStats{
		Queries: c.queries.Load(), Success: c.success.Load(), Failed: c.failed.Load(), Cancelled: c.cancelled.Load(), Rejected: c.rejected.Load(),
		Total: c.total.Load(), Prompt: c.prompt.Load(), Cached: c.cached.Load(), Completion: c.completion.Load(), Reasoning: c.reasoning.Load(),
	}
	r := c.rates.now(time.Now(), deltas{s.Queries, s.Success, s.Failed, s.Rejected, s.Total, s.Prompt, s.Cached, s.Completion, s.Reasoning})
	s.Rates = Rates{r[rateQueries], r[rateSuccess], r[rateFailed], r[rateRejected], r[rateTotal], r[ratePrompt], r[rateCached], r[rateCompletion], r[rateReasoning]}
	return s
}
