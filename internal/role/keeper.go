package role

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// KeeperConfig configures a Keeper.
type KeeperConfig struct {
	// Count is how many proxies to keep connections to.
	Count  int
	Source registry.Source
	Dialer tee.Dialer
	// Address picks the endpoint that is meant for this role.
	Address func(registry.Proxy) string
	// Admit says whether a peer may be talked to under a snapshot; it is
	// asked before the first byte and again whenever the registry changes.
	Admit func(*registry.Snapshot, tee.Peer) error
	// Serve runs one session until it ends. It calls ready once the
	// application handshake is complete.
	Serve func(ctx context.Context, conn *tee.Conn, ready func()) error
	// Logger may be nil.
	Logger *slog.Logger
}

// Keeper keeps connections to proxies of the registry: what the client and
// the worker have in common (spec network-protocol 2.6). It redials with
// growing pauses, moves to another proxy when one stays away, and starts anew
// when the parameters that stand in contract addresses change.
type Keeper struct {
	cfg KeeperConfig

	mu      sync.Mutex
	targets map[string]bool // endpoints in use
}

// Reconnection: the first retry comes at once, as most breaks are restarts.
const (
	minBackoff = 50 * time.Millisecond
	maxBackoff = 5 * time.Second
	// A target that was not ready for this long is given up for another one.
	giveUpAfter = 30 * time.Second
	dialTimeout = 20 * time.Second
)

// NewKeeper makes a Keeper.
func NewKeeper(cfg KeeperConfig) *Keeper {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Keeper{cfg: cfg, targets: map[string]bool{}}
}

// Run keeps the connections until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range max(k.cfg.Count, 1) {
		wg.Go(func() { k.slot(ctx) })
	}
	wg.Wait()
	return ctx.Err()
}

// slot keeps one connection.
func (k *Keeper) slot(ctx context.Context) {
	for ctx.Err() == nil {
		addr := k.pick()
		if addr == "" {
			// Nothing to dial: fewer proxies than slots, or no registry yet.
			sleep(ctx, time.Second, k.cfg.Source.Changed())
			continue
		}
		k.target(ctx, addr)
		k.release(addr)
	}
}

// target dials one endpoint again and again until it is given up.
func (k *Keeper) target(ctx context.Context, addr string) {
	log := k.cfg.Logger.With("proxy", addr)
	backoff, lastReady := minBackoff, time.Now()
	var lastText string
	for ctx.Err() == nil && k.listed(addr) {
		ready := false
		err := k.once(ctx, addr, func() {
			ready = true
			log.Info("connected to proxy")
		})
		if ctx.Err() != nil {
			return
		}
		if ready {
			backoff, lastReady = minBackoff, time.Now()
			log.Warn("connection to proxy ended", "err", err)
			lastText = ""
		} else {
			// A proxy that is away would fill the log with one line.
			if text := err.Error(); text != lastText {
				log.Warn("cannot use proxy", "err", err)
				lastText = text
			}
			if time.Since(lastReady) > giveUpAfter {
				return
			}
		}
		sleep(ctx, backoff/2+rand.N(backoff), nil)
		backoff = min(backoff*2, maxBackoff)
	}
}

// once runs one connection from dial to end.
func (k *Keeper) once(ctx context.Context, addr string, ready func()) error {
	snap, err := k.cfg.Source.Current()
	if err != nil {
		return err
	}
	dialCtx, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, err := k.cfg.Dialer.Dial(dialCtx, addr)
	cancel()
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := k.cfg.Admit(snap, conn.Peer); err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go k.watch(ctx, stop, snap.Params.ParamsVersion, addr, conn.Peer)
	err = k.cfg.Serve(ctx, conn, ready)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// watch ends a connection when the registry no longer allows it.
func (k *Keeper) watch(ctx context.Context, stop context.CancelCauseFunc, params uint32, addr string, peer tee.Peer) {
	for {
		changed := k.cfg.Source.Changed()
		snap, err := k.cfg.Source.Current()
		switch {
		case err != nil:
			stop(fmt.Errorf("the registry is not usable: %w", err))
		case snap.Params.ParamsVersion != params:
			stop(errors.New("the network's parameters changed: connecting anew"))
		case !listed(snap, k.cfg.Address, addr):
			stop(errors.New("the proxy left the root contract"))
		default:
			if err := k.cfg.Admit(snap, peer); err != nil {
				stop(err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(time.Minute): // age limits pass without a change
		}
	}
}

func (k *Keeper) listed(addr string) bool {
	snap, err := k.cfg.Source.Current()
	return err != nil || listed(snap, k.cfg.Address, addr)
}

func listed(s *registry.Snapshot, address func(registry.Proxy) string, addr string) bool {
	for _, p := range s.Proxies {
		if address(p) == addr {
			return true
		}
	}
	return false
}

// pick takes a random endpoint that no other slot uses; "" if there is none.
func (k *Keeper) pick() string {
	snap, err := k.cfg.Source.Current()
	if err != nil {
		return ""
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	var free []string
	for _, p := range snap.Proxies {
		if a := k.cfg.Address(p); !k.targets[a] {
			free = append(free, a)
		}
	}
	if len(free) == 0 {
		return ""
	}
	a := free[rand.N(len(free))]
	k.targets[a] = true
	return a
}

func (k *Keeper) release(addr string) {
	k.mu.Lock()
	delete(k.targets, addr)
	k.mu.Unlock()
}

func sleep(ctx context.Context, d time.Duration, or <-chan struct{}) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-or:
	case <-t.C:
	}
}

// AdmitProxy is the check clients and workers make of a proxy's image
// (spec network-protocol 4.2): without listed evidence nothing is said to it.
func AdmitProxy(s *registry.Snapshot, p tee.Peer) error {
	if !s.HasProxyImage(p.ImageHash) || p.Kind == attest.None || p.Kind == "" {
		return fmt.Errorf("the proxy at %s shows image %s (evidence %q), which the root contract does not list", p.Addr, p.ImageHash, p.Kind)
	}
	return valid(p)
}

// AdmitWorker is the proxy's check of a worker's image.
func AdmitWorker(s *registry.Snapshot, p tee.Peer) error {
	if !s.HasWorkerImage(p.ImageHash) || p.Kind == attest.None || p.Kind == "" {
		return fmt.Errorf("invalid worker image hash %X", p.ImageHash[:])
	}
	return valid(p)
}

// AdmitAny is for test networks whose peers carry no evidence.
func AdmitAny(*registry.Snapshot, tee.Peer) error { return nil }
