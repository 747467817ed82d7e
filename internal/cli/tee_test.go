//go:build tee

package cli

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// measuredBuild says that this is the build of the measured image.
const measuredBuild = true

// measuredFile is what the measured image has its checks from.
const measuredFile = "/spec/cocoon.toml"

// TestMeasuredBuildIsBare: nothing that pretends is linked into the measured
// build, and no command leads there.
func TestMeasuredBuildIsBare(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags", "tee", "-deps", "github.com/cocoon-network/cocoon/cmd/cocoon").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	deps := strings.Fields(string(out))
	if len(deps) < 50 {
		t.Fatalf("only %d packages listed", len(deps))
	}
	for _, p := range deps {
		for _, bad := range []string{"/internal/tee/simulated", "/internal/chain/devnet", "/internal/engine/demo", "/internal/engine/enginetest", "database/sql", "net/http/pprof", "testing"} {
			if p == bad || strings.HasSuffix(p, bad) || strings.Contains(p, bad+"/") && strings.HasPrefix(p, "github.com/cocoon-network/") {
				t.Errorf("the measured build contains %s", p)
			}
		}
	}
	for path := range tree(t) {
		if strings.HasPrefix(path, "cocoon up") || strings.HasPrefix(path, "cocoon devnet") {
			t.Errorf("the measured build has the command %q", path)
		}
	}
	s := newShell(t)
	s.fails(s.run("up"), exitUsage, `unknown command "up"`)
	s.fails(s.run("devnet"), exitUsage, `unknown command "devnet"`)
}

// TestMeasuredFileIsNeeded: without the measured folder no role starts,
// whatever a file or the environment says.
func TestMeasuredFileIsNeeded(t *testing.T) {
	if _, err := os.Stat(measuredFile); !errors.Is(err, fs.ErrNotExist) {
		t.Skipf("%s exists on this machine", measuredFile)
	}
	for _, role := range []string{"client", "proxy", "worker"} {
		t.Run(role, func(t *testing.T) {
			s := newShell(t)
			s.env = append(s.env, "COCOON_MEASURED_GLOBAL_ID=20482", "COCOON_MEASURED_EVIDENCE=simulated")
			config := s.file("role.toml", edit(t, goodProxy(s), "role", "role = \""+role+"\""), 0o600)
			reference := s.file("role.json", `{"is_test":1}`, 0o600)
			for _, args := range [][]string{{"--config", config}, {"--reference-config", reference}, {"--print-config"}} {
				s.fails(s.run(append([]string{role}, args...)...), exitFailed, "measured configuration", measuredFile, "no such file")
			}
		})
	}
}
