package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

// pool runs a pool of the sources until the test ends and waits for count of
// them.
func pool(t *testing.T, cfg engine.PoolConfig, count int, sources ...engine.Source) *engine.Pool {
	t.Helper()
	if cfg.Model == "" {
		cfg.Model = "m"
	}
	p, err := engine.NewPool(cfg, sources)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
	await(t, fmt.Sprintf("%d engines", count), func() bool { return ready(p) == count })
	return p
}

func ready(p *engine.Pool) (n int) {
	for _, s := range p.Stats() {
		if s.Ready {
			n++
		}
	}
	return n
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func source(url string, slots int) engine.Source {
	return engine.Source{Config: engine.Config{BaseURL: url}, Slots: slots}
}

// ask runs one request and returns the answer.
func ask(p *engine.Pool) (string, error) {
	resp, err := p.Do(context.Background(), chat)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != 200 {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	if err == nil && !strings.HasSuffix(string(b), "data: [DONE]\n\n") {
		err = errors.New("cut")
	}
	return string(b), err
}

// TestPoolSpreads: places are filled evenly, the next request waits for one, and
// not longer than allowed.
func TestPoolSpreads(t *testing.T) {
	hold := make(chan struct{})
	var at [2]atomic.Int64
	var sources []engine.Source
	for i := range at {
		s := &enginetest.StandIn{Model: "m", Tokens: 2}
		sources = append(sources, source(serve(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(strings.NewReader(string(b)))
			if strings.Contains(string(b), `"stream":true`) {
				at[i].Add(1)
				defer at[i].Add(-1)
				<-hold
			}
			s.ServeHTTP(w, r)
		}), 2))
	}
	p := pool(t, engine.PoolConfig{Wait: 50 * time.Millisecond}, 2, sources...)
	if n, full := p.Capacity(); n != 4 || full {
		t.Errorf("capacity %d, full %v", n, full)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := ask(p); err != nil {
				t.Error(err)
			}
		})
	}
	await(t, "two requests at each", func() bool { return at[0].Load() == 2 && at[1].Load() == 2 })
	if _, err := ask(p); !errors.Is(err, engine.ErrBusy) {
		t.Errorf("a fifth request: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	left := errors.New("left")
	cancel(left)
	if _, err := p.Do(ctx, chat); !errors.Is(err, left) {
		t.Errorf("a caller who left: %v", err)
	}
	waited := make(chan error, 1)
	patient, err := engine.NewPool(engine.PoolConfig{Model: "m"}, sources)
	if err != nil || patient.Ready(t.Context()) == nil {
		t.Errorf("a pool that does not run is ready (%v)", err)
	}
	go func() { _, err := ask(p); waited <- err }()
	close(hold)
	if err := <-waited; err != nil {
		t.Errorf("who waits gets the place: %v", err)
	}
	wg.Wait()
	for _, s := range p.Stats() {
		if s.Running != 0 {
			t.Errorf("a place is lost: %+v", s)
		}
	}
}

// TestPoolDyingEngine: whatever one engine does before its first byte, requests
// are answered by another.
func TestPoolDyingEngine(t *testing.T) {
	for _, fault := range []enginetest.Fault{enginetest.CutHead, enginetest.CutStart, enginetest.Refuse} {
		var armed atomic.Bool
		bad := &enginetest.StandIn{Model: "m", Tokens: 3, Fault: func() enginetest.Fault {
			if armed.Load() {
				return fault
			}
			return enginetest.None
		}}
		good := &enginetest.StandIn{Model: "m", Tokens: 3}
		p := pool(t, engine.PoolConfig{}, 2, source(serve(t, bad.ServeHTTP), 8), source(serve(t, good.ServeHTTP), 8))
		armed.Store(true)
		before := bad.Requests.Load()
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for range 5 {
					if b, err := ask(p); err != nil || !strings.Contains(b, "w2") {
						t.Errorf("fault %d: %v", fault, err)
					}
				}
			})
		}
		wg.Wait()
		if bad.Requests.Load() == before {
			t.Errorf("fault %d: the bad engine was never asked", fault)
		}
	}
	// Alone, its own failure is heard; and in the middle it is nobody else's.
	for fault, want := range map[enginetest.Fault]error{enginetest.CutHead: engine.ErrBadAnswer, enginetest.CutBody: engine.ErrBroken} {
		var armed atomic.Bool
		bad := &enginetest.StandIn{Model: "m", Tokens: 9, Fault: func() enginetest.Fault {
			if armed.Load() {
				return fault
			}
			return enginetest.None
		}}
		p := pool(t, engine.PoolConfig{}, 1, source(serve(t, bad.ServeHTTP), 0))
		armed.Store(true)
		if _, err := ask(p); !errors.Is(err, want) {
			t.Errorf("fault %d alone: %v, want %v", fault, err, want)
		}
	}
}

