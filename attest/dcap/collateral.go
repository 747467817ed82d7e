package dcap

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Collateral is what Intel publishes about a platform (PCS version 4). Where
// it was found does not matter: signatures and dates make it count.
type Collateral struct {
	// TCBInfo and QEIdentity are the answers' bodies, with signature.
	TCBInfo, QEIdentity []byte
	// TCBInfoChain and QEIdentityChain are PEM: signer, root.
	TCBInfoChain, QEIdentityChain []byte
	// PCKCRL and RootCRL are DER.
	PCKCRL, RootCRL []byte
}

// The ways collateral fails, one error each.
var (
	ErrCollateral          = errors.New("the collateral cannot be read")
	ErrCollateralRoot      = errors.New("the collateral ends in another root key than the quote")
	ErrCollateralSignature = errors.New("the collateral is not signed by its signer")
	ErrCollateralDate      = errors.New("the collateral is not valid at this time: fetch it again")
	ErrCollateralMismatch  = errors.New("the collateral belongs to another platform")
	ErrCRL                 = errors.New("the revocation list cannot be read")
	ErrCRLSignature        = errors.New("the revocation list is not signed by its issuer")
	ErrCRLDate             = errors.New("the revocation list is not valid at this time: fetch it again")
	ErrRevoked             = errors.New("a certificate has been revoked by its issuer")
)

// Bounds of collateral in bytes.
const (
	maxJSON = 1 << 20
	maxCRL  = 8 << 20
)

// verified is collateral whose signatures, dates and revocations were checked.
type verified struct {
	tcb     *tcbInfo
	qe      *enclaveIdentity
	expires time.Time
	issued  time.Time // the older of the two statements
}

// verify checks everything about the collateral that does not depend on the
// quote's own numbers: chain is the quote's, already verified.
func (c *Collateral) verify(chain *Chain, now time.Time) (*verified, error) {
	v := &verified{expires: chain.Expires()}
	root := keyID(chain.Root)

	rootCRL, err := parseCRL(c.RootCRL, chain.Root, now)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	pckCRL, err := parseCRL(c.PCKCRL, chain.Intermediate, now)
	if err != nil {
		return nil, fmt.Errorf("PCK: %w", err)
	}
	for _, r := range []struct {
		crl  *x509.RevocationList
		cert *x509.Certificate
	}{{rootCRL, chain.Intermediate}, {pckCRL, chain.Leaf}} {
		if revoked(r.crl, r.cert) {
			return nil, fmt.Errorf("%w: %q, serial %x", ErrRevoked, r.cert.Subject.CommonName, r.cert.SerialNumber)
		}
		v.limit(r.crl.NextUpdate)
	}

	body, err := c.signed(c.TCBInfo, c.TCBInfoChain, "tcbInfo", root, rootCRL, v, now)
	if err != nil {
		return nil, fmt.Errorf("TCB info: %w", err)
	}
	v.tcb = new(tcbInfo)
	if err := json.Unmarshal(body, v.tcb); err != nil {
		return nil, fmt.Errorf("%w: TCB info: %v", ErrCollateral, err)
	}
	if err := v.date(&v.tcb.Dates, now); err != nil {
		return nil, fmt.Errorf("TCB info: %w", err)
	}

	body, err = c.signed(c.QEIdentity, c.QEIdentityChain, "enclaveIdentity", root, rootCRL, v, now)
	if err != nil {
		return nil, fmt.Errorf("QE identity: %w", err)
	}
	v.qe = new(enclaveIdentity)
	if err := json.Unmarshal(body, v.qe); err != nil {
		return nil, fmt.Errorf("%w: QE identity: %v", ErrCollateral, err)
	}
	if err := v.date(&v.qe.Dates, now); err != nil {
		return nil, fmt.Errorf("QE identity: %w", err)
	}
	return v, nil
}

