package dcap

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

// ErrPCK is the cause of a PCK certificate that does not describe its
// processor.
var ErrPCK = errors.New("the PCK certificate does not describe its processor")

// Processor is what a PCK certificate says of the machine.
type Processor struct {
	PPID   [16]byte // encrypted or hashed name of the processor's keys
	TCB    [16]byte // SVNs of the SGX components
	PCESVN uint16
	PCEID  [2]byte
	FMSPC  [6]byte
	// InstanceID names the platform; zero for single-package platforms.
	InstanceID [16]byte
}

var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// sgxEntry is an element of the SGX extension and of its TCB.
type sgxEntry struct {
	OID   asn1.ObjectIdentifier
	Value asn1.RawValue
}

// ParseProcessor reads the SGX extension of a PCK certificate.
func ParseProcessor(pck *x509.Certificate) (*Processor, error) {
	for _, ext := range pck.Extensions {
		if ext.Id.Equal(oidSGX) {
			p := &Processor{}
			if err := p.parse(ext.Value); err != nil {
				return nil, fmt.Errorf("%w: %v", ErrPCK, err)
			}
			return p, nil
		}
	}
	return nil, fmt.Errorf("%w: no SGX extension", ErrPCK)
}

func (p *Processor) parse(der []byte) error {
	entries, err := sgxEntries(der, oidSGX)
	if err != nil {
		return err
	}
	for _, need := range []struct {
		arc int
		dst []byte
	}{{1, p.PPID[:]}, {3, p.PCEID[:]}, {4, p.FMSPC[:]}} {
		v, ok := entries[need.arc]
		if !ok || v.Class != asn1.ClassUniversal || v.Tag != asn1.TagOctetString || len(v.Bytes) != len(need.dst) {
			return fmt.Errorf("field %d is missing or has a wrong form", need.arc)
		}
		copy(need.dst, v.Bytes)
	}
	if v, ok := entries[6]; ok && v.Tag == asn1.TagOctetString && len(v.Bytes) == len(p.InstanceID) {
		copy(p.InstanceID[:], v.Bytes)
	}
	tcb, ok := entries[2]
	if !ok {
		return errors.New("no TCB")
	}
	components, err := sgxEntries(tcb.FullBytes, slices.Concat(oidSGX, asn1.ObjectIdentifier{2}))
	if err != nil {
		return err
	}
	number := func(arc, limit int) (int, error) {
		var n int
		v, ok := components[arc]
		if !ok {
			return 0, fmt.Errorf("no TCB component %d", arc)
		}
		if rest, err := asn1.Unmarshal(v.FullBytes, &n); err != nil || len(rest) != 0 || n < 0 || n > limit {
			return 0, fmt.Errorf("TCB component %d is no SVN", arc)
		}
		return n, nil
	}
	for i := range p.TCB {
		n, err := number(i+1, 255)
		if err != nil {
			return err
		}
		p.TCB[i] = byte(n)
	}
	n, err := number(17, 65535)
	p.PCESVN = uint16(n)
	return err
}

// sgxEntries reads a SEQUENCE OF (OID, value) with OIDs directly below base,
// each at most once.
func sgxEntries(der []byte, base asn1.ObjectIdentifier) (map[int]asn1.RawValue, error) {
	var list []sgxEntry
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) != 0 {
		return nil, errors.New("not a list of fields")
	}
	entries := map[int]asn1.RawValue{}
	for _, e := range list {
		if len(e.OID) != len(base)+1 || !e.OID[:len(base)].Equal(base) {
			return nil, fmt.Errorf("unexpected field %v", e.OID)
		}
		arc := e.OID[len(base)]
		if _, ok := entries[arc]; ok {
			return nil, fmt.Errorf("field %d twice", arc)
		}
		entries[arc] = e.Value
	}
	return entries, nil
}

// PlatformID names the machine for lists of platforms: its instance id, or
// its PPID where there is none.
func (p *Processor) PlatformID() [16]byte {
	if !bytes.Equal(p.InstanceID[:], make([]byte, 16)) {
		return p.InstanceID
	}
	return p.PPID
}
