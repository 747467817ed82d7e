//go:build !tee

package devnet

import (
	"fmt"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// blockProof links a block the client trusts to another masterchain block.
// There is one key block and one validator set for good, so a chain has at
// most two links: back to the key block, and from there forward by signature.
func (n *network) blockProof(q ton.GetBlockProof) (tl.Serializable, error) {
	known := n.block(q.KnownBlock)
	target, _ := n.latest()
	if q.Mode&1 != 0 {
		target = n.block(q.TargetBlock)
	}
	if known == nil || target == nil || known.workchain != masterchain || target.workchain != masterchain {
		return nil, errNoBlock
	}
	res := ton.PartialBlockProof{Complete: true, From: known.id(), To: target.id()}
	at := known
	if known.seqno() < target.seqno() {
		at = n.block1()
	} else {
		at = target
	}
	if at != known {
		link, err := n.linkBack(known, at)
		if err != nil {
			return nil, err
		}
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

func (n *network) linkBack(from, to *block) (*ton.BlockLinkBackward, error) {
	dest, err := n.headerProof(to)
	if err != nil {
		return nil, err
	}
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
		inState, err = oldBlockProof(state, to.seqno())
	} else {
		inState, err = n.forgottenState(root, to.seqno())
	}
	if err != nil {
		return nil, err
	}
	return &ton.BlockLinkBackward{
		ToKeyBlock: to.seqno() == 1, From: from.id(), To: to.id(),
		DestProof: dest.ToBOC(), Proof: header.ToBOC(), StateProof: inState.ToBOC(),
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
