package index

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// unspaced are the scripts written without spaces between words: pairs of their
// letters stand for words.
var unspaced = []*unicode.RangeTable{unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar}

// terms are the words of s, in small letters.
func terms(s string) (out []string) {
	var word []rune
	var wide bool // word is of an unspaced script
	flush := func() {
		switch {
		case len(word) == 0:
		case wide && len(word) > 1:
			for i := range len(word) - 1 {
				out = append(out, string(word[i:i+2]))
			}
		default:
			out = append(out, string(word))
		}
		word = word[:0]
	}
	for _, r := range s {
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r) {
			flush()
			continue
		}
		if w := unicode.In(r, unspaced...); w != wide {
			flush()
			wide = w
		}
		if r = unicode.ToLower(r); r == 'ё' {
			r = 'е' // Russian writes either
		}
		word = append(word, r)
	}
	flush()
	return out
}

const snippetChars = 160

// snippet is a part of text around the first word of the query in it.
func snippet(text, query string) string {
	text = strings.Join(strings.Fields(text), " ")
	if utf8.RuneCountInString(text) <= snippetChars {
		return text
	}
	runes := []rune(text)
	low := []rune(strings.Map(unicode.ToLower, text))
	at := 0
	if len(low) == len(runes) {
		s := string(low)
		for _, w := range terms(query) {
			if i := strings.Index(s, w); i >= 0 {
				at = utf8.RuneCountInString(s[:i])
				break
			}
		}
	}
	from := max(0, min(at-snippetChars/3, len(runes)-snippetChars))
	out := string(runes[from : from+snippetChars])
	if from > 0 {
		out = "…" + out
	}
	if from+snippetChars < len(runes) {
		out += "…"
	}
	return out
}
