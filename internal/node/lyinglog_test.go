//go:build !tee

package node

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/role/worker"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/receipt"
)

// anchorsOnly is a chain with the rules of anchor contracts, and a time of its
// own.
type anchorsOnly struct {
	mu     sync.Mutex
	time   time.Time
	seqno  uint32
	stored map[cocoon.Address]bindings.AnchorStorage
}

func (c *anchorsOnly) Account(_ context.Context, a cocoon.Address) (access.Account, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	acc := access.Account{Address: a, Block: access.Block{Seqno: c.seqno, Time: c.time}}
	s, ok := c.stored[a]
	if !ok {
		return acc, nil
	}
	var err error
	acc.Exists, acc.Code = true, []byte{1}
	acc.Data, err = s.Encode()
	return acc, err
}

func (c *anchorsOnly) block() receipt.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	return receipt.Block{Seqno: c.seqno, RootHash: [32]byte{1}, Time: c.time}
}

// pass lets time pass.
func (c *anchorsOnly) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seqno, c.time = c.seqno+1, c.time.Add(d)
}

func (c *anchorsOnly) take(s bindings.AnchorStep, key [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.stored[s.Contract]
	if s.Epoch == was.Epoch+1 && s.PreviousLog == was.Roots.Log && s.Size >= was.Size {
		c.stored[s.Contract] = bindings.AnchorStorage{ProxyKey: key, Epoch: s.Epoch, Size: s.Size, Roots: s.Roots}
		c.seqno++
	}
}

func (c *anchorsOnly) epoch(a cocoon.Address) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stored[a].Epoch
}

// loggingProxy is what a real proxy role has for its audit log: log, service
// and anchoring, each of which a test can make lie.
type loggingProxy struct {
	n      *testNet
	chain  *anchorsOnly
	key    wallet.Key
	issuer *statement.Issuer
	anchor cocoon.Address
	stop   func() // of the anchoring
	book   *book

	receipts *receipts // by which parts are made
	shown    *receipts // whose pages are shown, and whose heads are anchored
	hideSets bool      // sets are shown and not logged
	// lie changes what a party is shown; nil answers go out as refusals.
	lie atomic.Pointer[func(party cocoon.Address, page string, v any) any]
}

func (p *loggingProxy) open() *receipts {
	p.n.t.Helper()
	l, err := audit.OpenLog(p.n.t.TempDir(), audit.LogConfig{ContractKey: p.key.Public()})
	if err != nil {
		p.n.t.Fatal(err)
	}
	p.n.t.Cleanup(func() { l.Close() })
	r := &receipts{log: l, statement: p.issuer.Current, nodeKey: p.issuer.Key(), simulated: true}
	if r.service, err = audit.NewService(audit.ServiceConfig{
		Log: l, Sign: p.issuer.Sign, Block: p.chain.block, Promise: time.Minute, Logger: p.n.log,
		Statement: func(ctx context.Context) ([32]byte, error) {
			own, err := p.issuer.Current(ctx)
			if err != nil {
				return [32]byte{}, err
			}
			r.named(own)
			return own.Digest, nil
		},
	}); err != nil {
		p.n.t.Fatal(err)
	}
	return r
}

// start gives a proxy's configuration its log, and runs what belongs to it.
func (p *loggingProxy) start(cfg *proxy.Config, b *book) {
	t := p.n.t
	t.Helper()
	var err error
	if p.anchor, err = audit.AnchorAddress(audit.LogConfig{ContractKey: p.key.Public()}); err != nil {
		t.Fatal(err)
	}
	p.book, p.receipts = b, p.open()
	p.shown = p.receipts
	contract, err := bindings.ProxyAddress(p.n.snap, p.key.Public(), testProxyOwner)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Receipts, cfg.Log, cfg.Sign = p, p, p.issuer.Sign
	p.n.run(func(ctx context.Context) error {
		return p.receipts.service.Follow(ctx, contract, b.l,
			func(o cocoon.Address) (cocoon.Address, error) {
				return bindings.ClientAddress(p.n.snap, o, contract, p.key.Public())
			},
			func(o cocoon.Address) (cocoon.Address, error) {
				return bindings.WorkerAddress(p.n.snap, o, contract, p.key.Public())
			})
	})
}

