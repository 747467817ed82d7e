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
	// Now is the time that contracts go by; nil = time.Now.
	Now func() time.Time
	Log *slog.Logger // nil = none
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
	// afterFailure is how long a contract that refused an action is left alone,
	// as each attempt costs gas: twice as long after each further refusal, up to
	// maxDoublings times.
	afterFailure = 10 * time.Minute
	maxDoublings = 7 // 21 hours
)

// ErrRefused says that a contract refused an action; the gas is spent, the
// money stays where it was.
var ErrRefused = errors.New("refused on chain")

// agent runs rounds for one party: it knows what of its wallet is on its way.
type agent struct {
	chain  Chain
	wallet Wallet
	every  time.Duration
	now    func() time.Time
	log    *slog.Logger

	mu       sync.Mutex // held for a whole round
	resumed  bool
	walletLT uint64
	flying   []flight
	failed   map[cocoon.Address]failure // by receiver of the action
	failures int
	refusal  string           // the last one, for people
	departed []cocoon.Address // receivers of what has left the wallet since the last round
	pending  []Action         // of the send whose fate is unknown
	lost     []Action         // of sends that were never executed after all
}

// failure is what came of actions at a contract that refused them.
type failure struct {
	at    time.Time // of the last
	times int       // in a row
}

// flight is a message on its way that an action gave rise to: the wallet's own,
// and what a client or worker contract then asks of its proxy contract, which
// may refuse it.
type flight struct {
	action cocoon.Address // receiver of the action
	to     cocoon.Address // receiver of this message
	hash   [32]byte
	lt     uint64 // of the sender's transaction; the receiver's is later
	sent   time.Time
}

