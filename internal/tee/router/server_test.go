//go:build !tee

package router

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
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

const testNetwork = 7

// noEndorsements knows no platform.
type noEndorsements struct{}

func (noEndorsements) Endorsements(context.Context, attest.Evidence) (*attest.Endorsements, error) {
	return nil, errors.New("unknown platform")
}

// TestServer: a worker behind one router, a proxy behind another, over every
// kind of port and policy.
func TestServer(t *testing.T) {
	v, err := simulated.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	identity := func(image string) *ratls.Identity {
		g, err := v.NewGuest(simulated.GuestConfig{Registers: simulated.Image(image)})
		if err != nil {
			t.Fatal(err)
		}
		return ratls.NewIdentity(ratls.IdentityConfig{Attester: g})
	}
	proxy, other := simulated.Image("proxy"), simulated.Image("other")
	roots := []attest.KeyID{v.RootKeyID()}
	sim := func(name string, change func(*Rule)) Rule {
		r := Rule{Name: name, Kind: Simulated, Roots: roots}
		if change != nil {
			change(&r)
		}
		return r
	}
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)))
		var mem network
		listen := func(_, addr string) (net.Listener, error) { return mem.listen(addr), nil }
		ctx, cancel := context.WithCancel(t.Context())
		var routers sync.WaitGroup
		start := func(id *ratls.Identity, s Settings) {
			t.Helper()
			s.Difficulty = 4
			ready := make(chan struct{})
			srv, err := NewServer(ServerConfig{Settings: s, Identity: id, GlobalID: testNetwork, NetListen: listen, NetDial: mem.dial, Endorser: noEndorsements{}, Ready: func() { close(ready) }})
			if err != nil {
				t.Fatal(err)
			}
			routers.Go(func() {
				if err := srv.Run(ctx); !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			})
			<-ready
			if simulated := strings.HasPrefix(srv.String(), "SIMULATED"); !simulated {
				t.Errorf("a simulated network is called\n%s", srv)
			}
		}
		start(identity("proxy"), Settings{MaxDifficulty: 8, Rules: []Rule{sim("sim", nil)}, Ports: []Port{
			{Number: 11001, Kind: Reverse, Rule: "sim", Host: "127.0.0.1", Target: 11101, Info: true},
			{Number: 11002, Kind: Reverse, Rule: "any", Host: "127.0.0.1", Target: 11102, Info: true},
		}})
		start(identity("worker"), Settings{MaxDifficulty: 8, Rules: []Rule{
			sim("sim", nil),
			sim("image", func(r *Rule) { r.Images = []attest.ImageHash{proxy.Hash()} }),
			sim("wrong-image", func(r *Rule) { r.Images = []attest.ImageHash{other.Hash()} }),
			sim("mrtd", func(r *Rule) { r.MRTDs = [][48]byte{other.MRTD, proxy.MRTD} }),
			sim("wrong-mrtd", func(r *Rule) { r.MRTDs = [][48]byte{other.MRTD} }),
			sim("rtmr", func(r *Rule) { r.RTMRs = [][4][48]byte{proxy.RTMR} }),
			sim("wrong-rtmr", func(r *Rule) { r.RTMRs = [][4][48]byte{other.RTMR} }),
			{Name: "wrong-root", Kind: Simulated, Roots: []attest.KeyID{{9}}},
		}, Ports: []Port{
			{Number: 8116, Kind: SOCKS5, Rule: "sim", Info: true, RuleFromUser: true},
			{Number: 8117, Kind: Forward, Rule: "image", Host: "0.0.0.0", Target: 11001, Info: true},
			{Number: 8118, Kind: SOCKS5, Rule: "any"},
			{Number: 8119, Kind: SOCKS5, Rule: "wrong-image", Info: true},
		}})
		proxyListen := func(port string, policy *attest.Policy, role cocoon.Role) *Listener {
			ln, err := Listen(mem.listen("127.0.0.1:"+port), Config{Policy: policy, PeerRole: role, GlobalID: testNetwork})
			if err != nil {
				t.Fatal(err)
			}
			return ln
		}
		workers := proxyListen("11101", v.Policy(attest.DeferredImages()), cocoon.RoleWorker)
		clients := proxyListen("11102", attest.OpenPolicy(), cocoon.RoleClient)
		dial := func(port, target string) (*tee.Conn, error) {
			d, err := NewDialer(Config{Router: "127.0.0.1:" + port, Policy: v.Policy(attest.ListedImages(proxy.Hash())), PeerRole: cocoon.RoleProxy, GlobalID: testNetwork, NetDial: mem.dial})
			if err != nil {
				t.Fatal(err)
			}
			return d.Dial(ctx, target)
		}
		talk := func(a, b net.Conn) {
			t.Helper()
			for _, c := range [][2]net.Conn{{a, b}, {b, a}} {
				go c[0].Write([]byte("hello"))
				got := make([]byte, 5)
				if _, err := io.ReadFull(c[1], got); err != nil || string(got) != "hello" {
					t.Errorf("read %q, %v", got, err)
				}
			}
			a.Close()
			if _, err := b.Read(make([]byte, 1)); err == nil {
				t.Error("a connection outlives its other end")
			}
			b.Close()
		}

		// A worker, attested both ways, and a client.
		w, err := dial("8116", "0.0.0.0:11001")
		if err != nil {
			t.Fatal(err)
		}
		p, err := workers.Accept(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if w.Peer.ImageHash != proxy.Hash() || p.Peer.ImageHash != simulated.Image("worker").Hash() || p.Peer.Kind != attest.Simulated {
			t.Errorf("peers %+v, %+v", w.Peer, p.Peer)
		}
		talk(w, p)
		if w, err = dial("8116", "0.0.0.0:11002"); err != nil {
			t.Fatal(err)
		}
		if p, err = clients.Accept(ctx); err != nil {
			t.Fatal(err)
		}
		if p.Peer.Kind != attest.None || p.Peer.ImageHash != (attest.ImageHash{}) {
			t.Errorf("a client's evidence was read: %+v", p.Peer)
		}
		talk(w, p)

		// Byte by byte: names of policies, early data, what each hears.
		user := func(name string) []byte { return append([]byte{1, byte(len(name))}, append([]byte(name), 1, 'x')...) }
		connect := []byte{5, 1, 0, 1, 0, 0, 0, 0, 0x2a, 0xf9}
		reply := []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
		for _, c := range []struct {
			port string
			say  [][]byte
			hear []byte // before the preamble, if there is a way through
			ok   bool
		}{
			{"8116", [][]byte{{5, 2, 0, 2}, user("image"), connect}, append([]byte{5, 2, 1, 0}, reply...), true},
			{"8116", [][]byte{{5, 1, 2}, user("mrtd"), connect}, append([]byte{5, 2, 1, 0}, reply...), true},
			{"8116", [][]byte{{5, 1, 2}, user("rtmr"), connect}, append([]byte{5, 2, 1, 0}, reply...), true},
			{"8116", [][]byte{{5, 1, 2}, user("wrong-image"), connect}, []byte{5, 2, 1, 0}, false},
			{"8116", [][]byte{{5, 1, 2}, user("wrong-mrtd"), connect}, []byte{5, 2, 1, 0}, false},
			{"8116", [][]byte{{5, 1, 2}, user("wrong-rtmr"), connect}, []byte{5, 2, 1, 0}, false},
			{"8116", [][]byte{{5, 1, 2}, user("wrong-root"), connect}, []byte{5, 2, 1, 0}, false},
			{"8116", [][]byte{{5, 1, 2}, user("tdx"), connect}, []byte{5, 2, 1, 0}, false},
			{"8116", [][]byte{{5, 1, 2}, user("fake_tee"), connect}, []byte{5, 2, 1, 0}, false},
			{"8116", [][]byte{{5, 1, 2}, user("absent")}, []byte{5, 2}, false},
			{"8116", [][]byte{{5, 1, 2}, {2, 1, 'x', 1, 'x'}}, []byte{5, 2}, false},
			{"8116", [][]byte{{5, 1, 0}, connect}, append([]byte{5, 0}, reply...), true},
			{"8116", [][]byte{{5, 1, 9}}, nil, false},
			{"8116", [][]byte{[]byte("GET / HTTP/1.1\r\n\r\n")}, nil, false},
			{"8117", nil, nil, true},
			{"8118", [][]byte{{5, 1, 2}}, nil, false}, // names are not asked for here
			{"8119", [][]byte{{5, 1, 0}, connect}, []byte{5, 0}, false},
		} {
			nc, err := mem.dial(ctx, "", "127.0.0.1:"+c.port)
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for _, b := range c.say {
					nc.Write(b)
				}
				if c.ok {
					nc.Write([]byte("early")) // before the reply
				}
			}()
			got := make([]byte, len(c.hear))
			if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, c.hear) {
				t.Errorf("%s %q: heard % x, %v", c.port, c.say, got, err)
			}
			if !c.ok {
				// The other end may have met us before we refused it.
				if b, err := io.ReadAll(nc); len(b) > 0 || err != nil {
					t.Errorf("%s %q: heard % x more, %v", c.port, c.say, b, err)
				}
				nc.Close()
				continue
			}
			info, err := ReadPreamble(nc)
			if err != nil || info.Family != FamilyTDX || info.Registers[0] != proxy.MRTD {
				t.Errorf("%s %q: preamble %+v, %v", c.port, c.say, info, err)
			}
			var far *tee.Conn
			for { // past those who went away
				if far, err = workers.Accept(ctx); err != nil {
					t.Fatal(err)
				}
				early := make([]byte, 5)
				if _, err := io.ReadFull(far, early); err == nil && string(early) == "early" {
					break
				}
				far.Close()
			}
			talk(nc, far)
		}
		cancel()
		routers.Wait()
		workers.Close()
		clients.Close()
	})
}

