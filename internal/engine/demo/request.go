//go:build !tee

package demo

import (
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// fields reads the members of a request; the first fault sticks. null counts as
// absent, as in the OpenAI API. Unknown members are ignored, as engines do.
type fields struct {
	o   *openai.Object
	err *openai.Error
}

func (f *fields) fail(err *openai.Error) {
	if f.err == nil {
		f.err = err
	}
}

func (f *fields) get(key string) (json.RawMessage, bool) {
	v, ok := f.o.Get(key)
	return v, ok && string(v) != "null"
}

func (f *fields) float(key string, none, least, most float64) float64 {
	v, ok := f.get(key)
	if !ok {
		return none
	}
	var x float64
	if json.Unmarshal(v, &x) != nil {
		f.fail(openai.InvalidType(key, "a number"))
		return none
	}
	if !(least <= x && x <= most) {
		f.fail(openai.InvalidRequest(key, "%s must lie between %g and %g", key, least, most))
	}
	return x
}

func (f *fields) int(key string, none, least, most int64) int64 {
	v, ok := f.get(key)
	if !ok {
		return none
	}
	x, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		f.fail(openai.InvalidType(key, "an integer"))
		return none
	}
	if x < least || x > most {
		f.fail(openai.InvalidRequest(key, "%s must lie between %d and %d", key, least, most))
	}
	return x
}

func (f *fields) bool(key string) bool {
	v, ok := f.get(key)
	if ok && string(v) != "true" && string(v) != "false" {
		f.fail(openai.InvalidType(key, "a boolean"))
	}
	return string(v) == "true"
}

func (f *fields) string(key string) string {
	v, ok := f.get(key)
	if !ok {
		return ""
	}
	s, ok := openai.String(v)
	if !ok {
		f.fail(openai.InvalidType(key, "a string"))
	}
	return s
}

// object reads an inner object; its faults are reported with the path.
func (f *fields) object(key string) (*openai.Object, bool) {
	v, ok := f.get(key)
	if !ok {
		return nil, false
	}
	o, err := openai.ParseObject(v)
	if err != nil {
		f.fail(openai.InvalidType(key, "an object"))
		return nil, false
	}
	return o, true
}

func isArray(v json.RawMessage) bool { return len(v) > 0 && v[0] == '[' }

// streaming is how an answer is to be sent.
type streaming struct {
	on, usage, continuous bool
}

// common is what chat and plain completions share.
type common struct {
	sampling
	streaming
	n    int
	salt string
}

const (
	maxChoices = 16
	maxStops   = 16
)

// common reads the shared members and checks the model's name.
func (s *Server) common(f *fields) common {
	name := f.string("model")
	if _, ok := f.get("model"); !ok {
		f.fail(openai.Missing("model"))
	} else if name == EmbedModel {
		f.fail(openai.Unsupported("model", "%s makes embeddings only", EmbedModel))
	} else if name != Model && name != FullName() {
		f.fail(openai.ModelNotFound(name))
	}
	c := common{n: int(f.int("n", 1, 1, maxChoices)), salt: f.string("cache_salt")}
	c.on = f.bool("stream")
	if o, ok := f.object("stream_options"); ok {
		in := fields{o: o}
		c.usage, c.continuous = in.bool("include_usage"), in.bool("continuous_usage_stats")
		if in.err != nil {
			in.err.Param = "stream_options." + in.err.Param
			f.fail(in.err)
		}
	}
	c.temperature = f.float("temperature", 0, 0, 2)
	c.topP = f.float("top_p", 1, 0, 1)
	c.topK = int(max(0, f.int("top_k", 0, -1, 1<<30)))
	c.presence = f.float("presence_penalty", 0, -2, 2)
	c.frequency = f.float("frequency_penalty", 0, -2, 2)
	c.seed = uint64(f.int("seed", 0, -1<<63, 1<<63-1))
	if _, ok := f.get("seed"); !ok {
		c.seed = rand.Uint64()
	}
	c.ignoreEnd = f.bool("ignore_eos")
	c.maxTokens = int(f.int("max_tokens", 1<<30, 0, 1<<40))
	c.maxTokens = min(c.maxTokens, int(f.int("max_completion_tokens", 1<<30, 0, 1<<40)))
	c.logprobs = -1
	if v, ok := f.get("stop"); ok {
		if one, ok := openai.String(v); ok {
			c.stop = []string{one}
		} else if isArray(v) {
			for _, e := range openai.Elements(v) {
				one, ok := openai.String(e)
				if !ok {
					f.fail(openai.InvalidType("stop", "a string or a list of strings"))
				}
				c.stop = append(c.stop, one)
			}
		} else {
			f.fail(openai.InvalidType("stop", "a string or a list of strings"))
		}
		for _, one := range c.stop {
			if one == "" || len(one) > 1024 || len(c.stop) > maxStops {
				f.fail(openai.InvalidRequest("stop", "stop must hold at most %d strings of 1 to 1024 bytes", maxStops))
				break
			}
		}
	}
	if v, ok := f.get("logit_bias"); ok && strings.TrimSpace(string(v)) != "{}" {
		f.fail(openai.Unsupported("logit_bias", "the demo engine has no logit_bias"))
	}
	return c
}

