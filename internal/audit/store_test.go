package audit

import (
	"errors"
	"testing"

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
