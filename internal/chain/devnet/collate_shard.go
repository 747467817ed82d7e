//go:build !tee

package devnet

import (
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// ltStep is the grid on which blocks start (spec devnet 5.1).
const ltStep = 1_000_000

func nextStart(ends ...uint64) uint64 { return (slices.Max(ends)/ltStep + 1) * ltStep }

// lane is the last executed state of one account, kept so that it need not be
// parsed again.
type lane struct {
	acc  *tvm.PreparedAccount
	stat *cell.Cell
}

// exists reports whether there is an account: a deleted one's last state still
// names its last transaction, which the next block must not know of.
func (l lane) exists() bool {
	st := l.acc.State()
	return st.IsValid && st.Status != tlb.AccountStatusNonExist
}

// intMsg is an internal message on its way to a basechain account.
type intMsg struct {
	lt   uint64
	hash hash
	cell *cell.Cell
	msg  *tvm.PreparedMessage
	fee  *big.Int
	tx   *cell.Cell // that sent it, in this block
	hops int        // internal hops before it, in this block
}

// msgHeap orders messages by creation LT, then hash.
type msgHeap []*intMsg

func (h msgHeap) Len() int           { return len(h) }
func (h msgHeap) Less(i, j int) bool { return compareMsg(h[i], h[j]) < 0 }
func (h msgHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *msgHeap) Push(x any)        { *h = append(*h, x.(*intMsg)) }
func (h *msgHeap) Pop() any {
	old := *h
	m := old[len(old)-1]
	*h = old[:len(old)-1]
	return m
}

func compareMsg(a, b *intMsg) int {
	return cmp.Or(cmp.Compare(a.lt, b.lt), bytes.Compare(a.hash[:], b.hash[:]))
}

// compareTx orders transactions as their dictionaries do.
func compareTx(a, b txID) int {
	return cmp.Or(bytes.Compare(a.account[:], b.account[:]), cmp.Compare(a.lt, b.lt))
}

// touched is an account that has transactions in the block.
type touched struct {
	lane
	old   *cell.Cell // its account cell before the block
	endLT uint64     // of its last transaction here, also when that one deleted it
	txs   *tlb.AccountTransactionsAugDict
}

// collation builds one shard block.
type collation struct {
	c        *network
	ctx      *tvm.BlockContext
	prev     *shardState
	start    uint64
	endLT    uint64
	accounts *tlb.ShardAccountsAugDict
	queue    *tlb.OutMsgQueueAugDict
	in       *tlb.InMsgDescrAugDict
	out      *tlb.OutMsgDescrAugDict
	upto     processed
	touched  map[hash]*touched
	fresh    msgHeap
	ids      []txID
	gas      int64
	consumed int // externals taken from the mempool, included or dropped
}

// full reports whether no more transactions fit: by number, or by the gas
// limit of the configuration, which bounds the block's bytes too.
func (s *collation) full() bool {
	return len(s.ids) >= s.c.cfg.MaxTransactions || s.gas >= blockGasLimit
}

// blockGasLimit is the hard limit of configuration parameter 23.
const blockGasLimit = 20_000_000

// collateShard builds the next shard block from the queue and the given
// external messages, and says how many of those it used up. It returns nil if
// there is nothing to include, unless empty blocks are wanted.
func (c *network) collateShard(now uint32, externals []*external, evenEmpty bool) (*block, *shardState, map[hash]lane, int, error) {
	fail := func(err error) (*block, *shardState, map[hash]lane, int, error) {
		return nil, nil, nil, 0, fmt.Errorf("devnet: shard block: %w", err)
	}
	head, prev := c.head(), c.shard
	prevRef := c.topRef()
	start := nextStart(prevRef.endLT, head.ref.endLT)
	seed := c.randSeed()
	ctx, err := c.blockContext(now, start, seed)
	if err != nil {
		return fail(err)
	}
	s := &collation{
		c: c, ctx: ctx, prev: prev, start: start, endLT: start + 1,
		accounts: &tlb.ShardAccountsAugDict{AugmentedDictionary: prev.accounts.Copy()},
		queue:    &tlb.OutMsgQueueAugDict{AugmentedDictionary: prev.queue.Copy()},
		upto:     prev.processed, touched: map[hash]*touched{},
	}
	if s.in, err = tlb.NewInMsgDescrAugDict(); err != nil {
		return fail(err)
	}
	if s.out, err = tlb.NewOutMsgDescrAugDict(); err != nil {
		return fail(err)
	}
	if err := s.importQueue(); err != nil {
		return fail(err)
	}
	for _, x := range externals {
		if s.full() {
			break
		}
		s.consumed++
		if err := s.external(x); err != nil {
			return fail(err)
		}
	}
	if err := s.deliverFresh(); err != nil {
		return fail(err)
	}
	if len(s.ids) == 0 && !evenEmpty {
		return nil, nil, nil, s.consumed, nil
	}
	b, st, err := s.finish(now, seed, prevRef, head)
	if err != nil {
		return fail(err)
	}
	lanes := make(map[hash]lane, len(s.touched))
	for a, t := range s.touched {
		lanes[a] = t.lane
	}
	return b, st, lanes, s.consumed, nil
}

// pending lists the queue's messages for basechain accounts, oldest first.
func pending(queue *tlb.OutMsgQueueAugDict) ([]*intMsg, error) {
	if queue.IsEmpty() {
		return nil, nil
	}
	items, err := queue.RangeExtra(false, true)
	if err != nil {
		return nil, err
	}
	var msgs []*intMsg
	for _, it := range items {
		k, err := it.Key.BeginParse()
		if err != nil {
			return nil, err
		}
		wc, err := k.LoadInt(32)
		if err != nil {
			return nil, err
		}
		if int32(wc) != basechain {
			continue // no account lives there: it stays (spec devnet 8.15)
		}
		var q tlb.EnqueuedMsg
		if err := tlb.LoadFromCell(&q, it.Value.Copy()); err != nil {
			return nil, err
		}
		var env tlb.MsgEnvelope
		if err := tlb.Parse(&env, q.Msg); err != nil {
			return nil, err
		}
		m, err := newIntMsg(env.Msg)
		if err != nil {
			return nil, err
		}
		msgs = append(msgs, m)
	}
	slices.SortFunc(msgs, compareMsg)
	return msgs, nil
}

func newIntMsg(c *cell.Cell) (*intMsg, error) {
	p, err := tvm.PrepareMessage(c)
	if err != nil {
		return nil, err
	}
	in, ok := p.Message().Msg.(*tlb.InternalMessage)
	if !ok {
		return nil, fmt.Errorf("message %x is not internal", c.Hash())
	}
	return &intMsg{lt: in.CreatedLT, hash: cellHash(c), cell: c, msg: p, fee: in.FwdFee.Nano()}, nil
}

// importQueue delivers what earlier blocks left in the queue.
func (s *collation) importQueue() error {
	msgs, err := pending(s.prev.queue)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if s.full() {
			return nil
		}
		if s.c.stuck[m.hash] {
			continue
		}
		res, err := s.execute(m.msg, 1)
		if err != nil {
			// A message the executor cannot run must not stop the chain.
			s.c.log.Error("SIMULATED chain: a queued message cannot be executed", "hash", fmt.Sprintf("%x", m.hash), "error", err)
			s.c.stuck[m.hash] = true
			continue
		}
		env := envelope(m)
		inMsg := grams0(cell.BeginCell().MustStoreUInt(0b100, 3).MustStoreRef(env).MustStoreRef(res.TransactionCell), m.fee)
		if err := s.in.Set(key256(m.hash), inMsg); err != nil {
			return err
		}
		outMsg := cell.BeginCell().MustStoreUInt(0b100, 3).MustStoreRef(env).MustStoreRef(inMsg).EndCell()
		if err := s.out.Set(key256(m.hash), outMsg); err != nil {
			return err
		}
		if err := s.queue.Delete(queueKey(m)); err != nil {
			return err
		}
		if compareMsg(m, &intMsg{lt: s.upto.lt, hash: s.upto.hash}) > 0 {
			s.upto = processed{m.lt, m.hash}
		}
	}
	return nil
}

