package money_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/money/settle"
)

// status is what `cocoon status --json` says of the money.
type status struct {
	Paid    int64 `json:"paid_nano"`
	Kept    int64 `json:"kept_nano"`
	Earned  int64 `json:"earned_nano"`
	Pending int64 `json:"pending_nano"`
	Gas     int64 `json:"gas_nano"`
}

// channels is what `cocoon channel show --json` says.
type channels struct {
	Processes []struct {
		Name, Role string
		Channels   []shownChannel
	}
}

type shownChannel struct {
	Kind        string
	Contract    cocoon.Address
	Proxy       cocoon.Address
	State       string
	Params      uint32 `json:"params_version"`
	Price       int64  `json:"price_nano"`
	Balance     int64  `json:"balance_nano"`
	Recoverable int64  `json:"recoverable_nano"`
	Stake       int64  `json:"stake_nano"`
	Earnings    int64  `json:"earnings_nano"`
	Settled     int64  `json:"settled_nano"`
	Due         int64  `json:"due_nano"`
}

// status returns the books, which must be even.
func (n *network) status() status {
	n.t.Helper()
	var s status
	must(n.t, "", &s, "status", "--json", "--dir", n.dir)
	if s.Paid != s.Kept+s.Earned+s.Pending {
		n.t.Errorf("paid %d nano is not kept %d + earned %d + pending %d", s.Paid, s.Kept, s.Earned, s.Pending)
	}
	return s
}

// channels returns all contracts.
func (n *network) channels() (c channels) {
	n.t.Helper()
	must(n.t, "", &c, "channel", "show", "--json", "--dir", n.dir)
	return c
}

// settle brings everything onto the chain and returns the books after it.
func (n *network) settle() status {
	n.t.Helper()
	must(n.t, "", nil, "channel", "settle", "--yes", "--json", "--dir", n.dir)
	s := n.status()
	if s.Pending != 0 {
		n.t.Errorf("%d nano are pending after everything was settled", s.Pending)
	}
	return s
}

// chain reads proven states.
type chain struct {
	*access.Client
	t *testing.T
}

