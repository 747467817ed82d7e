package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Detect asks a running engine what it is. A make is known by its fingerprint,
// never by its port: it names itself as the owner of its models, and where that
// word is not its own, a page shows it that no other make has. Detect returns
// Unknown for an engine that speaks the interface and is none of them.
func (c *Client) Detect(ctx context.Context) (Dialect, error) {
	list, err := c.list(ctx)
	if err != nil {
		return Unknown, err
	}
	for _, m := range list {
		switch owner := strings.ToLower(m.OwnedBy); owner {
		case "vllm", "sglang", "llamacpp":
			return Dialect(owner), nil
		case "cocoon":
			return Demo, nil
		}
	}
	for _, mark := range marks {
		b, err := c.page(ctx, mark.path, maxModels)
		if cause := context.Cause(ctx); cause != nil {
			return Unknown, cause
		}
		if err == nil && mark.shows(b) {
			return mark.dialect, nil
		}
	}
	return Unknown, nil
}

// marks are pages that only one make has. Ollama gives each model the name of
// whoever published it as owner, so its front page has to tell.
var marks = []struct {
	dialect Dialect
	path    string
	shows   func([]byte) bool
}{
	{Ollama, "/", func(b []byte) bool { return bytes.Contains(b, []byte("Ollama is running")) }},
	{LlamaCpp, "/props", hasMember("default_generation_settings")},
	{SGLang, "/get_model_info", hasMember("model_path")},
	{VLLM, "/metrics", func(b []byte) bool { return bytes.Contains(b, []byte("\nvllm:")) }},
}

func hasMember(name string) func([]byte) bool {
	return func(b []byte) bool {
		var o map[string]json.RawMessage
		return json.Unmarshal(b, &o) == nil && o[name] != nil
	}
}

// healthPath is the page that answers 200 once the engine can work.
func (d Dialect) healthPath() string {
	switch d {
	case VLLM, SGLang, LlamaCpp:
		return "/health"
	case Ollama:
		return "/api/version"
	}
	return "/v1/models"
}

// Step is one step of a health check.
type Step struct {
	Name   string `json:"name"`   // answers, healthy, token
	Result string `json:"result"` // ok, failed, skipped
	Detail string `json:"detail"`
}

// Report is what a look at an engine found.
type Report struct {
	BaseURL string
	Dialect Dialect
	Models  []string
	Steps   []Step // in order; what follows a failure is skipped
	Caps    Caps
	Load    Load // NaN where the engine does not say
}

// OK reports whether every step passed.
func (r *Report) OK() bool {
	return !slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Result != "ok" })
}

// Probe looks at an engine in three steps (spec engines 2): it answers, its
// health page says it can work and it lists models, and it makes one token with
// model ("" = the first listed). The make is found out on the way.
func (c *Client) Probe(ctx context.Context, model string) *Report {
	nan := math.NaN()
	r := &Report{BaseURL: c.cfg.BaseURL, Dialect: c.cfg.Dialect, Load: Load{nan, nan, nan, nan, nan}}
	failed := false
	step := func(name string, do func() (string, error)) {
		s := Step{Name: name, Result: "skipped", Detail: "an earlier step failed"}
		if !failed {
			if detail, err := do(); err != nil {
				failed, s.Result, s.Detail = true, "failed", err.Error()
			} else {
				s.Result, s.Detail = "ok", detail
			}
		}
		r.Steps = append(r.Steps, s)
	}
	step("answers", func() (string, error) {
		status, err := c.status(ctx, "/v1/models")
		return fmt.Sprintf("HTTP status %d", status), err
	})
	step("healthy", func() (string, error) {
		d, err := c.Detect(ctx)
		if err != nil {
			return "", err
		}
		if r.Dialect == Unknown {
			r.Dialect = d
		}
		if r.Models, err = c.Models(ctx); err != nil {
			return "", err
		}
		status, err := c.status(ctx, r.Dialect.healthPath())
		switch {
		case err != nil:
			return "", err
		case status != http.StatusOK:
			return "", fmt.Errorf("%w: %s answers %d: it may still be loading", ErrNotReady, r.Dialect.healthPath(), status)
		case len(r.Models) == 0:
			return "", fmt.Errorf("%w: it lists no model: load one", ErrNotReady)
		}
		return r.Dialect.healthPath() + " answers 200", nil
	})
	step("token", func() (string, error) {
		if err := c.Check(ctx, model); err != nil {
			return "", err
		}
		if model == "" {
			model = r.Models[0]
		}
		return fmt.Sprintf("%q made one, with usage", model), nil
	})
	with := *c
	with.cfg.Dialect = r.Dialect
	r.Caps = with.Caps()
	if !failed {
		if l, err := c.Load(ctx); err == nil {
			r.Load = l
		}
	}
	return r
}

