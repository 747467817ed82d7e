package index

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/assist"
)

// What an index takes.
const (
	MaxBatch    = 2000    // messages of one Add
	MaxMessages = 500_000 // in all
	MaxChat     = 128     // bytes of a chat's name
	MaxQuery    = 1000    // characters
	MaxHits     = 50

	embedBatch = 32   // texts of every request for embeddings of messages
	embedChars = 2000 // of a text, the rest is found by its words only
	maxDims    = 4096
)

// Index is an open index.
type Index struct {
	mu    sync.RWMutex
	store keeper
	seed  maphash.Seed
	docs  []*doc // by slot; nil = free
	free  []uint32
	byKey map[name]uint32
	words map[uint64][]posting // by the hash of a word
	total int                  // words of all docs
	live  int

	// embedder made the vectors; those of others are not kept in memory.
	embedder string
	dims     int
	vectors  []int8 // slot*dims, of unit vectors times 1/scale
}

type doc struct {
	entry
	from  string
	time  int64
	words int
	// scale turns the vector's bytes into numbers; 0 = there is no vector.
	scale float32
}

type posting struct {
	slot  uint32
	count uint16
}

// record is what is sealed of a message; the vector follows it.
type record struct {
	From    string    `json:"f,omitempty"`
	Time    int64     `json:"t,omitempty"`
	Text    string    `json:"x"`
	ReplyTo assist.ID `json:"r,omitempty"`
	// Embedder made the vector.
	Embedder string  `json:"e,omitempty"`
	Scale    float32 `json:"s,omitempty"`
}

func newIndex(s keeper) *Index {
	return &Index{store: s, seed: maphash.MakeSeed(), byKey: map[name]uint32{}, words: map[uint64][]posting{}}
}

// New makes an index that is in memory alone.
func New() *Index { return newIndex(&memory{records: map[int64][]byte{}}) }

// Open opens the index in a folder, which it makes if there is none.
func Open(dir string) (*Index, error) {
	s, entries, err := openStore(dir)
	if err != nil {
		return nil, err
	}
	ix := newIndex(s)
	for _, e := range entries {
		b, err := s.read(e)
		var r *record
		var v []int8
		if err == nil {
			r, v, err = decodeRecord(b)
		}
		if err != nil {
			s.close()
			return nil, err
		}
		ix.insert(e, r, v)
		clear(b)
	}
	return ix, nil
}

// Close ends the use of the folder.
func (ix *Index) Close() error {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	return ix.store.close()
}

// Len is how many messages there are.
func (ix *Index) Len() int {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	return ix.live
}

// insert takes a message into memory; ix.mu is held, or nobody else has ix.
func (ix *Index) insert(e *entry, r *record, v []int8) {
	var slot uint32
	if n := len(ix.free); n > 0 {
		slot, ix.free = ix.free[n-1], ix.free[:n-1]
	} else {
		slot = uint32(len(ix.docs))
		ix.docs = append(ix.docs, nil)
		ix.vectors = append(ix.vectors, make([]int8, ix.dims)...)
	}
	d := &doc{entry: *e, from: r.From, time: r.Time}
	if len(v) > 0 && (ix.embedder == "" || ix.live == 0) {
		// The first one with a vector decides, until the index is empty again.
		ix.embedder, ix.dims = r.Embedder, len(v)
		ix.vectors = make([]int8, len(ix.docs)*ix.dims)
	}
	if len(v) > 0 && len(v) == ix.dims && r.Embedder == ix.embedder {
		d.scale = r.Scale
		copy(ix.vectors[int(slot)*ix.dims:], v)
	}
	counts := map[uint64]int{}
	for _, w := range terms(r.From + "\n" + r.Text) {
		counts[maphash.String(ix.seed, w)]++
		d.words++
	}
	for h, n := range counts {
		ix.words[h] = append(ix.words[h], posting{slot, uint16(min(n, math.MaxUint16))})
	}
	ix.total += d.words
	ix.live++
	ix.docs[slot] = d
	ix.byKey[d.name()] = slot
}

