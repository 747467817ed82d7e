package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/settle"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
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
	suspended, err := openSuspensions(c.Runtime.Dir, ch.networkID())
	if err != nil {
		return err
	}
	suspended.worker, cfg.MayUse = true, suspended.Check
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
	var watch *logWatch
	if ch.real() {
		watch = &logWatch{worker: true, networkID: ch.networkID(), chain: ch.client, proxies: w.Watched, page: w.Log, suspend: suspendFor(w, suspended, log), log: log}
		if err := newLogWatch(c.Runtime.Dir, watch, nil); err != nil {
			return err
		}
		parts = append(parts, watch.run)
	}
	if c.Runtime.Status != "" {
		status, err := statusPart(c, ls, func() any {
			s := workerStats{Stats: w.Stats(), Engines: eng.pool.Stats(), WorkerLogs: WorkerLogs{Suspended: suspended.List()}}
			if watch != nil {
				s.LogFaults, s.Logs = watch.Faults(), watch.Seen()
			}
			return s
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

// WorkerLogs is what a worker found in the audit logs of its proxies.
type WorkerLogs struct {
	// Suspended are proxies that get no more work.
	Suspended []client.Suspension `json:"suspended_proxies,omitempty"`
	LogFaults []role.LogFault     `json:"log_faults,omitempty"`
	Logs      []role.LogSeen      `json:"logs,omitempty"`
}

// suspendFor ends a worker's service to a proxy whose audit log was convicted of
// a fault.
func suspendFor(w *worker.Worker, s *suspensions, log *slog.Logger) func(key [32]byte, fault error) {
	return func(key [32]byte, fault error) {
		e := client.Suspension{Since: time.Now().UTC(), Fault: fault.Error()}
		for _, p := range w.Watched() {
			if p.ContractKey == key {
				e.Proxy, e.Contract, e.Endpoint = p.Proxy, p.Party, p.Endpoint
			}
		}
		if err := s.Suspend(key, e); err != nil {
			log.Error("a suspension could not be stored: it ends with this process", "proxy", e.Endpoint, "err", err)
		}
		log.Error("proxy suspended: its audit log is not honest. It gets no more work; what it signed for is still paid out. `cocoon status` says how to lift this", "proxy", e.Endpoint, "err", fault)
		w.Leave(key)
	}
}
