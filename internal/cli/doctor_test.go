package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/node"
)

// TestDoctor: what is wrong has a cause and a fix, and the rest is looked at
// all the same.
func TestDoctor(t *testing.T) {
	ready := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			_, _ = w.Write([]byte(`{"data":[]}`))
			return
		}
		_, _ = w.Write([]byte("{}"))
	}))
	defer ready.Close()
	waits := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			http.Error(w, "the engine does not answer", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("{}"))
	}))
	defer waits.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()

	s := newShell(t)
	dir := filepath.Join(s.dir, "net")
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"good.key": 0o600, "open.key": 0o644} {
		s.file(filepath.Join("net", "keys", name), "secret", mode)
	}
	state, err := json.Marshal(node.State{
		Gateway: ready.URL, Pid: os.Getpid(), Simulated: true,
		Children: []node.Child{
			{Name: "chain", Role: "chain", Pid: os.Getpid()},
			{Name: "proxy", Role: "proxy", Status: ready.URL, Restarts: 2},
			{Name: "worker-1", Role: "worker", Status: waits.URL},
			{Name: "client", Role: "client", Status: gone.URL},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.file(filepath.Join("net", "network.json"), string(state), 0o600)

	got := s.run("doctor", "--dir", dir, "--json")
	var d diagnosis
	if err := json.Unmarshal([]byte(got.stdout), &d); err != nil || got.code != exitFailed || !d.Simulated {
		t.Fatalf("%+v, %v", got, err)
	}
	found := map[string]finding{}
	for _, f := range d.Checks {
		found[strings.TrimSpace(f.Code+" "+filepath.Base(f.About))] = f
		if f.Result == attest.Fail && (f.Cause == "" || f.Fix == "") {
			t.Errorf("without cause or fix: %+v", f)
		}
	}
	for what, say := range map[string]string{
		"keys open.key": "0644", "process worker-1": "the engine does not answer", "process client": "does not answer",
		"models .": "no worker", "configuration .": "client.toml",
	} {
		if f := found[what]; f.Result != attest.Fail || !strings.Contains(f.Cause, say) {
			t.Errorf("%s: %+v, want a failure that says %q", what, f, say)
		}
	}
	for _, what := range []string{"folder net", "disk net", "network .", "process chain", "process proxy"} {
		if f := found[what]; f.Result != attest.Pass {
			t.Errorf("%s: %+v, want a pass", what, f)
		}
	}
	if strings.Contains(got.stdout, "secret") {
		t.Error("a key is shown")
	}

	people := s.run("doctor", "--dir", dir)
	if people.code != exitFailed || !strings.Contains(people.stdout, "SIMULATED") || !strings.Contains(people.stdout, "fix: chmod 600") || people.stderr != "" {
		t.Errorf("%+v", people)
	}
	if none := s.run("doctor", "--dir", filepath.Join(s.dir, "none")); none.code != exitFailed || !strings.Contains(none.stdout, "cocoon up") {
		t.Errorf("%+v", none)
	}
	if bad := s.run("doctor", "--config", s.file("bad.toml", "role = \"client\"\nnonsense = 1\n", 0o600)); bad.code != exitFailed || !strings.Contains(bad.stdout, "nonsense") {
		t.Errorf("%+v", bad)
	}
}
