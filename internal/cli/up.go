//go:build !tee

package cli

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/internal/assist/web"
	"github.com/cocoon-network/cocoon/internal/node"
)

// extraCommands are those that the measured image has no part of. The router is
// one: its flags say whom it lets in, and there only measured configuration may.
func (a *app) extraCommands() []*cobra.Command {
	return []*cobra.Command{a.keyCommand(), a.usageCommand(), a.upCommand(), a.devnetCommand(), a.routerCommand(), a.assistCommand()}
}

func (a *app) upCommand() *cobra.Command {
	cfg := node.UpConfig{}
	var f assistFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the whole network on this machine",
		Long: `Run a whole network on this machine: a TON chain of its own with the contracts on
it, proxies, workers, and a client with its OpenAI-compatible endpoint, each a
process of its own. It is SIMULATED: everything is checked and paid for as on a
real network, but no hardware protects it and its coins are worth nothing.

When the network answers, a line "ready http://HOST:PORT/v1" is printed; with
--assist, also "assist http://HOST:PORT", where a browser finds the web app. The
same --dir resumes the same network. Ctrl-C settles and stops it.

--engine auto takes a vLLM, SGLang, llama.cpp or Ollama that runs on this
machine, known by its fingerprint, else llama-server from PATH if --model-path
names a .gguf file, else the demo engine. vllm, sglang and llama.cpp start one
and keep it running. An engine that wants an API key gets it from the variable
COCOON_ENGINE_KEY. With --model-path the workers check the model's files.`,
		Example: `  cocoon up
  cocoon up --workers 3 --listen 127.0.0.1:0 --dir /tmp/net
  cocoon up --workers 6 --proxies 3
  cocoon up --assist
  cocoon up --engine auto
  cocoon up --engine http://127.0.0.1:8000 --model Qwen/Qwen3-8B --model-path /srv/qwen3
  cocoon up --engine llama.cpp --model-path model.gguf`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Validate(); err != nil {
				return usageError{err}
			}
			cfg.Dir = a.dir
			cfg.Executable = a.env.Executable
			cfg.EngineKey = a.getenv(node.EngineKeyVariable)
			cfg.Progress = a.progress
			var ln net.Listener
			if f.listen != "" {
				f.perMinute = 600
				var err error
				if ln, err = f.open(); err != nil {
					return err
				}
				defer ln.Close()
			}
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			var serving errgroup.Group
			cfg.Ready = func(s node.State) {
				out := struct {
					node.State
					Assist string `json:"assist,omitempty"`
				}{State: s}
				if ln != nil {
					key, err := a.ownKey(ctx, "assist")
					var h *web.Server
					if err == nil {
						h, err = a.assistHandler(&f, s.Gateway+"/v1", key)
					}
					if err != nil {
						a.progress("%v", err)
						cancel()
						return
					}
					serving.Go(func() error {
						defer cancel() // a network without what was asked for with it stops
						return serveAssist(ctx, ln, h)
					})
					out.Assist = "http://" + ln.Addr().String()
				}
				if a.json {
					_ = a.printJSON(out)
				} else {
					fmt.Fprintf(a.env.Stdout, "ready %s/v1\n", s.Gateway)
					if ln != nil {
						fmt.Fprintf(a.env.Stdout, "assist %s\n", out.Assist)
					}
				}
				a.hints(s)
			}
			a.progress("SIMULATED network in %s: no hardware protects what you send", cfg.Dir)
			err := node.Up(ctx, cfg)
			cancel()
			if serr := serving.Wait(); err == nil {
				err = serr
			}
			if cmd.Context().Err() != nil {
				a.progress("stopped")
				if err == context.Canceled {
					err = nil
				}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:10000", "address of the OpenAI-compatible endpoint; with port 0 every port is chosen free")
	cmd.Flags().StringVar(&f.listen, "assist", "", "serve the tasks of messaging and their web app too; =HOST:PORT to choose where")
	cmd.Flags().Lookup("assist").NoOptDefVal = defaultAssist
	cmd.Flags().BoolVar(&cfg.RequireKeys, "keys", false, "ask callers for API keys (see cocoon key); --assist makes its own")
	cmd.Flags().IntVar(&cfg.Workers, "workers", 1, "number of workers")
	cmd.Flags().IntVar(&cfg.Proxies, "proxies", 1, "number of proxies: client and workers keep connections to all")
	cmd.Flags().IntVar(&cfg.MaxCalls, "max-calls", 0, "calls that the endpoint runs at one time, as many more wait (default 256)")
	cmd.Flags().StringVar(&cfg.Engine, "engine", "demo", "demo, auto, vllm, sglang, llama.cpp, or the URL of an OpenAI-compatible engine")
	cmd.Flags().StringVar(&cfg.Model, "model", "", "that engine's model, by name or in full, name@commit:hash (default: the first it lists)")
	cmd.Flags().StringVar(&cfg.ModelPath, "model-path", "", "folder or file of the model, to start an engine with and to check")
	return a.jsonFlag(cmd)
}

// hints tells a person at a terminal what to do next.
func (a *app) hints(s node.State) {
	if !terminal(a.env.Stderr) {
		return
	}
	fmt.Fprintf(a.env.Stderr, `
Try it, in another terminal:

  cocoon chat "What is Cocoon?" --dir %[2]s

  curl -N %[1]s/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"model":"%[3]s","stream":true,"messages":[{"role":"user","content":"What is Cocoon?"}]}'

Any OpenAI client works with OPENAI_BASE_URL=%[1]s/v1. Ctrl-C stops the network.
`, s.Gateway, a.dir, s.Model)
}
