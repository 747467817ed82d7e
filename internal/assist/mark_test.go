package assist

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

var alphabet = []string{"a", "Bericht ", "привет ", "apa kabar ", "😀", "👨‍👩‍👧", " ", "\n", "⟦", "⟧", "⟦#1⟧", "⟦2⟧", "שלום ", "漢字", "e\u0301", "@anna", "https://x.example/a", ".", "7"}

var entityTypes = []string{"bold", "italic", "text_link", "spoiler", "blockquote", "mention", "url", "code", "pre", "custom_emoji", "text_mention", "hashtag", "something_new"}

// randomText makes a text with entities that nest in any way the check takes.
func randomText(r *rand.Rand) Text {
	var parts []string
	for range r.IntN(12) {
		parts = append(parts, alphabet[r.IntN(len(alphabet))])
	}
	t := Text{Text: strings.Join(parts, "")}
	n := utf16Len(t.Text)
	for range r.IntN(6) {
		if n == 0 {
			break
		}
		from := r.IntN(n)
		e := Entity{Type: entityTypes[r.IntN(len(entityTypes))], Offset: from, Length: 1 + r.IntN(n-from), URL: "https://example.org"}
		next := t
		next.Entities = append(slices.Clone(t.Entities), e)
		if next.check("text", 1000) == nil {
			t = next
		}
	}
	return t
}

// protectedSpans lists what must be equal in any result, with its entities.
func protectedSpans(t Text) (out []string) {
	units := utf16.Encode([]rune(t.Text))
	end := 0
	for _, e := range t.sorted() {
		if formatting[e.Type] || e.Offset < end {
			continue
		}
		end = e.end()
		out = append(out, e.Type+" "+string(utf16.Decode(units[e.Offset:end])))
	}
	slices.Sort(out)
	return out
}

func TestMarkAndRestore(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1_500 {
		in := randomText(r)
		m := mark(in, false)
		out, lost, err := m.restore(m.text)
		if err != nil || lost != 0 {
			t.Fatalf("%q %v: %v, %d lost", in.Text, in.Entities, err, lost)
		}
		want := Text{Text: in.Text, Entities: in.sorted()}
		if out.Text != want.Text || len(out.Entities)+len(want.Entities) > 0 && !reflect.DeepEqual(out.Entities, want.Entities) {
			t.Fatalf("%q:\n%v became %q:\n%v", want.Text, want.Entities, out.Text, out.Entities)
		}
		free, protected := m.pieces()
		if got := join(free, protected); got.Text != in.Text || !reflect.DeepEqual(protectedSpans(got), protectedSpans(in)) {
			t.Fatalf("pieces of %q join to %q", in.Text, got.Text)
		}
	}
}

// A model may do anything with a marked text: what is protected comes back
// equal, or the answer is refused.
func TestHostileModel(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	refused, kept := 0, 0
	for range 3_000 {
		in := randomText(r)
		m := mark(in, r.IntN(2) == 0)
		out, lost, err := m.restore(disturb(r, m.text))
		if err != nil {
			if !errors.Is(err, errProtected) {
				t.Fatal(err)
			}
			refused++
			continue
		}
		kept++
		if lost < 0 || lost > len(m.format) {
			t.Fatalf("%d of %d lost", lost, len(m.format))
		}
		if got, want := protectedSpans(out), protectedSpans(in); !reflect.DeepEqual(got, want) {
			t.Fatalf("protected %q became %q", want, got)
		}
		if err := (&Text{Text: out.Text, Entities: out.Entities}).check("text", 1<<20); err != nil {
			t.Fatalf("%q %v: %v", out.Text, out.Entities, err)
		}
	}
	if refused == 0 || kept == 0 {
		t.Fatalf("%d refused, %d kept: the test tests nothing", refused, kept)
	}
}

// disturb changes a text as models do, and worse.
func disturb(r *rand.Rand, s string) string {
	for range r.IntN(3) {
		switch r.IntN(6) {
		case 0:
			s = strings.ToUpper(s)
		case 1: // a marker is lost
			if f := markers.FindStringIndex(s); f != nil {
				s = s[:f[0]] + s[f[1]:]
			}
		case 2: // doubled, or moved to the end
			if f := markers.FindString(s); f != "" {
				s += " " + f
			}
		case 3:
			s = strings.ReplaceAll(s, "⟦", "⟦ ")
		case 4:
			s += fmt.Sprintf("⟦%d⟧x⟦/%d⟧⟧⟦", r.IntN(4), r.IntN(4))
		case 5:
			all := markers.FindAllString(s, -1)
			r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
			i := -1
			s = markers.ReplaceAllStringFunc(s, func(string) string { i++; return all[i] })
		}
	}
	return s
}

func TestProtectedNeverInMarked(t *testing.T) {
	in := Text{Text: "Ask @anna or mail bob@example.org, pay 4000 1234 5678 9010 😀 now", Entities: []Entity{
		{Type: "bold", Offset: 0, Length: 9},
		{Type: "mention", Offset: 4, Length: 5},
		{Type: "custom_emoji", Offset: 59, Length: 2, CustomEmojiID: "5"},
	}}
	if err := in.check("text", 100); err != nil {
		t.Fatal(err)
	}
	m := mark(in, true)
	for _, secret := range []string{"@anna", "bob@example.org", "4000", "😀"} {
		if strings.Contains(m.text, secret) {
			t.Errorf("%q is in %q", secret, m.text)
		}
	}
	if want := "⟦1⟧Ask ⟦#2⟧⟦/1⟧ or mail ⟦#3⟧, pay ⟦#4⟧ ⟦#5⟧ now"; m.text != want {
		t.Errorf("marked %q, want %q", m.text, want)
	}
	out, lost, err := m.restore("Frag ⟦#2⟧ oder schreib ⟦#3⟧, zahle ⟦#4⟧ jetzt ⟦#5⟧ ⟦1⟧bitte⟦/1⟧")
	if err != nil || lost != 0 {
		t.Fatal(lost, err)
	}
	if want := "Frag @anna oder schreib bob@example.org, zahle 4000 1234 5678 9010 jetzt 😀 bitte"; out.Text != want {
		t.Errorf("restored %q", out.Text)
	}
	if len(out.Entities) != 3 {
		t.Errorf("entities %v: masked ones are none of the result", out.Entities)
	}
}

