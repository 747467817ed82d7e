package openai_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/e2e/testee"
	"github.com/cocoon-network/cocoon/internal/api"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// target is an endpoint under test and the engine behind it.
type target struct {
	base   string // ends in /v1
	engine *wordEngine
	price  int64 // nano a token
}

func (t target) direct() string { return t.engine.URL + "/v1" }

// forEach runs test against the gateway alone and through a whole network.
func forEach(t *testing.T, test func(*testing.T, target)) {
	t.Run("gateway", func(t *testing.T) { test(t, startGateway(t)) })
	t.Run("network", func(t *testing.T) { test(t, network(t)) })
}

// startGateway puts a gateway straight in front of an engine.
func startGateway(t *testing.T) target {
	t.Helper()
	engine := startEngine(t)
	const price = 7
	gw, err := api.New(api.Config{Backend: engineBackend{engine.URL, price}})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(gw)
	srv.Config = api.Server(gw, nil)
	srv.Start()
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return target{srv.URL + "/v1", engine, price}
}

// engineBackend runs calls on an engine, without a network between.
type engineBackend struct {
	url   string
	price coins.Nano
}

func (b engineBackend) Models(context.Context) ([]api.Model, error) {
	return []api.Model{{ID: engineModel, PricePerToken: b.price, Workers: []api.Worker{{Coefficient: 1000, MaxActiveRequests: 8}}}}, nil
}

func (b engineBackend) Do(ctx context.Context, call *api.Call) (*api.Answer, error) {
	if call.Model != engineModel {
		return nil, openai.ModelNotFound(call.Model)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.url+call.Path, bytes.NewReader(call.Body))
	if err != nil {
		return nil, openai.Internal()
	}
	req.Header.Set("Content-Type", call.ContentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, openai.Upstream("The engine cannot be reached.")
	}
	meter := &meteredBody{ReadCloser: resp.Body}
	return &api.Answer{
		Status: resp.StatusCode, Header: resp.Header, Body: meter,
		Final: func() api.Final {
			u := meter.usage()
			return api.Final{PromptTokens: u.PromptTokens, CompletionTokens: u.CompletionTokens, TotalTokens: u.PromptTokens + u.CompletionTokens, CostNano: b.price * coins.Nano(u.PromptTokens+u.CompletionTokens)}
		},
	}, nil
}

// meteredBody remembers an answer, to read its usage at the end.
type meteredBody struct {
	io.ReadCloser
	seen bytes.Buffer
}

func (m *meteredBody) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	m.seen.Write(p[:n])
	return n, err
}

func (m *meteredBody) usage() (u openai.Usage) {
	if got, ok, err := openai.ScanUsage(m.seen.Bytes()); err == nil && ok {
		return got
	}
	er := openai.NewEventReader(&m.seen, 1<<20)
	for {
		ev, err := er.Next()
		if err != nil {
			return u
		}
		if got, ok, err := openai.ScanUsage(ev.Data); err == nil && ok {
			u.Merge(got)
		}
	}
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "cocoon-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	buildDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var buildDir string // gone when all tests have run

// binary builds the program once. COCOON_BIN names one built already.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("COCOON_BIN"); path != "" {
		return path, nil
	}
	path := filepath.Join(buildDir, "cocoon")
	return path, testee.Build(path)
})

// network starts a whole network over an engine of this test.
func network(t *testing.T) target {
	t.Helper()
	engine := startEngine(t)
	base := startUp(t, "--engine", engine.URL, "--model", engineModel)
	return target{base, engine, 20}
}

// startUp runs `cocoon up` until the test ends and returns its base URL. Its
// folder is a new one unless args name one.
func startUp(t *testing.T, args ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no processes")
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if i := slices.Index(args, "--dir"); i >= 0 {
		dir = args[i+1]
	}
	cmd := exec.Command(path, append([]string{"up", "--listen", "127.0.0.1:0", "--dir", dir}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan string, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			if url, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
				ready <- url
			}
		}
		close(ready)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		stopped := make(chan error, 1)
		go func() { <-drained; stopped <- cmd.Wait() }()
		select {
		case err := <-stopped:
			if err != nil {
				t.Errorf("cocoon up ended with %v\n%s", err, tail(&stderr, dir))
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-stopped
			t.Error("cocoon up did not stop within 30 s of an interrupt")
		}
	})
	select {
	case url, ok := <-ready:
		if !ok {
			t.Fatalf("cocoon up ended before it was ready\n%s", tail(&stderr, dir))
		}
		return url
	case <-time.After(90 * time.Second):
		t.Fatal("cocoon up was not ready within 90 s")
	}
	return ""
}

// tail is what a network that failed said last.
func tail(stderr *bytes.Buffer, dir string) string {
	out := stderr.String()
	logs, _ := filepath.Glob(filepath.Join(dir, "logs", "*"))
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err == nil {
			out += fmt.Sprintf("== %s\n%s", filepath.Base(name), b[max(0, len(b)-2000):])
		}
	}
	return out
}

// require skips a test that lacks something, or fails it where everything has
// to be there (COCOON_REQUIRE set).
func require(t *testing.T, have bool, what string) {
	t.Helper()
	if have {
		return
	}
	if os.Getenv("COCOON_REQUIRE") != "" {
		t.Fatalf("%s, and COCOON_REQUIRE is set", what)
	}
	t.Skip(what)
}
