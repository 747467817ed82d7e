package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/chain/access"
)

// tonConfigVariable names the file for all commands that read the chain.
const tonConfigVariable = "COCOON_TON_CONFIG"

const devnetNotice = "SIMULATED: a development chain; its coins are worthless"

// chainFlags are the flags of a command that reads the chain.
type chainFlags struct{ config string }

func (a *app) chainFlags(cmd *cobra.Command, f *chainFlags) {
	cmd.Flags().StringVar(&f.config, "ton-config", a.getenv(tonConfigVariable), "TON's global configuration (JSON) of the chain; for reading and sending, that of the network in --dir is the default")
}

// devnetConfig is the global configuration of a chain in --dir.
func (a *app) devnetConfig() string { return filepath.Join(a.dir, "devnet", "global.config.json") }

// openChain connects to the chain and proves its newest block.
func (a *app) openChain(ctx context.Context, f *chainFlags) (*access.Client, error) {
	if f.config == "" {
		// A network on this machine has its own chain.
		f.config = a.devnetConfig()
		if _, err := os.Stat(f.config); err != nil {
			return nil, usageError{errors.New("which chain? Name TON's global configuration with --ton-config (or " + tonConfigVariable + ")")}
		}
		a.progress(devnetNotice)
	}
	b, err := os.ReadFile(f.config)
	if err != nil {
		return nil, fmt.Errorf("TON configuration: %w", err)
	}
	dir := filepath.Join(a.dir, "chain")
	key, err := access.LocalKey(dir)
	if err != nil {
		return nil, err
	}
	c, err := access.Open(ctx, access.Config{GlobalConfig: b, Dir: dir, CheckpointKey: key})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.config, err)
	}
	return c, nil
}

// group makes a command that only holds others: alone it shows them, and a
// word that is none of them is a mistake.
func (a *app) group(cmd *cobra.Command) {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{fmt.Errorf("unknown command %q", args[0])}
		}
		return cmd.Help()
	}
}
