package proxy

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

var errConstructor = tl.ErrConstructor

// clientSession is one client connection (spec network-protocol 4.2).
type clientSession struct {
	p    *Proxy
	conn *tee.Conn
	mux  *mux.Conn
	ctx  context.Context // ends with the connection

	// Set by client.connectToProxy.
	inst     *instance
	owner    cocoon.Address
	contract cocoon.Address
	version  int32
	secret   [32]byte // what Short is compared with; zero = Long
	nonce    int64    // what a Long authorization has to register

	// money is held from reading counters until they are queued.
	money sync.Mutex
	// step is held by the handshake step under way: there is one at a time.
	step    sync.Mutex
	garbled atomic.Bool // an unreadable message was logged

	mu       sync.Mutex
	state    sessionState
	requests map[cocoon.RequestID]*inference // by the client's id, for cancels and windows
	active   int                             // requests that run; ids may repeat
	refused  refusals
}

// emptySecret is SHA-256 of nothing: the secret everybody knows.
var emptySecret = sha256.Sum256(nil)

// authorizeTimeout bounds a Long authorization (spec network-protocol 2.7).
const authorizeTimeout = 300 * time.Second

// maxClientRequests bounds what one connection can have running.
const maxClientRequests = 4096

// serveClient runs one client connection.
func (p *Proxy) serveClient(ctx context.Context, nc *tee.Conn) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	s := &clientSession{p: p, conn: nc, ctx: ctx, requests: map[cocoon.RequestID]*inference{}}
	s.mux = role.Open(nc, mux.Config{Side: mux.Acceptor, Handler: s, Logger: p.log})
	err := s.mux.Run(ctx)
	p.mu.Lock()
	delete(p.clients, s)
	p.mu.Unlock()
	// Requests of a client that left are cancelled: nobody reads on.
	stop(errClientGone)
	return err
}

var errClientGone = errors.New("the client's connection ended")

// Query does the handshake and the status queries.
func (s *clientSession) Query(ctx context.Context, c *mux.Conn, data []byte) ([]byte, error) {
	o, err := schema.Decode(data)
	if err != nil {
		return nil, unreadable(err)
	}
	var answer schema.Object
	if isHandshake(o) {
		if !s.step.TryLock() {
			return nil, wire.Errorf(wire.CodeNone, "duplicate auth message")
		}
		defer s.step.Unlock()
	}
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	if state == stateClosing {
		return nil, wire.Errorf(wire.CodeNone, "connection is closing")
	}
	switch fn := o.(type) {
	case *schema.ClientGetWorkerTypes, *schema.ClientGetWorkerTypesV2, *schema.ClientUpdatePaymentStatus:
		if state != stateReady {
			return nil, wire.Errorf(wire.CodeProtocolViolation, "client request from non-ready connection")
		}
		return s.status(ctx, o)
	case *schema.CocoonGetSet, *schema.CocoonGetBundle, *schema.CocoonGetReceipt, *schema.CocoonGetLog:
		if state != stateReady {
			return nil, wire.Errorf(wire.CodeProtocolViolation, "client request from non-ready connection")
		}
		switch q := o.(type) {
		case *schema.CocoonGetSet:
			return s.p.offers.answerSet(q.Known), nil
		case *schema.CocoonGetBundle:
			return s.p.offers.answerBundle(q.Statement)
		case *schema.CocoonGetLog:
			return s.p.answerLog(s.contract, q.Page)
		case *schema.CocoonGetReceipt:
			return s.answerReceipt(ctx, q.RequestID)
		}
		return nil, mux.ErrUnknownFunction
	case *schema.WorkerConnectToProxy, *schema.WorkerCompareBalanceWithProxy, *schema.WorkerProxyHandshakeComplete:
		return nil, wire.Errorf(wire.CodeProtocolViolation, "worker connect() from non worker")
	case *schema.WorkerUpdatePaymentStatus:
		return nil, wire.Errorf(wire.CodeProtocolViolation, "worker request from non worker")
	case *schema.ClientConnectToProxy:
		switch state {
		case stateReady:
			return nil, wire.Errorf(wire.CodeNone, "already authorized")
		case stateNew:
			answer, err = s.connect(&fn.Params, fn.MinConfigVersion)
		default:
			err = wire.Errorf(wire.CodeNone, "expected auth message")
		}
	case *schema.ClientAuthorizeWithProxyShort:
		answer, err = s.short(state, fn.Data)
	case *schema.ClientAuthorizeWithProxyLong:
		answer, err = s.long(ctx, state)
	default:
		return nil, mux.ErrUnknownFunction
	}
	if err != nil {
		s.mu.Lock()
		s.state = stateClosing
		s.mu.Unlock()
		return nil, mux.Fatal(err)
	}
	return schema.Marshal(answer), nil
}

