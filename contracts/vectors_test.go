package contracts

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/big"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// The inputs of spec contracts 16.1.
const vectorQuery = 0x1122334455667788

var (
	proxyKey     = seedKey(1)
	walletKey    = seedKey(3)
	vectorSecret = sha256.Sum256([]byte("secret"))
	mainnetRoot  = addr(must1(hex.DecodeString("a7b3b6d84a9d22805bd2d70a5be70b198c2282575f4c0f9015cc8e04cb1b2753")))
)

func fill(b byte) (a addr) {
	for i := range a {
		a[i] = b
	}
	return a
}

var (
	rootOwner   = fill(0x11)
	proxyOwner  = fill(0x22)
	workerOwner = fill(0x33)
	clientOwner = fill(0x44)
	excessTo    = fill(0x55)
)

// toy is the vectors' network with one-cell codes.
type toy struct {
	proxyAddr, workerAddr, clientAddr, walletAddr addr
	proxy                                         proxyState
	worker                                        workerState
	client                                        clientState
	wallet                                        walletState
	root                                          rootState
}

func newToy() toy {
	p := vectorParams()
	public := proxyKey.Public().(ed25519.PublicKey)
	var t toy
	t.proxy = proxyState{owner: proxyOwner, root: mainnetRoot, key: public, params: p}
	t.proxyAddr = deployed(toyCode(1), t.proxy.cell())
	t.worker = workerState{owner: workerOwner, proxy: t.proxyAddr, key: public, params: p}
	t.workerAddr = deployed(toyCode(2), t.worker.cell())
	t.client = clientState{owner: clientOwner, proxy: t.proxyAddr, key: public, stake: p.minClientStake, params: p}
	t.clientAddr = deployed(toyCode(3), t.client.cell())
	t.wallet = walletState{key: walletKey.Public().(ed25519.PublicKey), owner: clientOwner}
	t.walletAddr = deployed(toyCode(4), t.wallet.cell())
	t.root = rootState{
		owner: rootOwner, version: 42, lastSeqno: 3, params: p,
		proxyHashes:  [][32]byte{sha256.Sum256([]byte("proxy-image-1"))},
		workerHashes: [][32]byte{sha256.Sum256([]byte("worker-image-1")), sha256.Sum256([]byte("worker-image-2"))},
		modelHashes:  [][32]byte{sha256.Sum256([]byte("Qwen/Qwen3-32B"))},
		endpoints:    map[uint32]string{1: "10.1.2.3:11000 10.1.2.3:12000", 3: "192.0.2.7:443"},
	}
	return t
}

func code(bag []byte) *cell.Cell { return boc(bag) }

// place puts our code at the vectors' addresses, with the vectors' balances.
func (v toy) place(s *sandbox) {
	s.place(v.proxyAddr, "proxy", code(Proxy()), v.proxy.cell(), 200*ton)
	s.place(v.workerAddr, "worker", code(Worker()), v.worker.cell(), 800*mTON)
	s.place(v.clientAddr, "client", code(Client()), v.client.cell(), 800*mTON)
	for name, a := range people() {
		s.person(name, a[0])
	}
}

func people() map[string]addr {
	return map[string]addr{"root_owner": rootOwner, "proxy_owner": proxyOwner, "worker_owner": workerOwner, "client_owner": clientOwner, "excess": excessTo}
}

func readCells(t testing.TB) map[string]*cell.Cell {
	t.Helper()
	cells := map[string]*cell.Cell{}
	for line := range strings.Lines(string(must1(os.ReadFile("testdata/cells.txt")))) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		part := strings.Split(strings.TrimSpace(line), " | ")
		if len(part) != 3 {
			t.Fatalf("cells.txt: %q", line)
		}
		c := boc(must1(hex.DecodeString(part[2])))
		if got := hex.EncodeToString(c.Hash()); got != part[1] {
			t.Fatalf("%s: hash %s, the vector says %s", part[0], got, part[1])
		}
		cells[part[0]] = c
	}
	return cells
}

