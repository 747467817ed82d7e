package engine

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// scripted is an engine that answers the nth request of a connection with the
// nth of these texts, and closes the connection after the last.
func scripted(t *testing.T, texts ...string) (url string, conns *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = new(atomic.Int64)
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			wg.Go(func() {
				defer c.Close()
				br := bufio.NewReader(c)
				for _, text := range texts {
					if r, err := http.ReadRequest(br); err != nil {
						return
					} else if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return
					}
					if _, err := io.WriteString(c, text); err != nil {
						return
					}
				}
			})
		}
	})
	return "http://" + l.Addr().String(), conns
}

func newClient(t *testing.T, url string) *Client {
	t.Helper()
	c, err := New(Config{BaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// answer asks c once and returns the whole answer.
func answer(c *Client) (status int, body string, err error) {
	resp, err := c.Do(context.Background(), &Request{Path: "/v1/completions", ContentType: "application/json", Body: []byte(`{"a":1}`)})
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

const short = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"

// TestPlainAnswers: every form of an answer, and whether its connection is used
// for the next one.
func TestPlainAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		text, body string
		err        error
		again      bool
	}{
		"length":            {short, "ab", nil, true},
		"chunks":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1;x=y\r\nb\r\n0\r\n\r\n", "ab", nil, true},
		"trailers":          {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nab\r\n0\r\nX: 1\r\n\r\n", "ab", nil, true},
		"empty":             {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", nil, true},
		"no content":        {"HTTP/1.1 204 No Content\r\n\r\n", "", nil, true},
		"interim":           {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + short, "ab", nil, true},
		"to be closed":      {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", "ab", nil, false},
		"version 1.0":       {"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", "ab", nil, false},
		"too much":          {short + "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", "ab", nil, false},
		"interims for ever": {strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 100) + short, "", ErrBadAnswer, false},
		"upgrade":           {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "", ErrBadAnswer, false},
		"long head":         {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+strings.Repeat("y", 1000)+"\r\n", 100) + "Content-Length: 2\r\n\r\nab", "", ErrBadAnswer, false},
		"two lengths":       {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc", "", ErrBadAnswer, false},
		"bad chunk":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\na\r\n", "", ErrBroken, false},
		"html":              {"<html>SECRET</html>\r\n\r\n", "", ErrBadAnswer, false},
	} {
		t.Run(name, func(t *testing.T) {
			// After each answer comes another one, unless the connection is over.
			url, conns := scripted(t, c.text, short)
			cl := newClient(t, url)
			_, body, err := answer(cl)
			if !errors.Is(err, c.err) || err == nil && body != c.body || strings.Contains(fmt.Sprint(err), "SECRET") {
				t.Fatalf("%q, %v", body, err)
			}
			if c.err != nil {
				return
			}
			if c.again {
				if _, body, err := answer(cl); err != nil || body != "ab" || conns.Load() != 1 {
					t.Errorf("next: %q, %v, %d connections", body, err, conns.Load())
				}
				return
			}
			if _, body, err := answer(cl); err != nil || body != c.body || conns.Load() != 2 {
				t.Errorf("next: %q, %v, %d connections", body, err, conns.Load())
			}
		})
	}
	url, _ := scripted(t, "HTTP/1.1 200 OK\r\n\r\nab") // to the end of the connection
	if _, body, err := answer(newClient(t, url)); err != nil || body != "ab" {
		t.Errorf("until closed: %q, %v", body, err)
	}
	url, _ = scripted(t, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab")
	if _, _, err := answer(newClient(t, url)); !errors.Is(err, ErrBroken) {
		t.Errorf("cut: %v", err)
	}
}

// TestPlainKept: a kept connection that the engine closed, or on which it said
// something nobody asked for, costs nobody an answer; one that dies again on
// a new connection is an error.
func TestPlainKept(t *testing.T) {
	url, conns := scripted(t, short) // closes after each answer, without saying so
	c := newClient(t, url)
	for i := range int64(5) {
		if _, body, err := answer(c); err != nil || body != "ab" || conns.Load() != i+1 {
			t.Fatalf("%d: %q %v, %d connections", i, body, err, conns.Load())
		}
	}
	// It takes the request on the kept connection and closes that.
	url, conns = scripted(t, short, "")
	c = newClient(t, url)
	for i := range int64(2) {
		if _, body, err := answer(c); err != nil || body != "ab" || conns.Load() != i+1 {
			t.Fatalf("%d: %q %v, %d connections", i, body, err, conns.Load())
		}
	}
	url, _ = scripted(t, "")
	if _, _, err := answer(newClient(t, url)); !errors.Is(err, ErrBadAnswer) {
		t.Errorf("a new connection without an answer: %v", err)
	}
	// Said later, while the connection is kept.
	client, server := tcpPair(t)
	kept := &plainConn{nc: client}
	if !kept.quiet() {
		t.Error("an open connection is not used again")
	}
	io.WriteString(server, "HTTP/1.1 200 OK\r\n\r\n")
	for end := time.Now().Add(10 * time.Second); kept.quiet() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if kept.quiet() {
		t.Error("a connection is used on which the engine spoke unasked")
	}
}

func tcpPair(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// TestPlainIdle: no more connections are kept than the limit, none for longer
// than the time, and none after Close.
func TestPlainIdle(t *testing.T) {
	p := &plain{}
	add := func() net.Conn {
		a, b := net.Pipe()
		t.Cleanup(func() { b.Close() })
		p.keep(&plainConn{p: p, nc: a})
		return b
	}
	for range maxIdle + 3 {
		add()
	}
	if len(p.idle) != maxIdle {
		t.Errorf("%d kept", len(p.idle))
	}
	for _, c := range p.idle[:maxIdle-1] {
		c.since = c.since.Add(-idleTime - time.Second)
	}
	add()
	if len(p.idle) != 2 {
		t.Errorf("%d kept after their time", len(p.idle))
	}
	p.close()
	over := add()
	if _, err := over.Read(make([]byte, 1)); err != io.EOF || len(p.idle) != 0 {
		t.Errorf("kept after Close: %v, %d", err, len(p.idle))
	}
}

// TestPlainClose: who closes an answer in the middle ends it at the engine, and
// the end of the context after the answer changes nothing.
func TestPlainClose(t *testing.T) {
	left := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/endless" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
			close(left)
		}
	}))
	defer s.Close()
	c := newClient(t, s.URL)
	resp, err := c.Do(t.Context(), &Request{Path: "/endless", ContentType: "application/json", Body: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-left
	for range 3 {
		ctx, cancel := context.WithCancel(t.Context())
		resp, err := c.Do(ctx, &Request{Path: "/", ContentType: "application/json", Body: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil {
			t.Fatal(err)
		}
		cancel()
		resp.Body.Close()
	}
	if n := len(c.plain.idle); n != 1 {
		t.Errorf("%d connections kept", n)
	}
}

// TestPlainFits: what is unusual goes to net/http, whose rules then hold.
func TestPlainFits(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		asked = append(asked, fmt.Sprint(r.RequestURI, " ", n, " ", len(r.Header)))
	}))
	defer s.Close()
	c := newClient(t, s.URL)
	for _, x := range []struct {
		path, contentType string
		size              int
		fits, ok          bool
	}{
		{"/v1/completions", "application/json; charset=utf-8", 10, true, true},
		{"/v1/completions", "application/json", maxPlainBody, true, true},
		{"/v1/completions", "application/json", maxPlainBody + 1, false, true},
		{"/v1/completions?a=b", "application/json", 10, false, true},
		{"/v1/a%20b", "application/json", 10, false, true},
		{"/v1/completions HTTP/1.1\r\nX: y\r\n\r\n", "application/json", 10, false, false},
		{"/v1/completions", "application/json\r\nX-Injected: y", 10, false, false},
		{"/v1/completions", "é", 10, false, true},
	} {
		body := bytes.Repeat([]byte("x"), x.size)
		if fits := c.plain.fits(x.path, x.contentType, body); fits != x.fits {
			t.Errorf("%q %q %d: fits %v", x.path, x.contentType, x.size, fits)
		}
		resp, err := c.Do(t.Context(), &Request{Path: x.path, ContentType: x.contentType, Body: body})
		if (err == nil) != x.ok {
			t.Errorf("%q %q %d: %v", x.path, x.contentType, x.size, err)
		}
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	}
	if len(asked) != 6 {
		t.Errorf("%q", asked)
	}
	for url, want := range map[string]bool{
		"http://127.0.0.1:1": true, "http://[::1]:1": true, "http://engine": true, "http://engine/a/b": true, "unix:/x": true,
		"https://engine": false, "http://engine/a%2fb": false, "http://[fe80::1%25lo]:1": false, "http://bücher": false,
	} {
		c, err := New(Config{BaseURL: url})
		if err != nil || (c.plain != nil) != want {
			t.Errorf("%s: %v, %v", url, c != nil && c.plain != nil, err)
		}
	}
	if c, err := New(Config{BaseURL: "http://engine", APIKey: "a\r\nX: y"}); err != nil || c.plain != nil {
		t.Error("a key that ends a line is sent")
	}
}

// FuzzPlain: whatever an engine writes, the same comes of it as of net/http's
// own client, and no connection is kept on which more than the answer came.
func FuzzPlain(f *testing.F) {
	for _, s := range []string{
		short, short + short, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: 1\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\n" + short,
		"HTTP/1.0 200 OK\r\n\r\nab", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dial := func(context.Context, string, string) (net.Conn, error) {
			client, server := net.Pipe()
			go func() {
				defer server.Close()
				r, err := http.ReadRequest(bufio.NewReader(server))
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, r.Body); err == nil {
					_, _ = server.Write(text)
				}
			}()
			return client, nil
		}
		ask := func(c *Client) (status int, header http.Header, body []byte, err error) {
			resp, err := c.Do(context.Background(), &Request{Path: "/", ContentType: "a", Body: []byte("{}")})
			if err != nil {
				return 0, nil, nil, err
			}
			defer resp.Body.Close()
			body, err = io.ReadAll(resp.Body)
			return resp.StatusCode, resp.Header, body, err
		}
		tr := &http.Transport{DialContext: dial, DisableCompression: true, DisableKeepAlives: true, MaxResponseHeaderBytes: maxHead}
		theirs, err := New(Config{BaseURL: "http://engine", Transport: tr})
		if err != nil {
			t.Fatal(err)
		}
		ours, err := New(Config{BaseURL: "http://engine"})
		if err != nil {
			t.Fatal(err)
		}
		ours.plain.dial = func(ctx context.Context) (net.Conn, error) { return dial(ctx, "", "") }
		status, header, body, err := ask(ours)
		if err == nil && len(ours.plain.idle) > 0 && ours.plain.idle[0].br.Buffered() > 0 {
			t.Error("a connection is kept on which more came than the answer")
		}
		ours.Close()
		wantStatus, wantHeader, wantBody, wantErr := ask(theirs)
		if wantStatus == http.StatusSwitchingProtocols {
			wantStatus, wantHeader, wantBody, wantErr = 0, nil, nil, ErrBadAnswer // we have no use for one
		}
		if status != wantStatus || !bytes.Equal(body, wantBody) || !errors.Is(err, wantErr) || fmt.Sprint(header) != fmt.Sprint(wantHeader) {
			t.Errorf("%d %v %q %v, net/http: %d %v %q %v", status, header, body, err, wantStatus, wantHeader, wantBody, wantErr)
		}
	})
}
