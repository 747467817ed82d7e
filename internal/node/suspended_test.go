//go:build !tee

package node

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/money/channel"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/role/client"
)

// askOnce runs one call to its end and returns what the caller is told it
// cost.
func (n *testNet) askOnce() (tokens int64, err error) {
	a, err := n.client.Do(n.t.Context(), &api.Call{
		Path: "/v1/chat/completions", ContentType: "application/json", Model: n.model.Base(), MaxTokens: 100, Timeout: 10 * time.Second,
		Body: []byte(`{"model":"` + n.model.Base() + `","messages":[{"role":"user","content":"hello"}],"max_tokens":100}`),
	})
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		return 0, err
	}
	return a.Final().TotalTokens, nil
}

// TestProxyThatChargesWithoutRequest: a proxy whose books hold a charge that
// nobody asked for gets no more requests, also after a restart, until its entry
// is removed; the log and the status say how much and how to lift it.
func TestProxyThatChargesWithoutRequest(t *testing.T) {
	for level, name := range []string{"level 0", "level 1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := startNet(t, func(n *testNet) { n.level0 = level == 0 })
			n.startWorker(1, &enginetest.StandIn{Tokens: 5})
			n.waitWorkers(1)
			told := int64(0)
			ask := func() {
				t.Helper()
				tokens, err := n.askOnce()
				if err != nil {
					t.Fatal(err)
				}
				told += tokens
			}
			for range 5 {
				ask()
			}
			if got := n.used(); got != told || told == 0 {
				t.Fatalf("charged %d tokens, told %d", got, told)
			}
			const stolen = 100_000
			if err := n.book.Charge(t.Context(), testClientOwner, cocoon.Address{Hash: [32]byte{4, 1}}, cocoon.RequestID{66}, stolen, ""); err != nil {
				t.Fatal(err)
			}
			ask() // the payment message behind it names the new counter
			n.eventually("suspension", func() bool { return len(n.client.Stats().Suspended) == 1 })
			s := n.client.Stats().Suspended[0]
			if s.Unexplained != stolen || s.Named != told+stolen || s.Explained != told || s.Nano != stolen*20 || !strings.Contains(s.Remedy, s.ContractKey) || !strings.Contains(s.Remedy, "stays charged") {
				t.Errorf("suspension %+v, told %d", s, told)
			}
			n.eventually("end of the connection", func() bool { return !n.client.Ready() })

			// A restart changes nothing.
			n.stopRole()
			n.startClient()
			time.Sleep(300 * time.Millisecond) // several attempts to connect
			if n.client.Ready() || len(n.client.Stats().Suspended) != 1 {
				t.Fatal("a suspended proxy is used after a restart")
			}
			n.stopRole()

			// Lifted, it is used again, and the step is settled.
			path := filepath.Join(n.clientDir, "suspended.json")
			var all map[string]map[string]client.Suspension
			b, err := os.ReadFile(path)
			if err != nil || json.Unmarshal(b, &all) != nil {
				t.Fatal(err)
			}
			for _, m := range all {
				delete(m, s.ContractKey)
			}
			if b, err = json.Marshal(all); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			n.startClient()
			n.eventually("client", n.client.Ready)
			ask()
			time.Sleep(2 * testPatience) // longer than a counter may stay unexplained
			if got := n.client.Stats().Suspended; len(got) != 0 || !n.client.Ready() {
				t.Errorf("suspended again: %+v", got)
			}
		})
	}
}

// poorContracts are client contracts with a balance that some requests exceed.
type poorContracts struct {
	fakeContracts
	balance, stake coins.Nano
}

func (c poorContracts) Client(cocoon.Address) (channel.ClientContract, error) {
	return channel.ClientContract{Open: true, Balance: c.balance, Stake: c.stake, SecretHash: sha256.Sum256(nil)}, nil
}

// TestInsufficientBalance: a request that deposit or stake cannot pay for is
// refused before it costs anything, with an error that says so; a smaller one
// is served.
func TestInsufficientBalance(t *testing.T) {
	const enough = 10_000_000 * 20
	for name, poor := range map[string]poorContracts{"deposit": {balance: 100 * 20, stake: enough}, "stake": {balance: enough, stake: 100 * 20}, "neither": {}} {
		t.Run(name, func(t *testing.T) {
			n := startNet(t, func(n *testNet) { n.contracts = poor })
			n.startWorker(1, &enginetest.StandIn{Tokens: 5})
			n.waitWorkers(1)
			_, err := n.askOnce()
			var refusal *openai.Error
			if !errors.As(err, &refusal) || refusal.Status != 402 || refusal.Code != openai.CodeInsufficientBalance {
				t.Errorf("%v, want an insufficient balance", err)
			}
			if n.used() != 0 || len(n.client.Stats().Suspended) != 0 {
				t.Errorf("a refused request cost %d tokens", n.used())
			}
		})
	}
	n := startNet(t, func(n *testNet) { n.contracts = poorContracts{balance: enough, stake: enough} })
	n.startWorker(1, &enginetest.StandIn{Tokens: 5})
	n.waitWorkers(1)
	if tokens, err := n.askOnce(); err != nil || tokens == 0 {
		t.Errorf("with enough: %d tokens, %v", tokens, err)
	}
}

// TestSuspensionsFile: one network's are not another's, and a damaged file is
// refused.
func TestSuspensionsFile(t *testing.T) {
	dir := t.TempDir()
	s, err := openSuspensions(dir, [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Suspend([32]byte{7}, client.Suspension{Named: 10, Unexplained: 3}); err != nil {
		t.Fatal(err)
	}
	for network, want := range map[[32]byte]error{{1}: ErrSuspended, {2}: nil} {
		again, err := openSuspensions(dir, network)
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Check([32]byte{7}); !errors.Is(err, want) || want == nil && err != nil {
			t.Errorf("network %x: %v, want %v", network[:1], err, want)
		}
		if err := again.Check([32]byte{8}); err != nil {
			t.Errorf("another proxy: %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "suspended.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openSuspensions(dir, [32]byte{1}); err == nil || !strings.Contains(err.Error(), "suspended.json") {
		t.Errorf("damaged file: %v", err)
	}
}
