package attest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/attest/nvgpu"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
)

// Policy is the appraisal policy for evidence. Its zero value refuses
// everything. Debug and migratable guests are refused under every policy, and
// hardware is judged by its vendor's statements under every policy. Simulated
// platforms, which no vendor ever judges, are held against such statements
// where a caller has them, or where MinEvaluation or MaxAge asks for them.
type Policy struct {
	// Kinds are accepted. Empty: nothing is. None alone means that evidence
	// is not read at all and the result is None, whatever was presented; None
	// beside others means that evidence may be missing, but must be good if
	// it is there.
	Kinds []Kind
	// Roots are the vendor root keys that are trusted. Empty: none is.
	Roots []KeyID
	// Images says which images are accepted. Zero: none is.
	Images Images

	// Statuses are the patch levels accepted of Intel platforms. Empty: up to
	// date only.
	Statuses []dcap.Status
	// MinEvaluation is the lowest number of TCB evaluation data accepted, so
	// that older statements that have not run out cannot be replayed. Zero:
	// any.
	MinEvaluation int
	// MaxAge is the greatest age of the vendor's statements. Zero: as long as
	// they say themselves.
	MaxAge time.Duration
	// Platforms are the machines accepted. Empty: any the vendor certifies.
	Platforms []PlatformID

	// TDX and SNP refine what is accepted of such guests.
	TDX TDXRules
	SNP SNPRules

	// GPU, if set, demands evidence of a node's GPUs and says which is
	// accepted. It comes with a node's statement, so VerifyGPUs judges it and
	// not Verify; nil: none is demanded.
	GPU *nvgpu.Policy
}

// PlatformID names a machine: SHA-256 over "cocoon/platform/v1\0", the
// format's number and the vendor's id of the machine.
type PlatformID [32]byte

// String returns the id in lower-case hex.
func (p PlatformID) String() string { return hex.EncodeToString(p[:]) }

// MarshalText writes hex.
func (p PlatformID) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads 64 hex digits.
func (p *PlatformID) UnmarshalText(text []byte) error { return readHex(p[:], text) }

func platformID(f Format, vendorID []byte) PlatformID {
	return sha256.Sum256(slices.Concat([]byte("cocoon/platform/v1\x00"), []byte{byte(f)}, vendorID))
}

// TDXRules refine what is accepted of a TDX guest. The zero value is strict.
type TDXRules struct {
	// Attributes are TD attributes accepted beside SEPT_VE_DISABLE, which must
	// be set, and PKS. DEBUG and MIGRATABLE are never accepted.
	Attributes uint64
	// XFAM are the processor features a guest may use. Zero: DefaultXFAM.
	XFAM uint64
	// Modules are the accepted TDX modules (MRSEAM). Empty: any the vendor
	// signed and judges.
	Modules [][48]byte
	// ServiceTDs are the accepted service TDs (MRSERVICETD). Empty: none may
	// be bound.
	ServiceTDs [][48]byte
}

// DefaultXFAM are x87, SSE, AVX, AVX-512, PKRU, CET and AMX.
const DefaultXFAM uint64 = 0x61ae7

// tdPKS lets a guest use protection keys for its own pages.
const tdPKS uint64 = 1 << 30

// SNPRules refine what is accepted of an SEV-SNP guest. The zero value accepts
// none.
type SNPRules struct {
	// KernelMeasured are the images whose launch measurement covers kernel,
	// initrd and command line. Only such images are accepted.
	KernelMeasured []ImageHash
	// MinTCB is the lowest patch level accepted, part by part. AMD publishes
	// no list of good ones, so the policy must name it; zero refuses.
	MinTCB sevsnp.TCB
	// RequirePolicy are bits of the guest policy that must be set.
	RequirePolicy uint64
	// ForbidPolicy are bits that must be clear, beside debugging and migration
	// agents, which are never accepted.
	ForbidPolicy uint64
}