// isHandshake reports whether o is a step of a handshake, client's or worker's.
func isHandshake(o schema.Object) bool {
	switch o.(type) {
	case *schema.ClientConnectToProxy, *schema.ClientAuthorizeWithProxyShort, *schema.ClientAuthorizeWithProxyLong,
		*schema.WorkerConnectToProxy, *schema.WorkerCompareBalanceWithProxy,
		*schema.WorkerExtendedCompareBalanceWithProxy, *schema.WorkerProxyHandshakeComplete:
		return true
	}
	return false
}

func (s *clientSession) connect(q *schema.ClientParams, minConfig int32) (schema.Object, error) {
	p := s.p
	if p.isDraining() {
		return nil, wire.Errorf(wire.CodeNotReady, "proxy is not participating in this iteration")
	}
	if q.Flags&1 == 0 {
		return nil, wire.Errorf(wire.CodeError, "too old client")
	}
	if q.IsTest != p.cfg.IsTest {
		return nil, wire.Errorf(wire.CodeError, "test mode mismatch")
	}
	owner, err := cocoon.ParseAddress(q.ClientOwnerAddress)
	if err != nil {
		return nil, wire.Errorf(wire.CodeNone, "Failed to parse account address")
	}
	if owner.Workchain != 0 {
		return nil, wire.Errorf(wire.CodeError, "cannot parse client owner address")
	}
	if s.inst, err = p.current(); err != nil {
		return nil, wire.Errorf(wire.CodeNotReady, "proxy is disabled")
	}
	if int64(minConfig) > int64(s.inst.snap.Version) {
		return nil, wire.Errorf(wire.CodeError, "active config version is too low")
	}
	if s.version, err = chooseVersion(q.Flags, q.MinProtoVersion, q.MaxProtoVersion); err != nil {
		return nil, err
	}
	s.owner = owner
	if s.contract, err = bindings.ClientAddress(s.inst.snap, owner, s.inst.contract, p.cfg.PublicKey); err != nil {
		return nil, err
	}
	answer := &schema.ClientConnectedToProxy{
		Params: p.params(s.inst, s.version), ClientScAddress: p.text(s.contract),
		// Anybody may ask in anybody's name here, so nothing is signed yet.
		SignedPayment: p.paymentAtHand(bindings.ClientCharge, s.contract),
	}
	// Fresh for every connection, also where Short is offered: the client may
	// hold another secret and register, and a registration is good only once.
	if s.nonce, err = newNonce(); err != nil {
		return nil, err
	}
	known, err := p.cfg.Contracts.Client(owner)
	switch {
	case errors.Is(err, ErrNoContract):
		answer.Auth = &schema.ClientProxyConnectionAuthLong{Nonce: s.nonce}
	case err != nil:
		return nil, err
	case !known.Open:
		return nil, wire.Errorf(wire.CodeError, "client is closing")
	case known.SecretHash == [32]byte{}:
		// Just deployed: the owner has set no secret yet.
		answer.Auth = &schema.ClientProxyConnectionAuthLong{Nonce: s.nonce}
	default:
		if known.SecretHash == emptySecret && !s.inst.snap.Fake {
			p.log.Warn("a client uses the empty secret: anybody can log in as it", "client", owner)
		}
		s.secret = known.SecretHash
		answer.Auth = &schema.ClientProxyConnectionAuthShort{SecretHash: known.SecretHash, Nonce: s.nonce}
	}
	s.mu.Lock()
	s.state = stateConnected
	s.mu.Unlock()
	return answer, nil
}

