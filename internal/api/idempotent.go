package api

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// An Idempotency-Key makes a call that is sent twice run once: the answer is
// kept for ten minutes, encrypted with a key that only the caller's API key and
// the idempotency key give, and told again.

const (
	headerIdempotency = "Idempotency-Key"
	// keepFor is how long an answer can be asked for again.
	keepFor = 10 * time.Minute
	// maxKept bounds one kept answer.
	maxKept = 4 << 20
	// MaxAnswers and MaxAnswerBytes bound what is kept for one API key at a time.
	MaxAnswers     = 1000
	MaxAnswerBytes = 64 << 20
)

// Answers keeps answers, which it cannot read.
type Answers interface {
	// Claim makes a call the one that runs, until the time given, and returns
	// nil, or what is there already. It refuses with an *openai.Error what would
	// exceed the bounds.
	Claim(ctx context.Context, c Claim) (*Kept, error)
	// Keep puts the answer to a claimed call in place; Drop forgets the claim.
	Keep(ctx context.Context, id [32]byte, sealed []byte, until time.Time) error
	Drop(ctx context.Context, id [32]byte) error
}

// Claim names a call.
type Claim struct {
	// ID is derived from API key and idempotency key, Request from them and the
	// request: neither can be guessed without the API key.
	ID, Request [32]byte
	// Key is the API key's id, "" without one.
	Key        string
	Now, Until time.Time
}

// Kept is a call that is known.
type Kept struct {
	Request [32]byte
	// Sealed is the answer; nil = the call still runs.
	Sealed []byte
}

// onceKeys are what API key and idempotency key give.
type onceKeys struct {
	id, mac, seal [32]byte
}

func (g *Gateway) onceKeys(x *exchange, idempotencyKey string) (k onceKeys, err error) {
	// Without API keys the secret is this process's, and so are the answers.
	secret := sha256.Sum256([]byte(apiKey(x.r.Header)))
	ikm := append(slices.Clone(g.secret[:]), secret[:]...)
	if x.key != nil {
		ikm = []byte(apiKey(x.r.Header))
	}
	b, err := hkdf.Key(sha256.New, ikm, []byte(idempotencyKey), "cocoon/idempotency/v1\x00", 96)
	if err != nil {
		return k, err
	}
	copy(k.id[:], b)
	copy(k.mac[:], b[32:])
	copy(k.seal[:], b[64:])
	return k, nil
}

// request identifies what was asked for: path, our own headers, body.
func (k *onceKeys) request(r *http.Request, body []byte) (sum [32]byte) {
	h := hmac.New(sha256.New, k.mac[:])
	put := func(b []byte) {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		h.Write(b)
	}
	put([]byte(r.URL.Path))
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if strings.HasPrefix(name, headerPrefix) {
			put([]byte(name + "\n" + strings.Join(r.Header[name], "\n")))
		}
	}
	put(body)
	h.Sum(sum[:0])
	return sum
}

