//go:build !tee

package ratls

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/pow"
)

const testNetwork = 7

var (
	_ tee.Dialer   = (*Dialer)(nil)
	_ tee.Listener = (*Listener)(nil)
)

func testVendor(t testing.TB, seed byte) *simulated.Vendor {
	t.Helper()
	v, err := simulated.New(bytes.Repeat([]byte{seed}, simulated.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func testGuest(t testing.TB, v *simulated.Vendor, image string) *simulated.Guest {
	t.Helper()
	g, err := v.NewGuest(simulated.GuestConfig{Registers: simulated.Image(image)})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// config is a peer with the given platform that accepts what policy says.
func config(a Attester, policy *attest.Policy) Config {
	now := func() time.Time { return testTime }
	return Config{
		Identity:   NewIdentity(IdentityConfig{Attester: a, Now: now}),
		Policy:     policy,
		PeerRole:   cocoon.RoleWorker,
		GlobalID:   testNetwork,
		Difficulty: -1,
		Now:        now,
	}
}

// outcome of a handshake over a pipe.
type outcome struct {
	conn *tee.Conn
	err  error
}

// connect makes both sides shake hands over a pipe.
func connect(t testing.TB, dialing, accepting Config) (d, a outcome) {
	t.Helper()
	dialer, err := NewDialer(dialing)
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEndpoint(accepting)
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.conn, a.err = e.accept(t.Context(), far, func() {})
		if a.err != nil {
			far.Close()
		}
	}()
	d.conn, d.err = dialer.Client(t.Context(), near)
	<-done
	return d, a
}

// TestHandshake tries kinds of evidence against policies, and levels.
func TestHandshake(t *testing.T) {
	v := testVendor(t, 1)
	proxy, worker := testGuest(t, v, "proxy"), testGuest(t, v, "worker")
	stranger := testGuest(t, testVendor(t, 2), "worker")
	simulatedOnly := v.Policy(attest.DeferredImages())
	fakeOnly := &attest.Policy{Kinds: []attest.Kind{attest.Fake}}
	open := attest.OpenPolicy()

	for name, c := range map[string]struct {
		dialing, accepting Config
		change             func(dialing, accepting *Config)
		dialErr, acceptErr error
		level              int
		dialSees           attest.Kind
		acceptSees         attest.Kind
	}{
		"simulated":         {dialing: config(worker, simulatedOnly), accepting: config(proxy, simulatedOnly), level: 1, dialSees: attest.Simulated, acceptSees: attest.Simulated},
		"client without":    {dialing: config(nil, simulatedOnly), accepting: config(proxy, open), level: 1, dialSees: attest.Simulated, acceptSees: attest.None},
		"fake":              {dialing: config(FakeAttester{}, fakeOnly), accepting: config(FakeAttester{}, fakeOnly), level: 1, dialSees: attest.Fake, acceptSees: attest.Fake},
		"none":              {dialing: config(nil, open), accepting: config(nil, open), level: 1, dialSees: attest.None, acceptSees: attest.None},
		"listed image":      {dialing: config(worker, v.Policy(attest.ListedImages(proxy.ImageHash()))), accepting: config(proxy, simulatedOnly), level: 1, dialSees: attest.Simulated, acceptSees: attest.Simulated},
		"dialer level 0":    {dialing: config(nil, open), accepting: config(nil, open), change: func(d, _ *Config) { d.Level0 = true }, dialSees: attest.None, acceptSees: attest.None},
		"acceptor level 0":  {dialing: config(nil, open), accepting: config(nil, open), change: func(_, a *Config) { a.Level0 = true }, dialSees: attest.None, acceptSees: attest.None},
		"other image":       {dialing: config(worker, v.Policy(attest.ListedImages(worker.ImageHash()))), accepting: config(proxy, simulatedOnly), dialErr: attest.ErrImage},
		"dialer refused":    {dialing: config(stranger, simulatedOnly), accepting: config(proxy, simulatedOnly), acceptErr: attest.ErrRoot},
		"nothing presented": {dialing: config(nil, simulatedOnly), accepting: config(proxy, simulatedOnly), acceptErr: attest.ErrNoEvidence},
		"fake presented":    {dialing: config(FakeAttester{}, simulatedOnly), accepting: config(proxy, simulatedOnly), acceptErr: attest.ErrKind},
		"no policy":         {dialing: config(worker, nil), accepting: config(proxy, simulatedOnly), dialErr: attest.ErrRejectsAll},
		"mainnet, simulated": {dialing: config(worker, simulatedOnly), accepting: config(proxy, simulatedOnly),
			change: func(_, a *Config) { a.GlobalID = -239 }, acceptErr: attest.ErrNetwork},
		"testnet, none": {dialing: config(nil, open), accepting: config(nil, open),
			change: func(_, a *Config) { a.GlobalID = -3 }, acceptErr: attest.ErrNetwork},
		"mainnet, client": {dialing: config(nil, simulatedOnly), accepting: config(proxy, open), level: 1,
			change: func(_, a *Config) { a.GlobalID, a.PeerRole = -239, cocoon.RoleClient }, dialSees: attest.Simulated, acceptSees: attest.None},
		"statements at hand": {dialing: config(worker, simulatedOnly), accepting: config(proxy, simulatedOnly),
			change:   func(d, _ *Config) { d.Endorser = simulated.Endorser{Vendor: v, Now: d.Now} },
			level:    1,
			dialSees: attest.Simulated, acceptSees: attest.Simulated},
		"statements cannot be had": {dialing: config(worker, simulatedOnly), accepting: config(proxy, simulatedOnly),
			change:  func(d, _ *Config) { d.Endorser = brokenEndorser{} },
			dialErr: errBroken},
		"no statements on fake evidence": {dialing: config(FakeAttester{}, fakeOnly), accepting: config(FakeAttester{}, open),
			change: func(d, a *Config) { d.Endorser, a.Endorser = brokenEndorser{}, brokenEndorser{} },
			level:  1, dialSees: attest.Fake, acceptSees: attest.None},
		"statements cannot be had, and another image": {dialing: config(worker, v.Policy(attest.ListedImages(worker.ImageHash()))), accepting: config(proxy, simulatedOnly),
			change:  func(d, _ *Config) { d.Endorser = brokenEndorser{} },
			dialErr: attest.ErrImage},
		"out of date": {dialing: config(worker, simulatedOnly), accepting: config(proxy, simulatedOnly),
			change:  func(d, _ *Config) { d.Endorser = outOfDate{v} },
			dialErr: attest.ErrStatus},
		"clock of the dialer ahead": {dialing: config(nil, open), accepting: config(nil, open),
			change: func(d, _ *Config) { d.Now = func() time.Time { return testTime.Add(25 * time.Hour) } }, dialErr: ErrDate},
	} {
		t.Run(name, func(t *testing.T) {
			if c.change != nil {
				c.change(&c.dialing, &c.accepting)
			}
			d, a := connect(t, c.dialing, c.accepting)
			switch {
			case c.dialErr != nil:
				if !errors.Is(d.err, c.dialErr) {
					t.Errorf("dialer: got %v, want %v", d.err, c.dialErr)
				}
				if errors.Is(d.err, attest.ErrImage) && len(attest.Factors(d.err)) < 10 {
					t.Errorf("the refusal does not bring its scorecard: %v", attest.Factors(d.err))
				}
				return
			case c.acceptErr != nil:
				if !errors.Is(a.err, c.acceptErr) {
					t.Errorf("acceptor: got %v, want %v", a.err, c.acceptErr)
				}
				if d.err == nil {
					// TLS 1.3: the dialer learns at its first read.
					if _, err := d.conn.Read(make([]byte, 1)); !errors.Is(err, ErrRefused) {
						t.Errorf("the refused dialer reads %v, want %v", err, ErrRefused)
					}
				}
				return
			}
			if d.err != nil || a.err != nil {
				t.Fatalf("dialer: %v, acceptor: %v", d.err, a.err)
			}
			if d.conn.Peer.Level != c.level || a.conn.Peer.Level != c.level {
				t.Errorf("levels %d and %d, want %d", d.conn.Peer.Level, a.conn.Peer.Level, c.level)
			}
			if d.conn.Peer.Kind != c.dialSees || a.conn.Peer.Kind != c.acceptSees {
				t.Errorf("kinds %q and %q, want %q and %q", d.conn.Peer.Kind, a.conn.Peer.Kind, c.dialSees, c.acceptSees)
			}
			if d.conn.Peer.Key != a.conn.LocalKey || a.conn.Peer.Key != d.conn.LocalKey || d.conn.LocalKey == a.conn.LocalKey {
				t.Error("the keys do not belong together")
			}
			if c.dialSees == attest.Simulated && d.conn.Peer.ImageHash != proxy.ImageHash() {
				t.Errorf("image %s", d.conn.Peer.ImageHash)
			}
			if c.acceptSees == attest.None && a.conn.Peer.ImageHash != (attest.ImageHash{}) {
				t.Errorf("no evidence, image %s", a.conn.Peer.ImageHash)
			}
			x, err := d.conn.Exporter("EXPORTER-test", 32)
			y, err2 := a.conn.Exporter("EXPORTER-test", 32)
			if err != nil || err2 != nil || len(x) != 32 || !bytes.Equal(x, y) {
				t.Errorf("exporters differ: %x %v, %x %v", x, err, y, err2)
			}
			echo(t, d.conn, a.conn)
		})
	}
}

// brokenEndorser finds nothing, outOfDate nothing good.
type brokenEndorser struct{}

func (brokenEndorser) Endorsements(context.Context, attest.Evidence) (*attest.Endorsements, error) {
	return nil, errBroken
}

type outOfDate struct{ vendor *simulated.Vendor }

func (o outOfDate) Endorsements(context.Context, attest.Evidence) (*attest.Endorsements, error) {
	c, err := o.vendor.Collateral(simulated.Statements{At: testTime, Platform: dcap.OutOfDate})
	return &attest.Endorsements{Intel: c}, err
}

// echo sends bytes both ways.
func echo(t testing.TB, a, b net.Conn) {
	t.Helper()
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		go way[0].Write([]byte("hello"))
		got := make([]byte, 5)
		if _, err := io.ReadFull(way[1], got); err != nil || string(got) != "hello" {
			t.Errorf("read %q, %v", got, err)
		}
	}
}

// TestVersionOneCertificate connects with a certificate as OpenSSL 3.0 makes
// them for reference peers.
func TestVersionOneCertificate(t *testing.T) {
	key := testKey()
	tmpl := good(t, key)
	tmpl.version = -1
	der := tmpl.make(t, key)
	leaf, err := x509.ParseCertificate(der)
	if err != nil || leaf.Version != 1 || len(leaf.Extensions) != 0 {
		t.Fatalf("not the case to be tested: %v", err)
	}
	peer := config(nil, attest.OpenPolicy())
	peer.Identity = &Identity{cfg: peer.Identity.cfg, made: testTime, current: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}
	ours := config(nil, &attest.Policy{Kinds: []attest.Kind{attest.Fake}})

	d, a := connect(t, peer, ours)
	if d.err != nil || a.err != nil || a.conn.Peer.Kind != attest.Fake || a.conn.Peer.Key != keyOf(key) {
		t.Errorf("as a dialer: %v, %v", d.err, a.err)
	}
	d, a = connect(t, ours, peer)
	if d.err != nil || a.err != nil || d.conn.Peer.Kind != attest.Fake || d.conn.Peer.Key != keyOf(key) {
		t.Errorf("as an acceptor: %v, %v", d.err, a.err)
	}
}

// TestTLSTerms tries what other libraries may offer.
func TestTLSTerms(t *testing.T) {
	cert, err := NewIdentity(IdentityConfig{Now: func() time.Time { return testTime }}).Certificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	usual := &tls.Config{Certificates: []tls.Certificate{*cert}, InsecureSkipVerify: true}
	for name, c := range map[string]struct {
		change func(*tls.Config)
		ok     bool
	}{
		"no ALPN":             {func(*tls.Config) {}, true},
		"server name sent":    {func(c *tls.Config) { c.ServerName = "example.com" }, true},
		"TLS 1.2 only":        {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, false},
		"another protocol":    {func(c *tls.Config) { c.NextProtos = []string{"h2"} }, false},
		"no certificate":      {func(c *tls.Config) { c.Certificates = nil }, false},
		"certificate of P256": {func(c *tls.Config) { c.Certificates = []tls.Certificate{p256Certificate(t)} }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := newEndpoint(config(nil, attest.OpenPolicy()))
			if err != nil {
				t.Fatal(err)
			}
			near, far := net.Pipe()
			defer near.Close()
			go func() {
				if pow.Answer(t.Context(), near, 0) != nil {
					return
				}
				tc := usual.Clone()
				c.change(tc)
				tls.Client(near, tc).Handshake()
				io.Copy(io.Discard, near)
			}()
			conn, err := e.accept(t.Context(), far, func() {})
			far.Close()
			if (err == nil) != c.ok {
				t.Errorf("got %v, want success %v", err, c.ok)
			}
			if err == nil && conn.Peer.Level != wire.Level0 {
				t.Errorf("level %d without a common protocol", conn.Peer.Level)
			}
		})
	}
}

// tickets counts what a server gives to resume a session with.
type tickets struct{ kept atomic.Int32 }

func (*tickets) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

func (k *tickets) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		k.kept.Add(1)
	}
}

