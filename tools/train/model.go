package main

import (
	"math"
	"math/rand/v2"
)

// Shape is a llama-shaped transformer: RMSNorm, rotary positions on adjacent
// pairs, grouped-query attention, SwiGLU, output tied to the embedding.
type Shape struct {
	Vocab, Dim, Layers, Heads, KVHeads, FF, Context int
	RopeBase, Eps                                   float64
}

func (s Shape) headDim() int { return s.Dim / s.Heads }
func (s Shape) kvDim() int   { return s.headDim() * s.KVHeads }

// Param is one tensor, its gradient and its optimiser state. Matrices are
// stored input-major: rows inputs, cols outputs.
type Param struct {
	Name       string
	Rows, Cols int
	W, M, V    []float32
	Decay      bool
	T          []float32 // W transposed, refreshed before each step
}

type layer struct {
	attnNorm, q, k, v, o, ffnNorm, gate, up, down int // indices into Model.Params
}

// Model is the parameters; activations live in a Worker.
type Model struct {
	Shape
	Params []*Param
	embed  int
	norm   int
	layers []layer
	cos    []float32 // [Context][headDim/2]
	sin    []float32
}

// NewModel initialises a model from rng.
func NewModel(s Shape, rng *rand.Rand) *Model {
	m := &Model{Shape: s}
	add := func(name string, rows, cols int, std float64) int {
		p := &Param{Name: name, Rows: rows, Cols: cols, Decay: rows > 1}
		n := rows * cols
		p.W, p.M, p.V = make([]float32, n), make([]float32, n), make([]float32, n)
		for i := range p.W {
			if rows == 1 {
				p.W[i] = 1
			} else {
				p.W[i] = float32(rng.NormFloat64() * std)
			}
		}
		if rows > 1 {
			p.T = make([]float32, n)
		}
		m.Params = append(m.Params, p)
		return len(m.Params) - 1
	}
	d, ff := s.Dim, s.FF
	std := 1 / math.Sqrt(float64(d))
	out := std / math.Sqrt(2*float64(s.Layers))
	m.embed = add("token_embd", s.Vocab, d, 0.05)
	for i := range s.Layers {
		pre := "blk." + string(rune('0'+i)) + "."
		var l layer
		l.attnNorm = add(pre+"attn_norm", 1, d, 0)
		l.q = add(pre+"attn_q", d, d, std)
		l.k = add(pre+"attn_k", d, s.kvDim(), std)
		l.v = add(pre+"attn_v", d, s.kvDim(), std)
		l.o = add(pre+"attn_output", d, d, out)
		l.ffnNorm = add(pre+"ffn_norm", 1, d, 0)
		l.gate = add(pre+"ffn_gate", d, ff, std)
		l.up = add(pre+"ffn_up", d, ff, std)
		l.down = add(pre+"ffn_down", ff, d, out*math.Sqrt(float64(d)/float64(ff)))
		m.layers = append(m.layers, l)
	}
	m.norm = add("output_norm", 1, d, 0)
	half := s.headDim() / 2
	m.cos, m.sin = make([]float32, s.Context*half), make([]float32, s.Context*half)
	for t := range s.Context {
		for i := range half {
			a := float64(t) * math.Pow(s.RopeBase, -2*float64(i)/float64(s.headDim()))
			m.cos[t*half+i], m.sin[t*half+i] = float32(math.Cos(a)), float32(math.Sin(a))
		}
	}
	m.Refresh()
	return m
}

// Refresh recomputes the transposed copies after W changed.
func (m *Model) Refresh() {
	for _, p := range m.Params {
		if p.T != nil {
			transpose(p.T, p.W, p.Rows, p.Cols)
		}
	}
}

// Count returns the number of parameters.
func (m *Model) Count() int {
	n := 0
	for _, p := range m.Params {
		n += len(p.W)
	}
	return n
}

// Seq is one training sequence: Weight[i] weighs the prediction of Tokens[i+1];
// the last one is zero.
type Seq struct {
	Tokens []int32
	Weight []float32
}

type saved struct {
	x, h, q, k, v, o, mid, h2, gate, up, sg, act []float32
	r1, r2                                       []float32
	probs                                        []float32
}

// Worker holds the activations and gradients of one thread.
type Worker struct {
	m       *Model
	Grad    [][]float32
	layers  []saved
	x, h    []float32
	r       []float32
	logits  []float32
	dx, dh  []float32
	dq, dk  []float32
	dv, do  []float32
	dg, du  []float32
	da      []float32
	kt      []float32
	ds      []float32
	active  []int
	ha, dha []float32
	pack    packing
}

