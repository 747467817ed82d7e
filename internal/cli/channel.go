package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/settle"
	"github.com/cocoon-network/cocoon/internal/node"
)

// channelFlags say which processes are meant, and whether to act.
type channelFlags struct {
	config   string
	of       string
	contract string
	yes      bool
	force    bool
	wait     time.Duration
}

// owned is a running role whose owner gives the orders.
type owned struct {
	name, role, dir, status string
	simulated               bool
}

func (a *app) channelCommand() *cobra.Command {
	f := &channelFlags{}
	cmd := &cobra.Command{
		Use:   "channel",
		Short: "Payment channels: show, top up, withdraw, settle, close",
		Long: `The money between client, proxy and workers: contracts on TON that count what
was charged and paid. Orders go to the running process, whose wallet sends them.

The processes are those of the network in --dir, or the one of --config. Amounts
are coins, as 1.5, or 1500000000nano.`,
		Example: "  cocoon channel show\n  cocoon channel settle --yes\n  cocoon channel top-up 5 --config client.toml",
	}
	a.group(cmd)
	cmd.PersistentFlags().StringVar(&f.config, "config", "", "configuration file of the role; without it, the network in --dir")
	cmd.PersistentFlags().StringVar(&f.of, "of", "", "which process of the network in --dir: client, proxy, worker-1")
	cmd.AddCommand(
		a.jsonFlag(&cobra.Command{
			Use:     "show",
			Short:   "Show wallets and contracts, with what is due",
			Example: "  cocoon channel show --json",
			Args:    noArgs,
			RunE:    func(cmd *cobra.Command, _ []string) error { return a.channelShow(cmd.Context(), f) },
		}),
		a.orderCommand(f, settle.OrderSettle, "settle", "Bring everything that is due onto the chain", `Charge clients, pay workers and withdraw earnings now, instead of when it is
worth the fees. It returns when the chain has proven all of it.`, "  cocoon channel settle --yes"),
		a.orderCommand(f, settle.OrderTopUp, "top-up AMOUNT", "Deposit into a client's contract", `Deposit coins of the node wallet into a client's contract. The configured budget
bounds what a client deposits by itself, not this.`, "  cocoon channel top-up 5 --yes"),
		a.orderCommand(f, settle.OrderWithdraw, "withdraw", "Take out what is above a client's stake, or a proxy's earnings", `A client gets what is above the stake back into its node wallet; the rest comes
with close. A proxy's earnings go to its owner.`, "  cocoon channel withdraw --yes\n  cocoon channel withdraw --of proxy --yes"),
		a.orderCommand(f, settle.OrderStake, "stake AMOUNT", "Raise a client's stake to, or a proxy's by, an amount", `A client may use as much as its stake before it is charged on chain. A proxy's
stake is what clients can take when the proxy is silent.`, "  cocoon channel stake 2 --yes\n  cocoon channel stake 10 --of proxy --yes"),
		a.orderCommand(f, settle.OrderClose, "close", "Close a client's or a proxy's contract and get all money out", `A client's contract begins to close: what is above the stake comes back at once,
the rest when the proxy grants it. A proxy that is gone is not waited for longer
than the contract's delay: then the refund is forced, from the proxy's stake. The
command follows this for --wait; the client goes on without it, and the command can
be given again at any time. What the stake does not cover is given up with --force
alone.

A proxy's contract refunds its clients, pays its workers and, after the delay,
gives earnings and stake to its owner.`, "  cocoon channel close --yes\n  cocoon channel close --config client.toml --wait 13h --yes\n  cocoon channel close --of proxy --yes"),
	)
	return cmd
}

