package topo

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
	"github.com/cocoon-network/cocoon/internal/node"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// RunLevel0Proxy runs the proxy role of a network with a root file and
// simulated evidence, as the product does but for one thing: it never chooses
// level 1, so its clients and workers speak the reference protocol.
func RunLevel0Proxy(ctx context.Context, c *node.Config, log *slog.Logger) error {
	root, err := cocoon.ParseAddress(c.Measured.RootContract)
	if err != nil {
		return err
	}
	owner, err := cocoon.ParseAddress(c.Runtime.Owner)
	if err != nil {
		return err
	}
	snap, err := registry.ReadFile(c.Measured.RootFile, root, time.Now())
	if err != nil {
		return err
	}
	key, err := wallet.ReadKeyFile(c.Runtime.KeyFile)
	if err != nil {
		return err
	}
	contract, err := bindings.ProxyAddress(snap, key.Public(), owner)
	if err != nil {
		return err
	}
	payee, err := bindings.WalletAddress(key.Public(), owner)
	if err != nil {
		return err
	}
	workers, err := level0Listener(c, c.Runtime.ListenWorkers, cocoon.RoleWorker, log)
	if err != nil {
		return err
	}
	defer workers.Close()
	clients, err := level0Listener(c, c.Runtime.ListenClients, cocoon.RoleClient, log)
	if err != nil {
		return err
	}
	defer clients.Close()
	l, err := ledger.Open(filepath.Join(c.Runtime.Dir, "ledger"), ledger.Config{Contract: contract, Log: log})
	if err != nil {
		return err
	}
	defer l.Close()
	p, err := proxy.New(proxy.Config{
		Signer: signer{key}, PublicKey: key.Public(), Owner: owner, Wallet: payee, IsTest: c.Measured.IsTest,
		Source: registry.NewStatic(snap), Ledger: book{l}, Contracts: rich{}, Clients: clients, Workers: workers, Logger: log,
	})
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.Run(context.WithoutCancel(gctx)) })
	g.Go(func() error { return p.Run(gctx) })
	g.Go(func() error { return commit(gctx, l) })
	select {
	case <-ctx.Done():
		return nil
	case <-gctx.Done(): // a part failed
		return context.Cause(gctx)
	}
}

func level0Listener(c *node.Config, addr string, peer cocoon.Role, log *slog.Logger) (tee.Listener, error) {
	seed, err := os.ReadFile(c.Runtime.SimulatedSeed)
	if err != nil {
		return nil, err
	}
	vendor, err := simulated.New(seed)
	if err != nil {
		return nil, err
	}
	guest, err := vendor.NewGuest(simulated.GuestConfig{Machine: c.Runtime.SimulatedMachine, Registers: simulated.Image(c.Measured.SimulatedImage)})
	if err != nil {
		return nil, err
	}
	policy := vendor.Policy(attest.DeferredImages())
	if peer == cocoon.RoleClient {
		policy = attest.OpenPolicy()
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return ratls.Listen(ln, ratls.Config{
		Identity: ratls.NewIdentity(ratls.IdentityConfig{Attester: guest, Log: log}), Endorser: simulated.Endorser{Vendor: vendor},
		Policy: policy, PeerRole: peer, GlobalID: c.Measured.GlobalID, Difficulty: c.Runtime.PowDifficulty, Level0: true, Log: log,
	})
}

// book is the ledger as the proxy role wants it.
type book struct{ l *ledger.Ledger }

func (b book) Charge(ctx context.Context, client, worker cocoon.Address, id cocoon.RequestID, tokens int64, note string) error {
	return b.l.Charge(ctx, ledger.Charge{RequestID: id, Client: client, Worker: worker, Tokens: tokens, Note: note})
}

func (b book) Client(owner cocoon.Address) channel.Counters { return b.l.Client(owner) }
func (b book) Worker(owner cocoon.Address) channel.Counters { return b.l.Worker(owner) }

func (b book) Totals() (all channel.Counters, paid int64) {
	for _, c := range b.l.Clients() {
		all.Used += c.Counters.Used
		all.Durable += c.Counters.Durable
		all.Committed += c.Counters.Committed
	}
	return all, paid
}

// commit marks counters each second, as a network without a chain does.
func commit(ctx context.Context, l *ledger.Ledger) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
		m, err := l.Mark(ctx)
		if err == nil {
			err = l.Confirm(ctx, m.Seqno)
		}
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("ledger: %w", err)
		}
	}
}

type signer struct{ key wallet.Key }

func (s signer) SignHash(hash [32]byte) ([]byte, error) {
	sig := s.key.Sign(hash)
	return sig[:], nil
}

// rich gives every client a contract with plenty of money.
type rich struct{}

func (rich) Client(cocoon.Address) (channel.ClientContract, error) {
	return channel.ClientContract{Open: true, Balance: 1e6 * coins.PerCoin, Stake: 1e6 * coins.PerCoin, SecretHash: sha256.Sum256(nil)}, nil
}

func (rich) AwaitRegistration(context.Context, cocoon.Address, int64) error { return nil }