// NewWorker returns a worker for m.
func NewWorker(m *Model) *Worker {
	w := &Worker{m: m, layers: make([]saved, m.Layers)}
	for _, p := range m.Params {
		w.Grad = append(w.Grad, make([]float32, len(p.W)))
	}
	return w
}

func grow(s *[]float32, n int) []float32 {
	if cap(*s) < n {
		*s = make([]float32, n+n/8)
	}
	*s = (*s)[:n]
	return *s
}

func zeroed(s *[]float32, n int) []float32 { b := grow(s, n); clear(b); return b }

func rmsForward(y, r, x, g []float32, d int, eps float64) {
	for t := range r {
		xs, ys := x[t*d:(t+1)*d], y[t*d:(t+1)*d]
		var s float64
		for _, v := range xs {
			s += float64(v) * float64(v)
		}
		inv := float32(1 / math.Sqrt(s/float64(d)+eps))
		r[t] = inv
		for i, v := range xs {
			ys[i] = v * inv * g[i]
		}
	}
}

// rmsBackward adds the gradient to dx and dg.
func rmsBackward(dx, dg, dy, x, r, g []float32, d int) {
	for t, inv := range r {
		xs, dys, dxs := x[t*d:(t+1)*d], dy[t*d:(t+1)*d], dx[t*d:(t+1)*d]
		var dot float64
		for i, v := range xs {
			dg[i] += dys[i] * v * inv
			dot += float64(dys[i] * g[i] * v)
		}
		c := float32(dot) * inv * inv * inv / float32(d)
		for i, v := range xs {
			dxs[i] += dys[i]*g[i]*inv - v*c
		}
	}
}

func (m *Model) rope(x []float32, dim int, seqs []Seq, sign float32) {
	hd := m.headDim()
	half := hd / 2
	row := 0
	for _, s := range seqs {
		for t := range s.Tokens {
			v := x[row*dim : (row+1)*dim]
			row++
			cos, sin := m.cos[t*half:(t+1)*half], m.sin[t*half:(t+1)*half]
			for h := 0; h < dim; h += hd {
				for i := range half {
					a, b, sn := v[h+2*i], v[h+2*i+1], sin[i]*sign
					v[h+2*i], v[h+2*i+1] = a*cos[i]-b*sn, a*sn+b*cos[i]
				}
			}
		}
	}
}

func pad16(n int) int { return (n + 15) &^ 15 }

func (w *Worker) linear(y, x []float32, p, n int) {
	q := w.m.Params[p]
	clear(y)
	w.pack.gemm(y, q.Cols, x, q.Rows, 1, q.W, q.Cols, n, q.Cols, q.Rows)
}

// linearBack adds dy·Wᵀ to dx and xᵀ·dy to the gradient.
func (w *Worker) linearBack(dx, dy, x []float32, p, n int) {
	q := w.m.Params[p]
	w.pack.gemm(dx, q.Rows, dy, q.Cols, 1, q.T, q.Rows, n, q.Rows, q.Cols)
	w.pack.gemm(w.Grad[p], q.Cols, x, 1, q.Rows, dy, q.Cols, q.Rows, q.Cols, n)
}

func rows(seqs []Seq) int {
	n := 0
	for _, s := range seqs {
		n += len(s.Tokens)
	}
	return n
}

