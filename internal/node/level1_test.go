//go:build !tee

package node

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon"
	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/internal/chain/devnet"
	"github.com/cocoon-network/cocoon/internal/chain/wallet"
	"github.com/cocoon-network/cocoon/internal/role"
	"github.com/cocoon-network/cocoon/internal/tee"
	"github.com/cocoon-network/cocoon/internal/tee/ratls"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
	"github.com/cocoon-network/cocoon/internal/tee/statement"
)

// A client knows the proxies it was at: another genuine one in their place is
// refused, and so is one that speaks a lower level.
func TestPins(t *testing.T) {
	const endpoint = "192.0.2.1:11002"
	key, next, owner := [32]byte{1}, [32]byte{2}, cocoon.Address{Hash: [32]byte{3}}
	node := func(key [32]byte, owner cocoon.Address, before [32]byte) tee.Peer {
		return tee.Peer{Level: 1, Addr: endpoint, Node: &tee.Node{ContractKey: key, Owner: owner, Predecessor: before}}
	}
	meet := func(p *pins, peer tee.Peer, key [32]byte, owner cocoon.Address) error {
		if err := p.admit(peer); err != nil {
			return err
		}
		return p.confirm(peer, role.ProxyIdentity{Key: key, Owner: owner})
	}
	for _, tt := range []struct {
		name    string
		first   tee.Peer
		then    tee.Peer
		key     [32]byte // that the second one's handshake names
		owner   cocoon.Address
		network byte
		want    error
	}{
		{name: "the same", first: node(key, owner, [32]byte{}), then: node(key, owner, [32]byte{}), key: key, owner: owner},
		{name: "another genuine proxy", first: node(key, owner, [32]byte{}), then: node(next, owner, [32]byte{}), key: next, owner: owner, want: ErrPin},
		{name: "another owner", first: node(key, owner, [32]byte{}), then: node(key, cocoon.Address{}, [32]byte{}), key: key, want: ErrPin},
		{name: "a successor", first: node(key, owner, [32]byte{}), then: node(next, owner, key), key: next, owner: owner},
		{name: "somebody else's successor", first: node(key, owner, [32]byte{}), then: node(next, owner, [32]byte{9}), key: next, owner: owner, want: ErrPin},
		{name: "downgrade", first: node(key, owner, [32]byte{}), then: tee.Peer{Addr: endpoint}, key: key, owner: owner, want: ErrDowngrade},
		{name: "level 0, the same", first: tee.Peer{Addr: endpoint}, then: tee.Peer{Addr: endpoint}, key: key, owner: owner},
		{name: "level 0, another", first: tee.Peer{Addr: endpoint}, then: tee.Peer{Addr: endpoint}, key: next, owner: owner, want: ErrPin},
		{name: "upgrade", first: tee.Peer{Addr: endpoint}, then: node(key, owner, [32]byte{}), key: key, owner: owner},
		{name: "another network", first: node(key, owner, [32]byte{}), then: node(next, owner, [32]byte{}), key: next, owner: owner, network: 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			p, err := openPins(dir, [32]byte{})
			if err != nil {
				t.Fatal(err)
			}
			if err := meet(p, tt.first, key, owner); err != nil {
				t.Fatalf("first contact: %v", err)
			}
			// What is known outlives the process.
			if p, err = openPins(dir, [32]byte{tt.network}); err != nil {
				t.Fatal(err)
			}
			err = meet(p, tt.then, tt.key, tt.owner)
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), p.path) {
				t.Errorf("%v does not say what to do", err)
			}
		})
	}
}

