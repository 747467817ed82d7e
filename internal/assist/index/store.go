package index

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/cocoon-network/cocoon/internal/assist"
)

// The folder:
//
//	key         magic | generation u64 | segment u64 | table key [32]
//	table-G     frames: length u32 | nonce [12] | AES-256-GCM of entries
//	segment-S   sealed records one behind the other
//	lock        held while the index is open
//
// Numbers are little endian. The key file names the table and segment that
// count and is replaced as a whole: that is the moment in which a deletion
// happens. New messages are appended to the segment, then to the table, each
// synced; what was not finished is cut off at the next start.

const (
	keyMagic   = "cocoon-index-1\n\x00"
	keyFileLen = len(keyMagic) + 8 + 8 + 32

	maxFrame  = 1 << 20   // bytes of a frame
	maxRecord = 512 << 10 // bytes of a sealed record
	maxTable  = 512 << 20
	padTo     = 256 // record sizes on disk tell little
)

// errCorrupt is a folder that cannot be read.
var errCorrupt = errors.New("the index is damaged: delete its folder, or bring back a copy, and index the messages again")

// keeper keeps sealed records; the Index that has it takes care that one change
// is made at a time.
type keeper interface {
	// add keeps records whose entries it gives their places.
	add(entries []*entry, records [][]byte) error
	// replace forgets all records but those of entries.
	replace(entries []*entry, compact bool) error
	read(e *entry) ([]byte, error)
	close() error
}

// memory is a keeper without a folder.
type memory struct {
	records map[int64][]byte // by place
	next    int64
}

func (m *memory) add(entries []*entry, records [][]byte) error {
	for i, e := range entries {
		e.at = m.next
		m.records[e.at] = records[i]
		m.next++
	}
	return nil
}

func (m *memory) replace(entries []*entry, _ bool) error {
	left := make(map[int64][]byte, len(entries))
	for _, e := range entries {
		left[e.at] = m.records[e.at]
	}
	m.records = left
	return nil
}

func (m *memory) read(e *entry) ([]byte, error) { return e.open(m.records[e.at]) }

func (m *memory) close() error {
	clear(m.records)
	return nil
}

// entry says where a record is and how it is opened.
type entry struct {
	chat string
	id   assist.ID
	key  [32]byte
	at   int64
	n    uint32
}

// store is the folder.
type store struct {
	dir             string
	lock            *os.File
	generation, seg uint64
	key             [32]byte
	table, segment  *os.File
	tableEnd        int64
	segmentEnd      int64
	frames          uint32
}

// openStore opens or makes the folder and returns the entries that count, in
// the order in which they were added.
func openStore(dir string) (s *store, entries []*entry, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("cannot make the folder of the index: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot write to the folder of the index: %w", err)
	}
	opened := &store{dir: dir, lock: lock}
	s = opened
	defer func() {
		if err != nil {
			opened.close()
		}
	}()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, nil, errors.New("the index is in use by another process: stop it, or choose another folder")
	}
	b, err := os.ReadFile(filepath.Join(dir, "key"))
	if errors.Is(err, fs.ErrNotExist) {
		if old, _ := filepath.Glob(filepath.Join(dir, "segment-*")); len(old) > 0 {
			for _, name := range old {
				if info, err := os.Stat(name); err == nil && info.Size() > 0 {
					return nil, nil, errors.New("the key file of the index is missing, without which nothing in it can be read: bring it back, or delete the folder")
				}
			}
		}
		return s, nil, s.replace(nil, true)
	}
	if err != nil {
		return nil, nil, err
	}
	if s.generation, s.seg, s.key, err = decodeKey(b); err != nil {
		return nil, nil, err
	}
	if s.table, err = os.OpenFile(s.path("table", s.generation), os.O_RDWR, 0); err != nil {
		return nil, nil, fmt.Errorf("%w (%v)", errCorrupt, err)
	}
	if s.segment, err = os.OpenFile(s.path("segment", s.seg), os.O_RDWR, 0); err != nil {
		return nil, nil, fmt.Errorf("%w (%v)", errCorrupt, err)
	}
	b, err = io.ReadAll(io.LimitReader(s.table, maxTable+1))
	if err != nil {
		return nil, nil, err
	}
	info, err := s.segment.Stat()
	if err != nil {
		return nil, nil, err
	}
	all, good, frames, err := decodeTable(b, s.key, s.generation, info.Size())
	if err != nil {
		return nil, nil, err
	}
	s.tableEnd, s.frames = good, frames
	last := map[name]int{}
	for i, e := range all {
		last[e.name()] = i
		s.segmentEnd = max(s.segmentEnd, e.at+int64(e.n))
	}
	for i, e := range all {
		if last[e.name()] == i {
			entries = append(entries, e)
		}
	}
	// What a crash left unfinished.
	if err := errors.Join(s.table.Truncate(s.tableEnd), s.segment.Truncate(s.segmentEnd)); err != nil {
		return nil, nil, err
	}
	s.sweep()
	if len(entries) < len(all) {
		// The older of two is a text that was replaced: its key goes.
		err = s.replace(entries, false)
	}
	return s, entries, err
}

