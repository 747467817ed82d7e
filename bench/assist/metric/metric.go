// Package metric scores texts against references: deterministic, offline, in
// plain Go. Scores of learned metrics (COMET, BERTScore) need other programs;
// the command above exports what they read.
//
// Owns: chrF++, BLEU, ROUGE, what of a text must survive, rankings, labels.
// Imports: the standard library.
// Trust: texts are data; work grows with the product of two texts' lengths for
// edit distance and ROUGE-L only.
// Concurrency: pure functions.
package metric

import (
	"math"
	"slices"
	"strings"
	"unicode"
)

// Pair is an output beside what a person wrote.
type Pair struct{ Hypothesis, Reference string }

// ngrams counts the n-grams of units.
func ngrams(units []string, n int) map[string]int {
	out := map[string]int{}
	for i := 0; i+n <= len(units); i++ {
		out[strings.Join(units[i:i+n], "\x00")]++
	}
	return out
}

// overlap is how many n-grams a and b share, and how many each has.
func overlap(a, b map[string]int) (both, inA, inB float64) {
	for k, n := range a {
		inA += float64(n)
		both += float64(min(n, b[k]))
	}
	for _, n := range b {
		inB += float64(n)
	}
	return both, inA, inB
}

// ChrF returns chrF++ of a corpus, 0 to 100: character n-grams to 6 and word
// n-grams to 2, recall counting twice (beta 2), averaged over the orders that
// both sides have (Popović 2017; the counting of sacreBLEU).
func ChrF(pairs []Pair) float64 {
	const chars, words, beta2 = 6, 2, 4.0
	var stats [chars + words][3]float64
	for _, p := range pairs {
		hc, rc := characters(p.Hypothesis), characters(p.Reference)
		hw, rw := chrfWords(p.Hypothesis), chrfWords(p.Reference)
		for o := range stats {
			h, r, n := hc, rc, o+1
			if o >= chars {
				h, r, n = hw, rw, o-chars+1
			}
			both, inH, inR := overlap(ngrams(h, n), ngrams(r, n))
			stats[o][0] += both
			stats[o][1] += inH
			stats[o][2] += inR
		}
	}
	var precision, recall, orders float64
	for _, s := range stats {
		if s[1] > 0 && s[2] > 0 {
			precision += s[0] / s[1]
			recall += s[0] / s[2]
			orders++
		}
	}
	if orders == 0 || precision+recall == 0 {
		return 0
	}
	precision, recall = precision/orders, recall/orders
	return 100 * (1 + beta2) * precision * recall / (beta2*precision + recall)
}

// characters are the runes of s without white space.
func characters(s string) (out []string) {
	for _, r := range s {
		if !unicode.IsSpace(r) {
			out = append(out, string(r))
		}
	}
	return out
}

// chrfWords cuts at white space and takes one leading or trailing mark off.
func chrfWords(s string) (out []string) {
	for w := range strings.FieldsSeq(s) {
		r := []rune(w)
		switch {
		case len(r) == 1:
			out = append(out, w)
		case unicode.IsPunct(r[len(r)-1]):
			out = append(out, string(r[:len(r)-1]), string(r[len(r)-1:]))
		case unicode.IsPunct(r[0]):
			out = append(out, string(r[:1]), string(r[1:]))
		default:
			out = append(out, w)
		}
	}
	return out
}

// Tokens cuts s as mteval's 13a does, near enough: marks stand alone, except
// full stops and commas between digits.
func Tokens(s string) []string {
	var b strings.Builder
	r := []rune(s)
	digit := func(i int) bool { return i >= 0 && i < len(r) && unicode.IsDigit(r[i]) }
	for i, c := range r {
		switch {
		case (c == '.' || c == ',') && digit(i-1) && digit(i+1):
			b.WriteRune(c)
		case c == '-' && !digit(i-1), c == '\'': // part of a word
			b.WriteRune(c)
		case unicode.IsPunct(c) || unicode.IsSymbol(c):
			b.WriteString(" " + string(c) + " ")
		default:
			b.WriteRune(c)
		}
	}
	return strings.Fields(b.String())
}

// BLEU returns BLEU-4 of a corpus, 0 to 100, with the brevity penalty; orders
// without a match are smoothed by halving (Lin and Och 2004, "exp").
func BLEU(pairs []Pair) float64 {
	var both, all [4]float64
	var hyp, ref float64
	for _, p := range pairs {
		h, r := Tokens(p.Hypothesis), Tokens(p.Reference)
		hyp, ref = hyp+float64(len(h)), ref+float64(len(r))
		for n := range both {
			b, a, _ := overlap(ngrams(h, n+1), ngrams(r, n+1))
			both[n], all[n] = both[n]+b, all[n]+a
		}
	}
	sum, smooth, orders := 0.0, 1.0, 0.0
	for n := range both {
		if all[n] == 0 {
			break // all texts are shorter
		}
		orders++
		p := both[n] / all[n]
		if both[n] == 0 {
			smooth *= 2
			p = 1 / (smooth * all[n])
		}
		sum += math.Log(p)
	}
	if orders == 0 || both[0] == 0 {
		return 0
	}
	penalty := 1.0
	if hyp < ref {
		penalty = math.Exp(1 - ref/hyp)
	}
	return 100 * penalty * math.Exp(sum/orders)
}

