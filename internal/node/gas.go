package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/settle"
)

// gasEvery is how often fees are added up; whoever asks has them at once.
const gasEvery = time.Minute

// gasMeter adds up what a role's wallet and contracts paid the chain: the fees
// of their proven transactions and of the messages they sent. It remembers how
// far it came, as the chain forgets old blocks.
type gasMeter struct {
	chain    *access.Client
	accounts func() []cocoon.Address
	path     string
	log      *slog.Logger

	mu  sync.Mutex
	all map[string]gasOf // by raw address
}

type gasOf struct {
	LT   uint64     `json:"lt"`
	Fees coins.Nano `json:"fees_nano"`
}

func openGas(c *chain, dir string, accounts func() []cocoon.Address, log *slog.Logger) (*gasMeter, error) {
	g := &gasMeter{chain: c.client, accounts: accounts, path: filepath.Join(dir, "gas.json"), log: log, all: map[string]gasOf{}}
	b, err := readSmall(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		return g, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &g.all)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w; it only counts fees: remove it to count anew", g.path, err)
	}
	return g, nil
}

// run counts until ctx ends.
func (g *gasMeter) run(ctx context.Context) error {
	for {
		if err := g.update(ctx); err != nil && ctx.Err() == nil {
			g.log.Warn("chain fees were not added up", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(gasEvery):
		}
	}
}

// total returns what was paid so far, as far as it could be counted in time;
// an error says that this is not all.
func (g *gasMeter) total(ctx context.Context) (sum coins.Nano, err error) {
	err = g.update(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.all {
		sum += a.Fees
	}
	return sum, err
}

func (g *gasMeter) update(ctx context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	changed := false
	var failed error
	for _, addr := range g.accounts() {
		now, err := g.count(ctx, addr, g.all[addr.Raw()])
		if now != g.all[addr.Raw()] {
			g.all[addr.Raw()], changed = now, true
		}
		failed = errors.Join(failed, err)
	}
	if !changed {
		return failed
	}
	b, err := json.Marshal(g.all)
	if err != nil {
		return err
	}
	return errors.Join(failed, writeFile(g.path, b, 0o600))
}

// count goes on from where a count stands.
func (g *gasMeter) count(ctx context.Context, addr cocoon.Address, g0 gasOf) (gasOf, error) {
	acc, err := g.chain.Account(ctx, addr)
	if err != nil || acc.LastTxLT <= g0.LT {
		return g0, err
	}
	now := g0
	err = settle.History(ctx, g.chain, acc, g0.LT, func(tx access.Transaction) error {
		now.LT = tx.LT
		now.Fees += tx.Fees
		for _, m := range tx.Out {
			now.Fees += m.ForwardFee
		}
		return nil
	})
	return now, err
}
