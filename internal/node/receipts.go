package node

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/receipt"
)

// keepsReceipts reports whether this network's proxies give receipts: all but
// test networks of level 0 without a chain.
func (c *Config) keepsReceipts(ch *chain) bool {
	return ch.real() || c.Measured.MinLevel >= wire.Level1
}

// receipts are a proxy's log and the service that fills it.
type receipts struct {
	log     *audit.Log
	service *audit.Service
}

func (h *proxyHost) openReceipts() (*receipts, error) {
	log, err := audit.OpenLog(filepath.Join(h.cfg.Runtime.Dir, "audit"), audit.LogConfig{NetworkID: h.chain.networkID(), ContractKey: h.key.Public()})
	if err != nil {
		return nil, err
	}
	_, promise := h.cfg.Runtime.anchoring()
	s, err := audit.NewService(audit.ServiceConfig{
		Log: log, Sign: h.l1.issuer.Sign, Block: h.block, Promise: promise, Logger: h.log,
		Statement: func(ctx context.Context) ([32]byte, error) {
			own, err := h.l1.issuer.Current(ctx)
			if err != nil {
				return [32]byte{}, err
			}
			return own.Digest, nil
		},
	})
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return &receipts{log, s}, nil
}

// block is the newest proven block; zero where there is no chain.
func (h *proxyHost) block() receipt.Block {
	blocks := h.chain.blocks()
	if blocks == nil {
		return receipt.Block{}
	}
	b, _ := blocks.Newest()
	return receipt.Block(b)
}

// anchoring is the time between epochs, and what is promised: long enough for
// several of them to be late.
func (r *Runtime) anchoring() (every, promise time.Duration) {
	every = time.Duration(r.AnchorEvery * float64(time.Second))
	if every == 0 {
		every = 10 * time.Minute
	}
	return every, min(max(6*every, 5*time.Minute), receipt.MaxPromise)
}

// anchor puts the log's heads on chain.
func (h *proxyHost) anchor(ctx context.Context) error {
	every, promise := h.cfg.Runtime.anchoring()
	return audit.RunAnchor(ctx, audit.AnchorConfig{
		Log: h.receipts.log, Chain: h.chain.client, Wallet: h.wallet, Signer: keySigner{h.key}, Block: h.block,
		Every: every, Promise: promise, Logger: h.log,
	})
}

// follow logs the notes of a contract's ledger until the book is closed. terms
// name the contracts of owners; nil: the contract was opened before.
func (h *proxyHost) follow(ctx context.Context, contract cocoon.Address, b *book, terms *registry.Snapshot) {
	if h.receipts == nil {
		return
	}
	if _, ok := h.receipts.log.Opened(contract); !ok && terms == nil {
		return // it was served without receipts
	}
	key := h.key.Public()
	b.ship = startWriter(ctx, func(ctx context.Context) error {
		err := h.receipts.service.Follow(ctx, contract, b.l,
			func(o cocoon.Address) (cocoon.Address, error) { return bindings.ClientAddress(terms, o, contract, key) },
			func(o cocoon.Address) (cocoon.Address, error) { return bindings.WorkerAddress(terms, o, contract, key) })
		if err != nil {
			b.shipErr.Store(&err)
		}
		return err
	})
	b.ships = true
}

// Note implements proxy.Receipts.
func (r *receipts) Note(c proxy.ChargeNote) (string, error) {
	n := audit.Note{RequestID: c.RequestID, Client: c.Client, Worker: c.Worker, Price: c.Price, SetVersion: c.SetVersion}
	if c.WorkerPart != nil {
		s, err := receipt.ParseSigned(c.WorkerPart)
		if err != nil {
			return "", err
		}
		n.WorkerPart = s.Digest()
	}
	return n.Encode(), nil
}

// Part implements proxy.Receipts.
func (r *receipts) Part(ctx context.Context, id cocoon.RequestID) ([]byte, error) {
	return r.service.Part(ctx, id)
}

// LastSet implements proxy.Receipts.
func (r *receipts) LastSet() (version uint64, hash [32]byte) {
	signed, ok := r.log.LastSet()
	if !ok {
		return 0, hash
	}
	set, hash, err := parseSet(signed)
	if err != nil {
		return 0, [32]byte{}
	}
	return uint64(set.Version), hash
}

// LogSet implements proxy.Receipts.
func (r *receipts) LogSet(_ context.Context, signed []byte) error {
	_, hash, err := parseSet(signed)
	if err != nil {
		return err
	}
	return r.log.AppendSet(hash, signed)
}

