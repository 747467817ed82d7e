package contracts

import (
	"crypto/ed25519"
	"flag"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/xssnick/tonutils-go/tvm/cell"
)

var (
	sequences = flag.Int("sequences", 60, "random message sequences of the property test")
	firstSeed = flag.Uint64("seed", 1, "seed of the first sequence")
)

// A market is one proxy with several clients and workers under random messages,
// valid and hostile, delivered in any order the chain allows. Its books are
// kept from what is seen on the outside.
type market struct {
	*sandbox
	r        *rand.Rand
	params   params
	proxy    addr
	clients  []*party
	workers  []*party
	byAddr   map[addr]*party
	stranger addr
	honest   bool // the proxy's ledger does its duty: charges cover payouts
	history  []letter

	stakePut, closeValue, toProxyOwner, swept, proxyParts, forcedLost int64
	refusedForPool                                                    int
	events                                                            map[string]int
}

type party struct {
	at, owner   addr
	client      clientState
	worker      workerState
	put         int64 // top-ups counted
	paid        int64 // to the owner, by payouts
	charged     int64
	signed      uint64 // highest counter the proxy signed
	forcedShort int64
}

func newMarket(t testing.TB, seed uint64) *market {
	m := &market{
		sandbox: newSandbox(t), r: rand.New(rand.NewPCG(seed, 1)), params: vectorParams(),
		byAddr: map[addr]*party{}, events: map[string]int{}, honest: seed%2 == 0,
	}
	m.choose = func(n int) int { return m.r.IntN(n) }
	m.seen = m.book
	m.cfg = prices[oldestVersion+seed%(newestVersion-oldestVersion+1)]
	m.params.proxy, m.params.worker, m.params.client = code(Proxy()), code(Worker()), code(Client())
	m.params.proxyDelay, m.params.clientDelay = 1000, 500
	m.person("proxy owner", proxyOwner[0])
	m.person("excess", excessTo[0])
	m.stranger = m.person("stranger", 0x66)
	public := proxyKey.Public().(ed25519.PublicKey)
	state := proxyState{owner: proxyOwner, root: mainnetRoot, key: public, params: m.params}
	m.proxy = deployed(m.params.proxy, state.cell())
	m.place(m.proxy, "proxy", m.params.proxy, state.cell(), ton)
	for i := range byte(3) {
		p := &party{owner: m.person(fmt.Sprint("client owner ", i), 0xC0+i)}
		p.client = clientState{owner: p.owner, proxy: m.proxy, key: public, stake: m.params.minClientStake, params: m.params}
		p.at = deployed(m.params.client, p.client.cell())
		m.place(p.at, fmt.Sprint("client ", i), m.params.client, p.client.cell(), 300*mTON)
		m.clients, m.byAddr[p.at] = append(m.clients, p), p
	}
	for i := range byte(2) {
		p := &party{owner: m.person(fmt.Sprint("worker owner ", i), 0xA0+i)}
		p.worker = workerState{owner: p.owner, proxy: m.proxy, key: public, params: m.params}
		p.at = deployed(m.params.worker, p.worker.cell())
		m.place(p.at, fmt.Sprint("worker ", i), m.params.worker, p.worker.cell(), 200*mTON)
		m.workers, m.byAddr[p.at] = append(m.workers, p), p
	}
	return m
}

func (m *market) isClient(p *party) bool { return p.client.owner == p.owner }

