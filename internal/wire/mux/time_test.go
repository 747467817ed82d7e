package mux_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// far is a hand-driven peer: it records what arrives and when.
type far struct {
	net.Conn
	seqno int
	start time.Time
	got   []event
	ended chan struct{}
}

type event struct {
	after time.Duration
	name  string
}

func newFar(nc net.Conn) *far {
	f := &far{Conn: nc, start: time.Now(), ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		for {
			_, o, err := next(f)
			if err != nil {
				return
			}
			f.got = append(f.got, event{time.Since(f.start), o.TLName()})
		}
	}()
	return f
}

func (f *far) send(o schema.Object) {
	f.Write(packet(f.seqno, o))
	f.seqno++
}

// TestDialerSilence: one ping after 10 s of silence, the end after 20 s; any
// packet starts both again (spec network-protocol 2.6).
func TestDialerSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, other := net.Pipe()
		f := newFar(other)
		_, result := run(t, near, mux.Config{Side: mux.Dialer})
		f.send(&schema.TcpConnected{})
		time.Sleep(15 * time.Second)
		f.send(&schema.TcpPacket{})
		err := <-result
		if !errors.Is(err, mux.ErrSilent) || time.Since(f.start) != 35*time.Second {
			t.Errorf("ended after %v with %v, want 35s and ErrSilent", time.Since(f.start), err)
		}
		<-f.ended
		want := []event{{0, "tcp.connect"}, {10 * time.Second, "tcp.ping"}, {25 * time.Second, "tcp.ping"}}
		if len(f.got) != 3 || f.got[0] != want[0] || f.got[1] != want[1] || f.got[2] != want[2] {
			t.Errorf("got %v, want %v", f.got, want)
		}
	})
}

// TestAcceptorSilence: an acceptor never pings and bears 60 s of silence.
func TestAcceptorSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, other := net.Pipe()
		f := newFar(other)
		_, result := run(t, near, mux.Config{Side: mux.Acceptor})
		f.send(&schema.TcpConnect{})
		time.Sleep(59 * time.Second)
		f.send(&schema.TcpPing{})
		err := <-result
		if !errors.Is(err, mux.ErrSilent) || time.Since(f.start) != 119*time.Second {
			t.Errorf("ended after %v with %v, want 119s and ErrSilent", time.Since(f.start), err)
		}
		<-f.ended
		if len(f.got) != 2 || f.got[0].name != "tcp.connected" || f.got[1] != (event{59 * time.Second, "tcp.pong"}) {
			t.Errorf("got %v", f.got)
		}
	})
}

// TestQuietPair: two ends with nothing to say stay connected.
func TestQuietPair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, other := net.Pipe()
		d, a := pair(t, near, other, nil, nil)
		time.Sleep(time.Hour)
		if d.Err() != nil || a.Err() != nil {
			t.Errorf("ended: %v, %v", d.Err(), a.Err())
		}
	})
}

func TestHandshakeTimeout(t *testing.T) {
	for _, side := range []mux.Side{mux.Dialer, mux.Acceptor} {
		t.Run(side.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, other := net.Pipe()
				f := newFar(other)
				_, result := run(t, near, mux.Config{Side: side})
				dripped := make(chan struct{})
				go func() { // dripping half a packet is no handshake
					defer close(dripped)
					for _, b := range packet(0, &schema.TcpConnect{})[:19] {
						if _, err := f.Write([]byte{b}); err != nil {
							return
						}
						time.Sleep(2 * time.Second)
					}
				}()
				err := <-result
				if !errors.Is(err, mux.ErrHandshake) || time.Since(f.start) != 20*time.Second {
					t.Errorf("ended after %v with %v, want 20s and ErrHandshake", time.Since(f.start), err)
				}
				<-dripped
			})
		})
	}
}

// TestStalled: a peer that pings but reads nothing is given up.
func TestStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, other := net.Pipe()
		defer other.Close()
		start := time.Now()
		_, result := run(t, near, mux.Config{Side: mux.Acceptor})
		pinged := make(chan struct{})
		go func() {
			defer close(pinged)
			for i := 0; ; i++ {
				var o schema.Object = &schema.TcpPing{}
				if i == 0 {
					o = &schema.TcpConnect{}
				}
				if _, err := other.Write(packet(i, o)); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		}()
		err := <-result
		// The clocks are looked at every 60 s at least.
		if d := time.Since(start); !errors.Is(err, mux.ErrStalled) || d < 60*time.Second || d > 120*time.Second {
			t.Errorf("ended after %v with %v, want ErrStalled", d, err)
		}
		<-pinged
	})
}

