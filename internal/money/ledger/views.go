package ledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/channel"
)

// maxPayment bounds a stored signed payment; real ones have 180 bytes.
const maxPayment = 1 << 12

// Views is the store of clients and workers: what they hold and have heard of
// each proxy contract.
type Views struct {
	j *journal
	s *views
}

// views is the state of the journal.
type views struct {
	m      map[cocoon.Address]channel.View // by client or worker contract
	limits map[cocoon.Address]int64        // by client contract
}

func newViews() *views {
	return &views{map[cocoon.Address]channel.View{}, map[cocoon.Address]int64{}}
}

// OpenViews opens the store in dir, locked against other processes. Commands
// wait until Run runs; Close releases it.
func OpenViews(dir string, c Config) (*Views, error) {
	d, unlock, err := openDirectory(filepath.Join(dir, "views"))
	if err != nil {
		return nil, err
	}
	v, err := openViews(d, c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ledger: %w", err), unlock())
	}
	v.j.unlock = unlock
	return v, nil
}

func openViews(fs storage, c Config) (*Views, error) {
	s := newViews()
	j, err := openJournal(fs, "cocoon views 1", cocoon.Address{}, c.Key, c.CompactAfter, c.Log, s)
	if err != nil {
		return nil, err
	}
	return &Views{j, s}, nil
}

// Run writes until ctx ends. It returns nil, or the error of the write that
// broke the store.
func (v *Views) Run(ctx context.Context) error { return v.j.run(ctx) }

// Close releases the store. Run must have returned.
func (v *Views) Close() error { return v.j.close() }

// Err returns the error that broke the store, or nil.
func (v *Views) Err() error { return v.j.failure() }

// View returns what is known of our contract at a proxy; zero if nothing.
func (v *Views) View(contract cocoon.Address) channel.View {
	v.j.mu.RLock()
	defer v.j.mu.RUnlock()
	return v.s.m[contract]
}

// Put replaces what is known of our contract at a proxy and returns when it is
// durable.
func (v *Views) Put(ctx context.Context, contract cocoon.Address, view channel.View) error {
	if n := len(view.Best().Data); n > maxPayment {
		return fmt.Errorf("ledger: a signed payment of %d bytes, at most %d are stored", n, maxPayment)
	}
	return v.j.submit(ctx, func(buf []byte) ([]byte, error) {
		v.s.m[contract] = view
		return appendView(buf, contract, view), nil
	})
}

// maxContracts bounds what is remembered: a proxy could name new contracts for
// ever.
const maxContracts = 1 << 16

// Know makes Contracts list a contract, whether anything else is known of it or
// not, and returns when that is durable.
func (v *Views) Know(ctx context.Context, contract cocoon.Address) error {
	v.j.mu.RLock()
	_, known := v.s.m[contract]
	full := len(v.s.m) >= maxContracts
	v.j.mu.RUnlock()
	switch {
	case known:
		return nil
	case full:
		return fmt.Errorf("ledger: %d contracts are known already", maxContracts)
	}
	return v.j.submit(ctx, func(buf []byte) ([]byte, error) {
		v.s.m[contract] = v.s.m[contract] // what came meanwhile stays
		return appendView(buf, contract, v.s.m[contract]), nil
	})
}

// Limit returns the most that a client's requests can have cost at a contract,
// as stored last; ErrNotFound if nothing was counted there yet.
func (v *Views) Limit(contract cocoon.Address) (int64, error) {
	v.j.mu.RLock()
	defer v.j.mu.RUnlock()
	n, ok := v.s.limits[contract]
	if !ok {
		return 0, fmt.Errorf("%w: requests at client contract %v", ErrNotFound, contract)
	}
	return n, nil
}

// PutLimit replaces that and returns when it is durable.
func (v *Views) PutLimit(ctx context.Context, contract cocoon.Address, tokens int64) error {
	if tokens < 0 {
		return fmt.Errorf("ledger: a limit of %d tokens", tokens)
	}
	return v.j.submit(ctx, func(buf []byte) ([]byte, error) {
		v.s.limits[contract] = tokens
		return appendLimit(buf, contract, tokens), nil
	})
}

// ErrNotFound says that the store holds no such entry.
var ErrNotFound = errors.New("nothing is stored")

// Contracts returns the contracts of which anything is known, in order.
func (v *Views) Contracts() []cocoon.Address {
	v.j.mu.RLock()
	defer v.j.mu.RUnlock()
	all := slices.Collect(maps.Keys(v.s.m))
	for contract := range v.s.limits {
		if _, ok := v.s.m[contract]; !ok {
			all = append(all, contract)
		}
	}
	slices.SortFunc(all, compareAddresses)
	return all
}

func appendView(b []byte, contract cocoon.Address, v channel.View) []byte {
	best, heard := v.Best(), v.Heard()
	b = appendBytes(appendInt(appendAddress(append(b, recView), contract), best.Tokens), best.Data)
	b = appendInt(appendInt(appendInt(b, heard.Used), heard.Durable), heard.Committed)
	return appendInt(b, 0) // was a count that nobody read
}

func appendLimit(b []byte, contract cocoon.Address, tokens int64) []byte {
	return appendInt(appendAddress(append(b, recLimit), contract), tokens)
}

// apply implements machine.
func (s *views) apply(d *decoder) error {
	switch kind := d.u8(); kind {
	case recView:
	case recLimit:
		contract, tokens := d.address(), d.int()
		if d.err == nil {
			s.limits[contract] = tokens
		}
		return d.err
	default:
		return fmt.Errorf("%w (record kind %d)", ErrNewer, kind)
	}
	contract := d.address()
	best := channel.SignedPayment{Tokens: d.int(), Data: d.bytes(maxPayment)}
	heard := channel.Counters{Used: d.int(), Durable: d.int(), Committed: d.int()}
	d.int()
	if d.err != nil {
		return d.err
	}
	v, err := channel.Restore(best, heard)
	if err != nil {
		return err
	}
	s.m[contract] = v
	return nil
}

// snapshot implements machine.
func (s *views) snapshot(emit func([]byte) error) error {
	for _, contract := range slices.SortedFunc(maps.Keys(s.m), compareAddresses) {
		if err := emit(appendView(nil, contract, s.m[contract])); err != nil {
			return err
		}
	}
	for _, contract := range slices.SortedFunc(maps.Keys(s.limits), compareAddresses) {
		if err := emit(appendLimit(nil, contract, s.limits[contract])); err != nil {
			return err
		}
	}
	return nil
}

// flushed implements machine.
func (s *views) flushed() {}