// TestCellVectors rebuilds the cells of spec contracts 16.2 to 16.6. What the
// other tests build their networks from is therefore what the vectors mean.
func TestCellVectors(t *testing.T) {
	v := newToy()
	p := vectorParams()
	moved := v.client
	moved.state, moved.balance, moved.tokens, moved.secret = 1, 2500*mTON, 100_000_000, vectorSecret
	served := v.worker
	served.tokens = 100_000_000
	q := uint64(vectorQuery)
	hash1 := sha256.Sum256([]byte("worker-image-1"))
	mark := body(opDoNotProcess, q).MustStoreUInt(0x53109c0f, 32).MustStoreUInt(3, 32).MustStoreSlice(fillBytes(9), 256).EndCell()
	first := internalHeader(0x18, v.proxyAddr, 1).MustStoreUInt(0, 106).MustStoreBoolBit(true).MustStoreRef(mark).EndCell()
	second := internalHeader(0x10, v.clientAddr, 800*mTON).MustStoreUInt(0, 105).MustStoreUInt(0b11, 2).MustStoreBoolBit(false).
		MustStoreRef(must1(tlb.ToCell(stateInit(toyCode(3), v.client.cell())))).EndCell()
	order := walletOrder(walletKey, 0, epoch+3600, 7, []uint8{1, 0}, first, second)

	got := map[string]*cell.Cell{
		"params mask 7": p.cell(7), "params mask 6": p.cell(6), "params mask 0": p.cell(0),
		"proxy data": v.proxy.cell(), "worker data": v.worker.cell(), "client data": v.client.cell(), "wallet data": v.wallet.cell(),
		"root sample data": v.root.cell(), "client StateInit": must1(tlb.ToCell(stateInit(toyCode(3), v.client.cell()))),

		"signed charge payload":               tokensPayload(opCharge, q, 100_000_000, v.clientAddr),
		"signed charge body":                  signed(proxyKey, tokensPayload(opCharge, q, 100_000_000, v.clientAddr), excessTo),
		"signed grant_refund payload":         tokensPayload(opGrantRefund, q, 100_000_001, v.clientAddr),
		"signed grant_refund body":            signed(proxyKey, tokensPayload(opGrantRefund, q, 100_000_001, v.clientAddr), excessTo),
		"signed payout payload":               tokensPayload(opPayout, q, 100_000_000, v.workerAddr),
		"signed payout body":                  signed(proxyKey, tokensPayload(opPayout, q, 100_000_000, v.workerAddr), excessTo),
		"signed last_payout payload":          tokensPayload(opLastPayout, q, 100_000_000, v.workerAddr),
		"signed last_payout body":             signed(proxyKey, tokensPayload(opLastPayout, q, 100_000_000, v.workerAddr), excessTo),
		"signed proxy_close payload":          closePayload(opClose, q, v.proxyAddr),
		"signed proxy_close body":             signed(proxyKey, closePayload(opClose, q, v.proxyAddr), excessTo),
		"signed proxy_close_complete payload": closePayload(opCloseComplete, q, v.proxyAddr),
		"signed proxy_close_complete body":    signed(proxyKey, closePayload(opCloseComplete, q, v.proxyAddr), excessTo),

		"excesses": body(opExcess, q).EndCell(), "payout": body(opPaid, q).EndCell(), "save_state seqno=3 hash=09..09": mark,
		"client top_up 5":          toAddr(coins(body(opTopUp, q), 5*ton), excessTo),
		"client secret+topup":      toAddr(coins(body(opSecretTopUp, q), 5*ton).MustStoreSlice(vectorSecret[:], 256), excessTo),
		"client register nonce":    toAddr(body(opRegister, q).MustStoreUInt(0xdeadbeefcafebabe, 64), excessTo),
		"client change_secret":     toAddr(body(opChangeSecret, q).MustStoreSlice(vectorSecret[:], 256), excessTo),
		"client increase_stake 3":  toAddr(coins(body(opClientStake, q), 3*ton), excessTo),
		"client withdraw":          toAddr(body(opWithdraw, q), excessTo),
		"client request_refund":    toAddr(body(opRequestRefund, q), excessTo),
		"worker register":          toAddr(body(opWorkerRegister, q), excessTo),
		"proxy payout_request":     toAddr(body(opPayOutEarnings, q), excessTo),
		"proxy increase_stake 5":   toAddr(coins(body(opProxyStake, q), 5*ton), excessTo),
		"proxy owner_close":        toAddr(body(opOwnerClose, q), excessTo),
		"text c":                   text('c'),
		"text w":                   text('w'),
		"root add_worker_type":     body(opAddWorkerHash, q).MustStoreSlice(hash1[:], 256).EndCell(),
		"root register_proxy":      body(opRegisterProxy, q).MustStoreBuilder(endpointBits("10.1.2.3:11000 10.1.2.3:12000")).EndCell(),
		"root update_proxy #1":     body(opUpdateProxy, q).MustStoreUInt(1, 32).MustStoreBuilder(endpointBits("192.0.2.7:443")).EndCell(),
		"root unregister_proxy #1": body(opUnregisterProxy, q).MustStoreUInt(1, 32).EndCell(),
		"root change_fees 30/28":   coins(coins(body(opChangeFees, q), 30), 28).EndCell(),
		"root change_params":       changeParams(q, 30, 28, 100, 50, ton, 2*ton),
		"root change_owner":        toAddr(body(opChangeOwner, q), proxyOwner),
		"root reset":               body(opReset, q).EndCell(),

		"client->proxy request no payload":  clientRequest(q, moved, nil),
		"client->proxy refund_granted 17.5": clientRequest(q, moved, clientPayment(payloadGranted, 17500*mTON, excessTo)),
		"client->proxy register nonce":      clientRequest(q, moved, cell.BeginCell().MustStoreUInt(payloadRegister, 32).MustStoreUInt(0xdeadbeefcafebabe, 64).EndCell()),
		"worker->proxy payout 1.9/0.1":      workerRequest(q, served, workerPayment(1900*mTON, 100*mTON, excessTo)),
		"worker->proxy notify":              workerRequest(q, served, nil),
		"state_data cell used above (state 1, balance 2.5, stake 2.5, tokens 100000000, secret_hash)": moved.shown(),

		"wallet message 1 cell": first, "wallet message 2 cell": second, "wallet external body": order,
		"wallet external message to the toy wallet address (no init, body in ref)": cell.BeginCell().
			MustStoreUInt(0b1000, 4).MustStoreAddr(v.walletAddr.tu()).MustStoreUInt(0, 4).MustStoreUInt(0b01, 2).MustStoreRef(order).EndCell(),
		"wallet owner: send message (mode 64, message 1)": body(opWalletSend, q).MustStoreUInt(64, 8).MustStoreRef(first).EndCell(),
	}
	for name, want := range readCells(t) {
		c, ok := got[name]
		if !ok {
			t.Errorf("no test builds %q", name)
		} else if hex.EncodeToString(c.Hash()) != hex.EncodeToString(want.Hash()) {
			t.Errorf("%s\n got %s\nwant %s", name, c.Dump(), want.Dump())
		}
	}
}

