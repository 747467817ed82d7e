package nvgpu

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"
)

// factory is a GPU maker of our own: the evidence in these tests is SIMULATED.
type factory struct {
	certs   []*x509.Certificate // device first
	key     *ecdsa.PrivateKey   // the device's
	root    KeyID
	rootKey *ecdsa.PrivateKey
}

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newFactory(t testing.TB, names ...string) *factory {
	t.Helper()
	if names == nil {
		names = []string{"SIMULATED root", "SIMULATED identity", "SIMULATED provisioner", "SIMULATED BROM", "SIMULATED device"}
	}
	f := &factory{}
	var parent *x509.Certificate
	var parentKey *ecdsa.PrivateKey
	fwid := bytes.Repeat([]byte{0xf1}, valueSize)
	for i, name := range names {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		last := i == len(names)-1
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: start, NotAfter: start.AddDate(10, 0, 0), BasicConstraintsValid: true, IsCA: !last,
		}
		if last {
			tmpl.ExtraExtensions = []pkix.Extension{{Id: oidFirmwareID, Value: append([]byte{0x30, 50, 0x04, 48}, fwid...)}}
		}
		issuer, issuerKey := parent, parentKey
		if issuer == nil {
			issuer, issuerKey = tmpl, key
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, &key.PublicKey, issuerKey)
		if err != nil {
			t.Fatal(err)
		}
		if parent, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		if parentKey = key; f.rootKey == nil {
			f.rootKey = key
		}
		f.certs = append([]*x509.Certificate{parent}, f.certs...)
	}
	f.key = parentKey
	var err error
	if f.root, err = RootKeyID(f.certs[len(f.certs)-1]); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *factory) chain() []byte {
	var b []byte
	for _, c := range f.certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// exchange describes a report to be made.
type exchange struct {
	nonce  [32]byte
	blocks [][]byte
	opaque []byte
	count  int // 0 = the true one
}

func block(index uint8, value []byte) []byte {
	b := []byte{index, 1}
	b = binary.LittleEndian.AppendUint16(b, uint16(3+len(value)))
	b = append(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func field(kind uint16, v []byte) []byte {
	b := binary.LittleEndian.AppendUint16(nil, kind)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(v)))
	return append(b, v...)
}

func good() exchange {
	x := exchange{nonce: [32]byte{1, 2, 3}}
	for i := range uint8(64) {
		v := sha512.Sum384([]byte{i})
		x.blocks = append(x.blocks, block(i+1, v[:]))
	}
	x.opaque = bytes.Join([][]byte{
		field(fieldDriverVersion, []byte("535.86.09\x00")), field(fieldVBIOSVersion, []byte{0x00, 0x5e, 0x00, 0x96, 0x01, 0, 0, 0}),
		field(fieldChipSKU, []byte("882\x00")), field(fieldProject, []byte("1010\x00")), field(fieldProjectSKU, []byte("0200\x00")),
		field(fieldFirmwareID, bytes.Repeat([]byte{0xf1}, valueSize)), field(99, []byte("unknown")),
	}, nil)
	return x
}

func (f *factory) report(t testing.TB, x exchange) []byte {
	t.Helper()
	b := append([]byte{spdmVersion, codeRequest, 1, 0xff}, x.nonce[:]...)
	b = append(b, 0, spdmVersion, codeResponse, 0, 0)
	if x.count == 0 {
		x.count = len(x.blocks)
	}
	record := bytes.Join(x.blocks, nil)
	b = append(b, byte(x.count), byte(len(record)), byte(len(record)>>8), byte(len(record)>>16))
	b = append(append(b, record...), make([]byte, 32)...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(x.opaque)))
	b = append(b, x.opaque...)
	digest := sha512.Sum384(b)
	r, s, err := ecdsa.Sign(rand.Reader, f.key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, signatureSize)
	r.FillBytes(sig[:48])
	s.FillBytes(sig[48:])
	return append(b, sig...)
}

func (f *factory) policy() *Policy {
	ref := Reference{DriverVersion: "535.86.09", VBIOSVersion: "96.00.5E.00.01", Values: map[uint8][][valueSize]byte{}, Ignored: []uint8{64}}
	for i := range uint8(63) {
		ref.Values[i+1] = [][valueSize]byte{{}, sha512.Sum384([]byte{i})}
	}
	return &Policy{Roots: []KeyID{f.root}, References: []Reference{ref}}
}