// TestServerRefused: configurations that are no good, or too good for the
// network.
func TestServerRefused(t *testing.T) {
	id := ratls.NewIdentity(ratls.IdentityConfig{})
	socks := Port{Number: 8116, Kind: SOCKS5, Rule: "tee"}
	reverse := Port{Number: 11001, Kind: Reverse, Rule: "tee", Host: "localhost", Target: 11101}
	with := func(p Port, rule string) Port { p.Rule = rule; return p }
	image, key := []attest.ImageHash{{1}}, [48]byte{1}
	const mainnet = -239
	for name, c := range map[string]struct {
		ports  []Port
		rules  []Rule
		global int32
		change func(*ServerConfig)
		ok     bool
		layout Layout
	}{
		"worker's":            {ports: []Port{socks}, global: mainnet, ok: true, layout: April},
		"proxy's":             {ports: []Port{with(reverse, "tdx"), {Number: 11002, Kind: Reverse, Rule: "any", Host: "localhost", Target: 11102}}, global: mainnet, ok: true, layout: December},
		"test network":        {ports: []Port{with(socks, "any"), with(reverse, "fake_tdx")}, global: testNetwork, ok: true, layout: December},
		"both, with a layout": {ports: []Port{with(socks, "tdx"), reverse}, global: mainnet, change: func(c *ServerConfig) { c.Layout = December }, ok: true, layout: December},
		"SEV-SNP":             {ports: []Port{with(reverse, "r")}, rules: []Rule{{Name: "r", Kind: TEE, SEVMeasurements: [][48]byte{key}, SEVMinTCB: simulated.SNPTCB}}, global: mainnet, ok: true, layout: April},

		"any on mainnet":           {ports: []Port{with(socks, "any")}, global: mainnet},
		"fake on mainnet":          {ports: []Port{with(reverse, "fake_tee")}, global: mainnet},
		"simulated on mainnet":     {ports: []Port{with(reverse, "r")}, rules: []Rule{{Name: "r", Kind: Simulated, Roots: []attest.KeyID{key}}}, global: mainnet},
		"no network":               {ports: []Port{socks}},
		"no ports":                 {global: mainnet},
		"unknown policy":           {ports: []Port{with(socks, "absent")}, global: mainnet},
		"same port":                {ports: []Port{socks, socks}, global: mainnet},
		"bad port":                 {ports: []Port{{Number: 80, Kind: SOCKS5, Rule: "tee"}}, global: mainnet},
		"names on a reverse port":  {ports: []Port{{Number: 11001, Kind: Reverse, Rule: "tee", Host: "x", Target: 11101, RuleFromUser: true}}, global: mainnet},
		"SOCKS5 to somewhere":      {ports: []Port{{Number: 8116, Kind: SOCKS5, Rule: "tee", Host: "x"}}, global: mainnet},
		"both generations":         {ports: []Port{with(socks, "tdx"), reverse}, global: mainnet},
		"same policy":              {ports: []Port{socks}, rules: []Rule{{Name: "r", Kind: TEE}, {Name: "r", Kind: TEE}}, global: mainnet},
		"built-in policy":          {ports: []Port{socks}, rules: []Rule{{Name: "tee", Kind: Any}}, global: mainnet},
		"unknown type":             {ports: []Port{socks}, rules: []Rule{{Name: "r", Kind: "none"}}, global: mainnet},
		"list for any":             {ports: []Port{socks}, rules: []Rule{{Name: "r", Kind: Any, Images: image}}, global: testNetwork},
		"list for fake":            {ports: []Port{socks}, rules: []Rule{{Name: "r", Kind: FakeTEE, MRTDs: [][48]byte{key}}}, global: testNetwork},
		"root that is not Intel's": {ports: []Port{socks}, rules: []Rule{{Name: "r", Kind: TEE, Roots: []attest.KeyID{key}}}, global: mainnet},
		"global root":              {ports: []Port{socks}, global: mainnet, change: func(c *ServerConfig) { c.Roots = []attest.KeyID{key} }},
		"simulated without root":   {ports: []Port{socks}, rules: []Rule{{Name: "r", Kind: Simulated}}, global: testNetwork},
		"simulated under Intel":    {ports: []Port{socks}, rules: []Rule{{Name: "r", Kind: Simulated, Roots: []attest.KeyID{attest.IntelRoot}}}, global: testNetwork},
		"SEV-SNP without TCB":      {ports: []Port{socks}, rules: []Rule{{Name: "r", Kind: TEE, SEVMeasurements: [][48]byte{key}}}, global: mainnet},
		"SEV-SNP in December":      {ports: []Port{socks}, rules: []Rule{{Name: "r", Kind: TDX, SEVMeasurements: [][48]byte{key}, SEVMinTCB: simulated.SNPTCB}}, global: mainnet},
		"difficulty":               {ports: []Port{socks}, global: mainnet, change: func(c *ServerConfig) { c.Difficulty = 65 }},
		"no identity":              {ports: []Port{socks}, global: mainnet, change: func(c *ServerConfig) { c.Identity = nil }},
		"layout":                   {ports: []Port{socks}, global: mainnet, change: func(c *ServerConfig) { c.Layout = 9 }},
	} {
		cfg := ServerConfig{Settings: Settings{Ports: c.ports, Rules: c.rules}, Identity: id, GlobalID: c.global}
		if c.change != nil {
			c.change(&cfg)
		}
		s, err := NewServer(cfg)
		if (err == nil) != c.ok || err != nil && !errors.Is(err, ErrSettings) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && s.cfg.Layout != c.layout {
			t.Errorf("%s: layout %v", name, s.cfg.Layout)
		}
	}
}

