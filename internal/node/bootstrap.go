//go:build !tee

package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/follow"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// The development network's terms.
var devParams = registry.Params{
	StructVersion: 3, ParamsVersion: 1, UniqueID: 1, IsTest: true,
	PricePerToken: 20, WorkerFeePerToken: 19,
	Multipliers:           pricing.Multipliers{Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000},
	ProxyDelayBeforeClose: 600, ClientDelayBeforeClose: 300,
	MinProxyStake: coins.PerCoin, MinClientStake: coins.PerCoin,
}

// What `up` gives the wallets of its network, of coins without worth.
const (
	operatorFunds = 1_000_000 * coins.PerCoin
	nodeFunds     = 1_000 * coins.PerCoin
	nodeLow       = 100 * coins.PerCoin
)

// operator is the person who owns the development network: of its root
// contract and of the coins.
type operator struct {
	chain  *access.Client
	wallet *wallet.Wallet
}

// openOperator connects to the network's chain as its operator.
func openOperator(ctx context.Context, dir string, key wallet.Key) (*operator, error) {
	config, err := os.ReadFile(devnet.GlobalConfigPath(filepath.Join(dir, "devnet")))
	if err != nil {
		return nil, err
	}
	client, err := access.Open(ctx, access.Config{GlobalConfig: config})
	if err != nil {
		return nil, err
	}
	w, err := wallet.Open(wallet.Config{
		Chain: client, Key: key, Dir: filepath.Join(dir, "operator"),
		Contract: personal(key),
	})
	if err != nil {
		client.Close()
		return nil, err
	}
	return &operator{client, w}, nil
}

// personal is the wallet contract of a person on the development chain.
func personal(key wallet.Key) wallet.Contract {
	return wallet.Contract{Kind: wallet.V5R1, PublicKey: key.Public(), GlobalID: devnet.DefaultGlobalID}
}

func (o *operator) close() { o.chain.Close() }

// awaitFunds waits until the faucet's coins are there.
func (o *operator) awaitFunds(ctx context.Context) error {
	for {
		acc, err := o.chain.Account(ctx, o.wallet.Address())
		if err == nil && acc.Balance > 0 {
			return nil
		}
		if _, err := o.chain.Next(ctx, o.chain.LastHead().Seqno); err != nil {
			return err
		}
	}
}

// deployRoot deploys the root contract unless it is there, and returns its
// address.
func (o *operator) deployRoot(ctx context.Context) (cocoon.Address, error) {
	deploy, err := RootDeployment(o.wallet.Address(), devParams)
	if err != nil {
		return cocoon.Address{}, err
	}
	acc, err := o.chain.Account(ctx, deploy.To)
	if err != nil || acc.Deployed() {
		return deploy.To, err
	}
	_, err = o.wallet.Send(ctx, []wallet.Message{deploy})
	return deploy.To, err
}

// listing is what the root contract should list.
type listing struct {
	proxyImage, workerImage [32]byte
	models                  [][32]byte
	proxies                 []registry.Proxy // addresses only
}

// arrange brings the root contract's lists and the wallets' balances to where
// they should be, in one message, and waits until they are.
func (o *operator) arrange(ctx context.Context, root cocoon.Address, want listing, wallets []cocoon.Address) error {
	snap, err := o.awaitRoot(ctx, root, func(*registry.Snapshot) bool { return true })
	if err != nil {
		return err
	}
	var messages []wallet.Message
	tell := func(m bindings.Message) {
		body, merr := bindings.EncodeMessage(uint64(time.Now().UnixNano()), m)
		err = errors.Join(err, merr)
		messages = append(messages, wallet.Message{To: root, Amount: rootValue, Bounce: true, Body: body, Mode: wallet.ModePayFees})
	}
	if !slices.Contains(snap.ProxyImages, want.proxyImage) {
		tell(&bindings.ListHash{Op: bindings.OpAddProxyImage, Hash: want.proxyImage})
	}
	if !slices.Contains(snap.WorkerImages, want.workerImage) {
		tell(&bindings.ListHash{Op: bindings.OpAddWorkerImage, Hash: want.workerImage})
	}
	for _, model := range want.models {
		if !slices.Contains(snap.ModelHashes, model) {
			tell(&bindings.ListHash{Op: bindings.OpAddModel, Hash: model})
		}
	}
	listed := func(s *registry.Snapshot) bool {
		return slices.EqualFunc(s.Proxies, want.proxies, func(a, b registry.Proxy) bool {
			return a.ForClients == b.ForClients && a.ForWorkers == b.ForWorkers
		})
	}
	if !listed(snap) {
		for i, p := range want.proxies {
			if i < len(snap.Proxies) {
				tell(&bindings.UpdateProxy{Seqno: snap.Proxies[i].Seqno, Endpoint: p.Text()})
			} else {
				tell(&bindings.RegisterProxy{Endpoint: p.Text()})
			}
		}
		for _, p := range snap.Proxies[min(len(want.proxies), len(snap.Proxies)):] {
			tell(&bindings.UnregisterProxy{Seqno: p.Seqno})
		}
	}
	if err != nil {
		return err
	}
	for _, w := range wallets {
		acc, err := o.chain.Account(ctx, w)
		if err != nil {
			return err
		}
		if acc.Balance < nodeLow {
			messages = append(messages, wallet.Message{To: w, Amount: nodeFunds, Mode: wallet.ModePayFees})
		}
	}
	if len(messages) == 0 {
		return nil
	}
	if _, err := o.wallet.Send(ctx, messages); err != nil {
		return fmt.Errorf("arranging the root contract: %w", err)
	}
	_, err = o.awaitRoot(ctx, root, func(s *registry.Snapshot) bool {
		for _, model := range want.models {
			if !slices.Contains(s.ModelHashes, model) {
				return false
			}
		}
		return listed(s) && slices.Contains(s.ProxyImages, want.proxyImage) && slices.Contains(s.WorkerImages, want.workerImage)
	})
	return err
}

// awaitRoot waits until the proven root contract is as it should be.
func (o *operator) awaitRoot(ctx context.Context, root cocoon.Address, ok func(*registry.Snapshot) bool) (*registry.Snapshot, error) {
	for {
		snap, err := follow.Read(ctx, o.chain, root)
		if err == nil && ok(snap) {
			return snap, nil
		}
		if err != nil && !errors.Is(err, follow.ErrNotRoot) {
			return nil, err
		}
		if _, err := o.chain.Next(ctx, o.chain.LastHead().Seqno); err != nil {
			return nil, err
		}
	}
}