// external runs one message from outside. One that is not accepted (any more)
// leaves no trace, as on every TON network.
func (s *collation) external(x *external) error {
	res, err := s.execute(x.msg, 1)
	if err != nil || res.TransactionCell == nil {
		s.c.log.Debug("external message dropped", "hash", fmt.Sprintf("%x", x.hash), "error", err)
		return nil
	}
	in := cell.BeginCell().MustStoreUInt(0b000, 3).MustStoreRef(x.msg.Cell()).MustStoreRef(res.TransactionCell)
	return s.in.Set(key256(x.hash), in.EndCell())
}

// deliverFresh delivers messages of this block's own transactions inside it;
// what does not fit goes to the queue.
func (s *collation) deliverFresh() error {
	for s.fresh.Len() > 0 {
		m := heap.Pop(&s.fresh).(*intMsg)
		deliver := !s.full() && (s.c.cfg.MaxHops == 0 || m.hops <= s.c.cfg.MaxHops) && isBasechain(m)
		var res *tvm.TransactionExecutionResult
		if deliver {
			var err error
			if res, err = s.execute(m.msg, m.hops+1); err != nil {
				s.c.log.Error("SIMULATED chain: a message cannot be executed", "hash", fmt.Sprintf("%x", m.hash), "error", err)
				s.c.stuck[m.hash] = true
				deliver = false
			}
		}
		env := envelope(m)
		if !deliver {
			out := cell.BeginCell().MustStoreUInt(0b001, 3).MustStoreRef(env).MustStoreRef(m.tx).EndCell()
			if err := s.out.Set(key256(m.hash), out); err != nil {
				return err
			}
			q := cell.BeginCell().MustStoreUInt(m.lt, 64).MustStoreRef(env).EndCell()
			if err := s.queue.Set(queueKey(m), q); err != nil {
				return err
			}
			continue
		}
		in := grams0(cell.BeginCell().MustStoreUInt(0b011, 3).MustStoreRef(env).MustStoreRef(res.TransactionCell), m.fee)
		if err := s.in.Set(key256(m.hash), in); err != nil {
			return err
		}
		out := cell.BeginCell().MustStoreUInt(0b010, 3).MustStoreRef(env).MustStoreRef(m.tx).MustStoreRef(in).EndCell()
		if err := s.out.Set(key256(m.hash), out); err != nil {
			return err
		}
	}
	return nil
}

