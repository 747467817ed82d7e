package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/bench/topo"
)

// report is everything one run measured, and what follows from it.
type report struct {
	Command  string    `json:"command"`
	Time     time.Time `json:"time"`
	Machine  machine   `json:"machine"`
	Skipped  []string  `json:"skipped,omitempty"`
	Samples  []*sample `json:"samples"`
	Memory   []*memory `json:"memory"`
	Noise    []string  `json:"noise"` // why there is no verdict
	Ratios   []*ratio  `json:"ratios"`
	Failures int64     `json:"failures"` // answers of ours that were not as ordered
}

type machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"` // of this process's share; engine and hops have one each beside
	Load    string `json:"load_average_at_start"`
	LoadEnd string `json:"load_average_at_end"`
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	Nginx   string `json:"nginx"`
	Haproxy string `json:"haproxy"`
}

func newReport(args []string) *report {
	r := &report{Command: strings.Join(args, " "), Time: time.Now().UTC()}
	r.Machine = machine{Cores: runtime.NumCPU() + 2, Load: loadAverage(), Go: runtime.Version(), Nginx: version("nginx", "-v"), Haproxy: version("haproxy", "-v"), Kernel: version("uname", "-r"), CPU: "unknown"}
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			r.Machine.CPU = strings.TrimSpace(value)
			break
		}
	}
	return r
}

func loadAverage() string {
	b, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(b))
	return strings.Join(f[:min(3, len(f))], " ")
}

// progress prints one measurement.
func (r *report) progress(s *sample) {
	res := s.Result
	bad := int64(0)
	for _, n := range res.Errors {
		bad += n
	}
	note := ""
	if bad > 0 {
		note = fmt.Sprintf("  %d FAILED %v", bad, res.Samples)
	}
	fmt.Printf("%d %-6s %-9s %8.0f req/s %9.0f pieces/s  p50 %7.3f p99 %8.3f ms  first p99 %8.3f ms  hops %6.1f us/piece, %4.0f%% of a core  foreign %2.0f%%%s\n",
		s.Round+1, s.Scenario, s.Topology, float64(res.Requests)/res.Seconds, float64(res.Chunks)/res.Seconds,
		ms(res.Latency.Quantile(0.5)), ms(res.Latency.Quantile(0.99)), ms(res.First.Quantile(0.99)),
		1e6*s.CPU/float64(max(res.Chunks, 1)), 100*s.CPU/res.Seconds, 100*s.Foreign, note)
}

