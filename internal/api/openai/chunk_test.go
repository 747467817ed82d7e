package openai

import (
	"bytes"
	"errors"
	"strconv"
	"testing"
)

func TestChunk(t *testing.T) {
	for _, c := range []struct {
		in              string
		usageOnly, fail bool
		without, with   string
	}{
		{`{"id":"a", "choices":[],"usage":{"prompt_tokens":1}}`, true, false, `{"id":"a","choices":[]}`, `{"id":"a", "choices":[],"usage":{"c":1}}`},
		{`{"usage":{"prompt_tokens":1},"choices":[ ]}`, true, false, `{"choices":[ ]}`, `{"usage":{"c":1},"choices":[ ]}`},
		{`{"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}`, false, false, `{"choices":[{"delta":{}}]}`, `{"choices":[{"delta":{}}],"usage":{"c":1}}`},
		{`{"choices":[{"delta":{}}],"usage":null}`, false, false, `{"choices":[{"delta":{}}]}`, `{"choices":[{"delta":{}}],"usage":{"c":1}}`},
		{`{"choices":[]}`, false, false, `{"choices":[]}`, `{"choices":[],"usage":{"c":1}}`},
		{`{"usage":1,"a":2,"usage":3}`, false, false, `{"a":2}`, `{"a":2,"usage":{"c":1}}`},
		{`{}`, false, false, `{}`, `{"usage":{"c":1}}`},
		{`{"error":{"message":"x"}}`, false, true, `{"error":{"message":"x"}}`, `{"error":{"message":"x"},"usage":{"c":1}}`},
		{`{"error":null}`, false, false, `{"error":null}`, `{"error":null,"usage":{"c":1}}`},
	} {
		ch, err := ParseChunk([]byte(c.in))
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if ch.UsageOnly() != c.usageOnly || ch.IsError != c.fail {
			t.Errorf("%s: usage only %v, error %v", c.in, ch.UsageOnly(), ch.IsError)
		}
		if got := string(ch.AppendWithoutUsage(nil)); got != c.without {
			t.Errorf("%s without usage: %s, want %s", c.in, got, c.without)
		}
		if got := string(ch.AppendWithUsage([]byte(">"), []byte(`{"c":1}`))); got != ">"+c.with {
			t.Errorf("%s with usage: %s, want %s", c.in, got, c.with)
		}
	}
	for in, want := range map[string]error{"[]": ErrNoObject, "x": ErrSyntax, `{"choices":[}`: ErrSyntax, "{}{}": ErrSyntax, "": ErrSyntax} {
		if _, err := ParseChunk([]byte(in)); !errors.Is(err, want) {
			t.Errorf("ParseChunk(%q) = %v, want %v", in, err, want)
		}
	}
	data := []byte(`{"id":"a","choices":[{"delta":{"content":"x"}}],"usage":null}`)
	if n := testing.AllocsPerRun(100, func() { _, _ = ParseChunk(data) }); n != 0 {
		t.Errorf("ParseChunk allocates %v times", n)
	}
}

func TestFinished(t *testing.T) {
	for data, want := range map[string]bool{
		`{"choices":[{"delta":{"content":"x"},"finish_reason":null}]}`:                          false,
		`{"choices":[{"delta":{},"finish_reason":"stop"}]}`:                                     true,
		`{"choices":[{"delta":{},"finish_reason" : "stop"}]}`:                                   true,
		`{"choices":[{"delta":{},"finish\u005freason":"stop"}]}`:                                true,
		`{"choices":[{"finish_reason":null},{"finish_reason":"length"}]}`:                       true,
		`{"choices":[{"delta":{"content":"\"finish_reason\":\"stop\""},"finish_reason":null}]}`: false,
		`{"choices":[{"delta":{"content":"finish_reason"},"finish_reason":null}]}`:              false,
		`{"choices":[{"delta":{"content":"finish_reason","finish_reason":"x"}}]}`:               false,
		`{"choices":["finish_reason",{"finish_reason":"stop"}]}`:                                true,
		`{"choices":[],"finish_reason":"stop"}`:                                                 false,
		`{"finish_reason":"stop"}`:                                                              false,
	} {
		c, err := ParseChunk([]byte(data))
		if err != nil || c.Finished() != want {
			t.Errorf("%s: %v, %v", data, c.Finished(), err)
		}
	}
}

// TestObjectBeyondTheIndex: an object answers the same with few members, which
// are looked through, and with many, which are indexed.
func TestObjectBeyondTheIndex(t *testing.T) {
	for _, n := range []int{1, fewMembers - 1, fewMembers, fewMembers + 1, 3 * fewMembers} {
		var o Object
		for i := range n {
			o.SetInt(strconv.Itoa(i), int64(i))
		}
		o.SetInt("0", 7)
		o.Delete("0")
		o.Delete("0")
		o.Delete("absent")
		if n > 1 {
			o.SetInt("1", -1)
		}
		o.SetInt("0", 9)
		if o.Len() != n {
			t.Errorf("%d members: %d", n, o.Len())
		}
		for i := range n {
			want := strconv.Itoa(i)
			switch i {
			case 0:
				want = "9"
			case 1:
				want = "-1"
			}
			if v, ok := o.Get(strconv.Itoa(i)); !ok || string(v) != want {
				t.Errorf("%d members: %d is %s", n, i, v)
			}
		}
		b, err := o.AppendJSON(nil)
		back, err2 := ParseObject(b)
		if err != nil || err2 != nil || back.Len() != n || !bytes.HasSuffix(b, []byte(`"0":9}`)) {
			t.Errorf("%d members: %s", n, b)
		}
	}
}
