//go:build !tee

package demo

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Errors of the model reader wrap ErrModel.
var ErrModel = errors.New("not a model this engine can run")

// Limits on a model file. They admit small models only; this engine has no
// business with large ones.
const (
	maxPairs   = 256
	maxTensors = 1024
	maxArray   = 1 << 18
	maxString  = 1 << 16
	maxWeights = 1 << 28 // weights over all tensors
)

// Types of GGUF values and tensors that are understood.
const (
	ggufUint32  = 4
	ggufInt32   = 5
	ggufFloat32 = 6
	ggufBool    = 7
	ggufString  = 8
	ggufArray   = 9
	ggufUint64  = 10

	tensorF32 = 0
	tensorF16 = 1
	tensorQ8  = 8
)

// file is a parsed GGUF file. Tensor data still lies in the input.
type file struct {
	ints    map[string]uint64
	floats  map[string]float64
	strings map[string]string
	bools   map[string]bool
	lists   map[string][]string
	kinds   []uint32 // tokenizer.ggml.token_type
	tensors map[string]tensor
	total   uint64 // weights over all tensors
}

type tensor struct {
	kind       uint32
	cols, rows int // cols is the fastest dimension
	data       []byte
}

// cursor reads little-endian values; the first failure sticks.
type cursor struct {
	b   []byte
	at  int
	err error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf("%w: %s", ErrModel, fmt.Sprintf(format, args...))
	}
}

func (c *cursor) take(n uint64) []byte {
	if c.err != nil || n > uint64(len(c.b)-c.at) {
		c.fail("the file ends early")
		return nil
	}
	s := c.b[c.at : c.at+int(n)]
	c.at += int(n)
	return s
}

func (c *cursor) u32() uint32 {
	if s := c.take(4); s != nil {
		return binary.LittleEndian.Uint32(s)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if s := c.take(8); s != nil {
		return binary.LittleEndian.Uint64(s)
	}
	return 0
}

func (c *cursor) count(what string, limit uint64) int {
	n := c.u64()
	if n > limit {
		c.fail("%d %s are more than %d", n, what, limit)
		return 0
	}
	return int(n)
}

func (c *cursor) str() string { return string(c.take(uint64(c.count("bytes of text", maxString)))) }

// parseGGUF reads a GGUF v3 file: values of the common types, tensors of one or
// two dimensions as F32, F16 or Q8_0. It returns errors that wrap ErrModel.
func parseGGUF(b []byte) (*file, error) {
	c := &cursor{b: b}
	if string(c.take(4)) != "GGUF" {
		return nil, fmt.Errorf("%w: no GGUF mark", ErrModel)
	}
	if v := c.u32(); v != 3 {
		return nil, fmt.Errorf("%w: GGUF version %d, want 3", ErrModel, v)
	}
	nt, nk := c.count("tensors", maxTensors), c.count("values", maxPairs)
	f := &file{
		ints: map[string]uint64{}, floats: map[string]float64{}, strings: map[string]string{},
		bools: map[string]bool{}, lists: map[string][]string{}, tensors: map[string]tensor{},
	}
	for range nk {
		f.value(c)
	}
	type place struct {
		name string
		t    tensor
		off  uint64
		size uint64
	}
	var places []place
	for range nt {
		if c.err != nil {
			break
		}
		p := place{name: c.str()}
		dims := c.u32()
		p.t.cols, p.t.rows = c.count("columns", maxWeights), 1
		if dims == 2 {
			p.t.rows = c.count("rows", maxWeights)
		} else if dims != 1 {
			c.fail("tensor %q has %d dimensions", p.name, dims)
		}
		p.t.kind, p.off = c.u32(), c.u64()
		n := uint64(p.t.cols) * uint64(p.t.rows)
		if f.total += n; n == 0 || f.total > maxWeights {
			c.fail("tensor %q is empty or too large", p.name)
		}
		switch p.t.kind {
		case tensorF32:
			p.size = 4 * n
		case tensorF16:
			p.size = 2 * n
		case tensorQ8:
			if p.t.cols%32 != 0 {
				c.fail("tensor %q has rows that are no multiple of 32", p.name)
			}
			p.size = n / 32 * 34
		default:
			c.fail("tensor %q has type %d, want F32, F16 or Q8_0", p.name, p.t.kind)
		}
		places = append(places, p)
	}
	align := uint64(32)
	if a, ok := f.ints["general.alignment"]; ok {
		align = a
	}
	if align == 0 || align > 4096 {
		c.fail("alignment %d", align)
	}
	if c.err != nil {
		return nil, c.err
	}
	base := (uint64(c.at) + align - 1) / align * align
	for _, p := range places {
		if p.off > uint64(len(b)) || base+p.off+p.size > uint64(len(b)) {
			return nil, fmt.Errorf("%w: tensor %q lies beyond the end", ErrModel, p.name)
		}
		if _, dup := f.tensors[p.name]; dup {
			return nil, fmt.Errorf("%w: tensor %q is there twice", ErrModel, p.name)
		}
		p.t.data = b[base+p.off : base+p.off+p.size]
		f.tensors[p.name] = p.t
	}
	return f, nil
}

func (f *file) value(c *cursor) {
	key := c.str()
	switch typ := c.u32(); typ {
	case ggufUint32, ggufInt32:
		f.ints[key] = uint64(c.u32())
	case ggufUint64:
		f.ints[key] = c.u64()
	case ggufFloat32:
		f.floats[key] = float64(math.Float32frombits(c.u32()))
	case ggufBool:
		if s := c.take(1); s != nil {
			f.bools[key] = s[0] != 0
		}
	case ggufString:
		f.strings[key] = c.str()
	case ggufArray:
		switch el, n := c.u32(), c.count("elements", maxArray); el {
		case ggufString:
			var list []string
			for range n {
				if c.err != nil {
					return
				}
				list = append(list, c.str())
			}
			f.lists[key] = list
		case ggufUint32, ggufInt32, ggufFloat32:
			raw := c.take(4 * uint64(n))
			if key == "tokenizer.ggml.token_type" {
				for i := 0; i+4 <= len(raw); i += 4 {
					f.kinds = append(f.kinds, binary.LittleEndian.Uint32(raw[i:]))
				}
			}
		default:
			c.fail("value %q is an array of type %d", key, el)
		}
	default:
		c.fail("value %q has type %d", key, typ)
	}
}

// floats returns the tensor's weights as float32, row by row.
func (t tensor) floats() []float32 {
	out := make([]float32, t.cols*t.rows)
	switch t.kind {
	case tensorF32:
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(t.data[4*i:]))
		}
	case tensorF16:
		for i := range out {
			out[i] = fromHalf(binary.LittleEndian.Uint16(t.data[2*i:]))
		}
	case tensorQ8:
		for b := 0; b*32 < len(out); b++ {
			block := t.data[b*34 : b*34+34]
			scale := fromHalf(binary.LittleEndian.Uint16(block))
			for i, q := range block[2:] {
				out[b*32+i] = scale * float32(int8(q))
			}
		}
	}
	return out
}

// fromHalf widens an IEEE half-precision number.
func fromHalf(h uint16) float32 {
	sign, exp, man := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&0x3FF)
	switch exp {
	case 0:
		f := float32(man) / (1 << 24)
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7F800000 | man<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
}
