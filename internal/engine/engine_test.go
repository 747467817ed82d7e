package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

func client(t *testing.T, cfg engine.Config) *engine.Client {
	t.Helper()
	c, err := engine.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

var chat = &engine.Request{Path: "/v1/chat/completions", ContentType: "application/json", Body: []byte(`{"model":"m","messages":[{"role":"user","content":"hi"}],"stream":true,"max_tokens":50}`)}

func TestAddress(t *testing.T) {
	for _, bad := range []string{"", "127.0.0.1:80", "ftp://x", "http://", "http://u:p@x", "http://x/?a=1"} {
		if _, err := engine.New(engine.Config{BaseURL: bad}); err == nil {
			t.Errorf("%q is taken", bad)
		} else if strings.Contains(err.Error(), "u:p@") {
			t.Errorf("the error quotes credentials: %v", err)
		}
	}
}

func TestRequestAndHeaders(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/prefix/v1/chat/completions" || r.Method != "POST" || r.Host == "" || r.Header.Get("Content-Type") != "application/json" ||
			r.Header.Get("Authorization") != "Bearer key" || r.Header.Get("Accept-Encoding") != "" || r.Header.Get("Idempotency-Key") != "" || string(b) != string(chat.Body) {
			t.Errorf("%s %s %v %s", r.Method, r.URL, r.Header, b)
		}
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header()["keep-alive"] = []string{"5"}
		w.Header().Set("X-End", "2")
		w.WriteHeader(418)
		fmt.Fprint(w, "short and stout")
	})
	resp, err := client(t, engine.Config{BaseURL: url + "/prefix/", APIKey: "key"}).Do(context.Background(), chat)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 418 || string(b) != "short and stout" || resp.Header.Get("X-End") != "2" {
		t.Errorf("%v %d %s %v", err, resp.StatusCode, b, resp.Header)
	}
	for _, name := range []string{"Connection", "X-Hop", "Keep-Alive", "Content-Length", "Transfer-Encoding"} {
		if resp.Header.Get(name) != "" {
			t.Errorf("%s goes on: %v", name, resp.Header)
		}
	}
}

func TestUnixSocket(t *testing.T) {
	path := t.TempDir() + "/engine.sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: &enginetest.StandIn{Model: "m"}}
	go s.Serve(l)
	defer s.Close()
	c := client(t, engine.Config{BaseURL: "unix:" + path})
	if names, err := c.Models(context.Background()); err != nil || len(names) != 1 || names[0] != "m" {
		t.Errorf("%v %v", names, err)
	}
}

// TestFailures: each way an engine can fail has its class, and no error tells
// what the engine wrote.
func TestFailures(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	cut := func(w http.ResponseWriter, head string) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(c, head)
		c.Close()
	}
	for name, c := range map[string]struct {
		url  string
		want error
	}{
		"nobody there":     {closed.URL, engine.ErrUnreachable},
		"dies before head": {serve(t, func(w http.ResponseWriter, r *http.Request) { cut(w, "") }), engine.ErrBadAnswer},
		"not HTTP":         {serve(t, func(w http.ResponseWriter, r *http.Request) { cut(w, "SECRET hello\r\n\r\n") }), engine.ErrBadAnswer},
		"endless head": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			cut(w, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("SECRET", 1<<16))
		}), engine.ErrBadAnswer},
		"hangs": {serve(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); <-r.Context().Done() }), engine.ErrTimeout},
	} {
		limit := time.Minute
		if errors.Is(c.want, engine.ErrTimeout) {
			limit = 50 * time.Millisecond
		}
		cl := client(t, engine.Config{BaseURL: c.url, HeaderTimeout: limit})
		_, err := cl.Do(context.Background(), chat)
		if !errors.Is(err, c.want) || strings.Contains(fmt.Sprint(err), "SECRET") {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		cut(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	})
	resp, err := client(t, engine.Config{BaseURL: url}).Do(context.Background(), chat)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, engine.ErrBroken) {
		t.Errorf("a cut body gives %v", err)
	}
	url = serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "http://elsewhere.invalid/", 307) })
	if resp, err := client(t, engine.Config{BaseURL: url}).Do(context.Background(), chat); err != nil || resp.StatusCode != 307 {
		t.Errorf("a redirect is followed: %v", err)
	}
}

