package envelope

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/sha256"
	"fmt"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// The suite: HPKE base mode (RFC 9180) with ML-KEM-768 and X25519, HKDF-SHA-256,
// AES-256-GCM. Only its exporter is used.
func suite() (hpke.KEM, hpke.KDF, hpke.AEAD) {
	return hpke.MLKEM768X25519(), hpke.HKDFSHA256(), hpke.AES256GCM()
}

// SealKey is a worker's private key for one statement. It lives in memory.
type SealKey struct {
	private hpke.PrivateKey
	public  []byte
}

// NewSealKey makes a key.
func NewSealKey() (*SealKey, error) {
	kem, _, _ := suite()
	k, err := kem.GenerateKey()
	if err != nil {
		return nil, err
	}
	return &SealKey{k, k.PublicKey().Bytes()}, nil
}

// Public is what stands in the statement: 1,216 bytes.
func (k *SealKey) Public() []byte { return k.public }

// sealInfo is HPKE's info: it binds a session to one statement.
func sealInfo(statement [32]byte) []byte { return append([]byte(wire.LabelSeal), statement[:]...) }

// expand is HKDF-Expand(HKDF-Extract(salt, secret), label ‖ parts, 32).
func expand(salt, secret []byte, label string, parts ...[]byte) ([]byte, error) {
	prk, err := hkdf.Extract(sha256.New, secret, salt)
	if err != nil {
		return nil, err
	}
	return expandKey(prk, label, parts...)
}

func expandKey(key []byte, label string, parts ...[]byte) ([]byte, error) {
	info := append(make([]byte, 0, 160), label...)
	for _, p := range parts {
		info = append(info, p...)
	}
	return hkdf.Expand(sha256.New, key, string(info), 32)
}

// wrapKey is the key that wraps the content key for one worker, for one header.
func wrapKey(headerHash [32]byte, kek []byte, statement [32]byte) (cipher.AEAD, error) {
	k, err := expand(headerHash[:], kek, wire.LabelWrap, statement[:])
	if err != nil {
		return nil, err
	}
	return gcm(k)
}

// responseKey is known to client and worker alone: another candidate knows the
// content key, and not this session's.
func responseKey(contentKey, kek []byte, id cocoon.RequestID, nonce, statement [32]byte) ([]byte, error) {
	return expand(contentKey, kek, wire.LabelResponse, id[:], nonce[:], statement[:])
}

// commit binds an envelope to one content key: AES-GCM alone does not.
func commit(contentKey []byte, id cocoon.RequestID) [32]byte {
	b := append(make([]byte, 0, 96), wire.LabelCommit...)
	b = append(b, contentKey...)
	return sha256.Sum256(append(b, id[:]...))
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// zeroNonce is the nonce of a key that is used once.
var zeroNonce [12]byte

// AcceptMessage is what a worker's node key signs when it takes a request.
func AcceptMessage(id cocoon.RequestID, session, envelope, statement, nonce [32]byte) []byte {
	b := append(make([]byte, 0, 192), wire.LabelAccept...)
	for _, p := range [][32]byte{id, session, envelope, statement, nonce} {
		b = append(b, p[:]...)
	}
	return b
}

// errRandom is the failure of the system's randomness.
func errRandom(err error) error { return fmt.Errorf("sealed request: no randomness: %w", err) }
