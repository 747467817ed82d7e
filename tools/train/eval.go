package main

import (
	"fmt"
	"io"
	"math"
)

// heldLoss is the mean loss over answers of held-out examples.
func heldLoss(m *Model, tok *Tokenizer) float64 {
	g, w := newGen(77), NewWorker(m)
	var loss, n float64
	for range 60 {
		var seqs []Seq
		for len(seqs) < 8 {
			if e := g.single(); e.Held() {
				seqs = append(seqs, tok.Sequence(&e))
			}
		}
		w.Forward(seqs)
		loss += w.Backward(seqs, 1)
		for _, s := range seqs {
			for _, v := range s.Weight {
				n += float64(v)
			}
		}
	}
	return loss / n
}

// greedy continues the prompt until an end token. It recomputes everything for
// each token: simple, and fast enough for an evaluation.
func greedy(w *Worker, tok *Tokenizer, prompt []int32, limit int) string {
	ids := append([]int32(nil), prompt...)
	for range limit {
		s := Seq{Tokens: ids, Weight: make([]float32, len(ids))}
		s.Weight[len(ids)-1] = 1
		w.Forward([]Seq{s})
		best := int32(0)
		for i, v := range w.logits {
			if v > w.logits[best] {
				best = int32(i)
			}
		}
		if best == tok.Special(0) || best == tok.Special(2) {
			break
		}
		ids = append(ids, best)
	}
	return tok.Decode(ids[len(prompt):])
}

// Prompt is the conversation up to where the model answers.
func (t *Tokenizer) Prompt(e *Example) []int32 {
	open := *e
	s := t.Sequence(&open)
	last := len(t.Encode(e.Turns[len(e.Turns)-1].Answer)) + len(t.Encode("\n")) + 1
	return s.Tokens[:len(s.Tokens)-last]
}

// evaluate prints held-out loss, the share of exact answers for each class,
// and some failures in full.
func evaluate(out io.Writer, m *Model, tok *Tokenizer, n int) error {
	fmt.Fprintf(out, "held-out loss %.4f (perplexity %.3f)\n", heldLoss(m, tok), math.Exp(heldLoss(m, tok)))
	w := NewWorker(m)
	for _, c := range classes {
		if c.name == "text" {
			continue
		}
		g := newGen(uint64(4242 + len(c.name)))
		right, done, shown := 0, 0, 0
		var failures []string
		for done < n {
			e := c.make(g)
			if e.Split && !e.Held() {
				continue
			}
			if e.System == "" && g.IntN(2) == 0 {
				e.System = pick(g, systems)
			}
			done++
			t := e.Turns[len(e.Turns)-1]
			got := greedy(w, tok, tok.Prompt(&e), 160)
			if got == t.Answer {
				right++
			} else if shown < 4 {
				shown++
				failures = append(failures, fmt.Sprintf("    asked %q\n    wanted %q\n    got    %q", t.User, t.Answer, got))
			}
		}
		fmt.Fprintf(out, "%-10s %3d of %3d exact\n", c.name, right, done)
		for _, f := range failures {
			fmt.Fprintln(out, f)
		}
	}
	return nil
}
