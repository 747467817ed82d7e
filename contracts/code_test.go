package contracts

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func bags() map[string][]byte {
	return map[string][]byte{"root": Root(), "proxy": Proxy(), "client": Client(), "worker": Worker(), "wallet": Wallet(), "anchor": Anchor()}
}

func TestHashes(t *testing.T) {
	hashes := Hashes()
	if len(hashes) != len(bags()) {
		t.Errorf("%d hashes for %d contracts", len(hashes), len(bags()))
	}
	for name, bag := range bags() {
		if got, want := hashes[name], [32]byte(boc(bag).Hash()); got != want {
			t.Errorf("%s: hashes.txt says %x, the code has %x", name, got, want)
		}
		if _, err := Sources.ReadFile(name + ".tolk"); err != nil {
			t.Error(err)
		}
	}
}

// TestCodeIsCompiledFromSources compiles the sources with the pinned compiler
// and compares with what is committed.
func TestCodeIsCompiledFromSources(t *testing.T) {
	t.Parallel()
	tool := filepath.Join("..", "tools", "tolk")
	skip := func(why string) {
		t.Helper()
		if os.Getenv("COCOON_REQUIRE") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		skip("node is not installed: the committed code is taken as it is")
	}
	if _, err := os.Stat(filepath.Join(tool, "node_modules", "@ton", "tolk-js")); err != nil {
		skip("the compiler is not installed: run npm ci in tools/tolk")
	}
	out := t.TempDir()
	sources, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, "build.mjs", sources, out)
	cmd.Dir = tool
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build.mjs: %v\n%s", err, b)
	}
	for _, name := range []string{"root.boc", "proxy.boc", "client.boc", "worker.boc", "wallet.boc", "anchor.boc", "hashes.txt"} {
		fresh, committed := must1(os.ReadFile(filepath.Join(out, name))), must1(os.ReadFile(filepath.Join("code", name)))
		if !bytes.Equal(fresh, committed) {
			t.Errorf("code/%s is not what the sources compile to: run npm ci && node build.mjs in tools/tolk", name)
		}
	}
}

// TestRent prints what a fresh contract pays for its storage in a year.
func TestRent(t *testing.T) {
	n := newNetwork(t, opening{})
	wallet := n.wallet(0)
	// FunC figures of spec contracts 14, in TON a year.
	for _, c := range []struct {
		name string
		at   addr
		funC float64
	}{{"root", n.root, 0.042}, {"proxy", n.proxy, 0.031}, {"client", n.client, 0.016}, {"worker", n.work, 0.008}, {"wallet", wallet, 0.007}} {
		used := n.accs[c.at].prepared.State().StorageInfo.StorageUsed
		rent := (float64(used.BitsUsed.Int64()) + 500*float64(used.CellsUsed.Int64())) * year / 65536 / ton
		t.Logf("%-6s %5d bits %3d cells: %.4f TON a year (FunC %.3f)", c.name, used.BitsUsed, used.CellsUsed, rent, c.funC)
		// Inlined code costs rent and saves gas: a client gains from it after a
		// handful of messages a year.
		if rent > 1.3*c.funC {
			t.Errorf("%s: %.4f TON a year, the reference %.3f", c.name, rent, c.funC)
		}
	}
}
