//go:build !tee

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/contracts"
	"github.com/cocoon-network/cocoon/internal/chain/access"
	"github.com/cocoon-network/cocoon/internal/chain/bindings"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/registry"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// outcome is what a command left behind.
type outcome struct {
	code           int
	stdout, stderr string
}

// terminalOf runs commands with one state folder, as one person does.
type terminalOf struct {
	t   *testing.T
	dir string
}

func (x terminalOf) run(stdin string, args ...string) outcome {
	x.t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(x.t.Context(), time.Minute)
	defer cancel()
	code := Main(ctx, Env{Args: append(args, "--dir", x.dir), Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs})
	return outcome{code, out.String(), errs.String()}
}

// must runs a command that succeeds.
func (x terminalOf) must(args ...string) outcome {
	x.t.Helper()
	o := x.run("", args...)
	if o.code != exitOK {
		x.t.Fatalf("%v: exit code %d\n%s%s", args, o.code, o.stdout, o.stderr)
	}
	return o
}

// fails runs a command that fails and says what is wrong.
func (x terminalOf) fails(code int, say string, args ...string) {
	x.t.Helper()
	o := x.run("", args...)
	if o.code != code || !strings.Contains(o.stderr, say) || strings.Count(strings.TrimSpace(o.stderr), "\n") > 1 {
		x.t.Errorf("%v: exit code %d, want %d; said %q, want %q on a line", args, o.code, code, o.stderr, say)
	}
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if dec.More() {
		t.Errorf("more than one JSON object: %s", text)
	}
}

func startChain(t *testing.T) *devnet.Chain {
	t.Helper()
	chain, err := devnet.Open(devnet.Config{Dir: t.TempDir(), Idle: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- chain.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return chain
}

// TestWalletCommands makes a wallet, fills it, and spends from it.
func TestWalletCommands(t *testing.T) {
	t.Parallel()
	chain := startChain(t)
	key := filepath.Join(t.TempDir(), "wallet.key")
	config := chain.GlobalConfigPath()

	for _, kind := range []string{"v5r1", "v4r2", "node"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var all []outcome
			x := terminalOf{t, t.TempDir()}
			key := key + kind
			args := []string{"--key", key, "--kind", kind, "--ton-config", config}
			if kind == "node" {
				args = append(args, "--owner", chain.FaucetAddress().String())
			}
			with := func(command string, more ...string) []string {
				return append(append([]string{"wallet", command}, args...), more...)
			}
			var made, shown map[string]any
			o := x.must(with("create", "--json")...)
			all = append(all, o)
			decode(t, o.stdout, &made)
			info, err := os.Stat(key)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("key file: %v, %v", info, err)
			}
			if o := x.run("", with("create")...); o.code != exitFailed || !strings.Contains(o.stderr, "exists") {
				t.Errorf("an existing key is overwritten: %+v", o)
			}
			addr, err := cocoon.ParseAddress(made["address"].(string))
			if err != nil {
				t.Fatal(err)
			}
			for form, s := range map[string]string{"address_bounceable": addr.Friendly(true, false), "address_raw": addr.Raw(), "address_test": addr.Friendly(false, true)} {
				if made[form] != s {
					t.Errorf("%s is %v, want %s", form, made[form], s)
				}
			}
			if o := x.run("", with("send", "--to", chain.FaucetAddress().Raw(), "--amount", "1", "--yes")...); o.code != exitFailed || !strings.Contains(o.stderr, "holds nothing") {
				t.Errorf("an empty wallet sends: %+v", o)
			}
			if err := chain.Faucet(t.Context(), addr, 10*coins.PerCoin); err != nil {
				t.Fatal(err)
			}
			o = x.must(with("show", "--json")...)
			all = append(all, o)
			decode(t, o.stdout, &shown)
			if shown["address"] != made["address"] || shown["balance_nano"] != 10e9 || shown["deployed"] != false {
				t.Errorf("shown %v", shown)
			}

			to := cocoon.Address{Hash: [32]byte{42}}
			preview := x.run("", with("send", "--to", to.String(), "--amount", "1.5")...)
			all = append(all, preview)
			if preview.code != exitFailed || !strings.Contains(preview.stderr, "--yes") {
				t.Errorf("without --yes: %+v", preview)
			}
			for _, want := range []string{"1.5 GRAM", "fee", to.String(), addr.String()} {
				if !strings.Contains(preview.stdout, want) {
					t.Errorf("the preview does not say %q:\n%s", want, preview.stdout)
				}
			}
			o = x.must(with("send", "--to", to.String(), "--amount", "1.5", "--comment", "hello", "--yes", "--json")...)
			all = append(all, o)
			var sent struct {
				Amount coins.Nano `json:"amount_nano"`
				Fee    coins.Nano `json:"fee_nano"`
				Sent   *struct{ Seqno uint32 }
			}
			decode(t, o.stdout, &sent)
			if sent.Amount != 1_500_000_000 || sent.Fee == 0 || sent.Sent == nil || sent.Sent.Seqno != 0 {
				t.Errorf("sent %s", o.stdout)
			}
			o = x.must(with("show")...)
			all = append(all, o)
			if !strings.Contains(o.stdout, "deployed") || !strings.Contains(o.stdout, "proven in block") {
				t.Errorf("shown:\n%s", o.stdout)
			}
			secret, err := os.ReadFile(key)
			if err != nil {
				t.Fatal(err)
			}
			words := strings.Fields(strings.Split(string(secret), "\n")[1])
			for _, o := range all {
				if text := o.stdout + o.stderr; strings.Contains(text, strings.Join(words[:3], " ")) {
					t.Errorf("a key was printed:\n%s", text)
				}
			}
		})
	}
}

