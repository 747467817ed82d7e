//go:build !tee

package devnet

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

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
	for b.Loop() {
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
// has proof of its transfer, with blocks on demand and with blocks by the
// clock.
func BenchmarkConfirmedTransfer(b *testing.B) {
	for _, tick := range []time.Duration{0, 20 * time.Millisecond} {
		b.Run(fmt.Sprintf("tick=%v", tick), func(b *testing.B) {
			c, _ := start(b, Config{Dir: b.TempDir(), Tick: tick})
			api := dial(b, c.GlobalConfig(), ton.ProofCheckPolicySecure, nil)
			alice := newActor(b, c, api, "alice", 1_000_000*coins.PerCoin)
			var took []time.Duration
			for b.Loop() {
				begin := time.Now()
				if _, _, err := alice.SendWaitTransaction(alice.ctx, wallet.SimpleMessage(alice.Address(), tlb.MustFromTON("0.001"), addBody(1))); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(begin))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
		})
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

// BenchmarkResume opens a chain of 4,000 transactions in 10 blocks again:
// from its snapshot, and by replaying the whole log.
func BenchmarkResume(b *testing.B) {
	dir := b.TempDir()
	c, wallets := crowd(b, 200, Config{Dir: dir})
	for range 10 {
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
	for _, name := range []string{"snapshot", "replay"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				if name == "replay" {
					removeFile(b, n.snapshotPath())
				}
				b.StartTimer()
				c, err := Open(Config{Dir: dir})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if err := c.Close(); err != nil { // writes the snapshot again
					b.Fatal(err)
				}
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(txs), "us/tx")
		})
	}
}

// BenchmarkMemory reports what a transaction and an idle block leave in
// memory once they are old.
func BenchmarkMemory(b *testing.B) {
	for range b.N {
		c, wallets := crowd(b, 100, Config{KeepStates: 16})
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
		b.ReportMetric(mine(500, false), "B/idle-block")
		txs := countTransactions(n)
		perBlock := mine(30, true)
		b.ReportMetric(perBlock*30/float64(countTransactions(n)-txs), "B/tx")
	}
}

func heapInUse() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
