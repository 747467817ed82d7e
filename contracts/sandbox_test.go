package contracts

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"github.com/xssnick/tonutils-go/tvm/tuple"
	"github.com/xssnick/tonutils-go/tvm/vm"
)

// A sandbox is a chain without blocks: the real transaction executor, message
// routing in order of logical time, fees, storage rent, bounces, a clock.
// Addresses without code are people: what they are sent is counted.
type sandbox struct {
	t     testing.TB
	cfg   *tvm.PreparedBlockchainConfig
	vm    *tvm.TVM
	now   uint32
	lt    uint64
	accs  map[addr]*account
	names map[addr]string
	// people have no code; contracts that are not deployed yet are not people.
	people map[addr]bool
	queue  []queued
	// choose picks the next of n deliverable messages; nil takes the oldest. Only
	// the order between two accounts is promised by the chain.
	choose  func(n int) int
	seen    func(step) // every transaction
	created *big.Int   // coins that tests brought in
	burnt   *big.Int   // fees
}

type addr [32]byte

type account struct {
	prepared *tvm.PreparedAccount
	stat     *cell.Cell
}

type queued struct {
	lt       uint64
	from, to addr
	msg      *cell.Cell
}

// A step is one transaction.
type step struct {
	to, from addr
	exit     int64 // compute phase; skipped computations have skip set
	skip     string
	action   int32
	gas      int64
	fees     *big.Int
	out      []outMsg
	bounced  bool // the inbound message was a bounce
	value    *big.Int
	body     *cell.Cell
	before   *cell.Cell // data, nil if there was none
}

func (s step) ok() bool { return s.skip == "" && s.exit == 0 && s.action == 0 }

type outMsg struct {
	to      addr
	value   *big.Int
	bounce  bool
	bounced bool
	body    *cell.Cell
}

const (
	mTON  = 1_000_000
	ton   = 1_000_000_000
	epoch = 1_750_000_000 // the vectors' clock
	year  = 365 * 24 * 3600
)

