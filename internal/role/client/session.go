package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// session is one connection to a proxy (spec network-protocol 4.2).
type session struct {
	c    *Client
	ctx  context.Context
	conn *mux.Conn
	peer tee.Peer
	nc   *tee.Conn
	snap *registry.Snapshot

	// Set by the handshake.
	proxyKey      [32]byte
	payments      role.PaymentReader
	proxyOwner    cocoon.Address
	proxyContract cocoon.Address
	contract      cocoon.Address // our client contract
	version       int32
	reckoning     *reckoning

	active  atomic.Int64
	picked  uint64                // under Client.mu
	offer   atomic.Pointer[offer] // nil = not asked yet
	retired chan struct{}         // closed when the proxy is suspended
	saver   role.Saver[channel.View]

	// directory is what the proxy offers, nil where nothing can be sealed; books
	// the receipts of our contract, nil where there are none.
	directory *directory
	books     *books

	mu       sync.Mutex
	view     channel.View
	requests map[cocoon.RequestID]*role.Queue
	owed     map[cocoon.RequestID]owing // requests whose cost is not known
	ended    bool
}

// Time limits (spec network-protocol 2.7).
const (
	stepTimeout      = 30 * time.Second
	authorizeTimeout = 300 * time.Second
	paymentTimeout   = 60 * time.Second
	paymentEvery     = 15 * time.Second
	modelsTimeout    = 10 * time.Second
)

var noTokens pricing.Tokens

// serve runs one session; the Keeper calls it.
func (c *Client) serve(ctx context.Context, nc *tee.Conn, ready func()) error {
	snap, err := c.cfg.Source.Current()
	if err != nil {
		return err
	}
	s := &session{c: c, ctx: ctx, peer: nc.Peer, nc: nc, snap: snap, requests: map[cocoon.RequestID]*role.Queue{}, owed: map[cocoon.RequestID]owing{}, retired: make(chan struct{})}
	s.saver.Write = func(v channel.View) {
		if err := c.cfg.Book.Put(context.WithoutCancel(ctx), s.contract, v); err != nil {
			c.log.Error("cannot store payment", "err", err)
		}
	}
	s.conn = role.Open(nc, mux.Config{Side: mux.Dialer, Handler: s, Logger: c.log})
	defer s.close()
	return role.Converse(ctx, s.conn, role.Renewed(nc, s.conn, func(ctx context.Context) error { return s.converse(ctx, ready) }))
}

// close fails the calls that are still running.
func (s *session) close() {
	s.c.remove(s)
	s.mu.Lock()
	s.ended = true
	owed := s.owed
	s.owed = nil
	queues := make([]*role.Queue, 0, len(s.requests))
	for _, q := range s.requests {
		queues = append(queues, q)
	}
	s.mu.Unlock()
	for _, q := range queues {
		q.Close(errProxyLost)
	}
	s.forget(owed)
	s.saver.Wait()
}

// errProxyLost ends the calls of a connection that ended.
var errProxyLost = errors.New("the proxy's connection ended")

func (s *session) converse(ctx context.Context, ready func()) error {
	if err := s.handshake(ctx); err != nil {
		return err
	}
	if s.peer.Node != nil && s.c.cfg.VerifyBundle != nil {
		s.directory = newDirectory(s)
		if s.c.cfg.Seal != api.SealOff {
			_ = s.directory.refresh(ctx) // asked again when a request needs it
		}
	}
	if s.peer.Node != nil && s.c.cfg.WantReceipts {
		s.books = s.c.booksOf(s.contract)
		s.books.mu.Lock()
		s.books.seen(s.peer.Node)
		s.books.mu.Unlock()
		if s.books.begin(s.view.Heard().Used) {
			s.c.log.Warn("charges of an earlier run have no receipt here", "proxy", s.peer.Addr)
		}
	}
	if s.books != nil {
		// Receipts that an earlier connection did not bring are asked for at once.
		soon := time.AfterFunc(askAfter, func() { _ = s.explain(ctx) })
		defer soon.Stop()
	}
	s.c.add(s)
	ready()
	probing, stop := context.WithCancel(ctx)
	mute := make(chan error, 1)
	go func() { defer close(mute); mute <- s.probe(probing) }()
	defer func() {
		stop()
		for range mute { // until it has ended
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.retired:
			return s.retire(ctx)
		case err := <-mute:
			return err
		case <-time.After(paymentEvery):
		}
		before := s.known()
		st, err := role.Ask[*schema.ClientPaymentStatus](ctx, s.conn, paymentTimeout, &schema.ClientUpdatePaymentStatus{})
		if err != nil {
			return err
		}
		s.learn(st.SignedPayment, &counters{st.DbTokens, st.MaxTokens}, &before)
		if s.directory != nil && s.c.cfg.Seal != api.SealOff {
			_ = s.directory.refresh(ctx)
			s.directory.prepare()
		}
		if err := s.explain(ctx); errors.Is(err, ErrUnexplained) {
			s.suspendFor(ctx, err)
		} else if err != nil {
			return err
		}
	}
}

