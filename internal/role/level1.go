package role

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
)

// Open makes the message connection of an authenticated one. Where that has a
// session of level 1, the peer's renewals are answered before cfg.Handler sees
// a query.
func Open(nc *tee.Conn, cfg mux.Config) *mux.Conn {
	cfg.Level = nc.Peer.Level
	if nc.Session != nil {
		cfg.Handler = renewals{cfg.Handler, nc.Session}
	}
	return mux.New(nc, cfg)
}

// Renewer is a Handler that wants to know when the peer's session may have
// become usable again.
type Renewer interface{ Renewed() }

// renewals answers the queries of a session.
type renewals struct {
	mux.Handler
	session tee.Session
}

func (h renewals) Query(ctx context.Context, c *mux.Conn, data []byte) ([]byte, error) {
	if answer, mine, err := h.session.Answer(ctx, data); mine {
		if r, ok := h.Handler.(Renewer); ok && err == nil {
			r.Renewed()
		}
		return answer, err
	}
	return h.Handler.Query(ctx, c, data)
}

// Renewed runs a dialer's conversation and renews the connection's session, if
// it has one, beside it. A session that cannot be renewed ends both.
func Renewed(nc *tee.Conn, c *mux.Conn, conversation func(context.Context) error) func(context.Context) error {
	if nc.Session == nil {
		return conversation
	}
	return func(ctx context.Context) error {
		inner, stop := context.WithCancelCause(ctx)
		var wg sync.WaitGroup
		defer wg.Wait()
		defer stop(nil)
		wg.Go(func() {
			if err := nc.Session.Keep(inner, c.Query); err != nil {
				stop(err)
			}
		})
		err := conversation(inner)
		if ctx.Err() == nil && inner.Err() != nil {
			return context.Cause(inner)
		}
		return err
	}
}

// Usable says why no request may begin on a connection; nil if one may.
func Usable(nc *tee.Conn) *wire.Error {
	if nc.Session == nil {
		return nil
	}
	if err := nc.Session.Usable(); err != nil {
		return wire.Errorf(wire.CodeNotReady, "%v", err)
	}
	return nil
}

// ErrIdentity is the refusal of a peer whose handshake says something else
// than its verified statement.
var ErrIdentity = errors.New("the peer's handshake contradicts its statement")

// MatchProxy holds what a proxy says of itself against its statement, if it
// has one: the holder of the contract key is then at the other end of this
// very connection.
func MatchProxy(n *tee.Node, id ProxyIdentity) error {
	if n == nil {
		return nil
	}
	if n.ContractKey != id.Key || n.Owner != id.Owner || n.Contract != id.Contract {
		return fmt.Errorf("%w: contract %s of key %x there, %s of key %x here", ErrIdentity, n.Contract, n.ContractKey[:4], id.Contract, id.Key[:4])
	}
	return nil
}

// MatchWorker does the same for a worker's model and owner.
func MatchWorker(n *tee.Node, model cocoon.ModelName, owner cocoon.Address) error {
	if n == nil {
		return nil
	}
	if n.Model != model || n.Owner != owner {
		return fmt.Errorf("%w: another model or owner", ErrIdentity)
	}
	return nil
}

// ErrEvidenceExpired ends connections whose evidence ran out while they lived.
var ErrEvidenceExpired = errors.New("what the peer's evidence rests on has run out: it must connect anew")

// valid reports whether the evidence a connection began with still counts.
func valid(p tee.Peer) error {
	if p.Result != nil && !p.Result.Expires.IsZero() && !time.Now().Before(p.Result.Expires) {
		return fmt.Errorf("%w (%s)", ErrEvidenceExpired, p.Result.Expires.UTC().Format(time.DateTime))
	}
	return nil
}
