//go:build !tee

package devnet

import (
	"fmt"
	"math/big"
	"slices"
)

// Blocks that are older than Config.KeepBlocks and Config.KeepFor are pruned:
// whole segments of the log, and with each what the indexes know of its
// blocks. A segment goes only when a later state is in a snapshot, for without
// the segment that is where the next start begins. The key block stays, so
// whoever trusts it or the zero state can be shown every block that is kept.

// segmentsKept is how many segments hold KeepBlocks blocks; one more is
// there at times.
const segmentsKept = 8

// blockList is a run of blocks by seqno.
type blockList struct {
	first  uint32 // what was before it is pruned
	blocks []*block
}

// at returns nil if the block is not there.
func (l *blockList) at(seqno uint32) *block {
	if seqno < l.first || seqno >= l.next() {
		return nil
	}
	return l.blocks[seqno-l.first]
}

// last is nil if there is none.
func (l *blockList) last() *block { return l.at(l.next() - 1) }

// next is the number of the block to come.
func (l *blockList) next() uint32 { return l.first + uint32(len(l.blocks)) }

// drop removes the blocks before seqno and returns them.
func (l *blockList) drop(seqno uint32) []*block {
	gone := l.blocks[:seqno-l.first]
	l.first, l.blocks = seqno, slices.Clone(l.blocks[len(gone):])
	return gone
}

// beginLocked prepares the empty indexes for a log that begins with masterchain
// block first.
func (n *network) beginLocked(first uint32, shard, key *block) {
	n.key = key
	n.mcs.first, n.oldest = first, first
	n.shards = blockList{shard.seqno(), []*block{shard}}
	shard.mcSeqno = first
	n.indexLocked(shard)
}

// beginSegment starts a new segment of the log when the last one is full.
func (n *network) beginSegment() error {
	next := n.mcs.next()
	current := n.store.segments[len(n.store.segments)-1].first
	if next-current < uint32(max(n.cfg.KeepBlocks/segmentsKept, 2)) {
		return nil
	}
	var repeated []*block
	for _, b := range []*block{n.top(), n.key} {
		boc, err := n.blockBytes(b)
		if err != nil {
			return err
		}
		repeated = append(repeated, &block{
			workchain: b.workchain, ref: b.ref, startLT: b.startLT, utime: b.utime, stateHash: b.stateHash,
			txs: b.txs, size: b.size, boc: boc,
		})
	}
	if err := n.store.begin(next, repeated); err != nil {
		n.failed = fmt.Errorf("devnet: the block log cannot be continued, the chain stops: %w", err)
		return n.failed
	}
	n.step("a segment is begun")
	return nil
}

// prune deletes the oldest segments, if everything in them is old. It needs
// n.build.
func (n *network) prune() error {
	for len(n.store.segments) > 1 {
		next := n.store.segments[1]
		head, last := n.head(), n.mcs.at(next.first-1)
		if last.seqno() >= n.snapshotAt || head.seqno()-last.seqno() < uint32(n.cfg.KeepBlocks) ||
			int64(head.utime)-int64(last.utime) < int64(n.cfg.KeepFor.Seconds()) {
			return nil
		}
		n.mu.Lock()
		n.dropLocked(next)
		n.mu.Unlock()
		if err := n.store.removeFirst(); err != nil {
			return fmt.Errorf("devnet: pruning the block log: %w", err)
		}
		n.step("a segment is removed")
		n.log.Debug("old blocks deleted", "before", next.first)
	}
	return nil
}

// dropLocked forgets the blocks before a segment, but for those it repeats.
func (n *network) dropLocked(s *segment) {
	shard, key := s.repeated[0], s.repeated[1]
	n.key.at = key.at
	n.shards.at(shard.seqno()).at = shard.at
	n.mcs.drop(s.first)
	gone := map[hash]uint64{} // the last LT of accounts
	for _, b := range n.shards.drop(shard.seqno()) {
		for _, t := range b.txs {
			gone[t.account] = t.lt
		}
	}
	for account, lt := range gone {
		refs := n.txs[account]
		i := slices.IndexFunc(refs, func(r txRef) bool { return r.lt > lt })
		if i < 0 {
			delete(n.txs, account)
		} else {
			n.txs[account] = slices.Clone(refs[i:])
		}
	}
}

// loadHundreds looks up what contracts may ask of blocks that are pruned.
func (n *network) loadHundreds() error {
	last := n.masterRef().seqno
	for s := last / 100 * 100; s > 0 && last-s < 1700; s -= 100 {
		if _, ok := n.hundreds[s]; ok {
			continue
		}
		v, err := n.master.prevBlocks.LoadValueByIntKey(new(big.Int).SetUint64(uint64(s)))
		if err != nil {
			return fmt.Errorf("old block %d: %w", s, err)
		}
		if _, err := v.LoadBoolBit(); err != nil {
			return err
		}
		var ref extRef
		if ref.endLT, err = v.LoadUInt(64); err != nil {
			return err
		}
		seqno, err := v.LoadUInt(32)
		if err != nil {
			return err
		}
		hashes, err := v.LoadSlice(512)
		if err != nil {
			return err
		}
		ref.seqno, ref.root, ref.file = uint32(seqno), hash(hashes[:32]), hash(hashes[32:])
		n.hundreds[s] = ref
	}
	return nil
}

// step lets tests see the directory as it is between two steps.
func (n *network) step(name string) {
	if n.cfg.testOnlyStep != nil {
		n.cfg.testOnlyStep(name)
	}
}
