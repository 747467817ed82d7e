package up_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// maxResident bounds each process's memory under attack, in KB.
const maxResident = 300 << 10

// TestGarbage: strangers trouble every port of a running network with all
// kinds of rubbish and thousands of idle connections. Callers notice nothing,
// memory stays bounded, and a worker that dies meanwhile comes back.
func TestGarbage(t *testing.T) {
	e := &enginetest.StandIn{}
	n := up(t, t.TempDir(), append(startEngine(t, e), "--workers", "2")...)
	ports := n.ports(t)
	if len(ports) < 7 {
		t.Fatalf("only %d ports found: %v", len(ports), ports)
	}
	for name := range n.children() {
		t.Logf("%s before: %d MB", name, n.resident(t, name)>>10)
	}
	ask := func(when string) {
		t.Helper()
		if r := n.ask(t.Context(), question{model: "stand-in", prompt: "count", stream: true, maxTokens: 20}); !r.complete() || r.text != words(20) {
			t.Errorf("%s: %v", when, r)
		}
	}
	ask("before")

	// Idle connections, as many as this process may have.
	const idle = 10000
	var open []net.Conn
	var mu sync.Mutex
	var wg sync.WaitGroup
	var refused atomic.Int64
	for w := range 16 {
		wg.Go(func() {
			for i := w; i < idle; i += 16 {
				c, err := net.DialTimeout("tcp", ports[i%len(ports)], 10*time.Second)
				if err != nil {
					refused.Add(1)
					continue
				}
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	require(t, len(open) >= 5000, fmt.Sprintf("only %d idle connections could be opened here (ulimit -n)", len(open)))
	ask("among idle connections")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var visits atomic.Int64
	for w := range 8 {
		wg.Go(func() {
			for i := w; ctx.Err() == nil; i += 8 {
				rubbish(i, ports[i%len(ports)])
				visits.Add(1)
			}
		})
	}
	for range 30 {
		ask("among rubbish")
	}
	n.kill("worker-1")
	eventually(t, "return of the worker", func() bool { return n.workers(t) == 2 })
	eventually(t, "many visits", func() bool { return visits.Load() >= 200 })
	ask("at the end of it")
	stop()
	wg.Wait()
	for _, c := range n.status().Children {
		kb := n.resident(t, c.Name)
		t.Logf("%s: %d MB at most", c.Name, kb>>10)
		if kb > maxResident {
			t.Errorf("%s took %d KB of memory", c.Name, kb)
		}
		// The worker that was killed may need more than one start to find its
		// way among the strangers; nobody else ever ends.
		if killed := c.Name == "worker-1"; !c.Alive || (c.Restarts > 0) != killed {
			t.Errorf("%+v", c)
		}
	}
	t.Logf("%d idle connections, %d not taken; %d visits", len(open), refused.Load(), visits.Load())
	n.stop()
}

// ports are all addresses the network listens on.
func (n *network) ports(t *testing.T) []string {
	t.Helper()
	seen := map[string]bool{strings.TrimPrefix(n.base, "http://"): true}
	for _, c := range n.children() {
		if addr := strings.TrimPrefix(c.Status, "http://"); addr != "" {
			seen[addr] = true
		}
	}
	seen[n.setting(t, "listen_workers")], seen[n.setting(t, "listen_clients")] = true, true
	if b, err := os.ReadFile(filepath.Join(n.dir, "devnet.addr")); err == nil {
		seen[strings.TrimSpace(string(b))] = true
	}
	var all []string
	for addr := range seen {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			t.Fatalf("%q is no address", addr)
		}
		all = append(all, addr)
	}
	return all
}

// resident is the most memory a child ever had, in KB.
func (n *network) resident(t *testing.T, name string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.alive(name)))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.Atoi(strings.Fields(v)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kb
		}
	}
	t.Fatal("no VmHWM in /proc")
	return 0
}

// rubbish is one stranger's visit.
func rubbish(kind int, addr string) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	junk := make([]byte, 8192)
	_, _ = rand.Read(junk)
	challenge := make([]byte, 24)
	frame := func(length uint32) []byte {
		return append(binary.LittleEndian.AppendUint32(nil, length), junk[:64]...)
	}
	switch (kind / 8) % 10 {
	case 0: // random bytes
		_, _ = c.Write(junk)
	case 1: // a puzzle answered wrongly
		_, _ = io.ReadFull(c, challenge)
		_, _ = c.Write(append([]byte{0x19, 0x73, 0x82, 0x01}, junk[:8]...))
	case 2: // half an answer, then silence
		_, _ = io.ReadFull(c, challenge)
		_, _ = c.Write([]byte{0x19, 0x73})
	case 3: // an answer, then no TLS
		_, _ = io.ReadFull(c, challenge)
		_, _ = c.Write(append(append([]byte{0x19, 0x73, 0x82, 0x01}, make([]byte, 8)...), junk...))
	case 4: // TLS at once
		_ = tls.Client(c, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(context.Background())
	case 5: // a truncated frame
		_, _ = c.Write(frame(1 << 16))
	case 6: // giant lengths
		_, _ = c.Write(frame(1<<31 - 1))
		_, _ = c.Write(bytes.Repeat([]byte{0xff}, 1<<16))
	case 7: // HTTP that never ends
		_, _ = c.Write([]byte("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999999\r\n\r\n{"))
	case 8: // a header without end
		_, _ = c.Write([]byte("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Long: "))
		for range 64 {
			if _, err := c.Write(bytes.Repeat([]byte("a"), 1<<15)); err != nil {
				break
			}
		}
	case 9: // deep JSON
		body := strings.Repeat("[", 1<<16)
		fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(c, 1<<20))
}
