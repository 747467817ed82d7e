package assist

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// ID names a message as its caller does: a JSON number or string, given back
// as it came.
type ID string

// UnmarshalJSON takes a string or an integer.
func (id *ID) UnmarshalJSON(b []byte) error {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || len(b) > 130 || b[0] != '"' && b[0] != '-' && (b[0] < '0' || b[0] > '9') {
		return openai.InvalidType("id", "a number or a short string")
	}
	*id = ID(b)
	return nil
}

// MarshalJSON gives back what was read.
func (id ID) MarshalJSON() ([]byte, error) {
	if id == "" {
		return []byte("null"), nil
	}
	return []byte(id), nil
}

// NumberID is the ID of a numbered message.
func NumberID(n int64) ID { return ID(strconv.FormatInt(n, 10)) }

// String is the id without quotes.
func (id ID) String() string {
	var s string
	if json.Unmarshal([]byte(id), &s) == nil {
		return s
	}
	return string(id)
}

// Message is one message of a chat.
type Message struct {
	ID   ID     `json:"id"`
	From string `json:"from,omitempty"`
	// Time is in Unix seconds; 0 = unknown.
	Time    int64  `json:"ts,omitempty"`
	Text    string `json:"text"`
	ReplyTo ID     `json:"reply_to,omitempty"`
}

// checkMessages refuses lists that a task does not take.
func checkMessages(param string, ms []Message, most int) error {
	return CheckMessages(param, ms, most, MaxTotal)
}

// CheckMessages refuses lists of more than most messages or so many bytes of
// text, and messages that nobody can have sent. param names the list in errors.
func CheckMessages(param string, ms []Message, most, bytes int) error {
	if len(ms) == 0 {
		return openai.Missing(param)
	}
	if len(ms) > most {
		return openai.InvalidRequest(param, "'%s' has %d messages; at most %d are taken: send the newest, or those not yet read.", param, len(ms), most)
	}
	seen := make(map[ID]bool, len(ms))
	total := 0
	for i := range ms {
		at := param + "[" + strconv.Itoa(i) + "]"
		m := &ms[i]
		switch {
		case m.ID == "":
			return openai.Missing(at + ".id")
		case seen[m.ID]:
			return openai.InvalidRequest(at+".id", "'%s.id' was there before.", at)
		case !utf8.ValidString(m.Text) || !utf8.ValidString(m.From):
			return openai.InvalidRequest(at, "'%s' is not UTF-8.", at)
		case utf16Len(m.Text) > MaxMessageUnits:
			return openai.InvalidRequest(at+".text", "'%s.text' has more than %d UTF-16 units.", at, MaxMessageUnits)
		case utf16Len(m.From) > maxNameUnits:
			return openai.InvalidRequest(at+".from", "'%s.from' has more than %d UTF-16 units.", at, maxNameUnits)
		}
		seen[m.ID] = true
		total += len(m.Text)
	}
	if total > bytes {
		return openai.InvalidRequest(param, "'%s' has %d bytes of text; at most %d are taken.", param, total, bytes)
	}
	return nil
}

// line is a message as a model sees it: numbered from 1, so that ids and
// times, which no task needs, stay here.
type line struct {
	ID      int    `json:"id"`
	From    string `json:"from,omitempty"`
	Text    string `json:"text"`
	ReplyTo int    `json:"reply_to,omitempty"`
}

// lines numbers messages. Those without words, stickers and the like, are left
// out, but keep their number.
func lines(ms []Message) []line {
	number := make(map[ID]int, len(ms))
	out := make([]line, 0, len(ms))
	for i, m := range ms {
		number[m.ID] = i + 1
		if m.Text == "" {
			continue
		}
		out = append(out, line{ID: i + 1, From: m.From, Text: m.Text, ReplyTo: number[m.ReplyTo]})
	}
	return out
}

// parts cuts lines at message borders, none longer than limit characters
// unless one message is.
func parts(ls []line, limit int) [][]line {
	index := make([]int, len(ls))
	for i := range index {
		index[i] = i
	}
	var out [][]line
	for _, group := range batch(index, limit, func(i int) int { return utf8.RuneCountInString(ls[i].Text) + len(ls[i].From) + 24 }) {
		out = append(out, ls[group[0]:group[len(group)-1]+1])
	}
	return out
}

// pieces cuts a long text at paragraph, sentence or word borders.
func pieces(s string, limit int) (out []string) {
	for utf8.RuneCountInString(s) > limit {
		end := 0
		for i := range s {
			if limit--; limit < 0 {
				end = i
				break
			}
		}
		limit = utf8.RuneCountInString(s[:end])
		cut := end
		for _, sep := range []string{"\n\n", "\n", ". ", "! ", "? ", "。", " "} {
			if i := lastIndex(s[:end], sep); i > end/2 {
				cut = i
				break
			}
		}
		out = append(out, s[:cut])
		s = s[cut:]
	}
	return append(out, s)
}

func lastIndex(s, sep string) int {
	i := bytes.LastIndex([]byte(s), []byte(sep))
	if i < 0 {
		return -1
	}
	return i + len(sep)
}
