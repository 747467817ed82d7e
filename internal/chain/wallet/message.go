package wallet

import (
	"errors"
	"fmt"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// The send modes that wallets use, to be added up.
const (
	ModePayFees      = 1   // fees come on top of the amount
	ModeIgnoreErrors = 2   // a failing message is skipped
	ModeAll          = 128 // the whole balance
)

// Message is one internal message that a wallet sends.
type Message struct {
	To     cocoon.Address
	Amount coins.Nano
	// Bounce makes the amount return if the receiver cannot take it. A plain
	// payment to an account that may not be deployed yet must not bounce.
	Bounce bool
	// Body and Init are bags of cells; nil = none. Init deploys To.
	Body, Init []byte
	Mode       uint8
}

// Comment returns the body of a message that carries a text for people.
func Comment(text string) []byte {
	b := cell.BeginCell().MustStoreUInt(0, 32)
	b.MustStoreStringSnake(text)
	return b.EndCell().ToBOC()
}

// Deploy returns the message that creates the contract of the given code and
// data, both bags of cells, in workchain 0 and gives it amount. Its To is the
// contract's address.
func Deploy(code, data []byte, amount coins.Nano) (Message, error) {
	codeCell, err := cell.FromBOC(code)
	if err != nil {
		return Message{}, fmt.Errorf("code to deploy: %w", err)
	}
	dataCell, err := cell.FromBOC(data)
	if err != nil {
		return Message{}, fmt.Errorf("data to deploy: %w", err)
	}
	init := stateInitCell(codeCell, dataCell)
	return Message{To: cocoon.Address{Hash: init.HashKey()}, Amount: amount, Init: init.ToBOC()}, nil
}

// cell builds the message as the reference node does: the body in a reference,
// all fees, times and the source left zero for the wallet to fill (spec
// contracts 2.4).
func (m Message) cell() (*cell.Cell, error) {
	if m.To.IsZero() {
		return nil, errors.New("message without a target address")
	}
	flags := uint64(0x10)
	if m.Bounce {
		flags = 0x18
	}
	b := cell.BeginCell().MustStoreUInt(flags, 6).MustStoreBuilder(storeAddress(m.To)).
		MustStoreCoins(uint64(m.Amount)).
		MustStoreUInt(0, 1+4+4).MustStoreUInt(0, 64).MustStoreUInt(0, 32)
	if m.Init == nil {
		b.MustStoreUInt(0, 1)
	} else {
		init, err := cell.FromBOC(m.Init)
		if err != nil {
			return nil, fmt.Errorf("message to %s: state init: %w", m.To, err)
		}
		b.MustStoreUInt(0b11, 2).MustStoreRef(init)
	}
	if m.Body == nil {
		b.MustStoreUInt(0, 1)
	} else {
		body, err := cell.FromBOC(m.Body)
		if err != nil {
			return nil, fmt.Errorf("message to %s: body: %w", m.To, err)
		}
		b.MustStoreUInt(1, 1).MustStoreRef(body)
	}
	return b.EndCell(), nil
}

// External is a signed external message.
type External struct {
	BoC []byte
	// BodyHash identifies it among a wallet's transactions.
	BodyHash   [32]byte
	Seqno      uint32
	ValidUntil time.Time
}

// Build signs messages as one external message of the contract. With deploy
// the StateInit is attached, which the first message needs.
func (c Contract) Build(key Key, messages []Message, seqno uint32, validUntil time.Time, deploy bool) (External, error) {
	if key.Public() != c.PublicKey {
		return External{}, errors.New("the key is not the wallet's")
	}
	state, err := c.stateInit()
	if err != nil {
		return External{}, err
	}
	body, err := c.body(key, messages, seqno, uint32(validUntil.Unix()))
	if err != nil {
		return External{}, err
	}
	b := cell.BeginCell().MustStoreUInt(0b1000, 4).
		MustStoreBuilder(storeAddress(cocoon.Address{Hash: state.HashKey()})).
		MustStoreUInt(0, 4) // import fee
	if deploy {
		b.MustStoreUInt(0b11, 2).MustStoreRef(state)
	} else {
		b.MustStoreUInt(0, 1)
	}
	b.MustStoreUInt(1, 1).MustStoreRef(body)
	return External{
		BoC:        b.EndCell().ToBOC(),
		BodyHash:   body.HashKey(),
		Seqno:      seqno,
		ValidUntil: time.Unix(validUntil.Unix(), 0),
	}, nil
}

func (c Contract) body(key Key, messages []Message, seqno, validUntil uint32) (*cell.Cell, error) {
	if n := len(messages); n == 0 || n > c.Kind.MaxMessages() {
		return nil, fmt.Errorf("%d messages given; a %s wallet sends 1 to %d at once", n, c.Kind, c.Kind.MaxMessages())
	}
	cells := make([]*cell.Cell, len(messages))
	modes := make([]uint64, len(messages))
	for i, m := range messages {
		var err error
		if cells[i], err = m.cell(); err != nil {
			return nil, err
		}
		modes[i] = uint64(m.Mode)
		if c.Kind == V5R1 {
			modes[i] |= ModeIgnoreErrors // it takes no external message without
		}
	}
	signed := cell.BeginCell()
	if c.Kind == V5R1 {
		signed.MustStoreUInt(0x7369676e, 32)
	}
	signed.MustStoreUInt(uint64(c.id()), 32).MustStoreUInt(uint64(validUntil), 32).MustStoreUInt(uint64(seqno), 32)
	if c.Kind == V5R1 {
		// A linked list of actions, the first one innermost, and no extended
		// action.
		list := cell.BeginCell().EndCell()
		for i, m := range cells {
			list = cell.BeginCell().MustStoreRef(list).MustStoreUInt(0x0ec3c86d, 32).
				MustStoreUInt(modes[i], 8).MustStoreRef(m).EndCell()
		}
		signed.MustStoreUInt(1, 1).MustStoreRef(list).MustStoreUInt(0, 1)
		signature := key.Sign(signed.EndCell().HashKey())
		return signed.MustStoreSlice(signature[:], 512).EndCell(), nil
	}
	if c.Kind == V4R2 {
		signed.MustStoreUInt(0, 8) // operation: send
	}
	for i, m := range cells {
		signed.MustStoreUInt(modes[i], 8).MustStoreRef(m)
	}
	signature := key.Sign(signed.EndCell().HashKey())
	return cell.BeginCell().MustStoreSlice(signature[:], 512).MustStoreBuilder(signed).EndCell(), nil
}
