//go:build !tee

package devnet

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"github.com/xssnick/tonutils-go/tvm/tuple"
)

// network is one chain from its genesis on: a Chain has one at a time, and
// another after Revert.
type network struct {
	cfg       *Config
	log       *slog.Logger
	gen       *genesis
	zero      *zeroStates
	validator ed25519.PrivateKey
	nodeID    []byte
	setHash   uint32
	params    *tvm.PreparedBlockchainConfig
	libraries []*cell.Cell
	vm        *tvm.TVM
	pool      *mempool
	dir       string

	build      sync.Mutex // held while blocks are made
	store      *blockLog
	failed     error // after a write error the state of the disk is unknown: no more blocks
	shard      *shardState
	master     *masterState
	noAccounts *cell.Cell
	lanes      map[hash]lane
	stuck      map[hash]bool // messages the executor cannot run
	snapshotAt uint32

	mu       sync.RWMutex
	mcs      blockList
	shards   blockList
	key      *block            // masterchain block 1, which is never pruned
	hundreds map[uint32]extRef // the last masterchain blocks with a seqno divisible by 100
	txs      map[hash][]txRef  // by account, in order of LT
	oldest   uint32            // the first masterchain block whose state is kept
	waiting  bool              // the queue has messages to deliver
	changed  chan struct{}     // closed and replaced with every masterchain block
}

// txRef says which block holds an account's transaction.
type txRef struct {
	lt    uint64
	block *block
}

// maxLanes bounds the cache of executed accounts.
const maxLanes = 4096

// openNetwork opens the chain of the given genesis, replays what the log has
// and makes the first blocks if it has none.
func openNetwork(cfg *Config, gen *genesis) (*network, error) {
	n := &network{
		cfg: cfg, log: cfg.Logger, gen: gen, validator: gen.key("validator"), vm: tvm.NewTVM(), pool: newMempool(),
		dir: cfg.Dir, lanes: map[hash]lane{}, stuck: map[hash]bool{}, mcs: blockList{first: 1}, shards: blockList{first: 1},
		hundreds: map[uint32]extRef{}, txs: map[hash][]txRef{}, changed: make(chan struct{}),
	}
	var err error
	if n.zero, err = gen.zeroStates(); err != nil {
		return nil, err
	}
	pub := n.validator.Public().(ed25519.PublicKey)
	if n.nodeID, err = nodeID(pub); err != nil {
		return nil, err
	}
	if n.setHash, err = validatorSetHash(pub); err != nil {
		return nil, err
	}
	empty, err := tlb.NewShardAccountsAugDict()
	if err != nil {
		return nil, err
	}
	if n.noAccounts, err = empty.ToCell(); err != nil {
		return nil, err
	}
	if err := n.replay(); err != nil {
		return nil, err
	}
	if n.params, err = tvm.PrepareBlockchainConfig(n.master.config); err != nil {
		n.store.close()
		return nil, fmt.Errorf("devnet: configuration: %w", err)
	}
	if n.master.libraries != nil {
		n.libraries = []*cell.Cell{n.master.libraries}
	}
	now := uint32(cfg.Now().Unix())
	for n.mcs.next() < 3 {
		if err := n.bootstrap(now); err != nil {
			n.store.close()
			return nil, err
		}
	}
	return n, n.updateWaiting()
}

// bootstrap makes the key block, then the first shard block with the
// masterchain block that names it: account proofs need a shard block, and
// block proofs a key block (spec devnet 4.4).
func (n *network) bootstrap(now uint32) error {
	n.build.Lock()
	defer n.build.Unlock()
	now = n.later(now)
	var shard *block
	var st *shardState
	var err error
	if n.mcs.next() > 1 {
		if shard, st, _, _, err = n.collateShard(now, nil, true); err != nil {
			return err
		}
	}
	return n.commit(now, shard, st, nil)
}

// logStem is how the paths of the block log begin.
func (n *network) logStem() string {
	return filepath.Join(n.dir, fmt.Sprintf("blocks-%x", n.zero.masterRef.root[:4]))
}

func (n *network) snapshotPath() string {
	return filepath.Join(n.dir, fmt.Sprintf("state-%x.boc", n.zero.masterRef.root[:4]))
}

