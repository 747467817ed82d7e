//go:build !tee

package access

import (
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
)

func open(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestFollowDevnet(t *testing.T) {
	chain := startChain(t, nil)
	c := open(t, Config{GlobalConfig: chain.GlobalConfig()})
	if got := c.Network().GlobalID; got != chain.GlobalID() {
		t.Errorf("global id %d, want %d", got, chain.GlobalID())
	}
	last := uint32(0)
	blocks := c.Follow(t.Context())
	for range 5 {
		b := <-blocks
		if b.Seqno <= last {
			t.Errorf("block %d after block %d", b.Seqno, last)
		}
		last = b.Seqno
		acc, err := c.AccountAt(t.Context(), b, chain.FaucetAddress())
		if err != nil {
			t.Fatal(err)
		}
		if !acc.Deployed() || acc.Balance == 0 || acc.Block != b {
			t.Errorf("faucet in block %d: %+v", b.Seqno, acc)
		}
	}
}

func TestAccounts(t *testing.T) {
	to := cocoon.Address{Hash: [32]byte{1, 2, 3}}
	chain := startChain(t, func(cfg *devnet.Config) { cfg.Idle = time.Second })
	c := open(t, Config{GlobalConfig: chain.GlobalConfig()})
	acc, err := c.Account(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	if acc.Exists {
		t.Errorf("an account nobody made: %+v", acc)
	}
	if err := chain.Faucet(t.Context(), to, 5_000_000_000); err != nil {
		t.Fatal(err)
	}
	if acc, err = c.Account(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	if !acc.Exists || acc.Deployed() || acc.Balance != 5_000_000_000 {
		t.Errorf("funded account: %+v", acc)
	}
	list, err := c.Transactions(t.Context(), acc, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].In == nil || list[0].In.Value != 5_000_000_000 || list[0].In.Source != chain.FaucetAddress() {
		t.Errorf("transactions: %+v", list)
	}
	if list, err = c.Transactions(t.Context(), acc, acc.LastTxLT); err != nil || len(list) != 0 {
		t.Errorf("nothing new: %+v, %v", list, err)
	}
	faucet, err := c.Account(t.Context(), chain.FaucetAddress())
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.RunLocal(t.Context(), faucet, "seqno")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(res)
}
