package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/bench/engine"
	"github.com/cocoon-network/cocoon/bench/load"
	"github.com/cocoon-network/cocoon/bench/topo"
)

// options are what run and soak share.
type options struct {
	cocoon, before, topologies, only, jsonFile, svgFile, profile string
	rounds, streams, memory                                      int
	window                                                       time.Duration
}

func (o *options) flags(f *flag.FlagSet) {
	f.StringVar(&o.cocoon, "cocoon", "bin/cocoon", "the program under test")
	f.StringVar(&o.before, "before", "", "another build, which topologies that end in -before run, as sealed-before; `before` is ours1-before")
	f.StringVar(&o.profile, "profile", "", "directory for CPU and allocation profiles of our roles (they are slower then)")
}

// setup pins this process to the load's cores and starts the engine. Engine on
// the first core, all hops on the second, load on the rest.
func (o *options) setup() (*bench, func(), error) {
	n := runtime.NumCPU()
	if os.Getenv(pinnedVariable) == "" {
		return nil, nil, pinSelf(n)
	}
	programs := []string{o.cocoon, o.before}
	for i, p := range programs {
		if p == "" {
			continue
		}
		var err error
		if programs[i], err = filepath.Abs(p); err != nil {
			return nil, nil, err
		}
		if _, err := os.Stat(programs[i]); err != nil {
			return nil, nil, fmt.Errorf("%w: build it with `make build`", err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	if o.profile != "" {
		if o.profile, err = filepath.Abs(o.profile); err == nil {
			err = os.MkdirAll(o.profile, 0o755)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	dir, err := os.MkdirTemp("", "cocoon-bench-")
	if err != nil {
		return nil, nil, err
	}
	addr, err := topo.FreeAddr()
	if err != nil {
		return nil, nil, err
	}
	b := &bench{loadCores: n, env: topo.Env{Dir: dir, Cocoon: programs[0], Before: programs[1], Self: self, Engine: addr, Hops: []int{1}, Profile: o.profile}}
	if b.engine, err = topo.Start(dir, "engine", []int{0}, nil, self, "engine", "-listen", addr); err != nil {
		return nil, nil, err
	}
	return b, func() {
		b.engine.Stop()
		os.RemoveAll(dir)
	}, nil
}

const pinnedVariable = "COCOON_BENCH_PINNED"

// pinSelf replaces this process by one that lives on the load's cores, before
// the Go runtime counts them.
func pinSelf(n int) error {
	if n < 4 {
		return fmt.Errorf("this machine has %d cores for this process; four are needed: engine, hops, two for the load", n)
	}
	var cores []int
	for c := 2; c < n; c++ {
		cores = append(cores, c)
	}
	runtime.LockOSThread()
	if err := topo.Pin(cores); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return execSelf(self, os.Args, append(os.Environ(), pinnedVariable+"=1"))
}

// runBench is the measurement.
func runBench(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	o.flags(f)
	f.StringVar(&o.topologies, "topologies", "direct,nginx3,haproxy3,ours0,ours1,sealed,receipts", "what is compared")
	f.StringVar(&o.only, "scenarios", "c1,c64,half,burst,paced", "loads")
	f.IntVar(&o.rounds, "rounds", 5, "interleaved rounds")
	f.DurationVar(&o.window, "window", 2*time.Second, "measured time of each load")
	f.IntVar(&o.streams, "streams", 256, "paced streams")
	f.IntVar(&o.memory, "memory", 1000, "open streams of the memory measurement; 0 = none")
	f.StringVar(&o.jsonFile, "json", "", "file for everything measured")
	f.StringVar(&o.svgFile, "svg", "", "file for the picture")
	if err := f.Parse(args); err != nil {
		return err
	}
	b, cleanup, err := o.setup()
	if err != nil {
		return err
	}
	defer cleanup()
	rep := newReport(os.Args)
	var running []*topo.Topology
	defer func() {
		for _, t := range running {
			t.Stop()
		}
	}()
	for _, k := range strings.Split(o.topologies, ",") {
		t, err := topo.StartTopology(ctx, topo.Kind(k), b.env)
		if errors.Is(err, topo.ErrMissing) {
			fmt.Printf("SKIP %s: %v\n", k, err)
			rep.Skipped = append(rep.Skipped, err.Error())
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		running = append(running, t)
	}
	if err := o.takeTurns(ctx, b, running, rep); err != nil {
		return err
	}
	var kinds []topo.Kind
	for _, t := range running {
		t.Stop()
		kinds = append(kinds, t.Kind)
	}
	running = nil
	if o.memory > 0 {
		if err := o.memories(ctx, b, kinds, rep); err != nil {
			return err
		}
	}
	rep.finish()
	rep.print(os.Stdout)
	if o.jsonFile != "" {
		out, err := json.Marshal(rep)
		if err == nil {
			err = os.WriteFile(o.jsonFile, append(out, '\n'), 0o644)
		}
		if err != nil {
			return err
		}
	}
	if o.svgFile != "" {
		return os.WriteFile(o.svgFile, rep.svg(), 0o644)
	}
	return nil
}

// takeTurns lets the topologies take turns: each load at each of them, round
// after round, each round beginning with another one.
func (o *options) takeTurns(ctx context.Context, b *bench, running []*topo.Topology, rep *report) error {
	wanted := strings.Split(o.only, ",")
	for round := range o.rounds {
		anchor := map[string]float64{} // requests a second of the slowest chain
		for _, sc := range scenarios(o.window, o.streams) {
			if !slices.Contains(wanted, sc.Name) {
				continue
			}
			for i := range running {
				t := running[(i+round)%len(running)]
				p := sc.Plan
				if sc.HalfOf != "" {
					if p.Rate = anchor[sc.HalfOf] / 2; p.Rate == 0 {
						continue
					}
				}
				s, err := b.measure(ctx, t, sc.Name, p, round)
				if err != nil {
					return fmt.Errorf("%s at %s: %w", sc.Name, t.Kind, err)
				}
				rate := float64(s.Result.Requests) / s.Result.Seconds
				if old, ok := anchor[sc.Name]; t.Kind != topo.Direct && (!ok || rate < old) {
					anchor[sc.Name] = rate
				}
				rep.Samples = append(rep.Samples, s)
				rep.progress(s)
				if len(s.Result.Errors) > 0 {
					fmt.Print(t.Logs())
				}
			}
		}
	}
	return nil
}

// memories measures each topology afresh and alone: what it held in earlier
// loads is not what these streams need, and nobody shares its program's pages.
func (o *options) memories(ctx context.Context, b *bench, kinds []topo.Kind, rep *report) error {
	for _, kind := range kinds {
		if kind == topo.Direct {
			continue
		}
		env := b.env
		env.Dir = filepath.Join(b.env.Dir, "memory")
		t, err := topo.StartTopology(ctx, kind, env)
		if err != nil {
			return err
		}
		m, err := b.memory(ctx, t, o.memory)
		t.Stop()
		os.RemoveAll(env.Dir)
		if err != nil {
			return err
		}
		rep.Memory = append(rep.Memory, m)
		fmt.Printf("memory  %-9s %d streams: %.1f MB, %.0f streams/GB\n", m.Topology, m.Streams, float64(sum(m.Busy))/(1<<20), m.perGB())
	}
	return nil
}

// runSoak asks many times and checks every answer.
func runSoak(ctx context.Context, args []string) error {
	var o options
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	o.flags(f)
	kind := f.String("topology", "ours1", "what is asked")
	count := f.Int64("requests", 200_000, "how often")
	cancels := f.Float64("cancels", 0.05, "share of callers who hang up")
	conns := f.Int("conns", 64, "connections")
	limit := f.Duration("limit", 30*time.Minute, "most time")
	if err := f.Parse(args); err != nil {
		return err
	}
	b, cleanup, err := o.setup()
	if err != nil {
		return err
	}
	defer cleanup()
	t, err := topo.StartTopology(ctx, topo.Kind(*kind), b.env)
	if err != nil {
		return err
	}
	defer t.Stop()
	r := load.Run(ctx, load.Plan{
		Addrs: t.Addrs, Conns: *conns, Count: *count, Cancel: *cancels, Time: *limit,
		Order: engine.Order{Stream: true, Chunks: 8, Size: 40},
	}, nil, nil)
	bad := int64(0)
	for k, n := range r.Errors {
		bad += n
		fmt.Printf("%s: %d\n", k, n)
	}
	for _, s := range r.Samples {
		fmt.Println(" ", s)
	}
	if len(r.Errors) > 0 {
		fmt.Print(t.Logs())
	}
	fmt.Printf("%s: %d requests in %.0f s: %d complete, %d cancelled by the caller, %d wrong, truncated or refused\n",
		t.Kind, r.Requests+r.Cancelled+bad, r.Seconds, r.Requests, r.Cancelled, bad)
	if _, err := t.CPU(); err != nil {
		return err
	}
	switch {
	case bad > 0:
		return fmt.Errorf("%d answers were not as ordered", bad)
	case r.Requests+r.Cancelled < *count:
		return fmt.Errorf("only %d of %d requests within %v", r.Requests+r.Cancelled, *count, *limit)
	}
	return nil
}

// version asks a peer what it is.
func version(program string, args ...string) string {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		return "not installed"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}
