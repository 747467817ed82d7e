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

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Label is a filter in its user's words.
type Label struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// ClassifyRequest asks for a label for each message.
type ClassifyRequest struct {
	Messages []Message `json:"messages"`
	// Labels may be empty: spam, urgent, work, private.
	Labels []Label `json:"labels,omitempty"`
	// Mask hides names and personal data that has a form from the model.
	Mask bool `json:"mask,omitempty"`
}

// ClassifyResult has one entry for each message, in their order.
type ClassifyResult struct {
	Answer
	Labels []Labelled `json:"labels"`
}

// Labelled is a message's label. Label is empty if none fits, or the message
// has no words. Score is 0 to 1, in the model's own judgement.
type Labelled struct {
	ID    ID      `json:"id"`
	Label string  `json:"label"`
	Score float64 `json:"score"`
}

var classifyPrompt = prompt{
	name: "classify@1",
	system: `You sort chat messages. The user's turn has "labels" with descriptions and numbered "messages". Give each message the one label that fits best, or "" if none does, and a "score" from 0 to 100 for how sure you are.` +
		dataRule,
	small: `Label the message: spam, work, private or urgent. Answer as JSON.`,
}

// DefaultLabels are used if a request has none.
var DefaultLabels = []Label{
	{"spam", "advertising, scams, unwanted mass messages"},
	{"urgent", "needs the reader's action within hours"},
	{"work", "about work, study or business"},
	{"private", "family, friends, leisure"},
}

func (rq *ClassifyRequest) check() error {
	if err := checkMessages("messages", rq.Messages, MaxMessages); err != nil {
		return err
	}
	if len(rq.Labels) > MaxLabels {
		return openai.InvalidRequest("labels", "'labels' has %d labels; at most %d are taken.", len(rq.Labels), MaxLabels)
	}
	seen := map[string]bool{}
	for i, l := range rq.Labels {
		at := "labels[" + strconv.Itoa(i) + "]"
		switch {
		case strings.TrimSpace(l.Name) == "":
			return openai.Missing(at + ".name")
		case !utf8.ValidString(l.Name) || utf8.RuneCountInString(l.Name) > 64:
			return openai.InvalidRequest(at+".name", "'%s.name' has more than 64 characters.", at)
		case !utf8.ValidString(l.Description) || utf8.RuneCountInString(l.Description) > MaxTone:
			return openai.InvalidRequest(at+".description", "'%s.description' has more than %d characters.", at, MaxTone)
		case seen[l.Name]:
			return openai.InvalidRequest(at+".name", "'%s.name' was there before.", at)
		}
		seen[l.Name] = true
	}
	return nil
}

type modelLabel struct {
	ID    int    `json:"id"`
	Label string `json:"label"`
	Score int    `json:"score"`
}

// Classify labels messages.
func (a *Assistant) Classify(ctx context.Context, rq *ClassifyRequest) (*ClassifyResult, error) {
	if err := rq.check(); err != nil {
		return nil, err
	}
	labels := rq.Labels
	if len(labels) == 0 {
		labels = DefaultLabels
	}
	r := &ClassifyResult{Answer: classifyPrompt.answer(), Labels: make([]Labelled, len(rq.Messages))}
	for i, m := range rq.Messages {
		r.Labels[i].ID = m.ID
	}
	ms := rq.Messages
	if rq.Mask {
		ms, _ = hideMessages(ms)
	}
	var ls []line
	for _, l := range lines(ms) {
		if hasWords(l.Text) {
			ls = append(ls, l)
		}
	}
	groups := parts(ls, a.budget().in/2)
	if a.small {
		groups = parts(ls, 0)
	}
	proofs := make([]Proof, len(groups))
	unsure := make([]bool, len(groups))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxPartsInFlight)
	for i, group := range groups {
		g.Go(func() error {
			found, p, err := a.classifyPart(gctx, labels, group)
			proofs[i] = p
			var bad errInvalid
			if errors.As(err, &bad) {
				unsure[i] = true
				return nil // no label is the honest fallback
			}
			for _, f := range found {
				r.Labels[f.ID-1].Label, r.Labels[f.ID-1].Score = f.Label, float64(f.Score)/100
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, p := range proofs {
		r.Proof.Add(p)
		if unsure[i] && !r.Fallback {
			r.Fallback = true
			r.Notes = append(r.Notes, "The model gave no usable label for some messages: they have none.")
		}
	}
	return r, nil
}

func (a *Assistant) classifyPart(ctx context.Context, labels []Label, ls []line) ([]modelLabel, Proof, error) {
	names := []string{""}
	for _, l := range labels {
		names = append(names, l.Name)
	}
	if a.small {
		return a.classifySmall(ctx, names[1:], ls[0])
	}
	enum, _ := json.Marshal(names)
	ids := make([]int, len(ls))
	for i, l := range ls {
		ids[i] = l.ID
	}
	idEnum, _ := json.Marshal(ids)
	schema := json.RawMessage(fmt.Sprintf(`{"type":"object","properties":{"labels":{"type":"array","items":{"type":"object","properties":{"id":{"type":"integer","enum":%s},"label":{"type":"string","enum":%s},"score":{"type":"integer","minimum":0,"maximum":100}},"required":["id","label","score"],"additionalProperties":false},"minItems":%d,"maxItems":%d}},"required":["labels"],"additionalProperties":false}`, idEnum, enum, len(ls), len(ls)))
	data := struct {
		Labels   []Label `json:"labels"`
		Messages []line  `json:"messages"`
	}{labels, ls}
	type answer struct {
		Labels []modelLabel `json:"labels"`
	}
	v, proof, err := run(ctx, a, &classifyPrompt, data, schema, 64+32*len(ls), nil, func(v *answer) error {
		if len(v.Labels) != len(ls) {
			return invalid("it had %d labels for %d messages", len(v.Labels), len(ls))
		}
		seen := map[int]bool{}
		for _, l := range v.Labels {
			if !slices.Contains(ids, l.ID) || seen[l.ID] {
				return invalid("the ids of the messages were not each there once")
			}
			seen[l.ID] = true
			if !slices.Contains(names, l.Label) || l.Score < 0 || l.Score > 100 {
				return invalid("a label or score was not among those allowed")
			}
		}
		return nil
	})
	if err != nil {
		return nil, proof, err
	}
	return v.Labels, proof, nil
}

// classifySmall asks a small model about one message.
func (a *Assistant) classifySmall(ctx context.Context, names []string, l line) ([]modelLabel, Proof, error) {
	enum, _ := json.Marshal(names)
	type answer struct {
		Label string `json:"label"`
	}
	schema := json.RawMessage(`{"type":"object","properties":{"label":{"type":"string","enum":` + string(enum) + `}},"required":["label"],"additionalProperties":false}`)
	user := []rune(l.Text)
	v, proof, err := run(ctx, a, &classifyPrompt, string(user[:min(len(user), a.budget().in)]), schema, 32, nil, func(v *answer) error {
		if !slices.Contains(names, v.Label) {
			return invalid("the label was not among those allowed")
		}
		return nil
	})
	if err != nil {
		return nil, proof, err
	}
	return []modelLabel{{l.ID, v.Label, 50}}, proof, nil
}
