//go:build !tee

package devnet

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"os"
	"testing"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm"
	"github.com/xssnick/tonutils-go/tvm/cell"
	"github.com/xssnick/tonutils-go/tvm/tuple"
	"github.com/xssnick/tonutils-go/tvm/vm"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// SendExternalMessageWaitTransaction waits block by block until the message
// is in a transaction of its destination. The library's own version reads a
// cached block, and scans without pause when the account is new (spec devnet
// 8.2).
func (f fresh) SendExternalMessageWaitTransaction(ctx context.Context, msg *tlb.ExternalMessage) (*tlb.Transaction, *ton.BlockIDExt, []byte, error) {
	block, err := f.GetMasterchainInfo(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	acc, err := f.GetAccount(ctx, block, msg.DstAddr)
	if err != nil {
		return nil, nil, nil, err
	}
	seen := acc.LastTxLT
	if err := f.SendExternalMessage(ctx, msg); err != nil {
		return nil, nil, nil, err
	}
	for {
		if block, err = f.WaitForBlock(block.SeqNo + 1).GetMasterchainInfo(ctx); err != nil {
			return nil, nil, nil, err
		}
		if acc, err = f.GetAccount(ctx, block, msg.DstAddr); err != nil {
			return nil, nil, nil, err
		}
		for lt, h := acc.LastTxLT, acc.LastTxHash; lt > seen; {
			txs, err := f.ListTransactions(ctx, msg.DstAddr, 16, lt, h)
			if err != nil {
				return nil, nil, nil, err
			}
			for _, tx := range txs {
				if tx.IO.In != nil && tx.IO.In.MsgType == tlb.MsgTypeExternalIn &&
					string(tx.IO.In.AsExternalIn().NormalizedHash()) == string(msg.NormalizedHash()) {
					return tx, block, tx.IO.In.AsExternalIn().Body.Hash(), nil
				}
			}
			lt, h = txs[0].PrevTxLT, txs[0].PrevTxHash
		}
		seen = acc.LastTxLT
	}
}

func probeCode(t testing.TB) *cell.Cell {
	t.Helper()
	b, err := os.ReadFile("testdata/probe.boc")
	if err != nil {
		t.Fatal(err)
	}
	c, err := cell.FromBOC(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func probeData(counter uint64) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(counter, 64).MustStoreUInt(0, 32).EndCell()
}

// Bodies of the probe's messages.
func addBody(n uint64) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(1, 32).MustStoreUInt(n, 32).EndCell()
}

func forwardBody(to *address.Address, n uint64) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(2, 32).MustStoreAddr(to).MustStoreUInt(n, 32).EndCell()
}

func failBody() *cell.Cell { return cell.BeginCell().MustStoreUInt(3, 32).EndCell() }

func loopBody(hops uint64) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(4, 32).MustStoreUInt(hops, 32).EndCell()
}

