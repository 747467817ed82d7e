//go:build !tee

package devnet

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// The block log is append-only. It starts with a magic and the network's zero
// state hash; then one record per masterchain block: length and CRC-32C of
// the body, and in the body that block, preceded by the shard block it
// registers if there is a new one. A record is one write and is synced before
// anybody is told, so only the last one can be torn.

const (
	logMagic     = "cocoon devnet log 1\n"
	logHeader    = int64(len(logMagic) + 32)
	maxRecord    = 64 << 20
	blockMeta    = 4 + 4 + 8 + 8 + 4 + 32 + 32 + 32 + 4 + 4
	txMeta       = 32 + 8
	recordHeader = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockLog is the file; network.build guards writes, reads need no lock.
type blockLog struct {
	f    *os.File
	end  int64
	torn int64 // bytes of an interrupted write that were dropped
}

// openLog opens or creates the log of the network with the given zero state
// and calls visit for every whole record, in order.
func openLog(path string, zero hash, visit func([]*block) error) (*blockLog, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	l := &blockLog{f: f}
	if err := l.load(zero, visit); err != nil {
		f.Close()
		return nil, fmt.Errorf("devnet: block log %s: %w", path, err)
	}
	return l, nil
}

func (l *blockLog) load(zero hash, visit func([]*block) error) error {
	fi, err := l.f.Stat()
	if err != nil {
		return err
	}
	size := fi.Size()
	if size < logHeader {
		if _, err := l.f.WriteAt(append([]byte(logMagic), zero[:]...), 0); err != nil {
			return err
		}
		if err := l.f.Truncate(logHeader); err != nil {
			return err
		}
		l.end = logHeader
		return errors.Join(l.f.Sync(), syncDir(filepath.Dir(l.f.Name())))
	}
	r := bufio.NewReaderSize(io.NewSectionReader(l.f, 0, size), 1<<20)
	head := make([]byte, logHeader)
	if _, err := io.ReadFull(r, head); err != nil {
		return err
	}
	if string(head[:len(logMagic)]) != logMagic || hash(head[len(logMagic):]) != zero {
		return errors.New("it belongs to another network; remove the directory to start anew")
	}
	l.end = logHeader
	for l.end < size {
		body, err := readRecord(r, size-l.end)
		if err != nil {
			if tail := size - l.end; !l.isTorn(tail) {
				return fmt.Errorf("record at byte %d: %w; restore a copy, or remove the directory to start anew", l.end, err)
			}
			l.torn = size - l.end
			return errors.Join(l.f.Truncate(l.end), l.f.Sync())
		}
		blocks, err := parseRecord(body, l.end+recordHeader)
		if err != nil {
			return fmt.Errorf("record at byte %d: %w", l.end, err)
		}
		if err := visit(blocks); err != nil {
			return err
		}
		l.end += recordHeader + int64(len(body))
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
func (l *blockLog) isTorn(tail int64) bool {
	if tail > maxRecord+recordHeader {
		return false
	}
	b := make([]byte, tail)
	if _, err := l.f.ReadAt(b, l.end); err != nil {
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
	buf := make([]byte, recordHeader, recordHeader+1024)
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
		b.offset = l.end + int64(len(buf))
		buf = append(buf, b.boc...)
	}
	if len(buf) > maxRecord {
		return fmt.Errorf("block of %d bytes is too large for the log", len(buf))
	}
	binary.LittleEndian.PutUint32(buf, uint32(len(buf)-recordHeader))
	binary.LittleEndian.PutUint32(buf[4:], crc32.Checksum(buf[recordHeader:], castagnoli))
	if _, err := l.f.WriteAt(buf, l.end); err != nil {
		return err
	}
	if err := l.f.Sync(); err != nil {
		return err
	}
	l.end += int64(len(buf))
	return nil
}

// parseRecord reads a record's body; base is where it stands in the file.
// The blocks have their bytes, but no cells yet.
func parseRecord(body []byte, base int64) ([]*block, error) {
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
		b.offset, b.size, b.boc = base+int64(at-size), int32(size), p[:size:size]
		blocks = append(blocks, b)
	}
	if at != len(body) || blocks[n-1].workchain != masterchain || n == 2 && blocks[0].workchain != basechain {
		return nil, errors.New("not a masterchain block with at most one shard block")
	}
	return blocks, nil
}

// read returns the serialised block.
func (l *blockLog) read(b *block) ([]byte, error) {
	boc := make([]byte, b.size)
	if _, err := l.f.ReadAt(boc, b.offset); err != nil {
		return nil, fmt.Errorf("devnet: block log: %w", err)
	}
	return boc, nil
}

func (l *blockLog) close() error { return l.f.Close() }

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
