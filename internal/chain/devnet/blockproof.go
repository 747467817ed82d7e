//go:build !tee

package devnet

import (
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
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
	header, err := headerProof(root)
	if err != nil {
		return nil, err
	}
	state := n.stateRoot(from)
	if state == nil {
		return nil, lsError(codeNotReady, "the state of block %d is no longer kept", from.seqno())
	}
	inState, err := oldBlockProof(state, to.seqno())
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