// LengthRatio is the characters of all outputs over those of the references.
func LengthRatio(pairs []Pair) float64 {
	var h, r float64
	for _, p := range pairs {
		h += float64(len([]rune(p.Hypothesis)))
		r += float64(len([]rune(p.Reference)))
	}
	return ratio(h, r)
}

// Words are the words of s in lower case, without marks.
func Words(s string) []string {
	return strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) })
}

// ROUGE returns the F1 of word n-grams, 0 to 1 (Lin 2004); no stemming.
func ROUGE(n int, p Pair) float64 {
	both, h, r := overlap(ngrams(Words(p.Hypothesis), n), ngrams(Words(p.Reference), n))
	return f1(ratio(both, h), ratio(both, r))
}

// ROUGEL returns the F1 of the longest common subsequence of words.
func ROUGEL(p Pair) float64 {
	h, r := Words(p.Hypothesis), Words(p.Reference)
	row := make([]int, len(r)+1)
	for _, x := range h {
		diagonal := 0
		for j, y := range r {
			up := row[j+1]
			if x == y {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(up, row[j])
			}
			diagonal = up
		}
	}
	common := float64(row[len(r)])
	return f1(ratio(common, float64(len(h))), ratio(common, float64(len(r))))
}

// Distinct is how many of the n-grams of all texts differ, 0 to 1 (Li 2016).
func Distinct(n int, texts []string) float64 {
	seen, all := map[string]bool{}, 0.0
	for _, t := range texts {
		for k, c := range ngrams(Words(t), n) {
			seen[k] = true
			all += float64(c)
		}
	}
	return ratio(float64(len(seen)), all)
}

// Distance is the Levenshtein distance in characters.
func Distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	row := make([]int, len(y)+1)
	for j := range row {
		row[j] = j
	}
	for i, c := range x {
		diagonal := row[0]
		row[0] = i + 1
		for j, d := range y {
			change := diagonal
			if c != d {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(y)]
}

// MacroF1 is the mean F1 over the labels of gold; other answers ("" for none)
// only cost their own precision.
func MacroF1(gold, answer []string) float64 {
	labels := slices.Compact(slices.Sorted(slices.Values(gold)))
	sum := 0.0
	for _, l := range labels {
		var hit, said, is float64
		for i := range gold {
			if answer[i] == l {
				said++
			}
			if gold[i] == l {
				is++
				if answer[i] == l {
					hit++
				}
			}
		}
		sum += f1(ratio(hit, said), ratio(hit, is))
	}
	return ratio(sum, float64(len(labels)))
}

// Recall is how many of the relevant are among the first k.
func Recall(k int, ranked []string, relevant []string) float64 {
	hit := 0.0
	for _, id := range ranked[:min(k, len(ranked))] {
		if slices.Contains(relevant, id) {
			hit++
		}
	}
	return ratio(hit, float64(len(relevant)))
}

// ReciprocalRank is one over the place of the first relevant one, 0 if none is
// there. Its mean over queries is MRR.
func ReciprocalRank(ranked []string, relevant []string) float64 {
	for i, id := range ranked {
		if slices.Contains(relevant, id) {
			return 1 / float64(i+1)
		}
	}
	return 0
}

// NDCG is the discounted gain of the first k, each relevant one gaining one,
// over the best there can be.
func NDCG(k int, ranked []string, relevant []string) float64 {
	gain, best := 0.0, 0.0
	for i, id := range ranked[:min(k, len(ranked))] {
		if slices.Contains(relevant, id) {
			gain += 1 / math.Log2(float64(i+2))
		}
	}
	for i := range min(k, len(relevant)) {
		best += 1 / math.Log2(float64(i+2))
	}
	return ratio(gain, best)
}

// Quantile returns the value below which the share q of values lies, by the
// nearest rank; 0 of none.
func Quantile(q float64, values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return s[min(max(int(math.Ceil(q*float64(len(s))))-1, 0), len(s)-1)]
}

// Mean returns the mean, 0 of none.
func Mean(values []float64) float64 {
	sum := 0.0
	for _, v := range values {
		sum += v
	}
	return ratio(sum, float64(len(values)))
}

func f1(p, r float64) float64 { return ratio(2*p*r, p+r) }

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
