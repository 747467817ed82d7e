package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/bench/load"
	"github.com/cocoon-network/cocoon/bench/topo"
)

// made is a report of five rounds in which each topology's p50 and rate are
// given, with one change.
func made(change func(round int, s *sample)) *report {
	r := &report{}
	for round := range 5 {
		for kind, ms := range map[topo.Kind]int{topo.Direct: 100, topo.Nginx3: 300, topo.Ours1: 340} {
			s := &sample{Scenario: "c1", Topology: kind, Round: round, Result: &load.Result{Seconds: 1, Requests: int64(100000 / ms)}, CPU: 0.5}
			s.Result.Latency.Add(time.Duration(ms) * time.Millisecond)
			change(round, s)
			r.Samples = append(r.Samples, s)
		}
	}
	r.finish()
	return r
}

func TestVerdicts(t *testing.T) {
	quiet := made(func(int, *sample) {})
	if len(quiet.Noise) > 0 || len(quiet.Ratios) != 1 {
		t.Fatalf("noise %v, %d ratios", quiet.Noise, len(quiet.Ratios))
	}
	if q := quiet.Ratios[0]; q.Median < 1.15 || q.Median > 1.25 || q.Met == nil || !*q.Met {
		t.Errorf("P1 is %+v, want 1.2 and met", q)
	}
	for name, change := range map[string]func(int, *sample){
		"varies by": func(round int, s *sample) {
			if s.Topology == topo.Direct && round == 2 {
				s.Result.Requests /= 2
			}
		},
		"other processes": func(_ int, s *sample) { s.Foreign = 0.3 },
		"own cores": func(round int, s *sample) {
			if s.Topology == topo.Ours1 && round == 4 {
				s.LoadUse = 0.95
			}
		},
	} {
		r := made(change)
		if len(r.Noise) != 1 || !strings.Contains(r.Noise[0], name) || r.Ratios[0].Met != nil {
			t.Errorf("%s: noise %q, verdict %v", name, r.Noise, r.Ratios[0].Met)
		}
		var out bytes.Buffer
		r.print(&out)
		if !strings.Contains(out.String(), "noisy machine: no verdict") {
			t.Errorf("%s: the text does not say so", name)
		}
	}
	d := xml.NewDecoder(bytes.NewReader(quiet.svg()))
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture: %v", err)
		}
	}
}

func TestMicroRatios(t *testing.T) {
	var out bytes.Buffer
	if err := runMicro(strings.NewReader("goos: linux\nBenchmarkSign-4  100  20.0 ns/op  0 B/op\nBenchmarkSignAndCharge-4  50  40.0 ns/op\nPASS\n"), &out); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "P9") || !strings.HasSuffix(strings.TrimSpace(s), "0.50") {
		t.Errorf("%s", s)
	}
}
