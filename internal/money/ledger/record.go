package ledger

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Kinds of records. The numbers are on disk and never change their meaning.
const (
	recSnapshotEnd = 1
	recClient      = 2  // a client's whole account; snapshots only
	recWorker      = 3  // a worker's whole account; snapshots only
	recRecent      = 4  // a charge already counted; snapshots only
	recCharge      = 5  // a charge
	recSession     = 6  // a process start: the session hash and its first mark
	recMark        = 7  // a mark was drawn
	recConfirm     = 8  // a mark is on chain
	recContract    = 9  // state of a client contract
	recPaid        = 10 // tokens paid by a worker contract
	recPosition    = 11 // how far the chain was read
	recMarks       = 12 // last mark drawn and confirmed; snapshots only
	recView        = 13 // Views: one channel
	recNoted       = 14 // a charge with a note: it stays in the outbox
	recTaken       = 15 // notes up to a number were taken
	recOutbox      = 16 // a charge in the outbox; snapshots only
	recNotes       = 17 // number of notes so far; snapshots only
	recLimit       = 18 // Views: the most a client's requests can have cost at one contract
)

var errRecord = errors.New("unreadable record")

// Fields are written in a fixed order: integers as varints, addresses as
// workchain (four bytes, little endian) and hash, bytes with their length.

func appendInt(b []byte, v int64) []byte   { return binary.AppendUvarint(b, uint64(v)) }
func appendUint(b []byte, v uint64) []byte { return binary.AppendUvarint(b, v) }
func appendBytes(b, v []byte) []byte       { return append(appendUint(b, uint64(len(v))), v...) }

func appendAddress(b []byte, a cocoon.Address) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(a.Workchain))
	return append(b, a.Hash[:]...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// decoder reads fields; its first error sticks and later reads return zero
// values.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) more() bool { return d.err == nil && len(d.b) > 0 }

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s", errRecord, what)
	}
	d.b = nil
}

func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.fail("cut short")
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) peek() byte {
	if len(d.b) == 0 {
		return 0
	}
	return d.b[0]
}

func (d *decoder) u8() byte {
	b := d.take(1)
	if b == nil {
		return 0
	}
	return b[0]
}

func (d *decoder) bool() bool {
	v := d.u8()
	if v > 1 {
		d.fail("a flag that is neither 0 nor 1")
	}
	return v == 1
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail("not a number")
		return 0
	}
	d.b = d.b[n:]
	return v
}

// int reads a non-negative int64.
func (d *decoder) int() int64 {
	v := int64(d.uint())
	if v < 0 {
		d.fail("a number beyond 63 bits")
		return 0
	}
	return v
}

func (d *decoder) u32() uint32 {
	v := d.uint()
	if v > 1<<32-1 {
		d.fail("a number beyond 32 bits")
		return 0
	}
	return uint32(v)
}

func (d *decoder) hash() (h [32]byte) {
	copy(h[:], d.take(len(h)))
	return h
}

func (d *decoder) address() cocoon.Address {
	b := d.take(4)
	if b == nil {
		return cocoon.Address{}
	}
	return cocoon.Address{Workchain: int32(binary.LittleEndian.Uint32(b)), Hash: d.hash()}
}

func (d *decoder) bytes(most int) []byte {
	n := d.uint()
	if n > uint64(most) {
		d.fail("a field that is too long")
		return nil
	}
	return append([]byte(nil), d.take(int(n))...)
}

func appendCharge(b []byte, kind byte, c Charge) []byte {
	b = append(append(b, kind), c.RequestID[:]...)
	return appendInt(appendAddress(appendAddress(b, c.Client), c.Worker), c.Tokens)
}

func (d *decoder) charge() Charge {
	return Charge{RequestID: d.hash(), Client: d.address(), Worker: d.address(), Tokens: d.int()}
}

// maxNote bounds a charge's note.
const maxNote = 4 << 10

func (d *decoder) noted() Charge {
	c := d.charge()
	c.Note = string(d.bytes(maxNote))
	return c
}

func appendNoted(b []byte, kind byte, c Charge) []byte {
	return appendBytes(appendCharge(b, kind, c), []byte(c.Note))
}

func appendContract(b []byte, c channel.ClientContract) []byte {
	b = appendUint(appendUint(appendBool(b, c.Open), uint64(c.Balance)), uint64(c.Stake))
	return append(appendInt(b, c.Charged), c.SecretHash[:]...)
}

func (d *decoder) contract() channel.ClientContract {
	return channel.ClientContract{Open: d.bool(), Balance: coins.Nano(d.uint()), Stake: coins.Nano(d.uint()), Charged: d.int(), SecretHash: d.hash()}
}
