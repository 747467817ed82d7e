package engine

import (
	"fmt"
	"math"
	"testing"
)

// FuzzLoad: any page gives values that are absent or not negative, and a page
// written from them gives the same.
func FuzzLoad(f *testing.F) {
	f.Add([]byte("# TYPE a gauge\ncocoon_demo:requests_processing 3\ncocoon_demo:requests_deferred{a=\"b c}\"} 4 17\n"))
	f.Add([]byte("vllm:num_requests_running{x=\"} 1\"} 2\nsglang:token_usage 0.5\nllamacpp:prompt_tokens_total +Inf"))
	f.Fuzz(func(t *testing.T, page []byte) {
		l := parseLoad(page)
		var again []byte
		for name, v := range map[string]float64{
			"vllm:num_requests_running": l.Running, "vllm:num_requests_waiting": l.Waiting, "vllm:kv_cache_usage_perc": l.Cache,
			"vllm:prompt_tokens_total": l.PromptTokens, "vllm:generation_tokens_total": l.PredictedTokens,
		} {
			if v < 0 {
				t.Fatalf("%s is %g", name, v)
			}
			if !math.IsNaN(v) {
				again = fmt.Appendf(again, "%s{engine=\"0\"} %v\n", name, v)
			}
		}
		if m := parseLoad(again); fmt.Sprint(m) != fmt.Sprint(l) {
			t.Fatalf("%+v became %+v", l, m)
		}
	})
}
