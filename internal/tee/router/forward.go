package router

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// ErrLevel is the mistake of letting a Forwarder's own end negotiate level 1,
// which the role behind it would not know of.
var ErrLevel = errors.New("router: a forwarder must not negotiate level 1: set Level0 in its ratls configuration")

// Forwarder is a router of ours, for roles that bring none of their own: it
// carries plain local connections over authenticated ones, or the other way
// round (spec attestation 4.3). Only its own words, the preamble, tell a role
// about the peer, so both must be configured for the same Layout.
type Forwarder struct {
	// Dialer opens the authenticated connections of Local, of level 0.
	Dialer tee.Dialer
	// Named are dialers that SOCKS5 callers choose by their user name, whose
	// password says nothing. nil: callers give no name.
	Named map[string]tee.Dialer
	// Check, if there is one, is what else a peer must be.
	Check func(tee.Peer) error
	// Destination is the fixed host:port that Local connects to; "" lets each
	// caller name one by SOCKS5. For Reverse it is the service behind us.
	Destination string
	// Layout is that of the preamble written to the local side. Zero: none is
	// written, and the local side must not expect one.
	Layout Layout
	// MaxConns bounds the connections carried at once. Zero: 4096.
	MaxConns int
	// NetDial opens the plain connections of Reverse. nil: a net.Dialer.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Log gets failed connections. nil discards.
	Log *slog.Logger
}

const maxConns = 4096

func (f *Forwarder) log() *slog.Logger {
	if f.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return f.Log
}

// Local serves a plain port, which should be bound to loopback: a SOCKS5 one,
// or, with a Destination, a fixed one. It closes ln and returns when ctx ends
// or ln fails, after all connections have ended.
func (f *Forwarder) Local(ctx context.Context, ln net.Listener) error {
	next := func(context.Context) (net.Conn, error) { return ln.Accept() }
	return f.run(ctx, ln, next, func(ctx context.Context, nc net.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		remote, err := bound(ctx, nc, func() (*tee.Conn, error) { return f.open(ctx, nc) })
		if err != nil {
			return err // callers hear nothing but the close, as from any router
		}
		defer remote.Close()
		return relay(nc, remote)
	})
}

// open connects to where the local caller wants to go, then answers it in one
// piece.
func (f *Forwarder) open(ctx context.Context, nc net.Conn) (*tee.Conn, error) {
	target, dialer := f.Destination, f.Dialer
	var reply []byte
	if target == "" {
		var err error
		if dialer, err = f.readGreeting(nc); err != nil {
			return nil, err
		}
		if target, err = readRequest(nc); err != nil {
			return nil, err
		}
		reply = []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
		if ap, err := netip.ParseAddrPort(nc.LocalAddr().String()); err == nil && ap.Addr().Unmap().Is4() {
			ip := ap.Addr().Unmap().As4()
			copy(reply[4:], ip[:])
			reply[8], reply[9] = byte(ap.Port()>>8), byte(ap.Port())
		}
	}
	remote, err := dialer.Dial(ctx, target)
	if err != nil {
		return nil, err
	}
	if err := f.introduce(nc, reply, remote.Peer, nc.RemoteAddr().String(), target); err != nil {
		remote.Close()
		return nil, err
	}
	return remote, nil
}

// Reverse serves an authenticated port for the service at Destination. It
// closes ln and returns as Local does.
func (f *Forwarder) Reverse(ctx context.Context, ln tee.Listener) error {
	dial := f.NetDial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	next := func(ctx context.Context) (net.Conn, error) { return ln.Accept(ctx) }
	return f.run(ctx, ln, next, func(ctx context.Context, nc net.Conn) error {
		remote := nc.(*tee.Conn)
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		inner, err := dial(ctx, "tcp", f.Destination)
		if err != nil {
			return fmt.Errorf("router: the service behind: %w", err)
		}
		defer inner.Close()
		if _, err := bound(ctx, inner, func() (*tee.Conn, error) {
			return nil, f.introduce(inner, nil, remote.Peer, remote.Peer.Addr, f.Destination)
		}); err != nil {
			return err
		}
		return relay(inner, remote)
	})
}

// run accepts connections and carries each in a goroutine of its own.
func (f *Forwarder) run(ctx context.Context, ln io.Closer, next func(context.Context) (net.Conn, error), carry func(context.Context, net.Conn) error) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer func() {
		if stop() {
			ln.Close()
		}
	}()
	limit := f.MaxConns
	if limit <= 0 {
		limit = maxConns
	}
	slots := make(chan struct{}, limit)
	for {
		nc, err := next(ctx)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return context.Cause(ctx)
		case err != nil:
			return fmt.Errorf("router: %w", err)
		}
		select {
		case slots <- struct{}{}:
		default:
			f.log().Warn("connection refused: too many", "limit", limit)
			nc.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			defer nc.Close()
			defer context.AfterFunc(ctx, func() { nc.Close() })()
			if err := carry(ctx, nc); err != nil && ctx.Err() == nil {
				f.log().Info("connection ended", "peer", nc.RemoteAddr().String(), "error", err)
			}
		})
	}
}

