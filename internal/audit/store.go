package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/ledger"
	"github.com/cocoon-network/cocoon/receipt"
)

const storeUse = "cocoon/receipts/v1\x00"

// Kept is one receipt as a client keeps it: what was signed, and the salts by
// which either half can be shown. Neither request nor answer is in it.
type Kept struct {
	RequestID receipt.Hash `json:"request_id"`
	// Received is this machine's clock.
	Received time.Time `json:"received_claimed"`
	Sealed   bool      `json:"sealed"`
	// Simulated says that no hardware stands behind the evidence.
	Simulated    bool         `json:"simulated"`
	Worker       []byte       `json:"worker_part,omitempty"` // signed
	Proxy        []byte       `json:"proxy_part"`            // signed
	RequestSalt  receipt.Hash `json:"request_salt"`
	AnswerSalt   receipt.Hash `json:"answer_salt"`
	WorkerBundle []byte       `json:"worker_bundle,omitempty"`
	ProxyBundle  []byte       `json:"proxy_bundle,omitempty"`
	// WorkerCollateral and ProxyCollateral name what vendors said of the two
	// machines then: Store.Collateral has it.
	WorkerCollateral receipt.Hash `json:"worker_collateral,omitzero"`
	ProxyCollateral  receipt.Hash `json:"proxy_collateral,omitzero"`
}

// kept is a receipt as the file has it. A statement with its evidence serves
// thousands of receipts, so it stands beside the file, once, under its hash;
// files of earlier versions have it in each receipt.
type kept struct {
	Kept
	WorkerBundleName receipt.Hash `json:"worker_bundle_name,omitzero"`
	ProxyBundleName  receipt.Hash `json:"proxy_bundle_name,omitzero"`
}

// Store keeps a client's receipts: the newest of them, bounded in number.
type Store struct {
	path   string
	most   int
	unlock func() error

	queue   sync.Mutex // of waiting and writing
	waiting []*keeping
	writing bool // somebody writes what waits

	mu      sync.Mutex
	fr      *frames
	f       *os.File
	list    []stored
	last    map[cocoon.Address]newest
	bundles []bundle // that were put lately
}

// keeping is a receipt on its way to the disk.
type keeping struct {
	k    Kept
	part *receipt.ProxyPart
	err  error
	done chan struct{}
}

type stored struct {
	id     receipt.Hash
	offset int64
	length int
}

// newest is the newest step of a client contract's chain.
type newest struct {
	after  int64
	signed []byte
}

// bundle is one that stands on disk under its name.
type bundle struct {
	b    []byte
	name receipt.Hash
}

const (
	defaultKept = 20_000
	// maxKeeping bounds the receipts of one write, maxBundles the bundles whose
	// names are remembered.
	maxKeeping = 256
	maxBundles = 16
)

// OpenStore opens the receipts in dir, locked against other processes. most
// bounds how many are kept: 0 = 20,000.
func OpenStore(dir string, most int) (*Store, error) {
	if most == 0 {
		most = defaultKept
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("receipts: %w", err)
	}
	unlock, err := ledger.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return nil, fmt.Errorf("receipts %s: %w", dir, err)
	}
	s := &Store{path: filepath.Join(dir, "receipts"), most: most, unlock: unlock}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("receipts: %w", err), unlock())
	}
	return s, nil
}

// load reads the file; the lock is held or nobody else has the store yet.
func (s *Store) load() error {
	f, size, err := openFile(s.path)
	if err != nil {
		return err
	}
	s.f, s.list, s.last = f, nil, map[cocoon.Address]newest{}
	if s.fr, err = openFrames(s.path, storeUse, f, size, s.apply); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

// apply takes in the receipts of a frame, which stand one behind the other.
func (s *Store) apply(payload []byte, at int64) error {
	for d := json.NewDecoder(bytes.NewReader(payload)); ; {
		from := d.InputOffset()
		var k kept
		if err := d.Decode(&k); err == io.EOF && from > 0 {
			return nil
		} else if err != nil {
			return err
		}
		p, err := proxyPart(&k.Kept)
		if err != nil {
			return err
		}
		s.note(&k.Kept, p, at+from, int(d.InputOffset()-from))
	}
}

func proxyPart(k *Kept) (*receipt.ProxyPart, error) {
	signed, err := receipt.ParseSigned(k.Proxy)
	if err != nil {
		return nil, err
	}
	return receipt.ParseProxy(signed.Part)
}

// note notes a receipt that stands in the file.
func (s *Store) note(k *Kept, p *receipt.ProxyPart, at int64, length int) {
	s.list = append(s.list, stored{k.RequestID, at, length})
	// Receipts are kept as they come, which is not always the order of their
	// steps.
	if last, ok := s.last[p.Client]; !ok || p.After >= last.after {
		s.last[p.Client] = newest{p.After, k.Proxy}
	}
}

// Close releases the store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.f.Close(), s.unlock())
}