// Forward runs seqs side by side and leaves logits for every position that
// carries loss, in order.
func (w *Worker) Forward(seqs []Seq) {
	m := w.m
	n, d, kd, ff, hd := rows(seqs), m.Dim, m.kvDim(), m.FF, m.headDim()
	x := grow(&w.x, n*d)
	emb := m.Params[m.embed].W
	row := 0
	for _, s := range seqs {
		for _, t := range s.Tokens {
			copy(x[row*d:(row+1)*d], emb[int(t)*d:])
			row++
		}
	}
	nprobs := 0
	for _, s := range seqs {
		nprobs += m.Heads * len(s.Tokens) * pad16(len(s.Tokens))
	}
	for li := range m.layers {
		l, a := &m.layers[li], &w.layers[li]
		copy(grow(&a.x, n*d), x)
		rmsForward(grow(&a.h, n*d), grow(&a.r1, n), x, m.Params[l.attnNorm].W, d, m.Eps)
		w.linear(grow(&a.q, n*d), a.h, l.q, n)
		w.linear(grow(&a.k, n*kd), a.h, l.k, n)
		w.linear(grow(&a.v, n*kd), a.h, l.v, n)
		m.rope(a.q, d, seqs, 1)
		m.rope(a.k, kd, seqs, 1)
		probs := zeroed(&a.probs, nprobs)
		o := zeroed(&a.o, n*d)
		scale := float32(1 / math.Sqrt(float64(hd)))
		row = 0
		for _, s := range seqs {
			T := len(s.Tokens)
			P := pad16(T)
			for h := range m.Heads {
				kv := h * m.KVHeads / m.Heads * hd
				kt := zeroed(&w.kt, hd*P)
				for t := range T {
					for i := range hd {
						kt[i*P+t] = a.k[(row+t)*kd+kv+i]
					}
				}
				pr := probs[:T*P]
				probs = probs[T*P:]
				w.pack.gemm(pr, P, a.q[row*d+h*hd:], d, 1, kt, P, T, P, hd)
				for t := range T {
					softmax(pr[t*P:(t+1)*P], t+1, scale)
				}
				w.pack.gemm(o[row*d+h*hd:], d, pr, P, 1, a.v[row*kd+kv:], kd, T, hd, T)
			}
			row += T
		}
		mid := grow(&a.mid, n*d)
		w.linear(mid, o, l.o, n)
		for i, v := range x {
			mid[i] += v
		}
		rmsForward(grow(&a.h2, n*d), grow(&a.r2, n), mid, m.Params[l.ffnNorm].W, d, m.Eps)
		w.linear(grow(&a.gate, n*ff), a.h2, l.gate, n)
		w.linear(grow(&a.up, n*ff), a.h2, l.up, n)
		act, sg := grow(&a.act, n*ff), grow(&a.sg, n*ff)
		copy(sg, a.gate)
		expShift(sg, 0, -1)
		for i, g := range a.gate {
			sg[i] = 1 / (1 + sg[i])
			act[i] = g * sg[i] * a.up[i]
		}
		w.linear(x, act, l.down, n)
		for i, v := range mid {
			x[i] += v
		}
	}
	rmsForward(grow(&w.h, n*d), grow(&w.r, n), x, m.Params[m.norm].W, d, m.Eps)
	w.active = w.active[:0]
	row = 0
	for _, s := range seqs {
		for t := range s.Tokens {
			if s.Weight[t] != 0 {
				w.active = append(w.active, row)
			}
			row++
		}
	}
	// Only predictions that carry loss are computed.
	na := len(w.active)
	ha := grow(&w.ha, na*d)
	for i, r := range w.active {
		copy(ha[i*d:(i+1)*d], w.h[r*d:])
	}
	lg := zeroed(&w.logits, na*m.Vocab)
	w.pack.gemm(lg, m.Vocab, ha, d, 1, m.Params[m.embed].T, m.Vocab, na, m.Vocab, d)
}

