// Package ratls makes authenticated connections: a proof of work, then TLS 1.3
// with a self-signed certificate on each side that carries attestation
// evidence for its own key (spec attestation 1, network-protocol 2).
//
// The peer's certificate is judged after the handshake has completed, so that
// possession of the key is proven, and before any byte is handed out. Ours
// offer the protocol name of level 1 by ALPN; peers that know none speak
// level 0.
//
// Owns: certificates with evidence, the handshake, the TSM attester.
// Imports: attest, tee, wire, pow.
// Trust: everything before the verdict is foreign and bounded: 15 seconds,
// 64 extensions, 32 KiB of evidence, one appraisal per core and per peer address
// at a time.
// Concurrency: Dialer, Listener and Identity are safe for concurrent use.
package ratls

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire/pow"
)

// Endorser finds the vendor's statements that belong to evidence.
type Endorser interface {
	Endorsements(ctx context.Context, ev attest.Evidence) (*attest.Endorsements, error)
}

// Config says who we are and whom we accept.
type Config struct {
	// Identity presents our certificate. Required.
	Identity *Identity
	// Policy is held against the peer's evidence. nil refuses every peer.
	Policy *attest.Policy
	// Endorser finds endorsements; nil means that there are none.
	Endorser Endorser

	// PeerRole is the role this port or dialer expects, and GlobalID the
	// network's global id, never zero. Together they refuse, whatever Policy
	// says, peers that must have real evidence there (attest.RefuseOnNetwork).
	PeerRole cocoon.Role
	GlobalID int32

	// Difficulty is what we ask of dialers, MaxDifficulty what we solve for
	// acceptors. Zero: pow.DefaultDifficulty, pow.DefaultMaxDifficulty.
	// Negative: no work.
	Difficulty, MaxDifficulty int
	// Level0 speaks the reference protocol only: level 1 is neither offered
	// nor chosen.
	Level0 bool

	// Session opens level 1 on a connection whose TLS handshake is done and
	// judges which level is good enough, within Limits.Timeout; whatever it
	// refuses is never handed out. nil: connections of level 1 begin without
	// one, and so with peers only that have none either.
	Session func(ctx context.Context, c *tee.Conn, dialer bool) error

	// Limits bound a listener's handshakes; Limits.Timeout a dialer's too.
	Limits tee.Limits
	// NetDial opens TCP connections. nil: a net.Dialer.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Now is the time certificates and evidence are judged at. nil: time.Now.
	Now func() time.Time
	// Log gets failed handshakes. nil discards.
	Log *slog.Logger
}

// ErrConfig is the cause of every refused Config.
var ErrConfig = errors.New("ratls: configuration")

// Validate reports what is missing.
func (c *Config) Validate() error {
	switch {
	case c.Identity == nil:
		return fmt.Errorf("%w: no Identity", ErrConfig)
	case c.GlobalID == 0:
		return fmt.Errorf("%w: no GlobalID: which network's rules hold?", ErrConfig)
	case c.Difficulty > 64 || c.MaxDifficulty > 64:
		return fmt.Errorf("%w: a difficulty above 64 cannot be met", ErrConfig)
	}
	if c.Policy != nil {
		if err := c.Policy.Validate(); err != nil {
			return fmt.Errorf("%w: %v", ErrConfig, err)
		}
	}
	return nil
}

// endpoint is a valid Config with its defaults filled in.
type endpoint struct {
	Config
	verifier *attest.Verifier
	turns    *tee.Turns // evidence is costly to verify
}

func newEndpoint(c Config) (*endpoint, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	difficulty := func(v, standard int) int {
		if v == 0 {
			return standard
		}
		return max(v, 0)
	}
	c.Difficulty = difficulty(c.Difficulty, pow.DefaultDifficulty)
	c.MaxDifficulty = difficulty(c.MaxDifficulty, pow.DefaultMaxDifficulty)
	if c.Limits.Timeout <= 0 {
		c.Limits.Timeout = tee.HandshakeTimeout
	}
	if c.NetDial == nil {
		c.NetDial = new(net.Dialer).DialContext
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &endpoint{Config: c, verifier: attest.NewVerifier(c.Policy), turns: tee.NewTurns(runtime.GOMAXPROCS(0))}, nil
}
