package mux

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

// Constructors of tcp.Packet. Packets are the hot path, so they are put
// together and taken apart here, without structs.
var (
	idPing        = (*schema.TcpPing)(nil).TLID()
	idPong        = (*schema.TcpPong)(nil).TLID()
	idPacket      = (*schema.TcpPacket)(nil).TLID()
	idQuery       = (*schema.TcpQuery)(nil).TLID()
	idQueryAnswer = (*schema.TcpQueryAnswer)(nil).TLID()
	idQueryError  = (*schema.TcpQueryError)(nil).TLID()
	idConnect     = (*schema.TcpConnect)(nil).TLID()
	idConnected   = (*schema.TcpConnected)(nil).TLID()
)

const (
	headerSize  = 8     // length, seqno
	controlSize = 4 + 8 // id and number of a packet without data

	// writeSize is the most bytes of one write: enough to make its cost
	// small, little enough to see a slow peer's progress.
	writeSize = 128 << 10
	// spareSize is the largest buffer that is kept for later.
	spareSize = 512 << 10
)

// sendQueue holds the packets that wait for the writer, encoded one behind the
// other in one buffer: whoever sends appends, the writer takes all.
type sendQueue struct {
	conn *Conn
	wake chan struct{} // capacity 1; tells the sleeping writer to look

	sync.Mutex
	batch    *batch        // what is queued; nil for nothing
	urgent   int           // bytes in batch that were taken above the limit
	spare    *batch        // the writer's last, while it is busy
	seqno    uint32        // of the next packet
	open     bool          // the handshake packet is queued: others may follow
	sleeping bool          // the writer waits on wake
	reason   error         // set by drain: nothing more is taken
	room     chan struct{} // closed when waiting senders should look again
}

// batch is what one turn of the writer writes.
type batch struct{ b []byte }

// batches are those that no connection needs: a quiet one holds none. A pool
// per processor would miss what another one put back, which is the rule here:
// senders take, writers give.
var batches = make(chan *batch, 64)

func takeBatch() *batch {
	select {
	case b := <-batches:
		return b
	default:
		return new(batch)
	}
}

func giveBatch(b *batch) {
	select {
	case batches <- b:
	default:
	}
}

// Send sends a one-way message, a boxed object. It waits for Ready and while
// SendLimit bytes are queued, until ctx ends. ErrTooLarge means that the
// message does not fit into a packet. A message sent without an error is still
// lost if the connection ends first. msg is not kept.
func (c *Conn) Send(ctx context.Context, msg []byte) error {
	if err := c.out.await(ctx, messageSize(len(msg))); err != nil {
		return err
	}
	c.out.message(msg)
	return nil
}

// SendObject is Send of schema.Marshal(o) without the copy in between.
func (c *Conn) SendObject(ctx context.Context, o schema.Object) error {
	b, err := c.out.object(ctx, o)
	if err == nil {
		c.out.commit(b)
	}
	return err
}

// SendLater is SendObject for a message that another follows at once: it leaves
// with the next one, or with Flush.
func (c *Conn) SendLater(ctx context.Context, o schema.Object) error {
	b, err := c.out.object(ctx, o)
	if err == nil {
		c.out.batch.b = b
		c.out.Unlock()
	}
	return err
}

// Flush lets what SendLater left leave. It must be called before waiting for
// the peer.
func (c *Conn) Flush() {
	c.out.Lock()
	if c.out.batch != nil {
		c.out.rouse()
	}
	c.out.Unlock()
}

// object returns the batch with tcp.packet of o added. Without an error the
// caller holds the lock.
func (q *sendQueue) object(ctx context.Context, o schema.Object) ([]byte, error) {
	n := schema.Size(o)
	if err := q.await(ctx, messageSize(n)); err != nil {
		return nil, err
	}
	b := tl.AppendUint32(q.batch.b, idPacket)
	b = tl.AppendBytesPrefix(b, n)
	b = schema.Append(b, o)
	return tl.AppendPadding(b, n), nil
}

// TrySend is Send for the reader's goroutine: where Send would wait it fails
// with ErrQueueFull or ErrNotReady.
func (c *Conn) TrySend(msg []byte) error {
	if err := c.out.try(messageSize(len(msg)), 0); err != nil {
		return err
	}
	c.out.message(msg)
	return nil
}

