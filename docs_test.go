package cocoon

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLinks: what a document of this repository points to inside it is there.
func TestLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.*)$`)
	anchors := func(text string) (all []string) {
		for _, h := range heading.FindAllStringSubmatch(text, -1) {
			word := func(r rune) rune {
				switch {
				case r == ' ':
					return '-'
				case strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_", r):
					return r
				}
				return -1
			}
			all = append(all, strings.Map(word, strings.ToLower(h[1])))
		}
		return all
	}
	for _, name := range documents(t) {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.Join(filepath.Dir(name), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s points to %s: %v", name, m[1], err)
				continue
			}
			if anchor == "" {
				continue
			}
			b, err := os.ReadFile(target)
			if err != nil || !slices.Contains(anchors(string(b)), anchor) {
				t.Errorf("%s points to %s: no such heading (%v)", name, m[1], err)
			}
		}
	}
}

// TestIndexes: the list of dependencies has the direct ones, each once and no
// other, and the list of decisions all of them.
func TestIndexes(t *testing.T) {
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, m := range mod.Require {
		if !m.Indirect {
			direct = append(direct, m.Path)
		}
	}
	b, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, row := range regexp.MustCompile(`(?m)^\| ([a-z][^ |]*\.[^ |]*/[^ |]*) \|`).FindAllStringSubmatch(string(b), -1) {
		listed = append(listed, row[1])
	}
	slices.Sort(direct)
	slices.Sort(listed)
	if !slices.Equal(direct, listed) {
		t.Errorf("docs/dependencies.md lists %q, go.mod has %q", listed, direct)
	}
	if len(direct) > 20 {
		t.Errorf("%d direct dependencies, 20 are allowed", len(direct))
	}

	decisions, err := filepath.Glob("docs/adr/0*.md")
	if err != nil || len(decisions) == 0 {
		t.Fatalf("no decisions: %v", err)
	}
	index, err := os.ReadFile("docs/adr/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range decisions {
		b, err := os.ReadFile(d)
		if err != nil {
			t.Fatal(err)
		}
		title, _, _ := strings.Cut(strings.TrimPrefix(string(b), "# "), "\n")
		_, title, _ = strings.Cut(title, ". ")
		if line := "[" + title + "](" + filepath.Base(d) + ")"; !strings.Contains(string(index), line) {
			t.Errorf("docs/adr/README.md has no %s", line)
		}
	}
}

// TestRules: docs/rules.md names tests and source files that exist.
func TestRules(t *testing.T) {
	b, err := os.ReadFile("docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err = filepath.WalkDir(".", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(text), -1) {
			have[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(string(b), -1)
	if len(named) == 0 {
		t.Error("docs/rules.md names no test")
	}
	for _, name := range named {
		if !have[name] {
			t.Errorf("docs/rules.md names %s, which is not there", name)
		}
	}
	for _, m := range regexp.MustCompile("`((?:role/\\w+|\\w+)(?:/\\w+)?)` (\\w+\\.go)").FindAllStringSubmatch(string(b), -1) {
		for _, dir := range []string{"internal", "."} {
			if _, err := os.Stat(filepath.Join(dir, m[1], m[2])); err == nil {
				m = nil
				break
			}
		}
		if m != nil {
			t.Errorf("docs/rules.md names %s of %s, which is not there", m[2], m[1])
		}
	}
}

// documents lists the repository's pages.
func documents(t *testing.T) (names []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "e2e/*.md", "examples/*/*.md", "tools/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}