// libraryCell is a cell that stands for the public library with that hash.
func libraryCell(t testing.TB, lib *cell.Cell) *cell.Cell {
	t.Helper()
	boc := append([]byte{0xb5, 0xee, 0x9c, 0x72, 1, 1, 1, 1, 0, 35, 0, 0x08, 66, 2}, lib.Hash()...)
	c, err := cell.FromBOC(boc)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type actor struct {
	*wallet.Wallet
	t   testing.TB
	ctx context.Context
}

// newActor makes a V5R1 wallet, funded by the faucet and not yet deployed.
func newActor(t testing.TB, c *Chain, api fresh, name string, amount coins.Nano) actor {
	t.Helper()
	ctx := testContext(t)
	seed := sha256.Sum256([]byte(name))
	w, err := wallet.FromPrivateKey(api, ed25519.NewKeyFromSeed(seed[:]), wallet.ConfigV5R1Final{NetworkGlobalID: c.GlobalID()})
	if err != nil {
		t.Fatal(err)
	}
	if amount > 0 {
		if err := c.Faucet(ctx, cocoon.Address{Hash: [32]byte(w.Address().Data())}, amount); err != nil {
			t.Fatal(err)
		}
	}
	return actor{w, t, ctx}
}

func (a actor) send(to *address.Address, amount string, body *cell.Cell) *tlb.Transaction {
	a.t.Helper()
	tx, _, err := a.SendWaitTransaction(a.ctx, wallet.SimpleMessage(to, tlb.MustFromTON(amount), body))
	if err != nil {
		a.t.Fatalf("send to %s: %v", to, err)
	}
	if tx.OutMsgCount != 1 {
		a.t.Fatalf("the wallet sent %d messages, want 1", tx.OutMsgCount)
	}
	return tx
}

func (a actor) deploy(code, data *cell.Cell) *address.Address {
	a.t.Helper()
	addr, _, _, err := a.DeployContractWaitTransaction(a.ctx, tlb.MustFromTON("1"), cell.BeginCell().EndCell(), code, data, 0)
	if err != nil {
		a.t.Fatalf("deploy: %v", err)
	}
	return addr
}

// probeState asks the server and, by proof and the machine here, the account
// itself; both must say the same.
func probeState(t testing.TB, c *Chain, api fresh, addr *address.Address) (counter, bounces uint64) {
	t.Helper()
	ctx := testContext(t)
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	res, err := api.RunGetMethod(ctx, head, addr, "state")
	if err != nil {
		t.Fatalf("state of %s: %v", addr, err)
	}
	self, err := res.MustSlice(2).LoadAddr()
	if err != nil || !self.Equals(addr) {
		t.Errorf("the contract calls itself %s (%v), want %s", self, err, addr)
	}
	sum, err := api.RunGetMethod(ctx, head, addr, "plus", big.NewInt(40), big.NewInt(2))
	if err != nil || sum.MustInt(0).Int64() != 42 {
		t.Errorf("40+2 = %v, %v", sum, err)
	}
	acc, err := api.GetAccount(ctx, head, addr)
	if err != nil {
		t.Fatal(err)
	}
	if string(res.MustCell(3).Hash()) != string(acc.Data.Hash()) {
		t.Error("get-method's cell is not the account's data")
	}
	if got := localCounter(t, c, acc); got != res.MustInt(0).Uint64() {
		t.Errorf("counter is %d here and %d at the server", got, res.MustInt(0))
	}
	return res.MustInt(0).Uint64(), res.MustInt(1).Uint64()
}

func localCounter(t testing.TB, c *Chain, acc *tlb.Account) uint64 {
	t.Helper()
	stack := vm.NewStack()
	if err := stack.PushSmallInt(int64(tlb.MethodNameHash("counter"))); err != nil {
		t.Fatal(err)
	}
	n := c.current()
	res, err := tvm.NewTVM().ExecuteGetMethod(acc.Code, acc.Data, tuple.NewTupleValue(tuple.NewTupleValue()), vm.GasWithLimit(100_000),
		stack, tvm.ExecutionConfig{Config: n.params, Libraries: n.libraries})
	if err != nil || res.ExitCode != 0 {
		t.Fatalf("local get-method: %v, exit code %d", err, res.ExitCode)
	}
	v, err := res.Stack.PopInt()
	if err != nil {
		t.Fatal(err)
	}
	return v.Uint64()
}

// scenario is what an application does on a chain: wallets, contracts,
// messages between them, a bounce, library code. It returns the contracts.
func scenario(t testing.TB, c *Chain, api fresh) (a, b, lib *address.Address) {
	t.Helper()
	alice := newActor(t, c, api, "alice", 20*coins.PerCoin)
	code := probeCode(t)
	a = alice.deploy(code, probeData(100))
	b = alice.deploy(code, probeData(200))
	if n, _ := probeState(t, c, api, a); n != 100 {
		t.Fatalf("fresh contract has counter %d, want 100", n)
	}
	alice.send(a, "0.1", addBody(5))
	if n, _ := probeState(t, c, api, a); n != 105 {
		t.Errorf("counter %d after adding 5 to 100", n)
	}
	alice.send(a, "0.2", forwardBody(b, 7))
	if n, _ := probeState(t, c, api, b); n != 208 {
		t.Errorf("counter %d after a forwarded 7+1 to 200", n)
	}
	// A contract's message to nobody comes back to it.
	alice.send(a, "0.2", forwardBody(tonAddress(cocoon.Address{Hash: [32]byte{0xee}}), 1))
	if _, n := probeState(t, c, api, a); n != 1 {
		t.Errorf("%d bounces at the contract, want 1", n)
	}
	// A failing contract sends the wallet's money back.
	before := balance(t, api, alice.Address())
	alice.send(a, "5", failBody())
	if lost := before - balance(t, api, alice.Address()); lost > 50_000_000 {
		t.Errorf("a bounced transfer cost %d nano", lost)
	}
	lib = alice.deploy(libraryCell(t, code), probeData(300))
	alice.send(lib, "0.1", addBody(1))
	if n, _ := probeState(t, c, api, lib); n != 301 {
		t.Errorf("counter of the contract with library code is %d, want 301", n)
	}
	libs, err := api.GetLibraries(testContext(t), code.Hash())
	if err != nil || libs[0] == nil || string(libs[0].Hash()) != string(code.Hash()) {
		t.Errorf("library is not served: %v, %v", libs, err)
	}
	return a, b, lib
}

func balance(t testing.TB, api fresh, addr *address.Address) int64 {
	t.Helper()
	ctx := testContext(t)
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	acc, err := api.GetAccount(ctx, head, addr)
	if err != nil {
		t.Fatal(err)
	}
	return acc.State.Balance.Nano().Int64()
}

// follow reads every transaction of the chain as a follower does: shard
// blocks back from the newest to the first.
func follow(t testing.TB, api fresh) map[string]int {
	t.Helper()
	ctx := testContext(t)
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	shards, err := api.GetBlockShardsInfo(ctx, head)
	if err != nil || len(shards) != 1 {
		t.Fatalf("shards: %v, %v", shards, err)
	}
	seen := map[string]int{}
	for at := shards[0]; at.SeqNo > 0; {
		var after *ton.TransactionID3
		for more := true; more; {
			var list []ton.TransactionShortInfo
			if list, more, err = api.GetBlockTransactionsV2(ctx, at, 2, after); err != nil {
				t.Fatal(err)
			}
			for _, tx := range list {
				seen[fmt.Sprintf("%x", tx.Hash)]++
				after = tx.ID3()
			}
		}
		h, err := api.GetBlockHeader(ctx, at)
		if err != nil {
			t.Fatal(err)
		}
		parents, err := ton.GetParentBlocks(h)
		if err != nil || len(parents) != 1 {
			t.Fatalf("parents: %v, %v", parents, err)
		}
		at = parents[0]
	}
	return seen
}

func TestScenario(t *testing.T) {
	dir := t.TempDir()
	lib := probeCode(t).ToBOC()
	cfg := Config{Dir: dir, SelfCheck: true, Libraries: [][]byte{lib}}
	c, stop := start(t, cfg)
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	a, b, l := scenario(t, c, api)
	seen := follow(t, api)
	if len(seen) < 20 {
		t.Errorf("a follower saw %d transactions", len(seen))
	}
	for h, n := range seen {
		if n != 1 {
			t.Errorf("transaction %s seen %d times", h, n)
		}
	}
	trusted, err := api.GetMasterchainInfo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	stop()

	// Again after a restart, with a client that kept its trusted block.
	c, _ = start(t, cfg)
	api = dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, trusted)
	for addr, want := range map[*address.Address]uint64{a: 105, b: 208, l: 301} {
		if n, _ := probeState(t, c, api, addr); n != want {
			t.Errorf("counter of %s is %d after a restart, want %d", addr, n, want)
		}
	}
	alice := newActor(t, c, api, "alice", 0)
	alice.send(a, "0.1", addBody(5))
	if n, _ := probeState(t, c, api, a); n != 110 {
		t.Errorf("counter %d after adding 5 to 105", n)
	}
	if again := follow(t, api); len(again) <= len(seen) {
		t.Errorf("a follower saw %d transactions after the restart, %d before", len(again), len(seen))
	}
}

