package settle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// Verb is what an owner may ask for.
type Verb string

// The verbs.
const (
	OrderSettle   Verb = "settle"   // all: whatever is due
	OrderTopUp    Verb = "top-up"   // client
	OrderWithdraw Verb = "withdraw" // client: what is above the stake; proxy: its earnings
	OrderStake    Verb = "stake"    // client: to Amount; proxy: by Amount
	OrderClose    Verb = "close"    // client and proxy
)

// Order is what an owner asks for on top of the policy.
type Order struct {
	Verb Verb
	// Contract is the contract meant; zero = the only one there is.
	Contract cocoon.Address
	Amount   coins.Nano // TopUp and Stake
	// Force makes a client that is closing take what the proxy's stake covers,
	// although the rest is lost.
	Force bool
}

// ErrNothing says that an order has nothing to do.
var ErrNothing = errors.New("nothing to do")

// Plan is what an order would send now.
type Plan struct {
	Actions []Action
	// Messages are those of the actions. A mark is not among them: drawing one
	// is an act already, and it costs next to nothing.
	Messages []wallet.Message
	// Notes say what follows from it.
	Notes []string
}

// Channel is one contract as its owner sees it. Which amounts mean something
// depends on Kind.
type Channel struct {
	Kind     string         `json:"kind"` // client, worker or proxy
	Contract cocoon.Address `json:"contract"`
	Proxy    cocoon.Address `json:"proxy"`
	State    string         `json:"state"` // not deployed, open, closing, closed
	// UnlockAt is the end of a closing contract's delay.
	UnlockAt      *time.Time `json:"unlock_at,omitempty"`
	ParamsVersion uint32     `json:"params_version"`
	Price         coins.Nano `json:"price_nano"` // of a token: what is charged, or paid to a worker
	// Balance is a client's money in the contract, a proxy's whole pool.
	Balance coins.Nano `json:"balance_nano"`
	// Recoverable is what of a client's balance comes back even if the proxy is
	// gone for good.
	Recoverable coins.Nano `json:"recoverable_nano"`
	Stake       coins.Nano `json:"stake_nano"`
	Earnings    coins.Nano `json:"earnings_nano"` // a proxy's, to be withdrawn
	// Settled is what the chain has: charged to a client, paid to workers. Due
	// is what is known beyond that.
	SettledTokens int64      `json:"settled_tokens"`
	Settled       coins.Nano `json:"settled_nano"`
	Due           coins.Nano `json:"due_nano"`
	// Payable is what a proxy owes its workers.
	Payable coins.Nano `json:"payable_nano"`
}

const notDeployed = "not deployed"

func unlock(state bindings.State, at uint32) *time.Time {
	if state != bindings.Closing {
		return nil
	}
	t := time.Unix(int64(at), 0).UTC()
	return &t
}

// preview plans a party's round and builds its messages, without sending.
func (a *agent) preview(ctx context.Context, p party) (Plan, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	actions, err := p.plan(ctx)
	if err != nil {
		return Plan{}, err
	}
	return a.planOfLocked(ctx, p, actions)
}

