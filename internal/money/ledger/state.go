package ledger

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/channel"
)

// account is the count of one client or worker owner.
type account struct {
	counters channel.Counters
	// marked are the counts at marks that are not confirmed yet, ascending.
	marked []markedCount
	dirty  bool // used since the last mark

	contract channel.ClientContract // clients
	paid     int64                  // workers
}

// markedCount is an account's count when a mark was drawn.
type markedCount struct {
	seqno uint32
	used  int64
}

// session is one start of the process. Its marks run from first up to the
// next session's.
type session struct {
	first uint32
	hash  [32]byte
}

// state is what the ledger's journal holds. Records are checked and applied
// the same way when they are written and when they are replayed.
type state struct {
	clients, workers map[cocoon.Address]*account
	touched          []*account       // applied, not yet flushed
	total            channel.Counters // over all clients

	recent  map[cocoon.RequestID]Charge
	order   []cocoon.RequestID // of recent, a ring
	oldest  int
	windows int // its capacity

	outbox  []Noted       // ascending, without gaps
	notes   uint64        // number of the newest
	durable uint64        // of the newest that is durable
	wake    chan struct{} // one place: a note became durable

	sessions  []session
	last      uint32 // newest mark drawn; 0 = none
	confirmed uint32 // newest mark confirmed
	position  Position
}

func newState(window int) *state {
	return &state{clients: map[cocoon.Address]*account{}, workers: map[cocoon.Address]*account{}, recent: map[cocoon.RequestID]Charge{}, windows: window, wake: make(chan struct{}, 1)}
}

func get(m map[cocoon.Address]*account, owner cocoon.Address) *account {
	a := m[owner]
	if a == nil {
		a = new(account)
		m[owner] = a
	}
	return a
}

// checkCharge reports whether c can be counted, and whether it already was.
func (s *state) checkCharge(c Charge) (known bool, err error) {
	if c.Tokens < 0 {
		return false, fmt.Errorf("%w: %d tokens", ErrCharge, c.Tokens)
	}
	if len(c.Note) > maxNote {
		return false, fmt.Errorf("%w: a note of %d bytes, at most %d", ErrCharge, len(c.Note), maxNote)
	}
	c.Note = ""
	if old, ok := s.recent[c.RequestID]; ok {
		if old != c {
			return false, fmt.Errorf("%w: request %v was charged before, with other parties or another amount", ErrCharge, c.RequestID)
		}
		return true, nil
	}
	most := s.total.Used // no client is above it
	if a := s.workers[c.Worker]; a != nil {
		most = max(most, a.counters.Used)
	}
	if most > math.MaxInt64-c.Tokens {
		return false, fmt.Errorf("%w: counter overflow", ErrCharge)
	}
	return false, nil
}

// charge counts c, which was checked.
func (s *state) charge(c Charge) {
	if c.Note != "" {
		s.notes++
		s.outbox = append(s.outbox, Noted{
			Number: s.notes, Charge: c,
			ClientAfter: get(s.clients, c.Client).counters.Used + c.Tokens, WorkerAfter: get(s.workers, c.Worker).counters.Used + c.Tokens,
		})
		c.Note = ""
	}
	for _, a := range []*account{get(s.clients, c.Client), get(s.workers, c.Worker)} {
		a.counters.Used += c.Tokens
		a.dirty = true
		s.touched = append(s.touched, a)
	}
	s.total.Used += c.Tokens
	s.remember(c)
}

// remember puts c into the window of recent requests.
func (s *state) remember(c Charge) {
	if len(s.order) < s.windows {
		s.order = append(s.order, c.RequestID)
	} else {
		delete(s.recent, s.order[s.oldest])
		s.order[s.oldest] = c.RequestID
		s.oldest = (s.oldest + 1) % s.windows
	}
	s.recent[c.RequestID] = c
}

// take drops the notes up to number n.
func (s *state) take(n uint64) error {
	if n > s.notes {
		return fmt.Errorf("%w: note %d, the last one is %d", ErrNote, n, s.notes)
	}
	i := 0
	for i < len(s.outbox) && s.outbox[i].Number <= n {
		i++
	}
	s.outbox = slices.Delete(s.outbox, 0, i)
	return nil
}

