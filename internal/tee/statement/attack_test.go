//go:build !tee

package statement

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// pair connects a genuine worker to a genuine proxy.
func (w *world) pair() (worker, proxy *tee.Conn) {
	w.t.Helper()
	p, accepted := w.listen(w.tls(w.guest(proxyImage), w.sessions(w.proxyIssuer(), w.verifier(cocoon.RoleWorker)).Handshake))
	worker, err := w.dial(p, w.tls(w.guest(workImage), w.sessions(w.workerIssuer(), w.verifier(cocoon.RoleProxy)).Handshake))
	if err != nil {
		w.t.Fatal(err)
	}
	return worker, <-accepted
}

func TestSession(t *testing.T) {
	w := newWorld(t)
	worker, proxy := w.pair()
	defer proxy.Close()
	p, k := worker.Peer.Node, proxy.Peer.Node
	contract, _ := deriveContract(newContractKey(3).public(), proxyOwner)
	if p.Role != cocoon.RoleProxy || p.Contract != contract || p.ContractKey != newContractKey(3).public() || p.Owner != proxyOwner || p.Result.Kind != attest.Simulated {
		t.Errorf("the worker sees %+v", p)
	}
	if k.Role != cocoon.RoleWorker || k.Model != "m@1:2" || k.Owner != workOwner || k.Result.ImageHash != workImage.Hash() {
		t.Errorf("the proxy sees %+v", k)
	}
	if err := errors.Join(worker.Session.Usable(), proxy.Session.Usable()); err != nil {
		t.Error(err)
	}
	// The connection is whole: application bytes pass.
	go worker.Write([]byte("hello"))
	b := make([]byte, 5)
	if _, err := proxy.Read(b); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v", b, err)
	}
	for _, name := range []string{"session proof", "block", "block age", "contract key", "contract", "statement evidence", "same image"} {
		if !slices.ContainsFunc(p.Factors, func(f attest.Factor) bool { return f.Name == name && f.Result == attest.Pass && f.Enforced }) {
			t.Errorf("no factor %q", name)
		}
	}
}

// A client proves a node key and nothing else.
func TestClientSession(t *testing.T) {
	w := newWorld(t)
	p, accepted := w.listen(w.tls(w.guest(proxyImage), w.sessions(w.proxyIssuer(), w.verifier(cocoon.RoleClient)).Handshake))
	c, err := w.dial(p, w.tls(nil, w.sessions(IssuerConfig{Role: cocoon.RoleClient}, w.verifier(cocoon.RoleProxy)).Handshake))
	if err != nil {
		t.Fatal(err)
	}
	n := (<-accepted).Peer.Node
	if n.Role != cocoon.RoleClient || n.Key == [32]byte{} || n.Result.Kind != attest.None || c.Peer.Node.Role != cocoon.RoleProxy {
		t.Errorf("the proxy sees %+v", n)
	}
}

// Networks without a chain have level 1 without blocks, and a network with a
// chain takes no such statement.
func TestWithoutChain(t *testing.T) {
	w := newWorld(t)
	issuer, verifier := w.proxyIssuer(), w.verifier(cocoon.RoleProxy)
	issuer.Chain, issuer.NetworkID = nil, [32]byte{}
	verifier.Chain, verifier.NetworkID = nil, [32]byte{}
	p, _ := w.listen(w.tls(w.guest(proxyImage), w.sessions(issuer, w.verifier(cocoon.RoleClient)).Handshake))
	client := IssuerConfig{Role: cocoon.RoleClient}
	if _, err := w.dial(p, w.tls(nil, w.sessions(client, verifier).Handshake)); err != nil {
		t.Errorf("without a chain: %v", err)
	}
	if _, err := w.dial(p, w.tls(nil, w.sessions(client, w.verifier(cocoon.RoleProxy)).Handshake)); !errors.Is(err, ErrNetworkID) {
		t.Errorf("a network with a chain: %v, want ErrNetworkID", err)
	}
}

