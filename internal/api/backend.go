// Package api is the OpenAI-compatible HTTP surface: the gateway that stands
// beside an app. What runs the inference is a Backend, which role/client
// fills; the gateway itself knows neither network nor money.
//
// Owns: Gateway, Backend, Call, Answer.
// Imports: api/openai, api/jsonschema, attest, coins.
// Trust: HTTP callers are foreign, and so are answers.
package api

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Backend runs inference calls.
type Backend interface {
	// Do runs one call and returns when the head of the answer is there. Its
	// errors are *openai.Error. The end of ctx cancels the call, also after Do
	// returned.
	Do(ctx context.Context, call *Call) (*Answer, error)
	// Models lists what live workers serve now.
	Models(ctx context.Context) ([]Model, error)
}

// Call is one inference.
type Call struct {
	// Path is the engine's path: /v1/chat/completions, /v1/completions,
	// /v1/embeddings or /v1/audio/transcriptions.
	Path string
	// ContentType is the body's type, the only caller header that travels.
	ContentType string
	// Model is the base name.
	Model string
	Body  []byte
	// MaxTokens bounds all output tokens of the call (choices together); it
	// is what is reserved. Body carries a limit that keeps the engine below.
	MaxTokens int32
	// MaxCoefficient is the highest worker price factor in thousandths; 0 =
	// the backend's default.
	MaxCoefficient int32
	// Choices are further conditions of the caller's. A backend that cannot
	// hold one of them refuses the call.
	Choices
	// Reference is why a worker of the reference network would refuse the call;
	// nil = any worker may serve it. A backend that knows of no other worker
	// returns this very error, before anything is spent.
	Reference *openai.Error
	// Timeout bounds the whole call; 0 = the backend's default.
	Timeout time.Duration
	// Seal tightens the network's mode of sealing; "" = as it is.
	Seal Seal
	// Caller is SHA-256 of the caller's API key, zero without one. It goes
	// nowhere as it is: it divides the workers' caches.
	Caller [32]byte
	// Hold is called before anything is sent that can cost, each time with the
	// most that it can; its error, an *openai.Error, forbids it. settle is called
	// once what it did cost is known, or that nobody will say, which counts as the
	// most; it may be called late, and never where the process ends. nil = nobody
	// counts.
	Hold func(ctx context.Context, most coins.Nano) (settle func(Final), err error)
	// MinReputation is the lowest reputation of a worker that may serve the
	// call, 0 to 1; 0 = the backend's default.
	MinReputation float64
}

// Choices are what a caller may demand of those who serve a call, beside the
// highest coefficient.
type Choices struct {
	// MaxPrice is the most, in nano, that a million tokens of the dearest kind
	// may cost; 0 = no cap.
	MaxPrice coins.Nano
	// Verdicts lists the kinds of evidence accepted of the workers that can read
	// the call; nil = those that the network accepts.
	Verdicts []attest.Kind
	// GPUEvidence demands a worker that showed verified evidence of its GPU.
	GPUEvidence bool
	// Pin is the model's full name, name@commit:hash; "" = any version that the
	// network lists.
	Pin cocoon.ModelName
}

// OfWorkers reports whether there is a demand on the worker itself, which only
// a caller who verified it can hold.
func (c *Call) OfWorkers() bool {
	return c.Reference != nil || c.Verdicts != nil || c.GPUEvidence || c.Pin != "" || c.MinReputation > 0
}

// Answer is the head of an answer and its body. The caller closes Body;
// closing before the end cancels the call.
type Answer struct {
	Status int
	// Header is the engine's, as the worker sent it: foreign.
	Header http.Header
	// Body ends with io.EOF only after the peer said that the answer is
	// complete. An answer that was cut ends with an *openai.Error. Close may
	// come from another goroutine while Read waits.
	Body io.ReadCloser
	// Peer says who answered.
	Peer Peer
	// Sealing says how the request travelled.
	Sealing Sealing
	// Final returns the accounting; valid once Body returned io.EOF.
	Final func() Final
}

// Peer is what is known of the proxy that took the call.
type Peer struct {
	Verdict   attest.Kind
	ImageHash attest.ImageHash
	Addr      string
	Level     int
}

// Final is the accounting of one call as the proxy reports it.
type Final struct {
	PromptTokens, CachedTokens, CompletionTokens, ReasoningTokens int64 // adjusted
	TotalTokens                                                   int64 // adjusted, charged
	CostNano                                                      coins.Nano
}

// Model is one model that can be asked for.
type Model struct {
	ID      string
	Workers []Worker
	// PricePerToken is the root contract's price in nano per adjusted token.
	PricePerToken coins.Nano
}

// Worker is one live worker connection of a proxy.
type Worker struct {
	Coefficient       int32
	ActiveRequests    int32
	MaxActiveRequests int32
}
