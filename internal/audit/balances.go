package audit

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/receipt"
)

// balances are the sum trees of one epoch: of clients and of workers, one of
// each for every proxy contract.
type balances struct {
	epoch                    uint32
	clients, workers         []sumTree
	clientsRoot, workersRoot receipt.Hash
}

// sumTree has its leaves in shuffled order.
type sumTree struct {
	contract cocoon.Address
	parties  []party
	leaves   []receipt.Sum
	total    receipt.Sum
}

type party struct {
	contract cocoon.Address
	sum      uint64
	salt     receipt.Hash
	order    receipt.Hash
}

// The sides, as they go into salts.
const (
	sideClients byte = 0
	sideWorkers byte = 1
)

// derive is HMAC-SHA-256(salt key, label ‖ use ‖ side ‖ epoch (uint32 BE) ‖
// contract): use 0 salts a leaf, use 1 shuffles.
func derive(key [32]byte, use, side byte, epoch uint32, contract cocoon.Address) (out receipt.Hash) {
	h := hmac.New(sha256.New, key[:])
	b := append([]byte(wire.LabelBalanceSalt), use, side)
	h.Write(putAddress(binary.BigEndian.AppendUint32(b, epoch), contract))
	h.Sum(out[:0])
	return out
}

func newSumTree(key [32]byte, side byte, epoch uint32, contract cocoon.Address, sums map[cocoon.Address]uint64) (sumTree, error) {
	t := sumTree{contract: contract}
	for who, sum := range sums {
		t.parties = append(t.parties, party{who, sum, derive(key, 0, side, epoch, who), derive(key, 1, side, epoch, who)})
	}
	slices.SortFunc(t.parties, func(a, b party) int { return bytes.Compare(a.order[:], b.order[:]) })
	for _, p := range t.parties {
		t.leaves = append(t.leaves, receipt.BalanceLeaf(p.salt, p.contract, p.sum))
	}
	var err error
	t.total, err = receipt.SumTree(t.leaves)
	return t, err
}

// balancesAt builds the trees of an epoch from the counters as they are (back
// 0), as they were at the newest epoch (1), or at the one before (2). The lock
// is held.
func (l *Log) balancesAt(epoch uint32, back int) (*balances, error) {
	out := &balances{epoch: epoch}
	for contract, b := range l.books {
		for _, side := range []struct {
			id   byte
			sums []map[cocoon.Address]uint64 // each says what was, over the one before it
			to   *[]sumTree
		}{
			{sideClients, []map[cocoon.Address]uint64{b.clients, b.oldClients, b.olderClients}, &out.clients},
			{sideWorkers, []map[cocoon.Address]uint64{b.workers, b.oldWorkers, b.olderWorkers}, &out.workers},
		} {
			sums := map[cocoon.Address]uint64{}
			for _, m := range side.sums[:back+1] {
				maps.Copy(sums, m)
			}
			maps.DeleteFunc(sums, func(_ cocoon.Address, n uint64) bool { return n == 0 })
			if len(sums) == 0 {
				continue
			}
			t, err := newSumTree(l.salt, side.id, epoch, contract, sums)
			if err != nil {
				return nil, err
			}
			*side.to = append(*side.to, t)
		}
	}
	var err error
	if out.clientsRoot, err = rootOf(out.clients); err == nil {
		out.workersRoot, err = rootOf(out.workers)
	}
	return out, err
}

func totals(trees []sumTree) []receipt.ContractTotal {
	all := []receipt.ContractTotal{}
	for _, t := range trees {
		all = append(all, receipt.ContractTotal{Contract: t.contract, Sum: t.total})
	}
	receipt.SortContracts(all)
	return all
}

func rootOf(trees []sumTree) (receipt.Hash, error) { return receipt.BalancesRoot(totals(trees)) }

// Totals are the public part of an epoch's balances: what the sum trees of
// each proxy contract come to.
type Totals struct {
	Epoch   uint32                  `json:"epoch"`
	Clients []receipt.ContractTotal `json:"clients"`
	Workers []receipt.ContractTotal `json:"workers"`
}

// Totals returns those of an epoch, which must be one of the newest two.
func (l *Log) Totals(epoch uint32) (Totals, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t, err := l.treesOf(epoch)
	if err != nil {
		return Totals{}, err
	}
	return Totals{epoch, totals(t.clients), totals(t.workers)}, nil
}

func (l *Log) treesOf(epoch uint32) (*balances, error) {
	for _, t := range l.trees {
		if t != nil && t.epoch == epoch {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%w: balances of epoch %d are not kept, only those of the newest two", ErrNotFound, epoch)
}

// Balance proves a party's sum in an epoch. The proof holds the party's salt,
// so it is for that party alone.
func (l *Log) Balance(epoch uint32, who cocoon.Address) (receipt.BalanceProof, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t, err := l.treesOf(epoch)
	if err != nil {
		return receipt.BalanceProof{}, err
	}
	for _, side := range [][]sumTree{t.clients, t.workers} {
		for _, tr := range side {
			i := slices.IndexFunc(tr.parties, func(p party) bool { return p.contract == who })
			if i < 0 {
				continue
			}
			path, err := receipt.SumPath(tr.leaves, i)
			p := tr.parties[i]
			return receipt.BalanceProof{Proxy: tr.contract, Contract: who, Salt: p.salt, Total: p.sum, Path: path, All: totals(side)}, err
		}
	}
	return receipt.BalanceProof{}, fmt.Errorf("%w: no balance of %s in epoch %d", ErrNotFound, who, epoch)
}
