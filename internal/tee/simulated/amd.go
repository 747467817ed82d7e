//go:build !tee

package simulated

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
)

// SNPVendor is a simulated maker of SEV-SNP processors, of one product.
type SNPVendor struct {
	vendor  *Vendor // for its seed
	product sevsnp.Product
	ark     rsaAuthority
	ask     rsaAuthority // above VCEKs
	asvk    rsaAuthority // above VLEKs
}

type rsaAuthority struct {
	key  *rsa.PrivateKey
	cert *x509.Certificate
}

// snpKeyBits is half of what AMD uses: finding primes takes its time, and
// nothing is proven by the strength of a simulated key.
const snpKeyBits = 2048

// SNP derives the vendor's SEV-SNP line of a product. It takes a moment.
func (v *Vendor) SNP(product sevsnp.Product) (*SNPVendor, error) {
	s := &SNPVendor{vendor: v, product: product}
	var err error
	for _, a := range []struct {
		dst    *rsaAuthority
		issuer *rsaAuthority
		name   string
	}{
		{&s.ark, &s.ark, "ARK-"},
		{&s.ask, &s.ark, "SEV-"},
		{&s.asvk, &s.ark, "SEV-VLEK-"},
	} {
		name := a.name + string(product)
		a.dst.key = v.rsaKey(name)
		t := &x509.Certificate{
			SerialNumber:          v.serial(name),
			Subject:               pkix.Name{CommonName: name, Organization: []string{Organization}},
			NotBefore:             notBefore,
			NotAfter:              notAfter,
			SignatureAlgorithm:    x509.SHA384WithRSAPSS,
			BasicConstraintsValid: true,
			IsCA:                  true,
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
		parent := a.issuer.cert
		if parent == nil {
			parent = t
		}
		if a.dst.cert, err = issueRSA(t, parent, &a.dst.key.PublicKey, a.issuer.key); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func issueRSA(t, parent *x509.Certificate, pub any, key *rsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("simulated: %s: %w", t.Subject.CommonName, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("simulated: %s: %w", t.Subject.CommonName, err)
	}
	return cert, nil
}

// rsaKey derives an RSA key: its primes are the first that follow numbers
// derived from the seed.
func (v *Vendor) rsaKey(use string) *rsa.PrivateKey {
	e := big.NewInt(65537)
	prime := func(n int) *big.Int {
		b := v.secret(fmt.Sprintf("prime/%s/%d", use, n), snpKeyBits/16)
		b[0] |= 0xc0
		b[len(b)-1] |= 1
		p := new(big.Int).SetBytes(b)
		one, two := big.NewInt(1), big.NewInt(2)
		for {
			if p.ProbablyPrime(20) && new(big.Int).GCD(nil, nil, e, new(big.Int).Sub(p, one)).Cmp(one) == 0 {
				return p
			}
			p.Add(p, two)
		}
	}
	p, q := prime(0), prime(1)
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(e.Int64())},
		D:         new(big.Int).ModInverse(e, phi),
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		panic("simulated: derived RSA key: " + err.Error())
	}
	return key
}

// RootKeyID returns what verifiers are configured with.
func (s *SNPVendor) RootKeyID() attest.KeyID {
	return sha512.Sum384(s.ark.cert.RawSubjectPublicKeyInfo)
}

// cpuids are family and model of the products' first processors.
var cpuids = map[sevsnp.Product][24]byte{
	sevsnp.Milan: {0x19, 0x01},
	sevsnp.Genoa: {0x19, 0x11},
	sevsnp.Siena: {0x19, 0xa0},
	sevsnp.Turin: {0x1a, 0x02},
}

// SNPTCB is the patch level of simulated SEV-SNP machines.
var SNPTCB = sevsnp.TCB{BootLoader: 4, SNP: 22, Microcode: 213}

// SNPGuestConfig describes a guest.
type SNPGuestConfig struct {
	// Machine names the processor; "" is a machine too.
	Machine string
	// Measurement is the launch measurement.
	Measurement [48]byte
	// VLEK has reports signed by the cloud's key instead of the machine's.
	VLEK bool
}

// SNPGuest is a simulated SEV-SNP guest.
type SNPGuest struct {
	cfg    SNPGuestConfig
	vendor *SNPVendor
	key    *ecdsa.PrivateKey
	cert   []byte
	chipID [64]byte
}

// NewGuest starts a guest on one of the vendor's machines.
func (s *SNPVendor) NewGuest(cfg SNPGuestConfig) (*SNPGuest, error) {
	g := &SNPGuest{cfg: cfg, vendor: s}
	copy(g.chipID[:], s.vendor.secret("chip/"+cfg.Machine, 64))
	hwid := g.chipID[:]
	if s.product == sevsnp.Turin {
		clear(g.chipID[8:])
		hwid = g.chipID[:8]
	}
	use, name, issuer := "vcek/"+cfg.Machine, "SEV-VCEK", s.ask
	if cfg.VLEK {
		use, name, issuer = "vlek", "SEV-VLEK", s.asvk
	}
	g.key = s.vendor.p384Key(use)
	amd := func(value []byte, arcs ...int) pkix.Extension {
		return pkix.Extension{Id: slices.Concat(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, arcs), Value: value}
	}
	spl := func(n uint8) []byte {
		if n >= 0x80 {
			return []byte{2, 2, 0, n}
		}
		return []byte{2, 1, n}
	}
	stepping := string(s.product) + "-B0"
	t := &x509.Certificate{
		SerialNumber:       s.vendor.serial(use),
		Subject:            pkix.Name{CommonName: name, Organization: []string{Organization}},
		NotBefore:          notBefore,
		NotAfter:           notAfter,
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions: []pkix.Extension{
			amd(spl(0), 1),
			amd(append([]byte{22, byte(len(stepping))}, stepping...), 2),
			amd(spl(SNPTCB.BootLoader), 3, 1),
			amd(spl(SNPTCB.TEE), 3, 2),
			amd(spl(SNPTCB.SNP), 3, 3),
			amd(spl(SNPTCB.Microcode), 3, 8),
			amd(spl(SNPTCB.FMC), 3, 9),
		},
	}
	if !cfg.VLEK {
		t.ExtraExtensions = append(t.ExtraExtensions, amd(hwid, 4))
	}
	cert, err := issueRSA(t, issuer.cert, &g.key.PublicKey, issuer.key)
	if err != nil {
		return nil, err
	}
	g.cert = pemChain(cert)
	return g, nil
}

func (v *Vendor) p384Key(use string) *ecdsa.PrivateKey {
	for i := 0; ; i++ {
		k, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), v.secret(fmt.Sprintf("key/%s/%d", use, i), 48))
		if err == nil {
			return k
		}
	}
}

