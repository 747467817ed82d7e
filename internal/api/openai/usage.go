package openai

import (
	"math"
	"strconv"
)

// Usage is the token count of a call as engines report it. PromptTokens
// includes the cached ones, CompletionTokens the reasoning ones. Counts are not
// negative.
type Usage struct {
	PromptTokens     int64
	CompletionTokens int64
	TotalTokens      int64
	CachedTokens     int64 // prompt_tokens_details.cached_tokens
	ReasoningTokens  int64 // completion_tokens_details.reasoning_tokens
}

// Merge raises each counter of u to that of v and reports whether any rose.
// Engines repeat and refine usage along a stream; the highest value of each
// counter is the one that is billed (spec network-protocol 5.7).
func (u *Usage) Merge(v Usage) bool {
	before := *u
	u.PromptTokens = max(u.PromptTokens, v.PromptTokens)
	u.CompletionTokens = max(u.CompletionTokens, v.CompletionTokens)
	u.TotalTokens = max(u.TotalTokens, v.TotalTokens)
	u.CachedTokens = max(u.CachedTokens, v.CachedTokens)
	u.ReasoningTokens = max(u.ReasoningTokens, v.ReasoningTokens)
	return *u != before
}

// AppendJSON appends the usage object: always the three standard counters,
// details only if they are not zero.
func (u Usage) AppendJSON(b []byte) []byte {
	b = append(b, `{"prompt_tokens":`...)
	b = strconv.AppendInt(b, u.PromptTokens, 10)
	b = append(b, `,"completion_tokens":`...)
	b = strconv.AppendInt(b, u.CompletionTokens, 10)
	b = append(b, `,"total_tokens":`...)
	b = strconv.AppendInt(b, u.TotalTokens, 10)
	if u.CachedTokens != 0 {
		b = append(b, `,"prompt_tokens_details":{"cached_tokens":`...)
		b = append(strconv.AppendInt(b, u.CachedTokens, 10), '}')
	}
	if u.ReasoningTokens != 0 {
		b = append(b, `,"completion_tokens_details":{"reasoning_tokens":`...)
		b = append(strconv.AppendInt(b, u.ReasoningTokens, 10), '}')
	}
	return append(b, '}')
}

// MarshalJSON writes the usage object with the OpenAI names.
func (u Usage) MarshalJSON() ([]byte, error) { return u.AppendJSON(nil), nil }

// UnmarshalJSON reads a usage object by the rules of ScanUsage: what is not a
// non-negative integer does not count.
func (u *Usage) UnmarshalJSON(b []byte) error {
	if err := Valid(b); err != nil {
		return err
	}
	*u, _ = readUsage(b[skipSpace(b, 0):])
	return nil
}

// ScanUsage finds the usage of one JSON value: the counters of its member
// "usage". It reports false if there is no such object (null included). Only
// non-negative integers count, the last of duplicate keys wins, and reasoning
// tokens are the larger of completion_tokens_details.reasoning_tokens and
// usage.reasoning_tokens (spec network-protocol 5.7). The error is ErrSyntax or
// ErrTooDeep. It does not allocate.
func ScanUsage(value []byte) (Usage, bool, error) {
	i := skipSpace(value, 0)
	if i >= len(value) || value[i] != '{' {
		return Usage{}, false, Valid(value)
	}
	var raw []byte
	m := members{b: value, i: i}
	for m.next() {
		if m.is("usage") {
			raw = m.raw()
		}
	}
	if m.err == nil && skipSpace(value, m.i) != len(value) {
		m.err = ErrSyntax
	}
	if m.err != nil {
		return Usage{}, false, m.err
	}
	u, ok := readUsage(raw)
	return u, ok, nil
}

// readUsage reads a usage object; raw is valid JSON or empty.
func readUsage(raw []byte) (u Usage, ok bool) {
	if len(raw) == 0 || raw[0] != '{' {
		return u, false
	}
	var flat, inner int64
	m := members{b: raw}
	for m.next() {
		switch {
		case m.is("prompt_tokens"):
			u.PromptTokens = count(m.raw())
		case m.is("completion_tokens"):
			u.CompletionTokens = count(m.raw())
		case m.is("total_tokens"):
			u.TotalTokens = count(m.raw())
		case m.is("prompt_tokens_details"):
			u.CachedTokens = detail(m.raw(), "cached_tokens")
		case m.is("completion_tokens_details"):
			inner = detail(m.raw(), "reasoning_tokens")
		case m.is("reasoning_tokens"):
			flat = count(m.raw())
		}
	}
	u.ReasoningTokens = max(flat, inner)
	return u, true
}

func detail(raw []byte, name string) (n int64) {
	if len(raw) == 0 || raw[0] != '{' {
		return 0
	}
	m := members{b: raw}
	for m.next() {
		if m.is(name) {
			n = count(m.raw())
		}
	}
	return n
}

// count returns the non-negative integer that raw is, 0 otherwise: fractions,
// exponents, signs and what exceeds int64 are no counts.
func count(raw []byte) int64 {
	if len(raw) == 0 || skipDigits(raw, 0) != len(raw) {
		return 0
	}
	var n int64
	for _, c := range raw {
		d := int64(c - '0')
		if n > (math.MaxInt64-d)/10 {
			return 0
		}
		n = n*10 + d
	}
	return n
}
