package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestValidDepth(t *testing.T) {
	for _, c := range []struct {
		n    int
		want error
	}{{MaxDepth, nil}, {MaxDepth + 1, ErrTooDeep}, {1_000_000, ErrTooDeep}} {
		for _, pair := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
			inner := "0"
			s := strings.Repeat(pair[0], c.n) + inner + strings.Repeat(pair[1], c.n)
			if err := Valid([]byte(s)); !errors.Is(err, c.want) {
				t.Errorf("depth %d of %q: got %v, want %v", c.n, pair[0], err, c.want)
			}
		}
	}
}

func TestCompact(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{` { "b" : 1 , "a" : [ 1.10 , 1e3 , 12345678901234567890123 ] } `, `{"b":1,"a":[1.10,1e3,12345678901234567890123]}`},
		{`{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`},
		{`{"a":1,"\u0061":{"x":1,"x":2}}`, `{"a":{"x":2}}`},
		{`"\ud800x"`, `"` + "\uFFFD" + `x"`},
		{"\"\xff\"", `"` + "\uFFFD" + `"`},
		{`"\u003c\n\/"`, `"<\n/"`},
		{`"\n\/"`, `"\n\/"`},
		{`"\u0000\u001f\""`, `"\u0000\u001f\""`},
		{` null `, `null`},
		{"-0 \n", "-0"},
	} {
		got, err := Compact(nil, []byte(c.in))
		if err != nil || string(got) != c.want {
			t.Errorf("Compact(%q) = %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	many := "{" + strings.Repeat(`"a":0,`, MaxMembers) + `"b":0}`
	if got, err := Compact(nil, []byte(many)); err != nil || string(got) != `{"a":0,"b":0}` {
		t.Errorf("many duplicates: %q, %v", got, err)
	}
	var b strings.Builder
	for i := range MaxMembers + 1 {
		b.WriteString(`,"` + strings.Repeat("k", i%7) + string(rune('a'+i%26)) + strings.Repeat("z", i/26) + `":0`)
	}
	if _, err := Compact(nil, []byte("["+"{"+b.String()[1:]+"}]")); !errors.Is(err, ErrTooMany) {
		t.Errorf("%d members: %v, want %v", MaxMembers+1, err, ErrTooMany)
	}
}

func TestObject(t *testing.T) {
	o, err := ParseObject([]byte(`{"z":1,"a":"x","z":2.50,"m":{"q":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	o.Delete("a")
	o.SetInt("n", -7)
	o.Set("z", json.RawMessage(`[1, 2]`))
	o.Delete("absent")
	got, err := o.AppendJSON(nil)
	if want := `{"z":[1,2],"m":{"q":1},"n":-7}`; err != nil || string(got) != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if o.Len() != 3 {
		t.Errorf("Len = %d", o.Len())
	}
	if _, ok := o.Get("a"); ok {
		t.Error("a is still there")
	}
	o.Set("a", json.RawMessage("1"))
	if v, ok := o.Get("a"); !ok || string(v) != "1" {
		t.Errorf("a = %s, %v", v, ok)
	}
	var zero Object
	zero.SetInt("a", 1)
	if got, _ := zero.AppendJSON(nil); string(got) != `{"a":1}` {
		t.Errorf("zero object: %s", got)
	}
	for in, want := range map[string]error{"[]": ErrNoObject, "": ErrSyntax, "{": ErrSyntax, "{}x": ErrSyntax, "null": ErrNoObject} {
		if _, err := ParseObject([]byte(in)); !errors.Is(err, want) {
			t.Errorf("ParseObject(%q) = %v, want %v", in, err, want)
		}
	}
}

// FuzzScan holds the scanner against encoding/json: what is valid, and what the
// members of an object are.
func FuzzScan(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-0,0.5e+3,true,false,null,"\u00e9\"\\"],"b":{}}`, `{"a":01}`, `[1,]`, `{"a"}`, `"\x"`, "\"\x01\"", `"\ud800"`,
		"-", "1.", "1e", ".5", "tru", `{"a":1,}`, " [ ] ", `{"a":1}{"b":2}`, "\ufeff{}", `{"usage":{"prompt_tokens":3}}`, "\"\xff\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Valid(b)
		if errors.Is(err, ErrTooDeep) {
			return
		}
		if (err == nil) != json.Valid(b) {
			t.Fatalf("Valid(%q) = %v, encoding/json says %v", b, err, json.Valid(b))
		}
		if err != nil {
			return
		}
		small, err := Compact(nil, b)
		if errors.Is(err, ErrTooMany) {
			return
		}
		if err != nil {
			t.Fatalf("Compact: %v", err)
		}
		// There is a short way and one for all values: they agree.
		if long, err := compact(nil, b[skipSpace(b, 0):]); err == nil && !bytes.Equal(long, small) {
			t.Fatalf("Compact(%q) = %q, and %q by the long way", b, small, long)
		}
		var x, y any
		decode(t, b, &x)
		decode(t, small, &y)
		bx, _ := json.Marshal(x)
		by, _ := json.Marshal(y)
		if !bytes.Equal(bx, by) {
			t.Fatalf("Compact(%q) = %q changes the value", b, small)
		}
		again, err := Compact(nil, small)
		if err != nil || !bytes.Equal(again, small) {
			t.Fatalf("Compact(%q) = %q, %v: not stable", small, again, err)
		}
		o, err := ParseObject(b)
		if m, ok := x.(map[string]any); ok != (err == nil) || ok && len(m) != o.Len() {
			t.Fatalf("ParseObject(%q): %v", b, err)
		}
	})
}

func decode(t *testing.T, b []byte, v *any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		t.Fatal(err)
	}
}

// TestSkipPlain holds the eight bytes at once against one at a time: every byte
// at every place, alone and behind bytes whose marks could spill over.
func TestSkipPlain(t *testing.T) {
	slow := func(b []byte, i int) int {
		for i < len(b) && b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
			i++
		}
		return i
	}
	for _, fill := range []byte{' ', '!', '#', '[', ']', 'x', 0x7f, 0x80, 0xa0, 0xa2, 0xdc, 0xff} {
		for n := range 20 {
			b := bytes.Repeat([]byte{fill}, n)
			for at := range n {
				for c := range 256 {
					b[at] = byte(c)
					if got, want := skipPlain(b, 0), slow(b, 0); got != want {
						t.Fatalf("%q: %d, want %d", b, got, want)
					}
				}
				b[at] = fill
			}
		}
	}
}
