package contracts

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strconv"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

var update = flag.Bool("update", false, "rewrite testdata/differences.jsonl from the scenarios in differences_test.go")

const differences = "testdata/differences.jsonl"

// scenario is a vector of a deliberate difference before it is run.
type scenario struct {
	name, from string
	value      int64
	bounced    bool
	exit       int64
	data, body *cell.Cell
}

// scenarios stand on the vectors' toy network and its clock.
func scenarios() []scenario {
	const q = vectorQuery
	v := newToy()
	client := func(state uint64, balance int64, unlock uint64) *cell.Cell {
		c := v.client
		c.state, c.balance, c.unlock = state, balance, unlock
		return c.cell()
	}
	proxy := func(state uint64, earnings, stake int64, unlock uint64) *cell.Cell {
		p := v.proxy
		p.state, p.earnings, p.stake, p.unlock = state, earnings, stake, unlock
		return p.cell()
	}
	worker := func(state, tokens uint64) *cell.Cell {
		w := v.worker
		w.state, w.tokens = state, tokens
		return w.cell()
	}
	asked := func(state uint64, balance int64, payload *cell.Cell) *cell.Cell {
		c := v.client
		c.state, c.balance = state, balance
		return clientRequest(q, c, payload)
	}
	owed := func(state, tokens uint64, workerPart, proxyPart int64) *cell.Cell {
		w := v.worker
		w.state, w.tokens = state, tokens
		return workerRequest(q, w, workerPayment(workerPart, proxyPart, excessTo))
	}
	toppedUp := asked(0, 5*ton, clientPayment(payloadTopUp, 5*ton, excessTo))
	granted := asked(2, 0, clientPayment(payloadGranted, 5*ton, excessTo))
	forced := asked(2, 0, clientPayment(payloadForced, 2500*mTON, excessTo))
	nowhere := func(op uint64) *cell.Cell { // an excess address "none"
		return coins(body(op, q), 5*ton).MustStoreUInt(0, 2).EndCell()
	}

	return []scenario{
		// Excess goes to the owner.
		{name: "client_grant_refund", from: "excess", value: 200 * mTON, data: client(0, 20*ton, 0), body: signed(proxyKey, tokensPayload(opGrantRefund, q, 100_000_001, v.clientAddr), excessTo)},
		{name: "worker_last_payout", from: "excess", value: 200 * mTON, data: worker(0, 40_000_000), body: signed(proxyKey, tokensPayload(opLastPayout, q, 100_000_000, v.workerAddr), excessTo)},

		{name: "client_grant_refund_closing", from: "excess", value: 200 * mTON, data: client(1, 20*ton, epoch+9), body: signed(proxyKey, tokensPayload(opGrantRefund, q, 100_000_001, v.clientAddr), excessTo)},

		// The proxy gets earnings and stake only; refunds stay payable; sweep.
		{name: "proxy_close_complete", from: "excess", value: 200 * mTON, data: proxy(1, 3*ton, 10*ton, epoch), body: signed(proxyKey, closePayload(opCloseComplete, q, v.proxyAddr), excessTo)},
		{name: "proxy_refund_granted_closed", from: "client", value: 200 * mTON, data: proxy(2, 0, 0, epoch+year), body: granted},
		{name: "proxy_refund_forced_closed", from: "client", value: 200 * mTON, data: proxy(2, 0, 0, epoch+year), body: forced},
		{name: "proxy_sweep_early", from: "proxy_owner", value: 200 * mTON, exit: 1006, data: proxy(2, 0, 0, epoch+1), body: text('w')},
		{name: "proxy_sweep_stranger", from: "excess", value: 200 * mTON, exit: 1010, data: proxy(2, 0, 0, epoch), body: text('w')},
		{name: "proxy_sweep", from: "proxy_owner", value: 200 * mTON, data: proxy(2, 0, 0, epoch), body: text('w')},

		// Top-ups are credited or returned; bounces restore state.
		{name: "proxy_top_up_closing", from: "client", value: 5200 * mTON, exit: 1006, data: proxy(1, 0, 0, epoch+1), body: toppedUp},
		{name: "proxy_top_up_closed", from: "client", value: 5200 * mTON, exit: 1006, data: proxy(2, 0, 0, epoch+year), body: toppedUp},
		{name: "client_bounced_top_up", from: "proxy", value: 5090 * mTON, bounced: true, data: client(0, 7*ton, 0), body: toppedUp},
		{name: "client_bounced_top_up_partly_spent", from: "proxy", value: 5090 * mTON, bounced: true, data: client(0, 2*ton, 0), body: toppedUp},
		{name: "client_bounced_top_up_all_spent", from: "proxy", value: 5090 * mTON, bounced: true, data: client(2, 0, 0), body: toppedUp},
		{name: "client_bounced_withdraw", from: "proxy", value: 90 * mTON, bounced: true, data: client(0, 2500*mTON, 0), body: asked(0, 2500*mTON, clientPayment(payloadGranted, 5*ton, excessTo))},
		{name: "client_bounced_request_refund_1", from: "proxy", value: 90 * mTON, bounced: true, data: client(1, 2500*mTON, epoch+43200), body: asked(1, 2500*mTON, clientPayment(payloadGranted, 5*ton, excessTo))},
		{name: "client_bounced_request_refund_2", from: "proxy", value: 90 * mTON, bounced: true, data: client(2, 0, epoch-1), body: forced},
		{name: "client_bounced_grant_refund", from: "proxy", value: 90 * mTON, bounced: true, data: client(2, 0, 0), body: granted},
		{name: "client_bounced_grant_refund_closing", from: "proxy", value: 90 * mTON, bounced: true, data: client(2, 0, epoch+9), body: granted},
		{name: "client_bounced_by_stranger", from: "excess", value: 90 * mTON, bounced: true, data: client(2, 0, 0), body: granted},
		{name: "worker_bounced_payout", from: "proxy", value: 90 * mTON, bounced: true, data: worker(0, 100_000_000), body: owed(0, 100_000_000, 1900*mTON, 100*mTON)},
		{name: "worker_bounced_last_payout", from: "proxy", value: 90 * mTON, bounced: true, data: worker(2, 100_000_000), body: owed(2, 100_000_000, 1140*mTON, 60*mTON)},
		{name: "worker_bounced_by_stranger", from: "excess", value: 90 * mTON, bounced: true, data: worker(2, 100_000_000), body: owed(2, 100_000_000, 1140*mTON, 60*mTON)},

		// Terms must make sense.
		{name: "root_change_fees_above_price", from: "root_owner", value: 50 * mTON, exit: 1002, data: v.root.cell(), body: coins(coins(body(opChangeFees, q), 30), 31).EndCell()},
		{name: "root_change_fees_at_price", from: "root_owner", value: 50 * mTON, data: v.root.cell(), body: coins(coins(body(opChangeFees, q), 30), 30).EndCell()},
		{name: "root_change_params_above_price", from: "root_owner", value: 50 * mTON, exit: 1002, data: v.root.cell(), body: changeParams(q, 30, 31, 100, 50, ton, ton)},
		{name: "root_change_params_delays", from: "root_owner", value: 50 * mTON, exit: 1002, data: v.root.cell(), body: changeParams(q, 30, 28, 100, 100, ton, ton)},
		{name: "root_change_params_ordered", from: "root_owner", value: 50 * mTON, data: v.root.cell(), body: changeParams(q, 30, 28, 101, 100, ton, ton)},

		// An excess address that cannot receive is refused before anything changes.
		{name: "client_top_up_to_nowhere", from: "excess", value: 5200 * mTON, exit: 9, data: client(0, 5*ton, 0), body: nowhere(opTopUp)},
		{name: "proxy_increase_stake_to_nowhere", from: "excess", value: 5200 * mTON, exit: 9, data: proxy(0, 0, 0, 0), body: nowhere(opProxyStake)},
	}
}

