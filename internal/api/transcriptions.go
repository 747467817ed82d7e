package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// POST /v1/audio/transcriptions: a form with a file. It is read, checked and
// written anew, so that what travels has one shape.

// Bounds on a form.
const (
	maxFormParts = 64
	maxFormField = 64 << 10 // bytes of a field that is no file
	// transcriptTokens is the limit of output tokens of a transcription that
	// names none: an hour of speech.
	transcriptTokens = 16384
)

// formFields are the texts a form may hold. Their checks see them as JSON:
// numbers as numbers, all else as strings.
var formFields = map[string]struct {
	check  check
	number bool
}{
	"model":                     {isModel, false},
	"language":                  {isString, false},
	"prompt":                    {isString, false},
	"response_format":           {oneOf("json", "verbose_json", "text", "srt", "vtt", "diarized_json"), false},
	"temperature":               {numberIn(0, 1), true},
	"chunking_strategy":         {isString, false},
	"timestamp_granularities[]": {oneOf("word", "segment"), false},
	"include[]":                 {oneOf("logprobs"), false},
	"max_tokens":                {integerIn(1, 1<<20), true},
	"max_completion_tokens":     {integerIn(1, 1<<20), true},
	"stream":                    {oneOf("true", "false", "1", "0"), false},
	"user":                      {isString, false},
	"max_coefficient":           {choiceFields["max_coefficient"], true},
	"timeout":                   {isNumber, true},
}

// requireForm refuses a body that is no form.
func requireForm(r *http.Request) error {
	types := r.Header.Values("Content-Type")
	if len(types) == 1 && r.Header.Get("Content-Encoding") == "" {
		t, params, err := mime.ParseMediaType(types[0])
		if err == nil && t == "multipart/form-data" && params["boundary"] != "" {
			return nil
		}
	}
	return openai.UnsupportedMedia("multipart/form-data with a boundary, and the body not compressed")
}

type formPart struct {
	name, file, media string
	data              []byte
}

func (g *Gateway) parseTranscription(x *exchange, body []byte) (*request, error) {
	_, params, _ := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	parts, fail := readForm(body, params["boundary"])
	if fail != nil {
		return nil, fail
	}
	rq := &request{Call: Call{Path: pathTranscriptions}, same: sameForm(parts)}
	chosen, limit, asked := &openai.Object{}, int64(transcriptTokens), ""
	limit = min(limit, int64(g.cfg.MaxTokens))
	var kept []formPart
	var file, model, timed bool
	form := &transcriptForm{format: "json"}
	for _, p := range parts {
		if p.name == "file" {
			if len(p.data) == 0 {
				return nil, openai.InvalidRequest("file", "'file' must not be empty.")
			}
			file = true
			kept = append(kept, p)
			continue
		}
		param := strings.TrimSuffix(p.name, "[]")
		v, fail := formValue(param, p)
		if fail != nil {
			return nil, fail
		}
		f, ok := formFields[p.name]
		if !ok {
			f, ok = formFields[p.name+"[]"]
		}
		if ok {
			if fail := f.check(param, v); fail != nil {
				return nil, fail
			}
		}
		switch p.name {
		case "model":
			model = true
			chosen.Set("model", v)
		case "max_coefficient", "timeout":
			chosen.Set(p.name, v)
		case "max_tokens", "max_completion_tokens":
			n, _ := strconv.ParseInt(string(v), 10, 64)
			if asked = p.name; n > int64(g.cfg.MaxTokens) {
				return nil, openai.InvalidRequest(asked, "'%s' exceeds the %d tokens that one call may reserve.", asked, g.cfg.MaxTokens)
			}
			limit = min(limit, n)
		case "response_format":
			form.format = str(v)
		case "timestamp_granularities", "timestamp_granularities[]":
			timed = true
			kept = append(kept, p)
		case "stream":
			rq.stream = str(v) == "true" || str(v) == "1"
		case "user":
		default:
			kept = append(kept, p)
		}
	}
	if !model {
		return nil, openai.Missing("model")
	}
	if !file {
		return nil, openai.Missing("file")
	}
	switch {
	case timed && form.format != "verbose_json":
		return nil, openai.InvalidRequest("timestamp_granularities", "'timestamp_granularities' needs 'response_format' to be 'verbose_json'.")
	case rq.stream && form.format != "json" && form.format != "diarized_json":
		return nil, openai.InvalidRequest("response_format", "'response_format' must be 'json' where 'stream' is true.")
	}
	rq.form = form
	if fail := rq.splitModel(chosen); fail != nil {
		return nil, fail
	}
	if fail := rq.choices(g, x.r.Header, chosen); fail != nil {
		return nil, fail
	}
	if fail := rq.sealing(g, x.r.Header); fail != nil {
		return nil, fail
	}
	rq.MaxTokens = int32(limit)
	kept = append(kept, formPart{name: "response_format", data: []byte(askedFormat(form.format))})
	if rq.stream {
		kept = append(kept, formPart{name: "stream", data: []byte("true")}, formPart{name: "stream_include_usage", data: []byte("true")})
	}
	kept = append(kept, formPart{name: "model", data: []byte(rq.Model)}, formPart{name: "max_tokens", data: strconv.AppendInt(nil, limit, 10)})
	if g.cfg.Reference {
		rq.Reference = formForReference(kept)
	}
	rq.Body, rq.ContentType = writeForm(kept)
	return rq, nil
}