// TestNoTickets: every connection proves the certificate's key anew, so there
// is nothing to resume one with.
func TestNoTickets(t *testing.T) {
	cert, err := NewIdentity(IdentityConfig{Now: func() time.Time { return testTime }}).Certificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	e, err := newEndpoint(config(nil, attest.OpenPolicy()))
	if err != nil {
		t.Fatal(err)
	}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := e.accept(t.Context(), far, func() {})
		if err == nil {
			_, err = conn.Write([]byte("x")) // what comes before it was read then
		}
		served <- err
	}()
	if err := pow.Answer(t.Context(), near, 0); err != nil {
		t.Fatal(err)
	}
	kept := &tickets{}
	tc := tls.Client(near, &tls.Config{Certificates: []tls.Certificate{*cert}, InsecureSkipVerify: true, ClientSessionCache: kept, ServerName: "cocoon"})
	if _, err := io.ReadFull(tc, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if n := kept.kept.Load(); n != 0 {
		t.Errorf("%d tickets were given", n)
	}
}

func p256Certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: testTime, NotAfter: testTime.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestProofOfWork: the work comes first, and both sides hold the other to it.
func TestProofOfWork(t *testing.T) {
	hard := config(nil, attest.OpenPolicy())
	hard.Difficulty = 12
	weak := config(nil, attest.OpenPolicy())
	weak.MaxDifficulty = 11
	if d, _ := connect(t, weak, hard); !errors.Is(d.err, pow.ErrTooHard) {
		t.Errorf("a puzzle above the dialer's maximum: %v", d.err)
	}
	if d, a := connect(t, config(nil, attest.OpenPolicy()), hard); d.err != nil || a.err != nil {
		t.Errorf("a puzzle within it: %v, %v", d.err, a.err)
	}
	e, err := newEndpoint(hard)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		answer []byte
		err    error
	}{
		"TLS at once":  {[]byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00"), pow.ErrAnswer},
		"wrong answer": {pow.AppendAnswer(nil, -1), pow.ErrWrong},
		"silence":      {nil, ErrRefused},
	} {
		near, far := net.Pipe()
		go func() {
			puzzle := make([]byte, pow.PuzzleSize)
			io.ReadFull(near, puzzle)
			if name == "wrong answer" { // -1 could solve it by chance
				if p, err := pow.ParsePuzzle(puzzle); err == nil && p.Check(-1) {
					c.answer = pow.AppendAnswer(nil, -2)
				}
			}
			near.Write(c.answer)
			near.Close()
		}()
		_, err := e.accept(t.Context(), far, func() { t.Errorf("%s: counted as proven", name) })
		if !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, want %v", name, err, c.err)
		}
		far.Close()
	}
	for name, change := range map[string]func(*Config){
		"no identity":     func(c *Config) { c.Identity = nil },
		"no network":      func(c *Config) { c.GlobalID = 0 },
		"impossible work": func(c *Config) { c.Difficulty = 65 },
		"bad policy":      func(c *Config) { c.Policy = &attest.Policy{Kinds: []attest.Kind{attest.TDX}} },
	} {
		cfg := config(nil, attest.OpenPolicy())
		change(&cfg)
		if _, err := NewDialer(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: dialer: %v", name, err)
		}
		if _, err := Listen(newPipes(), cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: listener: %v", name, err)
		}
	}
}

