package telegram

import (
	"context"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/assist"
)

// charge takes answers from a user's bucket within a job.
func (b *Bot) charge(user int64, n float64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.visitorLocked(user, time.Now())
	if v.left < n {
		return false
	}
	v.left -= n
	return true
}

// inline answers what a user types behind the bot's name, once the typing
// pauses. It needs the consent of the user's own private chat.
func (b *Bot) inline(q *InlineQuery) {
	user := q.From.ID
	newer := make(chan struct{})
	b.mu.Lock()
	if old := b.typing[user]; old != nil {
		close(old)
	}
	b.typing[user] = newer
	b.mu.Unlock()
	done := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.typing[user] == newer {
			delete(b.typing, user)
		}
	}
	ok, _ := b.spawn(user, inlineCost, func(ctx context.Context) {
		defer done()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			select {
			case <-newer:
				cancel()
			case <-ctx.Done():
			}
		}()
		set := b.State.user(user)
		lang := language(set, &q.From)
		p := map[string]any{"inline_query_id": q.ID, "results": []any{}, "is_personal": true, "cache_time": 0}
		if on, _ := b.State.consent(user); !on {
			p["button"] = map[string]any{"text": clip(say(lang, "inlineOn"), 64), "start_parameter": "privacy"}
		} else if text := strings.TrimSpace(q.Query); len([]rune(text)) >= 3 {
			if sleep(ctx, inlineQuiet) != nil || b.broke() || !b.charge(user, 1) {
				return
			}
			p["results"] = b.inlineResults(ctx, user, lang, set, text)
		}
		if ctx.Err() != nil {
			return
		}
		b.note("answerInlineQuery", b.Client.Call(ctx, "answerInlineQuery", p, nil))
	})
	if !ok {
		done()
	}
}

// inlineResults are a text corrected and translated; "ru: text" is translated
// into that language only.
func (b *Bot) inlineResults(ctx context.Context, user int64, lang string, set Settings, text string) []any {
	to := set.To
	if to == "" {
		to = lang
	}
	t := assist.Text{Text: text}
	type job struct {
		title string
		run   taskFunc
	}
	var jobs []job
	if code, rest, ok := strings.Cut(text, ":"); ok && len(code) <= 5 && assist.Language(code) != "" && strings.TrimSpace(rest) != "" {
		to = strings.ToLower(code)
		t.Text = strings.TrimSpace(rest)
	} else {
		jobs = append(jobs,
			job{say(lang, "inlineFix"), func(ctx context.Context, _ func(string)) (*result, error) {
				r, err := b.Assistant.Compose(ctx, &assist.ComposeRequest{Text: t, Proofread: true}, nil)
				if err != nil {
					return nil, err
				}
				return &result{text: r.Result, answer: r.Answer}, nil
			}},
			job{say(lang, "inlineFormal"), b.compose(lang, &assist.ComposeRequest{Text: t, Tone: "formal"})})
		if assist.Detect(text) == to {
			to = ""
		}
	}
	if to != "" {
		jobs = append(jobs, job{say(lang, "inlineTo", "{lang}", to), b.translate(t, to)})
	}
	made := make([]*result, len(jobs))
	var wg sync.WaitGroup
	for i, j := range jobs {
		wg.Go(func() {
			if r, err := j.run(ctx, nil); err == nil {
				made[i] = r
			}
		})
	}
	wg.Wait()
	out := []any{}
	for i, r := range made {
		if r == nil {
			continue
		}
		b.paid(user, r.answer.Proof)
		if strings.TrimSpace(r.text.Text) == "" || r.answer.Fallback {
			continue
		}
		out = append(out, article(string(rune('a'+i)), jobs[i].title, r.text))
	}
	return out
}

