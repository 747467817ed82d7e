package worker

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// session is one connection to a proxy.
type session struct {
	w    *Worker
	ctx  context.Context
	conn *mux.Conn
	peer tee.Peer
	nc   *tee.Conn
	snap *registry.Snapshot // what the contracts of this session derive from

	// Set by the handshake, read after ready.
	announced     int   // the limit the proxy was told
	coefficient   int32 // and the price factor
	proxyKey      [32]byte
	payments      role.PaymentReader
	proxyContract cocoon.Address
	proxyName     string         // the same, as text
	contract      cocoon.Address // our worker contract
	version       int32

	mu       sync.Mutex
	ready    bool
	view     channel.View
	requests map[cocoon.RequestID]*request

	retire  sync.Once
	retired chan struct{} // closed when the proxy gets no more work

	lane  *envelope.Lane // nil where nothing sealed is taken
	saver role.Saver[channel.View]
}

// Time limits of the handshake steps and of payment queries (spec
// network-protocol 2.7).
const (
	stepTimeout    = 30 * time.Second
	paymentTimeout = 60 * time.Second
	paymentEvery   = 15 * time.Second
)

// serve runs one session; the Keeper calls it.
func (w *Worker) serve(ctx context.Context, nc *tee.Conn, ready func()) error {
	snap, err := w.cfg.Source.Current()
	if err != nil {
		return err
	}
	s := &session{w: w, ctx: ctx, peer: nc.Peer, nc: nc, snap: snap, requests: map[cocoon.RequestID]*request{}, retired: make(chan struct{})}
	if w.cfg.Sealer != nil && nc.Session != nil {
		s.lane = w.cfg.Sealer.ring.NewLane(w.cfg.Sealer.now())
	}
	s.saver.Write = func(v channel.View) {
		if err := w.cfg.Book.Put(context.WithoutCancel(ctx), s.contract, v); err != nil {
			w.log.Error("closing the connection: a payment cannot be stored", "proxy", s.peer.Addr, "err", err)
			s.conn.Close(fmt.Errorf("cannot store payment: %w", err))
		}
	}
	s.conn = role.Open(nc, mux.Config{Side: mux.Dialer, Handler: s, Logger: w.log})
	defer s.close()
	return role.Converse(ctx, s.conn, role.Renewed(nc, s.conn, func(ctx context.Context) error { return s.converse(ctx, ready) }))
}

// converse does the handshake and then keeps payments up to date.
func (s *session) converse(ctx context.Context, ready func()) error {
	if err := s.handshake(ctx); err != nil {
		return err
	}
	w := s.w
	w.mu.Lock()
	w.sessions[s] = struct{}{}
	enabled := w.enabled
	if w.coefficient != s.coefficient { // adjusted meanwhile
		_ = s.conn.SendUrgent(schema.Marshal(&schema.WorkerNewCoefficient{NewCoefficient: w.coefficient}))
	}
	w.mu.Unlock()
	// The proxy was told the state of a moment ago; say it again in case it
	// changed in between.
	s.sendEnabled(enabled)
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.retired:
			return s.finish(ctx)
		case <-time.After(paymentEvery):
		}
		if err := s.updatePayment(ctx); err != nil {
			return err
		}
	}
}

// errSuspended ends the connections to a proxy that gets no more work.
var errSuspended = errors.New("worker: the proxy is suspended: it gets no work of ours")

// finish waits until what runs for a suspended proxy is over, within Drain.
func (s *session) finish(ctx context.Context) error {
	for end := time.Now().Add(s.w.cfg.Drain); !s.idle() && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
	return errSuspended
}

