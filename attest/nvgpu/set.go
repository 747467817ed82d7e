package nvgpu

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"time"
)

// Set is the evidence of all GPUs of one guest, in the order in which its
// driver lists them.
type Set []Evidence

// Bounds of a Set. A GPU of today shows some 10 KiB.
const (
	MaxGPUs = 16
	MaxSet  = 192 << 10 // bytes of the encoding
)

// ErrSet is the cause of every set that cannot be read.
var ErrSet = errors.New("GPU evidence cannot be read")

// Encode returns the only encoding of s: the number of GPUs (1 byte), then for
// each length (uint32, little endian) and bytes of report and of chain. No GPU
// is no byte.
func (s Set) Encode() []byte {
	if len(s) == 0 {
		return nil
	}
	b := []byte{byte(len(s))}
	for _, ev := range s {
		for _, part := range [][]byte{ev.Report, ev.Chain} {
			b = binary.LittleEndian.AppendUint32(b, uint32(len(part)))
			b = append(b, part...)
		}
	}
	return b
}

// ParseSet reads what Encode made. It keeps nothing of b.
func ParseSet(b []byte) (Set, error) {
	if len(b) > MaxSet {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrSet, len(b), MaxSet)
	}
	if len(b) == 0 {
		return nil, nil
	}
	n := int(b[0])
	if n == 0 || n > MaxGPUs {
		return nil, fmt.Errorf("%w: %d GPUs, 1 to %d", ErrSet, n, MaxGPUs)
	}
	s, rest := make(Set, n), b[1:]
	for i := range s {
		for _, part := range []*[]byte{&s[i].Report, &s[i].Chain} {
			if len(rest) < 4 || uint64(len(rest)-4) < uint64(binary.LittleEndian.Uint32(rest)) {
				return nil, fmt.Errorf("%w: it ends early", ErrSet)
			}
			size := int(binary.LittleEndian.Uint32(rest))
			*part, rest = bytes.Clone(rest[4:4+size]), rest[4+size:]
		}
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: %d bytes follow the last GPU", ErrSet, len(rest))
	}
	return s, nil
}

// Digest names an encoded set: what a node statement carries of it
// (docs/protocol.md, Statement). It is zero for no GPU.
func Digest(set []byte) [32]byte {
	if len(set) == 0 {
		return [32]byte{}
	}
	return sha256.Sum256(append([]byte("cocoon/gpu-evidence/v1\x00"), set...))
}

// Nonce is what a guest asks its GPUs with, so that their evidence belongs to
// this guest and this moment: it commits to what binds it, whose parts have
// fixed sizes.
func Nonce(binding []byte) [32]byte {
	return sha256.Sum256(append([]byte("cocoon/gpu-nonce/v1\x00"), binding...))
}

// VerifySet appraises each GPU of a set. That of one GPU shown twice is
// refused: it would count for two.
func VerifySet(s Set, nonce [32]byte, policy *Policy, now time.Time) ([]*Result, error) {
	if len(s) == 0 {
		return nil, ErrNone
	}
	var all []*Result
	devices := map[[32]byte]int{}
	for i, ev := range s {
		res, err := Verify(ev, nonce, policy, now)
		if err != nil {
			return nil, fmt.Errorf("GPU %d of %d: %w", i+1, len(s), err)
		}
		if first, twice := devices[res.Key]; twice {
			return nil, fmt.Errorf("%w: GPU %d is GPU %d", ErrTwice, i+1, first)
		}
		devices[res.Key] = i + 1
		all = append(all, res)
	}
	return all, nil
}

// maxPolicy bounds the text of a policy.
const maxPolicy = 1 << 20

// policyText is a Policy as it is written: JSON, everything binary in hex.
type policyText struct {
	Roots      []string        `json:"roots"`
	References []referenceText `json:"references"`
}

type referenceText struct {
	Driver  string             `json:"driver"`
	VBIOS   string             `json:"vbios"`
	Values  map[uint8][]string `json:"values"`
	Ignored []uint16           `json:"ignored"` // numbers, where []uint8 would be base64
}

