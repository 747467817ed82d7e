package contracts

import (
	"bytes"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// The least value that an operation accepts pays for every path it can take,
// with a contract that holds no more than its floor: done, or refused by the
// proxy, sent back, undone and announced.
func TestCommissionCoversEveryPath(t *testing.T) {
	const least = 100 * mTON
	for _, c := range []struct {
		name  string
		value int64
		short bool // of coins in the pool
		proxy proxyState
		state clientState
		body  func(n *network) *cell.Cell
		at    func(n *network) addr
		from  addr
	}{
		{name: "withdraw", value: least, from: clientOwner, body: func(n *network) *cell.Cell { return n.plain(opWithdraw) }},
		{name: "withdraw refused", value: least, short: true, from: clientOwner, body: func(n *network) *cell.Cell { return n.plain(opWithdraw) }},
		{name: "request refund refused", value: least, short: true, from: clientOwner, body: func(n *network) *cell.Cell { return n.plain(opRequestRefund) }},
		{name: "grant refund", value: least, from: excessTo, body: func(n *network) *cell.Cell { return n.grantRefund(5) }},
		{name: "grant refund refused", value: least, short: true, from: excessTo, body: func(n *network) *cell.Cell { return n.grantRefund(5) }},
		{name: "charge", value: least, from: excessTo, body: func(n *network) *cell.Cell { return n.charge(5) }},
		{name: "top-up", value: 5*ton + least, from: excessTo, body: func(n *network) *cell.Cell { return n.topUp(5 * ton) }},
		{name: "top-up refused", value: 5*ton + least, from: excessTo, proxy: proxyState{state: 1, unlock: epoch + 9}, body: func(n *network) *cell.Cell { return n.topUp(5 * ton) }},
		{name: "payout", value: least + 1, from: excessTo, body: func(n *network) *cell.Cell { return n.payout(1000) }, at: func(n *network) addr { return n.work }},
		{name: "payout refused", value: least + 1, short: true, from: excessTo, body: func(n *network) *cell.Cell { return n.payout(1_000_000_000) }, at: func(n *network) addr { return n.work }},
		{name: "last payout refused", value: least + 1, short: true, from: excessTo, body: func(n *network) *cell.Cell { return n.lastPayout(1_000_000_000) }, at: func(n *network) addr { return n.work }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := opening{proxy: c.proxy, client: clientState{balance: 20 * ton}}
			if c.short {
				o.pool = -20 * ton
			}
			n := newNetwork(t, o)
			state := n.clientState
			state.balance = 20 * ton
			n.created.Sub(n.created, n.balance(n.client))
			n.place(n.client, "client", n.params.client, state.cell(), 110*mTON)
			n.created.Sub(n.created, n.balance(n.work))
			n.place(n.work, "worker", n.params.worker, n.workerState.cell(), 110*mTON)
			at := n.client
			if c.at != nil {
				at = c.at(n)
			}
			before := [2]int64{20 * ton, 0}
			refused := c.short || c.proxy.state != 0
			steps := n.ask(c.from, at, c.value, c.body(n))
			if !steps[0].ok() || refused && (len(steps) < 4 || !steps[2].bounced || !steps[2].ok()) {
				t.Fatalf("%+v", steps)
			}
			if refused {
				// Announced, and the counters as before (a grant refund charges 5 tokens).
				after := [2]int64{readClient(n.sandbox, n.client).balance, int64(readWorker(n.sandbox, n.work).tokens)}
				if after[0] > before[0] || after[0] < before[0]-100 || after[1] != before[1] {
					t.Errorf("counters %v, were %v", after, before)
				}
				if last := steps[len(steps)-1]; last.to != n.proxy || last.skip != "NO_GAS" {
					t.Errorf("not announced: %+v", last)
				}
			}
			// A contract that lives on keeps its floor.
			if left := n.balance(at).Int64(); left < 10*mTON || !refused && readClient(n.sandbox, n.client).state != 2 && left < 110*mTON {
				t.Errorf("%d left", left)
			}
			n.requireBalanced()
		})
	}
}

// FuzzStranger sends anything to everything, from nobody in particular and from
// the other contracts: without a signature or an owner's address no coin goes
// to the sender's side and no counter moves against its owner.
func FuzzStranger(f *testing.F) {
	for _, op := range []uint64{
		0, opDoNotProcess, opTopUp, opSecretTopUp, opRegister, opChangeSecret, opClientStake, opWithdraw, opRequestRefund, opCharge, opGrantRefund,
		opClientRequest, opPayout, opLastPayout, opWorkerRegister, opWorkerRequest, opPayOutEarnings, opProxyStake, opOwnerClose, opClose, opCloseComplete,
		opAddWorkerHash, opRegisterProxy, opChangeFees, opReplaceAll, opWalletSend,
	} {
		b := toAddr(body(op, 1), excessTo)
		f.Add(b.MustBeginParse().MustLoadSlice(b.BitsSize()), uint16(b.BitsSize()), []byte("payload"), uint8(op), uint8(op>>8), uint64(ton))
	}
	f.Fuzz(func(t *testing.T, bits []byte, size uint16, ref []byte, target, sender uint8, value uint64) {
		size = min(size, 1023, uint16(min(len(bits), 128)*8))
		ref = ref[:min(len(ref), 127)]
		n := newNetwork(t, opening{client: clientState{balance: 20 * ton, tokens: 7}, worker: workerState{tokens: 7}, proxy: proxyState{earnings: ton, stake: ton}, pool: 5 * ton})
		wallet := n.wallet(5 * ton)
		stranger := n.person("stranger", 0x66)
		b := cell.BeginCell().MustStoreSlice(bits, uint(size))
		if len(ref) > 0 {
			b.MustStoreRef(cell.BeginCell().MustStoreSlice(ref, uint(8*len(ref))).EndCell())
		}
		targets := []addr{n.root, n.proxy, n.client, n.work, wallet}
		senders := []addr{stranger, excessTo, n.root, wallet}
		root, workerData, walletData := n.data(n.root), n.data(n.work), n.data(wallet)
		poolBefore := n.balance(n.proxy).Int64()
		steps := n.ask(senders[int(sender)%len(senders)], targets[int(target)%len(targets)], int64(value%(100*ton)), b.EndCell())

		for _, c := range []struct {
			at   addr
			data *cell.Cell
		}{{n.root, root}, {n.work, workerData}, {wallet, walletData}} {
			if !bytes.Equal(n.data(c.at).Hash(), c.data.Hash()) {
				t.Errorf("a stranger changed %s: %+v", n.name(c.at), steps)
			}
		}
		if c := readClient(n.sandbox, n.client); c.balance < 20*ton || c.tokens != 7 || c.state != 0 {
			t.Errorf("a stranger changed the client: %+v", c)
		}
		p := readProxy(n.sandbox, n.proxy)
		if p.state != 0 || p.stake < ton {
			t.Errorf("a stranger changed the proxy: %+v", p)
		}
		// Only the earnings can leave the pool, to their owner.
		left := poolBefore - n.balance(n.proxy).Int64()
		if earned := ton - p.earnings; left > earned || n.paid(proxyOwner) != earned {
			t.Errorf("%d left the pool, %d were earnings, the owner got %d", left, earned, n.paid(proxyOwner))
		}
		n.requireBalanced()
	})
}
