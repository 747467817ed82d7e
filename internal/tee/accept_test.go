package tee

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// source is a net.Listener whose next results a test chooses.
type source struct {
	next chan func() (net.Conn, error)
	done chan struct{}
	once sync.Once
}

func newSource() *source {
	return &source{next: make(chan func() (net.Conn, error)), done: make(chan struct{})}
}

func (s *source) Accept() (net.Conn, error) {
	select {
	case f := <-s.next:
		return f()
	case <-s.done:
		return nil, net.ErrClosed
	}
}

func (s *source) Addr() net.Addr { return &net.UnixAddr{Name: "test", Net: "unix"} }
func (s *source) Close() error   { s.once.Do(func() { close(s.done) }); return nil }

// connect hands a new connection to the acceptor and returns the far end.
func (s *source) connect() net.Conn {
	near, far := net.Pipe()
	s.next <- func() (net.Conn, error) { return far, nil }
	return near
}

func pass(_ context.Context, nc net.Conn, _ func()) (*Conn, error) { return &Conn{Conn: nc}, nil }

// TestAcceptErrors: a listener that fails for a while is tried again, with
// growing pauses.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSource()
		a := NewAcceptor(s, pass, Limits{}, nil)
		start := time.Now()
		for range 10 {
			s.next <- func() (net.Conn, error) { return nil, errors.New("too many open files") }
		}
		near := s.connect()
		conn, err := a.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// 5, 10, ... 640 ms, then a second each.
		if d := time.Since(start); d != 5*(1<<8-1)*time.Millisecond+2*time.Second {
			t.Errorf("waited %v", d)
		}
		conn.Close()
		near.Close()
		if a.Addr().String() != "test" {
			t.Errorf("address %v", a.Addr())
		}
		s.next <- func() (net.Conn, error) { return nil, errors.New("too many open files") }
		if err := errors.Join(a.Close(), a.Close()); err != nil { // ends the pause too
			t.Error(err)
		}
	})
}

// TestEviction: the oldest idle attempt makes room; those that have shown
// effort stay, and then newcomers are refused.
func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running atomic.Int32
		s := newSource()
		a := NewAcceptor(s, func(ctx context.Context, nc net.Conn, proven func()) (*Conn, error) {
			running.Add(1)
			defer running.Add(-1)
			b := make([]byte, 1)
			for {
				if _, err := nc.Read(b); err != nil {
					return nil, err
				}
				proven()
			}
		}, Limits{Pending: 3, Timeout: time.Hour}, nil)
		open := func(c net.Conn) bool {
			t.Helper()
			c.SetReadDeadline(time.Now().Add(time.Millisecond))
			_, err := c.Read(make([]byte, 1))
			var timeout net.Error
			return errors.As(err, &timeout) && timeout.Timeout()
		}
		first, second, third := s.connect(), s.connect(), s.connect()
		first.Write([]byte("effort"))
		synctest.Wait()
		fourth := s.connect()
		synctest.Wait()
		if !open(first) || open(second) || !open(third) || !open(fourth) {
			t.Error("not the oldest idle attempt was pushed out")
		}
		for _, c := range []net.Conn{third, fourth} {
			c.Write([]byte("effort"))
		}
		synctest.Wait()
		fifth := s.connect()
		synctest.Wait()
		if open(fifth) || !open(first) || !open(third) || !open(fourth) {
			t.Error("an attempt that had shown effort was pushed out")
		}
		if n := running.Load(); n != 3 {
			t.Errorf("%d handshakes under way, want 3", n)
		}
		a.Close()
		if n := running.Load(); n != 0 {
			t.Errorf("%d handshakes outlive Close", n)
		}
		if open(first) {
			t.Error("a connection outlives Close")
		}
	})
}

// TestAcceptEnds: with its context, and with the acceptor.
func TestAcceptEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := NewAcceptor(newSource(), pass, Limits{}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		done := make(chan error)
		go func() { _, err := a.Accept(t.Context()); done <- err }()
		synctest.Wait()
		a.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v", err)
		}
	})
}