func ms(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// goal is a ratio that is asked for, after the number in the list of goals.
type goal struct {
	ID, Text, Scenario string
	Most               bool // the ratio may be at most Bar, else at least
	Bar                float64
	value              func(of, direct *sample) float64
}

func added(q float64, first bool) func(of, direct *sample) float64 {
	at := func(s *sample) float64 {
		if first {
			return ms(s.Result.First.Quantile(q))
		}
		return ms(s.Result.Latency.Quantile(q))
	}
	return func(of, direct *sample) float64 {
		if direct == nil {
			return math.NaN()
		}
		return at(of) - at(direct)
	}
}

var goals = []goal{
	{"P1", "added p50, one connection (ms)", "c1", true, 1.5, added(0.5, false)},
	{"P2", "added p99, half of max load (ms)", "half", true, 2, added(0.99, false)},
	{"P3", "requests/s, hops on one core, 64 connections", "c64", false, 0.6, func(s, _ *sample) float64 { return float64(s.Result.Requests) / s.Result.Seconds }},
	{"", "CPU per request, 64 connections (us)", "c64", true, 1 / 0.6, func(s, _ *sample) float64 { return 1e6 * s.CPU / float64(s.Result.Requests) }},
	{"P4", "CPU per paced token (us)", "paced", true, 0.7, func(s, _ *sample) float64 { return 1e6 * s.CPU / float64(s.Result.Chunks) }},
	{"P5", "tokens/s, hops on one core, burst", "burst", false, 0.8, func(s, _ *sample) float64 { return float64(s.Result.Chunks) / s.Result.Seconds }},
	{"P6", "added first token p99, paced streams (ms)", "paced", true, 1, added(0.99, true)},
}

// ratio is one chain's value beside three nginx's, round by round.
type ratio struct {
	Goal     string    `json:"goal"`
	Text     string    `json:"text"`
	Topology topo.Kind `json:"topology"`
	Most     bool      `json:"at_most"`
	Bar      float64   `json:"bar"`
	Rounds   []float64 `json:"rounds"`
	Median   float64   `json:"median"`
	Low      float64   `json:"low"`
	High     float64   `json:"high"`
	Value    float64   `json:"value_median"`
	Base     float64   `json:"nginx3_median"`
	Met      *bool     `json:"met"` // nil: no verdict
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// oursKinds are the chains that are judged.
var oursKinds = []topo.Kind{topo.Ours0, topo.Ours1, topo.Sealed, topo.Receipts, topo.Before}

// finish computes ratios, noise and verdicts.
func (r *report) finish() {
	r.Machine.LoadEnd = loadAverage()
	find := func(scenario string, kind topo.Kind, round int) *sample {
		for _, s := range r.Samples {
			if s.Scenario == scenario && s.Topology == kind && s.Round == round {
				return s
			}
		}
		return nil
	}
	rounds := 0
	for _, s := range r.Samples {
		rounds = max(rounds, s.Round+1)
		if slices.Contains(oursKinds, s.Topology) {
			for _, n := range s.Result.Errors {
				r.Failures += n
			}
		}
	}
	r.Noise = r.noise(rounds)
	for _, g := range goals {
		for _, kind := range append([]topo.Kind{topo.Haproxy3}, oursKinds...) {
			out := &ratio{Goal: g.ID, Text: g.Text, Topology: kind, Most: g.Most, Bar: g.Bar}
			var values, bases []float64
			for round := range rounds {
				base, of, direct := find(g.Scenario, topo.Nginx3, round), find(g.Scenario, kind, round), find(g.Scenario, topo.Direct, round)
				if base == nil || of == nil {
					continue
				}
				v, b := g.value(of, direct), g.value(base, direct)
				if q := v / b; b > 0 && !math.IsNaN(q) && !math.IsInf(q, 0) {
					out.Rounds = append(out.Rounds, q)
					values, bases = append(values, v), append(bases, b)
				}
			}
			if len(out.Rounds) == 0 {
				continue
			}
			out.Median, out.Low, out.High = median(out.Rounds), slices.Min(out.Rounds), slices.Max(out.Rounds)
			out.Value, out.Base = median(values), median(bases)
			if met := out.Median >= g.Bar; len(r.Noise) == 0 {
				if g.Most {
					met = out.Median <= g.Bar
				}
				out.Met = &met
			}
			r.Ratios = append(r.Ratios, out)
		}
	}
}

// Bounds of a quiet machine.
const (
	maxSpread   = 0.25 // of the direct way's own throughput
	maxForeign  = 0.10 // of all cores taken by others, median
	maxLoadUse  = 0.90 // of the load's own cores
	leastRounds = 5
)

// noise says why this run allows no verdict; empty if it does.
func (r *report) noise(rounds int) []string {
	out := []string{}
	if rounds < leastRounds {
		out = append(out, fmt.Sprintf("%d rounds; a verdict takes %d", rounds, leastRounds))
	}
	direct := map[string][]float64{}
	var foreign []float64
	busiest := 0.0
	for _, s := range r.Samples {
		foreign = append(foreign, s.Foreign)
		if s.Topology == topo.Direct {
			if s.Scenario == "c1" || s.Scenario == "c64" {
				direct[s.Scenario] = append(direct[s.Scenario], float64(s.Result.Requests)/s.Result.Seconds)
			}
			continue // there the load itself is what limits
		}
		busiest = max(busiest, s.LoadUse)
	}
	for _, name := range []string{"c1", "c64"} {
		v := direct[name]
		if len(v) == 0 {
			continue
		}
		if spread := (slices.Max(v) - slices.Min(v)) / median(v); spread > maxSpread {
			out = append(out, fmt.Sprintf("the direct way's own throughput (%s) varies by %.0f%%, more than %.0f%%", name, 100*spread, 100*maxSpread))
		}
	}
	if f := median(foreign); f > maxForeign {
		out = append(out, fmt.Sprintf("other processes took %.0f%% of the machine, more than %.0f%%", 100*f, 100*maxForeign))
	}
	if busiest > maxLoadUse {
		out = append(out, fmt.Sprintf("the load's own cores were %.0f%% busy, more than %.0f%%", 100*busiest, 100*maxLoadUse))
	}
	return out
}

// print writes the ratios side by side.
func (r *report) print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "\n%s, %d cores, Linux %s, %s, %s, %s\nload average %s at the start, %s at the end\n\n", m.CPU, m.Cores, m.Kernel, m.Go, m.Nginx, m.Haproxy, m.Load, m.LoadEnd)
	fmt.Fprintf(w, "%-4s %-46s %-9s %10s %10s  %7s %15s  %-8s %s\n", "goal", "", "", "value", "nginx x3", "ratio", "range", "bar", "verdict")
	for _, q := range r.Ratios {
		sign := ">="
		if q.Most {
			sign = "<="
		}
		verdict := "-"
		if q.Met != nil {
			verdict = map[bool]string{true: "met", false: "NOT MET"}[*q.Met]
		}
		if q.Topology == topo.Haproxy3 {
			verdict = ""
		}
		fmt.Fprintf(w, "%-4s %-46s %-9s %10.3g %10.3g  %7.2f  %5.2f to %5.2f  %s %-5.3g %s\n", q.Goal, q.Text, q.Topology, q.Value, q.Base, q.Median, q.Low, q.High, sign, q.Bar, verdict)
	}
	r.printPairs(w)
	for _, m := range r.Memory {
		fmt.Fprintf(w, "P7   memory %-9s %d streams: %.1f MB idle, %.1f MB busy: %.0f streams/GB whole chain, %.0f middle hop by growth %s\n",
			m.Topology, m.Streams, float64(sum(m.Idle))/(1<<20), float64(sum(m.Busy))/(1<<20), m.perGB(), m.proxyPerGB(), errorsText(m.Errors))
	}
	fmt.Fprintf(w, "answers of ours that were not as ordered: %d\n", r.Failures)
	if len(r.Noise) > 0 {
		fmt.Fprintf(w, "noisy machine: no verdict\n")
		for _, n := range r.Noise {
			fmt.Fprintf(w, "  %s\n", n)
		}
	}
	for _, s := range r.Skipped {
		fmt.Fprintf(w, "SKIP %s\n", s)
	}
}

