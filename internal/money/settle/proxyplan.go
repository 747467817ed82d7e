package settle

import (
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// ProxyPolicy says when a proxy moves money by itself. Amounts are money,
// never tokens.
type ProxyPolicy struct {
	Charge   coins.Nano // charge a client that owes this much; 0 = 1 coin
	Payout   coins.Nano // pay a worker that is owed this much; 0 = 10 coins
	Withdraw coins.Nano // withdraw earnings of this much; 0 = 10 coins
	// MarkEvery is the least time between marks; 0 = 45 s.
	MarkEvery time.Duration
	// Stake is kept in the contract as a guarantee for clients, who can take
	// refunds from it when the proxy is silent; 0 = none.
	Stake coins.Nano
}

func (p ProxyPolicy) withDefaults() ProxyPolicy {
	return ProxyPolicy{
		or(p.Charge, coins.PerCoin), or(p.Payout, 10*coins.PerCoin), or(p.Withdraw, 10*coins.PerCoin), or(p.MarkEvery, 45*time.Second), p.Stake,
	}
}

// everything is the policy of settling at once: whatever is due. A stake is not.
// Marks wait for no time at all, as the chain's has whole seconds.
func (p ProxyPolicy) everything() ProxyPolicy { return ProxyPolicy{1, 1, 1, 0, 0} }

// ProxyState is what the decision for one proxy contract rests on.
type ProxyState struct {
	Now      time.Time
	Policy   ProxyPolicy // complete
	Contract cocoon.Address
	// Storage is nil while the contract is not deployed.
	Storage *bindings.ProxyStorage
	Pool    coins.Nano // balance of the contract
	Clients []ClientDue
	Workers []WorkerDue
	// MarkAge is the time since the last mark was sent; MarkNeeded says that
	// charges, or a session, are not covered by a mark yet.
	MarkAge    time.Duration
	MarkNeeded bool
	// Retire says that the contract is to be closed: its params are outdated.
	Retire bool
}

// ClientDue is one client's account.
type ClientDue struct {
	Owner    cocoon.Address
	Contract cocoon.Address
	Counters channel.Counters
	Chain    channel.ClientContract
	Idle     bool // no request of it is running
}

// WorkerDue is one worker's account.
type WorkerDue struct {
	Owner    cocoon.Address
	Contract cocoon.Address
	Counters channel.Counters
	Paid     int64
}

// poolReserve stays in a proxy contract for its storage and gas.
const poolReserve = coins.PerCoin / 10

// PlanProxy decides what a proxy sends next, the most important first.
func PlanProxy(s ProxyState) []Action {
	switch {
	case s.Storage == nil && s.Retire:
		return nil
	case s.Storage == nil:
		return []Action{{Kind: Deploy, To: s.Contract, Value: deployValue, Init: true}}
	case s.Retire || s.Storage.State != bindings.Open:
		return planRetirement(s)
	}
	var out []Action
	if s.MarkNeeded && s.MarkAge >= s.Policy.MarkEvery {
		out = append(out, Action{Kind: Mark, To: s.Contract, Value: markValue})
	}
	price, fee := s.Storage.Params.PricePerToken, s.Storage.Params.WorkerFeePerToken
	for _, c := range s.Clients {
		if !c.Chain.Open && c.Chain.Balance > 0 && c.Idle {
			out = append(out, refund(c, price))
		} else if due := pricing.Amount(c.Counters.Durable-c.Chain.Charged, price); due >= s.Policy.Charge && c.Chain.Open {
			out = append(out, Action{Kind: Charge, To: c.Contract, Owner: c.Owner, Value: clientValue, Tokens: c.Counters.Durable, Amount: due})
		}
	}
	pool := s.Pool
	for _, w := range s.Workers {
		due := pricing.Amount(w.Counters.Committed-w.Paid, fee)
		if due >= s.Policy.Payout && affords(&pool, due) {
			out = append(out, Action{Kind: PayWorker, To: w.Contract, Owner: w.Owner, Value: payoutValue, Tokens: w.Counters.Committed, Amount: due, Init: true})
		}
	}
	if e := s.Storage.Earnings; e >= s.Policy.Withdraw && affords(&pool, e) {
		out = append(out, Action{Kind: WithdrawEarnings, To: s.Contract, Value: withdrawValue, Amount: e})
	}
	// Last, as a wallet that cannot pay it must still do everything else.
	if have := s.Storage.Stake; have < s.Policy.Stake {
		more := s.Policy.Stake - have
		if value, err := more.Add(withdrawValue); err == nil {
			out = append(out, Action{Kind: IncreaseStake, To: s.Contract, Value: value, Amount: more})
		}
	}
	return out
}

// refund closes a client's contract and gives back what is left after the
// final charge.
func refund(c ClientDue, price coins.Nano) Action {
	left, err := c.Chain.Balance.Sub(pricing.Amount(c.Counters.Durable-c.Chain.Charged, price))
	if err != nil {
		left = 0
	}
	return Action{Kind: GrantRefund, To: c.Contract, Owner: c.Owner, Value: closingValue, Tokens: c.Counters.Durable, Amount: left}
}

// affords takes amount out of pool if it is there. The contract checks again;
// a request it cannot pay would only cost gas.
func affords(pool *coins.Nano, amount coins.Nano) bool {
	with, err := amount.Add(poolReserve)
	if err != nil || with > *pool {
		return false
	}
	*pool -= amount
	return true
}

// planRetirement closes an old contract, or one that its owner began to
// close, step by step (spec network-protocol 7.6): close, a refund to each client, the last payout to each worker, and
// after the delay the rest. Each step waits until the one before is on chain.
func planRetirement(s ProxyState) []Action {
	switch s.Storage.State {
	case bindings.Open:
		return []Action{{Kind: CloseProxy, To: s.Contract, Value: closingValue}}
	case bindings.Closing:
	default:
		return nil
	}
	var out []Action
	open := false
	for _, c := range s.Clients {
		if c.Chain.Open || c.Chain.Balance > 0 {
			open = true
			if c.Idle {
				out = append(out, refund(c, s.Storage.Params.PricePerToken))
			}
		}
	}
	if open {
		return out
	}
	pool := s.Pool
	owed := false
	for _, w := range s.Workers {
		due := pricing.Amount(w.Counters.Durable-w.Paid, s.Storage.Params.WorkerFeePerToken)
		if due == 0 {
			continue
		}
		owed = true
		if affords(&pool, due) {
			out = append(out, Action{Kind: LastPayout, To: w.Contract, Owner: w.Owner, Value: closingValue, Tokens: w.Counters.Durable, Amount: due, Init: true})
		}
	}
	if owed {
		return out // a pool that is too small needs its owner, not a close
	}
	if s.Now.Unix() > int64(s.Storage.UnlockAt) {
		return []Action{{Kind: CompleteClose, To: s.Contract, Value: closingValue}}
	}
	return nil
}
