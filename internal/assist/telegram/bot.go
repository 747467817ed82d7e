package telegram

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/assist"
)

// Config says what a bot is made of.
type Config struct {
	Client    *Client
	Assistant *assist.Assistant
	// Model makes embeddings for searches by meaning; nil = words alone.
	Model assist.Model
	State *State
	// Logger hears of failures by method and code; nil = silent.
	Logger *slog.Logger
	// ReceiptURL is put before a receipt's id to make a link; empty = ids only.
	ReceiptURL string
	// AppURL is the https address of the Mini App, for the button beside the
	// message field of private chats; empty = the button stays as it is.
	AppURL string
	// PerMinute is how many answers one user gets a minute; 0 = 10.
	PerMinute int
	// Simulated says that no hardware protects what is sent; the bot says so too.
	Simulated bool
	// DailyNano is what all answers of a day (UTC) may cost; 0 = no limit.
	DailyNano uint64
	// OnReady hears the bot's name when it begins to take updates; may be nil.
	OnReady func(name string)
}

const (
	maxJobs     = 64 // at work at once, over all users
	maxUserJobs = 3
	jobTime     = 3 * time.Minute
	inlineCost  = 0.05                   // of an answer, for each state of a text being typed
	inlineQuiet = 400 * time.Millisecond // a query is answered when its writer pauses
	maxUsers    = 20_000                 // users remembered in memory
)

// errStopped is why a job ends whose Stop button was pressed.
var errStopped = errors.New("stopped")

// Bot is the bot at work.
type Bot struct {
	Config
	name    string
	windows windows
	rates   rates
	slots   chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex
	ctx    context.Context // of Run; jobs live in it
	drafts map[draftKey]context.CancelCauseFunc
	users  map[int64]*visitor
	conns  map[string]*Connection
	typing map[int64]chan struct{} // closed when a newer inline query of a user is there
	busy   map[place]bool          // business chats for which suggestions are made
	seen   map[int64]bool          // updates, against a webhook's repetitions
	order  []int64
	// changes counts decisions on consent.
	changes uint64
	day     int64
	spent   uint64
}

type draftKey struct{ chat, thread, draft int64 }

// visitor is what is remembered of a user in memory.
type visitor struct {
	jobs   int
	left   float64 // answers of the token bucket
	at     time.Time
	warned time.Time
	proof  *assist.Proof
}

