package assist

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sync/errgroup"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// SummarizeRequest asks for what messages, or one long text, say.
type SummarizeRequest struct {
	Messages []Message `json:"messages,omitempty"`
	Text     string    `json:"text,omitempty"`
	// To is the language of the summary; empty = that of the messages.
	To string `json:"to,omitempty"`
	// Length is "line", "short" or "bullets"; empty = bullets.
	Length string `json:"length,omitempty"`
	Tone   string `json:"tone,omitempty"`
	// Mask hides names and personal data that has a form from the model.
	Mask bool `json:"mask,omitempty"`
}

// SummarizeResult is a summary. Refs are ids of messages that were sent in; of
// a long text, they are the numbers of its parts, from 1.
type SummarizeResult struct {
	Answer
	Summary       []Point `json:"summary"`
	Decisions     []Point `json:"decisions"`
	OpenQuestions []Point `json:"open_questions"`
}

// Point is one statement and where it comes from.
type Point struct {
	Text string `json:"text"`
	Refs []ID   `json:"refs"`
}

var summarizePrompt = prompt{
	name: "summarize@1",
	system: `You summarise a chat for someone who has not read it. The user's turn has "messages" with numbered ids, and "length": "line" wants one sentence, "short" two or three, "bullets" at most seven; perhaps "to", the language to write in (else that of the messages), and a "tone". ` +
		`State only what the messages say: names, numbers and dates as they stand there. Leave out greetings and small talk. Each point has "refs": the ids of the messages it rests on. Put what was agreed into "decisions" and what was asked and not answered into "open_questions"; either may be empty.` + dataRule,
	small: `Summarise the chat. Answer as JSON.`,
}

var mergePrompt = prompt{
	name:   "summarize-merge@1",
	system: `You merge summaries of consecutive parts of one chat into one. The user's turn has "points" with "text" and "refs", and "length", perhaps "to" and "tone", as for a summary: "line" wants one sentence, "short" two or three, "bullets" at most seven. Merge what belongs together, keep the order, keep the refs of everything a point rests on, add nothing.` + dataRule,
}

type modelPoint struct {
	Text string `json:"text"`
	Refs []int  `json:"refs"`
}

type modelSummary struct {
	Summary       []modelPoint `json:"summary"`
	Decisions     []modelPoint `json:"decisions,omitempty"`
	OpenQuestions []modelPoint `json:"open_questions,omitempty"`
}

var summaryLengths = map[string]int{"line": 1, "short": 3, "bullets": 7}

func (rq *SummarizeRequest) check() error {
	if len(rq.Messages) > 0 && rq.Text != "" {
		return openai.InvalidRequest("text", "Give 'messages' or 'text', not both.")
	}
	if len(rq.Messages) == 0 && rq.Text == "" {
		e := openai.Missing("messages")
		e.Message = "Give 'messages', or one 'text'."
		return e
	}
	if rq.Text != "" {
		if err := (&Text{Text: rq.Text}).check("text", MaxTextUnits); err != nil {
			return err
		}
	} else if err := checkMessages("messages", rq.Messages, MaxMessages); err != nil {
		return err
	}
	if _, ok := summaryLengths[rq.Length]; !ok && rq.Length != "" {
		return openai.InvalidRequest("length", "'length' must be 'line', 'short' or 'bullets'.")
	}
	if err := checkLanguage("to", rq.To, false); err != nil {
		return err
	}
	return checkTone(rq.Tone)
}

