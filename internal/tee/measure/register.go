package measure

import (
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
)

// ErrInput is the cause of every input that cannot be read or does not fit.
var ErrInput = errors.New("measure: cannot be read")

func inputError(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrInput}, args...)...)
}

// Register is a measurement register, or the digest it is extended with.
type Register [48]byte

// String returns lower-case hex.
func (r Register) String() string { return hex.EncodeToString(r[:]) }

// MarshalText writes hex.
func (r Register) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads 96 hex digits.
func (r *Register) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(r) {
		return inputError("a register is %d hex digits", 2*len(r))
	}
	copy(r[:], b)
	return nil
}

// Extend returns SHA-384(r ‖ digest), as the hardware does.
func (r Register) Extend(digest Register) Register {
	return sha512.Sum384(append(r[:], digest[:]...))
}

// Digest is SHA-384 of data: what a register is extended with for it.
func Digest[T string | []byte](data T) Register { return sha512.Sum384([]byte(data)) }

// Replay extends a register of zeros with digests, in order.
func Replay(digests ...Register) (r Register) {
	for _, d := range digests {
		r = r.Extend(d)
	}
	return r
}

// Generation is the state of the network's boot sequence, which decides the
// order of log lines. The zero value is none.
type Generation int

// The generations (spec attestation 6.3, changes-2026-04 16).
const (
	December Generation = iota + 1
	April
)

// Log returns the lines of the attestation log of a guest started with the
// given spec folder, as RTMR3 is extended with their digests.
func Log(spec Tree, debug bool, gen Generation) []string {
	lines := []string{"cocoon:spec.tree=" + spec.String()}
	if debug {
		const mark = "cocoon:cocoon_debug"
		if gen == April {
			lines = []string{mark, lines[0]}
		} else {
			lines = append(lines, mark)
		}
	}
	return append(lines, "cocoon:tdx_inited")
}

// RTMR3 is the register after the given log lines.
func RTMR3(lines []string) (r Register) {
	for _, line := range lines {
		r = r.Extend(Digest(line))
	}
	return r
}
