//go:build !tee

package devnet

import (
	"crypto/ed25519"
	"fmt"
	"math/big"

	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// collateMaster builds the next masterchain block. shard is the new shard
// block it registers, or nil if there is none. The first block is the key
// block: it carries the configuration, which never changes afterwards.
func (c *network) collateMaster(now uint32, shard *block) (*block, *masterState, error) {
	fail := func(err error) (*block, *masterState, error) {
		return nil, nil, fmt.Errorf("devnet: masterchain block: %w", err)
	}
	prevRef, prev := c.masterRef(), c.master
	seqno := prevRef.seqno + 1
	key := seqno == 1
	top := c.topRef()
	var fees = new(big.Int)
	if shard != nil {
		top, fees = shard.ref, shard.fees
	}
	start := nextStart(prevRef.endLT, top.endLT)

	shardHashes := prev.shardHashes
	feesDict, err := tlb.NewShardFeesAugDict()
	if err != nil {
		return fail(err)
	}
	switch {
	case shard != nil:
		if shardHashes, err = shardEntry(shard.ref, seqno, shard.startLT, shard.utime, seqno-1, fees); err != nil {
			return fail(err)
		}
		k := cell.BeginCell().MustStoreInt(int64(basechain), 32).MustStoreUInt(1<<63, 64).EndCell()
		if err := feesDict.Set(k, grams(grams(cell.BeginCell(), fees), new(big.Int)).EndCell()); err != nil {
			return fail(err)
		}
	case key:
		if shardHashes, err = shardEntry(top, seqno, top.endLT, c.gen.time, 0, fees); err != nil {
			return fail(err)
		}
	}

	signatures := cell.NewDict(16)
	if !key {
		sig, err := c.sign(prevRef)
		if err != nil {
			return fail(err)
		}
		pair := cell.BeginCell().MustStoreSlice(c.nodeID, 256).MustStoreUInt(5, 4).MustStoreSlice(sig, 512).EndCell()
		if err := signatures.SetIntKey(new(big.Int), pair); err != nil {
			return fail(err)
		}
	}
	feesCell, err := feesDict.ToCell()
	if err != nil {
		return fail(err)
	}
	details := cell.BeginCell().MustStoreDict(signatures).MustStoreBoolBit(false).MustStoreBoolBit(false).EndCell()
	custom := maybeRef(cell.BeginCell().MustStoreUInt(0xcca5, 16).MustStoreBoolBit(key), shardHashes).
		MustStoreBuilder(feesCell.ToBuilder()).MustStoreRef(details)
	if key {
		storeConfig(custom, prev.config)
	}
	empty, err := emptyDescriptions()
	if err != nil {
		return fail(err)
	}

	old := prev.prevBlocks.Copy()
	// The zero state counts as a key block: it has a configuration.
	entry := prevRef.store(cell.BeginCell().MustStoreBoolBit(prevRef.seqno <= 1)).EndCell()
	// KeyExtBlkRef puts the end LT right after the key bit, where the
	// augmentation reads it.
	if err := old.SetIntKey(big.NewInt(int64(prevRef.seqno)), entry); err != nil {
		return fail(err)
	}
	var keyRef *extRef
	if !key {
		keyRef = &c.key.ref
	}
	extra, err := masterExtra(shardHashes, prev.config, c.setHash, old, key, keyRef, prev.supply)
	if err != nil {
		return fail(err)
	}
	next := &masterState{
		shardHashes: shardHashes, config: prev.config, prevBlocks: old, supply: prev.supply,
		libraries: prev.libraries, fees: new(big.Int).Add(prev.fees, fees),
	}
	queue, err := tlb.NewOutMsgQueueAugDict()
	if err != nil {
		return fail(err)
	}
	info, err := queueInfo(queue, processed{}, 0)
	if err != nil {
		return fail(err)
	}
	minRef := seqno - 1
	next.root = stateFields{
		globalID: c.gen.globalID, workchain: masterchain, seqno: seqno, utime: now, lt: start + 1, minRef: minRef,
		queue: info, accounts: c.noAccounts, balance: new(big.Int), fees: next.fees, libraries: next.libraries, extra: extra,
	}.cell()
	flow := valueFlow{
		from: new(big.Int), to: new(big.Int), imported: new(big.Int), exported: new(big.Int),
		feesCollected: fees, feesImported: fees,
	}
	b, err := draft{
		globalID: c.gen.globalID, workchain: masterchain, seqno: seqno, key: key, utime: now,
		startLT: start, endLT: start + 1, setHash: c.setHash, minRef: minRef, prevKey: min(seqno-1, 1),
		prev: prevRef, flow: flow.cell(),
		extra: blockExtra(empty.in, empty.out, empty.blocks, c.randSeed(), custom.EndCell()), from: prev.root, to: next.root,
	}.finish()
	if err != nil {
		return fail(err)
	}
	if c.cfg.SelfCheck {
		if err := c.checkBlock(b, prev.root); err != nil {
			return fail(err)
		}
	}
	return b, next, nil
}

// shardEntry is the masterchain's record of the shard's newest block, as the
// root of the dictionary over workchains.
func shardEntry(ref extRef, regSeqno uint32, startLT uint64, utime, minRef uint32, fees *big.Int) (*cell.Cell, error) {
	money := grams(grams(cell.BeginCell(), fees), new(big.Int)).EndCell()
	leaf := cell.BeginCell().MustStoreUInt(0, 1).MustStoreUInt(0xa, 4).
		MustStoreUInt(uint64(ref.seqno), 32).MustStoreUInt(uint64(regSeqno), 32).
		MustStoreUInt(startLT, 64).MustStoreUInt(ref.endLT, 64).
		MustStoreSlice(ref.root[:], 256).MustStoreSlice(ref.file[:], 256).
		MustStoreUInt(0, 5+3).    // split and merge wishes, flags
		MustStoreUInt(0, 32).     // next catchain seqno
		MustStoreUInt(1<<63, 64). // next validator shard
		MustStoreUInt(uint64(minRef), 32).MustStoreUInt(uint64(utime), 32).
		MustStoreUInt(0, 1). // no split or merge ahead
		MustStoreRef(money).EndCell()
	d := cell.NewDict(32)
	if err := d.SetIntKey(big.NewInt(int64(basechain)), cell.BeginCell().MustStoreRef(leaf).EndCell()); err != nil {
		return nil, err
	}
	return d.AsCell(), nil
}

// emptyDescriptions are the message and account dictionaries of a block
// without transactions.
func emptyDescriptions() (shardCells, error) {
	var cells shardCells
	in, err := tlb.NewInMsgDescrAugDict()
	if err != nil {
		return cells, err
	}
	out, err := tlb.NewOutMsgDescrAugDict()
	if err != nil {
		return cells, err
	}
	blocks, err := tlb.NewShardAccountBlocksAugDict()
	if err != nil {
		return cells, err
	}
	if cells.in, err = in.ToCell(); err != nil {
		return cells, err
	}
	if cells.out, err = out.ToCell(); err != nil {
		return cells, err
	}
	cells.blocks, err = blocks.ToCell()
	return cells, err
}

// sign is the validator's signature of a block. ed25519 is deterministic, so
// signatures need not be stored.
func (c *network) sign(ref extRef) ([]byte, error) {
	b, err := tl.Serialize(ton.BlockID{RootHash: ref.root[:], FileHash: ref.file[:]}, true)
	if err != nil {
		return nil, err
	}
	return ed25519.Sign(c.validator, b), nil
}

// nodeID is the short id of a key, by which signatures name their signer.
func nodeID(pub []byte) ([]byte, error) { return tl.Hash(keys.PublicKeyED25519{Key: pub}) }

// checkBlock verifies a block as a validator would before signing: that its
// bytes are what the hashes say and its Merkle update leads from the previous
// state to its own.
func (c *network) checkBlock(b *block, prev *cell.Cell) error {
	root, err := cell.FromBOC(b.boc)
	if err != nil {
		return fmt.Errorf("own block does not parse: %w", err)
	}
	if cellHash(root) != b.ref.root {
		return fmt.Errorf("own block has another root hash")
	}
	var parsed tlb.Block
	if err := tlb.Parse(&parsed, root); err != nil {
		return fmt.Errorf("own block does not parse: %w", err)
	}
	if parsed.BlockInfo.SeqNo != b.ref.seqno || parsed.BlockInfo.EndLt != b.ref.endLT {
		return fmt.Errorf("own block has another header")
	}
	return checkUpdate(prev, root.MustPeekRef(2), b.state)
}
