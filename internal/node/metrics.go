package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/role/client"
	"github.com/cocoon-network/cocoon/internal/role/proxy"
	"github.com/cocoon-network/cocoon/internal/role/worker"
)

// workerStats is what a worker shows.
type workerStats struct {
	worker.Stats
	Engines []engine.MemberStat `json:"engines"`
	WorkerLogs
}

// exposition is a page in the Prometheus text format, version 0.0.4. Labels are
// words of this program and names of models that the root lists: no address, no
// id, no key.
type exposition struct{ bytes.Buffer }

// metric writes one metric; samples are a label with its braces, or "", and the value.
func (e *exposition) metric(name, kind, help string, samples ...any) {
	fmt.Fprintf(e, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	for i := 0; i+1 < len(samples); i += 2 {
		fmt.Fprintf(e, "%s%v %v\n", name, samples[i], samples[i+1])
	}
}

// exposeStats makes metrics of what a role shows of itself.
func exposeStats(stats any) []byte {
	e := &exposition{}
	switch s := stats.(type) {
	case client.Stats:
		e.counters("client", s.CounterStats)
		e.metric("cocoon_client_requests_running", "gauge", "Requests that run now.", "", s.Running())
		e.metric("cocoon_client_proxies_connected", "gauge", "Proxies that are connected and verified.", "", len(s.Connections))
		e.metric("cocoon_client_proxies_suspended", "gauge", "Proxies not used any more: they charged what no request explains.", "", len(s.Suspended))
		broken := 0
		for _, b := range s.Breakers {
			if b.State != "closed" {
				broken++
			}
		}
		e.metric("cocoon_client_proxies_broken", "gauge", "Proxies that calls are kept away from, since too many failed there in a row.", "", broken)
		var paid uint64
		for _, c := range s.Connections {
			paid += c.PaidNano
		}
		e.metric("cocoon_client_charged_nano", "gauge", "What connected proxies have charged so far, in nano.", "", paid)
	case proxy.Stats:
		e.counters("proxy", s.CounterStats)
		clients := 0
		for _, c := range s.Clients {
			clients += c.Running
		}
		e.metric("cocoon_proxy_requests_running", "gauge", "Requests of clients that run or wait for a worker.", "", clients)
		e.metric("cocoon_proxy_clients_connected", "gauge", "Client connections.", "", len(s.Clients))
		type load struct{ connected, enabled, running, places int64 }
		models := map[string]*load{}
		for _, w := range s.Workers {
			name := cocoon.ModelName(w.Model).Base()
			if models[name] == nil {
				models[name] = &load{}
			}
			l := models[name]
			l.connected++
			l.running += int64(w.Running)
			l.places += int64(w.Limit)
			if w.Enabled {
				l.enabled++
			}
		}
		for _, m := range []struct {
			name, help string
			value      func(*load) int64
		}{
			{"workers_connected", "Worker connections by model.", func(l *load) int64 { return l.connected }},
			{"workers_enabled", "Workers that take requests, by model.", func(l *load) int64 { return l.enabled }},
			{"worker_requests_running", "Requests at workers, by model.", func(l *load) int64 { return l.running }},
			{"worker_places", "Requests that workers take at one time, by model.", func(l *load) int64 { return l.places }},
		} {
			var samples []any
			for _, name := range slices.Sorted(maps.Keys(models)) {
				samples = append(samples, fmt.Sprintf("{model=%q}", name), m.value(models[name]))
			}
			e.metric("cocoon_proxy_"+m.name, "gauge", m.help, samples...)
		}
		e.metric("cocoon_proxy_charged_tokens", "gauge", "Adjusted tokens charged to clients, as the ledger says.", "", s.Charged)
		e.metric("cocoon_proxy_committed_tokens", "gauge", "The part of them that is signed for on chain.", "", s.Committed)
		e.metric("cocoon_proxy_paid_tokens", "gauge", "Adjusted tokens paid to workers on chain.", "", s.Paid)
		e.metric("cocoon_proxy_price_nano", "gauge", "Price of an adjusted token in nano.", "", s.Price)
	case workerStats:
		e.counters("worker", s.CounterStats)
		enabled, ready := 0, 0
		if s.Enabled {
			enabled = 1
		}
		earned := int64(0)
		for _, c := range s.Connections {
			earned += c.EarnedTokens
			if c.Ready {
				ready++
			}
		}
		e.metric("cocoon_worker_enabled", "gauge", "1 while requests are taken.", "", enabled)
		e.metric("cocoon_worker_requests_running", "gauge", "Requests that hold a place.", "", s.Active)
		e.metric("cocoon_worker_places", "gauge", "Requests taken at one time.", "", s.MaxActive)
		e.metric("cocoon_worker_coefficient_thousandths", "gauge", "Price factor in thousandths.", "", s.Coefficient)
		e.metric("cocoon_worker_proxies_connected", "gauge", "Proxies that are connected.", "", ready)
		e.metric("cocoon_worker_proxies_suspended", "gauge", "Proxies that get no work since their audit log was not honest.", "", len(s.Suspended))
		e.metric("cocoon_worker_earned_tokens", "gauge", "Adjusted tokens that connected proxies owe or paid.", "", earned)
		// The names of vLLM, for dashboards and autoscalers that know them.
		running, waiting, usage := float64(s.Active), 0.0, 0.0
		told := 0
		for _, m := range s.Engines {
			if m.EngineWaiting != nil {
				waiting += *m.EngineWaiting
			}
			if m.CacheUsage != nil {
				usage += *m.CacheUsage
				told++
			}
		}
		label := fmt.Sprintf("{model_name=%q}", cocoon.ModelName(s.Model).Base())
		e.metric("vllm:num_requests_running", "gauge", "Requests of the network that run here.", label, running)
		e.metric("vllm:num_requests_waiting", "gauge", "Requests that wait inside the engines, where they tell.", label, waiting)
		if told > 0 {
			e.metric("vllm:kv_cache_usage_perc", "gauge", "Share of the engines' cache in use, 0 to 1, on average.", label, usage/float64(told))
		}
	}
	e.process()
	return e.Bytes()
}

func (e *exposition) counters(name string, c role.CounterStats) {
	p := "cocoon_" + name + "_"
	e.metric(p+"requests_total", "counter", "Requests that ended, by outcome; rejected ones cost nothing.",
		`{outcome="success"}`, c.Success, `{outcome="failed"}`, c.Failed, `{outcome="cancelled"}`, c.Cancelled, `{outcome="rejected"}`, c.Rejected)
	e.metric(p+"tokens_total", "counter", "Adjusted tokens of requests that succeeded, by kind.",
		`{kind="prompt"}`, c.Prompt, `{kind="cached"}`, c.Cached, `{kind="completion"}`, c.Completion, `{kind="reasoning"}`, c.Reasoning)
	e.metric(p+"charged_tokens_total", "counter", "Adjusted tokens charged since the process began.", "", c.Total)
}

func (e *exposition) process() {
	at := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(at)
	e.metric("go_goroutines", "gauge", "Goroutines.", "", runtime.NumGoroutine())
	e.metric("go_memstats_heap_alloc_bytes", "gauge", "Bytes of heap objects.", "", at[0].Value.Uint64())
	var pages, resident int64
	if b, err := os.ReadFile("/proc/self/statm"); err == nil {
		if n, err := fmt.Sscan(string(b), &pages, &resident); n == 2 && err == nil {
			e.metric("process_resident_memory_bytes", "gauge", "Resident memory in bytes.", "", resident*int64(os.Getpagesize()))
		}
	}
}

func serveMetrics(stats func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(exposeStats(stats()))
	}
}

