package audit

import (
	"encoding/binary"
	"errors"

	"github.com/cocoon-network/cocoon"
)

// Kinds of records. The numbers are on disk and never change their meaning.
const (
	recHeader   = 1 // version, network, contract key
	recOpening  = 2 // counters of a proxy contract before its first note
	recReceipt  = 3 // a receipt: one leaf
	recSet      = 4 // a set of workers: one leaf
	recEpoch    = 5 // a head prepared for the anchor
	recAnchored = 6 // it stands on chain
	recNode     = 7 // a statement whose node key signs sets: no leaf
)

var errRecord = errors.New("unreadable record")

func putUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }
func putBytes(b, v []byte) []byte       { return append(putUint(b, uint64(len(v))), v...) }
func putAddress(b []byte, a cocoon.Address) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(a.Workchain)), a.Hash[:]...)
}

// fields reads a payload; its first error sticks.
type fields struct {
	b   []byte
	at  int64 // of b[0] in the file
	err error
}

func (d *fields) take(n uint64) []byte {
	if d.err != nil || n > uint64(len(d.b)) {
		d.err = errRecord
		d.b = nil
		return nil
	}
	v := d.b[:n:n]
	d.b, d.at = d.b[n:], d.at+int64(n)
	return v
}

func (d *fields) u8() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *fields) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.take(1 << 62)
		return 0
	}
	d.take(uint64(n))
	return v
}

func (d *fields) hash() (h [32]byte) {
	copy(h[:], d.take(32))
	return h
}

func (d *fields) address() cocoon.Address {
	b := d.take(4)
	if b == nil {
		return cocoon.Address{}
	}
	return cocoon.Address{Workchain: int32(binary.BigEndian.Uint32(b)), Hash: d.hash()}
}