// drop takes messages out of memory: their keys, words and vectors.
func (ix *Index) drop(slots map[uint32]bool) {
	for h, list := range ix.words {
		left := slices.DeleteFunc(list, func(p posting) bool { return slots[p.slot] })
		if len(left) == 0 {
			delete(ix.words, h)
		} else {
			ix.words[h] = left
		}
	}
	for slot := range slots {
		d := ix.docs[slot]
		delete(ix.byKey, d.name())
		ix.total -= d.words
		ix.live--
		clear(ix.vectors[int(slot)*ix.dims:][:ix.dims])
		clear(d.key[:])
		ix.docs[slot] = nil
		ix.free = append(ix.free, slot)
	}
}

// entries are those of all messages but some, by their place.
func (ix *Index) entries(without map[uint32]bool) []*entry {
	out := make([]*entry, 0, ix.live)
	for slot, d := range ix.docs {
		if d != nil && !without[uint32(slot)] {
			out = append(out, &d.entry)
		}
	}
	slices.SortFunc(out, func(a, b *entry) int { return cmp.Compare(a.at, b.at) })
	return out
}

// Added says what an Add did.
type Added struct {
	Indexed   int `json:"indexed"`
	Unchanged int `json:"unchanged"` // were there, with the same text
	Skipped   int `json:"skipped"`   // without words
	// Mode is how these messages can be found.
	Mode string `json:"mode"`
}

// How messages are found: by their words alone; also by vectors that know
// letters only, as the demo's; also by meaning.
const (
	ModeWords    = "words"
	ModeLexical  = "lexical"
	ModeSemantic = "semantic"
)

// ModeOf says how vectors of an embedding model find; "" is no model.
func ModeOf(embedder string) string {
	switch {
	case embedder == "":
		return ModeWords
	case assist.IsSmall(embedder):
		return ModeLexical
	}
	return ModeSemantic
}

// CheckChat refuses names of chats that an index does not take.
func CheckChat(chat string) error {
	if len(chat) > MaxChat || !utf8.ValidString(chat) {
		return openai.InvalidRequest("chat", "'chat' must be text of at most %d bytes.", MaxChat)
	}
	return nil
}

// Add indexes messages of a chat, by words alone if model is nil. A message that is there already is replaced,
// its old text unrecoverable.
func (ix *Index) Add(ctx context.Context, model assist.Model, chat string, ms []assist.Message) (*Added, assist.Proof, error) {
	var proof assist.Proof
	if err := CheckChat(chat); err != nil {
		return nil, proof, err
	}
	if err := assist.CheckMessages("messages", ms, MaxBatch, 16<<20); err != nil {
		return nil, proof, err
	}
	a := &Added{}
	var todo []assist.Message
	for _, m := range ms {
		if len(terms(m.Text)) == 0 {
			a.Skipped++
			continue
		}
		same, err := ix.same(chat, &m)
		if err != nil {
			return nil, proof, err
		}
		if same {
			a.Unchanged++
			continue
		}
		todo = append(todo, m)
	}
	if ix.Len()+len(todo) > MaxMessages {
		return nil, proof, openai.InvalidRequest("messages", "The index holds %d messages at most: delete some, or forget a chat.", MaxMessages)
	}
	vectors, proof, err := embed(ctx, model, todo)
	if err != nil {
		return nil, proof, err
	}
	embedder := ""
	if vectors != nil {
		if embedder = proof.Model; embedder == "" {
			vectors = nil // of a model without a name it could not be said later which they are of
		}
	}
	a.Mode = ModeOf(embedder)
	var entries []*entry
	var sealed [][]byte
	var records []*record
	var quantised [][]int8
	for i, m := range todo {
		r := &record{From: m.From, Time: m.Time, Text: m.Text, ReplyTo: m.ReplyTo}
		var v []int8
		if vectors != nil {
			r.Embedder = embedder
			v, r.Scale = quantise(vectors[i])
		}
		b, err := encodeRecord(r, v)
		if err != nil {
			return nil, proof, err
		}
		e, s, err := seal(chat, m.ID, b)
		clear(b)
		if err != nil {
			return nil, proof, err
		}
		entries, sealed, records, quantised = append(entries, e), append(sealed, s), append(records, r), append(quantised, v)
	}
	if len(entries) == 0 {
		return a, proof, nil
	}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if err := ix.store.add(entries, sealed); err != nil {
		return nil, proof, err
	}
	old := map[uint32]bool{}
	for _, e := range entries {
		if slot, ok := ix.byKey[e.name()]; ok {
			old[slot] = true
		}
	}
	if len(old) > 0 {
		if err := ix.store.replace(append(ix.entries(old), entries...), false); err != nil {
			return nil, proof, err
		}
		ix.drop(old)
	}
	for i, e := range entries {
		ix.insert(e, records[i], quantised[i])
	}
	a.Indexed = len(entries)
	return a, proof, nil
}

