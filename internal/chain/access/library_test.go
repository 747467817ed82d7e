//go:build !tee

package access

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"math/big"
	"os"
	"testing"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// TestLibraryCode runs get-methods of a contract whose code is a library, at
// servers that give it, another one, or none.
func TestLibraryCode(t *testing.T) {
	boc, err := os.ReadFile("../devnet/testdata/probe.boc")
	if err != nil {
		t.Fatal(err)
	}
	code, err := cell.FromBOC(boc)
	if err != nil {
		t.Fatal(err)
	}
	w, err := wallet.FromPrivateKey(nil, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32)), wallet.ConfigV5R1Final{NetworkGlobalID: devnet.DefaultGlobalID})
	if err != nil {
		t.Fatal(err)
	}
	w.GetSpec().(*wallet.SpecV5R1Final).SetSeqnoFetcher(func(context.Context, uint32) (uint32, error) { return 0, nil })
	chain := startChain(t, func(cfg *devnet.Config) {
		cfg.Libraries = [][]byte{boc}
		cfg.Balances = map[cocoon.Address]coins.Nano{{Hash: [32]byte(w.Address().Data())}: 10 * coins.PerCoin}
	})
	library, err := cell.BeginCell().MustStoreUInt(uint64(cell.LibraryCellType), 8).MustStoreSlice(code.Hash(), 256).EndCellSpecial(true)
	if err != nil {
		t.Fatal(err)
	}
	init := &tlb.StateInit{Code: library, Data: cell.BeginCell().MustStoreUInt(42, 64).MustStoreUInt(0, 32).EndCell()}
	to := init.CalcAddress(0)
	ext, err := w.PrepareExternalMessageForMany(t.Context(), true, []*wallet.Message{{Mode: wallet.PayGasSeparately + wallet.IgnoreErrors, InternalMessage: &tlb.InternalMessage{
		IHRDisabled: true, DstAddr: to, Amount: tlb.MustFromTON("1"), StateInit: init, Body: cell.BeginCell().EndCell(),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	msg, err := tlb.ToCell(ext)
	if err != nil {
		t.Fatal(err)
	}
	if err := chain.SendExternal(msg.ToBOC()); err != nil {
		t.Fatal(err)
	}
	if err := chain.Mine(); err != nil {
		t.Fatal(err)
	}
	another := cell.BeginCell().MustStoreUInt(1, 8).EndCell()
	for name, test := range map[string]struct {
		lie  twist
		want error
	}{
		"given":            {nil, nil},
		"not known":        {on(func(ton.LibraryResult) tl.Serializable { return ton.LibraryResult{} }), ErrRefused},
		"another":          {on(func(r ton.LibraryResult) tl.Serializable { r.Result[0].Data = another.ToBOC(); return r }), ErrForged},
		"no bag of cells":  {on(func(r ton.LibraryResult) tl.Serializable { r.Result[0].Data = []byte{1}; return r }), ErrForged},
		"of another query": {on(func(ton.LibraryResult) tl.Serializable { return ton.CurrentTime{} }), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLiar(t, chain, test.lie)
			c := open(t, Config{GlobalConfig: chain.GlobalConfig(), Servers: []Server{l.Server}})
			acc, err := c.Account(t.Context(), cocoon.Address{Hash: [32]byte(to.Data())})
			if err != nil || !acc.Deployed() {
				t.Fatalf("%+v, %v", acc, err)
			}
			res, err := c.RunLocal(t.Context(), acc, "counter")
			if test.want != nil {
				if !errors.Is(err, test.want) {
					t.Errorf("%v, want %v", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if n, ok := res[0].(*big.Int); !ok || n.Int64() != 42 {
				t.Errorf("the counter is %v, want 42", res)
			}
		})
	}
}