// New makes a Bot.
func New(c Config) (*Bot, error) {
	if c.Client == nil || c.Assistant == nil || c.State == nil {
		return nil, errors.New("telegram: a bot needs a client, an assistant and its settings")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.PerMinute <= 0 {
		c.PerMinute = 10
	}
	return &Bot{
		Config: c, windows: windows{m: map[place][]kept{}, indexes: map[place]*finder{}}, rates: rates{m: map[int64]*peerRate{}}, slots: make(chan struct{}, maxJobs),
		drafts: map[draftKey]context.CancelCauseFunc{}, users: map[int64]*visitor{}, conns: map[string]*Connection{},
		typing: map[int64]chan struct{}{}, busy: map[place]bool{}, seen: map[int64]bool{},
	}, nil
}

// handle takes one update. It never waits: what takes time becomes a job.
func (b *Bot) handle(u *Update) {
	if b.repeated(u.ID) {
		return
	}
	switch {
	case u.Stopped != nil:
		b.stop(u.Stopped)
	case u.Message != nil:
		b.message(u.Message)
	case u.Edited != nil:
		b.windows.edit(place{chat: u.Edited.Chat.ID}, u.Edited.ID, u.Edited.text())
	case u.Guest != nil:
		b.guest(u.Guest)
	case u.Inline != nil:
		b.inline(u.Inline)
	case u.Callback != nil:
		b.callback(u.Callback)
	case u.Connection != nil:
		b.connected(u.Connection)
	case u.Business != nil:
		b.business(u.Business)
	case u.EditedBusiness != nil:
		if c := b.knownConnection(u.EditedBusiness.ConnectionID); c != nil {
			b.windows.edit(place{c.User.ID, u.EditedBusiness.Chat.ID}, u.EditedBusiness.ID, u.EditedBusiness.text())
		}
	case u.DeletedBusiness != nil:
		if c := b.knownConnection(u.DeletedBusiness.ConnectionID); c != nil {
			b.windows.forget(place{c.User.ID, u.DeletedBusiness.Chat.ID}, u.DeletedBusiness.IDs...)
		}
	case u.MyMember != nil:
		if s := u.MyMember.New.Status; s == "left" || s == "kicked" {
			b.windows.drop(place{chat: u.MyMember.Chat.ID})
			_ = b.State.setConsent(u.MyMember.Chat.ID, false) // in memory it counts in any case
		}
	}
}

// repeated notes an update's id; Telegram sends an update again where a
// webhook's answer was lost.
func (b *Bot) repeated(id int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[id] {
		return true
	}
	b.seen[id] = true
	if b.order = append(b.order, id); len(b.order) > 4096 {
		delete(b.seen, b.order[0])
		b.order = b.order[1:]
	}
	return false
}

func (b *Bot) stop(s *Stopped) {
	b.mu.Lock()
	cancel := b.drafts[draftKey{s.Chat.ID, s.Thread, s.Draft}]
	b.mu.Unlock()
	if cancel != nil {
		cancel(errStopped)
	}
}

// visitorLocked returns what is remembered of a user.
func (b *Bot) visitorLocked(id int64, now time.Time) *visitor {
	v := b.users[id]
	if v == nil {
		if len(b.users) >= maxUsers {
			for old, v := range b.users {
				if v.jobs == 0 && now.Sub(v.at) > time.Minute {
					delete(b.users, old)
				}
			}
		}
		v = &visitor{left: float64(b.PerMinute), at: now}
		b.users[id] = v
	}
	v.left = min(float64(b.PerMinute), v.left+now.Sub(v.at).Minutes()*float64(b.PerMinute))
	v.at = now
	return v
}

// spawn runs a job for a user. It refuses if too much is going on; warn says
// that the user should hear of it, which is once a minute at most.
func (b *Bot) spawn(user int64, cost float64, job func(context.Context)) (ok, warn bool) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx == nil || b.ctx.Err() != nil {
		return false, false
	}
	v := b.visitorLocked(user, now)
	most := maxUserJobs
	if cost == inlineCost {
		most *= 4 // nearly all of them end at once, when the next letter comes
	}
	refuse := v.jobs >= most || v.left < cost || len(b.users) > maxUsers
	if !refuse {
		select {
		case b.slots <- struct{}{}:
		default:
			refuse = true
		}
	}
	if refuse {
		warn = now.Sub(v.warned) > time.Minute
		if warn {
			v.warned = now
		}
		return false, warn
	}
	v.jobs++
	v.left -= cost
	ctx := b.ctx
	b.running.Add(1)
	go func() {
		defer func() {
			b.mu.Lock()
			v.jobs--
			b.mu.Unlock()
			<-b.slots
			b.running.Done()
		}()
		ctx, cancel := context.WithTimeout(ctx, jobTime)
		defer cancel()
		job(ctx)
	}()
	return true, false
}

// note logs a failed call by method and code, never by content.
func (b *Bot) note(what string, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		b.Logger.Warn("a call to Telegram failed", "for", what, "code", codeOf(err))
	}
}

// ask is a command with all that its answer needs.
type ask struct {
	name   string
	msg    *Message
	user   *User
	lang   string
	set    Settings
	args   assist.Text
	target assist.Text // the text meant; empty if there is none
	id     int64       // of the message meant, 0 = it is in args
}

var spending = map[string]bool{"summary": true, "translate": true, "fix": true, "tone": true, "reply": true, "search": true, "ask": true}

// message takes a message of a private chat or a group.
func (b *Bot) message(m *Message) {
	if m.MigratedTo != 0 {
		b.windows.drop(place{chat: m.Chat.ID})
		if err := b.State.move(m.Chat.ID, m.MigratedTo); err != nil {
			b.Logger.Error("consent could not be carried to a supergroup", "error", err)
		}
		return
	}
	if m.From == nil || m.From.IsBot || m.Chat.Type == "channel" {
		return
	}
	p := place{chat: m.Chat.ID}
	on, _ := b.State.consent(m.Chat.ID)
	name, at, isCommand := m.command(b.name)
	if !isCommand {
		if strings.HasPrefix(m.Text, "/") {
			return // another bot's
		}
		if on {
			b.windows.add(p, keep(m))
		}
		if !m.Chat.private() || m.Forward != nil {
			return
		}
		name = "offer"
	}
	a := &ask{name: name, msg: m, user: m.From, set: b.State.user(m.From.ID)}
	a.lang = language(a.set, m.From)
	if isCommand {
		a.args = after(m.text(), at)
	}
	cost := 0.1
	if spending[name] && on {
		cost = 1
	}
	ok, warn := b.spawn(m.From.ID, cost, func(ctx context.Context) { b.do(ctx, a, on) })
	if !ok && warn {
		b.warn(a)
	}
}

