//go:build !tee

package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/assist/telegram"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// telegramFlags say which bot runs and how it is reached.
type telegramFlags struct {
	tokenFile, state, server    string
	upstream, model, receiptURL string
	embedModel, appURL          string
	webhook, listen             string
	perMinute                   int
	daily                       uint64
}

func (a *app) telegramCommand() *cobra.Command {
	var f telegramFlags
	cmd := &cobra.Command{
		Use:   "telegram",
		Short: "The Telegram bot: summaries, translation, writing, replies and search in chats",
		Long: `Run a Telegram bot on the network in --dir, or on any OpenAI endpoint. Get its
token from @BotFather and write it to a file that only you can read.

The bot is off in each chat until it is switched on there: by the user in a
private chat, by an administrator in a group. It remembers the newest 200
messages of such chats in memory, and sends a text to the network only when
somebody asks for something. --state holds settings and consent, nothing else.

It polls Telegram. With --webhook it is called instead, at an https address that
a web server of yours passes on to --webhook-listen.

When it takes messages, a line "telegram @NAME" is printed.`,
		Example: `  cocoon assist telegram --token-file bot-token
  cocoon assist telegram --token-file bot-token --upstream http://127.0.0.1:8000/v1 --model Qwen/Qwen3-8B
  cocoon assist telegram --token-file bot-token --webhook https://bot.example/telegram --daily-nano 1000000000`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runTelegram(cmd.Context(), &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.tokenFile, "token-file", "", "file with the bot's token (default: COCOON_TELEGRAM_TOKEN)")
	fl.StringVar(&f.state, "state", "", "file of settings and consent (default: telegram.json in --dir)")
	fl.StringVar(&f.upstream, "upstream", "", "OpenAI endpoint, ending in /v1 (default: OPENAI_BASE_URL, or the network in --dir)")
	fl.StringVar(&f.model, "model", "", "model to ask (default: the first one served)")
	fl.StringVar(&f.embedModel, "embed-model", "", "model for embeddings, which find by meaning (default: the first one served with \"embed\" in its name)")
	fl.StringVar(&f.receiptURL, "receipt-url", "", "what stands before a receipt's id to make a link, such as https://assist.example/assist/v1/receipts/")
	fl.StringVar(&f.appURL, "app-url", "", "https address of the web app, for a button beside the message field (see cocoon assist --mini-app-bot)")
	fl.StringVar(&f.webhook, "webhook", "", "https address at which Telegram reaches the bot (default: the bot polls)")
	fl.StringVar(&f.listen, "webhook-listen", "127.0.0.1:10081", "address to listen on for --webhook")
	fl.StringVar(&f.server, "server", telegram.DefaultServer, "Bot API server")
	fl.IntVar(&f.perMinute, "per-minute", 10, "answers that one user gets a minute")
	fl.Uint64Var(&f.daily, "daily-nano", 0, "what all answers of a day may cost, in nano; 0 = no limit")
	return cmd
}

// token reads the bot's token; no error holds it.
func (a *app) telegramToken(f *telegramFlags) (string, error) {
	if f.tokenFile == "" {
		if t := a.getenv("COCOON_TELEGRAM_TOKEN"); t != "" {
			return t, nil
		}
		return "", usageError{errors.New("name a file with the bot's token by --token-file; @BotFather gives tokens")}
	}
	file, err := os.Open(f.tokenFile)
	if err != nil {
		return "", fmt.Errorf("the bot's token: %w", err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Mode().Perm()&0o077 != 0 {
		a.progress("others on this machine may read %s: chmod 600 it", f.tokenFile)
	}
	b, err := io.ReadAll(io.LimitReader(file, 4096))
	if err != nil {
		return "", fmt.Errorf("the bot's token: %w", err)
	}
	return string(b), nil
}

func (a *app) runTelegram(ctx context.Context, f *telegramFlags) error {
	if f.perMinute < 1 || f.perMinute > 10_000 {
		return usageError{fmt.Errorf("--per-minute %d: 1 to 10000 are possible", f.perMinute)}
	}
	for name, s := range map[string]string{"--webhook": f.webhook, "--receipt-url": f.receiptURL, "--app-url": f.appURL} {
		u, err := url.Parse(s)
		if s != "" && (err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || name != "--receipt-url")) {
			return usageError{fmt.Errorf("%s %q is no https address", name, s)}
		}
	}
	token, err := a.telegramToken(f)
	if err != nil {
		return err
	}
	client, err := telegram.NewClient(token, f.server, nil)
	if err != nil {
		return usageError{err}
	}
	g, err := a.gateway(f.upstream)
	if err != nil {
		return err
	}
	key, err := a.upstreamKey(ctx, f.upstream, "telegram")
	if err != nil {
		return err
	}
	endpoint := &assist.Endpoint{Base: g.base, Model: f.model, EmbedModel: f.embedModel, APIKey: key}
	info, err := endpoint.Info(ctx)
	if err != nil {
		return err
	}
	if g.simulated {
		a.progress("SIMULATED network: no hardware protects what is sent")
	}
	if f.state == "" {
		if err := os.MkdirAll(a.dir, 0o700); err != nil {
			return err
		}
		f.state = filepath.Join(a.dir, "telegram.json")
	}
	state, err := telegram.OpenState(f.state)
	if err != nil {
		return err
	}
	if f.daily > 0 {
		a.progress("all answers of a day may cost %s", coins.Nano(f.daily))
	}
	bot, err := telegram.New(telegram.Config{
		Client: client, State: state, Assistant: assist.New(endpoint, assist.IsSmall(info.Model)), Model: endpoint, ReceiptURL: f.receiptURL, AppURL: f.appURL, Simulated: info.Simulated, PerMinute: f.perMinute, DailyNano: f.daily,
		Logger:  slog.New(slog.NewTextHandler(a.env.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		OnReady: func(name string) { fmt.Fprintf(a.env.Stdout, "telegram @%s\n", name) },
	})
	if err != nil {
		return err
	}
	if f.webhook == "" {
		return bot.Run(ctx)
	}
	ln, err := net.Listen("tcp", f.listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; stop what uses the port or choose another --webhook-listen", f.listen, err)
	}
	defer ln.Close()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	return bot.Webhook(ctx, f.webhook, hex.EncodeToString(secret), func(ctx context.Context, h http.Handler) error { return serveHook(ctx, ln, h) })
}

// serveHook serves Telegram's calls until ctx ends.
func serveHook(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := api.Server(h, nil)
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() }) // what was not taken, Telegram sends again
	defer stop()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
