package assist

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Mask replaces personal data by placeholders before a text is sent, and puts
// them back into what comes back. It knows what has a form (mail addresses,
// phone numbers, cards, bank accounts, links, coordinates) and the names it is
// told, no more: it lowers what a text gives away, it does not make it
// anonymous.
type Mask struct {
	form  *regexp.Regexp
	kinds []string          // of form's groups
	to    map[string]string // what stands in a text -> placeholder
	pairs []string          // placeholder, what it stands for
	count map[string]int
}

var maskForms = [][2]string{
	{"TEXT", `\[[A-Z]+-\d+\]`}, // looks like a placeholder
	{"EMAIL", `[\p{L}\p{N}._%+-]+@[\p{L}\p{N}.-]+\.\p{L}{2,}`},
	{"LINK", `\bhttps?://[^\s<>"]+`},
	{"IBAN", `\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,4})?\b`},
	{"CARD", `\b\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}\b`},
	{"PLACE", `[-+]?\d{1,2}\.\d{4,}, ?[-+]?\d{1,3}\.\d{4,}`},
	{"PHONE", `\+?\d[\d ()\-]{7,}\d`},
}

// NewMask makes a Mask that also hides names, such as those of the people in a
// chat.
func NewMask(names ...string) *Mask {
	m := &Mask{to: map[string]string{}, count: map[string]int{}}
	var alternatives []string
	for _, f := range maskForms {
		m.kinds = append(m.kinds, f[0])
		alternatives = append(alternatives, "("+f[1]+")")
	}
	names = slices.Clone(names)
	slices.SortFunc(names, func(a, b string) int { return len(b) - len(a) }) // "Anna Maria" before "Anna"
	var quoted []string
	for _, n := range names {
		if n = strings.TrimSpace(n); n != "" {
			quoted = append(quoted, regexp.QuoteMeta(n))
		}
	}
	if len(quoted) > 0 {
		m.kinds = append(m.kinds, "NAME")
		alternatives = append(alternatives, "("+strings.Join(quoted, "|")+")")
	}
	m.form = regexp.MustCompile(strings.Join(alternatives, "|"))
	return m
}

// Hide returns s with personal data replaced. The same datum gets the same
// placeholder in all texts of one Mask.
func (m *Mask) Hide(s string) string {
	var b strings.Builder
	at := 0
	for _, f := range m.form.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(s[at:f[0]])
		for k, kind := range m.kinds {
			if f[2+2*k] >= 0 {
				b.WriteString(m.placeholder(kind, s[f[0]:f[1]]))
				break
			}
		}
		at = f[1]
	}
	b.WriteString(s[at:])
	return b.String()
}

func (m *Mask) placeholder(kind, found string) string {
	if p, ok := m.to[found]; ok {
		return p
	}
	m.count[kind]++
	p := fmt.Sprintf("[%s-%d]", kind, m.count[kind])
	m.to[found] = p
	m.pairs = append(m.pairs, p, found)
	return p
}

// Show puts the data back.
func (m *Mask) Show(s string) string { return strings.NewReplacer(m.pairs...).Replace(s) }

// Hidden is how many data were replaced.
func (m *Mask) Hidden() int { return len(m.to) }

// hideMessages returns masked copies of messages and the Mask that undoes it.
func hideMessages(ms []Message, more ...string) ([]Message, *Mask) {
	names := slices.Clone(more)
	for _, m := range ms {
		if m.From != "" && !slices.Contains(names, m.From) {
			names = append(names, m.From)
		}
	}
	mask := NewMask(names...)
	out := slices.Clone(ms)
	for i := range out {
		out[i].From, out[i].Text = mask.Hide(out[i].From), mask.Hide(out[i].Text)
	}
	return out, mask
}

// maskedType marks a span of a Text that is protected only because it is
// personal data; the result has no such entity.
const maskedType = "cocoon_masked"

// protectPersonal returns t with personal data protected like a link. What
// formatting crosses it is given up.
func protectPersonal(t Text) Text {
	form := NewMask().form
	out := Text{Text: t.Text}
	var spans []Entity
	for _, f := range form.FindAllStringIndex(t.Text, -1) {
		spans = append(spans, Entity{Type: maskedType, Offset: utf16Len(t.Text[:f[0]]), Length: utf16Len(t.Text[f[0]:f[1]])})
	}
	for _, e := range t.Entities {
		if formatting[e.Type] {
			continue
		}
		// What a protected entity covers needs no other protection.
		var rest []Entity
		for _, s := range spans {
			for _, part := range [2][2]int{{s.Offset, min(s.end(), e.Offset)}, {max(s.Offset, e.end()), s.end()}} {
				if part[0] < part[1] {
					rest = append(rest, Entity{Type: maskedType, Offset: part[0], Length: part[1] - part[0]})
				}
			}
		}
		spans = rest
	}
	for _, e := range t.Entities {
		crosses := formatting[e.Type] && slices.ContainsFunc(spans, func(s Entity) bool {
			apart := s.end() <= e.Offset || s.Offset >= e.end()
			inside := s.Offset >= e.Offset && s.end() <= e.end()
			around := e.Offset >= s.Offset && e.end() <= s.end()
			return !apart && !inside && !around
		})
		if !crosses {
			out.Entities = append(out.Entities, e)
		}
	}
	out.Entities = append(out.Entities, spans...)
	return out
}