// name is what tells messages apart.
type name struct {
	chat string
	id   assist.ID
}

func (e *entry) name() name { return name{e.chat, e.id} }

func (s *store) path(kind string, n uint64) string {
	return filepath.Join(s.dir, kind+"-"+strconv.FormatUint(n, 10))
}

func (s *store) close() error {
	var err error
	for _, f := range []*os.File{s.table, s.segment, s.lock} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	clear(s.key[:])
	return err
}

// sweep removes tables and segments that do not count.
func (s *store) sweep() {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return
	}
	for _, f := range files {
		n := f.Name()
		old := strings.HasPrefix(n, "table-") && filepath.Join(s.dir, n) != s.path("table", s.generation) ||
			strings.HasPrefix(n, "segment-") && filepath.Join(s.dir, n) != s.path("segment", s.seg) || n == "key.new"
		if old {
			_ = os.Remove(filepath.Join(s.dir, n))
		}
	}
}

// seal makes a record's bytes and its entry, whose place is not known yet.
func seal(chat string, id assist.ID, plain []byte) (*entry, []byte, error) {
	e := &entry{chat: chat, id: id}
	rand.Read(e.key[:])
	padded := make([]byte, (len(plain)+4+padTo-1)/padTo*padTo)
	binary.LittleEndian.PutUint32(padded, uint32(len(plain)))
	copy(padded[4:], plain)
	// The key seals this one record, so that its nonce may be zero.
	b := gcm(e.key).Seal(nil, make([]byte, 12), padded, e.aad())
	clear(padded)
	if len(b) > maxRecord {
		return nil, nil, fmt.Errorf("a message is too long for the index")
	}
	e.n = uint32(len(b))
	return e, b, nil
}

// aad binds a record to its message.
func (e *entry) aad() []byte {
	b := []byte("cocoon index record\x00")
	b = binary.LittleEndian.AppendUint16(b, uint16(len(e.chat)))
	return append(append(b, e.chat...), e.id...)
}

// read opens a record.
func (s *store) read(e *entry) ([]byte, error) {
	b := make([]byte, e.n)
	if _, err := s.segment.ReadAt(b, e.at); err != nil {
		return nil, fmt.Errorf("%w (%v)", errCorrupt, err)
	}
	return e.open(b)
}

func (e *entry) open(sealed []byte) ([]byte, error) {
	b, err := gcm(e.key).Open(nil, make([]byte, 12), sealed, e.aad())
	if err != nil || len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
		return nil, errCorrupt
	}
	return b[4:][:binary.LittleEndian.Uint32(b)], nil
}

