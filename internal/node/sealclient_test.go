//go:build !tee

package node

import (
	"context"
	"crypto/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// rawClient is a client whose every message a test chooses.
type rawClient struct {
	n    *testNet
	conn *mux.Conn
	node *tee.Node // the first worker of the set

	mu    sync.Mutex
	parts map[cocoon.RequestID][]role.Part
	tails map[cocoon.RequestID]*schema.CocoonReceipt
}

func (r *rawClient) Query(context.Context, *mux.Conn, []byte) ([]byte, error) {
	return nil, mux.ErrUnknownFunction
}

func (r *rawClient) Message(_ *mux.Conn, data []byte) {
	o, err := schema.Decode(data)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := role.FromProxy(o); ok {
		r.parts[p.ID] = append(r.parts[p.ID], p)
	}
	if m, ok := o.(*schema.CocoonReceipt); ok {
		r.tails[m.RequestID] = m
	}
}

func newRawClient(t *testing.T, n *testNet) *rawClient {
	t.Helper()
	dial, err := ratls.NewDialer(n.sealed.session(n, n.tls("", cocoon.RoleProxy), n.sealed.clientIssuer(n)))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := dial.Dial(t.Context(), n.clientsLn)
	if err != nil {
		t.Fatal(err)
	}
	r := &rawClient{n: n, parts: map[cocoon.RequestID][]role.Part{}, tails: map[cocoon.RequestID]*schema.CocoonReceipt{}}
	r.conn = role.Open(nc, mux.Config{Side: mux.Dialer, Handler: r})
	n.run(r.conn.Run)
	<-r.conn.Ready()
	ask := func(q schema.Object) {
		t.Helper()
		if _, err := role.Ask[schema.Object](t.Context(), r.conn, 5*time.Second, q); err != nil {
			t.Fatal(err)
		}
	}
	ask(&schema.ClientConnectToProxy{Params: schema.ClientParams{
		Flags: 3, ClientOwnerAddress: cocoon.Address{Hash: [32]byte{33}}.String(), IsTest: true, MinProtoVersion: role.ClientMinVersion, MaxProtoVersion: role.ClientMaxVersion,
	}})
	ask(&schema.ClientAuthorizeWithProxyShort{})
	signed, err := role.Ask[*schema.CocoonSignedSet](t.Context(), r.conn, 5*time.Second, &schema.CocoonGetSet{})
	if err != nil {
		t.Fatal(err)
	}
	set, err := schema.DecodeAs[*schema.CocoonSet](signed.Set)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := role.Ask[*schema.CocoonBundled](t.Context(), r.conn, 5*time.Second, &schema.CocoonGetBundle{Statement: set.Entries[0].Statement})
	if err != nil {
		t.Fatal(err)
	}
	if r.node, err = n.sealed.verifier(n, cocoon.RoleWorker).VerifyBundle(t.Context(), bundle.Bundle); err != nil {
		t.Fatal(err)
	}
	return r
}

// sealed is a request as it goes to the proxy, with the session it uses.
func (r *rawClient) sealed(t *testing.T, body string, change func(*envelope.Header)) (*envelope.Call, []byte) {
	t.Helper()
	s, err := envelope.NewSession(envelope.Worker{Statement: r.node.Digest, NodeKey: r.node.Key, SealKey: r.node.SealKey}, 0)
	if err != nil {
		t.Fatal(err)
	}
	query := role.EncodeRequest("/v1/chat/completions", "application/json", []byte(body))
	h := envelope.Header{Model: r.n.model.Base(), MaxCoefficient: 4000, PromptTokens: int32(envelope.Bucket(len(query))), OutputTokens: 1000, Timeout: 20 * time.Second, AnswerBucket: 512}
	rand.Read(h.RequestID[:])
	if change != nil {
		change(&h)
	}
	c, message, err := envelope.Seal(h, query, nil, []*envelope.Session{s})
	if err != nil {
		t.Fatal(err)
	}
	return c, message
}

func (r *rawClient) send(t *testing.T, message []byte) (hop cocoon.RequestID) {
	t.Helper()
	rand.Read(hop[:])
	if err := r.conn.SendObject(t.Context(), &schema.ClientRunQueryEx{
		ModelName: "whatever stands beside it", Query: message, MaxCoefficient: 1, MaxTokens: 1, Timeout: 20, RequestID: hop, Flags: 3,
	}); err != nil {
		t.Fatal(err)
	}
	return hop
}

// wait returns the parts of an answer once ok says so.
func (r *rawClient) wait(what string, hop cocoon.RequestID, ok func([]role.Part) bool) (parts []role.Part) {
	r.n.t.Helper()
	r.n.eventually(what, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		parts = append([]role.Part(nil), r.parts[hop]...)
		return ok(parts)
	})
	return parts
}

