//go:build !tee

package demo

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/jsonschema"
	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// What a schema leaves open is bounded, so that a small model's answer ends.
const (
	openString = 160 // characters of a string without maxLength
	openArray  = 8   // items of an array without maxItems
	openDepth  = 4   // nesting where any value is allowed
	openDigits = 12  // digits of a number
	mostRepeat = 2000
)

// schemaCompiler turns a schema into a grammar. What jsonschema understands but
// a grammar here cannot hold (pattern, format, multipleOf, bounds of fractions,
// schemas of members without a name) is refused: ignored, it would weaken the
// promise. Output is compact, with properties in the order of the schema.
type schemaCompiler struct {
	g     *grammar
	refs  map[*jsonschema.Schema]int
	param string
	char  symbol
	value [openDepth + 1]symbol // any value, by depth left
	err   *openai.Error
}

func newCompiler(param string) *schemaCompiler {
	c := &schemaCompiler{g: &grammar{}, refs: map[*jsonschema.Schema]int{}, param: param}
	cont := span1(0x80, 0xBF)
	escape := new(byteSet)
	for _, b := range []byte(`"\/bfnrt`) {
		escape.add(b, b)
	}
	plain := new(byteSet).add(0x20, 0x21).add(0x23, 0x5B).add(0x5D, 0x7E)
	c.char = c.g.alt(
		sequence{{set: plain}},
		sequence{span1('\\', '\\'), {set: escape}},
		sequence{span1(0xC2, 0xDF), cont},
		sequence{span1(0xE0, 0xE0), span1(0xA0, 0xBF), cont},
		sequence{{set: new(byteSet).add(0xE1, 0xEC).add(0xEE, 0xEF)}, cont, cont},
		sequence{span1(0xED, 0xED), span1(0x80, 0x9F), cont},
		sequence{span1(0xF0, 0xF0), span1(0x90, 0xBF), cont, cont},
		sequence{span1(0xF1, 0xF3), cont, cont, cont},
	)
	for depth := range c.value {
		alts := []sequence{c.text(0, openString), c.number(), literal("true"), literal("false"), literal("null")}
		if depth > 0 {
			v := c.value[depth-1]
			alts = append(alts, c.array(sequence{v}, 0, openArray), c.anyObject(v))
		}
		c.value[depth] = c.g.alt(alts...)
	}
	return c
}

// objectGrammar accepts any JSON object.
func objectGrammar() *grammar {
	c := newCompiler("response_format")
	c.g.start = c.g.alt(c.anyObject(c.value[openDepth-1])).rule
	return c.g
}

// schemaGrammar compiles schema; param names it in errors.
func schemaGrammar(schema json.RawMessage, param string) (*grammar, *openai.Error) {
	c := newCompiler(param)
	start := c.g.alt(sequence{c.parse(schema)})
	if c.err != nil {
		return nil, c.err
	}
	c.g.start = start.rule
	if m := c.g.matcher(); len(m.tops) == 0 {
		return nil, openai.InvalidRequest(param, "the schema allows no value, or refers to itself without end")
	}
	return c.g, nil
}

// parse reads and compiles a schema.
func (c *schemaCompiler) parse(raw json.RawMessage) symbol {
	s, err := jsonschema.Parse(raw)
	if err != nil {
		c.fail("%s", err.Error())
		return symbol{}
	}
	return c.ref(s)
}

func (c *schemaCompiler) fail(format string, args ...any) sequence {
	if c.err == nil {
		c.err = openai.InvalidRequest(c.param, format, args...)
	}
	return nil
}

// ref compiles a schema once, so that it can refer to itself.
func (c *schemaCompiler) ref(s *jsonschema.Schema) symbol {
	r, ok := c.refs[s]
	if !ok {
		r = c.g.rule()
		c.refs[s] = r
		c.g.rules[r] = []sequence{c.schema(s)}
	}
	return symbol{rule: r}
}

