package main

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// schema is the declarations of all sources, built-in ones left out.
type schema struct {
	decls []*decl
	types []*boxedType // those that need an interface, in order of appearance
}

// decl is one declaration.
type decl struct {
	source   source
	text     string // as written, without the semicolon
	name     string // tcp.query
	id       uint32
	explicit bool // the id is written out
	fields   []*field
	result   string // tcp.Packet
	function bool
	goName   string // TcpQuery
}

// field is one field of a declaration.
type field struct {
	name, goName string
	flags        *field // the flags field that decides about this one, or nil
	bit          int
	typ          fieldType
}

// fieldType is a field's type without its condition.
type fieldType struct {
	scalar string     // key of scalars, or ""
	bare   *decl      // a struct without its id
	boxed  *boxedType // one of several constructors, behind its id
	elem   *fieldType // element of a vector
}

// boxedType is a type with several constructors.
type boxedType struct {
	name, goName string
	ctors        []*decl
	boxed        bool // some field has it
}

// scalar says how a built-in type looks in Go and on the wire.
type scalar struct {
	goType string
	size   int // bytes; 0 = varies
	min    int // least bytes
	write  string
	read   string
}

var scalars = map[string]scalar{
	"#":      {"uint32", 4, 4, "b = tl.AppendUint32(b, %s)", "r.Flags()"},
	"int":    {"int32", 4, 4, "b = tl.AppendInt32(b, %s)", "r.Int32()"},
	"long":   {"int64", 8, 8, "b = tl.AppendInt64(b, %s)", "r.Int64()"},
	"double": {"float64", 8, 8, "b = tl.AppendFloat64(b, %s)", "r.Float64()"},
	"Bool":   {"bool", 4, 4, "b = tl.AppendBool(b, %s)", "r.Bool()"},
	"int256": {"[32]byte", 32, 32, "b = append(b, %s[:]...)", "r.Int256()"},
	"string": {"string", 0, 4, "b = tl.AppendBytes(b, %s)", "r.String()"},
	"bytes":  {"[]byte", 0, 4, "b = tl.AppendBytes(b, %s)", "r.Bytes()"},
}

// builtins are declared in the schema for their ids alone.
var builtins = []string{"int", "long", "double", "string", "object", "function", "bytes", "true", "boolTrue", "boolFalse", "vector", "int128", "int256"}

var (
	comment   = regexp.MustCompile(`//.*`)
	condition = regexp.MustCompile(`^(\w+)\.(\d+)\?(.+)$`)
	spaces    = regexp.MustCompile(`\s+`)
	explicit  = regexp.MustCompile(`^([\w.]+)#([0-9a-f]{1,8})$`)
)

// crc returns the id that a declaration has unless another one is written out
// (spec network-protocol 3.3).
func crc(text string) uint32 {
	head, rest, _ := strings.Cut(text, " ")
	head, _, _ = strings.Cut(head, "#")
	return crc32.ChecksumIEEE([]byte(strings.NewReplacer("(", "", ")", "").Replace(head + " " + rest)))
}

// parse splits a source into declarations, built-in ones included; fields are
// not resolved yet.
func parse(src source, text string) ([]*decl, error) {
	var decls []*decl
	function := false
	text = comment.ReplaceAllString(text, "")
	for item := range strings.SplitSeq(text, ";") {
		item = strings.TrimSpace(spaces.ReplaceAllString(item, " "))
		for {
			if rest, ok := strings.CutPrefix(item, "---functions---"); ok {
				function, item = true, strings.TrimSpace(rest)
			} else if rest, ok := strings.CutPrefix(item, "---types---"); ok {
				function, item = false, strings.TrimSpace(rest)
			} else {
				break
			}
		}
		if item == "" {
			continue
		}
		left, result, ok := strings.Cut(item, " = ")
		if !ok {
			return nil, fmt.Errorf("%s: no result type in %q", src.file, item)
		}
		d := &decl{source: src, text: item, result: result, function: function, id: crc(item)}
		d.name, _, _ = strings.Cut(left, " ")
		if m := explicit.FindStringSubmatch(d.name); m != nil {
			id, err := strconv.ParseUint(m[2], 16, 32)
			if err != nil {
				return nil, err
			}
			d.name, d.id, d.explicit = m[1], uint32(id), true
		}
		decls = append(decls, d)
	}
	return decls, nil
}

