package node

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/contracts"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/settle"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// runClient assembles the client role and its gateway.
func runClient(ctx context.Context, c *Config, ls *Listeners, log *slog.Logger) error {
	owner, err := c.Runtime.owner()
	if err != nil {
		return err
	}
	ch, err := openChain(ctx, c, log)
	if err != nil {
		return err
	}
	defer ch.close()
	l1, err := newLevel1(c, ch, cocoon.RoleClient, nil, nil, log)
	if err != nil {
		return err
	}
	dial, err := dialer(c, l1, log)
	if err != nil {
		return err
	}
	known, err := openPins(c.Runtime.Dir, ch.networkID())
	if err != nil {
		return err
	}
	suspended, err := openSuspensions(c.Runtime.Dir, ch.networkID())
	if err != nil {
		return err
	}
	admit := c.Measured.admit(role.AdmitProxy)
	book, err := openViews(ctx, c, log)
	if err != nil {
		return err
	}
	defer book.close()
	secret, err := loginSecret(c, ch)
	if err != nil {
		return err
	}
	cfg := client.Config{
		Owner: owner, Secret: secret, Proxies: c.Runtime.Proxies,
		IsTest: c.Measured.IsTest, TestOnly: c.Measured.TestOnly,
		Source: ch, Dialer: dial, Book: book, Registrar: fakeRegistrar{},
		Admit: func(s *registry.Snapshot, p tee.Peer) error {
			if err := known.admit(p); err != nil {
				return err
			}
			return admit(s, p)
		},
		Pin: known.confirm, Suspensions: suspended, Level0Login: c.Measured.Level0Login,
		MaxCoefficient: c.Runtime.MaxCoefficient, Timeout: c.Runtime.timeout(), Logger: log,
	}
	if c.Measured.Seal == "" {
		c.Measured.Seal = string(api.SealRequire) // what is not said is not allowed
	}
	cfg.Seal, cfg.Candidates, cfg.MinReputation, cfg.NoCacheSalt = api.Seal(c.Measured.Seal), c.Runtime.Candidates, c.Runtime.MinReputation, c.Runtime.NoCacheSalt
	cfg.AdmitWorker, cfg.Now = c.Measured.admit(role.AdmitWorker), ch.now
	if cfg.VerifyBundle, err = l1.bundles(log); err != nil {
		return err
	}
	var kept *receiptStore
	if c.keepsReceipts(ch) {
		store, err := audit.OpenStore(filepath.Join(c.Runtime.Dir, "receipts"), 0)
		if err != nil {
			return err
		}
		defer store.Close()
		kept = &receiptStore{Store: store, simulated: c.Measured.Accepts(attest.Simulated)}
		policy, err := c.Measured.policy()
		if err != nil {
			return err
		}
		if kept.endorser, err = endorser(c, policy, log); err != nil {
			return err
		}
		cfg.Receipts, cfg.WantReceipts = kept, true
	}
	parts := ch.parts()
	var d *desk
	if ch.real() {
		w, err := ch.wallet(c, owner, log)
		if err != nil {
			return err
		}
		settler, err := newClientSettler(c, ch, w, book, secret, suspended, log)
		if err != nil {
			return err
		}
		if d, err = newDesk(c, ch, w, settler, book.Contracts, log); err != nil {
			return err
		}
		// The owner of a client contract is the node wallet, not the person's.
		cfg.Owner, cfg.Registrar = w.Address(), settler
		parts = append(parts, settler.Run, d.gas.run)
	}
	cl, err := client.New(cfg)
	if err != nil {
		return err
	}
	var find func(string) (any, error)
	var watch *logWatch
	if kept != nil {
		kept.export = (&exporter{kept, ch, cl.Log}).export
		if ch.real() {
			watch = &logWatch{networkID: ch.networkID(), chain: ch.client, proxies: cl.Watched, page: cl.Log, suspend: cl.Suspend, log: log}
			if err := newLogWatch(c.Runtime.Dir, watch, kept.Store); err != nil {
				return err
			}
			kept.owes = watch.owes
			parts = append(parts, watch.run)
		}
		find = func(id string) (any, error) { return kept.Find(id) }
	}
	keys, err := openCallers(ctx, c)
	if err != nil {
		return err
	}
	defer keys.close()
	if keys.run != nil {
		parts = append(parts, keys.run)
	}
	gw, err := api.New(api.Config{
		Team: keys.team, Answers: keys.answers,
		Backend: cl, Receipt: find, Logger: log, Hosts: c.Runtime.Hosts, Origins: c.Runtime.Origins, Timeout: c.Runtime.timeout(), MaxCalls: c.Runtime.MaxCalls, MaxWaiting: c.Runtime.MaxWaiting, QueueWait: seconds(c.Runtime.QueueWait),
		Simulated: c.Measured.Accepts(attest.Simulated), Reference: c.Runtime.ReferenceWorkers,
		Verification: func() any { return cl.Verification() }, Seal: api.Seal(c.Measured.Seal),
		Workers: func() any {
			// Looking verifies what was not verified yet, which has a limit.
			look, stop := context.WithTimeout(ctx, 20*time.Second)
			defer stop()
			return cl.Workers(look, true)
		},
	})
	if err != nil {
		return err
	}
	// What calls did cost is written before the store closes.
	defer gw.Settled()
	ln, err := ls.Listen("gateway", c.Runtime.Listen)
	if err != nil {
		return err
	}
	log.Info("gateway listens", "addr", ln.Addr())
	// Room for those who are refused, and for connections that idle.
	ln = newBounded(ln, max(1024, 8*c.Runtime.MaxCalls))
	srv := api.Server(gw, log)
	// The connections to proxies outlive the gateway's last call.
	serving, over := context.WithCancel(context.WithoutCancel(ctx))
	defer over()
	parts = append(parts, func(context.Context) error { return cl.Run(serving) }, func(ctx context.Context) error {
		defer over()
		return serveHTTP(ctx, srv, ln, drainTime, over)
	})
	if c.Runtime.Status != "" {
		var pages []page
		if kept != nil {
			pages = append(pages, page{path: receiptsPath, serve: kept.serveReceipts}, page{path: auditPath, serve: relayAudit(cl.Log)})
		}
		status, err := statusPart(c, ls, func() any {
			s := cl.Stats()
			if watch != nil {
				s.LogFaults, s.Logs = watch.Faults(), watch.Seen()
			}
			return s
		}, func() error {
			if !cl.Ready() {
				return errors.New("no proxy is connected")
			}
			return nil
		}, d, pages...)
		if err != nil {
			return err
		}
		parts = append(parts, status)
	}
	return group(ctx, parts...)
}

