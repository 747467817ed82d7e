package settle

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
)

// Chain reads proven state; access.Client does.
type Chain interface {
	Account(ctx context.Context, addr cocoon.Address) (access.Account, error)
	Transactions(ctx context.Context, acc access.Account, sinceLT uint64) ([]access.Transaction, error)
}

// Wallet sends, each message once; wallet.Wallet does.
type Wallet interface {
	Address() cocoon.Address
	Send(ctx context.Context, messages []wallet.Message) (wallet.Sent, error)
	Resume(ctx context.Context) (wallet.Sent, error)
}

// Config is what Proxy, Client and Worker have in common. Chain and Wallet
// are required.
type Config struct {
	Chain  Chain
	Wallet Wallet
	// Every is the time between rounds; 0 = 5 s.
	Every time.Duration
	Now   func() time.Time // nil = time.Now
	Log   *slog.Logger     // nil = none
}

// ErrNotFound says that the chain holds no such contract.
var ErrNotFound = errors.New("no such contract on chain")

const (
	// lookback is how far back the wallet's transactions are searched for
	// messages on their way when a process starts. Logical time grows by some
	// 10^6 a block, a few blocks a second at most: this is over ten minutes.
	lookback = 6_000_000_000
	// deliveryLimit is when a message that its receiver never saw is given up.
	// The chain delivers within seconds.
	deliveryLimit = 10 * time.Minute
	// afterFailure is how long a contract that refused an action is left alone:
	// each attempt costs gas.
	afterFailure = 10 * time.Minute
)

// ErrRefused says that contracts refused actions; the log has each.
var ErrRefused = errors.New("contracts refused actions")

// agent runs rounds for one party: it knows what of its wallet is on its way.
type agent struct {
	chain  Chain
	wallet Wallet
	every  time.Duration
	now    func() time.Time
	log    *slog.Logger

	// follow is the account whose state tells what an action did, if that is
	// not the receiver's own: an action is under way until what its receiver
	// says has arrived there. Zero = none.
	follow cocoon.Address

	mu       sync.Mutex // held for a whole round
	resumed  bool
	walletLT uint64
	flying   []flight
	failed   map[cocoon.Address]time.Time // receivers that refused an action
	failures int
	departed []cocoon.Address // receivers of what has left the wallet since the last round
	pending  []Action         // of the send whose fate is unknown
	lost     []Action         // of sends that were never executed after all
}

// flight is a message on its way that an action gave rise to.
type flight struct {
	action cocoon.Address // receiver of the action
	to     cocoon.Address // receiver of this message
	hash   [32]byte
	lt     uint64 // of the sender's transaction; the receiver's is later
	sent   time.Time
}

