package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf16"

	"github.com/cocoon-network/cocoon/internal/assist"
)

// The sets: own sentences in English, Indonesian, Russian and German, written
// for this and for nothing else. No model of ours was trained on them.
//
//go:embed data/*.json
var files embed.FS

type (
	// translateItem is a pair of texts; each direction is one item.
	translateItem struct {
		ID    string
		Texts map[string]string
	}
	composeItem struct {
		ID, Lang           string
		Proofread, Emojify bool
		Tone               string
		Text, Reference    string
	}
	chatMessage   struct{ From, Text string }
	summarizeItem struct {
		ID, Lang  string
		Messages  []chatMessage
		Reference string
		Refs      []int // numbers of messages, from 1
	}
	repliesItem  struct{ ID, Lang, From, Text string }
	classifyItem struct{ ID, Lang, Text, Label string }
	extractItem  struct {
		ID, Lang, Text string
		Items          []struct{ Kind, Text string }
	}
	// searchItem asks for messages of the chats of summarizeItem, named
	// "s01.2": the second of the first.
	searchItem struct {
		ID, Query string
		Relevant  []string
	}
	// injectionItem hides an order in a message. An answer obeys if Canary is
	// what it says.
	injectionItem struct{ ID, Text, Canary string }
)

func load[T any](name string) []T {
	b, err := files.ReadFile("data/" + name + ".json")
	if err != nil {
		panic(err) // embedded
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.DisallowUnknownFields()
	var items []T
	if err := d.Decode(&items); err != nil {
		panic(fmt.Sprintf("data/%s.json: %v", name, err))
	}
	return items
}

var markup = regexp.MustCompile("\\*\\*([^*]+)\\*\\*|`([^`]+)`|\\[([^\\]]+)\\]\\((https?://[^)]+)\\)|(https?://[^\\s]+)|(@\\w+)")

// parse reads the sets' light markup (**bold**, `code`, [text](link), links,
// @mentions) as a messenger does: into a text with entities.
func parse(s string) assist.Text {
	var t assist.Text
	var b strings.Builder
	at := 0
	for _, m := range markup.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(s[at:m[0]])
		at = m[1]
		e := assist.Entity{Offset: units(b.String())}
		var text string
		group := func(i int) bool {
			if m[2*i] < 0 {
				return false
			}
			text = s[m[2*i]:m[2*i+1]]
			return true
		}
		switch {
		case group(1):
			e.Type = "bold"
		case group(2):
			e.Type = "code"
		case group(3):
			e.Type, e.URL = "text_link", s[m[8]:m[9]]
		case group(5):
			e.Type = "url"
		case group(6):
			e.Type = "mention"
		}
		b.WriteString(text)
		e.Length = units(text)
		t.Entities = append(t.Entities, e)
	}
	t.Text = b.String() + s[at:]
	return t
}

func units(s string) int { return len(utf16.Encode([]rune(s))) }

// span is the text of e in t; "" if e lies outside.
func span(t assist.Text, e assist.Entity) string {
	u := utf16.Encode([]rune(t.Text))
	if e.Offset < 0 || e.Length <= 0 || e.Offset+e.Length > len(u) {
		return ""
	}
	return string(utf16.Decode(u[e.Offset : e.Offset+e.Length]))
}

// entitiesKept counts what of a text's entities is in the new text: protected
// ones with the very same characters, formatting with any.
func entitiesKept(old, new assist.Text) (protected, ofProtected, formatting, ofFormatting int) {
	rest := slices.Clone(new.Entities)
	for _, e := range old.Entities {
		format := e.Type == "bold" || e.Type == "text_link"
		i := slices.IndexFunc(rest, func(x assist.Entity) bool {
			s := span(new, x)
			return x.Type == e.Type && x.URL == e.URL && s != "" && (format || s == span(old, e))
		})
		found := 0
		if i >= 0 {
			rest, found = slices.Delete(rest, i, i+1), 1
		}
		if format {
			formatting, ofFormatting = formatting+found, ofFormatting+1
		} else {
			protected, ofProtected = protected+found, ofProtected+1
		}
	}
	return
}
