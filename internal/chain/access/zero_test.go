//go:build !tee

package access

import (
	"errors"
	"strings"
	"testing"

	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
)

// TestZeroStateLink proves the zero state from a later state, by the link that
// liteservers give: it has no proof of its destination.
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
	zero := blockID{root: tr.zero.root, file: tr.zero.file}

	part, err := ask[ton.PartialBlockProof](t.Context(), s, ton.GetBlockProof{Mode: 1, KnownBlock: head.ext(), TargetBlock: zero.ext()})
	if err != nil {
		t.Fatal(err)
	}
	link, ok := part.Steps[0].(ton.BlockLinkBackward)
	if !ok || len(part.Steps) != 1 || len(link.DestProof) != 0 || !part.Complete {
		t.Fatalf("the way to the zero state is %+v", part)
	}
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

// TestOrigin opens a client, for which the chain must be shown to begin with
// the configured zero state, at servers that show it in different ways.
func TestOrigin(t *testing.T) {
	chain := startChain(t, nil)
	toZero := func(query tl.Serializable) bool {
		q, ok := query.(ton.GetBlockProof)
		return ok && q.TargetBlock != nil && q.TargetBlock.SeqNo == 0
	}
	refused := ton.LSError{Code: 651, Text: "not in db"}
	for name, test := range map[string]struct {
		server  twist
		headers int // of block 1 asked for
		want    error
	}{
		"by the list of blocks": {nil, 0, nil},
		"by block 1, the list is refused": {func(q, a tl.Serializable) tl.Serializable {
			if toZero(q) {
				return refused
			}
			return a
		}, 1, nil},
		"not at all": {func(q, a tl.Serializable) tl.Serializable {
			if _, ok := q.(ton.GetBlockHeader); ok || toZero(q) {
				return refused
			}
			return a
		}, 1, ErrRefused},
		"by a link that begins elsewhere": {func(q, a tl.Serializable) tl.Serializable {
			p, ok := a.(ton.PartialBlockProof)
			if !toZero(q) || !ok {
				return a
			}
			link := p.Steps[0].(ton.BlockLinkBackward)
			link.StateProof = link.Proof
			p.Steps[0] = link
			return p
		}, 0, ErrForged},
	} {
		t.Run(name, func(t *testing.T) {
			l := startLiar(t, chain, test.server)
			c, err := Open(t.Context(), Config{GlobalConfig: chain.GlobalConfig(), Servers: []Server{l.Server}})
			if err == nil {
				defer c.Close()
			}
			if !errors.Is(err, test.want) || test.want == nil && err != nil {
				t.Fatalf("%v, want %v", err, test.want)
			}
			if err != nil && !strings.Contains(err.Error(), l.Address) {
				t.Errorf("the error does not name the server: %v", err)
			}
			if got := l.count("GetBlockHeader"); got != test.headers {
				t.Errorf("%d headers were asked for, want %d", got, test.headers)
			}
		})
	}
}
