package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func specFolder() fstest.MapFS {
	return fstest.MapFS{
		"init":            {Data: []byte("#!/bin/sh\nexit 0\n"), Mode: 0o755},
		"a/b.txt":         {Data: []byte("hello\n"), Mode: 0o644},
		"a.json":          {Data: []byte("{}\n"), Mode: 0o644},
		".gitignore":      {Data: []byte("runtime\n"), Mode: 0o644},
		"runtime/secrets": {Data: []byte("x"), Mode: 0o600},
		"spec.meta":       {Data: []byte("made=today\n"), Mode: 0o644},
	}
}

const specID = "b5f29b757f5a9791eecfe650b41382a5b81329069a26ca2bc7315f269aef78f1"

// TestVectors are those of spec attestation 6.2, 6.3 and changes-2026-04 16.
func TestVectors(t *testing.T) {
	if got := object("blob", []byte("hello\n")).String(); got != "2cf8d83d9ee29543b34a87727421fdecb7e3f3a183d337639025de576db9ebb4" {
		t.Errorf("blob %s", got)
	}
	tree, err := SpecTree(specFolder())
	if err != nil || tree.String() != specID {
		t.Fatalf("spec %s, %v", tree, err)
	}
	for _, c := range []struct {
		name string
		got  Register
		want string
	}{
		{"first digest", Digest(Log(tree, false, December)[0]), "f1f0ae35b508f658c05d8b885f5a93f1032bf27a043c078827d5553fec007e5082ef1c5773e9f9c9c02ee02e1f18bb5c"},
		{"after one line", RTMR3(Log(tree, false, December)[:1]), "0701442921bfb74979ee414b442f27e4dea15db385945196fbabf8d0329968b593572428ab120126bb536bb42c87ad9a"},
		{"last digest", Digest(Log(tree, false, December)[1]), "fc05341f8eb5a02c1172fb792e47710a3fba78b2dd930a5fa9d889c8968e25c75e67444313b6deb1281bde06a23cb403"},
		{"production", RTMR3(Log(tree, false, December)), "d4d9608163ed38c833525549dec3df79b891b73862883e59f322384e0b385fc21fd5355ff5c9d09b7a8233ef3e8de6b5"},
		{"production, April", RTMR3(Log(tree, false, April)), "d4d9608163ed38c833525549dec3df79b891b73862883e59f322384e0b385fc21fd5355ff5c9d09b7a8233ef3e8de6b5"},
		{"debug", RTMR3(Log(tree, true, December)), "c8df18e30ac5ee3b79bc381d9c770c85b11bb5faae13d6042f7b9afd07ea592b74b231bc7965b298ffc8087857de5f80"},
		{"debug, April", RTMR3(Log(tree, true, April)), "4a848eb9913bc5ac83e5564ffbae6c7e9e3f353a53c4091e26cd4ced1cebe3b5702ca3c54b96126ffa554a8ebd636d73"},
	} {
		if c.got.String() != c.want {
			t.Errorf("%s: %s", c.name, c.got)
		}
	}
}