// The attacker between two genuine nodes. He may run guests of his own, on the
// proxy's image even (whose TLS key he is given here), dial the real proxy
// and see and change every byte. The worker must refuse each attack by name.
func TestAttacks(t *testing.T) {
	// present is an acceptor that makes one thing wrong in an honest session.
	type change struct {
		issuer   func(*IssuerConfig)
		hello    func(h *schema.CocoonHello, dialers []byte)
		bundle   func(*Bundle)
		side     byte // the side it signs for is 1 ^ side
		noBundle bool
	}
	present := func(c change) func(*world) func(context.Context, *tee.Conn, bool) error {
		return func(w *world) func(context.Context, *tee.Conn, bool) error {
			cfg := w.proxyIssuer()
			if c.issuer != nil {
				c.issuer(&cfg)
			}
			i, err := NewIssuer(cfg)
			if err != nil {
				w.t.Fatal(err)
			}
			return func(ctx context.Context, conn *tee.Conn, _ bool) error {
				query, err := readFrame(conn, maxFrame)
				if err != nil {
					return err
				}
				o, err := decode[*schema.CocoonOpen](query)
				if err != nil {
					return err
				}
				own, err := i.Current(ctx)
				if err != nil {
					return err
				}
				h := &schema.CocoonHello{MinVersion: Version, MaxVersion: Version, Nonce: [32]byte{5}, Spki: SPKI(conn.LocalKey), Statement: own.Digest}
				b, err := ParseBundle(own.Bundle)
				if err != nil {
					return err
				}
				if c.bundle != nil {
					c.bundle(b)
				}
				if c.hello != nil {
					c.hello(h, o.Hello)
				}
				mine := schema.Marshal(h)
				if err := writeFrame(conn, schema.Marshal(&schema.CocoonOpened{Hello: mine})); err != nil {
					return err
				}
				if _, err := readFrame(conn, maxFrame); err != nil {
					return err
				}
				exported, err := conn.Exporter("EXPORTER-cocoon-session-v1", 32)
				if err != nil {
					return err
				}
				answer := &schema.CocoonProved{Bundle: b.Encode(), Proof: i.sign(ProofMessage(1^c.side, exported, o.Hello, mine))}
				if c.noBundle {
					answer.Bundle = nil
				}
				return writeFrame(conn, schema.Marshal(answer))
			}
		}
	}
	// relay forwards the session between the worker and the real proxy, each
	// frame changed by edit.
	relay := func(edit func(frame int, b []byte, conn *tee.Conn) []byte) func(*world) func(context.Context, *tee.Conn, bool) error {
		return func(w *world) func(context.Context, *tee.Conn, bool) error {
			real, _ := w.listen(w.tls(w.guest(proxyImage), w.sessions(w.proxyIssuer(), w.verifier(cocoon.RoleWorker)).Handshake))
			return func(ctx context.Context, victim *tee.Conn, _ bool) error {
				there, err := w.dial(real, w.tls(w.guest(workImage), func(context.Context, *tee.Conn, bool) error { return nil }))
				if err != nil {
					return err
				}
				for i := range 2 {
					for j, hop := range [][2]*tee.Conn{{victim, there}, {there, victim}} {
						b, err := readFrame(hop[0], maxFrame)
						if err != nil {
							return err
						}
						if err := writeFrame(hop[1], edit(2*i+j, b, hop[1])); err != nil {
							return err
						}
					}
				}
				return nil
			}
		}
	}
	spki := func(b []byte, key [32]byte) []byte {
		h, err := decode[*schema.CocoonHello](b)
		if err != nil {
			panic(err)
		}
		h.Spki = SPKI(key)
		return schema.Marshal(h)
	}
	// harvest dials the real proxy as a genuine worker of the attacker's and
	// presents what it said there.
	harvest := func(w *world) func(context.Context, *tee.Conn, bool) error {
		real, _ := w.listen(w.tls(w.guest(proxyImage), w.sessions(w.proxyIssuer(), w.verifier(cocoon.RoleWorker)).Handshake))
		return func(ctx context.Context, victim *tee.Conn, _ bool) error {
			i, err := NewIssuer(w.workerIssuer())
			if err != nil {
				return err
			}
			own, err := i.Current(ctx)
			if err != nil {
				return err
			}
			there, err := w.dial(real, w.tls(w.guest(workImage), func(context.Context, *tee.Conn, bool) error { return nil }))
			if err != nil {
				return err
			}
			ask := func(q schema.Object) schema.Object {
				if err := writeFrame(there, schema.Marshal(q)); err != nil {
					w.t.Error(err)
				}
				b, err := readFrame(there, maxFrame)
				if err != nil {
					w.t.Error(err)
				}
				o, err := schema.Decode(b)
				if err != nil {
					w.t.Error(err)
				}
				return o
			}
			hello := schema.Marshal(&schema.CocoonHello{MinVersion: 1, MaxVersion: 1, Nonce: [32]byte{8}, Spki: SPKI(there.LocalKey), Statement: own.Digest})
			opened := ask(&schema.CocoonOpen{Hello: hello}).(*schema.CocoonOpened)
			exported, err := there.Exporter("EXPORTER-cocoon-session-v1", 32)
			if err != nil {
				return err
			}
			proved := ask(&schema.CocoonProve{Bundle: own.Bundle, Proof: i.sign(ProofMessage(0, exported, hello, opened.Hello))}).(*schema.CocoonProved)

			if _, err := readFrame(victim, maxFrame); err != nil {
				return err
			}
			if err := writeFrame(victim, schema.Marshal(&schema.CocoonOpened{Hello: spki(opened.Hello, victim.LocalKey)})); err != nil {
				return err
			}
			if _, err := readFrame(victim, maxFrame); err != nil {
				return err
			}
			return writeFrame(victim, schema.Marshal(proved))
		}
	}

	for _, tt := range []struct {
		name   string
		attack func(*world) func(context.Context, *tee.Conn, bool) error
		victim func(*world, *VerifierConfig)
		image  simulated.Registers // of the attacker's certificate
		want   error
	}{
		{name: "nothing wrong", attack: present(change{})},
		{name: "relay", attack: relay(func(_ int, b []byte, _ *tee.Conn) []byte { return b }), want: ErrRefused},
		{name: "relay, dialer's hello rewritten", attack: relay(func(frame int, b []byte, to *tee.Conn) []byte {
			if frame == 0 {
				o, _ := decode[*schema.CocoonOpen](b)
				return schema.Marshal(&schema.CocoonOpen{Hello: spki(o.Hello, to.LocalKey)})
			}
			return b
		}), want: ErrOtherKey},
		{name: "relay, both hellos rewritten", attack: relay(func(frame int, b []byte, to *tee.Conn) []byte {
			switch frame {
			case 0:
				o, _ := decode[*schema.CocoonOpen](b)
				return schema.Marshal(&schema.CocoonOpen{Hello: spki(o.Hello, to.LocalKey)})
			case 1:
				o, _ := decode[*schema.CocoonOpened](b)
				o.Hello = spki(o.Hello, to.LocalKey)
				return schema.Marshal(o)
			}
			return b
		}), want: ErrRefused},
		{name: "replay of a proof for another connection", attack: harvest, want: ErrProof},
		{name: "diversion to a genuine worker", attack: present(change{issuer: func(c *IssuerConfig) {
			c.Role, c.Facts, c.ContractKey = cocoon.RoleWorker, workerFacts, nil
		}}), want: ErrRole},
		{name: "reflected hello", attack: present(change{hello: func(h *schema.CocoonHello, dialers []byte) {
			d, _ := decode[*schema.CocoonHello](dialers)
			*h = *d
		}}), want: ErrReflected},
		{name: "reflected side", attack: present(change{side: 1}), want: ErrProof},
		{name: "version nobody speaks", attack: present(change{hello: func(h *schema.CocoonHello, _ []byte) { h.MinVersion, h.MaxVersion = 2, 3 }}), want: ErrVersion},
		{name: "another statement than announced", attack: present(change{hello: func(h *schema.CocoonHello, _ []byte) { h.Statement[0]++ }}), want: ErrDigest},
		{name: "statement withheld", attack: present(change{noBundle: true}), want: ErrDigest},
		{name: "foreign network", attack: present(change{issuer: func(c *IssuerConfig) { c.NetworkID[0]++ }}), want: ErrNetworkID},
		{name: "foreign block", attack: present(change{issuer: func(c *IssuerConfig) { c.Chain = newChain("theirs") }}), want: ErrForeign},
		{name: "block before ours", attack: present(change{issuer: func(c *IssuerConfig) {
			c.Chain = at{c.Chain.(*testChain), 1000 - 601}
		}}), want: ErrOldBlock},
		{name: "old block with a false date", attack: present(change{issuer: func(c *IssuerConfig) {
			c.Chain = dated{at{c.Chain.(*testChain), 1000 - 601}}
		}}), want: ErrForeign},
		{name: "block far after ours", attack: present(change{issuer: func(c *IssuerConfig) {
			ahead := newChain("ours")
			ahead.set(2000, time.Now().Add(11*time.Minute))
			c.Chain = ahead
		}}), want: ErrBehind},
		{name: "no block", attack: present(change{issuer: func(c *IssuerConfig) { c.Chain = blockless{} }}), want: ErrNoBlock},
		{name: "our chain halted for 20 minutes", attack: present(change{}), victim: func(w *world, v *VerifierConfig) {
			v.Chain = halted{w.chain, 20 * time.Minute}
		}, want: ErrHalted},
		{name: "our clock stopped in the past", attack: present(change{}), victim: func(w *world, v *VerifierConfig) {
			// The chain's clock goes on: certificates that ended do not count.
			stopped := time.Now()
			v.Now = func() time.Time { return stopped }
			w.chain.set(1000, time.Date(2050, 6, 1, 0, 0, 0, 0, time.UTC))
		}, want: dcap.ErrChainDate},
		{name: "certificate and statement of different images", attack: present(change{}), image: workImage, want: ErrImages},
		{name: "statement without the contract key", attack: present(change{bundle: func(b *Bundle) { b.ContractSignature = nil }}), want: ErrContractKey},
		{name: "signed by another contract key", attack: present(change{issuer: func(c *IssuerConfig) { c.ContractKey = newContractKey(4) }}), want: ErrContractKey},
		{name: "somebody else's contract", attack: present(change{issuer: func(c *IssuerConfig) {
			f, _ := c.Facts()
			f.Owner.Hash[0]++
			c.Facts = func() (Facts, error) { return f, nil }
		}}), want: ErrContract},
		{name: "successor nobody signed", attack: present(change{bundle: func(b *Bundle) {
			b.Predecessor, b.SuccessorSignature = newContractKey(5).public(), make([]byte, 64)
		}}), want: ErrSuccessor},
		{name: "quote over another statement", attack: present(change{issuer: func(c *IssuerConfig) { c.Attester = misbound{c.Attester} }}), want: attest.ErrReportData},
		{name: "no quote", attack: present(change{issuer: func(c *IssuerConfig) { c.Attester = nil }}), want: attest.ErrNoEvidence},
		{name: "oversized quote", attack: present(change{bundle: func(b *Bundle) { b.Evidence.Quote = make([]byte, MaxQuote+1) }}), want: ErrSize},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			verifier := w.verifier(cocoon.RoleProxy)
			if tt.victim != nil {
				tt.victim(w, &verifier)
			}
			image := tt.image
			if image == (simulated.Registers{}) {
				image = proxyImage
			}
			p, _ := w.listen(w.tls(w.guest(image), tt.attack(w)))
			_, err := w.dial(p, w.tls(w.guest(workImage), w.sessions(w.workerIssuer(), verifier).Handshake))
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Fatalf("%v, want %v", err, tt.want)
			}
		})
	}
}