// printPairs says what a chain costs beside the one it is compared with:
// sealing beside none, receipts beside none, a build beside the one before.
func (r *report) printPairs(w io.Writer) {
	type cell struct {
		scenario string
		kind     topo.Kind
		round    int
	}
	all := map[cell]*sample{}
	for _, s := range r.Samples {
		all[cell{s.Scenario, s.Topology, s.Round}] = s
	}
	compare := func(kind, with topo.Kind) {
		cpu, latency := map[string][]float64{}, map[string][]float64{}
		for _, s := range r.Samples {
			p := all[cell{s.Scenario, with, s.Round}]
			if s.Topology != kind || p == nil || s.CPU <= 0 || p.CPU <= 0 || s.Result.Chunks == 0 || p.Result.Chunks == 0 {
				continue
			}
			cpu[s.Scenario] = append(cpu[s.Scenario], (s.CPU/float64(s.Result.Chunks))/(p.CPU/float64(p.Result.Chunks)))
			latency[s.Scenario] = append(latency[s.Scenario], ms(s.Result.Latency.Quantile(0.5)-p.Result.Latency.Quantile(0.5)))
		}
		for _, name := range slices.Sorted(maps.Keys(cpu)) {
			v, l := cpu[name], latency[name]
			fmt.Fprintf(w, "     CPU a piece, %-32s %7.2f  %5.2f to %5.2f   p50 %+.3f ms\n", fmt.Sprintf("%s to %s, %s", kind, with, name), median(v), slices.Min(v), slices.Max(v), median(l))
		}
	}
	for _, kind := range []topo.Kind{topo.Sealed, topo.Receipts} {
		compare(kind, topo.Ours1)
	}
	for _, kind := range oursKinds {
		compare(kind, kind+"-before")
	}
	compare(topo.Ours1, topo.Before)
}

func errorsText(m map[string]int64) string {
	if len(m) == 0 {
		return ""
	}
	return fmt.Sprintf("FAILED %v", m)
}
