package node

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/money/settle"
)

// settler is what settle.Client, Worker and Proxy have in common.
type settler interface {
	Channels(ctx context.Context) ([]settle.Channel, error)
	Plan(ctx context.Context, o settle.Order) (settle.Plan, error)
	Do(ctx context.Context, o settle.Order) error
}

// desk is where a role takes orders of its owner and shows its money. Orders go
// through the role, as its wallet has one queue of messages.
type desk struct {
	chain  *access.Client
	wallet *wallet.Wallet
	gas    *gasMeter
	// party acts now; it fails while there is none.
	party func() (settler, error)
	// channels lists all contracts, those of earlier parameters too.
	channels func(context.Context) ([]settle.Channel, error)
	// books is what was charged and where it is, and what is missing of it; nil =
	// not this role's to say.
	books func() (Books, string)
}

// Books says what clients were charged and where it is: paid = kept + earned +
// pending.
type Books struct {
	Paid    coins.Nano `json:"paid_nano"`
	Kept    coins.Nano `json:"kept_nano"`    // the proxy's part of what is settled
	Earned  coins.Nano `json:"earned_nano"`  // the workers' part of it
	Pending coins.Nano `json:"pending_nano"` // charged, not settled
}

// Money is the books, and what the chain took.
type Money struct {
	Books
	// Gas is what wallets and contracts paid the chain.
	Gas coins.Nano `json:"gas_nano"`
}

// MoneyReport is what a role's /money shows.
type MoneyReport struct {
	Money
	// Missing says what of the books is not known yet, GasMissing what of the
	// gas is not; "" = they are complete.
	Missing    string `json:"missing,omitempty"`
	GasMissing string `json:"gas_missing,omitempty"`
}

// ChannelReport is what a role's wallet and contracts hold.
type ChannelReport struct {
	Wallet  cocoon.Address `json:"wallet"`
	Balance coins.Nano     `json:"wallet_balance_nano"`
	// Time is that of the block that proves it: contracts reckon by it.
	Time     time.Time        `json:"time"`
	Channels []settle.Channel `json:"channels"`
}

// ChannelOrder is what `cocoon channel` asks of a role.
type ChannelOrder struct {
	Verb     settle.Verb    `json:"verb"`
	Contract cocoon.Address `json:"contract"` // zero = the only one
	Amount   coins.Nano     `json:"amount_nano"`
	Force    bool           `json:"force"`
	// Execute says that it shall be done; otherwise it is only planned.
	Execute bool `json:"execute"`
}

// ChannelAnswer is what an order does, or did.
type ChannelAnswer struct {
	Wallet  cocoon.Address  `json:"wallet"`
	Balance coins.Nano      `json:"wallet_balance_nano"` // before
	Actions []ChannelAction `json:"actions"`
	// Carried is what the messages take along in all: amounts and gas. What the
	// contracts do not use of the gas comes back.
	Carried coins.Nano `json:"carried_nano"`
	// Fee is the estimated cost of sending.
	Fee   coins.Nano `json:"fee_nano"`
	Notes []string   `json:"notes"`
	Done  bool       `json:"done"`
	// After are the contracts once it is done.
	After []settle.Channel `json:"after,omitempty"`
}

// ChannelAction is one message of an order.
type ChannelAction struct {
	Kind     settle.Kind    `json:"kind"`
	Contract cocoon.Address `json:"contract"`
	Amount   coins.Nano     `json:"amount_nano"`
	Value    coins.Nano     `json:"value_nano"`
	Tokens   int64          `json:"tokens,omitempty"`
}

const (
	channelPath = "/control/channel"
	moneyPath   = "/money"
	maxOrder    = 4 << 10
	maxReport   = 16 << 20
	// moneyWait is how long a question for fees may take.
	moneyWait = 2 * time.Second
)

// newDesk returns the desk of a client or a worker, whose contracts are those
// it holds payments of.
func newDesk(c *Config, ch *chain, w *wallet.Wallet, s settler, contracts func() []cocoon.Address, log *slog.Logger) (*desk, error) {
	gas, err := openGas(ch, c.Runtime.Dir, func() []cocoon.Address { return append(contracts(), w.Address()) }, log)
	if err != nil {
		return nil, err
	}
	return &desk{chain: ch.client, wallet: w, gas: gas, party: func() (settler, error) { return s, nil }, channels: s.Channels}, nil
}

// report shows wallet and contracts.
func (d *desk) report(ctx context.Context) (*ChannelReport, error) {
	if d == nil {
		return nil, errNoChain
	}
	acc, err := d.chain.Account(ctx, d.wallet.Address())
	if err != nil {
		return nil, err
	}
	r := &ChannelReport{Wallet: d.wallet.Address(), Balance: acc.Balance, Time: acc.Block.Time.UTC()}
	r.Channels, err = d.channels(ctx)
	return r, err
}