func (s *session) handshake(ctx context.Context) error {
	cfg := &s.c.cfg
	connected, err := role.Ask[*schema.ClientConnectedToProxy](ctx, s.conn, stepTimeout, &schema.ClientConnectToProxy{
		Params: schema.ClientParams{
			Flags:              3,
			ClientOwnerAddress: cfg.Owner.Friendly(false, cfg.TestOnly),
			IsTest:             cfg.IsTest,
			MinProtoVersion:    role.ClientMinVersion,
			MaxProtoVersion:    role.ClientMaxVersion,
		},
		MinConfigVersion: int32(s.snap.Version),
	})
	if err != nil {
		return err
	}
	id, err := role.IdentifyProxy(s.snap, &connected.Params, cfg.IsTest)
	if err != nil {
		return err
	}
	if err := role.MatchProxy(s.peer.Node, id); err != nil {
		return err
	}
	if cfg.Pin != nil {
		if err := cfg.Pin(s.peer, id); err != nil {
			return err
		}
	}
	if err := s.c.mayUse(id.Key); err != nil {
		return err
	}
	s.proxyKey, s.proxyOwner, s.proxyContract, s.version = id.Key, id.Owner, id.Contract, id.Version
	if s.version < role.ClientMinVersion || s.version > role.ClientMaxVersion {
		return fmt.Errorf("the proxy chose protocol version %d, which was not offered", s.version)
	}
	if s.contract, err = bindings.ClientAddress(s.snap, cfg.Owner, s.proxyContract, s.proxyKey); err != nil {
		return err
	}
	if got, err := cocoon.ParseAddress(connected.ClientScAddress); err != nil || got != s.contract {
		return fmt.Errorf("the proxy names the client contract %q, ours is %s: it follows another root contract", connected.ClientScAddress, s.contract)
	}
	s.view = cfg.Book.View(s.contract)
	s.learn(connected.SignedPayment, nil, nil)

	if err := s.mayLogIn(); err != nil {
		return err
	}
	var answer schema.Object
	switch auth := connected.Auth.(type) {
	case *schema.ClientProxyConnectionAuthShort:
		secret := cfg.Secret(s.contract)
		if auth.SecretHash != sha256.Sum256([]byte(secret)) {
			return errors.New("the contract holds the hash of another secret than ours: change the secret on chain, or configure the one it was set to")
		}
		answer, err = role.Ask[schema.Object](ctx, s.conn, stepTimeout, &schema.ClientAuthorizeWithProxyShort{Data: []byte(secret)})
	case *schema.ClientProxyConnectionAuthLong:
		if err := cfg.Registrar.Register(ctx, s.proxyContract, s.contract, auth.Nonce); err != nil {
			return fmt.Errorf("cannot register at the proxy contract: %w", err)
		}
		answer, err = role.Ask[schema.Object](ctx, s.conn, authorizeTimeout, &schema.ClientAuthorizeWithProxyLong{})
	default:
		return fmt.Errorf("the proxy asks for an unknown authorization %T", auth)
	}
	if err != nil {
		return err
	}
	switch a := answer.(type) {
	case *schema.ClientAuthorizationWithProxySuccess:
		if s.reckoning, err = s.c.reckoning(ctx, s, a.MaxTokens); err != nil {
			return err
		}
		s.learn(a.SignedPayment, &counters{a.TokensCommittedToDb, a.MaxTokens}, nil)
		return nil
	case *schema.ClientAuthorizationWithProxyFailed:
		return wire.Errorf(wire.Code(a.ErrorCode), "the proxy refused the login: %s", a.Error)
	}
	return fmt.Errorf("the proxy answered the login with %T", answer)
}

// ErrLogin is the refusal to log in at a proxy that has proven too little.
var ErrLogin = errors.New("nothing is logged in at this proxy: it proved neither its contract key (level 1) nor real hardware, and who has the secret can spend the deposit; set measured.level0_login to allow it on a test network")

// mayLogIn decides who may see the secret or a registration nonce (docs/
// protocol.md, client login). Where a file stands in for the chain there is no
// deposit to lose.
func (s *session) mayLogIn() error {
	if s.peer.Node != nil || s.peer.Kind.Real() || s.snap.Fake || s.c.cfg.Level0Login {
		return nil
	}
	return ErrLogin
}