func (k *onceKeys) aead() (cipher.AEAD, error) {
	block, err := aes.NewCipher(k.seal[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// keptAnswer is what is sealed.
type keptAnswer struct {
	Status int         `json:"status"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
	// TooLarge says that the answer was too large to be kept.
	TooLarge bool `json:"too_large,omitempty"`
	// Code is the error's, for metrics; "" = none.
	Code string `json:"code,omitempty"`
}

// notKept are headers that belong to one exchange.
var notKept = []string{"X-Request-Id", "Date", "Connection", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary"}

// once runs a call, or tells again what it answered.
func (g *Gateway) once(x *exchange, rq *request, body []byte, run func(context.Context) error) error {
	ctx := x.r.Context()
	values := x.r.Header.Values(headerIdempotency)
	if len(values) == 0 {
		return run(ctx)
	}
	name := values[0]
	if len(values) > 1 || len(name) == 0 || len(name) > 255 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return openai.InvalidRequest(headerIdempotency, "The header '%s' must be one text of 1 to 255 printable ASCII characters without blanks.", headerIdempotency)
	}
	if !x.key.May(rq.Model) {
		return run(ctx) // which refuses
	}
	k, err := g.onceKeys(x, name)
	if err != nil {
		return err
	}
	aead, err := k.aead()
	if err != nil {
		return err
	}
	now := time.Now()
	c := Claim{ID: k.id, Request: k.request(x.r, body), Now: now, Until: now.Add(rq.Timeout + lateness)}
	if x.key != nil {
		c.Key = x.key.ID
	}
	asking, stop := context.WithTimeout(ctx, teamTimeout)
	kept, err := g.cfg.Answers.Claim(asking, c)
	stop()
	switch {
	case err != nil:
		return g.teamFailed("idempotency", err)
	case kept == nil:
		return g.first(x, rq, c, aead, run)
	case kept.Request != c.Request:
		return openai.Errorf(openai.CodeIdempotency, "This Idempotency-Key was used with another request in the last ten minutes; use a new one.")
	case kept.Sealed == nil:
		e := openai.Errorf(openai.CodeInFlight, "The call with this Idempotency-Key still runs; ask again for its answer.")
		e.RetryAfter = time.Second
		return e
	}
	return g.replay(x, k, aead, kept.Sealed)
}

// first runs a claimed call to its end, whether the caller stays or not, and
// keeps the answer. What failed and cannot have cost anything is not kept.
func (g *Gateway) first(x *exchange, rq *request, c Claim, aead cipher.AEAD, run func(context.Context) error) error {
	ctx := context.WithoutCancel(x.r.Context())
	rec := &recorder{ResponseWriter: x.w.ResponseWriter}
	x.w.ResponseWriter = rec
	err := run(ctx)
	fail := openai.From(err)
	if fail != nil && !x.w.Wrote {
		x.writeError(fail)
	}
	// A panic leaves the claim until its time is over: it may have cost.
	storing, stop := context.WithTimeout(ctx, teamTimeout)
	defer stop()
	if fail != nil && (rq.meter == nil || !rq.meter.charged()) {
		if err := g.cfg.Answers.Drop(storing, c.ID); err != nil {
			g.log.Warn("an Idempotency-Key stays taken until the call's time is over", "request", x.id, "err", err)
		}
		return err
	}
	a := keptAnswer{Status: x.w.Status, Header: rec.head, Body: rec.body, TooLarge: rec.over}
	if fail != nil {
		a.Code = fail.Code
	}
	if a.TooLarge {
		a.Body = nil
	}
	plain, merr := json.Marshal(a)
	if merr == nil {
		merr = g.cfg.Answers.Keep(storing, c.ID, aead.Seal(nil, nil, plain, c.ID[:]), time.Now().Add(keepFor))
	}
	if merr != nil {
		g.log.Warn("an answer was not kept for its Idempotency-Key", "request", x.id, "err", merr)
	}
	return err
}

// replay tells a kept answer.
func (g *Gateway) replay(x *exchange, k onceKeys, aead cipher.AEAD, sealed []byte) error {
	plain, err := aead.Open(nil, nil, sealed, k.id[:])
	var a keptAnswer
	if err == nil {
		err = json.Unmarshal(plain, &a)
	}
	if err != nil || a.Status < 200 || a.Status > 599 {
		g.log.Error("a kept answer cannot be opened: the store was changed", "request", x.id)
		return openai.Internal()
	}
	if a.TooLarge {
		return openai.Errorf(openai.CodeIdempotency, "The call with this Idempotency-Key ran and was charged; its answer was larger than the %d bytes that are kept.", maxKept)
	}
	h := x.w.Header()
	for name, v := range a.Header {
		if !slices.Contains(notKept, name) {
			h[name] = v
		}
	}
	h.Set("Idempotent-Replayed", "true")
	_ = x.rc().SetWriteDeadline(time.Now().Add(g.cfg.WriteTimeout))
	x.w.WriteHeader(a.Status)
	_, _ = x.w.Write(a.Body)
	if a.Code != "" {
		return &openai.Error{Code: a.Code} // told above; for metrics
	}
	return nil
}

// recorder keeps what is told. A caller who leaves does not end the telling.
type recorder struct {
	http.ResponseWriter
	head http.Header
	body []byte
	over bool
	gone bool
}

func (r *recorder) begin() {
	if r.head == nil {
		r.head = r.Header().Clone()
	}
}

func (r *recorder) WriteHeader(status int) {
	r.begin()
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.begin()
	if r.over = r.over || len(r.body)+len(b) > maxKept; !r.over {
		r.body = append(r.body, b...)
	}
	if !r.gone {
		_, err := r.ResponseWriter.Write(b)
		r.gone = err != nil
	}
	return len(b), nil
}

// FlushError and SetWriteDeadline serve http.ResponseController.
func (r *recorder) FlushError() error {
	if !r.gone {
		r.gone = http.NewResponseController(r.ResponseWriter).Flush() != nil
	}
	return nil
}

func (r *recorder) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(r.ResponseWriter).SetWriteDeadline(t)
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// memoryAnswers keeps answers as long as the process. Its zero value is empty.
type memoryAnswers struct {
	mu    sync.Mutex
	calls map[[32]byte]*memoryAnswer
	bytes int
}

type memoryAnswer struct {
	Kept
	until time.Time
}

// TooManyAnswers refuses a call whose answer there is no room for.
func TooManyAnswers() error {
	return openai.RateLimited(time.Minute, "Too many answers are kept for calls with an Idempotency-Key; wait, or send calls without one.")
}

func (m *memoryAnswers) Claim(_ context.Context, c Claim) (*Kept, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.calls, func(_ [32]byte, a *memoryAnswer) bool {
		old := !a.until.After(c.Now)
		if old {
			m.bytes -= len(a.Sealed)
		}
		return old
	})
	if a := m.calls[c.ID]; a != nil {
		k := a.Kept
		return &k, nil
	}
	if len(m.calls) >= MaxAnswers || m.bytes >= MaxAnswerBytes {
		return nil, TooManyAnswers()
	}
	if m.calls == nil {
		m.calls = map[[32]byte]*memoryAnswer{}
	}
	m.calls[c.ID] = &memoryAnswer{Kept{Request: c.Request}, c.Until}
	return nil, nil
}

var errClaimOver = errors.New("the claim is over")

func (m *memoryAnswers) Keep(_ context.Context, id [32]byte, sealed []byte, until time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.calls[id]
	if a == nil || a.Sealed != nil {
		return errClaimOver
	}
	a.Sealed, a.until = sealed, until
	m.bytes += len(sealed)
	return nil
}

func (m *memoryAnswers) Drop(_ context.Context, id [32]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.calls[id]; a != nil && a.Sealed == nil {
		delete(m.calls, id)
	}
	return nil
}