// bounceOf is the body of a bounce of the new kind (TL-B new_bounce_body).
func bounceOf(original *cell.Cell) *cell.Cell {
	info := coins(cell.BeginCell(), 95*mTON).MustStoreUInt(0, 1).MustStoreUInt(1_000_000, 64).MustStoreUInt(epoch, 32).EndCell()
	return cell.BeginCell().MustStoreUInt(0xfffffffe, 32).MustStoreRef(original).MustStoreRef(info).
		MustStoreUInt(1, 8).MustStoreInt(1006, 32).MustStoreBoolBit(true).MustStoreUInt(6000, 32).MustStoreUInt(200, 32).EndCell()
}

// TestDifferenceVectors holds differences.jsonl against the scenarios (inputs)
// and the code (outcomes). What the outcomes must be is asserted elsewhere, in
// words of money; this pins them bit by bit for other implementations.
func TestDifferenceVectors(t *testing.T) {
	var lines bytes.Buffer
	for _, sc := range scenarios() {
		b := sc.body
		if sc.bounced {
			b = bounceOf(sc.body)
		}
		v := transition{
			Name: sc.name, From: sc.from, Value: strconv.FormatInt(sc.value, 10), Bounced: sc.bounced,
			Exit: sc.exit, DataBefore: toHex(sc.data), Body: toHex(b),
		}
		data, st := v.run(t)
		if st.exit != sc.exit {
			t.Errorf("%s: exit %d, want %d", sc.name, st.exit, sc.exit)
			continue
		}
		v.DataAfter, v.Hash = toHex(data), hex.EncodeToString(data.Hash())
		if bytes.Equal(data.Hash(), sc.data.Hash()) {
			v.DataAfter = "same"
		}
		names := map[addr]string{}
		for name, a := range vectorNames() {
			names[a] = name
		}
		if sc.exit == 0 {
			for _, o := range st.out {
				v.Out = append(v.Out, transitionOut{names[o.to], o.bounce, o.value.String(), toHex(o.body)})
			}
		}
		must(json.NewEncoder(&lines).Encode(v))
	}
	if *update {
		must(os.WriteFile(differences, lines.Bytes(), 0o644))
	}
	if committed := must1(os.ReadFile(differences)); !bytes.Equal(committed, lines.Bytes()) {
		t.Error("differences.jsonl is not what the code does: look at the change, then run go test -run TestDifferenceVectors -update")
	}
	have := map[string]bool{}
	for _, v := range readTransitions(t, differences) {
		have[v.Name] = true
	}
	for name := range contradicted {
		if !have[name] {
			t.Errorf("%s is contradicted without a vector of ours", name)
		}
	}
}

