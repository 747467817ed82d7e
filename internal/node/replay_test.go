//go:build !tee

package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/role/worker"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/router"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// The recordings are conversations between C++ roles (December and April).
// Here each recorded side talks to one of ours: what it once said is said
// again, with the ids of today put in.

const captures = "../wire/schema/testdata/captures"

// recording is one connection of a proxy, seen from the accepting side.
type recording struct {
	preamble []byte          // what the router wrote before the dialer's bytes
	dialer   []schema.Object // what the client or worker said, packets
	acceptor []schema.Object // what the proxy said
}

func load(t *testing.T, generation, peer string) recording {
	t.Helper()
	read := func(direction string) []byte {
		b, err := os.ReadFile(filepath.Join(captures, generation, "router-proxy-"+peer+"-1."+direction+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var r recording
	c2s := read("c2s")
	n := 4 + int(binary.LittleEndian.Uint32(c2s))
	r.preamble = c2s[:n]
	r.dialer, r.acceptor = packets(t, c2s[n:]), packets(t, read("s2c"))
	return r
}

// packets decodes a stream of packets; tcp.packet data is decoded too.
func packets(t *testing.T, b []byte) (out []schema.Object) {
	t.Helper()
	for len(b) > 0 {
		n := int(binary.LittleEndian.Uint32(b))
		o, err := schema.Decode(b[8 : 8+n])
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, o)
		b = b[8+n:]
	}
	return out
}

func decode(t *testing.T, b []byte) schema.Object {
	t.Helper()
	o, err := schema.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// messages returns the one-way messages among packets.
func messages(t *testing.T, ps []schema.Object) (out []schema.Object) {
	for _, p := range ps {
		if m, ok := p.(*schema.TcpPacket); ok {
			out = append(out, decode(t, m.Data))
		}
	}
	return out
}

// queries returns the functions asked among packets, in order.
func queries(t *testing.T, ps []schema.Object) (out []schema.Object) {
	for _, p := range ps {
		if q, ok := p.(*schema.TcpQuery); ok {
			out = append(out, decode(t, q.Data))
		}
	}
	return out
}

// answersByQuery maps a request's query bytes to the parts a recorded worker
// answered it with.
func answersByQuery(t *testing.T, r recording) map[string][]role.Part {
	byID := map[cocoon.RequestID]string{}
	for _, o := range messages(t, r.acceptor) {
		switch m := o.(type) {
		case *schema.ProxyRunQueryEx:
			byID[m.RequestID] = string(m.Query)
		case *schema.ProxyRunQuery:
			byID[m.RequestID] = string(m.Query)
		}
	}
	out := map[string][]role.Part{}
	for _, o := range messages(t, r.dialer) {
		if p, ok := role.FromWorker(o); ok {
			out[byID[p.ID]] = append(out[byID[p.ID]], p)
		}
	}
	return out
}

// replayNet is one of our proxies as C++ peers without evidence see it.
func replayProxy(t *testing.T) (workers, clients string) {
	t.Helper()
	root := cocoon.Address{Hash: [32]byte{1}}
	snap, err := registry.ParseFile([]byte(fmt.Sprintf(`{"price_per_token":2,"worker_fee_per_token":1,"version":3,"params_version":1,"proxy_sc_code":"","worker_sc_code":"","client_sc_code":"","root_owner_address":%q}`, root)), root, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	src := registry.NewStatic(snap)
	listen := func(peer cocoon.Role) (*router.Listener, string) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l, err := router.Listen(ln, router.Config{Policy: &attest.Policy{Kinds: []attest.Kind{attest.None}}, PeerRole: peer, GlobalID: devnet.DefaultGlobalID})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l, ln.Addr().String()
	}
	wl, workers := listen(cocoon.RoleWorker)
	cl, clients := listen(cocoon.RoleClient)
	n := &testNet{t: t, log: quiet()}
	b, err := openLedger(context.Background(), t.TempDir(), cocoon.Address{Hash: [32]byte{9}}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.close() })
	key := testProxyKey(t)
	p, err := proxy.New(proxy.Config{
		Signer: bindings.KeySigner(key), PublicKey: [32]byte(key.Public().(ed25519.PublicKey)), Owner: cocoon.Address{Hash: [32]byte{2}},
		IsTest: true, Source: src, Ledger: b, Contracts: fakeContracts{}, Clients: cl, Workers: wl,
		AdmitWorker: role.AdmitAny, AnyModel: true, Wait: 2 * time.Second, Drain: time.Second, Logger: n.log,
	})
	if err != nil {
		t.Fatal(err)
	}
	n.run(func(ctx context.Context) error { return group(ctx, p.Run, b.commit) })
	return workers, clients
}

// testProxyKey is the published test key of the recorded proxy (spec
// network-protocol 7.2).
func testProxyKey(t *testing.T) ed25519.PrivateKey {
	seed, err := base64.StdEncoding.DecodeString("ml+7xELuOQtfp9q9mSWtHiSWx5aSBV6p3xCfwPmHOwY=")
	if err != nil {
		t.Fatal(err)
	}
	return ed25519.NewKeyFromSeed(seed)
}

// player is a recorded peer on a live connection.
type player struct {
	*mux.Conn
	msgs chan schema.Object
	ask  func(schema.Object) schema.Object // answers our side's queries
}

func (p *player) Message(_ *mux.Conn, data []byte) {
	if o, err := schema.Decode(data); err == nil {
		p.msgs <- o
	}
}

func (p *player) Query(_ context.Context, _ *mux.Conn, data []byte) ([]byte, error) {
	o, err := schema.Decode(data)
	if err != nil || p.ask == nil {
		return nil, mux.ErrUnknownFunction
	}
	if a := p.ask(o); a != nil {
		return schema.Marshal(a), nil
	}
	return nil, mux.ErrUnknownFunction
}

func play(t *testing.T, nc net.Conn, side mux.Side, ask func(schema.Object) schema.Object) *player {
	t.Helper()
	p := &player{msgs: make(chan schema.Object, 4096), ask: ask}
	p.Conn = mux.New(nc, mux.Config{Side: side, Handler: p})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	select {
	case <-p.Ready():
	case <-time.After(20 * time.Second):
		t.Fatal("no transport handshake")
	}
	return p
}

// dialRecorded connects as the recorded dialer did, router's preamble first.
func dialRecorded(t *testing.T, addr string, r recording) *player {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(r.preamble); err != nil {
		t.Fatal(err)
	}
	return play(t, nc, mux.Dialer, nil)
}

func (p *player) next(t *testing.T) schema.Object {
	t.Helper()
	select {
	case o := <-p.msgs:
		return o
	case <-p.Done():
		t.Fatalf("connection ended: %v", p.Err())
	case <-time.After(20 * time.Second):
		t.Fatal("nothing more was said")
	}
	return nil
}

func (p *player) query(t *testing.T, fn schema.Object) schema.Object {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	b, err := p.Conn.Query(ctx, schema.Marshal(fn))
	if err != nil {
		t.Fatalf("%s: %v", fn.TLName(), err)
	}
	return decode(t, b)
}

// TestReplayedClientAndWorker: a recorded client and a recorded worker have
// their conversation with our proxy in the middle.
func TestReplayedClientAndWorker(t *testing.T) {
	for _, generation := range []string{"december", "april"} {
		t.Run(generation, func(t *testing.T) {
			workersAddr, clientsAddr := replayProxy(t)
			wr, cr := load(t, generation, "worker"), load(t, generation, "client")
			answers := answersByQuery(t, wr)

			w := dialRecorded(t, workersAddr, wr)
			version := int32(0)
			for _, q := range queries(t, wr.dialer) {
				switch a := w.query(t, q).(type) {
				case *schema.WorkerConnectedToProxy:
					version = a.Params.ProtoVersion
				}
				if _, last := q.(*schema.WorkerProxyHandshakeComplete); last {
					break
				}
			}
			for _, o := range messages(t, wr.dialer) {
				if e, ok := o.(*schema.WorkerEnabledDisabled); ok && e.Disabled == 0 {
					if err := w.SendObject(t.Context(), e); err != nil {
						t.Fatal(err)
					}
					break
				}
			}
			_ = w.SendObject(t.Context(), &schema.WorkerEnabledDisabled{})
			go func() {
				for o := range w.msgs {
					q, ok := o.(*schema.ProxyRunQueryEx)
					if !ok {
						continue
					}
					for _, part := range answers[string(q.Query)] {
						part.ID = q.RequestID
						if w.SendObject(context.Background(), role.ToProxy(version, &part)) != nil {
							return
						}
					}
				}
			}()

			c := dialRecorded(t, clientsAddr, cr)
			for _, q := range queries(t, cr.dialer)[:2] {
				c.query(t, q)
			}
			// What the recorded proxy answered, by request.
			recorded := map[cocoon.RequestID]*whole{}
			for _, o := range messages(t, cr.acceptor) {
				if p, ok := role.FromProxy(o); ok {
					collect(t, recorded, p)
				}
			}
			ran, same := 0, 0
			for _, o := range messages(t, cr.dialer) {
				q, ok := o.(*schema.ClientRunQueryEx)
				if !ok {
					continue
				}
				ran++
				if err := c.SendObject(t.Context(), q); err != nil {
					t.Fatal(err)
				}
				got := map[cocoon.RequestID]*whole{}
				for g := got[q.RequestID]; g == nil || !g.done; g = got[q.RequestID] {
					if p, ok := role.FromProxy(c.next(t)); ok {
						collect(t, got, p)
					}
				}
				g, want := got[q.RequestID], recorded[q.RequestID]
				if want == nil || q.PublicKey != [32]byte{} {
					continue // encrypted to a key manager that is not here: refused
				}
				if want.err != nil {
					// To a C++ client a failure is a complete HTTP answer.
					if g.status < 400 {
						t.Errorf("request %x: status %d where the recorded proxy said %v", q.RequestID[:4], g.status, want.err)
					}
					same++
					continue
				}
				if len(answers[string(q.Query)]) == 0 {
					continue
				}
				if g.status != want.status || !bytes.Equal(g.body, want.body) || g.tokens != want.tokens {
					t.Errorf("request %x: status %d, %d bytes, %d tokens; recorded %d, %d bytes, %d tokens", q.RequestID[:4], g.status, len(g.body), g.tokens, want.status, len(want.body), want.tokens)
				}
				same++
			}
			if same == 0 {
				t.Fatalf("%d requests ran, none could be compared", ran)
			}
			// After all of it both connections still work.
			if _, ok := c.query(t, &schema.ClientUpdatePaymentStatus{}).(*schema.ClientPaymentStatus); !ok {
				t.Error("no payment status for the client")
			}
			if _, ok := w.query(t, &schema.WorkerUpdatePaymentStatus{}).(*schema.WorkerPaymentStatus); !ok {
				t.Error("no payment status for the worker")
			}
			t.Logf("%d requests, %d equal to the recording", ran, same)
		})
	}
}

// whole is an answer put together.
type whole struct {
	status int
	body   []byte
	tokens int64
	err    error
	done   bool
}

func collect(t *testing.T, m map[cocoon.RequestID]*whole, p role.Part) {
	t.Helper()
	w := m[p.ID]
	if w == nil {
		w = &whole{}
		m[p.ID] = w
	}
	if p.Head != nil {
		status, _, body, err := role.DecodeResponse(p.Head)
		if err != nil {
			t.Fatal(err)
		}
		w.status, w.body = status, append(w.body, body...)
	}
	w.body = append(w.body, p.Body...)
	if p.Err != nil {
		w.err = p.Err
	}
	if p.Final != nil {
		w.tokens = p.Final.Tokens.Total
	}
	w.done = w.done || p.Last()
}

// acceptRecorded waits for our role to dial and answers its queries as the
// recorded proxy did, with names and payments of the test's root.
func acceptRecorded(t *testing.T, ln net.Listener, snap *registry.Snapshot, r recording, owner cocoon.Address) *player {
	t.Helper()
	nc, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(r.preamble); err != nil { // our side's router speaks
		t.Fatal(err)
	}
	key := testProxyKey(t)
	public := [32]byte(key.Public().(ed25519.PublicKey))
	proxyOwner := cocoon.Address{Hash: [32]byte{2}}
	must := func(a cocoon.Address, err error) cocoon.Address {
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	contract := must(bindings.ProxyAddress(snap, public, proxyOwner))
	clientSC := must(bindings.ClientAddress(snap, owner, contract, public))
	workerSC := must(bindings.WorkerAddress(snap, owner, contract, public))
	sign := func(kind bindings.PaymentKind, to cocoon.Address) schema.ProxySignedPaymentType {
		b, err := bindings.SignPayment(bindings.KeySigner(key), kind, to, 0, 7, proxyOwner)
		if err != nil {
			t.Error(err)
		}
		return &schema.ProxySignedPayment{Data: b}
	}
	params := func(p *schema.ProxyParams, version int32) {
		p.ProxyPublicKey, p.ProxyOwnerAddress, p.ProxyScAddress, p.ProtoVersion = public, proxyOwner.String(), contract.String(), version
	}
	var recorded []schema.Object
	for _, p := range r.acceptor {
		if a, ok := p.(*schema.TcpQueryAnswer); ok {
			recorded = append(recorded, decode(t, a.Data))
		}
	}
	find := func(want schema.Object) schema.Object {
		for _, o := range recorded {
			if o.TLID() == want.TLID() {
				return o
			}
		}
		return nil
	}
	return play(t, nc, mux.Acceptor, func(fn schema.Object) schema.Object {
		switch q := fn.(type) {
		case *schema.ClientConnectToProxy:
			a := find(&schema.ClientConnectedToProxy{}).(*schema.ClientConnectedToProxy)
			params(&a.Params, min(q.Params.MaxProtoVersion, a.Params.ProtoVersion))
			a.ClientScAddress = clientSC.String()
			a.SignedPayment = &schema.ProxySignedPaymentEmpty{}
			return a
		case *schema.ClientAuthorizeWithProxyShort:
			a := find(&schema.ClientAuthorizationWithProxySuccess{}).(*schema.ClientAuthorizationWithProxySuccess)
			a.SignedPayment, a.TokensCommittedToDb, a.MaxTokens = sign(bindings.ClientCharge, clientSC), 0, 0
			return a
		case *schema.WorkerConnectToProxy:
			a := find(&schema.WorkerConnectedToProxy{}).(*schema.WorkerConnectedToProxy)
			params(&a.Params, min(q.Params.MaxProtoVersion, a.Params.ProtoVersion))
			a.WorkerScAddress = workerSC.String()
			return a
		case *schema.WorkerCompareBalanceWithProxy:
			return &schema.WorkerCompareBalanceWithProxyResult{SignedPayment: sign(bindings.WorkerPayout, workerSC)}
		case *schema.WorkerProxyHandshakeComplete:
			return &schema.WorkerProxyHandshakeCompleted{}
		case *schema.ClientGetWorkerTypesV2:
			return find(&schema.ClientWorkerTypesV2{})
		case *schema.ClientUpdatePaymentStatus:
			return &schema.ClientPaymentStatus{SignedPayment: sign(bindings.ClientCharge, clientSC)}
		case *schema.WorkerUpdatePaymentStatus:
			return &schema.WorkerPaymentStatus{SignedPayment: sign(bindings.WorkerPayout, workerSC)}
		}
		return nil
	})
}

// behindRouter is the registry and dialer of a role whose router is played by
// the test.
func behindRouter(t *testing.T) (*registry.Snapshot, net.Listener, tee.Dialer) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	root := cocoon.Address{Hash: [32]byte{1}}
	snap, err := registry.ParseFile([]byte(fmt.Sprintf(`{"registered_proxies":[{"seqno":1,"address":%q}],"model_types":[],"price_per_token":2,"worker_fee_per_token":1,"version":3,"params_version":1,"proxy_sc_code":"","worker_sc_code":"","client_sc_code":"","root_owner_address":%q}`, ln.Addr(), root)), root, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	snap.ModelHashes = [][32]byte{sha256.Sum256([]byte("Qwen/Qwen3-8B@c:0"))}
	d, err := router.NewDialer(router.Config{Policy: &attest.Policy{Kinds: []attest.Kind{attest.None}}, PeerRole: cocoon.RoleProxy, GlobalID: devnet.DefaultGlobalID})
	if err != nil {
		t.Fatal(err)
	}
	return snap, ln, d
}

// TestReplayedProxyToWorker: our worker serves what a recorded proxy asks.
func TestReplayedProxyToWorker(t *testing.T) {
	for _, generation := range []string{"december", "april"} {
		t.Run(generation, func(t *testing.T) {
			r := load(t, generation, "worker")
			snap, ln, dial := behindRouter(t)
			standIn := &enginetest.StandIn{Model: "Qwen/Qwen3-8B", Tokens: 12}
			srv := httptest.NewServer(standIn)
			defer srv.Close()
			eng, err := engine.New(engine.Config{BaseURL: srv.URL})
			if err != nil {
				t.Fatal(err)
			}
			owner := cocoon.Address{Hash: [32]byte{4}}
			w, err := worker.New(worker.Config{
				Owner: owner, Model: "Qwen/Qwen3-8B@c:0", Coefficient: 1000, IsTest: true, Source: registry.NewStatic(snap), Dialer: dial,
				Engine: eng, Book: memoryViews(t), Admit: role.AdmitAny, Drain: time.Second,
			})
			if err != nil {
				t.Fatal(err)
			}
			(&testNet{t: t}).run(w.Run)
			p := acceptRecorded(t, ln, snap, r, owner)
			enabled := false
			for !enabled {
				if e, ok := p.next(t).(*schema.WorkerEnabledDisabled); ok {
					enabled = e.Disabled == 0
				}
			}
			ran, served := 0, 0
			for _, o := range messages(t, r.acceptor) {
				q, ok := o.(*schema.ProxyRunQueryEx)
				if !ok {
					continue
				}
				ran++
				q.SignedPayment = &schema.ProxySignedPaymentEmpty{}
				if err := p.SendObject(t.Context(), q); err != nil {
					t.Fatal(err)
				}
				got := map[cocoon.RequestID]*whole{}
				for g := got[q.RequestID]; g == nil || !g.done; g = got[q.RequestID] {
					if part, ok := role.FromWorker(p.next(t)); ok {
						collect(t, got, part)
					}
				}
				if g := got[q.RequestID]; g.err == nil {
					served++
					if g.status == 200 && g.tokens == 0 {
						t.Errorf("request %d: served without counting", ran)
					}
				}
			}
			if served == 0 {
				t.Fatalf("none of %d recorded requests was served", ran)
			}
			t.Logf("%d requests, %d served", ran, served)
		})
	}
}

// TestReplayedProxyToClient: our client reads every answer a recorded proxy
// gave, byte for byte.
func TestReplayedProxyToClient(t *testing.T) {
	for _, generation := range []string{"december", "april"} {
		t.Run(generation, func(t *testing.T) {
			r := load(t, generation, "client")
			snap, ln, dial := behindRouter(t)
			owner := cocoon.Address{Hash: [32]byte{3}}
			c, err := client.New(client.Config{
				Owner: owner, IsTest: true, Source: registry.NewStatic(snap), Dialer: dial, Book: memoryViews(t), Registrar: fakeRegistrar{}, Admit: role.AdmitAny, Seal: api.SealOff,
			})
			if err != nil {
				t.Fatal(err)
			}
			n := &testNet{t: t}
			n.run(c.Run)
			p := acceptRecorded(t, ln, snap, r, owner)
			n.eventually("client", c.Ready)
			if models, err := c.Models(t.Context()); err != nil || len(models) == 0 {
				t.Fatalf("models: %v, %v", models, err)
			}

			// The recorded answers, in the order of their requests.
			var order []cocoon.RequestID
			parts, want := map[cocoon.RequestID][]schema.Object{}, map[cocoon.RequestID]*whole{}
			for _, o := range messages(t, r.acceptor) {
				if part, ok := role.FromProxy(o); ok {
					if parts[part.ID] == nil {
						order = append(order, part.ID)
					}
					parts[part.ID] = append(parts[part.ID], o)
					collect(t, want, part)
				}
			}
			if len(order) == 0 {
				t.Fatal("the recording holds no answer")
			}
			// And what the proxy counted behind each, which must be explained by what
			// it told.
			counted := int64(0)
			for _, o := range messages(t, r.acceptor) {
				if m, ok := o.(*schema.ProxyClientRequestPayment); ok && parts[m.RequestID] != nil {
					m.SignedPayment = &schema.ProxySignedPaymentEmpty{}
					parts[m.RequestID] = append(parts[m.RequestID], m)
					counted = max(counted, m.MaxTokens)
				}
			}
			for i, id := range order {
				var wg sync.WaitGroup
				wg.Go(func() {
					for {
						q, ok := p.next(t).(*schema.ClientRunQueryEx)
						if !ok {
							continue
						}
						for _, o := range parts[id] {
							setID(o, q.RequestID)
							if err := p.SendObject(t.Context(), o); err != nil {
								t.Error(err)
							}
						}
						return
					}
				})
				a, err := c.Do(t.Context(), &api.Call{Path: "/v1/chat/completions", ContentType: "application/json", Model: "Qwen/Qwen3-8B", Body: []byte(`{}`), MaxTokens: 1 << 16})
				wg.Wait()
				w := want[id]
				if w.err != nil && w.status == 0 {
					if err == nil {
						t.Errorf("answer %d: no error, the recorded proxy said %v", i, w.err)
					}
					continue
				}
				if err != nil {
					t.Errorf("answer %d: %v", i, err)
					continue
				}
				b, err := io.ReadAll(a.Body)
				if (err != nil) != (w.err != nil) || a.Status != w.status || !bytes.Equal(b, w.body) {
					t.Errorf("answer %d: status %d, %d bytes, %v; recorded %d, %d bytes, %v", i, a.Status, len(b), err, w.status, len(w.body), w.err)
				}
				if err == nil && a.Final().TotalTokens != w.tokens {
					t.Errorf("answer %d: %d tokens, recorded %d", i, a.Final().TotalTokens, w.tokens)
				}
				a.Body.Close()
			}
			st := c.Stats().Connections
			if len(st) != 1 || st[0].TokensUsed > st[0].ExplainedTokens || st[0].TokensUsed < counted {
				t.Errorf("the recorded proxy counted %d tokens; heard and explained: %+v", counted, st)
			}
			t.Logf("%d answers, %d tokens counted, %d explained", len(order), counted, st[0].ExplainedTokens)
		})
	}
}

// setID puts today's request id into a recorded answer.
func setID(o schema.Object, id cocoon.RequestID) {
	switch m := o.(type) {
	case *schema.ClientQueryAnswerEx:
		m.RequestID = id
	case *schema.ClientQueryAnswerPartEx:
		m.RequestID = id
	case *schema.ClientQueryAnswerErrorEx:
		m.RequestID = id
	case *schema.ClientQueryAnswer:
		m.RequestID = id
	case *schema.ClientQueryAnswerPart:
		m.RequestID = id
	case *schema.ClientQueryAnswerError:
		m.RequestID = id
	case *schema.ClientQueryAnswerPartError:
		m.RequestID = id
	case *schema.ProxyClientRequestPayment:
		m.RequestID = id
	}
}

func memoryViews(t *testing.T) *views {
	t.Helper()
	v, err := openViews(context.Background(), &Config{Runtime: Runtime{Dir: t.TempDir()}}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.close() })
	return v
}
