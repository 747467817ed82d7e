package access

import (
	"context"
	"fmt"
	"math/big"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Account is the proven state of an account in Block. An account that is
// proven not to exist has Exists false.
type Account struct {
	Address    cocoon.Address
	Block      Block
	Exists     bool
	Frozen     bool
	Balance    coins.Nano
	Code, Data []byte // bags of cells; nil unless the account is deployed
	LastTxLT   uint64
	LastTxHash [32]byte

	state *cell.Cell // the account cell
}

// Deployed reports whether the account has code.
func (a *Account) Deployed() bool { return a.Code != nil }

func nano(n *big.Int) coins.Nano { return coins.Nano(n.Uint64()) }

// Account proves the state of addr in the newest head.
func (c *Client) Account(ctx context.Context, addr cocoon.Address) (Account, error) {
	h, err := c.headHeader(ctx)
	if err != nil {
		return Account{}, err
	}
	return c.accountAt(ctx, h, addr)
}

// AccountAt proves the state of addr in block b, which this Client must have
// returned. Servers keep the states of recent blocks only.
func (c *Client) AccountAt(ctx context.Context, b Block, addr cocoon.Address) (Account, error) {
	h, ok := c.known(b.Seqno)
	if !ok || h.block() != b {
		return Account{}, fmt.Errorf("%w: block %d is not one of the %d proven last", ErrUnknownBlock, b.Seqno, keptBlocks)
	}
	return c.accountAt(ctx, h, addr)
}

func (c *Client) accountAt(ctx context.Context, h header, addr cocoon.Address) (Account, error) {
	if addr.Workchain != masterchain && addr.Workchain != 0 {
		return Account{}, fmt.Errorf("account %s: workchain %d does not exist", addr.Raw(), addr.Workchain)
	}
	query := ton.GetAccountState{ID: h.id.ext(), Account: accountID(addr)}
	var acc Account
	err := c.each(ctx, func(s *server) error {
		answer, err := typed[ton.AccountState](s.queryWait(ctx, h.id.seqno, c.cfg.Timeout/2, query))
		if err != nil {
			return err
		}
		acc, err = guarded(func() (Account, error) { return checkAccount(h, addr, &answer) })
		return err
	})
	return acc, err
}

func accountID(a cocoon.Address) ton.AccountID {
	return ton.AccountID{Workchain: a.Workchain, ID: append([]byte(nil), a.Hash[:]...)}
}
