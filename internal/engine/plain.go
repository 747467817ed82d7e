package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// plain speaks HTTP/1.1 without TLS to one engine, on the goroutine that asks.
// http.Transport keeps two goroutines for each connection and hands every
// request over four times, which cost a third of what the worker did. Heads
// and bodies are read by net/http all the same; what is unusual goes to the
// Transport (see fits).
type plain struct {
	dial          func(context.Context) (net.Conn, error)
	prefix        string // comes before the request's path
	head          string // of every request, after its first line
	headerTimeout time.Duration

	mu     sync.Mutex
	idle   []*plainConn // the last one was used last
	closed bool         // no connection is kept any more
}

// Limits of kept connections and of answers' heads; the Transport has the same.
const (
	maxIdle     = 256
	idleTime    = 30 * time.Second
	maxHead     = 64 << 10
	readBuffer  = 4 << 10 // held by every open stream
	maxInterims = 5
)

// maxPlainBody goes out in one write before the answer is read: it fits the
// sockets' buffers, also if the engine answers without reading it.
const maxPlainBody = 64 << 10

// newPlain returns nil if the address or the key is unusual.
func newPlain(u *url.URL, apiKey string, headerTimeout time.Duration, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *plain {
	if u.Scheme != "http" || !only(u.Host, "-.:[]") || !only(u.EscapedPath(), "-._~/") || !visible(apiKey) {
		return nil
	}
	addr := u.Host
	if u.Port() == "" {
		addr = net.JoinHostPort(u.Hostname(), "80")
	}
	head := " HTTP/1.1\r\nHost: " + u.Host + "\r\nUser-Agent: " + userAgent + "\r\n"
	if apiKey != "" {
		head += "Authorization: Bearer " + apiKey + "\r\n"
	}
	return &plain{
		dial:          func(ctx context.Context) (net.Conn, error) { return dial(ctx, "tcp", addr) },
		prefix:        u.EscapedPath(),
		head:          head,
		headerTimeout: headerTimeout,
	}
}

// fits says whether a request is as usual. Path and content type are foreign:
// nothing that could end a line gets into a head.
func (p *plain) fits(path, contentType string, body []byte) bool {
	return p != nil && len(body) <= maxPlainBody && strings.HasPrefix(path, "/") && only(path, "-._~/") && visible(contentType)
}

// only reports whether s consists of letters, digits and the extra bytes.
func only(s, extra string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(extra, c) >= 0) {
			return false
		}
	}
	return true
}

// visible reports whether s is printable ASCII, without spaces at its ends.
func visible(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return strings.TrimSpace(s) == s
}

// do sends a request that fits and returns when the head of the answer is
// there. The end of ctx closes the connection, also while the body is read.
func (p *plain) do(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	if c := p.kept(); c != nil {
		resp, err := c.ask(ctx, method, path, contentType, body)
		if !errors.Is(err, errClosedIdle) || ctx.Err() != nil {
			return resp, err
		}
	}
	nc, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &plainConn{p: p, nc: nc}
	c.br = bufio.NewReaderSize(c, readBuffer)
	return c.ask(ctx, method, path, contentType, body)
}

// kept takes the connection that was used last if it can be used again.
func (p *plain) kept() *plainConn {
	for {
		p.mu.Lock()
		n := len(p.idle) - 1
		if n < 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n]
		p.idle = p.idle[:n]
		p.mu.Unlock()
		if time.Since(c.since) < idleTime && c.quiet() {
			return c
		}
		c.nc.Close()
	}
}

// keep takes back a connection whose answer was read to its end.
func (p *plain) keep(c *plainConn) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.nc.Close()
		return
	}
	old := 0
	for old < len(p.idle) && (len(p.idle)-old >= maxIdle || c.since.Sub(p.idle[old].since) > idleTime) {
		p.idle[old].nc.Close()
		old++
	}
	p.idle = append(p.idle[:copy(p.idle, p.idle[old:])], c)
}

// close closes what is not in use, and from now on what was.
func (p *plain) close() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.nc.Close()
	}
	p.idle, p.closed = nil, true
}