// TestServerEnds: a port that cannot be had, or fails, ends all of them.
func TestServerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mem network
		var second net.Listener
		settings := Settings{Ports: []Port{{Number: 8116, Kind: SOCKS5, Rule: "any"}, {Number: 8117, Kind: SOCKS5, Rule: "any"}}}
		server := func(listen func(_, addr string) (net.Listener, error)) *Server {
			s, err := NewServer(ServerConfig{Settings: settings, Identity: ratls.NewIdentity(ratls.IdentityConfig{}), GlobalID: testNetwork, NetListen: listen})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		err := server(func(_, addr string) (net.Listener, error) {
			if addr == "127.0.0.1:8117" {
				return nil, errors.New("address already in use")
			}
			return mem.listen(addr), nil
		}).Run(t.Context())
		if !errors.Is(err, ErrSettings) {
			t.Errorf("a port in use: %v", err)
		}
		s := server(func(_, addr string) (net.Listener, error) {
			second = mem.listen(addr)
			return second, nil
		})
		done := make(chan error)
		go func() { done <- s.Run(t.Context()) }()
		synctest.Wait()
		second.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a port that fails: %v", err)
		}
		// Our own certificate's absence is said at once.
		s.cfg.Identity = ratls.NewFileIdentity(t.TempDir()+"/absent", ratls.IdentityConfig{})
		if err := s.Run(t.Context()); !errors.Is(err, ratls.ErrFiles) {
			t.Errorf("no certificate: %v", err)
		}
	})
}

