package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/modelhash"
	"github.com/cocoon-network/cocoon/internal/node"
)

func (a *app) engineCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "engine",
		Short: "The inference engine behind a worker: set it up, check it, name its model",
		Example: `  cocoon engine config vllm --model Qwen/Qwen3-8B --path /srv/qwen3
  cocoon engine probe
  cocoon engine hash /srv/qwen3 --name Qwen/Qwen3-8B --commit b968826d9c46`,
	}
	a.group(cmd)
	cmd.AddCommand(a.engineListCommand(), a.engineProbeCommand(), a.engineConfigCommand(), a.engineHashCommand())
	return cmd
}

// engineInfo is one make of engine in `engine list --json`.
type engineInfo struct {
	Name    string     `json:"name"`
	Dialect string     `json:"dialect"`
	Command string     `json:"command"`
	URL     string     `json:"url"`
	Image   string     `json:"image,omitempty"`
	Sign    string     `json:"sign"`
	Caps    engineCaps `json:"caps"`
}

type engineCaps struct {
	ContinuousUsage bool `json:"continuous_usage"`
	CachedTokens    bool `json:"cached_tokens"`
	Schema          bool `json:"schema"`
	Tools           bool `json:"tools"`
	Embeddings      bool `json:"embeddings"`
	CacheSalt       bool `json:"cache_salt"`
}

// words lists what an engine can do, for people.
func (c engineCaps) words() string {
	var out []string
	for _, w := range []struct {
		has  bool
		name string
	}{{c.ContinuousUsage, "running usage"}, {c.CachedTokens, "cached tokens"}, {c.Schema, "schema"}, {c.Tools, "tools"}, {c.Embeddings, "embeddings"}, {c.CacheSalt, "a cache for each caller"}} {
		if w.has {
			out = append(out, w.name)
		}
	}
	if out == nil {
		return "unknown"
	}
	return strings.Join(out, ", ")
}

func (a *app) engineListCommand() *cobra.Command {
	return a.jsonFlag(&cobra.Command{
		Use:   "list",
		Short: "Engines that can be set up: what starts them, what they can do",
		Long: `List the engines that "cocoon engine config" can set up: what starts them, where
they listen if nobody says otherwise, the container image if one is known by
digest, the sign they are known by, and what they can do. Any other server with
the OpenAI interface works too, with the least abilities.`,
		Example: "  cocoon engine list",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			var list []engineInfo
			for _, k := range engine.Makes() {
				list = append(list, engineInfo{k.Name, string(k.Dialect), k.Command, k.BaseURL(), k.Image, k.Sign, engineCaps(k.Dialect.Caps())})
			}
			if a.json {
				return a.printJSON(map[string]any{"engines": list})
			}
			w := tabwriter.NewWriter(a.env.Stdout, 0, 0, 2, ' ', 0)
			for i, e := range list {
				if i > 0 {
					fmt.Fprintln(w)
				}
				fmt.Fprintf(w, "%s\tstarted with\t%s\n\tlistens on\t%s\n\tknown by\t%s\n\tcan do\t%s\n", e.Name, e.Command, e.URL, e.Sign, e.Caps.words())
				if e.Image != "" {
					fmt.Fprintf(w, "\timage\t%s\n", e.Image)
				}
			}
			return w.Flush()
		},
	})
}

// engineReport is what `engine probe` prints as JSON.
type engineReport struct {
	URL     string        `json:"url"`
	Dialect string        `json:"dialect"`
	Models  []string      `json:"models"`
	OK      bool          `json:"ok"`
	Steps   []engine.Step `json:"steps"`
	Caps    engineCaps    `json:"caps"`
	Load    engineLoad    `json:"load"`
}

// engineLoad leaves out what the engine does not tell.
type engineLoad struct {
	Running *float64 `json:"running,omitempty"`
	Waiting *float64 `json:"waiting,omitempty"`
	Cache   *float64 `json:"cache,omitempty"`
}

func told(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func (a *app) engineProbeCommand() *cobra.Command {
	var model string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "probe [URL]",
		Short: "Look at a running engine: health, make, models, load",
		Long: `Look at a running engine in three steps: it answers, it is healthy and lists
models, it makes one token with usage. Without a URL the usual loopback ports
are looked at, and what stands there is known by its fingerprint, not its port.
Exit code 1 if a step fails or no engine is found. An engine at a URL that wants
an API key gets it from the variable COCOON_ENGINE_KEY.`,
		Example: `  cocoon engine probe
  cocoon engine probe http://127.0.0.1:8000 --model Qwen/Qwen3-8B --json
  cocoon engine probe unix:/run/engine.sock`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("unexpected argument %q", args[1])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			url := ""
			if len(args) == 1 && args[0] != "auto" {
				url = args[0]
			}
			return a.engineProbe(cmd.Context(), url, model)
		},
	})
	cmd.Flags().StringVar(&model, "model", "", "make the token with this model instead of the first one listed")
	return cmd
}

