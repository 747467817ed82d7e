package assist

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Entities cross a model as markers: ⟦1⟧…⟦/1⟧ around formatted text, ⟦#2⟧ in
// place of a protected span. Brackets of the text's own are protected too, so
// that whatever comes back in them is a marker.
const (
	openMark  = '⟦'
	closeMark = '⟧'
)

// marked is a text as a model sees it, and what its markers stand for.
type marked struct {
	text   string
	format map[int]Entity // by number
	opaque map[int]span
}

// span is a protected piece of text with the entities in it, whose offsets
// count from the span's start.
type span struct {
	text     string
	entities []Entity
}

// mark replaces t's entities by markers, and personal data as well if that is
// asked for. t was checked.
func mark(t Text, personal bool) *marked {
	if personal {
		t = protectPersonal(t)
	}
	units := utf16.Encode([]rune(t.Text))
	m := &marked{format: map[int]Entity{}, opaque: map[int]span{}}
	var b strings.Builder
	var next, pos int
	// plain writes text without entities up to unit i, its brackets protected.
	plain := func(i int) {
		for _, r := range string(utf16.Decode(units[pos:i])) {
			if r == openMark || r == closeMark {
				next++
				m.opaque[next] = span{text: string(r)}
				fmt.Fprintf(&b, "⟦#%d⟧", next)
				continue
			}
			b.WriteRune(r)
		}
		pos = i
	}
	type frame struct{ n, end int }
	var open []frame
	closeUpTo := func(i int) {
		for len(open) > 0 && open[len(open)-1].end <= i {
			f := open[len(open)-1]
			open = open[:len(open)-1]
			plain(f.end)
			fmt.Fprintf(&b, "⟦/%d⟧", f.n)
		}
	}
	for _, e := range t.sorted() {
		if e.Offset < pos { // inside a protected span: it moves along
			if s, ok := m.opaque[next]; ok {
				e.Offset -= pos - utf16Len(s.text)
				s.entities = append(s.entities, e)
				m.opaque[next] = s
			}
			continue
		}
		closeUpTo(e.Offset)
		plain(e.Offset)
		next++
		if formatting[e.Type] {
			m.format[next] = e
			fmt.Fprintf(&b, "⟦%d⟧", next)
			open = append(open, frame{next, e.end()})
			continue
		}
		s := span{text: string(utf16.Decode(units[pos:e.end()]))}
		pos = e.end()
		if e.Type != maskedType {
			e.Offset = 0
			s.entities = []Entity{e}
		}
		m.opaque[next] = s
		fmt.Fprintf(&b, "⟦#%d⟧", next)
	}
	closeUpTo(len(units))
	plain(len(units))
	m.text = b.String()
	return m
}

// errProtected says that a protected span was lost or doubled.
var errProtected = errors.New("a protected part of the text is missing or doubled")

var markers = regexp.MustCompile(`⟦\s*([/#]?)\s*([0-9]{1,5})\s*⟧`)

// restore puts the entities back into what a model made of m.text. Protected
// spans are equal to those of the original and each there once, else
// errProtected. Formatting whose markers were lost or crossed is dropped: lost
// counts it.
func (m *marked) restore(s string) (t Text, lost int, err error) {
	type place struct{ from, to int } // markers' positions in s
	found := markers.FindAllStringSubmatchIndex(s, -1)
	number := func(f []int) int { n, _ := strconv.Atoi(s[f[4]:f[5]]); return n }
	kind := func(f []int) string { return s[f[2]:f[3]] }
	opaque := map[int]int{}
	opens, closes := map[int][]place{}, map[int][]place{}
	for _, f := range found {
		p := place{f[0], f[1]}
		switch kind(f) {
		case "#":
			opaque[number(f)]++
		case "/":
			closes[number(f)] = append(closes[number(f)], p)
		default:
			opens[number(f)] = append(opens[number(f)], p)
		}
	}
	for n := range m.opaque {
		if opaque[n] != 1 {
			return Text{}, 0, errProtected
		}
	}
	// What formatting survives: both markers once, in order, and no crossing.
	kept := map[int]bool{}
	var pairs []struct{ n, from, to int }
	for n := range m.format {
		if len(opens[n]) == 1 && len(closes[n]) == 1 && opens[n][0].to <= closes[n][0].from {
			pairs = append(pairs, struct{ n, from, to int }{n, opens[n][0].from, closes[n][0].to})
		}
	}
	slices.SortFunc(pairs, func(a, b struct{ n, from, to int }) int { return cmp.Compare(a.from, b.from) })
	var ends []int
	for _, p := range pairs {
		for len(ends) > 0 && ends[len(ends)-1] <= p.from {
			ends = ends[:len(ends)-1]
		}
		if len(ends) > 0 && p.to > ends[len(ends)-1] {
			continue
		}
		ends = append(ends, p.to)
		kept[p.n] = true
	}

	var b strings.Builder
	units, at := 0, 0
	write := func(text string) { b.WriteString(text); units += utf16Len(text) }
	plain := func(text string) {
		write(strings.Map(func(r rune) rune {
			if r == openMark || r == closeMark {
				return -1
			}
			return r
		}, text))
	}
	starts := map[int]int{}
	for _, f := range found {
		plain(s[at:f[0]])
		at = f[1]
		n := number(f)
		switch kind(f) {
		case "#":
			sp, ok := m.opaque[n]
			if !ok {
				continue
			}
			for _, e := range sp.entities {
				e.Offset += units
				t.Entities = append(t.Entities, e)
			}
			write(sp.text)
		case "/":
			if kept[n] && units > starts[n] {
				e := m.format[n]
				e.Offset, e.Length = starts[n], units-starts[n]
				t.Entities = append(t.Entities, e)
			} else if kept[n] {
				delete(kept, n) // nothing is left inside
			}
		default:
			starts[n] = units
		}
	}
	plain(s[at:])
	t.Text = b.String()
	t.Entities = t.sorted()
	if len(t.Entities) == 0 {
		t.Entities = nil
	}
	return t, len(m.format) - len(kept), nil
}

// pieces cuts a marked text at its protected spans: even pieces are free text
// without markers, odd ones protected. What a model makes of the free ones
// fits between the others whatever it does.
func (m *marked) pieces() (free []string, protected []span) {
	at := 0
	clean := func(s string) string { return markers.ReplaceAllString(s, "") }
	for _, f := range markers.FindAllStringSubmatchIndex(m.text, -1) {
		if m.text[f[2]:f[3]] != "#" {
			continue
		}
		n, _ := strconv.Atoi(m.text[f[4]:f[5]])
		free = append(free, clean(m.text[at:f[0]]))
		protected = append(protected, m.opaque[n])
		at = f[1]
	}
	return append(free, clean(m.text[at:])), protected
}

// join puts pieces together again.
func join(free []string, protected []span) Text {
	var t Text
	var b strings.Builder
	units := 0
	for i, s := range free {
		b.WriteString(s)
		units += utf16Len(s)
		if i < len(protected) {
			for _, e := range protected[i].entities {
				e.Offset += units
				t.Entities = append(t.Entities, e)
			}
			b.WriteString(protected[i].text)
			units += utf16Len(protected[i].text)
		}
	}
	t.Text = b.String()
	return t
}
