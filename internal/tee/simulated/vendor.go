//go:build !tee

package simulated

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
)

// SeedSize is the smallest seed in bytes.
const SeedSize = 32

// ErrSeed is returned for seeds that are too short.
var ErrSeed = errors.New("simulated: the vendor's seed must have at least 32 bytes")

// The vendor's certificates are the same in every process: fixed dates and
// deterministic signatures.
var (
	notBefore = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Organization stands in the subject of every certificate made here.
const Organization = "SIMULATED - no hardware"

// crlURL is where certificates point for revocation lists. The host name is
// reserved and never resolves: lists come as endorsements.
const crlURL = "https://simulated.invalid/"

// Vendor is a simulated maker of processors.
type Vendor struct {
	seed   []byte
	root   authority
	pckCA  authority
	signer authority // of TCB info and QE identities
}

// authority is a key with its certificate.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// New derives a vendor from a secret seed.
func New(seed []byte) (*Vendor, error) {
	if len(seed) < SeedSize {
		return nil, ErrSeed
	}
	v := &Vendor{seed: bytes.Clone(seed)}
	var err error
	if v.root, err = v.issue("root", dcap.RootName, nil, true, nil); err != nil {
		return nil, err
	}
	if v.pckCA, err = v.issue("pck ca", dcap.PlatformCAName, &v.root, true, nil); err != nil {
		return nil, err
	}
	if v.signer, err = v.issue("tcb signer", dcap.TCBSignerName, &v.root, false, nil); err != nil {
		return nil, err
	}
	return v, nil
}

// Root returns the root certificate.
func (v *Vendor) Root() *x509.Certificate { return v.root.cert }

// RootKeyID returns what verifiers are configured with.
func (v *Vendor) RootKeyID() attest.KeyID {
	point, err := v.root.key.PublicKey.Bytes()
	if err != nil {
		panic("simulated: root key: " + err.Error()) // derived by us, always a point
	}
	return sha512.Sum384(point)
}

// Policy accepts this vendor's guests and nothing else.
func (v *Vendor) Policy(images attest.Images) *attest.Policy {
	return attest.SimulatedPolicy(v.RootKeyID(), images)
}

// secret derives bytes for one use from the seed.
func (v *Vendor) secret(use string, size int) []byte {
	b, err := hkdf.Key(sha256.New, v.seed, nil, "cocoon/simulated/v1\x00"+use, size)
	if err != nil {
		panic("simulated: hkdf: " + err.Error()) // sizes are constants
	}
	return b
}

// key derives a P-256 key. Out of 2^32 tries one falls outside the group and
// the next is taken.
func (v *Vendor) key(use string) *ecdsa.PrivateKey {
	for i := 0; ; i++ {
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), v.secret(fmt.Sprintf("key/%s/%d", use, i), 32))
		if err == nil {
			return k
		}
	}
}

// issue makes the certificate of the key derived for use; a nil issuer makes
// it self-signed. A PCK certificate has an SGX extension.
func (v *Vendor) issue(use, name string, issuer *authority, ca bool, sgx []byte) (authority, error) {
	key := v.key(use)
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return authority{}, fmt.Errorf("simulated: %s: %w", name, err)
	}
	ski := sha1.Sum(point)
	t := &x509.Certificate{
		SerialNumber:          v.serial(use),
		Subject:               pkix.Name{CommonName: name, Organization: []string{Organization}},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		SignatureAlgorithm:    x509.ECDSAWithSHA256,
		BasicConstraintsValid: true,
		IsCA:                  ca,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		SubjectKeyId:          ski[:],
		CRLDistributionPoints: []string{crlURL + "root.crl"},
	}
	if !ca {
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	}
	if sgx != nil {
		t.CRLDistributionPoints = []string{crlURL + "pck.crl"}
		t.ExtraExtensions = []pkix.Extension{{Id: oidSGX, Value: sgx}}
	}
	parent, signer := t, key
	if issuer != nil {
		parent, signer = issuer.cert, issuer.key
	}
	der, err := x509.CreateCertificate(nil, t, parent, &key.PublicKey, deterministic{signer})
	if err != nil {
		return authority{}, fmt.Errorf("simulated: %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("simulated: %s: %w", name, err)
	}
	return authority{key, cert}, nil
}

// deterministic signs as RFC 6979 says, so that certificates are equal in all
// processes of one vendor.
type deterministic struct{ *ecdsa.PrivateKey }

func (d deterministic) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.PrivateKey.Sign(nil, digest, opts)
}

// signRaw signs SHA-256 of msg in the form r ‖ s.
func signRaw(key *ecdsa.PrivateKey, msg []byte) (sig [64]byte, err error) {
	digest := sha256.Sum256(msg)
	der, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return sig, fmt.Errorf("simulated: signing: %w", err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return sig, fmt.Errorf("simulated: signing: %w", err)
	}
	rs.R.FillBytes(sig[:32])
	rs.S.FillBytes(sig[32:])
	return sig, nil
}

// pemChain returns the certificates' PEM text, in order.
func pemChain(certs ...*x509.Certificate) []byte {
	var b bytes.Buffer
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.Bytes()
}
