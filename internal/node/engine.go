package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/modelhash"
	"github.com/cocoon-network/cocoon/internal/role/worker"
)

// engines are what stands behind a worker: one or several engines that serve
// its model, those that it starts itself among them.
type engines struct {
	c     *Config // as it was last applied
	pool  *engine.Pool
	model cocoon.ModelName
	log   *slog.Logger
}

// openEngines reads which engines there are. It waits for none: they are opened
// while the worker runs.
func openEngines(ctx context.Context, c *Config, log *slog.Logger) (*engines, error) {
	e := &engines{c: c, log: log, model: cocoon.ModelName(c.Measured.Model)}
	sources, err := e.sources(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if err := checkModelPath(&c.Measured); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if c.Measured.ModelPath != "" {
		if _, _, _, err := modelhash.Parse(e.model); err != nil {
			return nil, fmt.Errorf("configuration: measured.model %q, whose files measured.model_path names: %w", e.model, err)
		}
	}
	e.pool, err = engine.NewPool(engine.PoolConfig{Model: served(c, e.model), Wait: seconds(c.Runtime.QueueWait), Logger: log}, sources)
	if err != nil {
		return nil, fmt.Errorf("configuration: measured.engine: %w", err)
	}
	if c.Measured.ModelPath != "" {
		e.pool.Hold("the model's files are being checked")
	}
	return e, nil
}

func served(c *Config, model cocoon.ModelName) string {
	if c.Measured.ServedModel != "" {
		return c.Measured.ServedModel
	}
	return model.Base()
}

// sources turns configuration into engines.
func (e *engines) sources(ctx context.Context, c *Config) ([]engine.Source, error) {
	m := &c.Measured
	key, err := c.engineKey()
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(append([]string{m.Engine}, m.Engines...), func(s string) bool { return s == "" })
	if len(names) == 0 {
		return nil, errors.New("measured.engine is missing: set the URL of an OpenAI-compatible engine such as http://127.0.0.1:8000, auto to find one, or vllm, sglang or llama.cpp to start one")
	}
	var out []engine.Source
	for _, name := range names {
		if name == "demo" {
			cfg, model, err := demoEngine(c, e.log)
			if err != nil {
				return nil, err
			}
			e.model = model
			out = append(out, engine.Source{Config: cfg, Slots: c.Runtime.EngineSlots})
			continue
		}
		if m.Model == "" {
			return nil, errors.New("measured.model is missing: set the full name, name@commit:hash; `cocoon engine hash` prints it")
		}
		if name == "auto" {
			if name, err = e.find(ctx, m); err != nil {
				return nil, err
			}
			key = "" // a key is for the engine it was made for
		}
		if k, err := engine.Make(name); err == nil {
			started, err := e.launch(c, k)
			if err != nil {
				return nil, err
			}
			out = append(out, started...)
			continue
		}
		if !strings.Contains(name, ":") {
			return nil, fmt.Errorf("measured.engine %q is neither a URL nor auto, demo, vllm, sglang or llama.cpp", name)
		}
		if err := checkEngine(name); err != nil {
			return nil, err
		}
		out = append(out, engine.Source{Config: engine.Config{BaseURL: name, APIKey: key, Logger: e.log}, Slots: c.Runtime.EngineSlots})
	}
	return out, nil
}

// find looks for an engine: one that runs, else llama.cpp where there is
// something for it to load.
func (e *engines) find(ctx context.Context, m *Measured) (string, error) {
	url, d, err := engine.Auto(ctx)
	if err == nil {
		e.log.Info("found an engine", "engine", url, "dialect", string(d))
		return url, nil
	}
	if strings.EqualFold(filepath.Ext(m.ModelPath), ".gguf") {
		if _, lerr := exec.LookPath("llama-server"); lerr == nil {
			e.log.Info("no engine runs: starting llama.cpp")
			return string(engine.LlamaCpp), nil
		}
	}
	return "", fmt.Errorf("measured.engine is auto: %w", err)
}

// launch plans engines of one make, to be started and kept running here: one,
// or one for each group of GPUs.
func (e *engines) launch(c *Config, k engine.Known) ([]engine.Source, error) {
	m, r := &c.Measured, &c.Runtime
	if m.ModelPath == "" {
		return nil, fmt.Errorf("measured.model_path is missing: %s is started with the model's folder or file", k.Name)
	}
	path, err := filepath.Abs(m.ModelPath)
	if err != nil {
		return nil, err
	}
	if k.Dialect == engine.Ollama {
		return nil, errors.New("measured.engine: Ollama keeps models in a store of its own and is not started here: start it and give its URL")
	}
	n, gpus := max(r.EngineInstances, 1), max(r.EngineGPUs, 1)
	var out []engine.Source
	for i := range n {
		port, err := engine.FreePort()
		if err != nil {
			return nil, err
		}
		plan, err := k.Plan(engine.Launch{
			Model: served(c, e.model), Path: path, Port: port, GPUs: gpus, Parallel: r.EngineSlots, Context: r.EngineContext,
			ToolParser: m.ToolParser, ReasoningParser: m.ReasoningParser, Image: "none", Extra: m.EngineArgs,
		})
		if err != nil {
			return nil, fmt.Errorf("measured.engine: %w", err)
		}
		name := string(k.Dialect)
		if n > 1 {
			name += "-" + strconv.Itoa(i+1)
			devices := make([]string, gpus)
			for j := range devices {
				devices[j] = strconv.Itoa(i*gpus + j)
			}
			plan.Env = append(plan.Env, "CUDA_VISIBLE_DEVICES="+strings.Join(devices, ","))
		}
		s, err := plan.Supervised(name)
		if err != nil {
			return nil, err
		}
		s.Slots, s.Logger = r.EngineSlots, e.log
		out = append(out, s)
	}
	return out, nil
}

// serve checks the model, runs the engines and the worker on them. The engines
// outlive ctx until the worker finished what it had.
func (e *engines) serve(ctx context.Context, w *worker.Worker) error {
	poolCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := e.verify(gctx); err != nil {
			return err
		}
		e.pool.Hold("")
		g.Go(func() error {
			_ = e.pool.Run(poolCtx)
			return nil
		})
		for {
			select {
			case <-gctx.Done():
				return nil
			case <-e.c.Reload:
				e.reload(gctx, w)
			}
		}
	})
	g.Go(func() error {
		defer stop()
		return w.Run(gctx)
	})
	return g.Wait()
}