// counters are the two counters that come beside a payment.
type counters struct{ durable, used int64 }

// learn takes over what a proxy says of our counters. A client does not
// insist: it keeps the largest valid amount (spec network-protocol 4.2).
// Messages are taken as they come, but whoever asked takes the answer a moment
// later, when messages that came behind it may be known already: asked, if not
// nil, is what was known before the question, and what the answer is held to.
func (s *session) learn(p schema.ProxySignedPaymentType, c *counters, asked *channel.View) {
	pay, err := s.payments.Read(p, bindings.ClientCharge, s.contract, s.proxyKey)
	if err != nil {
		s.c.log.Warn("ignoring a payment", "proxy", s.peer.Addr, "err", err)
	}
	r := channel.Report{Payment: pay}
	if c != nil {
		r.HasCounters, r.Durable, r.Used = true, c.durable, c.used
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, err := s.view.Hear(r)
	if asked != nil {
		_, err = asked.Hear(r)
	}
	if err != nil {
		s.c.log.Warn("the proxy contradicts itself", "proxy", s.peer.Addr, "err", err)
	}
	if v.Best().Tokens > s.view.Best().Tokens {
		s.saver.Save(v)
	}
	s.view = v
	if s.reckoning != nil {
		s.reckoning.hear(v.Heard().Used)
	}
}

// known is what was learned up to now.
func (s *session) known() channel.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// Query refuses: proxies ask clients nothing.
func (s *session) Query(context.Context, *mux.Conn, []byte) ([]byte, error) {
	return nil, mux.ErrUnknownFunction
}

// Message takes answers and payments; on the reader goroutine.
func (s *session) Message(c *mux.Conn, data []byte) {
	o, err := schema.Decode(data)
	if err != nil {
		s.c.log.Warn("unreadable message from proxy", "proxy", s.peer.Addr, "err", err)
		return
	}
	if part, ok := role.FromProxy(o); ok {
		s.toldBy(part)
		s.mu.Lock()
		q := s.requests[part.ID]
		s.mu.Unlock()
		if q != nil {
			role.Deliver(q, part)
		}
		return
	}
	switch m := o.(type) {
	case *schema.ProxyClientRequestPayment:
		s.told(m.RequestID, pricing.Tokens{Total: m.RequestTokens})
		s.learn(m.SignedPayment, &counters{m.DbTokens, m.MaxTokens}, nil)
	case *schema.ProxySignedPayment:
		s.learn(m, nil, nil)
	case *schema.CocoonReceipt:
		s.receipt(s.ctx, m.RequestID, m.Part, m.Worker)
	case *schema.ProxySignedPaymentEmpty:
	default:
		s.c.log.Debug("unexpected message from proxy", "type", o.TLName())
	}
}

func (s *session) attach(id cocoon.RequestID, q *role.Queue) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false
	}
	s.requests[id] = q
	s.active.Add(1)
	return true
}

func (s *session) detach(id cocoon.RequestID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.requests[id] != nil {
		delete(s.requests, id)
		s.active.Add(-1)
	}
}

func (s *session) running() int64 { return s.active.Load() }

// models asks this proxy what its workers serve.
func (s *session) models(ctx context.Context) ([]api.Model, error) {
	types, err := role.Ask[*schema.ClientWorkerTypesV2](ctx, s.conn, modelsTimeout, &schema.ClientGetWorkerTypesV2{})
	if err != nil {
		return nil, err
	}
	out := make([]api.Model, 0, len(types.Types))
	for _, t := range types.Types {
		m := api.Model{ID: t.Name, PricePerToken: s.snap.Params.PricePerToken}
		for _, w := range t.Workers {
			m.Workers = append(m.Workers, api.Worker{Coefficient: w.Coefficient, ActiveRequests: w.ActiveRequests, MaxActiveRequests: w.MaxActiveRequests})
		}
		out = append(out, m)
	}
	return out, nil
}

func (s *session) stat() ConnectionStat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ConnectionStat{
		Address: s.peer.Addr, Ready: true, ContractKey: hex.EncodeToString(s.proxyKey[:]), Contract: s.proxyContract.Friendly(false, s.c.cfg.TestOnly), Client: s.contract.Friendly(false, s.c.cfg.TestOnly),
		Level: s.peer.Level, Verdict: string(s.peer.Kind), ImageHash: s.peer.ImageHash.String(), Running: s.running(),
		TokensUsed: s.view.Heard().Used, PaidNano: uint64(pricing.Amount(s.view.Heard().Used, s.snap.Params.PricePerToken)),
		ExplainedTokens: s.reckoning.limit(),
	}
}
