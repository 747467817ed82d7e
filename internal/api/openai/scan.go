package openai

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math/bits"
	"unicode/utf8"
)

// MaxDepth is how deep arrays and objects may nest in any JSON read here.
const MaxDepth = 128

// MaxMembers is how many members one object may have where they are kept.
const MaxMembers = 10_000

// Errors of the scanner. They carry no content and no position, since both may
// tell about a prompt.
var (
	ErrSyntax   = errors.New("not valid JSON")
	ErrTooDeep  = errors.New("JSON nests too deeply")
	ErrTooMany  = errors.New("JSON object has too many members")
	ErrNoObject = errors.New("not a JSON object")
)

// The scanner below accepts exactly what encoding/json accepts, up to MaxDepth,
// and builds nothing. Each function takes an index and returns the one after
// what it read.

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// skipPlain goes over bytes that mean themselves in a string: all but quotes,
// backslashes and control characters. It looks at eight at once: a byte that is
// less than n, or zero after the exclusive or with what is looked for, borrows
// into its own highest bit. Borrows reach bytes above as well, but the lowest
// marked byte is always right.
func skipPlain(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(b)-i >= 8; i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		quote, slash := x^ones*'"', x^ones*'\\'
		marks := ((x - ones*' ') &^ x) | ((quote - ones) &^ quote) | ((slash - ones) &^ slash)
		if marks &= highs; marks != 0 {
			return i + bits.TrailingZeros64(marks)/8
		}
	}
	for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// skipString reads the string that opens at b[i].
func skipString(b []byte, i int) (int, error) {
	i++
	for {
		if i = skipPlain(b, i); i >= len(b) {
			return i, ErrSyntax
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, nil
		case c < ' ':
			return i, ErrSyntax
		case i+1 >= len(b):
			return i, ErrSyntax
		default:
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				if _, ok := hex4(b, i+2); !ok {
					return i, ErrSyntax
				}
				i += 6
			default:
				return i, ErrSyntax
			}
		}
	}
}

// hex4 reads four hex digits at b[i].
func hex4(b []byte, i int) (rune, bool) {
	if len(b)-i < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[i : i+4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

func skipDigits(b []byte, i int) int {
	for i < len(b) && '0' <= b[i] && b[i] <= '9' {
		i++
	}
	return i
}

func skipNumber(b []byte, i int) (int, error) {
	if i < len(b) && b[i] == '-' {
		i++
	}
	start := i
	i = skipDigits(b, i)
	if i == start || b[start] == '0' && i > start+1 {
		return i, ErrSyntax
	}
	if i < len(b) && b[i] == '.' {
		start = i + 1
		if i = skipDigits(b, start); i == start {
			return i, ErrSyntax
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		start = i
		if i = skipDigits(b, start); i == start {
			return i, ErrSyntax
		}
	}
	return i, nil
}

// skipValue reads the value that begins at b[i], which is not white space.
// depth is the number of arrays and objects around it.
func skipValue(b []byte, i, depth int) (int, error) {
	if i >= len(b) {
		return i, ErrSyntax
	}
	switch c := b[i]; c {
	case '"':
		return skipString(b, i)
	case '{':
		m := members{b: b, i: i, depth: depth}
		for m.next() {
		}
		return m.i, m.err
	case '[':
		e := elements{b: b, i: i, depth: depth}
		for e.next() {
		}
		return e.i, e.err
	case 't':
		return skipWord(b, i, "true")
	case 'f':
		return skipWord(b, i, "false")
	case 'n':
		return skipWord(b, i, "null")
	default:
		return skipNumber(b, i)
	}
}

func skipWord(b []byte, i int, word string) (int, error) {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return i, ErrSyntax
	}
	return i + len(word), nil
}

// members walks the object that opens at b[i]. After next returned true, the
// member is b[start:end], its value b[value:end], its key b[keyStart:keyEnd]
// without quotes. After false, i stands behind the object or err is set.
type members struct {
	b          []byte
	i          int
	depth      int
	begun      bool
	start, end int
	value      int
	keyEnd     int
	err        error
}

func (m *members) next() bool {
	if m.err != nil {
		return false
	}
	if m.depth >= MaxDepth {
		m.err = ErrTooDeep
		return false
	}
	i := m.i
	if !m.begun {
		m.begun = true
		if i = skipSpace(m.b, i+1); i < len(m.b) && m.b[i] == '}' {
			m.i = i + 1
			return false
		}
	} else {
		switch i = skipSpace(m.b, i); {
		case i < len(m.b) && m.b[i] == '}':
			m.i = i + 1
			return false
		case i < len(m.b) && m.b[i] == ',':
			i = skipSpace(m.b, i+1)
		default:
			m.err = ErrSyntax
			return false
		}
	}
	if i >= len(m.b) || m.b[i] != '"' {
		m.err = ErrSyntax
		return false
	}
	m.start = i
	if i, m.err = skipString(m.b, i); m.err != nil {
		return false
	}
	m.keyEnd = i - 1
	if i = skipSpace(m.b, i); i >= len(m.b) || m.b[i] != ':' {
		m.err = ErrSyntax
		return false
	}
	m.value = skipSpace(m.b, i+1)
	if m.end, m.err = skipValue(m.b, m.value, m.depth+1); m.err != nil {
		return false
	}
	m.i = m.end
	return true
}

// is reports whether the member's key is name, however it is escaped.
func (m *members) is(name string) bool {
	key := m.b[m.start+1 : m.keyEnd]
	if len(key) <= len(name) || bytes.IndexByte(key, '\\') < 0 {
		return string(key) == name // an escape is longer than what it means
	}
	return m.key() == name
}

// key returns the member's key, unescaped.
func (m *members) key() string {
	key := m.b[m.start+1 : m.keyEnd]
	if bytes.IndexByte(key, '\\') < 0 && utf8.Valid(key) {
		return string(key)
	}
	s, _ := jsonString(m.b[m.start : m.keyEnd+1])
	return s
}

func (m *members) raw() []byte { return m.b[m.value:m.end] }

// elements walks the array that opens at b[i]; see members.
type elements struct {
	b          []byte
	i          int
	depth      int
	begun      bool
	start, end int
	err        error
}

func (e *elements) next() bool {
	if e.err != nil {
		return false
	}
	if e.depth >= MaxDepth {
		e.err = ErrTooDeep
		return false
	}
	i := e.i
	if !e.begun {
		e.begun = true
		if i = skipSpace(e.b, i+1); i < len(e.b) && e.b[i] == ']' {
			e.i = i + 1
			return false
		}
	} else {
		switch i = skipSpace(e.b, i); {
		case i < len(e.b) && e.b[i] == ']':
			e.i = i + 1
			return false
		case i < len(e.b) && e.b[i] == ',':
			i = skipSpace(e.b, i+1)
		default:
			e.err = ErrSyntax
			return false
		}
	}
	e.start = i
	if e.end, e.err = skipValue(e.b, i, e.depth+1); e.err != nil {
		return false
	}
	e.i = e.end
	return true
}

// Valid returns nil if b is one JSON value with nothing but white space around
// it, ErrSyntax or ErrTooDeep otherwise.
func Valid(b []byte) error {
	i, err := skipValue(b, skipSpace(b, 0), 0)
	if err == nil && skipSpace(b, i) != len(b) {
		err = ErrSyntax
	}
	return err
}

// jsonString reads raw as a JSON string.
func jsonString(raw []byte) (string, bool) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}
