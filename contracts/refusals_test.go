package contracts

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// TestRefusals is every refusal of spec contracts 4 to 7, in the order of its
// checks: each case fails the named check and, where the order is visible,
// later ones too. A refusal changes nothing and returns the value.
func TestRefusals(t *testing.T) {
	const (
		q    = vectorQuery
		low  = 99 * mTON
		fair = 200 * mTON
	)
	open := opening{client: clientState{balance: 20 * ton, tokens: 1000}, worker: workerState{tokens: 1000}, pool: 50 * ton}
	with := func(change func(*opening)) opening { o := open; change(&o); return o }
	proxyAt := func(state, unlock uint64) opening {
		return with(func(o *opening) { o.proxy.state, o.proxy.unlock = state, unlock })
	}
	clientAt := func(state uint64, balance int64, unlock uint64) opening {
		return with(func(o *opening) { o.client.state, o.client.balance, o.client.unlock = state, balance, unlock })
	}
	version4 := with(func(o *opening) {
		o.proxy.params = vectorParams()
		o.proxy.params.structVersion = 4
		o.proxy.params.proxy, o.proxy.params.worker, o.proxy.params.client = code(Proxy()), code(Worker()), code(Client())
	})
	thief := seedKey(99)
	trailing := func(c *cell.Cell) *cell.Cell { return c.ToBuilder().MustStoreUInt(1, 1).EndCell() }
	reheaded := func(c *cell.Cell, op uint64) *cell.Cell { // another outer op over the same payload
		s := c.MustBeginParse()
		s.MustLoadUInt(32)
		return cell.BeginCell().MustStoreUInt(op, 32).MustStoreBuilder(s.ToBuilder()).EndCell()
	}
	byThief := func(payload *cell.Cell) *cell.Cell { return signed(thief, payload, excessTo) }

	type who func(n *network) addr
	client := func(n *network) addr { return n.client }
	worker := func(n *network) addr { return n.work }
	proxy := func(n *network) addr { return n.proxy }
	root := func(n *network) addr { return n.root }
	is := func(a addr) who { return func(*network) addr { return a } }
	fixed := func(c *cell.Cell) func(*network) *cell.Cell { return func(*network) *cell.Cell { return c } }

	topUpBody := toAddr(coins(body(opTopUp, q), 5*ton), excessTo)
	secretTopUp := toAddr(coins(body(opSecretTopUp, q), 5*ton).MustStoreSlice(sha("s"), 256), excessTo)
	register := toAddr(body(opRegister, q).MustStoreUInt(7, 64), excessTo)
	secret := toAddr(body(opChangeSecret, q).MustStoreSlice(sha("s"), 256), excessTo)
	stake := toAddr(coins(body(opClientStake, q), 3*ton), excessTo)
	withdraw := toAddr(body(opWithdraw, q), excessTo)
	refund := toAddr(body(opRequestRefund, q), excessTo)
	earnings := toAddr(body(opPayOutEarnings, q), excessTo)
	proxyStake := toAddr(coins(body(opProxyStake, q), 5*ton), excessTo)
	ownerClose := toAddr(body(opOwnerClose, q), excessTo)
	workerRegister := toAddr(body(opWorkerRegister, q), excessTo)
	unknown := body(0x29111ceb, q).EndCell() // declared, not implemented (spec contracts 2.7)

	type refusal struct {
		name     string
		exit     int64
		open     opening
		to, from who
		value    int64
		body     func(n *network) *cell.Cell
	}
	cases := []refusal{
		// Prologue, in all four.
		{"client short op", 9, open, client, is(excessTo), fair, fixed(cell.BeginCell().MustStoreUInt(1, 31).EndCell())},
		{"worker short op", 9, open, worker, is(excessTo), fair, fixed(cell.BeginCell().MustStoreUInt(1, 31).EndCell())},
		{"proxy short query id", 9, open, proxy, is(excessTo), fair, fixed(cell.BeginCell().MustStoreUInt(opPayOutEarnings, 32).MustStoreUInt(1, 63).EndCell())},
		{"root short query id", 9, open, root, is(rootOwner), fair, fixed(cell.BeginCell().MustStoreUInt(opReset, 32).EndCell())},
		{"a reference without bits", 9, open, client, is(excessTo), fair, fixed(cell.BeginCell().MustStoreRef(cell.BeginCell().EndCell()).EndCell())},
		{"client unknown op", 1012, open, client, is(clientOwner), fair, fixed(unknown)},
		{"worker unknown op", 1012, open, worker, is(workerOwner), fair, fixed(unknown)},
		{"proxy unknown op", 1012, open, proxy, is(proxyOwner), fair, fixed(unknown)},
		{"root unknown op", 1012, open, root, is(rootOwner), fair, fixed(body(0x9f1e69dc, q).EndCell())},
		{"client of struct version 4", 1008, version4, client, is(clientOwner), fair, fixed(withdraw)},
		{"worker of struct version 4", 1008, version4, worker, is(workerOwner), fair, fixed(workerRegister)},
		{"proxy of struct version 4", 1008, version4, proxy, is(proxyOwner), fair, fixed(ownerClose)},
		{"root of struct version 4", 1008, version4, root, is(excessTo), fair, fixed(body(opReset, q).EndCell())},

		// Root.
		{"root stranger", 1010, open, root, is(excessTo), fair, fixed(unknown)},
		{"root trailing bits", 9, open, root, is(rootOwner), fair, fixed(trailing(body(opReset, q).EndCell()))},
		{"root hash too short", 9, open, root, is(rootOwner), fair, fixed(body(opAddProxyHash, q).MustStoreUInt(1, 255).EndCell())},
		{"root endpoint type", 1004, open, root, is(rootOwner), fair, fixed(body(opRegisterProxy, q).MustStoreUInt(1, 1).MustStoreUInt(0, 7).EndCell())},
		{"root endpoint too short", 9, open, root, is(rootOwner), fair, fixed(body(opRegisterProxy, q).MustStoreUInt(0, 1).MustStoreUInt(2, 7).MustStoreUInt(1, 8).EndCell())},
		{"root endpoint too long", 9, open, root, is(rootOwner), fair, fixed(body(opRegisterProxy, q).MustStoreUInt(0, 1).MustStoreUInt(1, 7).MustStoreUInt(1, 16).EndCell())},
		{"root update of no endpoint", 2000, open, root, is(rootOwner), fair, fixed(body(opUpdateProxy, q).MustStoreUInt(9, 32).MustStoreBuilder(endpointBits("192.0.2.7:443")).EndCell())},
		{"root update endpoint type", 1004, open, root, is(rootOwner), fair, fixed(body(opUpdateProxy, q).MustStoreUInt(9, 32).MustStoreUInt(0x80, 8).EndCell())},

		// Client.
		{"client top-up layout", 9, clientAt(2, 0, 0), client, is(excessTo), low, fixed(trailing(topUpBody))},
		{"client top-up closed", 1006, clientAt(2, 0, 0), client, is(excessTo), low, fixed(topUpBody)},
		{"client top-up value", 1003, open, client, is(excessTo), 5099 * mTON, fixed(topUpBody)},
		{"client secret top-up closed", 1006, clientAt(2, 0, 0), client, is(excessTo), low, fixed(secretTopUp)},
		{"client secret top-up value", 1003, open, client, is(excessTo), 5099 * mTON, fixed(secretTopUp)},
		{"client secret top-up stranger", 1010, open, client, is(excessTo), 5200 * mTON, fixed(secretTopUp)},
		{"client register closed", 1006, clientAt(2, 0, 0), client, is(excessTo), low, fixed(register)},
		{"client register value", 1003, open, client, is(excessTo), low, fixed(register)},
		{"client register stranger", 1010, open, client, is(excessTo), fair, fixed(register)},
		{"client secret closed", 1006, clientAt(2, 0, 0), client, is(excessTo), low, fixed(secret)},
		{"client secret value", 1003, open, client, is(excessTo), low, fixed(secret)},
		{"client secret stranger", 1010, open, client, is(excessTo), fair, fixed(secret)},
		{"client stake closed", 1006, clientAt(2, 0, 0), client, is(excessTo), low, fixed(stake)},
		{"client stake stranger", 1010, open, client, is(excessTo), fair, fixed(stake)},
		{"client stake not larger", 1003, open, client, is(clientOwner), fair, fixed(toAddr(coins(body(opClientStake, q), 2500*mTON), excessTo))},
		{"client withdraw closing", 1006, clientAt(1, 20*ton, epoch+1), client, is(excessTo), low, fixed(withdraw)},
		{"client withdraw value", 1003, open, client, is(excessTo), low, fixed(withdraw)},
		{"client withdraw stranger", 1009, open, client, is(excessTo), fair, fixed(withdraw)},
		{"client withdraw nothing", 1001, clientAt(0, 2500*mTON, 0), client, is(clientOwner), fair, fixed(withdraw)},
		{"client refund closed", 1006, clientAt(2, 0, 0), client, is(excessTo), low, fixed(refund)},
		{"client refund value", 1003, open, client, is(excessTo), low, fixed(refund)},
		{"client refund stranger", 1009, open, client, is(excessTo), fair, fixed(refund)},
		{"client refund locked", 1011, clientAt(1, ton, epoch), client, is(clientOwner), fair, fixed(refund)},
		{"charge by a thief", 1007, clientAt(2, 0, 0), client, is(excessTo), low, func(n *network) *cell.Cell { return byThief(tokensPayload(opCharge, q, 2000, n.client)) }},
		{"charge as grant refund", 1005, open, client, is(excessTo), low, func(n *network) *cell.Cell { return reheaded(n.charge(2000), opGrantRefund) }},
		{"charge another query id", 1005, open, client, is(excessTo), low, func(n *network) *cell.Cell {
			s := n.charge(2000).MustBeginParse()
			s.MustLoadUInt(64) // op and the first half of the query id
			return cell.BeginCell().MustStoreUInt(opCharge, 32).MustStoreUInt(1, 32).MustStoreBuilder(s.ToBuilder()).EndCell()
		}},
		{"charge payload too long", 9, open, client, is(excessTo), low, func(n *network) *cell.Cell {
			return signed(proxyKey, trailing(tokensPayload(opCharge, q, 2000, n.client)), excessTo)
		}},
		{"charge body too long", 9, open, client, is(excessTo), low, func(n *network) *cell.Cell { return trailing(n.charge(2000)) }},
		{"charge closed", 1006, clientAt(2, 0, 0), client, is(excessTo), low, func(n *network) *cell.Cell { return n.charge(1) }},
		{"charge value", 1003, open, client, is(excessTo), low, func(n *network) *cell.Cell { return n.charge(1) }},
		{"charge not newer", 1000, open, client, is(excessTo), fair, func(n *network) *cell.Cell {
			return signed(proxyKey, tokensPayload(opCharge, q, 1000, n.work), excessTo)
		}},
		{"charge for another contract", 1015, open, client, is(excessTo), fair, func(n *network) *cell.Cell {
			return signed(proxyKey, tokensPayload(opCharge, q, 2000, n.work), excessTo)
		}},
		{"grant refund by a thief", 1007, open, client, is(excessTo), low, func(n *network) *cell.Cell { return byThief(tokensPayload(opGrantRefund, q, 2000, n.client)) }},
		{"grant refund closed", 1006, clientAt(2, 0, 0), client, is(excessTo), low, func(n *network) *cell.Cell { return n.grantRefund(1) }},
		{"grant refund value", 1003, open, client, is(excessTo), low, func(n *network) *cell.Cell { return n.grantRefund(1) }},
		{"grant refund older", 1000, open, client, is(excessTo), fair, func(n *network) *cell.Cell { return n.grantRefund(999) }},
		{"grant refund for another contract", 1015, open, client, is(excessTo), fair, func(n *network) *cell.Cell {
			return signed(proxyKey, tokensPayload(opGrantRefund, q, 1000, n.work), excessTo)
		}},

		// Worker.
		{"worker closed", 1006, with(func(o *opening) { o.worker.state = 2 }), worker, is(excessTo), low, fixed(unknown)},
		{"payout by a thief", 1007, open, worker, is(excessTo), low, func(n *network) *cell.Cell { return byThief(tokensPayload(opPayout, q, 2000, n.work)) }},
		{"payout as last payout", 1005, open, worker, is(excessTo), low, func(n *network) *cell.Cell { return reheaded(n.payout(2000), opLastPayout) }},
		{"payout body too long", 9, open, worker, is(excessTo), low, func(n *network) *cell.Cell { return trailing(n.payout(2000)) }},
		{"payout value", 1003, open, worker, is(excessTo), 100 * mTON, func(n *network) *cell.Cell {
			return signed(proxyKey, tokensPayload(opPayout, q, 1000, n.client), excessTo)
		}},
		{"payout for another contract", 1015, open, worker, is(excessTo), fair, func(n *network) *cell.Cell {
			return signed(proxyKey, tokensPayload(opPayout, q, 1000, n.client), excessTo)
		}},
		{"payout not newer", 1000, open, worker, is(excessTo), fair, func(n *network) *cell.Cell { return n.payout(1000) }},
		{"last payout older", 1000, open, worker, is(excessTo), fair, func(n *network) *cell.Cell { return n.lastPayout(999) }},
		{"worker register value", 1003, open, worker, is(excessTo), 100 * mTON, fixed(trailing(workerRegister))},
		{"worker register stranger", 1010, open, worker, is(excessTo), fair, fixed(trailing(workerRegister))},
		{"worker register layout", 9, open, worker, is(workerOwner), fair, fixed(trailing(workerRegister))},

		// Proxy.
		{"proxy earnings layout", 9, open, proxy, is(excessTo), low, fixed(trailing(earnings))},
		{"proxy earnings value", 1003, proxyAt(2, 0), proxy, is(excessTo), low, fixed(earnings)},
		{"proxy earnings closed", 1006, proxyAt(2, 0), proxy, is(excessTo), fair, fixed(earnings)},
		{"proxy stake value", 1003, proxyAt(2, 0), proxy, is(excessTo), 5099 * mTON, fixed(proxyStake)},
		{"proxy stake closed", 1006, proxyAt(2, 0), proxy, is(excessTo), 5200 * mTON, fixed(proxyStake)},
		{"proxy owner close value", 1003, proxyAt(1, 0), proxy, is(excessTo), low, fixed(ownerClose)},
		{"proxy owner close closing", 1006, proxyAt(1, 0), proxy, is(excessTo), fair, fixed(ownerClose)},
		{"proxy owner close stranger", 1010, open, proxy, is(excessTo), fair, fixed(ownerClose)},
		{"proxy text c value", 1003, proxyAt(1, 0), proxy, is(excessTo), low, fixed(text('c'))},
		{"proxy text c closing", 1006, proxyAt(1, 0), proxy, is(excessTo), fair, fixed(text('c'))},
		{"proxy text c stranger", 1010, open, proxy, is(excessTo), fair, fixed(text('c'))},
		{"proxy text w value", 1003, proxyAt(2, epoch+1), proxy, is(excessTo), low, fixed(text('w'))},
		{"proxy text w closed", 1006, proxyAt(2, epoch+1), proxy, is(excessTo), fair, fixed(text('w'))},
		{"proxy text w stranger", 1010, open, proxy, is(excessTo), fair, fixed(text('w'))},
		{"proxy text x", 1013, open, proxy, is(proxyOwner), fair, fixed(text('x'))},
		{"proxy text cc", 9, open, proxy, is(proxyOwner), fair, fixed(trailing(text('c')))},
		{"proxy text empty", 9, open, proxy, is(proxyOwner), fair, fixed(cell.BeginCell().MustStoreUInt(0, 32).EndCell())},
		{"close by a thief", 1007, proxyAt(1, 0), proxy, is(excessTo), low, func(n *network) *cell.Cell { return byThief(closePayload(opClose, q, n.proxy)) }},
		{"close as complete", 1005, open, proxy, is(excessTo), low, func(n *network) *cell.Cell { return reheaded(n.close(), opCloseComplete) }},
		{"close payload too long", 9, open, proxy, is(excessTo), low, func(n *network) *cell.Cell {
			return signed(proxyKey, trailing(closePayload(opClose, q, n.proxy)), excessTo)
		}},
		{"close value", 1003, proxyAt(1, 0), proxy, is(excessTo), low, func(n *network) *cell.Cell { return n.close() }},
		{"close closing", 1006, proxyAt(1, 0), proxy, is(excessTo), fair, func(n *network) *cell.Cell { return signed(proxyKey, closePayload(opClose, q, n.work), excessTo) }},
		{"close for another contract", 1015, open, proxy, is(excessTo), fair, func(n *network) *cell.Cell { return signed(proxyKey, closePayload(opClose, q, n.work), excessTo) }},
		{"close complete open", 1006, open, proxy, is(excessTo), fair, func(n *network) *cell.Cell { return n.closeComplete() }},
		{"close complete closed", 1006, proxyAt(2, 0), proxy, is(excessTo), fair, func(n *network) *cell.Cell { return n.closeComplete() }},
		{"close complete for another contract", 1015, proxyAt(1, epoch+1), proxy, is(excessTo), fair, func(n *network) *cell.Cell {
			return signed(proxyKey, closePayload(opCloseComplete, q, n.work), excessTo)
		}},
		{"close complete locked", 1011, proxyAt(1, epoch+1), proxy, is(excessTo), fair, func(n *network) *cell.Cell { return n.closeComplete() }},

		// Requests to the proxy, from those who are not what they say.
		{"client request by a stranger", 1014, open, proxy, is(excessTo), fair, func(n *network) *cell.Cell {
			return clientRequest(q, n.clientState, clientPayment(payloadGranted, ton, excessTo))
		}},
		{"client request of another owner", 1014, open, proxy, client, fair, func(n *network) *cell.Cell {
			c := n.clientState
			c.owner = workerOwner
			return clientRequest(q, c, clientPayment(payloadGranted, ton, excessTo))
		}},
		{"client request of another network", 1014, open, proxy, is(newToy().clientAddr), fair, func(n *network) *cell.Cell {
			return clientRequest(q, n.clientState, clientPayment(payloadGranted, ton, excessTo))
		}},
		{"register request by a stranger", 1014, open, proxy, is(excessTo), fair, func(n *network) *cell.Cell {
			return clientRequest(q, n.clientState, cell.BeginCell().MustStoreUInt(payloadRegister, 32).EndCell())
		}},
		{"client request unknown payload", 1012, open, proxy, client, fair, func(n *network) *cell.Cell {
			return clientRequest(q, n.clientState, cell.BeginCell().MustStoreUInt(1, 32).EndCell())
		}},
		{"client request short payload", 9, open, proxy, client, fair, func(n *network) *cell.Cell {
			return clientRequest(q, n.clientState, cell.BeginCell().MustStoreUInt(1, 31).EndCell())
		}},
		{"client request payload too long", 9, open, proxy, client, fair, func(n *network) *cell.Cell {
			return clientRequest(q, n.clientState, trailing(clientPayment(payloadGranted, ton, excessTo)))
		}},
		{"client request too long", 9, open, proxy, client, fair, func(n *network) *cell.Cell { return trailing(clientRequest(q, n.clientState, nil)) }},
		{"client top-up closing", 1006, proxyAt(1, epoch+1), proxy, client, 5200 * mTON, func(n *network) *cell.Cell {
			return clientRequest(q, n.clientState, clientPayment(payloadTopUp, 5*ton, excessTo))
		}},
		{"refund above the pool", 5, open, proxy, client, fair, func(n *network) *cell.Cell {
			return clientRequest(q, n.clientState, clientPayment(payloadGranted, 500*ton, excessTo))
		}},
		{"worker request by a stranger", 1014, proxyAt(2, 0), proxy, is(excessTo), fair, func(n *network) *cell.Cell {
			return workerRequest(q, n.workerState, workerPayment(1, 1, excessTo))
		}},
		{"worker request by a client", 1014, open, proxy, client, fair, func(n *network) *cell.Cell {
			return workerRequest(q, n.workerState, workerPayment(1, 1, excessTo))
		}},
		{"worker request unknown payload", 1012, proxyAt(2, 0), proxy, worker, fair, func(n *network) *cell.Cell {
			return workerRequest(q, n.workerState, cell.BeginCell().MustStoreUInt(1, 32).EndCell())
		}},
		{"worker request closed", 1006, proxyAt(2, epoch+1), proxy, worker, fair, func(n *network) *cell.Cell {
			return workerRequest(q, n.workerState, workerPayment(1, 1, excessTo))
		}},
		{"worker request too long", 9, open, proxy, worker, fair, func(n *network) *cell.Cell { return trailing(workerRequest(q, n.workerState, nil)) }},
		{"payout above the pool", 5, open, proxy, worker, fair, func(n *network) *cell.Cell {
			return workerRequest(q, n.workerState, workerPayment(500*ton, 1, excessTo))
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, c.open)
			to, from := c.to(n), c.from(n)
			before, balance := n.data(to), n.balance(to).Int64()
			// A sender that is a contract would act on the bounce: only the refusal counts here.
			n.post(letter{from: from, to: to, value: c.value, body: c.body(n)})
			st, _ := n.deliver()
			if st.exit != c.exit {
				t.Fatalf("exit %d (action %d %s), want %d", st.exit, st.action, st.skip, c.exit)
			}
			if !bytes.Equal(n.data(to).Hash(), before.Hash()) {
				t.Error("the refusal changed the data")
			}
			if n.balance(to).Int64() != balance {
				t.Errorf("the refusal changed the balance by %d", n.balance(to).Int64()-balance)
			}
			if len(st.out) != 1 || !st.out[0].bounced || st.out[0].to != from {
				t.Errorf("not bounced to the sender: %v", st.out)
			}
			n.requireBalanced()
		})
	}
}

