//go:build !tee

package demo

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"net/http"
	"strings"
	"unicode"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

const (
	embedDims  = 256
	maxInputs  = 2048
	maxInput   = 1 << 18 // bytes
	wordWeight = 2.0
)

// embed maps text to a unit vector by hashing its words and the trigrams of
// their letters. It is lexical: texts are near if they share words or stems,
// whatever they mean.
func embed(text string, dims int) []float32 {
	counts := map[string]float64{}
	for _, w := range strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) }) {
		counts["w"+w] += wordWeight
		r := []rune("^" + w + "$")
		for i := 0; i+3 <= len(r); i++ {
			counts["t"+string(r[i:i+3])]++
		}
	}
	v := make([]float64, dims)
	for key, n := range counts {
		h := fnv.New64a()
		h.Write([]byte(key))
		sum := h.Sum64()
		weight := math.Log1p(n)
		if sum>>63 == 1 {
			weight = -weight
		}
		v[sum%uint64(dims)] += weight
	}
	var norm float64
	for _, x := range v {
		norm += x * x
	}
	out := make([]float32, dims)
	if norm == 0 {
		out[0] = 1 // nothing to hash: some unit vector, the same for all
		return out
	}
	for i, x := range v {
		out[i] = float32(x / math.Sqrt(norm))
	}
	return out
}

func (s *Server) embeddings(w http.ResponseWriter, r *http.Request, o *openai.Object) error {
	f := &fields{o: o}
	if name := f.string("model"); name == "" {
		f.fail(openai.Missing("model"))
	} else if name == Model {
		f.fail(openai.Unsupported("model", "%s makes no embeddings; %s does", Model, EmbedModel))
	} else if name != EmbedModel {
		f.fail(openai.ModelNotFound(name))
	}
	dims := int(f.int("dimensions", embedDims, 8, embedDims))
	format := f.string("encoding_format")
	if format != "" && format != "float" && format != "base64" {
		f.fail(openai.InvalidRequest("encoding_format", "encoding_format must be float or base64"))
	}
	v, ok := f.get("input")
	if !ok {
		f.fail(openai.Missing("input"))
	}
	var inputs []prompt
	if text, ok := openai.String(v); ok {
		inputs = []prompt{{text: text}}
	} else if ids, ok := s.model.tok.tokens(v); ok && len(ids) > 0 {
		inputs = []prompt{{s.model.tok.decode(ids), ids}}
	} else {
		for _, e := range openai.Elements(v) {
			if text, ok := openai.String(e); ok {
				inputs = append(inputs, prompt{text: text})
			} else if ids, ok := s.model.tok.tokens(e); ok && len(ids) > 0 {
				inputs = append(inputs, prompt{s.model.tok.decode(ids), ids})
			} else {
				inputs = nil
				break
			}
		}
	}
	if len(inputs) == 0 || len(inputs) > maxInputs {
		f.fail(openai.InvalidType("input", fmt.Sprintf("a string, an array of at most %d strings, or tokens of the model", maxInputs)))
	}
	if f.err != nil {
		return f.err
	}
	var usage openai.Usage
	b := []byte(`{"object":"list","data":[`)
	for i, in := range inputs {
		if err := r.Context().Err(); err != nil {
			return err
		}
		if in.text == "" || len(in.text) > maxInput {
			return openai.InvalidRequest("input", "each input must have 1 to %d bytes", maxInput)
		}
		if in.tokens == nil {
			in.tokens = s.model.tok.encode(nil, in.text)
		}
		usage.PromptTokens += int64(len(in.tokens))
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"object":"embedding","index":%d,"embedding":`, i)
		vec := embed(in.text, dims)
		if format == "base64" {
			raw := make([]byte, 0, 4*dims)
			for _, x := range vec {
				raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
			}
			b = fmt.Appendf(b, "%q}", base64.StdEncoding.EncodeToString(raw))
			continue
		}
		b = append(b, '[')
		for j, x := range vec {
			if j > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, "%g", x)
		}
		b = append(b, "]}"...)
	}
	usage.TotalTokens = usage.PromptTokens
	s.stats.prompt.Add(usage.PromptTokens)
	b = fmt.Appendf(b, `],"model":%q,"usage":`, EmbedModel)
	writeJSON(w, append(usage.AppendJSON(b), '}'))
	return nil
}