// Summarize summarises messages or a text. onText, which may be nil, hears a
// draft as it grows; the result counts.
func (a *Assistant) Summarize(ctx context.Context, rq *SummarizeRequest, onText func(string)) (*SummarizeResult, error) {
	if err := rq.check(); err != nil {
		return nil, err
	}
	length := rq.Length
	if length == "" {
		length = "bullets"
	}
	r := &SummarizeResult{Answer: summarizePrompt.answer(), Summary: []Point{}, Decisions: []Point{}, OpenQuestions: []Point{}}
	ms, text := rq.Messages, rq.Text
	show := func(s string) string { return s }
	if rq.Mask {
		var mask *Mask
		ms, mask = hideMessages(ms)
		text = mask.Hide(text) // before it is cut, which might cut a number
		show, onText = mask.Show, mask.showing(onText)
	}
	if text != "" {
		for i, s := range pieces(text, a.budget().in/2) {
			ms = append(ms, Message{ID: NumberID(int64(i + 1)), Text: s})
		}
	}
	ls := lines(ms)
	if !slices.ContainsFunc(ls, func(l line) bool { return strings.IndexFunc(l.Text, unicode.IsLetter) >= 0 }) {
		r.Notes = append(r.Notes, "There are no words to summarise.")
		return r, nil
	}
	groups := parts(ls, a.budget().in)
	results := make([]*modelSummary, len(groups))
	proofs := make([]Proof, len(groups))
	plain := make([]bool, len(groups))
	var tell func(string)
	if onText != nil && len(groups) == 1 {
		tell = draft("text", onText)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(maxPartsInFlight)
	for i, group := range groups {
		g.Go(func() error {
			v, p, err := a.summarizePart(gctx, rq, length, group, tell)
			proofs[i] = p
			var bad errInvalid
			if errors.As(err, &bad) {
				v, plain[i], err = extract(group, summaryLengths[length]), true, nil
			}
			results[i] = v
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var all modelSummary
	for i, v := range results {
		r.Proof.Add(proofs[i])
		r.Fallback = r.Fallback || plain[i]
		all.Summary = append(all.Summary, v.Summary...)
		all.Decisions = append(all.Decisions, v.Decisions...)
		all.OpenQuestions = append(all.OpenQuestions, v.OpenQuestions...)
	}
	if r.Fallback {
		r.Notes = append(r.Notes, "The model gave no usable summary of a part: its longest messages stand there instead.")
	}
	if len(groups) > 1 {
		points, p, err := a.merge(ctx, rq, length, all.Summary, onText)
		r.Proof.Add(p)
		if err != nil {
			return nil, err
		}
		all.Summary = points
	}
	if a.small {
		r.Notes = append(r.Notes, "This model is too small to tell decisions and open questions.")
	}
	r.Summary = points(all.Summary, ms, show)
	r.Decisions = points(all.Decisions, ms, show)
	r.OpenQuestions = points(all.OpenQuestions, ms, show)
	return r, nil
}

type summaryData struct {
	To       string `json:"to,omitempty"`
	Tone     string `json:"tone,omitempty"`
	Length   string `json:"length,omitempty"`
	Messages []line `json:"messages,omitempty"`
	// Points are those of parts that are to be merged.
	Points []modelPoint `json:"points,omitempty"`
}

func (a *Assistant) summarizePart(ctx context.Context, rq *SummarizeRequest, length string, ls []line, onText func(string)) (*modelSummary, Proof, error) {
	known := map[int]bool{}
	ids := make([]int, len(ls))
	for i, l := range ls {
		known[l.ID], ids[i] = true, l.ID
	}
	data := summaryData{Messages: ls}
	most := summaryLengths[length]
	if a.small {
		data.Messages = slices.Clone(ls)
		for i := range data.Messages {
			data.Messages[i].ReplyTo = 0
		}
		most = min(most, 2)
	} else {
		data.Length, data.Tone, data.To = length, rq.Tone, Language(rq.To)
	}
	return run(ctx, a, &summarizePrompt, data, summarySchema(ids, most, a.small), a.budget().out, onText, func(v *modelSummary) error {
		if len(v.Summary) == 0 || len(v.Summary) > most {
			return invalid("it had %d points where 1 to %d were asked for", len(v.Summary), most)
		}
		for _, list := range [][]modelPoint{v.Summary, v.Decisions, v.OpenQuestions} {
			if err := checkPoints(list, known, rq.To); err != nil {
				return err
			}
		}
		return nil
	})
}

func checkPoints(list []modelPoint, known map[int]bool, to string) error {
	for i, p := range list {
		if strings.TrimSpace(p.Text) == "" {
			return invalid("a point was empty")
		}
		if utf8.RuneCountInString(p.Text) > 1000 {
			return invalid("a point had more than 1000 characters")
		}
		if len(p.Refs) == 0 {
			return invalid("a point had no refs")
		}
		for _, n := range p.Refs {
			if !known[n] {
				return invalid("a point refers to %d, which is no message", n)
			}
		}
		if to != "" && otherScript(p.Text, to) {
			return invalid("a point was not in the language asked for")
		}
		slices.Sort(p.Refs)
		list[i].Refs = slices.Compact(p.Refs)
	}
	return nil
}

func summarySchema(ids []int, most int, small bool) json.RawMessage {
	enum, _ := json.Marshal(ids)
	point := fmt.Sprintf(`{"type":"object","properties":{"text":{"type":"string","minLength":1,"maxLength":600},"refs":{"type":"array","items":{"type":"integer","enum":%s},"minItems":1,"maxItems":%d}},"required":["text","refs"],"additionalProperties":false}`, enum, min(len(ids), 12))
	list := func(least, most int) string {
		return fmt.Sprintf(`{"type":"array","items":%s,"minItems":%d,"maxItems":%d}`, point, least, most)
	}
	if small {
		point = strings.Replace(point, `"maxLength":600`, `"maxLength":160`, 1)
		return json.RawMessage(`{"type":"object","properties":{"summary":` + list(1, most) + `},"required":["summary"],"additionalProperties":false}`)
	}
	return json.RawMessage(`{"type":"object","properties":{"summary":` + list(1, most) + `,"decisions":` + list(0, 5) + `,"open_questions":` + list(0, 5) + `},"required":["summary","decisions","open_questions"],"additionalProperties":false}`)
}

// merge makes one summary of those of the parts.
func (a *Assistant) merge(ctx context.Context, rq *SummarizeRequest, length string, all []modelPoint, onText func(string)) ([]modelPoint, Proof, error) {
	most := summaryLengths[length]
	if len(all) <= most || a.small {
		// A small model cannot merge: the points stay as they are, in order.
		return all, Proof{}, nil
	}
	known := map[int]bool{}
	var ids []int
	for _, p := range all {
		for _, n := range p.Refs {
			if !known[n] {
				known[n] = true
				ids = append(ids, n)
			}
		}
	}
	var tell func(string)
	if onText != nil {
		tell = draft("text", onText)
	}
	v, proof, err := run(ctx, a, &mergePrompt, summaryData{Length: length, Tone: rq.Tone, To: Language(rq.To), Points: all}, summarySchema(ids, most, true), a.budget().out, tell, func(v *modelSummary) error {
		if len(v.Summary) == 0 {
			return invalid("it had no points")
		}
		return checkPoints(v.Summary, known, rq.To)
	})
	var bad errInvalid
	if errors.As(err, &bad) {
		return all, proof, nil // unmerged, but true
	}
	if err != nil {
		return nil, proof, err
	}
	return v.Summary, proof, nil
}

// points gives a model's points the ids of their caller.
func points(list []modelPoint, ms []Message, show func(string) string) []Point {
	out := make([]Point, len(list))
	for i, p := range list {
		out[i] = Point{Text: show(strings.TrimSpace(p.Text)), Refs: make([]ID, len(p.Refs))}
		for k, n := range p.Refs {
			out[i].Refs[k] = ms[n-1].ID
		}
	}
	return out
}

// extract is the summary without a model: the first sentences of the longest
// messages, in their order.
func extract(ls []line, n int) *modelSummary {
	chosen := slices.Clone(ls)
	slices.SortStableFunc(chosen, func(a, b line) int { return utf8.RuneCountInString(b.Text) - utf8.RuneCountInString(a.Text) })
	chosen = chosen[:min(n, len(chosen))]
	slices.SortFunc(chosen, func(a, b line) int { return a.ID - b.ID })
	v := &modelSummary{}
	for _, l := range chosen {
		text := firstSentence(l.Text, 200)
		if l.From != "" {
			text = l.From + ": " + text
		}
		v.Summary = append(v.Summary, modelPoint{Text: text, Refs: []int{l.ID}})
	}
	return v
}

func firstSentence(s string, most int) string {
	s = strings.TrimSpace(s)
	if i := strings.IndexAny(s, ".!?\n。"); i > 0 {
		_, size := utf8.DecodeRuneInString(s[i:])
		s = strings.TrimSpace(s[:i+size])
	}
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}