const probeTimeout = 90 * time.Second

func (a *app) engineProbe(ctx context.Context, url, model string) error {
	key := a.getenv(node.EngineKeyVariable)
	if url == "" {
		found, _, err := engine.Auto(ctx)
		if err != nil {
			return err
		}
		a.progress("found %s", found)
		url, key = found, "" // a key is for the engine it was made for
	}
	c, err := engine.New(engine.Config{BaseURL: url, APIKey: key})
	if err != nil {
		return usageError{err}
	}
	defer c.Close()
	ctx, cancel := context.WithTimeoutCause(ctx, probeTimeout, engine.ErrTimeout)
	defer cancel()
	r := c.Probe(ctx, model)
	out := engineReport{
		URL: r.BaseURL, Dialect: string(r.Dialect), Models: r.Models, OK: r.OK(), Steps: r.Steps, Caps: engineCaps(r.Caps),
		Load: engineLoad{told(r.Load.Running), told(r.Load.Waiting), told(r.Load.Cache)},
	}
	if out.Dialect == "" {
		out.Dialect = "unknown"
	}
	if a.json {
		if out.Models == nil {
			out.Models = []string{}
		}
		err = a.printJSON(out)
	} else {
		err = out.print(a.env.Stdout)
	}
	if err == nil && !out.OK {
		err = quietError{errors.New("the engine failed a step")}
	}
	return err
}

func (r *engineReport) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "engine\t%s at %s\n", r.Dialect, r.URL)
	for _, s := range r.Steps {
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Result, s.Detail)
	}
	// Names come from the engine: shown with their quotes, so that they cannot
	// steer a terminal.
	for i, m := range r.Models {
		if i == 20 {
			fmt.Fprintf(w, "model\tand %d more\n", len(r.Models)-i)
			break
		}
		fmt.Fprintf(w, "model\t%q\n", m)
	}
	fmt.Fprintf(w, "can do\t%s\n", r.Caps.words())
	if r.Load.Running != nil {
		fmt.Fprintf(w, "load\t%g running", *r.Load.Running)
		if r.Load.Waiting != nil {
			fmt.Fprintf(w, ", %g waiting", *r.Load.Waiting)
		}
		if r.Load.Cache != nil {
			fmt.Fprintf(w, ", cache %.0f%% full", *r.Load.Cache*100)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// engineSetup is what `engine config` prints as JSON.
type engineSetup struct {
	Engine string            `json:"engine"`
	URL    string            `json:"url"`
	Image  string            `json:"image,omitempty"`
	Shell  string            `json:"shell"`
	Files  map[string]string `json:"files"`
	Notes  []string          `json:"notes"`
}

func (a *app) engineConfigCommand() *cobra.Command {
	var l engine.Launch
	var unit bool
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "config vllm|sglang|llama.cpp|ollama",
		Short: "Print how to start an engine: a command line or systemd units",
		Long: `Print how to start an engine for a worker: on loopback only, with usage in every
answer, without request logs or telemetry, from a container image by digest
where one is known. Nothing is started or written. What the command alone does
not do stands on standard error. Arguments after -- go to the engine as they are,
as in "cocoon engine config vllm --model M -- --trust-remote-code".`,
		Example: `  cocoon engine config sglang --model Qwen/Qwen3-8B --path /srv/qwen3
  cocoon engine config vllm --model Qwen/Qwen3-8B --path /srv/qwen3 --unit
  cocoon engine config llama.cpp --model my-model --path /srv/m.gguf --parallel 8 --context 8192`,
		Args: func(cmd *cobra.Command, args []string) error {
			n := len(args)
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				n = at
			}
			switch n {
			case 0:
				return usageError{errors.New("which engine? vllm, sglang, llama.cpp or ollama")}
			case 1:
				return nil
			}
			return usageError{fmt.Errorf("unexpected argument %q", args[1])}
		},
		RunE: func(_ *cobra.Command, args []string) error {
			k, err := engine.Make(args[0])
			if err != nil {
				return usageError{err}
			}
			// A full name is as good: the engine serves its base.
			l.Model = cocoon.ModelName(l.Model).Base()
			l.Extra = args[1:]
			if l.Path, err = filepath.Abs(l.Path); err != nil {
				return err
			}
			p, err := k.Plan(l)
			if err != nil {
				return usageError{err}
			}
			return a.engineConfig(p, unit)
		},
	})
	f := cmd.Flags()
	f.StringVar(&l.Model, "model", "", "name of the model, as callers ask for it; of a full name the part before '@'")
	f.StringVar(&l.Path, "path", "/model", "folder or file of the weights on this machine")
	f.IntVar(&l.Port, "port", 0, "port on loopback; 0 is the engine's usual one")
	f.IntVar(&l.GPUs, "gpus", 1, "GPUs that one model is spread over (vLLM, SGLang)")
	f.IntVar(&l.Parallel, "parallel", 0, "requests that run at once; 0 leaves it to the engine, or is 4 where it must be told")
	f.IntVar(&l.Context, "context", 0, "longest request in tokens; 0 is the model's own limit")
	f.StringVar(&l.ToolParser, "tool-parser", "", "format of the model's tool calls, in the engine's words; known for Qwen and DeepSeek-V3")
	f.StringVar(&l.ReasoningParser, "reasoning-parser", "", "format of the model's reasoning, in the engine's words")
	f.StringVar(&l.Image, "image", "", `container image by digest, name@sha256:…; "none" is the program of this machine`)
	f.BoolVar(&unit, "unit", false, "print systemd units instead of a command line")
	if err := cmd.MarkFlagRequired("model"); err != nil {
		panic(err) // the flag stands above
	}
	return cmd
}

