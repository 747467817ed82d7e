package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/receipt"
)

// A store gives back what it was given after a restart, the newest step even
// if an older one came later, and no more than it may keep.
func TestStore(t *testing.T) {
	l, _, _ := filled(t, 6)
	var kept []Kept
	for n := range 6 {
		id := charge(n)
		note, err := parseNote(id.Note)
		must(t, err)
		raw, _, err := l.Receipt(note.RequestID)
		must(t, err)
		kept = append(kept, Kept{RequestID: receipt.Hash(note.RequestID), Proxy: raw, Sealed: true, AnswerSalt: receipt.Hash{1}})
	}
	kept[2].RequestID[1], kept[4].RequestID[1] = 2, 4
	dir := t.TempDir()
	s, err := OpenStore(dir, 2)
	must(t, err)
	for _, k := range []Kept{kept[0], kept[4], kept[2]} {
		must(t, s.Keep(k))
	}
	must(t, s.Close())
	s, err = OpenStore(dir, 2)
	must(t, err)
	if got := s.Last(addr(1)); string(got) != string(kept[4].Proxy) {
		t.Error("the newest step is another one")
	}
	if k, err := s.Find(kept[4].RequestID.String()[:10]); err != nil || k.RequestID != kept[4].RequestID || string(k.Proxy) != string(kept[4].Proxy) {
		t.Errorf("%+v, %v", k, err)
	}
	if _, err := s.Find("ffffffff"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	must(t, s.Keep(kept[1]))
	must(t, s.Keep(kept[3])) // the fifth: two stay
	list, err := s.List(10)
	must(t, err)
	if len(list) != 2 || list[0].RequestID != kept[3].RequestID || list[1].RequestID != kept[1].RequestID {
		t.Errorf("%d kept", len(list))
	}
	must(t, s.Keep(kept[5]))
	must(t, s.Close())
}

// Receipts that come together are kept together, and a bundle once for all of
// them; files that have bundles inside are read, too.
func TestStoreTogether(t *testing.T) {
	l, _, _ := filled(t, 4)
	raw := func(n int) []byte {
		note, err := parseNote(charge(n).Note)
		must(t, err)
		b, _, err := l.Receipt(note.RequestID)
		must(t, err)
		return b
	}
	proxy := raw(0)
	worker := bytes.Repeat([]byte("worker's bundle"), 100)
	dir := t.TempDir()
	s, err := OpenStore(dir, 50)
	must(t, err)
	// As an earlier version wrote it: one receipt, its bundle inside.
	inline := Kept{RequestID: receipt.Hash{1}, Proxy: proxy, WorkerBundle: []byte("inline")}
	b, err := json.Marshal(inline)
	must(t, err)
	_, err = s.fr.append(b)
	must(t, err)
	must(t, s.Close())
	s, err = OpenStore(dir, 50)
	must(t, err)
	var wg sync.WaitGroup
	const n = 40
	for i := range n {
		wg.Go(func() {
			k := Kept{RequestID: receipt.Hash{2, byte(i)}, Proxy: proxy, WorkerBundle: worker, ProxyBundle: []byte("proxy's")}
			if err := s.Keep(k); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Keep(Kept{Proxy: []byte("no part")}); err == nil {
		t.Error("what cannot be read again is kept")
	}
	check := func(want int) {
		t.Helper()
		list, err := s.List(1000)
		must(t, err)
		seen := 0
		for _, k := range list {
			if k.RequestID[0] == 2 {
				if seen++; !bytes.Equal(k.WorkerBundle, worker) || string(k.ProxyBundle) != "proxy's" || !bytes.Equal(k.Proxy, proxy) {
					t.Fatalf("%+v", k)
				}
			}
		}
		if seen != want {
			t.Fatalf("%d kept, want %d", seen, want)
		}
	}
	check(n)
	if k, err := s.Find(receipt.Hash{1}.String()); err != nil || string(k.WorkerBundle) != "inline" {
		t.Errorf("%+v, %v", k, err)
	}
	must(t, s.Close())
	s, err = OpenStore(dir, 50)
	must(t, err)
	check(n)
	if info, err := os.Stat(filepath.Join(dir, "receipts")); err != nil || info.Size() > n*1200 {
		t.Errorf("%v, %v: the bundle stands in each receipt", info.Size(), err)
	}
	// The file is written anew with the newest; a bundle that nobody names goes
	// once it is old, one that is named stays.
	old, err := s.PutCollateral([]byte("nobody's"))
	must(t, err)
	for _, f := range []string{old.String(), receipt.Hash(sha256.Sum256(worker)).String()} {
		must(t, os.Chtimes(filepath.Join(s.collateral(), f), time.Time{}, time.Now().Add(-2*time.Hour)))
	}
	for i := range 101 - n - 1 {
		must(t, s.Keep(Kept{RequestID: receipt.Hash{2, 100, byte(i)}, Proxy: proxy, WorkerBundle: worker, ProxyBundle: []byte("proxy's")}))
	}
	check(50)
	if _, err := s.Collateral(old); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v: nobody names it", err)
	}
	must(t, s.Close())
}

// What receipts a second a client can keep.
func BenchmarkKeep(b *testing.B) {
	l, _, _ := filled(b, 1)
	note, err := parseNote(charge(0).Note)
	must(b, err)
	proxy, _, err := l.Receipt(note.RequestID)
	must(b, err)
	for _, together := range []int{1, 64} {
		b.Run(fmt.Sprintf("together=%d", together), func(b *testing.B) {
			s, err := OpenStore(b.TempDir(), 0)
			must(b, err)
			defer s.Close()
			k := Kept{RequestID: receipt.Hash{1}, Proxy: proxy, Worker: proxy, WorkerBundle: make([]byte, 8<<10), ProxyBundle: make([]byte, 7<<10)}
			b.SetParallelism(together)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := s.Keep(k); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
