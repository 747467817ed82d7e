package node

import (
	"context"
	"errors"
	"log/slog"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/settle"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/worker"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
)

// runWorker assembles the worker role and its engine.
func runWorker(ctx context.Context, c *Config, ls *Listeners, log *slog.Logger) error {
	if err := c.Measured.own(cocoon.RoleWorker); err != nil {
		return err
	}
	owner, err := c.Runtime.owner()
	if err != nil {
		return err
	}
	ch, err := openChain(ctx, c, log)
	if err != nil {
		return err
	}
	defer ch.close()
	eng, err := openEngines(ctx, c, log)
	if err != nil {
		return err
	}
	model := eng.model
	l1, err := newLevel1(c, ch, cocoon.RoleWorker, func() (statement.Facts, error) {
		return statement.Facts{Model: model, Owner: owner}, nil
	}, nil, log)
	if err != nil {
		return err
	}
	dial, err := dialer(c, l1, log)
	if err != nil {
		return err
	}
	book, err := openViews(ctx, c, log)
	if err != nil {
		return err
	}
	defer book.close()
	cfg := worker.Config{
		Owner: owner, Model: model, ServedModel: c.Measured.ServedModel,
		Coefficient: c.Runtime.Coefficient, MaxActive: c.Runtime.MaxActive, Proxies: c.Runtime.Proxies,
		IsTest: c.Measured.IsTest, TestOnly: c.Measured.TestOnly,
		Source: ch, Dialer: dial, Engine: eng.pool, Capacity: eng.pool.Capacity, Book: book, Admit: c.Measured.admit(role.AdmitProxy), Logger: log,
	}
	if c.Runtime.Via == "" { // behind a router there is no level 1
		cfg.Sealer, cfg.Sign, cfg.Block = l1.sealer, l1.issuer.Sign, ch.block
	}
	parts := ch.parts()
	var d *desk
	if ch.real() {
		pays, err := ch.wallet(c, owner, log)
		if err != nil {
			return err
		}
		settler, err := settle.NewWorker(settle.WorkerConfig{Config: ch.settling(c, pays, log), Source: ch, Views: book, Owner: owner})
		if err != nil {
			return err
		}
		if d, err = newDesk(c, ch, pays, settler, book.Contracts, log); err != nil {
			return err
		}
		cfg.Channel = settler.Track
		parts = append(parts, settler.Run, d.gas.run)
	}
	w, err := worker.New(cfg)
	if err != nil {
		return err
	}
	parts = append(parts, func(ctx context.Context) error { return eng.serve(ctx, w) })
	if c.Runtime.Status != "" {
		status, err := statusPart(c, ls, func() any {
			return workerStats{w.Stats(), eng.pool.Stats()}
		}, func() error {
			st := w.Stats()
			switch {
			case !st.Enabled:
				if err := eng.pool.Ready(ctx); err != nil {
					return err
				}
				return errors.New("no requests are taken now")
			case len(st.Connections) == 0:
				return errors.New("no proxy is connected")
			}
			return nil
		}, d)
		if err != nil {
			return err
		}
		parts = append(parts, status)
	}
	return group(ctx, parts...)
}
