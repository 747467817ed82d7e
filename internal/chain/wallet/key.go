package wallet

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/cocoon-network/cocoon/internal/wire"
)

// ErrKey is the cause of every key that cannot be read.
var ErrKey = errors.New("not a wallet key")

const redacted = "[wallet key]"

// Key is an Ed25519 key that signs cells: raw 32-byte hashes. A proxy's contract
// key signs two labelled messages besides, which are longer and so never a
// cell's hash (docs/protocol.md, labels). It signs nothing else, so it must not
// be used for any other purpose. It cannot be compared, and no way of printing
// it shows more than that it is a key.
type Key struct {
	public [32]byte
	// A func hides the bytes from every reflective printer.
	seed func() [32]byte
	// words is the mnemonic the key came from, "" if there is none.
	words func() string
}

// NewKey returns a fresh random key without a mnemonic.
func NewKey() Key {
	var seed [32]byte
	rand.Read(seed[:]) // never fails
	return keyFromSeed(seed)
}

// ParseKey reads the 32-byte seed of a key as 64 hex digits or as base64, the
// form of the reference node's configuration (node_wallet_key). The error
// never contains the text.
func ParseKey(s string) (Key, error) {
	s = strings.TrimSpace(s)
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil || len(b) != 32 {
		b, err = base64.StdEncoding.DecodeString(s)
	}
	if err != nil || len(b) != 32 {
		return Key{}, fmt.Errorf("%w: %d characters given; 64 hex digits or 44 characters of base64 are needed", ErrKey, len(s))
	}
	return keyFromSeed([32]byte(b)), nil
}

func keyFromSeed(seed [32]byte) Key {
	k := Key{seed: func() [32]byte { return seed }, words: func() string { return "" }}
	copy(k.public[:], k.private()[32:])
	return k
}

func (k Key) private() ed25519.PrivateKey {
	seed := k.seed()
	return ed25519.NewKeyFromSeed(seed[:])
}

// IsZero reports whether k is the zero value, which signs nothing.
func (k Key) IsZero() bool { return k.seed == nil }

// Public returns the public key.
func (k Key) Public() [32]byte { return k.public }

// Sign signs the hash of a cell.
func (k Key) Sign(cellHash [32]byte) [64]byte {
	return [64]byte(ed25519.Sign(k.private(), cellHash[:]))
}

// SignStatement signs the digest of a node's statement: the holder of this
// contract key runs the node.
func (k Key) SignStatement(digest [32]byte) [64]byte {
	return k.labelled(wire.LabelProxyStatement, digest)
}

// SignSuccessor names the contract key that follows this one.
func (k Key) SignSuccessor(key [32]byte) [64]byte { return k.labelled(wire.LabelSuccessor, key) }

func (k Key) labelled(label string, value [32]byte) [64]byte {
	return [64]byte(ed25519.Sign(k.private(), append([]byte(label), value[:]...)))
}

// String says that this is a key, and nothing of it.
func (Key) String() string { return redacted }

// GoString does what String does, for %#v.
func (Key) GoString() string { return redacted }

// Format does what String does, for every verb.
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue does what String does, for slog.
func (Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText does what String does, for encoders.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
