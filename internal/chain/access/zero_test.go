//go:build !tee

package access

import (
	"errors"
	"testing"

	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// TestZeroStateLink proves the zero state from a later state, with the link
// that liteservers of the network give: it has no proof of its destination.
func TestZeroStateLink(t *testing.T) {
	chain := startChain(t, nil)
	waitSeqno(t, chain, 4)
	cfg := Config{GlobalConfig: chain.GlobalConfig()}
	tr, servers, err := cfg.prepare()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Server: servers[0], cfg: &cfg}
	defer s.close()
	top := chain.Head()
	head := blockID{seqno: top.Seqno, root: top.RootHash, file: top.FileHash}

	// The proof of the head's state hash, from a link to block 1.
	part, err := ask[ton.PartialBlockProof](t.Context(), s, ton.GetBlockProof{Mode: 1, KnownBlock: head.ext(), TargetBlock: tr.init.ext()})
	if err != nil {
		t.Fatal(err)
	}
	link := part.Steps[0].(ton.BlockLinkBackward)

	// The proof in the state, made here from all of it.
	full, err := ask[ton.BlockState](t.Context(), s, ton.GetState{ID: head.ext()})
	if err != nil {
		t.Fatal(err)
	}
	root, err := cell.FromBOC(full.Data)
	if err != nil {
		t.Fatal(err)
	}
	proof := cell.NewMerkleProofBuilder(root)
	loader, err := proof.Root().BeginParse()
	if err != nil {
		t.Fatal(err)
	}
	var state tlb.ShardStateUnsplit
	if err := tlb.LoadFromCell(&state, loader); err != nil {
		t.Fatal(err)
	}
	var extra tlb.McStateExtra
	if err := tlb.Parse(&extra, state.McStateExtra); err != nil {
		t.Fatal(err)
	}
	zero := blockID{root: tr.zero.root, file: tr.zero.file}
	if h, err := prevBlock(&extra, 0); err != nil || h.id != zero {
		t.Fatalf("the state lists %s as zero state, %v", h.id, err)
	}
	stateProof, err := proof.CreateProof()
	if err != nil {
		t.Fatal(err)
	}
	link.To, link.DestProof, link.StateProof = zero.ext(), nil, stateProof.ToBOC()

	if h, err := checkBackward(head, &link); err != nil || h.id != zero {
		t.Errorf("the genuine link: %s, %v", h.id, err)
	}
	for name, change := range map[string]func(*blockID){
		"root hash": func(b *blockID) { b.root[0] ^= 1 },
		"file hash": func(b *blockID) { b.file[0] ^= 1 },
	} {
		other := zero
		change(&other)
		link.To = other.ext()
		if _, err := checkBackward(head, &link); !errors.Is(err, ErrFork) {
			t.Errorf("another %s: %v, want %v", name, err, ErrFork)
		}
	}
	link.To = zero.ext()
	if _, err := checkBackward(tr.init, &link); !errors.Is(err, ErrForged) {
		t.Errorf("from another block: %v, want %v", err, ErrForged)
	}
}
