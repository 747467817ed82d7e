package ratls

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/pow"
)

// ErrRefused is all that can be said when the peer closes without a word. A
// reference peer that refuses our certificate does so silently, and with TLS
// 1.3 a dialer may learn of it only at its first read.
var ErrRefused = errors.New("refused by the peer, or the peer is gone (if it refuses: look at its policy and at our evidence)")

// Dialer opens authenticated connections.
type Dialer struct{ e *endpoint }

// NewDialer makes a Dialer.
func NewDialer(cfg Config) (*Dialer, error) {
	e, err := newEndpoint(cfg)
	if err != nil {
		return nil, err
	}
	return &Dialer{e}, nil
}

// Dial connects to host:port and authenticates both sides.
func (d *Dialer) Dial(ctx context.Context, addr string) (*tee.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.e.Limits.Timeout)
	defer cancel()
	nc, err := d.e.NetDial(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("ratls: %w", err)
	}
	conn, err := d.e.dial(ctx, nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("ratls: %s: %w", addr, err)
	}
	return conn, nil
}

// Client authenticates as the dialing side of a raw connection, which it
// closes if that fails.
func (d *Dialer) Client(ctx context.Context, nc net.Conn) (*tee.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.e.Limits.Timeout)
	defer cancel()
	conn, err := d.e.dial(ctx, nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("ratls: %w", err)
	}
	return conn, nil
}

// Listener accepts authenticated connections.
type Listener struct{ *tee.Acceptor }

// Listen takes over inner, which Close closes.
func Listen(inner net.Listener, cfg Config) (*Listener, error) {
	e, err := newEndpoint(cfg)
	if err != nil {
		return nil, err
	}
	return &Listener{tee.NewAcceptor(inner, e.accept, e.Limits, e.Log)}, nil
}

func (e *endpoint) dial(ctx context.Context, nc net.Conn) (*tee.Conn, error) {
	cert, err := e.Identity.Certificate(ctx)
	if err != nil {
		return nil, err
	}
	if err := pow.Answer(ctx, nc, e.MaxDifficulty); err != nil {
		return nil, explain(err)
	}
	return e.finish(ctx, tls.Client(nc, e.tlsConfig(cert)), cert, acceptor)
}

func (e *endpoint) accept(ctx context.Context, nc net.Conn, proven func()) (*tee.Conn, error) {
	if err := pow.Challenge(ctx, nc, e.Difficulty); err != nil {
		return nil, explain(err)
	}
	proven()
	cert, err := e.Identity.Certificate(ctx)
	if err != nil {
		return nil, err
	}
	return e.finish(ctx, tls.Server(nc, e.tlsConfig(cert)), cert, dialer)
}

// tlsConfig is the same for both sides. The library judges nothing about the
// peer's certificate but that its owner holds the key; finish judges the rest.
// Suites of TLS 1.3 cannot be chosen: reference peers offer the two with AES
// only, and those are preferred wherever the processor has AES.
func (e *endpoint) tlsConfig(own *tls.Certificate) *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		MaxVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{*own},
		ClientAuth:             tls.RequireAnyClientCert,
		InsecureSkipVerify:     true, // chains and names of the web mean nothing here
		SessionTicketsDisabled: true,
		Time:                   e.Now,
	}
	if !e.Level0 {
		c.NextProtos = []string{wire.ALPN}
	}
	return c
}

// finish completes the TLS handshake and judges the peer.
func (e *endpoint) finish(ctx context.Context, tc *tls.Conn, own *tls.Certificate, peerSide side) (*tee.Conn, error) {
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, explain(err)
	}
	state := tc.ConnectionState()
	peer, err := e.appraise(ctx, state.PeerCertificates[0].Raw, tc.RemoteAddr().String(), peerSide)
	if err != nil {
		return nil, err
	}
	if state.NegotiatedProtocol == wire.ALPN {
		peer.Level = wire.Level1
	}
	peer.Addr = tc.RemoteAddr().String()
	c := &tee.Conn{
		Conn:     &conn{Conn: tc},
		Peer:     *peer,
		LocalKey: certKey(own),
		Exporter: func(label string, length int) ([]byte, error) {
			return state.ExportKeyingMaterial(label, nil, length)
		},
	}
	if e.Session != nil {
		if err := e.Session(ctx, c, peerSide == acceptor); err != nil {
			return nil, explain(err)
		}
	}
	return c, nil
}

// appraise judges a certificate whose owner has proven to hold its key.
func (e *endpoint) appraise(ctx context.Context, der []byte, addr string, peerSide side) (*tee.Peer, error) {
	now := e.Now()
	cert, err := parsePeer(der)
	if err != nil {
		return nil, err
	}
	if err := cert.check(peerSide, now); err != nil {
		return nil, err
	}
	// Without the statements the evidence is refused, but the rest of it is
	// judged all the same, so that the refusal says all there is to say.
	var endorsements *attest.Endorsements
	var missing error
	if e.Endorser != nil && e.verifier.WantsEndorsements(cert.evidence) {
		endorsements, missing = e.Endorser.Endorsements(ctx, cert.evidence)
	}
	done, err := e.turns.Take(ctx, addr)
	if err != nil {
		return nil, err
	}
	defer done()
	res, err := e.verifier.Verify(cert.evidence, attest.KeyReportData(cert.key), endorsements, now)
	switch {
	case missing != nil && err != nil:
		return nil, fmt.Errorf("%w (%w)", err, missing)
	case missing != nil:
		return nil, missing
	case err != nil:
		return nil, err
	}
	if err := attest.RefuseOnNetwork(e.PeerRole, res.Kind, e.GlobalID); err != nil {
		return nil, err
	}
	return &tee.Peer{Key: cert.key, Kind: res.Kind, ImageHash: res.ImageHash, Result: res}, nil
}

// conn says what an end of file in place of the first byte means.
type conn struct {
	*tls.Conn
	heard atomic.Bool
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.heard.Store(true)
	} else if err != nil && !c.heard.Load() {
		err = explain(err)
	}
	return n, err
}

// explain adds ErrRefused to errors that are only a closed connection.
func explain(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.ErrClosedPipe) {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	return err
}
