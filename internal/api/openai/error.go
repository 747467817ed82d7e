package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The types of an error object, as the OpenAI API names them.
const (
	TypeInvalidRequest = "invalid_request_error"
	TypePermission     = "permission_error"
	TypeRateLimit      = "rate_limit_error"
	TypeBilling        = "billing_error"
	TypeQuota          = "insufficient_quota"
	TypeServer         = "server_error"
)

// The codes of an error object. They are stable: programs compare them. The
// table in docs/errors.md says what each means and what helps.
const (
	CodeInvalidJSON         = "invalid_json"
	CodeInvalidType         = "invalid_type"
	CodeInvalidValue        = "invalid_value"
	CodeInvalidForm         = "invalid_form"
	CodeMissingParameter    = "missing_required_parameter"
	CodeUnsupported         = "unsupported_parameter"
	CodeInvalidKey          = "invalid_api_key"
	CodeSessionRequired     = "session_required"
	CodeInsufficientBalance = "insufficient_balance"
	CodeModelNotAllowed     = "model_not_allowed"
	CodeInsufficientQuota   = "insufficient_quota"
	CodeIdempotency         = "idempotency_conflict"
	CodeInFlight            = "idempotency_in_flight"
	CodeHostNotAllowed      = "host_not_allowed"
	CodeOriginNotAllowed    = "origin_not_allowed"
	CodeModelNotFound       = "model_not_found"
	CodeNotFound            = "not_found"
	CodeMethodNotAllowed    = "method_not_allowed"
	CodeRequestTimeout      = "request_timeout"
	CodeTooLarge            = "request_too_large"
	CodeUnsupportedMedia    = "unsupported_media_type"
	CodeRateLimited         = "rate_limit_exceeded"
	CodeCancelled           = "request_cancelled"
	CodeInternal            = "internal_error"
	CodeUpstream            = "upstream_error"
	CodeCut                 = "answer_incomplete"
	CodeSchemaMismatch      = "schema_mismatch"
	CodeUnavailable         = "service_unavailable"
	CodeNotVerified         = "peer_not_verified"
	CodeNotSealed           = "seal_unavailable"
	CodeTimeout             = "timeout"
)

// StatusCancelled is the status of a call whose caller left, who will hardly
// read it.
const StatusCancelled = 499

// class is what a code implies. docs/errors.md is tested against it.
type class struct {
	status int
	typ    string
}

var classes = map[string]class{
	CodeInvalidJSON:         {http.StatusBadRequest, TypeInvalidRequest},
	CodeInvalidType:         {http.StatusBadRequest, TypeInvalidRequest},
	CodeInvalidValue:        {http.StatusBadRequest, TypeInvalidRequest},
	CodeInvalidForm:         {http.StatusBadRequest, TypeInvalidRequest},
	CodeMissingParameter:    {http.StatusBadRequest, TypeInvalidRequest},
	CodeUnsupported:         {http.StatusBadRequest, TypeInvalidRequest},
	CodeInvalidKey:          {http.StatusUnauthorized, TypeInvalidRequest},
	CodeSessionRequired:     {http.StatusUnauthorized, TypeInvalidRequest},
	CodeInsufficientBalance: {http.StatusPaymentRequired, TypeBilling},
	CodeModelNotAllowed:     {http.StatusForbidden, TypePermission},
	CodeInsufficientQuota:   {http.StatusTooManyRequests, TypeQuota},
	CodeIdempotency:         {http.StatusConflict, TypeInvalidRequest},
	CodeInFlight:            {http.StatusConflict, TypeInvalidRequest},
	CodeHostNotAllowed:      {http.StatusForbidden, TypePermission},
	CodeOriginNotAllowed:    {http.StatusForbidden, TypePermission},
	CodeModelNotFound:       {http.StatusNotFound, TypeInvalidRequest},
	CodeNotFound:            {http.StatusNotFound, TypeInvalidRequest},
	CodeMethodNotAllowed:    {http.StatusMethodNotAllowed, TypeInvalidRequest},
	CodeRequestTimeout:      {http.StatusRequestTimeout, TypeInvalidRequest},
	CodeTooLarge:            {http.StatusRequestEntityTooLarge, TypeInvalidRequest},
	CodeUnsupportedMedia:    {http.StatusUnsupportedMediaType, TypeInvalidRequest},
	CodeRateLimited:         {http.StatusTooManyRequests, TypeRateLimit},
	CodeCancelled:           {StatusCancelled, TypeInvalidRequest},
	CodeInternal:            {http.StatusInternalServerError, TypeServer},
	CodeUpstream:            {http.StatusBadGateway, TypeServer},
	CodeCut:                 {http.StatusBadGateway, TypeServer},
	CodeSchemaMismatch:      {http.StatusBadGateway, TypeServer},
	CodeUnavailable:         {http.StatusServiceUnavailable, TypeServer},
	CodeNotVerified:         {http.StatusServiceUnavailable, TypeServer},
	CodeNotSealed:           {http.StatusServiceUnavailable, TypeServer},
	CodeTimeout:             {http.StatusGatewayTimeout, TypeServer},
}