// anchors begins to anchor the log that is shown.
func (p *loggingProxy) anchors() {
	p.stop = p.n.run(func(ctx context.Context) error {
		return audit.RunAnchor(ctx, audit.AnchorConfig{
			Log: p.shown.log, Chain: p.chain, Wallet: p, Signer: keySigner{p.key}, Block: p.chain.block,
			Every: 5 * time.Millisecond, Promise: time.Minute, Logger: p.n.log,
		})
	})
}

// Address and Send are the wallet that anchors.
func (p *loggingProxy) Address() cocoon.Address { return cocoon.Address{Hash: [32]byte{77}} }

func (p *loggingProxy) Send(_ context.Context, m []wallet.Message) (wallet.Sent, error) {
	s, err := bindings.ParseAnchor(m[0].Body, p.key.Public())
	if err == nil {
		s.Contract = m[0].To
		p.chain.take(s, p.key.Public())
	}
	return wallet.Sent{}, err
}

// proxy.Receipts and proxy.Log, as the honest ones are but for the lies.

func (p *loggingProxy) Note(c proxy.ChargeNote) (string, error) { return p.receipts.Note(c) }

func (p *loggingProxy) Part(ctx context.Context, id cocoon.RequestID) ([]byte, error) {
	return p.receipts.Part(ctx, id)
}

func (p *loggingProxy) LastSet() (uint64, [32]byte) { return p.shown.LastSet() }

func (p *loggingProxy) LogSet(ctx context.Context, signed []byte) error {
	if p.hideSets {
		return nil
	}
	return p.shown.LogSet(ctx, signed)
}

func (p *loggingProxy) Statement(digest [32]byte) []byte { return p.receipts.Statement(digest) }