// TestSlowPeers: whoever says nothing is dropped in time, and those beside it
// do not wait.
func TestSlowPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mem network
		s, err := NewServer(ServerConfig{
			Settings: Settings{Ports: []Port{
				{Number: 8116, Kind: SOCKS5, Rule: "any", RuleFromUser: true},
				{Number: 11002, Kind: Reverse, Rule: "any", Host: "127.0.0.1", Target: 11102, Info: true},
			}},
			Identity: ratls.NewIdentity(ratls.IdentityConfig{}), GlobalID: testNetwork, NetDial: mem.dial,
			NetListen: func(_, addr string) (net.Listener, error) { return mem.listen(addr), nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		silent := mem.listen("9.9.9.9:11001") // a target that accepts and says nothing
		go func() {
			for {
				nc, err := silent.Accept()
				if err != nil {
					return
				}
				go io.Copy(io.Discard, nc)
			}
		}()
		synctest.Wait()
		start := time.Now()
		var callers sync.WaitGroup
		for name, c := range map[string]struct {
			addr string
			say  []byte
			hear int // bytes before the end
			end  time.Duration
		}{
			"silent caller":      {"127.0.0.1:8116", nil, 0, timeout},
			"half a greeting":    {"127.0.0.1:8116", []byte{5, 3, 0}, 0, timeout},
			"half a name":        {"127.0.0.1:8116", []byte{5, 1, 2, 1, 200, 'x'}, 2, timeout},
			"half a request":     {"127.0.0.1:8116", []byte{5, 1, 0, 5, 1, 0, 1}, 2, timeout},
			"silent target":      {"127.0.0.1:8116", []byte{5, 1, 0, 5, 1, 0, 1, 9, 9, 9, 9, 0x2a, 0xf9}, 2, tee.HandshakeTimeout},
			"silent peer":        {"0.0.0.0:11002", nil, 24, tee.HandshakeTimeout}, // the puzzle
			"half an answer":     {"0.0.0.0:11002", []byte{0x19, 0x73}, 24, tee.HandshakeTimeout},
			"garbage for answer": {"0.0.0.0:11002", bytes.Repeat([]byte("garbage"), 2), 24, 0},
		} {
			nc, err := mem.dial(ctx, "", c.addr)
			if err != nil {
				t.Fatal(err)
			}
			go nc.Write(c.say)
			callers.Go(func() {
				defer nc.Close()
				b, err := io.ReadAll(nc)
				if err != nil || len(b) != c.hear || time.Since(start) != c.end {
					t.Errorf("%s: heard % x, %v after %v", name, b, err, time.Since(start))
				}
			})
		}
		callers.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		silent.Close()
	})
}
