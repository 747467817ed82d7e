package access

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// MaxTransactions bounds what Transactions returns.
const MaxTransactions = 1000

const perQuery = 16

// Transaction is one proven transaction of an account.
type Transaction struct {
	LT   uint64
	Hash [32]byte
	Time time.Time
	// Success says that the code ran and its actions were carried out. A
	// transaction without a compute phase, as that of a plain payment to an
	// account without code, is no success.
	Success bool
	// Computed says that the code ran; ExitCode is what it ended with and
	// ActionCode what its actions did.
	Computed             bool
	ExitCode, ActionCode int32
	// Fees are the chain's, without what sent messages pay for their way.
	Fees     coins.Nano
	In       *Message
	Out      []Message
	prevLT   uint64
	prevHash [32]byte
}

// Message is an inbound or outbound message of a transaction.
type Message struct {
	// Hash is the hash of the message cell; BodyHash and Body are its body.
	Hash     [32]byte
	BodyHash [32]byte
	Body     []byte // bag of cells
	// External messages have no source (inbound) or no destination
	// (outbound), and no value.
	External     bool
	Source, Dest cocoon.Address
	Value        coins.Nano
	ForwardFee   coins.Nano // paid by the sender for the way
	Bounced      bool
	LT           uint64
}

// Transactions returns the transactions of a proven account state that are
// later than sinceLT, oldest first. Each is tied by hashes to the state, so
// none can be changed, added or left out. More than MaxTransactions are
// ErrTooMany.
func (c *Client) Transactions(ctx context.Context, acc Account, sinceLT uint64) ([]Transaction, error) {
	var list []Transaction
	for tx, err := range c.History(ctx, acc, sinceLT) {
		if err != nil {
			return nil, err
		}
		if list = append(list, tx); len(list) > MaxTransactions {
			return nil, fmt.Errorf("%w: account %s has more than %d since %d", ErrTooMany, acc.Address, MaxTransactions, sinceLT)
		}
	}
	slices.Reverse(list)
	return list, nil
}

// History yields the transactions of Transactions, newest first and however
// many they are, with one page of them in memory. An error is the last thing it
// yields.
func (c *Client) History(ctx context.Context, acc Account, sinceLT uint64) iter.Seq2[Transaction, error] {
	return func(yield func(Transaction, error) bool) {
		lt, hash := acc.LastTxLT, acc.LastTxHash
		for lt > sinceLT {
			page, _, err := c.transactionPage(ctx, acc.Address, lt, hash)
			if err != nil {
				yield(Transaction{}, err)
				return
			}
			for _, tx := range page {
				if tx.LT <= sinceLT || !yield(tx, nil) {
					return
				}
				lt, hash = tx.prevLT, tx.prevHash
			}
		}
	}
}

// transactionPage asks for the transactions that end with the one named, and
// returns them, newest first, with the bag of cells that holds them.
func (c *Client) transactionPage(ctx context.Context, addr cocoon.Address, lt uint64, hash [32]byte) (page []Transaction, boc []byte, err error) {
	query := ton.GetTransactions{Limit: perQuery, AccID: ptr(accountID(addr)), LT: int64(lt), TxHash: hash[:]}
	err = c.each(ctx, func(s *server) error {
		answer, err := ask[ton.TransactionList](ctx, s, query)
		if err != nil {
			return err
		}
		boc = answer.Transactions
		page, err = guarded(func() ([]Transaction, error) { return checkTransactions(addr, lt, hash, boc) })
		return err
	})
	return page, boc, err
}

// maxHistoryPages bounds a recorded history: 4,096 transactions.
const maxHistoryPages = 256

// RecordHistory returns what shows the transactions of a proven account state,
// back to one that is the last wanted, for CheckHistory. A history that is too
// long to hand on is ErrTooMany.
func (c *Client) RecordHistory(ctx context.Context, acc Account, last func(Transaction) bool) ([][]byte, error) {
	var pages [][]byte
	for lt, hash := acc.LastTxLT, acc.LastTxHash; lt > 0; {
		if len(pages) == maxHistoryPages {
			return nil, fmt.Errorf("%w: account %s has more than %d since the one wanted", ErrTooMany, acc.Address, maxHistoryPages*perQuery)
		}
		page, boc, err := c.transactionPage(ctx, acc.Address, lt, hash)
		if err != nil {
			return nil, err
		}
		pages = append(pages, boc)
		for _, tx := range page {
			if last(tx) {
				return pages, nil
			}
			lt, hash = tx.prevLT, tx.prevHash
		}
	}
	return nil, noted(ErrUnknownBlock, fmt.Sprintf("account %s has no such transaction", acc.Address.Raw()))
}

