package envelope

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// machine is a worker: node key, keyring, one connection.
type machine struct {
	ring   *Keyring
	lane   *Lane
	node   ed25519.PrivateKey
	worker Worker
}

var network = [32]byte{0xaa}

func newMachine(t testing.TB, seed byte) *machine {
	t.Helper()
	m := &machine{ring: NewKeyring(network), node: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))}
	m.renew(t, 0, [32]byte{seed})
	m.lane = m.ring.NewLane(0)
	return m
}

// renew gives the machine a new statement.
func (m *machine) renew(t testing.TB, now time.Duration, statement [32]byte) {
	t.Helper()
	k, err := NewSealKey()
	if err != nil {
		t.Fatal(err)
	}
	m.ring.Add(now, k, statement)
	m.worker = Worker{Statement: statement, NodeKey: [32]byte(m.node.Public().(ed25519.PublicKey)), SealKey: k.Public()}
}

func (m *machine) sign(message []byte) []byte { return ed25519.Sign(m.node, message) }

func (m *machine) session(t testing.TB, now time.Duration) *Session {
	t.Helper()
	s, err := NewSession(m.worker, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func header() Header {
	h := Header{NetworkID: network, Model: "m", MaxCoefficient: 4000, PromptTokens: 1024, OutputTokens: 100, Timeout: time.Minute, AnswerBucket: 512}
	rand.Read(h.RequestID[:])
	return h
}

var testRequest, testSalt = []byte("the http request"), []byte("salt")

func seal(t testing.TB, sessions ...*Session) (*Call, []byte) {
	t.Helper()
	c, b, err := Seal(header(), testRequest, testSalt, sessions)
	if err != nil {
		t.Fatal(err)
	}
	return c, b
}

func TestRoundTrip(t *testing.T) {
	a, b := newMachine(t, 1), newMachine(t, 2)
	sa, sb := a.session(t, 0), b.session(t, 0)
	for i := range 3 {
		c, msg := seal(t, sa, sb)
		o, err := b.lane.Open(0, msg)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(o.Request, testRequest) || !bytes.Equal(o.CacheSalt, testSalt) || o.Header.RequestID != c.ID() || o.Hash != c.Hash() || !bytes.Equal(o.Plain, c.Request) {
			t.Fatalf("opened %+v", o)
		}
		acc, w, err := o.Accept(b.sign)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Accept(acc)
		if err != nil {
			t.Fatal(err)
		}
		if r.Secret != o.Secret || r.Session != sb {
			t.Error("the two sides do not agree")
		}
		if _, err := c.Accept(acc); !errors.Is(err, ErrAcceptance) {
			t.Errorf("second acceptance: %v", err)
		}
		end := [32]byte{7}
		for j, f := range []Frame{{Head: []byte("head")}, {Body: bytes.Repeat([]byte("x"), MaxBody)}, {Error: wire.Errorf(wire.CodeFailure, "engine")}, {Body: []byte("last"), End: &end}} {
			var receipt []byte
			if f.End != nil {
				receipt = []byte("part")
			}
			box, err := w.Seal(f, receipt)
			if err != nil {
				t.Fatal(err)
			}
			s, err := ParseFrame(box)
			if err != nil || (len(s.Box)-16)%512 != 0 || s.Final != (f.End != nil) {
				t.Fatalf("frame %d: %v, a box of %d bytes", j, err, len(s.Box))
			}
			got, rec, err := r.Open(slices.Clone(box))
			if err != nil || !bytes.Equal(got.Head, f.Head) || !bytes.Equal(got.Body, f.Body) || !bytes.Equal(rec, receipt) {
				t.Fatalf("frame %d: %+v, %v", j, got, err)
			}
			if f.Error != nil && *got.Error != *f.Error || f.End != nil && *got.End != end {
				t.Fatalf("frame %d: %+v", j, got)
			}
			if f.End == nil && !errors.Is(r.End(), ErrCut) {
				t.Error("a stream that goes on counts as whole")
			}
		}
		if r.End() != nil {
			t.Error(r.End())
		}
		if _, err := w.Seal(Frame{}, nil); !errors.Is(err, ErrEnded) {
			t.Errorf("after the last frame: %v", err)
		}
		// b's set-up travels until b has confirmed it.
		m, _ := ParseMessage(msg)
		if want := 2; i == 0 && len(m.Setups) != want || i > 0 && len(m.Setups) != 1 {
			t.Errorf("request %d: %d set-ups", i, len(m.Setups))
		}
	}
}

// change edits an envelope in place of a proxy and encodes it again.
func change(t testing.TB, msg []byte, edit func(*schema.CocoonEnvelope)) []byte {
	t.Helper()
	m, err := ParseMessage(msg)
	if err != nil {
		t.Fatal(err)
	}
	o, err := schema.DecodeAs[*schema.CocoonEnvelope](slices.Clone(m.Envelope))
	if err != nil {
		t.Fatal(err)
	}
	edit(o)
	m.Envelope = schema.Marshal(o)
	return m.Encode()
}

func editHeader(t testing.TB, e *schema.CocoonEnvelope, edit func(*Header)) {
	h, err := ParseHeader(e.Header)
	if err != nil {
		t.Fatal(err)
	}
	edit(h)
	e.Header = h.Encode()
}

// TestRequestAttacks: what a proxy, another worker or a client does wrong with
// a request, and the name of the refusal.
func TestRequestAttacks(t *testing.T) {
	type world struct {
		a, b   *machine
		sa, sb *Session
		msg    []byte
	}
	for _, tt := range []struct {
		name   string
		attack func(t *testing.T, w *world) ([]byte, *Lane, time.Duration)
		want   error
	}{
		{"nothing", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) { return w.msg, w.a.lane, 0 }, nil},
		{"header changed: more output", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { editHeader(t, e, func(h *Header) { h.OutputTokens++ }) }), w.a.lane, 0
		}, ErrWrap},
		{"header changed: dearer", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { editHeader(t, e, func(h *Header) { h.MaxCoefficient = 1e6 }) }), w.a.lane, 0
		}, ErrWrap},
		{"header changed: another id", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { editHeader(t, e, func(h *Header) { h.RequestID[0]++ }) }), w.a.lane, 0
		}, ErrWrap},
		{"header of another network", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { editHeader(t, e, func(h *Header) { h.NetworkID[0]++ }) }), w.a.lane, 0
		}, ErrNetwork},
		{"own wrap changed", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { e.Wraps[0].Key[3]++ }), w.a.lane, 0
		}, ErrWrap},
		{"another's wrap changed", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { e.Wraps[1].Key[3]++ }), w.a.lane, 0
		}, ErrContent},
		{"another's wrap removed", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { e.Wraps = e.Wraps[:1] }), w.a.lane, 0
		}, ErrContent},
		{"wraps in another order", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { slices.Reverse(e.Wraps) }), w.a.lane, 0
		}, ErrContent},
		{"one statement twice", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { e.Wraps = append(e.Wraps, e.Wraps[0]) }), w.a.lane, 0
		}, ErrFormat},
		{"commitment changed", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { e.Commitment[0]++ }), w.a.lane, 0
		}, ErrCommitment},
		{"a different key per wrap", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			// The client itself is the attacker: it knows the session's key.
			return change(t, w.msg, func(e *schema.CocoonEnvelope) {
				h, _ := ParseEnvelope(schema.Marshal(e))
				aead, _ := wrapKey(h.headerHash(), w.sa.kek, w.sa.Worker.Statement)
				e.Wraps[0].Key = aead.Seal(nil, zeroNonce[:], bytes.Repeat([]byte{9}, 32), nil)
			}), w.a.lane, 0
		}, ErrCommitment},
		{"content changed", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { e.Ciphertext[9]++ }), w.a.lane, 0
		}, ErrContent},
		{"content cut", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) { e.Ciphertext = e.Ciphertext[:len(e.Ciphertext)-1] }), w.a.lane, 0
		}, ErrContent},
		{"a worker it is not for", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return w.msg, newMachine(t, 3).lane, 0
		}, ErrNotForUs},
		{"replay", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			if _, err := w.a.lane.Open(0, w.msg); err != nil {
				t.Fatal(err)
			}
			return w.msg, w.a.lane, 0
		}, ErrReplay},
		{"equal headers twice", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			h := header()
			_, first, _ := Seal(h, testRequest, nil, []*Session{w.sa})
			_, second, _ := Seal(h, []byte("another"), nil, []*Session{w.sa})
			if _, err := w.a.lane.Open(0, first); err != nil {
				t.Fatal(err)
			}
			return second, w.a.lane, 0
		}, ErrReplay},
		{"request id again under another header", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			h := header()
			_, first, _ := Seal(h, testRequest, nil, []*Session{w.sa})
			h.OutputTokens++
			_, second, _ := Seal(h, testRequest, nil, []*Session{w.sa})
			if _, err := w.a.lane.Open(0, first); err != nil {
				t.Fatal(err)
			}
			return second, w.a.lane, 0
		}, ErrReplay},
		{"replay over another connection", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			if _, err := w.a.lane.Open(0, w.msg); err != nil {
				t.Fatal(err)
			}
			return w.msg, w.a.ring.NewLane(0), 0
		}, ErrUnknown},
		{"session without a set-up", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			m, _ := ParseMessage(w.msg)
			m.Setups = nil
			return m.Encode(), w.a.lane, 0
		}, ErrUnknown},
		{"set-up of another key", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			// enc is for b's key; its session id stands in a's wrap.
			w.sa.ID, w.sa.enc = w.sb.ID, w.sb.enc
			_, msg := seal(t, w.sa)
			return msg, w.a.lane, 0
		}, ErrWrap},
		{"session set-up replayed after its end", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			if _, err := w.a.lane.Open(0, w.msg); err != nil {
				t.Fatal(err)
			}
			_, msg := seal(t, w.sa)
			return msg, w.a.lane, SessionLife
		}, ErrOver},
		{"session set-up replayed after the connection's end", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			if _, err := w.a.lane.Open(0, w.msg); err != nil {
				t.Fatal(err)
			}
			_, msg := seal(t, w.sa)
			w.a.lane.Close()
			return msg, w.a.ring.NewLane(0), 0
		}, ErrOver},
		{"session after its end, no set-up", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			if _, err := w.a.lane.Open(0, w.msg); err != nil {
				t.Fatal(err)
			}
			w.sa.confirm()
			_, msg := seal(t, w.sa)
			return msg, w.a.lane, SessionLife
		}, ErrUnknown},
		{"request 257 of a session", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			for range SessionRequests {
				_, msg := seal(t, w.sa)
				if _, err := w.a.lane.Open(0, msg); err != nil {
					t.Fatal(err)
				}
			}
			_, msg := seal(t, w.sa)
			return msg, w.a.lane, 0
		}, ErrUsedUp},
		{"key wiped", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			w.a.renew(t, time.Minute, [32]byte{9})
			return w.msg, w.a.lane, time.Minute + KeyLife
		}, ErrNotForUs},
		{"key not wiped yet", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			w.a.renew(t, time.Minute, [32]byte{9})
			return w.msg, w.a.lane, time.Minute + KeyLife - 1
		}, nil},
		{"padding that is not zero", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return change(t, w.msg, func(e *schema.CocoonEnvelope) {
				// Again the client: it knows the key.
				aead, _ := wrapKey(mustEnvelope(t, e).headerHash(), w.sa.kek, w.sa.Worker.Statement)
				key, err := aead.Open(nil, zeroNonce[:], e.Wraps[0].Key, nil)
				if err != nil {
					t.Fatal(err)
				}
				content, _ := gcm(key)
				env := mustEnvelope(t, e)
				aad := env.aad()
				plain, err := content.Open(nil, zeroNonce[:], e.Ciphertext, aad[:])
				if err != nil {
					t.Fatal(err)
				}
				plain[len(plain)-1] = 1
				e.Ciphertext = content.Seal(nil, zeroNonce[:], plain, aad[:])
			}), w.a.lane, 0
		}, ErrFormat},
		{"second encoding", func(t *testing.T, w *world) ([]byte, *Lane, time.Duration) {
			return append(slices.Clone(w.msg), 0, 0, 0, 0), w.a.lane, 0
		}, ErrFormat},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := &world{a: newMachine(t, 1), b: newMachine(t, 2)}
			w.sa, w.sb = w.a.session(t, 0), w.b.session(t, 0)
			_, w.msg = seal(t, w.sa, w.sb)
			msg, lane, now := tt.attack(t, w)
			if _, err := lane.Open(now, msg); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func mustEnvelope(t testing.TB, e *schema.CocoonEnvelope) *Envelope {
	t.Helper()
	out, err := ParseEnvelope(schema.Marshal(e))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A request id outlives the key it came under, as long as any key it could have
// been sealed to.
func TestReplayThroughAnotherStatement(t *testing.T) {
	a := newMachine(t, 1)
	old := a.session(t, 0)
	a.renew(t, time.Minute, [32]byte{11})
	fresh := a.session(t, time.Minute)
	a.renew(t, 6*time.Minute, [32]byte{12})
	_, both := seal(t, old, fresh)
	at := time.Minute + KeyLife - 1 // the last moment of the first key
	// The worker takes it under the first key, as if it had not shown the
	// second one yet.
	all := a.ring.keys
	a.ring.keys = []*ringKey{all[0], all[2]}
	if _, err := a.lane.Open(at, both); err != nil {
		t.Fatal(err)
	}
	a.ring.keys = all
	if _, err := a.lane.Open(at+1, both); !errors.Is(err, ErrReplay) {
		t.Errorf("%v, want ErrReplay", err)
	}
}

// TestAnswerAttacks: what proxies and other candidates do with an answer.
func TestAnswerAttacks(t *testing.T) {
	a, b := newMachine(t, 1), newMachine(t, 2)
	sa, sb := a.session(t, 0), b.session(t, 0)
	type take struct {
		call *Call
		acc  []byte
		w    *Writer
		o    *Opened
	}
	begin := func(t *testing.T) (x, y take) {
		c, msg := seal(t, sa, sb)
		for i, m := range []*machine{a, b} {
			o, err := m.lane.Open(0, msg)
			if err != nil {
				t.Fatal(err)
			}
			acc, w, err := o.Accept(m.sign)
			if err != nil {
				t.Fatal(err)
			}
			*[]*take{&x, &y}[i] = take{c, acc, w, o}
		}
		return x, y
	}
	end := [32]byte{1}
	frames := func(t *testing.T, w *Writer) (out [][]byte) {
		for _, f := range []Frame{{Head: []byte("h")}, {Body: []byte("one")}, {Body: []byte("two"), End: &end}} {
			box, err := w.Seal(f, nil)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, box)
		}
		return out
	}
	read := func(c *Call, acc []byte, boxes [][]byte) error {
		r, err := c.Accept(acc)
		if err != nil {
			return err
		}
		for _, b := range boxes {
			if _, _, err := r.Open(slices.Clone(b)); err != nil {
				return err
			}
		}
		return r.End()
	}
	reframe := func(b []byte, edit func(*schema.CocoonSealFrame)) []byte {
		o, err := schema.DecodeAs[*schema.CocoonSealFrame](slices.Clone(b))
		if err != nil {
			t.Fatal(err)
		}
		edit(o)
		return schema.Marshal(o)
	}
	reaccept := func(b []byte, edit func(*schema.CocoonAccepted)) []byte {
		o, err := schema.DecodeAs[*schema.CocoonAccepted](slices.Clone(b))
		if err != nil {
			t.Fatal(err)
		}
		edit(o)
		return schema.Marshal(o)
	}
	for _, tt := range []struct {
		name   string
		attack func(t *testing.T, x, y take) error
		want   error
	}{
		{"nothing", func(t *testing.T, x, y take) error { return read(x.call, x.acc, frames(t, x.w)) }, nil},
		{"ciphertext handed to two workers, the other one's frames", func(t *testing.T, x, y take) error {
			return read(x.call, x.acc, frames(t, y.w))
		}, ErrFrame},
		{"two acceptances", func(t *testing.T, x, y take) error {
			if err := read(x.call, x.acc, nil); !errors.Is(err, ErrCut) {
				return err
			}
			return read(x.call, y.acc, frames(t, y.w))
		}, ErrAcceptance},
		{"another candidate forges the answer", func(t *testing.T, x, y take) error {
			// y knows content key, header and x's acceptance, not x's session.
			key, err := responseKey(x.call.key, sb.kek, x.call.header.RequestID, x.o.Nonce, sa.Worker.Statement)
			if err != nil {
				t.Fatal(err)
			}
			w := &Writer{}
			w.bucket = 512
			if w.aead, err = gcm(key); err != nil {
				t.Fatal(err)
			}
			return read(x.call, x.acc, frames(t, w))
		}, ErrFrame},
		{"acceptance in another's name", func(t *testing.T, x, y take) error {
			forged := reaccept(y.acc, func(o *schema.CocoonAccepted) { o.Session, o.Statement = sa.ID, sa.Worker.Statement })
			return read(x.call, forged, frames(t, y.w))
		}, ErrAcceptance},
		{"acceptance of another request", func(t *testing.T, x, y take) error {
			other, _ := begin(t)
			return read(x.call, other.acc, frames(t, x.w))
		}, ErrAcceptance},
		{"nonce changed", func(t *testing.T, x, y take) error {
			return read(x.call, reaccept(x.acc, func(o *schema.CocoonAccepted) { o.Nonce[0]++ }), frames(t, x.w))
		}, ErrAcceptance},
		{"a worker it was not sealed to", func(t *testing.T, x, y take) error {
			return read(x.call, reaccept(x.acc, func(o *schema.CocoonAccepted) { o.Statement = [32]byte{99} }), nil)
		}, ErrAcceptance},
		{"no acceptance", func(t *testing.T, x, y take) error { return read(x.call, frames(t, x.w)[0], nil) }, ErrAcceptance},
		{"re-ordered", func(t *testing.T, x, y take) error {
			f := frames(t, x.w)
			return read(x.call, x.acc, [][]byte{f[1], f[0], f[2]})
		}, ErrFrame},
		{"left out", func(t *testing.T, x, y take) error {
			f := frames(t, x.w)
			return read(x.call, x.acc, [][]byte{f[0], f[2]})
		}, ErrFrame},
		{"repeated", func(t *testing.T, x, y take) error {
			f := frames(t, x.w)
			return read(x.call, x.acc, [][]byte{f[0], f[1], f[1], f[2]})
		}, ErrFrame},
		{"cut", func(t *testing.T, x, y take) error { return read(x.call, x.acc, frames(t, x.w)[:2]) }, ErrCut},
		{"cut, and called the end", func(t *testing.T, x, y take) error {
			f := frames(t, x.w)
			return read(x.call, x.acc, [][]byte{f[0], reframe(f[1], func(o *schema.CocoonSealFrame) { o.Final = true })})
		}, ErrFrame},
		{"the end hidden", func(t *testing.T, x, y take) error {
			f := frames(t, x.w)
			return read(x.call, x.acc, [][]byte{f[0], f[1], reframe(f[2], func(o *schema.CocoonSealFrame) { o.Final = false })})
		}, ErrFrame},
		{"extended", func(t *testing.T, x, y take) error {
			f := frames(t, x.w)
			return read(x.call, x.acc, append(f, f[1]))
		}, ErrEnded},
		{"changed", func(t *testing.T, x, y take) error {
			f := frames(t, x.w)
			return read(x.call, x.acc, [][]byte{reframe(f[0], func(o *schema.CocoonSealFrame) { o.Box[5]++ })})
		}, ErrFrame},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x, y := begin(t)
			if err := tt.attack(t, x, y); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("%v, want %v", err, tt.want)
			}
			// The sessions are good for 256 requests.
			if x.call != nil {
				for _, m := range []*machine{a, b} {
					for _, k := range m.ring.keys {
						for _, s := range k.sessions {
							s.uses = 0
						}
					}
				}
			}
		})
	}
}

