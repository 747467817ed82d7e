package statement

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest/nvgpu"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// Times of a session.
const (
	// RenewEvery is when the dialer renews, retryEvery when it tries again. A
	// proxy hands its workers' statements on, so the newest it has must be young
	// enough for others to verify: 9 minutes old at most.
	RenewEvery = 2 * time.Minute
	retryEvery = 15 * time.Second
	renewLimit = 30 * time.Second
	// proveWithin is how long after an open the prove of a renewal may come.
	proveWithin = time.Minute
)

const (
	maxHello = 256
	maxOpen  = 512             // frames of the first pair
	maxFrame = maxBundle + 256 // and GPU evidence, from workers
	maxText  = 256             // of a refusal
)

// Config says what sessions of one port or dialer are made of.
type Config struct {
	Issuer   *Issuer
	Verifier *Verifier
	// Required refuses peers of level 0.
	Required bool
}

// Sessions makes the sessions of one port or dialer.
type Sessions struct{ cfg Config }

// New makes Sessions.
func New(cfg Config) (*Sessions, error) {
	if cfg.Issuer == nil || cfg.Verifier == nil {
		return nil, errors.New("statement: sessions need an issuer and a verifier")
	}
	return &Sessions{cfg}, nil
}

// frame bounds the frames with the other side's bundle.
func (m *Sessions) frame() int {
	if m.cfg.Verifier.cfg.Role == cocoon.RoleWorker {
		return maxFrame + nvgpu.MaxSet
	}
	return maxFrame
}

// Handshake opens the session of a new connection whose TLS handshake is done,
// before any application byte, and sets c.Peer.Node and c.Session. At level 0
// there is none: that is refused where level 1 is required. It ends with ctx
// and leaves closing c to the caller.
func (m *Sessions) Handshake(ctx context.Context, c *tee.Conn, dialer bool) error {
	if c.Peer.Level != wire.Level1 {
		if m.cfg.Required {
			return ErrLevel
		}
		return nil
	}
	s := &session{m: m, conn: c, peer: c.Peer}
	// A past deadline ends reads and writes under way.
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	var err error
	if dialer {
		limit := maxOpen
		err = s.dial(ctx, func(ctx context.Context, query []byte) ([]byte, error) {
			if err := writeFrame(c, query); err != nil {
				return nil, err
			}
			b, err := readFrame(c, limit)
			limit = m.frame()
			return b, err
		})
	} else {
		err = s.accept(ctx)
	}
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("session: %w (%w)", context.Cause(ctx), cmp.Or(err, ctx.Err()))
	case err != nil:
		return fmt.Errorf("session: %w", err)
	}
	c.Peer.Node, c.Session = s.Node(), s
	return nil
}

// session is one connection's.
type session struct {
	m    *Sessions
	conn *tee.Conn
	peer tee.Peer // as the certificate says

	mu      sync.Mutex
	current *verdict
	pending *opened // an acceptor's, between open and prove
}

// opened is a session that both hellos were exchanged for.
type opened struct {
	own         *Issued
	mine, other []byte // hellos
	digest      [32]byte
	at          time.Duration
}

// Usable implements tee.Session.
func (s *session) Usable() error {
	s.mu.Lock()
	d := s.current
	s.mu.Unlock()
	if d == nil || s.m.cfg.Verifier.ticks.now() >= d.until {
		return ErrExpired
	}
	return nil
}

// Node implements tee.Session.
func (s *session) Node() *tee.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current.node
}

// Keep implements tee.Session.
func (s *session) Keep(ctx context.Context, ask func(context.Context, []byte) ([]byte, error)) error {
	for pause := RenewEvery; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		limited, cancel := context.WithTimeout(ctx, renewLimit)
		err := s.dial(limited, ask)
		cancel()
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			pause = RenewEvery
		case errors.Is(err, ErrChanged):
			return err
		case s.Usable() != nil:
			return fmt.Errorf("%w (%w)", ErrExpired, err)
		default:
			pause = retryEvery
		}
	}
}

// Answer implements tee.Session.
func (s *session) Answer(ctx context.Context, query []byte) ([]byte, bool, error) {
	switch schema.ID(query) {
	case (*schema.CocoonOpen)(nil).TLID():
		b, err := s.answerOpen(ctx, query)
		return b, true, public(err)
	case (*schema.CocoonProve)(nil).TLID():
		b, err := s.answerProve(ctx, query)
		return b, true, public(err)
	}
	return nil, false, nil
}

