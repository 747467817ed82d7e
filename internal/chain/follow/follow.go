// Package follow keeps a registry snapshot of a root contract up to date from
// the chain.
//
// Owns: the loop that proves, decodes and publishes the root's state.
// Imports: access for proven accounts, bindings for the layout, registry for
// what roles read.
// Trust: the account state is proven by access; the layout is read strictly by
// bindings. What cannot be read is never published: the last good snapshot
// stays until the Holder finds it too old.
// Concurrency: one goroutine (Run); the Holder is shared with all roles.
package follow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
)

// ErrNotRoot says that an address holds no root contract that we can read.
var ErrNotRoot = errors.New("no root contract")

// DefaultEvery is the time between two looks at the root. The reference looks
// every 30 to 60 s; ours sees an image being withdrawn sooner.
const DefaultEvery = 5 * time.Second

// Chain proves account states.
type Chain interface {
	Account(ctx context.Context, addr cocoon.Address) (access.Account, error)
}

// Config configures a Follower. Chain, Root and Holder are needed.
type Config struct {
	Chain  Chain
	Root   cocoon.Address
	Holder *registry.Holder
	Every  time.Duration // 0 = DefaultEvery
	Logger *slog.Logger  // may be nil
}

// Follower publishes the state of a root contract.
type Follower struct {
	cfg Config
	// last is the account state that the held snapshot was decoded from.
	lastLT   uint64
	lastHash [32]byte
	have     bool
}

// New returns a Follower.
func New(cfg Config) (*Follower, error) {
	if cfg.Chain == nil || cfg.Holder == nil || cfg.Root.IsZero() {
		return nil, errors.New("follow: chain, holder and root address are needed")
	}
	if cfg.Every == 0 {
		cfg.Every = DefaultEvery
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Follower{cfg: cfg}, nil
}

// Read proves and decodes the state of a root contract once.
func Read(ctx context.Context, chain Chain, root cocoon.Address) (*registry.Snapshot, error) {
	acc, err := chain.Account(ctx, root)
	if err != nil {
		return nil, err
	}
	return decode(&acc)
}

func decode(acc *access.Account) (*registry.Snapshot, error) {
	switch {
	case !acc.Exists:
		return nil, fmt.Errorf("%w: account %s does not exist in block %d (is the address of this network?)", ErrNotRoot, acc.Address, acc.Block.Seqno)
	case acc.Frozen:
		return nil, fmt.Errorf("%w: account %s is frozen", ErrNotRoot, acc.Address)
	case !acc.Deployed() || acc.Data == nil:
		return nil, fmt.Errorf("%w: account %s has no contract", ErrNotRoot, acc.Address)
	}
	s, err := bindings.DecodeRoot(acc.Address, acc.Data)
	if err != nil {
		return nil, fmt.Errorf("%w: account %s has a contract, but not of a root: %v", ErrNotRoot, acc.Address, err)
	}
	s.Seqno, s.Time = acc.Block.Seqno, acc.Block.Time
	return s, nil
}

// Run follows the root until ctx ends. An address that holds no root when
// first looked at is an error (ErrNotRoot); a chain out of reach, or a root
// that cannot be read any more, is logged and tried again.
func (f *Follower) Run(ctx context.Context) error {
	for {
		err := f.step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if errors.Is(err, ErrNotRoot) && !f.have {
				return err
			}
			f.cfg.Logger.Warn("root contract not read", "root", f.cfg.Root, "reason", err)
		}
		select {
		case <-time.After(f.cfg.Every):
		case <-ctx.Done():
			return nil
		}
	}
}

// step looks once: it confirms an unchanged state and publishes a new one.
func (f *Follower) step(ctx context.Context) error {
	acc, err := f.cfg.Chain.Account(ctx, f.cfg.Root)
	if err != nil {
		return err
	}
	if f.have && acc.Exists && acc.LastTxLT == f.lastLT && acc.LastTxHash == f.lastHash {
		f.cfg.Holder.Confirm(acc.Block.Time)
		return nil
	}
	s, err := decode(&acc)
	if err != nil {
		return err
	}
	if err := f.cfg.Holder.Publish(s); err != nil {
		return err
	}
	f.have, f.lastLT, f.lastHash = true, acc.LastTxLT, acc.LastTxHash
	f.cfg.Logger.Info("root contract", "root", f.cfg.Root, "version", s.Version, "params", s.Params.ParamsVersion, "proxies", len(s.Proxies), "block", s.Seqno)
	return nil
}
