package client

import (
	"errors"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// The secret goes only to who proved the contract key, or real hardware.
func TestMayLogIn(t *testing.T) {
	for _, tt := range []struct {
		name    string
		peer    tee.Peer
		fake    bool
		allowed bool
		want    error
	}{
		{name: "level 1", peer: tee.Peer{Kind: attest.Simulated, Node: &tee.Node{}}},
		{name: "level 0, TDX", peer: tee.Peer{Kind: attest.TDX}},
		{name: "level 0, SEV-SNP", peer: tee.Peer{Kind: attest.SEVSNP}},
		{name: "level 0, simulated", peer: tee.Peer{Kind: attest.Simulated}, want: ErrLogin},
		{name: "level 0, fake", peer: tee.Peer{Kind: attest.Fake}, want: ErrLogin},
		{name: "level 0, nothing", peer: tee.Peer{Kind: attest.None}, want: ErrLogin},
		{name: "level 0, simulated, allowed", peer: tee.Peer{Kind: attest.Simulated}, allowed: true},
		{name: "no chain, nothing to lose", peer: tee.Peer{Kind: attest.Fake}, fake: true},
	} {
		s := &session{c: &Client{cfg: Config{Level0Login: tt.allowed}}, peer: tt.peer, snap: &registry.Snapshot{Fake: tt.fake}}
		if err := s.mayLogIn(); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
