package bindings

import (
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/xssnick/tonutils-go/tvm/cell"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// MaxWalletMessages is how many messages one external message can make a
// wallet send.
const MaxWalletMessages = 4

// ErrWalletSignature says that an external message is not signed by the
// wallet's key.
var ErrWalletSignature = errors.New("wallet message is not signed by the wallet's key")

// OutMessage is an internal message as a wallet sends it.
type OutMessage struct {
	To     cocoon.Address
	Value  coins.Nano
	Bounce bool
	// StateInit deploys the receiver; nil = none.
	StateInit []byte
	// Body is a bag of cells; nil = none. It is put into a reference.
	Body []byte
}

// Encode returns the message cell as a bag of cells (spec contracts 2.4, 15).
func (m *OutMessage) Encode() ([]byte, error) {
	w := newWriter()
	// int_msg_info: instant routing disabled, not bounced, source left out.
	w.uint(0b01, 2).bool(m.Bounce).bool(false).uint(0, 2)
	w.addr(m.To).coins(m.Value)
	w.uint(0, 1+4+4+64+32) // no extra currencies, no fees, time of the collator
	w.initAndBody(m.StateInit, m.Body)
	b, err := w.serialize()
	if err != nil {
		return nil, fmt.Errorf("message to %v: %w", m.To, err)
	}
	return b, nil
}

// initAndBody ends a message: a StateInit and a body, each in a reference if
// there is one.
func (w *writer) initAndBody(stateInit, body []byte) *writer {
	if stateInit == nil {
		w.bool(false)
	} else {
		w.uint(0b11, 2).boc(stateInit)
	}
	if body == nil {
		return w.bool(false)
	}
	return w.bool(true).boc(body)
}

// StateInit returns the StateInit cell of code and data, all bags of cells,
// and the address it deploys.
func StateInit(code, data []byte) (stateInit []byte, address cocoon.Address, err error) {
	codeCell, err := parseBoC(code, maxStorageBytes, maxStorageCells)
	if err != nil {
		return nil, address, fmt.Errorf("code: %w", err)
	}
	dataCell, err := parseBoC(data, maxStorageBytes, maxStorageCells)
	if err != nil {
		return nil, address, fmt.Errorf("data: %w", err)
	}
	c, err := newWriter().uint(0b00110, 5).ref(codeCell).ref(dataCell).end()
	if err != nil {
		return nil, address, err
	}
	stateInit, err = toBoC(c)
	return stateInit, cocoon.Address{Hash: c.HashKey()}, err
}

// WalletMessage is one message of a wallet request.
type WalletMessage struct {
	Mode    uint8
	Message []byte // OutMessage.Encode
}

// WalletRequest is what an external message asks of a wallet (spec contracts
// 8.2).
type WalletRequest struct {
	Subwallet  uint32
	ValidUntil uint32 // Unix time
	Seqno      uint32
	Messages   []WalletMessage // at most MaxWalletMessages
}

// Sign returns the body of the external message.
func (q *WalletRequest) Sign(signer Signer) ([]byte, error) {
	content, err := q.content()
	if err != nil {
		return nil, fmt.Errorf("wallet request: %w", err)
	}
	signature, err := signer.SignHash(content.HashKey())
	if err != nil {
		return nil, fmt.Errorf("wallet request: %w", err)
	}
	if len(signature) != ed25519.SignatureSize {
		return nil, fmt.Errorf("wallet request: a signature of %d bytes", len(signature))
	}
	w := newWriter().bytes(signature)
	w.try(w.b.StoreBuilder(content.ToBuilder()))
	return w.serialize()
}

// content is the cell that is signed: the body without the signature.
func (q *WalletRequest) content() (*cell.Cell, error) {
	if len(q.Messages) > MaxWalletMessages {
		return nil, fmt.Errorf("%d messages, at most %d fit", len(q.Messages), MaxWalletMessages)
	}
	w := newWriter().uint(uint64(q.Subwallet), 32).uint(uint64(q.ValidUntil), 32).uint(uint64(q.Seqno), 32)
	for _, m := range q.Messages {
		w.uint(uint64(m.Mode), 8).boc(m.Message)
	}
	return w.end()
}

// ParseWalletRequest reads the body of an external message and checks its
// signature. Bits that follow the last mode are ignored, as the contract
// does.
func ParseWalletRequest(body []byte, publicKey [32]byte) (*WalletRequest, error) {
	r := readBoC(body, maxMessageBytes, maxMessageCells)
	signature := r.bytes(ed25519.SignatureSize)
	if r.err != nil {
		return nil, fmt.Errorf("wallet request: %w", r.err)
	}
	content, err := r.s.ToCell()
	if err != nil {
		return nil, fmt.Errorf("wallet request: %w", malformed("%v", err))
	}
	if !ed25519.Verify(publicKey[:], content.Hash(), signature) {
		return nil, fmt.Errorf("wallet request: %w", ErrWalletSignature)
	}
	q := &WalletRequest{Subwallet: r.u32(), ValidUntil: r.u32(), Seqno: r.u32()}
	for r.err == nil && r.s.RefsNum() > 0 {
		q.Messages = append(q.Messages, WalletMessage{Mode: r.u8(), Message: r.boc()})
	}
	if r.err != nil {
		return nil, fmt.Errorf("wallet request: %w", r.err)
	}
	return q, nil
}

// ExternalMessage returns an external message to a contract with the body in
// a reference. stateInit deploys the contract; nil = none.
func ExternalMessage(to cocoon.Address, stateInit, body []byte) ([]byte, error) {
	w := newWriter().uint(0b1000, 4).addr(to).coins(0)
	return w.initAndBody(stateInit, body).serialize()
}