// drainTime is how long calls may go on after a client was asked to end.
const drainTime = 10 * time.Second

// newClientSettler reads how much the client deposits by itself.
func newClientSettler(c *Config, ch *chain, w *wallet.Wallet, book *views, secret func(cocoon.Address) string, suspended *suspensions, log *slog.Logger) (*settle.Client, error) {
	budget, err := amount("budget", c.Runtime.Budget)
	if err != nil {
		return nil, err
	}
	topUp, err := amount("top_up", c.Runtime.TopUp)
	if err != nil {
		return nil, err
	}
	return settle.NewClient(settle.ClientConfig{
		Config: ch.settling(c, w, log), Policy: settle.ClientPolicy{TopUp: topUp, Budget: budget}, Source: ch, Views: book,
		PoolCodes:  [][32]byte{contracts.Hashes()["proxy"]},
		SecretHash: func(contract cocoon.Address) [32]byte { return sha256.Sum256([]byte(secret(contract))) },
		Suspended:  suspended.Suspended,
	})
}

// loginSecret returns the secret that a client logs in with at each of its
// contracts: derived from its master, the network and the contract, so that a
// proxy learns nothing that is good elsewhere (docs/protocol.md, client login).
func loginSecret(c *Config, ch *chain) (func(contract cocoon.Address) string, error) {
	if !ch.real() {
		text, err := secretText(c.Runtime.SecretFile)
		return func(cocoon.Address) string { return text }, err
	}
	master, err := c.keys.secret(useLogin, c.Runtime.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("configuration: runtime.secret_file: %w; it holds the login master, at least 32 random bytes", err)
	}
	if len(master) < 32 {
		return nil, errors.New("configuration: runtime.secret_file holds fewer than 32 bytes: a login master must not be guessable")
	}
	id := ch.networkID()
	return func(contract cocoon.Address) string { return deriveSecret(master, id, contract) }, nil
}

// deriveSecret is the secret of one client contract (docs/protocol.md, client
// login).
func deriveSecret(master []byte, networkID [32]byte, contract cocoon.Address) string {
	h := hmac.New(sha256.New, master)
	h.Write([]byte(wire.LabelLogin))
	h.Write(networkID[:])
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(contract.Workchain)))
	h.Write(contract.Hash[:])
	return hex.EncodeToString(h.Sum(nil))
}

// fakeRegistrar stands for registration where no chain is: the proxy accepts
// a Long authorization at once there (spec network-protocol 7.9).
type fakeRegistrar struct{}

func (fakeRegistrar) Register(context.Context, cocoon.Address, cocoon.Address, int64) error {
	return nil
}
