package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/node"
)

// leastSpace is how much of a disk must be free: chain, ledger and logs are
// written to it, and a role that cannot write them serves nobody.
const leastSpace = 256 << 20

// diagnosis is what a doctor found.
type diagnosis struct {
	Simulated bool      `json:"simulated"`
	Checks    []finding `json:"checks"`
}

// finding is one check. Cause and Fix are of a failed one.
type finding struct {
	Code   string         `json:"code"` // stable: folder, disk, keys, network, process, gateway, models, money, verification, configuration
	About  string         `json:"about,omitempty"`
	Result attest.Outcome `json:"result"`
	Detail string         `json:"detail,omitempty"`
	Cause  string         `json:"cause,omitempty"`
	Fix    string         `json:"fix,omitempty"`
}

func (d *diagnosis) pass(code, about, format string, args ...any) {
	d.Checks = append(d.Checks, finding{Code: code, About: about, Result: attest.Pass, Detail: fmt.Sprintf(format, args...)})
}

func (d *diagnosis) skip(code, about, detail string) {
	d.Checks = append(d.Checks, finding{Code: code, About: about, Result: attest.Skip, Detail: detail})
}

func (d *diagnosis) fail(code, about, cause, fix string) {
	d.Checks = append(d.Checks, finding{Code: code, About: about, Result: attest.Fail, Cause: cause, Fix: fix})
}

func (a *app) doctorCommand() *cobra.Command {
	var config string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "doctor",
		Short: "Look for what is wrong, and say what to do about it",
		Long: `Looks at each part of the network in --dir, or of one role with --config: its
folder, disk and keys; whether each process runs and is ready; endpoint, models
and money; and verifies the proxy as a client would, with chain and clock. For
what is wrong it names cause and fix. Nothing is changed.

The exit status is 1 if something is wrong.`,
		Example: "  cocoon doctor\n  cocoon doctor --json\n  cocoon doctor --config worker.toml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), verifyLimit)
			defer cancel()
			d := &diagnosis{Checks: []finding{}}
			if config != "" {
				a.examineRole(ctx, d, config)
			} else {
				a.examineNetwork(ctx, d)
			}
			var err error
			if a.json {
				err = a.printJSON(d)
			} else {
				err = d.print(a.env.Stdout)
			}
			if err != nil {
				return err
			}
			for _, f := range d.Checks {
				if f.Result == attest.Fail {
					return quietError{errors.New(f.Cause)} // it was printed
				}
			}
			return nil
		},
	})
	cmd.Flags().StringVar(&config, "config", "", "configuration file of a client, proxy or worker; without it, the network in --dir")
	return cmd
}

// examineNetwork looks at the network in --dir.
func (a *app) examineNetwork(ctx context.Context, d *diagnosis) {
	if info, err := os.Stat(a.dir); err != nil || !info.IsDir() {
		d.fail("folder", a.dir, "there is no network in this folder", "start one with `cocoon up`, or name its folder with --dir")
		return
	}
	d.pass("folder", a.dir, "is there")
	d.disk(a.dir)
	keys, _ := filepath.Glob(filepath.Join(a.dir, "keys", "*"))
	d.keys(append(keys, filepath.Join(a.dir, "platform.seed"))...)
	s, err := node.ReadState(a.dir)
	if err != nil {
		d.fail("network", "", "no `cocoon up` runs on it", fmt.Sprintf("start it with `cocoon up --dir %s`; what its processes said last stands in %s", a.dir, filepath.Join(a.dir, "logs")))
		return
	}
	d.Simulated = s.Simulated
	d.pass("network", "", "`cocoon up` runs as process %d", s.Pid)
	for _, c := range s.Children {
		log := "see " + filepath.Join(a.dir, "logs", c.Name+".log")
		if c.Status == "" {
			if c.Pid == 0 || syscall.Kill(c.Pid, 0) != nil {
				d.fail("process", c.Name, "it does not run", "`up` starts it again by itself; "+log)
			} else {
				d.pass("process", c.Name, "runs%s", again(c.Restarts))
			}
			continue
		}
		d.process(ctx, c.Name, c.Role, c.Status, c.Restarts, "`up` starts it again by itself; "+log)
	}
	d.gateway(ctx, s.Gateway)
	a.models(ctx, d)
	if r, err := readStatus(ctx, s); err != nil {
		d.fail("money", "", err.Error(), "see `cocoon status`")
	} else {
		d.money(r)
	}
	c, _, err := a.verifyNetwork("")
	if err != nil {
		d.fail("configuration", "", err.Error(), "start the network again: `up` writes its configuration")
		return
	}
	d.verify(ctx, c, s)
}

