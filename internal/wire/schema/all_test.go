package schema_test

import (
	"bytes"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cocoon-network/cocoon/internal/wire/schema"
)

// objects returns one object for each declaration of the .tl files, found by
// the ids of spec network-protocol 3.3 and not by the generator.
func objects(t *testing.T) []schema.Object {
	var all []schema.Object
	for _, file := range []string{"reference.tl", "december.tl", "level1.tl"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`(?m)//.*$|^---.*$`).ReplaceAllString(string(b), "")
		for decl := range strings.SplitSeq(text, ";") {
			decl = strings.Join(strings.Fields(decl), " ")
			name, rest, _ := strings.Cut(decl, " ")
			if result := decl[strings.LastIndex(decl, " ")+1:]; !strings.Contains(result, ".") && result != "TokensUsed" {
				continue // built-in
			}
			name, explicit, ok := strings.Cut(name, "#")
			id := crc32.ChecksumIEEE([]byte(strings.NewReplacer("(", "", ")", "").Replace(name + " " + rest)))
			if ok {
				n, err := strconv.ParseUint(explicit, 16, 32)
				if err != nil {
					t.Fatal(err)
				}
				id = uint32(n)
			}
			o := schema.NewObject(id)
			if o == nil {
				t.Errorf("%s: no object with id %08x", name, id)
				continue
			}
			if o.TLName() != name || o.TLID() != id {
				t.Errorf("%s#%08x is %s#%08x in Go", name, id, o.TLName(), o.TLID())
			}
			all = append(all, o)
		}
	}
	return all
}

// fillAll sets every field of v to something other than zero; flags to flags.
// Interfaces get one of the objects that fit.
func fillAll(v reflect.Value, flags uint32, all []schema.Object, rnd *rand.Rand) {
	switch v.Kind() {
	case reflect.Uint32:
		v.SetUint(uint64(flags))
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(rnd.Int32()) + 1<<20)
	case reflect.Float64:
		v.SetFloat(rnd.Float64() + 1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint8:
		v.SetUint(uint64(rnd.IntN(255) + 1))
	case reflect.String:
		v.SetString(strings.Repeat("s", rnd.IntN(300)+1))
	case reflect.Array:
		for i := range v.Len() {
			fillAll(v.Index(i), flags, all, rnd)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), rnd.IntN(5)+1, 6))
		for i := range v.Len() {
			fillAll(v.Index(i), flags, all, rnd)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fillAll(v.Field(i), flags, all, rnd)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillAll(v.Elem(), flags, all, rnd)
	case reflect.Interface:
		for _, i := range rnd.Perm(len(all)) {
			if t := reflect.TypeOf(all[i]); t.Implements(v.Type()) {
				o := reflect.New(t.Elem())
				fillAll(o.Elem(), flags, all, rnd)
				v.Set(o)
				return
			}
		}
	}
}

// TestEveryObject: each object survives a round with all its fields set, and
// with all optional ones absent.
func TestEveryObject(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	all := objects(t)
	if len(all) != 101+8+39 {
		t.Errorf("%d objects, want 101 of today, 8 of December, 39 of level 1", len(all))
	}
	for _, kind := range all {
		for range 8 {
			o := reflect.New(reflect.TypeOf(kind).Elem())
			fillAll(o.Elem(), 1<<31-1, all, rnd)
			full := o.Interface().(schema.Object)
			b := schema.Marshal(full)
			back, err := schema.DecodeCanonical(b)
			if err != nil || !reflect.DeepEqual(full, back) {
				t.Fatalf("%s: %v\n%+v, want\n%+v", kind.TLName(), err, back, full)
			}
			if len(b) != schema.Size(full) {
				t.Errorf("%s: %d bytes, SizeTL says %d", kind.TLName(), len(b), schema.Size(full))
			}

			fillAll(o.Elem(), 0, all, rnd)
			b = schema.Marshal(full)
			if back, err = schema.DecodeCanonical(b); err != nil || !bytes.Equal(schema.Marshal(back), b) || len(b) != schema.Size(full) {
				t.Fatalf("%s without optional fields: %v", kind.TLName(), err)
			}
		}
	}
}
