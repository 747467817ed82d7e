package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
)

// save writes the weights as little-endian float32 behind the step.
func save(path string, m *Model, step int) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = binary.Write(w, binary.LittleEndian, uint64(step))
	for _, p := range m.Params {
		if err == nil {
			err = binary.Write(w, binary.LittleEndian, p.W)
		}
	}
	if err == nil {
		err = w.Flush()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// load reads what save wrote; the optimiser starts anew.
func load(path string) (*Model, int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	m := NewModel(shape, rand.New(rand.NewPCG(0, 0)))
	r := bufio.NewReader(f)
	var step uint64
	if err := binary.Read(r, binary.LittleEndian, &step); err != nil {
		return nil, 0, err
	}
	for _, p := range m.Params {
		if err := binary.Read(r, binary.LittleEndian, p.W); err != nil {
			return nil, 0, fmt.Errorf("%s is not a checkpoint of this shape: %w", path, err)
		}
	}
	m.Refresh()
	return m, int(step), nil
}

// gguf collects the parts of a GGUF v3 file.
type gguf struct {
	buf   []byte
	pairs uint64
}

func (g *gguf) u32(v uint32) { g.buf = binary.LittleEndian.AppendUint32(g.buf, v) }
func (g *gguf) u64(v uint64) { g.buf = binary.LittleEndian.AppendUint64(g.buf, v) }
func (g *gguf) str(s string) { g.u64(uint64(len(s))); g.buf = append(g.buf, s...) }

func (g *gguf) key(k string, typ uint32) { g.pairs++; g.str(k); g.u32(typ) }
func (g *gguf) uint(k string, v uint32)  { g.key(k, 4); g.u32(v) }
func (g *gguf) float(k string, v float64) {
	g.key(k, 6)
	g.u32(math.Float32bits(float32(v)))
}
func (g *gguf) string(k, v string) { g.key(k, 8); g.str(v) }
func (g *gguf) bool(k string, v bool) {
	g.key(k, 7)
	b := byte(0)
	if v {
		b = 1
	}
	g.buf = append(g.buf, b)
}
func (g *gguf) strings(k string, v []string) {
	g.key(k, 9)
	g.u32(8)
	g.u64(uint64(len(v)))
	for _, s := range v {
		g.str(s)
	}
}

const chatTemplate = `{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// visible maps bytes to the printable runes GPT-2 vocabularies are written in.
func visible(s string) string {
	out := make([]rune, 0, len(s))
	for i := range len(s) {
		b := s[i]
		switch {
		case '!' <= b && b <= '~', 0xA1 <= b && b <= 0xAC, 0xAE <= b:
			out = append(out, rune(b))
		case b <= 0x20:
			out = append(out, 256+rune(b))
		case b == 0xAD:
			out = append(out, 256+67)
		default: // 0x7F..0xA0
			out = append(out, 256+33+rune(b)-0x7F)
		}
	}
	return string(out)
}

// writeGGUF stores matrices as Q8_0 and vectors as F32.
func writeGGUF(path string, m *Model, tok *Tokenizer) error {
	g := &gguf{}
	g.string("general.architecture", "llama")
	g.string("general.name", "cocoon-demo-1")
	g.uint("general.file_type", 7)
	g.uint("llama.context_length", uint32(m.Context))
	g.uint("llama.embedding_length", uint32(m.Dim))
	g.uint("llama.block_count", uint32(m.Layers))
	g.uint("llama.feed_forward_length", uint32(m.FF))
	g.uint("llama.attention.head_count", uint32(m.Heads))
	g.uint("llama.attention.head_count_kv", uint32(m.KVHeads))
	g.float("llama.attention.layer_norm_rms_epsilon", m.Eps)
	g.float("llama.rope.freq_base", m.RopeBase)
	g.uint("llama.rope.dimension_count", uint32(m.headDim()))
	g.uint("llama.vocab_size", uint32(m.Vocab))
	g.string("tokenizer.ggml.model", "gpt2")
	g.string("tokenizer.ggml.pre", "qwen2")
	var tokens, merges []string
	for _, t := range tok.Tokens {
		tokens = append(tokens, visible(t))
	}
	for _, p := range tok.Merges {
		merges = append(merges, visible(p[0])+" "+visible(p[1]))
	}
	tokens = append(tokens, specials...)
	g.strings("tokenizer.ggml.tokens", tokens)
	g.key("tokenizer.ggml.token_type", 9)
	g.u32(5)
	g.u64(uint64(len(tokens)))
	for i := range tokens {
		if i < len(tok.Tokens) {
			g.u32(1)
		} else {
			g.u32(3)
		}
	}
	g.strings("tokenizer.ggml.merges", merges)
	g.uint("tokenizer.ggml.bos_token_id", uint32(tok.Special(0)))
	g.uint("tokenizer.ggml.eos_token_id", uint32(tok.Special(2)))
	g.uint("tokenizer.ggml.padding_token_id", uint32(tok.Special(0)))
	g.bool("tokenizer.ggml.add_bos_token", false)
	g.string("tokenizer.chat_template", chatTemplate)

	// Tensor directory: GGUF lists the fastest dimension first, and wants
	// matrices output-major, which is what T holds. The embedding is looked up
	// by row and stays as it is.
	var data []byte
	for _, p := range m.Params {
		w, in, out := p.T, p.Rows, p.Cols
		if p == m.Params[m.embed] {
			w, in, out = p.W, p.Cols, p.Rows
		}
		g.str(p.Name + ".weight")
		if p.Rows == 1 {
			g.u32(1)
			g.u64(uint64(p.Cols))
			g.u32(0)
		} else {
			g.u32(2)
			g.u64(uint64(in))
			g.u64(uint64(out))
			g.u32(8)
		}
		g.u64(uint64(len(data)))
		if p.Rows == 1 {
			for _, v := range p.W {
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
			}
		} else {
			data = appendQ8(data, w)
		}
		for len(data)%32 != 0 {
			data = append(data, 0)
		}
	}
	head := []byte("GGUF")
	head = binary.LittleEndian.AppendUint32(head, 3)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(m.Params)))
	head = binary.LittleEndian.AppendUint64(head, g.pairs)
	head = append(head, g.buf...)
	for len(head)%32 != 0 {
		head = append(head, 0)
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = io.MultiWriter(f).Write(append(head, data...))
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// appendQ8 appends w as Q8_0: blocks of 32 with one half-precision scale.
func appendQ8(dst []byte, w []float32) []byte {
	for i := 0; i < len(w); i += 32 {
		block := w[i : i+32]
		var top float64
		for _, v := range block {
			top = max(top, math.Abs(float64(v)))
		}
		scale := top / 127
		dst = binary.LittleEndian.AppendUint16(dst, half(float32(scale)))
		for _, v := range block {
			q := 0.0
			if scale > 0 {
				q = math.Round(float64(v) / scale)
			}
			dst = append(dst, byte(int8(q)))
		}
	}
	return dst
}

// half rounds to IEEE half precision, nearest even.
func half(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	exp := int(b>>23&0xFF) - 127 + 15
	man := b & 0x7FFFFF
	if exp >= 31 {
		return sign | 0x7C00
	}
	shift := uint(13)
	if exp <= 0 {
		if exp < -10 {
			return sign
		}
		man |= 0x800000
		shift += uint(1 - exp)
		exp = 0
	}
	h := uint32(exp)<<10 + man>>shift
	if exp == 0 {
		h = man >> shift
	}
	rest, mid := man&(1<<shift-1), uint32(1)<<(shift-1)
	if rest > mid || rest == mid && h&1 == 1 {
		h++
	}
	return sign | uint16(h)
}
