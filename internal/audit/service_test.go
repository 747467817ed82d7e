package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
	"github.com/cocoon-network/cocoon/receipt"
)

var errDied = errors.New("the machine died")

// memFile is a file that dies at a chosen operation. What survives is what was
// synced, and of the rest as much as the survivor chooses.
type memFile struct {
	data       []byte
	synced     int
	ops, dieAt int
}

func (f *memFile) op() error {
	f.ops++
	if f.dieAt != 0 && f.ops >= f.dieAt {
		return errDied
	}
	return nil
}

func (f *memFile) ReadAt(b []byte, at int64) (int, error) {
	return bytes.NewReader(f.data).ReadAt(b, at)
}

func (f *memFile) Write(b []byte) (int, error) {
	if err := f.op(); err != nil {
		if f.ops == f.dieAt { // died while writing
			f.data = append(f.data, b[:len(b)*2/3]...)
		}
		return 0, err
	}
	f.data = append(f.data, b...)
	return len(b), nil
}

func (f *memFile) Truncate(n int64) error {
	if err := f.op(); err != nil {
		return err
	}
	f.data = f.data[:n]
	f.synced = min(f.synced, int(n))
	return nil
}

func (f *memFile) Sync() error {
	if err := f.op(); err != nil {
		return err
	}
	f.synced = len(f.data)
	return nil
}

func (f *memFile) Close() error { return nil }

// survivors are the files a restart may find.
func (f *memFile) survivors() []*memFile {
	zeros := bytes.Clone(f.data)
	clear(zeros[f.synced:])
	var out []*memFile
	for _, b := range [][]byte{f.data[:f.synced], f.data, f.data[:f.synced+(len(f.data)-f.synced)/2], zeros} {
		out = append(out, &memFile{data: bytes.Clone(b), synced: len(b)})
	}
	return out
}

func addr(n byte) cocoon.Address { return cocoon.Address{Hash: [32]byte{31: n}} }

