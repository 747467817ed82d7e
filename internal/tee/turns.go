package tee

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// ErrBusy is the refusal of a peer whose evidence was not looked at in time.
var ErrBusy = errors.New("verifying the peer's evidence had to wait too long")

// Turns lets one appraisal run per core, and one per peer address, so that
// nobody gets more of us by sending more evidence.
type Turns struct {
	cores chan struct{}

	mu     sync.Mutex
	byAddr map[string]*turn
}

type turn struct {
	place chan struct{}
	users int
}

// NewTurns makes the turns of a machine of so many cores.
func NewTurns(cores int) *Turns {
	return &Turns{cores: make(chan struct{}, cores), byAddr: map[string]*turn{}}
}

// Take waits for a turn of the peer at addr, host:port, which is a turn of its
// own for each host. done gives it back. ErrBusy: ctx ended first.
func (t *Turns) Take(ctx context.Context, addr string) (done func(), err error) {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		addr = host
	}
	t.mu.Lock()
	own := t.byAddr[addr]
	if own == nil {
		own = &turn{place: make(chan struct{}, 1)}
		t.byAddr[addr] = own
	}
	own.users++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if own.users--; own.users == 0 {
			delete(t.byAddr, addr)
		}
	}
	select {
	case own.place <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("%w: %v", ErrBusy, context.Cause(ctx))
	}
	select {
	case t.cores <- struct{}{}:
	case <-ctx.Done():
		<-own.place
		leave()
		return nil, fmt.Errorf("%w: %v", ErrBusy, context.Cause(ctx))
	}
	return func() {
		<-t.cores
		<-own.place
		leave()
	}, nil
}
