package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Process is an engine's program, kept running.
type Process struct {
	// Name says which one it is, in logs and on status pages.
	Name string
	// Args is the command with its arguments, Env what is added to the few
	// variables it inherits.
	Args, Env []string
	// Stop is how long it may take to end after SIGTERM; 0 = 10 s.
	Stop time.Duration

	restarts atomic.Int64
	serving  atomic.Bool // it has had a request since it was started
}

// Pauses between restarts: a program that cannot run is tried ever less often.
const (
	minPause = 500 * time.Millisecond
	maxPause = time.Minute
	goodRun  = time.Minute // after such a run the next restart comes at once
	stopWait = 10 * time.Second
	maxTail  = 2 << 10
)

// Supervised is the process of a plan and the source that reaches it.
func (p *Plan) Supervised(name string) (Source, error) {
	if p.Image != "" {
		return Source{}, errors.New("only programs of this machine are supervised: containers have a supervisor of their own")
	}
	if _, err := exec.LookPath(p.Args[0]); err != nil {
		return Source{}, fmt.Errorf("%s is not installed: %q is not in PATH", p.Make.Name, p.Args[0])
	}
	return Source{Config: Config{BaseURL: p.URL, Dialect: p.Make.Dialect}, Process: &Process{Name: name, Args: p.Args, Env: p.Env}}, nil
}

// Run keeps the process running until ctx ends; then it is asked to stop, and
// made to. What is sent on again restarts it. failed is told why it is not
// there. A log of nil discards.
func (p *Process) Run(ctx context.Context, log *slog.Logger, again <-chan struct{}, failed func(error)) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	pause := minPause
	for ctx.Err() == nil {
		begin := time.Now()
		log.Info("starting the engine", "engine", p.Name, "program", p.Args[0])
		err := p.once(ctx, again)
		if ctx.Err() != nil {
			return
		}
		failed(fmt.Errorf("%w: %v", ErrUnreachable, err))
		log.Warn("the engine's process ended", "engine", p.Name, "err", err, "restart_in", pause)
		if time.Since(begin) > goodRun {
			pause = minPause
		}
		sleep(ctx, pause)
		pause = min(2*pause, maxPause)
		p.restarts.Add(1)
	}
}

// once runs the process to its end. It dies with this one, and what it started
// with it.
func (p *Process) once(ctx context.Context, again <-chan struct{}) error {
	// The kernel sends the signal of PR_SET_PDEATHSIG when the thread that
	// started the process ends: it has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p.serving.Store(false)
	out := &tail{serving: &p.serving}
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Env = append(inherited(os.Environ()), p.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = ownGroup()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("it does not start: %w", err)
	}
	over := make(chan error, 1)
	go func() { over <- cmd.Wait() }()
	var err error
	select {
	case err = <-over:
		// What it started must not outlive it.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	case <-ctx.Done():
		p.end(cmd, over)
		return nil
	case <-again:
		p.end(cmd, over)
		return errors.New("it did not answer")
	}
	why := "it ended by itself"
	if err != nil {
		why = err.Error()
	}
	if text := out.text(); text != "" {
		why += ": " + text
	}
	return errors.New(why)
}

// end asks the process to stop and insists if it does not.
func (p *Process) end(cmd *exec.Cmd, over <-chan error) {
	wait := p.Stop
	if wait == 0 {
		wait = stopWait
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-over:
	case <-t.C:
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-over
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}

// inherited are the variables an engine needs to find its libraries and GPUs.
// Ours, which may hold secrets, are none of its business.
func inherited(environ []string) []string {
	var out []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "PATH", name == "HOME", name == "TMPDIR", name == "LANG", name == "LD_LIBRARY_PATH", name == "VIRTUAL_ENV",
			strings.HasPrefix(name, "CUDA_"), strings.HasPrefix(name, "NVIDIA_"), strings.HasPrefix(name, "GGML_"),
			strings.HasPrefix(name, "ROCR_"), strings.HasPrefix(name, "HIP_"):
			out = append(out, kv)
		}
	}
	return out
}

// tail keeps the last lines of what a process said before its first request:
// why it cannot start. Later output may quote requests and is not kept.
type tail struct {
	serving *atomic.Bool
	mu      sync.Mutex
	b       []byte
}

var _ io.Writer = (*tail)(nil)

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.serving.Load() {
		t.b = nil
		return len(b), nil
	}
	t.b = append(t.b, b...)
	if over := len(t.b) - maxTail; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(b), nil
}

// text returns the last line.
func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.serving.Load() {
		return ""
	}
	s := strings.TrimSpace(string(t.b))
	if i := strings.LastIndexByte(s, '\n'); i >= 0 {
		s = s[i+1:]
	}
	return strings.ToValidUTF8(s, "?")
}
