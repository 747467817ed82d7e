package contracts

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/big"
	"testing"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// allOK fails on the first refused transaction; notifications are not executed.
func allOK(t *testing.T, what string, steps []step) []step {
	t.Helper()
	for i, st := range steps {
		if !st.ok() && st.skip != "NO_GAS" {
			t.Fatalf("%s, transaction %d: exit %d, action %d, %s", what, i, st.exit, st.action, st.skip)
		}
	}
	return steps
}

// TestLifeCycle deploys everything by messages and walks a network from the
// first top-up to the swept pool; every coin is followed.
func TestLifeCycle(t *testing.T) {
	n := newNetwork(t, opening{})
	for _, a := range []addr{n.proxy, n.client, n.work} {
		n.created.Sub(n.created, n.balance(a))
		delete(n.accs, a)
	}
	deploy := func(to addr, value int64, code, data *cell.Cell) {
		t.Helper()
		allOK(t, "deploy", n.send(letter{from: excessTo, to: to, value: value, init: stateInit(code, data), noBounce: true}))
	}
	deploy(n.proxy, 300*mTON, n.params.proxy, n.proxyState.cell())
	deploy(n.client, 800*mTON, n.params.client, n.clientState.cell())
	deploy(n.work, 300*mTON, n.params.worker, n.workerState.cell())
	pool := func() int64 { return n.balance(n.proxy).Int64() }
	start := pool()

	allOK(t, "stake", n.ask(excessTo, n.proxy, 10200*mTON, toAddr(coins(body(opProxyStake, n.next()), 10*ton), excessTo)))
	allOK(t, "top-up", n.ask(excessTo, n.client, 20700*mTON, n.topUp(20*ton)))
	secret := sha256.Sum256([]byte("mine"))
	allOK(t, "secret", n.ask(clientOwner, n.client, 700*mTON, toAddr(body(opChangeSecret, n.next()).MustStoreSlice(secret[:], 256), excessTo)))
	allOK(t, "register", n.ask(clientOwner, n.client, 1*ton, toAddr(body(opRegister, n.next()).MustStoreUInt(7, 64), excessTo)))
	allOK(t, "secret and top-up", n.ask(clientOwner, n.client, 5700*mTON, toAddr(coins(body(opSecretTopUp, n.next()), 5*ton).MustStoreSlice(secret[:], 256), excessTo)))
	allOK(t, "client stake", n.ask(clientOwner, n.client, 700*mTON, toAddr(coins(body(opClientStake, n.next()), 3*ton), excessTo)))
	allOK(t, "worker register", n.ask(workerOwner, n.work, 700*mTON, n.plain(opWorkerRegister)))
	if c := readClient(n.sandbox, n.client); c.balance != 25*ton || c.stake != 3*ton || c.secret != secret || pool()-start < 35*ton || pool()-start > 35*ton+100 {
		t.Fatalf("client %+v, pool %d", c, pool()-start)
	}

	// 250 M tokens at 20 nano: 5 TON charged, 4.75 to the worker, 0.25 kept.
	allOK(t, "charge", n.ask(excessTo, n.client, 700*mTON, n.charge(250_000_000)))
	allOK(t, "payout", n.ask(excessTo, n.work, 500*mTON, n.payout(250_000_000)))
	if c, w, p := readClient(n.sandbox, n.client), readWorker(n.sandbox, n.work), readProxy(n.sandbox, n.proxy); c.balance != 20*ton || w.tokens != 250_000_000 || p.earnings != 250*mTON {
		t.Fatalf("client %+v, worker %+v, proxy %+v", c, w, p)
	}
	if got := n.paid(workerOwner); got != 4750*mTON {
		t.Fatalf("worker got %d", got)
	}
	allOK(t, "withdraw", n.ask(clientOwner, n.client, 700*mTON, n.plain(opWithdraw)))
	allOK(t, "earnings", n.ask(excessTo, n.proxy, 200*mTON, n.plain(opPayOutEarnings)))
	if c := readClient(n.sandbox, n.client); c.balance != 3*ton || n.paid(clientOwner) != 17*ton || n.paid(proxyOwner) != 250*mTON {
		t.Fatalf("client %+v, owners %d %d", c, n.paid(clientOwner), n.paid(proxyOwner))
	}

	allOK(t, "text c", n.ask(proxyOwner, n.proxy, 200*mTON, text('c')))
	if p := readProxy(n.sandbox, n.proxy); p.state != 1 || p.unlock != epoch+86400 {
		t.Fatalf("closing: %+v", p)
	}
	// Closing: stake, payouts, refunds and earnings still work.
	allOK(t, "stake while closing", n.ask(excessTo, n.proxy, 1200*mTON, toAddr(coins(body(opProxyStake, n.next()), ton), excessTo)))
	allOK(t, "last payout", n.ask(excessTo, n.work, 700*mTON, n.lastPayout(260_000_000)))
	allOK(t, "text w", n.ask(proxyOwner, n.proxy, 200*mTON, text('w')))
	allOK(t, "request refund", n.ask(clientOwner, n.client, 700*mTON, n.plain(opRequestRefund)))
	if c := readClient(n.sandbox, n.client); c.state != 1 || c.unlock != epoch+43200 || c.balance != 3*ton {
		t.Fatalf("client closing: %+v", c)
	}
	// A closing client can still be charged and topped up again elsewhere.
	allOK(t, "charge while closing", n.ask(excessTo, n.client, 700*mTON, n.charge(260_000_000)))
	n.now += 86399
	if st := n.ask(excessTo, n.proxy, 200*mTON, n.closeComplete())[0]; st.exit != 1011 {
		t.Fatalf("closed early: %+v", st)
	}
	n.now++
	allOK(t, "close complete", n.ask(excessTo, n.proxy, 200*mTON, n.closeComplete()))
	allOK(t, "forced refund", n.ask(clientOwner, n.client, 700*mTON, n.plain(opRequestRefund)))
	if c := readClient(n.sandbox, n.client); c.state != 2 || c.balance != 0 || n.paid(clientOwner) != 17*ton+2800*mTON {
		t.Fatalf("client %+v, owner %d", c, n.paid(clientOwner))
	}
	n.now += year
	allOK(t, "sweep", n.ask(proxyOwner, n.proxy, 200*mTON, text('w')))
	if pool() != 10*mTON {
		t.Fatalf("left %d", pool())
	}
	n.requireBalanced()
}

