// Package guard is what HTTP servers that spend their owner's money share: it
// keeps foreign web pages away from them, and knows whether an answer began.
//
// Owns: which hosts, origins and content types a server takes; Response.
// Imports: api/openai for errors.
// Trust: every header is foreign.
// Concurrency: a Guard is immutable; a Response belongs to its request.
package guard

import (
	"fmt"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Guard keeps web pages away from a server that spends its owner's money: a
// page can reach a loopback port, by its address or by a name that it makes
// point there, but it can choose neither Host nor Origin.
type Guard struct {
	hosts   map[string]bool
	origins map[string]bool
}

// New makes a Guard that lets pass, besides loopback addresses and "localhost",
// hosts, and pages of origins ("https://app.example").
func New(hosts, origins []string) (Guard, error) {
	g := Guard{hosts: map[string]bool{}, origins: map[string]bool{}}
	for _, h := range hosts {
		if h == "" || strings.ContainsAny(h, "/*@ ") {
			return g, fmt.Errorf("guard: %q is not a host name; write names like \"gateway.example\" or \"gateway.example:10000\"", h)
		}
		g.hosts[normalHost(h)] = true
	}
	for _, o := range origins {
		u, err := url.Parse(o)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return g, fmt.Errorf("guard: %q is not a web origin; write it like \"https://app.example\", without a path", o)
		}
		g.origins[strings.ToLower(o)] = true
	}
	return g, nil
}

func normalHost(h string) string {
	return strings.TrimSuffix(strings.ToLower(h), ".")
}

// Check refuses foreign hosts and origins and gives allowed origins their
// headers.
func (g Guard) Check(w http.ResponseWriter, r *http.Request) error {
	if !g.hostAllowed(r.Host) {
		return openai.Errorf(openai.CodeHostNotAllowed, "The Host header names a host this gateway does not serve; add it to the gateway's hosts to allow it.")
	}
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return nil
	}
	origin := strings.ToLower(origins[0])
	if len(origins) == 1 && g.origins[origin] {
		h := w.Header()
		h.Set("Access-Control-Allow-Origin", origins[0])
		h.Set("Access-Control-Expose-Headers", "*")
		h.Add("Vary", "Origin")
		return nil
	}
	u, err := url.Parse(origin)
	if len(origins) == 1 && err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.Host == strings.ToLower(r.Host) {
		return nil // the gateway's own pages
	}
	return openai.Errorf(openai.CodeOriginNotAllowed, "Pages of this origin may not call the gateway; add it to the gateway's origins to allow it.")
}

func (g Guard) hostAllowed(host string) bool {
	host = strings.ToLower(host)
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = normalHost(strings.Trim(name, "[]"))
	if name == "localhost" || g.hosts[name] || g.hosts[normalHost(host)] {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.IsLoopback() && ip.Zone() == ""
}

// Preflight answers a CORS preflight of an allowed origin; Check has passed.
func (g Guard) Preflight(w http.ResponseWriter, r *http.Request, method string) bool {
	h := w.Header()
	if h.Get("Access-Control-Allow-Origin") == "" {
		return false
	}
	h.Set("Access-Control-Allow-Methods", method)
	// No header travels inwards, so any may be sent.
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" && isHeaderList(asked) {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}

func isHeaderList(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-_, ", rune(c)) {
			return false
		}
	}
	return len(s) <= 1024
}

// RequireJSON refuses a body that is not declared as JSON. Pages can send other
// types without a preflight.
func RequireJSON(r *http.Request) error {
	types := r.Header.Values("Content-Type")
	if len(types) == 1 && r.Header.Get("Content-Encoding") == "" {
		t, params, err := mime.ParseMediaType(types[0])
		charset, has := params["charset"]
		if err == nil && t == "application/json" && (!has || strings.EqualFold(charset, "utf-8")) {
			return nil
		}
	}
	return openai.UnsupportedMedia("application/json, and the body neither compressed nor in another charset than UTF-8")
}