// Senders are the names of those who wrote in chats, of all if none is named, at
// most n of them.
func (ix *Index) Senders(chats []string, n int) []string {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	q := &Query{Chats: chats}
	passes, seen := q.filter(), map[string]bool{}
	var out []string
	for _, d := range ix.docs {
		if len(out) < n && passes(d) && d.from != "" && !seen[d.from] {
			seen[d.from] = true
			out = append(out, d.from)
		}
	}
	return out
}

// same reports whether a message stands there with the same text.
func (ix *Index) same(chat string, m *assist.Message) (bool, error) {
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	slot, ok := ix.byKey[name{chat, m.ID}]
	if !ok {
		return false, nil
	}
	r, err := ix.record(ix.docs[slot])
	if err != nil {
		return false, err
	}
	return r.Text == m.Text && r.From == m.From && r.Time == m.Time && r.ReplyTo == m.ReplyTo, nil
}

func (ix *Index) record(d *doc) (*record, error) {
	b, err := ix.store.read(&d.entry)
	if err != nil {
		return nil, err
	}
	r, _, err := decodeRecord(b)
	clear(b)
	return r, err
}

// Delete removes messages of a chat and returns how many there were. When it
// returns, their keys are gone from the folder and from memory.
func (ix *Index) Delete(chat string, ids []assist.ID) (int, error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	gone := map[uint32]bool{}
	for _, id := range ids {
		if slot, ok := ix.byKey[name{chat, id}]; ok {
			gone[slot] = true
		}
	}
	return len(gone), ix.remove(gone)
}

// Forget removes all messages of a chat.
func (ix *Index) Forget(chat string) (int, error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	gone := map[uint32]bool{}
	for slot, d := range ix.docs {
		if d != nil && d.chat == chat {
			gone[uint32(slot)] = true
		}
	}
	return len(gone), ix.remove(gone)
}

// Retain removes all messages of a chat but these, and returns how many.
func (ix *Index) Retain(chat string, ids []assist.ID) (int, error) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	stay := make(map[assist.ID]bool, len(ids))
	for _, id := range ids {
		stay[id] = true
	}
	gone := map[uint32]bool{}
	for slot, d := range ix.docs {
		if d != nil && d.chat == chat && !stay[d.id] {
			gone[uint32(slot)] = true
		}
	}
	return len(gone), ix.remove(gone)
}

func (ix *Index) remove(gone map[uint32]bool) error {
	if len(gone) == 0 {
		return nil
	}
	if err := ix.store.replace(ix.entries(gone), false); err != nil {
		return err
	}
	ix.drop(gone)
	return nil
}

// filler pads batches of embeddings.
const filler = "ok"

// embed asks for vectors of messages, in batches of one size, so that who
// counts texts learns little of a chat. It returns nil if nobody makes them.
func embed(ctx context.Context, model assist.Model, ms []assist.Message) ([][]float32, assist.Proof, error) {
	var proof assist.Proof
	if model == nil {
		return nil, proof, nil
	}
	out := make([][]float32, len(ms))
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for at := 0; at < len(ms); at += embedBatch {
		g.Go(func() error {
			texts := make([]string, embedBatch)
			for i := range texts {
				texts[i] = filler
				if at+i < len(ms) {
					texts[i] = clip(ms[at+i].Text, embedChars)
				}
			}
			v, p, err := model.Embed(ctx, texts)
			mu.Lock()
			defer mu.Unlock()
			proof.Add(p)
			if err != nil {
				return err
			}
			if len(v) != len(texts) {
				return openai.Upstream("There are %d embeddings for %d texts.", len(v), len(texts))
			}
			if len(v[0]) > maxDims {
				return openai.Upstream("The embeddings have %d dimensions; at most %d are taken.", len(v[0]), maxDims)
			}
			copy(out[at:], v)
			return nil
		})
	}
	err := g.Wait()
	if errors.Is(err, assist.ErrNoEmbedder) {
		return nil, proof, nil
	}
	return out, proof, err
}

