//go:build !tee

package demo

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

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

// schemaCompiler turns a JSON schema into a grammar. The supported subset is
// that of OpenAI's strict mode: type (also a list), properties and required,
// items, enum, const, anyOf, $ref to $defs or definitions or the root, and the
// bounds minLength, maxLength, minItems, maxItems, minimum, maximum,
// exclusiveMinimum and exclusiveMaximum of integers. Output is compact, with
// properties in the order of the schema. What would weaken the promise when
// ignored (pattern, format, allOf, oneOf, not, …) is refused.
type schemaCompiler struct {
	g     *grammar
	root  json.RawMessage
	refs  map[string]int
	param string
	char  symbol
	value [openDepth + 1]symbol // any value, by depth left
	err   *openai.Error
}

func newCompiler(param string) *schemaCompiler {
	c := &schemaCompiler{g: &grammar{}, refs: map[string]int{}, param: param}
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
	c.root = schema
	start := c.g.alt(sequence{c.ref("#", schema)})
	if c.err != nil {
		return nil, c.err
	}
	c.g.start = start.rule
	if m := c.g.matcher(); len(m.tops) == 0 {
		return nil, openai.InvalidRequest(param, "the schema allows no value, or refers to itself without end")
	}
	return c.g, nil
}

func (c *schemaCompiler) fail(format string, args ...any) sequence {
	if c.err == nil {
		c.err = openai.InvalidRequest(c.param, format, args...)
	}
	return nil
}

// ref compiles the schema found under name once, so that it can refer to itself.
func (c *schemaCompiler) ref(name string, schema json.RawMessage) symbol {
	r, ok := c.refs[name]
	if !ok {
		r = c.g.rule()
		c.refs[name] = r
		c.g.rules[r] = []sequence{c.schema(schema, 0)}
	}
	return symbol{rule: r}
}

var schemaKeys = map[string]bool{
	"type": true, "properties": true, "required": true, "additionalProperties": true, "items": true, "enum": true, "const": true, "anyOf": true, "$ref": true,
	"minLength": true, "maxLength": true, "minItems": true, "maxItems": true, "minimum": true, "maximum": true, "exclusiveMinimum": true, "exclusiveMaximum": true,
	"$defs": true, "definitions": true, "title": true, "description": true, "default": true, "examples": true, "$schema": true, "$id": true, "strict": true,
}

func (c *schemaCompiler) schema(raw json.RawMessage, depth int) sequence {
	if c.err != nil || depth > 64 || len(c.g.rules) > maxRules {
		return c.fail("the schema is too large or nests too deeply")
	}
	if s := strings.TrimSpace(string(raw)); s == "true" || s == "{}" {
		return sequence{c.value[openDepth]}
	}
	o, err := openai.ParseObject(raw)
	if err != nil {
		return c.fail("a schema must be an object")
	}
	for key := range o.All {
		if !schemaKeys[key] {
			return c.fail("the schema keyword %q is not supported", key)
		}
	}
	if v, ok := o.Get("$ref"); ok {
		return c.follow(v)
	}
	if v, ok := o.Get("const"); ok {
		return c.constant(v)
	}
	if v, ok := o.Get("enum"); ok {
		var alts []sequence
		for _, e := range openai.Elements(v) {
			alts = append(alts, c.constant(e))
		}
		if len(alts) == 0 {
			return c.fail("enum must list at least one value")
		}
		return sequence{c.g.alt(alts...)}
	}
	if v, ok := o.Get("anyOf"); ok {
		var alts []sequence
		for _, e := range openai.Elements(v) {
			alts = append(alts, c.schema(e, depth+1))
		}
		if len(alts) == 0 {
			return c.fail("anyOf must list at least one schema")
		}
		return sequence{c.g.alt(alts...)}
	}
	v, ok := o.Get("type")
	if !ok {
		if _, ok := o.Get("properties"); ok {
			return c.typed("object", o, depth)
		}
		return sequence{c.value[openDepth]}
	}
	if name, ok := openai.String(v); ok {
		return c.typed(name, o, depth)
	}
	var alts []sequence
	for _, e := range openai.Elements(v) {
		name, _ := openai.String(e)
		alts = append(alts, c.typed(name, o, depth))
	}
	if len(alts) == 0 {
		return c.fail("type must be a name or a list of names")
	}
	return sequence{c.g.alt(alts...)}
}

