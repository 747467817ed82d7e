package access

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// This file is everything that decides whether something is proven. Nothing
// in it talks to a server or remembers anything.

// blockID is a masterchain block.
type blockID struct {
	seqno      uint32
	root, file [32]byte
}

func (b blockID) ext() *ton.BlockIDExt {
	return &ton.BlockIDExt{Workchain: masterchain, Shard: fullShard, SeqNo: b.seqno, RootHash: bytes.Clone(b.root[:]), FileHash: bytes.Clone(b.file[:])}
}

func (b blockID) String() string { return fmt.Sprintf("%d (%x…)", b.seqno, b.root[:4]) }

// masterID reads a server's block id, which must be of the masterchain.
func masterID(e *ton.BlockIDExt) (blockID, error) {
	if e == nil || e.Workchain != masterchain || e.Shard != fullShard || len(e.RootHash) != 32 || len(e.FileHash) != 32 {
		return blockID{}, noted(ErrMalformed, "not the id of a masterchain block")
	}
	return blockID{seqno: e.SeqNo, root: [32]byte(e.RootHash), file: [32]byte(e.FileHash)}, nil
}

// header is what a proven masterchain block says of itself.
type header struct {
	id       blockID
	time     time.Time
	globalID int32
	key      bool // holds the validators that sign what follows
}

// checkHeader reads the header of block id from a proof of its root hash. A
// signature covers the hashes only, so the number is compared here.
func checkHeader(proof []byte, id blockID) (header, error) {
	root, err := cell.FromBOC(proof)
	if err != nil {
		return header{}, noted(ErrForged, fmt.Sprintf("header of block %s: %v", id, err))
	}
	block, err := ton.CheckBlockProof(root, id.root[:])
	if err != nil {
		return header{}, noted(ErrForged, fmt.Sprintf("header of block %s: %v", id, err))
	}
	info := &block.BlockInfo
	if info.NotMaster || info.SeqNo != id.seqno || info.Shard.WorkchainID != masterchain || info.Shard.PrefixBits != 0 {
		return header{}, noted(ErrForged, fmt.Sprintf("block %s has the header of block %d of workchain %d", id, info.SeqNo, info.Shard.WorkchainID))
	}
	return header{id: id, time: time.Unix(int64(info.GenUtime), 0), globalID: block.GlobalID, key: info.KeyBlock}, nil
}

// checkFirst verifies that the proven block 1 follows the zero state.
func checkFirst(proof []byte, first, zero blockID) (header, error) {
	h, err := checkHeader(proof, first)
	if err != nil {
		return header{}, err
	}
	root, err := cell.FromBOC(proof)
	if err != nil {
		return header{}, noted(ErrForged, err)
	}
	block, err := ton.CheckBlockProof(root, first.root[:])
	if err != nil {
		return header{}, noted(ErrForged, err)
	}
	prev := block.BlockInfo.PrevRef
	if prev.Pruned || prev.Prev1.SeqNo != 0 || first.seqno != 1 {
		return header{}, noted(ErrForged, "the header of block 1 does not show what is before it")
	}
	if !bytes.Equal(prev.Prev1.RootHash, zero.root[:]) || !bytes.Equal(prev.Prev1.FileHash, zero.file[:]) {
		return header{}, noted(ErrFork, fmt.Sprintf("zero state %x… is asked for, the chain begins with %x…", zero.root[:4], prev.Prev1.RootHash[:4]))
	}
	return h, nil
}

// checkForward verifies that the validators named in the key block from have
// signed the later block that the link ends in.
func checkForward(from blockID, link *ton.BlockLinkForward) (header, error) {
	to, err := masterID(link.To)
	if err != nil {
		return header{}, err
	}
	fail := func(err any) (header, error) {
		return header{}, noted(ErrForged, fmt.Sprintf("link from block %s forward to %s: %v", from, to, err))
	}
	configProof, err := cell.FromBOC(link.ConfigProof)
	if err != nil {
		return fail(err)
	}
	destProof, err := cell.FromBOC(link.DestProof)
	if err != nil {
		return fail(err)
	}
	if err := ton.CheckForwardBlockProof(from.ext(), to.ext(), link.ToKeyBlock, configProof, destProof, link.SignatureSet); err != nil {
		return fail(err)
	}
	return checkHeader(link.DestProof, to)
}

// checkBackward verifies that the state of the proven block from lists the
// earlier block that the link ends in. The zero state (seqno 0) has no header:
// only its id is filled then.
func checkBackward(from blockID, link *ton.BlockLinkBackward) (header, error) {
	to, err := masterID(link.To)
	if err != nil {
		return header{}, err
	}
	fail := func(err any) (header, error) {
		return header{}, noted(ErrForged, fmt.Sprintf("link from block %s back to %s: %v", from, to, err))
	}
	if to.seqno >= from.seqno {
		return fail("it does not go back")
	}
	blockProof, err := cell.FromBOC(link.Proof)
	if err != nil {
		return fail(err)
	}
	stateProof, err := cell.FromBOC(link.StateProof)
	if err != nil {
		return fail(err)
	}
	extra, err := ton.CheckShardMcStateExtraProof(from.ext(), []*cell.Cell{blockProof, stateProof})
	if err != nil {
		return fail(err)
	}
	listed, err := prevBlock(extra, to.seqno)
	if err != nil {
		return fail(err)
	}
	if listed.id != to {
		// Proven: this is another chain than the one asked about.
		return header{}, noted(ErrFork, fmt.Sprintf("block %s is asked for, the chain has block %s", to, listed.id))
	}
	if to.seqno == 0 {
		return header{id: to, key: true}, nil
	}
	h, err := checkHeader(link.DestProof, to)
	if err == nil && h.key != listed.key {
		return fail("it is a key block in one place and not in the other")
	}
	return h, err
}

