package telegram

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/assist/index"
)

// button is one button under a message.
type button struct {
	Text string    `json:"text"`
	Data string    `json:"callback_data,omitempty"`
	Copy *copyText `json:"copy_text,omitempty"`
}

type copyText struct {
	Text string `json:"text"`
}

const maxCopy = 256 // characters that a button copies

func keyboard(rows ...[]button) map[string]any { return map[string]any{"inline_keyboard": rows} }

// tell says something of the bot's own, which has no one's content in it.
func (b *Bot) tell(ctx context.Context, a *ask, s string, markup map[string]any) {
	b.deliver(ctx, a, assist.Text{Text: s}, markup, false, false)
}

// tellText says something that only the asker may see.
func (b *Bot) tellText(ctx context.Context, a *ask, t assist.Text, markup map[string]any) {
	b.deliver(ctx, a, t, markup, true, false)
}

func (b *Bot) tellReplying(ctx context.Context, a *ask, s string, markup map[string]any) {
	b.deliver(ctx, a, assist.Text{Text: s}, markup, true, true)
}

// deliver sends a text as often as 4096 units need. In a group only the asker
// sees it: as an ephemeral message, or else in a private chat; if neither can
// be, what holds content is not sent at all.
func (b *Bot) deliver(ctx context.Context, a *ask, t assist.Text, markup map[string]any, content, reply bool) {
	parts := split(t, maxUnits)
	for i, part := range parts {
		p := map[string]any{"chat_id": a.msg.Chat.ID, "text": part.Text, "link_preview_options": map[string]bool{"is_disabled": true}}
		if len(part.Entities) > 0 {
			p["entities"] = part.Entities
		}
		if i == len(parts)-1 && markup != nil {
			p["reply_markup"] = markup
		}
		if a.msg.Thread != 0 && a.msg.IsTopic {
			p["message_thread_id"] = a.msg.Thread
		}
		if i == 0 && reply {
			p["reply_parameters"] = map[string]any{"message_id": a.msg.ID, "allow_sending_without_reply": true}
		}
		if err := b.sendTo(ctx, a, p, content); err != nil {
			b.note("sendMessage", err)
			return
		}
	}
}

func (b *Bot) sendTo(ctx context.Context, a *ask, p map[string]any, content bool) error {
	if a.msg.Chat.private() {
		return b.Client.Call(ctx, "sendMessage", p, nil)
	}
	p["ephemeral_message_parameters"] = map[string]any{"receiver_user_id": a.user.ID}
	err := b.Client.Call(ctx, "sendMessage", p, nil)
	if c := codeOf(err); c != 400 && c != 403 {
		return err
	}
	delete(p, "ephemeral_message_parameters")
	if !content {
		return b.Client.Call(ctx, "sendMessage", p, nil)
	}
	group := p["chat_id"]
	p["chat_id"] = a.user.ID
	delete(p, "message_thread_id")
	err = b.Client.Call(ctx, "sendMessage", p, nil)
	if c := codeOf(err); c != 400 && c != 403 {
		return err
	}
	note := map[string]any{"chat_id": group, "text": say(a.lang, "privately")}
	if a.msg.Thread != 0 && a.msg.IsTopic {
		note["message_thread_id"] = a.msg.Thread
	}
	if e := b.Client.Call(ctx, "sendMessage", note, nil); e != nil {
		return e
	}
	return err
}

// result is what a task made for a person.
type result struct {
	text   assist.Text
	markup map[string]any
	answer assist.Answer
	lost   int
	// quoted says that people wrote the text, and not a model.
	quoted bool
}

// answer does a task: with drafts and a Stop button in a private chat.
func (b *Bot) answer(ctx context.Context, a *ask) {
	if b.broke() {
		b.tell(ctx, a, say(a.lang, "budget"), nil)
		return
	}
	task, key := b.task(a)
	if key != "" {
		b.tell(ctx, a, say(a.lang, key, "{tones}", toneNames()), nil)
		return
	}
	work, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var onText func(string)
	partial, finish := func() string { return "" }, func() {}
	if chat := a.msg.Chat.ID; a.msg.Chat.private() {
		d := draftKey{chat: chat, draft: draftID()}
		if a.msg.IsTopic {
			d.thread = a.msg.Thread
		}
		b.mu.Lock()
		b.drafts[d] = cancel
		b.mu.Unlock()
		s := newStream(func(ctx context.Context, text string) error {
			p := map[string]any{"chat_id": chat, "draft_id": d.draft, "text": cutTo(assist.Text{Text: text}, maxUnits).Text, "can_stop": true, "keep_on_stop": true}
			if d.thread != 0 {
				p["message_thread_id"] = d.thread
			}
			err := b.Client.Call(ctx, "sendMessageDraft", p, nil)
			b.note("sendMessageDraft", err)
			return err
		}, func(now time.Time) time.Duration { return b.rates.wait(chat, now) })
		onText, partial = s.add, s.current
		drafting, end := context.WithCancel(work)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.run(drafting)
		}()
		finish = func() {
			b.mu.Lock()
			delete(b.drafts, d)
			b.mu.Unlock()
			end()
			<-done
		}
	}
	r, err := task(work, onText)
	finish()
	if r != nil {
		b.paid(a.user.ID, r.answer.Proof)
	}
	switch {
	case ctx.Err() != nil: // the bot stops, or the time is up
	case context.Cause(work) == errStopped:
		var out builder
		if s := strings.TrimSpace(partial()); s != "" {
			out.add(s + "\n\n")
		}
		b.tellText(ctx, a, out.styled("italic", say(a.lang, "stopped")).done(), nil)
	case err != nil:
		b.Logger.Warn("a task failed", "task", a.name)
		b.tellText(ctx, a, assist.Text{Text: failure(a.lang, err)}, nil)
	default:
		b.tellText(ctx, a, footer(a.lang, r), r.markup)
	}
}