// book enters what a transaction did.
func (m *market) book(st step) {
	for _, o := range st.out {
		s := o.body.MustBeginParse()
		if o.bounced || s.BitsLeft() < 32 || s.MustLoadUInt(32) != opPaid {
			continue
		}
		if o.to == proxyOwner {
			m.toProxyOwner += o.value.Int64()
		}
		for _, p := range m.byAddr {
			if o.to == p.owner {
				p.paid += o.value.Int64()
			}
		}
	}
	if st.bounced && st.from == m.proxy && st.ok() && len(st.out) > 0 {
		m.events["restored by "+m.name(st.to)[:6]]++
		if len(st.out) == 3 {
			m.events["top-up returned"]++
		}
	}
	if st.bounced || st.body == nil {
		return
	}
	s := st.body.MustBeginParse()
	if s.BitsLeft() < 32 {
		return
	}
	op := s.MustLoadUInt(32)
	m.events[fmt.Sprint("exit ", st.exit)]++
	if st.to == m.proxy && st.exit == 5 && proxyStateOf(st.before) == 0 {
		// Once it is closing, a refund may ask for a top-up that was refused and
		// has not come back yet: refused as well, and restored.
		m.refusedForPool++
	}
	if !st.ok() {
		return
	}
	p := m.byAddr[st.to]
	switch {
	case p != nil && m.isClient(p) && (op == opTopUp || op == opSecretTopUp):
		s.MustLoadUInt(64)
		p.put += s.MustLoadBigCoins().Int64()
	case p != nil && m.isClient(p) && (op == opCharge || op == opGrantRefund):
		d := st.before.MustBeginParse()
		d.MustLoadUInt(2)
		balance := d.MustLoadBigCoins().Int64()
		d.MustLoadBigCoins()
		used := d.MustLoadUInt(64)
		cost := new(big.Int).SetUint64(readClient(m.sandbox, st.to).tokens - used)
		cost.Mul(cost, big.NewInt(m.params.price))
		if cost.Cmp(big.NewInt(balance)) > 0 {
			cost.SetInt64(balance)
		}
		p.charged += cost.Int64()
	case st.to == m.proxy && op == opProxyStake:
		s.MustLoadUInt(64)
		m.stakePut += s.MustLoadBigCoins().Int64()
	case st.to == m.proxy && (op == opCloseComplete || op == 0):
		m.events["close step"]++
		m.closeValue += st.value.Int64() // the owner gets it with what is its
		if op == 0 && proxyStateOf(st.before) == 2 {
			m.swept += st.out[0].value.Int64()
			m.events["swept"]++
		}
	case st.to == m.proxy && op == opWorkerRequest:
		if len(st.out) > 0 {
			payload := s.MustLoadRef() // the only reference
			payload.MustLoadUInt(32)
			payload.MustLoadBigCoins()
			m.proxyParts += payload.MustLoadBigCoins().Int64()
		}
	case st.to == m.proxy && op == opClientRequest && len(st.out) > 0:
		s.MustLoadRef()
		payload := s.MustLoadRef()
		kind := payload.MustLoadUInt(32)
		m.events[fmt.Sprintf("payload %x in state %d", kind, proxyStateOf(st.before))]++
		if kind == payloadForced {
			short := payload.MustLoadBigCoins().Int64() - st.out[0].value.Int64()
			m.byAddr[st.from].forcedShort += short
			m.forcedLost += short
		}
	}
}

func proxyStateOf(data *cell.Cell) uint64 {
	s := data.MustBeginParse()
	s.MustLoadSlice(267 + 256 + 267)
	return s.MustLoadUInt(2)
}

