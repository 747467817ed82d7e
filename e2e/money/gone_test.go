package money_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/engine"
)

// ownChain goes on with a network's chain in this process, where its clock can
// be moved, until the test ends or stop is called.
func ownChain(t *testing.T, dir string) (c *devnet.Chain, stop func()) {
	t.Helper()
	c, err := devnet.Open(devnet.Config{Dir: filepath.Join(dir, "devnet"), Idle: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return c, stop
}

// advance moves the clock of a network that does not run.
func advance(t *testing.T, dir string, d time.Duration) {
	t.Helper()
	c, stop := ownChain(t, dir)
	defer stop()
	if err := c.Advance(d); err != nil {
		t.Fatal(err)
	}
}

// survivor is a client whose network was killed, with the chain that goes on.
type survivor struct {
	chain  *devnet.Chain
	c      chain
	config string
	cost   int64 // what was charged on chain
}

// survive runs a network that asks, settles and asks again, as prepare leaves
// it, kills all of it and starts the client alone.
func survive(t *testing.T, prepare func(*network)) *survivor {
	t.Helper()
	dir := t.TempDir()
	n := up(t, dir)
	askMany(t, n.base, 10)
	s := &survivor{cost: n.settle().Paid}
	askMany(t, n.base, 5) // for which nobody will ever charge
	eventually(t, "the proxy's stake", func() bool {
		for _, p := range n.channels().Processes {
			for _, ch := range p.Channels {
				if ch.Kind == "proxy" {
					return ch.Stake == 1e9
				}
			}
		}
		return false
	})
	prepare(n)
	n.killAll()

	s.chain, _ = ownChain(t, dir)
	s.config = alone(t, dir, "client")
	start(t, "", "client", "--config", s.config)
	s.c = openChain(t, dir)
	eventually(t, "a client that takes orders", func() bool {
		code, _, _ := run(t, "", "channel", "show", "--config", s.config)
		return code == 0
	})
	return s
}

// channel is the client's only contract as it is shown.
func (s *survivor) channel(t *testing.T) shownChannel {
	t.Helper()
	var shown channels
	must(t, "", &shown, "channel", "show", "--json", "--config", s.config)
	if len(shown.Processes) != 1 || len(shown.Processes[0].Channels) != 1 {
		t.Fatalf("%+v", shown)
	}
	return shown.Processes[0].Channels[0]
}

// end waits until a command ends and returns what it said on standard error.
func (p *process) end(t *testing.T) string {
	t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Fatalf("%v does not end: %s", p.cmd.Args, tail(p.log))
	}
	return tail(p.log)
}

// TestProxyGone kills the whole network and starts the client alone: its owner
// gets everything back that was not charged on chain, to the nano, by the
// commands a person has.
func TestProxyGone(t *testing.T) {
	t.Parallel()
	s := survive(t, func(*network) {})
	c, config := s.c, s.config
	ch := s.channel(t)
	if ch.State != "open" || ch.Recoverable != ch.Balance || ch.Stake != 1e9 {
		t.Fatalf("before anything was asked for: %+v", ch)
	}
	on := c.client(ch.Contract)
	wallet := c.account(on.Owner).Balance

	code, out, errs := run(t, "", "channel", "close", "--config", config)
	if code == 0 || !strings.Contains(errs, "nothing was sent") {
		t.Errorf("without --yes: exit code %d, %s", code, errs)
	}
	for _, say := range []string{"request refund of " + on.Balance.String(), "fee ", "5m0s later the refund can be forced; the proxy's stake of 1 GRAM covers it"} {
		if !strings.Contains(out, say) {
			t.Errorf("the preview does not say %q:\n%s", say, out)
		}
	}
	if c.client(ch.Contract).State != bindings.Open {
		t.Error("a preview has closed the contract")
	}
	must(t, "", nil, "channel", "close", "--config", config, "--wait", "2s", "--yes", "--json")
	if ch = s.channel(t); ch.State != "closing" || ch.Balance != 1e9 || ch.Recoverable != 1e9 {
		t.Fatalf("after the first step: %+v", ch)
	}
	if out := must(t, "", nil, "channel", "close", "--config", config, "--wait", "1s"); !strings.Contains(out, "closing already") {
		t.Errorf("before the time has come: %s", out)
	}

	// Whoever waits sees it through.
	waiting := start(t, "", "channel", "close", "--config", config, "--wait", "10m", "--yes")
	eventually(t, "word of how long it takes", func() bool {
		return strings.Contains(tail(waiting.log), "waiting for the proxy to grant the refund of 1 GRAM")
	})
	if err := s.chain.Advance(301 * time.Second); err != nil {
		t.Fatal(err)
	}
	if said := waiting.end(t); waiting.exited != nil {
		t.Errorf("%v: %s", waiting.exited, said)
	}
	on = c.client(ch.Contract)
	if on.State != bindings.Closed || on.Balance != 0 {
		t.Errorf("client contract %+v", on)
	}
	in, back := c.deposited(on.Proxy, ch.Contract), c.payouts(on.Proxy)[on.Owner]
	if charged := int64(on.Tokens) * int64(on.Params.PricePerToken); charged != s.cost || in != charged+back {
		t.Errorf("%d nano were deposited, %d charged (%d before the end), %d came back", in, charged, s.cost, back)
	}
	if now := c.account(on.Owner).Balance; int64(now)-int64(wallet) < back-1e8 {
		t.Errorf("the wallet went from %v to %v, %d nano came back", wallet, now, back)
	}
	if code, _, errs := run(t, "", "channel", "close", "--config", config, "--yes"); code == 0 || !strings.Contains(errs, "is closed") {
		t.Errorf("closed again: exit code %d, %s", code, errs)
	}
}

// TestProxyGoneWithLittle is the same with a client whose stake is larger than
// the proxy's: what that does not cover is given up by a word of the owner, and
// not before.
func TestProxyGoneWithLittle(t *testing.T) {
	t.Parallel()
	s := survive(t, func(n *network) {
		must(t, "", nil, "channel", "stake", "3", "--yes", "--json", "--dir", n.dir)
	})
	ch := s.channel(t)
	if ch.Stake != 3e9 || ch.Recoverable != ch.Balance-2e9 {
		t.Fatalf("before anything was asked for: %+v", ch)
	}
	must(t, "", nil, "channel", "close", "--config", s.config, "--wait", "2s", "--yes", "--json")
	waiting := start(t, "", "channel", "close", "--config", s.config, "--wait", "10m", "--yes")
	eventually(t, "word of how long it takes", func() bool { return strings.Contains(tail(waiting.log), "waiting for the proxy") })
	if err := s.chain.Advance(301 * time.Second); err != nil {
		t.Fatal(err)
	}
	if said := waiting.end(t); waiting.exited == nil || !strings.Contains(said, "give up 2 GRAM with --force") {
		t.Errorf("%v: %s", waiting.exited, said)
	}
	if ch = s.channel(t); ch.State != "closing" || ch.Balance != 3e9 {
		t.Fatalf("what nobody gave up: %+v", ch)
	}
	if code, out, errs := run(t, "", "channel", "close", "--force", "--config", s.config); code == 0 || !strings.Contains(out, "2 GRAM are lost for good") {
		t.Errorf("preview: exit code %d, %s%s", code, out, errs)
	}
	must(t, "", nil, "channel", "close", "--force", "--config", s.config, "--yes", "--json")
	on := s.c.client(ch.Contract)
	in, back := s.c.deposited(on.Proxy, ch.Contract), s.c.payouts(on.Proxy)[on.Owner]
	if on.State != bindings.Closed || in != s.cost+back+2e9 {
		t.Errorf("%+v: %d nano were deposited, %d charged, %d came back", on, in, s.cost, back)
	}
}

// alone makes a configuration of a network's process that runs without the
// network: with ports of its own, as those of the network may be others' now.
func alone(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name+".toml"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(b), "\n")
	for i, line := range lines {
		if key, _, _ := strings.Cut(strings.TrimSpace(line), " "); key == "listen" || key == "status" {
			port, err := engine.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			lines[i] = fmt.Sprintf("%s = \"127.0.0.1:%d\"", key, port)
		}
	}
	path := filepath.Join(dir, name+"-alone.toml")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