func (a *app) engineConfig(p *engine.Plan, unit bool) error {
	if a.json {
		out := engineSetup{p.Make.Name, p.URL, p.Image, p.Shell(), map[string]string{}, append([]string{}, p.Notes...)}
		for _, file := range p.Units() {
			out.Files[file.Path] = file.Text
		}
		return a.printJSON(out)
	}
	if unit {
		for i, file := range p.Units() {
			if i > 0 {
				fmt.Fprintln(a.env.Stdout)
			}
			fmt.Fprintf(a.env.Stdout, "# %s\n%s", file.Path, file.Text)
		}
	} else {
		fmt.Fprint(a.env.Stdout, p.Shell())
	}
	for _, n := range p.Notes {
		a.progress("note: %s", n)
	}
	a.progress("then check it with `cocoon engine probe %s`, and give the worker engine = %q", p.URL, p.URL)
	return nil
}

// modelInfo is what `engine hash` prints as JSON.
type modelInfo struct {
	Path      string           `json:"path"`
	Root      string           `json:"root_hash"`
	Bytes     int64            `json:"archive_bytes"`
	Model     cocoon.ModelName `json:"model,omitempty"`
	ModelHash string           `json:"model_hash,omitempty"`
}

func (a *app) engineHashCommand() *cobra.Command {
	var name, commit string
	cmd := a.jsonFlag(&cobra.Command{
		Use:   "hash PATH",
		Short: "Hash a model's folder or file as the network names it",
		Long: `Hash the files of a model: the dm-verity root of a normalised tar archive of the
folder, of the folder that would hold a single file, or of an archive (.tar)
that was made this way. With --name and --commit the full model name is printed,
and its SHA-256, which is what the root contract lists.`,
		Example: `  cocoon engine hash /srv/qwen3 --name Qwen/Qwen3-8B --commit b968826d9c46
  cocoon engine hash model.gguf --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("one folder or file is needed")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if (name == "") != (commit == "") {
				return usageError{errors.New("--name and --commit belong together: the full name is name@commit:hash")}
			}
			if name != "" { // before minutes of hashing
				if _, err := modelhash.Name(name, commit, modelhash.Root{}); err != nil {
					return usageError{err}
				}
			}
			return a.engineHash(cmd.Context(), args[0], name, commit)
		},
	})
	cmd.Flags().StringVar(&name, "name", "", "the model's name, such as Qwen/Qwen3-8B")
	cmd.Flags().StringVar(&commit, "commit", "", "the model's revision, such as the commit of its repository")
	return cmd
}

func (a *app) engineHash(ctx context.Context, path, name, commit string) error {
	out := modelInfo{Path: path}
	begun := time.Now()
	next := begun.Add(2 * time.Second)
	root, err := modelhash.Hash(ctx, path, func(done, total int64) {
		out.Bytes = total
		if now := time.Now(); now.After(next) {
			next = now.Add(5 * time.Second)
			a.progress("hashing: %d%% of %.1f GB", done*100/total, float64(total)/1e9)
		}
	})
	if err != nil {
		return err
	}
	out.Root = root.String()
	if name != "" {
		if out.Model, err = modelhash.Name(name, commit, root); err != nil {
			return err
		}
		listed := modelhash.Listed(out.Model)
		out.ModelHash = hex.EncodeToString(listed[:])
	}
	if a.json {
		return a.printJSON(out)
	}
	w := tabwriter.NewWriter(a.env.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "root hash\t%s\n", out.Root)
	if name != "" {
		fmt.Fprintf(w, "model\t%s\nmodel hash\t%s\n", out.Model, out.ModelHash)
	}
	return w.Flush()
}
