package router

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
)

var (
	_ tee.Dialer   = (*Dialer)(nil)
	_ tee.Listener = (*Listener)(nil)
)

func testKey() (k [32]byte) {
	for i := range k {
		k[i] = byte(i)
	}
	return k
}

// preamble is the one of the spec's vectors, with the given content.
func preamble(f Family, port int32) *Preamble {
	return &Preamble{Family: f, Key: testKey(), SourceIP: "10.0.2.2", SourcePort: 54321, DestinationIP: "127.0.0.1", DestinationPort: port}
}

func frame(t testing.TB, p *Preamble, l Layout) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WritePreamble(&b, p, l); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestVectors holds the frames of spec attestation 1.9 and changes-2026-04
// 3.1, written and read.
func TestVectors(t *testing.T) {
	fake := preamble(FamilyTDX, 11101)
	fake.ReportData = attest.KeyReportData(testKey())
	sev := preamble(FamilySEV, 11102)
	for i := range sev.Measurement {
		sev.Measurement[i] = byte(i)
	}
	for i := range sev.ReportData {
		sev.ReportData[i] = byte(0xa0 + i)
	}
	for name, c := range map[string]struct {
		p      *Preamble
		layout Layout
		size   int
		prefix string
		sum    string
	}{
		"December none":  {preamble(NoFamily, 11102), December, 124, "7800000000000000", ""},
		"December fake":  {fake, December, 576, "3c0200000100000000000000", "467e5114be40bb8d18281a17a0b7a17f6ed21095c2eea9d1bfb05320a8605fdb"},
		"April none":     {preamble(NoFamily, 11102), April, 576, "3c0200000200000000000000", "3ec2cc473717ac0a1f8d72835e8c31699968cdb9ee097add3aad596ec224dc97"},
		"April SEV":      {sev, April, 192, "bc0000000200000001000000000102", "0f60810570a1eb831840c6c99d5c42aea90206f0fa97a89c828ca464a61ddc42"},
		"April SEV zero": {preamble(FamilySEV, 11102), April, 192, "bc0000000200000001000000", "0283c76065b7cedc46b2c2abd6152755a381cbd6e13494fe4c003f919bc20818"},
	} {
		t.Run(name, func(t *testing.T) {
			b := frame(t, c.p, c.layout)
			sum := sha256.Sum256(b)
			if len(b) != c.size || !strings.HasPrefix(hex.EncodeToString(b), c.prefix) || (c.sum != "" && hex.EncodeToString(sum[:]) != c.sum) {
				t.Errorf("%d bytes, SHA-256 %x, start %x", len(b), sum, b[:12])
			}
			r := bytes.NewReader(append(b, 0x55))
			p, err := ReadPreamble(r)
			if err != nil || !reflect.DeepEqual(p, c.p) {
				t.Errorf("read %+v, %v", p, err)
			}
			if r.Len() != 1 {
				t.Errorf("%d bytes left of 1 that follows", r.Len())
			}
		})
	}
	want := "7800000000000000000000000000000000000000000000000000000000000000" +
		"0000000000000000000000000000000000000000000000002000010203040506" +
		"0708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f0000000831302e" +
		"302e322e3200000031d40000093132372e302e302e3100005e2b0000"
	if got := hex.EncodeToString(frame(t, preamble(NoFamily, 11102), December)); got != want {
		t.Errorf("got %s", got)
	}
	// spec network-protocol 2.4
	p := preamble(NoFamily, 11001)
	p.SourceIP, p.SourcePort = "127.0.0.1", 50000
	if got := hex.EncodeToString(frame(t, p, December)); !strings.HasSuffix(got, "093132372e302e302e31000050c30000093132372e302e302e310000f92a0000") {
		t.Errorf("got %s", got)
	}
}

