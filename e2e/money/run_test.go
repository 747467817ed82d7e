package money_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
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
)

// patience is how long anything may take that has to happen at all. Nothing
// is slow when it is reached; something is broken.
const patience = 90 * time.Second

var (
	builtDir string
	built    = sync.OnceValues(func() (string, error) {
		if ready := os.Getenv("COCOON_BIN"); ready != "" {
			return filepath.Abs(ready)
		}
		var err error
		if builtDir, err = os.MkdirTemp("", "cocoon-money-"); err != nil {
			return "", err
		}
		path := filepath.Join(builtDir, "cocoon")
		return path, testee.Build(path)
	})
)

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(builtDir)
	os.Exit(code)
}

// program returns the built program, or skips.
func program(t *testing.T) string {
	t.Helper()
	_, err := exec.LookPath("go")
	for lacking, have := range map[string]bool{
		"these tests look at processes through /proc": runtime.GOOS == "linux",
		"no Go tool to build the program with":        err == nil || os.Getenv("COCOON_BIN") != "",
	} {
		if !have && os.Getenv("COCOON_REQUIRE") != "" {
			t.Fatalf("%s, and COCOON_REQUIRE is set", lacking)
		}
		if !have {
			t.Skip(lacking)
		}
	}
	if testing.Short() {
		t.Skip("-short: no processes")
	}
	path, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, patience)
		}
	}
}

// environ is this process's environment without what would steer the program.
func environ() []string {
	var out []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "COCOON_") && !strings.HasPrefix(kv, "LISTEN_") && !strings.HasPrefix(kv, "OPENAI_") {
			out = append(out, kv)
		}
	}
	return out
}

// process is a run of the program.
type process struct {
	cmd    *exec.Cmd
	lines  chan string // of standard output
	log    string      // file of standard error
	ended  chan struct{}
	exited error
}

// start runs the program in dir. It is ended with the test.
func start(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(program(t), args...), lines: make(chan string, 100), ended: make(chan struct{})}
	log, err := os.CreateTemp(t.TempDir(), "stderr-")
	if err != nil {
		t.Fatal(err)
	}
	p.log = log.Name()
	p.cmd.Dir, p.cmd.Env, p.cmd.Stderr = dir, environ(), log
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
		defer log.Close()
		s := bufio.NewScanner(stdout)
		for s.Scan() {
			select {
			case p.lines <- s.Text():
			default:
			}
		}
		p.exited = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(os.Interrupt)
		select {
		case <-p.ended:
		case <-time.After(patience):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
		if t.Failed() {
			t.Logf("== cocoon %s\n%s", strings.Join(args, " "), tail(p.log))
		}
	})
	return p
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4000):])
}

// ready waits for the line "ready X" and returns X.
func (p *process) ready(t *testing.T) string {
	t.Helper()
	limit := time.After(patience)
	for {
		select {
		case line := <-p.lines:
			if x, ok := strings.CutPrefix(line, "ready "); ok {
				return x
			}
		case <-p.ended:
			t.Fatalf("%v ended before it was ready: %v\n%s", p.cmd.Args, p.exited, tail(p.log))
		case <-limit:
			t.Fatalf("%v is not ready after %v", p.cmd.Args, patience)
		}
	}
}

// run runs the program to its end in dir.
func run(t *testing.T, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(program(t), args...)
	var out, errs bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.Env = dir, &out, &errs, environ()
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// must runs a command that succeeds and decodes its JSON into v, unless nil.
func must(t *testing.T, dir string, v any, args ...string) string {
	t.Helper()
	code, out, errs := run(t, dir, args...)
	if code != 0 {
		t.Fatalf("cocoon %s: exit code %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(out), v); err != nil {
			t.Fatalf("cocoon %s: %v in %s", strings.Join(args, " "), err, out)
		}
	}
	return out
}

// network is a `cocoon up` of a test.
type network struct {
	*process
	t    *testing.T
	dir  string
	base string // http://HOST:PORT/v1
}

// up runs `cocoon up` on free ports and waits until it is ready.
func up(t *testing.T, dir string) *network {
	t.Helper()
	p := start(t, "", "up", "--dir", dir, "--listen", "127.0.0.1:0")
	t.Cleanup(func() {
		if logs, _ := filepath.Glob(filepath.Join(dir, "logs", "*")); t.Failed() {
			for _, name := range logs {
				t.Logf("== %s\n%s", name, tail(name))
			}
		}
	})
	return &network{process: p, t: t, dir: dir, base: p.ready(t)}
}

// stop ends the network as Ctrl-C does.
func (n *network) stop() {
	n.t.Helper()
	if err := n.cmd.Process.Signal(os.Interrupt); err != nil {
		n.t.Fatal(err)
	}
	select {
	case <-n.ended:
	case <-time.After(patience):
		n.t.Fatalf("the network has not stopped after %v", patience)
	}
	if n.exited != nil {
		n.t.Errorf("the network ended with %v", n.exited)
	}
}

// killAll ends every process of the network as a power cut does.
func (n *network) killAll() {
	n.t.Helper()
	family := func() (pids []int) {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			n.t.Fatal(err)
		}
		for _, e := range entries {
			pid, err := strconv.Atoi(e.Name())
			if err != nil {
				continue
			}
			cmdline, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
			if err == nil && strings.Contains(string(cmdline), n.dir) {
				pids = append(pids, pid)
			}
		}
		return pids
	}
	killed := map[int]bool{}
	eventually(n.t, "end of all processes", func() bool {
		pids := family()
		for _, pid := range pids { // all of them run on a folder of this test
			_ = syscall.Kill(pid, syscall.SIGKILL)
			killed[pid] = true
		}
		return len(pids) == 0
	})
	// One that is dying has no command line any more and still holds its locks.
	eventually(n.t, "that they let go of everything", func() bool {
		for pid := range killed {
			if testee.Lives(pid) {
				return false
			}
		}
		return true
	})
	<-n.ended
}

// caller is an app that keeps its connections.
var caller = &http.Client{Timeout: patience}

// ask sends a chat completion and returns what it is said to cost.
func ask(base string) (cost int64, err error) {
	const q = `{"model":"cocoon-demo-1","max_tokens":8,"messages":[{"role":"user","content":"What is Cocoon?"}]}`
	resp, err := caller.Post(base+"/chat/completions", "application/json", strings.NewReader(q))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return 0, err
	}
	var a struct {
		Choices []struct{ Message struct{ Content string } }
		Usage   struct {
			Cost int64 `json:"cost_nano"`
		}
	}
	if err := json.Unmarshal(b, &a); err != nil || resp.StatusCode != http.StatusOK || len(a.Choices) == 0 || a.Choices[0].Message.Content == "" || a.Usage.Cost <= 0 {
		return 0, fmt.Errorf("%s: %s", resp.Status, b)
	}
	return a.Usage.Cost, nil
}

// askMany asks count times, some at a time, and returns the sum of the costs.
func askMany(t *testing.T, base string, count int) (cost int64) {
	t.Helper()
	const atOnce = 8
	var mu sync.Mutex
	var wg sync.WaitGroup
	turns := make(chan struct{}, count)
	for range count {
		turns <- struct{}{}
	}
	close(turns)
	for range atOnce {
		wg.Go(func() {
			for range turns {
				c, err := ask(base)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				cost += c
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return cost
}
