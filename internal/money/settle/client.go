package settle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/channel"
)

// Views tells what a client or worker holds of its contracts, and remembers
// which there are; ledger.Views does.
type Views interface {
	View(contract cocoon.Address) channel.View
	Contracts() []cocoon.Address
	Know(ctx context.Context, contract cocoon.Address) error
}

// ClientConfig configures a Client. Fields without a remark are required.
type ClientConfig struct {
	Config // the wallet is the owner of the client contracts
	Policy ClientPolicy
	Source registry.Source
	Views  Views
	// PoolCodes are the hashes of proxy contract codes that pay refunds after
	// the close; the contracts of mainnet do not.
	PoolCodes [][32]byte
	// SecretHash is SHA-256 of the secret the client logs in with by means of a
	// client contract; each has its own. Required.
	SecretHash func(contract cocoon.Address) [32]byte
	// Suspended says that the proxy with a contract key gets no more money by
	// itself; nil = none.
	Suspended func(proxyKey [32]byte) bool
}

// Client settles the contracts of one client wallet.
type Client struct {
	cfg ClientConfig
	*agent

	// Of the round.
	hurry    bool
	outdated map[cocoon.Address]time.Time
	infos    map[cocoon.Address]clientInfo // what message needs

	stateMu sync.Mutex
	wanted  map[cocoon.Address]cocoon.Address // client contract → proxy contract
	changed chan struct{}                     // closed and replaced after each round
}

type clientInfo struct {
	proxy    cocoon.Address
	proxyKey [32]byte
	terms    *registry.Snapshot
}

// NewClient prepares the settling of a client's contracts. It asks the chain
// nothing.
func NewClient(c ClientConfig) (*Client, error) {
	if c.Chain == nil || c.Wallet == nil || c.Source == nil || c.Views == nil || c.SecretHash == nil {
		return nil, errors.New("settle: chain, wallet, source, views and secret hash are required")
	}
	return &Client{
		cfg: c, agent: newAgent(c.Config), outdated: map[cocoon.Address]time.Time{}, infos: map[cocoon.Address]clientInfo{},
		wanted: map[cocoon.Address]cocoon.Address{}, changed: make(chan struct{}),
	}, nil
}

// Run settles until ctx ends.
func (c *Client) Run(ctx context.Context) error { return c.run(ctx, c) }

// Settle submits every signed payment and returns when the chain has them.
func (c *Client) Settle(ctx context.Context) error { return c.settleNow(ctx, hurriedClient{c}) }

type hurriedClient struct{ *Client }

func (h hurriedClient) plan(ctx context.Context) ([]Action, error) {
	h.hurry = true
	defer func() { h.hurry = false }()
	return h.Client.plan(ctx)
}

// Register deploys the client contract of this wallet at a proxy contract if
// need be, funds it within the policy, and registers nonce at the proxy with
// it (spec network-protocol 4.2, long authorization). It returns when the
// registration was delivered; Run must be running.
func (c *Client) Register(ctx context.Context, proxy, contract cocoon.Address, nonce int64) error {
	// Whoever forgets a contract forgets the money in it.
	if err := c.cfg.Views.Know(ctx, contract); err != nil {
		return err
	}
	c.stateMu.Lock()
	c.wanted[contract] = proxy
	c.stateMu.Unlock()
	for {
		c.stateMu.Lock()
		changed := c.changed
		c.stateMu.Unlock()
		acc, err := c.chain.Account(ctx, contract)
		if err != nil {
			return err
		}
		if acc.Deployed() {
			s, err := bindings.DecodeClient(acc.Data)
			if err != nil {
				return err
			}
			if s.State == bindings.Closed {
				return fmt.Errorf("client contract %v is closed", contract)
			}
			if s.Balance > 0 {
				return c.perform(ctx, c, func(context.Context) (*Action, error) {
					return &Action{Kind: Register, To: contract, Value: registerValue, Nonce: uint64(nonce)}, nil
				})
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for client contract %v to be deployed and funded (wallet %v, budget %v): %w", contract, c.wallet.Address(), c.cfg.Policy.Budget, ctx.Err())
		case <-changed:
		case <-time.After(c.every):
		}
	}
}

// look reads a client contract.
func (c *Client) look(ctx context.Context, contract cocoon.Address) (*bindings.ClientStorage, error) {
	acc, err := c.chain.Account(ctx, contract)
	if err != nil {
		return nil, err
	}
	if !acc.Deployed() {
		return nil, fmt.Errorf("%w: %v", ErrNotFound, contract)
	}
	s, err := bindings.DecodeClient(acc.Data)
	if err != nil {
		return nil, fmt.Errorf("%v is not a client contract: %w", contract, err)
	}
	return s, nil
}

// plan implements party.
func (c *Client) plan(ctx context.Context) ([]Action, error) {
	defer func() {
		c.stateMu.Lock()
		close(c.changed)
		c.changed = make(chan struct{})
		c.stateMu.Unlock()
	}()
	snap, err := c.cfg.Source.Current()
	if err != nil {
		return nil, err
	}
	c.stateMu.Lock()
	wanted := map[cocoon.Address]cocoon.Address{}
	for _, contract := range c.cfg.Views.Contracts() {
		wanted[contract] = cocoon.Address{}
	}
	for contract, proxy := range c.wanted {
		wanted[contract] = proxy
	}
	c.stateMu.Unlock()
	var out []Action
	var failed error
	for contract, proxy := range wanted {
		s, err := c.observe(ctx, snap, contract, proxy)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("client contract %v: %w", contract, err))
			continue
		}
		out = append(out, PlanClient(s)...)
	}
	return c.despite(out, failed)
}

