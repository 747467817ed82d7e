//go:build !tee

package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/contracts"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/money/coins"
	"github.com/cocoon-network/cocoon/internal/node"
)

// TestRootCommands begins a network and changes everything about it.
func TestRootCommands(t *testing.T) {
	t.Parallel()
	chain := startChain(t)
	x := terminalOf{t, t.TempDir()}
	config := chain.GlobalConfigPath()
	owner := func(name string) (key string, addr cocoon.Address) {
		// Not as words, which cost each command a tenth of a second.
		key = filepath.Join(t.TempDir(), name+".key")
		seed := sha256.Sum256([]byte(name))
		if err := os.WriteFile(key, []byte(hex.EncodeToString(seed[:])), 0o600); err != nil {
			t.Fatal(err)
		}
		var made struct{ Address cocoon.Address }
		decode(t, x.must("wallet", "show", "--key", key, "--ton-config", config, "--json").stdout, &made)
		if err := chain.Faucet(t.Context(), made.Address, 50*coins.PerCoin); err != nil {
			t.Fatal(err)
		}
		return key, made.Address
	}
	key, addr := owner("owner")
	other, otherAddr := owner("other")

	deploy := []string{"root", "deploy", "--wallet", key, "--ton-config", config, "--proxy-delay", "10m", "--client-delay", "5m", "--min-proxy-stake", "1", "--min-client-stake", "1"}
	x.fails(exitUsage, "above the price", append(deploy, "--price", "10nano", "--worker-fee", "11nano", "--yes")...)
	x.fails(exitUsage, "has to be done before", append(deploy, "--client-delay", "10m", "--yes")...)
	if o := x.run("", deploy...); o.code == exitOK || !strings.Contains(o.stdout, "fee     about") || !strings.Contains(o.stdout, "amount  1") || !strings.Contains(o.stderr, "--yes") {
		t.Errorf("a deployment without --yes: %+v", o)
	}
	var shown shownRoot
	decode(t, x.must(append(deploy, "--yes", "--json")...).stdout, &shown)
	if !shown.Done || shown.Wallet != addr || shown.ParamsVersion != 1 || shown.Carried != coins.PerCoin {
		t.Fatalf("%+v", shown)
	}
	root := shown.Root
	// Again is nothing to do, but the same address.
	if o := x.must(append(deploy, "--yes")...); !strings.Contains(o.stdout, root.String()) {
		t.Errorf("a second deployment: %s", o.stdout)
	}
	state := func() (info rootInfo) {
		t.Helper()
		decode(t, x.must("root", "show", "--root", root.String(), "--ton-config", config, "--json").stdout, &info)
		return info
	}
	if s := state(); s.Owner != addr || !s.Params.IsTest || s.Params.PricePerTokenNano != 20 || s.Params.ProxyDelayBeforeClose != 600 || len(s.Proxies)+len(s.ModelHashes) != 0 {
		t.Errorf("%+v", s)
	}

	with := func(args ...string) []string {
		return append(append([]string{"root"}, args...), "--wallet", key, "--ton-config", config, "--root", root.String())
	}
	hash := strings.Repeat("a1", 32)
	const model = "some/model@0123:abcd"
	file := func(name string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	p := node.RootParams()
	p.ParamsVersion, p.ProxyCode, p.WorkerCode, p.ClientCode = 77, contracts.Proxy(), contracts.Worker(), contracts.Client()
	data, err := bindings.EncodeRoot(&registry.Snapshot{Owner: addr, Version: 500, Params: p})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want func(rootInfo) bool
		// always says that doing it again is no less of a change.
		always bool
	}{
		{args: []string{"add-image", "proxy", hash}, want: func(s rootInfo) bool { return slices.Equal(s.ProxyImages, []string{hash}) }},
		{args: []string{"add-image", "worker", hash}, want: func(s rootInfo) bool { return slices.Equal(s.WorkerImages, []string{hash}) }},
		{args: []string{"add-model", model}, want: func(s rootInfo) bool {
			return slices.Equal(s.ModelHashes, hexList([][32]byte{sha256.Sum256([]byte(model))}))
		}},
		{args: []string{"add-proxy", "--for-workers", "10.0.0.1:1", "--for-clients", "10.0.0.1:2"}, want: func(s rootInfo) bool {
			return slices.Equal(s.Proxies, []rootProxy{{1, "10.0.0.1:1", "10.0.0.1:2"}})
		}},
		{args: []string{"update-proxy", "1", "--for-workers", "10.0.0.2:1", "--for-clients", "10.0.0.2:1"}, want: func(s rootInfo) bool {
			return slices.Equal(s.Proxies, []rootProxy{{1, "10.0.0.2:1", "10.0.0.2:1"}})
		}},
		{args: []string{"set-prices", "--price", "30nano", "--worker-fee", "28nano"}, want: func(s rootInfo) bool {
			return s.Params.PricePerTokenNano == 30 && s.Params.WorkerFeePerTokenNano == 28 && s.Params.Version == 2
		}},
		{args: []string{"set-params", "--proxy-delay", "20s", "--client-delay", "10s", "--min-client-stake", "0.5"}, want: func(s rootInfo) bool {
			return s.Params.PricePerTokenNano == 30 && s.Params.ProxyDelayBeforeClose == 20 && s.Params.ClientDelayBeforeClose == 10 &&
				s.Params.MinClientStakeNano == coins.PerCoin/2 && s.Params.MinProxyStakeNano == coins.PerCoin && s.Params.Version == 3
		}},
		{args: []string{"set-multipliers", "--completion-multiplier", "6.5", "--cached-multiplier", "0"}, want: func(s rootInfo) bool {
			return s.Params.CompletionMultiplier == 65000 && s.Params.CachedMultiplier == 0 && s.Params.PromptMultiplier == 10000 && s.Params.ReasoningMultiplier == 80000 &&
				s.Params.Version == 4 && s.Params.PricePerTokenNano == 30 && len(s.Proxies) == 1 && len(s.WorkerImages) == 1 && s.Owner == addr
		}},
		{args: []string{"set-codes", "--client-code", file("client", contracts.Worker())}, want: func(s rootInfo) bool { return s.Params.Version == 5 }},
		{args: []string{"remove-image", "proxy", hash}, want: func(s rootInfo) bool { return len(s.ProxyImages) == 0 && len(s.WorkerImages) == 1 }},
		{args: []string{"remove-image", "worker", hash}, want: func(s rootInfo) bool { return len(s.WorkerImages) == 0 }},
		{args: []string{"remove-model", model}, want: func(s rootInfo) bool { return len(s.ModelHashes) == 0 }},
		{args: []string{"remove-proxy", "1"}, want: func(s rootInfo) bool { return len(s.Proxies) == 0 }},
		{args: []string{"add-model", hash}, want: func(s rootInfo) bool { return slices.Equal(s.ModelHashes, []string{hash}) }},
		{args: []string{"reset"}, want: func(s rootInfo) bool { return len(s.ModelHashes) == 0 }},
		{args: []string{"set-code"}, want: func(s rootInfo) bool { return s.Owner == addr }, always: true},
		{args: []string{"set-state", "--data", file("data", data)}, want: func(s rootInfo) bool { return s.Version == 500 && s.Params.Version == 77 }, always: true},
	} {
		var done shownRoot
		decode(t, x.must(with(append(c.args, "--yes", "--json")...)...).stdout, &done)
		s := state()
		if !done.Done || len(done.Transaction) != 64 || !c.want(s) || done.ParamsVersion != s.Params.Version {
			t.Errorf("%v: %+v, then %+v", c.args, done, s)
		}
		if c.always || c.args[0] == "remove-proxy" || c.args[0] == "set-codes" {
			continue
		}
		if o := x.must(with(append(c.args, "--yes")...)...); !strings.Contains(o.stdout, "nothing to do") {
			t.Errorf("%v again: %s", c.args, o.stdout)
		}
	}

	// What cannot be is refused before anything is sent.
	before := state().Version
	for say, args := range map[string][]string{
		"above the price":         {"set-prices", "--worker-fee", "21nano"},
		"has to be done before":   {"set-params", "--client-delay", "24h"},
		"whole seconds":           {"set-params", "--client-delay", "1500ms"},
		"at least one value":      {"set-params"},
		"64 hex digits":           {"add-image", "worker", "abc"},
		"of a proxy or a worker":  {"add-image", "client", hash},
		"not a full model name":   {"add-model", "llama"},
		"not an IPv4 address":     {"add-proxy", "--for-workers", "proxy.example:1"},
		"is not a proxy's number": {"remove-proxy", "one"},
		"it goes as in":           {"set-owner"},
	} {
		x.fails(exitUsage, say, with(append(args, "--yes")...)...)
	}
	x.fails(exitUsage, "as --completion-multiplier 8", with("set-multipliers", "--yes")...)
	x.fails(exitUsage, "is not a multiplier from 0 to 429496.7295", with("set-multipliers", "--prompt-multiplier", "429496.7296", "--yes")...)
	x.fails(exitFailed, "nobody would take an older state", with("set-state", "--data", file("same", data), "--yes")...)
	x.fails(exitFailed, "no proxy 9 is registered", with("remove-proxy", "9", "--yes")...)
	x.fails(exitFailed, "root data", with("set-state", "--data", file("junk", contracts.Worker()), "--yes")...)
	p.WorkerFeePerToken = p.PricePerToken + 1
	if data, err = bindings.EncodeRoot(&registry.Snapshot{Owner: addr, Params: p}); err != nil {
		t.Fatal(err)
	}
	x.fails(exitFailed, "above the price", with("set-state", "--data", file("senseless", data), "--yes")...)
	x.fails(exitUsage, "--wallet", "root", "reset", "--root", root.String(), "--ton-config", config, "--yes")
	x.fails(exitUsage, "--root", "root", "reset", "--wallet", key, "--ton-config", config, "--yes")
	x.fails(exitFailed, "is owned by", "root", "reset", "--wallet", other, "--root", root.String(), "--ton-config", config, "--yes")
	if o := x.run("", with("add-model", hash)...); o.code != exitUsage || !strings.Contains(o.stdout, "allow the model") || !strings.Contains(o.stderr, "nothing was sent") {
		t.Errorf("without --yes: %+v", o)
	}
	if now := state().Version; now != before {
		t.Errorf("version %d became %d by what was refused", before, now)
	}

	// The owner changes; what the root contract refuses says so.
	x.must(with("set-owner", otherAddr.String(), "--yes")...)
	if s := state(); s.Owner != otherAddr {
		t.Errorf("owner %v, want %v", s.Owner, otherAddr)
	}
	x.fails(exitFailed, "is owned by", with("add-model", hash, "--yes")...)
}

