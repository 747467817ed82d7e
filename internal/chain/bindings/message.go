package bindings

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// ErrUnknownOperation says that a message body has an opcode that none of the
// contracts knows.
var ErrUnknownOperation = errors.New("unknown operation")

// Op is an operation code (spec contracts 2.7).
type Op uint32

// The operations that are not signed; see PaymentKind for those.
const (
	OpText         Op = 0x00000000
	OpExcess       Op = 0x2565934c
	OpPayout       Op = 0xc59a7cd3
	OpDoNotProcess Op = 0x9a1247c0
	opSaveState       = 0x53109c0f // inside OpDoNotProcess

	OpAddWorkerImage    Op = 0xe34b1c60
	OpDeleteWorkerImage Op = 0x8d94a79a
	OpAddModel          Op = 0xc146134d
	OpDeleteModel       Op = 0x92b11c18
	OpAddProxyImage     Op = 0x71860e80
	OpDeleteProxyImage  Op = 0x3c41d0b2
	OpRegisterProxy     Op = 0x927c7cb5
	OpUnregisterProxy   Op = 0x6d49eaf2
	OpUpdateProxy       Op = 0x9c7924ba
	OpChangeFees        Op = 0xc52ed8d4
	OpChangeParams      Op = 0x022fa189
	OpChangeCodes       Op = 0xa2370f61
	OpChangeRootCode    Op = 0x11aefd51
	OpResetRoot         Op = 0x563c1d96
	OpReplaceRoot       Op = 0x4f7c5789
	OpChangeOwner       Op = 0xc4a1ae54

	OpWorkerRequest Op = 0x4d725d2c
	OpClientRequest Op = 0x65448ff4

	OpWithdrawEarnings   Op = 0x7610e6eb
	OpIncreaseProxyStake Op = 0x9713f187
	OpOwnerClose         Op = 0xb51d5a01

	OpTopUp               Op = 0xf172e6c2
	OpSecretAndTopUp      Op = 0x8473b408
	OpRegisterClient      Op = 0xc45f9f3b
	OpChangeSecret        Op = 0xa9357034
	OpIncreaseClientStake Op = 0x6a1f6a60
	OpWithdraw            Op = 0xda068e78
	OpRequestRefund       Op = 0xfafa6cc1

	OpRegisterWorker Op = 0x26ed7f65
	OpOwnerSend      Op = 0x9c69f376
)

// Message is the body of an internal message without its query id. The types
// below implement it, and so does Payment.
type Message interface {
	op() Op
	layout
}

// Excess returns what is left of a message's value.
type Excess struct{}

// Payout brings money that was earned or refunded.
type Payout struct{}

// SaveState is the mark of the commit protocol (spec network-protocol 7.5).
type SaveState struct {
	Seqno   uint32
	Session [32]byte
}

// Text is a one-letter command of an owner's ordinary wallet. It has no query
// id.
type Text struct{ Command byte }

// ListHash adds or deletes one hash in a list of root; Op says which.
type ListHash struct {
	Op   Op
	Hash [32]byte
}

// RegisterProxy adds an endpoint to root (registry.Proxy.Text).
type RegisterProxy struct{ Endpoint string }

// UnregisterProxy removes an endpoint.
type UnregisterProxy struct{ Seqno uint32 }

// UpdateProxy replaces an existing endpoint.
type UpdateProxy struct {
	Seqno    uint32
	Endpoint string
}

// ChangeFees sets price and worker fee.
type ChangeFees struct{ Price, Fee coins.Nano }

// ChangeParams sets the economic parameters that a message can set.
type ChangeParams struct {
	Price, Fee                    coins.Nano
	ProxyDelay, ClientDelay       uint32
	MinProxyStake, MinClientStake coins.Nano
}

// ChangeCodes sets the codes of future contracts, each a bag of cells.
type ChangeCodes struct{ Proxy, Worker, Client []byte }

// ChangeRootCode replaces the code of root.
type ChangeRootCode struct{ Code []byte }

// ResetRoot empties all lists of root.
type ResetRoot struct{}

// ReplaceRoot replaces data and code of root.
type ReplaceRoot struct{ Data, Code []byte }

