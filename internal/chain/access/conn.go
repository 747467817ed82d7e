package access

import (
	"bufio"
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/xssnick/tonutils-go/adnl/keys"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tl"
)

// TL constructors of ADNL over TCP, little-endian on the wire.
var (
	tlQuery     = tl.CRC("adnl.message.query query_id:int256 query:bytes = adnl.Message")
	tlAnswer    = tl.CRC("adnl.message.answer query_id:int256 answer:bytes = adnl.Message")
	tlAuthNonce = tl.CRC("tcp.authentificationNonce nonce:bytes = tcp.Message")
)

// writeTimeout bounds a write to a peer that no longer reads.
const writeTimeout = 5 * time.Second

// conn is one ADNL connection over TCP to a liteserver. A goroutine reads it
// until it breaks; queries may run at the same time.
type conn struct {
	tcp   net.Conn
	limit int
	ours  ed25519.PrivateKey
	nonce [32]byte // ours, for the authentication

	wmu sync.Mutex // guards w and the order of packets
	w   cipher.Stream

	mu      sync.Mutex
	pending map[[32]byte]chan []byte
	err     error // why it broke; set before done is closed
	done    chan struct{}
}

// dial connects, proves that the server holds key, and starts the reader.
func dial(ctx context.Context, cfg *Config, s Server) (*conn, error) {
	_, ours, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	tcp, err := cfg.Dial(ctx, "tcp", s.Address)
	if err != nil {
		return nil, noted(ErrUnreachable, err)
	}
	// The handshake obeys ctx.
	stop := context.AfterFunc(ctx, func() { tcp.SetDeadline(time.Unix(1, 0)) })
	c := &conn{tcp: tcp, limit: cfg.MaxAnswer, ours: ours, pending: map[[32]byte]chan []byte{}, done: make(chan struct{})}
	r, err := c.handshake(s.PublicKey)
	if !stop() || err != nil {
		tcp.Close()
		if ctx.Err() != nil {
			return nil, noted(ErrStalled, "no handshake in time")
		}
		return nil, noted(ErrUnreachable, fmt.Sprintf("handshake: %v (wrong key in the configuration?)", err))
	}
	go c.read(r)
	return c, nil
}

// handshake sends the one handshake packet and waits for the empty answer.
func (c *conn) handshake(serverKey [32]byte) (*packetReader, error) {
	var secret [160]byte
	rand.Read(secret[:])
	rand.Read(c.nonce[:])
	read, err := keys.NewCipherCtr(secret[:32], secret[64:80])
	if err != nil {
		return nil, err
	}
	if c.w, err = keys.NewCipherCtr(secret[32:64], secret[80:96]); err != nil {
		return nil, err
	}
	id, err := tl.Hash(keys.PublicKeyED25519{Key: serverKey[:]})
	if err != nil {
		return nil, err
	}
	shared, err := keys.SharedKey(c.ours, serverKey[:])
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(secret[:])
	stream, err := keys.BuildSharedCipher(shared, sum[:])
	if err != nil {
		return nil, err
	}
	stream.XORKeyStream(secret[:], secret[:])
	hello := bytes.Join([][]byte{id, c.ours.Public().(ed25519.PublicKey), sum[:], secret[:]}, nil)
	if _, err := c.tcp.Write(hello); err != nil {
		return nil, err
	}
	r := &packetReader{r: bufio.NewReader(c.tcp), stream: read, limit: c.limit}
	if _, err := r.next(); err != nil {
		return nil, err
	}
	// Some servers want to be asked for the authentication of clients; any key
	// will do.
	hi, err := tl.Serialize(liteclient.TCPAuthenticate{Nonce: c.nonce[:]}, true)
	if err != nil {
		return nil, err
	}
	return r, c.write(hi)
}

// write sends one packet: length, nonce, payload, check sum, all encrypted.
func (c *conn) write(payload []byte) error {
	packet := make([]byte, 4+32, 4+32+len(payload)+32)
	binary.LittleEndian.PutUint32(packet, uint32(32+len(payload)+32))
	rand.Read(packet[4:])
	packet = append(packet, payload...)
	sum := sha256.Sum256(packet[4:])
	packet = append(packet, sum[:]...)
	c.wmu.Lock()
	defer c.wmu.Unlock()
	c.w.XORKeyStream(packet, packet)
	c.tcp.SetWriteDeadline(time.Now().Add(writeTimeout))
	_, err := c.tcp.Write(packet)
	return err
}

