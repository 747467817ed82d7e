//go:build !tee

package devnet

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// testWallet is a V5R1 wallet that builds its messages without a client.
type testWallet struct {
	key   ed25519.PrivateKey
	init  *tlb.StateInit
	addr  cocoon.Address
	seqno uint32
}

func newTestWallet(t testing.TB, i int) *testWallet {
	t.Helper()
	seed := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("wallet"), uint64(i)))
	w := &testWallet{key: ed25519.NewKeyFromSeed(seed[:])}
	var err error
	if w.init, err = walletInit(w.key.Public().(ed25519.PublicKey), DefaultGlobalID); err != nil {
		t.Fatal(err)
	}
	w.addr = faucetAddress(w.init)
	return w
}

// external signs a message with the next seqno, whether or not it will be
// accepted. The wallet's code goes with the first.
func (w *testWallet) external(t testing.TB, now uint32, msgs ...*wallet.Message) []byte {
	t.Helper()
	var init *tlb.StateInit
	if w.seqno == 0 {
		init = w.init
	}
	boc, err := walletExternal(w.key, DefaultGlobalID, w.seqno, now+600, w.addr, init, msgs...)
	if err != nil {
		t.Fatal(err)
	}
	w.seqno++
	return boc
}

func message(to *address.Address, nano int64, bounce bool, init *tlb.StateInit, body *cell.Cell) *wallet.Message {
	return &wallet.Message{Mode: wallet.PayGasSeparately + wallet.IgnoreErrors, InternalMessage: &tlb.InternalMessage{
		IHRDisabled: true, Bounce: bounce, DstAddr: to, Amount: tlb.FromNanoTON(big.NewInt(nano)), StateInit: init, Body: body,
	}}
}

