package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/role/client"
)

func (a *app) workersCommand() *cobra.Command {
	var address string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "workers",
		Short: "The workers that requests can be sealed to, as this client verified them",
		Long: `List the workers that proxies offer: each one's evidence is verified now, by the
client itself. A refused worker or set stands there with the reason, as does a proxy
that is suspended: none of its workers is used. A worker that serves several proxies
is listed once for each. The score is this client's own experience with the worker,
from 0 to 1.`,
		Example: "  cocoon workers\n  cocoon workers --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			g, err := a.gateway(address)
			if err != nil {
				return err
			}
			resp, err := g.call(cmd.Context(), http.MethodGet, "/workers", nil)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			var l client.Workers
			if err := json.NewDecoder(io.LimitReader(resp.Body, 16<<20)).Decode(&l); err != nil {
				return fmt.Errorf("the gateway's list of workers cannot be read: %w", err)
			}
			if a.json {
				return a.printJSON(l)
			}
			w := tabwriter.NewWriter(a.env.Stdout, 0, 4, 2, ' ', 0)
			if g.simulated {
				fmt.Fprintln(w, "SIMULATED network: no hardware protects it")
			}
			fmt.Fprintf(w, "sealing: %s\n", l.Mode)
			fmt.Fprintln(w, "PROXY\tWORKER\tMODEL\tVERDICT\tPLATFORM\tPRICE FACTOR\tSERVED\tFAILED\tREFUSED\tNO ANSWER\tFIRST BYTE\tSCORE")
			for _, x := range l.Workers {
				r := client.Record{Score: 1}
				if x.Reputation != nil {
					r = *x.Reputation
				}
				first := "-"
				if r.FirstMs > 0 {
					first = fmt.Sprintf("%.0f ms", r.FirstMs)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%.3f\t%d\t%d\t%d\t%d\t%s\t%.2f\n", x.Proxy, short(x.Statement), short40(x.Model), x.Verdict, short(x.Platform),
					float64(x.Coefficient)/1000, r.Served, r.Failed, r.Refused, r.NoAnswer, first, r.Score)
				if x.Reason != "" {
					fmt.Fprintf(w, "\t\trefused: %s\n", x.Reason)
				}
			}
			for _, x := range l.Refused {
				fmt.Fprintf(w, "%s\tset refused: %s\n", x.Proxy, x.Reason)
			}
			for _, x := range l.Suspended {
				why := x.Fault
				if why == "" {
					why = fmt.Sprintf("it counts %d tokens that no request of ours explains", x.Unexplained)
				}
				fmt.Fprintf(w, "%s\tSUSPENDED since %s: %s; %s\n", x.Endpoint, x.Since.Format(time.DateTime), why, x.Remedy)
			}
			if len(l.Workers) == 0 && len(l.Refused) == 0 && len(l.Suspended) == 0 {
				fmt.Fprintln(w, "no proxy offers a worker now")
			}
			return w.Flush()
		},
	})
	cmd.Flags().StringVar(&address, "url", "", "OpenAI base URL (default: OPENAI_BASE_URL, or the network in --dir)")
	return cmd
}

// short is the beginning of a hash, for people.
func short(hash string) string { return hash[:min(len(hash), 12)] }

func short40(name string) string {
	if len(name) > 40 {
		return name[:39] + "…"
	}
	return name
}
