package metric

import (
	"math"
	"slices"
	"testing"
)

// All values are computed by hand.
func TestScores(t *testing.T) {
	cat := Pair{"the cat sat on the mat", "the cat is on the mat"}
	bed := Pair{"the cat was found under the bed", "the cat was under the bed"}
	ranked, relevant := []string{"x", "a", "y", "b"}, []string{"a", "b"}
	for name, c := range map[string]struct{ got, want float64 }{
		// 1-grams 5/6, 2-grams 3/5, 3-grams 1/4, 4-grams none of 3: 1/(2·3).
		"BLEU":               {BLEU([]Pair{cat}), 100 * math.Pow(5./6*3/5*1/4*1/6, .25)},
		"BLEU of the same":   {BLEU([]Pair{{"Meet at 10.30, ok?", "Meet at 10.30, ok?"}}), 100},
		"BLEU of too short":  {BLEU([]Pair{{"a b c d", "a b c d e"}}), 100 * math.Exp(1-5./4)},
		"BLEU of nothing":    {BLEU([]Pair{{"", "a b"}}), 0},
		"BLEU without match": {BLEU([]Pair{{"x y", "a b"}}), 0},
		// characters 1/2, 0/1; words 0/1: three orders.
		"chrF++": {ChrF([]Pair{{"ab", "ac"}}), 100. / 6},
		// precision (2/3+1/2+0)/3 = 7/18, recall (1+1+0)/3 = 2/3.
		"chrF++ of a longer": {ChrF([]Pair{{"abc", "ab"}}), 100 * 5 * (7. / 18) * (2. / 3) / (4*(7./18) + 2./3)},
		"chrF++ of the same": {ChrF([]Pair{{"Привет, мир!", "Привет, мир!"}}), 100},
		"chrF++ of nothing":  {ChrF([]Pair{{"", "a"}}), 0},
		// characters 2/3, words 2/3: counted over all texts, not averaged by text.
		"chrF++ of a corpus":  {ChrF([]Pair{{"a", "a"}, {"b", "b"}, {"c", "d"}}), 100. * 2 / 3},
		"length":              {LengthRatio([]Pair{{"abc", "абвгде"}}), .5},
		"ROUGE-1":             {ROUGE(1, bed), 12. / 13},
		"ROUGE-2":             {ROUGE(2, bed), 8. / 11},
		"ROUGE-L":             {ROUGEL(bed), 12. / 13},
		"ROUGE-L of an order": {ROUGEL(Pair{"b a", "a b"}), .5},
		"ROUGE of nothing":    {ROUGE(1, Pair{"", ""}), 0},
		"distinct-1":          {Distinct(1, []string{"a b a", "A b"}), 2. / 5},
		"distinct-2":          {Distinct(2, []string{"a b a", "a b"}), 2. / 3},
		"distance":            {float64(Distance("kitten", "sitting")), 3},
		"distance to nothing": {float64(Distance("да", "")), 2},
		"macro F1":            {MacroF1([]string{"a", "a", "b", "c"}, []string{"a", "b", "b", ""}), (2./3 + 2./3 + 0) / 3},
		"recall":              {Recall(3, ranked, relevant), .5},
		"reciprocal rank":     {ReciprocalRank(ranked, relevant), .5},
		"no rank":             {ReciprocalRank(ranked, []string{"z"}), 0},
		"nDCG":                {NDCG(10, ranked, relevant), (1/math.Log2(3) + 1/math.Log2(5)) / (1 + 1/math.Log2(3))},
		"nDCG of the best":    {NDCG(10, []string{"b", "a"}, relevant), 1},
		"median":              {Quantile(.5, []float64{3, 1, 2}), 2},
		"p99":                 {Quantile(.99, []float64{3, 1, 2}), 3},
		"mean":                {Mean([]float64{1, 2, 6}), 3},
	} {
		if math.Abs(c.got-c.want) > 1e-9 {
			t.Errorf("%s is %v, want %v", name, c.got, c.want)
		}
	}
}

func TestTokens(t *testing.T) {
	got := Tokens(`Don't pay 1,000.50 (now), ok-ay? 5-6 "да"`)
	want := []string{"Don't", "pay", "1,000.50", "(", "now", ")", ",", "ok-ay", "?", "5", "-", "6", `"`, "да", `"`}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestWhatMustSurvive(t *testing.T) {
	s := "Anna, see https://x.example/a?b=7. We meet Ben at 10:30 👍🏽🎉, bring 1,000 and 2 ☕ to Berlin-Mitte! Then home."
	for name, c := range map[string]struct{ got, want []string }{
		"links":   {URLs(s), []string{"https://x.example/a?b=7"}},
		"numbers": {Numbers(s), []string{"1030", "1000", "2"}},
		"emoji":   {Emoji(s), []string{"👍", "🎉", "☕"}},
		"names":   {Names("Anna says: We meet Ben in Berlin-Mitte. Then home."), []string{"Ben", "Berlin-Mitte"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %q", name, c.got)
		}
	}
	if kept, n := Kept([]string{"a", "a", "b"}, []string{"b", "a"}); kept != 2 || n != 3 {
		t.Errorf("kept %d of %d", kept, n)
	}
	// 10:30 and Anna are there, 11 and Paul are not.
	if ok, n := Supported("Завтра Анной и Paul: в 10.30, не в 11", "Анна: встреча в 10:30"); ok != 2 || n != 4 {
		t.Errorf("supported %d of %d", ok, n)
	}
}
