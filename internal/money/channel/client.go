package channel

import (
	"errors"
	"fmt"
	"math"

	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// What a client's book refuses.
var (
	// ErrClosing says that the client contract is not open.
	ErrClosing = errors.New("client is closing")
	// ErrReservation says that more was returned than was reserved.
	ErrReservation = errors.New("reservation is not known")
	// ErrRollback says that the chain has seen more than the ledger knows: the
	// ledger is an old copy, or another process uses the same proxy key.
	ErrRollback = errors.New("the chain knows of more tokens than the ledger: the ledger was rolled back, or the proxy key is used twice; restore the newest ledger or start with a new key")
)

// freeTokens stands for balance and stake where tokens cost nothing (spec
// network-protocol 6).
const freeTokens = 1_000_000_000_000

// BalanceError says that a client cannot pay for what it asked.
type BalanceError struct {
	Need     int64 // tokens asked for
	Paid     int64 // tokens the deposits cover, charged ones included
	Stake    int64 // tokens the stake covers
	Used     int64
	Reserved int64
}

func (e *BalanceError) Error() string {
	return fmt.Sprintf("client balance is too low: to_reserve=%d tokens_payed=%d tokens_used=%d tokens_reserved=%d tokens_stake=%d",
		e.Need, e.Paid, e.Used, e.Reserved, e.Stake)
}

// ClientContract is what the chain says of a client contract.
type ClientContract struct {
	Open       bool // neither closing nor closed
	Balance    coins.Nano
	Stake      coins.Nano
	Charged    int64 // tokens charged on chain so far
	SecretHash [32]byte
}

// ClientBook is the proxy's book of one client contract.
type ClientBook struct {
	price    coins.Nano
	contract ClientContract
	counters Counters
	reserved int64
	running  int
}

// NewClientBook opens the book of a contract under a price, with what the
// ledger knows. It fails with ErrRollback if the chain has charged more.
func NewClientBook(price coins.Nano, contract ClientContract, counters Counters) (ClientBook, error) {
	if err := counters.Check(); err != nil {
		return ClientBook{}, err
	}
	return ClientBook{price: price, counters: counters}.OnChain(contract)
}

// Counters returns the client's token counters.
func (b ClientBook) Counters() Counters { return b.counters }

// Contract returns the contract's last known state.
func (b ClientBook) Contract() ClientContract { return b.contract }

// Reserved returns the tokens reserved for running requests.
func (b ClientBook) Reserved() int64 { return b.reserved }

// Running returns the number of open reservations.
func (b ClientBook) Running() int { return b.running }

// Available returns how many tokens the client can still reserve: what its
// deposits cover, but no more beyond the last charge on chain than its stake,
// less what is used and reserved (spec network-protocol 6). Never negative.
func (b ClientBook) Available() int64 {
	e := b.balance(0)
	limit := min(e.Paid, add(e.Stake, b.contract.Charged))
	return max(0, limit-b.reserved-b.counters.Used)
}

func (b ClientBook) balance(need int64) *BalanceError {
	return &BalanceError{
		Need:     need,
		Paid:     add(tokensFor(b.contract.Balance, b.price), b.contract.Charged),
		Stake:    tokensFor(b.contract.Stake, b.price),
		Used:     b.counters.Used,
		Reserved: b.reserved,
	}
}

// Reserve sets n tokens aside for one request. It fails with ErrClosing or a
// *BalanceError. Each reservation is given back by one Settle or Release.
func (b ClientBook) Reserve(n int64) (ClientBook, error) {
	if !b.contract.Open {
		return b, ErrClosing
	}
	if n < 0 || n > b.Available() {
		return b, b.balance(n)
	}
	b.reserved += n
	b.running++
	return b, nil
}

// Release gives a reservation of n tokens back uncharged.
func (b ClientBook) Release(n int64) (ClientBook, error) {
	if n < 0 || n > b.reserved || b.running == 0 {
		return b, fmt.Errorf("%w: %d tokens, %d are reserved by %d requests", ErrReservation, n, b.reserved, b.running)
	}
	b.reserved -= n
	b.running--
	return b, nil
}

// Settle ends a request that had reserved tokens and reported used ones. The
// charge is what was used, cut off at the reservation; it is
// returned, and it is what the worker earns.
func (b ClientBook) Settle(reserved, used int64) (next ClientBook, charge int64, err error) {
	charge = min(max(used, 0), reserved)
	if next, err = b.Release(reserved); err != nil {
		return b, 0, err
	}
	if next.counters, err = next.counters.add(charge); err != nil {
		return b, 0, err
	}
	return next, charge, nil
}

// Durable notes that the ledger holds the count up to n.
func (b ClientBook) Durable(n int64) (ClientBook, error) {
	c, err := b.counters.durable(n)
	b.counters = c
	return b, err
}

// Commit notes that a mark on chain covers the count up to n.
func (b ClientBook) Commit(n int64) (ClientBook, error) {
	c, err := b.counters.commit(n)
	b.counters = c
	return b, err
}

// OnChain takes over a newer state of the contract. A state with fewer charged
// tokens than are known is older and changes nothing. ErrRollback: see there.
func (b ClientBook) OnChain(c ClientContract) (ClientBook, error) {
	if c.Charged < 0 || c.Charged > b.counters.Used {
		return b, fmt.Errorf("%w (client contract: %d charged, %d in the ledger)", ErrRollback, c.Charged, b.counters.Used)
	}
	if c.Charged >= b.contract.Charged {
		b.contract = c
	}
	return b, nil
}

// tokensFor returns how many tokens an amount pays for.
func tokensFor(amount, price coins.Nano) int64 {
	if price == 0 {
		return freeTokens
	}
	return int64(min(uint64(amount/price), math.MaxInt64))
}

// add returns a+b for non-negative a and b, at most the largest int64.
func add(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