func (p *loggingProxy) Page(party cocoon.Address, page string) ([]byte, error) {
	v, err := p.shown.page(party, page)
	if lie := p.lie.Load(); err == nil && lie != nil {
		if v = (*lie)(party, page, v); v == nil {
			err = errors.New("not today")
		}
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// lies makes pages of a name lies.
func (p *loggingProxy) lies(name string, f func(party cocoon.Address, v any) any) {
	lie := func(party cocoon.Address, page string, v any) any {
		if strings.HasPrefix(page, name+"?") {
			return f(party, v)
		}
		return v
	}
	p.lie.Store(&lie)
}

// logNet is a network of two real proxies, a real client that watches their
// logs, and a worker that does.
type logNet struct {
	*testNet
	chain           *anchorsOnly
	honest, lying   *loggingProxy
	honestProxy     *proxy.Proxy
	watch, ofWorker *logWatch
	worker          *testWorker
	suspended       *suspensions // the worker's
}

// startLogNet starts it; prepare makes the second proxy lie from the start.
func startLogNet(t *testing.T, prepare func(lying *loggingProxy)) *logNet {
	t.Helper()
	x := &logNet{chain: &anchorsOnly{time: time.Unix(1_800_000_000, 0), seqno: 1, stored: map[cocoon.Address]bindings.AnchorStorage{}}}
	store, err := audit.OpenStore(t.TempDir(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	x.watch = &logWatch{chain: x.chain, log: quiet()}
	if err := newLogWatch(t.TempDir(), x.watch, store); err != nil {
		t.Fatal(err)
	}
	x.testNet = startNet(t, func(n *testNet) {
		x.testNet = n
		x.lying = &loggingProxy{n: n, chain: x.chain, key: n.key}
		n.sealed = &sealedNet{
			mode: api.SealRequire, receipts: x.lying,
			store: &receiptStore{Store: store, simulated: true, owes: x.watch.owes},
			changeProxy: func(cfg *proxy.Config) {
				x.lying.issuer = n.sealed.issuer
				x.lying.start(cfg, n.book)
				if prepare != nil {
					prepare(x.lying)
				}
			},
			changeClient: func(cfg *client.Config) { cfg.Proxies = 2 },
		}
	})
	n := x.testNet
	x.watch.proxies, x.watch.page, x.watch.suspend = n.client.Watched, n.client.Log, n.client.Suspend
	x.startHonest()
	var w *worker.Worker
	if x.suspended, err = openSuspensions(t.TempDir(), [32]byte{1}); err != nil {
		t.Fatal(err)
	}
	x.worker = n.startWorker(1, &enginetest.StandIn{}, func(c *worker.Config) { c.Proxies, c.MayUse = 2, x.suspended.Check })
	w = x.worker.role
	x.ofWorker = &logWatch{worker: true, chain: x.chain, log: quiet(), proxies: w.Watched, page: w.Log, suspend: suspendFor(w, x.suspended, quiet())}
	if err := newLogWatch(t.TempDir(), x.ofWorker, nil); err != nil {
		t.Fatal(err)
	}
	n.eventually("both connections of both", func() bool {
		return len(n.client.Stats().Connections) == 2 && len(n.proxy.Stats().Workers) == 1 && len(x.honestProxy.Stats().Workers) == 1
	})
	return x
}

// startHonest starts the other proxy and lists it.
func (x *logNet) startHonest() {
	n := x.testNet
	n.t.Helper()
	x.honest = &loggingProxy{n: n, chain: x.chain, key: wallet.NewKey()}
	x.honest.issuer = n.sealed.issue(n, statement.IssuerConfig{Role: cocoon.RoleProxy, ContractKey: x.honest.key, Facts: func() (statement.Facts, error) {
		contract, err := bindings.ProxyAddress(n.snap, x.honest.key.Public(), testProxyOwner)
		return statement.Facts{Contract: contract, ContractKey: x.honest.key.Public(), Owner: testProxyOwner}, err
	}}, simProxyImage)
	b, err := openLedger(context.Background(), n.t.TempDir(), cocoon.Address{Hash: [32]byte{8}}, n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = b.close() })
	cfg := proxy.Config{
		Signer: keySigner{x.honest.key}, PublicKey: x.honest.key.Public(), Owner: testProxyOwner, IsTest: true,
		Source: n.holder, Ledger: b, Contracts: n.contracts, Wait: 5 * time.Second, Drain: time.Second, Logger: n.log,
	}
	for peer, to := range map[cocoon.Role]*tee.Listener{cocoon.RoleWorker: &cfg.Workers, cocoon.RoleClient: &cfg.Clients} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			n.t.Fatal(err)
		}
		l, err := ratls.Listen(ln, n.sealed.session(n, n.tls(simProxyImage, peer), x.honest.issuer))
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { l.Close() })
		*to = l
	}
	x.honest.start(&cfg, b)
	x.honest.anchors()
	if x.honestProxy, err = proxy.New(cfg); err != nil {
		n.t.Fatal(err)
	}
	n.run(func(ctx context.Context) error { return group(ctx, x.honestProxy.Run, b.commit) })
	two := *n.snap
	two.Version++
	two.Proxies = append(append([]registry.Proxy(nil), n.snap.Proxies...), registry.Proxy{Seqno: 2, ForWorkers: cfg.Workers.Addr().String(), ForClients: cfg.Clients.Addr().String()})
	if err := n.holder.Publish(&two); err != nil {
		n.t.Fatal(err)
	}
}

// served asks until each of the two proxies has served.
func (x *logNet) served() {
	x.t.Helper()
	lying, honest := x.proxy.Stats().Success, x.honestProxy.Stats().Success
	x.eventually("answers of both proxies", func() bool {
		if r := x.ask(x.t.Context(), true, 5, 0); r.err != "" || !r.done {
			x.t.Fatalf("%+v", r)
		}
		return x.proxy.Stats().Success > lying && x.honestProxy.Stats().Success > honest
	})
}

// anchored waits until a proxy's log of now is on chain, with all that the proxy
// has charged until then.
func (x *logNet) anchored(p *loggingProxy) {
	x.t.Helper()
	all, _ := p.book.Totals()
	x.eventually("anchor", func() bool {
		st := p.shown.log.State()
		if st.Epoch.Anchored == 0 || st.Epoch.Size != st.Size {
			return false
		}
		if p.shown != p.receipts {
			return true // its balances are not of what it charged
		}
		t, err := p.shown.log.Totals(st.Epoch.Number)
		return err == nil && len(t.Clients) == 1 && t.Clients[0].Sum.Sum >= uint64(all.Used)
	})
}

