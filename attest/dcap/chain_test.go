package dcap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"
)

// TestChainPlaces gives each certificate of a chain, one at a time, what its
// place does not allow. Signatures are good throughout.
func TestChainPlaces(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	const root, intermediate, leaf = 0, 1, 2
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
	for _, tt := range []struct {
		name   string
		place  int
		change func(*x509.Certificate)
		want   error
	}{
		{"good", leaf, func(*x509.Certificate) {}, nil},
		{"issued by the other authority", intermediate, func(c *x509.Certificate) { c.Subject.CommonName = ProcessorCAName }, nil},
		{"unknown, not critical", leaf, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: critical.Id, Value: critical.Value}}
		}, nil},
		{"root of another name", root, func(c *x509.Certificate) { c.Subject.CommonName = "Intel SGX Root CB" }, ErrChainName},
		{"intermediate of another name", intermediate, func(c *x509.Certificate) { c.Subject.CommonName = TCBSignerName }, ErrChainName},
		{"leaf of another name", leaf, func(c *x509.Certificate) { c.Subject.CommonName = TCBSignerName }, ErrChainName},
		{"root without authority", root, func(c *x509.Certificate) { c.IsCA = false }, ErrChainRights},
		{"intermediate without authority", intermediate, func(c *x509.Certificate) { c.IsCA = false }, ErrChainRights},
		{"intermediate without a word on authority", intermediate, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }, ErrChainRights},
		{"intermediate that signs lists only", intermediate, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, ErrChainRights},
		{"leaf with authority", leaf, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }, ErrChainRights},
		{"leaf without a word on authority", leaf, func(c *x509.Certificate) { c.BasicConstraintsValid = false }, ErrChainRights},
		{"leaf that signs nothing", leaf, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }, ErrChainRights},
		{"root with something unknown", root, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{critical} }, ErrChainRights},
		{"intermediate with something unknown", intermediate, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{critical} }, ErrChainRights},
		{"leaf with something unknown", leaf, func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{critical} }, ErrChainRights},
		{"root of tomorrow", root, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }, ErrChainDate},
		{"intermediate of yesterday", intermediate, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, ErrChainDate},
		{"leaf of yesterday", leaf, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, ErrChainDate},
	} {
		var certs [3]*x509.Certificate
		var parent *x509.Certificate
		var parentKey *ecdsa.PrivateKey
		for i, name := range []string{RootName, PlatformCAName, PCKName} {
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			c := &x509.Certificate{
				SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, SignatureAlgorithm: x509.ECDSAWithSHA256,
				NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0),
				BasicConstraintsValid: true, IsCA: i != leaf, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			}
			if i == leaf {
				c.KeyUsage = x509.KeyUsageDigitalSignature
			}
			if i == tt.place {
				tt.change(c)
			}
			if parent == nil {
				parent, parentKey = c, key
			}
			der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if certs[i], err = x509.ParseCertificate(der); err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			parent, parentKey = certs[i], key
		}
		chain := &Chain{Root: certs[root], Intermediate: certs[intermediate], Leaf: certs[leaf]}
		if err := chain.Verify(now); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}