// examineRole looks at one role by its configuration.
func (a *app) examineRole(ctx context.Context, d *diagnosis, config string) {
	c, err := node.LoadAny(config, a.env.Environ)
	if err != nil {
		d.fail("configuration", config, err.Error(), "mend the file; `--print-config` of the role's command lists every key")
		return
	}
	d.Simulated = c.Measured.Accepts(attest.Simulated)
	d.pass("configuration", config, "is that of a %s", c.Role)
	if _, err := os.Stat(c.Runtime.Dir); err == nil {
		d.disk(c.Runtime.Dir)
	}
	if c.Measured.SealedKeys == "" {
		d.keys(c.Runtime.KeyFile, c.Runtime.WalletKeyFile, c.Runtime.SecretFile, c.Runtime.SimulatedSeed)
	}
	if c.Runtime.Status == "" {
		d.skip("process", c.Role, "runtime.status is empty, so nobody can ask whether it runs")
	} else {
		d.process(ctx, c.Role, c.Role, "http://"+c.Runtime.Status, 0, fmt.Sprintf("start it with `cocoon %s --config %s`, and see its log", c.Role, config))
	}
	if c.Role != "client" {
		d.skip("verification", "", "a client's configuration verifies the proxy")
		return
	}
	d.gateway(ctx, "http://"+c.Runtime.Listen)
	d.verify(ctx, c, nil)
}

func (d *diagnosis) disk(dir string) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		d.skip("disk", dir, err.Error())
		return
	}
	free := uint64(s.Bavail) * uint64(s.Bsize)
	if free < leastSpace {
		d.fail("disk", dir, fmt.Sprintf("%d MiB are free; chain, ledger and logs need %d MiB at least", free>>20, leastSpace>>20), "free some space: a role that cannot write its books serves nobody")
		return
	}
	d.pass("disk", dir, "%d GiB are free", free>>30)
}

// keys looks at files that nobody else may read. Empty names and files that
// are not there yet are passed over.
func (d *diagnosis) keys(files ...string) {
	looked, before := 0, len(d.Checks)
	for _, name := range files {
		info, err := os.Stat(name)
		switch {
		case name == "" || errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			d.fail("keys", name, err.Error(), "let this user read it")
		case info.Mode().Perm()&0o077 != 0:
			d.fail("keys", name, fmt.Sprintf("its mode is %#o: others may touch it", info.Mode().Perm()), "chmod 600 "+name+", and make a new key if others could read it")
		}
		looked++
	}
	if looked > 0 && len(d.Checks) == before {
		d.pass("keys", "", "%s, which nobody else may touch", count(looked, "file"))
	}
}

// process asks a role whether it is ready.
func (d *diagnosis) process(ctx context.Context, name, role, status string, restarts int, gone string) {
	code, said, err := ask(ctx, status+"/readyz")
	switch {
	case err != nil:
		d.fail("process", name, "it does not answer: "+err.Error(), gone)
	case code == http.StatusOK:
		d.pass("process", name, "ready%s", again(restarts))
	default:
		d.fail("process", name, "it runs and does not serve: "+said, map[string]string{
			"worker": "look at the engine with `cocoon engine probe`; the model must be one the root contract lists (`cocoon root show`)",
			"proxy":  "see the cause: coins for its wallet, the chain, or its addresses in the root contract (`cocoon channel show`, `cocoon root show`)",
			"client": "see what the other processes lack; `cocoon verify proxy` says what a proxy fails in, `cocoon channel show` what coins there are",
		}[role])
	}
}