// TestLyingLog: real proxies whose logs lie, in live sessions: the client finds
// out, stops using them for a reason that it tells, and its callers are served
// by the honest one.
func TestLyingLog(t *testing.T) {
	hour := receipt.MaxPromise + time.Second
	for name, c := range map[string]struct {
		prepare func(p *loggingProxy) // from the start
		lie     func(x *logNet)       // once each has served and was looked at
		again   func(x *logNet)       // before each further look
		want    error
	}{
		"a forked log": {nil, func(x *logNet) {
			// Another history of as many leaves takes the place of the first.
			x.anchored(x.lying)
			x.lying.stop()
			was := x.lying.shown.log.State()
			other := x.lying.open()
			for i := range was.Size + 2 {
				if err := other.log.AppendSet([32]byte{byte(i), 9}, []byte("another history")); err != nil {
					t.Fatal(err)
				}
			}
			e, err := other.log.Prepare(x.chain.time.Add(time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			x.chain.take(bindings.AnchorStep{Contract: x.lying.anchor, Epoch: was.Epoch.Number + 1, Size: e.Size, PreviousLog: was.Epoch.Log, Roots: bindings.AnchorRoots{Log: e.Log, Clients: e.Clients, Workers: e.Workers}}, x.lying.key.Public())
			x.lying.shown = other
		}, nil, ErrForked},
		"receipts left out": {func(p *loggingProxy) { p.shown = p.open() }, nil,
			func(x *logNet) { x.chain.pass(hour) }, ErrLeftOut},
		"sets for this client alone": {func(p *loggingProxy) { p.hideSets = true }, nil,
			func(x *logNet) { x.chain.pass(time.Second); x.served(); x.anchored(x.lying) }, ErrLeftOut},
		"another balance": {nil, func(x *logNet) {
			x.lying.lies("balance", func(_ cocoon.Address, v any) any { b := v.(receipt.BalanceProof); b.Total--; return b })
		}, func(x *logNet) { x.served(); x.anchored(x.lying) }, ErrBalance},
		"growth never shown": {nil, func(x *logNet) {
			x.lying.lies("consistency", func(cocoon.Address, any) any { return nil })
			x.served()
			x.anchored(x.lying)
			for range patientFor {
				x.watch.round(t.Context())
			}
			if f := x.watch.Faults(); len(f) != 1 || !strings.Contains(f[0].Fault, ErrHidden.Error()) || len(x.client.Stats().Suspended) != 0 {
				t.Errorf("a fault at first: %v, %v", f, x.client.Stats().Suspended)
			}
		}, func(x *logNet) { x.chain.pass(hour) }, ErrLeftOut},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := startLogNet(t, c.prepare)
			x.lying.anchors()
			x.served()
			x.anchored(x.honest)
			x.anchored(x.lying)
			x.watch.round(t.Context())
			if s := x.client.Stats().Suspended; len(s) != 0 {
				t.Fatalf("suspended before it lied: %+v", s)
			}
			if c.lie != nil {
				c.lie(x)
			}
			x.eventually("suspension", func() bool {
				if c.again != nil {
					c.again(x)
				}
				x.watch.round(t.Context())
				return len(x.client.Stats().Suspended) > 0
			})
			for where, all := range map[string][]client.Suspension{"status": x.client.Stats().Suspended, "workers": x.client.Workers(t.Context(), true).Suspended} {
				if len(all) != 1 || all[0].Endpoint != x.clientsLn || !strings.Contains(all[0].Fault, c.want.Error()) || all[0].Remedy == "" {
					t.Errorf("%s: %+v, want %v", where, all, c.want)
				}
			}
			// Callers notice nothing: the honest proxy serves them.
			lying, honest := x.proxy.Stats().Queries, x.honestProxy.Stats().Queries
			for range 4 {
				if r := x.ask(t.Context(), true, 5, 0); r.err != "" || !r.done {
					t.Errorf("%+v", r)
				}
			}
			if got := x.honestProxy.Stats().Queries - honest; got != 4 || x.proxy.Stats().Queries != lying {
				t.Errorf("the honest proxy got %d of 4 requests, the lying one %d", got, x.proxy.Stats().Queries-lying)
			}
			for _, w := range x.client.Workers(t.Context(), true).Workers {
				if w.Proxy == x.clientsLn {
					t.Errorf("a worker of the suspended proxy is offered: %+v", w)
				}
			}
		})
	}
}

