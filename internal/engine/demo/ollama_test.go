//go:build !tee && external

package demo_test

import (
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// TestOllama runs the suite on a real Ollama. Its answers are compared too, but
// it renders prompts with a template of its own.
func TestOllama(t *testing.T) {
	theirs := enginetest.OllamaServer(t, modelFile(t), demo.Model,
		"{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n", "<|im_end|>")
	_, ours := ourEngine(t)
	if d, err := theirs.Detect(t.Context()); err != nil || d != engine.Ollama {
		t.Errorf("detected as %q, %v", d, err)
	}
	t.Run("conform", func(t *testing.T) { enginetest.Conform(t, theirs, demo.Model) })
	t.Run("parity", func(t *testing.T) { parity(t, ours, theirs, 8) })
}
