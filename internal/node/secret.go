package node

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// readSecret reads a file that nobody else may read.
func readSecret(path string) ([]byte, error) {
	if path == "" {
		return nil, errors.New("no file is named")
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %04o): run chmod 600 on it", path, info.Mode().Perm())
	}
	return readSmall(path)
}

// secretText reads a login secret; no file stands for none.
func secretText(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	b, err := readSecret(path)
	if err != nil {
		return "", fmt.Errorf("configuration: runtime.secret_file: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
