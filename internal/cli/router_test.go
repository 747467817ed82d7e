//go:build !tee

package cli

import (
	"context"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/tee/router"
)

// TestRouterCommand runs a SOCKS5 and a reverse port of one router into each
// other, with the reference's flags: what a role says comes back to another.
func TestRouterCommand(t *testing.T) {
	s := newShell(t)
	free := func() string {
		port, err := engine.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		return strconv.Itoa(port)
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	_, innerPort, err := net.SplitHostPort(inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	socks, reverse := free(), free()

	ctx, cancel := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	code := make(chan int)
	go func() {
		code <- Main(ctx, Env{
			Args: []string{"router", "-s", "-d", "4", "--global-id", "7", "--evidence", "fake", "--dir", s.dir,
				"-S", socks + "@fake_tee", "-R", reverse + ":127.0.0.1:" + innerPort + "@fake_tee"},
			Stdout: stdout, Stderr: io.Discard,
		})
		stdout.Close()
	}()
	line := make([]byte, 6)
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "ready\n" {
		t.Fatalf("%q, %v (exit code %d)", line, err, <-code)
	}
	nc, err := net.Dial("tcp", "127.0.0.1:"+socks)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	port, err := strconv.Atoi(reverse)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write([]byte{5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, byte(port >> 8), byte(port), 'h', 'i'}); err != nil {
		t.Fatal(err)
	}
	role, err := inner.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer role.Close()
	if _, err := io.ReadFull(nc, make([]byte, 2+10)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{nc, role} {
		if p, err := router.ReadPreamble(c); err != nil || p.Family != router.FamilyTDX {
			t.Errorf("preamble %+v, %v", p, err)
		}
	}
	heard := make([]byte, 2)
	if _, err := io.ReadFull(role, heard); err != nil || string(heard) != "hi" {
		t.Errorf("heard %q, %v", heard, err)
	}
	cancel()
	if c := <-code; c != exitOK {
		t.Errorf("exit code %d", c)
	}
}

func TestRouterMistakes(t *testing.T) {
	s := newShell(t)
	generated := s.run("router", "-g")
	if generated.code != exitOK {
		t.Errorf("%+v", generated)
	}
	if _, err := router.ParseFile([]byte(generated.stdout)); err != nil {
		t.Errorf("the example configuration: %v", err)
	}
	config := s.file("router.json", generated.stdout, 0o600)
	broken := s.file("broken.json", `{"ports":[{"prot":1}]}`, 0o600)
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{nil, exitUsage, "no port"},
		{[]string{"-S", "8116"}, exitUsage, "policy"},
		{[]string{"-S", "8116@any"}, exitUsage, "give its global id"},
		{[]string{"-S", "8116@any:" + strings.Repeat("00", 32), "--global-id", "7"}, exitUsage, "proves nothing"},
		{[]string{"-S", "8116@tee", "-t", "-1"}, exitUsage, "threads"},
		{[]string{"-S", "8116@tee", "-d", "65"}, exitUsage, "difficulty"},
		{[]string{"-S", "8116@tee", "--collateral-hash", "00"}, exitUsage, "want 96"},
		{[]string{"-S", "8116@tee", "--layout", "may"}, exitUsage, "april"},
		{[]string{"-S", "8116@tee", "--evidence", "good"}, exitUsage, "fake"},
		{[]string{"-S", "8116@tee", "--evidence", "fake", "-C", "x"}, exitUsage, "only one"},
		{[]string{"-S", "8116@tee", "-C", s.dir + "/absent"}, exitFailed, "absent_cert.pem"},
		{[]string{"-c", config}, exitFailed, "/etc/tee/tee_cert.pem"},
		{[]string{"-c", broken}, exitUsage, "prot"},
		{[]string{"-c", s.dir + "/absent"}, exitFailed, "absent"},
		{[]string{"-P", "x", "-S", "8116@x"}, exitUsage, "NAME:TYPE"},
		{[]string{"-p", "x"}, exitUsage, "PORT:TYPE"},
	} {
		s.fails(s.run(append([]string{"router"}, c.args...)...), c.code, c.say)
	}
}
