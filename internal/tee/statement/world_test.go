//go:build !tee

package statement

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
	"github.com/cocoon-network/cocoon/internal/wire"
)

const globalID = -217

var (
	networkID  = sha256.Sum256([]byte("this network"))
	proxyImage = simulated.Image("proxy")
	workImage  = simulated.Image("worker")
	proxyOwner = cocoon.Address{Hash: [32]byte{1}}
	workOwner  = cocoon.Address{Hash: [32]byte{2}}
)

// testChain is a chain whose blocks follow from their numbers.
type testChain struct {
	name string
	mu   sync.Mutex
	head Block
	came time.Time
}

func newChain(name string) *testChain {
	c := &testChain{name: name}
	c.set(1000, time.Now())
	return c
}

func (c *testChain) block(seqno uint32, at time.Time) Block {
	root := sha256.Sum256(fmt.Appendf(nil, "%s root %d", c.name, seqno))
	return Block{Seqno: seqno, RootHash: root, FileHash: sha256.Sum256(root[:]), Time: at.Truncate(time.Second)}
}

func (c *testChain) set(seqno uint32, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.head, c.came = c.block(seqno, at), time.Now()
}

func (c *testChain) Newest() (Block, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.head, time.Since(c.came)
}

// Lookup: blocks are a second apart.
func (c *testChain) Lookup(ctx context.Context, seqno uint32) (Block, error) {
	head, _ := c.Newest()
	if seqno > head.Seqno {
		return Block{}, fmt.Errorf("no block %d", seqno)
	}
	return c.block(seqno, head.Time.Add(-time.Duration(head.Seqno-seqno)*time.Second)), nil
}

// at is a chain as it stood at an earlier block.
type at struct {
	*testChain
	seqno uint32
}

func (a at) Newest() (Block, time.Duration) {
	b, _ := a.Lookup(context.Background(), a.seqno)
	return b, 0
}

// contractKey stands for a proxy's contract key.
type contractKey struct{ key ed25519.PrivateKey }

func newContractKey(seed byte) contractKey {
	return contractKey{ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))}
}

func (k contractKey) public() [32]byte { return [32]byte(k.key.Public().(ed25519.PublicKey)) }

func (k contractKey) SignStatement(digest [32]byte) [64]byte {
	return [64]byte(ed25519.Sign(k.key, append([]byte(wire.LabelProxyStatement), digest[:]...)))
}

func (k contractKey) successor(next [32]byte) []byte {
	return ed25519.Sign(k.key, append([]byte(wire.LabelSuccessor), next[:]...))
}

func deriveContract(key [32]byte, owner cocoon.Address) (cocoon.Address, error) {
	return cocoon.Address{Hash: sha256.Sum256(append(key[:], owner.Hash[:]...))}, nil
}

func proxyFacts(k contractKey) func() (Facts, error) {
	return func() (Facts, error) {
		c, _ := deriveContract(k.public(), proxyOwner)
		return Facts{Contract: c, ContractKey: k.public(), Owner: proxyOwner}, nil
	}
}

func workerFacts() (Facts, error) { return Facts{Model: "m@1:2", Owner: workOwner}, nil }

// world is where nodes live: a vendor, a chain. In a bubble connections are
// pipes, elsewhere they are TCP, which takes the last words of whoever closes.
type world struct {
	t      testing.TB
	bubble bool
	vendor *simulated.Vendor
	chain  *testChain
}

func newWorld(t testing.TB) *world {
	t.Helper()
	v, err := simulated.New(bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, vendor: v, chain: newChain("ours")}
}

// newBubble is newWorld in a bubble of synctest, at a time at which simulated
// certificates are valid.
func newBubble(t testing.TB) *world {
	t.Helper()
	time.Sleep(time.Until(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	w := newWorld(t)
	w.bubble = true
	return w
}

func (w *world) guest(image simulated.Registers) *simulated.Guest {
	w.t.Helper()
	g, err := w.vendor.NewGuest(simulated.GuestConfig{Registers: image})
	if err != nil {
		w.t.Fatal(err)
	}
	return g
}

func (w *world) proxyIssuer() IssuerConfig {
	k := newContractKey(3)
	return IssuerConfig{Role: cocoon.RoleProxy, Attester: w.guest(proxyImage), NetworkID: networkID, Chain: w.chain, Facts: proxyFacts(k), ContractKey: k, Build: "test"}
}

func (w *world) workerIssuer() IssuerConfig {
	return IssuerConfig{Role: cocoon.RoleWorker, Attester: w.guest(workImage), NetworkID: networkID, Chain: w.chain, Facts: workerFacts}
}

func (w *world) verifier(role cocoon.Role) VerifierConfig {
	return VerifierConfig{
		Role: role, Policy: w.vendor.Policy(attest.DeferredImages()), Endorser: simulated.Endorser{Vendor: w.vendor}, GlobalID: globalID,
		NetworkID: networkID, Chain: w.chain, Contract: deriveContract,
	}
}

func (w *world) sessions(issuer IssuerConfig, verifier VerifierConfig) *Sessions {
	w.t.Helper()
	i, err := NewIssuer(issuer)
	if err != nil {
		w.t.Fatal(err)
	}
	v, err := NewVerifier(verifier)
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := New(Config{Issuer: i, Verifier: v, Required: true})
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// tls is an endpoint of a guest (nil: none) with a session of its own making.
func (w *world) tls(g ratls.Attester, session func(context.Context, *tee.Conn, bool) error) ratls.Config {
	return ratls.Config{
		Identity: ratls.NewIdentity(ratls.IdentityConfig{Attester: g}), Policy: &attest.Policy{
			Kinds: []attest.Kind{attest.Simulated, attest.None}, Roots: []attest.KeyID{w.vendor.RootKeyID()}, Images: attest.DeferredImages(),
		},
		GlobalID: globalID, PeerRole: cocoon.RoleClient, Difficulty: -1, Session: session,
	}
}

// pipes is a listener of in-memory connections.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.once.Do(func() { close(p.done) }); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *world) listener() net.Listener {
	if w.bubble {
		return newPipes()
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	return ln
}

// reach dials a listener.
func reach(cfg *ratls.Config, ln net.Listener) {
	if p, ok := ln.(*pipes); ok {
		cfg.NetDial = p.dial
	}
}

// listen serves an endpoint; accepted connections are sent on the channel.
func (w *world) listen(cfg ratls.Config) (net.Listener, <-chan *tee.Conn) {
	w.t.Helper()
	p := w.listener()
	l, err := ratls.Listen(p, cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	accepted := make(chan *tee.Conn, 16)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept(ctx)
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	w.t.Cleanup(func() {
		cancel()
		<-done
		l.Close()
		for {
			select {
			case c := <-accepted:
				c.Close()
			default:
				return
			}
		}
	})
	return p, accepted
}

// dial connects to a listener as an endpoint.
func (w *world) dial(ln net.Listener, cfg ratls.Config) (*tee.Conn, error) {
	w.t.Helper()
	reach(&cfg, ln)
	d, err := ratls.NewDialer(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := d.Dial(ctx, ln.Addr().String())
	if err == nil {
		w.t.Cleanup(func() { c.Close() })
	}
	return c, err
}
