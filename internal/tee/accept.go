package tee

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// HandshakeTimeout bounds a handshake from the first byte to the last unless
// configured otherwise.
const HandshakeTimeout = 15 * time.Second

// Limits bound what strangers can make a listener hold.
type Limits struct {
	// Pending is how many connections may be between accept and the caller's
	// Accept. Zero: 4096. When it is reached, the oldest connection that has
	// not shown any effort yet makes room.
	Pending int
	// PendingPerAddr is the same for one remote address. Zero: 256.
	PendingPerAddr int
	// Timeout bounds one handshake. Zero: HandshakeTimeout.
	Timeout time.Duration
}

func (l Limits) orDefaults() Limits {
	if l.Pending <= 0 {
		l.Pending = 4096
	}
	if l.PendingPerAddr <= 0 {
		l.PendingPerAddr = 256
	}
	if l.Timeout <= 0 {
		l.Timeout = HandshakeTimeout
	}
	return l
}

// Upgrade makes an authenticated connection out of a raw one, or fails and
// leaves closing it to the caller. It calls proven once the peer has shown
// effort (a solved puzzle), after which it is not pushed out by newcomers.
type Upgrade func(ctx context.Context, nc net.Conn, proven func()) (*Conn, error)

// Acceptor runs handshakes of a listener beside each other, so that no peer
// can hold up another: it is the Listener of every kind of connection.
type Acceptor struct {
	inner   net.Listener
	upgrade Upgrade
	limits  Limits
	log     *slog.Logger

	ready chan *Conn
	done  chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	pending *list.List // of *attempt, oldest first
	perAddr map[string]int
}

// attempt is one connection on its way to Accept.
type attempt struct {
	nc     net.Conn
	host   string
	proven bool
	cancel context.CancelFunc
}

// NewAcceptor accepts from inner until Close, which closes inner too. A nil
// log discards.
func NewAcceptor(inner net.Listener, upgrade Upgrade, limits Limits, log *slog.Logger) *Acceptor {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	a := &Acceptor{
		inner:   inner,
		upgrade: upgrade,
		limits:  limits.orDefaults(),
		log:     log,
		ready:   make(chan *Conn),
		done:    make(chan struct{}),
		pending: list.New(),
		perAddr: map[string]int{},
	}
	a.wg.Go(a.acceptAll)
	return a
}

// Addr returns the inner listener's address.
func (a *Acceptor) Addr() net.Addr { return a.inner.Addr() }

// Accept returns the next connection whose handshake succeeded. After Close it
// fails with net.ErrClosed.
func (a *Acceptor) Accept(ctx context.Context) (*Conn, error) {
	select {
	case c := <-a.ready:
		return c, nil
	case <-a.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Close ends accepting and all handshakes under way, and returns when their
// goroutines have ended. Connections already handed out stay open.
func (a *Acceptor) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		a.wg.Wait()
		return nil
	}
	a.closed = true
	for e := a.pending.Front(); e != nil; e = e.Next() {
		e.Value.(*attempt).abandon()
	}
	a.mu.Unlock()
	close(a.done)
	err := a.inner.Close()
	a.wg.Wait()
	return err
}

// abandon ends an attempt from outside; its goroutine cleans up.
func (t *attempt) abandon() {
	t.cancel()
	t.nc.Close()
}

func (a *Acceptor) acceptAll() {
	const longest = time.Second
	pause := 5 * time.Millisecond
	for {
		nc, err := a.inner.Accept()
		switch {
		case err == nil:
			pause = 5 * time.Millisecond
			a.start(nc)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		// Out of descriptors, most likely: the listener is still good.
		a.log.Warn("accept failed, trying again", "addr", a.Addr(), "error", err, "pause", pause)
		select {
		case <-time.After(pause):
			pause = min(2*pause, longest)
		case <-a.done:
			return
		}
	}
}

// start begins a handshake if the limits allow it.
func (a *Acceptor) start(nc net.Conn) {
	host := nc.RemoteAddr().String()
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	// A listener has no caller whose context could end its handshakes: Close
	// and the time limit do.
	ctx, cancel := context.WithTimeout(context.Background(), a.limits.Timeout)
	t := &attempt{nc: nc, host: host, cancel: cancel}

	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || a.perAddr[host] >= a.limits.PendingPerAddr || !a.makeRoomLocked() {
		t.abandon()
		return
	}
	a.perAddr[host]++
	e := a.pending.PushBack(t)
	a.wg.Go(func() { a.run(ctx, t, e) })
}

// makeRoomLocked reports whether one more attempt fits, pushing out the oldest
// unproven one if need be. The pushed out attempt still counts until its
// goroutine has ended, so the list can exceed the limit by those that are
// ending.
func (a *Acceptor) makeRoomLocked() bool {
	if a.pending.Len() < a.limits.Pending {
		return true
	}
	for e := a.pending.Front(); e != nil; e = e.Next() {
		if t := e.Value.(*attempt); !t.proven {
			t.proven = true // not to be chosen twice
			t.abandon()
			return true
		}
	}
	return false
}

func (a *Acceptor) run(ctx context.Context, t *attempt, e *list.Element) {
	proven := false
	prove := func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		t.proven, proven = true, true
	}
	conn, err := a.upgrade(ctx, t.nc, prove)
	if err == nil {
		prove() // what waits for Accept is not pushed out
		select {
		case a.ready <- conn:
		case <-a.done:
			err = net.ErrClosed
		}
	}
	if err != nil {
		t.nc.Close()
		level := slog.LevelDebug // anybody can cause these for nothing
		if proven {
			level = slog.LevelInfo
		}
		a.log.Log(ctx, level, "handshake failed", "peer", t.nc.RemoteAddr().String(), "error", err)
	}
	t.cancel()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending.Remove(e)
	if a.perAddr[t.host]--; a.perAddr[t.host] == 0 {
		delete(a.perAddr, t.host)
	}
}
