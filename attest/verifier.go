package attest

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"
)

// Bounds of a Verifier's memory.
const (
	maxVerdicts    = 4096
	maxVerdictLife = time.Hour
	failureLife    = time.Minute
)

// Verifier is Verify under one policy, with a memory: the same evidence under
// the same statements is judged once. A verdict lives no longer than what it
// rests on, an hour at most; a refusal lives a minute. Since a Verifier has one
// policy for its life, no verdict is ever used under another.
//
// Concurrency: safe for concurrent use.
type Verifier struct {
	policy *Policy

	mu       sync.Mutex
	verdicts map[[32]byte]*list.Element // of *verdict
	recent   *list.List                 // most recently used first
}

type verdict struct {
	key     [32]byte
	made    time.Time
	expires time.Time
	res     *Result
	err     error
}

// NewVerifier makes a Verifier. A nil policy refuses everything. The policy
// must not be changed afterwards.
func NewVerifier(policy *Policy) *Verifier {
	return &Verifier{policy: policy, verdicts: map[[32]byte]*list.Element{}, recent: list.New()}
}

// Policy returns the policy.
func (v *Verifier) Policy() *Policy { return v.policy }

// WantsEndorsements reports whether the vendor's statements play a part in
// judging ev.
func (v *Verifier) WantsEndorsements(ev Evidence) bool {
	return v.policy != nil && !v.policy.Open() && ev.Format != FormatNone && !ev.isFake()
}

// Verify is the function Verify under the Verifier's policy. The Result is
// shared and must not be changed.
func (v *Verifier) Verify(ev Evidence, want ReportData, end *Endorsements, now time.Time) (*Result, error) {
	if ev.Format == FormatNone || v.policy == nil || v.policy.Open() {
		return Verify(ev, want, end, v.policy, now) // costs nothing
	}
	key := verdictKey(ev, want, end)
	if d := v.find(key, now); d != nil {
		return d.res, d.err
	}
	d := &verdict{key: key, made: now, expires: now.Add(failureLife)}
	if d.res, d.err = Verify(ev, want, end, v.policy, now); d.err == nil {
		d.expires = now.Add(maxVerdictLife)
		if e := d.res.Expires; !e.IsZero() && e.Before(d.expires) {
			d.expires = e
		}
	}
	v.keep(d)
	return d.res, d.err
}

// verdictKey covers everything a verdict depends on besides policy and time.
func verdictKey(ev Evidence, want ReportData, end *Endorsements) (key [32]byte) {
	h := sha256.New()
	h.Write([]byte{byte(ev.Format)})
	for _, part := range [][]byte{ev.Quote, ev.Certificate, want[:]} {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write(part)
	}
	if end != nil && end.Intel != nil {
		d := end.Intel.Digest()
		h.Write(append([]byte("intel"), d[:]...))
	}
	if end != nil && end.AMD != nil {
		d := end.AMD.Digest()
		h.Write(append([]byte("amd"), d[:]...))
	}
	h.Sum(key[:0])
	return key
}

// find returns a verdict that still holds. One from the future does not: the
// clock was set back, and what was valid then may not be now.
func (v *Verifier) find(key [32]byte, now time.Time) *verdict {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.verdicts[key]
	if !ok {
		return nil
	}
	d := e.Value.(*verdict)
	if now.Before(d.made) || !now.Before(d.expires) {
		v.recent.Remove(e)
		delete(v.verdicts, key)
		return nil
	}
	v.recent.MoveToFront(e)
	return d
}

func (v *Verifier) keep(d *verdict) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e, ok := v.verdicts[d.key]; ok { // somebody judged it meanwhile
		v.recent.Remove(e)
	}
	v.verdicts[d.key] = v.recent.PushFront(d)
	if v.recent.Len() > maxVerdicts {
		last := v.recent.Back()
		v.recent.Remove(last)
		delete(v.verdicts, last.Value.(*verdict).key)
	}
}