// mainnetPrices are the basechain prices of spec contracts 14. Version 12 added
// full bodies to bounces; later ones changed fees and failures of the action phase.
func mainnetPrices(globalVersion uint64) *cell.Cell {
	gas := cell.BeginCell().
		MustStoreUInt(0xd1, 8).MustStoreUInt(100, 64).MustStoreUInt(40000, 64).
		MustStoreUInt(0xde, 8).MustStoreUInt(26214400, 64).
		MustStoreUInt(1_000_000, 64).MustStoreUInt(1_000_000, 64).MustStoreUInt(10_000, 64).
		MustStoreUInt(10_000_000, 64).MustStoreUInt(100_000_000, 64).MustStoreUInt(1_000_000_000, 64).EndCell()
	fwd := cell.BeginCell().
		MustStoreUInt(0xea, 8).MustStoreUInt(400_000, 64).MustStoreUInt(26_214_400, 64).MustStoreUInt(2_621_440_000, 64).
		MustStoreUInt(98304, 32).MustStoreUInt(21845, 16).MustStoreUInt(21845, 16).EndCell()
	storage := cell.NewDict(32)
	must(storage.SetIntKey(big.NewInt(0), cell.BeginCell().
		MustStoreUInt(0xcc, 8).MustStoreUInt(0, 32).MustStoreUInt(1, 64).MustStoreUInt(500, 64).
		MustStoreUInt(1000, 64).MustStoreUInt(500_000, 64).EndCell()))
	version := cell.BeginCell().MustStoreUInt(0xc4, 8).MustStoreUInt(globalVersion, 32).MustStoreUInt(0x1ee, 64).EndCell()
	base := cell.BeginCell().
		MustStoreUInt(0xa6, 8).MustStoreUInt(1, 32).MustStoreUInt(0, 24).MustStoreUInt(0b111<<13, 16).
		MustStoreSlice(make([]byte, 64), 512).MustStoreUInt(0, 32).
		MustStoreUInt(1, 4).MustStoreInt(-1, 32).MustStoreUInt(0, 64).EndCell()
	workchains := cell.NewDict(32)
	must(workchains.SetIntKey(big.NewInt(0), base))

	dict := cell.NewDict(32)
	for id, param := range map[int64]*cell.Cell{
		8:  version,
		12: cell.BeginCell().MustStoreDict(workchains).EndCell(),
		18: storage.AsCell(),
		20: gas, 21: gas, 24: fwd, 25: fwd,
	} {
		must(dict.SetIntKey(big.NewInt(id), cell.BeginCell().MustStoreRef(param).EndCell()))
	}
	return dict.AsCell()
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func must1[T any](v T, err error) T {
	must(err)
	return v
}

const (
	oldestVersion  = 12
	mainnetVersion = 13
	newestVersion  = 15
)

var prices = func() map[uint64]*tvm.PreparedBlockchainConfig {
	out := map[uint64]*tvm.PreparedBlockchainConfig{}
	for v := uint64(oldestVersion); v <= newestVersion; v++ {
		out[v] = tvm.MustPrepareBlockchainConfig(mainnetPrices(v))
	}
	return out
}()

func newSandbox(t testing.TB) *sandbox {
	return &sandbox{
		t: t, cfg: prices[mainnetVersion], vm: tvm.NewTVM(), now: epoch, lt: 1_000_000,
		accs: map[addr]*account{}, names: map[addr]string{}, people: map[addr]bool{},
		created: new(big.Int), burnt: new(big.Int),
	}
}

func (a addr) tu() *address.Address   { return address.NewAddress(0, 0, a[:]) }
func (a addr) String() string         { return fmt.Sprintf("0:%x", a[:4]) }
func fromTU(a *address.Address) addr  { return addr(a.Data()) }
func (s *sandbox) name(a addr) string { return cmp.Or(s.names[a], a.String()) }

// person makes an address that receives coins and never answers.
func (s *sandbox) person(name string, fill byte) addr {
	a := addr(bytes.Repeat([]byte{fill}, 32))
	s.names[a], s.people[a] = name, true
	return a
}

// place puts an active account at any address, as if it had been deployed.
func (s *sandbox) place(a addr, name string, code, data *cell.Cell, balance int64) {
	s.names[a] = name
	storage := tlb.AccountStorage{
		Status: tlb.AccountStatusActive, Balance: tlb.FromNanoTON(big.NewInt(balance)),
		StateInit: &tlb.StateInit{Code: code, Data: data},
	}
	cells, bits := usage(must1(storage.ToCell()))
	state := must1(tlb.AccountState{
		IsValid: true, Address: a.tu(), AccountStorage: storage,
		StorageInfo: tlb.StorageInfo{
			StorageUsed:  tlb.StorageUsed{CellsUsed: big.NewInt(cells), BitsUsed: big.NewInt(bits)},
			StorageExtra: tlb.StorageExtraNone{}, LastPaid: s.now,
		},
	}.ToCell())
	s.put(a, state)
	s.created.Add(s.created, big.NewInt(balance))
}

func (s *sandbox) put(a addr, state *cell.Cell) *account {
	shard := &tlb.ShardAccount{Account: state, LastTransHash: make([]byte, 32)}
	acc := &account{prepared: must1(tvm.PrepareAccount(shard, a.tu()))}
	s.accs[a] = acc
	return acc
}

func (s *sandbox) account(a addr) *account {
	if acc := s.accs[a]; acc != nil {
		return acc
	}
	return s.put(a, cell.BeginCell().MustStoreBoolBit(false).EndCell())
}

// usage counts distinct cells and their bits, as rent is charged.
func usage(root *cell.Cell) (cells, bits int64) {
	seen := map[string]bool{}
	var walk func(*cell.Cell)
	walk = func(c *cell.Cell) {
		if seen[string(c.Hash())] {
			return
		}
		seen[string(c.Hash())] = true
		cells++
		bits += int64(c.BitsSize())
		for i := range int(c.RefsNum()) {
			walk(must1(c.PeekRef(i)))
		}
	}
	walk(root)
	return cells, bits
}

// A letter is a message a test sends: from a person, or from a contract to see
// how forged senders fare.
type letter struct {
	from, to addr
	value    int64
	body     *cell.Cell
	init     *tlb.StateInit
	noBounce bool
	bounced  bool // forged, or what the network would return
}

// send delivers a message and everything that follows from it, and returns the
// transactions in order.
func (s *sandbox) send(l letter) []step {
	s.t.Helper()
	s.post(l)
	return s.run()
}

// post queues a message without running anything.
func (s *sandbox) post(l letter) {
	s.t.Helper()
	s.lt += 1000
	if l.body == nil {
		l.body = cell.BeginCell().EndCell()
	}
	msg := must1(tlb.ToCell(&tlb.InternalMessage{
		IHRDisabled: true, Bounce: !l.noBounce && !l.bounced, Bounced: l.bounced, SrcAddr: l.from.tu(), DstAddr: l.to.tu(),
		Amount: tlb.FromNanoTON(big.NewInt(l.value)), CreatedLT: s.lt, CreatedAt: s.now, StateInit: l.init, Body: l.body,
	}))
	s.created.Add(s.created, big.NewInt(l.value))
	s.queue = append(s.queue, queued{s.lt, l.from, l.to, msg})
}

// run delivers what is queued, by logical time.
func (s *sandbox) run() []step {
	s.t.Helper()
	var steps []step
	for len(s.queue) > 0 {
		if st, delivered := s.deliver(); delivered {
			steps = append(steps, st)
		}
		if len(steps) > 1000 {
			s.t.Fatal("messages do not end")
		}
	}
	return steps
}

// deliver takes the next message; people's mail makes no transaction.
func (s *sandbox) deliver() (step, bool) {
	s.t.Helper()
	slices.SortStableFunc(s.queue, func(a, b queued) int { return cmp.Compare(a.lt, b.lt) })
	pick := 0
	if s.choose != nil {
		var first []int
		pairs := map[[2]addr]bool{}
		for i, q := range s.queue {
			if pair := [2]addr{q.from, q.to}; !pairs[pair] {
				pairs[pair] = true
				first = append(first, i)
			}
		}
		pick = first[s.choose(len(first))]
	}
	next := s.queue[pick]
	s.queue = slices.Delete(s.queue, pick, pick+1)
	msg := must1(tvm.PrepareMessage(next.msg))
	in := msg.Message().AsInternal()
	to := fromTU(in.DstAddr)
	if s.people[to] {
		return step{}, false
	}
	acc := s.account(to)
	return s.execute(to, acc, msg), true
}

func (s *sandbox) execute(to addr, acc *account, msg *tvm.PreparedMessage) step {
	s.t.Helper()
	block := must1(s.cfg.NewBlockContext(tvm.BlockOptions{Now: s.now, BlockLT: int64(s.lt), RandSeed: make([]byte, 32)}))
	res, err := s.vm.EmulateTransaction(block, acc.prepared, msg, tvm.TransactionOptions{LogicalTime: int64(s.lt) + 1, AccountStorageStat: acc.stat})
	if err != nil {
		s.t.Fatalf("execute on %s: %v", s.name(to), err)
	}
	st := step{to: to, exit: res.ExitCode, gas: res.GasUsed, fees: new(big.Int)}
	if old := acc.prepared.State(); old != nil && old.StateInit != nil {
		st.before = old.StateInit.Data
	}
	if res.TransactionCell == nil {
		st.skip = "not accepted"
		return st
	}
	tx := must1(res.ParseTransaction())
	desc := tx.Description.(tlb.TransactionDescriptionOrdinary)
	if c, ok := desc.ComputePhase.Phase.(tlb.ComputePhaseSkipped); ok {
		st.skip = string(c.Reason.Type)
	}
	if desc.ActionPhase != nil {
		st.action = desc.ActionPhase.ResultCode
	}
	if in, ok := msg.Message().Msg.(*tlb.InternalMessage); ok {
		st.from, st.bounced, st.value, st.body = fromTU(in.SrcAddr), in.Bounced, in.Amount.Nano(), in.Body
	}
	s.burnt.Add(s.burnt, tx.TotalFees.Coins.Nano())
	st.fees.Add(st.fees, tx.TotalFees.Coins.Nano())
	acc.prepared, acc.stat = res.NextAccount, res.AccountStorageStat
	for _, o := range res.OutMessages {
		m := o.Msg.AsInternal()
		// The part of the forward fee that travels is collected on arrival.
		s.burnt.Add(s.burnt, m.FwdFee.Nano())
		st.fees.Add(st.fees, m.FwdFee.Nano())
		st.out = append(st.out, outMsg{fromTU(m.DstAddr), m.Amount.Nano(), m.Bounce, m.Bounced, m.Body})
		s.queue = append(s.queue, queued{m.CreatedLT, to, fromTU(m.DstAddr), o.Cell})
		if s.people[fromTU(m.DstAddr)] {
			s.received(fromTU(m.DstAddr), m.Amount.Nano())
		}
	}
	s.lt = max(s.lt, res.EndLT)
	if s.seen != nil {
		s.seen(st)
	}
	return st
}

// received counts what a person was sent; it leaves the contracts' world.
func (s *sandbox) received(who addr, value *big.Int) {
	acc := s.accs[who]
	balance := new(big.Int).Set(value)
	if acc != nil {
		balance.Add(balance, acc.prepared.State().Balance.Nano())
	}
	storage := tlb.AccountStorage{Status: tlb.AccountStatusUninit, Balance: tlb.FromNanoTON(balance)}
	s.put(who, must1(tlb.AccountState{
		IsValid: true, Address: who.tu(), AccountStorage: storage,
		StorageInfo: tlb.StorageInfo{
			StorageUsed:  tlb.StorageUsed{CellsUsed: new(big.Int), BitsUsed: new(big.Int)},
			StorageExtra: tlb.StorageExtraNone{}, LastPaid: s.now,
		},
	}.ToCell()))
}

// external sends an external message; an unaccepted one has skip "not accepted".
func (s *sandbox) external(to addr, body *cell.Cell) []step {
	s.t.Helper()
	s.lt += 1000
	msg := must1(tlb.ToCell(&tlb.ExternalMessage{DstAddr: to.tu(), Body: body}))
	first := s.execute(to, s.account(to), must1(tvm.PrepareMessage(msg)))
	return append([]step{first}, s.run()...)
}

func (s *sandbox) balance(a addr) *big.Int {
	acc := s.accs[a]
	if acc == nil || acc.prepared.State() == nil {
		return new(big.Int)
	}
	if st := acc.prepared.State(); st.IsValid {
		return st.Balance.Nano()
	}
	return new(big.Int)
}

func (s *sandbox) data(a addr) *cell.Cell {
	acc := s.accs[a]
	if acc == nil || acc.prepared.State() == nil || acc.prepared.State().StateInit == nil {
		s.t.Fatalf("%s has no data", s.name(a))
	}
	return acc.prepared.State().StateInit.Data
}

// get runs a get-method and returns its results, index 0 deepest.
func (s *sandbox) get(a addr, method string, args ...any) []any {
	s.t.Helper()
	st := s.accs[a].prepared.State().StateInit
	return getMethod(s.t, st.Code, st.Data, method, args...)
}

func getMethod(t testing.TB, code, data *cell.Cell, method string, args ...any) []any {
	t.Helper()
	stack := vm.NewStack()
	for _, a := range args {
		must(stack.PushAny(a))
	}
	must(stack.PushAny(new(big.Int).SetUint64(tlb.MethodNameHash(method))))
	res, err := tvm.NewTVM().ExecuteGetMethod(code, data, tuple.Tuple{}, vm.GasWithLimit(1_000_000), stack, tvm.ExecutionConfig{Config: prices[mainnetVersion]})
	if err != nil || res.ExitCode != 0 && res.ExitCode != 1 {
		t.Fatalf("get-method %s: exit %d, %v", method, res.ExitCode, err)
	}
	var out []any
	for res.Stack.Len() > 0 {
		out = append(out, must1(res.Stack.PopAny()))
	}
	slices.Reverse(out)
	return out
}

// unaccounted is what is missing (or too much) in the world: 0, always.
func (s *sandbox) unaccounted() *big.Int {
	sum := new(big.Int).Set(s.burnt)
	for a := range s.accs {
		sum.Add(sum, s.balance(a))
	}
	for _, q := range s.queue {
		in := must1(tvm.PrepareMessage(q.msg)).Message().AsInternal()
		if !s.people[q.to] {
			sum.Add(sum, in.Amount.Nano())
		}
	}
	return sum.Sub(s.created, sum)
}

func (s *sandbox) requireBalanced() {
	s.t.Helper()
	if d := s.unaccounted(); d.Sign() != 0 {
		s.t.Fatalf("%v nano vanished", d)
	}
}

func seedKey(seed uint64) ed25519.PrivateKey {
	var b [32]byte
	binary.BigEndian.PutUint64(b[24:], seed)
	return ed25519.NewKeyFromSeed(b[:])
}

func boc(b []byte) *cell.Cell { return must1(cell.FromBOC(b)) }
