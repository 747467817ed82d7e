//go:build !tee

package wallet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

const gram = coins.PerCoin

// world is a chain and a client of it.
type world struct {
	chain  *devnet.Chain
	client *access.Client
}

func newWorld(t *testing.T) *world {
	t.Helper()
	chain, err := devnet.Open(devnet.Config{Dir: t.TempDir(), Idle: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx) }()
	client, err := access.Open(t.Context(), access.Config{GlobalConfig: chain.GlobalConfig(), Now: chain.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &world{chain, client}
}

// config returns the configuration of a wallet with a new key.
func (w *world) config(t *testing.T, kind Kind) Config {
	c := Config{Chain: w.client, Key: NewKey(), Dir: t.TempDir(), Now: w.chain.Now,
		Contract: Contract{Kind: kind, GlobalID: w.chain.GlobalID()}}
	if kind == Node {
		c.Contract.Owner = w.chain.FaucetAddress()
	}
	return c
}

// open opens a wallet and gives it coins.
func (w *world) open(t *testing.T, cfg Config, amount coins.Nano) *Wallet {
	t.Helper()
	out, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if amount > 0 {
		if err := w.chain.Faucet(t.Context(), out.Address(), amount); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (w *world) balance(t *testing.T, addr cocoon.Address) coins.Nano {
	t.Helper()
	acc, err := w.client.Account(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	return acc.Balance
}

// received is the sum of what addr was ever sent, which no storage fee lessens.
func (w *world) received(t *testing.T, addr cocoon.Address) coins.Nano {
	t.Helper()
	acc, err := w.client.Account(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	list, err := w.client.Transactions(t.Context(), acc, 0)
	if err != nil {
		t.Fatal(err)
	}
	sum := coins.Nano(0)
	for _, tx := range list {
		sum += tx.In.Value
	}
	return sum
}

// awaitReceived waits until addr was sent amount.
func (w *world) awaitReceived(t *testing.T, addr cocoon.Address, amount coins.Nano) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); w.received(t, addr) != amount; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s received %s, want %s", addr, w.received(t, addr), amount)
		}
	}
}

func pay(to byte, amount coins.Nano) Message {
	return Message{To: cocoon.Address{Hash: [32]byte{31: to}}, Amount: amount, Mode: ModePayFees}
}

func TestSend(t *testing.T) {
	w := newWorld(t)
	for i, kind := range []Kind{V5R1, V4R2, Node} {
		t.Run(kind.String(), func(t *testing.T) {
			wallet := w.open(t, w.config(t, kind), 10*gram)
			to := byte(1 + i)
			messages := []Message{pay(to, gram), {To: cocoon.Address{Hash: [32]byte{31: to}}, Amount: gram / 2, Mode: ModePayFees, Body: Comment("one half")}}
			before, err := wallet.Preview(t.Context(), messages)
			if err != nil {
				t.Fatal(err)
			}
			if before.Amount != gram*3/2 || before.Balance != 10*gram || !before.Deploy || before.Fee == 0 || before.Fee > gram/10 {
				t.Errorf("preview %+v", before)
			}
			sent, err := wallet.Send(t.Context(), messages)
			if err != nil {
				t.Fatal(err)
			}
			if sent.Seqno != 0 || sent.Fee == 0 || sent.LT == 0 {
				t.Errorf("sent %+v", sent)
			}
			// What was sent can be spent only once it is there.
			w.awaitReceived(t, messages[0].To, gram*3/2)
			left := w.balance(t, wallet.Address())
			if cost := 10*gram - gram*3/2 - left; cost > 2*before.Fee || cost < before.Fee/2 {
				t.Errorf("it cost %s, the preview said %s", cost, before.Fee)
			}
			second, err := wallet.Preview(t.Context(), messages[:1])
			if err != nil || second.Deploy {
				t.Errorf("second preview %+v, %v", second, err)
			}
			if sent, err = wallet.Send(t.Context(), messages[:1]); err != nil || sent.Seqno != 1 {
				t.Errorf("second send %+v, %v", sent, err)
			}
			if _, err := wallet.Resume(t.Context()); !errors.Is(err, ErrNothing) {
				t.Errorf("something is left: %v", err)
			}
		})
	}
}

func TestUnfit(t *testing.T) {
	w := newWorld(t)
	empty := w.open(t, w.config(t, V5R1), 0)
	poor := w.open(t, w.config(t, V4R2), gram)
	node := w.open(t, w.config(t, Node), gram) // below its minimum of 2
	for name, send := range map[string]func() error{
		"empty wallet":     func() error { _, err := empty.Send(t.Context(), []Message{pay(1, 1)}); return err },
		"more than it has": func() error { _, err := poor.Send(t.Context(), []Message{pay(1, 5*gram)}); return err },
		"node wallet below its minimum": func() error {
			_, err := node.Send(t.Context(), []Message{pay(1, 1)})
			return err
		},
		"more than it has, errors ignored": func() error {
			m := pay(1, 5*gram)
			m.Mode |= ModeIgnoreErrors
			_, err := poor.Preview(t.Context(), []Message{m})
			return err
		},
	} {
		if err := send(); !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v, want %v", name, err, ErrUnfit)
		}
	}
	if got := w.received(t, cocoon.Address{Hash: [32]byte{31: 1}}); got != 0 {
		t.Errorf("%s was paid", got)
	}
}

// TestConcurrentSends lets many goroutines and two wallets of one folder, as
// two processes would be, send at once: everything is paid once.
func TestConcurrentSends(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t, V5R1)
	first := w.open(t, cfg, 20*gram)
	second := w.open(t, cfg, 0)
	const each = 5
	var wg sync.WaitGroup
	for i := range 2 * each {
		wallet := []*Wallet{first, second}[i%2]
		wg.Go(func() {
			if _, err := wallet.Send(t.Context(), []Message{pay(1, gram)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.awaitReceived(t, cocoon.Address{Hash: [32]byte{31: 1}}, 2*each*gram)
}

// crippled is a chain that loses what is sent while lose says so.
type crippled struct {
	Chain
	mu   sync.Mutex
	lose bool
	sent [][]byte
}

func (c *crippled) Send(ctx context.Context, boc []byte) error {
	c.mu.Lock()
	c.sent = append(c.sent, boc)
	lose := c.lose
	c.mu.Unlock()
	if lose {
		return nil
	}
	return c.Chain.Send(ctx, boc)
}

// awaitSent waits until n messages were sent.
func (c *crippled) awaitSent(n int) {
	for {
		c.mu.Lock()
		sent := len(c.sent)
		c.mu.Unlock()
		if sent >= n {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (c *crippled) setLose(lose bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lose = lose
}

// TestKilledBetween ends a send at its worst moment: the message is recorded,
// whether it arrived is not known. After the restart it is brought to its end
// before anything else is sent, and nothing is paid twice.
func TestKilledBetween(t *testing.T) {
	w := newWorld(t)
	to := cocoon.Address{Hash: [32]byte{31: 1}}
	for i, arrived := range []bool{false, true} {
		t.Run(fmt.Sprintf("arrived=%t", arrived), func(t *testing.T) {
			cfg := w.config(t, V4R2)
			c := &crippled{Chain: w.client, lose: true}
			cfg.Chain = c
			wallet := w.open(t, cfg, 5*gram)
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() {
				_, err := wallet.Send(ctx, []Message{pay(1, gram)})
				result <- err
			}()
			c.awaitSent(1)
			cancel()
			if err := <-result; !errors.Is(err, ErrPending) {
				t.Fatalf("%v, want %v", err, ErrPending)
			}
			if arrived {
				if err := w.client.Send(t.Context(), c.sent[0]); err != nil {
					t.Fatal(err)
				}
			}
			c.setLose(false)
			again := w.open(t, cfg, 0)
			if _, err := again.Send(t.Context(), []Message{pay(1, gram/2)}); err != nil {
				t.Fatal(err)
			}
			want := coins.Nano(i+1) * (gram + gram/2)
			w.awaitReceived(t, to, want)
			for _, boc := range c.sent[1:] {
				if string(boc) == string(c.sent[0]) {
					return
				}
			}
			if !arrived {
				t.Error("the recorded message was not sent again")
			}
		})
	}
}

// TestFlooded buries a wallet under a stranger's messages while the fate of one
// of its own is open: it is learned all the same.
func TestFlooded(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t, V4R2)
	c := &crippled{Chain: w.client, lose: true}
	cfg.Chain = c
	wallet := w.open(t, cfg, 5*gram)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := wallet.Send(ctx, []Message{pay(1, gram)})
		result <- err
	}()
	c.awaitSent(1)
	cancel()
	if err := <-result; !errors.Is(err, ErrPending) {
		t.Fatalf("%v, want %v", err, ErrPending)
	}
	if err := w.client.Send(t.Context(), c.sent[0]); err != nil {
		t.Fatal(err)
	}
	stranger := w.open(t, w.config(t, V5R1), 50*gram)
	for range access.MaxTransactions/255 + 1 {
		many := make([]Message, 255)
		for i := range many {
			many[i] = Message{To: wallet.Address(), Amount: 1, Mode: ModePayFees}
		}
		if _, err := stranger.Send(t.Context(), many); err != nil {
			t.Fatal(err)
		}
	}
	acc, err := w.client.Account(t.Context(), wallet.Address())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.Transactions(t.Context(), acc, 0); !errors.Is(err, access.ErrTooMany) {
		t.Fatalf("that is no flood: %v", err)
	}
	c.setLose(false)
	if sent, err := w.open(t, cfg, 0).Resume(t.Context()); err != nil || sent.LT == 0 {
		t.Errorf("%+v, %v", sent, err)
	}
	w.awaitReceived(t, cocoon.Address{Hash: [32]byte{31: 1}}, gram)
}

// TestKilledAtEachStep leaves the outbox as a process does that is killed at
// each point where it writes, and starts again: the message of then is executed
// exactly once if its record was complete, and never if it was not, and the
// next one once. What the chain says decides, not the file.
func TestKilledAtEachStep(t *testing.T) {
	w := newWorld(t)
	first, second := cocoon.Address{Hash: [32]byte{31: 11}}, cocoon.Address{Hash: [32]byte{31: 12}}
	for i, tt := range []struct {
		name string
		// leave turns the outbox of a message that was recorded, and perhaps sent,
		// into what the kill left of it.
		leave   func(t *testing.T, o outbox)
		arrived bool // the message came to the chain before the kill
		want    coins.Nano
	}{
		{name: "while the record was written", want: 0, leave: func(t *testing.T, o outbox) {
			b, err := os.ReadFile(o.path)
			if err == nil {
				err = errors.Join(os.WriteFile(o.path+".new", b[:len(b)/2], 0o600), os.Remove(o.path))
			}
			if err != nil {
				t.Fatal(err)
			}
		}},
		{name: "before the record took its name", want: 0, leave: func(t *testing.T, o outbox) {
			if err := os.Rename(o.path, o.path+".new"); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "before it was sent", want: gram},
		{name: "after it was sent", arrived: true, want: gram},
		{name: "after it was executed, before the record was cleared", arrived: true, want: gram, leave: func(*testing.T, outbox) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, next := w.received(t, first), w.received(t, second)
			cfg := w.config(t, Node)
			c := &crippled{Chain: w.client, lose: true}
			cfg.Chain = c
			killed := w.open(t, cfg, 5*gram)
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan error, 1)
			go func() {
				_, err := killed.Send(ctx, []Message{pay(11, gram)})
				result <- err
			}()
			c.awaitSent(1)
			cancel()
			if err := <-result; !errors.Is(err, ErrPending) {
				t.Fatalf("%v, want %v", err, ErrPending)
			}
			if tt.arrived {
				if err := w.client.Send(t.Context(), c.sent[0]); err != nil {
					t.Fatal(err)
				}
			}
			if tt.leave != nil {
				if tt.arrived {
					w.awaitReceived(t, first, before+gram)
				}
				tt.leave(t, killed.outbox)
			}
			c.setLose(false)
			again := w.open(t, cfg, 0)
			if _, err := again.Resume(t.Context()); err != nil && !errors.Is(err, ErrNothing) {
				t.Fatalf("resume: %v", err)
			}
			if _, err := again.Send(t.Context(), []Message{pay(12, gram/2)}); err != nil {
				t.Fatal(err)
			}
			w.awaitReceived(t, second, next+gram/2)
			if got := w.received(t, first) - before; got != tt.want {
				t.Errorf("step %d: %v was paid, want %v", i, got, tt.want)
			}
			if _, err := again.Resume(t.Context()); !errors.Is(err, ErrNothing) {
				t.Errorf("step %d: something is still recorded: %v", i, err)
			}
		})
	}
}

// TestExpires loses a message for good: it is resent until the chain's time
// has passed its validity, and then known to be dead.
func TestExpires(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t, V5R1)
	c := &crippled{Chain: w.client, lose: true}
	cfg.Chain, cfg.Resend, cfg.Lifetime = c, 50*time.Millisecond, time.Minute
	wallet := w.open(t, cfg, 5*gram)
	result := make(chan error, 1)
	go func() {
		_, err := wallet.Send(t.Context(), []Message{pay(1, gram)})
		result <- err
	}()
	c.awaitSent(3) // sent again and again
	if err := w.chain.Advance(3 * time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, ErrExpired) {
		t.Errorf("%v, want %v", err, ErrExpired)
	}
	c.setLose(false)
	if _, err := wallet.Send(t.Context(), []Message{pay(2, gram)}); err != nil {
		t.Error(err)
	}
	if got := w.balance(t, cocoon.Address{Hash: [32]byte{31: 1}}); got != 0 {
		t.Errorf("the expired message paid %s", got)
	}
}

// TestSuperseded uses the key in another place while a message is under way.
func TestSuperseded(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t, V5R1)
	c := &crippled{Chain: w.client, lose: true}
	cfg.Chain = c
	wallet := w.open(t, cfg, 5*gram)
	result := make(chan error, 1)
	go func() {
		_, err := wallet.Send(t.Context(), []Message{pay(1, gram)})
		result <- err
	}()
	c.awaitSent(1)
	elsewhere := cfg
	elsewhere.Dir, elsewhere.Chain = t.TempDir(), w.client
	if _, err := w.open(t, elsewhere, 0).Send(t.Context(), []Message{pay(2, gram)}); err != nil {
		t.Fatal(err)
	}
	if err := <-result; !errors.Is(err, ErrSuperseded) {
		t.Errorf("%v, want %v", err, ErrSuperseded)
	}
}

// TestSkipped lets storage rent eat what a message was to carry while it is
// under way: V5R1 then skips it and succeeds, which must not pass for a payment.
func TestSkipped(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(t, V5R1)
	c := &crippled{Chain: w.client, lose: true}
	cfg.Chain, cfg.Resend, cfg.Lifetime = c, 20*time.Millisecond, 10*365*24*time.Hour
	wallet := w.open(t, cfg, gram)
	if _, err := wallet.Preview(t.Context(), []Message{pay(1, 1)}); err != nil {
		t.Fatal(err)
	}
	p, err := wallet.Preview(t.Context(), []Message{pay(1, gram/2)})
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := wallet.Send(t.Context(), []Message{pay(1, gram-p.Fee-100_000)})
		result <- err
	}()
	c.awaitSent(1)
	if err := w.chain.Advance(5 * 365 * 24 * time.Hour); err != nil {
		t.Fatal(err)
	}
	c.setLose(false)
	if err := <-result; !errors.Is(err, ErrFailed) {
		t.Errorf("%v, want %v", err, ErrFailed)
	}
	if got := w.received(t, cocoon.Address{Hash: [32]byte{31: 1}}); got != 0 {
		t.Errorf("%s was paid", got)
	}
}

// TestOutboxFile refuses a record that is damaged or another wallet's.
func TestOutboxFile(t *testing.T) {
	cfg := Config{Chain: access.Offline{}, Key: NewKey(), Dir: t.TempDir(), Contract: Contract{Kind: V4R2}}
	w, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "{", `{"address":"` + w.Address().String() + `"}`} {
		if err := os.WriteFile(w.outbox.path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Resume(t.Context()); err == nil || errors.Is(err, ErrNothing) || !strings.Contains(err.Error(), filepath.Base(w.outbox.path)) {
			t.Errorf("outbox %q: %v", text, err)
		}
		if _, err := w.Send(t.Context(), []Message{pay(1, 1)}); err == nil || errors.Is(err, access.ErrOffline) {
			t.Errorf("outbox %q: sending goes on: %v", text, err)
		}
	}
	r := &record{Address: w.Address(), Seqno: 3, ValidUntil: 5, BodyHash: make([]byte, 32), BoC: []byte{1}}
	if err := w.outbox.store(r); err != nil {
		t.Fatal(err)
	}
	back, err := w.outbox.load(w.Address())
	if err != nil || back.Seqno != 3 || back.ValidUntil != 5 {
		t.Errorf("%+v, %v", back, err)
	}
	if err := w.outbox.clear(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Send(t.Context(), []Message{pay(1, 1)}); !errors.Is(err, access.ErrOffline) {
		t.Errorf("offline: %v", err)
	}
}
