//go:build !tee

package devnet

import (
	"fmt"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// blockProof links a block the client trusts to another masterchain block, or
// back to the zero state. There is one key block and one validator set for
// good, so a chain has at most two links: back to the key block, and from
// there forward by signature.
func (n *network) blockProof(q ton.GetBlockProof) (tl.Serializable, error) {
	known := n.block(q.KnownBlock)
	target, _ := n.latest()
	if q.Mode&1 != 0 {
		if n.isZeroState(q.TargetBlock) {
			return n.zeroProof(known)
		}
		target = n.block(q.TargetBlock)
	}
	if known == nil || target == nil || known.workchain != masterchain || target.workchain != masterchain {
		return nil, errNoBlock
	}
	res := ton.PartialBlockProof{Complete: true, From: known.id(), To: target.id()}
	at := known
	if known.seqno() < target.seqno() {
		at = n.key
	} else {
		at = target
	}
	if at != known {
		dest, err := n.headerProof(at)
		if err != nil {
			return nil, err
		}
		link, err := n.linkBack(known, at.id())
		if err != nil {
			return nil, err
		}
		link.DestProof = dest.ToBOC()
		res.Steps = append(res.Steps, link)
	}
	if at != target {
		link, err := n.linkForward(at, target)
		if err != nil {
			return nil, err
		}
		res.Steps = append(res.Steps, link)
	}
	return res, nil
}

func (n *network) isZeroState(id *ton.BlockIDExt) bool {
	return id != nil && id.Equals(n.zeroID())
}

// zeroProof shows the zero state in the list of blocks before a block. It has
// no header to prove.
func (n *network) zeroProof(known *block) (tl.Serializable, error) {
	if known == nil || known.workchain != masterchain {
		return nil, errNoBlock
	}
	zero := n.zeroID()
	link, err := n.linkBack(known, zero)
	if err != nil {
		return nil, err
	}
	return ton.PartialBlockProof{Complete: true, From: known.id(), To: zero, Steps: []any{link}}, nil
}

// linkBack shows an earlier block in the state after from. The proof of its
// header is left to the caller.
func (n *network) linkBack(from *block, to *ton.BlockIDExt) (*ton.BlockLinkBackward, error) {
	root, err := n.blockRoot(from)
	if err != nil {
		return nil, err
	}
	header, err := n.headerProof(from)
	if err != nil {
		return nil, err
	}
	var inState *cell.Cell
	if state := n.stateRoot(from); state != nil {
		inState, err = oldBlockProof(state, to.SeqNo)
	} else {
		inState, err = n.forgottenState(root, to.SeqNo)
	}
	if err != nil {
		return nil, err
	}
	return &ton.BlockLinkBackward{
		// The zero state counts as a key block, as in the list itself.
		ToKeyBlock: to.SeqNo <= 1, From: from.id(), To: to, Proof: header.ToBOC(), StateProof: inState.ToBOC(),
	}, nil
}

func (n *network) linkForward(from, to *block) (*ton.BlockLinkForward, error) {
	dest, err := n.headerProof(to)
	if err != nil {
		return nil, err
	}
	root, err := n.blockRoot(from)
	if err != nil {
		return nil, err
	}
	config, err := validatorProof(root)
	if err != nil {
		return nil, err
	}
	sig, err := n.sign(to.ref)
	if err != nil {
		return nil, err
	}
	return &ton.BlockLinkForward{
		ToKeyBlock: to.seqno() == 1, From: from.id(), To: to.id(), DestProof: dest.ToBOC(), ConfigProof: config.ToBOC(),
		SignatureSet: ton.SignatureSetOrdinary{
			ValidatorSetHash: int32(n.setHash), Signatures: []ton.Signature{{NodeIDShort: n.nodeID, Signature: sig}},
		},
	}, nil
}

// forgottenState proves an earlier block in the state after a block whose
// state is no longer kept, for a client that was away for long. The block's
// Merkle update shows what the block changed, among it the way to the newest
// entry of the list of old blocks. The parts of the list beside that way are
// complete and stand unchanged in today's state, so today's proof of the same
// entry fills in what the update pruned.
func (n *network) forgottenState(root *cell.Cell, seqno uint32) (*cell.Cell, error) {
	head, _ := n.latest()
	proof, err := oldBlockProof(n.stateRoot(head), seqno)
	if err != nil {
		return nil, err
	}
	shown := map[cell.Hash]*cell.Cell{}
	collectShown(proof.MustPeekRef(0), shown)
	update, err := root.PeekRef(2)
	if err != nil {
		return nil, err
	}
	body, err := update.PeekRef(1)
	if err != nil {
		return nil, err
	}
	if body, err = graft(body, shown); err != nil {
		return nil, fmt.Errorf("proof from an old block: %w", err)
	}
	return cell.CreateMerkleProof(body)
}

// collectShown maps the hashes a proof's unpruned cells stand for to them.
func collectShown(c *cell.Cell, shown map[cell.Hash]*cell.Cell) {
	if c.IsSpecial() || shown[c.HashKey(0)] != nil {
		return
	}
	shown[c.HashKey(0)] = c
	for i := range int(c.RefsNum()) {
		collectShown(c.MustPeekRef(i), shown)
	}
}

// graft replaces pruned branches of c by what is shown elsewhere.
func graft(c *cell.Cell, shown map[cell.Hash]*cell.Cell) (*cell.Cell, error) {
	if c.IsSpecial() {
		if r := shown[c.HashKey(0)]; r != nil {
			return r, nil
		}
		return c, nil
	}
	refs := make([]*cell.Cell, c.RefsNum())
	for i := range refs {
		r, err := c.PeekRef(i)
		if err != nil {
			return nil, err
		}
		if refs[i], err = graft(r, shown); err != nil {
			return nil, err
		}
	}
	return withRefs(c, refs)
}