// Error is what an HTTP caller hears: an OpenAI error object with its status.
type Error struct {
	Status  int
	Message string
	Type    string
	// Param names the request field at fault, "" if none.
	Param string
	Code  string
	// RetryAfter becomes the Retry-After header if positive.
	RetryAfter time.Duration
}

// Errorf makes an Error of one of the package's codes; an unknown code becomes
// internal_error.
func Errorf(code, format string, args ...any) *Error {
	c, ok := classes[code]
	if !ok {
		code, c = CodeInternal, classes[CodeInternal]
	}
	return &Error{Status: c.status, Type: c.typ, Code: code, Message: fmt.Sprintf(format, args...)}
}

// InvalidJSON reports a body that cannot be read.
func InvalidJSON(format string, args ...any) *Error {
	return Errorf(CodeInvalidJSON, format, args...)
}

// InvalidType reports a field of the wrong JSON type; want is "a string".
func InvalidType(param, want string) *Error {
	e := Errorf(CodeInvalidType, "'%s' must be %s.", param, want)
	e.Param = param
	return e
}

// InvalidRequest reports a field with an unusable value.
func InvalidRequest(param, format string, args ...any) *Error {
	e := Errorf(CodeInvalidValue, format, args...)
	e.Param = param
	return e
}

// Missing reports an absent field.
func Missing(param string) *Error {
	e := Errorf(CodeMissingParameter, "You must provide '%s'.", param)
	e.Param = param
	return e
}

// Unsupported reports a field that this endpoint or the chosen peer refuses.
func Unsupported(param, format string, args ...any) *Error {
	e := Errorf(CodeUnsupported, format, args...)
	e.Param = param
	return e
}

// ModelNotFound reports a model that no live worker serves.
func ModelNotFound(model string) *Error {
	e := Errorf(CodeModelNotFound, "The model '%s' is not served by any worker now; GET /v1/models lists those that are.", clip(model))
	e.Param = "model"
	return e
}

// NotFound reports an unknown path.
func NotFound(path string) *Error {
	return Errorf(CodeNotFound, "There is nothing at '%s'.", clip(path))
}

// MethodNotAllowed reports a path asked with the wrong method.
func MethodNotAllowed(method, allow string) *Error {
	return Errorf(CodeMethodNotAllowed, "The method %s is not allowed here; use %s.", clip(method), allow)
}

// TooLarge reports a body above limit bytes.
func TooLarge(limit int64) *Error {
	return Errorf(CodeTooLarge, "The request body is larger than %d bytes.", limit)
}

// UnsupportedMedia reports a body of the wrong content type.
func UnsupportedMedia(want string) *Error {
	return Errorf(CodeUnsupportedMedia, "The header Content-Type must be %s.", want)
}

// RateLimited reports that the caller should wait.
func RateLimited(after time.Duration, format string, args ...any) *Error {
	e := Errorf(CodeRateLimited, format, args...)
	e.RetryAfter = after
	return e
}

// InsufficientBalance reports that the channel cannot pay for the call.
func InsufficientBalance(format string, args ...any) *Error {
	return Errorf(CodeInsufficientBalance, format, args...)
}

// Unavailable reports that nobody can serve the call now.
func Unavailable(format string, args ...any) *Error {
	e := Errorf(CodeUnavailable, format, args...)
	e.RetryAfter = time.Second
	return e
}

// NotVerified reports that the peers there are do not pass verification.
func NotVerified(format string, args ...any) *Error {
	return Errorf(CodeNotVerified, format, args...)
}

// Timeout reports that the call's time is over.
func Timeout(format string, args ...any) *Error { return Errorf(CodeTimeout, format, args...) }

// Upstream reports a peer or an engine that answered wrongly.
func Upstream(format string, args ...any) *Error { return Errorf(CodeUpstream, format, args...) }

// Cut reports an answer that ended early.
func Cut(format string, args ...any) *Error { return Errorf(CodeCut, format, args...) }

// Cancelled reports a caller who left.
func Cancelled() *Error { return Errorf(CodeCancelled, "The caller cancelled the request.") }

// Internal reports a fault of ours, of which the caller learns no details.
func Internal() *Error { return Errorf(CodeInternal, "Internal error.") }

