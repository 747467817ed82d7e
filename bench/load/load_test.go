package load

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/bench/engine"
)

func TestHistogramKeepsValues(t *testing.T) {
	var h Histogram
	var all []time.Duration
	for i := range 5000 {
		d := time.Duration(i*i*37 + i)
		all = append(all, d)
		h.Add(d)
	}
	slices.Sort(all)
	for _, q := range []float64{0.01, 0.5, 0.9, 0.99, 1} {
		want := all[int(q*float64(len(all)))-1]
		got := h.Quantile(q)
		if diff := float64(got-want) / float64(want+1); diff > 0.016 || diff < -0.016 {
			t.Errorf("quantile %v: %v, want %v", q, got, want)
		}
	}
	for _, d := range []time.Duration{0, 1, 63, 64, 127, 128, 129, 1 << 20, 1<<40 + 12345} {
		if b := bucketOf(d); lowest(b) > d || lowest(b+1) <= d {
			t.Errorf("%d is in bucket [%d, %d)", d, lowest(b), lowest(b+1))
		}
	}
	var sum Histogram
	sum.Merge(&h)
	sum.Merge(&h)
	if sum.Count() != 10000 || sum.Quantile(0.5) != h.Quantile(0.5) {
		t.Error("merging changed the values")
	}
}

func TestRunChecksAnswers(t *testing.T) {
	srv := httptest.NewServer(&engine.Handler{})
	defer srv.Close()
	for _, stream := range []bool{false, true} {
		r := Run(context.Background(), Plan{
			Addrs: []string{srv.Listener.Addr().String()}, Conns: 4, Count: 200, Time: time.Minute, Cancel: 0.3,
			Order: engine.Order{Stream: stream, Chunks: 6, Size: 40},
		}, nil, nil)
		if len(r.Errors) > 0 || r.Requests+r.Cancelled != 200 || r.Latency.Count() != r.Requests {
			t.Errorf("stream=%v: %d requests, %d cancelled, %v", stream, r.Requests, r.Cancelled, r.Errors)
		}
		if stream && r.Cancelled == 0 {
			t.Error("nobody hung up")
		}
	}
}

// TestFaultsAreNoticed: what a careless reader would take for an answer.
func TestFaultsAreNoticed(t *testing.T) {
	o := engine.Order{ID: 5, Stream: true, Chunks: 2, Size: 16}
	event := func(i int) string {
		return `data: {"choices":[{"delta":{"content":"` + string(o.AppendContent(nil, i)) + `"}}]}` + "\n\n"
	}
	usage, done := "data: {\"choices\":[],\"usage\":{}}\n\n", "data: [DONE]\n\n"
	for name, c := range map[string]struct {
		body string
		want error
	}{
		"good":           {event(0) + event(1) + usage + done, nil},
		"one missing":    {event(0) + usage + done, ErrTruncated},
		"no end":         {event(0) + event(1) + usage, ErrTruncated},
		"no usage":       {event(0) + event(1) + done, ErrWrong},
		"out of order":   {event(1) + event(0) + usage + done, ErrWrong},
		"after the end":  {event(0) + event(1) + usage + done + event(0), ErrWrong},
		"someone else's": {strings.ReplaceAll(event(0), "<5.", "<6."), ErrWrong},
		"error event":    {event(0) + `data: {"error":{}}` + "\n\n", ErrTruncated},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(c.body))
		}))
		_, err := NewConn(srv.Listener.Addr().String()).Do(o, 0)
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		srv.Close()
	}
}

func TestCutConnectionsAreNoticed(t *testing.T) {
	for head, want := range map[string]error{
		"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{":                   ErrTruncated,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello":   ErrTruncated,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello":  ErrWrong,
		"HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n":             ErrRefused,
		"HTTP/1.1 200 OK\r\n\r\n":                                           ErrWrong,
		"SSH-2.0-OpenSSH_9.2p1 Debian\r\n":                                  ErrWrong,
		"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nxx": ErrWrong,
	} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = c.Write([]byte(head))
			}
		}()
		if _, err := NewConn(ln.Addr().String()).Do(engine.Order{Chunks: 1, Size: 10}, 0); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", head, err, want)
		}
		ln.Close()
	}
}
