//go:build !tee

package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/role/worker"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

var testClientOwner = cocoon.Address{Hash: [32]byte{3}}

// testPatience is how long a counter may stay unexplained.
const testPatience = 300 * time.Millisecond

// testNet is a whole network in one process: real roles over RA-TLS on
// loopback with simulated evidence, a stand-in for the engine.
type testNet struct {
	timeout float64 // seconds, of calls; 0 = the default
	t       *testing.T
	log     *slog.Logger
	vendor  *simulated.Vendor
	model   cocoon.ModelName
	holder  *registry.Holder
	snap    *registry.Snapshot

	key                  wallet.Key
	proxy                *proxy.Proxy
	book                 *book
	stopProxy            func()
	workersLn, clientsLn string

	client    *client.Client
	clientDir string
	gateway   *httptest.Server
	level0    bool
	reference bool            // reference workers may serve
	stopRole  func()          // the client's, and its book
	tap       *wiretap        // hears what the proxy hears and says
	ledgerDir string          // of the proxy; "" = a folder of its own
	mode      api.Seal        // of the client where connections have no sessions; "" = off
	sealed    *sealedNet      // nil: connections have no sessions, and nothing is sealed
	contracts proxy.Contracts // of the clients; nil = everybody is rich
}

func startNet(t *testing.T, opts ...func(*testNet)) *testNet {
	t.Helper()
	n := &testNet{t: t, model: "stand-in@1:0", log: quiet(), key: wallet.NewKey()}
	for _, o := range opts {
		o(n)
	}
	var err error
	if n.vendor, err = simulated.New(bytes.Repeat([]byte{7}, 32)); err != nil {
		t.Fatal(err)
	}
	n.workersLn, n.clientsLn = freeAddr(t), freeAddr(t)
	root := cocoon.Address{Hash: [32]byte{1}}
	file := fmt.Sprintf(`{"registered_proxies":[{"seqno":1,"address":"%s %s"}],"model_types":[%q],"price_per_token":20,"worker_fee_per_token":19,"version":1,"params_version":1,"proxy_sc_code":"","worker_sc_code":"","client_sc_code":"","root_owner_address":%q}`,
		n.workersLn, n.clientsLn, n.model, root.String())
	if n.snap, err = registry.ParseFile([]byte(file), root, time.Now()); err != nil {
		t.Fatal(err)
	}
	n.snap.ModelHashes = [][32]byte{sha256.Sum256([]byte(n.model))}
	n.snap.ProxyImages = []attest.ImageHash{simulated.Image(simProxyImage).Hash()}
	n.snap.WorkerImages = []attest.ImageHash{simulated.Image(simWorkImage).Hash()}
	n.holder = registry.NewHolder(registry.HolderConfig{})
	if err := n.holder.Publish(n.snap); err != nil {
		t.Fatal(err)
	}
	n.startProxy()
	n.startClient()
	return n
}

