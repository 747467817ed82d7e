package telegram

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/assist/index"
)

const (
	maxWindow  = assist.MaxMessages // messages of one chat
	maxWindows = 10_000             // chats
	windowAge  = 24 * time.Hour
)

// place is a chat as its messages are kept: owner is the account of a business
// connection, 0 = the bot's own chats.
type place struct{ owner, chat int64 }

// kept is a message in memory.
type kept struct {
	id, from, replyTo int64
	author            string
	at                time.Time
	text              assist.Text
}

// windows are the newest messages of chats that agreed, and what finds them. In
// memory only.
type windows struct {
	mu      sync.Mutex
	m       map[place][]kept
	indexes map[place]*finder
	bytes   int // of all messages, about
}

// maxWindowBytes bounds what is remembered of all chats together; the one that
// was silent longest goes.
const maxWindowBytes = 512 << 20

func (k kept) size() int { return 128 + len(k.author) + len(k.text.Text) + 128*len(k.text.Entities) }

// finder finds the messages of one window by words and meaning. What leaves the
// window leaves it at once; what comes into the window is added when somebody
// searches, since embeddings are made elsewhere.
type finder struct {
	mu   sync.Mutex // one search at a time, so that no text is sent twice
	ix   *index.Index
	used time.Time
}

// maxFinders bounds the chats that have one; the one not used longest goes.
const maxFinders = 500

// finder returns what finds the messages of a place.
func (w *windows) finder(p place, now time.Time) *finder {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.indexes[p]
	if f == nil {
		if len(w.indexes) >= maxFinders {
			oldest := slices.MinFunc(slices.Collect(maps.Keys(w.indexes)), func(a, b place) int { return w.indexes[a].used.Compare(w.indexes[b].used) })
			delete(w.indexes, oldest)
		}
		f = &finder{ix: index.New()}
		w.indexes[p] = f
	}
	f.used = now
	return f
}

// goneLocked takes messages that leave the window out of what finds them.
func (w *windows) goneLocked(p place, gone ...kept) {
	for _, k := range gone {
		w.bytes -= k.size()
	}
	f := w.indexes[p]
	if f == nil || len(gone) == 0 {
		return
	}
	ids := make([]assist.ID, len(gone))
	for i, k := range gone {
		ids[i] = assist.NumberID(k.id)
	}
	_, _ = f.ix.Delete("", ids) // in memory it cannot fail
}

// deleteLocked forgets a place.
func (w *windows) deleteLocked(p place) {
	for _, k := range w.m[p] {
		w.bytes -= k.size()
	}
	delete(w.m, p)
	delete(w.indexes, p)
}

func (w *windows) add(p place, k kept) {
	if k.text.Text == "" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	list, ok := w.m[p]
	if !ok && len(w.m) >= maxWindows {
		w.dropOldestLocked()
	}
	for i := range list {
		if list[i].id == k.id { // told again
			w.goneLocked(p, list[i])
			list[i] = k
			w.bytes += k.size()
			return
		}
	}
	if n := len(list) - maxWindow + 1; n > 0 {
		w.goneLocked(p, list[:n]...)
		list = slices.Delete(list, 0, n)
	}
	w.m[p] = append(list, k)
	for w.bytes += k.size(); w.bytes > maxWindowBytes && len(w.m) > 1; {
		w.dropOldestLocked()
	}
}

func (w *windows) dropOldestLocked() {
	var oldest place
	var at time.Time
	for p, l := range w.m {
		if t := l[len(l)-1].at; at.IsZero() || t.Before(at) {
			oldest, at = p, t
		}
	}
	w.deleteLocked(oldest)
}

// edit replaces a message that is still there.
func (w *windows) edit(p place, id int64, t assist.Text) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.m[p] {
		if w.m[p][i].id == id {
			w.goneLocked(p, w.m[p][i])
			w.m[p][i].text = t
			w.bytes += w.m[p][i].size()
		}
	}
}

func (w *windows) forget(p place, ids ...int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.DeleteFunc(w.m[p], func(k kept) bool {
		gone := slices.Contains(ids, k.id)
		if gone {
			w.goneLocked(p, k)
		}
		return gone
	})
	if w.m[p] = list; len(list) == 0 {
		w.deleteLocked(p)
	}
}

func (w *windows) drop(p place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deleteLocked(p)
}

// dropOwner forgets all chats of a business connection's account.
func (w *windows) dropOwner(owner int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.m {
		if p.owner == owner {
			w.deleteLocked(p)
		}
	}
}

// last returns the newest n messages not older than a day, oldest first.
func (w *windows) last(p place, n int, now time.Time) []kept {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.m[p]
	for len(list) > 0 && now.Sub(list[0].at) > windowAge {
		w.goneLocked(p, list[0])
		list = list[1:]
	}
	if len(list) < len(w.m[p]) {
		w.m[p] = slices.Clone(list)
	}
	if len(list) == 0 {
		w.deleteLocked(p)
	}
	return slices.Clone(list[max(0, len(list)-n):])
}

// expire drops what is older than a day.
func (w *windows) expire(now time.Time) {
	w.mu.Lock()
	places := make([]place, 0, len(w.m))
	for p := range w.m {
		places = append(places, p)
	}
	w.mu.Unlock()
	for _, p := range places {
		w.last(p, 0, now)
	}
}

// search returns the newest messages that hold every word, at most n.
func search(list []kept, query string, n int) (out []kept) {
	words := strings.FieldsFunc(strings.ToLower(query), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	if len(words) == 0 {
		return nil
	}
	for _, k := range slices.Backward(list) {
		text := strings.ToLower(k.text.Text + " " + k.author)
		if !slices.ContainsFunc(words, func(s string) bool { return !strings.Contains(text, s) }) {
			if out = append(out, k); len(out) == n {
				break
			}
		}
	}
	return out
}

// find looks for messages of a place by words and meaning, best first. The
// texts that were not compared before, and the query, go to the model.
func (b *Bot) find(ctx context.Context, p place, query string, n int) (hits []kept, mode string, proof assist.Proof, err error) {
	f := b.windows.finder(p, time.Now())
	f.mu.Lock()
	defer f.mu.Unlock()
	if list := b.windows.last(p, maxWindow, time.Now()); len(list) > 0 {
		if _, proof, err = f.ix.Add(ctx, b.Model, "", messages(list)); err != nil {
			return nil, "", proof, err
		}
	}
	// What was forgotten while texts were under way.
	byID, ids := map[int64]kept{}, []assist.ID{}
	for _, k := range b.windows.last(p, maxWindow, time.Now()) {
		byID[k.id] = k
		ids = append(ids, assist.NumberID(k.id))
	}
	if _, err := f.ix.Retain("", ids); err != nil {
		return nil, "", proof, err
	}
	found, q, err := f.ix.Search(ctx, b.Model, &index.Query{Text: clip(query, index.MaxQuery), N: n})
	proof.Add(q)
	if err != nil {
		return nil, "", proof, err
	}
	for _, h := range found.Hits {
		id, _ := strconv.ParseInt(h.ID.String(), 10, 64) // ours, written by NumberID
		if k, ok := byID[id]; ok {
			hits = append(hits, k)
		}
	}
	return hits, found.Mode, proof, nil
}

func messages(list []kept) []assist.Message {
	out := make([]assist.Message, len(list))
	for i, k := range list {
		out[i] = assist.Message{ID: assist.NumberID(k.id), From: k.author, Time: k.at.Unix(), Text: k.text.Text}
		if k.replyTo != 0 {
			out[i].ReplyTo = assist.NumberID(k.replyTo)
		}
	}
	return out
}
