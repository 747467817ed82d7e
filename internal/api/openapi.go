package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// endpoint is what the document says of one path. The fields are those that the
// handlers check, so the document cannot name others.
type endpoint struct {
	summary  string
	media    string // of the request; "" = it has no body
	fields   fields
	required []string
	answers  []string // media types of a 200
	errors   []int    // statuses beside those that every path can have
}

const (
	mediaJSON   = "application/json"
	mediaForm   = "multipart/form-data"
	mediaStream = "text/event-stream"
	mediaText   = "text/plain"
)

// callErrors are the statuses with which an inference can fail.
var callErrors = []int{400, 402, 404, 408, 409, 413, 415, 429, 500, 502, 503, 504}

var endpoints = map[string]endpoint{
	pathChat:            {"A chat completion", mediaJSON, chatFields, []string{"model", "messages"}, []string{mediaJSON, mediaStream}, callErrors},
	pathCompletions:     {"A text completion", mediaJSON, completionFields, []string{"model", "prompt"}, []string{mediaJSON, mediaStream}, callErrors},
	"/v1/responses":     {"A response, without state", mediaJSON, responseFields, []string{"model", "input"}, []string{mediaJSON, mediaStream}, callErrors},
	pathMessages:        {"A message, in the Anthropic form", mediaJSON, anthropicFields, []string{"model", "messages", "max_tokens"}, []string{mediaJSON, mediaStream}, callErrors},
	pathEmbeddings:      {"Embeddings of texts", mediaJSON, embeddingFields, []string{"model", "input"}, []string{mediaJSON}, callErrors},
	pathTranscriptions:  {"A transcript of speech", mediaForm, transcriptionFields(), []string{"model", "file"}, []string{mediaJSON, mediaText, mediaStream}, callErrors},
	"/v1/models":        {"What is served now", "", nil, nil, []string{mediaJSON}, []int{500, 502, 503}},
	"/v1/models/{id}":   {"One model", "", nil, nil, []string{mediaJSON}, []int{404, 500, 502, 503}},
	"/v1/verification":  {"What was verified of the peers", "", nil, nil, []string{mediaJSON}, []int{404, 500}},
	"/v1/workers":       {"What was verified of the workers", "", nil, nil, []string{mediaJSON}, []int{404, 500}},
	"/v1/receipts/{id}": {"The receipt of a request", "", nil, nil, []string{mediaJSON}, []int{404, 500}},
	"/v1/usage":         {"What the caller's API key used", "", nil, nil, []string{mediaJSON}, []int{400, 404, 500, 503}},
	"/openapi.json":     {"This document", "", nil, nil, []string{mediaJSON}, []int{500}},
	"/healthz":          {"The process is up", "", nil, nil, []string{mediaJSON}, []int{500}},
	"/readyz":           {"A call can be served", "", nil, nil, []string{mediaJSON}, []int{500, 503}},
	"/metrics":          {"Prometheus metrics", "", nil, nil, []string{mediaText}, []int{500}},
}

// everyPath are the statuses of the guard and of a wrong method.
var everyPath = []int{403, 405}

func transcriptionFields() fields {
	f := fields{"file": isString}
	for name, of := range formFields {
		f[name] = of.check
	}
	return f
}