// read hands answers to their queries until the connection breaks.
func (c *conn) read(r *packetReader) {
	for {
		p, err := r.next()
		if err == nil {
			err = c.handle(p)
		}
		if err != nil {
			c.close(err)
			return
		}
	}
}

func (c *conn) handle(p []byte) error {
	if len(p) < 4 {
		return nil
	}
	switch body := p[4:]; binary.LittleEndian.Uint32(p) {
	case tlAnswer:
		if len(body) < 32 {
			return noted(ErrMalformed, "short answer")
		}
		answer, _, err := tl.FromBytesNoCopy(body[32:])
		if err != nil {
			return noted(ErrMalformed, err)
		}
		c.mu.Lock()
		ch := c.pending[[32]byte(body)]
		delete(c.pending, [32]byte(body))
		c.mu.Unlock()
		if ch != nil {
			ch <- answer // never blocks: one place, one answer
		}
	case tlAuthNonce:
		theirs, _, err := tl.FromBytesNoCopy(body)
		if err != nil || len(theirs) > 512 {
			return noted(ErrMalformed, "authentication")
		}
		done, err := tl.Serialize(liteclient.TCPAuthenticationComplete{
			PublicKey: keys.PublicKeyED25519{Key: c.ours.Public().(ed25519.PublicKey)},
			Signature: ed25519.Sign(c.ours, append(bytes.Clone(c.nonce[:]), theirs...)),
		}, true)
		if err != nil {
			return err
		}
		return c.write(done)
	}
	return nil
}

// query sends a liteserver query and returns the serialized answer.
func (c *conn) query(ctx context.Context, query []byte) ([]byte, error) {
	var id [32]byte
	rand.Read(id[:])
	inner, err := tl.AppendBytes(binary.LittleEndian.AppendUint32(nil, tlLiteQuery), query)
	if err != nil {
		return nil, err
	}
	packet, err := tl.AppendBytes(append(binary.LittleEndian.AppendUint32(nil, tlQuery), id[:]...), inner)
	if err != nil {
		return nil, err
	}
	ch := make(chan []byte, 1)
	c.mu.Lock()
	if c.err != nil {
		err := c.err
		c.mu.Unlock()
		return nil, err
	}
	c.pending[id] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, id)
		c.mu.Unlock()
	}()
	if err := c.write(packet); err != nil {
		c.close(noted(ErrUnreachable, err))
		return nil, c.err // why it broke first
	}
	select {
	case answer := <-ch:
		return answer, nil
	case <-c.done:
		return nil, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var tlLiteQuery = tl.CRC("liteServer.query data:bytes = Object")

// close breaks the connection for the reason err, which waiting queries get.
func (c *conn) close(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		close(c.done)
		c.tcp.Close()
	}
}

// packetReader reads decrypted, checked payloads of at most limit bytes.
type packetReader struct {
	r      *bufio.Reader
	stream cipher.Stream
	limit  int
}

func (p *packetReader) next() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return nil, noted(ErrUnreachable, err)
	}
	p.stream.XORKeyStream(head[:], head[:])
	size := binary.LittleEndian.Uint32(head[:])
	if size < 64 {
		return nil, noted(ErrMalformed, fmt.Sprintf("packet of %d bytes", size))
	}
	if uint64(size) > uint64(p.limit)+1024 { // frame and envelope
		return nil, noted(ErrTooLarge, fmt.Sprintf("%d bytes announced, %d allowed", size, p.limit))
	}
	// The buffer grows with what arrives, not with what is announced.
	var buf bytes.Buffer
	if _, err := io.CopyN(&buf, p.r, int64(size)); err != nil {
		return nil, noted(ErrUnreachable, err)
	}
	b := buf.Bytes()
	p.stream.XORKeyStream(b, b)
	body, sum := b[:size-32], [32]byte(b[size-32:])
	if sha256.Sum256(body) != sum {
		return nil, noted(ErrMalformed, "wrong check sum of a packet")
	}
	return body[32:], nil
}
