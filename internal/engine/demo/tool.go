//go:build !tee

package demo

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// function is one function that may be called.
type function struct {
	name   string
	schema json.RawMessage
	param  string
}

const callMark = `,"arguments":`

// maxCalls bounds the calls of one answer.
const maxCalls = 8

// toolGrammar accepts {"name":"…","arguments":{…}} for one of the functions, or
// for each of them, one after another.
func toolGrammar(fns []function, each bool) (*grammar, *openai.Error) {
	c := newCompiler("")
	var alts []sequence
	for _, fn := range fns {
		c.param = fn.param
		args := c.parse(fn.schema)
		alts = append(alts, join(literal(`{"name":`+string(openai.AppendString(nil, fn.name))+callMark), sequence{args}, literal("}")))
	}
	if c.err != nil {
		return nil, c.err
	}
	if each {
		alts = []sequence{join(alts...)}
	}
	c.g.start = c.g.alt(alts...).rule
	return c.g, nil
}

// toolCalls takes the growing text of calls apart.
type toolCalls struct {
	list []*oneCall
	// Where the text stands: how many brackets are open, and in a string or not.
	depth           int
	quoted, escaped bool
}

// oneCall is a call as far as it came. Its name is known once its arguments
// begin.
type oneCall struct {
	id, name  string
	head      []byte // up to the arguments
	arguments []byte
	named     bool
	sent      int // bytes of the arguments that went out; -1 = not even the name
}

func (t *toolCalls) add(text string) {
	for i := range len(text) {
		t.step(text[i])
	}
}

func (t *toolCalls) step(b byte) {
	if t.depth == 0 {
		t.list = append(t.list, &oneCall{id: "call_" + rand.Text(), sent: -1})
	}
	switch {
	case t.escaped:
		t.escaped = false
	case t.quoted:
		t.escaped, t.quoted = b == '\\', b != '"'
	case b == '"':
		t.quoted = true
	case b == '{', b == '[':
		t.depth++
	case b == '}', b == ']':
		t.depth--
	}
	c := t.list[len(t.list)-1]
	switch {
	case !c.named:
		c.head = append(c.head, b)
		if head, ok := bytes.CutSuffix(c.head, []byte(callMark)); ok {
			c.named = json.Unmarshal(bytes.TrimPrefix(head, []byte(`{"name":`)), &c.name) == nil
		}
	case t.depth > 0: // else the brace around the call
		c.arguments = append(c.arguments, b)
	}
}

// whole writes the member tool_calls, "" without a call: one that the token
// limit cut before its name was known is none.
func (t *toolCalls) whole() string {
	var b []byte
	for _, c := range t.list {
		if !c.named {
			continue
		}
		b = c.open(append(b, ",{"...))
		b = openai.AppendString(b, string(c.arguments))
		b = append(b, "}}"...)
	}
	if b == nil {
		return ""
	}
	return `"tool_calls":[` + string(b[1:]) + "]"
}

// delta writes what came since the last one, "" for nothing.
func (t *toolCalls) delta() string {
	var b []byte
	for i, c := range t.list {
		if !c.named || c.sent == len(c.arguments) {
			continue
		}
		b = fmt.Appendf(b, `,{"index":%d,`, i)
		if c.sent < 0 {
			b, c.sent = c.open(b), 0
		} else {
			b = append(b, `"function":{"arguments":`...)
		}
		b = openai.AppendString(b, string(c.arguments[c.sent:]))
		b = append(b, "}}"...)
		c.sent = len(c.arguments)
	}
	if b == nil {
		return ""
	}
	return `"tool_calls":[` + string(b[1:]) + "]"
}

// open writes a call up to its arguments.
func (c *oneCall) open(b []byte) []byte {
	b = fmt.Appendf(b, `"id":%q,"type":"function","function":{"name":`, c.id)
	return append(openai.AppendString(b, c.name), `,"arguments":`...)
}
