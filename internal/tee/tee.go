// Package tee names the ends of an authenticated connection. Roles are handed
// a Dialer and Listeners; whether RA-TLS in this process, a router beside it or
// a pipe in a test stands behind them makes no difference to them.
//
// Owns: Peer, Conn, Dialer, Listener, Acceptor.
// Imports: attest.
// Trust: what a Peer says was proven by whoever made the Conn.
// Concurrency: a Conn as net.Conn; dialers and listeners are safe for
// concurrent use.
package tee

import (
	"context"
	"net"

	"github.com/cocoon-network/cocoon/attest"
)

// Peer is what is known of the other end once the handshake is over.
type Peer struct {
	// Key is the Ed25519 key of the peer's certificate, zero if unknown.
	Key [32]byte
	// Kind and ImageHash are what the peer proved. Without evidence Kind is
	// attest.None and ImageHash is zero, whatever a router wrote there.
	Kind      attest.Kind
	ImageHash attest.ImageHash
	// Level is wire.Level0 or wire.Level1.
	Level int
	// Addr is the address of the other end, for people.
	Addr string
	// Result is the appraisal; nil behind a router, which appraised itself.
	Result *attest.Result
}

// Conn is an authenticated byte stream.
type Conn struct {
	net.Conn
	Peer Peer
	// LocalKey is the Ed25519 key of our own certificate, zero behind a router.
	LocalKey [32]byte
	// Exporter returns keying material of this TLS connection (RFC 8446 7.5)
	// with an empty context; nil where no TLS ends in this process.
	Exporter func(label string, length int) ([]byte, error)
}

// Dialer opens authenticated connections to host:port.
type Dialer interface {
	Dial(ctx context.Context, addr string) (*Conn, error)
}

// Listener yields authenticated connections. Handshakes run beside each
// other and have a deadline; a failed one is never returned from Accept.
type Listener interface {
	Accept(ctx context.Context) (*Conn, error)
	Addr() net.Addr
	Close() error
}
