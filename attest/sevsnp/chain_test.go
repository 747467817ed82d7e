package sevsnp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"
	"time"
)

// TestChainPlaces gives a certificate and its issuer, one at a time, what
// their places do not allow. Signatures are good throughout, but where their
// kind is what is wrong.
func TestChainPlaces(t *testing.T) {
	now := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	critical := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
	template := func(name string, ca bool) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, SignatureAlgorithm: x509.SHA384WithRSAPSS,
			NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0), BasicConstraintsValid: ca, IsCA: ca,
		}
		if ca {
			c.KeyUsage = x509.KeyUsageCertSign
		}
		return c
	}
	certificate := func(c, parent *x509.Certificate) *x509.Certificate {
		t.Helper()
		der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, key)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	rootTemplate := template("ARK", true)
	root := certificate(rootTemplate, rootTemplate)
	for _, ca := range []bool{true, false} {
		for _, tt := range []struct {
			name   string
			change func(*x509.Certificate)
			want   error
		}{
			{"good", func(*x509.Certificate) {}, nil},
			{"another name", func(c *x509.Certificate) { c.Subject.CommonName = "SEV" }, ErrChainName},
			{"the other authority", func(c *x509.Certificate) {
				c.IsCA, c.BasicConstraintsValid, c.KeyUsage = !ca, true, x509.KeyUsageCertSign
			}, ErrChainRights},
			{"something unknown", func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{critical} }, ErrChainRights},
			{"tomorrow", func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }, ErrChainDate},
			{"yesterday", func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }, ErrChainDate},
			{"another kind of signature", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSA }, ErrChainSignature},
		} {
			c := template("subject", ca)
			tt.change(c)
			err := verifyCert(certificate(c, root), root, "subject", ca, now)
			if !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("authority %v, %s: %v, want %v", ca, tt.name, err, tt.want)
			}
		}
	}
	mute := template("subject", true)
	mute.KeyUsage = x509.KeyUsageCRLSign
	if err := verifyCert(certificate(mute, root), root, "subject", true, now); !errors.Is(err, ErrChainRights) {
		t.Errorf("an authority that signs no certificates: %v", err)
	}
	other := template("another root", true)
	if err := verifyCert(certificate(template("subject", false), certificate(other, other)), root, "subject", false, now); !errors.Is(err, ErrChainName) {
		t.Errorf("of another issuer: %v", err)
	}
}
