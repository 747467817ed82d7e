package node

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/role/client"
)

// ErrSuspended is the refusal of a proxy that charged for what nobody asked.
var ErrSuspended = errors.New("this proxy is suspended: what it counts, or what its log says, is not explained")

// suspensions remembers, per network, the proxies that get no more requests,
// by contract key: a redeployed contract is the same proxy.
type suspensions struct {
	path    string
	network string
	worker  bool // whose they are

	mu  sync.Mutex
	all map[string]map[string]client.Suspension // network id, contract key
}

// openSuspensions reads the suspensions of a client's or worker's folder.
func openSuspensions(dir string, networkID [32]byte) (*suspensions, error) {
	s := &suspensions{path: filepath.Join(dir, "suspended.json"), network: hex.EncodeToString(networkID[:]), all: map[string]map[string]client.Suspension{}}
	b, err := readSmall(s.path)
	if err == nil {
		err = json.Unmarshal(b, &s.all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("suspensions: %s cannot be read: %w; restore it, or delete it to use every proxy again", s.path, err)
	}
	return s, nil
}

func (s *suspensions) remedy(key string) string {
	if s.worker {
		return fmt.Sprintf("what it signed for is still paid out, ask its operator for an account; to serve it again, stop this worker, remove %q from %s and start it", key, s.path)
	}
	return fmt.Sprintf("what it charged stays charged, ask its operator for an account; to use it again, stop this client, remove %q from %s and start it", key, s.path)
}

// Check implements client.Suspensions.
func (s *suspensions) Check(contractKey [32]byte) error {
	key := hex.EncodeToString(contractKey[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.all[s.network][key]; ok && e.Fault != "" {
		return fmt.Errorf("%w: %s, since %s; %s", ErrSuspended, e.Fault, e.Since.Format(time.RFC3339), s.remedy(key))
	} else if ok {
		return fmt.Errorf("%w: %d of %d tokens, since %s; %s", ErrSuspended, e.Unexplained, e.Named, e.Since.Format(time.RFC3339), s.remedy(key))
	}
	return nil
}

// Suspended reports whether a proxy is.
func (s *suspensions) Suspended(contractKey [32]byte) bool { return s.Check(contractKey) != nil }

// Suspend implements client.Suspensions.
func (s *suspensions) Suspend(contractKey [32]byte, e client.Suspension) error {
	e.ContractKey, e.Remedy = hex.EncodeToString(contractKey[:]), ""
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := maps.Clone(s.all[s.network])
	if mine == nil {
		mine = map[string]client.Suspension{}
	}
	mine[e.ContractKey] = e
	all := maps.Clone(s.all)
	all[s.network] = mine
	s.all = all // whatever the disk says
	b, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = writeFile(s.path, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("suspensions: %w", err)
	}
	return nil
}

// List implements client.Suspensions, with how to lift each.
func (s *suspensions) List() []client.Suspension {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []client.Suspension
	for _, key := range slices.Sorted(maps.Keys(s.all[s.network])) {
		e := s.all[s.network][key]
		e.ContractKey, e.Remedy = key, s.remedy(key)
		out = append(out, e)
	}
	return out
}
