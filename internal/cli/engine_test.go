package cli

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

func unmarshal[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return v
}

// TestEngineHash: the folder of the specification's vector (attestation 7.2),
// and the name made of it.
func TestEngineHash(t *testing.T) {
	s := newShell(t)
	dir := filepath.Join(s.dir, "m")
	if err := os.MkdirAll(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.file("m/config.json", "{}\n", 0o644)
	s.file("m/sub/w.bin", "WWWWWWWWWW", 0o644)
	const root = "fc7b1943a518b911f479929d61f90264829699d163cda39443abb4912268eb83"
	got := s.run("engine", "hash", dir, "--name", "org/m", "--commit", "abc", "--json")
	if got.code != exitOK {
		t.Fatal(got)
	}
	m := unmarshal[modelInfo](t, got.stdout)
	if m.Root != root || m.Bytes != 12288 || m.Model != "org/m@abc:"+root || m.ModelHash != "e8198f7d1d5a4ea88df04125ab0a0d55bb64ae442309912116ede0efce3bf1e0" {
		t.Errorf("%+v", m)
	}
	if got = s.run("engine", "hash", dir, "--name", "org/m", "--commit", "abc"); !strings.Contains(got.stdout, "org/m@abc:"+root+"\n") || !strings.Contains(got.stdout, m.ModelHash+"\n") {
		t.Error(got)
	}
	if got = s.run("engine", "hash", dir); got.code != exitOK || strings.Contains(got.stdout, "model") {
		t.Error(got)
	}
	s.fails(s.run("engine", "hash"), exitUsage, "one folder or file")
	s.fails(s.run("engine", "hash", dir, "--name", "m"), exitUsage, "belong together")
	s.fails(s.run("engine", "hash", dir, "--name", "m@x", "--commit", "c"), exitUsage, "'@'")
	s.fails(s.run("engine", "hash", filepath.Join(s.dir, "none")), exitFailed, "no such file")
}

func TestEngineProbe(t *testing.T) {
	s := newShell(t)
	for _, d := range []engine.Dialect{engine.VLLM, engine.SGLang, engine.LlamaCpp, engine.Ollama} {
		srv := httptest.NewServer(enginetest.Make(d, &enginetest.StandIn{Model: "m\u009b31m", Tokens: 2}))
		got := s.run("engine", "probe", srv.URL, "--json")
		r := unmarshal[engineReport](t, got.stdout)
		if got.code != exitOK || !r.OK || r.Dialect != string(d) || len(r.Steps) != 3 || len(r.Models) != 1 || r.Caps != engineCaps(d.Caps()) || (r.Load.Running == nil) != (d == engine.Ollama) {
			t.Errorf("%s: %+v", d, got)
		}
		if got = s.run("engine", "probe", srv.URL); got.code != exitOK || !strings.Contains(got.stdout, string(d)+" at "+srv.URL) || strings.Contains(got.stdout, "\u009b") {
			t.Errorf("%s: %+v", d, got)
		}
		got = s.run("engine", "probe", srv.URL, "--model", "other", "--json")
		if r := unmarshal[engineReport](t, got.stdout); got.code != exitFailed || r.OK || r.Steps[2].Result != "failed" || got.stderr != "" {
			t.Errorf("%s: %+v", d, got)
		}
		srv.Close()
		if got = s.run("engine", "probe", srv.URL); got.code != exitFailed || !strings.Contains(got.stdout, "cannot be reached") {
			t.Errorf("%s: %+v", d, got)
		}
	}
	s.fails(s.run("engine", "probe", "localhost:8000"), exitUsage, "plain URL")
	s.fails(s.run("engine", "probe", "a", "b"), exitUsage, "b")
}

func TestEngineListAndConfig(t *testing.T) {
	s := newShell(t)
	list := unmarshal[struct{ Engines []engineInfo }](t, s.run("engine", "list", "--json").stdout).Engines
	if len(list) != 4 {
		t.Fatalf("%+v", list)
	}
	text := s.run("engine", "list").stdout
	for _, e := range list {
		if !strings.Contains(text, e.Name) || !strings.Contains(text, e.URL) {
			t.Errorf("no %s in %q", e.Name, text)
		}
		got := s.run("engine", "config", strings.ToLower(e.Name), "--model", "org/m@abc:def", "--path", "/srv/m.gguf")
		if got.code != exitOK || !strings.Contains(got.stdout, "127.0.0.1") || e.Dialect != "ollama" && !strings.Contains(got.stdout, "org/m") || strings.Contains(got.stdout+got.stderr, "abc:def") {
			t.Errorf("%s: %+v", e.Name, got)
		}
		unit := s.run("engine", "config", e.Dialect, "--model", "m", "--path", "/m.gguf", "--unit").stdout
		for _, part := range []string{"# /etc/systemd/system/cocoon-engine.slice\n", "# /etc/systemd/system/cocoon-engine-" + e.Dialect + ".service\n", "ExecStart="} {
			if !strings.Contains(unit, part) {
				t.Errorf("%s: no %q in %s", e.Name, part, unit)
			}
		}
		setup := unmarshal[engineSetup](t, s.run("engine", "config", e.Dialect, "--model", "m", "--path", "/m.gguf", "--json").stdout)
		if setup.Engine != e.Name || setup.URL != e.URL || setup.Image != e.Image || len(setup.Files) != 2 {
			t.Errorf("%+v", setup)
		}
	}
	if got := s.run("engine", "config", "vllm", "--model", "m", "--", "--trust-remote-code"); !strings.Contains(got.stdout, "--trust-remote-code") {
		t.Error(got)
	}
	s.fails(s.run("engine", "config", "--model", "m"), exitUsage, "which engine")
	s.fails(s.run("engine", "config", "tgi", "--model", "m"), exitUsage, "tgi")
	s.fails(s.run("engine", "config", "vllm"), exitUsage, "model")
	s.fails(s.run("engine", "config", "vllm", "x", "--model", "m"), exitUsage, "x")
	s.fails(s.run("engine", "config", "vllm", "--model", "m", "--image", "vllm/vllm-openai:latest"), exitUsage, "digest")
	s.fails(s.run("engine", "config", "vllm", "--model", "m", "--", "--host", "0.0.0.0"), exitUsage, "--host")
}
