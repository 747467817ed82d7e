package settle

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// memoryChain is a chain in memory that follows spec contracts 5 to 7 as far
// as money goes: no gas, no storage fees. Each time a wallet's account is
// read, which every round does once, all messages move by one hop.
type memoryChain struct {
	t        *testing.T
	mu       sync.Mutex // of Account, Transactions, Send; tests look in between
	accounts map[cocoon.Address]*account
	pending  []pendingMessage
	lt       uint64
	// births are the contracts that a StateInit deploys, by address.
	births map[cocoon.Address]func() storage
	stuck  bool // nothing is delivered
	// refuse is the exit code of the proxy contract for every request of a
	// client; 0 = none.
	refuse int32
}

type storage interface{ Encode() ([]byte, error) }

type account struct {
	storage storage
	balance coins.Nano
	txs     []access.Transaction
}

type pendingMessage struct {
	access.Message
	init bool
}

func newChain(t *testing.T) *memoryChain {
	return &memoryChain{t: t, accounts: map[cocoon.Address]*account{}, births: map[cocoon.Address]func() storage{}}
}

func (c *memoryChain) account(a cocoon.Address) *account {
	if c.accounts[a] == nil {
		c.accounts[a] = &account{}
	}
	return c.accounts[a]
}

// Account implements Chain.
func (c *memoryChain) Account(_ context.Context, addr cocoon.Address) (access.Account, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.accounts[addr]
	if a == nil {
		return access.Account{Address: addr}, nil
	}
	out := access.Account{Address: addr, Exists: true, Balance: a.balance}
	if a.storage != nil {
		data, err := a.storage.Encode()
		if err != nil {
			return out, err
		}
		out.Data, out.Code = data, emptyCell
	}
	if n := len(a.txs); n > 0 {
		out.LastTxLT, out.LastTxHash = a.txs[n-1].LT, a.txs[n-1].Hash
	}
	return out, nil
}

// Transactions implements Chain.
func (c *memoryChain) Transactions(_ context.Context, acc access.Account, since uint64) (out []access.Transaction, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := false
	for _, tx := range c.accounts[acc.Address].txs {
		known = known || tx.LT == acc.LastTxLT && tx.Hash == acc.LastTxHash
		if tx.LT > since && tx.LT <= acc.LastTxLT {
			out = append(out, tx)
		}
	}
	if !known {
		c.t.Errorf("asked for the transactions of %v up to one that is not its own", acc.Address)
	}
	if len(out) > access.MaxTransactions {
		return nil, access.ErrTooMany
	}
	return out, nil
}

// transact records a transaction of addr and posts its messages.
func (c *memoryChain) transact(addr cocoon.Address, in *access.Message, exit int32, computed bool, out []pendingMessage) access.Transaction {
	c.lt += 1_000_000
	tx := access.Transaction{LT: c.lt, Time: time.Now(), Success: computed && exit == 0, Computed: computed, ExitCode: exit, In: in}
	binary.BigEndian.PutUint64(tx.Hash[:], c.lt)
	for i := range out {
		m := &out[i]
		m.Source, m.LT = addr, c.lt+uint64(i)+1
		m.Hash = sha256.Sum256(binary.BigEndian.AppendUint64(addr.Hash[:], m.LT))
		tx.Out = append(tx.Out, m.Message)
		c.account(addr).balance -= m.Value
		c.pending = append(c.pending, *m)
	}
	c.account(addr).txs = append(c.account(addr).txs, tx)
	return tx
}

// hop delivers every message that was posted before.
func (c *memoryChain) hop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stuck {
		return
	}
	batch := c.pending
	c.pending = nil
	for _, m := range batch {
		c.deliver(m)
	}
}

