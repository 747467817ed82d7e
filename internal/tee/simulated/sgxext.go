//go:build !tee

package simulated

import (
	"encoding/asn1"
	"fmt"
	"slices"
)

// The extension of a PCK certificate that describes its processor.
var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

// processor is what a PCK certificate says of the machine.
type processor struct {
	PPID       [16]byte
	TCB        [16]byte // SVNs of the SGX components
	PCESVN     int
	PCEID      [2]byte
	FMSPC      [6]byte
	InstanceID [16]byte
}

// extension encodes p as Intel's certificates do.
func (p processor) extension() ([]byte, error) {
	type entry struct {
		OID   asn1.ObjectIdentifier
		Value any
	}
	oid := func(n ...int) asn1.ObjectIdentifier { return slices.Concat(oidSGX, n) }
	var tcb []entry
	for i, svn := range p.TCB {
		tcb = append(tcb, entry{oid(2, i+1), int(svn)})
	}
	tcb = append(tcb, entry{oid(2, 17), p.PCESVN}, entry{oid(2, 18), p.TCB[:]})
	der, err := asn1.Marshal([]entry{
		{oid(1), p.PPID[:]},
		{oid(2), tcb},
		{oid(3), p.PCEID[:]},
		{oid(4), p.FMSPC[:]},
		{oid(5), asn1.Enumerated(1)}, // scalable
		{oid(6), p.InstanceID[:]},
		{oid(7), []entry{{oid(7, 1), true}, {oid(7, 2), false}, {oid(7, 3), true}}},
	})
	if err != nil {
		return nil, fmt.Errorf("simulated: PCK extension: %w", err)
	}
	return der, nil
}
