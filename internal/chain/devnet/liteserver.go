//go:build !tee

package devnet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Codes clients act on.
const (
	codeNotReady = 651 // unknown block, or its state is gone
	codeTimeout  = 652
	codeError    = -400
)

const (
	maxWait         = 10 * time.Second
	maxTransactions = 16  // in one getTransactions
	maxListed       = 256 // in one listBlockTransactions
	maxLibraries    = 16
	maxParams       = 256
)

func lsError(code int32, format string, args ...any) ton.LSError {
	return ton.LSError{Code: code, Text: fmt.Sprintf(format, args...)}
}

var errNoBlock = lsError(codeNotReady, "block is not known here, or no longer kept")

// answer serves one liteserver query.
func (c *Chain) answer(ctx context.Context, query tl.Serializable) tl.Serializable {
	n := c.current()
	if list, ok := query.([]tl.Serializable); ok {
		if len(list) > 4 {
			return lsError(codeError, "too many prefixes")
		}
		for _, q := range list[:len(list)-1] {
			switch q := q.(type) {
			case ton.WaitMasterchainSeqno:
				if err := n.wait(ctx, uint32(q.Seqno), time.Duration(q.Timeout)*time.Millisecond); err != nil {
					return lsError(codeTimeout, "%v", err)
				}
			case liteclient.LiteServerQueryPrefix:
			default:
				return lsError(codeError, "%T is not a prefix", q)
			}
		}
		query = list[len(list)-1]
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return lsError(codeError, "%v", ctx.Err())
	}
	res, err := n.handle(query, c.now())
	if err != nil {
		var ls ton.LSError
		if errors.As(err, &ls) {
			return ls
		}
		return lsError(codeError, "%v", err)
	}
	return res
}

// wait returns when the masterchain has the block.
func (n *network) wait(ctx context.Context, seqno uint32, timeout time.Duration) error {
	if timeout <= 0 || timeout > maxWait {
		timeout = maxWait
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		head, changed := n.latest()
		if head.seqno() >= seqno {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("timeout: block %d, waiting for %d", head.seqno(), seqno)
		}
	}
}

func (n *network) handle(query tl.Serializable, now uint32) (tl.Serializable, error) {
	switch q := query.(type) {
	case ton.GetMasterchainInf:
		head, _ := n.latest()
		return ton.MasterchainInfo{Last: head.id(), StateRootHash: head.stateHash[:], Init: n.initID()}, nil
	case ton.GetMasterchainInfoExt:
		head, _ := n.latest()
		return ton.MasterchainInfoExt{
			Version: serverVersion, Capabilities: serverCapabilities, Last: head.id(), LastUTime: head.utime, Now: now,
			StateRootHash: head.stateHash[:], Init: n.initID(),
		}, nil
	case ton.GetTime:
		return ton.CurrentTime{Now: now}, nil
	case ton.GetVersion:
		return ton.Version{Version: serverVersion, Capabilities: serverCapabilities, Now: now}, nil
	case ton.GetBlockData:
		return n.blockData(q.ID)
	case ton.GetBlockHeader:
		b := n.block(q.ID)
		if b == nil {
			return nil, errNoBlock
		}
		return n.header(b, q.Mode)
	case ton.LookupBlock:
		return n.lookupBlock(q)
	case ton.GetState:
		return n.getState(q.ID)
	case ton.SendMessage:
		if err := n.sendExternal(q.Body, now); err != nil {
			return nil, err
		}
		return ton.SendMessageStatus{Status: 1}, nil
	case ton.GetAccountState:
		return n.getAccount(q.ID, q.Account, false)
	case ton.GetAccountStatePruned:
		return n.getAccount(q.ID, q.Account, true)
	case ton.RunSmcMethod:
		return n.runMethod(q)
	case ton.GetAllShardsInfo:
		return n.allShards(q.ID)
	case ton.GetShardInfo:
		return n.shardInfo(q)
	case ton.GetShardBlockProof:
		return n.shardBlockProof(q.ID)
	case ton.GetTransactions:
		return n.getTransactions(q)
	case ton.GetOneTransaction:
		return n.oneTransaction(q)
	case ton.ListBlockTransactions:
		return n.listTransactions(q)
	case ton.ListBlockTransactionsExt:
		return n.listTransactionsExt(q)
	case ton.GetConfigAll:
		return n.config(q.BlockID, q.Mode, nil)
	case ton.GetConfigParams:
		if len(q.Params) > maxParams {
			return nil, lsError(codeError, "more than %d parameters", maxParams)
		}
		if q.Params == nil {
			q.Params = []int32{}
		}
		return n.config(q.BlockID, q.Mode, q.Params)
	case ton.GetBlockProof:
		return n.blockProof(q)
	case ton.GetLibraries:
		return n.getLibraries(q.LibraryList)
	case ton.GetOutMsgQueueSizes:
		return n.queueSizes()
	}
	return nil, lsError(codeError, "SIMULATED chain: %T is not served", query)
}

