// Package modelhash names a model by its content: the name a worker advertises
// is name@commit:root, where root is the dm-verity root hash of a normalised
// tar archive of the model's files (spec attestation 7).
//
// Owns: the archive, the hash tree, full model names.
// Imports: cocoon.
// Trust: reads a folder somebody else may have filled; what cannot be part of
// a reproducible archive is refused, and so is a file that changes meanwhile.
// Concurrency: functions are independent; a Tree has one user.
package modelhash

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon"
)

// Root is the root hash of an archive.
type Root [sha256.Size]byte

// String returns 64 lower-case hex digits.
func (r Root) String() string { return hex.EncodeToString(r[:]) }

// Errors that callers tell apart.
var (
	// ErrMismatch: the files are not those the name promises.
	ErrMismatch = errors.New("the model's files are not those of its name")
	// ErrName: not a full model name.
	ErrName = errors.New("not a full model name, name@commit:hash with 64 hex digits")
)

// MaxName is the longest full name in bytes that is read or made.
const MaxName = 1024

// Name puts a full name together. The name ends at the first '@' and the root
// begins after the last ':', so neither may stand where it would mislead.
func Name(name, commit string, root Root) (cocoon.ModelName, error) {
	if !plain(name) || strings.Contains(name, "@") {
		return "", fmt.Errorf("%w: the name %q is empty or has '@', a space or a control character in it", ErrName, name)
	}
	if !plain(commit) || strings.ContainsAny(commit, "@:") {
		return "", fmt.Errorf("%w: the commit %q is empty or has '@', ':', a space or a control character in it", ErrName, commit)
	}
	full := cocoon.ModelName(name + "@" + commit + ":" + root.String())
	if len(full) > MaxName {
		return "", fmt.Errorf("%w: %d bytes, at most %d", ErrName, len(full), MaxName)
	}
	return full, nil
}

// Parse takes a full name apart.
func Parse(full cocoon.ModelName) (name, commit string, root Root, err error) {
	fail := func(why string) (string, string, Root, error) {
		return "", "", Root{}, fmt.Errorf("%w: %s", ErrName, why)
	}
	if len(full) > MaxName {
		return fail("it is too long")
	}
	name, rest, ok := strings.Cut(string(full), "@")
	if !ok {
		return fail("it has no '@'")
	}
	commit, digits, ok := strings.Cut(rest, ":")
	if !ok {
		return fail("it has no ':' after the commit")
	}
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(root) || strings.ToLower(digits) != digits {
		return fail("the hash is not 64 lower-case hex digits")
	}
	copy(root[:], b)
	if _, err := Name(name, commit, root); err != nil {
		return "", "", Root{}, err
	}
	return name, commit, root, nil
}

func plain(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	})
}

// Listed is what the root contract lists for a model: SHA-256 over the whole
// full name (spec contracts 4.1).
func Listed(full cocoon.ModelName) [32]byte { return sha256.Sum256([]byte(full)) }

// Progress is told now and then how many bytes of how many are hashed.
type Progress func(done, total int64)

// Hash returns the root hash of the model at path:
//   - a folder: of the archive made of it;
//   - a file that ends in ".tar": of that archive as it is, which must be
//     padded already, as WriteArchive does;
//   - any other file: of the archive of a folder that holds this file only.
//
// It reads once and keeps a few megabytes. progress may be nil.
func Hash(ctx context.Context, path string, progress Progress) (Root, error) {
	var tree Tree
	if strings.EqualFold(filepath.Ext(path), ".tar") {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			if err := copyArchive(ctx, &tree, path, info, progress); err != nil {
				return Root{}, err
			}
			return tree.Root()
		}
	}
	if _, err := WriteArchive(ctx, &tree, path, progress); err != nil {
		return Root{}, err
	}
	return tree.Root()
}

// Check hashes the model at path and compares with its full name. It returns
// nil or an error that wraps ErrMismatch, ErrName or the reason why the files
// cannot be read.
func Check(ctx context.Context, path string, full cocoon.ModelName, progress Progress) error {
	_, _, want, err := Parse(full)
	if err != nil {
		return err
	}
	got, err := Hash(ctx, path, progress)
	if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("%w: %s hashes to %s, the name says %s: serve the files of that name, or the name of these files", ErrMismatch, path, got, want)
	}
	return nil
}
