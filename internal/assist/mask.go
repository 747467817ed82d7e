package assist

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Mask replaces personal data by placeholders before a text is sent, and puts
// them back into what comes back. It knows what has a form (mail addresses,
// phone numbers, cards, bank accounts, links, user names, coordinates) and the
// names it is told, no more: it lowers what a text gives away, it does not make
// it anonymous.
type Mask struct {
	form  *regexp.Regexp
	kinds []string          // of form's groups
	to    map[string]string // what stands in a text -> placeholder
	pairs []string          // placeholder, what it stands for
	count map[string]int
}

const nameKind = "NAME"

// maskForms are what has a form; "" is what looks like one of those below it and
// stays as it is.
var maskForms = [][2]string{
	{"TEXT", `\[[A-Z]+-\d+\]`}, // looks like a placeholder
	{"EMAIL", `[\p{L}\p{N}._%+-]+@[\p{L}\p{N}.-]+\.\p{L}{2,}`},
	{"USER", `\B@[A-Za-z]\w{3,31}\b`},
	{"LINK", `\bhttps?://[^\s<>"]+`},
	{"IBAN", `\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,4})?\b`},
	{"CARD", `\b\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}\b`},
	{"PLACE", `[-+]?\d{1,2}\.\d{4,}, ?[-+]?\d{1,3}\.\d{4,}`},
	{"", `\b(?:19|20)\d{2}-\d{2}-\d{2}\b`}, // a day
	{"PHONE", `\+?\p{Nd}[\p{Nd} ()\-\x{A0}\x{202F}\x{2011}\x{2013}]{7,}\p{Nd}`},
}

// NewMask makes a Mask that also hides names, such as those of the people in a
// chat.
func NewMask(names ...string) *Mask {
	m := (&Mask{}).fresh()
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
		m.kinds = append(m.kinds, nameKind)
		alternatives = append(alternatives, "((?i:"+strings.Join(quoted, "|")+"))")
	}
	m.form = regexp.MustCompile(strings.Join(alternatives, "|"))
	return m
}

// fresh is a Mask of the same forms and names that has hidden nothing yet.
func (m *Mask) fresh() *Mask {
	return &Mask{form: m.form, kinds: m.kinds, to: map[string]string{}, count: map[string]int{}}
}

// personal is a part of a text, in bytes, that is personal.
type personal struct {
	kind string
	a, z int
}

// find returns what of s is personal.
func (m *Mask) find(s string) (out []personal) {
	for from := 0; from < len(s); {
		f := m.form.FindStringSubmatchIndex(s[from:])
		if f == nil {
			break
		}
		p := personal{a: from + f[0], z: from + f[1]}
		for k, kind := range m.kinds {
			if f[2+2*k] >= 0 {
				p.kind = kind
				break
			}
		}
		if p.kind == nameKind && !isName(s, p.a, p.z) {
			_, n := utf8.DecodeRuneInString(s[p.a:])
			from = p.a + n // something else may begin within it
			continue
		}
		if from = p.z; p.kind != "" {
			out = append(out, p)
		}
	}
	return out
}

// Hide returns s with personal data replaced. The same datum gets the same
// placeholder in all texts of one Mask, a name however it is capitalised.
func (m *Mask) Hide(s string) string {
	var b strings.Builder
	at := 0
	for _, p := range m.find(s) {
		b.WriteString(s[at:p.a])
		b.WriteString(m.placeholder(p.kind, s[p.a:p.z]))
		at = p.z
	}
	b.WriteString(s[at:])
	return b.String()
}

// isName reports whether a name at s[a:z] is not a part of another word: "Ann"
// is none of "Channel". Behind it an ending may follow, as cases do in Russian,
// but for names so short that they begin many words.
func isName(s string, a, z int) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:a])
	if unicode.IsLetter(before) || unicode.IsNumber(before) {
		return false
	}
	behind, _ := utf8.DecodeRuneInString(s[z:])
	return utf8.RuneCountInString(s[a:z]) > 3 || !unicode.IsLetter(behind) && !unicode.IsNumber(behind)
}

func (m *Mask) placeholder(kind, found string) string {
	key := found
	if kind == nameKind {
		key = strings.ToLower(found)
	}
	if p, ok := m.to[key]; ok {
		return p
	}
	m.count[kind]++
	p := fmt.Sprintf("[%s-%d]", kind, m.count[kind])
	m.to[key] = p
	m.pairs = append(m.pairs, p, found)
	return p
}

// Show puts the data back.
func (m *Mask) Show(s string) string { return strings.NewReplacer(m.pairs...).Replace(s) }

// showing puts the data back into a text that grows; what may be the beginning
// of a placeholder waits for its end. onText nil = nil.
func (m *Mask) showing(onText func(string)) func(string) {
	if onText == nil {
		return nil
	}
	const longest = 20 // bytes of a placeholder
	rest := ""
	return func(delta string) {
		s := rest + delta
		end := len(s)
		if i := strings.LastIndexByte(s, '['); i >= 0 && len(s)-i < longest && !strings.Contains(s[i:], "]") {
			end = i
		}
		rest = s[end:]
		if s = m.Show(s[:end]); s != "" {
			onText(s)
		}
	}
}

// MaskEmbeddings is a Model that hides personal data, also names, in whatever
// embeddings are made of.
func MaskEmbeddings(m Model, names ...string) Model { return &masked{m, NewMask(names...)} }

type masked struct {
	Model
	mask *Mask // as it was made: each text has one of its own, so that none tells of another
}

func (m *masked) Embed(ctx context.Context, texts []string) ([][]float32, Proof, error) {
	hidden := make([]string, len(texts))
	for i, s := range texts {
		hidden[i] = m.mask.fresh().Hide(s)
	}
	return m.Model.Embed(ctx, hidden)
}

// Hidden is how many data were replaced.
func (m *Mask) Hidden() int { return len(m.to) }

// Senders are the names in messages, each once.
func Senders(ms []Message) (names []string) {
	seen := map[string]bool{}
	for _, m := range ms {
		if m.From != "" && !seen[m.From] {
			seen[m.From] = true
			names = append(names, m.From)
		}
	}
	return names
}

// hideMessages returns masked copies of messages and the Mask that undoes it.
func hideMessages(ms []Message, more ...string) ([]Message, *Mask) {
	mask := NewMask(append(Senders(ms), more...)...)
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
	out := Text{Text: t.Text}
	var spans []Entity
	at, units := 0, 0
	for _, p := range NewMask().find(t.Text) {
		units += utf16Len(t.Text[at:p.a])
		e := Entity{Type: maskedType, Offset: units, Length: utf16Len(t.Text[p.a:p.z])}
		spans = append(spans, e)
		at, units = p.z, e.end()
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
