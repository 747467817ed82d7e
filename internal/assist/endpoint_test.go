package assist

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// An engine that closes a connection in the moment it is used again has not
// failed: the call goes out once more.
func TestEngineClosesIdleConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answered := make(chan int, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, req.Body)
				body := "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\ndata: [DONE]\n\n"
				resp := http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body))}
				_ = resp.Write(c)
				answered <- len(req.Header.Values("Idempotency-Key"))
				_, _ = r.ReadByte() // the next request is there: close
			}()
		}
	}()
	e := &Endpoint{Base: "http://" + l.Addr().String() + "/v1", Model: "m", HTTP: &http.Client{Transport: &http.Transport{}}}
	for range 4 {
		if r, err := e.Complete(t.Context(), &Call{Prompt: "x@1", User: "{}"}); err != nil || r.Text != "hi" {
			t.Fatalf("%+v %v", r, err)
		}
		if n := <-answered; n != 0 {
			t.Error("a header for net/http alone went out")
		}
	}
}

type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// An endpoint that comes back with another model is asked for that one; while
// it is away, the last one known is.
func TestModelsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		list, status, asked := `{"data":[{"id":"first"},{"id":"first-embed"}]}`, 200, 0
		e := &Endpoint{Base: "http://engine/v1", HTTP: &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
			asked++
			w := httptest.NewRecorder()
			w.WriteHeader(status)
			_, _ = io.WriteString(w, list)
			return w.Result(), nil
		})}}
		want := func(model string, times int) {
			t.Helper()
			i, err := e.Info(t.Context())
			if err != nil || i.Model != model || i.EmbedModel != model+"-embed" || asked != times {
				t.Errorf("%+v %v, asked %d times, not %d", i, err, asked, times)
			}
		}
		want("first", 1)
		list = `{"data":[{"id":"second"},{"id":"second-embed"}]}`
		want("first", 1)
		time.Sleep(listFor)
		want("second", 2)
		time.Sleep(listFor)
		status = 503
		want("second", 3)
		want("second", 3)
	})
}
