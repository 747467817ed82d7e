//go:build !tee

package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/role/worker"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// rawConn is a connection to the proxy by whose side the test speaks.
func (n *testNet) rawConn(t *testing.T, addr, image string, h mux.Handler) *mux.Conn {
	t.Helper()
	d, err := ratls.NewDialer(n.tls(image, cocoon.RoleProxy))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := d.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	c := mux.New(nc, mux.Config{Side: mux.Dialer, Level: nc.Peer.Level, Handler: h})
	n.run(c.Run)
	<-c.Ready()
	return c
}

func clientConnect(owner byte) *schema.ClientConnectToProxy {
	return &schema.ClientConnectToProxy{Params: schema.ClientParams{
		Flags: 3, ClientOwnerAddress: cocoon.Address{Hash: [32]byte{owner}}.String(), IsTest: true, MinProtoVersion: 1, MaxProtoVersion: 4,
	}}
}

func (n *testNet) workerSteps() []schema.Object {
	return []schema.Object{
		&schema.WorkerConnectToProxy{Params: schema.WorkerParams{Flags: 3, WorkerOwnerAddress: cocoon.Address{Hash: [32]byte{5}}.String(), Model: string(n.model), Coefficient: 1000, IsTest: true, ProxyCnt: 1, MaxActiveRequests: 10, MinProtoVersion: 1, MaxProtoVersion: 2}},
		&schema.WorkerCompareBalanceWithProxy{},
		&schema.WorkerProxyHandshakeComplete{},
	}
}

// publish makes a changed copy of the registry the newest.
func (n *testNet) publish(t *testing.T, change func(*registry.Snapshot)) {
	t.Helper()
	s := *n.snap
	s.Version++
	change(&s)
	n.snap = &s
	if err := n.holder.Publish(&s); err != nil {
		t.Fatal(err)
	}
}

// TestStrangerGetsNothing: before a login a client gets a nonce of its own,
// so that no registration of the past lets it in, and no signature, so that it
// cannot make the proxy sign and remember one for every name it can think of.
func TestStrangerGetsNothing(t *testing.T) {
	n := startNet(t)
	seen := map[int64]bool{}
	for i := range 3 {
		c := n.rawConn(t, n.clientsLn, "", nil)
		r, err := mux.Call[*schema.ClientConnectedToProxy](t.Context(), c, clientConnect(byte(50+i%2)))
		if err != nil {
			t.Fatal(err)
		}
		auth, ok := r.Auth.(*schema.ClientProxyConnectionAuthShort)
		if !ok {
			t.Fatalf("authorization %T", r.Auth)
		}
		if auth.Nonce == 0 || seen[auth.Nonce] {
			t.Errorf("nonce %d is not fresh", auth.Nonce)
		}
		seen[auth.Nonce] = true
		if _, empty := r.SignedPayment.(*schema.ProxySignedPaymentEmpty); !empty {
			t.Errorf("a stranger was given a %T", r.SignedPayment)
		}
		if _, err := mux.Call[schema.Object](t.Context(), c, &schema.ClientAuthorizeWithProxyShort{Data: []byte("wrong")}); err == nil {
			t.Error("a wrong secret logs in")
		}
	}
}

// TestNoServiceUnderOtherParameters: counters of one contract are never
// signed for another one.
func TestNoServiceUnderOtherParameters(t *testing.T) {
	n := startNet(t)
	n.startWorker(1, &enginetest.StandIn{})
	n.waitWorkers(1)
	if r := n.ask(t.Context(), false, 10, 0); !r.done {
		t.Fatalf("%+v", r)
	}
	c := n.rawConn(t, n.clientsLn, "", nil)
	n.publish(t, func(s *registry.Snapshot) { s.Params.ParamsVersion++ })
	_, err := mux.Call[schema.Object](t.Context(), c, clientConnect(3))
	var werr *wire.Error
	if !errors.As(err, &werr) || werr.Code != wire.CodeNotReady {
		t.Errorf("a client connects under new parameters: %v", err)
	}
	w := n.rawConn(t, n.workersLn, simWorkImage, nil)
	_, err = mux.Call[schema.Object](t.Context(), w, n.workerSteps()[0])
	if !errors.As(err, &werr) || werr.Code != wire.CodeNotReady {
		t.Errorf("a worker connects under new parameters: %v", err)
	}
}