// warn tells a user to wait; it takes a slot if one is free, and is left out else.
func (b *Bot) warn(a *ask) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx == nil || b.ctx.Err() != nil {
		return
	}
	select {
	case b.slots <- struct{}{}:
	default:
		return
	}
	ctx := b.ctx
	b.running.Add(1)
	go func() {
		defer b.running.Done()
		defer func() { <-b.slots }()
		b.tell(ctx, a, say(a.lang, "tooMuch"), nil)
	}()
}

func keep(m *Message) kept {
	k := kept{id: m.ID, author: m.author(), at: time.Now(), text: m.text()}
	if m.From != nil {
		k.from = m.From.ID
	}
	if m.ReplyTo != nil {
		k.replyTo = m.ReplyTo.ID
	}
	return k
}

// do carries a command out.
func (b *Bot) do(ctx context.Context, a *ask, on bool) {
	lang := a.lang
	switch a.name {
	case "start", "privacy":
		b.privacy(ctx, a, on)
		return
	case "help":
		b.tell(ctx, a, say(lang, "help", "{tones}", toneNames()), nil)
		return
	case "language", "lang":
		b.tell(ctx, a, say(lang, "whichLang"), keyboard([]button{{Text: "English", Data: "lang:en"}, {Text: "Bahasa Indonesia", Data: "lang:id"}, {Text: "Русский", Data: "lang:ru"}}))
		return
	case "receipt":
		b.tellText(ctx, a, b.receipt(a), nil)
		return
	case "forget":
		b.forget(ctx, a)
		return
	case "summary", "translate", "fix", "tone", "reply", "search", "ask", "offer":
	default:
		if a.msg.Chat.private() {
			b.tell(ctx, a, say(lang, "help", "{tones}", toneNames()), nil)
		}
		return
	}
	if !on {
		key := "offGroup"
		if a.msg.Chat.private() {
			key = "off"
		}
		b.tell(ctx, a, say(lang, key), consentButtons(lang, false))
		return
	}
	switch a.name {
	case "offer":
		b.tellReplying(ctx, a, say(lang, "do"), keyboard([]button{{Text: say(lang, "doFix"), Data: "do:fix"}, {Text: say(lang, "doTranslate"), Data: "do:translate"}},
			[]button{{Text: say(lang, "doSummary"), Data: "do:summary"}, {Text: say(lang, "doReply"), Data: "do:reply"}}))
	case "search":
		if b.Model == nil || b.broke() { // words cost nothing
			b.tellText(ctx, a, b.searchWords(a), nil)
			return
		}
		b.answer(ctx, a)
	default:
		b.answer(ctx, a)
	}
}

func toneNames() string { return strings.Join(slices.Sorted(maps.Keys(assist.Tones)), ", ") }

// privacy says what the bot sees, with the switch.
func (b *Bot) privacy(ctx context.Context, a *ask, on bool) {
	state := "off?"
	if on {
		state = "on?"
	}
	text := say(a.lang, "privacy", "{state}", say(a.lang, state))
	if b.Simulated {
		text = say(a.lang, "simNow") + "\n\n" + text
	}
	b.tell(ctx, a, text, consentButtons(a.lang, on))
}

func consentButtons(lang string, on bool) map[string]any {
	if on {
		return keyboard([]button{{Text: say(lang, "switchOff"), Data: "consent:off"}})
	}
	return keyboard([]button{{Text: say(lang, "switchOn"), Data: "consent:on"}})
}

