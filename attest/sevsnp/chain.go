package sevsnp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Product is a line of processors with a root of its own.
type Product string

// The products. Siena's certificates come under Genoa's root.
const (
	Milan Product = "Milan"
	Genoa Product = "Genoa"
	Siena Product = "Siena"
	Turin Product = "Turin"
)

// Root returns the product whose name the certificates above it bear.
func (p Product) Root() Product {
	if p == Siena {
		return Genoa
	}
	return p
}

// ParseProduct reads a productName such as Milan-B0: what follows the first
// hyphen is the stepping.
func ParseProduct(name string) (Product, error) {
	base, _, _ := strings.Cut(name, "-")
	switch p := Product(base); p {
	case Milan, Genoa, Siena, Turin:
		return p, nil
	}
	return "", fmt.Errorf("%w: %q", ErrProduct, name)
}

// Collateral is what AMD publishes (KDS): the certificates above VCEK or
// VLEK, and their revocation list.
type Collateral struct {
	// Chain is PEM: ASK (or ASVK), ARK.
	Chain []byte
	// CRL is DER, issued by the ARK.
	CRL []byte
}

// Digest names the collateral's content, for keys of caches.
func (c *Collateral) Digest() [32]byte {
	a, b := sha512.Sum512_256(c.Chain), sha512.Sum512_256(c.CRL)
	return sha512.Sum512_256(append(a[:], b[:]...))
}

// The checks of certificates and signature, one error each.
var (
	ErrCertificate    = errors.New("the certificate of the report's signer cannot be read")
	ErrProduct        = errors.New("unknown product of AMD")
	ErrChainFormat    = errors.New("the vendor's certificates cannot be read")
	ErrChainName      = errors.New("a certificate does not have the name its place in the chain requires")
	ErrChainRights    = errors.New("a certificate lacks the rights its place in the chain requires")
	ErrChainDate      = errors.New("a certificate is not valid at this time")
	ErrChainSignature = errors.New("a certificate is not signed by its issuer")
	ErrCRL            = errors.New("the revocation list cannot be read")
	ErrCRLSignature   = errors.New("the revocation list is not signed by the vendor's root")
	ErrCRLDate        = errors.New("the revocation list is not valid at this time: fetch it again")
	ErrRevoked        = errors.New("a certificate has been revoked by its issuer")
	ErrSigner         = errors.New("the report names another kind of signer than its certificate")
	ErrChip           = errors.New("the certificate belongs to another processor")
	ErrTCB            = errors.New("the report's patch level is not the certificate's")
	ErrSignature      = errors.New("the report is not signed by its certificate's key")
)

// Bounds in bytes.
const (
	maxPEM = 32768
	maxCRL = 1 << 20
)

// AMD's private extensions, 1.3.6.1.4.1.3704.1.*.
var oidAMD = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}

// Signer is the certificate of a VCEK or VLEK, read but not judged.
type Signer struct {
	cert    *x509.Certificate
	key     *ecdsa.PublicKey
	VLEK    bool
	Product Product
	TCB     TCB
	// HWID is the machine's id; empty in a VLEK.
	HWID []byte
}

// ParseSigner reads a certificate in PEM.
func ParseSigner(text []byte) (*Signer, error) {
	certs, err := parsePEM(text)
	if err != nil || len(certs) != 1 {
		return nil, fmt.Errorf("%w: %d PEM certificates, want 1 (%v)", ErrCertificate, len(certs), err)
	}
	s := &Signer{cert: certs[0]}
	switch cn := s.cert.Subject.CommonName; cn {
	case "SEV-VCEK":
	case "SEV-VLEK":
		s.VLEK = true
	default:
		return nil, fmt.Errorf("%w: the signer is %q", ErrChainName, cn)
	}
	key, ok := s.cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%w: its key is not of P-384", ErrCertificate)
	}
	s.key = key
	return s, s.parseExtensions()
}

