package web

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime"
	"net/http"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/guard"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/assist"
	"github.com/cocoon-network/cocoon/internal/assist/index"
)

// Config is what a Server needs. Zero values have the meaning given.
type Config struct {
	// Endpoint answers the calls. Required.
	Endpoint *assist.Endpoint
	// Logger gets one line a request, without content; nil discards.
	Logger *slog.Logger
	// Hosts are the names a Host header may have besides loopback addresses
	// and "localhost".
	Hosts []string
	// User says who asks, for limits; an error refuses the request. nil = the
	// remote address, or with MiniApp nobody else.
	User func(*http.Request) (string, error)
	// MiniApp checks what a messenger tells the page of who opened it; who passes
	// gets a session, and is a user with limits and an index. Its error is told.
	// nil = there are no sessions.
	MiniApp func(data string, now time.Time) (Launch, error)
	// PerMinute is how many requests a user may make in the long run, Burst how
	// many at once after a pause; 0 = 60 and 20.
	PerMinute, Burst int
	// DailyNano is what a user's calls may cost in a day of UTC, in nano; 0 = no
	// limit. It is looked at before each call, so that the last one may pass it.
	// What was spent is forgotten when the server stops.
	DailyNano uint64
	// TotalNano is the same for all users together.
	TotalNano uint64
	// IndexMessages is how many messages a user's index may hold; 0 =
	// index.MaxMessages.
	IndexMessages int
	// IndexDir keeps the indexes of users' own messages, encrypted; "" = there is
	// no search.
	IndexDir string
	// Frames are origins whose pages may show the app in a frame, as
	// https://web.telegram.org does with Mini Apps; none by default.
	Frames []string
}

const (
	maxBody      = 8 << 20
	maxRunning   = 64 // requests at a time
	maxUserCalls = 4  // of one user
	bodyTimeout  = 60 * time.Second
	callTimeout  = 5 * time.Minute
	writeTimeout = 60 * time.Second
	keepAlive    = 15 * time.Second
)

// Server is the HTTP surface, an http.Handler.
type Server struct {
	cfg     Config
	log     *slog.Logger
	guard   guard.Guard
	limits  *limits
	indexes *indexes
	// sessions is nil where no messenger vouches for users.
	sessions *sessions
	running  chan struct{}
	app      map[string]*file
	csp      string
	routes   map[string]*route
	openAPI  []byte
}

//go:embed app
var appFiles embed.FS