func (a *agent) planOf(ctx context.Context, p party, act *Action) (Plan, error) {
	if act == nil {
		return Plan{}, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.planOfLocked(ctx, p, []Action{*act})
}

func (a *agent) planOfLocked(ctx context.Context, p party, actions []Action) (Plan, error) {
	var out Plan
	for _, act := range actions {
		if act.Kind == Mark {
			continue
		}
		m, err := p.message(ctx, act)
		if err != nil {
			return out, fmt.Errorf("%v: %w", act, err)
		}
		if m != nil {
			out.Actions, out.Messages = append(out.Actions, act), append(out.Messages, *m)
		}
	}
	return out, nil
}

// unknown refuses a verb.
func unknown(v Verb, who, can string) error {
	return fmt.Errorf("a %s cannot %s: %s", who, v, can)
}

// Channels implements what `cocoon channel` asks a client for.
func (c *Client) Channels(ctx context.Context) ([]Channel, error) {
	c.stateMu.Lock()
	known := map[cocoon.Address]cocoon.Address{}
	for _, contract := range c.cfg.Views.Contracts() {
		known[contract] = cocoon.Address{}
	}
	for contract, proxy := range c.wanted {
		known[contract] = proxy
	}
	c.stateMu.Unlock()
	out := []Channel{}
	for contract, proxy := range known {
		ch := Channel{Kind: "client", Contract: contract, Proxy: proxy, State: notDeployed}
		s, err := c.look(ctx, contract)
		switch {
		case errors.Is(err, ErrNotFound):
			if proxy.IsZero() {
				continue // meant once, never deployed
			}
		case err != nil:
			return nil, fmt.Errorf("client contract %v: %w", contract, err)
		default:
			price := s.Params.PricePerToken
			ch.Proxy, ch.State, ch.UnlockAt = s.Proxy, s.State.String(), unlock(s.State, s.UnlockAt)
			ch.ParamsVersion, ch.Price, ch.Balance, ch.Stake = s.Params.ParamsVersion, price, s.Balance, s.Stake
			ch.SettledTokens = int64(min(s.Tokens, 1<<63-1))
			ch.Settled = pricing.Amount(ch.SettledTokens, price)
			if s.State != bindings.Closed {
				ch.Due = pricing.Amount(c.cfg.Views.View(contract).Heard().Used-ch.SettledTokens, price)
				p, err := c.counterpart(ctx, s)
				if err != nil && !errors.Is(err, ErrNotFound) {
					return nil, fmt.Errorf("client contract %v: %w", contract, err)
				}
				ch.Recoverable = p.recoverable(s)
			}
		}
		out = append(out, ch)
	}
	newestFirst(out)
	return out, nil
}

// newestFirst orders contracts by the parameters they were made under.
func newestFirst(list []Channel) {
	slices.SortFunc(list, func(a, b Channel) int {
		return cmp.Or(cmp.Compare(b.ParamsVersion, a.ParamsVersion), cmp.Compare(a.Contract.Raw(), b.Contract.Raw()))
	})
}

// pick returns the contract an order is for.
func (c *Client) pick(ctx context.Context, o Order) (cocoon.Address, error) {
	if o.Contract != (cocoon.Address{}) {
		return o.Contract, nil
	}
	all, err := c.Channels(ctx)
	if err != nil {
		return cocoon.Address{}, err
	}
	var usable []Channel
	for _, ch := range all {
		if ch.State == bindings.Open.String() || o.Verb == OrderClose && ch.State == bindings.Closing.String() {
			usable = append(usable, ch)
		}
	}
	switch {
	case len(all) == 0:
		return cocoon.Address{}, fmt.Errorf("%w: this client has none yet; it gets one when it connects to a proxy with a budget (runtime.budget)", ErrNotFound)
	case len(usable) == 0:
		return cocoon.Address{}, fmt.Errorf("client contract %v is %s; an open one is needed", all[0].Contract, all[0].State)
	case len(usable) > 1:
		return cocoon.Address{}, fmt.Errorf("this client has %d contracts: name one with --contract", len(usable))
	}
	return usable[0].Contract, nil
}

// Plan says what Do would send.
func (c *Client) Plan(ctx context.Context, o Order) (Plan, error) {
	if o.Verb == OrderSettle {
		return c.preview(ctx, hurriedClient{c})
	}
	act, notes, err := c.action(ctx, o)
	if err != nil {
		return Plan{}, err
	}
	p, err := c.planOf(ctx, c, act)
	p.Notes = notes
	return p, err
}

// Do carries out an order and returns when the chain has it.
func (c *Client) Do(ctx context.Context, o Order) error {
	if o.Verb == OrderSettle {
		return c.Settle(ctx)
	}
	err := c.perform(ctx, c, func(ctx context.Context) (*Action, error) {
		act, _, err := c.action(ctx, o)
		return act, err
	})
	if o.Verb == OrderClose && errors.Is(err, ErrNothing) {
		return nil // its proxy was faster
	}
	return err
}

// action checks an order against proven state. A nil action says that nothing
// is to be sent now.
func (c *Client) action(ctx context.Context, o Order) (*Action, []string, error) {
	contract, err := c.pick(ctx, o)
	if err != nil {
		return nil, nil, err
	}
	s, err := c.look(ctx, contract)
	if err != nil {
		return nil, nil, err
	}
	if s.Owner != c.wallet.Address() {
		return nil, nil, fmt.Errorf("client contract %v is not this client's: it belongs to %v, and this node wallet is %v", contract, s.Owner, c.wallet.Address())
	}
	p, err := c.counterpart(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	switch o.Verb {
	case OrderTopUp:
		act, err := topUpOf(contract, s, p, o.Amount)
		return act, nil, err
	case OrderWithdraw:
		act, err := withdrawal(contract, s, p)
		return act, []string{"it goes to the node wallet; the stake stays"}, err
	case OrderStake:
		act, err := stakeOf(contract, s, o.Amount)
		note := "the stake stays in the contract until it is closed"
		if s.Balance < o.Amount {
			note += fmt.Sprintf("; the contract holds %v, so that it needs a top-up as well", s.Balance)
		}
		return act, []string{note}, err
	case OrderClose:
		return c.closing(contract, s, p, o.Force)
	}
	return nil, nil, unknown(o.Verb, "client", "it can settle, top-up, withdraw, stake and close")
}

// counterpart is the proxy contract that holds a client's money.
type counterpart struct {
	*bindings.ProxyStorage
	pool coins.Nano // its balance
	pays bool       // refunds after its close
}

func (c *Client) counterpart(ctx context.Context, s *bindings.ClientStorage) (counterpart, error) {
	acc, err := c.chain.Account(ctx, s.Proxy)
	if err != nil {
		return counterpart{}, err
	}
	if !acc.Deployed() {
		return counterpart{}, fmt.Errorf("%w: proxy contract %v, which should hold the deposit", ErrNotFound, s.Proxy)
	}
	p := counterpart{pool: acc.Balance}
	if p.ProxyStorage, err = bindings.DecodeProxy(acc.Data); err != nil {
		return counterpart{}, err
	}
	p.pays, err = c.poolPays(acc)
	return p, err
}

// refunds says what a refund that is forced would bring of an amount.
func (p *counterpart) refunds(amount coins.Nano) coins.Nano {
	if p.State == bindings.Closed && p.pays {
		return amount
	}
	return min(amount, p.Stake)
}

// recoverable is what comes back without the proxy's help: from the pool what
// is above the client's stake, and that by force.
func (p *counterpart) recoverable(s *bindings.ClientStorage) coins.Nano {
	if p.ProxyStorage == nil || p.State == bindings.Closed && !p.pays {
		return 0
	}
	var above coins.Nano
	if s.State == bindings.Open {
		above = s.Balance - min(s.Balance, s.Stake)
	}
	return min(p.pool, above+p.refunds(s.Balance-above))
}

// afford refuses what the pool would: a refused request costs its gas.
func (p *counterpart) afford(amount coins.Nano) error {
	if p.State == bindings.Closed && !p.pays {
		return fmt.Errorf("%w: it is closed, and what was left in it went to its owner: it refunds nothing any more", ErrProxyClosed)
	}
	if p.pool < amount {
		return fmt.Errorf("the proxy contract holds %v and cannot pay %v: it would refuse, and the gas would be lost; ask the proxy's owner", p.pool, amount)
	}
	return nil
}

func topUpOf(contract cocoon.Address, s *bindings.ClientStorage, p counterpart, amount coins.Nano) (*Action, error) {
	if amount == 0 {
		return nil, fmt.Errorf("%w: the amount is 0", ErrNothing)
	}
	if s.State != bindings.Open {
		return nil, fmt.Errorf("client contract %v is %v", contract, s.State)
	}
	if p.State != bindings.Open {
		return nil, fmt.Errorf("%w: it is %v", ErrProxyClosed, p.State)
	}
	value, err := amount.Add(clientValue)
	if err != nil {
		return nil, fmt.Errorf("top-up of %v: %w", amount, err)
	}
	if _, err := s.Balance.Add(amount); err != nil {
		return nil, fmt.Errorf("top-up of %v: %w", amount, err)
	}
	return &Action{Kind: TopUp, To: contract, Value: value, Amount: amount}, nil
}

func withdrawal(contract cocoon.Address, s *bindings.ClientStorage, p counterpart) (*Action, error) {
	if s.State != bindings.Open || s.Balance <= s.Stake {
		return nil, fmt.Errorf("%w: client contract %v is %v with %v, and %v have to stay as its stake; `cocoon channel close` gives that back too", ErrNothing, contract, s.State, s.Balance, s.Stake)
	}
	amount := s.Balance - s.Stake
	if err := p.afford(amount); err != nil {
		return nil, err
	}
	return &Action{Kind: Withdraw, To: contract, Value: clientValue, Amount: amount}, nil
}

func stakeOf(contract cocoon.Address, s *bindings.ClientStorage, stake coins.Nano) (*Action, error) {
	switch {
	case s.State != bindings.Open:
		return nil, fmt.Errorf("client contract %v is %v", contract, s.State)
	case stake <= s.Stake:
		return nil, fmt.Errorf("the stake of %v is %v already, the network asks for at least %v, and a stake can only be raised", contract, s.Stake, s.Params.MinClientStake)
	}
	return &Action{Kind: IncreaseStake, To: contract, Value: clientValue, Amount: stake}, nil
}

// closing is the next step of taking all money out of a client contract: ask
// for it; and if the proxy does not grant it in time, force it.
func (c *Client) closing(contract cocoon.Address, s *bindings.ClientStorage, p counterpart, force bool) (*Action, []string, error) {
	act := &Action{Kind: RequestRefund, To: contract, Value: clientValue, Amount: s.Balance}
	if s.State == bindings.Closed {
		return nil, nil, fmt.Errorf("%w: client contract %v is closed", ErrNothing, contract)
	}
	above := s.Balance - min(s.Balance, s.Stake) // 0 when closing began
	if s.State == bindings.Open {
		if err := p.afford(above); err != nil {
			return nil, nil, err
		}
		delay := time.Duration(s.Params.ClientDelayBeforeClose) * time.Second
		first := fmt.Sprintf("%v come back when the proxy grants it", s.Balance)
		if above > 0 {
			first = fmt.Sprintf("%v above the stake come back at once, the other %v when the proxy grants it", above, s.Balance-above)
		}
		notes := []string{
			first,
			fmt.Sprintf("a proxy that is gone is not waited for: %v later the refund can be forced; %s", delay, p.forced(s.Balance-above)),
			"this client cannot use that proxy again until the network's parameters change",
		}
		if due := pricing.Amount(c.cfg.Views.View(contract).Heard().Used-int64(min(s.Tokens, 1<<63-1)), s.Params.PricePerToken); due > 0 {
			notes = append(notes, fmt.Sprintf("%v were used and not charged yet: the proxy takes them off when it grants the refund", due))
		}
		return act, notes, nil
	}
	if left := time.Unix(int64(s.UnlockAt), 0).Sub(c.now()); left >= 0 {
		return nil, []string{fmt.Sprintf("it is closing already: %v come back when the proxy grants it; from %s on, in %v, it can be forced; %s",
			s.Balance, time.Unix(int64(s.UnlockAt)+1, 0).UTC().Format(time.RFC3339), left.Truncate(time.Second)+time.Second, p.forced(s.Balance))}, nil
	}
	comes := p.refunds(s.Balance)
	if err := p.afford(comes); err != nil {
		return nil, nil, err
	}
	if lost := s.Balance - comes; lost > 0 {
		if !force {
			return nil, nil, fmt.Errorf("the stake of the proxy covers %v of %v, and a forced refund pays no more: wait for the proxy to grant it, or give up %v with --force", comes, s.Balance, lost)
		}
		act.Amount = comes
		return act, []string{fmt.Sprintf("%v are lost for good: the stake of the proxy covers %v", lost, comes)}, nil
	}
	return act, []string{"the refund is forced: the proxy did not grant it in time"}, nil
}

// forced says what forcing the refund of an amount will bring.
func (p *counterpart) forced(amount coins.Nano) string {
	comes := p.refunds(amount)
	switch {
	case comes == amount && p.State == bindings.Closed:
		return "the pool pays all of it, and this client does it by itself"
	case comes == amount:
		return fmt.Sprintf("the proxy's stake of %v covers it, and this client does it by itself", p.Stake)
	}
	return fmt.Sprintf("the proxy's stake covers %v of it, and `cocoon channel close --force` gives up the rest", comes)
}

// Channels implements what `cocoon channel` asks a worker for.
func (w *Worker) Channels(ctx context.Context) ([]Channel, error) {
	// The chain may have paid before the proxy's signed payment is here.
	w.stateMu.Lock()
	known := maps.Clone(w.proxies)
	w.stateMu.Unlock()
	for _, contract := range w.cfg.Views.Contracts() {
		known[contract] = known[contract]
	}
	out := []Channel{}
	for contract, proxy := range known {
		ch := Channel{Kind: "worker", Contract: contract, Proxy: proxy, State: notDeployed}
		acc, err := w.chain.Account(ctx, contract)
		if err != nil {
			return nil, fmt.Errorf("worker contract %v: %w", contract, err)
		}
		if acc.Deployed() {
			s, err := bindings.DecodeWorker(acc.Data)
			if err != nil {
				return nil, err
			}
			ch.Proxy, ch.State, ch.SettledTokens = s.Proxy, s.State.String(), int64(min(s.Tokens, 1<<63-1))
			ch.ParamsVersion, ch.Price = s.Params.ParamsVersion, s.Params.WorkerFeePerToken
		} else if ch.Proxy != (cocoon.Address{}) {
			// The proxy contract holds the terms.
			if acc, err = w.chain.Account(ctx, ch.Proxy); err != nil {
				return nil, err
			}
			if acc.Deployed() {
				s, err := bindings.DecodeProxy(acc.Data)
				if err != nil {
					return nil, err
				}
				ch.ParamsVersion, ch.Price = s.Params.ParamsVersion, s.Params.WorkerFeePerToken
			}
		}
		ch.Settled = pricing.Amount(ch.SettledTokens, ch.Price)
		if ch.State == notDeployed && ch.Proxy.IsZero() && w.cfg.Views.View(contract).Best().Tokens == 0 {
			continue // meant once, never deployed
		}
		if ch.State != bindings.Closed.String() {
			ch.Due = pricing.Amount(w.cfg.Views.View(contract).Heard().Used-ch.SettledTokens, ch.Price)
		}
		out = append(out, ch)
	}
	newestFirst(out)
	// Of earlier terms, those that were never used are nobody's business.
	return slices.DeleteFunc(out, func(c Channel) bool {
		return c.State == notDeployed && c.Due == 0 && c.ParamsVersion < out[0].ParamsVersion
	}), nil
}

// Plan says what Do would send.
func (w *Worker) Plan(ctx context.Context, o Order) (Plan, error) {
	if o.Verb != OrderSettle {
		return Plan{}, unknown(o.Verb, "worker", "it holds no deposit; settle cashes in what it earned")
	}
	p, err := w.preview(ctx, hurriedWorker{w})
	if len(p.Actions) > 0 {
		p.Notes = []string{fmt.Sprintf("the payout goes to the owner, %v", w.cfg.Owner)}
	}
	return p, err
}

// Do carries out an order and returns when the chain has it.
func (w *Worker) Do(ctx context.Context, o Order) error {
	if o.Verb != OrderSettle {
		_, err := w.Plan(ctx, o)
		return err
	}
	return w.Settle(ctx)
}

// Channels implements what `cocoon channel` asks a proxy for.
func (p *Proxy) Channels(ctx context.Context) ([]Channel, error) {
	ch := Channel{Kind: "proxy", Contract: p.cfg.Contract, Proxy: p.cfg.Contract, State: notDeployed}
	s, pool, err := p.look(ctx)
	switch {
	case errors.Is(err, ErrNotFound):
		return []Channel{ch}, nil
	case err != nil:
		return nil, err
	}
	price, fee := s.Params.PricePerToken, s.Params.WorkerFeePerToken
	ch.State, ch.UnlockAt, ch.ParamsVersion, ch.Price = s.State.String(), unlock(s.State, s.UnlockAt), s.Params.ParamsVersion, price
	ch.Balance, ch.Stake, ch.Earnings = pool, s.Stake, s.Earnings
	for _, c := range p.cfg.Ledger.Clients() {
		if c.Contract != (channel.ClientContract{}) {
			ch.Due += pricing.Amount(c.Counters.Used-c.Contract.Charged, price)
		}
	}
	for _, w := range p.cfg.Ledger.Workers() {
		ch.SettledTokens += w.Paid
		ch.Settled += pricing.Amount(w.Paid, fee)
		ch.Payable += pricing.Amount(w.Counters.Used-w.Paid, fee)
	}
	return []Channel{ch}, nil
}

// look reads the proxy contract and its pool.
func (p *Proxy) look(ctx context.Context) (*bindings.ProxyStorage, coins.Nano, error) {
	acc, err := p.chain.Account(ctx, p.cfg.Contract)
	if err != nil {
		return nil, 0, err
	}
	if !acc.Deployed() {
		return nil, 0, fmt.Errorf("%w: proxy contract %v", ErrNotFound, p.cfg.Contract)
	}
	s, err := bindings.DecodeProxy(acc.Data)
	return s, acc.Balance, err
}

// Plan says what Do would send.
func (p *Proxy) Plan(ctx context.Context, o Order) (Plan, error) {
	if o.Verb == OrderSettle {
		out, err := p.preview(ctx, hurried{p})
		if owed := p.owed(); err == nil && (owed > 0 || len(out.Actions) > 0) {
			out.Notes = []string{fmt.Sprintf("%v for workers, and the earnings, follow as soon as the chain confirms the books", owed)}
		}
		return out, err
	}
	act, notes, err := p.action(ctx, o)
	if err != nil {
		return Plan{}, err
	}
	out, err := p.planOf(ctx, p, act)
	out.Notes = notes
	return out, err
}

// Do carries out an order and returns when the chain has it.
func (p *Proxy) Do(ctx context.Context, o Order) error {
	if o.Verb == OrderSettle {
		return p.Settle(ctx)
	}
	return p.perform(ctx, p, func(ctx context.Context) (*Action, error) {
		act, _, err := p.action(ctx, o)
		return act, err
	})
}

// owed is what the workers have to get in all.
func (p *Proxy) owed() (sum coins.Nano) {
	_, fee, known := p.Prices()
	for _, w := range p.cfg.Ledger.Workers() {
		if known {
			sum += pricing.Amount(w.Counters.Used-w.Paid, fee)
		}
	}
	return sum
}

func (p *Proxy) action(ctx context.Context, o Order) (*Action, []string, error) {
	if o.Contract != (cocoon.Address{}) && o.Contract != p.cfg.Contract {
		return nil, nil, fmt.Errorf("%w: this proxy's contract is %v, not %v", ErrNotFound, p.cfg.Contract, o.Contract)
	}
	s, pool, err := p.look(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.State != bindings.Open {
		return nil, nil, fmt.Errorf("%w: %v is %v", ErrProxyClosed, p.cfg.Contract, s.State)
	}
	switch o.Verb {
	case OrderWithdraw:
		if s.Earnings == 0 {
			return nil, nil, fmt.Errorf("%w: the contract holds no earnings; `cocoon channel settle` makes them of what is due", ErrNothing)
		}
		if !affords(&pool, s.Earnings) {
			return nil, nil, fmt.Errorf("the pool holds %v and cannot pay the earnings of %v and its gas: settle the clients' charges first", pool, s.Earnings)
		}
		return &Action{Kind: WithdrawEarnings, To: p.cfg.Contract, Value: withdrawValue, Amount: s.Earnings}, []string{fmt.Sprintf("it goes to the owner, %v", p.cfg.Owner)}, nil
	case OrderStake:
		stake, err := s.Stake.Add(o.Amount)
		if err != nil {
			return nil, nil, fmt.Errorf("stake: %w", err)
		}
		value, err := o.Amount.Add(withdrawValue)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("stake: %w", err)
		case o.Amount == 0:
			return nil, nil, fmt.Errorf("%w: the amount is 0", ErrNothing)
		case stake < s.Params.MinProxyStake:
			return nil, nil, fmt.Errorf("a stake of %v is below the network's minimum of %v", stake, s.Params.MinProxyStake)
		}
		return &Action{Kind: IncreaseStake, To: p.cfg.Contract, Value: value, Amount: o.Amount}, []string{fmt.Sprintf("the stake will be %v; it comes back when the contract is closed", stake)}, nil
	case OrderClose:
		delay := time.Duration(s.Params.ProxyDelayBeforeClose) * time.Second
		return &Action{Kind: CloseProxy, To: p.cfg.Contract, Value: closingValue}, []string{
			fmt.Sprintf("clients get their deposits back, workers are paid, and after %v earnings and stake go to the owner, %v", delay, p.cfg.Owner),
			"this proxy serves nobody any more until the network's parameters change",
		}, nil
	}
	return nil, nil, unknown(o.Verb, "proxy", "it can settle, withdraw, stake and close")
}
