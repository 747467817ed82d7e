package ratls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/attest"
)

var testTime = time.Date(2026, 4, 1, 12, 0, 0, 0, time.UTC)

func testKey() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, 32)) }

func keyOf(k ed25519.PrivateKey) [32]byte { return [32]byte(k.Public().(ed25519.PublicKey)) }

// TestCertificateLayout holds our certificate against spec attestation 1.1,
// field by field.
func TestCertificateLayout(t *testing.T) {
	key := testKey()
	quote := []byte("raw quote bytes")
	der, err := buildCertificate(key, attest.Evidence{Format: attest.FormatTDX, Quote: quote}, testTime, testTime.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if c.Version != 3 || c.SignatureAlgorithm != x509.PureEd25519 || len(c.SerialNumber.Bytes()) != 16 || c.SerialNumber.Sign() != 1 {
		t.Errorf("version %d, algorithm %v, serial %x", c.Version, c.SignatureAlgorithm, c.SerialNumber)
	}
	name := "3060310b3009060355040613024145310e300c06035504080c054455424149" +
		"311a3018060355040a0c1154444c696220446576656c6f706d656e743111300f060355040b0c0853656375726974793112301006035504030c096c6f63616c686f7374"
	if got := hex.EncodeToString(c.RawSubject); got != name || !bytes.Equal(c.RawSubject, c.RawIssuer) {
		t.Errorf("subject %s\nwant    %s", got, name)
	}
	if !c.NotBefore.Equal(testTime) || c.NotAfter.Sub(c.NotBefore) != 24*time.Hour {
		t.Errorf("valid %v to %v", c.NotBefore, c.NotAfter)
	}
	pub := key.Public().(ed25519.PublicKey)
	ski := sha1.Sum(pub)
	want := []struct {
		oid      string
		critical bool
		value    string
	}{
		{"2b06010401e03901", true, hex.EncodeToString(quote)},
		{"2b06010401e03902", true, hex.EncodeToString(pub)},
		{"551d13", true, "3000"},
		{"551d0f", true, "03020780"},
		{"551d25", true, "301406082b0601050507030106082b06010505070302"},
		{"551d0e", false, "0414" + hex.EncodeToString(ski[:])},
		{"551d11", false, "302882096c6f63616c686f737482093132372e302e302e31871000000000000000000000000000000001"},
	}
	exts, err := walkExtensions(c.RawTBSCertificate)
	if err != nil {
		t.Fatal(err)
	}
	if len(exts) != len(want) || len(c.Extensions) != len(want) {
		t.Fatalf("%d extensions, want %d", len(exts), len(want))
	}
	for i, x := range exts {
		if w := want[i]; hex.EncodeToString(x.oid) != w.oid || x.critical != w.critical || hex.EncodeToString(x.value) != w.value {
			t.Errorf("extension %d: %x %v %x, want %v", i, x.oid, x.critical, x.value, w)
		}
	}
	none, err := buildCertificate(key, attest.Evidence{}, testTime, testTime.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	c, err = x509.ParseCertificate(none)
	if err != nil || len(c.Extensions) != 5 {
		t.Errorf("without evidence: %v, %d extensions, want 5", err, len(c.Extensions))
	}
	if _, err := buildCertificate(key, attest.Evidence{Format: 9}, testTime, testTime); err == nil {
		t.Error("evidence of an unknown format was certified")
	}
}

// template is what the table of bad certificates changes.
type template struct {
	version  int // -1: no version field, as in X.509 v1
	exts     []pkix.Extension
	subject  []byte
	issuer   []byte
	before   time.Time
	after    time.Time
	tamper   func(der []byte) []byte
	trailing []byte // after the extensions, inside the TBS
}

// make writes a certificate by hand, since no library makes bad ones.
func (c template) make(t testing.TB, key ed25519.PrivateKey) []byte {
	t.Helper()
	marshal := func(v any) []byte {
		b, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	wrap := func(class, tag int, parts ...[]byte) []byte {
		return marshal(asn1.RawValue{Class: class, Tag: tag, IsCompound: true, Bytes: slices.Concat(parts...)})
	}
	seq := func(parts ...[]byte) []byte { return wrap(asn1.ClassUniversal, asn1.TagSequence, parts...) }
	alg := seq(marshal(asn1.ObjectIdentifier{1, 3, 101, 112}))
	pub := key.Public().(ed25519.PublicKey)
	var tbs [][]byte
	if c.version >= 0 {
		tbs = append(tbs, wrap(asn1.ClassContextSpecific, 0, marshal(c.version)))
	}
	tbs = append(tbs,
		marshal(big.NewInt(77)), alg, c.issuer,
		seq(marshal(c.before), marshal(c.after)), c.subject,
		seq(alg, marshal(asn1.BitString{Bytes: pub, BitLength: 256})))
	if c.exts != nil {
		tbs = append(tbs, wrap(asn1.ClassContextSpecific, 3, marshal(c.exts)))
	}
	body := seq(append(tbs, c.trailing)...)
	if c.tamper != nil {
		body = c.tamper(body)
	}
	return seq(body, alg, marshal(asn1.BitString{Bytes: ed25519.Sign(key, body), BitLength: 512}))
}

// good is a certificate that passes, with fake evidence.
func good(t testing.TB, key ed25519.PrivateKey) template {
	t.Helper()
	data := attest.KeyReportData(keyOf(key))
	exts, err := extensions(key.Public().(ed25519.PublicKey), attest.FakeEvidence(data))
	if err != nil {
		t.Fatal(err)
	}
	name, err := subject()
	if err != nil {
		t.Fatal(err)
	}
	return template{version: 2, exts: exts, subject: name, issuer: name, before: testTime.Add(-time.Hour), after: testTime.Add(time.Hour)}
}

func arc(n int, critical bool, value []byte) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 12345, n}, Critical: critical, Value: value}
}