const (
	serverVersion      = 0x101
	serverCapabilities = 7
)

func (n *network) initID() *ton.ZeroStateIDExt {
	z := n.zero.masterRef
	return &ton.ZeroStateIDExt{Workchain: masterchain, RootHash: z.root[:], FileHash: z.file[:]}
}

// zeroID is the masterchain's zero state as a block.
func (n *network) zeroID() *ton.BlockIDExt {
	z := n.zero.masterRef
	return blockIDExt(masterchain, 0, z.root, z.file)
}

func (n *network) block(id *ton.BlockIDExt) *block {
	if id == nil || id.Shard != wholeShard {
		return nil
	}
	return n.find(id.Workchain, id.SeqNo, id.RootHash, id.FileHash)
}

// state returns a block and the state after it.
func (n *network) state(id *ton.BlockIDExt) (*block, *cell.Cell, error) {
	b := n.block(id)
	if b == nil {
		return nil, nil, errNoBlock
	}
	st := n.stateRoot(b)
	if st == nil {
		return nil, nil, lsError(codeNotReady, "the state of block %d is no longer kept", b.seqno())
	}
	return b, st, nil
}

// masterBlock is state for masterchain blocks only.
func (n *network) masterBlock(id *ton.BlockIDExt) (*block, *cell.Cell, error) {
	b, st, err := n.state(id)
	if err == nil && b.workchain != masterchain {
		return nil, nil, lsError(codeError, "not a masterchain block")
	}
	return b, st, err
}

func (n *network) blockData(id *ton.BlockIDExt) (tl.Serializable, error) {
	b := n.block(id)
	if b == nil {
		return nil, errNoBlock
	}
	boc, err := n.blockBytes(b)
	if err != nil {
		return nil, err
	}
	return ton.BlockData{ID: b.id(), Payload: boc}, nil
}

func (n *network) header(b *block, mode uint32) (tl.Serializable, error) {
	proof, err := n.headerProof(b)
	if err != nil {
		return nil, err
	}
	return ton.BlockHeader{ID: b.id(), Mode: mode, HeaderProof: proof.ToBOC()}, nil
}

func (n *network) headerProof(b *block) (*cell.Cell, error) {
	return n.cached(b, &b.header, func() (*cell.Cell, error) {
		root, err := n.blockRoot(b)
		if err != nil {
			return nil, err
		}
		return headerProof(root)
	})
}

// shardProof shows the shard entry in the state after a masterchain block.
func (n *network) shardProof(b *block, state *cell.Cell) (*cell.Cell, error) {
	return n.cached(b, &b.shards, func() (*cell.Cell, error) { return shardProof(state) })
}

// cached builds a proof that belongs to a block once, and keeps it for as
// long as the block's cells.
func (n *network) cached(b *block, at **cell.Cell, build func() (*cell.Cell, error)) (*cell.Cell, error) {
	n.mu.RLock()
	p := *at
	n.mu.RUnlock()
	if p != nil {
		return p, nil
	}
	p, err := build()
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if b.root != nil {
		*at = p
	}
	return p, nil
}

