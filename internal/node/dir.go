package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// State is what a running network writes into its folder, so that commands
// find it.
type State struct {
	// Gateway is the OpenAI base address without /v1: http://HOST:PORT.
	Gateway string `json:"gateway"`
	// Pid is the process that runs `up`.
	Pid int `json:"pid"`
	// Simulated says that no hardware stands behind the network's evidence.
	Simulated bool `json:"simulated"`
	// Model is what callers ask for.
	Model string `json:"model"`
	// Phases are what the start took, in order.
	Phases   []Phase `json:"phases"`
	Children []Child `json:"children"`
}

// Phase is one part of the start.
type Phase struct {
	Name    string  `json:"name"` // engine, chain, contracts, processes
	Seconds float64 `json:"seconds"`
}

// Child is one process of the network.
type Child struct {
	Name string `json:"name"`
	Role string `json:"role"`
	Pid  int    `json:"pid"`
	// Status is the base address of its health and /jsonstats; "" for the
	// chain, which has none.
	Status   string `json:"status"`
	Restarts int    `json:"restarts"`
}

// DefaultDir is where `up` keeps a network unless told otherwise: the user's
// state folder.
func DefaultDir(getenv func(string) string) string {
	if d := getenv("COCOON_DIR"); d != "" {
		return d
	}
	if d := getenv("XDG_STATE_HOME"); d != "" {
		return filepath.Join(d, "cocoon")
	}
	return filepath.Join(getenv("HOME"), ".local", "state", "cocoon")
}

const stateFile = "network.json"

// ErrNotRunning says that no network runs in a folder.
var ErrNotRunning = errors.New("no network runs here")

// ReadState returns the network that runs in dir. It fails with ErrNotRunning
// if there is none.
func ReadState(dir string) (*State, error) {
	b, err := readSmall(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s holds no running network: start one with `cocoon up`, or name its folder with --dir", ErrNotRunning, dir)
	}
	if err != nil {
		return nil, err
	}
	var s State
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s in %s is damaged: %w", stateFile, dir, err)
	}
	if s.Pid <= 0 || syscall.Kill(s.Pid, 0) != nil {
		return nil, fmt.Errorf("%w: the network in %s is not running any more: start it with `cocoon up`", ErrNotRunning, dir)
	}
	return &s, nil
}

func (s *State) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, stateFile), append(b, '\n'), 0o600)
}

// writeFile replaces a file as a whole.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// leftoverLimit is how long the processes of a network that was killed may
// take to end.
const leftoverLimit = 30 * time.Second

// lockDir makes dir this process's own until the returned file is closed, here
// and in every child that inherits it: after a kill, the children that still
// end hold the lock, and whoever starts the network again waits for them.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the network's folder: %w; choose another one with --dir", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot write to the network's folder: %w; choose another one with --dir", err)
	}
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if _, running := ReadState(dir); errors.Is(err, syscall.EWOULDBLOCK) && errors.Is(running, ErrNotRunning) && time.Since(begin) < leftoverLimit {
			continue
		}
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another `cocoon up` runs in %s: stop it, or choose another folder with --dir", dir)
		}
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
}