// mark draws mark seqno: every count as it is now belongs to it.
func (s *state) mark(seqno uint32) error {
	if seqno != s.last+1 {
		return fmt.Errorf("mark %d after mark %d", seqno, s.last)
	}
	s.last = seqno
	for _, m := range []map[cocoon.Address]*account{s.clients, s.workers} {
		for _, a := range m {
			if a.dirty {
				a.marked = append(a.marked, markedCount{seqno, a.counters.Used})
				a.dirty = false
			}
		}
	}
	return nil
}

// confirm commits the counts of all marks up to seqno.
func (s *state) confirm(seqno uint32) error {
	if seqno > s.last {
		return fmt.Errorf("%w: mark %d, the last one drawn is %d", ErrMark, seqno, s.last)
	}
	if seqno <= s.confirmed {
		return nil
	}
	s.confirmed = seqno
	for _, m := range []map[cocoon.Address]*account{s.clients, s.workers} {
		for owner, a := range m {
			n := 0
			for n < len(a.marked) && a.marked[n].seqno <= seqno {
				if a == s.clients[owner] {
					s.total.Committed += a.marked[n].used - a.counters.Committed
				}
				a.counters.Committed = a.marked[n].used
				n++
			}
			a.marked = slices.Delete(a.marked, 0, n)
		}
	}
	return nil
}

// sessionOf returns the session that drew mark seqno.
func (s *state) sessionOf(seqno uint32) (session, bool) {
	if seqno == 0 || seqno > s.last {
		return session{}, false
	}
	for _, e := range slices.Backward(s.sessions) {
		if e.first <= seqno {
			return e, true
		}
	}
	return session{}, false
}

