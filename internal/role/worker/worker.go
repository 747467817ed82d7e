// Package worker is the worker role: it keeps connections to proxies, takes
// requests from them, runs them on its engine and counts what they cost.
//
// Owns: the worker's protocol sessions, admission and metering.
// Imports: role, wire, tee, registry, bindings, pricing, engine, api/openai.
// Trust: proxies are attested but their messages are foreign; the engine is
// inside the guest, yet its answers are bounded and checked.
// Concurrency: one goroutine a session, one a request; Worker's own state is
// under its mutex.
package worker

import (
	"context"
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
)

// Engine runs one inference. *engine.Client is one.
type Engine interface {
	Do(ctx context.Context, r *engine.Request) (*engine.Response, error)
	// Ready returns nil while the engine can take requests.
	Ready(ctx context.Context) error
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
	// ContinuousUsage says that the engine can report running usage in
	// streams when asked to.
	ContinuousUsage bool
	// Coefficient is the price factor in thousandths; 0 = free.
	Coefficient int32
	// MaxActive bounds requests at one time over all proxies; 0 = 60.
	MaxActive int
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
	// proxy is connected; may be nil.
	Channel func(proxy, contract cocoon.Address)
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

	mu       sync.Mutex
	enabled  bool // the engine is ready and we are not draining
	sessions map[*session]struct{}

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
	}
	if cfg.ServedModel == "" {
		cfg.ServedModel = cfg.Model.Base()
	}
	if cfg.MaxActive <= 0 {
		cfg.MaxActive = 60
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
	w := &Worker{cfg: cfg, log: cfg.Logger, sessions: map[*session]struct{}{}}
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
	var wg sync.WaitGroup
	wg.Go(func() { w.keeper.Run(serveCtx) })
	w.monitor(ctx) // ends first, so that nobody enables what is draining
	w.setEnabled(false)
	w.drain()
	stop()
	wg.Wait()
	return ctx.Err()
}

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

// setEnabled reports whether the state changed.
func (w *Worker) setEnabled(v bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.enabled == v {
		return false
	}
	w.enabled = v
	for s := range w.sessions {
		s.sendEnabled(v)
	}
	return true
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
	Address  string `json:"address"`
	Contract string `json:"proxy_sc_address"`
	Ready    bool   `json:"is_ready"`
	Level    int    `json:"level"`
	Verdict  string `json:"verdict"`
	// EarnedTokens is the highest counter heard.
	EarnedTokens int64 `json:"earned_tokens_max_known"`
}

// Stats returns the state now.
func (w *Worker) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := Stats{
		Model: string(w.cfg.Model), Owner: w.cfg.Owner.Friendly(false, w.cfg.TestOnly), Coefficient: w.cfg.Coefficient,
		Enabled: w.enabled, Active: w.active.Load(), MaxActive: w.cfg.MaxActive, CounterStats: w.stats.Stats(),
		Connections: []ConnectionStat{},
	}
	for s := range w.sessions {
		st.Connections = append(st.Connections, s.stat())
	}
	return st
}
