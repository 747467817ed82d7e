package telegram

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/cocoon-network/cocoon/internal/assist"
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

// windows are the newest messages of chats that agreed. In memory only.
type windows struct {
	mu sync.Mutex
	m  map[place][]kept
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
	if len(list) >= maxWindow {
		list = slices.Delete(list, 0, len(list)-maxWindow+1)
	}
	w.m[p] = append(list, k)
}

func (w *windows) dropOldestLocked() {
	var oldest place
	var at time.Time
	for p, l := range w.m {
		if t := l[len(l)-1].at; at.IsZero() || t.Before(at) {
			oldest, at = p, t
		}
	}
	delete(w.m, oldest)
}

// edit replaces a message that is still there.
func (w *windows) edit(p place, id int64, t assist.Text) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.m[p] {
		if w.m[p][i].id == id {
			w.m[p][i].text = t
		}
	}
}

func (w *windows) forget(p place, ids ...int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := slices.DeleteFunc(w.m[p], func(k kept) bool { return slices.Contains(ids, k.id) })
	if len(list) == 0 {
		delete(w.m, p)
		return
	}
	w.m[p] = list
}

func (w *windows) drop(p place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.m, p)
}

// dropOwner forgets all chats of a business connection's account.
func (w *windows) dropOwner(owner int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for p := range w.m {
		if p.owner == owner {
			delete(w.m, p)
		}
	}
}

// last returns the newest n messages not older than a day, oldest first.
func (w *windows) last(p place, n int, now time.Time) []kept {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.m[p]
	for len(list) > 0 && now.Sub(list[0].at) > windowAge {
		list = list[1:]
	}
	switch {
	case len(list) == 0:
		delete(w.m, p)
	case len(list) < len(w.m[p]):
		w.m[p] = slices.Clone(list)
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
