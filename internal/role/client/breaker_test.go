package client

import (
	"context"
	"errors"
	"testing"
	"time"

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
