//go:build !tee

package devnet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The block log is append-only, in segments: files named by the first
// masterchain block in them. Each starts with a magic and the network's zero
// state hash; then one record per masterchain block: length and CRC-32C of
// the body, and in the body that block, preceded by the shard block it
// registers if there is a new one. A record is one write and is synced before
// anybody is told, so only the last one can be torn.
//
// Old segments are deleted whole, the oldest first. What later blocks still
// refer to is therefore repeated at the start of every segment but the first:
// a record of the key block, preceded by the newest shard block before the
// segment. So the log is complete wherever it begins.

const (
	logMagic     = "cocoon devnet log 1\n"
	logHeader    = int64(len(logMagic) + 32)
	maxRecord    = 64 << 20
	blockMeta    = 4 + 4 + 8 + 8 + 4 + 32 + 32 + 32 + 4 + 4
	txMeta       = 32 + 8
	recordHeader = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is one file of the log.
type segment struct {
	first    uint32 // masterchain block
	path     string
	repeated []*block // what stands at its start: the shard block, the key block
}

// place is where a block's bytes are.
type place struct {
	in     *segment
	offset int64
}

// read returns the bytes. It opens the file, since segments may be many and
// blocks that are not in memory are seldom asked for. The error is
// fs.ErrNotExist if the segment was deleted.
func (p place) read(size int32) ([]byte, error) {
	f, err := os.Open(p.in.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, size)
	_, err = f.ReadAt(b, p.offset)
	return b, err
}

// blockLog is the files. network.build guards it; reading blocks needs no
// lock.
type blockLog struct {
	stem     string // of the files' paths
	zero     hash
	segments []*segment // the last one is written to
	f        *os.File   // the last one
	end      int64      // of f
	torn     int64      // bytes of an interrupted write that were dropped
}

// logVisitor gets what a log holds when it is opened. The blocks have their
// bytes, but no cells yet.
type logVisitor struct {
	// begin is called first if the log does not begin with block 1, with what
	// its first segment repeats.
	begin func(first uint32, shard, key *block) error
	// visit is called for every whole record, in order.
	visit func([]*block) error
}

func (l *blockLog) path(first uint32) string { return fmt.Sprintf("%s-%010d.log", l.stem, first) }

// openLog opens or creates the log of the network with the given zero state,
// in files whose paths begin with stem.
func openLog(stem string, zero hash, v logVisitor) (*blockLog, error) {
	l := &blockLog{stem: stem, zero: zero}
	if err := l.open(v); err != nil {
		return nil, errors.Join(fmt.Errorf("devnet: block log: %w", err), l.close())
	}
	return l, nil
}

func (l *blockLog) open(v logVisitor) error {
	// The log was one file once.
	if err := os.Rename(l.stem+".log", l.path(1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(filepath.Dir(l.stem))
	if err != nil {
		return err
	}
	for _, e := range entries { // in order, for the numbers have leading zeros
		s := &segment{path: filepath.Join(filepath.Dir(l.stem), e.Name())}
		number, ours := strings.CutPrefix(s.path, l.stem+"-")
		if number, isLog := strings.CutSuffix(number, ".log"); ours && isLog {
			n, err := strconv.ParseUint(number, 10, 32)
			if s.first = uint32(n); err != nil || s.first == 0 || s.path != l.path(s.first) {
				return fmt.Errorf("%s: not the name of a segment; move the file away", s.path)
			}
			l.segments = append(l.segments, s)
		}
	}
	if len(l.segments) == 0 {
		return l.begin(1, nil)
	}
	for i, s := range l.segments {
		if err := l.load(s, i == 0, i == len(l.segments)-1, v); err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
	}
	return nil
}

// begin starts a segment with what it repeats; it is complete before it has
// its name.
func (l *blockLog) begin(first uint32, repeated []*block) error {
	s := &segment{first: first, path: l.path(first)}
	b := append([]byte(logMagic), l.zero[:]...)
	if repeated != nil {
		var err error
		if b, err = appendRecord(b, 0, s, repeated); err != nil {
			return err
		}
		for _, r := range repeated {
			r.boc = nil
		}
		s.repeated = repeated
	}
	if err := writeFile(s.path, b); err != nil {
		return err
	}
	f, err := os.OpenFile(s.path, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	err = l.close()
	l.segments, l.f, l.end = append(l.segments, s), f, int64(len(b))
	return err
}

// removeFirst deletes the oldest segment. The folder is synced each time, so
// that what is left after a crash has no gap.
func (l *blockLog) removeFirst() error {
	if err := os.Remove(l.segments[0].path); err != nil {
		return err
	}
	l.segments = append([]*segment(nil), l.segments[1:]...)
	return syncDir(filepath.Dir(l.stem))
}

// remove deletes the log.
func (l *blockLog) remove() error {
	err := l.close()
	for len(l.segments) > 0 && err == nil {
		err = l.removeFirst()
	}
	return err
}

// load reads a segment. The last one stays open for writing, and a torn record
// at its end is dropped.
func (l *blockLog) load(s *segment, isFirst, isLast bool, v logVisitor) error {
	f, err := os.OpenFile(s.path, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if isLast {
		l.f = f
	} else {
		defer f.Close()
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	size := fi.Size()
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20)
	head := make([]byte, logHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return errors.New("its header is cut short; restore a copy, or remove the directory to start anew")
	}
	if string(head[:len(logMagic)]) != logMagic || hash(head[len(logMagic):]) != l.zero {
		return errors.New("it belongs to another network; remove the directory to start anew")
	}
	for end := logHeader; ; {
		if isLast {
			l.end = end
		}
		if end == size {
			if s.first > 1 && s.repeated == nil {
				return errors.New("it does not repeat the key block; restore a copy, or remove the directory to start anew")
			}
			return nil
		}
		body, err := readRecord(r, size-end)
		if err != nil {
			if tail := size - end; isLast && (s.first == 1 || s.repeated != nil) && isTorn(f, end, tail) {
				l.torn = tail
				return errors.Join(f.Truncate(end), f.Sync())
			}
			return fmt.Errorf("record at byte %d: %w; restore a copy, or remove the directory to start anew", end, err)
		}
		blocks, err := parseRecord(body, place{s, end + recordHeader})
		if err == nil {
			err = s.take(blocks, isFirst, v)
		}
		if err != nil {
			return fmt.Errorf("record at byte %d: %w", end, err)
		}
		end += recordHeader + int64(len(body))
	}
}

// take passes on the blocks of a segment's next record, or notes that they
// are those it repeats.
func (s *segment) take(blocks []*block, isFirst bool, v logVisitor) error {
	if s.first == 1 || s.repeated != nil {
		return v.visit(blocks)
	}
	if len(blocks) != 2 || blocks[1].seqno() != 1 {
		return errors.New("not the key block and a shard block")
	}
	s.repeated = blocks
	for _, b := range blocks {
		b.boc = nil
	}
	if isFirst {
		return v.begin(s.first, blocks[0], blocks[1])
	}
	return nil
}

func readRecord(r io.Reader, left int64) ([]byte, error) {
	var h [recordHeader]byte
	if left < recordHeader {
		return nil, io.ErrUnexpectedEOF
	}
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	n := int64(binary.LittleEndian.Uint32(h[:]))
	if n == 0 || n > maxRecord || n > left-recordHeader {
		return nil, fmt.Errorf("length %d is wrong", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(h[4:]) {
		return nil, errors.New("wrong check sum")
	}
	return body, nil
}

// isTorn tells an interrupted last write, which nobody was told about, from
// damage to blocks that were served: after the former no whole record follows,
// wherever the machine stopped writing.
func isTorn(f *os.File, end, tail int64) bool {
	if tail > maxRecord+recordHeader {
		return false
	}
	b := make([]byte, tail)
	if _, err := f.ReadAt(b, end); err != nil {
		return false
	}
	for at := 1; at+recordHeader < len(b); at++ {
		n := int(binary.LittleEndian.Uint32(b[at:]))
		body := b[at+recordHeader:]
		if n > 0 && n <= len(body) && crc32.Checksum(body[:n], castagnoli) == binary.LittleEndian.Uint32(b[at+4:]) {
			return false
		}
	}
	return true
}

// append makes the blocks durable, in one record. It fills in where they are.
func (l *blockLog) append(blocks []*block) error {
	buf, err := appendRecord(nil, l.end, l.segments[len(l.segments)-1], blocks)
	if err != nil {
		return err
	}
	if _, err := l.f.WriteAt(buf, l.end); err != nil {
		return err
	}
	if err := l.f.Sync(); err != nil {
		return err
	}
	l.end += int64(len(buf))
	return nil
}

// appendRecord appends a record of the blocks to what a segment holds from
// byte base on, and notes in them where they will be.
func appendRecord(buf []byte, base int64, s *segment, blocks []*block) ([]byte, error) {
	start := len(buf)
	buf = append(buf, make([]byte, recordHeader)...)
	buf = append(buf, byte(len(blocks)))
	for _, b := range blocks {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(b.workchain))
		buf = binary.LittleEndian.AppendUint32(buf, b.ref.seqno)
		buf = binary.LittleEndian.AppendUint64(buf, b.startLT)
		buf = binary.LittleEndian.AppendUint64(buf, b.ref.endLT)
		buf = binary.LittleEndian.AppendUint32(buf, b.utime)
		buf = append(buf, b.ref.root[:]...)
		buf = append(buf, b.ref.file[:]...)
		buf = append(buf, b.stateHash[:]...)
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(b.txs)))
		for _, t := range b.txs {
			buf = append(buf, t.account[:]...)
			buf = binary.LittleEndian.AppendUint64(buf, t.lt)
		}
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(b.boc)))
		b.at = place{s, base + int64(len(buf))}
		buf = append(buf, b.boc...)
	}
	body := buf[start+recordHeader:]
	if len(body) > maxRecord {
		return nil, fmt.Errorf("block of %d bytes is too large for the log", len(body))
	}
	binary.LittleEndian.PutUint32(buf[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(buf[start+4:], crc32.Checksum(body, castagnoli))
	return buf, nil
}

// parseRecord reads a record's body; base is where it stands. The blocks have
// their bytes, but no cells yet.
func parseRecord(body []byte, base place) ([]*block, error) {
	short := errors.New("a block is cut short")
	if len(body) == 0 || body[0] == 0 || body[0] > 2 {
		return nil, errors.New("wrong number of blocks")
	}
	n := int(body[0])
	at := 1
	blocks := make([]*block, 0, n)
	for range n {
		p := body[at:]
		if len(p) < blockMeta {
			return nil, short
		}
		b := &block{workchain: int32(binary.LittleEndian.Uint32(p)), utime: binary.LittleEndian.Uint32(p[24:])}
		b.ref = extRef{
			seqno: binary.LittleEndian.Uint32(p[4:]), endLT: binary.LittleEndian.Uint64(p[16:]),
			root: hash(p[28:60]), file: hash(p[60:92]),
		}
		b.startLT, b.stateHash = binary.LittleEndian.Uint64(p[8:]), hash(p[92:124])
		txs := int(binary.LittleEndian.Uint32(p[124:]))
		p = p[128:]
		if txs > (len(p)-4)/txMeta {
			return nil, short
		}
		for range txs {
			b.txs = append(b.txs, txID{hash(p[:32]), binary.LittleEndian.Uint64(p[32:])})
			p = p[txMeta:]
		}
		size := int(binary.LittleEndian.Uint32(p))
		p = p[4:]
		if size > len(p) {
			return nil, short
		}
		at = len(body) - len(p) + size
		b.at, b.size, b.boc = place{base.in, base.offset + int64(at-size)}, int32(size), p[:size:size]
		blocks = append(blocks, b)
	}
	if at != len(body) || blocks[n-1].workchain != masterchain || n == 2 && blocks[0].workchain != basechain {
		return nil, errors.New("not a masterchain block with at most one shard block")
	}
	return blocks, nil
}

func (l *blockLog) close() error {
	if l.f == nil {
		return nil
	}
	err := l.f.Close()
	l.f = nil
	return err
}

// writeFile replaces a file so that a crash leaves the old or the new one.
func writeFile(path string, b []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