// lookupBlock finds a block by seqno, by a logical time inside it, or as the
// last one not younger than a time.
func (n *network) lookupBlock(q ton.LookupBlock) (tl.Serializable, error) {
	if q.ID == nil || q.ID.Shard != wholeShard {
		return nil, errNoBlock
	}
	n.mu.RLock()
	list, key := n.shards, n.key
	if q.ID.Workchain == masterchain {
		list = n.mcs
	}
	n.mu.RUnlock()
	if q.ID.Workchain != masterchain && q.ID.Workchain != basechain {
		return nil, errNoBlock
	}
	var found *block
	blocks := list.blocks
	switch {
	case q.Mode&1 != 0:
		if found = list.at(uint32(q.ID.Seqno)); q.ID.Workchain == masterchain && q.ID.Seqno == 1 {
			found = key
		}
	case q.Mode&2 != 0:
		i := sort.Search(len(blocks), func(i int) bool { return blocks[i].ref.endLT >= q.LT })
		// What the first one kept does not hold may have been in one before.
		if i < len(blocks) && (i > 0 || list.first == 1 || q.LT >= blocks[0].startLT) {
			found = blocks[i]
		}
	case q.Mode&4 != 0:
		if i := sort.Search(len(blocks), func(i int) bool { return blocks[i].utime > q.UTime }); i > 0 {
			found = blocks[i-1]
		}
	}
	if found == nil {
		return nil, errNoBlock
	}
	return n.header(found, q.Mode&^7)
}

func (n *network) getState(id *ton.BlockIDExt) (tl.Serializable, error) {
	root := (*cell.Cell)(nil)
	if id != nil && id.SeqNo == 0 {
		for wc, z := range map[int32]*cell.Cell{masterchain: n.zero.master, basechain: n.zero.shard} {
			if id.Workchain == wc && string(id.RootHash) == string(z.Hash()) {
				root = z
			}
		}
	}
	if root == nil {
		var err error
		if _, root, err = n.state(id); err != nil {
			return nil, err
		}
	}
	boc, err := root.ToBOCWithOptionsErr(fileFlags)
	if err != nil {
		return nil, err
	}
	file := fileHash(boc)
	return ton.BlockState{ID: id, RootHash: root.Hash(), FileHash: file[:], Data: boc}, nil
}

// topAccounts is the newest accounts dictionary. Callers get their own
// wrapper of it.
func (n *network) topAccounts() (*block, *tlb.ShardAccountsAugDict, error) {
	n.mu.RLock()
	top := n.top()
	state := top.state
	n.mu.RUnlock()
	accounts, err := accountsOf(state)
	return top, accounts, err
}

func accountsOf(state *cell.Cell) (*tlb.ShardAccountsAugDict, error) {
	c, err := child(state, 1)
	if err != nil {
		return nil, err
	}
	s, err := c.BeginParse()
	if err != nil {
		return nil, err
	}
	d := &tlb.ShardAccountsAugDict{}
	return d, d.LoadFromCell(s)
}

// sendExternal tries a message on the newest state and queues it.
func (n *network) sendExternal(boc []byte, now uint32) error {
	x, err := parseExternal(boc)
	if err != nil {
		return lsError(0, "cannot apply external message to current state : %v", err)
	}
	n.mu.RLock()
	now = n.later(now)
	lt := nextStart(n.masterRef().endLT, n.topRef().endLT)
	ctx, err := n.blockContext(now, lt, n.randSeed())
	n.mu.RUnlock()
	if err != nil {
		return err
	}
	_, accounts, err := n.topAccounts()
	if err != nil {
		return err
	}
	acc, err := loadAccount(accounts, x.dst)
	if err != nil {
		return err
	}
	res, err := n.emulate(ctx, acc, x.msg, tvm.TransactionOptions{LogicalTime: int64(lt + 1)})
	if err != nil {
		return lsError(0, "cannot apply external message to current state : %v", err)
	}
	if res.TransactionCell == nil {
		return lsError(0, "cannot apply external message to current state : External message was not accepted (exit code %d)", res.ExitCode)
	}
	return n.pool.add(x)
}