// add appends records and their entries.
func (s *store) add(entries []*entry, records [][]byte) (err error) {
	defer func() {
		if err != nil { // nothing of it happened
			_ = s.segment.Truncate(s.segmentEnd)
			_ = s.table.Truncate(s.tableEnd)
		}
	}()
	at := s.segmentEnd
	for i, e := range entries {
		e.at = at
		at += int64(len(records[i]))
	}
	if _, err := s.segment.WriteAt(bytes.Join(records, nil), s.segmentEnd); err != nil {
		return err
	}
	if err := s.segment.Sync(); err != nil {
		return err
	}
	b, frames := encodeTable(entries, s.key, s.generation, s.frames)
	if _, err := s.table.WriteAt(b, s.tableEnd); err != nil {
		return err
	}
	if err := s.table.Sync(); err != nil {
		return err
	}
	s.segmentEnd, s.tableEnd, s.frames = at, s.tableEnd+int64(len(b)), frames
	return nil
}

// replace makes a table of entries alone, under a new key: the keys of all
// other records are gone with the old table and its key. The segment is
// rewritten too if compact is set, or if more of it is dead than alive.
func (s *store) replace(entries []*entry, compact bool) error {
	var used int64
	for _, e := range entries {
		used += int64(e.n)
	}
	n := store{dir: s.dir, lock: s.lock, generation: s.generation + 1, seg: s.seg, segment: s.segment, segmentEnd: s.segmentEnd}
	rand.Read(n.key[:])
	places := make([]int64, len(entries))
	for i, e := range entries {
		places[i] = e.at
	}
	undo := func(err error) error {
		for i, e := range entries {
			e.at = places[i]
		}
		if n.table != nil {
			n.table.Close()
		}
		if n.segment != s.segment && n.segment != nil {
			n.segment.Close()
		}
		s.sweep()
		return err
	}
	var err error
	if compact || s.segment == nil || s.segmentEnd-used > used {
		n.seg++
		if n.segment, err = create(n.path("segment", n.seg)); err != nil {
			return undo(err)
		}
		n.segmentEnd = 0
		for _, e := range entries {
			b := make([]byte, e.n)
			if _, err = s.segment.ReadAt(b, e.at); err == nil {
				_, err = n.segment.WriteAt(b, n.segmentEnd)
			}
			if err != nil {
				return undo(err)
			}
			e.at = n.segmentEnd
			n.segmentEnd += int64(e.n)
		}
		if err = n.segment.Sync(); err != nil {
			return undo(err)
		}
	}
	b, frames := encodeTable(entries, n.key, n.generation, 0)
	if n.table, err = create(n.path("table", n.generation)); err == nil {
		_, err = n.table.Write(b)
	}
	if err == nil {
		err = n.table.Sync()
	}
	if err == nil {
		err = n.stageKey()
	}
	if err != nil {
		return undo(err)
	}
	old, err := os.OpenFile(filepath.Join(s.dir, "key"), os.O_WRONLY, 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return undo(err)
	}
	if err := os.Rename(filepath.Join(s.dir, "key.new"), filepath.Join(s.dir, "key")); err != nil {
		return undo(err)
	}
	// From here on the new files count, whatever else fails.
	err = syncDir(s.dir)
	if old != nil {
		// The old key's bytes too, where the file system writes in place.
		_, werr := old.WriteAt(make([]byte, keyFileLen), 0)
		err = errors.Join(err, werr, old.Sync(), old.Close())
	}
	n.tableEnd, n.frames = int64(len(b)), frames
	if s.table != nil {
		s.table.Close()
	}
	if s.segment != nil && s.segment != n.segment {
		s.segment.Close()
	}
	clear(s.key[:])
	*s = n
	s.sweep()
	return err
}

// create makes an empty file, in place of what a crash left.
func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
}

// stageKey writes the key file that is to come.
func (s *store) stageKey() error {
	b := []byte(keyMagic)
	b = binary.LittleEndian.AppendUint64(b, s.generation)
	b = binary.LittleEndian.AppendUint64(b, s.seg)
	b = append(b, s.key[:]...)
	f, err := create(filepath.Join(s.dir, "key.new"))
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = syncDir(s.dir) // the files that it names are there
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func decodeKey(b []byte) (generation, seg uint64, key [32]byte, err error) {
	if len(b) != keyFileLen || string(b[:len(keyMagic)]) != keyMagic {
		return 0, 0, key, fmt.Errorf("%w (its key file is not one)", errCorrupt)
	}
	b = b[len(keyMagic):]
	copy(key[:], b[16:])
	return binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:]), key, nil
}

