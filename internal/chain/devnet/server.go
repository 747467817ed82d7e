//go:build !tee

package devnet

import (
	"bufio"
	"context"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/adnl"
	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
)

// Bounds of the port. Answers are bounded by what clients read at all.
const (
	maxConnections  = 256
	maxQuerySize    = 256 << 10
	maxAnswerSize   = 16<<20 - 1024
	maxInFlight     = 512 // queries of one connection, most of them waiting for a block; the rest stays unread
	handshakeTime   = 10 * time.Second
	connectionQuiet = 5 * time.Minute
	writeTime       = 10 * time.Second
)

var queryTag = tl.CRC("adnl.message.query query_id:int256 query:bytes = adnl.Message")

// answerFunc answers one query. It is called in a goroutine of its own.
type answerFunc func(ctx context.Context, query tl.Serializable) tl.Serializable

// server speaks ADNL over TCP, the transport of the liteserver protocol.
type server struct {
	ln     net.Listener
	key    ed25519.PrivateKey
	keyID  []byte
	answer answerFunc
	log    *slog.Logger

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

func newServer(ln net.Listener, key ed25519.PrivateKey, answer answerFunc, log *slog.Logger) *server {
	id, err := nodeID(key.Public().(ed25519.PublicKey))
	if err != nil {
		panic(err) // the key's size is fixed
	}
	return &server{ln: ln, key: key, keyID: id, answer: answer, log: log, conns: map[net.Conn]bool{}}
}

func (s *server) addr() net.Addr { return s.ln.Addr() }

// run accepts clients until ctx ends, and returns when all of them are gone.
func (s *server) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.close()
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			s.log.Warn("accepting a connection failed", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond): // out of descriptors, perhaps
			}
			continue
		}
		if !s.track(conn) {
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer s.untrack(conn)
			if err := s.serve(ctx, conn); err != nil {
				s.log.Debug("liteserver connection ended", "error", err)
			}
		})
	}
}

func (s *server) track(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) >= maxConnections {
		return false
	}
	s.conns[conn] = true
	return true
}

func (s *server) untrack(conn net.Conn) {
	conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// close stops accepting and cuts every connection.
func (s *server) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	return s.ln.Close()
}

// drop cuts every connection, for a network that is no more.
func (s *server) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

func newReader(conn net.Conn) *bufio.Reader { return bufio.NewReaderSize(conn, 4<<10) }

// peer is one client's encrypted connection.
type peer struct {
	conn net.Conn
	r    *bufio.Reader
	in   cipher.Stream

	mu  sync.Mutex
	out cipher.Stream
}

func (s *server) serve(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn.SetReadDeadline(time.Now().Add(handshakeTime))
	p, err := s.handshake(conn)
	if err != nil {
		return err
	}
	if err := p.write(nil); err != nil {
		return err
	}
	slots := make(chan struct{}, maxInFlight)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for {
		conn.SetReadDeadline(time.Now().Add(connectionQuiet))
		data, err := p.read()
		if err != nil {
			return err
		}
		msg, err := parseTL(data)
		if err != nil {
			// A query of another schema deserves an answer.
			if len(data) < 36 || binary.LittleEndian.Uint32(data) != queryTag {
				return err
			}
			refusal := lsError(codeError, "SIMULATED chain: the query is not known or cut short")
			if err := p.send(adnl.MessageAnswer{ID: data[4:36], Data: refusal}); err != nil {
				return err
			}
			continue
		}
		switch m := msg.(type) {
		case adnl.MessageQuery:
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := p.send(adnl.MessageAnswer{ID: m.ID, Data: s.safeAnswer(ctx, m.Data)}); err != nil {
					conn.Close()
				}
			})
		case liteclient.TCPPing:
			err = p.send(liteclient.TCPPong{RandomID: m.RandomID})
		case liteclient.TCPAuthenticate:
			err = p.send(liteclient.TCPAuthenticationNonce{Nonce: make([]byte, 32)})
		case liteclient.TCPAuthenticationComplete:
		default:
			return fmt.Errorf("unexpected message %T", msg)
		}
		if err != nil {
			return err
		}
	}
}

