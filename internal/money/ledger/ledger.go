package ledger

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/channel"
)

// What the ledger refuses.
var (
	// ErrCharge says that a charge cannot be counted.
	ErrCharge = errors.New("impossible charge")
	// ErrNote says that a note was never written.
	ErrNote = errors.New("unknown note")
	// ErrMark says that a mark was never drawn.
	ErrMark = errors.New("unknown mark")
)

// Config configures Open and OpenViews.
type Config struct {
	// Contract is the proxy contract the ledger belongs to. Each contract has
	// its own journal below the directory. (Views: not used.)
	Contract cocoon.Address
	// Key authenticates the files, so that nobody but its holder can change
	// them unnoticed. nil: damage is found, tampering is not.
	Key []byte
	// Window is the number of latest requests whose repetition is recognised;
	// 0 = 16384.
	Window int
	// CompactAfter is how many bytes a file grows beyond twice its snapshot
	// before it is rewritten; 0 = 16 MiB.
	CompactAfter int64
	// Log gets warnings; nil = none.
	Log *slog.Logger
}

const defaultWindow = 1 << 14

// Charge is one request's tokens: what the client owes and the worker earned.
type Charge struct {
	RequestID      cocoon.RequestID
	Client, Worker cocoon.Address // owners
	Tokens         int64
	// Note is kept with the charge, durable at the same moment, until Take
	// says that it was taken: what follows from the charge elsewhere cannot be
	// lost. "" = nothing follows. At most 4 KiB.
	Note string
}

// Noted is a charge whose note was not taken yet.
type Noted struct {
	// Number counts the notes of a ledger from 1.
	Number uint64
	Charge
	// ClientAfter and WorkerAfter are the counters of the owners after it.
	ClientAfter, WorkerAfter int64
}

// Mark is one note on chain that the ledger is at least this far (spec
// network-protocol 7.5).
type Mark struct {
	Seqno   uint32
	Session [32]byte
}

// Position is how far the transactions of the proxy contract were read.
type Position struct {
	LT   uint64
	Hash [32]byte
}

// Client is a client's account.
type Client struct {
	Owner    cocoon.Address
	Counters channel.Counters
	Contract channel.ClientContract // as last recorded; zero = never
}

// Worker is a worker's account.
type Worker struct {
	Owner    cocoon.Address
	Counters channel.Counters
	Paid     int64 // tokens paid on chain, as last recorded
}

// Ledger is the proxy's durable book of one proxy contract.
type Ledger struct {
	j *journal
	s *state
}

// Open opens the journal of c.Contract below dir, locked against other
// processes, and starts a new session. Errors are *CorruptError, ErrLocked,
// ErrForeign or of the file system. Commands wait until Run runs; Close
// releases the journal.
func Open(dir string, c Config) (*Ledger, error) {
	d, unlock, err := openDirectory(filepath.Join(dir, contractDir(c.Contract)))
	if err != nil {
		return nil, err
	}
	l, err := open(d, c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: %w", err), unlock())
	}
	l.j.unlock = unlock
	return l, nil
}

func open(fs storage, c Config) (*Ledger, error) {
	if c.Window <= 0 {
		c.Window = defaultWindow
	}
	s := &opening{newState(c.Window)}
	j, err := openJournal(fs, "cocoon ledger 1", c.Contract, c.Key, c.CompactAfter, c.Log, s)
	if err != nil {
		return nil, err
	}
	j.state = s.state
	return &Ledger{j: j, s: s.state}, nil
}

// opening is the state while it is being opened: the first snapshot it writes
// begins a new session.
type opening struct{ *state }

func (o *opening) snapshot(emit func([]byte) error) error {
	if o.last == math.MaxInt32 {
		return fmt.Errorf("%w: numbers are used up", ErrMark) // int32 on chain
	}
	e := session{first: o.last + 1}
	if _, err := rand.Read(e.hash[:]); err != nil {
		return err
	}
	// A session that drew no mark left no trace on chain.
	if n := len(o.sessions); n > 0 && o.sessions[n-1].first == e.first {
		o.sessions = o.sessions[:n-1]
	}
	o.sessions = append(o.sessions, e)
	return o.state.snapshot(emit)
}

// contractDir names the directory of a contract's journal.
func contractDir(a cocoon.Address) string { return strings.Replace(a.Raw(), ":", "_", 1) }

// Contracts lists the contracts that have a journal below dir.
func Contracts(dir string) ([]cocoon.Address, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ledger: %w", err)
	}
	var out []cocoon.Address
	for _, e := range entries {
		a, err := cocoon.ParseAddress(strings.Replace(e.Name(), "_", ":", 1))
		if err == nil && e.IsDir() && contractDir(a) == e.Name() {
			out = append(out, a)
		}
	}
	return out, nil
}

