package telegram

import (
	"strings"
	"unicode/utf16"

	"github.com/cocoon-network/cocoon/internal/assist"
)

// maxUnits is how long a message may be, in UTF-16 units.
const maxUnits = 4096

// builder puts a message with entities together.
type builder struct {
	b        strings.Builder
	n        int
	entities []assist.Entity
}

func (b *builder) add(s string) *builder {
	b.b.WriteString(s)
	b.n += units(s)
	return b
}

func (b *builder) styled(kind, s string) *builder {
	if n := units(s); n > 0 {
		b.entities = append(b.entities, assist.Entity{Type: kind, Offset: b.n, Length: n})
	}
	return b.add(s)
}

func (b *builder) link(s, address string) *builder {
	if address == "" {
		return b.add(s)
	}
	b.entities = append(b.entities, assist.Entity{Type: "text_link", Offset: b.n, Length: units(s), URL: address})
	return b.add(s)
}

func (b *builder) text(t assist.Text) *builder {
	for _, e := range t.Entities {
		e.Offset += b.n
		b.entities = append(b.entities, e)
	}
	return b.add(t.Text)
}

func (b *builder) done() assist.Text { return assist.Text{Text: b.b.String(), Entities: b.entities} }

// foreign is what somebody wrote within a line of ours. Where it runs from right
// to left, or says that it does, it is isolated (Unicode Annex 9), so that it
// turns nothing around that is not its own.
func foreign(s string) string {
	turns := false
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 0x202A && r <= 0x202E || r >= 0x2066 && r <= 0x2069:
			turns = true
			return -1
		case r == 0x200E || r == 0x200F || r == 0x061C || r >= 0x0590 && r <= 0x08FF || r >= 0xFB1D && r <= 0xFDFF || r >= 0xFE70 && r <= 0xFEFF || r >= 0x10800 && r <= 0x10FFF || r >= 0x1E800 && r <= 0x1EFFF:
			turns = true
		}
		return r
	}, s)
	if !turns {
		return s
	}
	return "\u2068" + s + "\u2069"
}

// split cuts a text into messages of at most limit UTF-16 units, at a line's
// end or a space where there is one in the second half, never inside a
// character. Entities across a cut go on behind it.
func split(t assist.Text, limit int) []assist.Text {
	u := utf16.Encode([]rune(t.Text))
	var out []assist.Text
	for start := 0; start < len(u); {
		end := min(start+limit, len(u))
		if end < len(u) {
			end = border(u, start, end)
		}
		a, z := trim(u, start, end)
		if a < z {
			part := assist.Text{Text: string(utf16.Decode(u[a:z]))}
			for _, e := range t.Entities {
				from, to := max(e.Offset, a), min(e.Offset+e.Length, z)
				if from < to {
					e.Offset, e.Length = from-a, to-from
					part.Entities = append(part.Entities, e)
				}
			}
			out = append(out, part)
		}
		start = end
	}
	return out
}

func border(u []uint16, start, end int) int {
	for _, sep := range []uint16{'\n', ' '} {
		for i := end; i > start+(end-start)/2; i-- {
			if u[i-1] == sep {
				return i
			}
		}
	}
	if u[end-1] >= 0xD800 && u[end-1] < 0xDC00 && end-1 > start {
		return end - 1
	}
	return end
}

// trim leaves out space at the ends, which Telegram would cut and so move the
// entities.
func trim(u []uint16, a, z int) (int, int) {
	space := func(c uint16) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }
	for a < z && space(u[a]) {
		a++
	}
	for z > a && space(u[z-1]) {
		z--
	}
	return a, z
}

// cutTo is a text's first message.
func cutTo(t assist.Text, limit int) assist.Text {
	if units(t.Text) <= limit {
		return t
	}
	parts := split(t, limit-1)
	if len(parts) == 0 {
		return assist.Text{}
	}
	parts[0].Text += "…"
	return parts[0]
}
