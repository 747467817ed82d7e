package ratls

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/attest"
)

// The reasons for refusing a peer's certificate before its evidence is read.
var (
	ErrCertificate = errors.New("the peer's certificate cannot be read")
	ErrKeyType     = errors.New("the peer's key is not Ed25519")
	ErrSelfSigned  = errors.New("the peer's certificate is not self-signed")
	ErrSignature   = errors.New("the peer's certificate has a wrong signature")
	ErrDate        = errors.New("the peer's certificate is not valid at this time")
	ErrUsage       = errors.New("the peer's certificate does not allow its role")
	ErrName        = errors.New("the peer's certificate is not for the name 127.0.0.1")
	ErrCritical    = errors.New("the peer's certificate has an unknown critical extension")
	ErrFamilies    = errors.New("the peer's certificate carries TDX and SEV evidence, which exclude each other")
	ErrQuoteSize   = errors.New("the evidence in the peer's certificate is too large")
	ErrIncomplete  = errors.New("the SEV evidence in the peer's certificate is incomplete")
)

// side tells the two ends of a connection apart.
type side int

const (
	dialer side = iota
	acceptor
)

const (
	maxEvidence    = 32768 // bytes of one evidence extension
	maxCertificate = 131072
	certName       = "127.0.0.1" // as a DNS name: see extensions
)

// peerCert is a peer's certificate, read but not judged.
type peerCert struct {
	cert     *x509.Certificate
	key      [32]byte
	exts     []extension
	evidence attest.Evidence
}

// parsePeer reads a certificate. Extensions are taken from the raw bytes:
// peers exist whose certificates say version 1 and have extensions all the
// same, which crypto/x509 drops (spec attestation 0.6).
func parsePeer(der []byte) (*peerCert, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("%w: %d bytes", ErrCertificate, len(der))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCertificate, err)
	}
	key, ok := cert.PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%w but %v", ErrKeyType, cert.PublicKeyAlgorithm)
	}
	exts, err := walkExtensions(cert.RawTBSCertificate)
	if err != nil {
		return nil, err
	}
	p := &peerCert{cert: cert, key: [32]byte(key), exts: exts}
	if p.evidence, err = evidenceIn(exts, p.key); err != nil {
		return nil, err
	}
	return p, nil
}

// CertificateEvidence reads the key and the evidence of a certificate (DER)
// that somebody kept, and judges it as an acceptor's at the given time. What
// it cannot show is that its owner still has the key.
func CertificateEvidence(der []byte, now time.Time) (key [32]byte, ev attest.Evidence, err error) {
	p, err := parsePeer(der)
	if err != nil {
		return key, ev, err
	}
	return p.key, p.evidence, p.check(acceptor, now)
}

// check judges everything about the certificate but the evidence (spec
// attestation 1.5).
func (p *peerCert) check(peerSide side, now time.Time) error {
	c := p.cert
	if !bytes.Equal(c.RawIssuer, c.RawSubject) {
		return fmt.Errorf("%w: issued by another name", ErrSelfSigned)
	}
	if c.SignatureAlgorithm != x509.PureEd25519 || !ed25519.Verify(p.key[:], c.RawTBSCertificate, c.Signature) {
		return ErrSignature
	}
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return fmt.Errorf("%w: valid from %s to %s, now is %s (is a clock wrong?)", ErrDate,
			c.NotBefore.UTC().Format(time.DateTime), c.NotAfter.UTC().Format(time.DateTime), now.UTC().Format(time.DateTime))
	}
	if usages, ok := find(p.exts, oidExtKeyUsage); ok {
		if err := checkUsage(usages.value, peerSide); err != nil {
			return err
		}
	}
	if peerSide == acceptor {
		return p.checkName()
	}
	return nil
}

// checkUsage demands the usage that peerSide needs, if usages are listed.
func checkUsage(value []byte, peerSide side) error {
	oids, err := readOIDs(value)
	if err != nil {
		return err
	}
	need := oidClientAuth
	if peerSide == acceptor {
		need = oidServerAuth
	}
	if !slices.ContainsFunc(oids, func(o []byte) bool { return bytes.Equal(o, need) }) {
		return ErrUsage
	}
	return nil
}

// checkName demands the DNS name 127.0.0.1; the common name counts only where
// there is no DNS name at all.
func (p *peerCert) checkName() error {
	var names []string
	if san, ok := find(p.exts, oidSubjectAltName); ok {
		var err error
		if names, err = readDNSNames(san.value); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		names = []string{p.cert.Subject.CommonName}
	}
	if !slices.Contains(names, certName) {
		return fmt.Errorf("%w but %q", ErrName, names)
	}
	return nil
}

// evidenceIn reads the evidence. Only critical extensions count; a critical
// one that nobody here knows is refused (spec changes-2026-04 14.1).
func evidenceIn(exts []extension, key [32]byte) (attest.Evidence, error) {
	critical := map[string][]byte{}
	for _, x := range exts {
		if !x.critical {
			continue
		}
		if !slices.ContainsFunc(knownCritical, func(o []byte) bool { return bytes.Equal(o, x.oid) }) {
			return attest.Evidence{}, fmt.Errorf("%w: %x", ErrCritical, x.oid)
		}
		critical[string(x.oid)] = x.value
	}
	quote, tdx := critical[string(oidQuote)]
	report, sev := critical[string(oidReport)]
	_, sevData := critical[string(oidReportData)]
	vcek, sevCert := critical[string(oidSigner)]
	switch {
	case tdx && (sev || sevData || sevCert):
		return attest.Evidence{}, ErrFamilies
	case len(quote) > maxEvidence || len(report) > maxEvidence || len(vcek) > maxEvidence:
		return attest.Evidence{}, fmt.Errorf("%w: at most %d bytes", ErrQuoteSize, maxEvidence)
	case tdx:
		return attest.Evidence{Format: attest.FormatTDX, Quote: quote}, nil
	case sev && sevData && sevCert:
		want := attest.KeyReportData(key)
		if !bytes.Equal(critical[string(oidReportData)], want[:]) {
			return attest.Evidence{}, fmt.Errorf("%w: its report data is not that of the key", attest.ErrReportData)
		}
		return attest.Evidence{Format: attest.FormatSEVSNP, Quote: report, Certificate: vcek}, nil
	case sev || sevData || sevCert:
		return attest.Evidence{}, ErrIncomplete
	}
	return attest.Evidence{}, nil
}
