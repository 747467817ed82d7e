package measure

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Tree is a git tree's id in the SHA-256 object format.
type Tree [32]byte

// String returns lower-case hex.
func (t Tree) String() string { return hex.EncodeToString(t[:]) }

// MarshalText writes hex.
func (t Tree) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads 64 hex digits.
func (t *Tree) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(t) {
		return inputError("a tree's id is %d hex digits", 2*len(t))
	}
	copy(t[:], b)
	return nil
}

// Limits of a spec folder (spec attestation 6.2) and of ours.
const (
	maxSpecFile  = 10 << 20
	maxSpecFiles = 100000
	maxSpecDepth = 64
)

// ErrSpec is the cause of every refused spec folder.
var ErrSpec = errors.New("measure: spec folder")

// SpecTree is the hash of a spec folder (spec attestation 6.2): the git tree
// of the files that its .gitignore files leave, without the folder runtime,
// spec.tree, spec.meta and the .gitignore files themselves. If the folder has
// a spec.tree, it must hold the same id.
func SpecTree(folder fs.FS) (Tree, error) {
	w := specWalk{folder: folder}
	root, err := w.dir(".", nil, 0, false)
	if err != nil {
		return Tree{}, err
	}
	id := root.id()
	said, err := fs.ReadFile(folder, "spec.tree")
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return Tree{}, fmt.Errorf("%w: %v", ErrSpec, err)
	case strings.TrimSpace(string(said)) != id.String():
		return Tree{}, fmt.Errorf("%w: its spec.tree names another tree than %s (changed since it was written?)", ErrSpec, id)
	}
	return id, nil
}

// treeDir is a folder in a git tree.
type treeDir struct{ entries []treeEntry }

type treeEntry struct {
	mode string
	name string
	id   Tree
}

// id hashes the folder. Git sorts by bytes, a folder as if its name ended
// in "/".
func (d *treeDir) id() Tree {
	key := func(e treeEntry) string {
		if e.mode == modeDir {
			return e.name + "/"
		}
		return e.name
	}
	slices.SortFunc(d.entries, func(a, b treeEntry) int { return strings.Compare(key(a), key(b)) })
	var b []byte
	for _, e := range d.entries {
		b = append(b, e.mode+" "+e.name+"\x00"...)
		b = append(b, e.id[:]...)
	}
	return object("tree", b)
}

// object is the id of a git object.
func object(kind string, content []byte) Tree {
	h := sha256.New()
	fmt.Fprintf(h, "%s %d\x00", kind, len(content))
	h.Write(content)
	return Tree(h.Sum(nil))
}

const (
	modeDir  = "40000"
	modeFile = "100644"
	modeExec = "100755"
)

type specWalk struct {
	folder fs.FS
	files  int
}

// dir reads one folder. Below an ignored one nothing is taken, but the rules
// that refuse a whole folder hold there too.
func (w *specWalk) dir(name string, above *ignoreFile, depth int, ignored bool) (*treeDir, error) {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrSpec}, args...)...)
	}
	if depth > maxSpecDepth {
		return nil, refuse("%s: folders nested deeper than %d", name, maxSpecDepth)
	}
	list, err := fs.ReadDir(w.folder, name)
	if err != nil {
		return nil, refuse("%v", err)
	}
	rules := above
	if slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() == ".gitignore" && e.Type().IsRegular() }) && !ignored {
		text, err := w.read(path.Join(name, ".gitignore"))
		if err != nil {
			return nil, err
		}
		if rules, err = parseIgnore(above, name, string(text)); err != nil {
			return nil, err
		}
	}
	d := &treeDir{}
	for _, e := range list {
		full := path.Join(name, e.Name())
		if e.Name() == ".git" {
			return nil, refuse("%s: a repository inside cannot be measured", full)
		}
		if name == "." && slices.Contains([]string{"runtime", "spec.tree", "spec.meta"}, e.Name()) {
			continue // runtime is not measured
		}
		if w.files++; w.files > maxSpecFiles {
			return nil, refuse("more than %d files", maxSpecFiles)
		}
		skip := ignored || rules.ignores(full, e.IsDir())
		if e.IsDir() {
			sub, err := w.dir(full, rules, depth+1, skip)
			if err != nil {
				return nil, err
			}
			if len(sub.entries) > 0 { // git knows no empty folders
				d.entries = append(d.entries, treeEntry{modeDir, e.Name(), sub.id()})
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return nil, refuse("%v", err)
		}
		if info.Mode().IsRegular() && info.Size() > maxSpecFile {
			return nil, refuse("%s: %d bytes, at most %d (is it meant for runtime?)", full, info.Size(), maxSpecFile)
		}
		if skip || e.Name() == ".gitignore" {
			continue
		}
		if !info.Mode().IsRegular() {
			return nil, refuse("%s: only regular files can be measured", full)
		}
		content, err := w.read(full)
		if err != nil {
			return nil, err
		}
		mode := modeFile
		if info.Mode().Perm()&0o100 != 0 {
			mode = modeExec
		}
		d.entries = append(d.entries, treeEntry{mode, e.Name(), object("blob", content)})
	}
	return d, nil
}

func (w *specWalk) read(name string) ([]byte, error) {
	b, err := fs.ReadFile(w.folder, name)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrSpec, err)
	}
	if len(b) > maxSpecFile {
		return nil, fmt.Errorf("%w: %s: %d bytes, at most %d", ErrSpec, name, len(b), maxSpecFile)
	}
	return b, nil
}
