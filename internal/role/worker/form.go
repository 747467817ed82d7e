package worker

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/internal/engine"
	"github.com/cocoon-network/cocoon/internal/wire"
	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// Bounds on a form, its file apart: that is bounded by the packet it came in.
const (
	maxFormParts = 64
	maxFormField = 64 << 10
)

// prepareForm is prepare for a transcription (spec changes-2026-04 7.4): a form
// whose model must be ours, whose output is limited, and which goes on under the
// boundary it came with.
func (w *Worker) prepareForm(r *schema.HttpRequest, size int) (*plan, *wire.Error) {
	contentType := ""
	for _, h := range r.Headers {
		if strings.EqualFold(h.Name, "content-type") {
			contentType = h.Value
		}
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != "multipart/form-data" {
		return nil, invalid("expected multipart/form-data content type")
	}
	p := &plan{transcript: true, maxPrompt: int64(size), maxCompletion: defaultMaxTokens}
	var out bytes.Buffer
	form := multipart.NewWriter(&out)
	if err := form.SetBoundary(params["boundary"]); err != nil {
		return nil, invalid("cannot find boundary in content type")
	}
	var model, file bool
	limit := int64(-1)
	in := multipart.NewReader(bytes.NewReader(r.Payload), params["boundary"])
	for n := 0; ; n++ {
		part, err := in.NextRawPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || n == maxFormParts {
			return nil, invalid("cannot parse form multipart data")
		}
		name := part.FormName()
		data, err := io.ReadAll(part)
		if err != nil || name != "file" && len(data) > maxFormField {
			return nil, invalid("cannot parse form multipart data")
		}
		switch name {
		case "model":
			if string(data) != w.cfg.Model.Base() {
				return nil, invalid("model name mismatch")
			}
			model, data = true, []byte(w.cfg.ServedModel)
		case "file":
			file = true
		case "max_tokens", "max_completion_tokens":
			v, err := strconv.ParseInt(string(data), 10, 32)
			if err != nil || v < 0 {
				return nil, invalid(".%s must be an integer", name)
			}
			limit = max(limit, v)
		case "stream":
			switch string(data) {
			case "1", "true":
				p.stream = true
			case "0", "false":
			default:
				return nil, invalid(".stream must be a boolean")
			}
			continue
		case "stream_include_usage", "stream_continuous_usage_stats":
			continue // ours to say
		case "response_format":
			if s := string(data); s != "json" && s != "verbose_json" && s != "diarized_json" {
				return nil, invalid("response_format must be JSON of some kind, which has room for usage")
			}
		case "user", "cache_salt":
			p.caller = append(append(p.caller, data...), 0)
			continue
		}
		h := textproto.MIMEHeader{}
		for key, v := range part.Header {
			h[key] = v
		}
		to, err := form.CreatePart(h)
		if err != nil {
			return nil, invalid("cannot parse form multipart data")
		}
		_, _ = to.Write(data)
	}
	if !model {
		return nil, invalid("'' must have a field 'model'")
	}
	if !file {
		return nil, invalid("'' must have a field 'file'")
	}
	if limit < 0 {
		_ = form.WriteField("max_tokens", strconv.Itoa(defaultMaxTokens))
	} else {
		p.maxCompletion = limit
	}
	if p.stream {
		p.usageAsked = true
		_ = form.WriteField("stream", "true")
		_ = form.WriteField("stream_include_usage", "true")
		if w.cfg.Engine.Caps().ContinuousUsage {
			_ = form.WriteField("stream_continuous_usage_stats", "true")
		}
	}
	_ = form.Close()
	p.request = engine.Request{Path: "/v1/audio/transcriptions", ContentType: "multipart/form-data; boundary=" + form.Boundary(), Body: out.Bytes()}
	return p, nil
}
