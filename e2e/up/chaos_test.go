package up_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/receipt"
)

// watched is an engine that remembers when it was last asked each question.
type watched struct {
	enginetest.StandIn
	mu   sync.Mutex
	last map[string]time.Time
}

func (e *watched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(b))
		var q struct{ Messages []struct{ Content string } }
		if json.Unmarshal(b, &q) == nil && len(q.Messages) > 0 {
			e.mu.Lock()
			e.last[q.Messages[0].Content] = time.Now()
			e.mu.Unlock()
		}
	}
	e.StandIn.ServeHTTP(w, r)
}

// chaosSize is what a run comes to: half a minute among the tests, as long or as
// many requests as COCOON_SOAK says ("2m", "20000"), always with the same seed
// unless COCOON_SOAK_SEED gives another.
func chaosSize(t *testing.T) (limit time.Duration, requests int64, seed uint64) {
	limit, seed = 20*time.Second, 8
	text := os.Getenv("COCOON_SOAK")
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		limit, requests = 24*time.Hour, n
	} else if d, err := time.ParseDuration(text); err == nil {
		limit = d
	} else if text != "" {
		t.Fatalf("COCOON_SOAK=%q is neither a time nor a number of requests", text)
	}
	if text := os.Getenv("COCOON_SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("COCOON_SOAK_SEED: %v", err)
		}
	}
	return limit, requests, seed
}

// linksVariable tells the test that it runs in a network of its own, whose one
// link carries everything and may be cut.
const linksVariable = "COCOON_LINKS"

// The link while it is slowed and while it is cut: a rate at which nothing
// arrives, the rest is dropped.
var (
	slowed = []string{"tbf", "rate", "16mbit", "burst", "128kb", "latency", "100ms"}
	cut    = []string{"tbf", "rate", "8bit", "burst", "1kb", "latency", "1ms"}
)

// isolated runs the test again in a network namespace and reports its result;
// false if this machine does not allow that, or we are there already.
func isolated(t *testing.T) bool {
	if os.Getenv(linksVariable) != "" {
		return false
	}
	try := exec.Command("unshare", "-n", "sh", "-c", "ip link set lo up && tc qdisc add dev lo root "+strings.Join(cut, " "))
	if out, err := try.CombinedOutput(); err != nil {
		t.Logf("links are not cut here, only processes stopped: that takes root, unshare, ip and tc with tbf (%v: %s)", err, out)
		return false
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-n", "sh", "-c", `ip link set lo up && exec "$0" -test.run '^TestChaos$' -test.v -test.count=1 -test.timeout=5h`, os.Args[0])
	cmd.Env = append(os.Environ(), linksVariable+"=lo", "COCOON_BIN="+program(t))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) }
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	t.Logf("in a network of its own:\n%s", out)
	if err != nil {
		t.Errorf("in a network of its own: %v", err)
	}
	return true
}

// link changes the link of this network for a while.
func link(t *testing.T, how []string, pause func()) {
	tc := func(args ...string) {
		if out, err := exec.Command("tc", args...).CombinedOutput(); err != nil {
			t.Errorf("tc %v: %v: %s", args, err, out)
		}
	}
	tc(append([]string{"qdisc", "add", "dev", "lo", "root"}, how...)...)
	pause()
	tc("qdisc", "del", "dev", "lo", "root")
}