// flushed implements machine.
func (s *state) flushed() {
	for _, a := range s.touched {
		a.counters.Durable = a.counters.Used
	}
	s.touched = s.touched[:0]
	s.total.Durable = s.total.Used
	if s.durable != s.notes {
		s.durable = s.notes
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// apply implements machine.
func (s *state) apply(d *decoder) error {
	switch kind := d.u8(); kind {
	case recClient, recWorker:
		owner, a := d.address(), new(account)
		a.counters.Used, a.counters.Committed = d.int(), d.int()
		a.counters.Durable = a.counters.Used
		a.dirty = d.bool()
		for range d.u32() {
			m := markedCount{d.u32(), d.int()}
			if d.err != nil {
				return d.err
			}
			a.marked = append(a.marked, m)
		}
		if kind == recClient {
			a.contract = d.contract()
		} else {
			a.paid = d.int()
		}
		if err := a.check(); err != nil {
			return err
		}
		m := s.clients
		if kind == recWorker {
			m = s.workers
		}
		if m[owner] != nil {
			return errors.New("an account that occurs twice")
		}
		if kind == recClient {
			if s.total.Used > math.MaxInt64-a.counters.Used {
				return fmt.Errorf("%w: overflow", channel.ErrCounters)
			}
			s.total.Used += a.counters.Used
			s.total.Committed += a.counters.Committed
		}
		m[owner] = a
	case recRecent:
		c := d.charge()
		if _, known := s.recent[c.RequestID]; d.err == nil && !known {
			s.remember(c)
		}
	case recCharge, recNoted:
		var c Charge
		if kind == recNoted {
			c = d.noted()
		} else {
			c = d.charge()
		}
		if d.err != nil {
			return d.err
		}
		if known, err := s.checkCharge(c); err != nil || known {
			return fmt.Errorf("a charge that cannot be: %v, already counted: %v", err, known)
		}
		s.charge(c)
	case recTaken:
		if n := d.uint(); d.err == nil {
			return s.take(n)
		}
	case recNotes:
		s.notes = d.uint()
	case recOutbox:
		n := Noted{Number: d.uint(), ClientAfter: d.int(), WorkerAfter: d.int(), Charge: d.noted()}
		if k := len(s.outbox); d.err == nil && (n.Number > s.notes || k > 0 && n.Number != s.outbox[k-1].Number+1) {
			return fmt.Errorf("note %d out of order", n.Number)
		}
		s.outbox = append(s.outbox, n)
	case recSession:
		e := session{d.u32(), d.hash()}
		if n := len(s.sessions); e.first > s.last+1 || n > 0 && e.first <= s.sessions[n-1].first {
			return fmt.Errorf("a session from mark %d on, the last mark is %d", e.first, s.last)
		}
		s.sessions = append(s.sessions, e)
	case recMark:
		if seqno := d.u32(); d.err == nil {
			return s.mark(seqno)
		}
	case recConfirm:
		if seqno := d.u32(); d.err == nil {
			return s.confirm(seqno)
		}
	case recContract:
		if owner, c := d.address(), d.contract(); d.err == nil {
			get(s.clients, owner).contract = c
		}
	case recPaid:
		if owner, n := d.address(), d.int(); d.err == nil {
			get(s.workers, owner).paid = n
		}
	case recPosition:
		s.position = Position{d.uint(), d.hash()}
	case recMarks:
		s.last, s.confirmed = d.u32(), d.u32()
		if s.confirmed > s.last {
			return fmt.Errorf("mark %d is confirmed, the last one is %d", s.confirmed, s.last)
		}
	default:
		return fmt.Errorf("%w (record kind %d)", ErrNewer, kind)
	}
	return d.err
}

func (a *account) check() error {
	at := a.counters.Committed
	for _, m := range a.marked {
		if m.used < at {
			return fmt.Errorf("%w at marks", channel.ErrCounters)
		}
		at = m.used
	}
	if a.counters.Used < at {
		return fmt.Errorf("%w at marks", channel.ErrCounters)
	}
	return a.counters.Check()
}

// snapshot implements machine. The order of records is that of the owners, so
// equal states give equal files.
func (s *state) snapshot(emit func([]byte) error) error {
	b := appendUint(appendUint([]byte{recMarks}, uint64(s.last)), uint64(s.confirmed))
	b = append(appendUint(append(b, recPosition), s.position.LT), s.position.Hash[:]...)
	if err := emit(b); err != nil {
		return err
	}
	for _, e := range s.sessions {
		if err := emit(appendSession(nil, e)); err != nil {
			return err
		}
	}
	for _, part := range []struct {
		kind byte
		m    map[cocoon.Address]*account
	}{{recClient, s.clients}, {recWorker, s.workers}} {
		for _, owner := range owners(part.m) {
			if err := emit(appendAccount(nil, part.kind, owner, part.m[owner])); err != nil {
				return err
			}
		}
	}
	if s.notes > 0 { // a journal without notes stays as it was
		if err := emit(appendUint([]byte{recNotes}, s.notes)); err != nil {
			return err
		}
	}
	for _, n := range s.outbox {
		b := appendInt(appendInt(appendUint([]byte{recOutbox}, n.Number), n.ClientAfter), n.WorkerAfter)
		if err := emit(append(b, appendNoted(nil, 0, n.Charge)[1:]...)); err != nil {
			return err
		}
	}
	for i := range s.order {
		id := s.order[(s.oldest+i)%len(s.order)]
		if err := emit(appendCharge(nil, recRecent, s.recent[id])); err != nil {
			return err
		}
	}
	return nil
}

func appendSession(b []byte, e session) []byte {
	return append(appendUint(append(b, recSession), uint64(e.first)), e.hash[:]...)
}

func appendAccount(b []byte, kind byte, owner cocoon.Address, a *account) []byte {
	b = appendAddress(append(b, kind), owner)
	b = appendBool(appendInt(appendInt(b, a.counters.Used), a.counters.Committed), a.dirty)
	b = appendUint(b, uint64(len(a.marked)))
	for _, m := range a.marked {
		b = appendInt(appendUint(b, uint64(m.seqno)), m.used)
	}
	if kind == recClient {
		return appendContract(b, a.contract)
	}
	return appendInt(b, a.paid)
}

// owners returns the keys of m in ascending order.
func owners(m map[cocoon.Address]*account) []cocoon.Address {
	return slices.SortedFunc(maps.Keys(m), compareAddresses)
}
