package mux_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// inUse is the memory that live objects and goroutines take.
func inUse() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

// raceDetector reports whether the test is built with -race, which makes
// goroutines expensive.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// TestIdleMemory: ten thousand connections that said something once and are
// quiet now are cheap.
func TestIdleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("10,000 connections")
	}
	const most = 16 << 10
	connections := 10000
	if raceDetector() {
		connections = 1000
	}
	before := inUse()
	got := make(chan struct{}, connections)
	conns := make([]*mux.Conn, 0, 2*connections)
	for range connections {
		near, far := net.Pipe()
		d, _ := run(t, near, mux.Config{Side: mux.Dialer})
		a, _ := run(t, far, mux.Config{Side: mux.Acceptor, Handler: handler{message: func(*mux.Conn, []byte) { got <- struct{}{} }}})
		conns = append(conns, d, a)
	}
	for i := 0; i < len(conns); i += 2 {
		if err := conns[i].Send(t.Context(), make([]byte, 5000)); err != nil {
			t.Fatal(err)
		}
	}
	for range connections {
		<-got
	}
	each := (inUse() - before) / len(conns)
	t.Logf("%d bytes for each end of an idle connection, its pipe and three goroutines", each)
	if each > most {
		t.Errorf("%d bytes for each end of an idle connection, want at most %d", each, most)
	}
	runtime.KeepAlive(conns)
}

// TestAnnouncedMemory: a length costs its sender nothing, so it must not cost
// us more than what has arrived.
func TestAnnouncedMemory(t *testing.T) {
	const connections, most = 200, 128 << 10
	before := inUse()
	var fars []net.Conn
	for range connections {
		near, far := net.Pipe()
		run(t, near, mux.Config{Side: mux.Acceptor})
		go io.CopyN(io.Discard, far, 20)
		far.Write(packet(0, &schema.TcpConnect{}))
		header := binary.LittleEndian.AppendUint32(nil, wire.MaxPacket)
		far.Write(binary.LittleEndian.AppendUint32(header, 1))
		far.Write(make([]byte, 20000))
		fars = append(fars, far)
	}
	if each := (inUse() - before) / connections; each > most {
		t.Errorf("%d bytes for 20,000 of 16 MiB, want at most %d", each, most)
	}
	for _, far := range fars {
		far.Close()
	}
}

// TestBigPacketInPieces: a packet of the largest size arrives whole, however
// its bytes come.
func TestBigPacketInPieces(t *testing.T) {
	near, far := tcp(t)
	defer far.Close()
	got := make(chan []byte, 1)
	run(t, near, mux.Config{Side: mux.Acceptor, Handler: handler{message: func(_ *mux.Conn, data []byte) { got <- data }}})
	want := make([]byte, wire.MaxPacket-8)
	for i := range want {
		want[i] = byte(i * 7 >> 3)
	}
	stream := append(packet(0, &schema.TcpConnect{}), packet(1, &schema.TcpPacket{Data: want})...)
	for n := 1; len(stream) > 0; n = min(n*3, len(stream)) {
		n = min(n, len(stream))
		if _, err := far.Write(stream[:n]); err != nil {
			t.Fatal(err)
		}
		stream = stream[n:]
	}
	if data := <-got; string(data) != string(want) || cap(data) > len(want)+8 {
		t.Errorf("%d bytes of capacity %d arrived, or other ones", len(data), cap(data))
	}
}

// chopped delivers a stream in pieces whose sizes it takes from the stream.
type chopped struct {
	net.Conn
	b []byte
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 1+int(c.b[0]))], c.b)
	c.b = c.b[n:]
	return n, nil
}

// FuzzStream compares what a connection makes of a stream with a plain reading
// of the same bytes.
func FuzzStream(f *testing.F) {
	seed := append(packet(1, &schema.TcpPacket{Data: message(1)}), packet(2, &schema.TcpPing{ID: 3})...)
	seed = append(seed, packet(3, &schema.TcpQuery{ID: 4, Data: message(5)})...)
	f.Add(seed)
	f.Add(append(seed, packet(4, &schema.TcpPacket{Data: make([]byte, 3000)})...))
	f.Add(append(seed, packet(5, &schema.TcpPacket{})...))
	f.Add(seed[:40])
	f.Fuzz(func(t *testing.T, stream []byte) {
		stream = append(packet(0, &schema.TcpConnect{}), stream...)
		want, broken := plain(stream)

		near, far := net.Pipe()
		go io.Copy(io.Discard, far)
		var got []string
		_, result := run(t, &chopped{Conn: near, b: stream}, mux.Config{Side: mux.Acceptor, Handler: handler{
			message: func(_ *mux.Conn, data []byte) { got = append(got, string(data)) },
		}})
		err := <-result
		if broken != errors.Is(err, mux.ErrViolation) {
			t.Fatalf("Run = %v, broken: %v", err, broken)
		}
		if len(got) != len(want) {
			t.Fatalf("%d messages, want %d", len(got), len(want))
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("message %d is %x, want %x", i, got[i], want[i])
			}
		}
	})
}

// plain reads the messages of a stream and tells whether it breaks the
// protocol before it ends.
func plain(b []byte) (messages []string, broken bool) {
	for seqno := uint32(0); len(b) >= 8; seqno++ {
		n := binary.LittleEndian.Uint32(b)
		if n < 4 || n > 1<<24 || binary.LittleEndian.Uint32(b[4:]) != seqno {
			return messages, true
		}
		if int(n) > len(b)-8 {
			break
		}
		o, err := schema.Decode(b[8 : 8+n])
		if _, ok := o.(schema.TcpPacketType); err != nil || !ok {
			return messages, true
		}
		if p, ok := o.(*schema.TcpPacket); ok {
			messages = append(messages, string(p.Data))
		}
		b = b[8+n:]
	}
	return messages, false
}
