package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/engine/enginetest"
)

var dialects = []engine.Dialect{engine.VLLM, engine.SGLang, engine.LlamaCpp, engine.Ollama, engine.Demo, engine.Unknown}

func standIn(t *testing.T, d engine.Dialect) string {
	return serve(t, enginetest.Make(d, &enginetest.StandIn{Model: "m", Tokens: 3}).ServeHTTP)
}

// TestProbe: each make is known by its pages at a port that says nothing, and
// the three steps pass.
func TestProbe(t *testing.T) {
	for _, d := range dialects {
		r := client(t, engine.Config{BaseURL: standIn(t, d)}).Probe(t.Context(), "")
		if !r.OK() || r.Dialect != d || !slices.Equal(r.Models, []string{"m"}) || r.Caps != d.Caps() || len(r.Steps) != 3 {
			t.Errorf("%q: %+v", d, r)
		}
		if silent := d == engine.Ollama || d == engine.Unknown; silent != math.IsNaN(r.Load.Running) || !silent && (r.Load.Running != 0 || r.Load.Waiting != 2) {
			t.Errorf("%q: %+v", d, r.Load)
		}
	}
}

// TestOtherOwner: an engine whose models somebody else owns is known by a page
// of its own.
func TestOtherOwner(t *testing.T) {
	for _, d := range []engine.Dialect{engine.VLLM, engine.SGLang, engine.LlamaCpp, engine.Ollama} {
		real := enginetest.Make(d, &enginetest.StandIn{Model: "m"})
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v1/models" {
				io.WriteString(w, `{"data":[{"id":"m","owned_by":"somebody"}]}`)
				return
			}
			real.ServeHTTP(w, r)
		})
		if got, err := client(t, engine.Config{BaseURL: url}).Detect(t.Context()); err != nil || got != d {
			t.Errorf("%s: %q %v", d, got, err)
		}
	}
	// One page for all paths is nobody's fingerprint.
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"data":[{"id":"m","owned_by":"library"}]}`)
	})
	if got, err := client(t, engine.Config{BaseURL: url}).Detect(t.Context()); err != nil || got != engine.Unknown {
		t.Errorf("%q %v", got, err)
	}
}

// TestProbeFailures: the step that fails names its fault, and what follows it
// is skipped.
func TestProbeFailures(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	page := func(path string, status int, text string) string {
		real := enginetest.Make(engine.LlamaCpp, &enginetest.StandIn{Model: "m"})
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path {
				w.WriteHeader(status)
				io.WriteString(w, text)
				return
			}
			real.ServeHTTP(w, r)
		})
	}
	refuses := enginetest.Make(engine.VLLM, &enginetest.StandIn{Model: "m", Fault: func() enginetest.Fault { return enginetest.Refuse }})
	for name, c := range map[string]struct {
		url   string
		steps string
		say   string
	}{
		"nobody":     {gone.URL, "failed skipped skipped", "cannot be reached"},
		"locked":     {page("/v1/models", 401, ""), "ok failed skipped", "401"},
		"loading":    {page("/health", 503, ""), "ok failed skipped", "/health answers 503"},
		"no model":   {page("/v1/models", 200, `{"data":[]}`), "ok failed skipped", "lists no model"},
		"no token":   {serve(t, refuses.ServeHTTP), "ok ok failed", "status 503"},
		"not OpenAI": {page("/v1/models", 200, "SECRET"), "ok failed skipped", "not a list"},
	} {
		r := client(t, engine.Config{BaseURL: c.url}).Probe(t.Context(), "")
		var got, details []string
		for _, s := range r.Steps {
			got, details = append(got, s.Result), append(details, s.Detail)
		}
		all := strings.Join(details, "; ")
		if r.OK() || strings.Join(got, " ") != c.steps || !strings.Contains(all, c.say) || strings.Contains(all, "SECRET") {
			t.Errorf("%s: %s: %s", name, got, all)
		}
	}
}

// TestFind: the first engine with a known fingerprint is taken; what only
// answers is not.
func TestFind(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	empty := serve(t, func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	places := []string{gone.URL, empty, standIn(t, engine.Unknown), standIn(t, engine.Ollama), standIn(t, engine.VLLM)}
	found := engine.Find(t.Context(), places)
	for i, want := range []engine.Dialect{"", "", "", engine.Ollama, engine.VLLM} {
		if f := found[i]; f.BaseURL != places[i] || f.Dialect != want || (f.Err == nil) != (want != "") {
			t.Errorf("%d: %+v", i, f)
		}
	}
	url, d, err := engine.TestOnlyAuto(t.Context(), places)
	if err != nil || url != places[3] || d != engine.Ollama {
		t.Errorf("%s %s %v", url, d, err)
	}
	_, _, err = engine.TestOnlyAuto(t.Context(), places[:3])
	if !errors.Is(err, engine.ErrNoEngine) || !strings.Contains(fmt.Sprint(err), gone.URL+": the engine cannot be reached") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := engine.TestOnlyAuto(ctx, places); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := engine.UsualPlaces(); !slices.Equal(got, []string{"http://127.0.0.1:8000", "http://127.0.0.1:30000", "http://127.0.0.1:8080", "http://127.0.0.1:11434"}) {
		t.Error(got)
	}
}

const openFor = 30 * time.Second

// inProcess is a transport to a handler, for tests with a clock of their own.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

// TestOpen: the client of an engine that loads for a while knows its make in
// the end, and gives up with its context.
func TestOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		real := enginetest.Make(engine.SGLang, &enginetest.StandIn{Model: "m"})
		var looks atomic.Int32
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if looks.Add(1) < 5 {
				w.WriteHeader(503)
				return
			}
			real.ServeHTTP(w, r)
		})
		c, err := engine.Open(t.Context(), engine.Config{BaseURL: "http://engine", Transport: inProcess{h}})
		if err != nil || c.Dialect() != engine.SGLang || !c.Caps().ContinuousUsage || looks.Load() != 5 {
			t.Errorf("%v, %d looks", err, looks.Load())
		}
		ctx, cancel := context.WithTimeout(t.Context(), openFor)
		defer cancel()
		if _, err := engine.Open(ctx, engine.Config{BaseURL: "http://engine", Transport: inProcess{http.NotFoundHandler()}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}
