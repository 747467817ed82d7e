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
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/adnl/keys"
)

// plain is a cipher that changes nothing.
type plain struct{}

func (plain) XORKeyStream(dst, src []byte) { copy(dst, src) }

// packet frames a payload.
func packet(payload []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(32+len(payload)+32))
	b = append(b, make([]byte, 32)...)
	b = append(b, payload...)
	sum := sha256.Sum256(b[4:])
	return append(b, sum[:]...)
}

// FuzzPackets reads any bytes as packets and hands what comes out to a
// connection.
func FuzzPackets(f *testing.F) {
	f.Add(packet(nil))
	f.Add(packet(append(binary.LittleEndian.AppendUint32(nil, tlAnswer), make([]byte, 40)...)))
	f.Add(packet(append(binary.LittleEndian.AppendUint32(nil, tlAuthNonce), 3, 1, 2, 3)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 4096
		ours, theirs := net.Pipe()
		defer theirs.Close()
		go io.Copy(io.Discard, theirs)
		c := &conn{tcp: ours, w: plain{}, ours: make(ed25519.PrivateKey, ed25519.PrivateKeySize), pending: map[[32]byte]chan []byte{}, done: make(chan struct{})}
		defer c.close(ErrUnreachable)
		r := &packetReader{r: bufio.NewReader(bytes.NewReader(b)), stream: plain{}, limit: limit}
		for {
			p, err := r.next()
			if err != nil {
				return
			}
			if len(p) > limit+1024 {
				t.Fatalf("a packet of %d bytes", len(p))
			}
			if c.handle(p) != nil {
				return
			}
		}
	})
}

// ending is what a server does after it has done its worst.
type ending bool

const (
	hangUp ending = false
	stay   ending = true
)

// lowServer accepts one connection, does the handshake as a liteserver would
// and goes on with do.
func lowServer(t *testing.T, do func(c net.Conn, w cipher.Stream) ending) (Server, *Config) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := &Config{GlobalConfig: []byte(mainnetShape), Timeout: 10 * time.Second}
	if _, _, err := cfg.prepare(); err != nil {
		t.Fatal(err)
	}
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			var hello [256]byte
			if _, err := io.ReadFull(theirs, hello[:]); err != nil {
				return
			}
			shared, err := keys.SharedKey(private, hello[32:64])
			if err != nil {
				t.Error(err)
				return
			}
			stream, err := keys.BuildSharedCipher(shared, hello[64:96])
			if err != nil {
				t.Error(err)
				return
			}
			stream.XORKeyStream(hello[96:], hello[96:])
			w, err := keys.NewCipherCtr(hello[96:128], hello[160:176])
			if err != nil {
				t.Error(err)
				return
			}
			read := make(chan struct{})
			go func() { io.Copy(io.Discard, theirs); close(read) }()
			if do(theirs, w) == stay {
				<-read // until the client has had enough
			}
		}()
		return ours, nil
	}
	return Server{Address: "test", PublicKey: [32]byte(public)}, cfg
}

// TestLowLies breaks the rules below the queries.
func TestLowLies(t *testing.T) {
	send := func(c net.Conn, w cipher.Stream, b []byte) {
		w.XORKeyStream(b, b)
		c.Write(b)
	}
	for name, tt := range map[string]struct {
		do   func(c net.Conn, w cipher.Stream) ending
		want error
	}{
		"hangs up at once": {func(net.Conn, cipher.Stream) ending { return hangUp }, ErrUnreachable},
		"hangs up later":   {func(c net.Conn, w cipher.Stream) ending { send(c, w, packet(nil)); return hangUp }, ErrUnreachable},
		"announces a giant": {func(c net.Conn, w cipher.Stream) ending {
			send(c, w, packet(nil))
			send(c, w, binary.LittleEndian.AppendUint32(nil, 1<<31))
			return stay
		}, ErrTooLarge},
		"wrong check sum": {func(c net.Conn, w cipher.Stream) ending {
			send(c, w, packet(nil))
			b := packet([]byte("anything"))
			b[40] ^= 1
			send(c, w, b)
			return stay
		}, ErrMalformed},
		"too short": {func(c net.Conn, w cipher.Stream) ending {
			send(c, w, packet(nil))
			send(c, w, binary.LittleEndian.AppendUint32(nil, 3))
			return stay
		}, ErrMalformed},
		"noise instead of the handshake": {func(c net.Conn, w cipher.Stream) ending {
			noise := make([]byte, 200)
			rand.Read(noise)
			c.Write(noise)
			return stay
		}, ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			server1, cfg := lowServer(t, tt.do)
			s := &server{Server: server1, cfg: cfg}
			defer s.close()
			if _, err := s.send(t.Context(), []byte{1, 2, 3, 4}, cfg.Timeout); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}
