package cocoon

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"
)

const module = "github.com/cocoon-network/cocoon"

// TestImportOrder holds deps.txt against the imports that really are there,
// with and without the tee tag.
func TestImportOrder(t *testing.T) {
	allowed := readDeps(t)
	for _, tags := range []string{"", "tee"} {
		cmd := exec.Command("go", "list", "-json=ImportPath,Imports,Doc,Name", "-tags="+tags, "./...")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		dec := json.NewDecoder(strings.NewReader(string(out)))
		for {
			var p struct {
				ImportPath, Doc, Name string
				Imports               []string
			}
			if err := dec.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			name := relative(p.ImportPath)
			rules, ok := allowed[name]
			if !ok {
				t.Errorf("package %s is not in deps.txt: add a line that says what it may import", name)
				continue
			}
			if p.Doc == "" {
				t.Errorf("package %s has no package comment", name)
			}
			for _, imp := range p.Imports {
				if imp != module && !strings.HasPrefix(imp, module+"/") {
					continue
				}
				if imp := relative(imp); imp != name && !permits(rules, imp) {
					t.Errorf("%s imports %s, which deps.txt does not allow", name, imp)
				}
			}
		}
	}
}

func relative(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func permits(rules []string, imp string) bool {
	for _, r := range rules {
		if prefix, ok := strings.CutSuffix(r, "/..."); ok && (imp == prefix || strings.HasPrefix(imp, prefix+"/")) {
			return true
		}
		if r == imp {
			return true
		}
	}
	return false
}

func readDeps(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	deps := map[string][]string{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, ok := strings.Cut(line, ":")
		if !ok || path.Clean(name) != name {
			t.Fatalf("deps.txt: cannot read %q", line)
		}
		deps[name] = strings.Fields(rest)
	}
	return deps
}
