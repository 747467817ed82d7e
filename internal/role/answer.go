package role

import (
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// Protocol versions (spec network-protocol 4.1, changes-2026-04 1). Our worker
// stops at 2: it does not decrypt ENC_ fields.
const (
	ProxyMinVersion  int32 = 0
	ProxyMaxVersion  int32 = 4
	ClientMinVersion int32 = 1
	ClientMaxVersion int32 = 4
	WorkerMinVersion int32 = 1
	WorkerMaxVersion int32 = 2

	// VersionKeys is the first version whose requests carry a key field.
	VersionKeys int32 = 3
)

// Part is one piece of an answer in normal form, whatever constructor carried
// it (spec network-protocol 4.1, 5.5).
type Part struct {
	ID cocoon.RequestID
	// Head is the boxed http.response of the first part of an answer.
	Head []byte
	// Body is the raw next piece of the body; nil in a first part, whose
	// piece stands in Head.
	Body []byte
	// Final is set in the last part.
	Final *Final
	// Err is set if the answer ends here with an error.
	Err *wire.Error
}

// Last reports whether nothing follows p.
func (p *Part) Last() bool { return p.Final != nil || p.Err != nil }

// Final is the accounting at the end of an answer. Times are Unix seconds, 0
// if unknown.
type Final struct {
	Tokens                  pricing.Tokens
	WorkerDebug, ProxyDebug string
	WorkerStart, WorkerEnd  float64
	ProxyStart, ProxyEnd    float64
}

// Seconds is t as the protocol writes times.
func Seconds(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }

// tokens reads counters a peer sent: negative ones count as 0. The total is
// what counts (spec network-protocol 5.7); what may be charged of it, the proxy
// bounds.
func tokens(t schema.TokensUsed) pricing.Tokens {
	return pricing.Tokens{
		Prompt:     max(t.PromptTokensUsed, 0),
		Cached:     max(t.CachedTokensUsed, 0),
		Completion: max(t.CompletionTokensUsed, 0),
		Reasoning:  max(t.ReasoningTokensUsed, 0),
		Total:      max(t.TotalTokensUsed, 0),
	}
}

func tokensUsed(t pricing.Tokens) schema.TokensUsed {
	return schema.TokensUsed{
		PromptTokensUsed:     t.Prompt,
		CachedTokensUsed:     t.Cached,
		CompletionTokensUsed: t.Completion,
		ReasoningTokensUsed:  t.Reasoning,
		TotalTokensUsed:      t.Total,
	}
}

// FromWorker reads an answer message of a worker. ok is false if o is none.
func FromWorker(o schema.Object) (p Part, ok bool) {
	switch m := o.(type) {
	case *schema.ProxyQueryAnswerEx:
		p = Part{ID: m.RequestID, Head: m.Answer, Final: workerFinal(m.FinalInfo)}
	case *schema.ProxyQueryAnswerPartEx:
		p = Part{ID: m.RequestID, Body: m.Answer, Final: workerFinal(m.FinalInfo)}
	case *schema.ProxyQueryAnswerErrorEx:
		p = Part{ID: m.RequestID, Err: peerError(m.ErrorCode, m.Error), Final: workerFinal(m.FinalInfo)}
	case *schema.ProxyQueryAnswer:
		p = Part{ID: m.RequestID, Head: m.Answer, Final: oldFinal(m.IsCompleted, m.TokensUsed)}
	case *schema.ProxyQueryAnswerPart:
		p = Part{ID: m.RequestID, Body: m.Answer, Final: oldFinal(m.IsCompleted, m.TokensUsed)}
	case *schema.ProxyQueryAnswerError:
		p = Part{ID: m.RequestID, Err: peerError(m.ErrorCode, m.Error), Final: oldFinal(true, m.TokensUsed)}
	case *schema.ProxyQueryAnswerPartError:
		p = Part{ID: m.RequestID, Err: peerError(m.ErrorCode, m.Error), Final: oldFinal(true, m.TokensUsed)}
	default:
		return Part{}, false
	}
	return p, true
}

// FromProxy reads an answer message of a proxy to a client: all seven forms,
// at any version. ok is false if o is none.
func FromProxy(o schema.Object) (p Part, ok bool) {
	switch m := o.(type) {
	case *schema.ClientQueryAnswerEx:
		p = Part{ID: m.RequestID, Head: m.Answer, Final: clientFinal(m.FinalInfo)}
	case *schema.ClientQueryAnswerPartEx:
		p = Part{ID: m.RequestID, Body: m.Answer, Final: clientFinal(m.FinalInfo)}
	case *schema.ClientQueryAnswerErrorEx:
		p = Part{ID: m.RequestID, Err: peerError(m.ErrorCode, m.Error), Final: clientFinal(m.FinalInfo)}
	case *schema.ClientQueryAnswer:
		p = Part{ID: m.RequestID, Head: m.Answer, Final: oldFinal(m.IsCompleted, m.RequestTokensUsed)}
	case *schema.ClientQueryAnswerPart:
		p = Part{ID: m.RequestID, Body: m.Answer, Final: oldFinal(m.IsCompleted, m.RequestTokensUsed)}
	case *schema.ClientQueryAnswerError:
		p = Part{ID: m.RequestID, Err: peerError(m.ErrorCode, m.Error), Final: oldFinal(true, m.RequestTokensUsed)}
	case *schema.ClientQueryAnswerPartError:
		p = Part{ID: m.RequestID, Err: peerError(m.ErrorCode, m.Error), Final: oldFinal(true, m.RequestTokensUsed)}
	default:
		return Part{}, false
	}
	return p, true
}

// maxErrorText bounds what is kept of a peer's error text.
const maxErrorText = 512

func peerError(code int32, text string) *wire.Error {
	if len(text) > maxErrorText {
		text = text[:maxErrorText]
	}
	return &wire.Error{Code: wire.Code(code), Text: text}
}

func workerFinal(f *schema.ProxyQueryFinalInfo) *Final {
	if f == nil {
		return nil
	}
	return &Final{Tokens: tokens(f.TokensUsed), WorkerDebug: f.WorkerDebug, WorkerStart: f.WorkerStartTime, WorkerEnd: f.WorkerEndTime}
}

func clientFinal(f *schema.ClientQueryFinalInfo) *Final {
	if f == nil {
		return nil
	}
	return &Final{
		Tokens:      tokens(f.TokensUsed),
		WorkerDebug: f.WorkerDebug, ProxyDebug: f.ProxyDebug,
		WorkerStart: f.WorkerStartTime, WorkerEnd: f.WorkerEndTime,
		ProxyStart: f.ProxyStartTime, ProxyEnd: f.ProxyEndTime,
	}
}

func oldFinal(completed bool, t schema.TokensUsed) *Final {
	if !completed {
		return nil
	}
	return &Final{Tokens: tokens(t)}
}

// ToProxy writes p as a worker answers a proxy at the given version.
func ToProxy(version int32, p *Part) schema.Object {
	if version == 0 {
		t, done := oldTokens(p.Final), p.Final != nil
		switch {
		case p.Err != nil && p.Head == nil:
			return &schema.ProxyQueryAnswerError{ErrorCode: int32(p.Err.Code), Error: p.Err.Text, RequestID: p.ID, TokensUsed: t}
		case p.Head != nil:
			return &schema.ProxyQueryAnswer{Answer: p.Head, IsCompleted: done, RequestID: p.ID, TokensUsed: t}
		}
		return &schema.ProxyQueryAnswerPart{Answer: p.Body, IsCompleted: done, RequestID: p.ID, TokensUsed: t}
	}
	var flags uint32
	var info *schema.ProxyQueryFinalInfo
	if p.Last() {
		f := p.Final
		if f == nil {
			f = &Final{}
		}
		flags = 1
		info = &schema.ProxyQueryFinalInfo{TokensUsed: tokensUsed(f.Tokens)}
		if f.WorkerDebug != "" {
			info.Flags |= 1
			info.WorkerDebug = f.WorkerDebug
		}
		if version >= 2 {
			info.Flags |= 2
			info.WorkerStartTime, info.WorkerEndTime = f.WorkerStart, f.WorkerEnd
		}
	}
	switch {
	case p.Err != nil:
		return &schema.ProxyQueryAnswerErrorEx{RequestID: p.ID, ErrorCode: int32(p.Err.Code), Error: p.Err.Text, Flags: flags, FinalInfo: info}
	case p.Head != nil:
		return &schema.ProxyQueryAnswerEx{RequestID: p.ID, Answer: p.Head, Flags: flags, FinalInfo: info}
	}
	return &schema.ProxyQueryAnswerPartEx{RequestID: p.ID, Answer: p.Body, Flags: flags, FinalInfo: info}
}

// ToClient writes p as a proxy answers a client at the given version. begun
// says whether the answer's head went out before, which version 0 tells
// apart in errors.
func ToClient(version int32, p *Part, begun bool) schema.Object {
	if version == 0 {
		t, done := oldTokens(p.Final), p.Final != nil
		switch {
		case p.Err != nil && begun:
			return &schema.ClientQueryAnswerPartError{ErrorCode: int32(p.Err.Code), Error: p.Err.Text, RequestID: p.ID, RequestTokensUsed: t}
		case p.Err != nil:
			return &schema.ClientQueryAnswerError{ErrorCode: int32(p.Err.Code), Error: p.Err.Text, RequestID: p.ID, RequestTokensUsed: t}
		case p.Head != nil:
			return &schema.ClientQueryAnswer{Answer: p.Head, IsCompleted: done, RequestID: p.ID, RequestTokensUsed: t}
		}
		return &schema.ClientQueryAnswerPart{Answer: p.Body, IsCompleted: done, RequestID: p.ID, RequestTokensUsed: t}
	}
	var flags uint32
	var info *schema.ClientQueryFinalInfo
	if p.Last() {
		f := p.Final
		if f == nil {
			f = &Final{}
		}
		flags = 1
		info = &schema.ClientQueryFinalInfo{TokensUsed: tokensUsed(f.Tokens)}
		if f.WorkerDebug != "" || f.ProxyDebug != "" {
			info.Flags |= 1
			info.WorkerDebug, info.ProxyDebug = f.WorkerDebug, f.ProxyDebug
		}
		if version >= 2 {
			info.Flags |= 2
			info.ProxyStartTime, info.ProxyEndTime = f.ProxyStart, f.ProxyEnd
			info.WorkerStartTime, info.WorkerEndTime = f.WorkerStart, f.WorkerEnd
		}
	}
	switch {
	case p.Err != nil:
		return &schema.ClientQueryAnswerErrorEx{RequestID: p.ID, ErrorCode: int32(p.Err.Code), Error: p.Err.Text, Flags: flags, FinalInfo: info}
	case p.Head != nil:
		return &schema.ClientQueryAnswerEx{RequestID: p.ID, Answer: p.Head, Flags: flags, FinalInfo: info}
	}
	return &schema.ClientQueryAnswerPartEx{RequestID: p.ID, Answer: p.Body, Flags: flags, FinalInfo: info}
}

func oldTokens(f *Final) schema.TokensUsed {
	if f == nil {
		return schema.TokensUsed{}
	}
	return tokensUsed(f.Tokens)
}