// again says how often a process was started anew.
func again(restarts int) string {
	if restarts == 0 {
		return ""
	}
	return ", started again " + count(restarts, "time")
}

func (d *diagnosis) gateway(ctx context.Context, base string) {
	switch code, said, err := ask(ctx, base+"/readyz"); {
	case err != nil:
		d.fail("gateway", base, "it does not answer: "+err.Error(), "the client's process serves it: see above")
	case code != http.StatusOK:
		d.fail("gateway", base, openai.ParseError(code, []byte(said)).Message, "see the client's process above")
	default:
		d.pass("gateway", base+"/v1", "takes calls")
	}
}

// models asks the network's own endpoint what is served.
func (a *app) models(ctx context.Context, d *diagnosis) {
	s, err := node.ReadState(a.dir)
	if err != nil {
		return
	}
	g := &gateway{base: s.Gateway + "/v1", client: &http.Client{}, key: a.getenv(apiKeyVariable)}
	l, err := g.models(ctx)
	var names []string
	for _, m := range l.Data {
		names = append(names, m.ID)
	}
	switch {
	case err != nil && g.key == "" && strings.Contains(err.Error(), "key"):
		d.skip("models", "", "the gateway asks for an API key: "+apiKeyVariable+" holds none")
	case err != nil:
		d.fail("models", "", err.Error(), "see the processes above")
	case len(names) == 0:
		d.fail("models", "", "no worker serves a model", "see the workers' processes above")
	default:
		d.pass("models", "", "%s", strings.Join(names, ", "))
	}
}

// money looks for proxies that count what nobody asked for.
func (d *diagnosis) money(r *statusReport) {
	before := len(d.Checks)
	for _, c := range r.Children {
		if c.client != nil {
			for _, f := range c.client.LogFaults {
				d.fail("money", c.Name, fmt.Sprintf("the log of the proxy with contract key %s: %s", f.ContractKey, f.Fault), "`cocoon audit` shows its log")
			}
		}
		for _, p := range c.Suspended {
			cause := p.Fault
			if cause == "" {
				cause = fmt.Sprintf("proxy %s counts %d tokens that no request explains", p.Endpoint, p.Unexplained)
			}
			d.fail("money", c.Name, "not used any more: "+cause, p.Remedy)
		}
	}
	if r.Incomplete {
		d.fail("money", "", "not all processes tell their part of the money", "see the processes above")
	}
	if len(d.Checks) == before {
		d.pass("money", "", "paid %s; no proxy is suspended", r.Paid)
	}
}

// verify verifies the proxy as a client would, which takes chain and clock.
func (d *diagnosis) verify(ctx context.Context, c *node.Config, s *node.State) {
	card, err := node.Verify(ctx, node.VerifyConfig{Target: "proxy", Policy: "network", Config: c, State: s, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		d.fail("verification", "proxy", err.Error(), "let this machine reach a liteserver of the network; check the clock")
		return
	}
	if f := card.Failed(); f != nil {
		d.fail("verification", "proxy", f.Name+": "+f.Detail, f.Fix)
		return
	}
	d.pass("verification", "proxy", "%d checks of chain, clock, evidence and contract passed: %s", len(card.Factors), card.Verdict)
}

// ask reads one page of a process on this machine.
func ask(ctx context.Context, url string) (code int, said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	return resp.StatusCode, strings.TrimSpace(string(b)), err
}

func (d *diagnosis) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if d.Simulated {
		fmt.Fprintln(out, "SIMULATED network: no hardware protects it")
	}
	wrong := 0
	for _, f := range d.Checks {
		what := f.Code
		if f.About != "" {
			what += " " + f.About
		}
		if f.Result != attest.Fail {
			fmt.Fprintf(w, "%s\t%s\t%s\n", f.Result, what, f.Detail)
			continue
		}
		wrong++
		fmt.Fprintf(w, "FAIL\t%s\t%s\n\t\tfix: %s\n", what, f.Cause, f.Fix)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%s, %d wrong\n", count(len(d.Checks), "check"), wrong)
	return err
}
