package main

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// microRatios are pairs of package benchmarks whose ratio says more than either.
var microRatios = []struct {
	Text, Of, To string
	Faster       bool // the ratio is that of rates, not of times
}{
	{"P9  payment states signed and charged durably, to bare Ed25519 signing (rate)", "SignAndCharge", "Sign", true},
	{"    CPU of all the accounting of one request, to that of one bare Ed25519 signature", "Accounting:cpu", "Sign:cpu", false},
	{"    payment signed with its cell hash, to bare Ed25519 signing (time)", "SignPayment", "Ed25519", false},
	{"P8  mutual handshake with simulated evidence, to plain mutual TLS (rate)", "Handshake/simulated", "Handshake/none", true},
	{"    the same with the session of level 1, statements known, to plain mutual TLS (rate)", "Handshake/level_1", "Handshake/mutual_TLS", true},
}

// microAims are times that a benchmark should stay under, on a quiet machine.
var microAims = []struct {
	Text, Of string
	Aim      float64 // ns
}{
	{"    choice of a worker among 1,000, place taken and given back (aim 2 µs)", "Choice", 2000},
	{"    appraisal of a TDX quote with its collateral, not remembered (aim 10 ms)", "Verifier/judged", 1e7},
}

// runMicro copies `go test -bench` output and prints the ratios of its lines.
func runMicro(r io.Reader, w io.Writer) error {
	ns := map[string]float64{}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		line := sc.Text()
		if name, v, ok := benchLine(line); ok {
			ns[name] = v
			if cpu, ok := metric(line, "cpu-ns/op"); ok {
				ns[name+":cpu"] = cpu
			}
			fmt.Fprintln(w, line)
		} else if strings.HasPrefix(line, "---") || strings.HasPrefix(line, "FAIL") || strings.HasPrefix(line, "panic") || strings.HasPrefix(line, "    ") {
			fmt.Fprintln(w, line)
		}
	}
	for _, m := range microRatios {
		of, to := ns[m.Of], ns[m.To]
		if of == 0 || to == 0 {
			continue
		}
		q := of / to
		if m.Faster {
			q = to / of
		}
		fmt.Fprintf(w, "%-82s %6.2f\n", m.Text, q)
	}
	for _, m := range microAims {
		if v := ns[m.Of]; v > 0 {
			fmt.Fprintf(w, "%-82s %6.2f µs, %.2f of the aim\n", m.Text, v/1000, v/m.Aim)
		}
	}
	return sc.Err()
}

// metric reads "… 123 UNIT …" from a line of a benchmark.
func metric(line, unit string) (float64, bool) {
	f := strings.Fields(line)
	for i := 1; i < len(f); i++ {
		if f[i] == unit {
			v, err := strconv.ParseFloat(f[i-1], 64)
			return v, err == nil
		}
	}
	return 0, false
}

// benchLine reads "BenchmarkName-4  100  123 ns/op …".
func benchLine(line string) (name string, ns float64, ok bool) {
	f := strings.Fields(line)
	if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") || f[3] != "ns/op" {
		return "", 0, false
	}
	name = strings.TrimPrefix(f[0], "Benchmark")
	if i := strings.LastIndexByte(name, '-'); i > 0 {
		if _, err := strconv.Atoi(name[i+1:]); err == nil {
			name = name[:i]
		}
	}
	ns, err := strconv.ParseFloat(f[2], 64)
	return name, ns, err == nil
}
