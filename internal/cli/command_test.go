package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
)

// said is what one run of the program left behind.
type said struct {
	code           int
	stdout, stderr string
}

// shell runs the program in a folder of its own, with an environment of its
// own.
type shell struct {
	t     *testing.T
	dir   string
	stdin string
	env   []string
}

func newShell(t *testing.T) *shell {
	dir := t.TempDir()
	return &shell{t: t, dir: dir, env: []string{"HOME=" + dir}}
}

func (s *shell) run(args ...string) said {
	s.t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	code := Main(ctx, Env{Args: args, Stdin: strings.NewReader(s.stdin), Stdout: &out, Stderr: &errs, Environ: s.env})
	if ctx.Err() != nil {
		s.t.Errorf("cocoon %s: did not end within a minute", strings.Join(args, " "))
	}
	return said{code, out.String(), errs.String()}
}

// file writes a file into the shell's folder and returns its path.
func (s *shell) file(name, text string, mode os.FileMode) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		s.t.Fatal(err)
	}
	return path
}

// fails holds a failed run to its form: nothing on standard output, one line
// on standard error that says what is wrong and how to mend it.
func (s *shell) fails(got said, code int, say ...string) {
	s.t.Helper()
	if got.code != code {
		s.t.Errorf("exit code %d, want %d; said %q", got.code, code, got.stderr)
	}
	if got.stdout != "" {
		s.t.Errorf("standard output of a failed command: %q", got.stdout)
	}
	line, ended := strings.CutSuffix(got.stderr, "\n")
	if !ended || strings.Contains(line, "\n") || !strings.HasPrefix(line, "cocoon: ") {
		s.t.Errorf("not one line that begins with cocoon: %q", got.stderr)
	}
	for _, bad := range []string{"  ", "%!", "<nil>", "panic", "goroutine"} {
		if strings.Contains(line, bad) {
			s.t.Errorf("%q has %q in it", line, bad)
		}
	}
	for _, part := range say {
		if !strings.Contains(line, part) {
			s.t.Errorf("said %q, want %q in it", line, part)
		}
	}
}