func TestWalletImport(t *testing.T) {
	x := terminalOf{t, t.TempDir()}
	dir := t.TempDir()
	// The test key of the reference's published set-up and its wallet's key.
	o := x.run("ml+7xELuOQtfp9q9mSWtHiSWx5aSBV6p3xCfwPmHOwY=\n", "wallet", "import", "--key", filepath.Join(dir, "a"), "--kind", "v4r2", "--json")
	if o.code != exitOK || !strings.Contains(strings.ToUpper(o.stdout), "559087582B7E5EA2B2B986C258E0067B806A59B154E955DECF00429610EAB095") {
		t.Errorf("%+v", o)
	}
	good := filepath.Join(dir, "good")
	x.must("wallet", "create", "--key", good)
	text, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(strings.Split(string(text), "\n")[1])
	words[6] = "cocoon"
	o = x.run(strings.Join(words, "\n"), "wallet", "import", "--key", filepath.Join(dir, "b"))
	if o.code != exitFailed || !strings.Contains(o.stderr, "word 7 of 24") || strings.Contains(o.stderr, words[0]) {
		t.Errorf("a wrong word: %+v", o)
	}
	if _, err := os.Stat(filepath.Join(dir, "b")); err == nil {
		t.Error("a file was written for a key that is none")
	}
	if err := os.Chmod(good, 0o644); err != nil {
		t.Fatal(err)
	}
	x.fails(exitFailed, "chmod 600", "wallet", "show", "--key", good)
	x.fails(exitUsage, "v5r1, v4r2 and node", "wallet", "show", "--key", good, "--kind", "v9")
	x.fails(exitUsage, "--owner", "wallet", "show", "--key", good, "--kind", "node")
	x.fails(exitUsage, "key", "wallet", "show")
	x.fails(exitUsage, `unknown command "steal"`, "wallet", "steal")
	x.fails(exitUsage, `unknown command "rot"`, "root", "rot")
	if o := x.must("wallet"); !strings.Contains(o.stdout, "create") || !strings.Contains(o.stdout, "send") {
		t.Errorf("wallet alone: %+v", o)
	}
	x.fails(exitFailed, "no such file", "wallet", "show", "--key", filepath.Join(dir, "none"))
}

