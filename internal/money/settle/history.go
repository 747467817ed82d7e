package settle

import (
	"context"
	"errors"

	"github.com/cocoon-network/cocoon/internal/chain/access"
)

// History calls visit with every transaction of a proven account state that
// is later than since, oldest first, however many there are: anybody can send
// a contract messages while its owner is away. The chain reads only so many at
// a time, back from a known one, so the way back is cut into windows first;
// each begins with the transaction, known by its hash, that ends the one
// before it.
func History(ctx context.Context, chain Chain, acc access.Account, since uint64, visit func(access.Transaction) error) error {
	var newer []access.Account // the ends of the windows after the present one
	end := acc
	for end.LastTxLT > since {
		txs, err := chain.Transactions(ctx, end, since)
		if errors.Is(err, access.ErrTooMany) {
			first, err := newest(ctx, chain, end, since)
			if err != nil {
				return err
			}
			newer = append(newer, end)
			end.LastTxLT, end.LastTxHash = first.LT, first.Hash
			continue
		}
		if err != nil {
			return err
		}
		for _, tx := range txs {
			if err := visit(tx); err != nil {
				return err
			}
		}
		since = end.LastTxLT
		if n := len(newer); n > 0 {
			end, newer = newer[n-1], newer[:n-1]
		}
	}
	return nil
}

// newest returns the first transaction of a window that ends with end, has at
// least two and not too many. More than that are known to follow since.
func newest(ctx context.Context, chain Chain, end access.Account, since uint64) (access.Transaction, error) {
	low, high := since, end.LastTxLT // too many after low, one after high
	for {
		middle := low + (high-low)/2
		txs, err := chain.Transactions(ctx, end, middle)
		switch {
		case errors.Is(err, access.ErrTooMany):
			low = middle
		case err != nil:
			return access.Transaction{}, err
		case len(txs) >= 2:
			return txs[0], nil
		default:
			high = middle
		}
		if high-low <= 1 {
			return access.Transaction{}, access.ErrTooMany // unless logical times lie, this cannot be
		}
	}
}