func (c *schemaCompiler) schema(s *jsonschema.Schema) sequence {
	if c.err != nil || len(c.g.rules) > maxRules {
		return c.fail("the schema is too large")
	}
	var alts []sequence
	switch {
	case s.Pattern != nil:
		return c.fail("the schema keyword pattern is not supported")
	case s.Format != "":
		return c.fail("the schema keyword format is not supported")
	case s.MultipleOf != "":
		return c.fail("the schema keyword multipleOf is not supported")
	case s.Additional != nil:
		return c.fail("additionalProperties must be true or false")
	case s.Ref != nil:
		return sequence{c.ref(s.Ref)}
	case s.Const != nil:
		return literal(string(s.Const))
	case s.Enum != nil:
		for _, e := range s.Enum {
			alts = append(alts, literal(string(e)))
		}
	case s.AnyOf != nil:
		for _, t := range s.AnyOf {
			alts = append(alts, c.schema(t))
		}
	case s.Types == nil:
		return sequence{c.value[openDepth]}
	default:
		for _, name := range s.Types {
			alts = append(alts, c.typed(name, s))
		}
	}
	if len(alts) == 1 {
		return alts[0]
	}
	return sequence{c.g.alt(alts...)}
}

// integerBound reads a bound of integers; absent ones have the value none.
func (c *schemaCompiler) integerBound(key string, bound json.Number, none int64) int64 {
	if bound == "" {
		return none
	}
	f, err := bound.Float64()
	if err != nil || f != float64(int64(f)) {
		c.fail("%s must be an integer", key)
		return none
	}
	return int64(f)
}

// counts reads a pair of lengths.
func counts(least, most *int64, open int64) (low, high int64) {
	if least != nil {
		low = *least
	}
	high = max(open, low)
	if most != nil {
		high = *most
	}
	return low, high
}

func (c *schemaCompiler) typed(name string, s *jsonschema.Schema) sequence {
	switch name {
	case "null":
		return literal("null")
	case "boolean":
		return sequence{c.g.alt(literal("true"), literal("false"))}
	case "string":
		least, most := counts(s.MinLength, s.MaxLength, openString)
		if most > mostRepeat {
			return c.fail("minLength and maxLength must be at most %d", mostRepeat)
		}
		return c.text(int(least), int(most))
	case "number":
		if s.Minimum != "" || s.Maximum != "" || s.ExclusiveMinimum != "" || s.ExclusiveMaximum != "" {
			return c.fail("minimum and maximum are supported for integers only")
		}
		return c.number()
	case "integer":
		const limit = 999_999_999_999
		lo, hi := c.integerBound("minimum", s.Minimum, -limit), c.integerBound("maximum", s.Maximum, limit)
		lo = max(lo, c.integerBound("exclusiveMinimum", s.ExclusiveMinimum, -limit-1)+1)
		hi = min(hi, c.integerBound("exclusiveMaximum", s.ExclusiveMaximum, limit+1)-1)
		if lo > hi || lo < -limit || hi > limit {
			return c.fail("no integer of at most %d digits lies between minimum and maximum", openDigits)
		}
		return c.integer(lo, hi)
	case "array":
		least, most := counts(s.MinItems, s.MaxItems, openArray)
		if most > mostRepeat {
			return c.fail("minItems and maxItems must be at most %d", mostRepeat)
		}
		item := sequence{c.value[openDepth-1]}
		if s.Items != nil {
			item = sequence{c.g.alt(c.schema(s.Items))}
		}
		return c.array(item, int(least), int(most))
	}
	return c.object(s)
}

func (c *schemaCompiler) object(s *jsonschema.Schema) sequence {
	if !s.HasProperties {
		if s.Closed {
			return literal("{}")
		}
		return c.anyObject(c.value[openDepth-1])
	}
	type property struct {
		seq      sequence
		optional bool
	}
	var list []property
	for _, p := range s.Properties {
		seq := join(literal(string(openai.AppendString(nil, p.Name))+":"), sequence{c.g.alt(c.schema(p.Schema))})
		list = append(list, property{seq, !p.Required})
	}
	// From the back: what may follow when something, or nothing, came before.
	after, first := c.g.alt(literal("}")), c.g.alt(literal("}"))
	for i := len(list) - 1; i >= 0; i-- {
		q := list[i]
		more := []sequence{join(literal(","), q.seq, sequence{after})}
		begin := []sequence{join(q.seq, sequence{after})}
		if q.optional {
			more, begin = append(more, sequence{after}), append(begin, sequence{first})
		}
		after, first = c.g.alt(more...), c.g.alt(begin...)
	}
	return join(literal("{"), sequence{first})
}