func toHex(c *cell.Cell) string {
	return hex.EncodeToString(c.ToBOCWithOptions(cell.BOCSerializeOptions{}))
}

// Top-ups are credited or returned, never both.

func TestTopUpIsCreditedOrReturned(t *testing.T) {
	for _, c := range []struct {
		name     string
		open     opening
		credited bool
	}{
		{"open", opening{}, true},
		{"closing", opening{proxy: proxyState{state: 1, unlock: epoch + 100}}, false},
		{"closed", opening{proxy: proxyState{state: 2, unlock: epoch + year}}, false},
		{"swept", opening{proxy: proxyState{state: 2, unlock: epoch - 1}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, c.open)
			pool := n.balance(n.proxy).Int64()
			steps := n.ask(excessTo, n.client, 5200*mTON, n.topUp(5*ton))
			balance, returned := readClient(n.sandbox, n.client).balance, n.paid(clientOwner)
			if c.credited && (balance != 5*ton || returned != 0 || n.balance(n.proxy).Int64() != pool+5*ton) {
				t.Errorf("balance %d, returned %d, pool %v", balance, returned, n.balance(n.proxy))
			}
			if !c.credited && (balance != 0 || returned != 5*ton || n.balance(n.proxy).Int64() != pool+1) { // the notification
				t.Errorf("balance %d, returned %d, pool %v, was %d: %v", balance, returned, n.balance(n.proxy), pool, steps)
			}
			if back := n.paid(excessTo); back < 180*mTON || back > 200*mTON {
				t.Errorf("excess %d of 0.2 TON", back)
			}
			n.requireBalanced()
		})
	}
}

func TestTopUpToMissingProxyIsReturned(t *testing.T) {
	n := newNetwork(t, opening{})
	n.created.Sub(n.created, n.balance(n.proxy))
	delete(n.accs, n.proxy)
	n.ask(excessTo, n.client, 5200*mTON, n.topUp(5*ton))
	if c := readClient(n.sandbox, n.client); c.balance != 0 || n.paid(clientOwner) != 5*ton {
		t.Errorf("balance %d, returned %d", c.balance, n.paid(clientOwner))
	}
	n.requireBalanced()
}

