package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/node"
	"github.com/cocoon-network/cocoon/receipt"
)

func (a *app) receiptCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "receipt",
		Short:   "Signed receipts of requests: list, show, export, verify",
		Example: "  cocoon receipt list\n  cocoon receipt export ID > receipt.json\n  cocoon receipt verify receipt.json",
	}
	one := func(what string) cobra.PositionalArgs {
		return func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("name one " + what)}
			}
			return nil
		}
	}
	list := a.jsonFlag(&cobra.Command{
		Use: "list", Short: "The newest receipts this network's client keeps", Example: "  cocoon receipt list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.receipts(cmd.Context(), "")
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all)
			}
			w := tabwriter.NewWriter(a.env.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "REQUEST\tRECEIVED\tSEALED\tTOKENS\tCOUNTER\tEPOCH")
			for _, k := range all {
				p, err := proxyPart(k)
				if err != nil {
					return err
				}
				note := ""
				if k.Simulated {
					note = "  SIMULATED"
				}
				fmt.Fprintf(w, "%s\t%s\t%t\t%d\t%d\t%d%s\n", k.RequestID, k.Received.Format(time.DateTime), k.Sealed, p.Tokens(), p.After, p.Epoch, note)
			}
			return w.Flush()
		},
	})
	show := a.jsonFlag(&cobra.Command{
		Use: "show ID", Short: "One receipt and what can be checked of it here", Example: "  cocoon receipt show 1f6a3c2b", Args: one("receipt by its id, or the first 8 digits of it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			k, err := a.receipts(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.printReceipt(node.ShowReceipt(k[0]))
		},
	})
	export := &cobra.Command{
		Use: "export ID", Short: "A receipt with its place in the proxy's log, as a file for others", Example: "  cocoon receipt export 1f6a3c2b > receipt.json", Args: one("receipt by its id, or the first 8 digits of it"),
		Long: `Writes a file by which anybody can judge the receipt without any network: the
signed parts, the statements with their quotes, what the vendors said of the
machines at that time, the root contract's data and the anchor's state, proven
from the network's zero state and init block, and the receipt's place in the
anchored log. Neither request nor answer is in it, nor the salts that open their
commitments (those show GET /v1/receipts/ID). The anchor must be on chain.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			state, err := node.ReadState(a.dir)
			if err != nil {
				return err
			}
			b, err := node.ExportReceipt(cmd.Context(), state, args[0])
			if err != nil {
				return err
			}
			_, err = a.env.Stdout.Write(b)
			return err
		},
	}
	var config string
	verify := a.jsonFlag(&cobra.Command{
		Use: "verify FILE", Short: "Check an exported receipt; needs no network", Example: "  cocoon receipt verify receipt.json\n  cocoon receipt verify receipt.json --config client.toml", Args: one("file"),
		Long: `Judges everything in an exported receipt, offline: signatures and that the parts
belong together; the chain of blocks; image, model and contract by the root
contract's proven data; the quotes by the vendors' statements of that time; the
place in the anchored log.

Which chain and which evidence to believe says your client's configuration: that
of --config, or of the network in --dir. Without one, the file's own zero state
and init block are shown for you to compare. Exit 1 if a check fails.`,
		RunE: func(_ *cobra.Command, args []string) error {
			c, _, err := a.verifyNetwork(config)
			if err != nil {
				return err
			}
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			b, err := io.ReadAll(io.LimitReader(file, node.MaxReceiptFile+1))
			if err != nil {
				return err
			}
			if len(b) > node.MaxReceiptFile {
				return fmt.Errorf("%s is larger than a receipt can be", args[0])
			}
			card, err := node.VerifyReceipt(b, c)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return a.printReceipt(card)
		},
	})
	verify.Flags().StringVar(&config, "config", "", "a client's configuration file: the network you believe")
	cmd.AddCommand(list, show, export, verify)
	return cmd
}

func (a *app) receipts(ctx context.Context, id string) ([]audit.Kept, error) {
	state, err := node.ReadState(a.dir)
	if err != nil {
		return nil, err
	}
	return node.Receipts(ctx, state, id)
}

func proxyPart(k audit.Kept) (*receipt.ProxyPart, error) {
	s, err := receipt.ParseSigned(k.Proxy)
	if err != nil {
		return nil, err
	}
	return receipt.ParseProxy(s.Part)
}

// printReceipt prints what was checked; a failed check is the error.
func (a *app) printReceipt(card *node.Scorecard) error {
	var err error
	if a.json {
		err = a.printJSON(card)
	} else {
		err = printCard(a.env.Stdout, card)
	}
	if f := card.Failed(); err == nil && f != nil {
		err = fmt.Errorf("%s: %s", f.Name, f.Detail)
	}
	return err
}

func (a *app) auditCommand() *cobra.Command {
	var config string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "audit [PROXY]",
		Short: "Hold a proxy's log of receipts against the chain",
		Long: `Follows a proxy's log: the head that is anchored on chain, proven; that every
epoch continues the one before; that clients were charged what workers were
credited; that promises were kept; that no set of workers has two versions.

PROXY is the name of a proxy of the network in --dir ("proxy" is the first one,
and what is meant without a name), or the status address of any other.

The exit status is 1 if anything disagrees.`,
		Example: "  cocoon audit\n  cocoon audit proxy\n  cocoon audit http://127.0.0.1:11000 --config client.toml --json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, state, err := a.verifyNetwork(config)
			if err != nil {
				return err
			}
			proxy := "proxy"
			if len(args) == 1 {
				proxy = args[0]
			}
			if !strings.Contains(proxy, "://") {
				if state == nil {
					return usageError{errors.New("name the proxy's status address, http://host:port, or a running network with --dir")}
				}
				if proxy, err = node.ProxyStatus(state, proxy); err != nil {
					return err
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), verifyLimit)
			defer cancel()
			card, err := node.Audit(ctx, c, proxy, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			return a.printReceipt(card)
		},
	})
	cmd.Flags().StringVar(&config, "config", "", "a client's configuration file, for a network that does not run here")
	return cmd
}