func (s *Signer) parseExtensions() error {
	values := map[string][]byte{}
	for _, x := range s.cert.Extensions {
		if len(x.Id) > len(oidAMD) && x.Id[:len(oidAMD)].Equal(oidAMD) {
			values[x.Id[len(oidAMD):].String()] = x.Value
		}
	}
	var name string
	if rest, err := asn1.UnmarshalWithParams(values["2"], &name, "ia5"); err != nil || len(rest) != 0 {
		return fmt.Errorf("%w: no product name", ErrCertificate)
	}
	var err error
	if s.Product, err = ParseProduct(name); err != nil {
		return err
	}
	parts := map[string]*uint8{"3.1": &s.TCB.BootLoader, "3.2": &s.TCB.TEE, "3.3": &s.TCB.SNP, "3.8": &s.TCB.Microcode}
	if s.Product == Turin {
		parts["3.9"] = &s.TCB.FMC
	}
	for arc, dst := range parts {
		var n int
		if rest, err := asn1.Unmarshal(values[arc], &n); err != nil || len(rest) != 0 || n < 0 || n > 255 {
			return fmt.Errorf("%w: no patch level %s", ErrCertificate, arc)
		}
		*dst = uint8(n)
	}
	if s.HWID = values["4"]; !s.VLEK && len(s.HWID) < 8 {
		return fmt.Errorf("%w: no hardware id", ErrCertificate)
	}
	return nil
}

// Chain is the signer with the certificates above it.
type Chain struct {
	Signer *Signer
	ask    *x509.Certificate
	ark    *x509.Certificate
	crl    *x509.RevocationList
}

// NewChain reads the collateral above a signer.
func NewChain(s *Signer, c *Collateral) (*Chain, error) {
	certs, err := parsePEM(c.Chain)
	if err != nil {
		return nil, err
	}
	if len(certs) != 2 {
		return nil, fmt.Errorf("%w: %d certificates, want 2", ErrChainFormat, len(certs))
	}
	if len(c.CRL) > maxCRL {
		return nil, fmt.Errorf("%w: %d bytes", ErrCRL, len(c.CRL))
	}
	crl, err := x509.ParseRevocationList(c.CRL)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCRL, err)
	}
	return &Chain{Signer: s, ask: certs[0], ark: certs[1], crl: crl}, nil
}

// RootKeyID is SHA-384 of the root's SubjectPublicKeyInfo.
func (c *Chain) RootKeyID() [48]byte { return sha512.Sum384(c.ark.RawSubjectPublicKeyInfo) }

// Verify checks names, rights, dates, signatures and revocations up to the
// self-signed root. Whether the root deserves trust is for the caller to say,
// by its RootKeyID.
func (c *Chain) Verify(now time.Time) error {
	root := string(c.Signer.Product.Root())
	ask := "SEV-" + root
	if c.Signer.VLEK {
		ask = "SEV-VLEK-" + root
	}
	for _, step := range []struct {
		cert, issuer *x509.Certificate
		name         string
		ca           bool
	}{
		{c.ark, c.ark, "ARK-" + root, true},
		{c.ask, c.ark, ask, true},
		{c.Signer.cert, c.ask, c.Signer.cert.Subject.CommonName, false},
	} {
		if err := verifyCert(step.cert, step.issuer, step.name, step.ca, now); err != nil {
			return err
		}
	}
	return c.verifyCRL(now)
}

