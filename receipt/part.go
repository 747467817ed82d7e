package receipt

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// Version is the version of both parts.
const Version = 1

// Sizes in bytes, of a signed part at most.
const (
	MaxPart  = 2 << 10
	maxModel = 1 << 10
)

// MaxPromise is how long after the newest block it names a proxy may promise
// to anchor a receipt.
const MaxPromise = time.Hour

// Why a part is refused.
var (
	ErrSize      = errors.New("receipt: a part larger than allowed")
	ErrFormat    = errors.New("receipt: a part that cannot be read")
	ErrSignature = errors.New("receipt: the node key did not sign this part")
	ErrParts     = errors.New("receipt: the proxy's part is about another worker's part")
	ErrPrice     = errors.New("receipt: the charge is not what counts and price give")
	ErrJump      = errors.New("receipt: the counter jumped: no receipt explains a part of what was charged")
	ErrStep      = errors.New("receipt: the part does not follow the one before it")
	ErrPromise   = errors.New("receipt: the promise to anchor is missing or too far off")
)

// End says how an answer ended.
type End uint8

// The ends. Numbers are on the wire and never change.
const (
	EndComplete  End = 1 + iota // the engine finished
	EndCut                      // a limit, a deadline or the engine cut it
	EndCancelled                // the caller gave it up
	EndFailed                   // the engine or the worker failed
)

// String returns the end's name.
func (e End) String() string {
	switch e {
	case EndComplete:
		return "complete"
	case EndCut:
		return "cut"
	case EndCancelled:
		return "cancelled"
	case EndFailed:
		return "failed"
	}
	return "end " + strconv.Itoa(int(e))
}

// Block is a masterchain block.
type Block struct {
	Seqno              uint32
	RootHash, FileHash [32]byte
	Time               time.Time // whole seconds
}

// IsZero reports whether b is absent.
func (b Block) IsZero() bool {
	return b.Seqno == 0 && b.RootHash == [32]byte{} && b.FileHash == [32]byte{} && b.Time.IsZero()
}

// Usage is what an engine counted: Prompt includes Cached, Completion includes
// Reasoning.
type Usage struct{ Prompt, Cached, Completion, Reasoning int64 }

// WorkerPart says what a worker served.
type WorkerPart struct {
	RequestID cocoon.RequestID
	// Request and Answer are commitments.
	Request, Answer [32]byte
	// Statement is the digest of the statement whose node key signs.
	Statement [32]byte
	Model     cocoon.ModelName
	Usage     Usage
	// Tokens are what the worker asks for: Usage at coefficient and
	// multipliers.
	Tokens int64
	// Envelope, Session and Nonce tie the part to the sealed request and the
	// worker's acceptance; all zero where the request was not sealed.
	Envelope, Session, Nonce [32]byte
	End                      End
	// Block is the newest one the worker had proven.
	Block Block
}

// Price is the price a charge was computed with.
type Price struct {
	// PerToken is nano for one adjusted token, Coefficient the worker's factor
	// in thousandths, the others the root contract's multipliers in
	// ten-thousandths.
	PerToken                              uint64
	Coefficient                           uint32
	Prompt, Cached, Completion, Reasoning uint32
}

// Tokens returns what u costs in adjusted tokens.
func (p Price) Tokens(u Usage) int64 {
	m := pricing.Multipliers{Prompt: p.Prompt, Cached: p.Cached, Completion: p.Completion, Reasoning: p.Reasoning}
	return m.Adjust(pricing.Usage(u), int64(p.Coefficient)).Total
}

// ProxyPart says what a proxy charged. The parts of one client contract are a
// chain: each names the one before it and begins where that one ended.
type ProxyPart struct {
	RequestID cocoon.RequestID
	// WorkerPart is the digest of the worker's part; zero marks that the worker
	// gave none (it does not speak level 1).
	WorkerPart [32]byte
	// Statement is the digest of the statement whose node key signs.
	Statement [32]byte
	// Contract is the proxy's contract, Client the client's there.
	Contract, Client cocoon.Address
	// Before and After are the client's counter, in adjusted tokens.
	Before, After int64
	Price         Price
	// SetVersion is the set of workers in force; 0 = none was used.
	SetVersion uint64
	// Previous is the digest of the step before; zero for the first.
	Previous [32]byte
	// Block is the newest one the proxy had proven, Epoch and Time the promise:
	// the part is in the log anchored as Epoch, which stands on chain in a block
	// not later than Time. All three are absent where there is no chain.
	Block Block
	Epoch uint32
	Time  time.Time
}

