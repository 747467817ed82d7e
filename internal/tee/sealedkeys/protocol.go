package sealedkeys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cocoon-network/cocoon/internal/wire/tl"
)

// Where the host's sealing server listens for its guests.
const (
	HostCID = 2
	Port    = 12345
)

// The two keys every guest asks for (spec attestation 6.4).
const (
	DiskKey = "disk_encryption"
	AppKey  = "app"
)

// Sizes of the protocol's parts in bytes.
const (
	ReportSize    = 1024
	publicKeySize = 64
	secretSize    = publicKeySize + KeySize
	maxName       = 256
	maxFrame      = 16536

	idRequest  uint32 = 0x317a821c
	idResponse uint32 = 0x163a179a
)

// ErrProtocol is the cause of every message that cannot be read.
var ErrProtocol = errors.New("sealedkeys: malformed message")

// Request asks an enclave for a key.
type Request struct {
	// Report is the TD's report, whose report data names PublicKey.
	Report [ReportSize]byte
	// PublicKey is a P-256 point: X ‖ Y, little-endian.
	PublicKey [publicKeySize]byte
	// Name says which of the guest's keys is wanted, 1 to 256 bytes.
	Name string
}

// Response carries a key to the guest that asked.
type Response struct {
	// Quote is the enclave's quote over the request's public key and Secret.
	Quote []byte
	// Secret is the enclave's public key and the encrypted key.
	Secret [secretSize]byte
}

// Append appends the message without its frame.
func (r *Request) Append(b []byte) []byte {
	b = tl.AppendUint32(b, idRequest)
	b = tl.AppendBytes(b, r.Report[:])
	b = tl.AppendBytes(b, r.PublicKey[:])
	return tl.AppendBytes(b, r.Name)
}

// ParseRequest reads a message.
func ParseRequest(b []byte) (*Request, error) {
	r := tl.NewReader(b)
	id, report, key, name := r.ID(), r.Bytes(), r.Bytes(), r.String()
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProtocol, err)
	}
	switch {
	case id != idRequest:
		return nil, fmt.Errorf("%w: no request for a key", ErrProtocol)
	case len(report) != ReportSize:
		return nil, fmt.Errorf("%w: a report of %d bytes", ErrProtocol, len(report))
	case len(key) != publicKeySize:
		return nil, fmt.Errorf("%w: a public key of %d bytes", ErrProtocol, len(key))
	}
	q := &Request{Report: [ReportSize]byte(report), PublicKey: [publicKeySize]byte(key), Name: name}
	return q, checkName(name)
}

func checkName(name string) error {
	if len(name) < 1 || len(name) > maxName {
		return fmt.Errorf("%w: a key's name has 1 to %d bytes, not %d", ErrProtocol, maxName, len(name))
	}
	return nil
}

// Append appends the message without its frame.
func (r *Response) Append(b []byte) []byte {
	b = tl.AppendUint32(b, idResponse)
	b = tl.AppendBytes(b, r.Quote)
	return tl.AppendBytes(b, r.Secret[:])
}

// ParseResponse reads a message.
func ParseResponse(b []byte) (*Response, error) {
	r := tl.NewReader(b)
	id, quote, secret := r.ID(), r.Bytes(), r.Bytes()
	if err := r.Finish(); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrProtocol, err)
	}
	switch {
	case id != idResponse:
		return nil, fmt.Errorf("%w: no answer with a key", ErrProtocol)
	case len(secret) != secretSize:
		return nil, fmt.Errorf("%w: a secret of %d bytes", ErrProtocol, len(secret))
	}
	return &Response{Quote: bytes.Clone(quote), Secret: [secretSize]byte(secret)}, nil
}

// writeFrame writes a message with its length before it, in one piece.
func writeFrame(w io.Writer, message []byte) error {
	if len(message) > maxFrame {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrProtocol, len(message), maxFrame)
	}
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(message)))
	_, err := w.Write(append(b, message...))
	return err
}

// readFrame reads one message.
func readFrame(r io.Reader) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(size[:])
	if n > maxFrame {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrProtocol, n, maxFrame)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}
