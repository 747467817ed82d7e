package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
)

func TestBreaker(t *testing.T) {
	now := time.Now()
	b := &breaker{}
	for i := range breakAfter {
		if !b.passes(now) {
			t.Fatalf("open after %d failures", i)
		}
		b.begin()
		b.end(fails, now)
		if i == 0 { // what says nothing changes nothing
			b.begin()
			b.end(unknown, now)
		}
	}
	if b.passes(now) {
		t.Fatalf("closed after %d failures", breakAfter)
	}
	key := [32]byte{0xab}
	if st := b.stat(key, now); st.State != "open" || st.Failures != breakAfter || st.RetryIn != breakMin.Seconds() || st.ContractKey[:4] != "ab00" {
		t.Errorf("%+v", st)
	}
	if st := b.stat(key, now.Add(breakMin)); st.State != "half-open" || st.RetryIn != 0 {
		t.Errorf("%+v", st)
	}
	// Half open: one call at a time, and longer pauses after each failure.
	for i, pause := 0, breakMin; i < 12; i, pause = i+1, min(2*pause, breakMax) {
		if b.passes(now.Add(pause - 1)) {
			t.Fatalf("trial %d comes before %v", i, pause)
		}
		now = now.Add(pause)
		if !b.passes(now) {
			t.Fatalf("no trial %d after %v", i, pause)
		}
		b.begin()
		if b.passes(now) {
			t.Fatal("two trials at one time")
		}
		b.end(fails, now)
	}
	now = now.Add(breakMax)
	b.begin()
	b.end(unknown, now) // a trial that says nothing leaves room for another
	if !b.passes(now) {
		t.Fatal("no second trial")
	}
	b.begin()
	b.end(works, now)
	b.begin()
	b.end(fails, now)
	if !b.passes(now) {
		t.Fatal("failures from before a success count")
	}
	c := &Client{breakers: map[[32]byte]*breaker{key: b, {1}: {failures: breakAfter, until: now.Add(time.Minute)}, {2}: {}}}
	if l := c.breakersLocked(now); len(l) != 2 || l[0].State != "open" || l[0].RetryIn != 60 || l[1].State != "closed" || l[1].Failures != 1 {
		t.Errorf("%+v", l)
	}
}

func TestJudge(t *testing.T) {
	ctx := t.Context()
	gone, stop := context.WithCancel(ctx)
	stop()
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		want verdict
	}{
		{ctx, nil, works},
		{ctx, openai.InvalidRequest("n", "bad"), works},
		{ctx, openai.Unavailable("busy"), unknown},
		{ctx, openai.Internal(), unknown}, // ours
		{ctx, openai.Upstream("nonsense"), fails},
		{ctx, openai.Timeout("late"), unknown},
		{ctx, openai.Cut("cut"), fails},
		{ctx, openai.Errorf(openai.CodeNotSealed, "no set"), fails},
		{gone, openai.Upstream("nonsense"), unknown},
		{gone, errors.New("x"), unknown},
	} {
		if got := judge(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.err, got, tt.want)
		}
	}
}

// TestChooseProxy: calls spread over proxies that serve the model and do not
// keep failing; the others are a last resort, and none is tried twice.
func TestChooseProxy(t *testing.T) {
	c := &Client{sessions: map[*session]struct{}{}, breakers: map[[32]byte]*breaker{}, changed: make(chan struct{})}
	var s [4]*session
	for i := range s {
		s[i] = &session{c: c, proxyKey: [32]byte{byte(i)}}
		c.sessions[s[i]] = struct{}{}
	}
	s[2].offer.Store(&offer{{ID: "other", Workers: []api.Worker{{}}}})
	c.breakers[s[3].proxyKey] = &breaker{failures: breakAfter, until: time.Now().Add(time.Hour)}
	s[0].offer.Store(&offer{{ID: "m", Workers: []api.Worker{{}}}}) // s[1] was not asked yet
	tried := map[*session]bool{}
	choose := func(want ...*session) *session {
		t.Helper()
		got, more, err := c.session(t.Context(), time.Now().Add(time.Second), "m", tried)
		if err != nil || !slices.Contains(want, got) || more != (len(tried) < len(s)-1) {
			t.Fatalf("%v, %v, %v", got, more, err)
		}
		return got
	}
	count := map[*session]int{}
	for range 10 {
		count[choose(s[0], s[1])]++
	}
	if count[s[0]] != 5 || count[s[1]] != 5 {
		t.Errorf("idle proxies got %d and %d calls of 10", count[s[0]], count[s[1]])
	}
	s[0].active.Add(1)
	choose(s[1])
	choose(s[1])
	s[1].active.Add(2)
	tried[choose(s[0])] = true
	tried[choose(s[1])] = true
	tried[choose(s[2])] = true // it may have a worker by now
	tried[choose(s[3])] = true
	if _, _, err := c.session(t.Context(), time.Now().Add(time.Second), "m", tried); err != errAllTried {
		t.Error(err)
	}
}
