package api

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// maxInputs bounds the texts of one embeddings call, as the OpenAI API does.
const maxInputs = 2048

var embeddingFields = fields{
	"model":           isModel,
	"input":           isPrompt,
	"dimensions":      integerIn(1, 1<<16),
	"encoding_format": oneOf("float", "base64"),
	"user":            isString,
	"max_coefficient": choiceFields["max_coefficient"],
	"timeout":         isNumber,
	"cocoon":          isObject,
	"stream":          onlyFalse("Embeddings are not streamed."),
}

// embed finishes an embeddings call: there is no output to reserve.
func (rq *request) embed(_ *Gateway, o *openai.Object) *openai.Error {
	input, _ := o.Get("input")
	if n := prompts(input); n > maxInputs {
		return openai.InvalidRequest("input", "'input' may have at most %d texts.", maxInputs)
	}
	for i, v := range openai.Elements(input) {
		if string(v) == `""` {
			return openai.InvalidRequest(fmt.Sprintf("input[%d]", i), "'input' must not hold empty texts.")
		}
	}
	if string(input) == `""` {
		return openai.InvalidRequest("input", "'input' must not be empty.")
	}
	format, _ := o.Get("encoding_format")
	rq.form = embeddingForm{base64: str(format) == "base64"}
	return nil
}

// embeddingForm brings vectors into the encoding that was asked for: not every
// engine knows base64.
type embeddingForm struct{ base64 bool }

func (f embeddingForm) whole(answer, usage []byte) (string, []byte, error) {
	bad := openai.Upstream("The worker's answer is not a list of embeddings.")
	o, err := openai.ParseObject(answer)
	if err != nil {
		return "", nil, bad
	}
	data, _ := o.Get("data")
	if kind(data) != '[' {
		return "", nil, bad
	}
	if f.base64 {
		out := []byte{'['}
		for i, v := range openai.Elements(data) {
			e, err := openai.ParseObject(v)
			if err != nil {
				return "", nil, bad
			}
			if vector, _ := e.Get("embedding"); kind(vector) == '[' {
				e.Set("embedding", packed(vector))
			}
			if i > 0 {
				out = append(out, ',')
			}
			if out, err = e.AppendJSON(out); err != nil {
				return "", nil, bad
			}
		}
		o.Set("data", append(out, ']'))
	}
	o.Set("usage", usage)
	b, err := o.AppendJSON(nil)
	if err != nil {
		return "", nil, bad
	}
	return "application/json", b, nil
}

// packed is a vector as base64 of 32-bit floats, low byte first.
func packed(vector json.RawMessage) json.RawMessage {
	var raw []byte
	for _, v := range openai.Elements(vector) {
		x, _ := strconv.ParseFloat(string(v), 32)
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(float32(x)))
	}
	return openai.AppendString(nil, base64.StdEncoding.EncodeToString(raw))
}
