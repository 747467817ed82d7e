//go:build !tee

package devnet

import (
	"fmt"
	"math/big"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// stateFields are the parts of a ShardStateUnsplit that differ between the
// two chains and from block to block.
type stateFields struct {
	globalID  int32
	workchain int32
	seqno     uint32
	utime     uint32
	lt        uint64
	minRef    uint32
	queue     *cell.Cell // OutMsgQueueInfo
	accounts  *cell.Cell // ShardAccounts
	balance   *big.Int   // of all accounts
	fees      *big.Int   // total validator fees
	libraries *cell.Cell // root of the public libraries, or nil
	master    *extRef    // nil on the masterchain
	extra     *cell.Cell // McStateExtra, nil on the basechain
}

func (f stateFields) cell() *cell.Cell {
	stats := cell.BeginCell().MustStoreUInt(0, 64).MustStoreUInt(0, 64)
	grams(stats, f.balance)
	grams(stats, f.fees)
	maybeRef(stats, f.libraries)
	if stats.MustStoreBoolBit(f.master != nil); f.master != nil {
		f.master.store(stats)
	}
	b := cell.BeginCell().MustStoreUInt(0x9023afe2, 32).MustStoreInt(int64(f.globalID), 32)
	storeShardIdent(b, f.workchain)
	b.MustStoreUInt(uint64(f.seqno), 32).MustStoreUInt(0, 32).
		MustStoreUInt(uint64(f.utime), 32).MustStoreUInt(f.lt, 64).MustStoreUInt(uint64(f.minRef), 32).
		MustStoreRef(f.queue).MustStoreBoolBit(false).MustStoreRef(f.accounts).MustStoreRef(stats.EndCell())
	return maybeRef(b, f.extra).EndCell()
}

// storeShardIdent stores the ident of a workchain's only shard.
func storeShardIdent(b *cell.Builder, wc int32) {
	b.MustStoreUInt(0, 2).MustStoreUInt(0, 6).MustStoreInt(int64(wc), 32).MustStoreUInt(0, 64)
}

// processed is how far the queue was imported.
type processed struct {
	lt   uint64
	hash hash
}

// queueInfo builds OutMsgQueueInfo. An empty processed means none yet.
func queueInfo(queue *tlb.OutMsgQueueAugDict, p processed, mcSeqno uint32) (*cell.Cell, error) {
	q, err := queue.ToCell()
	if err != nil {
		return nil, err
	}
	upto := cell.NewDict(96)
	if p != (processed{}) {
		k := cell.BeginCell().MustStoreUInt(1<<63, 64).MustStoreUInt(uint64(mcSeqno), 32).EndCell()
		v := cell.BeginCell().MustStoreUInt(p.lt, 64).MustStoreSlice(p.hash[:], 256).EndCell()
		if err := upto.Set(k, v); err != nil {
			return nil, err
		}
	}
	return cell.BeginCell().MustStoreBuilder(q.ToBuilder()).MustStoreDict(upto).MustStoreBoolBit(false).EndCell(), nil
}

// shardState is the basechain state in the form collation works on. The
// dictionaries are mutable wrappers: copy them before changing them.
type shardState struct {
	root      *cell.Cell
	accounts  *tlb.ShardAccountsAugDict
	queue     *tlb.OutMsgQueueAugDict
	processed processed
	balance   *big.Int
}

func loadShardState(root *cell.Cell) (*shardState, error) {
	st, err := parseState(root)
	if err != nil {
		return nil, err
	}
	var info tlb.OutMsgQueueInfo
	if err := tlb.Parse(&info, st.OutMsgQueueInfo); err != nil {
		return nil, fmt.Errorf("out queue: %w", err)
	}
	s := &shardState{root: root, accounts: st.Accounts.ShardAccounts, queue: info.OutQueue}
	if s.balance, err = accountsBalance(s.accounts); err != nil {
		return nil, err
	}
	upto, err := info.ProcInfo.LoadAll()
	if err != nil {
		return nil, err
	}
	for _, kv := range upto {
		lt, err := kv.Value.LoadUInt(64)
		if err != nil {
			return nil, err
		}
		h, err := kv.Value.LoadSlice(256)
		if err != nil {
			return nil, err
		}
		if lt >= s.processed.lt {
			s.processed = processed{lt, hash(h)}
		}
	}
	return s, nil
}

func parseState(root *cell.Cell) (*tlb.ShardStateUnsplit, error) {
	var st tlb.ShardStateUnsplit
	if err := tlb.Parse(&st, root); err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	return &st, nil
}

// accountsBalance is the sum the accounts' dictionary carries at its root.
func accountsBalance(d *tlb.ShardAccountsAugDict) (*big.Int, error) {
	s, err := d.LoadRootExtra()
	if err != nil {
		return nil, err
	}
	if _, err := s.LoadUInt(5); err != nil {
		return nil, err
	}
	return loadGrams(s)
}

// masterState is the masterchain state in the form collation works on.
type masterState struct {
	root        *cell.Cell
	shardHashes *cell.Cell // root of the dictionary
	config      *cell.Cell // root of the dictionary
	prevBlocks  *cell.AugmentedDictionary
	fees        *big.Int
	supply      *big.Int // global balance
	libraries   *cell.Cell
}

func loadMasterState(root *cell.Cell) (*masterState, error) {
	st, err := parseState(root)
	if err != nil {
		return nil, err
	}
	var extra tlb.McStateExtra
	if st.McStateExtra == nil {
		return nil, fmt.Errorf("masterchain state without its extra part")
	}
	if err := tlb.Parse(&extra, st.McStateExtra); err != nil {
		return nil, fmt.Errorf("masterchain state: %w", err)
	}
	m := &masterState{
		root: root, shardHashes: extra.ShardHashes.AsCell(), config: extra.ConfigParams.Config.Params.AsCell(),
		supply: extra.GlobalBalance.Coins.Nano(),
	}
	if m.prevBlocks, err = oldBlocks(extra.Info, false); err != nil {
		return nil, fmt.Errorf("old blocks: %w", err)
	}
	stats, err := st.Stats.BeginParse()
	if err != nil {
		return nil, err
	}
	if _, err := stats.LoadSlice(128); err != nil {
		return nil, err
	}
	if _, err := loadGrams(stats); err != nil {
		return nil, err
	}
	if m.fees, err = loadGrams(stats); err != nil {
		return nil, err
	}
	libs, err := stats.LoadMaybeRef()
	if err != nil {
		return nil, err
	}
	if libs != nil {
		if m.libraries, err = libs.ToCell(); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// masterExtra builds McStateExtra. keyRef is the key block, nil before and in
// it; afterKey marks the key block's own state.
func masterExtra(shardHashes, config *cell.Cell, setHash uint32, prev *cell.AugmentedDictionary, afterKey bool, keyRef *extRef, supply *big.Int) (*cell.Cell, error) {
	p, err := prev.ToCell()
	if err != nil {
		return nil, err
	}
	info := cell.BeginCell().MustStoreUInt(0, 16).
		MustStoreUInt(uint64(setHash), 32).MustStoreUInt(0, 32).MustStoreBoolBit(false).
		MustStoreBuilder(p.ToBuilder()).MustStoreBoolBit(afterKey)
	if info.MustStoreBoolBit(keyRef != nil); keyRef != nil {
		keyRef.store(info)
	}
	b := maybeRef(cell.BeginCell().MustStoreUInt(0xcc26, 16), shardHashes)
	storeConfig(b, config).MustStoreRef(info.EndCell())
	return grams(b, supply).EndCell(), nil
}

// storeConfig stores ConfigParams: the address of the configuration contract
// (parameter 0) and the dictionary.
func storeConfig(b *cell.Builder, config *cell.Cell) *cell.Builder {
	addr := make([]byte, 32)
	for i := range addr {
		addr[i] = 0x55
	}
	return b.MustStoreSlice(addr, 256).MustStoreRef(config)
}
