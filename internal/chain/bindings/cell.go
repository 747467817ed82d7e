package bindings

import (
	"errors"
	"fmt"
	"math"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// ErrMalformed is the cause of every failed decoding.
var ErrMalformed = errors.New("malformed cell")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMalformed, fmt.Errorf(format, args...))
}

// Bounds of what is decoded, far above anything the contracts store.
const (
	maxStorageBytes = 1 << 20
	maxStorageCells = 1 << 14
	maxMessageBytes = 1 << 17 // codes travel in messages to root
	maxMessageCells = 1 << 11
)

// writer builds one cell; its first error sticks.
type writer struct {
	b   *cell.Builder
	err error
}

func newWriter() *writer { return &writer{b: cell.BeginCell()} }

func (w *writer) try(err error) *writer {
	if w.err == nil {
		w.err = err
	}
	return w
}

func (w *writer) uint(v uint64, bits uint) *writer { return w.try(w.b.StoreUInt(v, bits)) }
func (w *writer) bool(v bool) *writer              { return w.try(w.b.StoreBoolBit(v)) }
func (w *writer) hash(h [32]byte) *writer          { return w.bytes(h[:]) }
func (w *writer) bytes(b []byte) *writer           { return w.try(w.b.StoreSlice(b, uint(len(b))*8)) }
func (w *writer) coins(n coins.Nano) *writer       { return w.try(w.b.StoreCoins(uint64(n))) }

// addr writes addr_std without anycast: 267 bits.
func (w *writer) addr(a cocoon.Address) *writer {
	if a.Workchain < math.MinInt8 || a.Workchain > math.MaxInt8 {
		return w.try(fmt.Errorf("workchain %d does not fit a standard address", a.Workchain))
	}
	return w.uint(0b100, 3).uint(uint64(uint8(a.Workchain)), 8).hash(a.Hash)
}

// ref appends a reference.
func (w *writer) ref(c *cell.Cell) *writer {
	if w.err != nil {
		return w
	}
	return w.try(w.b.StoreRef(c))
}

// maybe appends a bit and, if c is not nil, the reference.
func (w *writer) maybe(c *cell.Cell) *writer {
	if w.err != nil {
		return w
	}
	return w.try(w.b.StoreMaybeRef(c))
}

// child appends what inner builds as a reference.
func (w *writer) child(inner *writer) *writer {
	c, err := inner.end()
	if err != nil {
		return w.try(err)
	}
	return w.ref(c)
}

// boc appends the root of a bag of cells as a reference.
func (w *writer) boc(b []byte) *writer {
	c, err := parseBoC(b, maxStorageBytes, maxStorageCells)
	if err != nil {
		return w.try(err)
	}
	return w.ref(c)
}

func (w *writer) end() (*cell.Cell, error) {
	if w.err != nil {
		return nil, w.err
	}
	return w.b.EndCell(), nil
}

// serialize ends the cell and writes it as a bag of cells without index and
// checksum, the form of spec network-protocol 7.3.
func (w *writer) serialize() ([]byte, error) {
	c, err := w.end()
	if err != nil {
		return nil, err
	}
	return toBoC(c)
}

func toBoC(c *cell.Cell) ([]byte, error) {
	return c.ToBOCWithOptionsErr(cell.BOCSerializeOptions{})
}

// parseBoC reads a bag of cells with exactly one root, in any of its forms.
func parseBoC(b []byte, maxBytes, maxCells int) (*cell.Cell, error) {
	if len(b) > maxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d are read", ErrMalformed, len(b), maxBytes)
	}
	c, err := cell.FromBOCWithOptions(b, cell.BOCParseOptions{MaxCells: maxCells})
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	return c, nil
}

// Hash returns the representation hash of the root of a bag of cells: what
// names a code or a payload.
func Hash(boc []byte) ([32]byte, error) {
	c, err := parseBoC(boc, maxStorageBytes, maxStorageCells)
	if err != nil {
		return [32]byte{}, err
	}
	return c.HashKey(), nil
}

