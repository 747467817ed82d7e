package up_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/e2e/testee"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// patience is how long anything may take that has to happen at all. Nothing
// is slow when it is reached; something is broken.
const patience = 60 * time.Second

// The program is built once for all tests, and once as the measured build.
var (
	plain    = sync.OnceValues(func() (string, error) { return build(os.Getenv("COCOON_BIN")) })
	measured = sync.OnceValues(func() (string, error) { return build("", "-tags", "tee") })
	built    []string // folders to remove
	builtMu  sync.Mutex
)

func build(ready string, flags ...string) (string, error) {
	if ready != "" {
		return filepath.Abs(ready)
	}
	dir, err := os.MkdirTemp("", "cocoon-up-")
	if err != nil {
		return "", err
	}
	builtMu.Lock()
	built = append(built, dir)
	builtMu.Unlock()
	path := filepath.Join(dir, "cocoon")
	return path, testee.Build(path, flags...)
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, dir := range built {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// program returns the built program, or skips.
func program(t *testing.T) string {
	t.Helper()
	require(t, runtime.GOOS == "linux", "these tests look at processes through /proc")
	_, err := exec.LookPath("go")
	require(t, err == nil || os.Getenv("COCOON_BIN") != "", "no Go tool to build the program with")
	if testing.Short() {
		t.Skip("-short: no processes")
	}
	path, err := plain()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// require skips a test that lacks something, or fails it where everything has
// to be there.
func require(t *testing.T, have bool, lacking string) {
	t.Helper()
	if have {
		return
	}
	if os.Getenv("COCOON_REQUIRE") != "" {
		t.Fatalf("%s, and COCOON_REQUIRE is set", lacking)
	}
	t.Skip(lacking)
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// process is a run of the program.
type process struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr output
	lines          chan string   // of standard output
	ended          chan struct{} // closed after the end
	code           int           // exit code, -1 after a signal; valid when ended
}

// start runs the program. It is killed at the end of the test if it still
// lives then.
func start(t *testing.T, path string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(path, args...), lines: make(chan string, 100), ended: make(chan struct{})}
	p.cmd.Env = append(cleanEnviron(), env...)
	p.cmd.Stderr = &p.stderr
	// A group of its own: what a terminal sends to this test is not for it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		s := bufio.NewScanner(stdout)
		for s.Scan() {
			fmt.Fprintln(&p.stdout, s.Text())
			select {
			case p.lines <- s.Text():
			default:
			}
		}
		close(p.lines)
		err := p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			fmt.Fprintln(&p.stderr, err)
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// cleanEnviron is this process's environment without what would steer the
// program.
func cleanEnviron() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "COCOON_") && !strings.HasPrefix(kv, "LISTEN_") && !strings.HasPrefix(kv, "OPENAI_") {
			out = append(out, kv)
		}
	}
	return out
}

// wait returns the exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.code
	case <-time.After(patience):
		p.t.Fatalf("%v does not end\n%s", p.cmd.Args, p.stderr.String())
		return 0
	}
}

// run runs the program to its end.
func run(t *testing.T, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(program(t), args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = strings.NewReader(stdin), &out, &errs, cleanEnviron()
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// network is a `cocoon up` of a test.
type network struct {
	*process
	dir  string
	base string // http://HOST:PORT
	took time.Duration
}

// up runs `cocoon up` on free ports and waits until it is ready.
func up(t *testing.T, dir string, args ...string) *network {
	t.Helper()
	path := program(t)
	begin := time.Now()
	n := &network{process: start(t, path, nil, append([]string{"up", "--dir", dir, "--listen", "127.0.0.1:0"}, args...)...), dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(n.said())
		}
		_ = n.cmd.Process.Signal(os.Interrupt)
		select {
		case <-n.ended:
		case <-time.After(patience):
		}
	})
	limit := time.After(patience)
	for {
		select {
		case line, ok := <-n.lines:
			if !ok {
				<-n.ended
				t.Fatalf("cocoon up ended with exit code %d before it was ready", n.code)
			}
			if url, ok := strings.CutPrefix(line, "ready "); ok {
				n.took = time.Since(begin)
				if n.base, ok = strings.CutSuffix(url, "/v1"); !ok || !strings.HasPrefix(url, "http://127.0.0.1:") {
					t.Fatalf("the line %q names no endpoint", line)
				}
				return n
			}
		case <-limit:
			t.Fatalf("cocoon up is not ready after %v", patience)
		}
	}
}

// said is what a network's processes wrote last.
func (n *network) said() string {
	text := "== up\n" + n.stderr.String()
	logs, _ := filepath.Glob(filepath.Join(n.dir, "logs", "*"))
	for _, name := range logs {
		if b, err := os.ReadFile(name); err == nil {
			text += fmt.Sprintf("== %s\n%s", filepath.Base(name), b[max(0, len(b)-3000):])
		}
	}
	return text
}

// child is a process of the network as its folder names it.
type child struct {
	Name   string `json:"name"`
	Pid    int    `json:"pid"`
	Status string `json:"status"`
}

// children returns the network's processes by their names.
func (n *network) children() map[string]child {
	n.t.Helper()
	b, err := os.ReadFile(filepath.Join(n.dir, "network.json"))
	if err != nil {
		n.t.Fatal(err)
	}
	var s struct{ Children []child }
	unmarshal(n.t, string(b), &s)
	all := map[string]child{}
	for _, c := range s.Children {
		all[c.Name] = c
	}
	return all
}

