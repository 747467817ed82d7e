package engine

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestOrderComesBack(t *testing.T) {
	for _, o := range []Order{
		{ID: 7, Stream: true, Chunks: 50, Size: 30, Pace: 20 * time.Millisecond, First: time.Microsecond},
		{ID: 0, Chunks: 1, Size: 500},
		{ID: 1, Stream: true, NDJSON: true, Chunks: 3},
	} {
		if got, err := ParseOrder(o.Body()); err != nil || got != o {
			t.Errorf("%+v came back as %+v, %v", o, got, err)
		}
	}
	for _, bad := range []string{"", `{"messages":[]}`, `"bench 1 2 3."`, `"bench 1 0 x 0 0 0."`, `"bench 1 0 -4 0 0 0."`} {
		if _, err := ParseOrder([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestAnswers(t *testing.T) {
	srv := httptest.NewServer(&Handler{})
	defer srv.Close()
	for _, o := range []Order{{ID: 3, Chunks: 2, Size: 20}, {ID: 4, Stream: true, Chunks: 5, Size: 20}, {ID: 5, Stream: true, NDJSON: true, Chunks: 5}} {
		resp, err := srv.Client().Post(srv.URL+"/v1/chat/completions", "application/json", bytes.NewReader(o.Body()))
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := b.ReadFrom(resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		for i := range o.Chunks {
			if !bytes.Contains(b.Bytes(), o.AppendContent(nil, i)) {
				t.Errorf("%+v: piece %d is missing in %s", o, i, b.String())
			}
		}
		if !strings.Contains(b.String(), `"usage":`) {
			t.Errorf("%+v: no usage", o)
		}
		if o.Stream && !o.NDJSON != strings.HasSuffix(b.String(), "data: [DONE]\n\n") {
			t.Errorf("%+v: wrong end", o)
		}
	}
}
