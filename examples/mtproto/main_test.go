package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gotd/td/tg"
	"github.com/gotd/td/tgerr"
)

// standIn answers as assist does, by a script: a translation puts "» " before
// the text and so moves its entities by two; some words make it refuse.
func standIn(t *testing.T, calls chan<- string) string {
	refuse := func(w http.ResponseWriter, status int, code, param string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"message":"no","type":"x","param":%q,"code":%q}}`, param, code)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /assist/v1/translate", func(w http.ResponseWriter, r *http.Request) {
		var rq struct {
			Texts []text `json:"texts"`
			To    string `json:"to"`
		}
		if r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "Bearer k" || json.NewDecoder(r.Body).Decode(&rq) != nil {
			refuse(w, 400, "invalid_json", "")
			return
		}
		calls <- "translate " + rq.To
		switch first := rq.Texts[0].Text; {
		case rq.To == "xx":
			refuse(w, 400, "invalid_value", "to")
		case first == "quota":
			refuse(w, 429, "insufficient_quota", "")
		case first == "often":
			w.Header().Set("Retry-After", "7")
			refuse(w, 429, "rate_limit_exceeded", "")
		case first == "long":
			refuse(w, 400, "invalid_value", "texts[0]")
		case first == "bounds":
			refuse(w, 400, "invalid_value", "texts[0].entities[0]")
		case first == "down":
			refuse(w, 502, "upstream_error", "")
		default:
			for i := range rq.Texts {
				rq.Texts[i].Text = "» " + rq.Texts[i].Text
				rq.Texts[i].Untranslated = first == "same"
				for j := range rq.Texts[i].Entities {
					rq.Texts[i].Entities[j].Offset += 2
				}
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"texts": rq.Texts})
		}
	})
	mux.HandleFunc("POST /assist/v1/summarize", func(w http.ResponseWriter, r *http.Request) {
		var rq struct{ Text, To, Length string }
		if json.NewDecoder(r.Body).Decode(&rq) != nil || rq.Length != "short" {
			refuse(w, 400, "invalid_value", "length")
			return
		}
		calls <- "summarize " + rq.To
		if rq.Text == "down" {
			refuse(w, 503, "service_unavailable", "")
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"summary": []map[string]any{{"text": "of " + rq.Text, "refs": []int{1}}, {"text": "and more", "refs": []int{1}}}})
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// withClient runs f with a stock client of a backend.
func withClient(t *testing.T, calls chan<- string, f func(context.Context, *tg.Client)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	a, err := newAssist(standIn(t, calls), "k")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBackend(a, l.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- b.serve(ctx, l) }()
	err = connect(ctx, l.Addr(), b.server.Key(), func(ctx context.Context, c *tg.Client) error {
		f(ctx, c)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	cancel()
	<-served
}

func send(t *testing.T, ctx context.Context, c *tg.Client, text string, es ...tg.MessageEntityClass) int {
	t.Helper()
	rq := &tg.MessagesSendMessageRequest{Peer: &tg.InputPeerSelf{}, Message: text, RandomID: 1}
	if es != nil {
		rq.SetEntities(es)
	}
	r, err := c.MessagesSendMessage(ctx, rq)
	if err != nil {
		t.Fatal(err)
	}
	return r.(*tg.UpdateShortSentMessage).ID
}

// TestEntities has every kind of entity go through a translation, of texts
// given and of a stored message.
func TestEntities(t *testing.T) {
	in := []tg.MessageEntityClass{
		&tg.MessageEntityTextURL{Offset: 0, Length: 1, URL: "https://ton.org"},
		&tg.MessageEntityPre{Offset: 1, Length: 1, Language: "go"},
		&tg.MessageEntityMentionName{Offset: 2, Length: 1, UserID: 1 << 40},
		&tg.MessageEntityCustomEmoji{Offset: 3, Length: 2, DocumentID: 1<<62 + 1},
		&tg.MessageEntityBlockquote{Offset: 0, Length: 9},
		&tg.MessageEntityBlockquote{Offset: 0, Length: 9, Collapsed: true},
	}
	for _, make := range plain {
		in = append(in, make(1, 4))
	}
	want, err := toBotAPI(in)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i].Offset += 2
	}
	calls := make(chan string, 10)
	withClient(t, calls, func(ctx context.Context, c *tg.Client) {
		given := &tg.MessagesTranslateTextRequest{ToLang: "ru"}
		given.SetText([]tg.TextWithEntities{{Text: "first one", Entities: in}, {Text: "second"}})
		stored := &tg.MessagesTranslateTextRequest{ToLang: "ru"}
		stored.SetPeer(&tg.InputPeerSelf{})
		second := send(t, ctx, c, "second")
		stored.SetID([]int{send(t, ctx, c, "first one", in...), second})
		for name, rq := range map[string]*tg.MessagesTranslateTextRequest{"given": given, "stored": stored} {
			r, err := c.MessagesTranslateText(ctx, rq)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if len(r.Result) != 2 || r.Result[0].Text != "» first one" || r.Result[1].Text != "» second" || len(r.Result[1].Entities) != 0 {
				t.Errorf("%s: got %v", name, r.Result)
				continue
			}
			if got, err := toBotAPI(r.Result[0].Entities); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: entities\n got %+v, %v\nwant %+v", name, got, err, want)
			}
		}
	})
	if len(calls) != 2 {
		t.Errorf("%d calls of assist, want one for each request", len(calls))
	}
}

func TestSummarize(t *testing.T) {
	calls := make(chan string, 10)
	withClient(t, calls, func(ctx context.Context, c *tg.Client) {
		rq := &tg.MessagesSummarizeTextRequest{Peer: &tg.InputPeerSelf{}, ID: send(t, ctx, c, "a long story")}
		for _, to := range []string{"", "id"} {
			if to != "" {
				rq.SetToLang(to)
			}
			r, err := c.MessagesSummarizeText(ctx, rq)
			if err != nil || r.Text != "of a long story\nand more" {
				t.Errorf("to %q: got %v, %v", to, r, err)
			}
			if got := <-calls; got != "summarize "+to {
				t.Errorf("assist was asked for %q", got)
			}
		}
		bad := func(rq *tg.MessagesSummarizeTextRequest, want string) {
			t.Helper()
			if _, err := c.MessagesSummarizeText(ctx, rq); !tgerr.Is(err, want) {
				t.Errorf("got %v, want %s", err, want)
			}
		}
		bad(&tg.MessagesSummarizeTextRequest{Peer: &tg.InputPeerSelf{}, ID: 99}, "MSG_ID_INVALID")
		bad(&tg.MessagesSummarizeTextRequest{Peer: &tg.InputPeerUser{UserID: 5}, ID: 1}, "PEER_ID_INVALID")
		bad(&tg.MessagesSummarizeTextRequest{Peer: &tg.InputPeerSelf{}, ID: send(t, ctx, c, "down")}, "SUMMARIZE_REQ_FAILED")
	})
}

// TestErrors has each fault told in Telegram's words, and says which reach assist.
func TestErrors(t *testing.T) {
	one := func(s string) []tg.TextWithEntities { return []tg.TextWithEntities{{Text: s}} }
	calls := make(chan string, 100)
	withClient(t, calls, func(ctx context.Context, c *tg.Client) {
		for _, x := range []struct {
			name   string
			text   []tg.TextWithEntities
			ids    []int
			to     string
			code   int
			want   string
			asked  int
			number int
		}{
			{"language unknown to assist", one("hello"), nil, "xx", 400, "TO_LANG_INVALID", 1, 0},
			{"no language", one("hello"), nil, "", 400, "TO_LANG_INVALID", 0, 0},
			{"nothing", nil, nil, "ru", 400, "INPUT_TEXT_EMPTY", 0, 0},
			{"empty", one(" "), nil, "ru", 400, "INPUT_TEXT_EMPTY", 0, 0},
			{"not UTF-8", one("\xff"), nil, "ru", 400, "INPUT_TEXT_INVALID", 0, 0},
			{"too long by one unit", one(strings.Repeat("😀", 2048) + "a"), nil, "ru", 400, "INPUT_TEXT_TOO_LONG", 0, 0},
			{"too many", make([]tg.TextWithEntities, 21), nil, "ru", 400, "INPUT_TEXT_TOO_LONG", 0, 0},
			{"too long for assist", one("long"), nil, "ru", 400, "INPUT_TEXT_TOO_LONG", 1, 0},
			{"entity outside", one("bounds"), nil, "ru", 400, "ENTITY_BOUNDS_INVALID", 1, 0},
			{"no such message", nil, []int{1}, "ru", 400, "MSG_ID_INVALID", 0, 0},
			{"budget", one("quota"), nil, "ru", 400, "TRANSLATE_REQ_QUOTA_EXCEEDED", 1, 0},
			{"too often", one("often"), nil, "ru", 420, "FLOOD_WAIT", 1, 7},
			{"network down", one("down"), nil, "ru", 500, "TRANSLATE_REQ_FAILED", 1, 0},
			{"model gave the text back", one("same"), nil, "ru", 500, "TRANSLATE_REQ_FAILED", 1, 0},
		} {
			rq := &tg.MessagesTranslateTextRequest{ToLang: x.to}
			if x.text != nil {
				rq.SetText(x.text)
			}
			if x.ids != nil {
				rq.SetPeer(&tg.InputPeerSelf{})
				rq.SetID(x.ids)
			}
			_, err := c.MessagesTranslateText(ctx, rq)
			e, ok := tgerr.As(err)
			if !ok || e.Code != x.code || e.Type != x.want || e.Argument != x.number {
				t.Errorf("%s: got %v, want %d %s", x.name, err, x.code, x.want)
			}
			if len(calls) != x.asked {
				t.Errorf("%s: assist was asked %d times, want %d", x.name, len(calls), x.asked)
			}
			for len(calls) > 0 {
				<-calls
			}
		}
		if _, err := c.MessagesSendMessage(ctx, &tg.MessagesSendMessageRequest{Peer: &tg.InputPeerSelf{}, RandomID: 1}); !tgerr.Is(err, "MESSAGE_EMPTY") {
			t.Errorf("empty message: %v", err)
		}
		if _, err := c.HelpGetNearestDC(ctx); !tgerr.Is(err, "INPUT_METHOD_INVALID") {
			t.Errorf("a method that is not served: %v", err)
		}
	})
}
