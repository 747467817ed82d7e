package jsonschema

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		schema  string
		yes, no []string
	}{
		{`{}`, []string{`1`, `{"a":[null]}`, ` "x" `}, []string{`{`, ``, `1 2`}},
		{`true`, []string{`[]`}, nil},
		{`{"type":"boolean"}`, []string{"true", "false"}, []string{"null", `"true"`, "0"}},
		{`{"type":"integer"}`, []string{"1", "-3", "1.0", "1e3"}, []string{"1.5", `"1"`}},
		{`{"type":"number","minimum":0,"exclusiveMaximum":1.5}`, []string{"0", "1.49"}, []string{"-0.1", "1.5"}},
		{`{"type":"integer","exclusiveMinimum":2,"maximum":4}`, []string{"3", "4"}, []string{"2", "5"}},
		{`{"type":"number","multipleOf":0.1}`, []string{"0.3", "7"}, []string{"0.35"}},
		{`{"type":"string","minLength":2,"maxLength":3}`, []string{`"ab"`, `"🙂🙂"`, `"\u00e4ö"`}, []string{`"a"`, `"abcd"`}},
		{`{"type":"string","pattern":"^a+$"}`, []string{`"aa"`}, []string{`"ab"`}},
		{`{"type":["string","null"]}`, []string{`"x"`, "null"}, []string{"1"}},
		{`{"enum":["a",1,null,{"x":[1]}]}`, []string{`"a"`, "1", "1.0", "null", `{"x": [1]}`, `"\u0061"`}, []string{`"b"`, "2", `{"x":[2]}`}},
		{`{"const":{"a":1,"b":2}}`, []string{`{"b":2,"a":1}`}, []string{`{"a":1}`}},
		{`{"type":"array","items":{"type":"boolean"},"minItems":1,"maxItems":2}`, []string{"[true]"}, []string{"[]", "[1]", "[true,true,true]"}},
		{`{"type":"object","properties":{"a":{"type":"null"},"b":{"type":"string"}},"required":["a"],"additionalProperties":false}`,
			[]string{`{"a":null}`, `{"b":"x","a":null}`}, []string{`{}`, `{"b":"x"}`, `{"a":null,"c":1}`, `{"a":1}`, `[]`}},
		{`{"type":"object","properties":{"a":{}},"additionalProperties":{"type":"integer"}}`, []string{`{"a":"x","z":1}`, `{}`}, []string{`{"z":"x"}`}},
		{`{"anyOf":[{"type":"null"},{"type":"integer","minimum":5}]}`, []string{"null", "5"}, []string{"4", `"x"`}},
		{`{"$defs":{"n":{"type":"object","properties":{"next":{"anyOf":[{"$ref":"#/$defs/n"},{"type":"null"}]}},"required":["next"]}},"$ref":"#/$defs/n"}`,
			[]string{`{"next":null}`, `{"next":{"next":null}}`}, []string{`{"next":1}`, `{"next":{}}`}},
		{`{"type":"array","items":{"$ref":"#"}}`, []string{"[]", "[[],[[]]]"}, []string{"[1]"}},
		{`{"format":"date-time"}`, []string{`"2026-01-02T03:04:05Z"`, `"2026-01-02t03:04:05.5+01:00"`, "5"}, []string{`"2026-01-02"`}},
		{`{"format":"date"}`, []string{`"2026-02-28"`}, []string{`"2026-02-30"`}},
		{`{"format":"time"}`, []string{`"10:00:00Z"`}, []string{`"25:00:00Z"`}},
		{`{"format":"duration"}`, []string{`"P1DT2H"`, `"P3W"`}, []string{`"P"`, `"PT"`, `"1D"`}},
		{`{"format":"email"}`, []string{`"a@b.example"`}, []string{`"a"`, `"A <a@b.example>"`}},
		{`{"format":"hostname"}`, []string{`"a.example"`}, []string{`"-a"`, `"a b"`}},
		{`{"format":"ipv4"}`, []string{`"1.2.3.4"`}, []string{`"::1"`}},
		{`{"format":"ipv6"}`, []string{`"::1"`}, []string{`"1.2.3.4"`}},
		{`{"format":"uuid"}`, []string{`"12345678-1234-1234-1234-123456789abc"`}, []string{`"1234"`}},
	} {
		s, err := Parse(json.RawMessage(c.schema))
		if err != nil {
			t.Errorf("%s: %v", c.schema, err)
			continue
		}
		for _, v := range c.yes {
			if err := s.Validate(json.RawMessage(v)); err != nil {
				t.Errorf("%s refuses %s: %v", c.schema, v, err)
			}
		}
		for _, v := range c.no {
			if err := s.Validate(json.RawMessage(v)); err == nil {
				t.Errorf("%s takes %s", c.schema, v)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, s := range []string{
		`1`, `[]`, `{"type":"thing"}`, `{"type":[]}`, `{"type":5}`, `{"allOf":[{}]}`, `{"not":{}}`, `{"oneOf":[{}]}`, `{"enum":[]}`, `{"enum":"x"}`, `{"anyOf":[]}`,
		`{"$ref":"#/nowhere"}`, `{"$ref":"#"}`, `{"anyOf":[{"$ref":"#"}]}`, `{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}`,
		`{"type":"object","properties":{"x":{"anyOf":[{"$ref":"#/$defs/a"}]}},"$defs":{"a":{"$ref":"#/$defs/a"}}}`,
		`{"type":"object","properties":{},"required":["x"]}`, `{"type":"object","required":"x"}`, `{"properties":[]}`, `{"minLength":-1}`, `{"minLength":5,"maxLength":4}`,
		`{"maxItems":1.5}`, `{"minimum":"1"}`, `{"multipleOf":0}`, `{"pattern":"("}`, `{"pattern":"(?=a)"}`, `{"format":"secret"}`, `{"items":[]}`,
		`{"const":"` + strings.Repeat("x", 5000) + `"}`,
		strings.Repeat(`{"type":"array","items":`, 90) + `{}` + strings.Repeat("}", 90),
	} {
		if _, err := Parse(json.RawMessage(s)); err == nil {
			t.Errorf("%.200s is accepted", s)
		}
	}
}

// TestErrorsAreBlind holds that a mismatch never repeats what the value says.
func TestErrorsAreBlind(t *testing.T) {
	s, err := Parse(json.RawMessage(`{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"array","items":{"enum":["x"]}}}},"n":{"maximum":3}},"additionalProperties":{"type":"null"}}`))
	if err != nil {
		t.Fatal(err)
	}
	for v, want := range map[string]string{
		`{"a":{"b":["x","secret"]}}`: "a.b[1] is not one of the 1 values of the schema's enum",
		`{"secret":"secret"}`:        "* must be of type null",
		`"secret"`:                   "the value must be of type object",
		`{"n":7777}`:                 "n must be at most 3",
	} {
		if err := s.Validate(json.RawMessage(v)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %q", v, err, want)
		}
	}
}

// TestWorkIsBounded: alternatives that refer to themselves multiply with depth.
func TestWorkIsBounded(t *testing.T) {
	s, err := Parse(json.RawMessage(`{"anyOf":[{"type":"array","items":{"$ref":"#"}},{"type":"array","items":{"$ref":"#"}},{"type":"null"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(json.RawMessage(strings.Repeat("[", 100) + "1" + strings.Repeat("]", 100))); err == nil {
		t.Error("accepted")
	}
}

func FuzzValidate(f *testing.F) {
	f.Add(`{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"array","items":{"$ref":"#"}}},"required":["a"]}`, `{"a":"x","b":[]}`)
	f.Add(`{"anyOf":[{"type":"integer","multipleOf":3},{"const":null}]}`, `9`)
	f.Fuzz(func(t *testing.T, schema, value string) {
		s, err := Parse(json.RawMessage(schema))
		if err != nil {
			return
		}
		if s.Validate(json.RawMessage(value)) == nil && !json.Valid([]byte(value)) {
			t.Errorf("%q takes %q", schema, value)
		}
	})
}
