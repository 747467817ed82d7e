package worker

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// meter counts what one answer costs. What the engine reports counts; where a
// stream was cut before it reported, the pieces of output that were seen do.
type meter struct {
	plan        *plan
	coefficient int64
	multipliers pricing.Multipliers
	price       coins.Nano

	usage    openai.Usage
	reported bool
	pieces   int64 // events with output in them
}

// see takes in one JSON value of the answer.
func (m *meter) see(c openai.Chunk, data []byte) {
	if c.HasUsage {
		m.usage.Merge(c.Usage)
		if m.plan.transcript {
			m.usage.Merge(transcriptUsage(c.RawUsage()))
		}
		m.reported = true
	}
	if hasOutput(data) {
		m.pieces++
	}
}

// transcriptUsage reads usage under the names it has in OpenAI's transcriptions.
func transcriptUsage(raw []byte) (u openai.Usage) {
	var v struct {
		Input  json.RawMessage `json:"input_tokens"`
		Output json.RawMessage `json:"output_tokens"`
	}
	if json.Unmarshal(raw, &v) == nil {
		u.PromptTokens, _ = strconv.ParseInt(string(v.Input), 10, 64)
		u.CompletionTokens, _ = strconv.ParseInt(string(v.Output), 10, 64)
	}
	return u // what is below zero does not raise a count
}

// hasOutput reports whether an event of a stream carries text. It may miss
// some: an estimate must not be too high.
func hasOutput(data []byte) bool {
	for _, key := range []string{`"content":"`, `"text":"`, `"reasoning_content":"`, `"arguments":"`, `"delta":"`} {
		if i := bytes.Index(data, []byte(key)); i >= 0 && i+len(key) < len(data) && data[i+len(key)] != '"' {
			return true
		}
	}
	return false
}

// counted returns engine tokens, never more than the request could cost.
func (m *meter) counted() pricing.Usage {
	u := m.usage
	if !m.reported {
		u.CompletionTokens = m.pieces
	}
	return pricing.Usage{
		Prompt:     min(u.PromptTokens, m.plan.maxPrompt),
		Cached:     u.CachedTokens,
		Completion: min(u.CompletionTokens, m.plan.maxCompletion),
		Reasoning:  u.ReasoningTokens,
	}
}

func (m *meter) tokens() pricing.Tokens { return m.multipliers.Adjust(m.counted(), m.coefficient) }

// overrun reports whether the engine made more output than it was allowed. Its
// own count decides. Pieces are no tokens: an echoed prompt is one, and a token
// of a tool call can make two.
func (m *meter) overrun() bool {
	return m.usage.CompletionTokens > m.plan.maxCompletion || m.pieces/2 > m.plan.maxCompletion
}

// withCost appends c's object with the cost fields of the reference added to
// its usage (spec network-protocol 5.7), in nano.
func (m *meter) withCost(dst []byte, c openai.Chunk) []byte {
	usage, err := openai.ParseObject(c.RawUsage())
	if err != nil {
		return c.AppendWithUsage(dst, c.RawUsage())
	}
	cost := m.tokens().Cost(m.price)
	usage.SetInt("prompt_total_cost", int64(cost.Prompt))
	usage.SetInt("completion_total_cost", int64(cost.Completion))
	usage.SetInt("total_cost", int64(cost.Total))
	b, err := usage.AppendJSON(nil)
	if err != nil {
		b = c.RawUsage()
	}
	return c.AppendWithUsage(dst, b)
}
