package openai_test

import (
	"encoding/json"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"testing"

	openai "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/responses"
)

// TestResponsesForm holds what the official client makes of /v1/responses,
// whole and streamed, against the chat answer of the engine asked directly.
func TestResponsesForm(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		ctx := deadline(t)
		want, _, err := ask(ctx, client(to.direct()), chat("one two three"))
		if err != nil {
			t.Fatal(err)
		}
		p := responses.ResponseNewParams{Model: engineModel, Input: responses.ResponseNewParamsInputUnion{OfString: param.NewOpt("one two three")}}
		cl := client(to.base)
		r, err := cl.Responses.New(ctx, p)
		if err != nil || r.OutputText() != want.Texts[0] || r.Status != "completed" || r.Usage.TotalTokens != want.Total || r.Usage.InputTokens != want.Prompt {
			t.Fatalf("whole: %q %s %+v, %v; want %+v", r.OutputText(), r.Status, r.Usage, err, want)
		}
		if costOf(t, r.Usage.RawJSON()) <= 0 {
			t.Errorf("cost in %s", r.Usage.RawJSON())
		}
		s := cl.Responses.NewStreaming(ctx, p)
		text, done := "", false
		for s.Next() {
			switch e := s.Current().AsAny().(type) {
			case responses.ResponseTextDeltaEvent:
				text += e.Delta
			case responses.ResponseCompletedEvent:
				done = e.Response.OutputText() == want.Texts[0] && e.Response.Usage.TotalTokens == want.Total
			}
		}
		if s.Err() != nil || text != want.Texts[0] || !done {
			t.Errorf("streamed %q, done %v, %v", text, done, s.Err())
		}
		p.Tools = []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: "say", Parameters: map[string]any{"type": "object"}, Strict: param.NewOpt(false)}}}
		r, err = cl.Responses.New(ctx, p)
		if err != nil || len(r.Output) != 1 || r.Output[0].Type != "function_call" || r.Output[0].Name != "say" || r.Output[0].CallID != "call_1" {
			t.Errorf("tool: %v, %v", r.RawJSON(), err)
		}
		p.Input = responses.ResponseNewParamsInputUnion{OfString: param.NewOpt("break after two")}
		p.Tools = nil
		s = cl.Responses.NewStreaming(ctx, p)
		completed, last := false, ""
		for s.Next() {
			last = s.Current().Type
			completed = completed || last == "response.completed"
		}
		if completed || last != "error" && s.Err() == nil {
			t.Errorf("a broken stream ends with %q, %v", last, s.Err())
		}
		p.Store = param.NewOpt(true)
		_, err = cl.Responses.New(ctx, p)
		if e := wantError(t, err, 400, "unsupported_parameter"); e.Param != "store" {
			t.Errorf("param %q", e.Param)
		}
	})
}

// TestEmbeddingsSame holds vectors and usage against the engine's own.
func TestEmbeddingsSame(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		ctx := deadline(t)
		p := openai.EmbeddingNewParams{Model: engineModel, Dimensions: openai.Int(3), Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"one two three four", "five"}}}
		direct, cl := client(to.direct()), client(to.base)
		want, err := direct.Embeddings.New(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		got, err := cl.Embeddings.New(ctx, p)
		if err != nil || len(got.Data) != 2 || got.Usage.TotalTokens != want.Usage.TotalTokens {
			t.Fatalf("%+v, %v", got, err)
		}
		for i := range want.Data {
			if !reflect.DeepEqual(got.Data[i].Embedding, want.Data[i].Embedding) {
				t.Errorf("%d: %v, want %v", i, got.Data[i].Embedding, want.Data[i].Embedding)
			}
		}
		if costOf(t, got.Usage.RawJSON()) <= 0 {
			t.Errorf("cost in %s", got.Usage.RawJSON())
		}
	})
}

