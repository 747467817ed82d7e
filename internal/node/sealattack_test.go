//go:build !tee

package node

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// sealWorker is a genuine worker's statement and keys in the hands of a test.
type sealWorker struct {
	ring   *envelope.Keyring
	lane   *envelope.Lane
	issuer *statement.Issuer
	issued *statement.Issued
	node   *tee.Node
}

func (w *sealWorker) NewKey() ([]byte, func([32]byte), error) {
	k, err := envelope.NewSealKey()
	if err != nil {
		return nil, nil, err
	}
	return k.Public(), func(d [32]byte) { w.ring.Add(0, k, d) }, nil
}

func (w *sealWorker) Full() bool { return false }

// hostileProxy is a proxy that proved its contract key and then does as a test
// says.
type hostileProxy struct {
	loginDesk
	node    ed25519.PrivateKey
	workers []*sealWorker
	version int64
	made    int32 // the set's time

	// What it does with what clients ask.
	set    func(*schema.CocoonSet)       // before it is signed
	signed func(*schema.CocoonSignedSet) // after
	bundle func(digest [32]byte, b []byte) []byte
	answer func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx)

	mu      sync.Mutex
	queries []*schema.ClientRunQueryEx
	credit  map[cocoon.RequestID]chan struct{}
	credits int
}

const attackModel = "stand-in@1:0"

