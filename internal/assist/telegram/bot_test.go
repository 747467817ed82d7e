package telegram

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/assist/telegram/telegramtest"
)

// endpoint is a small OpenAI endpoint that answers by task.
type endpoint struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	answer map[string]string // by the schema's name
	pause  time.Duration     // between the pieces of an answer
	hold   bool              // never end an answer
	broken bool              // no embeddings
	during func()            // runs once while embeddings are made
	left   chan time.Time    // when a held request was cancelled
}

func newEndpoint(t *testing.T) *endpoint {
	e := &endpoint{left: make(chan time.Time, 10), answer: map[string]string{
		"compose":   `{"text":"Hello, my friend."}`,
		"translate": `{"texts":["Привет, мой друг."]}`,
		"summarize": `{"summary":[{"text":"They meet on Monday.","refs":[1]}],"decisions":[{"text":"Monday it is.","refs":[1]}],"open_questions":[]}`,
		"ask":       `{"answer":"At six in the cafe.","refs":[1]}`,
		"replies":   `{"replies":[{"text":"Yes!","intent":"accept"},{"text":"No, sorry","intent":"decline"},{"text":"When?","intent":"ask"}]}`,
	}}
	e.Server = httptest.NewServer(e)
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	var rq struct {
		Format struct {
			Schema struct{ Name string } `json:"json_schema"`
		} `json:"response_format"`
	}
	_ = json.Unmarshal(b, &rq)
	if r.URL.Path == "/v1/embeddings" {
		e.embeddings(w, b)
		return
	}
	e.mu.Lock()
	e.bodies = append(e.bodies, string(b))
	text, pause, hold := e.answer[rq.Format.Schema.Name], e.pause, e.hold
	e.mu.Unlock()
	h := w.Header()
	h.Set("X-Cocoon-Verdict", "simulated")
	h.Set("X-Cocoon-Simulated", "true")
	h.Set("X-Cocoon-Sealed", "worker")
	h.Set("X-Cocoon-Receipt", "00ff00ff")
	h.Set("Content-Type", "text/event-stream")
	flush := w.(http.Flusher).Flush
	for s := text; s != ""; {
		n := min(9, len(s))
		for n < len(s) && s[n]&0xC0 == 0x80 {
			n++
		}
		c, _ := json.Marshal(s[:n])
		fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%s}}]}\n\n", c)
		flush()
		s = s[n:]
		if hold && len(text)-len(s) > 20 {
			<-r.Context().Done()
			e.left <- time.Now()
			return
		}
		time.Sleep(pause)
	}
	fmt.Fprint(w, "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12,\"cost_nano\":1500}}\n\ndata: [DONE]\n\n")
}

// embeddings knows two meanings: of meeting, and of doors.
func (e *endpoint) embeddings(w http.ResponseWriter, body []byte) {
	e.mu.Lock()
	e.bodies = append(e.bodies, string(body))
	broken, during := e.broken, e.during
	e.during = nil
	e.mu.Unlock()
	if during != nil {
		during()
	}
	if broken {
		http.Error(w, `{"error":{"message":"no","code":"service_unavailable"}}`, http.StatusServiceUnavailable)
		return
	}
	var rq struct{ Input []string }
	_ = json.Unmarshal(body, &rq)
	var data []any
	for i, text := range rq.Input {
		v := []float32{0, 0, 0.05}
		for k, words := range [][]string{{"meet", "rendezvous", "together"}, {"gate", "entrance", "key"}} {
			for _, word := range words {
				if strings.Contains(text, word) {
					v[k] = 1
				}
			}
		}
		data = append(data, map[string]any{"index": i, "embedding": v})
	}
	w.Header().Set("X-Cocoon-Receipt", "ee00ee00")
	w.Header().Set("X-Cocoon-Simulated", "true")
	_ = json.NewEncoder(w).Encode(map[string]any{"data": data, "usage": map[string]int{"prompt_tokens": 3, "total_tokens": 3, "cost_nano": 100}})
}

func (e *endpoint) requests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.bodies...)
}

// world is a bot at work between the stand-in and an endpoint.
type world struct {
	t     *testing.T
	tg    *telegramtest.Server
	ai    *endpoint
	bot   *Bot
	log   *bytes.Buffer
	state string
	seen  int
}

