package access

import (
	"context"
	"iter"

	"github.com/cocoon-network/cocoon"
)

// Offline has the methods of a Client and fails each with ErrOffline. It
// proves that what is built on it never waits for the chain.
type Offline struct{}

func (Offline) Head(context.Context) (Block, error)         { return Block{}, ErrOffline }
func (Offline) LastHead() Block                             { return Block{} }
func (Offline) Next(context.Context, uint32) (Block, error) { return Block{}, ErrOffline }
func (Offline) Network() NetworkInfo                        { return NetworkInfo{} }
func (Offline) Send(context.Context, []byte) error          { return ErrOffline }
func (Offline) Close() error                                { return nil }

// Follow returns a channel that is closed at once.
func (Offline) Follow(context.Context) <-chan Block {
	c := make(chan Block)
	close(c)
	return c
}

func (Offline) LookupBlock(context.Context, uint32) (Block, error) { return Block{}, ErrOffline }

func (Offline) Account(context.Context, cocoon.Address) (Account, error) {
	return Account{}, ErrOffline
}

func (Offline) AccountAt(context.Context, Block, cocoon.Address) (Account, error) {
	return Account{}, ErrOffline
}

func (Offline) Transactions(context.Context, Account, uint64) ([]Transaction, error) {
	return nil, ErrOffline
}

// History yields the error alone.
func (Offline) History(context.Context, Account, uint64) iter.Seq2[Transaction, error] {
	return func(yield func(Transaction, error) bool) { yield(Transaction{}, ErrOffline) }
}

func (Offline) RunLocal(context.Context, Account, string, ...any) ([]any, error) {
	return nil, ErrOffline
}

func (Offline) Emulate(context.Context, Account, []byte) (Emulation, error) {
	return Emulation{}, ErrOffline
}
