//go:build !tee

package demo_test

import (
	"net/http/httptest"
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// TestConform runs the conformance suite over both ways to reach the engine.
func TestConform(t *testing.T) {
	s, err := demo.New(demo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s)
	defer srv.Close()
	for name, cfg := range map[string]engine.Config{
		"memory": {BaseURL: "http://demo", Transport: s.Transport(), Dialect: engine.Demo},
		"port":   {BaseURL: srv.URL, Dialect: engine.Demo},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := engine.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if d, err := c.Detect(t.Context()); err != nil || d != engine.Demo {
				t.Errorf("detected as %q, %v", d, err)
			}
			enginetest.Conform(t, c, demo.Model)
			l, err := c.Load(t.Context())
			if err != nil || l.PredictedTokens != float64(s.Stats().PredictedTokens) {
				t.Errorf("load %+v, %v", l, err)
			}
		})
	}
}

// TestConformInDisguise runs the suite over the other makes' own pages, with our
// engine behind them: what the client asks of vLLM and SGLang is asked here. The
// pages are written from the documentation of vLLM 0.12 and SGLang 0.5.10, not
// recorded; the answers are ours, so this says nothing about theirs.
func TestConformInDisguise(t *testing.T) {
	s, err := demo.New(demo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []engine.Dialect{engine.VLLM, engine.SGLang} {
		t.Run(string(d), func(t *testing.T) {
			srv := httptest.NewServer(enginetest.Disguise(d, demo.Model, s))
			defer srv.Close()
			c, err := engine.Open(t.Context(), engine.Config{BaseURL: srv.URL})
			if err != nil || c.Dialect() != d {
				t.Fatalf("opened as %q, %v", c.Dialect(), err)
			}
			enginetest.Conform(t, c, demo.Model)
		})
	}
}