// prevBlock looks a block up in the list of earlier blocks that a proven
// masterchain state carries.
func prevBlock(extra *tlb.McStateExtra, seqno uint32) (header, error) {
	s, err := extra.Info.BeginParse()
	if err != nil {
		return header{}, err
	}
	var info tlb.McStateExtraBlockInfo
	if err := tlb.LoadFromCellAsProof(&info, s); err != nil {
		return header{}, err
	}
	value, _, err := info.PrevBlocks.LoadValueExtraByIntKey(big.NewInt(int64(seqno)))
	if err != nil {
		return header{}, fmt.Errorf("earlier blocks: %w", err)
	}
	var ref tlb.KeyExtBlkRef
	if err := tlb.LoadFromCellAsProof(&ref, value); err != nil {
		return header{}, err
	}
	if ref.BlkRef.SeqNo != seqno || len(ref.BlkRef.RootHash) != 32 || len(ref.BlkRef.FileHash) != 32 {
		return header{}, errors.New("earlier blocks: malformed entry")
	}
	id := blockID{seqno: seqno, root: [32]byte(ref.BlkRef.RootHash), file: [32]byte(ref.BlkRef.FileHash)}
	return header{id: id, key: ref.IsKey}, nil
}

// checkAccount verifies the state of addr in the proven block at. Absence is
// proven, too: a proof that merely does not show the account is forged.
func checkAccount(at header, addr cocoon.Address, answer *ton.AccountState) (Account, error) {
	acc := Account{Address: addr, Block: at.block()}
	fail := func(err any) (Account, error) {
		return Account{}, noted(ErrForged, fmt.Sprintf("account %s in block %s: %v", addr.Raw(), at.id, err))
	}
	if id, err := masterID(answer.ID); err != nil || id != at.id {
		return fail("it is proven in another block than asked")
	}
	tonAddr := address.NewAddress(0, byte(addr.Workchain), addr.Hash[:])
	shardRoot := at.id.root[:]
	if addr.Workchain != masterchain {
		if err := ton.CheckShardInMasterProofForAccount(at.id.ext(), answer.ShardProof, answer.Shard, tonAddr); err != nil {
			return fail(err)
		}
		shardRoot = answer.Shard.RootHash
	}
	state, err := ton.CheckBlockShardStateProof(answer.Proof, shardRoot)
	if err != nil {
		return fail(err)
	}
	if state.Accounts.ShardAccounts == nil {
		return fail("the proof shows no accounts")
	}
	key := cell.BeginCell().MustStoreSlice(addr.Hash[:], 256).EndCell()
	value, _, err := state.Accounts.ShardAccounts.LoadValueExtra(key)
	if errors.Is(err, cell.ErrNoSuchKeyInDict) {
		if answer.State != nil {
			return fail("a state is given of an account that does not exist")
		}
		return acc, nil
	}
	if err != nil { // the path is cut out of the proof
		return fail(err)
	}
	var shard tlb.ShardAccount
	if err := tlb.LoadFromCell(&shard, value); err != nil {
		return fail(err)
	}
	if answer.State == nil {
		return fail("the account exists and no state is given")
	}
	if answer.State.Level() != 0 || shard.Account.HashKey(0) != answer.State.HashKey() {
		return fail("the state given is not the one proven")
	}
	return readAccount(acc, &shard, answer.State)
}

// readAccount fills acc from a proven account cell.
func readAccount(acc Account, shard *tlb.ShardAccount, root *cell.Cell) (Account, error) {
	var st tlb.AccountState
	if err := tlb.Parse(&st, root); err != nil {
		return Account{}, noted(ErrMalformed, fmt.Sprintf("account %s: %v", acc.Address.Raw(), err))
	}
	acc.LastTxLT = shard.LastTransLT
	if len(shard.LastTransHash) == 32 {
		acc.LastTxHash = [32]byte(shard.LastTransHash)
	}
	if !st.IsValid {
		return acc, nil
	}
	balance := st.Balance.Nano()
	if !balance.IsUint64() {
		return Account{}, noted(ErrMalformed, fmt.Sprintf("account %s: balance %s does not fit 64 bits", acc.Address.Raw(), balance))
	}
	acc.Exists = true
	acc.Balance = nano(balance)
	acc.state = root
	acc.Frozen = st.Status == tlb.AccountStatusFrozen
	if st.Status == tlb.AccountStatusActive && st.StateInit != nil {
		if st.StateInit.Code != nil {
			acc.Code = st.StateInit.Code.ToBOC()
		}
		if st.StateInit.Data != nil {
			acc.Data = st.StateInit.Data.ToBOC()
		}
	}
	return acc, nil
}

// checkConfig verifies the configuration dictionary in the proven block at.
func checkConfig(at header, answer *ton.ConfigAll) (*cell.Cell, error) {
	fail := func(err any) (*cell.Cell, error) {
		return nil, noted(ErrForged, fmt.Sprintf("configuration in block %s: %v", at.id, err))
	}
	blockProof, err := cell.FromBOC(answer.StateProof)
	if err != nil {
		return fail(err)
	}
	configProof, err := cell.FromBOC(answer.ConfigProof)
	if err != nil {
		return fail(err)
	}
	extra, err := ton.CheckShardMcStateExtraProof(at.id.ext(), []*cell.Cell{blockProof, configProof})
	if err != nil {
		return fail(err)
	}
	params := extra.ConfigParams.Config.Params
	if params == nil || params.AsCell() == nil {
		return fail("no parameters are shown")
	}
	return params.AsCell(), nil
}