func TestCheckEntities(t *testing.T) {
	for name, c := range map[string]struct {
		text     string
		entities []Entity
		ok       bool
	}{
		"none":                  {"", nil, true},
		"whole":                 {"ab", []Entity{{Type: "bold", Offset: 0, Length: 2}}, true},
		"negative":              {"ab", []Entity{{Type: "bold", Offset: -1, Length: 2}}, false},
		"empty":                 {"ab", []Entity{{Type: "bold", Offset: 0, Length: 0}}, false},
		"beyond":                {"ab", []Entity{{Type: "bold", Offset: 1, Length: 2}}, false},
		"overflow":              {"ab", []Entity{{Type: "bold", Offset: 1, Length: int(^uint(0) >> 1)}}, false},
		"without a type":        {"ab", []Entity{{Offset: 0, Length: 1}}, false},
		"inside an emoji":       {"😀", []Entity{{Type: "bold", Offset: 1, Length: 1}}, false},
		"ends inside an emoji":  {"😀", []Entity{{Type: "bold", Offset: 0, Length: 1}}, false},
		"nested":                {"abcd", []Entity{{Type: "bold", Offset: 0, Length: 4}, {Type: "url", Offset: 1, Length: 2}}, true},
		"crossing":              {"abcd", []Entity{{Type: "bold", Offset: 0, Length: 3}, {Type: "url", Offset: 1, Length: 3}}, false},
		"one after another":     {"abcd", []Entity{{Type: "bold", Offset: 2, Length: 2}, {Type: "url", Offset: 0, Length: 2}}, true},
		"thousands of entities": {"abcd", slices.Repeat([]Entity{{Type: "bold", Offset: 0, Length: 1}}, maxEntities+1), false},
		"no UTF-8":              {"a\xff", nil, false},
	} {
		text := Text{Text: c.text, Entities: c.entities}
		if err := text.check("text", 100); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add("Ask @anna ⟦ now", "⟦1⟧⟦#2⟧⟦#3⟧⟦/1⟧")
	f.Fuzz(func(t *testing.T, text, answer string) {
		if !utf8.ValidString(text) || !utf8.ValidString(answer) {
			return
		}
		in := Text{Text: text}
		if n := utf16Len(text); n > 2 {
			in.Entities = []Entity{{Type: "bold", Offset: 0, Length: n}, {Type: "url", Offset: 1, Length: n / 2}}
			if in.check("text", 1<<20) != nil {
				in.Entities = in.Entities[:1]
			}
		}
		m := mark(in, true)
		out, _, err := m.restore(answer)
		if err != nil {
			return
		}
		if err := (&Text{Text: out.Text, Entities: out.Entities}).check("text", 1<<24); err != nil {
			t.Fatalf("%q %v: %v", out.Text, out.Entities, err)
		}
		if !reflect.DeepEqual(protectedSpans(out), protectedSpans(in)) {
			t.Fatalf("%q became %q", protectedSpans(in), protectedSpans(out))
		}
	})
}

// A text that is nothing but brackets of the markers' kind comes back as it is,
// and does not cost a call for each.
func TestTextOfBrackets(t *testing.T) {
	text := strings.Repeat("a⟦", MaxDraftUnits/2)
	m := mark(Text{Text: text}, false)
	if got, lost, err := m.restore(m.text); err != nil || lost != 0 || got.Text != text {
		t.Errorf("%d characters come back, %v", len(got.Text), err)
	}
	model := &scripted{answer: func(int, *Call) string { return "nothing usable" }}
	r, err := New(model, false).Translate(t.Context(), &TranslateRequest{Texts: []Text{{Text: text}}, To: "ru"})
	if err != nil || r.Texts[0].Text.Text != text || !r.Texts[0].Untranslated || len(model.calls) > 2 {
		t.Errorf("%d calls, %v", len(model.calls), err)
	}
}

// What a mask hid comes back as it was, whole or in pieces, and hiding twice
// hides nothing that the first time did not.
func FuzzMask(f *testing.F) {
	for _, s := range []string{"a@b.cd [EMAIL-1] +49 170 1234567", "[PHONE-1 234567890]", "Annas Ann, ANN 2026-11-21", "https://x.y/[NAME-1]", "\xff@\u202e٠٥٠ ١٢٣ ٤٥٦٧"} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, s string, n int) {
		m := NewMask("Ann", "Али")
		hidden := m.Hide(s)
		if back := m.Show(hidden); !strings.EqualFold(back, s) {
			t.Fatalf("%q was hidden as %q and came back as %q", s, hidden, back)
		}
		if n = n & 7; n == 0 {
			n = 1
		}
		var out strings.Builder
		tell := m.showing(func(s string) { out.WriteString(s) })
		for rest := hidden; rest != ""; rest = rest[min(n, len(rest)):] {
			tell(rest[:min(n, len(rest))])
		}
		if whole := m.Show(hidden); !strings.HasPrefix(whole, out.String()) || len(whole)-len(out.String()) > 20 {
			t.Fatalf("in pieces of %d: %q, not %q", n, out.String(), whole)
		}
	})
}