// tree is every command that can be run, with its path.
func tree(t *testing.T) map[string]*cobra.Command {
	t.Helper()
	all := map[string]*cobra.Command{}
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "help" || c.Name() == "completion" {
			return
		}
		if c.Runnable() {
			all[c.CommandPath()] = c
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk((&app{env: Env{Stdout: io.Discard, Stderr: io.Discard}}).root())
	if len(all) < 7 {
		t.Fatalf("only %d commands were found", len(all))
	}
	return all
}

// TestEveryCommandHasHelp: each command explains itself with an example, and
// the examples name only commands and flags that exist.
func TestEveryCommandHasHelp(t *testing.T) {
	for path, cmd := range tree(t) {
		t.Run(path, func(t *testing.T) {
			s := newShell(t)
			got := s.run(append(strings.Fields(path)[1:], "--help")...)
			if got.code != exitOK || got.stderr != "" {
				t.Fatalf("exit code %d, said %q", got.code, got.stderr)
			}
			for _, part := range []string{"Usage:", "Examples:", path, cmd.Short} {
				if part == cmd.Short && cmd.Long != "" {
					part = cmd.Long
				}
				if !strings.Contains(got.stdout, part) {
					t.Errorf("the help has no %q:\n%s", part, got.stdout)
				}
			}
			for _, text := range []string{cmd.Short, cmd.Long, cmd.Example} {
				if strings.ToValidUTF8(text, "") != text || strings.Contains(text, "\t") {
					t.Errorf("odd text %q", text)
				}
			}
			lines := 0
			for line := range strings.Lines(strings.ReplaceAll(cmd.Example, "\\\n", " ")) {
				for part := range strings.SplitSeq(line, "|") {
					words := strings.Fields(part)
					if len(words) == 0 || words[0] != "cocoon" {
						continue
					}
					lines++
					checkExample(t, words[1:])
				}
			}
			if lines == 0 {
				t.Errorf("no line of the example runs cocoon: %q", cmd.Example)
			}
		})
	}
}

// checkExample holds an example's words against the commands that exist.
func checkExample(t *testing.T, words []string) {
	t.Helper()
	for i, w := range words {
		if w == "<" || w == ">" {
			words = words[:i]
			break
		}
	}
	root := (&app{env: Env{Stdout: io.Discard, Stderr: io.Discard}}).root()
	cmd, _, err := root.Find(words)
	if err != nil || !cmd.Runnable() {
		t.Errorf("the example %q runs no command: %v", words, err)
		return
	}
	for _, w := range words {
		name, flag := strings.CutPrefix(w, "--")
		name, _, _ = strings.Cut(name, "=")
		if flag && cmd.Flags().Lookup(name) == nil && root.PersistentFlags().Lookup(name) == nil {
			t.Errorf("the example %q has the flag --%s, which does not exist", words, name)
		}
	}
}

// TestMistakes: wrong calls end with exit code 2 and a hint at the right help.
func TestMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		say  []string
	}{
		{[]string{"frobnicate"}, exitUsage, []string{`unknown command "frobnicate"`, "`cocoon --help`"}},
		{[]string{"chatt"}, exitUsage, []string{`unknown command "chatt"`, "chat", "`cocoon --help`"}},
		{[]string{"--frob"}, exitUsage, []string{"unknown flag: --frob", "`cocoon --help`"}},
		{[]string{"status", "--frob"}, exitUsage, []string{"unknown flag: --frob", "`cocoon status --help`"}},
		{[]string{"status", "extra"}, exitUsage, []string{`unexpected argument "extra"`, "`cocoon status --help`"}},
		{[]string{"version", "extra"}, exitUsage, []string{`unexpected argument "extra"`, "`cocoon version --help`"}},
		{[]string{"chat", "two", "prompts"}, exitUsage, []string{"more than one PROMPT", "quotes", "`cocoon chat --help`"}},
		{[]string{"chat", "--max-tokens", "many", "hi"}, exitUsage, []string{`"many"`, "--max-tokens", "`cocoon chat --help`"}},
		{[]string{"chat", "--dir"}, exitUsage, []string{"--dir", "`cocoon chat --help`"}},
		{[]string{"chat", "hi", "--url", "::"}, exitUsage, []string{`"::"`, "--url", "http://127.0.0.1:10000/v1"}},
		{[]string{"models", "--url", "ftp://example.com"}, exitUsage, []string{`"ftp://example.com"`, "--url", "http://127.0.0.1:10000/v1"}},
		{[]string{"client"}, exitUsage, []string{"no configuration", "--config", "`cocoon client --help`"}},
		{[]string{"proxy"}, exitUsage, []string{"no configuration", "--config", "`cocoon proxy --help`"}},
		{[]string{"worker"}, exitUsage, []string{"no configuration", "--config", "`cocoon worker --help`"}},
		{[]string{"client", "--config", "a", "--reference-config", "b"}, exitUsage, []string{"--config", "--reference-config", "one", "`cocoon client --help`"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			s := newShell(t)
			s.fails(s.run(c.args...), c.code, c.say...)
		})
	}
}

// TestNoNetwork: commands that need a running network say how to start one.
func TestNoNetwork(t *testing.T) {
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"models"}, {"models", "--json"}, {"chat", "hello"}, {"chat"}} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			s := newShell(t)
			s.fails(s.run(append(args, "--dir", s.dir)...), exitFailed, "no network runs here", s.dir, "`cocoon up`", "--dir")
			s.file("network.json", `{"gateway":"http://127.0.0.1:1","pid":999999999,"children":[]}`, 0o600)
			s.fails(s.run(append(args, "--dir", s.dir)...), exitFailed, "not running any more", s.dir, "`cocoon up`")
			s.file("network.json", `{"gateway":`, 0o600)
			s.fails(s.run(append(args, "--dir", s.dir)...), exitFailed, "network.json", s.dir, "damaged")
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ln.Close()
			if args[0] == "status" {
				return
			}
			s.fails(s.run(append(args, "--url", "http://"+ln.Addr().String()+"/v1")...), exitFailed, "no endpoint at http://"+ln.Addr().String(), "`cocoon up`")
		})
	}
}