// sameForm is a digest of a form without its boundary.
func sameForm(parts []formPart) []byte {
	h := sha256.New()
	for _, p := range parts {
		for _, b := range [][]byte{[]byte(p.name), []byte(p.file), []byte(p.media), p.data} {
			h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
			h.Write(b)
		}
	}
	return h.Sum(nil)
}

// readForm reads a form within its bounds.
func readForm(body []byte, boundary string) ([]formPart, *openai.Error) {
	r := multipart.NewReader(bytes.NewReader(body), boundary)
	var out []formPart
	for {
		p, err := r.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, openai.Errorf(openai.CodeInvalidForm, "The request body is not a readable multipart form.")
		}
		if len(out) == maxFormParts {
			return nil, openai.Errorf(openai.CodeInvalidForm, "The form has more than %d parts.", maxFormParts)
		}
		name := p.FormName()
		if name == "" || len(name) > 128 || !utf8.ValidString(name) || strings.ContainsAny(name, "\"\\\r\n") {
			return nil, openai.Errorf(openai.CodeInvalidForm, "A part of the form has no usable name.")
		}
		data, err := io.ReadAll(p)
		if err != nil {
			return nil, openai.Errorf(openai.CodeInvalidForm, "The form ends early.")
		}
		if name != "file" && len(data) > maxFormField {
			return nil, openai.InvalidRequest(clipName(name), "A field of the form is longer than %d bytes.", maxFormField)
		}
		out = append(out, formPart{name: name, file: p.FileName(), media: p.Header.Get("Content-Type"), data: data})
	}
}

// formValue is a field as JSON, which is what the checks know.
func formValue(param string, p formPart) (json.RawMessage, *openai.Error) {
	if !utf8.Valid(p.data) {
		return nil, openai.InvalidRequest(clipName(param), "A field of the form is not valid UTF-8.")
	}
	if formFields[p.name].number {
		v := json.RawMessage(bytes.TrimSpace(p.data))
		if openai.Valid(v) != nil || kind(v) != '0' {
			return nil, openai.InvalidType(param, "a number")
		}
		return v, nil
	}
	return openai.AppendString(nil, string(p.data)), nil
}

// writeForm writes a form whose content type every peer can read (spec
// changes-2026-04 7.4): one blank before the boundary, no quotes.
func writeForm(parts []formPart) (body []byte, contentType string) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for _, p := range parts {
		h := textproto.MIMEHeader{}
		disposition := fmt.Sprintf(`form-data; name="%s"`, p.name)
		if p.name == "file" {
			disposition += fmt.Sprintf(`; filename="%s"`, fileName(p.file))
			if p.media != "" && len(p.media) < 128 && !strings.ContainsAny(p.media, "\r\n") {
				h.Set("Content-Type", p.media)
			}
		}
		h.Set("Content-Disposition", disposition)
		part, err := w.CreatePart(h)
		if err != nil {
			panic(err) // a buffer takes everything
		}
		_, _ = part.Write(p.data)
	}
	_ = w.Close()
	return b.Bytes(), "multipart/form-data; boundary=" + w.Boundary()
}

// fileName keeps of a file's name what engines look at, its ending; the rest
// can tell about the caller.
func fileName(s string) string {
	if i := strings.LastIndexByte(s, '.'); i >= 0 && len(s)-i <= 8 {
		ending := strings.ToLower(s[i+1:])
		if ending != "" && strings.Trim(ending, "abcdefghijklmnopqrstuvwxyz0123456789") == "" {
			return "audio." + ending
		}
	}
	return "audio"
}

// formForReference says why reference workers would refuse a form.
func formForReference(parts []formPart) *openai.Error {
	for _, p := range parts {
		switch p.name {
		case "model", "file", "chunking_strategy", "language", "prompt", "max_tokens", "temperature":
		case "response_format":
			if string(p.data) != "json" {
				return refusedThere(p.name)
			}
		default:
			return refusedThere(strings.TrimSuffix(p.name, "[]"))
		}
	}
	return nil
}
