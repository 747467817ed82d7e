//go:build !tee

package demo

import (
	"fmt"
	"math"
)

// model is a llama or qwen3 shaped transformer with its weights widened to
// float32. It is immutable.
type model struct {
	name                          string
	vocab, dim, layers, heads, kv int
	headDim, ff, context          int
	eps                           float32
	neox                          bool // rotary pairs half a head apart (qwen3), not adjacent (llama)
	embed, output                 []float32
	norm                          []float32
	blocks                        []block
	cos, sin                      []float32 // [context][headDim/2]
	tok                           *tokenizer
}

type block struct {
	attnNorm, q, k, v, o, ffnNorm, gate, up, down []float32
	qNorm, kNorm                                  []float32 // qwen3
}

// loadModel builds a model from a GGUF file. Errors wrap ErrModel.
func loadModel(b []byte) (*model, error) {
	f, err := parseGGUF(b)
	if err != nil {
		return nil, err
	}
	arch := f.strings["general.architecture"]
	if arch != "llama" && arch != "qwen3" {
		return nil, fmt.Errorf("%w: architecture %q, want llama or qwen3", ErrModel, arch)
	}
	var fault error
	fail := func(format string, args ...any) {
		if fault == nil {
			fault = fmt.Errorf("%w: %s", ErrModel, fmt.Sprintf(format, args...))
		}
	}
	num := func(key string, least, most uint64) int {
		v, ok := f.ints[arch+"."+key]
		if !ok || v < least || v > most {
			fail("%s.%s is %d, want %d to %d", arch, key, v, least, most)
			return int(least)
		}
		return int(v)
	}
	m := &model{name: f.strings["general.name"], neox: arch == "qwen3"}
	m.dim = num("embedding_length", 1, 8192)
	m.layers = num("block_count", 1, 128)
	m.ff = num("feed_forward_length", 1, 65536)
	m.heads = num("attention.head_count", 1, 128)
	m.kv = num("attention.head_count_kv", 1, uint64(m.heads))
	m.context = min(num("context_length", 16, 1<<22), 4096)
	m.headDim = m.dim / m.heads
	if n, ok := f.ints[arch+".attention.key_length"]; ok && n >= 2 && n <= 512 {
		m.headDim = int(n)
	}
	if m.heads%m.kv != 0 || m.headDim < 2 || m.headDim%2 != 0 {
		fail("%d heads of %d over %d", m.heads, m.headDim, m.kv)
	}
	if n, ok := f.ints[arch+".rope.dimension_count"]; ok && n != uint64(m.headDim) {
		fail("rotary dimensions %d of %d", n, m.headDim)
	}
	m.eps = float32(f.floats[arch+".attention.layer_norm_rms_epsilon"])
	if !(m.eps > 0 && m.eps < 1) {
		fail("epsilon %g", m.eps)
	}
	base := f.floats[arch+".rope.freq_base"]
	if base == 0 {
		base = 10000
	}
	if fault != nil {
		return nil, fault
	}
	if m.tok, err = newTokenizer(f); err != nil {
		return nil, err
	}
	m.vocab = len(m.tok.text)
	get := func(name string, cols, rows int) []float32 {
		t, ok := f.tensors[name+".weight"]
		if !ok || t.cols != cols || t.rows != rows {
			fail("tensor %s is missing or not %d×%d", name, cols, rows)
			return nil
		}
		return t.floats()
	}
	qd, kd := m.heads*m.headDim, m.kv*m.headDim
	m.embed = get("token_embd", m.dim, m.vocab)
	m.output = m.embed
	if _, ok := f.tensors["output.weight"]; ok {
		m.output = get("output", m.dim, m.vocab)
	}
	m.norm = get("output_norm", m.dim, 1)
	for i := range m.layers {
		at := func(name string, cols, rows int) []float32 { return get(fmt.Sprintf("blk.%d.%s", i, name), cols, rows) }
		b := block{
			attnNorm: at("attn_norm", m.dim, 1), ffnNorm: at("ffn_norm", m.dim, 1),
			q: at("attn_q", m.dim, qd), k: at("attn_k", m.dim, kd), v: at("attn_v", m.dim, kd), o: at("attn_output", qd, m.dim),
			gate: at("ffn_gate", m.dim, m.ff), up: at("ffn_up", m.dim, m.ff), down: at("ffn_down", m.ff, m.dim),
		}
		if m.neox {
			b.qNorm, b.kNorm = at("attn_q_norm", m.headDim, 1), at("attn_k_norm", m.headDim, 1)
		}
		if fault != nil {
			return nil, fault
		}
		m.blocks = append(m.blocks, b)
	}
	if fault != nil {
		return nil, fault
	}
	half := m.headDim / 2
	m.cos, m.sin = make([]float32, m.context*half), make([]float32, m.context*half)
	for i := range half {
		freq := math.Pow(base, -2*float64(i)/float64(m.headDim))
		for t := range m.context {
			s, c := math.Sincos(float64(t) * freq)
			m.sin[t*half+i], m.cos[t*half+i] = float32(s), float32(c)
		}
	}
	return m, nil
}

