package jsonschema

import (
	"encoding/json"
	"fmt"
	"math"
	"net/mail"
	"net/netip"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// maxSteps bounds the work on one value: alternatives that refer to themselves
// can multiply with each level of it.
const maxSteps = 1 << 20

// Validate returns nil if value, one JSON text, fits the schema, else where and
// why not. The place is named by properties of the schema and by indexes, never
// by what the value says.
func (s *Schema) Validate(value json.RawMessage) error {
	if err := openai.Valid(value); err != nil {
		return err
	}
	c := &checker{left: maxSteps}
	if err := c.check(s, "", trim(value)); err != nil {
		return err
	}
	return nil
}

type checker struct{ left int }

// mismatch is why a value does not fit.
type mismatch struct{ at, why string }

func (m *mismatch) Error() string {
	if m.at == "" {
		return "the value " + m.why
	}
	return strings.TrimPrefix(m.at, ".") + " " + m.why
}

func no(at, format string, args ...any) *mismatch { return &mismatch{at, fmt.Sprintf(format, args...)} }

func trim(v json.RawMessage) json.RawMessage {
	return json.RawMessage(strings.Trim(string(v), " \t\r\n"))
}

func (c *checker) check(s *Schema, at string, v json.RawMessage) error {
	for s.Ref != nil {
		s = s.Ref
	}
	if c.left--; c.left < 0 {
		return no("", "takes too long to check against the schema")
	}
	switch {
	case s.Const != nil:
		if !equal(s.Const, v) {
			return no(at, "is not the constant that the schema demands")
		}
		return nil
	case s.Enum != nil:
		for _, e := range s.Enum {
			if equal(e, v) {
				return nil
			}
		}
		return no(at, "is not one of the %d values of the schema's enum", len(s.Enum))
	case s.AnyOf != nil:
		var first error
		for _, t := range s.AnyOf {
			err := c.check(t, at, v)
			if err == nil {
				return nil
			}
			if first == nil {
				first = err
			}
		}
		if len(s.AnyOf) == 1 {
			return first
		}
		return no(at, "fits none of the %d alternatives", len(s.AnyOf))
	}
	kind := kindOf(v)
	if s.Types != nil && !allows(s.Types, kind, v) {
		return no(at, "must be of type %s", strings.Join(s.Types, " or "))
	}
	switch kind {
	case "object":
		return c.object(s, at, v)
	case "array":
		return c.array(s, at, v)
	case "string":
		return text(s, at, v)
	case "number":
		return number(s, at, v)
	}
	return nil
}

func kindOf(v json.RawMessage) string {
	if len(v) == 0 {
		return ""
	}
	switch v[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "string"
	case 't', 'f':
		return "boolean"
	case 'n':
		return "null"
	}
	return "number"
}

func allows(types []string, kind string, v json.RawMessage) bool {
	for _, t := range types {
		if t == kind || t == "integer" && kind == "number" && isInteger(v) {
			return true
		}
	}
	return false
}

func isInteger(v json.RawMessage) bool {
	f, err := strconv.ParseFloat(string(v), 64)
	return err == nil && f == math.Trunc(f)
}

// equal compares values, not spellings.
func equal(a, b json.RawMessage) bool {
	if string(a) == string(b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func (c *checker) object(s *Schema, at string, v json.RawMessage) error {
	o, err := openai.ParseObject(v)
	if err != nil {
		return no(at, "has too many members")
	}
	known := 0
	for _, p := range s.Properties {
		m, ok := o.Get(p.Name)
		if !ok {
			if p.Required {
				return no(at+"."+p.Name, "is missing")
			}
			continue
		}
		known++
		if err := c.check(p.Schema, at+"."+p.Name, m); err != nil {
			return err
		}
	}
	if s.Closed && o.Len() > known {
		return no(at, "has members that the schema does not allow")
	}
	if s.Additional == nil || o.Len() == known {
		return nil
	}
	names := make(map[string]bool, len(s.Properties))
	for _, p := range s.Properties {
		names[p.Name] = true
	}
	for name, m := range o.All {
		if names[name] {
			continue
		}
		if err := c.check(s.Additional, at+".*", m); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) array(s *Schema, at string, v json.RawMessage) error {
	n := int64(0)
	for i, e := range openai.Elements(v) {
		n++
		if s.Items == nil {
			continue
		}
		if err := c.check(s.Items, at+"["+strconv.Itoa(i)+"]", e); err != nil {
			return err
		}
	}
	return count(s.MinItems, s.MaxItems, n, at, "items")
}

func count(least, most *int64, n int64, at, of string) error {
	if least != nil && n < *least {
		return no(at, "must have at least %d %s", *least, of)
	}
	if most != nil && n > *most {
		return no(at, "must have at most %d %s", *most, of)
	}
	return nil
}

func text(s *Schema, at string, v json.RawMessage) error {
	t, _ := openai.String(v)
	if err := count(s.MinLength, s.MaxLength, int64(utf8.RuneCountInString(t)), at, "characters"); err != nil {
		return err
	}
	if s.Pattern != nil && !s.Pattern.MatchString(t) {
		return no(at, "does not match the schema's pattern")
	}
	if s.Format != "" && !formats[s.Format](t) {
		return no(at, "is not of the format %s", s.Format)
	}
	return nil
}

func number(s *Schema, at string, v json.RawMessage) error {
	x, err := strconv.ParseFloat(string(v), 64)
	if err != nil {
		return no(at, "is beyond 64-bit floating point")
	}
	for _, b := range []struct {
		bound json.Number
		bad   func(bound float64) bool
		why   string
	}{
		{s.Minimum, func(b float64) bool { return x < b }, "must be at least"},
		{s.Maximum, func(b float64) bool { return x > b }, "must be at most"},
		{s.ExclusiveMinimum, func(b float64) bool { return x <= b }, "must be above"},
		{s.ExclusiveMaximum, func(b float64) bool { return x >= b }, "must be below"},
		{s.MultipleOf, func(b float64) bool { q := x / b; return math.Abs(q-math.Round(q)) > 1e-9*math.Max(1, math.Abs(q)) }, "must be a multiple of"},
	} {
		if b.bound == "" {
			continue
		}
		if bound, _ := b.bound.Float64(); b.bad(bound) {
			return no(at, "%s %s", b.why, b.bound)
		}
	}
	return nil
}

var (
	uuidForm     = regexp.MustCompile(`^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$`)
	durationForm = regexp.MustCompile(`^P(\d+W|(\d+Y)?(\d+M)?(\d+D)?(T(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?)$`)
	hostForm     = regexp.MustCompile(`^[0-9A-Za-z]([0-9A-Za-z-]{0,61}[0-9A-Za-z])?(\.[0-9A-Za-z]([0-9A-Za-z-]{0,61}[0-9A-Za-z])?)*$`)
)

// formats are those that the OpenAI API knows.
var formats = map[string]func(string) bool{
	"date-time": func(s string) bool { _, err := time.Parse(time.RFC3339Nano, strings.ToUpper(s)); return err == nil },
	"date":      func(s string) bool { _, err := time.Parse(time.DateOnly, s); return err == nil },
	"time": func(s string) bool {
		_, err := time.Parse("15:04:05.999999999Z07:00", strings.ToUpper(s))
		return err == nil
	},
	"duration": func(s string) bool { return durationForm.MatchString(s) && s != "P" && !strings.HasSuffix(s, "T") },
	"email": func(s string) bool {
		a, err := mail.ParseAddress(s)
		return err == nil && a.Address == s
	},
	"hostname": func(s string) bool { return len(s) <= 253 && hostForm.MatchString(s) },
	"ipv4":     func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && a.Is4() },
	"ipv6":     func(s string) bool { a, err := netip.ParseAddr(s); return err == nil && a.Is6() && a.Zone() == "" },
	"uuid":     uuidForm.MatchString,
}
