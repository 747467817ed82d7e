package enginetest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cocoon-network/cocoon/internal/engine"
)

// Make serves s with the pages by which an engine of make d is known. The
// pages are written from the documentation of vLLM 0.12, SGLang 0.5.10,
// llama.cpp b11669 and Ollama 0.17, not recorded. For Unknown it is s alone.
func Make(d engine.Dialect, s *StandIn) http.Handler { return Disguise(d, s.Model, s) }

// Disguise serves what h answers under /v1/ as an engine of make d that serves
// model would.
func Disguise(d engine.Dialect, model string, h http.Handler) http.Handler {
	mux := http.NewServeMux()
	var running atomic.Int64
	page := func(path, contentType, text string) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", contentType)
			io.WriteString(w, strings.ReplaceAll(text, "RUNNING", strconv.FormatInt(running.Load(), 10)))
		})
	}
	models := func(owner string) {
		page("/v1/models", "application/json", fmt.Sprintf(`{"object":"list","data":[{"id":%q,"object":"model","owned_by":%q}]}`, model, owner))
	}
	const text = "text/plain; version=0.0.4"
	switch d {
	case engine.Demo:
		models("cocoon")
		page("/metrics", text, "# TYPE a gauge\ncocoon_demo:requests_processing RUNNING\ncocoon_demo:requests_deferred 2\n")
	case engine.VLLM:
		models("vllm")
		page("/health", text, "")
		page("/metrics", text, "# TYPE a gauge\nvllm:num_requests_running{engine=\"0\"} RUNNING\nvllm:num_requests_waiting{engine=\"0\"} 2\nvllm:kv_cache_usage_perc{engine=\"0\"} 0.25\n")
	case engine.SGLang:
		models("sglang")
		page("/health", text, "")
		page("/get_server_info", "application/json", `{"internal_states":[{"effective_max_running_requests_per_dp":128},{"effective_max_running_requests_per_dp":128}]}`)
		page("/get_model_info", "application/json", `{"model_path":"/model","is_generation":true}`)
		page("/metrics", text, "# TYPE a gauge\nsglang:num_running_reqs{tp_rank=\"0\"} RUNNING\nsglang:num_queue_reqs{tp_rank=\"0\"} 2\nsglang:token_usage{tp_rank=\"0\"} 0.25\n")
	case engine.LlamaCpp:
		models("llamacpp")
		page("/health", "application/json", `{"status":"ok"}`)
		page("/props", "application/json", `{"default_generation_settings":{"n_ctx":4096},"total_slots":4}`)
		page("/metrics", text, "# TYPE a gauge\nllamacpp:requests_processing RUNNING\nllamacpp:requests_deferred 2\n")
	case engine.Ollama:
		models("library")
		page("/{$}", "text/plain; charset=utf-8", "Ollama is running")
		page("/api/version", "application/json", `{"version":"0.17.4"}`)
	}
	mux.HandleFunc("POST /v1/", func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		h.ServeHTTP(w, r)
	})
	mux.Handle("/v1/", h)
	return mux
}