// A refused top-up that was spent or refunded before it came back stays in the
// pool that paid for it.
func TestRefusedTopUpSpentMeanwhile(t *testing.T) {
	const price = 20
	for _, c := range []struct {
		name      string
		meanwhile func(n *network) (*cell.Cell, addr)
	}{
		{"charge", func(n *network) (*cell.Cell, addr) { return n.charge(3 * ton / price), excessTo }},
		{"grant refund", func(n *network) (*cell.Cell, addr) { return n.grantRefund(1 * ton / price), excessTo }},
		{"request refund", func(n *network) (*cell.Cell, addr) { return n.plain(opRequestRefund), clientOwner }},
		{"withdraw", func(n *network) (*cell.Cell, addr) { return n.plain(opWithdraw), clientOwner }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, opening{proxy: proxyState{state: 1, unlock: epoch + 100}, client: clientState{balance: 1 * ton}})
			pool, deposit := n.balance(n.proxy).Int64(), n.balance(n.client).Int64()
			// Both are on their way before the first is answered.
			n.post(letter{from: excessTo, to: n.client, value: 5200 * mTON, body: n.topUp(5 * ton)})
			b, from := c.meanwhile(n)
			n.post(letter{from: from, to: n.client, value: 500 * mTON, body: b})
			n.run()
			after := readClient(n.sandbox, n.client)
			spent := int64(after.tokens) * price
			given := n.paid(clientOwner)
			if c.name == "grant refund" {
				given -= deposit // which is the owner's as well
			}
			// Everything put in is paid out, still counted, or spent.
			if put := int64(6 * ton); given+after.balance+spent > put || given+after.balance+spent < put-20*mTON {
				t.Errorf("put in %d: given %d, balance %d, spent %d", put, given, after.balance, spent)
			}
			// What is counted or spent is in the pool.
			owed := after.balance + spent - 1*ton
			if moved := n.balance(n.proxy).Int64() - pool; moved < owed || moved > owed+mTON {
				t.Errorf("pool changed by %d, counters by %d", moved, owed)
			}
			n.requireBalanced()
		})
	}
}

// At close the proxy's owner gets earnings and stake only.

func TestCloseLeavesClientsTheirCoins(t *testing.T) {
	n := newNetwork(t, opening{
		proxy:  proxyState{state: 1, unlock: epoch, earnings: 3 * ton, stake: 10 * ton},
		client: clientState{balance: 20 * ton}, pool: 7 * ton,
	})
	before := n.balance(n.proxy).Int64()
	n.ask(excessTo, n.proxy, 200*mTON, n.closeComplete())
	p := readProxy(n.sandbox, n.proxy)
	if p.state != 2 || p.earnings != 0 || p.stake != 0 || p.unlock != epoch+year {
		t.Errorf("after close: %+v", p)
	}
	if got := n.paid(proxyOwner); got < 13*ton || got > 13200*mTON {
		t.Errorf("the owner got %d, not 13 TON and the rest of the message", got)
	}
	if got := n.balance(n.proxy).Int64(); got != before-13*ton {
		t.Errorf("pool %d, want %d", got, before-13*ton)
	}

	// A grant refund after the close is paid from the pool.
	n.ask(excessTo, n.client, 700*mTON, n.grantRefund(0))
	if got := n.paid(clientOwner); got < 20*ton || got > 20500*mTON {
		t.Errorf("the client got %d of 20 TON", got)
	}
	// The rest is swept a year later, not a second earlier, by the owner only.
	had := n.paid(proxyOwner)
	n.now = epoch + year - 1
	if st := n.ask(proxyOwner, n.proxy, 200*mTON, text('w'))[0]; st.exit != 1006 {
		t.Errorf("swept early: exit %d", st.exit)
	}
	n.now++
	if st := n.ask(clientOwner, n.proxy, 200*mTON, text('w'))[0]; st.exit != 1010 {
		t.Errorf("swept by a stranger: exit %d", st.exit)
	}
	n.ask(proxyOwner, n.proxy, 200*mTON, text('w'))
	if got := n.paid(proxyOwner) - had; got < 6900*mTON || got > 7600*mTON {
		t.Errorf("swept %d, want about 7 TON", got)
	}
	if left := n.balance(n.proxy).Int64(); left != 10*mTON {
		t.Errorf("%d left after the sweep", left)
	}
	n.requireBalanced()
}

