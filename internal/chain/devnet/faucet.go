//go:build !tee

package devnet

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

func encode64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// FaucetKey is the private key of the faucet, a V5R1 wallet of this network.
// It guards nothing of worth.
func (c *Chain) FaucetKey() ed25519.PrivateKey { return c.current().gen.key("faucet") }

// FaucetAddress is the faucet's account.
func (c *Chain) FaucetAddress() cocoon.Address {
	init, err := walletInit(c.FaucetKey().Public().(ed25519.PublicKey), c.GlobalID())
	if err != nil {
		panic(err) // the wallet's code is a constant
	}
	return faucetAddress(init)
}

// Faucet sends amount to the account, with or without code there, and returns
// once the transfer is in a durable block. Blocks must be made: by Run, or by
// Mine in another goroutine.
func (c *Chain) Faucet(ctx context.Context, to cocoon.Address, amount coins.Nano) error {
	if to.Workchain != basechain {
		return fmt.Errorf("devnet: faucet: %s is not on workchain 0", to)
	}
	c.faucet.Lock()
	defer c.faucet.Unlock()
	n := c.current()
	key := n.gen.key("faucet")
	from := c.FaucetAddress()
	before, err := n.walletSeqno(from.Hash)
	if err != nil {
		return fmt.Errorf("devnet: faucet: %w", err)
	}
	boc, err := transfer(key, n.gen.globalID, before, c.now()+600, from, to, amount)
	if err != nil {
		return fmt.Errorf("devnet: faucet: %w", err)
	}
	_, changed := n.latest()
	if err := c.SendExternal(boc); err != nil {
		return fmt.Errorf("devnet: faucet: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("devnet: faucet: %w", ctx.Err())
		case <-changed:
		}
		_, changed = n.latest()
		now, err := n.walletSeqno(from.Hash)
		if err != nil {
			return fmt.Errorf("devnet: faucet: %w", err)
		}
		if now > before {
			return n.transferSent(from.Hash)
		}
	}
}

// walletSeqno reads a V5R1 wallet's counter from the newest state.
func (n *network) walletSeqno(account hash) (uint32, error) {
	top, accounts, err := n.topAccounts()
	if err != nil {
		return 0, err
	}
	acc, err := loadAccount(accounts, account)
	if err != nil {
		return 0, err
	}
	if acc.State().StateInit == nil || acc.State().StateInit.Data == nil {
		return 0, fmt.Errorf("no wallet at %x in block %d", account, top.seqno())
	}
	return seqnoOf(acc.State().StateInit.Data)
}

// seqnoOf reads the counter from a V5R1 wallet's data.
func seqnoOf(data *cell.Cell) (uint32, error) {
	s, err := data.BeginParse()
	if err != nil {
		return 0, err
	}
	if _, err := s.LoadBoolBit(); err != nil {
		return 0, err
	}
	v, err := s.LoadUInt(32)
	return uint32(v), err
}

// transferSent looks whether the account's last transaction sent its message:
// a wallet skips one it cannot pay for and still succeeds.
func (n *network) transferSent(account hash) error {
	refs := n.history(account, 1<<64-1, 1)
	if len(refs) == 0 {
		return errors.New("devnet: faucet: the transaction is missing")
	}
	root, err := n.blockRoot(refs[0].block)
	if err != nil {
		return err
	}
	c, err := refs[0].block.transaction(root, txID{account, refs[0].lt})
	if err != nil {
		return err
	}
	var tx tlb.Transaction
	if err := tlb.Parse(&tx, c); err != nil {
		return err
	}
	if tx.OutMsgCount == 0 {
		return errors.New("devnet: faucet: it has not enough coins left")
	}
	return nil
}

// transfer builds the signed external message of the faucet that sends one
// payment, which does not come back if nobody is there yet.
func transfer(key ed25519.PrivateKey, globalID int32, seqno, validUntil uint32, from, to cocoon.Address, amount coins.Nano) ([]byte, error) {
	return walletExternal(key, globalID, seqno, validUntil, from, nil, &wallet.Message{
		Mode: wallet.PayGasSeparately + wallet.IgnoreErrors,
		InternalMessage: &tlb.InternalMessage{
			IHRDisabled: true,
			DstAddr:     address.NewAddress(0, byte(to.Workchain), to.Hash[:]),
			Amount:      tlb.FromNanoTON(new(big.Int).SetUint64(uint64(amount))),
			Body:        cell.BeginCell().EndCell(),
		},
	})
}

// walletExternal builds the signed external message of a V5R1 wallet. init
// goes with the first one, which deploys it.
func walletExternal(key ed25519.PrivateKey, globalID int32, seqno, validUntil uint32, from cocoon.Address, init *tlb.StateInit, msgs ...*wallet.Message) ([]byte, error) {
	actions, err := wallet.PackV5OutActions(msgs)
	if err != nil {
		return nil, err
	}
	id := wallet.V5R1ID{NetworkGlobalID: globalID}
	body := cell.BeginCell().MustStoreUInt(0x7369676e, 32).MustStoreUInt(uint64(id.Serialized()), 32).
		MustStoreUInt(uint64(validUntil), 32).MustStoreUInt(uint64(seqno), 32).MustStoreBuilder(actions)
	body.MustStoreSlice(ed25519.Sign(key, body.Copy().EndCell().Hash()), 512)
	ext, err := tlb.ToCell(&tlb.ExternalMessage{
		DstAddr: address.NewAddress(0, byte(from.Workchain), from.Hash[:]), StateInit: init, Body: body.EndCell(),
	})
	if err != nil {
		return nil, err
	}
	return ext.ToBOC(), nil
}

// Faucet signs for the faucet of a chain that another process runs.
type Faucet struct {
	gen  *genesis
	addr cocoon.Address
}

// OpenFaucet reads the faucet's key from a chain's directory.
func OpenFaucet(dir string) (*Faucet, error) {
	b, err := os.ReadFile(genesisPath(dir))
	if err != nil {
		return nil, fmt.Errorf("devnet: no chain was made in %s: %w", dir, err)
	}
	gen, err := parseGenesis(b)
	if err != nil {
		return nil, err
	}
	init, err := walletInit(gen.key("faucet").Public().(ed25519.PublicKey), gen.globalID)
	if err != nil {
		return nil, err
	}
	return &Faucet{gen, faucetAddress(init)}, nil
}

// Address is the faucet's account.
func (f *Faucet) Address() cocoon.Address { return f.addr }

// Transfer builds the external message that pays amount to the account, for
// the faucet's storage as it is now, a bag of cells. It is valid until the
// given time of the chain.
func (f *Faucet) Transfer(data []byte, to cocoon.Address, amount coins.Nano, validUntil time.Time) ([]byte, error) {
	root, err := cell.FromBOC(data)
	if err != nil {
		return nil, fmt.Errorf("devnet: faucet's data: %w", err)
	}
	seqno, err := seqnoOf(root)
	if err != nil {
		return nil, fmt.Errorf("devnet: faucet's data: %w", err)
	}
	return transfer(f.gen.key("faucet"), f.gen.globalID, seqno, uint32(validUntil.Unix()), f.addr, to, amount)
}
