package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"github.com/cocoon-network/cocoon/receipt"
)

func leafOf(n int) receipt.Hash {
	return receipt.LeafHash(receipt.LeafReceipt, sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n))))
}

// slow is RFC 6962 2.1 word by word.
func slow(leaves []receipt.Hash) receipt.Hash {
	switch n := len(leaves); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	default:
		k := 1
		for k*2 < n {
			k *= 2
		}
		return receipt.NodeHash(slow(leaves[:k]), slow(leaves[k:]))
	}
}

// Every proof of every pair of sizes verifies, and with any hash changed,
// dropped or added, or any number changed, it does not.
func TestTree(t *testing.T) {
	const most = 40
	var tr tree
	var leaves []receipt.Hash
	for n := range most {
		leaves = append(leaves, leafOf(n))
		tr.append(leafOf(n))
	}
	var roots []receipt.Hash
	for n := range most + 1 {
		roots = append(roots, tr.root(uint64(n)))
		if roots[n] != slow(leaves[:n]) {
			t.Fatalf("root of %d leaves", n)
		}
	}
	spoil := func(p []receipt.Hash, check func([]receipt.Hash) error, want error) {
		t.Helper()
		if err := check(p); err != nil {
			t.Fatal(err)
		}
		bad := [][]receipt.Hash{append(slices.Clone(p), receipt.Hash{})}
		if len(p) > 0 {
			bad = append(bad, p[:len(p)-1], p[1:])
		}
		for i := range p {
			b := slices.Clone(p)
			b[i][0] ^= 1
			bad = append(bad, b)
		}
		for _, b := range bad {
			if err := check(b); !errors.Is(err, want) {
				t.Fatalf("a spoilt proof: %v", err)
			}
		}
	}
	for size := uint64(1); size <= most; size++ {
		for i := range size {
			p, err := tr.inclusion(i, size)
			if err != nil {
				t.Fatal(err)
			}
			spoil(p, func(p []receipt.Hash) error {
				return receipt.VerifyInclusion(leaves[i], i, size, p, roots[size])
			}, receipt.ErrInclusion)
			for _, c := range []error{
				receipt.VerifyInclusion(leafOf(most), i, size, p, roots[size]),
				receipt.VerifyInclusion(leaves[i], i+1, size, p, roots[size]),
				receipt.VerifyInclusion(leaves[i], i, size, p, roots[size-1]),
			} {
				if !errors.Is(c, receipt.ErrInclusion) {
					t.Fatalf("leaf %d of %d: %v", i, size, c)
				}
			}
		}
		for first := uint64(0); first <= size; first++ {
			p, err := tr.consistency(first, size)
			if err != nil {
				t.Fatal(err)
			}
			spoil(p, func(p []receipt.Hash) error {
				return receipt.VerifyConsistency(first, size, roots[first], roots[size], p)
			}, receipt.ErrConsistency)
			if first > 0 {
				if err := receipt.VerifyConsistency(first, size, leafOf(most), roots[size], p); !errors.Is(err, receipt.ErrConsistency) {
					t.Fatalf("%d to %d, another beginning: %v", first, size, err)
				}
			}
		}
	}
	if _, err := tr.inclusion(0, most+1); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if _, err := tr.consistency(1, most+1); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}
