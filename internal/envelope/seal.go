package envelope

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

// Limits of a session, which the worker holds too.
const (
	SessionLife     = 10 * time.Minute
	SessionRequests = 256
	// A client stops a little earlier, so that what is on its way still counts.
	clientLife = 9 * time.Minute
)

// Worker is a worker a client has verified: what its statement says.
type Worker struct {
	Statement [32]byte // digest
	NodeKey   [32]byte
	SealKey   []byte
}

// Session is a client's session with one worker.
type Session struct {
	Worker Worker
	ID     [32]byte

	enc []byte
	kek []byte

	mu    sync.Mutex
	until time.Duration
	uses  int
	known bool
}

// NewSession makes a session with w at now.
func NewSession(w Worker, now time.Duration) (*Session, error) {
	kem, kdf, aead := suite()
	key, err := kem.NewPublicKey(w.SealKey)
	if err != nil {
		return nil, fmt.Errorf("%w: the worker's seal key: %v", ErrFormat, err)
	}
	enc, sender, err := hpke.NewSender(key, kdf, aead, sealInfo(w.Statement))
	if err != nil {
		return nil, fmt.Errorf("%w: the worker's seal key: %v", ErrFormat, err)
	}
	kek, err := sender.Export(wire.ExporterKEK, 32)
	if err != nil {
		return nil, err
	}
	return &Session{Worker: w, ID: sha256.Sum256(enc), enc: enc, kek: kek, until: now + clientLife}, nil
}

// Take counts a request; false means that a new session is needed.
func (s *Session) Take(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now >= s.until || s.uses >= SessionRequests {
		return false
	}
	s.uses++
	return true
}

// Low reports whether the session will soon be used up or over, so that the
// next one is worth making before a request has to wait for it.
func (s *Session) Low(now time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uses >= SessionRequests*3/4 || now >= s.until-clientLife/8
}

// confirm notes that the worker knows the session.
func (s *Session) confirm() {
	s.mu.Lock()
	s.known = true
	s.mu.Unlock()
}

// setup is what the worker needs to know the session; nil if it does.
func (s *Session) setup() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known {
		return nil
	}
	return s.enc
}

// Call is one sealed request, at the client.
type Call struct {
	header   Header
	hash     [32]byte
	key      []byte
	sessions []*Session
	accepted bool
	// Request is the plaintext whose commitment the worker signs.
	Request []byte
}

// Seal seals request, a boxed http.request, and the caller's cache salt to the
// workers of the given sessions, each of which was taken for it. It returns
// what to send.
func Seal(h Header, request, cacheSalt []byte, sessions []*Session) (*Call, []byte, error) {
	return sealWith(rand.Reader, h, request, cacheSalt, sessions)
}

func sealWith(random io.Reader, h Header, request, cacheSalt []byte, sessions []*Session) (*Call, []byte, error) {
	if err := h.check(); err != nil {
		return nil, nil, err
	}
	if n := len(sessions); n < 1 || n > MaxCandidates {
		return nil, nil, fmt.Errorf("%w: for %d workers", ErrSize, n)
	}
	if len(request) > maxEnvelope*3/4 {
		return nil, nil, fmt.Errorf("%w: a request of %d bytes", ErrSize, len(request))
	}
	c := &Call{header: h, sessions: slices.Clone(sessions), key: make([]byte, 32)}
	if _, err := io.ReadFull(random, c.key); err != nil {
		return nil, nil, errRandom(err)
	}
	header := h.Encode()
	headerHash := sha256.Sum256(header)
	e := schema.CocoonEnvelope{Header: header, Commitment: commit(c.key, h.RequestID), Wraps: make([]schema.CocoonWrap, len(sessions))}
	var setups [][]byte
	for i, s := range sessions {
		aead, err := wrapKey(headerHash, s.kek, s.Worker.Statement)
		if err != nil {
			return nil, nil, err
		}
		e.Wraps[i] = schema.CocoonWrap{Statement: s.Worker.Statement, Session: s.ID, Key: aead.Seal(nil, zeroNonce[:], c.key, nil)}
		if enc := s.setup(); enc != nil {
			setups = append(setups, enc)
		}
	}
	inner := schema.CocoonSealRequest{Request: request, CacheSalt: cacheSalt}
	plain := tl.AppendUint32(make([]byte, 4, Bucket(4+4+inner.SizeTL())), inner.TLID())
	plain = inner.AppendTL(plain)
	c.Request = plain[4:len(plain):len(plain)]
	plain = pad(plain, Bucket)
	aead, err := gcm(c.key)
	if err != nil {
		return nil, nil, err
	}
	// The message is built around the ciphertext, which may be large.
	room := len(plain) + aead.Overhead()
	size := 4 + e.SizeTL() - tl.BytesSize(0) + tl.BytesSize(room) // of the envelope
	m := schema.CocoonSealed{Setups: setups}
	b := make([]byte, 0, 4+m.SizeTL()-tl.BytesSize(0)+tl.BytesSize(size))
	b = tl.AppendBytesPrefix(tl.AppendUint32(b, m.TLID()), size)
	begin := len(b)
	b = tl.AppendUint32(b, e.TLID())
	b = e.AppendTL(b)
	b = b[:len(b)-tl.BytesSize(0)]
	aad := headHash(b[begin+4:])
	b = tl.AppendBytesPrefix(b, room)
	b = aead.Seal(b, zeroNonce[:], plain, aad[:])
	b = tl.AppendPadding(b, room)
	c.hash = sha256.Sum256(b[begin:])
	b = tl.AppendPadding(b, size)
	// What follows the envelope in the message: its fields without an envelope,
	// less the empty one.
	return c, append(b, m.AppendTL(nil)[tl.BytesSize(0):]...), nil
}

// ID and Hash name the request and its envelope.
func (c *Call) ID() [32]byte   { return c.header.RequestID }
func (c *Call) Hash() [32]byte { return c.hash }

// Accept checks the acceptance of one worker, the first thing of an answer,
// and returns the reader of the rest. There is one acceptance for a request.
func (c *Call) Accept(b []byte) (*Reader, error) {
	if c.accepted {
		return nil, fmt.Errorf("%w: there was one already", ErrAcceptance)
	}
	a, err := decode[schema.CocoonAccepted](b)
	if err != nil {
		return nil, fmt.Errorf("%w (%w)", ErrAcceptance, err)
	}
	i := slices.IndexFunc(c.sessions, func(s *Session) bool { return s.ID == a.Session && s.Worker.Statement == a.Statement })
	if i < 0 {
		return nil, fmt.Errorf("%w: another session or statement", ErrAcceptance)
	}
	s := c.sessions[i]
	if !ed25519.Verify(s.Worker.NodeKey[:], AcceptMessage(c.header.RequestID, s.ID, c.hash, a.Statement, a.Nonce), a.Signature) {
		return nil, fmt.Errorf("%w: its node key did not sign this envelope", ErrAcceptance)
	}
	key, err := responseKey(c.key, s.kek, c.header.RequestID, a.Nonce, a.Statement)
	if err != nil {
		return nil, err
	}
	r := &Reader{Session: s, Nonce: a.Nonce, Secret: [32]byte(key), frames: frames{bucket: c.header.AnswerBucket}}
	if r.aead, err = gcm(key); err != nil {
		return nil, err
	}
	c.accepted = true
	s.confirm()
	return r, nil
}
