package tl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The ways input can be wrong. Readers fail with an *Error that wraps one.
var (
	ErrTruncated   = errors.New("input ends too early")
	ErrTrailing    = errors.New("bytes left over")
	ErrBool        = errors.New("neither true nor false")
	ErrFlags       = errors.New("flags with bit 31 set")
	ErrCount       = errors.New("more elements announced than the input can hold")
	ErrConstructor = errors.New("unexpected constructor")
	ErrCanonical   = errors.New("a second encoding of a byte string")
)

// Error is where and why reading failed. It does not hold input.
type Error struct {
	// Offset is where the value that could not be read begins, in bytes.
	Offset int
	Err    error
}

func (e *Error) Error() string { return fmt.Sprintf("at byte %d: %v", e.Offset, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// Reader reads TL values from a slice. After the first error every method
// returns a zero value and Err the error.
type Reader struct {
	buf    []byte
	off    int
	err    *Error
	strict bool
}

// NewReader returns a Reader of b. What Bytes returns aliases b.
func NewReader(b []byte) *Reader { return &Reader{buf: b} }

// NewCanonicalReader is NewReader for values that have one encoding only: the
// prefix of a byte string must be the shortest and its padding zero, the two
// things that could differ. All else reads from one encoding as it is.
func NewCanonicalReader(b []byte) *Reader { return &Reader{buf: b, strict: true} }

// Err returns the first error, an *Error, or nil.
func (r *Reader) Err() error {
	if r.err == nil {
		return nil
	}
	return r.err
}

// Finish returns the first error; bytes left over are one.
func (r *Reader) Finish() error {
	if r.err == nil && r.off != len(r.buf) {
		r.fail(r.off, ErrTrailing)
	}
	return r.Err()
}

// Left returns how many bytes were not read yet.
func (r *Reader) Left() int { return len(r.buf) - r.off }

func (r *Reader) fail(offset int, err error) {
	if r.err == nil {
		r.err = &Error{Offset: offset, Err: err}
		r.buf = r.buf[:r.off] // whatever is read next is truncated
	}
}

// take returns the next n bytes, or nil after an error.
func (r *Reader) take(n int) []byte {
	if len(r.buf)-r.off < n {
		r.fail(r.off, ErrTruncated)
		return nil
	}
	b := r.buf[r.off : r.off+n : r.off+n]
	r.off += n
	return b
}

// Uint32 reads four bytes.
func (r *Reader) Uint32() uint32 {
	b := r.take(4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// Int32 reads an int.
func (r *Reader) Int32() int32 { return int32(r.Uint32()) }

// Int64 reads a long.
func (r *Reader) Int64() int64 {
	b := r.take(8)
	if b == nil {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(b))
}

// Float64 reads a double.
func (r *Reader) Float64() float64 { return math.Float64frombits(uint64(r.Int64())) }

// Int256 reads 32 bytes.
func (r *Reader) Int256() (v [32]byte) {
	copy(v[:], r.take(32))
	return v
}

// Bool reads a boxed Bool.
func (r *Reader) Bool() bool {
	start := r.off
	switch r.Uint32() {
	case boolTrue:
		return true
	case boolFalse:
	default:
		r.fail(start, ErrBool)
	}
	return false
}

// Flags reads a flags field. Bit 31 is refused; bits without a meaning pass.
func (r *Reader) Flags() uint32 {
	start := r.off
	v := r.Uint32()
	if v >= 1<<31 {
		r.fail(start, ErrFlags)
		return 0
	}
	return v
}

// ID reads a constructor id. Where it is none of those the caller knows, the
// caller says so with Unexpected.
func (r *Reader) ID() uint32 { return r.Uint32() }

// Unexpected records that the id just read is not one that may stand here.
func (r *Reader) Unexpected() { r.fail(max(r.off-4, 0), ErrConstructor) }

// Bytes reads a bytes field. The result aliases the input and is nil if empty.
// Neither padding nor the choice of prefix is checked, as in the reference.
func (r *Reader) Bytes() []byte {
	start := r.off
	if r.Left() < 4 { // the shortest encoding there is
		r.fail(start, ErrTruncated)
		return nil
	}
	word := binary.LittleEndian.Uint32(r.buf[r.off:])
	prefix, n := 1, uint64(word&0xff)
	switch n {
	case 0xfe:
		prefix, n = 4, uint64(word>>8)
	case 0xff:
		if r.Left() < 8 {
			r.fail(start, ErrTruncated)
			return nil
		}
		prefix, n = 8, binary.LittleEndian.Uint64(r.buf[r.off:])>>8
	}
	if n > uint64(r.Left()) {
		r.fail(start, ErrTruncated)
		return nil
	}
	b := r.take((prefix + int(n) + 3) &^ 3)
	if b == nil {
		return nil
	}
	if r.strict && (prefix != prefixSize(int(n)) || !isZero(b[prefix+int(n):])) {
		r.fail(start, ErrCanonical)
		return nil
	}
	if n == 0 {
		return nil
	}
	return b[prefix : prefix+int(n) : prefix+int(n)]
}

func isZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

// String reads a string field. It is a copy.
func (r *Reader) String() string { return string(r.Bytes()) }

// Count reads a vector's element count, for elements of at least size bytes
// each. It refuses what the rest of the input cannot hold, so that a caller
// may allocate for it.
func (r *Reader) Count(size int) int {
	start := r.off
	n := uint64(r.Uint32())
	if n*uint64(max(size, 1)) > uint64(r.Left()) {
		r.fail(start, ErrCount)
		return 0
	}
	return int(n)
}
