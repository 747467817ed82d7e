package sealedkeys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/sha256"
	"fmt"
	"slices"
)

// The protocol writes curve coordinates and the shared secret backwards
// (spec attestation 0.12).

// pointBytes is X ‖ Y, little-endian.
func pointBytes(key *ecdh.PublicKey) (b [publicKeySize]byte) {
	copy(b[:], key.Bytes()[1:]) // after the mark of an uncompressed point
	slices.Reverse(b[:32])
	slices.Reverse(b[32:])
	return b
}

// parsePoint refuses what is not on the curve.
func parsePoint(b [publicKeySize]byte) (*ecdh.PublicKey, error) {
	slices.Reverse(b[:32])
	slices.Reverse(b[32:])
	key, err := ecdh.P256().NewPublicKey(append([]byte{4}, b[:]...))
	if err != nil {
		return nil, fmt.Errorf("%w: a public key that is no point of the curve", ErrProtocol)
	}
	return key, nil
}

// crypt encrypts or decrypts a key between the two ends of an exchange.
func crypt(own *ecdh.PrivateKey, peer *ecdh.PublicKey, key [KeySize]byte) (out [KeySize]byte, err error) {
	shared, err := own.ECDH(peer)
	if err != nil {
		return out, fmt.Errorf("%w: %v", ErrProtocol, err)
	}
	slices.Reverse(shared)
	k := sha256.Sum256(shared)
	block, err := aes.NewCipher(k[:16])
	if err != nil {
		return out, err
	}
	cipher.NewCTR(block, k[16:]).XORKeyStream(out[:], key[:])
	return out, nil
}

// requestData is the report data of a guest that asks with a public key.
func requestData(key [publicKeySize]byte) (data [64]byte) {
	sum := sha256.Sum256(key[:])
	copy(data[:], sum[:])
	return data
}

// responseData is the report data of an enclave that answers.
func responseData(key [publicKeySize]byte, secret [secretSize]byte) (data [64]byte) {
	sum := sha256.Sum256(secret[:])
	data = requestData(key)
	copy(data[32:], sum[:])
	return data
}
