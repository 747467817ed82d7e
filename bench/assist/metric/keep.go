package metric

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var (
	urls      = regexp.MustCompile(`https?://[^\s<>"]+`)
	numbers   = regexp.MustCompile(`\d+(?:[.,:]\d+)*`)
	sentences = regexp.MustCompile(`[.!?…:]["»“)]*\s+|\n+`)
)

// URLs are the links of s.
func URLs(s string) []string {
	found := urls.FindAllString(s, -1)
	for i := range found {
		found[i] = strings.TrimRight(found[i], ".,;:!?)")
	}
	return found
}

// Numbers are the numbers of s outside links, as digits only: 10:30 and 10.30,
// 1,000 and 1.000 are the same in different languages.
func Numbers(s string) []string {
	found := numbers.FindAllString(urls.ReplaceAllString(s, " "), -1)
	for i := range found {
		found[i] = strings.NewReplacer(".", "", ",", "", ":", "").Replace(found[i])
	}
	return found
}

// Emoji are the pictures of s; signs that only change or join them are left out.
func Emoji(s string) (out []string) {
	for _, r := range s {
		switch {
		case r >= 0x1F3FB && r <= 0x1F3FF: // skin tones
		case r >= 0x1F000 && r <= 0x1FAFF, r >= 0x2600 && r <= 0x27BF, r >= 0x2B00 && r <= 0x2BFF && unicode.IsSymbol(r):
			out = append(out, string(r))
		}
	}
	return out
}

// Names are the words of s that begin with a capital and stand inside a
// sentence. In German those are all nouns: the same rule applied to a text and
// its source stays comparable, the count is only higher.
func Names(s string) (out []string) {
	for _, sentence := range sentences.Split(s, -1) {
		for i, w := range strings.FieldsFunc(sentence, func(r rune) bool { return !unicode.IsLetter(r) && r != '-' && r != '\'' }) {
			w = strings.Trim(w, "-'")
			if r := []rune(w); i > 0 && len(r) > 1 && unicode.IsUpper(r[0]) {
				out = append(out, w)
			}
		}
	}
	return out
}

// Kept is how many of want are in have, each as often as it is there; n is how
// many were wanted.
func Kept(want, have []string) (kept, n int) {
	rest := slices.Clone(have)
	for _, w := range want {
		if i := slices.Index(rest, w); i >= 0 {
			rest = slices.Delete(rest, i, i+1)
			kept++
		}
	}
	return kept, len(want)
}

// Supported is how many numbers and names of a summary its source has; n is
// how many it says. A name that the source has in another case form (Anna,
// Anne; Анна, Анной) counts if all but its last two letters are there.
func Supported(summary, source string) (supported, n int) {
	said := Numbers(source)
	for _, x := range Numbers(summary) {
		n++
		if slices.Contains(said, x) {
			supported++
		}
	}
	words := Words(source)
	for _, name := range Names(summary) {
		n++
		stem := []rune(strings.ToLower(name))
		if len(stem) > 4 {
			stem = stem[:len(stem)-2]
		}
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, string(stem)) }) ||
			strings.Contains(strings.ToLower(source), strings.ToLower(name)) {
			supported++
		}
	}
	return supported, n
}
