package mux

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire"
)

// idle is a clock's value while what it times does not happen.
const idle = -1

// Conn is one connection. Make it with New, then call Run once.
type Conn struct {
	nc  net.Conn
	cfg Config

	in  source
	out sendQueue

	started atomic.Bool
	ready   chan struct{}
	spoken  atomic.Bool // the peer has sent its first packet
	done    chan struct{}
	end     sync.Once
	err     error          // the reason; set before done is closed
	closed  error          // ErrClosed with the reason, likewise
	wg      sync.WaitGroup // what Run waits for

	// Clocks, in nanoseconds since epoch.
	epoch   time.Time
	heard   atomic.Int64 // last time that anything was received
	writing atomic.Int64 // since when a write has taken nothing; idle if none runs
	pinged  int64        // value of heard after which a ping was sent; watch's own

	// What end stops, behind a lock because it can come before it is set.
	life struct {
		sync.Mutex
		cancel  context.CancelCauseFunc // of the Handler's queries
		watcher *time.Timer
		linger  *time.Timer
	}

	queries struct {
		sync.Mutex
		open    map[int64]chan<- answer // ours
		running int                     // the peer's
	}
}

// New makes a connection of nc, on which proof of work, TLS and peer
// information are done. Nothing happens before Run.
func New(nc net.Conn, cfg Config) *Conn {
	c := &Conn{
		nc:    nc,
		cfg:   cfg.withDefaults(),
		ready: make(chan struct{}),
		done:  make(chan struct{}),
	}
	c.in.conn, c.out.conn = c, c
	c.out.wake = make(chan struct{}, 1)
	c.writing.Store(idle)
	c.pinged = idle
	return c
}

// Level returns the negotiated level.
func (c *Conn) Level() int { return c.cfg.Level }

// Ready is closed when the transport handshake is done: the peer's tcp.connect
// or tcp.connected was seen. Send and Query wait for it.
func (c *Conn) Ready() <-chan struct{} { return c.ready }

// Done is closed when the connection ends: nothing more is sent, received or
// answered. Run returns when the connection's goroutines ended too.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection ended, nil while it has not.
func (c *Conn) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Run does the transport handshake and moves packets until the connection
// ends: because the peer ended it or broke the protocol, because of silence,
// Close, or ctx. It closes the underlying connection, waits for running
// queries and returns the reason, never nil. It must be called once.
func (c *Conn) Run(ctx context.Context) error {
	if c.started.Swap(true) {
		return errors.New("mux: Run was called twice")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(ctx, func() { c.Close(context.Cause(ctx)) })
	defer stop()

	c.start(cancel)
	if c.cfg.Side == Dialer {
		c.out.first(idConnect, int64(rand.Uint64()))
	}
	c.wg.Go(func() { c.fail(c.write()) })
	err := c.read(ctx)
	if reason := c.out.draining(); reason != nil && errors.Is(err, ErrPeerGone) {
		err = reason // it only follows us
	}
	c.fail(err)
	c.wg.Wait()
	return c.err
}

// Close ends the connection for the given reason. What is queued already is
// still written and the peer closes first, if it does so within Linger; new
// messages are refused.
// Close does not wait: Done and Run say when it is over.
func (c *Conn) Close(reason error) {
	if reason == nil {
		reason = ErrClosed
	}
	if !c.started.Load() {
		c.fail(reason)
		return
	}
	c.life.Lock()
	if c.life.linger == nil && c.Err() == nil {
		c.life.linger = time.AfterFunc(c.cfg.Linger, func() { c.fail(reason) })
	}
	c.life.Unlock()
	c.out.drain(reason)
}

// fail ends the connection at once. The first reason counts.
func (c *Conn) fail(reason error) {
	c.end.Do(func() {
		c.err = reason
		c.closed = reason
		if !errors.Is(reason, ErrClosed) {
			c.closed = fmt.Errorf("%w: %w", ErrClosed, reason)
		}
		close(c.done)
		c.life.Lock()
		if c.life.cancel != nil {
			c.life.cancel(c.closed)
		}
		for _, t := range []*time.Timer{c.life.watcher, c.life.linger} {
			if t != nil {
				t.Stop()
			}
		}
		c.life.Unlock()
		// Closing TLS may wait for the peer; whoever called fail must not.
		c.wg.Go(func() { c.nc.Close() })
	})
}

// violation is the end of a connection whose peer sent something impossible.
func violation(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrViolation, fmt.Errorf(format, args...))
}

func (c *Conn) now() int64 { return int64(time.Since(c.epoch)) }

// start sets the clocks and arms the one timer that a connection has. The
// timer does not follow every packet: when it fires it looks at the clocks and
// sets itself to the next moment at which something can be due.
func (c *Conn) start(cancel context.CancelCauseFunc) {
	c.epoch = time.Now()
	c.heard.Store(c.now())
	c.life.Lock()
	defer c.life.Unlock()
	if c.Err() != nil {
		return
	}
	c.life.cancel = cancel
	c.life.watcher = time.AfterFunc(c.nextLook(c.now()), c.watch)
}

