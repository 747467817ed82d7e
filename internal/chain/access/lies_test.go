//go:build !tee

package access

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/xssnick/tonutils-go/tl"
	"github.com/xssnick/tonutils-go/tlb"
	"github.com/xssnick/tonutils-go/ton"
	"github.com/xssnick/tonutils-go/tvm/cell"
)

// logBuffer is a log that tests can read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// on makes a twist of the answers of one type.
func on[T any](change func(T) tl.Serializable) twist {
	return func(_, answer tl.Serializable) tl.Serializable {
		if a, ok := answer.(T); ok {
			return change(a)
		}
		return answer
	}
}

// askState asks the chain's own server for an account in its newest block.
func askState(t *testing.T, chain *devnet.Chain, addr cocoon.Address) ton.AccountState {
	t.Helper()
	cfg := Config{GlobalConfig: chain.GlobalConfig()}
	_, servers, err := cfg.prepare()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Server: servers[0], cfg: &cfg}
	defer s.close()
	h := chain.Head()
	id := blockID{seqno: h.Seqno, root: h.RootHash, file: h.FileHash}
	a, err := ask[ton.AccountState](t.Context(), s, ton.GetAccountState{ID: id.ext(), Account: accountID(addr)})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestLies lets a server lie in every way we know: each lie ends in its own
