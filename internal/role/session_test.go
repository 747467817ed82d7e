package role

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

type testSigner ed25519.PrivateKey

func (s testSigner) SignHash(h [32]byte) ([]byte, error) {
	return ed25519.Sign(ed25519.PrivateKey(s), h[:]), nil
}

// TestPaymentReader: a payment that was good once is good again for the same
// contract, kind and key only, and what was bad is never remembered.
func TestPaymentReader(t *testing.T) {
	signer := testSigner(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{5}, 32)))
	key := [32]byte(ed25519.PrivateKey(signer).Public().(ed25519.PublicKey))
	contract, other := cocoon.Address{Hash: [32]byte{1}}, cocoon.Address{Hash: [32]byte{2}}
	sign := func(tokens uint64) *schema.ProxySignedPayment {
		b, err := bindings.SignPayment(signer, bindings.ClientCharge, contract, tokens, 1, other)
		if err != nil {
			t.Fatal(err)
		}
		return &schema.ProxySignedPayment{Data: b}
	}
	var r PaymentReader
	good := sign(7)
	forged := &schema.ProxySignedPayment{Data: bytes.Clone(good.Data)}
	// The operation's reference cells come last: one bit of the signed counter.
	forged.Data[len(forged.Data)-1] ^= 1
	for range 2 {
		if p, err := r.Read(good, bindings.ClientCharge, contract, key); err != nil || p.Tokens != 7 || !bytes.Equal(p.Data, good.Data) {
			t.Fatalf("%+v, %v", p, err)
		}
		for name, read := range map[string]func() error{
			"forged":           func() error { _, err := r.Read(forged, bindings.ClientCharge, contract, key); return err },
			"another contract": func() error { _, err := r.Read(good, bindings.ClientCharge, other, key); return err },
			"another kind":     func() error { _, err := r.Read(good, bindings.WorkerPayout, contract, key); return err },
			"another key":      func() error { _, err := r.Read(good, bindings.ClientCharge, contract, [32]byte{1}); return err },
		} {
			if read() == nil {
				t.Errorf("%s: a payment was taken", name)
			}
		}
		if p, err := r.Read(&schema.ProxySignedPaymentEmpty{}, bindings.ClientCharge, contract, key); p != nil || err != nil {
			t.Errorf("the empty form: %v, %v", p, err)
		}
	}
	// What the connection's buffer becomes later does not change what is known.
	clear(good.Data)
	if _, err := r.Read(good, bindings.ClientCharge, contract, key); err == nil {
		t.Error("zeros were taken for a payment")
	}
	if p, err := r.Read(sign(8), bindings.ClientCharge, contract, key); err != nil || p.Tokens != 8 {
		t.Errorf("%+v, %v", p, err)
	}
}
