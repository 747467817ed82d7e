//go:build !tee

package router

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/cocoon-network/cocoon/internal/tee"
)

// script is a connection whose other end has said all it will say.
type script struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(b []byte) (int, error)  { return s.in.Read(b) }
func (s *script) Write(b []byte) (int, error) { return s.out.Write(b) }

func FuzzSOCKS(f *testing.F) {
	f.Add([]byte{5, 1, 0, 5, 1, 0, 1, 10, 1, 2, 3, 0x2a, 0xf9})
	f.Add([]byte{5, 2, 0, 2, 1, 1, 'n', 1, 'p', 5, 1, 0, 1, 10, 1, 2, 3, 0x2a, 0xf9, 'x'})
	unnamed, named := dialerFunc(nil), dialerFunc(nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &script{in: bytes.NewReader(b)}
		fw := Forwarder{Dialer: unnamed, Named: map[string]tee.Dialer{"n": named}}
		d, err := fw.readGreeting(s)
		if err != nil {
			if !errors.Is(err, ErrSOCKS) && !errors.Is(err, ErrName) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%v", err)
			}
			return
		}
		if d == nil || b[0] != 5 {
			t.Fatalf("% x chooses a dialer", b)
		}
		target, err := readRequest(s)
		if err != nil {
			return
		}
		ap, err := netip.ParseAddrPort(target)
		if err != nil || !ap.Addr().Is4() {
			t.Errorf("target %q", target)
		}
		// What follows the request is the caller's early data, all of it.
		ip := ap.Addr().As4()
		end := append([]byte{5, 1, 0, 1}, ip[:]...)
		end = append(end, byte(ap.Port()>>8), byte(ap.Port()))
		if used := b[:len(b)-s.in.Len()]; !bytes.HasSuffix(used, end) {
			t.Errorf("% x was read of % x", used, b)
		}
	})
}