// verify hashes the model's files before anything is served.
func (e *engines) verify(ctx context.Context) error {
	m := &e.c.Measured
	if m.ModelPath == "" {
		return nil
	}
	e.log.Info("checking the model's files", "path", m.ModelPath)
	err := modelhash.Check(ctx, m.ModelPath, e.model, func(done, total int64) {
		if total > 0 {
			e.pool.Hold(fmt.Sprintf("the model's files are being checked: %d%%", done*100/total))
		}
	})
	if err != nil {
		return fmt.Errorf("measured.model_path: %w", err)
	}
	e.log.Info("the model's files are those of its name")
	return nil
}

// reload reads the configuration again and applies what can change while
// requests run: engines, price factor, limit.
func (e *engines) reload(ctx context.Context, w *worker.Worker) {
	next, err := e.c.Reread()
	if err != nil {
		e.log.Error("not reloaded", "err", err)
		return
	}
	// What it cannot change stays as it was, and is said.
	live := *e.c
	for _, key := range []string{"Engine", "Engines", "EngineArgs", "ToolParser", "ReasoningParser"} {
		reflect.ValueOf(&live.Measured).Elem().FieldByName(key).Set(reflect.ValueOf(next.Measured).FieldByName(key))
	}
	for _, key := range []string{"EngineSlots", "EngineGPUs", "EngineInstances", "EngineContext", "EngineKeyFile", "Coefficient", "MaxActive"} {
		reflect.ValueOf(&live.Runtime).Elem().FieldByName(key).Set(reflect.ValueOf(next.Runtime).FieldByName(key))
	}
	if keys := append(differ("measured", live.Measured, next.Measured), differ("runtime", live.Runtime, next.Runtime)...); len(keys) > 0 {
		e.log.Warn("these changes take a restart", "keys", strings.Join(keys, " "))
	}
	if err := w.Adjust(live.Runtime.Coefficient, live.Runtime.MaxActive); err != nil {
		e.log.Error("not reloaded", "err", err)
		return
	}
	if changed := append(differ("", e.c.Measured, live.Measured), differ("", withoutTerms(e.c.Runtime), withoutTerms(live.Runtime))...); len(changed) > 0 {
		sources, err := e.sources(ctx, &live)
		if err == nil {
			err = e.pool.Set(sources)
		}
		if err != nil {
			e.log.Error("the engines stay as they were", "err", err)
			return
		}
	}
	e.c = &live
	e.log.Info("configuration reloaded", "coefficient", live.Runtime.Coefficient, "max_active_requests", live.Runtime.MaxActive)
}

// withoutTerms leaves what says which engines there are.
func withoutTerms(r Runtime) Runtime {
	r.Coefficient, r.MaxActive = 0, 0
	return r
}

// differ lists the keys in which two parts of a configuration differ.
func differ(section string, a, b any) []string {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	var keys []string
	for i := range x.NumField() {
		if !reflect.DeepEqual(x.Field(i).Interface(), y.Field(i).Interface()) {
			keys = append(keys, section+"."+x.Type().Field(i).Tag.Get("toml"))
		}
	}
	return keys
}
