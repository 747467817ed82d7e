package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// Run runs the role that c configures until ctx ends.
func Run(ctx context.Context, c *Config, ls *Listeners, log *slog.Logger) error {
	spareCollections()
	var err error
	if c.keys, err = openKeys(ctx, c, log); err != nil {
		return err
	}
	switch c.Role {
	case "client":
		return runClient(ctx, c, ls, log)
	case "proxy":
		return runProxy(ctx, c, ls, log)
	case "worker":
		return runWorker(ctx, c, ls, log)
	}
	return fmt.Errorf("configuration: role %q is not client, proxy or worker", c.Role)
}

// serveHTTP serves h on ln until ctx ends, then lets requests finish.
func serveHTTP(ctx context.Context, srv *http.Server, ln net.Listener, drain time.Duration) error {
	errs := make(chan error, 1)
	go func() { errs <- srv.Serve(ln) }()
	select {
	case err := <-errs:
		return err
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := srv.Shutdown(late); err != nil {
		srv.Close()
	}
	return nil
}

// group runs parts side by side until one fails or ctx ends. The end of ctx
// is no failure.
func group(ctx context.Context, parts ...func(context.Context) error) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, part := range parts {
		g.Go(func() error {
			err := part(gctx)
			if ctx.Err() != nil {
				return nil
			}
			if err == nil {
				return errors.New("a part of the process ended")
			}
			return err
		})
	}
	return g.Wait()
}