func TestVerify(t *testing.T) {
	f := newFactory(t)
	x := good()
	ev := Evidence{Report: f.report(t, x), Chain: f.chain()}
	res, err := Verify(ev, x.nonce, f.policy(), start.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	r := res.Report
	if r.DriverVersion != "535.86.09" || r.VBIOSVersion != "96.00.5E.00.01" || r.ChipSKU != "882" || r.Project != "1010" || r.ProjectSKU != "0200" || len(r.Measurements) != 64 {
		t.Errorf("read %+v", r)
	}
	if res.Root != f.root || !res.Expires.Equal(start.AddDate(10, 0, 0)) || !strings.Contains(res.Device, "SIMULATED device") {
		t.Errorf("result %+v", res)
	}
}

// TestRefused: every way to tamper has its own error.
func TestRefused(t *testing.T) {
	f, g := newFactory(t), newFactory(t)
	nonce, now := good().nonce, start.AddDate(1, 0, 0)
	type input struct {
		ev     Evidence
		nonce  [32]byte
		policy *Policy
		now    time.Time
	}
	pemOf := func(certs ...*x509.Certificate) []byte { return (&factory{certs: certs}).chain() }
	with := func(change func(*exchange)) func(*input) {
		return func(in *input) {
			x := good()
			change(&x)
			in.ev.Report = f.report(t, x)
		}
	}
	for name, c := range map[string]struct {
		change func(*input)
		want   error
	}{
		"no policy":              {func(in *input) { in.policy = nil }, ErrPolicy},
		"zero policy":            {func(in *input) { in.policy = &Policy{} }, ErrPolicy},
		"no references":          {func(in *input) { in.policy.References = nil }, ErrPolicy},
		"no roots":               {func(in *input) { in.policy.Roots = nil }, ErrPolicy},
		"empty report":           {func(in *input) { in.ev.Report = nil }, ErrReport},
		"giant report":           {func(in *input) { in.ev.Report = make([]byte, MaxReport+1) }, ErrReport},
		"byte behind the report": {func(in *input) { in.ev.Report = append(in.ev.Report, 0) }, ErrReport},
		"report cut":             {func(in *input) { in.ev.Report = in.ev.Report[:len(in.ev.Report)-1] }, ErrReport},
		"other SPDM version":     {func(in *input) { in.ev.Report[0] = 0x12 }, ErrReport},
		"other request":          {func(in *input) { in.ev.Report[1] = 0xe1 }, ErrReport},
		"other response":         {func(in *input) { in.ev.Report[requestSize+1] = 0x61 }, ErrReport},
		"too many blocks":        {with(func(x *exchange) { x.count = 65 }), ErrReport},
		"too few blocks":         {with(func(x *exchange) { x.count = 63 }), ErrReport},
		"short measurement":      {with(func(x *exchange) { x.blocks[0] = block(1, make([]byte, 47)) }), ErrReport},
		"measurement twice":      {with(func(x *exchange) { x.blocks[1] = x.blocks[0] }), ErrReport},
		"other specification":    {with(func(x *exchange) { x.blocks[0] = append([]byte{1, 2}, x.blocks[0][2:]...) }), ErrReport},
		"field twice":            {with(func(x *exchange) { x.opaque = append(x.opaque, field(fieldProject, []byte("x"))...) }), ErrReport},
		"field cut":              {with(func(x *exchange) { x.opaque = append(x.opaque, 1, 0, 9) }), ErrReport},
		"version that is no text": {with(func(x *exchange) {
			x.opaque = bytes.Replace(x.opaque, []byte("535.86"), []byte("535\n86"), 1)
		}), ErrReport},
		"short VBIOS version":  {with(func(x *exchange) { x.opaque = field(fieldVBIOSVersion, []byte{1, 2}) }), ErrReport},
		"no chain":             {func(in *input) { in.ev.Chain = nil }, ErrChain},
		"chain that is no PEM": {func(in *input) { in.ev.Chain = []byte("hello") }, ErrChain},
		"key in the chain":     {func(in *input) { in.ev.Chain = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY"}) }, ErrChain},
		"broken certificate":   {func(in *input) { in.ev.Chain = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}) }, ErrChain},
		"giant chain":          {func(in *input) { in.ev.Chain = make([]byte, maxChain+1) }, ErrChain},
		"device alone":         {func(in *input) { in.ev.Chain = pemOf(f.certs[0]) }, ErrChain},
		"nine certificates":    {func(in *input) { in.ev.Chain = append(f.chain(), f.chain()...) }, ErrChain},
		"certificate left out": {func(in *input) { in.ev.Chain = pemOf(f.certs[0], f.certs[2], f.certs[3], f.certs[4]) }, ErrIssuer},
		"certificates in disorder": {func(in *input) {
			in.ev.Chain = pemOf(f.certs[0], f.certs[2], f.certs[1], f.certs[3], f.certs[4])
		}, ErrIssuer},
		"device that issues": {func(in *input) { in.ev.Chain = pemOf(f.certs[0], f.certs[0]) }, ErrIssuer},
		"forged certificate": {func(in *input) {
			in.ev.Chain = pemOf(f.certs[0], g.certs[1], g.certs[2], g.certs[3], g.certs[4])
		}, ErrIssuer},
		"another maker": {func(in *input) {
			in.ev = Evidence{Report: g.report(t, good()), Chain: g.chain()}
		}, ErrRoot},
		"too early":               {func(in *input) { in.now = start.AddDate(-1, 0, 0) }, ErrDate},
		"too late":                {func(in *input) { in.now = start.AddDate(11, 0, 0) }, ErrDate},
		"signature flipped":       {func(in *input) { in.ev.Report[len(in.ev.Report)-1] ^= 1 }, ErrSignature},
		"responder nonce flipped": {func(in *input) { in.ev.Report[len(in.ev.Report)-signatureSize-len(good().opaque)-3] ^= 1 }, ErrSignature},
		"signed by another device": {func(in *input) {
			in.ev.Report = g.report(t, good())
		}, ErrSignature},
		"another nonce":   {func(in *input) { in.nonce[0]++ }, ErrNonce},
		"replayed report": {with(func(x *exchange) { x.nonce[5] = 9 }), ErrNonce},
		"other firmware":  {with(func(x *exchange) { x.opaque = bytes.ReplaceAll(x.opaque, []byte{0xf1}, []byte{0xf2}) }), ErrFirmwareID},
		"short firmware id": {with(func(x *exchange) {
			x.opaque = append(x.opaque[:len(x.opaque)-11-52], field(fieldFirmwareID, []byte{0xf1})...)
		}), ErrFirmwareID},
		"unknown driver":       {with(func(x *exchange) { x.opaque = bytes.Replace(x.opaque, []byte("535."), []byte("536."), 1) }), ErrReference},
		"unknown VBIOS":        {with(func(x *exchange) { x.opaque = bytes.Replace(x.opaque, []byte{0x00, 0x5e}, []byte{0x00, 0x5f}, 1) }), ErrReference},
		"reference of nothing": {func(in *input) { in.policy.References[0].Values = nil }, ErrReference},
		"measurement changed":  {with(func(x *exchange) { x.blocks[7] = block(8, make([]byte, 47+1)); x.blocks[7][10] = 7 }), ErrMeasurement},
		"measurement missing":  {with(func(x *exchange) { x.blocks = x.blocks[1:] }), ErrMeasurement},
		"measurement nobody knows": {with(func(x *exchange) {
			x.blocks = append(x.blocks, block(70, make([]byte, valueSize)))
		}), ErrMeasurement},
	} {
		t.Run(name, func(t *testing.T) {
			in := input{Evidence{Report: f.report(t, good()), Chain: f.chain()}, nonce, f.policy(), now}
			c.change(&in)
			_, err := Verify(in.ev, in.nonce, in.policy, in.now)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

func FuzzParseReport(f *testing.F) {
	factory := newFactory(f)
	f.Add(factory.report(f, good()))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReport(b)
		if err != nil {
			if !errors.Is(err, ErrReport) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		if len(r.signed)+signatureSize != len(b) || len(r.Measurements) > maxBlocks {
			t.Fatalf("read %d signed bytes of %d", len(r.signed), len(b))
		}
	})
}

func FuzzParseChain(f *testing.F) {
	f.Add(newFactory(f).chain())
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseChain(b); err == nil && (len(c) < minCerts || len(c) > maxCerts) {
			t.Fatal(fmt.Sprint(len(c), " certificates"))
		}
	})
}

// TestDeviceIssuesNothing: who broke into one device and has its key makes no
// certificates of others, whatever usage its own names.
func TestDeviceIssuesNothing(t *testing.T) {
	for name, usage := range map[string]x509.KeyUsage{"no usage": 0, "signs certificates": x509.KeyUsageCertSign} {
		f := newFactory(t)
		root := f.certs[len(f.certs)-1]
		device := &x509.Certificate{
			SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "device"},
			NotBefore: start, NotAfter: start.AddDate(10, 0, 0), BasicConstraintsValid: true, KeyUsage: usage,
		}
		forged := &x509.Certificate{SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: "forged"}, NotBefore: start, NotAfter: start.AddDate(10, 0, 0)}
		deviceKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		certificate := func(tmpl, parent *x509.Certificate, by *ecdsa.PrivateKey) *x509.Certificate {
			der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &deviceKey.PublicKey, by)
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		genuine := certificate(device, root, f.rootKey)
		if _, _, err := checkChain([]*x509.Certificate{genuine, root}, []KeyID{f.root}, start.AddDate(1, 0, 0)); err != nil {
			t.Errorf("%s: the device itself: %v", name, err)
		}
		chain := []*x509.Certificate{certificate(forged, genuine, deviceKey), genuine, root}
		if _, _, err := checkChain(chain, []KeyID{f.root}, start.AddDate(1, 0, 0)); !errors.Is(err, ErrIssuer) {
			t.Errorf("%s: a certificate issued by a device: %v, want ErrIssuer", name, err)
		}
	}
}
