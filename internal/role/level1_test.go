package role_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
)

// A handshake that contradicts the statement is refused, each field by itself.
func TestMatch(t *testing.T) {
	key, contract, owner := [32]byte{1}, cocoon.Address{Hash: [32]byte{2}}, cocoon.Address{Hash: [32]byte{3}}
	node := &tee.Node{ContractKey: key, Contract: contract, Owner: owner}
	id := role.ProxyIdentity{Key: key, Contract: contract, Owner: owner}
	if err := errors.Join(role.MatchProxy(node, id), role.MatchProxy(nil, id)); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*role.ProxyIdentity){
		func(i *role.ProxyIdentity) { i.Key[0]++ },
		func(i *role.ProxyIdentity) { i.Contract.Hash[0]++ },
		func(i *role.ProxyIdentity) { i.Owner.Hash[0]++ },
	} {
		other := id
		change(&other)
		if err := role.MatchProxy(node, other); !errors.Is(err, role.ErrIdentity) {
			t.Errorf("%+v: %v", other, err)
		}
	}
	worker := &tee.Node{Model: "m@1:2", Owner: owner}
	for _, tt := range []struct {
		model cocoon.ModelName
		owner cocoon.Address
		want  error
	}{{"m@1:2", owner, nil}, {"m@1:3", owner, role.ErrIdentity}, {"m@1:2", contract, role.ErrIdentity}} {
		if err := role.MatchWorker(worker, tt.model, tt.owner); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s of %s: %v, want %v", tt.model, tt.owner, err, tt.want)
		}
	}
}

// Evidence that ran out while a connection lives is not admitted again.
func TestExpiredEvidence(t *testing.T) {
	image := attest.ImageHash{1}
	s := &registry.Snapshot{ProxyImages: []attest.ImageHash{image}, WorkerImages: []attest.ImageHash{image}}
	for _, tt := range []struct {
		expires time.Time
		want    error
	}{{time.Now().Add(time.Hour), nil}, {time.Time{}, nil}, {time.Now().Add(-time.Second), role.ErrEvidenceExpired}} {
		p := tee.Peer{Kind: attest.TDX, ImageHash: image, Result: &attest.Result{Expires: tt.expires}}
		for _, err := range []error{role.AdmitProxy(s, p), role.AdmitWorker(s, p)} {
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("expires %s: %v, want %v", tt.expires, err, tt.want)
			}
		}
	}
}

// fixedSession answers one query and fails as told.
type fixedSession struct {
	tee.Session
	keep error
}

func (s fixedSession) Answer(_ context.Context, q []byte) ([]byte, bool, error) {
	return []byte("renewed!"), bytes.Equal(q, []byte("renew me")), nil
}

func (s fixedSession) Keep(ctx context.Context, ask func(context.Context, []byte) ([]byte, error)) error {
	b, err := ask(ctx, []byte("renew me"))
	if err != nil || string(b) != "renewed!" {
		return errors.Join(errors.New("not renewed"), err)
	}
	return s.keep
}

type echo struct{ renewed *atomic.Int32 }

func (e echo) Renewed() {
	if e.renewed != nil {
		e.renewed.Add(1)
	}
}

func (echo) Message(*mux.Conn, []byte) {}

func (echo) Query(_ context.Context, _ *mux.Conn, q []byte) ([]byte, error) { return q, nil }

// Renewals travel as queries of the connection and never reach the role; a
// session that cannot be renewed ends the conversation with its reason.
func TestRenewals(t *testing.T) {
	lost := errors.New("lost")
	a, b := net.Pipe()
	dialer := &tee.Conn{Conn: a, Session: fixedSession{keep: lost}}
	acceptor := &tee.Conn{Conn: b, Session: fixedSession{}}
	ctx, cancel := context.WithCancel(context.Background())
	ours := role.Open(dialer, mux.Config{Side: mux.Dialer, Handler: echo{}})
	var renewed atomic.Int32
	theirs := role.Open(acceptor, mux.Config{Side: mux.Acceptor, Handler: echo{&renewed}})
	done := make(chan error, 1)
	go func() { done <- theirs.Run(ctx) }()
	err := role.Converse(ctx, ours, role.Renewed(dialer, ours, func(ctx context.Context) error {
		if got, err := ours.Query(ctx, []byte("for role")); ctx.Err() == nil && (err != nil || string(got) != "for role") {
			t.Errorf("%q, %v", got, err)
		}
		<-ctx.Done()
		return nil
	}))
	if !errors.Is(err, lost) {
		t.Errorf("%v, want the session's reason", err)
	}
	cancel()
	<-done
	if n := renewed.Load(); n != 1 {
		t.Errorf("the acceptor was told of %d renewals, want 1", n)
	}
}
