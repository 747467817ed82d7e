package telegram

import (
	"context"
	"sync"
	"time"
)

// Pace of drafts: quick at first, then slower. Telegram takes 20 drafts in 5 s
// and 40 in 30 s for each peer; we stay below both, over all answers to it.
const (
	draftQuick    = 350 * time.Millisecond
	draftQuickFor = 5 * time.Second
	draftSlow     = 800 * time.Millisecond
	draftRefresh  = 20 * time.Second // a draft lives for 30 s
	draftsIn5s    = 18
	draftsIn30s   = 38
	draftsFree    = 15 // of those, how many go without regard to the rest
)

// peerRate counts drafts to one peer.
type peerRate struct{ at []time.Time }

// wait says how long until one more draft may go; 0 = now, and counts it.
func (r *peerRate) wait(now time.Time) time.Duration {
	for len(r.at) > 0 && now.Sub(r.at[0]) >= 30*time.Second {
		r.at = r.at[1:]
	}
	var wait time.Duration
	if n := len(r.at) - draftsIn5s; n >= 0 {
		wait = max(wait, r.at[n].Add(5*time.Second).Sub(now))
	}
	if n := len(r.at) - draftsIn30s; n >= 0 {
		wait = max(wait, r.at[n].Add(30*time.Second).Sub(now))
	}
	// What is left of the 30 s is shared out, or else a quick beginning would
	// be followed by silence.
	if n := len(r.at); n >= draftsFree && n < draftsIn30s {
		gap := r.at[0].Add(30*time.Second).Sub(now) / time.Duration(draftsIn30s-n+1)
		wait = max(wait, r.at[n-1].Add(gap).Sub(now))
	}
	if wait <= 0 {
		r.at = append(r.at, now)
	}
	return max(wait, 0)
}

// rates are the peers' counts.
type rates struct {
	mu sync.Mutex
	m  map[int64]*peerRate
}

func (r *rates) wait(peer int64, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.m) > 10_000 {
		for id, p := range r.m {
			if len(p.at) == 0 || now.Sub(p.at[len(p.at)-1]) > 30*time.Second {
				delete(r.m, id)
			}
		}
	}
	p := r.m[peer]
	if p == nil {
		p = &peerRate{}
		r.m[peer] = p
	}
	return p.wait(now)
}

// stream shows a growing text as a draft. The newest text wins; what came in
// between is never sent.
type stream struct {
	send func(context.Context, string) error
	wait func(now time.Time) time.Duration // by the peer's limits

	mu    sync.Mutex
	text  string
	fresh chan struct{} // one slot
}

func newStream(send func(context.Context, string) error, wait func(time.Time) time.Duration) *stream {
	return &stream{send: send, wait: wait, fresh: make(chan struct{}, 1)}
}

// add takes more of the text; it never blocks.
func (s *stream) add(delta string) {
	s.mu.Lock()
	if len(s.text) < 8*maxUnits { // a draft shows no more
		s.text += delta
	}
	s.mu.Unlock()
	select {
	case s.fresh <- struct{}{}:
	default:
	}
}

func (s *stream) current() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

// run sends drafts until ctx ends, beginning with an empty one, which Telegram
// shows as "Thinking…" with its Stop button.
func (s *stream) run(ctx context.Context) {
	var began time.Time // of the first text
	for {
		if !s.paced(ctx) {
			return
		}
		text := s.current()
		if text != "" && began.IsZero() {
			began = time.Now()
		}
		pause := draftQuick
		if !began.IsZero() && time.Since(began) >= draftQuickFor {
			pause = draftSlow
		}
		if err := s.send(ctx, text); err != nil {
			pause = 3 * time.Second // the longest that Telegram asks for here
		}
		if began.IsZero() {
			pause = 0 // the first token is shown at once
		}
		if pause > 0 && sleep(ctx, pause) != nil {
			return
		}
		old := time.NewTimer(draftRefresh)
		for again := false; !again && ctx.Err() == nil && s.current() == text; {
			select {
			case <-ctx.Done():
			case <-s.fresh:
			case <-old.C:
				again = true
			}
		}
		old.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

func (s *stream) paced(ctx context.Context) bool {
	for ctx.Err() == nil {
		d := s.wait(time.Now())
		if d == 0 {
			return true
		}
		if sleep(ctx, d) != nil {
			return false
		}
	}
	return false
}