func ended(p []role.Part) bool { return len(p) > 0 && p[len(p)-1].Last() }

const rawBody = `{"model":"stand-in","stream":true,"max_tokens":200,"messages":[{"role":"user","content":"count for me"}]}`

// TestSealedConsent: an accepted request goes no further without the client's
// credit and costs nothing then; with it, what was made until a cancel is paid,
// and the worker's part comes beside the proxy's.
func TestSealedConsent(t *testing.T) {
	t.Parallel()
	opt, _, _ := withReceipts(api.SealRequire)
	n := startNet(t, opt, func(n *testNet) { n.sealed.consent = 300 * time.Millisecond })
	w := n.startWorker(1, &enginetest.StandIn{Pace: 5 * time.Millisecond})
	n.waitWorkers(1)
	r := newRawClient(t, n)

	call, message := r.sealed(t, rawBody, nil)
	hop := r.send(t, message)
	parts := r.wait("an end", hop, ended)
	if len(parts) != 2 || parts[0].Head == nil || parts[1].Err == nil || parts[1].Err.Code != wire.CodeNoConsent {
		t.Fatalf("without credit: %d parts, %+v", len(parts), parts[len(parts)-1])
	}
	if _, err := call.Accept(parts[0].Head); err != nil {
		t.Error(err)
	}
	n.eventually("an idle engine", func() bool { return w.engine.Active.Load() == 0 && w.role.Stats().Active == 0 })
	if n.used() != 0 {
		t.Errorf("%d tokens charged without consent", n.used())
	}

	call, message = r.sealed(t, rawBody, nil)
	hop = r.send(t, message)
	r.wait("an acceptance", hop, func(p []role.Part) bool { return len(p) > 0 })
	_ = r.conn.SendUrgent(schema.Marshal(&schema.CocoonWindow{RequestID: hop, Bytes: mux.Window}))
	r.wait("frames", hop, func(p []role.Part) bool { return len(p) > 10 })
	_ = r.conn.SendUrgent(schema.Marshal(&schema.CocoonCancel{RequestID: hop}))
	parts = r.wait("an end", hop, ended)
	last := parts[len(parts)-1]
	if last.Err == nil || last.Err.Code != wire.CodeCancelled || last.Final.Tokens.Total == 0 || last.Final.Tokens.Total != n.used() {
		t.Fatalf("after a cancel: %+v, %+v; %d charged", last.Err, last.Final, n.used())
	}
	var tail *schema.CocoonReceipt
	n.eventually("receipts", func() bool { r.mu.Lock(); defer r.mu.Unlock(); tail = r.tails[hop]; return tail != nil })
	signed, err := receipt.ParseSigned(tail.Worker)
	if err != nil {
		t.Fatal(err)
	}
	part, err := receipt.ParseWorker(signed.Part)
	if err != nil || signed.Verify(r.node.Key) != nil {
		t.Fatal(err)
	}
	if part.End != receipt.EndCancelled || part.Tokens != n.used() || part.RequestID != call.ID() || part.Envelope != call.Hash() {
		t.Errorf("the worker's part %+v", part)
	}
	// It can be asked for again.
	if _, err := role.Ask[schema.Object](t.Context(), r.conn, 5*time.Second, &schema.CocoonGetReceipt{RequestID: call.ID()}); err != nil {
		t.Error(err)
	}
}

