package assist

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Call is one chat completion: a fixed instruction and one JSON value.
type Call struct {
	Prompt string // name and version, "translate@1"
	System string
	User   string
	// Schema is what the answer must be; nil = free text.
	Schema      json.RawMessage
	Temperature float64
	MaxTokens   int
	// OnText hears the answer as it grows; may be nil.
	OnText func(delta string)
}

// Proof is what vouches for an answer and what it cost; several calls add up.
type Proof struct {
	// Receipts are the ids of the calls' receipts, for GET /v1/receipts/ID.
	Receipts []string `json:"receipts"`
	// Verdict is what the one that could read the text proved to be, as far as
	// this side verified it: the worker if Sealed is "worker", else the proxy;
	// "mixed" if the calls' differ, "none" where an endpoint says nothing or
	// nothing was sent.
	Verdict   string `json:"verdict"`
	Simulated bool   `json:"simulated"`
	// Sealed is how far the text was encrypted: "worker" or "proxy"; empty where
	// an endpoint says nothing.
	Sealed string `json:"sealed,omitempty"`
	// Image is the measured program behind Verdict, in hex.
	Image string `json:"image,omitempty"`
	// Proxy is the address of the proxy that passed the calls on, ProxyVerdict
	// and ProxyImage what that one proved to be.
	Proxy        string `json:"proxy,omitempty"`
	ProxyVerdict string `json:"proxy_verdict,omitempty"`
	ProxyImage   string `json:"proxy_image,omitempty"`

	Model    string       `json:"model"` // those asked, by commas
	Usage    openai.Usage `json:"usage"`
	CostNano uint64       `json:"cost_nano"`
	Calls    int          `json:"calls"`
}

// Add adds what other calls cost and what vouches for them.
func (p *Proof) Add(q Proof) {
	if q.Calls == 0 {
		return
	}
	if p.Calls == 0 {
		*p = q
		return
	}
	for _, x := range [][2]*string{{&p.Verdict, &q.Verdict}, {&p.Sealed, &q.Sealed}, {&p.Image, &q.Image}, {&p.Proxy, &q.Proxy}, {&p.ProxyVerdict, &q.ProxyVerdict}, {&p.ProxyImage, &q.ProxyImage}} {
		if *x[0] != *x[1] {
			*x[0] = "mixed"
		}
	}
	if !slices.Contains(strings.Split(p.Model, ","), q.Model) {
		p.Model += "," + q.Model
	}
	p.Simulated = p.Simulated || q.Simulated
	p.Receipts = append(p.Receipts, q.Receipts...)
	p.Calls += q.Calls
	p.CostNano += q.CostNano
	p.Usage.PromptTokens += q.Usage.PromptTokens
	p.Usage.CompletionTokens += q.Usage.CompletionTokens
	p.Usage.TotalTokens += q.Usage.TotalTokens
	p.Usage.CachedTokens += q.Usage.CachedTokens
	p.Usage.ReasoningTokens += q.Usage.ReasoningTokens
}

// Reply is the answer to a Call.
type Reply struct {
	Text string
	// Cut says that the answer reached its token limit.
	Cut   bool
	Proof Proof
}

// Model answers calls. Errors are *openai.Error where the caller may hear them.
type Model interface {
	Complete(ctx context.Context, c *Call) (Reply, error)
	Embed(ctx context.Context, texts []string) ([][]float32, Proof, error)
}

// Endpoint is a Model behind an OpenAI API, ours or any other.
type Endpoint struct {
	// Base ends in /v1.
	Base string
	// Model and EmbedModel name what to ask; empty = the first one listed, and
	// its embedding companion.
	Model, EmbedModel string
	// APIKey may be empty.
	APIKey string
	// HTTP carries the requests; nil = http.DefaultClient.
	HTTP *http.Client

	mu        sync.Mutex
	listed    []string
	listedAt  time.Time
	simulated bool
}

// listFor is how long a list of models holds: an endpoint may serve others when
// it comes back.
const listFor = time.Minute

