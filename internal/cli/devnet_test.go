//go:build !tee

package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon"
)

// devnetApp is a run of the program whose only command is devnet.
func devnetApp(dir string, stdout, stderr io.Writer) *app {
	return &app{dir: dir, env: Env{Stdout: stdout, Stderr: stderr, Stdin: strings.NewReader("")}}
}

func TestDevnetCommand(t *testing.T) {
	dir := t.TempDir()
	to := cocoon.Address{Hash: [32]byte{1, 2, 3}}
	out, in := io.Pipe()
	var stderr bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := devnetApp(dir, in, &stderr).devnetCommand()
	cmd.SetArgs([]string{"--http", "127.0.0.1:0", "--fund", to.String() + "=2.5"})
	done := make(chan error, 1)
	go func() { done <- cmd.ExecuteContext(ctx); in.Close() }()

	said := map[string]string{}
	for s := bufio.NewScanner(out); said["http"] == "" && s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), " ")
		said[name] = value
	}
	if said["ready"] == "" || said["config"] == "" || said["faucet"] == "" || said["http"] == "" {
		t.Fatalf("printed %v; errors: %s", said, &stderr)
	}

	var paid bytes.Buffer
	pay := devnetApp(dir, &paid, io.Discard).devnetCommand()
	pay.SetArgs([]string{"faucet", to.String(), "1"})
	if err := pay.ExecuteContext(ctx); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(paid.String(), "paid 1 GRAM to "+to.String()) {
		t.Errorf("faucet printed %q", paid.String())
	}

	resp, err := http.Get(said["http"] + "getAddressBalance?address=" + to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Result string }
	// Rent may have been taken in a second that passed meanwhile.
	err = json.NewDecoder(resp.Body).Decode(&answer)
	if balance, perr := strconv.ParseInt(answer.Result, 10, 64); err != nil || perr != nil || balance > 3_500_000_000 || balance < 3_499_990_000 {
		t.Errorf("balance %q, %v", answer.Result, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
	if !strings.Contains(stderr.String(), "SIMULATED") {
		t.Errorf("nothing said SIMULATED: %s", &stderr)
	}
}

func TestDevnetCommandRefuses(t *testing.T) {
	for name, args := range map[string][]string{
		"mainnet's id":              {"--global-id", "-239"},
		"a payment without address": {"--fund", "5"},
		"an amount without sense":   {"--fund", cocoon.Address{}.String() + "=lots"},
		"a faucet without chain":    {"faucet", cocoon.Address{}.String(), "1"},
		"a front without address":   {"--http-for", "global.config.json"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := devnetApp(t.TempDir(), io.Discard, io.Discard).devnetCommand()
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetArgs(args)
			if err := cmd.ExecuteContext(t.Context()); err == nil {
				t.Error("it ran")
			}
		})
	}
}