// New makes a Server.
func New(cfg Config) (*Server, error) {
	if cfg.Endpoint == nil {
		return nil, errors.New("web: Config.Endpoint is nil; somebody must answer the calls")
	}
	if cfg.PerMinute < 0 || cfg.Burst < 0 {
		return nil, errors.New("web: Config.PerMinute or Burst is negative; 0 means the default")
	}
	if cfg.PerMinute == 0 {
		cfg.PerMinute = 60
	}
	if cfg.Burst == 0 {
		cfg.Burst = 20
	}
	if cfg.IndexMessages < 0 || cfg.IndexMessages > index.MaxMessages {
		return nil, fmt.Errorf("web: Config.IndexMessages is %d; 0 to %d are possible", cfg.IndexMessages, index.MaxMessages)
	}
	if cfg.IndexMessages == 0 {
		cfg.IndexMessages = index.MaxMessages
	}
	if cfg.User == nil && cfg.MiniApp == nil {
		cfg.User = RemoteUser
	}
	pages, err := guard.New(cfg.Hosts, nil)
	if err != nil {
		return nil, err
	}
	if _, err := guard.New(nil, cfg.Frames); err != nil { // origins of the same form
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, guard: pages, limits: newLimits(&cfg), indexes: newIndexes(&cfg), sessions: newSessions(&cfg), running: make(chan struct{}, maxRunning)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	frames := "'none'"
	if len(cfg.Frames) > 0 {
		frames = strings.Join(cfg.Frames, " ")
	}
	s.csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors " + frames
	if s.app, err = readApp(appFiles); err != nil {
		return nil, err
	}
	s.routes = routes()
	s.openAPI = openAPI(s.routes)
	return s, nil
}

// Close closes the indexes; no request may be running.
func (s *Server) Close() error { return s.indexes.close() }

// Probe asks the endpoint whether it answers.
func (s *Server) Probe(ctx context.Context) error {
	_, err := s.cfg.Endpoint.Info(ctx)
	return err
}

const prefix = "/assist/v1/"

// route is one path below prefix.
type route struct {
	method  string
	summary string
	in, out any // zero values, for the description; nil = none
	streams bool
	open    bool // asks nobody who he is
	serve   func(*Server, *exchange) error
}

func routes() map[string]*route {
	return map[string]*route{
		"translate": task("Translate texts, entities kept", false, func(c *call, rq *assist.TranslateRequest) (*assist.TranslateResult, error) {
			return c.Translate(c.ctx, rq)
		}),
		"summarize": task("Summarise messages or a long text, with references", true, func(c *call, rq *assist.SummarizeRequest) (*assist.SummarizeResult, error) {
			return c.Summarize(c.ctx, rq, c.tell)
		}),
		"compose": task("Proofread, translate or restyle a draft", true, func(c *call, rq *assist.ComposeRequest) (*assist.ComposeResult, error) {
			return c.Compose(c.ctx, rq, c.tell)
		}),
		"replies": task("Suggest short replies", false, func(c *call, rq *assist.RepliesRequest) (*assist.RepliesResult, error) {
			return c.Replies(c.ctx, rq)
		}),
		"classify": task("Label messages", false, func(c *call, rq *assist.ClassifyRequest) (*assist.ClassifyResult, error) {
			return c.Classify(c.ctx, rq)
		}),
		"extract": task("Find dates, tasks and places", false, func(c *call, rq *assist.ExtractRequest) (*assist.ExtractResult, error) {
			return c.Extract(c.ctx, rq)
		}),
		"recommend": task("Rank posts by interests", false, func(c *call, rq *assist.RecommendRequest) (*assist.RecommendResult, error) {
			return c.Recommend(c.ctx, rq)
		}),
		"index":        task("Add messages to one's own index, or delete them", false, func(c *call, rq *IndexRequest) (*IndexResult, error) { return c.index(rq) }),
		"search":       task("Search one's own index by words and meaning", false, func(c *call, rq *SearchRequest) (*SearchResult, error) { return c.search(rq) }),
		"ask":          task("Answer a question from one's own index", true, func(c *call, rq *AskRequest) (*AskResult, error) { return c.ask(rq) }),
		"session":      {method: http.MethodPost, summary: "Begin a session as whom a messenger vouches for; sets a cookie", in: SessionRequest{}, out: SessionResult{}, open: true, serve: (*Server).serveSession},
		"info":         {method: http.MethodGet, summary: "The model, the limits, languages and tones", out: Info{}, serve: (*Server).serveInfo},
		"openapi.json": {method: http.MethodGet, summary: "This document", out: map[string]any{}, serve: (*Server).serveOpenAPI},
		"receipts/":    {method: http.MethodGet, summary: "The receipt of a call, as the gateway has it", out: map[string]any{}, serve: (*Server).serveReceipt},
	}
}

// find returns the route of a path, and its last part if it is a parameter.
func (s *Server) find(urlPath string) (*route, string) {
	name, ok := strings.CutPrefix(urlPath, prefix)
	if !ok {
		return nil, ""
	}
	if id, ok := strings.CutPrefix(name, "receipts/"); ok && id != "" {
		return s.routes["receipts/"], id
	}
	return s.routes[name], ""
}

// exchange is one HTTP request.
type exchange struct {
	w     *guard.Response
	r     *http.Request
	param string
	user  string
}

// ServeHTTP answers one request. Every failure is an OpenAI error object.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", s.csp)
	x := &exchange{w: &guard.Response{ResponseWriter: w}, r: r}
	name := "app"
	rt, param := s.find(r.URL.Path)
	x.param = param
	if strings.HasPrefix(r.URL.Path, prefix) {
		name = "unknown"
		if rt != nil {
			name = strings.TrimPrefix(r.URL.Path, prefix)
			if param != "" {
				name = "receipts"
			}
		}
	}
	var fail *openai.Error
	defer func() {
		if p := recover(); p != nil {
			// The value of a panic may hold content; where it happened does not.
			s.log.Error("assist panicked", "route", name, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			if x.w.Wrote {
				panic(http.ErrAbortHandler) // so that the caller sees a cut
			}
			openai.Internal().Write(x.w)
		}
	}()
	if r.ContentLength != 0 {
		_ = x.rc().SetReadDeadline(begin.Add(bodyTimeout))
	}
	if err := s.dispatch(x, rt); err != nil {
		fail = openai.From(err)
		if !x.w.Wrote {
			fail.Write(x.w)
		}
	}
	code := ""
	if fail != nil {
		code = fail.Code
		if !knownCode(code) {
			code = "other" // an engine's own word, which may repeat content
		}
	}
	s.log.Info("assist", "route", name, "status", x.w.Status, "code", code, "ms", time.Since(begin).Milliseconds())
}

func knownCode(code string) bool {
	for _, c := range openai.Codes() {
		if c == code {
			return true
		}
	}
	return false
}

func (s *Server) dispatch(x *exchange, rt *route) error {
	if err := s.guard.Check(x.w, x.r); err != nil {
		if oe := openai.From(err); oe.Code == openai.CodeHostNotAllowed { // in the words of this server's flags
			return openai.Errorf(oe.Code, "The Host header names a host this server does not serve; whoever runs it can add it with --host.")
		}
		return err
	}
	if !strings.HasPrefix(x.r.URL.Path, prefix) {
		return s.serveApp(x)
	}
	if rt == nil {
		return openai.NotFound(x.r.URL.Path)
	}
	if x.r.Method != rt.method && (rt.method != http.MethodGet || x.r.Method != http.MethodHead) {
		allow := rt.method
		if allow == http.MethodGet {
			allow = "GET, HEAD"
		}
		x.w.Header().Set("Allow", allow)
		return openai.MethodNotAllowed(x.r.Method, allow)
	}
	if !rt.open {
		var err error
		if x.user, err = s.user(x.r); err != nil {
			return err
		}
	}
	return rt.serve(s, x)
}

// call is a task being run for one user: the Assistant whose calls are paid
// from the user's budget.
type call struct {
	*assist.Assistant
	model   assist.Model
	indexes *indexes
	ctx     context.Context
	user    string
	// tell hears a draft; nil if the answer is not streamed.
	tell func(string)
}

// task makes the route of a task that takes a Q and returns an R.
func task[Q, R any](summary string, streams bool, do func(*call, *Q) (*R, error)) *route {
	var in Q
	var out R
	return &route{method: http.MethodPost, summary: summary, in: in, out: out, streams: streams, serve: func(s *Server, x *exchange) error {
		if err := guard.RequireJSON(x.r); err != nil {
			return err
		}
		done, err := s.limits.enter(x.user)
		if err != nil {
			return err
		}
		defer done()
		select {
		case s.running <- struct{}{}:
			defer func() { <-s.running }()
		default:
			return openai.RateLimited(time.Second, "The server has %d requests to answer already.", maxRunning)
		}
		rq := new(Q)
		if err := readJSON(x, rq, maxBody); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeoutCause(x.r.Context(), callTimeout, openai.Timeout("The task took longer than %v.", callTimeout))
		defer cancel()
		info, err := s.cfg.Endpoint.Info(ctx)
		if err != nil {
			return err
		}
		if info.Simulated {
			x.w.Header().Set("X-Cocoon-Simulated", "true")
		}
		model := &metered{s.cfg.Endpoint, s.limits, x.user}
		c := &call{Assistant: assist.New(model, assist.IsSmall(info.Model)), model: model, indexes: s.indexes, ctx: ctx, user: x.user}
		if streams && wantsStream(x.r) {
			stream := openStream(x, cancel)
			defer stream.close()
			c.tell = stream.draft
			v, err := do(c, rq)
			return stream.finish(v, err)
		}
		v, err := do(c, rq)
		if err != nil {
			return err
		}
		return writeJSON(x, v)
	}}
}

// readJSON reads the body, of at most most bytes, strictly into v.
func readJSON(x *exchange, v any, most int64) error {
	if x.r.ContentLength > most {
		x.w.Header().Set("Connection", "close")
		return openai.TooLarge(most)
	}
	b, err := io.ReadAll(http.MaxBytesReader(x.w.ResponseWriter, x.r.Body, most))
	var tooLarge *http.MaxBytesError
	var late interface{ Timeout() bool }
	switch {
	case errors.As(err, &tooLarge):
		return openai.TooLarge(most)
	case errors.As(err, &late) && late.Timeout():
		x.w.Header().Set("Connection", "close")
		return openai.Errorf(openai.CodeRequestTimeout, "The request body did not arrive within %v.", bodyTimeout)
	case err != nil:
		return openai.InvalidJSON("The request body ended early.")
	}
	_ = x.rc().SetReadDeadline(time.Time{})
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(v)
	var wrong *json.UnmarshalTypeError
	var told *openai.Error
	switch {
	case errors.As(err, &told):
		return told
	case errors.As(err, &wrong):
		if wrong.Field == "" {
			return openai.InvalidJSON("The request body must be a JSON object.")
		}
		return openai.InvalidType(wrong.Field, kindName(wrong.Type.Kind()))
	case err != nil && strings.HasPrefix(err.Error(), "json: unknown field "):
		name := strings.Trim(strings.TrimPrefix(err.Error(), "json: unknown field "), `"`)
		return openai.Unsupported(name[:min(len(name), 64)], "This task has no field of this name; GET "+prefix+"openapi.json describes those it has.")
	case err != nil:
		return openai.InvalidJSON("The request body is not valid JSON.")
	}
	if _, err := d.Token(); err != io.EOF {
		return openai.InvalidJSON("Something follows the JSON object.")
	}
	return nil
}

func wantsStream(r *http.Request) bool {
	for _, v := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(v, ",") {
			if t, _, err := mime.ParseMediaType(strings.TrimSpace(part)); err == nil && t == "text/event-stream" {
				return true
			}
		}
	}
	return false
}