func openChain(t *testing.T, dir string) chain {
	t.Helper()
	config, err := os.ReadFile(filepath.Join(dir, "devnet", "global.config.json"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := access.Open(t.Context(), access.Config{GlobalConfig: config})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return chain{c, t}
}

func (c chain) account(addr cocoon.Address) access.Account {
	c.t.Helper()
	acc, err := c.Account(c.t.Context(), addr)
	if err != nil {
		c.t.Fatal(err)
	}
	return acc
}

func (c chain) client(addr cocoon.Address) *bindings.ClientStorage {
	c.t.Helper()
	s, err := bindings.DecodeClient(c.account(addr).Data)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c chain) worker(addr cocoon.Address) *bindings.WorkerStorage {
	c.t.Helper()
	s, err := bindings.DecodeWorker(c.account(addr).Data)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

func (c chain) proxy(addr cocoon.Address) *bindings.ProxyStorage {
	c.t.Helper()
	s, err := bindings.DecodeProxy(c.account(addr).Data)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// payouts adds up what a proxy contract paid to each person, by the proven
// transactions of the contract. The person's account would not do: one that
// has a few nano is soon none.
func (c chain) payouts(from cocoon.Address) map[cocoon.Address]int64 {
	c.t.Helper()
	sums := map[cocoon.Address]int64{}
	err := settle.History(c.t.Context(), c.Client, c.account(from), 0, func(tx access.Transaction) error {
		for _, out := range tx.Out {
			if _, m, err := bindings.DecodeMessage(out.Body); err == nil {
				if _, ok := m.(bindings.Payout); ok {
					sums[out.Dest] += int64(out.Value)
				}
			}
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return sums
}

// deposited adds up what a client put into a proxy contract.
func (c chain) deposited(proxy, client cocoon.Address) (sum int64) {
	c.t.Helper()
	err := settle.History(c.t.Context(), c.Client, c.account(proxy), 0, func(tx access.Transaction) error {
		if tx.In == nil || tx.In.Source != client || !tx.Success {
			return nil
		}
		_, m, err := bindings.DecodeMessage(tx.In.Body)
		if r, ok := m.(*bindings.ClientRequest); err == nil && ok && r.Payload != nil && r.Payload.Kind == bindings.PayloadTopUp {
			sum += int64(r.Payload.Amount)
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return sum
}

// even holds settled books against the contracts on chain, those of earlier
// terms too, and against what people were paid.
func (n *network) even(c chain, s status) {
	t := n.t
	t.Helper()
	var charged, earned, kept int64
	keptOf := map[cocoon.Address]int64{} // by proxy contract
	all := n.channels()
	for _, p := range all.Processes {
		for _, ch := range p.Channels {
			switch ch.Kind {
			case "client":
				on := c.client(ch.Contract)
				cost := int64(on.Tokens) * int64(on.Params.PricePerToken)
				if ch.Settled != cost || ch.Balance != int64(on.Balance) || ch.State != on.State.String() {
					t.Errorf("client contract %v: shown %+v, on chain %+v", ch.Contract, ch, on)
				}
				// What was put in was charged, came back, or is still there.
				in, back := c.deposited(on.Proxy, ch.Contract), c.payouts(on.Proxy)[on.Owner]
				if in == 0 || in != cost+back+int64(on.Balance) {
					t.Errorf("client contract %v: %d nano were deposited, %d charged, %d came back, %d are left", ch.Contract, in, cost, back, on.Balance)
				}
				charged += cost
			case "worker":
				if acc := c.account(ch.Contract); !acc.Deployed() {
					if ch.Settled != 0 || ch.State != "not deployed" {
						t.Errorf("worker contract %v is not on chain: shown %+v", ch.Contract, ch)
					}
					continue
				}
				on := c.worker(ch.Contract)
				cost, fee := int64(on.Tokens)*int64(on.Params.PricePerToken), int64(on.Tokens)*int64(on.Params.WorkerFeePerToken)
				if ch.Settled != fee {
					t.Errorf("worker contract %v: shown %+v, on chain %+v", ch.Contract, ch, on)
				}
				if sum := c.payouts(on.Proxy)[on.Owner]; sum != fee {
					t.Errorf("worker contract %v is credited %d nano, its owner was paid %d", ch.Contract, fee, sum)
				}
				earned += fee
				kept += cost - fee
				keptOf[on.Proxy] += cost - fee
			}
		}
	}
	if earned == 0 || charged != s.Paid || earned != s.Earned || kept != s.Kept {
		t.Errorf("status %+v; by the contracts on chain clients were charged %d, workers earned %d, proxies kept %d", s, charged, earned, kept)
	}
	for _, p := range all.Processes {
		for _, ch := range p.Channels {
			if ch.Kind != "proxy" {
				continue
			}
			on := c.proxy(ch.Contract)
			if ch.Earnings != int64(on.Earnings) || ch.Stake != int64(on.Stake) || ch.State != on.State.String() {
				t.Errorf("proxy contract %v: shown %+v, on chain %+v", ch.Contract, ch, on)
			}
			// The last payout of a closed contract has the stake and the rest
			// of the gas in it.
			got := c.payouts(ch.Contract)[on.Owner] + int64(on.Earnings)
			if closed := on.State == bindings.Closed; !closed && got != keptOf[ch.Contract] || closed && got < keptOf[ch.Contract] {
				t.Errorf("proxy contract %v, %v: the owner has %d nano of it, %d were kept", ch.Contract, on.State, got, keptOf[ch.Contract])
			}
		}
	}
}

// deposits adds up what the client's open contracts hold, read by proof.
func (n *network) deposits(c chain) (sum int64) {
	n.t.Helper()
	for _, p := range n.channels().Processes {
		for _, ch := range p.Channels {
			if ch.Kind == "client" {
				sum += int64(c.client(ch.Contract).Balance)
			}
		}
	}
	return sum
}