func TestVersion(t *testing.T) {
	s := newShell(t)
	if got := s.run("version"); got.code != exitOK || !strings.HasPrefix(got.stdout, "cocoon ") || strings.Count(got.stdout, "\n") != 1 {
		t.Errorf("%+v", got)
	}
	got := s.run("version", "--json")
	for _, key := range []string{`"version"`, `"revision"`, `"go"`, `"tags"`} {
		if !strings.Contains(got.stdout, key) {
			t.Errorf("no %s in %s", key, got.stdout)
		}
	}
}

// goodProxy is a proxy's configuration for a network of simulated guests, and
// the files it names.
func goodProxy(s *shell) string {
	s.t.Helper()
	addr := cocoon.Address{Hash: [32]byte{1}}.String()
	s.file("root.json", fmt.Sprintf(`{"registered_proxies":[{"seqno":1,"address":"127.0.0.1:1 127.0.0.1:2"}],"price_per_token":20,"worker_fee_per_token":19,"version":1,"params_version":1,"proxy_sc_code":"","worker_sc_code":"","client_sc_code":"","root_owner_address":%q}`, addr), 0o600)
	s.file("seed", strings.Repeat("s", 32), 0o600)
	if err := wallet.WriteKeyFile(filepath.Join(s.dir, "proxy.key"), wallet.NewKey()); err != nil && !os.IsExist(err) {
		s.t.Fatal(err)
	}
	return fmt.Sprintf(`role = "proxy"

[measured]
global_id = 20482
is_test = true
root_contract = %[2]q
root_file = "%[1]s/root.json"
evidence = "simulated"
accept = ["simulated"]
simulated_root = %[3]q
simulated_image = "cocoon-proxy"

[runtime]
dir = "%[1]s/state"
listen_workers = "127.0.0.1:0"
listen_clients = "127.0.0.1:0"
owner = %[2]q
key_file = "%[1]s/proxy.key"
simulated_seed = "%[1]s/seed"
`, s.dir, addr, strings.Repeat("ab", 48))
}

// edit changes one line of a configuration; it must be there.
func edit(t *testing.T, text, key, line string) string {
	t.Helper()
	var out strings.Builder
	found := false
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, key+" = ") {
			found = true
			if l = ""; line != "" {
				l = line + "\n"
			}
		}
		out.WriteString(l)
	}
	if !found {
		t.Fatalf("no %s in the configuration", key)
	}
	return out.String()
}

