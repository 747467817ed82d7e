package main

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestGradient compares the backward pass with finite differences, one
// parameter of every tensor.
func TestGradient(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := NewModel(Shape{Vocab: 48, Dim: 32, Layers: 2, Heads: 2, KVHeads: 1, FF: 48, Context: 32, RopeBase: 10000, Eps: 1e-5}, rng)
	w := NewWorker(m)
	var seqs []Seq
	for _, n := range []int{5, 19, 8} {
		s := Seq{Tokens: make([]int32, n), Weight: make([]float32, n)}
		for i := range n {
			s.Tokens[i], s.Weight[i] = int32(rng.IntN(48)), float32(i%3)
		}
		s.Weight[n-1] = 0
		seqs = append(seqs, s)
	}
	loss := func() float64 {
		m.Refresh()
		w.Forward(seqs)
		return w.Backward(seqs, 1)
	}
	loss()
	grads := make([][]float32, len(w.Grad))
	for i, g := range w.Grad {
		grads[i] = append([]float32(nil), g...)
	}
	for pi, p := range m.Params {
		best := 0
		for i, g := range grads[pi] {
			if math.Abs(float64(g)) > math.Abs(float64(grads[pi][best])) {
				best = i
			}
		}
		const h = 2e-3
		old := p.W[best]
		p.W[best] = old + h
		up := loss()
		p.W[best] = old - h
		down := loss()
		p.W[best] = old
		want := (up - down) / (2 * h)
		got := float64(grads[pi][best])
		if math.Abs(got-want) > 0.02*math.Abs(want)+1e-2 {
			t.Errorf("%s[%d]: gradient %g, finite difference %g", p.Name, best, got, want)
		}
	}
}

func BenchmarkStep(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	m := NewModel(shape, rng)
	w := NewWorker(m)
	var seqs []Seq
	n := 0
	for range 16 {
		s := Seq{Tokens: make([]int32, 90), Weight: make([]float32, 90)}
		for i := range s.Tokens {
			s.Tokens[i], s.Weight[i] = int32(rng.IntN(m.Vocab)), float32(i&1)
		}
		s.Weight[89] = 0
		n += len(s.Tokens)
		seqs = append(seqs, s)
	}
	for b.Loop() {
		w.Forward(seqs)
		w.Backward(seqs, float32(n))
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "tokens/s")
}