// quiet is a logger that speaks only when a person looks for a fault.
func quiet() *slog.Logger {
	if os.Getenv("COCOON_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func (n *testNet) tls(image string, peer cocoon.Role) ratls.Config {
	n.t.Helper()
	id := ratls.IdentityConfig{}
	if image != "" {
		g, err := n.vendor.NewGuest(simulated.GuestConfig{Registers: simulated.Image(image)})
		if err != nil {
			n.t.Fatal(err)
		}
		id.Attester = g
	}
	cfg := ratls.Config{Identity: ratls.NewIdentity(id), Policy: n.vendor.Policy(attest.DeferredImages()), PeerRole: peer, GlobalID: devnet.DefaultGlobalID, Difficulty: -1, Level0: n.level0, Log: n.log}
	if peer == cocoon.RoleClient {
		cfg.Policy = attest.OpenPolicy()
	}
	return cfg
}

// run runs a part until the test ends or the returned function is called.
func (n *testNet) run(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = run(ctx)
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	n.t.Cleanup(stop)
	return stop
}

func (n *testNet) listen(addr string, peer cocoon.Role) tee.Listener {
	n.t.Helper()
	var ln net.Listener
	var err error
	for range 100 { // the port of a proxy that was just stopped
		if ln, err = net.Listen("tcp", addr); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		n.t.Fatal(err)
	}
	l, err := ratls.Listen(ln, n.sealed.session(n, n.tls(simProxyImage, peer), n.sealed.proxyIssuer(n)))
	if err != nil {
		n.t.Fatal(err)
	}
	if n.tap != nil {
		return tappedListener{l, n.tap}
	}
	return l
}

func (n *testNet) startProxy() {
	n.t.Helper()
	var err error
	if n.book == nil {
		if n.ledgerDir == "" {
			n.ledgerDir = n.t.TempDir()
		}
		if n.book, err = openLedger(context.Background(), n.ledgerDir, cocoon.Address{Hash: [32]byte{9}}, n.log); err != nil {
			n.t.Fatal(err)
		}
		book := n.book
		n.t.Cleanup(func() {
			if err := book.close(); err != nil {
				n.t.Error(err)
			}
		})
	}
	if n.contracts == nil {
		n.contracts = fakeContracts{}
	}
	workers, clients := n.listen(n.workersLn, cocoon.RoleWorker), n.listen(n.clientsLn, cocoon.RoleClient)
	cfg := proxy.Config{
		Signer: keySigner{n.key}, PublicKey: n.key.Public(), Owner: cocoon.Address{Hash: [32]byte{2}}, IsTest: true,
		Source: n.holder, Ledger: n.book, Contracts: n.contracts, Clients: clients, Workers: workers,
		Wait: 5 * time.Second, Drain: time.Second, Logger: n.log,
	}
	n.sealed.proxy(n, &cfg)
	n.proxy, err = proxy.New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	p := n.proxy
	n.stopProxy = n.run(func(ctx context.Context) error {
		defer workers.Close()
		defer clients.Close()
		return group(ctx, p.Run, n.book.commit)
	})
}

func (n *testNet) startClient() {
	n.t.Helper()
	dial, err := ratls.NewDialer(n.sealed.session(n, n.tls("", cocoon.RoleProxy), n.sealed.clientIssuer(n)))
	if err != nil {
		n.t.Fatal(err)
	}
	if n.clientDir == "" {
		n.clientDir = n.t.TempDir()
	}
	b, err := openViews(context.Background(), &Config{Runtime: Runtime{Dir: n.clientDir}}, n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	shut := sync.OnceFunc(func() { _ = b.close() })
	n.t.Cleanup(shut)
	suspended, err := openSuspensions(n.clientDir, [32]byte{1})
	if err != nil {
		n.t.Fatal(err)
	}
	cfg := client.Config{
		Owner: testClientOwner, IsTest: true, Source: n.holder, Dialer: dial, Book: b, Registrar: fakeRegistrar{}, Suspensions: suspended, Patience: testPatience, Seal: api.SealOff, Logger: n.log,
	}
	if n.mode != "" {
		cfg.Seal = n.mode
		cfg.VerifyBundle = func(context.Context, []byte) (*tee.Node, error) { return nil, errors.New("there is none") }
	}
	n.sealed.client(n, &cfg)
	n.client, err = client.New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	stop := n.run(n.client.Run)
	n.stopRole = func() {
		stop()
		shut()
	}
	gw, err := api.New(api.Config{Backend: n.client, Seal: cfg.Seal, Reference: n.reference, Logger: n.log})
	if err != nil {
		n.t.Fatal(err)
	}
	n.gateway = httptest.NewServer(gw)
	n.t.Cleanup(n.gateway.Close)
}

// testWorker is a worker with its stand-in engine.
type testWorker struct {
	engine *enginetest.StandIn
	role   *worker.Worker
	stop   func() // drains
	kill   func() // cuts the worker's connections as kill -9 does
}

func (n *testNet) startWorker(owner byte, e *enginetest.StandIn, change ...func(*worker.Config)) *testWorker {
	n.t.Helper()
	e.Model = n.model.Base()
	srv := httptest.NewServer(e)
	n.t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	eng, err := engine.New(engine.Config{BaseURL: srv.URL, Caps: engine.Caps{ContinuousUsage: true}})
	if err != nil {
		n.t.Fatal(err)
	}
	owned := cocoon.Address{Hash: [32]byte{4, owner}}
	issuer, sealer := n.sealed.workerIssuer(n, owned)
	inner, err := ratls.NewDialer(n.sealed.session(n, n.tls(simWorkImage, cocoon.RoleProxy), issuer))
	if err != nil {
		n.t.Fatal(err)
	}
	dial := &cuttable{Dialer: inner}
	b, err := openViews(context.Background(), &Config{Runtime: Runtime{Dir: n.t.TempDir()}}, n.log)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = b.close() })
	cfg := worker.Config{
		Owner: owned, Model: n.model, Coefficient: 1000, IsTest: true,
		Source: n.holder, Dialer: dial, Engine: eng, Book: b, Drain: time.Second, Logger: n.log,
	}
	if sealer != nil {
		cfg.Sealer, cfg.Sign = sealer, issuer.Sign
	}
	for _, c := range change {
		c(&cfg)
	}
	w, err := worker.New(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	return &testWorker{engine: e, role: w, stop: n.run(w.Run), kill: dial.cut}
}

// cuttable is a dialer whose connections can be cut.
type cuttable struct {
	tee.Dialer
	mu    sync.Mutex
	conns []*tee.Conn
}

func (d *cuttable) Dial(ctx context.Context, addr string) (*tee.Conn, error) {
	c, err := d.Dialer.Dial(ctx, addr)
	if err == nil {
		d.mu.Lock()
		d.conns = append(d.conns, c)
		d.mu.Unlock()
	}
	return c, err
}

func (d *cuttable) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		c.Close()
	}
	d.conns = nil
}