// TestPoolReload: an engine that is left out finishes what it has, the new one
// takes over, and one that stays is not asked anew.
func TestPoolReload(t *testing.T) {
	hold, begun := make(chan struct{}), make(chan struct{}, 1)
	old := &enginetest.StandIn{Model: "m", Tokens: 3}
	oldURL := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(strings.NewReader(string(b)))
		if strings.Contains(string(b), `"stream":true`) {
			begun <- struct{}{}
			<-hold
		}
		old.ServeHTTP(w, r)
	})
	next := &enginetest.StandIn{Model: "m", Tokens: 3}
	nextURL := serve(t, next.ServeHTTP)
	p := pool(t, engine.PoolConfig{}, 1, source(oldURL, 1))
	first := make(chan error, 1)
	go func() { _, err := ask(p); first <- err }()
	<-begun
	if err := p.Set([]engine.Source{source(nextURL, 1)}); err != nil {
		t.Fatal(err)
	}
	await(t, "the new engine is ready", func() bool { return p.Ready(t.Context()) == nil })
	if _, err := ask(p); err != nil || next.Completed.Load() == 0 {
		t.Errorf("the new engine: %v", err)
	}
	asked := next.Requests.Load()
	if err := p.Set([]engine.Source{source(nextURL, 1)}); err != nil || p.Ready(t.Context()) != nil || next.Requests.Load() != asked {
		t.Errorf("the same again: %v", err)
	}
	// Until another one is ready, the old one goes on.
	if err := p.Set([]engine.Source{source("http://127.0.0.1:1", 1)}); err != nil || p.Ready(t.Context()) != nil {
		t.Errorf("an engine that is not there: %v", err)
	}
	if _, err := ask(p); err != nil {
		t.Errorf("while the new one is waited for: %v", err)
	}
	if err := p.Set([]engine.Source{source(nextURL, 1)}); err != nil {
		t.Error(err)
	}
	if err := p.Set(nil); err == nil {
		t.Error("no engine at all is taken")
	}
	if len(p.Stats()) != 2 {
		t.Errorf("the old one is not seen while it works: %+v", p.Stats())
	}
	close(hold)
	if err := <-first; err != nil {
		t.Errorf("the request that ran: %v", err)
	}
	await(t, "the old engine is gone", func() bool { return len(p.Stats()) == 1 })
}

// TestPoolWarmsUp: an engine gets requests only once it made a token with the
// model, and says why it does not.
func TestPoolWarmsUp(t *testing.T) {
	other := serve(t, (&enginetest.StandIn{Model: "other"}).ServeHTTP)
	p := pool(t, engine.PoolConfig{}, 0, source(other, 0))
	await(t, "the reason is told", func() bool { return strings.Contains(fmt.Sprint(p.Ready(t.Context())), `"other"`) })
	p.Hold("files are being checked")
	if err := p.Ready(t.Context()); !errors.Is(err, engine.ErrNotReady) || !strings.Contains(err.Error(), "being checked") {
		t.Error(err)
	}
	if _, err := ask(p); err == nil {
		t.Error("an answer from an engine that was not tried")
	}
	if p.Caps() != (engine.Caps{}) {
		t.Errorf("%+v", p.Caps())
	}
}

// TestPoolCaps: only what all can do is asked for, and waiting requests of an
// engine that does not tell its places say that it is full.
func TestPoolCaps(t *testing.T) {
	p := pool(t, engine.PoolConfig{}, 2, source(standIn(t, engine.VLLM), 0), source(standIn(t, engine.LlamaCpp), 0))
	if c := p.Caps(); c != (engine.Caps{CachedTokens: true, Schema: true}) {
		t.Errorf("%+v", c)
	}
	alone := pool(t, engine.PoolConfig{}, 1, source(standIn(t, engine.VLLM), 0))
	await(t, "the engine's load", func() bool { s := alone.Stats(); return s[0].EngineWaiting != nil })
	if n, full := alone.Capacity(); n != 0 || !full {
		t.Errorf("2 waiting: capacity %d, full %v", n, full)
	}
	if s := alone.Stats()[0]; s.Dialect != "vllm" || *s.EngineRunning != 0 || *s.CacheUsage != 0.25 {
		t.Errorf("%+v", s)
	}
	for d, want := range map[engine.Dialect]int{engine.LlamaCpp: 4, engine.SGLang: 256, engine.VLLM: 0, engine.Ollama: 0} {
		if n := client(t, engine.Config{BaseURL: standIn(t, d), Dialect: d}).Slots(t.Context()); n != want {
			t.Errorf("%s tells %d places, want %d", d, n, want)
		}
	}
}

