//go:build !tee

package cli

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/engine/demo"
)

func TestAssistRefusesStrangers(t *testing.T) {
	s := newShell(t)
	short := s.file("short.txt", "# keys\nabc\n", 0o600)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"assist", "--listen", "0.0.0.0:0"}, exitUsage, "--keys"},
		{[]string{"assist", "--listen", "127.0.0.1:0", "--host", "assist.example"}, exitUsage, "--keys"},
		{[]string{"assist", "--listen", "nowhere"}, exitUsage, "--listen"},
		{[]string{"assist", "--per-minute", "0"}, exitUsage, "--per-minute"},
		{[]string{"assist", "--listen", "127.0.0.1:0", "--upstream", "x"}, exitUsage, "http://"},
		{[]string{"assist", "--listen", "127.0.0.1:0", "--upstream", "http://127.0.0.1:1/v1", "--keys", short}, exitFailed, "16 characters"},
		{[]string{"up", "--assist=0.0.0.0:0"}, exitUsage, "--keys"},
	} {
		if got := s.run(c.args...); got.code != c.code || !strings.Contains(got.stderr, c.says) {
			t.Errorf("%v: %+v", c.args, got)
		}
	}
}

// The command serves the tasks of an endpoint until it is stopped.
func TestAssistServes(t *testing.T) {
	e, err := demo.New(demo.Config{})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(e)
	defer srv.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		done <- Main(ctx, Env{Args: []string{"assist", "--listen", "127.0.0.1:0", "--upstream", srv.URL + "/v1", "--dir", t.TempDir()}, Stdin: strings.NewReader(""), Stdout: w, Stderr: io.Discard})
		w.Close()
	}()
	b := make([]byte, 200)
	n, err := r.Read(b)
	line, ok := strings.CutPrefix(strings.TrimSpace(string(b[:n])), "assist ")
	if err != nil || !ok {
		t.Fatalf("%q %v", b[:n], err)
	}
	resp, err := http.Post(line+"/assist/v1/translate", "application/json", strings.NewReader(`{"texts":[{"text":"Thank you!"}],"to":"id"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 200 || !strings.Contains(string(answer), `"texts":[{"text":`) {
		t.Errorf("%d %s", resp.StatusCode, answer)
	}
	cancel()
	if code := <-done; code != exitOK {
		t.Errorf("exit code %d", code)
	}
}
