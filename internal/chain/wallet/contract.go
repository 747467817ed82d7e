package wallet

import (
	"errors"
	"fmt"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/contracts"
	tonwallet "github.com/xssnick/tonutils-go/ton/wallet"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// Kind is a wallet contract.
type Kind uint8

// The wallet contracts.
const (
	V5R1 Kind = iota + 1 // the common wallet of people today; its address depends on the global id
	V4R2                 // the wallet before it
	Node                 // the node wallet of spec contracts 8
)

// ErrKind is the cause of an unknown wallet kind.
var ErrKind = errors.New("unknown kind of wallet")

var kindNames = map[Kind]string{V5R1: "v5r1", V4R2: "v4r2", Node: "node"}

// String returns "v5r1", "v4r2" or "node".
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// ParseKind reads what String writes.
func ParseKind(s string) (Kind, error) {
	for k, name := range kindNames {
		if s == name {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%w %q: v5r1, v4r2 and node are known", ErrKind, s)
}

// MarshalText writes what String writes.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads what String writes.
func (k *Kind) UnmarshalText(b []byte) error {
	v, err := ParseKind(string(b))
	if err == nil {
		*k = v
	}
	return err
}

// MaxMessages is the number of messages one external message can carry.
func (k Kind) MaxMessages() int {
	if k == V5R1 {
		return 255
	}
	return 4
}

// defaultSubwallet is the number every V4R2 program uses.
const defaultSubwallet = 698983191

// Contract says which wallet contract a key controls.
type Contract struct {
	Kind      Kind
	PublicKey [32]byte
	// GlobalID is the network's global id; V5R1 only, whose address and
	// messages are bound to one network.
	GlobalID int32
	// Owner and Code are of the node wallet only: the account that keeps
	// control over it, and the contract's code as a bag of cells; nil = ours.
	Owner cocoon.Address
	Code  []byte
}

// id returns the wallet id (V5R1) or subwallet number that is stored in the
// contract and repeated in each message.
func (c Contract) id() uint32 {
	switch c.Kind {
	case V5R1:
		// Client context of workchain 0, version 0, subwallet 0.
		return 1<<31 ^ uint32(c.GlobalID)
	case V4R2:
		return defaultSubwallet
	}
	return 0
}

// stateInit returns the StateInit cell with which the contract is deployed.
func (c Contract) stateInit() (*cell.Cell, error) {
	var code *cell.Cell
	data := cell.BeginCell()
	switch c.Kind {
	case V5R1:
		state, err := tonwallet.GetStateInit(c.PublicKey[:], tonwallet.ConfigV5R1Final{NetworkGlobalID: c.GlobalID}, 0)
		if err != nil {
			return nil, fmt.Errorf("wallet code: %w", err)
		}
		code = state.Code
		data.MustStoreUInt(1, 1).MustStoreUInt(0, 32).MustStoreUInt(uint64(c.id()), 32).
			MustStoreSlice(c.PublicKey[:], 256).MustStoreUInt(0, 1)
	case V4R2:
		state, err := tonwallet.GetStateInit(c.PublicKey[:], tonwallet.V4R2, c.id())
		if err != nil {
			return nil, fmt.Errorf("wallet code: %w", err)
		}
		code = state.Code
		data.MustStoreUInt(0, 32).MustStoreUInt(uint64(c.id()), 32).
			MustStoreSlice(c.PublicKey[:], 256).MustStoreUInt(0, 1)
	case Node:
		boc := c.Code
		if boc == nil {
			boc = contracts.Wallet()
		}
		var err error
		if code, err = cell.FromBOC(boc); err != nil {
			return nil, fmt.Errorf("node wallet code: %w", err)
		}
		if c.Owner.IsZero() {
			return nil, errors.New("node wallet: no owner address given")
		}
		data.MustStoreUInt(0, 32).MustStoreUInt(0, 32).MustStoreSlice(c.PublicKey[:], 256).
			MustStoreUInt(0, 32).MustStoreBuilder(storeAddress(c.Owner))
	default:
		return nil, fmt.Errorf("%w (%d)", ErrKind, c.Kind)
	}
	return stateInitCell(code, data.EndCell()), nil
}

// stateInitCell is a StateInit with code and data and nothing else (spec
// contracts 2.2).
func stateInitCell(code, data *cell.Cell) *cell.Cell {
	return cell.BeginCell().MustStoreUInt(0b00110, 5).MustStoreRef(code).MustStoreRef(data).EndCell()
}

// Address returns the contract's address in workchain 0.
func (c Contract) Address() (cocoon.Address, error) {
	state, err := c.stateInit()
	if err != nil {
		return cocoon.Address{}, err
	}
	return cocoon.Address{Hash: state.HashKey()}, nil
}

// StateInit returns the StateInit as a bag of cells.
func (c Contract) StateInit() ([]byte, error) {
	state, err := c.stateInit()
	if err != nil {
		return nil, err
	}
	return state.ToBOC(), nil
}

// seqno reads the sequence number from the data of a deployed contract.
func (k Kind) seqno(data []byte) (uint32, error) {
	c, err := cell.FromBOC(data)
	if err != nil {
		return 0, fmt.Errorf("wallet data: %w", err)
	}
	s, err := c.BeginParse()
	if err != nil {
		return 0, fmt.Errorf("wallet data: %w", err)
	}
	if k == V5R1 { // whether signatures are allowed comes first
		if _, err := s.LoadUInt(1); err != nil {
			return 0, fmt.Errorf("wallet data: %w", err)
		}
	}
	n, err := s.LoadUInt(32)
	if err != nil {
		return 0, fmt.Errorf("wallet data: %w", err)
	}
	return uint32(n), nil
}

// storeAddress is addr_std without anycast.
func storeAddress(a cocoon.Address) *cell.Builder {
	return cell.BeginCell().MustStoreUInt(0b100, 3).MustStoreInt(int64(a.Workchain), 8).MustStoreSlice(a.Hash[:], 256)
}