func (c *Client) observe(ctx context.Context, snap *registry.Snapshot, contract, proxy cocoon.Address) (ClientState, error) {
	s := ClientState{
		Now: c.now(), Policy: c.cfg.Policy, Contract: contract, SecretHash: c.cfg.SecretHash(contract), Settle: c.hurry,
		Signed: c.cfg.Views.View(contract).Best().Tokens, Wanted: proxy != cocoon.Address{},
	}
	acc, err := c.chain.Account(ctx, contract)
	if err != nil {
		return s, err
	}
	if acc.Deployed() {
		if s.Storage, err = bindings.DecodeClient(acc.Data); err != nil {
			return s, err
		}
		proxy = s.Storage.Proxy
		if s.Storage.Params.ParamsVersion < snap.Params.ParamsVersion {
			if c.outdated[contract].IsZero() {
				c.outdated[contract] = c.now()
			}
			s.OutdatedSince = c.outdated[contract]
		}
	}
	if proxy == (cocoon.Address{}) {
		return s, nil
	}
	acc, err = c.chain.Account(ctx, proxy)
	if err != nil || !acc.Deployed() {
		return s, err
	}
	if s.Proxy, err = bindings.DecodeProxy(acc.Data); err != nil {
		return s, err
	}
	s.Suspended = c.cfg.Suspended != nil && c.cfg.Suspended(s.Proxy.Key)
	if s.PoolPays, err = c.poolPays(acc); err != nil {
		return s, err
	}
	c.infos[contract] = clientInfo{proxy, s.Proxy.Key, snap}
	return s, nil
}

// poolPays reports whether a proxy contract pays refunds after its close.
func (c *Client) poolPays(proxy access.Account) (bool, error) {
	code, err := bindings.Hash(proxy.Code)
	return slices.Contains(c.cfg.PoolCodes, code), err
}

// message implements party.
func (c *Client) message(_ context.Context, a Action) (*wallet.Message, error) {
	me := c.wallet.Address()
	var body, init []byte
	var err error
	switch a.Kind {
	case Deploy:
		i := c.infos[a.To]
		if init, err = bindings.ClientInit(i.terms, me, i.proxy, i.proxyKey); err != nil {
			return nil, err
		}
		if want, err := bindings.ClientAddress(i.terms, me, i.proxy, i.proxyKey); err != nil || want != a.To {
			return nil, fmt.Errorf("the proxy's contract gives the client contract %v (%v)", want, err)
		}
	case TopUp:
		body, err = bodyOf(&bindings.Funding{Op: bindings.OpTopUp, Amount: a.Amount, ExcessTo: me})
	case ChangeSecret:
		body, err = bodyOf(&bindings.ChangeSecret{SecretHash: c.cfg.SecretHash(a.To), ExcessTo: me})
	case Register:
		body, err = bodyOf(&bindings.RegisterClient{Nonce: a.Nonce, ExcessTo: me})
	case Withdraw:
		body, err = bodyOf(&bindings.Request{Op: bindings.OpWithdraw, ExcessTo: me})
	case IncreaseStake:
		body, err = bodyOf(&bindings.Funding{Op: bindings.OpIncreaseClientStake, Amount: a.Amount, ExcessTo: me})
	case RequestRefund:
		body, err = bodyOf(&bindings.Request{Op: bindings.OpRequestRefund, ExcessTo: me})
	case Charge:
		body, err = rewrap(c.cfg.Views.View(a.To).Best().Data, me)
	default:
		err = fmt.Errorf("a client does not send %s", a.Kind)
	}
	if err != nil {
		return nil, err
	}
	return outgoing(a, body, init), nil
}

// rewrap makes the excess of a signed payment come back to us.
func rewrap(payment []byte, excessTo cocoon.Address) ([]byte, error) {
	p, err := bindings.ParsePayment(payment)
	if err != nil {
		return nil, err
	}
	return p.Rewrap(excessTo)
}