func ce(n int, value string) pkix.Extension {
	b, err := hex.DecodeString(value)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, n}, Value: b}
}

// replace swaps the extension with the same id, or drops it if x has no value.
func replace(exts []pkix.Extension, x pkix.Extension) []pkix.Extension {
	var out []pkix.Extension
	for _, e := range exts {
		if !e.Id.Equal(x.Id) {
			out = append(out, e)
		} else if x.Value != nil {
			out = append(out, x)
		}
	}
	return out
}

func TestPeerCertificates(t *testing.T) {
	key := testKey()
	data := attest.KeyReportData(keyOf(key))
	dns := func(names ...string) pkix.Extension {
		var v []byte
		for _, n := range names {
			v = append(v, append([]byte{tagDNSName, byte(len(n))}, n...)...)
		}
		return ce(17, hex.EncodeToString(append([]byte{0x30, byte(len(v))}, v...)))
	}
	name := func(cn string) []byte {
		b, err := asn1.Marshal(pkix.Name{CommonName: cn}.ToRDNSequence())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sev := []pkix.Extension{arc(100, true, data[:]), arc(101, true, make([]byte, 1184)), arc(102, true, []byte("pem"))}

	for title, c := range map[string]struct {
		change func(*template)
		side   side
		format attest.Format
		err    error
	}{
		"good acceptor":             {func(*template) {}, acceptor, attest.FormatTDX, nil},
		"good dialer":               {func(*template) {}, dialer, attest.FormatTDX, nil},
		"version 1 with extensions": {func(c *template) { c.version = -1 }, acceptor, attest.FormatTDX, nil},
		"no extensions at all":      {func(c *template) { c.version, c.exts = -1, nil }, dialer, attest.FormatNone, nil},
		"no evidence":               {func(c *template) { c.exts = c.exts[2:] }, acceptor, attest.FormatNone, nil},
		"evidence not critical":     {func(c *template) { c.exts[0].Critical = false }, acceptor, attest.FormatNone, nil},
		"unknown, not critical":     {func(c *template) { c.exts = append(c.exts, arc(9, false, []byte("x"))) }, acceptor, attest.FormatTDX, nil},
		"SEV":                       {func(c *template) { c.exts = slices.Concat(sev, c.exts[2:]) }, acceptor, attest.FormatSEVSNP, nil},
		"common name counts without DNS names": {func(c *template) {
			c.exts = replace(c.exts, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}})
			c.subject, c.issuer = name("127.0.0.1"), name("127.0.0.1")
		}, acceptor, attest.FormatTDX, nil},
		"wrong name at a dialer": {func(c *template) { c.exts = replace(c.exts, dns("localhost")) }, dialer, attest.FormatTDX, nil},
		"CA certificate":         {func(c *template) { c.exts = replace(c.exts, ce(19, "30030101ff")) }, acceptor, attest.FormatTDX, nil},
		"no usages":              {func(c *template) { c.exts = replace(c.exts, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}}) }, acceptor, attest.FormatTDX, nil},

		"wrong name":              {func(c *template) { c.exts = replace(c.exts, dns("localhost")) }, acceptor, 0, ErrName},
		"address but no DNS name": {func(c *template) { c.exts = replace(c.exts, ce(17, "300687047f000001")) }, acceptor, 0, ErrName},
		"common name beside a DNS name": {func(c *template) {
			c.exts = replace(c.exts, dns("localhost"))
			c.subject, c.issuer = name("127.0.0.1"), name("127.0.0.1")
		}, acceptor, 0, ErrName},
		"broken names":                {func(c *template) { c.exts = replace(c.exts, ce(17, "3005820131")) }, acceptor, 0, ErrCertificate},
		"issued by another":           {func(c *template) { c.issuer = name("a CA") }, dialer, 0, ErrSelfSigned},
		"not yet valid":               {func(c *template) { c.before = testTime.Add(time.Second) }, dialer, 0, ErrDate},
		"expired":                     {func(c *template) { c.after = testTime.Add(-time.Second) }, dialer, 0, ErrDate},
		"server only, at a dialer":    {func(c *template) { c.exts = replace(c.exts, ce(37, "300a06082b06010505070301")) }, dialer, 0, ErrUsage},
		"client only, at an acceptor": {func(c *template) { c.exts = replace(c.exts, ce(37, "300a06082b06010505070302")) }, acceptor, 0, ErrUsage},
		"empty usages":                {func(c *template) { c.exts = replace(c.exts, ce(37, "3000")) }, dialer, 0, ErrCertificate},
		"unknown critical":            {func(c *template) { c.exts = append(c.exts, arc(9, true, []byte("x"))) }, dialer, 0, ErrCritical},
		"unknown critical, version 1": {func(c *template) { c.version = -1; c.exts = append(c.exts, arc(9, true, []byte("x"))) }, dialer, 0, ErrCritical},
		"name constraints":            {func(c *template) { x := ce(30, "3000"); x.Critical = true; c.version = -1; c.exts = append(c.exts, x) }, dialer, 0, ErrCritical},
		"both families":               {func(c *template) { c.exts = slices.Concat(sev, c.exts) }, dialer, 0, ErrFamilies},
		"half of the other family":    {func(c *template) { c.exts = slices.Concat(sev[2:], c.exts) }, dialer, 0, ErrFamilies},
		"SEV without its signer":      {func(c *template) { c.exts = slices.Concat(sev[:2], c.exts[2:]) }, dialer, 0, ErrIncomplete},
		"SEV without report":          {func(c *template) { c.exts = slices.Concat(sev[:1], sev[2:], c.exts[2:]) }, dialer, 0, ErrIncomplete},
		"SEV without report data":     {func(c *template) { c.exts = slices.Concat(sev[1:], c.exts[2:]) }, dialer, 0, ErrIncomplete},
		"SEV, another key's data": {func(c *template) {
			c.exts = slices.Concat([]pkix.Extension{arc(100, true, make([]byte, 64))}, sev[1:], c.exts[2:])
		}, dialer, 0, attest.ErrReportData},
		"oversized quote": {func(c *template) { c.exts = replace(c.exts, arc(1, true, make([]byte, maxEvidence+1))) }, dialer, 0, ErrQuoteSize},
		"oversized report": {func(c *template) {
			c.exts = slices.Concat(sev[:1], []pkix.Extension{arc(101, true, make([]byte, maxEvidence+1))}, sev[2:], c.exts[2:])
		}, dialer, 0, ErrQuoteSize},
		"oversized signer": {func(c *template) {
			c.exts = slices.Concat(sev[:2], []pkix.Extension{arc(102, true, make([]byte, maxEvidence+1))}, c.exts[2:])
		}, dialer, 0, ErrQuoteSize},
		"largest quote":             {func(c *template) { c.exts = replace(c.exts, arc(1, true, make([]byte, maxEvidence))) }, dialer, attest.FormatTDX, nil},
		"evidence twice, version 1": {func(c *template) { c.version = -1; c.exts = append(c.exts, c.exts[0]) }, dialer, 0, ErrCertificate},
		"10,000 extensions": {func(c *template) {
			c.version = -1
			for i := range 10000 {
				c.exts = append(c.exts, arc(1000+i, false, nil))
			}
		}, dialer, 0, ErrCertificate},
		"bytes after the extensions, version 1": {func(c *template) { c.version, c.trailing = -1, []byte{5, 0} }, dialer, 0, ErrCertificate},
	} {
		t.Run(title, func(t *testing.T) {
			tmpl := good(t, key)
			c.change(&tmpl)
			p, err := parsePeer(tmpl.make(t, key))
			if err == nil {
				err = p.check(c.side, testTime)
			}
			if !errors.Is(err, c.err) {
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if err == nil && (p.evidence.Format != c.format || p.key != keyOf(key)) {
				t.Errorf("format %v of key %x, want %v", p.evidence.Format, p.key, c.format)
			}
		})
	}
}

