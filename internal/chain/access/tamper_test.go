//go:build !tee

package access

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/ton"
)

// proofCase is a genuine answer and what is concluded from it.
type proofCase struct {
	name  string
	raw   []byte
	check func(answer tl.Serializable) (any, error)
}

// genuine collects one answer of each kind that is checked.
func genuine(t testing.TB) []proofCase {
	funded := cocoon.Address{Hash: [32]byte{7}}
	chain, err := devnet.Open(devnet.Config{Dir: t.TempDir(), Balances: map[cocoon.Address]coins.Nano{funded: 5}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := chain.Mine(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	cfg := Config{GlobalConfig: chain.GlobalConfig()}
	tr, servers, err := cfg.prepare()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Server: servers[0], cfg: &cfg}
	defer s.close()
	if err := chain.Faucet(ctx, cocoon.Address{Hash: [32]byte{1}}, 1e9); err != nil {
		t.Fatal(err)
	}
	top := chain.Head()
	head := header{id: blockID{seqno: top.Seqno, root: top.RootHash, file: top.FileHash}, time: top.Time, globalID: chain.GlobalID()}
	raw := func(query tl.Serializable) []byte {
		b, err := tl.Serialize(query, true)
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := s.connection(ctx)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := c.query(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	account := func(addr cocoon.Address) func(tl.Serializable) (any, error) {
		return func(answer tl.Serializable) (any, error) {
			a, err := typed[ton.AccountState](answer, nil)
			if err != nil {
				return nil, err
			}
			acc, err := checkAccount(head, addr, &a)
			acc.state = nil
			return acc, err
		}
	}
	links := func(from, to blockID) func(tl.Serializable) (any, error) {
		return func(answer tl.Serializable) (any, error) {
			p, err := typed[ton.PartialBlockProof](answer, nil)
			if err != nil {
				return nil, err
			}
			chain, err := checkLinks(from, p.Steps)
			if err != nil {
				return nil, err
			}
			if len(chain) == 0 || chain[len(chain)-1].id != to {
				return nil, fmt.Errorf("%d links end elsewhere", len(chain))
			}
			return chain[len(chain)-1], nil
		}
	}
	nobody := cocoon.Address{Hash: [32]byte{9}}
	state, err := parseAnswer(raw(ton.GetAccountState{ID: head.id.ext(), Account: accountID(chain.FaucetAddress())}))
	if err != nil {
		t.Fatal(err)
	}
	faucetState := state.(ton.AccountState)
	faucet, err := checkAccount(head, chain.FaucetAddress(), &faucetState)
	if err != nil {
		t.Fatal(err)
	}
	return []proofCase{
		{"account", raw(ton.GetAccountState{ID: head.id.ext(), Account: accountID(funded)}), account(funded)},
		{"absence", raw(ton.GetAccountState{ID: head.id.ext(), Account: accountID(nobody)}), account(nobody)},
		{"forward", raw(ton.GetBlockProof{Mode: 1, KnownBlock: tr.init.ext(), TargetBlock: head.id.ext()}), links(tr.init, head.id)},
		{"backward", raw(ton.GetBlockProof{Mode: 1, KnownBlock: head.id.ext(), TargetBlock: tr.init.ext()}), links(head.id, tr.init)},
		{"transactions", raw(ton.GetTransactions{Limit: 16, AccID: ptr(accountID(chain.FaucetAddress())), LT: int64(faucet.LastTxLT), TxHash: faucet.LastTxHash[:]}),
			func(answer tl.Serializable) (any, error) {
				l, err := typed[ton.TransactionList](answer, nil)
				if err != nil {
					return nil, err
				}
				return checkTransactions(chain.FaucetAddress(), faucet.LastTxLT, faucet.LastTxHash, l.Transactions)
			}},
		{"configuration", raw(ton.GetConfigAll{BlockID: head.id.ext()}), func(answer tl.Serializable) (any, error) {
			c, err := typed[ton.ConfigAll](answer, nil)
			if err != nil {
				return nil, err
			}
			root, err := checkConfig(head, &c)
			if err != nil {
				return nil, err
			}
			return root.HashKey(0), nil
		}},
	}
}

// conclude reads and checks an answer as the client does.
func (p *proofCase) conclude(raw []byte) (any, error) {
	answer, err := parseAnswer(raw)
	if err != nil {
		return nil, err
	}
	return guarded(func() (any, error) { return p.check(answer) })
}

// TestTampered flips bits all over genuine answers: what is then concluded, if
// anything, must be the truth.
func TestTampered(t *testing.T) {
	for _, p := range genuine(t) {
		want, err := p.conclude(p.raw)
		if err != nil {
			t.Errorf("%s: the genuine answer is refused: %v", p.name, err)
			continue
		}
		refused := 0
		step := max(1, len(p.raw)/700)
		for i := 0; i < len(p.raw); i += step {
			raw := append([]byte(nil), p.raw...)
			raw[i] ^= 1 << (i % 8)
			got, err := p.conclude(raw)
			if err != nil {
				refused++
			} else if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: byte %d changed: concluded %+v, the truth is %+v", p.name, i, got, want)
			}
		}
		if refused == 0 {
			t.Errorf("%s: no change was refused", p.name)
		}
		for _, cut := range []int{0, 1, 4, len(p.raw) / 2, len(p.raw) - 5} { // the last bytes may be padding
			if _, err := p.conclude(p.raw[:cut]); err == nil {
				t.Errorf("%s: cut to %d bytes and accepted", p.name, cut)
			}
		}
	}
}

// FuzzProof does what TestTampered does, wherever the fuzzer likes.
func FuzzProof(f *testing.F) {
	cases := genuine(f)
	want := make([]any, len(cases))
	for i, p := range cases {
		var err error
		if want[i], err = p.conclude(p.raw); err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), uint16(40), []byte{0xff})
		f.Add(uint8(i), uint16(300), []byte{1, 2, 3})
	}
	f.Fuzz(func(t *testing.T, kind uint8, at uint16, patch []byte) {
		p := cases[int(kind)%len(cases)]
		raw := append([]byte(nil), p.raw...)
		copy(raw[int(at)%len(raw):], patch)
		if got, err := p.conclude(raw); err == nil && !reflect.DeepEqual(got, want[int(kind)%len(cases)]) {
			t.Errorf("%s: concluded %+v", p.name, got)
		}
	})
}

// TestNumberIsProven changes only the number of a signed block, which no
// signature covers.
func TestNumberIsProven(t *testing.T) {
	for _, p := range genuine(t) {
		if p.name != "forward" {
			continue
		}
		answer, err := parseAnswer(p.raw)
		if err != nil {
			t.Fatal(err)
		}
		link := answer.(ton.PartialBlockProof).Steps[0].(ton.BlockLinkForward)
		from, err := masterID(link.From)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := checkForward(from, &link); err != nil {
			t.Fatal(err)
		}
		link.To.SeqNo += 1000
		if h, err := checkForward(from, &link); err == nil {
			t.Errorf("block %s is accepted", h.id)
		}
	}
}