func changeParams(query uint64, price, fee int64, proxyDelay, clientDelay uint64, proxyStake, clientStake int64) *cell.Cell {
	b := coins(coins(body(opChangeParams, query), price), fee).MustStoreUInt(proxyDelay, 32).MustStoreUInt(clientDelay, 32)
	return coins(coins(b, proxyStake), clientStake).EndCell()
}

func fillBytes(b byte) []byte { f := fill(b); return f[:] }

func sha(s string) []byte { h := sha256.Sum256([]byte(s)); return h[:] }

func internalHeader(flags uint64, to addr, value int64) *cell.Builder {
	return coins(cell.BeginCell().MustStoreUInt(flags, 6).MustStoreAddr(to.tu()), value)
}

// walletOrder is the body of an external message (spec contracts 8.2).
func walletOrder(key ed25519.PrivateKey, subwallet, validUntil, seqno uint64, modes []uint8, messages ...*cell.Cell) *cell.Cell {
	unsigned := cell.BeginCell().MustStoreUInt(subwallet, 32).MustStoreUInt(validUntil, 32).MustStoreUInt(seqno, 32)
	for _, m := range modes {
		unsigned.MustStoreUInt(uint64(m), 8)
	}
	for _, m := range messages {
		unsigned.MustStoreRef(m)
	}
	signature := ed25519.Sign(key, unsigned.EndCell().Hash())
	return cell.BeginCell().MustStoreSlice(signature, 512).MustStoreBuilder(unsigned).EndCell()
}

// transition is one line of spec contracts 16.7, or of differences.jsonl.
type transition struct {
	Name       string          `json:"name"`
	From       string          `json:"from"`
	Value      string          `json:"value"`
	Bounced    bool            `json:"bounced,omitempty"` // body is what a bounce of the new kind carries
	Exit       int64           `json:"exit"`
	DataBefore string          `json:"data_before"`
	Body       string          `json:"body"`
	DataAfter  string          `json:"data_after"`
	Hash       string          `json:"data_after_hash"`
	Out        []transitionOut `json:"out"`
}

type transitionOut struct {
	To     string `json:"to"`
	Bounce bool   `json:"bounce"`
	Nano   string `json:"nano"`
	Body   string `json:"body"`
}

