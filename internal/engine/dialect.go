package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Dialect is the make of an engine: what it can do and how it reports its load
// (spec engines 1).
type Dialect string

// The dialects.
const (
	Unknown  Dialect = ""
	Demo     Dialect = "demo"
	VLLM     Dialect = "vllm"
	SGLang   Dialect = "sglang"
	LlamaCpp Dialect = "llamacpp"
	Ollama   Dialect = "ollama"
)

// Caps is what an engine can do.
type Caps struct {
	// ContinuousUsage: running usage in each event of a stream, on request
	// (stream_options.continuous_usage_stats). Without it, a stream that is cut
	// has no usage.
	ContinuousUsage bool
	// CachedTokens: usage tells how many prompt tokens came from a cache.
	CachedTokens bool
	// Schema: response_format json_schema is obeyed.
	Schema bool
	// Tools: tool_choice can force a call. vLLM and SGLang need a parser to be
	// named when they start.
	Tools bool
	// Embeddings: the same process answers /v1/embeddings.
	Embeddings bool
	// CacheSalt: the prefix cache can be divided by a salt of each request.
	CacheSalt bool
}

// Caps returns what engines of this make can do when they are started as spec
// engines 6 says.
func (d Dialect) Caps() Caps {
	switch d {
	case Demo:
		return Caps{ContinuousUsage: true, CachedTokens: true, Schema: true, Tools: true, Embeddings: true}
	case VLLM, SGLang:
		return Caps{ContinuousUsage: true, CachedTokens: true, Schema: true, Tools: true, CacheSalt: true}
	case LlamaCpp:
		return Caps{CachedTokens: true, Schema: true}
	case Ollama:
		return Caps{Schema: true, Embeddings: true}
	}
	return Caps{}
}

// Load is how busy an engine is. Values it does not report are NaN.
type Load struct {
	Running, Waiting float64 // requests
	Cache            float64 // share of the key-value cache in use, 0 to 1
	PromptTokens     float64 // since the start
	PredictedTokens  float64
}

// loadNames maps the metrics of all makes; a name belongs to one make only.
var loadNames = map[string]func(*Load) *float64{
	"vllm:num_requests_running":      func(l *Load) *float64 { return &l.Running },
	"vllm:num_requests_waiting":      func(l *Load) *float64 { return &l.Waiting },
	"vllm:kv_cache_usage_perc":       func(l *Load) *float64 { return &l.Cache },
	"vllm:gpu_cache_usage_perc":      func(l *Load) *float64 { return &l.Cache },
	"vllm:prompt_tokens_total":       func(l *Load) *float64 { return &l.PromptTokens },
	"vllm:generation_tokens_total":   func(l *Load) *float64 { return &l.PredictedTokens },
	"sglang:num_running_reqs":        func(l *Load) *float64 { return &l.Running },
	"sglang:num_queue_reqs":          func(l *Load) *float64 { return &l.Waiting },
	"sglang:token_usage":             func(l *Load) *float64 { return &l.Cache },
	"sglang:prompt_tokens_total":     func(l *Load) *float64 { return &l.PromptTokens },
	"sglang:generation_tokens_total": func(l *Load) *float64 { return &l.PredictedTokens },

	"llamacpp:requests_processing":    func(l *Load) *float64 { return &l.Running },
	"llamacpp:requests_deferred":      func(l *Load) *float64 { return &l.Waiting },
	"llamacpp:kv_cache_usage_ratio":   func(l *Load) *float64 { return &l.Cache },
	"llamacpp:prompt_tokens_total":    func(l *Load) *float64 { return &l.PromptTokens },
	"llamacpp:tokens_predicted_total": func(l *Load) *float64 { return &l.PredictedTokens },

	"cocoon_demo:requests_processing":    func(l *Load) *float64 { return &l.Running },
	"cocoon_demo:requests_deferred":      func(l *Load) *float64 { return &l.Waiting },
	"cocoon_demo:prompt_tokens_total":    func(l *Load) *float64 { return &l.PromptTokens },
	"cocoon_demo:tokens_predicted_total": func(l *Load) *float64 { return &l.PredictedTokens },
}

const maxMetrics = 4 << 20