// Encode writes p as ParsePolicy reads it.
func (p *Policy) Encode() ([]byte, error) {
	var text policyText
	for _, r := range p.Roots {
		text.Roots = append(text.Roots, r.String())
	}
	for _, r := range p.References {
		ref := referenceText{Driver: r.DriverVersion, VBIOS: r.VBIOSVersion, Values: map[uint8][]string{}}
		for index, values := range r.Values {
			for _, v := range values {
				ref.Values[index] = append(ref.Values[index], hex.EncodeToString(v[:]))
			}
		}
		for _, index := range r.Ignored {
			ref.Ignored = append(ref.Ignored, uint16(index))
		}
		text.References = append(text.References, ref)
	}
	b, err := json.MarshalIndent(text, "", "  ")
	return append(b, '\n'), err
}

// Pin makes the policy that accepts what this evidence shows, and nothing
// else. The chain and signatures are checked against the root it ends in: who
// pins must know from elsewhere that this is the vendor's.
func Pin(s Set, nonce [32]byte, now time.Time) (*Policy, error) {
	if len(s) == 0 {
		return nil, ErrNone
	}
	p := &Policy{}
	for i, ev := range s {
		chain, err := parseChain(ev.Chain)
		if err != nil {
			return nil, fmt.Errorf("GPU %d: %w", i+1, err)
		}
		root, err := RootKeyID(chain[len(chain)-1])
		if err != nil {
			return nil, fmt.Errorf("GPU %d: %w", i+1, err)
		}
		rep, err := ParseReport(ev.Report)
		if err != nil {
			return nil, fmt.Errorf("GPU %d: %w", i+1, err)
		}
		ref := Reference{DriverVersion: rep.DriverVersion, VBIOSVersion: rep.VBIOSVersion, Values: map[uint8][][valueSize]byte{}}
		for index, v := range rep.Measurements {
			ref.Values[index] = [][valueSize]byte{v}
		}
		if _, err := Verify(ev, nonce, &Policy{Roots: []KeyID{root}, References: []Reference{ref}}, now); err != nil {
			return nil, fmt.Errorf("GPU %d: %w", i+1, err)
		}
		if !slices.Contains(p.Roots, root) {
			p.Roots = append(p.Roots, root)
		}
		if !slices.ContainsFunc(p.References, func(r Reference) bool { return reflect.DeepEqual(r, ref) }) {
			p.References = append(p.References, ref)
		}
	}
	return p, nil
}

// ParsePolicy reads a policy: the key ids of the pinned roots, and for each
// pair of driver and VBIOS the values its measurements may have by number:
//
//	{"roots": ["46e4…"], "references": [{"driver": "580.95.05",
//	  "vbios": "96.00.5E.00.01", "values": {"1": ["00a1…"]}, "ignored": [36]}]}
func ParsePolicy(b []byte) (*Policy, error) {
	fail := func(format string, args ...any) (*Policy, error) {
		return nil, fmt.Errorf("%w: %s", ErrPolicyText, fmt.Sprintf(format, args...))
	}
	if len(b) > maxPolicy {
		return fail("%d bytes, at most %d", len(b), maxPolicy)
	}
	var text policyText
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&text); err != nil {
		return fail("%v", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fail("something follows it")
	}
	p := &Policy{}
	for _, s := range text.Roots {
		id, err := hex.DecodeString(s)
		if err != nil || len(id) != sha512.Size384 {
			return fail("root %q is no key id of %d hex digits", s, 2*sha512.Size384)
		}
		p.Roots = append(p.Roots, KeyID(id))
	}
	for _, r := range text.References {
		ref := Reference{DriverVersion: r.Driver, VBIOSVersion: r.VBIOS, Values: map[uint8][][valueSize]byte{}}
		for index, values := range r.Values {
			if len(values) == 0 {
				return fail("driver %q, measurement %d has no value: list it as ignored, or pin one", r.Driver, index)
			}
			for _, s := range values {
				v, err := hex.DecodeString(s)
				if err != nil || len(v) != valueSize {
					return fail("driver %q, measurement %d: %q is no value of %d hex digits", r.Driver, index, s, 2*valueSize)
				}
				ref.Values[index] = append(ref.Values[index], [valueSize]byte(v))
			}
		}
		for _, index := range r.Ignored {
			if index > 255 {
				return fail("driver %q: measurement %d", r.Driver, index)
			}
			ref.Ignored = append(ref.Ignored, uint8(index))
		}
		if r.Driver == "" || r.VBIOS == "" || len(ref.Values) == 0 {
			return fail("a reference needs driver, vbios and values")
		}
		p.References = append(p.References, ref)
	}
	if len(p.Roots) == 0 || len(p.References) == 0 {
		return nil, ErrPolicy
	}
	return p, nil
}