func verifyCert(cert, issuer *x509.Certificate, name string, ca bool, now time.Time) error {
	cn := cert.Subject.CommonName
	switch {
	case cn != name:
		return fmt.Errorf("%w: %q, want %q", ErrChainName, cn, name)
	case !bytes.Equal(cert.RawIssuer, issuer.RawSubject):
		return fmt.Errorf("%w: %q names another issuer than %q", ErrChainName, cn, issuer.Subject.CommonName)
	case cert.IsCA != ca || ca && cert.KeyUsage&x509.KeyUsageCertSign == 0 || len(cert.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("%w: %q", ErrChainRights, cn)
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return fmt.Errorf("%w: %q is valid from %s to %s, now is %s", ErrChainDate, cn,
			cert.NotBefore.Format(time.DateOnly), cert.NotAfter.Format(time.DateOnly), now.UTC().Format(time.DateTime))
	}
	if !rsaSigned(issuer, cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) {
		return fmt.Errorf("%w: %q", ErrChainSignature, cn)
	}
	return nil
}

// rsaSigned checks a signature of the only kind AMD makes.
func rsaSigned(issuer *x509.Certificate, alg x509.SignatureAlgorithm, msg, sig []byte) bool {
	key, ok := issuer.PublicKey.(*rsa.PublicKey)
	return ok && key.N.BitLen() >= 2048 && alg == x509.SHA384WithRSAPSS && issuer.CheckSignature(alg, msg, sig) == nil
}

func (c *Chain) verifyCRL(now time.Time) error {
	if !bytes.Equal(c.crl.RawIssuer, c.ark.RawSubject) || !rsaSigned(c.ark, c.crl.SignatureAlgorithm, c.crl.RawTBSRevocationList, c.crl.Signature) {
		return ErrCRLSignature
	}
	if now.Before(c.crl.ThisUpdate) || c.crl.NextUpdate.IsZero() || now.After(c.crl.NextUpdate) {
		return fmt.Errorf("%w: from %s to %s", ErrCRLDate, c.crl.ThisUpdate.Format(time.DateTime), c.crl.NextUpdate.Format(time.DateTime))
	}
	for _, e := range c.crl.RevokedCertificateEntries {
		for _, cert := range []*x509.Certificate{c.ask, c.Signer.cert} {
			if bytes.Equal(cert.RawIssuer, c.ark.RawSubject) && e.SerialNumber.Cmp(cert.SerialNumber) == 0 {
				return fmt.Errorf("%w: %q, serial %x", ErrRevoked, cert.Subject.CommonName, cert.SerialNumber)
			}
		}
	}
	return nil
}

// Issued is when the revocation list was made, Expires when the first of all
// things the chain rests on runs out.
func (c *Chain) Issued() time.Time { return c.crl.ThisUpdate }

// Expires is when the first of all things the chain rests on runs out.
func (c *Chain) Expires() time.Time {
	t := c.crl.NextUpdate
	for _, cert := range []*x509.Certificate{c.Signer.cert, c.ask, c.ark} {
		if cert.NotAfter.Before(t) {
			t = cert.NotAfter
		}
	}
	return t
}

// VerifyReport checks that this signer signed r: kind of key, machine, patch
// level and signature. It means nothing before Verify succeeded.
func (s *Signer) VerifyReport(r *Report) error {
	want := SignerVCEK
	if s.VLEK {
		want = SignerVLEK
	}
	if r.SigningKey() != want {
		return fmt.Errorf("%w: key %d, the certificate is for %d", ErrSigner, r.SigningKey(), want)
	}
	// A host may mask the chip id; a VCEK then cannot be told to be its own.
	if !s.VLEK && (len(s.HWID) > len(r.ChipID) || !bytes.Equal(s.HWID, r.ChipID[:len(s.HWID)])) {
		return ErrChip
	}
	if reported := DecodeTCB(r.ReportedTCB, s.Product); reported != s.TCB {
		return fmt.Errorf("%w: report %v; certificate %v", ErrTCB, reported, s.TCB)
	}
	if !r.verify(s.key) {
		return ErrSignature
	}
	return nil
}

func parsePEM(text []byte) ([]*x509.Certificate, error) {
	if len(text) > maxPEM {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrChainFormat, len(text), maxPEM)
	}
	var certs []*x509.Certificate
	for text = bytes.Trim(text, " \t\r\n\x00"); len(text) > 0; text = bytes.TrimSpace(text) {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" || len(certs) == 3 {
			return nil, fmt.Errorf("%w: not up to three PEM certificates", ErrChainFormat)
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %v", ErrChainFormat, len(certs)+1, err)
		}
		certs, text = append(certs, cert), rest
	}
	return certs, nil
}