// Keep returns once a receipt is durable. Those that come together are written
// together, with one wait for the disk.
func (s *Store) Keep(k Kept) error {
	part, err := proxyPart(&k)
	if err != nil {
		return err
	}
	x := &keeping{k: k, part: part, done: make(chan struct{})}
	s.queue.Lock()
	s.waiting = append(s.waiting, x)
	write := !s.writing
	s.writing = true
	s.queue.Unlock()
	if write {
		s.write()
	}
	<-x.done
	return x.err
}

// write writes what waits until nothing does.
func (s *Store) write() {
	for {
		s.queue.Lock()
		group := s.waiting[:min(len(s.waiting), maxKeeping)]
		s.waiting = s.waiting[len(group):]
		s.writing = len(group) > 0
		s.queue.Unlock()
		if len(group) == 0 {
			return
		}
		s.mu.Lock()
		s.keep(group)
		s.mu.Unlock()
		for _, x := range group {
			close(x.done)
		}
	}
}

// keep makes a group durable, or each of it fail; the lock is held.
func (s *Store) keep(group []*keeping) {
	var payload []byte
	written, ends := group[:0:0], []int(nil)
	for _, x := range group {
		var b []byte
		if b, x.err = s.encode(x.k); x.err == nil {
			payload = append(payload, b...)
			written, ends = append(written, x), append(ends, len(payload))
		}
	}
	if len(written) == 0 {
		return
	}
	at, err := s.fr.append(payload)
	from := 0
	for i, x := range written {
		if x.err = err; err == nil {
			s.note(&x.k, x.part, at+int64(from), ends[i]-from)
		}
		from = ends[i]
	}
	if err == nil && len(s.list) > 2*s.most {
		if err := s.compact(); err != nil {
			for _, x := range written {
				x.err = err
			}
		}
	}
}

// encode returns a receipt as the file has it, its bundles in their own files.
func (s *Store) encode(k Kept) ([]byte, error) {
	out := kept{Kept: k}
	var err error
	if out.WorkerBundleName, err = s.putBundle(k.WorkerBundle); err != nil {
		return nil, err
	}
	if out.ProxyBundleName, err = s.putBundle(k.ProxyBundle); err != nil {
		return nil, err
	}
	out.WorkerBundle, out.ProxyBundle = nil, nil
	return json.Marshal(out)
}

// putBundle keeps a bundle once and names it; the lock is held. It mostly is
// one of the last few.
func (s *Store) putBundle(b []byte) (receipt.Hash, error) {
	if len(b) == 0 {
		return receipt.Hash{}, nil
	}
	for _, known := range s.bundles {
		if bytes.Equal(known.b, b) {
			return known.name, nil
		}
	}
	name, err := s.put(b)
	if err != nil {
		return name, err
	}
	if len(s.bundles) == maxBundles {
		s.bundles = s.bundles[1:]
	}
	s.bundles = append(s.bundles, bundle{slices.Clone(b), name})
	return name, nil
}

// decode reads a receipt of the file, with its bundles; the lock is held.
func (s *Store) decode(x stored) (Kept, error) {
	b, err := s.read(x)
	if err != nil {
		return Kept{}, err
	}
	var k kept
	if err := json.Unmarshal(b, &k); err != nil {
		return Kept{}, err
	}
	// One that is gone is missing in the receipt, and its verification says so.
	if k.WorkerBundleName != (receipt.Hash{}) {
		k.WorkerBundle, _ = s.Collateral(k.WorkerBundleName)
	}
	if k.ProxyBundleName != (receipt.Hash{}) {
		k.ProxyBundle, _ = s.Collateral(k.ProxyBundleName)
	}
	return k.Kept, nil
}