var (
	nodeKey  = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	logID    = LogConfig{NetworkID: [32]byte{1}, ContractKey: [32]byte{2}}
	saltKey  = [32]byte{3}
	pool     = addr(100)
	genesis  = time.Unix(1_800_000_000, 0)
	sameAddr = func(a cocoon.Address) (cocoon.Address, error) { return a, nil }
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// charge is the n-th request: two clients, two workers.
func charge(n int) ledger.Charge {
	note := Note{
		RequestID: cocoon.RequestID{0: 1, 31: byte(n)}, Client: addr(byte(1 + n%2)), Worker: addr(byte(11 + n%3%2)),
		Price: receipt.Price{PerToken: 20, Coefficient: 1000, Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000}, SetVersion: 4,
	}
	return ledger.Charge{RequestID: cocoon.RequestID{0: 2, 31: byte(n)}, Client: note.Client, Worker: note.Worker, Tokens: int64(n + 1), Note: note.Encode()}
}

func service(t testing.TB, l *Log) *Service {
	t.Helper()
	s, err := NewService(ServiceConfig{
		Log: l, Sign: func(m []byte) []byte { return ed25519.Sign(nodeKey, m) },
		Statement: func(context.Context) ([32]byte, error) { return [32]byte{9}, nil },
		Block:     func() receipt.Block { return receipt.Block{Seqno: 5, RootHash: [32]byte{1}, Time: genesis} },
	})
	must(t, err)
	return s
}

func open(t testing.TB, f *memFile) (*Log, error) {
	t.Helper()
	return openLog("log", f, int64(len(f.data)), logID, saltKey)
}

type runningLedger struct {
	*ledger.Ledger
	stop func()
}

func openBook(t testing.TB, dir string) runningLedger {
	t.Helper()
	l, err := ledger.Open(dir, ledger.Config{Contract: pool})
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return runningLedger{l, func() {
		cancel()
		must(t, errors.Join(<-done, l.Close()))
	}}
}

// agree holds a log against its ledger: every charge has one receipt, in one
// unbroken chain for each client, and the sums are the counters.
func agree(t testing.TB, l *Log, b *ledger.Ledger, charges int) {
	t.Helper()
	last := map[cocoon.Address]*receipt.ProxyPart{}
	digests := map[cocoon.Address][32]byte{}
	for n := range charges {
		raw, index, err := l.Receipt(cocoon.RequestID{0: 1, 31: byte(n)})
		must(t, err)
		s, err := receipt.ParseSigned(raw)
		must(t, err)
		must(t, s.Verify([32]byte(nodeKey.Public().(ed25519.PublicKey))))
		p, err := receipt.ParseProxy(s.Part)
		must(t, err)
		must(t, receipt.CheckStep(last[p.Client], digests[p.Client], p))
		last[p.Client], digests[p.Client] = p, s.Digest()
		st := l.State()
		in, err := l.Inclusion(index, st.Size)
		must(t, err)
		must(t, receipt.VerifyInclusion(receipt.LeafHash(receipt.LeafReceipt, s.Digest()), in.Index, in.Size, in.Proof, st.Root))
	}
	if got := l.State().Size; got != uint64(charges) {
		t.Fatalf("%d leaves for %d charges", got, charges)
	}
	for _, c := range b.Clients() {
		if got := l.books[pool].clients[c.Owner]; got != uint64(c.Counters.Used) {
			t.Fatalf("client %s: %d in the log, %d in the ledger", c.Owner, got, c.Counters.Used)
		}
	}
	for _, w := range b.Workers() {
		if got := l.books[pool].workers[w.Owner]; got != uint64(w.Counters.Used) {
			t.Fatalf("worker %s: %d in the log, %d in the ledger", w.Owner, got, w.Counters.Used)
		}
	}
}

// TestDeath lets the machine die at every operation on the log, between every
// two on the ledger, and while an epoch is written: after the restart ledger,
// log and epochs agree, nothing is lost and nothing there twice.
func TestDeath(t *testing.T) {
	const charges = 6
	for dieAt := 1; ; dieAt++ {
		dir, f := t.TempDir(), &memFile{dieAt: dieAt}
		book := openBook(t, dir)
		charged, alive, prepared := 0, true, uint32(0)
		func() {
			l, err := open(t, f)
			if err != nil {
				alive = false
				return
			}
			if err := l.Open(pool, nil, nil); err != nil {
				alive = false
				return
			}
			s := service(t, l)
			for n := range charges {
				must(t, book.Charge(t.Context(), charge(n)))
				charged++
				if n%2 == 1 { // two in one group
					if _, err := s.Ship(t.Context(), pool, book); err != nil {
						alive = false
						return
					}
				}
				if n == 3 {
					e, err := l.Prepare(genesis.Add(time.Hour))
					if err != nil {
						alive = false
						return
					}
					prepared = e.Number
					if err := l.Anchored(e.Number, 77); err != nil {
						alive = false
						return
					}
				}
			}
		}()
		book.stop()
		for way, g := range f.survivors() {
			copied := t.TempDir()
			must(t, os.CopyFS(copied, os.DirFS(dir)))
			book := openBook(t, copied)
			l, err := open(t, g)
			if err != nil {
				t.Fatalf("died at %d (way %d): %v", dieAt, way, err)
			}
			clients, workers := book.Opening()
			must(t, l.Open(pool, clients, workers))
			s := service(t, l)
			for range 3 {
				_, err := s.Ship(t.Context(), pool, book)
				must(t, err)
			}
			if left := book.Notes(0, 100); len(left) != 0 {
				t.Fatalf("died at %d (way %d): %d notes left", dieAt, way, len(left))
			}
			agree(t, l, book.Ledger, charged)
			if e := l.State().Epoch; e.Number < prepared {
				t.Fatalf("died at %d (way %d): epoch %d was prepared, %d is there", dieAt, way, prepared, e.Number)
			} else if e.Number > 0 && l.tree.root(e.Size) != e.Log {
				t.Fatal("the epoch is of another log")
			}
			book.stop()
		}
		if alive {
			return
		}
	}
}

// filled is a log with n receipts and its ledger.
func filled(t testing.TB, n int) (*Log, *memFile, runningLedger) {
	t.Helper()
	f := &memFile{}
	l, err := open(t, f)
	must(t, err)
	book := openBook(t, t.TempDir())
	t.Cleanup(book.stop)
	must(t, l.Open(pool, nil, nil))
	for i := range n {
		must(t, book.Charge(t.Context(), charge(i)))
	}
	_, err = service(t, l).Ship(t.Context(), pool, book)
	must(t, err)
	return l, f, book
}

// Any byte of a log that is not its last group makes it refused, by name.
func TestDamage(t *testing.T) {
	l, f, _ := filled(t, 4)
	at := l.fr.size
	must(t, l.AppendSet([32]byte{1}, []byte("a set")))
	for i := range f.data {
		bad := bytes.Clone(f.data)
		bad[i] ^= 0x10
		_, err := open(t, &memFile{data: bad, synced: len(bad)})
		var ce *CorruptError
		if int64(i) < at != errors.As(err, &ce) {
			t.Fatalf("byte %d of %d: %v", i, at, err)
		}
	}
	if _, err := openLog("log", &memFile{data: f.data}, int64(len(f.data)), LogConfig{NetworkID: [32]byte{8}}, saltKey); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}

// Balances prove each party its sum, in the epoch they were anchored in and in
// no other way; client total is worker total.
func TestBalances(t *testing.T) {
	l, f, book := filled(t, 6)
	e, err := l.Prepare(genesis.Add(time.Hour))
	must(t, err)
	must(t, book.Charge(t.Context(), charge(6))) // after the epoch: not in it
	_, err = service(t, l).Ship(t.Context(), pool, book)
	must(t, err)
	again, err := open(t, f)
	must(t, err)
	for _, l := range []*Log{l, again} {
		for who, want := range map[byte]uint64{1: 1 + 3 + 5, 2: 2 + 4 + 6, 11: 1 + 3 + 4 + 6, 12: 2 + 5} {
			p, err := l.Balance(e.Number, addr(who))
			must(t, err)
			root := e.Clients
			if who > 10 {
				root = e.Workers
			}
			if err := p.Verify(root); err != nil || p.Total != want {
				t.Errorf("%d: %d, %v", who, p.Total, err)
			}
			for name, spoil := range map[string]func(*receipt.BalanceProof){
				"sum": func(p *receipt.BalanceProof) { p.Total++ }, "salt": func(p *receipt.BalanceProof) { p.Salt[0]++ },
				"contract": func(p *receipt.BalanceProof) { p.Contract.Hash[0]++ }, "sibling": func(p *receipt.BalanceProof) { p.Path[0].Sum.Sum++ },
				"side": func(p *receipt.BalanceProof) { p.Path[0].Left = !p.Path[0].Left }, "total": func(p *receipt.BalanceProof) { p.All[0].Sum.Sum++ },
			} {
				bad, err := l.Balance(e.Number, addr(who))
				must(t, err)
				spoil(&bad)
				if err := bad.Verify(root); !errors.Is(err, receipt.ErrBalance) {
					t.Errorf("%d, another %s: %v", who, name, err)
				}
			}
		}
		all, err := l.Totals(e.Number)
		must(t, err)
		if len(all.Clients) != 1 || all.Clients[0].Sum.Sum != 21 || all.Workers[0].Sum.Sum != 21 {
			t.Errorf("%+v", all)
		}
	}
	if _, err := openLog("log", f, int64(len(f.data)), logID, [32]byte{4}); !errors.Is(err, ErrSalt) {
		t.Errorf("another salt: %v", err)
	}
	if _, err := receipt.SumTree([]receipt.Sum{{Sum: 1 << 63}, {Sum: 1 << 63}}); !errors.Is(err, receipt.ErrOverflow) {
		t.Errorf("overflow: %v", err)
	}
}

// The newest two epochs' balances are there after a restart too, whatever was
// charged before, between and after them.
func TestBalancesOfTwoEpochs(t *testing.T) {
	f := &memFile{}
	l, err := open(t, f)
	must(t, err)
	book := openBook(t, t.TempDir())
	t.Cleanup(book.stop)
	must(t, l.Open(pool, map[cocoon.Address]int64{addr(1): 50}, map[cocoon.Address]int64{addr(11): 50}))
	s := service(t, l)
	next := 0
	charges := func(n int) {
		for range n {
			must(t, book.Charge(t.Context(), charge(next)))
			next++
		}
		_, err := s.Ship(t.Context(), pool, book)
		must(t, err)
	}
	var epochs []Epoch
	for _, n := range []int{2, 1, 3, 0, 1} {
		charges(n)
		e, err := l.Prepare(genesis.Add(time.Hour))
		must(t, err)
		must(t, l.Anchored(e.Number, 77))
		epochs = append(epochs, e)
		charges(1) // behind the epoch
		again, err := open(t, f)
		must(t, err)
		for _, e := range epochs[max(0, len(epochs)-2):] {
			for _, side := range []struct {
				root  receipt.Hash
				party []byte
			}{{e.Clients, []byte{1, 2}}, {e.Workers, []byte{11, 12}}} {
				for _, who := range side.party {
					want, err := l.Balance(e.Number, addr(who))
					if errors.Is(err, ErrNotFound) {
						continue // nothing yet
					}
					must(t, err)
					got, err := again.Balance(e.Number, addr(who))
					must(t, err)
					if must(t, got.Verify(side.root)); got.Total != want.Total {
						t.Errorf("epoch %d, party %d: %d after the restart, %d before", e.Number, who, got.Total, want.Total)
					}
				}
			}
		}
	}
	if _, err := l.Balance(epochs[0].Number, addr(1)); !errors.Is(err, ErrNotFound) {
		t.Errorf("an old epoch: %v", err)
	}
}

// The leaves give the root, page by page, and say which of them are sets; the
// statements of those who signed sets are kept once.
func TestLeavesAndNodes(t *testing.T) {
	l, f, book := filled(t, 5)
	must(t, l.AppendSet([32]byte{8}, []byte("a set")))
	must(t, book.Charge(t.Context(), charge(5)))
	_, err := service(t, l).Ship(t.Context(), pool, book)
	must(t, err)
	must(t, l.AppendSet([32]byte{9}, []byte("another set")))
	for range 2 {
		must(t, l.AppendNode([32]byte{1}, pool, []byte("first")))
		must(t, l.AppendNode([32]byte{1}, addr(9), []byte("second")))
	}
	again, err := open(t, f)
	must(t, err)
	for _, l := range []*Log{l, again} {
		var root receipt.LogRoot
		var sets []uint64
		for {
			page, err := l.Leaves(root.Size(), 3)
			must(t, err)
			if len(page) == 0 {
				break
			}
			for _, x := range page {
				if x.Kind == receipt.LeafSet {
					sets = append(sets, root.Size())
				}
				root.Add(receipt.LeafHash(x.Kind, x.Digest))
			}
		}
		if st := l.State(); root.Root() != st.Root || root.Size() != st.Size || !slices.Equal(sets, []uint64{5, 7}) {
			t.Errorf("%d leaves, root %s, sets %v; want %d, %s", root.Size(), root.Root(), sets, st.Size, st.Root)
		}
		nodes, err := l.Nodes(0, 9)
		must(t, err)
		one, err := l.Nodes(1, 1)
		must(t, err)
		if len(nodes) != 2 || string(nodes[0]) != "first" || len(one) != 1 || string(one[0]) != "second" {
			t.Errorf("statements %q, %q", nodes, one)
		}
	}
}

// A log on a real disk is locked, comes back, and keeps its salt to itself.
func TestOnDisk(t *testing.T) {
	dir := t.TempDir()
	l, err := OpenLog(dir, logID)
	must(t, err)
	must(t, l.AppendSet([32]byte{1}, []byte("a set")))
	if _, err := OpenLog(dir, logID); !errors.Is(err, ledger.ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	root := l.State().Root
	must(t, l.Close())
	l, err = OpenLog(dir, logID)
	must(t, err)
	if signed, ok := l.LastSet(); !ok || string(signed) != "a set" || l.State().Root != root {
		t.Error("the log did not come back")
	}
	must(t, l.Close())
	files, _ := filepath.Glob(filepath.Join(dir, "*", "salt"))
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("salt file: %v, %v", info.Mode(), err)
	}
}

func FuzzLog(f *testing.F) {
	_, m, _ := filled(f, 3)
	f.Add(m.data)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = open(t, &memFile{data: b, synced: len(b)})
		_, _ = parseNote(string(b))
		l := &Log{id: logID, byID: map[cocoon.RequestID]uint64{}, byLeaf: map[receipt.Hash]uint64{}, chains: map[cocoon.Address]link{}, books: map[cocoon.Address]*contractBook{}}
		_ = l.apply(b, frameHead)
	})
}

// BenchmarkReceipts is receipts made, signed and logged a second, in memory.
func BenchmarkReceipts(b *testing.B) {
	l, err := open(b, &memFile{})
	must(b, err)
	must(b, l.Open(pool, nil, nil))
	s := service(b, l)
	notes := &fixedNotes{}
	for n := range group {
		c := charge(n % 200)
		notes.all = append(notes.all, ledger.Noted{Charge: c, ClientAfter: 1000 + c.Tokens})
	}
	b.ResetTimer()
	for range b.N / group {
		if _, err := s.Ship(b.Context(), pool, notes); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N/group*group)/b.Elapsed().Seconds(), "receipts/s")
}

// fixedNotes are the same charges again and again, under new numbers.
type fixedNotes struct {
	all  []ledger.Noted
	done uint64
}

func (f *fixedNotes) Notes(after uint64, most int) []ledger.Noted {
	for i := range f.all {
		f.all[i].Number = after + uint64(i) + 1
	}
	return f.all
}
func (f *fixedNotes) NoteWritten() <-chan struct{}             { return nil }
func (f *fixedNotes) Take(_ context.Context, n uint64) error   { f.done = n; return nil }
func (f *fixedNotes) Opening() (_, _ map[cocoon.Address]int64) { return nil, nil }
