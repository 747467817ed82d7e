package node

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/role/worker"
)

const secretAddress = "EQsecret-address"

func someStats() map[string]any {
	waiting, usage := 3.0, 0.25
	c := role.CounterStats{Queries: 7, Success: 4, Failed: 2, Cancelled: 1, Prompt: 10, Total: 50}
	return map[string]any{
		"client": client.Stats{Owner: secretAddress, CounterStats: c, Connections: []client.ConnectionStat{{Address: secretAddress, Contract: secretAddress, Running: 2, PaidNano: 40}},
			Breakers: []client.BreakerStat{{ContractKey: secretAddress, State: "open"}, {ContractKey: secretAddress, State: "closed", Failures: 1}}},
		"proxy": proxy.Stats{Owner: secretAddress, Contract: secretAddress, CounterStats: c, Charged: 50, Price: 20,
			Clients: []proxy.ClientStat{{Owner: secretAddress, Running: 2}},
			Workers: []proxy.WorkerStat{{Owner: secretAddress, Address: secretAddress, Model: "m@1:2", Running: 1, Limit: 4, Enabled: true}, {Model: "m@1:2", Limit: 4}, {Model: `<b>"`, Limit: 1}}},
		"worker": workerStats{Stats: worker.Stats{Model: "m@1:2", Owner: secretAddress, Enabled: true, Active: 2, MaxActive: 4, CounterStats: c,
			Connections: []worker.ConnectionStat{{Address: secretAddress, Ready: true, EarnedTokens: 9}}},
			Engines:    []engine.MemberStat{{Engine: secretAddress, EngineWaiting: &waiting, CacheUsage: &usage}},
			WorkerLogs: WorkerLogs{Suspended: []client.Suspension{{Endpoint: secretAddress, ContractKey: secretAddress}}}},
	}
}

// TestMetrics: each role's page is in the text format, says what was counted,
// and names nobody.
func TestMetrics(t *testing.T) {
	line := regexp.MustCompile(`^([a-z_:]+)(\{[a-z_]+="(?:[^"\\]|\\.)*"\})? -?[0-9.e+]+$`)
	want := map[string][]string{
		"client": {`cocoon_client_requests_total{outcome="success"} 4`, "cocoon_client_requests_running 2", "cocoon_client_proxies_connected 1", "cocoon_client_proxies_broken 1", "cocoon_client_charged_nano 40"},
		"proxy": {`cocoon_proxy_requests_total{outcome="failed"} 2`, "cocoon_proxy_requests_running 2", `cocoon_proxy_workers_connected{model="m"} 2`,
			`cocoon_proxy_workers_enabled{model="m"} 1`, `cocoon_proxy_worker_places{model="m"} 8`, "cocoon_proxy_charged_tokens 50", "cocoon_proxy_price_nano 20"},
		"worker": {`cocoon_worker_requests_total{outcome="cancelled"} 1`, "cocoon_worker_requests_running 2", "cocoon_worker_enabled 1", "cocoon_worker_earned_tokens 9",
			`vllm:num_requests_running{model_name="m"} 2`, `vllm:num_requests_waiting{model_name="m"} 3`, `vllm:kv_cache_usage_perc{model_name="m"} 0.25`},
	}
	for name, stats := range someStats() {
		text := string(exposeStats(stats))
		if strings.Contains(text, secretAddress) {
			t.Errorf("%s: an address is in the metrics", name)
		}
		typed := map[string]bool{}
		for _, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
			if rest, ok := strings.CutPrefix(l, "# TYPE "); ok {
				typed[strings.Fields(rest)[0]] = true
				continue
			}
			m := line.FindStringSubmatch(l)
			if !strings.HasPrefix(l, "# HELP ") && (m == nil || !typed[m[1]]) {
				t.Errorf("%s: bad line %q", name, l)
			}
		}
		for _, w := range want[name] {
			if !strings.Contains(text, "\n"+w+"\n") {
				t.Errorf("%s: no line %q in\n%s", name, w, text)
			}
		}
	}
	if text := string(exposeStats(map[string]any{"waiting": "starting"})); !strings.Contains(text, "go_goroutines ") {
		t.Errorf("a role that is starting: %s", text)
	}
}

// TestStatsPage: the page shows every value and list, and nothing that a peer
// named becomes markup.
func TestStatsPage(t *testing.T) {
	for name, stats := range someStats() {
		w := httptest.NewRecorder()
		serveStats("cocoon "+name, true, func() any { return stats })(w, httptest.NewRequest("GET", "/stats", nil))
		page := w.Body.String()
		for _, part := range []string{"SIMULATED", "<th>queries</th><td>7</td>", secretAddress} {
			if !strings.Contains(page, part) {
				t.Errorf("%s: %q is not in the page:\n%s", name, part, page)
			}
		}
		if strings.Contains(page, "<b>") {
			t.Errorf("%s: a model's name became markup", name)
		}
	}
}