// load reads all sources in dir and resolves every field.
func load(dir string) (*schema, error) {
	s := &schema{}
	byName := map[string]*decl{}
	byID := map[uint32]*decl{}
	byGoName := map[string]*decl{}
	for _, src := range sources {
		text, err := os.ReadFile(filepath.Join(dir, src.file))
		if err != nil {
			return nil, err
		}
		decls, err := parse(src, string(text))
		if err != nil {
			return nil, err
		}
		for _, d := range decls {
			if other := byID[d.id]; other != nil {
				return nil, fmt.Errorf("%s and %s have the same id %08x", other.name, d.name, d.id)
			}
			byID[d.id] = d
			if slices.Contains(builtins, d.name) {
				continue
			}
			d.goName = exported(d.name)
			if byName[d.name] == nil {
				byName[d.name] = d
			} else {
				d.goName += src.suffix
			}
			if byGoName[d.goName] != nil {
				return nil, fmt.Errorf("%s is declared twice", d.name)
			}
			byGoName[d.goName] = d
			s.decls = append(s.decls, d)
		}
	}

	types := map[string]*boxedType{}
	for _, d := range s.decls {
		if d.function {
			continue
		}
		t := types[d.result]
		if t == nil {
			t = &boxedType{name: d.result, goName: exported(d.result) + "Type"}
			types[d.result] = t
			s.types = append(s.types, t)
		}
		t.ctors = append(t.ctors, d)
	}
	for _, d := range s.decls {
		if err := d.resolve(byName, types); err != nil {
			return nil, fmt.Errorf("%s: %w", d.name, err)
		}
	}
	s.types = slices.DeleteFunc(s.types, func(t *boxedType) bool { return len(t.ctors) == 1 && !t.boxed })
	for _, d := range s.decls {
		if err := d.checkFinite(nil); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// resolve parses the fields of d.
func (d *decl) resolve(byName map[string]*decl, types map[string]*boxedType) error {
	left, _, _ := strings.Cut(d.text, " = ")
	_, left, _ = strings.Cut(left, " ")
	for left != "" {
		name, rest, ok := strings.Cut(left, ":")
		if !ok {
			return fmt.Errorf("no type in %q", left)
		}
		typ, rest := cutType(rest)
		left = rest
		f := &field{name: name, goName: exported(name)}
		if m := condition.FindStringSubmatch(typ); m != nil {
			i := slices.IndexFunc(d.fields, func(g *field) bool { return g.name == m[1] && g.typ.scalar == "#" })
			if i < 0 {
				return fmt.Errorf("%s: %s is no flags field before it", name, m[1])
			}
			bit, err := strconv.Atoi(m[2])
			if err != nil || bit > 30 {
				return fmt.Errorf("%s: bit %s cannot be used", name, m[2])
			}
			f.flags, f.bit, typ = d.fields[i], bit, m[3]
		}
		var err error
		if f.typ, err = resolveType(typ, byName, types); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if f.flags != nil && (f.typ.elem != nil || f.typ.boxed != nil) {
			return fmt.Errorf("%s: conditional vectors and boxed types are not supported", name)
		}
		d.fields = append(d.fields, f)
	}
	return nil
}

// cutType splits what follows a field's colon at the blank that ends the type.
func cutType(s string) (typ, rest string) {
	if strings.HasPrefix(s, "(") {
		typ, rest, ok := strings.Cut(s[1:], ")")
		if !ok {
			return s, ""
		}
		return typ, strings.TrimPrefix(rest, " ")
	}
	typ, rest, _ = strings.Cut(s, " ")
	return typ, rest
}

func resolveType(typ string, byName map[string]*decl, types map[string]*boxedType) (fieldType, error) {
	if _, ok := scalars[typ]; ok {
		return fieldType{scalar: typ}, nil
	}
	if elem, ok := strings.CutPrefix(typ, "vector "); ok {
		t, err := resolveType(elem, byName, types)
		if err == nil && t.elem != nil {
			err = fmt.Errorf("vectors of vectors are not supported")
		}
		return fieldType{elem: &t}, err
	}
	if d := byName[typ]; d != nil && !d.function {
		return fieldType{bare: d}, nil
	}
	if t := types[typ]; t != nil {
		t.boxed = true
		return fieldType{boxed: t}, nil
	}
	return fieldType{}, fmt.Errorf("unknown type %q", typ)
}

// checkFinite refuses a type that can contain itself: what can be decoded then
// has a depth that the schema bounds, and decoders need no counter.
func (d *decl) checkFinite(above []*decl) error {
	if slices.Contains(above, d) {
		return fmt.Errorf("%s can contain itself; decoding it would need a depth limit", d.name)
	}
	above = append(above, d)
	for _, f := range d.fields {
		t := f.typ
		if t.elem != nil {
			t = *t.elem
		}
		var inner []*decl
		if t.bare != nil {
			inner = []*decl{t.bare}
		} else if t.boxed != nil {
			inner = t.boxed.ctors
		}
		for _, i := range inner {
			if err := i.checkFinite(above); err != nil {
				return err
			}
		}
	}
	return nil
}

// size returns the encoded size of d without its id if it is always the same.
func (d *decl) size() (n int, fixed bool) {
	for _, f := range d.fields {
		m, ok := f.typ.size()
		if !ok || f.flags != nil {
			return 0, false
		}
		n += m
	}
	return n, true
}

func (t fieldType) size() (n int, fixed bool) {
	if t.bare != nil {
		return t.bare.size()
	}
	n = scalars[t.scalar].size
	return n, n > 0
}

// min returns the least bytes that an encoding has.
func (t fieldType) min() int {
	switch {
	case t.bare != nil:
		n := 0
		for _, f := range t.bare.fields {
			if f.flags == nil {
				n += f.typ.min()
			}
		}
		return n
	case t.boxed != nil, t.elem != nil:
		return 4
	}
	return scalars[t.scalar].min
}

// exported makes a Go name: client.connectToProxy → ClientConnectToProxy,
// request_id → RequestID.
func exported(name string) string {
	var b strings.Builder
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '.' || r == '_' }) {
		switch part {
		case "id", "url":
			b.WriteString(strings.ToUpper(part))
		default:
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}
