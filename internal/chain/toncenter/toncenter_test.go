//go:build !tee

package toncenter

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/tlb"
	v2 "github.com/xssnick/tonutils-go/toncenter"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// gateway runs a development chain with the gateway before it, and a client
// of the API that is not ours.
func gateway(t *testing.T) (*devnet.Chain, *httptest.Server, *v2.V2) {
	t.Helper()
	chain, err := devnet.Open(devnet.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx) }()
	client, err := Dial(t.Context(), chain.GlobalConfig())
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(New(Config{Chain: client, Notice: "SIMULATED"}))
	t.Cleanup(func() {
		web.Close()
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return chain, web, v2.New(web.URL, v2.WithHTTPClient(web.Client())).V2()
}

func tonAddr(a cocoon.Address) *address.Address {
	return address.NewAddress(0, byte(a.Workchain), a.Hash[:])
}

func TestForeignClient(t *testing.T) {
	chain, web, api := gateway(t)
	ctx := t.Context()
	to := cocoon.Address{Hash: [32]byte{1, 2, 3}}
	for range 2 {
		if err := chain.Faucet(ctx, to, 3*coins.PerCoin); err != nil {
			t.Fatal(err)
		}
	}

	info, err := api.GetMasterchainInfo(ctx)
	if err != nil || info.Last.Seqno < 3 || info.Last.Shard != -1<<63 || info.Init.Seqno != 0 || bytes.Equal(info.StateRootHash, make([]byte, 32)) {
		t.Fatalf("getMasterchainInfo: %+v, %v", info, err)
	}
	acc, err := api.GetAddressInformation(ctx, tonAddr(to))
	if err != nil || acc.State != "uninitialized" || acc.Balance.MustCoins(9).Nano().Int64() != 6_000_000_000 {
		t.Fatalf("getAddressInformation: %+v, %v", acc, err)
	}
	if bal, err := api.GetAddressBalance(ctx, tonAddr(to)); err != nil || bal.MustCoins(9).Nano().Int64() != 6_000_000_000 {
		t.Errorf("getAddressBalance: %+v, %v", bal, err)
	}
	faucet := tonAddr(chain.FaucetAddress())
	if state, err := api.GetAddressState(ctx, faucet); err != nil || state != "active" {
		t.Errorf("getAddressState: %q, %v", state, err)
	}
	w, err := api.GetWalletInformation(ctx, faucet)
	if err != nil || !w.IsWallet || w.Seqno != 2 {
		t.Errorf("getWalletInformation: %+v, %v", w, err)
	}

	txs, err := api.GetTransactions(ctx, tonAddr(to), nil)
	if err != nil || len(txs) != 2 {
		t.Fatalf("getTransactions: %d, %v", len(txs), err)
	}
	for _, tx := range txs {
		var parsed tlb.Transaction
		if err := tlb.Parse(&parsed, tx.Data); err != nil || parsed.LT != tx.TransactionID.LT {
			t.Errorf("transaction's data: %v", err)
		}
		if tx.InMsg == nil || tx.InMsg.Value.MustCoins(9).Nano().Int64() != 3_000_000_000 || !tx.InMsg.Source.Addr.Equals(faucet) {
			t.Errorf("inbound message: %+v", tx.InMsg)
		}
	}
	limit, lt, hash := 1, int64(txs[1].TransactionID.LT), base64.StdEncoding.EncodeToString(txs[1].TransactionID.Hash)
	older, err := api.GetTransactions(ctx, tonAddr(to), &v2.GetTransactionsV2Opts{Limit: &limit, Lt: &lt, Hash: &hash})
	if err != nil || len(older) != 1 || older[0].TransactionID.LT != txs[1].TransactionID.LT {
		t.Errorf("getTransactions from the older one: %+v, %v", older, err)
	}
	sent, err := api.GetTransactions(ctx, faucet, nil)
	if err != nil || len(sent) != 2 || len(sent[0].OutMessages) != 1 || !sent[0].OutMessages[0].Destination.Addr.Equals(tonAddr(to)) {
		t.Errorf("the faucet's transactions: %+v, %v", sent, err)
	}

	shards, err := api.GetShards(ctx, info.Last.Seqno)
	if err != nil || len(shards) != 1 || shards[0].Workchain != 0 {
		t.Fatalf("shards: %+v, %v", shards, err)
	}
	list, err := api.GetBlockTransactions(ctx, 0, shards[0].Shard, shards[0].Seqno, nil)
	if err != nil || list.Incomplete || len(list.Transactions) != 2 {
		t.Errorf("getBlockTransactions: %+v, %v", list, err)
	}
	one := 1
	list, err = api.GetBlockTransactions(ctx, 0, shards[0].Shard, shards[0].Seqno, &v2.GetBlockTransactionsV2Options{Count: &one})
	if err != nil || !list.Incomplete || len(list.Transactions) != 1 {
		t.Errorf("getBlockTransactions of one: %+v, %v", list, err)
	}
	found, err := api.LookupBlock(ctx, 0, shards[0].Shard, &v2.LookupBlockV2Options{LT: &txs[0].TransactionID.LT})
	if err != nil || found.Seqno != shards[0].Seqno {
		t.Errorf("lookupBlock by lt: %+v, %v", found, err)
	}
	if p, err := api.GetConfigParam(ctx, 19, nil); err != nil {
		t.Errorf("getConfigParam: %v", err)
	} else if id, err := p.MustBeginParse().LoadInt(32); err != nil || int32(id) != chain.GlobalID() {
		t.Errorf("global id %d, %v", id, err)
	}

	res, err := api.RunGetMethod(ctx, faucet, "seqno", nil, nil)
	if err != nil || res.ExitCode != 0 || len(res.Stack) != 1 || res.Stack[0].(*big.Int).Int64() != 2 {
		t.Errorf("runGetMethod: %+v, %v", res, err)
	}
	if res, err = api.RunGetMethod(ctx, faucet, "nothing_of_the_kind", nil, nil); err != nil || res.ExitCode != 11 {
		t.Errorf("runGetMethod without such a method: %+v, %v", res, err)
	}
	if err := api.SendBoc(ctx, cell.BeginCell().EndCell().ToBOC()); err == nil {
		t.Error("an empty message was sent")
	}

	resp, err := web.Client().Get(web.URL + "/api/v2/getMasterchainInfo")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("Cocoon-Notice") != "SIMULATED" || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("headers: %v", resp.Header)
	}
}