// replay reads the log: it indexes every block and applies the Merkle updates
// of those after the snapshot. No transaction is executed again.
func (n *network) replay() error {
	snap, err := readSnapshot(n.snapshotPath())
	if err != nil {
		return err
	}
	mcState, shardRoot := n.zero.master, n.zero.shard
	from := uint32(0) // states are known after this masterchain block
	if snap != nil {
		from = snap.seqno
	}
	begin := func(first uint32, shard, key *block) error {
		if from < first {
			return fmt.Errorf("it begins with block %d, and there is no whole snapshot of a later state in %s; restore a copy, or remove the directory to start anew", first, n.snapshotPath())
		}
		n.beginLocked(first, shard, key)
		return nil
	}
	visit := func(blocks []*block) error {
		mc := blocks[len(blocks)-1]
		if mc.seqno() != n.mcs.next() {
			return fmt.Errorf("masterchain block %d follows %d", mc.seqno(), n.mcs.next()-1)
		}
		if len(blocks) == 2 && blocks[0].seqno() != n.shards.next() {
			return fmt.Errorf("shard block %d follows %d", blocks[0].seqno(), n.shards.next()-1)
		}
		for _, b := range blocks {
			if mc.seqno() > from {
				prev := &mcState
				if b.workchain == basechain {
					prev = &shardRoot
				}
				if err := b.replay(*prev); err != nil {
					return err
				}
				*prev = b.state
			}
			b.boc = nil
		}
		if mc.seqno() == from && snap != nil {
			top := n.top()
			if len(blocks) == 2 {
				top = blocks[0]
			}
			if cellHash(snap.master) != mc.stateHash || top == nil || cellHash(snap.shard) != top.stateHash {
				return fmt.Errorf("the state snapshot is of another chain; remove %s", n.snapshotPath())
			}
			mcState, shardRoot = snap.master, snap.shard
			mc.state, top.state = mcState, shardRoot
		}
		n.publishLocked(blocks)
		return nil
	}
	if n.store, err = openLog(n.logStem(), n.zero.masterRef.root, logVisitor{begin, visit}); err != nil {
		return err
	}
	if n.store.torn > 0 {
		n.log.Warn("SIMULATED chain: the last block was not written completely and is dropped", "bytes", n.store.torn)
	}
	if last := n.mcs.next() - 1; from > last {
		n.store.close()
		return fmt.Errorf("devnet: the state snapshot is of block %d, but the log ends at %d; remove %s to replay the log", from, last, n.snapshotPath())
	}
	n.oldest = max(n.oldest, from)
	n.snapshotAt = from
	if n.shard, err = loadShardState(shardRoot); err == nil {
		n.master, err = loadMasterState(mcState)
	}
	if err == nil {
		err = n.loadHundreds()
	}
	if err != nil {
		n.store.close()
		return fmt.Errorf("devnet: %w", err)
	}
	return nil
}

// replay restores the block's cells and its state from the one before.
func (b *block) replay(prev *cell.Cell) error {
	root, err := cell.FromBOC(b.boc)
	if err != nil {
		return err
	}
	update, err := root.PeekRef(2)
	if err != nil {
		return err
	}
	state, _, err := cell.ApplyMerkleUpdate(prev, update)
	if err != nil {
		return err
	}
	if cellHash(root) != b.ref.root || cellHash(state) != b.stateHash {
		return fmt.Errorf("block %d:%d is not what its record says", b.workchain, b.seqno())
	}
	b.root, b.state = root, state
	return nil
}

// head is the newest masterchain block, top the newest shard block; nil
// before the first. Like the references below they need n.mu or n.build.
func (n *network) head() *block { return n.mcs.last() }
func (n *network) top() *block  { return n.shards.last() }

func (n *network) masterRef() extRef {
	if b := n.head(); b != nil {
		return b.ref
	}
	return n.zero.masterRef
}

func (n *network) topRef() extRef {
	if b := n.top(); b != nil {
		return b.ref
	}
	return n.zero.shardRef
}

// masterAt is a masterchain block; nil if it is not kept.
func (n *network) masterAt(seqno uint32) *block {
	if seqno == 1 {
		return n.key
	}
	return n.mcs.at(seqno)
}

// later is the time of the next block: never before the last one's.
func (n *network) later(now uint32) uint32 {
	now = max(now, n.gen.time)
	if b := n.head(); b != nil {
		now = max(now, b.utime)
	}
	return now
}

func (n *network) randSeed() (h hash) {
	rand.Read(h[:])
	return h
}

