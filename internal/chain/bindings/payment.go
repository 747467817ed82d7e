package bindings

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
)

// PaymentKind is the operation of a message that the proxy key signed; the
// number is the opcode (spec contracts 9).
type PaymentKind uint32

// The kinds. Charges and payouts are handed to clients and workers; the proxy
// submits the others itself.
const (
	ClientCharge       PaymentKind = 0xbb63ff93
	ClientGrantRefund  PaymentKind = 0xefd711e1
	WorkerPayout       PaymentKind = 0xa040ad28
	WorkerLastPayout   PaymentKind = 0xf5f26a36
	ProxyClose         PaymentKind = 0x636a4391
	ProxyCloseComplete PaymentKind = 0xe511abc7
)

// String names the kind.
func (k PaymentKind) String() string {
	switch k {
	case ClientCharge:
		return "client charge"
	case ClientGrantRefund:
		return "client refund"
	case WorkerPayout:
		return "worker payout"
	case WorkerLastPayout:
		return "last worker payout"
	case ProxyClose:
		return "proxy close"
	case ProxyCloseComplete:
		return "proxy close completion"
	}
	return fmt.Sprintf("operation %08x", uint32(k))
}

func (k PaymentKind) valid() bool {
	switch k {
	case ClientCharge, ClientGrantRefund, WorkerPayout, WorkerLastPayout, ProxyClose, ProxyCloseComplete:
		return true
	}
	return false
}

// hasTokens reports whether the signed cell holds a token counter.
func (k PaymentKind) hasTokens() bool { return k != ProxyClose && k != ProxyCloseComplete }

// What can be wrong with a payment that could be read.
var (
	ErrPaymentKind      = errors.New("payment is for another operation")
	ErrPaymentContract  = errors.New("payment is for another contract")
	ErrPaymentSignature = errors.New("payment is not signed by the proxy key")
)

// A payment is two cells; index, checksum and long offsets are allowed.
const (
	maxPaymentBytes = 512
	maxPaymentCells = 2
)

// Signer signs the representation hash of a cell with the proxy key. That key
// signs raw 32-byte hashes for nothing else (docs/protocol.md, Labels).
type Signer interface {
	SignHash(hash [32]byte) (signature []byte, err error)
}

// KeySigner is a Signer that holds the key in memory.
type KeySigner ed25519.PrivateKey

// SignHash implements Signer.
func (k KeySigner) SignHash(hash [32]byte) ([]byte, error) {
	if len(k) != ed25519.PrivateKeySize {
		return nil, errors.New("proxy key: not an Ed25519 private key")
	}
	return ed25519.Sign(ed25519.PrivateKey(k), hash[:]), nil
}

// Payment is a parsed signed payment. Parsing proves nothing: see Verify.
type Payment struct {
	Kind     PaymentKind
	QueryID  uint64
	Tokens   uint64 // the cumulative counter; 0 for the kinds without one
	Contract cocoon.Address
	// ExcessTo gets the rest of the message's value. It is not signed; whoever
	// submits the payment may choose it.
	ExcessTo  cocoon.Address
	Signature [ed25519.SignatureSize]byte
}

// SignPayment returns the message body of a signed operation as a bag of
// cells: what spec network-protocol 7.3 calls the data of a signed payment.
// tokens must be 0 for the kinds that have no counter.
func SignPayment(signer Signer, kind PaymentKind, contract cocoon.Address, tokens, queryID uint64, excessTo cocoon.Address) ([]byte, error) {
	p := Payment{Kind: kind, QueryID: queryID, Tokens: tokens, Contract: contract, ExcessTo: excessTo}
	inner, err := p.inner()
	if err != nil {
		return nil, err
	}
	signature, err := signer.SignHash(inner.HashKey())
	if err != nil {
		return nil, fmt.Errorf("%v: %w", kind, err)
	}
	if len(signature) != len(p.Signature) {
		return nil, fmt.Errorf("%v: the signer returned %d bytes, %d are a signature", kind, len(signature), len(p.Signature))
	}
	p.Signature = [ed25519.SignatureSize]byte(signature)
	return p.outer(inner)
}

// inner is the cell that is signed.
func (p Payment) inner() (*cell.Cell, error) {
	if !p.Kind.valid() {
		return nil, fmt.Errorf("%v cannot be signed", p.Kind)
	}
	w := newWriter().uint(uint64(p.Kind), 32).uint(p.QueryID, 64)
	if p.Kind.hasTokens() {
		w.uint(p.Tokens, 64)
	} else if p.Tokens != 0 {
		return nil, fmt.Errorf("%v has no token counter, got %d", p.Kind, p.Tokens)
	}
	return w.addr(p.Contract).end()
}

// outer is the message body around the signed cell.
func (p Payment) outer(inner *cell.Cell) ([]byte, error) {
	w := newWriter().uint(uint64(p.Kind), 32).uint(p.QueryID, 64).addr(p.ExcessTo).bytes(p.Signature[:])
	return w.ref(inner).serialize()
}

// ParsePayment reads the data of a signed payment. It accepts every form of a
// bag of cells and exactly the layout of spec contracts 9: both copies of
// operation and query id equal, standard addresses, nothing left over.
func ParsePayment(data []byte) (Payment, error) {
	r := readBoC(data, maxPaymentBytes, maxPaymentCells)
	p := Payment{Kind: PaymentKind(r.u32()), QueryID: r.u64(), ExcessTo: r.addr()}
	copy(p.Signature[:], r.bytes(ed25519.SignatureSize))
	inner := r.child()
	if r.end() == nil && !p.Kind.valid() {
		r.failf("%v is none the proxy key signs", p.Kind)
	}
	if kind := PaymentKind(inner.u32()); kind != p.Kind {
		inner.failf("the signed operation %v is not the outer one", kind)
	}
	if id := inner.u64(); id != p.QueryID {
		inner.failf("the signed query id is not the outer one")
	}
	if p.Kind.hasTokens() {
		p.Tokens = inner.u64()
	}
	p.Contract = inner.addr()
	inner.end()
	r.join(inner)
	if r.err != nil {
		return Payment{}, fmt.Errorf("signed payment: %w", r.err)
	}
	return p, nil
}

// Verify checks that p is the wanted operation on the wanted contract and is
// signed by the proxy key. It does not judge the counter.
func (p Payment) Verify(kind PaymentKind, contract cocoon.Address, publicKey [32]byte) error {
	if p.Kind != kind {
		return fmt.Errorf("%w: it is a %v, a %v is needed", ErrPaymentKind, p.Kind, kind)
	}
	if p.Contract != contract {
		return fmt.Errorf("%w: it names %v, needed is %v", ErrPaymentContract, p.Contract, contract)
	}
	inner, err := p.inner()
	if err != nil {
		return err
	}
	if !ed25519.Verify(publicKey[:], inner.Hash(), p.Signature[:]) {
		return fmt.Errorf("%w of %v", ErrPaymentSignature, contract)
	}
	return nil
}

// Encode writes p as a bag of cells.
func (p Payment) Encode() ([]byte, error) {
	inner, err := p.inner()
	if err != nil {
		return nil, err
	}
	return p.outer(inner)
}

// Rewrap returns the same signed operation with another address for the
// excess, as whoever submits it wants it.
func (p Payment) Rewrap(excessTo cocoon.Address) ([]byte, error) {
	p.ExcessTo = excessTo
	return p.Encode()
}
