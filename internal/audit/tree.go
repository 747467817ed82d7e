package audit

import (
	"fmt"
	"math/bits"

	"github.com/cocoon-network/cocoon/receipt"
)

// tree is the Merkle tree of RFC 6962 over leaf hashes: every complete subtree
// is kept, so that roots and proofs of any earlier size take a logarithm of
// hashes. It costs 64 bytes a leaf.
type tree struct {
	levels [][]receipt.Hash // levels[k][i] is over leaves i·2^k to (i+1)·2^k
}

func (t *tree) size() uint64 {
	if len(t.levels) == 0 {
		return 0
	}
	return uint64(len(t.levels[0]))
}

// append adds a leaf.
func (t *tree) append(leaf receipt.Hash) {
	for k := 0; ; k++ {
		if k == len(t.levels) {
			t.levels = append(t.levels, nil)
		}
		t.levels[k] = append(t.levels[k], leaf)
		n := len(t.levels[k])
		if n%2 == 1 {
			return
		}
		leaf = receipt.NodeHash(t.levels[k][n-2], t.levels[k][n-1])
	}
}

// over returns the hash of leaves from begin to end. begin is a multiple of
// the largest power of two below the number, as in every split from the root.
func (t *tree) over(begin, end uint64) receipt.Hash {
	n := end - begin
	if n&(n-1) == 0 {
		k := bits.TrailingZeros64(n)
		return t.levels[k][begin>>k]
	}
	m := begin + largest(n)
	return receipt.NodeHash(t.over(begin, m), t.over(m, end))
}

// largest is the largest power of two less than n, for n > 1.
func largest(n uint64) uint64 { return 1 << (bits.Len64(n-1) - 1) }

// root returns the root of the first size leaves.
func (t *tree) root(size uint64) receipt.Hash {
	if size == 0 {
		return receipt.EmptyRoot()
	}
	return t.over(0, size)
}

// inclusion returns the proof that leaf index is in the first size leaves.
func (t *tree) inclusion(index, size uint64) ([]receipt.Hash, error) {
	if index >= size || size > t.size() {
		return nil, fmt.Errorf("%w: leaf %d of %d, the log has %d", ErrNotFound, index, size, t.size())
	}
	proof := []receipt.Hash{}
	begin, end := uint64(0), size
	for end-begin > 1 {
		m := begin + largest(end-begin)
		if index < m {
			proof = append(proof, t.over(m, end))
			end = m
		} else {
			proof = append(proof, t.over(begin, m))
			begin = m
		}
	}
	reverse(proof)
	return proof, nil
}

// consistency returns the proof that the first `first` leaves are the beginning
// of the first `second` ones (RFC 6962 2.1.2).
func (t *tree) consistency(first, second uint64) ([]receipt.Hash, error) {
	if first > second || second > t.size() {
		return nil, fmt.Errorf("%w: sizes %d and %d, the log has %d", ErrNotFound, first, second, t.size())
	}
	proof := []receipt.Hash{}
	if first == 0 || first == second {
		return proof, nil
	}
	begin, end, whole := uint64(0), second, true
	for first != end {
		m := begin + largest(end-begin)
		if first <= m {
			proof = append(proof, t.over(m, end))
			end = m
		} else {
			proof = append(proof, t.over(begin, m))
			begin, whole = m, false
		}
	}
	if !whole {
		proof = append(proof, t.over(begin, end))
	}
	reverse(proof)
	return proof, nil
}

func reverse(p []receipt.Hash) {
	for i, j := 0, len(p)-1; i < j; i, j = i+1, j-1 {
		p[i], p[j] = p[j], p[i]
	}
}
