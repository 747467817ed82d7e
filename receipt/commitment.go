package receipt

import (
	"crypto/hkdf"
	"crypto/sha256"
	"hash"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/internal/wire"
)

// Salts make the two commitments of one request: who knows one of them can
// show that half and says nothing of the other.
type Salts struct{ Request, Answer [32]byte }

// NewSalts derives the salts of a request from a secret of 32 bytes: the
// response key where the request was sealed, random bytes that the worker
// drew and sent along where it was not.
func NewSalts(secret [32]byte, id cocoon.RequestID) Salts {
	return Salts{
		Request: salt(secret, wire.LabelReceiptRequest, id),
		Answer:  salt(secret, wire.LabelReceiptAnswer, id),
	}
}

// salt = HKDF-Expand(secret, label ‖ request id, 32) with SHA-256 (RFC 5869):
// the secret is uniform already.
func salt(secret [32]byte, label string, id cocoon.RequestID) [32]byte {
	b, err := hkdf.Expand(sha256.New, secret[:], label+string(id[:]), 32)
	if err != nil {
		panic("receipt: HKDF: " + err.Error()) // only for lengths that are not ours
	}
	return [32]byte(b)
}

// CommitRequest returns the commitment to a request: the OpenAI request as it
// was sealed, padding removed.
func CommitRequest(salt [32]byte, request []byte) [32]byte {
	c := newCommitment(wire.LabelReceiptRequest, salt)
	c.Write(request)
	return c.Sum()
}

// Commitment is the commitment to an answer as its parts come.
type Commitment struct{ h hash.Hash }

// CommitAnswer begins the commitment to an answer: the plaintexts of its
// frames in order, padding removed. It is an io.Writer that never fails.
func CommitAnswer(salt [32]byte) *Commitment { return newCommitment(wire.LabelReceiptAnswer, salt) }

// newCommitment begins SHA-256(use ‖ salt ‖ bytes); the use is a label.
func newCommitment(use string, salt [32]byte) *Commitment {
	h := sha256.New()
	h.Write([]byte(use))
	h.Write(salt[:])
	return &Commitment{h}
}

// Write implements io.Writer.
func (c *Commitment) Write(b []byte) (int, error) { return c.h.Write(b) }

// Sum returns the commitment to what was written so far.
func (c *Commitment) Sum() (sum [32]byte) {
	c.h.Sum(sum[:0])
	return sum
}
