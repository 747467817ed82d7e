package chain

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/address"
	"github.com/xssnick/tonutils-go/liteclient"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	tonwallet "github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// reference is the emulator of the reference node as a process.
type reference struct {
	in  *json.Encoder
	out *json.Decoder
}

type emulation struct {
	Success      bool   `json:"success"`
	Error        string `json:"error"`
	Transaction  string `json:"transaction"`
	ShardAccount string `json:"shard_account"`
}

// startReference builds and starts the emulator. The test is skipped if that
// cannot be: the library is there for few platforms and needs a C compiler,
// so it is not among what COCOON_REQUIRE requires. Once the emulator has
// taken the chain's configuration, every difference is a failure.
func startReference(t *testing.T, config, libs *cell.Cell) *reference {
	t.Helper()
	skip := func(why string, out []byte) {
		t.Helper()
		t.Skipf("no reference emulator: %s %s", why, strings.TrimSpace(string(out)))
	}
	name, ok := map[string]string{"linux/amd64": "linux/libemulator.so", "darwin/arm64": "darwin/libemulator.dylib", "darwin/amd64": "darwin/libemulator.dylib"}[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		skip("tongo has no library for "+runtime.GOOS+"/"+runtime.GOARCH, nil)
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tonkeeper/tongo").Output()
	if err != nil {
		skip("tongo is not found: "+err.Error(), nil)
	}
	library := filepath.Join(strings.TrimSpace(string(out)), "lib", filepath.FromSlash(name))
	if _, err := os.Stat(library); err != nil {
		skip(err.Error(), nil)
	}
	dir := filepath.Dir(library)
	program := filepath.Join(t.TempDir(), "emulator")
	build := exec.Command("go", "build", "-tags", "emulator", "-o", program, "./emulator")
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "CGO_LDFLAGS=-L"+dir+" -Wl,-rpath,"+dir)
	if out, err := build.CombinedOutput(); err != nil {
		skip("it cannot be built here (is there a C compiler?): "+err.Error(), out)
	}
	cmd := exec.CommandContext(t.Context(), program)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+dir, "DYLD_LIBRARY_PATH="+dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		skip(err.Error(), nil)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	r := &reference{json.NewEncoder(stdin), json.NewDecoder(stdout)}
	r.in.Encode(map[string]any{"Config": base64.StdEncoding.EncodeToString(config.ToBOC()), "Libs": base64.StdEncoding.EncodeToString(libs.ToBOC())})
	var ready string
	if err := r.out.Decode(&ready); err == io.EOF {
		cmd.Wait()
		skip("it does not start:", []byte(stderr.String()))
	} else if err != nil || ready != "ready" {
		t.Fatalf("the emulator says %q, %v", ready, err)
	}
	return r
}

