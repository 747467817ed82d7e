package sdk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/sdk"
)

var question = sdk.ChatRequest{Model: "m", Messages: []sdk.Message{{Role: "user", Content: "hi"}}}

const answer = `{"choices":[{"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"cost_nano":40}}`

// gateway answers with given headers and remembers the last request.
func gateway(t *testing.T, headers map[string]string, body string) (base string, last *http.Request) {
	t.Helper()
	last = &http.Request{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*last = *r
		_, _ = io.Copy(io.Discard, r.Body)
		for k, v := range headers {
			w.Header().Set(k, v)
		}
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL + "/v1", last
}

// TestPolicy: what an answer does not prove is refused before it is read.
func TestPolicy(t *testing.T) {
	sealed := func(verdict string) map[string]string {
		return map[string]string{"X-Cocoon-Seal": "sealed", "X-Cocoon-Worker-Verdict": verdict, "X-Cocoon-Verdict": "tdx"}
	}
	for name, c := range map[string]struct {
		headers map[string]string
		cfg     sdk.Config
		ok      bool
	}{
		"real hardware":                 {sealed("tdx"), sdk.Config{}, true},
		"the other kind":                {sealed("sev-snp"), sdk.Config{}, true},
		"simulated":                     {sealed("simulated"), sdk.Config{}, false},
		"simulated where accepted":      {sealed("simulated"), sdk.Config{Accept: []attest.Kind{attest.Simulated}}, true},
		"real where simulated is asked": {sealed("tdx"), sdk.Config{Accept: []attest.Kind{attest.Simulated}}, false},
		"no headers":                    {nil, sdk.Config{}, false},
		"sealed without a verdict":      {map[string]string{"X-Cocoon-Seal": "sealed", "X-Cocoon-Verdict": "tdx"}, sdk.Config{}, false},
		"not sealed":                    {map[string]string{"X-Cocoon-Seal": "off", "X-Cocoon-Verdict": "tdx", "X-Cocoon-Worker-Verdict": "tdx"}, sdk.Config{}, false},
		"not sealed where allowed":      {map[string]string{"X-Cocoon-Seal": "off", "X-Cocoon-Verdict": "tdx"}, sdk.Config{AllowUnsealed: true}, true},
		"not sealed, proxy of nothing":  {map[string]string{"X-Cocoon-Verdict": "none"}, sdk.Config{AllowUnsealed: true}, false},
		"accepting nothing":             {sealed("tdx"), sdk.Config{Accept: []attest.Kind{}}, false},
	} {
		cfg := c.cfg
		var last *http.Request
		cfg.Gateway, last = gateway(t, c.headers, answer)
		client, err := sdk.Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		a, err := client.Chat(t.Context(), question)
		if c.ok && (err != nil || a.Text != "hello" || a.Usage.CostNano != 40) || !c.ok && !errors.Is(err, sdk.ErrNotVerified) {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
		if asked := last.Header.Get("X-Cocoon-Seal"); (asked == "require") == cfg.AllowUnsealed {
			t.Errorf("%s: the request asks for sealing %q", name, asked)
		}
	}
}

func TestForeignKeysDoNotTravel(t *testing.T) {
	base, last := gateway(t, map[string]string{"X-Cocoon-Seal": "sealed", "X-Cocoon-Worker-Verdict": "tdx"}, answer)
	client, err := sdk.Open(t.Context(), sdk.Config{Gateway: base, APIKey: "ours"})
	if err != nil {
		t.Fatal(err)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://api.example.com/v1/chat/completions", strings.NewReader("{}"))
	req.Header.Set("Authorization", "Bearer of-another-service")
	resp, err := client.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if last.Header.Get("Authorization") != "Bearer ours" || last.URL.Path != "/v1/chat/completions" {
		t.Errorf("%s %v", last.URL, last.Header)
	}
	if req.URL.Host != "api.example.com" || req.Header.Get("Authorization") != "Bearer of-another-service" {
		t.Error("the caller's request was changed")
	}
}

// TestStream: an answer without an error is whole.
func TestStream(t *testing.T) {
	for name, c := range map[string]struct {
		body, text string
		ok         bool
	}{
		"whole":      {"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"b\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n", "ab", true},
		"cut":        {"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", "a", false},
		"an error":   {"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\ndata: {\"error\":{\"message\":\"gone\",\"code\":\"answer_incomplete\"}}\n\n", "a", false},
		"not a JSON": {"data: {\n\n", "", false},
		"nothing":    {"", "", false},
	} {
		base, _ := gateway(t, map[string]string{"X-Cocoon-Seal": "sealed", "X-Cocoon-Worker-Verdict": "tdx"}, c.body)
		client, err := sdk.Open(t.Context(), sdk.Config{Gateway: base})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		var failed error
		for chunk, err := range client.Stream(t.Context(), question) {
			text.WriteString(chunk.Text)
			failed = err
		}
		if text.String() != c.text || (failed == nil) != c.ok {
			t.Errorf("%s: %q, %v", name, text.String(), failed)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, cfg := range map[string]sdk.Config{
		"nothing":    {},
		"both":       {Gateway: "http://127.0.0.1:1/v1", File: "x"},
		"no URL":     {Gateway: "127.0.0.1:1"},
		"no file":    {File: "/does/not/exist"},
		"other form": {Gateway: "ftp://127.0.0.1/v1"},
	} {
		if c, err := sdk.Open(context.Background(), cfg); err == nil {
			t.Errorf("%s: opened %+v", name, c)
		}
	}
}