// compact keeps the newest ones only, in a file that takes the old one's name
// when it is durable.
func (s *Store) compact() error {
	tmp := s.path + ".new"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, _, err := openFile(tmp)
	if err != nil {
		return err
	}
	defer f.Close()
	fr := &frames{name: tmp, use: storeUse, f: f}
	for kept := s.list[len(s.list)-s.most:]; len(kept) > 0; {
		var payload []byte
		n := 0
		for ; n < len(kept) && n < maxKeeping && len(payload) < maxFrame/4; n++ {
			b, err := s.read(kept[n])
			if err != nil {
				return err
			}
			payload = append(payload, b...)
		}
		if _, err := fr.append(payload); err != nil {
			return err
		}
		kept = kept[n:]
	}
	if err := errors.Join(os.Rename(tmp, s.path), syncDirs(filepath.Dir(s.path)), s.f.Close()); err != nil {
		return err
	}
	if err := s.load(); err != nil {
		return err
	}
	return s.dropCollateral()
}

// PutCollateral keeps vendors' statements, durable, and returns their name:
// equal ones are kept once, for as long as a receipt names them.
func (s *Store) PutCollateral(b []byte) (receipt.Hash, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.put(b)
}

// put keeps bytes under their hash; the lock is held.
func (s *Store) put(b []byte) (receipt.Hash, error) {
	name := receipt.Hash(sha256.Sum256(b))
	dir := s.collateral()
	path := filepath.Join(dir, name.String())
	if _, err := os.Stat(path); err == nil {
		return name, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return name, err
	}
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return name, err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		if err = os.Rename(path+".new", path); err == nil {
			err = syncDirs(dir)
		}
	}
	return name, err
}

// Collateral returns what PutCollateral kept: ErrNotFound if it is gone, or
// was never had.
func (s *Store) Collateral(name receipt.Hash) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(s.collateral(), name.String()))
	if err != nil || receipt.Hash(sha256.Sum256(b)) != name {
		return nil, fmt.Errorf("%w: no collateral %s", ErrNotFound, name)
	}
	return b, nil
}

func (s *Store) collateral() string { return filepath.Join(filepath.Dir(s.path), "collateral") }

// dropCollateral removes what no receipt names any more.
func (s *Store) dropCollateral() error {
	named := map[string]bool{}
	for _, x := range s.list {
		var k kept
		b, err := s.read(x)
		if err == nil {
			err = json.Unmarshal(b, &k)
		}
		if err != nil {
			return err
		}
		for _, name := range []receipt.Hash{k.WorkerCollateral, k.ProxyCollateral, k.WorkerBundleName, k.ProxyBundleName} {
			named[name.String()] = true
		}
	}
	s.bundles = nil // what is dropped is put anew
	all, err := os.ReadDir(s.collateral())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// What was put a moment ago may have its receipt still to come.
	before := time.Now().Add(-time.Hour)
	for _, f := range all {
		if i, err := f.Info(); err == nil && !named[f.Name()] && i.ModTime().Before(before) {
			if err := os.Remove(filepath.Join(s.collateral(), f.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) read(x stored) ([]byte, error) {
	b := make([]byte, x.length)
	_, err := s.f.ReadAt(b, x.offset)
	return b, err
}

// Last returns the newest proxy's part, signed, of a client contract's chain;
// nil if there is none.
func (s *Store) Last(client cocoon.Address) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.last[client].signed)
}

// Find returns the receipt whose id begins with prefix, which must be one:
// ErrNotFound otherwise.
func (s *Store) Find(prefix string) (Kept, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range slices.Backward(s.list) {
		if len(prefix) < 8 || !strings.HasPrefix(x.id.String(), prefix) {
			continue
		}
		return s.decode(x)
	}
	return Kept{}, fmt.Errorf("%w: no receipt %q is kept here (ids of at least 8 digits)", ErrNotFound, prefix)
}

// List returns up to most receipts, newest first.
func (s *Store) List(most int) ([]Kept, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Kept{}
	for _, x := range slices.Backward(s.list) {
		if len(out) == most {
			break
		}
		k, err := s.decode(x)
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}