func TestScenarioUnderOtherPolicies(t *testing.T) {
	for name, policy := range map[string]ton.ProofCheckPolicy{"fast": ton.ProofCheckPolicyFast, "unsafe": ton.ProofCheckPolicyUnsafe} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, _ := start(t, Config{Dir: t.TempDir(), Libraries: [][]byte{probeCode(t).ToBOC()}, Tick: 0})
			scenario(t, c, dial(t, c.GlobalConfig(), policy, nil))
		})
	}
}

// TestMessagesAcrossBlocks pushes every internal message through the queue.
func TestMessagesAcrossBlocks(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir(), SelfCheck: true, MaxHops: 1})
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	alice := newActor(t, c, api, "alice", 20*coins.PerCoin)
	a := alice.deploy(probeCode(t), probeData(0))
	alice.send(a, "2", loopBody(9))
	ctx := testContext(t)
	for {
		head, err := api.GetMasterchainInfo(ctx)
		if err != nil {
			t.Fatal(err)
		}
		res, err := api.RunGetMethod(ctx, head, a, "counter")
		if err != nil {
			t.Fatal(err)
		}
		if res.MustInt(0).Uint64() == 10 {
			break
		}
		if _, err := api.WaitForBlock(head.SeqNo + 1).GetMasterchainInfo(ctx); err != nil {
			t.Fatal(err)
		}
	}
	sizes, err := api.GetOutMsgQueueSizes(ctx, nil, nil)
	if err != nil || len(sizes.Shards) != 1 || sizes.Shards[0].Size != 0 {
		t.Errorf("queue after the last hop: %+v, %v", sizes, err)
	}
}

