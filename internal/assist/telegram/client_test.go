package telegram

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/assist/telegram/telegramtest"
)

func testClient(t *testing.T, s *telegramtest.Server) *Client {
	t.Helper()
	c, err := NewClient(telegramtest.Token, s.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCallObeysRetryAfter(t *testing.T) {
	s := telegramtest.New()
	t.Cleanup(s.Close)
	c := testClient(t, s)
	var waits []time.Duration
	c.wait = func(_ context.Context, d time.Duration) error { waits = append(waits, d); return nil }
	s.Fail("sendMessage", 429, 7)
	s.Fail("sendMessage", 500, 0)
	if err := c.Call(t.Context(), "sendMessage", map[string]any{"chat_id": 1, "text": "a"}, nil); err != nil {
		t.Fatal(err)
	}
	if len(waits) != 2 || waits[0] != 7*time.Second || waits[1] <= 0 {
		t.Errorf("waited %v", waits)
	}
	s.Fail("sendMessage", 429, 3600)
	err := c.Call(t.Context(), "sendMessage", map[string]any{"chat_id": 1, "text": "a"}, nil)
	var e *APIError
	if !errors.As(err, &e) || e.RetryAfter != time.Hour {
		t.Errorf("a wait of an hour is the caller's: %v", err)
	}
	s.Fail("sendMessageDraft", 429, 2)
	if err := c.Call(t.Context(), "sendMessageDraft", map[string]any{"chat_id": 1, "draft_id": 1, "text": "a"}, nil); codeOf(err) != 429 {
		t.Errorf("an old draft was sent late: %v", err)
	}
	for range maxTries {
		s.Fail("getMe", 502, 0)
	}
	if err := c.Call(t.Context(), "getMe", nil, nil); codeOf(err) != 502 {
		t.Errorf("tries do not end: %v", err)
	}
	if err := c.Call(t.Context(), "noMethod", nil, nil); codeOf(err) != 404 {
		t.Error(err)
	}
}

// The address holds the token, so no error may hold the address.
func TestTokenIsNowhere(t *testing.T) {
	gone := telegramtest.New()
	gone.Close()
	_, secret, _ := strings.Cut(telegramtest.Token, ":")
	echo := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		return nil, errors.New("cannot reach " + r.URL.String())
	})}
	for name, h := range map[string]*http.Client{"refused": nil, "echoed": echo} {
		c, err := NewClient(telegramtest.Token, gone.URL, h)
		if err != nil {
			t.Fatal(err)
		}
		c.wait = func(context.Context, time.Duration) error { return nil }
		err = c.Call(t.Context(), "getMe", nil, nil)
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("client", "client", c, "error", err)
		if err == nil || strings.Contains(err.Error()+log.String(), secret) {
			t.Errorf("%s: %v, log %s", name, err, log.String())
		}
	}
	for _, bad := range []string{"", "x", "12:short", "12:" + strings.Repeat("a", 30) + "/../getMe"} {
		if _, err := NewClient(bad, "", nil); err == nil || bad != "" && bad != "x" && strings.Contains(err.Error(), bad) {
			t.Errorf("token %q: %v", bad, err)
		}
	}
	if _, err := NewClient(telegramtest.Token, "http://telegram.example", nil); err == nil {
		t.Error("the token may travel in clear")
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestInitData(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32))
	now := time.Unix(1_790_000_000, 0)
	make := func(botID string, fields map[string]string) string {
		keys := []string{"auth_date", "chat_type", "query_id", "user"} // sorted
		check := botID + ":WebAppData"
		q := url.Values{"hash": {"00"}}
		for _, k := range keys {
			if v, ok := fields[k]; ok {
				check += "\n" + k + "=" + v
				q.Set(k, v)
			}
		}
		q.Set("signature", base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(check))))
		return q.Encode()
	}
	fields := func() map[string]string {
		return map[string]string{"auth_date": "1789999000", "query_id": "AA+/=", "user": `{"id":77,"first_name":"Ä & =\n","language_code":"ru"}`, "chat_type": "private"}
	}
	p := InitDataPolicy{BotID: 4242, Key: key.Public().(ed25519.PublicKey)}
	good := make("4242", fields())
	d, err := p.Verify(good, now)
	if err != nil || d.User.ID != 77 || d.User.Language != "ru" || d.AuthDate.Unix() != 1789999000 {
		t.Fatalf("%+v %v", d, err)
	}
	if again, err := p.Verify(strings.Replace(good, "hash=00", "hash=01", 1), now); err != nil || again.Launch != d.Launch {
		t.Errorf("a copy of one launch counts as another: %v", err)
	}
	lines := fields()
	lines["query_id"] = "AA\nuser={\"id\":78}"
	old, late, nobody := fields(), fields(), fields()
	old["auth_date"], late["auth_date"], nobody["user"] = "1789996399", "1790000100", `{"id":0}`
	for name, bad := range map[string]string{
		"empty": "", "no query": "%zz", "another bot's": make("4243", fields()), "old": make("4242", old), "of the future": make("4242", late),
		"a line in a value": make("4242", lines), "nobody": make("4242", nobody), "changed": strings.Replace(good, "77", "78", 1), "field added": good + "&a=b", "field doubled": good + "&user=x",
		"signature cut": strings.Replace(good, "signature=", "signature=A", 1), "long": good + "&x=" + strings.Repeat("a", maxInitData),
	} {
		if d, err := p.Verify(bad, now); !errors.Is(err, ErrInitData) {
			t.Errorf("%s: %+v %v", name, d, err)
		}
	}
	for name, q := range map[string]InitDataPolicy{"zero": {}, "Telegram's key": {BotID: 4242, Key: ProductionKey}, "no bot": {Key: p.Key}} {
		if _, err := q.Verify(good, now); err == nil {
			t.Errorf("policy %s takes it", name)
		}
	}
}