// act posts one random message.
func (m *market) act() {
	r := m.r
	q := r.Uint64()
	client, worker := m.clients[r.IntN(len(m.clients))], m.workers[r.IntN(len(m.workers))]
	someone := []addr{client.owner, worker.owner, proxyOwner, excessTo, m.stranger}[r.IntN(5)]
	value := []int64{50 * mTON, 100 * mTON, 101 * mTON, 300 * mTON, 700 * mTON, 1500 * mTON}[r.IntN(6)]
	amount := []int64{0, 1, 1_000_000, ton, 5 * ton, 40 * ton}[r.IntN(6)]
	to, from := client.at, client.owner
	if r.IntN(5) == 0 {
		from = someone
	}
	var b *cell.Cell
	sign := func(p *party, op uint64, more uint64) *cell.Cell {
		key := proxyKey
		tokens := p.signed + more
		if m.isClient(p) && m.honest {
			// An honest proxy serves no more than was paid for.
			tokens = min(tokens, p.signed+uint64(readClient(m.sandbox, p.at).balance/m.params.price))
		}
		if !m.isClient(p) && m.honest {
			tokens = min(tokens, p.signed+m.unearned())
		}
		if r.IntN(6) == 0 { // a forger, or an old counter
			if r.IntN(2) == 0 {
				key = seedKey(99)
			} else {
				tokens = r.Uint64N(p.signed + 1)
			}
		}
		if key.Equal(proxyKey) {
			p.signed = max(p.signed, tokens)
		}
		return signed(key, tokensPayload(op, q, tokens, p.at), someone)
	}
	switch r.IntN(24) {
	case 0, 1, 2, 3:
		b, value, from = toAddr(coins(body(opTopUp, q), amount), excessTo), value+amount*int64(r.IntN(5)+1)/2, someone
	case 4:
		b, value = toAddr(coins(body(opSecretTopUp, q), amount).MustStoreSlice(sha("s"), 256), excessTo), value+amount
	case 5:
		b = toAddr(body(opWithdraw, q), excessTo)
	case 6:
		b = toAddr(body(opRequestRefund, q), excessTo)
	case 7:
		b = toAddr(coins(body(opClientStake, q), amount), excessTo)
	case 8:
		b = toAddr(body(opRegister, q).MustStoreUInt(q, 64), excessTo)
	case 9, 10, 11:
		b = sign(client, opCharge, r.Uint64N(300_000_000))
	case 12:
		if r.IntN(4) == 0 {
			b = sign(client, opGrantRefund, r.Uint64N(50_000_000))
		}
	case 13, 14, 15:
		to, b = worker.at, sign(worker, opPayout, r.Uint64N(300_000_000))
	case 16:
		if r.IntN(4) == 0 {
			to, b = worker.at, sign(worker, opLastPayout, r.Uint64N(50_000_000))
		}
	case 17:
		to, b, value = m.proxy, toAddr(coins(body(opProxyStake, q), amount), excessTo), value+amount
	case 18:
		to, b = m.proxy, toAddr(body(opPayOutEarnings, q), excessTo)
	case 19:
		to, from, b = m.proxy, []addr{proxyOwner, someone}[r.IntN(2)], text("cwwwx"[r.IntN(5)])
	case 20: // closes, early and late
		if r.IntN(3) == 0 {
			op := []uint64{opClose, opCloseComplete}[r.IntN(2)]
			to, b = m.proxy, signed(proxyKey, closePayload(op, q, m.proxy), someone)
		}
	case 21: // forged requests
		to, from = m.proxy, someone
		kind := []uint64{payloadGranted, payloadForced, payloadTopUp}[r.IntN(3)]
		b = clientRequest(q, client.client, clientPayment(kind, amount, someone))
		if r.IntN(2) == 0 {
			b = workerRequest(q, worker.worker, workerPayment(amount, amount, someone))
		}
	case 22: // forged bounces
		from = someone
		m.post(letter{from: from, to: client.at, value: value, bounced: true, body: bounceOf(clientRequest(q, client.client, clientPayment(payloadGranted, amount, someone)))})
		m.post(letter{from: from, to: worker.at, value: value, bounced: true, body: bounceOf(workerRequest(q, worker.worker, workerPayment(amount, amount, someone)))})
		return
	case 23: // something seen before, from somebody else, with another value
		if len(m.history) > 0 {
			l := m.history[r.IntN(len(m.history))]
			l.from, l.value = someone, l.value+int64(r.IntN(ton))
			m.post(l)
		}
		return
	}
	if b == nil {
		return
	}
	l := letter{from: from, to: to, value: value, body: b}
	m.history = append(m.history, l)
	m.post(l)
}

// unearned is how many tokens the workers may still be paid for out of what
// the clients were charged.
func (m *market) unearned() uint64 {
	left := int64(0)
	for _, c := range m.clients {
		left += c.charged
	}
	for _, w := range m.workers {
		left -= int64(w.signed) * m.params.price
	}
	return uint64(max(left, 0) / m.params.price)
}

