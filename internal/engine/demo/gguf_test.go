//go:build !tee

package demo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
)

// appendGGUF writes a file with the given tensors: the other direction of
// parseGGUF, for tests.
func appendGGUF(f *file, order []string) []byte {
	var b []byte
	u32 := func(v uint32) { b = binary.LittleEndian.AppendUint32(b, v) }
	u64 := func(v uint64) { b = binary.LittleEndian.AppendUint64(b, v) }
	str := func(s string) { u64(uint64(len(s))); b = append(b, s...) }
	b = append(b, "GGUF"...)
	u32(3)
	u64(uint64(len(order)))
	u64(uint64(len(f.ints) + len(f.floats) + len(f.strings) + len(f.bools) + len(f.lists)))
	for k, v := range f.ints {
		str(k)
		u32(ggufUint64)
		u64(v)
	}
	for k, v := range f.floats {
		str(k)
		u32(ggufFloat32)
		u32(math.Float32bits(float32(v)))
	}
	for k, v := range f.strings {
		str(k)
		u32(ggufString)
		str(v)
	}
	for k, v := range f.bools {
		str(k)
		u32(ggufBool)
		if v {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	for k, list := range f.lists {
		str(k)
		u32(ggufArray)
		u32(ggufString)
		u64(uint64(len(list)))
		for _, s := range list {
			str(s)
		}
	}
	var data []byte
	for _, name := range order {
		t := f.tensors[name]
		str(name)
		u32(2)
		u64(uint64(t.cols))
		u64(uint64(t.rows))
		u32(t.kind)
		u64(uint64(len(data)))
		data = append(data, t.data...)
		data = append(data, make([]byte, (32-len(data)%32)%32)...)
	}
	b = append(b, make([]byte, (32-len(b)%32)%32)...)
	return append(b, data...)
}

func TestTensorTypes(t *testing.T) {
	f := &file{tensors: map[string]tensor{}}
	var f32, f16, q8 []byte
	want := make([]float32, 64)
	for i := range want {
		want[i] = float32(i-32) / 8
		f32 = binary.LittleEndian.AppendUint32(f32, math.Float32bits(want[i]))
	}
	for _, h := range []uint16{0x3C00, 0xC000, 0x0000, 0x0001, 0x7BFF, 0x8000, 0x3555, 0xFC00} {
		f16 = binary.LittleEndian.AppendUint16(f16, h)
	}
	for range 2 {
		q8 = binary.LittleEndian.AppendUint16(q8, 0x3800) // one half
		for i := range 32 {
			q8 = append(q8, byte(int8(i-16)))
		}
	}
	f.tensors["a"], f.tensors["b"], f.tensors["c"] = tensor{tensorF32, 32, 2, f32}, tensor{tensorF16, 8, 1, f16}, tensor{tensorQ8, 32, 2, q8}
	g, err := parseGGUF(appendGGUF(f, []string{"a", "b", "c"}))
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range g.tensors["a"].floats() {
		if v != want[i] {
			t.Errorf("F32 %d: %g", i, v)
		}
	}
	halves := []float32{1, -2, 0, 1.0 / (1 << 24), 65504, 0, 0.333251953125, float32(math.Inf(-1))}
	for i, v := range g.tensors["b"].floats() {
		if v != halves[i] {
			t.Errorf("F16 %d: %g, want %g", i, v, halves[i])
		}
	}
	for i, v := range g.tensors["c"].floats() {
		if v != float32(i%32-16)/2 {
			t.Errorf("Q8_0 %d: %g", i, v)
		}
	}
}

func TestBadModels(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"empty":   func(b []byte) []byte { return nil },
		"mark":    func(b []byte) []byte { b[0] = 'X'; return b },
		"version": func(b []byte) []byte { b[4] = 2; return b },
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
		"no data": func(b []byte) []byte { return b[:60000] },
		"tensors": func(b []byte) []byte { b[15] = 0x7F; return b },
		"other":   func(b []byte) []byte { return bytes.Replace(b, []byte("llama"), []byte("lamas"), 1) },
		"renamed": func(b []byte) []byte { return bytes.Replace(b, []byte("blk.0.attn_q."), []byte("blk.0.attn_x."), 1) },
	} {
		b := change(bytes.Clone(weights))
		if _, err := loadModel(b); !errors.Is(err, ErrModel) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokenizer(t *testing.T) {
	m, err := loadModel(weights)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"", "Hello, I'm Bob's  friend!\n\n 12:30  ", "Привет, мир! 🙂", "a\r\n\r\nb", "<|im_start|>user", "\xff\xfe", strings.Repeat("x", 1000), "\u00a0\u2003 y"} {
		ids := m.tok.encode(nil, s)
		var b strings.Builder
		for _, id := range ids {
			if m.tok.text[id] == "" {
				t.Errorf("%q holds a control token", s)
			}
			b.WriteString(m.tok.text[id])
		}
		if b.String() != s {
			t.Errorf("%q came back as %q", s, b.String())
		}
	}
	if n := len(m.tok.render([]message{{"user", "Hello!"}})); n < 8 || n > 16 {
		t.Errorf("a greeting takes %d tokens", n)
	}
}

func FuzzGGUF(f *testing.F) {
	small := &file{
		ints: map[string]uint64{"general.alignment": 32}, strings: map[string]string{"general.architecture": "llama"}, floats: map[string]float64{"x": 1},
		bools: map[string]bool{"y": true}, lists: map[string][]string{"tokenizer.ggml.tokens": {"a", "b"}},
		tensors: map[string]tensor{"t.weight": {tensorF16, 4, 2, make([]byte, 16)}},
	}
	f.Add(appendGGUF(small, []string{"t.weight"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := parseGGUF(b)
		if err != nil {
			if !errors.Is(err, ErrModel) {
				t.Fatal(err)
			}
			return
		}
		var order []string
		for name := range g.tensors {
			order = append(order, name)
		}
		g.ints["general.alignment"] = 32
		again, err := parseGGUF(appendGGUF(g, order))
		if err != nil {
			t.Fatalf("written again: %v", err)
		}
		for name, x := range g.tensors {
			y := again.tensors[name]
			if y.kind != x.kind || y.cols != x.cols || y.rows != x.rows || !bytes.Equal(y.data, x.data) {
				t.Fatalf("tensor %q changed", name)
			}
		}
		for k, v := range g.strings {
			if again.strings[k] != v {
				t.Fatalf("value %q changed", k)
			}
		}
		if _, err := loadModel(b); err != nil && !errors.Is(err, ErrModel) {
			t.Fatal(err)
		}
	})
}

// FuzzRequest sends any body to every endpoint: an answer or an OpenAI error,
// never a panic. Token limits keep it fast.
func FuzzRequest(f *testing.F) {
	s := server(f, Config{MaxBody: 4096})
	f.Add(uint8(0), []byte(chatBody("Hi", `,"max_tokens":2,"stop":"x","logprobs":true`)))
	f.Add(uint8(1), []byte(`{"model":"cocoon-demo-1","prompt":["a"],"max_tokens":1,"stream":true}`))
	f.Add(uint8(2), []byte(`{"model":"cocoon-demo-embed-1","input":["a","b"]}`))
	paths := []string{chatPath, textPath, "/v1/embeddings"}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		if !bytes.Contains(body, []byte(`"max_tokens":`)) && which%3 == 0 {
			return
		}
		code, b := post(t, s, paths[which%3], string(body))
		if code != 200 && (code < 400 || code > 499 || !bytes.Contains(b, []byte(`"error"`))) {
			t.Fatalf("%d %s", code, b)
		}
	})
}