func (n *testNet) used() int64 {
	all, _ := n.book.Totals()
	return all.Used
}

func (n *testNet) committed() int64 {
	all, _ := n.book.Totals()
	return all.Committed
}

// waitWorkers waits until the proxy has n workers.
func (n *testNet) waitWorkers(count int) {
	n.t.Helper()
	n.eventually(fmt.Sprintf("%d workers", count), func() bool {
		ready := 0
		for _, w := range n.proxy.Stats().Workers {
			if w.Enabled {
				ready++
			}
		}
		return ready == count
	})
	n.eventually("a client", n.client.Ready)
}

func (n *testNet) eventually(what string, ok func() bool) {
	n.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.t.Fatalf("no %s within 30 s", what)
		}
	}
}

type reply struct {
	status int
	text   string
	usage  openai.Usage
	cost   int64
	done   bool // the answer was complete
	err    string
	header http.Header
}

// ask sends one chat completion. A reader that stops after `after` events
// leaves in the middle.
func (n *testNet) ask(ctx context.Context, stream bool, maxTokens int, leaveAfter int) reply {
	body := fmt.Sprintf(`{"model":%q,"stream":%v,"max_tokens":%d,"messages":[{"role":"user","content":"count for me"}]}`, n.model.Base(), stream, maxTokens)
	if stream {
		body = strings.Replace(body, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
	}
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, n.gateway.URL+"/v1/chat/completions", strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	if n.timeout > 0 {
		req.Header.Set("X-Cocoon-Timeout", fmt.Sprint(n.timeout))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{err: err.Error()}
	}
	defer resp.Body.Close()
	r := reply{status: resp.StatusCode, header: resp.Header}
	readUsage := func(raw json.RawMessage) {
		if len(raw) == 0 || string(raw) == "null" {
			return
		}
		_ = r.usage.UnmarshalJSON(raw)
		var c struct {
			Cost int64 `json:"cost_nano"`
		}
		_ = json.Unmarshal(raw, &c)
		r.cost = c.Cost
	}
	if !stream || resp.StatusCode != 200 {
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			r.err = err.Error()
			return r
		}
		var v struct {
			Choices []struct {
				Message struct {
					Content string `json:"content"`
				} `json:"message"`
			} `json:"choices"`
			Usage json.RawMessage `json:"usage"`
			Error *struct{ Message string }
		}
		if err := json.Unmarshal(b, &v); err != nil {
			r.err = "not JSON: " + string(b)
			return r
		}
		if v.Error != nil {
			r.err = v.Error.Message
			return r
		}
		r.text, r.done = v.Choices[0].Message.Content, true
		readUsage(v.Usage)
		return r
	}
	events := openai.NewEventReader(resp.Body, 1<<20)
	for i := 0; ; i++ {
		if leaveAfter > 0 && i == leaveAfter {
			return r
		}
		ev, err := events.Next()
		if errors.Is(err, io.EOF) {
			return r
		}
		if err != nil {
			r.err = err.Error()
			return r
		}
		if ev.IsDone() {
			r.done = true
			continue
		}
		var v struct {
			Choices []struct {
				Delta struct {
					Content string `json:"content"`
				} `json:"delta"`
			} `json:"choices"`
			Usage json.RawMessage `json:"usage"`
			Error *struct{ Message string }
		}
		if err := json.Unmarshal(ev.Data, &v); err != nil {
			r.err = "bad event " + string(ev.Data)
			return r
		}
		if v.Error != nil {
			r.err = v.Error.Message
		}
		for _, c := range v.Choices {
			r.text += c.Delta.Content
		}
		readUsage(v.Usage)
	}
}

