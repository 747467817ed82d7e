//go:build !tee

package sealedkeys

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

var at = time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)

// world is a simulated vendor with one guest on each machine.
type world struct {
	t      *testing.T
	vendor *simulated.Vendor
	edit   func(*dcap.EnclaveReport) // of the enclave, before it is quoted
}

func newWorld(t *testing.T) *world {
	v, err := simulated.New(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &world{t: t, vendor: v, edit: func(*dcap.EnclaveReport) {}}
}

// machine is a simulated machine by its name.
func (w *world) machine(name string) *Machine {
	g, err := w.vendor.NewGuest(simulated.GuestConfig{Machine: name})
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := NewMachine(bytes.Repeat([]byte(name), 32), func(data [64]byte) ([]byte, error) {
		e := simulated.SealingEnclave(data)
		w.edit(&e)
		q, err := g.EnclaveQuote(e)
		if err != nil {
			return nil, err
		}
		return q.Bytes(), nil
	}, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func (w *world) policy() *attest.EnclavePolicy {
	return &attest.EnclavePolicy{
		Roots:      []attest.KeyID{w.vendor.RootKeyID()},
		MREnclaves: [][32]byte{simulated.SealingEnclave([64]byte{}).MREnclave},
	}
}

// report is made by a machine for a guest with the given image.
func (w *world) report(m *Machine, image string) func(context.Context, [64]byte) ([]byte, error) {
	g, err := w.vendor.NewGuest(simulated.GuestConfig{Registers: simulated.Image(image)})
	if err != nil {
		w.t.Fatal(err)
	}
	q, err := g.Quote([64]byte{})
	if err != nil {
		w.t.Fatal(err)
	}
	return func(_ context.Context, data [64]byte) ([]byte, error) { return m.Report(q.TD, data), nil }
}

// direct is a connection to a function in place of a server.
func direct(serve func(nc net.Conn)) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { defer far.Close(); serve(far) }()
		return near, nil
	}
}

func (w *world) client(m *Machine, image string, change func(*Config)) *Client {
	w.t.Helper()
	cfg := Config{
		Dial:   direct(func(nc net.Conn) { m.serve(nc) }),
		Report: w.report(m, image),
		Policy: w.policy(),
		Now:    func() time.Time { return at },
	}
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// TestKeys: one key per machine, image and name, the same each time.
func TestKeys(t *testing.T) {
	w := newWorld(t)
	fetch := func(machine, image, name string) Key {
		t.Helper()
		k, err := w.client(w.machine(machine), image, nil).Fetch(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k := fetch("a", "image", DiskKey)
	if !k.Equal(fetch("a", "image", DiskKey)) {
		t.Error("the key changes")
	}
	for what, other := range map[string]Key{"machine": fetch("b", "image", DiskKey), "image": fetch("a", "other", DiskKey), "name": fetch("a", "image", AppKey)} {
		if k.Equal(other) {
			t.Errorf("another %s has the same key", what)
		}
	}
}

// TestOverTCP: the whole way, over a socket.
func TestOverTCP(t *testing.T) {
	w := newWorld(t)
	m := w.machine("a")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Serve(ctx, ln) }()
	dial := func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := w.client(m, "image", func(c *Config) { c.Dial = dial }).Fetch(t.Context(), AppKey); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// Garbage gets a close and nothing else.
	nc, err := dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nc.Write([]byte{4, 0, 0, 0, 1, 2, 3, 4})
	if b, err := io.ReadAll(nc); len(b) > 0 || err != nil {
		t.Errorf("answer % x, %v", b, err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestEnclaveRefused: what must not be believed of an enclave.
func TestEnclaveRefused(t *testing.T) {
	for name, c := range map[string]struct {
		edit   func(*dcap.EnclaveReport)
		change func(w *world, c *Config)
		want   error
	}{
		"debug":         {edit: func(e *dcap.EnclaveReport) { e.Attributes[0] |= dcap.EnclaveDebug }, want: attest.ErrDebug},
		"other enclave": {edit: func(e *dcap.EnclaveReport) { e.MREnclave[0] ^= 1 }, want: attest.ErrEnclave},
		"old enclave":   {change: func(_ *world, c *Config) { c.Policy.MinISVSVN = 2 }, want: attest.ErrEnclave},
		"other data":    {edit: func(e *dcap.EnclaveReport) { e.ReportData[40] ^= 1 }, want: attest.ErrReportData},
		"other root":    {change: func(_ *world, c *Config) { c.Policy.Roots = []attest.KeyID{attest.IntelRoot} }, want: attest.ErrRoot},
		"no policy":     {change: func(_ *world, c *Config) { c.Policy = nil }, want: attest.ErrRejectsAll},
		"no endorsements": {change: func(_ *world, c *Config) {
			c.Endorser = endorser(func() (*attest.Endorsements, error) { return nil, errors.ErrUnsupported })
		}, want: errors.ErrUnsupported},
		"out of date": {change: func(w *world, c *Config) {
			c.Endorser = endorser(func() (*attest.Endorsements, error) {
				intel, err := w.vendor.EnclaveCollateral(simulated.Statements{At: at, Platform: dcap.OutOfDate})
				return &attest.Endorsements{Intel: intel}, err
			})
		}, want: attest.ErrStatus},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if c.edit != nil {
				w.edit = c.edit
			}
			_, err := w.client(w.machine("a"), "image", func(cfg *Config) {
				if c.change != nil {
					c.change(w, cfg)
				}
			}).Fetch(t.Context(), DiskKey)
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	w := newWorld(t)
	if _, err := w.client(w.machine("a"), "image", func(c *Config) {
		c.Endorser = endorser(func() (*attest.Endorsements, error) {
			intel, err := w.vendor.EnclaveCollateral(simulated.Statements{At: at})
			return &attest.Endorsements{Intel: intel}, err
		})
	}).Fetch(t.Context(), DiskKey); err != nil {
		t.Errorf("with good endorsements: %v", err)
	}
}

type endorser func() (*attest.Endorsements, error)

func (e endorser) Endorsements(context.Context, attest.Evidence) (*attest.Endorsements, error) {
	return e()
}

// TestReportRefused: what the enclave does not answer.
func TestReportRefused(t *testing.T) {
	w := newWorld(t)
	m := w.machine("a")
	good := w.report(m, "image")
	key := pointBytes(scalar(t, 0x11).PublicKey())
	request := func(edit func(q *Request)) *Request {
		report, err := good(t.Context(), requestData(key))
		if err != nil {
			t.Fatal(err)
		}
		q := &Request{Report: [ReportSize]byte(report), PublicKey: key, Name: AppKey}
		edit(q)
		return q
	}
	if _, err := m.Answer(request(func(*Request) {})); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		edit func(q *Request)
		want error
	}{
		"type":         {func(q *Request) { q.Report[2] = 1 }, ErrReport},
		"MAC":          {func(q *Request) { q.Report[reportMAC] ^= 1 }, ErrReport},
		"measurements": {func(q *Request) { q.Report[reportInfoHash] ^= 1 }, ErrReport},
		"other key":    {func(q *Request) { q.PublicKey = pointBytes(scalar(t, 0x22).PublicKey()) }, ErrReport},
		"no point":     {func(q *Request) { q.PublicKey[5] ^= 1 }, ErrProtocol},
		"other machine": {func(q *Request) {
			b := w.machine("b").Report(&dcap.TDReport{}, requestData(key))
			q.Report = [ReportSize]byte(b)
		}, ErrReport},
	} {
		if _, err := m.Answer(request(c.edit)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The real enclave's server says nothing when it refuses.
	_, err := w.client(m, "image", func(c *Config) { c.Report = w.report(w.machine("b"), "image") }).Fetch(t.Context(), AppKey)
	if !errors.Is(err, ErrRefused) {
		t.Errorf("got %v", err)
	}
}

// TestServerRefused: answers that are none, and servers that say nothing.
func TestServerRefused(t *testing.T) {
	frame := func(b []byte) []byte {
		var buf bytes.Buffer
		if err := writeFrame(&buf, b); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	w := newWorld(t)
	m := w.machine("a")
	for name, c := range map[string]struct {
		say  []byte
		want error
	}{
		"nothing":        {nil, ErrRefused},
		"half a frame":   {[]byte{9, 0, 0, 0, 1}, ErrRefused},
		"a large frame":  {[]byte{0xff, 0xff, 0, 0}, ErrProtocol},
		"garbage":        {frame([]byte("garbage!")), ErrProtocol},
		"short secret":   {frame(append((&Response{}).Append(nil)[:8], 4, 1, 2, 3, 4, 0, 0, 0)), ErrProtocol},
		"no quote":       {frame((&Response{}).Append(nil)), attest.ErrRejectsAll},
		"another answer": {frame((&Request{Name: "x"}).Append(nil)), ErrProtocol},
	} {
		_, err := w.client(m, "image", func(cfg *Config) {
			cfg.Dial = direct(func(nc net.Conn) {
				readFrame(nc)
				nc.Write(c.say)
			})
			if c.want == attest.ErrRejectsAll {
				cfg.Policy = nil
			}
		}).Fetch(t.Context(), AppKey)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := w.client(m, "image", func(cfg *Config) {
			cfg.Dial = direct(func(nc net.Conn) { io.Copy(io.Discard, nc) })
		})
		if _, err := c.Fetch(t.Context(), AppKey); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 30*time.Second {
			t.Errorf("a silent server: %v after %v", err, time.Since(start))
		}
	})
	failing := func(err error) func(*Config) {
		return func(cfg *Config) {
			cfg.Dial = func(context.Context) (net.Conn, error) { return nil, err }
		}
	}
	if _, err := w.client(m, "image", failing(io.ErrNoProgress)).Fetch(t.Context(), AppKey); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("no server: %v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", maxName+1)} {
		if _, err := w.client(m, "image", nil).Fetch(t.Context(), name); !errors.Is(err, ErrProtocol) {
			t.Errorf("a name of %d bytes: %v", len(name), err)
		}
	}
	if _, err := New(Config{}); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
	if _, err := NewMachine(nil, nil, nil); !errors.Is(err, ErrConfig) {
		t.Error(err)
	}
}

// TestKeyFile: written, read, and refused whenever anything differs.
func TestKeyFile(t *testing.T) {
	k, content := newKey([32]byte{1}), []byte("a wallet's seed")
	name := filepath.Join(t.TempDir(), "wallet.key")
	if _, err := k.ReadFile(name, "wallet"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	for range 2 { // the second replaces the first
		if err := k.WriteFile(name, "wallet", content); err != nil {
			t.Fatal(err)
		}
	}
	got, err := k.ReadFile(name, "wallet")
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("read %q, %v", got, err)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode() != keyFileMode {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(name), ".key-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	file, err := os.ReadFile(name)
	if err != nil || bytes.Contains(file, content) {
		t.Errorf("in clear: %v", err)
	}
	if _, err := k.ReadFile(name, "channel"); !errors.Is(err, ErrKeyFileOpen) {
		t.Errorf("another use: %v", err)
	}
	if _, err := newKey([32]byte{2}).ReadFile(name, "wallet"); !errors.Is(err, ErrKeyFileOpen) {
		t.Errorf("another key: %v", err)
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 1
		if _, err := k.Open("wallet", bad); err == nil {
			t.Errorf("byte %d does not matter", i)
		}
	}
	if _, err := k.Open("wallet", file[:len(fileMagic)+fileSalt]); !errors.Is(err, ErrKeyFile) {
		t.Errorf("cut off: %v", err)
	}
	if _, err := k.Seal("wallet", make([]byte, maxContent+1)); !errors.Is(err, ErrKeyFile) {
		t.Errorf("too large: %v", err)
	}
	if err := os.Chmod(name, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := k.ReadFile(name, "wallet"); !errors.Is(err, ErrKeyFile) {
		t.Errorf("readable by others: %v", err)
	}
	if err := k.WriteFile(filepath.Join(t.TempDir(), "absent", "x"), "x", nil); err == nil {
		t.Error("written into an absent folder")
	}
}

// TestSecret: a key shows itself in no way of printing.
func TestSecret(t *testing.T) {
	raw := [32]byte([]byte("canary-canary-canary-canary-cana"))
	k := newKey(raw)
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %x %s", k, &k, struct{ K Key }{k}, k, k), k.LogValue().String()} {
		if strings.Contains(s, "canary") || strings.Contains(s, "63616e617279") || strings.Contains(s, "99 97 110") {
			t.Errorf("printed: %s", s)
		}
	}
	if _, err := json.Marshal(map[string]any{"k": k}); !errors.Is(err, ErrEncode) {
		t.Errorf("encoded: %v", err)
	}
	var kept []byte
	if err := k.Use(func(b []byte) error { kept = b; return nil }); err != nil || !bytes.Equal(kept, make([]byte, 32)) {
		t.Errorf("not wiped: %v", err)
	}
	a, err := k.Derive("a", 32)
	if err != nil {
		t.Fatal(err)
	}
	b, err := k.Derive("b", 32)
	if err != nil || bytes.Equal(a, b) || bytes.Equal(a, raw[:]) {
		t.Errorf("derived keys are not independent: %v", err)
	}
}
