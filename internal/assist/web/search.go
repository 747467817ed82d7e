package web

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/assist/index"
)

// IndexRequest adds messages of a chat to the caller's index, or takes them out.
type IndexRequest struct {
	// Chat names the chat; it may be empty where there is one only.
	Chat     string           `json:"chat,omitempty"`
	Messages []assist.Message `json:"messages,omitempty"`
	// Delete are ids of messages that are to be forgotten; Forget takes the
	// whole chat. Both come before Messages.
	Delete []assist.ID `json:"delete,omitempty"`
	Forget bool        `json:"forget,omitempty"`
	// Mask hides names and personal data that has a form from the embedding
	// model; here the messages stand as they are. What was indexed before stays.
	Mask bool `json:"mask,omitempty"`
}

// IndexResult says what became of it.
type IndexResult struct {
	assist.Answer
	index.Added
	Deleted int `json:"deleted"`
	Total   int `json:"total"` // messages in the index, of all chats
}

// SearchRequest looks for messages.
type SearchRequest struct {
	Query string   `json:"query"`
	Chats []string `json:"chats,omitempty"` // empty = all
	From  string   `json:"from,omitempty"`
	Since int64    `json:"since,omitempty"` // Unix seconds
	Until int64    `json:"until,omitempty"`
	N     int      `json:"n,omitempty"` // 0 = 10
	// Mask hides names and personal data that has a form from the models.
	Mask bool `json:"mask,omitempty"`
}

// SearchResult has the best hits first.
type SearchResult struct {
	assist.Answer
	Hits []index.Hit `json:"hits"`
	// Mode is how was looked for: "semantic", "lexical" (by letters alone) or
	// "words".
	Mode string `json:"mode"`
}

// AskRequest asks a question about one's own messages.
type AskRequest struct {
	SearchRequest
	To string `json:"to,omitempty"` // language of the answer
}

// AskResult is the answer, what it rests on, and what was found.
type AskResult struct {
	assist.Answer
	Text string      `json:"answer"`
	Refs []Ref       `json:"refs"`
	Hits []index.Hit `json:"hits"`
	Mode string      `json:"mode"`
}

// Ref names a message of a chat.
type Ref struct {
	Chat string    `json:"chat,omitempty"`
	ID   assist.ID `json:"id"`
}

// indexes are the open indexes, one folder for each user.
type indexes struct {
	dir  string
	most int // messages of one

	mu   sync.Mutex
	open map[string]*held
}

// held is an index and how many requests use it now. Opening a large one takes
// seconds, for which only its own user waits.
type held struct {
	open  sync.Once
	ix    *index.Index
	err   error
	users int
	last  time.Time
}

// maxIndexes bounds the indexes that are open at once; the one that was idle
// longest makes room.
const maxIndexes = 1000

func newIndexes(cfg *Config) *indexes {
	return &indexes{dir: cfg.IndexDir, most: cfg.IndexMessages, open: map[string]*held{}}
}

// of opens a user's index; done must be called when it is not used any more.
func (x *indexes) of(user string) (ix *index.Index, done func(), err error) {
	if x.dir == "" {
		return nil, nil, openai.Unavailable("This server keeps no index; whoever runs it can name a folder for one.")
	}
	x.mu.Lock()
	h := x.open[user]
	if h == nil {
		if len(x.open) >= maxIndexes && !x.closeIdleLocked() {
			x.mu.Unlock()
			return nil, nil, openai.Unavailable("This server has too many indexes in use; try again.")
		}
		h = &held{}
		x.open[user] = h
	}
	h.users++
	x.mu.Unlock()
	done = func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		h.users--
		h.last = time.Now()
	}
	h.open.Do(func() {
		sum := sha256.Sum256([]byte("cocoon index of " + user))
		h.ix, h.err = index.Open(filepath.Join(x.dir, hex.EncodeToString(sum[:8])))
	})
	if h.err != nil {
		done()
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.open[user] == h { // the next request tries again
			delete(x.open, user)
		}
		return nil, nil, storage(h.err)
	}
	return h.ix, done, nil
}

// closeIdleLocked closes the index that was idle longest.
func (x *indexes) closeIdleLocked() bool {
	oldest := ""
	for user, h := range x.open {
		if h.users == 0 && (oldest == "" || h.last.Before(x.open[oldest].last)) {
			oldest = user
		}
	}
	if oldest == "" {
		return false
	}
	_ = x.open[oldest].ix.Close() // what was indexed is on the disk since then
	delete(x.open, oldest)
	return true
}

// storage is what a caller hears of an index that fails: the cause, without
// where it stands.
func storage(err error) error {
	var told *openai.Error
	if err == nil || errors.As(err, &told) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var at *fs.PathError
	if errors.As(err, &at) {
		err = at.Err
	}
	return openai.Unavailable("The index cannot be used: %v.", err)
}

func (x *indexes) close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var err error
	for _, h := range x.open {
		if h.ix != nil {
			err = errors.Join(err, h.ix.Close())
		}
	}
	clear(x.open)
	return err
}

