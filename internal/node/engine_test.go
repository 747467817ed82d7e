//go:build !tee

package node

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/engine/modelhash"
	"github.com/cocoon-network/cocoon/internal/role/worker"
)

// startPool runs a pool until the test ends.
func startPool(t *testing.T, model string, sources ...engine.Source) *engine.Pool {
	t.Helper()
	p, err := engine.NewPool(engine.PoolConfig{Model: model}, sources)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	return p
}

func standInAt(t *testing.T, s *enginetest.StandIn) string {
	t.Helper()
	srv := httptest.NewServer(s)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// TestWorkerFollowsItsEngines: proxies hear how many requests the engines can
// do, also when that changes, and what the worker asks for; an engine that dies
// costs nobody an answer that had not begun.
func TestWorkerFollowsItsEngines(t *testing.T) {
	n := startNet(t)
	var dead atomic.Bool
	name := n.model.Base()
	dying := &enginetest.StandIn{Model: name, Fault: func() enginetest.Fault {
		if dead.Load() {
			return enginetest.CutHead
		}
		return enginetest.None
	}}
	url, other := standInAt(t, dying), standInAt(t, &enginetest.StandIn{Model: name})
	source := func(url string, slots int) engine.Source {
		return engine.Source{Config: engine.Config{BaseURL: url}, Slots: slots}
	}
	p := startPool(t, name, source(url, 4), source(other, 3))
	w := n.startWorker(1, &enginetest.StandIn{}, func(c *worker.Config) { c.Engine, c.Capacity = p, p.Capacity })
	listed := func() string {
		models, err := n.client.Models(t.Context())
		if err != nil || len(models) != 1 || len(models[0].Workers) != 1 {
			return fmt.Sprint(models, err)
		}
		x := models[0].Workers[0]
		return fmt.Sprintf("%d at %d", x.MaxActiveRequests, x.Coefficient)
	}
	n.eventually("seven places are listed", func() bool { return listed() == "7 at 1000" })
	dead.Store(true)
	var wg sync.WaitGroup
	for range 7 {
		wg.Go(func() {
			for range 4 {
				if r := n.ask(t.Context(), true, 10, 0); !r.done {
					t.Errorf("%+v", r)
				}
			}
		})
	}
	wg.Wait()
	if err := p.Set([]engine.Source{source(other, 5)}); err != nil {
		t.Fatal(err)
	}
	if err := w.role.Adjust(500, 0); err != nil {
		t.Fatal(err)
	}
	n.eventually("five places at half the price", func() bool { return listed() == "5 at 500" })
	if r := n.ask(t.Context(), false, 10, 0); !r.done {
		t.Errorf("%+v", r)
	}
}

// TestWorkerWithMoreThanItsEngines: requests above the engine's places wait
// their turn, and all are answered.
func TestWorkerWithMoreThanItsEngines(t *testing.T) {
	n := startNet(t)
	name := n.model.Base()
	one := &enginetest.StandIn{Model: name, Pace: time.Millisecond}
	most := atomic.Int64{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one.ServeHTTP(w, r)
		most.Store(max(most.Load(), one.Active.Load()+1))
	}))
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	p := startPool(t, name, engine.Source{Config: engine.Config{BaseURL: srv.URL}, Slots: 2})
	n.startWorker(1, &enginetest.StandIn{}, func(c *worker.Config) { c.Engine, c.Capacity, c.MaxActive = p, p.Capacity, 12 })
	n.waitWorkers(1)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if r := n.ask(t.Context(), true, 10, 0); !r.done || r.text != words(10) {
				t.Errorf("%+v", r)
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 { // two requests and a look at the models
		t.Errorf("%d at one time at an engine with two places", most.Load())
	}
}

