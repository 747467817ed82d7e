//go:build !tee

package statement

import (
	"bytes"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
)

// sample is the statement and bundle of the vectors.
func sample() (*Statement, *Bundle) {
	k := newContractKey(3)
	contract, _ := deriveContract(k.public(), proxyOwner)
	s := &Statement{
		Role: cocoon.RoleProxy, NetworkID: [32]byte(bytes.Repeat([]byte{0x11}, 32)), NodeKey: newContractKey(7).public(),
		Contract: contract, ContractKey: k.public(), Owner: proxyOwner,
		Block:   Block{Seqno: 1000, RootHash: [32]byte(bytes.Repeat([]byte{0x22}, 32)), FileHash: [32]byte(bytes.Repeat([]byte{0x33}, 32))},
		Counter: 1, Build: "vector",
	}
	s.Block.Time = s.Block.Time.AddDate(2025, 0, 0)
	b := s.Encode()
	sig := k.SignStatement(Digest(b))
	return s, &Bundle{
		Statement: b, Evidence: attest.Evidence{Format: attest.FormatTDX, Quote: []byte("a quote")}, ContractSignature: sig[:],
		Predecessor: newContractKey(2).public(), SuccessorSignature: newContractKey(2).successor(k.public()),
	}
}

func FuzzStatement(f *testing.F) {
	s, _ := sample()
	f.Add(s.Encode())
	f.Add((&Statement{Role: cocoon.RoleClient, NodeKey: [32]byte{1}}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		if again := s.Encode(); !bytes.Equal(again, b) {
			t.Errorf("%x becomes %x", b, again)
		}
	})
}

func FuzzBundle(f *testing.F) {
	_, b := sample()
	f.Add(b.Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := ParseBundle(raw)
		if err != nil {
			return
		}
		if again := b.Encode(); !bytes.Equal(again, raw) {
			t.Errorf("%x becomes %x", raw, again)
		}
	})
}

// FuzzSession gives an acceptor whatever a peer may send.
func FuzzSession(f *testing.F) {
	w := newWorld(f)
	m := w.sessions(IssuerConfig{Role: cocoon.RoleClient}, w.verifier(cocoon.RoleClient))
	own, err := m.cfg.Issuer.Current(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	s := exportedSession(m)
	_, hello, err := s.hello(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(openQuery(hello), proveQuery(own.Bundle))
	f.Fuzz(func(t *testing.T, open, prove []byte) {
		s := exportedSession(m)
		if _, err := s.answerOpen(t.Context(), open); err != nil {
			return
		}
		if _, err := s.answerProve(t.Context(), prove); err == nil {
			t.Error("accepted a proof nobody signed")
		}
	})
}