// handshake is spec network-protocol 4.3.
func (s *session) handshake(ctx context.Context) error {
	cfg := &s.w.cfg
	s.w.mu.Lock()
	s.coefficient = s.w.coefficient
	s.announced = s.w.limitLocked()
	s.w.mu.Unlock()
	params := schema.WorkerParams{
		Flags:              3,
		WorkerOwnerAddress: cfg.Owner.Friendly(false, cfg.TestOnly),
		Model:              string(cfg.Model),
		Coefficient:        s.coefficient,
		IsTest:             cfg.IsTest,
		ProxyCnt:           int32(cfg.Proxies),
		MaxActiveRequests:  int32(s.announced),
		MinProtoVersion:    role.WorkerMinVersion,
		MaxProtoVersion:    role.WorkerMaxVersion,
	}
	connected, err := role.Ask[*schema.WorkerConnectedToProxy](ctx, s.conn, stepTimeout, &schema.WorkerConnectToProxy{Params: params})
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
	if cfg.MayUse != nil {
		if err := cfg.MayUse(id.Key); err != nil {
			return err
		}
	}
	s.proxyKey, s.proxyContract, s.proxyName, s.version = id.Key, id.Contract, id.Contract.String(), id.Version
	if s.version < role.WorkerMinVersion || s.version > role.WorkerMaxVersion {
		return fmt.Errorf("the proxy chose protocol version %d, which was not offered", s.version)
	}
	if s.contract, err = bindings.WorkerAddress(s.snap, cfg.Owner, s.proxyContract, s.proxyKey); err != nil {
		return err
	}
	if got, err := cocoon.ParseAddress(connected.WorkerScAddress); err != nil || got != s.contract {
		return fmt.Errorf("the proxy names the worker contract %q, ours is %s: it follows another root contract", connected.WorkerScAddress, s.contract)
	}

	if cfg.Channel != nil {
		if err := cfg.Channel(ctx, s.proxyContract, s.contract); err != nil {
			return err
		}
	}
	s.view = cfg.Book.View(s.contract)
	heard := s.view.Heard()
	compared, err := role.Ask[*schema.WorkerCompareBalanceWithProxyResult](ctx, s.conn, stepTimeout, &schema.WorkerCompareBalanceWithProxy{
		TokensCommittedToBlockchain: heard.Committed, TokensCommittedToDb: heard.Durable, MaxTokens: heard.Used,
	})
	if err != nil {
		return err
	}
	if compared.ErrorCode != 0 {
		// The proxy forgot its last moments; ours catches up to what it signed.
		if _, err := role.Ask[*schema.WorkerExtendedCompareBalanceWithProxyResult](ctx, s.conn, stepTimeout,
			&schema.WorkerExtendedCompareBalanceWithProxy{TokensCommittedToDb: heard.Durable}); err != nil {
			return err
		}
	}
	if err := s.learn(compared.SignedPayment, compared.TokensCommittedToDb, compared.MaxTokens, nil); err != nil {
		return err
	}
	s.w.mu.Lock()
	disabled := !s.w.enabled
	s.w.mu.Unlock()
	// Once the proxy has heard this, requests may overtake its answer: they are
	// taken from here on, since one that is dropped would hang its caller.
	s.mu.Lock()
	s.ready = true
	s.mu.Unlock()
	_, err = role.Ask[*schema.WorkerProxyHandshakeCompleted](ctx, s.conn, stepTimeout, &schema.WorkerProxyHandshakeComplete{IsDisabled: disabled})
	return err
}

func (s *session) updatePayment(ctx context.Context) error {
	s.mu.Lock()
	before := s.view
	s.mu.Unlock()
	st, err := role.Ask[*schema.WorkerPaymentStatus](ctx, s.conn, paymentTimeout, &schema.WorkerUpdatePaymentStatus{})
	if err != nil {
		return err
	}
	return s.learn(st.SignedPayment, st.DbTokens, st.MaxTokens, &before)
}

