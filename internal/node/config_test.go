//go:build !tee

package node

import (
	"strings"
	"testing"
)

// TestNumbersThatMeanSomethingElse: a number that cannot be meant is refused
// with its key, wherever it was set.
func TestNumbersThatMeanSomethingElse(t *testing.T) {
	for variable, key := range map[string]string{
		"COCOON_RUNTIME_EVERY=-1":                "runtime.every",
		"COCOON_RUNTIME_EVERY=NaN":               "runtime.every",
		"COCOON_RUNTIME_MARK_EVERY=-0.5":         "runtime.mark_every",
		"COCOON_RUNTIME_TIMEOUT=+Inf":            "runtime.timeout",
		"COCOON_RUNTIME_TIMEOUT=1e300":           "runtime.timeout",
		"COCOON_RUNTIME_PROXIES=-1":              "runtime.proxies",
		"COCOON_RUNTIME_COEFFICIENT=1000000000":  "runtime.coefficient",
		"COCOON_RUNTIME_MAX_ACTIVE_REQUESTS=-60": "runtime.max_active_requests",
		"COCOON_RUNTIME_MAX_CALLS=-1":            "runtime.max_calls",
		"COCOON_RUNTIME_MAX_COEFFICIENT=-1":      "runtime.max_coefficient",
	} {
		if _, err := Load("worker", "", []string{variable}); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", variable, err)
		}
	}
	if _, err := Load("worker", "", []string{"COCOON_RUNTIME_EVERY=0.2", "COCOON_RUNTIME_TIMEOUT=0"}); err != nil {
		t.Error(err)
	}
}