// ChangeOwner gives root to another owner.
type ChangeOwner struct{ Owner cocoon.Address }

// WorkerRequest is what a worker contract tells its proxy contract. Payment
// is nil for a mere notification.
type WorkerRequest struct {
	Owner   cocoon.Address
	State   State
	Tokens  uint64
	Payment *WorkerPayment
}

// WorkerPayment divides a payout between worker and proxy.
type WorkerPayment struct {
	Worker, Proxy coins.Nano
	ExcessTo      cocoon.Address
}

// ClientRequest is what a client contract tells its proxy contract: its state
// after an operation and, unless nil, what the proxy is to do.
type ClientRequest struct {
	Owner      cocoon.Address
	State      State
	Balance    coins.Nano
	Stake      coins.Nano
	Tokens     uint64
	SecretHash [32]byte
	Payload    *ClientPayload
}

// ClientPayload is the demand in a ClientRequest. Nonce belongs to
// PayloadRegister, the other fields to the rest.
type ClientPayload struct {
	Kind     PayloadKind
	Nonce    uint64
	Amount   coins.Nano
	ExcessTo cocoon.Address
}

// PayloadKind is the opcode of a ClientPayload.
type PayloadKind uint32

// The kinds.
const (
	PayloadTopUp         PayloadKind = 0x5cfc6b87
	PayloadRegister      PayloadKind = 0xa35cb580
	PayloadRefundGranted PayloadKind = 0xc68ebc7b
	PayloadRefundForced  PayloadKind = 0xf4c354c9

	payloadWorkerPayout = 0x08e7d036
)

// Request is an operation without arguments of its own; Op says which:
// OpWithdrawEarnings, OpOwnerClose, OpWithdraw, OpRequestRefund,
// OpRegisterWorker.
type Request struct {
	Op       Op
	ExcessTo cocoon.Address
}

// Funding is an operation on an amount; Op says which: OpTopUp,
// OpIncreaseClientStake (the new stake) or OpIncreaseProxyStake (the
// addition).
type Funding struct {
	Op       Op
	Amount   coins.Nano
	ExcessTo cocoon.Address
}

// SecretAndTopUp sets a client's secret hash and tops it up.
type SecretAndTopUp struct {
	Amount     coins.Nano
	SecretHash [32]byte
	ExcessTo   cocoon.Address
}

// RegisterClient proves control of a client contract to its proxy.
type RegisterClient struct {
	Nonce    uint64
	ExcessTo cocoon.Address
}

// ChangeSecret sets a client's secret hash.
type ChangeSecret struct {
	SecretHash [32]byte
	ExcessTo   cocoon.Address
}

// OwnerSend makes a node wallet send a message cell.
type OwnerSend struct {
	Mode    uint8
	Message []byte
}

func (Excess) op() Op              { return OpExcess }
func (Payout) op() Op              { return OpPayout }
func (*SaveState) op() Op          { return OpDoNotProcess }
func (*Text) op() Op               { return OpText }
func (m *ListHash) op() Op         { return m.Op }
func (*RegisterProxy) op() Op      { return OpRegisterProxy }
func (*UnregisterProxy) op() Op    { return OpUnregisterProxy }
func (*UpdateProxy) op() Op        { return OpUpdateProxy }
func (*ChangeFees) op() Op         { return OpChangeFees }
func (*ChangeParams) op() Op       { return OpChangeParams }
func (*ChangeCodes) op() Op        { return OpChangeCodes }
func (*ChangeRootCode) op() Op     { return OpChangeRootCode }
func (ResetRoot) op() Op           { return OpResetRoot }
func (*ReplaceRoot) op() Op        { return OpReplaceRoot }
func (*ChangeOwner) op() Op        { return OpChangeOwner }
func (*WorkerRequest) op() Op      { return OpWorkerRequest }
func (*ClientRequest) op() Op      { return OpClientRequest }
func (m *Request) op() Op          { return m.Op }
func (m *Funding) op() Op          { return m.Op }
func (*SecretAndTopUp) op() Op     { return OpSecretAndTopUp }
func (*RegisterClient) op() Op     { return OpRegisterClient }
func (*ChangeSecret) op() Op       { return OpChangeSecret }
func (*OwnerSend) op() Op          { return OpOwnerSend }
func (Excess) fields(codec)        {}
func (Payout) fields(codec)        {}
func (ResetRoot) fields(codec)     {}
func (m *Text) fields(c codec)     { c.u8(&m.Command) }
func (m *Payment) op() Op          { return Op(m.Kind) }
func (m *Payment) fields(codec)    {} // encoded and parsed as a whole
func (m *ListHash) fields(c codec) { c.hash(&m.Hash) }