// TestSealedRefusals: what a real worker refuses through a real proxy, before
// its engine runs, and what that costs.
func TestSealedRefusals(t *testing.T) {
	t.Parallel()
	n := startNet(t, sealedAs(api.SealRequire))
	w := n.startWorker(1, &enginetest.StandIn{})
	n.waitWorkers(1)
	r := newRawClient(t, n)
	_, replayed := r.sealed(t, rawBody, nil)
	hop := r.send(t, replayed)
	r.wait("an acceptance", hop, func(p []role.Part) bool { return len(p) > 0 })
	_ = r.conn.SendUrgent(schema.Marshal(&schema.CocoonWindow{RequestID: hop, Bytes: mux.Window}))
	r.wait("an end", hop, ended)
	made, used := w.engine.PromptTokens.Load(), n.used()
	message := func(change func(*envelope.Header)) []byte {
		_, m := r.sealed(t, rawBody, change)
		return m
	}
	edited := func(edit func(*schema.CocoonEnvelope)) []byte {
		m, err := envelope.ParseMessage(message(nil))
		if err != nil {
			t.Fatal(err)
		}
		e, err := schema.DecodeAs[*schema.CocoonEnvelope](m.Envelope)
		if err != nil {
			t.Fatal(err)
		}
		edit(e)
		m.Envelope = schema.Marshal(e)
		return m.Encode()
	}
	for name, tt := range map[string]struct {
		message []byte
		code    wire.Code
		want    string
	}{
		"replay":                {replayed, wire.CodeSealRefused, envelope.ErrReplay.Error()},
		"more output than said": {message(func(h *envelope.Header) { h.OutputTokens = 199 }), wire.CodeSealRefused, "beyond the bounds of its own header"},
		"longer than said":      {message(func(h *envelope.Header) { h.PromptTokens = 10 }), wire.CodeSealRefused, "beyond the bounds of its own header"},
		"another network":       {message(func(h *envelope.Header) { h.NetworkID[0]++ }), wire.CodeSealRefused, envelope.ErrNetwork.Error()},
		"header changed": {edited(func(e *schema.CocoonEnvelope) {
			h, _ := envelope.ParseHeader(e.Header)
			h.Timeout += time.Second
			e.Header = h.Encode()
		}), wire.CodeSealRefused, envelope.ErrWrap.Error()},
		"content changed":    {edited(func(e *schema.CocoonEnvelope) { e.Ciphertext[0]++ }), wire.CodeSealRefused, envelope.ErrContent.Error()},
		"wrap changed":       {edited(func(e *schema.CocoonEnvelope) { e.Wraps[0].Key[0]++ }), wire.CodeSealRefused, envelope.ErrWrap.Error()},
		"commitment changed": {edited(func(e *schema.CocoonEnvelope) { e.Commitment[0]++ }), wire.CodeSealRefused, envelope.ErrCommitment.Error()},
		"no such worker":     {edited(func(e *schema.CocoonEnvelope) { e.Wraps[0].Statement[0]++ }), wire.CodeNoCandidate, "none of the workers"},
		"too dear":           {message(func(h *envelope.Header) { h.MaxCoefficient = 999 }), wire.CodeNotReady, "coefficient=1000"},
		"half a message":     {replayed[:len(replayed)/2], wire.CodeSealRefused, envelope.ErrFormat.Error()},
	} {
		parts := r.wait(name, r.send(t, tt.message), ended)
		last := parts[len(parts)-1]
		if len(parts) != 1 || last.Err == nil || last.Err.Code != tt.code || !strings.Contains(last.Err.Text, tt.want) {
			t.Errorf("%s: %d parts, %v; want %d %s", name, len(parts), last.Err, tt.code, tt.want)
		}
	}
	if w.engine.PromptTokens.Load() != made || n.used() != used {
		t.Error("the engine ran, or something was charged")
	}
}