// TestForcedRefundFromStake: while the proxy is not closed its stake answers.
func TestForcedRefundFromStake(t *testing.T) {
	for _, c := range []struct{ state uint64 }{{0}, {1}} {
		for _, stake := range []int64{0, ton, 30 * ton} {
			t.Run(fmt.Sprint("state ", c.state, " stake ", stake), func(t *testing.T) {
				n := newNetwork(t, opening{
					proxy:  proxyState{state: c.state, stake: stake, unlock: epoch + 9*c.state},
					client: clientState{state: 1, unlock: epoch - 1, balance: 20 * ton},
				})
				allOK(t, "forced", n.ask(clientOwner, n.client, 700*mTON, n.plain(opRequestRefund)))
				want := min(stake, 20*ton)
				if got := n.paid(clientOwner); got != want {
					t.Errorf("got %d, want %d", got, want)
				}
				if p := readProxy(n.sandbox, n.proxy); p.stake != stake-want {
					t.Errorf("stake %d", p.stake)
				}
				n.requireBalanced()
			})
		}
	}
}

// TestChargeBeyondBalance: the shortfall is the proxy's loss, never a debt.
func TestChargeBeyondBalance(t *testing.T) {
	n := newNetwork(t, opening{client: clientState{balance: ton}})
	allOK(t, "charge", n.ask(excessTo, n.client, 700*mTON, n.charge(1_000_000_000)))
	if c := readClient(n.sandbox, n.client); c.balance != 0 || c.tokens != 1_000_000_000 {
		t.Errorf("%+v", c)
	}
}