// signed checks one answer's chain and signature and returns the signed bytes.
func (c *Collateral) signed(answer, chainPEM []byte, name string, root [48]byte, rootCRL *x509.RevocationList, v *verified, now time.Time) ([]byte, error) {
	if len(answer) > maxJSON {
		return nil, fmt.Errorf("%w: %d bytes", ErrCollateral, len(answer))
	}
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(answer, &outer); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCollateral, err)
	}
	var sigHex string
	body := outer[name]
	if err := json.Unmarshal(outer["signature"], &sigHex); err != nil || len(body) == 0 {
		return nil, fmt.Errorf("%w: no %s with a signature", ErrCollateral, name)
	}
	sig, err := hex.DecodeString(sigHex)
	if err != nil || len(sig) != 64 {
		return nil, fmt.Errorf("%w: its signature is not 64 bytes of hex", ErrCollateral)
	}
	certs, err := parsePEM(chainPEM)
	if err != nil {
		return nil, err
	}
	if len(certs) != 2 {
		return nil, fmt.Errorf("%w: %d certificates, want signer and root", ErrChainFormat, len(certs))
	}
	signer, ca := certs[0], certs[1]
	if keyID(ca) != root {
		return nil, ErrCollateralRoot
	}
	if err := verifyCert(ca, ca, true, now, RootName); err != nil {
		return nil, err
	}
	if err := verifyCert(signer, ca, false, now, TCBSignerName); err != nil {
		return nil, err
	}
	if revoked(rootCRL, signer) {
		return nil, fmt.Errorf("%w: %q, serial %x", ErrRevoked, signer.Subject.CommonName, signer.SerialNumber)
	}
	key, err := p256Key(signer)
	if err != nil {
		return nil, err
	}
	if !verifyRaw(key, body, [64]byte(sig)) {
		return nil, ErrCollateralSignature
	}
	v.limit(signer.NotAfter)
	v.limit(ca.NotAfter)
	return body, nil
}

func (v *verified) limit(t time.Time) {
	if t.Before(v.expires) {
		v.expires = t
	}
}

// date checks a statement's own dates.
func (v *verified) date(d *dates, now time.Time) error {
	if d.IssueDate.IsZero() || d.NextUpdate.IsZero() {
		return fmt.Errorf("%w: without dates", ErrCollateral)
	}
	if now.Before(d.IssueDate) || now.After(d.NextUpdate) {
		return fmt.Errorf("%w: valid from %s to %s, now is %s", ErrCollateralDate,
			d.IssueDate.Format(time.DateTime), d.NextUpdate.Format(time.DateTime), now.UTC().Format(time.DateTime))
	}
	v.limit(d.NextUpdate)
	if v.issued.IsZero() || d.IssueDate.Before(v.issued) {
		v.issued = d.IssueDate
	}
	return nil
}

func parseCRL(der []byte, issuer *x509.Certificate, now time.Time) (*x509.RevocationList, error) {
	if len(der) > maxCRL {
		return nil, fmt.Errorf("%w: %d bytes", ErrCRL, len(der))
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrCRL, err)
	}
	if !bytes.Equal(crl.RawIssuer, issuer.RawSubject) {
		return nil, fmt.Errorf("%w: issued by %q", ErrCRLSignature, crl.Issuer.CommonName)
	}
	if oid := critical(crl); oid != "" {
		return nil, fmt.Errorf("%w: unknown critical extension %s", ErrCRL, oid)
	}
	if crl.SignatureAlgorithm != x509.ECDSAWithSHA256 || crl.CheckSignatureFrom(issuer) != nil {
		return nil, ErrCRLSignature
	}
	if now.Before(crl.ThisUpdate) || crl.NextUpdate.IsZero() || now.After(crl.NextUpdate) {
		return nil, fmt.Errorf("%w: from %s to %s", ErrCRLDate, crl.ThisUpdate.Format(time.DateTime), crl.NextUpdate.Format(time.DateTime))
	}
	return crl, nil
}

// critical names a critical extension of the list or its entries, "" if there
// is none: such a list may say something else than it seems to (RFC 5280 5.2,
// 5.3), and Intel's have none.
func critical(crl *x509.RevocationList) string {
	all := slices.Clone(crl.Extensions)
	for _, e := range crl.RevokedCertificateEntries {
		all = append(all, e.Extensions...)
	}
	for _, x := range all {
		if x.Critical {
			return x.Id.String()
		}
	}
	return ""
}

func revoked(crl *x509.RevocationList, cert *x509.Certificate) bool {
	for _, e := range crl.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

// Digest names the collateral's content, for keys of caches.
func (c *Collateral) Digest() [32]byte {
	h := sha256.New()
	for _, part := range [][]byte{c.TCBInfo, c.QEIdentity, c.TCBInfoChain, c.QEIdentityChain, c.PCKCRL, c.RootCRL} {
		sum := sha256.Sum256(part)
		h.Write(sum[:])
	}
	return [32]byte(h.Sum(nil))
}
