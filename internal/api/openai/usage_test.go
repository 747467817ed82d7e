package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
)

func TestScanUsage(t *testing.T) {
	full := Usage{PromptTokens: 34, CompletionTokens: 100, TotalTokens: 134, CachedTokens: 11, ReasoningTokens: 10}
	for _, c := range []struct {
		in   string
		want Usage
		ok   bool
		err  error
	}{
		{`{"usage":{"prompt_tokens":34,"completion_tokens":100,"total_tokens":134,"prompt_tokens_details":{"cached_tokens":11},"completion_tokens_details":{"reasoning_tokens":10}}}`, full, true, nil},
		{`{"usage":{"prompt_tokens":34,"completion_tokens":100,"total_tokens":134,"prompt_tokens_details":{"cached_tokens":11},"reasoning_tokens":10}}`, full, true, nil},
		{`{"usage":{"reasoning_tokens":3,"completion_tokens_details":{"reasoning_tokens":2}}}`, Usage{ReasoningTokens: 3}, true, nil},
		{`{"usage":null}`, Usage{}, false, nil},
		{`{"usage":[]}`, Usage{}, false, nil},
		{`{}`, Usage{}, false, nil},
		{`[{"usage":{"prompt_tokens":1}}]`, Usage{}, false, nil},
		{`{"x":{"usage":{"prompt_tokens":1}}}`, Usage{}, false, nil},
		{`{"x":"\"usage\":{\"prompt_tokens\":1}"}`, Usage{}, false, nil},
		{`{"usage":{"prompt_tokens":1},"usage":{"completion_tokens":2}}`, Usage{CompletionTokens: 2}, true, nil},
		{`{"us\u0061ge":{"prompt_tokens":1}}`, Usage{PromptTokens: 1}, true, nil},
		{`{"usage":{"prompt_tokens":1,"prompt_tokens":"x"}}`, Usage{}, true, nil},
		{`{"usage":{"prompt_tokens":-1,"completion_tokens":1.0,"total_tokens":1e3}}`, Usage{}, true, nil},
		{`{"usage":{"prompt_tokens":9223372036854775807,"completion_tokens":9223372036854775808}}`, Usage{PromptTokens: 9223372036854775807}, true, nil},
		{`{"usage":{"prompt_tokens":"5","prompt_tokens_details":null,"completion_tokens_details":[1]}}`, Usage{}, true, nil},
		{` {"Usage":{"prompt_tokens":5}} `, Usage{}, false, nil},
		{`{"usage":{"prompt_tokens":5}} x`, Usage{}, false, ErrSyntax},
		{`{"usage":{"prompt_tokens":5}`, Usage{}, false, ErrSyntax},
		{``, Usage{}, false, ErrSyntax},
		{`5`, Usage{}, false, nil},
		{strings.Repeat("[", 500) + strings.Repeat("]", 500), Usage{}, false, ErrTooDeep},
	} {
		u, ok, err := ScanUsage([]byte(c.in))
		if u != c.want || ok != c.ok || !errors.Is(err, c.err) {
			t.Errorf("ScanUsage(%.80s) = %+v, %v, %v; want %+v, %v, %v", c.in, u, ok, err, c.want, c.ok, c.err)
		}
	}
}

func TestUsageMergeAndJSON(t *testing.T) {
	u := Usage{PromptTokens: 5, CompletionTokens: 1}
	if !u.Merge(Usage{PromptTokens: 3, CompletionTokens: 4, CachedTokens: 2}) || u.Merge(Usage{PromptTokens: 5}) {
		t.Error("Merge reports wrongly")
	}
	if want := (Usage{PromptTokens: 5, CompletionTokens: 4, CachedTokens: 2}); u != want {
		t.Errorf("merged %+v, want %+v", u, want)
	}
	for _, u := range []Usage{{}, {1, 2, 3, 0, 0}, {1, 2, 3, 4, 5}, {TotalTokens: 9223372036854775807}} {
		b, err := json.Marshal(u)
		if err != nil {
			t.Fatal(err)
		}
		var back Usage
		if err := json.Unmarshal(b, &back); err != nil || back != u {
			t.Errorf("%s reads back as %+v, %v", b, back, err)
		}
	}
}

// FuzzScanUsage reads the same value with encoding/json and by the rules.
func FuzzScanUsage(f *testing.F) {
	f.Add([]byte(`{"id":"a","choices":[],"usage":{"prompt_tokens":34,"prompt_tokens_details":{"cached_tokens":1},"completion_tokens":64,"total_tokens":98,"completion_tokens_details":{"reasoning_tokens":2},"reasoning_tokens":3}}`))
	f.Add([]byte(`{"usage":{"prompt_tokens":1},"usage":null}`))
	f.Add([]byte(`{"\u0075sage":{"total_tokens":18446744073709551615}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		u, ok, err := ScanUsage(b)
		if errors.Is(err, ErrTooDeep) {
			return
		}
		if (err == nil) != json.Valid(b) {
			t.Fatalf("ScanUsage: %v, encoding/json says %v", err, json.Valid(b))
		}
		if err != nil {
			return
		}
		want, wantOK := slowUsage(b)
		if u != want || ok != wantOK {
			t.Fatalf("ScanUsage(%q) = %+v, %v; want %+v, %v", b, u, ok, want, wantOK)
		}
		c, err := ParseChunk(b)
		if errors.Is(err, ErrNoObject) {
			return
		}
		if err != nil || c.Usage != u || c.HasUsage != ok {
			t.Fatalf("ParseChunk(%q) = %+v, %v", b, c, err)
		}
		checkEdit(t, b, c.AppendWithoutUsage(nil), "")
		checkEdit(t, b, c.AppendWithUsage(nil, []byte(`{"total_tokens":7}`)), `{"total_tokens":7}`)
	})
}

// checkEdit wants out to be in with the member usage replaced.
func checkEdit(t *testing.T, in, out []byte, usage string) {
	t.Helper()
	want, got := slowMap(in), slowMap(out)
	delete(want, "usage")
	if usage != "" {
		want["usage"] = json.RawMessage(usage)
	}
	if got == nil || len(got) != len(want) {
		t.Fatalf("%q became %q", in, out)
	}
	for k, v := range want {
		if !bytes.Equal(got[k], v) {
			t.Fatalf("%q became %q: member %q", in, out, k)
		}
	}
}

func slowMap(b []byte) map[string]json.RawMessage {
	var m map[string]json.RawMessage
	if json.Unmarshal(b, &m) != nil {
		return nil
	}
	return m
}

func slowUsage(b []byte) (u Usage, ok bool) {
	usage := slowMap(slowMap(b)["usage"])
	if usage == nil {
		return u, false
	}
	n := func(raw json.RawMessage) int64 {
		v, err := strconv.ParseUint(string(raw), 10, 63)
		if err != nil {
			return 0
		}
		return int64(v)
	}
	u.PromptTokens, u.CompletionTokens, u.TotalTokens = n(usage["prompt_tokens"]), n(usage["completion_tokens"]), n(usage["total_tokens"])
	u.CachedTokens = n(slowMap(usage["prompt_tokens_details"])["cached_tokens"])
	u.ReasoningTokens = max(n(usage["reasoning_tokens"]), n(slowMap(usage["completion_tokens_details"])["reasoning_tokens"]))
	return u, true
}

func BenchmarkScanUsage(b *testing.B) {
	chunk := []byte(`{"id":"chatcmpl-0123456789","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}],"usage":null}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		if _, _, err := ScanUsage(chunk); err != nil {
			b.Fatal(err)
		}
	}
}
