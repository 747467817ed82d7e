//go:build !tee

package devnet

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/xssnick/tonutils-go/address"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// TestClock drives makeBlocks through minutes of false time: a block at once,
// one each idle time, one per tick while messages wait.
func TestClock(t *testing.T) {
	for name, tick := range map[string]time.Duration{"on demand": 0, "by tick": 20 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			w := newTestWallet(t, 1)
			cfg := Config{Dir: t.TempDir(), Tick: tick, Balances: map[cocoon.Address]coins.Nano{w.addr: 10 * coins.PerCoin}}
			synctest.Test(t, func(t *testing.T) {
				c, err := Open(cfg)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				ctx := t.Context()
				first := c.Head().Seqno
				go func() {
					if err := c.makeBlocks(ctx); err != nil {
						t.Error(err)
					}
				}()
				at := func(d time.Duration, want uint32) {
					t.Helper()
					time.Sleep(d)
					synctest.Wait()
					if got := c.Head().Seqno - first; got != want {
						t.Fatalf("%d blocks, want %d", got, want)
					}
				}
				at(time.Millisecond, 1) // the one at the start
				at(10*time.Second, 11)  // idle ones
				if err := c.SendExternal(w.external(t, c.now(), message(tonAddress(w.addr), 5, true, nil, addBody(1)))); err != nil {
					t.Fatal(err)
				}
				at(20*time.Millisecond, 12)
				at(500*time.Millisecond, 12) // no further one for nothing
				at(time.Second, 13)          // and idle time counts from the last block
				if txs := countTransactions(c.current()); txs != 2 {
					t.Errorf("%d transactions, want 2", txs)
				}
				at(10*time.Minute, 13+600)
			})
		})
	}
}

// TestFullBlocksGoOn queues more than a block holds: the rest follows without
// waiting to be asked.
func TestFullBlocksGoOn(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), SelfCheck: true, MaxTransactions: 10, Balances: map[cocoon.Address]coins.Nano{}}
	var wallets []*testWallet
	for i := range 35 {
		wallets = append(wallets, newTestWallet(t, i))
		cfg.Balances[wallets[i].addr] = 10 * coins.PerCoin
	}
	synctest.Test(t, func(t *testing.T) {
		c, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for i, w := range wallets {
			to := tonAddress(wallets[(i+1)%len(wallets)].addr)
			if err := c.SendExternal(w.external(t, c.now(), message(to, 1000, true, nil, addBody(1)))); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			if err := c.makeBlocks(t.Context()); err != nil {
				t.Error(err)
			}
		}()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if txs := countTransactions(c.current()); txs != 70 {
			t.Errorf("%d transactions, want 70", txs)
		}
		n := c.current()
		for _, b := range n.shards.blocks {
			if len(b.txs) > 10 {
				t.Errorf("a block of %d transactions", len(b.txs))
			}
		}
	})
}

// TestMasterchainMessagesAreNoWork sends coins where nobody lives: the
// message stays in the queue and makes no blocks.
func TestMasterchainMessagesAreNoWork(t *testing.T) {
	w := newTestWallet(t, 1)
	c, err := Open(Config{Dir: t.TempDir(), SelfCheck: true, Balances: map[cocoon.Address]coins.Nano{w.addr: 10 * coins.PerCoin}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	elsewhere := address.NewAddress(0, 0xff, make([]byte, 32))
	if err := c.SendExternal(w.external(t, c.now(), message(elsewhere, 5, true, nil, addBody(1)))); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		made, err := c.current().produce(c.now(), false)
		if err != nil {
			t.Fatal(err)
		}
		if made != (i == 0) {
			t.Errorf("attempt %d made blocks: %v", i, made)
		}
	}
	if c.current().shard.queue.IsEmpty() {
		t.Error("the message is gone")
	}
}

func TestTimeTravelSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	wall := time.Unix(1_800_000_000, 0)
	cfg := Config{Dir: dir, SelfCheck: true, Now: func() time.Time { return wall }}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Advance(-time.Second); err == nil {
		t.Error("time went back")
	}
	const year = 365 * 24 * time.Hour
	if err := c.Advance(year); err != nil {
		t.Fatal(err)
	}
	if got, want := c.Head().Time, wall.Add(year); !got.Equal(want) {
		t.Errorf("block at %v, want %v", got, want)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wall = wall.Add(time.Minute)
	if c, err = Open(cfg); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.Now().Sub(wall); got < year-time.Hour || got > year {
		t.Errorf("after a restart the chain is %v ahead", got)
	}
	wall = wall.Add(-time.Hour) // the machine's clock is set back
	if err := c.Mine(); err != nil {
		t.Fatal(err)
	}
	if c.Head().Time.Before(wall.Add(year - time.Hour)) {
		t.Errorf("block at %v", c.Head().Time)
	}
}
