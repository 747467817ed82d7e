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
// own for each host, and for a core. done gives both back. ErrBusy: ctx ended
// first.
func (t *Turns) Take(ctx context.Context, addr string) (done func(), err error) {
	leave, err := t.Alone(ctx, addr)
	if err != nil {
		return nil, err
	}
	free, err := t.Core(ctx)
	if err != nil {
		leave()
		return nil, err
	}
	return func() {
		free()
		leave()
	}, nil
}

// Alone waits for a turn of the peer at addr as Take does, without a core: who
// has to wait for others, a newer block for example, keeps none from them.
func (t *Turns) Alone(ctx context.Context, addr string) (done func(), err error) {
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
	if err := enter(ctx, own.place); err != nil {
		leave()
		return nil, err
	}
	return func() {
		<-own.place
		leave()
	}, nil
}

// Core waits for a core.
func (t *Turns) Core(ctx context.Context) (done func(), err error) {
	if err := enter(ctx, t.cores); err != nil {
		return nil, err
	}
	return func() { <-t.cores }, nil
}

func enter(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %v", ErrBusy, context.Cause(ctx))
	}
}