// What the wrappers of the attack table do.

type misbound struct{ Attester }

func (m misbound) Attest(ctx context.Context, data [64]byte) (attest.Evidence, error) {
	data[0]++
	return m.Attester.Attest(ctx, data)
}

type dated struct{ at }

func (d dated) Newest() (Block, time.Duration) {
	b, _ := d.at.Newest()
	b.Time = time.Now().Truncate(time.Second)
	return b, 0
}

type blockless struct{}

func (blockless) Newest() (Block, time.Duration) {
	return Block{FileHash: [32]byte{}, Seqno: 0, Time: time.Unix(0, 0)}, 0
}

func (blockless) Lookup(context.Context, uint32) (Block, error) { return Block{}, errors.New("none") }

type halted struct {
	*testChain
	since time.Duration
}

func (h halted) Newest() (Block, time.Duration) {
	b, _ := h.testChain.Newest()
	return b, h.since
}

// Level 0 where level 1 is required is refused on either side.
func TestDowngrade(t *testing.T) {
	w := newWorld(t)
	cfg := w.tls(w.guest(proxyImage), nil)
	cfg.Level0 = true
	p, _ := w.listen(cfg)
	if _, err := w.dial(p, w.tls(w.guest(workImage), w.sessions(w.workerIssuer(), w.verifier(cocoon.RoleProxy)).Handshake)); !errors.Is(err, ErrLevel) {
		t.Errorf("a dialer: %v, want ErrLevel", err)
	}
	p, accepted := w.listen(w.tls(w.guest(proxyImage), w.sessions(w.proxyIssuer(), w.verifier(cocoon.RoleWorker)).Handshake))
	old := w.tls(w.guest(workImage), nil)
	old.Level0 = true
	c, err := w.dial(p, old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || len(accepted) > 0 {
		t.Errorf("an acceptor that requires level 1 took a peer of level 0 (%v)", err)
	}
}

// Where level 1 is not required, a peer of level 0 is served, without a
// session.
func TestLevel0Allowed(t *testing.T) {
	w := newWorld(t)
	m := w.sessions(w.proxyIssuer(), w.verifier(cocoon.RoleWorker))
	m.cfg.Required = false
	p, accepted := w.listen(w.tls(w.guest(proxyImage), m.Handshake))
	old := w.tls(w.guest(workImage), nil)
	old.Level0 = true
	if _, err := w.dial(p, old); err != nil {
		t.Fatal(err)
	}
	c := <-accepted
	defer c.Close()
	if c.Peer.Node != nil || c.Session != nil || c.Peer.Level != 0 {
		t.Errorf("a peer of level 0 has a session: %+v", c.Peer)
	}
}

// A refusal reaches the dialer as a text, fit for one line.
func TestRefusalIsHeard(t *testing.T) {
	w := newWorld(t)
	issuer := w.workerIssuer()
	issuer.NetworkID[0]++
	p, _ := w.listen(w.tls(w.guest(proxyImage), w.sessions(w.proxyIssuer(), w.verifier(cocoon.RoleWorker)).Handshake))
	_, err := w.dial(p, w.tls(w.guest(workImage), w.sessions(issuer, w.verifier(cocoon.RoleProxy)).Handshake))
	if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), ErrNetworkID.Error()) {
		t.Errorf("%v, want ErrRefused naming the network", err)
	}
}

