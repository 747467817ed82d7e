package ledger

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cocoon-network/cocoon"
)

// What can happen to a journal.
var (
	// ErrClosed is returned by commands after Run has ended.
	ErrClosed = errors.New("ledger is closed")
	// ErrBroken is returned by every command after a write has failed. The
	// process must stop charging and be restarted.
	ErrBroken = errors.New("ledger cannot be written any more")
	// ErrForeign is returned by Open for a journal of another contract or kind.
	ErrForeign = errors.New("journal belongs to another contract")
	// ErrNewer is returned by Open for a journal of a later version.
	ErrNewer = errors.New("journal was written by a newer version of this software: update it")
)

// CorruptError says where a journal is damaged.
type CorruptError struct {
	File   string
	Offset int64
	Cause  string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d (%s): put back an intact copy of this file; if there is none, give the proxy a new key, which opens new contracts, and close the old ones on chain", e.File, e.Offset, e.Cause)
}

const (
	frameMagic   = 0x314a4c43 // "CLJ1"
	frameHead    = 12
	tagSize      = 16
	nonceSize    = 16
	maxFrame     = 4 << 20  // payload bytes, on reading
	batchBytes   = 1 << 20  // payload bytes after which a group commit is closed
	batchOps     = 4096     // commands after which it is closed
	maxHeld      = 16 << 10 // bytes that may wait to be written
	compactAfter = 16 << 20 // default of Config.CompactAfter
	queue        = 1024
)

// machine is the state a journal makes durable. Its methods are called with
// the journal's lock held, apply and snapshot in the same form during replay.
type machine interface {
	// apply reads and applies one record of the journal.
	apply(d *decoder) error
	// snapshot calls emit with records that rebuild the state from nothing.
	snapshot(emit func(record []byte) error) error
	// flushed tells that everything applied so far is durable.
	flushed()
}

// op is one command. do runs in the writer with the lock held: it checks the
// command, changes the state and returns buf with the record appended, or
// unchanged if there is nothing to write.
type op struct {
	do   func(buf []byte) ([]byte, error)
	done chan error
	late bool // its record may wait for the next that cannot
}

// journal is the file and its writer.
type journal struct {
	mu    sync.RWMutex // guards state
	state machine

	fs      storage
	unlock  func() error
	id      []byte // header record: kind, version, contract
	key     []byte
	limit   int64
	log     *slog.Logger
	ops     chan *op
	stopped chan struct{}

	// Of the writer alone.
	file       file
	generation uint64
	nonce      [nonceSize]byte // of the file
	seq        uint32          // of the next frame
	size, base int64           // of the file, of its snapshot
	held       []byte          // begun frame of records that may wait

	errMu sync.Mutex
	err   error
}

// openJournal replays the newest generation in fs into state and writes the
// next one. kind and contract must match what the journal was made for.
func openJournal(fs storage, kind string, contract cocoon.Address, key []byte, limit int64, log *slog.Logger, state machine) (*journal, error) {
	j := &journal{
		state: state, fs: fs, key: key, limit: limit, log: log,
		id:      appendAddress(appendBytes(nil, []byte(kind)), contract),
		ops:     make(chan *op, queue),
		stopped: make(chan struct{}),
	}
	if j.limit <= 0 {
		j.limit = compactAfter
	}
	if j.log == nil {
		j.log = slog.New(slog.DiscardHandler)
	}
	generations, err := j.list()
	if err != nil {
		return nil, err
	}
	if n := len(generations); n > 0 {
		j.generation = generations[n-1]
		if err := j.replay(fileName(j.generation)); err != nil {
			return nil, err
		}
	}
	state.flushed()
	if err := j.rewrite(); err != nil {
		return nil, err
	}
	return j, nil
}

const (
	namePrefix = "journal."
	tempName   = "next.tmp"
)

func fileName(generation uint64) string { return fmt.Sprintf("%s%016x", namePrefix, generation) }