// TestCacheSalt: the salt reaches engines that know it, first in the body, and
// no others.
func TestCacheSalt(t *testing.T) {
	var body string
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
	})
	for d, want := range map[engine.Dialect]string{engine.VLLM: `{"cache_salt":"a\"b","model":"m"}`, engine.SGLang: `{"cache_salt":"a\"b","model":"m"}`, engine.LlamaCpp: `{"model":"m"}`, engine.Ollama: `{"model":"m"}`} {
		resp, err := client(t, engine.Config{BaseURL: url, Dialect: d}).Do(t.Context(), &engine.Request{Path: "/v1/chat/completions", Body: []byte(`{"model":"m"}`), Salt: `a"b`})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if body != want {
			t.Errorf("%s gets %s, want %s", d, body, want)
		}
	}
}

// helperAddr makes this test program an engine that listens there.
const helperAddr = "COCOON_TEST_ENGINE"

// TestHelperEngine is no test: it is the program that TestProcess supervises.
func TestHelperEngine(t *testing.T) {
	addr := os.Getenv(helperAddr)
	if addr == "" {
		return
	}
	if addr == "broken" {
		fmt.Fprintln(os.Stderr, "loading\nno such device")
		os.Exit(3)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(4)
	}
	s := &enginetest.StandIn{Model: "m", Tokens: 3}
	_ = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/die":
			os.Exit(5)
		case "/env":
			fmt.Fprint(w, os.Getpid(), " ", os.Getenv("COCOON_ENGINE_KEY"))
		default:
			s.ServeHTTP(w, r)
		}
	}))
}

// TestProcess: a supervised engine is started, comes back when it dies, sees
// none of our secrets, and ends with us.
func TestProcess(t *testing.T) {
	t.Setenv("COCOON_ENGINE_KEY", "secret")
	port, err := engine.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	proc := func(name, addr string) *engine.Process {
		return &engine.Process{Name: name, Args: []string{os.Args[0], "-test.run=^TestHelperEngine$"}, Env: []string{helperAddr + "=" + addr}}
	}
	p, err := engine.NewPool(engine.PoolConfig{Model: "m"}, []engine.Source{{Config: engine.Config{BaseURL: "http://" + addr}, Process: proc("helper", addr)}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	await(t, "the engine starts", func() bool { return p.Ready(t.Context()) == nil })
	if _, err := ask(p); err != nil {
		t.Error(err)
	}
	get := func(path string) string {
		resp, err := http.Get("http://" + addr + path)
		if err != nil {
			return ""
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return string(b)
	}
	first := get("/env")
	if first == "" || strings.Contains(first, "secret") {
		t.Errorf("the engine sees %q", first)
	}
	get("/die")
	await(t, "the engine is back", func() bool { again := get("/env"); return again != "" && again != first && p.Ready(t.Context()) == nil })
	if s := p.Stats()[0]; s.Restarts != 1 || s.Engine != "helper" {
		t.Errorf("%+v", s)
	}
	if _, err := ask(p); err != nil {
		t.Error(err)
	}
	stop()
	<-done
	if got := get("/env"); got != "" {
		t.Error("the engine outlives its supervisor")
	}

	// What cannot start says why, in its own last words.
	broken, err := engine.NewPool(engine.PoolConfig{Model: "m"}, []engine.Source{{Config: engine.Config{BaseURL: "http://" + addr}, Process: proc("broken", "broken")}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop = context.WithCancel(context.Background())
	done = make(chan struct{})
	go func() { defer close(done); _ = broken.Run(ctx) }()
	await(t, "the reason is told", func() bool { return strings.Contains(fmt.Sprint(broken.Ready(t.Context())), "no such device") })
	stop()
	<-done
}
