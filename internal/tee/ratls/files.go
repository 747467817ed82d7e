package ratls

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// ErrFiles is the cause of certificate files that cannot serve.
var ErrFiles = errors.New("certificate files")

// maxFile bounds a certificate's or key's file.
const maxFile = 256 << 10

// NewFileIdentity presents the certificate that another program keeps in
// <base>_cert.pem, with its key in <base>_key.pem (spec attestation 1.1). The
// files are read again after a minute when a handshake needs them (cfg.Renew
// says otherwise; cfg.Attester and cfg.Lifetime mean nothing). The pair in use
// stays while the files cannot be read, or do not belong together because they
// are just being replaced, until it runs out.
func NewFileIdentity(base string, cfg IdentityConfig) *Identity {
	if cfg.Renew <= 0 {
		cfg.Renew = renewPause
	}
	id := NewIdentity(cfg)
	id.next = func(context.Context, time.Time) (*tls.Certificate, error) {
		return loadCertificate(base+"_cert.pem", base+"_key.pem")
	}
	return id
}

func loadCertificate(certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, err := readBounded(certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := readBounded(keyFile)
	if err != nil {
		return nil, err
	}
	defer clear(keyPEM)
	cert, err := tls.X509KeyPair(certPEM, keyPEM) // checks that they belong together
	if err != nil {
		return nil, fmt.Errorf("%w: %s with %s: %v", ErrFiles, certFile, keyFile, err)
	}
	cert.Certificate = cert.Certificate[:1] // peers look at the leaf only
	if cert.Leaf, err = x509.ParseCertificate(cert.Certificate[0]); err != nil {
		return nil, fmt.Errorf("%w: %s: %v", ErrFiles, certFile, err)
	}
	if _, ok := cert.Leaf.PublicKey.(ed25519.PublicKey); !ok {
		return nil, fmt.Errorf("%w: %s: its key is not Ed25519, and peers refuse others", ErrFiles, certFile)
	}
	return &cert, nil
}

func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFiles, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrFiles, err)
	case len(b) > maxFile:
		return nil, fmt.Errorf("%w: %s: more than %d bytes", ErrFiles, name, maxFile)
	}
	return b, nil
}
