package main

import (
	"sort"
	"unicode"
	"unicode/utf8"
)

// Tokenizer is byte-level BPE as GGUF's tokenizer model "gpt2" with the
// pre-tokenizer "qwen2": digits stand alone, a word may carry one leading
// blank.
type Tokenizer struct {
	Tokens []string // bytes of each token; specials at the end
	Merges [][2]string
	ids    map[string]int32
	rank   map[[2]string]int
	cache  map[string][]int32
}

// The special tokens, after all ordinary ones.
var specials = []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"}

// splitWords cuts text as the qwen2 pre-tokenizer does. In order of trial:
// contractions; one optional non-letter and letters; one digit; an optional
// blank and marks with their line ends; line ends with blanks before them;
// blanks (all but the last if a word follows).
func splitWords(s string) []string {
	var out []string
	for i := 0; i < len(s); {
		n := wordLen(s[i:])
		out = append(out, s[i:i+n])
		i += n
	}
	return out
}

func letter(r rune) bool { return unicode.IsLetter(r) }
func digit(r rune) bool  { return unicode.IsNumber(r) }
func newline(r rune) bool {
	return r == '\n' || r == '\r'
}

// run returns the length of the longest prefix whose runes all satisfy ok.
func run(s string, ok func(rune) bool) int {
	for i, r := range s {
		if !ok(r) {
			return i
		}
	}
	return len(s)
}

func wordLen(s string) int {
	if s[0] == '\'' {
		for _, c := range []string{"re", "ve", "ll", "s", "t", "m", "d"} {
			if len(s) > len(c) && lowerASCII(s[1:1+len(c)]) == c {
				return 1 + len(c)
			}
		}
	}
	r, n := utf8.DecodeRuneInString(s)
	if letter(r) {
		return run(s, letter)
	}
	if !newline(r) && !digit(r) {
		if m := run(s[n:], letter); m > 0 {
			return n + m
		}
	}
	if digit(r) {
		return n
	}
	mark := func(r rune) bool { return !unicode.IsSpace(r) && !letter(r) && !digit(r) }
	lead := 0
	if r == ' ' {
		lead = 1
	}
	if m := run(s[lead:], mark); m > 0 {
		m += lead
		return m + run(s[m:], newline)
	}
	blanks := run(s, unicode.IsSpace)
	for i := blanks; i > 0; {
		r, k := utf8.DecodeLastRuneInString(s[:i])
		if newline(r) {
			return i
		}
		i -= k
	}
	if blanks < len(s) {
		_, k := utf8.DecodeLastRuneInString(s[:blanks])
		if blanks > k {
			return blanks - k
		}
	}
	return blanks
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 32
		}
	}
	return string(b)
}

// trainBPE learns merges from word counts until the vocabulary is full. Ties
// go to the pair that sorts first, so the result depends on the counts alone.
func trainBPE(counts map[string]int, vocab int) *Tokenizer {
	t := &Tokenizer{}
	for i := range 256 {
		t.Tokens = append(t.Tokens, string([]byte{byte(i)}))
	}
	type word struct {
		parts []string
		n     int
	}
	keys := make([]string, 0, len(counts))
	for w := range counts {
		keys = append(keys, w)
	}
	sort.Strings(keys)
	var words []word
	for _, k := range keys {
		w := word{n: counts[k]}
		for i := range len(k) {
			w.parts = append(w.parts, k[i:i+1])
		}
		words = append(words, w)
	}
	seen := map[string]bool{}
	for len(t.Tokens) < vocab-len(specials) {
		pairs := map[[2]string]int{}
		for _, w := range words {
			for i := 1; i < len(w.parts); i++ {
				pairs[[2]string{w.parts[i-1], w.parts[i]}] += w.n
			}
		}
		var best [2]string
		n := 1
		for p, c := range pairs {
			if c > n || c == n && n > 1 && (p[0] < best[0] || p[0] == best[0] && p[1] < best[1]) {
				best, n = p, c
			}
		}
		if n < 2 {
			break
		}
		t.Merges = append(t.Merges, best)
		// Two merges can give one string; the vocabulary lists it once.
		if s := best[0] + best[1]; !seen[s] {
			seen[s] = true
			t.Tokens = append(t.Tokens, s)
		}
		for i := range words {
			p := words[i].parts
			for j := 0; j+1 < len(p); j++ {
				if p[j] == best[0] && p[j+1] == best[1] {
					p[j] += p[j+1]
					p = append(p[:j+1], p[j+2:]...)
				}
			}
			words[i].parts = p
		}
	}
	t.index()
	return t
}

func (t *Tokenizer) index() {
	t.ids, t.rank, t.cache = map[string]int32{}, map[[2]string]int{}, map[string][]int32{}
	for i, s := range t.Tokens {
		t.ids[s] = int32(i)
	}
	for i, m := range t.Merges {
		t.rank[m] = i
	}
}

// Special returns the id of special token i.
func (t *Tokenizer) Special(i int) int32 { return int32(len(t.Tokens) + i) }

// Size returns the number of tokens, specials included.
func (t *Tokenizer) Size() int { return len(t.Tokens) + len(specials) }

// Encode returns the tokens of ordinary text.
func (t *Tokenizer) Encode(s string) []int32 {
	var out []int32
	for _, w := range splitWords(s) {
		ids, ok := t.cache[w]
		if !ok {
			ids = t.word(w)
			if len(t.cache) < 1<<16 {
				t.cache[w] = ids
			}
		}
		out = append(out, ids...)
	}
	return out
}

func (t *Tokenizer) word(w string) []int32 {
	var parts []string
	for i := range len(w) {
		parts = append(parts, w[i:i+1])
	}
	for len(parts) > 1 {
		best, at := len(t.Merges), -1
		for i := 1; i < len(parts); i++ {
			if r, ok := t.rank[[2]string{parts[i-1], parts[i]}]; ok && r < best {
				best, at = r, i-1
			}
		}
		if at < 0 {
			break
		}
		parts[at] += parts[at+1]
		parts = append(parts[:at+1], parts[at+2:]...)
	}
	out := make([]int32, len(parts))
	for i, p := range parts {
		out[i] = t.ids[p]
	}
	return out
}

// Decode returns the text of ids, specials left out.
func (t *Tokenizer) Decode(ids []int32) string {
	var b []byte
	for _, id := range ids {
		if int(id) < len(t.Tokens) {
			b = append(b, t.Tokens[id]...)
		}
	}
	return string(b)
}

// Sequence turns an example into tokens; only answers carry loss.
func (t *Tokenizer) Sequence(e *Example) Seq {
	var s Seq
	add := func(ids []int32, w float32) {
		for _, id := range ids {
			if n := len(s.Weight); n > 0 {
				s.Weight[n-1] = w
			}
			s.Tokens, s.Weight = append(s.Tokens, id), append(s.Weight, 0)
		}
	}
	end, start, stop := t.Special(0), t.Special(1), t.Special(2)
	if e.Text != "" {
		add(append(t.Encode(e.Text), end), 1)
		return s
	}
	turn := func(role, text string, w float32) {
		add(append([]int32{start}, t.Encode(role+"\n")...), 0)
		add(append(t.Encode(text), stop), w)
		add(t.Encode("\n"), 0)
	}
	if e.System != "" {
		turn("system", e.System, 0)
	}
	for _, u := range e.Turns {
		turn("user", u.User, 0)
		turn("assistant", u.Answer, 1)
	}
	return s
}