// TestWrongFiles: a role that cannot run says which file, which line and what
// to write there.
func TestWrongFiles(t *testing.T) {
	type wrong struct {
		name string
		role string
		// config changes a good configuration.
		config func(t *testing.T, s *shell, good string) string
		env    []string
		code   int
		say    []string
	}
	line := func(key, with string) func(*testing.T, *shell, string) string {
		return func(t *testing.T, _ *shell, good string) string { return edit(t, good, key, with) }
	}
	same := func(_ *testing.T, _ *shell, good string) string { return good }
	loose := func(file string) func(*testing.T, *shell, string) string {
		return func(t *testing.T, s *shell, good string) string {
			if err := os.Chmod(filepath.Join(s.dir, file), 0o644); err != nil {
				t.Fatal(err)
			}
			return good
		}
	}
	cases := []wrong{
		{"not TOML", "", func(*testing.T, *shell, string) string { return "role = \"proxy\"\n\nmeasured]\n" }, nil, 1, []string{"role.toml, line 3"}},
		{"unknown key", "", line("owner", "ownr = \"x\""), nil, 1, []string{"role.toml, line 17", `"runtime.ownr"`, "`cocoon proxy --print-config`"}},
		{"unknown section", "", func(t *testing.T, _ *shell, good string) string { return good + "\n[extra]\nx = 1\n" }, nil, 1, []string{"role.toml", `"extra`, "`cocoon proxy --print-config`"}},
		{"wrong type", "", line("is_test", "is_test = \"yes\""), nil, 1, []string{"role.toml", "line 5", "is_test"}},
		{"number too large", "", line("global_id", "global_id = 99999999999"), nil, 1, []string{"role.toml, line 4", "out of range"}},
		{"another role", "worker", same, nil, 1, []string{`role "proxy"`, "`cocoon proxy`"}},
		{"no such role", "", line("role", "role = \"king\""), nil, 1, []string{"role.toml", `"king"`}},
		{"variable that is none", "", same, []string{"COCOON_RUNTIME_OWNR=x"}, 1, []string{"COCOON_RUNTIME_OWNR", "`cocoon proxy --print-config`"}},
		{"variable that is no number", "", same, []string{"COCOON_RUNTIME_PROXIES=many"}, 1, []string{"COCOON_RUNTIME_PROXIES", `"many"`, "integer"}},
		{"variable that is too large", "", same, []string{"COCOON_RUNTIME_COEFFICIENT=99999999999"}, 1, []string{"COCOON_RUNTIME_COEFFICIENT", `"99999999999"`}},
		{"variable that is no truth", "", same, []string{"COCOON_MEASURED_IS_TEST=perhaps"}, 1, []string{"COCOON_MEASURED_IS_TEST", "true nor false"}},
		{"variable that is no fraction", "", same, []string{"COCOON_RUNTIME_TIMEOUT=soon"}, 1, []string{"COCOON_RUNTIME_TIMEOUT", "number"}},
		{"no root contract", "", line("root_contract", ""), nil, 1, []string{"measured.root_contract", "missing"}},
		{"root contract that is no address", "", line("root_contract", "root_contract = \"EQnot-an-address\""), nil, 1, []string{"measured.root_contract"}},
		{"root contract with a wrong checksum", "", func(t *testing.T, _ *shell, good string) string {
			a := []byte(cocoon.Address{Hash: [32]byte{1}}.String())
			a[20] ^= 3
			return edit(t, good, "root_contract", fmt.Sprintf("root_contract = %q", a))
		}, nil, 1, []string{"measured.root_contract"}},
		{"no root file", "", line("root_file", ""), nil, 1, []string{"measured.ton_config", "missing"}},
		{"root file that is not there", "", line("root_file", "root_file = \"/nowhere/root.json\""), nil, 1, []string{"measured.root_file", "/nowhere/root.json", "no such file"}},
		{"root file that is no JSON", "", func(t *testing.T, s *shell, good string) string { s.file("root.json", "{", 0o600); return good }, nil, 1, []string{"measured.root_file", "root.json"}},
		{"no owner", "", line("owner", ""), nil, 1, []string{"runtime.owner", "missing"}},
		{"owner that is no address", "", line("owner", "owner = \"me\""), nil, 1, []string{"runtime.owner"}},
		{"no key file", "", line("key_file", ""), nil, 1, []string{"runtime.key_file", "missing"}},
		{"key file that is not there", "", line("key_file", "key_file = \"/nowhere/key\""), nil, 1, []string{"runtime.key_file", "/nowhere/key"}},
		{"key file that others may read", "", loose("proxy.key"), nil, 1, []string{"runtime.key_file", "proxy.key", "0644", "chmod 600"}},
		{"key file without a key", "", func(t *testing.T, s *shell, good string) string { s.file("proxy.key", "hello\n", 0o600); return good }, nil, 1, []string{"runtime.key_file", "proxy.key"}},
		{"kind of evidence that does not exist", "", line("evidence", "evidence = \"trust-me\""), nil, 1, []string{"measured.evidence", `"trust-me"`, "tdx"}},
		{"nothing accepted", "", line("accept", "accept = []"), nil, 1, []string{"measured.accept", "empty"}},
		{"something unknown accepted", "", line("accept", "accept = [\"anything\"]"), nil, 1, []string{"measured.accept", `"anything"`, "tdx"}},
		{"log level", "", same, []string{"COCOON_RUNTIME_LOG_LEVEL=loud"}, 1, []string{"runtime.log_level", `"loud"`, "debug"}},
		{"log format", "", same, []string{"COCOON_RUNTIME_LOG_FORMAT=xml"}, 1, []string{"runtime.log_format", `"xml"`, "json"}},
		{"address nobody can listen on", "", line("listen_workers", "listen_workers = \"256.0.0.1:1\""), nil, 1, []string{"256.0.0.1:1"}},
		{"sockets that were not handed over", "", same, []string{"LISTEN_FDS=2", "LISTEN_FDNAMES=one"}, 1, []string{"LISTEN_FDS", "LISTEN_FDNAMES"}},
		{"simulated evidence on mainnet", "", line("global_id", "global_id = -239"), nil, 1, []string{"simulated"}},
		{"no evidence on testnet", "", func(t *testing.T, _ *shell, good string) string {
			return edit(t, edit(t, good, "global_id", "global_id = -3"), "evidence", "evidence = \"none\"")
		}, nil, 1, []string{"none"}},
		{"fake evidence on mainnet", "", func(t *testing.T, _ *shell, good string) string {
			return edit(t, edit(t, good, "global_id", "global_id = -239"), "evidence", "evidence = \"fake\"")
		}, nil, 1, []string{"fake"}},
		{"worker without an engine", "worker", line("role", "role = \"worker\""), nil, 1, []string{"measured.engine", "missing", "http://127.0.0.1:8000"}},
		{"worker without a model", "worker", line("role", "role = \"worker\""), []string{"COCOON_MEASURED_ENGINE=http://127.0.0.1:8000"}, 1, []string{"measured.model", "missing", "name@commit:hash"}},
		{"engine that is no URL", "worker", line("role", "role = \"worker\""), []string{"COCOON_MEASURED_ENGINE=over there", "COCOON_MEASURED_MODEL=a@b:0"}, 1, []string{"measured.engine", "neither a URL"}},
		{"client's secret that others may read", "client", func(t *testing.T, s *shell, good string) string {
			s.file("secret", "open sesame", 0o640)
			return edit(t, good, "role", "role = \"client\"")
		}, []string{"COCOON_RUNTIME_SECRET_FILE=SECRET"}, 1, []string{"runtime.secret_file", "0640", "chmod 600"}},
		{"client's secret that is not there", "client", line("role", "role = \"client\""), []string{"COCOON_RUNTIME_SECRET_FILE=/nowhere/secret"}, 1, []string{"runtime.secret_file", "/nowhere/secret"}},
	}
	if !measuredBuild {
		cases = append(cases,
			wrong{"seed that others may read", "", loose("seed"), nil, 1, []string{"runtime.simulated_seed", "0644", "chmod 600"}},
			wrong{"no seed", "", line("simulated_seed", ""), nil, 1, []string{"runtime.simulated_seed"}},
			wrong{"no simulated vendor to trust", "", line("simulated_root", ""), nil, 1, []string{"measured.simulated_root", "96 hex digits"}},
			wrong{"demo engine on mainnet", "worker", func(t *testing.T, _ *shell, good string) string {
				good = edit(t, edit(t, good, "role", "role = \"worker\""), "global_id", "global_id = -239")
				return edit(t, good, "evidence", "evidence = \"tdx\"")
			}, []string{"COCOON_MEASURED_ENGINE=demo"}, 1, []string{"measured.engine", "demo", "URL of a real engine"}},
		)
	} else {
		t.Skip("the measured build reads its checks from the measured folder: tee_test.go")
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newShell(t)
			path := s.file("role.toml", c.config(t, s, goodProxy(s)), 0o600)
			for _, kv := range c.env {
				s.env = append(s.env, strings.Replace(kv, "=SECRET", "="+filepath.Join(s.dir, "secret"), 1))
			}
			role := c.role
			if role == "" {
				role = "proxy"
			}
			s.fails(s.run(role, "--config", path), c.code, c.say...)
		})
	}
	t.Run("missing", func(t *testing.T) {
		s := newShell(t)
		for _, role := range []string{"client", "proxy", "worker"} {
			s.fails(s.run(role, "--config", "/nowhere/role.toml"), exitFailed, "/nowhere/role.toml", "no such file")
			s.fails(s.run(role, "--reference-config", "/nowhere/role.json"), exitFailed, "/nowhere/role.json", "no such file")
			s.fails(s.run(role, "--config", s.dir), exitFailed, s.dir, "directory")
		}
	})
	t.Run("enormous", func(t *testing.T) {
		s := newShell(t)
		s.fails(s.run("proxy", "--config", s.file("role.toml", strings.Repeat("# long\n", 1<<18), 0o600)), exitFailed, "role.toml", "larger than")
	})
}
