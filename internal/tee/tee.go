// Package tee names the ends of an authenticated connection. Roles are handed
// a Dialer and Listeners; whether RA-TLS in this process, a router beside it or
// a pipe in a test stands behind them makes no difference to them.
//
// Owns: Peer, Node, Conn, Session, Dialer, Listener, Acceptor, Turns.
// Imports: the vocabulary, attest.
// Trust: what a Peer says was proven by whoever made the Conn.
// Concurrency: a Conn as net.Conn; dialers and listeners are safe for
// concurrent use.
package tee

import (
	"context"
	"errors"
	"net"

	"github.com/cocoon-network/cocoon"
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
	// Node is what the peer's verified statement says; nil at level 0.
	Node *Node
}

// Node is a peer's statement about itself, verified (docs/protocol.md,
// statement). Absent fields are zero. It is not changed after it was made.
type Node struct {
	Role cocoon.Role
	// Key signs sessions, and lives as long as the peer's process.
	Key       [32]byte
	NetworkID [32]byte
	// Model and SealKey are a worker's: what requests are sealed to.
	Model   cocoon.ModelName
	SealKey []byte
	// Contract derives from ContractKey, Owner and our own root contract;
	// the peer holds ContractKey. Proxies only, but for Owner.
	Contract    cocoon.Address
	ContractKey [32]byte
	Owner       cocoon.Address
	// Predecessor is the contract key that named ContractKey its successor.
	Predecessor [32]byte
	// Digest is SHA-256 of the statement; Bundle is it with its evidence, for
	// others to verify.
	Digest [32]byte
	Bundle []byte
	// Result is the appraisal of the statement's evidence, Factors all that
	// was checked of the statement itself.
	Result  *attest.Result
	Factors []attest.Factor
}

// Session keeps a connection of level 1 proven: statements and proofs are
// renewed while it lives. Its methods are safe for concurrent use.
type Session interface {
	// Usable says why no request may begin on the connection; nil if one may.
	Usable() error
	// Node is the newest verified statement.
	Node() *Node
	// Answer answers a query of the other end, a boxed function, if it is one
	// of the session's; otherwise mine is false.
	Answer(ctx context.Context, query []byte) (answer []byte, mine bool, err error)
	// Keep renews the session by queries until ctx ends, or until it could not
	// be renewed in time, which it returns. For the dialing end.
	Keep(ctx context.Context, ask func(ctx context.Context, query []byte) ([]byte, error)) error
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
	// Session is that of level 1; nil at level 0.
	Session Session
}

// CloseWrite says that nothing more is sent, while reading goes on; it fails
// with errors.ErrUnsupported where the connection cannot say that.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
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