func (a *app) orderCommand(f *channelFlags, verb settle.Verb, use, short, long, example string) *cobra.Command {
	takesAmount := strings.Contains(use, "AMOUNT")
	cmd := a.jsonFlag(&cobra.Command{
		Use: use, Short: short, Example: example,
		Long: long + "\n\nWhat would be sent is shown first; nothing is sent without --yes, or a yes at a\nterminal.",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case takesAmount && len(args) != 1:
				return usageError{fmt.Errorf("one amount is needed, as in `cocoon channel %s 5`", verb)}
			case !takesAmount:
				return noArgs(nil, args)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o := node.ChannelOrder{Verb: verb, Force: f.force}
			var err error
			if takesAmount {
				if o.Amount, err = coins.Parse(args[0]); err != nil {
					return usageError{err}
				}
			}
			if f.contract != "" {
				if o.Contract, err = cocoon.ParseAddress(f.contract); err != nil {
					return usageError{fmt.Errorf("--contract: %w", err)}
				}
				if o.Contract.IsZero() { // which would mean any
					return usageError{errors.New("--contract: the zero address is nobody's contract")}
				}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
			defer cancel()
			return a.channelOrder(ctx, f, o)
		},
	})
	cmd.Flags().BoolVar(&f.yes, "yes", false, "do it; without it only show what would be sent")
	cmd.Flags().DurationVar(&f.wait, "wait", 10*time.Minute, "how long to wait for the chain")
	if verb != settle.OrderSettle {
		cmd.Flags().StringVar(&f.contract, "contract", "", "address of the contract, where there are several")
	}
	if verb == settle.OrderClose {
		cmd.Flags().BoolVar(&f.force, "force", false, "take what a silent proxy's stake covers, and lose the rest")
	}
	return cmd
}

// owned returns the processes that are meant. all says that without --of every
// one of a network is; otherwise its client.
func (a *app) owned(f *channelFlags, all bool) ([]owned, error) {
	if f.config != "" {
		if f.of != "" {
			return nil, usageError{errors.New("--config and --of: a configuration is of one process")}
		}
		c, err := node.LoadAny(f.config, a.env.Environ)
		if err != nil {
			return nil, err
		}
		if c.Runtime.Status == "" {
			return nil, fmt.Errorf("configuration %s: runtime.status is empty: set it to an address such as 127.0.0.1:10001, by which the running process takes orders", f.config)
		}
		return []owned{{c.Role, c.Role, c.Runtime.Dir, "http://" + c.Runtime.Status, c.Measured.Accepts(attest.Simulated)}}, nil
	}
	s, err := node.ReadState(a.dir)
	if err != nil {
		return nil, err
	}
	want := f.of
	if want == "" && !all {
		want = "client"
	}
	var out []owned
	var names []string
	for _, c := range s.Children {
		if c.Status == "" {
			continue
		}
		names = append(names, c.Name)
		if want == "" || c.Name == want {
			out = append(out, owned{c.Name, c.Role, filepath.Join(a.dir, c.Name), c.Status, s.Simulated})
		}
	}
	if len(out) == 0 {
		return nil, usageError{fmt.Errorf("--of %s: there are %s", want, strings.Join(names, ", "))}
	}
	// What a proxy settles is settled for the others too.
	order := map[string]int{"proxy": 0, "worker": 1, "client": 2}
	slices.SortStableFunc(out, func(x, y owned) int { return order[x.role] - order[y.role] })
	return out, nil
}

// shownChannels is what `channel show` prints as JSON.
type shownChannels struct {
	Processes []shownProcess `json:"processes"`
}

type shownProcess struct {
	Name string `json:"name"`
	Role string `json:"role"`
	*node.ChannelReport
}

func (a *app) channelShow(ctx context.Context, f *channelFlags) error {
	roles, err := a.owned(f, true)
	if err != nil {
		return err
	}
	var all shownChannels
	for _, o := range roles {
		r, err := node.ReadChannels(ctx, o.dir, o.status)
		if err != nil {
			return fmt.Errorf("%s: %w", o.name, err)
		}
		all.Processes = append(all.Processes, shownProcess{o.name, o.role, r})
	}
	if a.json {
		return a.printJSON(all)
	}
	if roles[0].simulated {
		fmt.Fprintln(a.env.Stdout, "SIMULATED network: these coins are worth nothing")
	}
	for i, p := range all.Processes {
		if i > 0 {
			fmt.Fprintln(a.env.Stdout)
		}
		fmt.Fprintf(a.env.Stdout, "%s: node wallet %s holds %s\n", p.Name, p.Wallet, p.Balance)
		if err := printChannels(a.env.Stdout, p.Channels); err != nil {
			return err
		}
	}
	return nil
}

