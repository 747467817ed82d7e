//go:build !tee

package devnet

import (
	"fmt"
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// block is one block of either chain. It is immutable but for what network.mu
// guards: root, state and what is derived from them, which are dropped when
// the block gets old (the log still has the bytes), and where the log has it.
type block struct {
	workchain int32
	ref       extRef // seqno, end LT, hashes
	startLT   uint64
	utime     uint32
	stateHash hash
	top       *block // masterchain: the newest shard block it knows, nil for the zero state
	mcSeqno   uint32 // basechain: the masterchain block that first names it
	txs       []txID // basechain: in order of account and LT
	size      int32  // of the BoC
	at        place  // of the BoC in the log

	root   *cell.Cell
	state  *cell.Cell
	header *cell.Cell // proof of the header, once asked for
	shards *cell.Cell // masterchain: proof of the shard entry in state, once asked for
	boc    []byte     // until it is in the log
	fees   *big.Int   // basechain: fees collected, until the masterchain has them
}

// txID names a transaction of a block.
type txID struct {
	account hash
	lt      uint64
}

func (b *block) seqno() uint32 { return b.ref.seqno }

func (b *block) id() *ton.BlockIDExt {
	return blockIDExt(b.workchain, b.ref.seqno, b.ref.root, b.ref.file)
}

// draft is a block before it has hashes.
type draft struct {
	globalID  int32
	workchain int32
	seqno     uint32
	key       bool
	utime     uint32
	startLT   uint64
	endLT     uint64
	setHash   uint32
	minRef    uint32
	prevKey   uint32
	prev      extRef
	master    *extRef // nil on the masterchain
	flow      *cell.Cell
	extra     *cell.Cell
	from, to  *cell.Cell // states
}

// finish builds the block's cells and serialises it.
func (d draft) finish() (*block, error) {
	update, err := merkleUpdate(d.from, d.to)
	if err != nil {
		return nil, err
	}
	var h tlb.BlockHeader
	h.NotMaster = d.workchain != masterchain
	h.KeyBlock = d.key
	h.Flags = 1
	h.SeqNo = d.seqno
	h.Shard = tlb.ShardIdent{WorkchainID: d.workchain}
	h.GenUtime = d.utime
	h.StartLt, h.EndLt = d.startLT, d.endLT
	h.GenValidatorListHashShort = d.setHash
	h.MinRefMcSeqno = d.minRef
	h.PrevKeyBlockSeqno = d.prevKey
	h.GenSoftware = &tlb.GlobalVersion{Version: globalVersion, Capabilities: capabilities}
	h.PrevRef = tlb.BlkPrevInfo{Prev1: d.prev.tlb()}
	if d.master != nil {
		m := d.master.tlb()
		h.MasterRef = &m
	}
	info, err := h.ToCell()
	if err != nil {
		return nil, fmt.Errorf("block header: %w", err)
	}
	root := cell.BeginCell().MustStoreUInt(0x11ef55aa, 32).MustStoreInt(int64(d.globalID), 32).
		MustStoreRef(info).MustStoreRef(d.flow).MustStoreRef(update).MustStoreRef(d.extra).EndCell()
	boc, err := root.ToBOCWithOptionsErr(fileFlags)
	if err != nil {
		return nil, err
	}
	return &block{
		workchain: d.workchain,
		ref:       extRef{endLT: d.endLT, seqno: d.seqno, root: cellHash(root), file: fileHash(boc)},
		startLT:   d.startLT, utime: d.utime, stateHash: cellHash(d.to),
		root: root, state: d.to, boc: boc, size: int32(len(boc)),
	}, nil
}

// valueFlow is what a block did to the sum of all coins.
type valueFlow struct {
	from, to, imported, exported, feesCollected, feesImported *big.Int
}

func (v valueFlow) cell() *cell.Cell {
	zero := new(big.Int)
	a, c := cell.BeginCell(), cell.BeginCell()
	grams(grams(grams(grams(a, v.from), v.to), v.imported), v.exported)
	grams(grams(grams(grams(c, v.feesImported), zero), zero), zero) // recovered, created, minted
	b := cell.BeginCell().MustStoreUInt(0xb8e48dfb, 32).MustStoreRef(a.EndCell())
	return grams(b, v.feesCollected).MustStoreRef(c.EndCell()).EndCell()
}

// check is the balance every block must keep: nothing is minted or lost.
func (v valueFlow) check() error {
	in := new(big.Int).Add(v.from, v.imported)
	in.Add(in, v.feesImported)
	out := new(big.Int).Add(v.to, v.exported)
	out.Add(out, v.feesCollected)
	if in.Cmp(out) != 0 {
		return fmt.Errorf("value flow does not balance: %d in, %d out (%+v)", in, out, v)
	}
	return nil
}

// blockExtra builds BlockExtra. custom is the masterchain's part, or nil.
func blockExtra(in, out, accounts *cell.Cell, seed hash, custom *cell.Cell) *cell.Cell {
	b := cell.BeginCell().MustStoreUInt(0x4a33f6fd, 32).
		MustStoreRef(in).MustStoreRef(out).MustStoreRef(accounts).
		MustStoreSlice(seed[:], 256).MustStoreSlice(make([]byte, 32), 256)
	return maybeRef(b, custom).EndCell()
}

// transaction finds a transaction's cell in a shard block.
func (b *block) transaction(root *cell.Cell, id txID) (*cell.Cell, error) {
	accounts, err := accountBlocks(root)
	if err != nil {
		return nil, err
	}
	v, err := accounts.Accounts.LoadValue(key256(id.account))
	if err != nil {
		return nil, err
	}
	var ab tlb.AccountBlock
	if err := tlb.LoadFromCell(&ab, v); err != nil {
		return nil, err
	}
	v, err = ab.Transactions.LoadValueByIntKey(new(big.Int).SetUint64(id.lt))
	if err != nil {
		return nil, err
	}
	return v.LoadRefCell()
}

// accountBlocks reads a block's dictionary of transactions.
func accountBlocks(root *cell.Cell) (*tlb.ShardAccountBlocks, error) {
	s, err := root.BeginParse()
	if err != nil {
		return nil, err
	}
	if _, err := s.LoadSlice(64); err != nil {
		return nil, err
	}
	for range 3 { // info, value flow, state update
		if _, err := s.LoadRefCell(); err != nil {
			return nil, err
		}
	}
	extra, err := s.LoadRef()
	if err != nil {
		return nil, err
	}
	for range 2 { // message descriptions
		if _, err := extra.LoadRefCell(); err != nil {
			return nil, err
		}
	}
	s, err = extra.LoadRef()
	if err != nil {
		return nil, err
	}
	var ab tlb.ShardAccountBlocks
	return &ab, tlb.LoadFromCell(&ab, s)
}