// Marked reports whether the worker gave no part.
func (p *ProxyPart) Marked() bool { return p.WorkerPart == [32]byte{} }

// Tokens returns what was charged.
func (p *ProxyPart) Tokens() int64 { return p.After - p.Before }

// Encode returns the only encoding of w.
func (w *WorkerPart) Encode() []byte {
	return schema.Marshal(&schema.CocoonWorkerPart{
		Version: Version, RequestID: w.RequestID, Request: w.Request, Answer: w.Answer, Statement: w.Statement, Model: string(w.Model),
		Usage: schema.CocoonUsage(w.Usage), Tokens: w.Tokens, Envelope: w.Envelope, Session: w.Session, Nonce: w.Nonce,
		End: int32(w.End), Block: encodeBlock(w.Block),
	})
}

// Encode returns the only encoding of p.
func (p *ProxyPart) Encode() []byte {
	return schema.Marshal(&schema.CocoonProxyPart{
		Version: Version, RequestID: p.RequestID, WorkerPart: p.WorkerPart, Statement: p.Statement,
		Contract: schema.CocoonAddress(p.Contract), Client: schema.CocoonAddress(p.Client), Before: p.Before, After: p.After,
		Price: schema.CocoonPrice{
			PerToken: int64(p.Price.PerToken), Coefficient: int32(p.Price.Coefficient), Prompt: int32(p.Price.Prompt),
			Cached: int32(p.Price.Cached), Completion: int32(p.Price.Completion), Reasoning: int32(p.Price.Reasoning),
		},
		SetVersion: int64(p.SetVersion), Previous: p.Previous, Block: encodeBlock(p.Block), Epoch: int32(p.Epoch), Time: seconds(p.Time),
	})
}

func encodeBlock(b Block) schema.CocoonBlock {
	return schema.CocoonBlock{Seqno: int32(b.Seqno), RootHash: b.RootHash, FileHash: b.FileHash, Time: seconds(b.Time)}
}

func decodeBlock(b schema.CocoonBlock) Block {
	return Block{Seqno: uint32(b.Seqno), RootHash: b.RootHash, FileHash: b.FileHash, Time: at(b.Time)}
}

// seconds and at are a time on the wire: unsigned seconds, 0 for none.
func seconds(t time.Time) int32 {
	if t.IsZero() {
		return 0
	}
	return int32(uint32(t.Unix()))
}

func at(s int32) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(int64(uint32(s)), 0)
}

// Digest is SHA-256 of an encoded part: its name.
func Digest(part []byte) [32]byte { return sha256.Sum256(part) }

// Message is what a node key signs of a part: LabelReceipt ‖ digest. Both
// kinds of part have it, and their encodings begin differently.
func Message(part []byte) []byte {
	d := Digest(part)
	return append([]byte(wire.LabelReceipt), d[:]...)
}

// Signed is a part as it travels: its encoding and a node key's signature.
type Signed struct {
	Part      []byte
	Signature []byte // 64 bytes
}

// Sign checks w and signs it; sign signs a message with the node key.
func (w *WorkerPart) Sign(sign func(message []byte) []byte) (Signed, error) {
	if err := w.check(); err != nil {
		return Signed{}, err
	}
	b := w.Encode()
	return Signed{b, sign(Message(b))}, nil
}

// Sign checks p and signs it; sign signs a message with the node key.
func (p *ProxyPart) Sign(sign func(message []byte) []byte) (Signed, error) {
	if err := p.check(); err != nil {
		return Signed{}, err
	}
	b := p.Encode()
	return Signed{b, sign(Message(b))}, nil
}

// Digest is the part's name.
func (s Signed) Digest() [32]byte { return Digest(s.Part) }

