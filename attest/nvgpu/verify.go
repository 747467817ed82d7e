package nvgpu

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Evidence is what one GPU shows: the exchange as sent and answered, and its
// certificates in PEM, the device's first and the root last.
type Evidence struct {
	Report []byte
	Chain  []byte
}

// KeyID names a root: SHA-384 of its uncompressed P-384 point.
type KeyID [48]byte

// String returns the id in lower-case hex.
func (k KeyID) String() string { return hex.EncodeToString(k[:]) }

// RootKeyID returns the id of a root certificate's key.
func RootKeyID(c *x509.Certificate) (KeyID, error) {
	pub, ok := c.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P384() {
		return KeyID{}, fmt.Errorf("%w: the root's key is not P-384", ErrChain)
	}
	b, err := pub.Bytes()
	if err != nil {
		return KeyID{}, fmt.Errorf("%w: %v", ErrChain, err)
	}
	return sha512.Sum384(b), nil
}

// Policy says what is accepted. Its zero value refuses everything.
type Policy struct {
	// Roots are the pinned device roots.
	Roots []KeyID
	// References are the pinned driver and VBIOS builds.
	References []Reference
}

// Reference is one accepted combination of driver and VBIOS with the values
// that its measurements may have. An index that is not listed may have any
// value only if it is in Ignored: a measurement nobody knows is refused.
type Reference struct {
	DriverVersion, VBIOSVersion string
	Values                      map[uint8][][valueSize]byte
	Ignored                     []uint8
}

// What verification refuses, one for each check.
var (
	ErrPolicy      = errors.New("GPU policy accepts nothing: it names no root or no reference values")
	ErrChain       = errors.New("GPU certificate chain cannot be read")
	ErrIssuer      = errors.New("GPU certificate was not issued by the next one in its chain")
	ErrRoot        = errors.New("GPU certificate chain ends in a root that is not pinned")
	ErrDate        = errors.New("GPU certificate is not valid at this time")
	ErrSignature   = errors.New("GPU report is not signed by its device")
	ErrNonce       = errors.New("GPU report answers another question: its nonce is not ours")
	ErrFirmwareID  = errors.New("GPU report names another firmware than its certificate")
	ErrReference   = errors.New("GPU driver or VBIOS is not among the pinned ones")
	ErrNone        = errors.New("GPU evidence is demanded, and there is none")
	ErrTwice       = errors.New("GPU evidence of one device is shown twice")
	ErrPolicyText  = errors.New("GPU policy cannot be read")
	ErrMeasurement = errors.New("GPU measurement is not the pinned one")
)

const (
	maxChain = 64 << 10
	minCerts = 2
	maxCerts = 8
)

// oidFirmwareID is the TCG DICE TcbInfo extension (DICE Attestation
// Architecture 1.1, 6.1.1).
var oidFirmwareID = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 1}

// Result is what a GPU proved.
type Result struct {
	Report    *Report
	Root      KeyID
	Device    string // subject of the device's certificate
	Expires   time.Time
	Reference Reference
	Key       [32]byte // SHA-256 of the device key: names the device
}

// Verify appraises the evidence of one GPU: chain to a pinned root, signature,
// nonce, pinned measurements. It is pure.
func Verify(ev Evidence, nonce [32]byte, policy *Policy, now time.Time) (*Result, error) {
	if policy == nil || len(policy.Roots) == 0 || len(policy.References) == 0 {
		return nil, ErrPolicy
	}
	rep, err := ParseReport(ev.Report)
	if err != nil {
		return nil, err
	}
	chain, err := parseChain(ev.Chain)
	if err != nil {
		return nil, err
	}
	root, expires, err := checkChain(chain, policy.Roots, now)
	if err != nil {
		return nil, err
	}
	if err := checkSignature(rep, chain[0]); err != nil {
		return nil, err
	}
	if rep.Nonce != nonce {
		return nil, ErrNonce
	}
	if err := checkFirmwareID(rep, chain[0]); err != nil {
		return nil, err
	}
	ref, err := checkMeasurements(rep, policy.References)
	if err != nil {
		return nil, err
	}
	return &Result{Report: rep, Root: root, Device: chain[0].Subject.String(), Expires: expires, Reference: ref, Key: sha256.Sum256(chain[0].RawSubjectPublicKeyInfo)}, nil
}

