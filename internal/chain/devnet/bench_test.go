//go:build !tee

package devnet

import (
	"context"
	"crypto/ed25519"
	"runtime"
	"testing"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// crowd opens a chain with n funded wallets, which Run does not drive.
func crowd(b *testing.B, n int, cfg Config) (*Chain, []*testWallet) {
	b.Helper()
	cfg.Balances = map[cocoon.Address]coins.Nano{}
	wallets := make([]*testWallet, n)
	for i := range wallets {
		wallets[i] = newTestWallet(b, i)
		cfg.Balances[wallets[i].addr] = 1_000_000 * coins.PerCoin
	}
	if cfg.Dir == "" {
		cfg.Dir = b.TempDir()
	}
	c, err := Open(cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c, wallets
}

// payAll queues a transfer of every wallet to its neighbour.
func payAll(b *testing.B, c *Chain, wallets []*testWallet) {
	b.Helper()
	for i, w := range wallets {
		to := tonAddress(wallets[(i+1)%len(wallets)].addr)
		if err := c.SendExternal(w.external(b, c.now(), message(to, 1000, false, nil, addBody(1)))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEmptyBlock(b *testing.B) {
	c, _ := crowd(b, 100, Config{})
	for b.Loop() {
		if err := c.Mine(); err != nil {
			b.Fatal(err)
		}
	}
	n := c.current()
	b.ReportMetric(float64(n.head().size), "B/block")
}

// BenchmarkBlock200 is a block of 200 transfers, that is 400 transactions.
// Accepting the messages into the mempool is not timed.
func BenchmarkBlock200(b *testing.B) {
	c, wallets := crowd(b, 200, Config{})
	b.ResetTimer()
	for range b.N {
		b.StopTimer()
		payAll(b, c, wallets)
		b.StartTimer()
		if err := c.Mine(); err != nil {
			b.Fatal(err)
		}
	}
	txs := float64(countTransactions(c.current()))
	b.ReportMetric(txs/b.Elapsed().Seconds(), "tx/s")
}

// BenchmarkAccept is the check of an external message on arrival.
func BenchmarkAccept(b *testing.B) {
	c, wallets := crowd(b, 1, Config{})
	boc := wallets[0].external(b, c.now(), message(tonAddress(wallets[0].addr), 1, false, nil, addBody(1)))
	for b.Loop() {
		if err := c.SendExternal(boc); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkConfirmedTransfer is the time until a client with policy Secure
// has proof of its transfer.
func BenchmarkConfirmedTransfer(b *testing.B) {
	c, _ := start(b, Config{Dir: b.TempDir()})
	api := dial(b, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	alice := newActor(b, c, api, "alice", 1_000_000*coins.PerCoin)
	for b.Loop() {
		if _, _, err := alice.SendWaitTransaction(alice.ctx, wallet.SimpleMessage(alice.Address(), tlb.MustFromTON("0.001"), addBody(1))); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkQueries(b *testing.B) {
	c, _ := start(b, Config{Dir: b.TempDir(), KeepStates: 1 << 20})
	api := dial(b, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
	ctx := context.Background()
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		b.Fatal(err)
	}
	addr := tonAddress(c.FaucetAddress())
	for name, query := range map[string]func() error{
		"getTime":      func() error { _, err := api.GetTime(ctx); return err },
		"getAccount":   func() error { _, err := api.GetAccount(ctx, head, addr); return err },
		"runGetMethod": func() error { _, err := api.RunGetMethod(ctx, head, addr, "seqno"); return err },
		"shards":       func() error { _, err := api.GetBlockShardsInfo(ctx, head); return err },
		"config":       func() error { _, err := api.GetBlockchainConfig(ctx, head); return err },
	} {
		b.Run(name, func(b *testing.B) {
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := query(); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
		})
	}
}

// BenchmarkServe is the server's part of a query alone.
func BenchmarkServe(b *testing.B) {
	c, _ := crowd(b, 1000, Config{})
	n := c.current()
	head := n.head().id()
	a := c.FaucetAddress()
	acc := ton.AccountID{ID: a.Hash[:]}
	for name, q := range map[string]tl.Serializable{
		"getAccount": ton.GetAccountState{ID: head, Account: acc},
		"runMethod":  ton.RunSmcMethod{Mode: 7, ID: head, Account: acc, MethodID: tlb.MethodNameHash("seqno")},
		"blockProof": ton.GetBlockProof{KnownBlock: n.key.id()},
		"shards":     ton.GetAllShardsInfo{ID: head},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := n.handle(q, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen is the start of a new chain: genesis, two blocks, listening.
func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		c, err := Open(Config{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkResume replays a log of 20 000 transactions in 50 blocks, without
// a snapshot.
func BenchmarkResume(b *testing.B) {
	dir := b.TempDir()
	c, wallets := crowd(b, 200, Config{Dir: dir})
	for range 50 {
		payAll(b, c, wallets)
		if err := c.Mine(); err != nil {
			b.Fatal(err)
		}
	}
	n := c.current()
	txs := countTransactions(n)
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	removeFile(b, n.snapshotPath())
	b.ResetTimer()
	for range b.N {
		c, err := Open(Config{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		c.Close()
		removeFile(b, c.current().snapshotPath())
		b.StartTimer()
	}
	b.ReportMetric(float64(txs), "txs")
}

// BenchmarkMemory reports what a transaction and an idle block leave in
// memory once they are old.
func BenchmarkMemory(b *testing.B) {
	for range b.N {
		c, wallets := crowd(b, 200, Config{KeepStates: 16})
		n := c.current()
		mine := func(blocks int, pay bool) (perBlock float64) {
			for range 20 { // let what came before get old
				if err := c.Mine(); err != nil {
					b.Fatal(err)
				}
			}
			before := heapInUse()
			for range blocks {
				if pay {
					payAll(b, c, wallets)
				}
				if err := c.Mine(); err != nil {
					b.Fatal(err)
				}
			}
			for range 20 {
				if err := c.Mine(); err != nil {
					b.Fatal(err)
				}
			}
			return (heapInUse() - before) / float64(blocks)
		}
		b.ReportMetric(mine(2000, false), "B/idle-block")
		txs := countTransactions(n)
		perBlock := mine(50, true)
		b.ReportMetric(perBlock*50/float64(countTransactions(n)-txs), "B/tx")
	}
}

func heapInUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// BenchmarkSign is what a forward proof costs beside its cells.
func BenchmarkSign(b *testing.B) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	n := &network{validator: key}
	for b.Loop() {
		if _, err := n.sign(extRef{}); err != nil {
			b.Fatal(err)
		}
	}
}
