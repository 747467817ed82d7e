package api

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// metrics counts what the gateway did. Labels are names of this program only:
// no ids, no models, nothing a caller or a peer wrote.
type metrics struct {
	inFlight atomic.Int64

	mu       sync.Mutex
	requests map[requestLabel]uint64
	errors   map[string]uint64
	seconds  map[string]float64
	tokens   [4]uint64
	cost     uint64
}

type requestLabel struct {
	route  string
	status int
}

var tokenKinds = [4]string{"prompt", "cached", "completion", "reasoning"}

func (m *metrics) request(route string, status int, code string, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.requests == nil {
		m.requests, m.errors, m.seconds = map[requestLabel]uint64{}, map[string]uint64{}, map[string]float64{}
	}
	m.requests[requestLabel{route, status}]++
	m.seconds[route] += took.Seconds()
	if code != "" {
		m.errors[code]++
	}
}

func (m *metrics) final(f Final) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, n := range [4]int64{f.PromptTokens, f.CachedTokens, f.CompletionTokens, f.ReasoningTokens} {
		m.tokens[i] += uint64(max(n, 0))
	}
	m.cost += uint64(f.CostNano)
}

// knownCode returns code if it is one of ours, "other" for an engine's own.
func knownCode(code string) string {
	if code == "" || openai.IsCode(code) {
		return code
	}
	return "other"
}

// serveMetrics writes the Prometheus text format, version 0.0.4.
func (g *Gateway) serveMetrics(x *exchange) error {
	var b bytes.Buffer
	m := &g.metrics
	m.mu.Lock()
	head(&b, "requests_total", "counter", "HTTP requests by route and status; 499 is a caller who left.")
	labels := slices.SortedFunc(maps.Keys(m.requests), func(a, b requestLabel) int {
		return cmp.Or(strings.Compare(a.route, b.route), a.status-b.status)
	})
	for _, l := range labels {
		fmt.Fprintf(&b, "cocoon_gateway_requests_total{route=%q,status=\"%d\"} %d\n", l.route, l.status, m.requests[l])
	}
	head(&b, "request_seconds_total", "counter", "Time spent on requests by route.")
	for _, r := range slices.Sorted(maps.Keys(m.seconds)) {
		fmt.Fprintf(&b, "cocoon_gateway_request_seconds_total{route=%q} %g\n", r, m.seconds[r])
	}
	head(&b, "errors_total", "counter", "Errors told to callers by code.")
	for _, c := range slices.Sorted(maps.Keys(m.errors)) {
		fmt.Fprintf(&b, "cocoon_gateway_errors_total{code=%q} %d\n", c, m.errors[c])
	}
	head(&b, "tokens_total", "counter", "Adjusted tokens as proxies reported them.")
	for i, kind := range tokenKinds {
		fmt.Fprintf(&b, "cocoon_gateway_tokens_total{kind=%q} %d\n", kind, m.tokens[i])
	}
	head(&b, "cost_nano_total", "counter", "Cost of completed calls in nano.")
	fmt.Fprintf(&b, "cocoon_gateway_cost_nano_total %d\n", m.cost)
	m.mu.Unlock()
	head(&b, "requests_in_flight", "gauge", "Requests being served.")
	fmt.Fprintf(&b, "cocoon_gateway_requests_in_flight %d\n", m.inFlight.Load())
	running, waiting := g.queue.state()
	head(&b, "calls_running", "gauge", "Calls that have a place.")
	fmt.Fprintf(&b, "cocoon_gateway_calls_running %d\n", running)
	head(&b, "calls_waiting", "gauge", "Calls that wait for a place.")
	fmt.Fprintf(&b, "cocoon_gateway_calls_waiting %d\n", waiting)
	x.w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	x.w.WriteHeader(http.StatusOK)
	_, _ = x.w.Write(b.Bytes())
	return nil
}

func head(b *bytes.Buffer, name, kind, help string) {
	fmt.Fprintf(b, "# HELP cocoon_gateway_%s %s\n# TYPE cocoon_gateway_%s %s\n", name, help, name, kind)
}
