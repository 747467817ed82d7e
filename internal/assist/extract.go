package assist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"
)

// ExtractRequest asks for dates, tasks and places in messages.
type ExtractRequest struct {
	Messages []Message `json:"messages"`
	// Mask hides names and personal data that has a form from the model.
	Mask bool `json:"mask,omitempty"`
}

// ExtractResult lists what was found, each with the message that says it.
type ExtractResult struct {
	Answer
	Items []Item `json:"items"`
}

// Item is a date, task or place. Text stands in the message as it is here.
type Item struct {
	Kind string `json:"kind"` // "date", "task", "place"
	Text string `json:"text"`
	// Who is the person a task is for, if the messages say it.
	Who  string `json:"who,omitempty"`
	Refs []ID   `json:"refs"`
}

var extractPrompt = prompt{
	name: "extract@1",
	system: `You find dates, tasks and places in chat messages. The user's turn has numbered "messages". List every "date" (a day, time or deadline), "task" (something somebody is to do) and "place" (an address or a named place) with its "id". "text" quotes the message word for word, as short as it can be. "who" is the person a task is for, if that is said, else "". Find nothing that is not there; the list may be empty.` +
		dataRule,
}

type modelItem struct {
	ID   int    `json:"id"`
	Kind string `json:"kind"`
	Text string `json:"text"`
	Who  string `json:"who"`
}

var itemKinds = []string{"date", "task", "place"}

// Extract finds dates, tasks and places.
func (a *Assistant) Extract(ctx context.Context, rq *ExtractRequest) (*ExtractResult, error) {
	if err := checkMessages("messages", rq.Messages, MaxMessages); err != nil {
		return nil, err
	}
	r := &ExtractResult{Answer: extractPrompt.answer(), Items: []Item{}}
	ms, show := rq.Messages, func(s string) string { return s }
	if rq.Mask && !a.small { // what is found by form is not sent
		var mask *Mask
		ms, mask = hideMessages(ms)
		show = mask.Show
	}
	var ls []line
	for _, l := range lines(ms) {
		if strings.TrimSpace(l.Text) != "" {
			ls = append(ls, l)
		}
	}
	if a.small {
		// The demo model was not trained for it; patterns are honest.
		r.Fallback = true
		r.Notes = append(r.Notes, "This model cannot do it: dates and times were found by their form.")
		r.Items = byForm(ls, rq.Messages)
		return r, nil
	}
	groups := parts(ls, a.budget().in/2)
	found := make([][]modelItem, len(groups))
	proofs := make([]Proof, len(groups))
	plain := make([]bool, len(groups))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxPartsInFlight)
	for i, group := range groups {
		g.Go(func() error {
			var err error
			found[i], proofs[i], err = a.extractPart(gctx, group)
			var bad errInvalid
			if errors.As(err, &bad) {
				plain[i], err = true, nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, group := range groups {
		r.Proof.Add(proofs[i])
		if plain[i] {
			if !r.Fallback {
				r.Notes = append(r.Notes, "The model gave no usable answer for some messages: dates and times in them were found by their form.")
			}
			r.Fallback = true
			for _, it := range byForm(group, rq.Messages) {
				it.Text = show(it.Text)
				r.Items = append(r.Items, it)
			}
		}
		for _, it := range found[i] {
			r.Items = append(r.Items, Item{Kind: it.Kind, Text: show(it.Text), Who: show(it.Who), Refs: []ID{rq.Messages[it.ID-1].ID}})
		}
	}
	return r, nil
}

func (a *Assistant) extractPart(ctx context.Context, ls []line) ([]modelItem, Proof, error) {
	byID := map[int]string{}
	ids := make([]int, len(ls))
	for i, l := range ls {
		byID[l.ID], ids[i] = l.Text, l.ID
	}
	enum, _ := json.Marshal(ids)
	kinds, _ := json.Marshal(itemKinds)
	schema := json.RawMessage(fmt.Sprintf(`{"type":"object","properties":{"items":{"type":"array","items":{"type":"object","properties":{"id":{"type":"integer","enum":%s},"kind":{"type":"string","enum":%s},"text":{"type":"string","minLength":1,"maxLength":300},"who":{"type":"string","maxLength":80}},"required":["id","kind","text","who"],"additionalProperties":false},"maxItems":50}},"required":["items"],"additionalProperties":false}`, enum, kinds))
	data := struct {
		Messages []line `json:"messages"`
	}{ls}
	type answer struct {
		Items []modelItem `json:"items"`
	}
	v, proof, err := run(ctx, a, &extractPrompt, data, schema, a.budget().out, nil, func(v *answer) error {
		for i := range v.Items {
			it := &v.Items[i]
			it.Text, it.Who = strings.TrimSpace(it.Text), strings.TrimSpace(it.Who)
			text, ok := byID[it.ID]
			switch {
			case !ok:
				return invalid("an item refers to %d, which is no message", it.ID)
			case !slices.Contains(itemKinds, it.Kind):
				return invalid("an item's kind was not among those allowed")
			case it.Text == "" || !strings.Contains(strings.ToLower(text), strings.ToLower(it.Text)):
				return invalid("the text of an item does not stand in message %d word for word", it.ID)
			case utf8.RuneCountInString(it.Who) > 80:
				return invalid("a name was too long")
			}
		}
		return nil
	})
	if err != nil {
		return nil, proof, err
	}
	return v.Items, proof, nil
}

var dateForms = regexp.MustCompile(`\b(\d{1,2}[:.]\d{2}( ?[ap]m)?|\d{1,2} ?[ap]m|\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{2,4})\b`)

// byForm finds dates and times that look like ones.
func byForm(ls []line, ms []Message) []Item {
	items := []Item{}
	for _, l := range ls {
		for _, s := range dateForms.FindAllString(l.Text, 10) {
			items = append(items, Item{Kind: "date", Text: s, Refs: []ID{ms[l.ID-1].ID}})
		}
	}
	return items
}
