//go:build !tee

package endorse

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

var (
	start = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)
	data  = attest.ReportData{1, 2, 3}
)

// world is a vendor with its services, and a clock.
type world struct {
	t      *testing.T
	vendor *simulated.Vendor
	ev     attest.Evidence
	now    time.Time
	state  simulated.Statements
	down   atomic.Bool
	asked  atomic.Int32
	cfg    Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	v, err := simulated.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	g, err := v.NewGuest(simulated.GuestConfig{Registers: simulated.Image("worker")})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, vendor: v, now: start}
	if w.ev, err = g.Attest(t.Context(), data); err != nil {
		t.Fatal(err)
	}
	pcs := v.PCS(func() simulated.Statements { s := w.state; s.At = w.now.Add(-time.Minute); return s })
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.asked.Add(1)
		if w.down.Load() {
			http.Error(rw, "out of order", http.StatusServiceUnavailable)
			return
		}
		pcs.ServeHTTP(rw, r)
	}))
	t.Cleanup(srv.Close)
	w.cfg = Config{
		Roots:   []attest.KeyID{v.RootKeyID()},
		PCS:     srv.URL,
		RootCRL: srv.URL + "/IntelSGXRootCA.der",
		Dir:     filepath.Join(t.TempDir(), "collateral"),
		Client:  srv.Client(),
		Now:     func() time.Time { return w.now },
	}
	return w
}

// verify finds statements and holds the evidence against them.
func (w *world) verify(s *Source) error {
	w.t.Helper()
	end, err := s.Endorsements(w.t.Context(), w.ev)
	if err != nil {
		return err
	}
	res, err := attest.Verify(w.ev, data, end, w.vendor.Policy(attest.DeferredImages()), w.now)
	if err == nil && res.Status != dcap.UpToDate {
		w.t.Errorf("status %q", res.Status)
	}
	return err
}

func (w *world) expect(s *Source, want error, asked int) {
	w.t.Helper()
	w.asked.Store(0)
	if err := w.verify(s); !errors.Is(err, want) {
		w.t.Errorf("got %v, want %v", err, want)
	}
	if n := int(w.asked.Load()); n != asked {
		w.t.Errorf("%d requests, want %d", n, asked)
	}
}

func TestIntel(t *testing.T) {
	w := newWorld(t)
	s := New(w.cfg)
	w.expect(s, nil, 4)
	w.expect(s, nil, 0) // remembered
	w.now = w.now.Add(7 * time.Hour)
	w.state.Platform = dcap.OutOfDate
	w.expect(s, attest.ErrStatus, 4) // renewed, and for the worse
	w.state.Platform = ""

	w.now = w.now.Add(7 * time.Hour)
	w.down.Store(true)
	w.expect(s, attest.ErrStatus, 1) // the old ones serve on
	w.expect(s, attest.ErrStatus, 0) // and nothing is asked for a while
	w.now = w.now.Add(2 * time.Minute)
	w.down.Store(false)
	w.expect(s, nil, 4)

	// Another process finds them on disk; offline they serve until they run
	// out.
	cfg := w.cfg
	cfg.Offline = true
	again := New(cfg)
	w.expect(again, nil, 0)
	w.now = w.now.Add(31 * 24 * time.Hour)
	w.expect(again, dcap.ErrCRLDate, 0)
	w.expect(New(w.cfg), nil, 4)
}

func TestNothingFound(t *testing.T) {
	w := newWorld(t)
	w.down.Store(true)
	s := New(w.cfg)
	w.expect(s, ErrAnswer, 1)
	w.expect(s, ErrNotFound, 0)

	cfg := w.cfg
	cfg.Offline, cfg.Dir = true, ""
	w.expect(New(cfg), ErrNotFound, 0)

	cfg = w.cfg
	cfg.Roots = []attest.KeyID{attest.IntelRoot}
	w.expect(New(cfg), ErrUntrusted, 0)

	w.now = time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC)
	w.expect(New(w.cfg), dcap.ErrChainDate, 0)

	for name, ev := range map[string]attest.Evidence{
		"none":                 {},
		"garbage":              {Format: attest.FormatTDX, Quote: []byte("garbage")},
		"SNP of no signer":     {Format: attest.FormatSEVSNP},
		"another root's quote": w.ev,
	} {
		if _, err := New(Config{}).Endorsements(t.Context(), ev); err == nil {
			t.Errorf("%s: something was found", name)
		}
	}
}

