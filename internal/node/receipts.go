package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/audit"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
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
	log       *audit.Log
	service   *audit.Service
	statement func(context.Context) (*statement.Issued, error) // this process's newest
	nodeKey   [32]byte
	simulated bool

	mu         sync.Mutex
	statements []*statement.Issued // that parts of this process name, newest last
}

// maxStatements is how many of its own statements a proxy hands out: each lives
// minutes.
const maxStatements = 16

// named notes a statement that parts name from now on.
func (r *receipts) named(own *statement.Issued) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.statements); n == 0 || r.statements[n-1].Digest != own.Digest {
		r.statements = append(r.statements, own)
		r.statements = r.statements[max(0, len(r.statements)-maxStatements):]
	}
}

// Statement implements proxy.Log.
func (r *receipts) Statement(digest [32]byte) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, own := range r.statements {
		if own.Digest == digest {
			return own.Bundle
		}
	}
	return nil
}

func (h *proxyHost) openReceipts() (*receipts, error) {
	log, err := audit.OpenLog(filepath.Join(h.cfg.Runtime.Dir, "audit"), audit.LogConfig{NetworkID: h.chain.networkID(), ContractKey: h.key.Public()})
	if err != nil {
		return nil, err
	}
	_, promise := h.cfg.Runtime.anchoring()
	r := &receipts{log: log, statement: h.l1.issuer.Current, nodeKey: h.l1.issuer.Key(), simulated: h.cfg.Measured.Accepts(attest.Simulated)}
	r.service, err = audit.NewService(audit.ServiceConfig{
		Log: log, Sign: h.l1.issuer.Sign, Block: h.block, Promise: promise, Logger: h.log,
		Statement: func(ctx context.Context) ([32]byte, error) {
			own, err := r.statement(ctx)
			if err != nil {
				return [32]byte{}, err
			}
			r.named(own)
			return own.Digest, nil
		},
	})
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return r, nil
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

// LogSet implements proxy.Receipts. The statement of the node key that signed
// stands in the log before the set does: by it auditors know whose it is.
func (r *receipts) LogSet(ctx context.Context, signed []byte) error {
	set, hash, err := parseSet(signed)
	if err != nil {
		return err
	}
	own, err := r.statement(ctx)
	if err != nil {
		return err
	}
	if own.Statement.Contract != cocoon.Address(set.Contract) {
		return fmt.Errorf("a set of contract %s, our statement is of %s", cocoon.Address(set.Contract), own.Statement.Contract)
	}
	if err := r.log.AppendNode(r.nodeKey, cocoon.Address(set.Contract), own.Bundle); err != nil {
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

// errNoPage says that a page of the log is asked for by another name than it has.
var errNoPage = errors.New("no such page")

// page answers a page of the log. Only peers have a party.
func (r *receipts) page(party cocoon.Address, page string) (out any, err error) {
	name, query, _ := strings.Cut(page, "?")
	form, err := url.ParseQuery(query)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", errNoPage, err)
	}
	number := func(name string) uint64 {
		n, perr := strconv.ParseUint(form.Get(name), 10, 63)
		if perr != nil {
			err = fmt.Errorf("%w: %s is not a number: %q", errNoPage, name, form.Get(name))
		}
		return n
	}
	log := r.log
	switch name {
	case "head":
		id := log.ID()
		anchor, err := audit.AnchorAddress(id)
		return head{NetworkID: id.NetworkID, ContractKey: id.ContractKey, Anchor: anchor, Log: log.State(), Simulated: r.simulated}, err
	case "epochs":
		if first := number("first"); err == nil {
			return log.Epochs(uint32(min(first, math.MaxUint32)), 100), nil
		}
	case "totals":
		if epoch := number("epoch"); err == nil {
			return log.Totals(uint32(epoch))
		}
	case "sets":
		if first := number("first"); err == nil {
			return log.Sets(first, 100)
		}
	case "nodes":
		if first := number("first"); err == nil {
			return log.Nodes(first, 16)
		}
	case "leaves":
		if first := number("first"); err == nil {
			return log.Leaves(first, 1000)
		}
	case "consistency":
		if first, second := number("first"), number("second"); err == nil {
			return log.Consistency(first, second)
		}
	case "inclusion":
		var leaf receipt.Hash
		if perr := leaf.UnmarshalText([]byte(form.Get("leaf"))); perr != nil {
			return nil, fmt.Errorf("%w: leaf: %v", errNoPage, perr)
		}
		if size := number("size"); err == nil {
			return log.Find(leaf, size)
		}
	case "balance":
		if epoch := number("epoch"); err == nil && !party.IsZero() {
			return log.Balance(uint32(epoch), party)
		}
	}
	if err == nil {
		err = errNoPage
	}
	return nil, err
}

// Page implements proxy.Log.
func (r *receipts) Page(party cocoon.Address, page string) ([]byte, error) {
	out, err := r.page(party, page)
	if err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// relayAudit shows the logs of a client's proxies as they show them to it, below
// the proxy's contract key, in hex.
func relayAudit(ask func(ctx context.Context, contractKey [32]byte, page string) ([]byte, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name, page, _ := strings.Cut(strings.TrimPrefix(r.URL.RequestURI(), auditPath), "/")
		var key receipt.Hash
		if err := key.UnmarshalText([]byte(name)); err != nil {
			http.Error(w, "no contract key: "+err.Error(), http.StatusBadRequest)
			return
		}
		if strings.HasPrefix(page, "balance") { // the client's own, with its salt
			http.Error(w, errNoPage.Error(), http.StatusBadRequest)
			return
		}
		b, err := ask(r.Context(), key, page)
		var said *wire.Error
		switch {
		case errors.Is(err, role.ErrNoProxy):
			http.Error(w, err.Error(), http.StatusNotFound)
		case errors.As(err, &said):
			http.Error(w, "the proxy answers: "+said.Text, http.StatusNotFound)
		case err != nil:
			http.Error(w, "the proxy does not answer", http.StatusBadGateway)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(b)
		}
	}
}

// serveAudit answers anybody on this machine with JSON.
func (h *proxyHost) serveAudit(w http.ResponseWriter, r *http.Request) {
	if h.receipts == nil {
		http.Error(w, "this proxy keeps no receipts", http.StatusNotFound)
		return
	}
	out, err := h.receipts.page(cocoon.Address{}, strings.TrimPrefix(r.URL.RequestURI(), auditPath))
	switch {
	case errors.Is(err, errNoPage):
		http.Error(w, err.Error(), http.StatusBadRequest)
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
	endorser  ratls.Endorser // nil: evidence needs no vendor's word
	export    func(ctx context.Context, id string) ([]byte, error)
	owes      func(part, bundle []byte) // nil: no log is watched

	mu    sync.Mutex
	known []endorsed // bundles met lately
}

// endorsed is a bundle and the name of its collateral.
type endorsed struct {
	bundle []byte
	name   receipt.Hash
}

const maxEndorsed = 16

// collateral keeps what the vendor says now of a bundle's machine, and names
// it; zero where there is nothing.
func (s *receiptStore) collateral(ctx context.Context, bundle []byte) (receipt.Hash, error) {
	if s.endorser == nil || len(bundle) == 0 {
		return receipt.Hash{}, nil
	}
	s.mu.Lock()
	for _, e := range s.known {
		if bytes.Equal(e.bundle, bundle) {
			s.mu.Unlock()
			return e.name, nil
		}
	}
	s.mu.Unlock()
	b, err := statement.ParseBundle(bundle)
	if err != nil || b.Evidence.Format == attest.FormatNone {
		return receipt.Hash{}, err
	}
	end, err := s.endorser.Endorsements(ctx, b.Evidence)
	if err != nil {
		return receipt.Hash{}, err
	}
	text, err := json.Marshal(end)
	if err != nil {
		return receipt.Hash{}, err
	}
	name, err := s.PutCollateral(text)
	if err != nil {
		return receipt.Hash{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known = append(s.known, endorsed{bytes.Clone(bundle), name})
	s.known = s.known[max(0, len(s.known)-maxEndorsed):]
	return name, nil
}

// Keep implements client.ReceiptStore. A receipt is kept without collateral
// rather than not at all.
func (s *receiptStore) Keep(ctx context.Context, r client.Receipt) error {
	if s.owes != nil {
		s.owes(r.Proxy, r.ProxyBundle)
	}
	proxy, err := s.collateral(ctx, r.ProxyBundle)
	worker, err2 := s.collateral(ctx, r.WorkerBundle)
	return errors.Join(err, err2, s.Store.Keep(audit.Kept{
		RequestID: receipt.Hash(r.RequestID), Received: time.Now().UTC().Truncate(time.Second), Sealed: r.Sealed, Simulated: s.simulated,
		Worker: r.Worker, Proxy: r.Proxy, RequestSalt: receipt.Hash(r.Salts.Request), AnswerSalt: receipt.Hash(r.Salts.Answer),
		WorkerBundle: r.WorkerBundle, ProxyBundle: r.ProxyBundle, WorkerCollateral: worker, ProxyCollateral: proxy,
	}))
}

// receiptsPath is where a client shows its receipts to the person who runs it.
const receiptsPath = "/receipts/"

// exportLimit bounds one export.
const exportLimit = time.Minute

// serveReceipts answers with the newest receipts, with one by its id, or, below
// that as /file, with all that judges it.
func (s *receiptStore) serveReceipts(w http.ResponseWriter, r *http.Request) {
	var out any
	var err error
	if id, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, receiptsPath), "/file"); ok {
		ctx, stop := context.WithTimeout(r.Context(), exportLimit)
		defer stop()
		b, err := s.export(ctx, id)
		switch {
		case errors.Is(err, audit.ErrNotFound):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(b)
		}
		return
	}
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
		err := getJSON(ctx, c.Status+receiptsPath+url.PathEscape(id), &one)
		if errors.Is(err, errNotFound) {
			err = fmt.Errorf("the client of this network keeps no receipt %q: `cocoon receipt list` shows those it has", id)
		}
		return []audit.Kept{one}, err
	}
	return nil, errors.New("no client of this network shows its receipts")
}

// ExportReceipt asks the client of a running network for a receipt's file.
func ExportReceipt(ctx context.Context, s *State, id string) ([]byte, error) {
	for _, c := range s.Children {
		if c.Role != "client" || c.Status == "" {
			continue
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Status+receiptsPath+url.PathEscape(id)+"/file", nil)
		if err != nil {
			return nil, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, MaxReceiptFile+1))
		if err == nil && resp.StatusCode != http.StatusOK {
			err = errors.New(strings.TrimSpace(string(b[:min(len(b), 1024)])))
		}
		return b, err
	}
	return nil, errors.New("no client of this network shows its receipts")
}
