//go:build !tee

package devnet

import (
	"bytes"
	"context"
	"encoding/json"
	"math/big"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// start runs a chain in dir until the test ends or stop is called.
func start(t testing.TB, cfg Config) (c *Chain, stop func()) {
	t.Helper()
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(stop)
	return c, stop
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// fresh is the wrapper every user of the library needs where blocks come
// faster than its cache expires (spec devnet 8.1).
type fresh struct{ ton.APIClientWrapped }

func (f fresh) CurrentMasterchainInfo(ctx context.Context) (*ton.BlockIDExt, error) {
	return f.GetMasterchainInfo(ctx)
}

func (f fresh) WaitForBlock(seqno uint32) ton.APIClientWrapped {
	return fresh{f.APIClientWrapped.WaitForBlock(seqno)}
}

// dial connects a verifying client that knows only the global configuration.
func dial(t testing.TB, config []byte, policy ton.ProofCheckPolicy, trusted *ton.BlockIDExt) fresh {
	t.Helper()
	var cfg liteclient.GlobalConfig
	if err := json.Unmarshal(config, &cfg); err != nil {
		t.Fatal(err)
	}
	pool := liteclient.NewConnectionPool()
	t.Cleanup(pool.Stop)
	if err := pool.AddConnectionsFromConfig(testContext(t), &cfg); err != nil {
		t.Fatal(err)
	}
	api := ton.NewAPIClient(pool, policy)
	if trusted != nil {
		api.SetTrustedBlock(trusted)
	} else {
		api.SetTrustedBlockFromConfig(&cfg)
	}
	return fresh{api}
}

func tonAddress(a cocoon.Address) *address.Address {
	return address.NewAddress(0, byte(a.Workchain), a.Hash[:])
}

func TestGenesisIsServedWithProofs(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir(), SelfCheck: true})
	ctx := testContext(t)
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	acc, err := api.GetAccount(ctx, head, tonAddress(c.FaucetAddress()))
	if err != nil {
		t.Fatal(err)
	}
	if want := new(big.Int).SetUint64(uint64(supply)); acc.State.Balance.Nano().Cmp(want) != 0 || acc.Code == nil {
		t.Errorf("faucet has %s, want %d", acc.State.Balance, want)
	}
	params, err := api.GetBlockchainConfig(ctx, head)
	if err != nil {
		t.Fatal(err)
	}
	v, err := params.Root.AsDict(32).LoadValueByIntKey(big.NewInt(19))
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.LoadRefCell()
	if err != nil {
		t.Fatal(err)
	}
	if id, _ := p.MustBeginParse().LoadInt(32); int32(id) != DefaultGlobalID {
		t.Errorf("global id %d, want %d", id, DefaultGlobalID)
	}
}

func TestFaucetFundsAnAbsentAccount(t *testing.T) {
	c, _ := start(t, Config{Dir: t.TempDir(), SelfCheck: true})
	ctx := testContext(t)
	to := cocoon.Address{Hash: [32]byte{1, 2, 3}}
	if err := c.Faucet(ctx, to, 5*coins.PerCoin); err != nil {
		t.Fatal(err)
	}
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	acc, err := api.GetAccount(ctx, head, tonAddress(to))
	if err != nil {
		t.Fatal(err)
	}
	if acc.State == nil || acc.State.Status != tlb.AccountStatusUninit || acc.State.Balance.Nano().Int64() < 4_999_000_000 {
		t.Fatalf("account after the faucet: %+v", acc.State)
	}
	txs, err := api.ListTransactions(ctx, tonAddress(to), 5, acc.LastTxLT, acc.LastTxHash)
	if err != nil || len(txs) != 1 {
		t.Fatalf("transactions: %v, %v", txs, err)
	}
	shards, err := api.GetBlockShardsInfo(ctx, head)
	if err != nil || len(shards) != 1 {
		t.Fatalf("shards: %v, %v", shards, err)
	}
	list, more, err := api.GetBlockTransactionsV2(ctx, shards[0], 10)
	if err != nil || more || len(list) != 2 {
		t.Fatalf("block transactions: %v, %v, %v", list, more, err)
	}
	if _, err := api.GetTransaction(ctx, shards[0], tonAddress(to), acc.LastTxLT); err != nil {
		t.Fatal(err)
	}
	if b, err := api.GetBlockData(ctx, shards[0]); err != nil {
		t.Fatal(err)
	} else if all, err := b.ListTransactions(); err != nil || len(all) != 2 {
		t.Fatalf("transactions in the block: %d, %v", len(all), err)
	}
	other, err := api.GetAccount(ctx, head, tonAddress(cocoon.Address{Hash: [32]byte{9}}))
	if err != nil || other.IsActive {
		t.Errorf("absent account: %+v, %v", other, err)
	}
}

func TestResumeKeepsTheHead(t *testing.T) {
	dir := t.TempDir()
	c, stop := start(t, Config{Dir: dir, SelfCheck: true})
	to := cocoon.Address{Hash: [32]byte{1}}
	if err := c.Faucet(testContext(t), to, coins.PerCoin); err != nil {
		t.Fatal(err)
	}
	faucet := c.FaucetAddress()
	api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	trusted, err := api.GetMasterchainInfo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	stop()
	head := c.Head()

	c, err = Open(Config{Dir: dir, SelfCheck: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Head(); got != head {
		t.Fatalf("resumed at %+v, want %+v", got, head)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c, _ = start(t, Config{Dir: dir, SelfCheck: true})
	if c.FaucetAddress() != faucet {
		t.Error("the faucet moved")
	}
	api = dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, trusted)
	if err := c.Faucet(testContext(t), to, coins.PerCoin); err != nil {
		t.Fatal(err)
	}
	now, err := api.GetMasterchainInfo(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	acc, err := api.GetAccount(testContext(t), now, tonAddress(to))
	if err != nil {
		t.Fatal(err)
	}
	if acc.State.Balance.Nano().Int64() < 1_990_000_000 {
		t.Errorf("balance after two faucets and a restart: %s", acc.State.Balance)
	}
}

func TestConfigRefusesRealNetworks(t *testing.T) {
	for _, id := range []int32{-239, -3} {
		if _, err := Open(Config{Dir: t.TempDir(), GlobalID: id}); err == nil {
			t.Errorf("global id %d was accepted", id)
		}
	}
	if DefaultGlobalID == -239 || DefaultGlobalID == -3 {
		t.Error("the default global id is a real network's")
	}
}

func TestMerkleUpdateOfSharedCells(t *testing.T) {
	leaf := func(i uint64) *cell.Cell { return cell.BeginCell().MustStoreUInt(i, 64).EndCell() }
	deep := func(c *cell.Cell, n int) *cell.Cell { // both references are the same cell, again and again
		for range n {
			c = cell.BeginCell().MustStoreRef(c).MustStoreRef(c).EndCell()
		}
		return c
	}
	from, to := deep(leaf(1), 200), deep(leaf(2), 200)
	u, err := merkleUpdate(from, to)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkUpdate(from, u, to); err != nil {
		t.Fatal(err)
	}
	if err := checkUpdate(to, u, from); err == nil {
		t.Error("the update applied backwards")
	}
	if !bytes.Equal(from.Hash(), deep(leaf(1), 200).Hash()) {
		t.Error("the old tree changed")
	}
}