// Encode returns the only encoding of s.
func (s Signed) Encode() []byte {
	return schema.Marshal(&schema.CocoonSignedPart{Part: s.Part, Signature: s.Signature})
}

// Verify reports whether nodeKey signed s: ErrSignature if not.
func (s Signed) Verify(nodeKey [32]byte) error {
	if !ed25519.Verify(nodeKey[:], Message(s.Part), s.Signature) {
		return ErrSignature
	}
	return nil
}

// ParseSigned reads a signed part: bounded and canonical. It keeps nothing of
// b. The part inside is read by ParseWorker or ParseProxy.
func ParseSigned(b []byte) (Signed, error) {
	if len(b) > MaxPart {
		return Signed{}, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, len(b), MaxPart)
	}
	w, err := decode[schema.CocoonSignedPart](b)
	if err != nil {
		return Signed{}, err
	}
	if len(w.Signature) != ed25519.SignatureSize {
		return Signed{}, fmt.Errorf("%w: a signature of %d bytes", ErrFormat, len(w.Signature))
	}
	return Signed{slices.Clone(w.Part), slices.Clone(w.Signature)}, nil
}

// decode reads one object in its canonical encoding.
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

// ParseWorker reads a worker's part: bounded, canonical, with nothing in it
// that cannot be. Whether it was signed is Signed.Verify's matter.
func ParseWorker(b []byte) (*WorkerPart, error) {
	if len(b) > MaxPart {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, len(b), MaxPart)
	}
	w, err := decode[schema.CocoonWorkerPart](b)
	switch {
	case err != nil:
		return nil, err
	case w.Version != Version:
		return nil, fmt.Errorf("%w: a worker's part of version %d; we read %d: update", ErrFormat, w.Version, Version)
	case w.End < 0 || w.End > math.MaxUint8:
		return nil, fmt.Errorf("%w: end %d", ErrFormat, w.End)
	}
	out := &WorkerPart{
		RequestID: w.RequestID, Request: w.Request, Answer: w.Answer, Statement: w.Statement, Model: cocoon.ModelName(w.Model),
		Usage: Usage(w.Usage), Tokens: w.Tokens, Envelope: w.Envelope, Session: w.Session, Nonce: w.Nonce,
		End: End(w.End), Block: decodeBlock(w.Block),
	}
	return out, out.check()
}

// ParseProxy reads a proxy's part, like ParseWorker.
func ParseProxy(b []byte) (*ProxyPart, error) {
	if len(b) > MaxPart {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, len(b), MaxPart)
	}
	w, err := decode[schema.CocoonProxyPart](b)
	switch {
	case err != nil:
		return nil, err
	case w.Version != Version:
		return nil, fmt.Errorf("%w: a proxy's part of version %d; we read %d: update", ErrFormat, w.Version, Version)
	}
	out := &ProxyPart{
		RequestID: w.RequestID, WorkerPart: w.WorkerPart, Statement: w.Statement,
		Contract: cocoon.Address(w.Contract), Client: cocoon.Address(w.Client), Before: w.Before, After: w.After,
		Price: Price{
			PerToken: uint64(w.Price.PerToken), Coefficient: uint32(w.Price.Coefficient), Prompt: uint32(w.Price.Prompt),
			Cached: uint32(w.Price.Cached), Completion: uint32(w.Price.Completion), Reasoning: uint32(w.Price.Reasoning),
		},
		SetVersion: uint64(w.SetVersion), Previous: w.Previous, Block: decodeBlock(w.Block), Epoch: uint32(w.Epoch), Time: at(w.Time),
	}
	return out, out.check()
}

type rule struct {
	ok   bool
	what string
}

func judge(whose string, rules []rule) error {
	for _, r := range rules {
		if !r.ok {
			return fmt.Errorf("%w: a %s's part: %s", ErrFormat, whose, r.what)
		}
	}
	return nil
}

