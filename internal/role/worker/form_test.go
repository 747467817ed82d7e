package worker

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/wire"
)

const formPath = "/v1/audio/transcriptions"

func formQuery(pairs ...string) []byte {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == "file" {
			f, _ := w.CreateFormFile("file", "a.wav")
			_, _ = io.WriteString(f, pairs[i+1])
			continue
		}
		_ = w.WriteField(pairs[i], pairs[i+1])
	}
	_ = w.Close()
	return role.EncodeRequest(formPath, w.FormDataContentType(), b.Bytes())
}

// TestForm: what of a form goes to the engine, under which limit.
func TestForm(t *testing.T) {
	for _, c := range []struct {
		pairs []string
		want  string
		most  int64
	}{
		{[]string{"model", "m", "file", "RIFF", "language", "en", "user", "u"}, "model=other file(a.wav)=RIFF language=en max_tokens=1000", 1000},
		{[]string{"file", "RIFF", "model", "m", "max_tokens", "7", "stream", "0", "timestamp_granularities[]", "word", "response_format", "verbose_json"}, "file(a.wav)=RIFF model=other max_tokens=7 timestamp_granularities[]=word response_format=verbose_json", 7},
		{[]string{"stream", "1", "file", "RIFF", "stream_include_usage", "false", "model", "m", "response_format", "json"}, "file(a.wav)=RIFF model=other response_format=json max_tokens=1000 stream=true stream_include_usage=true stream_continuous_usage_stats=true", 1000},
	} {
		p, werr := planner(func(c *Config) { c.ServedModel = "other" }).prepare(formQuery(c.pairs...))
		if werr != nil {
			t.Fatalf("%v: %v", c.pairs, werr)
		}
		_, params, err := mime.ParseMediaType(p.request.ContentType)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		r := multipart.NewReader(bytes.NewReader(p.request.Body), params["boundary"])
		for {
			part, err := r.NextPart()
			if err == io.EOF {
				break
			}
			data, _ := io.ReadAll(part)
			name := part.FormName()
			if part.FileName() != "" {
				name += "(" + part.FileName() + ")"
			}
			got = append(got, fmt.Sprintf("%s=%s", name, data))
		}
		if strings.Join(got, " ") != c.want || p.maxCompletion != c.most || p.request.Path != formPath {
			t.Errorf("got %q, at most %d; want %s, %d", got, p.maxCompletion, c.want, c.most)
		}
	}
}

func TestRefusedForms(t *testing.T) {
	for _, c := range []struct {
		pairs []string
		text  string
	}{
		{[]string{"file", "SECRET"}, "'' must have a field 'model'"},
		{[]string{"model", "m"}, "'' must have a field 'file'"},
		{[]string{"model", "SECRET", "file", "x"}, "model name mismatch"},
		{[]string{"model", "m", "file", "x", "max_tokens", "SECRET"}, ".max_tokens must be an integer"},
		{[]string{"model", "m", "file", "x", "stream", "SECRET"}, ".stream must be a boolean"},
		{[]string{"model", "m", "file", "x", "response_format", "SECRET"}, "response_format must be JSON of some kind, which has room for usage"},
		{[]string{"model", "m", "file", "x", "prompt", strings.Repeat("SECRET", 20_000)}, "cannot parse form multipart data"},
		{strings.Split(strings.Repeat("language|en|", 70)+"file|x", "|"), "cannot parse form multipart data"},
	} {
		_, err := planner().prepare(formQuery(c.pairs...))
		if err == nil || err.Code != wire.CodeProtocolViolation || err.Text != "worker: invalid http request: "+c.text {
			t.Errorf("%.80q: %v, want %q", c.pairs, err, c.text)
		}
	}
	if _, err := planner().prepare(role.EncodeRequest(formPath, "multipart/form-data", []byte("SECRET"))); err == nil {
		t.Error("a form without a boundary passes")
	}
}

// TestEmbeddingPlan: no output limit is written where there is no output.
func TestEmbeddingPlan(t *testing.T) {
	p, err := planner().prepare(query("/v1/embeddings", `{"model":"m","input":["a","b"]}`))
	if err != nil || string(p.request.Body) != `{"model":"m","input":["a","b"]}` || p.maxCompletion != 0 {
		t.Errorf("%v: %s, at most %d", err, p.request.Body, p.maxCompletion)
	}
}

// FuzzForm: a form that is taken goes on as one that can be taken again.
func FuzzForm(f *testing.F) {
	f.Add("multipart/form-data; boundary=x", []byte("--x\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nRIFF\r\n--x--\r\n"))
	w := planner()
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		p, err := w.prepare(role.EncodeRequest(formPath, contentType, body))
		if err != nil {
			return
		}
		if _, err := w.prepare(role.EncodeRequest(formPath, p.request.ContentType, p.request.Body)); err != nil {
			t.Errorf("%q becomes %q: %v", body, p.request.Body, err)
		}
	})
}
