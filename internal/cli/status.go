package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/node"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/role/worker"
)

// statusReport is how a network stands.
type statusReport struct {
	Gateway   string        `json:"gateway"`
	Simulated bool          `json:"simulated"`
	Children  []childReport `json:"children"`
	// paid = kept + earned + pending, gas apart.
	node.Money
	// Incomplete says that a process did not tell its part of the money.
	Incomplete bool `json:"money_incomplete,omitempty"`
	// GasIncomplete says that not all fees could be counted in time.
	GasIncomplete bool `json:"gas_incomplete,omitempty"`
}

type childReport struct {
	node.Child
	Alive bool   `json:"alive"`
	Error string `json:"error,omitempty"`
	// MoneyMissing is what of its money a process does not know yet.
	MoneyMissing string `json:"money_missing,omitempty"`
	// Suspended are the proxies that a client or a worker has stopped using.
	Suspended []client.Suspension `json:"suspended_proxies,omitempty"`
	// LogFaults are what is wrong with proxies' audit logs now, Logs what they
	// proved last: to this process, of its own balance.
	LogFaults []role.LogFault `json:"log_faults,omitempty"`
	Logs      []role.LogSeen  `json:"logs,omitempty"`

	client *client.Stats
	proxy  *proxy.Stats
	worker *worker.Stats
	// waiting is why a proxy that runs does not serve.
	waiting string
}

func (a *app) statusCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:     "status",
		Short:   "How the network on this machine stands",
		Example: "  cocoon status\n  cocoon status --json | jq .paid_nano",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := node.ReadState(a.dir)
			if err != nil {
				return err
			}
			r, err := readStatus(cmd.Context(), s)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(r)
			}
			return r.print(a.env.Stdout)
		},
	})
}

func readStatus(ctx context.Context, s *node.State) (*statusReport, error) {
	r := &statusReport{Gateway: s.Gateway, Simulated: s.Simulated}
	for _, c := range s.Children {
		cr := childReport{Child: c}
		var into any
		var logs node.WorkerLogs
		switch c.Role {
		case "client":
			cr.client = &client.Stats{}
			into = cr.client
		case "proxy":
			cr.proxy = &proxy.Stats{}
			into = &struct {
				*proxy.Stats
				Waiting *string `json:"waiting"`
			}{cr.proxy, &cr.waiting}
		case "chain":
			cr.Alive = c.Pid != 0
			r.Children = append(r.Children, cr)
			continue
		default:
			cr.worker = &worker.Stats{}
			into = &struct {
				*worker.Stats
				*node.WorkerLogs
			}{cr.worker, &logs}
		}
		if err := fetchStats(ctx, c.Status, into); err != nil {
			cr.Error = err.Error()
		} else {
			cr.Alive = true
		}
		if cr.client != nil {
			logs = node.WorkerLogs{Suspended: cr.client.Suspended, LogFaults: cr.client.LogFaults, Logs: cr.client.Logs}
		}
		cr.Suspended, cr.LogFaults, cr.Logs = logs.Suspended, logs.LogFaults, logs.Logs
		r.Children = append(r.Children, cr)
	}
	r.count(ctx)
	return r, nil
}

