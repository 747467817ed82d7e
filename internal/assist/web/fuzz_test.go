//go:build !tee

package web

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/assist"
)

// Whatever a caller sends, the server answers and is not at fault.
func FuzzRequest(f *testing.F) {
	s, err := New(Config{
		Endpoint:  &assist.Endpoint{Base: "http://engine/v1", HTTP: &http.Client{Transport: &bigModel{cost: "1"}}},
		PerMinute: 1 << 30, Burst: 1 << 30, IndexDir: f.TempDir(),
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	paths := slices.Sorted(maps.Keys(s.routes))
	for i := range paths {
		f.Add(i, `{"messages":`+chatJSON+`}`, false)
		f.Add(i, `{"query":"boat","chats":["c"],"n":3}`, true)
	}
	f.Add(0, `{"text":"a 😀 b","entities":[{"type":"bold","offset":2,"length":2}],"tone":"formal"}`, true)
	f.Add(0, `{"texts":[{"text":"hello there","entities":[{"type":"url","offset":0,"length":5}]}],"to":"ru","mask":true}`, false)
	f.Add(0, `{"chat":"c","messages":`+chatJSON+`,"delete":[1,"x-2"],"forget":true}`, false)
	f.Fuzz(func(t *testing.T, path int, body string, stream bool) {
		name := paths[uint(path)%uint(len(paths))]
		if strings.HasSuffix(name, "/") {
			return
		}
		r := httptest.NewRequest("POST", "http://localhost"+prefix+name, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.RemoteAddr = "127.0.0.1:1"
		if stream {
			r.Header.Set("Accept", "text/event-stream")
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError || strings.Contains(w.Body.String(), "internal_error") {
			t.Fatalf("%s %q: %s", name, body, w.Body)
		}
	})
}