// answered begins the Answer of a search.
func answered(name string, p assist.Proof) assist.Answer {
	a := assist.Answer{Proof: assist.Proof{Receipts: []string{}, Verdict: "none"}, Prompt: name}
	a.Proof.Add(p)
	return a
}

func (c *call) index(rq *IndexRequest) (*IndexResult, error) {
	if err := index.CheckChat(rq.Chat); err != nil {
		return nil, err
	}
	if len(rq.Messages) == 0 && len(rq.Delete) == 0 && !rq.Forget {
		e := openai.Errorf(openai.CodeMissingParameter, "Give 'messages' to index, ids to 'delete', or 'forget' for the whole chat.")
		e.Param = "messages"
		return nil, e
	}
	ix, done, err := c.indexes.of(c.user)
	if err != nil {
		return nil, err
	}
	defer done()
	r := &IndexResult{Answer: answered("index@1", assist.Proof{})}
	if rq.Forget {
		if r.Deleted, err = ix.Forget(rq.Chat); err != nil {
			return nil, storage(err)
		}
	}
	if len(rq.Delete) > 0 {
		n, err := ix.Delete(rq.Chat, rq.Delete)
		if err != nil {
			return nil, storage(err)
		}
		r.Deleted += n
	}
	if len(rq.Messages) > 0 {
		if ix.Len()+len(rq.Messages) > c.indexes.most {
			return nil, openai.InvalidRequest("messages", "Your index holds %d messages, and may hold %d: delete some, or forget a chat.", ix.Len(), c.indexes.most)
		}
		model := c.model
		if rq.Mask {
			model = assist.MaskEmbeddings(model, assist.Senders(rq.Messages)...)
		}
		added, proof, err := ix.Add(c.ctx, model, rq.Chat, rq.Messages)
		r.Proof.Add(proof)
		if err != nil {
			return nil, storage(err)
		}
		r.Added = *added
	}
	r.Total = ix.Len()
	return r, nil
}

// maxSenders bounds the names that a query is searched for.
const maxSenders = 2000

// find searches the caller's index; names are those of its senders, if they are
// to be hidden.
func (c *call) find(rq *SearchRequest) (f *index.Found, names []string, proof assist.Proof, err error) {
	if len(rq.Chats) > 1000 {
		return nil, nil, proof, openai.InvalidRequest("chats", "'chats' has %d chats; at most 1000 are taken.", len(rq.Chats))
	}
	ix, done, err := c.indexes.of(c.user)
	if err != nil {
		return nil, nil, proof, err
	}
	defer done()
	model := c.model
	if rq.Mask {
		names = ix.Senders(rq.Chats, maxSenders)
		model = assist.MaskEmbeddings(model, names...)
	}
	f, proof, err = ix.Search(c.ctx, model, &index.Query{Text: rq.Query, Chats: rq.Chats, From: rq.From, Since: rq.Since, Until: rq.Until, N: rq.N})
	return f, names, proof, storage(err)
}

func (c *call) search(rq *SearchRequest) (*SearchResult, error) {
	f, _, proof, err := c.find(rq)
	if err != nil {
		return nil, err
	}
	r := &SearchResult{Answer: answered("search@1", proof), Hits: f.Hits, Mode: f.Mode}
	r.Notes = notes(f)
	return r, nil
}

// notes are what a reader of hits should know.
func notes(f *index.Found) (out []string) {
	switch f.Mode {
	case index.ModeLexical:
		out = append(out, "Lexical: this network's embedding model knows letters, not meanings.")
	case index.ModeWords:
		out = append(out, "Only words were compared: there is no embedding model, or the messages were indexed with another one.")
	}
	if f.Other > 0 {
		out = append(out, fmt.Sprintf("%d messages were indexed with another embedding model and are found by their words only.", f.Other))
	}
	return out
}

func (c *call) ask(rq *AskRequest) (*AskResult, error) {
	f, names, proof, err := c.find(&rq.SearchRequest)
	if err != nil {
		return nil, err
	}
	// Ids may be the same in two chats: the model's messages are numbered anew.
	ms := make([]assist.Message, len(f.Hits))
	for i, h := range f.Hits {
		ms[i] = assist.Message{ID: assist.NumberID(int64(i)), From: h.From, Time: h.Time, Text: h.Text}
	}
	a, err := c.Ask(c.ctx, &assist.AskRequest{Query: rq.Query, Messages: ms, To: rq.To, Mask: rq.Mask, Names: names}, c.tell)
	if err != nil {
		return nil, err
	}
	r := &AskResult{Answer: a.Answer, Text: a.Text, Refs: []Ref{}, Hits: f.Hits, Mode: f.Mode}
	asked := r.Proof
	r.Proof = answered("", proof).Proof
	r.Proof.Add(asked)
	r.Notes = append(r.Notes, notes(f)...)
	for i, m := range ms {
		for _, id := range a.Refs {
			if id == m.ID {
				r.Refs = append(r.Refs, Ref{f.Hits[i].Chat, f.Hits[i].ID})
			}
		}
	}
	return r, nil
}