// TestOldProxy: after new terms, everything of the old ones goes on at its own
// addresses and prices, and neither side can draw on the other.
func TestOldProxy(t *testing.T) {
	n := newNetwork(t, opening{client: clientState{balance: 20 * ton}, pool: 20 * ton})
	allOK(t, "new terms", n.ask(rootOwner, n.root, 50*mTON, changeParams(1, 40, 30, 86400, 43200, 10*ton, 2500*mTON)))
	fresh := n.params
	fresh.version, fresh.price, fresh.fee = fresh.version+1, 40, 30
	state := n.proxyState
	state.params = fresh
	newProxy := deployed(fresh.proxy, state.cell())
	client := n.clientState
	client.proxy, client.params = newProxy, fresh
	newClient := deployed(fresh.client, client.cell())
	if newProxy == n.proxy || newClient == n.client {
		t.Fatal("new terms, old addresses")
	}
	// The root's params are what the addresses were made of.
	d := n.data(n.root).MustBeginParse()
	d.MustLoadAddr()
	d.MustLoadRef()
	if got := d.MustLoadRef().MustToCell(); !bytes.Equal(got.Hash(), fresh.cell(7).Hash()) {
		t.Errorf("root params\n got %s\nwant %s", got.Dump(), fresh.cell(7).Dump())
	}
	n.place(newProxy, "new proxy", fresh.proxy, state.cell(), 20*ton)
	n.place(newClient, "new client", fresh.client, client.cell(), ton)

	request := func(from, to addr, c clientState) int64 {
		n.post(letter{from: from, to: to, value: 200 * mTON, body: clientRequest(9, c, clientPayment(payloadGranted, ton, excessTo))})
		st, _ := n.deliver()
		n.queue = n.queue[:0]
		return st.exit
	}
	if exit := request(newClient, n.proxy, client); exit != 1014 {
		t.Errorf("a new client at the old proxy: exit %d", exit)
	}
	if exit := request(n.client, newProxy, n.clientState); exit != 1014 {
		t.Errorf("an old client at the new proxy: exit %d", exit)
	}
	// A charge for the old client is none for the new one.
	if st := n.ask(excessTo, newClient, 200*mTON, n.charge(5))[0]; st.exit != 1015 {
		t.Errorf("an old charge at the new client: exit %d", st.exit)
	}
	// The old one closes as ever, at the old price.
	allOK(t, "close", n.ask(excessTo, n.proxy, ton, n.close()))
	allOK(t, "grant refund", n.ask(excessTo, n.client, ton, n.grantRefund(100_000_000)))
	deposit := int64(290 * mTON)
	if got := n.paid(clientOwner); got < 18*ton+deposit-mTON || got > 18*ton+deposit {
		t.Errorf("the old client got %d", got)
	}
}

