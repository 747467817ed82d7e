package settle

import (
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// ClientPolicy says how a client spends by itself.
type ClientPolicy struct {
	// TopUp is the amount of one deposit; 0 = the contract's stake.
	TopUp coins.Nano
	// Budget is the most that is deposited into one client contract in all,
	// counting what was charged there; 0 = nothing is deposited by itself.
	Budget coins.Nano
}

// ClientState is what the decision for one client contract rests on.
type ClientState struct {
	Now      time.Time
	Policy   ClientPolicy
	Contract cocoon.Address
	// Storage is nil while the contract is not deployed.
	Storage *bindings.ClientStorage
	// Proxy is the storage of its proxy contract, nil if not deployed.
	Proxy *bindings.ProxyStorage
	// PoolPays says that the proxy contract pays refunds after its close.
	PoolPays bool
	// Wanted says that a proxy asked for the contract; it is deployed then.
	Wanted bool
	// SecretHash is what the contract should hold.
	SecretHash [32]byte
	// Signed is the counter of the best signed payment, 0 = none.
	Signed int64
	// OutdatedSince is when the root's params left this contract behind; zero
	// = they did not.
	OutdatedSince time.Time
	// Suspended says that the proxy charged what no request explains: nothing
	// more is deposited there.
	Suspended bool
	// Settle submits every signed payment that is worth anything.
	Settle bool
}

// PlanClient decides what a client sends next to one contract (spec
// network-protocol 7.7): one thing at a time.
func PlanClient(s ClientState) []Action {
	act := func(k Kind, value, amount coins.Nano) []Action {
		return []Action{{Kind: k, To: s.Contract, Value: value, Amount: amount}}
	}
	proxyOpen := s.Proxy != nil && s.Proxy.State == bindings.Open
	c := s.Storage
	if c == nil {
		if s.Wanted && proxyOpen && s.Policy.Budget > 0 && !s.Suspended {
			return []Action{{Kind: Deploy, To: s.Contract, Value: deployClientValue, Init: true}}
		}
		return nil
	}
	switch c.State {
	case bindings.Open:
	case bindings.Closing:
		if mayForce(s) {
			return act(RequestRefund, clientValue, c.Balance)
		}
		return nil
	default:
		return nil
	}
	// A proxy contract that closes, or did while we were away, has our money.
	if s.Proxy != nil && (s.Proxy.State == bindings.Closing || s.Proxy.State == bindings.Closed && s.PoolPays && c.Balance > 0) {
		return act(RequestRefund, clientValue, c.Balance)
	}
	if !s.OutdatedSince.IsZero() {
		// The proxy refunds by itself first; half of the time that is left
		// after our own delay is for that.
		spare := max(0, int64(c.Params.ProxyDelayBeforeClose)-int64(c.Params.ClientDelayBeforeClose))
		if s.Now.Sub(s.OutdatedSince) >= time.Duration(spare)*time.Second/2 && proxyOpen {
			return act(RequestRefund, clientValue, c.Balance)
		}
		return nil
	}
	if !proxyOpen {
		return nil
	}
	if c.SecretHash != s.SecretHash {
		return act(ChangeSecret, clientValue, 0)
	}
	if c.Balance < c.Stake/2 && !s.Suspended {
		if amount := topUp(s); amount > 0 {
			return act(TopUp, clientValue+amount, amount)
		}
	}
	due := pricing.Amount(s.Signed-int64(min(c.Tokens, 1<<63-1)), c.Params.PricePerToken)
	if due > c.Stake/2 || s.Settle && due > 0 {
		return []Action{{Kind: Charge, To: s.Contract, Value: clientValue, Tokens: s.Signed, Amount: due}}
	}
	return nil
}

// mayForce reports whether to take the second step of a refund by ourselves.
// It pays from the proxy's stake and forfeits what the stake does not cover,
// so that an open proxy with too small a stake is waited for: it grants the
// refund from the pool. A closed one pays from the pool if its code says so,
// and nothing otherwise; before that, something is better than nothing.
func mayForce(s ClientState) bool {
	if s.Proxy == nil || s.Now.Unix() <= int64(s.Storage.UnlockAt) {
		return false
	}
	switch {
	case s.Proxy.State == bindings.Closed:
		return s.PoolPays
	case s.Proxy.Stake >= s.Storage.Balance:
		return true
	}
	last := s.Proxy.State == bindings.Closing && s.Now.Unix() > int64(s.Proxy.UnlockAt)
	return last && !s.PoolPays && s.Proxy.Stake > 0
}

// topUp returns how much to deposit: whole tokens' worth, within the budget.
func topUp(s ClientState) coins.Nano {
	c := s.Storage
	amount := s.Policy.TopUp
	if amount == 0 {
		amount = c.Stake
	}
	deposited, err := c.Balance.Add(pricing.Amount(int64(min(c.Tokens, 1<<63-1)), c.Params.PricePerToken))
	if err != nil || deposited >= s.Policy.Budget {
		return 0
	}
	amount = min(amount, s.Policy.Budget-deposited)
	if p := c.Params.PricePerToken; p > 0 {
		amount -= amount % p
	}
	return amount
}