func TestForcedRefundAfterClose(t *testing.T) {
	n := newNetwork(t, opening{
		proxy:  proxyState{state: 2, unlock: epoch + year},
		client: clientState{state: 1, unlock: epoch - 1, balance: 20 * ton},
	})
	n.ask(clientOwner, n.client, 700*mTON, n.plain(opRequestRefund))
	if got := n.paid(clientOwner); got != 20*ton {
		t.Errorf("forced %d of 20 TON", got)
	}
	if c := readClient(n.sandbox, n.client); c.state != 2 || c.balance != 0 {
		t.Errorf("client %+v", c)
	}
	n.requireBalanced()
}

// A pool that holds less than earnings and stake pays what it has.
func TestCloseOfAShortPool(t *testing.T) {
	n := newNetwork(t, opening{proxy: proxyState{state: 1, unlock: epoch, earnings: 3 * ton, stake: 10 * ton}, pool: -4 * ton})
	n.ask(excessTo, n.proxy, 200*mTON, n.closeComplete())
	if p := readProxy(n.sandbox, n.proxy); p.state != 2 {
		t.Errorf("state %d", p.state)
	}
	if got := n.paid(proxyOwner); got < 9*ton || got > 9300*mTON {
		t.Errorf("the owner got %d, the pool had about 9 TON", got)
	}
	if left := n.balance(n.proxy).Int64(); left != 10*mTON {
		t.Errorf("%d left", left)
	}
	n.requireBalanced()
}

// Bounces restore state: after the pool is filled again, the same step works.

func TestRefusedRefundIsRestored(t *testing.T) {
	for _, c := range []struct {
		name   string
		client clientState
		proxy  proxyState
		ask    func(n *network) []step
		state  uint64 // of the client after the refusal
		unlock uint64
	}{
		{"withdraw", clientState{balance: 20 * ton}, proxyState{}, func(n *network) []step {
			return n.ask(clientOwner, n.client, 700*mTON, n.plain(opWithdraw))
		}, 0, 0},
		{"request refund, first step", clientState{balance: 20 * ton}, proxyState{}, func(n *network) []step {
			return n.ask(clientOwner, n.client, 700*mTON, n.plain(opRequestRefund))
		}, 1, epoch + 43200},
		{"request refund, second step", clientState{state: 1, unlock: epoch - 1, balance: 20 * ton}, proxyState{state: 2, unlock: epoch + year}, func(n *network) []step {
			return n.ask(clientOwner, n.client, 700*mTON, n.plain(opRequestRefund))
		}, 1, epoch - 1},
		{"grant refund while open", clientState{balance: 20 * ton}, proxyState{}, func(n *network) []step {
			return n.ask(excessTo, n.client, 700*mTON, n.grantRefund(0))
		}, 0, 0},
		{"grant refund while closing", clientState{state: 1, unlock: epoch + 9, balance: 20 * ton}, proxyState{}, func(n *network) []step {
			return n.ask(excessTo, n.client, 700*mTON, n.grantRefund(0))
		}, 1, epoch + 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, opening{client: c.client, proxy: c.proxy, pool: -10 * ton})
			pool := n.balance(n.proxy).Int64()
			steps := c.ask(n)
			if len(steps) < 3 || steps[1].exit != 5 || !steps[2].bounced || !steps[2].ok() {
				t.Fatalf("not refused for a short pool: %+v", steps)
			}
			after := readClient(n.sandbox, n.client)
			if after.balance != 20*ton || after.state != c.state || after.unlock != c.unlock {
				t.Errorf("after the refusal: %+v", after)
			}
			if n.balance(n.proxy).Int64() != pool+1 { // the notification
				t.Errorf("the pool changed by %d", n.balance(n.proxy).Int64()-pool)
			}
			// The state that nodes see is announced.
			if last := steps[len(steps)-1]; last.to != n.proxy || last.skip == "" {
				t.Errorf("no notification to the proxy: %+v", last)
			}

			n.send(letter{from: proxyOwner, to: n.proxy, value: 30 * ton})
			had := n.paid(clientOwner)
			if c.name == "request refund, first step" {
				n.now += 43201
				n.proxyReplace(func(p *proxyState) { p.state, p.unlock = 2, uint64(n.now)+year })
			}
			c.ask(n)
			due := int64(20 * ton)
			if c.name == "withdraw" {
				due -= 2500 * mTON
			}
			if got := n.paid(clientOwner) - had; got < due || got > due+300*mTON {
				t.Errorf("the second try paid %d, want %d", got, due)
			}
		})
	}
}

