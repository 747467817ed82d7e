package node

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
)

// keySigner signs payments with a key of the wallet package.
type keySigner struct{ key wallet.Key }

func (s keySigner) SignHash(hash [32]byte) ([]byte, error) {
	sig := s.key.Sign(hash)
	return sig[:], nil
}

// runProxy assembles the proxy role and its ledger.
func runProxy(ctx context.Context, c *Config, ls *Listeners, log *slog.Logger) error {
	if err := c.Measured.own(cocoon.RoleProxy); err != nil {
		return err
	}
	src, err := source(c)
	if err != nil {
		return err
	}
	owner, err := c.Runtime.owner()
	if err != nil {
		return err
	}
	if c.Runtime.KeyFile == "" {
		return errors.New("configuration: runtime.key_file is missing: set the file with the proxy's contract key")
	}
	key, err := wallet.ReadKeyFile(c.Runtime.KeyFile)
	if err != nil {
		return fmt.Errorf("configuration: runtime.key_file: %w", err)
	}
	excess, err := bindings.WalletAddress(key.Public(), owner)
	if err != nil {
		return err
	}
	snap, err := src.Current()
	if err != nil {
		return err
	}
	contract, err := bindings.ProxyAddress(snap, key.Public(), owner)
	if err != nil {
		return err
	}
	book, err := openLedger(ctx, filepath.Join(c.Runtime.Dir, "ledger"), contract, log)
	if err != nil {
		return err
	}
	defer book.close()

	id, err := identity(c, log)
	if err != nil {
		return err
	}
	workersLn, err := ls.Listen("workers", c.Runtime.ListenWorkers)
	if err != nil {
		return err
	}
	clientsLn, err := ls.Listen("clients", c.Runtime.ListenClients)
	if err != nil {
		return err
	}
	workers, err := listener(c, workersLn, cocoon.RoleWorker, id, log)
	if err != nil {
		return err
	}
	defer workers.Close()
	clients, err := listener(c, clientsLn, cocoon.RoleClient, id, log)
	if err != nil {
		return err
	}
	defer clients.Close()
	p, err := proxy.New(proxy.Config{
		Signer: keySigner{key}, PublicKey: key.Public(), Owner: owner, Wallet: excess,
		IsTest: c.Measured.IsTest, TestOnly: c.Measured.TestOnly,
		Source: src, Ledger: book, Contracts: fakeContracts{src},
		Clients: clients, Workers: workers, AdmitWorker: c.Measured.admit(role.AdmitWorker), AnyModel: c.Measured.Accepts(attest.None),
		Logger: log,
	})
	if err != nil {
		return err
	}
	log.Info("proxy listens", "workers", workersLn.Addr(), "clients", clientsLn.Addr(), "contract", contract)
	parts := []func(context.Context) error{p.Run, book.commit}
	if c.Runtime.Status != "" {
		ln, err := ls.Listen("status", c.Runtime.Status)
		if err != nil {
			return err
		}
		parts = append(parts, statusPart(ln, func() any { return p.Stats() }, func() error { return nil }))
	}
	return group(ctx, parts...)
}

// fakeContracts is the proxy's view of a chain that is not there: every
// client has a contract with plenty of money and a stake of 1 coin (spec
// network-protocol 7.9).
type fakeContracts struct{ src registry.Source }

func (f fakeContracts) Client(cocoon.Address) (channel.ClientContract, error) {
	return channel.ClientContract{Open: true, Balance: 1e6 * coins.PerCoin, Stake: 1e6 * coins.PerCoin, SecretHash: sha256.Sum256(nil)}, nil
}

func (fakeContracts) AwaitRegistration(context.Context, cocoon.Address, int64) error { return nil }

// commitEvery is how often counters are committed where no chain delays it.
const commitEvery = time.Second
