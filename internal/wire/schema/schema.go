// Package schema is the objects of the wire protocol: a Go struct for every
// TL declaration, generated from the .tl files beside it.
//
// reference.tl is the reference protocol of today, december.tl what it
// replaced (Go names end in Dec where both exist), level1.tl what our own
// peers add. A struct has a field for each field of the declaration. Fields
// under a condition are written exactly if their bit of Flags is set: setting
// the bits is the caller's part. A conditional struct is a pointer, and nil
// with its bit set is written as a zero struct. A field of a type with several
// constructors is an interface such as ProxySignedPaymentType; nil is written
// as the constructor without fields where there is one (no payment), and
// panics otherwise.
//
// Owns: the .tl files, the structs, boxed encoding and decoding.
// Imports: wire/tl.
// Trust: input of Decode is foreign. Counts and lengths are checked against
// the input before anything is allocated, no type can contain itself (gen
// refuses it), and errors name constructor and offset, never content.
// Concurrency: no shared state.
package schema

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

//go:generate go run ./gen

// ErrNotCanonical is DecodeCanonical's refusal of a second encoding of a value.
var ErrNotCanonical = errors.New("schema: not the canonical encoding")

// Object is a declaration of the schema: an object or a function.
type Object interface {
	// TLID is the constructor id, TLName the constructor's name.
	TLID() uint32
	TLName() string
	// SizeTL is how many bytes AppendTL appends.
	SizeTL() int
	// AppendTL appends the bare encoding, without the id.
	AppendTL(b []byte) []byte
	// DecodeTL reads the bare encoding. Fields of type []byte alias the
	// reader's input. What it reads is good only if r has no error then.
	DecodeTL(r *tl.Reader)
}

// Append appends o boxed. It allocates only if b has no room.
func Append(b []byte, o Object) []byte {
	return o.AppendTL(tl.AppendUint32(b, o.TLID()))
}

// Size returns how many bytes Append appends.
func Size(o Object) int { return 4 + o.SizeTL() }

// Marshal returns o boxed.
func Marshal(o Object) []byte { return Append(make([]byte, 0, Size(o)), o) }

// ID returns the constructor id of a boxed object, 0 if b is too short for one.
func ID(b []byte) uint32 { return tl.NewReader(b).ID() }

// Decode reads one boxed object, which must fill b, and returns a pointer to
// its struct. Fields of type []byte alias b. Errors wrap those of tl:
// tl.ErrConstructor for an id that is not in the schema. Padding and the choice
// of length prefixes are not checked, as in the reference.
func Decode(b []byte) (Object, error) { return decode(tl.NewReader(b)) }

func decode(r *tl.Reader) (Object, error) {
	o := decodeBare(r.ID(), r)
	if o == nil {
		r.Unexpected()
		return nil, fmt.Errorf("schema: %w", r.Err())
	}
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("schema: %s: %w", o.TLName(), err)
	}
	return o, nil
}

// DecodeAs is Decode for a caller who expects a type: a struct's pointer
// (*ClientPaymentStatus) or the interface of a type with several constructors
// (ClientAuthorizationWithProxyType). Any other object is refused with
// tl.ErrConstructor.
func DecodeAs[T Object](b []byte) (T, error) {
	var none T
	o, err := Decode(b)
	if err != nil {
		return none, err
	}
	v, ok := o.(T)
	if !ok {
		return none, fmt.Errorf("schema: %s where %s is expected: %w", o.TLName(), reflect.TypeFor[T]().String(), tl.ErrConstructor)
	}
	return v, nil
}

// DecodeCanonical is Decode for objects of level 1, of which each value has
// one encoding only: it refuses input that does not encode back to itself with
// ErrNotCanonical. It need not encode for that (tl.NewCanonicalReader).
func DecodeCanonical(b []byte) (Object, error) {
	o, err := decode(tl.NewCanonicalReader(b))
	return o, canonical(err)
}

// DecodeCanonicalAs is DecodeCanonical for a caller who expects *T; any other
// object is refused with tl.ErrConstructor.
func DecodeCanonicalAs[T any, P interface {
	*T
	Object
}](b []byte) (P, error) {
	r := tl.NewCanonicalReader(b)
	o := P(new(T))
	if r.ID() != o.TLID() {
		r.Unexpected()
	}
	o.DecodeTL(r)
	if err := r.Finish(); err != nil {
		return nil, canonical(fmt.Errorf("schema: %s: %w", o.TLName(), err))
	}
	return o, nil
}

// canonical names the refusal of a second encoding.
func canonical(err error) error {
	if errors.Is(err, tl.ErrCanonical) {
		return fmt.Errorf("%w: %v", ErrNotCanonical, err)
	}
	return err
}

// orZero returns p, or a zero value where there is none.
func orZero[T any](p *T) *T {
	if p == nil {
		return new(T)
	}
	return p
}