func clip(s string, n int) string {
	for i := range s {
		if n--; n < 0 {
			return s[:i]
		}
	}
	return s
}

// quantise makes a unit vector of v in bytes: each times scale is the number.
func quantise(v []float32) ([]int8, float32) {
	var norm, most float64
	for _, x := range v {
		norm += float64(x) * float64(x)
		most = max(most, math.Abs(float64(x)))
	}
	q := make([]int8, len(v))
	if most == 0 {
		return q, 0
	}
	for i, x := range v {
		q[i] = int8(math.Round(float64(x) / most * 127))
	}
	return q, float32(most / 127 / math.Sqrt(norm))
}

// dot is the product of two vectors of bytes of one length.
func dot(a, b []int8) int32 {
	var s0, s1, s2, s3 int32
	b = b[:len(a)]
	for len(a) >= 4 && len(b) >= 4 {
		s0 += int32(a[0]) * int32(b[0])
		s1 += int32(a[1]) * int32(b[1])
		s2 += int32(a[2]) * int32(b[2])
		s3 += int32(a[3]) * int32(b[3])
		a, b = a[4:], b[4:]
	}
	for i := range a {
		s0 += int32(a[i]) * int32(b[i])
	}
	return s0 + s1 + s2 + s3
}

func encodeRecord(r *record, v []int8) ([]byte, error) {
	j, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(j)))
	b = append(b, j...)
	for _, x := range v {
		b = append(b, byte(x))
	}
	return b, nil
}

func decodeRecord(b []byte) (*record, []int8, error) {
	if len(b) < 4 || uint64(binary.LittleEndian.Uint32(b)) > uint64(len(b)-4) {
		return nil, nil, errCorrupt
	}
	n := binary.LittleEndian.Uint32(b)
	r := &record{}
	if err := json.Unmarshal(b[4:4+n], r); err != nil {
		return nil, nil, errCorrupt
	}
	rest := b[4+n:]
	if len(rest) > maxDims || r.Scale < 0 || len(rest) > 0 && r.Embedder == "" {
		return nil, nil, errCorrupt
	}
	v := make([]int8, len(rest))
	for i, x := range rest {
		v[i] = int8(x)
	}
	return r, v, nil
}

// scored is a message and how well it fits.
type scored struct {
	slot  uint32
	score float32
}

func best(list []scored, n int) []scored {
	slices.SortFunc(list, func(a, b scored) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.slot, b.slot))
	})
	return list[:min(n, len(list))]
}

// Query is what is looked for.
type Query struct {
	Text string
	// Chats to look in; empty = all.
	Chats []string
	// From is a sender's name; "" = anybody.
	From string
	// Since and Until bound the time, in Unix seconds; 0 = no bound.
	Since, Until int64
	// N is how many hits are wanted; 0 = 10.
	N int
}

// Hit is a message that was found.
type Hit struct {
	Chat    string    `json:"chat,omitempty"`
	ID      assist.ID `json:"id"`
	From    string    `json:"from,omitempty"`
	Time    int64     `json:"ts,omitempty"`
	Snippet string    `json:"snippet"`
	Score   float64   `json:"score"` // of use for comparing hits of one search
	// Text is the whole message.
	Text string `json:"-"`
}

// Found is the outcome of a search.
type Found struct {
	Hits []Hit
	// Mode is how was looked for; Other counts messages whose vectors are of
	// another model, so that only their words count.
	Mode  string
	Other int
}

// The constants of reciprocal rank fusion (Cormack et al., SIGIR 2009) and of
// BM25 (Robertson and Zaragoza, 2009).
const (
	fusion    = 60
	listDepth = 200
	bm25K     = 1.2
	bm25B     = 0.75
	nearest   = 0.1 // cosine below which a vector says nothing
)