// newNonce returns a random number of 63 bits.
func newNonce() (int64, error) {
	var b [8]byte
	_, err := rand.Read(b[:])
	return int64(binary.BigEndian.Uint64(b[:]) >> 1), err
}

func (s *clientSession) short(state sessionState, data []byte) (schema.Object, error) {
	if state == stateReady {
		return nil, wire.Errorf(wire.CodeNone, "already authorized")
	}
	if state != stateConnected {
		return nil, wire.Errorf(wire.CodeNone, "expected auth message")
	}
	hash := sha256.Sum256(data)
	if s.secret == [32]byte{} || subtle.ConstantTimeCompare(hash[:], s.secret[:]) != 1 {
		return nil, wire.Errorf(wire.CodeNone, "sha256 mismatch")
	}
	return s.authorized()
}

func (s *clientSession) long(ctx context.Context, state sessionState) (schema.Object, error) {
	if state == stateReady {
		return nil, wire.Errorf(wire.CodeNone, "already authorized")
	}
	if state != stateConnected {
		return nil, wire.Errorf(wire.CodeNone, "expected auth message")
	}
	ctx, cancel := context.WithTimeout(ctx, authorizeTimeout)
	defer cancel()
	if err := s.p.cfg.Contracts.AwaitRegistration(ctx, s.owner, s.nonce); err != nil {
		return nil, wire.Errorf(wire.CodeTimeout, "the registration was not seen on chain")
	}
	return s.authorized()
}

func (s *clientSession) authorized() (schema.Object, error) {
	c := s.p.cfg.Ledger.Client(s.owner)
	pay, err := s.p.payment(bindings.ClientCharge, s.contract, c.Committed)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.state = stateReady
	s.mu.Unlock()
	s.p.mu.Lock()
	s.p.clients[s] = struct{}{}
	s.p.mu.Unlock()
	s.p.log.Info("client connected", "owner", s.owner, "level", s.conn.Peer.Level)
	return &schema.ClientAuthorizationWithProxySuccess{SignedPayment: pay, TokensCommittedToDb: c.Durable, MaxTokens: c.Durable}, nil
}

// status answers the queries of a ready connection.
func (s *clientSession) status(ctx context.Context, o schema.Object) ([]byte, error) {
	switch o.(type) {
	case *schema.ClientGetWorkerTypesV2:
		return schema.Marshal(s.p.pool.typesV2()), nil
	case *schema.ClientGetWorkerTypes:
		return schema.Marshal(s.p.pool.types()), nil
	}
	s.money.Lock()
	mux.AfterAnswer(ctx, s.money.Unlock)
	c := s.p.cfg.Ledger.Client(s.owner)
	pay, err := s.p.payment(bindings.ClientCharge, s.contract, c.Committed)
	if err != nil {
		return nil, err
	}
	return schema.Marshal(&schema.ClientPaymentStatus{SignedPayment: pay, DbTokens: c.Durable, MaxTokens: c.Durable}), nil
}