// TestListedUntilTheEnd: a worker whose image left the lists during its
// handshake gets no requests, nor one that left them later.
func TestListedUntilTheEnd(t *testing.T) {
	n := startNet(t)
	steps := n.workerSteps()
	c := n.rawConn(t, n.workersLn, simWorkImage, nil)
	for _, fn := range steps[:2] {
		if _, err := c.Query(t.Context(), schema.Marshal(fn)); err != nil {
			t.Fatal(err)
		}
	}
	images := n.snap.WorkerImages
	n.publish(t, func(s *registry.Snapshot) { s.WorkerImages = nil })
	if _, err := c.Query(t.Context(), schema.Marshal(steps[2])); err != nil {
		t.Fatal(err)
	}
	enabled := func() bool {
		st := n.proxy.Stats()
		return len(st.Workers) == 1 && st.Workers[0].Enabled
	}
	if enabled() {
		t.Fatal("a worker of an unlisted image is served requests")
	}
	n.publish(t, func(s *registry.Snapshot) { s.WorkerImages = images })
	n.eventually("listed worker", enabled)
	n.publish(t, func(s *registry.Snapshot) { s.WorkerImages = nil })
	n.eventually("worker without a place", func() bool { return !enabled() })
}

// TestRequestThatKillsWorkers: a request over which connections break is not
// tried at every worker there is.
func TestRequestThatKillsWorkers(t *testing.T) {
	n := startNet(t)
	const workers = 24
	var met atomic.Int64
	for range workers {
		n.connectLiar(t, func(c *mux.Conn, _ *schema.ProxyRunQueryEx) {
			met.Add(1)
			c.Close(errors.New("killed"))
		})
	}
	n.waitWorkers(workers)
	if r := n.ask(t.Context(), true, 10, 0); r.done || r.err == "" {
		t.Errorf("%+v", r)
	}
	if got := met.Load(); got < 2 || got > 16 {
		t.Errorf("the request met %d of %d workers", got, workers)
	}
}

// aheadLedger is a ledger in which counts wait for the disk.
type aheadLedger struct {
	proxy.Ledger
	waiting int64
}

func (l aheadLedger) Client(o cocoon.Address) channel.Counters {
	c := l.Ledger.Client(o)
	c.Used += l.waiting
	return c
}

func (l aheadLedger) Worker(o cocoon.Address) channel.Counters {
	c := l.Ledger.Worker(o)
	c.Used += l.waiting
	return c
}