// CheckHistory returns the transactions that RecordHistory recorded, newest
// first, each tied by hashes to the proven account state.
func CheckHistory(acc Account, pages [][]byte) ([]Transaction, error) {
	if len(pages) > maxHistoryPages {
		return nil, noted(ErrMalformed, "it holds more than a history needs")
	}
	var all []Transaction
	lt, hash := acc.LastTxLT, acc.LastTxHash
	for _, boc := range pages {
		page, err := guarded(func() ([]Transaction, error) { return checkTransactions(acc.Address, lt, hash, boc) })
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		lt, hash = page[len(page)-1].prevLT, page[len(page)-1].prevHash
	}
	return all, nil
}

func ptr[T any](v T) *T { return &v }

// checkTransactions verifies a page of transactions, newest first, that must
// begin with the one of the given lt and hash and go back link by link.
func checkTransactions(addr cocoon.Address, lt uint64, hash [32]byte, boc []byte) ([]Transaction, error) {
	fail := func(err any) ([]Transaction, error) {
		return nil, noted(ErrForged, fmt.Sprintf("transactions of %s: %v", addr.Raw(), err))
	}
	if len(boc) == 0 {
		return fail("none given")
	}
	roots, err := cell.FromBOCMultiRoot(boc)
	if err != nil {
		return fail(err)
	}
	if len(roots) > perQuery {
		return fail(fmt.Sprintf("%d given, %d asked for", len(roots), perQuery))
	}
	var list []Transaction
	for _, root := range roots {
		if root.HashKey() != cell.Hash(hash) || root.Level() != 0 {
			return fail(fmt.Sprintf("the one before logical time %d is not the one proven", lt))
		}
		tx, err := readTransaction(root)
		if err != nil {
			return nil, noted(ErrMalformed, fmt.Sprintf("transaction %x: %v", hash[:4], err))
		}
		if tx.LT != lt {
			return fail("logical time and hash do not belong together")
		}
		list = append(list, tx)
		lt, hash = tx.prevLT, tx.prevHash
	}
	return list, nil
}

func readTransaction(root *cell.Cell) (Transaction, error) {
	var t tlb.Transaction
	if err := tlb.Parse(&t, root); err != nil {
		return Transaction{}, err
	}
	tx := Transaction{
		LT: t.LT, Hash: root.HashKey(), Time: time.Unix(int64(t.Now), 0),
		Fees:   nano(t.TotalFees.Coins.Nano()),
		prevLT: t.PrevTxLT, prevHash: [32]byte(t.PrevTxHash),
	}
	if d, ok := t.Description.(tlb.TransactionDescriptionOrdinary); ok {
		if phase, ok := d.ComputePhase.Phase.(tlb.ComputePhaseVM); ok {
			tx.Computed = true
			tx.ExitCode = phase.Details.ExitCode
			tx.Success = phase.Success && !d.Aborted
		}
		if d.ActionPhase != nil {
			tx.ActionCode = d.ActionPhase.ResultCode
			tx.Success = tx.Success && d.ActionPhase.Success
		}
	}
	if t.IO.In != nil {
		in, err := readMessage(t.IO.In)
		if err != nil {
			return Transaction{}, err
		}
		tx.In = &in
	}
	if t.IO.Out != nil {
		out, err := t.IO.Out.ToSlice()
		if err != nil {
			return Transaction{}, err
		}
		for i := range out {
			m, err := readMessage(&out[i])
			if err != nil {
				return Transaction{}, err
			}
			tx.Out = append(tx.Out, m)
		}
	}
	return tx, nil
}

func readMessage(m *tlb.Message) (Message, error) {
	root, err := tlb.ToCell(m.Msg)
	if err != nil {
		return Message{}, err
	}
	out := Message{Hash: root.HashKey(), External: m.MsgType != tlb.MsgTypeInternal}
	body := m.Msg.Payload()
	if body == nil {
		body = cell.BeginCell().EndCell()
	}
	out.BodyHash, out.Body = body.HashKey(), body.ToBOC()
	switch msg := m.Msg.(type) {
	case *tlb.InternalMessage:
		out.Source, out.Dest = ourAddress(msg.SrcAddr), ourAddress(msg.DstAddr)
		out.Bounced, out.LT = msg.Bounced, msg.CreatedLT
		if v := msg.Amount.Nano(); v.IsUint64() {
			out.Value = nano(v)
		} else {
			return Message{}, fmt.Errorf("value %s does not fit 64 bits", v)
		}
		if v := msg.FwdFee.Nano(); v.IsUint64() {
			out.ForwardFee = nano(v)
		} else {
			return Message{}, fmt.Errorf("forward fee %s does not fit 64 bits", v)
		}
	case *tlb.ExternalMessageIn:
		out.Dest = ourAddress(msg.DstAddr)
	case *tlb.ExternalMessageOut:
		out.Source = ourAddress(msg.SrcAddr)
		out.LT = msg.CreatedLT
	}
	return out, nil
}

// ourAddress returns the zero address for anything but a standard address.
func ourAddress(a *address.Address) cocoon.Address {
	if a == nil || a.Type() != address.StdAddress || len(a.Data()) != 32 {
		return cocoon.Address{}
	}
	return cocoon.Address{Workchain: a.Workchain(), Hash: [32]byte(a.Data())}
}
