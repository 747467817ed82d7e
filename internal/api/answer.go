package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api/guard"
	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// maxErrorBody bounds what is read of an engine's error.
const maxErrorBody = 64 << 10

// inlet reads one kind of request body.
type inlet struct {
	media func(*http.Request) error
	parse func(*Gateway, *exchange, []byte) (*request, error)
}

var (
	askCall = inlet{guard.RequireJSON, func(g *Gateway, x *exchange, body []byte) (*request, error) {
		return g.parseRequest(x.r.URL.Path, x.r.Header, body)
	}}
	askResponses     = inlet{guard.RequireJSON, (*Gateway).parseResponses}
	askMessages      = inlet{guard.RequireJSON, (*Gateway).parseMessages}
	askTranscription = inlet{requireForm, (*Gateway).parseTranscription}
)

// serve runs one inference.
func (a inlet) serve(g *Gateway, x *exchange) error {
	if err := a.media(x.r); err != nil {
		return err
	}
	// The slot covers the body too: it bounds memory, not only calls.
	leave, fail := g.queue.enter(x.r.Context(), callerOf(x.r.Header))
	if fail != nil {
		x.w.Header().Set("Connection", "close") // the body was not read
		return fail
	}
	defer leave()
	body, err := g.readBody(x)
	if err != nil {
		return err
	}
	rq, err := a.parse(g, x, body)
	if err != nil {
		return err
	}
	if rq.same != nil {
		body = rq.same
	}
	return g.once(x, rq, body, func(ctx context.Context) error { return g.run(ctx, x, rq) })
}

// run serves a call that was read.
func (g *Gateway) run(ctx context.Context, x *exchange, rq *request) error {
	leave, err := g.admit(x, rq)
	if err != nil {
		return err
	}
	defer leave()
	rq.meter = &meter{g: g, key: x.key, rq: rq}
	rq.Hold = rq.meter.hold
	ctx, cancel := context.WithTimeoutCause(ctx, rq.Timeout, overdue(rq.Timeout))
	defer cancel()
	answer, err := g.cfg.Backend.Do(ctx, &rq.Call)
	if err != nil && rq.Reference != nil && rq.prompted != nil && errors.Is(err, rq.Reference) {
		rq.Body, rq.Reference = rq.prompted, nil
		x.w.Header().Set("X-Cocoon-Structured", "prompted")
		answer, err = g.cfg.Backend.Do(ctx, &rq.Call)
	}
	if err != nil {
		return g.refusal(ctx, rq.Model, callError(ctx, err))
	}
	defer answer.Body.Close()
	// A read that does not watch ctx ends here too.
	defer context.AfterFunc(ctx, func() { _ = answer.Body.Close() })()
	writeHead(x.w.Header(), answer)
	switch {
	case answer.Status >= 400 || answer.Status < 200 || answer.Status >= 300:
		return g.engineError(ctx, answer)
	case rq.stream:
		return g.stream(ctx, x, rq, answer)
	}
	return g.whole(ctx, x, rq, answer)
}

// overdue is the openai.Timeout of a call that did not end in time, made only
// if it is needed.
type overdue time.Duration

func (d overdue) Error() string { return d.timeout().Error() }

// As serves errors.As.
func (d overdue) As(target any) bool {
	e, ok := target.(**openai.Error)
	if ok {
		*e = d.timeout()
	}
	return ok
}

func (d overdue) timeout() *openai.Error {
	return openai.Timeout("The call did not end within %v.", time.Duration(d))
}

// refusal tells a name that nobody knows from a model whose workers are busy or
// away: to a proxy that has just started both are the same.
func (g *Gateway) refusal(ctx context.Context, model string, e *openai.Error) error {
	if e.Code != openai.CodeUnavailable {
		return e
	}
	models, err := g.models(ctx)
	if err != nil || len(models) == 0 || slices.ContainsFunc(models, func(m Model) bool { return m.ID == model }) {
		return e
	}
	return openai.ModelNotFound(model)
}

