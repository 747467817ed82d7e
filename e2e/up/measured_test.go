package up_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// guest is a root folder in which the measured build runs as in its image.
type guest struct {
	t    *testing.T
	root string
}

func newGuest(t *testing.T) *guest {
	t.Helper()
	program(t)
	require(t, os.Getuid() == 0, "only root may change a process's root folder")
	path, err := measured()
	if err != nil {
		t.Fatal(err)
	}
	g := &guest{t, t.TempDir()}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	g.file("cocoon", string(b), 0o755)
	return g
}

func (g *guest) file(name, text string, mode os.FileMode) {
	g.t.Helper()
	path := filepath.Join(g.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		g.t.Fatal(err)
	}
}

func (g *guest) command(env []string, args ...string) (*exec.Cmd, *output, *output) {
	g.t.Helper()
	cmd := exec.Command("/cocoon", args...)
	var out, errs output
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.Env, cmd.Dir = append([]string{"HOME=/"}, env...), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: g.root}
	return cmd, &out, &errs
}

// fails runs a command that must end with one line.
func (g *guest) fails(env []string, args []string, say ...string) {
	g.t.Helper()
	cmd, out, errs := g.command(env, args...)
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	err := cmd.Run()
	require(g.t, !errors.Is(err, syscall.EPERM), "this machine does not allow chroot")
	if !errors.As(err, &exit) || exit.ExitCode() < 1 {
		g.t.Errorf("%v: %v, %q", args, err, errs)
		return
	}
	// Logs may come first; the last line says it.
	lines := strings.Split(strings.TrimSpace(errs.String()), "\n")
	last := lines[len(lines)-1]
	for _, part := range say {
		if !strings.HasPrefix(last, "cocoon: ") || !strings.Contains(last, part) || out.String() != "" {
			g.t.Errorf("%v: said %q, want %q; standard output %q", args, last, part, out)
		}
	}
}