// Set-ups and sessions are bounded for each connection, and what one proxy uses
// up another does not miss.
func TestSetupsAreFair(t *testing.T) {
	a := newMachine(t, 1)
	a.lane.tokens = 2
	other := a.ring.NewLane(0)
	open := func(l *Lane, now time.Duration) error {
		_, msg := seal(t, a.session(t, now))
		_, err := l.Open(now, msg)
		return err
	}
	for i, want := range []error{nil, nil, ErrTooMany} {
		if err := open(a.lane, 0); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("set-up %d: %v, want %v", i, err, want)
		}
	}
	if err := open(other, 0); err != nil {
		t.Errorf("another connection: %v", err)
	}
	if err := open(a.lane, setupEvery); err != nil {
		t.Errorf("later: %v", err)
	}
	a.lane.tokens, a.lane.open = setupBurst, laneSessions
	if err := open(a.lane, setupEvery); !errors.Is(err, ErrTooMany) {
		t.Errorf("too many sessions: %v", err)
	}
}

// A full memory asks for a new statement and refuses; it never forgets.
func TestFullMemory(t *testing.T) {
	a := newMachine(t, 1)
	s := a.session(t, 0)
	_, first := seal(t, s)
	if _, err := a.lane.Open(0, first); err != nil {
		t.Fatal(err)
	}
	key := a.ring.keys[0]
	fill := func(n int) {
		for key.remembered() < n {
			var id [32]byte
			rand.Read(id[:])
			key.requests[id] = struct{}{}
		}
	}
	if fill(maxRemembered/2 - 1); a.ring.Full() {
		t.Error("full too early")
	}
	if fill(maxRemembered / 2); !a.ring.Full() {
		t.Error("not full")
	}
	fill(maxRemembered)
	_, second := seal(t, s)
	if _, err := a.lane.Open(0, second); !errors.Is(err, ErrFull) {
		t.Errorf("%v, want ErrFull", err)
	}
	a.renew(t, time.Second, [32]byte{2})
	if _, err := a.lane.Open(time.Second, second); err != nil {
		t.Errorf("with a new statement: %v", err)
	}
	if _, err := a.lane.Open(time.Second, first); !errors.Is(err, ErrReplay) {
		t.Errorf("forgotten: %v", err)
	}
}