// pipes is a net.Listener in memory.
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

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }
func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestSlowPeers: idle and half-finished handshakes end at the deadline and
// never hold up others. The bubble ends only if no goroutine is left.
func TestSlowPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		cfg := config(nil, attest.OpenPolicy())
		cfg.Limits = tee.Limits{Pending: 2000, PendingPerAddr: 2000}
		cfg.NetDial = p.dial
		l, err := Listen(p, cfg)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var ended sync.WaitGroup
		for i := range 1000 {
			nc, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			ended.Go(func() {
				switch i % 3 {
				case 1: // solves, then nothing
					pow.Answer(t.Context(), nc, 64)
				case 2: // solves, then a piece of a ClientHello
					pow.Answer(t.Context(), nc, 64)
					nc.Write([]byte{22, 3, 1, 2, 0, 1})
				}
				io.Copy(io.Discard, nc)
				if d := time.Since(start); d != tee.HandshakeTimeout {
					t.Errorf("peer %d was dropped after %v", i, d)
				}
			})
		}
		d, err := NewDialer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan *tee.Conn)
		go func() {
			conn, err := d.Dial(t.Context(), "pipe")
			if err != nil {
				t.Error(err)
			}
			done <- conn
		}()
		got, err := l.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		mine := <-done
		if time.Since(start) != 0 {
			t.Errorf("a good peer waited %v for bad ones", time.Since(start))
		}
		ended.Wait()
		echo(t, mine, got) // no deadline is left on it
		mine.Close()
		got.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := l.Accept(t.Context()); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
	})
}

