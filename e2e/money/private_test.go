package money_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine"
)

// TestPrivateNetwork types what docs/private-network.md says, each block in the
// folder of its machine, with addresses of this one: a chat is answered and
// paid by a chain, a proxy, a worker and a client that share nothing but the
// files that were copied.
func TestPrivateNetwork(t *testing.T) {
	t.Parallel() // it mostly waits
	bin := program(t)
	for _, tool := range []string{"bash", "awk", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("COCOON_REQUIRE") != "" {
				t.Fatalf("no %s, and COCOON_REQUIRE is set", tool)
			}
			t.Skipf("no %s, which the page uses", tool)
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "private-network.md"))
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	machines := map[string]string{"10.0.0.1": "chain", "10.0.0.2": "proxy", "10.0.0.3": "worker", "10.0.0.4": "client"}
	dir := func(machine string) string { return filepath.Join(base, machine) }
	tools := filepath.Join(base, "bin")
	for _, d := range []string{"chain", "proxy", "worker", "client", "bin"} {
		if err := os.Mkdir(filepath.Join(base, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(bin, filepath.Join(tools, "cocoon")); err != nil {
		t.Fatal(err)
	}
	// scp FILE... HOST:cocoon/ to the folder of the machine.
	scp := "#!/bin/bash\nset -e\nto=${!#}\ncase ${to%%:*} in\n"
	for ip, machine := range machines {
		scp += fmt.Sprintf("%s) to=%s;;\n", ip, dir(machine))
	}
	scp += "*) exit 1;;\nesac\ncp -p \"${@:1:$#-1}\" \"$to/\"\n"
	if err := os.WriteFile(filepath.Join(tools, "scp"), []byte(scp), 0o700); err != nil {
		t.Fatal(err)
	}
	// Every address of the page is one of this machine.
	ports := map[string]string{}
	text := regexp.MustCompile(`(10\.0\.0\.\d|127\.0\.0\.1):\d+`).ReplaceAllStringFunc(string(page), func(addr string) string {
		if ports[addr] == "" {
			port, err := engine.FreePort()
			if err != nil {
				t.Fatal(err)
			}
			ports[addr] = fmt.Sprintf("127.0.0.1:%d", port)
		}
		return ports[addr]
	})

	said := map[string]string{} // by machine, what its blocks printed
	blocks := regexp.MustCompile("(?ms)^```sh (\\w+)\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	long := regexp.MustCompile(`^cocoon (devnet|proxy|worker|client) --\S+ .*\n$`)
	running := 0
	for _, b := range blocks {
		machine, script := b[1], b[2]
		if long.MatchString(script) {
			p := start(t, dir(machine), strings.Fields(script)[1:]...)
			if machine == "chain" {
				p.ready(t)
			}
			running++
			continue
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		cmd.Dir, cmd.Env = dir(machine), append(environ(), "PATH="+tools+":"+os.Getenv("PATH"), "HOME="+dir(machine))
		timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		out, err := cmd.CombinedOutput()
		timer.Stop()
		if err != nil {
			t.Fatalf("on %s: %v\n%s\n%s", machine, err, script, out)
		}
		said[machine] += string(out)
	}
	if running != 4 {
		t.Fatalf("the page starts %d processes, want 4", running)
	}
	if !strings.Contains(said["client"], "Cocoon") {
		t.Errorf("no answer on the client's machine: %s", said["client"])
	}

	// What the chat cost was charged and paid, as the chain has it.
	var of = map[string]channels{}
	for _, machine := range []string{"client", "worker", "proxy"} {
		var shown channels
		must(t, dir(machine), &shown, "channel", "show", "--json", "--config", machine+".toml")
		of[machine] = shown
		if len(shown.Processes) != 1 || len(shown.Processes[0].Channels) != 1 {
			t.Fatalf("%s: %+v", machine, shown)
		}
	}
	c := openChain(t, dir("chain")+"/chain")
	client := c.client(of["client"].Processes[0].Channels[0].Contract)
	worker := c.worker(of["worker"].Processes[0].Channels[0].Contract)
	cost, fee := int64(client.Tokens)*int64(client.Params.PricePerToken), int64(worker.Tokens)*int64(worker.Params.WorkerFeePerToken)
	if cost == 0 || fee*20 != cost*19 || c.payouts(client.Proxy)[worker.Owner] != fee {
		t.Errorf("the client was charged %d nano, the worker is credited %d and was paid %d", cost, fee, c.payouts(client.Proxy)[worker.Owner])
	}
	proxy := c.proxy(client.Proxy)
	if kept := c.payouts(client.Proxy)[proxy.Owner] + int64(proxy.Earnings); kept != cost-fee {
		t.Errorf("the proxy kept %d nano of %d", kept, cost-fee)
	}
}
