package proxy

import (
	"time"

	"github.com/cocoon-network/cocoon/internal/wire"
)

// Record is this proxy's own experience with a worker's connection. It is
// local: nobody else's word is in it.
type Record struct {
	Served int64 `json:"served"`
	Failed int64 `json:"failed"`
	// Refused were not taken.
	Refused int64 `json:"refused"`
	// NoAnswer were accepted or begun and broke off with the connection.
	NoAnswer int64 `json:"begun_without_end"`
	// BadParts are answers without a good receipt: nothing is charged for them,
	// and the worker gets no requests for a while.
	BadParts int64 `json:"bad_receipts"`
	// FirstMs is the mean time to the first part of late, in milliseconds.
	FirstMs float64 `json:"first_part_ms"`
}

// note adds what became of an attempt; err is nil for a served one.
func (p *Proxy) note(w *workerSession, r *inference, err *tryError) {
	if err != nil && (err.wire.Code == wire.CodeCancelled || err.wire.Code == wire.CodeNoConsent) {
		return // the client's doing
	}
	p.pool.mu.Lock()
	defer p.pool.mu.Unlock()
	x := &w.record
	switch {
	case err == nil:
		x.Served++
		if ms := float64(r.first.Sub(r.start)) / float64(time.Millisecond); ms > 0 && x.FirstMs == 0 {
			x.FirstMs = ms
		} else if ms > 0 {
			x.FirstMs += (ms - x.FirstMs) / 16
		}
	case err.lost && r.begun:
		x.NoAnswer++
	case err.retry && !r.begun:
		x.Refused++
	default:
		x.Failed++
	}
}

// shun takes a worker whose receipt was bad out of the choice, until the next
// look at who may serve.
func (p *Proxy) shun(w *workerSession) {
	p.pool.update(w, func() {
		w.record.BadParts++
		w.refused = true
	})
}
