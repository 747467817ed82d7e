// Package attest verifies attestation evidence (RFC 9334): evidence in,
// appraisal result out. It is pure: no network, no files, no clock.
//
// Verify is the whole of it. What is accepted is said by a Policy, whose zero
// value accepts nothing; what was found is a Result with its list of Factors,
// and a refusal carries the same list, so that a person can be shown what was
// checked and why it passed or failed.
//
// Owns: Kind, ImageHash, Evidence, Policy, Result, Verifier.
// Imports: the vocabulary, and the parsers below it (dcap, sevsnp, nvgpu).
// Trust: evidence and endorsements are foreign; the policy is ours.
// Concurrency: pure functions, but for Verifier, which remembers; a Policy is
// not changed after first use.
package attest

import (
	"crypto/sha512"
	"encoding/hex"
	"fmt"

	"github.com/cocoon-network/cocoon"
)

// Kind says what sort of platform stands behind a result. A policy names the
// kinds it accepts; no kind ever satisfies a policy for another one.
type Kind string

// The kinds. Fake and None exist to face test peers and clients.
const (
	TDX       Kind = "tdx"
	SEVSNP    Kind = "sev-snp"
	Simulated Kind = "simulated"
	Fake      Kind = "fake"
	None      Kind = "none"
)

// Real reports whether k is hardware.
func (k Kind) Real() bool { return k == TDX || k == SEVSNP }

// ImageHash is the network's composite measurement of a guest image (spec
// attestation 2): what the root contract lists.
type ImageHash [32]byte

// String returns the hash in lower-case hex.
func (h ImageHash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes hex.
func (h ImageHash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hex digits.
func (h *ImageHash) UnmarshalText(text []byte) error { return readHex(h[:], text) }

// The image hashes that upstream routers write for peers that proved nothing
// (spec changes-2026-04 14.2). They are listed nowhere and match nothing.
var (
	FakeTDXImage = mustImage("5c55c8f4db4010ba9203d83536d0609856af8c847ac039e37e7dde8fbd574b61")
	FakeSEVImage = mustImage("b5fdab78d8947eacc864bfeecb4d2100780e5afe1cd8efafb124887913ac49fa")
)

// Proven reports whether h can be the hash of an attested image: it is
// neither zero nor one of the constants for peers without evidence.
func (h ImageHash) Proven() bool {
	return h != ImageHash{} && h != FakeTDXImage && h != FakeSEVImage
}

func mustImage(s string) ImageHash { return ImageHash(mustHex(s, 32)) }

func mustHex(s string, size int) []byte {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != size {
		panic("attest: bad constant " + s)
	}
	return b
}

// KeyID names a vendor's root key: SHA-384 of the uncompressed point (65
// bytes) of a P-256 key, or of the SubjectPublicKeyInfo of an RSA key.
type KeyID [48]byte

// String returns the id in lower-case hex.
func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// MarshalText writes hex.
func (k KeyID) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads 96 hex digits.
func (k *KeyID) UnmarshalText(text []byte) error { return readHex(k[:], text) }

// readHex fills dst from exactly as many hex digits as it takes.
func readHex(dst, text []byte) error {
	if len(text) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%w: %d hex digits, want %d", ErrFormat, len(text), hex.EncodedLen(len(dst)))
	}
	b := make([]byte, len(dst))
	if _, err := hex.Decode(b, text); err != nil {
		return fmt.Errorf("%w: %v", ErrFormat, err)
	}
	copy(dst, b)
	return nil
}

// IntelRoot is the key of "Intel SGX Root CA" (spec attestation 2.4).
var IntelRoot = KeyID(mustHex("46e403bd34f05a3f2817ab9badcaacc7ffc98e0f261008cd30dae936cace18d5dcf58eef31463613de1570d516200993", 48))

// AMDRoots are the keys of AMD's ARK certificates for Milan, Genoa (and
// Siena), and Turin.
var AMDRoots = []KeyID{
	KeyID(mustHex("1249f67f15cf229a4069195e1a9ce537d1765ef706a1f4a123c36be9518786515d25ecc007f366b564d2b3f31c48082e", 48)),
	KeyID(mustHex("32ab53a6ce5ec14926207396e5c475ae768a6a9831b7e860b5acf2e1c1dff222bc5a8bfc43eb5e06393189c1f246d880", 48)),
	KeyID(mustHex("3475f08a9727f8ac9a1deaea5f2a2097aa59d64d05c2a678c229c873e6359d3a6926287a2a22cd5f88a385e333a2fcc5", 48)),
}

// KindOf says what evidence under a root key is. Only the vendors' own roots
// make real kinds; every other root makes simulated evidence, so that no
// configuration turns one into the other.
func KindOf(root KeyID) Kind {
	if root == IntelRoot {
		return TDX
	}
	for _, r := range AMDRoots {
		if root == r {
			return SEVSNP
		}
	}
	return Simulated
}

// ReportData is what evidence binds: 64 bytes the guest chose.
type ReportData [64]byte

// KeyReportData is the report data that binds an Ed25519 certificate key:
// SHA-512 of its 32 bytes (spec attestation 1.2).
func KeyReportData(key [32]byte) ReportData { return sha512.Sum512(key[:]) }

// Format is the layout of evidence.
type Format uint8

// The formats.
const (
	FormatNone   Format = iota
	FormatTDX           // Quote is a TDX quote
	FormatSEVSNP        // Quote is an SEV-SNP report, Certificate its signer's
)

// String returns the format's name.
func (f Format) String() string {
	switch f {
	case FormatTDX:
		return "TDX quote"
	case FormatSEVSNP:
		return "SEV-SNP report"
	}
	return "no evidence"
}

// Evidence is what a peer presents. The zero value is no evidence.
type Evidence struct {
	Format Format
	// Quote is the quote or report, byte for byte.
	Quote []byte
	// Certificate is the certificate of the key that signed an SEV-SNP report
	// (VCEK or VLEK), PEM. TDX quotes bring their chain along.
	Certificate []byte
}

// publicNetworks are the global ids of public TON networks, on which simulated,
// fake or missing evidence never counts.
var publicNetworks = []int32{-239, -3}

// RefuseOnNetwork says why a peer of this role and kind must be refused on the
// network with the given global id, whatever the configuration allows; nil if
// it need not be. Clients need no evidence anywhere; proxies, workers, key
// managers and peers of unknown role need real evidence on public networks.
func RefuseOnNetwork(role cocoon.Role, kind Kind, globalID int32) error {
	if role == cocoon.RoleClient || kind.Real() {
		return nil
	}
	for _, id := range publicNetworks {
		if id == globalID {
			return fmt.Errorf("%w: a %s with %q evidence on the network with global id %d, where only hardware counts",
				ErrNetwork, role, string(kind), globalID)
		}
	}
	return nil
}
