package nvgpu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Sizes and codes of SPDM 1.1 as NVIDIA GPUs speak it (spec attestation 8).
const (
	spdmVersion   = 0x11
	codeRequest   = 0xe0 // GET_MEASUREMENTS
	codeResponse  = 0x60 // MEASUREMENTS
	requestSize   = 37
	signatureSize = 96 // r ‖ s, P-384, big endian
	valueSize     = 48 // SHA-384

	// MaxReport bounds a report; real ones have some 4 KiB.
	MaxReport = 64 << 10
	// maxBlocks is what the count field can say.
	maxBlocks = 255
)

// Types of opaque fields.
const (
	fieldDriverVersion = 3
	fieldVBIOSVersion  = 6
	fieldChipSKU       = 15
	fieldProject       = 17
	fieldProjectSKU    = 18
	fieldFirmwareID    = 20
)

// ErrReport is the cause of every report that cannot be read.
var ErrReport = errors.New("GPU report cannot be read")

// Report is a parsed measurements exchange. Parsing proves nothing.
type Report struct {
	// Nonce is the asker's; ResponderNonce the device's.
	Nonce, ResponderNonce [32]byte
	// Measurements are the values by index, 48 bytes each.
	Measurements map[uint8][valueSize]byte
	// DriverVersion and VBIOSVersion are as people write them: "535.86.09",
	// "96.00.5E.00.01".
	DriverVersion, VBIOSVersion  string
	ChipSKU, Project, ProjectSKU string
	// FirmwareID is the device's firmware identity; nil if it names none.
	FirmwareID []byte
	// Signature is r ‖ s over signed.
	Signature [signatureSize]byte

	signed []byte
}

// ParseReport reads request and response. Everything must be there exactly
// once and nothing may be left over.
func ParseReport(b []byte) (*Report, error) {
	if len(b) > MaxReport {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrReport, len(b), MaxReport)
	}
	r := reader{b: b}
	rep := &Report{Measurements: map[uint8][valueSize]byte{}}
	if v, c := r.u8(), r.u8(); v != spdmVersion || c != codeRequest {
		r.fail("the request is %02x %02x, not SPDM 1.1 GET_MEASUREMENTS", v, c)
	}
	r.take(2)
	copy(rep.Nonce[:], r.take(32))
	r.take(1) // slot
	if v, c := r.u8(), r.u8(); v != spdmVersion || c != codeResponse {
		r.fail("the response is %02x %02x, not SPDM 1.1 MEASUREMENTS", v, c)
	}
	r.take(2)
	blocks := int(r.u8())
	record := reader{b: r.take(r.u24()), err: r.err}
	for range blocks {
		record.block(rep.Measurements)
	}
	record.end("the measurement record")
	copy(rep.ResponderNonce[:], r.take(32))
	opaque := reader{b: r.take(int(r.u16())), err: r.err}
	opaque.fields(rep)
	copy(rep.Signature[:], r.take(signatureSize))
	r.end("the report")
	for _, err := range []error{r.err, record.err, opaque.err} {
		if err != nil {
			return nil, err
		}
	}
	rep.signed = b[:len(b)-signatureSize]
	return rep, nil
}

// reader takes bytes with a sticky error.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrReport, fmt.Sprintf(format, args...))
	}
}

func (r *reader) take(n int) []byte {
	if r.err == nil && n > len(r.b) {
		r.fail("it ends early")
	}
	if r.err != nil {
		return make([]byte, min(n, valueSize))
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u8() uint8   { return r.take(1)[0] }
func (r *reader) u16() uint16 { return binary.LittleEndian.Uint16(r.take(2)) }

func (r *reader) u24() int {
	v := r.take(3)
	return int(v[0]) | int(v[1])<<8 | int(v[2])<<16
}

func (r *reader) end(what string) {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes follow %s", len(r.b), what)
	}
}

// block reads one measurement block.
func (r *reader) block(into map[uint8][valueSize]byte) {
	index := r.u8()
	if spec := r.u8(); r.err == nil && spec != 1 {
		r.fail("measurement %d follows specification %d, not DMTF's", index, spec)
	}
	value := reader{b: r.take(int(r.u16())), err: r.err}
	value.u8() // kind of measurement
	v := value.take(int(value.u16()))
	value.end(fmt.Sprintf("measurement %d", index))
	if value.err != nil {
		r.err = value.err
		return
	}
	if len(v) != valueSize {
		r.fail("measurement %d has %d bytes, not %d", index, len(v), valueSize)
		return
	}
	if _, twice := into[index]; twice {
		r.fail("measurement %d stands there twice", index)
		return
	}
	into[index] = [valueSize]byte(v)
}

// fields reads the opaque fields; those nobody here knows are passed over.
func (r *reader) fields(rep *Report) {
	seen := map[uint16]bool{}
	for r.err == nil && len(r.b) > 0 {
		kind := r.u16()
		v := r.take(int(r.u16()))
		if r.err != nil {
			return
		}
		if seen[kind] {
			r.fail("field %d stands there twice", kind)
			return
		}
		seen[kind] = true
		switch kind {
		case fieldDriverVersion:
			rep.DriverVersion = r.text(kind, v)
		case fieldVBIOSVersion:
			rep.VBIOSVersion = r.vbios(v)
		case fieldChipSKU:
			rep.ChipSKU = r.text(kind, v)
		case fieldProject:
			rep.Project = r.text(kind, v)
		case fieldProjectSKU:
			rep.ProjectSKU = r.text(kind, v)
		case fieldFirmwareID:
			rep.FirmwareID = v
		}
	}
}

// text reads a NUL-terminated printable text.
func (r *reader) text(kind uint16, v []byte) string {
	s := strings.TrimRight(string(v), "\x00")
	for _, c := range []byte(s) {
		if c < 0x20 || c > 0x7e {
			r.fail("field %d is not text", kind)
			return ""
		}
	}
	return s
}

// vbios reads the binary version: 00 5e 00 96 01 … is 96.00.5E.00.01.
func (r *reader) vbios(v []byte) string {
	if len(v) < 5 {
		r.fail("the VBIOS version has %d bytes", len(v))
		return ""
	}
	return fmt.Sprintf("%02X.%02X.%02X.%02X.%02X", v[3], v[2], v[1], v[0], v[4])
}