// TestChaos: three proxies and six workers under load while processes of every
// role are killed, asked to end, or stand still, and links are slowed and cut where
// this machine allows that, in an order that a seed gives.
// No answer is wrong or cut without a word, what was not begun is served, what
// was begun is never asked twice, and callers, ledgers, receipts and the engine
// agree on what was made and paid.
func TestChaos(t *testing.T) {
	const callers, tokens = 12, 20
	limit, requests, seed := chaosSize(t)
	if isolated(t) {
		return
	}
	e := &watched{StandIn: enginetest.StandIn{Model: "stand-in", Pace: 2 * time.Millisecond}, last: map[string]time.Time{}}
	srv := httptest.NewServer(e)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	n := up(t, t.TempDir(), "--engine", srv.URL, "--model", "stand-in", "--proxies", "3", "--workers", "6")

	var mu sync.Mutex
	var told int64
	charged := map[string]int64{} // by the receipts' ids, nano
	var complete, broken, left, asked, slowest atomic.Int64
	var outages atomic.Int64 // of the gateway, begun and ended
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				i := asked.Add(1)
				if requests > 0 && i > requests {
					stop()
					return
				}
				prompt := fmt.Sprintf("count for me %d", i)
				var first time.Time
				before, begin := outages.Load(), time.Now()
				r := n.ask(t.Context(), question{model: "stand-in", prompt: prompt, stream: i%4 != 0, maxTokens: tokens, seen: func(int) bool {
					if first.IsZero() {
						first = time.Now()
					}
					return true
				}})
				for took := int64(time.Since(begin)); ; {
					if was := slowest.Load(); took <= was || slowest.CompareAndSwap(was, took) {
						break
					}
				}
				switch {
				case r.complete() && r.text == words(tokens):
					complete.Add(1)
					id := r.header.Get("X-Cocoon-Receipt")
					mu.Lock()
					told += r.cost
					if _, twice := charged[id]; twice || id == "" {
						t.Errorf("a second answer has the receipt %q", id)
					}
					charged[id] = r.cost
					mu.Unlock()
				case r.brokenHonestly(words(tokens)), i%4 == 0 && cutWhole(r):
					broken.Add(1)
				case (!r.done || r.err != "" && r.text == words(tokens)) && (outages.Load() != before || before%2 == 1) && strings.HasPrefix(words(tokens), r.text):
					left.Add(1) // the gateway itself died under the caller
				default:
					t.Errorf("request %d, begun %v, after %v: %v", i, !first.IsZero(), time.Since(begin).Round(time.Millisecond), r)
				}
				if !first.IsZero() {
					e.mu.Lock()
					if e.last[prompt].After(first) {
						t.Errorf("request %d had begun and was asked again", i)
					}
					delete(e.last, prompt)
					e.mu.Unlock()
				}
			}
		})
	}

	rnd := rand.New(rand.NewPCG(seed, seed))
	names := []string{"proxy", "proxy-2", "proxy-3", "worker-1", "worker-2", "worker-3", "worker-4", "worker-5", "worker-6", "client", "chain"}
	acts := map[string]int{}
	pause := func(d time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(d):
		}
	}
	// Each role is met at least once, then it is as it comes.
	order := rnd.Perm(len(names))
	for i := 0; ctx.Err() == nil; i++ {
		pause(time.Duration(1000+rnd.IntN(1500)) * time.Millisecond)
		name := names[rnd.IntN(len(names))]
		if i < len(order) {
			name = names[order[i]]
		}
		act := rnd.IntN(4)
		if ctx.Err() != nil {
			break
		}
		if os.Getenv(linksVariable) != "" && rnd.IntN(4) == 0 {
			how, what, most := slowed, "links slowed", 2000
			if rnd.IntN(2) == 0 {
				how, what, most = cut, "links cut", 1000
			}
			link(t, how, func() { pause(time.Duration(300+rnd.IntN(most)) * time.Millisecond) })
			acts[what]++
			continue
		}
		switch {
		case name == "client":
			outages.Add(1)
			n.kill(name)
			caller.CloseIdleConnections()
			eventually(t, "the gateway is back", func() bool {
				code, _, _, err := get(n.base + "/readyz")
				return err == nil && code == http.StatusOK
			})
			outages.Add(1)
			acts["killed"]++
		case act == 0: // asked to end
			if err := syscall.Kill(n.alive(name), syscall.SIGTERM); err == nil {
				acts["ended"]++
			}
		case act == 1 && name != "chain": // a link that is cut for a while
			pid := n.alive(name)
			if syscall.Kill(pid, syscall.SIGSTOP) == nil {
				pause(time.Duration(300+rnd.IntN(1200)) * time.Millisecond)
				_ = syscall.Kill(pid, syscall.SIGCONT)
				acts["stood still"]++
			}
		default:
			n.kill(name)
			acts["killed"]++
		}
	}
	wg.Wait()
	eventually(t, "idle engine", func() bool { return e.Active.Load() == 0 })
	s := n.quiet()
	for _, c := range s.Children {
		if !c.Alive {
			t.Errorf("%s: %s", c.Name, c.Error)
		}
	}
	made := worth(&e.StandIn)
	if s.Paid < told || s.Paid > made {
		t.Errorf("paid %d nano; callers got answers for %d, the engine made them for %d", s.Paid, told, made)
	}
	n.agree(t, s.Paid, charged)
	t.Logf("%v: %d complete, %d ended with an error, %d lost with the gateway, slowest %v; paid %d nano, told %d, made %d",
		acts, complete.Load(), broken.Load(), left.Load(), time.Duration(slowest.Load()).Round(time.Millisecond), s.Paid, told, made)
}