// grams0 stores plain Grams and ends the cell.
func grams0(b *cell.Builder, v *big.Int) *cell.Cell { return b.MustStoreBigCoins(v).EndCell() }

// envelope is the message with its remaining forwarding fee. Current and next
// hop are the destination: there is one shard.
func envelope(m *intMsg) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(0x46060, 20).MustStoreBigCoins(m.fee).MustStoreRef(m.cell).EndCell()
}

func queueKey(m *intMsg) *cell.Cell {
	wc, data := destination(m)
	return cell.BeginCell().MustStoreInt(int64(wc), 32).MustStoreUInt(binary.BigEndian.Uint64(data), 64).
		MustStoreSlice(m.hash[:], 256).EndCell()
}

func destination(m *intMsg) (int32, []byte) {
	dst := m.msg.Message().Msg.DestAddr()
	data := dst.Data()
	if len(data) < 8 {
		data = append(slices.Clone(data), make([]byte, 8)...)
	}
	return dst.Workchain(), data
}

func isBasechain(m *intMsg) bool {
	wc, data := destination(m)
	return wc == basechain && len(data) == 32
}

// execute runs msg on its destination and records the transaction. hops is
// what its own messages count as.
func (s *collation) execute(msg *tvm.PreparedMessage, hops int) (*tvm.TransactionExecutionResult, error) {
	dst := msg.Message().Msg.DestAddr()
	if dst.Workchain() != basechain || len(dst.Data()) != 32 {
		return nil, fmt.Errorf("no account %s on this chain", dst)
	}
	a := hash(dst.Data())
	t, err := s.account(a)
	if err != nil {
		return nil, err
	}
	res, err := s.c.emulate(s.ctx, t.acc, msg, tvm.TransactionOptions{
		LogicalTime: int64(max(s.start+1, t.endLT)), AccountStorageStat: t.stat,
	})
	if err != nil || res.TransactionCell == nil {
		return res, err
	}
	lt := res.NextAccount.ShardAccount().LastTransLT
	if err := t.txs.SetIntKey(new(big.Int).SetUint64(lt), cell.BeginCell().MustStoreRef(res.TransactionCell).EndCell()); err != nil {
		return nil, err
	}
	s.touched[a] = t
	t.acc, t.stat, t.endLT = res.NextAccount, res.AccountStorageStat, res.EndLT
	s.ids = append(s.ids, txID{a, lt})
	s.endLT = max(s.endLT, res.EndLT+1)
	s.gas += res.GasUsed
	for _, o := range res.OutMessages {
		if o.Msg.MsgType == tlb.MsgTypeExternalOut {
			out := cell.BeginCell().MustStoreUInt(0b000, 3).MustStoreRef(o.Cell).MustStoreRef(res.TransactionCell).EndCell()
			if err := s.out.Set(key256(cellHash(o.Cell)), out); err != nil {
				return nil, err
			}
			continue
		}
		m, err := newIntMsg(o.Cell)
		if err != nil {
			return nil, err
		}
		m.tx, m.hops = res.TransactionCell, hops
		heap.Push(&s.fresh, m)
	}
	return res, nil
}

