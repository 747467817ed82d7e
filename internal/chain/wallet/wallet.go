package wallet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// The outcomes of a send that is not a success.
var (
	// ErrUnfit: the message would not be executed, so it was not sent.
	ErrUnfit = errors.New("wallet cannot send this")
	// ErrPending: it was sent and its fate is not known yet. It stays in the
	// outbox; Resume, or the next Send, learns what became of it.
	ErrPending = errors.New("message is sent but not confirmed yet")
	// ErrExpired: it was not executed and never will be.
	ErrExpired = errors.New("message has expired without being executed")
	// ErrSuperseded: another message took its sequence number (the key is in
	// use elsewhere); it never will be executed.
	ErrSuperseded = errors.New("another message was executed in its place")
	// ErrFailed: it was executed, its fee is gone, and not all that it should
	// send was sent; the error says how much.
	ErrFailed = errors.New("message was executed but its actions failed")
	// ErrNothing: nothing is outstanding.
	ErrNothing = errors.New("nothing is outstanding")
)

// expiryMargin is added to a message's validity before it counts as expired:
// a shard's block may be a little older than the masterchain block that
// confirms it.
const expiryMargin = 30 * time.Second

// exitPoor is how a node wallet refuses that holds too little (spec contracts
// 8.2).
const exitPoor = 1035

// Chain is what a wallet needs of the chain. What it returns must be proven.
type Chain interface {
	Account(ctx context.Context, addr cocoon.Address) (access.Account, error)
	History(ctx context.Context, acc access.Account, sinceLT uint64) iter.Seq2[access.Transaction, error] // newest first
	Emulate(ctx context.Context, acc access.Account, external []byte) (access.Emulation, error)
	Send(ctx context.Context, external []byte) error
	Next(ctx context.Context, seqno uint32) (access.Block, error)
}

// Config is a wallet and where it lives.
type Config struct {
	Chain Chain
	Key   Key
	// Contract is the wallet contract; its PublicKey is taken from Key.
	Contract Contract
	// Dir holds the outbox. It must outlive the process.
	Dir string
	// Lifetime is how long a sent message stays valid; 0 = 5 min.
	Lifetime time.Duration
	// Resend is the time after which an unconfirmed message is sent again;
	// 0 = 30 s.
	Resend time.Duration
	Logger *slog.Logger // may be nil
	Now    func() time.Time
}

// Wallet sends messages of one wallet contract, one external message at a
// time.
type Wallet struct {
	cfg     Config
	address cocoon.Address
	outbox  outbox
	turn    chan struct{} // one place: whoever holds it may send
}

// Open prepares a wallet. It asks the chain nothing.
func Open(cfg Config) (*Wallet, error) {
	if cfg.Chain == nil || cfg.Key.IsZero() || cfg.Dir == "" {
		return nil, errors.New("wallet: chain, key and folder are needed")
	}
	if cfg.Lifetime == 0 {
		cfg.Lifetime = 5 * time.Minute
	}
	if cfg.Resend == 0 {
		cfg.Resend = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Contract.PublicKey = cfg.Key.Public()
	addr, err := cfg.Contract.Address()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("wallet folder: %w", err)
	}
	return &Wallet{cfg: cfg, address: addr, outbox: newOutbox(cfg.Dir, addr), turn: make(chan struct{}, 1)}, nil
}

// Address returns the wallet's address.
func (w *Wallet) Address() cocoon.Address { return w.address }

// Preview is what a send would do.
type Preview struct {
	From    cocoon.Address `json:"from"`
	Balance coins.Nano     `json:"balance_nano"`
	Amount  coins.Nano     `json:"amount_nano"` // sum of what the messages carry
	Fee     coins.Nano     `json:"fee_nano"`    // estimated: gas, storage, forwarding
	// Deploy says that the wallet contract is deployed by it.
	Deploy bool `json:"deploy"`
}

// Preview runs the send in the local machine and says what it would cost. It
// fails with ErrUnfit if the send would fail.
func (w *Wallet) Preview(ctx context.Context, messages []Message) (Preview, error) {
	acc, err := w.cfg.Chain.Account(ctx, w.address)
	if err != nil {
		return Preview{}, err
	}
	_, p, err := w.build(ctx, acc, messages)
	return p, err
}

// seqno returns the wallet's sequence number, 0 before it is deployed.
func (w *Wallet) seqno(acc *access.Account) (uint32, error) {
	if acc.Frozen {
		return 0, fmt.Errorf("%w: wallet %s is frozen for unpaid storage", ErrUnfit, w.address)
	}
	if !acc.Deployed() {
		return 0, nil
	}
	return w.cfg.Contract.Kind.seqno(acc.Data)
}

