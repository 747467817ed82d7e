package bindings

import (
	"crypto/ed25519"
	"fmt"

	"github.com/cocoon-network/cocoon"
)

// OpAnchor is the only operation of an anchor: the first four bytes of
// SHA-256("cocoon/anchor/v1\0").
const OpAnchor Op = 0xf5bcaf7e

// AnchorRoots are what one head of a log commits to.
type AnchorRoots struct{ Log, Clients, Workers [32]byte }

// AnchorStorage is the data of an anchor contract (docs/contracts.md).
type AnchorStorage struct {
	NetworkID [32]byte
	ProxyKey  [32]byte
	Epoch     uint32
	Size      uint64
	Roots     AnchorRoots
}

// AnchorStep is one epoch as it is signed.
type AnchorStep struct {
	Contract    cocoon.Address
	Epoch       uint32
	Size        uint64
	PreviousLog [32]byte
	Roots       AnchorRoots
}

// AnchorAddress returns the anchor of a proxy key in a network; code is the
// anchor's, a bag of cells.
func AnchorAddress(code []byte, networkID, proxyKey [32]byte) (cocoon.Address, error) {
	return anchorContract(code, networkID, proxyKey).address()
}

// AnchorInit returns the StateInit that deploys the contract at AnchorAddress.
func AnchorInit(code []byte, networkID, proxyKey [32]byte) ([]byte, error) {
	return anchorContract(code, networkID, proxyKey).stateInit()
}

func anchorContract(code []byte, networkID, proxyKey [32]byte) (c initial) {
	if c.code, c.err = parseBoC(code, maxStorageBytes, maxStorageCells); c.err != nil {
		return initial{err: fmt.Errorf("anchor code: %w", c.err)}
	}
	s := AnchorStorage{NetworkID: networkID, ProxyKey: proxyKey}
	if c.data, c.err = s.writer().end(); c.err != nil {
		return initial{err: fmt.Errorf("anchor contract: %w", c.err)}
	}
	return c
}

func (s *AnchorStorage) writer() *writer {
	return newWriter().hash(s.NetworkID).hash(s.ProxyKey).uint(uint64(s.Epoch), 32).uint(s.Size, 64).child(s.Roots.writer())
}

func (r *AnchorRoots) writer() *writer {
	return newWriter().hash(r.Log).hash(r.Clients).hash(r.Workers)
}

func readAnchorRoots(outer *reader) (out AnchorRoots) {
	r := outer.child()
	out = AnchorRoots{Log: r.hash(), Clients: r.hash(), Workers: r.hash()}
	r.end()
	outer.join(r)
	return out
}

// Encode writes the storage as a bag of cells.
func (s *AnchorStorage) Encode() ([]byte, error) { return s.writer().serialize() }

// ParseAnchorStorage reads the data of an anchor contract.
func ParseAnchorStorage(boc []byte) (AnchorStorage, error) {
	r := readBoC(boc, maxAnchorBytes, maxAnchorCells)
	s := AnchorStorage{NetworkID: r.hash(), ProxyKey: r.hash(), Epoch: r.u32(), Size: r.u64()}
	s.Roots = readAnchorRoots(r)
	if err := r.end(); err != nil {
		return AnchorStorage{}, fmt.Errorf("anchor storage: %w", err)
	}
	return s, nil
}

const (
	maxAnchorBytes = 1 << 10
	maxAnchorCells = 4
)

// SignAnchor returns the message body of a step: the signed form of spec
// contracts 9, as a bag of cells.
func SignAnchor(signer Signer, step AnchorStep, queryID uint64, excessTo cocoon.Address) ([]byte, error) {
	payload := newWriter().uint(uint64(OpAnchor), 32).uint(queryID, 64).addr(step.Contract).
		uint(uint64(step.Epoch), 32).uint(step.Size, 64).hash(step.PreviousLog).child(step.Roots.writer())
	inner, err := payload.end()
	if err != nil {
		return nil, fmt.Errorf("anchor: %w", err)
	}
	sig, err := signer.SignHash(inner.HashKey())
	if err != nil {
		return nil, fmt.Errorf("anchor: %w", err)
	}
	if len(sig) != ed25519.SignatureSize {
		return nil, fmt.Errorf("anchor: the signer returned %d bytes", len(sig))
	}
	return newWriter().uint(uint64(OpAnchor), 32).uint(queryID, 64).addr(excessTo).bytes(sig).ref(inner).serialize()
}

// ParseAnchor reads the message body of a step and checks that proxyKey signed
// it: as strict as the contract.
func ParseAnchor(body []byte, proxyKey [32]byte) (AnchorStep, error) {
	r := readBoC(body, maxAnchorBytes, maxAnchorCells)
	op, id := Op(r.u32()), r.u64()
	r.addr()
	var sig [ed25519.SignatureSize]byte
	copy(sig[:], r.bytes(len(sig)))
	cell := r.ref()
	if r.end() != nil {
		return AnchorStep{}, fmt.Errorf("anchor: %w", r.err)
	}
	inner := newReader(cell)
	if Op(inner.u32()) != OpAnchor || op != OpAnchor || inner.u64() != id {
		inner.failf("not the operation of an anchor")
	}
	s := AnchorStep{Contract: inner.addr(), Epoch: inner.u32(), Size: inner.u64(), PreviousLog: inner.hash()}
	s.Roots = readAnchorRoots(inner)
	if err := inner.end(); err != nil {
		return AnchorStep{}, fmt.Errorf("anchor: %w", err)
	}
	if !ed25519.Verify(proxyKey[:], cell.Hash(), sig[:]) {
		return AnchorStep{}, fmt.Errorf("anchor: %w of %v", ErrPaymentSignature, s.Contract)
	}
	return s, nil
}
