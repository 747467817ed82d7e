package client

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// A breaker keeps calls away from a proxy at which they keep failing. Closed,
// it lets all through; after breakAfter failures in a row it is open, for
// growing times, and then lets one call through to see. Under Client.mu.
type breaker struct {
	failures int // in a row
	until    time.Time
	trial    bool // the one call is out
}

const (
	breakAfter = 3
	breakMin   = time.Second
	breakMax   = 30 * time.Second
)

// passes reports whether a call may go through.
func (b *breaker) passes(now time.Time) bool {
	return b.failures < breakAfter || !b.trial && !now.Before(b.until)
}

// begin notes that a call goes there, passed or for want of another proxy.
func (b *breaker) begin() { b.trial = b.failures >= breakAfter }

// BreakerStat is a proxy at which calls failed last, connected or not.
type BreakerStat struct {
	ContractKey string `json:"contract_key"`
	// State: "closed" lets calls through; "open" keeps them away, if there is
	// another proxy; "half-open" lets one through to see.
	State    string `json:"state"`
	Failures int    `json:"failures_in_a_row"`
	// RetryIn is in seconds; 0 unless the state is open.
	RetryIn float64 `json:"retry_in_seconds"`
}

func (b *breaker) stat(key [32]byte, now time.Time) BreakerStat {
	st := BreakerStat{ContractKey: hex.EncodeToString(key[:]), State: "closed", Failures: b.failures}
	switch {
	case b.failures < breakAfter:
	case b.trial || !now.Before(b.until):
		st.State = "half-open"
	default:
		st.State, st.RetryIn = "open", b.until.Sub(now).Seconds()
	}
	return st
}

// breakersLocked lists those that are not as new, in the order of their keys.
func (c *Client) breakersLocked(now time.Time) []BreakerStat {
	list := []BreakerStat{}
	for key, b := range c.breakers {
		if b.failures > 0 {
			list = append(list, b.stat(key, now))
		}
	}
	slices.SortFunc(list, func(a, b BreakerStat) int { return strings.Compare(a.ContractKey, b.ContractKey) })
	return list
}

// verdict is what a call says about the proxy that took it.
type verdict int

const (
	unknown verdict = iota // it says nothing
	works
	fails
)

func (b *breaker) end(v verdict, now time.Time) {
	b.trial = false
	switch v {
	case works:
		*b = breaker{}
	case fails:
		b.failures++
		if over := b.failures - breakAfter; over >= 0 {
			b.until = now.Add(min(breakMin<<min(over, 8), breakMax))
		}
	}
}

// judge is the verdict of a call's beginning. Being busy is no failure, nor is
// what lies in the request, nor the end of the time that the caller gave.
func judge(ctx context.Context, err error) verdict {
	switch {
	case err == nil:
		return works
	case ctx.Err() != nil:
		return unknown
	}
	switch e := openai.From(err); {
	case e.Code == openai.CodeNotSealed, e.Status == http.StatusBadGateway:
		return fails
	case e.Status < 500:
		return works
	}
	return unknown
}

// breakerOf: under Client.mu. Proxies are named by their contract keys, which
// they proved or which stand on chain, so that there are few.
func (c *Client) breakerOf(s *session) *breaker {
	b := c.breakers[s.proxyKey]
	if b == nil {
		b = &breaker{}
		c.breakers[s.proxyKey] = b
	}
	return b
}

func (c *Client) judged(ctx context.Context, s *session, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakerOf(s).end(judge(ctx, err), time.Now())
}

// Probes: what a proxy serves is asked for again and again, sooner while it
// serves nothing. One that does not answer is taken for lost, so that what it
// has not begun goes elsewhere.
const (
	probeEvery = 5 * time.Second
	probeSoon  = 500 * time.Millisecond
)

// errMute ends a connection whose proxy does not answer.
var errMute = errors.New("the proxy did not answer a probe")

// probe runs beside the conversation until ctx ends.
func (s *session) probe(ctx context.Context) error {
	for {
		models, err := s.models(ctx)
		if ctx.Err() != nil {
			return nil
		}
		var said *wire.Error
		if errors.As(err, &said) && said.Code != wire.CodeTimeout {
			err = nil // a refusal is an answer
		} else if err == nil {
			s.offer.Store(&models)
		}
		if err != nil {
			s.c.mu.Lock()
			s.c.breakerOf(s).end(fails, time.Now())
			s.c.mu.Unlock()
			return errors.Join(errMute, err)
		}
		pause := probeEvery
		if len(models) == 0 {
			pause = probeSoon
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// offers reports whether the proxy had a worker of the model when it was last
// asked; one that was not asked yet may have.
func (s *session) offers(model string) bool {
	models := s.offer.Load()
	if models == nil {
		return true
	}
	for i := range *models {
		if m := &(*models)[i]; m.ID == model && len(m.Workers) > 0 {
			return true
		}
	}
	return false
}

// offer is what a proxy was last heard to serve.
type offer = []api.Model
