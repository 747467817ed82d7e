package contracts

import (
	"crypto/ed25519"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

// A network is our contracts at the addresses their data gives them: a root, a
// proxy, one client and one worker, with codes in the params.
type network struct {
	*sandbox
	params              params
	root                addr
	proxy, client, work addr
	proxyState          proxyState
	clientState         clientState
	workerState         workerState
	query               uint64
}

// opening holds what a test wants to find; zero is a fresh network. Counters
// are set without the messages that lead to them, coins with them: the pool
// holds what the counters say.
type opening struct {
	pool   int64 // coins in the proxy contract above what the counters say
	proxy  proxyState
	client clientState
	worker workerState
}

func newNetwork(t testing.TB, o opening) *network {
	n := &network{sandbox: newSandbox(t), params: vectorParams(), query: 1}
	for name, a := range people() {
		n.person(name, a[0])
	}
	n.params.proxy, n.params.worker, n.params.client = code(Proxy()), code(Worker()), code(Client())
	if o.proxy.params.structVersion != 0 {
		n.params = o.proxy.params
	}
	public := proxyKey.Public().(ed25519.PublicKey)

	root := rootState{owner: rootOwner, params: n.params}.cell()
	n.root = deployed(code(Root()), root)
	n.place(n.root, "root", code(Root()), root, 1*ton)

	n.proxyState = proxyState{owner: proxyOwner, root: n.root, key: public, params: n.params}
	n.proxy = deployed(n.params.proxy, n.proxyState.cell())
	n.clientState = clientState{owner: clientOwner, proxy: n.proxy, key: public, stake: n.params.minClientStake, params: n.params}
	n.client = deployed(n.params.client, n.clientState.cell())
	n.workerState = workerState{owner: workerOwner, proxy: n.proxy, key: public, params: n.params}
	n.work = deployed(n.params.worker, n.workerState.cell())

	p := n.proxyState
	p.state, p.earnings, p.stake, p.unlock = o.proxy.state, o.proxy.earnings, o.proxy.stake, o.proxy.unlock
	c := n.clientState
	c.state, c.balance, c.tokens, c.unlock, c.secret = o.client.state, o.client.balance, o.client.tokens, o.client.unlock, o.client.secret
	if o.client.stake != 0 {
		c.stake = o.client.stake
	}
	w := n.workerState
	w.state, w.tokens = o.worker.state, o.worker.tokens
	n.place(n.proxy, "proxy", n.params.proxy, p.cell(), 100*mTON+p.earnings+p.stake+c.balance+o.pool)
	n.place(n.client, "client", n.params.client, c.cell(), 300*mTON)
	n.place(n.work, "worker", n.params.worker, w.cell(), 200*mTON)
	return n
}

// ask sends a body from a person with a value.
func (n *network) ask(from, to addr, value int64, b *cell.Cell) []step {
	n.t.Helper()
	return n.send(letter{from: from, to: to, value: value, body: b})
}

func (n *network) next() uint64 {
	n.query++
	return n.query
}

func (n *network) charge(tokens uint64) *cell.Cell {
	return signed(proxyKey, tokensPayload(opCharge, n.next(), tokens, n.client), excessTo)
}

func (n *network) grantRefund(tokens uint64) *cell.Cell {
	return signed(proxyKey, tokensPayload(opGrantRefund, n.next(), tokens, n.client), excessTo)
}

func (n *network) payout(tokens uint64) *cell.Cell {
	return signed(proxyKey, tokensPayload(opPayout, n.next(), tokens, n.work), excessTo)
}

func (n *network) lastPayout(tokens uint64) *cell.Cell {
	return signed(proxyKey, tokensPayload(opLastPayout, n.next(), tokens, n.work), excessTo)
}

func (n *network) close() *cell.Cell {
	return signed(proxyKey, closePayload(opClose, n.next(), n.proxy), excessTo)
}

func (n *network) closeComplete() *cell.Cell {
	return signed(proxyKey, closePayload(opCloseComplete, n.next(), n.proxy), excessTo)
}

func (n *network) topUp(amount int64) *cell.Cell {
	return toAddr(coins(body(opTopUp, n.next()), amount), excessTo)
}

func (n *network) plain(op uint64) *cell.Cell { return toAddr(body(op, n.next()), excessTo) }

func readProxy(s *sandbox, a addr) (p proxyState) {
	d := s.data(a).MustBeginParse()
	p.owner = fromTU(d.MustLoadAddr())
	p.key = d.MustLoadSlice(256)
	p.root = fromTU(d.MustLoadAddr())
	p.state = d.MustLoadUInt(2)
	p.earnings, p.stake = d.MustLoadBigCoins().Int64(), d.MustLoadBigCoins().Int64()
	p.unlock = d.MustLoadUInt(32)
	return p
}

func readClient(s *sandbox, a addr) (c clientState) {
	d := s.data(a).MustBeginParse()
	c.state = d.MustLoadUInt(2)
	c.balance, c.stake = d.MustLoadBigCoins().Int64(), d.MustLoadBigCoins().Int64()
	c.tokens, c.unlock = d.MustLoadUInt(64), d.MustLoadUInt(32)
	c.secret = [32]byte(d.MustLoadSlice(256))
	return c
}

func readWorker(s *sandbox, a addr) (w workerState) {
	d := s.data(a).MustBeginParse()
	w.owner, w.proxy = fromTU(d.MustLoadAddr()), fromTU(d.MustLoadAddr())
	w.key = d.MustLoadSlice(256)
	w.state, w.tokens = d.MustLoadUInt(2), d.MustLoadUInt(64)
	return w
}

// paid is what a person holds.
func (n *network) paid(who addr) int64 { return n.balance(who).Int64() }

// wallet places a node wallet of the client's owner.
func (n *network) wallet(balance int64) addr {
	w := walletState{key: walletKey.Public().(ed25519.PublicKey), owner: clientOwner}.cell()
	a := deployed(code(Wallet()), w)
	n.place(a, "wallet", code(Wallet()), w, balance)
	return a
}

// mark is a save-state note to the proxy contract, sent with 1 nanoton.
func (n *network) mark() *cell.Cell {
	note := body(opDoNotProcess, n.next()).MustStoreUInt(0x53109c0f, 32).MustStoreUInt(3, 32).MustStoreSlice(fillBytes(9), 256).EndCell()
	return internalHeader(0x18, n.proxy, 1).MustStoreUInt(0, 106).MustStoreBoolBit(true).MustStoreRef(note).EndCell()
}

// marks is a wallet order with that many notes.
func (n *network) marks(count int) *cell.Cell {
	var modes []uint8
	var messages []*cell.Cell
	for range count {
		modes, messages = append(modes, 1), append(messages, n.mark())
	}
	return walletOrder(walletKey, 0, uint64(n.now)+3600, 0, modes, messages...)
}

// proxyReplace rewrites the proxy's data in place.
func (n *network) proxyReplace(change func(*proxyState)) {
	p := readProxy(n.sandbox, n.proxy)
	p.params = n.params
	change(&p)
	balance := n.balance(n.proxy)
	n.place(n.proxy, "proxy", n.params.proxy, p.cell(), balance.Int64())
	n.created.Sub(n.created, balance)
}