func TestParseWeight(t *testing.T) {
	for text, want := range map[string]uint32{"0": 0, "1": 10000, "0.1": 1000, "6.5": 65000, "0.0001": 1, "8.": 80000, "429496.7295": 1<<32 - 1} {
		if got, err := parseWeight(text); err != nil || got != want {
			t.Errorf("%q is %d, %v, want %d", text, got, err, want)
		}
		if back, err := parseWeight(weight(want)); err != nil || back != want {
			t.Errorf("%d reads as %d, %v", want, back, err)
		}
	}
	for _, text := range []string{"", ".5", "-1", "1e3", "0.00001", "429496.7296", "x", "1.2.3", "+1", "99999999999999999999"} {
		if got, err := parseWeight(text); err == nil {
			t.Errorf("%q is %d", text, got)
		}
	}
}

// TestWithMultipliers: data that this program would not write again as it is
// is not rewritten.
func TestWithMultipliers(t *testing.T) {
	p := node.RootParams()
	p.ProxyCode, p.WorkerCode, p.ClientCode = contracts.Proxy(), contracts.Worker(), contracts.Client()
	s := &registry.Snapshot{Owner: cocoon.Address{Hash: [32]byte{7}}, Version: 5, LastProxySeqno: 9, Params: p}
	rewrite := func(change func(*registry.Snapshot)) (*registry.Snapshot, error) {
		t.Helper()
		s := *s
		change(&s)
		data, err := bindings.EncodeRoot(&s)
		if err != nil {
			t.Fatal(err)
		}
		m := p.Multipliers
		m.Reasoning = 7
		if data, err = withMultipliers(s.Root, data, m); err != nil {
			return nil, err
		}
		return bindings.DecodeRoot(s.Root, data)
	}
	got, err := rewrite(func(*registry.Snapshot) {})
	if err != nil || got.Version != 6 || got.Params.ParamsVersion != 2 || got.Params.Multipliers.Reasoning != 7 || got.Params.Multipliers.Prompt != 10000 || got.LastProxySeqno != 9 || got.Owner != s.Owner {
		t.Errorf("%+v, %v", got, err)
	}
	for say, change := range map[string]func(*registry.Snapshot){
		"cannot read and would lose": func(s *registry.Snapshot) {
			s.Proxies = []registry.Proxy{{Seqno: 1, ForWorkers: "proxy.example:1", ForClients: "proxy.example:1"}}
		},
		"struct version 2":           func(s *registry.Snapshot) { s.Params.StructVersion = 2 },
		"run out of version numbers": func(s *registry.Snapshot) { s.Version = 1<<32 - 1 },
	} {
		if got, err := rewrite(change); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%+v, %v; want %q", got, err, say)
		}
	}
}

// TestRootRefuses: a message that the root contract does not take is an error
// that says why.
func TestRootRefuses(t *testing.T) {
	chain := startChain(t)
	client, w := openWallet(t, chain)
	defer client.Close()
	o := &node.RootOwner{Chain: client, Wallet: w}
	deploy, err := node.RootDeployment(cocoon.Address{Hash: [32]byte{7}}, node.RootParams())
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Deploy(t.Context(), deploy); err != nil {
		t.Fatal(err)
	}
	m, err := o.Message(deploy.To, bindings.ResetRoot{})
	if err != nil {
		t.Fatal(err)
	}
	var tx access.Transaction
	if tx, err = o.Send(t.Context(), m); !errors.Is(err, node.ErrRootRefused) || !strings.Contains(err.Error(), "not the owner") || tx.ExitCode != 1010 {
		t.Errorf("%+v, %v", tx, err)
	}
}
