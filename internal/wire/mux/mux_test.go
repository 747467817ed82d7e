package mux_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

// handler is a Handler made of functions; a missing one ignores or refuses.
type handler struct {
	message func(c *mux.Conn, data []byte)
	query   func(ctx context.Context, c *mux.Conn, data []byte) ([]byte, error)
}

func (h handler) Message(c *mux.Conn, data []byte) {
	if h.message != nil {
		h.message(c, data)
	}
}

func (h handler) Query(ctx context.Context, c *mux.Conn, data []byte) ([]byte, error) {
	if h.query == nil {
		return nil, mux.ErrUnknownFunction
	}
	return h.query(ctx, c, data)
}

// transports are the connections that tests run over.
var transports = map[string]func(t testing.TB) (dialer, acceptor net.Conn){
	"pipe": func(testing.TB) (net.Conn, net.Conn) { return net.Pipe() },
	"tcp":  tcp,
}

func tcp(t testing.TB) (dialer, acceptor net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if dialer, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if acceptor, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return dialer, acceptor
}

// run runs a connection until the test ends and returns it with the channel on
// which its end is reported.
func run(t testing.TB, nc net.Conn, cfg mux.Config) (*mux.Conn, <-chan error) {
	t.Helper()
	c := mux.New(nc, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended, result := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(ended)
		result <- c.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return c, result
}

// pair runs both ends of a connection.
func pair(t testing.TB, dialer, acceptor net.Conn, dialing, accepting mux.Handler) (d, a *mux.Conn) {
	t.Helper()
	d, _ = run(t, dialer, mux.Config{Side: mux.Dialer, Handler: dialing})
	a, _ = run(t, acceptor, mux.Config{Side: mux.Acceptor, Handler: accepting})
	<-d.Ready()
	<-a.Ready()
	return d, a
}

// frame is a packet as it stands on the wire.
func frame(seqno int, payload []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, uint32(seqno))
	return append(b, payload...)
}

func packet(seqno int, o schema.Object) []byte { return frame(seqno, schema.Marshal(o)) }

// next reads one packet.
func next(r io.Reader) (seqno int, o schema.Object, err error) {
	var h [8]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	p := make([]byte, binary.LittleEndian.Uint32(h[:]))
	if _, err := io.ReadFull(r, p); err != nil {
		return 0, nil, err
	}
	o, err = schema.Decode(p)
	return int(binary.LittleEndian.Uint32(h[4:])), o, err
}

func mustNext(t *testing.T, r io.Reader, wantSeqno int) schema.Object {
	t.Helper()
	seqno, o, err := next(r)
	if err != nil {
		t.Fatal(err)
	}
	if seqno != wantSeqno {
		t.Fatalf("packet number %d, want %d", seqno, wantSeqno)
	}
	return o
}

func message(i int) []byte {
	return schema.Marshal(&schema.WorkerNewCoefficient{NewCoefficient: int32(i)})
}

func number(t testing.TB, b []byte) int {
	o, err := schema.DecodeAs[*schema.WorkerNewCoefficient](b)
	if err != nil {
		t.Error(err)
		return -1
	}
	return int(o.NewCoefficient)
}

// TestHandshakeBytes holds the packets of spec network-protocol 2.5.
func TestHandshakeBytes(t *testing.T) {
	near, far := net.Pipe()
	c, _ := run(t, near, mux.Config{Side: mux.Acceptor, Level: wire.Level1})
	connect := []byte("\x0c\x00\x00\x00\x00\x00\x00\x00\x61\x42\x7c\xa5\x08\x07\x06\x05\x04\x03\x02\x01")
	ping := []byte("\x0c\x00\x00\x00\x01\x00\x00\x00\x7c\x62\xe9\xbb\x88\x77\x66\x55\x44\x33\x22\x11")
	go far.Write(append(connect, ping...))
	got := make([]byte, 40)
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	want := []byte("\x0c\x00\x00\x00\x00\x00\x00\x00\xd6\x41\x6d\x63\x08\x07\x06\x05\x04\x03\x02\x01" +
		"\x0c\x00\x00\x00\x01\x00\x00\x00\x2c\x30\xd4\x0b\x88\x77\x66\x55\x44\x33\x22\x11")
	if !bytes.Equal(got, want) {
		t.Errorf("answered\n%x, want\n%x", got, want)
	}
	<-c.Ready()
	if c.Level() != wire.Level1 || c.Err() != nil {
		t.Errorf("level %d, error %v", c.Level(), c.Err())
	}
}