// call posts a JSON-RPC call and returns its answer.
func call(t *testing.T, web *httptest.Server, method string, params any) (status int, answer map[string]any) {
	t.Helper()
	b, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": "7", "method": method, "params": params})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := web.Client().Post(web.URL+"/api/v2/jsonRPC", "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

func TestJSONRPC(t *testing.T) {
	chain, web, _ := gateway(t)
	status, a := call(t, web, "getAddressState", object{"address": chain.FaucetAddress().String()})
	if status != 200 || a["ok"] != true || a["result"] != "active" || a["id"] != "7" || a["jsonrpc"] != "2.0" {
		t.Errorf("getAddressState: %d %v", status, a)
	}
	status, a = call(t, web, "runGetMethod", object{"address": chain.FaucetAddress().String(), "method": methodID("seqno"), "stack": []any{}})
	if status != 200 || fmt.Sprint(a["result"].(map[string]any)["stack"]) != "[[num 0x0]]" {
		t.Errorf("runGetMethod: %d %v", status, a)
	}
	addr := chain.FaucetAddress()
	if _, a = call(t, web, "unpackAddress", object{"address": addr.String()}); a["result"] != addr.Raw() {
		t.Errorf("unpackAddress: %v", a)
	}
	if _, a = call(t, web, "packAddress", object{"address": addr.Raw()}); a["result"] != addr.Friendly(true, false) {
		t.Errorf("packAddress: %v", a)
	}
	if _, a = call(t, web, "detectAddress", object{"address": addr.Raw()}); a["result"].(map[string]any)["raw_form"] != addr.Raw() {
		t.Errorf("detectAddress: %v", a)
	}
}

func TestMistakesAreTold(t *testing.T) {
	chain, web, _ := gateway(t)
	addr := chain.FaucetAddress().String()
	for name, c := range map[string]struct {
		method string
		params object
		status int
	}{
		"no such method":     {"getEverything", nil, 422},
		"no address":         {"getAddressBalance", nil, 422},
		"no block":           {"lookupBlock", object{"workchain": -1, "shard": "-9223372036854775808"}, 422},
		"a block to come":    {"lookupBlock", object{"workchain": -1, "shard": "-9223372036854775808", "seqno": 1 << 30}, 404},
		"not a number":       {"getTransactions", object{"address": addr, "limit": "many"}, 422},
		"lt without a hash":  {"getTransactions", object{"address": addr, "lt": 5}, 422},
		"an unknown lt":      {"getTransactions", object{"address": addr, "lt": 5, "hash": strings.Repeat("00", 32)}, 404},
		"not a bag of cells": {"sendBoc", object{"boc": "%%%"}, 422},
		"an unwanted one":    {"sendBoc", object{"boc": base64.StdEncoding.EncodeToString([]byte("hello"))}, 500},
		"a strange stack":    {"runGetMethod", object{"address": addr, "method": "seqno", "stack": []any{[]any{"continuation", 1}}}, 422},
		"no parameter":       {"getConfigParam", object{"config_id": 99}, 404},
	} {
		t.Run(name, func(t *testing.T) {
			status, a := call(t, web, c.method, c.params)
			if status != c.status || a["ok"] != false || a["error"] == "" || int(a["code"].(float64)) != status {
				t.Errorf("%d %v, want %d", status, a, c.status)
			}
		})
	}
	resp, err := web.Client().Post(web.URL+"/api/v2/sendBoc", "application/json", io.LimitReader(zeros{}, maxBody+10))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("a huge body: %s", resp.Status)
	}
	if resp, err = web.Client().Get(web.URL + "/"); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("another page: %s", resp.Status)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestStackForms(t *testing.T) {
	c := Cell(cell.BeginCell().MustStoreUInt(5, 8).EndCell().ToBOC())
	stack := []any{big.NewInt(42), big.NewInt(-255), c, Slice(c), nil, []any{big.NewInt(1), c, nil, []any{}}}
	b, err := json.Marshal(stackForm(stack))
	if err != nil {
		t.Fatal(err)
	}
	s := base64.StdEncoding.EncodeToString(c)
	for _, want := range []string{
		`["num","0x2a"]`, `["num","-0xff"]`, `["cell",{"bytes":"` + s + `"}]`, `["slice",{"bytes":"` + s + `"}]`,
		`"@type":"tvm.stackEntryNumber","number":{"@type":"tvm.numberDecimal","number":"1"}`, `"@type":"tvm.stackEntryCell"`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %s", b, want)
		}
	}
	got, err := parseStack([]any{[]any{"num", "0x2a"}, []any{"num", "-0xff"}, []any{"tvm.Cell", s}, []any{"slice", map[string]any{"bytes": s}},
		[]any{"null"}, []any{"tuple", []any{[]any{"num", "1"}, []any{"cell", s}, []any{"null"}, []any{"tuple", []any{}}}}})
	if err != nil || !reflect.DeepEqual(got, stack) {
		t.Errorf("parsed %v, %v", got, err)
	}
}

// FuzzParams reads what a caller can post; what is read as a stack can be
// written.
func FuzzParams(f *testing.F) {
	f.Add(`[["num","0x1"],["tuple",[["null"],["num","-5"]]]]`)
	f.Add(`[["cell","te6ccgEBAQEAAgAAAA=="]]`)
	f.Add(`{"method":1}`)
	f.Fuzz(func(t *testing.T, s string) {
		var list []any
		if json.Unmarshal([]byte(s), &list) != nil {
			return
		}
		stack, err := parseStack(list)
		if err != nil {
			return
		}
		if _, err := json.Marshal(stackForm(stack)); err != nil {
			t.Fatal(err)
		}
		parseHash(s)
	})
}
