package up_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestCanary: what callers say and hear, and what they send in headers, is
// found nowhere afterwards: in no file of the network, no log, no counter.
func TestCanary(t *testing.T) {
	canaries := map[string]string{}
	for _, name := range []string{"prompt", "answer", "key", "header", "cookie", "agent", "query", "broken body", "engine error", "tool", "path"} {
		canaries[name] = "Canary" + rand.Text()
	}
	// The engine answers with the answer's canary in many parts, and keeps
	// what reached it.
	var mu sync.Mutex
	var heard bytes.Buffer
	engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		fmt.Fprintf(&heard, "%s\n%v\n", r.RequestURI, r.Header)
		mu.Unlock()
		switch {
		case r.URL.Path == "/v1/models":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"object":"list","data":[{"id":"stand-in","object":"model"}]}`)
		case bytes.Contains(body, []byte("fail for me")):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":{"message":%q,"type":"invalid_request_error","param":null,"code":null}}`, canaries["engine error"])
		case bytes.Contains(body, []byte(`"stream":true`)):
			w.Header().Set("Content-Type", "text/event-stream")
			for i := range 5 {
				fmt.Fprintf(w, "data: {\"id\":\"x\",\"model\":\"stand-in\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%q},\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", canaries["answer"]+" ", i+1, i+4)
				w.(http.Flusher).Flush()
				if bytes.Contains(body, []byte("hang for me")) {
					<-r.Context().Done()
					return
				}
			}
			fmt.Fprint(w, "data: {\"id\":\"x\",\"model\":\"stand-in\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5,\"total_tokens\":8}}\n\ndata: [DONE]\n\n")
		default:
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"id":"x","model":"stand-in","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}`, canaries["answer"])
		}
	}))
	t.Cleanup(func() {
		engine.CloseClientConnections()
		engine.Close()
	})
	n := up(t, t.TempDir(), "--engine", engine.URL, "--model", "stand-in")

	header := http.Header{
		"Authorization": {"Bearer " + canaries["key"]}, "X-Api-Key": {canaries["key"]}, "Openai-Organization": {canaries["header"]},
		"X-Forwarded-For": {canaries["header"]}, "X-Request-Id": {canaries["header"]}, "X-Custom": {canaries["header"]},
		"Cookie": {"session=" + canaries["cookie"]}, "User-Agent": {canaries["agent"]}, "Referer": {"http://127.0.0.1/" + canaries["header"]},
	}
	tools := map[string]any{"tools": []any{map[string]any{"type": "function", "function": map[string]any{"name": canaries["tool"], "parameters": map[string]any{"type": "object"}}}}}
	for _, stream := range []bool{false, true} {
		q := question{model: "stand-in", prompt: canaries["prompt"], stream: stream, maxTokens: 20, header: header, more: tools}
		if r := n.ask(t.Context(), q); !r.complete() || !strings.Contains(r.text, canaries["answer"]) {
			t.Fatalf("%v", r)
		}
		q.prompt = "fail for me " + canaries["prompt"]
		if r := n.ask(t.Context(), q); r.complete() || r.err == "" {
			t.Errorf("the engine's refusal: %v", r)
		}
	}
	// One caller leaves in the middle, one answer is cut by a worker's death.
	n.ask(t.Context(), question{model: "stand-in", prompt: "hang for me " + canaries["prompt"], stream: true, maxTokens: 20, header: header, seen: func(int) bool { return false }})
	cut := make(chan reply, 1)
	begun := make(chan struct{})
	go func() {
		cut <- n.ask(context.WithoutCancel(t.Context()), question{model: "stand-in", prompt: "hang for me " + canaries["prompt"], stream: true, maxTokens: 20, header: header, seen: func(i int) bool {
			if i == 1 {
				close(begun)
			}
			return true
		}})
	}()
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("no answer begins")
	}
	n.kill("worker-1")
	if r := <-cut; !r.brokenHonestly(strings.Repeat(canaries["answer"]+" ", 5)) {
		t.Errorf("%v", r)
	}
	// Requests that are refused at the door.
	for _, c := range []struct{ method, path, body string }{
		{http.MethodPost, "/v1/chat/completions", `{"model":"stand-in","messages":[{"role":"user","content":"` + canaries["broken body"]},
		{http.MethodPost, "/v1/chat/completions?q=" + canaries["query"], `{"model":"stand-in","messages":"` + canaries["broken body"] + `"}`},
		{http.MethodPost, "/v1/chat/completions", `{"model":"stand-in","temperature":"` + canaries["broken body"] + `","messages":[]}`},
		{http.MethodPost, "/v1/" + canaries["path"], `{}`},
		{http.MethodGet, "/v1/models/" + canaries["path"] + "?key=" + canaries["query"], ""},
		{canaries["query"], "/v1/models", ""},
	} {
		req, err := http.NewRequest(c.method, n.base+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = header.Clone()
		req.Header.Set("Content-Type", "application/json")
		resp, err := caller.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode < 400 {
			t.Errorf("%s %s: %d %v", c.method, c.path, resp.StatusCode, err)
		}
		resp.Body.Close()
	}

	// The search: counters first, then everything that was written.
	found := 0
	search := func(where string, b []byte) {
		found++
		for name, c := range canaries {
			for _, form := range forms(c) {
				if bytes.Contains(b, []byte(form)) {
					t.Errorf("the %s canary is in %s", name, where)
				}
			}
		}
	}
	s := n.quiet()
	for _, url := range []string{n.base + "/metrics", n.base + "/healthz", n.base + "/readyz"} {
		_, h, body, err := get(url)
		if err != nil {
			t.Fatal(err)
		}
		search(url, []byte(fmt.Sprint(h)+body))
	}
	for _, c := range s.Children {
		if c.Role == "chain" {
			continue
		}
		for _, path := range []string{"/jsonstats", "/stats", "/metrics", "/healthz", "/readyz"} {
			_, _, body, err := get(c.Status + path)
			if err != nil {
				t.Fatal(err)
			}
			search(c.Name+path, []byte(body))
		}
	}
	n.stop()
	search("what `up` printed", []byte(n.stdout.String()+n.stderr.String()))
	files := 0
	if err := filepath.WalkDir(n.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files++
		search(strings.TrimPrefix(path, n.dir+"/"), b)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if files < 15 || found < 20 {
		t.Errorf("only %d files and %d places were searched", files, found)
	}
	// The engine gets the request and nothing else of the caller.
	mu.Lock()
	defer mu.Unlock()
	for _, name := range []string{"key", "header", "cookie", "agent", "query", "path"} {
		if strings.Contains(heard.String(), canaries[name]) {
			t.Errorf("the %s canary reached the engine: %s", name, heard.String())
		}
	}
	if strings.Count(heard.String(), "/chat/completions") < 4 {
		t.Errorf("the engine heard too little: %s", heard.String())
	}
	t.Logf("%d places searched, %d of them files", found, files)
}

// forms are the ways in which a text could stand in a file.
func forms(s string) []string {
	quoted, _ := json.Marshal(s)
	out := []string{s, strings.Trim(string(quoted), `"`), hex.EncodeToString([]byte(s)), strings.ToLower(s), strings.ToUpper(s)}
	// Base64 depends on where in the whole the text begins; its middle does
	// not depend on what follows.
	for shift := range 3 {
		b := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), s...))
		out = append(out, b[4:len(b)-4])
	}
	return out
}
