package openai

import (
	"bytes"
	"encoding/json"
	"iter"
	"math"
	"strconv"
	"unicode/utf8"
)

// Object is a JSON object whose members can be looked at and changed one by
// one. Written again it is compact, keeps the order of members at every level
// (a schema's order is the order in which an engine answers), has no duplicate
// keys, and spells each number as it was.
type Object struct {
	members []Member       // deleted ones have no value
	left    int            // members that are not deleted
	index   map[string]int // where a key stands; nil up to fewMembers
}

// fewMembers are looked through faster than an index is made.
const fewMembers = 16

// Member is one key and its value.
type Member struct {
	Key   string
	Value json.RawMessage
}

// ParseObject reads one JSON object. Of duplicate keys the last value wins, in
// the first one's place. The error
// is ErrNoObject, ErrSyntax, ErrTooDeep or ErrTooMany. The object keeps b.
func ParseObject(b []byte) (*Object, error) {
	if err := Valid(b); err != nil {
		return nil, err
	}
	i := skipSpace(b, 0)
	if b[i] != '{' {
		return nil, ErrNoObject
	}
	o := &Object{members: make([]Member, 0, 8)}
	m := members{b: b, i: i}
	for m.next() {
		o.Set(m.key(), m.raw())
		if len(o.members) > MaxMembers {
			return nil, ErrTooMany
		}
	}
	return o, nil
}

// Len returns the number of members.
func (o *Object) Len() int { return o.left }

// find returns where key stands.
func (o *Object) find(key string) (int, bool) {
	if o.index != nil {
		i, ok := o.index[key]
		return i, ok
	}
	for i := range o.members {
		if o.members[i].Key == key && o.members[i].Value != nil {
			return i, true
		}
	}
	return 0, false
}

// Get returns the value of key.
func (o *Object) Get(key string) (json.RawMessage, bool) {
	i, ok := o.find(key)
	if !ok {
		return nil, false
	}
	return o.members[i].Value, true
}

// Set gives key a value, which must be valid JSON; a new key goes to the end.
func (o *Object) Set(key string, value json.RawMessage) {
	if i, ok := o.find(key); ok {
		o.members[i].Value = value
		return
	}
	o.members = append(o.members, Member{key, value})
	o.left++
	switch {
	case o.index != nil:
		o.index[key] = len(o.members) - 1
	case len(o.members) > fewMembers:
		o.index = make(map[string]int, 2*fewMembers)
		for i, m := range o.members {
			if m.Value != nil {
				o.index[m.Key] = i
			}
		}
	}
}

// SetInt gives key an integer value.
func (o *Object) SetInt(key string, n int64) { o.Set(key, strconv.AppendInt(nil, n, 10)) }

// Delete removes key.
func (o *Object) Delete(key string) {
	if i, ok := o.find(key); ok {
		delete(o.index, key)
		o.members[i] = Member{}
		o.left--
	}
}

// All calls yield for each member in order, until it returns false.
func (o *Object) All(yield func(key string, value json.RawMessage) bool) {
	for _, m := range o.members {
		if m.Value != nil && !yield(m.Key, m.Value) {
			return
		}
	}
}

// AppendJSON appends the object. The error is ErrTooMany, for an inner object
// with more than MaxMembers members.
func (o *Object) AppendJSON(dst []byte) ([]byte, error) {
	dst = append(dst, '{')
	first := true
	var err error
	o.All(func(key string, value json.RawMessage) bool {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendString(dst, key), ':')
		dst, err = Compact(dst, value)
		return err == nil
	})
	return append(dst, '}'), err
}

// Compact appends one JSON value without white space, without duplicate keys
// (the last wins, in the first one's place) and with strings in valid Unicode;
// order and numbers stay as they are. The error is ErrSyntax, ErrTooDeep or
// ErrTooMany.
func Compact(dst, value []byte) ([]byte, error) {
	if err := Valid(value); err != nil {
		return dst, err
	}
	value = value[skipSpace(value, 0):]
	if out, _, ok := squeeze(dst, value, 0); ok {
		return out, nil
	}
	return compact(dst, value)
}

// usualMembers is how many members most objects have at most.
const usualMembers = 16

