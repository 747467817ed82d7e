package client

import (
	"errors"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/receipt"
)

func stepOf(before, after int64, previous [32]byte) (*step, [32]byte) {
	p := &receipt.ProxyPart{RequestID: [32]byte{byte(after)}, Statement: [32]byte{1}, Before: before, After: after, Previous: previous}
	d := receipt.Digest(p.Encode())
	return &step{p, d}, d
}

// TestSteps: parts explain the counter in whatever order they come, and what
// does not join on is refused by name.
func TestSteps(t *testing.T) {
	first, d1 := stepOf(10, 15, [32]byte{9})
	second, d2 := stepOf(15, 20, d1)
	third, _ := stepOf(20, 30, d2)
	b := &books{waiting: map[int64]*step{}}
	if b.begin(10) {
		t.Error("a new book has a gap")
	}
	for _, s := range []*step{third, second, first} {
		b.waiting[s.part.Before] = s
		if err := b.advance(); err != nil {
			t.Fatal(err)
		}
	}
	if b.after != 30 || len(b.waiting) != 0 {
		t.Errorf("at %d, %d wait", b.after, len(b.waiting))
	}
	again, _ := stepOf(15, 40, d1)
	b.waiting[15] = again
	if err := b.advance(); !errors.Is(err, receipt.ErrJump) {
		t.Errorf("a counter that jumps: %v", err)
	}
	other, _ := stepOf(30, 40, [32]byte{7})
	b.waiting[30] = other
	if err := b.advance(); !errors.Is(err, receipt.ErrStep) {
		t.Errorf("another predecessor: %v", err)
	}
	if !b.begun || b.begin(99) {
		t.Error("a book begins twice")
	}
}

// TestPromised: a part must promise something that can be broken.
func TestPromised(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	c := &Client{cfg: Config{Now: func() time.Time { return now }}}
	onChain, off := &tee.Node{NetworkID: [32]byte{1}}, &tee.Node{}
	for name, tt := range map[string]struct {
		block receipt.Block
		by    *tee.Node
		want  error
	}{
		"a block of now":             {receipt.Block{Seqno: 1, Time: now}, onChain, nil},
		"a little ahead":             {receipt.Block{Seqno: 1, Time: now.Add(maxAhead)}, onChain, nil},
		"no promise":                 {receipt.Block{}, onChain, receipt.ErrPromise},
		"no promise without a chain": {receipt.Block{}, off, nil},
		"in the next century":        {receipt.Block{Seqno: 1, Time: now.AddDate(74, 0, 0)}, onChain, receipt.ErrPromise},
	} {
		if err := c.promised(&receipt.ProxyPart{Block: tt.block}, tt.by); !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTermsOfPart: a part is charged at the root contract's price and
// multipliers.
func TestTermsOfPart(t *testing.T) {
	m := pricing.Multipliers{Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000}
	terms := &registry.Params{PricePerToken: 20, Multipliers: m}
	good := receipt.Price{PerToken: 20, Coefficient: 1000, Prompt: m.Prompt, Cached: m.Cached, Completion: m.Completion, Reasoning: m.Reasoning}
	e := &expected{most: 100}
	for name, change := range map[string]func(*receipt.Price){
		"the root contract's":  func(*receipt.Price) {},
		"another price":        func(p *receipt.Price) { p.PerToken++ },
		"another multiplier":   func(p *receipt.Price) { p.Completion++ },
		"cached as if it were": func(p *receipt.Price) { p.Cached = p.Prompt },
	} {
		p := &receipt.ProxyPart{Price: good, After: 90}
		change(&p.Price)
		want := error(nil)
		if p.Price != good {
			want = receipt.ErrPrice
		}
		if err := e.check(p, nil, terms); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestShownSets: sets are remembered over connections, the newest of them.
func TestShownSets(t *testing.T) {
	c := &Client{shown: map[[32]byte][][32]byte{}}
	key := [32]byte{1}
	for i := range maxVersions + 44 {
		c.noteShown(key, [32]byte{byte(i), byte(i >> 8)})
		c.noteShown(key, [32]byte{byte(i), byte(i >> 8)})
	}
	if got := c.shown[key]; len(got) != maxVersions || got[0] != [32]byte{44} {
		t.Errorf("%d remembered, from %x", len(got), got[0][:2])
	}
}
