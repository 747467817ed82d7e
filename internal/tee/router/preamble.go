package router

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

// MaxPreamble is the largest body of a preamble in bytes; the odd number is
// the reference's.
const MaxPreamble = 16536

// Layout is one of the two forms of a preamble. Readers tell them apart by
// the first number; writers must know what their reader understands.
type Layout int

// The layouts, by the state of the reference that introduced them.
const (
	December Layout = iota + 1
	April
)

// formatApril opens a body of layout April; December has 0 or 1 there.
const formatApril = 2

// Family is the make of the evidence a preamble tells about.
type Family int

// The families. Layout April has no form for NoFamily and writes a TDX record
// of zeros instead, which reads as such.
const (
	NoFamily Family = iota
	FamilyTDX
	FamilySEV
)

// Preamble is what a router tells about a peer.
type Preamble struct {
	Family Family
	// Registers are MRTD, MRCONFIGID, MROWNER, MROWNERCONFIG and RTMR0..3 of a
	// TDX guest.
	Registers [8][48]byte
	// Measurement is the launch measurement of an SEV-SNP guest.
	Measurement [48]byte
	ReportData  [64]byte
	// RootKeyID is the vendor's root key; zero for SEV, fake or no evidence.
	RootKeyID attest.KeyID
	// Key is the Ed25519 key of the peer's certificate.
	Key [32]byte
	// Source is who connected to the router, Destination where it connects
	// to; their IPs are text that nobody checks.
	SourceIP        string
	SourcePort      int32
	DestinationIP   string
	DestinationPort int32
}

// ErrPreamble is the cause of every preamble that cannot be read or believed.
var ErrPreamble = errors.New("router: bad preamble (is peer information on at the router's port?)")

// ReadPreamble reads one frame of either layout, and no byte more.
func ReadPreamble(r io.Reader) (*Preamble, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, fmt.Errorf("router: waiting for the preamble: %w", err)
	}
	n := binary.LittleEndian.Uint32(size[:])
	if n > MaxPreamble {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrPreamble, n, MaxPreamble)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("router: reading the preamble: %w", err)
	}
	return ParsePreamble(body)
}

// WritePreamble writes one frame.
func WritePreamble(w io.Writer, p *Preamble, layout Layout) error {
	b, err := p.Append(make([]byte, 4), layout)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(b, uint32(len(b)-4))
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("router: writing the preamble: %w", err)
	}
	return nil
}

// Append appends the body of p in the given layout.
func (p *Preamble) Append(b []byte, layout Layout) ([]byte, error) {
	switch {
	case layout == December && p.Family == NoFamily:
		b = tl.AppendInt32(b, 0)
		b = append(b, p.RootKeyID[:]...)
	case layout == December && p.Family == FamilyTDX:
		b = tl.AppendInt32(b, 1)
		b = tl.AppendInt32(b, 0)
		b = p.appendTDX(b)
	case layout == April && p.Family == FamilySEV:
		b = tl.AppendInt32(b, formatApril)
		b = tl.AppendInt32(b, 1)
		b = append(b, p.Measurement[:]...)
		b = append(b, p.ReportData[:]...)
	case layout == April && p.Family == FamilyTDX:
		b = tl.AppendInt32(b, formatApril)
		b = tl.AppendInt32(b, 0)
		b = p.appendTDX(b)
	case layout == April && p.Family == NoFamily:
		b = tl.AppendInt32(b, formatApril)
		b = tl.AppendInt32(b, 0)
		b = append(b, make([]byte, 8*48+64+48)...)
	default:
		return nil, fmt.Errorf("%w: layout %d has no form for evidence of family %d", ErrPreamble, layout, p.Family)
	}
	b = tl.AppendBytes(b, p.Key[:])
	b = tl.AppendBytes(b, p.SourceIP)
	b = tl.AppendInt32(b, p.SourcePort)
	b = tl.AppendBytes(b, p.DestinationIP)
	b = tl.AppendInt32(b, p.DestinationPort)
	return b, nil
}

func (p *Preamble) appendTDX(b []byte) []byte {
	for _, r := range p.Registers {
		b = append(b, r[:]...)
	}
	b = append(b, p.ReportData[:]...)
	return append(b, p.RootKeyID[:]...)
}

