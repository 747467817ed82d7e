package dcap

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// MaxQuote is the largest quote that is read, in bytes (spec attestation 1.5).
const MaxQuote = 32768

// Trusted environment types of a quote's header.
const (
	TEESGX uint32 = 0x00
	TEETDX uint32 = 0x81
)

// Body types of a quote of version 5. Older versions imply theirs.
const (
	BodySGX  uint16 = 1
	BodyTD10 uint16 = 2
	BodyTD15 uint16 = 3
)

const (
	keyECDSAP256 = 2 // attestation key type

	certPEMChain = 5 // certification data: PEM chain of the PCK
	certQEReport = 6 // certification data: QE report and what certifies it

	headerSize  = 48
	enclaveSize = 384
	td10Size    = 584
	td15Size    = 648
)

// ErrFormat is the cause of every failed Parse.
var ErrFormat = errors.New("not a quote this verifier can read")

// Header opens every quote.
type Header struct {
	Version  uint16
	KeyType  uint16
	TEE      uint32
	Reserved [4]byte // version 3: QE SVN and PCE SVN
	QEVendor [16]byte
	UserData [20]byte
}

// TDReport is a TD's report as the TDX module wrote it (body TD 1.0).
type TDReport struct {
	TCBSVN         [16]byte
	MRSEAM         [48]byte
	MRSignerSEAM   [48]byte
	SEAMAttributes uint64
	Attributes     uint64
	XFAM           uint64
	MRTD           [48]byte
	MRConfigID     [48]byte
	MROwner        [48]byte
	MROwnerConfig  [48]byte
	RTMR           [4][48]byte
	ReportData     [64]byte
}

// TDReport15 is what TD 1.5 bodies add.
type TDReport15 struct {
	TCBSVN2     [16]byte
	MRServiceTD [48]byte
}

// Attributes of a TD (spec attestation 3.6).
const (
	TDDebug         uint64 = 1 << 0
	TDSeptVEDisable uint64 = 1 << 28
	TDMigratable    uint64 = 1 << 29
	TDPerfmon       uint64 = 1 << 63
)

// EnclaveReport is an SGX report body: an application's, or the quoting
// enclave's own.
type EnclaveReport struct {
	CPUSVN     [16]byte
	MiscSelect uint32
	Reserved1  [28]byte
	Attributes [16]byte
	MREnclave  [32]byte
	Reserved2  [32]byte
	MRSigner   [32]byte
	Reserved3  [96]byte
	ISVProdID  uint16
	ISVSVN     uint16
	Reserved4  [60]byte
	ReportData [64]byte
}

// EnclaveDebug is the DEBUG bit in the first byte of an enclave's attributes.
const EnclaveDebug = 0x02

// Quote is a parsed quote. Exactly one of TD and Enclave is set; TD15 goes
// with a TD of body type BodyTD15.
type Quote struct {
	Header   Header
	BodyType uint16
	TD       *TDReport
	TD15     *TDReport15
	Enclave  *EnclaveReport

	Signature         [64]byte // r ‖ s over Signed, by AttestationKey
	AttestationKey    [64]byte // X ‖ Y
	QEReport          EnclaveReport
	QEReportSignature [64]byte // r ‖ s, by the PCK
	QEAuth            []byte
	Chain             []byte // PEM: PCK leaf, intermediate, root
}

// Parse reads a quote. Zero bytes after it are tolerated, since firmware pads
// its buffers; anything else fails with ErrFormat.
func Parse(raw []byte) (*Quote, error) {
	if len(raw) > MaxQuote {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFormat, len(raw), MaxQuote)
	}
	c := &cursor{b: raw}
	q := &Quote{}
	c.layout(&q.Header, headerSize)
	if c.failed {
		return nil, fmt.Errorf("%w: %d bytes are no header", ErrFormat, len(raw))
	}
	if q.Header.KeyType != keyECDSAP256 {
		return nil, fmt.Errorf("%w: attestation key type %d, only %d (ECDSA P-256) is known", ErrFormat, q.Header.KeyType, keyECDSAP256)
	}
	if err := q.parseBody(c); err != nil {
		return nil, err
	}
	sig := &cursor{b: c.take(int(c.uint32()))}
	if c.failed {
		return nil, fmt.Errorf("%w: cut off in body or signature", ErrFormat)
	}
	for _, b := range c.b {
		if b != 0 {
			return nil, fmt.Errorf("%w: %d bytes follow the quote", ErrFormat, len(c.b))
		}
	}
	if err := q.parseSignature(sig); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *Quote) parseBody(c *cursor) error {
	switch v, tee := q.Header.Version, q.Header.TEE; {
	case v == 3 && tee == TEESGX, v == 4 && tee == TEESGX:
		q.BodyType = BodySGX
	case v == 4 && tee == TEETDX:
		q.BodyType = BodyTD10
	case v == 5 && (tee == TEESGX || tee == TEETDX):
		q.BodyType = c.uint16()
		size := c.uint32()
		want, ok := map[uint16]uint32{BodySGX: enclaveSize, BodyTD10: td10Size, BodyTD15: td15Size}[q.BodyType]
		if !ok || size != want || (q.BodyType == BodySGX) != (tee == TEESGX) {
			return fmt.Errorf("%w: body type %d of %d bytes for TEE type %#x", ErrFormat, q.BodyType, size, tee)
		}
	default:
		return fmt.Errorf("%w: version %d with TEE type %#x", ErrFormat, v, tee)
	}
	switch q.BodyType {
	case BodySGX:
		q.Enclave = new(EnclaveReport)
		c.layout(q.Enclave, enclaveSize)
	case BodyTD15:
		q.TD, q.TD15 = new(TDReport), new(TDReport15)
		c.layout(q.TD, td10Size)
		c.layout(q.TD15, td15Size-td10Size)
	default:
		q.TD = new(TDReport)
		c.layout(q.TD, td10Size)
	}
	return nil
}

