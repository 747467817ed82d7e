package wallet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// ErrKeyFileMode is returned for a key file that others may read.
var ErrKeyFileMode = errors.New("key file is open to others")

const maxKeyFile = 4096

// WriteKeyFile writes key to a new file of mode 0600, as its mnemonic if it
// has one and as hex otherwise, and makes it durable. An existing file is
// never overwritten (fs.ErrExist).
func WriteKeyFile(path string, key Key) (err error) {
	if key.IsZero() {
		return fmt.Errorf("%w: it is empty", ErrKey)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("creating the key file: %w; it may hold the only copy of a key and is not overwritten: choose another name", err)
	}
	if err != nil {
		return fmt.Errorf("creating the key file: %w", err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(path)
		}
	}()
	seed := key.seed()
	text := key.words()
	if text == "" {
		text = fmt.Sprintf("%x", seed)
	}
	_, err = fmt.Fprintf(f, "# Cocoon wallet key. Whoever reads this file can spend from the wallet.\n%s\n", text)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing the key file %s: %w", path, err)
	}
	return nil
}

// ReadKeyFile reads a key file: a mnemonic, 64 hex digits or base64, with
// comment lines that begin with '#'. A file that anybody but its owner may
// read or write is refused.
func ReadKeyFile(path string) (Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return Key{}, fmt.Errorf("opening the key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Key{}, fmt.Errorf("reading the key file: %w", err)
	}
	if err := checkMode(path, info); err != nil {
		return Key{}, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return Key{}, fmt.Errorf("reading the key file: %w", err)
	}
	if len(b) > maxKeyFile {
		return Key{}, fmt.Errorf("key file %s: %w: it is longer than %d bytes", path, ErrKey, maxKeyFile)
	}
	key, err := ParseSecret(string(b))
	if err != nil {
		return Key{}, fmt.Errorf("key file %s: %w", path, err)
	}
	return key, nil
}

func checkMode(path string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("key file %s: %w: it is no regular file", path, ErrKey)
	}
	if runtime.GOOS == "windows" { // modes are not kept there
		return nil
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o; run: chmod 600 %s", ErrKeyFileMode, path, perm, path)
	}
	return nil
}

// ParseSecret reads a key in any written form: a mnemonic of 24 words, 64 hex
// digits or base64. Lines that begin with "#" are comments.
func ParseSecret(s string) (Key, error) {
	var text []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			text = append(text, strings.Fields(line)...)
		}
	}
	if len(text) == 1 {
		return ParseKey(text[0])
	}
	return ParseMnemonic(strings.Join(text, " "))
}

// syncDir makes a change of a folder's entries durable.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // folders cannot be opened there
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
