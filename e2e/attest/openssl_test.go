package attest

import (
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/wire/pow"
)

// OpenSSL stands for peers whose TLS is not Go's. It knows no proof of work,
// so a relay does that part, as a router would, and passes bytes on.

func openssl(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("COCOON_REQUIRE") != "" {
			t.Fatal("openssl is not installed")
		}
		t.Skip("openssl is not installed")
	}
	return path
}

// certificate makes an unattested certificate as peers have: Ed25519, and
// 127.0.0.1 as a DNS name.
func certificate(t *testing.T, openssl string) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	out, err := exec.Command(openssl, "req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "1", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=DNS:localhost,DNS:127.0.0.1", "-addext", "extendedKeyUsage=serverAuth,clientAuth",
		"-keyout", key, "-out", cert).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return cert, key
}

func relay(a, b net.Conn) {
	go func() {
		_, _ = io.Copy(a, b)
		a.Close()
	}()
	_, _ = io.Copy(b, a)
	b.Close()
}

func config() ratls.Config {
	return ratls.Config{
		Identity: ratls.NewIdentity(ratls.IdentityConfig{}), Policy: attest.OpenPolicy(), PeerRole: cocoon.RoleClient, GlobalID: 1,
		// The certificate was made a moment ago, by a clock of whole seconds.
		Now: func() time.Time { return time.Now().Add(2 * time.Second) },
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// TestOpenSSLClient: s_client talks to our listener.
func TestOpenSSLClient(t *testing.T) {
	openssl := openssl(t)
	cert, key := certificate(t, openssl)
	inner, front := listen(t), listen(t)
	l, err := ratls.Listen(inner, config())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		a, err := front.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", inner.Addr().String())
		if err != nil || pow.Answer(context.Background(), b, pow.DefaultMaxDifficulty) != nil {
			a.Close()
			return
		}
		relay(a, b)
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, openssl, "s_client", "-connect", front.Addr().String(), "-tls1_3", "-cert", cert, "-key", key, "-quiet", "-no_ign_eof")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, io.Discard
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if conn.Peer.Kind != attest.None || conn.Peer.Level != 0 || conn.Peer.Key == ([32]byte{}) {
		t.Errorf("peer %+v", conn.Peer)
	}
	if _, err := io.WriteString(in, "ping\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "ping\n" {
		t.Fatalf("heard %q, %v", buf, err)
	}
	if _, err := io.WriteString(conn, "pong\n"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	_ = cmd.Wait()
	if !strings.Contains(out.String(), "pong") {
		t.Errorf("OpenSSL heard %q", out.String())
	}
}

// TestOpenSSLServer: our dialer talks to s_server.
func TestOpenSSLServer(t *testing.T) {
	openssl := openssl(t)
	cert, key := certificate(t, openssl)
	port := listen(t)
	addr := port.Addr().String()
	port.Close()
	front := listen(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, openssl, "s_server", "-accept", addr, "-tls1_3", "-cert", cert, "-key", key, "-Verify", "1", "-quiet", "-naccept", "1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	go func() {
		a, err := front.Accept()
		if err != nil || pow.Challenge(context.Background(), a, 8) != nil {
			return
		}
		var b net.Conn
		for range 500 { // until s_server listens
			if b, err = net.Dial("tcp", addr); err == nil {
				relay(a, b)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
		a.Close()
	}()
	cfg := config()
	cfg.PeerRole = cocoon.RoleProxy
	d, err := ratls.NewDialer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := d.Dial(ctx, front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "ping\n"); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(out, buf); err != nil || string(buf) != "ping\n" {
		t.Fatalf("OpenSSL heard %q, %v", buf, err)
	}
	if _, err := io.WriteString(in, "pong\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, buf); err != nil || string(buf) != "pong\n" {
		t.Errorf("heard %q, %v", buf, err)
	}
}