// article is a result of an inline or guest query.
func article(id, title string, t assist.Text) map[string]any {
	t = cutTo(t, maxUnits)
	content := map[string]any{"message_text": t.Text, "link_preview_options": map[string]bool{"is_disabled": true}}
	if len(t.Entities) > 0 {
		content["entities"] = t.Entities
	}
	return map[string]any{"type": "article", "id": id, "title": clip(title, 60), "description": clip(t.Text, 120), "input_message_content": content}
}

// guestWords tell what a mention asks for; anything else is a summary.
var guestWords = []struct{ name, words string }{
	{"translate", "translat перевед перевод terjemah"},
	{"fix", "fix correct исправ perbaiki koreksi"},
	{"reply", "reply replies answer ответ balas"},
}

// guest answers a mention in a chat where the bot is no member. It sees the
// mention and the message it replies to; its one answer is seen by all there.
func (b *Bot) guest(m *Message) {
	caller := m.GuestCaller
	if caller == nil {
		caller = m.From
	}
	if m.GuestQueryID == "" || caller == nil || caller.IsBot || m.Protected {
		return
	}
	b.spawn(caller.ID, 1, func(ctx context.Context) {
		set := b.State.user(caller.ID)
		a := &ask{name: "summary", msg: m, user: caller, set: set, lang: language(set, caller)}
		out := assist.Text{}
		on, _ := b.State.consent(caller.ID)
		here, known := b.State.consent(m.Chat.ID)
		switch {
		case !on:
			out.Text = say(a.lang, "off")
		case known && !here:
			out.Text = say(a.lang, "offGroup")
		case b.broke():
			out.Text = say(a.lang, "budget")
		default:
			out = b.guestAnswer(ctx, a)
		}
		if ctx.Err() != nil {
			return
		}
		b.note("answerGuestQuery", b.Client.Call(ctx, "answerGuestQuery", map[string]any{"guest_query_id": m.GuestQueryID, "result": article("a", "Cocoon", out)}, nil))
	})
}

func (b *Bot) guestAnswer(ctx context.Context, a *ask) assist.Text {
	words := strings.ToLower(a.msg.Text)
	var target assist.Text
	from := ""
	if r := a.msg.ReplyTo; r != nil && !r.Protected {
		target, from = r.text(), r.author()
	} else {
		target.Text = strings.TrimSpace(strings.ReplaceAll(a.msg.Text, "@"+b.name, ""))
	}
	if strings.TrimSpace(target.Text) == "" {
		return assist.Text{Text: say(a.lang, "noText")}
	}
	for _, g := range guestWords {
		for w := range strings.FieldsSeq(g.words) {
			if strings.Contains(words, w) {
				a.name = g.name
			}
		}
	}
	var run taskFunc
	switch a.name {
	case "translate":
		to := a.lang
		for w := range strings.FieldsSeq(words) {
			if len(w) == 2 && assist.Language(w) != "" && w != "in" {
				to = w
			}
		}
		run = b.translate(target, to)
	case "fix":
		run = b.compose(a.lang, &assist.ComposeRequest{Text: target, Proofread: true})
	case "reply":
		run = func(ctx context.Context, _ func(string)) (*result, error) {
			r, err := b.Assistant.Replies(ctx, &assist.RepliesRequest{Messages: []assist.Message{{ID: assist.NumberID(1), From: from, Text: target.Text}}, Me: clip(a.user.FirstName, 60)})
			if err != nil {
				return nil, err
			}
			text, _ := choices(say(a.lang, "replies"), r.Replies)
			return &result{text: text, answer: r.Answer}, nil
		}
	default:
		run = b.summary(a, &assist.SummarizeRequest{Text: target.Text, Length: "short"})
	}
	r, err := run(ctx, nil)
	if err != nil {
		return assist.Text{Text: failure(a.lang, err)}
	}
	b.paid(a.user.ID, r.answer.Proof)
	return footer(a.lang, r)
}

func (b *Bot) knownConnection(id string) *Connection {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.conns[id]
}

func (b *Bot) remember(c *Connection) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.conns) >= maxUsers {
		clear(b.conns) // asked for again when needed
	}
	b.conns[c.ID] = c
}

