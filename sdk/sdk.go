package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/node"
)

// Config says how the network is reached and what is accepted of it. Exactly
// one of Gateway and File must be set.
type Config struct {
	// Gateway is the base URL of a running client, "http://127.0.0.1:10000/v1".
	// It should be on this machine: what it says is believed.
	Gateway string
	// File is the configuration of a client role (`cocoon client
	// --print-config`), which then runs inside this process without any port.
	File string
	// Accept lists the kinds of evidence that a worker may have shown; nil =
	// real hardware: attest.TDX and attest.SEVSNP.
	Accept []attest.Kind
	// AllowUnsealed takes answers of requests that a proxy could read. Then
	// Accept is held against the proxy.
	AllowUnsealed bool
	// APIKey is for gateways that ask for one.
	APIKey string
	// Logger hears what a role in this process has to say; nil = nobody.
	Logger *slog.Logger
}

// Client is a way into the network. It is an http.RoundTripper.
type Client struct {
	cfg  Config
	base *url.URL
	next http.RoundTripper

	stop  context.CancelFunc
	ended chan struct{}
	err   error // of the role in this process, once ended is closed
}

// ErrNotVerified is an answer that does not meet the policy. Nothing of it is
// shown.
var ErrNotVerified = errors.New("cocoon: the answer does not meet the policy")

// Error is a refusal by the network in OpenAI's terms.
type Error struct {
	Status               int // HTTP
	Code, Message, Param string
	RetryAfter           time.Duration
}

func (e *Error) Error() string { return fmt.Sprintf("cocoon: %s (%s)", e.Message, e.Code) }

// Open makes a Client. With File it returns once the role can serve a request,
// or with why it cannot; the end of ctx ends the role, as Close does.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	if (cfg.Gateway == "") == (cfg.File == "") {
		return nil, errors.New("sdk: set exactly one of Gateway and File")
	}
	if cfg.Accept == nil {
		cfg.Accept = []attest.Kind{attest.TDX, attest.SEVSNP}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, next: http.DefaultTransport}
	if cfg.Gateway != "" {
		u, err := url.Parse(cfg.Gateway)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("sdk: %q is no base URL; write it like \"http://127.0.0.1:10000/v1\"", cfg.Gateway)
		}
		c.base = u
		return c, nil
	}
	return c, c.run(ctx)
}

