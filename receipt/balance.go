package receipt

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// What can be wrong with balances.
var (
	ErrBalance  = errors.New("receipt: the balance is not in the anchored tree")
	ErrOverflow = errors.New("receipt: sums of balances overflow")
)

// Sum is a node of a sum tree: what its leaves have together.
type Sum struct {
	Hash Hash   `json:"hash"`
	Sum  uint64 `json:"sum"`
}

// BalanceLeaf is one party's leaf: SHA-256(0 ‖ salt ‖ workchain (int32 BE) ‖
// account hash ‖ sum (uint64 BE)). The salt is known to that party, so that
// others who see the leaf learn its sum and not whose it is.
func BalanceLeaf(salt Hash, contract cocoon.Address, sum uint64) Sum {
	b := append([]byte{0}, salt[:]...)
	b = appendAddress(b, contract)
	return Sum{sha256.Sum256(binary.BigEndian.AppendUint64(b, sum)), sum}
}

func appendAddress(b []byte, a cocoon.Address) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(a.Workchain)), a.Hash[:]...)
}

// join is SHA-256(1 ‖ left hash ‖ left sum ‖ right hash ‖ right sum), sums
// uint64 BE. Sums that overflow are refused.
func join(l, r Sum) (Sum, error) {
	total, carry := bits.Add64(l.Sum, r.Sum, 0)
	if carry != 0 {
		return Sum{}, ErrOverflow
	}
	b := append([]byte{1}, l.Hash[:]...)
	b = append(binary.BigEndian.AppendUint64(b, l.Sum), r.Hash[:]...)
	return Sum{sha256.Sum256(binary.BigEndian.AppendUint64(b, r.Sum)), total}, nil
}

// SumTree returns the root of the tree over leaves in their order, split as in
// RFC 6962: the left side has the largest power of two that is less than all.
// Without leaves it is the hash of nothing with sum 0.
func SumTree(leaves []Sum) (Sum, error) {
	switch n := len(leaves); n {
	case 0:
		return Sum{Hash: EmptyRoot()}, nil
	case 1:
		return leaves[0], nil
	default:
		k := split(n)
		l, err := SumTree(leaves[:k])
		if err != nil {
			return Sum{}, err
		}
		r, err := SumTree(leaves[k:])
		if err != nil {
			return Sum{}, err
		}
		return join(l, r)
	}
}

// split is the largest power of two less than n, for n > 1.
func split(n int) int { return 1 << (bits.Len(uint(n-1)) - 1) }

// Sibling is one step of a path from a leaf to the root.
type Sibling struct {
	Sum
	Left bool `json:"left,omitempty"` // it stands left of the path
}

// SumPath returns the siblings of leaf i, from the leaf up.
func SumPath(leaves []Sum, i int) ([]Sibling, error) {
	if len(leaves) <= 1 {
		return nil, nil
	}
	k := split(len(leaves))
	own, other, left := leaves[:k], leaves[k:], false
	if i >= k {
		own, other, left, i = other, own, true, i-k
	}
	path, err := SumPath(own, i)
	if err != nil {
		return nil, err
	}
	s, err := SumTree(other)
	return append(path, Sibling{s, left}), err
}

// ContractTotal is the sum tree of one proxy contract.
type ContractTotal struct {
	Contract cocoon.Address `json:"contract"`
	Sum
}

// MaxContracts bounds the proxy contracts of one key.
const MaxContracts = 1024

// BalancesRoot is what the anchor holds for all proxy contracts of a key:
// SHA-256(label ‖ number (uint32 BE) ‖ for each: workchain ‖ account hash ‖ tree's
// hash ‖ tree's sum), in ascending order of contracts.
func BalancesRoot(all []ContractTotal) (Hash, error) {
	if len(all) > MaxContracts {
		return Hash{}, fmt.Errorf("%w: %d contracts", ErrBalance, len(all))
	}
	b := binary.BigEndian.AppendUint32([]byte(wire.LabelBalances), uint32(len(all)))
	for i, c := range all {
		if i > 0 && compare(all[i-1].Contract, c.Contract) >= 0 {
			return Hash{}, fmt.Errorf("%w: contracts out of order", ErrBalance)
		}
		b = append(appendAddress(b, c.Contract), c.Hash[:]...)
		b = binary.BigEndian.AppendUint64(b, c.Sum.Sum)
	}
	return sha256.Sum256(b), nil
}

// SortContracts puts totals in the order BalancesRoot asks for.
func SortContracts(all []ContractTotal) {
	slices.SortFunc(all, func(a, b ContractTotal) int { return compare(a.Contract, b.Contract) })
}

func compare(a, b cocoon.Address) int {
	return bytes.Compare(appendAddress(nil, a), appendAddress(nil, b))
}

// BalanceProof shows one party its sum in an anchored epoch.
type BalanceProof struct {
	Proxy    cocoon.Address  `json:"proxy_contract"`
	Contract cocoon.Address  `json:"contract"` // the party's
	Salt     Hash            `json:"salt"`
	Total    uint64          `json:"sum"`
	Path     []Sibling       `json:"path"`
	All      []ContractTotal `json:"contracts"`
}

// Verify checks the proof against the root that the anchor holds.
func (p *BalanceProof) Verify(root Hash) error {
	if len(p.Path) > MaxProof {
		return fmt.Errorf("%w: a path of %d steps", ErrBalance, len(p.Path))
	}
	at := BalanceLeaf(p.Salt, p.Contract, p.Total)
	for _, s := range p.Path {
		l, r := at, s.Sum
		if s.Left {
			l, r = r, l
		}
		var err error
		if at, err = join(l, r); err != nil {
			return err
		}
	}
	i := slices.IndexFunc(p.All, func(c ContractTotal) bool { return c.Contract == p.Proxy })
	if i < 0 || p.All[i].Sum != at {
		return ErrBalance
	}
	switch got, err := BalancesRoot(p.All); {
	case err != nil:
		return err
	case got != root:
		return ErrBalance
	}
	return nil
}
