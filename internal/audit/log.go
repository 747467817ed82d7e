package audit

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
	"github.com/cocoon-network/cocoon/receipt"
)

// What a log answers with besides errors of the disk.
var (
	ErrNotFound = errors.New("the log has no such thing")
	ErrForeign  = errors.New("the log belongs to another network or key")
	ErrNewer    = errors.New("the log was written by a newer version of this software: update it")
	ErrSalt     = errors.New("the salt file is not the one the log's balances were made with")
)

const logUse = "cocoon/audit-log/v1\x00"

// LogConfig says whose log it is.
type LogConfig struct {
	NetworkID   [32]byte
	ContractKey [32]byte
}

// Log is the log of one contract key: an append-only file, the tree over its
// leaves, and the counters that its receipts add up to. It takes some 250 bytes
// of memory a leaf.
type Log struct {
	id     LogConfig
	salt   [32]byte
	unlock func() error

	mu     sync.RWMutex
	fr     *frames
	headed bool // the header was read
	tree   tree
	places []place // of leaves
	byID   map[cocoon.RequestID]uint64
	byLeaf map[receipt.Hash]uint64
	sets   []loggedSet // leaves that are sets, ascending
	nodes  []node      // whose keys sign sets
	chains map[cocoon.Address]link
	books  map[cocoon.Address]*contractBook // by proxy contract
	epochs []Epoch
	trees  [2]*balances // of the newest epoch and the one before
}

// place is where a leaf's signed bytes stand in the file.
type place struct {
	offset int64
	length int32
	kind   receipt.LeafKind
}

// loggedSet is a leaf that is a set.
type loggedSet struct {
	index  uint64
	digest [32]byte
}

// node is a statement of the proxy: by its bundle anybody knows that the node
// key is this contract key's.
type node struct {
	key      [32]byte
	contract cocoon.Address
	at       place
}

// link is the newest step of a client contract's chain.
type link struct {
	digest [32]byte
	after  int64
}

// contractBook is what one proxy contract's receipts add up to.
type contractBook struct {
	taken            uint64 // number of the newest note logged
	clients, workers map[cocoon.Address]uint64
	// old has what clients and workers had at the newest epoch, of those that
	// changed since; older what they had at the epoch before it, of those that
	// changed between the two.
	oldClients, oldWorkers, olderClients, olderWorkers map[cocoon.Address]uint64
}

func newBook() *contractBook {
	m := func() map[cocoon.Address]uint64 { return map[cocoon.Address]uint64{} }
	return &contractBook{clients: m(), workers: m(), oldClients: m(), oldWorkers: m(), olderClients: m(), olderWorkers: m()}
}

// Epoch is one head of the log, as it is anchored.
type Epoch struct {
	Number   uint32       `json:"epoch"`
	Size     uint64       `json:"tree_size"`
	Previous receipt.Hash `json:"previous_log"`
	Log      receipt.Hash `json:"log"`
	Clients  receipt.Hash `json:"client_balances"`
	Workers  receipt.Hash `json:"worker_balances"`
	// Until is the latest block time promised for it, in Unix seconds.
	Until int64 `json:"promised_until"`
	// Anchored is the masterchain block in which it was seen on chain; 0 = not
	// yet.
	Anchored uint32 `json:"anchored_in,omitempty"`
}

// OpenLog opens the log of a contract key below dir, locked against other
// processes. Errors are *CorruptError, ledger.ErrLocked, ErrForeign, ErrSalt or of
// the file system.
func OpenLog(dir string, c LogConfig) (*Log, error) {
	dir = filepath.Join(dir, hex.EncodeToString(c.ContractKey[:]))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	unlock, err := ledger.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("audit log %s: %w", dir, err)
	}
	salt, err := saltFile(filepath.Join(dir, "salt"))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log: %w", err), unlock())
	}
	path := filepath.Join(dir, "log")
	f, size, err := openFile(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log: %w", err), unlock())
	}
	l, err := openLog(path, f, size, c, salt)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("audit log: %w", err), f.Close(), unlock())
	}
	l.unlock = unlock
	return l, nil
}