// run executes a message and returns the transaction and the account after
// it.
func (r *reference) run(t *testing.T, account, message *cell.Cell, tx *tlb.Transaction, seed []byte) (transaction, after *cell.Cell) {
	t.Helper()
	encode := func(c *cell.Cell) string { return base64.StdEncoding.EncodeToString(c.ToBOC()) }
	if err := r.in.Encode(map[string]any{
		"Account": encode(account), "Message": encode(message), "Seed": hex.EncodeToString(seed), "Time": tx.Now, "LT": tx.LT,
	}); err != nil {
		t.Fatal(err)
	}
	var res emulation
	if err := r.out.Decode(&res); err != nil {
		t.Fatal(err)
	}
	if !res.Success {
		t.Fatalf("account %x, transaction %d: the emulator refuses: %s", tx.AccountAddr, tx.LT, res.Error)
	}
	decode := func(s string) *cell.Cell {
		t.Helper()
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		c, err := cell.FromBOC(b)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	return decode(res.Transaction), decode(res.ShardAccount)
}

// TestReferenceEmulator throws random messages at a chain and lets the
// reference emulator run every transaction again: the hashes of transactions
// and of accounts must be equal.
func TestReferenceEmulator(t *testing.T) {
	boc, err := os.ReadFile("../../internal/chain/devnet/testdata/probe.boc")
	if err != nil {
		t.Fatal(err)
	}
	code, err := cell.FromBOC(boc)
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	cfg := devnet.Config{
		Dir: t.TempDir(), Idle: time.Hour, KeepStates: 1 << 16, KeepBlocks: 1 << 16,
		Balances: map[cocoon.Address]coins.Nano{}, Libraries: [][]byte{boc},
	}
	type sender struct {
		*tonwallet.Wallet
		seqno uint32
	}
	var senders []*sender
	for i := range 16 {
		seed := sha256.Sum256([]byte{byte(i)})
		w, err := tonwallet.FromPrivateKey(nil, ed25519.NewKeyFromSeed(seed[:]), tonwallet.ConfigV5R1Final{NetworkGlobalID: devnet.DefaultGlobalID})
		if err != nil {
			t.Fatal(err)
		}
		s := &sender{Wallet: w}
		spec := w.GetSpec().(*tonwallet.SpecV5R1Final)
		spec.SetSeqnoFetcher(func(context.Context, uint32) (uint32, error) { return s.seqno, nil })
		spec.SetMessagesTTL(90 * 24 * 3600) // the chain's clock goes ahead
		senders = append(senders, s)
		cfg.Balances[cocoon.Address{Hash: [32]byte(w.Address().Data())}] = 10_000 * coins.PerCoin
	}
	chain, err := devnet.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()

	// Contracts, some of whose code is a library.
	library := cell.BeginCell().MustStoreUInt(2, 8).MustStoreSlice(code.Hash(), 256).EndCell()
	lib, err := cell.FromBOC(append([]byte{0xb5, 0xee, 0x9c, 0x72, 1, 1, 1, 1, 0, 35, 0, 0x08, 66}, library.MustBeginParse().MustLoadSlice(264)...))
	if err != nil {
		t.Fatal(err)
	}
	var inits []*tlb.StateInit
	for i := range 10 {
		init := &tlb.StateInit{Code: code, Data: cell.BeginCell().MustStoreUInt(uint64(i), 64).MustStoreUInt(0, 32).EndCell()}
		if i%3 == 0 {
			init.Code = lib
		}
		inits = append(inits, init)
	}
	target := func() *address.Address {
		switch rnd.IntN(6) {
		case 0:
			return address.NewAddress(0, 0, append(make([]byte, 31), byte(rnd.IntN(256))))
		case 1:
			return senders[rnd.IntN(len(senders))].Address()
		}
		return inits[rnd.IntN(len(inits))].CalcAddress(0)
	}
	random := func() *tonwallet.Message {
		to, body := target(), cell.BeginCell()
		var init *tlb.StateInit
		switch rnd.IntN(7) {
		case 0:
			init = inits[rnd.IntN(len(inits))]
			to = init.CalcAddress(0)
		case 1:
			body.MustStoreUInt(1, 32).MustStoreUInt(uint64(rnd.IntN(100)), 32)
		case 2:
			body.MustStoreUInt(2, 32).MustStoreAddr(target()).MustStoreUInt(uint64(rnd.IntN(100)), 32)
		case 3:
			body.MustStoreUInt(3, 32)
		case 4:
			body.MustStoreUInt(4, 32).MustStoreUInt(uint64(rnd.IntN(6)), 32)
		case 5:
			body.MustStoreUInt(rnd.Uint64(), 64)
		}
		nano := []int64{0, 1, 5_000_000, 100_000_000, 3_000_000_000, 60_000_000_000_000}[rnd.IntN(6)]
		return &tonwallet.Message{Mode: tonwallet.PayGasSeparately + tonwallet.IgnoreErrors, InternalMessage: &tlb.InternalMessage{
			IHRDisabled: true, Bounce: rnd.IntN(2) == 0, DstAddr: to, Amount: tlb.FromNanoTON(big.NewInt(nano)), StateInit: init, Body: body.EndCell(),
		}}
	}
	for range 30 {
		for _, s := range senders {
			msgs := make([]*tonwallet.Message, 1+rnd.IntN(4))
			for i := range msgs {
				msgs[i] = random()
			}
			ext, err := s.PrepareExternalMessageForMany(ctx, s.seqno == 0, msgs)
			if err != nil {
				t.Fatal(err)
			}
			c, err := tlb.ToCell(ext)
			if err != nil {
				t.Fatal(err)
			}
			if err := chain.SendExternal(c.ToBOC()); err != nil {
				t.Fatal(err)
			}
			s.seqno++
		}
		for range 8 { // whatever hops there are
			if err := chain.Mine(); err != nil {
				t.Fatal(err)
			}
		}
		if err := chain.Advance(time.Duration(rnd.IntN(40)) * time.Hour); err != nil {
			t.Fatal(err)
		}
	}

	var global liteclient.GlobalConfig
	if err := json.Unmarshal(chain.GlobalConfig(), &global); err != nil {
		t.Fatal(err)
	}
	pool := liteclient.NewConnectionPool()
	defer pool.Stop()
	if err := pool.AddConnectionsFromConfig(ctx, &global); err != nil {
		t.Fatal(err)
	}
	api := ton.NewAPIClient(pool, ton.ProofCheckPolicyUnsafe)
	head, err := api.GetMasterchainInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	master := stateOf(t, pool, head)
	var extra tlb.McStateExtra
	if err := tlb.Parse(&extra, master.McStateExtra); err != nil {
		t.Fatal(err)
	}
	stats := master.Stats.MustBeginParse()
	stats.MustLoadSlice(128)
	for range 2 { // balances
		stats.MustLoadBigCoins()
		stats.MustLoadMaybeRef()
	}
	libs, err := stats.MustLoadMaybeRef().ToCell()
	if err != nil {
		t.Fatal(err)
	}
	emulator := startReference(t, extra.ConfigParams.Config.Params.AsCell(), libs)

	top, err := api.GetBlockShardsInfo(ctx, head)
	if err != nil || len(top) != 1 {
		t.Fatalf("shards %v, %v", top, err)
	}
	transactions, accounts := 0, 0
	for id := top[0]; id.SeqNo > 0; {
		block, err := api.GetBlockData(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		prev := block.BlockInfo.PrevRef.Prev1
		before := &ton.BlockIDExt{Workchain: 0, Shard: id.Shard, SeqNo: prev.SeqNo, RootHash: prev.RootHash, FileHash: prev.FileHash}
		txs, accs := emulator.check(t, block, stateOf(t, pool, before), stateOf(t, pool, id))
		transactions, accounts, id = transactions+txs, accounts+accs, before
	}
	if transactions < 1000 {
		t.Errorf("only %d transactions: too few to mean much", transactions)
	}
	t.Logf("%d transactions and %d accounts are the same", transactions, accounts)
}

// check runs a block's transactions again.
func (r *reference) check(t *testing.T, block *tlb.Block, before, after *tlb.ShardStateUnsplit) (transactions, accounts int) {
	t.Helper()
	var blocks tlb.ShardAccountBlocks
	if err := tlb.Parse(&blocks, block.Extra.ShardAccountBlocks); err != nil {
		t.Fatal(err)
	}
	items, err := blocks.Accounts.RangeExtra(false, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		var ab tlb.AccountBlock
		if err := tlb.LoadFromCell(&ab, item.Value); err != nil {
			t.Fatal(err)
		}
		list, err := ab.Transactions.RangeExtra(false, false)
		if err != nil {
			t.Fatal(err)
		}
		type executed struct {
			tlb.Transaction
			root *cell.Cell
		}
		var txs []executed
		for _, kv := range list {
			root, err := kv.Value.LoadRefCell()
			if err != nil {
				t.Fatal(err)
			}
			tx := executed{root: root}
			if err := tlb.Parse(&tx.Transaction, root); err != nil {
				t.Fatal(err)
			}
			txs = append(txs, tx)
		}
		slices.SortFunc(txs, func(a, b executed) int { return int(int64(a.LT) - int64(b.LT)) })
		account := accountIn(t, before, ab.Addr)
		for _, tx := range txs {
			message := tx.root.MustPeekRef(0).MustPeekRef(0)
			var got *cell.Cell
			got, account = r.run(t, account, message, &tx.Transaction, block.Extra.RandSeed)
			if got.HashKey() != tx.root.HashKey() {
				t.Errorf("account %x, transaction %d: the chain has %x, the emulator %x:\n%s\n%s", ab.Addr, tx.LT, tx.root.Hash(), got.Hash(), tx.root.Dump(), got.Dump())
			}
			transactions++
		}
		want := accountIn(t, after, ab.Addr)
		if got := account.MustPeekRef(0); got.HashKey() != want.MustPeekRef(0).HashKey() {
			t.Errorf("account %x: the chain has the state %x, the emulator %x", ab.Addr, want.MustPeekRef(0).Hash(), got.Hash())
		}
		accounts++
	}
	return transactions, accounts
}

// stateOf returns the state after a block.
func stateOf(t *testing.T, pool *liteclient.ConnectionPool, id *ton.BlockIDExt) *tlb.ShardStateUnsplit {
	t.Helper()
	var answer any
	if err := pool.QueryLiteserver(t.Context(), ton.GetState{ID: id}, &answer); err != nil {
		t.Fatal(err)
	}
	full, ok := answer.(ton.BlockState)
	if !ok {
		t.Fatal(fmt.Errorf("state of block %d: %v", id.SeqNo, answer))
	}
	root, err := cell.FromBOC(full.Data)
	if err != nil {
		t.Fatal(err)
	}
	var state tlb.ShardStateUnsplit
	if err := tlb.Parse(&state, root); err != nil {
		t.Fatal(err)
	}
	return &state
}

// accountIn returns an account's ShardAccount cell, of one that does not exist
// too.
func accountIn(t *testing.T, state *tlb.ShardStateUnsplit, addr []byte) *cell.Cell {
	t.Helper()
	v, err := state.Accounts.ShardAccounts.LoadValue(cell.BeginCell().MustStoreSlice(addr, 256).EndCell())
	if err == nil {
		c, err := v.ToCell()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	none := cell.BeginCell().MustStoreBoolBit(false).EndCell()
	return cell.BeginCell().MustStoreRef(none).MustStoreSlice(make([]byte, 32), 256).MustStoreUInt(0, 64).EndCell()
}
