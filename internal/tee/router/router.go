package router

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// Config says where the router is and whom we accept behind it.
type Config struct {
	// Router is the address of the SOCKS5 port, for dialing. "" dials peers
	// directly and in plain text, which is for tests.
	Router string
	// Policy is held against what the router says of the peer. nil refuses
	// every peer.
	Policy *attest.Policy
	// PeerRole and GlobalID are as in ratls.Config.
	PeerRole cocoon.Role
	GlobalID int32
	// Present is what we say of ourselves, in layout PresentLayout, where no
	// router stands between two peers. nil: nothing, as behind a router.
	Present       *Preamble
	PresentLayout Layout
	// Limits bound a listener's open beginnings. Limits.Timeout, the time for
	// the whole exchange with the router, is 20 s if zero: the router solves
	// the puzzle and does the handshake meanwhile.
	Limits tee.Limits
	// NetDial opens TCP connections. nil: a net.Dialer.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Log gets failed exchanges. nil discards.
	Log *slog.Logger
}

// The ways an exchange with a router fails.
var (
	ErrConfig  = errors.New("router: configuration")
	ErrAddress = errors.New("router: reference routers connect to IPv4 addresses only")
	ErrSOCKS   = errors.New("router: this is not a SOCKS5 port that lets us in without a name")
	// ErrRefused is all that is known when a router closes without a reply: it
	// gives none for any failure.
	ErrRefused = errors.New("the router closed the connection (target down, its proof of work too hard, or its evidence refused: see the router's log)")
)

const timeout = 20 * time.Second

func (c *Config) complete() error {
	if c.GlobalID == 0 {
		return fmt.Errorf("%w: no GlobalID: which network's rules hold?", ErrConfig)
	}
	if c.Policy != nil {
		if err := c.Policy.Validate(); err != nil {
			return fmt.Errorf("%w: %v", ErrConfig, err)
		}
	}
	if c.Present != nil {
		if _, err := c.Present.Append(nil, c.PresentLayout); err != nil {
			return fmt.Errorf("%w: %v", ErrConfig, err)
		}
	}
	if c.Limits.Timeout <= 0 {
		c.Limits.Timeout = timeout
	}
	if c.NetDial == nil {
		c.NetDial = new(net.Dialer).DialContext
	}
	return nil
}

// Dialer connects to peers through a router.
type Dialer struct{ cfg Config }

// NewDialer makes a Dialer.
func NewDialer(cfg Config) (*Dialer, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	return &Dialer{cfg}, nil
}

// Dial connects to host:port. The host must be an IPv4 address if there is a
// router.
func (d *Dialer) Dial(ctx context.Context, addr string) (*tee.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Limits.Timeout)
	defer cancel()
	first := d.cfg.Router
	if first == "" {
		first = addr
	}
	nc, err := d.cfg.NetDial(ctx, "tcp", first)
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	conn, err := bound(ctx, nc, func() (*tee.Conn, error) {
		if d.cfg.Router != "" {
			if err := connect(nc, addr); err != nil {
				return nil, err
			}
		}
		if err := d.cfg.present(nc); err != nil {
			return nil, err
		}
		return d.cfg.meet(nc)
	})
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	conn.Peer.Addr = addr
	return conn, nil
}

// Listener accepts connections that a router forwards.
type Listener struct{ *tee.Acceptor }

// Listen takes over inner, which Close closes and which should be bound to
// loopback: whoever reaches it is believed.
func Listen(inner net.Listener, cfg Config) (*Listener, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	upgrade := func(ctx context.Context, nc net.Conn, _ func()) (*tee.Conn, error) {
		return bound(ctx, nc, func() (*tee.Conn, error) {
			conn, err := cfg.meet(nc)
			if err != nil {
				return nil, err
			}
			return conn, cfg.present(nc)
		})
	}
	return &Listener{tee.NewAcceptor(inner, upgrade, cfg.Limits, cfg.Log)}, nil
}

// present writes what we say of ourselves, if anything.
func (c *Config) present(w io.Writer) error {
	if c.Present == nil {
		return nil
	}
	return WritePreamble(w, c.Present, c.PresentLayout)
}

// meet reads the preamble and judges the peer.
func (c *Config) meet(nc net.Conn) (*tee.Conn, error) {
	p, err := ReadPreamble(nc)
	if err != nil {
		return nil, gone(err)
	}
	peer, err := p.Peer()
	if err != nil {
		return nil, err
	}
	if err := c.Policy.Admit(peer.Kind, peer.ImageHash, p.RootKeyID); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	if c.Policy.Open() {
		peer.Kind, peer.ImageHash = attest.None, attest.ImageHash{}
	}
	if err := attest.RefuseOnNetwork(c.PeerRole, peer.Kind, c.GlobalID); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	return &tee.Conn{Conn: nc, Peer: peer}, nil
}

// connect makes the SOCKS5 exchange (spec network-protocol 2.1): no
// authentication, CONNECT to an IPv4 address.
func connect(nc net.Conn, addr string) error {
	target, err := netip.ParseAddrPort(addr)
	if err != nil || !target.Addr().Is4() {
		return fmt.Errorf("%w, not to %q", ErrAddress, addr)
	}
	if _, err := nc.Write([]byte{5, 1, 0}); err != nil {
		return fmt.Errorf("router: %w", err)
	}
	var greeting [2]byte
	if _, err := io.ReadFull(nc, greeting[:]); err != nil {
		return gone(err)
	}
	if greeting != [2]byte{5, 0} {
		return fmt.Errorf("%w: it answers % x", ErrSOCKS, greeting)
	}
	ip, port := target.Addr().As4(), target.Port()
	request := append([]byte{5, 1, 0, 1}, ip[:]...)
	if _, err := nc.Write(append(request, byte(port>>8), byte(port))); err != nil {
		return fmt.Errorf("router: %w", err)
	}
	var reply [4]byte
	if _, err := io.ReadFull(nc, reply[:]); err != nil {
		return gone(err)
	}
	var local []byte // where the router connects from; of no use to us
	switch reply {
	case [4]byte{5, 0, 0, 1}:
		local = make([]byte, 4+2)
	case [4]byte{5, 0, 0, 4}:
		local = make([]byte, 16+2)
	default:
		return fmt.Errorf("%w: it answers % x", ErrSOCKS, reply)
	}
	if _, err := io.ReadFull(nc, local); err != nil {
		return gone(err)
	}
	return nil
}

// gone adds ErrRefused to errors that are only a closed connection.
func gone(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return fmt.Errorf("router: %w", err)
}

// bound runs f with the deadline and the end of ctx laid on nc, and lifts both
// afterwards.
func bound(ctx context.Context, nc net.Conn, f func() (*tee.Conn, error)) (*tee.Conn, error) {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		nc.SetDeadline(time.Unix(1, 0))
	})
	conn, err := f()
	if !stop() {
		<-ended
		if cause := context.Cause(ctx); err == nil {
			err = cause
		} else {
			err = fmt.Errorf("%w (%w)", err, cause)
		}
	}
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	return conn, nil
}
