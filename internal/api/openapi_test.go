package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
)

type apiDocument struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		RequestBody struct {
			Content map[string]struct {
				Schema struct {
					Ref string `json:"$ref"`
				}
			}
		}
		Responses map[string]struct {
			Content map[string]json.RawMessage
			Headers map[string]json.RawMessage
		}
	}
	Components struct {
		Schemas map[string]struct {
			Required   []string
			Properties map[string]json.RawMessage
		}
	}
}

func readDocument(t *testing.T) apiDocument {
	t.Helper()
	w := ask(newGateway(t, &wordBackend{}, nil), "GET", "/openapi.json", "")
	var d apiDocument
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != 200 || d.OpenAPI != "3.1.0" {
		t.Fatalf("%d, %v", w.Code, err)
	}
	return d
}

// documented fails the test if an answer is none that the document allows.
func (d apiDocument) documented(t *testing.T, path, method string, status int, h http.Header, body []byte) {
	t.Helper()
	op, ok := d.Paths[path][strings.ToLower(method)]
	if !ok {
		for _, op = range d.Paths[path] { // a wrong method is an answer of the path
		}
	}
	r, ok := op.Responses[itoa(status)]
	if !ok {
		t.Errorf("%s %s: status %d is not documented", method, path, status)
		return
	}
	media, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	if r.Content[media] == nil {
		t.Errorf("%s %s: %d as %q is not documented", method, path, status, media)
	}
	for name := range r.Headers {
		if h.Get(name) == "" {
			t.Errorf("%s %s: %d without %s", method, path, status, name)
		}
	}
	if status < 400 {
		return
	}
	var e struct {
		Type  string
		Error struct{ Message, Type, Code string }
	}
	if json.Unmarshal(body, &e) != nil || e.Error.Message == "" || e.Error.Type == "" || e.Error.Code == "" || (path == pathMessages) != (e.Type == "error") {
		t.Errorf("%s: error in another form: %s", path, body)
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

// TestDocument holds the document against the handlers: the same paths and
// methods, and each documented required field really required.
func TestDocument(t *testing.T) {
	d := readDocument(t)
	var have []string
	for path := range d.Paths {
		have = append(have, path)
	}
	want := []string{"/v1/models/{id}", "/v1/receipts/{id}"}
	for path := range routes {
		want = append(want, path)
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Fatalf("documented %v, served %v", have, want)
	}
	g := newGateway(t, &wordBackend{}, func(c *Config) {
		c.Verification = func() any { return map[string]int{} }
		c.Workers = c.Verification
		c.Receipt = func(id string) (any, error) {
			if id != "words" {
				return nil, errors.New("none")
			}
			return map[string]string{"request_id": id}, nil
		}
	})
	w := ask(g, "GET", "/v1/receipts/other", "")
	if w.Code != 404 {
		t.Errorf("a receipt that is not kept: %d", w.Code)
	}
	d.documented(t, "/v1/receipts/{id}", "GET", w.Code, w.Header(), w.Body.Bytes())
	for path, ops := range d.Paths {
		real := strings.ReplaceAll(path, "{id}", "words")
		for method, op := range ops {
			if rt, ok := findRoute(real); !ok || !strings.EqualFold(rt.method, method) {
				t.Errorf("%s is served by %s, not %s", path, rt.method, method)
			}
			w := ask(g, "DELETE", real, "")
			if w.Code != 405 {
				t.Errorf("DELETE %s: %d", path, w.Code)
			}
			d.documented(t, path, "DELETE", w.Code, w.Header(), w.Body.Bytes())
			w = ask(g, strings.ToUpper(method), real, "", "Host", "evil.example")
			if w.Code != 403 {
				t.Errorf("%s with a foreign host: %d", path, w.Code)
			}
			if method == "get" {
				w := ask(g, "GET", real, "")
				want := 200
				if path == "/v1/usage" {
					want = 404 // there are no keys here
				}
				if w.Code != want {
					t.Errorf("GET %s: %d", path, w.Code)
				}
				d.documented(t, path, "GET", w.Code, w.Header(), w.Body.Bytes())
				continue
			}
			for media, c := range op.RequestBody.Content {
				s := d.Components.Schemas[strings.TrimPrefix(c.Schema.Ref, "#/components/schemas/")]
				if len(s.Required) == 0 || len(s.Properties) < 5 {
					t.Errorf("%s: the request has no schema", path)
				}
				if media != mediaJSON {
					continue
				}
				// Take the required fields away one by one.
				all := map[string]string{"model": `"words"`, "messages": `[{"role":"user","content":"a"}]`, "prompt": `"a"`, "input": `"a"`, "max_tokens": "5"}
				for _, missing := range s.Required {
					if s.Properties[missing] == nil {
						t.Errorf("%s: %s is required and has no property", path, missing)
					}
					var members []string
					for _, name := range s.Required {
						if name != missing {
							members = append(members, `"`+name+`":`+all[name])
						}
					}
					w := ask(g, "POST", path, "{"+strings.Join(members, ",")+"}")
					if w.Code != 400 || !strings.Contains(w.Body.String(), `"missing_required_parameter"`) || !strings.Contains(w.Body.String(), `"`+missing+`"`) {
						t.Errorf("%s without %s: %d %s", path, missing, w.Code, w.Body)
					}
					d.documented(t, path, "POST", w.Code, w.Header(), w.Body.Bytes())
				}
			}
		}
	}
}
