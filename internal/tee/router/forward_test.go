//go:build !tee

package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// network is a set of listeners in memory, by address.
type network struct {
	mu        sync.Mutex
	listeners map[string]*memory
}

type memory struct {
	addr  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (n *network) listen(addr string) net.Listener {
	l := &memory{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners == nil {
		n.listeners = map[string]*memory{}
	}
	n.listeners[addr] = l
	return l
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.mu.Unlock()
	if l == nil {
		return nil, errors.New("connection refused")
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *memory) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memory) Addr() net.Addr { return &net.UnixAddr{Name: l.addr, Net: "memory"} }
func (l *memory) Close() error   { l.once.Do(func() { close(l.done) }); return nil }

// TestThroughForwarders puts a worker and a proxy behind routers of ours, as
// reference roles stand: SOCKS5 on one side, a reverse port on the other.
func TestThroughForwarders(t *testing.T) {
	v, err := simulated.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	policy := v.Policy(attest.DeferredImages())
	identity := func(image string) *ratls.Identity {
		g, err := v.NewGuest(simulated.GuestConfig{Registers: simulated.Image(image)})
		if err != nil {
			t.Fatal(err)
		}
		return ratls.NewIdentity(ratls.IdentityConfig{Attester: g})
	}
	for name, layout := range map[string]Layout{"December": December, "April": April} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The clock of a bubble starts in 2000, before our vendor.
				time.Sleep(time.Until(time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)))
				var mem network
				secure := ratls.Config{Identity: identity("proxy"), Policy: policy, PeerRole: cocoon.RoleWorker, GlobalID: 7, Difficulty: -1, Level0: true, NetDial: mem.dial}
				ctx, cancel := context.WithCancel(t.Context())
				var routers sync.WaitGroup

				// The proxy's side.
				inner, err := Listen(mem.listen("127.0.0.1:11101"), Config{Policy: policy, PeerRole: cocoon.RoleWorker, GlobalID: 7})
				if err != nil {
					t.Fatal(err)
				}
				outer, err := ratls.Listen(mem.listen("10.0.0.1:11001"), secure)
				if err != nil {
					t.Fatal(err)
				}
				reverse := &Forwarder{Destination: "127.0.0.1:11101", Layout: layout, NetDial: mem.dial}
				routers.Go(func() {
					if err := reverse.Reverse(ctx, outer); !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})

				// The worker's side.
				secure.Identity, secure.PeerRole = identity("worker"), cocoon.RoleProxy
				dialer, err := ratls.NewDialer(secure)
				if err != nil {
					t.Fatal(err)
				}
				socks := &Forwarder{Dialer: dialer, Layout: layout}
				local := mem.listen("127.0.0.1:8116")
				routers.Go(func() {
					if err := socks.Local(ctx, local); !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				})
				d, err := NewDialer(Config{Router: "127.0.0.1:8116", Policy: policy, PeerRole: cocoon.RoleProxy, GlobalID: 7, NetDial: mem.dial})
				if err != nil {
					t.Fatal(err)
				}

				worker, err := d.Dial(ctx, "10.0.0.1:11001")
				if err != nil {
					t.Fatal(err)
				}
				proxy, err := inner.Accept(ctx)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range []struct {
					peer  tee.Peer
					image string
				}{{worker.Peer, "proxy"}, {proxy.Peer, "worker"}} {
					if c.peer.Kind != attest.Simulated || c.peer.ImageHash != simulated.Image(c.image).Hash() || c.peer.Level != 0 || c.peer.Key == [32]byte{} {
						t.Errorf("seen instead of the %s: %+v", c.image, c.peer)
					}
				}
				time.Sleep(time.Hour) // no time limit is left on the way
				big := bytes.Repeat([]byte("cocoon"), 1<<16)
				go worker.Write(big)
				got := make([]byte, len(big))
				if _, err := io.ReadFull(proxy, got); err != nil || !bytes.Equal(got, big) {
					t.Errorf("%v", err)
				}
				go func() { proxy.Write([]byte("bye")); proxy.Close() }()
				if b, err := io.ReadAll(worker); err != nil || string(b) != "bye" {
					t.Errorf("read %q, %v", b, err)
				}
				worker.Close()

				// Nobody there: a close without a reply.
				if _, err := d.Dial(ctx, "10.9.9.9:1"); !errors.Is(err, ErrRefused) {
					t.Errorf("an absent target: %v", err)
				}
				// One open connection does not outlive the routers.
				worker, err = d.Dial(ctx, "10.0.0.1:11001")
				if err != nil {
					t.Fatal(err)
				}
				if proxy, err = inner.Accept(ctx); err != nil {
					t.Fatal(err)
				}
				cancel()
				routers.Wait()
				for _, c := range []net.Conn{worker, proxy} {
					if _, err := c.Read(make([]byte, 1)); err == nil {
						t.Error("a connection outlives its router")
					}
					c.Close()
				}
				inner.Close()
			})
		})
	}
}

// dialerFunc is a tee.Dialer made of a function.
type dialerFunc func(addr string) (*tee.Conn, error)

func (f dialerFunc) Dial(_ context.Context, addr string) (*tee.Conn, error) { return f(addr) }

