package ratls

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// writePair puts a certificate and a key, perhaps of different pairs, into
// files.
func writePair(t *testing.T, base string, cert []byte, key any) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"_cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "_key.pem": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(base+name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFileIdentity follows a pair of files through their replacement.
func TestFileIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		base := filepath.Join(t.TempDir(), "tee")
		make := func() ([]byte, ed25519.PrivateKey) {
			c, err := NewIdentity(IdentityConfig{Attester: FakeAttester{}}).issue(t.Context(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return c.Certificate[0], c.PrivateKey.(ed25519.PrivateKey)
		}
		id := NewFileIdentity(base, IdentityConfig{})
		if _, err := id.Certificate(t.Context()); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, ErrFiles) {
			t.Errorf("no files: %v", err)
		}
		serves := func(key ed25519.PrivateKey) bool {
			t.Helper()
			if _, err := id.Certificate(context.WithoutCancel(t.Context())); err != nil { // starts a look at the files if it is time
				t.Fatal(err)
			}
			synctest.Wait()
			c, err := id.Certificate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return key.Equal(c.PrivateKey)
		}
		time.Sleep(renewPause)
		cert1, key1 := make()
		writePair(t, base, cert1, key1)
		if !serves(key1) {
			t.Error("the first pair does not serve")
		}
		cert2, key2 := make()
		writePair(t, base, cert2, key2)
		if !serves(key1) {
			t.Error("files were read again at once")
		}
		time.Sleep(renewPause)
		if !serves(key2) {
			t.Error("the second pair does not serve after a minute")
		}
		writePair(t, base, cert1, key2) // in the midst of a replacement
		time.Sleep(renewPause)
		if !serves(key2) {
			t.Error("a pair that does not belong together serves")
		}
		writePair(t, base, cert1, key1)
		time.Sleep(renewPause)
		if !serves(key1) {
			t.Error("the pair after a broken one does not serve")
		}
	})
}

func TestFilesRefused(t *testing.T) {
	base := filepath.Join(t.TempDir(), "x")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, base, der, key)
	if _, err := loadCertificate(base+"_cert.pem", base+"_key.pem"); !errors.Is(err, ErrFiles) {
		t.Errorf("an ECDSA key: %v", err)
	}
	if err := os.WriteFile(base+"_cert.pem", make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadCertificate(base+"_cert.pem", base+"_key.pem"); !errors.Is(err, ErrFiles) {
		t.Errorf("a large file: %v", err)
	}
}
