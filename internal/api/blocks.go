package api

import (
	"encoding/json"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// The responses and messages forms tell an answer as a row of blocks, one after
// the other: reasoning, text, a refusal, calls of tools. What engines send are
// chat completions; here they become blocks.

type blockKind int

const (
	blockReasoning blockKind = iota
	blockText
	blockRefusal
	blockCall
)

// block is one piece of an answer.
type block struct {
	kind     blockKind
	index    int    // in the answer
	id       string // a name in the answer, made by the form
	callID   string // of calls
	name     string // of calls
	text     strings.Builder
	logprobs []json.RawMessage
}

// blockSink hears how blocks grow. There is at most one open block.
type blockSink interface {
	open(b *block) error
	add(b *block, text string, logprobs []json.RawMessage) error
	close(b *block) error
}

// blocks gathers an answer.
type blocks struct {
	list   []*block
	tool   int // index of the call that the last block is, -1 = none
	opened bool
	reason string
	size   int
}

// chatMessage is a message or a delta of a chat completion. Engines differ in
// what they call reasoning (spec engines 6).
type chatMessage struct {
	Content          *string `json:"content"`
	Refusal          *string `json:"refusal"`
	ReasoningContent *string `json:"reasoning_content"`
	Reasoning        *string `json:"reasoning"`
	ToolCalls        []struct {
		Index    *int   `json:"index"`
		ID       string `json:"id"`
		Function struct {
			Name      string `json:"name"`
			Arguments string `json:"arguments"`
		} `json:"function"`
	} `json:"tool_calls"`
}

type chatObject struct {
	Choices []struct {
		Index        int         `json:"index"`
		Delta        chatMessage `json:"delta"`
		Message      chatMessage `json:"message"`
		FinishReason *string     `json:"finish_reason"`
		Logprobs     *struct {
			Content []json.RawMessage `json:"content"`
		} `json:"logprobs"`
	} `json:"choices"`
}

var errNoChat = openai.Upstream("The worker's answer is not a chat completion.")

func parseChat(data []byte) (chatObject, error) {
	var o chatObject
	if err := json.Unmarshal(data, &o); err != nil {
		return o, errNoChat
	}
	return o, nil
}

// readChat reads the choices of a whole chat answer.
func readChat(answer []byte) ([]finished, error) {
	o, err := parseChat(answer)
	if err != nil {
		return nil, err
	}
	out := make([]finished, 0, len(o.Choices))
	for _, c := range o.Choices {
		var f finished
		f.add(c.Message, c.FinishReason)
		out = append(out, f)
	}
	return out, nil
}

// add takes in a message, or one delta of it.
func (f *finished) add(m chatMessage, reason *string) {
	if m.Content != nil {
		f.content = append(f.content, *m.Content...)
		f.has = true
	}
	f.refused = f.refused || m.Refusal != nil && *m.Refusal != ""
	for i, call := range m.ToolCalls {
		at := len(f.calls) + 1
		if call.Index != nil {
			at = *call.Index
		} else {
			at = i
		}
		if at < 0 || at > len(f.calls) {
			continue
		}
		if at == len(f.calls) {
			f.calls = append(f.calls, calledFunction{})
		}
		c := &f.calls[at]
		c.id += call.ID
		c.name += call.Function.Name
		c.arguments = append(c.arguments, call.Function.Arguments...)
	}
	if reason != nil {
		f.reason = *reason
	}
}

// chunk takes in a chat completion or a chunk of one and tells sink.
func (b *blocks) chunk(data []byte, sink blockSink) error {
	if b.size += len(data); b.size > maxBlocks {
		return openai.Upstream("The answer is larger than %d bytes.", maxBlocks)
	}
	o, err := parseChat(data)
	if err != nil {
		return err
	}
	for _, c := range o.Choices {
		if c.Index != 0 {
			continue // one was asked for
		}
		m := c.Delta
		if m.Content == nil && m.ReasoningContent == nil && m.Reasoning == nil && m.Refusal == nil && m.ToolCalls == nil {
			m = c.Message
		}
		var probs []json.RawMessage
		if c.Logprobs != nil {
			probs = c.Logprobs.Content
		}
		if m.ReasoningContent == nil {
			m.ReasoningContent = m.Reasoning
		}
		for _, part := range []struct {
			kind blockKind
			text *string
		}{{blockReasoning, m.ReasoningContent}, {blockText, m.Content}, {blockRefusal, m.Refusal}} {
			if part.text == nil || *part.text == "" {
				continue
			}
			if part.kind != blockText {
				err = b.grow(sink, part.kind, *part.text, nil)
			} else {
				err, probs = b.grow(sink, part.kind, *part.text, probs), nil
			}
			if err != nil {
				return err
			}
		}
		for i, call := range m.ToolCalls {
			at := i
			if call.Index != nil {
				at = *call.Index
			}
			if err := b.call(sink, at, call.ID, call.Function.Name, call.Function.Arguments); err != nil {
				return err
			}
		}
		if c.FinishReason != nil {
			b.reason = *c.FinishReason
		}
	}
	return nil
}

// maxBlocks bounds an answer that is put together here.
const maxBlocks = 64 << 20

func (b *blocks) last() *block { return b.list[len(b.list)-1] }

func (b *blocks) grow(sink blockSink, kind blockKind, text string, probs []json.RawMessage) error {
	if !b.opened || b.last().kind != kind || kind == blockCall {
		if err := b.start(sink, &block{kind: kind}); err != nil {
			return err
		}
	}
	return b.append(sink, text, probs)
}

func (b *blocks) append(sink blockSink, text string, probs []json.RawMessage) error {
	l := b.last()
	l.text.WriteString(text)
	l.logprobs = append(l.logprobs, probs...)
	return sink.add(l, text, probs)
}

func (b *blocks) start(sink blockSink, n *block) error {
	if err := b.shut(sink); err != nil {
		return err
	}
	n.index = len(b.list)
	b.list, b.opened = append(b.list, n), true
	return sink.open(n)
}

// shut closes the open block, if there is one.
func (b *blocks) shut(sink blockSink) error {
	if !b.opened {
		return nil
	}
	b.opened = false
	return sink.close(b.last())
}

func (b *blocks) call(sink blockSink, at int, id, name, arguments string) error {
	calls := 0
	for _, x := range b.list {
		if x.kind == blockCall {
			calls++
		}
	}
	switch {
	case at == calls:
		if err := b.start(sink, &block{kind: blockCall, callID: id, name: name}); err != nil {
			return err
		}
	case at != calls-1 || !b.opened:
		return openai.Upstream("The answer goes back to an earlier tool call.")
	}
	if arguments == "" {
		return nil
	}
	return b.append(sink, arguments, nil)
}

// noSink hears nothing: for whole answers.
type noSink struct{}

func (noSink) open(*block) error                           { return nil }
func (noSink) add(*block, string, []json.RawMessage) error { return nil }
func (noSink) close(*block) error                          { return nil }
