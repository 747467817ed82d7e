package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// wordBackend is a small real backend: it says the prompt's words backwards,
// one token a word, within the limit it is given, streamed or whole, and counts
// what it did. Tests replace its parts.
type wordBackend struct {
	answer func(ctx context.Context, call *Call) (*Answer, error) // nil = the words
	models []Model
	// referenceOnly: there are only workers of the reference network.
	referenceOnly bool

	mu   sync.Mutex
	last Call
	open atomic.Int64 // answers whose body is not closed
}

const testPrice = 3

func (b *wordBackend) Models(context.Context) ([]Model, error) { return b.models, nil }

func (b *wordBackend) Do(ctx context.Context, call *Call) (*Answer, error) {
	if b.referenceOnly && call.Reference != nil {
		return nil, call.Reference
	}
	b.mu.Lock()
	b.last = *call
	b.mu.Unlock()
	if b.answer != nil {
		return b.answer(ctx, call)
	}
	var body struct {
		Model    string
		Messages []struct{ Content json.RawMessage }
		Prompt   json.RawMessage
		Stream   bool
		Options  struct {
			Usage bool `json:"include_usage"`
		} `json:"stream_options"`
		MaxTokens int `json:"max_tokens"`
	}
	if err := json.Unmarshal(call.Body, &body); err != nil {
		return nil, openai.Internal()
	}
	if body.Model != "words" {
		return nil, openai.ModelNotFound(body.Model)
	}
	text := body.Prompt
	if len(body.Messages) > 0 {
		text = body.Messages[len(body.Messages)-1].Content
	}
	prompt, _ := openai.String(text)
	in := strings.Fields(prompt)
	var out []string
	for i := len(in) - 1; i >= 0 && len(out) < body.MaxTokens; i-- {
		out = append(out, in[i])
	}
	chat := call.Path == "/v1/chat/completions"
	usage := openai.Usage{PromptTokens: int64(len(in)), CompletionTokens: int64(len(out)), TotalTokens: int64(len(in) + len(out))}
	final := Final{PromptTokens: int64(len(in)), CompletionTokens: int64(len(out)), TotalTokens: usage.TotalTokens, CostNano: testPrice * coins.Nano(usage.TotalTokens)}
	if !body.Stream {
		choice := map[string]any{"index": 0, "finish_reason": "stop"}
		object := "text_completion"
		if chat {
			object = "chat.completion"
			choice["message"] = map[string]string{"role": "assistant", "content": strings.Join(out, " ")}
		} else {
			choice["text"] = strings.Join(out, " ")
		}
		whole, _ := json.Marshal(map[string]any{"id": "w1", "object": object, "created": 1, "model": "words", "choices": []any{choice}, "usage": usage})
		return b.reply(ctx, "application/json", final, func(w io.Writer) error { _, err := w.Write(whole); return err }), nil
	}
	return b.reply(ctx, "text/event-stream", final, func(w io.Writer) error {
		for i, word := range append(out, "") {
			finish, piece := "null", word
			if i > 0 && word != "" {
				piece = " " + word
			}
			if i == len(out) {
				finish = `"stop"`
			}
			p, _ := json.Marshal(piece)
			content := fmt.Sprintf(`"text":%s`, p)
			object := "text_completion"
			if chat {
				object, content = "chat.completion.chunk", fmt.Sprintf(`"delta":{"content":%s}`, p)
			}
			if _, err := fmt.Fprintf(w, "data: {\"id\":\"w1\",\"object\":%q,\"created\":1,\"model\":\"words\",\"choices\":[{\"index\":0,%s,\"finish_reason\":%s}],\"usage\":null}\n\n", object, content, finish); err != nil {
				return err
			}
		}
		if body.Options.Usage {
			if _, err := fmt.Fprintf(w, "data: {\"id\":\"w1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"words\",\"choices\":[],\"usage\":%s}\n\n", usage.AppendJSON(nil)); err != nil {
				return err
			}
		}
		_, err := io.WriteString(w, "data: [DONE]\n\n")
		return err
	}), nil
}

