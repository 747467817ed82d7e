package audit

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
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

// Store keeps a client's receipts: the newest of them, bounded in number.
type Store struct {
	path   string
	most   int
	unlock func() error

	mu   sync.Mutex
	fr   *frames
	f    *os.File
	list []stored
	last map[cocoon.Address][]byte // newest signed proxy's part by client contract
}

type stored struct {
	id     receipt.Hash
	offset int64
	length int
}

const defaultKept = 20_000

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
	s.f, s.list, s.last = f, nil, map[cocoon.Address][]byte{}
	if s.fr, err = openFrames(s.path, storeUse, f, size, s.apply); err != nil {
		return errors.Join(err, f.Close())
	}
	return nil
}

func (s *Store) apply(payload []byte, at int64) error {
	var k Kept
	if err := json.Unmarshal(payload, &k); err != nil {
		return err
	}
	signed, err := receipt.ParseSigned(k.Proxy)
	if err != nil {
		return err
	}
	p, err := receipt.ParseProxy(signed.Part)
	if err != nil {
		return err
	}
	s.list = append(s.list, stored{k.RequestID, at, len(payload)})
	if old, err := receipt.ParseSigned(s.last[p.Client]); err == nil {
		// Receipts are kept as they come, which is not always the order of their
		// steps.
		if q, err := receipt.ParseProxy(old.Part); err == nil && q.After > p.After {
			return nil
		}
	}
	s.last[p.Client] = k.Proxy
	return nil
}

// Close releases the store.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.f.Close(), s.unlock())
}

// Keep makes a receipt durable.
func (s *Store) Keep(k Kept) error {
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.fr.append(b)
	if err != nil {
		return err
	}
	if err := s.apply(b, at); err != nil {
		return err
	}
	if len(s.list) > 2*s.most {
		return s.compact()
	}
	return nil
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
	for _, x := range s.list[len(s.list)-s.most:] {
		b, err := s.read(x)
		if err == nil {
			_, err = fr.append(b)
		}
		if err != nil {
			return err
		}
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
	name := receipt.Hash(sha256.Sum256(b))
	s.mu.Lock()
	defer s.mu.Unlock()
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
		var k Kept
		b, err := s.read(x)
		if err == nil {
			err = json.Unmarshal(b, &k)
		}
		if err != nil {
			return err
		}
		named[k.WorkerCollateral.String()], named[k.ProxyCollateral.String()] = true, true
	}
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
	return slices.Clone(s.last[client])
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
		var k Kept
		b, err := s.read(x)
		if err == nil {
			err = json.Unmarshal(b, &k)
		}
		return k, err
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
		var k Kept
		b, err := s.read(x)
		if err == nil {
			err = json.Unmarshal(b, &k)
		}
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}