// callError turns what Do or Body returned into what the caller hears: if time
// is over or the caller has left, that is the reason, whatever broke first.
func callError(ctx context.Context, err error) *openai.Error {
	if ctx.Err() != nil {
		return openai.From(context.Cause(ctx))
	}
	var e *openai.Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return openai.Cut("The answer ended early.")
	}
	return openai.From(err)
}

// engineError passes an engine's refusal on as an OpenAI error.
func (g *Gateway) engineError(ctx context.Context, answer *Answer) error {
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxErrorBody))
	if err != nil {
		return callError(ctx, err)
	}
	e := engineFault(answer.Status, body)
	if s, err := strconv.ParseUint(answer.Header.Get("Retry-After"), 10, 16); err == nil {
		e.RetryAfter = time.Duration(s) * time.Second
	}
	return e
}

// engineFault is an engine's error as its caller may hear it. What is between
// the engine and its worker is no fault of the caller, an endpoint that is not
// there is no server that may be asked again, and what the gateway says of keys,
// peers and budgets nobody else says.
func engineFault(status int, body []byte) *openai.Error {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden, http.StatusProxyAuthRequired:
		return openai.Upstream("The engine refused its worker with status %d.", status)
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		e := openai.ParseError(status, body)
		return openai.Unsupported("model", "The engine that serves this model does not serve such calls. It says: %s", e.Message)
	}
	as := status
	switch {
	case status == http.StatusBadRequest, status == http.StatusRequestEntityTooLarge, status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
	case status >= 400 && status < 500:
		as = http.StatusBadRequest
	default:
		as = http.StatusBadGateway
	}
	e, plain := openai.ParseError(as, body), openai.ParseError(as, nil)
	if e.Message == plain.Message {
		e.Message = fmt.Sprintf("The engine answered with status %d.", status)
	}
	if openai.IsCode(e.Code) && !engineCodes[e.Code] {
		e.Code, e.Type = plain.Code, plain.Type
	}
	return e
}

// engineCodes are the gateway's own codes that engines may use too.
var engineCodes = map[string]bool{
	openai.CodeInvalidJSON: true, openai.CodeInvalidType: true, openai.CodeInvalidValue: true, openai.CodeInvalidForm: true, openai.CodeMissingParameter: true,
	openai.CodeUnsupported: true, openai.CodeTooLarge: true, openai.CodeRateLimited: true, openai.CodeUpstream: true, openai.CodeUnavailable: true, openai.CodeTimeout: true,
}

// told is a whole answer, read to its end.
type told struct {
	body  []byte
	chunk openai.Chunk
	usage openai.Usage
	final Final
	// summed says that usage and final are those of several calls.
	summed bool
}

// readWhole reads an answer of one JSON object.
func (g *Gateway) readWhole(ctx context.Context, answer *Answer) (*told, error) {
	body, err := readAll(io.LimitReader(answer.Body, g.cfg.MaxAnswer+1), usualAnswer)
	if err != nil {
		return nil, callError(ctx, err)
	}
	if int64(len(body)) > g.cfg.MaxAnswer {
		return nil, openai.Upstream("The worker's answer is larger than %d bytes.", g.cfg.MaxAnswer)
	}
	chunk, err := openai.ParseChunk(body)
	if err != nil {
		return nil, openai.Upstream("The worker's answer is not one JSON object.")
	}
	if chunk.IsError {
		return nil, engineFault(http.StatusBadGateway, body)
	}
	t := &told{body: body, chunk: chunk, usage: chunk.Usage, final: answer.Final()}
	g.metrics.final(t.final)
	return t, nil
}

// usageJSON is the usage object with the cost.
func (t *told) usageJSON() []byte {
	if t.summed {
		return billedUsage(t.usage.AppendJSON(nil), t.final)
	}
	return billedUsage(t.chunk.RawUsage(), t.final)
}

