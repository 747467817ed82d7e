package up_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// reply is what a caller got.
type reply struct {
	status int
	header http.Header
	text   string
	finish bool   // a finish reason was seen
	done   bool   // the answer is complete
	err    string // what the caller was told, or what broke
	tokens int64
	cost   int64
}

// complete reports whether a caller has a whole answer.
func (r reply) complete() bool { return r.status == http.StatusOK && r.done && r.finish && r.err == "" }

// brokenHonestly reports whether an answer that had begun ended with an error
// event and without a false end: no [DONE], and a finish reason only if all of
// the answer came and what broke was its accounting.
// A sealed call whose worker died after the client had consented to pay, and
// before the first byte, is an error and not tried again: it could be paid
// twice.
func (r reply) brokenHonestly(whole string) bool {
	if r.status == http.StatusBadGateway && r.text == "" && strings.Contains(r.err, "was accepted and then lost") {
		return true
	}
	return r.status == http.StatusOK && !r.done && r.err != "" && strings.HasPrefix(whole, r.text) &&
		(!r.finish || r.text == whole) && strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream")
}

func (r reply) String() string {
	return fmt.Sprintf("status %d, done %v, finish %v, error %q, text %q", r.status, r.done, r.finish, r.err, r.text)
}

// chunk is a part of a streamed answer, or a whole answer.
type chunk struct {
	Choices []struct {
		Delta   struct{ Content string } `json:"delta"`
		Message struct{ Content string } `json:"message"`
		Finish  *string                  `json:"finish_reason"`
	} `json:"choices"`
	Usage *struct {
		Total int64 `json:"total_tokens"`
		Cost  int64 `json:"cost_nano"`
	} `json:"usage"`
	Error *struct{ Message, Type string } `json:"error"`
}

func (r *reply) add(c chunk) {
	if c.Error != nil {
		r.err = c.Error.Message
	}
	for _, choice := range c.Choices {
		r.text += choice.Delta.Content + choice.Message.Content
		r.finish = r.finish || choice.Finish != nil
	}
	if c.Usage != nil {
		r.tokens, r.cost = c.Usage.Total, c.Usage.Cost
	}
}

// question is a chat completion to ask for.
type question struct {
	model, prompt string
	stream        bool
	maxTokens     int
	header        http.Header
	more          map[string]any        // further fields
	seen          func(tokens int) bool // called after each event; false = leave
}

func (q question) body() []byte {
	m := map[string]any{
		"model": q.model, "stream": q.stream, "max_tokens": q.maxTokens, "temperature": 0,
		"messages": []any{map[string]any{"role": "user", "content": q.prompt}},
	}
	if q.stream {
		m["stream_options"] = map[string]any{"include_usage": true}
	}
	for k, v := range q.more {
		m[k] = v
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // the question is written in a test
	}
	return b
}

// caller is an app: it keeps connections, as apps do.
var caller = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

// ask sends a chat completion and reads the answer to its end.
func (n *network) ask(ctx context.Context, q question) (r reply) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.base+"/v1/chat/completions", bytes.NewReader(q.body()))
	if err != nil {
		return reply{err: err.Error()}
	}
	for k, v := range q.header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := caller.Do(req)
	if err != nil {
		return reply{err: err.Error()}
	}
	defer resp.Body.Close()
	r = reply{status: resp.StatusCode, header: resp.Header}
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") {
		var c chunk
		if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&c); err != nil {
			r.err = "not JSON: " + err.Error()
			return r
		}
		r.add(c)
		r.done = r.err == ""
		return r
	}
	events := openai.NewEventReader(resp.Body, 1<<20)
	for i := 1; ; i++ {
		ev, err := events.Next()
		if errors.Is(err, io.EOF) {
			return r
		}
		if err != nil {
			r.err = "the stream broke: " + err.Error()
			return r
		}
		if ev.IsDone() {
			r.done = true
			continue
		}
		var c chunk
		if err := json.Unmarshal(ev.Data, &c); err != nil {
			r.err = "bad event: " + err.Error()
			return r
		}
		r.add(c)
		if q.seen != nil && !q.seen(i) {
			return r
		}
	}
}

// words is what the stand-in answers with n tokens.
func words(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "w%d", i)
	}
	return b.String()
}

// get reads a page whole.
func get(url string) (code int, header http.Header, body string, err error) {
	c := &http.Client{Timeout: 30 * time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return resp.StatusCode, resp.Header, string(b), err
}

func unmarshal(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