// TestTranscriptionSame sends a form through the official client.
func TestTranscriptionSame(t *testing.T) {
	forEach(t, func(t *testing.T, to target) {
		ctx := deadline(t)
		ask := func(base string, format openai.AudioResponseFormat) (string, error) {
			cl := client(base)
			r, err := cl.Audio.Transcriptions.New(ctx, openai.AudioTranscriptionNewParams{
				Model: engineModel, File: openai.File(strings.NewReader("hello there"), "speech.wav", "audio/wav"), Language: openai.String("en"), ResponseFormat: format,
			})
			if err != nil {
				return "", err
			}
			return r.Text, nil
		}
		want, err := ask(to.direct(), openai.AudioResponseFormatJSON)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ask(to.base, openai.AudioResponseFormatJSON); err != nil || got != want || got != "hello there in en" {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
		cl := client(to.base)
		for _, said := range []string{"hello there", "openai says so"} {
			s := cl.Audio.Transcriptions.NewStreaming(ctx, openai.AudioTranscriptionNewParams{Model: engineModel, File: openai.File(strings.NewReader(said), "speech.wav", "audio/wav"), Language: openai.String("en")})
			text, done := "", openai.TranscriptionTextDoneEvent{}
			for s.Next() {
				switch e := s.Current().AsAny().(type) {
				case openai.TranscriptionTextDeltaEvent:
					text += e.Delta
				case openai.TranscriptionTextDoneEvent:
					done = e
				}
			}
			if s.Err() != nil || text != said+" in en" || done.Text != text || done.Usage.InputTokens != int64(len(said)) || done.Usage.OutputTokens != 3 {
				t.Errorf("streamed %q, then %s, %v", text, done.RawJSON(), s.Err())
			}
			if costOf(t, done.Usage.RawJSON()) <= 0 && (to.price == 20 || said[0] == 'h') { // the gateway's own engine here reads no OpenAI names
				t.Errorf("cost in %s", done.RawJSON())
			}
		}
	})
}

// TestDemandedAndOpenAPI holds that choices are kept over the whole network and
// that the document is there.
func TestDemandedAndOpenAPI(t *testing.T) {
	base := network(t).base
	post := func(header, value string) (int, string, string) {
		req, err := http.NewRequestWithContext(deadline(t), "POST", base+"/chat/completions", strings.NewReader(`{"model":"`+engineModel+`","messages":[{"role":"user","content":"a"}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set(header, value)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		var e struct {
			Error struct{ Code, Message string }
		}
		_ = json.Unmarshal(b, &e)
		return resp.StatusCode, e.Error.Code, e.Error.Message
	}
	full := regexp.MustCompile(engineModel + `@[^"\\\\]+`).FindString(page(t, base+"/workers"))
	for _, c := range []struct {
		header, value string
		status        int
		code          string
	}{
		{"X-Cocoon-Verdicts", "simulated", 200, ""},
		{"X-Cocoon-Verdicts", "tdx, sev-snp", 503, "seal_unavailable"},
		{"X-Cocoon-Gpu-Evidence", "true", 503, "seal_unavailable"},
		{"X-Cocoon-Model", full, 200, ""},
		{"X-Cocoon-Model", engineModel + "@2:0", 503, "seal_unavailable"},
		{"X-Cocoon-Max-Price", "160000000", 200, ""},
		{"X-Cocoon-Max-Price", "159999999", 400, "invalid_value"},
		{"X-Cocoon-Max-Price", "1", 400, "invalid_value"},
		{"X-Cocoon-Min-Reputation", "0.1", 200, ""},
	} {
		if status, code, message := post(c.header, c.value); status != c.status || code != c.code {
			t.Errorf("%s %s: %d %s (%s), want %d %s", c.header, c.value, status, code, message, c.status, c.code)
		}
	}
	var d struct {
		OpenAPI string
		Paths   map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(page(t, strings.TrimSuffix(base, "/v1")+"/openapi.json")), &d); err != nil || d.OpenAPI != "3.1.0" || d.Paths["/v1/messages"] == nil {
		t.Errorf("%v, %d paths", err, len(d.Paths))
	}
}

// page reads one page of a gateway.
func page(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(deadline(t), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%s: %d, %v", url, resp.StatusCode, err)
	}
	return string(b)
}
