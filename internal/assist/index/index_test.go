package index

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cocoon-network/cocoon/internal/assist"
)

// embedder is a Model whose vectors say which subjects a text is about, in
// any language: what a real embedding model does, for three subjects.
type embedder struct {
	mu      sync.Mutex
	batches []int
	name    string
	none    bool
}

var subjects = [][]string{{"cat", "kucing", "кошка", "pet"}, {"money", "uang", "деньги", "invoice", "pay"}, {"train", "kereta", "поезд", "station"}}

func (e *embedder) Complete(context.Context, *assist.Call) (assist.Reply, error) {
	panic("the index asks for no completions")
}

func (e *embedder) Embed(_ context.Context, texts []string) ([][]float32, assist.Proof, error) {
	if e.none {
		return nil, assist.Proof{}, assist.ErrNoEmbedder
	}
	e.mu.Lock()
	e.batches = append(e.batches, len(texts))
	e.mu.Unlock()
	out := make([][]float32, len(texts))
	for i, t := range texts {
		v := make([]float32, 64)
		v[len(subjects)+len(t)%61] = 0.05 // what else it is about
		for k, words := range subjects {
			for _, w := range words {
				if strings.Contains(strings.ToLower(t), w) {
					v[k] = 1
				}
			}
		}
		out[i] = v
	}
	return out, assist.Proof{Calls: 1, CostNano: 5, Model: e.name, Receipts: []string{"r"}}, nil
}

func num(n int) assist.ID { return assist.NumberID(int64(n)) }

var messages = []assist.Message{
	{ID: num(1), From: "Anna", Time: 100, Text: "The cat sleeps on the warm radiator."},
	{ID: num(2), From: "Ben", Time: 200, Text: "Please pay the invoice of Harbour Electric before Friday."},
	{ID: num(3), From: "Citra", Time: 300, Text: "Kereta ke Bandung berangkat jam tujuh pagi."},
	{ID: num(4), From: "Anna", Time: 400, Text: "Забрала посылку, она лежит на кухне."},
	{ID: num(5), From: "Ben", Time: 500, Text: "👍"},
}

func open(t *testing.T, dir string) *Index {
	t.Helper()
	ix, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ix.Close() })
	return ix
}

