package settle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/pricing"
)

// WorkerPolicy says when a worker cashes in by itself.
type WorkerPolicy struct {
	Payout coins.Nano // when this much is due; 0 = 10 coins
	// Last is the least worth cashing in from a contract that the root's
	// params left behind; 0 = 0.1 coin, some ten times the gas.
	Last coins.Nano
}

// WorkerState is what the decision for one worker contract rests on.
type WorkerState struct {
	Now      time.Time
	Policy   WorkerPolicy // complete
	Contract cocoon.Address
	Storage  *bindings.WorkerStorage // nil while not deployed
	Proxy    *bindings.ProxyStorage  // nil while not known
	Pool     coins.Nano              // balance of the proxy contract
	Signed   int64                   // counter of the best signed payment
	// OutdatedSince is when the root's params left this contract behind; zero
	// = they did not.
	OutdatedSince time.Time
}

// PlanWorker decides what a worker sends to one contract (spec
// network-protocol 7.8).
func PlanWorker(s WorkerState) []Action {
	if s.Proxy == nil || s.Proxy.State == bindings.Closed || s.Storage != nil && s.Storage.State != bindings.Open {
		return nil
	}
	var paid int64
	if s.Storage != nil {
		paid = int64(min(s.Storage.Tokens, 1<<63-1))
	}
	due := pricing.Amount(s.Signed-paid, s.Proxy.Params.WorkerFeePerToken)
	least := s.Policy.Payout
	if !s.OutdatedSince.IsZero() && s.Now.Sub(s.OutdatedSince) >= time.Duration(s.Proxy.Params.ClientDelayBeforeClose)*time.Second/2 {
		least = s.Policy.Last
	}
	// The contract counts what it sends as paid, even if the pool cannot pay.
	if due == 0 || due < least || !affords(&s.Pool, due) {
		return nil
	}
	return []Action{{Kind: PayWorker, To: s.Contract, Value: workerPayoutValue, Tokens: s.Signed, Amount: due, Init: true}}
}

// WorkerConfig configures a Worker. Fields without a remark are required.
type WorkerConfig struct {
	Config
	Policy WorkerPolicy
	Source registry.Source
	Views  Views
	Owner  cocoon.Address // payout address, owner of the worker contracts
}

// Worker settles the contracts of one payout address.
type Worker struct {
	cfg WorkerConfig
	*agent

	hurry    bool
	outdated map[cocoon.Address]time.Time
	inits    map[cocoon.Address][]byte

	stateMu sync.Mutex
	proxies map[cocoon.Address]cocoon.Address // worker contract → proxy contract
}

// NewWorker prepares the settling of a worker's contracts. It asks the chain
// nothing.
func NewWorker(c WorkerConfig) (*Worker, error) {
	if c.Chain == nil || c.Wallet == nil || c.Source == nil || c.Views == nil {
		return nil, errors.New("settle: chain, wallet, source and views are required")
	}
	c.Policy = WorkerPolicy{or(c.Policy.Payout, 10*coins.PerCoin), or(c.Policy.Last, coins.PerCoin/10)}
	return &Worker{
		cfg: c, agent: newAgent(c.Config), outdated: map[cocoon.Address]time.Time{},
		inits: map[cocoon.Address][]byte{}, proxies: map[cocoon.Address]cocoon.Address{},
	}, nil
}

// Track tells which proxy contract a worker contract belongs to. It is needed
// until the worker contract is deployed, which tells it then.
func (w *Worker) Track(ctx context.Context, proxy, contract cocoon.Address) error {
	w.stateMu.Lock()
	w.proxies[contract] = proxy
	w.stateMu.Unlock()
	return w.cfg.Views.Know(ctx, contract)
}

// Run settles until ctx ends.
func (w *Worker) Run(ctx context.Context) error { return w.run(ctx, w) }

// Settle cashes in every signed payment and returns when the chain has them.
func (w *Worker) Settle(ctx context.Context) error { return w.settleNow(ctx, hurriedWorker{w}) }

type hurriedWorker struct{ *Worker }

func (h hurriedWorker) plan(ctx context.Context) ([]Action, error) {
	h.hurry = true
	defer func() { h.hurry = false }()
	return h.Worker.plan(ctx)
}

// plan implements party.
func (w *Worker) plan(ctx context.Context) ([]Action, error) {
	snap, err := w.cfg.Source.Current()
	if err != nil {
		return nil, err
	}
	var out []Action
	var failed error
	for _, contract := range w.cfg.Views.Contracts() {
		s, err := w.observe(ctx, snap, contract)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("worker contract %v: %w", contract, err))
			continue
		}
		out = append(out, PlanWorker(s)...)
	}
	return w.despite(out, failed)
}

func (w *Worker) observe(ctx context.Context, snap *registry.Snapshot, contract cocoon.Address) (WorkerState, error) {
	s := WorkerState{Now: w.now(), Policy: w.cfg.Policy, Contract: contract, Signed: w.cfg.Views.View(contract).Best().Tokens}
	if w.hurry {
		s.Policy = WorkerPolicy{1, 1}
	}
	w.stateMu.Lock()
	proxy := w.proxies[contract]
	w.stateMu.Unlock()
	acc, err := w.chain.Account(ctx, contract)
	if err != nil {
		return s, err
	}
	if acc.Deployed() {
		if s.Storage, err = bindings.DecodeWorker(acc.Data); err != nil {
			return s, err
		}
		proxy = s.Storage.Proxy
	}
	if proxy == (cocoon.Address{}) {
		return s, nil
	}
	if acc, err = w.chain.Account(ctx, proxy); err != nil || !acc.Deployed() {
		return s, err
	}
	if s.Proxy, err = bindings.DecodeProxy(acc.Data); err != nil {
		return s, err
	}
	s.Pool = acc.Balance
	if s.Proxy.Params.ParamsVersion < snap.Params.ParamsVersion {
		if w.outdated[contract].IsZero() {
			w.outdated[contract] = w.now()
		}
		s.OutdatedSince = w.outdated[contract]
	}
	delete(w.inits, contract)
	if s.Storage == nil {
		// The proxy contract holds the terms and the worker code.
		terms := &registry.Snapshot{Root: s.Proxy.Root, Params: s.Proxy.Params}
		want, err := bindings.WorkerAddress(terms, w.cfg.Owner, proxy, s.Proxy.Key)
		if err != nil {
			return s, err
		}
		if want != contract {
			return s, fmt.Errorf("the proxy contract %v gives the worker contract %v, not %v", proxy, want, contract)
		}
		if w.inits[contract], err = bindings.WorkerInit(terms, w.cfg.Owner, proxy, s.Proxy.Key); err != nil {
			return s, err
		}
	}
	return s, nil
}

// message implements party.
func (w *Worker) message(_ context.Context, a Action) (*wallet.Message, error) {
	if a.Kind != PayWorker {
		return nil, fmt.Errorf("a worker does not send %s", a.Kind)
	}
	body, err := rewrap(w.cfg.Views.View(a.To).Best().Data, w.wallet.Address())
	if err != nil {
		return nil, err
	}
	return outgoing(a, body, w.inits[a.To]), nil
}
