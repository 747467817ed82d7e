package bindings

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"testing"

	"github.com/cocoon-network/cocoon"
)

// anchorCode is any code: the address depends on it, nothing else here does.
func anchorCode(t testing.TB) []byte {
	b, err := newWriter().uint(7, 8).serialize()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAnchor(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	pub := [32]byte(key.Public().(ed25519.PublicKey))
	s := AnchorStorage{NetworkID: [32]byte{1}, ProxyKey: pub, Epoch: 3, Size: 1 << 40, Roots: AnchorRoots{[32]byte{4}, [32]byte{5}, [32]byte{6}}}
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseAnchorStorage(b); err != nil || back != s {
		t.Errorf("%+v, %v", back, err)
	}
	at, err := AnchorAddress(anchorCode(t), s.NetworkID, pub)
	if err != nil {
		t.Fatal(err)
	}
	if other, _ := AnchorAddress(anchorCode(t), [32]byte{2}, pub); other == at {
		t.Error("two networks share an anchor")
	}
	step := AnchorStep{Contract: at, Epoch: 4, Size: 1<<40 + 1, PreviousLog: s.Roots.Log, Roots: AnchorRoots{[32]byte{7}, [32]byte{8}, [32]byte{9}}}
	body, err := SignAnchor(KeySigner(key), step, 99, cocoon.Address{Hash: [32]byte{1}})
	if err != nil {
		t.Fatal(err)
	}
	if back, err := ParseAnchor(body, pub); err != nil || back != step {
		t.Errorf("%+v, %v", back, err)
	}
	if _, err := ParseAnchor(body, [32]byte{1}); !errors.Is(err, ErrPaymentSignature) {
		t.Errorf("another key: %v", err)
	}
}

func FuzzAnchor(f *testing.F) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{3}, 32))
	body, _ := SignAnchor(KeySigner(key), AnchorStep{Epoch: 1}, 1, cocoon.Address{})
	f.Add(body)
	data, _ := (&AnchorStorage{Epoch: 1}).Encode()
	f.Add(data)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseAnchor(b, [32]byte(key.Public().(ed25519.PublicKey)))
		if s, err := ParseAnchorStorage(b); err == nil {
			again, err := s.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if back, err := ParseAnchorStorage(again); err != nil || back != s {
				t.Errorf("%+v becomes %+v, %v", s, back, err)
			}
		}
	})
}