// footer marks a text as an AI's and says what a reader should know.
func footer(lang string, r *result) assist.Text {
	var out builder
	out.text(r.text)
	var s []string
	if !r.quoted {
		s = append(s, say(lang, "ai"))
	}
	if r.answer.Simulated {
		s = append(s, "SIMULATED")
	}
	if r.answer.Fallback {
		s = append(s, say(lang, "fallback"))
	}
	if r.lost > 0 {
		s = append(s, say(lang, "lost", "{n}", strconv.Itoa(r.lost)))
	}
	if r.quoted && r.answer.Calls == 0 {
		return out.done() // nothing was sent, and there is nothing to prove
	}
	out.add("\n\n")
	if len(s) > 0 {
		out.styled("italic", strings.Join(s, " · ")).add(" · ")
	}
	return out.add("/receipt").done()
}

type taskFunc func(ctx context.Context, onText func(string)) (*result, error)

// task finds what a command is about; key names what to say instead if it
// cannot be done.
func (b *Bot) task(a *ask) (run taskFunc, key string) {
	here := place{chat: a.msg.Chat.ID}
	if m := a.msg; m.ReplyTo != nil {
		a.target, a.id = m.ReplyTo.text(), m.ReplyTo.ID
		if m.Quote != nil && m.Quote.Text != "" {
			a.target, a.id = assist.Text{Text: m.Quote.Text, Entities: m.Quote.Entities}, 0
		}
	}
	switch a.name {
	case "summary":
		n, to := maxWindow, ""
		for word := range strings.FieldsSeq(clip(a.args.Text, 40)) {
			if k, err := strconv.Atoi(word); err == nil && k > 0 {
				n = min(k, maxWindow)
			} else if len(word) <= 5 && assist.Language(word) != "" {
				to = word
			}
		}
		rq := &assist.SummarizeRequest{To: to, Text: a.target.Text}
		if rq.Text == "" && units(a.args.Text) > 40 {
			rq.Text = a.args.Text
		}
		if rq.Text == "" {
			rq.Messages = messages(b.windows.last(here, n, time.Now()))
			if len(rq.Messages) == 0 {
				return nil, "noMessages"
			}
		}
		return b.summary(a, rq), ""
	case "reply":
		return b.replies(a, here)
	case "search":
		return b.search(a, here)
	case "ask":
		return b.question(a, here)
	case "translate":
		to := a.set.To
		if word, _, _ := strings.Cut(a.args.Text, " "); len(word) <= 7 && assist.Language(strings.Trim(word, ":")) != "" {
			to = strings.ToLower(strings.Trim(word, ":"))
			a.args = after(a.args, units(word))
			if err := b.State.setUser(a.user.ID, func(s *Settings) { s.To = to }); err != nil {
				b.Logger.Error("a setting could not be written", "error", err)
			}
		}
		if to == "" {
			to = a.lang
		}
		if !b.pick(a, here) {
			return nil, "noText"
		}
		if assist.Detect(a.target.Text) == to {
			if a.set.To == "" && to != "en" {
				to = "en"
			} else {
				return nil, "same"
			}
		}
		return b.translate(a.target, to), ""
	case "tone":
		tone, _, named := strings.Cut(a.args.Text, ":")
		word, _, _ := strings.Cut(a.args.Text, " ")
		if _, ok := assist.Tones[strings.ToLower(word)]; ok {
			tone, named = strings.ToLower(word), true
			a.args = after(a.args, units(word))
		} else if named {
			a.args = after(a.args, units(tone)+1)
		} else if a.id != 0 || a.target.Text != "" {
			named, a.args = tone != "", assist.Text{}
		}
		if tone = strings.TrimSpace(tone); !named || tone == "" {
			return nil, "tones"
		}
		if !b.pick(a, here) {
			return nil, "noText"
		}
		return b.compose(a.lang, &assist.ComposeRequest{Text: a.target, Tone: tone}), ""
	default: // fix
		if !b.pick(a, here) {
			return nil, "noText"
		}
		return b.compose(a.lang, &assist.ComposeRequest{Text: a.target, Proofread: true}), ""
	}
}

