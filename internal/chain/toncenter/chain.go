//go:build !tee

package toncenter

import (
	"context"
	"errors"

	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// Errors of a Chain that callers of the API are told as what they are.
var (
	ErrNotFound    = errors.New("not found")
	ErrNotAccepted = errors.New("message was not accepted")
)

// Chain is what the gateway asks of a chain. Blobs are bags of cells.
type Chain interface {
	// Head returns the newest masterchain block.
	Head(ctx context.Context) (Block, error)
	// StateHash returns the hash of the state after a block.
	StateHash(ctx context.Context, b Block) ([32]byte, error)
	// Lookup finds a block by the one of seqno, lt and time that is not zero.
	// It fails with ErrNotFound.
	Lookup(ctx context.Context, workchain int32, shard int64, seqno uint32, lt uint64, at time.Time) (Block, error)
	// Shards returns the newest shard blocks a masterchain block knows.
	Shards(ctx context.Context, b Block) ([]Block, error)
	// BlockTransactions returns up to count transactions of a block that come
	// after the given one, and whether there are more.
	BlockTransactions(ctx context.Context, b Block, after *TransactionID, count int) ([]TransactionID, bool, error)
	// Account returns the state of an account as of a masterchain block.
	Account(ctx context.Context, b Block, a cocoon.Address) (Account, error)
	// Transactions returns up to count transactions of an account, the given
	// one and those before it, newest first. It fails with ErrNotFound.
	Transactions(ctx context.Context, a cocoon.Address, from TransactionID, count int) ([]Transaction, error)
	// RunMethod runs a get-method as of a masterchain block. Values are
	// *big.Int, Cell, Slice, []any (tuples) and nil, the bottom of the stack
	// first.
	RunMethod(ctx context.Context, b Block, a cocoon.Address, method uint64, args []any) (stack []any, exitCode int32, err error)
	// Config returns a configuration parameter as of a masterchain block. It
	// fails with ErrNotFound.
	Config(ctx context.Context, b Block, id int32) ([]byte, error)
	// Send hands an external message to the chain. It fails with
	// ErrNotAccepted.
	Send(ctx context.Context, boc []byte) error
	// Init returns the zero state as a block of seqno 0.
	Init() Block
}

// Block names a block.
type Block struct {
	Workchain int32
	Shard     int64
	Seqno     uint32
	RootHash  [32]byte
	FileHash  [32]byte
}

// TransactionID names a transaction; Account only where it is not clear.
type TransactionID struct {
	Account [32]byte
	LT      uint64
	Hash    [32]byte
}

// Account is an account's state. State is "active", "uninitialized" or
// "frozen"; an account nobody made is uninitialized with nothing on it.
type Account struct {
	State      string
	Balance    coins.Nano
	Code, Data []byte
	Frozen     []byte // hash of the frozen state
	Last       TransactionID
}

// Transaction is an account's transaction.
type Transaction struct {
	ID         TransactionID
	Time       time.Time
	BOC        []byte
	Fee        coins.Nano
	StorageFee coins.Nano
	In         *Message
	Out        []Message
}

// Message is a message of a transaction. An external one lacks its outer
// address and has no value.
type Message struct {
	Hash                [32]byte
	Source, Destination *cocoon.Address
	Value, ForwardFee   coins.Nano
	CreatedLT           uint64
	Body                []byte
	BodyHash            [32]byte
	StateInit           []byte
	Text                string // if the body is a text comment

}

// Cell and Slice are values of a stack: bags of cells.
type (
	Cell  []byte
	Slice []byte
)
