package api

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// How a transcript is told. Engines are asked for JSON only, since only JSON has
// room for usage, which a call is billed by: plain text and subtitles are made
// of it here.

// askedFormat is the response_format that the engine gets for one of the caller's.
func askedFormat(format string) string {
	switch format {
	case "text":
		return "json"
	case "srt", "vtt":
		return "verbose_json" // which has the segments
	}
	return format
}

// transcriptForm tells a transcription in the caller's format.
type transcriptForm struct {
	format string
	text   strings.Builder // of a stream, up to now
	ended  bool            // the stream's text is whole
}

func (f *transcriptForm) whole(answer, usage []byte) (string, []byte, error) {
	o, err := openai.ParseObject(answer)
	if err != nil {
		return "", nil, openai.Upstream("The worker's answer is not one JSON object.")
	}
	text, ok := o.Get("text")
	if kind(text) != '"' || !ok {
		return "", nil, openai.Upstream("The worker's answer holds no transcript.")
	}
	const plain = "text/plain; charset=utf-8"
	switch f.format {
	case "text":
		return plain, append([]byte(str(text)), '\n'), nil
	case "srt", "vtt":
		b, fail := subtitles(f.format, answer)
		if fail != nil {
			return "", nil, fail
		}
		return plain, b, nil
	}
	o.Set("usage", transcriptUsage(usage))
	b, err := o.AppendJSON(nil)
	if err != nil {
		return "", nil, openai.Upstream("The worker's answer has too many members.")
	}
	return "application/json", b, nil
}

// transcriptUsage gives an engine's usage the names it has in transcriptions.
func transcriptUsage(usage []byte) json.RawMessage {
	o, err := openai.ParseObject(usage)
	if err != nil {
		return usage
	}
	if _, told := o.Get("type"); told {
		return usage
	}
	out := &openai.Object{}
	for _, name := range [][2]string{{"prompt_tokens", "input_tokens"}, {"completion_tokens", "output_tokens"}, {"total_tokens", "total_tokens"}} {
		if v, ok := o.Get(name[0]); ok {
			out.Set("type", json.RawMessage(`"tokens"`))
			out.Set(name[1], v)
		}
	}
	if v, ok := o.Get("cost_nano"); ok {
		out.Set("cost_nano", v)
	}
	b, err := out.AppendJSON(nil)
	if err != nil {
		return usage
	}
	return b
}

// maxSeconds bounds the times of a transcript: 99 hours, what SRT can write.
const maxSeconds = 100*3600 - 1

// subtitles makes SRT or WebVTT of the segments of a verbose answer.
func subtitles(format string, answer []byte) ([]byte, *openai.Error) {
	var v struct {
		Text     string
		Segments []struct {
			Start, End float64
			Text       string
		}
	}
	if json.Unmarshal(answer, &v) != nil || len(v.Segments) == 0 && strings.TrimSpace(v.Text) != "" {
		return nil, openai.Upstream("The worker's answer has no segments with times, which '%s' is made of. Ask for 'json' or 'text'.", format)
	}
	var b []byte
	comma := byte(',')
	if format == "vtt" {
		b, comma = append(b, "WEBVTT\n\n"...), '.'
	}
	n := 0
	for _, s := range v.Segments {
		if !(s.Start >= 0 && s.Start <= s.End && s.End <= maxSeconds) {
			return nil, openai.Upstream("A segment of the worker's answer has impossible times.")
		}
		text := cueText(format, s.Text)
		if text == "" {
			continue // an empty line would end it before its time
		}
		if n++; format == "srt" {
			b = fmt.Appendf(b, "%d\n", n)
		}
		b = append(appendClock(b, s.Start, comma), " --> "...)
		b = append(append(appendClock(b, s.End, comma), '\n'), text...)
		b = append(b, "\n\n"...)
	}
	return b, nil
}

// appendClock writes seconds as hours, minutes, seconds and thousandths.
func appendClock(b []byte, seconds float64, comma byte) []byte {
	ms := int64(math.Round(seconds * 1000))
	return fmt.Appendf(b, "%02d:%02d:%02d%c%03d", ms/3_600_000, ms/60_000%60, ms/1000%60, comma, ms%1000)
}

var (
	// An empty line would end a subtitle, and an arrow begin one.
	cueArrow = strings.NewReplacer("-->", "->")
	cueMarks = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
)

func cueText(format, text string) string {
	text = cueArrow.Replace(strings.Join(strings.Fields(text), " "))
	if format == "vtt" { // where text may hold tags
		text = cueMarks.Replace(text)
	}
	return text
}

// The stream of a transcription: transcript.text.delta for each piece, in the
// end transcript.text.done with all of it.

func (f *transcriptForm) begin(*streamWriter) error { return nil }

// chunk understands the OpenAI events, the chunks of vLLM, which look like those
// of chat, and a whole answer of an engine that does not stream.
func (f *transcriptForm) chunk(w *streamWriter, data []byte) error {
	var c struct {
		Type    string
		Delta   json.RawMessage
		Text    *string
		Choices []struct {
			Delta        struct{ Content string }
			FinishReason *string `json:"finish_reason"`
		}
	}
	if json.Unmarshal(data, &c) != nil {
		return openai.Upstream("An event of the answer is no part of a transcript.")
	}
	switch {
	case c.Type == "transcript.text.delta":
		if kind(c.Delta) != '"' {
			return openai.Upstream("An event of the answer is no part of a transcript.")
		}
		if err := f.gather(str(c.Delta)); err != nil {
			return err
		}
		return w.event(data)
	case c.Type == "transcript.text.done":
		if c.Text != nil {
			f.text.Reset()
			if err := f.gather(*c.Text); err != nil {
				return err
			}
		}
		f.ended = true
		return nil
	case c.Type != "":
		return w.event(data)
	case c.Choices == nil && c.Text != nil:
		f.ended = true
		return f.tell(w, *c.Text)
	}
	for _, choice := range c.Choices {
		if err := f.tell(w, choice.Delta.Content); err != nil {
			return err
		}
	}
	return nil
}

func (f *transcriptForm) tell(w *streamWriter, text string) error {
	if text == "" {
		return nil
	}
	if err := f.gather(text); err != nil {
		return err
	}
	b := openai.AppendString([]byte(`{"type":"transcript.text.delta","delta":`), text)
	return w.event(append(b, '}'))
}

func (f *transcriptForm) gather(text string) error {
	if f.text.Len()+len(text) > maxBlocks {
		return openai.Upstream("The answer is larger than %d bytes.", maxBlocks)
	}
	f.text.WriteString(text)
	return nil
}

func (f *transcriptForm) end(w *streamWriter, usage []byte) error {
	b := openai.AppendString([]byte(`{"type":"transcript.text.done","text":`), f.text.String())
	b = append(append(b, `,"usage":`...), transcriptUsage(usage)...)
	if err := w.event(append(b, '}')); err != nil {
		return err
	}
	return w.event([]byte("[DONE]"))
}

func (f *transcriptForm) fail(w *streamWriter, e *openai.Error) error {
	b, _ := e.MarshalJSON() // strings always marshal
	return w.event(b)
}