// TestRootOperations walks every root operation and compares the whole state.
func TestRootOperations(t *testing.T) {
	n := newNetwork(t, opening{})
	want := rootState{owner: rootOwner, params: n.params, endpoints: map[uint32]string{}}
	owner := rootOwner
	h := func(s string) [32]byte { return sha256.Sum256([]byte(s)) }
	hashed := func(op uint64, s string) *cell.Cell { return body(op, 7).MustStoreSlice(sha(s), 256).EndCell() }
	endpoint := func(b *cell.Builder, text string) *cell.Cell {
		return b.MustStoreBuilder(endpointBits(text)).EndCell()
	}
	for _, c := range []struct {
		name   string
		body   *cell.Cell
		change func()
	}{
		{"add worker", hashed(opAddWorkerHash, "w1"), func() { want.workerHashes = [][32]byte{h("w1")} }},
		{"add worker again", hashed(opAddWorkerHash, "w1"), func() {}},
		{"add second worker", hashed(opAddWorkerHash, "w2"), func() { want.workerHashes = [][32]byte{h("w1"), h("w2")} }},
		{"delete worker", hashed(opDeleteWorkerHash, "w1"), func() { want.workerHashes = [][32]byte{h("w2")} }},
		{"delete absent worker", hashed(opDeleteWorkerHash, "w1"), func() {}},
		{"add model", hashed(opAddModelHash, "m"), func() { want.modelHashes = [][32]byte{h("m")} }},
		{"add proxy", hashed(opAddProxyHash, "p"), func() { want.proxyHashes = [][32]byte{h("p")} }},
		{"delete model", hashed(opDeleteModelHash, "m"), func() { want.modelHashes = nil }},
		{"delete proxy", hashed(opDeleteProxyHash, "p"), func() { want.proxyHashes = nil }},
		{"register", endpoint(body(opRegisterProxy, 7), "10.1.2.3:11000 10.1.2.3:12000"), func() { want.endpoints[1] = "10.1.2.3:11000 10.1.2.3:12000"; want.lastSeqno = 1 }},
		{"register empty", endpoint(body(opRegisterProxy, 7), ""), func() { want.endpoints[2] = ""; want.lastSeqno = 2 }},
		{"register long", endpoint(body(opRegisterProxy, 7), string(bytes.Repeat([]byte("x"), 100))), func() { want.endpoints[3] = string(bytes.Repeat([]byte("x"), 100)); want.lastSeqno = 3 }},
		{"update", endpoint(body(opUpdateProxy, 7).MustStoreUInt(1, 32), "192.0.2.7:443"), func() { want.endpoints[1] = "192.0.2.7:443" }},
		{"unregister", body(opUnregisterProxy, 7).MustStoreUInt(2, 32).EndCell(), func() { delete(want.endpoints, 2) }},
		{"unregister absent", body(opUnregisterProxy, 7).MustStoreUInt(9, 32).EndCell(), func() {}},
		{"fees", coins(coins(body(opChangeFees, 7), 50), 0).EndCell(), func() { want.params.price, want.params.fee = 50, 0; want.params.version++ }},
		{"params", changeParams(7, 30, 28, 100, 50, ton, 2*ton), func() {
			p := &want.params
			p.price, p.fee, p.proxyDelay, p.clientDelay, p.minProxyStake, p.minClientStake = 30, 28, 100, 50, ton, 2*ton
			p.version++
		}},
		{"codes", body(opReplaceCodes, 7).MustStoreRef(toyCode(1)).MustStoreRef(toyCode(2)).MustStoreRef(toyCode(3)).EndCell(), func() {
			want.params.proxy, want.params.worker, want.params.client = toyCode(1), toyCode(2), toyCode(3)
			want.params.version++
		}},
		{"owner", toAddr(body(opChangeOwner, 7), proxyOwner), func() { want.owner = proxyOwner }},
		{"reset", body(opReset, 7).EndCell(), func() { want.workerHashes, want.endpoints = nil, nil }},
	} {
		steps := allOK(t, c.name, n.ask(owner, n.root, 50*mTON, c.body))
		c.change()
		want.version++
		if got := n.data(n.root); !bytes.Equal(got.Hash(), want.cell().Hash()) {
			t.Fatalf("%s\n got %s\nwant %s", c.name, got.Dump(), want.cell().Dump())
		}
		if out := steps[0].out; len(out) != 1 || out[0].to != owner || out[0].bounce || !bytes.Equal(out[0].body.Hash(), body(opExcess, 7).EndCell().Hash()) {
			t.Fatalf("%s: excess %v", c.name, out)
		}
		owner = want.owner
	}
	// A bare code replacement is no version; data and code come as given.
	rootCode := func() []byte { return n.accs[n.root].prepared.State().StateInit.Code.Hash() }
	allOK(t, "replace all", n.ask(owner, n.root, 50*mTON, body(opReplaceAll, 7).MustStoreRef(newToy().root.cell()).MustStoreRef(code(Root())).EndCell()))
	if !bytes.Equal(n.data(n.root).Hash(), newToy().root.cell().Hash()) {
		t.Error("data not replaced")
	}
	allOK(t, "replace code", n.ask(rootOwner, n.root, 50*mTON, body(opReplaceCode, 7).MustStoreRef(code(Worker())).EndCell()))
	if !bytes.Equal(n.data(n.root).Hash(), newToy().root.cell().Hash()) || !bytes.Equal(rootCode(), code(Worker()).Hash()) {
		t.Error("code not replaced, or data changed")
	}
	n.requireBalanced()
}