// parseSet reads a signed set of our own log.
func parseSet(signed []byte) (*schema.CocoonSet, [32]byte, error) {
	outer, err := schema.DecodeAs[*schema.CocoonSignedSet](signed)
	if err != nil {
		return nil, [32]byte{}, err
	}
	set, err := schema.DecodeAs[*schema.CocoonSet](outer.Set)
	return set, sha256.Sum256(outer.Set), err
}

// auditPath is where a proxy shows its log: heads, epochs with their public
// totals, sets, and proofs. Nothing in it names a client or a worker.
const auditPath = "/audit/"

// serveAudit answers with JSON.
func (h *proxyHost) serveAudit(w http.ResponseWriter, r *http.Request) {
	if h.receipts == nil {
		http.Error(w, "this proxy keeps no receipts", http.StatusNotFound)
		return
	}
	log := h.receipts.log
	var failed error
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(r.FormValue(name), 10, 63)
		if err != nil {
			failed = fmt.Errorf("%s is not a number: %q", name, r.FormValue(name))
		}
		return n
	}
	var out any
	var err error
	switch r.URL.Path {
	case auditPath + "head":
		anchor, aerr := audit.AnchorAddress(log.ID())
		id := log.ID()
		out, err = map[string]any{
			"network_id": receipt.Hash(id.NetworkID), "contract_key": receipt.Hash(id.ContractKey), "anchor": anchor, "log": log.State(),
			"simulated": h.cfg.Measured.Accepts("simulated"),
		}, aerr
	case auditPath + "epochs":
		out = log.Epochs(uint32(number("first")), 100)
	case auditPath + "totals":
		out, err = log.Totals(uint32(number("epoch")))
	case auditPath + "sets":
		out, err = log.Sets(number("first"), 100)
	case auditPath + "consistency":
		out, err = log.Consistency(number("first"), number("second"))
	case auditPath + "inclusion":
		var leaf receipt.Hash
		if failed = leaf.UnmarshalText([]byte(r.FormValue("leaf"))); failed == nil {
			out, err = log.Find(leaf, number("size"))
		}
	default:
		http.NotFound(w, r)
		return
	}
	switch {
	case failed != nil:
		http.Error(w, failed.Error(), http.StatusBadRequest)
	case errors.Is(err, audit.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, "the log cannot be read", http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	}
}

// receiptStore keeps a client's receipts.
type receiptStore struct {
	*audit.Store
	simulated bool
}

// Keep implements client.ReceiptStore.
func (s receiptStore) Keep(_ context.Context, r client.Receipt) error {
	return s.Store.Keep(audit.Kept{
		RequestID: receipt.Hash(r.RequestID), Received: time.Now().UTC().Truncate(time.Second), Sealed: r.Sealed, Simulated: s.simulated,
		Worker: r.Worker, Proxy: r.Proxy, RequestSalt: receipt.Hash(r.Salts.Request), AnswerSalt: receipt.Hash(r.Salts.Answer),
		WorkerBundle: r.WorkerBundle, ProxyBundle: r.ProxyBundle,
	})
}

// receiptsPath is where a client shows its receipts to the person who runs it.
const receiptsPath = "/receipts/"

// serveReceipts answers with the newest receipts, or with one by its id.
func (s receiptStore) serveReceipts(w http.ResponseWriter, r *http.Request) {
	var out any
	var err error
	if id := strings.TrimPrefix(r.URL.Path, receiptsPath); id == "" {
		out, err = s.List(1000)
	} else {
		out, err = s.Find(id)
	}
	switch {
	case errors.Is(err, audit.ErrNotFound):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, "the receipts cannot be read", http.StatusInternalServerError)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	}
}

// Receipts asks the client of a running network for its receipts, newest
// first; for one of them if id, or the beginning of it, is given.
func Receipts(ctx context.Context, s *State, id string) ([]audit.Kept, error) {
	for _, c := range s.Children {
		if c.Role != "client" || c.Status == "" {
			continue
		}
		if id == "" {
			var all []audit.Kept
			return all, getJSON(ctx, c.Status+receiptsPath, &all)
		}
		var one audit.Kept
		err := getJSON(ctx, c.Status+receiptsPath+id, &one)
		return []audit.Kept{one}, err
	}
	return nil, errors.New("no client of this network shows its receipts")
}
