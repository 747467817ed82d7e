package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/role/worker"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/receipt"
)

// level1 makes a process's sessions: its node key and statements, and one
// verifier for each role it meets.
type level1 struct {
	cfg    *Config
	chain  *chain
	issuer *statement.Issuer
	sealer *worker.Sealer // a worker's
}

// newLevel1 makes the node key of this process. facts say what a proxy or
// worker is; key is a proxy's contract key.
func newLevel1(c *Config, ch *chain, r cocoon.Role, facts func() (statement.Facts, error), key *wallet.Key, log *slog.Logger) (*level1, error) {
	cfg := statement.IssuerConfig{Role: r, Facts: facts, Build: buildName(), Log: log}
	var sealer *worker.Sealer
	if r == cocoon.RoleWorker {
		sealer = worker.NewSealer(ch.networkID())
		cfg.SealKeys = sealer
	}
	if r != cocoon.RoleClient {
		attester, err := attester(c)
		if err != nil {
			return nil, err
		}
		if attester != nil {
			cfg.Attester = attester
		}
		if r == cocoon.RoleWorker {
			if cfg.GPUs, err = gpus(c); err != nil {
				return nil, err
			}
		}
		cfg.NetworkID, cfg.Chain = ch.networkID(), ch.blocks()
	}
	if key != nil {
		cfg.ContractKey = *key
		if c.Runtime.PreviousKeyFile != "" {
			if _, err := os.Stat(c.Runtime.PreviousKeyFile); err != nil { // none is made here
				return nil, fmt.Errorf("configuration: runtime.previous_key_file: %w", err)
			}
			old, err := c.keys.walletKey(useContractKey, c.Runtime.PreviousKeyFile)
			if err != nil {
				return nil, fmt.Errorf("configuration: runtime.previous_key_file: %w", err)
			}
			sig := old.SignSuccessor(key.Public())
			cfg.Predecessor, cfg.SuccessorSignature = old.Public(), sig[:]
		}
	}
	issuer, err := statement.NewIssuer(cfg)
	if err != nil {
		return nil, err
	}
	return &level1{cfg: c, chain: ch, issuer: issuer, sealer: sealer}, nil
}

// bundles verifies statements of workers that a proxy handed on.
func (l *level1) bundles(log *slog.Logger) (func(context.Context, []byte) (*tee.Node, error), error) {
	policy, err := l.cfg.Measured.policy()
	if err != nil {
		return nil, err
	}
	end, err := endorser(l.cfg, policy, log)
	if err != nil {
		return nil, err
	}
	v, err := statement.NewVerifier(l.chain.verifies(cocoon.RoleWorker, ratls.Config{Policy: policy, Endorser: end, GlobalID: l.cfg.Measured.GlobalID}))
	if err != nil {
		return nil, err
	}
	return v.VerifyBundle, nil
}

// now is the time that peers agree on without trusting a clock: that of the
// newest proven block. Where there is no chain it is the clock's.
func (c *chain) now() time.Time {
	if c.real() {
		return c.client.LastHead().Time
	}
	return time.Now()
}

// block is the newest proven block as receipts name it; zero without a chain.
func (c *chain) block() receipt.Block {
	if !c.real() {
		return receipt.Block{}
	}
	return receipt.Block(c.client.LastHead())
}

// sessions makes the sessions with peers of a role, as base verifies them.
func (l *level1) sessions(peer cocoon.Role, base ratls.Config) (*statement.Sessions, error) {
	v, err := statement.NewVerifier(l.chain.verifies(peer, base))
	if err != nil {
		return nil, err
	}
	return statement.New(statement.Config{Issuer: l.issuer, Verifier: v, Required: l.cfg.Measured.MinLevel >= wire.Level1})
}

// verifies says how peers of a role are verified in this network.
func (c *chain) verifies(peer cocoon.Role, base ratls.Config) statement.VerifierConfig {
	return statement.VerifierConfig{
		Role: peer, Policy: base.Policy, Endorser: base.Endorser, GlobalID: base.GlobalID,
		NetworkID: c.networkID(), Chain: c.blocks(),
		Contract: func(key [32]byte, owner cocoon.Address) (cocoon.Address, error) {
			snap, err := c.Current()
			if err != nil {
				return cocoon.Address{}, err
			}
			return bindings.ProxyAddress(snap, key, owner)
		},
	}
}

// blocks is the chain as level 1 sees it; nil where there is none.
func (c *chain) blocks() statement.Chain {
	if c.seen == nil {
		return nil
	}
	return c.seen
}

// clock is the time of certificates and collateral: a host can set a clock
// back, and not the chain.
func (c *chain) clock() time.Time {
	now := time.Now()
	if c.real() {
		if head := c.client.LastHead(); head.Time.After(now) {
			return head.Time
		}
	}
	return now
}

// chainBlocks is a chain's newest block, and since when on the monotonic clock.
type chainBlocks struct {
	client *access.Client

	mu    sync.Mutex
	head  access.Block
	since time.Time
}

// lookEvery is how often the newest block is looked at.
const lookEvery = time.Second

// run looks at the head, which others keep up to date.
func (b *chainBlocks) run(ctx context.Context) error {
	for {
		b.Newest()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(lookEvery):
		}
	}
}

// Newest implements statement.Chain.
func (b *chainBlocks) Newest() (statement.Block, time.Duration) {
	head := b.client.LastHead()
	b.mu.Lock()
	defer b.mu.Unlock()
	if head.Seqno > b.head.Seqno {
		b.head, b.since = head, time.Now()
	}
	return statement.Block(b.head), time.Since(b.since)
}

// Lookup implements statement.Chain.
func (b *chainBlocks) Lookup(ctx context.Context, seqno uint32) (statement.Block, error) {
	found, err := b.client.LookupBlock(ctx, seqno)
	if err != nil {
		return statement.Block{}, fmt.Errorf("%w: %v", statement.ErrForeign, err)
	}
	return statement.Block(found), nil
}

// buildName names this program in statements.
func buildName() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	name := "cocoon"
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			name += " " + s.Value
		}
	}
	return name
}