func newHostile(t *testing.T, image string, facts func(*statement.Facts), network [32]byte, attack func(*hostileProxy)) (*hostileProxy, *client.Client) {
	t.Helper()
	vendor, err := simulated.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	snap := loginSnapshot(t)
	snap.ModelHashes = [][32]byte{sha256.Sum256([]byte(attackModel))}
	snap.WorkerImages = []attest.ImageHash{simulated.Image(simWorkImage).Hash()}
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	contractKey, owner := [32]byte{1}, cocoon.Address{Hash: [32]byte{3}}
	contract, err := bindings.ProxyAddress(snap, contractKey, owner)
	if err != nil {
		t.Fatal(err)
	}
	h := &hostileProxy{node: key, version: time.Now().UnixMilli(), made: int32(time.Now().Unix()), credit: map[cocoon.RequestID]chan struct{}{}}
	h.loginDesk.t, h.names, h.owner = t, contractKey, owner
	h.peer = tee.Peer{Level: 1, Kind: attest.Simulated, Node: &tee.Node{Role: cocoon.RoleProxy, Key: [32]byte(pub), ContractKey: contractKey, Contract: contract, Owner: owner}}
	h.snap, h.hash = func() *registry.Snapshot { return snap }, func(cocoon.Address) [32]byte { return sha256.Sum256(nil) }
	for i := range byte(2) {
		w := &sealWorker{ring: envelope.NewKeyring(network)}
		w.lane = w.ring.NewLane(0)
		g, err := vendor.NewGuest(simulated.GuestConfig{Registers: simulated.Image(image), Machine: string('a' + rune(i))})
		if err != nil {
			t.Fatal(err)
		}
		cfg := statement.IssuerConfig{Role: cocoon.RoleWorker, Attester: g, SealKeys: w, Facts: func() (statement.Facts, error) {
			f := statement.Facts{Model: attackModel, Owner: cocoon.Address{Hash: [32]byte{4, i}}}
			if facts != nil {
				facts(&f)
			}
			return f, nil
		}}
		if network != [32]byte{} {
			cfg.NetworkID, cfg.Chain = network, stillChain{}
		}
		if w.issuer, err = statement.NewIssuer(cfg); err != nil {
			t.Fatal(err)
		}
		if w.issued, err = w.issuer.Current(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.workers = append(h.workers, w)
	}
	v, err := statement.NewVerifier(statement.VerifierConfig{Role: cocoon.RoleWorker, Policy: vendor.Policy(attest.DeferredImages()), GlobalID: devnet.DefaultGlobalID})
	if err != nil {
		t.Fatal(err)
	}
	open, err := statement.NewVerifier(statement.VerifierConfig{Role: cocoon.RoleWorker, Policy: vendor.Policy(attest.DeferredImages()), GlobalID: devnet.DefaultGlobalID})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range h.workers { // what their platforms are called
		if w.node, err = open.VerifyBundle(t.Context(), w.issued.Bundle); err != nil {
			w.node = &tee.Node{Digest: w.issued.Digest, Result: &attest.Result{}, Key: w.issuer.Key()}
		}
	}
	attack(h)
	c, err := client.New(client.Config{
		Owner: testClientOwner, IsTest: true, Source: registry.NewStatic(snap), Dialer: h, Book: memoryViews(t), Registrar: &countedRegistrar{},
		Secret: func(cocoon.Address) string { return "" }, Admit: func(*registry.Snapshot, tee.Peer) error { return nil },
		Seal: api.SealRequire, VerifyBundle: v.VerifyBundle, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return h, c
}

// stillChain is a chain of one block.
type stillChain struct{}

func (stillChain) Newest() (statement.Block, time.Duration) {
	return statement.Block{Seqno: 1, RootHash: [32]byte{1}, FileHash: [32]byte{1}, Time: time.Now().Truncate(time.Second)}, 0
}
func (stillChain) Lookup(context.Context, uint32) (statement.Block, error) {
	b, _ := stillChain{}.Newest()
	return b, nil
}

func (h *hostileProxy) Dial(ctx context.Context, addr string) (*tee.Conn, error) {
	ours, theirs := net.Pipe()
	peer := h.peer
	peer.Addr = addr
	c := mux.New(theirs, mux.Config{Side: mux.Acceptor, Level: peer.Level, Handler: h})
	go c.Run(context.WithoutCancel(ctx))
	return &tee.Conn{Conn: ours, Peer: peer}, nil
}

func (h *hostileProxy) Query(ctx context.Context, c *mux.Conn, data []byte) ([]byte, error) {
	o, err := schema.Decode(data)
	if err != nil {
		return nil, err
	}
	switch q := o.(type) {
	case *schema.CocoonGetSet:
		return h.answerSet(), nil
	case *schema.CocoonGetBundle:
		for _, w := range h.workers {
			if w.issued.Digest == q.Statement {
				b := slices.Clone(w.issued.Bundle)
				if h.bundle != nil {
					b = h.bundle(q.Statement, b)
				}
				if b == nil {
					break
				}
				return schema.Marshal(&schema.CocoonBundled{Bundle: b}), nil
			}
		}
		return nil, wire.Errorf(wire.CodeError, "no such statement")
	case *schema.ClientGetWorkerTypesV2:
		return schema.Marshal(&schema.ClientWorkerTypesV2{Types: []schema.ClientWorkerTypeV2{{Name: "stand-in"}}}), nil
	}
	return h.loginDesk.Query(ctx, c, data)
}

func (h *hostileProxy) answerSet() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	set := &schema.CocoonSet{Contract: schema.CocoonAddress(h.peer.Node.Contract), Version: h.version, Time: h.made}
	for _, w := range h.workers {
		set.Entries = append(set.Entries, schema.CocoonSetEntry{Statement: w.issued.Digest, Model: string(w.issued.Statement.Model), Coefficient: 1000, Platform: w.node.Result.Platform})
	}
	slices.SortFunc(set.Entries, func(a, b schema.CocoonSetEntry) int { return slices.Compare(a.Statement[:], b.Statement[:]) })
	if h.set != nil {
		h.set(set)
	}
	b := schema.Marshal(set)
	s := &schema.CocoonSignedSet{Set: b, Signature: ed25519.Sign(h.node, role.SetMessage(cocoon.Address(set.Contract), uint64(set.Version), set.Previous, sha256.Sum256(b)))}
	if h.signed != nil {
		h.signed(s)
	}
	return schema.Marshal(s)
}

func (h *hostileProxy) Message(c *mux.Conn, data []byte) {
	o, err := schema.Decode(data)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch m := o.(type) {
	case *schema.ClientRunQueryEx:
		h.queries = append(h.queries, m)
		h.credit[m.RequestID] = make(chan struct{})
		go h.answer(h, c, m)
	case *schema.CocoonWindow:
		h.credits++
		close(h.credit[m.RequestID])
	}
}

func (h *hostileProxy) counts() (queries, credits int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.queries), h.credits
}

// say sends one part of an answer.
func say(c *mux.Conn, q *schema.ClientRunQueryEx, p role.Part) {
	p.ID = q.RequestID
	_ = c.SendObject(context.Background(), role.ToClient(2, &p, false))
}

// refuse ends a request with a code.
func refuse(code wire.Code) func(*hostileProxy, *mux.Conn, *schema.ClientRunQueryEx) {
	return func(_ *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
		say(c, q, role.Part{Err: wire.Errorf(code, "as the test says"), Final: &role.Final{}})
	}
}

// taken is a request as one worker answers it, in pieces for the test to change.
type taken struct {
	h      *hostileProxy
	c      *mux.Conn
	q      *schema.ClientRunQueryEx
	o      *envelope.Opened
	accept []byte
	w      *envelope.Writer
	worker *sealWorker
	tokens int64
}

// takeAt opens a request at the i-th worker.
func (h *hostileProxy) takeAt(i int, c *mux.Conn, q *schema.ClientRunQueryEx) *taken {
	w := h.workers[i]
	o, err := w.lane.Open(0, q.Query)
	if err != nil {
		h.t.Errorf("worker %d: %v", i, err)
		return nil
	}
	x := &taken{h: h, c: c, q: q, o: o, worker: w, tokens: 30}
	if x.accept, x.w, err = o.Accept(w.issuer.Sign); err != nil {
		h.t.Error(err)
	}
	return x
}

// frames are the answer "hello" in three frames, with a good receipt in the
// last but for what change does to it.
func (x *taken) frames(change func(*receipt.WorkerPart), forge func(*receipt.Signed)) (out [][]byte) {
	head := role.EncodeResponse(200, http.Header{"Content-Type": {"application/json"}}, nil)
	salts := receipt.NewSalts(x.o.Secret, x.o.Header.RequestID)
	answer := receipt.CommitAnswer(salts.Answer)
	for _, b := range []string{string(head), "hel", "lo"} {
		answer.Write([]byte(b))
	}
	p := receipt.WorkerPart{
		RequestID: x.o.Header.RequestID, Request: receipt.CommitRequest(salts.Request, x.o.Plain), Answer: answer.Sum(), Statement: x.o.Statement,
		Model: attackModel, Tokens: x.tokens, Envelope: x.o.Hash, Session: x.o.Session, Nonce: x.o.Nonce, End: receipt.EndComplete,
	}
	if change != nil {
		change(&p)
	}
	s, err := p.Sign(x.worker.issuer.Sign)
	if err != nil {
		x.h.t.Error(err)
	}
	digest := s.Digest()
	if forge != nil {
		forge(&s)
	}
	for _, f := range []struct {
		envelope.Frame
		part []byte
	}{{envelope.Frame{Head: head}, nil}, {envelope.Frame{Body: []byte("hel")}, nil}, {envelope.Frame{Body: []byte("lo"), End: &digest}, s.Encode()}} {
		b, err := x.w.Seal(f.Frame, f.part)
		if err != nil {
			x.h.t.Error(err)
		}
		out = append(out, b)
	}
	return out
}

func (x *taken) send(accept []byte, frames [][]byte) {
	say(x.c, x.q, role.Part{Head: accept})
	x.h.mu.Lock()
	credit := x.h.credit[x.q.RequestID]
	x.h.mu.Unlock()
	select {
	case <-credit:
	case <-time.After(time.Second):
		return
	}
	for i, f := range frames {
		p := role.Part{Body: f}
		if i == len(frames)-1 {
			p.Final = &role.Final{Tokens: pricing.Tokens{Total: x.tokens}}
		}
		say(x.c, x.q, p)
	}
}

// serve answers as an honest worker does.
func serve(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
	x := h.takeAt(0, c, q)
	x.send(x.accept, x.frames(nil, nil))
}

// call asks once and returns the answer, or the error's text.
func call(t *testing.T, c *client.Client) (text, fail string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
	defer stop()
	a, err := c.Do(ctx, &api.Call{Path: "/v1/chat/completions", ContentType: "application/json", Model: "stand-in", Body: []byte(`{"model":"stand-in"}`), MaxTokens: 10})
	if err != nil {
		return "", err.Error()
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		return string(b), err.Error()
	}
	if !a.Sealing.Sealed {
		t.Error("the answer was not sealed")
	}
	return string(b), ""
}

// TestOfferAttacks: what a proxy can do with the workers it offers. Nothing is
// sent to it then, and cocoon workers names the reason.
func TestOfferAttacks(t *testing.T) {
	for _, tt := range []struct {
		name   string
		attack func(h *hostileProxy)
		image  string
		facts  func(*statement.Facts)
		foreig bool
		want   string
	}{
		{name: "none", attack: func(*hostileProxy) {}},
		{name: "set signed by another key", attack: func(h *hostileProxy) { _, h.node, _ = ed25519.GenerateKey(nil) }, want: client.ErrSetForged.Error()},
		{name: "set changed", attack: func(h *hostileProxy) {
			h.signed = func(s *schema.CocoonSignedSet) { s.Set[len(s.Set)-1]++ }
		}, want: client.ErrSetForged.Error()},
		{name: "another proxy's set", attack: func(h *hostileProxy) { h.set = func(s *schema.CocoonSet) { s.Contract.Hash[0]++ } }, want: client.ErrSetForged.Error()},
		{name: "stale set", attack: func(h *hostileProxy) { h.set = func(s *schema.CocoonSet) { s.Time -= 121 } }, want: client.ErrSetStale.Error()},
		{name: "set of the future", attack: func(h *hostileProxy) { h.set = func(s *schema.CocoonSet) { s.Time += 300 } }, want: client.ErrSetStale.Error()},
		{name: "one worker twice", attack: func(h *hostileProxy) {
			h.set = func(s *schema.CocoonSet) { s.Entries = append(s.Entries, s.Entries[len(s.Entries)-1]) }
		}, want: client.ErrSetFormat.Error()},
		{name: "bundles hidden", attack: func(h *hostileProxy) { h.bundle = func([32]byte, []byte) []byte { return nil } }, want: client.ErrBundleHidden.Error()},
		{name: "bundles swapped", attack: func(h *hostileProxy) {
			h.bundle = func(d [32]byte, _ []byte) []byte {
				if d == h.workers[0].issued.Digest {
					return h.workers[1].issued.Bundle
				}
				return h.workers[0].issued.Bundle
			}
		}, want: client.ErrBundleOther.Error()},
		{name: "forged bundle: another seal key", attack: func(h *hostileProxy) {
			h.bundle = func(_ [32]byte, b []byte) []byte {
				p, err := statement.ParseBundle(b)
				if err != nil {
					h.t.Error(err)
				}
				s, err := statement.Parse(p.Statement)
				if err != nil {
					h.t.Error(err)
				}
				k, _ := envelope.NewSealKey()
				s.SealKey = k.Public()
				p.Statement = s.Encode()
				return p.Encode()
			}
		}, want: attest.ErrReportData.Error()},
		{name: "platform lied about", attack: func(h *hostileProxy) {
			h.set = func(s *schema.CocoonSet) { s.Entries[0].Platform[0]++; s.Entries[1].Platform[0]++ }
		}, want: client.ErrBundleOther.Error()},
		{name: "model lied about", attack: func(h *hostileProxy) {
			h.set = func(s *schema.CocoonSet) { s.Entries[0].Model, s.Entries[1].Model = "stand-in@2:0", "stand-in@2:0" }
		}, want: client.ErrBundleOther.Error()},
		{name: "wrong model hash", attack: func(*hostileProxy) {}, facts: func(f *statement.Facts) { f.Model = "stand-in@1:1" }, want: "does not list its model"},
		{name: "wrong image", attack: func(*hostileProxy) {}, image: simProxyImage, want: client.ErrWorker.Error()},
		{name: "foreign bundle", attack: func(*hostileProxy) {}, foreig: true, want: statement.ErrNetworkID.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			image, network := simWorkImage, [32]byte{}
			if tt.image != "" {
				image = tt.image
			}
			if tt.foreig {
				network = [32]byte{9}
			}
			h, c := newHostile(t, image, tt.facts, network, func(h *hostileProxy) {
				h.answer = serve
				tt.attack(h)
			})
			text, fail := call(t, c)
			if tt.want == "" {
				if fail != "" || text != "hello" {
					t.Fatalf("%q, %s", text, fail)
				}
				return
			}
			if !strings.Contains(fail, tt.want) {
				t.Errorf("%q, want %q", fail, tt.want)
			}
			if queries, _ := h.counts(); queries != 0 {
				t.Error("something was sent to the proxy")
			}
			shown := c.Workers(t.Context(), true)
			var reasons []string
			for _, w := range shown.Workers {
				reasons = append(reasons, w.Reason)
			}
			for _, r := range shown.Refused {
				reasons = append(reasons, r.Reason)
			}
			if !strings.Contains(strings.Join(reasons, "\n"), tt.want) {
				t.Errorf("workers shows %q", reasons)
			}
		})
	}
}

