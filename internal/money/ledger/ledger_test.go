package ledger

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

func owner(n int) cocoon.Address {
	var a cocoon.Address
	binary.BigEndian.PutUint32(a.Hash[:], uint32(n)+1)
	return a
}

func request(n int) (id cocoon.RequestID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

// charge is the n-th of a series: clients 0 and 1, workers 100 and 101.
func charge(n int) Charge {
	return Charge{RequestID: request(n), Client: owner(n % 2), Worker: owner(100 + n%3%2), Tokens: int64(n + 1)}
}

// running is a ledger whose writer runs until the test stops it.
type running struct {
	*Ledger
	stop func() error
}

func run(t testing.TB, l *Ledger, err error) *running {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	var once sync.Once
	r := &running{Ledger: l}
	r.stop = func() (err error) {
		once.Do(func() {
			cancel()
			err = errors.Join(<-ended, l.Close())
		})
		return err
	}
	t.Cleanup(func() { _ = r.stop() })
	return r
}

func openDir(t testing.TB, dir string, c Config) *running {
	t.Helper()
	l, err := Open(dir, c)
	return run(t, l, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestResume(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := openDir(t, dir, Config{Contract: owner(7)})
	for n := range 10 {
		must(t, l.Charge(ctx, charge(n)))
	}
	contract := channel.ClientContract{Open: true, Balance: 1000, Stake: 50, Charged: 3, SecretHash: [32]byte{1}}
	must(t, l.SetContract(ctx, owner(0), contract))
	must(t, l.SetPaid(ctx, owner(100), 5))
	must(t, l.SetPosition(ctx, Position{LT: 99, Hash: [32]byte{9}}))
	m, err := l.Mark(ctx)
	must(t, err)
	must(t, l.Charge(ctx, charge(10)))
	if m.Seqno != 1 || m.Session != l.Session() {
		t.Errorf("mark is %+v", m)
	}
	clients, workers := l.Clients(), l.Workers()
	must(t, l.stop())

	l = openDir(t, dir, Config{Contract: owner(7)})
	if got := l.Clients(); fmt.Sprint(got) != fmt.Sprint(clients) {
		t.Errorf("clients are %+v, were %+v", got, clients)
	}
	if got := l.Workers(); fmt.Sprint(got) != fmt.Sprint(workers) {
		t.Errorf("workers are %+v, were %+v", got, workers)
	}
	if a := l.ClientAccount(owner(0)); a.Contract != contract || a.Counters != (channel.Counters{Used: 36, Durable: 36}) {
		t.Errorf("client is %+v", a)
	}
	if l.WorkerAccount(owner(100)).Paid != 5 || l.Position().LT != 99 {
		t.Error("what the chain said was forgotten")
	}
	must(t, l.Recognize(m))
	must(t, l.Confirm(ctx, m.Seqno))
	if c := l.Client(owner(0)); c != (channel.Counters{Used: 36, Durable: 36, Committed: 25}) {
		t.Errorf("the mark of the old session committed %+v", c)
	}
	if m2, err := l.Mark(ctx); err != nil || m2.Seqno != 2 || m2.Session == m.Session {
		t.Errorf("the next session's mark is %+v, %v", m2, err)
	}
	var sum channel.Counters
	for _, c := range l.Clients() {
		sum.Used += c.Counters.Used
		sum.Durable += c.Counters.Durable
		sum.Committed += c.Counters.Committed
	}
	if got := l.Totals(); got != sum || got.Used != 66 || got.Committed != 55 {
		t.Errorf("totals are %+v, the sum is %+v", got, sum)
	}
	if c := l.Client(owner(99)); c != (channel.Counters{}) {
		t.Errorf("an unknown client has %+v", c)
	}
}

func TestChargeOnce(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := openDir(t, dir, Config{Window: 4})
	must(t, l.Charge(ctx, charge(0)))
	must(t, l.Charge(ctx, charge(0)))
	other := charge(0)
	other.Tokens++
	if err := l.Charge(ctx, other); !errors.Is(err, ErrCharge) {
		t.Errorf("another amount for the same request: %v", err)
	}
	must(t, l.stop())
	l = openDir(t, dir, Config{Window: 4})
	must(t, l.Charge(ctx, charge(0)))
	if c := l.Client(owner(0)); c.Used != 1 {
		t.Errorf("counted %d", c.Used)
	}
	for n := 1; n <= 4; n++ {
		must(t, l.Charge(ctx, charge(n)))
	}
	if n := len(l.s.recent); n != 4 {
		t.Errorf("%d requests are remembered, 4 should be", n)
	}
	for n := 1; n <= 4; n++ {
		must(t, l.Charge(ctx, charge(n)))
	}
	if c := l.Client(owner(0)); c.Used != 1+3+5 {
		t.Errorf("counted %d", c.Used)
	}
}

func TestRefusals(t *testing.T) {
	ctx := t.Context()
	l := openDir(t, t.TempDir(), Config{})
	if err := l.Charge(ctx, Charge{Tokens: -1}); !errors.Is(err, ErrCharge) {
		t.Errorf("negative charge: %v", err)
	}
	must(t, l.Charge(ctx, Charge{RequestID: request(1), Client: owner(1), Worker: owner(2), Tokens: math.MaxInt64}))
	if err := l.Charge(ctx, Charge{RequestID: request(2), Client: owner(3), Worker: owner(2), Tokens: 1}); !errors.Is(err, ErrCharge) {
		t.Errorf("overflow: %v", err)
	}
	if c := l.Client(owner(3)); c.Used != 0 {
		t.Errorf("a refused charge counted %d", c.Used)
	}
	if err := l.SetContract(ctx, owner(3), channel.ClientContract{Charged: 1}); !errors.Is(err, channel.ErrRollback) {
		t.Errorf("chain ahead of the ledger: %v", err)
	}
	if err := l.SetPaid(ctx, owner(9), 1); !errors.Is(err, channel.ErrRollback) {
		t.Errorf("chain ahead of the ledger: %v", err)
	}
	if err := l.Confirm(ctx, 1); !errors.Is(err, ErrMark) {
		t.Errorf("a mark that was never drawn: %v", err)
	}
	if err := l.Recognize(Mark{Seqno: 1}); !errors.Is(err, channel.ErrRollback) {
		t.Errorf("a strange mark: %v", err)
	}
	m, err := l.Mark(ctx)
	must(t, err)
	if err := l.Recognize(Mark{Seqno: m.Seqno}); !errors.Is(err, channel.ErrRollback) {
		t.Errorf("a mark of another session: %v", err)
	}
	// Older states change nothing.
	must(t, l.SetContract(ctx, owner(1), channel.ClientContract{Charged: 10}))
	must(t, l.SetContract(ctx, owner(1), channel.ClientContract{Charged: 9, Open: true}))
	must(t, l.SetPaid(ctx, owner(2), 10))
	must(t, l.SetPaid(ctx, owner(2), 9))
	must(t, l.SetPosition(ctx, Position{LT: 5}))
	must(t, l.SetPosition(ctx, Position{LT: 4}))
	if l.ClientAccount(owner(1)).Contract.Charged != 10 || l.WorkerAccount(owner(2)).Paid != 10 || l.Position().LT != 5 {
		t.Error("an older state was taken over")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for {
		if err := l.Charge(gone, charge(1)); errors.Is(err, context.Canceled) {
			break
		}
	}
	must(t, l.stop())
	if err := l.Charge(ctx, charge(2)); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
}

func TestMarksCommitWhatTheyCover(t *testing.T) {
	ctx := t.Context()
	l := openDir(t, t.TempDir(), Config{})
	committed := func() int64 { return l.Client(owner(0)).Committed }
	add := func(n int) {
		must(t, l.Charge(ctx, Charge{RequestID: request(n), Client: owner(0), Worker: owner(100), Tokens: int64(n)}))
	}
	add(1)
	m1, err := l.Mark(ctx)
	must(t, err)
	add(10)
	m2, err := l.Mark(ctx)
	must(t, err)
	m3, err := l.Mark(ctx)
	must(t, err)
	add(100)
	must(t, l.Confirm(ctx, m1.Seqno))
	if committed() != 1 {
		t.Errorf("mark 1 committed %d", committed())
	}
	must(t, l.Confirm(ctx, m3.Seqno))
	if committed() != 11 {
		t.Errorf("mark 3 committed %d", committed())
	}
	must(t, l.Confirm(ctx, m2.Seqno))
	if last, confirmed := l.Marks(); last != m3 || confirmed != 3 || committed() != 11 {
		t.Errorf("last %+v, confirmed %d, committed %d", last, confirmed, committed())
	}
}

func TestOneLedgerPerContract(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	a := openDir(t, dir, Config{Contract: owner(1)})
	b := openDir(t, dir, Config{Contract: owner(2)})
	must(t, a.Charge(ctx, charge(0)))
	if b.Client(owner(0)).Used != 0 {
		t.Error("contracts share counters")
	}
	if _, err := Open(dir, Config{Contract: owner(1)}); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	if list, err := Contracts(dir); err != nil || len(list) != 2 || list[0] != owner(1) {
		t.Errorf("contracts are %v, %v", list, err)
	}
	if list, err := Contracts(filepath.Join(dir, "none")); err != nil || list != nil {
		t.Errorf("contracts of a missing directory: %v, %v", list, err)
	}
	must(t, a.stop())
	must(t, b.stop())
	from, to := filepath.Join(dir, contractDir(owner(1))), filepath.Join(dir, contractDir(owner(3)))
	must(t, os.Rename(from, to))
	if _, err := Open(dir, Config{Contract: owner(3)}); !errors.Is(err, ErrForeign) {
		t.Errorf("a journal under another name: %v", err)
	}
}

// TestCompaction makes files grow beyond their limit.
func TestCompaction(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := openDir(t, dir, Config{CompactAfter: 1, Window: 8})
	for n := range 300 {
		must(t, l.Charge(ctx, charge(n)))
	}
	if l.j.generation < 3 {
		t.Errorf("generation %d after 300 charges", l.j.generation)
	}
	must(t, l.stop())
	files, err := filepath.Glob(filepath.Join(dir, "*", namePrefix+"*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files %v, %v", files, err)
	}
	l = openDir(t, dir, Config{Window: 8})
	if got := l.Client(owner(0)).Used + l.Client(owner(1)).Used; got != 300*301/2 {
		t.Errorf("counted %d", got)
	}
}

func journalFile(t testing.TB, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", namePrefix+"*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("files %v, %v", files, err)
	}
	return files[0]
}

// TestDamage flips each byte of a journal in turn: the ledger either refuses
// it, naming the place, or has lost no more than the last group.
func TestDamage(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := openDir(t, dir, Config{})
	for n := range 3 {
		must(t, l.Charge(ctx, charge(n)))
	}
	last := l.j.size
	must(t, l.Charge(ctx, charge(3)))
	must(t, l.stop())
	path := journalFile(t, dir)
	good, err := os.ReadFile(path)
	must(t, err)
	name := filepath.Base(path)
	for i := range good {
		disk := newDisk()
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		disk.names_[name] = &diskFile{disk: disk, data: bad}
		l, err := open(disk, Config{})
		if int64(i) >= last {
			if err != nil || l.Client(owner(0)).Used != 4 || l.Client(owner(1)).Used != 2 {
				t.Fatalf("damage in the last group at %d: %v", i, err)
			}
			continue
		}
		var ce *CorruptError
		if !errors.As(err, &ce) || ce.Offset > int64(i) {
			t.Fatalf("damage at %d: %v", i, err)
		}
	}
	for cut := range good {
		disk := newDisk()
		disk.names_[name] = &diskFile{disk: disk, data: good[:cut]}
		l, err := open(disk, Config{})
		if err != nil {
			var ce *CorruptError
			if !errors.As(err, &ce) {
				t.Fatalf("cut at %d: %v", cut, err)
			}
			continue
		}
		if used := l.Client(owner(0)).Used; used != 0 && used != 1 && used != 4 {
			t.Fatalf("cut at %d: %d tokens", cut, used)
		}
	}
}

func TestTampering(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	l := openDir(t, dir, Config{Key: []byte("one key")})
	must(t, l.Charge(ctx, charge(0)))
	must(t, l.stop())
	var ce *CorruptError
	if _, err := Open(dir, Config{Key: []byte("another")}); !errors.As(err, &ce) {
		t.Errorf("opened with another key: %v", err)
	}
	l = openDir(t, dir, Config{Key: []byte("one key")})
	if l.Client(owner(0)).Used != 1 {
		t.Error("the right key does not open it")
	}
}

// TestDeath lets the machine die at every operation on the disk, in every
// way, while charges come from several sides. Whatever was acknowledged is
// there afterwards, and repeating everything doubles nothing.
func TestDeath(t *testing.T) {
	const charges = 24
	work := func(l *Ledger, acked *[charges]atomic.Bool) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { _ = l.Run(ctx); close(ended) }()
		var wg sync.WaitGroup
		for side := range 3 {
			wg.Go(func() {
				for n := side; n < charges; n += 3 {
					if l.Charge(ctx, charge(n)) == nil {
						acked[n].Store(true)
					}
					if n%6 == 0 {
						if m, err := l.Mark(ctx); err == nil {
							_ = l.Confirm(ctx, m.Seqno)
						}
					}
				}
			})
		}
		wg.Wait()
		cancel()
		<-ended
	}
	config := Config{CompactAfter: 200, Window: 64}
	ways := 0
	for dieAt := 1; ; dieAt++ {
		finished := false
		for way := range waysToDie {
			disk := newDisk()
			disk.dieAt = dieAt
			var acked [charges]atomic.Bool
			l, err := open(disk, config)
			if err == nil {
				work(l, &acked)
				finished = l.Err() == nil
			} else if !errors.Is(err, errDied) {
				t.Fatal(err)
			}
			after, err := open(disk.survivors(way), config)
			if err != nil {
				t.Fatalf("died at %d (way %d): %v", dieAt, way, err)
			}
			var least, most int64
			for n := range charges {
				most += charge(n).Tokens
				if acked[n].Load() {
					least += charge(n).Tokens
				}
			}
			total := func(l *Ledger) int64 { return l.Client(owner(0)).Used + l.Client(owner(1)).Used }
			if got := total(after); got < least || got > most {
				t.Fatalf("died at %d (way %d): %d tokens survived, %d were acknowledged", dieAt, way, got, least)
			}
			if c, w := total(after), after.Worker(owner(100)).Used+after.Worker(owner(101)).Used; c != w {
				t.Fatalf("died at %d (way %d): clients owe %d, workers earned %d", dieAt, way, c, w)
			}
			var again [charges]atomic.Bool
			work(after, &again)
			if got := total(after); got != most {
				t.Fatalf("died at %d (way %d): after repeating everything %d tokens, %d are right", dieAt, way, got, most)
			}
			ways++
		}
		if finished {
			break
		}
	}
	if ways < 40*waysToDie {
		t.Errorf("the machine died only %d times", ways)
	}
}

// TestBroken checks that a failed write ends all charging.
func TestBroken(t *testing.T) {
	ctx := t.Context()
	disk := newDisk()
	l, err := open(disk, Config{})
	must(t, err)
	disk.dieAt = disk.ops + 2 // the first sync
	r := run(t, l, nil)
	if err := l.Charge(ctx, charge(0)); !errors.Is(err, ErrBroken) {
		t.Errorf("the failed write: %v", err)
	}
	disk.dieAt = 0
	for _, err := range []error{l.Charge(ctx, charge(0)), l.Charge(ctx, charge(1)), l.Confirm(ctx, 0), l.Err()} {
		if !errors.Is(err, ErrBroken) {
			t.Errorf("after the failed write: %v", err)
		}
	}
	if c := l.Client(owner(0)); c.Durable != 0 {
		t.Errorf("%d tokens are called durable", c.Durable)
	}
	if err := r.stop(); !errors.Is(err, ErrBroken) {
		t.Errorf("Run returned %v", err)
	}
}

// TestImpossibleRecords are records that a correct ledger never writes, in
// frames that are intact.
func TestImpossibleRecords(t *testing.T) {
	worker := func(used, committed int64, marks ...markedCount) []byte {
		return appendAccount(nil, recWorker, owner(1), &account{counters: channel.Counters{Used: used, Durable: used, Committed: committed}, marked: marks})
	}
	twice := append(worker(1, 1), worker(1, 1)...)
	full := appendAccount(nil, recClient, owner(1), &account{counters: channel.Counters{Used: math.MaxInt64}})
	for name, c := range map[string]struct {
		record []byte
		newer  bool
	}{
		"unknown kind":              {[]byte{200}, true},
		"cut short":                 {[]byte{recCharge, 1}, false},
		"endless number":            {append([]byte{recMark}, bytes.Repeat([]byte{0xff}, 11)...), false},
		"large number":              {appendUint([]byte{recMark}, 1<<32), false},
		"negative number":           {appendUint(appendAddress([]byte{recPaid}, owner(1)), 1<<63), false},
		"flag of 2":                 {append(appendAddress([]byte{recContract}, owner(1)), 2), false},
		"mark out of order":         {appendUint([]byte{recMark}, 5), false},
		"confirmed before drawn":    {appendUint([]byte{recConfirm}, 5), false},
		"more confirmed than drawn": {appendUint(appendUint([]byte{recMarks}, 1), 2), false},
		"session from the future":   {appendSession(nil, session{first: 9}), false},
		"committed more than used":  {worker(1, 2), false},
		"marked more than used":     {worker(1, 0, markedCount{1, 2}), false},
		"marks that fall":           {worker(9, 0, markedCount{1, 5}, markedCount{2, 4}), false},
		"account twice":             {twice, false},
		"endless marks":             {appendUint(append(appendInt(appendInt(appendAddress([]byte{recWorker}, owner(1)), 1), 0), 0), 1<<31), false},
		"overflow":                  {appendCharge(full, recCharge, charge(0)), false},
		"charge twice":              {appendCharge(appendCharge(nil, recCharge, charge(0)), recCharge, charge(0)), false},
	} {
		disk := newDisk()
		j, err := openJournal(disk, "cocoon ledger 1", cocoon.Address{}, nil, 0, nil, newState(4))
		must(t, err)
		must(t, j.write(append(make([]byte, frameHead), c.record...)))
		_, err = open(disk, Config{})
		var ce *CorruptError
		if c.newer && !errors.Is(err, ErrNewer) || !c.newer && !errors.As(err, &ce) {
			t.Errorf("%s: %v", name, err)
		}
	}
	disk := newDisk()
	j, err := openJournal(disk, "cocoon views 1", cocoon.Address{}, nil, 0, nil, &views{m: map[cocoon.Address]channel.View{}})
	must(t, err)
	long := appendBytes(appendInt(appendAddress([]byte{recView}, owner(1)), 1), make([]byte, maxPayment+1))
	must(t, j.write(append(make([]byte, frameHead), long...)))
	var ce *CorruptError
	if _, err := openViews(disk, Config{}); !errors.As(err, &ce) {
		t.Errorf("an endless payment: %v", err)
	}
}

func TestViews(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	start := func() (*Views, func()) {
		v, err := OpenViews(dir, Config{CompactAfter: 300})
		must(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- v.Run(ctx) }()
		return v, func() {
			cancel()
			must(t, <-ended)
			must(t, v.Close())
		}
	}
	v, stop := start()
	var view channel.View
	for n := range int64(20) {
		var err error
		view, err = view.Hear(channel.Report{Payment: &channel.SignedPayment{Tokens: n, Data: []byte("payment")}, HasCounters: true, Durable: n + 1, Used: n + 2})
		must(t, err)
		must(t, v.PutLimit(ctx, owner(1), 3*n))
		must(t, v.Put(ctx, owner(1), view))
	}
	must(t, v.Put(ctx, owner(2), channel.View{}))
	must(t, v.PutLimit(ctx, owner(4), 0))
	must(t, v.Know(ctx, owner(5)))
	must(t, v.Know(ctx, owner(1))) // which takes nothing away
	if err := v.PutLimit(ctx, owner(1), -1); err == nil {
		t.Error("a negative limit was stored")
	}
	large, err := view.Hear(channel.Report{Payment: &channel.SignedPayment{Tokens: 1000, Data: make([]byte, maxPayment+1)}})
	must(t, err)
	if err := v.Put(ctx, owner(3), large); err == nil {
		t.Error("an endless payment was stored")
	}
	if _, err := OpenViews(dir, Config{}); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
	must(t, v.Err())
	stop()

	v, stop = start()
	defer stop()
	got := v.View(owner(1))
	if got.Heard() != view.Heard() || got.Best().Tokens != 19 || string(got.Best().Data) != "payment" {
		t.Errorf("restored %+v", got)
	}
	if list := v.Contracts(); !slices.Equal(list, []cocoon.Address{owner(1), owner(2), owner(4), owner(5)}) {
		t.Errorf("contracts %v", list)
	}
	if v.View(owner(9)).Heard() != (channel.Counters{}) {
		t.Error("an unknown contract has a view")
	}
	if n, err := v.Limit(owner(1)); err != nil || n != 57 {
		t.Errorf("limit %d, %v", n, err)
	}
	if n, err := v.Limit(owner(4)); err != nil || n != 0 {
		t.Errorf("limit of one that has asked for nothing: %d, %v", n, err)
	}
	if _, err := v.Limit(owner(2)); !errors.Is(err, ErrNotFound) {
		t.Errorf("limit of one that was never counted: %v", err)
	}
}

// TestViewsDeath lets the machine die at every operation on the disk while a
// client writes ahead what its requests can cost: what was acknowledged is the
// least that is there afterwards, for each contract.
func TestViewsDeath(t *testing.T) {
	config := Config{CompactAfter: 200, Window: 64}
	deaths := 0
	for dieAt, finished := 1, false; !finished; dieAt++ {
		for way := range waysToDie {
			disk := newDisk()
			disk.dieAt = dieAt
			var acked [2]int64
			v, err := openViews(disk, config)
			if err == nil {
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan struct{})
				go func() { _ = v.Run(ctx); close(ended) }()
				for n := range int64(20) {
					if c := int(n % 2); v.PutLimit(ctx, owner(c), n+1) == nil {
						acked[c] = n + 1
					}
				}
				cancel()
				<-ended
				finished = v.Err() == nil
			} else if !errors.Is(err, errDied) {
				t.Fatal(err)
			}
			after, err := openViews(disk.survivors(way), config)
			if err != nil {
				t.Fatalf("died at %d (way %d): %v", dieAt, way, err)
			}
			for c, least := range acked {
				if got, err := after.Limit(owner(c)); got < least || err != nil && least > 0 {
					t.Fatalf("died at %d (way %d): a limit of %d, %d was acknowledged (%v)", dieAt, way, got, least, err)
				}
			}
			deaths++
		}
	}
	if deaths < 20*waysToDie {
		t.Errorf("the machine died only %d times", deaths)
	}
}

// FuzzJournal replays records as a frame would hold them, and what they made
// once more from its snapshot.
func FuzzJournal(f *testing.F) {
	s := newState(8)
	s.sessions = []session{{first: 1, hash: [32]byte{1}}}
	for n := range 4 {
		s.charge(charge(n))
		must(f, s.mark(uint32(n+1)))
	}
	must(f, s.confirm(2))
	records := func(t testing.TB, s *state) []byte {
		var out []byte
		must(t, s.snapshot(func(r []byte) error { out = append(out, r...); return nil }))
		return out
	}
	f.Add(records(f, s))
	f.Add(appendCharge(appendCharge(nil, recCharge, charge(1)), recCharge, charge(2)))
	f.Add(appendUint([]byte{recMark}, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newState(8)
		d := &decoder{b: b}
		for d.more() {
			if s.apply(d) != nil || d.err != nil {
				return
			}
		}
		s.flushed()
		first := records(t, s)
		again := newState(8)
		d = &decoder{b: first}
		for d.more() {
			if err := again.apply(d); err != nil {
				t.Fatalf("%v in the snapshot %x", err, first)
			}
		}
		if second := records(t, again); !bytes.Equal(first, second) {
			t.Fatalf("%x became %x", first, second)
		}
	})
}

// FuzzViews does the same for the store of clients and workers.
func FuzzViews(f *testing.F) {
	v, err := channel.View{}.Hear(channel.Report{Payment: &channel.SignedPayment{Tokens: 5, Data: []byte{1}}})
	must(f, err)
	f.Add(appendLimit(appendView(nil, owner(1), v), owner(2), 77))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := newViews()
		d := &decoder{b: b}
		for d.more() {
			if s.apply(d) != nil || d.err != nil {
				return
			}
		}
		var first []byte
		must(t, s.snapshot(func(r []byte) error { first = append(first, r...); return nil }))
		d = &decoder{b: first}
		for d.more() {
			if err := s.apply(d); err != nil {
				t.Fatalf("%v in %x", err, first)
			}
		}
	})
}