const (
	maxReply = 4 << 20  // bytes of a completion
	maxEmbed = 64 << 20 // bytes of an embeddings answer
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Complete implements Model. The answer is always streamed, so that a caller
// who leaves stops the engine at once.
func (e *Endpoint) Complete(ctx context.Context, c *Call) (Reply, error) {
	name, err := e.model(ctx)
	if err != nil {
		return Reply{}, err
	}
	body := map[string]any{
		"model":                name,
		"messages":             []message{{"system", c.System}, {"user", c.User}},
		"temperature":          c.Temperature,
		"max_tokens":           c.MaxTokens,
		"stream":               true,
		"stream_options":       map[string]bool{"include_usage": true},
		"chat_template_kwargs": map[string]bool{"enable_thinking": false},
	}
	if c.Schema != nil {
		taskName, _, _ := strings.Cut(c.Prompt, "@")
		body["response_format"] = map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": taskName, "strict": true, "schema": c.Schema}}
	}
	resp, err := e.post(ctx, "/chat/completions", body)
	if err != nil {
		return Reply{}, err
	}
	defer resp.Body.Close()
	r := Reply{Proof: proofOf(resp.Header, name)}
	var text strings.Builder
	ended := false
	lines := bufio.NewScanner(io.LimitReader(resp.Body, maxReply))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data:"))
		if !ok {
			continue
		}
		data = bytes.TrimSpace(data)
		if string(data) == "[DONE]" {
			ended = true
			break
		}
		var chunk struct {
			Error   json.RawMessage
			Choices []struct {
				Delta        struct{ Content string }
				FinishReason string `json:"finish_reason"`
			}
			Usage *struct {
				openai.Usage
			}
		}
		if err := json.Unmarshal(data, &chunk); err != nil {
			return r, openai.Upstream("The model's answer cannot be read.")
		}
		if len(chunk.Error) > 0 && string(chunk.Error) != "null" {
			return r, openai.ParseError(http.StatusBadGateway, data)
		}
		if len(chunk.Choices) > 0 {
			delta := chunk.Choices[0].Delta.Content
			text.WriteString(delta)
			if c.OnText != nil && delta != "" {
				c.OnText(delta)
			}
			r.Cut = r.Cut || chunk.Choices[0].FinishReason == "length"
		}
		if chunk.Usage != nil {
			r.Proof.Usage = chunk.Usage.Usage
			r.Proof.CostNano = costOf(data)
		}
	}
	if err := lines.Err(); err != nil {
		if ctx.Err() != nil {
			return r, openai.From(context.Cause(ctx))
		}
		return r, openai.Cut("The model's answer ended early.")
	}
	if !ended {
		return r, openai.Cut("The model's answer ended early.")
	}
	r.Text = text.String()
	return r, nil
}

// costOf reads usage.cost_nano, which only our gateway sends.
func costOf(data []byte) uint64 {
	var c struct {
		Usage struct {
			Cost json.Number `json:"cost_nano"`
		}
	}
	if json.Unmarshal(data, &c) != nil {
		return 0
	}
	n, err := strconv.ParseUint(c.Usage.Cost.String(), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// proofOf reads our gateway's headers (docs/api.md); another endpoint has none.
func proofOf(h http.Header, model string) Proof {
	p := Proof{Model: model, Calls: 1, Simulated: h.Get("X-Cocoon-Simulated") == "true", Receipts: []string{},
		Proxy: h.Get("X-Cocoon-Proxy"), ProxyVerdict: h.Get("X-Cocoon-Verdict"), ProxyImage: h.Get("X-Cocoon-Image")}
	p.Verdict, p.Image = p.ProxyVerdict, p.ProxyImage
	switch h.Get("X-Cocoon-Seal") {
	case "sealed":
		p.Sealed, p.Verdict, p.Image = "worker", h.Get("X-Cocoon-Worker-Verdict"), h.Get("X-Cocoon-Worker-Image")
	case "off":
		p.Sealed = "proxy"
	}
	if p.Verdict == "" {
		p.Verdict = "none"
	}
	if id := h.Get("X-Cocoon-Receipt"); id != "" {
		p.Receipts = append(p.Receipts, id)
	}
	return p
}

// Info says what an Endpoint's answers come from.
type Info struct {
	Model      string `json:"model"`
	EmbedModel string `json:"embed_model,omitempty"`
	Simulated  bool   `json:"simulated"`
}

// Info asks which models will be used, and whether the network is simulated.
func (e *Endpoint) Info(ctx context.Context) (Info, error) {
	// The list also tells of the network.
	_, err := e.list(ctx)
	if err != nil && e.Model == "" {
		return Info{}, err
	}
	name, err := e.model(ctx)
	if err != nil {
		return Info{}, err
	}
	embed := e.EmbedModel
	if embed == "" {
		embed, _ = e.embedder(ctx) // there may be none
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return Info{Model: name, EmbedModel: embed, Simulated: e.simulated}, nil
}

const maxReceipt = 1 << 20

// Receipt fetches the receipt of a call of ours, as JSON.
func (e *Endpoint) Receipt(ctx context.Context, id string) (json.RawMessage, error) {
	if id == "" || len(id) > 128 || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_=.") != "" || strings.Trim(id, ".") == "" {
		return nil, openai.InvalidRequest("id", "This is no id of a receipt: 'receipts' of an answer has them.")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(e.Base, "/")+"/receipts/"+id, nil)
	if err != nil {
		return nil, err
	}
	resp, err := e.do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxReceipt))
	if err != nil {
		return nil, openai.Cut("The receipt ended early.")
	}
	if !json.Valid(b) {
		return nil, openai.Upstream("The receipt cannot be read.")
	}
	return b, nil
}