// produce makes the next blocks if there is work, or in any case if idle is
// set. It reports whether it did.
func (n *network) produce(now uint32, idle bool) (bool, error) {
	n.build.Lock()
	defer n.build.Unlock()
	if n.failed != nil {
		return false, n.failed
	}
	externals := n.pool.list()
	if !idle && len(externals) == 0 && !n.hasWaiting() {
		return false, nil
	}
	now = n.later(now)
	var shard *block
	var st *shardState
	var lanes map[hash]lane
	if len(externals) > 0 || n.hasWaiting() {
		var used int
		var err error
		if shard, st, lanes, used, err = n.collateShard(now, externals, false); err != nil {
			return false, err
		}
		defer n.pool.remove(externals[:used])
	}
	if shard == nil && !idle {
		return false, n.updateWaiting()
	}
	return true, n.commit(now, shard, st, lanes)
}

// commit builds the masterchain block over shard (nil: none new), makes both
// durable and only then shows them.
func (n *network) commit(now uint32, shard *block, st *shardState, lanes map[hash]lane) error {
	mc, ms, err := n.collateMaster(now, shard)
	if err != nil {
		return err
	}
	blocks := []*block{mc}
	if shard != nil {
		blocks = []*block{shard, mc}
	}
	if err := n.store.append(blocks); err != nil {
		n.failed = fmt.Errorf("devnet: blocks cannot be stored, the chain stops: %w", err)
		return n.failed
	}
	n.step("a block is in the log")
	n.master = ms
	if shard != nil {
		n.shard = st
		if len(n.lanes)+len(lanes) > maxLanes {
			clear(n.lanes)
		}
		for a, l := range lanes {
			if n.lanes[a] = l; !l.exists() {
				delete(n.lanes, a)
			}
		}
	}
	for _, b := range blocks {
		b.boc, b.fees = nil, nil
	}
	n.mu.Lock()
	n.publishLocked(blocks)
	close(n.changed)
	n.changed = make(chan struct{})
	n.mu.Unlock()
	if shard != nil {
		if err := n.updateWaiting(); err != nil {
			return err
		}
	}
	if err := n.beginSegment(); err != nil {
		return err
	}
	if mc.seqno()-n.snapshotAt >= n.cfg.SnapshotEvery {
		return n.writeSnapshotLocked()
	}
	return nil
}

// publishLocked appends blocks to the indexes and lets go of old ones.
func (n *network) publishLocked(blocks []*block) {
	mc := blocks[len(blocks)-1]
	if len(blocks) == 2 {
		b := blocks[0]
		b.mcSeqno = mc.seqno()
		n.shards.blocks = append(n.shards.blocks, b)
		n.indexLocked(b)
	}
	mc.top = n.top()
	n.mcs.blocks = append(n.mcs.blocks, mc)
	if mc.seqno() == 1 {
		n.key = mc
	}
	if mc.seqno()%100 == 0 {
		n.hundreds[mc.seqno()] = mc.ref
		delete(n.hundreds, mc.seqno()-1700)
	}

	keep := uint32(n.cfg.KeepStates)
	for mc.seqno() >= keep && n.oldest <= mc.seqno()-keep {
		old := n.mcs.at(n.oldest)
		n.oldest++
		next := n.mcs.at(n.oldest)
		if old == nil {
			continue
		}
		old.forget()
		// Its shard block goes too, unless the next masterchain block still
		// shows that one's state.
		if old.top != nil && next.top != old.top {
			old.top.forget()
		}
	}
}

// indexLocked notes a shard block's transactions.
func (n *network) indexLocked(b *block) {
	for _, t := range b.txs {
		n.txs[t.account] = append(n.txs[t.account], txRef{t.lt, b})
	}
}

// forget lets go of a block's cells.
func (b *block) forget() { b.root, b.state, b.header, b.shards = nil, nil, nil, nil }

// updateWaiting notes whether the queue has messages that can be delivered.
// It needs n.build.
func (n *network) updateWaiting() error {
	msgs, err := pending(n.shard.queue)
	if err != nil {
		return fmt.Errorf("devnet: out queue: %w", err)
	}
	w := slices.ContainsFunc(msgs, func(m *intMsg) bool { return !n.stuck[m.hash] })
	n.mu.Lock()
	n.waiting = w
	n.mu.Unlock()
	return nil
}

func (n *network) hasWaiting() bool {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.waiting
}

// saveState writes a snapshot, so that the next start need not replay.
func (n *network) saveState() error {
	n.build.Lock()
	defer n.build.Unlock()
	if n.failed != nil || n.snapshotAt == n.masterRef().seqno {
		return nil
	}
	return n.writeSnapshotLocked()
}

func (n *network) writeSnapshotLocked() error {
	seqno := n.masterRef().seqno
	if err := writeSnapshot(n.snapshotPath(), stateSnapshot{seqno, n.master.root, n.shard.root}); err != nil {
		return fmt.Errorf("devnet: state snapshot: %w", err)
	}
	n.snapshotAt = seqno
	n.step("a snapshot is written")
	return n.prune()
}

