package node

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
)

// writer runs a book's writes from opening to close: longer than the role
// that uses it, so that the last requests of a drain are still written.
type writer struct {
	stop context.CancelFunc
	done chan error
}

func startWriter(ctx context.Context, run func(context.Context) error) writer {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := writer{stop, make(chan error, 1)}
	go func() { w.done <- run(ctx) }()
	return w
}

func (w writer) end() error {
	w.stop()
	return <-w.done
}

// views is the book of a client or a worker.
type views struct {
	*ledger.Views
	writer
}

func openViews(ctx context.Context, c *Config, log *slog.Logger) (*views, error) {
	v, err := ledger.OpenViews(filepath.Join(c.Runtime.Dir, "book"), ledger.Config{Log: log})
	if err != nil {
		return nil, err
	}
	return &views{v, startWriter(ctx, v.Run)}, nil
}

func (v *views) close() error { return errors.Join(v.end(), v.Close()) }

// book is the proxy's ledger as the role wants it.
type book struct {
	l *ledger.Ledger
	writer
	dirty atomic.Bool // something was charged since the last mark

	ship    writer // logs the notes, if ships
	ships   bool
	shipErr atomic.Pointer[error]
}

func openLedger(ctx context.Context, dir string, contract cocoon.Address, log *slog.Logger) (*book, error) {
	l, err := ledger.Open(dir, ledger.Config{Contract: contract, Log: log})
	if err != nil {
		return nil, err
	}
	return &book{l: l, writer: startWriter(ctx, l.Run)}, nil
}

func (b *book) close() error {
	var err error
	if b.ships {
		err = b.ship.end()
	}
	return errors.Join(err, b.end(), b.l.Close())
}

// err is what broke the ledger or the log; nothing may be promised then.
func (b *book) err() error {
	if err := b.shipErr.Load(); err != nil {
		return *err
	}
	return b.l.Err()
}

// Charge implements proxy.Ledger.
func (b *book) Charge(ctx context.Context, client, worker cocoon.Address, id cocoon.RequestID, tokens int64, note string) error {
	err := b.l.Charge(ctx, ledger.Charge{RequestID: id, Client: client, Worker: worker, Tokens: tokens, Note: note})
	if err == nil {
		b.dirty.Store(true)
	}
	return err
}

// Client implements proxy.Ledger.
func (b *book) Client(owner cocoon.Address) channel.Counters { return b.l.Client(owner) }

// Worker implements proxy.Ledger.
func (b *book) Worker(owner cocoon.Address) channel.Counters { return b.l.Worker(owner) }

// Totals implements proxy.Ledger.
func (b *book) Totals() (all channel.Counters, paid int64) {
	for _, c := range b.l.Clients() {
		all.Used += c.Counters.Used
		all.Durable += c.Counters.Durable
		all.Committed += c.Counters.Committed
	}
	for _, w := range b.l.Workers() {
		paid += w.Paid
	}
	return all, paid
}

// watch ends when the ledger cannot write any more, since nothing may be
// promised then.
func (b *book) watch(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(commitEvery):
		}
		if err := b.err(); err != nil {
			return err
		}
	}
}

// commit marks counters as committed where no chain does: a mark counts as
// read back at once there (spec network-protocol 7.9). It ends when the
// ledger cannot write any more, since nothing may be promised then.
func (b *book) commit(ctx context.Context) error {
	b.dirty.Store(true) // what an earlier run left uncommitted
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(commitEvery):
		}
		if err := b.err(); err != nil {
			return err
		}
		if !b.dirty.Swap(false) {
			continue
		}
		m, err := b.l.Mark(ctx)
		if err == nil {
			err = b.l.Confirm(ctx, m.Seqno)
		}
		if err != nil {
			return err
		}
	}
}
