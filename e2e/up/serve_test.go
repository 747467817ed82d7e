package up_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/e2e/testee"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// demoModel is what `cocoon up` serves by itself.
const demoModel = "cocoon-demo-1"

// TestUp goes the way of a person who tries the program: start, ask in every
// way, look at the state, stop, start again.
func TestUp(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	n := up(t, dir)
	t.Logf("ready after %v", n.took.Round(10*time.Millisecond))
	if n.took > 15*time.Second {
		t.Errorf("ready after %v; 15 s are promised", n.took)
	}
	if out := n.stdout.String(); strings.Count(out, "\n") != 1 {
		t.Errorf("standard output is more than the ready line: %q", out)
	}
	if !strings.Contains(n.stderr.String(), "SIMULATED") {
		t.Errorf("nothing says that the network is simulated: %q", n.stderr.String())
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if code, _, _, err := get(n.base + path); code != http.StatusOK || err != nil {
			t.Errorf("%s: %d %v", path, code, err)
		}
	}

	plain := n.ask(t.Context(), question{model: demoModel, prompt: "What is Cocoon?", maxTokens: 60})
	if !plain.complete() || plain.tokens == 0 || plain.cost == 0 {
		t.Fatalf("plain: %v", plain)
	}
	events := 0
	streamed := n.ask(t.Context(), question{model: demoModel, prompt: "What is Cocoon?", maxTokens: 60, stream: true, seen: func(i int) bool { events = i; return true }})
	if !streamed.complete() || streamed.text != plain.text || streamed.tokens != plain.tokens || streamed.cost == 0 || streamed.cost > plain.cost {
		t.Errorf("streamed: %v\n   plain: %v", streamed, plain)
	}
	if events < 10 {
		t.Errorf("the answer came in %d events: not token by token", events)
	}
	for _, r := range []reply{plain, streamed} {
		if r.header.Get("X-Cocoon-Simulated") != "true" {
			t.Error("an answer does not say that the network is simulated")
		}
	}

	// What callers were told they pay is what the books say, to the nano.
	s := n.quiet()
	if want := plain.cost + streamed.cost; s.Paid != want {
		t.Errorf("status says %d nano were paid; the answers say %d", s.Paid, want)
	}
	if s.Gateway != n.base || !s.Simulated || len(s.Children) != 5 {
		t.Errorf("status: %+v", s)
	}
	var pids []int
	for i, want := range []string{"chain chain", "proxy proxy", "worker-1 worker", "worker-embed worker", "client client"} {
		c := s.Children[i]
		if c.Name+" "+c.Role != want || !c.Alive || c.Error != "" || c.Restarts != 0 || !testee.Lives(c.Pid) {
			t.Errorf("child %d: %+v", i, c)
		}
		pids = append(pids, c.Pid)
		if c.Role == "chain" {
			continue
		}
		for _, path := range []string{"/healthz", "/readyz", "/jsonstats", "/stats", "/metrics"} {
			if code, _, body, err := get(c.Status + path); code != http.StatusOK || err != nil || path == "/jsonstats" && !json.Valid([]byte(body)) {
				t.Errorf("%s%s: %d %v %s", c.Name, path, code, err, body)
			}
		}
	}
	slices.Sort(pids)
	if family := n.family(); !slices.Equal(family, pids) {
		t.Errorf("processes %v, status names %v", family, pids)
	}

	t.Run("commands", func(t *testing.T) { commands(t, n) })
	t.Run("second up", func(t *testing.T) {
		code, out, errs := run(t, "", "up", "--dir", dir, "--listen", "127.0.0.1:0")
		var lines []string
		for line := range strings.Lines(errs) {
			if !strings.Contains(line, "SIMULATED") {
				lines = append(lines, line)
			}
		}
		if code != 1 || out != "" || len(lines) != 1 || !strings.Contains(lines[0], "another `cocoon up` runs in "+dir) || !strings.Contains(lines[0], "--dir") {
			t.Errorf("exit code %d, %q, %q", code, out, errs)
		}
		if r := n.ask(t.Context(), question{model: demoModel, prompt: "hello", maxTokens: 5}); !r.complete() {
			t.Errorf("the first one after that: %v", r)
		}
	})

	before := n.quiet()
	n.stop()
	if code, _, errs := run(t, "", "status", "--dir", dir); code != 1 || !strings.Contains(errs, "no network runs here") {
		t.Errorf("status of a stopped network: exit code %d, %q", code, errs)
	}

	// The same folder is the same network: its books go on.
	n = up(t, dir)
	after := n.status()
	if after.Paid != before.Paid {
		t.Errorf("money before the stop %+v, after the start %+v", before, after)
	}
	// `up` settled at its end: what was pending is on chain now.
	if after.Pending != 0 || after.Earned*20 != after.Paid*19 {
		t.Errorf("not settled at the stop: %+v", after)
	}
	again := n.ask(t.Context(), question{model: demoModel, prompt: "What is Cocoon?", maxTokens: 60})
	if again.text != plain.text || again.cost == 0 {
		t.Errorf("after a restart: %v", again)
	}
	if s := n.quiet(); s.Paid != before.Paid+again.cost {
		t.Errorf("paid %d nano, want %d + %d", s.Paid, before.Paid, again.cost)
	}
	n.stop()
}