// TestOnlyDurableCountsAreTold: a count that a crash could undo is not said to
// anybody, since who heard it would refuse the proxy that forgot it.
func TestOnlyDurableCountsAreTold(t *testing.T) {
	n := startNet(t)
	n.stopProxy()
	workers, clients := n.listen(freeAddr(t), cocoon.RoleWorker), n.listen(freeAddr(t), cocoon.RoleClient)
	p, err := proxy.New(proxy.Config{
		Signer: keySigner{n.key}, PublicKey: n.key.Public(), Owner: cocoon.Address{Hash: [32]byte{2}}, IsTest: true,
		Source: n.holder, Ledger: aheadLedger{n.book, 1000}, Contracts: fakeContracts{}, Clients: clients, Workers: workers, Drain: time.Second, Logger: n.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.run(func(ctx context.Context) error {
		defer workers.Close()
		defer clients.Close()
		return p.Run(ctx)
	})
	c := n.rawConn(t, clients.Addr().String(), "", nil)
	if _, err := mux.Call[schema.Object](t.Context(), c, clientConnect(3)); err != nil {
		t.Fatal(err)
	}
	ok, err := mux.Call[*schema.ClientAuthorizationWithProxySuccess](t.Context(), c, &schema.ClientAuthorizeWithProxyShort{})
	if err != nil {
		t.Fatal(err)
	}
	st, err := mux.Call[*schema.ClientPaymentStatus](t.Context(), c, &schema.ClientUpdatePaymentStatus{})
	if err != nil {
		t.Fatal(err)
	}
	w := n.rawConn(t, workers.Addr().String(), simWorkImage, nil)
	if _, err := mux.Call[schema.Object](t.Context(), w, n.workerSteps()[0]); err != nil {
		t.Fatal(err)
	}
	compared, err := mux.Call[*schema.WorkerCompareBalanceWithProxyResult](t.Context(), w, &schema.WorkerCompareBalanceWithProxy{})
	if err != nil {
		t.Fatal(err)
	}
	if got := [3]int64{ok.MaxTokens, st.MaxTokens, compared.MaxTokens}; got != [3]int64{} {
		t.Errorf("told counters %v, of which nothing is durable", got)
	}
}

// TestNotIdleWhileOwed: a request whose client left may still be charged, so
// its client's contract must not be closed meanwhile; and Run does not return
// before its last charge.
func TestNotIdleWhileOwed(t *testing.T) {
	n := startNet(t, func(n *testNet) { n.level0 = true })
	asked := make(chan func(), 1)
	n.connectLiar(t, func(c *mux.Conn, q *schema.ProxyRunQueryEx) {
		send := func(o schema.Object) { _ = c.SendObject(context.Background(), o) }
		send(&schema.ProxyQueryAnswerEx{RequestID: q.RequestID, Answer: role.EncodeResponse(200, nil, nil)})
		asked <- func() {
			send(&schema.ProxyQueryAnswerPartEx{RequestID: q.RequestID, Flags: 1, FinalInfo: &schema.ProxyQueryFinalInfo{Flags: 2, TokensUsed: schema.TokensUsed{TotalTokensUsed: 7}}})
		}
	})
	n.waitWorkers(1)
	id := [32]byte{1}
	c := n.rawConn(t, n.clientsLn, "", nil)
	for _, fn := range []schema.Object{clientConnect(77), &schema.ClientAuthorizeWithProxyShort{}} {
		if _, err := c.Query(t.Context(), schema.Marshal(fn)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.SendObject(t.Context(), &schema.ClientRunQueryEx{
		ModelName: n.model.Base(), Query: role.EncodeRequest("/v1/completions", "application/json", []byte("{}")), MaxCoefficient: 4000, MaxTokens: 10, Timeout: 60, RequestID: id, Flags: 1,
	}); err != nil {
		t.Fatal(err)
	}
	answer := <-asked
	c.Close(nil)
	owner := cocoon.Address{Hash: [32]byte{77}}
	n.eventually("end of the connection", func() bool {
		for _, s := range n.proxy.Stats().Clients {
			if s.Owner == owner.Friendly(false, false) {
				return false
			}
		}
		return true
	})
	if n.proxy.Idle(owner) {
		t.Error("idle while a request runs")
	}
	answer()
	n.eventually("idle", func() bool { return n.proxy.Idle(owner) })
	if used := n.book.Client(owner).Used; used != 7 {
		t.Errorf("charged %d tokens, want 7", used)
	}
}

// TestStreamThatStaysOpen: an answer is complete at its last event, whether or
// not the engine ends the stream.
func TestStreamThatStaysOpen(t *testing.T) {
	n := startNet(t)
	gone := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			fmt.Fprintf(w, `{"object":"list","data":[{"id":%q}]}`, n.model.Base())
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"content":"hello"}}]}`, "\n\n",
			`data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}`, "\n\ndata: [DONE]\n\n")
		w.(http.Flusher).Flush()
		select {
		case <-r.Context().Done():
		case <-gone:
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(gone) })
	eng, err := engine.New(engine.Config{BaseURL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	n.startWorker(1, &enginetest.StandIn{}, func(c *worker.Config) { c.Engine = eng })
	n.waitWorkers(1)
	r := n.ask(t.Context(), true, 10, 0)
	if !r.done || r.err != "" || r.text != "hello" {
		t.Errorf("%+v", r)
	}
	n.eventually("charge", func() bool { return n.used() == 4 })
}

// TestSlowReaderOfACompleteAnswer: an answer that the engine has ended reaches a
// caller who takes longer to read it than the engine may keep the stream open.
func TestSlowReaderOfACompleteAnswer(t *testing.T) {
	n := startNet(t)
	const events, size = 48, 16 << 10 // beyond all windows on the way
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			fmt.Fprintf(w, `{"object":"list","data":[{"id":%q}]}`, n.model.Base())
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for range events {
			fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", strings.Repeat("x", size))
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
	}))
	t.Cleanup(srv.Close)
	eng, err := engine.New(engine.Config{BaseURL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	n.startWorker(1, &enginetest.StandIn{}, func(c *worker.Config) { c.Engine = eng })
	n.waitWorkers(1)
	a, err := n.client.Do(t.Context(), &api.Call{
		Model: n.model.Base(), Path: "/v1/completions", ContentType: "application/json", MaxTokens: 1000,
		Body: fmt.Appendf(nil, `{"model":%q,"prompt":"x","stream":true,"max_tokens":1000}`, n.model.Base()),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	time.Sleep(2500 * time.Millisecond)
	b, err := io.ReadAll(a.Body)
	if err != nil || strings.Count(string(b), strings.Repeat("x", size)) != events || !strings.HasSuffix(string(b), "data: [DONE]\n\n") {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// TestEngineErrorInTheMiddle: it reaches the caller after what came before it,
// and nothing is charged.
func TestEngineErrorInTheMiddle(t *testing.T) {
	n := startNet(t)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			fmt.Fprintf(w, `{"object":"list","data":[{"id":%q}]}`, n.model.Base())
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, `data: {"choices":[{"index":0,"delta":{"content":"hello"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}`, "\n\n",
			`data: {"error":{"message":"out of memory","type":"server_error"}}`, "\n\ndata: [DONE]\n\n")
	}))
	t.Cleanup(srv.Close)
	eng, err := engine.New(engine.Config{BaseURL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	n.startWorker(1, &enginetest.StandIn{}, func(c *worker.Config) { c.Engine = eng })
	n.waitWorkers(1)
	r := n.ask(t.Context(), true, 10, 0)
	if r.text != "hello" || r.err == "" {
		t.Errorf("%+v", r)
	}
	n.eventually("end", func() bool { s := n.proxy.Stats(); return s.Queries == s.Failed })
	if used := n.used(); used != 0 {
		t.Errorf("charged %d tokens for an answer that failed", used)
	}
}

// TestAdmitOfMixedKinds: that peers without evidence are accepted takes
// nothing from the check of those that show some.
func TestAdmitOfMixedKinds(t *testing.T) {
	listed, other := attest.ImageHash{1}, attest.ImageHash{2}
	snap := &registry.Snapshot{ProxyImages: []attest.ImageHash{listed}}
	for _, c := range []struct {
		accept []string
		peer   tee.Peer
		ok     bool
	}{
		{[]string{"tdx"}, tee.Peer{Kind: attest.TDX, ImageHash: listed}, true},
		{[]string{"tdx"}, tee.Peer{Kind: attest.TDX, ImageHash: other}, false},
		{[]string{"tdx"}, tee.Peer{Kind: attest.None}, false},
		{[]string{"tdx", "none"}, tee.Peer{Kind: attest.TDX, ImageHash: listed}, true},
		{[]string{"tdx", "none"}, tee.Peer{Kind: attest.TDX, ImageHash: other}, false},
		{[]string{"tdx", "none"}, tee.Peer{Kind: attest.None}, true},
		{[]string{"none"}, tee.Peer{Kind: attest.None}, true},
	} {
		m := Measured{Accept: c.accept}
		if err := m.admit(role.AdmitProxy)(snap, c.peer); (err == nil) != c.ok {
			t.Errorf("accept %v, peer %s of image %s: %v", c.accept, c.peer.Kind, c.peer.ImageHash, err)
		}
	}
}
