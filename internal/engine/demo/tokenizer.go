//go:build !tee

package demo

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// tokenizer is byte-level BPE: GGUF's tokenizer model "gpt2" with the
// pre-tokenizer "qwen2".
type tokenizer struct {
	text  []string // bytes of each token; "" for control tokens
	ids   map[string]int32
	merge map[[2]int32]merged
	bytes [256]int32

	end, start, stop int32 // <|endoftext|>, <|im_start|>, <|im_end|>
}

type merged struct{ rank, id int32 }

func newTokenizer(f *file) (*tokenizer, error) {
	bad := func(format string, args ...any) (*tokenizer, error) {
		return nil, fmt.Errorf("%w: %s", ErrModel, fmt.Sprintf(format, args...))
	}
	tokens, merges := f.lists["tokenizer.ggml.tokens"], f.lists["tokenizer.ggml.merges"]
	if m, p := f.strings["tokenizer.ggml.model"], f.strings["tokenizer.ggml.pre"]; m != "gpt2" || p != "qwen2" {
		return bad("tokenizer %q with %q, want gpt2 with qwen2", m, p)
	}
	if len(tokens) < 256+3 || len(f.kinds) != len(tokens) {
		return bad("%d tokens with %d kinds", len(tokens), len(f.kinds))
	}
	t := &tokenizer{text: make([]string, len(tokens)), ids: make(map[string]int32, len(tokens)), merge: make(map[[2]int32]merged, len(merges))}
	t.end, t.start, t.stop = -1, -1, -1
	back := visibleBytes()
	var raw []byte
	for i, s := range tokens {
		if f.kinds[i] != 1 {
			switch s {
			case "<|endoftext|>":
				t.end = int32(i)
			case "<|im_start|>":
				t.start = int32(i)
			case "<|im_end|>":
				t.stop = int32(i)
			}
			continue
		}
		raw = raw[:0]
		for _, r := range s {
			b, ok := back[r]
			if !ok {
				return bad("token %d is not written in visible bytes", i)
			}
			raw = append(raw, b)
		}
		t.text[i] = string(raw)
		t.ids[s] = int32(i)
	}
	if t.end < 0 || t.start < 0 || t.stop < 0 {
		return bad("the ChatML tokens are missing")
	}
	for r, b := range back {
		id, ok := t.ids[string(r)]
		if !ok {
			return bad("byte %#x has no token", b)
		}
		t.bytes[b] = id
	}
	for i, m := range merges {
		a, b, ok := strings.Cut(m, " ")
		left, okA := t.ids[a]
		right, okB := t.ids[b]
		id, okC := t.ids[a+b]
		if !ok || !okA || !okB || !okC {
			return bad("merge %d is not made of tokens", i)
		}
		if _, dup := t.merge[[2]int32{left, right}]; !dup {
			t.merge[[2]int32{left, right}] = merged{int32(i), id}
		}
	}
	t.ids = nil
	return t, nil
}

// visibleBytes maps the runes that GPT-2 vocabularies are written in back to
// bytes: printable ones stand for themselves, the others follow at 256.
func visibleBytes() map[rune]byte {
	back := make(map[rune]byte, 256)
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if !('!' <= r && r <= '~' || 0xA1 <= r && r <= 0xAC || 0xAE <= r) {
			r = next
			next++
		}
		back[r] = byte(b)
	}
	return back
}

// encode appends the tokens of text, in which nothing is special: control
// tokens cannot be injected.
func (t *tokenizer) encode(dst []int32, text string) []int32 {
	for len(text) > 0 {
		n := wordLen(text)
		dst = t.word(dst, text[:n])
		text = text[n:]
	}
	return dst
}

// maxWord bounds the quadratic merging: longer runs of letters or marks are
// cut, which costs tokens but no time.
const maxWord = 256

func (t *tokenizer) word(dst []int32, w string) []int32 {
	for len(w) > maxWord {
		dst = t.word(dst, w[:maxWord])
		w = w[maxWord:]
	}
	base := len(dst)
	for i := range len(w) {
		dst = append(dst, t.bytes[w[i]])
	}
	p := dst[base:]
	for len(p) > 1 {
		best, at := merged{rank: 1 << 30}, -1
		for i := 1; i < len(p); i++ {
			if m, ok := t.merge[[2]int32{p[i-1], p[i]}]; ok && m.rank < best.rank {
				best, at = m, i-1
			}
		}
		if at < 0 {
			break
		}
		p[at] = best.id
		p = append(p[:at+1], p[at+2:]...)
	}
	return dst[:base+len(p)]
}

// wordLen returns the length of the first word of s, which is not empty, as the
// qwen2 pre-tokenizer cuts: a contraction; letters with one leading mark or
// blank; one digit; marks with one leading blank and the line ends behind
// them; line ends with the blanks before them; blanks, but for the last one
// when a word follows.
func wordLen(s string) int {
	if s[0] == '\'' {
		for _, c := range [...]string{"re", "ve", "ll", "s", "t", "m", "d"} {
			if len(s) > len(c) && strings.EqualFold(s[1:1+len(c)], c) {
				return 1 + len(c)
			}
		}
	}
	r, n := utf8.DecodeRuneInString(s)
	if unicode.IsLetter(r) {
		return span(s, unicode.IsLetter)
	}
	if !newline(r) && !unicode.IsNumber(r) {
		if m := span(s[n:], unicode.IsLetter); m > 0 {
			return n + m
		}
	}
	if unicode.IsNumber(r) {
		return n
	}
	lead := 0
	if r == ' ' {
		lead = 1
	}
	if m := span(s[lead:], mark); m > 0 {
		m += lead
		return m + span(s[m:], newline)
	}
	blanks := span(s, unicode.IsSpace)
	if i := strings.LastIndexAny(s[:blanks], "\r\n"); i >= 0 {
		return i + 1
	}
	if blanks < len(s) {
		if _, k := utf8.DecodeLastRuneInString(s[:blanks]); blanks > k {
			return blanks - k
		}
	}
	return blanks
}

func newline(r rune) bool { return r == '\n' || r == '\r' }

func mark(r rune) bool {
	return !unicode.IsSpace(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r)
}

// span returns the length of the longest prefix whose runes are all ok.
func span(s string, ok func(rune) bool) int {
	for i, r := range s {
		if !ok(r) {
			return i
		}
	}
	return len(s)
}

// utf8Tail returns how many bytes at the end of b begin a character that is not
// complete yet.
func utf8Tail(b []byte) int {
	for n := 1; n <= 3 && n <= len(b); n++ {
		c := b[len(b)-n]
		if utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}
