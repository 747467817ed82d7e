package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/cocoon-network/cocoon/attest"
)

// statusPart serves a role's state for people and programs: /stats, /jsonstats
// (spec network-protocol 10.1), /metrics, /healthz and /readyz. Nothing in it is secret, yet
// only names of this machine are answered to, so that no web page elsewhere
// reads it through a browser. What moves money, /control/channel, asks for the
// secret in the role's folder. d is nil where no chain is.
func statusPart(c *Config, ls *Listeners, stats func() any, ready func() error, d *desk, more ...page) (func(context.Context) error, error) {
	secret, err := controlSecret(c.Runtime.Dir)
	if err != nil {
		return nil, err
	}
	ln, err := ls.Listen("status", c.Runtime.Status)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jsonstats", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(stats())
	})
	mux.HandleFunc("GET /stats", serveStats("cocoon "+c.Role, c.Measured.Accepts(attest.Simulated), stats))
	mux.HandleFunc("GET /metrics", serveMetrics(stats))
	for _, p := range more {
		if p.serve != nil {
			mux.HandleFunc("GET "+p.path, p.serve)
			continue
		}
		mux.HandleFunc("GET "+p.path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(p.content())
		})
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	d.serve(mux, secret)
	srv := &http.Server{Handler: localOnly(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 8 << 10}
	return func(ctx context.Context) error { return serveHTTP(ctx, srv, ln, time.Second, nil) }, nil
}

// page is one more page of a role's status, as JSON.
type page struct {
	path    string
	content func() any
	serve   http.HandlerFunc // in place of content: whatever is below path
}

// bundlesPath is where a proxy shows its workers' statements with their
// evidence, for `cocoon verify`.
const bundlesPath = "/bundles"

const controlHeader = "X-Cocoon-Control"

// controlSecret returns the secret by which programs of this machine's owner
// prove themselves to a role; it is made when it is first needed.
func controlSecret(dir string) (string, error) {
	path := filepath.Join(dir, "control")
	b, err := readSecret(path)
	if err == nil && len(b) == 64 {
		return string(b), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	var raw [32]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	text := hex.EncodeToString(raw[:])
	return text, writeFile(path, []byte(text), 0o600)
}

// localOnly answers to host names that cannot be rebound: addresses and
// localhost.
func localOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if _, err := netip.ParseAddr(host); err != nil && host != "localhost" {
			http.Error(w, "this name is not answered to: use the address", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
