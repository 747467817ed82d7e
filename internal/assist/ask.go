package assist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// AskRequest asks a question about messages that a search found.
type AskRequest struct {
	Query string
	// Messages are what was found, best first; at most MaxAsked.
	Messages []Message
	// To is the language of the answer; empty = that of the question.
	To string
	// Mask hides names of senders, those in Names, and personal data that has a
	// form from the model.
	Mask  bool
	Names []string
}

// MaxAsked is how many messages a question may rest on.
const MaxAsked = 50

// AskResult answers from the messages alone. Text is empty if they do not say,
// or if the model gave nothing usable.
type AskResult struct {
	Answer
	Text string `json:"answer"`
	Refs []ID   `json:"refs"`
}

var askPrompt = prompt{
	name: "ask@1",
	system: `You answer a question about someone's own chat messages. The user's turn has "question" and "messages" that a search found, perhaps "to", the language to answer in (else that of the question). Answer in one to three sentences from the messages alone: names, numbers and dates as they stand there. "refs" are the ids of the messages the answer rests on. If the messages do not answer the question, "answer" is "" and "refs" is empty.` +
		dataRule,
}

// Ask answers a question from messages. onText, which may be nil, hears the
// answer as it grows; the result counts.
func (a *Assistant) Ask(ctx context.Context, rq *AskRequest, onText func(string)) (*AskResult, error) {
	if strings.TrimSpace(rq.Query) == "" {
		return nil, openai.Missing("query")
	}
	if err := (&Text{Text: rq.Query}).check("query", 2000); err != nil {
		return nil, err
	}
	if err := checkLanguage("to", rq.To, false); err != nil {
		return nil, err
	}
	r := &AskResult{Answer: askPrompt.answer(), Refs: []ID{}}
	if len(rq.Messages) == 0 {
		r.Notes = append(r.Notes, "Nothing was found.")
		return r, nil
	}
	if err := checkMessages("messages", rq.Messages, MaxAsked); err != nil {
		return nil, err
	}
	if a.small {
		r.Fallback = true
		r.Notes = append(r.Notes, "This model is too small to answer questions: see what was found.")
		return r, nil
	}
	ms, question, show := rq.Messages, rq.Query, func(s string) string { return s }
	if rq.Mask {
		var mask *Mask
		ms, mask = hideMessages(ms, rq.Names...)
		question = mask.Hide(question)
		show, onText = mask.Show, mask.showing(onText)
	}
	ls := lines(ms)
	if room := a.budget().in; len(ls) > 1 {
		ls = parts(ls, room)[0] // the best ones
	}
	ids := make([]int, len(ls))
	for i := range ls {
		ids[i] = ls[i].ID
		ls[i].Text = clipRunes(ls[i].Text, 2000)
	}
	enum, _ := json.Marshal(ids)
	schema := json.RawMessage(fmt.Sprintf(`{"type":"object","properties":{"answer":{"type":"string","maxLength":1000},"refs":{"type":"array","items":{"type":"integer","enum":%s},"maxItems":%d}},"required":["answer","refs"],"additionalProperties":false}`, enum, len(ids)))
	data := struct {
		To       string `json:"to,omitempty"`
		Messages []line `json:"messages"`
		Question string `json:"question"`
	}{Language(rq.To), ls, question}
	type answer struct {
		Answer string `json:"answer"`
		Refs   []int  `json:"refs"`
	}
	var tell func(string)
	if onText != nil {
		tell = draft("answer", onText)
	}
	v, proof, err := run(ctx, a, &askPrompt, data, schema, a.budget().out, tell, func(v *answer) error {
		v.Answer = strings.TrimSpace(v.Answer)
		switch {
		case utf8.RuneCountInString(v.Answer) > 1500:
			return invalid("the answer had more than 1500 characters")
		case v.Answer != "" && len(v.Refs) == 0:
			return invalid("the answer had no refs")
		case v.Answer == "" && len(v.Refs) > 0:
			return invalid("there were refs without an answer")
		case rq.To != "" && otherScript(v.Answer, rq.To):
			return invalid("the answer was not in the language asked for")
		}
		for _, n := range v.Refs {
			if !slices.Contains(ids, n) {
				return invalid("the answer refers to %d, which is no message", n)
			}
		}
		slices.Sort(v.Refs)
		v.Refs = slices.Compact(v.Refs)
		return nil
	})
	r.Proof.Add(proof)
	var bad errInvalid
	switch {
	case errors.As(err, &bad):
		r.Fallback = true
		r.Notes = append(r.Notes, "The model gave no usable answer: see what was found.")
	case err != nil:
		return nil, err
	case v.Answer == "":
		r.Notes = append(r.Notes, "What was found does not answer this.")
	default:
		r.Text = show(v.Answer)
		for _, n := range v.Refs {
			r.Refs = append(r.Refs, rq.Messages[n-1].ID)
		}
	}
	return r, nil
}
