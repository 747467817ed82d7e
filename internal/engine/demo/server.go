//go:build !tee

package demo

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// The names of what is served.
const (
	Model      = "cocoon-demo-1"
	EmbedModel = "cocoon-demo-embed-1"
)

// weights are trained by tools/train, from nothing.
//
//go:embed weights/cocoon-demo-1.gguf
var weights []byte

var weightsHash = sync.OnceValue(func() string {
	sum := sha256.Sum256(weights)
	return hex.EncodeToString(sum[:])
})

// FullName is the model's full name, name@id:hash: the id is the beginning of
// the hash, and the hash is SHA-256 of the embedded weights in hex.
func FullName() string { return Model + "@" + weightsHash()[:12] + ":" + weightsHash() }

// EmbedFullName is the full name of the embeddings' model. Its vectors are
// hashes of words and letters; only tokens are counted with the weights' own
// vocabulary, so the hash is the same.
func EmbedFullName() string { return EmbedModel + "@" + weightsHash()[:12] + ":" + weightsHash() }

// Config configures a Server. The zero value serves the embedded model.
type Config struct {
	// Weights is a GGUF file in place of the embedded one.
	Weights []byte
	// Threads bounds forward steps at one time; 0 = GOMAXPROCS.
	Threads int
	// Active bounds requests in work, Queue those that wait; 0 = 64 and 512.
	// Beyond both, requests get 429.
	Active, Queue int
	// MaxBody bounds a request body in bytes; 0 = 4 MiB.
	MaxBody int64
	// PrefixTokens bounds the prefix cache; 0 = 8192 tokens, negative = none.
	PrefixTokens int
	// Pace is a pause after each token, to make streaming visible; 0 = none.
	Pace time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Stats counts what was really computed since the start.
type Stats struct {
	Requests, Active, Waiting int64
	PromptTokens              int64 // computed, without those from the cache
	CachedTokens              int64
	PredictedTokens           int64 // end tokens included
}

// Server is the demo engine: an http.Handler with the OpenAI interface.
type Server struct {
	cfg      Config
	log      *slog.Logger
	model    *model
	gate     *semaphore.Weighted
	slots    *semaphore.Weighted
	scratch  sync.Pool
	prefixes prefixes
	mux      *http.ServeMux
	started  time.Time
	stats    struct{ requests, active, waiting, prompt, cached, predicted atomic.Int64 }
}

// New loads the model; it takes a few milliseconds.
func New(cfg Config) (*Server, error) {
	if cfg.Weights == nil {
		cfg.Weights = weights
	}
	if cfg.Threads <= 0 {
		cfg.Threads = runtime.GOMAXPROCS(0)
	}
	if cfg.Active <= 0 {
		cfg.Active = 64
	}
	if cfg.Queue <= 0 {
		cfg.Queue = 512
	}
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 4 << 20
	}
	if cfg.PrefixTokens == 0 {
		cfg.PrefixTokens = 8192
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := loadModel(cfg.Weights)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, model: m, gate: newGate(cfg.Threads), slots: semaphore.NewWeighted(int64(cfg.Active)), started: time.Now()}
	s.prefixes.limit = cfg.PrefixTokens
	s.scratch.New = func() any { return m.newScratch() }
	s.mux = http.NewServeMux()
	for path, h := range map[string]func(http.ResponseWriter, *http.Request, *openai.Object) error{
		"/v1/chat/completions": s.chat,
		"/v1/completions":      s.completions,
		"/v1/embeddings":       s.embeddings,
	} {
		s.mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { s.infer(w, r, h) })
		s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			openai.MethodNotAllowed(r.Method, http.MethodPost).Write(w)
		})
	}
	s.mux.HandleFunc("GET /v1/models", s.models)
	s.mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, fmt.Appendf(nil, `{"status":"ok","slots":%d}`, cfg.Active))
	})
	s.mux.HandleFunc("GET /metrics", s.metrics)
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { openai.NotFound(r.URL.Path).Write(w) })
	return s, nil
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	return Stats{
		Requests: s.stats.requests.Load(), Active: s.stats.active.Load(), Waiting: s.stats.waiting.Load(),
		PromptTokens: s.stats.prompt.Load(), CachedTokens: s.stats.cached.Load(), PredictedTokens: s.stats.predicted.Load(),
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// errGone says that the caller left; there is nobody to answer.
var errGone = errors.New("the caller left")

// infer reads a request, waits for a slot and runs h. An error of h before the
// first byte becomes the answer.
func (s *Server) infer(w http.ResponseWriter, r *http.Request, h func(http.ResponseWriter, *http.Request, *openai.Object) error) {
	s.stats.requests.Add(1)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, s.cfg.MaxBody))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			openai.TooLarge(s.cfg.MaxBody).Write(w)
		}
		return
	}
	o, err := openai.ParseObject(body)
	if err != nil {
		openai.InvalidJSON("the body is not a JSON object of moderate depth").Write(w)
		return
	}
	if s.stats.waiting.Add(1) > int64(s.cfg.Queue) {
		s.stats.waiting.Add(-1)
		openai.RateLimited(time.Second, "the demo engine has too many requests waiting").Write(w)
		return
	}
	err = s.slots.Acquire(r.Context(), 1)
	s.stats.waiting.Add(-1)
	if err != nil {
		return
	}
	defer s.slots.Release(1)
	s.stats.active.Add(1)
	defer s.stats.active.Add(-1)
	if err := h(w, r, o); err != nil && r.Context().Err() == nil && !errors.Is(err, errGone) {
		openai.From(err).Write(w)
	}
}

func writeJSON(w http.ResponseWriter, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	// Chunked, always: a length would not survive peers that rewrite bodies
	// (spec network-protocol 5.5).
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	w.Write(append(b, '\n'))
}

func (s *Server) models(w http.ResponseWriter, _ *http.Request) {
	b := []byte(`{"object":"list","data":[`)
	for i, id := range []string{Model, EmbedModel} {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"id":%q,"object":"model","created":%d,"owned_by":"cocoon"`, id, s.started.Unix())
		if id == Model {
			b = fmt.Appendf(b, `,"max_model_len":%d`, s.model.context)
		}
		b = append(b, '}')
	}
	writeJSON(w, append(b, "]}"...))
}

// metrics speaks the Prometheus text format; the names follow llama-server's.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	st := s.Stats()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	for _, m := range []struct {
		name, kind, help string
		v                int64
	}{
		{"prompt_tokens_total", "counter", "Prompt tokens computed.", st.PromptTokens},
		{"prompt_tokens_cached_total", "counter", "Prompt tokens taken from the prefix cache.", st.CachedTokens},
		{"tokens_predicted_total", "counter", "Tokens generated.", st.PredictedTokens},
		{"requests_total", "counter", "Inference requests received.", st.Requests},
		{"requests_processing", "gauge", "Requests in work.", st.Active},
		{"requests_deferred", "gauge", "Requests waiting for a slot.", st.Waiting},
	} {
		fmt.Fprintf(w, "# HELP cocoon_demo:%s %s\n# TYPE cocoon_demo:%s %s\ncocoon_demo:%s %d\n", m.name, m.help, m.name, m.kind, m.name, m.v)
	}
}

// Warm runs one token, so that the first request finds everything in place.
func (s *Server) Warm(ctx context.Context) error {
	var logits []float32
	return s.step(ctx, s.model.newCache(), []int32{s.model.tok.start}, true, &logits)
}
