package node

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// The refusals of a proxy that is not the one known at its endpoint.
var (
	ErrDowngrade = errors.New("this proxy spoke level 1 before and speaks level 0 now: somebody stands between, or an old program was put back")
	ErrPin       = errors.New("another proxy answers at this endpoint than before")
)

// pins remembers, per network, who the proxies at known endpoints are, so that
// one genuine node cannot pass for another (docs/protocol.md, pins). It is
// written before the first secret goes out.
type pins struct {
	path    string
	network string // the network's id in hex

	mu  sync.Mutex
	all map[string]map[string]pin // network id, endpoint
}

// pin is what is known of one endpoint.
type pin struct {
	ContractKey string         `json:"contract_key"`
	Owner       cocoon.Address `json:"owner"`
	Level       int            `json:"level"`
}

// maxPins bounds the endpoints of one network.
const maxPins = 4096

// openPins reads the pins of a client's folder.
func openPins(dir string, networkID [32]byte) (*pins, error) {
	p := &pins{path: filepath.Join(dir, "pins.json"), network: hex.EncodeToString(networkID[:]), all: map[string]map[string]pin{}}
	b, err := readSmall(p.path)
	if err == nil {
		err = json.Unmarshal(b, &p.all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("pins: %s cannot be read: %w; restore it, or delete it to trust proxies on first contact again", p.path, err)
	}
	return p, nil
}

// admit judges a connection before a byte is said on it.
func (p *pins) admit(peer tee.Peer) error {
	p.mu.Lock()
	known, ok := p.all[p.network][peer.Addr]
	p.mu.Unlock()
	switch {
	case !ok:
		return nil
	case peer.Level < known.Level:
		return fmt.Errorf("%w; if it really went back, %s", ErrDowngrade, p.remedy(peer.Addr))
	case peer.Node == nil:
		return nil // who it is comes with its handshake: confirm
	}
	return p.compare(peer.Addr, known, peer.Node, peer.Node.ContractKey, peer.Node.Owner)
}

// compare demands the pinned key and owner, or a key that the pinned one named
// its successor.
func (p *pins) compare(endpoint string, known pin, n *tee.Node, key [32]byte, owner cocoon.Address) error {
	if known.Owner == owner {
		if known.ContractKey == hex.EncodeToString(key[:]) {
			return nil
		}
		if n != nil && n.Predecessor != [32]byte{} && known.ContractKey == hex.EncodeToString(n.Predecessor[:]) {
			return nil
		}
	}
	return fmt.Errorf("%w: contract key %s of owner %s is known, key %x of owner %s shows itself, and no signature of the old key names the new one; if the proxy's operator confirms the change, %s",
		ErrPin, known.ContractKey, known.Owner, key, owner, p.remedy(endpoint))
}

func (p *pins) remedy(endpoint string) string {
	return fmt.Sprintf("stop this client and remove %q from %s", endpoint, p.path)
}

// confirm judges what a proxy's handshake says, before anything is logged in,
// and remembers it.
func (p *pins) confirm(peer tee.Peer, id role.ProxyIdentity) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.all[p.network][peer.Addr]
	if ok {
		if err := p.compare(peer.Addr, known, peer.Node, id.Key, id.Owner); err != nil {
			return err
		}
	}
	is := pin{ContractKey: hex.EncodeToString(id.Key[:]), Owner: id.Owner, Level: max(peer.Level, known.Level)}
	if ok && known == is {
		return nil
	}
	if !ok && len(p.all[p.network]) >= maxPins {
		return fmt.Errorf("pins: %s holds %d endpoints already: remove those that are gone", p.path, maxPins)
	}
	mine := map[string]pin{}
	for k, v := range p.all[p.network] {
		mine[k] = v
	}
	mine[peer.Addr] = is
	all := map[string]map[string]pin{}
	for k, v := range p.all {
		all[k] = v
	}
	all[p.network] = mine
	b, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = writeFile(p.path, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	p.all = all
	return nil
}
