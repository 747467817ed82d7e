package contracts

import (
	"fmt"
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// TestGas measures every operation of spec contracts 14 as that table does:
// gas of the first contract, all fees along the chain of messages. A single
// operation may use 15 % more gas than the reference, a life cycle none.
func TestGas(t *testing.T) {
	const q = vectorQuery
	rich := opening{client: clientState{balance: 20 * ton, tokens: 1_000_000}, proxy: proxyState{earnings: 3 * ton, stake: 10 * ton}, pool: 50 * ton, worker: workerState{tokens: 500_000}}
	in := func(o opening, change func(*opening)) opening { change(&o); return o }
	closing := in(rich, func(o *opening) { o.proxy.state, o.proxy.unlock = 1, epoch-1 })
	clientClosing := in(rich, func(o *opening) { o.client.state, o.client.unlock, o.client.balance = 1, epoch-1, 2500*mTON })
	poor := in(rich, func(o *opening) { o.client.balance = 2500 * mTON })

	type op struct {
		name    string
		refGas  int64   // gas of the reference
		refFees float64 // total fees of the reference, TON
		open    opening
		run     func(n *network) []step
	}
	rootOp := func(b func(n *network) *cell.Cell) func(n *network) []step {
		return func(n *network) []step { return n.ask(rootOwner, n.root, 50*mTON, b(n)) }
	}
	listed := func(code uint64) func(n *network) []step {
		return rootOp(func(*network) *cell.Cell { return body(code, q).MustStoreSlice(sha("x"), 256).EndCell() })
	}
	// second picks the transaction of the contract behind the first one.
	second := func(run func(n *network) []step) func(n *network) []step {
		return func(n *network) []step { return run(n)[1:] }
	}
	fromClient := func(payload func() *cell.Cell) func(n *network) []step {
		return func(n *network) []step {
			return n.ask(n.client, n.proxy, 200*mTON, clientRequest(q, n.clientState, payload()))
		}
	}
	topUp := func(n *network) []step { return n.ask(excessTo, n.client, 5200*mTON, n.topUp(5*ton)) }
	payout := func(n *network) []step { return n.ask(excessTo, n.work, 200*mTON, n.payout(100_000_000)) }
	byOwner := func(b func(n *network) *cell.Cell) func(n *network) []step {
		return func(n *network) []step { return n.ask(clientOwner, n.client, 200*mTON, b(n)) }
	}

	ops := []op{
		{"root add worker hash", 7199, 0.0033, rich, listed(opAddWorkerHash)},
		{"root delete worker hash", 6913, 0.0032, rich, listed(opDeleteWorkerHash)},
		{"root add model hash", 7543, 0.0034, rich, listed(opAddModelHash)},
		{"root delete model hash", 7265, 0.0033, rich, listed(opDeleteModelHash)},
		{"root add proxy hash", 7929, 0.0036, rich, listed(opAddProxyHash)},
		{"root delete proxy hash", 7551, 0.0034, rich, listed(opDeleteProxyHash)},
		{"root register proxy", 8419, 0.0038, rich, rootOp(func(*network) *cell.Cell {
			return body(opRegisterProxy, q).MustStoreBuilder(endpointBits("10.1.2.3:11000 10.1.2.3:12000")).EndCell()
		})},
		{"root unregister proxy", 8107, 0.0036, rich, rootOp(func(*network) *cell.Cell { return body(opUnregisterProxy, q).MustStoreUInt(1, 32).EndCell() })},
		{"root change fees", 11670, 0.0051, rich, rootOp(func(*network) *cell.Cell { return coins(coins(body(opChangeFees, q), 30), 28).EndCell() })},
		{"root change params", 11780, 0.0051, rich, rootOp(func(*network) *cell.Cell { return changeParams(q, 30, 28, 100, 50, ton, 2*ton) })},
		{"root replace child codes", 11912, 0.0052, rich, rootOp(func(n *network) *cell.Cell {
			return body(opReplaceCodes, q).MustStoreRef(n.params.proxy).MustStoreRef(n.params.worker).MustStoreRef(n.params.client).EndCell()
		})},
		{"root replace code", 9271, 0.0041, rich, rootOp(func(*network) *cell.Cell { return body(opReplaceCode, q).MustStoreRef(code(Root())).EndCell() })},
		{"root reset", 9095, 0.0040, rich, rootOp(func(*network) *cell.Cell { return body(opReset, q).EndCell() })},
		{"root replace data and code", 7555, 0.0034, rich, rootOp(func(n *network) *cell.Cell {
			return body(opReplaceAll, q).MustStoreRef(n.data(n.root)).MustStoreRef(code(Root())).EndCell()
		})},
		{"root change owner", 9312, 0.0041, rich, rootOp(func(*network) *cell.Cell { return toAddr(body(opChangeOwner, q), proxyOwner) })},

		{"proxy pay out earnings", 7535, 0.0038, rich, func(n *network) []step { return n.ask(excessTo, n.proxy, 200*mTON, n.plain(opPayOutEarnings)) }},
		{"proxy increase stake", 6438, 0.0030, rich, func(n *network) []step {
			return n.ask(excessTo, n.proxy, 5200*mTON, toAddr(coins(body(opProxyStake, q), 5*ton), excessTo))
		}},
		{"proxy signed close", 10076, 0.0044, rich, func(n *network) []step { return n.ask(excessTo, n.proxy, 200*mTON, n.close()) }},
		{"proxy close complete", 8960, 0.0040, closing, func(n *network) []step { return n.ask(excessTo, n.proxy, 200*mTON, n.closeComplete()) }},
		{"proxy owner close", 8866, 0.0039, rich, func(n *network) []step { return n.ask(proxyOwner, n.proxy, 200*mTON, n.plain(opOwnerClose)) }},
		{"proxy text c", 9273, 0.0041, rich, func(n *network) []step { return n.ask(proxyOwner, n.proxy, 200*mTON, text('c')) }},
		{"proxy text w", 6920, 0.0032, rich, func(n *network) []step { return n.ask(proxyOwner, n.proxy, 200*mTON, text('w')) }},
		{"proxy: worker payout payload", 13149, 0.0061, rich, second(payout)},
		{"proxy: top-up payload (open)", 13164, 0.0057, rich, second(topUp)},
		{"proxy: top-up payload (closing)", 14581, 0.0066, closing, second(topUp)},
		{"proxy: register payload", 9550, 0.0038, rich, fromClient(func() *cell.Cell {
			return cell.BeginCell().MustStoreUInt(payloadRegister, 32).MustStoreUInt(7, 64).EndCell()
		})},
		{"proxy: refund granted payload", 14885, 0.0068, rich, fromClient(func() *cell.Cell { return clientPayment(payloadGranted, 5*ton, excessTo) })},
		{"proxy: refund forced payload", 15043, 0.0068, rich, fromClient(func() *cell.Cell { return clientPayment(payloadForced, 5*ton, excessTo) })},
		{"proxy do_not_process", 1221, 0.0005, rich, func(n *network) []step {
			return n.ask(excessTo, n.proxy, 200*mTON, body(opDoNotProcess, q).EndCell())
		}},

		{"client top-up", 8853, 0.0102, rich, topUp},
		{"client secret + top-up", 9151, 0.0103, rich, func(n *network) []step {
			return n.ask(clientOwner, n.client, 5200*mTON, toAddr(coins(body(opSecretTopUp, q), 5*ton).MustStoreSlice(sha("s"), 256), excessTo))
		}},
		{"client register", 11318, 0.0058, rich, byOwner(func(*network) *cell.Cell { return toAddr(body(opRegister, q).MustStoreUInt(7, 64), excessTo) })},
		{"client change secret", 11603, 0.0058, rich, byOwner(func(*network) *cell.Cell {
			return toAddr(body(opChangeSecret, q).MustStoreSlice(sha("s"), 256), excessTo)
		})},
		{"client increase stake", 11857, 0.0059, rich, byOwner(func(*network) *cell.Cell { return toAddr(coins(body(opClientStake, q), 3*ton), excessTo) })},
		{"client withdraw", 10577, 0.0119, rich, byOwner(func(n *network) *cell.Cell { return n.plain(opWithdraw) })},
		{"client request refund, above stake", 12537, 0.0127, rich, byOwner(func(n *network) *cell.Cell { return n.plain(opRequestRefund) })},
		{"client request refund, at stake", 13792, 0.0067, poor, byOwner(func(n *network) *cell.Cell { return n.plain(opRequestRefund) })},
		{"client request refund, second step", 11142, 0.0122, clientClosing, byOwner(func(n *network) *cell.Cell { return n.plain(opRequestRefund) })},
		{"client charge", 15937, 0.0076, rich, func(n *network) []step { return n.ask(excessTo, n.client, 200*mTON, n.charge(100_000_000)) }},
		{"client grant refund", 15266, 0.0138, rich, func(n *network) []step { return n.ask(excessTo, n.client, 200*mTON, n.grantRefund(100_000_001)) }},
		{"worker payout", 9401, 0.0106, rich, payout},
		{"worker last payout", 9460, 0.0106, rich, func(n *network) []step { return n.ask(excessTo, n.work, 200*mTON, n.lastPayout(100_000_000)) }},
		{"worker register", 6486, 0.0036, rich, func(n *network) []step { return n.ask(workerOwner, n.work, 200*mTON, n.plain(opWorkerRegister)) }},

		{"wallet external, 1 message", 3445, 0.0028, rich, func(n *network) []step { return n.external(n.wallet(10*ton), n.marks(1)) }},
		{"wallet external, 4 messages", 5371, 0.0076, rich, func(n *network) []step { return n.external(n.wallet(10*ton), n.marks(4)) }},
		{"wallet owner send message", 2513, 0.0024, rich, func(n *network) []step {
			return n.ask(clientOwner, n.wallet(10*ton), 200*mTON, body(opWalletSend, q).MustStoreUInt(1, 8).MustStoreRef(n.mark()).EndCell())
		}},
		{"wallet text w", 4400, 0.0030, rich, func(n *network) []step { return n.ask(clientOwner, n.wallet(10*ton), 200*mTON, text('w')) }},
		{"wallet text b", 3306, 0.0013, rich, func(n *network) []step { return n.ask(clientOwner, n.wallet(10*ton), 200*mTON, text('b')) }},
		{"wallet text u", 3355, 0.0013, rich, func(n *network) []step { return n.ask(clientOwner, n.wallet(10*ton), 200*mTON, text('u')) }},
	}

	// One client and one worker, from the first top-up to the closed proxy.
	life := map[string]int{
		"client top-up": 2, "proxy: top-up payload (open)": 2, "client register": 1, "client change secret": 1, "client charge": 4,
		"worker register": 1, "worker payout": 4, "proxy: worker payout payload": 5, "proxy pay out earnings": 1,
		"client withdraw": 1, "proxy: refund granted payload": 2, "proxy signed close": 1, "client grant refund": 1,
		"worker last payout": 1, "proxy close complete": 1,
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%-36s %7s %7s %5s   %7s %7s\n", "operation", "FunC", "ours", "%", "FunC", "ours")
	var lifeFunC, lifeOurs int64
	for _, o := range ops {
		n := newNetwork(t, o.open)
		steps := o.run(n)
		// A top-up to a closing proxy comes back by a bounce (docs/contracts.md, difference 1).
		if st := steps[0]; !st.ok() && o.name != "proxy: top-up payload (closing)" {
			t.Errorf("%s: exit %d, action %d, %s", o.name, st.exit, st.action, st.skip)
			continue
		}
		n.requireBalanced()
		gas := steps[0].gas
		var fees int64
		for _, st := range steps {
			fees += st.fees.Int64()
		}
		fmt.Fprintf(&table, "%-36s %7d %7d %5d   %.4f %.4f\n", o.name, o.refGas, gas, gas*100/o.refGas, o.refFees, float64(fees)/ton)
		if gas*100 > o.refGas*115 {
			t.Errorf("%s: %d gas, the reference %d: more than 15 %% above", o.name, gas, o.refGas)
		}
		lifeFunC += int64(life[o.name]) * o.refGas
		lifeOurs += int64(life[o.name]) * gas
		delete(life, o.name)
	}
	fmt.Fprintf(&table, "%-36s %7d %7d %5d\n", "life cycle", lifeFunC, lifeOurs, lifeOurs*100/lifeFunC)
	t.Log("\n" + table.String())
	if lifeOurs > lifeFunC {
		t.Errorf("a life cycle takes %d gas, the reference %d", lifeOurs, lifeFunC)
	}
	if len(life) > 0 {
		t.Errorf("the life cycle names unmeasured operations: %v", life)
	}
}
