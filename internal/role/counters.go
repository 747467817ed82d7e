package role

import (
	"sync/atomic"

	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// Counters count a role's requests. The zero value is ready for use.
type Counters struct {
	queries, success, failed, cancelled, rejected atomic.Int64
	total, prompt, cached, completion, reasoning  atomic.Int64
}

// Begin counts a request that was taken.
func (c *Counters) Begin() { c.queries.Add(1) }

// Reject counts a request that was refused before anything was spent.
func (c *Counters) Reject() { c.rejected.Add(1) }

// End counts a request's end.
func (c *Counters) End(t pricing.Tokens, outcome Outcome) {
	switch outcome {
	case Complete:
		c.success.Add(1)
	case Cancelled:
		c.cancelled.Add(1)
	default:
		c.failed.Add(1)
	}
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
}

// Stats returns the counters now.
func (c *Counters) Stats() CounterStats {
	return CounterStats{
		Queries: c.queries.Load(), Success: c.success.Load(), Failed: c.failed.Load(), Cancelled: c.cancelled.Load(), Rejected: c.rejected.Load(),
		Total: c.total.Load(), Prompt: c.prompt.Load(), Cached: c.cached.Load(), Completion: c.completion.Load(), Reasoning: c.reasoning.Load(),
	}
}