// Run writes until ctx ends. It returns nil, or the error of the write that
// broke the ledger.
func (l *Ledger) Run(ctx context.Context) error { return l.j.run(ctx) }

// Close releases the journal. Run must have returned.
func (l *Ledger) Close() error { return l.j.close() }

// Err returns the error that broke the ledger, or nil.
func (l *Ledger) Err() error { return l.j.failure() }

// Charge counts a request's tokens and returns when they are durable. The
// same charge again, within the window, is counted once and succeeds; the
// same request with anything different fails with ErrCharge. If ctx ends
// first, the charge may have been counted: repeat it to be sure.
func (l *Ledger) Charge(ctx context.Context, c Charge) error {
	return l.j.submit(ctx, func(buf []byte) ([]byte, error) {
		known, err := l.s.checkCharge(c)
		if err != nil || known {
			return buf, err
		}
		l.s.charge(c)
		if c.Note != "" {
			return appendNoted(buf, recNoted, c), nil
		}
		return appendCharge(buf, recCharge, c), nil
	})
}

// Notes returns up to most durable notes after number after, in order.
func (l *Ledger) Notes(after uint64, most int) []Noted {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	var out []Noted
	for _, n := range l.s.outbox {
		if n.Number > l.s.durable || len(out) == most {
			break
		}
		if n.Number > after {
			out = append(out, n)
		}
	}
	return out
}

// NoteWritten has a value when notes became durable since the last one.
func (l *Ledger) NoteWritten() <-chan struct{} { return l.s.wake }

// Take forgets the notes up to number n: what follows from them is durable
// elsewhere. It does not wait for the disk. After a crash they may be here
// again, and whoever took them knows that he did.
func (l *Ledger) Take(ctx context.Context, n uint64) error {
	return l.j.submitLate(ctx, func(buf []byte) ([]byte, error) {
		if len(l.s.outbox) == 0 || n < l.s.outbox[0].Number {
			return buf, nil
		}
		if err := l.s.take(n); err != nil {
			return buf, err
		}
		return appendUint(append(buf, recTaken), n), nil
	})
}

// Opening returns the counters of all clients and workers as they were before
// the first note: what a book that follows the notes begins with. It is good
// until the first Take.
func (l *Ledger) Opening() (clients, workers map[cocoon.Address]int64) {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	clients, workers = map[cocoon.Address]int64{}, map[cocoon.Address]int64{}
	for owner, a := range l.s.clients {
		clients[owner] = a.counters.Used
	}
	for owner, a := range l.s.workers {
		workers[owner] = a.counters.Used
	}
	for _, n := range l.s.outbox {
		clients[n.Client] -= n.Tokens
		workers[n.Worker] -= n.Tokens
	}
	maps.DeleteFunc(clients, func(_ cocoon.Address, n int64) bool { return n == 0 })
	maps.DeleteFunc(workers, func(_ cocoon.Address, n int64) bool { return n == 0 })
	return clients, workers
}

// Client returns the counters of a client owner.
func (l *Ledger) Client(owner cocoon.Address) channel.Counters {
	return l.ClientAccount(owner).Counters
}

// Worker returns the counters of a worker owner.
func (l *Ledger) Worker(owner cocoon.Address) channel.Counters {
	return l.WorkerAccount(owner).Counters
}

// ClientAccount returns a client's account.
func (l *Ledger) ClientAccount(owner cocoon.Address) Client {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	return l.s.client(owner)
}

// WorkerAccount returns a worker's account.
func (l *Ledger) WorkerAccount(owner cocoon.Address) Worker {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	return l.s.worker(owner)
}

func (s *state) client(owner cocoon.Address) Client {
	if a := s.clients[owner]; a != nil {
		return Client{owner, a.counters, a.contract}
	}
	return Client{Owner: owner}
}

func (s *state) worker(owner cocoon.Address) Worker {
	if a := s.workers[owner]; a != nil {
		return Worker{owner, a.counters, a.paid}
	}
	return Worker{Owner: owner}
}

// Totals returns the sums of the counters over all clients, which are those
// over all workers as well.
func (l *Ledger) Totals() channel.Counters {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	return l.s.total
}

// Clients returns all client accounts in the order of their owners.
func (l *Ledger) Clients() []Client {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	var out []Client
	for _, owner := range owners(l.s.clients) {
		out = append(out, l.s.client(owner))
	}
	return out
}

// Workers returns all worker accounts in the order of their owners.
func (l *Ledger) Workers() []Worker {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	var out []Worker
	for _, owner := range owners(l.s.workers) {
		out = append(out, l.s.worker(owner))
	}
	return out
}

