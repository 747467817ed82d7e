// Package worker is the worker role: it keeps connections to proxies, takes
// requests from them, runs them on its engine and counts what they cost.
//
// Owns: the worker's protocol sessions, admission and metering.
// Imports: role, wire, tee, registry, bindings, pricing, channel, engine,
// api/openai; envelope and receipt for sealed requests.
// Trust: proxies are attested but their messages are foreign; the engine is
// inside the guest, yet its answers are bounded and checked.
// Concurrency: one goroutine a session, one a request; Worker's own state is
// under its mutex.
package worker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// Engine runs one inference. *engine.Client is one.
type Engine interface {
	Do(ctx context.Context, r *engine.Request) (*engine.Response, error)
	// Ready returns nil while the engine can take requests.
	Ready(ctx context.Context) error
	// Caps is what it can do now.
	Caps() engine.Caps
}

// Book remembers, per worker contract, what this worker has heard of its
// counters and the best payment signed for it. Put returns once that is
// durable.
type Book interface {
	View(contract cocoon.Address) channel.View
	Put(ctx context.Context, contract cocoon.Address, v channel.View) error
}

// Config configures a Worker. Fields without a remark are required.
type Config struct {
	// Owner is the payout address, owner of the worker contracts.
	Owner cocoon.Address
	// Model is the full name; its base name is what callers ask for.
	Model cocoon.ModelName
	// ServedModel is the name the engine knows the model by; "" = base name.
	ServedModel string
	// Coefficient is the price factor in thousandths; 0 = free. Adjust changes it.
	Coefficient int32
	// MaxActive bounds requests at one time over all proxies; 0 = what the
	// engine can do, or 60 if it does not tell. Adjust changes it.
	MaxActive int
	// Capacity tells how many requests the engine works on at one time, 0 if it
	// does not say, and whether it has more than it can do; nil = it never says.
	Capacity func() (slots int, full bool)
	// Proxies is how many proxies to serve; 0 = 1.
	Proxies int
	// IsTest must equal the network's; TestOnly sets the test-only flag in
	// the addresses sent to peers.
	IsTest, TestOnly bool

	Source registry.Source
	Dialer tee.Dialer
	Engine Engine
	Book   Book
	// Admit decides about a proxy's evidence; nil = role.AdmitProxy.
	Admit func(*registry.Snapshot, tee.Peer) error
	// Channel is told which proxy contract a worker contract belongs to, once a
	// proxy is connected, which an error ends; may be nil.
	Channel func(ctx context.Context, proxy, contract cocoon.Address) error
	// MayUse says why a proxy, by its contract key, gets no work of ours; nil = all
	// do.
	MayUse func(contractKey [32]byte) error
	// Sealer opens sealed requests; nil = none is taken. Sign signs with the
	// node key of the statements that the sealer's keys stand in; Block is the
	// newest proven block, which may be nil where there is no chain.
	Sealer *Sealer
	Sign   func(message []byte) []byte
	Block  func() receipt.Block
	// Drain is how long requests may go on after Run's context ended; 0 = 10 s.
	Drain time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Worker serves one model.
type Worker struct {
	cfg    Config
	keeper *role.Keeper
	log    *slog.Logger

	active  atomic.Int64 // requests that hold a place
	running atomic.Int64 // those and the ones that still say their last word

	// saltKey makes cache salts that mean nothing elsewhere.
	saltKey [32]byte
	// short says that proxies were promised more than there is room for, so
	// that each request looks whether it took the last place.
	short atomic.Bool

	mu          sync.Mutex
	coefficient int32
	maxActive   int  // 0 = by capacity
	engineUp    bool // the engine is ready and we are not draining
	full        bool // there is no room for more
	enabled     bool // what proxies are told: up and not full
	sessions    map[*session]struct{}

	stats role.Counters
}

// New checks cfg and makes a Worker.
func New(cfg Config) (*Worker, error) {
	switch {
	case cfg.Model.Base() == "":
		return nil, errors.New("worker: no model: set the full name, name@commit:hash")
	case cfg.Coefficient < 0 || cfg.Coefficient >= 1e9:
		return nil, fmt.Errorf("worker: coefficient %d is not within 0..999999999 thousandths", cfg.Coefficient)
	case cfg.Owner.IsZero():
		return nil, errors.New("worker: no owner address: set the address that payouts go to")
	case cfg.Source == nil || cfg.Dialer == nil || cfg.Engine == nil || cfg.Book == nil:
		return nil, errors.New("worker: registry, dialer, engine and book are required")
	case (cfg.Sealer == nil) != (cfg.Sign == nil):
		return nil, errors.New("worker: a sealer and the node key's signature belong together")
	}
	if cfg.Block == nil {
		cfg.Block = func() receipt.Block { return receipt.Block{} }
	}
	if cfg.ServedModel == "" {
		cfg.ServedModel = cfg.Model.Base()
	}
	cfg.Proxies = max(cfg.Proxies, 1)
	if cfg.Admit == nil {
		cfg.Admit = role.AdmitProxy
	}
	if cfg.Drain == 0 {
		cfg.Drain = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Worker{cfg: cfg, log: cfg.Logger, coefficient: cfg.Coefficient, maxActive: cfg.MaxActive, sessions: map[*session]struct{}{}}
	if _, err := rand.Read(w.saltKey[:]); err != nil {
		return nil, err
	}
	w.keeper = role.NewKeeper(role.KeeperConfig{
		Count:   cfg.Proxies,
		Source:  cfg.Source,
		Dialer:  cfg.Dialer,
		Address: func(p registry.Proxy) string { return p.ForWorkers },
		Admit:   w.admit,
		Serve:   w.serve,
		Logger:  cfg.Logger,
	})
	return w, nil
}

// admit refuses networks that do not list our model before it looks at the
// proxy: a worker that serves unlisted weights would only be refused later.
func (w *Worker) admit(s *registry.Snapshot, p tee.Peer) error {
	if !s.HasModel(w.cfg.Model) {
		return fmt.Errorf("the root contract does not list the model %s", w.cfg.Model)
	}
	return w.cfg.Admit(s, p)
}

// Run serves until ctx ends, then drains: no new requests, running ones may
// finish within Config.Drain.
func (w *Worker) Run(ctx context.Context) error {
	serveCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	w.settle(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { w.keeper.Run(serveCtx) })
	w.monitor(ctx) // ends first, so that nobody enables what is draining
	w.setEnabled(false)
	w.drain()
	stop()
	wg.Wait()
	return ctx.Err()
}

// settle gives the engine a moment: proxies are told its capacity once, when a
// connection begins. One that takes longer costs a second connection.
func (w *Worker) settle(ctx context.Context) {
	for end := time.Now().Add(settleTime); w.cfg.Engine.Ready(ctx) != nil && ctx.Err() == nil && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

const settleTime = 300 * time.Millisecond

func (w *Worker) drain() {
	deadline := time.Now().Add(w.cfg.Drain)
	for w.running.Load() > 0 && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
}

// monitor asks the engine how it is and tells the proxies when that changes.
func (w *Worker) monitor(ctx context.Context) {
	first := true
	for ctx.Err() == nil {
		probe, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := w.cfg.Engine.Ready(probe)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if w.setEnabled(err == nil) || first {
			if err != nil {
				w.log.Warn("engine is not ready: taking no requests", "err", err)
			} else {
				w.log.Info("engine is ready", "model", w.cfg.Model.Base())
			}
			first = false
		}
		if w.cfg.Sealer != nil {
			w.cfg.Sealer.ring.Wipe(w.cfg.Sealer.now())
		}
		pause := time.Second
		if err != nil {
			pause = 200 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// setEnabled takes over whether the engine is ready and how much it can do, and
// reports whether the first of these changed.
func (w *Worker) setEnabled(v bool) bool {
	_, full := w.capacity()
	w.mu.Lock()
	defer w.mu.Unlock()
	changed := w.engineUp != v
	w.engineUp, w.full = v, full
	limit, short := w.limitLocked(), false
	for s := range w.sessions {
		switch {
		case s.announced == limit || !v:
		case s.idle():
			// The number is said once, when a connection begins.
			s.conn.Close(errAnnounce)
		case s.announced > limit:
			short = true
		}
	}
	w.short.Store(short)
	w.tellLocked()
	return changed
}

// errAnnounce ends a connection whose proxy was told another limit.
var errAnnounce = errors.New("worker: the engine's capacity changed: connecting anew to say so")

// tellLocked tells the proxies whether requests are welcome, if that changed.
func (w *Worker) tellLocked() {
	full := w.full || w.short.Load() && w.active.Load() >= int64(w.limitLocked())
	v := w.engineUp && !full
	if w.enabled == v {
		return
	}
	w.enabled = v
	for s := range w.sessions {
		s.sendEnabled(v)
	}
}

// pressure is called whenever a place was taken or given back.
func (w *Worker) pressure() {
	if w.short.Load() {
		w.mu.Lock()
		w.tellLocked()
		w.mu.Unlock()
	}
}

func (w *Worker) capacity() (slots int, full bool) {
	if w.cfg.Capacity == nil {
		return 0, false
	}
	return w.cfg.Capacity()
}

// defaultMaxActive is the reference's limit, for engines that tell none.
const defaultMaxActive = 60

// limit is how many requests proxies may send at one time.
func (w *Worker) limit() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.limitLocked()
}

func (w *Worker) limitLocked() int {
	if w.maxActive > 0 {
		return w.maxActive
	}
	if slots, _ := w.capacity(); slots > 0 {
		return slots
	}
	return defaultMaxActive
}

// Adjust changes the price factor and the limit of requests while the worker
// runs; the limits of Config hold.
func (w *Worker) Adjust(coefficient int32, maxActive int) error {
	if coefficient < 0 || coefficient >= 1e9 {
		return fmt.Errorf("worker: coefficient %d is not within 0..999999999 thousandths", coefficient)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.maxActive = maxActive
	if w.coefficient != coefficient {
		w.coefficient = coefficient
		for s := range w.sessions {
			_ = s.conn.SendUrgent(schema.Marshal(&schema.WorkerNewCoefficient{NewCoefficient: coefficient}))
		}
	}
	return nil
}

// Stats is the worker's state for status pages.
type Stats struct {
	Model       string           `json:"model"`
	Owner       string           `json:"owner_address"`
	Coefficient int32            `json:"coefficient"`
	Enabled     bool             `json:"enabled"`
	Active      int64            `json:"running_requests"`
	MaxActive   int              `json:"max_active_requests"`
	Connections []ConnectionStat `json:"proxy_connections"`
	role.CounterStats
}

// ConnectionStat is one proxy connection.
type ConnectionStat struct {
	Address     string `json:"address"`
	ContractKey string `json:"contract_key"`
	Contract    string `json:"proxy_sc_address"`
	Ready       bool   `json:"is_ready"`
	Level       int    `json:"level"`
	Verdict     string `json:"verdict"`
	// EarnedTokens is the highest counter heard.
	EarnedTokens int64 `json:"earned_tokens_max_known"`
}

// Stats returns the state now.
func (w *Worker) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := Stats{
		Model: string(w.cfg.Model), Owner: w.cfg.Owner.Friendly(false, w.cfg.TestOnly), Coefficient: w.coefficient,
		Enabled: w.enabled, Active: w.active.Load(), MaxActive: w.limitLocked(), CounterStats: w.stats.Stats(),
		Connections: []ConnectionStat{},
	}
	for s := range w.sessions {
		st.Connections = append(st.Connections, s.stat())
	}
	return st
}

// Watched are the connected proxies of level 1, whose audit logs can be asked for.
func (w *Worker) Watched() []role.Watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []role.Watched
	for s := range w.sessions {
		if s.peer.Node == nil {
			continue
		}
		s.mu.Lock()
		earned := s.view.Heard().Durable
		s.mu.Unlock()
		out = append(out, role.Watched{ContractKey: s.proxyKey, Proxy: s.proxyContract, Party: s.contract, Endpoint: s.peer.Addr, Counter: earned})
	}
	return out
}

// Log asks the proxy of a contract key for a page of its audit log (role.AskLog).
func (w *Worker) Log(ctx context.Context, contractKey [32]byte, page string) ([]byte, error) {
	w.mu.Lock()
	var proxy *mux.Conn
	for x := range w.sessions {
		if x.proxyKey == contractKey && x.peer.Node != nil {
			proxy = x.conn
		}
	}
	w.mu.Unlock()
	return role.AskLog(ctx, proxy, paymentTimeout, page)
}

// Leave ends the connections to a proxy that MayUse refuses from now on: what
// runs for it may finish within Config.Drain.
func (w *Worker) Leave(contractKey [32]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.sessions {
		if s.proxyKey == contractKey {
			s.sendEnabled(false)
			s.retire.Do(func() { close(s.retired) })
		}
	}
}
