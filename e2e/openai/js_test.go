package openai_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"
)

// needNode returns the program that runs ../js.
func needNode(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	require(t, err == nil, "node is not installed")
	_, err = os.Stat("../js/node_modules/openai")
	if err == nil {
		_, err = os.Stat("../js/node_modules/@anthropic-ai/sdk")
	}
	require(t, err == nil, "e2e/js/node_modules is missing: run `npm ci --ignore-scripts` in e2e/js")
	return node
}

// TestJavaScript runs the official clients for JavaScript (../js).
func TestJavaScript(t *testing.T) {
	node := needNode(t)
	forEach(t, func(t *testing.T, to target) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, node, "--test", "openai.test.mjs", "surface.test.mjs")
		cmd.Dir = "../js"
		cmd.Env = append(os.Environ(), "COCOON_BASE_URL="+to.base, "COCOON_DIRECT_URL="+to.direct(), "COCOON_MODEL="+engineModel)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for range 2 { // one in each file
			select {
			case <-to.engine.stopped:
			case <-time.After(30 * time.Second):
				t.Error("the engine still works after the JavaScript caller left")
			}
		}
	})
}
