package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

const versionKeys = role.VersionKeys

// workerSession is one worker connection (spec network-protocol 4.3).
type workerSession struct {
	p    *Proxy
	conn *tee.Conn
	mux  *mux.Conn

	// Set by worker.connectToProxy.
	inst     *instance
	owner    cocoon.Address
	contract cocoon.Address
	model    cocoon.ModelName
	version  int32

	// step is held by the handshake step under way: there is one at a time.
	step    sync.Mutex
	garbled atomic.Bool // an unreadable message was logged

	// money is held from reading counters until they are queued, since what
	// this worker hears of them must never go back.
	money sync.Mutex

	mu       sync.Mutex
	state    sessionState
	requests map[cocoon.RequestID]*attempt
	gone     bool

	// The pool's, under its lock.
	enabled, refused bool
	coefficient      int32
	running, limit   int32
	picked           uint64
	record           Record
	statements       [][32]byte // that requests may be sealed to, newest last
}

// sessionState is how far a connection's handshake is.
type sessionState int

const (
	stateNew sessionState = iota
	stateConnected
	stateReady
	stateClosing
)

// serveWorker runs one worker connection.
func (p *Proxy) serveWorker(ctx context.Context, nc *tee.Conn) error {
	w := &workerSession{p: p, conn: nc, requests: map[cocoon.RequestID]*attempt{}}
	w.mux = role.Open(nc, mux.Config{Side: mux.Acceptor, Handler: w, Logger: p.log})
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err := w.mux.Run(ctx)
	p.pool.remove(w)
	w.mu.Lock()
	w.gone = true
	lost := make([]*attempt, 0, len(w.requests))
	for _, a := range w.requests {
		lost = append(lost, a)
	}
	w.mu.Unlock()
	for _, a := range lost {
		a.queue.Close(errWorkerLost)
	}
	return err
}

// errWorkerLost ends the attempts of a worker whose connection ended.
var errWorkerLost = errors.New("the worker's connection ended")

// Renewed gives a worker whose session had run out to those who wait for one.
func (w *workerSession) Renewed() { w.p.pool.update(w, func() {}) }

// Query does the handshake and payment queries.
func (w *workerSession) Query(ctx context.Context, c *mux.Conn, data []byte) ([]byte, error) {
	o, err := schema.Decode(data)
	if err != nil {
		return nil, unreadable(err)
	}
	if isHandshake(o) {
		if !w.step.TryLock() {
			return nil, wire.Errorf(wire.CodeNone, "another handshake step is under way")
		}
		defer w.step.Unlock()
	}
	w.mu.Lock()
	state := w.state
	w.mu.Unlock()
	if state == stateClosing {
		return nil, wire.Errorf(wire.CodeNone, "connection is already closing")
	}
	var answer schema.Object
	switch fn := o.(type) {
	case *schema.CocoonGetLog:
		if state != stateReady {
			return nil, wire.Errorf(wire.CodeProtocolViolation, "worker request from non-ready connection")
		}
		return w.p.answerLog(w.contract, fn.Page)
	case *schema.WorkerUpdatePaymentStatus:
		if state != stateReady {
			return nil, wire.Errorf(wire.CodeProtocolViolation, "worker request from non-ready connection")
		}
		return w.paymentStatus(ctx)
	case *schema.ClientConnectToProxy, *schema.ClientAuthorizeWithProxyShort, *schema.ClientAuthorizeWithProxyLong:
		return nil, wire.Errorf(wire.CodeProtocolViolation, "client connect() from non client")
	case *schema.ClientGetWorkerTypes, *schema.ClientGetWorkerTypesV2, *schema.ClientUpdatePaymentStatus:
		return nil, wire.Errorf(wire.CodeProtocolViolation, "client request from non client")
	case *schema.WorkerConnectToProxy:
		if state == stateReady {
			return nil, wire.Errorf(wire.CodeNone, "connection is already ready")
		} else if state != stateNew {
			err = wire.Errorf(wire.CodeNone, "unexpected worker.connectToProxy")
		} else {
			answer, err = w.connect(&fn.Params)
		}
	case *schema.WorkerCompareBalanceWithProxy:
		w.money.Lock()
		mux.AfterAnswer(ctx, w.money.Unlock)
		answer, err = w.compare(state, fn)
	case *schema.WorkerExtendedCompareBalanceWithProxy:
		if state != stateConnected {
			err = wire.Errorf(wire.CodeNone, "unexpected worker.extendedCompareBalanceWithProxy")
		}
		answer = &schema.WorkerExtendedCompareBalanceWithProxyResult{}
	case *schema.WorkerProxyHandshakeComplete:
		answer, err = w.complete(ctx, state, fn.IsDisabled)
	default:
		return nil, mux.ErrUnknownFunction
	}
	if err != nil {
		w.mu.Lock()
		w.state = stateClosing
		w.mu.Unlock()
		return nil, mux.Fatal(err)
	}
	return schema.Marshal(answer), nil
}