// build signs the messages and tries them out.
func (w *Wallet) build(ctx context.Context, acc access.Account, messages []Message) (External, Preview, error) {
	p := Preview{From: w.address, Balance: acc.Balance, Deploy: !acc.Deployed()}
	for _, m := range messages {
		var err error
		if p.Amount, err = p.Amount.Add(m.Amount); err != nil {
			return External{}, p, err
		}
	}
	if !acc.Exists {
		return External{}, p, fmt.Errorf("%w: %s holds nothing; send coins there first", ErrUnfit, w.address)
	}
	seqno, err := w.seqno(&acc)
	if err != nil {
		return External{}, p, err
	}
	now := w.cfg.Now()
	if acc.Block.Time.After(now) {
		now = acc.Block.Time
	}
	ext, err := w.cfg.Contract.Build(w.cfg.Key, messages, seqno, now.Add(w.cfg.Lifetime), p.Deploy)
	if err != nil {
		return External{}, p, err
	}
	run, err := w.cfg.Chain.Emulate(ctx, acc, ext.BoC)
	if err != nil {
		return External{}, p, err
	}
	switch {
	case !run.Accepted && w.cfg.Contract.Kind == Node && run.ExitCode == exitPoor:
		return External{}, p, fmt.Errorf("%w: node wallet %s holds %s, and it sends only while it holds 2 coins: send some there first", ErrUnfit, w.address, acc.Balance)
	case !run.Accepted:
		return External{}, p, fmt.Errorf("%w: %s holds %s and its contract refuses (exit code %d)", ErrUnfit, w.address, acc.Balance, run.ExitCode)
	case !run.Success || len(run.Out) != len(messages):
		return External{}, p, fmt.Errorf("%w: %d of %d messages would be sent from the balance of %s (exit code %d, action code %d)", ErrUnfit, len(run.Out), len(messages), acc.Balance, run.ExitCode, run.ActionCode)
	}
	p.Fee = run.Cost
	return ext, p, nil
}

// Sent is a proven send.
type Sent struct {
	Seqno  uint32     `json:"seqno"`
	LT     uint64     `json:"lt"`
	TxHash [32]byte   `json:"-"`
	Time   time.Time  `json:"time"`
	Fee    coins.Nano `json:"fee_nano"` // of the wallet's own transaction
}

// Send signs messages as one external message, sends it and waits until its
// execution is proven. A message left over from before is brought to its end
// first. Only errors that wrap ErrPending leave the fate of this send open;
// after every other error it is certain that it is not, and will not be,
// executed, except ErrFailed.
func (w *Wallet) Send(ctx context.Context, messages []Message) (Sent, error) {
	release, err := w.acquire(ctx)
	if err != nil {
		return Sent{}, err
	}
	defer release()
	if _, err := w.resume(ctx); errors.Is(err, ErrPending) || err != nil && !isOutcome(err) {
		return Sent{}, fmt.Errorf("an earlier message comes first, this one is not sent: %v", err)
	}
	acc, err := w.cfg.Chain.Account(ctx, w.address)
	if err != nil {
		return Sent{}, err
	}
	ext, _, err := w.build(ctx, acc, messages)
	if err != nil {
		return Sent{}, err
	}
	r := &record{
		Address: w.address, Seqno: ext.Seqno, ValidUntil: ext.ValidUntil.Unix(),
		BodyHash: ext.BodyHash[:], SinceLT: acc.LastTxLT, Messages: len(messages), BoC: ext.BoC,
	}
	if err := w.outbox.store(r); err != nil {
		return Sent{}, err
	}
	return w.settle(ctx, r)
}

// Resume brings a message left over from an earlier run to its end and returns
// what Send would have returned, or ErrNothing.
func (w *Wallet) Resume(ctx context.Context) (Sent, error) {
	release, err := w.acquire(ctx)
	if err != nil {
		return Sent{}, err
	}
	defer release()
	return w.resume(ctx)
}

func (w *Wallet) resume(ctx context.Context) (Sent, error) {
	r, err := w.outbox.load(w.address)
	if errors.Is(err, fs.ErrNotExist) {
		return Sent{}, ErrNothing
	}
	if err != nil {
		return Sent{}, err
	}
	w.cfg.Logger.Info("wallet message left over, looking for its fate", "wallet", w.address, "seqno", r.Seqno)
	return w.settle(ctx, r)
}

// isOutcome reports whether the fate of a message is certain.
func isOutcome(err error) bool {
	return err == nil || errors.Is(err, ErrNothing) || errors.Is(err, ErrExpired) || errors.Is(err, ErrSuperseded) || errors.Is(err, ErrFailed)
}