// writeJSON answers 200 with v.
func writeJSON(x *exchange, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeBytes(x, append(b, '\n'))
}

func writeBytes(x *exchange, b []byte) error {
	h := x.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_ = x.rc().SetWriteDeadline(time.Now().Add(writeTimeout))
	_, _ = x.w.Write(b)
	return nil
}

// Info is the answer of /info.
type Info struct {
	assist.Info
	// Small says that the model is a very small one, which does less.
	Small bool `json:"small"`
	// Languages are names by code, Tones those built in with what they mean.
	Languages map[string]string `json:"languages"`
	Tones     map[string]string `json:"tones"`
	Labels    []assist.Label    `json:"labels"` // of classify, if none are given
	Limits    Limits            `json:"limits"`
	// Search is how an index would be searched: "semantic", "lexical" or
	// "words"; "" = there is none.
	Search string `json:"search"`
}

// Limits are what a request may hold and a user may do.
type Limits struct {
	TextUnits     int    `json:"text_units"`  // UTF-16 units of summarize's text
	DraftUnits    int    `json:"draft_units"` // of compose and translate
	Texts         int    `json:"texts"`
	Messages      int    `json:"messages"`
	ReplyMessages int    `json:"reply_messages"`
	MessageUnits  int    `json:"message_units"`
	ToneChars     int    `json:"tone_chars"`
	Labels        int    `json:"labels"`
	IndexMessages int    `json:"index_messages"` // of one request
	PerMinute     int    `json:"per_minute"`
	DailyNano     uint64 `json:"daily_nano,omitempty"` // absent = no limit
	// LeftNano is what is left of it today.
	LeftNano uint64 `json:"left_nano,omitempty"`
}