// TestMeasuredBuild runs the build of the measured image in a root folder of
// its own: its checks come from the measured folder alone, and what only
// pretends is not in it.
func TestMeasuredBuild(t *testing.T) {
	g := newGuest(t)
	for _, text := range []string{"cocoon-demo-embed-1", "internal/tee/simulated.", "internal/chain/devnet.", "internal/engine/demo."} {
		b, err := os.ReadFile(filepath.Join(g.root, "cocoon"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b, []byte(text)) {
			t.Errorf("the measured build contains %q", text)
		}
	}
	g.fails(nil, []string{"up"}, `unknown command "up"`)
	g.fails(nil, []string{"devnet"}, `unknown command "devnet"`)
	g.file("etc/role.toml", "role = \"worker\"\n[measured]\nevidence = \"simulated\"\naccept = [\"simulated\"]\nengine = \"demo\"\n", 0o600)
	run := []string{"worker", "--config", "/etc/role.toml"}
	g.fails(nil, run, "measured configuration", "/spec/cocoon.toml", "no such file")

	addr := "0:" + strings.Repeat("01", 32)
	rootFile := fmt.Sprintf(`{"registered_proxies":[],"price_per_token":20,"worker_fee_per_token":19,"version":1,"params_version":1,"proxy_sc_code":"","worker_sc_code":"","client_sc_code":"","root_owner_address":%q}`, addr)
	g.file("spec/root.json", rootFile, 0o600)
	spec := func(lines string) {
		g.file("spec/cocoon.toml", fmt.Sprintf("global_id = 20482\nis_test = true\nroot_contract = %q\nroot_file = \"/spec/root.json\"\naccept = [\"tdx\"]\n%s", addr, lines), 0o600)
	}
	owner := "COCOON_RUNTIME_OWNER=" + addr
	for _, c := range []struct {
		name, spec string
		env        []string
		say        []string
	}{
		{"simulated platform", "evidence = \"simulated\"\nengine = \"http://127.0.0.1:8000\"\nmodel = \"m@1:0000000000000000000000000000000000000000000000000000000000000000\"\nmodel_path = \"/model\"\n", nil, []string{"measured.evidence", "no simulated platform"}},
		{"demo engine", "evidence = \"tdx\"\nengine = \"demo\"\n", nil, []string{"measured.engine", "no demo engine"}},
		{"engine outside the guest", "evidence = \"tdx\"\nengine = \"http://10.0.0.1:8000\"\nmodel = \"m@1:0\"\n", nil, []string{"measured.engine", "10.0.0.1", "loopback"}},
		{"engine by name", "evidence = \"tdx\"\nengine = \"http://localhost:8000\"\nmodel = \"m@1:0\"\n", nil, []string{"measured.engine", "localhost", "loopback"}},
		{"model that is not checked", "evidence = \"tdx\"\nengine = \"http://127.0.0.1:8000\"\nmodel = \"m@1:0\"\n", nil, []string{"measured.model_path", "missing"}},
		{"engine from outside", "evidence = \"tdx\"\n", []string{"COCOON_MEASURED_ENGINE=http://127.0.0.1:1"}, []string{"measured.engine", "missing"}},
		{"unknown key", "evidence = \"tdx\"\nacept = []\n", nil, []string{"/spec/cocoon.toml", `"acept"`}},
		{"not TOML", "evidence = ", nil, []string{"/spec/cocoon.toml"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec(c.spec)
			g := &guest{t, g.root}
			g.fails(append([]string{owner}, c.env...), run, c.say...)
		})
	}
}

// TestMeasuredRefusesSimulated lets a client of the measured build meet a
// simulated network: it must refuse every connection.
func TestMeasuredRefusesSimulated(t *testing.T) {
	g := newGuest(t)
	n := up(t, t.TempDir(), startEngine(t, &enginetest.StandIn{})...)
	workers, clients := n.setting(t, "listen_workers"), n.setting(t, "listen_clients")
	addr := "0:" + strings.Repeat("01", 32)
	g.file("spec/root.json", fmt.Sprintf(`{"registered_proxies":[{"seqno":1,"address":"%s %s"}],"price_per_token":20,"worker_fee_per_token":19,"version":1,"params_version":1,"proxy_sc_code":"","worker_sc_code":"","client_sc_code":"","root_owner_address":%q}`, workers, clients, addr), 0o600)
	g.file("spec/cocoon.toml", fmt.Sprintf("global_id = %s\nis_test = true\nroot_contract = %q\nroot_file = \"/spec/root.json\"\nevidence = \"none\"\naccept = [\"tdx\"]\n", n.setting(t, "global_id"), addr), 0o600)
	g.file("etc/client.toml", "role = \"client\"\n[runtime]\ndir = \"/state\"\nlisten = \"127.0.0.1:0\"\npow_difficulty = 8\nowner = \""+addr+"\"\n", 0o600)
	cmd, _, errs := g.command([]string{"COCOON_MEASURED_ACCEPT=simulated"}, "client", "--config", "/etc/client.toml")
	if err := cmd.Start(); err != nil {
		require(t, !errors.Is(err, syscall.EPERM), "this machine does not allow chroot")
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
		if t.Failed() {
			t.Logf("the measured client said:\n%s", errs)
		}
	}()
	eventually(t, "refusal of the proxy's evidence", func() bool {
		return strings.Contains(errs.String(), "evidence refused") && strings.Contains(errs.String(), "the policy does not trust")
	})
	select {
	case err := <-ended:
		ended <- err
		t.Errorf("the client ended: %v", err)
	default:
	}
	if strings.Contains(errs.String(), "connected to proxy") {
		t.Error("connected to a simulated proxy")
	}
}

// setting reads a line of the proxy's configuration.
func (n *network) setting(t *testing.T, key string) string {
	t.Helper()
	config, err := os.ReadFile(filepath.Join(n.dir, "proxy.toml"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(config)) {
		if k, value, _ := strings.Cut(strings.TrimSpace(line), " = "); k == key {
			return strings.Trim(value, `"`)
		}
	}
	t.Fatalf("no %s in the proxy's configuration", key)
	return ""
}
