//go:build !tee

package devnet

import (
	"fmt"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// merkleUpdate builds the Merkle update from one state to the next, without
// tracing what collation read: it walks both trees side by side, and what the
// old tree shows anyway is pruned from the new one. Its cost follows the
// change, not the state (spec devnet 5).
func merkleUpdate(from, to *cell.Cell) (*cell.Cell, error) {
	u := updater{
		visited: map[cell.Hash]bool{}, known: map[cell.Hash]bool{}, seen: map[cell.Hash]bool{},
		rebuilt: map[cell.Hash]*cell.Cell{},
	}
	u.known[from.HashKey()] = true
	if err := u.walk(from, to); err != nil {
		return nil, err
	}
	left, err := u.rebuild(from, func(c *cell.Cell) bool { return !u.visited[c.HashKey()] })
	if err != nil {
		return nil, err
	}
	clear(u.rebuilt)
	right, err := u.rebuild(to, func(c *cell.Cell) bool { return u.known[c.HashKey()] })
	if err != nil {
		return nil, err
	}
	return cell.CreateMerkleUpdate(left, right)
}

type updater struct {
	visited map[cell.Hash]bool // old cells shown in full
	known   map[cell.Hash]bool // hashes the old side shows: the visited cells and their children
	seen    map[cell.Hash]bool // new cells walked, each once, whatever the graph
	rebuilt map[cell.Hash]*cell.Cell
}

func (u *updater) walk(o, n *cell.Cell) error {
	oh, nh := o.HashKey(), n.HashKey()
	// Merkle cells inside a contract's data are opaque: below them hashes of
	// other levels count.
	if oh == nh || u.seen[nh] || o.IsSpecial() || n.IsSpecial() {
		return nil
	}
	u.seen[nh] = true
	if !u.visited[oh] {
		u.visited[oh] = true
		for i := range int(o.RefsNum()) {
			c, err := o.PeekRef(i)
			if err != nil {
				return err
			}
			u.known[c.HashKey()] = true
		}
	}
	for i := range int(min(o.RefsNum(), n.RefsNum())) {
		oc, err := o.PeekRef(i)
		if err != nil {
			return err
		}
		nc, err := n.PeekRef(i)
		if err != nil {
			return err
		}
		if u.known[nc.HashKey()] {
			continue
		}
		if err := u.walk(oc, nc); err != nil {
			return err
		}
	}
	return nil
}

// rebuild copies c and everything below it with the cells that prune says
// replaced by pruned branches. Cells without references stay: their pruned
// branch would be larger.
func (u *updater) rebuild(c *cell.Cell, prune func(*cell.Cell) bool) (*cell.Cell, error) {
	h := c.HashKey()
	if r := u.rebuilt[h]; r != nil {
		return r, nil
	}
	r := c
	var err error
	switch {
	case c.RefsNum() == 0:
	case prune(c):
		r, err = cell.CreatePrunedBranch(c, 1, 0)
	case !c.IsSpecial():
		r, err = u.copyCell(c, prune)
	}
	if err != nil {
		return nil, fmt.Errorf("merkle update: %w", err)
	}
	u.rebuilt[h] = r
	return r, nil
}

func (u *updater) copyCell(c *cell.Cell, prune func(*cell.Cell) bool) (*cell.Cell, error) {
	refs := make([]*cell.Cell, c.RefsNum())
	for i := range refs {
		child, err := c.PeekRef(i)
		if err != nil {
			return nil, err
		}
		if refs[i], err = u.rebuild(child, prune); err != nil {
			return nil, err
		}
	}
	return withRefs(c, refs)
}

// withRefs is c with other references. The level follows from them.
func withRefs(c *cell.Cell, refs []*cell.Cell) (*cell.Cell, error) {
	s, err := c.BeginParseWithoutTrace()
	if err != nil {
		return nil, err
	}
	bits, err := s.LoadSlice(c.BitsSize())
	if err != nil {
		return nil, err
	}
	b := cell.BeginCell()
	if err := b.StoreSlice(bits, c.BitsSize()); err != nil {
		return nil, err
	}
	for _, r := range refs {
		if err := b.StoreRef(r); err != nil {
			return nil, err
		}
	}
	return b.EndCell(), nil
}

// checkUpdate verifies that update leads from one state to the other: what a
// validator checks first.
func checkUpdate(from, update, to *cell.Cell) error {
	if err := cell.ValidateMerkleUpdate(update); err != nil {
		return fmt.Errorf("merkle update is not valid: %w", err)
	}
	got, _, err := cell.ApplyMerkleUpdate(from, update)
	if err != nil {
		return fmt.Errorf("merkle update does not apply: %w", err)
	}
	if got.HashKey() != to.HashKey() {
		return fmt.Errorf("merkle update leads to state %x, want %x", got.Hash(), to.Hash())
	}
	return nil
}
