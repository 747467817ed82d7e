package topo

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/bench/engine"
	"github.com/cocoon-network/cocoon/bench/load"
	ports "github.com/cocoon-network/cocoon/internal/engine"
)

// Kind is a way from the load to the engine.
type Kind string

// The kinds. Direct has no hop; every other one has three: plain HTTP in,
// mutual TLS 1.3 twice, plain HTTP to the engine.
const (
	Direct   Kind = "direct"
	Nginx3   Kind = "nginx3"
	Haproxy3 Kind = "haproxy3"
	Ours0    Kind = "ours0"  // the reference protocol
	Ours1    Kind = "ours1"  // level 1
	Sealed   Kind = "sealed" // level 1, each request sealed to the worker
	Before   Kind = "before" // ours1, by another build: ours1-before
	// Receipts is Sealed as it is where there is a chain: the proxy signs and
	// logs a part of each receipt, and the client checks and keeps it.
	Receipts Kind = "receipts"
)

// before marks a kind that is run with another build: Env.Before.
const before = "-before"

// ErrMissing says that a peer is not installed here.
var ErrMissing = errors.New("is not installed")

// Env is where topologies are started.
type Env struct {
	Dir    string // a directory of its own for each topology is made in it
	Cocoon string // the program under test
	Before string // another build of it, for kinds that end in -before
	Self   string // this program, for what the program under test cannot be told
	Engine string // address of the engine
	Hops   []int  // cores of all hops
	// Profile, if set, is a directory into which our roles write profiles when
	// they end. They are then run by Self.
	Profile string
}

// Topology is a running chain.
type Topology struct {
	Kind  Kind
	Addrs []string   // where requests go
	Procs []*Process // the hops
}