// Sessions are renewed while both ends can, and stop taking requests when not.
func TestRenewal(t *testing.T) {
	for _, tt := range []struct {
		name   string
		broken func(w *world, after time.Duration) bool // no renewal from then on
		want   error
	}{
		{name: "renewed", broken: func(*world, time.Duration) bool { return false }},
		{name: "the peer answers no more", broken: func(_ *world, after time.Duration) bool { return after > 20*time.Minute }, want: ErrExpired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newBubble(t)
				worker, proxy := w.pair()
				begin := time.Now()
				ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
				defer cancel()
				go func() { // a chain that moves
					for seqno := uint32(1000); ctx.Err() == nil; seqno += 10 {
						w.chain.set(seqno, time.Now())
						select {
						case <-ctx.Done():
						case <-time.After(10 * time.Second):
						}
					}
				}()
				first := worker.Session.Node().Digest
				asked := 0
				err := worker.Session.Keep(ctx, func(ctx context.Context, q []byte) ([]byte, error) {
					if tt.broken(w, time.Since(begin)) {
						return nil, errors.New("silence")
					}
					asked++
					b, mine, err := proxy.Session.Answer(ctx, q)
					if !mine {
						t.Error("not a query of the session")
					}
					return b, err
				})
				if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Fatalf("%v, want %v", err, tt.want)
				}
				switch {
				case tt.want == nil:
					if asked < 20 || worker.Session.Node().Digest == first {
						t.Errorf("%d queries in an hour; statement renewed: %v", asked, worker.Session.Node().Digest != first)
					}
					if err := errors.Join(worker.Session.Usable(), proxy.Session.Usable()); err != nil {
						t.Error(err)
					}
				default:
					if lived := time.Since(begin); lived < 25*time.Minute || lived > 40*time.Minute {
						t.Errorf("ended after %s", lived)
					}
					if err := worker.Session.Usable(); !errors.Is(err, ErrExpired) {
						t.Errorf("usable: %v", err)
					}
				}
				cancel()
				worker.Close()
				proxy.Close()
			})
		})
	}
}

