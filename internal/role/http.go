package role

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

// EncodeRequest writes an inference as the http.request that travels in
// client.runQueryEx (spec network-protocol 5.1). Content-Type is the only
// caller header in it; Host stands there because C++ workers pass it to
// engines that insist on one (5.4).
func EncodeRequest(path, contentType string, body []byte) []byte {
	r := schema.HttpRequest{
		Method:      http.MethodPost,
		URL:         path,
		HttpVersion: "HTTP/1.1",
		Headers: []schema.HttpHeader{
			{Name: "Host", Value: "cocoon"},
			{Name: "Content-Type", Value: contentType},
		},
		Payload: body,
	}
	if len(body) > 0 {
		r.Headers = append(r.Headers, schema.HttpHeader{Name: "Content-Length", Value: strconv.Itoa(len(body))})
	}
	return schema.Marshal(&r)
}

// DecodeRequest reads an http.request.
func DecodeRequest(b []byte) (*schema.HttpRequest, error) {
	o, err := schema.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("not an http.request: %w", err)
	}
	r, ok := o.(*schema.HttpRequest)
	if !ok {
		return nil, fmt.Errorf("not an http.request but %T", o)
	}
	return r, nil
}

// EncodeResponse writes the head of an answer: a boxed http.response whose
// payload is body. Transfer-Encoding is always chunked, as the spec advises
// for answers of any length (5.5).
func EncodeResponse(status int, header http.Header, body []byte) []byte {
	r := schema.HttpResponse{
		HttpVersion: "HTTP/1.1",
		StatusCode:  int32(status),
		Reason:      http.StatusText(status),
		Payload:     body,
	}
	for name, values := range header {
		if hopByHop(name) {
			continue
		}
		for _, v := range values {
			r.Headers = append(r.Headers, schema.HttpHeader{Name: name, Value: v})
		}
	}
	r.Headers = append(r.Headers, schema.HttpHeader{Name: "Transfer-Encoding", Value: "chunked"})
	return schema.Marshal(&r)
}

// DecodeResponse reads the head of an answer. Hop-by-hop and length headers
// are dropped, whatever their case.
func DecodeResponse(b []byte) (status int, header http.Header, body []byte, err error) {
	o, err := schema.Decode(b)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("not an http.response: %w", err)
	}
	r, ok := o.(*schema.HttpResponse)
	if !ok {
		return 0, nil, nil, fmt.Errorf("not an http.response but %T", o)
	}
	if err := checkHead(r.HttpVersion, r.StatusCode); err != nil {
		return 0, nil, nil, err
	}
	header = make(http.Header, len(r.Headers))
	for _, h := range r.Headers {
		if !hopByHop(h.Name) {
			header.Add(h.Name, h.Value)
		}
	}
	return int(r.StatusCode), header, r.Payload, nil
}

// CheckResponse says what DecodeResponse would fail with, for those who pass
// the head on.
func CheckResponse(b []byte) error {
	r := tl.NewReader(b)
	if id := r.ID(); id != (*schema.HttpResponse)(nil).TLID() {
		return fmt.Errorf("not an http.response but %#08x", id)
	}
	version, status := r.Bytes(), r.Int32()
	r.Bytes() // reason
	for range r.Count(8) {
		r.Bytes() // name
		r.Bytes() // value
	}
	r.Bytes() // payload
	if err := r.Finish(); err != nil {
		return fmt.Errorf("not an http.response: %w", err)
	}
	return checkHead(string(version), status)
}

func checkHead(version string, status int32) error {
	if version != "HTTP/1.0" && version != "HTTP/1.1" {
		return errors.New("http.response of an unknown version") // which some clients do not survive
	}
	if status < 200 || status > 599 {
		return fmt.Errorf("http.response with status %d", status)
	}
	return nil
}

func hopByHop(name string) bool {
	switch strings.ToLower(name) {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade", "host":
		return true
	}
	return false
}

// ErrorAnswer makes a failure into a complete HTTP answer: the only form of
// failure that every C++ client survives (spec network-protocol 5.9).
func ErrorAnswer(err *wire.Error) []byte {
	body, _ := json.Marshal(map[string]any{"error": map[string]any{
		"message": err.Text, "type": "cocoon_error", "param": nil, "code": int32(err.Code),
	}})
	r := schema.HttpResponse{
		HttpVersion: "HTTP/1.1",
		StatusCode:  int32(HTTPStatus(err.Code)),
		Reason:      http.StatusText(HTTPStatus(err.Code)),
		Headers: []schema.HttpHeader{
			{Name: "Content-Type", Value: "application/json"},
			{Name: "Content-Length", Value: strconv.Itoa(len(body))},
		},
		Payload: body,
	}
	return schema.Marshal(&r)
}

// HTTPStatus maps an error number (spec changes-2026-04 5.1).
func HTTPStatus(c wire.Code) int {
	switch c {
	case wire.CodeTimeout:
		return http.StatusGatewayTimeout
	case wire.CodeNotReady:
		return http.StatusBadGateway
	case wire.CodeProtocolViolation:
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}
