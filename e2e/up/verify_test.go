package up_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// card is what `cocoon verify --json` prints.
type card struct {
	Verdict string   `json:"verdict"`
	Level   int      `json:"level"`
	Factors []factor `json:"factors"`
}

type factor struct {
	Name     string `json:"name"`
	Result   string `json:"result"`
	Enforced bool   `json:"enforced"`
	Detail   string `json:"detail"`
	Against  string `json:"against"`
	Fix      string `json:"fix"`
}

func (c card) failed() []factor {
	return slices.DeleteFunc(slices.Clone(c.Factors), func(f factor) bool { return f.Result != "fail" })
}

// TestVerify: a person asks what the network can show, and gets it check by
// check; a policy for hardware is never met by a simulation.
func TestVerify(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "net")
	n := up(t, dir)
	verify := func(want int, args ...string) (c card, stderr string) {
		t.Helper()
		code, out, errs := run(t, "", append([]string{"--dir", dir, "verify", "--json"}, args...)...)
		if code != want {
			t.Fatalf("verify %q: exit %d, want %d\n%s%s", args, code, want, out, errs)
		}
		unmarshal(t, out, &c)
		return c, errs
	}
	for _, args := range [][]string{{"proxy"}, {"proxy", "--policy", "devnet"}, {"worker:worker-1"}} {
		c, _ := verify(0, args...)
		if len(c.Factors) < 20 || c.Verdict != "simulated" || c.Level != 1 || len(c.failed()) > 0 {
			t.Errorf("%q: %d factors, verdict %s, level %d, failed %v", args, len(c.Factors), c.Verdict, c.Level, c.failed())
		}
		for _, f := range c.Factors {
			if f.Name == "" || f.Detail == "" || f.Against == "" {
				t.Errorf("%q: a factor says too little: %+v", args, f)
			}
		}
	}
	c, errs := verify(1, "proxy", "--policy", "tdx")
	if f := c.failed(); c.Verdict != "refused" || len(f) != 1 || !f[0].Enforced || !strings.Contains(f[0].Detail, "simulated") || f[0].Fix == "" || !strings.Contains(errs, f[0].Detail) {
		t.Errorf("--policy tdx: verdict %s, failed %+v, said %q", c.Verdict, f, errs)
	}
	if code, text, _ := run(t, "", "--dir", dir, "verify", "proxy"); code != 0 || !strings.Contains(text, "SIMULATED") || strings.Contains(text, "100 %") {
		t.Errorf("exit %d: %s", code, text)
	}

	// The gateway shows what its own client verified, live.
	code, _, body, err := get(n.base + "/v1/verification")
	if err != nil || code != http.StatusOK {
		t.Fatalf("%d %v", code, err)
	}
	var live struct {
		Verdict string `json:"verdict"`
		Proxies []struct {
			Level   int      `json:"level"`
			Usable  bool     `json:"usable"`
			Factors []factor `json:"factors"`
		} `json:"proxies"`
	}
	unmarshal(t, body, &live)
	if live.Verdict != "simulated" || len(live.Proxies) != 1 || live.Proxies[0].Level != 1 || !live.Proxies[0].Usable || len(live.Proxies[0].Factors) < 20 {
		t.Errorf("live: %s", body)
	}
	r := n.ask(t.Context(), question{model: demoModel, prompt: "hi", maxTokens: 8})
	if r.header.Get("X-Cocoon-Verdict") != "simulated" || r.header.Get("X-Cocoon-Level") != "1" {
		t.Errorf("headers: %v", r.header)
	}

	var found struct {
		Simulated bool `json:"simulated"`
		Checks    []struct{ Code, Result, Cause, Fix string }
	}
	code, text, _ := run(t, "", "--dir", dir, "doctor", "--json")
	unmarshal(t, text, &found)
	if code != 0 || !found.Simulated || len(found.Checks) < 12 {
		t.Errorf("a healthy network: doctor exits %d: %s", code, text)
	}

	// Another genuine proxy in the place of a known one is refused, by the
	// command and by the client.
	pins := filepath.Join(dir, "client", "pins.json")
	b, err := os.ReadFile(pins)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), `"contract_key": "`)
	if !ok {
		t.Fatalf("no pin in %s", b)
	}
	other := strings.Replace(string(b), rest[:64], strings.Repeat("ab", 32), 1)
	if err := os.WriteFile(pins, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	c, _ = verify(1, "proxy")
	if f := c.failed(); len(f) != 1 || f[0].Name != "pin" || !strings.Contains(f[0].Detail, pins) {
		t.Errorf("a changed pin: %+v", f)
	}
	if code, text, _ := run(t, "", "--dir", dir, "doctor"); code != 1 || !strings.Contains(text, pins) || !strings.Contains(text, "fix: ") {
		t.Errorf("a changed pin: doctor exits %d: %s", code, text)
	}
	n.kill("client")
	eventually(t, "refusal by the client", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "logs", "client.log"))
		return err == nil && strings.Contains(string(b), "another proxy answers at this endpoint")
	})
}
