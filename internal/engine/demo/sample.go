//go:build !tee

package demo

import (
	"math"
	"math/rand/v2"
	"slices"
)

// sampling says how tokens are chosen.
type sampling struct {
	temperature, topP   float64 // temperature 0 = always the best token
	topK                int     // 0 = all
	presence, frequency float64
	seed                uint64
	logprobs            int // alternatives to report; -1 = report nothing
	maxTokens           int
	stop                []string
	ignoreEnd           bool
	grammar             *grammar
	confident           bool // say the demo sentence when unsure
}

// sampler chooses tokens of one sequence.
type sampler struct {
	*sampling
	rng    *rand.Rand
	seen   map[int32]int
	work   []float32
	order  []int32
	tok    *tokenizer
	match  matcher
	strict bool
}

func newSampler(p *sampling, tok *tokenizer, choice int) *sampler {
	s := &sampler{sampling: p, tok: tok, rng: rand.New(rand.NewPCG(p.seed, uint64(choice)))}
	if p.presence != 0 || p.frequency != 0 {
		s.seen = map[int32]int{}
	}
	if p.grammar != nil {
		s.match, s.strict = p.grammar.matcher(), true
	}
	return s
}

func (t *tokenizer) ends(id int32) bool { return id == t.stop || id == t.end }

// next returns the next token for the given logits.
func (s *sampler) next(logits []float32) int32 {
	if cap(s.work) < len(logits) {
		s.work = make([]float32, len(logits))
	}
	w := s.work[:len(logits)]
	copy(w, logits)
	for id, n := range s.seen {
		w[id] -= float32(s.presence + s.frequency*float64(n))
	}
	never := float32(math.Inf(-1))
	for id, text := range s.tok.text {
		switch {
		case s.tok.ends(int32(id)):
			// The grammar says when to end; without one the model does.
			if s.strict && !s.match.end || s.ignoreEnd && !s.strict {
				w[id] = never
			}
		case text == "":
			w[id] = never
		case s.strict:
			if _, ok := s.match.accept(text); !ok {
				w[id] = never
			}
		}
	}
	id := s.choose(w)
	if s.strict && !s.tok.ends(id) {
		s.match, _ = s.match.accept(s.tok.text[id])
	}
	if s.seen != nil {
		s.seen[id]++
	}
	return id
}

func (s *sampler) choose(w []float32) int32 {
	best := argmax(w)
	if s.temperature <= 0 {
		return best
	}
	s.order = s.order[:0]
	top := w[best]
	for i, v := range w {
		if v > float32(math.Inf(-1)) {
			w[i] = exp32((v - top) / float32(s.temperature))
			s.order = append(s.order, int32(i))
		}
	}
	order := s.order
	if s.topP < 1 || s.topK > 0 {
		slices.SortFunc(order, func(a, b int32) int {
			switch {
			case w[a] > w[b]:
				return -1
			case w[a] < w[b]:
				return 1
			}
			return int(a - b)
		})
		if s.topK > 0 && s.topK < len(order) {
			order = order[:s.topK]
		}
	}
	var sum float64
	for _, i := range order {
		sum += float64(w[i])
	}
	if s.topP < 1 {
		var part float64
		for n, i := range order {
			if part += float64(w[i]); part >= s.topP*sum {
				order, sum = order[:n+1], part
				break
			}
		}
	}
	x := s.rng.Float64() * sum
	for _, i := range order {
		if x -= float64(w[i]); x < 0 {
			return i
		}
	}
	return order[len(order)-1]
}

func argmax(w []float32) int32 {
	best := 0
	for i, v := range w {
		if v > w[best] {
			best = i
		}
	}
	return int32(best)
}

// logprob is one token with its log-probability.
type logprob struct {
	text string
	p    float64
	top  []logprob
}

// report describes the choice of id with the n best alternatives.
func report(tok *tokenizer, logits []float32, id int32, n int) logprob {
	best := float64(logits[argmax(logits)])
	var sum float64
	for _, v := range logits {
		sum += math.Exp(float64(v) - best)
	}
	norm := best + math.Log(sum)
	out := logprob{text: tok.name(id), p: float64(logits[id]) - norm}
	if n == 0 {
		return out
	}
	order := make([]int32, len(logits))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return int(a - b)
	})
	for _, i := range order[:min(n, len(order))] {
		out.top = append(out.top, logprob{text: tok.name(i), p: float64(logits[i]) - norm})
	}
	return out
}

// name is the text of a token, control tokens included.
func (t *tokenizer) name(id int32) string {
	switch id {
	case t.end:
		return "<|endoftext|>"
	case t.start:
		return "<|im_start|>"
	case t.stop:
		return "<|im_end|>"
	}
	return t.text[id]
}

// confidence is the probability of the best token.
func confidence(logits []float32) float64 {
	best := logits[argmax(logits)]
	var sum float64
	for _, v := range logits {
		sum += float64(exp32(v - best))
	}
	return 1 / sum
}
