package sealedkeys

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"log/slog"
)

// KeySize is the size of a key in bytes.
const KeySize = 32

// ErrEncode is the answer to every attempt to write a Key out.
var ErrEncode = errors.New("sealedkeys: a key cannot be encoded")

// Key is a sealed key. It prints as a placeholder, cannot be encoded, and is
// not comparable with ==. The zero value is no key, and using it panics.
type Key struct{ reveal func() *[KeySize]byte }

func newKey(raw [KeySize]byte) Key {
	return Key{func() *[KeySize]byte { return &raw }}
}

// Derive returns n bytes for one use, by HKDF: different uses, independent
// bytes.
func (k Key) Derive(use string, n int) ([]byte, error) {
	return hkdf.Key(sha256.New, k.reveal()[:], nil, "cocoon/sealed-key/v1\x00"+use, n)
}

// Use hands a copy of the raw bytes, which a disk's encryption needs, to f and
// wipes it afterwards.
func (k Key) Use(f func(raw []byte) error) error {
	raw := *k.reveal()
	defer clear(raw[:])
	return f(raw[:])
}

// Equal compares two keys in constant time.
func (k Key) Equal(other Key) bool {
	return subtle.ConstantTimeCompare(k.reveal()[:], other.reveal()[:]) == 1
}

const redacted = "[sealed key]"

// String and the methods after it keep the key out of logs and files.
func (k Key) String() string               { return redacted }
func (k Key) GoString() string             { return redacted }
func (k Key) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (k Key) MarshalText() ([]byte, error) { return nil, ErrEncode }
