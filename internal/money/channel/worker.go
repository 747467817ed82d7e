package channel

import (
	"errors"
	"fmt"

	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// ErrPeerAhead says that a worker remembers more than the proxy's ledger
// holds. We tell a worker only what is durable, so it is wrong, or the ledger
// was rolled back; its word alone moves no money.
var ErrPeerAhead = errors.New("worker knows of more tokens than the proxy's ledger")

// WorkerBook is the proxy's book of one worker contract.
type WorkerBook struct {
	counters Counters
	paid     int64
}

// NewWorkerBook opens the book of a contract that was paid for paid tokens on
// chain. It fails with ErrRollback if that is more than the ledger knows.
func NewWorkerBook(paid int64, counters Counters) (WorkerBook, error) {
	if err := counters.Check(); err != nil {
		return WorkerBook{}, err
	}
	return WorkerBook{counters: counters}.Paid(paid)
}

// Counters returns the worker's token counters.
func (b WorkerBook) Counters() Counters { return b.counters }

// PaidTokens returns the tokens paid on chain.
func (b WorkerBook) PaidTokens() int64 { return b.paid }

// Due returns what the committed tokens that are not yet paid are worth, at
// fee nano a token.
func (b WorkerBook) Due(fee coins.Nano) coins.Nano {
	due, err := fee.Times(max(0, b.counters.Committed-b.paid))
	if err != nil {
		return ^coins.Nano(0)
	}
	return due
}

// Earn credits the tokens a client was charged for one request.
func (b WorkerBook) Earn(n int64) (WorkerBook, error) {
	c, err := b.counters.add(n)
	b.counters = c
	return b, err
}

// Durable notes that the ledger holds the count up to n.
func (b WorkerBook) Durable(n int64) (WorkerBook, error) {
	c, err := b.counters.durable(n)
	b.counters = c
	return b, err
}

// Commit notes that a mark on chain covers the count up to n.
func (b WorkerBook) Commit(n int64) (WorkerBook, error) {
	c, err := b.counters.commit(n)
	b.counters = c
	return b, err
}

// Paid notes that the contract was paid for n tokens in total. An older n
// changes nothing.
func (b WorkerBook) Paid(n int64) (WorkerBook, error) {
	if n < 0 || n > b.counters.Used {
		return b, fmt.Errorf("%w (worker contract: %d paid, %d in the ledger)", ErrRollback, n, b.counters.Used)
	}
	b.paid = max(b.paid, n)
	return b, nil
}

// Compare judges what a worker says it remembers at the handshake (spec
// network-protocol 4.3). ErrPeerAhead: refuse the connection.
func (b WorkerBook) Compare(theirs Counters) error {
	ours := b.counters
	if theirs.Used > ours.Used || theirs.Durable > ours.Durable || theirs.Committed > ours.Committed {
		return fmt.Errorf("%w: it says %d used, %d durable, %d committed; the ledger has %d, %d, %d",
			ErrPeerAhead, theirs.Used, theirs.Durable, theirs.Committed, ours.Used, ours.Durable, ours.Committed)
	}
	return nil
}