// TestSetsOverTime: versions do not go back, and one version is one set.
func TestSetsOverTime(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		then func(h *hostileProxy)
		want error
	}{
		"back":                {func(h *hostileProxy) { h.version-- }, client.ErrSetBack},
		"two sets, a version": {func(h *hostileProxy) { h.set = func(s *schema.CocoonSet) { s.Entries = s.Entries[:1] } }, client.ErrSetTwice},
	} {
		t.Run(name, func(t *testing.T) {
			h, c := newHostile(t, simWorkImage, nil, [32]byte{}, func(h *hostileProxy) { h.answer = serve })
			if _, fail := call(t, c); fail != "" {
				t.Fatal(fail)
			}
			h.mu.Lock()
			tt.then(h)
			h.mu.Unlock()
			refused := c.Workers(t.Context(), true).Refused
			if len(refused) != 1 || !strings.Contains(refused[0].Reason, tt.want.Error()) {
				t.Errorf("%+v, want %v", refused, tt.want)
			}
		})
	}
}

// TestSealedAnswerAttacks: what proxies and workers do with a sealed request.
// credits says how often the client consented to pay, queries how many
// envelopes it made.
func TestSealedAnswerAttacks(t *testing.T) {
	type serves = func(*hostileProxy, *mux.Conn, *schema.ClientRunQueryEx)
	first := func(then, later serves) serves {
		var once sync.Once
		return func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			f := later
			once.Do(func() { f = then })
			f(h, c, q)
		}
	}
	for _, tt := range []struct {
		name             string
		answer           serves
		text, want       string
		queries, credits int
	}{
		{"none", serve, "hello", "", 1, 1},
		{"answered in clear", func(_ *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			say(c, q, role.Part{Head: role.EncodeResponse(200, http.Header{}, []byte("evil")), Final: &role.Final{}})
		}, "", client.ErrUnsealed.Error(), 1, 0},
		{"bad acceptance", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			x.accept[len(x.accept)-1]++
			x.send(x.accept, nil)
		}, "", envelope.ErrAcceptance.Error(), 1, 0},
		{"handed to two workers, both acceptances sent", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x, y := h.takeAt(0, c, q), h.takeAt(1, c, q)
			say(c, q, role.Part{Head: x.accept})
			time.Sleep(20 * time.Millisecond)
			y.send(y.accept, y.frames(nil, nil))
		}, "", envelope.ErrAcceptance.Error(), 1, 1},
		{"handed to two workers, the other one's answer", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x, y := h.takeAt(0, c, q), h.takeAt(1, c, q)
			x.send(x.accept, y.frames(nil, nil))
		}, "", envelope.ErrFrame.Error(), 1, 1},
		{"re-ordered", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			f := x.frames(nil, nil)
			x.send(x.accept, [][]byte{f[0], f[2], f[1]})
		}, "", envelope.ErrFrame.Error(), 1, 1},
		{"cut", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			x.send(x.accept, x.frames(nil, nil)[:2])
		}, "", envelope.ErrCut.Error(), 1, 1},
		{"extended", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			f := x.frames(nil, nil)
			x.send(x.accept, append(f, f[1]))
		}, "hel", envelope.ErrCut.Error(), 1, 1},
		{"bad receipt: signature", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			x.send(x.accept, x.frames(nil, func(s *receipt.Signed) { s.Signature[0]++ }))
		}, "hel", client.ErrWorkerPart.Error(), 1, 1},
		{"bad receipt: not the one the frame names", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			x.send(x.accept, x.frames(nil, func(s *receipt.Signed) { s.Part[40]++ }))
		}, "hel", client.ErrWorkerPart.Error(), 1, 1},
		{"bad receipt: another answer", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			x.send(x.accept, x.frames(func(p *receipt.WorkerPart) { p.Answer[0]++ }, nil))
		}, "hel", "another answer was given", 1, 1},
		{"bad receipt: another request", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			x.send(x.accept, x.frames(func(p *receipt.WorkerPart) { p.Request[0]++ }, nil))
		}, "hel", "another request was answered", 1, 1},
		{"bad receipt: another model", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			x.send(x.accept, x.frames(func(p *receipt.WorkerPart) { p.Model = "other@1:0" }, nil))
		}, "hel", "it names another model", 1, 1},
		{"charged more than the worker asks for", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			f := x.frames(nil, nil)
			x.tokens++
			x.send(x.accept, f)
		}, "hel", "31 tokens charged, the worker asks for 30", 1, 1},
		{"died before it accepted", first(refuse(wire.CodeFailure), serve), "hello", "", 2, 1},
		{"its worker left", first(refuse(wire.CodeNoCandidate), serve), "hello", "", 2, 1},
		{"unknown session, repaired", first(refuse(wire.CodeUnknownSession), serve), "hello", "", 2, 1},
		{"unknown session, again and again", refuse(wire.CodeUnknownSession), "", "just set up", 2, 0},
		{"died after the credit", func(h *hostileProxy, c *mux.Conn, q *schema.ClientRunQueryEx) {
			x := h.takeAt(0, c, q)
			x.send(x.accept, nil)
			refuse(wire.CodeFailure)(h, c, q)
		}, "", "accepted and then lost", 1, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, c := newHostile(t, simWorkImage, nil, [32]byte{}, func(h *hostileProxy) { h.answer = tt.answer })
			text, fail := call(t, c)
			if text != tt.text || tt.want == "" && fail != "" || !strings.Contains(fail, tt.want) {
				t.Errorf("%q, %q; want %q, %q", text, fail, tt.text, tt.want)
			}
			queries, credits := h.counts()
			if queries != tt.queries || credits != tt.credits {
				t.Errorf("%d envelopes, %d consents; want %d, %d", queries, credits, tt.queries, tt.credits)
			}
			ids := map[cocoon.RequestID]bool{}
			for _, q := range h.queries {
				m, err := envelope.ParseMessage(q.Query)
				if err != nil {
					t.Fatal(err)
				}
				e, err := envelope.ParseEnvelope(m.Envelope)
				if err != nil {
					t.Fatal(err)
				}
				if ids[e.Header.RequestID] || cocoon.RequestID(q.RequestID) == e.Header.RequestID {
					t.Error("a request id was used twice, or on a hop")
				}
				ids[e.Header.RequestID] = true
			}
		})
	}
}

// TestSealModesAtLevel0: through a proxy of level 0 require is a clear error,
// and prefer says what it did.
func TestSealModesAtLevel0(t *testing.T) {
	t.Parallel()
	for _, mode := range []api.Seal{api.SealRequire, api.SealPrefer} {
		n := startNet(t, func(n *testNet) { n.level0 = true }, func(n *testNet) { n.mode = mode })
		n.startWorker(1, &enginetest.StandIn{})
		n.waitWorkers(1)
		r := n.ask(t.Context(), false, 5, 0)
		switch mode {
		case api.SealRequire:
			if r.status != http.StatusServiceUnavailable || !strings.Contains(r.err, "level 0 only") {
				t.Errorf("require: %+v", r)
			}
		case api.SealPrefer:
			if r.err != "" || r.header.Get("X-Cocoon-Seal") != "off" || r.header.Get("X-Cocoon-Seal-Mode") != "prefer" || !strings.Contains(r.header.Get("X-Cocoon-Seal-Reason"), "level 0 only") {
				t.Errorf("prefer: %+v", r)
			}
		}
	}
}
