package node

import (
	"errors"
	"net"
	"testing"
)

// TestBounded: a connection too many is taken once another one has ended, and
// closing ends whoever waits.
func TestBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newBounded(inner, 2)
	accepted, ended := make(chan net.Conn), make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 4 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, second := <-accepted, <-accepted
	if n := len(l.places); n != 2 {
		t.Fatalf("%d places taken", n)
	}
	first.Close()
	first.Close() // twice gives one place back
	third := <-accepted
	if n := len(l.places); n != 2 {
		t.Errorf("%d places taken", n)
	}
	l.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	second.Close()
	third.Close()
	if n := len(l.places); n != 0 {
		t.Errorf("%d places taken after all", n)
	}
}