// reply runs write as the engine behind an answer: what it writes is read one
// for one, and it is stopped by ctx and by Close.
func (b *wordBackend) reply(ctx context.Context, contentType string, final Final, write func(io.Writer) error) *Answer {
	ctx, cancel := context.WithCancel(ctx)
	pr, pw := io.Pipe()
	b.open.Add(1)
	body := &replyBody{PipeReader: pr, close: sync.OnceFunc(func() { cancel(); b.open.Add(-1) })}
	go func() {
		stop := context.AfterFunc(ctx, func() { pw.CloseWithError(context.Cause(ctx)) })
		defer stop()
		pw.CloseWithError(write(pw))
	}()
	return &Answer{
		Status: 200,
		Header: http.Header{"Content-Type": {contentType}, "Set-Cookie": {"evil=1"}, "X-Cocoon-Proxy-Start": {"1700000000.123456"}, "X-Cocoon-Worker-Start": {"<b>"}, "Server": {"engine"}},
		Body:   body,
		Peer:   Peer{Verdict: attest.Simulated, ImageHash: attest.ImageHash{1}, Addr: "127.0.0.1:11000", Level: 1},
		Final:  func() Final { return final },
	}
}

type replyBody struct {
	*io.PipeReader
	close func()
}

func (b *replyBody) Close() error { b.close(); return b.PipeReader.Close() }

// says makes an answer of fixed bytes, with status 200 and an accounting.
func (b *wordBackend) says(contentType, body string) func(context.Context, *Call) (*Answer, error) {
	return func(ctx context.Context, _ *Call) (*Answer, error) {
		return b.reply(ctx, contentType, Final{TotalTokens: 4, CostNano: 12}, func(w io.Writer) error {
			_, err := io.WriteString(w, body)
			return err
		}), nil
	}
}

func (b *wordBackend) call() Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// newGateway makes a gateway over b; change may be nil.
func newGateway(t testing.TB, b *wordBackend, change func(*Config)) *Gateway {
	t.Helper()
	cfg := Config{Backend: b}
	if b.models == nil {
		b.models = []Model{{ID: "words", PricePerToken: testPrice, Workers: []Worker{{1000, 1, 4}}}}
	}
	if change != nil {
		change(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// ask sends one request to the gateway in memory.
func ask(g http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:10000"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Del(header[i])
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else if header[i+1] != "" {
			r.Header.Set(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

// errorOf reads an OpenAI error object; the test fails if body is none.
func errorOf(t *testing.T, body []byte) (message, code, param string) {
	t.Helper()
	var e struct {
		Error struct {
			Message, Type string
			Param, Code   *string
		}
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Error.Message == "" || e.Error.Type == "" {
		t.Fatalf("not an error object: %s", body)
	}
	deref := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	return e.Error.Message, deref(e.Error.Code), deref(e.Error.Param)
}

// events returns the data of a stream's events.
func events(t *testing.T, stream []byte) (out []string) {
	t.Helper()
	er := openai.NewEventReader(bytes.NewReader(stream), 1<<20)
	for {
		ev, err := er.Next()
		if err == io.EOF {
			return out
		}
		if err != nil || !ev.Complete {
			t.Fatalf("stream breaks: %q, %v", ev.Raw, err)
		}
		if ev.Data != nil {
			out = append(out, string(ev.Data))
		}
	}
}

// pipeServer serves g over in-memory connections, for synctest bubbles.
func pipeServer(t *testing.T, g http.Handler) (dial func() net.Conn) {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := Server(g, slog.New(slog.DiscardHandler))
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })
	return func() net.Conn {
		near, far := net.Pipe()
		l.conns <- far
		return near
	}
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// rawPost is a request as bytes.
func rawPost(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}
