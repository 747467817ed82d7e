//go:build !tee

package node

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// TestGarbageOnEveryPort: strangers send all kinds of rubbish to every port
// while callers are being served. Nobody is disturbed and memory stays put.
func TestGarbageOnEveryPort(t *testing.T) {
	n := startNet(t)
	n.startWorker(1, &enginetest.StandIn{})
	n.waitWorkers(1)
	gateway := strings.TrimPrefix(n.gateway.URL, "http://")
	ports := []string{n.workersLn, n.clientsLn, gateway}

	before := heap()
	idle := 10000
	if testing.Short() {
		idle = 1000
	}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for i := range idle {
		c, err := net.Dial("tcp", ports[i%2])
		if err != nil {
			break // out of descriptors here; the listener has its own bound
		}
		// Keep some open to the end; the rest as long as the listener does.
		if len(open) < 3000 {
			open = append(open, c)
		} else {
			c.Close()
		}
	}
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() { rubbish(i, ports[i%len(ports)]) })
	}
	for range 20 {
		if r := n.ask(t.Context(), true, 10, 0); !r.done || r.text != words(10) {
			t.Errorf("while being bothered: %+v", r)
		}
	}
	wg.Wait()
	if grown := int64(heap()) - int64(before); grown > 64<<20 {
		t.Errorf("memory grew by %d MB", grown>>20)
	}

	for _, c := range open {
		c.Close()
	}
	// Rubbish past the handshake, as a genuine but mad peer would send it.
	for i := range 8 {
		n.madPeer(t, i)
	}
	if r := n.ask(t.Context(), false, 10, 0); !r.done {
		t.Errorf("afterwards: %+v", r)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// rubbish is one stranger's visit.
func rubbish(kind int, addr string) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	junk := make([]byte, 4096)
	_, _ = rand.Read(junk)
	switch kind % 6 {
	case 0: // random bytes
		_, _ = c.Write(junk)
	case 1: // a puzzle answered wrongly
		_, _ = io.ReadFull(c, make([]byte, 24))
		_, _ = c.Write(append([]byte{0x19, 0x73, 0x82, 0x01}, junk[:8]...))
	case 2: // half an answer, then silence
		_, _ = c.Write([]byte{0x19, 0x73})
		time.Sleep(500 * time.Millisecond)
	case 3: // a right answer, then no TLS
		_, _ = io.ReadFull(c, make([]byte, 24))
		_, _ = c.Write(append([]byte{0x19, 0x73, 0x82, 0x01}, make([]byte, 8)...))
		_, _ = c.Write(junk)
	case 4: // TLS without a certificate
		_, _ = io.ReadFull(c, make([]byte, 24))
		_, _ = c.Write(append([]byte{0x19, 0x73, 0x82, 0x01}, make([]byte, 8)...))
		_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(context.Background())
	case 5: // HTTP that never ends
		_, _ = c.Write([]byte("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n{"))
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c, 1<<20))
}

// madPeer passes the attested handshake and then misbehaves.
func (n *testNet) madPeer(t *testing.T, kind int) {
	t.Helper()
	role, addr := cocoon.RoleProxy, n.clientsLn
	d, err := ratls.NewDialer(n.tls(simWorkImage, role))
	if err != nil {
		t.Fatal(err)
	}
	if kind%2 == 0 {
		addr = n.workersLn
	}
	var c *tee.Conn
	n.eventually("connection for a mad peer", func() bool {
		c, err = d.Dial(t.Context(), addr)
		return err == nil
	})
	defer c.Close()
	frame := func(length uint32, seqno uint32, payload []byte) []byte {
		b := binary.LittleEndian.AppendUint32(nil, length)
		return append(binary.LittleEndian.AppendUint32(b, seqno), payload...)
	}
	hello := schema.Marshal(&schema.TcpConnect{ID: 1})
	packet := func(b []byte) []byte { return schema.Marshal(&schema.TcpPacket{Data: b}) }
	switch kind / 2 {
	case 0: // a giant length
		_, _ = c.Write(frame(1<<24, 0, []byte("x")))
	case 1: // beyond the limit, after a good start
		_, _ = c.Write(append(frame(uint32(len(hello)), 0, hello), frame(1<<30, 1, nil)...))
	case 2: // an object that is none
		p := packet([]byte{1, 2, 3, 4, 5, 6, 7, 8})
		_, _ = c.Write(append(frame(uint32(len(hello)), 0, hello), frame(uint32(len(p)), 1, p)...))
	case 3: // a request before any login
		p := packet(schema.Marshal(&schema.ClientRunQueryEx{ModelName: "stand-in", Timeout: 10}))
		_, _ = c.Write(append(frame(uint32(len(hello)), 0, hello), frame(uint32(len(p)), 1, p)...))
	}
	_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	_, _ = io.Copy(io.Discard, c)
}