// forget drops a message that its author or an administrator names, or all.
func (b *Bot) forget(ctx context.Context, a *ask) {
	p := place{chat: a.msg.Chat.ID}
	own := a.msg.Chat.private() || a.msg.ReplyTo != nil && a.msg.ReplyTo.From != nil && a.msg.ReplyTo.From.ID == a.user.ID
	if !own && !b.isAdmin(ctx, a.msg.Chat.ID, a.user.ID) {
		b.tell(ctx, a, say(a.lang, "admins"), nil)
		return
	}
	if a.msg.ReplyTo != nil {
		b.windows.forget(p, a.msg.ReplyTo.ID)
	} else {
		b.windows.drop(p)
	}
	b.tell(ctx, a, say(a.lang, "forgot"), nil)
}

// isAdmin asks Telegram; where it does not answer, nobody is.
func (b *Bot) isAdmin(ctx context.Context, chat, user int64) bool {
	var m member
	if err := b.Client.Call(ctx, "getChatMember", map[string]any{"chat_id": chat, "user_id": user}, &m); err != nil {
		b.note("getChatMember", err)
		return false
	}
	return m.Status == "creator" || m.Status == "administrator"
}

// searchWords finds messages that hold every word, without any model.
func (b *Bot) searchWords(a *ask) assist.Text {
	found := search(b.windows.last(place{chat: a.msg.Chat.ID}, maxWindow, time.Now()), a.args.Text, 8)
	if len(found) == 0 {
		return assist.Text{Text: say(a.lang, "notFound")}
	}
	var out builder
	out.styled("italic", say(a.lang, "found"))
	list(&out, &a.msg.Chat, found)
	return out.done()
}

// list names messages, each with the way to it where there is one.
func list(out *builder, chat *Chat, found []kept) {
	for _, k := range found {
		out.add("\n• ").link(foreign(cmp.Or(k.author, "–"))+":", messageLink(chat, k.id)).add(" " + foreign(clip(strings.Join(strings.Fields(k.text.Text), " "), 160)))
	}
}

// callback takes a press of a button.
func (b *Bot) callback(q *CallbackQuery) {
	if q.Message == nil || q.From.IsBot {
		return
	}
	set := b.State.user(q.From.ID)
	a := &ask{msg: q.Message, user: &q.From, set: set, lang: language(set, &q.From)}
	kind, value, _ := strings.Cut(q.Data, ":")
	cost := 0.1
	if kind == "do" {
		cost = 1
	}
	b.spawn(q.From.ID, cost, func(ctx context.Context) {
		key := ""
		switch kind {
		case "consent":
			key = b.decide(ctx, a, value == "on")
		case "lang":
			key = "notWritten"
			if slices.Contains(Languages, value) && b.State.setUser(q.From.ID, func(s *Settings) { s.Language = value }) == nil {
				a.lang, key = value, "langSet"
			}
		case "biz":
			key = b.decideBusiness(a, value == "on")
		case "do":
			b.note("answerCallbackQuery", b.Client.Call(ctx, "answerCallbackQuery", map[string]any{"callback_query_id": q.ID}, nil))
			if on, _ := b.State.consent(q.Message.Chat.ID); on && spending[value] && q.Message.ReplyTo != nil && q.Message.Chat.private() {
				a.name = value
				b.answer(ctx, a)
			}
			return
		}
		if key == "" {
			return
		}
		b.note("answerCallbackQuery", b.Client.Call(ctx, "answerCallbackQuery", map[string]any{"callback_query_id": q.ID}, nil))
		b.tell(ctx, a, say(a.lang, key), nil)
	})
}

// decide switches a chat on or off. In a group an administrator does; anyone's
// business is a private chat of their own only.
func (b *Bot) decide(ctx context.Context, a *ask, on bool) string {
	chat := &a.msg.Chat
	if chat.private() && chat.ID != a.user.ID {
		return ""
	}
	b.mu.Lock()
	b.changes++
	b.mu.Unlock()
	if !chat.private() && !b.isAdmin(ctx, chat.ID, a.user.ID) {
		return "admins"
	}
	if !on { // first forget, then write
		b.windows.drop(place{chat: chat.ID})
		if chat.private() {
			b.windows.dropOwner(chat.ID)
		}
	}
	err := b.State.setConsent(chat.ID, on)
	if err == nil && !on && chat.private() {
		err = b.State.setUser(chat.ID, func(s *Settings) { s.Business = false })
	}
	switch {
	case err != nil:
		b.Logger.Error("consent could not be written", "error", err)
		return "notWritten"
	case on:
		return "nowOn"
	}
	b.windows.drop(place{chat: chat.ID}) // what came while it was written
	return "nowOff"
}