func add(t *testing.T, ix *Index, m assist.Model, chat string, ms ...assist.Message) *Added {
	t.Helper()
	a, _, err := ix.Add(t.Context(), m, chat, ms)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func find(t *testing.T, ix *Index, m assist.Model, q Query) (ids []string) {
	t.Helper()
	f, _, err := ix.Search(t.Context(), m, &q)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range f.Hits {
		ids = append(ids, h.Chat+"/"+h.ID.String())
	}
	return ids
}

func TestFindsByWordsAndMeaning(t *testing.T) {
	dir := t.TempDir()
	ix := open(t, dir)
	m := &embedder{name: "some-embed"}
	a := add(t, ix, m, "family", messages...)
	if a.Indexed != 4 || a.Skipped != 1 || a.Mode != ModeSemantic {
		t.Errorf("%+v", a)
	}
	if !slices.Equal(m.batches, []int{embedBatch}) {
		t.Errorf("batches of %v texts: the number of messages shows", m.batches)
	}
	add(t, ix, m, "work", assist.Message{ID: num(1), From: "Dewi", Time: 600, Text: "The station is closed."})
	if a := add(t, ix, m, "family", messages...); a.Unchanged != 4 || a.Indexed != 0 {
		t.Errorf("indexing again: %+v", a)
	}
	check := func(ix *Index) {
		for _, c := range []struct {
			name  string
			q     Query
			first string
			n     int // hits; -1 = some
		}{
			{"a word", Query{Text: "radiator"}, "family/1", 1},
			{"another language", Query{Text: "деньги"}, "family/2", 1},
			{"meaning, best first", Query{Text: "train to Bandung"}, "family/3", -1},
			{"meaning in one chat", Query{Text: "train", Chats: []string{"work"}}, "work/1", 1},
			{"a sender's name", Query{Text: "Citra"}, "family/3", 1},
			{"of a sender", Query{Text: "the", From: "ben"}, "family/2", 1},
			{"before", Query{Text: "the", Until: 150}, "family/1", 1},
			{"since", Query{Text: "the", Since: 550}, "work/1", 1},
			{"one hit", Query{Text: "the", N: 1}, "", 1},
			{"ё and е", Query{Text: "ПОСЫЛКУ"}, "family/4", 1},
			{"nothing", Query{Text: "xylophone"}, "", 0},
		} {
			got := find(t, ix, m, c.q)
			if c.n >= 0 && len(got) != c.n || c.first != "" && (len(got) == 0 || got[0] != c.first) {
				t.Errorf("%s: %v, want %d with %s first", c.name, got, c.n, c.first)
			}
		}
	}
	check(ix)
	ix.Close()
	check(open(t, dir))
}

func TestModes(t *testing.T) {
	for _, c := range []struct {
		m    *embedder
		mode string
	}{{&embedder{name: "cocoon-demo-embed-1"}, ModeLexical}, {&embedder{none: true}, ModeWords}, {&embedder{name: "e5"}, ModeSemantic}} {
		ix := open(t, t.TempDir())
		if a := add(t, ix, c.m, "c", messages...); a.Mode != c.mode {
			t.Errorf("added by %q, want %q", a.Mode, c.mode)
		}
		f, _, err := ix.Search(t.Context(), c.m, &Query{Text: "cat"})
		if err != nil || f.Mode != c.mode || len(f.Hits) != 1 {
			t.Errorf("%+v %v, want %q", f, err, c.mode)
		}
	}
	// Vectors of another model are not compared.
	ix := open(t, t.TempDir())
	add(t, ix, &embedder{name: "one"}, "c", messages[0])
	add(t, ix, &embedder{name: "two"}, "c", messages[1])
	f, _, err := ix.Search(t.Context(), &embedder{name: "one"}, &Query{Text: "kucing"})
	if err != nil || len(f.Hits) != 1 || f.Other != 1 {
		t.Errorf("%+v %v", f, err)
	}
	f, _, err = ix.Search(t.Context(), &embedder{name: "two"}, &Query{Text: "kucing"})
	if err != nil || len(f.Hits) != 0 || f.Mode != ModeWords {
		t.Errorf("%+v %v", f, err)
	}
}

// files returns everything that stands in a folder.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s may be read by others: %v", f.Name(), info.Mode())
		}
		if out[f.Name()], err = os.ReadFile(filepath.Join(dir, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestNoPlainTextOnDisk(t *testing.T) {
	dir := t.TempDir()
	ix := open(t, dir)
	add(t, ix, &embedder{name: "e"}, "canarychat", assist.Message{ID: `"canaryid"`, From: "Canaryname", Text: "the canarytext is 4711 and cat"})
	if _, err := ix.Forget("other"); err != nil {
		t.Fatal(err)
	}
	for name, b := range files(t, dir) {
		if bytes.Contains(bytes.ToLower(b), []byte("canary")) || bytes.Contains(b, []byte("4711")) {
			t.Errorf("%s has plain text", name)
		}
		if strings.Contains(strings.ToLower(name), "canary") {
			t.Errorf("the name %s tells of the messages", name)
		}
	}
}

// A deleted message is lost to whoever has the folder as it is now, with its
// key, and even the sealed bytes of before; and to whoever reads the memory.
func TestDeletedIsGone(t *testing.T) {
	for _, how := range []string{"delete", "forget", "edit"} {
		t.Run(how, func(t *testing.T) {
			dir := t.TempDir()
			ix := open(t, dir)
			m := &embedder{name: "e"}
			add(t, ix, m, "a", messages...)
			add(t, ix, m, "b", assist.Message{ID: num(9), From: "Eka", Text: "secret cat plan zeppelin"})
			slot := ix.byKey[name{"b", num(9)}]
			kept := ix.docs[slot]
			victim := kept.entry // with its key, as it was
			before := files(t, dir)
			if _, err := ix.store.read(&victim); err != nil {
				t.Fatal(err)
			}
			switch how {
			case "delete":
				if n, err := ix.Delete("b", []assist.ID{num(9), num(10)}); err != nil || n != 1 {
					t.Fatal(n, err)
				}
			case "forget":
				if n, err := ix.Forget("b"); err != nil || n != 1 {
					t.Fatal(n, err)
				}
			case "edit":
				add(t, ix, m, "b", assist.Message{ID: num(9), From: "Eka", Text: "harmless words"})
			}
			after := files(t, dir)
			// The files: no key in them opens the old record, wherever its bytes are.
			generation, _, key, err := decodeKey(after["key"])
			if err != nil {
				t.Fatal(err)
			}
			sealed := before["segment-1"][victim.at:][:victim.n]
			table := after[fmt.Sprintf("table-%d", generation)]
			entries, _, _, err := decodeTable(table, key, generation, 1<<30)
			if err != nil || len(entries) < 4 {
				t.Fatal(len(entries), err)
			}
			for _, e := range entries {
				forged := *e
				forged.chat, forged.id = victim.chat, victim.id
				if _, err := forged.open(sealed); err == nil {
					t.Error("a key in the table opens the deleted record")
				}
			}
			for name, b := range after {
				if bytes.Contains(b, victim.key[:]) {
					t.Errorf("%s has the record's key", name)
				}
			}
			// The old table cannot be opened with what is left.
			oldGeneration, _, oldKey, _ := decodeKey(before["key"])
			if key == oldKey {
				t.Error("the key of the table is the old one")
			}
			old := before[fmt.Sprintf("table-%d", oldGeneration)]
			if got, _, _, err := decodeTable(old, key, oldGeneration, 1<<30); err == nil && len(got) > 0 {
				t.Error("the new key opens the old table")
			}
			if _, there := after[fmt.Sprintf("table-%d", oldGeneration)]; there {
				t.Error("the old table is still there")
			}
			// The memory: no key, no word, no vector.
			if kept.key != [32]byte{} {
				t.Error("the key is still in memory")
			}
			for _, list := range ix.words {
				for _, p := range list {
					if ix.docs[p.slot] == nil {
						t.Error("a word of the message is still in memory")
					}
				}
			}
			if how != "edit" {
				for _, x := range ix.vectors[int(slot)*ix.dims:][:ix.dims] {
					if x != 0 {
						t.Error("the vector is still in memory")
					}
				}
			}
			for _, q := range []string{"zeppelin", "secret"} {
				if got := find(t, ix, nil, Query{Text: q}); len(got) > 0 {
					t.Errorf("%q finds %v", q, got)
				}
			}
			if got := find(t, ix, m, Query{Text: "radiator"}); len(got) != 1 {
				t.Errorf("what was not deleted is not found: %v", got)
			}
			ix.Close()
			again := open(t, dir)
			if got := find(t, again, m, Query{Text: "zeppelin"}); len(got) > 0 {
				t.Errorf("after a restart: %v", got)
			}
		})
	}
}

func TestCompaction(t *testing.T) {
	dir := t.TempDir()
	ix := open(t, dir)
	m := &embedder{name: "e"}
	for i := range 40 {
		add(t, ix, m, "c", assist.Message{ID: num(i), Text: fmt.Sprintf("word%d about cats", i)})
	}
	full := disk(ix).segmentEnd
	var ids []assist.ID
	for i := range 30 {
		ids = append(ids, num(i))
	}
	if n, err := ix.Delete("c", ids); err != nil || n != 30 {
		t.Fatal(n, err)
	}
	if disk(ix).segmentEnd*3 > full {
		t.Errorf("%d bytes of %d are left of a quarter of the messages", disk(ix).segmentEnd, full)
	}
	add(t, ix, m, "c", assist.Message{ID: num(100), Text: "fresh"})
	ix.Close()
	ix = open(t, dir)
	if ix.Len() != 11 || len(find(t, ix, m, Query{Text: "word35"})) == 0 || len(find(t, ix, nil, Query{Text: "word3"})) != 0 || len(find(t, ix, nil, Query{Text: "fresh"})) != 1 {
		t.Errorf("%d messages after compaction", ix.Len())
	}
}

// Whatever of the last writes reached the disk, the index opens with the state
// before or after them.
func TestCrashWhileAdding(t *testing.T) {
	dir := t.TempDir()
	ix := open(t, dir)
	m := &embedder{none: true}
	add(t, ix, m, "c", messages[0])
	before := files(t, dir)
	add(t, ix, m, "c", messages[1], messages[2])
	after := files(t, dir)
	ix.Close()
	table, segment := fmt.Sprintf("table-%d", disk(ix).generation), fmt.Sprintf("segment-%d", disk(ix).seg)
	try := func(tableBytes, segmentBytes []byte, want int) {
		t.Helper()
		dir := t.TempDir()
		for name, b := range map[string][]byte{"key": after["key"], table: tableBytes, segment: segmentBytes} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ix, err := Open(dir)
		if err != nil {
			t.Fatalf("table of %d bytes, segment of %d: %v", len(tableBytes), len(segmentBytes), err)
		}
		defer ix.Close()
		if ix.Len() != want {
			t.Fatalf("table of %d bytes, segment of %d: %d messages, want %d", len(tableBytes), len(segmentBytes), ix.Len(), want)
		}
		add(t, ix, m, "c", assist.Message{ID: num(77), Text: "afterwards"})
		if ix.Close(); len(find(t, open(t, dir), nil, Query{Text: "afterwards"})) != 1 {
			t.Fatal("what was added after the crash is lost")
		}
	}
	for n := len(before[segment]); n <= len(after[segment]); n += 100 {
		try(before[table], after[segment][:n], 1)
	}
	for n := len(before[table]); n < len(after[table]); n += 7 {
		try(after[table][:n], after[segment], 1)
		torn := append(slices.Clone(after[table][:n]), make([]byte, len(after[table])-n)...)
		try(torn, after[segment], 1)
	}
	try(after[table], after[segment], 3)
}

// A deletion that is cut off before its key file counts has not happened; one
// cut off behind it has.
func TestCrashWhileDeleting(t *testing.T) {
	dir := t.TempDir()
	ix := open(t, dir)
	m := &embedder{none: true}
	add(t, ix, m, "c", messages...)
	before := files(t, dir)
	if _, err := ix.Forget("c"); err != nil {
		t.Fatal(err)
	}
	add(t, ix, m, "d", messages[1])
	after := files(t, dir)
	ix.Close()
	for name, c := range map[string]struct {
		key  []byte
		want int
	}{"before": {before["key"], 4}, "behind": {after["key"], 1}} {
		dir := t.TempDir()
		both := map[string][]byte{}
		for _, m := range []map[string][]byte{before, after} {
			for n, b := range m {
				both[n] = b
			}
		}
		both["key"], both["key.new"] = c.key, after["key"][:10]
		for n, b := range both {
			if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if ix := open(t, dir); ix.Len() != c.want {
			t.Errorf("%s: %d messages, want %d", name, ix.Len(), c.want)
		}
		if left := files(t, dir); len(left) != 4 {
			t.Errorf("%s: %d files are left", name, len(left))
		}
	}
}

func TestDamageIsNoticed(t *testing.T) {
	dir := t.TempDir()
	ix := open(t, dir)
	add(t, ix, &embedder{none: true}, "c", messages[0])
	add(t, ix, &embedder{none: true}, "c", messages[1])
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("opened twice: %v", err)
	}
	ix.Close()
	whole := files(t, dir)
	table, segment := fmt.Sprintf("table-%d", disk(ix).generation), fmt.Sprintf("segment-%d", disk(ix).seg)
	for name, c := range map[string]struct {
		file string
		at   int
	}{"key file": {"key", 2}, "table's key": {"key", keyFileLen - 1}, "first frame": {table, 30}, "record": {segment, 5}} {
		bad := slices.Clone(whole[c.file])
		bad[c.at] ^= 1
		if err := os.WriteFile(filepath.Join(dir, c.file), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if ix, err := Open(dir); err == nil {
			ix.Close()
			t.Errorf("a damaged %s is not noticed", name)
		}
		if err := os.WriteFile(filepath.Join(dir, c.file), whole[c.file], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "key")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("without its key: %v", err)
	}
}

func TestRefused(t *testing.T) {
	ix := open(t, t.TempDir())
	m := &embedder{none: true}
	for name, ms := range map[string][]assist.Message{
		"none": {}, "no id": {{Text: "x"}}, "twice": {messages[0], messages[0]}, "not UTF-8": {{ID: num(1), Text: "\xff"}},
		"too many": make([]assist.Message, MaxBatch+1),
	} {
		if _, _, err := ix.Add(t.Context(), m, "c", ms); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, _, err := ix.Add(t.Context(), m, strings.Repeat("c", MaxChat+1), messages); err == nil {
		t.Error("a long chat is taken")
	}
	for _, q := range []Query{{}, {Text: " "}, {Text: strings.Repeat("x", MaxQuery+1)}, {Text: "x", N: MaxHits + 1}, {Text: "\xff"}} {
		if _, _, err := ix.Search(t.Context(), m, &q); err == nil {
			t.Errorf("%+v: taken", q)
		}
	}
}

func TestTerms(t *testing.T) {
	for s, want := range map[string][]string{
		"Hello, World!":    {"hello", "world"},
		"см. ЁЛКА 2026":    {"см", "елка", "2026"},
		"東京駅で会う":           {"東京", "京駅", "駅で", "で会", "会う"},
		"naïve cafe\u0301": {"naïve", "cafe\u0301"},
		"🙂 …":              nil,
	} {
		if got := terms(s); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func TestSnippet(t *testing.T) {
	long := strings.Repeat("filler words ", 60) + "the needle is here " + strings.Repeat("more words ", 60)
	if s := snippet(long, "Needle"); !strings.Contains(s, "needle") || len([]rune(s)) > snippetChars+2 {
		t.Errorf("%q", s)
	}
	if s := snippet("short\n text", "x"); s != "short text" {
		t.Errorf("%q", s)
	}
}

// Quantised vectors keep the order that the true ones have.
func TestQuantised(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		a, b := make([]float32, 384), make([]float32, 384)
		var ab, aa, bb float64
		for i := range a {
			a[i], b[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
			b[i] += a[i] * 0.7
			ab, aa, bb = ab+float64(a[i]*b[i]), aa+float64(a[i]*a[i]), bb+float64(b[i]*b[i])
		}
		qa, sa := quantise(a)
		qb, sb := quantise(b)
		true := ab / (sqrt(aa) * sqrt(bb))
		if got := float64(float32(dot(qa, qb)) * sa * sb); got-true > 0.02 || true-got > 0.02 {
			t.Fatalf("cosine %f became %f", true, got)
		}
	}
}

func sqrt(x float64) float64 {
	z := x
	for range 60 {
		z = (z + x/z) / 2
	}
	return z
}

func FuzzTable(f *testing.F) {
	key := [32]byte{1}
	e, _, _ := seal("chat", `"id"`, []byte("plain"))
	b, _ := encodeTable([]*entry{e, e}, key, 3, 0)
	f.Add(b)
	f.Add(append(b, b...))
	f.Add(b[:len(b)-1])
	f.Add([]byte{255, 255, 255, 255, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, good, _, err := decodeTable(b, key, 3, 1<<20)
		if err == nil && (good > int64(len(b)) || good < 0) {
			t.Fatal("whole frames end behind the table")
		}
		for _, e := range entries {
			if e.at < 0 || e.at+int64(e.n) > 1<<20 {
				t.Fatal("a record lies outside its segment")
			}
		}
		// The decoder behind the seal.
		list, err := decodeEntries(nil, b, 1<<20)
		for _, e := range list {
			if e.at < 0 || e.at+int64(e.n) > 1<<20 || e.id == "" {
				t.Fatal("an entry lies outside its segment")
			}
		}
		if err == nil && len(list) > 0 {
			again, _ := encodeTable(list, key, 3, 0)
			back, _, _, err := decodeTable(again, key, 3, 1<<20)
			if err != nil || len(back) != len(list) {
				t.Fatalf("%d entries came back as %d: %v", len(list), len(back), err)
			}
		}
	})
}

func FuzzRecord(f *testing.F) {
	b, _ := encodeRecord(&record{From: "a", Text: "text", Embedder: "e", Scale: 0.1}, []int8{1, -2})
	f.Add(b)
	f.Add([]byte{9, 0, 0, 0, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _, _ = decodeKey(b)
		r, v, err := decodeRecord(b)
		if err != nil {
			return
		}
		again, err := encodeRecord(r, v)
		if err != nil {
			t.Skip() // ids that JSON cannot say
		}
		r2, v2, err := decodeRecord(again)
		if err != nil || !slices.Equal(v, v2) {
			t.Fatal(err)
		}
		one, _ := json.Marshal(r)
		two, _ := json.Marshal(r2)
		if !bytes.Equal(one, two) {
			t.Fatalf("%s became %s", one, two)
		}
	})
}

// BenchmarkScan compares a query with 100,000 vectors of 384 dimensions.
func BenchmarkScan(b *testing.B) {
	const n, dims = 100_000, 384
	ix := &Index{dims: dims, vectors: make([]int8, n*dims), docs: make([]*doc, n)}
	r := rand.New(rand.NewPCG(1, 2))
	for i := range ix.vectors {
		ix.vectors[i] = int8(r.IntN(255) - 127)
	}
	for i := range ix.docs {
		ix.docs[i] = &doc{scale: 0.001}
	}
	wanted := ix.vectors[:dims]
	q := Query{}
	b.SetBytes(n * dims)
	for b.Loop() {
		ix.byVector(wanted, 0.001, q.filter())
	}
}

func disk(ix *Index) *store { return ix.store.(*store) }

// In memory an index does what it does on a disk, and forgets as it does.
func TestMemory(t *testing.T) {
	ix := New()
	m := &embedder{name: "a-embed"}
	list := []assist.Message{{ID: assist.NumberID(1), From: "Anna", Text: "the harbour gate"}, {ID: assist.NumberID(2), From: "Ben", Text: "tickets for Friday"}, {ID: assist.NumberID(3), From: "Anna", Text: "bring the tickets"}}
	if a, _, err := ix.Add(t.Context(), m, "c", list); err != nil || a.Indexed != 3 {
		t.Fatalf("%+v %v", a, err)
	}
	list[0].Text = "the garden gate"
	if a, _, err := ix.Add(t.Context(), m, "c", list); err != nil || a.Indexed != 1 || a.Unchanged != 2 {
		t.Fatalf("%+v %v", a, err)
	}
	find := func(text string, want ...string) {
		t.Helper()
		f, _, err := ix.Search(t.Context(), nil, &Query{Text: text})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range f.Hits {
			got = append(got, h.Text)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	find("harbour")
	find("gate", "the garden gate")
	find("tickets", "bring the tickets", "tickets for Friday")
	if got := ix.Senders(nil, 10); !slices.Equal(got, []string{"Anna", "Ben"}) {
		t.Errorf("senders %q", got)
	}
	if n, err := ix.Retain("c", []assist.ID{assist.NumberID(3), assist.NumberID(9)}); n != 2 || err != nil || ix.Len() != 1 {
		t.Errorf("%d %v, %d are left", n, err, ix.Len())
	}
	find("tickets", "bring the tickets")
	if n := len(ix.store.(*memory).records); n != 1 {
		t.Errorf("%d records are left", n)
	}
	if n, err := ix.Forget("c"); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	find("tickets")
	if err := ix.Close(); err != nil {
		t.Error(err)
	}
}