// SendUrgent is TrySend for small messages that must not depend on room:
// cancels, windows, payment notices. They may exceed SendLimit by UrgentLimit
// together. They overtake nothing: messages stay in order.
func (c *Conn) SendUrgent(msg []byte) error {
	if err := c.out.try(messageSize(len(msg)), c.cfg.UrgentLimit); err != nil {
		return err
	}
	c.out.message(msg)
	return nil
}

func messageSize(n int) int { return 4 + tl.BytesSize(n) }

// message completes what await or try began with tcp.packet.
func (q *sendQueue) message(msg []byte) {
	q.commit(tl.AppendBytes(tl.AppendUint32(q.batch.b, idPacket), msg))
}

// send queues a query or an answer to one.
func (q *sendQueue) send(ctx context.Context, kind uint32, id int64, data []byte) error {
	if err := q.await(ctx, controlSize+tl.BytesSize(len(data))); err != nil {
		return err
	}
	q.commit(tl.AppendBytes(tl.AppendInt64(tl.AppendUint32(q.batch.b, kind), id), data))
	return nil
}

// sendError queues tcp.queryError.
func (q *sendQueue) sendError(ctx context.Context, id int64, e *wire.Error) error {
	if err := q.await(ctx, errorSize(e)); err != nil {
		return err
	}
	q.queryError(id, e)
	return nil
}

// refuse is sendError for the reader's goroutine. If there is no room, the peer
// asks without listening and does without an answer.
func (q *sendQueue) refuse(id int64, e *wire.Error) {
	if q.try(errorSize(e), q.conn.cfg.UrgentLimit) == nil {
		q.queryError(id, e)
	}
}

func errorSize(e *wire.Error) int {
	return controlSize + 4 + tl.BytesSize(min(len(e.Text), maxErrorText))
}

func (q *sendQueue) queryError(id int64, e *wire.Error) {
	b := tl.AppendInt64(tl.AppendUint32(q.batch.b, idQueryError), id)
	b = tl.AppendInt32(b, int32(e.Code))
	q.commit(tl.AppendBytes(b, e.Text[:min(len(e.Text), maxErrorText)]))
}

// control queues a ping or pong if there is room; if there is none, the peer
// has enough to hear from us.
func (q *sendQueue) control(kind uint32, id int64) {
	if q.try(controlSize, q.conn.cfg.UrgentLimit) == nil {
		q.commit(tl.AppendInt64(tl.AppendUint32(q.batch.b, kind), id))
	}
}

// first queues the handshake packet.
func (q *sendQueue) first(kind uint32, id int64) {
	q.Lock()
	q.header(controlSize)
	q.commit(tl.AppendInt64(tl.AppendUint32(q.batch.b, kind), id))
}

// allow lets other packets follow the handshake packet.
func (q *sendQueue) allow() {
	q.Lock()
	q.open = true
	q.signal()
	q.Unlock()
}

// try queues the header of a packet with a payload of size bytes, if there is
// room for it: fewer than SendLimit bytes are queued, or no more than extra
// were taken above that with this one. (One long message may exceed the limit
// by itself; that takes no room from what is urgent.) On success the caller holds the lock, appends exactly
// size bytes to q.batch.b and hands the result to commit.
func (q *sendQueue) try(size, extra int) error {
	q.Lock()
	err := q.admit(size, extra)
	if err != nil {
		q.Unlock()
	}
	return err
}