func (c *memoryChain) deliver(m pendingMessage) {
	a := c.account(m.Dest)
	a.balance += m.Value
	if m.init && a.storage == nil {
		birth := c.births[m.Dest]
		if birth == nil {
			c.t.Fatalf("%v deploys something unknown at %v", m.Source, m.Dest)
		}
		a.storage = birth()
	}
	if a.storage == nil || m.Body == nil || m.Value < coins.PerCoin/10 {
		// A purse, a donation, or a mere notification, which has no gas.
		c.transact(m.Dest, &m.Message, 0, a.storage != nil && m.Value > 1, nil)
		return
	}
	_, msg, err := bindings.DecodeMessage(m.Body)
	if err != nil {
		c.t.Fatalf("message to %v: %v", m.Dest, err)
	}
	var out []pendingMessage
	var exit int32
	switch s := a.storage.(type) {
	case *bindings.ProxyStorage:
		out, exit = c.proxy(s, m.Message, msg)
	case *bindings.ClientStorage:
		out, exit = c.client(s, m.Message, msg)
	case *bindings.WorkerStorage:
		out, exit = c.worker(s, m.Message, msg)
	}
	if exit != 0 { // the value bounces
		body, _ := bindings.EncodeMessage(0, bindings.Excess{})
		out = []pendingMessage{{Message: access.Message{Dest: m.Source, Value: m.Value, Body: body, Bounced: true}}}
	}
	c.transact(m.Dest, &m.Message, exit, true, out)
}

func post(to cocoon.Address, value coins.Nano, m bindings.Message) pendingMessage {
	body, err := bindings.EncodeMessage(1, m)
	if err != nil {
		panic(err)
	}
	return pendingMessage{Message: access.Message{Dest: to, Value: value, Body: body}}
}

func (c *memoryChain) proxy(s *bindings.ProxyStorage, in access.Message, m bindings.Message) (out []pendingMessage, exit int32) {
	switch m := m.(type) {
	case *bindings.ClientRequest:
		if m.Payload == nil {
			return nil, 0
		}
		if c.refuse != 0 {
			return nil, c.refuse
		}
		p := m.Payload
		rest := in.Value
		switch p.Kind {
		case bindings.PayloadTopUp:
			rest -= p.Amount
		case bindings.PayloadRefundGranted:
			out = append(out, post(m.Owner, p.Amount, bindings.Payout{}))
		case bindings.PayloadRefundForced:
			n := p.Amount
			if s.State != bindings.Closed { // then the pool pays
				n = min(n, s.Stake)
				s.Stake -= n
			}
			out = append(out, post(m.Owner, n, bindings.Payout{}))
		default:
			return nil, 0
		}
		return append(out, post(p.ExcessTo, rest, bindings.Excess{})), 0
	case *bindings.WorkerRequest:
		if m.Payment == nil {
			return nil, 0
		}
		s.Earnings += m.Payment.Proxy
		return []pendingMessage{post(m.Owner, m.Payment.Worker, bindings.Payout{}), post(m.Payment.ExcessTo, in.Value, bindings.Excess{})}, 0
	case *bindings.Funding:
		s.Stake += m.Amount
		return []pendingMessage{post(m.ExcessTo, in.Value-m.Amount, bindings.Excess{})}, 0
	case *bindings.Request:
		n := s.Earnings
		s.Earnings = 0
		return []pendingMessage{post(s.Owner, n, bindings.Payout{}), post(m.ExcessTo, in.Value, bindings.Excess{})}, 0
	case *bindings.Payment:
		if m.Verify(m.Kind, in.Dest, s.Key) != nil {
			return nil, 1007
		}
		now := uint32(time.Now().Unix())
		switch {
		case m.Kind == bindings.ProxyClose && s.State == bindings.Open:
			s.State, s.UnlockAt = bindings.Closing, now+s.Params.ProxyDelayBeforeClose
			return []pendingMessage{post(m.ExcessTo, in.Value, bindings.Excess{})}, 0
		case m.Kind == bindings.ProxyCloseComplete && s.State == bindings.Closing && now >= s.UnlockAt:
			s.State, s.UnlockAt, s.Earnings, s.Stake = bindings.Closed, 0, 0, 0
			return []pendingMessage{post(s.Owner, c.account(in.Dest).balance, bindings.Payout{})}, 0
		}
		return nil, 1006
	}
	return nil, 1012
}

