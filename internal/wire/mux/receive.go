package mux

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

const (
	// maxErrorText is how much of an error's text is sent or kept.
	maxErrorText = 1 << 10

	// smallRead is the read buffer that each connection has, bigRead the one
	// that it borrows while reads fill what they are given. A TLS record fills
	// the big one.
	smallRead = 2 << 10
	bigRead   = 16 << 10
	// firstPart is how much is allocated for a packet on its length alone.
	// More comes as its bytes do.
	firstPart = 16 << 10
)

// source reads from the connection through a small buffer of its own, and
// through a big borrowed one after reads that were full: then more is waiting.
// So a quiet connection waits with the small one.
type source struct {
	conn   *Conn
	buf    []byte // read and not used yet; in small or *big
	big    *[]byte
	busy   bool
	small  [smallRead]byte
	header [headerSize]byte
}

var bigBuffers = sync.Pool{New: func() any { return new([]byte(make([]byte, bigRead))) }}

// readFull fills p.
func (s *source) readFull(p []byte) error {
	for len(p) > 0 {
		if len(s.buf) == 0 {
			size := smallRead
			if s.busy {
				size = bigRead
			}
			if len(p) >= size { // no need to go through a buffer
				n, err := s.read(p)
				if err != nil {
					return err
				}
				s.busy = n == len(p)
				p = p[n:]
				continue
			}
			if err := s.fill(); err != nil {
				return err
			}
		}
		n := copy(p, s.buf)
		s.buf, p = s.buf[n:], p[n:]
	}
	return nil
}

func (s *source) fill() error {
	p := s.small[:]
	if s.busy {
		if s.big == nil {
			s.big = bigBuffers.Get().(*[]byte)
		}
		p = *s.big
	} else {
		s.release()
	}
	n, err := s.read(p)
	s.buf, s.busy = p[:n], n == len(p)
	return err
}

// release gives the big buffer back.
func (s *source) release() {
	if s.big != nil {
		bigBuffers.Put(s.big)
		s.big, s.buf = nil, nil
	}
}

// read reads at least one byte. An error that comes with bytes comes again
// without.
func (s *source) read(p []byte) (int, error) {
	for range 100 {
		n, err := s.conn.nc.Read(p)
		if n > 0 {
			s.conn.heard.Store(s.conn.now())
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// packet reads one packet and returns its payload, which is the caller's.
func (s *source) packet(seqno uint32) ([]byte, error) {
	if err := s.readFull(s.header[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(s.header[:])
	if n < wire.MinPacket || n > wire.MaxPacket {
		return nil, violation("packet length %d", n)
	}
	if got := binary.LittleEndian.Uint32(s.header[4:]); got != seqno {
		return nil, violation("packet number %d where %d is due", int32(got), int32(seqno))
	}
	p := make([]byte, min(n, firstPart))
	for have := 0; ; {
		if err := s.readFull(p[have:]); err != nil {
			return nil, err
		}
		if have = len(p); have == int(n) {
			return p, nil
		}
		more := make([]byte, min(int(n), 2*have))
		copy(more, p)
		p = more
	}
}

// read is the reader's goroutine; it returns why nothing more can be read.
func (c *Conn) read(ctx context.Context) error {
	defer c.in.release()
	for seqno := uint32(0); ; seqno++ {
		select {
		case <-c.done:
			return c.err
		default:
		}
		p, err := c.in.packet(seqno)
		if err != nil {
			return c.ioError(err)
		}
		if seqno == 0 {
			err = c.greet(p)
		} else {
			err = c.dispatch(ctx, p)
		}
		if err != nil {
			return err
		}
	}
}

// greet takes the peer's first packet. The dialer does not compare the id, as
// the reference does not.
func (c *Conn) greet(p []byte) error {
	r := tl.NewReader(p)
	kind, id := r.ID(), r.Int64()
	want := idConnected
	if c.cfg.Side == Acceptor {
		want = idConnect
	}
	if r.Finish() != nil || kind != want {
		return violation("the first packet is not the handshake")
	}
	c.spoken.Store(true)
	if c.cfg.Side == Acceptor {
		c.out.first(idConnected, id)
	}
	c.out.allow()
	close(c.ready)
	return nil
}

// dispatch takes any later packet.
func (c *Conn) dispatch(ctx context.Context, p []byte) error {
	r := tl.NewReader(p)
	switch kind := r.ID(); kind {
	case idPacket:
		data := r.Bytes()
		if err := r.Finish(); err != nil {
			return violation("packet: %w", err)
		}
		c.cfg.Handler.Message(c, data)
	case idQuery:
		id, data := r.Int64(), r.Bytes()
		if err := r.Finish(); err != nil {
			return violation("query: %w", err)
		}
		c.serve(ctx, id, data)
	case idQueryAnswer:
		id, data := r.Int64(), r.Bytes()
		if err := r.Finish(); err != nil {
			return violation("query answer: %w", err)
		}
		c.answered(id, answer{data: data})
	case idQueryError:
		id, code, text := r.Int64(), r.Int32(), r.Bytes()
		if err := r.Finish(); err != nil {
			return violation("query error: %w", err)
		}
		text = text[:min(len(text), maxErrorText)]
		c.answered(id, answer{err: &wire.Error{Code: wire.Code(code), Text: string(text)}})
	case idPing, idPong, idConnect, idConnected:
		id := r.Int64()
		if err := r.Finish(); err != nil {
			return violation("control packet: %w", err)
		}
		if kind == idPing {
			c.out.control(idPong, id)
		}
	default:
		return violation("unknown kind of packet")
	}
	return nil
}

// ioError names what an error of the underlying connection means here.
func (c *Conn) ioError(err error) error {
	switch {
	case errors.Is(err, ErrViolation):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrClosedPipe), errors.Is(err, net.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		if !c.spoken.Load() {
			return fmt.Errorf("%w (%w)", ErrRefused, err)
		}
		return fmt.Errorf("%w (%w)", ErrPeerGone, err)
	}
	return fmt.Errorf("mux: connection failed: %w", err)
}
