//go:build !tee

package demo

import "math/bits"

// grammar is a set of rules over bytes. Rules may refer to one another and to
// themselves, but not begin with themselves.
type grammar struct {
	rules [][]sequence
	start int
}

type sequence []symbol

// symbol is a set of bytes, or a rule if set is nil.
type symbol struct {
	set  *byteSet
	rule int
}

type byteSet [4]uint64

func (s *byteSet) add(lo, hi byte) *byteSet {
	for b := int(lo); b <= int(hi); b++ {
		s[b>>6] |= 1 << (b & 63)
	}
	return s
}

func (s *byteSet) has(b byte) bool { return s[b>>6]>>(b&63)&1 != 0 }

func (s *byteSet) only() bool {
	return bits.OnesCount64(s[0])+bits.OnesCount64(s[1])+bits.OnesCount64(s[2])+bits.OnesCount64(s[3]) == 1
}

// rule reserves a rule, to be filled by set.
func (g *grammar) rule() int {
	g.rules = append(g.rules, nil)
	return len(g.rules) - 1
}

// alt makes a rule of alternatives.
func (g *grammar) alt(alts ...sequence) symbol {
	r := g.rule()
	g.rules[r] = alts
	return symbol{rule: r}
}

func span1(lo, hi byte) symbol { return symbol{set: new(byteSet).add(lo, hi)} }

func literal(s string) sequence {
	out := make(sequence, len(s))
	for i := range len(s) {
		out[i] = span1(s[i], s[i])
	}
	return out
}

func join(parts ...sequence) sequence {
	var out sequence
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// frame says what is still to come: the rest of one alternative, then next.
// Frames are immutable and shared.
type frame struct {
	rest sequence
	next *frame
}

// matcher is the set of ways in which the bytes so far can go on. It is a
// value: step returns a new one.
type matcher struct {
	g    *grammar
	tops []*frame // each begins with a byte set
	end  bool     // the bytes so far are complete
}

// Bounds that keep one step cheap whatever the schema.
const (
	maxWays  = 256
	maxNest  = 256
	maxRules = 20000
)

func (g *grammar) matcher() matcher {
	m := matcher{g: g}
	m.expand(&frame{rest: sequence{{rule: g.start}}}, 0)
	return m
}

func (m *matcher) expand(f *frame, depth int) {
	for f != nil && len(f.rest) == 0 {
		f = f.next
	}
	switch {
	case f == nil:
		m.end = true
	case len(m.tops) >= maxWays || depth >= maxNest:
	case f.rest[0].set != nil:
		m.tops = append(m.tops, f)
	default:
		next := f.next
		if len(f.rest) > 1 {
			next = &frame{f.rest[1:], f.next}
		}
		for _, alt := range m.g.rules[f.rest[0].rule] {
			m.expand(&frame{alt, next}, depth+1)
		}
	}
}

// step accepts one byte; it reports false if no way takes it.
func (m *matcher) step(b byte) (matcher, bool) {
	n := matcher{g: m.g}
	for _, f := range m.tops {
		if f.rest[0].set.has(b) {
			n.expand(&frame{f.rest[1:], f.next}, 0)
		}
	}
	return n, n.end || len(n.tops) > 0
}

// accept steps over all bytes of s.
func (m matcher) accept(s string) (matcher, bool) {
	ok := true
	for i := 0; i < len(s) && ok; i++ {
		m, ok = m.step(s[i])
	}
	return m, ok
}

// forced returns the bytes that must come next, as far as there is no choice.
func (m matcher) forced() string {
	var out []byte
	for !m.end && len(m.tops) > 0 && len(out) < 256 {
		set := m.tops[0].rest[0].set
		if !set.only() {
			break
		}
		b := byte(0)
		for i, w := range set {
			if w != 0 {
				b = byte(i*64 + bits.TrailingZeros64(w))
			}
		}
		for _, f := range m.tops[1:] {
			if *f.rest[0].set != *set {
				return string(out)
			}
		}
		m, _ = m.step(b)
		out = append(out, b)
	}
	return string(out)
}