// Attest returns a report that binds data.
func (g *SNPGuest) Attest(ctx context.Context, data [64]byte) (attest.Evidence, error) {
	if err := ctx.Err(); err != nil {
		return attest.Evidence{}, err
	}
	r, err := g.Report(data)
	if err != nil {
		return attest.Evidence{}, err
	}
	return g.Evidence(r), nil
}

// Evidence puts a report together with its certificate.
func (g *SNPGuest) Evidence(r *sevsnp.Report) attest.Evidence {
	return attest.Evidence{Format: attest.FormatSEVSNP, Quote: r.Bytes(), Certificate: g.cert}
}

// Report returns a signed report that binds data.
func (g *SNPGuest) Report(data [64]byte) (*sevsnp.Report, error) {
	tcb := SNPTCB.Encode(g.vendor.product)
	r := &sevsnp.Report{
		Version:     3,
		CPUID:       cpuids[g.vendor.product],
		Policy:      sevsnp.PolicySMT | sevsnp.PolicyReserved,
		Algorithm:   1,
		CurrentTCB:  tcb,
		ReportData:  data,
		Measurement: g.cfg.Measurement,
		ReportedTCB: tcb,
		ChipID:      g.chipID,
		Committed:   tcb,
		LaunchTCB:   tcb,
	}
	if g.cfg.VLEK {
		r.Flags = sevsnp.SignerVLEK << 2
	}
	return r, g.Sign(r)
}

