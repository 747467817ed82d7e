package client

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/envelope"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// answerBucket is what frames of our answers are padded to.
const answerBucket = 512

// Why an answer to a sealed request is refused besides the envelope's reasons.
var (
	ErrUnsealed   = errors.New("the proxy answers a sealed request with something unsealed")
	ErrWorkerPart = errors.New("the answer's receipt is not the worker's, or is about another request")
)

// noWorkerWait is how long a call that reference workers refuse waits for one of
// ours.
const noWorkerWait = time.Second

// notSealedError says why a request cannot be sealed at a proxy.
type notSealedError struct{ reason string }

func (e *notSealedError) Error() string { return e.reason }

// sealing is a request that was sealed, and its answer as far as it is open.
type sealing struct {
	call       *envelope.Call
	candidates []*known
	sessions   []*envelope.Session
	start      time.Time
	prompt     int // bound of prompt tokens, as the header says

	// Since the acceptance.
	reader *envelope.Reader
	worker *known
	salts  receipt.Salts
	answer *receipt.Commitment
	// request is the commitment to the request, computed once.
	request func() [32]byte
	noted   bool
}

// seal seals a call to verified workers of this proxy.
func (s *session) seal(ctx context.Context, call *api.Call, query []byte, maxCoefficient int32, deadline time.Time, patience time.Duration) (*sealing, []byte, error) {
	if s.directory == nil {
		return nil, nil, &notSealedError{"the proxy speaks level 0 only: nothing can be sealed through it"}
	}
	if len(query) > math.MaxInt32/2 {
		return nil, nil, openai.TooLarge(wire.MaxPacket)
	}
	cfg := &s.c.cfg
	if cfg.Seal.Tighter(call.Seal) == api.SealPrefer {
		patience = 0 // a call that may go unsealed does not wait for sealing
	}
	choosing := ctx
	if call.Reference != nil {
		// Where only reference workers are, none of ours is on its way back.
		var stop context.CancelFunc
		choosing, stop = context.WithTimeout(ctx, noWorkerWait)
		defer stop()
	}
	candidates, err := s.directory.choose(choosing, patience, call.Model, maxCoefficient, func() []byte { return conversation(call) }, func(k *known) error { return s.c.meets(call, k.node) }, cfg.Candidates)
	var said *openai.Error
	if errors.As(err, &said) {
		return nil, nil, said
	}
	if err != nil {
		return nil, nil, &notSealedError{err.Error()}
	}
	x := &sealing{candidates: candidates, start: time.Now(), prompt: envelope.Bucket(len(query))}
	for _, k := range candidates {
		session, err := s.directory.sealSession(k)
		if err != nil {
			return nil, nil, &notSealedError{err.Error()}
		}
		x.sessions = append(x.sessions, session)
	}
	h := envelope.Header{
		NetworkID: candidates[0].node.NetworkID, Model: call.Model, MaxCoefficient: maxCoefficient,
		PromptTokens: int32(x.prompt), OutputTokens: call.MaxTokens,
		Timeout: max(time.Until(deadline).Truncate(time.Millisecond), time.Millisecond), AnswerBucket: answerBucket,
	}
	if _, err := rand.Read(h.RequestID[:]); err != nil {
		return nil, nil, openai.Internal()
	}
	var message []byte
	if x.call, message, err = envelope.Seal(h, query, s.c.cacheSalt(call.Caller), x.sessions); err != nil {
		if errors.Is(err, envelope.ErrSize) {
			return nil, nil, openai.TooLarge(wire.MaxPacket)
		}
		s.c.log.Error("a request could not be sealed", "err", err)
		return nil, nil, openai.Internal()
	}
	return x, message, nil
}

// cacheSalt divides the workers' caches between callers, for a day. It links
// one caller's requests at a worker that day; without an API key it is the
// gateway's own.
func (c *Client) cacheSalt(caller [32]byte) []byte {
	if c.cfg.NoCacheSalt {
		return nil
	}
	h := hmac.New(sha256.New, c.gatewayKey[:])
	h.Write([]byte(wire.LabelCacheSalt))
	h.Write(caller[:])
	h.Write([]byte(time.Now().UTC().Format(time.DateOnly)))
	return h.Sum(nil)
}

// accept checks the acceptance and gives the first credit: the consent to pay.
func (b *body) accept(head []byte) error {
	x := b.sealing
	if !envelope.IsAcceptance(head) {
		return ErrUnsealed
	}
	reader, err := x.call.Accept(head)
	if err != nil {
		return err
	}
	for i, session := range x.sessions {
		if session == reader.Session {
			x.worker = x.candidates[i]
		}
	}
	x.reader = reader
	x.salts = receipt.NewSalts(reader.Secret, x.call.ID())
	x.answer = receipt.CommitAnswer(x.salts.Answer)
	x.request = sync.OnceValue(func() [32]byte { return receipt.CommitRequest(x.salts.Request, x.call.Request) })
	b.s.consented(b.id, x)
	b.consented = true
	b.tell(&schema.CocoonWindow{RequestID: b.id, Bytes: mux.Window})
	x.request() // while the consent travels
	return nil
}

