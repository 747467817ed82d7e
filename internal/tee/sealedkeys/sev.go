package sealedkeys

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// DerivedKeySize is the size of the processor's answer in bytes: a status,
// 28 reserved bytes, the key.
const DerivedKeySize = 64

// ErrProcessor is the cause of a processor's refusal.
var ErrProcessor = errors.New("sealedkeys: the processor gives no key")

// SEVKey is the key of the given name that follows from a derived key of an
// SEV-SNP guest (spec changes-2026-04 15.5): the message authentication code
// of the name under the whole answer.
func SEVKey(answer [DerivedKeySize]byte, name string) (Key, error) {
	if err := checkName(name); err != nil {
		return Key{}, err
	}
	if status := binary.LittleEndian.Uint32(answer[:]); status != 0 {
		return Key{}, fmt.Errorf("%w: status %#x", ErrProcessor, status)
	}
	h := hmac.New(sha256.New, answer[:])
	h.Write([]byte(name))
	return newKey([KeySize]byte(h.Sum(nil))), nil
}

// FetchSEV asks this guest's processor. The key depends on the launch
// measurement, the patch level and the guest's policy: were the policy left
// out, a host could start the same image for debugging and read the same key
// from its memory.
func FetchSEV(ctx context.Context, name string) (Key, error) {
	answer, err := derivedKey(ctx, derivedKeyRequest())
	if err != nil {
		return Key{}, err
	}
	return SEVKey(answer, name)
}

// derivedKeyRequest is MSG_KEY_REQ of AMD's SEV-SNP firmware ABI: root key
// VCEK, mixed with policy, measurement and TCB, VMPL 1, no version, no TCB.
func derivedKeyRequest() (b [32]byte) {
	const (
		mixPolicy      = 1 << 0
		mixMeasurement = 1 << 3
		mixTCB         = 1 << 5
		vmpl           = 1
	)
	binary.LittleEndian.PutUint64(b[8:], mixPolicy|mixMeasurement|mixTCB)
	binary.LittleEndian.PutUint32(b[16:], vmpl)
	return b
}