// learn takes over counters and a signed payment the proxy sent. A worker is
// strict: money it was promised must never shrink (spec network-protocol 4.3).
// Messages are taken as they come, but whoever asked takes the answer a moment
// later, when messages that came behind it may be known already: asked, if not
// nil, is what was known before the question, and what the answer is held to.
func (s *session) learn(p schema.ProxySignedPaymentType, durable, used int64, asked *channel.View) error {
	pay, err := s.payments.Read(p, bindings.WorkerPayout, s.contract, s.proxyKey)
	if err != nil {
		return err
	}
	if pay == nil {
		return errors.New("the proxy sent no signed payment")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	said := channel.Report{Payment: pay, HasCounters: true, Durable: durable, Used: used}
	v, err := s.view.Hear(said)
	if asked != nil {
		_, err = asked.Hear(said)
	}
	if v.Best().Tokens > s.view.Best().Tokens {
		// Only what is signed is worth money, so only that is worth a write.
		// Settling reads it from the book, so it is not used before it is there.
		s.saver.Save(v)
	}
	s.view = v
	return err
}

// Query answers the one query a proxy may send (spec changes-2026-04 12.1).
func (s *session) Query(ctx context.Context, c *mux.Conn, data []byte) ([]byte, error) {
	o, err := schema.Decode(data)
	if err != nil {
		return nil, mux.ErrUnknownFunction
	}
	if _, ok := o.(*schema.WorkerChangeModel); ok {
		return nil, wire.Errorf(wire.CodeError, "cannot change model: no script in config")
	}
	return nil, mux.ErrUnknownFunction
}

// Message takes what the proxy sends; on the reader goroutine.
func (s *session) Message(c *mux.Conn, data []byte) {
	o, err := schema.Decode(data)
	if err != nil {
		s.w.log.Warn("unreadable message from proxy", "proxy", s.peer.Addr, "err", err)
		return
	}
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	if !ready {
		return
	}
	switch m := o.(type) {
	case *schema.ProxyRunQueryEx:
		s.start(m.RequestID, m.Query, m.Coefficient, m.Timeout, m.EnableDebug)
	case *schema.ProxyRunQuery:
		s.start(m.RequestID, m.Query, m.Coefficient, m.Timeout, false)
	case *schema.ProxyWorkerRequestPayment:
		if err := s.learn(m.SignedPayment, m.DbTokens, m.MaxTokens, nil); err != nil {
			s.w.log.Error("closing the connection over money", "proxy", s.peer.Addr, "err", err)
			s.conn.Close(err)
		}
	case *schema.CocoonCancel:
		s.mu.Lock()
		r := s.requests[m.RequestID]
		s.mu.Unlock()
		if r != nil {
			r.cancel(errCancelled)
		}
	case *schema.CocoonWindow:
		s.mu.Lock()
		r := s.requests[m.RequestID]
		s.mu.Unlock()
		if r != nil {
			if err := r.window.Grant(int(m.Bytes)); err != nil {
				s.conn.Close(err)
			}
			if x := r.sealed.Load(); x != nil && x.credit.Give() {
				x.timer.Stop()
				close(x.consent)
			}
		}
	default:
		s.w.log.Debug("unexpected message from proxy", "type", fmt.Sprintf("%T", o))
	}
}

// idle reports whether nothing runs.
func (s *session) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests) == 0
}

func (s *session) sendEnabled(v bool) {
	var disabled int32
	if !v {
		disabled = 1
	}
	// A failure means that the connection is ending anyway.
	_ = s.conn.SendUrgent(schema.Marshal(&schema.WorkerEnabledDisabled{Disabled: disabled}))
}

// close ends what runs for this connection: nobody is left to hear it.
func (s *session) close() {
	s.w.mu.Lock()
	delete(s.w.sessions, s)
	s.w.mu.Unlock()
	s.mu.Lock()
	s.ready = false
	running := make([]*request, 0, len(s.requests))
	for _, r := range s.requests {
		running = append(running, r)
	}
	s.mu.Unlock()
	for _, r := range running {
		r.cancel(errGone)
	}
	for _, r := range running {
		<-r.done
	}
	if s.lane != nil {
		s.lane.Close()
	}
	s.saver.Wait() // the next connection begins with what the book says
}

func (s *session) stat() ConnectionStat {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ConnectionStat{
		Address: s.peer.Addr, ContractKey: hex.EncodeToString(s.proxyKey[:]), Contract: s.proxyContract.Friendly(false, s.w.cfg.TestOnly), Ready: s.ready,
		Level: s.peer.Level, Verdict: string(s.peer.Kind), EarnedTokens: s.view.Heard().Used,
	}
}

func marshalPart(version int32, p *role.Part) []byte { return schema.Marshal(role.ToProxy(version, p)) }
