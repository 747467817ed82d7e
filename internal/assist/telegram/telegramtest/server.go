// Package telegramtest is a stand-in for Telegram's Bot API with its limits.
//
// Owns: a server for tests, in this process, on the loopback.
// Imports: nothing of this module.
// Trust: none; it is linked into tests only.
// Concurrency: a Server is safe for concurrent use.
package telegramtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf16"
)

// Token is the bot's; Username its name.
const (
	Token    = "4242:AAtelegramtestAAtelegramtestAAtest"
	Username = "cocoontestbot"
	BotID    = 4242
)

// Call is one call the bot made.
type Call struct {
	Method string
	Params map[string]any
	Code   int // what it was answered with
	Time   time.Time
}

// Text is the call's text, wherever the method has it.
func (c Call) Text() string {
	s, _ := c.Params["text"].(string)
	return s
}

// Chat is the call's chat_id.
func (c Call) Chat() int64 { return integer(c.Params["chat_id"]) }

// Server is the stand-in.
type Server struct {
	URL string

	mu       sync.Mutex
	changed  chan struct{}
	updates  []update
	next     int64
	calls    []Call
	conns    map[string]map[string]any
	polling  chan struct{} // closed to end a getUpdates
	hook     string
	secret   string
	failures map[string][]failure
	admins   map[[2]int64]bool
	isAdmin  map[int64]bool
	refused  map[int64]bool
	rates    map[int64]*Rates
	groups   map[int64][]time.Time
	message  int64
	srv      *httptest.Server
}

type update struct {
	id  int64
	raw json.RawMessage
}

type failure struct{ code, retryAfter int }

// New starts a stand-in; Close ends it.
func New() *Server {
	s := &Server{changed: make(chan struct{}), next: 1, failures: map[string][]failure{}, admins: map[[2]int64]bool{},
		isAdmin: map[int64]bool{}, refused: map[int64]bool{}, rates: map[int64]*Rates{}, groups: map[int64][]time.Time{}, conns: map[string]map[string]any{}, message: 1000}
	s.srv = httptest.NewServer(s)
	s.URL = s.srv.URL
	return s
}

// Close ends the server and whoever polls.
func (s *Server) Close() {
	s.mu.Lock()
	if s.polling != nil {
		close(s.polling)
		s.polling = nil
	}
	s.mu.Unlock()
	s.srv.CloseClientConnections()
	s.srv.Close()
}

// Admin makes a user an administrator of a chat; user BotID makes the bot one.
func (s *Server) Admin(chat, user int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.admins[[2]int64{chat, user}] = true
	if user == BotID {
		s.isAdmin[chat] = true
	}
}

// Connect makes a business connection known.
func (s *Server) Connect(id string, c map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[id] = c
}

// Blocked makes a private chat one that the bot may not write to.
func (s *Server) Blocked(chat int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[chat] = true
}

// Fail makes the next call of a method fail; retryAfter in seconds, 0 = none.
func (s *Server) Fail(method string, code, retryAfter int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures[method] = append(s.failures[method], failure{code, retryAfter})
}

// Push queues an update, whose update_id it sets, or delivers it to the webhook.
// The status of the webhook's answer is returned, 0 if there is none.
func (s *Server) Push(u map[string]any) int {
	s.mu.Lock()
	id := s.next
	s.next++
	u["update_id"] = id
	raw, err := json.Marshal(u)
	if err != nil {
		panic(err) // of a test's own values
	}
	hook, secret := s.hook, s.secret
	if hook == "" {
		s.updates = append(s.updates, update{id, raw})
		s.wakeLocked()
		s.mu.Unlock()
		return 0
	}
	s.mu.Unlock()
	req, err := http.NewRequest(http.MethodPost, hook, bytes.NewReader(raw))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Telegram-Bot-Api-Secret-Token", secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

func (s *Server) wakeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Calls are the calls of the methods named, of all if none is.
func (s *Server) Calls(methods ...string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Call
	for _, c := range s.calls {
		if len(methods) == 0 {
			out = append(out, c)
		}
		for _, m := range methods {
			if c.Method == m {
				out = append(out, c)
			}
		}
	}
	return out
}

// Wait waits for a call that match accepts, from the beginning on.
func (s *Server) Wait(ctx context.Context, match func(Call) bool) (Call, error) {
	for seen := 0; ; {
		s.mu.Lock()
		changed := s.changed
		for ; seen < len(s.calls); seen++ {
			if c := s.calls[seen]; match(c) {
				s.mu.Unlock()
				return c, nil
			}
		}
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Call{}, ctx.Err()
		}
	}
}

type refusal struct {
	code       int
	text       string
	retryAfter int
}

func bad(format string, args ...any) *refusal {
	return &refusal{code: 400, text: "Bad Request: " + fmt.Sprintf(format, args...)}
}

