package bindings

import (
	"fmt"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// State is the life of a client, worker or proxy contract. Workers are never
// Closing.
type State uint8

// The states (spec contracts 2.5).
const (
	Open State = iota
	Closing
	Closed
)

func (s State) String() string {
	switch s {
	case Open:
		return "open"
	case Closing:
		return "closing"
	case Closed:
		return "closed"
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// ProxyStorage is the data of a proxy contract (spec contracts 5.1).
type ProxyStorage struct {
	Owner    cocoon.Address
	Key      [32]byte
	Root     cocoon.Address
	State    State
	Earnings coins.Nano // the owner may withdraw
	Stake    coins.Nano
	UnlockAt uint32 // Unix time, 0 unless closing
	Params   registry.Params
}

func (s *ProxyStorage) fields(c codec) {
	c.addr(&s.Owner)
	c.hash(&s.Key)
	c.addr(&s.Root)
	c.state(&s.State)
	c.coins(&s.Earnings)
	c.coins(&s.Stake)
	c.u32(&s.UnlockAt)
	c.params(&s.Params, ChildCodes)
}

// ClientStorage is the data of a client contract (spec contracts 6.1).
type ClientStorage struct {
	State      State
	Balance    coins.Nano // deposits less charges
	Stake      coins.Nano // what of it may not be withdrawn while open
	Tokens     uint64     // charged so far
	UnlockAt   uint32     // Unix time
	SecretHash [32]byte
	Owner      cocoon.Address
	Proxy      cocoon.Address
	ProxyKey   [32]byte
	Params     registry.Params
}

func (s *ClientStorage) fields(c codec) {
	c.state(&s.State)
	c.coins(&s.Balance)
	c.coins(&s.Stake)
	c.u64(&s.Tokens)
	c.u32(&s.UnlockAt)
	c.hash(&s.SecretHash)
	c.child(func(c codec) {
		c.addr(&s.Owner)
		c.addr(&s.Proxy)
		c.hash(&s.ProxyKey)
	})
	c.params(&s.Params, NoCodes)
}

// WorkerStorage is the data of a worker contract (spec contracts 7.1).
type WorkerStorage struct {
	Owner    cocoon.Address
	Proxy    cocoon.Address
	ProxyKey [32]byte
	State    State
	Tokens   uint64 // paid so far
	Params   registry.Params
}

func (s *WorkerStorage) fields(c codec) {
	c.addr(&s.Owner)
	c.addr(&s.Proxy)
	c.hash(&s.ProxyKey)
	c.state(&s.State)
	c.u64(&s.Tokens)
	c.params(&s.Params, NoCodes)
}

// WalletStorage is the data of a node wallet (spec contracts 8.1).
type WalletStorage struct {
	Seqno     uint32
	Subwallet uint32
	Key       [32]byte
	Status    uint32 // bit 0: blocked
	Owner     cocoon.Address
}

// Blocked reports whether the owner has blocked the wallet.
func (s *WalletStorage) Blocked() bool { return s.Status&1 != 0 }

func (s *WalletStorage) fields(c codec) {
	c.u32(&s.Seqno)
	c.u32(&s.Subwallet)
	c.hash(&s.Key)
	c.u32(&s.Status)
	c.addr(&s.Owner)
}

type layout interface{ fields(codec) }

// Encode returns the data cell as a bag of cells. The params are written with
// the codes that a proxy holds.
func (s *ProxyStorage) Encode() ([]byte, error) { return encode("proxy data", s) }

// Encode returns the data cell as a bag of cells.
func (s *ClientStorage) Encode() ([]byte, error) { return encode("client data", s) }

// Encode returns the data cell as a bag of cells.
func (s *WorkerStorage) Encode() ([]byte, error) { return encode("worker data", s) }

// Encode returns the data cell as a bag of cells.
func (s *WalletStorage) Encode() ([]byte, error) { return encode("wallet data", s) }

// DecodeProxy reads the data of a proxy contract. As in the reference node,
// what follows the known fields of this and the other storages is ignored.
func DecodeProxy(data []byte) (*ProxyStorage, error) {
	s := new(ProxyStorage)
	return s, decode("proxy data", data, s)
}

// DecodeClient reads the data of a client contract.
func DecodeClient(data []byte) (*ClientStorage, error) {
	s := new(ClientStorage)
	return s, decode("client data", data, s)
}

// DecodeWorker reads the data of a worker contract.
func DecodeWorker(data []byte) (*WorkerStorage, error) {
	s := new(WorkerStorage)
	return s, decode("worker data", data, s)
}

// DecodeWallet reads the data of a node wallet.
func DecodeWallet(data []byte) (*WalletStorage, error) {
	s := new(WalletStorage)
	return s, decode("wallet data", data, s)
}

func encode(what string, l layout) ([]byte, error) {
	w := newWriter()
	l.fields(encoder{w})
	b, err := w.serialize()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return b, nil
}

func decode(what string, data []byte, l layout) error {
	r := readBoC(data, maxStorageBytes, maxStorageCells)
	l.fields(decoder{r})
	if r.err != nil {
		return fmt.Errorf("%s: %w", what, r.err)
	}
	return nil
}
