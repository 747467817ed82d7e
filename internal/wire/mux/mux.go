// Package mux runs one long-lived connection between two peers: packets,
// one-way messages and queries in both directions, keepalive, and flow control
// for single requests (spec network-protocol 2.5–2.7).
//
// One goroutine reads; it hands messages to the Handler in order and must not
// be held up. One goroutine writes; it puts everything that is queued into one
// write, so that a hundred small messages cost one system call and one TLS
// record, and never waits for more. What a peer can make us hold is bounded:
// the send queue in bytes, queries in number, answers by RecvQueue. A quiet
// connection holds no buffers but two kilobytes.
//
// Owns: Conn, SendWindow, RecvQueue.
// Imports: wire, wire/tl, wire/schema.
// Trust: the peer was authenticated below; all it sends is foreign still. Any
// breach of the framing ends the connection.
// Concurrency: every exported method may be called from any goroutine. Locks
// are never held during a call out of the package and never nested.
package mux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// Side is the part of a connection's end.
type Side int

// The sides. The dialer speaks first and pings.
const (
	Dialer Side = iota
	Acceptor
)

func (s Side) String() string {
	if s == Acceptor {
		return "acceptor"
	}
	return "dialer"
}

// Handler takes what the peer sends.
type Handler interface {
	// Message gets one one-way message, a boxed object, in order and on the
	// reader's goroutine: it must not block, so it answers with SendUrgent or
	// TrySend. data is the handler's to keep.
	Message(c *Conn, data []byte)
	// Query answers one query, a boxed function, with a boxed result. It runs
	// on its own goroutine; ctx ends with the connection. The peer hears a
	// *wire.Error as it is and any other error as wire.Public says; after an
	// error made by Fatal the connection ends. data is the handler's to keep.
	Query(ctx context.Context, c *Conn, data []byte) ([]byte, error)
}

// Config says how a connection behaves. Zero values mean the defaults, which
// are those of the spec where it has one.
type Config struct {
	Side Side
	// Level is what was negotiated below (wire.Level0, wire.Level1). The
	// connection itself is the same on all levels.
	Level int
	// Handler may be nil: messages are ignored, queries are unknown functions.
	Handler Handler
	// Logger may be nil.
	Logger *slog.Logger

	// MaxQueries is how many of the peer's queries run at once; more are
	// refused. Default 64.
	MaxQueries int
	// SendLimit is the number of queued bytes from which on Send waits, and
	// UrgentLimit how many more SendUrgent may add. Defaults 256 KiB, 64 KiB.
	SendLimit, UrgentLimit int

	// HandshakeTimeout bounds the time until Ready. Default 20 s.
	HandshakeTimeout time.Duration
	// PingAfter is the silence after which a dialer pings. Default 10 s.
	PingAfter time.Duration
	// CloseAfter is the silence that ends the connection. Default 20 s for
	// dialers, 60 s for acceptors.
	CloseAfter time.Duration
	// WriteTimeout is how long the peer may take nothing of what we write.
	// Default 60 s.
	WriteTimeout time.Duration
	// Linger is how long the rest of the queue may take when the connection is
	// ended from our side. Default 1 s.
	Linger time.Duration
}

func (cfg Config) withDefaults() Config {
	closeAfter := 20 * time.Second
	if cfg.Side == Acceptor {
		closeAfter = 60 * time.Second
	}
	orDefault(&cfg.MaxQueries, 64)
	orDefault(&cfg.SendLimit, 256<<10)
	orDefault(&cfg.UrgentLimit, 64<<10)
	orDefault(&cfg.HandshakeTimeout, 20*time.Second)
	orDefault(&cfg.PingAfter, 10*time.Second)
	orDefault(&cfg.CloseAfter, closeAfter)
	orDefault(&cfg.WriteTimeout, 60*time.Second)
	orDefault(&cfg.Linger, time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Handler == nil {
		cfg.Handler = noHandler{}
	}
	return cfg
}

func orDefault[T ~int | ~int64](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

type noHandler struct{}

func (noHandler) Message(*Conn, []byte) {}

func (noHandler) Query(context.Context, *Conn, []byte) ([]byte, error) {
	return nil, ErrUnknownFunction
}

// ErrUnknownFunction is a Handler's answer to a query that it does not know.
var ErrUnknownFunction error = &wire.Error{Code: wire.CodeNone, Text: "Lost promise"}

// Why sending fails while the connection lives.
var (
	ErrTooLarge  = errors.New("mux: message above 16 MiB, the protocol's limit for a packet")
	ErrQueueFull = errors.New("mux: send queue full: the peer reads too slowly")
	ErrNotReady  = errors.New("mux: the connection's handshake is not done")
)

// Why a connection ends. After its end every method fails with an error that
// wraps ErrClosed and the reason, which is what Run and Err return.
var (
	ErrClosed    = errors.New("mux: connection closed")
	ErrPeerGone  = errors.New("mux: the peer closed the connection")
	ErrRefused   = errors.New("mux: connection closed before its first packet: refused by the peer, or the peer is gone")
	ErrViolation = errors.New("mux: the peer broke the protocol")
	ErrHandshake = errors.New("mux: no handshake packet from the peer in time")
	ErrSilent    = errors.New("mux: nothing heard from the peer for too long")
	ErrStalled   = errors.New("mux: the peer takes no data")
)

// Fatal marks a Handler's error as one that ends the connection once the peer
// was told. The mark is invisible to errors.As and errors.Is.
func Fatal(err error) error { return &fatalError{err} }

type fatalError struct{ error }

func (e *fatalError) Unwrap() error { return e.error }

// Call is c.Query for objects: it sends fn and decodes the result as R, a
// struct's pointer or the interface of a type with several constructors.
func Call[R schema.Object](ctx context.Context, c *Conn, fn schema.Object) (R, error) {
	var none R
	b, err := c.Query(ctx, schema.Marshal(fn))
	if err != nil {
		return none, err
	}
	r, err := schema.DecodeAs[R](b)
	if err != nil {
		return none, fmt.Errorf("mux: result of %s: %w", fn.TLName(), err)
	}
	return r, nil
}