// accountProofs are the parts of an answer about an account.
type accountProofs struct {
	id, shardID *ton.BlockIDExt
	shard       []*cell.Cell // the shard block in the masterchain, for masterchain ids
	account     []*cell.Cell // the account in the shard
	state       *cell.Cell   // nil if there is no such account
	block       *block       // that was asked about
}

func (n *network) proveAccount(id *ton.BlockIDExt, acc ton.AccountID) (*accountProofs, error) {
	if len(acc.ID) != 32 {
		return nil, lsError(codeError, "account id has %d bytes", len(acc.ID))
	}
	b, state, err := n.state(id)
	if err != nil {
		return nil, err
	}
	p := &accountProofs{id: b.id(), shardID: b.id(), block: b}
	holder := b
	switch {
	case acc.Workchain == b.workchain:
	case b.workchain == masterchain && acc.Workchain == basechain:
		if holder = b.top; holder == nil {
			return nil, lsError(codeNotReady, "block %d has no shard block yet", b.seqno())
		}
		root, err := n.headerProof(b)
		if err != nil {
			return nil, err
		}
		in, err := n.shardProof(b, state)
		if err != nil {
			return nil, err
		}
		p.shard, p.shardID = []*cell.Cell{root, in}, holder.id()
		if state = n.stateRoot(holder); state == nil {
			return nil, lsError(codeNotReady, "the state of block %d is no longer kept", b.seqno())
		}
	default:
		return nil, lsError(codeError, "block of workchain %d cannot show an account of workchain %d", b.workchain, acc.Workchain)
	}
	root, err := n.headerProof(holder)
	if err != nil {
		return nil, err
	}
	account := hash(acc.ID)
	in, err := accountProof(state, account)
	if err != nil {
		return nil, err
	}
	p.account = []*cell.Cell{root, in}
	accounts, err := accountsOf(state)
	if err != nil {
		return nil, err
	}
	v, err := lookup(accounts.AugmentedDictionary, account)
	if err != nil || v == nil {
		return p, err
	}
	p.state, err = v.LoadRefCell()
	return p, err
}

func (n *network) getAccount(id *ton.BlockIDExt, acc ton.AccountID, pruned bool) (tl.Serializable, error) {
	p, err := n.proveAccount(id, acc)
	if err != nil {
		return nil, err
	}
	if pruned && p.state != nil {
		// Shows the account without its code and data.
		if p.state, err = prove(p.state, func(c *cell.Cell) error {
			_, err := c.BeginParse()
			return err
		}); err != nil {
			return nil, err
		}
	}
	return ton.AccountState{ID: p.id, Shard: p.shardID, ShardProof: p.shard, Proof: p.account, State: p.state}, nil
}

func (n *network) allShards(id *ton.BlockIDExt) (tl.Serializable, error) {
	b := n.block(id)
	if b == nil || b.workchain != masterchain {
		return nil, errNoBlock
	}
	root, err := n.blockRoot(b)
	if err != nil {
		return nil, err
	}
	proof, err := shardsOfBlock(root)
	if err != nil {
		return nil, err
	}
	shards, err := path(root, 3, 3, 0)
	if err != nil {
		return nil, err
	}
	data := maybeRef(cell.BeginCell(), shards).EndCell()
	return ton.AllShardsInfo{ID: b.id(), Proof: []*cell.Cell{proof}, Data: data}, nil
}

func (n *network) shardInfo(q ton.GetShardInfo) (tl.Serializable, error) {
	b, state, err := n.masterBlock(q.ID)
	if err != nil {
		return nil, err
	}
	if q.Workchain != basechain || b.top == nil || q.Exact && q.Shard != wholeShard {
		return ton.ShardInfo{ID: b.id(), ShardBlock: blockIDExt(0, 0, hash{}, hash{})}, nil
	}
	root, err := n.headerProof(b)
	if err != nil {
		return nil, err
	}
	in, err := n.shardProof(b, state)
	if err != nil {
		return nil, err
	}
	leaf, err := path(state, 3, extraShards, 0)
	if err != nil {
		return nil, err
	}
	s, err := leaf.BeginParse()
	if err != nil {
		return nil, err
	}
	if _, err := s.LoadBoolBit(); err != nil { // of the binary tree
		return nil, err
	}
	descr, err := s.ToCell()
	if err != nil {
		return nil, err
	}
	return ton.ShardInfo{ID: b.id(), ShardBlock: b.top.id(), ShardProof: []*cell.Cell{root, in}, ShardDescription: descr}, nil
}

