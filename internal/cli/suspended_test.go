package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/node"
	"github.com/cocoon-network/cocoon/internal/role/client"
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
