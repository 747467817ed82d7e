//go:build !tee

package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/assist/web"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// defaultAssist is where the tasks of messaging are served: behind the gateway
// and its status page. Browsers do not open every port, 10080 for one.
const defaultAssist = "127.0.0.1:10002"

// assistFlags say how the tasks of messaging are served.
type assistFlags struct {
	listen, upstream, model, embedModel string
	hosts                               []string
	keys                                string
	index                               string
	perMinute                           int
	daily                               uint64
}

func (a *app) assistCommand() *cobra.Command {
	var f assistFlags
	cmd := &cobra.Command{
		Use:   "assist",
		Short: "AI for messaging: translate, summarise, write, reply, filter, search",
		Long: `Serve the tasks of messaging as HTTP, /assist/v1, and a web app that uses them.
It is an ordinary client of an OpenAI endpoint: the network in --dir, or
--upstream. Texts go there and nowhere else, and are not kept, but for messages
that a caller puts into a search index: those are kept here, encrypted.

Without --keys everyone who reaches the port may spend the owner's money, so it
listens on this machine only. With --keys, a file of API keys, one a line,
callers send one as "Authorization: Bearer KEY". OPENAI_API_KEY is sent to the
upstream; for a network in --dir that asks for keys, one is made without it.

When it answers, a line "assist http://HOST:PORT" is printed.`,
		Example: `  cocoon assist
  cocoon assist --upstream http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B
  cocoon assist --listen 0.0.0.0:10002 --host assist.example --keys keys.txt --daily-nano 1000000000
  curl http://127.0.0.1:10002/assist/v1/translate -H 'Content-Type: application/json' \
    -d '{"texts":[{"text":"See you tomorrow!"}],"to":"id"}'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ln, err := f.open()
			if err != nil {
				return err
			}
			defer ln.Close()
			g, err := a.gateway(f.upstream)
			if err != nil {
				return err
			}
			if g.simulated {
				a.progress("SIMULATED network: no hardware protects what you send")
			}
			key, err := a.upstreamKey(cmd.Context(), f.upstream, "assist")
			if err != nil {
				return err
			}
			h, err := a.assistHandler(&f, g.base, key)
			if err != nil {
				return err
			}
			fmt.Fprintf(a.env.Stdout, "assist http://%s\n", ln.Addr())
			return serveAssist(cmd.Context(), ln, h)
		},
	}
	cmd.AddCommand(a.telegramCommand())
	fl := cmd.Flags()
	fl.StringVar(&f.listen, "listen", defaultAssist, "address to listen on")
	fl.StringVar(&f.upstream, "upstream", "", "OpenAI endpoint, ending in /v1 (default: OPENAI_BASE_URL, or the network in --dir)")
	fl.StringVar(&f.model, "model", "", "model to ask (default: the first one served)")
	fl.StringVar(&f.embedModel, "embed-model", "", "model for embeddings (default: the first one served with \"embed\" in its name)")
	fl.StringSliceVar(&f.hosts, "host", nil, "names under which callers reach it, beside localhost")
	fl.StringVar(&f.keys, "keys", "", "file of API keys that callers must have, one a line")
	fl.StringVar(&f.index, "index", "", "folder of callers' search indexes, encrypted (default: assist in --dir)")
	fl.IntVar(&f.perMinute, "per-minute", 60, "requests that one caller may make a minute")
	fl.Uint64Var(&f.daily, "daily-nano", 0, "what one caller's requests may cost a day, in nano; 0 = no limit")
	return cmd
}

// open checks the flags and listens.
func (f *assistFlags) open() (net.Listener, error) {
	addr, err := net.ResolveTCPAddr("tcp", f.listen)
	if err != nil {
		return nil, usageError{fmt.Errorf("--listen %q is no address such as %s: %v", f.listen, defaultAssist, err)}
	}
	if f.perMinute < 1 || f.perMinute > 1_000_000 {
		return nil, usageError{fmt.Errorf("--per-minute %d: 1 to 1000000 are possible", f.perMinute)}
	}
	ip, _ := netip.AddrFromSlice(addr.IP)
	if f.keys == "" && (!ip.IsLoopback() && !ip.Unmap().IsLoopback() || len(f.hosts) > 0) {
		return nil, usageError{errors.New("others than this machine would spend its owner's money: name a file of API keys with --keys, or listen on 127.0.0.1 without --host")}
	}
	ln, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w; stop what uses the port or choose another --listen", f.listen, err)
	}
	return ln, nil
}

// upstreamKey is the API key for an endpoint: OPENAI_API_KEY, or for the network
// in --dir a key of the program's own.
func (a *app) upstreamKey(ctx context.Context, upstream, name string) (string, error) {
	if k := a.getenv(apiKeyVariable); k != "" || upstream != "" || a.getenv("OPENAI_BASE_URL") != "" {
		return k, nil
	}
	return a.ownKey(ctx, name)
}

// assistHandler makes the server of the tasks on an OpenAI endpoint.
func (a *app) assistHandler(f *assistFlags, base, key string) (*web.Server, error) {
	cfg := web.Config{
		Endpoint:  &assist.Endpoint{Base: base, Model: f.model, EmbedModel: f.embedModel, APIKey: key},
		Logger:    slog.New(slog.NewTextHandler(a.env.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Hosts:     f.hosts,
		IndexDir:  cmp.Or(f.index, filepath.Join(a.dir, "assist")),
		PerMinute: f.perMinute,
		DailyNano: f.daily,
	}
	if f.keys != "" {
		b, err := os.ReadFile(f.keys)
		if err != nil {
			return nil, err
		}
		var keys []string
		for line := range strings.Lines(string(b)) {
			key := strings.TrimSpace(line)
			switch {
			case key == "" || strings.HasPrefix(key, "#"):
			case len(key) < 16:
				return nil, fmt.Errorf("%s has a key of less than 16 characters: it could be guessed", f.keys)
			default:
				keys = append(keys, key)
			}
		}
		if len(keys) == 0 {
			return nil, fmt.Errorf("%s has no keys: write one a line", f.keys)
		}
		cfg.User = web.KeyUsers(keys)
	}
	if f.daily > 0 {
		a.progress("each caller may spend %s a day", coins.Nano(f.daily))
	}
	return web.New(cfg)
}

// serveAssist serves until ctx ends; what is being answered may be finished
// within a few seconds.
func serveAssist(ctx context.Context, ln net.Listener, h *web.Server) error {
	defer h.Close()
	srv := api.Server(h, nil)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if srv.Shutdown(end) != nil {
			_ = srv.Close()
		}
	})
	err := srv.Serve(ln)
	if !stop() {
		<-stopped
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