func (c *memoryChain) client(s *bindings.ClientStorage, in access.Message, m bindings.Message) ([]pendingMessage, int32) {
	if s.State == bindings.Closed {
		return nil, 1006
	}
	tell := func(value coins.Nano, p *bindings.ClientPayload) pendingMessage {
		return post(s.Proxy, value, &bindings.ClientRequest{Owner: s.Owner, State: s.State, Balance: s.Balance, Stake: s.Stake, Tokens: s.Tokens, SecretHash: s.SecretHash, Payload: p})
	}
	carry := func(kind bindings.PayloadKind, amount coins.Nano, to cocoon.Address) []pendingMessage {
		return []pendingMessage{tell(in.Value, &bindings.ClientPayload{Kind: kind, Amount: amount, ExcessTo: to})}
	}
	notify := func(p *bindings.ClientPayload, to cocoon.Address) []pendingMessage {
		return []pendingMessage{tell(1, p), post(to, in.Value-1, bindings.Excess{})}
	}
	charge := func(tokens uint64) {
		cost := coins.Nano(tokens-s.Tokens) * s.Params.PricePerToken
		s.Tokens = tokens
		s.Balance -= min(cost, s.Balance)
	}
	switch m := m.(type) {
	case *bindings.Funding:
		if m.Op == bindings.OpIncreaseClientStake {
			s.Stake = m.Amount
			return notify(nil, m.ExcessTo), 0
		}
		s.Balance += m.Amount
		return carry(bindings.PayloadTopUp, m.Amount, m.ExcessTo), 0
	case *bindings.ChangeSecret:
		s.SecretHash = m.SecretHash
		return notify(nil, m.ExcessTo), 0
	case *bindings.RegisterClient:
		return notify(&bindings.ClientPayload{Kind: bindings.PayloadRegister, Nonce: m.Nonce}, m.ExcessTo), 0
	case *bindings.Payment:
		switch {
		case m.Verify(m.Kind, in.Dest, s.ProxyKey) != nil:
			return nil, 1007
		case m.Kind == bindings.ClientCharge && m.Tokens > s.Tokens:
			charge(m.Tokens)
			return notify(nil, m.ExcessTo), 0
		case m.Kind == bindings.ClientGrantRefund && m.Tokens >= s.Tokens:
			charge(m.Tokens)
			x := s.Balance
			s.Balance, s.State = 0, bindings.Closed
			return carry(bindings.PayloadRefundGranted, x, m.ExcessTo), 0
		}
		return nil, 1000
	case *bindings.Request:
		switch {
		case m.Op == bindings.OpWithdraw:
			x := s.Balance - s.Stake
			s.Balance = s.Stake
			return carry(bindings.PayloadRefundGranted, x, m.ExcessTo), 0
		case s.State == bindings.Open:
			s.State, s.UnlockAt = bindings.Closing, uint32(time.Now().Unix())+s.Params.ClientDelayBeforeClose
			if s.Balance <= s.Stake {
				return notify(nil, m.ExcessTo), 0
			}
			x := s.Balance - s.Stake
			s.Balance = s.Stake
			return carry(bindings.PayloadRefundGranted, x, m.ExcessTo), 0
		case int64(s.UnlockAt) >= time.Now().Unix():
			return nil, 1011
		}
		x := s.Balance
		s.State, s.Balance = bindings.Closed, 0
		return carry(bindings.PayloadRefundForced, x, m.ExcessTo), 0
	}
	return nil, 1012
}