type lockedBuffer struct {
	mu sync.Mutex
	b  *bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, tg: telegramtest.New(), ai: newEndpoint(t), log: &bytes.Buffer{}, state: filepath.Join(t.TempDir(), "telegram.json")}
	t.Cleanup(w.tg.Close)
	s, err := OpenState(w.state)
	if err != nil {
		t.Fatal(err)
	}
	w.bot, err = New(Config{Client: testClient(t, w.tg), State: s, PerMinute: 100, Simulated: true, Assistant: assist.New(&assist.Endpoint{Base: w.ai.URL + "/v1", Model: "m"}, false),
		Logger: slog.New(slog.NewTextHandler(&lockedBuffer{b: w.log}, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) run() *world {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- w.bot.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			w.t.Error(err)
		}
	})
	return w
}

// wait waits for a call that was not waited for before.
func (w *world) wait(what string, match func(telegramtest.Call) bool) telegramtest.Call {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	n := 0
	c, err := w.tg.Wait(ctx, func(c telegramtest.Call) bool {
		if n++; n <= w.seen {
			return false
		}
		return match(c)
	})
	if err != nil {
		w.t.Fatalf("waiting for %s: %v; calls: %s", what, err, w.dump())
	}
	w.seen = n
	return c
}

func (w *world) dump() string {
	var s []string
	for _, c := range w.tg.Calls() {
		s = append(s, fmt.Sprintf("%s %d %v", c.Method, c.Code, c.Params))
	}
	return strings.Join(s, "\n")
}

// said waits for a message to a chat that holds text.
func (w *world) said(chat int64, text string) telegramtest.Call {
	w.t.Helper()
	return w.wait(fmt.Sprintf("%q in %d", text, chat), func(c telegramtest.Call) bool {
		return c.Method == "sendMessage" && c.Code == 200 && c.Chat() == chat && strings.Contains(c.Text(), text)
	})
}

var nextMessage int64 = 10

type fields = map[string]any

func user(id int64, lang string) fields {
	return fields{"id": id, "first_name": fmt.Sprintf("User%d", id), "language_code": lang}
}

func msg(chat fields, from fields, text string) fields {
	nextMessage++
	return fields{"message_id": nextMessage, "date": 1, "chat": chat, "from": from, "text": text}
}

func private(id int64) fields { return fields{"id": id, "type": "private"} }

var group = fields{"id": int64(-1001234567890), "type": "supergroup"}

const groupID = int64(-1001234567890)

func (w *world) press(from fields, m fields, data string) {
	w.tg.Push(fields{"callback_query": fields{"id": "c" + data, "from": from, "message": m, "data": data}})
}

func (w *world) agree(chat fields, from fields) {
	w.t.Helper()
	w.press(from, msg(chat, fields{"id": telegramtest.BotID, "is_bot": true}, "privacy"), "consent:on")
	w.wait("the consent's confirmation", func(c telegramtest.Call) bool {
		return c.Method == "sendMessage" && c.Code == 200 && (strings.Contains(c.Text(), "I am on here") || strings.Contains(c.Text(), "включён") || strings.Contains(c.Text(), "menyala"))
	})
}

func TestPrivateChat(t *testing.T) {
	w := newWorld(t).run()
	u := user(7, "en")
	say := func(text string) { w.tg.Push(fields{"message": msg(private(7), u, text)}) }
	say("/fix helo my frend")
	w.said(7, "I am switched off here")
	if n := len(w.ai.requests()); n != 0 {
		t.Fatalf("%d requests without consent", n)
	}
	say("/start")
	c := w.said(7, "What I see")
	if c.Params["reply_markup"] == nil || !strings.Contains(c.Text(), "SIMULATED") {
		t.Errorf("no switch, or no word of the simulation: %s", c.Text())
	}
	w.agree(private(7), u)
	say("/fix helo my frend")
	c = w.said(7, "Hello, my friend.")
	if !strings.Contains(c.Text(), "SIMULATED") || !strings.Contains(c.Text(), "AI") || c.Params["entities"] == nil {
		t.Errorf("%v", c.Params)
	}
	say("/receipt")
	c = w.said(7, "00ff00ff")
	if !strings.Contains(c.Text(), "SIMULATED") || !strings.Contains(c.Text(), "0.0000015 GRAM") || strings.Contains(c.Text(), "proved by its hardware") || strings.Contains(c.Text(), "nobody") {
		t.Errorf("receipt: %s", c.Text())
	}
	say("/translate ru Hello my friend")
	w.said(7, "Привет, мой друг.")
	say("/tone like a pirate: give me the money")
	w.said(7, "Hello, my friend.")
	if last := w.ai.requests(); !strings.Contains(last[len(last)-1], "like a pirate") || !strings.Contains(last[len(last)-1], "give me the money") {
		t.Error("the tone of one's own is not asked for")
	}
	say("/reply shall we meet?")
	w.said(7, "No, sorry")
	say("/tone")
	w.said(7, "Name a tone")
	// A plain text gets buttons; one of them acts on it.
	say("Meet me on Monday")
	c = w.said(7, "What shall I do")
	bot := msg(private(7), fields{"id": telegramtest.BotID, "is_bot": true}, "What")
	bot["reply_to_message"] = msg(private(7), u, "Meet me on Monday")
	w.press(u, bot, "do:summary")
	w.said(7, "They meet on Monday.")
	say("/search monday")
	w.said(7, "Meet me on Monday")
	say("/forget")
	w.said(7, "Forgotten")
	say("/search monday")
	w.said(7, "Nothing found")
	w.press(u, msg(private(7), u, "x"), "consent:off")
	w.said(7, "I am off here")
	n := len(w.ai.requests())
	say("/fix helo")
	w.said(7, "I am switched off here")
	if len(w.ai.requests()) != n {
		t.Error("a request after switching off")
	}
}

