//go:build !tee

package demo

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sync/semaphore"
)

// Sentence is the answer of the demo model to what it does not know.
const Sentence = "I am only a small demo model: I know Cocoon, a phrase book and short chats."

// unsure is the probability of the first token below which the model is taken
// to be guessing.
const unsure = 0.3

// state is one computed prompt.
type state struct {
	prompt int // tokens
	cached int // of them from the prefix cache
	c      *cache
	logits []float32
}

// step runs one forward step at the gate. The gate is first come, first served,
// and every sequence comes back for each step: that is the fair scheduling.
func (s *Server) step(ctx context.Context, c *cache, tokens []int32, last bool, logits *[]float32) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if err := s.gate.Acquire(ctx, 1); err != nil {
		return context.Cause(ctx)
	}
	defer s.gate.Release(1)
	sc := s.scratch.Get().(*scratch)
	s.model.forward(sc, c, tokens, last)
	if last {
		*logits = append((*logits)[:0], sc.logits...)
	}
	s.scratch.Put(sc)
	return nil
}

// prefill computes a prompt, or what the prefix cache does not have of it.
func (s *Server) prefill(ctx context.Context, salt string, tokens []int32) (*state, error) {
	q := &state{prompt: len(tokens), c: s.prefixes.find(s.model, salt, tokens)}
	q.cached = q.c.n
	for at := q.c.n; at < len(tokens); {
		n := min(chunk, len(tokens)-at)
		if err := s.step(ctx, q.c, tokens[at:at+n], at+n == len(tokens), &q.logits); err != nil {
			return nil, err
		}
		s.stats.prompt.Add(int64(n))
		at += n
	}
	s.stats.cached.Add(int64(q.cached))
	s.prefixes.add(s.model, salt, tokens, q.c)
	return q, nil
}

// fork lets several answers grow from one prompt.
func (q *state) fork(m *model) *state {
	f := *q
	f.c, f.logits = q.c.clone(m, q.c.n), append([]float32(nil), q.logits...)
	return &f
}

// piece is what one token added to an answer. Text is valid UTF-8 and may be
// empty while a character or a stop string is incomplete.
type piece struct {
	text     string
	made     int // tokens of this answer so far
	logprobs []logprob
}

// generate continues q until the model ends, a stop string appears, the limit
// is reached or ctx ends. emit is called after each token. It returns the
// OpenAI finish reason.
func (s *Server) generate(ctx context.Context, q *state, p *sampling, choice int, emit func(piece) error) (string, error) {
	tok := s.model.tok
	sam := newSampler(p, tok, choice)
	out := holder{stops: p.stop}
	var forced []int32
	if p.confident && confidence(q.logits) < unsure {
		forced = append(tok.encode(nil, Sentence), tok.stop)
	}
	limit := min(p.maxTokens, s.model.context-q.c.n)
	var waiting []logprob
	for made := 1; ; made++ {
		if made > limit {
			return "length", emit(piece{text: out.rest(), made: made - 1, logprobs: waiting})
		}
		var id int32
		if len(forced) > 0 {
			id, forced = forced[0], forced[1:]
		} else {
			id = sam.next(q.logits)
		}
		s.stats.predicted.Add(1)
		if p.logprobs >= 0 {
			waiting = append(waiting, report(tok, q.logits, id, p.logprobs))
		}
		if tok.ends(id) {
			return "stop", emit(piece{text: out.rest(), made: made, logprobs: waiting})
		}
		text, stopped := out.add(tok.text[id])
		if stopped {
			return "stop", emit(piece{text: text, made: made, logprobs: waiting})
		}
		if err := emit(piece{text: text, made: made, logprobs: waiting}); err != nil {
			return "", err
		}
		waiting = waiting[:0]
		if made == limit {
			continue
		}
		if s.cfg.Pace > 0 {
			select {
			case <-time.After(s.cfg.Pace):
			case <-ctx.Done():
				return "", context.Cause(ctx)
			}
		}
		if err := s.step(ctx, q.c, []int32{id}, true, &q.logits); err != nil {
			return "", err
		}
	}
}

// holder turns token bytes into text that may be sent: it keeps back incomplete
// characters and what could become a stop string.
type holder struct {
	stops []string
	held  []byte
}

// add appends bytes and returns what is safe to send now. When a stop string
// completes it returns the text before it and true.
func (h *holder) add(s string) (string, bool) {
	h.held = append(h.held, s...)
	text := string(h.held)
	first := -1
	for _, stop := range h.stops {
		if i := strings.Index(text, stop); i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	if first >= 0 {
		h.held = nil
		return strings.ToValidUTF8(text[:first], "\uFFFD"), true
	}
	keep := utf8Tail(h.held)
	for _, stop := range h.stops {
		for n := min(len(stop)-1, len(text)); n > keep; n-- {
			if strings.HasSuffix(text, stop[:n]) {
				keep = n
				break
			}
		}
	}
	cut := len(text) - keep
	for cut > 0 && cut < len(text) && !utf8.RuneStart(text[cut]) {
		cut--
	}
	h.held = append(h.held[:0], text[cut:]...)
	return strings.ToValidUTF8(text[:cut], "\uFFFD"), false
}

// rest returns what was kept back.
func (h *holder) rest() string {
	text := strings.ToValidUTF8(string(h.held), "\uFFFD")
	h.held = nil
	return text
}

func newGate(threads int) *semaphore.Weighted { return semaphore.NewWeighted(int64(threads)) }