// cond-B of spec contracts 6.2: the contract itself must hold a deposit.
func TestClientWithoutDeposit(t *testing.T) {
	n := newNetwork(t, opening{client: clientState{balance: 20 * ton}, pool: 20 * ton})
	for _, c := range []struct {
		deposit, value int64
		exit           int64
	}{{0, 209 * mTON, 1001}, {0, 210 * mTON, 0}, {100 * mTON, 109 * mTON, 1001}, {100 * mTON, 110 * mTON, 0}, {110 * mTON, 100 * mTON, 0}} {
		state := n.clientState
		state.balance = 20 * ton
		n.place(n.client, "client", n.params.client, state.cell(), c.deposit)
		if st := n.ask(clientOwner, n.client, c.value, n.plain(opWithdraw))[0]; st.exit != c.exit {
			t.Errorf("deposit %d, value %d: exit %d, want %d", c.deposit, c.value, st.exit, c.exit)
		}
	}
}

// What needs no answer is accepted in silence (spec contracts 2.3).
func TestAcceptedInSilence(t *testing.T) {
	n := newNetwork(t, opening{client: clientState{balance: ton}})
	wallet := n.wallet(5 * ton)
	ref := cell.BeginCell().MustStoreUInt(1, 64).EndCell()
	for _, c := range []struct {
		name string
		l    letter
		but  addr // which treats it otherwise
	}{
		{"empty", letter{}, addr{}},
		{"do not process", letter{body: body(opDoNotProcess, 1).EndCell()}, addr{}},
		{"do not process, anything behind", letter{body: cell.BeginCell().MustStoreUInt(opDoNotProcess, 32).MustStoreRef(ref).EndCell()}, addr{}},
		{"old bounce", letter{bounced: true, body: cell.BeginCell().MustStoreUInt(0xffffffff, 32).MustStoreUInt(opExcess, 32).EndCell()}, addr{}},
		{"new bounce", letter{bounced: true, body: bounceOf(body(opExcess, 1).EndCell())}, addr{}},
	} {
		for _, to := range []addr{n.root, n.proxy, n.client, n.work, wallet} {
			l := c.l
			l.from, l.to, l.value = excessTo, to, 50*mTON
			before, balance := n.data(to), n.balance(to).Int64()
			st := n.send(l)[0]
			if !st.ok() || len(st.out) != 0 || !bytes.Equal(before.Hash(), n.data(to).Hash()) {
				t.Errorf("%s to %s: %+v", c.name, n.name(to), st)
			}
			if got := n.balance(to).Int64() - balance; got < 48*mTON {
				t.Errorf("%s to %s: the coins are not kept (%d)", c.name, n.name(to), got)
			}
		}
	}
	// Requests without payload are notifications: accepted from anyone.
	for _, b := range []*cell.Cell{clientRequest(1, n.clientState, nil), workerRequest(1, n.workerState, nil)} {
		if st := n.ask(excessTo, n.proxy, 50*mTON, b)[0]; !st.ok() || len(st.out) != 0 {
			t.Errorf("notification: %+v", st)
		}
	}
	// External messages are for wallets.
	for _, to := range []addr{n.root, n.proxy, n.client, n.work} {
		if st := n.external(to, n.marks(1))[0]; st.skip != "not accepted" || st.exit != 11 {
			t.Errorf("external to %s: %+v", n.name(to), st)
		}
	}
	n.requireBalanced()
}