// TestCancel: the end of the context ends the request at the engine, before the
// head and in the middle of the body, and its cause comes back.
func TestCancel(t *testing.T) {
	left := make(chan struct{}, 2)
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/v1/completions" {
			io.WriteString(w, "data: {}\n\n")
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		left <- struct{}{}
	})
	c := client(t, engine.Config{BaseURL: url})
	enough := errors.New("enough")

	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(20*time.Millisecond, func() { cancel(enough) })
	if _, err := c.Do(ctx, chat); !errors.Is(err, enough) {
		t.Errorf("before the head: %v", err)
	}
	<-left

	ctx, cancel = context.WithCancelCause(context.Background())
	defer cancel(nil)
	resp, err := c.Do(ctx, &engine.Request{Path: "/v1/completions", ContentType: "application/json", Body: []byte("{}")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	cancel(enough)
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, enough) {
		t.Errorf("in the body: %v", err)
	}
	<-left
}

func TestModelsAndCheck(t *testing.T) {
	good := &enginetest.StandIn{Model: "m", Tokens: 3}
	c := client(t, engine.Config{BaseURL: serve(t, good.ServeHTTP)})
	ctx := context.Background()
	if err := c.Ready(ctx); err != nil {
		t.Error(err)
	}
	if err := c.Check(ctx, "m"); err != nil {
		t.Error(err)
	}
	if err := c.Check(ctx, "other"); !errors.Is(err, engine.ErrNotReady) {
		t.Errorf("a model that is not served: %v", err)
	}
	for _, f := range []struct {
		fault enginetest.Fault
		want  error
	}{{enginetest.Refuse, engine.ErrNotReady}, {enginetest.HTML, engine.ErrBadAnswer}, {enginetest.CutHead, engine.ErrBadAnswer}, {enginetest.CutBody, engine.ErrBroken}} {
		bad := &enginetest.StandIn{Model: "m", Fault: func() enginetest.Fault { return f.fault }}
		if err := client(t, engine.Config{BaseURL: serve(t, bad.ServeHTTP)}).Check(ctx, ""); !errors.Is(err, f.want) {
			t.Errorf("fault %d: %v, want %v", f.fault, err, f.want)
		}
	}
	for body, want := range map[string]error{"<html>": engine.ErrBadAnswer, strings.Repeat(" ", 2<<20): engine.ErrBadAnswer} {
		c := client(t, engine.Config{BaseURL: serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })})
		if _, err := c.Models(ctx); !errors.Is(err, want) {
			t.Errorf("%.10q: %v", body, err)
		}
	}
	loading := client(t, engine.Config{BaseURL: serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) })})
	if err := loading.Ready(ctx); !errors.Is(err, engine.ErrNotReady) {
		t.Errorf("while loading: %v", err)
	}
}

func TestLoad(t *testing.T) {
	metrics := "# HELP x y\nvllm:num_requests_running{model_name=\"a}b\"} 3.0\nvllm:num_requests_running{model_name=\"c\"} 2 1700000000\nvllm:num_requests_waiting 1e1\nvllm:kv_cache_usage_perc{} NaN\nother 5\nvllm:prompt_tokens_total -4\n"
	c := client(t, engine.Config{BaseURL: serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, metrics) }), Dialect: engine.VLLM})
	l, err := c.Load(context.Background())
	if err != nil || l.Running != 5 || l.Waiting != 10 || !math.IsNaN(l.Cache) || !math.IsNaN(l.PromptTokens) {
		t.Errorf("%+v %v", l, err)
	}
	if !c.Caps().ContinuousUsage || c.Caps().Embeddings {
		t.Errorf("%+v", c.Caps())
	}
	none := client(t, engine.Config{BaseURL: serve(t, http.NotFound)})
	if _, err := none.Load(context.Background()); !errors.Is(err, engine.ErrNotReady) {
		t.Error(err)
	}
}