func TestSplit(t *testing.T) {
	long := strings.Repeat("слово 😀 word\n", 1000)
	text := assist.Text{Text: long, Entities: []assist.Entity{{Type: "bold", Offset: 0, Length: units(long)}, {Type: "code", Offset: 4090, Length: 12}}}
	parts := split(text, maxUnits)
	if len(parts) < 4 {
		t.Fatalf("%d parts", len(parts))
	}
	joined := ""
	for i, p := range parts {
		if n := units(p.Text); n > maxUnits || n == 0 {
			t.Errorf("part %d has %d units", i, n)
		}
		for _, e := range p.Entities {
			if e.Offset < 0 || e.Length <= 0 || e.Offset+e.Length > units(p.Text) {
				t.Errorf("part %d: entity %+v", i, e)
			}
		}
		joined += p.Text + "\n"
	}
	if strings.Join(strings.Fields(joined), " ") != strings.Join(strings.Fields(long), " ") {
		t.Error("something was lost")
	}
	for _, p := range split(assist.Text{Text: strings.Repeat("😀", 5000)}, 4095) {
		if strings.ContainsRune(p.Text, '\uFFFD') {
			t.Error("cut inside a character")
		}
	}
	if got := split(assist.Text{Text: " \n "}, 10); len(got) != 0 {
		t.Errorf("%+v", got)
	}
	if got := cutTo(assist.Text{Text: strings.Repeat("x", 5000)}, maxUnits); units(got.Text) != maxUnits {
		t.Errorf("%d units", units(got.Text))
	}
}

func TestCommand(t *testing.T) {
	for text, want := range map[string]string{
		"/fix": "fix|", "/Fix hello": "fix|hello", "/tone@" + telegramtest.Username + "  a b": "tone|a b", "/fix@other x": "", "fix": "", "/fix\nx\ny ": "fix|x\ny",
	} {
		m := &Message{Text: text}
		got := ""
		if name, args, ok := m.command(telegramtest.Username); ok {
			got = name + "|" + after(m.text(), args).Text
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	e := after(assist.Text{Text: "/fix 😀 bold", Entities: []assist.Entity{{Type: "bot_command", Length: 4}, {Type: "bold", Offset: 8, Length: 4}}}, 4)
	if e.Text != "😀 bold" || len(e.Entities) != 1 || e.Entities[0].Offset != 3 {
		t.Errorf("%+v", e)
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add([]byte(`{"update_id":1,"message":{"message_id":1,"chat":{"id":-5,"type":"group"},"text":"/tone@x a 😀","entities":[{"type":"bold","offset":2,"length":99}],"reply_to_message":{"text":"x"}}}`))
	f.Add([]byte(`{"update_id":1,"inline_query":{"id":"1","from":{"id":1},"query":"ru: hi"}}`))
	f.Add([]byte(`{"update_id":1,"stopped_message_generation":{"chat":{"id":1},"draft_id":3}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := ParseUpdate(b)
		if err != nil {
			return
		}
		for _, m := range []*Message{u.Message, u.Edited, u.Guest, u.Business} {
			if m == nil {
				continue
			}
			_, args, _ := m.command("x")
			_ = m.author()
			a := after(m.text(), args)
			for _, p := range split(a, maxUnits) {
				if units(p.Text) > maxUnits {
					t.Fatal("a part is too long")
				}
			}
			_ = cutTo(a, maxUnits)
		}
	})
}

func FuzzInitData(f *testing.F) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)).Public().(ed25519.PublicKey)
	f.Add("auth_date=1&user=%7B%22id%22%3A1%7D&hash=1&signature=AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := (InitDataPolicy{BotID: 1, Key: key}).Verify(s, time.Unix(2, 0)); err == nil {
			t.Fatal("forged")
		}
	})
}
