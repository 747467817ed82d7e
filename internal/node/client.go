package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
)

// runClient assembles the client role and its gateway.
func runClient(ctx context.Context, c *Config, ls *Listeners, log *slog.Logger) error {
	src, err := source(c)
	if err != nil {
		return err
	}
	owner, err := c.Runtime.owner()
	if err != nil {
		return err
	}
	secret, err := secretText(c.Runtime.SecretFile)
	if err != nil {
		return err
	}
	dial, err := dialer(c, log)
	if err != nil {
		return err
	}
	book, err := openViews(ctx, c, log)
	if err != nil {
		return err
	}
	defer book.close()
	cl, err := client.New(client.Config{
		Owner: owner, Secret: secret, Proxies: c.Runtime.Proxies,
		IsTest: c.Measured.IsTest, TestOnly: c.Measured.TestOnly,
		Source: src, Dialer: dial, Book: book, Registrar: fakeRegistrar{},
		Admit:          c.Measured.admit(role.AdmitProxy),
		MaxCoefficient: c.Runtime.MaxCoefficient, Timeout: c.Runtime.timeout(), Logger: log,
	})
	if err != nil {
		return err
	}
	gw, err := api.New(api.Config{
		Backend: cl, Logger: log, Hosts: c.Runtime.Hosts, Origins: c.Runtime.Origins, Timeout: c.Runtime.timeout(),
	})
	if err != nil {
		return err
	}
	ln, err := ls.Listen("gateway", c.Runtime.Listen)
	if err != nil {
		return err
	}
	log.Info("gateway listens", "addr", ln.Addr())
	srv := api.Server(gw, log)
	parts := []func(context.Context) error{
		cl.Run,
		func(ctx context.Context) error { return serveHTTP(ctx, srv, ln, 10*time.Second) },
	}
	if c.Runtime.Status != "" {
		sln, err := ls.Listen("status", c.Runtime.Status)
		if err != nil {
			return err
		}
		parts = append(parts, statusPart(sln, func() any { return cl.Stats() }, func() error {
			if !cl.Ready() {
				return errors.New("no proxy is connected")
			}
			return nil
		}))
	}
	return group(ctx, parts...)
}

// fakeRegistrar stands for registration where no chain is: the proxy accepts
// a Long authorization at once there (spec network-protocol 7.9).
type fakeRegistrar struct{}

func (fakeRegistrar) Register(context.Context, cocoon.Address, cocoon.Address, int64) error {
	return nil
}