// safeAnswer turns a panic over foreign bytes into an error answer.
func (s *server) safeAnswer(ctx context.Context, data any) (res tl.Serializable) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a query made the server panic", "query", fmt.Sprintf("%T", data), "panic", p)
			res = ton.LSError{Code: -400, Text: "internal error"}
		}
	}()
	q, ok := data.(liteclient.LiteServerQuery)
	if !ok {
		return ton.LSError{Code: -400, Text: "not a liteserver query"}
	}
	return s.answer(ctx, q.Data)
}

// parseTL reads one boxed object of the schema tonutils registers.
func parseTL(data []byte) (msg tl.Serializable, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("message cannot be parsed: %v", p)
		}
	}()
	_, err = tl.Parse(&msg, data, true)
	return msg, err
}

// handshake reads the client's first 256 bytes: our key id, its one-time key,
// and the secrets of both directions encrypted for us.
func (s *server) handshake(conn net.Conn) (*peer, error) {
	p := &peer{conn: conn, r: newReader(conn)}
	var b [256]byte
	if _, err := io.ReadFull(p.r, b[:]); err != nil {
		return nil, err
	}
	if string(b[:32]) != string(s.keyID) {
		return nil, errors.New("handshake is for another key")
	}
	shared, err := keys.SharedKey(s.key, b[32:64])
	if err != nil {
		return nil, err
	}
	sum := b[64:96]
	stream, err := keys.BuildSharedCipher(shared, sum)
	if err != nil {
		return nil, err
	}
	secrets := b[96:]
	stream.XORKeyStream(secrets, secrets)
	if h := sha256.Sum256(secrets); string(h[:]) != string(sum) {
		return nil, errors.New("handshake has a wrong check sum")
	}
	if p.out, err = keys.NewCipherCtr(secrets[:32], secrets[64:80]); err != nil {
		return nil, err
	}
	p.in, err = keys.NewCipherCtr(secrets[32:64], secrets[80:96])
	return p, err
}

// read returns the payload of the next packet: 32-bit length; nonce, payload
// and SHA-256 of both.
func (p *peer) read() ([]byte, error) {
	var h [4]byte
	if _, err := io.ReadFull(p.r, h[:]); err != nil {
		return nil, err
	}
	p.in.XORKeyStream(h[:], h[:])
	n := binary.LittleEndian.Uint32(h[:])
	if n < 64 || n > maxQuerySize {
		return nil, fmt.Errorf("packet of %d bytes", n)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(p.r, b); err != nil {
		return nil, err
	}
	p.in.XORKeyStream(b, b)
	if sum := sha256.Sum256(b[:n-32]); string(sum[:]) != string(b[n-32:]) {
		return nil, errors.New("packet has a wrong check sum")
	}
	return b[32 : n-32], nil
}

func (p *peer) send(m tl.Serializable) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("answer cannot be written: %v", v)
		}
	}()
	b, err := tl.Serialize(m, true)
	if err != nil {
		return err
	}
	if a, ok := m.(adnl.MessageAnswer); ok && len(b) > maxAnswerSize {
		if b, err = tl.Serialize(adnl.MessageAnswer{ID: a.ID, Data: ton.LSError{Code: -400, Text: "the answer is too large"}}, true); err != nil {
			return err
		}
	}
	return p.write(b)
}

func (p *peer) write(payload []byte) error {
	b := make([]byte, 4+32, 4+64+len(payload))
	binary.LittleEndian.PutUint32(b, uint32(64+len(payload)))
	rand.Read(b[4:])
	b = append(b, payload...)
	sum := sha256.Sum256(b[4:])
	b = append(b, sum[:]...)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.out.XORKeyStream(b, b)
	p.conn.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := p.conn.Write(b)
	return err
}