// check holds what is true whenever nothing is on its way.
func (m *market) check(t *testing.T) {
	t.Helper()
	m.requireBalanced()
	p := readProxy(m.sandbox, m.proxy)
	counted := p.earnings + p.stake
	for i, c := range m.clients {
		state := readClient(m.sandbox, c.at)
		counted += state.balance
		if c.paid > c.put {
			t.Fatalf("client %d got %d and put in %d", i, c.paid, c.put)
		}
		if got := c.paid + state.balance + c.charged + c.forcedShort; got != c.put {
			t.Fatalf("client %d put in %d: paid %d, balance %d, charged %d, forced short %d", i, c.put, c.paid, state.balance, c.charged, c.forcedShort)
		}
	}
	var earned int64
	for i, w := range m.workers {
		state := readWorker(m.sandbox, w.at)
		if state.tokens > w.signed {
			t.Fatalf("worker %d counts %d tokens, %d were signed", i, state.tokens, w.signed)
		}
		if w.paid != int64(state.tokens)*m.params.fee {
			t.Fatalf("worker %d got %d for %d tokens", i, w.paid, state.tokens)
		}
		earned += int64(state.tokens) * (m.params.price - m.params.fee)
	}
	if earned != m.proxyParts {
		t.Fatalf("the proxy's parts are %d, the workers' counters say %d", m.proxyParts, earned)
	}
	if most := m.proxyParts + m.stakePut + m.closeValue + m.swept; m.toProxyOwner > most {
		t.Fatalf("the proxy's owner got %d of %d", m.toProxyOwner, most)
	}
	if m.honest && m.swept == 0 {
		// 1 TON was there for rent and gas.
		if pool := m.balance(m.proxy).Int64(); pool < counted {
			t.Fatalf("the pool holds %d, %d are counted", pool, counted)
		}
		if m.refusedForPool > 0 {
			t.Fatal("a solvent pool refused")
		}
	}
}

// TestRandomMessages: no coin appears or vanishes, a client never gets more
// than it put in, a worker never more than was signed, the proxy's owner only
// what is its before the sweep, and an honest ledger keeps the pool solvent.
func TestRandomMessages(t *testing.T) {
	var mu sync.Mutex
	events := map[string]int{}
	t.Cleanup(func() {
		// A property of things that never happen would hold as well.
		for _, name := range []string{
			"restored by client", "restored by worker", "top-up returned", "swept", "close step",
			"payload 5cfc6b87 in state 0", "payload c68ebc7b in state 0", "payload c68ebc7b in state 2", "payload f4c354c9 in state 1",
			"exit 1000", "exit 1003", "exit 1006", "exit 1007", "exit 1010", "exit 1011", "exit 1014", "exit 5",
		} {
			if events[name] == 0 && !t.Failed() && *sequences >= 60 {
				t.Errorf("no sequence had %q: %v", name, events)
			}
		}
	})
	for i := range uint64(*sequences) {
		seed := *firstSeed + i
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			m := newMarket(t, seed)
			phase := func(rounds int) {
				for range rounds {
					for range 1 + m.r.IntN(8) {
						m.act()
					}
					m.run()
					m.check(t)
					if m.r.IntN(3) == 0 {
						m.now += m.r.Uint32N(800)
					}
				}
			}
			phase(15)
			m.post(letter{from: proxyOwner, to: m.proxy, value: 300 * mTON, body: text('c')})
			phase(5)
			m.now += 1001
			m.post(letter{from: m.stranger, to: m.proxy, value: 300 * mTON, body: signed(proxyKey, closePayload(opCloseComplete, 1, m.proxy), excessTo)})
			phase(5)
			m.now += year
			m.post(letter{from: proxyOwner, to: m.proxy, value: 300 * mTON, body: text('w')})
			phase(3)
			mu.Lock()
			defer mu.Unlock()
			for name, count := range m.events {
				events[name] += count
			}
		})
	}
}
