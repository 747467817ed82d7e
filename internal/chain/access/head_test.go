//go:build !tee

package access

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
)

// waitSeqno waits for the chain itself to reach a block.
func waitSeqno(t *testing.T, chain *devnet.Chain, seqno uint32) {
	t.Helper()
	for chain.Head().Seqno < seqno {
		time.Sleep(5 * time.Millisecond)
	}
}

// frozen is a twist that always gives the head it gave first.
func frozen() twist {
	var first atomic.Pointer[ton.MasterchainInfo]
	return on(func(i ton.MasterchainInfo) tl.Serializable {
		first.CompareAndSwap(nil, &i)
		return *first.Load()
	})
}

// TestFrozenHead lets a server stop at a block: alone it is refused once the
// block is too old; beside one that goes on it is left out.
func TestFrozenHead(t *testing.T) {
	var ahead atomic.Int64
	chain := startChain(t, func(cfg *devnet.Config) {
		cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	l := startLiar(t, chain, frozen())
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	alone := open(t, Config{GlobalConfig: chain.GlobalConfig(), Servers: []Server{l.Server}, Now: now})
	var log logBuffer
	both := open(t, Config{GlobalConfig: chain.GlobalConfig(), Servers: []Server{l.Server, honest(t, chain)}, Now: now, Logger: slog.New(slog.NewTextHandler(&log, nil))})

	ahead.Store(int64(2 * time.Minute))
	waitSeqno(t, chain, chain.Head().Seqno+3)

	if _, err := alone.Head(t.Context()); !errors.Is(err, ErrStale) {
		t.Errorf("alone: %v, want %v", err, ErrStale)
	}
	if _, err := alone.Account(t.Context(), chain.FaucetAddress()); !errors.Is(err, ErrStale) {
		t.Errorf("account alone: %v, want %v", err, ErrStale)
	}
	for range 10 {
		b, err := both.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if now().Sub(b.Time) > time.Minute {
			t.Errorf("block %d is old", b.Seqno)
		}
	}
	if !strings.Contains(log.String(), ErrLagging.Error()) {
		t.Errorf("the frozen server was not left out for lagging:\n%s", log.String())
	}
}

// TestOldHead restarts a client before servers that know less than it did.
func TestOldHead(t *testing.T) {
	chain := startChain(t, nil)
	l := startLiar(t, chain, frozen())
	dir := t.TempDir()
	cfg := Config{GlobalConfig: chain.GlobalConfig(), Servers: []Server{l.Server}, Dir: dir}

	// Make the liar freeze at an early block, then let the client see a later
	// one.
	first := open(t, Config{GlobalConfig: chain.GlobalConfig(), Servers: []Server{l.Server}})
	early := first.LastHead()
	waitSeqno(t, chain, early.Seqno+3)
	c, err := Open(t.Context(), Config{GlobalConfig: chain.GlobalConfig(), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	seen := c.LastHead()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if seen.Seqno <= early.Seqno {
		t.Fatalf("block %d after block %d", seen.Seqno, early.Seqno)
	}

	if _, err := Open(t.Context(), cfg); !errors.Is(err, ErrOldHead) || !errors.Is(err, ErrNoServer) {
		t.Errorf("an older head after a restart: %v", err)
	}
	cfg.Servers = append(cfg.Servers, honest(t, chain))
	both := open(t, cfg)
	if b := both.LastHead(); b.Seqno < seen.Seqno {
		t.Errorf("went back from block %d to %d", seen.Seqno, b.Seqno)
	}
}

// TestForgottenMark lets a server refuse the block of the mark, as one does
// that keeps blocks for some days only.
func TestForgottenMark(t *testing.T) {
	chain := startChain(t, nil)
	dir := t.TempDir()
	c, err := Open(t.Context(), Config{GlobalConfig: chain.GlobalConfig(), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	seen := c.LastHead().Seqno
	waitSeqno(t, chain, seen+2)
	l := startLiar(t, chain, func(query, answer tl.Serializable) tl.Serializable {
		if q, ok := query.(ton.LookupBlock); ok && uint32(q.ID.Seqno) == seen {
			return ton.LSError{Code: 651, Text: "block is not in the database"}
		}
		return answer
	})
	again := open(t, Config{GlobalConfig: chain.GlobalConfig(), Dir: dir, Servers: []Server{l.Server}})
	if b := again.LastHead(); b.Seqno <= seen {
		t.Errorf("block %d after block %d", b.Seqno, seen)
	}
}

// TestRollback gives a client a mark that its chain does not contain.
func TestRollback(t *testing.T) {
	chain := startChain(t, nil)
	dir := t.TempDir()
	c, err := Open(t.Context(), Config{GlobalConfig: chain.GlobalConfig(), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "highwater-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("marks: %v, %v", files, err)
	}
	mark, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	was := base64.StdEncoding.EncodeToString(c.store.mark.root[:])
	sum := sha256.Sum256(mark)
	other := base64.StdEncoding.EncodeToString(sum[:])
	if err := os.WriteFile(files[0], bytes.Replace(mark, []byte(was), []byte(other), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	waitSeqno(t, chain, c.store.mark.seqno+1)
	if _, err := Open(t.Context(), Config{GlobalConfig: chain.GlobalConfig(), Dir: dir}); !errors.Is(err, ErrRollback) || !strings.Contains(err.Error(), files[0]) {
		t.Errorf("%v, want %v that names the file", err, ErrRollback)
	}
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{GlobalConfig: chain.GlobalConfig(), Dir: dir}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged mark: %v", err)
	}
}

// TestWrongZeroState gives the client a zero state that is not the chain's,
// once with servers that say so and once with one that plays along.
func TestWrongZeroState(t *testing.T) {
	chain := startChain(t, nil)
	fake := bytes.Repeat([]byte{5}, 32)
	config := edited(t, chain.GlobalConfig(), func(g map[string]any) {
		g["validator"].(map[string]any)["zero_state"].(map[string]any)["root_hash"] = base64.StdEncoding.EncodeToString(fake)
	})
	if _, err := Open(t.Context(), Config{GlobalConfig: config}); !errors.Is(err, ErrWrongNetwork) {
		t.Errorf("honest server: %v, want %v", err, ErrWrongNetwork)
	}
	l := startLiar(t, chain, on(func(i ton.MasterchainInfo) tl.Serializable {
		i.Init.RootHash = fake
		return i
	}))
	if _, err := Open(t.Context(), Config{GlobalConfig: config, Servers: []Server{l.Server}}); !errors.Is(err, ErrWrongNetwork) {
		t.Errorf("accomplice: %v, want %v", err, ErrWrongNetwork)
	}
}

// TestForeignInitBlock gives the client an init block of another chain.
func TestForeignInitBlock(t *testing.T) {
	chain, other := startChain(t, nil), startChain(t, nil)
	if chain.Head().RootHash == other.Head().RootHash {
		t.Fatal("the chains are the same")
	}
	tr, _, err := parseGlobalConfig(other.GlobalConfig())
	if err != nil {
		t.Fatal(err)
	}
	config := edited(t, chain.GlobalConfig(), func(g map[string]any) {
		first := g["validator"].(map[string]any)["init_block"].(map[string]any)
		first["root_hash"] = base64.StdEncoding.EncodeToString(tr.init.root[:])
		first["file_hash"] = base64.StdEncoding.EncodeToString(tr.init.file[:])
	})
	if _, err := Open(t.Context(), Config{GlobalConfig: config}); !errors.Is(err, ErrNoServer) {
		t.Errorf("%v, want %v", err, ErrNoServer)
	}
}

// TestFork offers a block beside the proven one.
func TestFork(t *testing.T) {
	chain := startChain(t, nil)
	l := startLiar(t, chain, nil)
	c := open(t, Config{GlobalConfig: chain.GlobalConfig(), Servers: []Server{l.Server}})
	beside := c.newest().id.ext()
	beside.RootHash = bytes.Repeat([]byte{1}, 32)
	l.set(on(func(i ton.MasterchainInfo) tl.Serializable { i.Last = beside; return i }))
	if err := c.refresh(t.Context()); !errors.Is(err, ErrFork) {
		t.Errorf("%v, want %v", err, ErrFork)
	}
}

// TestForgedMethod shows that what a server says of get-methods is not even
// asked for.
func TestForgedMethod(t *testing.T) {
	chain := startChain(t, nil)
	l := startLiar(t, chain, on(func(r ton.RunMethodResult) tl.Serializable {
		r.ExitCode, r.Result = 0, nil
		return r
	}))
	c := open(t, Config{GlobalConfig: chain.GlobalConfig(), Servers: []Server{l.Server}})
	if err := chain.Faucet(t.Context(), cocoon.Address{Hash: [32]byte{1}}, 1_000_000_000); err != nil {
		t.Fatal(err)
	}
	acc, err := c.Account(t.Context(), chain.FaucetAddress())
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.RunLocal(t.Context(), acc, "seqno")
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := res[0].(*big.Int); len(res) != 1 || !ok || n.Cmp(big.NewInt(1)) != 0 {
		t.Errorf("seqno %v, want 1", res)
	}
	public, err := c.RunLocal(t.Context(), acc, "get_public_key")
	if err != nil {
		t.Fatal(err)
	}
	want := new(big.Int).SetBytes(chain.FaucetKey()[32:])
	if n, ok := public[0].(*big.Int); !ok || n.Cmp(want) != 0 {
		t.Errorf("public key %v, want %x", public, want)
	}
	var exit *ExitError
	if _, err := c.RunLocal(t.Context(), acc, "no_such_method"); !errors.As(err, &exit) || exit.Code != 11 {
		t.Errorf("unknown method: %v, want exit code 11", err)
	}
	if n := l.count("RunSmcMethod"); n != 0 {
		t.Errorf("the server was asked %d times to run a method", n)
	}
	none, err := c.Account(t.Context(), cocoon.Address{Hash: [32]byte{2}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.RunLocal(t.Context(), none, "seqno"); !errors.Is(err, ErrNoCode) {
		t.Errorf("method of nothing: %v, want %v", err, ErrNoCode)
	}
}

func TestLookupBlock(t *testing.T) {
	chain := startChain(t, nil)
	waitSeqno(t, chain, 6)
	c := open(t, Config{GlobalConfig: chain.GlobalConfig()})
	for seqno := uint32(1); seqno <= 5; seqno++ {
		b, err := c.LookupBlock(t.Context(), seqno)
		if err != nil {
			t.Fatal(err)
		}
		if b.Seqno != seqno || b.Time.IsZero() || b.RootHash == ([32]byte{}) {
			t.Errorf("block %d: %+v", seqno, b)
		}
	}
	next := chain.Head().Seqno + 2
	if b, err := c.LookupBlock(t.Context(), next); err != nil || b.Seqno != next {
		t.Errorf("a block to come: %+v, %v", b, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.LookupBlock(ctx, 1_000_000); !errors.Is(err, ErrUnknownBlock) {
		t.Errorf("a block far away: %v, want %v", err, ErrUnknownBlock)
	}

	l := startLiar(t, chain, on(func(h ton.BlockHeader) tl.Serializable {
		h.ID.RootHash = bytes.Repeat([]byte{3}, 32)
		return h
	}))
	lied := open(t, Config{GlobalConfig: chain.GlobalConfig(), Servers: []Server{honest(t, chain)}})
	lied.servers = append([]*server{{Server: l.Server, cfg: &lied.cfg, latency: time.Nanosecond}}, lied.servers...)
	want, err := c.LookupBlock(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := lied.LookupBlock(t.Context(), 3); err != nil || b != want {
		t.Errorf("beside a liar: %+v, %v; want %+v", b, err, want)
	}
}

// TestServerReturns ends connections under a client, which must go on.
func TestServerReturns(t *testing.T) {
	chain := startChain(t, nil)
	c := open(t, Config{GlobalConfig: chain.GlobalConfig()})
	for range 3 {
		c.servers[0].mu.Lock()
		c.servers[0].conn.tcp.Close()
		c.servers[0].mu.Unlock()
		if err := c.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOffline(t *testing.T) {
	var o Offline
	if _, err := o.Head(t.Context()); !errors.Is(err, ErrOffline) {
		t.Error(err)
	}
	if _, err := o.Account(t.Context(), cocoon.Address{}); !errors.Is(err, ErrOffline) {
		t.Error(err)
	}
	if err := o.Send(t.Context(), nil); !errors.Is(err, ErrOffline) {
		t.Error(err)
	}
	if _, ok := <-o.Follow(t.Context()); ok {
		t.Error("a block out of nothing")
	}
}

// TestCloseEndsAll counts goroutines around the life of a client.
func TestCloseEndsAll(t *testing.T) {
	chain := startChain(t, nil)
	if b := chain.Head(); b.Seqno == 0 {
		t.Fatal("no chain")
	}
	// Our own goroutines, by the package in their stacks; the server's side of
	// the connections is the devnet's.
	ours := func() int {
		buf := make([]byte, 1<<20)
		n := 0
		for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(g, "chain/access.(*") {
				n++
			}
		}
		return n
	}
	before := ours()
	c, err := Open(t.Context(), Config{GlobalConfig: chain.GlobalConfig()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	blocks := c.Follow(ctx)
	<-blocks
	if ours() == before {
		t.Error("the count does not see a running client")
	}
	cancel()
	for range blocks {
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); ours() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines are left, %d were there before", ours(), before)
		}
	}
	if _, err := c.Head(t.Context()); !errors.Is(err, ErrNoServer) && err != nil {
		t.Errorf("after Close: %v", err)
	}
}
