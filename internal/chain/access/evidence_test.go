//go:build !tee

package access

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/cocoon-network/cocoon"
)

// TestEvidence exports a proof and checks it with every server gone; one
// changed byte in what is proven is found.
func TestEvidence(t *testing.T) {
	chain := startChain(t, nil)
	c := open(t, Config{GlobalConfig: chain.GlobalConfig()})
	var early Block
	for b := range c.Follow(t.Context()) {
		if b.Seqno >= 4 {
			break
		}
		early = b
	}
	nobody := cocoon.Address{Hash: [32]byte{9}}
	e, err := c.Evidence(t.Context(), []uint32{early.Seqno, early.Seqno}, chain.FaucetAddress(), nobody)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	read := func() *Evidence {
		var out Evidence
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
		return &out
	}
	for name, config := range map[string][]byte{"our configuration": chain.GlobalConfig(), "the file's own": nil} {
		p, err := read().Verify(config)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if p.Network != c.Network() || p.Blocks[early.Seqno] != early {
			t.Errorf("%s: %+v", name, p)
		}
		if a := p.Accounts[chain.FaucetAddress()]; !a.Deployed() || p.Accounts[nobody].Exists {
			t.Errorf("%s: accounts %+v", name, p.Accounts)
		}
		if err := p.At(early.Seqno, early.RootHash, early.FileHash, early.Time); err != nil {
			t.Error(err)
		}
		if err := p.At(early.Seqno, early.FileHash, early.FileHash, early.Time); !errors.Is(err, ErrFork) {
			t.Errorf("another block: %v", err)
		}
	}
	for name, spoil := range map[string]func(*Evidence){
		"zero state":     func(e *Evidence) { e.Zero.RootHash[3] ^= 1 },
		"init block":     func(e *Evidence) { e.Init.RootHash[3] ^= 1 },
		"head":           func(e *Evidence) { e.Head.RootHash[3] ^= 1 },
		"forward link":   func(e *Evidence) { e.Forward[0][len(e.Forward[0])/2] ^= 1 },
		"no link":        func(e *Evidence) { e.Forward = nil },
		"origin":         func(e *Evidence) { e.Origin = nil },
		"earlier block":  func(e *Evidence) { e.Blocks[0].Block.FileHash[0] ^= 1 },
		"account":        func(e *Evidence) { e.Accounts[0].Account = nobody.Raw() },
		"account state":  func(e *Evidence) { a := e.Accounts[0].Answer; a[len(a)/2] ^= 1 },
		"account absent": func(e *Evidence) { e.Accounts[1].Answer = nil },
		"short hash":     func(e *Evidence) { e.Head.FileHash = nil },
	} {
		e := read()
		spoil(e)
		if p, err := e.Verify(chain.GlobalConfig()); err == nil {
			t.Errorf("%s: believed: %+v", name, p.Head)
		}
		if _, err := e.Verify(nil); err == nil && name != "zero state" && name != "init block" {
			t.Errorf("%s: believed without a configuration", name)
		}
	}
	other := startChain(t, nil)
	if _, err := read().Verify(other.GlobalConfig()); !errors.Is(err, ErrWrongNetwork) {
		t.Errorf("another chain's: %v", err)
	}
}

// FuzzEvidence holds what reads proofs of strangers: it never fails in another
// way than by an error, and believes nothing without the chain's signatures.
func FuzzEvidence(f *testing.F) {
	f.Add([]byte(`{"zero_state":{},"init_block":{},"block":{},"forward":[],"origin":[],"blocks":[],"accounts":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var e Evidence
		if json.Unmarshal(b, &e) == nil {
			_, _ = e.Verify(nil)
		}
	})
}