// parseChain reads certificates, the device's first.
func parseChain(b []byte) ([]*x509.Certificate, error) {
	if len(b) > maxChain {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrChain, len(b), maxChain)
	}
	var chain []*x509.Certificate
	for len(bytes.TrimRight(b, "\x00 \r\n\t")) > 0 {
		block, rest := pem.Decode(b)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%w: it is not a series of PEM certificates", ErrChain)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %v", ErrChain, len(chain), err)
		}
		if chain, b = append(chain, c), rest; len(chain) > maxCerts {
			return nil, fmt.Errorf("%w: more than %d certificates", ErrChain, maxCerts)
		}
	}
	if len(chain) < minCerts {
		return nil, fmt.Errorf("%w: %d certificate(s), at least %d are needed", ErrChain, len(chain), minCerts)
	}
	return chain, nil
}

// checkChain walks from the device to a pinned, self-signed root.
func checkChain(chain []*x509.Certificate, roots []KeyID, now time.Time) (root KeyID, expires time.Time, err error) {
	for i, c := range chain {
		if now.Before(c.NotBefore) || now.After(c.NotAfter) {
			return root, expires, fmt.Errorf("%w: certificate %d is valid from %s to %s", ErrDate, i,
				c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly))
		}
		if expires.IsZero() || c.NotAfter.Before(expires) {
			expires = c.NotAfter
		}
		issuer := chain[min(i+1, len(chain)-1)] // the root is its own
		if !bytes.Equal(c.RawIssuer, issuer.RawSubject) {
			return root, expires, fmt.Errorf("%w: certificate %d names another issuer", ErrIssuer, i)
		}
		// Who is said to be no authority is none, whatever its key may sign.
		if !issuer.IsCA && (issuer.BasicConstraintsValid || issuer.KeyUsage&x509.KeyUsageCertSign == 0) {
			return root, expires, fmt.Errorf("%w: certificate %d may not issue any", ErrIssuer, min(i+1, len(chain)-1))
		}
		if err := issuer.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
			return root, expires, fmt.Errorf("%w: certificate %d: %v", ErrIssuer, i, err)
		}
	}
	if root, err = RootKeyID(chain[len(chain)-1]); err != nil {
		return root, expires, err
	}
	if !slices.Contains(roots, root) {
		return root, expires, fmt.Errorf("%w: its key id is %s", ErrRoot, root)
	}
	return root, expires, nil
}

func checkSignature(rep *Report, device *x509.Certificate) error {
	pub, ok := device.PublicKey.(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P384() {
		return fmt.Errorf("%w: its key is not P-384", ErrSignature)
	}
	r, s := new(big.Int).SetBytes(rep.Signature[:48]), new(big.Int).SetBytes(rep.Signature[48:])
	if digest := sha512.Sum384(rep.signed); !ecdsa.Verify(pub, digest[:], r, s) {
		return ErrSignature
	}
	return nil
}

// checkFirmwareID holds the firmware identity of the report against that of
// the certificate. Older firmware names none; what it does name must agree.
func checkFirmwareID(rep *Report, device *x509.Certificate) error {
	if rep.FirmwareID == nil {
		return nil
	}
	for _, ext := range device.Extensions {
		if ext.Id.Equal(oidFirmwareID) && len(rep.FirmwareID) >= valueSize && bytes.Contains(ext.Value, rep.FirmwareID) {
			return nil
		}
	}
	return ErrFirmwareID
}

// checkMeasurements finds the reference for the report's versions and holds
// every measurement against it.
func checkMeasurements(rep *Report, references []Reference) (Reference, error) {
	var last error
	for _, ref := range references {
		if ref.DriverVersion != rep.DriverVersion || ref.VBIOSVersion != rep.VBIOSVersion {
			continue
		}
		if last = ref.holds(rep.Measurements); last == nil {
			return ref, nil
		}
	}
	if last != nil {
		return Reference{}, last
	}
	return Reference{}, fmt.Errorf("%w: driver %q, VBIOS %q", ErrReference, rep.DriverVersion, rep.VBIOSVersion)
}

func (ref Reference) holds(got map[uint8][valueSize]byte) error {
	if len(ref.Values) == 0 {
		return fmt.Errorf("%w: no value is pinned for driver %q", ErrReference, ref.DriverVersion)
	}
	for index, values := range ref.Values {
		v, ok := got[index]
		if !ok {
			return fmt.Errorf("%w: number %d is missing", ErrMeasurement, index)
		}
		if !slices.Contains(values, v) {
			return fmt.Errorf("%w: number %d is %x", ErrMeasurement, index, v)
		}
	}
	for index := range got {
		if _, pinned := ref.Values[index]; !pinned && !slices.Contains(ref.Ignored, index) {
			return fmt.Errorf("%w: number %d is neither pinned nor ignored", ErrMeasurement, index)
		}
	}
	return nil
}
