package assist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// RepliesRequest asks for short replies to the last of some messages.
type RepliesRequest struct {
	// Messages are the newest, oldest first; at most MaxReplyContext.
	Messages []Message `json:"messages"`
	// Me is the name under which the user writes.
	Me string `json:"me,omitempty"`
	// StyleSamples are a few messages of the user's own, for the tone.
	StyleSamples []string `json:"style_samples,omitempty"`
	// N is how many, 1 to 5; 0 = 3.
	N  int    `json:"n,omitempty"`
	To string `json:"to,omitempty"` // language; empty = that of the last message
	// Mask hides names and personal data that has a form from the model.
	Mask bool `json:"mask,omitempty"`
}

// RepliesResult has replies of different intents.
type RepliesResult struct {
	Answer
	Replies []SuggestedReply `json:"replies"`
}

// SuggestedReply is one reply; Intent says in a word what it does.
type SuggestedReply struct {
	Text   string `json:"text"`
	Intent string `json:"intent"`
}

var repliesPrompt = prompt{
	name: "replies@1",
	system: `You suggest short replies to the last message of a chat. The user's turn has "messages", "n", perhaps "me", the name under which the user writes, "style_samples" of the user's own writing, and "to", the language to write in (else that of the last message). ` +
		`Give "n" replies that the user could send as they are: each under 12 words, in the user's style, each with another "intent" in one or two English words (accept, decline, ask, thank, later, …). Promise nothing and state no facts that the messages do not hold.` + dataRule,
	small:       `Suggest three replies. Answer as JSON.`,
	temperature: 0.7,
}

const maxStyleSamples = 10

func (rq *RepliesRequest) check() error {
	if err := checkMessages("messages", rq.Messages, MaxReplyContext); err != nil {
		return err
	}
	if rq.N < 0 || rq.N > 5 {
		return openai.InvalidRequest("n", "'n' must be from 1 to 5.")
	}
	if utf16Len(rq.Me) > maxNameUnits || !utf8.ValidString(rq.Me) {
		return openai.InvalidRequest("me", "'me' has more than %d UTF-16 units.", maxNameUnits)
	}
	if len(rq.StyleSamples) > maxStyleSamples {
		return openai.InvalidRequest("style_samples", "'style_samples' has %d texts; at most %d are taken.", len(rq.StyleSamples), maxStyleSamples)
	}
	for i, s := range rq.StyleSamples {
		if utf16Len(s) > 1000 || !utf8.ValidString(s) {
			return openai.InvalidRequest("style_samples["+strconv.Itoa(i)+"]", "A style sample has at most 1000 UTF-16 units.")
		}
	}
	return checkLanguage("to", rq.To, false)
}

// Replies suggests replies.
func (a *Assistant) Replies(ctx context.Context, rq *RepliesRequest) (*RepliesResult, error) {
	if err := rq.check(); err != nil {
		return nil, err
	}
	n := rq.N
	if n == 0 {
		n = 3
	}
	ms, me, samples, show := rq.Messages, rq.Me, rq.StyleSamples, func(s string) string { return s }
	if rq.Mask {
		var mask *Mask
		ms, mask = hideMessages(ms, me)
		me, show = mask.Hide(me), mask.Show
		samples = slices.Clone(samples)
		for i := range samples {
			samples[i] = mask.Hide(samples[i])
		}
	}
	ls := lines(ms)
	last := ms[len(ms)-1].Text
	r := &RepliesResult{Answer: repliesPrompt.answer(), Replies: []SuggestedReply{}}
	if !hasWords(last) {
		r.Notes = append(r.Notes, "The last message has no words to reply to.")
		return r, nil
	}
	to := rq.To
	if to == "" {
		to = Detect(last)
	}
	type replies struct {
		Replies []SuggestedReply `json:"replies"`
	}
	var data any = struct {
		To       string   `json:"to,omitempty"`
		N        int      `json:"n"`
		Me       string   `json:"me,omitempty"`
		Style    []string `json:"style_samples,omitempty"`
		Messages []line   `json:"messages"`
	}{Language(rq.To), n, me, samples, ls}
	if a.small {
		data = struct {
			Messages []line `json:"messages"`
		}{[]line{{ID: 1, From: ms[len(ms)-1].From, Text: last}}}
	}
	schema := json.RawMessage(fmt.Sprintf(`{"type":"object","properties":{"replies":{"type":"array","items":{"type":"object","properties":{"text":{"type":"string","minLength":1,"maxLength":120},"intent":{"type":"string","minLength":1,"maxLength":24}},"required":["text","intent"],"additionalProperties":false},"minItems":%d,"maxItems":%d}},"required":["replies"],"additionalProperties":false}`, n, n))
	v, proof, err := run(ctx, a, &repliesPrompt, data, schema, a.outTokens(80*n), nil, func(v *replies) error {
		if len(v.Replies) != n {
			return invalid("it had %d replies, not %d", len(v.Replies), n)
		}
		seen, intents := map[string]bool{}, map[string]bool{}
		for i := range v.Replies {
			s := &v.Replies[i]
			s.Text, s.Intent = strings.TrimSpace(s.Text), strings.ToLower(strings.TrimSpace(s.Intent))
			switch {
			case s.Text == "" || s.Intent == "":
				return invalid("a reply was empty")
			case utf8.RuneCountInString(s.Text) > 160:
				return invalid("a reply had more than 160 characters")
			case seen[strings.ToLower(s.Text)]:
				return invalid("two replies were the same")
			case intents[s.Intent]:
				return invalid("two replies had the same intent")
			case to != "" && otherScript(s.Text, to):
				return invalid("a reply was in another language")
			}
			seen[strings.ToLower(s.Text)], intents[s.Intent] = true, true
		}
		return nil
	})
	r.Proof = proof
	var bad errInvalid
	switch {
	case err == nil:
		r.Replies = v.Replies
		for i := range r.Replies {
			r.Replies[i].Text = show(r.Replies[i].Text)
		}
	case errors.As(err, &bad):
		r.Fallback = true
		r.Replies = stockReplies(to)[:min(n, 3)]
		r.Notes = append(r.Notes, "The model gave no usable replies: these are stock phrases.")
	default:
		return nil, err
	}
	return r, nil
}

// stockReplies are what to say when a model says nothing usable.
func stockReplies(code string) []SuggestedReply {
	text := map[string][3]string{
		"id": {"Oke!", "Nanti aku kabari ya.", "Bisa jelaskan lagi?"},
		"ru": {"Хорошо!", "Отвечу чуть позже.", "Можно подробнее?"},
		"de": {"In Ordnung!", "Ich melde mich später.", "Kannst du das genauer sagen?"},
	}
	t, ok := text[code]
	if !ok {
		t = [3]string{"Okay!", "I will get back to you later.", "Could you tell me more?"}
	}
	return []SuggestedReply{{t[0], "accept"}, {t[1], "later"}, {t[2], "ask"}}
}
