//go:build !tee

package node

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/demo"
	"github.com/cocoon-network/cocoon/internal/engine/modelhash"
)

// unchecked stands in a full name for the commit where nobody looked at the
// files: its hash is zero, which no files have.
const unchecked = "unchecked"

// validateEngine reports what cannot be an engine, or its model.
func (c *UpConfig) validateEngine() error {
	if c.Engine == "demo" {
		if c.Model != "" || c.ModelPath != "" {
			return errors.New("--model and --model-path are for an engine of yours: name it with --engine")
		}
		return nil
	}
	if strings.Contains(c.Model, "@") {
		if _, _, _, err := modelhash.Parse(cocoon.ModelName(c.Model)); err != nil {
			return fmt.Errorf("--model %q: %w; `cocoon engine hash` prints it, or give the name alone", c.Model, err)
		}
	} else if c.Model != "" {
		if _, err := modelhash.Name(c.Model, unchecked, modelhash.Root{}); err != nil {
			return fmt.Errorf("--model: %w", err)
		}
	}
	if c.Engine == "auto" {
		return nil
	}
	if k, err := engine.Make(c.Engine); err == nil {
		switch {
		case k.Dialect == engine.Ollama:
			return errors.New("--engine ollama: start Ollama and use --engine auto or its URL, since it keeps models itself")
		case c.ModelPath == "":
			return fmt.Errorf("--engine %s needs --model-path: the model's folder or file, with which it is started", c.Engine)
		}
		return nil
	}
	if strings.HasPrefix(c.Engine, "unix:/") {
		return nil
	}
	if u, err := url.Parse(c.Engine); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("--engine %q is neither demo, auto, vllm, sglang, llama.cpp nor a URL such as http://127.0.0.1:8000", c.Engine)
	}
	return nil
}

// resolveEngine decides what auto means and what the model is called, once for
// all workers.
func (c *UpConfig) resolveEngine(ctx context.Context) error {
	if c.Engine == "auto" {
		found, d, err := engine.Auto(ctx)
		_, missing := exec.LookPath("llama-server")
		switch {
		case err == nil:
			c.Progress("found %s at %s", d, found)
			c.Engine = found
		case !errors.Is(err, engine.ErrNoEngine):
			return err
		case missing == nil && strings.EqualFold(filepath.Ext(c.ModelPath), ".gguf"):
			c.Progress("no engine runs here: starting llama.cpp")
			c.Engine = string(engine.LlamaCpp)
		default:
			c.Progress("no engine runs here: using the demo engine; `cocoon engine config` prints how to start a real one")
			c.Engine, c.Model, c.ModelPath = "demo", "", ""
		}
	}
	if c.Engine == "demo" {
		c.Model = demo.FullName()
		return nil
	}
	if c.ModelPath != "" {
		path, err := filepath.Abs(c.ModelPath)
		if err != nil {
			return err
		}
		c.ModelPath = path
	}
	if c.Model == "" {
		if err := c.nameModel(ctx); err != nil {
			return err
		}
	}
	if strings.Contains(c.Model, "@") {
		return nil // the workers compare it with the files, if they know them
	}
	commit, root := unchecked, modelhash.Root{}
	if c.ModelPath != "" {
		var err error
		next := time.Now().Add(2 * time.Second)
		root, err = modelhash.Hash(ctx, c.ModelPath, func(done, total int64) {
			if now := time.Now(); now.After(next) && total > 0 {
				next = now.Add(5 * time.Second)
				c.Progress("hashing the model: %d%%", done*100/total)
			}
		})
		if err != nil {
			return fmt.Errorf("--model-path: %w", err)
		}
		commit = "local"
	} else {
		c.Progress("nobody checks the files of %s: --model-path names them", c.Model)
	}
	full, err := modelhash.Name(c.Model, commit, root)
	if err != nil {
		return fmt.Errorf("--model: %w", err)
	}
	c.Model = string(full)
	return nil
}

// nameModel takes the name from what there is: the file that is loaded, or what
// the engine lists first.
func (c *UpConfig) nameModel(ctx context.Context) error {
	if _, err := engine.Make(c.Engine); err == nil {
		base := filepath.Base(c.ModelPath)
		c.Model = strings.TrimSuffix(base, filepath.Ext(base))
		return nil
	}
	eng, err := engine.New(engine.Config{BaseURL: c.Engine, APIKey: c.EngineKey})
	if err != nil {
		return fmt.Errorf("--engine: %w", err)
	}
	defer eng.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, engine.ErrTimeout)
	defer cancel()
	names, err := eng.Models(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("--engine %s: %w: start it, or name its model with --model to wait for it", c.Engine, err)
	case len(names) == 0:
		return fmt.Errorf("--engine %s lists no model: load one, or name it with --model", c.Engine)
	}
	c.Model = strings.TrimSuffix(names[0], ":latest")
	return nil
}
