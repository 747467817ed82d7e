package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/contracts"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/money/settle"
)

// What messages to a root contract carry: the first one its rent for years,
// the others gas, of which the rest returns.
const (
	rootDeposit = coins.PerCoin
	rootValue   = coins.PerCoin / 10
)

// ErrRootRefused says that a root contract did not take a message.
var ErrRootRefused = errors.New("the root contract refused")

// RootParams are the terms of a new network unless its owner says otherwise.
func RootParams() registry.Params {
	return registry.Params{
		StructVersion: 3, ParamsVersion: 1, PricePerToken: 20, WorkerFeePerToken: 19,
		Multipliers:           pricing.Multipliers{Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000},
		ProxyDelayBeforeClose: 86400, ClientDelayBeforeClose: 43200,
		MinProxyStake: 10 * coins.PerCoin, MinClientStake: 5 * coins.PerCoin / 2,
	}
}

// CheckTerms refuses what the root contract would: terms under which a contract
// could not pay.
func CheckTerms(p *registry.Params) error {
	switch {
	case p.WorkerFeePerToken > p.PricePerToken:
		return fmt.Errorf("the worker fee of %d nano a token is above the price of %d nano: a worker cannot be paid more than the client pays", p.WorkerFeePerToken, p.PricePerToken)
	case p.ClientDelayBeforeClose >= p.ProxyDelayBeforeClose:
		return fmt.Errorf("the client's closing delay of %d s must be shorter than the proxy's of %d s: a client that starts closing has to be done before the proxy can be gone", p.ClientDelayBeforeClose, p.ProxyDelayBeforeClose)
	}
	return nil
}

// RootCodes returns the message that makes future contracts those of this
// program.
func RootCodes() *bindings.ChangeCodes {
	return &bindings.ChangeCodes{Proxy: contracts.Proxy(), Worker: contracts.Worker(), Client: contracts.Client()}
}

// RootCode is this program's root contract.
func RootCode() []byte { return contracts.Root() }

// RootDeployment returns the message that deploys a root contract with empty
// lists and this program's contract codes. Its To is the contract's address.
func RootDeployment(owner cocoon.Address, p registry.Params) (wallet.Message, error) {
	if err := CheckTerms(&p); err != nil {
		return wallet.Message{}, err
	}
	p.ProxyCode, p.WorkerCode, p.ClientCode = contracts.Proxy(), contracts.Worker(), contracts.Client()
	data, err := bindings.EncodeRoot(&registry.Snapshot{Owner: owner, Params: p})
	if err != nil {
		return wallet.Message{}, err
	}
	m, err := wallet.Deploy(contracts.Root(), data, rootDeposit)
	m.Mode = wallet.ModePayFees
	return m, err
}

// RootOwner is whoever owns a root contract: its wallet and a chain.
type RootOwner struct {
	Chain  *access.Client
	Wallet *wallet.Wallet
}

// RootMessage is a message to a root contract, ready to be sent.
type RootMessage struct {
	wallet.Message
	QueryID uint64
}

// Message prepares a message to root.
func (o *RootOwner) Message(root cocoon.Address, m bindings.Message) (RootMessage, error) {
	query := uint64(time.Now().UnixNano())
	body, err := bindings.EncodeMessage(query, m)
	return RootMessage{wallet.Message{To: root, Amount: rootValue, Bounce: true, Body: body, Mode: wallet.ModePayFees}, query}, err
}

// Send sends a message and returns the root contract's transaction with it,
// proven. It fails with ErrRootRefused if the contract did not take it.
func (o *RootOwner) Send(ctx context.Context, m RootMessage) (access.Transaction, error) {
	before, err := o.Chain.Account(ctx, m.To)
	if err != nil {
		return access.Transaction{}, err
	}
	if _, err := o.Wallet.Send(ctx, []wallet.Message{m.Message}); err != nil {
		return access.Transaction{}, err
	}
	for since := before.LastTxLT; ; {
		acc, err := o.Chain.Account(ctx, m.To)
		if err != nil {
			return access.Transaction{}, err
		}
		var found *access.Transaction
		err = settle.History(ctx, o.Chain, acc, since, func(tx access.Transaction) error {
			if tx.In == nil || tx.In.Source != o.Wallet.Address() {
				return nil
			}
			if query, _, err := bindings.DecodeMessage(tx.In.Body); err == nil && query == m.QueryID {
				found = &tx
			}
			return nil
		})
		switch {
		case err != nil:
			return access.Transaction{}, err
		case found != nil && !found.Success:
			return *found, fmt.Errorf("%w: %s (exit code %d); the coins came back", ErrRootRefused, bindings.ExitText(found.ExitCode), found.ExitCode)
		case found != nil:
			return *found, nil
		}
		since = max(since, acc.LastTxLT)
		if _, err := o.Chain.Next(ctx, acc.Block.Seqno); err != nil {
			return access.Transaction{}, err
		}
	}
}

// Deploy sends the message of RootDeployment and returns once the contract is
// proven.
func (o *RootOwner) Deploy(ctx context.Context, m wallet.Message) error {
	if _, err := o.Wallet.Send(ctx, []wallet.Message{m}); err != nil {
		return err
	}
	for {
		acc, err := o.Chain.Account(ctx, m.To)
		if err != nil || acc.Deployed() {
			return err
		}
		if _, err := o.Chain.Next(ctx, acc.Block.Seqno); err != nil {
			return err
		}
	}
}
