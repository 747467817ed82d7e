package enginetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine"
)

// LlamaServer starts a real llama.cpp server with a model file, the way a worker
// does, and returns a client of it. The program is COCOON_LLAMA_SERVER, what
// tools/deps.sh fetched, or llama-server in PATH; without one the test is
// skipped.
func LlamaServer(t *testing.T, file, model string, slots, context int) *engine.Client {
	t.Helper()
	program := os.Getenv("COCOON_LLAMA_SERVER")
	if program == "" {
		if dir, err := os.UserCacheDir(); err == nil {
			program = filepath.Join(dir, "cocoon", "llama.cpp", "llama-server")
		}
		if _, err := os.Stat(program); err != nil {
			program = "llama-server"
		}
	}
	program, err := exec.LookPath(program)
	if err != nil {
		t.Skip("no llama.cpp server: set COCOON_LLAMA_SERVER, or let tools/deps.sh fetch one")
	}
	k, err := engine.Make("llama.cpp")
	if err != nil {
		t.Fatal(err)
	}
	// One thread: with several, they spin against each other on a busy machine.
	plan, err := k.Plan(engine.Launch{Model: model, Path: file, Port: freePort(t), Parallel: slots, Context: context, Extra: []string{"-t", "1"}})
	if err != nil {
		t.Fatal(err)
	}
	plan.Args[0] = program
	return Supervise(t, plan, model)
}

// OllamaServer does the same with Ollama: COCOON_OLLAMA or ollama in PATH. The
// model gets the template and the stop words given.
func OllamaServer(t *testing.T, file, model, template, stop string) *engine.Client {
	t.Helper()
	program := os.Getenv("COCOON_OLLAMA")
	if program == "" {
		program = "ollama"
	}
	program, err := exec.LookPath(program)
	if err != nil {
		t.Skip("no Ollama: set COCOON_OLLAMA, or put ollama into PATH")
	}
	k, err := engine.Make("ollama")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := k.Plan(engine.Launch{Model: model, Path: file, Port: freePort(t), Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	plan.Args[0] = program
	plan.Env = append(plan.Env, "HOME="+home, "OLLAMA_MODELS="+filepath.Join(home, "models"))
	src, err := plan.Supervised("ollama")
	if err != nil {
		t.Fatal(err)
	}
	c := start(t, src, func(ctx context.Context, c *engine.Client) error { return c.Ready(ctx) })
	modelfile := filepath.Join(home, "Modelfile")
	text := fmt.Sprintf("FROM %s\nTEMPLATE \"\"\"%s\"\"\"\nPARAMETER stop %s\nPARAMETER num_thread 1\n", file, template, stop)
	if err := os.WriteFile(modelfile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "create", model, "-f", modelfile)
	cmd.Env = append(os.Environ(), plan.Env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ollama create: %v: %s", err, out)
	}
	if err := c.Check(t.Context(), model); err != nil {
		t.Fatal(err)
	}
	return c
}

// Supervise runs a plan until the test ends and returns a client of the engine,
// once that made a token with model.
func Supervise(t *testing.T, plan *engine.Plan, model string) *engine.Client {
	t.Helper()
	src, err := plan.Supervised(string(plan.Make.Dialect))
	if err != nil {
		t.Fatal(err)
	}
	return start(t, src, func(ctx context.Context, c *engine.Client) error { return c.Check(ctx, model) })
}

// startLimit is how long an engine may take to start with a small model.
const startLimit = time.Minute

func start(t *testing.T, src engine.Source, ready func(context.Context, *engine.Client) error) *engine.Client {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done, failed := make(chan struct{}), make(chan error, 16)
	go func() {
		defer close(done)
		src.Process.Run(ctx, nil, nil, func(err error) {
			select {
			case failed <- err:
			default:
			}
		})
	}()
	t.Cleanup(func() { stop(); <-done })
	c, err := engine.New(src.Config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	for end := time.Now().Add(startLimit); ; time.Sleep(50 * time.Millisecond) {
		err := ready(ctx, c)
		if err == nil {
			return c
		}
		select {
		case why := <-failed:
			t.Fatalf("the engine does not start: %v", why)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the engine is not ready after %v: %v", startLimit, err)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := engine.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