// Evidence that runs out before a statement's time ends its use.
func TestEvidenceRunsOut(t *testing.T) {
	w := newWorld(t)
	v, err := NewVerifier(w.verifier(cocoon.RoleProxy))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ left, want time.Duration }{{time.Hour, UsableFor}, {time.Minute, time.Minute}, {-time.Minute, -time.Minute}} {
		got := v.until(&attest.Result{Expires: time.Now().Add(tt.left)}) - v.ticks.now()
		if got > tt.want || got < tt.want-10*time.Second {
			t.Errorf("%s of evidence left: usable for %s, want %s", tt.left, got, tt.want)
		}
	}
	if got := v.until(&attest.Result{}) - v.ticks.now(); got < UsableFor-10*time.Second {
		t.Errorf("evidence without an end: %s", got)
	}
}

// A renewal that shows another node ends the session.
func TestRenewalByAnother(t *testing.T) {
	w := newWorld(t)
	worker, _ := w.pair()
	s := worker.Session.(*session)
	other := *s.current.node
	other.Model = "another"
	if err := same(s.current.node, &other); !errors.Is(err, ErrChanged) {
		t.Errorf("%v, want ErrChanged", err)
	}
}

// Verdicts are remembered: the second connection sends no evidence. So are
// refusals, for a minute.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t)
		v, err := NewVerifier(w.verifier(cocoon.RoleProxy))
		if err != nil {
			t.Fatal(err)
		}
		i, err := NewIssuer(w.proxyIssuer())
		if err != nil {
			t.Fatal(err)
		}
		own, err := i.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.VerifyBundle(t.Context(), own.Bundle); err != nil {
			t.Fatal(err)
		}
		if v.known(own.Digest) == nil {
			t.Fatal("not remembered")
		}
		time.Sleep(UsableFor)
		if v.known(own.Digest) != nil {
			t.Error("remembered for too long")
		}

		b, _ := ParseBundle(own.Bundle)
		b.Evidence.Quote[700]++
		w.chain.set(1000, time.Now())
		bad := b.Encode()
		_, first := v.VerifyBundle(t.Context(), bad)
		_, again := v.VerifyBundle(t.Context(), bad)
		if first == nil || first != again {
			t.Errorf("%v, then %v: want the same refusal, remembered", first, again)
		}
		time.Sleep(failureLife)
		if _, later := v.VerifyBundle(t.Context(), bad); later == nil || later == first {
			t.Errorf("%v: want a new refusal", later)
		}
	})
}

// An old statement of a node does not come back after newer ones.
func TestCounter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t)
		v, err := NewVerifier(w.verifier(cocoon.RoleProxy))
		if err != nil {
			t.Fatal(err)
		}
		cfg := w.proxyIssuer()
		owner := proxyOwner
		facts := cfg.Facts
		cfg.Facts = func() (Facts, error) {
			f, err := facts()
			f.Owner = owner
			f.Contract, _ = deriveContract(f.ContractKey, owner)
			return f, err
		}
		i, err := NewIssuer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var all []*Issued
		for n := range 3 {
			owner.Hash[31] = byte(n) // new facts, new statement
			s, err := i.Current(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, s)
		}
		if _, err := v.VerifyBundle(t.Context(), all[2].Bundle); err != nil {
			t.Fatal(err)
		}
		if _, err := v.VerifyBundle(t.Context(), all[0].Bundle); !errors.Is(err, ErrReplayed) {
			t.Errorf("%v, want ErrReplayed", err)
		}
	})
}

// wrongBlock is a chain whose newest block is another one in one respect.
type wrongBlock struct {
	*testChain
	change func(*Block)
}

func (c wrongBlock) Newest() (Block, time.Duration) {
	b, still := c.testChain.Newest()
	c.change(&b)
	return b, still
}

