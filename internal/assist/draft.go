package assist

import (
	"encoding/json"
	"strings"
	"unicode/utf8"
)

// draft turns a growing JSON answer into the growing text of its fields named
// key, separated by lines.
func draft(key string, onText func(string)) func(string) {
	d := newPartial(key)
	return func(delta string) {
		if s := d.add(delta); s != "" {
			onText(s)
		}
	}
}

// partial reads string fields named key out of JSON that comes in pieces.
type partial struct {
	want    string
	inStr   bool
	escaped bool
	str     strings.Builder // the string being read, raw
	key     string          // the last complete string, if a colon follows it is a key
	afterC  bool            // a colon has come after key
	telling bool
	told    int // bytes of str that were given on
	any     bool
}

func newPartial(key string) *partial { return &partial{want: key} }

func (p *partial) add(s string) string {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !p.inStr {
			switch c {
			case '"':
				p.inStr = true
				p.str.Reset()
				p.told = 0
				p.telling = p.afterC && p.key == p.want
				if p.telling && p.any {
					out.WriteByte('\n')
				}
				p.any = p.any || p.telling
			case ':':
				p.afterC = true
			case ',', '{', '[', '}', ']':
				p.afterC = c == '[' && p.afterC
				if !p.afterC {
					p.key = ""
				}
			}
			continue
		}
		switch {
		case p.escaped:
			p.escaped = false
			p.str.WriteByte(c)
		case c == '\\':
			p.escaped = true
			p.str.WriteByte(c)
		case c == '"':
			if p.telling {
				out.WriteString(p.more(true))
			}
			p.inStr = false
			if !p.telling {
				p.key, p.afterC = p.str.String(), false
			}
		default:
			p.str.WriteByte(c)
		}
	}
	if p.inStr && p.telling {
		out.WriteString(p.more(false))
	}
	return out.String()
}

// more decodes what of the string was not told yet, as far as it is whole.
func (p *partial) more(end bool) string {
	raw := p.str.String()[p.told:]
	if !end {
		raw = raw[:wholeEscapes(raw)]
		for len(raw) > 0 && !utf8.ValidString(raw) {
			raw = raw[:len(raw)-1]
		}
	}
	var s string
	if json.Unmarshal([]byte(`"`+raw+`"`), &s) != nil {
		return "" // the whole answer will be refused
	}
	p.told += len(raw)
	return s
}

// wholeEscapes returns how much of raw ends behind an escape, not within one.
func wholeEscapes(raw string) int {
	for i := 0; i < len(raw); {
		n := 1
		if raw[i] == '\\' {
			n = 2
			if strings.HasPrefix(raw[i:], `\u`) {
				n = 6
				if len(raw) >= i+4 && (raw[i+2] == 'd' || raw[i+2] == 'D') && strings.IndexByte("89abAB", raw[i+3]) >= 0 {
					n = 12 // the first of two surrogates
				}
			}
		}
		if i+n > len(raw) {
			return i
		}
		i += n
	}
	return len(raw)
}