func (c *schemaCompiler) anyObject(value symbol) sequence {
	pair := c.g.alt(join(c.text(1, 40), literal(":"), sequence{value}))
	return c.list("{", "}", sequence{pair}, 0, openArray)
}

func (c *schemaCompiler) array(item sequence, least, most int) sequence {
	return c.list("[", "]", item, least, most)
}

// list is open, items with commas, close.
func (c *schemaCompiler) list(open, end string, item sequence, least, most int) sequence {
	rest := c.g.alt(literal(end))
	for i := most; i > 1; i-- {
		alts := []sequence{join(literal(","), item, sequence{rest})}
		if i > least {
			alts = append(alts, literal(end))
		}
		rest = c.g.alt(alts...)
	}
	var alts []sequence
	if most > 0 {
		alts = append(alts, join(item, sequence{rest}))
	}
	if least == 0 {
		alts = append(alts, literal(end))
	}
	return join(literal(open), sequence{c.g.alt(alts...)})
}

// text is a string of least to most characters.
func (c *schemaCompiler) text(least, most int) sequence {
	rest := c.g.alt(literal(`"`))
	for i := most; i > 0; i-- {
		alts := []sequence{{c.char, rest}}
		if i > least {
			alts = append(alts, literal(`"`))
		}
		rest = c.g.alt(alts...)
	}
	return join(literal(`"`), sequence{rest})
}

// number is any JSON number of moderate length.
func (c *schemaCompiler) number() sequence {
	digit := span1('0', '9')
	digits := func(n int) symbol {
		r := c.g.alt(nil)
		for range n {
			r = c.g.alt(nil, sequence{digit, r})
		}
		return r
	}
	whole := c.g.alt(literal("0"), sequence{span1('1', '9'), digits(openDigits - 1)})
	fraction := c.g.alt(nil, sequence{span1('.', '.'), digit, digits(5)})
	sign := c.g.alt(nil, literal("-"))
	return sequence{sign, whole, fraction}
}

// integer is an integer from lo to hi, without leading zeros.
func (c *schemaCompiler) integer(lo, hi int64) sequence {
	var alts []sequence
	if lo < 0 {
		alts = append(alts, join(literal("-"), c.magnitude(max(1, -hi), -lo)))
	}
	if hi >= 0 {
		alts = append(alts, c.magnitude(max(0, lo), hi))
	}
	return sequence{c.g.alt(alts...)}
}

// magnitude is a number from lo ≥ 0 to hi: for each length, digits that are
// still tied to the lower bound, to the upper, to both or to none.
func (c *schemaCompiler) magnitude(lo, hi int64) sequence {
	var alts []sequence
	for n := 1; n <= len(strconv.FormatInt(hi, 10)); n++ {
		least, most := int64(1), int64(9)
		for range n - 1 {
			least, most = least*10, most*10+9
		}
		if n == 1 {
			least = 0
		}
		least, most = max(least, lo), min(most, hi)
		if least <= most {
			a, b := fmt.Sprintf("%0*d", n, least), fmt.Sprintf("%0*d", n, most)
			alts = append(alts, c.between(a, b))
		}
	}
	return sequence{c.g.alt(alts...)}
}

// between is every digit string from a to b, which have the same length.
func (c *schemaCompiler) between(a, b string) sequence {
	if a == "" {
		return nil
	}
	low, high := strings.Repeat("0", len(a)-1), strings.Repeat("9", len(a)-1)
	if a[1:] == low && b[1:] == high {
		out := sequence{span1(a[0], b[0])}
		for range len(a) - 1 {
			out = append(out, span1('0', '9'))
		}
		return out
	}
	if a[0] == b[0] {
		return join(sequence{span1(a[0], a[0])}, c.between(a[1:], b[1:]))
	}
	alts := []sequence{
		join(sequence{span1(a[0], a[0])}, c.between(a[1:], high)),
		join(sequence{span1(b[0], b[0])}, c.between(low, b[1:])),
	}
	if a[0]+1 < b[0] {
		alts = append(alts, join(sequence{span1(a[0]+1, b[0]-1)}, c.between(low, high)))
	}
	return sequence{c.g.alt(alts...)}
}