// words is what a stand-in answers with n tokens.
func words(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "w%d", i)
	}
	return b.String()
}

func TestChatCrossesTheNetwork(t *testing.T) {
	for _, level0 := range []bool{false, true} {
		t.Run(fmt.Sprintf("level0=%v", level0), func(t *testing.T) {
			n := startNet(t, func(n *testNet) { n.level0 = level0 })
			w := n.startWorker(1, &enginetest.StandIn{})
			n.waitWorkers(1)
			for _, stream := range []bool{false, true} {
				r := n.ask(t.Context(), stream, 40, 0)
				if r.err != "" || !r.done || r.text != words(40) {
					t.Fatalf("stream=%v: %+v", stream, r)
				}
				if r.usage.CompletionTokens != 40 || r.usage.PromptTokens == 0 {
					t.Errorf("stream=%v: usage %+v", stream, r.usage)
				}
				// All multipliers and the coefficient are 1 here.
				if want := 20 * (r.usage.CompletionTokens + r.usage.PromptTokens); r.cost != want {
					t.Errorf("stream=%v: cost %d nano, want %d", stream, r.cost, want)
				}
				if r.header.Get("X-Cocoon-Simulated") != "true" {
					t.Error("the answer does not say that the network is simulated")
				}
			}
			made := w.engine.CompletionTokens.Load() + w.engine.PromptTokens.Load()
			n.eventually("charge", func() bool { return n.used() == made })
			n.eventually("commit", func() bool { return n.committed() == made })
		})
	}
}

// TestCancelStopsTheEngine: a caller who leaves stops the engine's work and
// pays at most what was made.
func TestCancelStopsTheEngine(t *testing.T) {
	n := startNet(t)
	w := n.startWorker(1, &enginetest.StandIn{Pace: 2 * time.Millisecond})
	n.waitWorkers(1)
	r := n.ask(t.Context(), true, 100000, 10)
	if r.err != "" || r.done {
		t.Fatalf("%+v", r)
	}
	n.eventually("stop of the engine", func() bool { return w.engine.Active.Load() == 0 })
	made := w.engine.CompletionTokens.Load() + w.engine.PromptTokens.Load()
	n.eventually("end of the request", func() bool { return w.role.Stats().Active == 0 && n.proxy.Stats().Cancelled == 1 })
	if used := n.used(); used == 0 || used > made {
		t.Errorf("charged %d tokens, the engine made %d", used, made)
	}
}