// encodeTable writes entries as frames, the first with number frame, and
// returns the number after the last.
func encodeTable(entries []*entry, key [32]byte, generation uint64, frame uint32) ([]byte, uint32) {
	var out, plain []byte
	flush := func() {
		if len(plain) == 0 {
			return
		}
		nonce := make([]byte, 12)
		rand.Read(nonce)
		out = binary.LittleEndian.AppendUint32(out, uint32(12+len(plain)+16))
		out = append(out, nonce...)
		out = gcm(key).Seal(out, nonce, plain, frameAAD(generation, frame))
		frame++
		clear(plain)
		plain = plain[:0]
	}
	for _, e := range entries {
		plain = binary.LittleEndian.AppendUint64(plain, uint64(e.at))
		plain = binary.LittleEndian.AppendUint32(plain, e.n)
		plain = append(plain, e.key[:]...)
		plain = append(binary.LittleEndian.AppendUint16(plain, uint16(len(e.chat))), e.chat...)
		plain = append(binary.LittleEndian.AppendUint16(plain, uint16(len(e.id))), e.id...)
		if len(plain) > maxFrame/2 {
			flush()
		}
	}
	flush()
	return out, frame
}

func frameAAD(generation uint64, frame uint32) []byte {
	b := []byte("cocoon index table\x00")
	b = binary.LittleEndian.AppendUint64(b, generation)
	return binary.LittleEndian.AppendUint32(b, frame)
}

// decodeTable reads a table whose records lie within segment bytes. good is
// where its whole frames end: a last frame that was not finished is what a
// crash leaves, anything else that does not open is damage.
func decodeTable(b []byte, key [32]byte, generation uint64, segment int64) (entries []*entry, good int64, frame uint32, err error) {
	if len(b) > maxTable {
		return nil, 0, 0, errCorrupt
	}
	aead := gcm(key)
	for rest := b; len(rest) >= 4; rest = b[good:] {
		n := binary.LittleEndian.Uint32(rest)
		if n == 0 && len(bytes.Trim(rest, "\x00")) == 0 {
			break // a file that grew before its bytes came
		}
		if n < 12+16 || n > maxFrame {
			return nil, 0, 0, errCorrupt
		}
		if int64(n) > int64(len(rest)-4) {
			break
		}
		plain, err := aead.Open(nil, rest[4:16], rest[16:4+n], frameAAD(generation, frame))
		if err != nil {
			if int(n) == len(rest)-4 {
				break
			}
			return nil, 0, 0, errCorrupt
		}
		if entries, err = decodeEntries(entries, plain, segment); err != nil {
			return nil, 0, 0, err
		}
		frame++
		good += 4 + int64(n)
	}
	return entries, good, frame, nil
}

func decodeEntries(out []*entry, b []byte, segment int64) ([]*entry, error) {
	text := func() (string, bool) {
		if len(b) < 2 {
			return "", false
		}
		n := int(binary.LittleEndian.Uint16(b))
		if b = b[2:]; len(b) < n {
			return "", false
		}
		s := string(b[:n])
		b = b[n:]
		return s, true
	}
	for len(b) > 0 {
		if len(b) < 8+4+32 {
			return nil, errCorrupt
		}
		at, n := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
		if n > maxRecord || at > uint64(segment) || int64(n) > segment-int64(at) {
			return nil, errCorrupt
		}
		e := &entry{at: int64(at), n: n}
		copy(e.key[:], b[12:])
		b = b[44:]
		chat, ok := text()
		id, ok2 := text()
		if !ok || !ok2 || id == "" {
			return nil, errCorrupt
		}
		e.chat, e.id = chat, assist.ID(id)
		out = append(out, e)
	}
	return out, nil
}

func gcm(key [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size that GCM wants
	}
	return aead
}
