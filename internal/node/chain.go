package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/contracts"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/follow"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/settle"
)

// chain is a role's access to its network: a proven chain, or a file that
// stands in for one.
type chain struct {
	registry.Source
	root cocoon.Address

	// nil where a root file stands in for the chain.
	client   *access.Client
	follower *follow.Follower
	seen     *chainBlocks
}

// openChain opens the network of the configuration. With a chain it returns
// once a head was proven and the root contract was read.
func openChain(ctx context.Context, c *Config, log *slog.Logger) (*chain, error) {
	m := &c.Measured
	if m.RootContract == "" {
		return nil, errors.New("configuration: measured.root_contract is missing: set the address of the network's root contract")
	}
	root, err := cocoon.ParseAddress(m.RootContract)
	if err != nil {
		return nil, fmt.Errorf("configuration: measured.root_contract: %w", err)
	}
	switch {
	case m.RootFile != "" && m.TonConfig != "":
		return nil, errors.New("configuration: measured.root_file and measured.ton_config are both set: a network has a chain or a file that stands in for it")
	case m.RootFile != "":
		snap, err := registry.ReadFile(m.RootFile, root, time.Now())
		if err != nil {
			return nil, fmt.Errorf("configuration: measured.root_file %s: %w", m.RootFile, err)
		}
		return &chain{Source: registry.NewStatic(snap), root: root}, nil
	case m.TonConfig == "":
		return nil, errors.New("configuration: measured.ton_config is missing: set TON's global configuration file, with zero state and init block")
	}
	b, err := readSmall(m.TonConfig)
	if err != nil {
		return nil, fmt.Errorf("configuration: measured.ton_config: %w", err)
	}
	dir := filepath.Join(c.Runtime.Dir, "chain")
	checkpoint, err := checkpointKey(dir)
	if err != nil {
		return nil, err
	}
	client, err := access.Open(ctx, access.Config{GlobalConfig: b, Dir: dir, CheckpointKey: checkpoint, Logger: log})
	if err != nil {
		return nil, err
	}
	if id := client.Network().GlobalID; id != m.GlobalID {
		client.Close()
		return nil, fmt.Errorf("configuration: measured.global_id is %d, the chain of %s says %d", m.GlobalID, m.TonConfig, id)
	}
	holder := registry.NewHolder(registry.HolderConfig{})
	f, err := follow.New(follow.Config{Chain: client, Root: root, Holder: holder, Every: c.Runtime.every(), Logger: log})
	if err == nil {
		var snap *registry.Snapshot
		if snap, err = follow.Read(ctx, client, root); err == nil {
			err = holder.Publish(snap)
		}
	}
	if err != nil {
		client.Close()
		return nil, err
	}
	return &chain{Source: holder, root: root, client: client, follower: f, seen: &chainBlocks{client: client}}, nil
}

// close ends the access.
func (c *chain) close() {
	if c.client != nil {
		c.client.Close()
	}
}

// real reports whether there is a chain to settle on.
func (c *chain) real() bool { return c.client != nil }

// parts are what runs beside a role to keep the registry up to date.
func (c *chain) parts() []func(context.Context) error {
	if !c.real() {
		return nil
	}
	return []func(context.Context) error{c.follower.Run, c.seen.run}
}

// networkID is level 1's name of the network; zero where there is no chain.
func (c *chain) networkID() [32]byte {
	if !c.real() {
		return [32]byte{}
	}
	return c.client.Network().ID(c.root)
}

// wallet opens the node wallet of a role, which pays for its messages. owner
// keeps control over it.
func (c *chain) wallet(cfg *Config, owner cocoon.Address, log *slog.Logger) (*wallet.Wallet, error) {
	if cfg.Runtime.WalletKeyFile == "" {
		return nil, errors.New("configuration: runtime.wallet_key_file is missing: set the file with the key of the node wallet")
	}
	key, err := cfg.keys.walletKey(useWalletKey, cfg.Runtime.WalletKeyFile)
	if err != nil {
		return nil, fmt.Errorf("configuration: runtime.wallet_key_file: %w", err)
	}
	return wallet.Open(wallet.Config{
		Chain: c.client, Key: key, Dir: filepath.Join(cfg.Runtime.Dir, "wallet"), Logger: log,
		Contract: wallet.Contract{Kind: wallet.Node, Owner: owner, Code: contracts.Wallet()},
	})
}

// settling is what proxy, client and worker settle with. Delays are reckoned by
// the chain's time, since that is what contracts go by.
func (c *chain) settling(cfg *Config, w *wallet.Wallet, log *slog.Logger) settle.Config {
	return settle.Config{Chain: c.client, Wallet: w, Every: cfg.Runtime.every(), Now: c.now, Log: log}
}