func (n *network) close() error {
	err := n.saveState()
	n.build.Lock()
	defer n.build.Unlock()
	if n.failed == nil {
		n.failed = errors.New("devnet: closed")
	}
	return errors.Join(err, n.store.close())
}

// blockContext is what contracts see of the block they run in.
func (n *network) blockContext(now uint32, lt uint64, seed hash) (*tvm.BlockContext, error) {
	return n.params.NewBlockContext(tvm.BlockOptions{
		Now: now, BlockLT: int64(lt), RandSeed: seed[:], PrevBlocks: n.prevBlocks(), GlobalID: n.gen.globalID, Libraries: n.libraries,
	})
}

// prevBlocks is the tuple of earlier masterchain blocks in c7: the last 16,
// the key block, and the last 16 with a seqno divisible by 100.
func (n *network) prevBlocks() tuple.Tuple {
	id := func(seqno uint32) any {
		r := n.zero.masterRef
		if b := n.masterAt(seqno); b != nil {
			r = b.ref
		} else if seqno > 0 {
			r = n.hundreds[seqno]
		}
		return tuple.NewTupleValue(big.NewInt(int64(masterchain)), new(big.Int).SetUint64(1<<63), big.NewInt(int64(seqno)),
			new(big.Int).SetBytes(r.root[:]), new(big.Int).SetBytes(r.file[:]))
	}
	list := func(from, step uint32) tuple.Tuple {
		var ids []any
		for s := int64(from); s >= 0 && len(ids) < 16; s -= int64(step) {
			ids = append(ids, id(uint32(s)))
		}
		return tuple.NewTupleOwned(ids)
	}
	last := n.masterRef().seqno
	return tuple.NewTupleValue(list(last, 1), id(min(last, 1)), list(last/100*100, 100))
}

// emulate runs one transaction. A panic in the machine is an error of that
// message, not the end of the process.
func (n *network) emulate(ctx *tvm.BlockContext, acc *tvm.PreparedAccount, msg *tvm.PreparedMessage, opts tvm.TransactionOptions) (res *tvm.TransactionExecutionResult, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the machine panicked: %v", p)
		}
	}()
	return n.vm.EmulateTransaction(ctx, acc, msg, opts)
}

// find returns the block with exactly this id; nil if there is none.
func (n *network) find(wc int32, seqno uint32, root, file []byte) *block {
	n.mu.RLock()
	defer n.mu.RUnlock()
	var b *block
	switch wc {
	case masterchain:
		b = n.masterAt(seqno)
	case basechain:
		b = n.shards.at(seqno)
	}
	if b == nil {
		return nil
	}
	if !bytes.Equal(b.ref.root[:], root) || !bytes.Equal(b.ref.file[:], file) {
		return nil
	}
	return b
}

// blockRoot returns a block's cells, from memory or the log.
func (n *network) blockRoot(b *block) (*cell.Cell, error) {
	n.mu.RLock()
	root := b.root
	n.mu.RUnlock()
	if root != nil {
		return root, nil
	}
	boc, err := n.blockBytes(b)
	if err != nil {
		return nil, err
	}
	return cell.FromBOC(boc)
}

// blockBytes returns a block as it is in the log.
func (n *network) blockBytes(b *block) ([]byte, error) {
	for {
		n.mu.RLock()
		at := b.at
		n.mu.RUnlock()
		boc, err := at.read(b.size)
		if err == nil {
			return boc, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("devnet: block log: %w", err)
		}
		n.mu.RLock()
		moved := b.at != at
		n.mu.RUnlock()
		if !moved {
			return nil, errNoBlock // it was pruned meanwhile
		}
	}
}

// stateRoot returns the state after a block; nil if it is no longer kept.
func (n *network) stateRoot(b *block) *cell.Cell {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return b.state
}

// latest returns the newest masterchain block and the channel that closes
// with the next one.
func (n *network) latest() (*block, <-chan struct{}) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.head(), n.changed
}

// history returns up to limit references to an account's transactions with LT
// at most lt, newest first.
func (n *network) history(account hash, lt uint64, limit int) []txRef {
	n.mu.RLock()
	defer n.mu.RUnlock()
	all := n.txs[account]
	i := sort.Search(len(all), func(i int) bool { return all[i].lt > lt })
	var out []txRef
	for i--; i >= 0 && len(out) < limit; i-- {
		out = append(out, all[i])
	}
	return out
}