// TestDialerHandshake: connect goes first, whatever is sent before Ready waits,
// and the id that comes back is not compared.
func TestDialerHandshake(t *testing.T) {
	near, far := net.Pipe()
	c, _ := run(t, near, mux.Config{Side: mux.Dialer})
	if err := c.TrySend(message(1)); !errors.Is(err, mux.ErrNotReady) {
		t.Errorf("TrySend before Ready = %v", err)
	}
	sent := make(chan error, 1)
	go func() { sent <- c.Send(t.Context(), message(7)) }()
	if o, ok := mustNext(t, far, 0).(*schema.TcpConnect); !ok {
		t.Fatalf("first packet %T", o)
	}
	far.Write(packet(0, &schema.TcpConnected{ID: 1}))
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if o, ok := mustNext(t, far, 1).(*schema.TcpPacket); !ok || number(t, o.Data) != 7 {
		t.Errorf("second packet %+v", o)
	}
	// A second handshake is ignored, in both forms, and so is a late answer.
	far.Write(packet(1, &schema.TcpConnected{ID: 2}))
	far.Write(packet(2, &schema.TcpConnect{ID: 3}))
	far.Write(packet(3, &schema.TcpQueryAnswer{ID: 4}))
	far.Write(packet(4, &schema.TcpQueryError{ID: 5}))
	far.Write(packet(5, &schema.TcpPing{ID: 6}))
	if o, ok := mustNext(t, far, 2).(*schema.TcpPong); !ok || o.ID != 6 {
		t.Errorf("third packet %+v", o)
	}
}

