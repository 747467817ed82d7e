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

// serveHTTP serves on ln until ctx ends, then takes no new requests and lets
// those that run finish within drain. give is called before what still runs is
// cut, so that it can say so to its callers; may be nil.
func serveHTTP(ctx context.Context, srv *http.Server, ln net.Listener, drain time.Duration, give func()) error {
	errs := make(chan error, 1)
	go func() { errs <- srv.Serve(ln) }()
	select {
	case err := <-errs:
		return err
	case <-ctx.Done():
	}
	shutdown := func(limit time.Duration) error {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		return srv.Shutdown(late)
	}
	err := shutdown(drain)
	if err != nil && give != nil {
		give()
		err = shutdown(time.Second)
	}
	if err != nil {
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