// error that names the server, and beside an honest server the client goes on
// with the truth.
func TestLies(t *testing.T) {
	funded := cocoon.Address{Hash: [32]byte{7}}
	other := cocoon.Address{Hash: [32]byte{8}}
	const balance = 3_000_000_000
	chain := startChain(t, func(cfg *devnet.Config) {
		cfg.Balances = map[cocoon.Address]coins.Nano{funded: balance, other: 1}
	})
	good := honest(t, chain)
	// The faucet has a history of several transactions.
	for range 3 {
		if err := chain.Faucet(t.Context(), other, 1_000_000_000); err != nil {
			t.Fatal(err)
		}
	}

	account := func(ctx context.Context, c *Client) error {
		acc, err := c.Account(ctx, funded)
		if err == nil && (!acc.Exists || acc.Balance != balance) {
			t.Errorf("believed a lie: %+v", acc)
		}
		return err
	}
	history := func(ctx context.Context, c *Client) error {
		acc, err := c.Account(ctx, chain.FaucetAddress())
		if err != nil {
			return err
		}
		list, err := c.Transactions(ctx, acc, 0)
		if err == nil && len(list) < 3 {
			t.Errorf("believed a lie: %d transactions", len(list))
		}
		return err
	}
	method := func(ctx context.Context, c *Client) error {
		acc, err := c.Account(ctx, chain.FaucetAddress())
		if err != nil {
			return err
		}
		_, err = c.RunLocal(ctx, acc, "seqno")
		return err
	}
	// news asks until a new block is proven.
	news := func(ctx context.Context, c *Client) error {
		before := c.LastHead().Seqno
		for {
			if err := c.refresh(ctx); err != nil {
				return err
			}
			if b := c.LastHead(); b.Seqno > before {
				if h := chain.Head(); b.Seqno > h.Seqno {
					t.Errorf("believed in block %d, the head is %d", b.Seqno, h.Seqno)
				}
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
	}

	// A genuine answer about an account that does not exist.
	absent := askState(t, chain, cocoon.Address{Hash: [32]byte{9}})

	for _, lie := range []struct {
		name string
		do   func(context.Context, *Client) error
		want error
		lie  twist
	}{
		{"another balance", account, ErrForged, on(func(a ton.AccountState) tl.Serializable {
			var st tlb.AccountState
			if err := tlb.Parse(&st, a.State); err != nil {
				t.Error(err)
			}
			st.Balance = tlb.MustFromTON("1000000")
			forged, err := st.ToCell()
			if err != nil {
				t.Error(err)
			}
			a.State = forged
			return a
		})},
		{"no state", account, ErrForged, on(func(a ton.AccountState) tl.Serializable {
			a.State = nil
			return a
		})},
		{"absence of another account", account, ErrForged, on(func(a ton.AccountState) tl.Serializable {
			a.State, a.Proof = nil, absent.Proof
			return a
		})},
		{"absence by a proof that hides the account", account, ErrForged, on(func(a ton.AccountState) tl.Serializable {
			a.State = nil
			a.Proof = []*cell.Cell{a.Proof[0], hideAccounts(t, a.Proof[1])}
			return a
		})},
		{"older block", account, ErrForged, on(func(a ton.AccountState) tl.Serializable {
			return absent
		})},
		{"older block under the new id", account, ErrForged, on(func(a ton.AccountState) tl.Serializable {
			b := absent
			b.ID = a.ID
			return b
		})},
		{"no proof", account, ErrForged, on(func(a ton.AccountState) tl.Serializable {
			a.Proof, a.ShardProof = nil, nil
			return a
		})},
		{"answer of another type", account, ErrMalformed, on(func(a ton.AccountState) tl.Serializable {
			return ton.SendMessageStatus{Status: 1}
		})},
		{"error", account, ErrRefused, on(func(a ton.AccountState) tl.Serializable {
			return ton.LSError{Code: 500, Text: "no\nway\x00"}
		})},
		{"giant answer", account, ErrTooLarge, on(func(a ton.AccountState) tl.Serializable {
			return ton.BlockData{ID: a.ID, Payload: make([]byte, 1<<20)}
		})},
		{"silence", account, ErrStalled, on(func(a ton.AccountState) tl.Serializable {
			return nil
		})},
		{"left out transaction", history, ErrForged, on(func(l ton.TransactionList) tl.Serializable {
			roots, err := cell.FromBOCMultiRoot(l.Transactions)
			if err != nil {
				t.Error(err)
			}
			l.Transactions = cell.ToBOCWithOptions(append(roots[:1:1], roots[2:]...), cell.BOCSerializeOptions{})
			return l
		})},
		{"transactions of nobody", history, ErrForged, on(func(l ton.TransactionList) tl.Serializable {
			l.Transactions = nil
			return l
		})},
		{"configuration of nobody", method, ErrForged, on(func(c ton.ConfigAll) tl.Serializable {
			c.ConfigProof = c.StateProof
			return c
		})},
		{"block of nobody", news, ErrRefused, on(func(i ton.MasterchainInfo) tl.Serializable {
			i.Last.SeqNo += 1000
			return i
		})},
		{"block of a shard", news, ErrMalformed, on(func(i ton.MasterchainInfo) tl.Serializable {
			i.Last.Workchain = 0
			return i
		})},
		{"other network", news, ErrWrongNetwork, on(func(i ton.MasterchainInfo) tl.Serializable {
			i.Init.RootHash = bytes.Repeat([]byte{1}, 32)
			return i
		})},
		{"forged signature", news, ErrForged, on(func(p ton.PartialBlockProof) tl.Serializable {
			for _, s := range p.Steps {
				if f, ok := s.(ton.BlockLinkForward); ok {
					f.SignatureSet.(ton.SignatureSetOrdinary).Signatures[0].Signature[3] ^= 1
				}
			}
			return p
		})},
		{"no signature", news, ErrForged, on(func(p ton.PartialBlockProof) tl.Serializable {
			for i, s := range p.Steps {
				if f, ok := s.(ton.BlockLinkForward); ok {
					f.SignatureSet = ton.SignatureSetOrdinary{}
					p.Steps[i] = f
				}
			}
			return p
		})},
		{"no links", news, ErrForged, on(func(p ton.PartialBlockProof) tl.Serializable {
			p.Steps = nil
			return p
		})},
		{"garbled proof", news, ErrForged, on(func(p ton.PartialBlockProof) tl.Serializable {
			for i, s := range p.Steps {
				if f, ok := s.(ton.BlockLinkForward); ok {
					f.DestProof = f.DestProof[:len(f.DestProof)/2]
					p.Steps[i] = f
				}
			}
			return p
		})},
	} {
		t.Run(lie.name, func(t *testing.T) {
			t.Parallel()
			l := startLiar(t, chain, nil)
			var log logBuffer
			cfg := Config{
				GlobalConfig: chain.GlobalConfig(), Servers: []Server{l.Server},
				MaxAnswer: 512 << 10, Timeout: 5 * time.Second,
				Logger: slog.New(slog.NewTextHandler(&log, nil)),
			}
			alone := open(t, cfg)
			if lie.want == ErrStalled { // nothing is under way that reads it
				alone.cfg.Timeout = 100 * time.Millisecond
			}
			l.set(lie.lie)
			err := lie.do(t.Context(), alone)
			if !errors.Is(err, lie.want) {
				t.Fatalf("%v, want %v", err, lie.want)
			}
			var guilty *ServerError
			if !errors.As(err, &guilty) || guilty.Server != l.Address {
				t.Errorf("the error does not name the server: %v", err)
			}
			if !strings.Contains(log.String(), "left out") || !strings.Contains(log.String(), l.Address) {
				t.Errorf("the log does not say who was left out:\n%s", log.String())
			}

			cfg.Servers = []Server{l.Server, good}
			cfg.Timeout = 5 * time.Second
			if lie.want == ErrStalled {
				cfg.Timeout = 2 * time.Second
			}
			both := open(t, cfg)
			for range 3 {
				if err := lie.do(t.Context(), both); err != nil {
					t.Errorf("beside an honest server: %v", err)
				}
			}
		})
	}
}

// hideAccounts cuts the accounts out of a proof of a shard state.
func hideAccounts(t *testing.T, proof *cell.Cell) *cell.Cell {
	t.Helper()
	state := proof.MustPeekRef(0)
	b := cell.BeginCell()
	s := state.MustBeginParse()
	b.MustStoreSlice(s.MustLoadSlice(s.BitsLeft()), state.BitsSize())
	for i := range int(state.RefsNum()) {
		ref := state.MustPeekRef(i)
		// The accounts are the second reference of the state.
		if i == 1 {
			inner := cell.BeginCell()
			s := ref.MustBeginParse()
			inner.MustStoreSlice(s.MustLoadSlice(s.BitsLeft()), ref.BitsSize())
			for j := range int(ref.RefsNum()) {
				dict := ref.MustPeekRef(j)
				pruned, err := cell.CreatePrunedBranch(dict, 1, 0)
				if err != nil {
					t.Fatal(err)
				}
				inner.MustStoreRef(pruned)
			}
			ref = inner.EndCell()
		}
		b.MustStoreRef(ref)
	}
	out, err := cell.CreateMerkleProof(b.EndCell())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.MustPeekRef(0).Hash(0), state.Hash(0)) {
		t.Fatal("the test's proof is not one of the state")
	}
	return out
}