// TestWorkerThatLies: a worker that claims more than a request can cost is
// paid what was reserved; one that sends parts out of order, broken heads or
// nothing fails its request and nothing else.
func TestWorkerThatLies(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault enginetest.Fault
		ok    bool
	}{
		{"engine reports far too much usage", enginetest.Lie, false},
		{"engine goes beyond the limit", enginetest.Overrun, false},
		{"engine answers a page", enginetest.HTML, false},
		{"engine dies before the head", enginetest.CutHead, false},
		{"engine dies in the middle", enginetest.CutBody, false},
		{"stream without an end", enginetest.NoDone, false},
		{"event that is not JSON", enginetest.BrokenSSE, false},
		{"engine refuses", enginetest.Refuse, false},
		{"engine dies between head and answer", enginetest.CutStart, false},
		{"engine sends an endless head", enginetest.HugeHead, false},
		{"engine sends events without an end", enginetest.Endless, false},
		{"text that is no UTF-8", enginetest.BrokenText, false},
		{"engine says nothing at all", enginetest.Hang, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startNet(t)
			var mended atomic.Bool
			n.startWorker(1, &enginetest.StandIn{Fault: func() enginetest.Fault {
				if mended.Load() {
					return enginetest.None
				}
				return c.fault
			}})
			n.waitWorkers(1)
			for _, stream := range []bool{true, false} {
				if c.fault == enginetest.Hang {
					n.timeout = 0.3
				}
				r := n.ask(t.Context(), stream, 20, 0)
				n.timeout = 0
				// On a busy machine the proxy's own limit, a little later, wins.
				if c.fault == enginetest.Hang && !strings.Contains(r.err, "engine did not begin") && !strings.Contains(r.err, "did not answer in time") {
					t.Errorf("stream=%v: the error is %q", stream, r.err)
				}
				if r.done && r.err == "" && c.fault != enginetest.NoDone {
					t.Errorf("stream=%v: taken for a good answer: %+v", stream, r)
				}
				if r.err == "" && !r.done {
					t.Errorf("stream=%v: no error is named: %+v", stream, r)
				}
			}
			if used := n.used(); used != 0 {
				t.Errorf("charged %d tokens for broken answers", used)
			}
			// The next good answer is served by the same worker.
			mended.Store(true)
			if r := n.ask(t.Context(), true, 20, 0); !r.done {
				t.Errorf("after the fault: %+v", r)
			}
		})
	}
}

// TestPoison: a request that engines fail at is tried a few times, sealed or
// not, and not for as long as its caller waits.
func TestPoison(t *testing.T) {
	t.Parallel()
	for _, mode := range []api.Seal{api.SealRequire, api.SealOff} {
		t.Run(string(mode), func(t *testing.T) {
			n := startNet(t, sealedAs(mode))
			e := &enginetest.StandIn{Fault: func() enginetest.Fault { return enginetest.Lie }}
			n.startWorker(1, e)
			n.waitWorkers(1)
			before := e.Requests.Load()
			if r := n.ask(t.Context(), false, 20, 0); r.err == "" {
				t.Errorf("%+v", r)
			}
			if tries := e.Requests.Load() - before; tries < 1 || tries > 4 {
				t.Errorf("the engine was asked %d times", tries)
			}
			if used := n.used(); used != 0 {
				t.Errorf("charged %d tokens", used)
			}
		})
	}
}

// TestEngineThatCountsWrongly: without a count a stream costs the pieces that
// were seen and a whole answer nothing; a count below zero is none.
func TestEngineThatCountsWrongly(t *testing.T) {
	n := startNet(t)
	var fault atomic.Int64
	n.startWorker(1, &enginetest.StandIn{Fault: func() enginetest.Fault { return enginetest.Fault(fault.Load()) }})
	n.waitWorkers(1)
	cost := func(f enginetest.Fault, stream bool) (int64, int64) {
		fault.Store(int64(f))
		before := n.used()
		r := n.ask(t.Context(), stream, 20, 0)
		if !r.done || r.err != "" {
			t.Fatalf("fault %d, stream=%v: %+v", f, stream, r)
		}
		return n.used() - before, r.usage.PromptTokens
	}
	good, prompt := cost(enginetest.None, false)
	if good <= prompt || prompt == 0 {
		t.Fatalf("a good answer costs %d with %d tokens of prompt", good, prompt)
	}
	for _, c := range []struct {
		name   string
		fault  enginetest.Fault
		stream bool
		want   int64
	}{
		{"good stream", enginetest.None, true, good},
		{"stream without usage", enginetest.NoUsage, true, good - prompt},
		{"answer without usage", enginetest.NoUsage, false, 0},
		{"negative in a stream", enginetest.Negative, true, prompt},
		{"negative", enginetest.Negative, false, prompt},
	} {
		if got, _ := cost(c.fault, c.stream); got != c.want {
			t.Errorf("%s: charged %d tokens, want %d", c.name, got, c.want)
		}
	}
}

// lyingWorker is a peer that speaks the protocol and claims what it likes.
type lyingWorker struct {
	answer func(*mux.Conn, *schema.ProxyRunQueryEx)
}

func (w *lyingWorker) Query(context.Context, *mux.Conn, []byte) ([]byte, error) {
	return nil, mux.ErrUnknownFunction
}

