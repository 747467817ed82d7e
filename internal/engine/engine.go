// Package engine talks to inference engines: any server with the OpenAI HTTP
// interface. It starts, watches and describes them; what an answer costs is
// not its business.
//
// Owns: Client, Pool (engines behind one worker), their processes, Request,
// Response, the classes of engine failures.
// Imports: api/openai.
// Trust: an engine runs inside the guest, yet its answers may be broken,
// endless or late: everything is bounded. Errors never quote content.
// Concurrency: Client and Pool are safe for concurrent use.
package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Request is one inference.
type Request struct {
	// Path is the engine's path, such as /v1/chat/completions.
	Path        string
	ContentType string
	// Body is a JSON object with at least one member.
	Body []byte
	// Salt keeps this request's place in the prefix cache apart from those with
	// another salt, so that answer times tell one caller nothing about another.
	// It reaches engines whose Caps have CacheSalt; Body must not name one. ""
	// shares the cache.
	Salt string
}

// Response is the head of an engine's answer, of any status, and its body.
// Hop-by-hop headers are gone. The caller closes Body, which stops the engine
// if it is still at work.
type Response struct {
	StatusCode int
	Header     http.Header
	Body       io.ReadCloser
}

// What can be wrong with an engine. Errors of Client and of the bodies it
// returns wrap one of these, or are the cause of the context's end.
var (
	ErrUnreachable = errors.New("the engine cannot be reached")
	ErrTimeout     = errors.New("the engine did not answer in time")
	ErrBadAnswer   = errors.New("the engine's answer is not HTTP as agreed")
	ErrNotReady    = errors.New("the engine is not ready")
	ErrBroken      = errors.New("the engine broke off in the middle of its answer")
)

// Config configures a Client.
type Config struct {
	// BaseURL is where the engine listens: http://127.0.0.1:8000, or
	// unix:/path/to/socket. A path in it comes before the request's.
	BaseURL string
	// Transport makes the requests; nil = connections to BaseURL.
	Transport http.RoundTripper
	// APIKey is sent to the engine if not empty.
	APIKey string
	// Dialect is the engine's make; "" = unknown, with the least abilities.
	// Detect finds it out.
	Dialect Dialect
	// Caps adds to what the dialect is known to be able to do.
	Caps Caps
	// HeaderTimeout bounds the wait for the head of an answer beyond what the
	// context allows; 0 = no bound of its own.
	HeaderTimeout time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Client is a connection to one engine.
type Client struct {
	base  string
	cfg   Config
	plain *plain // nil = all goes through cfg.Transport
}

// Limits of what is read of an engine's own pages.
const (
	maxModels   = 1 << 20
	dialTimeout = 5 * time.Second
	userAgent   = "cocoon-worker"
)

// New makes a Client. It does not connect.
func New(cfg Config) (*Client, error) {
	base, dial := strings.TrimSuffix(cfg.BaseURL, "/"), (&net.Dialer{Timeout: dialTimeout}).DialContext
	if path, ok := strings.CutPrefix(base, "unix:"); ok {
		base = "http://engine"
		dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", path)
		}
	}
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("the engine address is not a plain URL such as http://127.0.0.1:8000 or unix:/run/engine.sock (credentials go into the API key)")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{base: base}
	if cfg.Transport == nil {
		c.plain = newPlain(u, cfg.APIKey, cfg.HeaderTimeout, dial)
		cfg.Transport = &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			DisableCompression:     true, // it would hold streams back
			MaxIdleConns:           maxIdle,
			MaxIdleConnsPerHost:    maxIdle,
			IdleConnTimeout:        idleTime,
			ResponseHeaderTimeout:  cfg.HeaderTimeout,
			MaxResponseHeaderBytes: maxHead,
			ReadBufferSize:         readBuffer,
		}
	}
	c.cfg = cfg
	return c, nil
}

// Caps returns what the engine can do.
func (c *Client) Caps() Caps {
	a, b := c.cfg.Caps, c.cfg.Dialect.Caps()
	return Caps{
		ContinuousUsage: a.ContinuousUsage || b.ContinuousUsage,
		CachedTokens:    a.CachedTokens || b.CachedTokens,
		Schema:          a.Schema || b.Schema,
		Tools:           a.Tools || b.Tools,
		Embeddings:      a.Embeddings || b.Embeddings,
		CacheSalt:       a.CacheSalt || b.CacheSalt,
	}
}

