package dcap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Names in the subjects of Intel's certificates. A processor's PCK is issued
// by one of the two intermediates.
const (
	RootName        = "Intel SGX Root CA"
	PlatformCAName  = "Intel SGX PCK Platform CA"
	ProcessorCAName = "Intel SGX PCK Processor CA"
	PCKName         = "Intel SGX PCK Certificate"
	TCBSignerName   = "Intel SGX TCB Signing"
)

// The checks of a quote's signatures, one error each.
var (
	ErrChainFormat    = errors.New("the certificate chain cannot be read")
	ErrChainName      = errors.New("a certificate does not have the name its place in the chain requires")
	ErrChainRights    = errors.New("a certificate lacks the rights its place in the chain requires")
	ErrChainDate      = errors.New("a certificate is not valid at this time")
	ErrChainSignature = errors.New("a certificate is not signed by its issuer")
	ErrQESignature    = errors.New("the quoting enclave's report is not signed by the PCK key")
	ErrQEBinding      = errors.New("the quoting enclave's report does not name the attestation key")
	ErrQuoteSignature = errors.New("the quote is not signed by the attestation key")
)

// maxChain bounds the PEM text of a chain in bytes.
const maxChain = 16384

// Chain is a chain of three certificates, leaf first.
type Chain struct {
	Leaf, Intermediate, Root *x509.Certificate
}

// ParseChain reads exactly three certificates from PEM text, which may end in
// one zero byte.
func ParseChain(text []byte) (*Chain, error) {
	certs, err := parsePEM(bytes.TrimSuffix(text, []byte{0}))
	if err != nil {
		return nil, err
	}
	if len(certs) != 3 {
		return nil, fmt.Errorf("%w: %d certificates, want 3", ErrChainFormat, len(certs))
	}
	return &Chain{Leaf: certs[0], Intermediate: certs[1], Root: certs[2]}, nil
}

func parsePEM(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxChain {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrChainFormat, len(text), maxChain)
	}
	var certs []*x509.Certificate
	for text = bytes.TrimSpace(text); len(text) > 0; text = bytes.TrimSpace(text) {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" || len(certs) == 4 {
			return nil, fmt.Errorf("%w: not up to four PEM certificates", ErrChainFormat)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %v", ErrChainFormat, len(certs)+1, err)
		}
		certs, text = append(certs, cert), rest
	}
	return certs, nil
}

// Verify checks names, rights, validity at now and signatures from the leaf
// up to the self-signed root. Whether the root deserves trust is for the
// caller to say, by its RootKeyID.
func (c *Chain) Verify(now time.Time) error {
	for _, step := range []struct {
		cert, issuer *x509.Certificate
		names        []string
		ca           bool
	}{
		{c.Root, c.Root, []string{RootName}, true},
		{c.Intermediate, c.Root, []string{PlatformCAName, ProcessorCAName}, true},
		{c.Leaf, c.Intermediate, []string{PCKName}, false},
	} {
		if err := verifyCert(step.cert, step.issuer, step.ca, now, step.names...); err != nil {
			return err
		}
	}
	return nil
}

// verifyCert holds one certificate against its place in a chain.
func verifyCert(cert, issuer *x509.Certificate, ca bool, now time.Time, names ...string) error {
	cn := cert.Subject.CommonName
	named := false
	for _, n := range names {
		named = named || n == cn
	}
	if !named {
		return fmt.Errorf("%w: %q, want %q", ErrChainName, cn, names)
	}
	if !bytes.Equal(cert.RawIssuer, issuer.RawSubject) {
		return fmt.Errorf("%w: %q names another issuer than %q", ErrChainName, cn, issuer.Subject.CommonName)
	}
	want := x509.KeyUsageDigitalSignature
	if ca {
		want = x509.KeyUsageCertSign
	}
	if !cert.BasicConstraintsValid || cert.IsCA != ca || cert.KeyUsage&want == 0 || len(cert.UnhandledCriticalExtensions) > 0 {
		return fmt.Errorf("%w: %q", ErrChainRights, cn)
	}
	if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
		return fmt.Errorf("%w: %q is valid from %s to %s, now is %s", ErrChainDate, cn,
			cert.NotBefore.Format(time.DateOnly), cert.NotAfter.Format(time.DateOnly), now.UTC().Format(time.DateTime))
	}
	key, err := p256Key(issuer)
	if err != nil || cert.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return fmt.Errorf("%w: %q is not signed with ECDSA P-256", ErrChainSignature, cn)
	}
	digest := sha256.Sum256(cert.RawTBSCertificate)
	if !ecdsa.VerifyASN1(key, digest[:], cert.Signature) {
		return fmt.Errorf("%w: %q", ErrChainSignature, cn)
	}
	return nil
}

// RootKeyID returns SHA-384 of the root key's uncompressed point, 65 bytes
// (spec attestation 3.3); zero if the key is no P-256 key, which Verify
// refuses.
func (c *Chain) RootKeyID() [48]byte { return keyID(c.Root) }

func keyID(cert *x509.Certificate) [48]byte {
	key, err := p256Key(cert)
	if err != nil {
		return [48]byte{}
	}
	point, err := key.Bytes()
	if err != nil {
		return [48]byte{}
	}
	return sha512.Sum384(point)
}

func p256Key(cert *x509.Certificate) (*ecdsa.PublicKey, error) {
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%w: %q has no P-256 key", ErrChainFormat, cert.Subject.CommonName)
	}
	return key, nil
}

// VerifyQE checks that the PCK key signed the quoting enclave's report and
// that the report names the attestation key.
func (q *Quote) VerifyQE(pck *x509.Certificate) error {
	key, err := p256Key(pck)
	if err != nil {
		return err
	}
	if !verifyRaw(key, q.QEReport.Bytes(), q.QEReportSignature) {
		return ErrQESignature
	}
	want := QEBinding(q.AttestationKey, q.QEAuth)
	if q.QEReport.ReportData != want {
		return ErrQEBinding
	}
	return nil
}

// QEBinding is the report data of a quoting enclave that certifies key:
// SHA-256(key ‖ auth) and 32 zero bytes.
func QEBinding(key [64]byte, auth []byte) (data [64]byte) {
	h := sha256.New()
	h.Write(key[:])
	h.Write(auth)
	h.Sum(data[:0])
	return data
}

// VerifySignature checks the attestation key's signature over header and
// body. It means nothing before VerifyQE succeeded.
func (q *Quote) VerifySignature() error {
	point := append([]byte{4}, q.AttestationKey[:]...)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return fmt.Errorf("%w: the attestation key is not a point of P-256", ErrQuoteSignature)
	}
	if !verifyRaw(key, q.Signed(), q.Signature) {
		return ErrQuoteSignature
	}
	return nil
}

// verifyRaw checks an ECDSA signature of the form r ‖ s, 32 bytes big-endian
// each, over SHA-256 of msg.
func verifyRaw(key *ecdsa.PublicKey, msg []byte, sig [64]byte) bool {
	digest := sha256.Sum256(msg)
	r, s := new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])
	return ecdsa.Verify(key, digest[:], r, s)
}

// Expires returns when the first certificate of the chain runs out.
func (c *Chain) Expires() time.Time {
	t := c.Leaf.NotAfter
	for _, cert := range []*x509.Certificate{c.Intermediate, c.Root} {
		if cert.NotAfter.Before(t) {
			t = cert.NotAfter
		}
	}
	return t
}