// count is a number of things; many is their plural if it is not one with an s.
func count(n int, one string, many ...string) string {
	switch {
	case n == 1:
		return "1 " + one
	case len(many) > 0:
		return fmt.Sprintf("%d %s", n, many[0])
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// moneyLimit is how long a process may take to tell its money.
const moneyLimit = 5 * time.Second

// count adds up the money of all processes that tell it.
func (r *statusReport) count(ctx context.Context) {
	for i := range r.Children {
		c := &r.Children[i]
		if c.Status == "" {
			continue
		}
		if !c.Alive {
			r.Incomplete = true
			continue
		}
		ask, cancel := context.WithTimeout(ctx, moneyLimit)
		m, err := node.ReadMoney(ask, c.Status)
		cancel()
		if err != nil {
			c.Error, r.Incomplete = "money: "+err.Error(), true
			continue
		}
		if m.Missing != "" {
			c.MoneyMissing, r.Incomplete = m.Missing, true
		}
		r.GasIncomplete = r.GasIncomplete || m.GasMissing != ""
		r.Paid += m.Paid
		r.Kept += m.Kept
		r.Earned += m.Earned
		r.Pending += m.Pending
		r.Gas += m.Gas
	}
}

func fetchStats(ctx context.Context, base string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/jsonstats", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("does not answer: %w", err)
	}
	defer resp.Body.Close()
	return json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(into)
}

func (r *statusReport) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	sim := ""
	if r.Simulated {
		sim = "  SIMULATED: no hardware protects this network"
	}
	fmt.Fprintf(w, "endpoint\t%s/v1%s\n\n", r.Gateway, sim)
	fmt.Fprintln(w, "PROCESS\tPID\tSTATE\tREQUESTS\tFAILED\tRESTARTS")
	for _, c := range r.Children {
		state, queries, failed := "running", int64(0), int64(0)
		switch {
		case !c.Alive:
			state = c.Error
		case c.client != nil:
			queries, failed = c.client.Queries, c.client.Failed
			if len(c.client.Connections) == 0 {
				state = "no proxy connected"
			}
		case c.waiting != "":
			state = "waiting: " + c.waiting
		case c.proxy != nil:
			queries, failed = c.proxy.Queries, c.proxy.Failed
			state = count(len(c.proxy.Workers), "worker") + ", " + count(len(c.proxy.Clients), "client")
		case c.worker != nil:
			queries, failed = c.worker.Queries, c.worker.Failed
			switch {
			case !c.worker.Enabled:
				state = "engine not ready"
			case len(c.worker.Connections) == 0:
				state = "no proxy connected"
			}
		}
		if n := len(c.Suspended); n > 0 {
			state += ", " + count(n, "proxy", "proxies") + " suspended"
		}
		if c.Alive && c.Error != "" {
			state += ", " + c.Error
		}
		if c.MoneyMissing != "" {
			state += ", money: " + c.MoneyMissing
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%d\t%d\n", c.Name, c.Pid, state, queries, failed, c.Restarts)
	}
	fees := r.Gas.String()
	if r.GasIncomplete {
		fees = "at least " + fees + "; the newest are not counted yet"
	}
	fmt.Fprintf(w, "\npaid\t%s\n  to workers\t%s\n  kept by proxies\t%s\n  pending\t%s\nchain fees\t%s\n", r.Paid, r.Earned, r.Kept, r.Pending, fees)
	if r.Incomplete {
		fmt.Fprintf(w, "\nnot all processes tell their part: the sums above are too low\n")
	}
	r.printLogs(w)
	for _, c := range r.Children {
		for _, f := range c.LogFaults {
			fmt.Fprintf(w, "\nFAULT  %s: proxy of contract key %s: %s.\n  `cocoon audit` shows its log.\n", c.Name, f.ContractKey, f.Fault)
		}
		for _, p := range c.Suspended {
			if p.Fault != "" {
				fmt.Fprintf(w, "\nSUSPENDED  by %s: proxy %s, since %s: %s.\n  %s.\n", c.Name, p.Endpoint, p.Since.Format(time.DateTime), p.Fault, p.Remedy)
				continue
			}
			fmt.Fprintf(w, "\nSUSPENDED  by %s: proxy %s, since %s: it counts %d tokens (%s) that no request of %s explains.\n  %s.\n",
				c.Name, p.Endpoint, p.Since.Format(time.DateTime), p.Unexplained, coins.Nano(p.Nano), c.Name, p.Remedy)
		}
	}
	return w.Flush()
}

// printLogs says what clients and workers saw of proxies' audit logs: the newest
// head that continues the ones before it, and their own leaf in its balances.
func (r *statusReport) printLogs(w io.Writer) {
	head := "\nLOG OF PROXY\tSEEN BY\tEPOCH\tLEAVES\tOWN BALANCE\n"
	for _, c := range r.Children {
		for _, l := range c.Logs {
			own := "none yet"
			if l.BalanceEpoch > 0 {
				own = fmt.Sprintf("%d tokens, proven in epoch %d", l.Tokens, l.BalanceEpoch)
			}
			fmt.Fprintf(w, "%s%s\t%s\t%d\t%d\t%s\n", head, short(l.ContractKey), c.Name, l.Epoch, l.Size, own)
			head = ""
		}
	}
}