// account returns the account as this block has left it so far.
func (s *collation) account(a hash) (*touched, error) {
	if t := s.touched[a]; t != nil {
		return t, nil
	}
	l, ok := s.c.lanes[a]
	if !ok {
		acc, err := loadAccount(s.prev.accounts, a)
		if err != nil {
			return nil, err
		}
		l = lane{acc: acc}
	}
	txs, err := tlb.NewAccountTransactionsAugDict()
	if err != nil {
		return nil, err
	}
	return &touched{lane: l, old: l.acc.ShardAccount().Account, txs: txs}, nil
}

var noAccount = cell.BeginCell().MustStoreBoolBit(false).EndCell()

// loadAccount parses an account, or makes an empty one.
func loadAccount(accounts *tlb.ShardAccountsAugDict, a hash) (*tvm.PreparedAccount, error) {
	sh := &tlb.ShardAccount{Account: noAccount, LastTransHash: make([]byte, 32)}
	if v, err := lookup(accounts.AugmentedDictionary, a); err != nil {
		return nil, err
	} else if v != nil {
		if err := tlb.LoadFromCell(sh, v); err != nil {
			return nil, err
		}
	}
	return tvm.PrepareAccount(sh, address.NewAddress(0, byte(basechain), a[:]))
}

// finish turns the collation into a block and the state after it.
func (s *collation) finish(now uint32, seed hash, prevRef extRef, head *block) (*block, *shardState, error) {
	blocks, err := tlb.NewShardAccountBlocksAugDict()
	if err != nil {
		return nil, nil, err
	}
	for a, t := range s.touched {
		sh := t.acc.ShardAccount()
		txs, err := t.txs.InlineCell()
		if err != nil {
			return nil, nil, err
		}
		update := cell.BeginCell().MustStoreUInt(0x72, 8).
			MustStoreSlice(t.old.Hash(), 256).MustStoreSlice(sh.Account.Hash(), 256).EndCell()
		v := cell.BeginCell().MustStoreUInt(5, 4).MustStoreSlice(a[:], 256).
			MustStoreBuilder(txs.ToBuilder()).MustStoreRef(update).EndCell()
		if err := blocks.Set(key256(a), v); err != nil {
			return nil, nil, fmt.Errorf("account block: %w", err)
		}
		if t.exists() {
			err = s.accounts.Set(key256(a), t.acc.ShardAccountCell())
		} else if v, e := lookup(s.accounts.AugmentedDictionary, a); e != nil {
			err = e
		} else if v != nil {
			err = s.accounts.Delete(key256(a))
		}
		if err != nil {
			return nil, nil, fmt.Errorf("account: %w", err)
		}
	}

	flow, cells, err := s.valueFlow(blocks)
	if err != nil {
		return nil, nil, err
	}
	if err := flow.check(); err != nil {
		return nil, nil, err
	}
	info, err := queueInfo(s.queue, s.upto, head.seqno())
	if err != nil {
		return nil, nil, err
	}
	state := stateFields{
		globalID: s.c.gen.globalID, workchain: basechain, seqno: prevRef.seqno + 1, utime: now, lt: s.endLT,
		minRef: head.seqno(), queue: info, accounts: cells.accounts, balance: flow.to, fees: new(big.Int), master: &head.ref,
	}.cell()
	b, err := draft{
		globalID: s.c.gen.globalID, workchain: basechain, seqno: prevRef.seqno + 1, utime: now,
		startLT: s.start, endLT: s.endLT, setHash: s.c.setHash, minRef: head.seqno(), prevKey: min(head.seqno(), 1),
		prev: prevRef, master: &head.ref, flow: flow.cell(),
		extra: blockExtra(cells.in, cells.out, cells.blocks, seed, nil), from: s.prev.root, to: state,
	}.finish()
	if err != nil {
		return nil, nil, err
	}
	slices.SortFunc(s.ids, compareTx)
	b.txs, b.fees = s.ids, flow.feesCollected
	if s.c.cfg.SelfCheck {
		if err := s.c.checkBlock(b, s.prev.root); err != nil {
			return nil, nil, err
		}
	}
	return b, &shardState{root: state, accounts: s.accounts, queue: s.queue, processed: s.upto, balance: flow.to}, nil
}

