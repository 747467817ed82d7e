package role

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/mux"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// Converse runs a connection to a proxy until it ends: the mux, and beside it
// the conversation, which begins when the transport is up. An error of either
// ends both; it is returned.
func Converse(ctx context.Context, c *mux.Conn, conversation func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		select {
		case <-c.Ready():
		case <-ctx.Done():
			return
		}
		if err := conversation(ctx); err != nil {
			stop(err)
		}
	})
	stop(c.Run(ctx))
	return context.Cause(ctx)
}

// Ask sends a query and decodes its answer as T, within limit.
func Ask[T schema.Object](ctx context.Context, c *mux.Conn, limit time.Duration, fn schema.Object) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, wire.Errorf(wire.CodeTimeout, "no answer within %v", limit))
	defer cancel()
	v, err := mux.Call[T](ctx, c, fn)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return v, fmt.Errorf("%s: %w", fn.TLName(), err)
	}
	return v, nil
}

// PaymentReader checks the payments that one proxy sends. Between two marks a
// proxy repeats the same payment after every request, and checking a signature
// takes longer than everything else a request needs: the reader remembers the
// last one that was good. The zero value remembers none.
type PaymentReader struct {
	last atomic.Pointer[goodPayment]
}

type goodPayment struct {
	kind     bindings.PaymentKind
	contract cocoon.Address
	key      [32]byte
	payment  channel.SignedPayment
}

// Read checks a signed payment a proxy sent: operation, contract, signature.
// It returns nil for the empty form, which may arrive anywhere (spec
// network-protocol 7.3).
func (r *PaymentReader) Read(p schema.ProxySignedPaymentType, kind bindings.PaymentKind, contract cocoon.Address, key [32]byte) (*channel.SignedPayment, error) {
	signed, ok := p.(*schema.ProxySignedPayment)
	if !ok {
		return nil, nil
	}
	if l := r.last.Load(); l != nil && l.kind == kind && l.contract == contract && l.key == key && bytes.Equal(l.payment.Data, signed.Data) {
		return &l.payment, nil
	}
	pay, err := bindings.ParsePayment(signed.Data)
	if err == nil {
		err = pay.Verify(kind, contract, key)
	}
	if err == nil && pay.Tokens > math.MaxInt64 {
		err = errors.New("its counter is out of range")
	}
	if err != nil {
		return nil, fmt.Errorf("the proxy sent a bad payment: %w", err)
	}
	good := &goodPayment{kind, contract, key, channel.SignedPayment{Tokens: int64(pay.Tokens), Data: bytes.Clone(signed.Data)}}
	r.last.Store(good)
	return &good.payment, nil
}

// ProxyIdentity is what a proxy says of itself, checked against the registry.
type ProxyIdentity struct {
	Key      [32]byte // contract key: signs payments
	Owner    cocoon.Address
	Contract cocoon.Address
	Version  int32
}

// IdentifyProxy checks a proxy's params: its contract must be the one that
// derives from its key, its owner and *our* root contract. This is what makes
// an unmeasured root address on the other side harmless (spec attestation 6.5).
func IdentifyProxy(s *registry.Snapshot, p *schema.ProxyParams, isTest bool) (ProxyIdentity, error) {
	if p.Flags&3 == 0 {
		return ProxyIdentity{}, errors.New("the proxy is too old: it names no protocol version")
	}
	if p.IsTest != isTest {
		return ProxyIdentity{}, fmt.Errorf("test mode mismatch: the proxy says is_test=%v, we have %v", p.IsTest, isTest)
	}
	owner, err := cocoon.ParseAddress(p.ProxyOwnerAddress)
	if err != nil {
		return ProxyIdentity{}, fmt.Errorf("the proxy's owner: %w", err)
	}
	contract, err := bindings.ProxyAddress(s, p.ProxyPublicKey, owner)
	if err != nil {
		return ProxyIdentity{}, err
	}
	if got, err := cocoon.ParseAddress(p.ProxyScAddress); err != nil || got != contract {
		return ProxyIdentity{}, fmt.Errorf("the proxy names the contract %q, its key and owner give %s: it follows another root contract", p.ProxyScAddress, contract)
	}
	return ProxyIdentity{Key: p.ProxyPublicKey, Owner: owner, Contract: contract, Version: p.ProtoVersion}, nil
}
