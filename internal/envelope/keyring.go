package envelope

import (
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// Limits of a worker's memory.
const (
	// KeyLife is how long a seal key lives on after its successor.
	KeyLife = 15 * time.Minute

	// maxKeys bounds the keys alive at once: one every 5 minutes and some made
	// early.
	maxKeys = 16
	// maxRemembered bounds what one key remembers, in ids of 32 bytes; half of
	// it asks for a new statement.
	maxRemembered = 1 << 18
	// A connection of a proxy has laneSessions open sessions, and makes at most
	// setupBurst set-ups at once and one every setupEvery: each costs the worker
	// about a tenth of a millisecond, and no proxy can take another's share.
	laneSessions = 4096
	setupBurst   = 512
	setupEvery   = 10 * time.Millisecond
)

// Keyring is a worker's seal keys and its memory of what they opened. Times are
// the caller's monotonic clock.
type Keyring struct {
	network [32]byte

	mu   sync.Mutex
	keys []*ringKey // oldest first
}

// ringKey is one statement's key.
type ringKey struct {
	statement [32]byte
	private   hpke.PrivateKey
	until     time.Duration // 0: it has no successor yet
	sessions  map[[32]byte]*ringSession
	requests  map[cocoon.RequestID]struct{}
}

// ringSession is a session; one that ended stays as a memory, with no key.
type ringSession struct {
	lane  *Lane
	kek   []byte
	ready chan struct{} // closed once the set-up was opened, or could not be
	until time.Duration
	uses  int
}

// NewKeyring makes the keyring of a worker of the given network.
func NewKeyring(network [32]byte) *Keyring { return &Keyring{network: network} }

// Add takes in the key of a statement that is about to be shown. The keys
// before it end KeyLife later.
func (r *Keyring) Add(now time.Duration, k *SealKey, statement [32]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, old := range r.keys {
		if old.until == 0 {
			old.until = now + KeyLife
		}
	}
	r.keys = append(r.keys, &ringKey{
		statement: statement, private: k.private,
		sessions: map[[32]byte]*ringSession{}, requests: map[cocoon.RequestID]struct{}{},
	})
	for len(r.keys) > maxKeys {
		r.keys[0].until = now // wiped below, early: its sessions ask again
		r.keys = r.keys[1:]
	}
	r.wipeLocked(now)
}

// wipeLocked forgets the keys whose time is over, with all they remember: what
// was sealed to them cannot be opened any more.
func (r *Keyring) wipeLocked(now time.Duration) {
	r.keys = slices.DeleteFunc(r.keys, func(k *ringKey) bool {
		if k.until == 0 || now < k.until {
			return false
		}
		for _, s := range k.sessions {
			s.endLocked()
		}
		k.private = nil
		return true
	})
}

// Full reports whether a new statement is needed before the usual time: memory
// is never given up, so it has to be replaced.
func (r *Keyring) Full() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := len(r.keys)
	return n > 0 && r.keys[n-1].remembered() >= maxRemembered/2
}

func (k *ringKey) remembered() int { return len(k.sessions) + len(k.requests) }

// Wipe forgets what is due; for use between requests.
func (r *Keyring) Wipe(now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wipeLocked(now)
}

// Keys is how many keys are alive.
func (r *Keyring) Keys() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.keys)
}

// Lane is one connection to a proxy: sessions belong to it and end with it.
type Lane struct {
	ring   *Keyring
	open   int // sessions
	tokens float64
	last   time.Duration
	closed bool
}

// NewLane makes the lane of a connection.
func (r *Keyring) NewLane(now time.Duration) *Lane {
	return &Lane{ring: r, tokens: setupBurst, last: now}
}

// Close ends the lane's sessions. Their ids stay known.
func (l *Lane) Close() {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	l.closed = true
	for _, k := range l.ring.keys {
		for _, s := range k.sessions {
			if s.lane == l {
				s.endLocked()
			}
		}
	}
}

func (s *ringSession) endLocked() {
	if s.lane != nil {
		s.lane.open--
	}
	clear(s.kek)
	s.lane, s.kek = nil, nil
}

