//go:build !tee

package demo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

func compile(t testing.TB, schema string) *grammar {
	t.Helper()
	g, err := schemaGrammar(json.RawMessage(schema), "schema")
	if err != nil {
		t.Fatalf("%s: %v", schema, err)
	}
	return g
}

func complete(g *grammar, s string) bool {
	m, ok := g.matcher().accept(s)
	return ok && m.end
}

func TestSchema(t *testing.T) {
	for _, c := range []struct {
		schema  string
		yes, no []string
	}{
		{`{"type":"boolean"}`, []string{"true", "false"}, []string{"tru", "null", "truex"}},
		{`{"type":"string","minLength":2,"maxLength":3}`, []string{`"ab"`, `"äöü"`, `"\n\\x"`, `"🙂🙂"`}, []string{`"a"`, `"abcd"`, `"a"b`, "\"a\nb\"", "\"\xff\xff\"", `"\q\q"`}},
		{`{"enum":["a",1,null,{"x":[1]}]}`, []string{`"a"`, "1", "null", `{"x":[1]}`}, []string{`"b"`, "2", `{"x":[2]}`}},
		{`{"const":"only"}`, []string{`"only"`}, []string{`"other"`}},
		{`{"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2}`, []string{"[true]", "[true,false]"}, []string{"[]", "[true,true,true]", "[true,]"}},
		{`{"type":"array","items":{"type":"null"},"maxItems":0}`, []string{"[]"}, []string{"[null]"}},
		{`{"type":"object","properties":{"a":{"type":"null"},"b":{"type":"boolean"},"c":{"type":"null"}},"required":["b"],"additionalProperties":false}`,
			[]string{`{"b":true}`, `{"a":null,"b":true}`, `{"b":false,"c":null}`, `{"a":null,"b":true,"c":null}`}, []string{`{}`, `{"a":null}`, `{"b":true,"a":null}`, `{,"b":true}`, `{"b":true,}`}},
		{`{"type":"object","additionalProperties":false}`, []string{"{}"}, []string{`{"a":1}`}},
		{`{"anyOf":[{"type":"null"},{"type":"integer","minimum":5,"maximum":5}]}`, []string{"null", "5"}, []string{"6", "05"}},
		{`{"type":["string","null"]}`, []string{"null", `""`}, []string{"1"}},
		{`{"$defs":{"n":{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["next"]}},"$ref":"#/$defs/n"}`,
			[]string{`{"next":null}`, `{"next":{"next":{"next":null}}}`}, []string{`{"next":1}`, `{}`}},
		{`{"type":"array","items":{"$ref":"#"}}`, []string{"[]", "[[],[[]]]"}, []string{"[1]"}},
		{`{"type":"number"}`, []string{"0", "-1.5", "12"}, []string{"01", "1.", "-", ".5"}},
		{`{}`, []string{`{"a":[1,"x",{"b":null}]}`, "3", `"s"`}, []string{"{", "nul"}},
	} {
		g := compile(t, c.schema)
		for _, s := range c.yes {
			if !complete(g, s) {
				t.Errorf("%s refuses %s", c.schema, s)
			}
		}
		for _, s := range c.no {
			if complete(g, s) {
				t.Errorf("%s takes %s", c.schema, s)
			}
		}
	}
}

func TestSchemaRefusals(t *testing.T) {
	for _, s := range []string{
		`1`, `{"type":"thing"}`, `{"pattern":"x"}`, `{"allOf":[{}]}`, `{"enum":[]}`, `{"$ref":"#/nowhere"}`, `{"$ref":"#"}`, `{"type":"integer","minimum":5,"maximum":4}`,
		`{"type":"number","minimum":1}`, `{"type":"string","maxLength":-1}`, `{"type":"object","properties":{},"required":["x"]}`, `{"anyOf":[{"$ref":"#"}]}`,
		strings.Repeat(`{"type":"array","items":`, 90) + `{}` + strings.Repeat("}", 90),
	} {
		if g, err := schemaGrammar(json.RawMessage(s), "schema"); err == nil {
			t.Errorf("%s compiles to %d rules", s, len(g.rules))
		} else if err.Param != "schema" || err.Status != 400 {
			t.Errorf("%s: %v", s, err)
		}
	}
}

// TestIntegerBounds compares the digit grammar with arithmetic.
func TestIntegerBounds(t *testing.T) {
	for _, b := range [][2]int64{{0, 0}, {0, 9}, {-3, 3}, {7, 123}, {95, 105}, {-120, -9}, {100, 999}, {1, 1000}, {-1000, 1}, {12, 12}} {
		g := compile(t, fmt.Sprintf(`{"type":"integer","minimum":%d,"maximum":%d}`, b[0], b[1]))
		for n := int64(-1100); n <= 1100; n++ {
			if got, want := complete(g, strconv.FormatInt(n, 10)), b[0] <= n && n <= b[1]; got != want {
				t.Fatalf("%d in %v: %v", n, b, got)
			}
		}
		if complete(g, "-0") || complete(g, "00") || complete(g, "") {
			t.Errorf("%v takes a number that is none", b)
		}
	}
}