// Backward adds the gradient of the weighted cross entropy divided by norm and
// returns the weighted sum of losses.
func (w *Worker) Backward(seqs []Seq, norm float32) float64 {
	m := w.m
	n, d, kd, ff, hd, V := rows(seqs), m.Dim, m.kvDim(), m.FF, m.headDim(), m.Vocab
	var loss float64
	ai := 0
	for _, s := range seqs {
		for t, wt := range s.Weight {
			if wt == 0 {
				continue
			}
			lg := w.logits[ai*V : (ai+1)*V]
			ai++
			softmax(lg, V, 1)
			want := s.Tokens[t+1]
			loss -= float64(wt) * math.Log(math.Max(float64(lg[want]), 1e-30))
			f := wt / norm
			for i := range lg {
				lg[i] *= f
			}
			lg[want] -= f
		}
	}
	emb := m.Params[m.embed]
	na := len(w.active)
	dha := zeroed(&w.dha, na*d)
	w.pack.gemm(dha, d, w.logits, V, 1, emb.W, d, na, d, V)
	w.pack.gemm(w.Grad[m.embed], d, w.logits, 1, V, w.ha, d, V, d, na)
	dh := zeroed(&w.dh, n*d)
	for i, r := range w.active {
		copy(dh[r*d:(r+1)*d], dha[i*d:])
	}
	dx := zeroed(&w.dx, n*d)
	rmsBackward(dx, w.Grad[m.norm], dh, w.x, w.r, m.Params[m.norm].W, d)
	scale := float32(1 / math.Sqrt(float64(hd)))
	for li := m.Layers - 1; li >= 0; li-- {
		l, a := &m.layers[li], &w.layers[li]
		da := zeroed(&w.da, n*ff)
		w.linearBack(da, dx, a.act, l.down, n)
		dg, du := grow(&w.dg, n*ff), grow(&w.du, n*ff)
		for i, g := range a.gate {
			sg := a.sg[i]
			du[i] = da[i] * g * sg
			dg[i] = da[i] * a.up[i] * sg * (1 + g*(1-sg))
		}
		dh = zeroed(&w.dh, n*d)
		w.linearBack(dh, dg, a.h2, l.gate, n)
		w.linearBack(dh, du, a.h2, l.up, n)
		rmsBackward(dx, w.Grad[l.ffnNorm], dh, a.mid, a.r2, m.Params[l.ffnNorm].W, d)
		do := zeroed(&w.do, n*d)
		w.linearBack(do, dx, a.o, l.o, n)
		dq, dk, dv := zeroed(&w.dq, n*d), zeroed(&w.dk, n*kd), zeroed(&w.dv, n*kd)
		probs := a.probs
		row := 0
		for _, s := range seqs {
			T := len(s.Tokens)
			P := pad16(T)
			for h := range m.Heads {
				kv := h * m.KVHeads / m.Heads * hd
				pr := probs[:T*P]
				probs = probs[T*P:]
				vt := zeroed(&w.kt, hd*P)
				for t := range T {
					for i := range hd {
						vt[i*P+t] = a.v[(row+t)*kd+kv+i]
					}
				}
				ds := zeroed(&w.ds, T*P)
				dout := do[row*d+h*hd:]
				w.pack.gemm(ds, P, dout, d, 1, vt, P, T, P, hd)
				w.pack.gemm(dv[row*kd+kv:], kd, pr, 1, P, dout, d, T, hd, T)
				for t := range T {
					p, g := pr[t*P:t*P+t+1], ds[t*P:(t+1)*P]
					var dot float32
					for i, v := range p {
						dot += v * g[i]
					}
					for i, v := range p {
						g[i] = v * (g[i] - dot) * scale
					}
					clear(g[t+1:])
				}
				w.pack.gemm(dq[row*d+h*hd:], d, ds, P, 1, a.k[row*kd+kv:], kd, T, hd, T)
				w.pack.gemm(dk[row*kd+kv:], kd, ds, 1, P, a.q[row*d+h*hd:], d, T, hd, T)
			}
			row += T
		}
		m.rope(dq, d, seqs, -1)
		m.rope(dk, kd, seqs, -1)
		dh = zeroed(&w.dh, n*d)
		w.linearBack(dh, dq, a.h, l.q, n)
		w.linearBack(dh, dk, a.h, l.k, n)
		w.linearBack(dh, dv, a.h, l.v, n)
		rmsBackward(dx, w.Grad[l.attnNorm], dh, a.x, a.r1, m.Params[l.attnNorm].W, d)
	}
	g := w.Grad[m.embed]
	row := 0
	for _, s := range seqs {
		for _, t := range s.Tokens {
			dst := g[int(t)*d : (int(t)+1)*d]
			for i, v := range dx[row*d : (row+1)*d] {
				dst[i] += v
			}
			row++
		}
	}
	return loss
}

// softmax turns the first n scores times scale into probabilities and clears
// the rest.
func softmax(x []float32, n int, scale float32) {
	best := x[0]
	for _, v := range x[1:n] {
		best = max(best, v)
	}
	expShift(x[:n], best, scale)
	var sum float32
	for _, v := range x[:n] {
		sum += v
	}
	inv := 1 / sum
	for i := range x[:n] {
		x[i] *= inv
	}
	clear(x[n:])
}

// exp32 is e^x for float32: 2^k times a polynomial, error below 3e-7.
func exp32(x float32) float32 {
	if x < -87 {
		return 0
	}
	if x > 88 {
		x = 88
	}
	k := int32(x*1.44269504 + float32(math.Copysign(0.5, float64(x))))
	r := x - float32(k)*0.693359375 + float32(k)*2.12194440e-4
	p := 1 + r*(1+r*(0.5+r*(0.16666667+r*(0.041666664+r*(0.008333331+r*0.0013888889)))))
	return p * math.Float32frombits(uint32(127+k)<<23)
}