func (c *Conn) watch() {
	now := c.now()
	heard := c.heard.Load()
	silence := time.Duration(now - heard)
	since := c.writing.Load()
	switch {
	case !c.isReady() && now >= int64(c.cfg.HandshakeTimeout):
		c.fail(ErrHandshake)
	case silence >= c.cfg.CloseAfter:
		c.fail(fmt.Errorf("%w (%v)", ErrSilent, c.cfg.CloseAfter))
	case since != idle && now-since >= int64(c.cfg.WriteTimeout):
		c.fail(fmt.Errorf("%w (%v)", ErrStalled, c.cfg.WriteTimeout))
	}
	if c.cfg.Side == Dialer && c.isReady() && silence >= c.cfg.PingAfter && c.pinged != heard {
		c.pinged = heard
		c.out.control(idPing, int64(rand.Uint64()))
	}
	c.life.Lock()
	defer c.life.Unlock()
	if c.Err() == nil {
		c.life.watcher.Reset(c.nextLook(now))
	}
}

// nextLook returns how long after now the clocks are worth a look.
func (c *Conn) nextLook(now int64) time.Duration {
	heard := c.heard.Load()
	next := heard + int64(c.cfg.CloseAfter)
	if c.cfg.Side == Dialer && c.pinged != heard {
		next = min(next, heard+int64(c.cfg.PingAfter))
	}
	if !c.isReady() {
		next = min(next, int64(c.cfg.HandshakeTimeout))
	}
	if since := c.writing.Load(); since != idle {
		next = min(next, since+int64(c.cfg.WriteTimeout))
	}
	return max(time.Duration(next-now), time.Millisecond)
}

func (c *Conn) isReady() bool {
	select {
	case <-c.ready:
		return true
	default:
		return false
	}
}

// Query sends fn, a boxed function, and returns the boxed result. The peer's
// refusal is a *wire.Error. It fails at once when the connection ends, and
// with ctx's cause when ctx does; an answer that comes later is ignored.
func (c *Conn) Query(ctx context.Context, fn []byte) ([]byte, error) {
	ch := make(chan answer, 1)
	id := c.addQuery(ch)
	defer c.dropQuery(id)
	if err := c.out.send(ctx, idQuery, id, fn); err != nil {
		return nil, err
	}
	select {
	case a := <-ch:
		return a.data, a.err
	case <-c.done:
		select {
		case a := <-ch: // the last thing the peer said
			return a.data, a.err
		default:
		}
		return nil, c.closed
	case <-ctx.Done():
		return nil, fmt.Errorf("mux: query: %w", context.Cause(ctx))
	}
}

// answer is what the peer said to one of our queries.
type answer struct {
	data []byte
	err  error
}

func (c *Conn) addQuery(ch chan<- answer) (id int64) {
	c.queries.Lock()
	defer c.queries.Unlock()
	if c.queries.open == nil {
		c.queries.open = make(map[int64]chan<- answer)
	}
	for {
		id = int64(rand.Uint64())
		if _, taken := c.queries.open[id]; !taken {
			c.queries.open[id] = ch
			return id
		}
	}
}

func (c *Conn) dropQuery(id int64) {
	c.queries.Lock()
	delete(c.queries.open, id)
	c.queries.Unlock()
}

// answered gives an answer to whoever waits for it; late and unknown ones are
// ignored.
func (c *Conn) answered(id int64, a answer) {
	c.queries.Lock()
	ch := c.queries.open[id]
	delete(c.queries.open, id)
	c.queries.Unlock()
	if ch != nil {
		ch <- a
	}
}

// serve runs the Handler for one query of the peer.
func (c *Conn) serve(ctx context.Context, id int64, data []byte) {
	c.queries.Lock()
	busy := c.queries.running >= c.cfg.MaxQueries
	if !busy {
		c.queries.running++
	}
	c.queries.Unlock()
	if busy {
		c.out.refuse(id, wire.Errorf(wire.CodeNotReady, "too many queries at once"))
		return
	}
	c.wg.Go(func() {
		var after afterAnswer
		defer after.run()
		result, err := c.cfg.Handler.Query(context.WithValue(ctx, afterKey{}, &after), c, data)
		c.queries.Lock()
		c.queries.running--
		c.queries.Unlock()
		if err == nil {
			if err = c.out.send(ctx, idQueryAnswer, id, result); err == nil || errors.Is(err, ErrClosed) {
				return
			}
			c.cfg.Logger.Warn("query answer not sent", "size", len(result), "error", err)
		}
		if err := c.out.sendError(ctx, id, wire.Public(err)); err != nil {
			return // the connection has ended
		}
		if fatal := (*fatalError)(nil); errors.As(err, &fatal) {
			c.Close(fatal.error)
		}
	})
}

// AfterAnswer has f run when the answer to the query that ctx belongs to is
// queued, or will never be. A Handler that holds a lock until then keeps what
// its answers say in order with its messages.
func AfterAnswer(ctx context.Context, f func()) {
	if a, ok := ctx.Value(afterKey{}).(*afterAnswer); ok {
		*a = append(*a, f)
		return
	}
	f()
}

type afterKey struct{}

type afterAnswer []func()

func (a *afterAnswer) run() {
	for _, f := range *a {
		f()
	}
}