func TestRefusedPayoutIsRestored(t *testing.T) {
	n := newNetwork(t, opening{worker: workerState{tokens: 1000}})
	big := n.payout(1_000_000_000) // 19 TON; the pool has 0.1
	if steps := n.ask(excessTo, n.work, 500*mTON, big); steps[1].exit != 5 || !steps[2].ok() {
		t.Fatalf("not refused: %+v", steps)
	}
	if w := readWorker(n.sandbox, n.work); w.tokens != 1000 || w.state != 0 {
		t.Errorf("after the refusal: %+v", w)
	}
	last := n.lastPayout(1_000_000_000)
	n.ask(excessTo, n.work, 500*mTON, last)
	if w := readWorker(n.sandbox, n.work); w.tokens != 1000 || w.state != 0 {
		t.Errorf("after the refused last payout: %+v", w)
	}
	n.send(letter{from: proxyOwner, to: n.proxy, value: 30 * ton})
	had := n.paid(workerOwner)
	n.ask(excessTo, n.work, 500*mTON, last)
	const due = (1_000_000_000 - 1000) * 19
	if got := n.paid(workerOwner) - had; got < due || got > due+200*mTON {
		t.Errorf("the worker got %d, %d were signed for", got, int64(due))
	}
	if w := readWorker(n.sandbox, n.work); w.state != 2 || w.tokens != 1_000_000_000 {
		t.Errorf("after the last payout: %+v", w)
	}
	if p := readProxy(n.sandbox, n.proxy); p.earnings != 1_000_000_000-1000 {
		t.Errorf("earnings %d", p.earnings)
	}
	n.requireBalanced()
}

// Two payouts on their way, the first refused: the counter ends at what was paid.
func TestRefusedPayoutAmongOthers(t *testing.T) {
	n := newNetwork(t, opening{pool: 2 * ton})
	for _, tokens := range []uint64{1_000_000_000, 1_050_000_000} {
		n.post(letter{from: excessTo, to: n.work, value: 500 * mTON, body: n.payout(tokens)})
	}
	n.run()
	if w := readWorker(n.sandbox, n.work); w.tokens != 50_000_000 {
		t.Errorf("tokens %d", w.tokens)
	}
	if got := n.paid(workerOwner); got != 50_000_000*19 {
		t.Errorf("paid %d", got)
	}
	n.requireBalanced()
}

// Excess goes to the owner: the deposit is not the submitter's.
func TestDepositIsTheOwners(t *testing.T) {
	n := newNetwork(t, opening{client: clientState{balance: 5 * ton}, pool: ton})
	n.ask(excessTo, n.client, 700*mTON, n.grantRefund(0))
	if got := n.paid(clientOwner); got < 5280*mTON || got > 5290*mTON {
		t.Errorf("the client's owner got %d: 5 TON and a deposit of 0.29 are its", got)
	}
	if got := n.paid(excessTo); got < 680*mTON || got > 700*mTON {
		t.Errorf("the submitter got %d back of 0.7 TON", got)
	}
	n.ask(excessTo, n.work, 700*mTON, n.lastPayout(0))
	if got := n.paid(workerOwner); got < 180*mTON || got > 190*mTON {
		t.Errorf("the worker's owner got %d of a deposit of 0.19", got)
	}
	if got := n.paid(excessTo); got < 2*680*mTON || got > 2*700*mTON {
		t.Errorf("the submitter got %d back of 1.4 TON", got)
	}
	n.requireBalanced()
}

// A submitter cannot lose another's payment by an address nobody can reach.
func TestUnreachableExcessAddress(t *testing.T) {
	n := newNetwork(t, opening{client: clientState{balance: 5 * ton}, pool: 5 * ton})
	far := body(opPayout, 77).MustStoreUInt(0b100, 3).MustStoreInt(5, 8).MustStoreSlice(excessTo[:], 256)
	payload := tokensPayload(opPayout, 77, 50_000_000, n.work)
	good := signed(proxyKey, payload, excessTo).MustBeginParse()
	good.MustLoadSlice(96 + 267)
	n.ask(excessTo, n.work, 500*mTON, far.MustStoreSlice(good.MustLoadSlice(512), 512).MustStoreRef(payload).EndCell())
	if got := n.paid(workerOwner); got != 50_000_000*19 {
		t.Errorf("the worker got %d", got)
	}
	n.requireBalanced()
}