func TestSpecRefused(t *testing.T) {
	for name, edit := range map[string]func(f fstest.MapFS){
		"a repository": func(f fstest.MapFS) { f["a/.git/HEAD"] = &fstest.MapFile{} },
		"a large file": func(f fstest.MapFS) { f["a/big"] = &fstest.MapFile{Data: make([]byte, maxSpecFile+1)} },
		"a large ignored one": func(f fstest.MapFS) {
			f["x/big"] = &fstest.MapFile{Data: make([]byte, maxSpecFile+1)}
			f[".gitignore"].Data = []byte("x")
		},
		"a link":            func(f fstest.MapFS) { f["link"] = &fstest.MapFile{Data: []byte("init"), Mode: fs.ModeSymlink} },
		"a pipe":            func(f fstest.MapFS) { f["pipe"] = &fstest.MapFile{Mode: fs.ModeNamedPipe} },
		"another spec.tree": func(f fstest.MapFS) { f["spec.tree"] = &fstest.MapFile{Data: []byte(strings.Repeat("0", 64))} },
		"many rules":        func(f fstest.MapFS) { f[".gitignore"].Data = bytes.Repeat([]byte("x\n"), maxIgnoreRules+1) },
		"deep folders":      func(f fstest.MapFS) { f[strings.Repeat("d/", maxSpecDepth+2)+"x"] = &fstest.MapFile{} },
	} {
		f := specFolder()
		edit(f)
		if id, err := SpecTree(f); !errors.Is(err, ErrSpec) {
			t.Errorf("%s: %s, %v", name, id, err)
		}
	}
	f := specFolder()
	f["spec.tree"] = &fstest.MapFile{Data: []byte(specID + "\n")}
	f["runtime/big"] = &fstest.MapFile{Data: make([]byte, maxSpecFile+1)}
	f["empty"] = &fstest.MapFile{Mode: fs.ModeDir | 0o755}
	if id, err := SpecTree(f); err != nil || id.String() != specID {
		t.Errorf("%s, %v", id, err)
	}
}