// SetContract records the state of a client's contract. A state with fewer
// tokens charged than recorded is older and changes nothing; one with more
// than were counted fails with channel.ErrRollback.
func (l *Ledger) SetContract(ctx context.Context, owner cocoon.Address, c channel.ClientContract) error {
	return l.j.submit(ctx, func(buf []byte) ([]byte, error) {
		a := l.s.client(owner)
		if c.Charged < 0 || c.Charged > a.Counters.Used {
			return buf, fmt.Errorf("%w (client %v: %d charged, %d counted)", channel.ErrRollback, owner, c.Charged, a.Counters.Used)
		}
		if c.Charged < a.Contract.Charged || c == a.Contract {
			return buf, nil
		}
		get(l.s.clients, owner).contract = c
		return appendContract(appendAddress(append(buf, recContract), owner), c), nil
	})
}

// SetPaid records how many tokens a worker's contract was paid for. Fewer
// than recorded change nothing; more than were counted fail with
// channel.ErrRollback.
func (l *Ledger) SetPaid(ctx context.Context, owner cocoon.Address, tokens int64) error {
	return l.j.submit(ctx, func(buf []byte) ([]byte, error) {
		a := l.s.worker(owner)
		if tokens < 0 || tokens > a.Counters.Used {
			return buf, fmt.Errorf("%w (worker %v: %d paid, %d counted)", channel.ErrRollback, owner, tokens, a.Counters.Used)
		}
		if tokens <= a.Paid {
			return buf, nil
		}
		get(l.s.workers, owner).paid = tokens
		return appendInt(appendAddress(append(buf, recPaid), owner), tokens), nil
	})
}

// Mark draws the next mark: it covers every charge acknowledged before the
// call. The mark is durable when it is returned, and so may be put on chain.
func (l *Ledger) Mark(ctx context.Context) (Mark, error) {
	var m Mark
	err := l.j.submit(ctx, func(buf []byte) ([]byte, error) {
		if l.s.last == math.MaxInt32 {
			return buf, fmt.Errorf("%w: numbers are used up", ErrMark)
		}
		if err := l.s.mark(l.s.last + 1); err != nil {
			return buf, err
		}
		m = Mark{l.s.last, l.s.sessions[len(l.s.sessions)-1].hash}
		return appendUint(append(buf, recMark), uint64(m.Seqno)), nil
	})
	if err != nil {
		return Mark{}, err
	}
	return m, nil
}

// Confirm notes that mark seqno is on chain: all counts it covers are
// committed. Older marks than confirmed change nothing; one that was never
// drawn fails with ErrMark.
func (l *Ledger) Confirm(ctx context.Context, seqno uint32) error {
	return l.j.submit(ctx, func(buf []byte) ([]byte, error) {
		if seqno <= l.s.confirmed {
			return buf, nil
		}
		if err := l.s.confirm(seqno); err != nil {
			return buf, err
		}
		return appendUint(append(buf, recConfirm), uint64(seqno)), nil
	})
}

// Marks returns the newest mark drawn and the seqno of the newest confirmed
// one; zero for none. A mark of an earlier session has that session's hash.
func (l *Ledger) Marks() (last Mark, confirmed uint32) {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	if e, ok := l.s.sessionOf(l.s.last); ok {
		last = Mark{l.s.last, e.hash}
	}
	return last, l.s.confirmed
}

// Session returns the hash of this process's session.
func (l *Ledger) Session() [32]byte {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	return l.s.sessions[len(l.s.sessions)-1].hash
}

// Recognize reports whether this ledger drew a mark that was read from the
// chain. channel.ErrRollback: it did not, so the ledger is older than the
// chain, or another process uses the proxy key.
func (l *Ledger) Recognize(m Mark) error {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	if e, ok := l.s.sessionOf(m.Seqno); !ok || e.hash != m.Session {
		return fmt.Errorf("%w (mark %d on chain is not this ledger's; its last is %d)", channel.ErrRollback, m.Seqno, l.s.last)
	}
	return nil
}

// Position returns how far the contract's transactions were read.
func (l *Ledger) Position() Position {
	l.j.mu.RLock()
	defer l.j.mu.RUnlock()
	return l.s.position
}

// SetPosition records how far the contract's transactions were read. It never
// goes back.
func (l *Ledger) SetPosition(ctx context.Context, p Position) error {
	return l.j.submit(ctx, func(buf []byte) ([]byte, error) {
		if p.LT <= l.s.position.LT {
			return buf, nil
		}
		l.s.position = p
		return append(appendUint(append(buf, recPosition), p.LT), p.Hash[:]...), nil
	})
}

func compareAddresses(a, b cocoon.Address) int {
	return cmp.Or(cmp.Compare(a.Workchain, b.Workchain), bytes.Compare(a.Hash[:], b.Hash[:]))
}