// Slots returns how many requests the engine works on at one time; 0 if it does
// not tell. vLLM and Ollama do not.
func (c *Client) Slots(ctx context.Context) int {
	path := map[Dialect]string{Demo: "/health", LlamaCpp: "/props", SGLang: "/get_server_info"}[c.cfg.Dialect]
	if path == "" {
		return 0
	}
	b, err := c.page(ctx, path, maxMetrics)
	if err != nil {
		return 0
	}
	var says struct {
		Slots  int `json:"slots"`       // demo
		Total  int `json:"total_slots"` // llama.cpp
		States []struct {
			Running int `json:"effective_max_running_requests_per_dp"`
		} `json:"internal_states"` // SGLang, one for each data-parallel rank
	}
	if json.Unmarshal(b, &says) != nil {
		return 0
	}
	n := max(says.Slots, says.Total)
	for _, s := range says.States {
		n += s.Running
	}
	return min(max(n, 0), maxSlots)
}

// maxSlots is the most an engine is believed to do at one time.
const maxSlots = 1 << 16

// Load reads the engine's /metrics. Ollama has none: there the error wraps
// ErrNotReady.
func (c *Client) Load(ctx context.Context) (Load, error) {
	b, err := c.page(ctx, "/metrics", maxMetrics)
	if err != nil {
		return Load{}, err
	}
	return parseLoad(b), nil
}

// parseLoad reads the Prometheus text format. Series of one metric, such as one
// for each model, are added up.
func parseLoad(b []byte) Load {
	nan := math.NaN()
	l := Load{nan, nan, nan, nan, nan}
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, 64<<10)
	for sc.Scan() {
		line := sc.Text()
		name, rest := line, ""
		if i := strings.IndexAny(line, "{ "); i >= 0 {
			name, rest = line[:i], line[i:]
		}
		field, ok := loadNames[name]
		if !ok {
			continue
		}
		if i := strings.LastIndexByte(rest, '}'); i >= 0 {
			rest = rest[i+1:]
		}
		number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
		v, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(v) || v < 0 {
			continue
		}
		if p := field(&l); math.IsNaN(*p) {
			*p = v
		} else {
			*p += v
		}
	}
	return l
}

// Check looks at an engine in three steps, each of which names its own fault:
// it can be reached, it lists model, and it makes one token, or one embedding,
// with it. Model ""
// is the first of the list.
func (c *Client) Check(ctx context.Context, model string) error {
	names, err := c.Models(ctx)
	if err != nil {
		return err
	}
	if model == "" && len(names) > 0 {
		model = names[0]
	}
	found := false
	for _, n := range names {
		// Ollama lists a model without a tag under the tag it means.
		found = found || n == model || n == model+":latest"
	}
	if !found {
		return fmt.Errorf("%w: it does not serve %q, but %q", ErrNotReady, model, names)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, ErrTimeout)
	defer cancel()
	status, b, err := c.trial(ctx, "/v1/chat/completions", model, `"messages":[{"role":"user","content":"Hi"}],"max_tokens":1,"stream":false`)
	if err != nil {
		return err
	}
	if status >= 400 && status < 500 || status == http.StatusNotImplemented {
		// Models of embeddings answer no chat.
		embedStatus, embedded, err := c.trial(ctx, "/v1/embeddings", model, `"input":"Hi"`)
		if err != nil {
			return err
		}
		if usage, ok, err := openai.ScanUsage(embedded); embedStatus == http.StatusOK && err == nil && ok && usage.PromptTokens > 0 {
			return nil
		}
	}
	if status != http.StatusOK {
		return fmt.Errorf("%w: one token of %q gives status %d", ErrNotReady, model, status)
	}
	usage, ok, err := openai.ScanUsage(b)
	if err != nil || !json.Valid(b) {
		return fmt.Errorf("%w: one token of %q gives no JSON", ErrBadAnswer, model)
	}
	if !ok || usage.CompletionTokens == 0 {
		return fmt.Errorf("%w: one token of %q gives no usage, so nothing can be billed", ErrBadAnswer, model)
	}
	return nil
}

// trial asks for something small.
func (c *Client) trial(ctx context.Context, path, model, members string) (status int, body []byte, err error) {
	b := append(openai.AppendString([]byte(`{"model":`), model), ","+members+"}"...)
	resp, err := c.Do(ctx, &Request{Path: path, ContentType: "application/json", Body: b})
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxModels))
	return resp.StatusCode, body, err
}

const checkTimeout = 60 * time.Second