// allowLocked takes one set-up out of the lane's allowance.
func (l *Lane) allowLocked(now time.Duration) bool {
	l.tokens = min(l.tokens+float64(now-l.last)/float64(setupEvery), setupBurst)
	l.last = now
	if l.closed || l.open >= laneSessions || l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// Opened is a request a worker took.
type Opened struct {
	Header Header
	// Request is the boxed http.request, CacheSalt the caller's, Plain the
	// bytes whose commitment the receipt holds.
	Request, CacheSalt, Plain []byte
	// Session, Statement and Hash name the session, the statement it was sealed
	// to and the envelope.
	Session, Statement, Hash [32]byte
	// Nonce is the worker's own.
	Nonce [32]byte
	// Secret is the response key, from which the salts of the receipt follow.
	Secret [32]byte
}

// Open opens a request that came over the lane: once, whatever happens then.
func (l *Lane) Open(now time.Duration, query []byte) (*Opened, error) {
	return l.openWith(rand.Reader, now, query)
}

func (l *Lane) openWith(random io.Reader, now time.Duration, query []byte) (*Opened, error) {
	m, err := ParseMessage(query)
	if err != nil {
		return nil, err
	}
	e, err := ParseEnvelope(m.Envelope)
	if err != nil {
		return nil, err
	}
	if e.Header.NetworkID != l.ring.network {
		return nil, ErrNetwork
	}
	wrap, kek, err := l.session(now, e, m)
	if err != nil {
		return nil, err
	}
	aead, err := wrapKey(e.headerHash(), kek, wrap.Statement)
	if err != nil {
		return nil, err
	}
	contentKey, err := aead.Open(nil, zeroNonce[:], wrap.key, nil)
	if err != nil {
		return nil, ErrWrap
	}
	// The client made this wrap, so its id is remembered from here on: what
	// anybody could make up must not fill the memory.
	if err := l.ring.once(now, wrap, e.Header.RequestID); err != nil {
		return nil, err
	}
	if commit(contentKey, e.Header.RequestID) != e.commitment {
		return nil, ErrCommitment
	}
	if aead, err = gcm(contentKey); err != nil {
		return nil, err
	}
	aad := e.aad()
	plain, err := aead.Open(nil, zeroNonce[:], e.ciphertext, aad[:])
	if err != nil {
		return nil, ErrContent
	}
	inner, err := unpad(plain, Bucket)
	if err != nil {
		return nil, err
	}
	o, err := decode[schema.CocoonSealRequest](inner)
	if err != nil {
		return nil, err
	}
	out := &Opened{
		Header: e.Header, Request: o.Request, CacheSalt: o.CacheSalt, Plain: inner,
		Session: wrap.Session, Statement: wrap.Statement, Hash: e.Hash,
	}
	if _, err := io.ReadFull(random, out.Nonce[:]); err != nil {
		return nil, errRandom(err)
	}
	key, err := responseKey(contentKey, kek, e.Header.RequestID, out.Nonce, wrap.Statement)
	if err != nil {
		return nil, err
	}
	out.Secret = [32]byte(key)
	return out, nil
}

// session finds the wrap that is for us and its session's key, setting the
// session up if it is new.
func (l *Lane) session(now time.Duration, e *Envelope, m *Message) (*Wrap, []byte, error) {
	r := l.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wipeLocked(now)
	var wrap *Wrap
	var key *ringKey
	for i := range e.Wraps {
		for _, k := range r.keys {
			if k.statement == e.Wraps[i].Statement {
				wrap, key = &e.Wraps[i], k
			}
		}
	}
	if wrap == nil {
		return nil, nil, ErrNotForUs
	}
	s := key.sessions[wrap.Session]
	if s == nil {
		enc := m.setup(wrap.Session)
		switch {
		case enc == nil:
			return nil, nil, ErrUnknown
		case key.remembered() >= maxRemembered:
			return nil, nil, ErrFull
		case !l.allowLocked(now):
			return nil, nil, ErrTooMany
		}
		// Decapsulation is slow, and nobody else needs to wait for it. The id
		// is taken first, so that one set-up counts once.
		s = &ringSession{lane: l, until: now + SessionLife, ready: make(chan struct{})}
		key.sessions[wrap.Session] = s
		l.open++
		private := key.private
		r.mu.Unlock()
		kek, err := exportKEK(enc, private, key.statement)
		r.mu.Lock()
		close(s.ready)
		if err != nil {
			s.endLocked()
			return nil, nil, fmt.Errorf("%w: %v", ErrSetup, err)
		}
		if s.lane != nil { // the connection lives
			s.kek = kek
		}
	} else if s.lane == l && s.kek == nil {
		// Requests that came together bring the same set-up.
		r.mu.Unlock()
		<-s.ready
		r.mu.Lock()
	}
	if s.lane != nil && now >= s.until {
		s.endLocked()
	}
	switch {
	case s.lane == nil:
		if m.setup(wrap.Session) != nil {
			return nil, nil, ErrOver
		}
		return nil, nil, ErrUnknown
	case s.lane != l: // another connection's
		return nil, nil, ErrUnknown
	case s.uses >= SessionRequests:
		return nil, nil, ErrUsedUp
	}
	s.uses++
	return wrap, slices.Clone(s.kek), nil
}

func exportKEK(enc []byte, private hpke.PrivateKey, statement [32]byte) ([]byte, error) {
	_, kdf, aead := suite()
	recipient, err := hpke.NewRecipient(enc, private, kdf, aead, sealInfo(statement))
	if err != nil {
		return nil, err
	}
	return recipient.Export(wire.ExporterKEK, 32)
}

// setup returns the set-up of a session, if the message has it.
func (m *Message) setup(session [32]byte) []byte {
	for _, s := range m.Setups {
		if sha256.Sum256(s) == session {
			return s
		}
	}
	return nil
}

// once remembers a request id, with the newest key: it is wiped last, so an id
// is remembered as long as any key that an envelope of that time could be
// sealed to.
func (r *Keyring) once(now time.Duration, w *Wrap, id cocoon.RequestID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.keys) == 0 {
		return ErrNotForUs
	}
	for _, k := range r.keys {
		if _, seen := k.requests[id]; seen {
			return ErrReplay
		}
	}
	newest := r.keys[len(r.keys)-1]
	if newest.remembered() >= maxRemembered {
		return ErrFull
	}
	newest.requests[id] = struct{}{}
	return nil
}

// Accept takes the request: sign, the node key's, signs the message. It returns
// the acceptance and the writer of the answer.
func (o *Opened) Accept(sign func(message []byte) []byte) ([]byte, *Writer, error) {
	sig := sign(AcceptMessage(o.Header.RequestID, o.Session, o.Hash, o.Statement, o.Nonce))
	w := &Writer{frames{bucket: o.Header.AnswerBucket}}
	var err error
	if w.aead, err = gcm(o.Secret[:]); err != nil {
		return nil, nil, err
	}
	return schema.Marshal(&schema.CocoonAccepted{Session: o.Session, Statement: o.Statement, Nonce: o.Nonce, Signature: sig}), w, nil
}
