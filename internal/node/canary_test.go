//go:build !tee

package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
	"github.com/cocoon-network/cocoon/internal/role/worker"
	"github.com/cocoon-network/cocoon/internal/tee"
)

// wiretap keeps every byte that a listener's connections carry once TLS is
// taken off: what the process behind it gets to see.
type wiretap struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *wiretap) add(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b.Write(b)
}

func (w *wiretap) has(s string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.b.Bytes(), []byte(s))
}

type tappedListener struct {
	tee.Listener
	tap *wiretap
}

func (l tappedListener) Accept(ctx context.Context) (*tee.Conn, error) {
	c, err := l.Listener.Accept(ctx)
	if err == nil {
		c.Conn = tappedConn{c.Conn, l.tap}
	}
	return c, err
}

type tappedConn struct {
	net.Conn
	tap *wiretap
}

func (c tappedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.tap.add(b[:n])
	return n, err
}

func (c tappedConn) Write(b []byte) (int, error) {
	c.tap.add(b)
	return c.Conn.Write(b)
}

// parrot is an engine that answers with what it was told, streamed or not.
func parrot(model string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			fmt.Fprintf(w, `{"object":"list","data":[{"id":%q,"object":"model"}]}`, model)
			return
		}
		var q struct {
			Stream   bool `json:"stream"`
			Messages []struct{ Content string }
		}
		_ = json.NewDecoder(r.Body).Decode(&q)
		said, _ := json.Marshal(strings.Replace(q.Messages[0].Content, "prompt", "answer", 1))
		const usage = `"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}`
		if !q.Stream {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":%s},"finish_reason":"stop"}],%s}`, said, usage)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprintf(w, "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":%s}}]}\n\n", said)
		fmt.Fprintf(w, "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n")
		fmt.Fprintf(w, "data: {\"object\":\"chat.completion.chunk\",\"choices\":[],%s}\n\ndata: [DONE]\n\n", usage)
	})
}

// TestProxyLearnsNothing: 100 sealed requests and their answers, and neither in
// what the proxy receives and sends, decrypted, nor in its disk, log and
// metrics. With sealing off the same search finds both, so it can see.
func TestProxyLearnsNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []api.Seal{api.SealRequire, api.SealOff} {
		t.Run(string(mode), func(t *testing.T) {
			tap, log, dir := &wiretap{}, &syncBuffer{}, t.TempDir()
			n := startNet(t, sealedAs(mode), func(n *testNet) {
				n.tap, n.ledgerDir = tap, dir
				n.log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
			})
			srv := httptest.NewServer(parrot(n.model.Base()))
			defer srv.Close()
			eng, err := engine.New(engine.Config{BaseURL: srv.URL})
			if err != nil {
				t.Fatal(err)
			}
			n.startWorker(1, &enginetest.StandIn{}, func(c *worker.Config) { c.Engine = eng })
			n.waitWorkers(1)
			for i := range 100 {
				stream := i%2 == 0
				body := fmt.Sprintf(`{"model":%q,"stream":%v,"max_tokens":10,"messages":[{"role":"user","content":"prompt-canary-%d-q7x"}]}`, n.model.Base(), stream, i)
				resp, err := http.Post(n.gateway.URL+"/v1/chat/completions", "application/json", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				var b bytes.Buffer
				_, _ = b.ReadFrom(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || !strings.Contains(b.String(), fmt.Sprintf("answer-canary-%d-q7x", i)) || stream && !strings.Contains(b.String(), "[DONE]") {
					t.Fatalf("request %d: %d %s", i, resp.StatusCode, &b)
				}
			}
			metrics, err := json.Marshal(n.proxy.Stats())
			if err != nil {
				t.Fatal(err)
			}
			disk := &wiretap{}
			err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				disk.add(b)
				return err
			})
			if err != nil || disk.b.Len() == 0 {
				t.Fatalf("%v, %d bytes on disk", err, disk.b.Len())
			}
			for _, canary := range []string{"prompt-canary-", "answer-canary-", "canary"} {
				if got, want := tap.has(canary), mode == api.SealOff; got != want {
					t.Errorf("%s in the proxy's traffic: %v, want %v", canary, got, want)
				}
				if disk.has(canary) || strings.Contains(log.String(), canary) || bytes.Contains(metrics, []byte(canary)) {
					t.Errorf("%s in disk, log or metrics", canary)
				}
			}
			if !tap.has(n.model.Base()) {
				t.Error("the tap hears nothing")
			}
		})
	}
}
