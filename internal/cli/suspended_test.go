package cli

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/node"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/worker"
)

// A suspended proxy stands in the status: where, how much, and what to do.
func TestStatusNamesSuspendedProxies(t *testing.T) {
	p := client.Suspension{Endpoint: "192.0.2.1:11002", Since: time.Unix(0, 0), Unexplained: 500, Nano: 10_000_000_000, Remedy: "remove it from the file"}
	r := &statusReport{Children: []childReport{{
		Child: node.Child{Name: "client"}, Alive: true,
		client: &client.Stats{Suspended: []client.Suspension{p}}, Suspended: []client.Suspension{p},
	}}}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 proxy suspended", "SUSPENDED", p.Endpoint, "500 tokens", "10 GRAM", p.Remedy} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}

// So does what a log was convicted of, who found it, and what each process saw
// of the logs last.
func TestStatusNamesDishonestLogs(t *testing.T) {
	p := client.Suspension{Endpoint: "192.0.2.1:11002", Since: time.Unix(0, 0), Fault: "the log was forked", Remedy: "remove it from the file"}
	r := &statusReport{Children: []childReport{{
		Child: node.Child{Name: "worker-1"}, Alive: true, worker: &worker.Stats{}, Suspended: []client.Suspension{p},
		LogFaults: []role.LogFault{{ContractKey: "ab12", Fault: "an epoch is late"}},
		Logs:      []role.LogSeen{{ContractKey: "ab12", Epoch: 7, Size: 9, BalanceEpoch: 6, Tokens: 54}, {ContractKey: "cd34", Epoch: 1, Size: 2}},
	}}}
	var out strings.Builder
	if err := r.print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1 proxy suspended", "SUSPENDED  by worker-1", p.Endpoint, p.Fault, p.Remedy, "FAULT  worker-1", "ab12: an epoch is late", "54 tokens, proven in epoch 6", "none yet"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}

// And in the list of workers: none of its workers is there.
func TestWorkersNamesSuspendedProxies(t *testing.T) {
	url := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(client.Workers{Mode: "require", Suspended: []client.Suspension{
			{Endpoint: "192.0.2.1:11002", Fault: "the log was forked", Remedy: "remove it from the file"},
			{Endpoint: "192.0.2.2:11002", Unexplained: 500, Remedy: "remove it from the file"},
		}})
	})
	got := newShell(t).run("workers", "--url", url)
	for _, want := range []string{"192.0.2.1:11002", "the log was forked; remove it", "192.0.2.2:11002", "500 tokens that no request of ours explains"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%q is missing in\n%+v", want, got)
		}
	}
	if got.code != exitOK || strings.Contains(got.stdout, "no proxy offers") {
		t.Errorf("%+v", got)
	}
}