func printChannels(out io.Writer, list []settle.Channel) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, c := range list {
		state := c.State
		if c.UnlockAt != nil {
			state += " until " + c.UnlockAt.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "  contract\t%s\n  state\t%s, parameters %d\n", c.Contract, state, c.ParamsVersion)
		switch c.Kind {
		case "client":
			fmt.Fprintf(w, "  proxy\t%s\n  balance\t%s", c.Proxy, c.Balance)
			if c.Balance > 0 {
				fmt.Fprintf(w, ", of which %s are the stake\n  returns\t%s even if the proxy is gone", min(c.Stake, c.Balance), c.Recoverable)
			}
			fmt.Fprintf(w, "\n  charged\t%s on chain, %s not yet\n", c.Settled, c.Due)
		case "worker":
			fmt.Fprintf(w, "  proxy\t%s\n  earned\t%s paid, %s not yet\n", c.Proxy, c.Settled, c.Due)
		case "proxy":
			fmt.Fprintf(w, "  pool\t%s, of which %s are earnings and %s stake\n", c.Balance, c.Earnings, c.Stake)
			fmt.Fprintf(w, "  clients\t%s to be charged\n  workers\t%s paid, %s not yet\n", c.Due, c.Settled, c.Payable)
		}
	}
	return w.Flush()
}

// shownOrder is an order as it is printed: what it does, or did.
type shownOrder struct {
	Name string      `json:"name"`
	Role string      `json:"role"`
	Verb settle.Verb `json:"verb"`
	*node.ChannelAnswer
}

