//go:build !tee

package devnet

import (
	"bytes"
	"context"
	"reflect"
	"testing"

	"github.com/xssnick/tonutils-go/adnl"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// FuzzRecord reads log records, writes what it read and reads it again.
func FuzzRecord(f *testing.F) {
	mc := &block{workchain: masterchain, ref: extRef{seqno: 5, endLT: 9}, startLT: 8, utime: 7, boc: []byte("boc"), size: 3}
	shard := &block{workchain: basechain, ref: extRef{seqno: 2}, boc: []byte("more"), size: 4, txs: []txID{{lt: 3}, {account: hash{1}, lt: 4}}}
	in := &segment{first: 1}
	for _, blocks := range [][]*block{{mc}, {shard, mc}} {
		b, err := appendRecord(nil, 0, in, blocks)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[recordHeader:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		blocks, err := parseRecord(body, place{in, recordHeader})
		if err != nil {
			return
		}
		b, err := appendRecord(nil, 0, in, blocks)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b[recordHeader:], body) {
			t.Fatalf("wrote %x, read %x", b[recordHeader:], body)
		}
		again, err := parseRecord(b[recordHeader:], place{in, recordHeader})
		if err != nil || !reflect.DeepEqual(again, blocks) {
			t.Fatalf("read again: %v", err)
		}
	})
}

// FuzzGenesis reads a genesis file, writes and reads it again.
func FuzzGenesis(f *testing.F) {
	cfg := Config{Dir: "unused", Balances: map[cocoon.Address]coins.Nano{{Hash: hash{1}}: 5}}
	if err := cfg.Validate(); err != nil {
		f.Fatal(err)
	}
	g, err := newGenesis(cfg)
	if err != nil {
		f.Fatal(err)
	}
	b, err := g.marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"state":"te6ccgEBAQEAAgAAAA=="}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := parseGenesis(b)
		if err != nil {
			return
		}
		b, err = g.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseGenesis(b)
		if err != nil {
			t.Fatal(err)
		}
		if again.globalID != g.globalID || again.time != g.time || again.lt != g.lt || again.seed != g.seed ||
			again.accounts.HashKey() != g.accounts.HashKey() || (again.libraries == nil) != (g.libraries == nil) {
			t.Fatalf("%+v became %+v", g, again)
		}
		g.zeroStates() // an error, or states; never a panic
	})
}

// FuzzExternal reads external messages, writes and reads them again.
func FuzzExternal(f *testing.F) {
	w := newTestWallet(f, 1)
	f.Add(w.external(f, 1_700_000_000, message(tonAddress(w.addr), 5, true, nil, addBody(1))))
	f.Add([]byte{0xb5, 0xee, 0x9c, 0x72})
	f.Fuzz(func(t *testing.T, boc []byte) {
		x, err := parseExternal(boc)
		if err != nil {
			return
		}
		again, err := parseExternal(x.msg.Cell().ToBOC())
		if err != nil || again.hash != x.hash || again.dst != x.dst {
			t.Fatalf("read again: %+v, %v", again, err)
		}
	})
}

// FuzzStack reads get-method parameters, writes and reads them again.
func FuzzStack(f *testing.F) {
	f.Add(stackBOC(f))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, boc []byte) {
		s, err := parseStack(boc)
		if err != nil {
			return
		}
		c, err := stackCell(s)
		if err != nil {
			return // too large as a result
		}
		again, err := parseStack(c.ToBOC())
		if err != nil || again.Len() != s.Len() {
			t.Errorf("read again: %v", err)
		}
	})
}

func stackBOC(t testing.TB) []byte {
	t.Helper()
	inner := cell.BeginCell().MustStoreUInt(1, 8).MustStoreUInt(7, 64).EndCell()
	tuple := cell.BeginCell().MustStoreUInt(7, 8).MustStoreUInt(1, 16).MustStoreRef(inner)
	return cell.BeginCell().MustStoreUInt(1, 24).MustStoreRef(cell.BeginCell().EndCell()).MustStoreBuilder(tuple).EndCell().ToBOC()
}

// FuzzQuery feeds the server what a client behind a true handshake can send.
func FuzzQuery(f *testing.F) {
	cfg := Config{Dir: f.TempDir()}
	c, err := Open(cfg)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	n := c.current()
	head := n.head().id()
	for _, q := range []tl.Serializable{
		ton.GetMasterchainInf{}, ton.GetBlockData{ID: head}, ton.GetConfigParams{BlockID: head, Params: []int32{1, 2}},
		ton.LookupBlock{Mode: 2, ID: &ton.BlockInfoShort{Workchain: -1, Shard: wholeShard}, LT: 5},
		ton.RunSmcMethod{Mode: 7, ID: head, Account: ton.AccountID{ID: make([]byte, 32)}, Params: stackBOC(f)},
		ton.GetBlockProof{Mode: 1, KnownBlock: head, TargetBlock: n.key.id()},
		ton.SendMessage{Body: []byte{1, 2, 3}}, ton.GetLibraries{LibraryList: [][]byte{make([]byte, 32)}},
	} {
		b, err := tl.Serialize(adnl.MessageQuery{ID: make([]byte, 32), Data: liteclient.LiteServerQuery{Data: q}}, true)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		msg, err := parseTL(data)
		q, ok := msg.(adnl.MessageQuery)
		if err != nil || !ok {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // waiting is not what is tested
		res := c.server.safeAnswer(ctx, q.Data)
		b, err := tl.Serialize(adnl.MessageAnswer{ID: q.ID, Data: res}, true)
		if err != nil {
			t.Fatalf("answer %T cannot be written: %v", res, err)
		}
		if _, err := parseTL(b); err != nil {
			t.Fatalf("answer %T cannot be read: %v", res, err)
		}
	})
}