// From returns what a caller may hear of err: an *Error as it is, time, size
// and cancellation by their codes, anything else as an internal error. It
// returns nil for nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &tooLarge):
		return TooLarge(tooLarge.Limit)
	case errors.Is(err, context.Canceled):
		return Cancelled()
	case errors.Is(err, context.DeadlineExceeded):
		return Timeout("The time for this request is over.")
	}
	return Internal()
}

func (e *Error) Error() string {
	if e.Param != "" {
		return fmt.Sprintf("%s (%s, %s)", e.Message, e.Code, e.Param)
	}
	return fmt.Sprintf("%s (%s)", e.Message, e.Code)
}

// Retryable reports whether the same request may succeed elsewhere or later.
func (e *Error) Retryable() bool {
	switch e.Code {
	case CodeRateLimited, CodeUpstream, CodeCut, CodeSchemaMismatch, CodeUnavailable:
		return true
	}
	return false
}

// MarshalJSON writes {"error":{message,type,param,code}}; param and code are
// null if empty.
func (e *Error) MarshalJSON() ([]byte, error) {
	type object struct {
		Message string  `json:"message"`
		Type    string  `json:"type"`
		Param   *string `json:"param"`
		Code    *string `json:"code"`
	}
	o := object{Message: e.Message, Type: e.Type}
	if e.Param != "" {
		o.Param = &e.Param
	}
	if e.Code != "" {
		o.Code = &e.Code
	}
	return json.Marshal(map[string]object{"error": o})
}

// Write sends e as the whole answer.
func (e *Error) Write(w http.ResponseWriter) {
	b, err := e.MarshalJSON()
	if err != nil {
		// Strings and pointers to strings always marshal.
		panic(err)
	}
	e.WriteBody(w, b)
}

// WriteBody sends e's status and headers with a body of another form.
func (e *Error) WriteBody(w http.ResponseWriter, b []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(b)+1))
	h.Set("Cache-Control", "no-store")
	after := e.RetryAfter
	if after <= 0 && (e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable) {
		after = time.Second // whoever made the error named none
	}
	if e.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer") // RFC 9110 15.5.2
	}
	if after > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(after.Seconds())), 10))
	}
	w.WriteHeader(e.Status)
	_, _ = w.Write(append(b, '\n'))
}

// MaxErrorText bounds each text that ParseError keeps, in bytes.
const MaxErrorText = 2048

// ParseError reads the error a peer or engine sent with an HTTP status of 400
// or more: an OpenAI error object, the flat object of vLLM, the reference
// network's {"error":"text","error_code":n} (spec changes-2026-04 5.1) or
// anything else, which becomes a plain upstream_error. Texts are clipped.
func ParseError(status int, body []byte) *Error {
	e := &Error{Status: status, Type: TypeServer, Code: CodeUpstream, Message: fmt.Sprintf("The engine answered with status %d.", status)}
	switch {
	case status == http.StatusTooManyRequests:
		e.Type, e.Code = TypeRateLimit, CodeRateLimited
	case status == http.StatusRequestEntityTooLarge:
		e.Type, e.Code = TypeInvalidRequest, CodeTooLarge
	case status == http.StatusServiceUnavailable:
		e.Code = CodeUnavailable
	case status == http.StatusGatewayTimeout:
		e.Code = CodeTimeout
	case status >= 400 && status < 500:
		e.Type, e.Code = TypeInvalidRequest, CodeInvalidValue
	case status < 400 || status > 599:
		e.Status = http.StatusBadGateway
	}
	o, err := ParseObject(body)
	if err != nil {
		return e
	}
	if inner, ok := o.Get("error"); ok {
		if s, ok := jsonString(inner); ok {
			e.set(&e.Message, s)
			return e
		}
		if o, err = ParseObject(inner); err != nil {
			return e
		}
	}
	for key, to := range map[string]*string{"message": &e.Message, "type": &e.Type, "param": &e.Param, "code": &e.Code} {
		if raw, ok := o.Get(key); ok {
			if s, ok := jsonString(raw); ok {
				e.set(to, s)
			}
		}
	}
	return e
}

func (e *Error) set(field *string, s string) {
	if s != "" {
		*field = clipTo(s, MaxErrorText)
	}
}

// clip keeps foreign names short.
func clip(s string) string { return clipTo(s, 128) }

func clipTo(s string, n int) string {
	if len(s) > n {
		s = s[:n] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// IsCode reports whether code is one of this package.
func IsCode(code string) bool { _, ok := classes[code]; return ok }

// Codes returns every code of this package, in order.
func Codes() []string { return slices.Sorted(maps.Keys(classes)) }