// saltFile returns the secret that salts balances; it is made when it is
// first needed.
func saltFile(path string) (salt [32]byte, err error) {
	b, err := os.ReadFile(path)
	if err == nil {
		raw, err := hex.DecodeString(string(bytes.TrimSpace(b)))
		if err != nil || len(raw) != 32 {
			return salt, fmt.Errorf("%s is not 64 hex digits: put back an intact copy", path)
		}
		return [32]byte(raw), nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return salt, err
	}
	if _, err := rand.Read(salt[:]); err != nil {
		return salt, err
	}
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return salt, err
	}
	_, err = f.WriteString(hex.EncodeToString(salt[:]) + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		if err = os.Rename(tmp, path); err == nil {
			err = syncDirs(filepath.Dir(path))
		}
	}
	return salt, err
}

func openLog(name string, f file, size int64, c LogConfig, salt [32]byte) (*Log, error) {
	l := &Log{id: c, salt: salt, byID: map[cocoon.RequestID]uint64{}, byLeaf: map[receipt.Hash]uint64{}, chains: map[cocoon.Address]link{}, books: map[cocoon.Address]*contractBook{}}
	var foreign error
	fr, err := openFrames(name, logUse, f, size, func(payload []byte, at int64) error {
		err := l.apply(payload, at)
		if errors.Is(err, ErrForeign) || errors.Is(err, ErrNewer) {
			foreign = err
		}
		return err
	})
	switch {
	case foreign != nil:
		return nil, fmt.Errorf("%s: %w", name, foreign)
	case err != nil:
		return nil, err
	}
	l.fr = fr
	if fr.next == 0 {
		b := append([]byte{recHeader, 1}, c.NetworkID[:]...)
		if err := l.write(append(b, c.ContractKey[:]...)); err != nil {
			return nil, err
		}
	}
	for back := range min(len(l.epochs), len(l.trees)) {
		e := l.epochs[len(l.epochs)-1-back]
		t, err := l.balancesAt(e.Number, back+1)
		if err != nil {
			return nil, err
		}
		if t.clientsRoot != e.Clients || t.workersRoot != e.Workers {
			return nil, fmt.Errorf("%s: %w", name, ErrSalt)
		}
		l.trees[back] = t
	}
	return l, nil
}

// Close releases the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.fr.f.Close()
	if l.unlock != nil {
		err = errors.Join(err, l.unlock())
	}
	return err
}

// Err returns the error that broke the log, or nil.
func (l *Log) Err() error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.fr.err
}

// write makes records durable and applies them. The lock is held, or nobody
// else has the log yet.
func (l *Log) write(payload []byte) error {
	at, err := l.fr.append(payload)
	if err != nil {
		return err
	}
	return l.apply(payload, at)
}

// apply takes in the records of a frame whose payload stands at an offset.
func (l *Log) apply(payload []byte, at int64) error {
	d := &fields{b: payload, at: at}
	for d.err == nil && len(d.b) > 0 {
		kind := d.u8()
		if (kind == recHeader) == l.headed {
			return fmt.Errorf("record %d out of place", kind)
		}
		l.headed = true
		if err := l.record(kind, d); err != nil {
			return err
		}
	}
	return d.err
}