// pick settles which text is meant: that behind the command, the one replied
// to, or in a private chat the last one.
func (b *Bot) pick(a *ask, here place) bool {
	if a.args.Text != "" {
		a.target, a.id = a.args, 0
	}
	if a.target.Text == "" && a.msg.Chat.private() {
		if last := b.windows.last(here, 1, time.Now()); len(last) > 0 {
			a.target, a.id = last[0].text, last[0].id
		}
	}
	return strings.TrimSpace(a.target.Text) != ""
}

func copyButton(t assist.Text) map[string]any {
	if n := len([]rune(t.Text)); n == 0 || n > maxCopy {
		return nil
	}
	return keyboard([]button{{Text: "⧉", Copy: &copyText{t.Text}}})
}

func (b *Bot) translate(t assist.Text, to string) taskFunc {
	return func(ctx context.Context, _ func(string)) (*result, error) {
		r, err := b.Assistant.Translate(ctx, &assist.TranslateRequest{Texts: []assist.Text{t}, To: to})
		if err != nil {
			return nil, err
		}
		return &result{text: r.Texts[0].Text, answer: r.Answer, lost: r.Texts[0].EntitiesLost, markup: copyButton(r.Texts[0].Text)}, nil
	}
}

func (b *Bot) compose(lang string, rq *assist.ComposeRequest) taskFunc {
	return func(ctx context.Context, onText func(string)) (*result, error) {
		r, err := b.Assistant.Compose(ctx, rq, onText)
		if err != nil {
			return nil, err
		}
		out := &result{text: r.Result, answer: r.Answer, lost: r.EntitiesLost, markup: copyButton(r.Result)}
		if r.Diff == nil || r.Fallback || units(rq.Text.Text) > 1500 {
			return out, nil
		}
		var t builder
		t.text(r.Result).add("\n\n")
		changed := false
		for _, c := range r.Diff {
			switch c.Op {
			case "delete":
				t.styled("strikethrough", c.Text)
			case "insert":
				t.styled("underline", c.Text)
			default:
				t.add(c.Text)
				continue
			}
			changed = true
		}
		if !changed {
			t = builder{}
			t.text(r.Result).add("\n\n").add(say(lang, "noChange"))
		}
		out.text = t.done()
		return out, nil
	}
}

func (b *Bot) summary(a *ask, rq *assist.SummarizeRequest) taskFunc {
	return func(ctx context.Context, onText func(string)) (*result, error) {
		r, err := b.Assistant.Summarize(ctx, rq, onText)
		if err != nil {
			return nil, err
		}
		chat := &a.msg.Chat
		if rq.Text != "" {
			chat = nil // its parts are no messages
		}
		var t builder
		points(&t, chat, "", r.Summary)
		points(&t, chat, say(a.lang, "decisions"), r.Decisions)
		points(&t, chat, say(a.lang, "questions"), r.OpenQuestions)
		if t.n == 0 {
			t.add(say(a.lang, "noMessages"))
		}
		return &result{text: t.done(), answer: r.Answer}, nil
	}
}

func points(t *builder, chat *Chat, title string, list []assist.Point) {
	if len(list) == 0 {
		return
	}
	if title != "" {
		t.add("\n").styled("bold", title).add("\n")
	}
	for _, p := range list {
		t.add("• " + p.Text)
		for i, ref := range p.Refs {
			if chat == nil || i == 5 {
				break
			}
			id, err := strconv.ParseInt(ref.String(), 10, 64)
			if err != nil {
				continue
			}
			if link := messageLink(chat, id); link != "" {
				t.add(" ").link(fmt.Sprintf("[%d]", i+1), link)
			}
		}
		t.add("\n")
	}
}

// messageLink is a link to a message of a supergroup; others have none.
func messageLink(c *Chat, id int64) string {
	if c.Username != "" && !c.private() {
		return fmt.Sprintf("https://t.me/%s/%d", c.Username, id)
	}
	if n := -c.ID - 1_000_000_000_000; c.Type == "supergroup" && n > 0 {
		return fmt.Sprintf("https://t.me/c/%d/%d", n, id)
	}
	return ""
}