// connected takes a new, changed or ended business connection.
func (b *Bot) connected(c *Connection) {
	b.remember(c)
	if !c.IsEnabled {
		b.windows.dropOwner(c.User.ID)
		if err := b.State.setUser(c.User.ID, func(s *Settings) { s.Business = false }); err != nil {
			b.Logger.Error("a setting could not be written", "error", err)
		}
		return
	}
	set := b.State.user(c.User.ID)
	if set.Business {
		return
	}
	lang := language(set, &c.User)
	text := say(lang, "bizAsk")
	if b.Simulated {
		text = say(lang, "simNow") + "\n\n" + text
	}
	b.spawn(c.User.ID, 0.1, func(ctx context.Context) {
		b.note("sendMessage", b.Client.Call(ctx, "sendMessage", map[string]any{"chat_id": c.UserChat, "text": text,
			"reply_markup": keyboard([]button{{Text: say(lang, "bizYes"), Data: "biz:on"}, {Text: say(lang, "bizNo"), Data: "biz:off"}})}, nil))
	})
}

// business takes a message of a connected account's chat.
func (b *Bot) business(m *Message) {
	if m.ConnectionID == "" || m.From == nil {
		return
	}
	if c := b.knownConnection(m.ConnectionID); c != nil {
		b.suggest(c, m)
		return
	}
	b.mu.Lock()
	changes := b.changes
	b.mu.Unlock()
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.ConnectionID)) // never fails
	b.spawn(-int64(h.Sum64()>>1), 0.1, func(ctx context.Context) {
		c := new(Connection)
		if err := b.Client.Call(ctx, "getBusinessConnection", map[string]any{"business_connection_id": m.ConnectionID}, c); err != nil || c.ID != m.ConnectionID {
			b.note("getBusinessConnection", err)
			return
		}
		b.remember(c)
		b.mu.Lock()
		same := b.changes == changes
		b.mu.Unlock()
		if same { // else somebody agreed meanwhile, perhaps this owner, and not to this message
			b.suggest(c, m)
		}
	})
}

// suggest sends replies to the account's owner, in the owner's private chat
// with the bot. Nothing is ever sent in the owner's name.
func (b *Bot) suggest(c *Connection, m *Message) {
	owner := c.User.ID
	set := b.State.user(owner)
	if on, _ := b.State.consent(owner); !on || !set.Business || !c.IsEnabled {
		return
	}
	p := place{owner, m.Chat.ID}
	b.windows.add(p, keep(m))
	if m.From.ID == owner || m.From.IsBot || m.text().Text == "" {
		return
	}
	b.mu.Lock()
	busy := b.busy[p]
	if !busy {
		b.busy[p] = true
	}
	b.mu.Unlock()
	if busy {
		return // the answer under way sees it, or the next message does
	}
	done := func() {
		b.mu.Lock()
		delete(b.busy, p)
		b.mu.Unlock()
	}
	ok, _ := b.spawn(owner, 1, func(ctx context.Context) {
		defer done()
		list := b.windows.last(p, assist.MaxReplyContext, time.Now())
		if b.broke() || len(list) == 0 {
			return
		}
		r, err := b.Assistant.Replies(ctx, &assist.RepliesRequest{Messages: messages(list), Me: clip(c.User.FirstName, 60)})
		if err != nil {
			b.Logger.Warn("a task failed", "task", "business")
			return
		}
		b.paid(owner, r.Proof)
		if len(r.Replies) == 0 || r.Fallback {
			return
		}
		lang := language(set, &c.User)
		text, markup := choices(say(lang, "suggest", "{name}", foreign(m.author())), r.Replies)
		res := footer(lang, &result{text: text, answer: r.Answer})
		b.note("sendMessage", b.Client.Call(ctx, "sendMessage", map[string]any{"chat_id": c.UserChat, "text": res.Text, "entities": res.Entities, "reply_markup": markup}, nil))
	})
	if !ok {
		done()
	}
}
