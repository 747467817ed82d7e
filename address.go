package cocoon

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Address is a standard TON address: workchain and account hash. Two
// addresses are equal exactly if both parts are; the flags of the textual
// form are not part of it.
type Address struct {
	Workchain int32
	Hash      [32]byte
}

// ErrAddress is the cause of every failed ParseAddress.
var ErrAddress = errors.New("not a TON address")

const (
	tagBounceable    = 0x11
	tagNonBounceable = 0x51
	tagTestOnly      = 0x80
)

// ParseAddress reads the 48-character user-friendly form (base64 or
// base64url, any flags) and the raw form workchain:hex. Surrounding white
// space is an error.
func ParseAddress(s string) (Address, error) {
	if wc, h, ok := strings.Cut(s, ":"); ok {
		n, err := strconv.ParseInt(wc, 10, 32)
		b, err2 := hex.DecodeString(h)
		if err != nil || err2 != nil || len(b) != 32 {
			return Address{}, fmt.Errorf("%w: %q is not workchain:hex with 64 hex digits", ErrAddress, s)
		}
		return Address{Workchain: int32(n), Hash: [32]byte(b)}, nil
	}
	if len(s) != 48 {
		return Address{}, fmt.Errorf("%w: %q has %d characters, 48 are needed", ErrAddress, s, len(s))
	}
	b, err := base64.URLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(s))
	if err != nil {
		return Address{}, fmt.Errorf("%w: %q is not base64", ErrAddress, s)
	}
	if tag := b[0] &^ tagTestOnly; tag != tagBounceable && tag != tagNonBounceable {
		return Address{}, fmt.Errorf("%w: %q has an unknown flag byte %02x", ErrAddress, s, b[0])
	}
	if crc := crc16(b[:34]); byte(crc>>8) != b[34] || byte(crc) != b[35] {
		return Address{}, fmt.Errorf("%w: %q has a wrong check sum (mistyped?)", ErrAddress, s)
	}
	return Address{Workchain: int32(int8(b[1])), Hash: [32]byte(b[2:34])}, nil
}

// Friendly returns the 48-character base64url form with the given flags. The
// wire protocol uses bounceable = false (spec network-protocol 3.2).
func (a Address) Friendly(bounceable, testOnly bool) string {
	var b [36]byte
	b[0] = tagNonBounceable
	if bounceable {
		b[0] = tagBounceable
	}
	if testOnly {
		b[0] |= tagTestOnly
	}
	b[1] = byte(a.Workchain)
	copy(b[2:], a.Hash[:])
	crc := crc16(b[:34])
	b[34], b[35] = byte(crc>>8), byte(crc)
	return base64.URLEncoding.EncodeToString(b[:])
}

// String returns the non-bounceable friendly form.
func (a Address) String() string { return a.Friendly(false, false) }

// Raw returns workchain:hex.
func (a Address) Raw() string { return fmt.Sprintf("%d:%x", a.Workchain, a.Hash) }

// IsZero reports whether a is the zero value, which is no account anybody
// controls.
func (a Address) IsZero() bool { return a == Address{} }

// MarshalText writes the non-bounceable friendly form.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads any form ParseAddress reads.
func (a *Address) UnmarshalText(b []byte) error {
	v, err := ParseAddress(string(b))
	if err == nil {
		*a = v
	}
	return err
}

// crc16 is CRC-16/XMODEM, the check sum of friendly addresses.
func crc16(b []byte) uint16 {
	var crc uint16
	for _, c := range b {
		crc ^= uint16(c) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc
}
