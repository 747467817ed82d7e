// Package jsonschema reads the subset of JSON Schema that structured outputs
// use and checks values against it. One reading serves both sides: the gateway
// validates answers, the demo engine makes a grammar of it.
//
// Owns: Schema.
// Imports: api/openai.
// Trust: schemas come from callers and values from workers: size, depth and
// work are bounded, and no error repeats a value.
// Concurrency: a Schema is immutable.
package jsonschema

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cocoon-network/cocoon/internal/api/openai"
)

// Schema is one schema. The zero value allows any JSON value. Where several of
// Ref, Const, Enum and AnyOf are given, only the first of them counts, and
// Types after them.
type Schema struct {
	Ref   *Schema           // of a "$ref"
	Const json.RawMessage   // compact; nil = none
	Enum  []json.RawMessage // compact
	AnyOf []*Schema

	// Types are the allowed types; none = any.
	Types []string

	// Objects. Properties are in the order of the schema. Additional is what
	// other members must be: nil = anything, unless Closed.
	HasProperties bool
	Properties    []Property
	Closed        bool
	Additional    *Schema

	// Arrays; Items nil = anything.
	Items              *Schema
	MinItems, MaxItems *int64

	// Strings, in characters.
	MinLength, MaxLength *int64
	Pattern              *regexp.Regexp
	Format               string

	// Numbers, as written; "" = none.
	Minimum, Maximum, ExclusiveMinimum, ExclusiveMaximum, MultipleOf json.Number
}

// Property is one member that an object may or must have.
type Property struct {
	Name     string
	Schema   *Schema
	Required bool
}

// Bounds on a schema. A reference counts once, however often it is used.
const (
	maxDepth   = 64
	maxSchemas = 5000
	maxConst   = 4096 // bytes of one constant
	maxPattern = 1024
)

// keys lists what is understood and what only describes. What would weaken the
// promise if it were ignored (allOf, oneOf, not, patternProperties, …) is in
// neither list and refused.
var keys = map[string]bool{
	"type": true, "properties": true, "required": true, "additionalProperties": true, "items": true, "enum": true, "const": true, "anyOf": true, "$ref": true,
	"minLength": true, "maxLength": true, "pattern": true, "format": true, "minItems": true, "maxItems": true,
	"minimum": true, "maximum": true, "exclusiveMinimum": true, "exclusiveMaximum": true, "multipleOf": true,
	"$defs": true, "definitions": true,
	"title": true, "description": true, "default": true, "examples": true, "$schema": true, "$id": true, "$comment": true, "strict": true,
}

// Parse reads a schema. Its errors say what is wrong with it, for its author.
func Parse(raw json.RawMessage) (*Schema, error) {
	p := &parser{root: raw, refs: map[string]*Schema{}}
	s, err := p.named("#", raw)
	if err != nil {
		return nil, err
	}
	state := map[*Schema]int{}
	for _, t := range p.all {
		if endless(t, state) {
			return nil, errors.New("the schema refers to itself without end")
		}
	}
	return s, nil
}

type parser struct {
	root json.RawMessage
	refs map[string]*Schema
	all  []*Schema
}

// named reads the schema found under a name once, so that it can refer to
// itself.
func (p *parser) named(name string, raw json.RawMessage) (*Schema, error) {
	if s, ok := p.refs[name]; ok {
		return s, nil
	}
	s := &Schema{}
	p.refs[name] = s
	return s, p.read(s, raw, 0)
}

func (p *parser) schema(raw json.RawMessage, depth int) (*Schema, error) {
	s := &Schema{}
	return s, p.read(s, raw, depth)
}

func (p *parser) read(s *Schema, raw json.RawMessage, depth int) error {
	if p.all = append(p.all, s); len(p.all) > maxSchemas || depth > maxDepth {
		return fmt.Errorf("the schema is too large or nests too deeply: at most %d schemas, %d levels", maxSchemas, maxDepth)
	}
	if strings.TrimSpace(string(raw)) == "true" {
		return nil
	}
	o, err := openai.ParseObject(raw)
	if err != nil {
		return errors.New("a schema must be an object")
	}
	for key := range o.All {
		if !keys[key] {
			return fmt.Errorf("the schema keyword %q is not supported", clip(key))
		}
	}
	if v, ok := o.Get("$ref"); ok {
		s.Ref, err = p.follow(v)
		return err
	}
	if v, ok := o.Get("const"); ok {
		s.Const, err = constant(v)
		return err
	}
	if v, ok := o.Get("enum"); ok {
		for _, e := range openai.Elements(v) {
			c, err := constant(e)
			if err != nil {
				return err
			}
			s.Enum = append(s.Enum, c)
		}
		if len(s.Enum) == 0 || len(s.Enum) > maxSchemas {
			return fmt.Errorf("enum must list 1 to %d values", maxSchemas)
		}
		return nil
	}
	if v, ok := o.Get("anyOf"); ok {
		for _, e := range openai.Elements(v) {
			sub, err := p.schema(e, depth+1)
			if err != nil {
				return err
			}
			s.AnyOf = append(s.AnyOf, sub)
		}
		if len(s.AnyOf) == 0 {
			return fmt.Errorf("anyOf must list at least one schema")
		}
		return nil
	}
	if v, ok := o.Get("type"); ok {
		if s.Types, err = types(v); err != nil {
			return err
		}
	} else if _, ok := o.Get("properties"); ok {
		s.Types = []string{"object"}
	}
	for _, read := range []func(*Schema, *openai.Object, int) error{p.object, p.array, p.text, p.number} {
		if err := read(s, o, depth); err != nil {
			return err
		}
	}
	return nil
}