// order plans an order and, if it says so, carries it out.
func (d *desk) order(ctx context.Context, o ChannelOrder) (*ChannelAnswer, error) {
	if d == nil {
		return nil, errNoChain
	}
	p, err := d.party()
	if err != nil {
		return nil, err
	}
	so := settle.Order{Verb: o.Verb, Contract: o.Contract, Amount: o.Amount, Force: o.Force}
	plan, err := p.Plan(ctx, so)
	if err != nil {
		return nil, err
	}
	a := &ChannelAnswer{Wallet: d.wallet.Address(), Actions: []ChannelAction{}, Notes: append([]string{}, plan.Notes...)}
	acc, err := d.chain.Account(ctx, a.Wallet)
	if err != nil {
		return nil, err
	}
	a.Balance = acc.Balance
	for _, act := range plan.Actions {
		a.Actions = append(a.Actions, ChannelAction{act.Kind, act.To, act.Amount, act.Value, act.Tokens})
		if a.Carried, err = a.Carried.Add(act.Value); err != nil {
			return nil, err
		}
	}
	if a.Carried > a.Balance && o.Verb != settle.OrderSettle {
		return nil, fmt.Errorf("insufficient balance: the messages carry %v, the node wallet %v holds %v; send coins there first", a.Carried, a.Wallet, a.Balance)
	}
	for batch := range slices.Chunk(plan.Messages, bindings.MaxWalletMessages) {
		preview, err := d.wallet.Preview(ctx, batch)
		if err != nil && len(batch) > 1 { // the wallet sends one at a time then
			preview, err = d.wallet.Preview(ctx, batch[:1])
		}
		if err != nil {
			return nil, err
		}
		a.Fee += preview.Fee
	}
	if !o.Execute {
		return a, nil
	}
	if err := p.Do(ctx, so); err != nil {
		return nil, err
	}
	a.Done = true
	a.After, err = d.channels(ctx)
	return a, err
}

// money answers at once with what is known.
func (d *desk) money(ctx context.Context) MoneyReport {
	var m MoneyReport
	if d == nil {
		return m
	}
	if d.books != nil {
		m.Books, m.Missing = d.books()
	}
	if d.gas != nil {
		ctx, cancel := context.WithTimeout(ctx, moneyWait)
		defer cancel()
		var err error
		if m.Gas, err = d.gas.total(ctx); err != nil {
			m.GasMissing = "the chain's newest transactions are not counted: " + err.Error()
		}
	}
	return m
}

// serve adds the desk's pages. What a caller without the secret may see is
// /money alone.
func (d *desk) serve(mux *http.ServeMux, secret string) {
	guarded := func(h func(r *http.Request) (any, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if subtle.ConstantTimeCompare([]byte(r.Header.Get(controlHeader)), []byte(secret)) != 1 {
				http.Error(w, "the control secret is missing or wrong", http.StatusForbidden)
				return
			}
			v, err := h(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusConflict)
				return
			}
			writeJSON(w, v)
		}
	}
	mux.HandleFunc("GET "+moneyPath, func(w http.ResponseWriter, r *http.Request) { writeJSON(w, d.money(r.Context())) })
	mux.HandleFunc("GET "+channelPath, guarded(func(r *http.Request) (any, error) { return d.report(r.Context()) }))
	mux.HandleFunc("POST "+channelPath, guarded(func(r *http.Request) (any, error) {
		var o ChannelOrder
		dec := json.NewDecoder(io.LimitReader(r.Body, maxOrder))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&o); err != nil {
			return nil, fmt.Errorf("not an order: %v", err)
		}
		return d.order(r.Context(), o)
	}))
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// ReadChannels asks a running role for its wallet and contracts: dir is its
// folder, status its status address.
func ReadChannels(ctx context.Context, dir, status string) (*ChannelReport, error) {
	r := new(ChannelReport)
	return r, control(ctx, dir, http.MethodGet, status+channelPath, nil, r)
}

// OrderChannel gives an order to a running role. With Execute it returns when
// the chain has all of it.
func OrderChannel(ctx context.Context, dir, status string, o ChannelOrder) (*ChannelAnswer, error) {
	a := new(ChannelAnswer)
	return a, control(ctx, dir, http.MethodPost, status+channelPath, o, a)
}

// ReadMoney asks a running role for its money.
func ReadMoney(ctx context.Context, status string) (MoneyReport, error) {
	var m MoneyReport
	return m, control(ctx, "", http.MethodGet, status+moneyPath, nil, &m)
}

// control calls a role's page, with the role's secret unless dir is "".
func control(ctx context.Context, dir, method, url string, body, into any) error {
	b := []byte{}
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(b))
	if err != nil {
		return err
	}
	if dir != "" {
		secret, err := controlSecret(dir)
		if err != nil {
			return err
		}
		req.Header.Set(controlHeader, secret)
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		defer resp.Body.Close()
		b, err = io.ReadAll(io.LimitReader(resp.Body, maxReport))
	}
	switch {
	case err != nil && ctx.Err() != nil && method == http.MethodPost:
		return fmt.Errorf("the process has not answered in time; what it has sent takes its course, `cocoon channel show` says what came of it: %w", context.Cause(ctx))
	case err != nil:
		return fmt.Errorf("the process does not answer, is it running? %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(b)))
	}
	return json.Unmarshal(b, into)
}