func TestPeerCertificateKeys(t *testing.T) {
	key := testKey()
	der := good(t, key).make(t, key)
	der[len(der)-1] ^= 1
	p, err := parsePeer(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.check(dialer, testTime); !errors.Is(err, ErrSignature) {
		t.Errorf("flipped signature: %v", err)
	}

	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: testTime, NotAfter: testTime}
	if der, err = x509.CreateCertificate(rand.Reader, tmpl, tmpl, &ec.PublicKey, ec); err != nil {
		t.Fatal(err)
	}
	if _, err := parsePeer(der); !errors.Is(err, ErrKeyType) {
		t.Errorf("P-256 key: %v", err)
	}
	if _, err := parsePeer([]byte("no certificate")); !errors.Is(err, ErrCertificate) {
		t.Errorf("garbage: %v", err)
	}
	if _, err := parsePeer(make([]byte, maxCertificate+1)); !errors.Is(err, ErrCertificate) {
		t.Errorf("oversized: %v", err)
	}
}

// TestWalkGrammar feeds broken structures straight to the walk, which
// crypto/x509 would have refused before.
func TestWalkGrammar(t *testing.T) {
	key := testKey()
	c, err := x509.ParseCertificate(good(t, key).make(t, key))
	if err != nil {
		t.Fatal(err)
	}
	tbs := c.RawTBSCertificate
	if exts, err := walkExtensions(tbs); err != nil || len(exts) != 7 {
		t.Fatalf("%d extensions, %v", len(exts), err)
	}
	for n := range tbs {
		if _, err := walkExtensions(tbs[:n]); !errors.Is(err, ErrCertificate) {
			t.Fatalf("the first %d of %d bytes: %v", n, len(tbs), err)
		}
	}
	for name, in := range map[string]string{
		"empty":                       "",
		"indefinite length":           "3080" + strings.Repeat("00", 8),
		"long form of a short length": "30810100",
		"length with a leading zero":  "3082000100",
		"four length bytes":           "308400000001" + "00",
		"length beyond the end":       "3005",
		"multi-byte tag":              "1f8100",
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := walkExtensions(b); !errors.Is(err, ErrCertificate) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzWalk: whatever crypto/x509 reads as version 3, the walk reads equally.
func FuzzWalk(f *testing.F) {
	key := testKey()
	g := good(f, key)
	f.Add(g.make(f, key))
	v1 := g
	v1.version = -1
	f.Add(v1.make(f, key))
	sev := g
	sev.exts = append([]pkix.Extension{arc(100, true, make([]byte, 64)), arc(101, true, nil)}, g.exts[2:]...)
	f.Add(sev.make(f, key))
	f.Fuzz(func(t *testing.T, der []byte) {
		walkExtensions(der)
		p, err := parsePeer(der)
		if err != nil {
			return
		}
		p.check(acceptor, testTime)
		p.check(dialer, testTime)
		if p.cert.Version != 3 {
			return
		}
		if len(p.exts) != len(p.cert.Extensions) {
			t.Fatalf("%d extensions, crypto/x509 finds %d", len(p.exts), len(p.cert.Extensions))
		}
		for i, x := range p.exts {
			ref := p.cert.Extensions[i]
			oid, err := asn1.Marshal(ref.Id)
			if err != nil || !bytes.Equal(oid[2:], x.oid) || ref.Critical != x.critical || !bytes.Equal(ref.Value, x.value) {
				t.Fatalf("extension %d differs: %v", i, err)
			}
		}
	})
}
