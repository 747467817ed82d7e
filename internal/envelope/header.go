package envelope

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

// Version is of header and envelope.
const Version = 1

// Bounds of what is read.
const (
	// MaxCandidates is how many workers one envelope can be for. Each of them
	// can read it, so clients take few.
	MaxCandidates = 8

	maxHeader   = 1536
	maxModel    = 1024
	wrapSize    = 32 + 16 // a content key and its tag
	encSize     = 1120    // ML-KEM-768 ciphertext and X25519 point
	maxTimeout  = 24 * time.Hour
	minBucket   = 512
	maxBucket   = 16 << 10
	maxEnvelope = 12 << 20
)

// Why something sealed is refused. Each attack has its own.
var (
	ErrFormat     = errors.New("sealed request: it cannot be read")
	ErrSize       = errors.New("sealed request: larger than allowed")
	ErrVersion    = errors.New("sealed request: a version nobody here speaks: update the older side")
	ErrNetwork    = errors.New("sealed request: it is for another network")
	ErrNotForUs   = errors.New("sealed request: none of its keys is for a statement of this worker that still counts")
	ErrUnknown    = errors.New("sealed request: unknown session: set it up again")
	ErrOver       = errors.New("sealed request: its session has ended, and a set-up counts once")
	ErrUsedUp     = errors.New("sealed request: its session has served all the requests it may")
	ErrSetup      = errors.New("sealed request: the session's set-up cannot be opened")
	ErrTooMany    = errors.New("sealed request: too many set-ups or sessions on this connection")
	ErrReplay     = errors.New("sealed request: its request id was seen before")
	ErrFull       = errors.New("sealed request: this worker remembers all it can: a new statement is on its way")
	ErrWrap       = errors.New("sealed request: its key does not open: header or key were changed")
	ErrCommitment = errors.New("sealed request: its key is not the one committed to: it differs between workers")
	ErrContent    = errors.New("sealed request: its content does not open: other keys or the content were changed")
	ErrAcceptance = errors.New("sealed answer: the acceptance is not of a worker this request was sealed to")
	ErrFrame      = errors.New("sealed answer: a frame does not open: changed, out of order, or of another worker")
	ErrEnded      = errors.New("sealed answer: a frame after the last one")
	ErrCut        = errors.New("sealed answer: it ended before its last frame")
)

// Header is the clear part of a request: what a proxy needs to know.
type Header struct {
	NetworkID [32]byte
	// RequestID is new for every envelope, retries included, and never the id
	// of a hop. Receipts are named by it.
	RequestID cocoon.RequestID
	// Model is the base name.
	Model string
	// MaxCoefficient is the price cap: the highest worker price factor, in
	// thousandths.
	MaxCoefficient int32
	// PromptTokens bounds the prompt, rounded up to a bucket; OutputTokens the
	// output, all choices together.
	PromptTokens, OutputTokens int32
	// Timeout is how long the client waits, from when it sends: no clock need
	// agree with another.
	Timeout time.Duration
	// AnswerBucket is what frames of the answer are padded to, in bytes: 512
	// times a power of two, at most 16,384.
	AnswerBucket int
}

// Encode returns the only encoding of h.
func (h *Header) Encode() []byte {
	return schema.Marshal(&schema.CocoonSealHeader{
		Version: Version, NetworkID: h.NetworkID, RequestID: h.RequestID, Model: h.Model, MaxCoefficient: h.MaxCoefficient,
		PromptTokens: h.PromptTokens, OutputTokens: h.OutputTokens, TimeoutMs: int32(h.Timeout / time.Millisecond), AnswerBucket: int32(h.AnswerBucket),
	})
}

// ParseHeader reads a header: bounded and canonical.
func ParseHeader(b []byte) (*Header, error) {
	if len(b) > maxHeader {
		return nil, fmt.Errorf("%w: a header of %d bytes", ErrSize, len(b))
	}
	w, err := decode[schema.CocoonSealHeader](b)
	if err != nil {
		return nil, err
	}
	h := &Header{
		NetworkID: w.NetworkID, RequestID: w.RequestID, Model: w.Model, MaxCoefficient: w.MaxCoefficient,
		PromptTokens: w.PromptTokens, OutputTokens: w.OutputTokens, Timeout: time.Duration(w.TimeoutMs) * time.Millisecond, AnswerBucket: int(w.AnswerBucket),
	}
	if w.Version != Version {
		return nil, fmt.Errorf("%w: %d", ErrVersion, w.Version)
	}
	return h, h.check()
}

func (h *Header) check() error {
	for _, rule := range []struct {
		ok   bool
		what string
	}{
		{h.RequestID != cocoon.RequestID{}, "no request id"},
		{h.Model != "" && len(h.Model) <= maxModel, "the model's name"},
		{h.MaxCoefficient >= 0, "a negative price cap"},
		{h.PromptTokens >= 0 && h.OutputTokens >= 0, "a negative bound"},
		{h.Timeout > 0 && h.Timeout <= maxTimeout && h.Timeout%time.Millisecond == 0, "the time limit"},
		{h.AnswerBucket >= minBucket && h.AnswerBucket <= maxBucket && bits.OnesCount(uint(h.AnswerBucket)) == 1, "the answer's bucket"},
	} {
		if !rule.ok {
			return fmt.Errorf("%w: header: %s", ErrFormat, rule.what)
		}
	}
	return nil
}