// TestRandomMessages throws random messages at a chain with tiny blocks and
// jumps in time. Every block checks itself: bytes, value flow, Merkle update.
// At the end no coin is missing, and a replay of the log gives the same state.
func TestRandomMessages(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	wallets := make([]*testWallet, 24)
	cfg := Config{Dir: t.TempDir(), SelfCheck: true, MaxTransactions: 7, MaxHops: 3, KeepStates: 16, SnapshotEvery: 100, Balances: map[cocoon.Address]coins.Nano{}}
	for i := range wallets {
		wallets[i] = newTestWallet(t, i)
		cfg.Balances[wallets[i].addr] = 10_000 * coins.PerCoin
	}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := c.current()
	supplied := new(big.Int).Set(n.shard.balance)

	code := probeCode(t)
	var probes []*tlb.StateInit
	var addrs []*address.Address
	for i := range 12 {
		init := &tlb.StateInit{Code: code, Data: probeData(uint64(i))}
		probes = append(probes, init)
		addrs = append(addrs, init.CalcAddress(0))
	}
	target := func() *address.Address {
		switch rnd.IntN(8) {
		case 0:
			return tonAddress(cocoon.Address{Hash: [32]byte{byte(rnd.IntN(256)), byte(rnd.IntN(256))}})
		case 1:
			return address.NewAddress(0, 0xff, make([]byte, 32)) // the masterchain, where nobody lives
		case 2:
			return tonAddress(wallets[rnd.IntN(len(wallets))].addr)
		}
		return addrs[rnd.IntN(len(addrs))]
	}
	random := func() *wallet.Message {
		nano := []int64{0, 1, 5_000_000, 100_000_000, 3_000_000_000, 60_000_000_000_000}[rnd.IntN(6)]
		bounce := rnd.IntN(2) == 0
		switch rnd.IntN(7) {
		case 0: // deploys, or is a plain transfer
			i := rnd.IntN(len(probes))
			return message(addrs[i], 50_000_000+nano, bounce, probes[i], cell.BeginCell().EndCell())
		case 1:
			return message(target(), nano, bounce, nil, addBody(uint64(rnd.IntN(100))))
		case 2:
			return message(target(), nano, bounce, nil, forwardBody(target(), uint64(rnd.IntN(100))))
		case 3:
			return message(target(), nano, bounce, nil, failBody())
		case 4:
			return message(target(), nano, bounce, nil, loopBody(uint64(rnd.IntN(6))))
		case 5:
			return message(target(), nano, bounce, nil, cell.BeginCell().MustStoreUInt(rnd.Uint64(), 64).EndCell())
		}
		return message(target(), nano, bounce, nil, cell.BeginCell().EndCell())
	}

	accepted := 0
	for range 200 {
		for range rnd.IntN(8) {
			w := wallets[rnd.IntN(len(wallets))]
			// Messages that expired in a jump of time were dropped.
			if w.seqno, err = n.walletSeqno(w.addr.Hash); err != nil {
				w.seqno = 0
			}
			msgs := make([]*wallet.Message, 1+rnd.IntN(5))
			for i := range msgs {
				msgs[i] = random()
			}
			if rnd.IntN(10) == 0 {
				w.seqno += 3
				if err := c.SendExternal(w.external(t, c.now(), msgs...)); err == nil {
					t.Fatal("a message with a wrong seqno was accepted")
				}
				continue
			}
			if err := c.SendExternal(w.external(t, c.now(), msgs...)); err != nil {
				t.Fatal(err)
			}
			accepted++
		}
		if rnd.IntN(20) == 0 {
			if err := c.Advance(time.Duration(rnd.IntN(400)) * 24 * time.Hour); err != nil {
				t.Fatal(err)
			}
		} else if err := c.Mine(); err != nil {
			t.Fatal(err)
		}
	}
	for n.hasWaiting() || n.pool.len() > 0 {
		if err := c.Mine(); err != nil {
			t.Fatal(err)
		}
	}
	if txs := countTransactions(n); accepted < 400 || txs < 1000 {
		t.Errorf("only %d messages and %d transactions: too few to mean much", accepted, txs)
	}
	checkSupply(t, n, supplied)
	checkLinks(t, n)

	head, shard, master := c.Head(), n.shard.root.HashKey(), n.master.root.HashKey()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for _, snapshot := range []bool{true, false} {
		if !snapshot { // the long way round
			removeFile(t, n.snapshotPath())
		}
		c, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n := c.current()
		if c.Head() != head || n.shard.root.HashKey() != shard || n.master.root.HashKey() != master {
			t.Errorf("replay (with a snapshot: %v) leads to another state", snapshot)
		}
		if len(n.txs) == 0 || n.waiting {
			t.Errorf("replay (with a snapshot: %v) lost the index or made work", snapshot)
		}
		checkSupply(t, n, supplied)
		if err := c.Mine(); err != nil {
			t.Fatal(err)
		}
		head, shard, master = c.Head(), n.shard.root.HashKey(), n.master.root.HashKey()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkLinks follows every account: each transaction names the one before it,
// and logical time grows. An account that is gone when a block ends starts
// anew in a later one, as if it had never been.
func checkLinks(t *testing.T, n *network) {
	t.Helper()
	last := map[hash]txID{} // hash and LT of the account's last transaction
	deleted := 0
	for _, b := range n.shards.blocks {
		root, err := n.blockRoot(b)
		if err != nil {
			t.Fatal(err)
		}
		for i, id := range b.txs {
			c, err := b.transaction(root, id)
			if err != nil {
				t.Fatal(err)
			}
			var tx tlb.Transaction
			if err := tlb.Parse(&tx, c); err != nil {
				t.Fatal(err)
			}
			want := last[id.account]
			if hash(tx.PrevTxHash) != want.account || tx.PrevTxLT != want.lt || tx.LT <= want.lt {
				t.Fatalf("block %d, account %x: transaction %d follows %d, its last was %d", b.seqno(), id.account[:4], tx.LT, tx.PrevTxLT, want.lt)
			}
			last[id.account] = txID{cellHash(c), tx.LT}
			ends := i+1 == len(b.txs) || b.txs[i+1].account != id.account
			if ends && tx.EndStatus == tlb.AccountStatusNonExist {
				delete(last, id.account)
				deleted++
			}
		}
	}
	if deleted == 0 {
		t.Error("no account was ever deleted: the test lost a case")
	}
}

func countTransactions(n *network) (sum int) {
	for _, refs := range n.txs {
		sum += len(refs)
	}
	return sum
}

// checkSupply verifies that accounts, collected fees and the messages that
// wait for the masterchain add up to what genesis gave out.
func checkSupply(t *testing.T, n *network, want *big.Int) {
	t.Helper()
	sum := new(big.Int).Add(n.shard.balance, n.master.fees)
	if !n.shard.queue.IsEmpty() {
		items, err := n.shard.queue.RangeExtra(false, true)
		if err != nil {
			t.Fatal(err)
		}
		for _, it := range items {
			var q tlb.EnqueuedMsg
			var env tlb.MsgEnvelope
			if err := tlb.LoadFromCell(&q, it.Value); err != nil {
				t.Fatal(err)
			}
			if err := tlb.Parse(&env, q.Msg); err != nil {
				t.Fatal(err)
			}
			m, err := newIntMsg(env.Msg)
			if err != nil {
				t.Fatal(err)
			}
			in := m.msg.Message().AsInternal()
			sum.Add(sum, in.Amount.Nano())
			sum.Add(sum, in.FwdFee.Nano())
		}
	}
	if sum.Cmp(want) != 0 {
		t.Errorf("coins on the chain: %d, genesis gave out %d", sum, want)
	}
}