func (l *Log) record(kind byte, d *fields) error {
	switch kind {
	case recHeader:
		if d.u8() != 1 {
			return ErrNewer
		}
		if network, key := d.hash(), d.hash(); d.err == nil && (network != l.id.NetworkID || key != l.id.ContractKey) {
			return ErrForeign
		}
	case recOpening:
		contract := d.address()
		if l.books[contract] != nil {
			return errors.New("a contract that opens twice")
		}
		b := newBook()
		for range d.uint() {
			side, party, n := d.u8(), d.address(), d.uint()
			if d.err != nil || side > 1 || n > math.MaxInt64 {
				return errRecord
			}
			if side == 0 {
				b.clients[party], b.oldClients[party] = n, 0
			} else {
				b.workers[party], b.oldWorkers[party] = n, 0
			}
		}
		l.books[contract] = b
	case recReceipt:
		contract, number, worker, earned, signed := d.address(), d.uint(), d.address(), d.uint(), []byte(nil)
		n := d.uint()
		where := d.at
		signed = d.take(n)
		if d.err != nil {
			return d.err
		}
		s, err := receipt.ParseSigned(signed)
		if err != nil {
			return err
		}
		p, err := receipt.ParseProxy(s.Part)
		if err != nil {
			return err
		}
		b := l.books[contract]
		if b == nil || p.Contract != contract || number != b.taken+1 || l.chains[p.Client].digest != p.Previous {
			return errors.New("a receipt that does not follow the one before it")
		}
		b.taken = number
		set(b.clients, b.oldClients, p.Client, uint64(p.After))
		set(b.workers, b.oldWorkers, worker, earned)
		digest := s.Digest()
		l.chains[p.Client] = link{digest, p.After}
		l.byID[p.RequestID] = l.tree.size()
		l.leaf(receipt.LeafReceipt, digest, place{where, int32(len(signed)), receipt.LeafReceipt})
	case recSet:
		digest, n := d.hash(), d.uint()
		where := d.at
		if b := d.take(n); d.err == nil {
			l.sets = append(l.sets, loggedSet{l.tree.size(), digest})
			l.leaf(receipt.LeafSet, digest, place{where, int32(len(b)), receipt.LeafSet})
		}
	case recNode:
		n := node{key: d.hash(), contract: d.address()}
		size := d.uint()
		n.at = place{offset: d.at}
		if b := d.take(size); d.err == nil {
			n.at.length = int32(len(b))
			l.nodes = append(l.nodes, n)
		}
	case recEpoch:
		e := Epoch{Number: uint32(d.uint()), Size: d.uint(), Previous: d.hash(), Log: d.hash(), Clients: d.hash(), Workers: d.hash(), Until: int64(d.uint())}
		if d.err != nil {
			return d.err
		}
		last := l.newest()
		if e.Number != last.Number+1 || e.Previous != last.Log || e.Size != l.tree.size() || e.Log != l.tree.root(e.Size) {
			return fmt.Errorf("epoch %d does not follow", e.Number)
		}
		l.epochs = append(l.epochs, e)
		for _, b := range l.books {
			b.oldClients, b.olderClients = b.olderClients, b.oldClients
			b.oldWorkers, b.olderWorkers = b.olderWorkers, b.oldWorkers
			clear(b.oldClients)
			clear(b.oldWorkers)
		}
	case recAnchored:
		number, seqno := d.uint(), d.uint()
		if n := len(l.epochs); d.err == nil {
			if n == 0 || uint64(l.epochs[n-1].Number) != number {
				return fmt.Errorf("epoch %d was never prepared", number)
			}
			l.epochs[n-1].Anchored = uint32(seqno)
		}
	default:
		return ErrNewer
	}
	return d.err
}

func (l *Log) leaf(kind receipt.LeafKind, digest [32]byte, at place) {
	h := receipt.LeafHash(kind, digest)
	l.byLeaf[h] = l.tree.size()
	l.tree.append(h)
	l.places = append(l.places, at)
}

// set changes a counter and keeps what it was at the newest epoch.
func set(now, old map[cocoon.Address]uint64, party cocoon.Address, n uint64) {
	if _, kept := old[party]; !kept {
		old[party] = now[party]
	}
	now[party] = n
}

// newest is the newest epoch; before the first, the empty one.
func (l *Log) newest() Epoch {
	if n := len(l.epochs); n > 0 {
		return l.epochs[n-1]
	}
	return Epoch{} // the anchor begins with a log root of zeros
}

// Opened reports whether a proxy contract's counters were written down, and the
// number of the newest note that is logged.
func (l *Log) Opened(contract cocoon.Address) (taken uint64, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	b, ok := l.books[contract]
	if !ok {
		return 0, false
	}
	return b.taken, true
}

// Open writes down the counters of a proxy contract's clients and workers, by
// their contracts, as they are before its first note.
func (l *Log) Open(contract cocoon.Address, clients, workers map[cocoon.Address]int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.books[contract] != nil {
		return nil
	}
	b := putUint(putAddress([]byte{recOpening}, contract), uint64(len(clients)+len(workers)))
	for side, m := range []map[cocoon.Address]int64{clients, workers} {
		for _, party := range slices.SortedFunc(maps.Keys(m), compareAddresses) {
			b = putUint(putAddress(append(b, byte(side)), party), uint64(m[party]))
		}
	}
	return l.write(b)
}