// connect is the first step: who the worker is and what it serves.
func (w *workerSession) connect(q *schema.WorkerParams) (schema.Object, error) {
	p := w.p
	if p.isDraining() {
		return nil, wire.Errorf(wire.CodeNotReady, "proxy is not participating in this iteration")
	}
	if q.Flags&1 == 0 {
		return nil, wire.Errorf(wire.CodeError, "too old worker")
	}
	if q.IsTest != p.cfg.IsTest {
		return nil, wire.Errorf(wire.CodeError, "test mode mismatch")
	}
	owner, err := cocoon.ParseAddress(q.WorkerOwnerAddress)
	if err != nil {
		return nil, wire.Errorf(wire.CodeNone, "Failed to parse account address")
	}
	w.owner, w.model = owner, cocoon.ModelName(q.Model)
	if err := role.MatchWorker(w.conn.Peer.Node, w.model, owner); err != nil {
		return nil, wire.Errorf(wire.CodeProtocolViolation, "%v", err)
	}
	switch {
	case w.model.Base() == "" || len(q.Model) > 1024:
		return nil, wire.Errorf(wire.CodeProtocolViolation, "invalid worker hash or worker type")
	case q.Coefficient < 0 || q.Coefficient >= 1e9:
		return nil, wire.Errorf(wire.CodeProtocolViolation, "invalid coefficient value")
	case q.MaxActiveRequests < 1:
		return nil, wire.Errorf(wire.CodeProtocolViolation, "invalid max_active_requests value")
	case q.ProxyCnt < 1:
		return nil, wire.Errorf(wire.CodeProtocolViolation, "invalid proxy_cnt value")
	}
	if w.inst, err = p.current(); err != nil {
		return nil, wire.Errorf(wire.CodeNotReady, "proxy is disabled")
	}
	if err := p.admitWorker(w.inst.snap, w.conn.Peer, w.model); err != nil {
		return nil, wire.Errorf(wire.CodeProtocolViolation, "%v", err)
	}
	if w.version, err = chooseVersion(q.Flags, q.MinProtoVersion, q.MaxProtoVersion); err != nil {
		return nil, err
	}
	if w.contract, err = bindings.WorkerAddress(w.inst.snap, owner, w.inst.contract, p.cfg.PublicKey); err != nil {
		return nil, err
	}
	w.coefficient = q.Coefficient
	// Every proxy gets its share of the worker, rounded up.
	w.limit = 1 + (q.MaxActiveRequests-1)/q.ProxyCnt
	w.mu.Lock()
	w.state = stateConnected
	w.mu.Unlock()
	return &schema.WorkerConnectedToProxy{Params: p.params(w.inst, w.version), WorkerScAddress: p.text(w.contract)}, nil
}

// compare is the second step. Counters are durable before anybody hears of
// them, so a worker that knows more talks of another life of this proxy.
func (w *workerSession) compare(state sessionState, q *schema.WorkerCompareBalanceWithProxy) (schema.Object, error) {
	if state != stateConnected {
		return nil, wire.Errorf(wire.CodeNone, "unexpected worker.compareBalanceWithProxy")
	}
	c := w.p.cfg.Ledger.Worker(w.owner)
	book, err := channel.NewWorkerBook(0, c)
	if err != nil {
		return nil, err
	}
	if err := book.Compare(channel.Counters{Committed: q.TokensCommittedToBlockchain, Durable: q.TokensCommittedToDb, Used: q.MaxTokens}); err != nil {
		w.p.log.Error("refusing a worker: was an old copy of the ledger restored?", "worker", w.owner, "err", err)
		return nil, wire.Errorf(wire.CodeError, "the worker remembers counters above this proxy's ledger")
	}
	pay, err := w.p.payment(bindings.WorkerPayout, w.contract, c.Committed)
	if err != nil {
		return nil, err
	}
	return &schema.WorkerCompareBalanceWithProxyResult{SignedPayment: pay, TokensCommittedToDb: c.Durable, MaxTokens: c.Durable}, nil
}