func (m *SaveState) fields(c codec) {
	sub := uint32(opSaveState)
	c.u32(&sub)
	if sub != opSaveState {
		c.invalid("a note of kind %08x, known is %08x", sub, opSaveState)
	}
	c.u32(&m.Seqno)
	c.hash(&m.Session)
}

func (m *RegisterProxy) fields(c codec)   { c.text(&m.Endpoint) }
func (m *UnregisterProxy) fields(c codec) { c.u32(&m.Seqno) }

func (m *UpdateProxy) fields(c codec) {
	c.u32(&m.Seqno)
	c.text(&m.Endpoint)
}

func (m *ChangeFees) fields(c codec) {
	c.coins(&m.Price)
	c.coins(&m.Fee)
}

func (m *ChangeParams) fields(c codec) {
	c.coins(&m.Price)
	c.coins(&m.Fee)
	c.u32(&m.ProxyDelay)
	c.u32(&m.ClientDelay)
	c.coins(&m.MinProxyStake)
	c.coins(&m.MinClientStake)
}

func (m *ChangeCodes) fields(c codec) {
	c.cell(&m.Proxy)
	c.cell(&m.Worker)
	c.cell(&m.Client)
}

func (m *ChangeRootCode) fields(c codec) { c.cell(&m.Code) }

func (m *ReplaceRoot) fields(c codec) {
	c.cell(&m.Data)
	c.cell(&m.Code)
}

func (m *ChangeOwner) fields(c codec) { c.addr(&m.Owner) }

func (m *WorkerRequest) fields(c codec) {
	c.addr(&m.Owner)
	c.state(&m.State)
	c.u64(&m.Tokens)
	present := m.Payment != nil
	c.optional(&present, func(c codec) {
		if m.Payment == nil {
			m.Payment = new(WorkerPayment)
		}
		op := uint32(payloadWorkerPayout)
		c.u32(&op)
		if op != payloadWorkerPayout {
			c.invalid("a worker demands %08x, known is %08x", op, payloadWorkerPayout)
		}
		c.coins(&m.Payment.Worker)
		c.coins(&m.Payment.Proxy)
		c.addr(&m.Payment.ExcessTo)
	})
}

func (m *ClientRequest) fields(c codec) {
	c.addr(&m.Owner)
	c.child(func(c codec) {
		c.state(&m.State)
		c.coins(&m.Balance)
		c.coins(&m.Stake)
		c.u64(&m.Tokens)
		c.hash(&m.SecretHash)
	})
	present := m.Payload != nil
	c.optional(&present, func(c codec) {
		if m.Payload == nil {
			m.Payload = new(ClientPayload)
		}
		m.Payload.fields(c)
	})
}

func (p *ClientPayload) fields(c codec) {
	c.u32((*uint32)(&p.Kind))
	switch p.Kind {
	case PayloadRegister:
		c.u64(&p.Nonce)
	case PayloadTopUp, PayloadRefundGranted, PayloadRefundForced:
		c.coins(&p.Amount)
		c.addr(&p.ExcessTo)
	default:
		c.invalid("a client demands %08x, which is unknown", uint32(p.Kind))
	}
}

func (m *Request) fields(c codec) { c.addr(&m.ExcessTo) }

func (m *Funding) fields(c codec) {
	c.coins(&m.Amount)
	c.addr(&m.ExcessTo)
}

func (m *SecretAndTopUp) fields(c codec) {
	c.coins(&m.Amount)
	c.hash(&m.SecretHash)
	c.addr(&m.ExcessTo)
}

