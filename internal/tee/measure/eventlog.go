package measure

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Event is one record of a firmware event log.
type Event struct {
	// RTMR is the register that was extended, 0 to 3.
	RTMR int `json:"rtmr"`
	// Type is the TCG's number of the kind of event.
	Type uint32 `json:"type"`
	// Digest is the SHA-384 digest; zero for events that extend nothing.
	Digest Register `json:"digest"`
	// Data describes what was measured. It is not authenticated: only the
	// digest is.
	Data []byte `json:"-"`
}

// Types of events that mean something here (TCG PC Client Platform Firmware
// Profile 10.4.1).
const (
	EventNoAction  uint32 = 3
	EventSeparator uint32 = 4
)

// Bounds of an event log.
const (
	MaxEventLog  = 4 << 20 // bytes
	maxEvents    = 65536
	maxEventData = 1 << 20
)

const (
	algSHA384   = 0x000c
	specIDSize  = 20 // digest of the first record, which is in the SHA-1 form
	logEnd      = 0xffffffff
	specIDMagic = "Spec ID Event03\x00"
)

// ParseEventLog reads the data of a CCEL table: a record that names the
// digest algorithms, then events, up to a register index of all ones or the
// end (spec attestation 6.9).
func ParseEventLog(b []byte) ([]Event, error) {
	if len(b) > MaxEventLog {
		return nil, inputError("an event log of %d bytes, at most %d", len(b), MaxEventLog)
	}
	r := &reader{b: b}
	r.u32() // register
	kind := r.u32()
	r.take(specIDSize)
	sizes, err := parseSpecID(r.take(int(min(r.u32(), maxEventData))))
	if r.short || kind != EventNoAction {
		return nil, inputError("this is no event log: it does not begin with a specification record")
	}
	if err != nil {
		return nil, err
	}
	var events []Event
	for len(r.b) > 0 {
		index := r.u32()
		if index == logEnd && !r.short {
			return events, nil
		}
		if len(events) == maxEvents {
			return nil, inputError("more than %d events", maxEvents)
		}
		e := Event{Type: r.u32()}
		found := false
		count := r.u32()
		if int64(count) > int64(len(sizes)) {
			return nil, inputError("event %d: %d digests, but %d algorithms were announced", len(events), count, len(sizes))
		}
		for range count {
			alg := uint16(r.u16())
			size, known := sizes[alg]
			if !known && !r.short {
				return nil, inputError("event %d: a digest of algorithm %#x, which was not announced", len(events), alg)
			}
			d := r.take(size)
			if alg == algSHA384 && !found {
				found = true
				copy(e.Digest[:], d)
			}
		}
		size := r.u32()
		if size > maxEventData {
			return nil, inputError("event %d: %d bytes, at most %d", len(events), size, maxEventData)
		}
		e.Data = slices.Clone(r.take(int(size)))
		switch {
		case r.short:
			return nil, inputError("event %d: cut off", len(events))
		case e.Type == EventNoAction:
			continue
		case index < 1 || index > 4:
			return nil, inputError("event %d: register index %d; those of TDX are 1 to 4", len(events), index)
		case !found:
			return nil, inputError("event %d has no SHA-384 digest", len(events))
		}
		e.RTMR = int(index) - 1
		events = append(events, e)
	}
	return events, nil
}

// parseSpecID reads the sizes of digests, by algorithm.
func parseSpecID(b []byte) (map[uint16]int, error) {
	r := &reader{b: b}
	magic := string(r.take(16))
	r.take(4 + 4) // platform class, version
	count := r.u32()
	if magic != specIDMagic || count == 0 || count > 16 {
		return nil, inputError("this is no event log of the crypto-agile form")
	}
	sizes := map[uint16]int{}
	for range count {
		alg, size := r.u16(), r.u16()
		if size == 0 || size > 64 {
			return nil, inputError("an event log with digests of %d bytes", size)
		}
		sizes[uint16(alg)] = int(size)
	}
	r.take(int(r.u8())) // vendor's data
	switch {
	case r.short:
		return nil, inputError("the event log's specification record is cut off")
	case sizes[algSHA384] != len(Register{}):
		return nil, inputError("the event log has no SHA-384 digests")
	}
	return sizes, nil
}

// ReplayEvents computes the registers that the events lead to. RTMR3 goes on
// from there with the attestation log (RTMR3).
func ReplayEvents(events []Event) (rtmr [4]Register) {
	for _, e := range events {
		rtmr[e.RTMR] = rtmr[e.RTMR].Extend(e.Digest)
	}
	return rtmr
}

// CCELTable is the ACPI table that announces an event log.
type CCELTable struct {
	// Length is the size of the area that holds the log, Address where it
	// begins in the guest's memory.
	Length, Address uint64
}

// ParseCCELTable reads the table; it must be one of TDX.
func ParseCCELTable(b []byte) (CCELTable, error) {
	const size, ccTDX = 56, 2
	if len(b) != size || string(b[:4]) != "CCEL" || binary.LittleEndian.Uint32(b[4:]) != size {
		return CCELTable{}, inputError("this is no CCEL table")
	}
	var sum byte
	for _, c := range b {
		sum += c
	}
	if sum != 0 {
		return CCELTable{}, inputError("the CCEL table's checksum is wrong")
	}
	if b[36] != ccTDX {
		return CCELTable{}, inputError("the CCEL table belongs to another technology (%d) than TDX", b[36])
	}
	return CCELTable{binary.LittleEndian.Uint64(b[40:]), binary.LittleEndian.Uint64(b[48:])}, nil
}

// AppendEventLog appends a log in the form ParseEventLog reads.
func AppendEventLog(b []byte, events []Event) []byte {
	le := binary.LittleEndian
	spec := append([]byte(specIDMagic), 0, 0, 0, 0, 0, 2, 0, 2) // class, minor, major, errata, uintn
	spec = le.AppendUint32(spec, 1)
	spec = le.AppendUint16(spec, algSHA384)
	spec = le.AppendUint16(spec, uint16(len(Register{})))
	spec = append(spec, 0)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint32(b, EventNoAction)
	b = append(b, make([]byte, specIDSize)...)
	b = le.AppendUint32(b, uint32(len(spec)))
	b = append(b, spec...)
	for _, e := range events {
		b = le.AppendUint32(b, uint32(e.RTMR)+1)
		b = le.AppendUint32(b, e.Type)
		b = le.AppendUint32(b, 1)
		b = le.AppendUint16(b, algSHA384)
		b = append(b, e.Digest[:]...)
		b = le.AppendUint32(b, uint32(len(e.Data)))
		b = append(b, e.Data...)
	}
	return le.AppendUint32(b, logEnd)
}

// String names an event for people; what the data says is the guest's word.
func (e Event) String() string {
	return fmt.Sprintf("RTMR%d type %#x %s", e.RTMR, e.Type, e.Digest)
}

// reader takes little-endian fields off a slice; past the end it yields zeros
// and remembers.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.b, r.short = nil, true
		return make([]byte, min(max(n, 0), 64)) // enough for every fixed field
	}
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

func (r *reader) u8() uint32  { return uint32(r.take(1)[0]) }
func (r *reader) u16() uint32 { return uint32(binary.LittleEndian.Uint16(r.take(2))) }
func (r *reader) u32() uint32 { return binary.LittleEndian.Uint32(r.take(4)) }
func (r *reader) u64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }
