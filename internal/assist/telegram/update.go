package telegram

import (
	"encoding/json"
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/assist"
)

// Update is the part of an Update that the bot takes in; the rest is passed over.
type Update struct {
	ID              int64            `json:"update_id"`
	Message         *Message         `json:"message"`
	Edited          *Message         `json:"edited_message"`
	Guest           *Message         `json:"guest_message"`
	Business        *Message         `json:"business_message"`
	EditedBusiness  *Message         `json:"edited_business_message"`
	DeletedBusiness *DeletedMessages `json:"deleted_business_messages"`
	Connection      *Connection      `json:"business_connection"`
	Inline          *InlineQuery     `json:"inline_query"`
	Callback        *CallbackQuery   `json:"callback_query"`
	Stopped         *Stopped         `json:"stopped_message_generation"`
	MyMember        *MemberUpdated   `json:"my_chat_member"`
}

// allowedUpdates are asked for by name: Telegram leaves some out otherwise.
var allowedUpdates = []string{
	"message", "edited_message", "guest_message", "business_message", "edited_business_message", "deleted_business_messages",
	"business_connection", "inline_query", "callback_query", "stopped_message_generation", "my_chat_member",
}

// User is an account.
type User struct {
	ID        int64  `json:"id"`
	IsBot     bool   `json:"is_bot"`
	FirstName string `json:"first_name"`
	Username  string `json:"username"`
	Language  string `json:"language_code"`
}

// Chat is a chat; in a private one its ID is the user's.
type Chat struct {
	ID       int64  `json:"id"`
	Type     string `json:"type"`
	Username string `json:"username"`
}

func (c *Chat) private() bool { return c.Type == "private" }

// Message is a message.
type Message struct {
	ID         int64           `json:"message_id"`
	Thread     int64           `json:"message_thread_id"`
	IsTopic    bool            `json:"is_topic_message"`
	From       *User           `json:"from"`
	SenderChat *Chat           `json:"sender_chat"`
	Chat       Chat            `json:"chat"`
	Date       int64           `json:"date"`
	Text       string          `json:"text"`
	Entities   []assist.Entity `json:"entities"`
	Caption    string          `json:"caption"`
	CaptionEnt []assist.Entity `json:"caption_entities"`
	ReplyTo    *Message        `json:"reply_to_message"`
	Quote      *struct {
		Text     string          `json:"text"`
		Entities []assist.Entity `json:"entities"`
	} `json:"quote"`
	Forward *struct {
		SenderUser *User  `json:"sender_user"`
		SenderName string `json:"sender_user_name"`
	} `json:"forward_origin"`
	MigratedTo   int64  `json:"migrate_to_chat_id"`
	GuestQueryID string `json:"guest_query_id"`
	GuestCaller  *User  `json:"guest_bot_caller_user"`
	ConnectionID string `json:"business_connection_id"`
	Protected    bool   `json:"has_protected_content"`
}

// Connection is an account that lets the bot see some of its chats.
type Connection struct {
	ID        string `json:"id"`
	User      User   `json:"user"`
	UserChat  int64  `json:"user_chat_id"`
	IsEnabled bool   `json:"is_enabled"`
}

// DeletedMessages are gone from a connected account's chat.
type DeletedMessages struct {
	ConnectionID string  `json:"business_connection_id"`
	Chat         Chat    `json:"chat"`
	IDs          []int64 `json:"message_ids"`
}

// InlineQuery is what somebody types behind the bot's name in any chat.
type InlineQuery struct {
	ID    string `json:"id"`
	From  User   `json:"from"`
	Query string `json:"query"`
}

// CallbackQuery is a press of a button under one of the bot's messages.
type CallbackQuery struct {
	ID      string   `json:"id"`
	From    User     `json:"from"`
	Message *Message `json:"message"`
	Data    string   `json:"data"`
}

// Stopped is a press of a draft's Stop button.
type Stopped struct {
	Chat   Chat  `json:"chat"`
	Thread int64 `json:"message_thread_id"`
	Draft  int64 `json:"draft_id"`
}

