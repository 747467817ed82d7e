package proxy

import (
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// A client whose envelopes are refused again and again waits a minute.
func TestRefusalsAreLimited(t *testing.T) {
	s := &clientSession{}
	now := time.Now()
	for i := range maxRefusals {
		if s.refusedTooOften(now, true) {
			t.Fatalf("limited after %d", i+1)
		}
	}
	if s.refusedTooOften(now, false) {
		t.Error("limited too early")
	}
	if !s.refusedTooOften(now, true) || !s.refusedTooOften(now.Add(time.Minute), false) {
		t.Error("not limited")
	}
	if s.refusedTooOften(now.Add(time.Minute+1), false) {
		t.Error("limited for ever")
	}
}

// The version of a set grows by itself, and new sets come no faster than
// allowed in the long run.
func TestSetPace(t *testing.T) {
	o := &offers{allowed: setBurst, counted: time.Now()}
	o.p = &Proxy{cfg: Config{Now: time.Now}}
	now := o.counted
	if o.due(nil, now) {
		t.Error("an empty first set")
	}
	made := 0
	for range 3600 { // an hour, with a change each second
		now = now.Add(time.Second)
		o.allowed = min(o.allowed, setBurst)
		if o.due(entriesOf(made+1), now) {
			made++
			o.allowed--
			o.set = setOf(made, now)
		}
	}
	if made < 3600/30 || made > 3600/30+setBurst+1 {
		t.Errorf("%d versions in an hour", made)
	}
}

func entriesOf(n int) []schema.CocoonSetEntry {
	return []schema.CocoonSetEntry{{Coefficient: int32(n)}}
}

func setOf(n int, now time.Time) *schema.CocoonSet {
	return &schema.CocoonSet{Entries: entriesOf(n), Time: int32(now.Unix())}
}
