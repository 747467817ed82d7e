// Package topo starts the chains that are compared, each process pinned, and
// reads what the kernel says they took.
//
// Owns: Topology and its kinds, Process, certificates for the peers.
// Imports: cocoon's wallet and simulated vendor, for keys and evidence.
// Concurrency: a Topology belongs to one goroutine.
package topo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// Process is one pinned child.
type Process struct {
	Name string
	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
}

// Pin confines the calling thread to cores. A process started from it begins
// there, and so do its threads.
func Pin(cores []int) error {
	var mask [16]uint64
	for _, c := range cores {
		mask[c/64] |= 1 << (c % 64)
	}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(mask), uintptr(unsafe.Pointer(&mask[0]))); errno != 0 {
		return fmt.Errorf("pinning to cores %v: %w", cores, errno)
	}
	return nil
}

// Start starts a program pinned to cores; its output goes to dir/name.log.
func Start(dir, name string, cores []int, env []string, program string, args ...string) (*Process, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.Env = append(os.Environ(), env...)
	p := &Process{Name: name, cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The thread is pinned for good, so it must not be used again: a
		// goroutine that ends locked takes its thread with it. It lives as long
		// as the child, whose life hangs on it.
		runtime.LockOSThread()
		if err := Pin(cores); err != nil {
			started <- err
			return
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		log.Close()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// Stop asks the process to end, and after five seconds makes it.
func (p *Process) Stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
	p.log.Close()
}

// Failed says why the process ended, nil while it runs.
func (p *Process) Failed() error {
	select {
	case <-p.done:
		b, _ := os.ReadFile(p.log.Name())
		return fmt.Errorf("%s ended: %s\n%s", p.Name, p.cmd.ProcessState, b[max(0, len(b)-2000):])
	default:
		return nil
	}
}

// CPU is the time all threads of the process have run, by the scheduler's own
// account. Threads that ended are missing; none of ours do.
func (p *Process) CPU() (time.Duration, error) { return CPU(p.cmd.Process.Pid) }

// CPU is the time all threads of a process have run.
func CPU(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("process %d has no account", pid)
	}
	var sum time.Duration
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// PSS is the process's memory in bytes, shared pages divided by their users.
func (p *Process) PSS() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(b) {
		if f := strings.Fields(string(line)); len(f) == 3 && f[0] == "Pss:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("%s: no PSS", p.Name)
}

// Machine is what /proc/stat says about all cores since the start, in ticks of
// 10 ms.
func Machine() (busy, all int64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, errors.New("/proc/stat is not readable")
	}
	for i, text := range f[1:9] {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		all += n
		if i != 3 && i != 4 { // idle, waiting for disks
			busy += n
		}
	}
	return busy, all, nil
}

// until polls ok until it returns nil.
func until(ctx context.Context, what string, procs []*Process, ok func() error) error {
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		for _, p := range procs {
			if dead := p.Failed(); dead != nil {
				return dead
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s did not get ready: %w", what, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
