package proxy

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// account is the book of one client contract in memory: what it may still
// reserve. What it used stands in the ledger.
type account struct {
	owner cocoon.Address

	mu   sync.Mutex
	open bool
	book channel.ClientBook
}

func (p *Proxy) account(owner, contract cocoon.Address) *account {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.accounts[contract]
	if a == nil {
		a = &account{owner: owner}
		p.accounts[contract] = a
	}
	return a
}

// reserve takes tokens off what a client may spend (spec network-protocol 6).
func (p *Proxy) reserve(i *instance, owner, contract cocoon.Address, tokens int64) (*account, *wire.Error) {
	state, err := p.cfg.Contracts.Client(owner)
	if err != nil {
		return nil, wire.Errorf(wire.CodeError, "client balance is too low: no client contract")
	}
	a := p.account(owner, contract)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.open {
		a.book, err = channel.NewClientBook(i.snap.Params.PricePerToken, state, p.cfg.Ledger.Client(owner))
		a.open = err == nil
	} else {
		a.book, err = a.book.OnChain(state)
	}
	if err == nil {
		a.book, err = a.book.Reserve(tokens)
	}
	var poor *channel.BalanceError
	switch {
	case err == nil:
		return a, nil
	case errors.Is(err, channel.ErrClosing):
		return nil, wire.Errorf(wire.CodeNotReady, "client is closing")
	case errors.As(err, &poor):
		return nil, wire.Errorf(wire.CodeError, "%v", poor)
	}
	p.log.Error("a client's account cannot be used", "client", owner, "err", err)
	return nil, wire.Errorf(wire.CodeNotReady, "the proxy cannot keep this client's account")
}

// settle ends a reservation; used is what was written to the ledger.
func (a *account) settle(reserved, used int64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	a.book, _, err = a.book.Settle(reserved, used)
	return err
}

func (a *account) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.book.Running() > 0
}

// maxSigned bounds the signed payments that are kept. They are only kept to
// save signatures, and a worker is free to come back under another owner.
const maxSigned = 1 << 14

type signedKey struct {
	kind     bindings.PaymentKind
	contract cocoon.Address
}

type signedPayment struct {
	tokens int64
	data   []byte
}

// payment returns the signed payment for a contract's committed counter. It
// is signed once for each value of the counter (spec network-protocol 7.3).
func (p *Proxy) payment(kind bindings.PaymentKind, contract cocoon.Address, committed int64) (schema.ProxySignedPaymentType, error) {
	key := signedKey{kind, contract}
	p.mu.Lock()
	have, ok := p.signed[key]
	p.mu.Unlock()
	if !ok || have.tokens < committed {
		var q [8]byte
		if _, err := rand.Read(q[:]); err != nil {
			return nil, err
		}
		data, err := bindings.SignPayment(p.cfg.Signer, kind, contract, uint64(committed), binary.BigEndian.Uint64(q[:]), p.cfg.Wallet)
		if err != nil {
			return nil, err
		}
		p.mu.Lock()
		// Another request may have signed a newer one meanwhile.
		if newer, ok := p.signed[key]; ok && newer.tokens > committed {
			have = newer
		} else {
			have = signedPayment{tokens: committed, data: data}
			if !ok && len(p.signed) >= maxSigned {
				clear(p.signed)
			}
			p.signed[key] = have
		}
		p.mu.Unlock()
	}
	return &schema.ProxySignedPayment{Data: have.data}, nil
}

// paymentAtHand is the payment that was signed last, which may be none (spec
// network-protocol 7.3).
func (p *Proxy) paymentAtHand(kind bindings.PaymentKind, contract cocoon.Address) schema.ProxySignedPaymentType {
	p.mu.Lock()
	defer p.mu.Unlock()
	if have, ok := p.signed[signedKey{kind, contract}]; ok {
		return &schema.ProxySignedPayment{Data: have.data}
	}
	return &schema.ProxySignedPaymentEmpty{}
}