// TestSOCKSServer talks to a SOCKS5 port byte by byte.
func TestSOCKSServer(t *testing.T) {
	hello := []byte{5, 1, 0}
	request := []byte{5, 1, 0, 1, 10, 1, 2, 3, 0x2a, 0xf9}
	for name, c := range map[string]struct {
		f     Forwarder
		say   [][]byte
		hear  []byte // then the end
		level int
		want  string // address dialed
	}{
		"no preamble":         {say: [][]byte{hello, request}, hear: []byte{5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 'h', 'i'}, want: "10.1.2.3:11001"},
		"several methods":     {say: [][]byte{{5, 2, 2, 0}, request}, hear: []byte{5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 'h', 'i'}, want: "10.1.2.3:11001"},
		"fixed destination":   {f: Forwarder{Destination: "10.0.0.1:5"}, hear: []byte("hi"), want: "10.0.0.1:5"},
		"only passwords":      {say: [][]byte{{5, 1, 2}}},
		"SOCKS4":              {say: [][]byte{{4, 1, 0}}},
		"BIND":                {say: [][]byte{hello, {5, 2, 0, 1, 10, 1, 2, 3, 0, 1}}, hear: []byte{5, 0}},
		"domain name":         {say: [][]byte{hello, {5, 1, 0, 3, 5, 'a', '.', 'b', 0, 1}}, hear: []byte{5, 0}},
		"level 1":             {say: [][]byte{hello, request}, hear: []byte{5, 0}, level: 1, want: "10.1.2.3:11001"},
		"preamble impossible": {f: Forwarder{Layout: 9}, say: [][]byte{hello, request}, hear: []byte{5, 0}, want: "10.1.2.3:11001"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mem network
				dialed := ""
				f := c.f
				f.Dialer = dialerFunc(func(addr string) (*tee.Conn, error) {
					dialed = addr
					near, far := net.Pipe()
					go func() { far.Write([]byte("hi")); far.Close() }()
					return &tee.Conn{Conn: near, Peer: tee.Peer{Level: c.level}}, nil
				})
				ln := mem.listen("local")
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- f.Local(ctx, ln) }()
				nc, err := mem.dial(ctx, "", "local")
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					for _, b := range c.say {
						nc.Write(b)
					}
				}()
				if got, err := io.ReadAll(nc); err != nil || !bytes.Equal(got, c.hear) {
					t.Errorf("heard % x, %v, want % x", got, err, c.hear)
				}
				if dialed != c.want {
					t.Errorf("dialed %q, want %q", dialed, c.want)
				}
				cancel()
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
		})
	}
}

// TestForwarderBounds: silent callers are dropped, and their number is
// bounded.
func TestForwarderBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mem network
		f := Forwarder{MaxConns: 2}
		ln := mem.listen("local")
		done := make(chan error)
		go func() { done <- f.Local(t.Context(), ln) }()
		start := time.Now()
		var ended sync.WaitGroup
		for i := range 3 {
			nc, err := mem.dial(t.Context(), "", "local")
			if err != nil {
				t.Fatal(err)
			}
			ended.Go(func() {
				io.Copy(io.Discard, nc)
				if d := time.Since(start); i < 2 && d != timeout || i == 2 && d != 0 {
					t.Errorf("caller %d was dropped after %v", i, d)
				}
			})
			synctest.Wait()
		}
		ended.Wait()
		ln.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestSimulatedSEV: what no preamble can say is not said.
func TestSimulatedSEV(t *testing.T) {
	f := Forwarder{Layout: April}
	peer := tee.Peer{Kind: attest.Simulated, Result: &attest.Result{Kind: attest.Simulated, Format: attest.FormatSEVSNP}}
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	if err := f.introduce(near, nil, peer, "", ""); !errors.Is(err, ErrPreamble) {
		t.Errorf("got %v", err)
	}
}

// TestDescribe: kinds of peers, through a preamble and back.
func TestDescribe(t *testing.T) {
	key := testKey()
	registers := func(n int) (m []attest.Measurement) {
		for i := range n {
			m = append(m, attest.Measurement{Value: bytes.Repeat([]byte{byte(i + 1)}, 48)})
		}
		return m
	}
	data := attest.KeyReportData(key)
	for name, c := range map[string]struct {
		peer   tee.Peer
		layout Layout
	}{
		"none":      {tee.Peer{Key: key, Kind: attest.None, Result: &attest.Result{Kind: attest.None}}, December},
		"unknown":   {tee.Peer{Key: key, Kind: attest.None}, April},
		"fake":      {tee.Peer{Key: key, Kind: attest.Fake, ImageHash: attest.FakeTDXImage, Result: &attest.Result{Format: attest.FormatTDX, ReportData: data}}, December},
		"TDX":       {tee.Peer{Key: key, Kind: attest.TDX, ImageHash: attest.TDXImageHash(registers(8)), Result: &attest.Result{Format: attest.FormatTDX, Measurements: registers(8), ReportData: data, RootKeyID: attest.IntelRoot}}, December},
		"simulated": {tee.Peer{Key: key, Kind: attest.Simulated, ImageHash: attest.TDXImageHash(registers(8)), Result: &attest.Result{Format: attest.FormatTDX, Measurements: registers(8), ReportData: data, RootKeyID: attest.KeyID{7}}}, April},
		"SEV-SNP":   {tee.Peer{Key: key, Kind: attest.SEVSNP, ImageHash: attest.SEVImageHash([48]byte(registers(1)[0].Value)), Result: &attest.Result{Format: attest.FormatSEVSNP, Measurements: registers(1), ReportData: data, RootKeyID: attest.AMDRoots[0]}}, April},
	} {
		b, err := describe(c.peer, "10.0.2.2:54321", "not an address").Append(nil, c.layout)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p, err := ParsePreamble(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := p.Peer()
		if err != nil || got.Kind != c.peer.Kind || got.ImageHash != c.peer.ImageHash || got.Key != key || got.Addr != "10.0.2.2:54321" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if p.DestinationIP != "0.0.0.0" || p.DestinationPort != 0 {
			t.Errorf("%s: destination %s:%d", name, p.DestinationIP, p.DestinationPort)
		}
	}
}
