package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/node"
)

// verifyLimit bounds one verification.
const verifyLimit = time.Minute

func (a *app) verifyCommand() *cobra.Command {
	var policy, config string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "verify TARGET",
		Short: "What can be checked of a peer, check by check",
		Long: `Verifies a peer and says what was checked, against what, and with which result.

TARGET is proxy (the first one the root contract lists), worker:ID (a worker of
the network on this machine, by the name in "cocoon status", its address or the
beginning of its node key), an address such as 192.0.2.1:11002, or a file with a
certificate, a TDX quote or an SEV-SNP report.

The exit status is 1 if an enforced check fails.`,
		Example: "  cocoon verify proxy\n  cocoon verify worker:worker-1 --json\n  cocoon verify proxy --policy tdx\n  cocoon verify peer.pem --policy tdx",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name one target: proxy, worker:ID, an address or a file")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, state, err := a.verifyNetwork(config)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), verifyLimit)
			defer cancel()
			card, err := node.Verify(ctx, node.VerifyConfig{Target: args[0], Policy: policy, Config: c, State: state, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				return err
			}
			if a.json {
				err = a.printJSON(card)
			} else {
				err = printCard(a.env.Stdout, card)
			}
			if f := card.Failed(); err == nil && f != nil {
				err = fmt.Errorf("%s is refused: %s: %s; %s", args[0], f.Name, f.Detail, f.Fix)
			}
			return err
		},
	})
	cmd.Flags().StringVar(&policy, "policy", "network", "what the evidence must meet: network (its own rules), devnet (simulated evidence counts) or tdx")
	cmd.Flags().StringVar(&config, "config", "", "a client's configuration file: the network the peer belongs to")
	return cmd
}

// verifyNetwork returns the client's configuration of the network that is
// meant: a file's, that of the network in --dir, or none.
func (a *app) verifyNetwork(config string) (*node.Config, *node.State, error) {
	if config != "" {
		c, err := node.Load("client", config, a.env.Environ)
		return c, nil, err
	}
	state, err := node.ReadState(a.dir)
	if errors.Is(err, node.ErrNotRunning) {
		c := node.Default("client")
		c.Runtime.Dir = filepath.Join(a.dir, "verify")
		return &c, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := node.Load("client", filepath.Join(a.dir, "client.toml"), nil)
	return c, state, err
}

func printCard(out io.Writer, card *node.Scorecard) error {
	how := fmt.Sprintf(", level %d, policy %s", card.Level, card.Policy)
	if card.Policy == "audit" || card.Policy == "offline" { // no connection, no --policy
		how = ""
	}
	if card.Policy == "audit" {
		how = ": the log of " + card.Target
	}
	if card.Simulated {
		how += "  SIMULATED: no hardware protects this network"
	}
	fmt.Fprintf(out, "verdict  %s%s\n\n", card.Verdict, how)
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "RESULT\tENFORCED\tCHECK\tAGAINST\tDETAIL")
	passed, failed, skipped := 0, 0, 0
	for _, f := range card.Factors {
		enforced := "no"
		if f.Enforced {
			enforced = "yes"
		}
		switch f.Result {
		case attest.Pass:
			passed++
		case attest.Fail:
			failed++
		default:
			skipped++
		}
		detail := f.Detail
		if f.Fix != "" {
			detail += "; fix: " + f.Fix
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Result, enforced, f.Name, f.Against, detail)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d passed, %d failed, %d not checked\n", passed, failed, skipped)
	return err
}