// squeeze does for usual values what compact does for all, in one walk and
// without a map: it appends the valid value at b[i] and returns where it ends,
// or false for what it leaves to compact, keys that are escaped or come twice,
// long objects, strings that have to be written anew.
func squeeze(dst, b []byte, i int) (_ []byte, end int, ok bool) {
	switch b[i] {
	case '{':
		var keys [usualMembers]struct{ start, end int32 }
		dst = append(dst, '{')
		i = skipSpace(b, i+1)
		for n := 0; b[i] != '}'; n++ {
			if b[i] == ',' {
				dst = append(dst, ',')
				i = skipSpace(b, i+1)
			}
			start := i
			i, _ = skipString(b, i)
			key := b[start:i]
			if n == usualMembers || len(b) > math.MaxInt32 || bytes.IndexByte(key, '\\') >= 0 || !utf8.Valid(key) {
				return dst, i, false
			}
			for _, k := range keys[:n] {
				if bytes.Equal(key, b[k.start:k.end]) {
					return dst, i, false
				}
			}
			keys[n].start, keys[n].end = int32(start), int32(i)
			dst = append(append(dst, key...), ':')
			if dst, i, ok = squeeze(dst, b, skipSpace(b, skipSpace(b, i)+1)); !ok {
				return dst, i, false
			}
			i = skipSpace(b, i)
		}
		return append(dst, '}'), i + 1, true
	case '[':
		dst = append(dst, '[')
		i = skipSpace(b, i+1)
		for b[i] != ']' {
			if b[i] == ',' {
				dst = append(dst, ',')
				i = skipSpace(b, i+1)
			}
			if dst, i, ok = squeeze(dst, b, i); !ok {
				return dst, i, false
			}
			i = skipSpace(b, i)
		}
		return append(dst, ']'), i + 1, true
	case '"':
		end, _ = skipString(b, i)
		if !utf8.Valid(b[i:end]) || bytes.Contains(b[i:end], []byte(`\u`)) {
			return dst, end, false
		}
	default:
		for end = i; end < len(b) && b[end] != ',' && b[end] != ']' && b[end] != '}' && b[end] > ' '; end++ {
		}
	}
	return append(dst, b[i:end]...), end, true
}

// compact does it for valid JSON without leading space, nested at most MaxDepth.
func compact(dst, b []byte) ([]byte, error) {
	var err error
	switch b[0] {
	case '{':
		dst = append(dst, '{')
		var kept []Member
		seen := map[string]int{}
		m := members{b: b}
		for m.next() {
			key := m.key()
			if i, ok := seen[key]; ok {
				kept[i].Value = m.raw()
				continue
			}
			if len(kept) >= MaxMembers {
				return dst, ErrTooMany
			}
			seen[key] = len(kept)
			kept = append(kept, Member{key, m.raw()})
		}
		for i, m := range kept {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendString(dst, m.Key), ':')
			if dst, err = compact(dst, m.Value); err != nil {
				return dst, err
			}
		}
		return append(dst, '}'), nil
	case '[':
		dst = append(dst, '[')
		e := elements{b: b}
		for i := 0; e.next(); i++ {
			if i > 0 {
				dst = append(dst, ',')
			}
			if dst, err = compact(dst, b[e.start:e.end]); err != nil {
				return dst, err
			}
		}
		return append(dst, ']'), nil
	case '"':
		end, err := skipString(b, 0)
		if err != nil {
			return dst, err
		}
		b = b[:end]
		if utf8.Valid(b) && !bytes.Contains(b, []byte(`\u`)) {
			return append(dst, b...), nil
		}
		s, _ := jsonString(b)
		return appendString(dst, s), nil
	}
	return append(dst, bytes.TrimRight(b, " \t\r\n")...), nil
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string, escaping only what must be.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, c)
		}
		i++
	}
	return append(dst, '"')
}

// Elements calls yield for each element of a JSON array that is part of a
// parsed document; of anything else there are none.
func Elements(raw json.RawMessage) iter.Seq2[int, json.RawMessage] {
	return func(yield func(int, json.RawMessage) bool) {
		if len(raw) == 0 || raw[0] != '[' {
			return
		}
		e := elements{b: raw}
		for i := 0; e.next(); i++ {
			if !yield(i, json.RawMessage(raw[e.start:e.end])) {
				return
			}
		}
	}
}

// String reads raw as a JSON string; it reports false for anything else.
func String(raw json.RawMessage) (string, bool) { return jsonString(raw) }

// AppendString appends s as a JSON string, escaping only what must be.
func AppendString(dst []byte, s string) []byte { return appendString(dst, s) }