// MemberUpdated says that the bot was added, removed or promoted.
type MemberUpdated struct {
	Chat Chat   `json:"chat"`
	New  member `json:"new_chat_member"`
}

type member struct {
	Status string `json:"status"`
}

var errUpdate = errors.New("telegram: an update is not of the Bot API's form, or too large")

// ParseUpdate decodes one update, at most 256 KiB, with texts that a messenger
// can have made.
func ParseUpdate(b []byte) (*Update, error) {
	u := new(Update)
	if len(b) > maxUpdate || json.Unmarshal(b, u) != nil || u.ID < 0 {
		return nil, errUpdate
	}
	for _, m := range []*Message{u.Message, u.Edited, u.Guest, u.Business, u.EditedBusiness} {
		if !m.valid(2) {
			return nil, errUpdate
		}
	}
	if u.Callback != nil && (!u.Callback.Message.valid(2) || len(u.Callback.Data) > 64) ||
		u.Inline != nil && (len(u.Inline.Query) > 4*256 || !utf8.ValidString(u.Inline.Query)) ||
		u.DeletedBusiness != nil && len(u.DeletedBusiness.IDs) > 10_000 {
		return nil, errUpdate
	}
	return u, nil
}

// valid bounds a message and what it replies to.
func (m *Message) valid(depth int) bool {
	if m == nil {
		return true
	}
	if depth == 0 {
		return false
	}
	if len(m.Text) > 4*maxUnits || len(m.Caption) > 4*maxUnits || len(m.Entities) > 1000 || len(m.CaptionEnt) > 1000 {
		return false
	}
	return m.ReplyTo.valid(depth - 1)
}

// text is what the message says: its text, or its caption.
func (m *Message) text() assist.Text {
	if m.Text == "" {
		return assist.Text{Text: m.Caption, Entities: m.CaptionEnt}
	}
	return assist.Text{Text: m.Text, Entities: m.Entities}
}

// author is the name under which a message stands in a summary.
func (m *Message) author() string {
	switch {
	case m.Forward != nil && m.Forward.SenderUser != nil:
		return clip(m.Forward.SenderUser.FirstName, 60)
	case m.Forward != nil && m.Forward.SenderName != "":
		return clip(m.Forward.SenderName, 60)
	case m.From != nil:
		return clip(m.From.FirstName, 60)
	}
	return ""
}

// command splits "/tone@bot formal Hi" into "tone" and where the arguments
// begin in the text, in UTF-16 units. A command for another bot is none.
func (m *Message) command(botName string) (name string, args int, ok bool) {
	if !strings.HasPrefix(m.Text, "/") {
		return "", 0, false
	}
	word := m.Text
	if i := strings.IndexAny(word, " \n\t\u00a0"); i >= 0 {
		word = word[:i]
	}
	name, to, addressed := strings.Cut(word[1:], "@")
	if addressed && !strings.EqualFold(to, botName) {
		return "", 0, false
	}
	return strings.ToLower(name), units(word), true
}

// after is the text from a UTF-16 offset on, without space around it, with
// the entities that lie in it.
func after(t assist.Text, from int) assist.Text {
	u := utf16.Encode([]rune(t.Text))
	from = min(from, len(u))
	for from < len(u) && (u[from] == ' ' || u[from] == '\n' || u[from] == '\t' || u[from] == 0xa0) {
		from++
	}
	out := assist.Text{Text: strings.TrimRight(string(utf16.Decode(u[from:])), " \n\t")}
	n := units(out.Text)
	for _, e := range t.Entities {
		if e.Offset >= from && e.Length > 0 && e.Offset-from+e.Length <= n {
			e.Offset -= from
			out.Entities = append(out.Entities, e)
		}
	}
	return out
}

// units counts UTF-16 code units.
func units(s string) (n int) {
	for _, r := range s {
		n += utf16.RuneLen(r)
	}
	return n
}
