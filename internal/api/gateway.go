package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/guard"
	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Config is what a Gateway needs. Zero values have the meaning given.
type Config struct {
	// Backend runs the calls. Required.
	Backend Backend
	// Logger gets one line a request, without content; nil discards.
	Logger *slog.Logger
	// Hosts are the names a Host header may have besides loopback addresses
	// and "localhost"; without a port any port is meant.
	Hosts []string
	// Origins are the web origins ("https://app.example") whose pages may
	// call; none by default.
	Origins []string
	// DefaultMaxTokens is the limit of output tokens of one choice if the
	// caller gives none; 0 = 1024. It is written into the body, so that the
	// engine stops at what was reserved.
	DefaultMaxTokens int32
	// MaxTokens is the highest reservation of one call, all choices together;
	// 0 = 1,048,576.
	MaxTokens int32
	// MaxBody bounds a request's body; 0 = 8 MiB, which fits a packet with
	// room for the rest.
	MaxBody int64
	// MaxAnswer bounds an answer that is not streamed; 0 = 32 MiB.
	MaxAnswer int64
	// MaxCalls bounds the calls at a time; 0 = 256. MaxWaiting more wait for a
	// place, for QueueWait at most; 0 = as many again, and 10 s. The rest gets 429.
	MaxCalls, MaxWaiting int
	QueueWait            time.Duration
	// BodyTimeout bounds the time a body takes to arrive; 0 = 60 s.
	BodyTimeout time.Duration
	// Timeout bounds a call if the caller names no time; 0 = 300 s.
	Timeout time.Duration
	// MaxTimeout is the longest time a caller may name; 0 = 1 h.
	MaxTimeout time.Duration
	// WriteTimeout is how long a caller may leave written bytes unread before
	// the call is given up; 0 = 60 s.
	WriteTimeout time.Duration
	// KeepAlive is how long a stream may be silent before a comment is sent;
	// 0 = never.
	KeepAlive time.Duration
	// Reference says that workers of the reference network may serve calls;
	// fields that they refuse are then refused here.
	Reference bool
	// Seal is the mode of sealing that the network's profile says; callers may
	// only tighten it. "" = require.
	Seal Seal
	// Workers says, as JSON, what was verified of the workers; nil = there is no
	// such page.
	Workers func() any
	// Simulated says that the network's hardware is simulated: then every
	// answer's header and every log line says so too.
	Simulated bool
	// Verification says, as JSON, what was verified of the network's peers;
	// nil = there is no such page.
	Verification func() any
	// Receipt returns, as JSON, the receipt of a request by its id; an error
	// means that there is none. nil = no receipts are kept.
	Receipt func(id string) (any, error)
	// Team knows who may call; nil = everyone who reaches the gateway, which is
	// for loopback.
	Team Team
	// Answers keeps the answers of calls with an Idempotency-Key; nil = this
	// process's memory.
	Answers Answers
	// Ready says whether calls can be served now; nil = some model is served.
	Ready func(context.Context) error
}

// Gateway is the OpenAI-compatible HTTP surface, an http.Handler.
type Gateway struct {
	cfg     Config
	log     *slog.Logger
	guard   guard.Guard
	queue   *queue
	metrics metrics
	// secret derives the keys of kept answers where callers have no API keys.
	secret   [32]byte
	settling sync.WaitGroup
}

