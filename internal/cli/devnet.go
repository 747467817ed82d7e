//go:build !tee

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/toncenter"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/node"
)

// devnetFlags are the flags of `cocoon devnet`.
type devnetFlags struct {
	cfg   devnet.Config
	http  string
	front string
	fund  []string
	debug bool
}

// devnetDir is where the folder of a network keeps a chain of its own.
func (a *app) devnetDir() string { return filepath.Join(a.dir, "devnet") }

func (a *app) devnetCommand() *cobra.Command {
	f := devnetFlags{}
	cmd := &cobra.Command{
		Use:   "devnet",
		Short: "Run a TON chain on this machine, for development",
		Long: `Run a TON chain on this machine: real blocks, contracts, proofs and the
liteserver protocol, made by one process. It is SIMULATED: its coins are
worthless, and whoever runs it could write anything into it.

When it answers, lines are printed: "ready HOST:PORT" (the liteserver), "config"
(the global configuration, for any TON software), "faucet" (the address all
coins come from), "http" if asked for. The same --dir resumes the same chain.`,
		Example: `  cocoon devnet --http 127.0.0.1:8081
  cocoon devnet --tick 200ms --fund EQ...=100
  cocoon devnet faucet EQ... 25`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runDevnet(cmd.Context(), f) },
	}
	cmd.Flags().StringVar(&f.cfg.Listen, "listen", "127.0.0.1:0", "the liteserver's address")
	cmd.Flags().StringVar(&f.http, "http", "", "address of an HTTP gateway in the toncenter v2 form; none if empty")
	cmd.Flags().StringVar(&f.front, "http-for", "", "run only the gateway, for the network of this global configuration (JSON)")
	cmd.Flags().DurationVar(&f.cfg.Tick, "tick", 0, "time between blocks while there is work, from 20ms; 0 makes one as soon as a message arrives")
	cmd.Flags().DurationVar(&f.cfg.Idle, "idle", time.Second, "time between blocks when there is none")
	cmd.Flags().IntVar(&f.cfg.KeepBlocks, "keep-blocks", 100_000, "masterchain blocks to keep at least")
	cmd.Flags().DurationVar(&f.cfg.KeepFor, "keep-for", 24*time.Hour, "age of blocks to keep at least")
	cmd.Flags().Int32Var(&f.cfg.GlobalID, "global-id", devnet.DefaultGlobalID, "the network's global id, when the chain is made")
	cmd.Flags().StringArrayVar(&f.fund, "fund", nil, "ADDRESS=AMOUNT to pay from the faucet at the start; can be given often")
	cmd.Flags().BoolVar(&f.debug, "debug", false, "log more")
	cmd.AddCommand(a.devnetFaucetCommand(), a.devnetVendorCommand())
	return cmd
}

// payment is one ADDRESS=AMOUNT.
type payment struct {
	to     cocoon.Address
	amount coins.Nano
}

func parsePayment(to, amount string) (payment, error) {
	addr, err := cocoon.ParseAddress(to)
	if err != nil {
		return payment{}, usageError{err}
	}
	n, err := coins.Parse(amount)
	if err != nil {
		return payment{}, usageError{err}
	}
	return payment{addr, n}, nil
}