// replies suggests replies to the message meant, in view of those before it.
func (b *Bot) replies(a *ask, here place) (taskFunc, string) {
	list := b.windows.last(here, maxWindow, time.Now())
	end := len(list)
	if a.args.Text != "" {
		a.target, a.id = a.args, 0
	}
	if a.target.Text != "" {
		end = 0
		for i, k := range list {
			if a.id != 0 && k.id == a.id {
				end = i + 1
			}
		}
	}
	ms := messages(list[max(0, end-assist.MaxReplyContext):end])
	if len(ms) == 0 && a.target.Text != "" {
		m := assist.Message{ID: assist.NumberID(1), Text: a.target.Text}
		if a.id != 0 {
			m.From = a.msg.ReplyTo.author()
		}
		ms = []assist.Message{m}
	}
	if len(ms) == 0 {
		return nil, "noMessages"
	}
	return func(ctx context.Context, _ func(string)) (*result, error) {
		r, err := b.Assistant.Replies(ctx, &assist.RepliesRequest{Messages: ms, Me: clip(a.user.FirstName, 60)})
		if err != nil {
			return nil, err
		}
		text, markup := choices(say(a.lang, "replies"), r.Replies)
		return &result{text: text, answer: r.Answer, markup: markup}, nil
	}, ""
}

// search finds messages by words and meaning.
func (b *Bot) search(a *ask, here place) (taskFunc, string) {
	if strings.TrimSpace(a.args.Text) == "" {
		return nil, "searchHow"
	}
	return func(ctx context.Context, _ func(string)) (*result, error) {
		hits, mode, proof, err := b.find(ctx, here, a.args.Text, 8)
		r := &result{quoted: true, answer: assist.Answer{Proof: proof}}
		if err != nil && ctx.Err() == nil { // words are found without a model
			b.Logger.Warn("a task failed", "task", a.name)
			r.text = b.searchWords(a)
			return r, nil
		}
		if err != nil {
			return r, err
		}
		if len(hits) == 0 {
			r.text.Text = say(a.lang, "notFound")
			return r, nil
		}
		var out builder
		out.styled("italic", say(a.lang, foundBy[mode]))
		list(&out, &a.msg.Chat, hits)
		r.text = out.done()
		return r, nil
	}, ""
}

// foundBy says how was looked for.
var foundBy = map[string]string{index.ModeWords: "found", index.ModeLexical: "foundLetters", index.ModeSemantic: "foundMeaning"}

// question answers from the message replied to, or from those that a search
// finds; what the answer rests on stands below it.
func (b *Bot) question(a *ask, here place) (taskFunc, string) {
	question := strings.TrimSpace(a.args.Text)
	if question == "" {
		return nil, "askHow"
	}
	return func(ctx context.Context, onText func(string)) (*result, error) {
		var hits []kept
		var proof assist.Proof
		if a.target.Text != "" {
			hits = []kept{{id: a.msg.ReplyTo.ID, author: a.msg.ReplyTo.author(), at: time.Now(), text: a.target}}
		} else {
			var err error
			if hits, _, proof, err = b.find(ctx, here, question, 12); err != nil {
				return &result{quoted: true, answer: assist.Answer{Proof: proof}}, err
			}
		}
		r, err := b.Assistant.Ask(ctx, &assist.AskRequest{Query: question, Messages: messages(hits)}, onText)
		if err != nil {
			return &result{answer: assist.Answer{Proof: proof}}, err
		}
		proof.Add(r.Proof)
		r.Proof = proof
		var out builder
		if r.Text != "" {
			hits = slices.DeleteFunc(hits, func(k kept) bool { return !slices.Contains(r.Refs, assist.NumberID(k.id)) })
			out.add(r.Text+"\n\n").styled("bold", say(a.lang, "sources"))
			list(&out, &a.msg.Chat, hits)
			return &result{text: out.done(), answer: r.Answer}, nil
		}
		if len(hits) == 0 {
			return &result{text: assist.Text{Text: say(a.lang, "notFound")}, quoted: true, answer: r.Answer}, nil
		}
		out.styled("italic", say(a.lang, "noAnswer"))
		list(&out, &a.msg.Chat, hits[:min(len(hits), 8)])
		return &result{text: out.done(), quoted: true, answer: assist.Answer{Proof: proof}}, nil
	}, ""
}

// choices shows replies with a button each that copies it.
func choices(title string, list []assist.SuggestedReply) (assist.Text, map[string]any) {
	var t builder
	t.styled("italic", title)
	var rows [][]button
	for _, s := range list {
		t.add("\n• " + s.Text)
		if len([]rune(s.Text)) <= maxCopy {
			rows = append(rows, []button{{Text: clip(s.Text, 40), Copy: &copyText{s.Text}}})
		}
	}
	if rows == nil {
		return t.done(), nil
	}
	return t.done(), keyboard(rows...)
}
