package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

// file is an append-only file on a disk. Tests put one in its place that dies.
type file interface {
	io.ReaderAt
	io.Writer // at the end
	Truncate(size int64) error
	Sync() error
	Close() error
}

// CorruptError says where a file is damaged.
type CorruptError struct {
	File   string
	Offset int64
	Cause  string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at offset %d (%s): put back an intact copy of this file", e.File, e.Offset, e.Cause)
}

// A file is a series of frames
//
//	magic u32 ‖ length u32 ‖ number u64 ‖ payload ‖ tag [16]byte   (little endian)
//
// where tag is the first half of SHA-256 over the file's name for itself and
// all that stands before it in the frame. One frame is one group of records:
// one write, one fsync. Frame n+1 is written only after frame n is durable, so
// a broken frame with a good one behind it is damage, while a broken last one
// is what a crash left of records nobody was told of.
const (
	frameMagic = 0x31474c43 // "CLG1"
	frameHead  = 16
	tagSize    = 16
	maxFrame   = 8 << 20
)

// frames reads and appends frames.
type frames struct {
	name string // in errors
	use  string // what the file is: files of another use do not read
	f    file
	next uint64
	size int64
	err  error // of the write after which nothing is certain
}

func tag(use string, head, payload []byte) [tagSize]byte {
	h := sha256.New()
	h.Write([]byte(use))
	h.Write(head)
	h.Write(payload)
	return [tagSize]byte(h.Sum(nil)[:tagSize])
}

// openFrames gives each payload with its offset to apply and drops what a
// crash left incomplete at the end. size is the file's.
func openFrames(name, use string, f file, size int64, apply func(payload []byte, offset int64) error) (*frames, error) {
	fr := &frames{name: name, use: use, f: f}
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20)
	for {
		payload, ok, err := fr.read(r, size-fr.size)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if err := apply(payload, fr.size+frameHead); err != nil {
			return nil, &CorruptError{name, fr.size, err.Error()}
		}
		fr.next++
		fr.size += int64(frameHead + len(payload) + tagSize)
	}
	if fr.size == size {
		return fr, nil
	}
	at, found, err := fr.later(size)
	switch {
	case err != nil:
		return nil, err
	case found:
		return nil, &CorruptError{name, fr.size, fmt.Sprintf("an intact record follows at %d", at)}
	}
	if err := f.Truncate(fr.size); err != nil {
		return nil, err
	}
	return fr, f.Sync()
}

// read returns the frame at the reader; ok is false if there is no good one.
func (fr *frames) read(r io.Reader, left int64) (payload []byte, ok bool, err error) {
	var head [frameHead]byte
	if left < frameHead+tagSize {
		return nil, false, nil
	}
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, false, err
	}
	n := int64(binary.LittleEndian.Uint32(head[4:]))
	if binary.LittleEndian.Uint32(head[:]) != frameMagic || binary.LittleEndian.Uint64(head[8:]) != fr.next || n > maxFrame || n > left-frameHead-tagSize {
		return nil, false, nil
	}
	b := make([]byte, n+tagSize)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, false, err
	}
	t := tag(fr.use, head[:], b[:n])
	return b[:n], bytes.Equal(t[:], b[n:]), nil
}

// later looks for an intact frame behind the end.
func (fr *frames) later(size int64) (int64, bool, error) {
	rest := make([]byte, min(size-fr.size, 4*maxFrame))
	if _, err := fr.f.ReadAt(rest, fr.size); err != nil && !errors.Is(err, io.EOF) {
		return 0, false, err
	}
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	for at := 1; ; at++ {
		i := bytes.Index(rest[at:], magic)
		if i < 0 {
			return 0, false, nil
		}
		at += i
		b := rest[at:]
		if len(b) < frameHead+tagSize {
			return 0, false, nil
		}
		n := int(binary.LittleEndian.Uint32(b[4:]))
		if n <= maxFrame && n <= len(b)-frameHead-tagSize {
			t := tag(fr.use, b[:frameHead], b[frameHead:frameHead+n])
			if bytes.Equal(t[:], b[frameHead+n:frameHead+n+tagSize]) {
				return fr.size + int64(at), true, nil
			}
		}
	}
}

// append makes a payload durable and returns its offset. After a failed write
// every later one fails with the same error.
func (fr *frames) append(payload []byte) (int64, error) {
	if fr.err != nil {
		return 0, fr.err
	}
	if len(payload) > maxFrame {
		return 0, fmt.Errorf("%s: a group of %d bytes", fr.name, len(payload))
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, frameHead+len(payload)+tagSize), frameMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, fr.next)
	t := tag(fr.use, b, payload)
	b = append(append(b, payload...), t[:]...)
	_, err := fr.f.Write(b)
	if err == nil {
		err = fr.f.Sync()
	}
	if err != nil {
		fr.err = fmt.Errorf("%s cannot be written any more: %v; restart the process once the disk is in order", fr.name, err)
		return 0, fr.err
	}
	at := fr.size + frameHead
	fr.next++
	fr.size += int64(len(b))
	return at, nil
}

// openFile opens path for appending, made durable with its folder.
func openFile(path string) (*os.File, int64, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, 0, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil {
		err = syncDirs(dir, filepath.Dir(dir))
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// syncDirs makes the names in folders durable.
func syncDirs(dirs ...string) error {
	if runtime.GOOS == "windows" { // its file system journals names
		return nil
	}
	for _, dir := range dirs {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil {
			return err
		}
	}
	return nil
}