// acquire waits for the turn among goroutines and processes.
func (w *Wallet) acquire(ctx context.Context) (release func(), err error) {
	select {
	case w.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		unlock, err := tryLock(w.outbox.lock)
		if err == nil {
			return func() {
				if err := unlock(); err != nil {
					w.cfg.Logger.Warn("wallet lock not released", "reason", err)
				}
				<-w.turn
			}, nil
		}
		if !errors.Is(err, errLocked) {
			<-w.turn
			return nil, fmt.Errorf("wallet lock: %w", err)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			<-w.turn
			return nil, fmt.Errorf("wallet %s is %w", w.address, err)
		}
	}
}

// settle sends the recorded message, again and again, until the chain proves
// its fate, and then forgets it.
func (w *Wallet) settle(ctx context.Context, r *record) (Sent, error) {
	pending := func(err error) (Sent, error) {
		return Sent{}, fmt.Errorf("%w (seqno %d, valid until %s): %v", ErrPending, r.Seqno, r.validUntil().UTC().Format(time.RFC3339), err)
	}
	var lastSend time.Time
	failed := false // it was seen to fail and could be applied again
	for {
		acc, err := w.cfg.Chain.Account(ctx, w.address)
		if ctx.Err() != nil {
			return pending(ctx.Err())
		}
		if err != nil {
			// The chain may be out of reach for a while; ctx says how long.
			w.cfg.Logger.Warn("wallet waits for the chain", "wallet", w.address, "seqno", r.Seqno, "reason", err)
			select {
			case <-time.After(time.Second):
				continue
			case <-ctx.Done():
				return pending(err)
			}
		}
		done, sent, err := w.fate(ctx, r, &acc)
		if done {
			return sent, errors.Join(err, w.outbox.clear())
		}
		if errors.Is(err, ErrFailed) {
			// A node wallet rolls the number back, so sending it again would
			// only burn more gas.
			failed = true
		} else if err != nil {
			return pending(err)
		}
		if !failed && time.Since(lastSend) >= w.cfg.Resend {
			if err := w.cfg.Chain.Send(ctx, r.BoC); err != nil {
				// A server's word is no proof; only the chain decides.
				w.cfg.Logger.Info("wallet message not taken", "wallet", w.address, "seqno", r.Seqno, "reason", err)
			}
			lastSend = time.Now()
		}
		wait, cancel := context.WithTimeout(ctx, w.cfg.Resend)
		_, err = w.cfg.Chain.Next(wait, acc.Block.Seqno)
		cancel()
		if ctx.Err() != nil {
			return pending(ctx.Err())
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return pending(err)
		}
	}
}

// fate looks in a proven account state for what became of the message. done
// says that this is final.
func (w *Wallet) fate(ctx context.Context, r *record, acc *access.Account) (done bool, _ Sent, _ error) {
	seqno, err := w.seqno(acc)
	if err != nil {
		return false, Sent{}, err
	}
	expired := acc.Block.Time.After(r.validUntil().Add(expiryMargin))
	if seqno == r.Seqno && acc.LastTxLT == r.SinceLT {
		if expired {
			return true, Sent{}, fmt.Errorf("%w (seqno %d)", ErrExpired, r.Seqno)
		}
		return false, Sent{}, nil
	}
	if seqno < r.Seqno {
		return false, Sent{}, fmt.Errorf("the chain has sequence number %d, the outbox %d (is %s of another network?)", seqno, r.Seqno, w.outbox.path)
	}
	// Strangers may have made any number of them since.
	for tx, err := range w.cfg.Chain.History(ctx, *acc, r.SinceLT) {
		if err != nil {
			return false, Sent{}, err
		}
		if tx.In == nil || !tx.In.External || !bytes.Equal(tx.In.BodyHash[:], r.BodyHash) {
			continue
		}
		if tx.Success && len(tx.Out) >= r.Messages {
			return true, Sent{Seqno: r.Seqno, LT: tx.LT, TxHash: tx.Hash, Time: tx.Time, Fee: tx.Fees}, nil
		}
		err := fmt.Errorf("%w: %d of %d messages were sent (exit code %d, action code %d)", ErrFailed, len(tx.Out), r.Messages, tx.ExitCode, tx.ActionCode)
		return seqno != r.Seqno || expired, Sent{}, err
	}
	switch {
	case seqno != r.Seqno:
		return true, Sent{}, fmt.Errorf("%w (seqno %d; is the key in use elsewhere?)", ErrSuperseded, r.Seqno)
	case expired:
		return true, Sent{}, fmt.Errorf("%w (seqno %d)", ErrExpired, r.Seqno)
	}
	return false, Sent{}, nil
}