func types(v json.RawMessage) ([]string, error) {
	var out []string
	if name, ok := openai.String(v); ok {
		out = []string{name}
	}
	for _, e := range openai.Elements(v) {
		name, _ := openai.String(e)
		out = append(out, name)
	}
	if len(out) == 0 || len(out) > 7 {
		return nil, fmt.Errorf("type must be a name or a list of names")
	}
	for _, name := range out {
		switch name {
		case "null", "boolean", "string", "number", "integer", "array", "object":
		default:
			return nil, fmt.Errorf("the type %q is unknown", clip(name))
		}
	}
	return out, nil
}

func (p *parser) follow(v json.RawMessage) (*Schema, error) {
	name, _ := openai.String(v)
	if name == "#" {
		return p.named(name, p.root)
	}
	for _, where := range []string{"$defs", "definitions"} {
		key, ok := strings.CutPrefix(name, "#/"+where+"/")
		if !ok {
			continue
		}
		root, err := openai.ParseObject(p.root)
		if err != nil {
			break
		}
		defs, _ := root.Get(where)
		if d, err := openai.ParseObject(defs); err == nil {
			if raw, ok := d.Get(key); ok {
				return p.named(name, raw)
			}
		}
	}
	return nil, fmt.Errorf("$ref must name the root or an entry of $defs")
}

func constant(v json.RawMessage) (json.RawMessage, error) {
	b, err := openai.Compact(nil, v)
	if err != nil || len(b) > maxConst {
		return nil, fmt.Errorf("a constant in the schema is longer than %d bytes", maxConst)
	}
	return b, nil
}

func (p *parser) object(s *Schema, o *openai.Object, depth int) error {
	if v, ok := o.Get("additionalProperties"); ok {
		switch string(v) {
		case "false":
			s.Closed = true
		case "true":
		default:
			var err error
			if s.Additional, err = p.schema(v, depth+1); err != nil {
				return err
			}
		}
	}
	required := map[string]bool{}
	if v, ok := o.Get("required"); ok {
		if len(v) == 0 || v[0] != '[' {
			return fmt.Errorf("required must be a list of names")
		}
		for _, e := range openai.Elements(v) {
			name, ok := openai.String(e)
			if !ok {
				return fmt.Errorf("required must be a list of names")
			}
			required[name] = true
		}
	}
	v, ok := o.Get("properties")
	if ok {
		s.HasProperties = true
		props, err := openai.ParseObject(v)
		if err != nil {
			return fmt.Errorf("properties must be an object")
		}
		for name, raw := range props.All {
			sub, err := p.schema(raw, depth+1)
			if err != nil {
				return err
			}
			s.Properties = append(s.Properties, Property{name, sub, required[name]})
			delete(required, name)
		}
	}
	if len(required) > 0 {
		return fmt.Errorf("required names a property that is not there")
	}
	return nil
}

func (p *parser) array(s *Schema, o *openai.Object, depth int) error {
	if v, ok := o.Get("items"); ok {
		var err error
		if s.Items, err = p.schema(v, depth+1); err != nil {
			return err
		}
	}
	return bounds(o, "minItems", "maxItems", &s.MinItems, &s.MaxItems)
}

func (p *parser) text(s *Schema, o *openai.Object, _ int) error {
	if v, ok := o.Get("pattern"); ok {
		text, ok := openai.String(v)
		if !ok || len(text) > maxPattern {
			return fmt.Errorf("pattern must be a string of at most %d bytes", maxPattern)
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return fmt.Errorf("pattern is not a regular expression that is understood here (RE2: no look-around, no back references)")
		}
		s.Pattern = re
	}
	if v, ok := o.Get("format"); ok {
		s.Format, _ = openai.String(v)
		if formats[s.Format] == nil {
			return fmt.Errorf("the format %q is not supported", clip(s.Format))
		}
	}
	return bounds(o, "minLength", "maxLength", &s.MinLength, &s.MaxLength)
}

func (p *parser) number(s *Schema, o *openai.Object, _ int) error {
	for key, into := range map[string]*json.Number{
		"minimum": &s.Minimum, "maximum": &s.Maximum, "exclusiveMinimum": &s.ExclusiveMinimum, "exclusiveMaximum": &s.ExclusiveMaximum, "multipleOf": &s.MultipleOf,
	} {
		v, ok := o.Get(key)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil || key == "multipleOf" && f <= 0 {
			return fmt.Errorf("%s must be a number", key)
		}
		*into = json.Number(v)
	}
	return nil
}

// bounds reads a pair of counts.
func bounds(o *openai.Object, low, high string, least, most **int64) error {
	for key, into := range map[string]**int64{low: least, high: most} {
		v, ok := o.Get(key)
		if !ok {
			continue
		}
		f, err := strconv.ParseFloat(string(v), 64)
		if err != nil || f < 0 || f > 1<<31 || f != float64(int64(f)) {
			return fmt.Errorf("%s must be an integer from 0 to 2147483648", key)
		}
		n := int64(f)
		*into = &n
	}
	if *least != nil && *most != nil && **least > **most {
		return fmt.Errorf("%s is above %s", low, high)
	}
	return nil
}

// endless reports whether s refers to itself without anything in between: no
// value could ever be found to fit.
func endless(s *Schema, state map[*Schema]int) bool {
	const entered, left = 1, 2
	if state[s] != 0 {
		return state[s] == entered
	}
	state[s] = entered
	same := s.AnyOf
	if s.Ref != nil {
		same = []*Schema{s.Ref}
	}
	for _, t := range same {
		if endless(t, state) {
			return true
		}
	}
	state[s] = left
	return false
}

func clip(s string) string {
	if len(s) > 64 {
		s = s[:64] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
