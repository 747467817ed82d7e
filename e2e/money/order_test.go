package money_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOrders gives the orders of `cocoon channel`, those that are refused too,
// and closes the client's and the proxy's contracts: nobody's process ends, and
// under new terms all go on.
func TestOrders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := up(t, dir)
	c := openChain(t, dir)
	config := filepath.Join(dir, "client.toml")
	refused := func(say string, args ...string) {
		t.Helper()
		code, out, errs := run(t, "", append(append([]string{"channel"}, args...), "--dir", dir)...)
		if code == 0 || !strings.Contains(errs, say) {
			t.Errorf("channel %v: exit code %d, %q, %q; want %q", args, code, out, errs, say)
		}
	}
	own := func(kind string) (contract, state string, balance int64) {
		t.Helper()
		for _, p := range n.channels().Processes {
			for _, ch := range p.Channels {
				if ch.Kind == kind {
					return ch.Contract.String(), ch.State, ch.Balance
				}
			}
		}
		t.Fatalf("no contract of a %s", kind)
		return "", "", 0
	}

	refused("--of nobody", "withdraw", "--of", "nobody", "--yes")
	refused("nothing to do", "withdraw", "--of", "proxy", "--yes")
	refused("insufficient balance", "top-up", "900000", "--yes")
	refused("can only be raised", "stake", "0.1", "--yes")
	refused("a worker cannot", "close", "--of", "worker-1", "--yes")
	refused("a configuration is of one process", "close", "--config", config, "--of", "client", "--yes")
	refused("nothing was sent", "top-up", "1", "--json")
	refused("not an amount", "top-up", "much", "--yes")
	refused("nobody's contract", "close", "--contract", "0:"+strings.Repeat("0", 64), "--yes")

	_, _, before := own("client")
	must(t, "", nil, "channel", "top-up", "3", "--config", config, "--yes", "--json")
	if _, _, now := own("client"); now != before+3e9 {
		t.Errorf("a deposit of 3 made %d nano of %d", now, before)
	}
	must(t, "", nil, "channel", "withdraw", "--config", config, "--yes", "--json")
	if _, state, now := own("client"); state != "open" || now != 1e9 {
		t.Errorf("after withdrawing the contract is %s and holds %d nano, its stake is 1 coin", state, now)
	}
	refused("have to stay as its stake", "withdraw", "--yes")
	cost := askMany(t, n.base, 5)
	proxy, _, _ := own("proxy")
	refused("not a client contract", "top-up", "1", "--contract", proxy, "--yes")

	must(t, "", nil, "channel", "close", "--yes", "--json", "--dir", dir)
	eventually(t, "a closed client contract", func() bool { _, state, _ := own("client"); return state == "closed" })
	refused("closed", "close", "--yes")
	refused("closed", "top-up", "1", "--yes")

	pids := children(t, dir)
	must(t, "", nil, "channel", "close", "--of", "proxy", "--yes", "--json", "--dir", dir)
	if _, state, _ := own("proxy"); state != "closing" {
		t.Errorf("the proxy contract is %s", state)
	}
	refused("closing", "withdraw", "--of", "proxy", "--yes")
	if s := n.settle(); s.Paid != cost {
		t.Errorf("paid %d nano, callers were told %d", s.Paid, cost)
	}
	// New terms make new contracts, in the same processes.
	must(t, "", nil, "root", "set-prices", "--price", "40nano", "--worker-fee", "30nano", "--yes", "--json", "--dir", dir)
	eventually(t, "an answer under new terms", func() bool {
		more, err := ask(n.base)
		cost += more
		return err == nil
	})
	if now := children(t, dir); now != pids {
		t.Errorf("processes %s became %s", pids, now)
	}
	s := n.settle()
	if s.Paid != cost {
		t.Errorf("paid %d nano, callers were told %d", s.Paid, cost)
	}
	n.even(c, s)
}

// children names the processes of a network.
func children(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "network.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Children []struct {
			Name     string
			Pid      int
			Restarts int
		}
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(s.Children)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