// Every part of a statement's block counts.
func TestBlockInEveryPart(t *testing.T) {
	w := newWorld(t)
	v, err := NewVerifier(w.verifier(cocoon.RoleWorker))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*Block)
		want   error
	}{
		"as it is":  {func(*Block) {}, nil},
		"number":    {func(b *Block) { b.Seqno-- }, ErrForeign},
		"root hash": {func(b *Block) { b.RootHash[31] ^= 1 }, ErrForeign},
		"file hash": {func(b *Block) { b.FileHash[31] ^= 1 }, ErrForeign},
		"time":      {func(b *Block) { b.Time = b.Time.Add(-time.Second) }, ErrForeign},
	} {
		cfg := w.workerIssuer()
		cfg.Chain = wrongBlock{w.chain, tt.change}
		i, err := NewIssuer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		own, err := i.Current(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := v.VerifyBundle(t.Context(), own.Bundle); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// What a role does not have must be absent, and what it has must be there; an
// encoding that says otherwise is refused before anything is verified.
func TestStatementRules(t *testing.T) {
	block := Block{Seqno: 7, RootHash: [32]byte{1}, FileHash: [32]byte{2}, Time: time.Unix(1700000000, 0)}
	contract := cocoon.Address{Hash: [32]byte{5}}
	good := map[cocoon.Role]Statement{
		cocoon.RoleClient: {Role: cocoon.RoleClient, NodeKey: [32]byte{1}},
		cocoon.RoleProxy: {Role: cocoon.RoleProxy, NetworkID: networkID, NodeKey: [32]byte{1}, Contract: contract, ContractKey: [32]byte{6},
			Owner: proxyOwner, Block: block, Counter: 1, Build: "b"},
		cocoon.RoleWorker: {Role: cocoon.RoleWorker, NetworkID: networkID, NodeKey: [32]byte{1}, SealKey: []byte{1}, Model: "m@1:2",
			Owner: workOwner, GPU: [32]byte{3}, Block: block, Counter: 1},
	}
	for role, s := range good {
		if _, err := Parse(s.Encode()); err != nil {
			t.Errorf("a good %s: %v", role, err)
		}
	}
	for name, tt := range map[string]struct {
		role   cocoon.Role
		change func(*Statement)
	}{
		"client without node key":       {cocoon.RoleClient, func(s *Statement) { s.NodeKey = [32]byte{} }},
		"client with a network":         {cocoon.RoleClient, func(s *Statement) { s.NetworkID = networkID }},
		"client with a block":           {cocoon.RoleClient, func(s *Statement) { s.Block = block }},
		"client with an owner":          {cocoon.RoleClient, func(s *Statement) { s.Owner = workOwner }},
		"client with a counter":         {cocoon.RoleClient, func(s *Statement) { s.Counter = 1 }},
		"client with a model":           {cocoon.RoleClient, func(s *Statement) { s.Model = "m@1:2" }},
		"client with a seal key":        {cocoon.RoleClient, func(s *Statement) { s.SealKey = []byte{1} }},
		"client with a contract":        {cocoon.RoleClient, func(s *Statement) { s.Contract = contract }},
		"proxy without node key":        {cocoon.RoleProxy, func(s *Statement) { s.NodeKey = [32]byte{} }},
		"proxy without contract":        {cocoon.RoleProxy, func(s *Statement) { s.Contract = cocoon.Address{} }},
		"proxy without contract key":    {cocoon.RoleProxy, func(s *Statement) { s.ContractKey = [32]byte{} }},
		"proxy without owner":           {cocoon.RoleProxy, func(s *Statement) { s.Owner = cocoon.Address{} }},
		"proxy with a model":            {cocoon.RoleProxy, func(s *Statement) { s.Model = "m@1:2" }},
		"proxy with a seal key":         {cocoon.RoleProxy, func(s *Statement) { s.SealKey = []byte{1} }},
		"proxy with GPUs":               {cocoon.RoleProxy, func(s *Statement) { s.GPU = [32]byte{1} }},
		"proxy without counter":         {cocoon.RoleProxy, func(s *Statement) { s.Counter = 0 }},
		"worker without node key":       {cocoon.RoleWorker, func(s *Statement) { s.NodeKey = [32]byte{} }},
		"worker without model":          {cocoon.RoleWorker, func(s *Statement) { s.Model = "" }},
		"worker without owner":          {cocoon.RoleWorker, func(s *Statement) { s.Owner = cocoon.Address{} }},
		"worker with a contract":        {cocoon.RoleWorker, func(s *Statement) { s.Contract = contract }},
		"worker with a contract key":    {cocoon.RoleWorker, func(s *Statement) { s.ContractKey = [32]byte{1} }},
		"worker without counter":        {cocoon.RoleWorker, func(s *Statement) { s.Counter = 0 }},
		"worker with a negative number": {cocoon.RoleWorker, func(s *Statement) { s.Counter = 1 << 63 }},
	} {
		s := good[tt.role]
		tt.change(&s)
		if _, err := Parse(s.Encode()); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

// A bundle's parts belong together.
func TestBundleRules(t *testing.T) {
	good := Bundle{Statement: []byte("s"), Evidence: attest.Evidence{Format: attest.FormatSEVSNP, Quote: []byte("q"), Certificate: []byte("c")}}
	if _, err := ParseBundle(good.Encode()); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*Bundle)
		want   error
	}{
		"a quote without a format":           {func(b *Bundle) { b.Evidence.Format, b.Evidence.Certificate = attest.FormatNone, nil }, ErrFormat},
		"a certificate without a format":     {func(b *Bundle) { b.Evidence.Format, b.Evidence.Quote = attest.FormatNone, nil }, ErrFormat},
		"half a signature":                   {func(b *Bundle) { b.ContractSignature = make([]byte, 32) }, ErrFormat},
		"half a successor's signature":       {func(b *Bundle) { b.Predecessor, b.SuccessorSignature = [32]byte{1}, make([]byte, 32) }, ErrFormat},
		"a predecessor without signature":    {func(b *Bundle) { b.Predecessor = [32]byte{1} }, ErrFormat},
		"a signature without a predecessor":  {func(b *Bundle) { b.SuccessorSignature = make([]byte, 64) }, ErrFormat},
		"a statement of more than its bound": {func(b *Bundle) { b.Statement = make([]byte, MaxStatement+1) }, ErrSize},
		"a quote of more than its bound":     {func(b *Bundle) { b.Evidence.Quote = make([]byte, MaxQuote+1) }, ErrSize},
		"an endless certificate":             {func(b *Bundle) { b.Evidence.Certificate = make([]byte, maxCertificate+1) }, ErrSize},
	} {
		b := good
		tt.change(&b)
		if _, err := ParseBundle(b.Encode()); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

// On public networks statements of simulated machines are refused, whatever
// the policy accepts; a client needs no evidence there either.
func TestPublicNetworks(t *testing.T) {
	w := newWorld(t)
	for _, id := range []int32{-239, -3} {
		for role, issuer := range map[cocoon.Role]IssuerConfig{
			cocoon.RoleProxy: w.proxyIssuer(), cocoon.RoleWorker: w.workerIssuer(), cocoon.RoleClient: {Role: cocoon.RoleClient},
		} {
			cfg := w.verifier(role)
			cfg.GlobalID = id
			v, err := NewVerifier(cfg)
			if err != nil {
				t.Fatal(err)
			}
			i, err := NewIssuer(issuer)
			if err != nil {
				t.Fatal(err)
			}
			own, err := i.Current(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, err = v.VerifyBundle(t.Context(), own.Bundle)
			if role == cocoon.RoleClient {
				if err != nil {
					t.Errorf("global id %d, a client: %v", id, err)
				}
			} else if !errors.Is(err, attest.ErrNetwork) {
				t.Errorf("global id %d, a simulated %s: %v, want ErrNetwork", id, role, err)
			}
		}
	}
}

// silent finds no statements of a vendor.
type silent struct{}

var errSilent = errors.New("nobody answers")

func (silent) Endorsements(context.Context, attest.Evidence) (*attest.Endorsements, error) {
	return nil, errSilent
}

// Statements of the vendor that are looked for must be found, also where the
// evidence alone would pass; and that they were not is not remembered.
func TestEndorsementsMissing(t *testing.T) {
	w := newWorld(t)
	cfg := w.verifier(cocoon.RoleWorker)
	cfg.Endorser = silent{}
	v, err := NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	i, err := NewIssuer(w.workerIssuer())
	if err != nil {
		t.Fatal(err)
	}
	own, err := i.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.VerifyBundle(t.Context(), own.Bundle); !errors.Is(err, attest.ErrEndorsements) || !errors.Is(err, errSilent) {
		t.Errorf("%v, want ErrEndorsements and its cause", err)
	}
	v.cfg.Endorser = simulated.Endorser{Vendor: w.vendor}
	if _, err := v.VerifyBundle(t.Context(), own.Bundle); err != nil {
		t.Errorf("once they are found: %v", err)
	}
}

// A hello's nonce is good for one proof, and not for long.
func TestProofsOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		between time.Duration
		twice   bool
		want    error
	}{
		"in time": {proveWithin, false, nil},
		"late":    {proveWithin + time.Second, false, ErrFormat},
		"twice":   {0, true, ErrFormat},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newBubble(t)
				worker, proxy := w.pair()
				defer worker.Close()
				defer proxy.Close()
				mine, other := worker.Session.(*session), proxy.Session.(*session)
				err := mine.dial(t.Context(), func(ctx context.Context, q []byte) ([]byte, error) {
					if schema.ID(q) != (*schema.CocoonProve)(nil).TLID() {
						return other.answerOpen(ctx, q)
					}
					time.Sleep(tt.between)
					if tt.twice {
						if _, err := other.answerProve(ctx, q); err != nil {
							t.Errorf("the first proof: %v", err)
						}
					}
					return other.answerProve(ctx, q)
				})
				if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Errorf("%v, want %v", err, tt.want)
				}
			})
		})
	}
}

