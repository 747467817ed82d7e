package api

import (
	"bytes"
	"log"
	"log/slog"
	"net/http"
	"time"
)

// Server returns an HTTP server for h with limits on what a caller may take
// before h sees the request: 10 s and 32 KiB for the header, 2 minutes idle. The
// times of bodies and answers are the Gateway's own, since a stream may last.
func Server(h http.Handler, logger *slog.Logger) *http.Server {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          log.New(&serverLog{logger}, "", 0),
	}
}

// serverLog takes the server's own complaints. They repeat what callers wrote,
// so only their first word is kept: "http:", "TLS".
type serverLog struct{ log *slog.Logger }

func (l *serverLog) Write(b []byte) (int, error) {
	kind, _, _ := bytes.Cut(b, []byte(" "))
	l.log.Debug("http server complained", "kind", string(kind[:min(len(kind), 16)]))
	return len(b), nil
}