func (c *schemaCompiler) follow(v json.RawMessage) sequence {
	name, _ := openai.String(v)
	if name == "#" {
		return sequence{c.ref(name, c.root)}
	}
	for _, where := range []string{"$defs", "definitions"} {
		key, ok := strings.CutPrefix(name, "#/"+where+"/")
		if !ok {
			continue
		}
		root, err := openai.ParseObject(c.root)
		if err != nil {
			break
		}
		defs, _ := root.Get(where)
		if d, err := openai.ParseObject(defs); err == nil {
			if s, ok := d.Get(key); ok {
				return sequence{c.ref(name, s)}
			}
		}
	}
	return c.fail("$ref must name the root or an entry of $defs")
}

func (c *schemaCompiler) constant(v json.RawMessage) sequence {
	b, err := openai.Compact(nil, v)
	if err != nil || len(b) > 4096 {
		return c.fail("a constant in the schema is too long")
	}
	return literal(string(b))
}

// bound reads an integer keyword; absent ones have the value none.
func (c *schemaCompiler) bound(o *openai.Object, key string, none int64) int64 {
	v, ok := o.Get(key)
	if !ok {
		return none
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(string(v), 64)
		if ferr != nil || f != float64(int64(f)) {
			c.fail("%s must be an integer", key)
			return none
		}
		n = int64(f)
	}
	return n
}

func (c *schemaCompiler) typed(name string, o *openai.Object, depth int) sequence {
	switch name {
	case "null":
		return literal("null")
	case "boolean":
		return sequence{c.g.alt(literal("true"), literal("false"))}
	case "string":
		least := c.bound(o, "minLength", 0)
		most := c.bound(o, "maxLength", max(openString, least))
		if least < 0 || most < least || most > mostRepeat {
			return c.fail("minLength and maxLength must satisfy 0 ≤ minLength ≤ maxLength ≤ %d", mostRepeat)
		}
		return c.text(int(least), int(most))
	case "number":
		for _, k := range []string{"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"} {
			if _, ok := o.Get(k); ok {
				return c.fail("%s is supported for integers only", k)
			}
		}
		return c.number()
	case "integer":
		const limit = 999_999_999_999
		lo, hi := c.bound(o, "minimum", -limit), c.bound(o, "maximum", limit)
		lo = max(lo, c.bound(o, "exclusiveMinimum", -limit-1)+1)
		hi = min(hi, c.bound(o, "exclusiveMaximum", limit+1)-1)
		if lo > hi || lo < -limit || hi > limit {
			return c.fail("no integer of at most %d digits lies between minimum and maximum", openDigits)
		}
		return c.integer(lo, hi)
	case "array":
		least := c.bound(o, "minItems", 0)
		most := c.bound(o, "maxItems", max(openArray, least))
		if least < 0 || most < least || most > mostRepeat {
			return c.fail("minItems and maxItems must satisfy 0 ≤ minItems ≤ maxItems ≤ %d", mostRepeat)
		}
		item := sequence{c.value[openDepth-1]}
		if v, ok := o.Get("items"); ok {
			item = sequence{c.g.alt(c.schema(v, depth+1))}
		}
		return c.array(item, int(least), int(most))
	case "object":
		return c.object(o, depth)
	}
	return c.fail("type %q is unknown", name)
}

func (c *schemaCompiler) object(o *openai.Object, depth int) sequence {
	props, ok := o.Get("properties")
	if !ok {
		if v, ok := o.Get("additionalProperties"); ok && string(v) == "false" {
			return literal("{}")
		}
		return c.anyObject(c.value[openDepth-1])
	}
	p, err := openai.ParseObject(props)
	if err != nil {
		return c.fail("properties must be an object")
	}
	required := map[string]bool{}
	if v, ok := o.Get("required"); ok {
		for _, e := range openai.Elements(v) {
			name, _ := openai.String(e)
			if _, ok := p.Get(name); !ok {
				return c.fail("required names a property that is not there")
			}
			required[name] = true
		}
	}
	type property struct {
		seq      sequence
		optional bool
	}
	var list []property
	for key, s := range p.All {
		seq := join(literal(string(openai.AppendString(nil, key))+":"), sequence{c.g.alt(c.schema(s, depth+1))})
		list = append(list, property{seq, !required[key]})
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
