// Package engine talks to inference engines: any server with the OpenAI HTTP
// interface. It starts, watches and describes them; what an answer costs is
// not its business.
//
// Owns: Client, Request, Response, the classes of engine failures.
// Imports: api/openai.
// Trust: an engine runs inside the guest, yet its answers may be broken,
// endless or late: everything is bounded. Errors never quote content.
// Concurrency: a Client is safe for concurrent use.
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
)

// Request is one inference.
type Request struct {
	// Path is the engine's path, such as /v1/chat/completions.
	Path        string
	ContentType string
	Body        []byte
}

// Response is the head of an engine's answer, of any status, and its body.
// Hop-by-hop headers are gone. The caller closes Body, which stops the engine
// if it is still at work.
type Response struct {
	StatusCode int
	Header     http.Header
	Body       io.ReadCloser
}

// Caps is what an engine can do.
type Caps struct {
	// ContinuousUsage: running usage in each event of a stream, on request
	// (stream_options.continuous_usage_stats).
	ContinuousUsage bool
}

// What can be wrong with an engine. Errors of Do and Ready wrap one of these.
var (
	ErrUnreachable = errors.New("the engine cannot be reached")
	ErrTimeout     = errors.New("the engine did not answer in time")
	ErrBadAnswer   = errors.New("the engine's answer is not HTTP as agreed")
	ErrNotReady    = errors.New("the engine is not ready")
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
	// Caps are what the engine is known to be able to do.
	Caps Caps
	// HeaderTimeout bounds the wait for the head of an answer beyond what the
	// context allows; 0 = no bound of its own.
	HeaderTimeout time.Duration
	// Logger may be nil.
	Logger *slog.Logger
}

// Client is a connection to one engine.
type Client struct {
	base string
	http *http.Client
	cfg  Config
}

// Limits of what is read of an engine's own pages.
const (
	maxModels   = 1 << 20
	dialTimeout = 5 * time.Second
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
		return nil, fmt.Errorf("engine address %q is not a plain URL such as http://127.0.0.1:8000", cfg.BaseURL)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			DisableCompression:     true, // it would hold streams back
			MaxIdleConns:           256,
			MaxIdleConnsPerHost:    256,
			IdleConnTimeout:        30 * time.Second,
			ResponseHeaderTimeout:  cfg.HeaderTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			ReadBufferSize:         16 << 10,
		}
	}
	return &Client{base: base, cfg: cfg, http: &http.Client{
		Transport: cfg.Transport,
		// An engine that sends us elsewhere is not the one that was measured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Caps returns what the engine can do.
func (c *Client) Caps() Caps { return c.cfg.Caps }

// Do runs one inference and returns when the head of the answer is there. The
// end of ctx stops the engine, also while Body is read.
func (c *Client) Do(ctx context.Context, r *Request) (*Response, error) {
	resp, err := c.send(ctx, http.MethodPost, r.Path, r.ContentType, r.Body)
	if err != nil {
		return nil, err
	}
	header := make(http.Header, len(resp.Header))
	for name, v := range resp.Header {
		switch name {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Content-Length", "Te", "Trailer", "Upgrade":
		default:
			header[name] = v
		}
	}
	return &Response{StatusCode: resp.StatusCode, Header: header, Body: resp.Body}, nil
}

func (c *Client) send(ctx context.Context, method, path, contentType string, body []byte) (*http.Response, error) {
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
	req.Header.Set("User-Agent", "cocoon-worker")
	resp, err := c.http.Do(req)
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
	resp, err := c.send(ctx, http.MethodGet, "/v1/models", "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxModels))
	if err != nil {
		return nil, classify(ctx, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: /v1/models answers %d", ErrNotReady, resp.StatusCode)
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if json.Unmarshal(b, &list) != nil {
		return nil, fmt.Errorf("%w: /v1/models is not a list of models", ErrBadAnswer)
	}
	names := make([]string, 0, len(list.Data))
	for _, m := range list.Data {
		names = append(names, m.ID)
	}
	return names, nil
}