// TestConstrained lets random and trained choices run under grammars: whatever
// the model wants, the answer fits.
func TestConstrained(t *testing.T) {
	t.Parallel()
	s := server(t, Config{})
	schema := `{"type":"object","properties":{"label":{"enum":["spam","work","private","urgent"]},"score":{"type":"integer","minimum":0,"maximum":100},"tags":{"type":"array","items":{"type":"string","maxLength":12},"maxItems":3},"sure":{"type":"boolean"}},"required":["label","score","tags","sure"],"additionalProperties":false}`
	g := compile(t, schema)
	for i := range 6 {
		c := ask(t, s, chatPath, chatBody("Label: you won, click here!", fmt.Sprintf(`,"temperature":%d,"seed":%d,"response_format":{"type":"json_schema","json_schema":{"name":"x","strict":true,"schema":%s}}`, i%3, i, schema)))
		got := *c.Choices[0].Message.Content
		if !complete(g, got) || !json.Valid([]byte(got)) || c.Choices[0].FinishReason != "stop" {
			t.Errorf("%q (%s) does not fit", got, c.Choices[0].FinishReason)
		}
	}
	c := ask(t, s, chatPath, chatBody("Give me something.", `,"temperature":2,"seed":1,"response_format":{"type":"json_object"}`))
	if got := *c.Choices[0].Message.Content; c.Choices[0].FinishReason == "stop" && (!json.Valid([]byte(got)) || got[0] != '{') {
		t.Errorf("%q is not an object", got)
	}
}

func TestForcedTools(t *testing.T) {
	t.Parallel()
	s := server(t, Config{})
	tools := `,"tools":[{"type":"function","function":{"name":"set_alarm","parameters":{"type":"object","properties":{"hour":{"type":"integer","minimum":0,"maximum":23},"note":{"type":"string","maxLength":20}},"required":["hour","note"],"additionalProperties":false}}},{"type":"function","function":{"name":"stop"}}]`
	fits := func(name, args string) {
		t.Helper()
		var v struct {
			Hour *int
			Note *string
		}
		if err := json.Unmarshal([]byte(args), &v); err != nil {
			t.Fatalf("%s: %v", args, err)
		}
		if name == "set_alarm" && (v.Hour == nil || v.Note == nil || *v.Hour > 23) || name == "stop" && args != "{}" {
			t.Errorf("%s(%s)", name, args)
		}
	}
	for choice, want := range map[string]string{`"required"`: "", `{"type":"function","function":{"name":"stop"}}`: "stop", `{"type":"function","function":{"name":"set_alarm"}}`: "set_alarm"} {
		body := chatBody("Wake me at 7", tools+`,"tool_choice":`+choice)
		c := ask(t, s, chatPath, body).Choices[0]
		if len(c.Message.ToolCalls) != 1 || c.FinishReason != "tool_calls" || c.Message.Content != nil {
			t.Fatalf("%s: %+v", choice, c)
		}
		call := c.Message.ToolCalls[0].Function
		if want != "" && call.Name != want {
			t.Errorf("%s called %s", choice, call.Name)
		}
		fits(call.Name, call.Arguments)
		var name, args string
		for _, e := range stream(t, s, chatPath, strings.TrimSuffix(body, "}")+`,"stream":true}`) {
			for _, d := range e.Choices[0].Delta.ToolCalls {
				name += d.Function.Name
				args += d.Function.Arguments
			}
		}
		if name != call.Name || args != call.Arguments {
			t.Errorf("%s: streamed %s(%s), whole %s(%s)", choice, name, args, call.Name, call.Arguments)
		}
	}
	if c := ask(t, s, chatPath, chatBody("Hello!", tools)).Choices[0]; len(c.Message.ToolCalls) != 0 || c.FinishReason == "tool_calls" {
		t.Errorf("an unforced call: %+v", c)
	}
}

// FuzzSchema: any schema either is refused or gives a grammar in which a random
// walk stays alive until it is complete, and then is JSON.
func FuzzSchema(f *testing.F) {
	f.Add(`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"array","items":{"$ref":"#"}}},"required":["a"]}`, uint64(1))
	f.Add(`{"type":["integer","null"],"minimum":-7,"maximum":30}`, uint64(2))
	f.Fuzz(func(t *testing.T, schema string, seed uint64) {
		if len(schema) > 2000 || !json.Valid([]byte(schema)) {
			return
		}
		g, err := schemaGrammar(json.RawMessage(schema), "s")
		if err != nil {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 1))
		m := g.matcher()
		var out []byte
		for len(out) < 300 {
			if m.end && (len(m.tops) == 0 || rng.IntN(3) == 0) {
				if !json.Valid(out) {
					t.Fatalf("%s gives %q", schema, out)
				}
				return
			}
			if len(m.tops) == 0 {
				t.Fatalf("%s: nothing can follow %q", schema, out)
			}
			set := m.tops[rng.IntN(len(m.tops))].rest[0].set
			b := byte(rng.IntN(256))
			for !set.has(b) {
				b++
			}
			m, _ = m.step(b)
			out = append(out, b)
		}
	})
}