// Images is a set of image hashes; the zero value holds none.
type Images struct {
	listed   []ImageHash
	deferred bool
}

// ListedImages accepts the given hashes and no others.
func ListedImages(hashes ...ImageHash) Images { return Images{listed: slices.Clone(hashes)} }

// DeferredImages accepts every proven image hash: the caller holds the hash
// of the result against a list of its own (a root contract's) before it
// trusts the peer.
func DeferredImages() Images { return Images{deferred: true} }

// Holds reports whether h is accepted.
func (i Images) Holds(h ImageHash) bool {
	return h.Proven() && (i.deferred || slices.Contains(i.listed, h))
}

// HardwarePolicy accepts TDX guests under Intel's root.
func HardwarePolicy(images Images) *Policy {
	return &Policy{Kinds: []Kind{TDX}, Roots: []KeyID{IntelRoot}, Images: images}
}

// SimulatedPolicy accepts simulated guests under the given root.
func SimulatedPolicy(root KeyID, images Images) *Policy {
	return &Policy{Kinds: []Kind{Simulated}, Roots: []KeyID{root}, Images: images}
}

// OpenPolicy reads no evidence: for ports whose peers prove themselves by
// other means, as clients do.
func OpenPolicy() *Policy { return &Policy{Kinds: []Kind{None}} }

// Validate finds contradictions in a policy. A policy that accepts nothing is
// valid.
func (p *Policy) Validate() error {
	for _, k := range p.Kinds {
		switch k {
		case TDX, SEVSNP, Simulated:
			if !slices.ContainsFunc(p.Roots, func(r KeyID) bool { return KindOf(r) == k }) {
				return fmt.Errorf("%w: kind %q is accepted, but no root key of it is trusted", ErrPolicy, string(k))
			}
		case Fake, None:
		default:
			return fmt.Errorf("%w: unknown kind %q", ErrPolicy, string(k))
		}
	}
	if slices.Contains(p.Statuses, dcap.Revoked) {
		return fmt.Errorf("%w: a revoked platform cannot be accepted", ErrPolicy)
	}
	if p.Accepts(SEVSNP) && (len(p.SNP.KernelMeasured) == 0 || p.SNP.MinTCB == sevsnp.TCB{}) {
		return fmt.Errorf("%w: kind %q is accepted, but no image that measures its kernel, or no lowest patch level, is named", ErrPolicy, string(SEVSNP))
	}
	if p.GPU != nil && (len(p.GPU.Roots) == 0 || len(p.GPU.References) == 0) {
		return fmt.Errorf("%w: %v", ErrPolicy, nvgpu.ErrPolicy)
	}
	for _, h := range p.Images.listed {
		if !h.Proven() {
			return fmt.Errorf("%w: %s stands for peers without evidence and cannot be listed as an image", ErrPolicy, h)
		}
	}
	return nil
}

// Accepts reports whether evidence of kind k is accepted.
func (p *Policy) Accepts(k Kind) bool { return slices.Contains(p.Kinds, k) }

// Open reports whether p accepts everybody without looking at evidence.
func (p *Policy) Open() bool {
	return len(p.Kinds) > 0 && !slices.ContainsFunc(p.Kinds, func(k Kind) bool { return k != None })
}

// Admit judges the record of an appraisal by somebody we trust, such as a
// router beside us. A zero root means that the record names none. Records name
// no machine, so a policy that lists machines admits no evidence by them.
func (p *Policy) Admit(kind Kind, image ImageHash, root KeyID) error {
	if err := p.admit(kind, image, root); err != nil {
		return err
	}
	if (kind.Real() || kind == Simulated) && !p.Open() && len(p.Platforms) > 0 {
		return fmt.Errorf("%w: the record names none, and the policy lists some", ErrPlatform)
	}
	return nil
}

