package attest

import (
	"errors"
	"fmt"
	"slices"
)

// Policy is the appraisal policy for evidence. Its zero value refuses
// everything. Debug and migratable guests are refused under every policy.
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

// Admit judges what somebody we trust has appraised already, such as a router
// beside us. A zero root means that the record names none.
func (p *Policy) Admit(kind Kind, image ImageHash, root KeyID) error {
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
	ErrFormat       = errors.New("the evidence cannot be read")
	ErrKind         = errors.New("the policy does not accept this kind of evidence")
	ErrRoot         = errors.New("the evidence ends in a root key the policy does not trust")
	ErrReportData   = errors.New("the evidence is bound to something else (another key?)")
	ErrImage        = errors.New("the policy does not accept this image")
	ErrDebug        = errors.New("the guest can be debugged from outside")
	ErrMigratable   = errors.New("the guest can be migrated by its host")
	ErrModule       = errors.New("the TDX module is not a production module of Intel")
	ErrNetwork      = errors.New("this kind of evidence is refused on this network")
	ErrEndorsements = errors.New("the vendor's statements needed to judge the evidence are missing")
)