type shardCells struct{ in, out, blocks, accounts *cell.Cell }

func (s *collation) valueFlow(blocks *tlb.ShardAccountBlocksAugDict) (valueFlow, shardCells, error) {
	v := valueFlow{from: s.prev.balance, feesImported: new(big.Int)}
	var cells shardCells
	txFees, err := rootGrams(blocks.AugmentedDictionary)
	if err != nil {
		return v, cells, err
	}
	e, err := s.in.LoadRootExtra()
	if err != nil {
		return v, cells, err
	}
	msgFees, err := e.LoadBigCoins()
	if err != nil {
		return v, cells, err
	}
	if v.imported, err = loadGrams(e); err != nil {
		return v, cells, err
	}
	if v.exported, err = rootGrams(s.out.AugmentedDictionary); err != nil {
		return v, cells, err
	}
	if v.to, err = accountsBalance(s.accounts); err != nil {
		return v, cells, err
	}
	v.feesCollected = new(big.Int).Add(txFees, msgFees)
	for _, p := range []struct {
		to   **cell.Cell
		from interface{ ToCell() (*cell.Cell, error) }
	}{{&cells.in, s.in}, {&cells.out, s.out}, {&cells.blocks, blocks}, {&cells.accounts, s.accounts}} {
		if *p.to, err = p.from.ToCell(); err != nil {
			return v, cells, err
		}
	}
	return v, cells, nil
}

func rootGrams(d *cell.AugmentedDictionary) (*big.Int, error) {
	e, err := d.LoadRootExtra()
	if err != nil {
		return nil, err
	}
	return loadGrams(e)
}
