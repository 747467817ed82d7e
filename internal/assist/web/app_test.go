package web

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// TestAppFiles holds the app to what its policy lets it do: nothing inline,
// nothing from elsewhere, no text as markup; and each language to have the same
// words.
func TestAppFiles(t *testing.T) {
	inline := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|<script>|javascript:`)
	foreign := regexp.MustCompile(`(?i)(src|href)="(https?:)?//|(from|import\(?)\s*["'](https?:|//)|url\(\s*["']?(https?:|//)`)
	markup := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\(|new Function`)
	scripts := 0
	err := fs.WalkDir(appFiles, "app", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(appFiles, name)
		if err != nil {
			return err
		}
		switch path.Ext(name) {
		case ".html":
			if s := inline.Find(b); s != nil {
				t.Errorf("%s: inline: %q", name, s)
			}
		case ".js":
			scripts++
			if s := markup.Find(b); s != nil {
				t.Errorf("%s: text as markup or program: %q", name, s)
			}
		}
		if s := foreign.Find(b); s != nil {
			t.Errorf("%s: from elsewhere: %q", name, s)
		}
		if kinds[path.Ext(name)] == "" {
			t.Errorf("%s: is not served", name)
		}
		return nil
	})
	if err != nil || scripts < 8 {
		t.Fatalf("%d scripts, %v", scripts, err)
	}

	b, err := fs.ReadFile(appFiles, "app/i18n.js")
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string][]string{}
	table := regexp.MustCompile(`(?s)const (en|id|ru) = \{(.*?)\n\};`)
	key := regexp.MustCompile(`(?m)(?:^  |", )([A-Za-z_]+): "`)
	for _, m := range table.FindAllSubmatch(b, -1) {
		for _, k := range key.FindAllSubmatch(m[2], -1) {
			keys[string(m[1])] = append(keys[string(m[1])], string(k[1]))
		}
		slices.Sort(keys[string(m[1])])
	}
	if len(keys["en"]) < 150 || len(slices.Compact(slices.Clone(keys["en"]))) != len(keys["en"]) {
		t.Fatalf("%d English words, or some twice", len(keys["en"]))
	}
	// What the tasks of the page note has words in each language.
	noted := regexp.MustCompile(`append\((?:r\.Notes|out), (?:fmt\.Sprintf\()?"([^"]+)"`)
	said := 0
	for _, name := range []string{"../ask.go", "../compose.go", "../replies.go", "../summarize.go", "../translate.go", "search.go"} {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range noted.FindAllSubmatch(src, -1) {
			said++
			if n := strings.Count(string(b), strconv.Quote(strings.ReplaceAll(string(m[1]), "%d", "{n}"))+`: "`); n != 2 {
				t.Errorf("%s: the note %q has words in %d other languages, not 2", name, m[1], n)
			}
		}
	}
	if said < 12 {
		t.Errorf("%d notes; are they written in another way now?", said)
	}
	b, err = fs.ReadFile(appFiles, "app/task.js")
	if err != nil {
		t.Fatal(err)
	}
	known := regexp.MustCompile(`known = (\[.*?\]);`).FindSubmatch(b)
	var codes []string
	if known == nil || json.Unmarshal(known[1], &codes) != nil || len(codes) < 10 {
		t.Fatal("task.js does not say which errors it knows")
	}
	for _, c := range codes {
		if c != "offline" && !slices.Contains(openai.Codes(), c) {
			t.Errorf("task.js knows an error %q, which nobody sends", c)
		}
		if !slices.Contains(keys["en"], "err_"+c) {
			t.Errorf("there are no words for the error %q", c)
		}
	}
	for _, l := range []string{"id", "ru"} {
		for _, k := range keys["en"] {
			if _, ok := slices.BinarySearch(keys[l], k); !ok {
				t.Errorf("%s lacks %s", l, k)
			}
		}
		if len(keys[l]) != len(keys["en"]) {
			t.Errorf("%s has %d words, English %d", l, len(keys[l]), len(keys["en"]))
		}
	}
}
