package api

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/api/openai"
	"github.com/cocoon-network/cocoon/internal/money/coins"
)

// What a caller may choose for one call stands in the body's member "cocoon",
// for two names of the reference network in the body itself, or in headers; the
// first of them wins.
const headerPrefix = "X-Cocoon-"

// choiceFields are the members of "cocoon"; the header of max_price is
// X-Cocoon-Max-Price.
var choiceFields = fields{
	"max_coefficient": integerIn(1, math.MaxInt32),
	"timeout":         isNumber,
	"max_price":       integerIn(1, math.MaxInt64),
	"verdicts":        notEmpty(arrayOf(oneOf(string(attest.TDX), string(attest.SEVSNP), string(attest.Simulated)), 8)),
	"gpu_evidence":    isBool,
	"min_reputation":  numberIn(0, 1),
	"model":           isPin,
}

func isPin(path string, v json.RawMessage) *openai.Error {
	if err := isModel(path, v); err != nil {
		return err
	}
	s, _ := openai.String(v)
	base, rest, _ := strings.Cut(s, "@")
	commit, hash, ok := strings.Cut(rest, ":")
	if base == "" || commit == "" || hash == "" || !ok {
		return openai.InvalidRequest(path, "'%s' must be a full name: name@commit:hash.", path)
	}
	return nil
}

// choices takes out of the body what is meant for us. The reference client has
// two more such fields, of which nothing remains to be done here.
func (rq *request) choices(g *Gateway, header http.Header, o *openai.Object) *openai.Error {
	type choice struct {
		param string
		value json.RawMessage
	}
	var chosen map[string]choice // made where there is one: most calls choose nothing
	choose := func(name string, c choice) {
		if chosen == nil {
			chosen = map[string]choice{}
		}
		chosen[name] = c
	}
	for name, param := range choiceHeaders {
		values := header[param]
		if len(values) == 0 {
			continue
		}
		v, ok := headerValue(name, values)
		if !ok {
			return openai.InvalidRequest(param, "The header '%s' must be one plain value: a number, or true or false, as the choice wants.", param)
		}
		choose(name, choice{param, v})
	}
	for _, name := range []string{"max_coefficient", "timeout"} {
		if v, ok := o.Get(name); ok && kind(v) != 'n' {
			choose(name, choice{name, v})
		}
		o.Delete(name)
	}
	if v, ok := o.Get("cocoon"); ok && kind(v) != 'n' {
		own, fail := object("cocoon", v)
		if fail != nil {
			return fail
		}
		for name, v := range own.All {
			if choiceFields[name] == nil {
				param := "cocoon." + clipName(name)
				return openai.Unsupported(param, "There is no choice '%s'.", param)
			}
			if kind(v) != 'n' {
				choose(name, choice{"cocoon." + name, v})
			}
		}
	}
	o.Delete("cocoon")
	rq.Caller = callerOf(header)
	o.Delete("enable_debug")
	o.Delete("request_guid")
	rq.Timeout = g.cfg.Timeout
	for _, name := range slices.Sorted(maps.Keys(chosen)) {
		c := chosen[name]
		if fail := choiceFields[name](c.param, c.value); fail != nil {
			return fail
		}
		if fail := rq.choose(g, c.param, name, c.value); fail != nil {
			return fail
		}
		if name == "model" && rq.Pin.Base() != rq.Model {
			return openai.InvalidRequest(c.param, "'%s' pins another model than 'model' names.", c.param)
		}
	}
	return nil
}

// callerOf tells callers apart by their API keys, for shares of the gateway and
// of the workers' caches; zero without one.
func callerOf(header http.Header) (caller [32]byte) {
	if key := apiKey(header); key != "" {
		caller = sha256.Sum256([]byte(key))
	}
	return caller
}

// choiceHeader is the header of a choice.
func choiceHeader(name string) string {
	return http.CanonicalHeaderKey(headerPrefix + strings.ReplaceAll(name, "_", "-"))
}

// choiceHeaders are the headers of all choices.
var choiceHeaders = func() map[string]string {
	all := map[string]string{}
	for name := range choiceFields {
		all[name] = choiceHeader(name)
	}
	return all
}()

// headerValue makes a header into the JSON that the field would hold.
func headerValue(name string, values []string) (json.RawMessage, bool) {
	text := strings.Join(values, ",")
	switch name {
	case "verdicts":
		b := []byte{'['}
		for i, s := range strings.Split(text, ",") {
			if i > 0 {
				b = append(b, ',')
			}
			b = openai.AppendString(b, strings.TrimSpace(s))
		}
		return append(b, ']'), true
	case "model":
		return openai.AppendString(nil, text), len(values) == 1
	}
	v := json.RawMessage(text)
	return v, len(values) == 1 && openai.Valid(v) == nil && (kind(v) == '0' || kind(v) == 't')
}

// choose takes over one choice whose form was checked.
func (rq *request) choose(g *Gateway, param, name string, v json.RawMessage) *openai.Error {
	switch name {
	case "max_coefficient":
		n, _ := strconv.ParseInt(string(v), 10, 32)
		rq.MaxCoefficient = int32(n)
	case "timeout":
		s, err := strconv.ParseFloat(string(v), 64)
		if err != nil || !(s > 0) || s > g.cfg.MaxTimeout.Seconds() {
			return openai.InvalidRequest(param, "'%s' must be a number of seconds above 0 and at most %g.", param, g.cfg.MaxTimeout.Seconds())
		}
		rq.Timeout = max(time.Duration(s*float64(time.Second)), time.Millisecond)
	case "max_price":
		n, _ := strconv.ParseInt(string(v), 10, 64)
		rq.MaxPrice = coins.Nano(n)
	case "verdicts":
		for _, e := range openai.Elements(v) {
			rq.Verdicts = append(rq.Verdicts, attest.Kind(str(e)))
		}
	case "gpu_evidence":
		rq.GPUEvidence = string(v) == "true"
	case "min_reputation":
		rq.MinReputation, _ = strconv.ParseFloat(string(v), 64)
	case "model":
		rq.Pin = cocoon.ModelName(str(v))
	}
	return nil
}

// splitModel lets the body's own "model" be a full name, which pins it.
func (rq *request) splitModel(o *openai.Object) *openai.Error {
	raw, _ := o.Get("model")
	rq.Model = str(raw)
	if !strings.Contains(rq.Model, "@") {
		return nil
	}
	if fail := isPin("model", raw); fail != nil {
		return fail
	}
	rq.Pin = cocoon.ModelName(rq.Model)
	rq.Model = rq.Pin.Base()
	o.Set("model", openai.AppendString(nil, rq.Model))
	return nil
}

// clipName keeps a name that a caller made up short.
func clipName(s string) string {
	return strings.ToValidUTF8(fmt.Sprintf("%.64s", s), "\uFFFD")
}
