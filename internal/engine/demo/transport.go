//go:build !tee

package demo

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// Transport serves s in memory: each request travels as HTTP/1.1 over a pipe,
// so streaming, cancellation and header handling are those of a real engine,
// without a port. The server side lives as long as a connection is open.
func (s *Server) Transport() http.RoundTripper {
	l := &pipeListener{conns: make(chan net.Conn)}
	srv := &http.Server{Handler: s}
	var start sync.Once
	return &http.Transport{
		DisableCompression:  true,
		DisableKeepAlives:   true, // a pipe costs nothing; a closed one stops the engine
		MaxIdleConnsPerHost: -1,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			start.Do(func() { go srv.Serve(l) })
			near, far := net.Pipe()
			select {
			case l.conns <- far:
				return near, nil
			case <-ctx.Done():
				near.Close()
				return nil, ctx.Err()
			}
		},
	}
}

// pipeListener hands one end of each pipe to the server.
type pipeListener struct{ conns chan net.Conn }

func (l *pipeListener) Accept() (net.Conn, error) { return <-l.conns, nil }
func (l *pipeListener) Close() error              { return nil }
func (l *pipeListener) Addr() net.Addr            { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "demo-engine" }