func (b *Bot) decideBusiness(a *ask, on bool) string {
	b.mu.Lock()
	b.changes++
	b.mu.Unlock()
	if !a.msg.Chat.private() || a.msg.Chat.ID != a.user.ID {
		return ""
	}
	if !on {
		b.windows.dropOwner(a.user.ID)
	}
	err := b.State.setUser(a.user.ID, func(s *Settings) { s.Business = on })
	if err == nil && on {
		err = b.State.setConsent(a.user.ID, true)
	}
	switch {
	case err != nil:
		b.Logger.Error("consent could not be written", "error", err)
		return "notWritten"
	case on:
		return "bizOn"
	}
	return "bizOff"
}

// paid notes what an answer cost and proved.
func (b *Bot) paid(user int64, p assist.Proof) {
	if p.Calls == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if d := now.Unix() / 86400; d != b.day {
		b.day, b.spent = d, 0
	}
	b.spent += p.CostNano
	b.visitorLocked(user, now).proof = &p
}

// broke reports that today's budget is used up.
func (b *Bot) broke() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.DailyNano > 0 && b.day == time.Now().Unix()/86400 && b.spent >= b.DailyNano
}

func draftID() int64 {
	var r [4]byte
	_, _ = rand.Read(r[:]) // never fails
	return int64(binary.LittleEndian.Uint32(r[:])>>1) | 1
}

// failure is what a user hears of an error.
func failure(lang string, err error) string {
	var oe *openai.Error
	if errors.As(err, &oe) {
		switch oe.Code {
		case openai.CodeRateLimited:
			return say(lang, "tooMuch")
		case openai.CodeInvalidValue, openai.CodeMissingParameter:
			return clip(oe.Message, 400)
		}
	}
	return say(lang, "failed")
}

// receipt says in plain words what vouches for a user's last answer.
func (b *Bot) receipt(a *ask) assist.Text {
	b.mu.Lock()
	p := b.visitorLocked(a.user.ID, time.Now()).proof
	b.mu.Unlock()
	if p == nil {
		return assist.Text{Text: say(a.lang, "noReceipt")}
	}
	var out builder
	out.styled("bold", say(a.lang, "verdict")).add("\n").add(verdict(a.lang, p))
	out.add(fmt.Sprintf("\n%s: %s, %d+%d, %s GRAM", say(a.lang, "model"), clip(p.Model, 100), p.Usage.PromptTokens, p.Usage.CompletionTokens, gram(p.CostNano)))
	if len(p.Receipts) == 0 {
		return out.done()
	}
	out.add("\n" + say(a.lang, "receipts") + ":")
	for _, id := range p.Receipts[:min(len(p.Receipts), 10)] {
		out.add("\n")
		if b.ReceiptURL != "" {
			out.link(clip(id, 16), b.ReceiptURL+url.PathEscape(id))
		} else {
			out.styled("code", clip(id, 64))
		}
	}
	if b.ReceiptURL == "" {
		out.add("\n" + say(a.lang, "checkWith") + " ID")
	}
	return out.done()
}

// verdict puts a proof into plain words.
func verdict(lang string, p *assist.Proof) string {
	var s []string
	if p.Simulated {
		s = append(s, say(lang, "simulated"))
	}
	switch p.Verdict {
	case "none", "":
		s = append(s, say(lang, "none"))
	case "mixed":
		s = append(s, say(lang, "mixed"))
	default:
		if !p.Simulated {
			s = append(s, say(lang, "verified", "{verdict}", clip(p.Verdict, 60)))
		}
	}
	switch { // what a simulated machine unsealed, its owner could read
	case p.Simulated:
	case p.Sealed == "worker":
		s = append(s, say(lang, "sealedWorker"))
	case p.Sealed == "proxy":
		s = append(s, say(lang, "sealedProxy"))
	}
	return strings.Join(s, " ")
}

// gram writes an amount of nano exactly.
func gram(nano uint64) string {
	s := fmt.Sprintf("%d.%09d", nano/1e9, nano%1e9)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}
