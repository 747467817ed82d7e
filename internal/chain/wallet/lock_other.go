//go:build !unix

package wallet

import (
	"errors"
	"io/fs"
	"os"
)

var errLocked = errors.New("locked by another process (or by one that was killed: then delete the lock file)")

// tryLock takes the lock by creating the file, or returns errLocked.
func tryLock(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, errLocked
	}
	if err != nil {
		return nil, err
	}
	return func() error { return errors.Join(f.Close(), os.Remove(path)) }, nil
}