// reader takes one cell apart; its first error sticks and later reads return
// zero values.
type reader struct {
	s   *cell.Slice
	err error
}

func newReader(c *cell.Cell) *reader {
	r := new(reader)
	if c == nil || c.IsSpecial() {
		r.err = fmt.Errorf("%w: a pruned or special cell stands where data is needed", ErrMalformed)
		return r
	}
	r.s, r.err = c.BeginParse()
	return r
}

// readBoC starts reading the root of a bag of cells.
func readBoC(b []byte, maxBytes, maxCells int) *reader {
	c, err := parseBoC(b, maxBytes, maxCells)
	if err != nil {
		return &reader{err: err}
	}
	return newReader(c)
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %v", ErrMalformed, err)
	}
}

// failf records an error of this package's own making.
func (r *reader) failf(format string, args ...any) { r.fail(fmt.Errorf(format, args...)) }

func (r *reader) uint(bits uint) uint64 {
	if r.err != nil {
		return 0
	}
	v, err := r.s.LoadUInt(bits)
	if err != nil {
		r.fail(err)
	}
	return v
}

func (r *reader) u8() uint8   { return uint8(r.uint(8)) }
func (r *reader) u32() uint32 { return uint32(r.uint(32)) }
func (r *reader) u64() uint64 { return r.uint(64) }
func (r *reader) bool() bool  { return r.uint(1) == 1 }

func (r *reader) bytes(n int) []byte {
	if r.err != nil {
		return make([]byte, n)
	}
	b, err := r.s.LoadSlice(uint(n) * 8)
	if err != nil {
		r.fail(err)
		return make([]byte, n)
	}
	return b
}

func (r *reader) hash() [32]byte { return [32]byte(r.bytes(32)) }

// coins reads an amount of up to eight bytes, as the reference node does.
func (r *reader) coins() coins.Nano {
	n := uint(r.uint(4))
	if n > 8 {
		r.failf("an amount of %d bytes; at most 8 are read", n)
		return 0
	}
	return coins.Nano(r.uint(8 * n))
}

// addr reads addr_std without anycast, the only form the network uses.
func (r *reader) addr() cocoon.Address {
	if tag := r.uint(3); tag != 0b100 && r.err == nil {
		r.failf("address tag %03b; only standard addresses without anycast are read", tag)
	}
	return cocoon.Address{Workchain: int32(int8(r.uint(8))), Hash: r.hash()}
}

func (r *reader) ref() *cell.Cell {
	if r.err != nil {
		return nil
	}
	c, err := r.s.LoadRefCell()
	if err != nil {
		r.fail(err)
		return nil
	}
	return c
}

// child starts reading the next reference.
func (r *reader) child() *reader {
	c := r.ref()
	if r.err != nil {
		return &reader{err: r.err}
	}
	return newReader(c)
}

// maybe reads a bit and, if it is set, the reference.
func (r *reader) maybe() *cell.Cell {
	if !r.bool() {
		return nil
	}
	return r.ref()
}

// boc reads the next reference as a bag of cells.
func (r *reader) boc() []byte { return r.serialize(r.ref()) }

// maybeBoC is boc for a Maybe ^Cell; absence is nil.
func (r *reader) maybeBoC() []byte {
	c := r.maybe()
	if c == nil {
		return nil
	}
	return r.serialize(c)
}

func (r *reader) serialize(c *cell.Cell) []byte {
	if r.err != nil {
		return nil
	}
	b, err := toBoC(c)
	if err != nil {
		r.fail(err)
	}
	return b
}

// join takes over the error of a part that was read on its own.
func (r *reader) join(part *reader) {
	if r.err == nil {
		r.err = part.err
	}
}

// end fails if anything is left and returns the first error.
func (r *reader) end() error {
	if r.err == nil && (r.s.BitsLeft() != 0 || r.s.RefsNum() != 0) {
		r.failf("%d bits and %d references too many", r.s.BitsLeft(), r.s.RefsNum())
	}
	return r.err
}