// TestBrokenFile: what is on disk is as foreign as what is on the wire.
func TestBrokenFile(t *testing.T) {
	w := newWorld(t)
	w.expect(New(w.cfg), nil, 4)
	names, err := filepath.Glob(filepath.Join(w.cfg.Dir, "*.json"))
	if err != nil || len(names) != 1 {
		t.Fatalf("%v, %v", names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(names[0], b[:len(b)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	w.expect(New(w.cfg), nil, 4) // cut off: fetched again

	// Changed on disk: the verifier notices.
	changed := strings.Replace(string(b), `"PCKCRL":"`, `"PCKCRL":"AAAA`, 1)
	if err := os.WriteFile(names[0], []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	w.expect(New(w.cfg), dcap.ErrCRL, 0)
}

// TestOneFetch: many handshakes at once ask the service once.
func TestOneFetch(t *testing.T) {
	w := newWorld(t)
	s := New(w.cfg)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := w.verify(s); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := w.asked.Load(); n != 4 {
		t.Errorf("%d requests, want 4", n)
	}
}

func TestBadAnswers(t *testing.T) {
	w := newWorld(t)
	good := w.cfg.PCS
	for name, h := range map[string]http.HandlerFunc{
		"not found":       http.NotFound,
		"no issuer chain": func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("{}")) },
		"endless": func(rw http.ResponseWriter, _ *http.Request) {
			for range maxAnswer/4096 + 1 {
				rw.Write(make([]byte, 4096))
			}
		},
		"gzip bomb": func(rw http.ResponseWriter, _ *http.Request) { // 24 MiB of zeros in 24 KiB
			rw.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(rw)
			for range 24 {
				if _, err := z.Write(make([]byte, 1<<20)); err != nil {
					return // the reader has had enough
				}
			}
			z.Close()
		},
		"cut off": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "10")
			rw.Write([]byte("x"))
		},
	} {
		srv := httptest.NewServer(h)
		cfg := w.cfg
		cfg.PCS, cfg.Dir = srv.URL, ""
		if _, err := New(cfg).Endorsements(t.Context(), w.ev); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", name, err)
		}
		srv.Close()
	}
	cfg := w.cfg
	cfg.PCS, cfg.RootCRL, cfg.Dir = good, "://", ""
	if _, err := New(cfg).Endorsements(t.Context(), w.ev); !errors.Is(err, ErrAnswer) {
		t.Errorf("no URL: %v", err)
	}
}

func TestHexList(t *testing.T) {
	if got := unhex([]byte("3082aF")); !bytes.Equal(got, []byte{0x30, 0x82, 0xaf}) {
		t.Errorf("got %x", got)
	}
	if der := []byte{0x30, 0x82}; !bytes.Equal(unhex(der), der) {
		t.Error("DER was changed")
	}
}

