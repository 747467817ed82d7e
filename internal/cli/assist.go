//go:build !tee

package cli

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/assist/index"
	"github.com/cocoon-network/cocoon/internal/assist/telegram"
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
	indexMost                           int
	perMinute                           int
	daily, total                        uint64
	miniApp                             miniAppFlags
}

// miniAppFlags say whom of Telegram's users the web app lets in.
type miniAppFlags struct {
	bot    int64
	users  []int64
	key    string
	frames []string
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

With --mini-app-bot, users of Telegram who open the web app from that bot get in
by Telegram's signature, each with limits and an index of their own. Anybody can
open a bot's app: name --mini-app-user, or bound the cost by --total-daily-nano.

When it answers, a line "assist http://HOST:PORT" is printed.`,
		Example: `  cocoon assist
  cocoon assist --upstream http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B
  cocoon assist --listen 0.0.0.0:10002 --host assist.example --keys keys.txt --daily-nano 1000000000
  cocoon assist --host assist.example --mini-app-bot 123456 --total-daily-nano 1000000000
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
			// It may come later; whoever looks at an empty page should know.
			probe, cancel := context.WithTimeout(cmd.Context(), 3*time.Second)
			if err := h.Probe(probe); err != nil {
				a.progress("warning: %v Requests fail until it does", err)
			}
			cancel()
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
	fl.Uint64Var(&f.total, "total-daily-nano", 0, "what all requests of a day may cost, in nano; 0 = no limit")
	fl.IntVar(&f.indexMost, "index-messages", index.MaxMessages, "messages that one caller's search index may hold")
	fl.Int64Var(&f.miniApp.bot, "mini-app-bot", 0, "bot whose Mini App this is: the number before the colon of its token")
	fl.Int64SliceVar(&f.miniApp.users, "mini-app-user", nil, "`ids` of Telegram's users who may open it (default: all)")
	fl.StringVar(&f.miniApp.key, "mini-app-key", "production", "whose signature counts: Telegram's \"production\" or \"test\" key, or another in hex")
	fl.StringSliceVar(&f.miniApp.frames, "frame", nil, "origins that may show the web app in a frame, such as https://web.telegram.org")
	return cmd
}

// launches makes the check of what Telegram tells the Mini App; nil = there is
// none.
func (m *miniAppFlags) launches() (func(string, time.Time) (web.Launch, error), error) {
	if m.bot == 0 {
		return nil, nil
	}
	policy := telegram.InitDataPolicy{BotID: m.bot}
	switch m.key {
	case "production":
		policy.Key = telegram.ProductionKey
	case "test":
		policy.Key = telegram.TestKey
	default:
		b, err := hex.DecodeString(m.key)
		if err != nil || len(b) != ed25519.PublicKeySize {
			return nil, usageError{fmt.Errorf("--mini-app-key %q is neither production nor test nor a key of %d bytes in hex", m.key, ed25519.PublicKeySize)}
		}
		policy.Key = b
	}
	return func(data string, now time.Time) (web.Launch, error) {
		d, err := policy.Verify(data, now)
		if err != nil {
			return web.Launch{}, err
		}
		if len(m.users) > 0 && !slices.Contains(m.users, d.User.ID) {
			return web.Launch{}, errors.New("this server lets in only some, and you are none of them: ask whoever runs it")
		}
		return web.Launch{User: "telegram " + strconv.FormatInt(d.User.ID, 10), ID: d.Launch, Expires: d.Expires}, nil
	}, nil
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
	if f.indexMost < 0 || f.indexMost > index.MaxMessages {
		return nil, usageError{fmt.Errorf("--index-messages %d: 1 to %d are possible", f.indexMost, index.MaxMessages)}
	}
	switch m := &f.miniApp; {
	case m.bot < 0:
		return nil, usageError{fmt.Errorf("--mini-app-bot %d is no bot: write the number before the colon of its token", m.bot)}
	case m.bot == 0 && len(m.users) > 0:
		return nil, usageError{errors.New("--mini-app-user needs --mini-app-bot, the bot whose Mini App they open")}
	case m.bot != 0 && len(m.users) == 0 && f.total == 0:
		return nil, usageError{errors.New("everybody on Telegram can open a bot's Mini App, and this server's owner pays: bound that by --total-daily-nano, or name users by --mini-app-user")}
	}
	if _, err := f.miniApp.launches(); err != nil {
		return nil, err
	}
	ip, _ := netip.AddrFromSlice(addr.IP)
	if f.keys == "" && f.miniApp.bot == 0 && (!ip.IsLoopback() && !ip.Unmap().IsLoopback() || len(f.hosts) > 0) {
		return nil, usageError{errors.New("others than this machine would spend its owner's money: name a file of API keys with --keys or the bot of a Mini App with --mini-app-bot, or listen on 127.0.0.1 without --host")}
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
	launches, err := f.miniApp.launches()
	if err != nil {
		return nil, err
	}
	cfg := web.Config{
		Endpoint:  &assist.Endpoint{Base: base, Model: f.model, EmbedModel: f.embedModel, APIKey: key},
		Logger:    slog.New(slog.NewTextHandler(a.env.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Hosts:     f.hosts,
		IndexDir:  cmp.Or(f.index, filepath.Join(a.dir, "assist")),
		PerMinute: f.perMinute,
		DailyNano: f.daily,
		TotalNano: f.total,
		MiniApp:   launches,
		Frames:    f.miniApp.frames,

		IndexMessages: f.indexMost,
	}
	if k := f.miniApp.key; launches != nil && k != "production" {
		a.progress("sessions are given by a key that is not Telegram's production key (--mini-app-key)")
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
	if f.total > 0 {
		a.progress("all callers together may spend %s a day", coins.Nano(f.total))
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