// run starts a client role in this process.
func (c *Client) run(ctx context.Context) error {
	conf, err := node.Load("client", c.cfg.File, os.Environ())
	if err != nil {
		return err
	}
	conf.Runtime.Status = "" // no port at all
	ls, err := node.InheritListeners(func(string) string { return "" })
	if err != nil {
		return err
	}
	ln := newMemory()
	ls.Give("gateway", ln)
	ctx, c.stop = context.WithCancel(ctx)
	c.ended = make(chan struct{})
	go func() {
		defer close(c.ended)
		defer ln.Close()
		c.err = node.Run(ctx, conf, ls, c.cfg.Logger)
	}()
	c.base = &url.URL{Scheme: "http", Host: "localhost", Path: "/v1"}
	c.next = &http.Transport{DialContext: ln.dial, MaxIdleConnsPerHost: 64}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := c.next.RoundTrip(req); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-c.ended:
			if c.err == nil {
				c.err = context.Cause(ctx)
			}
			return fmt.Errorf("sdk: the client role ended: %w", c.err)
		case <-ctx.Done():
			<-c.ended
			return fmt.Errorf("sdk: no proxy was reached and verified in time: %w", context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Close ends the role in this process, if there is one; what it owes is kept on
// disk.
func (c *Client) Close() error {
	if c.stop == nil {
		return nil
	}
	c.stop()
	<-c.ended
	return c.err
}

// BaseURL is what an OpenAI library wants as its base URL, with HTTPClient.
func (c *Client) BaseURL() string { return c.base.String() + "/" }

// HTTPClient returns an http.Client over this Client.
func (c *Client) HTTPClient() *http.Client { return &http.Client{Transport: c} }

// RoundTrip implements http.RoundTripper. Whatever host a request names, it
// goes into the network: only its path below /v1 counts. Requests for inference
// demand what the policy asks for, and answers that do not meet it are errors.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	r := req.Clone(req.Context())
	r.URL.Scheme, r.URL.Host, r.Host = c.base.Scheme, c.base.Host, ""
	if i := strings.Index(r.URL.Path, "/v1/"); i >= 0 {
		r.URL.Path = strings.TrimSuffix(c.base.Path, "/v1") + r.URL.Path[i:]
	}
	r.Header.Del("Authorization") // of another service; ours does not travel
	if c.cfg.APIKey != "" {
		r.Header.Set("Authorization", "Bearer "+c.cfg.APIKey)
	}
	inference := r.Method == http.MethodPost
	if inference {
		if !c.cfg.AllowUnsealed {
			r.Header.Set("X-Cocoon-Seal", "require")
			kinds := make([]string, len(c.cfg.Accept))
			for i, k := range c.cfg.Accept {
				kinds[i] = string(k)
			}
			r.Header.Set("X-Cocoon-Verdicts", strings.Join(kinds, ","))
		}
	}
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if inference && resp.StatusCode < 300 {
		if err := c.hold(ProofOf(resp)); err != nil {
			resp.Body.Close()
			return nil, err
		}
	}
	return resp, nil
}

// hold checks what an answer's headers say against the policy.
func (c *Client) hold(p Proof) error {
	verdict, who := p.WorkerVerdict, "worker"
	if !p.Sealed {
		if !c.cfg.AllowUnsealed {
			return fmt.Errorf("%w: it was not sealed to the worker", ErrNotVerified)
		}
		verdict, who = p.ProxyVerdict, "proxy"
	}
	if !slices.ContainsFunc(c.cfg.Accept, func(k attest.Kind) bool { return string(k) == verdict }) {
		if verdict == "" {
			verdict = "nothing"
		}
		return fmt.Errorf("%w: the %s showed %s; accepted are %v", ErrNotVerified, who, verdict, c.cfg.Accept)
	}
	return nil
}

// Proof is what the headers of an answer say about who gave it.
type Proof struct {
	// Receipt is the id of the receipt, "" if there will be none.
	Receipt string
	// Sealed says that only the worker could read the request.
	Sealed bool
	// WorkerVerdict and ProxyVerdict are kinds of evidence: "tdx", "sev-snp",
	// "simulated".
	WorkerVerdict, ProxyVerdict string
	WorkerImage, ProxyImage     string
	Simulated                   bool
}

// ProofOf reads an answer's headers.
func ProofOf(resp *http.Response) Proof {
	h := resp.Header
	return Proof{
		Receipt: h.Get("X-Cocoon-Receipt"), Sealed: h.Get("X-Cocoon-Seal") == "sealed",
		WorkerVerdict: h.Get("X-Cocoon-Worker-Verdict"), ProxyVerdict: h.Get("X-Cocoon-Verdict"),
		WorkerImage: h.Get("X-Cocoon-Worker-Image"), ProxyImage: h.Get("X-Cocoon-Image"),
		Simulated: h.Get("X-Cocoon-Simulated") == "true",
	}
}

// do sends a body as JSON, or nothing with GET, and fails with *Error where the
// network refuses.
func (c *Client) do(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://cocoon/v1/"+path, reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		e := openai.ParseError(resp.StatusCode, b)
		out := &Error{Status: e.Status, Code: e.Code, Message: e.Message, Param: e.Param}
		if d, err := time.ParseDuration(resp.Header.Get("Retry-After") + "s"); err == nil {
			out.RetryAfter = d
		}
		return nil, out
	}
	return resp, nil
}

// memory is a listener inside this process.
type memory struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), done: make(chan struct{})} }

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case m.conns <- far:
		return near, nil
	case <-m.done:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.done) })
	return nil
}

func (m *memory) Addr() net.Addr { return memoryAddr{} }

type memoryAddr struct{}

func (memoryAddr) Network() string { return "memory" }
func (memoryAddr) String() string  { return "localhost" }
