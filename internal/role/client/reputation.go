package client

import (
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// reputations are our own experience with workers. It is local: nobody else's
// word is in it, and a worker is its owner on a platform, since node keys live
// only as long as a process.
type reputations struct {
	mu      sync.Mutex
	records map[workerName]*Record
}

type workerName struct {
	owner    cocoon.Address
	platform [32]byte
}

// maxRecords bounds the workers that are remembered.
const maxRecords = 4096

// Record is what became of the requests that a worker took or refused.
type Record struct {
	Served int64 `json:"served"`
	Failed int64 `json:"failed"`
	// Refused were not taken, NoAnswer were accepted and never answered.
	Refused  int64 `json:"refused"`
	NoAnswer int64 `json:"accepted_without_answer"`
	// BadParts are answers without a good receipt.
	BadParts int64 `json:"bad_receipts"`
	// FirstMs is the mean time to the first frame of late, in milliseconds.
	FirstMs float64 `json:"first_frame_ms"`
	Score   float64 `json:"score"`
}

// The ways a request ends, for a reputation.
type ending int

const (
	endServed ending = iota
	endFailed
	endRefused
	endNoAnswer
	endBadPart
)

func newReputations() *reputations { return &reputations{records: map[workerName]*Record{}} }

func nameOf(n *tee.Node) workerName {
	name := workerName{owner: n.Owner}
	if n.Result != nil {
		name.platform = n.Result.Platform
	}
	return name
}

// note adds one request. first is the time to the first frame, 0 if none came.
func (r *reputations) note(n *tee.Node, e ending, first time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := nameOf(n)
	x := r.records[name]
	if x == nil {
		if len(r.records) >= maxRecords {
			clear(r.records)
		}
		x = &Record{}
		r.records[name] = x
	}
	*[]*int64{&x.Served, &x.Failed, &x.Refused, &x.NoAnswer, &x.BadParts}[e]++
	if ms := float64(first) / float64(time.Millisecond); first > 0 && x.FirstMs == 0 {
		x.FirstMs = ms
	} else if first > 0 {
		x.FirstMs += (ms - x.FirstMs) / 16
	}
	x.Score = x.score()
}

// score is between 0 and 1: the share of requests that were served, with a
// little credit for who is new, and with worse weighing more.
func (x *Record) score() float64 {
	good := float64(x.Served) + 1
	return good / (good + float64(x.Failed) + float64(x.Refused)/4 + 2*float64(x.NoAnswer) + 8*float64(x.BadParts))
}

func (r *reputations) record(n *tee.Node) Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.records[nameOf(n)]; x != nil {
		return *x
	}
	return Record{Score: 1}
}

func (r *reputations) score(n *tee.Node) float64 {
	rec := r.record(n)
	return rec.Score
}

// badScore is the score below which a platform comes after all others.
const badScore = 0.5

// worst returns the worst record of each of the platforms, if we know one.
func (r *reputations) worst(platforms [][32]byte) map[[32]byte]*Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[[32]byte]*Record{}
	for name, x := range r.records {
		if !slices.Contains(platforms, name.platform) {
			continue
		}
		if w := out[name.platform]; w == nil || x.Score < w.Score {
			rec := *x
			out[name.platform] = &rec
		}
	}
	return out
}
