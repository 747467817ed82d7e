//go:build !tee

package cli

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/assist/telegram/telegramtest"
)

func TestTelegramCommand(t *testing.T) {
	tg := telegramtest.New()
	t.Cleanup(tg.Close)
	ai := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
	}))
	t.Cleanup(ai.Close)
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(telegramtest.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, secret, _ := strings.Cut(telegramtest.Token, ":")
	run := func(ctx context.Context, args ...string) (int, string) {
		var out bytes.Buffer
		all := append([]string{"--dir", dir, "assist", "telegram", "--server", tg.URL, "--upstream", ai.URL + "/v1"}, args...)
		code := Main(ctx, Env{Args: all, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out})
		return code, out.String()
	}
	for _, args := range [][]string{{}, {"--token-file", token, "--per-minute", "0"}, {"--token-file", token, "--webhook", "http://bot.example"}, {"--token-file", token, "--server", "http://bot.example"}} {
		if code, out := run(t.Context(), args...); code != exitUsage || strings.Contains(out, secret) {
			t.Errorf("%v: exit %d, %s", args, code, out)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	type ended struct {
		code int
		out  string
	}
	done := make(chan ended, 1)
	go func() {
		code, out := run(ctx, "--token-file", token)
		done <- ended{code, out}
	}()
	tg.Push(map[string]any{"message": map[string]any{"message_id": 1, "chat": map[string]any{"id": 7, "type": "private"}, "from": map[string]any{"id": 7, "language_code": "ru"}, "text": "/privacy"}})
	if _, err := tg.Wait(ctx, func(c telegramtest.Call) bool {
		return c.Method == "sendMessage" && strings.Contains(c.Text(), "выключен")
	}); err != nil {
		t.Error(err)
	}
	cancel()
	if e := <-done; e.code != exitOK || !strings.Contains(e.out, "telegram @"+telegramtest.Username+"\n") || strings.Contains(e.out, secret) {
		t.Errorf("exit %d: %s", e.code, e.out)
	}
}