// check refuses what cannot be, so that no field means something nobody
// looked at.
func (w *WorkerPart) check() error {
	var none [32]byte
	sealed := w.Envelope != none
	u := w.Usage
	if len(w.Model) > maxModel {
		return fmt.Errorf("%w: a model's name of %d bytes", ErrSize, len(w.Model))
	}
	return judge("worker", []rule{
		{w.RequestID != cocoon.RequestID{}, "it has no request id"},
		{w.Request != none && w.Answer != none, "a commitment is missing"},
		{w.Statement != none, "it names no statement"},
		{w.Model != "", "it names no model"},
		{u.Prompt >= 0 && u.Completion >= 0 && u.Cached >= 0 && u.Cached <= u.Prompt && u.Reasoning >= 0 && u.Reasoning <= u.Completion, "impossible counts"},
		{w.Tokens >= 0, "negative tokens"},
		{sealed == (w.Session != none) && sealed == (w.Nonce != none), "envelope, session and nonce belong together"},
		{w.End >= EndComplete && w.End <= EndFailed, w.End.String()},
		{w.Block.IsZero() || !w.Block.Time.IsZero(), "a block without a time"},
	})
}

// check refuses what cannot be.
func (p *ProxyPart) check() error {
	var none [32]byte
	m := p.Price
	if err := judge("proxy", []rule{
		{p.RequestID != cocoon.RequestID{}, "it has no request id"},
		{p.Statement != none, "it names no statement"},
		{!p.Contract.IsZero() && !p.Client.IsZero(), "a contract is missing"},
		{p.Before >= 0 && p.After >= p.Before, "an impossible counter"},
		{m.PerToken <= math.MaxInt64 && max(m.Coefficient, m.Prompt, m.Cached, m.Completion, m.Reasoning) <= math.MaxInt32, "an impossible price"},
		{p.SetVersion <= math.MaxInt64 && p.Epoch <= math.MaxInt32, "a number out of range"},
		{p.Block.IsZero() || !p.Block.Time.IsZero(), "a block without a time"},
	}); err != nil {
		return err
	}
	switch late := p.Time.Sub(p.Block.Time); {
	case p.Block.IsZero():
		if p.Epoch != 0 || !p.Time.IsZero() {
			return fmt.Errorf("%w: a promise without a chain to keep it on", ErrPromise)
		}
	case p.Epoch == 0 || p.Time.IsZero():
		return fmt.Errorf("%w: no epoch or no time", ErrPromise)
	case late <= 0 || late > MaxPromise:
		return fmt.Errorf("%w: %v after the newest block, at most %v", ErrPromise, late, MaxPromise)
	}
	return nil
}

// CheckPair reports whether p is about w, a worker's part with this digest,
// and charges no more than it asks for at p's price: ErrParts, ErrPrice.
func CheckPair(w *WorkerPart, digest [32]byte, p *ProxyPart) error {
	switch want := p.Price.Tokens(w.Usage); {
	case p.WorkerPart != digest || p.RequestID != w.RequestID:
		return ErrParts
	case w.Tokens != want:
		return fmt.Errorf("%w: the worker asks for %d tokens, its counts give %d", ErrPrice, w.Tokens, want)
	case p.Tokens() > w.Tokens: // less is charged where the reservation ended
		return fmt.Errorf("%w: %d tokens charged, the worker asks for %d", ErrPrice, p.Tokens(), w.Tokens)
	}
	return nil
}

// CheckStep reports whether next follows prev, whose digest is given, in the
// chain of one client contract: ErrJump where the counters do not meet, ErrStep
// otherwise. prev is nil before the first part.
func CheckStep(prev *ProxyPart, digest [32]byte, next *ProxyPart) error {
	switch {
	case prev == nil:
		if next.Previous != [32]byte{} {
			return fmt.Errorf("%w: the first one names a predecessor", ErrStep)
		}
		return nil
	case next.Client != prev.Client || next.Contract != prev.Contract:
		return fmt.Errorf("%w: it is another contract's", ErrStep)
	case next.Before != prev.After:
		return fmt.Errorf("%w (counter %d before, the last receipt ended at %d)", ErrJump, next.Before, prev.After)
	case next.Previous != digest:
		return fmt.Errorf("%w: it names another predecessor", ErrStep)
	}
	return nil
}