// What a node is does not change while a connection lives, and certificate and
// statement agree in kind and image.
func TestSameNode(t *testing.T) {
	node := func(change func(*tee.Node, *attest.Result)) *tee.Node {
		r := &attest.Result{Kind: attest.TDX, ImageHash: attest.ImageHash{1}}
		n := &tee.Node{Role: cocoon.RoleWorker, Key: [32]byte{1}, Model: "m@1:2", Owner: workOwner, Result: r}
		change(n, r)
		return n
	}
	was := node(func(*tee.Node, *attest.Result) {})
	for name, tt := range map[string]struct {
		change func(*tee.Node, *attest.Result)
		want   error
	}{
		"nothing":      {func(*tee.Node, *attest.Result) {}, nil},
		"seal key":     {func(n *tee.Node, _ *attest.Result) { n.SealKey = []byte{1} }, nil},
		"contract":     {func(n *tee.Node, _ *attest.Result) { n.Contract.Hash[0]++ }, nil},
		"node key":     {func(n *tee.Node, _ *attest.Result) { n.Key[0]++ }, ErrChanged},
		"role":         {func(n *tee.Node, _ *attest.Result) { n.Role = cocoon.RoleProxy }, ErrChanged},
		"model":        {func(n *tee.Node, _ *attest.Result) { n.Model = "m@1:3" }, ErrChanged},
		"owner":        {func(n *tee.Node, _ *attest.Result) { n.Owner = proxyOwner }, ErrChanged},
		"contract key": {func(n *tee.Node, _ *attest.Result) { n.ContractKey[0]++ }, ErrChanged},
		"kind":         {func(_ *tee.Node, r *attest.Result) { r.Kind = attest.Simulated }, ErrChanged},
		"image":        {func(_ *tee.Node, r *attest.Result) { r.ImageHash[0]++ }, ErrChanged},
	} {
		if err := same(was, node(tt.change)); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("another %s: %v, want %v", name, err, tt.want)
		}
	}
	v := &Verifier{cfg: VerifierConfig{Role: cocoon.RoleWorker}}
	for name, tt := range map[string]struct {
		peer tee.Peer
		want error
	}{
		"equal":         {tee.Peer{Kind: attest.TDX, ImageHash: attest.ImageHash{1}}, nil},
		"another image": {tee.Peer{Kind: attest.TDX, ImageHash: attest.ImageHash{2}}, ErrImages},
		"another kind":  {tee.Peer{Kind: attest.Simulated, ImageHash: attest.ImageHash{1}}, ErrImages},
		"no evidence":   {tee.Peer{Kind: attest.None}, ErrImages},
	} {
		if err := v.sameImage(tt.peer, was.Result); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("certificate, %s: %v, want %v", name, err, tt.want)
		}
	}
}