// Wrap is the content key for one worker.
type Wrap struct {
	// Statement is the digest of the worker's statement, Session the id of the
	// client's session with it.
	Statement, Session [32]byte
	key                []byte
}

// Envelope is a parsed envelope. It aliases the bytes it was parsed from.
type Envelope struct {
	Header Header
	Wraps  []Wrap
	// Hash is SHA-256 of the whole: its name in acceptances and receipts.
	Hash [32]byte

	header     []byte
	head       []byte // all between constructor and ciphertext
	commitment [32]byte
	ciphertext []byte
}

// headerHash is H, to which every wrap is bound.
func (e *Envelope) headerHash() [32]byte { return sha256.Sum256(e.header) }

// aad is the additional data of the content.
func (e *Envelope) aad() [32]byte { return headHash(e.head) }

// ParseEnvelope reads an envelope: bounded and canonical, and nothing of it
// authenticated yet.
func ParseEnvelope(b []byte) (*Envelope, error) {
	if len(b) > maxEnvelope {
		return nil, fmt.Errorf("%w: an envelope of %d bytes, at most %d", ErrSize, len(b), maxEnvelope)
	}
	w, err := decode[schema.CocoonEnvelope](b)
	if err != nil {
		return nil, err
	}
	h, err := ParseHeader(w.Header)
	if err != nil {
		return nil, err
	}
	if n := len(w.Wraps); n < 1 || n > MaxCandidates {
		return nil, fmt.Errorf("%w: it is for %d workers, 1 to %d are allowed", ErrSize, n, MaxCandidates)
	}
	e := &Envelope{
		Header: *h, Hash: sha256.Sum256(b), header: w.Header, commitment: w.Commitment, ciphertext: w.Ciphertext,
		head: b[4 : len(b)-tl.BytesSize(len(w.Ciphertext))], Wraps: make([]Wrap, len(w.Wraps)),
	}
	for i, x := range w.Wraps {
		if len(x.Key) != wrapSize {
			return nil, fmt.Errorf("%w: a wrapped key of %d bytes", ErrFormat, len(x.Key))
		}
		for _, other := range e.Wraps[:i] {
			if other.Statement == x.Statement {
				return nil, fmt.Errorf("%w: two keys for one statement", ErrFormat)
			}
		}
		e.Wraps[i] = Wrap{x.Statement, x.Session, x.Key}
	}
	return e, nil
}

// headHash is the additional data of the content: SHA-256 of everything in
// front of it, boxed as cocoon.envelopeHead, whose fields an envelope begins
// with.
func headHash(head []byte) (sum [32]byte) {
	h := sha256.New()
	h.Write(tl.AppendUint32(nil, (*schema.CocoonEnvelopeHead)(nil).TLID()))
	h.Write(head)
	h.Sum(sum[:0])
	return sum
}

// Message is what stands in place of an unsealed request: an envelope, and the
// set-ups of sessions that the worker may not know.
type Message struct {
	Envelope []byte
	Setups   [][]byte
}

// IsMessage reports whether a query is sealed; it may still be malformed.
func IsMessage(b []byte) bool { return schema.ID(b) == (*schema.CocoonSealed)(nil).TLID() }

// Encode returns the only encoding of m.
func (m *Message) Encode() []byte {
	return schema.Marshal(&schema.CocoonSealed{Envelope: m.Envelope, Setups: m.Setups})
}

// ParseMessage reads a message. It aliases b.
func ParseMessage(b []byte) (*Message, error) {
	if len(b) > maxEnvelope+MaxCandidates*(encSize+8)+64 {
		return nil, fmt.Errorf("%w: %d bytes", ErrSize, len(b))
	}
	w, err := decode[schema.CocoonSealed](b)
	if err != nil {
		return nil, err
	}
	if len(w.Setups) > MaxCandidates {
		return nil, fmt.Errorf("%w: %d set-ups", ErrSize, len(w.Setups))
	}
	for _, s := range w.Setups {
		if len(s) != encSize {
			return nil, fmt.Errorf("%w: a set-up of %d bytes", ErrFormat, len(s))
		}
	}
	return &Message{w.Envelope, w.Setups}, nil
}

// For returns the message as one worker needs it: without the set-ups of
// others.
func (m *Message) For(session [32]byte) *Message {
	out := &Message{Envelope: m.Envelope}
	for _, s := range m.Setups {
		if sha256.Sum256(s) == session {
			out.Setups = append(out.Setups, s)
		}
	}
	return out
}

// decode reads one boxed object in its only encoding.
func decode[T any, P interface {
	*T
	schema.Object
}](b []byte) (P, error) {
	o, err := schema.DecodeCanonicalAs[T, P](b)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	return o, nil
}
