package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

func TestErrorWrite(t *testing.T) {
	e := RateLimited(1500*time.Millisecond, "slow down")
	w := httptest.NewRecorder()
	e.Write(w)
	if w.Code != 429 || w.Header().Get("Retry-After") != "2" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if want := `{"error":{"message":"slow down","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}` + "\n"; w.Body.String() != want {
		t.Errorf("got %s want %s", w.Body, want)
	}
	w = httptest.NewRecorder()
	Errorf(CodeInvalidKey, "no").Write(w)
	if w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	b, err := json.Marshal(InvalidRequest("n", "'n' must be at least 1."))
	if want := `{"error":{"message":"'n' must be at least 1.","type":"invalid_request_error","param":"n","code":"invalid_value"}}`; err != nil || string(b) != want {
		t.Errorf("got %s, %v want %s", b, err, want)
	}
}

func TestFrom(t *testing.T) {
	known := ModelNotFound("m")
	for _, c := range []struct {
		in   error
		code string
	}{
		{fmt.Errorf("doing: %w", known), CodeModelNotFound},
		{context.Canceled, CodeCancelled},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), CodeTimeout},
		{&http.MaxBytesError{Limit: 5}, CodeTooLarge},
		{errors.New("secret detail"), CodeInternal},
	} {
		e := From(c.in)
		if e.Code != c.code || strings.Contains(e.Error(), "secret") {
			t.Errorf("From(%v) = %v", c.in, e)
		}
	}
	if From(nil) != nil {
		t.Error("From(nil) is not nil")
	}
}

func TestParseError(t *testing.T) {
	for _, c := range []struct {
		status                   int
		body                     string
		wantStatus               int
		message, typ, param, cod string
	}{
		{400, `{"error":{"message":"bad n","type":"invalid_request_error","param":"n","code":"x"}}`, 400, "bad n", TypeInvalidRequest, "n", "x"},
		{400, `{"object":"error","message":"too long","type":"BadRequestError","param":null,"code":400}`, 400, "too long", "BadRequestError", "", CodeInvalidValue},
		{400, `{"error":"Internal data: [Error : 621 : model name mismatch]","error_code":621}`, 400, "Internal data: [Error : 621 : model name mismatch]", TypeInvalidRequest, "", CodeInvalidValue},
		{500, `oops`, 500, "The engine answered with status 500.", TypeServer, "", CodeUpstream},
		{503, ``, 503, "The engine answered with status 503.", TypeServer, "", CodeUnavailable},
		{504, `[]`, 504, "The engine answered with status 504.", TypeServer, "", CodeTimeout},
		{429, `{"error":{}}`, 429, "The engine answered with status 429.", TypeRateLimit, "", CodeRateLimited},
		{413, `{"detail":"x"}`, 413, "The engine answered with status 413.", TypeInvalidRequest, "", CodeTooLarge},
		{302, `{}`, 502, "The engine answered with status 302.", TypeServer, "", CodeUpstream},
	} {
		e := ParseError(c.status, []byte(c.body))
		if e.Status != c.wantStatus || e.Message != c.message || e.Type != c.typ || e.Param != c.param || e.Code != c.cod {
			t.Errorf("ParseError(%d, %s) = %+v", c.status, c.body, e)
		}
	}
	if e := ParseError(500, []byte(`{"error":"`+strings.Repeat("x", 5000)+`"}`)); len(e.Message) > MaxErrorText+4 {
		t.Errorf("message of %d bytes", len(e.Message))
	}
}

// TestErrorTable holds docs/errors.md to the codes.
func TestErrorTable(t *testing.T) {
	b, err := os.ReadFile("../../../docs/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "| `") {
			rows++
		}
	}
	for code, c := range classes {
		if row := fmt.Sprintf("| `%s` | %d | `%s` |", code, c.status, c.typ); !strings.Contains(string(b), row) {
			t.Errorf("docs/errors.md has no row that begins %q", row)
		}
	}
	if rows != len(classes) {
		t.Errorf("docs/errors.md has %d rows, there are %d codes", rows, len(classes))
	}
}