// whole answers with one JSON object, its usage and cost included.
func (g *Gateway) whole(ctx context.Context, x *exchange, rq *request, answer *Answer) error {
	t, err := g.readWhole(ctx, answer)
	if err == nil && rq.promise != nil {
		t, err = g.fulfil(ctx, x, rq, t)
	}
	if err != nil {
		return err
	}
	rq.meter.settled()
	usage, contentType := t.usageJSON(), "application/json"
	var body []byte
	if rq.form == nil {
		body = append(t.chunk.AppendWithUsage(make([]byte, 0, len(t.body)+128), usage), '\n')
	} else {
		if contentType, body, err = rq.form.whole(t.body, usage); err != nil {
			return err
		}
		if contentType == "application/json" {
			body = append(body, '\n')
		} else { // no place for the cost but here
			x.w.Header().Set("X-Cocoon-Cost-Nano", strconv.FormatUint(uint64(t.final.CostNano), 10))
		}
	}
	h := x.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	_ = x.rc().SetWriteDeadline(time.Now().Add(g.cfg.WriteTimeout))
	x.w.WriteHeader(http.StatusOK)
	_, _ = x.w.Write(body)
	return nil
}

// usualAnswer is room for most answers that are not streamed.
const usualAnswer = 2 << 10

// readAll is io.ReadAll that begins with room for size bytes.
func readAll(r io.Reader, size int) ([]byte, error) {
	b := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, err := b.ReadFrom(r)
	return b.Bytes(), err
}

// billedUsage adds the cost to an engine's usage object, or makes one of the
// cost alone where the engine reported none: the adjusted counts of Final are
// no token counts.
func billedUsage(usage []byte, final Final) []byte {
	o, err := openai.ParseObject(usage)
	if err != nil {
		o = &openai.Object{}
	}
	o.Set("cost_nano", strconv.AppendUint(nil, uint64(final.CostNano), 10))
	b, err := o.AppendJSON(nil)
	if err != nil {
		return strconv.AppendUint([]byte(`{"cost_nano":`), uint64(final.CostNano), 10)
	}
	return b
}

// passed are the headers of the worker's answer that callers may see, as far as
// they are plain numbers: where the time went (spec network-protocol 5.5).
var passed = []string{
	"X-Cocoon-Worker-Start", "X-Cocoon-Worker-End",
	"X-Cocoon-Proxy-Start", "X-Cocoon-Proxy-End",
}

// writeHead says who answered and how far that is known. What stands in
// x-cocoon-claimed is the peers' word only.
func writeHead(h http.Header, answer *Answer) {
	for _, name := range passed {
		if v := answer.Header.Values(name); len(v) == 1 && isDecimal(v[0]) {
			h.Set(name, v[0])
		}
	}
	p := answer.Peer
	verdict, claimed := p.Verdict, "usage, cost"
	if verdict == "" {
		verdict = attest.None
	}
	h.Set("X-Cocoon-Verdict", printable(string(verdict)))
	if verdict != attest.None {
		h.Set("X-Cocoon-Image", p.ImageHash.String())
	}
	switch {
	case verdict == attest.Simulated:
		h.Set("X-Cocoon-Simulated", "true")
	case !verdict.Real() && verdict != attest.None:
		claimed += ", image"
	}
	answer.Sealing.write(h)
	h.Set("X-Cocoon-Proxy", printable(p.Addr))
	h.Set("X-Cocoon-Level", strconv.Itoa(p.Level))
	h.Set("X-Cocoon-Claimed", claimed)
	h.Set("Cache-Control", "no-store")
}

func isDecimal(s string) bool {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v < 0 || len(s) > 32 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return true
}

// printable makes a peer's name fit for a header.
func printable(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c <= ' ' || c > '~' {
			b[i] = '_'
		}
	}
	return string(b[:min(len(b), 256)])
}