// Message takes requests; on the reader goroutine.
func (s *clientSession) Message(c *mux.Conn, data []byte) {
	o, err := schema.Decode(data)
	if err != nil {
		if !s.garbled.Swap(true) { // once, or a peer could fill the disk
			s.p.log.Warn("unreadable message from client", "client", s.conn.Peer.Addr, "err", err)
		}
		return
	}
	s.mu.Lock()
	state := s.state
	s.mu.Unlock()
	if state != stateReady {
		return
	}
	switch m := o.(type) {
	case *schema.ClientRunQueryEx:
		s.begin(m)
	case *schema.ClientRunQuery:
		s.begin(&schema.ClientRunQueryEx{
			ModelName: m.ModelName, Query: m.Query, MaxCoefficient: m.MaxCoefficient, MaxTokens: m.MaxTokens,
			Timeout: m.Timeout, RequestID: m.RequestID, MinConfigVersion: m.MinConfigVersion,
		})
	case *schema.CocoonCancel:
		if r := s.request(m.RequestID); r != nil {
			r.cancel(errCancelled)
		}
	case *schema.CocoonWindow:
		if r := s.request(m.RequestID); r != nil {
			if err := r.window.Grant(int(m.Bytes)); err != nil {
				c.Close(err)
				return
			}
			r.granted()
		}
	default:
		s.p.log.Debug("unexpected message from client", "type", o.TLName())
	}
}

func (s *clientSession) request(id cocoon.RequestID) *inference {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests[id]
}

// chooseVersion is spec network-protocol 4.1.
func chooseVersion(flags uint32, low, high int32) (int32, error) {
	if flags&2 == 0 {
		low, high = 0, 0
	}
	if low > role.ProxyMaxVersion || high < role.ProxyMinVersion {
		return 0, wire.Errorf(wire.CodeProtocolViolation, "cannot choose common protocol version")
	}
	return min(high, role.ProxyMaxVersion), nil
}

// params is how this proxy introduces itself.
func (p *Proxy) params(i *instance, version int32) schema.ProxyParams {
	q := schema.ProxyParams{
		Flags:             1,
		ProxyPublicKey:    p.cfg.PublicKey,
		ProxyOwnerAddress: p.text(p.cfg.Owner),
		ProxyScAddress:    p.text(i.contract),
		IsTest:            p.cfg.IsTest,
	}
	if version > 0 {
		q.Flags |= 2
		q.ProtoVersion = version
	}
	return q
}

// text writes an address as handshakes need it (spec network-protocol 3.2).
func (p *Proxy) text(a cocoon.Address) string { return a.Friendly(false, p.cfg.TestOnly) }

func (p *Proxy) isDraining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

// typesV2 lists enabled workers by model and coefficient.
func (p *pool) typesV2() *schema.ClientWorkerTypesV2 {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := &schema.ClientWorkerTypesV2{}
	for name, m := range p.models {
		if !m.seen {
			continue // a client asks for it; nobody served it yet
		}
		t := schema.ClientWorkerTypeV2{Name: name}
		for _, w := range m.workers {
			if w.enabled && !w.refused {
				t.Workers = append(t.Workers, schema.ClientWorkerInstanceV2{Coefficient: w.coefficient, ActiveRequests: w.running, MaxActiveRequests: w.limit})
			}
		}
		slices.SortFunc(t.Workers, func(a, b schema.ClientWorkerInstanceV2) int { return int(a.Coefficient) - int(b.Coefficient) })
		out.Types = append(out.Types, t)
	}
	slices.SortFunc(out.Types, func(a, b schema.ClientWorkerTypeV2) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// types is the same for clients of version 0, as the reference writes it: the
// list of coefficients has one artificial largest value in it.
func (p *pool) types() *schema.ClientWorkerTypes {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := &schema.ClientWorkerTypes{}
	for name, m := range p.models {
		if !m.seen {
			continue
		}
		c := []int32{math.MaxInt32}
		for _, w := range m.workers {
			c = append(c, w.coefficient)
		}
		slices.Sort(c)
		out.Types = append(out.Types, schema.ClientWorkerType{
			Name: name, ActiveWorkers: int32(len(m.workers)),
			CoefficientMin: c[0], CoefficientBucket50: c[len(c)/2], CoefficientMax: c[len(c)-1],
		})
	}
	slices.SortFunc(out.Types, func(a, b schema.ClientWorkerType) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// keyText prints a public key as refusals name it.
func keyText(k [32]byte) string { return strings.ToUpper(hex.EncodeToString(k[:])) }