// cutWhole reports whether an answer that is not streamed broke after it had
// begun on the way.
func cutWhole(r reply) bool {
	return r.status == http.StatusBadGateway && r.text == "" && (strings.Contains(r.err, "broke off") || strings.Contains(r.err, "in the middle of the answer"))
}

// agree holds the proxies' logs of receipts against what was paid in all, and
// against what callers were told; it stops the network.
func (n *network) agree(t *testing.T, paid int64, charged map[string]int64) {
	t.Helper()
	ids := map[string]audit.LogConfig{}
	eventually(t, "logs of receipts that add up to what was paid", func() bool {
		sum := int64(0)
		for _, c := range n.children() {
			if !strings.HasPrefix(c.Name, "proxy") {
				continue
			}
			var head struct {
				Network receipt.Hash `json:"network_id"`
				Key     receipt.Hash `json:"contract_key"`
				Log     audit.State  `json:"log"`
			}
			code, _, body, err := get(c.Status + "/audit/head")
			if err != nil || code != http.StatusOK {
				return false
			}
			unmarshal(t, body, &head)
			ids[c.Name] = audit.LogConfig{NetworkID: head.Network, ContractKey: head.Key}
			var totals audit.Totals
			if code, _, body, err = get(fmt.Sprintf("%s/audit/totals?epoch=%d", c.Status, head.Log.Epoch.Number)); err != nil || code != http.StatusOK {
				continue // nothing was ever charged here
			}
			unmarshal(t, body, &totals)
			for _, c := range totals.Clients {
				sum += int64(c.Sum.Sum)
			}
		}
		return 20*sum == paid
	})
	n.stop()
	var logs []*audit.Log
	for name, id := range ids {
		l, err := audit.OpenLog(filepath.Join(n.dir, name, "audit"), id)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		logs = append(logs, l)
	}
	for text, cost := range charged {
		var id cocoon.RequestID
		if b, err := hex.DecodeString(text); err != nil || copy(id[:], b) != len(id) {
			t.Errorf("%q names no receipt", text)
			continue
		}
		found := 0
		for _, l := range logs {
			b, _, err := l.Receipt(id)
			if err != nil {
				continue
			}
			found++
			signed, err := receipt.ParseSigned(b)
			if err != nil {
				t.Fatal(err)
			}
			p, err := receipt.ParseProxy(signed.Part)
			if err != nil || 20*p.Tokens() != cost {
				t.Errorf("receipt %s: %d tokens, %v; the caller was told %d nano", text, p.Tokens(), err, cost)
			}
		}
		if found != 1 {
			t.Errorf("receipt %s stands in %d logs", text, found)
		}
	}
}