func TestIgnore(t *testing.T) {
	for _, c := range []struct {
		rules, path string
		isDir, want bool
	}{
		{"*.o", "a/b/x.o", false, true},
		{"*.o\n!x.o", "x.o", false, false},
		{"!x.o\n*.o", "x.o", false, true},
		{"/x", "x", false, true},
		{"/x", "a/x", false, false},
		{"a/x", "a/x", false, true},
		{"a/x", "b/a/x", false, false},
		{"x/", "x", false, false},
		{"x/", "b/x", true, true},
		{"a/**", "a/b/c", false, true},
		{"a/**", "a", true, false},
		{"**/x", "x", false, true},
		{"**/x", "a/b/x", false, true},
		{"a/**/x", "a/x", false, true},
		{"a/**/x", "a/b/c/x", false, true},
		{"a*/x", "ab/c/x", false, false},
		{"# comment", "# comment", false, false},
		{`\#x`, "#x", false, true},
		{`\!x`, "!x", false, true},
		{"x  ", "x", false, true},
		{`x\ `, "x ", false, true},
		{"x[0-9a]?", "x7z", false, true},
		{"x[!0-9]", "x7", false, false},
		{"x[^0-9]", "xq", false, true},
		{"x[]]", "x]", false, true},
		{"x[a-]", "x-", false, true},
		{"x[[:digit:]_]", "x_", false, true},
		{"x[[:nothing:]]", "xn", false, false},
		{"x[", "x[", false, false},
		{`x\`, `x\`, false, false},
		{"a*b*c", "aXbXbc", false, true},
		{"a*b*c", "aXbX", false, false},
		{"x\r", "x", false, true},
		{"/", "x", true, false},
		{"é?", "é1", false, true},
	} {
		f, err := parseIgnore(nil, ".", c.rules)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.ignores(c.path, c.isDir); got != c.want {
			t.Errorf("%q ignores %q: %v", c.rules, c.path, got)
		}
	}
	// A nearer file wins.
	top, err := parseIgnore(nil, ".", "*.txt\n/a/only")
	if err != nil {
		t.Fatal(err)
	}
	near, err := parseIgnore(top, "a", "!keep.txt\n/only")
	if err != nil {
		t.Fatal(err)
	}
	if near.ignores("a/keep.txt", false) || !near.ignores("a/b.txt", false) || !near.ignores("a/only", false) || near.ignores("a/b/only", false) {
		t.Error("rules of nested files")
	}
	// No pattern is expensive.
	f, err := parseIgnore(nil, ".", strings.Repeat("**/", maxIgnoreParts-2)+"x\n"+strings.Repeat("*a", 1000))
	if err != nil {
		t.Fatal(err)
	}
	if f.ignores(strings.Repeat("aaaaaaaaaa/", 60)+"y", false) {
		t.Error("y is ignored")
	}
}

// TestAgainstGit makes up folders with rules and asks git, where there is one,
// for their trees.
func TestAgainstGit(t *testing.T) {
	git, err := exec.LookPath("git")
	if err != nil {
		t.Skip("no git on this machine")
	}
	run := func(dir string, args ...string) (string, error) {
		c := exec.Command(git, args...)
		c.Dir = dir
		c.Env = []string{"HOME=" + dir, "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "XDG_CONFIG_HOME=" + dir, "PATH=" + os.Getenv("PATH")}
		out, err := c.CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	rng := rand.New(rand.NewPCG(1, 2))
	names := []string{"a", "b", "ab", "a.txt", "b.txt", "x-1", "x0", "[a]", "a b", "Z"}
	rules := []string{"a", "*.txt", "!a.txt", "/a", "a/", "a/b", "**/b", "a/**", "a/**/b", "x[0-9]", "x?[!a-z]", `\[a\]`, "[[]a]", "a\\ b", "!b", "b/*", "!b/a.txt", "*", "!*/", "# a", "?b", "x-*", "!/Z", "Z/"}
	for range 10 {
		dir := t.TempDir()
		var fill func(at string, depth int)
		fill = func(at string, depth int) {
			if rng.IntN(3) == 0 {
				var lines []string
				for range 1 + rng.IntN(3) {
					lines = append(lines, rules[rng.IntN(len(rules))])
				}
				if err := os.WriteFile(filepath.Join(at, ".gitignore"), []byte(strings.Join(lines, "\n")), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range names {
				full := filepath.Join(at, name)
				switch rng.IntN(4) {
				case 0:
					if depth < 3 {
						if err := os.Mkdir(full, 0o755); err != nil {
							t.Fatal(err)
						}
						fill(full, depth+1)
					}
				case 1, 2:
					mode := fs.FileMode(0o644)
					if rng.IntN(3) == 0 {
						mode = 0o755
					}
					if err := os.WriteFile(full, fmt.Appendf(nil, "%s %d", full, rng.IntN(3)), mode); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		work := filepath.Join(dir, "work")
		if err := os.Mkdir(work, 0o755); err != nil {
			t.Fatal(err)
		}
		fill(work, 0)
		ours, err := SpecTree(os.DirFS(work))
		if err != nil {
			t.Fatal(err)
		}
		repo := filepath.Join(dir, "repo")
		if out, err := run(dir, "init", "-q", "--object-format=sha256", repo); err != nil {
			t.Skipf("this git makes no repositories with SHA-256: %s", out)
		}
		at := []string{"--git-dir=" + repo + "/.git", "--work-tree=" + work}
		for _, args := range [][]string{{"add", "-A", "."}, {"rm", "-q", "-r", "--cached", "--ignore-unmatch", ":(glob)**/.gitignore"}} {
			if out, err := run(work, append(at, args...)...); err != nil {
				t.Fatalf("git %s: %s", args, out)
			}
		}
		theirs, err := run(work, append(at, "write-tree")...)
		if err != nil {
			t.Fatal(theirs)
		}
		if ours.String() != theirs {
			t.Errorf("ours %s, git %s in %s", ours, theirs, dir)
			out, _ := run(work, append(at, "ls-files")...)
			t.Log(out)
			break
		}
	}
}

func FuzzIgnore(f *testing.F) {
	f.Add("*.txt\n!a\n/b/\nc/**/d[a-z]\\ ", "c/x/da")
	f.Fuzz(func(t *testing.T, rules, name string) {
		file, err := parseIgnore(nil, ".", rules)
		if err != nil || len(name) > 1000 {
			return
		}
		// The order of evaluation is the only state: asking twice is the same.
		if file.ignores(name, true) != file.ignores(name, true) {
			t.Error("two answers")
		}
		if len(file.rules) == 0 && file.ignores(name, true) {
			t.Error("ignored without a rule")
		}
	})
}
