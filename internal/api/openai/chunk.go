package openai

import "bytes"

// Chunk is one JSON object of an answer, whole or streamed, looked at in a
// single pass: just what metering and forwarding need.
type Chunk struct {
	// Usage is the object's usage; HasUsage is false if there is none or null.
	Usage    Usage
	HasUsage bool
	// NoChoices says that choices is there and empty.
	NoChoices bool
	// IsError says that the object has a member "error" that is not null.
	IsError bool

	data    []byte
	usage   span // the last member "usage"
	choices span // the last member "choices"
	body    span // the object itself, braces included
	many    bool // there is more than one member "usage"
}

type span struct{ start, value, end int }

// ParseChunk reads one JSON object. The chunk keeps data. The error is
// ErrNoObject, ErrSyntax or ErrTooDeep. It does not allocate.
func ParseChunk(data []byte) (Chunk, error) {
	c := Chunk{data: data}
	i := skipSpace(data, 0)
	if i >= len(data) || data[i] != '{' {
		if err := Valid(data); err != nil {
			return Chunk{}, err
		}
		return Chunk{}, ErrNoObject
	}
	m := members{b: data, i: i}
	for m.next() {
		switch {
		case m.is("usage"):
			c.many = c.usage.end > 0
			c.usage = span{m.start, m.value, m.end}
		case m.is("choices"):
			// next has walked the value: its brackets match.
			c.NoChoices = data[m.value] == '[' && data[skipSpace(data, m.value+1)] == ']'
			c.choices = span{m.start, m.value, m.end}
		case m.is("error"):
			c.IsError = data[m.value] != 'n'
		}
	}
	if m.err == nil && skipSpace(data, m.i) != len(data) {
		m.err = ErrSyntax
	}
	if m.err != nil {
		return Chunk{}, m.err
	}
	c.body = span{start: i, end: m.i}
	c.Usage, c.HasUsage = readUsage(data[c.usage.value:c.usage.end])
	return c, nil
}

// MentionsUsage reports whether there is a member "usage", null included.
func (c Chunk) MentionsUsage() bool { return c.usage.end > 0 }

// UsageOnly reports whether the chunk is the extra one that carries nothing but
// usage (stream_options.include_usage).
func (c Chunk) UsageOnly() bool { return c.NoChoices && c.HasUsage }

// AppendWithoutUsage appends the object without its member "usage"; everything
// else keeps its bytes and order.
func (c Chunk) AppendWithoutUsage(dst []byte) []byte {
	at := c.body.start
	dst = append(dst, '{')
	first := true
	m := members{b: c.data, i: at}
	for m.next() {
		if m.is("usage") {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, c.data[m.start:m.end]...)
	}
	return append(dst, '}')
}

// AppendWithUsage appends the object with usage, a JSON value, as its member
// "usage": in place of the old one, else at the end. Everything else keeps its
// bytes and order.
func (c Chunk) AppendWithUsage(dst, usage []byte) []byte {
	if c.usage.end > 0 && !c.many {
		dst = append(dst, c.data[c.body.start:c.usage.value]...)
		dst = append(dst, usage...)
		return append(dst, c.data[c.usage.end:c.body.end]...)
	}
	dst = c.AppendWithoutUsage(dst)
	dst = dst[:len(dst)-1]
	if dst[len(dst)-1] != '{' {
		dst = append(dst, ',')
	}
	dst = append(dst, `"usage":`...)
	dst = append(dst, usage...)
	return append(dst, '}')
}

// RawUsage returns the bytes of the usage object, nil if there is none.
func (c Chunk) RawUsage() []byte {
	if !c.HasUsage {
		return nil
	}
	return c.data[c.usage.value:c.usage.end]
}

// Finished reports whether a choice carries a finish_reason.
func (c Chunk) Finished() bool {
	if c.choices.end == 0 || c.data[c.choices.value] != '[' || !mayFinish(c.data[c.choices.value:c.choices.end]) {
		return false
	}
	e := elements{b: c.data, i: c.choices.value}
	for e.next() {
		if c.data[e.start] != '{' {
			continue
		}
		m := members{b: c.data, i: e.start}
		for m.next() {
			if m.is("finish_reason") && c.data[m.value] == '"' {
				return true
			}
		}
	}
	return false
}

// mayFinish is false if choices surely holds no finish_reason that is a string:
// true of all chunks of a stream but the last, and found without a walk.
func mayFinish(choices []byte) bool {
	if bytes.IndexByte(choices, '\\') >= 0 {
		return true // the name may be written with escapes
	}
	const name = `"finish_reason"`
	for {
		i := bytes.Index(choices, []byte(name))
		if i < 0 {
			return false
		}
		choices = choices[i+len(name):]
		i = skipSpace(choices, 0)
		if i < len(choices) && choices[i] == ':' {
			if i = skipSpace(choices, i+1); i < len(choices) && choices[i] == '"' {
				return true
			}
		}
	}
}