// kill ends a child as a crash does and waits until it is gone.
func (n *network) kill(name string) {
	n.t.Helper()
	pid := n.alive(name)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		n.t.Fatalf("kill -9 %d: %v", pid, err)
	}
	eventually(n.t, fmt.Sprintf("end of %s, process %d", name, pid), func() bool { return !testee.Lives(pid) })
}

// alive waits until a child runs and returns its process id.
func (n *network) alive(name string) (pid int) {
	n.t.Helper()
	eventually(n.t, name+" runs", func() bool {
		pid = n.children()[name].Pid
		return pid > 0 && testee.Lives(pid)
	})
	return pid
}

// family returns the ids of all processes that `up` started on its folder,
// whether it names them or not.
func (n *network) family() []int {
	n.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		n.t.Fatal(err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && strings.Contains(string(cmdline), n.dir) && pid != n.cmd.Process.Pid && testee.Lives(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// gone waits until no process of the network is left.
func (n *network) gone() {
	n.t.Helper()
	eventually(n.t, "end of all processes", func() bool { return len(n.family()) == 0 })
}

// stop ends the network with an interrupt, which must be clean.
func (n *network) stop() {
	n.t.Helper()
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		n.t.Fatal(err)
	}
	if code := n.wait(); code != 0 {
		n.t.Errorf("exit code %d after an interrupt", code)
	}
	if left := n.family(); len(left) > 0 {
		n.t.Errorf("processes left behind: %v", left)
	}
	if _, err := os.Stat(filepath.Join(n.dir, "network.json")); !errors.Is(err, fs.ErrNotExist) {
		n.t.Errorf("network.json of a stopped network: %v", err)
	}
}

// status is what `cocoon status --json` prints.
type status struct {
	Gateway   string `json:"gateway"`
	Simulated bool   `json:"simulated"`
	Children  []struct {
		Name     string `json:"name"`
		Role     string `json:"role"`
		Pid      int    `json:"pid"`
		Status   string `json:"status"`
		Restarts int    `json:"restarts"`
		Alive    bool   `json:"alive"`
		Error    string `json:"error"`

		Missing   string            `json:"money_missing"`
		Suspended []json.RawMessage `json:"suspended_proxies"`
		LogFaults []json.RawMessage `json:"log_faults"`
		Logs      []json.RawMessage `json:"logs"`
	} `json:"children"`
	Paid    int64 `json:"paid_nano"`
	Kept    int64 `json:"kept_nano"`
	Earned  int64 `json:"earned_nano"`
	Pending int64 `json:"pending_nano"`
	Gas     int64 `json:"gas_nano"`
	Partial bool  `json:"money_incomplete"`
	NoGas   bool  `json:"gas_incomplete"`
}

func (n *network) status() status {
	n.t.Helper()
	code, out, errs := run(n.t, "", "status", "--json", "--dir", n.dir)
	if code != 0 {
		n.t.Fatalf("cocoon status: exit code %d: %s", code, errs)
	}
	var s status
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		n.t.Fatalf("cocoon status --json: %v in %s", err, out)
	}
	for _, c := range s.Children {
		if len(c.Suspended) > 0 {
			n.t.Errorf("%s suspended an honest proxy: %s", c.Name, c.Suspended)
		}
	}
	if s.Paid != s.Kept+s.Earned+s.Pending {
		n.t.Errorf("paid %d nano is not kept %d + earned %d + pending %d", s.Paid, s.Kept, s.Earned, s.Pending)
	}
	return s
}

// quiet waits until the proxies have no request left and returns how things
// stand.
func (n *network) quiet() status {
	n.t.Helper()
	eventually(n.t, "end of all requests, and proxies that are ready", func() bool {
		for name, c := range n.children() {
			if !strings.HasPrefix(name, "proxy") {
				continue
			}
			var st struct {
				Clients []struct {
					Running int `json:"running_queries"`
				}
				Queries, Success, Failed, Cancelled, Rejected int64
			}
			// One that is starting does not know its books yet.
			if code, _, _, err := get(c.Status + "/readyz"); err != nil || code != http.StatusOK {
				return false
			}
			_, _, body, err := get(c.Status + "/jsonstats")
			if err != nil {
				return false
			}
			unmarshal(n.t, body, &st)
			running := 0
			for _, c := range st.Clients {
				running += c.Running
			}
			if running != 0 || st.Queries != st.Success+st.Failed+st.Cancelled {
				return false
			}
		}
		return true
	})
	n.explained()
	return n.status()
}

// explained demands that the client's own requests explain what its proxy
// counts: a step that they do not would suspend the proxy in a few seconds.
func (n *network) explained() {
	n.t.Helper()
	var st struct {
		Connections []struct {
			Named     int64 `json:"tokens_used_proxy_max"`
			Explained int64 `json:"tokens_explained_max"`
		} `json:"proxy_connections"`
	}
	_, _, body, err := get(n.children()["client"].Status + "/jsonstats")
	if err != nil {
		n.t.Fatal(err)
	}
	unmarshal(n.t, body, &st)
	for _, c := range st.Connections {
		if c.Named > c.Explained {
			n.t.Errorf("the proxy counts %d tokens, the client explains %d", c.Named, c.Explained)
		}
	}
}

// startEngine serves a stand-in for an engine and returns the arguments that
// make `up` use it.
func startEngine(t *testing.T, e *enginetest.StandIn) []string {
	t.Helper()
	e.Model = "stand-in"
	srv := httptest.NewServer(e)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return []string{"--engine", srv.URL, "--model", "stand-in"}
}
