//go:build !tee

package node

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/role/worker"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
)

// sealedNet gives a test network sessions of level 1 and seals its requests. A
// nil one changes nothing.
type sealedNet struct {
	mode         api.Seal
	receipts     proxy.Receipts
	store        client.ReceiptStore
	changeClient func(*client.Config)
	changeProxy  func(*proxy.Config)
	issuer       *statement.Issuer // the proxy's
	plain        bool              // its workers have no seal keys
	consent      time.Duration     // of the proxy; 0 = the default
}

func sealedAs(mode api.Seal) func(*testNet) {
	return func(n *testNet) { n.sealed = &sealedNet{mode: mode} }
}

func (x *sealedNet) verifier(n *testNet, peer cocoon.Role) *statement.Verifier {
	policy := n.vendor.Policy(attest.DeferredImages())
	v, err := statement.NewVerifier(statement.VerifierConfig{
		Role: peer, Policy: policy, GlobalID: devnet.DefaultGlobalID,
		Contract: func(key [32]byte, owner cocoon.Address) (cocoon.Address, error) {
			return bindings.ProxyAddress(n.snap, key, owner)
		},
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return v
}

// session adds level 1's handshake to a port or dialer.
func (x *sealedNet) session(n *testNet, cfg ratls.Config, issuer *statement.Issuer) ratls.Config {
	if x == nil {
		return cfg
	}
	s, err := statement.New(statement.Config{Issuer: issuer, Verifier: x.verifier(n, cfg.PeerRole), Required: true})
	if err != nil {
		n.t.Fatal(err)
	}
	cfg.Session = s.Handshake
	return cfg
}

func (x *sealedNet) issue(n *testNet, cfg statement.IssuerConfig, image string) *statement.Issuer {
	if image != "" {
		g, err := n.vendor.NewGuest(simulated.GuestConfig{Registers: simulated.Image(image)})
		if err != nil {
			n.t.Fatal(err)
		}
		cfg.Attester = g
	}
	i, err := statement.NewIssuer(cfg)
	if err != nil {
		n.t.Fatal(err)
	}
	return i
}

func (x *sealedNet) clientIssuer(n *testNet) *statement.Issuer {
	if x == nil {
		return nil
	}
	return x.issue(n, statement.IssuerConfig{Role: cocoon.RoleClient}, "")
}

var testProxyOwner = cocoon.Address{Hash: [32]byte{2}}

func (x *sealedNet) proxyIssuer(n *testNet) *statement.Issuer {
	if x == nil {
		return nil
	}
	if x.issuer == nil {
		x.issuer = x.issue(n, statement.IssuerConfig{Role: cocoon.RoleProxy, ContractKey: n.key, Facts: func() (statement.Facts, error) {
			contract, err := bindings.ProxyAddress(n.snap, n.key.Public(), testProxyOwner)
			return statement.Facts{Contract: contract, ContractKey: n.key.Public(), Owner: testProxyOwner}, err
		}}, simProxyImage)
	}
	return x.issuer
}

func (x *sealedNet) workerIssuer(n *testNet, owner cocoon.Address) (*statement.Issuer, *worker.Sealer) {
	if x == nil {
		return nil, nil
	}
	facts := func() (statement.Facts, error) { return statement.Facts{Model: n.model, Owner: owner}, nil }
	if x.plain {
		return x.issue(n, statement.IssuerConfig{Role: cocoon.RoleWorker, Facts: facts}, simWorkImage), nil
	}
	s := worker.NewSealer([32]byte{})
	return x.issue(n, statement.IssuerConfig{Role: cocoon.RoleWorker, SealKeys: s, Facts: facts}, simWorkImage), s
}

func (x *sealedNet) proxy(n *testNet, cfg *proxy.Config) {
	if x != nil {
		cfg.Sign, cfg.Receipts, cfg.ConsentWithin = x.issuer.Sign, x.receipts, x.consent
		if x.changeProxy != nil {
			x.changeProxy(cfg)
		}
	}
}

func (x *sealedNet) client(n *testNet, cfg *client.Config) {
	if x == nil {
		return
	}
	cfg.Seal, cfg.VerifyBundle, cfg.Receipts, cfg.WantReceipts = x.mode, x.verifier(n, cocoon.RoleWorker).VerifyBundle, x.store, x.receipts != nil
	if x.changeClient != nil {
		x.changeClient(cfg)
	}
}

// TestSealedChat: sealed requests cross the network, streamed and not, and are
// billed as unsealed ones are.
func TestSealedChat(t *testing.T) {
	n := startNet(t, sealedAs(api.SealRequire))
	w := n.startWorker(1, &enginetest.StandIn{})
	n.waitWorkers(1)
	for _, stream := range []bool{false, true, false, true} {
		r := n.ask(t.Context(), stream, 40, 0)
		if r.err != "" || !r.done || r.text != words(40) {
			t.Fatalf("stream=%v: %+v", stream, r)
		}
		if want := 20 * (r.usage.CompletionTokens + r.usage.PromptTokens); r.cost != want {
			t.Errorf("stream=%v: cost %d nano, want %d", stream, r.cost, want)
		}
		if r.header.Get("X-Cocoon-Seal") != "sealed" || r.header.Get("X-Cocoon-Seal-Mode") != "require" || r.header.Get("X-Cocoon-Worker-Verdict") != "simulated" || len(r.header.Get("X-Cocoon-Receipt")) != 64 {
			t.Errorf("headers %v", r.header)
		}
	}
	made := w.engine.CompletionTokens.Load() + w.engine.PromptTokens.Load()
	n.eventually("charge", func() bool { return n.used() == made })
	st := n.client.Workers(t.Context(), true)
	if len(st.Workers) != 1 || st.Workers[0].Verdict != "simulated" || st.Workers[0].Reputation.Served != 4 || len(st.Refused) != 0 {
		t.Errorf("workers %+v", st)
	}
}

// TestPreferWithoutWorkers: where no worker of a proxy takes sealed requests,
// prefer says so and does not keep the caller waiting; require refuses.
func TestPreferWithoutWorkers(t *testing.T) {
	t.Parallel()
	for _, mode := range []api.Seal{api.SealPrefer, api.SealRequire} {
		n := startNet(t, sealedAs(mode), func(n *testNet) { n.sealed.plain = true })
		n.startWorker(1, &enginetest.StandIn{})
		n.waitWorkers(1)
		begin := time.Now()
		ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
		r := n.ask(ctx, false, 5, 0)
		stop()
		switch mode {
		case api.SealPrefer:
			if took := time.Since(begin); took > 900*time.Millisecond {
				t.Logf("it took %v: the machine is slow, or the caller waited", took)
			}
			if r.err != "" || r.header.Get("X-Cocoon-Seal") != "off" || r.header.Get("X-Cocoon-Seal-Reason") == "" {
				t.Errorf("prefer after %v: %+v", time.Since(begin), r)
			}
		case api.SealRequire:
			if r.done {
				t.Error("an unsealed answer where sealing is required")
			}
		}
	}
}

// TestSealedSpread: requests sealed to busy workers are sealed anew to idle
// ones, and all of them are billed once.
func TestSealedSpread(t *testing.T) {
	t.Parallel()
	n := startNet(t, sealedAs(api.SealRequire))
	var engines []*enginetest.StandIn
	for i := range byte(5) {
		e := &enginetest.StandIn{Pace: time.Millisecond}
		engines = append(engines, e)
		n.startWorker(i, e, func(c *worker.Config) { c.MaxActive = 2 })
	}
	n.waitWorkers(5)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if r := n.ask(t.Context(), i%2 == 0, 20, 0); r.err != "" || !r.done || r.text != words(20) {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
	var made int64
	for i, e := range engines {
		if e.CompletionTokens.Load() == 0 {
			t.Errorf("worker %d served nothing", i)
		}
		made += e.CompletionTokens.Load() + e.PromptTokens.Load()
	}
	n.eventually("charges", func() bool { return n.used() == made })
}

// TestSealedCancel: a caller who leaves stops the engine and pays for what was
// made.
func TestSealedCancel(t *testing.T) {
	n := startNet(t, sealedAs(api.SealRequire))
	w := n.startWorker(1, &enginetest.StandIn{Pace: 2 * time.Millisecond})
	n.waitWorkers(1)
	if r := n.ask(t.Context(), true, 100000, 10); r.err != "" || r.done {
		t.Fatalf("%+v", r)
	}
	n.eventually("stop of the engine", func() bool { return w.engine.Active.Load() == 0 && w.role.Stats().Active == 0 })
	n.eventually("end of the request", func() bool { return n.proxy.Stats().Cancelled == 1 })
	if made, used := w.engine.CompletionTokens.Load()+w.engine.PromptTokens.Load(), n.used(); used == 0 || used > made {
		t.Errorf("charged %d tokens, the engine made %d", used, made)
	}
}