// BenchmarkCharge stores charges from many sides at once, as a busy proxy
// does.
func BenchmarkCharge(b *testing.B) {
	l := openDir(b, b.TempDir(), Config{})
	var n atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Charge(b.Context(), charge(int(n.Add(1)))); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSignAndCharge stores a charge and signs the payment for it; next to
// it BenchmarkSign, the bare signature.
func BenchmarkSignAndCharge(b *testing.B) {
	l := openDir(b, b.TempDir(), Config{})
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	var n atomic.Int64
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		hash := make([]byte, 32)
		for pb.Next() {
			if err := l.Charge(b.Context(), charge(int(n.Add(1)))); err != nil {
				b.Fatal(err)
			}
			ed25519.Sign(key, hash)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	defer reportCPU(b)()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		hash := make([]byte, 32)
		for pb.Next() {
			ed25519.Sign(key, hash)
		}
	})
}

// BenchmarkAccounting is all that counting one request costs: the client's
// bound and tally, the proxy's reservation, the worker's price, the charge on
// disk, the end of each, and the worker's credit. Signing is not in it: a
// counter is signed once it is marked, not once a request.
func BenchmarkAccounting(b *testing.B) {
	l := openDir(b, b.TempDir(), Config{})
	m := pricing.Multipliers{Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000}
	open := channel.ClientContract{Open: true, Balance: 1 << 60, Stake: 1 << 60}
	var n atomic.Int64
	var mu sync.Mutex
	var tally channel.Tally
	book, err := channel.NewClientBook(1, open, channel.Counters{})
	must(b, err)
	var worker channel.WorkerBook
	b.SetParallelism(64)
	b.ReportAllocs()
	defer reportCPU(b)()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			bound := pricing.Reserve(500, 200, 4000, m)
			mu.Lock()
			tally = tally.Begin(bound)
			next, err := book.Reserve(bound)
			book = next
			mu.Unlock()
			if err != nil {
				b.Fatal(err)
			}
			cost := m.Adjust(pricing.Usage{Prompt: 100, Completion: 120}, 1000).Total
			c := charge(int(n.Add(1)))
			c.Tokens = cost
			if err := l.Charge(b.Context(), c); err != nil {
				b.Fatal(err)
			}
			mu.Lock()
			book, _, err = book.Settle(bound, cost)
			if err == nil {
				worker, err = worker.Earn(cost)
			}
			tally = tally.End(bound, cost).Hear(book.Counters().Used)
			unexplained := tally.Unexplained()
			mu.Unlock()
			if err != nil || unexplained != 0 {
				b.Fatal(err, unexplained)
			}
		}
	})
}