// TestGetMethods holds the results of spec contracts 16.3 and the method ids of 2.8.
func TestGetMethods(t *testing.T) {
	for name, id := range map[string]uint64{
		"get_cocoon_data": 96613, "get_cur_params": 89457, "last_proxy_seqno": 65647, "proxy_hash_is_valid": 129381,
		"worker_hash_is_valid": 95753, "model_hash_is_valid": 72587, "get_cocoon_proxy_data": 97687,
		"get_cocoon_worker_data": 106427, "get_cocoon_client_data": 75156, "seqno": 85143, "get_public_key": 78748, "get_owner_address": 114619,
	} {
		if got := tlb.MethodNameHash(name); got != id {
			t.Errorf("%s has id %d, want %d", name, got, id)
		}
	}

	v := newToy()
	v.proxy.state, v.proxy.earnings, v.proxy.stake, v.proxy.unlock = 1, 3*ton, 10*ton, 1750086400
	v.worker.tokens = 100_000_000
	v.client.state, v.client.balance, v.client.tokens, v.client.unlock, v.client.secret = 1, 2500*mTON, 100_000_000, 1750043200, vectorSecret
	v.wallet.seqno = 7
	bare := v.root
	bare.params.proxy, bare.params.worker, bare.params.client = nil, nil, nil
	hash := func(c *cell.Cell) *big.Int { return new(big.Int).SetBytes(c.Hash()) }
	key := func(k []byte) *big.Int { return new(big.Int).SetBytes(k) }
	word := func(s string) *big.Int { return key(sha(s)) }
	ints := func(values ...int64) (out []any) {
		for _, v := range values {
			out = append(out, big.NewInt(v))
		}
		return out
	}
	join := func(parts ...any) (out []any) {
		for _, p := range parts {
			if list, ok := p.([]any); ok {
				out = append(out, list...)
			} else {
				out = append(out, p)
			}
		}
		return out
	}
	for _, c := range []struct {
		code   []byte
		data   *cell.Cell
		method string
		args   []any
		want   []any
	}{
		{Root(), v.root.cell(), "get_cocoon_data", nil, join(ints(42, 3, 5, 17, 0, 20, 19, 10*ton, 2500*mTON), rootOwner)},
		{Root(), v.root.cell(), "get_cur_params", nil, join(ints(5, 17, 0, 20, 19, 1000, 80000, 86400, 43200, 10*ton, 2500*mTON), hash(toyCode(1)), hash(toyCode(2)), hash(toyCode(3)))},
		{Root(), bare.cell(), "get_cur_params", nil, ints(5, 17, 0, 20, 19, 1000, 80000, 86400, 43200, 10*ton, 2500*mTON, 0, 0, 0)},
		{Root(), v.root.cell(), "last_proxy_seqno", nil, ints(3)},
		{Root(), v.root.cell(), "proxy_hash_is_valid", []any{word("proxy-image-1")}, ints(-1)},
		{Root(), v.root.cell(), "proxy_hash_is_valid", []any{word("worker-image-1")}, ints(0)},
		{Root(), v.root.cell(), "worker_hash_is_valid", []any{word("worker-image-2")}, ints(-1)},
		{Root(), v.root.cell(), "worker_hash_is_valid", []any{word("worker-image-3")}, ints(0)},
		{Root(), v.root.cell(), "model_hash_is_valid", []any{word("Qwen/Qwen3-32B")}, ints(-1)},
		{Proxy(), v.proxy.cell(), "get_cocoon_proxy_data", nil, join(proxyOwner, key(v.proxy.key), mainnetRoot, ints(1, 3*ton, 10*ton, 1750086400, 20, 19, 10*ton, 2500*mTON, 5))},
		{Worker(), v.worker.cell(), "get_cocoon_worker_data", nil, join(workerOwner, v.proxyAddr, key(v.proxy.key), ints(0, 100_000_000))},
		{Client(), v.client.cell(), "get_cocoon_client_data", nil, join(clientOwner, v.proxyAddr, key(v.proxy.key), ints(1, 2500*mTON, 2500*mTON, 100_000_000, 1750043200), word("secret"))},
		{Wallet(), v.wallet.cell(), "seqno", nil, ints(7)},
		{Wallet(), v.wallet.cell(), "get_public_key", nil, []any{key(v.wallet.key)}},
		{Wallet(), v.wallet.cell(), "get_owner_address", nil, []any{clientOwner}},
	} {
		got := getMethod(t, code(c.code), c.data, c.method, c.args...)
		if len(got) != len(c.want) {
			t.Errorf("%s: %d values, want %d", c.method, len(got), len(c.want))
			continue
		}
		for i, want := range c.want {
			same := false
			switch want := want.(type) {
			case addr:
				s, ok := got[i].(*cell.Slice)
				same = ok && s.BitsLeft() == 267 && fromTU(s.MustLoadAddr()) == want
			case *big.Int:
				n, ok := got[i].(*big.Int)
				same = ok && n.Cmp(want) == 0
			}
			if !same {
				t.Errorf("%s: value %d is %v, want %v", c.method, i, got[i], want)
			}
		}
	}
}