// Embed implements Model.
func (e *Endpoint) Embed(ctx context.Context, texts []string) ([][]float32, Proof, error) {
	name := e.EmbedModel
	if name == "" {
		var err error
		if name, err = e.embedder(ctx); err != nil {
			return nil, Proof{}, err
		}
	}
	resp, err := e.post(ctx, "/embeddings", map[string]any{"model": name, "input": texts, "encoding_format": "base64"})
	if err != nil {
		return nil, Proof{}, err
	}
	defer resp.Body.Close()
	p := proofOf(resp.Header, name)
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxEmbed))
	if err != nil {
		return nil, p, openai.Cut("The embeddings ended early.")
	}
	var list struct {
		Data []struct {
			Index     int
			Embedding json.RawMessage
		}
		Usage *openai.Usage
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, p, openai.Upstream("The embeddings cannot be read.")
	}
	if list.Usage != nil {
		p.Usage, p.CostNano = *list.Usage, costOf(b)
	}
	out := make([][]float32, len(texts))
	for _, d := range list.Data {
		v, err := vector(d.Embedding)
		if err != nil || d.Index < 0 || d.Index >= len(out) || out[d.Index] != nil {
			return nil, p, openai.Upstream("The embeddings cannot be read.")
		}
		out[d.Index] = v
	}
	for _, v := range out {
		if v == nil || len(v) != len(out[0]) {
			return nil, p, openai.Upstream("The endpoint sent %d embeddings for %d texts, or of different lengths.", len(list.Data), len(texts))
		}
	}
	return out, p, nil
}

// vector reads an embedding as base64 of little endian float32, or as numbers
// from endpoints that know only those.
func vector(raw json.RawMessage) ([]float32, error) {
	var v []float32
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		if err := json.Unmarshal(raw, &v); err != nil {
			return nil, err
		}
	} else {
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || len(b)%4 != 0 {
			return nil, errors.New("bad base64 of floats")
		}
		for ; len(b) > 0; b = b[4:] {
			v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(b)))
		}
	}
	if len(v) == 0 || len(v) > 1<<14 {
		return nil, fmt.Errorf("%d dimensions", len(v))
	}
	for _, x := range v {
		if x != x || math.IsInf(float64(x), 0) {
			return nil, errors.New("not a number")
		}
	}
	return v, nil
}

func (e *Endpoint) client() *http.Client {
	if e.HTTP != nil {
		return e.HTTP
	}
	return http.DefaultClient
}

func (e *Endpoint) post(ctx context.Context, path string, body any) (*http.Response, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(e.Base, "/")+path, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// Engines close idle connections just when the next request comes. An empty
	// key is not sent, but lets net/http ask again on a fresh one.
	req.Header["Idempotency-Key"] = []string{}
	return e.do(req)
}

func (e *Endpoint) do(req *http.Request) (*http.Response, error) {
	if e.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+e.APIKey)
	}
	resp, err := e.client().Do(req)
	if err != nil {
		if req.Context().Err() != nil {
			return nil, openai.From(context.Cause(req.Context()))
		}
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address
		}
		return nil, openai.Unavailable("The AI endpoint does not answer: %v. Check that it runs.", err)
	}
	if resp.StatusCode >= 300 {
		defer resp.Body.Close()
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
		oe := openai.ParseError(resp.StatusCode, b)
		if s, err := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16); err == nil {
			oe.RetryAfter = seconds(s)
		}
		return nil, oe
	}
	return resp, nil
}

// model returns the configured model, or the first one that is served and not
// for embeddings.
func (e *Endpoint) model(ctx context.Context) (string, error) {
	if e.Model != "" {
		return e.Model, nil
	}
	names, err := e.list(ctx)
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if !isEmbedder(n) {
			return n, nil
		}
	}
	return "", openai.Unavailable("The AI endpoint serves no chat model now.")
}

func (e *Endpoint) embedder(ctx context.Context) (string, error) {
	names, err := e.list(ctx)
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if isEmbedder(n) {
			return n, nil
		}
	}
	return "", ErrNoEmbedder
}

// ErrNoEmbedder is what Embed returns where no model makes embeddings.
var ErrNoEmbedder = openai.Unavailable("The AI endpoint serves no embedding model now; name one in the configuration.")

func isEmbedder(name string) bool { return strings.Contains(strings.ToLower(name), "embed") }

// list asks which models there are, once a minute; if that fails, the last list
// holds on.
func (e *Endpoint) list(ctx context.Context) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.listed) > 0 && time.Since(e.listedAt) < listFor {
		return e.listed, nil
	}
	names, simulated, err := e.fetchList(ctx)
	if err != nil && len(e.listed) > 0 && ctx.Err() == nil {
		e.listedAt = time.Now()
		return e.listed, nil
	}
	if err != nil {
		return nil, err
	}
	e.listed, e.listedAt, e.simulated = names, time.Now(), simulated
	return names, nil
}

func (e *Endpoint) fetchList(ctx context.Context) (names []string, simulated bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, openai.Unavailable("The AI endpoint does not list its models within 10 s. Check that it runs."))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(e.Base, "/")+"/models", nil)
	if err != nil {
		return nil, false, err
	}
	resp, err := e.do(req)
	if err != nil {
		return nil, false, err
	}
	defer resp.Body.Close()
	var l struct{ Data []struct{ ID string } }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&l); err != nil {
		return nil, false, openai.Upstream("The AI endpoint's list of models cannot be read.")
	}
	for _, m := range l.Data {
		names = append(names, m.ID)
	}
	return names, resp.Header.Get("X-Cocoon-Simulated") == "true", nil
}