// TestOldTrustedBlock is a client that was away for longer than states are
// kept: its block is still linked to the head, and so are blocks behind it.
func TestOldTrustedBlock(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir(), SelfCheck: true, KeepStates: 16})
	ctx := testContext(t)
	var ids []*ton.BlockIDExt
	for range 100 {
		if err := c.Mine(); err != nil {
			t.Fatal(err)
		}
		b, _ := c.current().latest()
		ids = append(ids, b.id())
	}
	for _, i := range []int{0, 1, 29, 61, 62, 90} {
		api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, ids[i])
		if _, err := api.GetMasterchainInfo(ctx); err != nil {
			t.Errorf("from block %d: %v", ids[i].SeqNo, err)
		}
		if i > 0 {
			if err := api.VerifyProofChain(ctx, ids[i], ids[i-1]); err != nil {
				t.Errorf("from block %d back to %d: %v", ids[i].SeqNo, ids[i-1].SeqNo, err)
			}
			if err := api.VerifyProofChain(ctx, ids[i], ids[i/2]); err != nil {
				t.Errorf("from block %d back to %d: %v", ids[i].SeqNo, ids[i/2].SeqNo, err)
			}
		}
	}
	if n := c.current(); n.mcs.at(ids[0].SeqNo).state != nil || n.mcs.at(ids[0].SeqNo).root != nil {
		t.Error("an old block's cells are still in memory")
	}
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	_, err := api.GetAccount(ctx, ids[0], tonAddress(c.FaucetAddress()))
	var ls ton.LSError
	if !errors.As(err, &ls) || ls.Code != 651 {
		t.Errorf("state of an old block: %v, want error 651", err)
	}
}