func (q *Quote) parseSignature(c *cursor) error {
	c.copy(q.Signature[:])
	c.copy(q.AttestationKey[:])
	if q.Header.Version >= 4 {
		if t := c.uint16(); !c.failed && t != certQEReport {
			return fmt.Errorf("%w: certification data type %d, want %d", ErrFormat, t, certQEReport)
		}
		if n := c.uint32(); !c.failed && int64(n) != int64(len(c.b)) {
			return fmt.Errorf("%w: certification data of %d bytes in %d", ErrFormat, n, len(c.b))
		}
	}
	c.layout(&q.QEReport, enclaveSize)
	c.copy(q.QEReportSignature[:])
	q.QEAuth = append([]byte{}, c.take(int(c.uint16()))...)
	if t := c.uint16(); !c.failed && t != certPEMChain {
		return fmt.Errorf("%w: inner certification data type %d, want %d (PEM chain)", ErrFormat, t, certPEMChain)
	}
	q.Chain = append([]byte{}, c.take(int(c.uint32()))...)
	if c.failed || len(c.b) != 0 {
		return fmt.Errorf("%w: the lengths in its signature do not add up", ErrFormat)
	}
	return nil
}

// Signed returns the bytes the attestation key signs.
func (q *Quote) Signed() []byte {
	b := appendLayout(make([]byte, 0, headerSize+6+td15Size), &q.Header)
	var body []byte
	switch {
	case q.Enclave != nil:
		body = appendLayout(nil, q.Enclave)
	case q.TD15 != nil:
		body = appendLayout(appendLayout(nil, q.TD), q.TD15)
	default:
		body = appendLayout(nil, q.TD)
	}
	if q.Header.Version >= 5 {
		b = binary.LittleEndian.AppendUint16(b, q.BodyType)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	}
	return append(b, body...)
}

// Bytes returns the quote in the layout of its version, without padding.
func (q *Quote) Bytes() []byte {
	inner := appendLayout(nil, &q.QEReport)
	inner = append(inner, q.QEReportSignature[:]...)
	inner = binary.LittleEndian.AppendUint16(inner, uint16(len(q.QEAuth)))
	inner = append(inner, q.QEAuth...)
	inner = binary.LittleEndian.AppendUint16(inner, certPEMChain)
	inner = binary.LittleEndian.AppendUint32(inner, uint32(len(q.Chain)))
	inner = append(inner, q.Chain...)

	sig := append(q.Signature[:len(q.Signature):len(q.Signature)], q.AttestationKey[:]...)
	if q.Header.Version >= 4 {
		sig = binary.LittleEndian.AppendUint16(sig, certQEReport)
		sig = binary.LittleEndian.AppendUint32(sig, uint32(len(inner)))
	}
	sig = append(sig, inner...)

	b := q.Signed()
	b = binary.LittleEndian.AppendUint32(b, uint32(len(sig)))
	return append(b, sig...)
}

// Bytes returns the report's 384 bytes.
func (r *EnclaveReport) Bytes() []byte { return appendLayout(nil, r) }

// cursor reads little-endian fields and remembers running out of bytes.
type cursor struct {
	b      []byte
	failed bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.failed, c.b = true, nil
		return nil
	}
	head := c.b[:n]
	c.b = c.b[n:]
	return head
}

func (c *cursor) copy(dst []byte) { copy(dst, c.take(len(dst))) }

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// layout fills the fixed-size struct v from the next size bytes.
func (c *cursor) layout(v any, size int) {
	if b := c.take(size); b != nil {
		if n, err := binary.Decode(b, binary.LittleEndian, v); err != nil || n != size {
			panic(fmt.Sprintf("dcap: %T is not a layout of %d bytes", v, size))
		}
	}
}

func appendLayout(b []byte, v any) []byte {
	b, err := binary.Append(b, binary.LittleEndian, v)
	if err != nil {
		panic(fmt.Sprintf("dcap: %T is not a layout: %v", v, err))
	}
	return b
}
