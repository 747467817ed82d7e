package assist

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// RecommendRequest asks which posts are worth reading for somebody with the
// interests that they typed.
type RecommendRequest struct {
	Posts     []Message `json:"posts"`
	Interests string    `json:"interests"`
	// N is how many to return; 0 = 5.
	N  int    `json:"n,omitempty"`
	To string `json:"to,omitempty"` // language of the reasons
	// Mask hides names and personal data that has a form from the models.
	Mask bool `json:"mask,omitempty"`
}

// RecommendResult has the best posts first.
type RecommendResult struct {
	Answer
	Posts []Recommended `json:"posts"`
}

// Recommended is a post and a reason in one line.
type Recommended struct {
	ID     ID      `json:"id"`
	Reason string  `json:"reason"`
	Score  float64 `json:"score"` // nearness to the interests, 0 to 1
}

var recommendPrompt = prompt{
	name: "recommend@1",
	system: `You say why a post may interest a reader. The user's turn has "interests", as the reader typed them, and numbered "posts", perhaps "to", the language to write in (else that of the interests). For each post give its "id" and a "reason" of at most 15 words that names what in the post touches the interests. If nothing does, say so.` +
		dataRule,
}

// Recommend ranks posts by nearness of their embeddings to the interests, and
// asks for a reason for those on top.
func (a *Assistant) Recommend(ctx context.Context, rq *RecommendRequest) (*RecommendResult, error) {
	if err := checkMessages("posts", rq.Posts, MaxMessages); err != nil {
		return nil, err
	}
	if strings.TrimSpace(rq.Interests) == "" {
		return nil, openai.Missing("interests")
	}
	if err := (&Text{Text: rq.Interests}).check("interests", 2000); err != nil {
		return nil, err
	}
	if rq.N < 0 || rq.N > 50 {
		return nil, openai.InvalidRequest("n", "'n' must be from 1 to 50.")
	}
	if err := checkLanguage("to", rq.To, false); err != nil {
		return nil, err
	}
	n := rq.N
	if n == 0 {
		n = 5
	}
	r := &RecommendResult{Answer: recommendPrompt.answer(), Posts: []Recommended{}}
	posts, interests, show := rq.Posts, rq.Interests, func(s string) string { return s }
	if rq.Mask {
		var mask *Mask
		posts, mask = hideMessages(posts)
		interests, show = mask.Hide(interests), mask.Show
	}
	ls := lines(posts)
	texts := []string{interests}
	for _, l := range ls {
		texts = append(texts, clipRunes(l.Text, 2000))
	}
	vectors, proof, err := a.model.Embed(ctx, texts)
	r.Proof.Add(proof)
	if err != nil {
		return nil, err
	}
	scores := map[int]float64{}
	for i, l := range ls {
		scores[l.ID] = max(cosine(vectors[0], vectors[i+1]), 0)
	}
	slices.SortStableFunc(ls, func(a, b line) int { return cmp.Compare(scores[b.ID], scores[a.ID]) })
	ls = ls[:min(n, len(ls))]
	reasons := map[int]string{}
	if !a.small && len(ls) > 0 {
		var p Proof
		reasons, p, err = a.reasons(ctx, interests, rq.To, ls)
		r.Proof.Add(p)
		var bad errInvalid
		if err != nil && !errors.As(err, &bad) {
			return nil, err
		}
	}
	for _, l := range ls {
		reason := reasons[l.ID]
		if reason == "" {
			r.Fallback = true
			reason = sharedWords(interests, l.Text)
		}
		r.Posts = append(r.Posts, Recommended{ID: rq.Posts[l.ID-1].ID, Reason: show(reason), Score: math.Round(scores[l.ID]*1000) / 1000})
	}
	if r.Fallback {
		r.Notes = append(r.Notes, "The reasons are words that posts share with the interests.")
	}
	return r, nil
}

func (a *Assistant) reasons(ctx context.Context, interests, to string, ls []line) (map[int]string, Proof, error) {
	posts := slices.Clone(ls)
	ids := make([]int, len(ls))
	for i := range posts {
		posts[i].Text = clipRunes(posts[i].Text, 600)
		posts[i].ReplyTo = 0
		ids[i] = posts[i].ID
	}
	enum, _ := json.Marshal(ids)
	schema := json.RawMessage(fmt.Sprintf(`{"type":"object","properties":{"reasons":{"type":"array","items":{"type":"object","properties":{"id":{"type":"integer","enum":%s},"reason":{"type":"string","minLength":1,"maxLength":200}},"required":["id","reason"],"additionalProperties":false},"minItems":%d,"maxItems":%d}},"required":["reasons"],"additionalProperties":false}`, enum, len(ids), len(ids)))
	data := struct {
		Interests string `json:"interests"`
		To        string `json:"to,omitempty"`
		Posts     []line `json:"posts"`
	}{interests, Language(to), posts}
	type answer struct {
		Reasons []struct {
			ID     int    `json:"id"`
			Reason string `json:"reason"`
		} `json:"reasons"`
	}
	out := map[int]string{}
	_, proof, err := run(ctx, a, &recommendPrompt, data, schema, 64+48*len(ids), nil, func(v *answer) error {
		clear(out)
		for _, x := range v.Reasons {
			if !slices.Contains(ids, x.ID) || out[x.ID] != "" {
				return invalid("the ids of the posts were not each there once")
			}
			if s := strings.TrimSpace(x.Reason); s == "" || utf8.RuneCountInString(s) > 300 {
				return invalid("a reason was empty or too long")
			}
			out[x.ID] = strings.TrimSpace(x.Reason)
		}
		return nil
	})
	if err != nil {
		clear(out)
	}
	return out, proof, err
}

// sharedWords is the reason without a model.
func sharedWords(interests, text string) string {
	want := map[string]bool{}
	for _, w := range words(strings.ToLower(interests)) {
		if utf8.RuneCountInString(w) > 3 {
			want[w] = true
		}
	}
	var shared []string
	for _, w := range words(strings.ToLower(text)) {
		if want[w] && !slices.Contains(shared, w) {
			shared = append(shared, w)
		}
	}
	if len(shared) == 0 {
		return firstSentence(text, 100)
	}
	return strings.Join(shared[:min(len(shared), 5)], ", ")
}

func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += float64(a[i]) * float64(b[i])
		aa += float64(a[i]) * float64(a[i])
		bb += float64(b[i]) * float64(b[i])
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}

func clipRunes(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n])
	}
	return s
}
