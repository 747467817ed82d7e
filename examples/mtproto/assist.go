package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/gotd/td/tg"
	"github.com/gotd/td/tgerr"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 8 << 20

// assist calls the HTTP API of `cocoon assist` (docs/assist.md).
type assist struct {
	base string // "http://127.0.0.1:10002"
	key  string // API key; empty = none
}

func newAssist(base, key string) (*assist, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is not the address of an assist server: give what `cocoon assist` printed, such as http://127.0.0.1:10002", base)
	}
	return &assist{base: strings.TrimSuffix(base, "/"), key: key}, nil
}

// text and entity have the form of Telegram's Bot API, which assist speaks;
// offsets and lengths count UTF-16 units there and in MTProto.
type text struct {
	Text         string   `json:"text"`
	Entities     []entity `json:"entities,omitempty"`
	Untranslated bool     `json:"untranslated,omitempty"`
}

type entity struct {
	Type          string `json:"type"`
	Offset        int    `json:"offset"`
	Length        int    `json:"length"`
	URL           string `json:"url,omitempty"`
	User          *user  `json:"user,omitempty"`
	Language      string `json:"language,omitempty"`
	CustomEmojiID string `json:"custom_emoji_id,omitempty"`
}

type user struct {
	ID int64 `json:"id"`
}

// translate gives each text in the language to, in their order.
func (a *assist) translate(ctx context.Context, in []tg.TextWithEntities, to string) ([]tg.TextWithEntities, error) {
	rq := struct {
		Texts []text `json:"texts"`
		To    string `json:"to"`
	}{To: to}
	for _, t := range in {
		es, err := toBotAPI(t.Entities)
		if err != nil {
			return nil, err
		}
		rq.Texts = append(rq.Texts, text{Text: t.Text, Entities: es})
	}
	var r struct {
		Texts []text `json:"texts"`
	}
	if err := a.post(ctx, "translate", rq, &r); err != nil {
		return nil, err
	}
	if len(r.Texts) != len(in) {
		return nil, fmt.Errorf("assist gave %d translations for %d texts", len(r.Texts), len(in))
	}
	out := make([]tg.TextWithEntities, len(in))
	for i, t := range r.Texts {
		if t.Untranslated { // the text as it was must not pass for a translation
			return nil, errors.New("the model could not translate")
		}
		es, err := toTL(t.Entities)
		if err != nil {
			return nil, err
		}
		out[i] = tg.TextWithEntities{Text: t.Text, Entities: es}
	}
	return out, nil
}

// summarize gives what a text says, in the language to; empty = that of the text.
func (a *assist) summarize(ctx context.Context, in, to string) (string, error) {
	rq := struct {
		Text   string `json:"text"`
		To     string `json:"to,omitempty"`
		Length string `json:"length"`
	}{in, to, "short"}
	var r struct {
		Summary []struct {
			Text string `json:"text"`
		} `json:"summary"`
	}
	if err := a.post(ctx, "summarize", rq, &r); err != nil {
		return "", err
	}
	var points []string
	for _, p := range r.Summary {
		points = append(points, p.Text)
	}
	if s := strings.Join(points, "\n"); s != "" {
		return s, nil
	}
	return "", errors.New("assist gave an empty summary")
}

func (a *assist) post(ctx context.Context, task string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	rq, err := http.NewRequestWithContext(ctx, http.MethodPost, a.base+"/assist/v1/"+task, bytes.NewReader(body))
	if err != nil {
		return err
	}
	rq.Header.Set("Content-Type", "application/json")
	if a.key != "" {
		rq.Header.Set("Authorization", "Bearer "+a.key)
	}
	rs, err := http.DefaultClient.Do(rq)
	if err != nil {
		return err
	}
	defer rs.Body.Close()
	b, err := io.ReadAll(io.LimitReader(rs.Body, maxAnswer+1))
	switch {
	case err != nil:
		return err
	case len(b) > maxAnswer:
		return fmt.Errorf("assist gave more than %d bytes", maxAnswer)
	case rs.StatusCode != http.StatusOK:
		return toRPC(rs, b)
	}
	return json.Unmarshal(b, out)
}

// toRPC tells an error of assist (docs/errors.md) in Telegram's words, where
// it has some. The message is left out of what is logged: only the code stays.
func toRPC(rs *http.Response, body []byte) error {
	var e struct {
		Error struct {
			Code  string `json:"code"`
			Param string `json:"param"`
		} `json:"error"`
	}
	// A body of another form leaves the code empty; the status says enough then.
	_ = json.Unmarshal(body, &e)
	code, param := e.Error.Code, e.Error.Param
	switch {
	case code == "insufficient_quota" || code == "insufficient_balance":
		return tgerr.New(400, "TRANSLATE_REQ_QUOTA_EXCEEDED")
	case rs.StatusCode == http.StatusTooManyRequests:
		wait, err := strconv.Atoi(rs.Header.Get("Retry-After"))
		if err != nil || wait < 1 {
			wait = 1
		}
		return tgerr.New(420, fmt.Sprintf("FLOOD_WAIT_%d", min(wait, 86400)))
	case rs.StatusCode == http.StatusRequestEntityTooLarge:
		return tgerr.New(400, "INPUT_TEXT_TOO_LONG")
	case rs.StatusCode == http.StatusBadRequest && param == "to":
		return tgerr.New(400, "TO_LANG_INVALID")
	case rs.StatusCode == http.StatusBadRequest && strings.Contains(param, "entities"):
		return tgerr.New(400, "ENTITY_BOUNDS_INVALID")
	case rs.StatusCode == http.StatusBadRequest && code == "invalid_value" && strings.HasPrefix(param, "text"):
		return tgerr.New(400, "INPUT_TEXT_TOO_LONG") // empty and broken texts were refused before
	}
	return fmt.Errorf("assist refused: HTTP %d %q", rs.StatusCode, code)
}

