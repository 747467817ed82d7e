//go:build !tee

package simulated_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// TestNotInMeasuredImages: with -tags tee the command does not contain this
// package.
func TestNotInMeasuredImages(t *testing.T) {
	const self = "github.com/cocoon-network/cocoon/internal/tee/simulated"
	cmd := exec.Command("go", "list", "-deps", "-tags", "tee", "github.com/cocoon-network/cocoon/cmd/cocoon")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(out, []byte("github.com/cocoon-network/cocoon/cmd/cocoon\n")) {
		t.Fatalf("unexpected output: %.200s", out)
	}
	for pkg := range strings.Lines(string(out)) {
		if strings.TrimSpace(pkg) == self {
			t.Error("the measured build contains the simulated platform")
		}
	}
}

func TestSeed(t *testing.T) {
	for n := range simulated.SeedSize {
		if _, err := simulated.New(make([]byte, n)); !errors.Is(err, simulated.ErrSeed) {
			t.Errorf("a seed of %d bytes: %v", n, err)
		}
	}
}

func TestImages(t *testing.T) {
	a, b := simulated.Image("proxy"), simulated.Image("worker")
	if a.Hash() == b.Hash() || a.Hash() != simulated.Image("proxy").Hash() || !a.Hash().Proven() {
		t.Errorf("hashes %s and %s", a.Hash(), b.Hash())
	}
}

func TestGuestConfig(t *testing.T) {
	v, err := simulated.New(make([]byte, simulated.SeedSize))
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []simulated.GuestConfig{{QuoteVersion: 3}, {QuoteVersion: 5, BodyType: 1}} {
		if _, err := v.NewGuest(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