// TestChainBadInput wants one clear error for each thing that can be wrong
// with a chain's configuration.
func TestChainBadInput(t *testing.T) {
	chain := startChain(t)
	x := terminalOf{t, t.TempDir()}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, err := os.ReadFile(chain.GlobalConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // a port nobody answers on
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().(*net.TCPAddr).Port
	l.Close()
	_, port, err := net.SplitHostPort(chain.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	unreachable := strings.Replace(text, `"port": `+port, `"port": `+strconv.Itoa(closed), 1)
	if unreachable == text {
		t.Fatal("the port was not found in the configuration")
	}
	root := cocoon.Address{Hash: [32]byte{5}}.String()
	show := func(config, root string) []string {
		return []string{"root", "show", "--root", root, "--ton-config", config}
	}
	x.fails(exitUsage, "--ton-config", "root", "show", "--root", root)
	x.fails(exitUsage, "--root", show(chain.GlobalConfigPath(), "EQ")...)
	x.fails(exitFailed, "no such file", show(filepath.Join(dir, "none"), root)...)
	x.fails(exitFailed, "not usable", show(write("text", "no configuration"), root)...)
	x.fails(exitFailed, "no init block", show(write("init", strings.Replace(text, "init_block", "other_block", 1)), root)...)
	x.fails(exitFailed, "cannot be reached", show(write("dead", unreachable), root)...)
	x.fails(exitFailed, "does not exist", show(chain.GlobalConfigPath(), root)...)
	x.fails(exitFailed, "not of a root", show(chain.GlobalConfigPath(), deployWallet(t, chain))...)
}

// deployWallet returns the address of a contract that is no root.
func deployWallet(t *testing.T, chain *devnet.Chain) string {
	t.Helper()
	client, w := openWallet(t, chain)
	defer client.Close()
	if _, err := w.Send(t.Context(), []wallet.Message{{To: chain.FaucetAddress(), Amount: 1, Mode: wallet.ModePayFees}}); err != nil {
		t.Fatal(err)
	}
	return w.Address().String()
}

func openWallet(t *testing.T, chain *devnet.Chain) (*access.Client, *wallet.Wallet) {
	t.Helper()
	client, err := access.Open(t.Context(), access.Config{GlobalConfig: chain.GlobalConfig()})
	if err != nil {
		t.Fatal(err)
	}
	w, err := wallet.Open(wallet.Config{Chain: client, Key: wallet.NewKey(), Dir: t.TempDir(), Contract: wallet.Contract{Kind: wallet.V5R1, GlobalID: chain.GlobalID()}})
	if err != nil {
		t.Fatal(errors.Join(err, client.Close()))
	}
	if err := chain.Faucet(t.Context(), w.Address(), 10*coins.PerCoin); err != nil {
		t.Fatal(errors.Join(err, client.Close()))
	}
	return client, w
}

// TestRootShow deploys a root and shows it.
func TestRootShow(t *testing.T) {
	chain := startChain(t)
	x := terminalOf{t, t.TempDir()}
	client, w := openWallet(t, chain)
	defer client.Close()
	data, err := bindings.EncodeRoot(&registry.Snapshot{
		Owner: w.Address(), ProxyImages: []attest.ImageHash{{0x11}}, ModelHashes: [][32]byte{{0x22}},
		Proxies:        []registry.Proxy{{Seqno: 1, ForWorkers: "10.0.0.1:11001", ForClients: "10.0.0.1:11002"}},
		LastProxySeqno: 1,
		Params: registry.Params{
			StructVersion: 3, ParamsVersion: 7, UniqueID: 9, IsTest: true, PricePerToken: 20, WorkerFeePerToken: 19,
			ProxyDelayBeforeClose: 600, ClientDelayBeforeClose: 300, MinProxyStake: coins.PerCoin, MinClientStake: 2 * coins.PerCoin,
			ProxyCode: contracts.Proxy(), WorkerCode: contracts.Worker(), ClientCode: contracts.Client(),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	deploy, err := wallet.Deploy(contracts.Root(), data, coins.PerCoin)
	if err != nil {
		t.Fatal(err)
	}
	deploy.Mode = wallet.ModePayFees
	if _, err := w.Send(t.Context(), []wallet.Message{deploy}); err != nil {
		t.Fatal(err)
	}
	for {
		acc, err := client.Account(t.Context(), deploy.To)
		if err != nil {
			t.Fatal(err)
		}
		if acc.Deployed() {
			break
		}
		if _, err := client.Next(t.Context(), acc.Block.Seqno); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"root", "show", "--root", deploy.To.Friendly(true, false), "--ton-config", chain.GlobalConfigPath()}
	var info rootInfo
	decode(t, x.must(append(args, "--json")...).stdout, &info)
	if info.Root != deploy.To || info.Owner != w.Address() || info.GlobalID != chain.GlobalID() || info.Block == 0 ||
		info.Params.PricePerTokenNano != 20 || info.Params.Version != 7 || !info.Params.IsTest || len(info.ProxyImages) != 1 ||
		len(info.WorkerImages) != 0 || len(info.Proxies) != 1 || info.Proxies[0].ForClients != "10.0.0.1:11002" || len(info.NetworkID) != 64 {
		t.Errorf("%+v", info)
	}
	// A network on this machine is found by its folder.
	config, err := os.ReadFile(chain.GlobalConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(x.dir, "devnet"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(devnet.GlobalConfigPath(filepath.Join(x.dir, "devnet")), config, 0o600); err != nil {
		t.Fatal(err)
	}
	text := x.must(args[:4]...).stdout
	for _, want := range []string{"20 nano a token", "test network", "10.0.0.1:11002", "proven", "proxy images: 1", "1100000000"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text does not say %q:\n%s", want, text)
		}
	}
}

// The wallet that is shown is the one that would send: that of the network in
// --dir, unless another network's id is asked for.
func TestWalletShowsWhatSends(t *testing.T) {
	chain := startChain(t)
	b, err := os.ReadFile(chain.GlobalConfigPath())
	if err != nil {
		t.Fatal(err)
	}
	x := terminalOf{t, t.TempDir()}
	if err := os.Mkdir(filepath.Join(x.dir, "devnet"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(x.dir, "devnet", "global.config.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(x.dir, "w.key")
	x.must("wallet", "create", "--key", key)
	for _, tt := range []struct {
		args   []string
		id     float64
		proven bool
	}{
		{nil, float64(devnet.DefaultGlobalID), true},
		{[]string{"--global-id", "-239"}, -239, false},
	} {
		var shown map[string]any
		o := x.must(append([]string{"wallet", "show", "--key", key, "--json"}, tt.args...)...)
		decode(t, o.stdout, &shown)
		if _, proven := shown["balance_nano"]; shown["global_id"] != tt.id || proven != tt.proven {
			t.Errorf("%v: %s, want global id %v, balance proven %v", tt.args, o.stdout, tt.id, tt.proven)
		}
		if strings.Contains(o.stderr, "SIMULATED") != tt.proven {
			t.Errorf("%v says %q", tt.args, o.stderr)
		}
	}
}