// TestBillingEqualsTheEngine: mixed requests with cancels are billed exactly
// what the engine made, never more where a stream was cut.
func TestBillingEqualsTheEngine(t *testing.T) {
	n := startNet(t)
	var engines []*enginetest.StandIn
	for i := range byte(3) {
		e := &enginetest.StandIn{Pace: 50 * time.Microsecond}
		engines = append(engines, e)
		n.startWorker(i, e, func(c *worker.Config) { c.MaxActive = 20 })
	}
	n.waitWorkers(3)
	total := 1000
	if testing.Short() {
		total = 200
	}
	var wg sync.WaitGroup
	var seen, cut atomic.Int64
	sem := make(chan struct{}, 48)
	for i := range total {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			leave := 0
			if i%5 == 0 {
				leave = 3 + i%7
			}
			tokens := 5 + i%40
			r := n.ask(t.Context(), i%2 == 0, tokens, leave)
			switch {
			case r.done:
				seen.Add(r.usage.CompletionTokens + r.usage.PromptTokens)
				if r.text != words(tokens) {
					t.Errorf("request %d: wrong text %q", i, r.text)
				}
			case leave > 0 && i%2 == 0:
				cut.Add(1)
			default:
				t.Errorf("request %d: %+v", i, r)
			}
		})
	}
	wg.Wait()
	var made int64
	n.eventually("quiet", func() bool {
		made = 0
		for _, e := range engines {
			if e.Active.Load() > 0 {
				return false
			}
			made += e.CompletionTokens.Load() + e.PromptTokens.Load()
		}
		st := n.client.Stats()
		return st.Running() == 0
	})
	n.eventually("settled books", func() bool {
		s := n.proxy.Stats()
		return s.Queries == s.Success+s.Failed+s.Cancelled
	})
	used := n.used()
	if used < seen.Load() || used > made {
		t.Errorf("charged %d tokens; callers saw %d, the engines made %d", used, seen.Load(), made)
	}
	if cut.Load() == 0 {
		t.Error("no request was cut: the test tests nothing")
	}
	t.Logf("%d requests, %d cut: charged %d, seen %d, made %d", total, cut.Load(), used, seen.Load(), made)
}

// TestWorkerDeath: requests that had not begun go to another worker; begun
// ones end with an error event and never with a false finish.
func TestWorkerDeath(t *testing.T) {
	n := startNet(t)
	var workers []*testWorker
	for i := range byte(3) {
		workers = append(workers, n.startWorker(i, &enginetest.StandIn{Pace: 200 * time.Microsecond}))
	}
	n.waitWorkers(3)
	ctx, stop := context.WithCancel(t.Context())
	var killer sync.WaitGroup
	killer.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			workers[i%3].kill()
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	var wg sync.WaitGroup
	var complete, broken atomic.Int64
	sem := make(chan struct{}, 24)
	for i := range 300 {
		sem <- struct{}{}
		wg.Go(func() {
			defer func() { <-sem }()
			r := n.ask(t.Context(), true, 30, 0)
			switch {
			case r.done && r.err == "" && r.text == words(30):
				complete.Add(1)
			case r.status == 200 && !r.done && r.err != "":
				broken.Add(1) // begun, and honest about its end
			default:
				t.Errorf("request %d: status %d, done %v, err %q, text %q", i, r.status, r.done, r.err, r.text)
			}
		})
	}
	wg.Wait()
	stop()
	killer.Wait()
	t.Logf("%d complete, %d ended with an error event", complete.Load(), broken.Load())
	if complete.Load() == 0 {
		t.Error("nothing was served")
	}
}