// await is try for those who can wait until ctx ends.
func (q *sendQueue) await(ctx context.Context, size int) error {
	q.Lock()
	for {
		err := q.admit(size, 0)
		if err == nil {
			return nil
		}
		if err != ErrQueueFull && err != ErrNotReady {
			q.Unlock()
			return err
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		q.rouse() // what was to leave later makes the room
		room := q.room
		q.Unlock()
		select {
		case <-room:
		case <-q.conn.done:
		case <-ctx.Done():
			return fmt.Errorf("mux: send: %w", context.Cause(ctx))
		}
		q.Lock()
	}
}

// admit decides about a packet and queues its header. The caller holds the
// lock.
func (q *sendQueue) admit(size, extra int) error {
	if size > wire.MaxPacket {
		return ErrTooLarge
	}
	if q.reason != nil {
		return fmt.Errorf("%w: %w", ErrClosed, q.reason)
	}
	select {
	case <-q.conn.done:
		return q.conn.closed
	default:
	}
	if !q.open {
		return ErrNotReady
	}
	if q.batch != nil {
		limit := q.conn.cfg.SendLimit
		if len(q.batch.b) >= limit {
			if q.urgent+headerSize+size > extra {
				return ErrQueueFull
			}
			q.urgent += headerSize + size
		}
	}
	q.header(size)
	return nil
}

// header appends the header of a packet of size bytes and makes room for them.
// The caller holds the lock.
func (q *sendQueue) header(size int) {
	if q.batch == nil {
		if q.batch, q.spare = q.spare, nil; q.batch == nil {
			q.batch = takeBatch()
		}
	}
	b := slices.Grow(q.batch.b, headerSize+size)
	b = tl.AppendUint32(b, uint32(size))
	q.batch.b = tl.AppendUint32(b, q.seqno)
	q.seqno++
}

// commit takes the batch with a packet complete, wakes the writer and gives up
// the lock.
func (q *sendQueue) commit(b []byte) {
	q.batch.b = b
	q.rouse()
	q.Unlock()
}

// rouse wakes the writer. The caller holds the lock.
func (q *sendQueue) rouse() {
	if q.sleeping {
		q.sleeping = false
		q.wake <- struct{}{}
	}
}

// signal lets waiting senders look again. The caller holds the lock.
func (q *sendQueue) signal() {
	if q.room != nil {
		close(q.room)
		q.room = nil
	}
}

// drain refuses new packets; the writer ends the connection when it has
// written those that are queued.
func (q *sendQueue) drain(reason error) {
	q.Lock()
	if q.reason == nil {
		q.reason = reason
	}
	q.signal()
	q.rouse()
	q.Unlock()
}

// draining is the reason given to drain, nil before.
func (q *sendQueue) draining() error {
	q.Lock()
	defer q.Unlock()
	return q.reason
}

// take returns all that is queued, waiting for it if need be. When the
// connection has ended, or is drained, it returns nil and why. done is the last
// batch, written.
func (q *sendQueue) take(done *batch) (*batch, error) {
	q.Lock()
	defer q.Unlock()
	if done != nil && cap(done.b) <= spareSize {
		done.b = done.b[:0]
		if q.spare == nil {
			q.spare = done
		} else {
			giveBatch(done)
		}
	}
	for q.batch == nil {
		if q.spare != nil {
			giveBatch(q.spare)
			q.spare = nil
		}
		if q.reason != nil {
			return nil, q.reason
		}
		q.sleeping = true
		q.Unlock()
		select {
		case <-q.wake:
			// Whoever can run now may have something to add: an answer
			// part for each of a hundred requests goes out in one write.
			runtime.Gosched()
		case <-q.conn.done:
			q.Lock()
			return nil, q.conn.err
		}
		q.Lock()
	}
	b := q.batch
	q.batch, q.urgent = nil, 0
	q.signal()
	return b, nil
}

// write is the writer's goroutine; it returns why nothing more can be written.
func (c *Conn) write() error {
	var last *batch
	for {
		batch, err := c.out.take(last)
		if err != nil {
			c.awaitPeer()
			return err
		}
		for rest := batch.b; len(rest) > 0; {
			n := min(len(rest), writeSize)
			c.writing.Store(c.now())
			_, err := c.nc.Write(rest[:n])
			c.writing.Store(idle)
			if err != nil {
				err = c.ioError(err)
				if errors.Is(err, ErrPeerGone) {
					c.awaitReader()
				}
				return err
			}
			rest = rest[n:]
		}
		last = batch
	}
}

// awaitPeer says that nothing more comes and lets the peer close, until Linger
// is over. Who closes while bytes of the peer are unread resets the connection,
// and the peer may lose what it has not read yet.
func (c *Conn) awaitPeer() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if ok && c.Err() == nil && half.CloseWrite() == nil {
		<-c.done // by the reader, or by the timer of Close
	}
}

// awaitReader lets the reader come to the end that the writer met: the peer may
// have said much before it closed.
func (c *Conn) awaitReader() {
	linger := time.NewTimer(c.cfg.Linger)
	defer linger.Stop()
	select {
	case <-c.done:
	case <-linger.C:
	}
}