func TestAMD(t *testing.T) {
	w := newWorld(t)
	line, err := w.vendor.SNP(sevsnp.Milan)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(line.KDS(func() simulated.SNPStatements { return simulated.SNPStatements{At: w.now} }))
	defer srv.Close()
	cfg := w.cfg
	cfg.KDS = srv.URL
	s := New(cfg)
	intelOnly := cfg
	intelOnly.Roots = []attest.KeyID{attest.IntelRoot}
	for _, vlek := range []bool{false, true} {
		g, err := line.NewGuest(simulated.SNPGuestConfig{Measurement: [48]byte{1}, VLEK: vlek})
		if err != nil {
			t.Fatal(err)
		}
		ev, err := g.Attest(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(intelOnly).Endorsements(t.Context(), ev); !errors.Is(err, ErrUntrusted) {
			t.Errorf("where no root of AMD is trusted: %v, want ErrUntrusted", err)
		}
		end, err := s.Endorsements(t.Context(), ev)
		if err != nil {
			t.Fatal(err)
		}
		policy := &attest.Policy{
			Kinds:  []attest.Kind{attest.Simulated},
			Roots:  []attest.KeyID{line.RootKeyID()},
			Images: attest.DeferredImages(),
			SNP:    attest.SNPRules{KernelMeasured: []attest.ImageHash{attest.SEVImageHash([48]byte{1})}, MinTCB: simulated.SNPTCB},
		}
		if _, err := attest.Verify(ev, data, end, policy, w.now); err != nil {
			t.Errorf("VLEK %v: %v", vlek, err)
		}
	}
	files, err := os.ReadDir(cfg.Dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%d files kept, %v", len(files), err)
	}
}

// TestSigner: a guest without a certificate from its host asks for its VCEK.
func TestSigner(t *testing.T) {
	w := newWorld(t)
	line, err := w.vendor.SNP(sevsnp.Milan)
	if err != nil {
		t.Fatal(err)
	}
	start := func(cfg simulated.SNPGuestConfig) (*simulated.SNPGuest, attest.Evidence) {
		g, err := line.NewGuest(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ev, err := g.Attest(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		return g, ev
	}
	g, ev := start(simulated.SNPGuestConfig{})
	_, unknown := start(simulated.SNPGuestConfig{Machine: "unknown"})
	_, vlek := start(simulated.SNPGuestConfig{VLEK: true})
	srv := httptest.NewServer(line.KDS(func() simulated.SNPStatements { return simulated.SNPStatements{At: w.now} }, g))
	defer srv.Close()
	s := New(Config{KDS: srv.URL})
	if got, err := s.Signer(t.Context(), ev.Quote); err != nil || !bytes.Equal(got, ev.Certificate) {
		t.Errorf("%q, %v", got, err)
	}
	for name, c := range map[string]struct {
		source *Source
		report []byte
		err    error
	}{
		"unknown machine": {s, unknown.Quote, ErrAnswer},
		"VLEK":            {s, vlek.Quote, ErrNotFound},
		"no report":       {s, nil, sevsnp.ErrFormat},
		"offline":         {New(Config{KDS: srv.URL, Offline: true}), ev.Quote, ErrNotFound},
	} {
		if _, err := c.source.Signer(t.Context(), c.report); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	garbage := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Write([]byte("garbage")) }))
	defer garbage.Close()
	if _, err := New(Config{KDS: garbage.URL}).Signer(t.Context(), ev.Quote); !errors.Is(err, ErrAnswer) {
		t.Errorf("garbage: %v", err)
	}
}

// hung is a service that takes requests and never answers.
type hung struct{}

func (hung) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// TestHungService: whoever has no statements hears that the service hangs; who
// has older ones is held up for moments only, and nobody beyond his own time.
func TestHungService(t *testing.T) {
	w := newWorld(t)
	filled := New(w.cfg) // into the folder
	w.expect(filled, nil, 4)
	synctest.Test(t, func(t *testing.T) {
		cfg := w.cfg
		cfg.Client = &http.Client{Transport: hung{}}
		ask := func(s *Source, limit time.Duration) (took time.Duration, err error) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			begun := time.Now()
			_, err = s.Endorsements(ctx, w.ev)
			return time.Since(begun), err
		}
		cfg.Dir = ""
		s := New(cfg)
		if took, err := ask(s, time.Second); !errors.Is(err, ErrAnswer) || took != time.Second {
			t.Errorf("for a second: %v after %s", err, took)
		}
		// The same fetch goes on for the next one.
		if took, err := ask(s, time.Minute); !errors.Is(err, ErrAnswer) || took != fetchLimit-time.Second || !strings.Contains(err.Error(), "in time") {
			t.Errorf("to its end: %v after %s", err, took)
		}
		if took, err := ask(s, time.Minute); !errors.Is(err, ErrNotFound) || took != 0 {
			t.Errorf("soon after: %v after %s", err, took)
		}
		cfg.Dir = w.cfg.Dir
		later := w.now.Add(defaultRefresh + time.Hour)
		cfg.Now = func() time.Time { return later }
		s = New(cfg)
		if took, err := ask(s, time.Minute); err != nil || took != patience {
			t.Errorf("with older statements: %v after %s", err, took)
		}
		time.Sleep(fetchLimit)
	})
}
