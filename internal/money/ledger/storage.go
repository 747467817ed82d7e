package ledger

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// ErrLocked says that another process has the directory open.
var ErrLocked = errors.New("directory is in use by another process")

// storage is one journal's directory. Tests put one in its place that dies.
type storage interface {
	names() ([]string, error)
	read(name string) ([]byte, error)
	create(name string) (file, error)
	rename(from, to string) error
	remove(name string) error
	sync() error // makes create, rename and remove durable
	path(name string) string
}

type file interface {
	io.Writer
	Sync() error
	Close() error
}

// directory is storage on disk.
type directory string

// openDirectory makes dir if needed, locks it and returns it with the
// function that unlocks it.
func openDirectory(dir string) (directory, func() error, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("ledger: %w", err)
	}
	// The directory itself must survive a crash as well.
	if err := directory(filepath.Dir(dir)).sync(); err != nil {
		return "", nil, fmt.Errorf("ledger: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", nil, fmt.Errorf("ledger %s: %w", dir, err)
	}
	return directory(dir), unlock, nil
}

func (d directory) path(name string) string { return filepath.Join(string(d), name) }

func (d directory) names() ([]string, error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, nil
}

func (d directory) read(name string) ([]byte, error) { return os.ReadFile(d.path(name)) }

func (d directory) create(name string) (file, error) {
	return os.OpenFile(d.path(name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
}

func (d directory) rename(from, to string) error { return os.Rename(d.path(from), d.path(to)) }
func (d directory) remove(name string) error     { return os.Remove(d.path(name)) }

// Lock takes the exclusive lock on a file, for others who keep books: the
// system drops it when the process ends. ErrLocked: another process has it.
func Lock(path string) (unlock func() error, err error) { return lock(path) }
