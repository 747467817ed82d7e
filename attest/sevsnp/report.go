// Package sevsnp reads and checks SEV-SNP attestation reports of AMD
// processors and their certificates, VCEK (one machine) and VLEK (a cloud's)
// (spec changes-2026-04 15). What a caller accepts is attest's business.
//
// Owns: Report, TCB, Signer, Collateral.
// Imports: nothing of this module.
// Trust: a report is foreign bytes; nothing in it counts before Verify
// succeeded and the caller recognised the root key.
// Concurrency: pure functions.
package sevsnp

import (
	"crypto/ecdsa"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// ReportSize is the size of a report in bytes, of which all but the signature
// are signed.
const (
	ReportSize = 1184
	signedSize = 672
)

// Bits of the guest policy.
const (
	PolicySMT          uint64 = 1 << 16
	PolicyReserved     uint64 = 1 << 17 // always set
	PolicyMigrate      uint64 = 1 << 18
	PolicyDebug        uint64 = 1 << 19
	PolicySingleSocket uint64 = 1 << 20
)

// The keys a report can be signed with.
const (
	SignerVCEK = 0
	SignerVLEK = 1
)

const algorithmP384 = 1 // ECDSA P-384 with SHA-384

// ErrFormat is the cause of every failed Parse.
var ErrFormat = errors.New("not an SEV-SNP report this verifier can read")

// Report is a parsed report.
type Report struct {
	Version     uint32
	GuestSVN    uint32
	Policy      uint64
	FamilyID    [16]byte
	ImageID     [16]byte
	VMPL        uint32
	Algorithm   uint32
	CurrentTCB  uint64
	Platform    uint64
	Flags       uint32
	Reserved    uint32
	ReportData  [64]byte
	Measurement [48]byte
	HostData    [32]byte
	IDKey       [48]byte
	AuthorKey   [48]byte
	ReportID    [32]byte
	ReportIDMA  [32]byte
	ReportedTCB uint64
	CPUID       [24]byte // family, model, stepping from version 3 on
	ChipID      [64]byte
	Committed   uint64
	Builds      [8]byte
	LaunchTCB   uint64
	Rest        [168]byte
	R, S        [72]byte // little-endian
	Trailer     [368]byte
}

// Parse reads a report.
func Parse(raw []byte) (*Report, error) {
	if len(raw) != ReportSize {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrFormat, len(raw), ReportSize)
	}
	r := &Report{}
	if n, err := binary.Decode(raw, binary.LittleEndian, r); err != nil || n != ReportSize {
		panic("sevsnp: Report is not a layout of 1184 bytes")
	}
	if r.Version < 2 || r.Version > 5 {
		return nil, fmt.Errorf("%w: version %d, 2 to 5 are known", ErrFormat, r.Version)
	}
	if r.Algorithm != algorithmP384 {
		return nil, fmt.Errorf("%w: signature algorithm %d, only %d (ECDSA P-384) is known", ErrFormat, r.Algorithm, algorithmP384)
	}
	return r, nil
}

// Bytes returns the report's 1184 bytes.
func (r *Report) Bytes() []byte {
	b, err := binary.Append(nil, binary.LittleEndian, r)
	if err != nil {
		panic("sevsnp: " + err.Error())
	}
	return b
}

// Signed returns the bytes the processor's key signs.
func (r *Report) Signed() []byte { return r.Bytes()[:signedSize] }

// SigningKey says which key signed: SignerVCEK, SignerVLEK or another number.
func (r *Report) SigningKey() int { return int(r.Flags >> 2 & 7) }

// Product says which line of processors made the report. Reports of version 2
// do not tell.
func (r *Report) Product() (Product, error) {
	family, extended := r.CPUID[0], r.CPUID[1]>>4
	switch {
	case r.Version < 3:
		return "", fmt.Errorf("%w: reports of version %d do not name it", ErrProduct, r.Version)
	case family == 0x19 && extended == 0:
		return Milan, nil
	case family == 0x19 && extended == 1:
		return Genoa, nil
	case family == 0x19 && extended == 0xa:
		return Siena, nil
	case family == 0x1a && extended <= 1:
		return Turin, nil
	}
	return "", fmt.Errorf("%w: family %#x, model %#x", ErrProduct, family, r.CPUID[1])
}

// verify checks the signature.
func (r *Report) verify(key *ecdsa.PublicKey) bool {
	digest := sha512.Sum384(r.Signed())
	number := func(le [72]byte) *big.Int {
		slices.Reverse(le[:])
		return new(big.Int).SetBytes(le[:])
	}
	return ecdsa.Verify(key, digest[:], number(r.R), number(r.S))
}

// TCB is a patch level, part by part. FMC exists from Turin on.
type TCB struct {
	FMC, BootLoader, TEE, SNP, Microcode uint8
}

// DecodeTCB reads a TCB version of a product.
func DecodeTCB(v uint64, product Product) TCB {
	b := binary.LittleEndian.AppendUint64(nil, v)
	if product == Turin {
		return TCB{FMC: b[0], BootLoader: b[1], TEE: b[2], SNP: b[3], Microcode: b[7]}
	}
	return TCB{BootLoader: b[0], TEE: b[1], SNP: b[6], Microcode: b[7]}
}

// Encode is the inverse of DecodeTCB.
func (t TCB) Encode(product Product) uint64 {
	b := [8]byte{0: t.BootLoader, 1: t.TEE, 6: t.SNP, 7: t.Microcode}
	if product == Turin {
		b = [8]byte{0: t.FMC, 1: t.BootLoader, 2: t.TEE, 3: t.SNP, 7: t.Microcode}
	}
	return binary.LittleEndian.Uint64(b[:])
}

// Reaches reports whether t is at least low in every part.
func (t TCB) Reaches(low TCB) bool {
	return t.FMC >= low.FMC && t.BootLoader >= low.BootLoader && t.TEE >= low.TEE && t.SNP >= low.SNP && t.Microcode >= low.Microcode
}

func (t TCB) String() string {
	return fmt.Sprintf("fmc %d, boot loader %d, tee %d, snp %d, microcode %d", t.FMC, t.BootLoader, t.TEE, t.SNP, t.Microcode)
}