// list returns the generations on disk in ascending order.
func (j *journal) list() ([]uint64, error) {
	names, err := j.fs.names()
	if err != nil {
		return nil, err
	}
	var out []uint64
	for _, name := range names {
		if hex, ok := strings.CutPrefix(name, namePrefix); ok {
			if g, err := strconv.ParseUint(hex, 16, 64); err == nil && fileName(g) == name {
				out = append(out, g)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// replay applies all records of a file.
func (j *journal) replay(name string) error {
	data, err := j.fs.read(name)
	if err != nil {
		return err
	}
	corrupt := func(at int64, cause string) error { return &CorruptError{j.fs.path(name), at, cause} }
	// The first frame names the nonce it is itself checked with.
	var nonce [nonceSize]byte
	if len(data) >= frameHead+nonceSize {
		copy(nonce[:], data[frameHead:])
	}
	offset, complete := 0, false
	for seq := uint32(0); offset < len(data); seq++ {
		payload, n, next, ok := j.frame(data, offset, nonce)
		if !ok || n != seq {
			break
		}
		d := &decoder{b: payload}
		if seq == 0 {
			d.take(nonceSize)
			if !slices.Equal(d.take(len(j.id)), j.id) {
				return fmt.Errorf("%s: %w", j.fs.path(name), ErrForeign)
			}
		}
		for d.more() {
			if d.peek() == recSnapshotEnd {
				d.u8()
				complete = true
				continue
			}
			if err := j.state.apply(d); errors.Is(err, ErrNewer) {
				return fmt.Errorf("%s: %w", j.fs.path(name), err)
			} else if err != nil {
				return corrupt(int64(offset), err.Error())
			}
		}
		if d.err != nil {
			return corrupt(int64(offset), d.err.Error())
		}
		offset = next
	}
	if !complete {
		// The file got its name after its snapshot was durable.
		return corrupt(int64(offset), "its snapshot is incomplete")
	}
	if offset < len(data) {
		if at, found := j.later(data, offset, nonce); found {
			return corrupt(int64(offset), fmt.Sprintf("an intact record follows at %d", at))
		}
		j.log.Warn("dropped the end of a journal that a crash left incomplete", "file", j.fs.path(name), "offset", offset, "bytes", len(data)-offset)
	}
	return nil
}

// frame checks the frame at offset and returns its payload and number, and
// the offset behind it.
func (j *journal) frame(data []byte, offset int, nonce [nonceSize]byte) (payload []byte, seq uint32, next int, ok bool) {
	rest := data[offset:]
	if len(rest) < frameHead+tagSize || binary.LittleEndian.Uint32(rest) != frameMagic {
		return nil, 0, 0, false
	}
	n := int(binary.LittleEndian.Uint32(rest[4:]))
	if n > maxFrame || n > len(rest)-frameHead-tagSize {
		return nil, 0, 0, false
	}
	body, tag := rest[:frameHead+n], rest[frameHead+n:frameHead+n+tagSize]
	if want := j.mac(nonce, body); !hmac.Equal(tag, want[:]) {
		return nil, 0, 0, false
	}
	return body[frameHead:], binary.LittleEndian.Uint32(rest[8:]), offset + len(body) + tagSize, true
}

// later looks for an intact frame behind offset.
func (j *journal) later(data []byte, offset int, nonce [nonceSize]byte) (int, bool) {
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	for at := offset + 1; ; at++ {
		i := bytes.Index(data[at:], magic)
		if i < 0 {
			return 0, false
		}
		at += i
		if _, _, _, ok := j.frame(data, at, nonce); ok {
			return at, true
		}
	}
}

func (j *journal) mac(nonce [nonceSize]byte, body []byte) [tagSize]byte {
	h := hmac.New(sha256.New, j.key)
	h.Write(nonce[:])
	h.Write(body)
	return [tagSize]byte(h.Sum(nil)[:tagSize])
}

// appendFrame closes buf, which starts with frameHead free bytes, as a frame.
func (j *journal) appendFrame(buf []byte) []byte {
	binary.LittleEndian.PutUint32(buf, frameMagic)
	binary.LittleEndian.PutUint32(buf[4:], uint32(len(buf)-frameHead))
	binary.LittleEndian.PutUint32(buf[8:], j.seq)
	j.seq++
	tag := j.mac(j.nonce, buf)
	return append(buf, tag[:]...)
}

// rewrite writes the state into the file of the next generation and makes it
// the current one. The lock need not be held: only the writer changes state.
func (j *journal) rewrite() error {
	f, err := j.fs.create(tempName)
	if err != nil {
		return err
	}
	defer func() {
		if f != nil {
			f.Close()
		}
	}()
	if _, err := rand.Read(j.nonce[:]); err != nil {
		return err
	}
	j.seq, j.size = 0, 0
	write := func(buf []byte) error {
		n, err := f.Write(j.appendFrame(buf))
		j.size += int64(n)
		return err
	}
	buf := append(make([]byte, frameHead, 64<<10), j.nonce[:]...)
	buf = append(buf, j.id...)
	err = j.state.snapshot(func(record []byte) error {
		if len(buf)+len(record) > batchBytes {
			if err := write(buf); err != nil {
				return err
			}
			buf = buf[:frameHead]
		}
		buf = append(buf, record...)
		return nil
	})
	if err == nil {
		err = write(append(buf, recSnapshotEnd))
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return err
	}
	old := j.generation
	j.generation++
	if err := j.fs.rename(tempName, fileName(j.generation)); err != nil {
		return err
	}
	if err := j.fs.sync(); err != nil {
		return err
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file, f = f, nil
	j.base, j.held = j.size, nil // the snapshot has what was held
	if old > 0 {
		// What is left over is ignored by the next Open, which tries again.
		if err := j.fs.remove(fileName(old)); err != nil {
			j.log.Warn("could not remove an old journal file", "file", j.fs.path(fileName(old)), "error", err)
		}
	}
	return nil
}

// submit hands a command to the writer and waits until it is durable. If ctx
// ends first, the command may or may not have been carried out.
func (j *journal) submit(ctx context.Context, do func(buf []byte) ([]byte, error)) error {
	return j.await(ctx, &op{do: do, done: make(chan error, 1)})
}

// submitLate is submit for a command that may be lost in a crash: it is carried
// out, and written with the next one that must be durable, or at the end.
func (j *journal) submitLate(ctx context.Context, do func(buf []byte) ([]byte, error)) error {
	return j.await(ctx, &op{do: do, done: make(chan error, 1), late: true})
}

func (j *journal) await(ctx context.Context, o *op) error {
	if err := j.failure(); err != nil {
		return err
	}
	select {
	case j.ops <- o:
	case <-j.stopped:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-o.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-j.stopped:
		// The last batch may just have answered.
		select {
		case err := <-o.done:
			return err
		default:
			return ErrClosed
		}
	}
}

func (j *journal) failure() error {
	j.errMu.Lock()
	defer j.errMu.Unlock()
	return j.err
}

func (j *journal) fail(cause error) error {
	j.errMu.Lock()
	defer j.errMu.Unlock()
	if j.err == nil {
		j.err = fmt.Errorf("%w: %v; restart the process once the disk is in order", ErrBroken, cause)
		j.log.Error("ledger write failed", "error", cause)
	}
	return j.err
}

// run writes commands until ctx ends and then what is still queued. It
// returns nil, or the error that broke the journal; it runs on then, so that
// callers hear of it.
func (j *journal) run(ctx context.Context) error {
	defer close(j.stopped)
	for {
		select {
		case o := <-j.ops:
			j.commit(o)
			continue
		default:
		}
		select {
		case o := <-j.ops:
			j.commit(o)
		case <-ctx.Done():
			for {
				select {
				case o := <-j.ops:
					j.commit(o)
				default:
					if len(j.held) > frameHead && j.failure() == nil {
						_ = j.write(j.held)
						j.held = nil
					}
					return j.failure()
				}
			}
		}
	}
}

// commit carries out o and whatever else is queued as one group.
func (j *journal) commit(o *op) {
	buf := j.held
	if j.held = nil; buf == nil {
		buf = make([]byte, frameHead, 4096)
	}
	urgent := false
	var waiting []*op
	err := j.failure()
	if err == nil {
		j.mu.Lock()
		for n := 1; ; n++ {
			var refused error
			before := len(buf)
			if buf, refused = o.do(buf); refused != nil {
				o.done <- refused
			} else {
				waiting = append(waiting, o)
			}
			urgent = urgent || len(buf) > before && !o.late
			if n == batchOps || len(buf) > batchBytes {
				break
			}
			if o = j.next(); o == nil {
				break
			}
		}
		j.mu.Unlock()
		if !urgent && len(buf) < maxHeld {
			j.held = buf
		} else {
			if err = j.write(buf); err == nil {
				j.mu.Lock()
				j.state.flushed()
				j.mu.Unlock()
			}
		}
	} else {
		waiting = append(waiting, o)
	}
	for _, o := range waiting {
		o.done <- err
	}
	if err == nil && j.size > 2*j.base+j.limit {
		if err := j.rewrite(); err != nil {
			j.fail(err)
		}
	}
}

// next returns a queued command or nil.
func (j *journal) next() *op {
	select {
	case o := <-j.ops:
		return o
	default:
		return nil
	}
}

// write makes one frame durable.
func (j *journal) write(buf []byte) error {
	n, err := j.file.Write(j.appendFrame(buf))
	j.size += int64(n)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		return j.fail(err)
	}
	return nil
}

// close releases file and lock. Run must have ended or never begun.
func (j *journal) close() error {
	err := j.file.Close()
	if j.unlock != nil {
		err = errors.Join(err, j.unlock())
	}
	return err
}