// AdmitResult judges a result that another policy has let pass, by kind, root,
// image, machine and patch level.
func (p *Policy) AdmitResult(res *Result) error {
	switch err := p.admit(res.Kind, res.ImageHash, res.RootKeyID); {
	case err != nil:
		return err
	case p.Open() || !res.Kind.Real() && res.Kind != Simulated:
		return nil
	case len(p.Platforms) > 0 && !slices.Contains(p.Platforms, res.Platform):
		return fmt.Errorf("%w: %s", ErrPlatform, res.Platform)
	case res.Status != "" && !p.patched(res.Status):
		return fmt.Errorf("%w: %s", ErrStatus, res.Status)
	}
	return nil
}

// patched reports whether a patch level is accepted. A revoked platform never
// is.
func (p *Policy) patched(s dcap.Status) bool {
	if len(p.Statuses) == 0 {
		return s == dcap.UpToDate
	}
	return s != dcap.Revoked && slices.Contains(p.Statuses, s)
}

func (p *Policy) admit(kind Kind, image ImageHash, root KeyID) error {
	switch {
	case p == nil || len(p.Kinds) == 0:
		return ErrRejectsAll
	case p.Open():
		return nil
	case kind == None && !p.Accepts(None):
		return ErrNoEvidence
	case !p.Accepts(kind):
		return fmt.Errorf("%w: %q", ErrKind, string(kind))
	case kind == None || kind == Fake:
		return nil
	case root != KeyID{} && !p.trusts(root):
		return fmt.Errorf("%w: %s", ErrRoot, root)
	case !p.Images.Holds(image):
		return fmt.Errorf("%w: %s", ErrImage, image)
	case kind == SEVSNP && !slices.Contains(p.SNP.KernelMeasured, image):
		return fmt.Errorf("%w: %s", ErrKernel, image)
	}
	return nil
}

// trusts reports whether root is a trusted root key.
func (p *Policy) trusts(root KeyID) bool {
	return root != KeyID{} && slices.Contains(p.Roots, root)
}

// The reasons for a refusal. Those of a vendor's format are in its package
// (dcap).
var (
	ErrPolicy       = errors.New("the policy contradicts itself")
	ErrRejectsAll   = errors.New("the policy accepts no kind of evidence")
	ErrNoEvidence   = errors.New("the peer presents no evidence, and the policy demands it")
	ErrFormat       = errors.New("this cannot be read")
	ErrKind         = errors.New("the policy does not accept this kind of evidence")
	ErrRoot         = errors.New("the evidence ends in a root key the policy does not trust")
	ErrReportData   = errors.New("the evidence is bound to something else (another key?)")
	ErrImage        = errors.New("the policy does not accept this image")
	ErrDebug        = errors.New("the guest can be debugged from outside")
	ErrMigratable   = errors.New("the guest can be migrated by its host")
	ErrModule       = errors.New("the TDX module is not a production module of its vendor")
	ErrAttributes   = errors.New("the policy does not accept the guest's attributes")
	ErrXFAM         = errors.New("the policy does not accept the processor features the guest uses")
	ErrMRSEAM       = errors.New("the policy does not accept this TDX module")
	ErrServiceTD    = errors.New("the policy does not accept the service TD bound to the guest")
	ErrStatus       = errors.New("the policy does not accept the platform's patch level")
	ErrEvaluation   = errors.New("the vendor's statements are older than the policy accepts")
	ErrPlatform     = errors.New("the policy does not accept this machine")
	ErrGuestPolicy  = errors.New("the policy does not accept the guest's launch policy")
	ErrVMPL         = errors.New("the report was not asked for by the guest's most privileged level")
	ErrMinimumTCB   = errors.New("the platform's patch level is below the policy's minimum")
	ErrKernel       = errors.New("the image is not listed as one that measures kernel, initrd and command line")
	ErrEnclave      = errors.New("the policy does not accept this enclave")
	ErrNetwork      = errors.New("this kind of evidence is refused on this network")
	ErrEndorsements = errors.New("the vendor's statements needed to judge the evidence are missing")
)