// TestCaptures reads what routers wrote on the wire, SOCKS5 reply included.
func TestCaptures(t *testing.T) {
	names, err := filepath.Glob("testdata/*.bin")
	if err != nil || len(names) != 8 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		dialing := strings.Contains(name, ".s2c.")
		layout := December
		if strings.Contains(name, "april") {
			layout = April
		}
		if dialing {
			b = b[2+10:]
		}
		r := bytes.NewReader(b)
		p, err := ReadPreamble(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Family != NoFamily || p.Key == [32]byte{} || p.SourceIP != "127.0.0.1" || p.DestinationIP != "127.0.0.1" {
			t.Errorf("%s: %+v", name, p)
		}
		peer, err := p.Peer()
		if err != nil || peer.Kind != attest.None || peer.ImageHash != (attest.ImageHash{}) {
			t.Errorf("%s: %+v, %v", name, peer, err)
		}
		if again := frame(t, p, layout); !bytes.Equal(again, b[:len(b)-r.Len()]) {
			t.Errorf("%s: written again it differs", name)
		}
		// What follows is the first packet of the stream: 12 bytes, number 0.
		next := make([]byte, 8)
		if _, err := io.ReadFull(r, next); err != nil || !bytes.Equal(next, []byte{12, 0, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("%s: % x follows, %v", name, next, err)
		}
	}
}

// TestPeer: what a record is worth.
func TestPeer(t *testing.T) {
	bind := func(p *Preamble) *Preamble { p.ReportData = attest.KeyReportData(p.Key); return p }
	measured := func(root attest.KeyID) *Preamble {
		p := bind(preamble(FamilyTDX, 1))
		p.Registers[0][0], p.RootKeyID = 1, root
		return p
	}
	sev := bind(preamble(FamilySEV, 1))
	sev.Measurement[0] = 1
	unbound := measured(attest.IntelRoot)
	unbound.ReportData[0] ^= 1
	rooted := preamble(FamilyTDX, 1)
	rooted.RootKeyID = attest.IntelRoot

	for name, c := range map[string]struct {
		p      *Preamble
		kind   attest.Kind
		proven bool
		err    error
	}{
		"none":                     {preamble(NoFamily, 1), attest.None, false, nil},
		"zeros called TDX":         {preamble(FamilyTDX, 1), attest.None, false, nil},
		"zeros called SEV":         {preamble(FamilySEV, 1), attest.None, false, nil},
		"zeros under Intel's root": {rooted, attest.None, false, nil},
		"fake":                     {bind(preamble(FamilyTDX, 1)), attest.Fake, false, nil},
		"fake SEV":                 {bind(preamble(FamilySEV, 1)), attest.Fake, false, nil},
		"TDX":                      {measured(attest.IntelRoot), attest.TDX, true, nil},
		"simulated":                {measured(attest.KeyID{9}), attest.Simulated, true, nil},
		"no root":                  {measured(attest.KeyID{}), attest.Simulated, true, nil},
		"SEV":                      {sev, attest.SEVSNP, true, nil},
		"unbound":                  {unbound, "", false, ErrPreamble},
	} {
		peer, err := c.p.Peer()
		if !errors.Is(err, c.err) || peer.Kind != c.kind || peer.ImageHash.Proven() != c.proven {
			t.Errorf("%s: %+v, %v", name, peer, err)
		}
		if c.kind == attest.None && peer.ImageHash != (attest.ImageHash{}) {
			t.Errorf("%s: image %s", name, peer.ImageHash)
		}
	}
}

func TestBadPreambles(t *testing.T) {
	sev := frame(t, preamble(FamilySEV, 1), April)[4:]
	none := frame(t, preamble(NoFamily, 1), December)[4:]
	change := func(b []byte, at int, to byte) []byte { b = bytes.Clone(b); b[at] = to; return b }
	for name, body := range map[string][]byte{
		"empty":               {},
		"format 3":            change(sev, 0, 3),
		"format -1":           append([]byte{255, 255, 255, 255}, sev[4:]...),
		"kind 2":              change(sev, 4, 2),
		"December SGX":        append([]byte{1, 0, 0, 0, 1, 0, 0, 0}, make([]byte, 200)...),
		"cut in the record":   sev[:100],
		"cut in the tail":     sev[:len(sev)-1],
		"left over":           append(bytes.Clone(sev), 0, 0, 0, 0),
		"key of 31 bytes":     change(none, 52, 31),
		"key beyond the body": change(none, 52, 250),
	} {
		if p, err := ParsePreamble(body); !errors.Is(err, ErrPreamble) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	if _, err := ReadPreamble(bytes.NewReader([]byte{0x99, 0x40, 0, 0})); !errors.Is(err, ErrPreamble) { // 16537
		t.Errorf("oversized: %v", err)
	}
	if _, err := preamble(FamilySEV, 1).Append(nil, December); !errors.Is(err, ErrPreamble) {
		t.Errorf("SEV in December: %v", err)
	}
}

func FuzzPreamble(f *testing.F) {
	for _, l := range []Layout{December, April} {
		for _, fam := range []Family{NoFamily, FamilyTDX, FamilySEV} {
			if b, err := preamble(fam, 1).Append(nil, l); err == nil {
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ParsePreamble(body)
		if err != nil {
			return
		}
		p.Peer()
		layout := April
		if p.Family != FamilySEV && body[0] != formatApril {
			layout = December
		}
		b, err := p.Append(nil, layout)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePreamble(b)
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v, then %+v, %v", p, again, err)
		}
	})
}

// open accepts everybody as a client.
func open() Config {
	return Config{Policy: attest.OpenPolicy(), PeerRole: cocoon.RoleClient, GlobalID: 7}
}

// socks is a small router: it checks the exchange, and answers as told.
func socks(t *testing.T, nc net.Conn, ip6 bool, late []byte) {
	t.Helper()
	defer nc.Close()
	got := make([]byte, 3)
	if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, []byte{5, 1, 0}) {
		t.Errorf("greeting % x, %v", got, err)
		return
	}
	nc.Write([]byte{5, 0})
	got = make([]byte, 10)
	if _, err := io.ReadFull(nc, got); err != nil || !bytes.Equal(got, []byte{5, 1, 0, 1, 10, 1, 2, 3, 0x2a, 0xf9}) {
		t.Errorf("request % x, %v", got, err)
		return
	}
	reply := []byte{5, 0, 0, 1, 127, 0, 0, 1, 1, 2}
	if ip6 {
		reply = append([]byte{5, 0, 0, 4}, make([]byte, 18)...)
	}
	if late == nil {
		return // as reference routers do when anything fails
	}
	nc.Write(append(reply, late...))
	io.Copy(nc, nc)
}

func TestDialThroughRouter(t *testing.T) {
	worker := preamble(FamilyTDX, 11001)
	worker.Registers[3][5], worker.RootKeyID = 7, attest.IntelRoot
	worker.ReportData = attest.KeyReportData(worker.Key)
	hardware := Config{Policy: attest.HardwarePolicy(attest.DeferredImages()), PeerRole: cocoon.RoleProxy, GlobalID: -239}

	for name, c := range map[string]struct {
		cfg  Config
		addr string
		ip6  bool
		late []byte
		kind attest.Kind
		err  error
	}{
		"December":       {hardware, "10.1.2.3:11001", false, frame(t, worker, December), attest.TDX, nil},
		"April":          {hardware, "10.1.2.3:11001", true, frame(t, worker, April), attest.TDX, nil},
		"open":           {open(), "10.1.2.3:11001", false, frame(t, worker, April), attest.None, nil},
		"no evidence":    {hardware, "10.1.2.3:11001", false, frame(t, preamble(NoFamily, 1), April), "", attest.ErrNoEvidence},
		"no policy":      {Config{GlobalID: 7}, "10.1.2.3:11001", false, frame(t, worker, April), "", attest.ErrRejectsAll},
		"mainnet, none":  {Config{Policy: attest.OpenPolicy(), PeerRole: cocoon.RoleProxy, GlobalID: -239}, "10.1.2.3:11001", false, frame(t, worker, April), "", attest.ErrNetwork},
		"router refuses": {hardware, "10.1.2.3:11001", false, nil, "", ErrRefused},
		"preamble cut":   {hardware, "10.1.2.3:11001", false, []byte{}, "", nil},
		"not a preamble": {hardware, "10.1.2.3:11001", false, []byte("HTTP/1.1 400"), "", ErrPreamble},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := c.cfg
				cfg.Router = "127.0.0.1:8116"
				cfg.NetDial = func(_ context.Context, _, addr string) (net.Conn, error) {
					if addr != cfg.Router {
						t.Errorf("dialed %s", addr)
					}
					near, far := net.Pipe()
					go socks(t, far, c.ip6, c.late)
					return near, nil
				}
				d, err := NewDialer(cfg)
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				conn, err := d.Dial(t.Context(), c.addr)
				if name == "preamble cut" { // the router is silent after its reply
					if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != timeout {
						t.Errorf("a silent router: %v after %v", err, time.Since(start))
					}
					return
				}
				if !errors.Is(err, c.err) {
					t.Fatalf("got %v, want %v", err, c.err)
				}
				if err != nil {
					return
				}
				if conn.Peer.Kind != c.kind || conn.Peer.Key != testKey() || conn.Peer.Addr != c.addr || conn.Peer.Level != 0 {
					t.Errorf("peer %+v", conn.Peer)
				}
				time.Sleep(time.Hour) // no deadline is left
				go conn.Write([]byte("hello"))
				got := make([]byte, 5)
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
					t.Errorf("read %q, %v", got, err)
				}
				conn.Close()
			})
		})
	}
}