func (a *app) channelOrder(ctx context.Context, f *channelFlags, o node.ChannelOrder) error {
	roles, err := a.owned(f, o.Verb == settle.OrderSettle)
	if err != nil {
		return err
	}
	var orders []shownOrder
	work, acts := false, false
	for _, r := range roles {
		answer, err := node.OrderChannel(ctx, r.dir, r.status, o)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		acts = acts || len(answer.Actions) > 0 || o.Verb == settle.OrderSettle
		work = work || len(answer.Actions)+len(answer.Notes) > 0
		orders = append(orders, shownOrder{r.name, r.role, o.Verb, answer})
	}
	if !a.json {
		if work && roles[0].simulated {
			fmt.Fprintln(a.env.Stdout, "SIMULATED network: these coins are worth nothing")
		}
		for _, x := range orders {
			x.print(a.env.Stdout)
		}
	}
	if !work {
		if a.json {
			return a.printJSON(map[string]any{"orders": orders})
		}
		fmt.Fprintln(a.env.Stdout, "nothing to settle: the chain has everything")
		return nil
	}
	if acts {
		if err := a.confirm(ctx, f.yes); err != nil {
			if a.json {
				err = errors.Join(err, a.printJSON(map[string]any{"orders": orders}))
			}
			return err
		}
		o.Execute = true
		for i, r := range roles {
			if orders[i].ChannelAnswer, err = node.OrderChannel(ctx, r.dir, r.status, o); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
		if !a.json {
			fmt.Fprintln(a.env.Stdout, "done, proven on chain")
		}
	}
	if o.Verb == settle.OrderClose && roles[0].role == "client" {
		again, err := a.followClose(ctx, o.Contract, roles[0], orders[0].ChannelAnswer)
		if err != nil {
			return err
		}
		if again {
			return a.channelOrder(ctx, f, node.ChannelOrder{Verb: o.Verb, Contract: o.Contract, Force: o.Force})
		}
	}
	if a.json {
		return a.printJSON(map[string]any{"orders": orders})
	}
	for _, x := range orders {
		fmt.Fprintf(a.env.Stdout, "%s has now:\n", x.Name)
		if err := printChannels(a.env.Stdout, x.After); err != nil {
			return err
		}
	}
	return nil
}

const (
	// grantTime is how long a close waits for a proxy that may be there.
	grantTime = 20 * time.Second
	// forceTime is how long a client may take to force a refund by itself.
	forceTime = 15 * time.Second
)

// followClose waits until a client's closing contract is closed, as long as
// that can be waited for, and puts how things stand then into x. again says
// that the owner has to take the next step.
func (a *app) followClose(ctx context.Context, contract cocoon.Address, r owned, x *node.ChannelAnswer) (again bool, err error) {
	begin, told, due := time.Now(), false, time.Time{}
	deadline, _ := ctx.Deadline()
	for {
		report, err := node.ReadChannels(ctx, r.dir, r.status)
		if err != nil {
			if ctx.Err() != nil {
				return false, nil // what was asked for is done
			}
			return false, fmt.Errorf("%s: %w", r.name, err)
		}
		x.After = report.Channels
		i := slices.IndexFunc(x.After, func(c settle.Channel) bool {
			mine := len(x.Actions) == 0 || slices.ContainsFunc(x.Actions, func(act node.ChannelAction) bool { return act.Contract == c.Contract })
			return mine && c.UnlockAt != nil && (contract.IsZero() || c.Contract == contract)
		})
		if i < 0 {
			return false, nil // closed
		}
		c := x.After[i]
		left := c.UnlockAt.Sub(report.Time)
		beyond := time.Now().Add(left).After(deadline)
		switch {
		case left < 0 && due.IsZero():
			due = time.Now()
			a.progress("the delay has passed: the refund of %s can be forced", c.Balance)
		case left < 0 && (c.Recoverable < c.Balance || time.Since(due) > forceTime):
			return true, nil // the client does not do it by itself
		case left >= 0 && !told && time.Since(begin) > time.Second:
			told = true
			a.progress("waiting for the proxy to grant the refund of %s; from %s on, in %s, it can be forced", c.Balance, c.UnlockAt.Format(time.RFC3339), left+time.Second)
		}
		select {
		case <-ctx.Done():
			beyond = true
		case <-time.After(200 * time.Millisecond):
			beyond = beyond && time.Since(begin) > grantTime
		}
		if beyond {
			a.progress("not waiting any longer: the client goes on by itself while it runs, and `cocoon channel close` says how it stands")
			return false, nil
		}
	}
}

// print shows a plan to a person.
func (x *shownOrder) print(out io.Writer) {
	if len(x.Actions)+len(x.Notes) == 0 {
		return
	}
	fmt.Fprintf(out, "%s: from node wallet %s, which holds %s\n", x.Name, x.Wallet, x.Balance)
	for _, act := range x.Actions {
		fmt.Fprintf(out, "  %s", act.Kind)
		if act.Amount > 0 {
			fmt.Fprintf(out, " of %s", act.Amount)
		}
		fmt.Fprintf(out, " at %s\n", act.Contract)
	}
	if len(x.Actions) > 0 {
		fmt.Fprintf(out, "  carried   %s; what the contracts do not use of the gas comes back\n", x.Carried)
		fmt.Fprintf(out, "  fee       about %s for sending\n", x.Fee)
	}
	for _, n := range x.Notes {
		fmt.Fprintf(out, "  note      %s\n", n)
	}
}

// maxAnswer bounds a line typed at a question.
const maxAnswer = 1 << 10

// confirm returns nil if the owner wants it: by --yes or at a terminal.
func (a *app) confirm(ctx context.Context, yes bool) error {
	if yes {
		return nil
	}
	if a.json || !terminal(asWriter(a.env.Stdin)) || !terminal(a.env.Stderr) {
		return usageError{errors.New("nothing was sent: repeat the command with --yes to send")}
	}
	fmt.Fprint(a.env.Stderr, "Send it? [y/N] ")
	line, err := newLineReader(a.env.Stdin, maxAnswer).next(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer == "y" || answer == "yes" {
		return nil
	}
	a.progress("nothing was sent")
	return quietError{errors.New("not confirmed")}
}