func newAgent(c Config) *agent {
	a := &agent{chain: c.Chain, wallet: c.Wallet, every: c.Every, now: c.Now, log: c.Log, failed: map[cocoon.Address]time.Time{}}
	if a.every == 0 {
		a.every = 5 * time.Second
	}
	if a.now == nil {
		a.now = time.Now
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	return a
}

// party is what an agent acts for.
type party interface {
	// plan observes and decides.
	plan(ctx context.Context) ([]Action, error)
	// message builds the message of an action. nil: the action is moot now.
	message(ctx context.Context, a Action) (*wallet.Message, error)
}

// run makes rounds until ctx ends. Errors of a round are logged; the next
// round starts from what the chain says then, and comes sooner while something
// is on its way: often the next step waits for it.
func (a *agent) run(ctx context.Context, p party) error {
	for {
		busy, err := a.round(ctx, p)
		if err != nil && ctx.Err() == nil {
			a.log.Warn("settling round failed", "error", err)
		}
		pause := a.every
		if busy && err == nil {
			pause /= 4
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// settled makes rounds until nothing is left to send and nothing is on its
// way.
func (a *agent) settled(ctx context.Context, p party) error {
	a.mu.Lock()
	before := a.failures
	clear(a.failed) // whoever asks for it wants another attempt
	a.mu.Unlock()
	for {
		busy, err := a.round(ctx, p)
		if err != nil && !errors.Is(err, wallet.ErrPending) {
			return err
		}
		if !busy {
			a.mu.Lock()
			defer a.mu.Unlock()
			if n := a.failures - before; n > 0 {
				return fmt.Errorf("%w: %d", ErrRefused, n)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(a.every):
		}
	}
}

// perform sends one action on demand and waits until it is complete. It fails
// with ErrRefused if the contract does not take it.
func (a *agent) perform(ctx context.Context, p party, act Action) error {
	a.mu.Lock()
	a.lost = nil // of earlier sends
	a.mu.Unlock()
	if err := a.settled(ctx, &errand{p, act, false}); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Contains(a.lost, act) {
		return fmt.Errorf("%v was sent and never executed: %w", act, wallet.ErrExpired)
	}
	return nil
}

// errand is a party that has a single action in mind.
type errand struct {
	party
	action Action
	sent   bool
}

func (e *errand) plan(context.Context) ([]Action, error) {
	if e.sent {
		return nil, nil
	}
	return []Action{e.action}, nil
}

func (e *errand) message(ctx context.Context, a Action) (*wallet.Message, error) {
	e.sent = true // an error ends the errand as well
	return e.party.message(ctx, a)
}

// round observes, decides and sends once. busy says that something was sent
// or is on its way.
func (a *agent) round(ctx context.Context, p party) (busy bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.resumed {
		switch _, err := a.wallet.Resume(ctx); {
		case errors.Is(err, wallet.ErrPending), ctx.Err() != nil:
			return true, err
		case err != nil && !errors.Is(err, wallet.ErrNothing):
			a.log.Warn("an earlier message was not carried out", "error", err)
		}
		a.resumed = true
	}
	if err := a.deliveries(ctx); err != nil {
		return false, err
	}
	// What became of a send of unknown fate shows in the wallet's transactions,
	// whoever brought it to its end.
	for _, act := range a.pending {
		if !slices.Contains(a.departed, act.To) {
			a.lost = append(a.lost, act)
		}
	}
	a.pending, a.departed = nil, nil
	actions, err := p.plan(ctx)
	if err != nil {
		return false, err
	}
	var messages []wallet.Message
	var chosen []Action
	for _, act := range actions {
		if len(messages) == bindings.MaxWalletMessages {
			break
		}
		if a.underWay(act.To) || slices.ContainsFunc(chosen, func(c Action) bool { return c.To == act.To }) {
			continue
		}
		m, err := p.message(ctx, act)
		if err != nil {
			return false, fmt.Errorf("%v: %w", act, err)
		}
		if m != nil {
			messages, chosen = append(messages, *m), append(chosen, act)
		}
	}
	if len(messages) == 0 {
		return len(a.flying) > 0, nil
	}
	sent, err := a.wallet.Send(ctx, messages)
	if errors.Is(err, wallet.ErrUnfit) && len(messages) > 1 {
		// Not all at once; perhaps the most important one alone.
		messages, chosen = messages[:1], chosen[:1]
		sent, err = a.wallet.Send(ctx, messages)
	}
	// A send of unknown fate must be known before anything is decided again.
	if a.resumed = err == nil; errors.Is(err, wallet.ErrPending) {
		a.pending = chosen
	}
	for _, act := range chosen {
		if err == nil {
			a.log.Info("sent", "action", act, "lt", sent.LT)
		} else {
			a.log.Warn("not sent", "action", act, "error", err)
		}
	}
	return true, err
}

// despite returns the actions for the contracts that could be observed: one
// that cannot be read must not hold up the others. Without any, the failure
// is the round's.
func (a *agent) despite(actions []Action, failed error) ([]Action, error) {
	if len(actions) == 0 {
		return nil, failed
	}
	if failed != nil {
		a.log.Warn("contracts were left out of a round", "error", failed)
	}
	return actions, nil
}

// underWay reports whether an action at an account is not complete yet, or
// failed a short time ago.
func (a *agent) underWay(to cocoon.Address) bool {
	if at, ok := a.failed[to]; ok && a.now().Sub(at) < afterFailure {
		return true
	}
	return slices.ContainsFunc(a.flying, func(f flight) bool { return f.action == to })
}

// deliveries brings departed and flying up to date with the chain.
func (a *agent) deliveries(ctx context.Context) error {
	acc, err := a.chain.Account(ctx, a.wallet.Address())
	if err != nil {
		return fmt.Errorf("wallet: %w", err)
	}
	if acc.LastTxLT > a.walletLT {
		txs, err := a.recent(ctx, acc)
		if err != nil {
			return fmt.Errorf("wallet's transactions: %w", err)
		}
		for _, tx := range txs {
			a.walletLT = tx.LT
			for _, m := range tx.Out {
				if !m.External && a.now().Sub(tx.Time) < deliveryLimit {
					a.flying = append(a.flying, flight{m.Dest, m.Dest, m.Hash, tx.LT, tx.Time})
					a.departed = append(a.departed, m.Dest)
				}
			}
		}
	}
	var left []flight
	for queue := a.flying; len(queue) > 0; queue = queue[1:] {
		f := queue[0]
		tx, err := a.receipt(ctx, f)
		if err != nil {
			return err
		}
		switch {
		case tx != nil:
			if tx.Computed && !tx.Success && f.to == f.action {
				a.failed[f.action] = a.now()
				a.failures++
				a.log.Warn("a contract refused an action", "contract", f.to, "exit", tx.ExitCode, "meaning", bindings.ExitText(tx.ExitCode), "action", tx.ActionCode)
			}
			for _, m := range tx.Out {
				if !m.External && m.Dest == a.follow && f.to != a.follow {
					queue = append(queue, flight{f.action, m.Dest, m.Hash, tx.LT, tx.Time})
				}
			}
		case a.now().Sub(f.sent) > deliveryLimit:
			a.log.Warn("a message was never seen at its receiver", "to", f.to, "sent", f.sent)
		default:
			left = append(left, f)
		}
	}
	a.flying = left
	return nil
}

// recent returns the wallet's transactions since the last time, or at the
// start, what goes back far enough. A wallet too busy for that is looked at as
// far as it can be.
func (a *agent) recent(ctx context.Context, acc access.Account) ([]access.Transaction, error) {
	since := a.walletLT
	for back := uint64(lookback); ; back /= 2 {
		if a.walletLT == 0 && acc.LastTxLT > back {
			since = acc.LastTxLT - back
		}
		txs, err := a.chain.Transactions(ctx, acc, since)
		if !errors.Is(err, access.ErrTooMany) || a.walletLT != 0 || back < lookback/8 {
			return txs, err
		}
	}
}

// receipt returns the transaction that received a message, or nil if there is
// none yet.
func (a *agent) receipt(ctx context.Context, f flight) (*access.Transaction, error) {
	acc, err := a.chain.Account(ctx, f.to)
	if err != nil || acc.LastTxLT <= f.lt {
		return nil, err
	}
	txs, err := a.chain.Transactions(ctx, acc, f.lt)
	if err != nil {
		return nil, fmt.Errorf("transactions of %v: %w", f.to, err)
	}
	for i := range txs {
		if in := txs[i].In; in != nil && in.Hash == f.hash {
			return &txs[i], nil
		}
	}
	return nil, nil
}

// queryID returns a random query id.
func queryID() (uint64, error) {
	var b [8]byte
	_, err := rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]), err
}

// bodyOf returns the body of an unsigned operation.
func bodyOf(m bindings.Message) ([]byte, error) {
	id, err := queryID()
	if err != nil {
		return nil, err
	}
	return bindings.EncodeMessage(id, m)
}

// outgoing returns the message of an action.
func outgoing(a Action, body, init []byte) *wallet.Message {
	m := &wallet.Message{To: a.To, Amount: a.Value, Bounce: init == nil, Body: body, Init: init}
	if a.Value <= markValue {
		m.Mode = wallet.ModePayFees
	}
	return m
}

// or returns v, or d if v is zero.
func or[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}
