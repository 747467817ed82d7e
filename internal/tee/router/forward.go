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
	target := f.Destination
	var reply []byte
	if target == "" {
		var err error
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
	remote, err := f.Dialer.Dial(ctx, target)
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

// readRequest is the server's side of SOCKS5, as far as roles use it: no
// authentication, CONNECT, IPv4.
func readRequest(nc net.Conn) (target string, err error) {
	read := func(n int) []byte {
		b := make([]byte, n)
		if err == nil {
			_, err = io.ReadFull(nc, b)
		}
		return b
	}
	greeting := read(2)
	methods := read(int(greeting[1]))
	if err != nil {
		return "", fmt.Errorf("router: SOCKS5: %w", err)
	}
	if greeting[0] != 5 || !bytes.Contains(methods, []byte{0}) {
		return "", fmt.Errorf("%w: it is greeted % x % x", ErrSOCKS, greeting, methods)
	}
	if _, err := nc.Write([]byte{5, 0}); err != nil {
		return "", fmt.Errorf("router: SOCKS5: %w", err)
	}
	request := read(10)
	if err != nil {
		return "", fmt.Errorf("router: SOCKS5: %w", err)
	}
	if [4]byte(request) != [4]byte{5, 1, 0, 1} {
		return "", fmt.Errorf("%w: it is asked % x, and knows only CONNECT to IPv4 addresses", ErrSOCKS, request[:4])
	}
	port := uint16(request[8])<<8 | uint16(request[9])
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(request[4:8])), port).String(), nil
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