func newAgent(c Config) *agent {
	a := &agent{chain: c.Chain, wallet: c.Wallet, every: c.Every, now: c.Now, log: c.Log, failed: map[cocoon.Address]failure{}}
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

// run makes rounds until ctx ends. Errors of a round are logged, once while
// they stay the same; the next round starts from what the chain says then, and
// comes sooner while something is on its way: often the next step waits for it.
func (a *agent) run(ctx context.Context, p party) error {
	told := ""
	for {
		busy, err := a.round(ctx, p)
		switch {
		case err == nil:
			told = ""
		case ctx.Err() == nil && err.Error() != told:
			told = err.Error()
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

// settleNow makes rounds until nothing is left to send and nothing is on its
// way. Contracts that refused something are tried again: whoever asks wants it.
func (a *agent) settleNow(ctx context.Context, p party) error {
	a.mu.Lock()
	clear(a.failed)
	a.mu.Unlock()
	return a.settled(ctx, p)
}

func (a *agent) settled(ctx context.Context, p party) error {
	a.mu.Lock()
	before := a.failures
	a.mu.Unlock()
	for {
		busy, err := a.round(ctx, p)
		if err != nil && !errors.Is(err, wallet.ErrPending) {
			return err
		}
		if !busy {
			a.mu.Lock()
			defer a.mu.Unlock()
			switch n := a.failures - before; {
			case n > 1:
				return fmt.Errorf("%w: %s; and %d more", ErrRefused, a.refusal, n-1)
			case n == 1:
				return fmt.Errorf("%w: %s", ErrRefused, a.refusal)
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

// perform sends one action on demand and waits until it is complete. The
// action is chosen anew until it leaves: what it waits for may change what is
// to be done. It fails with ErrRefused if the contract does not take it.
func (a *agent) perform(ctx context.Context, p party, choose func(context.Context) (*Action, error)) error {
	a.mu.Lock()
	a.lost = nil // of earlier sends
	a.mu.Unlock()
	e := &errand{party: p, agent: a, choose: choose}
	if err := a.settled(ctx, e); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Contains(a.lost, e.action) {
		return fmt.Errorf("%v was sent and never executed: %w", e.action, wallet.ErrExpired)
	}
	return nil
}

// errand is a party that has a single action in mind.
type errand struct {
	party
	agent  *agent
	choose func(context.Context) (*Action, error) // nil: none is needed
	action Action                                 // as it was sent
	tried  bool                                   // it was chosen before
	sent   bool
}

func (e *errand) plan(ctx context.Context) ([]Action, error) {
	if e.sent {
		return nil, nil
	}
	act, err := e.choose(ctx)
	if act == nil || err != nil {
		return nil, err
	}
	if !e.tried {
		e.tried = true
		delete(e.agent.failed, act.To) // whoever asks for it wants another attempt
	}
	return []Action{*act}, nil
}

func (e *errand) message(ctx context.Context, a Action) (*wallet.Message, error) {
	e.action, e.sent = a, true // an error ends the errand as well
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
	var failed error
	for _, act := range actions {
		if len(messages) == bindings.MaxWalletMessages {
			break
		}
		if a.underWay(act.To) || slices.ContainsFunc(chosen, func(c Action) bool { return c.To == act.To }) {
			continue
		}
		m, err := p.message(ctx, act)
		if err != nil { // one that cannot be built must not hold up the others
			failed = errors.Join(failed, fmt.Errorf("%v: %w", act, err))
			continue
		}
		if m != nil {
			messages, chosen = append(messages, *m), append(chosen, act)
		}
	}
	if len(messages) == 0 {
		return len(a.flying) > 0, failed
	}
	if failed != nil {
		a.log.Warn("messages were left out of a round", "error", failed)
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
	if err != nil {
		return true, fmt.Errorf("sending %v: %w", chosen, err)
	}
	for _, act := range chosen {
		a.log.Info("sent", "action", act, "lt", sent.LT)
	}
	return true, nil
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
	if f, ok := a.failed[to]; ok && a.now().Sub(f.at) < afterFailure<<min(f.times-1, maxDoublings) {
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
			if tx.Computed && !tx.Success {
				a.refused(f, tx)
				continue
			}
			next := false
			for _, m := range tx.Out {
				if f.to == f.action && asksProxy(m) {
					queue = append(queue, flight{f.action, m.Dest, m.Hash, tx.LT, tx.Time})
					next = true
				}
			}
			if !next {
				delete(a.failed, f.action)
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

// refused notes that a contract did not take a message.
func (a *agent) refused(f flight, tx *access.Transaction) {
	a.failed[f.action] = failure{a.now(), a.failed[f.action].times + 1}
	a.failures++
	why := bindings.ExitText(tx.ExitCode)
	if tx.ExitCode == 0 {
		why = fmt.Sprintf("action code %d", tx.ActionCode)
	}
	a.refusal = fmt.Sprintf("contract %v: %s", f.to, why)
	a.log.Warn("a contract refused an action", "contract", f.to, "for", f.action, "exit", tx.ExitCode, "meaning", why, "action", tx.ActionCode)
}

// asksProxy reports whether a contract's message is a client's or worker's
// request to its proxy contract.
func asksProxy(m access.Message) bool {
	if m.External || m.Bounced || m.Body == nil {
		return false
	}
	_, body, err := bindings.DecodeMessage(m.Body)
	if err != nil {
		return false
	}
	switch body.(type) {
	case *bindings.ClientRequest, *bindings.WorkerRequest:
		return true
	}
	return false
}

// recent returns the wallet's transactions since the last time, or at the
// start, what goes back far enough: however many strangers made of them.
func (a *agent) recent(ctx context.Context, acc access.Account) (list []access.Transaction, err error) {
	since := a.walletLT
	if since == 0 && acc.LastTxLT > lookback {
		since = acc.LastTxLT - lookback
	}
	err = History(ctx, a.chain, acc, since, func(tx access.Transaction) error {
		if len(tx.Out) > 0 || tx.LT == acc.LastTxLT { // what sends nothing tells nothing but how far this came
			list = append(list, tx)
		}
		return nil
	})
	return list, err
}

// receipt returns the transaction that received a message, or nil if there is
// none yet.
func (a *agent) receipt(ctx context.Context, f flight) (*access.Transaction, error) {
	acc, err := a.chain.Account(ctx, f.to)
	if err != nil || acc.LastTxLT <= f.lt {
		return nil, err
	}
	var found *access.Transaction
	err = History(ctx, a.chain, acc, f.lt, func(tx access.Transaction) error {
		if tx.In == nil || tx.In.Hash != f.hash {
			return nil
		}
		found = &tx
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, fmt.Errorf("transactions of %v: %w", f.to, err)
	}
	return found, nil
}

// errFound ends a search.
var errFound = errors.New("found")

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