// Do runs one inference and returns when the head of the answer is there. The
// end of ctx stops the engine, also while Body is read.
func (c *Client) Do(ctx context.Context, r *Request) (*Response, error) {
	b := r.Body
	if r.Salt != "" && c.Caps().CacheSalt && len(b) > 1 && !strings.HasPrefix(r.ContentType, "multipart/") {
		salted := make([]byte, 0, len(b)+len(r.Salt)+32)
		salted = append(openai.AppendString(append(salted, `{"cache_salt":`...), r.Salt), ',')
		b = append(salted, b[1:]...)
	}
	resp, err := c.send(ctx, http.MethodPost, r.Path, r.ContentType, b)
	if err != nil {
		return nil, err
	}
	return &Response{StatusCode: resp.StatusCode, Header: endToEnd(resp.Header), Body: &body{func() error { return context.Cause(ctx) }, resp.Body}}, nil
}

// endToEnd drops the headers that concern one connection: the usual ones, those
// that Connection lists, and the length, since a worker may change the body
// (spec network-protocol 5.5). net/http has already brought names into one case.
func endToEnd(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for name, v := range h {
		switch name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Content-Length", "Te", "Trailer", "Upgrade":
		default:
			out[name] = v
		}
	}
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			out.Del(strings.TrimSpace(name))
		}
	}
	return out
}

// body names what can go wrong while an answer is read.
type body struct {
	cause func() error // why the caller stopped, nil if it did not
	rc    io.ReadCloser
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.rc.Read(p)
	if err != nil && err != io.EOF {
		if cause := b.cause(); cause != nil {
			return n, cause
		}
		return n, ErrBroken
	}
	return n, err
}

func (b *body) Close() error { return b.rc.Close() }

func (c *Client) send(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
	if c.plain.fits(path, contentType, body) {
		resp, err := c.plain.do(ctx, method, path, contentType, body)
		if err != nil {
			return nil, classify(ctx, err)
		}
		return resp, nil
	}
	var rd io.Reader
	if body != nil {
		rd = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, rd)
	if err != nil {
		return nil, fmt.Errorf("%w: the path is not usable", ErrBadAnswer)
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	// A kept connection that the engine just closed is replaced by a new one;
	// the empty list says so to the transport and sends no header.
	req.Header["Idempotency-Key"] = nil
	if c.cfg.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.APIKey)
	}
	req.Header.Set("User-Agent", userAgent)
	// Not http.Client: it would follow redirects, and an engine that sends us
	// elsewhere is not the one that was measured.
	resp, err := c.cfg.Transport.RoundTrip(req)
	if err != nil {
		return nil, classify(ctx, err)
	}
	return resp, nil
}

// classify names a failed request. The cause is not quoted: it can hold the
// address with credentials, or what the engine wrote.
func classify(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var netErr net.Error
	var opErr *net.OpError
	switch {
	case errors.As(err, &netErr) && netErr.Timeout():
		return ErrTimeout
	case errors.As(err, &opErr) && opErr.Op == "dial":
		return ErrUnreachable
	}
	return ErrBadAnswer
}

// Ready returns nil if the engine can serve: it answers its list of models
// with status 200 (spec network-protocol 4.3).
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.Models(ctx)
	return err
}

// Models returns the names the engine serves.
func (c *Client) Models(ctx context.Context) ([]string, error) {
	list, err := c.list(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(list))
	for _, m := range list {
		names = append(names, m.ID)
	}
	return names, nil
}

type listed struct {
	ID      string `json:"id"`
	OwnedBy string `json:"owned_by"`
}

func (c *Client) list(ctx context.Context) ([]listed, error) {
	b, err := c.page(ctx, "/v1/models", maxModels)
	if err != nil {
		return nil, err
	}
	var list struct {
		Data []listed `json:"data"`
	}
	if json.Unmarshal(b, &list) != nil {
		return nil, fmt.Errorf("%w: /v1/models is not a list of models", ErrBadAnswer)
	}
	return list.Data, nil
}

// page reads one of the engine's own pages, which must answer 200.
func (c *Client) page(ctx context.Context, path string, limit int64) ([]byte, error) {
	resp, err := c.send(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, classify(ctx, err)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return nil, fmt.Errorf("%w: %s answers %d: it wants an API key: put it into the environment as COCOON_ENGINE_KEY, or name its file in runtime.engine_key_file", ErrNotReady, path, resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: %s answers %d", ErrNotReady, path, resp.StatusCode)
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("%w: %s is above %d bytes", ErrBadAnswer, path, limit)
	}
	return b, nil
}