// TestLinger: Close writes what is queued, but waits for it a second at most.
func TestLinger(t *testing.T) {
	t.Run("peer reads", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, other := net.Pipe()
			f := newFar(other)
			c, result := run(t, near, mux.Config{Side: mux.Acceptor})
			f.send(&schema.TcpConnect{})
			<-c.Ready()
			for range 100 {
				if err := c.Send(t.Context(), message(1)); err != nil {
					t.Fatal(err)
				}
			}
			reason := errors.New("moving on")
			c.Close(reason)
			if err := c.Send(t.Context(), message(2)); !errors.Is(err, mux.ErrClosed) || !errors.Is(err, reason) {
				t.Errorf("Send after Close = %v", err)
			}
			if err := <-result; err != reason {
				t.Errorf("Run = %v, want the reason", err)
			}
			<-f.ended
			if len(f.got) != 101 || time.Since(f.start) != 0 {
				t.Errorf("%d packets arrived in %v, want 101 at once", len(f.got), time.Since(f.start))
			}
		})
	})
	t.Run("peer reads nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			near, other := net.Pipe()
			defer other.Close()
			start := time.Now()
			c, result := run(t, near, mux.Config{Side: mux.Acceptor})
			other.Write(packet(0, &schema.TcpConnect{}))
			<-c.Ready()
			c.Close(nil)
			c.Close(errors.New("again"))
			if err := <-result; err != mux.ErrClosed || time.Since(start) != time.Second {
				t.Errorf("Run = %v after %v, want ErrClosed after a second", err, time.Since(start))
			}
		})
	})
	t.Run("before Run", func(t *testing.T) {
		near, other := net.Pipe()
		c := mux.New(near, mux.Config{})
		c.Close(nil)
		if err := c.Run(t.Context()); err != mux.ErrClosed {
			t.Errorf("Run = %v", err)
		}
		if _, err := other.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the connection is still open: %v", err)
		}
	})
}

// TestContext: the end of Run's context is the end of the connection, after
// what was queued.
func TestContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, other := net.Pipe()
		f := newFar(other)
		c := mux.New(near, mux.Config{Side: mux.Acceptor})
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error)
		go func() { result <- c.Run(ctx) }()
		f.send(&schema.TcpConnect{})
		<-c.Ready()
		if err := c.Send(t.Context(), message(1)); err != nil {
			t.Fatal(err)
		}
		shutdown := errors.New("shutdown")
		cancel(shutdown)
		if err := <-result; err != shutdown {
			t.Errorf("Run = %v, want the cause", err)
		}
		<-f.ended
		if len(f.got) != 2 {
			t.Errorf("%v arrived", f.got)
		}
	})
}

// TestUrgentBehindLongMessage: while a message far above the limit waits for a
// slow peer, cancels and windows of other requests still have their room. One
// window lost would stop its answer for good.
func TestUrgentBehindLongMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, other := net.Pipe()
		defer other.Close()
		const limit, extra = 10000, 3000
		c, _ := run(t, near, mux.Config{Side: mux.Acceptor, SendLimit: limit, UrgentLimit: extra})
		other.Write(packet(0, &schema.TcpConnect{}))
		<-c.Ready()
		if err := c.Send(t.Context(), make([]byte, 985)); err != nil { // keeps the writer busy
			t.Fatal(err)
		}
		synctest.Wait()
		if err := c.Send(t.Context(), make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		for i := range extra / 100 {
			if err := c.SendUrgent(make([]byte, 85)); err != nil {
				t.Fatalf("urgent message %d: %v", i, err)
			}
		}
		if err := c.SendUrgent(make([]byte, 85)); !errors.Is(err, mux.ErrQueueFull) {
			t.Errorf("SendUrgent = %v, want ErrQueueFull", err)
		}
	})
}

// TestSlowReader: with a peer that reads nothing, Send waits, SendUrgent fails
// after a bounded amount, and a flood of pings and queries is not answered
// beyond it.
func TestSlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, other := net.Pipe()
		defer other.Close()
		const limit, extra = 10000, 3000
		c, _ := run(t, near, mux.Config{Side: mux.Acceptor, SendLimit: limit, UrgentLimit: extra})
		other.Write(packet(0, &schema.TcpConnect{}))
		<-c.Ready()

		sent := 0
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for ; ; sent++ {
			if err := c.Send(ctx, make([]byte, 985)); err != nil { // a packet of 1000 bytes
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Send = %v, want the deadline", err)
				}
				break
			}
		}
		// One batch is in the writer's hands, one is filled up to the limit.
		if sent < limit/1000 || sent > 2*limit/1000 {
			t.Errorf("%d packets were taken", sent)
		}
		if err := c.TrySend(message(1)); !errors.Is(err, mux.ErrQueueFull) {
			t.Errorf("TrySend = %v, want ErrQueueFull", err)
		}
		urgent := 0
		for ; c.SendUrgent(make([]byte, 85)) == nil; urgent++ { // 100 bytes
		}
		if most := extra / 100; urgent > most || urgent < most-10 { // the last ordinary one may exceed the limit
			t.Errorf("%d urgent packets were taken, want about %d", urgent, most)
		}
		for i := 1; i <= 2000; i++ {
			var o schema.Object = &schema.TcpPing{}
			if i%2 == 0 {
				o = &schema.TcpQuery{ID: int64(i)}
			}
			if _, err := other.Write(packet(i, o)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()

		// Now it reads: all that was taken comes, in order of its numbers.
		packets := map[string]int{}
		for i := range 1 + sent + urgent {
			seqno, o, err := next(other)
			if err != nil || seqno != i {
				t.Fatalf("packet %d: number %d, %v", i, seqno, err)
			}
			packets[o.TLName()]++
		}
		if packets["tcp.packet"] != sent+urgent {
			t.Errorf("%v arrived, want %d packets", packets, sent+urgent)
		}
	})
}