func compareAddresses(a, b cocoon.Address) int {
	return cmp.Or(cmp.Compare(a.Workchain, b.Workchain), bytes.Compare(a.Hash[:], b.Hash[:]))
}

// Entry is a receipt on its way into the log.
type Entry struct {
	Number uint64         // of the ledger's note
	Worker cocoon.Address // the worker's contract
	Earned int64          // its counter afterwards
	Signed []byte         // the proxy's part
}

// appendEntries makes receipts of one proxy contract durable, all or none. The
// lock is held.
func (l *Log) appendEntries(contract cocoon.Address, entries []Entry) error {
	var b []byte
	for _, e := range entries {
		b = putUint(putAddress(append(b, recReceipt), contract), e.Number)
		b = putBytes(putUint(putAddress(b, e.Worker), uint64(e.Earned)), e.Signed)
	}
	return l.write(b)
}

// AppendSet makes a signed set of workers durable as a leaf, named by digest.
func (l *Log) AppendSet(digest [32]byte, signed []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.write(putBytes(append([]byte{recSet}, digest[:]...), signed))
}

// Prepare makes the head of the log as it is now the next epoch, durable
// before it can be sent anywhere. There must be no earlier one on its way.
func (l *Log) Prepare(until time.Time) (Epoch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.newest()
	if last.Number > 0 && last.Anchored == 0 {
		return Epoch{}, fmt.Errorf("epoch %d is still on its way", last.Number)
	}
	e := Epoch{Number: last.Number + 1, Size: l.tree.size(), Previous: last.Log, Until: until.Unix()}
	e.Log = l.tree.root(e.Size)
	t, err := l.balancesAt(e.Number, 0)
	if err != nil {
		return Epoch{}, err
	}
	e.Clients, e.Workers = t.clientsRoot, t.workersRoot
	b := putUint(putUint([]byte{recEpoch}, uint64(e.Number)), e.Size)
	for _, h := range []receipt.Hash{e.Previous, e.Log, e.Clients, e.Workers} {
		b = append(b, h[:]...)
	}
	if err := l.write(putUint(b, uint64(e.Until))); err != nil {
		return Epoch{}, err
	}
	l.trees[1], l.trees[0] = l.trees[0], t
	return e, nil
}

// Anchored notes that the newest epoch was seen on chain in a block.
func (l *Log) Anchored(epoch, seqno uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.newest(); e.Number != epoch || e.Anchored != 0 {
		return nil
	}
	return l.write(putUint(putUint([]byte{recAnchored}, uint64(epoch)), uint64(seqno)))
}

// State is a log's size and newest epoch.
type State struct {
	Size  uint64       `json:"size"`
	Root  receipt.Hash `json:"root"`
	Epoch Epoch        `json:"epoch"`
}

// State returns the log as it is now.
func (l *Log) State() State {
	l.mu.RLock()
	defer l.mu.RUnlock()
	n := l.tree.size()
	return State{n, l.tree.root(n), l.newest()}
}

// Epochs returns up to most epochs from number first on.
func (l *Log) Epochs(first uint32, most int) []Epoch {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i := min(max(int(first)-1, 0), len(l.epochs))
	return slices.Clone(l.epochs[i:min(i+most, len(l.epochs))])
}

// Inclusion is the proof that a leaf stands in a log of a size.
type Inclusion struct {
	Index uint64         `json:"index"`
	Size  uint64         `json:"size"`
	Proof []receipt.Hash `json:"proof"`
}

// Receipt returns the proxy's part of a request and its place in the log.
func (l *Log) Receipt(id cocoon.RequestID) (signed []byte, index uint64, err error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	index, ok := l.byID[id]
	if !ok {
		return nil, 0, fmt.Errorf("%w: no receipt %s", ErrNotFound, id)
	}
	signed, err = l.read(index)
	return signed, index, err
}

func (l *Log) read(index uint64) ([]byte, error) { return l.readAt(l.places[index]) }

func (l *Log) readAt(p place) ([]byte, error) {
	b := make([]byte, p.length)
	_, err := l.fr.f.ReadAt(b, p.offset)
	return b, err
}