func (m *RegisterClient) fields(c codec) {
	c.u64(&m.Nonce)
	c.addr(&m.ExcessTo)
}

func (m *ChangeSecret) fields(c codec) {
	c.hash(&m.SecretHash)
	c.addr(&m.ExcessTo)
}

func (m *OwnerSend) fields(c codec) {
	c.u8(&m.Mode)
	c.cell(&m.Message)
}

// newMessage returns the message of an opcode to decode into, or nil.
func newMessage(op Op) Message {
	switch op {
	case OpText:
		return new(Text)
	case OpExcess:
		return Excess{}
	case OpPayout:
		return Payout{}
	case OpDoNotProcess:
		return new(SaveState)
	case OpAddWorkerImage, OpDeleteWorkerImage, OpAddModel, OpDeleteModel, OpAddProxyImage, OpDeleteProxyImage:
		return &ListHash{Op: op}
	case OpRegisterProxy:
		return new(RegisterProxy)
	case OpUnregisterProxy:
		return new(UnregisterProxy)
	case OpUpdateProxy:
		return new(UpdateProxy)
	case OpChangeFees:
		return new(ChangeFees)
	case OpChangeParams:
		return new(ChangeParams)
	case OpChangeCodes:
		return new(ChangeCodes)
	case OpChangeRootCode:
		return new(ChangeRootCode)
	case OpResetRoot:
		return ResetRoot{}
	case OpReplaceRoot:
		return new(ReplaceRoot)
	case OpChangeOwner:
		return new(ChangeOwner)
	case OpWorkerRequest:
		return new(WorkerRequest)
	case OpClientRequest:
		return new(ClientRequest)
	case OpWithdrawEarnings, OpOwnerClose, OpWithdraw, OpRequestRefund, OpRegisterWorker:
		return &Request{Op: op}
	case OpTopUp, OpIncreaseClientStake, OpIncreaseProxyStake:
		return &Funding{Op: op}
	case OpSecretAndTopUp:
		return new(SecretAndTopUp)
	case OpRegisterClient:
		return new(RegisterClient)
	case OpChangeSecret:
		return new(ChangeSecret)
	case OpOwnerSend:
		return new(OwnerSend)
	}
	return nil
}

// EncodeMessage returns a message body as a bag of cells. Text has no query
// id, and a Payment has its own; queryID is then ignored.
func EncodeMessage(queryID uint64, m Message) ([]byte, error) {
	if p, ok := m.(*Payment); ok {
		return p.Encode()
	}
	op := m.op()
	if reflect.TypeOf(newMessage(op)) != reflect.TypeOf(m) {
		return nil, fmt.Errorf("message body: %T with %w %08x", m, ErrUnknownOperation, uint32(op))
	}
	w := newWriter().uint(uint64(op), 32)
	if op != OpText {
		w.uint(queryID, 64)
	}
	m.fields(encoder{w})
	b, err := w.serialize()
	if err != nil {
		return nil, fmt.Errorf("message %08x: %w", uint32(op), err)
	}
	return b, nil
}

// DecodeMessage reads a message body strictly: nothing may follow the known
// layout. It fails with ErrUnknownOperation or ErrMalformed. Who sent the
// message is for the caller to judge.
func DecodeMessage(body []byte) (queryID uint64, m Message, err error) {
	r := readBoC(body, maxMessageBytes, maxMessageCells)
	op := Op(r.u32())
	if r.err != nil {
		return 0, nil, fmt.Errorf("message body: %w", r.err)
	}
	if PaymentKind(op).valid() {
		p, err := ParsePayment(body)
		if err != nil {
			return 0, nil, err
		}
		return p.QueryID, &p, nil
	}
	m = newMessage(op)
	if m == nil {
		return 0, nil, fmt.Errorf("message body: %w %08x", ErrUnknownOperation, uint32(op))
	}
	if op != OpText {
		queryID = r.u64()
	}
	m.fields(decoder{r})
	if err := r.end(); err != nil {
		return 0, nil, fmt.Errorf("message %08x: %w", uint32(op), err)
	}
	return queryID, m, nil
}
