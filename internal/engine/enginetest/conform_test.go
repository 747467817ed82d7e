//go:build external

package enginetest

import (
	"os"
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine"
)

// TestConform runs the suite against the engine at COCOON_ENGINE_URL; its model
// is COCOON_ENGINE_MODEL or the first it lists.
func TestConform(t *testing.T) {
	url := os.Getenv("COCOON_ENGINE_URL")
	if url == "" {
		t.Skip("set COCOON_ENGINE_URL to run the conformance suite against an engine; the demo engine runs it in its own package")
	}
	c, err := engine.New(engine.Config{BaseURL: url})
	if err != nil {
		t.Fatal(err)
	}
	names, err := c.Models(t.Context())
	if err != nil || len(names) == 0 {
		t.Fatalf("models: %v, %v", names, err)
	}
	model := os.Getenv("COCOON_ENGINE_MODEL")
	if model == "" {
		model = names[0]
	}
	d, err := c.Detect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("dialect %q, model %q", d, model)
	if c, err = engine.New(engine.Config{BaseURL: url, Dialect: d}); err != nil {
		t.Fatal(err)
	}
	Conform(t, c, model)
}