// StartTopology starts a chain and returns when it answers.
func StartTopology(ctx context.Context, kind Kind, e Env) (t *Topology, err error) {
	t = &Topology{Kind: kind}
	defer func() {
		if err != nil {
			t.Stop()
		}
	}()
	dir := filepath.Join(e.Dir, string(kind))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	name, old := strings.CutSuffix(string(kind), before)
	if kind == Before {
		name, old = string(Ours1), true
	}
	if old {
		if e.Before == "" {
			return nil, fmt.Errorf("%s: which build is the one before? Name it with -before", kind)
		}
		e.Cocoon = e.Before
	}
	switch base := Kind(name); base {
	case Direct:
		t.Addrs = []string{e.Engine}
	case Nginx3, Haproxy3:
		err = t.peers(e, dir)
	case Ours0, Ours1, Sealed, Receipts:
		err = t.ours(e, dir, base)
	default:
		err = fmt.Errorf("%q is no topology (direct, nginx3, haproxy3, ours0, ours1, sealed, receipts)", kind)
	}
	if err != nil {
		return nil, err
	}
	return t, until(ctx, string(kind), t.Procs, func() error {
		for _, a := range t.Addrs {
			c := load.NewConn(a)
			_, err := c.Do(engine.Order{Chunks: 2, Size: 20}, 0)
			c.Close()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Stop ends all processes.
func (t *Topology) Stop() {
	for _, p := range t.Procs {
		p.Stop()
	}
}

// Logs is the end of what each hop has logged.
func (t *Topology) Logs() string {
	var all strings.Builder
	for _, p := range t.Procs {
		if b, err := os.ReadFile(p.log.Name()); err == nil && len(b) > 0 {
			fmt.Fprintf(&all, "%s: %s\n", p.Name, b[max(0, len(b)-1500):])
		}
	}
	return all.String()
}

// CPU is what all hops have run.
func (t *Topology) CPU() (time.Duration, error) {
	var sum time.Duration
	for _, p := range t.Procs {
		if err := p.Failed(); err != nil {
			return 0, err
		}
		d, err := p.CPU()
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// PSS is each hop's memory in bytes, by name.
func (t *Topology) PSS() (map[string]int64, error) {
	out := map[string]int64{}
	for _, p := range t.Procs {
		n, err := p.PSS()
		if err != nil {
			return nil, err
		}
		out[p.Name] += n
	}
	return out, nil
}

// FreeAddr returns a loopback address that nobody listens on now.
func FreeAddr() (string, error) {
	port, err := ports.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// peers starts three of nginx or haproxy.
func (t *Topology) peers(e Env, dir string) error {
	program := strings.TrimSuffix(string(t.Kind), "3")
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%s %w", program, ErrMissing)
	}
	if err := certificates(dir); err != nil {
		return err
	}
	next := e.Engine
	for hop := 3; hop >= 1; hop-- {
		listen, err := FreeAddr()
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s-%d", program, hop)
		config, args := nginxConfig(dir, name, listen, next, hop), []string{"-p", dir, "-c", name + ".conf", "-e", "stderr"}
		if t.Kind == Haproxy3 {
			config, args = haproxyConfig(dir, listen, next, hop), []string{"-db", "-f", name + ".conf"}
		}
		if err := os.WriteFile(filepath.Join(dir, name+".conf"), []byte(config), 0o600); err != nil {
			return err
		}
		p, err := Start(dir, name, e.Hops, nil, path, args...)
		if err != nil {
			return err
		}
		t.Procs = append(t.Procs, p)
		next = listen
	}
	t.Addrs = []string{next}
	return nil
}

// nginxConfig is one hop: TLS in except at the first, TLS out except at the
// last, connections kept, nothing buffered that a stream would wait for.
func nginxConfig(dir, name, listen, next string, hop int) string {
	in, out, scheme := "", "", "http"
	if hop > 1 {
		in = fmt.Sprintf("ssl_certificate %[1]s/node.crt; ssl_certificate_key %[1]s/node.key; ssl_client_certificate %[1]s/ca.crt; ssl_verify_client on; ssl_protocols TLSv1.3;", dir)
		listen += " ssl"
	}
	if hop < 3 {
		scheme = "https"
		out = fmt.Sprintf("proxy_ssl_certificate %[1]s/node.crt; proxy_ssl_certificate_key %[1]s/node.key; proxy_ssl_trusted_certificate %[1]s/ca.crt; proxy_ssl_verify on; proxy_ssl_name node; proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3;", dir)
	}
	return fmt.Sprintf(`daemon off; master_process off; worker_processes 1; pid %[1]s/%[2]s.pid; error_log stderr error;
events { worker_connections 8192; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; tcp_nodelay on;
  client_body_temp_path %[1]s/tmp1; proxy_temp_path %[1]s/tmp2; fastcgi_temp_path %[1]s/tmp3; uwsgi_temp_path %[1]s/tmp4; scgi_temp_path %[1]s/tmp5;
  upstream next { server %[3]s; keepalive 2048; keepalive_requests 100000000; keepalive_timeout 600s; }
  server {
    listen %[4]s backlog=4096; %[5]s %[6]s
    location / { proxy_pass %[7]s://next; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost; proxy_buffering off; proxy_read_timeout 600s; }
  }
}
`, dir, name, next, listen, in, out, scheme)
}

func haproxyConfig(dir, listen, next string, hop int) string {
	in, out := "", ""
	if hop > 1 {
		in = fmt.Sprintf(" ssl crt %[1]s/node.pem ca-file %[1]s/ca.crt verify required ssl-min-ver TLSv1.3", dir)
	}
	if hop < 3 {
		out = fmt.Sprintf(" ssl crt %[1]s/node.pem ca-file %[1]s/ca.crt verify required verifyhost node sni str(node) ssl-min-ver TLSv1.3", dir)
	}
	return fmt.Sprintf(`global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 10s
  timeout client 600s
  timeout server 600s
  option http-keep-alive
  http-reuse always
frontend in
  bind %s%s
  default_backend next
backend next
  server next %s%s pool-max-conn 4096
`, listen, in, next, out)
}

// certificates writes an authority and one certificate, Ed25519 as the nodes'
// own, that every hop uses both ways.
func certificates(dir string) error {
	caPub, caKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "node"}, DNSNames: []string{"node"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caPub, caKey)
	if err != nil {
		return err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, pub, caKey)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	crt, pk := block("CERTIFICATE", leafDER), block("PRIVATE KEY", keyDER)
	for name, b := range map[string][]byte{"ca.crt": block("CERTIFICATE", caDER), "node.crt": crt, "node.key": pk, "node.pem": append(append([]byte{}, crt...), pk...)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
