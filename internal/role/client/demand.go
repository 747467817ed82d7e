package client

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// Why a verified worker does not serve a call: what the caller demands.
var (
	ErrVerdict = errors.New("the worker's evidence is not of a kind that the call accepts")
	ErrNoGPU   = errors.New("the worker shows no verified evidence of its GPU, which the call demands")
	ErrPinned  = errors.New("the worker serves another version of the model than the call pins")
)

// meets holds a verified worker against what a call demands of it.
func (c *Client) meets(call *api.Call, n *tee.Node) error {
	switch {
	case call.Pin != "" && n.Model != call.Pin:
		return ErrPinned
	case call.Verdicts != nil && (n.Result == nil || !slices.Contains(call.Verdicts, n.Result.Kind)):
		return fmt.Errorf("%w: it is %q, accepted are %q", ErrVerdict, kindOf(n), call.Verdicts)
	case call.GPUEvidence && !showsGPU(n):
		return ErrNoGPU
	}
	if least := max(call.MinReputation, c.cfg.MinReputation); least > 0 && c.reputations.score(n) < least {
		return ErrReputation
	}
	return nil
}

// kindOf is the kind of a worker's evidence.
func kindOf(n *tee.Node) attest.Kind {
	if n.Result == nil {
		return attest.None
	}
	return n.Result.Kind
}

// showsGPU reports whether GPU evidence was shown, judged and accepted.
func showsGPU(n *tee.Node) bool {
	return slices.ContainsFunc(n.Factors, func(f attest.Factor) bool {
		return f.Name == "GPU evidence" && f.Enforced && f.Result == attest.Pass
	})
}

// doAtPrice is doAs with the caller's cap on the price turned into the highest
// coefficient at this proxy's prices.
func (s *session) doAtPrice(ctx context.Context, mode api.Seal, call *api.Call, query []byte, maxCoefficient int32, deadline time.Time, patience time.Duration) (*api.Answer, bool, error) {
	if call.MaxPrice > 0 {
		highest := coefficientAt(call.MaxPrice, &s.snap.Params)
		if highest < 1 {
			return nil, true, openai.InvalidRequest("max_price", "No worker can be as cheap: at the network's prices a million tokens of the dearest kind cost %s nano at the coefficient 1000.", millionAt1000(&s.snap.Params))
		}
		maxCoefficient = min(maxCoefficient, highest)
	}
	return s.doAs(ctx, mode, call, query, maxCoefficient, deadline, patience)
}

// coefficientAt is the highest coefficient at which a million tokens of the
// dearest kind cost at most price: price = 10^6 · nano · c/1000 · m/10000.
func coefficientAt(price coins.Nano, p *registry.Params) int32 {
	perUnit := dearest(p) // of the price of 10^6 tokens, per 10^7 of c
	if perUnit.Sign() == 0 {
		return math.MaxInt32 // free
	}
	c := new(big.Int).Mul(new(big.Int).SetUint64(uint64(price)), big.NewInt(10))
	if c.Div(c, perUnit); !c.IsInt64() || c.Int64() > math.MaxInt32 {
		return math.MaxInt32
	}
	return int32(c.Int64())
}

// dearest is nano · m, with the largest multiplier.
func dearest(p *registry.Params) *big.Int {
	m := max(p.Multipliers.Prompt, p.Multipliers.Cached, p.Multipliers.Completion, p.Multipliers.Reasoning)
	return new(big.Int).Mul(new(big.Int).SetUint64(uint64(p.PricePerToken)), big.NewInt(int64(m)))
}

func millionAt1000(p *registry.Params) string {
	return fmt.Sprint(new(big.Int).Mul(dearest(p), big.NewInt(100)))
}