// open opens the frame in a part and, in the last one, checks the worker's part
// of the receipt before anything of that frame is shown.
func (b *body) open(part role.Part) (envelope.Frame, error) {
	x := b.sealing
	if part.Head != nil {
		return envelope.Frame{}, fmt.Errorf("%w: a second one", envelope.ErrAcceptance)
	}
	f, signed, err := x.reader.Open(part.Body)
	if err != nil {
		return f, err
	}
	if (f.End != nil) != (part.Final != nil) {
		return f, envelope.ErrCut
	}
	x.answer.Write(f.Head)
	x.answer.Write(f.Body)
	if f.End == nil {
		return f, nil
	}
	w, err := x.checkWorkerPart(signed, f.End)
	if err != nil {
		x.note(b.s.c, endBadPart)
		return f, err
	}
	if part.Final.Tokens.Total > w.Tokens {
		return f, fmt.Errorf("%w: %d tokens charged, the worker asks for %d", ErrWorkerPart, part.Final.Tokens.Total, w.Tokens)
	}
	b.s.served(b.id, signed, w, part.Final.Tokens.Total)
	if w.End == receipt.EndComplete {
		x.note(b.s.c, endServed)
	} else {
		x.note(b.s.c, endFailed)
	}
	return f, nil
}

// checkWorkerPart holds the worker's part against what was asked and what came.
func (x *sealing) checkWorkerPart(b []byte, end *[32]byte) (*receipt.WorkerPart, error) {
	signed, err := receipt.ParseSigned(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrWorkerPart, err)
	}
	if end != nil && signed.Digest() != *end {
		return nil, fmt.Errorf("%w: it is not the one that the last frame names", ErrWorkerPart)
	}
	if err := signed.Verify(x.worker.node.Key); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrWorkerPart, err)
	}
	w, err := receipt.ParseWorker(signed.Part)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrWorkerPart, err)
	}
	switch {
	case w.RequestID != x.call.ID() || w.Envelope != x.call.Hash() || w.Session != x.reader.Session.ID || w.Nonce != x.reader.Nonce || w.Statement != x.reader.Session.Worker.Statement:
		return nil, fmt.Errorf("%w: it names another request", ErrWorkerPart)
	case w.Model != x.worker.node.Model:
		return nil, fmt.Errorf("%w: it names another model", ErrWorkerPart)
	case w.Request != x.request():
		return nil, fmt.Errorf("%w: another request was answered", ErrWorkerPart)
	case end != nil && w.Answer != x.answer.Sum():
		return nil, fmt.Errorf("%w: another answer was given", ErrWorkerPart)
	}
	return w, nil
}

// note adds the request to the worker's reputation, once.
func (x *sealing) note(c *Client, e ending) {
	if x.noted || x.worker == nil {
		return
	}
	x.noted = true
	c.reputations.note(x.worker.node, e, time.Since(x.start))
}

// refused notes that all candidates refused.
func (x *sealing) refused(c *Client) {
	for _, k := range x.candidates {
		c.reputations.note(k.node, endRefused, 0)
	}
}

// begin reads a sealed answer up to its head: the acceptance, then the first
// frame. retry is as do says.
func (b *body) begin(part role.Part) (status int, header http.Header, first []byte, retry bool, err error) {
	x := b.sealing
	if err := b.accept(part.Head); err != nil {
		// No credit was given, so nothing is owed and another may be tried.
		b.s.c.log.Warn("an acceptance is refused", "proxy", b.s.peer.Addr, "err", err)
		return 0, nil, nil, true, openai.Upstream("The acceptance of the sealed request is refused: %v", err)
	}
	for {
		next, err := b.queue.Pop(b.ctx)
		if err != nil {
			x.note(b.s.c, endNoAnswer)
			if errors.Is(err, errProxyLost) {
				return 0, nil, nil, false, lostAfterConsent("the connection to the proxy ended")
			}
			return 0, nil, nil, false, b.explain(err)
		}
		if next.Err != nil {
			b.ended.Store(true)
			x.note(b.s.c, endNoAnswer)
			if next.Err.Code == wire.CodeFailure {
				// It was paid for if the worker finished it unseen: trying again
				// by itself could pay twice.
				return 0, nil, nil, false, lostAfterConsent(next.Err.Text)
			}
			return 0, nil, nil, false, openaiError(next.Err, "")
		}
		f, err := b.open(next)
		if err != nil {
			return 0, nil, nil, false, b.untrue(err)
		}
		b.take(next)
		if f.Error != nil {
			b.ended.Store(true)
			return 0, nil, nil, false, openaiError(f.Error, "")
		}
		if f.Head == nil {
			if f.End != nil || len(f.Body) > 0 {
				return 0, nil, nil, false, openai.Upstream("The sealed answer has no head.")
			}
			continue
		}
		status, h, rest, err := role.DecodeResponse(f.Head)
		if err != nil {
			return 0, nil, nil, false, openai.Upstream("The answer's head cannot be read.")
		}
		return status, h, append(rest, f.Body...), false, nil
	}
}

func lostAfterConsent(why string) *openai.Error {
	return openai.Cut("The call was accepted and then lost before its first byte; nothing is charged without the worker's receipt: %s", why)
}

// untrue is an answer that is not what a worker of ours made of it.
func (b *body) untrue(err error) *openai.Error {
	b.s.c.log.Error("a sealed answer is refused", "proxy", b.s.peer.Addr, "err", err)
	return openai.Upstream("The sealed answer is refused: %v", err)
}

// sealingInfo is what the caller hears of it.
func (x *sealing) info(mode api.Seal) api.Sealing {
	id := x.call.ID()
	return api.Sealing{
		Mode: mode, Sealed: true, Verdict: x.worker.node.Result.Kind, ImageHash: x.worker.node.Result.ImageHash,
		RequestID: fmt.Sprintf("%x", id),
	}
}
