//go:build !tee

package node

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/engine/modelhash"
)

// TestUpEngine: what a person may say about the engine, and the full name that
// comes of it.
func TestUpEngine(t *testing.T) {
	file, err := filepath.Abs("../engine/demo/weights/cocoon-demo-1.gguf")
	if err != nil {
		t.Fatal(err)
	}
	root, err := modelhash.Hash(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	zero := strings.Repeat("0", 64)
	srv := httptest.NewServer(enginetest.Make(engine.Ollama, &enginetest.StandIn{Model: "small:latest"}))
	t.Cleanup(srv.Close)
	locked := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(locked.Close)
	for _, c := range []struct {
		cfg   UpConfig
		model string // "" = refused
		say   string
	}{
		{UpConfig{Engine: "demo", Model: "m"}, "", "name it with --engine"},
		{UpConfig{Engine: "over there"}, "", "neither demo, auto"},
		{UpConfig{Engine: "http://x", Model: "Qwen/Qwen3-8B@main:0"}, "", "`cocoon engine hash` prints it"},
		{UpConfig{Engine: "http://x", Model: "two words"}, "", "--model"},
		{UpConfig{Engine: "vllm"}, "", "--model-path"},
		{UpConfig{Engine: "ollama", ModelPath: file}, "", "start Ollama"},
		{UpConfig{Engine: srv.URL}, "small@unchecked:" + zero, ""},
		{UpConfig{Engine: srv.URL, Model: "other"}, "other@unchecked:" + zero, ""},
		{UpConfig{Engine: srv.URL, Model: "x@1:" + root.String()}, "x@1:" + root.String(), ""},
		{UpConfig{Engine: srv.URL, Model: "small", ModelPath: file}, "small@local:" + root.String(), ""},
		{UpConfig{Engine: "llama.cpp", ModelPath: file}, "cocoon-demo-1@local:" + root.String(), ""},
		{UpConfig{Engine: locked.URL}, "", EngineKeyVariable},
		{UpConfig{Engine: "http://127.0.0.1:1"}, "", "cannot be reached"},
	} {
		c.cfg.Workers, c.cfg.Listen = 1, "127.0.0.1:0"
		c.cfg.Progress = func(string, ...any) {}
		err := c.cfg.Validate()
		if err == nil {
			err = c.cfg.resolveEngine(t.Context())
		}
		switch {
		case c.model == "" && (err == nil || !strings.Contains(err.Error(), c.say)):
			t.Errorf("%s %s: %v, want %q in it", c.cfg.Engine, c.cfg.Model, err, c.say)
		case c.model != "" && (err != nil || c.cfg.Model != c.model):
			t.Errorf("%s: %q, %v, want %q", c.cfg.Engine, c.cfg.Model, err, c.model)
		case c.model != "":
			if _, _, _, err := modelhash.Parse(cocoon.ModelName(c.cfg.Model)); err != nil {
				t.Errorf("%s is no full name: %v", c.cfg.Model, err)
			}
		}
	}
}

// TestBillingEqualsLlama: what a real llama.cpp server counted is what callers
// were told, through the whole network.
func TestBillingEqualsLlama(t *testing.T) {
	file, err := filepath.Abs("../engine/demo/weights/cocoon-demo-1.gguf")
	if err != nil {
		t.Fatal(err)
	}
	n := startNet(t)
	llama := enginetest.LlamaServer(t, file, n.model.Base(), 2, 1024)
	n.startWorker(1, &enginetest.StandIn{}, withEngine(llama))
	n.waitWorkers(1)
	predicted := func() float64 {
		l, err := llama.Load(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return l.PredictedTokens
	}
	before, told := predicted(), int64(0)
	for i := range 12 {
		r := n.ask(t.Context(), i%2 == 0, 5+i, 0)
		if !r.done || r.usage.CompletionTokens == 0 {
			t.Fatalf("%+v", r)
		}
		told += r.usage.CompletionTokens
	}
	n.eventually("equal counts", func() bool { return predicted()-before == float64(told) })
}
