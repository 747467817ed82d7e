package chain

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/tonkeeper/tongo/config"
	"github.com/tonkeeper/tongo/liteapi"
	"github.com/tonkeeper/tongo/tlb"
	"github.com/tonkeeper/tongo/ton"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// missing skips a test for want of something, or fails it where everything is
// to be there.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("COCOON_REQUIRE") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// world is a development chain with a client and some history.
type world struct {
	chain  *devnet.Chain
	client *access.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	chain, err := devnet.Open(devnet.Config{Dir: t.TempDir(), Idle: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx) }()
	client, err := access.Open(t.Context(), access.Config{GlobalConfig: chain.GlobalConfig()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &world{chain, client}
}

// wallet opens a wallet with a new mnemonic and ten coins.
func (w *world) wallet(t *testing.T, kind wallet.Kind, dir string) *wallet.Wallet {
	t.Helper()
	key := wallet.NewMnemonicKey()
	if err := wallet.WriteKeyFile(dir+"/wallet.key", key); err != nil {
		t.Fatal(err)
	}
	out, err := wallet.Open(wallet.Config{
		Chain: w.client, Key: key, Dir: dir,
		Contract: wallet.Contract{Kind: kind, GlobalID: w.chain.GlobalID(), Owner: w.chain.FaucetAddress()},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.chain.Faucet(t.Context(), out.Address(), 10*coins.PerCoin); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestTongo reads the chain with tongo's pure Go client: it decodes every
// block completely and checks the proofs of accounts, and finds what our own
// client found.
func TestTongo(t *testing.T) {
	w := newWorld(t)
	var wallets []*wallet.Wallet
	for _, kind := range []wallet.Kind{wallet.V5R1, wallet.V4R2, wallet.Node} {
		sender := w.wallet(t, kind, t.TempDir())
		wallets = append(wallets, sender)
		for range 2 {
			if _, err := sender.Send(t.Context(), []wallet.Message{
				{To: cocoon.Address{Hash: [32]byte{1}}, Amount: coins.PerCoin, Mode: wallet.ModePayFees, Body: wallet.Comment("for tongo")},
				{To: w.chain.FaucetAddress(), Amount: 1, Mode: wallet.ModePayFees, Bounce: true},
			}); err != nil {
				t.Fatal(err)
			}
		}
	}

	file, err := config.ParseConfig(bytes.NewReader(w.chain.GlobalConfig()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	their, err := liteapi.NewClient(liteapi.WithConfigurationFile(*file), liteapi.WithProofPolicy(liteapi.ProofPolicyFast), liteapi.WithInitializationContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	info, err := their.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := w.client.Network(); [32]byte(info.Init.RootHash) != n.ZeroStateRootHash || [32]byte(info.Init.FileHash) != n.ZeroStateFileHash {
		t.Error("tongo and our client see different zero states")
	}

	transactions := 0
	for seqno := uint32(1); seqno <= info.Last.Seqno; seqno++ {
		id, header, err := their.LookupBlock(ctx, ton.BlockID{Workchain: -1, Shard: 1 << 63, Seqno: seqno}, 1, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		ours, err := w.client.LookupBlock(ctx, seqno)
		if err != nil {
			t.Fatal(err)
		}
		if [32]byte(id.RootHash) != ours.RootHash || [32]byte(id.FileHash) != ours.FileHash || int64(header.GenUtime) != ours.Time.Unix() {
			t.Errorf("block %d: tongo has %s of %d, we have %x of %d", seqno, id, header.GenUtime, ours.RootHash, ours.Time.Unix())
		}
		transactions += len(w.decode(t, ctx, their, id))
		shards, err := their.GetAllShardsInfo(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range shards {
			if s.Seqno > 0 {
				transactions += len(w.decode(t, ctx, their, s))
			}
		}
	}
	if transactions < 20 {
		t.Errorf("the blocks hold %d transactions", transactions)
	}

	for _, sender := range wallets {
		addr := sender.Address()
		theirID := ton.AccountID{Workchain: addr.Workchain, Address: addr.Hash}
		if raw := theirID.ToHuman(false, false); raw != addr.String() {
			t.Errorf("address %s, tongo writes %s", addr, raw)
		}
		ours, err := w.client.Account(ctx, addr)
		if err != nil {
			t.Fatal(err)
		}
		state, err := their.GetAccountState(ctx, theirID)
		if err != nil {
			t.Fatal(err)
		}
		if got := uint64(state.Account.Account.Storage.Balance.Grams); got != uint64(ours.Balance) {
			t.Errorf("%s: tongo has %d nano, we have %d", addr, got, ours.Balance)
		}
		if state.LastTransLt != ours.LastTxLT || [32]byte(state.LastTransHash) != ours.LastTxHash {
			t.Errorf("%s: tongo has another last transaction", addr)
		}
		list, err := their.GetLastTransactions(ctx, theirID, 100)
		if err != nil {
			t.Fatal(err)
		}
		mine, err := w.client.Transactions(ctx, ours, 0)
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != len(mine) || len(mine) < 3 {
			t.Errorf("%s: tongo has %d transactions, we have %d", addr, len(list), len(mine))
		}
		code, stack, err := their.RunSmcMethod(ctx, theirID, "seqno", tlb.VmStack{})
		if err != nil || code != 0 || len(stack) != 1 || stack[0].Int64() != 2 {
			t.Errorf("%s: seqno %v, exit code %d, %v", addr, stack, code, err)
		}
	}
	if _, err := their.GetAccountState(ctx, ton.AccountID{Address: [32]byte{9, 9}}); err != nil {
		t.Errorf("an account that does not exist: %v", err)
	}
}

// decode reads a block to the last bit and returns its transactions.
func (w *world) decode(t *testing.T, ctx context.Context, c *liteapi.Client, id ton.BlockIDExt) []*tlb.Transaction {
	t.Helper()
	block, err := c.GetBlock(ctx, id)
	if err != nil {
		t.Fatalf("block %s: %v", id, err)
	}
	if block.Info.SeqNo != id.Seqno {
		t.Errorf("block %s has number %d inside", id, block.Info.SeqNo)
	}
	return block.AllTransactions()
}