// status asks for a page and tells its status only.
func (c *Client) status(ctx context.Context, path string) (int, error) {
	resp, err := c.send(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	// Read it out, within limits, so that the connection can be used again.
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxModels))
	return resp.StatusCode, nil
}

// UsualPlaces are the loopback addresses engines listen on when nobody says
// otherwise, in the order Auto prefers what it finds there.
func UsualPlaces() []string {
	places := make([]string, 0, len(known))
	for _, k := range known {
		places = append(places, k.BaseURL())
	}
	return places
}

// Found is what stands at one place.
type Found struct {
	BaseURL string
	Dialect Dialect // Unknown if Err is set
	Models  []string
	Err     error // why it cannot be used, nil if it can
}

// ErrNoEngine: no engine of a known make was found.
var ErrNoEngine = errors.New("no engine was found")

var errNoFingerprint = errors.New("something answers, but it is no engine of a known make: name its URL if it is the right one")

const findTimeout = 5 * time.Second

// Find looks at several places at once and tells what stands at each, in the
// order given. An engine counts if its fingerprint is known and it lists a
// model; which port it was found at does not matter.
func Find(ctx context.Context, places []string) []Found {
	found := make([]Found, len(places))
	done := make(chan struct{})
	for i, place := range places {
		go func() {
			found[i] = look(ctx, place)
			done <- struct{}{}
		}()
	}
	for range places {
		<-done
	}
	return found
}

func look(ctx context.Context, place string) Found {
	f := Found{BaseURL: place}
	ctx, cancel := context.WithTimeoutCause(ctx, findTimeout, ErrTimeout)
	defer cancel()
	c, err := New(Config{BaseURL: place})
	if err != nil {
		f.Err = err
		return f
	}
	defer c.Close()
	d, err := c.Detect(ctx)
	if err == nil {
		f.Models, err = c.Models(ctx)
	}
	switch {
	case err != nil:
		f.Err = err
	case d == Unknown:
		f.Err = errNoFingerprint
	case len(f.Models) == 0:
		f.Err = fmt.Errorf("%w: %s lists no model: load one", ErrNotReady, d)
	default:
		f.Dialect = d
	}
	return f
}

// Auto finds a running engine on the usual loopback addresses and tells where
// and what it is. It decides by fingerprint; of several engines it takes the
// first of UsualPlaces. The error wraps ErrNoEngine and says what stands where.
func Auto(ctx context.Context) (baseURL string, d Dialect, err error) {
	return auto(ctx, UsualPlaces())
}

func auto(ctx context.Context, places []string) (string, Dialect, error) {
	var seen []string
	for _, f := range Find(ctx, places) {
		if f.Err == nil {
			return f.BaseURL, f.Dialect, nil
		}
		seen = append(seen, f.BaseURL+": "+f.Err.Error())
	}
	if err := context.Cause(ctx); err != nil {
		return "", Unknown, err
	}
	return "", Unknown, fmt.Errorf("%w: start one (`cocoon engine config` prints how) or name its URL; %s", ErrNoEngine, strings.Join(seen, "; "))
}

// openPause is how long Open waits between two looks.
const openPause = time.Second

// Open makes a Client for an engine that may still be loading: it waits, as
// long as ctx allows, until the engine lists its models, finds out its make
// unless cfg names it, and returns a Client that uses it.
func Open(ctx context.Context, cfg Config) (*Client, error) {
	return openWith(ctx, cfg, func(error) {})
}

// openWith is Open that tells why it still waits.
func openWith(ctx context.Context, cfg Config, waits func(error)) (*Client, error) {
	c, err := New(cfg)
	if err != nil {
		return nil, err
	}
	pause := openPause / 16
	for told := ""; ; {
		d, err := c.Detect(ctx)
		if err == nil {
			if c.cfg.Dialect == Unknown {
				c.cfg.Dialect = d
			}
			return c, nil
		}
		if why := err.Error(); why != told && context.Cause(ctx) == nil {
			told = why
			waits(err)
			c.cfg.Logger.Warn("waiting for the engine", "engine", cfg.BaseURL, "err", why)
		}
		// The first looks come soon: an engine that is just starting.
		sleep(ctx, pause)
		pause = min(2*pause, openPause)
		if ctx.Err() != nil {
			c.Close()
			return nil, context.Cause(ctx)
		}
	}
}

// Dialect returns the engine's make as far as the Client knows it.
func (c *Client) Dialect() Dialect { return c.cfg.Dialect }

// Close ends the connections that nobody uses.
func (c *Client) Close() {
	c.plain.close()
	(&http.Client{Transport: c.cfg.Transport}).CloseIdleConnections()
}
