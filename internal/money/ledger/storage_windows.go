package ledger

import (
	"errors"
	"fmt"
	"syscall"
)

const sharingViolation = syscall.Errno(32)

// lock opens a file without sharing, which excludes every other process until
// this one ends.
func lock(path string) (unlock func() error, err error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, err
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ|syscall.GENERIC_WRITE, 0, nil, syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if errors.Is(err, sharingViolation) {
		return nil, fmt.Errorf("%w: stop it first", ErrLocked)
	}
	if err != nil {
		return nil, err
	}
	return func() error { return syscall.CloseHandle(h) }, nil
}

// sync does nothing: the file system journals names.
func (d directory) sync() error { return nil }
