package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/cocoon-network/cocoon/bench/engine"
	"github.com/cocoon-network/cocoon/bench/load"
	"github.com/cocoon-network/cocoon/bench/topo"
)

// scenario is one kind of load.
type scenario struct {
	Name string
	Text string
	Plan load.Plan
	// HalfOf is the scenario whose direct peer's throughput, halved, is the
	// rate of this open loop. "" = as the Plan says.
	HalfOf string
}

// answerPieces of pieceSize bytes make an answer of about 700 bytes.
const (
	answerPieces = 4
	pieceSize    = 128
)

// scenarios are performance 7's loads. window is the time measured in each.
func scenarios(window time.Duration, streams int) []scenario {
	warm := max(window/4, 200*time.Millisecond)
	plan := func(conns int, o engine.Order) load.Plan {
		return load.Plan{Conns: conns, Order: o, Warm: warm, Time: window}
	}
	short := engine.Order{Chunks: answerPieces, Size: pieceSize}
	paced := plan(streams, engine.Order{Stream: true, Chunks: 50, Size: 24, Pace: 20 * time.Millisecond})
	// Streams begin at different times only after the first few.
	paced.Warm, paced.Time = 1500*time.Millisecond, max(2*window, 3*time.Second)
	return []scenario{
		{Name: "c1", Text: "one connection, whole answers of 700 bytes", Plan: plan(1, short)},
		{Name: "c64", Text: "64 connections, whole answers of 700 bytes", Plan: plan(64, short)},
		{Name: "half", Text: "Poisson arrivals at half of what the slowest chain can do", Plan: plan(128, short), HalfOf: "c64"},
		{Name: "burst", Text: "16 streams of 200 events as fast as they go", Plan: plan(16, engine.Order{Stream: true, Chunks: 200, Size: 24})},
		{Name: "paced", Text: fmt.Sprintf("%d streams, an event each 20 ms", streams), Plan: paced},
	}
}

// sample is one scenario at one topology in one round.
type sample struct {
	Scenario string       `json:"scenario"`
	Topology topo.Kind    `json:"topology"`
	Round    int          `json:"round"`
	Result   *load.Result `json:"result"`
	CPU      float64      `json:"hops_cpu_seconds"` // all hops, within the measured time
	// Foreign is the share of the machine that neither the hops, the engine nor
	// the load took; Load is how busy the load's own cores were.
	Foreign float64 `json:"foreign_share"`
	LoadUse float64 `json:"load_share"`
	Rate    float64 `json:"open_loop_rate,omitempty"`
}

// bench is a running measurement.
type bench struct {
	engine    *topo.Process
	env       topo.Env
	loadCores int
	cores     int
}

// account is what was taken up to a moment.
type account struct {
	hops, engine, self time.Duration
	busy, all          int64
}

func (b *bench) account(t *topo.Topology) (a account, err error) {
	if a.hops, err = t.CPU(); err != nil {
		return a, err
	}
	if a.engine, err = b.engine.CPU(); err != nil {
		return a, err
	}
	if a.self, err = topo.CPU(os.Getpid()); err != nil {
		return a, err
	}
	a.busy, a.all, err = topo.Machine()
	return a, err
}

// measure runs a plan at a topology.
func (b *bench) measure(ctx context.Context, t *topo.Topology, name string, p load.Plan, round int) (*sample, error) {
	p.Addrs = t.Addrs
	var from, to account
	var err1, err2 error
	s := &sample{Scenario: name, Topology: t.Kind, Round: round, Rate: p.Rate}
	s.Result = load.Run(ctx, p, func() { from, err1 = b.account(t) }, func() { to, err2 = b.account(t) })
	if err1 != nil {
		return nil, err1
	}
	if err2 != nil {
		return nil, err2
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.CPU = (to.hops - from.hops).Seconds()
	ours := (to.hops - from.hops + to.engine - from.engine + to.self - from.self).Seconds()
	const tick = 0.01
	if all := float64(to.all-from.all) * tick; all > 0 {
		s.Foreign = max(float64(to.busy-from.busy)*tick-ours, 0) / all
	}
	s.LoadUse = (to.self - from.self).Seconds() / (s.Result.Seconds * float64(b.loadCores))
	return s, nil
}

// memory opens streams at a topology and reads what all hops hold.
type memory struct {
	Topology topo.Kind        `json:"topology"`
	Streams  int              `json:"streams"`
	Idle     map[string]int64 `json:"idle_pss"`
	Busy     map[string]int64 `json:"busy_pss"`
	Errors   map[string]int64 `json:"errors,omitempty"`
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// perGB is how many such streams a gigabyte of the chain carries.
func (m *memory) perGB() float64 { return float64(m.Streams) / (float64(sum(m.Busy)) / (1 << 30)) }

// proxyPerGB is the same for the middle hop alone, by growth: it serves many
// clients.
func (m *memory) proxyPerGB() float64 {
	for _, name := range []string{"proxy", "nginx-2", "haproxy-2"} {
		if busy, ok := m.Busy[name]; ok {
			return float64(m.Streams) / (float64(max(busy-m.Idle[name], 1)) / (1 << 30))
		}
	}
	return 0
}

func (b *bench) memory(ctx context.Context, t *topo.Topology, streams int) (*memory, error) {
	m := &memory{Topology: t.Kind, Streams: streams}
	var err error
	if m.Idle, err = t.PSS(); err != nil {
		return nil, err
	}
	// Every stream lasts longer than the look.
	p := load.Plan{Addrs: t.Addrs, Conns: streams, Count: int64(streams), Warm: 8 * time.Second, Time: 20 * time.Second,
		Order: engine.Order{Stream: true, Chunks: 120, Size: 24, Pace: 100 * time.Millisecond}}
	var err1 error
	r := load.Run(ctx, p, func() { m.Busy, err1 = t.PSS() }, nil)
	m.Errors = r.Errors
	return m, err1
}