func (w *lyingWorker) Message(c *mux.Conn, data []byte) {
	if o, err := schema.Decode(data); err == nil {
		if q, ok := o.(*schema.ProxyRunQueryEx); ok {
			go w.answer(c, q)
		}
	}
}

func (n *testNet) connectLiar(t *testing.T, answer func(*mux.Conn, *schema.ProxyRunQueryEx)) {
	t.Helper()
	d, err := ratls.NewDialer(n.tls(simWorkImage, cocoon.RoleProxy))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := d.Dial(t.Context(), n.workersLn)
	if err != nil {
		t.Fatal(err)
	}
	c := mux.New(nc, mux.Config{Side: mux.Dialer, Level: nc.Peer.Level, Handler: &lyingWorker{answer}})
	n.run(c.Run)
	<-c.Ready()
	for _, fn := range []schema.Object{
		&schema.WorkerConnectToProxy{Params: schema.WorkerParams{Flags: 3, WorkerOwnerAddress: cocoon.Address{Hash: [32]byte{5}}.String(), Model: string(n.model), Coefficient: 1000, IsTest: true, ProxyCnt: 1, MaxActiveRequests: 10, MinProtoVersion: 1, MaxProtoVersion: 2}},
		&schema.WorkerCompareBalanceWithProxy{},
		&schema.WorkerProxyHandshakeComplete{},
	} {
		if _, err := c.Query(t.Context(), schema.Marshal(fn)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLyingWorker(t *testing.T) {
	head := role.EncodeResponse(200, map[string][]string{"Content-Type": {"application/json"}}, nil)
	answer := []byte(`{"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)
	final := func(tokens int64) *schema.ProxyQueryFinalInfo {
		return &schema.ProxyQueryFinalInfo{Flags: 2, TokensUsed: schema.TokensUsed{CompletionTokensUsed: tokens, TotalTokensUsed: tokens}}
	}
	send := func(c *mux.Conn, os ...schema.Object) {
		for _, o := range os {
			_ = c.SendObject(context.Background(), o)
		}
	}
	for _, c := range []struct {
		name    string
		answer  func(*mux.Conn, *schema.ProxyRunQueryEx)
		done    bool
		charged func(used int64) bool
	}{
		{"claims far too many tokens", func(c *mux.Conn, q *schema.ProxyRunQueryEx) {
			send(c, &schema.ProxyQueryAnswerEx{RequestID: q.RequestID, Answer: head}, &schema.ProxyQueryAnswerPartEx{RequestID: q.RequestID, Answer: answer, Flags: 1, FinalInfo: final(1 << 60)})
		}, true, func(used int64) bool { return used > 10 && used < 1000 }},
		{"claims negative tokens", func(c *mux.Conn, q *schema.ProxyRunQueryEx) {
			send(c, &schema.ProxyQueryAnswerEx{RequestID: q.RequestID, Answer: head}, &schema.ProxyQueryAnswerPartEx{RequestID: q.RequestID, Answer: answer, Flags: 1, FinalInfo: final(-5)})
		}, true, func(used int64) bool { return used == 0 }},
		{"part before the head", func(c *mux.Conn, q *schema.ProxyRunQueryEx) {
			send(c, &schema.ProxyQueryAnswerPartEx{RequestID: q.RequestID, Answer: answer})
		}, false, func(used int64) bool { return used == 0 }},
		{"two heads", func(c *mux.Conn, q *schema.ProxyRunQueryEx) {
			send(c, &schema.ProxyQueryAnswerEx{RequestID: q.RequestID, Answer: head}, &schema.ProxyQueryAnswerEx{RequestID: q.RequestID, Answer: head})
		}, false, func(used int64) bool { return used == 0 }},
		{"head that is no http.response", func(c *mux.Conn, q *schema.ProxyRunQueryEx) {
			send(c, &schema.ProxyQueryAnswerEx{RequestID: q.RequestID, Answer: []byte("nonsense")})
		}, false, func(used int64) bool { return used == 0 }},
		{"error without an end", func(c *mux.Conn, q *schema.ProxyRunQueryEx) {
			send(c, &schema.ProxyQueryAnswerErrorEx{RequestID: q.RequestID, ErrorCode: 621, Error: strings.Repeat("x", 1<<20)})
		}, false, func(used int64) bool { return used == 0 }},
		{"more than the window", func(c *mux.Conn, q *schema.ProxyRunQueryEx) {
			send(c, &schema.ProxyQueryAnswerEx{RequestID: q.RequestID, Answer: head})
			for range 64 {
				send(c, &schema.ProxyQueryAnswerPartEx{RequestID: q.RequestID, Answer: make([]byte, 1<<20)})
			}
		}, false, func(used int64) bool { return used == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := startNet(t)
			n.connectLiar(t, c.answer)
			n.waitWorkers(1)
			r := n.ask(t.Context(), false, 10, 0)
			if r.done != c.done {
				t.Fatalf("%+v", r)
			}
			n.eventually("end", func() bool { s := n.proxy.Stats(); return s.Queries == s.Success+s.Failed+s.Cancelled })
			if used := n.used(); !c.charged(used) {
				t.Errorf("charged %d tokens", used)
			}
		})
	}
}