// TestHonestLogs: two honest logs are left in peace by client and worker, which
// both see their own balances; an anchor that never comes is a fault that both
// report, and no proxy is left for it.
func TestHonestLogs(t *testing.T) {
	t.Parallel()
	x := startLogNet(t, nil)
	x.lying.anchors()
	x.served()
	for range 4 {
		x.chain.pass(10 * time.Second)
		x.served()
		x.anchored(x.honest)
		x.anchored(x.lying)
		x.watch.round(t.Context())
		x.ofWorker.round(t.Context())
	}
	for who, w := range map[string]*logWatch{"client": x.watch, "worker": x.ofWorker} {
		seen := w.Seen()
		if len(seen) != 2 || seen[0].Tokens == 0 || seen[1].Tokens == 0 || len(w.Faults()) != 0 {
			t.Errorf("%s: %+v, %v", who, seen, w.Faults())
		}
	}
	x.lying.stop()
	x.served()
	x.anchored(x.honest)
	x.eventually("what the worker hears of it", func() bool {
		for _, p := range x.worker.role.Watched() {
			if p.ContractKey == x.lying.key.Public() {
				b, err := x.lying.shown.log.Balance(x.chain.epoch(x.lying.anchor), p.Party)
				return err == nil && p.Counter > int64(b.Total)
			}
		}
		return false
	})
	x.ofWorker.round(t.Context())
	x.chain.pass(2 * receipt.MaxPromise)
	x.watch.round(t.Context())
	x.ofWorker.round(t.Context())
	for who, w := range map[string]*logWatch{"client": x.watch, "worker": x.ofWorker} {
		if f := w.Faults(); len(f) != 1 || f[0].ContractKey != receipt.Hash(x.lying.key.Public()).String() || !strings.Contains(f[0].Fault, ErrLate.Error()) {
			t.Errorf("%s: %v", who, f)
		}
	}
	if len(x.client.Stats().Suspended)+len(x.suspended.List()) != 0 {
		t.Errorf("suspended: %+v, %+v", x.client.Stats().Suspended, x.suspended.List())
	}
	x.served()
}

// TestLyingToWorker: a worker whose anchored balance is not what the proxy shows
// it serves that proxy no more, and the other one goes on; with no honest proxy
// left, requests fail and say so.
func TestLyingToWorker(t *testing.T) {
	t.Parallel()
	x := startLogNet(t, nil)
	x.lying.anchors()
	x.served()
	x.anchored(x.lying)
	x.lying.lies("balance", func(party cocoon.Address, v any) any {
		b := v.(receipt.BalanceProof)
		if party == x.client.Watched()[0].Party || party == x.client.Watched()[1].Party {
			return b
		}
		b.Total--
		return b
	})
	x.eventually("suspension", func() bool {
		x.served()
		x.anchored(x.lying)
		x.ofWorker.round(t.Context())
		return len(x.suspended.List()) > 0
	})
	if s := x.suspended.List(); len(s) != 1 || s[0].Endpoint != x.workersLn || !strings.Contains(s[0].Fault, ErrBalance.Error()) || s[0].Remedy == "" {
		t.Errorf("%+v", s)
	}
	x.eventually("end of the connection", func() bool { return len(x.proxy.Stats().Workers) == 0 })
	for range 4 {
		if r := x.ask(t.Context(), true, 5, 0); r.err != "" || !r.done {
			t.Errorf("%+v", r)
		}
	}
	if len(x.honestProxy.Stats().Workers) != 1 {
		t.Error("the honest proxy lost its worker")
	}
	x.client.Suspend(x.honest.key.Public(), ErrForked)
	x.client.Suspend(x.lying.key.Public(), ErrForked)
	if r := x.ask(t.Context(), false, 5, 0); r.done || r.status != 503 || !strings.Contains(r.err, "is suspended") {
		t.Errorf("without a proxy: %+v", r)
	}
}
