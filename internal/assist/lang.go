package assist

import (
	"maps"
	"strings"
	"unicode"
)

// languages are the names of languages by code, for prompts and for people.
var languages = map[string]string{
	"ar": "Arabic", "bg": "Bulgarian", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
	"es": "Spanish", "fa": "Persian", "fi": "Finnish", "fr": "French", "he": "Hebrew", "hi": "Hindi", "hu": "Hungarian",
	"id": "Indonesian", "it": "Italian", "ja": "Japanese", "kk": "Kazakh", "ko": "Korean", "ms": "Malay", "nl": "Dutch",
	"no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sr": "Serbian", "sv": "Swedish",
	"th": "Thai", "tr": "Turkish", "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese", "zh": "Chinese",
}

// Language returns the English name of a language code; regions and scripts
// ("pt-BR") are looked past. "" = unknown.
func Language(code string) string {
	base, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(code)), "-")
	return languages[base]
}

// Languages returns the names of all languages by code.
func Languages() map[string]string { return maps.Clone(languages) }

func baseCode(code string) string {
	base, _, _ := strings.Cut(strings.ToLower(strings.TrimSpace(code)), "-")
	return base
}

// scripts of languages that one script tells from most others.
var scripts = []struct {
	table *unicode.RangeTable
	codes []string
}{
	{unicode.Cyrillic, []string{"ru", "uk", "bg", "sr", "kk"}},
	{unicode.Arabic, []string{"ar", "fa", "ur"}},
	{unicode.Hebrew, []string{"he"}},
	{unicode.Greek, []string{"el"}},
	{unicode.Devanagari, []string{"hi"}},
	{unicode.Thai, []string{"th"}},
	{unicode.Hangul, []string{"ko"}},
	{unicode.Hiragana, []string{"ja"}},
	{unicode.Katakana, []string{"ja"}},
	{unicode.Han, []string{"zh", "ja"}},
}

// frequent are short words that give a language away.
var frequent = map[string]string{
	"en": "the and is are you to of in it that for with this have not we was on will do can i be my your what please",
	"id": "yang dan di ke dari ini itu tidak saya aku kamu akan sudah bisa untuk dengan ada apa ya kita mau lagi belum jangan nggak gak",
	"de": "der die das und ist nicht ich du wir sie ein eine zu mit den auf für im es bin hast kann bitte auch noch",
	"es": "el la los que de en y es no un una por con para se lo está muy pero como qué",
	"fr": "le la les et est pas je tu vous nous un une des de du pour avec que qui dans ce très",
	"pt": "o a os que de em e não um uma por com para se está muito mas como você",
	"it": "il lo la gli che di e non un una per con sono è ma come questo molto",
	"tr": "bir ve bu da de için çok ne var yok ben sen değil mi",
	"nl": "de het een en is niet ik je we van op met voor dat zijn maar ook",
	"pl": "i w nie na to jest się że do z co jak czy ale",
	"ru": "и в не на я что он с как это по но мы ты у вы за так же бы да нет мне уже",
	"uk": "і в не на я що він з як це та але ми ти у ви так є ні мені вже",
}

var frequentIn = func() map[string][]string {
	in := map[string][]string{}
	for code, words := range frequent {
		for w := range strings.FieldsSeq(words) {
			in[w] = append(in[w], code)
		}
	}
	return in
}()

// Detect guesses the language of s: "" if it cannot say.
func Detect(s string) string {
	letters := 0
	byScript := make([]int, len(scripts))
	for _, r := range s {
		if !unicode.IsLetter(r) {
			continue
		}
		letters++
		for i := range scripts {
			if unicode.Is(scripts[i].table, r) {
				byScript[i]++
				break
			}
		}
	}
	if letters < 2 {
		return ""
	}
	for i, n := range byScript {
		if n*2 < letters && !(scripts[i].codes[0] == "ja" && n*5 >= letters) {
			continue
		}
		if scripts[i].table == unicode.Han && (byScript[7]+byScript[8])*10 >= letters {
			return "ja" // kana among the characters
		}
		if scripts[i].table == unicode.Cyrillic {
			switch {
			case strings.ContainsAny(s, "іїєґІЇЄҐ"):
				return "uk"
			case strings.ContainsAny(s, "қғұәңһҚҒҰӘҢҺ"):
				return "kk"
			}
			return "ru"
		}
		if scripts[i].table == unicode.Arabic && strings.ContainsAny(s, "پچژگ") {
			return "fa"
		}
		return scripts[i].codes[0]
	}
	votes := map[string]int{}
	best, second := "", ""
	for w := range strings.FieldsFuncSeq(strings.ToLower(s), func(r rune) bool { return !unicode.IsLetter(r) }) {
		for _, code := range frequentIn[w] {
			votes[code]++
		}
	}
	for code, n := range votes {
		switch {
		case best == "" || n > votes[best] || n == votes[best] && code < best:
			best, second = code, best
		case second == "" || n > votes[second]:
			second = code
		}
	}
	if best == "" || second != "" && votes[best] == votes[second] {
		return ""
	}
	return best
}

// otherScript reports that s is mostly in a script that language code does not
// use, which no translation into it can be.
func otherScript(s, code string) bool {
	var own, latin, letters int
	code = baseCode(code)
	usesOwn := false
	for _, r := range s {
		if !unicode.IsLetter(r) {
			continue
		}
		letters++
		if unicode.Is(unicode.Latin, r) {
			latin++
		}
	}
	for _, sc := range scripts {
		for _, c := range sc.codes {
			if c != code {
				continue
			}
			usesOwn = true
			for _, r := range s {
				if unicode.Is(sc.table, r) {
					own++
				}
			}
		}
	}
	if letters < 4 {
		return false
	}
	if usesOwn {
		return own*4 < letters
	}
	return latin*4 < letters && code != "uz" && code != "sr"
}