func TestDialAddresses(t *testing.T) {
	for _, addr := range []string{"proxy.example:1", "[::1]:1", "10.0.0.1", "10.0.0.1:99999", ""} {
		cfg := open()
		cfg.Router = "127.0.0.1:1"
		cfg.NetDial = func(context.Context, string, string) (net.Conn, error) { near, _ := net.Pipe(); return near, nil }
		d, err := NewDialer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Dial(t.Context(), addr); !errors.Is(err, ErrAddress) {
			t.Errorf("%q: %v", addr, err)
		}
	}
	for name, cfg := range map[string]Config{
		"no network": {Policy: attest.OpenPolicy()},
		"bad policy": {Policy: &attest.Policy{Kinds: []attest.Kind{"x"}}, GlobalID: 7},
		"no layout":  {GlobalID: 7, Present: preamble(NoFamily, 1)},
	} {
		if _, err := NewDialer(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Listen(nil, Config{}); !errors.Is(err, ErrConfig) {
		t.Errorf("listener: %v", err)
	}
}

// TestPlain connects two peers without any router between them, over TCP, and
// a stranger who never says a word.
func TestPlain(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, layout := range []Layout{December, April} {
		cfg := Config{
			Policy:        &attest.Policy{Kinds: []attest.Kind{attest.None, attest.Fake}},
			PeerRole:      cocoon.RoleWorker,
			GlobalID:      7,
			Present:       preamble(NoFamily, 1),
			PresentLayout: layout,
		}
		l, err := Listen(inner, cfg)
		if err != nil {
			t.Fatal(err)
		}
		silent, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		cfg.Present = preamble(FamilyTDX, 1)
		cfg.Present.ReportData = attest.KeyReportData(testKey())
		d, err := NewDialer(cfg)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			conn, err := d.Dial(t.Context(), inner.Addr().String())
			if err == nil {
				if conn.Peer.Kind != attest.None {
					t.Errorf("dialer sees %+v", conn.Peer)
				}
				_, err = conn.Write([]byte("x"))
				conn.Close()
			}
			done <- err
		}()
		conn, err := l.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if conn.Peer.Kind != attest.Fake || conn.Peer.Addr != "10.0.2.2:54321" {
			t.Errorf("acceptor sees %+v", conn.Peer)
		}
		if b, err := io.ReadAll(conn); err != nil || string(b) != "x" {
			t.Errorf("read %q, %v", b, err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		conn.Close()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if inner, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	inner.Close()
}