func (c *memoryChain) worker(s *bindings.WorkerStorage, in access.Message, m bindings.Message) ([]pendingMessage, int32) {
	p, ok := m.(*bindings.Payment)
	switch {
	case s.State == bindings.Closed:
		return nil, 1006
	case !ok:
		return nil, 1012
	case p.Verify(p.Kind, in.Dest, s.ProxyKey) != nil:
		return nil, 1007
	case p.Tokens <= s.Tokens && p.Kind == bindings.WorkerPayout:
		return nil, 1000
	}
	d := coins.Nano(p.Tokens - s.Tokens)
	s.Tokens = p.Tokens
	if p.Kind == bindings.WorkerLastPayout {
		s.State = bindings.Closed
	}
	fee, price := s.Params.WorkerFeePerToken, s.Params.PricePerToken
	return []pendingMessage{post(s.Proxy, in.Value, &bindings.WorkerRequest{Owner: s.Owner, State: s.State, Tokens: s.Tokens,
		Payment: &bindings.WorkerPayment{Worker: d * fee, Proxy: d * (price - fee), ExcessTo: p.ExcessTo}})}, 0
}

// memoryWallet sends at once, as a proven send looks when it returns. A flaky
// one leaves the fate of the next send open: it is executed when somebody asks
// again, as an outbox does.
type memoryWallet struct {
	chain     *memoryChain
	addr      cocoon.Address
	sent      int // messages
	flaky     bool
	leftover  []wallet.Message
	expires   bool // the leftover is never executed
	elsewhere bool // another process brings the leftover to its end first
}

func (w *memoryWallet) Address() cocoon.Address { return w.addr }

func (w *memoryWallet) Resume(context.Context) (wallet.Sent, error) {
	w.chain.mu.Lock()
	defer w.chain.mu.Unlock()
	if w.leftover != nil && w.elsewhere {
		if w.elsewhere = false; w.expires {
			w.expires, w.leftover = false, nil
		} else if _, err := w.execute(&w.leftover); err != nil {
			return wallet.Sent{}, err
		}
	}
	if w.leftover == nil {
		return wallet.Sent{}, wallet.ErrNothing
	}
	if w.expires {
		w.expires, w.leftover = false, nil
		return wallet.Sent{}, wallet.ErrExpired
	}
	return w.execute(&w.leftover)
}

func (w *memoryWallet) Send(_ context.Context, messages []wallet.Message) (wallet.Sent, error) {
	w.chain.mu.Lock()
	defer w.chain.mu.Unlock()
	if len(messages) > bindings.MaxWalletMessages {
		w.chain.t.Fatalf("%d messages at once", len(messages))
	}
	if w.leftover != nil {
		if _, err := w.execute(&w.leftover); err != nil {
			return wallet.Sent{}, err
		}
	}
	if w.flaky {
		w.flaky, w.leftover = false, messages
		return wallet.Sent{}, wallet.ErrPending
	}
	return w.execute(&messages)
}

func (w *memoryWallet) execute(messages *[]wallet.Message) (wallet.Sent, error) {
	var out []pendingMessage
	var sum coins.Nano
	for _, m := range *messages {
		sum += m.Amount
		out = append(out, pendingMessage{access.Message{Dest: m.To, Value: m.Amount, Body: m.Body}, m.Init != nil})
	}
	*messages = nil
	if sum > w.chain.account(w.addr).balance {
		return wallet.Sent{}, wallet.ErrUnfit
	}
	w.sent += len(out)
	tx := w.chain.transact(w.addr, nil, 0, true, out)
	return wallet.Sent{LT: tx.LT}, nil
}

// view is the chain as one party sees it: its rounds make the messages move.
type view struct {
	*memoryChain
	wallet cocoon.Address
}

func (v view) Account(ctx context.Context, addr cocoon.Address) (access.Account, error) {
	if addr == v.wallet {
		v.hop()
	}
	return v.memoryChain.Account(ctx, addr)
}