func TestWallet(t *testing.T) {
	newWallet := func(t *testing.T, balance int64, change func(*walletState)) (*network, addr) {
		n := newNetwork(t, opening{})
		a := n.wallet(balance)
		if change != nil {
			w := walletState{key: walletKey.Public().(ed25519.PublicKey), owner: clientOwner}
			change(&w)
			n.created.Sub(n.created, n.balance(a))
			n.place(a, "wallet", code(Wallet()), w.cell(), balance)
		}
		return n, a
	}
	seqno := func(n *network, a addr) uint64 { return n.data(a).MustBeginParse().MustLoadUInt(32) }

	for _, c := range []struct {
		name    string
		exit    int64
		balance int64
		change  func(*walletState)
		order   func(n *network) *cell.Cell
	}{
		{"expired", 1030, 0, func(w *walletState) { w.status = 1 }, func(n *network) *cell.Cell { return walletOrder(seedKey(9), 5, epoch, 5, []uint8{1}, n.mark()) }},
		{"blocked", 1031, 0, func(w *walletState) { w.status = 3 }, func(n *network) *cell.Cell { return walletOrder(seedKey(9), 5, epoch+1, 5, []uint8{1}, n.mark()) }},
		{"seqno", 1032, 0, func(w *walletState) { w.status = 2 }, func(n *network) *cell.Cell { return walletOrder(seedKey(9), 5, epoch+1, 5, []uint8{1}, n.mark()) }},
		{"subwallet", 1033, 0, nil, func(n *network) *cell.Cell { return walletOrder(seedKey(9), 5, epoch+1, 0, []uint8{1}, n.mark()) }},
		{"signature", 1034, 0, nil, func(n *network) *cell.Cell { return walletOrder(seedKey(9), 0, epoch+1, 0, []uint8{1}, n.mark()) }},
		{"balance", 1035, 2*ton - 1, nil, func(n *network) *cell.Cell { return walletOrder(walletKey, 0, epoch+1, 0, []uint8{1}, n.mark()) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, a := newWallet(t, max(c.balance, ton), c.change)
			st := n.external(a, c.order(n))[0]
			if st.skip != "not accepted" || st.exit != c.exit {
				t.Errorf("exit %d %s, want %d", st.exit, st.skip, c.exit)
			}
			n.requireBalanced()
		})
	}

	t.Run("sends up to four", func(t *testing.T) {
		n, a := newWallet(t, 10*ton, nil)
		steps := n.external(a, n.marks(4))
		if !steps[0].ok() || len(steps[0].out) != 4 || seqno(n, a) != 1 {
			t.Errorf("%+v", steps[0])
		}
		// The same order again: the seqno has moved.
		if st := n.external(a, n.marks(4))[0]; st.exit != 1032 {
			t.Errorf("replay: exit %d", st.exit)
		}
		n.requireBalanced()
	})
	t.Run("surplus modes are ignored", func(t *testing.T) {
		n, a := newWallet(t, 10*ton, nil)
		if st := n.external(a, walletOrder(walletKey, 0, epoch+1, 0, []uint8{1, 1, 1}, n.mark()))[0]; !st.ok() || len(st.out) != 1 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("a missing mode undoes the order", func(t *testing.T) {
		n, a := newWallet(t, 10*ton, nil)
		if st := n.external(a, walletOrder(walletKey, 0, epoch+1, 0, []uint8{1}, n.mark(), n.mark()))[0]; st.exit != 9 || st.skip != "" || seqno(n, a) != 0 {
			t.Errorf("%+v, seqno %d", st, seqno(n, a))
		}
	})
	t.Run("an unaffordable message undoes the order", func(t *testing.T) {
		n, a := newWallet(t, 3*ton, nil)
		dear := internalHeader(0x10, excessTo, 5*ton).MustStoreUInt(0, 107).EndCell()
		if st := n.external(a, walletOrder(walletKey, 0, epoch+1, 0, []uint8{0}, dear))[0]; st.action != 37 || seqno(n, a) != 0 {
			t.Errorf("%+v, seqno %d", st, seqno(n, a))
		}
		n.requireBalanced()
	})
	t.Run("owner", func(t *testing.T) {
		n, a := newWallet(t, 10*ton, nil)
		owner := func(b *cell.Cell) step { return n.ask(clientOwner, a, 200*mTON, b)[0] }
		status := func() uint64 {
			s := n.data(a).MustBeginParse()
			s.MustLoadSlice(32 + 32 + 256)
			return s.MustLoadUInt(32)
		}
		if st := owner(text('b')); !st.ok() || status() != 1 {
			t.Errorf("b: %+v, status %d", st, status())
		}
		if st := n.external(a, n.marks(1))[0]; st.exit != 1031 {
			t.Errorf("order to a blocked wallet: exit %d", st.exit)
		}
		if st := owner(text('u')); !st.ok() || status() != 0 {
			t.Errorf("u: %+v, status %d", st, status())
		}
		send := body(opWalletSend, 1).MustStoreUInt(1, 8).MustStoreRef(n.mark()).MustStoreUInt(7, 3).EndCell()
		if st := owner(send); !st.ok() || len(st.out) != 1 || st.out[0].to != n.proxy {
			t.Errorf("send: %+v", st)
		}
		if st := owner(text('w')); !st.ok() || len(st.out) != 1 || !st.out[0].bounce || st.out[0].to != clientOwner ||
			!bytes.Equal(st.out[0].body.Hash(), text('w').Hash()) {
			t.Errorf("w: %+v", st)
		}
		if left := n.balance(a).Int64(); left != 10*mTON {
			t.Errorf("w left %d", left)
		}
		for _, c := range []struct {
			name string
			from addr
			body *cell.Cell
			exit int64
		}{
			{"stranger", excessTo, text('w'), 1040},
			{"stranger, unknown op", excessTo, body(1, 1).EndCell(), 1040},
			{"unknown text", clientOwner, text('x'), 1041},
			{"unknown op", clientOwner, body(1, 1).EndCell(), 1041},
			{"text too long", clientOwner, text('w').ToBuilder().MustStoreUInt(0, 8).EndCell(), 9},
			{"no text", clientOwner, cell.BeginCell().MustStoreUInt(0, 32).EndCell(), 9},
		} {
			if st := n.ask(c.from, a, 200*mTON, c.body)[0]; st.exit != c.exit {
				t.Errorf("%s: exit %d, want %d", c.name, st.exit, c.exit)
			}
		}
		for _, op := range []uint64{opExcess, opPaid, opDoNotProcess} {
			if st := n.ask(excessTo, a, 200*mTON, body(op, 1).EndCell())[0]; !st.ok() || len(st.out) != 0 {
				t.Errorf("op %x: %+v", op, st)
			}
		}
		n.requireBalanced()
	})
}