// openAPI is the document.
var openAPI = sync.OnceValue(func() json.RawMessage {
	type object = map[string]any
	ref := func(name string) object { return object{"$ref": "#/components/schemas/" + name} }
	schemas := object{
		"Error": object{
			"type": "object", "required": []string{"error"},
			"properties": object{"error": object{
				"type": "object", "required": []string{"message", "type", "param", "code"},
				"properties": object{
					"message": object{"type": "string"}, "type": object{"type": "string"},
					"param": object{"type": []string{"string", "null"}},
					"code":  object{"type": []string{"string", "null"}, "examples": openai.Codes()},
				},
			}},
		},
		"AnthropicError": object{
			"type": "object", "required": []string{"type", "error"},
			"properties": object{
				"type": object{"const": "error"}, "request_id": object{"type": "string"},
				"error": object{"type": "object", "required": []string{"type", "message"}, "properties": object{
					"type": object{"type": "string"}, "message": object{"type": "string"}, "code": object{"type": "string"}, "param": object{"type": []string{"string", "null"}},
				}},
			},
		},
		"Answer": object{"type": "object"},
		"Choices": object{
			"type": "object", "description": "What the caller demands of those who serve the call.", "additionalProperties": false,
			"properties": properties(choiceFields),
		},
	}
	paths := object{}
	for path, e := range endpoints {
		method := "get"
		failure := "Error"
		if path == pathMessages {
			failure = "AnthropicError"
		}
		op := object{"summary": e.summary, "operationId": operationID(path)}
		if path == "/v1/models/{id}" {
			op["parameters"] = []object{{"name": "id", "in": "path", "required": true, "description": "May hold slashes.", "schema": object{"type": "string"}}}
		}
		if path == "/v1/receipts/{id}" {
			op["parameters"] = []object{{"name": "id", "in": "path", "required": true, "description": "As the header X-Cocoon-Receipt says; its first 8 digits or more will do.", "schema": object{"type": "string"}}}
		}
		if path == "/v1/usage" {
			op["parameters"] = []object{
				{"name": "from", "in": "query", "schema": object{"type": "string", "format": "date"}},
				{"name": "to", "in": "query", "schema": object{"type": "string", "format": "date"}},
			}
		}
		if e.media != "" {
			method = "post"
			name := operationID(path) + "Request"
			schemas[name] = object{"type": "object", "required": e.required, "properties": properties(e.fields)}
			op["requestBody"] = object{"required": true, "content": object{e.media: object{"schema": ref(name)}}}
			var headers []object
			for _, choice := range slices.Sorted(maps.Keys(choiceFields)) {
				headers = append(headers, object{"name": choiceHeader(choice), "in": "header", "schema": kindOfField(choiceFields[choice])})
			}
			headers = append(headers, object{"name": headerIdempotency, "in": "header", "schema": object{"type": "string", "minLength": 1, "maxLength": 255}})
			headers = append(headers, object{"name": headerSeal, "in": "header", "schema": object{"enum": []Seal{SealRequire, SealPrefer, SealOff}}})
			op["parameters"] = headers
		}
		ok := object{}
		for _, media := range e.answers {
			schema := ref("Answer")
			if media != mediaJSON {
				schema = object{"type": "string"}
			}
			ok[media] = object{"schema": schema}
		}
		responses := object{"200": object{"description": "The answer", "content": ok}}
		failures := slices.Concat(everyPath, e.errors)
		if needsKey(path) {
			// Asking for keys can fail in two ways more.
			failures = append(failures, 401, 503)
			op["security"] = []object{{}, {"bearer": []string{}}, {"apiKey": []string{}}}
		}
		for _, status := range failures {
			r := object{"description": http.StatusText(status), "content": object{mediaJSON: object{"schema": ref(failure)}}}
			if status == 429 || status == 503 {
				r["headers"] = object{"Retry-After": object{"description": "Seconds to wait", "schema": object{"type": "integer"}}}
			}
			responses[strconv.Itoa(status)] = r
		}
		op["responses"] = responses
		paths[path] = object{method: op}
	}
	b, err := json.Marshal(object{
		"openapi": "3.1.0",
		"info": object{
			"title": "Cocoon gateway", "version": "1", "license": object{"name": "Apache-2.0", "identifier": "Apache-2.0"},
			"description": "The OpenAI API over the Cocoon network. Members of requests that are not named here go to the engine as they are.",
		},
		"servers": []object{{"url": "/"}}, "paths": paths, "components": object{"schemas": schemas, "securitySchemes": object{
			"bearer": object{"type": "http", "scheme": "bearer"},
			"apiKey": object{"type": "apiKey", "in": "header", "name": "x-api-key"},
		}},
	})
	if err != nil {
		panic(err) // strings, lists and maps always marshal
	}
	return b
})

func operationID(path string) string {
	var b []byte
	up := false
	for _, c := range []byte(path) {
		switch {
		case c == '/' || c == '_' || c == '.' || c == '{' || c == '}':
			up = len(b) > 0
		case up && c >= 'a' && c <= 'z':
			b, up = append(b, c-'a'+'A'), false
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func properties(f fields) map[string]any {
	out := map[string]any{}
	for name, c := range f {
		if name == "cocoon" {
			out[name] = map[string]any{"$ref": "#/components/schemas/Choices"}
			continue
		}
		out[name] = kindOfField(c)
	}
	return out
}

// kindOfField asks a check which JSON types it lets pass as such. A field that
// takes none is refused whatever it holds.
func kindOfField(c check) map[string]any {
	var types []string
	for _, t := range []struct{ name, probe string }{
		{"string", `"x"`}, {"number", `0.5`}, {"integer", `1`}, {"boolean", `false`}, {"object", `{}`}, {"array", `[]`},
	} {
		err := c("x", json.RawMessage(t.probe))
		if err != nil && (err.Code == openai.CodeInvalidType && err.Param == "x" || err.Code == openai.CodeUnsupported) {
			continue
		}
		if t.name == "integer" && slices.Contains(types, "number") {
			continue
		}
		types = append(types, t.name)
	}
	switch len(types) {
	case 0:
		return map[string]any{"not": map[string]any{}, "description": "Refused."}
	case 1:
		return map[string]any{"type": types[0]}
	}
	return map[string]any{"type": types}
}

func (g *Gateway) serveOpenAPI(x *exchange) error { return x.writeJSON(openAPI()) }