// TestFlood: more idle peers than the listener holds. The oldest idle ones
// make room, so a good peer still comes through; one address has its share.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		cfg := config(nil, attest.OpenPolicy())
		cfg.Limits = tee.Limits{Pending: 50, PendingPerAddr: 1000}
		cfg.NetDial = p.dial
		l, err := Listen(p, cfg)
		if err != nil {
			t.Fatal(err)
		}
		var open []net.Conn
		for range 10_000 {
			nc, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, nc)
		}
		d, err := NewDialer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if conn, err := d.Dial(t.Context(), "pipe"); err != nil {
				t.Errorf("a good peer among idle ones: %v", err)
			} else {
				conn.Close()
			}
		}()
		conn, err := l.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		l.Close()
		synctest.Wait()
		for i, nc := range open {
			if _, err := io.Copy(io.Discard, nc); err != nil {
				t.Fatalf("peer %d: %v", i, err)
			}
		}

		p = newPipes()
		cfg.Limits = tee.Limits{PendingPerAddr: 3}
		if l, err = Listen(p, cfg); err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			nc, err := p.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			synctest.Wait()
			_, err = io.ReadFull(nc, make([]byte, 1))
			if refused := err != nil; refused != (i >= 3) {
				t.Errorf("connection %d of one address: %v", i, err)
			}
		}
		l.Close()
	})
}