func (s *Server) serveInfo(x *exchange) error {
	info, err := s.cfg.Endpoint.Info(x.r.Context())
	if err != nil {
		return err
	}
	search := ""
	if s.cfg.IndexDir != "" {
		search = index.ModeOf(info.EmbedModel)
	}
	return writeJSON(x, Info{Info: info, Small: assist.IsSmall(info.Model), Languages: assist.Languages(), Tones: assist.Tones, Labels: assist.DefaultLabels,
		Limits: Limits{assist.MaxTextUnits, assist.MaxDraftUnits, assist.MaxTexts, assist.MaxMessages, assist.MaxReplyContext, assist.MaxMessageUnits,
			assist.MaxTone, assist.MaxLabels, index.MaxBatch, s.cfg.PerMinute, s.cfg.DailyNano, s.limits.left(x.user)}, Search: search})
}

func (s *Server) serveOpenAPI(x *exchange) error { return writeBytes(x, s.openAPI) }

func (s *Server) serveReceipt(x *exchange) error {
	b, err := s.cfg.Endpoint.Receipt(x.r.Context(), x.param)
	if err != nil {
		return err
	}
	return writeBytes(x, b)
}

// file is one file of the app.
type file struct {
	body []byte
	kind string
	etag string
}

func readApp(from fs.FS) (map[string]*file, error) {
	files := map[string]*file{}
	err := fs.WalkDir(from, "app", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		kind, ok := kinds[path.Ext(name)]
		if !ok {
			return nil // tests and notes beside the app
		}
		sum := sha256.Sum256(b)
		files[strings.TrimPrefix(name, "app")] = &file{b, kind, `"` + hex.EncodeToString(sum[:8]) + `"`}
		return nil
	})
	if err == nil && files["/index.html"] == nil {
		err = errors.New("web: app/index.html is missing")
	}
	return files, err
}

// kinds are the types of files that are served, the same on every machine.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".mjs": "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8", ".json": "application/json", ".svg": "image/svg+xml", ".png": "image/png",
	".ico": "image/x-icon", ".webmanifest": "application/manifest+json", ".woff2": "font/woff2",
}

func (s *Server) serveApp(x *exchange) error {
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		x.w.Header().Set("Allow", "GET, HEAD")
		return openai.MethodNotAllowed(x.r.Method, "GET, HEAD")
	}
	name := x.r.URL.Path
	if name == "/" {
		name = "/index.html"
	}
	f := s.app[name]
	if f == nil {
		return openai.NotFound(x.r.URL.Path)
	}
	h := x.w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("ETag", f.etag)
	h.Set("Cache-Control", "no-cache")
	_ = x.rc().SetWriteDeadline(time.Now().Add(writeTimeout))
	http.ServeContent(x.w, x.r, "", time.Time{}, bytes.NewReader(f.body))
	return nil
}

func (x *exchange) rc() *http.ResponseController {
	return http.NewResponseController(x.w.ResponseWriter)
}