// cache holds keys and values of a sequence: for each layer [position][kv·headDim].
type cache struct {
	n    int // positions filled
	k, v [][]float32
}

func (m *model) newCache() *cache {
	return &cache{k: make([][]float32, m.layers), v: make([][]float32, m.layers)}
}

// clone copies the first n positions.
func (c *cache) clone(m *model, n int) *cache {
	kd := m.kv * m.headDim
	d := m.newCache()
	d.n = n
	for l := range c.k {
		d.k[l] = append([]float32(nil), c.k[l][:n*kd]...)
		d.v[l] = append([]float32(nil), c.v[l][:n*kd]...)
	}
	return d
}

// chunk is how many positions one forward step takes at most; it bounds the
// time until a cancellation is seen.
const chunk = 16

// scratch is the memory of one forward step.
type scratch struct {
	x, h, q, k, v, o, gate, up, logits, scores []float32
}

func (m *model) newScratch() *scratch {
	f := func(n int) []float32 { return make([]float32, n) }
	qd, kd := m.heads*m.headDim, m.kv*m.headDim
	return &scratch{
		x: f(chunk * m.dim), h: f(chunk * max(m.dim, qd)), q: f(chunk * qd), k: f(chunk * kd), v: f(chunk * kd), o: f(chunk * qd),
		gate: f(chunk * m.ff), up: f(chunk * m.ff), logits: f(m.vocab), scores: f(m.context),
	}
}

