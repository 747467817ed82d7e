package receipt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/bits"
)

// ErrLogProof says that a proof does not lead from what it is about to the root.
var (
	ErrInclusion   = errors.New("receipt: the log does not hold this leaf where the proof says")
	ErrConsistency = errors.New("receipt: the log is not a continuation of the earlier one: it was forked or rewritten")
)

// Hash is a SHA-256 hash that JSON writes in hex.
type Hash [32]byte

// MarshalText implements encoding.TextMarshaler.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler: 64 lower-case hex digits,
// so that a value has one form.
func (h *Hash) UnmarshalText(b []byte) error {
	var out [32]byte
	if len(b) != 64 {
		return fmt.Errorf("a hash has 64 hex digits, not %d", len(b))
	}
	if _, err := hex.Decode(out[:], b); err != nil {
		return err
	}
	if hex.EncodeToString(out[:]) != string(b) {
		return errors.New("a hash is written in lower case")
	}
	*h = out
	return nil
}

// String returns the hash in hex.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// LeafKind says what a leaf of a log is about.
type LeafKind byte

// The kinds. Numbers are hashed and never change.
const (
	LeafReceipt LeafKind = 1 // a proxy's part
	LeafSet     LeafKind = 2 // a set of workers
)

// LeafHash is the hash of a leaf: SHA-256(0 ‖ kind ‖ digest), the leaf hash of
// RFC 6962 2.1 over 33 bytes.
func LeafHash(kind LeafKind, digest [32]byte) Hash {
	return sha256.Sum256(append([]byte{0, byte(kind)}, digest[:]...))
}

// NodeHash is the hash of an inner node: SHA-256(1 ‖ left ‖ right).
func NodeHash(left, right Hash) Hash {
	var b [65]byte
	b[0] = 1
	copy(b[1:], left[:])
	copy(b[33:], right[:])
	return sha256.Sum256(b[:])
}

// EmptyRoot is the root of a log without leaves.
func EmptyRoot() Hash { return sha256.Sum256(nil) }

// MaxProof bounds the hashes of a log proof.
const MaxProof = 64

// VerifyInclusion checks that leaf is leaf number index of the log of size
// leaves with the given root (RFC 9162 2.1.3.2).
func VerifyInclusion(leaf Hash, index, size uint64, proof []Hash, root Hash) error {
	if index >= size || len(proof) > MaxProof {
		return ErrInclusion
	}
	fn, sn, r := index, size-1, leaf
	for _, p := range proof {
		if sn == 0 {
			return ErrInclusion
		}
		if fn&1 == 1 || fn == sn {
			r = NodeHash(p, r)
			if fn&1 == 0 {
				shift := bits.TrailingZeros64(fn)
				fn, sn = fn>>shift, sn>>shift
			}
		} else {
			r = NodeHash(r, p)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 || r != root {
		return ErrInclusion
	}
	return nil
}

// LogRoot adds up the root of a log whose leaves come one after another, in
// memory of a logarithm of their number. The zero value is the empty log.
type LogRoot struct {
	size    uint64
	subtree []Hash // roots of complete subtrees, the largest first
}

// Add appends a leaf.
func (r *LogRoot) Add(leaf Hash) {
	for n := r.size; n&1 == 1; n >>= 1 {
		last := len(r.subtree) - 1
		leaf, r.subtree = NodeHash(r.subtree[last], leaf), r.subtree[:last]
	}
	r.subtree = append(r.subtree, leaf)
	r.size++
}

// Size is the number of leaves so far.
func (r *LogRoot) Size() uint64 { return r.size }

// Root returns the root of the leaves so far.
func (r *LogRoot) Root() Hash {
	if r.size == 0 {
		return EmptyRoot()
	}
	last := len(r.subtree) - 1
	out := r.subtree[last]
	for i := last - 1; i >= 0; i-- {
		out = NodeHash(r.subtree[i], out)
	}
	return out
}

// VerifyConsistency checks that the log of size second with root2 begins with
// the log of size first with root1 (RFC 9162 2.1.4.2).
func VerifyConsistency(first, second uint64, root1, root2 Hash, proof []Hash) error {
	switch {
	case first > second || len(proof) > MaxProof:
		return ErrConsistency
	case first == second || first == 0:
		if len(proof) != 0 || first == second && root1 != root2 || first == 0 && root1 != EmptyRoot() {
			return ErrConsistency
		}
		return nil
	}
	if first&(first-1) == 0 {
		proof = append([]Hash{root1}, proof...)
	}
	if len(proof) == 0 {
		return ErrConsistency
	}
	fn, sn := first-1, second-1
	shift := bits.TrailingZeros64(^fn)
	fn, sn = fn>>shift, sn>>shift
	fr, sr := proof[0], proof[0]
	for _, c := range proof[1:] {
		if sn == 0 {
			return ErrConsistency
		}
		if fn&1 == 1 || fn == sn {
			fr, sr = NodeHash(c, fr), NodeHash(c, sr)
			if fn&1 == 0 && fn != 0 {
				shift := bits.TrailingZeros64(fn)
				fn, sn = fn>>shift, sn>>shift
			}
		} else {
			sr = NodeHash(sr, c)
		}
		fn, sn = fn>>1, sn>>1
	}
	if sn != 0 || fr != root1 || sr != root2 {
		return ErrConsistency
	}
	return nil
}
