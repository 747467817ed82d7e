package client

import (
	"errors"
	"math"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// TestMeets holds that each demand refuses a worker that does not meet it, and
// none another.
func TestMeets(t *testing.T) {
	c := &Client{reputations: newReputations()}
	plain := &tee.Node{Model: "m@1:2", Result: &attest.Result{Kind: attest.TDX}, Factors: []attest.Factor{{Name: "GPU evidence", Result: attest.Skip}}}
	gpu := &tee.Node{Model: "m@1:2", Result: &attest.Result{Kind: attest.TDX, Platform: [32]byte{1}}, Factors: []attest.Factor{{Name: "GPU evidence", Result: attest.Pass, Enforced: true}}}
	bad := &tee.Node{Model: "m@1:2", Result: &attest.Result{Kind: attest.TDX, Platform: [32]byte{2}}}
	c.reputations.note(bad, endBadPart, 0)
	for _, x := range []struct {
		name string
		call api.Call
		node *tee.Node
		want error
	}{
		{"nothing", api.Call{}, plain, nil},
		{"pinned", api.Call{Choices: api.Choices{Pin: "m@1:2"}}, plain, nil},
		{"pinned to another", api.Call{Choices: api.Choices{Pin: "m@1:3"}}, plain, ErrPinned},
		{"kind", api.Call{Choices: api.Choices{Verdicts: []attest.Kind{attest.SEVSNP, attest.TDX}}}, plain, nil},
		{"another kind", api.Call{Choices: api.Choices{Verdicts: []attest.Kind{attest.SEVSNP}}}, plain, ErrVerdict},
		{"no result", api.Call{Choices: api.Choices{Verdicts: []attest.Kind{attest.TDX}}}, &tee.Node{}, ErrVerdict},
		{"GPU", api.Call{Choices: api.Choices{GPUEvidence: true}}, gpu, nil},
		{"GPU not judged", api.Call{Choices: api.Choices{GPUEvidence: true}}, plain, ErrNoGPU},
		{"reputation", api.Call{MinReputation: 0.9}, plain, nil},
		{"bad reputation", api.Call{MinReputation: 0.9}, bad, ErrReputation},
	} {
		if err := c.meets(&x.call, x.node); !errors.Is(err, x.want) || err != nil && x.want == nil {
			t.Errorf("%s: %v, want %v", x.name, err, x.want)
		}
		if of := x.call.OfWorkers(); of != (x.name != "nothing") {
			t.Errorf("%s: a demand on workers: %v", x.name, of)
		}
	}
}

// TestCoefficientAt holds that no worker within the coefficient breaks the cap,
// and that the next one would.
func TestCoefficientAt(t *testing.T) {
	p := &registry.Params{PricePerToken: 20, Multipliers: pricing.Multipliers{Prompt: 10000, Cached: 1000, Completion: 80000, Reasoning: 80000}}
	for _, price := range []coins.Nano{1, 159_999, 160_000, 160_001, 1_000_000, 160_000_000, 640_000_001} {
		c := int64(coefficientAt(price, p))
		cost := func(c int64) int64 { return 20 * 8 * c * 1000 }
		if cost(c) > int64(price) || cost(c+1) <= int64(price) {
			t.Errorf("price %d: coefficient %d costs %d", price, c, cost(c))
		}
	}
	if c := coefficientAt(math.MaxUint64, p); c != math.MaxInt32 {
		t.Errorf("no cap: %d", c)
	}
	if c := coefficientAt(1, &registry.Params{}); c != math.MaxInt32 {
		t.Errorf("free: %d", c)
	}
	if got := millionAt1000(p); got != "160000000" {
		t.Errorf("%s", got)
	}
}