// forward appends up to chunk tokens to the sequence of c. With last it leaves
// the logits that follow the final token in s.logits.
func (m *model) forward(s *scratch, c *cache, tokens []int32, last bool) {
	n, d := len(tokens), m.dim
	qd, kd := m.heads*m.headDim, m.kv*m.headDim
	x := s.x[:n*d]
	for i, t := range tokens {
		copy(x[i*d:(i+1)*d], m.embed[int(t)*d:])
	}
	group := m.heads / m.kv
	scale := float32(1 / math.Sqrt(float64(m.headDim)))
	for l := range m.blocks {
		b := &m.blocks[l]
		h := s.h[:n*d]
		rms(h, x, b.attnNorm, m.eps)
		matmul(s.q, h, b.q, n, d, qd)
		matmul(s.k, h, b.k, n, d, kd)
		matmul(s.v, h, b.v, n, d, kd)
		if m.neox {
			rms(s.q[:n*qd], s.q[:n*qd], b.qNorm, m.eps)
			rms(s.k[:n*kd], s.k[:n*kd], b.kNorm, m.eps)
		}
		for i := range n {
			m.rotate(s.q[i*qd:(i+1)*qd], c.n+i)
			m.rotate(s.k[i*kd:(i+1)*kd], c.n+i)
		}
		c.k[l] = append(c.k[l][:c.n*kd], s.k[:n*kd]...)
		c.v[l] = append(c.v[l][:c.n*kd], s.v[:n*kd]...)
		clear(s.o[:n*qd])
		for i := range n {
			for head := range m.heads {
				at := head / group * m.headDim
				q := s.q[i*qd+head*m.headDim:][:m.headDim]
				o := s.o[i*qd+head*m.headDim:][:m.headDim]
				attend(o, q, c.k[l][at:], c.v[l][at:], s.scores[:c.n+i+1], kd, scale)
			}
		}
		matmul(s.h, s.o, b.o, n, qd, d)
		for i, v := range s.h[:n*d] {
			x[i] += v
		}
		rms(h, x, b.ffnNorm, m.eps)
		matmul(s.gate, h, b.gate, n, d, m.ff)
		matmul(s.up, h, b.up, n, d, m.ff)
		gate, up := s.gate[:n*m.ff], s.up[:n*m.ff]
		for i, g := range gate {
			gate[i] = g / (1 + exp32(-g)) * up[i]
		}
		matmul(s.h, gate, b.down, n, m.ff, d)
		for i, v := range s.h[:n*d] {
			x[i] += v
		}
	}
	c.n += n
	if last {
		rms(s.h[:d], x[(n-1)*d:], m.norm, m.eps)
		matmul(s.logits, s.h, m.output, 1, d, m.vocab)
	}
}

// attend adds the attention of q over the positions of scores to o. Keys and
// values are stride apart.
//
//go:norace
func attend(o, q, k, v, scores []float32, stride int, scale float32) {
	best := float32(math.Inf(-1))
	for t := range scores {
		kt := k[t*stride:][:len(q)]
		var a, b float32
		for i := 0; i+1 < len(q); i += 2 {
			a += q[i] * kt[i]
			b += q[i+1] * kt[i+1]
		}
		scores[t] = (a + b) * scale
		best = max(best, scores[t])
	}
	var sum float32
	for t, sc := range scores {
		scores[t] = exp32(sc - best)
		sum += scores[t]
	}
	inv := 1 / sum
	for t, p := range scores {
		p *= inv
		vt := v[t*stride:][:len(o)]
		for i, x := range vt {
			o[i] += p * x
		}
	}
}

func (m *model) rotate(x []float32, pos int) {
	half := m.headDim / 2
	cos, sin := m.cos[pos*half:][:half], m.sin[pos*half:][:half]
	for len(x) > 0 {
		h := x[:m.headDim]
		x = x[m.headDim:]
		for i := range half {
			a, b := 2*i, 2*i+1
			if m.neox {
				a, b = i, i+half
			}
			p, q := h[a], h[b]
			h[a], h[b] = p*cos[i]-q*sin[i], p*sin[i]+q*cos[i]
		}
	}
}

// rms normalises each group of len(g) values of x into y.
func rms(y, x, g []float32, eps float32) {
	d := len(g)
	for at := 0; at < len(y); at += d {
		xs, ys := x[at:at+d], y[at:at+d]
		var s float32
		for _, v := range xs {
			s += v * v
		}
		inv := float32(1 / math.Sqrt(float64(s/float32(d)+eps)))
		for i, v := range xs {
			ys[i] = v * inv * g[i]
		}
	}
}

