package assist

import (
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Text is a message's text with its entities, in the form of Telegram's Bot API.
type Text struct {
	Text     string   `json:"text"`
	Entities []Entity `json:"entities,omitempty"`
}

// Entity says what a part of a text is. Offset and Length count UTF-16 code
// units.
type Entity struct {
	Type          string          `json:"type"`
	Offset        int             `json:"offset"`
	Length        int             `json:"length"`
	URL           string          `json:"url,omitempty"`
	User          json.RawMessage `json:"user,omitempty"`
	Language      string          `json:"language,omitempty"`
	CustomEmojiID string          `json:"custom_emoji_id,omitempty"`
	UnixTime      int64           `json:"unix_time,omitempty"`
	TimeFormat    string          `json:"date_time_format,omitempty"`
}

func (e Entity) end() int { return e.Offset + e.Length }

// formatting are the entities whose text a model may change. All others, known
// or not, are protected: their text never reaches a model.
var formatting = map[string]bool{
	"bold": true, "italic": true, "underline": true, "strikethrough": true, "spoiler": true,
	"blockquote": true, "expandable_blockquote": true, "text_link": true,
}

const maxEntities = 1000

// check refuses texts and entities that no messenger can have made. param names
// the text in errors.
func (t *Text) check(param string, limit int) *openai.Error {
	if !utf8.ValidString(t.Text) {
		return openai.InvalidRequest(param, "'%s' is not UTF-8.", param)
	}
	if n := utf16Len(t.Text); n > limit {
		return openai.InvalidRequest(param, "'%s' has %d UTF-16 units; at most %d are taken.", param, n, limit)
	}
	if len(t.Entities) > maxEntities {
		return openai.InvalidRequest(param, "'%s' has %d entities; at most %d are taken.", param, len(t.Entities), maxEntities)
	}
	if len(t.Entities) == 0 {
		return nil
	}
	units := utf16.Encode([]rune(t.Text))
	for i, e := range t.Entities {
		at := param + ".entities[" + strconv.Itoa(i) + "]"
		if e.Type == "" {
			return openai.Missing(at + ".type")
		}
		if e.Offset < 0 || e.Length <= 0 || e.Offset > len(units) || e.Length > len(units)-e.Offset {
			return openai.InvalidRequest(at, "'%s' does not lie inside its text of %d UTF-16 units.", at, len(units))
		}
		if splits(units, e.Offset) || splits(units, e.end()) {
			return openai.InvalidRequest(at, "'%s' begins or ends inside a character: offsets count UTF-16 units, two for an emoji.", at)
		}
	}
	sorted := t.sorted()
	var open []Entity
	for _, e := range sorted {
		for len(open) > 0 && open[len(open)-1].end() <= e.Offset {
			open = open[:len(open)-1]
		}
		if len(open) > 0 && e.end() > open[len(open)-1].end() {
			return openai.InvalidRequest(param+".entities", "Entities of '%s' overlap without one being inside the other.", param)
		}
		open = append(open, e)
	}
	return nil
}

// sorted returns the entities outermost first: by offset, longer first, then
// formatting around what is protected.
func (t *Text) sorted() []Entity {
	s := slices.Clone(t.Entities)
	slices.SortStableFunc(s, func(a, b Entity) int {
		if c := cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(b.Length, a.Length)); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Type, b.Type))
	})
	return s
}

func rank(e Entity) int {
	if formatting[e.Type] {
		return 0
	}
	return 1
}

// splits reports whether position i lies between the halves of a character.
func splits(units []uint16, i int) bool {
	return i > 0 && i < len(units) && utf16.IsSurrogate(rune(units[i-1])) && units[i-1] < 0xDC00 && units[i] >= 0xDC00 && units[i] <= 0xDFFF
}

func utf16Len(s string) (n int) {
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}
