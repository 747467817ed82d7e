//go:build !tee

package toncenter

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
)

const (
	maxBody         = 256 << 10
	maxTransactions = 256
	defaultCount    = 40
	queryTime       = 15 * time.Second
	maxAtOnce       = 64
)

// Config says what a Handler serves.
type Config struct {
	// Chain is asked for everything.
	Chain Chain
	// Notice is sent in the header Cocoon-Notice of every answer, as
	// "SIMULATED" on a development chain; empty sends none.
	Notice string
	// Logger gets failures; nil discards them.
	Logger *slog.Logger
}

// Handler serves the API below /api/v2/: every method by GET, by POST with a
// JSON object, and as JSON-RPC at /api/v2/jsonRPC. Any web page may read it:
// it has nothing that the chain does not show everybody.
type Handler struct {
	cfg   Config
	slots chan struct{}
}

// New returns a Handler.
func New(cfg Config) *Handler {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Handler{cfg: cfg, slots: make(chan struct{}, maxAtOnce)}
}

// params are the arguments of a call, from the query or a JSON object.
type params map[string]any

// badRequest is a mistake of the caller.
type badRequest struct{ error }

func bad(format string, args ...any) error { return badRequest{fmt.Errorf(format, args...)} }

var methods = map[string]func(*Handler, context.Context, params) (any, error){
	"getMasterchainInfo":    (*Handler).masterchainInfo,
	"getConsensusBlock":     (*Handler).consensusBlock,
	"getAddressInformation": (*Handler).addressInformation,
	"getAddressBalance":     (*Handler).addressBalance,
	"getAddressState":       (*Handler).addressState,
	"getWalletInformation":  (*Handler).walletInformation,
	"getTransactions":       (*Handler).transactions,
	"getBlockTransactions":  (*Handler).blockTransactions,
	"shards":                (*Handler).shards,
	"lookupBlock":           (*Handler).lookupBlock,
	"getConfigParam":        (*Handler).configParam,
	"runGetMethod":          (*Handler).runGetMethod,
	"sendBoc":               (*Handler).sendBoc,
	"sendBocReturnHash":     (*Handler).sendBocReturnHash,
	"detectAddress":         (*Handler).detectAddress,
	"packAddress":           (*Handler).packAddress,
	"unpackAddress":         (*Handler).unpackAddress,
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Access-Control-Allow-Origin", "*")
	head.Set("Access-Control-Allow-Headers", "Content-Type, X-API-Key")
	head.Set("X-Content-Type-Options", "nosniff")
	if h.cfg.Notice != "" {
		head.Set("Cocoon-Notice", h.cfg.Notice)
	}
	if r.Method == http.MethodOptions {
		head.Set("Access-Control-Allow-Methods", "GET, POST, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/api/v2/")
	if !ok || r.Method != http.MethodGet && r.Method != http.MethodPost {
		reply(w, http.StatusNotFound, object{"ok": false, "error": "no such page; methods are at /api/v2/METHOD", "code": http.StatusNotFound})
		return
	}
	p, err := readParams(w, r)
	if name != "jsonRPC" {
		res, err := h.call(r.Context(), name, p, err)
		status, body := h.envelope(name, res, err)
		reply(w, status, body)
		return
	}
	inner, _ := p["params"].(map[string]any)
	method, _ := p["method"].(string)
	res, err := h.call(r.Context(), method, inner, err)
	status, body := h.envelope(method, res, err)
	body["id"], body["jsonrpc"] = p["id"], "2.0"
	reply(w, status, body)
}

func readParams(w http.ResponseWriter, r *http.Request) (params, error) {
	p := params{}
	for k, v := range r.URL.Query() {
		p[k] = v[0]
	}
	if r.Method != http.MethodPost {
		return p, nil
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.UseNumber()
	if err := d.Decode(&p); err != nil && !errors.Is(err, io.EOF) {
		return p, bad("the body is not a JSON object: %v", err)
	}
	return p, nil
}

func (h *Handler) call(ctx context.Context, name string, p params, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	m, ok := methods[name]
	if !ok {
		return nil, bad("method %q is not known", name)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTime)
	defer cancel()
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return m(h, ctx, p)
}

// envelope wraps a result or an error as the API does.
func (h *Handler) envelope(method string, res any, err error) (int, object) {
	if err == nil {
		return http.StatusOK, object{"ok": true, "result": res}
	}
	status := http.StatusInternalServerError
	var wrong badRequest
	switch {
	case errors.As(err, &wrong):
		status = http.StatusUnprocessableEntity
	case errors.Is(err, ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, ErrNotAccepted):
	case errors.Is(err, context.DeadlineExceeded):
		status = http.StatusGatewayTimeout
	default:
		h.cfg.Logger.Warn("toncenter call failed", "method", method, "error", err)
	}
	return status, object{"ok": false, "error": err.Error(), "code": status}
}

func reply(w http.ResponseWriter, status int, body object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // the client is gone if this fails
}

func (p params) text(name string) string {
	switch v := p[name].(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	return ""
}

func (p params) address() (cocoon.Address, error) {
	a, err := cocoon.ParseAddress(p.text("address"))
	if err != nil {
		return a, bad("address: %v", err)
	}
	return a, nil
}

// number reads an integer; without one it is def.
func (p params) number(name string, def int64) (int64, error) {
	s := p.text(name)
	if s == "" {
		return def, nil
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		// Shards and logical times come as unsigned numbers too.
		u, e := strconv.ParseUint(s, 10, 64)
		if e != nil {
			return 0, bad("%s: %q is not an integer", name, s)
		}
		v = int64(u)
	}
	return v, nil
}

// masterBlock is the masterchain block a call is about: seqno, or the head.
func (h *Handler) masterBlock(ctx context.Context, p params, field string) (Block, error) {
	seqno, err := p.number(field, 0)
	if err != nil || seqno < 0 || seqno > math.MaxUint32 {
		return Block{}, bad("%s is not a block's number", field)
	}
	if seqno == 0 {
		return h.cfg.Chain.Head(ctx)
	}
	return h.cfg.Chain.Lookup(ctx, -1, math.MinInt64, uint32(seqno), 0, time.Time{})
}

func (h *Handler) account(ctx context.Context, p params) (cocoon.Address, Block, Account, error) {
	a, err := p.address()
	if err != nil {
		return a, Block{}, Account{}, err
	}
	b, err := h.masterBlock(ctx, p, "seqno")
	if err != nil {
		return a, b, Account{}, err
	}
	acc, err := h.cfg.Chain.Account(ctx, b, a)
	return a, b, acc, err
}

func (h *Handler) masterchainInfo(ctx context.Context, _ params) (any, error) {
	b, err := h.cfg.Chain.Head(ctx)
	if err != nil {
		return nil, err
	}
	state, err := h.cfg.Chain.StateHash(ctx, b)
	if err != nil {
		return nil, err
	}
	return object{
		"@type": "blocks.masterchainInfo", "last": b.form(), "state_root_hash": b64(state[:]), "init": h.cfg.Chain.Init().form(),
	}, nil
}

func (h *Handler) consensusBlock(ctx context.Context, _ params) (any, error) {
	b, err := h.cfg.Chain.Head(ctx)
	if err != nil {
		return nil, err
	}
	return object{"consensus_block": b.Seqno, "timestamp": float64(time.Now().UnixMilli()) / 1000}, nil
}

func (h *Handler) addressInformation(ctx context.Context, p params) (any, error) {
	_, b, acc, err := h.account(ctx, p)
	if err != nil {
		return nil, err
	}
	out := acc.form(b)
	out["sync_utime"] = time.Now().Unix()
	return out, nil
}

func (h *Handler) addressBalance(ctx context.Context, p params) (any, error) {
	_, _, acc, err := h.account(ctx, p)
	return amount(acc.Balance), err
}

func (h *Handler) addressState(ctx context.Context, p params) (any, error) {
	_, _, acc, err := h.account(ctx, p)
	return acc.State, err
}

// walletInformation tells a wallet by its get-method seqno.
func (h *Handler) walletInformation(ctx context.Context, p params) (any, error) {
	a, b, acc, err := h.account(ctx, p)
	if err != nil {
		return nil, err
	}
	out := object{
		"@type": "ext.accounts.info", "wallet": false, "balance": amount(acc.Balance), "account_state": acc.State,
		"last_transaction_id": acc.Last.form(),
	}
	if acc.State != "active" {
		return out, nil
	}
	stack, code, err := h.cfg.Chain.RunMethod(ctx, b, a, methodID("seqno"), nil)
	if err != nil {
		return nil, err
	}
	if code <= 1 && code >= 0 && len(stack) == 1 {
		out["wallet"], out["seqno"] = true, stack[0]
	}
	return out, nil
}

func (h *Handler) transactions(ctx context.Context, p params) (any, error) {
	a, _, acc, err := h.account(ctx, p)
	if err != nil {
		return nil, err
	}
	limit, err := p.number("limit", 10)
	if err != nil || limit < 0 {
		return nil, bad("limit is not a number of transactions")
	}
	from := acc.Last
	lt, err := p.number("lt", 0)
	if err != nil {
		return nil, err
	}
	if lt != 0 {
		from.LT = uint64(lt)
		if from.Hash, err = parseHash(p.text("hash")); err != nil {
			return nil, bad("hash: %v", err)
		}
	}
	until, err := p.number("to_lt", 0)
	if err != nil {
		return nil, err
	}
	out := []any{}
	if from.LT == 0 {
		return out, nil
	}
	list, err := h.cfg.Chain.Transactions(ctx, a, from, int(min(limit, maxTransactions)))
	if err != nil {
		return nil, err
	}
	for _, t := range list {
		if t.ID.LT <= uint64(until) {
			break
		}
		out = append(out, t.form(a))
	}
	return out, nil
}

// block is the block a call names by workchain, shard and one of seqno, lt
// and unixtime.
func (h *Handler) block(ctx context.Context, p params) (Block, error) {
	var n [5]int64
	for i, field := range []string{"workchain", "shard", "seqno", "lt", "unixtime"} {
		v, err := p.number(field, 0)
		if err != nil {
			return Block{}, err
		}
		n[i] = v
	}
	if n[0] != int64(int32(n[0])) || n[2] < 0 || n[2] > math.MaxUint32 || n[4] < 0 || n[2] == 0 && n[3] == 0 && n[4] == 0 {
		return Block{}, bad("a block is named by workchain, shard and one of seqno, lt, unixtime")
	}
	return h.cfg.Chain.Lookup(ctx, int32(n[0]), n[1], uint32(n[2]), uint64(n[3]), time.Unix(n[4], 0))
}

func (h *Handler) lookupBlock(ctx context.Context, p params) (any, error) {
	b, err := h.block(ctx, p)
	return b.form(), err
}

func (h *Handler) shards(ctx context.Context, p params) (any, error) {
	b, err := h.masterBlock(ctx, p, "seqno")
	if err != nil {
		return nil, err
	}
	list, err := h.cfg.Chain.Shards(ctx, b)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, s := range list {
		out = append(out, s.form())
	}
	return object{"@type": "blocks.shards", "shards": out}, nil
}

func (h *Handler) blockTransactions(ctx context.Context, p params) (any, error) {
	b, err := h.block(ctx, p)
	if err != nil {
		return nil, err
	}
	count, err := p.number("count", defaultCount)
	if err != nil || count < 1 {
		return nil, bad("count is not a number of transactions")
	}
	var after *TransactionID
	if s := p.text("after_hash"); s != "" {
		lt, err := p.number("after_lt", 0)
		if err != nil {
			return nil, err
		}
		account, err := parseHash(s)
		if err != nil {
			return nil, bad("after_hash: %v", err)
		}
		after = &TransactionID{Account: account, LT: uint64(lt)}
	}
	list, more, err := h.cfg.Chain.BlockTransactions(ctx, b, after, int(min(count, maxTransactions)))
	if err != nil {
		return nil, err
	}
	out := []any{}
	for _, t := range list {
		a := cocoon.Address{Workchain: b.Workchain, Hash: t.Account}
		out = append(out, object{
			"@type": "blocks.shortTxId", "mode": 135, "account": a.Raw(), "lt": strconv.FormatUint(t.LT, 10), "hash": b64(t.Hash[:]),
		})
	}
	return object{"@type": "blocks.transactions", "id": b.form(), "req_count": count, "incomplete": more, "transactions": out}, nil
}

func (h *Handler) configParam(ctx context.Context, p params) (any, error) {
	id, err := p.number("config_id", math.MaxInt64)
	if err == nil && id == math.MaxInt64 {
		id, err = p.number("param", math.MaxInt64)
	}
	if err != nil || id != int64(int32(id)) {
		return nil, bad("config_id is not a parameter's number")
	}
	b, err := h.masterBlock(ctx, p, "seqno")
	if err != nil {
		return nil, err
	}
	boc, err := h.cfg.Chain.Config(ctx, b, int32(id))
	if err != nil {
		return nil, err
	}
	return object{"@type": "configInfo", "config": object{"@type": "tvm.cell", "bytes": b64(boc)}}, nil
}

func (h *Handler) runGetMethod(ctx context.Context, p params) (any, error) {
	a, b, acc, err := h.account(ctx, p)
	if err != nil {
		return nil, err
	}
	var method uint64
	switch v := p["method"].(type) {
	case string:
		method = methodID(v)
	case json.Number:
		if method, err = strconv.ParseUint(v.String(), 10, 32); err != nil {
			return nil, bad("method: %v", err)
		}
	default:
		return nil, bad("method is a get-method's name or number")
	}
	list, _ := p["stack"].([]any)
	args, err := parseStack(list)
	if err != nil {
		return nil, bad("stack: %v", err)
	}
	stack, code, err := h.cfg.Chain.RunMethod(ctx, b, a, method, args)
	if err != nil {
		return nil, err
	}
	// The liteserver protocol does not say how much gas was used, but readers
	// want a number.
	return object{
		"@type": "smc.runResult", "gas_used": 0, "stack": stackForm(stack), "exit_code": code,
		"block_id": b.form(), "last_transaction_id": acc.Last.form(),
	}, nil
}

// methodID is the number of a get-method's name: CRC-16/XMODEM with a bit set.
func methodID(name string) uint64 {
	var crc uint16
	for i := range len(name) {
		crc ^= uint16(name[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return uint64(crc) | 0x10000
}

func (h *Handler) send(ctx context.Context, p params) ([]byte, error) {
	b, err := base64.StdEncoding.DecodeString(p.text("boc"))
	if err != nil || len(b) == 0 {
		return nil, bad("boc is a bag of cells in base64")
	}
	return b, h.cfg.Chain.Send(ctx, b)
}

func (h *Handler) sendBoc(ctx context.Context, p params) (any, error) {
	_, err := h.send(ctx, p)
	return object{"@type": "ok"}, err
}

func (h *Handler) sendBocReturnHash(ctx context.Context, p params) (any, error) {
	b, err := h.send(ctx, p)
	if err != nil {
		return nil, err
	}
	hash, err := rootHash(b)
	if err != nil {
		return nil, bad("boc: %v", err)
	}
	return object{"@type": "raw.extMessageInfo", "hash": b64(hash)}, nil
}

func (h *Handler) detectAddress(_ context.Context, p params) (any, error) {
	a, err := p.address()
	if err != nil {
		return nil, err
	}
	form := func(bounceable bool) object {
		s := a.Friendly(bounceable, false)
		return object{"b64": strings.NewReplacer("-", "+", "_", "/").Replace(s), "b64url": s}
	}
	return object{
		"raw_form": a.Raw(), "bounceable": form(true), "non_bounceable": form(false),
		"given_type": givenType(p.text("address")), "test_only": false,
	}, nil
}

func givenType(s string) string {
	if strings.Contains(s, ":") {
		return "raw_form"
	}
	return "friendly"
}

func (h *Handler) packAddress(_ context.Context, p params) (any, error) {
	a, err := p.address()
	return a.Friendly(true, false), err
}

func (h *Handler) unpackAddress(_ context.Context, p params) (any, error) {
	a, err := p.address()
	return a.Raw(), err
}
