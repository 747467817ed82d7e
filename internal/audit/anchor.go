package audit

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/contracts"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/receipt"
)

// ErrAhead says that the chain knows more of the log than the log itself.
var ErrAhead = errors.New("the anchor on chain is not this log's: the log's file is older than the chain, or another process uses the key")

// Chain reads proven accounts; access.Client does.
type Chain interface {
	Account(ctx context.Context, addr cocoon.Address) (access.Account, error)
}

// Sender sends, each message once; wallet.Wallet does.
type Sender interface {
	Address() cocoon.Address
	Send(ctx context.Context, messages []wallet.Message) (wallet.Sent, error)
}

// AnchorConfig says how a log is anchored.
type AnchorConfig struct {
	Log    *Log
	Chain  Chain
	Wallet Sender
	Signer bindings.Signer // the contract key
	Block  func() receipt.Block
	// Every is the time between epochs; 0 = 10 min. Promise as in ServiceConfig.
	Every, Promise time.Duration
	Logger         *slog.Logger
}

const (
	anchorValue = coins.PerCoin / 4 // most of which comes back
	lookEvery   = 2 * time.Second
	sendAgain   = 30 * time.Second
)

// AnchorAddress is where the log of a contract key is anchored.
func AnchorAddress(c LogConfig) (cocoon.Address, error) {
	return bindings.AnchorAddress(contracts.Anchor(), c.NetworkID, c.ContractKey)
}

// RunAnchor anchors an epoch whenever the log grew, until ctx ends. One is on
// its way at a time; what was prepared before a restart is sent again as it
// is. It fails with ErrAhead, or with what broke the log.
func RunAnchor(ctx context.Context, c AnchorConfig) error {
	if c.Every == 0 {
		c.Every = 10 * time.Minute
	}
	if c.Promise == 0 {
		c.Promise = receipt.MaxPromise
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	a := &anchoring{AnchorConfig: c}
	var err error
	if a.address, err = AnchorAddress(c.Log.id); err != nil {
		return err
	}
	for {
		if err := a.round(ctx); err != nil && ctx.Err() == nil {
			if errors.Is(err, ErrAhead) || c.Log.Err() != nil {
				return err
			}
			c.Logger.Warn("anchoring waits", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(lookEvery, c.Every)):
		}
	}
}

type anchoring struct {
	AnchorConfig
	address  cocoon.Address
	prepared time.Time // when the last epoch was, in this process
	sent     time.Time
}

// round looks at the chain, and prepares or sends what is due.
func (a *anchoring) round(ctx context.Context) error {
	last := a.Log.State().Epoch
	if last.Number > 0 && last.Anchored == 0 {
		return a.advance(ctx, last)
	}
	if st := a.Log.State(); st.Size == last.Size || time.Since(a.prepared) < a.Every {
		return nil
	}
	acc, stored, err := a.read(ctx)
	if err != nil {
		return err
	}
	if stored.Epoch != last.Number || stored.Roots.Log != last.Log {
		return fmt.Errorf("%w (epoch %d on chain in block %d, %d in the log)", ErrAhead, stored.Epoch, acc.Block.Seqno, last.Number)
	}
	a.prepared, a.sent = time.Now(), time.Time{}
	e, err := a.Log.Prepare(a.Block().Time.Add(a.Promise))
	if err != nil {
		return err
	}
	return a.advance(ctx, e)
}

// read returns the anchor's proven state; before its deployment, the empty one.
func (a *anchoring) read(ctx context.Context) (access.Account, bindings.AnchorStorage, error) {
	acc, err := a.Chain.Account(ctx, a.address)
	if err != nil || !acc.Deployed() {
		return acc, bindings.AnchorStorage{}, err
	}
	s, err := bindings.ParseAnchorStorage(acc.Data)
	return acc, s, err
}

// advance brings a prepared epoch to the chain.
func (a *anchoring) advance(ctx context.Context, e Epoch) error {
	acc, stored, err := a.read(ctx)
	if err != nil {
		return err
	}
	roots := bindings.AnchorRoots{Log: e.Log, Clients: e.Clients, Workers: e.Workers}
	switch {
	case stored.Epoch == e.Number && stored.Size == e.Size && stored.Roots == roots:
		a.Logger.Info("log anchored", "epoch", e.Number, "leaves", e.Size, "anchor", a.address)
		return a.Log.Anchored(e.Number, acc.Block.Seqno)
	case stored.Epoch+1 != e.Number || stored.Roots.Log != e.Previous:
		return fmt.Errorf("%w (epoch %d on chain, %d prepared)", ErrAhead, stored.Epoch, e.Number)
	case time.Since(a.sent) < sendAgain:
		return nil // on its way
	}
	var id [8]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	step := bindings.AnchorStep{Contract: a.address, Epoch: e.Number, Size: e.Size, PreviousLog: e.Previous, Roots: roots}
	body, err := bindings.SignAnchor(a.Signer, step, binary.BigEndian.Uint64(id[:]), a.Wallet.Address())
	if err != nil {
		return err
	}
	m := wallet.Message{To: a.address, Amount: anchorValue, Bounce: acc.Deployed(), Body: body}
	if !acc.Deployed() {
		if m.Init, err = bindings.AnchorInit(contracts.Anchor(), a.Log.id.NetworkID, a.Log.id.ContractKey); err != nil {
			return err
		}
	}
	if _, err := a.Wallet.Send(ctx, []wallet.Message{m}); err != nil {
		return err
	}
	a.sent = time.Now()
	return nil
}