// meaning lets the bot find by meaning.
func (w *world) meaning() *world {
	w.bot.Model = &assist.Endpoint{Base: w.ai.URL + "/v1", Model: "m", EmbedModel: "e"}
	return w
}

func TestMenuButton(t *testing.T) {
	w := newWorld(t)
	w.bot.AppURL = "https://assist.example"
	w.run()
	w.wait("the button", func(c telegramtest.Call) bool { return c.Method == "setChatMenuButton" && c.Code == 200 })
	w = newWorld(t)
	w.bot.AppURL = "http://assist.example"
	if err := w.bot.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "Mini App") {
		t.Errorf("a button that Telegram does not take: %v", err)
	}
}

func TestSearchAndAsk(t *testing.T) {
	w := newWorld(t).meaning().run()
	anna, ben := user(7, "en"), user(8, "en")
	w.tg.Admin(groupID, telegramtest.BotID)
	w.tg.Admin(groupID, 7)
	says := func(from fields, text string) int64 {
		m := msg(group, from, text)
		w.tg.Push(fields{"message": m})
		return m["message_id"].(int64)
	}
	says(anna, "the canary sings before anybody agreed")
	w.agree(group, anna)
	cafe := says(anna, "We meet at six in the cafe.")
	gate := says(ben, "Citra has the key of the harbour.")
	says(anna, "Bring cake.")
	if n := len(w.ai.requests()); n != 0 {
		t.Fatalf("%d requests before anybody asked", n)
	}
	ephemeral := func(c telegramtest.Call, who int64) {
		t.Helper()
		e, _ := c.Params["ephemeral_message_parameters"].(map[string]any)
		if fmt.Sprint(e["receiver_user_id"]) != fmt.Sprint(who) {
			t.Errorf("not for the asker alone: %v", c.Params)
		}
	}
	link := func(id int64) string { return fmt.Sprintf("https://t.me/c/1234567890/%d", id) }

	says(ben, "/search rendezvous")
	c := w.said(groupID, "words and meaning")
	ephemeral(c, 8)
	if s := fmt.Sprint(c.Params); !strings.Contains(s, "We meet at six") || strings.Contains(s, "harbour") || !strings.Contains(s, link(cafe)) || strings.Contains(s, "Written by AI") || !strings.Contains(s, "/receipt") {
		t.Errorf("found: %s", s)
	}
	sent := strings.Join(w.ai.requests(), "\n")
	if strings.Contains(sent, "canary") || !strings.Contains(sent, "We meet at six") {
		t.Errorf("sent: %s", sent)
	}
	n := len(w.ai.requests())
	says(ben, "/search entrance")
	if c := w.said(groupID, "harbour"); !strings.Contains(fmt.Sprint(c.Params), link(gate)) {
		t.Errorf("%v", c.Params)
	}
	if more := w.ai.requests()[n:]; len(more) != 1 || strings.Contains(more[0], "cafe") {
		t.Errorf("texts are sent again: %q", more)
	}

	says(ben, "/ask When is the rendezvous?")
	c = w.said(groupID, "At six in the cafe.")
	ephemeral(c, 8)
	if s := fmt.Sprint(c.Params); !strings.Contains(s, "We meet at six") || !strings.Contains(s, link(cafe)) || !strings.Contains(s, "Written by AI") || strings.Contains(s, "harbour") {
		t.Errorf("answered: %s", s)
	}
	says(ben, "/receipt")
	if c := w.said(groupID, "ee00ee00"); !strings.Contains(c.Text(), "00ff00ff") || !strings.Contains(c.Text(), "0.0000016 GRAM") {
		t.Errorf("the receipt leaves calls out: %s", c.Text())
	}
	says(ben, "/ask")
	w.said(groupID, "Write a question")
	says(ben, "/search")
	w.said(groupID, "what to look for")
	about := msg(group, ben, "/ask who has it?")
	about["reply_to_message"] = msg(group, anna, "Only this one counts.")
	w.tg.Push(fields{"message": about})
	w.said(groupID, "Only this one counts.")
	if last := w.ai.requests(); strings.Contains(last[len(last)-1], "harbour") || !strings.Contains(last[len(last)-1], "Only this one") {
		t.Errorf("a question about one message: %s", last[len(last)-1])
	}
	w.ai.mu.Lock()
	w.ai.answer["ask"] = `{"answer":"","refs":[]}`
	w.ai.mu.Unlock()
	says(ben, "/ask Who has the key?")
	if c := w.said(groupID, "I have no answer"); !strings.Contains(c.Text(), "harbour") {
		t.Errorf("%s", c.Text())
	}

	// What is edited or forgotten is not found, also while texts are under way.
	w.tg.Push(fields{"edited_message": fields{"message_id": cafe, "date": 1, "chat": group, "from": anna, "text": "Never mind."}})
	says(ben, "/search rendezvous")
	w.said(groupID, "Nothing found")
	late := msg(group, anna, "we sit together at noon")
	w.tg.Push(fields{"message": late})
	w.ai.mu.Lock()
	w.ai.during = func() { w.bot.windows.forget(place{chat: groupID}, late["message_id"].(int64)) }
	w.ai.mu.Unlock()
	says(ben, "/search together")
	w.said(groupID, "Nothing found")
	if f := w.bot.windows.indexes[place{chat: groupID}]; f.ix.Len() != 3 {
		t.Errorf("%d messages are in the index", f.ix.Len())
	}
	w.ai.mu.Lock()
	w.ai.broken = true
	w.ai.mu.Unlock()
	says(ben, "Another one.")
	says(ben, "/search another")
	w.said(groupID, "Found by words, here")
	w.press(anna, msg(group, fields{"id": telegramtest.BotID, "is_bot": true}, "privacy"), "consent:off")
	w.said(groupID, "I am off here")
	if n := len(w.bot.windows.indexes); n != 0 {
		t.Errorf("%d indexes after switching off", n)
	}
	n = len(w.ai.requests())
	says(ben, "/ask When is the rendezvous?")
	w.said(groupID, "switched off")
	if len(w.ai.requests()) != n {
		t.Error("a request without consent")
	}
	for _, secret := range []string{"cafe", "harbour", "rendezvous"} {
		if strings.Contains(w.log.String(), secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestWindowForgets(t *testing.T) {
	w := windows{m: map[place][]kept{}, indexes: map[place]*finder{}}
	p, now := place{chat: 1}, time.Now()
	for i := range maxWindow {
		w.add(p, kept{id: int64(i), at: now.Add(time.Duration(i) * time.Second), text: assist.Text{Text: fmt.Sprint("word", i)}})
	}
	f := w.finder(p, now)
	fill := func() {
		if _, _, err := f.ix.Add(t.Context(), nil, "", messages(w.last(p, maxWindow, now))); err != nil {
			t.Fatal(err)
		}
	}
	fill()
	w.add(p, kept{id: 1000, at: now.Add(time.Hour), text: assist.Text{Text: "one more"}})
	if n := f.ix.Len(); n != maxWindow-1 {
		t.Errorf("%d are found after one left", n)
	}
	w.add(p, kept{id: 1000, at: now.Add(time.Hour), text: assist.Text{Text: "told again"}})
	if n := len(w.m[p]); n != maxWindow {
		t.Errorf("%d messages; one was told twice", n)
	}
	fill()
	w.last(p, 0, now.Add(windowAge+100*time.Second+time.Millisecond))
	if n := f.ix.Len(); n != maxWindow-101+1 {
		t.Errorf("%d are found after a day", n)
	}
	w.edit(p, 1000, assist.Text{Text: "edited, and longer than it was"})
	w.forget(p, 150, 151)
	w.add(place{chat: 2}, kept{id: 1, at: now, text: assist.Text{Text: "x"}})
	w.forget(place{chat: 2}, 1)
	w.drop(place{chat: 3})
	sum := 0
	for _, k := range w.m[p] {
		sum += k.size()
	}
	if w.bytes != sum || sum == 0 {
		t.Errorf("%d bytes are counted, there are %d", w.bytes, sum)
	}
	w.expire(now.Add(3 * windowAge))
	if len(w.m)+len(w.indexes)+w.bytes != 0 {
		t.Errorf("something is left: %d, %d, %d bytes", len(w.m), len(w.indexes), w.bytes)
	}
	big := assist.Text{Text: strings.Repeat("x", 1<<20)}
	for i := range maxWindowBytes>>20 + 2 {
		w.add(place{chat: int64(i)}, kept{id: 1, at: now.Add(time.Duration(i)), text: big})
	}
	if w.bytes > maxWindowBytes || w.m[place{}] != nil || w.m[place{chat: maxWindowBytes>>20 + 1}] == nil {
		t.Errorf("%d bytes are remembered", w.bytes)
	}
	for i := range maxFinders + 1 {
		w.finder(place{chat: int64(i)}, now.Add(time.Duration(i)))
	}
	if len(w.indexes) != maxFinders || w.indexes[place{}] != nil {
		t.Errorf("%d indexes", len(w.indexes))
	}
}

func TestForeign(t *testing.T) {
	for s, want := range map[string]string{"Anna": "Anna", "Анна 😀": "Анна 😀", "שלום": "\u2068שלום\u2069", "a\u202Eb\u2069c": "\u2068abc\u2069"} {
		if got := foreign(s); got != want {
			t.Errorf("%q: %q", s, got)
		}
	}
}

func TestLanguages(t *testing.T) {
	w := newWorld(t).run()
	for id, c := range map[int64][2]string{8: {"ru", "Что я вижу"}, 9: {"id", "Apa yang saya lihat"}, 10: {"fr", "What I see"}} {
		w.tg.Push(fields{"message": msg(private(id), user(id, c[0]), "/privacy")})
		w.said(id, c[1])
	}
	w.agree(private(8), user(8, "ru"))
	w.tg.Push(fields{"message": msg(private(8), user(8, "ru"), "/translate Hello my friend")})
	if c := w.said(8, "Привет, мой друг."); !strings.Contains(c.Text(), "Написано ИИ") {
		t.Error(c.Text())
	}
	w.press(user(8, "ru"), msg(private(8), user(8, "ru"), "x"), "lang:id")
	w.said(8, "Sekarang saya berbahasa Indonesia")
	w.tg.Push(fields{"message": msg(private(8), user(8, "ru"), "/help")})
	w.said(8, "Saya membantu")
	for _, lang := range Languages {
		for key, s := range words["en"] {
			if words[lang][key] == "" {
				t.Errorf("%s: %q is not said", lang, key)
			}
			for _, mark := range []string{"{state}", "{tones}", "{name}", "{n}", "{lang}", "{verdict}"} {
				if strings.Contains(s, mark) != strings.Contains(words[lang][key], mark) {
					t.Errorf("%s: %q and %s", lang, key, mark)
				}
			}
		}
		if n := len(commandList(lang)); n != len(commandNames) {
			t.Errorf("%s: %d commands have descriptions", lang, n)
		}
	}
}

func TestStreamAndStop(t *testing.T) {
	w := newWorld(t)
	w.ai.answer["compose"] = `{"text":"` + strings.Repeat("word ", 30) + `"}`
	w.ai.hold = true
	w.run()
	w.agree(private(7), user(7, "en"))
	w.tg.Push(fields{"message": msg(private(7), user(7, "en"), "/tone formal hello there my friend")})
	draft := w.wait("a draft with text", func(c telegramtest.Call) bool {
		return c.Method == "sendMessageDraft" && strings.Contains(c.Text(), "word")
	})
	if draft.Params["can_stop"] != true || draft.Chat() != 7 {
		t.Errorf("%v", draft.Params)
	}
	var id int64
	_ = json.Unmarshal(fmt.Append(nil, draft.Params["draft_id"]), &id)
	w.tg.Push(fields{"stopped_message_generation": fields{"chat": private(99), "draft_id": id}}) // another's
	w.tg.Push(fields{"stopped_message_generation": fields{"chat": private(7), "draft_id": id + 1}})
	select {
	case <-w.ai.left:
		t.Fatal("a foreign Stop was obeyed")
	case <-time.After(30 * time.Millisecond):
	}
	pressed := time.Now()
	w.tg.Push(fields{"stopped_message_generation": fields{"chat": private(7), "draft_id": id}})
	select {
	case at := <-w.ai.left:
		took := at.Sub(pressed)
		t.Logf("the engine's request ended %v after the update", took)
		if took > time.Second { // 50 ms are due; a busy machine gets more
			t.Errorf("the engine ran on for %v", took)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the engine was not stopped")
	}
	if c := w.said(7, "Stopped."); !strings.Contains(c.Text(), "word") {
		t.Errorf("the part that was there is gone: %q", c.Text())
	}
}

func TestGroup(t *testing.T) {
	const canary = "canary-7f3a"
	w := newWorld(t).run()
	w.tg.Admin(groupID, 1)
	admin, member := user(1, "en"), user(2, "en")
	say := func(from fields, text string) fields {
		m := msg(group, from, text)
		w.tg.Push(fields{"message": m})
		return m
	}
	say(member, "before consent "+canary+"-before")
	say(member, "/summary")
	w.said(groupID, "switched off in this group")
	w.press(member, msg(group, member, "x"), "consent:on")
	w.said(groupID, "Only administrators")
	say(member, "/summary")
	w.said(groupID, "switched off in this group")
	if n := len(w.ai.requests()); n != 0 {
		t.Fatalf("without consent %d requests left", n)
	}
	w.agree(group, admin)

	m := say(member, "Shall we meet on Monday? "+canary)
	say(admin, "Yes.")
	edited := msg(group, member, "Shall we meet on Tuesday? "+canary)
	edited["message_id"] = m["message_id"]
	w.tg.Push(fields{"edited_message": edited})
	// The bot is no administrator: the answer goes to the asker in private.
	say(member, "/summary")
	c := w.said(2, "They meet on Monday.")
	if !strings.Contains(fmt.Sprint(c.Params["entities"]), fmt.Sprintf("t.me/c/1234567890/%d", m["message_id"])) {
		t.Errorf("no link to the message: %v", c.Params["entities"])
	}
	sent := w.ai.requests()
	if s := sent[len(sent)-1]; !strings.Contains(s, "Tuesday") || strings.Contains(s, "Monday?") || strings.Contains(s, canary+"-before") {
		t.Errorf("sent: %s", s)
	}
	// Who never started the bot is told so, without content.
	w.tg.Blocked(3)
	say(user(3, "en"), "/summary")
	if c := w.said(groupID, "Open a chat with me"); strings.Contains(c.Text(), "They meet") {
		t.Error("content in the group")
	}
	// As an administrator it answers in the group, to the asker only.
	w.tg.Admin(groupID, telegramtest.BotID)
	say(member, "/summary 5")
	c = w.said(groupID, "They meet on Monday.")
	if e, _ := c.Params["ephemeral_message_parameters"].(map[string]any); fmt.Sprint(e["receiver_user_id"]) != "2" {
		t.Errorf("seen by all: %v", c.Params)
	}
	for _, c := range w.tg.Calls("sendMessageDraft") {
		t.Errorf("a draft for a group: %v", c.Params)
	}
	// Off forgets.
	w.press(admin, msg(group, admin, "x"), "consent:off")
	w.said(groupID, "have forgotten")
	w.agree(group, admin)
	n := len(w.ai.requests())
	say(member, "/summary")
	w.said(groupID, "remember no messages")
	if len(w.ai.requests()) != n {
		t.Error("something was remembered")
	}
	w.nowhere(canary)
}

// nowhere looks for a text in log, state and calls.
func (w *world) nowhere(canary string) {
	w.t.Helper()
	state, err := os.ReadFile(w.state)
	if err != nil {
		w.t.Fatal(err)
	}
	if strings.Contains(w.log.String(), canary) || bytes.Contains(state, []byte(canary)) {
		w.t.Errorf("the canary is in the log or the state:\n%s\n%s", w.log, state)
	}
	if strings.Contains(string(state), "User") || strings.Contains(w.log.String(), telegramtest.Token[5:]) {
		w.t.Errorf("names or the token: %s", state)
	}
	files, _ := os.ReadDir(filepath.Dir(w.state))
	if info, _ := os.Stat(w.state); len(files) != 1 || info.Mode().Perm() != 0o600 {
		w.t.Errorf("%v", files)
	}
	if s := w.dump(); strings.Contains(s, canary) {
		w.t.Errorf("the canary was sent to a chat:\n%s", s)
	}
}

func TestInlineGuestBusiness(t *testing.T) {
	const canary = "canary-91bc"
	w := newWorld(t).run()
	u := user(7, "en")
	ask := func(id, text string) telegramtest.Call {
		w.tg.Push(fields{"inline_query": fields{"id": id, "from": u, "query": text}})
		return w.wait("inline "+id, func(c telegramtest.Call) bool {
			return c.Method == "answerInlineQuery" && c.Params["inline_query_id"] == id
		})
	}
	guest := func(id, text string) telegramtest.Call {
		m := msg(group, u, text)
		m["guest_query_id"] = id
		m["reply_to_message"] = msg(group, user(5, "en"), "Long story about a dog and "+canary)
		w.tg.Push(fields{"guest_message": m})
		return w.wait("guest "+id, func(c telegramtest.Call) bool {
			return c.Method == "answerGuestQuery" && c.Params["guest_query_id"] == id
		})
	}
	if c := ask("q1", "helo my frend"); len(c.Params["results"].([]any)) != 0 || c.Params["button"] == nil {
		t.Errorf("%v", c.Params)
	}
	if c := guest("g1", "@"+telegramtest.Username+" summarise"); !strings.Contains(fmt.Sprint(c.Params), "switched off") {
		t.Errorf("%v", c.Params)
	}
	if len(w.ai.requests()) != 0 {
		t.Fatal("requests without consent")
	}
	w.agree(private(7), u)
	if c := ask("q2", "helo my frend"); !strings.Contains(fmt.Sprint(c.Params["results"]), "Hello, my friend.") || c.Params["is_personal"] != true {
		t.Errorf("%v", c.Params)
	}
	if c := ask("q3", "ru: hello my friend"); len(c.Params["results"].([]any)) != 1 || !strings.Contains(fmt.Sprint(c.Params["results"]), "Привет") {
		t.Errorf("%v", c.Params)
	}
	// Of a text being typed only the last state is asked for.
	n := len(w.ai.requests())
	for i := range 3 {
		w.tg.Push(fields{"inline_query": fields{"id": fmt.Sprint("t", i), "from": u, "query": "ru: hello" + strings.Repeat("o", i)}})
	}
	w.wait("the last one", func(c telegramtest.Call) bool {
		return c.Method == "answerInlineQuery" && c.Params["inline_query_id"] == "t2"
	})
	if got := len(w.ai.requests()) - n; got != 1 {
		t.Errorf("%d requests for a text being typed", got)
	}
	if c := guest("g2", "@"+telegramtest.Username+" summarise"); !strings.Contains(fmt.Sprint(c.Params["result"]), "They meet on Monday.") || !strings.Contains(fmt.Sprint(c.Params["result"]), "SIMULATED") {
		t.Errorf("%v", c.Params)
	}
	if c := guest("g3", "@"+telegramtest.Username+" translate to ru"); !strings.Contains(fmt.Sprint(c.Params["result"]), "Привет") {
		t.Errorf("%v", c.Params)
	}

	// A business connection: nothing before the owner agrees, then suggestions
	// to the owner only.
	conn := fields{"id": "biz1", "user": u, "user_chat_id": 7, "is_enabled": true, "date": 1}
	w.tg.Connect("biz1", conn)
	write := func(text string) {
		m := msg(private(55), user(55, "en"), text)
		m["business_connection_id"] = "biz1"
		w.tg.Push(fields{"business_message": m})
	}
	n = len(w.ai.requests())
	write("too early " + canary) // the bot has to ask whose connection that is
	w.wait("the connection", func(c telegramtest.Call) bool { return c.Method == "getBusinessConnection" })
	w.tg.Push(fields{"business_connection": conn})
	w.said(7, "Shall I suggest replies?")
	if len(w.ai.requests()) != n {
		t.Error("read before the owner agreed")
	}
	w.press(u, msg(private(7), u, "x"), "biz:on")
	w.said(7, "Suggestions are on")
	write("Shall we meet? " + canary)
	c := w.said(7, "Replies you could give to User55")
	if !strings.Contains(fmt.Sprint(c.Params["reply_markup"]), "No, sorry") {
		t.Errorf("%v", c.Params)
	}
	if s := w.ai.requests(); strings.Contains(s[len(s)-1], "too early") {
		t.Errorf("a message from before the consent was sent: %s", s[len(s)-1])
	}
	for _, c := range w.tg.Calls() {
		if c.Params["business_connection_id"] != nil && c.Method != "getBusinessConnection" || c.Chat() == 55 {
			t.Errorf("something was written in the owner's name: %v", c)
		}
	}
	w.nowhere(canary)
}

func TestLongAnswer(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("слово 😀 ", 1200) // 10800 units
	w.ai.answer["compose"] = `{"text":"` + long + `"}`
	w.run()
	w.agree(private(7), user(7, "ru"))
	w.tg.Push(fields{"message": msg(private(7), user(7, "ru"), "/tone formal "+strings.Repeat("слово ", 600))})
	w.said(7, "Написано ИИ")
	all := ""
	for _, c := range w.tg.Calls("sendMessage") {
		if c.Code != 200 {
			t.Errorf("refused: %v", c.Params)
		}
		if strings.Contains(c.Text(), "слово") {
			all += c.Text() + " "
		}
	}
	if n := strings.Count(all, "слово"); n != 1200 {
		t.Errorf("%d words of 1200 arrived", n)
	}
}

func TestFlood(t *testing.T) {
	w := newWorld(t)
	w.bot.PerMinute = 5
	w.ai.hold = true
	w.run()
	w.agree(private(7), user(7, "en"))
	for range 500 {
		w.tg.Push(fields{"message": msg(private(7), user(7, "en"), "/fix helo my frend")})
	}
	w.said(7, "too much at once")
	w.tg.Push(fields{"message": msg(private(8), user(8, "en"), "/privacy")})
	w.said(8, "What I see") // others are served
	if n := len(w.ai.requests()); n > maxUserJobs {
		t.Errorf("%d requests at once", n)
	}
	warnings := 0
	for _, c := range w.tg.Calls("sendMessage") {
		if strings.Contains(c.Text(), "too much") {
			warnings++
		}
	}
	if warnings != 1 {
		t.Errorf("%d warnings", warnings)
	}
}

func TestWebhook(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan string, 1), make(chan error, 1)
	url := make(chan string, 1)
	hook := httptest.NewUnstartedServer(nil)
	url <- "http://" + hook.Listener.Addr().String()
	go func() {
		done <- w.bot.Webhook(ctx, <-url, "secret_secret_secret", func(ctx context.Context, h http.Handler) error {
			hook.Config.Handler = h
			hook.Start()
			ready <- hook.URL
			<-ctx.Done()
			hook.Close()
			return nil
		})
	}()
	address := <-ready
	u := fields{"message": msg(private(7), user(7, "en"), "/privacy")}
	if code := w.tg.Push(u); code != 200 {
		t.Fatalf("the webhook answers %d", code)
	}
	w.said(7, "What I see")
	b, _ := json.Marshal(u)
	for name, c := range map[string]struct {
		method, secret string
		body           []byte
		want           int
	}{
		"no secret": {"POST", "", b, 401}, "wrong secret": {"POST", "secret_secret_secreT", b, 401}, "not posted": {"GET", "secret_secret_secret", nil, 405},
		"again": {"POST", "secret_secret_secret", b, 200}, "no update": {"POST", "secret_secret_secret", []byte("{"), 200},
		"huge": {"POST", "secret_secret_secret", bytes.Repeat([]byte(" "), 1<<20), 200},
	} {
		req, _ := http.NewRequest(c.method, address, bytes.NewReader(c.body))
		req.Header.Set("X-Telegram-Bot-Api-Secret-Token", c.secret)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := len(w.tg.Calls("sendMessage")); n != 1 {
		t.Errorf("%d answers to one update", n)
	}
}

func TestConflict(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		w.tg.Fail("getUpdates", 409, 0)
	}
	w.bot.Client.wait = func(context.Context, time.Duration) error { return nil }
	if err := w.bot.Run(t.Context()); codeOf(err) != 409 || !strings.Contains(err.Error(), "only one program") {
		t.Errorf("%v", err)
	}
}

func TestStateSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s.json")
	s, err := OpenState(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.setConsent(5, true); err != nil {
		t.Fatal(err)
	}
	if err := s.setUser(5, func(x *Settings) { x.Language = "ru" }); err != nil {
		t.Fatal(err)
	}
	if s, err = OpenState(path); err != nil {
		t.Fatal(err)
	}
	if on, known := s.consent(5); !on || !known || s.user(5).Language != "ru" {
		t.Error("forgotten")
	}
	if on, _ := s.consent(6); on {
		t.Error("consent from nowhere")
	}
	// What cannot be written is no consent, but a refusal counts.
	s.path = filepath.Join(path, "no", "folder")
	if s.setConsent(6, true) == nil || s.setConsent(5, false) == nil {
		t.Error("no error")
	}
	if on, _ := s.consent(6); on {
		t.Error("an agreement that was not written counts")
	}
	if on, _ := s.consent(5); on {
		t.Error("a refusal does not count")
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenState(path); err == nil {
		t.Error("a damaged file is read as empty")
	}
}
