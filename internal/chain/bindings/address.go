package bindings

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
)

// ErrNoCode says that a root lacks a contract code that an address needs.
var ErrNoCode = errors.New("root holds no code for this contract")

// The wallet's code is the same everywhere; its hash and depth are enough to
// compute addresses (spec contracts 12).
var walletCodeHash = [32]byte{
	0x7a, 0x48, 0xf0, 0x5c, 0xee, 0xf4, 0x0f, 0x06, 0xca, 0xbb, 0xaa, 0x39, 0xc1, 0xc5, 0xa6, 0x7b,
	0x24, 0xe8, 0xbb, 0x59, 0xd8, 0xcf, 0x8a, 0x74, 0xe4, 0x99, 0x88, 0xa5, 0xf4, 0x4c, 0xf6, 0x6a,
}

const walletCodeDepth = 6

// ProxyAddress returns the proxy contract of a proxy key and its owner under
// the root s.
func ProxyAddress(s *registry.Snapshot, proxyKey [32]byte, owner cocoon.Address) (cocoon.Address, error) {
	return proxyContract(s, proxyKey, owner).address()
}

// ClientAddress returns the client contract of a client wallet at a proxy
// contract.
func ClientAddress(s *registry.Snapshot, clientOwner, proxy cocoon.Address, proxyKey [32]byte) (cocoon.Address, error) {
	return clientContract(s, clientOwner, proxy, proxyKey).address()
}

// WorkerAddress returns the worker contract of a payout address at a proxy
// contract.
func WorkerAddress(s *registry.Snapshot, workerOwner, proxy cocoon.Address, proxyKey [32]byte) (cocoon.Address, error) {
	return workerContract(s, workerOwner, proxy, proxyKey).address()
}

// ProxyInit returns the StateInit, a bag of cells, that deploys the contract
// at ProxyAddress.
func ProxyInit(s *registry.Snapshot, proxyKey [32]byte, owner cocoon.Address) ([]byte, error) {
	return proxyContract(s, proxyKey, owner).stateInit()
}

// ClientInit returns the StateInit that deploys the contract at ClientAddress.
func ClientInit(s *registry.Snapshot, clientOwner, proxy cocoon.Address, proxyKey [32]byte) ([]byte, error) {
	return clientContract(s, clientOwner, proxy, proxyKey).stateInit()
}

// WorkerInit returns the StateInit that deploys the contract at WorkerAddress.
func WorkerInit(s *registry.Snapshot, workerOwner, proxy cocoon.Address, proxyKey [32]byte) ([]byte, error) {
	return workerContract(s, workerOwner, proxy, proxyKey).stateInit()
}

// WalletAddress returns the node wallet of a key and the owner who controls
// it. It does not depend on a root.
func WalletAddress(publicKey [32]byte, owner cocoon.Address) (cocoon.Address, error) {
	data, err := walletData(publicKey, owner).end()
	if err != nil {
		return cocoon.Address{}, fmt.Errorf("wallet address: %w", err)
	}
	return stateInitAddress(walletCodeHash, walletCodeDepth, data), nil
}

// The initial data of each contract (spec network-protocol 7.2). All but the
// wallet's end with a reference to the params cell, which newInitial appends.

func proxyData(root cocoon.Address, proxyKey [32]byte, owner cocoon.Address) *writer {
	w := newWriter().addr(owner).hash(proxyKey).addr(root)
	return w.uint(0, 2).coins(0).coins(0).uint(0, 32) // state, earnings, stake, unlock time
}

func clientData(p registry.Params, owner, proxy cocoon.Address, proxyKey [32]byte) *writer {
	w := newWriter().uint(0, 2).coins(0).coins(p.MinClientStake) // state, balance, stake
	w.uint(0, 64).uint(0, 32).hash([32]byte{})                   // tokens used, unlock time, secret hash
	return w.child(newWriter().addr(owner).addr(proxy).hash(proxyKey))
}

func workerData(owner, proxy cocoon.Address, proxyKey [32]byte) *writer {
	w := newWriter().addr(owner).addr(proxy).hash(proxyKey)
	return w.uint(0, 2).uint(0, 64) // state, tokens
}

func walletData(publicKey [32]byte, owner cocoon.Address) *writer {
	w := newWriter()
	w.uint(0, 32).uint(0, 32).hash(publicKey).uint(0, 32) // seqno, subwallet, key, status
	return w.addr(owner)
}

// initial is a contract before its deployment.
type initial struct {
	code, data *cell.Cell
	err        error
}

func proxyContract(s *registry.Snapshot, proxyKey [32]byte, owner cocoon.Address) initial {
	return newInitial("proxy", s.Params, s.Params.ProxyCode, ChildCodes, proxyData(s.Root, proxyKey, owner))
}

func clientContract(s *registry.Snapshot, owner, proxy cocoon.Address, proxyKey [32]byte) initial {
	return newInitial("client", s.Params, s.Params.ClientCode, NoCodes, clientData(s.Params, owner, proxy, proxyKey))
}

func workerContract(s *registry.Snapshot, owner, proxy cocoon.Address, proxyKey [32]byte) initial {
	return newInitial("worker", s.Params, s.Params.WorkerCode, NoCodes, workerData(owner, proxy, proxyKey))
}

// newInitial completes data with the params cell, rendered with mask.
func newInitial(contract string, p registry.Params, code []byte, mask CodeMask, data *writer) (c initial) {
	if code == nil {
		return initial{err: fmt.Errorf("%s contract: %w", contract, ErrNoCode)}
	}
	if c.code, c.err = parseBoC(code, maxStorageBytes, maxStorageCells); c.err != nil {
		return initial{err: fmt.Errorf("%s code: %w", contract, c.err)}
	}
	params, err := paramsCell(p, mask)
	if err == nil {
		c.data, err = data.ref(params).end()
	}
	if err != nil {
		return initial{err: fmt.Errorf("%s contract: %w", contract, err)}
	}
	return c
}

func (c initial) address() (cocoon.Address, error) {
	if c.err != nil {
		return cocoon.Address{}, c.err
	}
	return stateInitAddress(c.code.HashKey(), c.code.Depth(), c.data), nil
}

func (c initial) stateInit() ([]byte, error) {
	if c.err != nil {
		return nil, c.err
	}
	return newWriter().uint(0b00110, 5).ref(c.code).ref(c.data).serialize()
}

// stateInitAddress hashes the StateInit cell of spec contracts 2.2 from what
// its hash needs of the code: hash and depth.
func stateInitAddress(codeHash [32]byte, codeDepth uint16, data *cell.Cell) cocoon.Address {
	b := []byte{0x02, 0x01, 0x34} // two references, five bits: 00110
	b = binary.BigEndian.AppendUint16(b, codeDepth)
	b = binary.BigEndian.AppendUint16(b, data.Depth())
	b = append(b, codeHash[:]...)
	b = append(b, data.Hash()...)
	return cocoon.Address{Hash: sha256.Sum256(b)}
}
