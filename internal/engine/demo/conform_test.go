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