func TestMessagesInOrder(t *testing.T) {
	const n = 5000
	for name, connect := range transports {
		t.Run(name, func(t *testing.T) {
			near, far := connect(t)
			done := make(chan struct{})
			var got int
			d, _ := pair(t, near, far, nil, handler{message: func(_ *mux.Conn, data []byte) {
				if i := number(t, data); i != got {
					t.Errorf("message %d where %d is due", i, got)
				}
				if got++; got == n {
					close(done)
				}
			}})
			for i := range n {
				var err error
				if i%2 == 0 {
					err = d.Send(t.Context(), message(i))
				} else {
					err = d.SendObject(t.Context(), &schema.WorkerNewCoefficient{NewCoefficient: int32(i)})
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			<-done
		})
	}
}

// TestSizes sends messages around every limit that sizes have and gets each
// back as it was.
func TestSizes(t *testing.T) {
	near, far := tcp(t)
	back := make(chan []byte, 1)
	d, _ := pair(t, near, far,
		handler{message: func(_ *mux.Conn, data []byte) { back <- data }},
		handler{message: func(c *mux.Conn, data []byte) {
			if err := c.TrySend(data); err != nil {
				t.Error(err)
			}
		}})
	largest := wire.MaxPacket - 4 - 4
	for _, n := range []int{0, 1, 3, 4, 253, 254, 255, 1015, 1016, 1024, 16<<10 - 8, 16<<10 - 7, 32 << 10, 1<<20 + 1, largest} {
		want := bytes.Repeat([]byte{byte(n), byte(n >> 8), 3}, n/3+1)[:n]
		if err := d.Send(t.Context(), want); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if got := <-back; !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back as %d others", n, len(got))
		}
	}
	for _, n := range []int{largest + 1, 17 << 20} {
		big := make([]byte, n)
		if err := d.Send(t.Context(), big); !errors.Is(err, mux.ErrTooLarge) {
			t.Errorf("Send of %d bytes = %v, want ErrTooLarge", n, err)
		}
		if err := d.SendObject(t.Context(), &schema.TcpPacket{Data: big}); !errors.Is(err, mux.ErrTooLarge) {
			t.Errorf("SendObject of %d bytes = %v, want ErrTooLarge", n, err)
		}
		if err := d.SendUrgent(big); !errors.Is(err, mux.ErrTooLarge) {
			t.Errorf("SendUrgent of %d bytes = %v, want ErrTooLarge", n, err)
		}
		if _, err := d.Query(t.Context(), big); !errors.Is(err, mux.ErrTooLarge) {
			t.Errorf("Query of %d bytes = %v, want ErrTooLarge", n, err)
		}
	}
	if err := d.Err(); err != nil {
		t.Errorf("the connection ended: %v", err)
	}
}

// TestSenders: many goroutines on both ends; every message arrives once and in
// its sender's order.
func TestSenders(t *testing.T) {
	const senders, each = 32, 400
	for name, connect := range transports {
		t.Run(name, func(t *testing.T) {
			near, far := connect(t)
			var ends [2]struct {
				next  [senders]int
				count atomic.Int64
				all   chan struct{}
			}
			receive := func(e int) handler {
				ends[e].all = make(chan struct{})
				return handler{message: func(_ *mux.Conn, data []byte) {
					i := number(t, data)
					if s := i / each; ends[e].next[s] != i%each {
						t.Errorf("sender %d: message %d where %d is due", s, i%each, ends[e].next[s])
					} else {
						ends[e].next[s]++
					}
					if ends[e].count.Add(1) == senders*each {
						close(ends[e].all)
					}
				}}
			}
			d, a := pair(t, near, far, receive(0), receive(1))
			var wg sync.WaitGroup
			for _, c := range []*mux.Conn{d, a} {
				for s := range senders {
					wg.Go(func() {
						for i := range each {
							if err := c.Send(t.Context(), message(s*each+i)); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
			}
			wg.Wait()
			<-ends[0].all
			<-ends[1].all
		})
	}
}

// TestQueries: both ends ask at once; answers may come in any order.
func TestQueries(t *testing.T) {
	for name, connect := range transports {
		t.Run(name, func(t *testing.T) {
			near, far := connect(t)
			echo := handler{query: func(_ context.Context, _ *mux.Conn, data []byte) ([]byte, error) {
				switch i := number(t, data); i % 5 {
				case 1:
					return nil, wire.Errorf(wire.CodeNotReady, "no %d", i)
				case 2:
					return nil, errors.New("a secret")
				case 3:
					return nil, mux.ErrUnknownFunction
				default:
					return data, nil
				}
			}}
			d, a := pair(t, near, far, echo, echo)
			var wg sync.WaitGroup
			for i := range 120 {
				c := d
				if i%2 == 1 {
					c = a
				}
				wg.Go(func() {
					b, err := c.Query(t.Context(), message(i))
					var e *wire.Error
					errors.As(err, &e)
					switch i % 5 {
					case 1:
						if e == nil || e.Code != wire.CodeNotReady || e.Text != fmt.Sprintf("no %d", i) {
							t.Errorf("query %d: %v", i, err)
						}
					case 2:
						if e == nil || strings.Contains(e.Text, "secret") {
							t.Errorf("query %d: %v", i, err)
						}
					case 3:
						if e == nil || (*e != wire.Error{Code: wire.CodeNone, Text: "Lost promise"}) {
							t.Errorf("query %d: %v", i, err)
						}
					default:
						if err != nil || number(t, b) != i {
							t.Errorf("query %d: %x, %v", i, b, err)
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestCall(t *testing.T) {
	near, far := net.Pipe()
	d, _ := pair(t, near, far, nil, handler{query: func(_ context.Context, _ *mux.Conn, data []byte) ([]byte, error) {
		if _, err := schema.DecodeAs[*schema.ClientUpdatePaymentStatus](data); err != nil {
			return nil, err
		}
		return schema.Marshal(&schema.ClientPaymentStatus{MaxTokens: 9}), nil
	}})
	status, err := mux.Call[*schema.ClientPaymentStatus](t.Context(), d, &schema.ClientUpdatePaymentStatus{})
	if err != nil || status.MaxTokens != 9 {
		t.Errorf("%+v, %v", status, err)
	}
	if _, err := mux.Call[*schema.WorkerPaymentStatus](t.Context(), d, &schema.ClientUpdatePaymentStatus{}); !errors.Is(err, tl.ErrConstructor) {
		t.Errorf("another result's type: %v", err)
	}
	var e *wire.Error
	if _, err := mux.Call[*schema.ClientPaymentStatus](t.Context(), d, &schema.ClientGetWorkerTypes{}); !errors.As(err, &e) {
		t.Errorf("a refusal: %v", err)
	}
}

// TestViolations: each of these ends the connection, with a reason.
func TestViolations(t *testing.T) {
	hello := packet(0, &schema.TcpConnect{ID: 1})
	for name, sent := range map[string][]byte{
		"length 0":               append(hello, frame(1, nil)...),
		"length 3":               append(hello, frame(1, []byte{1, 2, 3})...),
		"length 2^24+1":          append(hello, 1, 0, 0, 1, 1, 0, 0, 0),
		"length 2^32-1":          append(hello, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0),
		"number skipped":         append(hello, packet(2, &schema.TcpPing{})...),
		"number repeated":        append(hello, packet(0, &schema.TcpPing{})...),
		"first number not 0":     packet(1, &schema.TcpConnect{ID: 1}),
		"first packet a ping":    packet(0, &schema.TcpPing{}),
		"first packet connected": packet(0, &schema.TcpConnected{}),
		"first packet a query":   packet(0, &schema.TcpQuery{}),
		"unknown kind":           append(hello, packet(1, &schema.TestAnswer{})...),
		"kind 0":                 append(hello, frame(1, make([]byte, 12))...),
		"bytes left over":        append(hello, frame(1, append(schema.Marshal(&schema.TcpPing{}), 0, 0, 0, 0))...),
		"handshake too long":     frame(0, append(schema.Marshal(&schema.TcpConnect{}), 0, 0, 0, 0)),
		"handshake too short":    frame(0, schema.Marshal(&schema.TcpConnect{})[:8]),
		"ping cut":               append(hello, frame(1, schema.Marshal(&schema.TcpPing{})[:8])...),
		"packet cut":             append(hello, frame(1, schema.Marshal(&schema.TcpPacket{Data: make([]byte, 9)})[:12])...),
		"query cut":              append(hello, frame(1, schema.Marshal(&schema.TcpQuery{})[:12])...),
		"answer cut":             append(hello, frame(1, schema.Marshal(&schema.TcpQueryAnswer{})[:12])...),
		"error cut":              append(hello, frame(1, schema.Marshal(&schema.TcpQueryError{})[:12])...),
		"garbage":                bytes.Repeat([]byte("GET / HTTP/1.1\r\n"), 8),
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			defer far.Close()
			called := make(chan struct{}, 1)
			c, result := run(t, near, mux.Config{Side: mux.Acceptor, Handler: handler{
				message: func(*mux.Conn, []byte) { called <- struct{}{} },
			}})
			go func() { far.Write(sent) }()
			go io.Copy(io.Discard, far)
			if err := <-result; !errors.Is(err, mux.ErrViolation) {
				t.Errorf("Run = %v, want ErrViolation", err)
			}
			if err := c.Send(t.Context(), message(1)); !errors.Is(err, mux.ErrClosed) || !errors.Is(err, mux.ErrViolation) {
				t.Errorf("Send afterwards = %v", err)
			}
			if len(called) > 0 {
				t.Error("the handler saw it")
			}
		})
	}
}

// TestCut: a connection that breaks at any byte is an error like any other.
func TestCut(t *testing.T) {
	stream := append(packet(0, &schema.TcpConnect{ID: 1}), packet(1, &schema.TcpPacket{Data: message(5)})...)
	for n := range len(stream) + 1 {
		near, far := net.Pipe()
		var messages atomic.Int64
		_, result := run(t, near, mux.Config{Side: mux.Acceptor, Handler: handler{message: func(*mux.Conn, []byte) { messages.Add(1) }}})
		go io.Copy(io.Discard, far)
		far.Write(stream[:n])
		far.Close()
		want, wantMessages := mux.ErrPeerGone, int64(0)
		if n < 20 {
			want = mux.ErrRefused
		}
		if n == len(stream) {
			wantMessages = 1
		}
		if err := <-result; !errors.Is(err, want) || messages.Load() != wantMessages {
			t.Errorf("cut after %d bytes: %v, %d messages", n, err, messages.Load())
		}
	}
}

// TestOpenQueriesFail: the end of a connection is the end of its queries, and
// of the handlers that work for it.
func TestOpenQueriesFail(t *testing.T) {
	near, far := tcp(t)
	entered, left := make(chan struct{}), make(chan error, 1)
	d, result := run(t, near, mux.Config{Side: mux.Dialer})
	_, result2 := run(t, far, mux.Config{Side: mux.Acceptor, Handler: handler{
		query: func(ctx context.Context, _ *mux.Conn, _ []byte) ([]byte, error) {
			close(entered)
			<-ctx.Done()
			left <- context.Cause(ctx)
			return nil, ctx.Err()
		},
	}})
	asked := make(chan error, 1)
	go func() {
		_, err := d.Query(t.Context(), message(1))
		asked <- err
	}()
	<-entered
	far.Close()
	if err := <-asked; !errors.Is(err, mux.ErrClosed) || !errors.Is(err, mux.ErrPeerGone) {
		t.Errorf("Query = %v", err)
	}
	if err := <-result; !errors.Is(err, mux.ErrPeerGone) {
		t.Errorf("Run = %v", err)
	}
	if err := <-left; !errors.Is(err, mux.ErrClosed) {
		t.Errorf("the handler's context ended with %v", err)
	}
	<-result2
	if err := d.Err(); !errors.Is(err, mux.ErrPeerGone) {
		t.Errorf("Err = %v", err)
	}
}

func TestQueryContext(t *testing.T) {
	near, far := net.Pipe()
	release := make(chan struct{})
	d, _ := pair(t, near, far, nil, handler{query: func(ctx context.Context, _ *mux.Conn, data []byte) ([]byte, error) {
		if number(t, data) == 1 {
			<-release
		}
		return data, nil
	}})
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(time.Millisecond, func() { cancel(enough) })
	if _, err := d.Query(ctx, message(1)); !errors.Is(err, enough) {
		t.Errorf("Query = %v, want the cause", err)
	}
	close(release) // the late answer is ignored
	if b, err := d.Query(t.Context(), message(2)); err != nil || number(t, b) != 2 {
		t.Errorf("the next query: %x, %v", b, err)
	}
}

// TestTooManyQueries: those above the limit are refused, the others live.
func TestTooManyQueries(t *testing.T) {
	near, far := net.Pipe()
	var running atomic.Int64
	release := make(chan struct{})
	d, _ := run(t, near, mux.Config{Side: mux.Dialer})
	run(t, far, mux.Config{Side: mux.Acceptor, MaxQueries: 3, Handler: handler{
		query: func(_ context.Context, _ *mux.Conn, data []byte) ([]byte, error) {
			if running.Add(1) > 3 {
				t.Error("more than three queries run")
			}
			<-release
			running.Add(-1)
			return data, nil
		},
	}})
	results := make(chan error, 10)
	for i := range 10 {
		go func() {
			_, err := d.Query(t.Context(), message(i))
			results <- err
		}()
	}
	for range 7 {
		var e *wire.Error
		if err := <-results; !errors.As(err, &e) || e.Code != wire.CodeNotReady {
			t.Errorf("Query = %v, want a refusal", err)
		}
	}
	close(release)
	for range 3 {
		if err := <-results; err != nil {
			t.Errorf("Query = %v", err)
		}
	}
}

// TestFatal: the peer hears why, then the connection ends.
func TestFatal(t *testing.T) {
	near, far := tcp(t)
	d, result := run(t, near, mux.Config{Side: mux.Dialer})
	_, accepted := run(t, far, mux.Config{Side: mux.Acceptor, Handler: handler{
		query: func(context.Context, *mux.Conn, []byte) ([]byte, error) {
			return nil, mux.Fatal(wire.Errorf(wire.CodeError, "test mode mismatch"))
		},
	}})
	var e *wire.Error
	if _, err := d.Query(t.Context(), message(1)); !errors.As(err, &e) || e.Text != "test mode mismatch" {
		t.Errorf("Query = %v", err)
	}
	if err := <-result; !errors.Is(err, mux.ErrPeerGone) {
		t.Errorf("the dialer ended with %v", err)
	}
	if err := <-accepted; !errors.As(err, &e) || e.Text != "test mode mismatch" {
		t.Errorf("the acceptor ended with %v", err)
	}
}

// TestOversizedAnswer becomes an error for the asker instead of silence.
func TestOversizedAnswer(t *testing.T) {
	near, far := tcp(t)
	d, _ := pair(t, near, far, nil, handler{query: func(context.Context, *mux.Conn, []byte) ([]byte, error) {
		return make([]byte, wire.MaxPacket), nil
	}})
	var e *wire.Error
	if _, err := d.Query(t.Context(), message(1)); !errors.As(err, &e) {
		t.Errorf("Query = %v", err)
	}
}

// TestLongErrorText: neither end carries more of an error than it needs.
func TestLongErrorText(t *testing.T) {
	near, far := net.Pipe()
	c, _ := run(t, near, mux.Config{Side: mux.Dialer, Handler: handler{
		query: func(context.Context, *mux.Conn, []byte) ([]byte, error) {
			return nil, wire.Errorf(wire.CodeError, "%s", strings.Repeat("x", 1<<16))
		},
	}})
	mustNext(t, far, 0)
	far.Write(packet(0, &schema.TcpConnected{}))
	far.Write(packet(1, &schema.TcpQuery{ID: 8}))
	if o, ok := mustNext(t, far, 1).(*schema.TcpQueryError); !ok || o.ID != 8 || len(o.Message) != 1024 {
		t.Errorf("answered with %T", o)
	}
	asked := make(chan error, 1)
	go func() {
		_, err := c.Query(t.Context(), message(1))
		asked <- err
	}()
	q := mustNext(t, far, 2).(*schema.TcpQuery)
	far.Write(packet(2, &schema.TcpQueryError{ID: q.ID, Code: 5, Message: strings.Repeat("y", 1<<16)}))
	var e *wire.Error
	if err := <-asked; !errors.As(err, &e) || len(e.Text) != 1024 || e.Code != 5 {
		t.Errorf("Query = %v", err)
	}
}

func TestRunTwice(t *testing.T) {
	near, far := net.Pipe()
	d, _ := pair(t, near, far, nil, nil)
	if err := d.Run(t.Context()); err == nil {
		t.Error("Run ran twice")
	}
}

// TestSendLater: what is sent later stays until something follows, Flush comes,
// or a sender has to wait for room.
func TestSendLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		var got []int
		d, _ := pair(t, near, far, nil, handler{message: func(_ *mux.Conn, data []byte) { got = append(got, number(t, data)) }})
		later := func(i int) {
			t.Helper()
			if err := d.SendLater(t.Context(), &schema.WorkerNewCoefficient{NewCoefficient: int32(i)}); err != nil {
				t.Fatal(err)
			}
		}
		arrived := func(n int) {
			t.Helper()
			if synctest.Wait(); len(got) != n {
				t.Fatalf("%d arrived, want %d", len(got), n)
			}
		}
		later(0)
		later(1)
		arrived(0)
		if err := d.Send(t.Context(), message(2)); err != nil {
			t.Fatal(err)
		}
		arrived(3)
		later(3)
		arrived(3)
		d.Flush()
		arrived(4)
		n := 4
		for ; n < 20_000; n++ { // more than SendLimit
			later(n)
		}
		d.Flush()
		arrived(n)
		for i, v := range got {
			if v != i {
				t.Fatalf("message %d where %d is due", v, i)
			}
		}
	})
}

// TestCloseUnread: what was sent before Close arrives, though whoever closes
// has not read all that the peer sent, and the peer reads late and goes on
// writing.
func TestCloseUnread(t *testing.T) {
	dialer, acceptor := tcp(t)
	const parts = 100
	goOn, slow := make(chan struct{}), make(chan struct{})
	defer close(slow)
	var got atomic.Int64
	d, ended := run(t, dialer, mux.Config{Side: mux.Dialer, Handler: handler{message: func(*mux.Conn, []byte) {
		<-goOn
		got.Add(1)
	}}})
	a, _ := run(t, acceptor, mux.Config{Side: mux.Acceptor, Handler: handler{message: func(*mux.Conn, []byte) { <-slow }}})
	<-d.Ready()
	<-a.Ready()
	unread := make([]byte, 1000)
	for range parts {
		if err := errors.Join(d.Send(t.Context(), unread), a.Send(t.Context(), unread)); err != nil {
			t.Fatal(err)
		}
	}
	a.Close(errors.New("enough"))
	for range parts {
		_ = d.Send(t.Context(), unread) // refused where the other side is gone
		runtime.Gosched()
	}
	close(goOn)
	if err := <-ended; !errors.Is(err, mux.ErrPeerGone) || got.Load() != parts {
		t.Errorf("%d of %d parts, then %v", got.Load(), parts, err)
	}
}