// ID says whose log it is.
func (l *Log) ID() LogConfig { return l.id }

// LastSet returns the newest set.
func (l *Log) LastSet() (signed []byte, ok bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.sets) == 0 {
		return nil, false
	}
	b, err := l.read(l.sets[len(l.sets)-1].index)
	return b, err == nil
}

// Find proves a leaf by its hash in the first size leaves.
func (l *Log) Find(leaf receipt.Hash, size uint64) (Inclusion, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	index, ok := l.byLeaf[leaf]
	if !ok {
		return Inclusion{}, fmt.Errorf("%w: no leaf %s", ErrNotFound, leaf)
	}
	proof, err := l.tree.inclusion(index, size)
	return Inclusion{index, size, proof}, err
}

// Inclusion proves leaf index in the first size leaves.
func (l *Log) Inclusion(index, size uint64) (Inclusion, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	proof, err := l.tree.inclusion(index, size)
	return Inclusion{index, size, proof}, err
}

// Consistency proves that the log only grew between two sizes.
func (l *Log) Consistency(first, second uint64) ([]receipt.Hash, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.tree.consistency(first, second)
}

// LoggedSet is a set of workers in the log.
type LoggedSet struct {
	Index  uint64 `json:"index"`
	Signed []byte `json:"signed"`
}

// pageBytes bounds what one page reads of the log.
const pageBytes = 2 << 20

// Sets returns up to most sets from leaf first on.
func (l *Log) Sets(first uint64, most int) ([]LoggedSet, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	i, _ := slices.BinarySearchFunc(l.sets, first, func(s loggedSet, n uint64) int { return cmp.Compare(s.index, n) })
	out := []LoggedSet{}
	size := 0
	for _, s := range l.sets[i:min(i+most, len(l.sets))] {
		if size += int(l.places[s.index].length); size > pageBytes && len(out) > 0 {
			break
		}
		b, err := l.read(s.index)
		if err != nil {
			return nil, err
		}
		out = append(out, LoggedSet{s.index, b})
	}
	return out, nil
}

// LoggedLeaf is what a leaf's hash is made of.
type LoggedLeaf struct {
	Kind   receipt.LeafKind `json:"kind"`
	Digest receipt.Hash     `json:"digest"`
}

// Leaves returns up to most leaves from number first on: by all of them anybody
// makes the root anew, and sees that no set is kept back.
func (l *Log) Leaves(first uint64, most int) ([]LoggedLeaf, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	first = min(first, uint64(len(l.places)))
	i, _ := slices.BinarySearchFunc(l.sets, first, func(s loggedSet, n uint64) int { return cmp.Compare(s.index, n) })
	out := []LoggedLeaf{}
	for index := first; index < uint64(len(l.places)) && len(out) < most; index++ {
		leaf := LoggedLeaf{Kind: l.places[index].kind}
		if leaf.Kind == receipt.LeafSet {
			leaf.Digest = l.sets[i].digest
			i++
		} else {
			b, err := l.read(index)
			if err != nil {
				return nil, err
			}
			signed, err := receipt.ParseSigned(b)
			if err != nil {
				return nil, err
			}
			leaf.Digest = signed.Digest()
		}
		out = append(out, leaf)
	}
	return out, nil
}

// AppendNode keeps, durable, a statement with its evidence whose node key signs
// sets of a proxy contract; once for each key and contract.
func (l *Log) AppendNode(key [32]byte, contract cocoon.Address, bundle []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range slices.Backward(l.nodes) {
		if n.key == key && n.contract == contract {
			return nil
		}
	}
	return l.write(putBytes(putAddress(append([]byte{recNode}, key[:]...), contract), bundle))
}

// Nodes returns up to most of the statements of AppendNode, as bundles, from
// number first on.
func (l *Log) Nodes(first uint64, most int) ([][]byte, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	out := [][]byte{}
	size := 0
	for _, n := range l.nodes[min(first, uint64(len(l.nodes))):] {
		if size += int(n.at.length); len(out) == most || size > pageBytes && len(out) > 0 {
			break
		}
		b, err := l.readAt(n.at)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}