func readTransitions(t testing.TB, file string) []transition {
	t.Helper()
	var out []transition
	for line := range strings.Lines(string(must1(os.ReadFile(file)))) {
		var v transition
		must(json.Unmarshal([]byte(line), &v))
		out = append(out, v)
	}
	return out
}

// contradicted are the vectors that the differences of docs/contracts.md
// change. Their replacements, of the same names, stand in differences.jsonl.
var contradicted = map[string]string{
	"client_grant_refund":  "the gas deposit goes to the client's owner",
	"worker_last_payout":   "the gas deposit goes to the worker's owner",
	"proxy_close_complete": "the proxy's owner gets earnings and stake only",
}

func TestTransitionVectors(t *testing.T) {
	seen := map[string]bool{}
	for _, v := range readTransitions(t, "testdata/transitions.jsonl") {
		seen[v.Name] = true
		t.Run(v.Name, func(t *testing.T) {
			data, st := v.run(t)
			diff := v.diff(data, st)
			reason, deviates := contradicted[v.Name]
			switch {
			case !deviates && diff != "":
				t.Error(diff)
			case deviates && diff == "":
				t.Errorf("passes although %s", reason)
			}
		})
	}
	for name := range contradicted {
		if !seen[name] {
			t.Errorf("contradicted names %s, which is no vector", name)
		}
	}
}

func nano(s string) int64 { return must1(strconv.ParseInt(s, 10, 64)) }

func unhex(s string) *cell.Cell { return boc(must1(hex.DecodeString(s))) }

func vectorNames() map[string]addr {
	ns, named := newToy(), people()
	named["proxy"], named["worker"], named["client"], named["root"] = ns.proxyAddr, ns.workerAddr, ns.clientAddr, mainnetRoot
	return named
}

// run executes a vector on our code. The contract is the first word of its name.
func (v transition) run(t *testing.T) (*cell.Cell, step) {
	t.Helper()
	s, named := newSandbox(t), vectorNames()
	newToy().place(s)
	kind, _, _ := strings.Cut(v.Name, "_")
	target, balance := named[kind], int64(800*mTON)
	if kind == "proxy" {
		balance = 200 * ton
	}
	s.place(target, kind, code(bags()[kind]), unhex(v.DataBefore), balance)
	s.post(letter{from: named[v.From], to: target, value: nano(v.Value), body: unhex(v.Body), bounced: v.Bounced})
	st, _ := s.deliver()
	if v.Exit == 0 && !st.ok() {
		t.Fatalf("exit %d, action %d, %s", st.exit, st.action, st.skip)
	}
	return s.data(target), st
}

// diff describes what a run did differently; values that depend on gas are
// compared roughly.
func (v transition) diff(data *cell.Cell, st step) string {
	var diff strings.Builder
	if st.exit != v.Exit {
		return fmt.Sprintf("exit %d, want %d", st.exit, v.Exit)
	}
	if got := hex.EncodeToString(data.Hash()); got != v.Hash {
		want := unhex(v.DataBefore)
		if v.DataAfter != "same" {
			want = unhex(v.DataAfter)
		}
		fmt.Fprintf(&diff, "data\n got %s\nwant %s\n", data.Dump(), want.Dump())
	}
	out := st.out
	if v.Exit != 0 {
		out = nil // the bounce
	}
	if len(out) != len(v.Out) {
		fmt.Fprintf(&diff, "%d messages, want %d\n", len(out), len(v.Out))
		return diff.String()
	}
	named := vectorNames()
	for i, want := range v.Out {
		got := out[i]
		if got.to != named[want.To] || got.bounce != want.Bounce {
			fmt.Fprintf(&diff, "message %d to %s (bounce %v), want %s (%v)\n", i, got.to, got.bounce, want.To, want.Bounce)
		}
		if wantBody := unhex(want.Body); !bytes.Equal(got.body.Hash(), wantBody.Hash()) {
			fmt.Fprintf(&diff, "message %d body\n got %s\nwant %s\n", i, got.body.Dump(), wantBody.Dump())
		}
		// Gas differs between the builds: a tenth of a commission at most.
		delta := new(big.Int).Sub(got.value, big.NewInt(nano(want.Nano)))
		if delta.CmpAbs(big.NewInt(10*mTON)) > 0 {
			fmt.Fprintf(&diff, "message %d carries %v, want about %s\n", i, got.value, want.Nano)
		}
	}
	return diff.String()
}
