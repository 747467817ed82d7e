//go:build !tee

package demo

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// function is one function that may be called.
type function struct {
	name   string
	schema json.RawMessage
	param  string
}

const callMark = `,"arguments":`

// toolGrammar accepts {"name":"…","arguments":{…}} for one of the functions.
func toolGrammar(fns []function) (*grammar, *openai.Error) {
	c := newCompiler("")
	var alts []sequence
	for i, fn := range fns {
		c.param = fn.param
		args := c.parse(fn.schema)
		alts = append(alts, join(literal(`{"name":`+string(openai.AppendString(nil, fns[i].name))+callMark), sequence{args}, literal("}")))
	}
	if c.err != nil {
		return nil, c.err
	}
	c.g.start = c.g.alt(alts...).rule
	return c.g, nil
}

// splitCall takes a call apart. A call cut by the token limit gives what there
// is of it.
func splitCall(s string) (name, args string) {
	head, args, ok := strings.Cut(s, callMark)
	head = strings.TrimPrefix(head, `{"name":`)
	if json.Unmarshal([]byte(head), &name) != nil {
		name = ""
	}
	if ok && json.Valid([]byte(s)) {
		args = strings.TrimSuffix(args, "}")
	}
	return name, args
}

// toolCall turns the growing text of a call into deltas.
type toolCall struct {
	text string
	sent int // bytes of text that went out; 0 = not even the name
}

func (t *toolCall) add(s string) string {
	t.text += s
	at := strings.Index(t.text, callMark)
	if at < 0 {
		return ""
	}
	begin := at + len(callMark)
	// The last byte may be the brace around the call, not around its arguments.
	end := max(begin, len(t.text)-1)
	if t.sent == 0 {
		t.sent = end
		name, _ := splitCall(t.text)
		b := fmt.Appendf(nil, `"tool_calls":[{"index":0,"id":%q,"type":"function","function":{"name":`, "call_"+rand.Text())
		b = openai.AppendString(b, name)
		b = openai.AppendString(append(b, `,"arguments":`...), t.text[begin:end])
		return string(b) + "}}]"
	}
	if end == t.sent {
		return ""
	}
	b := openai.AppendString([]byte(`"tool_calls":[{"index":0,"function":{"arguments":`), t.text[t.sent:end])
	t.sent = end
	return string(b) + "}}]"
}