func (a *app) runDevnet(ctx context.Context, f devnetFlags) error {
	level := slog.LevelWarn
	if f.debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(a.env.Stderr, &slog.HandlerOptions{Level: level}))
	if f.front != "" {
		return a.runGateway(ctx, f, log)
	}
	var fund []payment
	for _, s := range f.fund {
		to, amount, ok := strings.Cut(s, "=")
		if !ok {
			return usageError{fmt.Errorf("--fund is ADDRESS=AMOUNT, not %q", s)}
		}
		p, err := parsePayment(to, amount)
		if err != nil {
			return err
		}
		fund = append(fund, p)
	}
	ls, err := node.InheritListeners(a.getenv)
	if err != nil {
		return err
	}
	if f.cfg.Listener, err = ls.Inherited(node.ChainSocket); err != nil {
		return err
	}
	f.cfg.Dir, f.cfg.Logger = a.devnetDir(), log
	chain, err := devnet.Open(f.cfg)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return chain.Run(ctx) })
	g.Go(func() error {
		for _, p := range fund {
			if err := chain.Faucet(ctx, p.to, p.amount); err != nil {
				return err
			}
		}
		a.progress("%s (global id %d, block %d)", devnetNotice, chain.GlobalID(), chain.Head().Seqno)
		fmt.Fprintf(a.env.Stdout, "ready %s\nconfig %s\nfaucet %s\n", chain.Addr(), chain.GlobalConfigPath(), chain.FaucetAddress())
		if f.http == "" {
			return nil
		}
		return a.serveGateway(ctx, f.http, chain.GlobalConfig(), devnetNotice, log)
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// runGateway runs the HTTP gateway before a network that runs elsewhere.
func (a *app) runGateway(ctx context.Context, f devnetFlags, log *slog.Logger) error {
	if f.http == "" {
		return usageError{errors.New("--http-for needs --http, the gateway's own address")}
	}
	config, err := os.ReadFile(f.front)
	if err != nil {
		return fmt.Errorf("global configuration: %w", err)
	}
	err = a.serveGateway(ctx, f.http, config, "", log)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// serveGateway serves the toncenter form of a chain until ctx ends.
func (a *app) serveGateway(ctx context.Context, addr string, config []byte, notice string, log *slog.Logger) error {
	client, err := toncenter.Dial(ctx, config)
	if err != nil {
		return err
	}
	defer client.Close()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	srv := &http.Server{
		Handler:           toncenter.New(toncenter.Config{Chain: client, Notice: notice, Logger: log}),
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	fmt.Fprintf(a.env.Stdout, "http http://%s/api/v2/\n", ln.Addr())
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

func (a *app) devnetFaucetCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:     "faucet ADDRESS AMOUNT",
		Short:   "Pay worthless coins of the running development chain to an address",
		Example: "  cocoon devnet faucet UQ... 25",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usageError{errors.New("an address and an amount are needed, as in `cocoon devnet faucet EQ... 25`")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := parsePayment(args[0], args[1])
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), wait)
			defer cancel()
			return a.payFromFaucet(ctx, p)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long to wait for the payment to be in a block")
	return cmd
}

// payFromFaucet sends a payment as any client would, and waits until the
// account is proven to have it.
func (a *app) payFromFaucet(ctx context.Context, p payment) error {
	dir := a.devnetDir()
	faucet, err := devnet.OpenFaucet(dir)
	if err != nil {
		return fmt.Errorf("%w; start one with `cocoon devnet`, or name its folder with --dir", err)
	}
	config, err := os.ReadFile(devnet.GlobalConfigPath(dir))
	if err != nil {
		return err
	}
	client, err := access.Open(ctx, access.Config{GlobalConfig: config})
	if err != nil {
		return fmt.Errorf("the chain of %s does not answer; is `cocoon devnet` running? %w", dir, err)
	}
	defer client.Close()
	from, err := client.Account(ctx, faucet.Address())
	if err != nil {
		return err
	}
	boc, err := faucet.Transfer(from.Data, p.to, p.amount, from.Block.Time.Add(10*time.Minute))
	if err != nil {
		return err
	}
	if err := client.Send(ctx, boc); err != nil {
		return err
	}
	for b := from.Block; ; {
		if b, err = client.Next(ctx, b.Seqno); err != nil {
			return err
		}
		now, err := client.AccountAt(ctx, b, faucet.Address())
		if err != nil {
			return err
		}
		if now.LastTxLT == from.LastTxLT {
			continue
		}
		txs, err := client.Transactions(ctx, now, from.LastTxLT)
		if err != nil {
			return err
		}
		for _, tx := range txs {
			for _, out := range tx.Out {
				if out.Dest == p.to && out.Value == p.amount {
					a.progress("%s", devnetNotice)
					fmt.Fprintf(a.env.Stdout, "paid %s to %s in block %d\n", p.amount, p.to, b.Seqno)
					return nil
				}
			}
		}
		return errors.New("the faucet has not enough coins left")
	}
}