// Search finds messages by words and, if model is not nil and makes embeddings,
// by meaning, and merges both rankings.
func (ix *Index) Search(ctx context.Context, model assist.Model, q *Query) (*Found, assist.Proof, error) {
	var proof assist.Proof
	if strings.TrimSpace(q.Text) == "" {
		return nil, proof, openai.Missing("query")
	}
	if !utf8.ValidString(q.Text) || utf8.RuneCountInString(q.Text) > MaxQuery {
		return nil, proof, openai.InvalidRequest("query", "'query' must be text of at most %d characters.", MaxQuery)
	}
	if q.N < 0 || q.N > MaxHits {
		return nil, proof, openai.InvalidRequest("n", "'n' must be from 1 to %d.", MaxHits)
	}
	n := cmp.Or(q.N, 10)
	var wanted []int8
	var scale float32
	embedder := ""
	ix.mu.RLock()
	any, has := ix.live > 0, ix.embedder != ""
	ix.mu.RUnlock()
	if !any {
		return &Found{Hits: []Hit{}, Mode: ModeWords}, proof, nil
	}
	if model != nil && has {
		v, p, err := model.Embed(ctx, []string{q.Text})
		proof = p
		if err != nil && !errors.Is(err, assist.ErrNoEmbedder) {
			return nil, proof, err
		}
		if err == nil && len(v) == 1 && len(v[0]) <= maxDims {
			wanted, scale = quantise(v[0])
			embedder = p.Model
		}
	}
	ix.mu.RLock()
	defer ix.mu.RUnlock()
	passes := q.filter()
	f := &Found{Hits: []Hit{}, Mode: ModeWords}
	scores := map[uint32]float64{}
	add := func(list []scored) {
		for rank, s := range best(list, listDepth) {
			scores[s.slot] += 1 / float64(fusion+rank+1)
		}
	}
	add(ix.byWords(q.Text, passes))
	if embedder != "" && embedder == ix.embedder && len(wanted) == ix.dims {
		f.Mode = ModeOf(embedder)
		add(ix.byVector(wanted, scale, passes))
	}
	for _, d := range ix.docs {
		if d != nil && d.scale == 0 && f.Mode != ModeWords {
			f.Other++
		}
	}
	var list []scored
	for slot, s := range scores {
		list = append(list, scored{slot, float32(s)})
	}
	for _, s := range best(list, n) {
		d := ix.docs[s.slot]
		r, err := ix.record(d)
		if err != nil {
			return nil, proof, err
		}
		f.Hits = append(f.Hits, Hit{Chat: d.chat, ID: d.id, From: d.from, Time: d.time, Text: r.Text,
			Snippet: snippet(r.Text, q.Text), Score: math.Round(float64(s.score)*1e5) / 1e5})
	}
	return f, proof, nil
}

func (q *Query) filter() func(*doc) bool {
	chats := make(map[string]bool, len(q.Chats))
	for _, c := range q.Chats {
		chats[c] = true
	}
	return func(d *doc) bool {
		return d != nil && (len(chats) == 0 || chats[d.chat]) && (q.From == "" || strings.EqualFold(q.From, d.from)) &&
			(q.Since == 0 || d.time >= q.Since) && (q.Until == 0 || d.time <= q.Until && d.time != 0)
	}
}

// byWords ranks by BM25.
func (ix *Index) byWords(text string, passes func(*doc) bool) []scored {
	scores := map[uint32]float32{}
	seen := map[uint64]bool{}
	mean := float64(ix.total) / float64(max(ix.live, 1))
	for _, w := range terms(text) {
		h := maphash.String(ix.seed, w)
		if seen[h] {
			continue
		}
		seen[h] = true
		list := ix.words[h]
		idf := math.Log(1 + (float64(ix.live)-float64(len(list))+0.5)/(float64(len(list))+0.5))
		for _, p := range list {
			d := ix.docs[p.slot]
			if !passes(d) {
				continue
			}
			tf := float64(p.count)
			scores[p.slot] += float32(idf * tf * (bm25K + 1) / (tf + bm25K*(1-bm25B+bm25B*float64(d.words)/mean)))
		}
	}
	out := make([]scored, 0, len(scores))
	for slot, s := range scores {
		out = append(out, scored{slot, s})
	}
	return out
}

// byVector ranks by cosine: every vector is looked at.
func (ix *Index) byVector(wanted []int8, scale float32, passes func(*doc) bool) []scored {
	var out []scored
	for slot, d := range ix.docs {
		if d == nil || d.scale == 0 {
			continue
		}
		near := float32(dot(wanted, ix.vectors[slot*ix.dims:][:ix.dims])) * scale * d.scale
		if near >= nearest && passes(d) {
			out = append(out, scored{uint32(slot), near})
		}
	}
	return out
}
