package telegram

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

var commandNames = []string{"summary", "translate", "fix", "tone", "reply", "search", "ask", "forget", "language", "privacy", "receipt"}

// begin asks who the bot is and tells Telegram its commands.
func (b *Bot) begin(ctx context.Context) error {
	var me User
	if err := b.Client.Call(ctx, "getMe", map[string]any{}, &me); err != nil {
		return err
	}
	if me.ID != b.Client.BotID() || me.Username == "" {
		return errors.New("telegram: getMe names another bot than the token")
	}
	for _, lang := range Languages {
		p := map[string]any{"commands": commandList(lang)}
		if lang != "en" {
			p["language_code"] = lang
		}
		if err := b.Client.Call(ctx, "setMyCommands", p, nil); err != nil {
			return err
		}
	}
	if b.AppURL != "" {
		button := map[string]any{"type": "web_app", "text": "Cocoon", "web_app": map[string]string{"url": b.AppURL}}
		if err := b.Client.Call(ctx, "setChatMenuButton", map[string]any{"menu_button": button}, nil); err != nil {
			return fmt.Errorf("the button of the Mini App was not taken: %w", err)
		}
	}
	b.mu.Lock()
	b.name, b.ctx = me.Username, ctx
	b.mu.Unlock()
	if b.OnReady != nil {
		b.OnReady(me.Username)
	}
	return nil
}

// commandList takes the commands' descriptions out of the help text.
func commandList(lang string) []map[string]string {
	var out []map[string]string
	help := say(lang, "help", "{tones}", "…")
	for _, name := range commandNames {
		for line := range strings.Lines(help) {
			if _, text, ok := strings.Cut(line, " – "); ok && strings.HasPrefix(line, "/"+name) {
				out = append(out, map[string]string{"command": name, "description": clip(strings.TrimSpace(text), 100)})
			}
		}
	}
	return out
}

// end ends the jobs and waits for them.
func (b *Bot) end(cancel context.CancelFunc) {
	cancel()
	b.running.Wait()
}

// Run takes updates by long polling until ctx ends. It returns early where
// going on is of no use: a wrong token, or another program that polls.
func (b *Bot) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(ctx)
	if err := b.begin(work); err != nil {
		cancel()
		return err
	}
	defer b.end(cancel)
	go b.expire(work)
	if err := b.Client.Call(ctx, "deleteWebhook", map[string]any{}, nil); err != nil {
		return err
	}
	var offset int64
	conflicts := 0
	for ctx.Err() == nil {
		var list []json.RawMessage
		err := b.Client.Call(ctx, "getUpdates", map[string]any{"offset": offset, "timeout": int(pollTime / time.Second), "limit": 100, "allowed_updates": allowedUpdates}, &list)
		if ctx.Err() != nil {
			break
		}
		switch codeOf(err) {
		case http.StatusConflict:
			if conflicts++; conflicts == 3 {
				return err
			}
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
			return err
		}
		if err != nil {
			b.note("getUpdates", err)
			if b.Client.wait(ctx, 3*time.Second) != nil {
				break
			}
			continue
		}
		conflicts = 0
		for _, raw := range list {
			var id struct {
				ID int64 `json:"update_id"`
			}
			if json.Unmarshal(raw, &id) == nil {
				offset = max(offset, id.ID+1)
			}
			u, err := ParseUpdate(raw)
			if err != nil {
				b.Logger.Warn("an update cannot be read and is passed over")
				continue
			}
			b.handle(u)
		}
	}
	return context.Cause(ctx)
}

func (b *Bot) expire(ctx context.Context) {
	t := time.NewTicker(10 * time.Minute)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			b.windows.expire(now)
		case <-ctx.Done():
			return
		}
	}
}

var secretForm = regexp.MustCompile(`^[A-Za-z0-9_-]{16,256}$`)

// Webhook takes updates by HTTP: url is where Telegram reaches the handler,
// secret what each request must carry. serve serves the handler until ctx ends.
func (b *Bot) Webhook(ctx context.Context, url, secret string, serve func(context.Context, http.Handler) error) error {
	if !secretForm.MatchString(secret) {
		return errors.New("the webhook's secret must have 16 to 256 characters of A-Z, a-z, 0-9, _ and -")
	}
	work, cancel := context.WithCancel(ctx)
	if err := b.begin(work); err != nil {
		cancel()
		return err
	}
	defer b.end(cancel)
	go b.expire(work)
	p := map[string]any{"url": url, "secret_token": secret, "allowed_updates": allowedUpdates, "max_connections": 40}
	if err := b.Client.Call(ctx, "setWebhook", p, nil); err != nil {
		return fmt.Errorf("the webhook was not taken: %w", err)
	}
	return serve(ctx, b.handler(secret))
}

func (b *Bot) handler(secret string) http.Handler {
	want := sha256.Sum256([]byte(secret))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := sha256.Sum256([]byte(r.Header.Get("X-Telegram-Bot-Api-Secret-Token")))
		if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			http.Error(w, "the secret is missing or wrong", http.StatusUnauthorized)
			return
		}
		if r.Method != http.MethodPost {
			http.Error(w, "updates are posted", http.StatusMethodNotAllowed)
			return
		}
		body, err := io.ReadAll(io.LimitReader(r.Body, maxUpdate+1))
		if err != nil {
			http.Error(w, "the update ended early", http.StatusBadRequest)
			return
		}
		// Also what cannot be read is accepted: Telegram would send it for ever.
		u, err := ParseUpdate(body)
		if err != nil {
			b.Logger.Warn("an update cannot be read and is passed over")
			return
		}
		b.handle(u)
	})
}