// complete is the last step. Requests go to the worker only behind the answer:
// one that came before it would find a worker that does not know it is ready.
func (w *workerSession) complete(ctx context.Context, state sessionState, disabled bool) (schema.Object, error) {
	if state != stateConnected {
		return nil, wire.Errorf(wire.CodeNone, "unexpected worker.proxyHandshakeComplete")
	}
	w.enabled = !disabled
	w.mu.Lock()
	w.state = stateReady
	w.mu.Unlock()
	mux.AfterAnswer(ctx, func() {
		if err := w.p.pool.add(w); err != nil {
			w.mux.Close(err)
			return
		}
		// It was admitted when it connected; what the registry took off its
		// lists since then, follow did not find in the pool.
		w.p.judge(w)
		w.p.offers.look(ctx)
		w.p.log.Info("worker connected", "model", w.model.Base(), "owner", w.owner, "coefficient", w.coefficient, "verdict", w.conn.Peer.Kind, "level", w.conn.Peer.Level)
	})
	return &schema.WorkerProxyHandshakeCompleted{}, nil
}

func (w *workerSession) paymentStatus(ctx context.Context) ([]byte, error) {
	w.money.Lock()
	mux.AfterAnswer(ctx, w.money.Unlock)
	c := w.p.cfg.Ledger.Worker(w.owner)
	pay, err := w.p.payment(bindings.WorkerPayout, w.contract, c.Committed)
	if err != nil {
		return nil, err
	}
	return schema.Marshal(&schema.WorkerPaymentStatus{SignedPayment: pay, DbTokens: c.Durable, MaxTokens: c.Durable}), nil
}

// Message takes answers and state changes; on the reader goroutine.
func (w *workerSession) Message(c *mux.Conn, data []byte) {
	o, err := schema.Decode(data)
	if err != nil {
		if !w.garbled.Swap(true) { // once, or a peer could fill the disk
			w.p.log.Warn("unreadable message from worker", "worker", w.conn.Peer.Addr, "err", err)
		}
		return
	}
	if part, ok := role.FromWorker(o); ok {
		w.mu.Lock()
		a := w.requests[part.ID]
		w.mu.Unlock()
		if a != nil {
			role.Deliver(a.queue, part)
		}
		return
	}
	w.mu.Lock()
	ready := w.state == stateReady
	w.mu.Unlock()
	if !ready {
		return // what the handshake sets is not settled yet
	}
	switch m := o.(type) {
	case *schema.WorkerEnabledDisabled:
		w.p.pool.update(w, func() { w.enabled = m.Disabled == 0 })
	case *schema.WorkerNewCoefficient:
		if m.NewCoefficient < 0 || m.NewCoefficient >= 1e9 {
			c.Close(fmt.Errorf("the worker sent the coefficient %d", m.NewCoefficient))
			return
		}
		w.p.pool.update(w, func() { w.coefficient = m.NewCoefficient })
	default:
		w.p.log.Debug("unexpected message from worker", "type", o.TLName())
	}
}

// attach registers an attempt, so that its answer finds it.
func (w *workerSession) attach(a *attempt) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone {
		return false
	}
	w.requests[a.id] = a
	return true
}

func (w *workerSession) detach(a *attempt) {
	w.mu.Lock()
	delete(w.requests, a.id)
	w.mu.Unlock()
}

// unreadable is the answer to a query that does not parse.
func unreadable(err error) error {
	if errors.Is(err, errConstructor) {
		return mux.ErrUnknownFunction
	}
	return wire.Errorf(wire.CodeNone, "%v", err)
}