// TestNobodyAccepts: finished handshakes wait, and Close ends them.
func TestNobodyAccepts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipes()
		cfg := config(nil, attest.OpenPolicy())
		cfg.NetDial = p.dial
		l, err := Listen(p, cfg)
		if err != nil {
			t.Fatal(err)
		}
		d, err := NewDialer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := d.Dial(t.Context(), "pipe")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		time.Sleep(time.Hour)
		l.Close()
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Error("an unaccepted connection survived Close")
		}
		conn.Close()
		if _, err := l.Accept(ctx); err == nil {
			t.Error("Accept after Close with a cancelled context")
		}
	})
}

// TestOverTCP runs many handshakes at once over real sockets.
func TestOverTCP(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := testVendor(t, 1)
	cfg := config(testGuest(t, v, "proxy"), v.Policy(attest.DeferredImages()))
	cfg.Difficulty = 4
	l, err := Listen(inner, cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDialer(config(testGuest(t, v, "worker"), v.Policy(attest.DeferredImages())))
	if err != nil {
		t.Fatal(err)
	}
	const n = 16
	var peers sync.WaitGroup
	for range n {
		peers.Go(func() {
			conn, err := d.Dial(t.Context(), l.Addr().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.Write([]byte("hello"))
			if b, err := io.ReadAll(conn); err != nil || string(b) != "world" {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
	for range n {
		c, err := l.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := io.ReadFull(c, got); err != nil || string(got) != "hello" {
			t.Errorf("read %q, %v", got, err)
		}
		c.Write([]byte("world"))
		// A reference peer closes TCP without a TLS alert: end of file all
		// the same.
		c.Conn.(*conn).NetConn().Close()
	}
	peers.Wait()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

// TestIdentity renews hourly, keeps the old certificate when it cannot, and
// fails when that has run out.
func TestIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &switchAttester{}
		id := NewIdentity(IdentityConfig{Attester: a})
		get := func() [32]byte {
			t.Helper()
			if _, err := id.Certificate(t.Context()); err != nil { // may start a renewal
				t.Fatal(err)
			}
			synctest.Wait()
			c, err := id.Certificate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return certKey(c)
		}
		first := get()
		time.Sleep(59 * time.Minute)
		if get() != first {
			t.Error("renewed too early")
		}
		time.Sleep(time.Minute)
		second := get()
		if second == first {
			t.Error("not renewed after an hour")
		}
		a.broken.Store(true)
		time.Sleep(2 * time.Hour)
		calls := a.calls.Load()
		if get() != second || get() != second {
			t.Error("the old certificate does not serve on")
		}
		if n := a.calls.Load() - calls; n != 1 {
			t.Errorf("%d tries within a moment", n)
		}
		time.Sleep(24 * time.Hour)
		if _, err := id.Certificate(t.Context()); !errors.Is(err, errBroken) {
			t.Errorf("an expired certificate: %v", err)
		}
		a.broken.Store(false)
		if k := get(); slices.Contains([][32]byte{first, second}, k) {
			t.Error("an old key came back")
		}
	})
}

// TestIdentityNeverBlocks: a quoting service that hangs holds up nobody while
// there is a valid certificate, and otherwise only as long as the caller
// wants.
func TestIdentityNeverBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &switchAttester{}
		id := NewIdentity(IdentityConfig{Attester: a})
		old, err := id.Certificate(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		a.hang.Store(true)
		time.Sleep(2 * time.Hour)
		start := time.Now()
		for range 3 {
			if c, err := id.Certificate(t.Context()); err != nil || c != old {
				t.Errorf("%v, %v", c, err)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("held up for %v", d)
		}
		time.Sleep(24 * time.Hour)
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := id.Certificate(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		time.Sleep(renewLimit)
	})
}

var errBroken = errors.New("no quotes today")

// switchAttester makes fake evidence, or fails, or hangs.
type switchAttester struct {
	broken, hang atomic.Bool
	calls        atomic.Int32
}

func (s *switchAttester) Attest(ctx context.Context, data [64]byte) (attest.Evidence, error) {
	s.calls.Add(1)
	if s.hang.Load() {
		<-ctx.Done()
		return attest.Evidence{}, ctx.Err()
	}
	if s.broken.Load() {
		return attest.Evidence{}, errBroken
	}
	return FakeAttester{}.Attest(ctx, data)
}

// TestOneAppraisalPerAddress: while evidence from an address is judged, other
// evidence from there waits, and no longer than its handshake may take.
func TestOneAppraisalPerAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := testVendor(t, 1)
		policy := v.Policy(attest.DeferredImages())
		dialing, accepting := config(testGuest(t, v, "worker"), policy), config(testGuest(t, v, "proxy"), policy)
		dialer, err := NewDialer(dialing)
		if err != nil {
			t.Fatal(err)
		}
		e, err := newEndpoint(accepting)
		if err != nil {
			t.Fatal(err)
		}
		accept := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), e.Limits.Timeout)
			defer cancel()
			near, far := net.Pipe()
			defer near.Close()
			defer far.Close()
			go func() { _, _ = dialer.Client(ctx, near) }()
			_, err := e.accept(ctx, far, func() {})
			return err
		}
		done, err := e.turns.Take(t.Context(), "pipe")
		if err != nil {
			t.Fatal(err)
		}
		if err := accept(); !errors.Is(err, tee.ErrBusy) {
			t.Errorf("another appraisal of this address is under way: %v, want ErrBusy", err)
		}
		done()
		if err := accept(); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// BenchmarkHandshake is the whole of it, without work, over a pipe.
func BenchmarkHandshake(b *testing.B) {
	v := testVendor(b, 1)
	policy := v.Policy(attest.DeferredImages())
	for name, c := range map[string]struct{ dialing, accepting Config }{
		"none":      {config(nil, attest.OpenPolicy()), config(nil, attest.OpenPolicy())},
		"simulated": {config(testGuest(b, v, "worker"), policy), config(testGuest(b, v, "proxy"), policy)},
	} {
		b.Run(name, func(b *testing.B) {
			dialer, err := NewDialer(c.dialing)
			if err != nil {
				b.Fatal(err)
			}
			e, err := newEndpoint(c.accepting)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				near, far := net.Pipe()
				done := make(chan error)
				go func() { _, err := e.accept(b.Context(), far, func() {}); done <- err }()
				if _, err := dialer.Client(b.Context(), near); err != nil {
					b.Fatal(err)
				}
				if err := <-done; err != nil {
					b.Fatal(err)
				}
				near.Close()
				far.Close()
			}
		})
	}
}