// ParsePreamble reads a body of either layout. A TDX record of zeros stands
// for no evidence in layout April and is read so in both.
func ParsePreamble(body []byte) (*Preamble, error) {
	p := &Preamble{}
	b, short := body, false
	take := func(n int) []byte {
		if n > len(b) {
			b, short = nil, true
			return make([]byte, n)
		}
		head := b[:n]
		b = b[n:]
		return head
	}
	number := func() int32 { return int32(binary.LittleEndian.Uint32(take(4))) }

	switch first := number(); first {
	case 0:
		copy(p.RootKeyID[:], take(48))
	case 1, formatApril:
		switch kind := number(); {
		case kind == 0:
			p.Family = FamilyTDX
			for i := range p.Registers {
				copy(p.Registers[i][:], take(48))
			}
			copy(p.ReportData[:], take(64))
			copy(p.RootKeyID[:], take(48))
		case kind == 1 && first == formatApril:
			p.Family = FamilySEV
			copy(p.Measurement[:], take(48))
			copy(p.ReportData[:], take(64))
		default:
			return nil, fmt.Errorf("%w: evidence of kind %d", ErrPreamble, kind)
		}
	default:
		return nil, fmt.Errorf("%w: format %d", ErrPreamble, first)
	}
	if short {
		return nil, fmt.Errorf("%w: cut off after %d bytes", ErrPreamble, len(body))
	}
	r := tl.NewReader(b)
	key := r.Bytes()
	p.SourceIP, p.SourcePort = r.String(), r.Int32()
	p.DestinationIP, p.DestinationPort = r.String(), r.Int32()
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrPreamble, err)
	}
	if len(key) != len(p.Key) {
		return nil, fmt.Errorf("%w: a key of %d bytes", ErrPreamble, len(key))
	}
	copy(p.Key[:], key)
	if p.Family == FamilyTDX && p.isZero() && p.RootKeyID == (attest.KeyID{}) && p.ReportData == [64]byte{} {
		p.Family = NoFamily
	}
	return p, nil
}

// isZero reports that nothing was measured.
func (p *Preamble) isZero() bool {
	return p.Registers == [8][48]byte{} && p.Measurement == [48]byte{}
}

// Peer says what the preamble is worth. Measurements that are all zero are no
// evidence, whatever the router calls them: of kind Fake if they are bound to
// something, else None with a zero hash. Real measurements must be bound to
// the peer's key. A SEV record names no root key: that the router held it
// against AMD's is its word.
func (p *Preamble) Peer() (tee.Peer, error) {
	peer := tee.Peer{Key: p.Key, Kind: attest.None, Addr: p.source()}
	switch {
	case p.Family == NoFamily:
		return peer, nil
	case p.isZero():
		if p.ReportData != [64]byte{} {
			peer.Kind, peer.ImageHash = attest.Fake, attest.FakeTDXImage
			if p.Family == FamilySEV {
				peer.ImageHash = attest.FakeSEVImage
			}
		}
		return peer, nil
	case attest.ReportData(p.ReportData) != attest.KeyReportData(p.Key):
		return tee.Peer{}, fmt.Errorf("%w: its measurements are not bound to its key", ErrPreamble)
	case p.Family == FamilySEV:
		peer.Kind, peer.ImageHash = attest.SEVSNP, attest.SEVImageHash(p.Measurement)
		return peer, nil
	}
	var registers []attest.Measurement
	for i := range p.Registers {
		registers = append(registers, attest.Measurement{Value: p.Registers[i][:]})
	}
	peer.Kind, peer.ImageHash = attest.KindOf(p.RootKeyID), attest.TDXImageHash(registers)
	return peer, nil
}

// source formats the source address as host:port, as far as it is one.
func (p *Preamble) source() string {
	ip, err := netip.ParseAddr(p.SourceIP)
	if err != nil || p.SourcePort < 0 || p.SourcePort > 65535 {
		return "unknown"
	}
	return netip.AddrPortFrom(ip, uint16(p.SourcePort)).String()
}