// TestEngineConfiguration: what cannot be is refused before anything runs, with
// what to do about it.
func TestEngineConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "m.gguf")
	if err := os.WriteFile(file, []byte("weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := modelhash.Hash(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	full, err := modelhash.Name("m", "1", root)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	open := func(change func(*Config)) (*engines, error) {
		c := Default("worker")
		c.Measured.Model = string(full)
		change(&c)
		return openEngines(t.Context(), &c, quiet())
	}
	for _, c := range []struct {
		name, say string
		change    func(*Config)
	}{
		{"nothing", "measured.engine is missing", func(c *Config) {}},
		{"no engine in sight", "no engine was found", func(c *Config) { c.Measured.Engine = "auto" }},
		{"a make that is not installed", `"vllm" is not in PATH`, func(c *Config) { c.Measured.Engine, c.Measured.ModelPath = "vllm", file }},
		{"a make without a model", "measured.model_path is missing", func(c *Config) { c.Measured.Engine = "sglang" }},
		{"Ollama", "give its URL", func(c *Config) { c.Measured.Engine, c.Measured.ModelPath = "ollama", file }},
		{"no model", "measured.model is missing", func(c *Config) { c.Measured.Engine, c.Measured.Model = "http://127.0.0.1:8000", "" }},
		{"a file and no full name", "not a full model name", func(c *Config) {
			c.Measured.Engine, c.Measured.Model, c.Measured.ModelPath = "http://127.0.0.1:8000", "m@1:0", file
		}},
		{"a word", "neither a URL nor", func(c *Config) { c.Measured.Engine = "somewhere" }},
		{"a key that others may read", "chmod 600", func(c *Config) {
			path := filepath.Join(dir, "key")
			if err := os.WriteFile(path, []byte("k"), 0o644); err != nil {
				t.Fatal(err)
			}
			c.Measured.Engine, c.Runtime.EngineKeyFile = "http://127.0.0.1:8000", path
		}},
	} {
		if _, err := open(c.change); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.say)
		}
	}
	// Files are checked before anything is served.
	e, err := open(func(c *Config) { c.Measured.Engine, c.Measured.ModelPath = "http://127.0.0.1:8000", file })
	if err != nil {
		t.Fatal(err)
	}
	if err := e.pool.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "being checked") {
		t.Errorf("before the check: %v", err)
	}
	if err := e.verify(t.Context()); err != nil {
		t.Errorf("the right file: %v", err)
	}
	if err := os.WriteFile(file, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.verify(t.Context()); err == nil || !strings.Contains(err.Error(), "not those of its name") {
		t.Errorf("another file: %v", err)
	}
	// The key comes from the environment first.
	c, err := Load("worker", "", []string{EngineKeyVariable + "=k-4711"})
	if err != nil {
		t.Fatal(err)
	}
	if key, err := c.engineKey(); err != nil || key != "k-4711" {
		t.Errorf("%q, %v", key, err)
	}
	var b strings.Builder
	if err := c.Write(&b); err != nil || strings.Contains(b.String(), "k-4711") {
		t.Errorf("the configuration is printed with the key (%v)", err)
	}
}

// TestReload: what can change while requests run is taken over from the file, a
// mistake in it changes nothing, and a request that runs is not dropped.
func TestReload(t *testing.T) {
	n := startNet(t)
	name := n.model.Base()
	hold := make(chan struct{})
	slow := &enginetest.StandIn{Model: name, Tokens: 3}
	first := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > 130 { // not the warm-up
			<-hold
		}
		slow.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { first.CloseClientConnections(); first.Close() })
	next := &enginetest.StandIn{Model: name}
	nextURL := standInAt(t, next)
	path := filepath.Join(t.TempDir(), "worker.toml")
	write := func(engine string, more string) {
		text := fmt.Sprintf("role = \"worker\"\n[measured]\nengine = %q\nmodel = %q\n[runtime]\n%s\n", engine, n.model, more)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(first.URL, "engine_slots = 3\ncoefficient = 1000")
	c, err := Load("worker", path, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := openEngines(t.Context(), c, n.log)
	if err != nil {
		t.Fatal(err)
	}
	w := n.startWorker(1, &enginetest.StandIn{}, func(c *worker.Config) { c.Engine, c.Capacity = e.pool, e.pool.Capacity })
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.pool.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	listed := func() string {
		models, err := n.client.Models(t.Context())
		if err != nil || len(models) != 1 || len(models[0].Workers) != 1 {
			return fmt.Sprint(models, err)
		}
		x := models[0].Workers[0]
		return fmt.Sprintf("%d at %d", x.MaxActiveRequests, x.Coefficient)
	}
	n.eventually("three places", func() bool { return listed() == "3 at 1000" })
	running := make(chan reply, 1)
	go func() { running <- n.ask(t.Context(), true, 30, 0) }()
	n.eventually("it runs", func() bool { return w.role.Stats().Active == 1 })

	write(nextURL, "engine_slots = 5\ncoefficient = -7")
	e.reload(t.Context(), w.role)
	write(nextURL, "engine_slots = 5\ncoefficient = 700\nstatus = \"127.0.0.1:1\"")
	if got := e.pool.Stats()[0].Engine; got != first.URL {
		t.Errorf("a mistake in the file moved the worker to %s", got)
	}
	e.reload(t.Context(), w.role)
	n.eventually("the new engine is ready", func() bool { return e.pool.Stats()[0].Engine == nextURL && e.pool.Stats()[0].Ready })
	n.eventually("the new price", func() bool { return strings.HasSuffix(listed(), " at 700") })
	close(hold)
	if r := <-running; !r.done || r.text != words(3) {
		t.Errorf("the request that ran: %+v", r)
	}
	n.eventually("the new places", func() bool { return listed() == "5 at 700" })
	if r := n.ask(t.Context(), true, 30, 0); !r.done || next.Completed.Load() == 0 {
		t.Errorf("at the new engine: %+v", r)
	}
}

// withEngine puts another engine behind a worker.
func withEngine(e worker.Engine) func(*worker.Config) {
	return func(c *worker.Config) { c.Engine = e }
}