// matmul writes y[i][o] = x[i]·w[o] for n rows of x. Each product is the sum of
// the even and the sum of the odd terms, however the rows are grouped: a token
// has the same logits alone, in a batch and behind a cached prefix.
func matmul(y, x, w []float32, n, in, out int) {
	i := 0
	for ; i+2 <= n; i += 2 {
		x0, x1 := x[i*in:(i+1)*in], x[(i+1)*in:(i+2)*in]
		y0, y1 := y[i*out:(i+1)*out], y[(i+1)*out:(i+2)*out]
		for o := 0; o+2 <= out; o += 2 {
			y0[o], y0[o+1], y1[o], y1[o+1] = dot22(x0, x1, w[o*in:(o+1)*in], w[(o+1)*in:(o+2)*in])
		}
		if out&1 == 1 {
			y0[out-1], y1[out-1] = dot(x0, w[(out-1)*in:]), dot(x1, w[(out-1)*in:])
		}
	}
	for ; i < n; i++ {
		xi, yi := x[i*in:(i+1)*in], y[i*out:(i+1)*out]
		o := 0
		for ; o+4 <= out; o += 4 {
			yi[o], yi[o+1], yi[o+2], yi[o+3] = dot4(xi, w[o*in:(o+1)*in], w[(o+1)*in:(o+2)*in], w[(o+2)*in:(o+3)*in], w[(o+3)*in:(o+4)*in])
		}
		for ; o < out; o++ {
			yi[o] = dot(xi, w[o*in:])
		}
	}
}

// The kernels only read: weights, which never change, and the scratch memory
// of their own step. The race detector would make them fifty times slower.

//go:norace
func dot(x, w []float32) float32 {
	w = w[:len(x)]
	var a, b float32
	i := 0
	for ; i+1 < len(x); i += 2 {
		a += x[i] * w[i]
		b += x[i+1] * w[i+1]
	}
	if i < len(x) {
		a += x[i] * w[i]
	}
	return a + b
}

//go:norace
func dot4(x, w0, w1, w2, w3 []float32) (float32, float32, float32, float32) {
	n := len(x)
	w0, w1, w2, w3 = w0[:n], w1[:n], w2[:n], w3[:n]
	var a0, b0, a1, b1, a2, b2, a3, b3 float32
	i := 0
	for ; i < n-1; i += 2 {
		p, q := x[i], x[i+1]
		a0 += p * w0[i]
		b0 += q * w0[i+1]
		a1 += p * w1[i]
		b1 += q * w1[i+1]
		a2 += p * w2[i]
		b2 += q * w2[i+1]
		a3 += p * w3[i]
		b3 += q * w3[i+1]
	}
	if i < n {
		p := x[i]
		a0 += p * w0[i]
		a1 += p * w1[i]
		a2 += p * w2[i]
		a3 += p * w3[i]
	}
	return a0 + b0, a1 + b1, a2 + b2, a3 + b3
}

//go:norace
func dot22(x, y, v, w []float32) (xv, xw, yv, yw float32) {
	n := len(x)
	y, v, w = y[:n], v[:n], w[:n]
	var a0, b0, a1, b1, a2, b2, a3, b3 float32
	i := 0
	for ; i < n-1; i += 2 {
		v0, v1, w0, w1 := v[i], v[i+1], w[i], w[i+1]
		x0, x1, y0, y1 := x[i], x[i+1], y[i], y[i+1]
		a0 += x0 * v0
		b0 += x1 * v1
		a1 += x0 * w0
		b1 += x1 * w1
		a2 += y0 * v0
		b2 += y1 * v1
		a3 += y0 * w0
		b3 += y1 * w1
	}
	if i < n {
		a0 += x[i] * v[i]
		a1 += x[i] * w[i]
		a2 += y[i] * v[i]
		a3 += y[i] * w[i]
	}
	return a0 + b0, a1 + b1, a2 + b2, a3 + b3
}

// exp32 is e^x in single precision, error below 3e-7.
//
//go:norace
func exp32(x float32) float32 {
	if x < -87 {
		return 0
	}
	x = min(x, 88)
	t := x * 1.44269504
	k := int32(t)
	if t < 0 {
		k--
	}
	r := x - float32(k)*0.693359375 + float32(k)*2.12194440e-4
	p := 1 + r*(1+r*(0.5+r*(0.16666667+r*(0.041666664+r*(0.008333331+r*(0.0013888889+r*0.00019841270))))))
	return p * math.Float32frombits(uint32(127+k)<<23)
}