// plainConn is one connection; one request uses it at a time.
type plainConn struct {
	p     *plain
	nc    net.Conn
	br    *bufio.Reader // reads the plainConn
	left  int64         // how much more may be read
	used  bool          // it answered a request before
	since time.Time     // it is kept
}

var (
	// errClosedIdle: a kept connection ended before it answered. Engines close
	// them when they like, so the request is worth another connection.
	errClosedIdle = errors.New("the kept connection ended")
	errHeadSize   = fmt.Errorf("head of above %d bytes", maxHead)
	errInterim    = errors.New("interim answers without end, or an upgrade")
)

// Read reads from the connection within the limit.
func (c *plainConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errHeadSize
	}
	n, err := c.nc.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

// quiet reports whether a kept connection is open and nothing came that nobody
// asked for, which would be taken for the next answer.
func (c *plainConn) quiet() bool {
	sc, ok := c.nc.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	var came error
	err = rc.Read(func(fd uintptr) bool {
		var b [1]byte
		_, came = syscall.Read(int(fd), b[:])
		return true
	})
	return err == nil && came == syscall.EAGAIN
}

// messages are requests as they are sent: head and body in one write.
var messages = sync.Pool{New: func() any { return new([]byte) }}

// append appends a whole request to b.
func (p *plain) append(b []byte, method, path, contentType string, body []byte) []byte {
	b = append(append(b, method...), ' ')
	b = append(append(append(b, p.prefix...), path...), p.head...)
	if body != nil {
		b = append(append(b, "Content-Type: "...), contentType...)
		b = strconv.AppendInt(append(b, "\r\nContent-Length: "...), int64(len(body)), 10)
		b = append(b, "\r\n"...)
	}
	return append(append(b, "\r\n"...), body...)
}

// ask sends one request and reads the head of the answer.
func (c *plainConn) ask(ctx context.Context, method, path, contentType string, body []byte) (resp *http.Response, err error) {
	stop := context.AfterFunc(ctx, func() { c.nc.Close() })
	defer func() {
		if err != nil {
			stop()
			c.nc.Close()
		}
	}()
	message := messages.Get().(*[]byte)
	*message = c.p.append((*message)[:0], method, path, contentType, body)
	c.left = maxHead
	_, err = c.nc.Write(*message)
	messages.Put(message)
	if err == nil {
		if c.p.headerTimeout > 0 {
			err = c.nc.SetReadDeadline(time.Now().Add(c.p.headerTimeout))
		}
		if err == nil {
			_, err = c.br.Peek(1)
		}
	}
	if err != nil {
		if c.used && !errors.Is(err, os.ErrDeadlineExceeded) {
			err = errClosedIdle
		}
		return nil, err
	}
	c.used = true
	// The request tells whether there is a body: none of ours is HEAD.
	for interims := 0; ; interims++ {
		if resp, err = http.ReadResponse(c.br, nil); err != nil {
			return nil, err
		}
		if resp.StatusCode < 100 || resp.StatusCode >= 200 {
			break
		}
		if interims == maxInterims || resp.StatusCode == http.StatusSwitchingProtocols {
			err = errInterim
			return nil, err
		}
	}
	c.left = math.MaxInt64
	if c.p.headerTimeout > 0 {
		if err = c.nc.SetReadDeadline(time.Time{}); err != nil {
			return nil, err
		}
	}
	resp.Body = &plainBody{c: c, rc: resp.Body, stop: stop, last: resp.Close}
	return resp, nil
}

// plainBody gives the connection back when the answer was read to its end.
type plainBody struct {
	c    *plainConn
	rc   io.Reader
	stop func() bool // lets the connection live when the context ends
	last bool        // the engine closes the connection
	err  error       // how the answer ended
	over atomic.Bool
}

func (b *plainBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.rc.Read(p)
	if b.err = err; err != nil {
		b.finish(err == io.EOF && !b.last && b.c.br.Buffered() == 0)
	}
	return n, err
}

func (b *plainBody) finish(again bool) {
	if !b.over.CompareAndSwap(false, true) {
		return
	}
	if b.stop() && again {
		b.c.p.keep(b.c)
		return
	}
	b.c.nc.Close()
}

// Close ends the connection if there is more to come.
func (b *plainBody) Close() error {
	b.finish(false)
	return nil
}
