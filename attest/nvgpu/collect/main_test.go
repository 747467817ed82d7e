package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/attest/nvgpu"
)

// maker makes GPUs whose evidence is SIMULATED: one root, one device.
type maker struct {
	key   *ecdsa.PrivateKey
	certs []byte
	deaf  bool // answers another nonce than it was asked
}

func newMaker(t *testing.T) *maker {
	t.Helper()
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	m := &maker{}
	for i, name := range []string{"SIMULATED root", "SIMULATED device"} {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, IsCA: i == 0, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		if i == 0 {
			parent, parentKey = tmpl, key
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, parentKey)
		if err != nil {
			t.Fatal(err)
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		parentKey, m.key = key, key
		m.certs = append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), m.certs...)
	}
	return m
}

func (m *maker) chain() ([]byte, error) { return m.certs, nil }

func (m *maker) report(nonce [32]byte) ([]byte, error) {
	if m.deaf {
		nonce[0]++
	}
	b := append([]byte{0x11, 0xe0, 1, 0xff}, nonce[:]...)
	value := sha512.Sum384([]byte("SIMULATED"))
	record := append([]byte{1, 1, 51, 0, 1, 48, 0}, value[:]...)
	b = append(b, 0, 0x11, 0x60, 0, 0, 1, byte(len(record)), 0, 0)
	b = append(append(b, record...), make([]byte, 32)...)
	opaque := []byte{3, 0, 3, 0, '1', '.', '2', 6, 0, 5, 0, 1, 2, 3, 4, 5}
	b = append(append(b, byte(len(opaque)), 0), opaque...)
	digest := sha512.Sum384(b)
	r, s, err := ecdsa.Sign(rand.Reader, m.key, digest[:])
	if err != nil {
		return nil, err
	}
	var sig [96]byte
	r.FillBytes(sig[:48])
	s.FillBytes(sig[48:])
	return append(b, sig[:]...), nil
}

func opening(all ...device) func() ([]device, func(), error) {
	return func() ([]device, func(), error) { return all, func() {}, nil }
}

// What is written verifies under the policy that the same machine pins.
func TestRun(t *testing.T) {
	one, two := newMaker(t), newMaker(t)
	var policy, set bytes.Buffer
	if err := run([]string{"-pin"}, opening(one, two), &policy); err != nil {
		t.Fatal(err)
	}
	nonce := [32]byte{1, 2, 3}
	if err := run([]string{hex.EncodeToString(nonce[:])}, opening(one, two), &set); err != nil {
		t.Fatal(err)
	}
	p, err := nvgpu.ParsePolicy(policy.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	s, err := nvgpu.ParseSet(set.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if all, err := nvgpu.VerifySet(s, nonce, p, time.Now()); err != nil || len(all) != 2 {
		t.Errorf("%d GPUs, %v", len(all), err)
	}
}

func TestRefused(t *testing.T) {
	good := strings.Repeat("00", 32)
	deaf := newMaker(t)
	deaf.deaf = true
	for _, c := range []struct {
		args []string
		gpus []device
		want error
	}{
		{nil, nil, errUsage},
		{[]string{"00"}, nil, errUsage},
		{[]string{good, good}, nil, errUsage},
		{[]string{good}, nil, nvgpu.ErrNone},
		{[]string{good}, []device{deaf}, nvgpu.ErrNonce},
	} {
		var out bytes.Buffer
		if err := run(c.args, opening(c.gpus...), &out); !errors.Is(err, c.want) || out.Len() > 0 {
			t.Errorf("%q: %v, want %v; %d bytes written", c.args, err, c.want, out.Len())
		}
	}
}

// The part behind the tag compiles, and says what is missing on machines
// without a driver.
func TestTagged(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no C compiler: the part that asks the driver cannot be built")
	}
	path := t.TempDir() + "/gpu-evidence"
	build := exec.Command("go", "build", "-tags", "nvml", "-o", path, ".")
	build.Env = append(build.Environ(), "CGO_ENABLED=1")
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	b, err := exec.Command(path, strings.Repeat("00", 32)).CombinedOutput()
	if err == nil {
		t.Skip("this machine has GPUs")
	}
	if !strings.Contains(string(b), "libnvidia-ml.so.1 is missing") && !strings.Contains(string(b), "driver") {
		t.Errorf("%s", b)
	}
}
