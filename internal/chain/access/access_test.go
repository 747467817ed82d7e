//go:build !tee

package access

import (
	"bytes"
	"errors"
	"slices"
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
	for range 2 {
		if err := chain.Faucet(t.Context(), to, 1); err != nil {
			t.Fatal(err)
		}
	}
	if acc, err = c.Account(t.Context(), to); err != nil {
		t.Fatal(err)
	}
	recorded(t, c, acc)
}

// recorded hands an account's history on: it is what it was, tied to the state,
// and whatever is changed or cut in front is refused.
func recorded(t *testing.T, c *Client, acc Account) {
	t.Helper()
	want, err := c.Transactions(t.Context(), acc, 0)
	if err != nil || len(want) < 2 {
		t.Fatalf("%d transactions, %v", len(want), err)
	}
	pages, err := c.RecordHistory(t.Context(), acc, func(tx Transaction) bool { return tx.Hash == want[0].Hash })
	if err != nil {
		t.Fatal(err)
	}
	got, err := CheckHistory(acc, pages)
	if err != nil || len(got) != len(want) || got[0].Hash != acc.LastTxHash || got[len(got)-1].Hash != want[0].Hash {
		t.Errorf("%d transactions, %v", len(got), err)
	}
	if _, err := c.RecordHistory(t.Context(), acc, func(Transaction) bool { return false }); !errors.Is(err, ErrUnknownBlock) {
		t.Errorf("a transaction that never was: %v", err)
	}
	hashes := func(all []Transaction) (out [][32]byte) {
		for _, tx := range all {
			out = append(out, tx.Hash)
		}
		return out
	}
	for i := 0; i < len(pages[0]); i += 1 + len(pages[0])/40 {
		bad := bytes.Clone(pages[0])
		bad[i] ^= 4
		// What stands in front of the cells may say the same in another way.
		if again, err := CheckHistory(acc, append([][]byte{bad}, pages[1:]...)); err == nil && !slices.Equal(hashes(again), hashes(got)) {
			t.Errorf("byte %d: another history passes", i)
		}
	}
	other := acc
	other.LastTxHash[0]++
	for name, f := range map[string]func() ([]Transaction, error){
		"another state": func() ([]Transaction, error) { return CheckHistory(other, pages) },
		"nothing":       func() ([]Transaction, error) { return CheckHistory(acc, [][]byte{nil}) },
		"too much":      func() ([]Transaction, error) { return CheckHistory(acc, make([][]byte, 1000)) },
	} {
		if _, err := f(); err == nil {
			t.Errorf("%s passes", name)
		}
	}
}