// After a successor took over, the old key does not come back.
func TestPinsMoveOn(t *testing.T) {
	p, err := openPins(t.TempDir(), [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	old, next := [32]byte{1}, [32]byte{2}
	peer := func(key, before [32]byte) tee.Peer {
		return tee.Peer{Level: 1, Addr: "a:1", Node: &tee.Node{ContractKey: key, Predecessor: before}}
	}
	for _, step := range []struct {
		key, before [32]byte
		want        error
	}{{old, [32]byte{}, nil}, {next, old, nil}, {next, [32]byte{}, nil}, {old, [32]byte{}, ErrPin}} {
		err := p.admit(peer(step.key, step.before))
		if err == nil {
			err = p.confirm(peer(step.key, step.before), role.ProxyIdentity{Key: step.key})
		}
		if !errors.Is(err, step.want) || step.want == nil && err != nil {
			t.Fatalf("key %x after %x: %v, want %v", step.key[:1], step.before[:1], err, step.want)
		}
	}
}

// A proxy's real contract key signs its statements, and the key before it
// names it.
func TestContractKeySigns(t *testing.T) {
	old, key := wallet.NewKey(), wallet.NewKey()
	c := Default("proxy")
	c.Measured.Evidence = string(attest.None)
	c.Runtime.PreviousKeyFile = filepath.Join(t.TempDir(), "old.key")
	if err := wallet.WriteKeyFile(c.Runtime.PreviousKeyFile, old); err != nil {
		t.Fatal(err)
	}
	contract, owner := cocoon.Address{Hash: [32]byte{1}}, cocoon.Address{Hash: [32]byte{2}}
	l1, err := newLevel1(&c, &chain{}, cocoon.RoleProxy, func() (statement.Facts, error) {
		return statement.Facts{Contract: contract, ContractKey: key.Public(), Owner: owner}, nil
	}, &key, quiet())
	if err != nil {
		t.Fatal(err)
	}
	issued, err := l1.issuer.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, err := statement.NewVerifier(statement.VerifierConfig{
		Role: cocoon.RoleProxy, Policy: attest.OpenPolicy(), GlobalID: devnet.DefaultGlobalID,
		Contract: func(k [32]byte, o cocoon.Address) (cocoon.Address, error) {
			if k != key.Public() || o != owner {
				t.Errorf("derived from key %x, owner %s", k, o)
			}
			return contract, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n, err := v.VerifyBundle(t.Context(), issued.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	if n.ContractKey != key.Public() || n.Predecessor != old.Public() {
		t.Errorf("key %x, predecessor %x", n.ContractKey, n.Predecessor)
	}
}

func TestDamagedPins(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pins.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openPins(dir, [32]byte{}); err == nil {
		t.Error("a damaged file counts as no pins")
	}
}

// Evidence that was kept in a file is judged without a network.
func TestVerifyFile(t *testing.T) {
	t.Parallel()
	v, err := simulated.New(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	g, err := v.NewGuest(simulated.GuestConfig{Registers: simulated.Image("any")})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ratls.NewIdentity(ratls.IdentityConfig{Attester: g}).Certificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	quote, err := g.Quote([64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	broken := quote.Bytes()
	broken[100]++
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate := cert.Certificate[0]
	var zipped bytes.Buffer
	bomb := gzip.NewWriter(&zipped)
	for range 64 {
		if _, err := bomb.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	bomb.Close()
	tooMany := certificateOf(t, quote.Bytes(), time.Now(), 10000)
	tooLarge := certificateOf(t, make([]byte, 40<<10), time.Now(), 0)
	tomorrow := certificateOf(t, quote.Bytes(), time.Now().Add(30*time.Hour), 0)
	c := Default("client")
	c.Runtime.Dir, c.Runtime.CollateralOffline = dir, true
	c.Measured.SimulatedRoot = v.RootKeyID().String()
	for _, tt := range []struct {
		name, target, policy, failed string
	}{
		{"certificate", write("cert.der", certificate), "devnet", ""},
		{"certificate, PEM", write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})), "devnet", ""},
		{"certificate, hardware demanded", filepath.Join(dir, "cert.der"), "tdx", "root key"},
		{"quote", write("quote.bin", quote.Bytes()), "devnet", ""},
		{"broken quote", write("broken.bin", broken), "devnet", "quote signature"},
		{"oversized quote", write("large.bin", make([]byte, 900<<10)), "devnet", "format"},
		{"gzip bomb", write("bomb.gz", zipped.Bytes()), "devnet", "format"},
		{"10,000 extensions", write("many.der", tooMany), "devnet", "certificate"},
		{"oversized quote in a certificate", write("large.der", tooLarge), "devnet", "certificate"},
		{"a clock that is ahead", write("tomorrow.der", tomorrow), "devnet", "certificate"},
		{"not a quote", write("noise.bin", []byte("noise that is long enough to be something")), "devnet", "format"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			card, err := Verify(ctx, VerifyConfig{Target: tt.target, Policy: tt.policy, Config: &c})
			if err != nil {
				t.Fatal(err)
			}
			f := card.Failed()
			if f != nil && len(f.Detail) > 300 {
				t.Errorf("a detail of %d bytes: are they the input's?", len(f.Detail))
			}
			switch {
			case tt.failed == "" && f != nil:
				t.Errorf("%s fails: %s", f.Name, f.Detail)
			case tt.failed == "" && card.Verdict != string(attest.Simulated):
				t.Errorf("verdict %q", card.Verdict)
			case tt.failed != "" && (f == nil || f.Name != tt.failed || f.Fix == ""):
				t.Errorf("%+v fails, want %q with a fix", f, tt.failed)
			case tt.failed != "" && card.Verdict != "refused":
				t.Errorf("verdict %q", card.Verdict)
			}
		})
	}
}

// certificateOf is a self-signed certificate with a quote, and with so many
// extensions that mean nothing.
func certificateOf(t *testing.T, quote []byte, from time.Time, more int) []byte {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, DNSNames: []string{"127.0.0.1"},
		NotBefore: from.Add(-time.Hour), NotAfter: from.Add(23 * time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 12345, 1}, Critical: true, Value: quote}},
	}
	for i := range more {
		tmpl.ExtraExtensions = append(tmpl.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, i}, Value: []byte{5, 0}})
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
