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
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
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
		Use: "list", Short: "The newest receipts this network's client keeps", Example: "  cocoon receipt list\n  cocoon receipt list --json | jq -r '.[].request_id'",
		Long: `Lists up to 1,000 receipts, newest first. RECEIVED is this machine's clock, in
UTC; TOKENS are adjusted tokens, as they are charged; EPOCH is the one the proxy
promised to have the receipt in. The other commands take the beginning of a REQUEST,
8 digits or more.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := a.receipts(cmd.Context(), "")
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(all)
			}
			if len(all) == 0 {
				fmt.Fprintln(a.env.Stdout, "no receipt yet: each charged request leaves one")
				return nil
			}
			if all[0].Simulated {
				fmt.Fprintln(a.env.Stdout, "SIMULATED network: no hardware stands behind these receipts")
			}
			w := tabwriter.NewWriter(a.env.Stdout, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "REQUEST\tRECEIVED\tMODEL\tSEALED\tEND\tTOKENS\tCOST\tPROXY CONTRACT\tEPOCH")
			for _, k := range all {
				p, err := proxyPart(k)
				if err != nil {
					return err
				}
				model, end := "(no part of the worker)", "-"
				if wp := workerPart(k); wp != nil {
					model, end = wp.Model.Base(), wp.End.String()
				}
				sealed := "no"
				if k.Sealed {
					sealed = "yes"
				}
				cost := pricing.Amount(p.Tokens(), coins.Nano(p.Price.PerToken))
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%d\n", short(k.RequestID.String()), k.Received.Format(time.DateTime), short40(model), sealed, end, p.Tokens(), cost, p.Contract, p.Epoch)
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

// workerPart is what the worker says of a receipt; nil where it gave no part.
func workerPart(k audit.Kept) *receipt.WorkerPart {
	s, err := receipt.ParseSigned(k.Worker)
	if err != nil {
		return nil
	}
	p, err := receipt.ParseWorker(s.Part)
	if err != nil {
		return nil
	}
	return p
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
	var most int
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "audit [PROXY]",
		Short: "Hold a proxy's log of receipts against the chain",
		Long: `Reads a proxy's log and holds it against the chain: every head that was anchored,
proven by transactions; that each epoch continues the one before, and came when it
was promised; that clients were charged what workers were credited, and not more
was settled on chain; that every set of workers was signed by the proxy, none has
the version of another, and all leaves together give the anchored root.

PROXY is the name of a proxy of the network in --dir ("proxy" is the first one,
and what is meant without a name), or the address, contract or contract key of any
proxy that the client in --dir is connected to, which is then asked through that
client, or a proxy's own status address.

What disagrees is printed with --json beside its proofs: the anchor's state, proven
from the zero state, and the pages of the log that show it. The exit status is 1 if
anything disagrees.`,
		Example: "  cocoon audit\n  cocoon audit proxy-2\n  cocoon audit 192.0.2.1:11001 --most 1000000\n  cocoon audit http://127.0.0.1:11000 --config client.toml --json",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{errors.New("name one proxy")}
			}
			if most < 1 {
				return usageError{errors.New("--most is a number of at least 1")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, state, err := a.verifyNetwork(config)
			if err != nil {
				return err
			}
			log, target, err := node.AuditTarget(cmd.Context(), state, strings.Join(args, ""))
			if err != nil {
				return usageError{err}
			}
			cfg := node.AuditConfig{Config: c, Log: log, Target: target, Most: most, Progress: a.reading(), Logger: slog.New(slog.DiscardHandler)}
			if state != nil {
				cfg.Own = node.OwnLogs(cmd.Context(), state)
			}
			card, err := node.Audit(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return a.printReceipt(card)
		},
	})
	cmd.Flags().StringVar(&config, "config", "", "a client's configuration file, for a network that does not run here")
	cmd.Flags().IntVar(&most, "most", node.DefaultMost, "how many transactions of an account, epochs and leaves are read at most; what is beyond is shown as not checked")
	return cmd
}

// readingEvery is how often people hear how far something is.
const readingEvery = 2 * time.Second

// reading tells people, on the error stream, how far a long reading is.
func (a *app) reading() func(what string, done, of int) {
	last := time.Now()
	return func(what string, done, of int) {
		if time.Since(last) < readingEvery {
			return
		}
		last = time.Now()
		if of > 0 {
			fmt.Fprintf(a.env.Stderr, "cocoon: reading %s: %d of %d\n", what, done, of)
		} else {
			fmt.Fprintf(a.env.Stderr, "cocoon: reading %s: %d\n", what, done)
		}
	}
}
