package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// endpoint is an OpenAI endpoint that answers chats as the test likes.
func endpoint(t *testing.T, chat http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"first","price_per_token_nano":20,"workers":[{"coefficient":1000,"running_requests":1,"max_running_requests":4}]},{"id":"second"}]}`)
			return
		}
		chat(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/v1"
}

func event(w io.Writer, text string) {
	fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":%q}}]}\n\n", text)
}

// TestConversation: lines of standard input are one conversation, each with
// all that was said before.
func TestConversation(t *testing.T) {
	var asked []string
	url := endpoint(t, func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Model     string
			Stream    bool
			MaxTokens int `json:"max_tokens"`
			Messages  []message
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Model != "first" || !q.Stream || q.MaxTokens != 9 {
			t.Errorf("%v in %+v", err, q)
		}
		var said []string
		for _, m := range q.Messages {
			said = append(said, m.Role+":"+m.Content)
		}
		asked = append(asked, strings.Join(said, " "))
		event(w, "an")
		event(w, fmt.Sprintf("swer %d", len(asked)))
		fmt.Fprint(w, "data: [DONE]\n\n")
	})
	s := newShell(t)
	s.stdin = "one\n\n   \ntwo"
	got := s.run("chat", "--url", url, "--system", "be brief", "--max-tokens", "9")
	if got.code != exitOK || got.stdout != "answer 1\nanswer 2\n" || got.stderr != "" {
		t.Errorf("%+v", got)
	}
	want := []string{"system:be brief user:one", "system:be brief user:one assistant:answer 1 user:two"}
	if strings.Join(asked, "|") != strings.Join(want, "|") {
		t.Errorf("asked %q, want %q", asked, want)
	}
	// The environment names the endpoint as for any OpenAI client.
	s.stdin, s.env = "", append(s.env, "OPENAI_BASE_URL="+url+"/")
	asked = nil
	if got := s.run("chat", "hello", "--max-tokens", "9"); got.code != exitOK || got.stdout != "answer 1\n" {
		t.Errorf("%+v", got)
	}
}

// TestBrokenAnswers: an answer that does not end well fails the command, in
// one line.
func TestBrokenAnswers(t *testing.T) {
	for _, c := range []struct {
		name string
		chat http.HandlerFunc
		out  string
		say  string
	}{
		{"OpenAI error", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusPaymentRequired)
			fmt.Fprint(w, `{"error":{"message":"No coins left.","type":"insufficient_quota","param":null,"code":null}}`)
		}, "", "No coins left."},
		{"a page", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			fmt.Fprint(w, "<html>\n<body>\nbad gateway\n</body></html>")
		}, "", "502"},
		{"error in the middle", func(w http.ResponseWriter, _ *http.Request) {
			event(w, "half")
			fmt.Fprint(w, "data: {\"error\":{\"message\":\"The worker died.\"}}\n\n")
		}, "half\n", "The worker died."},
		{"no end", func(w http.ResponseWriter, _ *http.Request) { event(w, "half") }, "half\n", "ended early"},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "data: {oops\n\ndata: [DONE]\n\n") }, "", "not JSON"},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			event(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "half", "broke off"},
		{"endless event", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "data: %s\n\n", strings.Repeat("x", 2<<20))
		}, "", "broke off"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newShell(t)
			got := s.run("chat", "hello", "--url", endpoint(t, c.chat))
			if got.stdout != c.out {
				t.Errorf("printed %q, want %q", got.stdout, c.out)
			}
			got.stdout = ""
			s.fails(got, exitFailed, c.say)
		})
	}
}

func TestModelsTable(t *testing.T) {
	s := newShell(t)
	url := endpoint(t, nil)
	got := s.run("models", "--url", url)
	if got.code != exitOK || !strings.Contains(got.stdout, "first") || !strings.Contains(got.stdout, "1/4") || !strings.Contains(got.stdout, "0.02 GRAM") {
		t.Errorf("%+v", got)
	}
	got = s.run("models", "--json", "--url", url)
	var l struct{ Data []map[string]any }
	if err := json.Unmarshal([]byte(got.stdout), &l); err != nil || len(l.Data) != 2 || l.Data[0]["id"] != "first" || l.Data[0]["price_per_token_nano"] != 20.0 {
		t.Errorf("%v: %+v", err, got)
	}
}

func TestAnswersDoNotSteerTheTerminal(t *testing.T) {
	if got := withoutControls("a\x1b[2Jb\tc\nd\x07\u009be\x7fé"); got != "a[2Jb\tc\ndeé" {
		t.Errorf("%q", got)
	}
}

// TestChatWithUnknownModel: the list of models is the answer, and nothing is
// asked of the network.
func TestChatWithUnknownModel(t *testing.T) {
	s := newShell(t)
	url := endpoint(t, func(http.ResponseWriter, *http.Request) { t.Error("the model was asked for") })
	s.fails(s.run("chat", "hello", "--model", "no-such", "--url", url), exitFailed, `no worker serves the model "no-such" now; served are "first", "second"`)
}