// Sign signs what r says now.
func (g *SNPGuest) Sign(r *sevsnp.Report) error {
	digest := sha512.Sum384(r.Signed())
	der, err := g.key.Sign(nil, digest[:], crypto.SHA384)
	if err != nil {
		return fmt.Errorf("simulated: signing: %w", err)
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return fmt.Errorf("simulated: signing: %w", err)
	}
	rs.R.FillBytes(r.R[:])
	rs.S.FillBytes(r.S[:])
	slices.Reverse(r.R[:])
	slices.Reverse(r.S[:])
	return nil
}

// SNPStatements are what the vendor publishes at a moment.
type SNPStatements struct {
	// At is when the revocation list is made; it is good for Lifetime.
	At time.Time
	// VLEK chooses the certificates above VLEKs.
	VLEK bool
	// RevokeCA puts the certificate below the root on the list.
	RevokeCA bool
}

// Collateral makes the vendor's certificates and revocation list.
func (s *SNPVendor) Collateral(st SNPStatements) (*sevsnp.Collateral, error) {
	ca := s.ask
	if st.VLEK {
		ca = s.asvk
	}
	t := &x509.RevocationList{Number: big.NewInt(st.At.Unix()), ThisUpdate: st.At, NextUpdate: st.At.Add(Lifetime), SignatureAlgorithm: x509.SHA384WithRSAPSS}
	if st.RevokeCA {
		t.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: ca.cert.SerialNumber, RevocationTime: st.At}}
	}
	crl, err := x509.CreateRevocationList(rand.Reader, t, s.ark.cert, s.ark.key)
	if err != nil {
		return nil, fmt.Errorf("simulated: revocation list: %w", err)
	}
	return &sevsnp.Collateral{Chain: pemChain(ca.cert, s.ark.cert), CRL: crl}, nil
}

// KDS serves the vendor's certificates as AMD's service does, and the VCEKs of
// the given guests' machines.
func (s *SNPVendor) KDS(statements func() SNPStatements, guests ...*SNPGuest) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /vcek/v1/"+string(s.product)+"/{hwid}", func(w http.ResponseWriter, r *http.Request) {
		for _, g := range guests {
			signer, err := sevsnp.ParseSigner(g.cert)
			if err != nil || hex.EncodeToString(signer.HWID) != r.PathValue("hwid") {
				continue
			}
			if t := signer.TCB; r.URL.RawQuery != fmt.Sprintf("blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", t.BootLoader, t.TEE, t.SNP, t.Microcode) {
				continue
			}
			if block, _ := pem.Decode(g.cert); block != nil {
				w.Write(block.Bytes)
				return
			}
		}
		http.NotFound(w, r)
	})
	for _, family := range []string{"vcek", "vlek"} {
		get := func(w http.ResponseWriter, pick func(*sevsnp.Collateral) []byte) {
			st := statements()
			st.VLEK = family == "vlek"
			c, err := s.Collateral(st)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Write(pick(c))
		}
		base := "GET /" + family + "/v1/" + string(s.product)
		mux.HandleFunc(base+"/cert_chain", func(w http.ResponseWriter, _ *http.Request) {
			get(w, func(c *sevsnp.Collateral) []byte { return c.Chain })
		})
		mux.HandleFunc(base+"/crl", func(w http.ResponseWriter, _ *http.Request) {
			get(w, func(c *sevsnp.Collateral) []byte { return c.CRL })
		})
	}
	return mux
}