// message is one turn of a conversation.
type message struct{ role, text string }

// messages reads the conversation.
func (f *fields) messages() []message {
	v, ok := f.get("messages")
	if !ok {
		f.fail(openai.Missing("messages"))
		return nil
	}
	if !isArray(v) {
		f.fail(openai.InvalidType("messages", "an array"))
		return nil
	}
	var out []message
	for i, e := range openai.Elements(v) {
		at := "messages[" + strconv.Itoa(i) + "]"
		o, err := openai.ParseObject(e)
		if err != nil {
			f.fail(openai.InvalidType(at, "an object"))
			return nil
		}
		in := fields{o: o}
		role := in.string("role")
		switch role {
		case "developer":
			role = "system"
		case "function":
			role = "tool"
		case "system", "user", "assistant", "tool":
		case "":
			in.fail(openai.Missing("role"))
		default:
			in.fail(openai.InvalidRequest("role", "role must be system, developer, user, assistant or tool"))
		}
		text := in.content()
		if calls, ok := in.get("tool_calls"); ok && role == "assistant" {
			text += string(calls)
		}
		if in.err != nil {
			in.err.Param = at + "." + in.err.Param
			f.fail(in.err)
			return nil
		}
		out = append(out, message{role, text})
	}
	if len(out) == 0 {
		f.fail(openai.InvalidRequest("messages", "messages must hold at least one message"))
	}
	return out
}

// content is a string or a list of text parts.
func (f *fields) content() string {
	v, ok := f.get("content")
	if !ok {
		return ""
	}
	if s, ok := openai.String(v); ok {
		return s
	}
	if !isArray(v) {
		f.fail(openai.InvalidType("content", "a string or a list of parts"))
		return ""
	}
	var b strings.Builder
	for i, e := range openai.Elements(v) {
		at := "content[" + strconv.Itoa(i) + "]"
		o, err := openai.ParseObject(e)
		if err != nil {
			f.fail(openai.InvalidType(at, "an object"))
			return ""
		}
		in := fields{o: o}
		switch kind := in.string("type"); kind {
		case "text", "input_text", "output_text":
			b.WriteString(in.string("text"))
		case "refusal":
			b.WriteString(in.string("refusal"))
		default:
			in.fail(openai.Unsupported("type", "the demo engine reads text parts only"))
		}
		if in.err != nil {
			in.err.Param = at + "." + in.err.Param
			f.fail(in.err)
			return ""
		}
	}
	return b.String()
}

// render writes the conversation in the ChatML template, up to where the
// assistant begins.
func (t *tokenizer) render(msgs []message) []int32 {
	var out []int32
	for _, m := range msgs {
		out = t.encode(append(out, t.start), m.role+"\n")
		out = t.encode(out, m.text)
		out = t.encode(append(out, t.stop), "\n")
	}
	return t.encode(append(out, t.start), "assistant\n")
}