// commands talks to a running network with the program's commands.
func commands(t *testing.T, n *network) {
	code, out, errs := run(t, "", "chat", "What is Cocoon?", "--dir", n.dir)
	if code != 0 || errs != "" || !strings.Contains(out, "Cocoon") || strings.Count(out, "\n") < 1 {
		t.Errorf("chat: exit code %d, %q, %q", code, out, errs)
	}
	// Lines of standard input are a conversation; empty ones are none.
	code, out, errs = run(t, "hello\n\nWhat is Cocoon?\n", "chat", "--dir", n.dir, "--max-tokens", "40")
	if code != 0 || errs != "" || strings.Count(out, "\n") < 2 || !strings.Contains(out, "Cocoon") {
		t.Errorf("chat from standard input: exit code %d, %q, %q", code, out, errs)
	}
	if code, out, errs = run(t, "", "chat", "--dir", n.dir); code != 0 || out != "" || errs != "" {
		t.Errorf("chat without a line: exit code %d, %q, %q", code, out, errs)
	}
	code, out, errs = run(t, "", "chat", "hello", "--dir", n.dir, "--model", "no-such-model")
	if code != 1 || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, "no-such-model") {
		t.Errorf("chat with an unknown model: exit code %d, %q, %q", code, out, errs)
	}
	if code, out, _ := run(t, "", "chat", "hello", "--url", n.base+"/v1"); code != 0 || out == "" {
		t.Errorf("chat --url: exit code %d, %q", code, out)
	}

	code, out, errs = run(t, "", "models", "--json", "--dir", n.dir)
	var list struct {
		Data []struct {
			ID      string `json:"id"`
			Price   int64  `json:"price_per_token_nano"`
			Workers []struct {
				Coefficient int `json:"coefficient"`
				Running     int `json:"running_requests"`
				Max         int `json:"max_running_requests"`
			} `json:"workers"`
		} `json:"data"`
	}
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); code != 0 || errs != "" || err != nil || len(list.Data) == 0 {
		t.Fatalf("models --json: exit code %d, %v, %q, %q", code, err, out, errs)
	}
	m := list.Data[0]
	if m.ID != demoModel || m.Price != 20 || len(m.Workers) != 1 || m.Workers[0].Coefficient != 1000 || m.Workers[0].Max != 64 || m.Workers[0].Running != 0 {
		t.Errorf("models --json: %+v", m)
	}
	if _, out, _ = run(t, "", "models", "--dir", n.dir); !strings.Contains(out, "SIMULATED") || !strings.Contains(out, demoModel) {
		t.Errorf("models: %q", out)
	}
	_, out, _ = run(t, "", "status", "--dir", n.dir)
	for _, want := range []string{"SIMULATED", n.base, "proxy", "worker-1", "client", "paid"} {
		if !strings.Contains(out, want) {
			t.Errorf("status has no %q: %s", want, out)
		}
	}
	for _, c := range []struct {
		code int
		args []string
	}{{0, []string{"version"}}, {0, []string{"up", "--help"}}, {2, []string{"frobnicate"}}, {2, []string{"up", "--workers", "0"}}, {1, []string{"worker", "--config", "/nowhere.toml"}}} {
		code, out, errs := run(t, "", c.args...)
		if code != c.code || code != 0 && (out != "" || strings.Count(errs, "\n") != 1) {
			t.Errorf("%v: exit code %d, want %d: %q, %q", c.args, code, c.code, out, errs)
		}
	}
}

// TestPortInUse: an address that is taken is one line that says what to do.
func TestPortInUse(t *testing.T) {
	n := up(t, t.TempDir())
	addr := strings.TrimPrefix(n.base, "http://")
	dir := t.TempDir()
	code, out, errs := run(t, "", "up", "--dir", dir, "--listen", addr)
	lines := strings.Split(strings.TrimSpace(errs), "\n")
	last := lines[len(lines)-1]
	if code != 1 || out != "" || strings.Count(errs, " in use") != 1 || !strings.Contains(last, " in use") || !strings.Contains(last, "--listen 127.0.0.1:0") {
		t.Errorf("exit code %d, %q, %q", code, out, errs)
	}
	if !strings.Contains(last, addr) && !strings.Contains(last, "127.0.0.1:1100") && !strings.Contains(last, "127.0.0.1:12000") {
		t.Errorf("the line names no address: %q", last)
	}
}

// TestInterrupt: SIGINT and SIGTERM in the midst of answers stop everything
// with exit code 0, and no caller is told a false end.
func TestInterrupt(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			e := &enginetest.StandIn{Pace: 5 * time.Millisecond}
			n := up(t, t.TempDir(), startEngine(t, e)...)
			const long = 20000
			begun := make(chan struct{}, 8)
			replies := make(chan reply, 8)
			for range cap(replies) {
				go func() {
					replies <- n.ask(t.Context(), question{model: "stand-in", prompt: "count", stream: true, maxTokens: long, seen: func(i int) bool {
						if i == 3 {
							begun <- struct{}{}
						}
						return true
					}})
				}()
			}
			for range cap(replies) {
				select {
				case <-begun:
				case <-time.After(patience):
					t.Fatal("answers do not begin")
				}
			}
			if err := n.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if code := n.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if left := n.family(); len(left) > 0 {
				t.Errorf("processes left behind: %v", left)
			}
			for range cap(replies) {
				if r := <-replies; r.complete() || r.done || r.finish || r.err == "" {
					r.text = ""
					t.Errorf("a stream that was stopped: %v", r)
				}
			}
			eventually(t, "idle engine", func() bool { return e.Active.Load() == 0 })
		})
	}
}