// toBotAPI gives entities the names of the Bot API.
func toBotAPI(in []tg.MessageEntityClass) ([]entity, error) {
	var out []entity
	for _, e := range in {
		x := entity{Offset: e.GetOffset(), Length: e.GetLength()}
		switch e := e.(type) {
		case *tg.MessageEntityTextURL:
			x.Type, x.URL = "text_link", e.URL
		case *tg.MessageEntityPre:
			x.Type, x.Language = "pre", e.Language
		case *tg.MessageEntityMentionName:
			x.Type, x.User = "text_mention", &user{e.UserID}
		case *tg.InputMessageEntityMentionName:
			u, ok := e.UserID.(*tg.InputUser)
			if !ok {
				return nil, tgerr.New(400, "ENTITY_MENTION_USER_INVALID")
			}
			x.Type, x.User = "text_mention", &user{u.UserID}
		case *tg.MessageEntityCustomEmoji:
			x.Type, x.CustomEmojiID = "custom_emoji", strconv.FormatInt(e.DocumentID, 10)
		case *tg.MessageEntityBlockquote:
			x.Type = "blockquote"
			if e.Collapsed {
				x.Type = "expandable_blockquote"
			}
		default:
			for name, make := range plain {
				if make(0, 0).TypeID() == e.TypeID() {
					x.Type = name
				}
			}
			if x.Type == "" {
				return nil, tgerr.New(400, "ENTITY_TYPE_INVALID")
			}
		}
		out = append(out, x)
	}
	return out, nil
}

// toTL is the way back.
func toTL(in []entity) ([]tg.MessageEntityClass, error) {
	var out []tg.MessageEntityClass
	for _, e := range in {
		var x tg.MessageEntityClass
		switch e.Type {
		case "text_link":
			x = &tg.MessageEntityTextURL{Offset: e.Offset, Length: e.Length, URL: e.URL}
		case "pre":
			x = &tg.MessageEntityPre{Offset: e.Offset, Length: e.Length, Language: e.Language}
		case "text_mention":
			if e.User == nil {
				return nil, errors.New("assist lost the user of a mention")
			}
			x = &tg.MessageEntityMentionName{Offset: e.Offset, Length: e.Length, UserID: e.User.ID}
		case "custom_emoji":
			id, err := strconv.ParseInt(e.CustomEmojiID, 10, 64)
			if err != nil {
				return nil, errors.New("assist lost the id of a custom emoji")
			}
			x = &tg.MessageEntityCustomEmoji{Offset: e.Offset, Length: e.Length, DocumentID: id}
		case "blockquote", "expandable_blockquote":
			x = &tg.MessageEntityBlockquote{Offset: e.Offset, Length: e.Length, Collapsed: e.Type != "blockquote"}
		default:
			make, ok := plain[e.Type]
			if !ok {
				return nil, fmt.Errorf("assist gave an entity of the unknown type %q", e.Type)
			}
			x = make(e.Offset, e.Length)
		}
		out = append(out, x)
	}
	return out, nil
}

// plain are the entities that have a place and nothing else, by Bot API name.
var plain = map[string]func(offset, length int) tg.MessageEntityClass{
	"unknown":       func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityUnknown{Offset: o, Length: n} },
	"mention":       func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityMention{Offset: o, Length: n} },
	"hashtag":       func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityHashtag{Offset: o, Length: n} },
	"cashtag":       func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityCashtag{Offset: o, Length: n} },
	"bot_command":   func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityBotCommand{Offset: o, Length: n} },
	"url":           func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityURL{Offset: o, Length: n} },
	"email":         func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityEmail{Offset: o, Length: n} },
	"phone_number":  func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityPhone{Offset: o, Length: n} },
	"bank_card":     func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityBankCard{Offset: o, Length: n} },
	"bold":          func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityBold{Offset: o, Length: n} },
	"italic":        func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityItalic{Offset: o, Length: n} },
	"underline":     func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityUnderline{Offset: o, Length: n} },
	"strikethrough": func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityStrike{Offset: o, Length: n} },
	"spoiler":       func(o, n int) tg.MessageEntityClass { return &tg.MessageEntitySpoiler{Offset: o, Length: n} },
	"code":          func(o, n int) tg.MessageEntityClass { return &tg.MessageEntityCode{Offset: o, Length: n} },
}