// Requests that come together with the same set-up are all served.
func TestConcurrentSetup(t *testing.T) {
	a := newMachine(t, 1)
	s := a.session(t, 0)
	var wg sync.WaitGroup
	for range 32 {
		_, msg := seal(t, s)
		wg.Go(func() {
			if _, err := a.lane.Open(0, msg); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if a.lane.open != 1 {
		t.Errorf("%d sessions", a.lane.open)
	}
}

func TestSessionTake(t *testing.T) {
	a := newMachine(t, 1)
	s := a.session(t, 0)
	for n := range SessionRequests {
		if low := n >= SessionRequests*3/4; s.Low(0) != low {
			t.Fatalf("low after %d requests: %v", n, !low)
		}
		if !s.Take(0) {
			t.Fatal("used up too early")
		}
	}
	if x := a.session(t, 0); x.Low(clientLife*7/8-1) || !x.Low(clientLife*7/8) {
		t.Error("low by time")
	}
	if s.Take(0) || a.session(t, 0).Take(clientLife) || !a.session(t, 0).Take(clientLife-1) {
		t.Error("a session's limits")
	}
}

func TestBuckets(t *testing.T) {
	last := 0
	for n := 1; n < 100000; n++ {
		b := Bucket(n)
		if b < n || b < last || b > max(1024, n+n/4+1) || Bucket(b) != b {
			t.Fatalf("Bucket(%d) = %d", n, b)
		}
		last = b
	}
	for _, size := range []func(int) int{Bucket, multiple(512)} {
		for _, n := range []int{0, 1, 507, 508, 509, 1019, 1020, 1021, 5000} {
			b := pad(append(make([]byte, 4), bytes.Repeat([]byte{1}, n)...), size)
			got, err := unpad(b, size)
			if err != nil || len(got) != n || size(len(b)) != len(b) {
				t.Errorf("%d bytes: %d, %v", n, len(got), err)
			}
			if n == 0 {
				continue
			}
			if _, err := unpad(append(b, make([]byte, 512)...), size); err == nil {
				t.Errorf("%d bytes: more padding than needed is taken", n)
			}
		}
	}
}

// Two requests whose lengths differ inside a bucket look alike.
func TestLengthsAreHidden(t *testing.T) {
	a := newMachine(t, 1)
	s := a.session(t, 0)
	size := func(n int) int {
		_, b, err := Seal(header(), make([]byte, n), nil, []*Session{s})
		if err != nil {
			t.Fatal(err)
		}
		return len(b)
	}
	if size(10) != size(900) || size(2100) != size(2400) || size(900) == size(2100) {
		t.Error("lengths show")
	}
}

func TestCredit(t *testing.T) {
	var c Credit
	if !c.MayRetry() || c.Give() || c.Given() {
		t.Error("credit before the acceptance")
	}
	if !c.Accepted() || c.Accepted() || c.MayRetry() {
		t.Error("acceptances")
	}
	if !c.Give() || c.Give() || !c.Given() || !c.End() || !c.End() || c.Give() || !c.Given() {
		t.Error("consent")
	}
	var d Credit
	d.Accepted()
	if d.End() || d.Give() || d.Given() {
		t.Error("no consent")
	}
}

func TestHeaderRules(t *testing.T) {
	for name, edit := range map[string]func(*Header){
		"no id":           func(h *Header) { h.RequestID = [32]byte{} },
		"no model":        func(h *Header) { h.Model = "" },
		"negative price":  func(h *Header) { h.MaxCoefficient = -1 },
		"negative output": func(h *Header) { h.OutputTokens = -1 },
		"no time":         func(h *Header) { h.Timeout = 0 },
		"bucket 500":      func(h *Header) { h.AnswerBucket = 500 },
		"bucket 1536":     func(h *Header) { h.AnswerBucket = 1536 },
		"bucket 32768":    func(h *Header) { h.AnswerBucket = 32768 },
	} {
		h := header()
		edit(&h)
		if _, err := ParseHeader(h.Encode()); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
