//go:build !tee

package demo

import (
	"context"
	"io"
	"net"
	"net/http"
)

// Transport serves s in memory: each request travels as HTTP/1.1 over a pipe
// of its own, so streaming, cancellation and header handling are those of a
// real engine, without a port. Nothing outlives the requests.
func (s *Server) Transport() http.RoundTripper {
	srv := &http.Server{Handler: s}
	return &http.Transport{
		DisableCompression: true,
		DisableKeepAlives:  true, // a pipe costs nothing, and closing it stops the engine
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			// Serve hands the one connection to its own goroutine and returns.
			go srv.Serve(&oneConn{far})
			return near, nil
		},
	}
}

// oneConn is a listener that accepts one connection.
type oneConn struct{ c net.Conn }

func (l *oneConn) Accept() (net.Conn, error) {
	if l.c == nil {
		return nil, io.EOF
	}
	c := l.c
	l.c = nil
	return c, nil
}

func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "demo-engine", Net: "pipe"} }