// ServeHTTP answers /bot<token>/<method>.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method, ok := strings.CutPrefix(r.URL.Path, "/bot"+Token+"/")
	var result any
	var no *refusal
	params := map[string]any{}
	if !ok {
		no = &refusal{code: 401, text: "Unauthorized"}
	} else {
		b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		d := json.NewDecoder(bytes.NewReader(b))
		d.UseNumber()
		if err != nil || len(b) > 0 && d.Decode(&params) != nil {
			no = bad("the body is not JSON")
		} else {
			result, no = s.answer(r.Context(), method, params)
		}
	}
	code := 200
	out := map[string]any{"ok": true, "result": result}
	if no != nil {
		code = no.code
		out = map[string]any{"ok": false, "error_code": no.code, "description": no.text}
		if no.retryAfter > 0 {
			out["parameters"] = map[string]any{"retry_after": no.retryAfter}
		}
	}
	s.mu.Lock()
	s.calls = append(s.calls, Call{method, params, code, time.Now()})
	s.wakeLocked()
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(out) // a caller who left hears nothing
}

var secretForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

func (s *Server) answer(ctx context.Context, method string, p map[string]any) (any, *refusal) {
	s.mu.Lock()
	if f := s.failures[method]; len(f) > 0 {
		s.failures[method] = f[1:]
		s.mu.Unlock()
		return nil, &refusal{f[0].code, "injected failure", f[0].retryAfter}
	}
	s.mu.Unlock()
	if method == "getUpdates" {
		return s.poll(ctx, p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch method {
	case "getMe":
		return map[string]any{"id": BotID, "is_bot": true, "first_name": "Cocoon", "username": Username}, nil
	case "setMyCommands":
		list, _ := p["commands"].([]any)
		if len(list) == 0 || len(list) > 100 {
			return nil, bad("BOT_COMMANDS_INVALID")
		}
		return true, nil
	case "setChatMenuButton":
		button, _ := p["menu_button"].(map[string]any)
		app, _ := button["web_app"].(map[string]any)
		address, _ := app["url"].(string)
		if text, _ := button["text"].(string); button["type"] != "web_app" || text == "" || !strings.HasPrefix(address, "https://") {
			return nil, bad("BUTTON_URL_INVALID")
		}
		return true, nil
	case "setWebhook":
		s.hook, _ = p["url"].(string)
		s.secret, _ = p["secret_token"].(string)
		if s.secret != "" && !secretForm.MatchString(s.secret) {
			return nil, bad("secret token contains illegal symbols")
		}
		return true, nil
	case "deleteWebhook":
		s.hook, s.secret = "", ""
		return true, nil
	case "getChatMember":
		status := "member"
		if s.admins[[2]int64{integer(p["chat_id"]), integer(p["user_id"])}] {
			status = "administrator"
		}
		return map[string]any{"status": status, "user": map[string]any{"id": p["user_id"]}}, nil
	case "getBusinessConnection":
		id, _ := p["business_connection_id"].(string)
		c, ok := s.conns[id]
		if !ok {
			return nil, bad("BUSINESS_CONNECTION_INVALID")
		}
		return c, nil
	case "answerCallbackQuery":
		return true, need(p, "callback_query_id")
	case "answerInlineQuery":
		results, _ := p["results"].([]any)
		if len(results) > 50 {
			return nil, bad("RESULTS_TOO_MUCH")
		}
		for _, r := range results {
			if no := article(r); no != nil {
				return nil, no
			}
		}
		return true, need(p, "inline_query_id")
	case "answerGuestQuery":
		if no := article(p["result"]); no != nil {
			return nil, no
		}
		return map[string]any{"inline_message_id": "guest"}, need(p, "guest_query_id")
	case "sendMessageDraft":
		chat := integer(p["chat_id"])
		if chat <= 0 {
			return nil, bad("TEXTDRAFT_PEER_INVALID")
		}
		if integer(p["draft_id"]) == 0 {
			return nil, bad("RANDOM_ID_INVALID")
		}
		if no := checkText(p["text"], p["entities"], true); no != nil {
			return nil, no
		}
		if s.rates[chat] == nil {
			s.rates[chat] = &Rates{}
		}
		if wait := s.rates[chat].Take(now); wait > 0 {
			return nil, &refusal{429, "Too Many Requests: retry later", int(wait/time.Second) + 1}
		}
		return true, nil
	case "sendMessage":
		chat := integer(p["chat_id"])
		if chat == 0 {
			return nil, bad("chat_id is empty")
		}
		if no := checkText(p["text"], p["entities"], false); no != nil {
			return nil, no
		}
		if s.refused[chat] {
			return nil, &refusal{code: 403, text: "Forbidden: bot can't initiate conversation with a user"}
		}
		if e, ok := p["ephemeral_message_parameters"].(map[string]any); ok {
			if chat > 0 || !s.isAdmin[chat] {
				return nil, bad("BOT_NOT_ADMIN")
			}
			if integer(e["receiver_user_id"]) <= 0 {
				return nil, bad("USER_ID_INVALID")
			}
		}
		if chat < 0 { // 20 messages a minute to one group
			g := since(s.groups[chat], now.Add(-time.Minute))
			if len(g) >= 20 {
				return nil, &refusal{429, "Too Many Requests: retry after 30", 30}
			}
			s.groups[chat] = append(g, now)
		}
		s.message++
		return map[string]any{"message_id": s.message, "date": now.Unix(), "chat": map[string]any{"id": chat}, "text": p["text"]}, nil
	}
	return nil, &refusal{code: 404, text: "Not Found: method not found"}
}

// poll holds a getUpdates until there is something, another one comes, or its
// timeout ends.
func (s *Server) poll(ctx context.Context, p map[string]any) (any, *refusal) {
	offset := integer(p["offset"])
	end := time.After(time.Duration(integer(p["timeout"])) * time.Second)
	s.mu.Lock()
	if s.hook != "" {
		s.mu.Unlock()
		return nil, &refusal{code: 409, text: "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"}
	}
	if s.polling != nil {
		close(s.polling)
	}
	mine := make(chan struct{})
	s.polling = mine
	for {
		var out []json.RawMessage
		keep := s.updates[:0]
		for _, u := range s.updates {
			if u.id < offset {
				continue
			}
			keep = append(keep, u)
			if len(out) < 100 {
				out = append(out, u.raw)
			}
		}
		s.updates = keep
		changed := s.changed
		if len(out) > 0 {
			s.polling = nil
			s.mu.Unlock()
			return out, nil
		}
		s.mu.Unlock()
		select {
		case <-changed:
		case <-mine:
			return nil, &refusal{code: 409, text: "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"}
		case <-end:
			s.done(mine)
			return []any{}, nil
		case <-ctx.Done():
			s.done(mine)
			return []any{}, nil
		}
		s.mu.Lock()
	}
}

func (s *Server) done(mine chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.polling == mine {
		s.polling = nil
	}
}

func need(p map[string]any, key string) *refusal {
	if v, _ := p[key].(string); v == "" {
		return bad("%s is empty", key)
	}
	return nil
}

func article(v any) *refusal {
	r, _ := v.(map[string]any)
	content, _ := r["input_message_content"].(map[string]any)
	id, _ := r["id"].(string)
	title, _ := r["title"].(string)
	if r["type"] != "article" || id == "" || len(id) > 64 || title == "" || content == nil {
		return bad("RESULT_TYPE_INVALID")
	}
	return checkText(content["message_text"], content["entities"], false)
}

// checkText holds a text to 4096 UTF-16 units and its entities to it.
func checkText(text, entities any, mayBeEmpty bool) *refusal {
	t, _ := text.(string)
	if strings.TrimSpace(t) == "" && !mayBeEmpty {
		return bad("message text is empty")
	}
	u := utf16.Encode([]rune(t))
	if len(u) > 4096 {
		return bad("message is too long")
	}
	list, _ := entities.([]any)
	for _, v := range list {
		e, _ := v.(map[string]any)
		from, n := integer(e["offset"]), integer(e["length"])
		if kind, _ := e["type"].(string); kind == "" {
			return bad("can't parse MessageEntity: type is empty")
		}
		if from < 0 || n <= 0 || from+n > int64(len(u)) {
			return bad("ENTITY_BOUNDS_INVALID")
		}
		for _, i := range []int64{from, from + n} {
			if i > 0 && i < int64(len(u)) && u[i] >= 0xDC00 && u[i] <= 0xDFFF {
				return bad("ENTITY_BOUNDS_INVALID")
			}
		}
	}
	return nil
}

func integer(v any) int64 {
	switch n := v.(type) {
	case json.Number:
		i, _ := n.Int64()
		return i
	case int64:
		return n
	case int:
		return int64(n)
	}
	return 0
}

// InitData is what Telegram tells a Mini App of the bot, signed by key: fields
// as "auth_date", "query_id" and "user", a JSON object.
func InitData(key ed25519.PrivateKey, fields map[string]string) string {
	q := url.Values{"hash": {"00"}}
	signed := fmt.Sprintf("%d:WebAppData", BotID)
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		signed += "\n" + k + "=" + fields[k]
		q.Set(k, fields[k])
	}
	q.Set("signature", base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed))))
	return q.Encode()
}

// Rates are the limits of drafts to one peer: 20 in 5 s and 40 in 30 s.
type Rates struct{ at []time.Time }

// Take counts a draft at now, or returns how long to wait.
func (r *Rates) Take(now time.Time) time.Duration {
	r.at = since(r.at, now.Add(-30*time.Second))
	five := since(r.at, now.Add(-5*time.Second))
	switch {
	case len(five) >= 20:
		return five[len(five)-20].Add(5 * time.Second).Sub(now)
	case len(r.at) >= 40:
		return r.at[len(r.at)-40].Add(30 * time.Second).Sub(now)
	}
	r.at = append(r.at, now)
	return 0
}

func since(ts []time.Time, from time.Time) []time.Time {
	for len(ts) > 0 && !ts[0].After(from) {
		ts = ts[1:]
	}
	return ts
}