func (n *network) shardBlockProof(id *ton.BlockIDExt) (tl.Serializable, error) {
	b := n.block(id)
	if b == nil {
		return nil, errNoBlock
	}
	if b.workchain == masterchain {
		return ton.ShardBlockProof{MasterchainID: b.id()}, nil
	}
	n.mu.RLock()
	mc := n.mcs.at(max(b.mcSeqno, n.mcs.first))
	n.mu.RUnlock()
	if mc.top != b {
		return nil, errNoBlock // the masterchain block that named it is pruned
	}
	root, err := n.blockRoot(mc)
	if err != nil {
		return nil, err
	}
	proof, err := shardsOfBlock(root)
	if err != nil {
		return nil, err
	}
	return ton.ShardBlockProof{MasterchainID: mc.id(), Links: []ton.ShardBlockLink{{ID: b.id(), Proof: proof.ToBOC()}}}, nil
}

func (n *network) getTransactions(q ton.GetTransactions) (tl.Serializable, error) {
	if q.AccID == nil || len(q.AccID.ID) != 32 || q.Limit < 0 {
		return nil, lsError(codeError, "bad account or count")
	}
	if q.LT == 0 {
		return ton.TransactionList{}, nil
	}
	account := hash(q.AccID.ID)
	refs := n.history(account, uint64(q.LT), min(int(q.Limit), maxTransactions))
	if q.AccID.Workchain != basechain || len(refs) == 0 || refs[0].lt != uint64(q.LT) {
		return nil, lsError(codeError, "cannot compute block with specified transaction: lt not in db")
	}
	var list ton.TransactionList
	var cells []*cell.Cell
	for i, r := range refs {
		root, err := n.blockRoot(r.block)
		if err != nil {
			return nil, err
		}
		tx, err := r.block.transaction(root, txID{account, r.lt})
		if err != nil {
			return nil, err
		}
		if i == 0 && string(tx.Hash()) != string(q.TxHash) {
			return nil, lsError(codeError, "transaction hash mismatch")
		}
		list.IDs = append(list.IDs, r.block.id())
		cells = append(cells, tx)
	}
	var err error
	list.Transactions, err = cell.ToBOCWithOptionsErr(cells, cell.BOCSerializeOptions{WithCRC32C: true})
	return list, err
}

func (n *network) oneTransaction(q ton.GetOneTransaction) (tl.Serializable, error) {
	b := n.block(q.ID)
	if b == nil || q.AccID == nil || len(q.AccID.ID) != 32 {
		return nil, errNoBlock
	}
	root, err := n.blockRoot(b)
	if err != nil {
		return nil, err
	}
	id := txID{hash(q.AccID.ID), uint64(q.LT)}
	if !slices.Contains(b.txs, id) {
		return ton.TransactionInfo{ID: b.id()}, nil
	}
	tx, err := b.transaction(root, id)
	if err != nil {
		return nil, err
	}
	proof, err := transactionProof(root, []txID{id})
	if err != nil {
		return nil, err
	}
	return ton.TransactionInfo{ID: b.id(), Proof: proof.ToBOC(), Transaction: tx.ToBOC()}, nil
}