// public is what the peer hears of a refusal: our reasons are no secret, and
// name the fix.
func public(err error) error {
	if err == nil {
		return nil
	}
	return wire.Errorf(wire.CodeProtocolViolation, "%s", clip(err.Error()))
}

// dial runs the dialer's side: two queries, over frames at first and over the
// connection's own queries later.
func (s *session) dial(ctx context.Context, ask func(context.Context, []byte) ([]byte, error)) error {
	own, mine, err := s.hello(ctx)
	if err != nil {
		return err
	}
	b, err := ask(ctx, schema.Marshal(&schema.CocoonOpen{Hello: mine}))
	if err != nil {
		return err
	}
	answer, err := decode[*schema.CocoonOpened](b)
	if err != nil {
		return err
	}
	digest, err := s.readHello(answer.Hello, mine)
	if err != nil {
		return err
	}
	known := s.m.cfg.Verifier.known(digest) != nil
	proof, err := s.prove(0, mine, answer.Hello)
	if err != nil {
		return err
	}
	query := &schema.CocoonProve{Known: known, Proof: proof}
	if !answer.Known {
		query.Bundle = own.Bundle
	}
	if b, err = ask(ctx, schema.Marshal(query)); err != nil {
		return err
	}
	proved, err := decode[*schema.CocoonProved](b)
	if err != nil {
		return err
	}
	message, err := s.message(1, mine, answer.Hello)
	if err != nil {
		return err
	}
	return s.judge(ctx, appearance{peer: s.peer, digest: digest, bundle: proved.Bundle, signed: message, proof: proved.Proof})
}

