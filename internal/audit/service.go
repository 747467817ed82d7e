package audit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
	"github.com/cocoon-network/cocoon/receipt"
)

// Note is what the ledger keeps with a charge: all that its receipt must say.
type Note struct {
	RequestID      cocoon.RequestID
	WorkerPart     [32]byte       // digest; zero where the worker gave none
	Client, Worker cocoon.Address // contracts
	Price          receipt.Price
	SetVersion     uint64
}

const noteVersion = 1

// Encode returns the note as the ledger keeps it.
func (n *Note) Encode() string {
	b := append([]byte{noteVersion}, n.RequestID[:]...)
	b = putAddress(putAddress(append(b, n.WorkerPart[:]...), n.Client), n.Worker)
	p := n.Price
	for _, v := range []uint64{p.PerToken, uint64(p.Coefficient), uint64(p.Prompt), uint64(p.Cached), uint64(p.Completion), uint64(p.Reasoning), n.SetVersion} {
		b = binary.AppendUvarint(b, v)
	}
	return string(b)
}

func parseNote(s string) (*Note, error) {
	d := &fields{b: []byte(s)}
	if d.u8() != noteVersion {
		return nil, ErrNewer
	}
	n := &Note{RequestID: d.hash(), WorkerPart: d.hash(), Client: d.address(), Worker: d.address()}
	n.Price.PerToken = d.uint()
	for _, v := range []*uint32{&n.Price.Coefficient, &n.Price.Prompt, &n.Price.Cached, &n.Price.Completion, &n.Price.Reasoning} {
		*v = uint32(d.uint())
	}
	n.SetVersion = d.uint()
	if d.err != nil || len(d.b) > 0 {
		return nil, errRecord
	}
	return n, nil
}

// Ledger is the book whose notes are logged; *ledger.Ledger is one.
type Ledger interface {
	Notes(after uint64, most int) []ledger.Noted
	NoteWritten() <-chan struct{}
	Take(ctx context.Context, n uint64) error
	Opening() (clients, workers map[cocoon.Address]int64)
}

// ServiceConfig describes a Service.
type ServiceConfig struct {
	Log *Log
	// Sign signs with the node key, Statement names its newest statement.
	Sign      func(message []byte) []byte
	Statement func(context.Context) ([32]byte, error)
	// Block is the newest proven block; zero where there is no chain, and then
	// nothing is promised.
	Block func() receipt.Block
	// Promise is how long after that block a receipt stands on chain at the
	// latest; 0 = receipt.MaxPromise.
	Promise time.Duration
	Logger  *slog.Logger // nil = none
}

// Service turns notes into receipts.
type Service struct {
	cfg ServiceConfig

	mu      sync.Mutex // one group at a time
	changed chan struct{}
}

// NewService makes a Service.
func NewService(c ServiceConfig) (*Service, error) {
	if c.Log == nil || c.Sign == nil || c.Statement == nil || c.Block == nil {
		return nil, errors.New("audit: a service needs a log, a node key, its statement and blocks")
	}
	if c.Promise == 0 {
		c.Promise = receipt.MaxPromise
	}
	if c.Promise < time.Second || c.Promise > receipt.MaxPromise {
		return nil, fmt.Errorf("audit: a promise of %v, it is from 1s to %v", c.Promise, receipt.MaxPromise)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Service{cfg: c, changed: make(chan struct{})}, nil
}

// group bounds the receipts of one write.
const group = 512

// Follow logs the notes of a proxy contract's ledger until ctx ends. clients and
// workers say which contract an owner has there.
func (s *Service) Follow(ctx context.Context, contract cocoon.Address, l Ledger, clients, workers func(owner cocoon.Address) (cocoon.Address, error)) error {
	if _, ok := s.cfg.Log.Opened(contract); !ok {
		c, w := l.Opening()
		var err error
		if c, err = byContract(c, clients); err != nil {
			return err
		}
		if w, err = byContract(w, workers); err != nil {
			return err
		}
		if err := s.cfg.Log.Open(contract, c, w); err != nil {
			return err
		}
	}
	for {
		n, err := s.Ship(ctx, contract, l)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if s.cfg.Log.Err() != nil {
				return err
			}
			s.cfg.Logger.Warn("receipts wait", "err", err)
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
				continue
			}
		}
		if n == group {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.NoteWritten():
		}
	}
}

func byContract(m map[cocoon.Address]int64, of func(cocoon.Address) (cocoon.Address, error)) (map[cocoon.Address]int64, error) {
	out := map[cocoon.Address]int64{}
	for owner, n := range m {
		c, err := of(owner)
		if err != nil {
			return nil, err
		}
		out[c] = n
	}
	return out, nil
}

// Ship logs one group of notes of an opened contract and returns how many. When
// it returns, they are durable in the log and gone from the ledger.
func (s *Service) Ship(ctx context.Context, contract cocoon.Address, l Ledger) (int, error) {
	statement, err := s.cfg.Statement(ctx)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.cfg.Log
	taken, ok := log.Opened(contract)
	if !ok {
		return 0, fmt.Errorf("%w: contract %s was not opened", ErrNotFound, contract)
	}
	notes := l.Notes(taken, group)
	if len(notes) == 0 {
		// What was logged before a crash is dropped where it came from.
		if taken > 0 {
			return 0, l.Take(ctx, taken)
		}
		return 0, nil
	}
	block := s.cfg.Block()
	log.mu.Lock()
	epoch := log.newest().Number + 1
	chains := map[cocoon.Address]link{}
	entries := make([]Entry, len(notes))
	parts := make([]receipt.ProxyPart, len(notes))
	for i, noted := range notes {
		n, err := parseNote(noted.Note)
		if err != nil {
			log.mu.Unlock()
			return 0, fmt.Errorf("note %d: %w", noted.Number, err)
		}
		last, ok := chains[n.Client]
		if !ok {
			last = log.chains[n.Client]
		}
		p := &parts[i]
		*p = receipt.ProxyPart{
			RequestID: n.RequestID, WorkerPart: n.WorkerPart, Statement: statement, Contract: contract, Client: n.Client,
			Before: noted.ClientAfter - noted.Tokens, After: noted.ClientAfter, Price: n.Price, SetVersion: n.SetVersion,
			Previous: last.digest, Block: block,
		}
		if !block.IsZero() {
			p.Epoch, p.Time = epoch, block.Time.Add(s.cfg.Promise)
		}
		signed, err := p.Sign(s.cfg.Sign)
		if err != nil {
			log.mu.Unlock()
			return 0, err
		}
		chains[n.Client] = link{signed.Digest(), p.After}
		entries[i] = Entry{Number: noted.Number, Worker: n.Worker, Earned: noted.WorkerAfter, Signed: signed.Encode()}
	}
	err = log.appendEntries(contract, entries)
	log.mu.Unlock()
	if err != nil {
		return 0, err
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return len(notes), l.Take(ctx, notes[len(notes)-1].Number)
}

// Part waits for the proxy's part of a request, until ctx ends.
func (s *Service) Part(ctx context.Context, id cocoon.RequestID) ([]byte, error) {
	for {
		// Asked before looking: what comes in between is seen.
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		b, _, err := s.cfg.Log.Receipt(id)
		if !errors.Is(err, ErrNotFound) {
			return b, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, err
		}
	}
}