// page selects transactions of a block: mode bit 5 asks for a proof, 6 for
// reverse order, 7 for those after a given one.
func (n *network) page(id *ton.BlockIDExt, mode, count uint32, after *ton.TransactionID3) (b *block, root *cell.Cell, ids []txID, more bool, proof *cell.Cell, err error) {
	if b = n.block(id); b == nil {
		return nil, nil, nil, false, nil, errNoBlock
	}
	ids = slices.Clone(b.txs)
	if mode&(1<<6) != 0 {
		slices.Reverse(ids)
	}
	if mode&(1<<7) != 0 && after != nil && len(after.Account) == 32 {
		last := txID{hash(after.Account), after.LT}
		i := slices.IndexFunc(ids, func(t txID) bool {
			c := compareTx(t, last)
			return c > 0 && mode&(1<<6) == 0 || c < 0 && mode&(1<<6) != 0
		})
		if i < 0 {
			i = len(ids)
		}
		ids = ids[i:]
	}
	if limit := int(min(count, maxListed)); len(ids) > limit {
		ids, more = ids[:limit], true
	}
	if root, err = n.blockRoot(b); err == nil && mode&(1<<5) != 0 {
		proof, err = transactionProof(root, ids)
	}
	return b, root, ids, more, proof, err
}

func (n *network) listTransactions(q ton.ListBlockTransactions) (tl.Serializable, error) {
	b, root, ids, more, proof, err := n.page(q.ID, q.Mode, q.Count, q.After)
	if err != nil {
		return nil, err
	}
	res := ton.BlockTransactions{ID: b.id(), ReqCount: int32(q.Count), Incomplete: more, Proof: proof}
	for _, id := range ids {
		tx, err := b.transaction(root, id)
		if err != nil {
			return nil, err
		}
		res.TransactionIds = append(res.TransactionIds, ton.TransactionID{
			Flags: q.Mode & 7, Account: id.account[:], LT: id.lt, Hash: tx.Hash(),
		})
	}
	return res, nil
}

func (n *network) listTransactionsExt(q ton.ListBlockTransactionsExt) (tl.Serializable, error) {
	b, root, ids, more, proof, err := n.page(q.ID, q.Mode, q.Count, q.After)
	if err != nil {
		return nil, err
	}
	res := ton.BlockTransactionsExt{ID: b.id(), ReqCount: int32(q.Count), Incomplete: more}
	if proof != nil {
		res.Proof = proof.ToBOC()
	}
	for _, id := range ids {
		tx, err := b.transaction(root, id)
		if err != nil {
			return nil, err
		}
		res.Transactions = append(res.Transactions, tx)
	}
	return res, nil
}

func (n *network) config(id *ton.BlockIDExt, mode int32, params []int32) (tl.Serializable, error) {
	b, state, err := n.masterBlock(id)
	if err != nil {
		return nil, err
	}
	header, err := n.headerProof(b)
	if err != nil {
		return nil, err
	}
	proof, err := configProof(state, params)
	if err != nil {
		return nil, err
	}
	return ton.ConfigAll{Mode: int(mode), ID: b.id(), StateProof: header.ToBOC(), ConfigProof: proof.ToBOC()}, nil
}

func (n *network) getLibraries(hashes [][]byte) (tl.Serializable, error) {
	var res ton.LibraryResult
	if len(n.libraries) == 0 {
		return res, nil
	}
	d := n.libraries[0].AsDict(256)
	for _, h := range hashes[:min(len(hashes), maxLibraries)] {
		if len(h) != 32 {
			continue
		}
		v, err := d.LoadValue(key256(hash(h)))
		if err != nil {
			continue
		}
		lib, err := v.LoadRefCell()
		if err != nil {
			return nil, err
		}
		res.Result = append(res.Result, &ton.LibraryEntry{Hash: h, Data: lib.ToBOC()})
	}
	return res, nil
}

func (n *network) queueSizes() (tl.Serializable, error) {
	n.mu.RLock()
	top := n.top()
	state := top.state
	n.mu.RUnlock()
	s, err := loadShardState(state)
	if err != nil {
		return nil, err
	}
	size := 0
	if !s.queue.IsEmpty() {
		if size, err = s.queue.Count(); err != nil {
			return nil, err
		}
	}
	return ton.OutMsgQueueSizes{
		Shards: []ton.OutMsgQueueSize{{ID: top.id(), Size: int32(size)}}, ExtMsgQueueSizeLimit: maxPool,
	}, nil
}