// accept runs the acceptor's side over frames.
func (s *session) accept(ctx context.Context) error {
	for _, step := range []struct {
		limit  int
		answer func(context.Context, []byte) ([]byte, error)
	}{{maxOpen, s.answerOpen}, {s.m.frame(), s.answerProve}} {
		query, err := readFrame(s.conn, step.limit)
		if err != nil {
			return err
		}
		b, err := step.answer(ctx, query)
		if err != nil {
			// It may hear why; if not, it sees the end.
			_ = writeFrame(s.conn, schema.Marshal(&schema.CocoonRefused{Text: clip(err.Error())}))
			return err
		}
		if err := writeFrame(s.conn, b); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) answerOpen(ctx context.Context, query []byte) ([]byte, error) {
	q, err := decode[*schema.CocoonOpen](query)
	if err != nil {
		return nil, err
	}
	own, mine, err := s.hello(ctx)
	if err != nil {
		return nil, err
	}
	digest, err := s.readHello(q.Hello, mine)
	if err != nil {
		return nil, err
	}
	v := s.m.cfg.Verifier
	s.mu.Lock()
	s.pending = &opened{own: own, mine: mine, other: bytes.Clone(q.Hello), digest: digest, at: v.ticks.now()}
	s.mu.Unlock()
	return schema.Marshal(&schema.CocoonOpened{Hello: mine, Known: v.known(digest) != nil}), nil
}

func (s *session) answerProve(ctx context.Context, query []byte) ([]byte, error) {
	q, err := decode[*schema.CocoonProve](query)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	o := s.pending
	s.pending = nil // a nonce is good for one proof
	s.mu.Unlock()
	if o == nil || s.m.cfg.Verifier.ticks.now()-o.at > proveWithin {
		return nil, fmt.Errorf("%w: a proof without a hello", ErrFormat)
	}
	message, err := s.message(0, o.other, o.mine)
	if err != nil {
		return nil, err
	}
	if err := s.judge(ctx, appearance{peer: s.peer, digest: o.digest, bundle: q.Bundle, signed: message, proof: q.Proof}); err != nil {
		return nil, err
	}
	answer := &schema.CocoonProved{}
	if !q.Known {
		answer.Bundle = o.own.Bundle
	}
	if answer.Proof, err = s.prove(1, o.other, o.mine); err != nil {
		return nil, err
	}
	return schema.Marshal(answer), nil
}

// judge verifies the peer and takes it over.
func (s *session) judge(ctx context.Context, a appearance) error {
	d, err := s.m.cfg.Verifier.verify(ctx, a)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != nil {
		if err := same(s.current.node, d.node); err != nil {
			return err
		}
	}
	s.current = d
	return nil
}

// same demands that a renewal shows the node that was there before. The
// contract may have moved with the network's parameters; roles look at that.
func same(was, is *tee.Node) error {
	switch {
	case was.Key != is.Key:
		return fmt.Errorf("%w: another node key", ErrChanged)
	case was.Role != is.Role || was.Model != is.Model || was.Owner != is.Owner || was.ContractKey != is.ContractKey:
		return fmt.Errorf("%w: another model, owner or contract key", ErrChanged)
	case was.Result.Kind != is.Result.Kind || was.Result.ImageHash != is.Result.ImageHash:
		return fmt.Errorf("%w: another image", ErrChanged)
	}
	return nil
}

// hello makes ours, with a fresh nonce.
func (s *session) hello(ctx context.Context) (*Issued, []byte, error) {
	own, err := s.m.cfg.Issuer.Current(ctx)
	if err != nil {
		return nil, nil, err
	}
	h := &schema.CocoonHello{MinVersion: Version, MaxVersion: Version, Spki: SPKI(s.conn.LocalKey), Statement: own.Digest}
	rand.Read(h.Nonce[:]) // never fails
	return own, schema.Marshal(h), nil
}

// readHello checks the peer's hello against ours and the connection.
func (s *session) readHello(b, mine []byte) (digest [32]byte, err error) {
	if len(b) > maxHello {
		return digest, fmt.Errorf("%w: a hello of %d bytes", ErrSize, len(b))
	}
	h, err := decode[*schema.CocoonHello](b)
	switch {
	case err != nil:
		return digest, err
	case bytes.Equal(b, mine):
		return digest, ErrReflected
	case h.MinVersion > Version || h.MaxVersion < Version:
		return digest, fmt.Errorf("%w: it speaks %d to %d, we speak %d", ErrVersion, h.MinVersion, h.MaxVersion, Version)
	case h.Spki != SPKI(s.peer.Key):
		return digest, ErrOtherKey
	}
	return h.Statement, nil
}

// message is what a side's node key signs.
func (s *session) message(side byte, dialer, acceptor []byte) ([]byte, error) {
	if s.conn.Exporter == nil {
		return nil, errors.New("statement: no TLS ends in this process, so no session can be bound to it")
	}
	exported, err := s.conn.Exporter(wire.ExporterSession, wire.ExporterSize)
	if err != nil {
		return nil, err
	}
	return ProofMessage(side, exported, dialer, acceptor), nil
}

func (s *session) prove(side byte, dialer, acceptor []byte) ([]byte, error) {
	b, err := s.message(side, dialer, acceptor)
	if err != nil {
		return nil, err
	}
	return s.m.cfg.Issuer.sign(b), nil
}

// ProofMessage is what a node key signs to prove a session: side 0 is the
// dialer's, 1 the acceptor's; then the exporter's bytes and the hash of each
// hello.
func ProofMessage(side byte, exported, dialer, acceptor []byte) []byte {
	d, a := sha256.Sum256(dialer), sha256.Sum256(acceptor)
	return signed(wire.LabelSession, []byte{side}, exported, d[:], a[:])
}

// SPKI is SHA-256 of the SubjectPublicKeyInfo of an Ed25519 key (RFC 8410).
func SPKI(key [32]byte) [32]byte {
	return sha256.Sum256(append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, key[:]...))
}

// decode reads a message of the peer.
func decode[T schema.Object](b []byte) (T, error) {
	var none T
	o, err := schema.DecodeCanonical(b)
	if err != nil {
		return none, fmt.Errorf("%w: %v", ErrFormat, err)
	}
	switch o := o.(type) {
	case T:
		return o, nil
	case *schema.CocoonRefused:
		return none, fmt.Errorf("%w: %q", ErrRefused, clip(o.Text))
	}
	return none, fmt.Errorf("%w: %s is out of order", ErrFormat, o.TLName())
}

// clip makes a foreign text fit for one line.
func clip(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	return text[:min(len(text), maxText)]
}

// Frames of the session before the connection's own framing begins: length
// (uint32), then a boxed object.

func writeFrame(w io.Writer, b []byte) error {
	_, err := w.Write(append(binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(b)), uint32(len(b))), b...))
	return err
}

func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 4 || n > uint32(limit) {
		return nil, fmt.Errorf("%w: a frame of %d bytes", ErrSize, n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
