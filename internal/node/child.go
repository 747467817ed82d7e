//go:build !tee

package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// child is one process of a network: this program in one role. Its listening
// sockets belong to the parent and outlive it.
type child struct {
	n          *network
	role, name string
	args       []string // of this program

	names   []string
	sockets []*net.TCPListener
	files   []*os.File

	mu       sync.Mutex
	cmd      *exec.Cmd
	pid      int
	restarts int
	stopping bool
	exited   chan struct{} // closed when supervise returned
}

// Restart pauses and stop limits.
const (
	minRestart = 100 * time.Millisecond
	maxRestart = 5 * time.Second
	// A child that ran this long before it died is restarted without delay.
	goodRun   = 10 * time.Second
	stopLimit = 20 * time.Second
	// maxLog is the size at which a log is moved aside.
	maxLog = 16 << 20
)

func (n *network) child(role, name string) *child {
	c := &child{n: n, role: role, name: name, exited: make(chan struct{})}
	n.children = append(n.children, c)
	return c
}

// addrsInUse are addresses that others listen at.
type addrsInUse []string

func (a addrsInUse) Error() string {
	return fmt.Sprintf("in use: %s; stop what listens there (another `cocoon up`?), or run `cocoon up --listen 127.0.0.1:0`, which chooses free ports", strings.Join(a, ", "))
}

// openings gathers what opening several sockets gave, into one error.
type openings struct {
	taken addrsInUse
	other error
}

func (o *openings) note(errs ...error) {
	for _, err := range errs {
		var in addrsInUse
		if errors.As(err, &in) {
			o.taken = append(o.taken, in...)
		} else {
			o.other = errors.Join(o.other, err)
		}
	}
}

func (o *openings) err() error {
	if len(o.taken) == 0 {
		return o.other
	}
	return errors.Join(o.other, o.taken)
}

// open opens a listening socket for the child.
func (c *child) open(name, addr string) error {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			return addrsInUse{addr}
		}
		return fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	tcp := ln.(*net.TCPListener)
	f, err := tcp.File()
	if err != nil {
		ln.Close()
		return err
	}
	c.names = append(c.names, name)
	c.sockets = append(c.sockets, tcp)
	c.files = append(c.files, f)
	return nil
}

func (c *child) closeSockets() {
	for i := range c.sockets {
		c.sockets[i].Close()
		c.files[i].Close()
	}
}

func (c *child) addr(name string) string {
	for i, n := range c.names {
		if n == name {
			return c.sockets[i].Addr().String()
		}
	}
	return ""
}

// now returns the process id, 0 while there is none, and how often it was
// restarted.
func (c *child) now() (pid, restarts int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid, c.restarts
}

// supervise runs the child again and again until it is stopped.
func (c *child) supervise(ctx context.Context) error {
	defer close(c.exited)
	pause := minRestart
	for first := true; ; first = false {
		begin := time.Now()
		err := c.once(first)
		c.mu.Lock()
		stopping := c.stopping
		c.restarts++
		c.mu.Unlock()
		if stopping || ctx.Err() != nil {
			return nil
		}
		var exit *exec.ExitError
		killed := errors.As(err, &exit) && !exit.Exited()
		if first && !killed && time.Since(begin) < time.Second {
			// It cannot even start: that will not mend itself.
			return fmt.Errorf("%s does not start: %s", c.name, c.lastLine(err))
		}
		if time.Since(begin) > goodRun {
			pause = minRestart
		}
		c.n.cfg.Progress("%s ended (%v), restarting", c.name, err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, maxRestart)
	}
}

// once runs the process to its end.
func (c *child) once(first bool) error {
	log, err := c.openLog()
	if err != nil {
		return err
	}
	defer log.Close()
	// The child holds the read end of the leash: when this process is gone,
	// however it went, the child sees its end and stops.
	leash, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	defer hold.Close()
	cmd := exec.Command(c.n.cfg.Executable, c.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = leash, log, log
	cmd.ExtraFiles = append(slices.Clone(c.files), c.n.lock)
	without := []string{"LISTEN_", "COCOON_RUNTIME_", "COCOON_MEASURED_"}
	if c.role != "worker" {
		without = append(without, EngineKeyVariable)
	}
	cmd.Env = append(environWithout(without...), LeashVariable+"=1")
	if len(c.files) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("LISTEN_FDS=%d", len(c.files)), "LISTEN_FDNAMES="+strings.Join(c.names, ":"))
	}
	// Ctrl-C in a terminal reaches the whole process group; children are
	// stopped in order instead.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		leash.Close()
		return nil
	}
	err = cmd.Start()
	leash.Close()
	if err == nil {
		c.cmd, c.pid = cmd, cmd.Process.Pid
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	c.announce()
	err = cmd.Wait()
	c.mu.Lock()
	c.cmd, c.pid = nil, 0
	c.mu.Unlock()
	if err == nil {
		err = errors.New("ended by itself")
	}
	return err
}

func (c *child) announce() {
	select {
	case c.n.changed <- struct{}{}:
	default:
	}
}

// stop asks the child to end and insists if it does not.
func (c *child) stop() {
	c.mu.Lock()
	c.stopping = true
	if c.cmd != nil {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
	}
	c.mu.Unlock()
	select {
	case <-c.exited:
	case <-time.After(stopLimit):
		c.mu.Lock()
		if c.cmd != nil {
			_ = c.cmd.Process.Kill()
		}
		c.mu.Unlock()
		<-c.exited
	}
}

func (c *child) logPath() string { return filepath.Join(c.n.cfg.Dir, "logs", c.name+".log") }

func (c *child) openLog() (*os.File, error) {
	path := c.logPath()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}

// lastLine is what the child said before it ended.
func (c *child) lastLine(err error) string {
	b, rerr := readTail(c.logPath(), maxLine)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if rerr != nil || lines[len(lines)-1] == "" {
		return err.Error()
	}
	return lines[len(lines)-1]
}

// maxLine is what is looked at to find the last line of a log.
const maxLine = 8 << 10

// readTail returns the last n bytes of a file, or all of a shorter one.
func readTail(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, n))
}

func environWithout(prefixes ...string) []string {
	var out []string
next:
	for _, kv := range os.Environ() {
		for _, p := range prefixes {
			if strings.HasPrefix(kv, p) {
				continue next
			}
		}
		out = append(out, kv)
	}
	return out
}