// statsPage shows what /jsonstats does to people: single values, then each
// list as a table.
var statsPage = template.Must(template.New("stats").Parse(`<!doctype html><meta charset="utf-8"><title>{{.Title}}</title>
<style>body{font:14px system-ui,sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.2em .5em;text-align:left;font-variant-numeric:tabular-nums}</style>
<h1>{{.Title}}</h1>{{if .Simulated}}<p><strong>SIMULATED</strong>: no hardware protects this network.</p>{{end}}
<table>{{range .Values}}<tr><th>{{index . 0}}</th><td>{{index . 1}}</td></tr>{{end}}</table>
{{range .Lists}}<h2>{{.Name}}</h2>{{if .Rows}}<table><tr>{{range .Head}}<th>{{.}}</th>{{end}}</tr>{{range .Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>{{end}}</table>{{else}}<p>none</p>{{end}}{{end}}
`))

type statsList struct {
	Name string
	Head []string
	Rows [][]string
}

func serveStats(title string, simulated bool, stats func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b, err := json.Marshal(stats())
		var all map[string]json.RawMessage
		if err == nil {
			err = json.Unmarshal(b, &all)
		}
		if err != nil {
			http.Error(w, "the state cannot be shown", http.StatusInternalServerError)
			return
		}
		page := struct {
			Title     string
			Simulated bool
			Values    [][2]string
			Lists     []statsList
		}{Title: title, Simulated: simulated}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if name == "stats" {
				continue // the same again, for programs
			}
			var rows []map[string]json.RawMessage
			if json.Unmarshal(all[name], &rows) != nil || rows == nil {
				page.Values = append(page.Values, [2]string{name, plainJSON(all[name])})
				continue
			}
			l := statsList{Name: name}
			if len(rows) > 0 {
				l.Head = slices.Sorted(maps.Keys(rows[0]))
			}
			for _, row := range rows {
				var cells []string
				for _, h := range l.Head {
					cells = append(cells, plainJSON(row[h]))
				}
				l.Rows = append(l.Rows, cells)
			}
			page.Lists = append(page.Lists, l)
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_ = statsPage.Execute(w, page)
	}
}

// plainJSON is a value without the quotes of a string.
func plainJSON(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil {
		return s
	}
	return strings.TrimSpace(string(v))
}
