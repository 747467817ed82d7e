// Package attest verifies attestation evidence (RFC 9334): evidence in,
// appraisal result out. It is pure: no network, no files, no clock.
//
// Owns: Kind, ImageHash, Evidence, Policy, Result.
// Imports: nothing of this module but its own parsers.
// Trust: evidence is foreign; roots, reference values and policy are ours.
package attest

import "encoding/hex"

// Kind says what sort of platform stands behind a result. A policy names the
// kinds it accepts; no kind ever satisfies a policy for another one.
type Kind string

// The kinds (design 2.3). Fake and None exist to face test peers and clients.
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

// Result is what appraisal found.
type Result struct {
	Kind      Kind
	ImageHash ImageHash
}
