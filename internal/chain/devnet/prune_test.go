//go:build !tee

package devnet

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xssnick/tonutils-go/ton"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// pruning keeps as little as possible: segments of two blocks.
func pruning(dir string) Config {
	return Config{Dir: dir, SelfCheck: true, KeepStates: 16, KeepBlocks: 16, KeepFor: time.Nanosecond, SnapshotEvery: 5}
}

// logs returns the segments of a directory.
func logs(t testing.TB, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "blocks-*"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// checkWindow asks for everything a client may want of the blocks that are
// kept, which must be those of the last KeepBlocks at least, and of the key
// block.
func checkWindow(t *testing.T, n *network, heads map[uint32]Head) {
	t.Helper()
	head := n.head()
	first := n.mcs.first
	if first > 1 && head.seqno()-first+1 < uint32(n.cfg.KeepBlocks) {
		t.Fatalf("blocks %d to %d are kept, %d were wanted", first, head.seqno(), n.cfg.KeepBlocks)
	}
	serve := func(q any) any {
		t.Helper()
		a, err := n.handle(q, head.utime)
		if err != nil {
			t.Fatalf("%T %+v: %v", q, q, err)
		}
		return a
	}
	seqnos := []uint32{1}
	for s := first; s <= head.seqno(); s++ {
		seqnos = append(seqnos, s)
	}
	for _, s := range seqnos {
		h := heads[s]
		id := blockIDExt(masterchain, s, h.RootHash, h.FileHash)
		serve(ton.GetBlockData{ID: id})
		serve(ton.GetBlockProof{KnownBlock: id})
		serve(ton.GetBlockProof{Mode: 1, KnownBlock: id, TargetBlock: n.key.id()})
		serve(ton.GetBlockProof{Mode: 1, KnownBlock: id, TargetBlock: n.zeroID()})
		serve(ton.GetBlockProof{Mode: 1, KnownBlock: n.key.id(), TargetBlock: id})
		serve(ton.GetAllShardsInfo{ID: id})
		if got := serve(ton.LookupBlock{Mode: 1, ID: &ton.BlockInfoShort{Workchain: masterchain, Shard: wholeShard, Seqno: int32(s)}}); !got.(ton.BlockHeader).ID.Equals(id) {
			t.Errorf("block %d is looked up as %v", s, got)
		}
		if b := n.block(id); b.top != nil {
			serve(ton.GetBlockData{ID: b.top.id()})
			serve(ton.GetBlockHeader{ID: b.top.id()})
			for _, tx := range b.top.txs {
				got := serve(ton.GetOneTransaction{ID: b.top.id(), AccID: &ton.AccountID{ID: tx.account[:]}, LT: int64(tx.lt)})
				if len(got.(ton.TransactionInfo).Transaction) == 0 {
					t.Errorf("transaction %d of shard block %d is gone", tx.lt, b.top.seqno())
				}
			}
			if b.top.mcSeqno > first {
				serve(ton.GetShardBlockProof{ID: b.top.id()})
			}
		}
		for _, lt := range []uint64{h.lt(n), h.lt(n) - 1} {
			got, err := n.handle(ton.LookupBlock{Mode: 2, ID: &ton.BlockInfoShort{Workchain: masterchain, Shard: wholeShard}, LT: lt}, 0)
			if err == nil && got.(ton.BlockHeader).ID.SeqNo != s {
				t.Errorf("time %d is in block %d, not %d", lt, got.(ton.BlockHeader).ID.SeqNo, s)
			} else if err != nil && s >= first {
				t.Errorf("block %d by time: %v", s, err)
			}
		}
	}
	// Two hops for contracts: the last blocks, and the last hundreds.
	if p := n.prevBlocks(); p.Len() != 3 {
		t.Errorf("%d lists of blocks for contracts", p.Len())
	}
	for s := head.seqno() / 100 * 100; s > 0; s -= 100 {
		if got := n.hundreds[s].root; got != heads[s].RootHash {
			t.Errorf("contracts see %x as block %d", got, s)
		}
	}
	for account, refs := range n.txs {
		for _, r := range refs {
			if n.shards.at(r.block.seqno()) != r.block {
				t.Errorf("account %x: transaction %d is indexed in block %d, which is gone", account[:4], r.lt, r.block.seqno())
			}
		}
	}
}

// lt is the logical time at which a block of the network begins and ends.
func (h Head) lt(n *network) uint64 { return n.masterAt(h.Seqno).ref.endLT }

// TestPrune makes some hundred blocks, of which few are kept, and looks at the
// directory as it is after every step, as if the process was killed there:
// nothing is lost, and the chain goes on to the same head.
func TestPrune(t *testing.T) {
	dir, now := t.TempDir(), time.Unix(1_800_000_000, 0)
	w := newTestWallet(t, 1)
	type view struct {
		step string
		dir  string
		head Head
	}
	var views []view
	steps := map[string]int{}
	var c *Chain
	cfg := pruning(dir)
	cfg.Balances = map[cocoon.Address]coins.Nano{w.addr: 1000 * coins.PerCoin}
	cfg.Now = func() time.Time { return now }
	cfg.testOnlyStep = func(step string) {
		// The first of each kind, and some later ones.
		if steps[step]++; c != nil && (steps[step] < 2 || steps[step]%61 == 0) {
			views = append(views, view{step, copyDir(t, dir), Head{Seqno: c.current().head().seqno()}})
		}
	}
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	heads := map[uint32]Head{}
	note := func() {
		for _, b := range c.current().mcs.blocks {
			heads[b.seqno()] = Head{Seqno: b.seqno(), RootHash: b.ref.root, FileHash: b.ref.file}
		}
	}
	var oldest *ton.BlockIDExt // a shard block that will be pruned
	for i := range 230 {
		now = now.Add(time.Second)
		// Work now and then: the newest shard block is often long pruned with
		// the masterchain block that named it.
		if i%20 == 3 {
			if err := c.SendExternal(w.external(t, c.now(), message(tonAddress(w.addr), 1, true, nil, addBody(1)))); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Mine(); err != nil {
			t.Fatal(err)
		}
		note()
		if i == 10 {
			oldest = c.current().top().id()
		}
		if i%75 == 0 || i > 226 {
			checkWindow(t, c.current(), heads)
		}
	}
	n := c.current()
	head := c.Head()
	if n.mcs.first < 200 || len(n.mcs.blocks) > 40 || len(logs(t, dir)) > 20 {
		t.Errorf("blocks from %d on are in memory (%d), in %d files", n.mcs.first, len(n.mcs.blocks), len(logs(t, dir)))
	}
	for _, q := range []any{
		ton.GetBlockData{ID: oldest},
		ton.GetShardBlockProof{ID: oldest},
		ton.GetBlockProof{KnownBlock: blockIDExt(masterchain, 9, heads[9].RootHash, heads[9].FileHash)},
		ton.LookupBlock{Mode: 1, ID: &ton.BlockInfoShort{Workchain: masterchain, Shard: wholeShard, Seqno: 9}},
		ton.LookupBlock{Mode: 2, ID: &ton.BlockInfoShort{Workchain: basechain, Shard: wholeShard}, LT: 1},
		ton.LookupBlock{Mode: 4, ID: &ton.BlockInfoShort{Workchain: masterchain, Shard: wholeShard}, UTime: uint32(now.Unix() - 150)},
	} {
		var ls ton.LSError
		if _, err := n.handle(q, 0); !errors.As(err, &ls) || ls.Code != codeNotReady {
			t.Errorf("%T of a pruned block: %v, want error %d", q, err, codeNotReady)
		}
	}
	config := c.GlobalConfig()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	// Resumed, the same is there; and so it is after each step.
	views = append(views, view{"closed", dir, head})
	kinds := map[string]bool{}
	for _, v := range views {
		cfg := pruning(v.dir)
		cfg.Now = fixed(now)
		c, err := Open(cfg)
		if err != nil {
			t.Fatalf("%s at block %d: %v", v.step, v.head.Seqno, err)
		}
		kinds[v.step] = true
		got := c.Head()
		// A step may see a block that is durable, but shown to nobody yet.
		if d := got.Seqno - v.head.Seqno; d > 1 || got.RootHash != heads[got.Seqno].RootHash {
			t.Errorf("%s: resumed at block %d (%x), it was %d", v.step, got.Seqno, got.RootHash, v.head.Seqno)
		}
		seen := map[uint32]Head{}
		for s, h := range heads {
			seen[s] = h
		}
		for range 3 { // and it goes on
			if err := c.Mine(); err != nil {
				t.Fatal(err)
			}
			h := c.Head()
			seen[h.Seqno] = h
		}
		checkWindow(t, c.current(), seen)
		if !bytes.Equal(zeroPart(t, c.GlobalConfig()), zeroPart(t, config)) {
			t.Errorf("%s: clients are told another chain", v.step)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []string{"a block is in the log", "a segment is begun", "a snapshot is written", "a segment is removed"} {
		if !kinds[step] {
			t.Errorf("the test never saw the step %q", step)
		}
	}
}

func fixed(now time.Time) func() time.Time { return func() time.Time { return now } }

// zeroPart is the part of a global configuration about the chain.
func zeroPart(t *testing.T, config []byte) []byte {
	t.Helper()
	i := bytes.Index(config, []byte(`"validator"`))
	if i < 0 {
		t.Fatalf("no validator part in %s", config)
	}
	return config[i:]
}

// TestPrunedChainIsProven lets clients that trust the key block, or a block
// that is just still kept, prove the head and what is kept.
func TestPrunedChainIsProven(t *testing.T) {
	c, _ := start(t, pruning(t.TempDir()))
	ctx := testContext(t)
	for range 60 {
		if err := c.Mine(); err != nil {
			t.Fatal(err)
		}
	}
	n := c.current()
	n.mu.RLock()
	kept := slices.Clone(n.mcs.blocks[4:]) // Run may prune some
	n.mu.RUnlock()
	for _, b := range append(kept, n.key) {
		api := dial(t, c.GlobalConfig(), ton.ProofCheckPolicySecure, b.id())
		head, err := api.GetMasterchainInfo(ctx)
		if err != nil {
			t.Fatalf("from block %d: %v", b.seqno(), err)
		}
		if err := api.VerifyProofChain(ctx, head, n.key.id()); err != nil {
			t.Errorf("from block %d to the key block: %v", head.SeqNo, err)
		}
		if _, err := api.GetAccount(ctx, head, tonAddress(c.FaucetAddress())); err != nil {
			t.Error(err)
		}
	}
}

// TestKeepFor keeps young blocks beyond the number.
func TestKeepFor(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	cfg := pruning(t.TempDir())
	cfg.KeepFor, cfg.Now = time.Hour, func() time.Time { return now }
	c, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	mine := func(want uint32) {
		t.Helper()
		for range 50 {
			if err := c.Mine(); err != nil {
				t.Fatal(err)
			}
		}
		if first := c.current().mcs.first; first != want {
			t.Errorf("blocks from %d on are kept at block %d, want %d", first, c.Head().Seqno, want)
		}
	}
	mine(1)
	now = now.Add(time.Hour)
	mine(53) // all but those of this hour
}

// TestPrunedLogNeedsItsState: the state can no longer be had from the log, so
// without a whole snapshot the start is refused and nothing is changed.
func TestPrunedLogNeedsItsState(t *testing.T) {
	c, err := Open(pruning(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		if err := c.Mine(); err != nil {
			t.Fatal(err)
		}
	}
	n := c.current()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	segments := logs(t, n.dir)
	for name, damage := range map[string]func(dir string) error{
		"no snapshot": func(dir string) error { return os.Remove(filepath.Join(dir, filepath.Base(n.snapshotPath()))) },
		"a damaged snapshot": func(dir string) error {
			return flipByte(filepath.Join(dir, filepath.Base(n.snapshotPath())), 100)
		},
		"no middle": func(dir string) error { return os.Remove(filepath.Join(dir, filepath.Base(segments[3]))) },
		"a damaged segment": func(dir string) error {
			return flipByte(filepath.Join(dir, filepath.Base(segments[3])), int(logHeader)+300)
		},
		"a damaged repetition": func(dir string) error {
			return flipByte(filepath.Join(dir, filepath.Base(segments[0])), int(logHeader)+300)
		},
		"a damaged repetition at the end": func(dir string) error {
			return flipByte(filepath.Join(dir, filepath.Base(segments[len(segments)-1])), int(logHeader)+300)
		},
		"a strange name": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, filepath.Base(n.logStem())+"-1.log"), nil, 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copyDir(t, n.dir)
			if err := damage(dir); err != nil {
				t.Fatal(err)
			}
			before := logs(t, dir)
			c, err := Open(pruning(dir))
			if err == nil {
				c.Close()
				t.Fatal("the damage went unnoticed")
			}
			if !strings.Contains(err.Error(), dir) {
				t.Errorf("the error names no file: %v", err)
			}
			if after := logs(t, dir); len(after) != len(before) {
				t.Errorf("%d files became %d", len(before), len(after))
			}
		})
	}
	// Leftovers of an interrupted write are no harm.
	for _, p := range []string{n.snapshotPath(), n.store.path(c.Head().Seqno + 1)} {
		if err := os.WriteFile(p+".tmp", []byte("half of"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	head := c.Head()
	if c, err = Open(pruning(n.dir)); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Head() != head {
		t.Errorf("resumed at block %d, want %d", c.Head().Seqno, head.Seqno)
	}
	if left, _ := filepath.Glob(filepath.Join(n.dir, "*.tmp")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func flipByte(path string, at int) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[at] ^= 1
	return os.WriteFile(path, b, 0o600)
}

// TestLogOfOneFile resumes a chain whose log was written before there were
// segments.
func TestLogOfOneFile(t *testing.T) {
	dir, log, heads := minedChain(t, 3)
	if err := os.Rename(filepath.Join(dir, log), filepath.Join(dir, strings.TrimSuffix(log, "-0000000001.log")+".log")); err != nil {
		t.Fatal(err)
	}
	c, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Head() != heads[len(heads)-1] {
		t.Errorf("resumed at block %d", c.Head().Seqno)
	}
}