// New makes a Gateway.
func New(cfg Config) (*Gateway, error) {
	if cfg.Backend == nil {
		return nil, errors.New("api: Config.Backend is nil; a gateway needs someone who runs its calls")
	}
	for name, v := range map[string]int64{
		"DefaultMaxTokens": int64(cfg.DefaultMaxTokens), "MaxTokens": int64(cfg.MaxTokens), "MaxBody": cfg.MaxBody,
		"MaxAnswer": cfg.MaxAnswer, "MaxCalls": int64(cfg.MaxCalls), "MaxWaiting": int64(cfg.MaxWaiting), "QueueWait": int64(cfg.QueueWait), "BodyTimeout": int64(cfg.BodyTimeout), "Timeout": int64(cfg.Timeout),
		"MaxTimeout": int64(cfg.MaxTimeout), "WriteTimeout": int64(cfg.WriteTimeout), "KeepAlive": int64(cfg.KeepAlive),
	} {
		if v < 0 {
			return nil, fmt.Errorf("api: Config.%s is negative; 0 means the default", name)
		}
	}
	setDefault(&cfg.DefaultMaxTokens, 1024)
	setDefault(&cfg.MaxTokens, 1<<20)
	setDefault(&cfg.MaxBody, 8<<20)
	setDefault(&cfg.MaxAnswer, 32<<20)
	setDefault(&cfg.MaxCalls, 256)
	setDefault(&cfg.MaxWaiting, cfg.MaxCalls)
	setDefault(&cfg.QueueWait, 10*time.Second)
	setDefault(&cfg.BodyTimeout, 60*time.Second)
	setDefault(&cfg.MaxTimeout, time.Hour)
	setDefault(&cfg.Timeout, min(300*time.Second, cfg.MaxTimeout))
	setDefault(&cfg.WriteTimeout, 60*time.Second)
	if cfg.DefaultMaxTokens > cfg.MaxTokens {
		return nil, errors.New("api: Config.DefaultMaxTokens is above MaxTokens")
	}
	if cfg.Timeout > cfg.MaxTimeout {
		return nil, errors.New("api: Config.Timeout is above MaxTimeout")
	}
	setDefault(&cfg.Seal, SealRequire)
	if cfg.Answers == nil {
		cfg.Answers = &memoryAnswers{}
	}
	pages, err := guard.New(cfg.Hosts, cfg.Origins)
	if err != nil {
		return nil, err
	}
	g := &Gateway{cfg: cfg, log: cfg.Logger, guard: pages, queue: newQueue(cfg.MaxCalls, cfg.MaxWaiting, cfg.QueueWait)}
	rand.Read(g.secret[:])
	if g.log == nil {
		g.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Simulated {
		g.log = g.log.With("network", "SIMULATED")
	}
	return g, nil
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// route is one path of the surface.
type route struct {
	name   string // in metrics and logs; never what the caller wrote
	method string
	serve  func(*Gateway, *exchange) error
}

var routes = map[string]route{
	pathChat:           {"chat", http.MethodPost, askCall.serve},
	pathCompletions:    {"completions", http.MethodPost, askCall.serve},
	pathEmbeddings:     {"embeddings", http.MethodPost, askCall.serve},
	pathTranscriptions: {"transcriptions", http.MethodPost, askTranscription.serve},
	"/v1/responses":    {"responses", http.MethodPost, askResponses.serve},
	pathMessages:       {"messages", http.MethodPost, askMessages.serve},
	"/v1/models":       {"models", http.MethodGet, (*Gateway).serveModels},
	"/v1/verification": {"verification", http.MethodGet, (*Gateway).serveVerification},
	"/v1/workers":      {"workers", http.MethodGet, (*Gateway).serveWorkers},
	"/v1/usage":        {"usage", http.MethodGet, (*Gateway).serveUsage},
	"/openapi.json":    {"openapi", http.MethodGet, (*Gateway).serveOpenAPI},
	"/healthz":         {"healthz", http.MethodGet, (*Gateway).serveHealth},
	"/readyz":          {"readyz", http.MethodGet, (*Gateway).serveReady},
	"/metrics":         {"metrics", http.MethodGet, (*Gateway).serveMetrics},
}

// modelPrefix is the path of one model; its id may contain slashes.
const modelPrefix = "/v1/models/"

// receiptPrefix is the path of one receipt.
const receiptPrefix = "/v1/receipts/"

func findRoute(path string) (route, bool) {
	if r, ok := routes[path]; ok {
		return r, true
	}
	if id, ok := strings.CutPrefix(path, modelPrefix); ok && id != "" {
		return route{"model", http.MethodGet, (*Gateway).serveModel}, true
	}
	if id, ok := strings.CutPrefix(path, receiptPrefix); ok && id != "" && !strings.Contains(id, "/") {
		return route{"receipt", http.MethodGet, (*Gateway).serveReceipt}, true
	}
	return route{name: "unknown"}, false
}

// exchange is one HTTP request and what became of its answer.
type exchange struct {
	w  *guard.Response
	r  *http.Request
	id string
	// key is the caller's; nil where no keys are asked for.
	key *Key
}

// ServeHTTP answers one request. Every failure is an OpenAI error object.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	x := &exchange{w: &guard.Response{ResponseWriter: w}, r: r, id: newRequestID()}
	w.Header().Set("X-Request-Id", x.id)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if g.cfg.Simulated {
		w.Header().Set("X-Cocoon-Simulated", "true")
	}
	rt, _ := findRoute(r.URL.Path)
	g.metrics.inFlight.Add(1)
	defer g.metrics.inFlight.Add(-1)
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		// The value of a panic may hold content; where it happened does not.
		g.log.Error("gateway panicked", "request", x.id, "route", rt.name, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
		fail, begun := openai.Internal(), x.w.Wrote
		if !begun {
			x.writeError(fail)
		}
		g.finish(x, rt.name, begin, fail)
		if begun {
			panic(http.ErrAbortHandler) // so that the caller sees a cut
		}
	}()
	g.finish(x, rt.name, begin, g.serve(x))
}

// serve runs one request and returns what went wrong, having told the caller.
func (g *Gateway) serve(x *exchange) *openai.Error {
	if x.r.ContentLength != 0 {
		// Whoever reads the body, the server's own draining included, stops here.
		_ = x.rc().SetReadDeadline(time.Now().Add(g.cfg.BodyTimeout))
	}
	err := g.dispatch(x)
	if err == nil {
		return nil
	}
	fail := openai.From(err)
	if !x.w.Wrote { // streams tell their errors themselves
		x.writeError(fail)
	}
	return fail
}

// writeError sends an error as the whole answer, in the form of the path.
func (x *exchange) writeError(fail *openai.Error) {
	if x.r.URL.Path != pathMessages {
		fail.Write(x.w)
		return
	}
	fail.WriteBody(x.w, anthropicError(fail, x.id))
}

func (g *Gateway) dispatch(x *exchange) error {
	if err := g.guard.Check(x.w, x.r); err != nil {
		return err
	}
	rt, ok := findRoute(x.r.URL.Path)
	if !ok {
		return openai.NotFound(x.r.URL.Path)
	}
	switch {
	case x.r.Method == rt.method || rt.method == http.MethodGet && x.r.Method == http.MethodHead:
		if err := g.authenticate(x); err != nil {
			return err
		}
		return rt.serve(g, x)
	case x.r.Method == http.MethodOptions && g.guard.Preflight(x.w, x.r, rt.method):
		return nil
	}
	allow := rt.method
	if allow == http.MethodGet {
		allow = "GET, HEAD"
	}
	x.w.Header().Set("Allow", allow)
	return openai.MethodNotAllowed(x.r.Method, allow)
}

func (g *Gateway) finish(x *exchange, route string, begin time.Time, fail *openai.Error) {
	took := time.Since(begin)
	status := x.w.Status
	code := ""
	if fail != nil {
		// Message and param may come from an engine and repeat the prompt.
		code = knownCode(fail.Code)
		if code == openai.CodeCancelled {
			status = openai.StatusCancelled // even after a stream's 200
		}
	}
	g.metrics.request(route, status, code, took)
	g.log.Info("request", "request", x.id, "route", route, "status", status, "code", code, "ms", took.Milliseconds())
}

func newRequestID() string {
	var b [16]byte
	rand.Read(b[:])
	return "req_" + hex.EncodeToString(b[:])
}

func (x *exchange) rc() *http.ResponseController {
	return http.NewResponseController(x.w.ResponseWriter)
}

// writeJSON answers 200 with v.
func (x *exchange) writeJSON(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	x.w.Header().Set("Content-Type", "application/json")
	x.w.Header().Set("Cache-Control", "no-store")
	_, _ = x.w.Write(append(b, '\n'))
	return nil
}

// readBody reads the whole body, within size and time.
func (g *Gateway) readBody(x *exchange) ([]byte, error) {
	if x.r.ContentLength > g.cfg.MaxBody {
		g.drain(x, x.r.Body)
		return nil, openai.TooLarge(g.cfg.MaxBody)
	}
	// An announced length is believed up to 64 KiB; the rest has to come first.
	body, err := readAll(http.MaxBytesReader(x.w.ResponseWriter, x.r.Body, g.cfg.MaxBody), int(min(max(x.r.ContentLength, 0), 64<<10)))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		g.drain(x, x.r.Body)
		return nil, openai.TooLarge(g.cfg.MaxBody)
	case err != nil && isTimeout(err):
		x.w.Header().Set("Connection", "close")
		return nil, openai.Errorf(openai.CodeRequestTimeout, "The request body did not arrive within %v.", g.cfg.BodyTimeout)
	case err != nil && x.r.Context().Err() != nil:
		return nil, openai.Cancelled()
	case err != nil:
		return nil, openai.InvalidJSON("The request body ended early.")
	}
	// From here on, reading from the connection only means noticing that the
	// caller left.
	_ = x.rc().SetReadDeadline(time.Time{})
	return body, nil
}

// drainTime and drainRoom bound what is read and thrown away of a body that is
// too large: without it a caller that is still sending sees a reset connection
// and not why.
const (
	drainTime = 3 * time.Second
	drainRoom = 4 // times MaxBody
)

func (g *Gateway) drain(x *exchange, body io.Reader) {
	x.w.Header().Set("Connection", "close")
	_ = x.rc().SetReadDeadline(time.Now().Add(min(drainTime, g.cfg.BodyTimeout)))
	_, _ = io.CopyN(io.Discard, body, drainRoom*g.cfg.MaxBody)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// Active returns how many requests are being served.
func (g *Gateway) Active() int64 { return g.metrics.inFlight.Load() }