// introduce writes what the local side waits for, in one piece: the SOCKS5
// reply, if any, and the preamble.
func (f *Forwarder) introduce(nc net.Conn, reply []byte, peer tee.Peer, source, destination string) error {
	if peer.Level != 0 {
		return ErrLevel
	}
	if f.Check != nil {
		if err := f.Check(peer); err != nil {
			return err
		}
	}
	// A SEV record names no root key, so its reader takes it for hardware.
	if r := peer.Result; f.Layout != 0 && r != nil && r.Format == attest.FormatSEVSNP && peer.Kind == attest.Simulated {
		return fmt.Errorf("%w: no layout can tell simulated SEV-SNP evidence from real", ErrPreamble)
	}
	b := reply
	if f.Layout != 0 {
		p := describe(peer, source, destination)
		body, err := p.Append(nil, f.Layout)
		if err != nil {
			return err
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
		b = append(b, body...)
	}
	if _, err := nc.Write(b); err != nil {
		return fmt.Errorf("router: the local side: %w", err)
	}
	return nil
}

// describe puts what is known of a peer into a preamble.
func describe(peer tee.Peer, source, destination string) *Preamble {
	p := &Preamble{Key: peer.Key}
	if r := peer.Result; r != nil && (peer.Kind.Real() || peer.Kind == attest.Simulated || peer.Kind == attest.Fake) {
		p.ReportData, p.RootKeyID = r.ReportData, r.RootKeyID
		switch r.Format {
		case attest.FormatTDX:
			p.Family = FamilyTDX
			for i := range min(len(p.Registers), len(r.Measurements)) {
				copy(p.Registers[i][:], r.Measurements[i].Value)
			}
		case attest.FormatSEVSNP:
			p.Family, p.RootKeyID = FamilySEV, attest.KeyID{}
			if len(r.Measurements) > 0 {
				copy(p.Measurement[:], r.Measurements[0].Value)
			}
		}
	}
	p.SourceIP, p.SourcePort = split(source)
	p.DestinationIP, p.DestinationPort = split(destination)
	return p
}

// split returns the parts of ip:port, zero ones if it is something else.
func split(addr string) (string, int32) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return "0.0.0.0", 0
	}
	return ap.Addr().Unmap().String(), int32(ap.Port())
}

// Methods of SOCKS5 (RFC 1928 3).
const (
	methodNone = 0
	methodName = 2
)

// readGreeting is the first half of the server's side of SOCKS5. A caller's
// user name, if names are known here and the caller offers one, is preferred
// and chooses the dialer.
func (f *Forwarder) readGreeting(nc net.Conn) (tee.Dialer, error) {
	r := &socksConn{nc: nc}
	greeting := r.read(2)
	methods := r.read(int(greeting[1]))
	switch {
	case r.err != nil:
		return nil, r.err
	case greeting[0] == 5 && f.Named != nil && bytes.Contains(methods, []byte{methodName}):
		return f.readName(r)
	case greeting[0] == 5 && bytes.Contains(methods, []byte{methodNone}):
		r.write(5, methodNone)
		return f.Dialer, r.err
	}
	return nil, fmt.Errorf("%w: it is greeted % x % x", ErrSOCKS, greeting, methods)
}

// ErrName is the cause of a user name that chooses nothing.
var ErrName = errors.New("router: no policy has the name the caller gave")

// readName reads a name and a password (RFC 1929).
func (f *Forwarder) readName(r *socksConn) (tee.Dialer, error) {
	r.write(5, methodName)
	head := r.read(2)
	name := r.read(int(head[1]))
	r.read(int(r.read(1)[0]))
	if r.err != nil {
		return nil, r.err
	}
	if head[0] != 1 {
		return nil, fmt.Errorf("%w: a name in form %d", ErrSOCKS, head[0])
	}
	d, ok := f.Named[string(name)]
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrName, name)
	}
	r.write(1, 0)
	return d, r.err
}

// readRequest is the second half, as far as roles use it: CONNECT, IPv4.
func readRequest(nc net.Conn) (target string, err error) {
	r := &socksConn{nc: nc}
	request := r.read(10)
	if r.err != nil {
		return "", r.err
	}
	if [4]byte(request) != [4]byte{5, 1, 0, 1} {
		return "", fmt.Errorf("%w: it is asked % x, and knows only CONNECT to IPv4 addresses", ErrSOCKS, request[:4])
	}
	port := uint16(request[8])<<8 | uint16(request[9])
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(request[4:8])), port).String(), nil
}

// socksConn reads and writes until the first error.
type socksConn struct {
	nc  net.Conn
	err error
}

func (s *socksConn) read(n int) []byte {
	b := make([]byte, n)
	if s.err == nil {
		if _, err := io.ReadFull(s.nc, b); err != nil {
			s.err = fmt.Errorf("router: SOCKS5: %w", err)
		}
	}
	return b
}

func (s *socksConn) write(b ...byte) {
	if s.err == nil {
		if _, err := s.nc.Write(b); err != nil {
			s.err = fmt.Errorf("router: SOCKS5: %w", err)
		}
	}
}

// relay copies both ways until one side ends, then closes both: the protocol
// above knows no half-closed connections. It returns how the first side
// failed, nil for an end in order.
func relay(local net.Conn, remote *tee.Conn) error {
	ends := make(chan error, 2)
	pipe := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		ends <- err
	}
	go pipe(local, remote)
	go pipe(remote, local)
	err := <-ends
	remote.Close()
	local.Close()
	<-ends
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