// slow is a platform that takes as long as it is told for its next quotes.
type slow struct {
	Attester
	takes chan time.Duration
}

func (s slow) Attest(ctx context.Context, data [64]byte) (attest.Evidence, error) {
	time.Sleep(<-s.takes)
	return s.Attester.Attest(ctx, data)
}

// A renewal that takes long does not put its statement in the place of a newer
// one, which was made since because the node's facts changed.
func TestRenewalOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t)
		cfg := w.workerIssuer()
		takes := make(chan time.Duration, 3)
		cfg.Attester = slow{cfg.Attester, takes}
		facts, _ := workerFacts()
		cfg.Facts = func() (Facts, error) { return facts, nil }
		i, err := NewIssuer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		current := func() uint64 {
			t.Helper()
			is, err := i.Current(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return is.Statement.Counter
		}
		takes <- 0
		if n := current(); n != 1 {
			t.Fatalf("the first statement has number %d", n)
		}
		time.Sleep(renewAfter)
		takes <- 10 * time.Second
		if n := current(); n != 1 { // and renews beside it
			t.Fatalf("number %d while it is renewed", n)
		}
		synctest.Wait()
		facts.Model = "m@2:3"
		takes <- 0
		if n := current(); n != 3 {
			t.Fatalf("number %d after the facts changed", n)
		}
		time.Sleep(time.Minute) // the renewal ends
		synctest.Wait()
		if n := current(); n != 3 {
			t.Errorf("number %d came after number 3", n)
		}
	})
}

// patient is a chain that waits for blocks it has not seen, as ours do.
type patient struct{ *testChain }

func (p patient) Lookup(ctx context.Context, seqno uint32) (Block, error) {
	if head, _ := p.Newest(); seqno > head.Seqno {
		<-ctx.Done()
		return Block{}, context.Cause(ctx)
	}
	return p.testChain.Lookup(ctx, seqno)
}

// Statements that name blocks of the future have us wait for them: that holds
// up their own address, and nobody else, however many addresses do it.
func TestWaitingHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newBubble(t)
		cfg := w.verifier(cocoon.RoleWorker)
		cfg.Chain = patient{w.chain}
		v, err := NewVerifier(cfg)
		if err != nil {
			t.Fatal(err)
		}
		future := newChain("ours")
		future.set(1001, time.Now().Add(time.Second))
		appraise := func(addr string, chain Chain) (time.Duration, error) {
			t.Helper()
			own := w.workerIssuer()
			own.Chain = chain
			i, err := NewIssuer(own)
			if err != nil {
				t.Fatal(err)
			}
			is, err := i.Current(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b, err := ParseBundle(is.Bundle)
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			_, err = v.appraise(t.Context(), &card{}, tee.Peer{Addr: addr}, b, is.Statement, is.Bundle)
			return time.Since(begin), err
		}
		var waiting sync.WaitGroup
		for n := range 4 * runtime.GOMAXPROCS(0) {
			waiting.Go(func() {
				if took, err := appraise(fmt.Sprintf("192.0.2.%d:1", n), future); !errors.Is(err, ErrForeign) || took != lookupLimit {
					t.Errorf("a block of the future: %v after %s", err, took)
				}
			})
		}
		synctest.Wait()
		if took, err := appraise("198.51.100.1:1", w.chain); err != nil || took != 0 {
			t.Errorf("an honest peer beside them: %v after %s", err, took)
		}
		if took, err := appraise("192.0.2.0:2", w.chain); err != nil || took == 0 {
			t.Errorf("of an address that has us wait: %v after %s, want it to wait its turn", err, took)
		}
		waiting.Wait()
	})
}

// BenchmarkHandshake compares mutual RA-TLS with and without a session whose
// statements are known on both sides, and mutual TLS without any evidence.
func BenchmarkHandshake(b *testing.B) {
	for _, level := range []int{-1, 0, 1} {
		name := "mutual TLS"
		if level >= 0 {
			name = fmt.Sprintf("level %d", level)
		}
		b.Run(name, func(b *testing.B) {
			w := newWorld(b)
			server := w.tls(w.guest(proxyImage), nil)
			client := w.tls(w.guest(workImage), nil)
			if level < 0 {
				for _, c := range []*ratls.Config{&server, &client} {
					c.Identity, c.Policy, c.Level0 = ratls.NewIdentity(ratls.IdentityConfig{}), attest.OpenPolicy(), true
				}
			}
			if level == 1 {
				server.Session = w.sessions(w.proxyIssuer(), w.verifier(cocoon.RoleWorker)).Handshake
				client.Session = w.sessions(w.workerIssuer(), w.verifier(cocoon.RoleProxy)).Handshake
			}
			p := w.listener()
			l, err := ratls.Listen(p, server)
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			go func() {
				for {
					c, err := l.Accept(context.Background())
					if err != nil {
						return
					}
					go func() { // until the dialer has gone
						_, _ = c.Read(make([]byte, 1))
						c.Close()
					}()
				}
			}()
			reach(&client, p)
			d, err := ratls.NewDialer(client)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				c, err := d.Dial(context.Background(), p.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				c.Close()
			}
		})
	}
}
