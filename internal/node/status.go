package node

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// statusPart serves a role's state for people and programs: /jsonstats (spec
// network-protocol 10.1), /healthz and /readyz. Nothing in it is secret, yet
// only names of this machine are answered to, so that no web page elsewhere
// reads it through a browser.
func statusPart(ln net.Listener, stats func() any, ready func() error) func(context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jsonstats", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		_ = enc.Encode(stats())
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	srv := &http.Server{Handler: localOnly(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10}
	return func(ctx context.Context) error { return serveHTTP(ctx, srv, ln, time.Second) }
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
