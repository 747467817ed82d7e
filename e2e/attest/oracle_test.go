// Package attest holds our verifier against independent ones, with evidence of
// real machines that their projects publish.
package attest

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	sevabi "github.com/google/go-sev-guest/abi"
	sevverify "github.com/google/go-sev-guest/verify"
	sevdata "github.com/google/go-sev-guest/verify/testdata"
	tdxtesting "github.com/google/go-tdx-guest/testing"
	tdxdata "github.com/google/go-tdx-guest/testing/testdata"
	tdxverify "github.com/google/go-tdx-guest/verify"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// A time at which the published TDX collateral and certificates are valid.
var tdxTime = time.Date(2023, 7, 1, 1, 0, 0, 0, time.UTC)

// collateral is Intel's collateral as the library publishes it for tests.
func collateral(t *testing.T) *dcap.Collateral {
	t.Helper()
	chain := func(header map[string][]string, name string) []byte {
		for k, v := range header {
			if strings.EqualFold(k, name) {
				text := strings.NewReplacer("%20", " ", "%0A", "\n", "%2B", "+", "%2F", "/", "%3D", "=").Replace(v[0])
				return []byte(text)
			}
		}
		t.Fatalf("no header %s", name)
		return nil
	}
	return &dcap.Collateral{
		TCBInfo: tdxdata.TcbInfoBody, TCBInfoChain: chain(tdxtesting.TcbInfoHeader, "Tcb-Info-Issuer-Chain"),
		QEIdentity: tdxdata.QeIdentityBody, QEIdentityChain: chain(tdxtesting.QeIdentityHeader, "Sgx-Enclave-Identity-Issuer-Chain"),
		PCKCRL: tdxdata.PckCrlBody, RootCRL: tdxdata.RootCrlBody,
	}
}

// TestIntelProductionQuote: a quote of a production machine is genuine for
// both verifiers, and with the collateral of its time both find that its TCB
// is on no level that Intel lists there.
func TestIntelProductionQuote(t *testing.T) {
	if err := tdxverify.RawTdxQuote(tdxdata.RawQuote, &tdxverify.Options{Now: tdxTime}); err != nil {
		t.Fatalf("go-tdx-guest refuses its own sample: %v", err)
	}
	// The sample file has text behind the quote, which ours refuses: a quote
	// ends where it says, but for zero bytes.
	if _, err := dcap.Parse(tdxdata.RawQuote); !errors.Is(err, dcap.ErrFormat) {
		t.Errorf("text behind a quote: %v", err)
	}
	raw := tdxdata.RawQuote[:636+int(binary.LittleEndian.Uint32(tdxdata.RawQuote[632:]))]
	q, err := dcap.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.VerifySignature(); err != nil {
		t.Error(err)
	}
	chain, err := dcap.ParseChain(q.Chain)
	if err != nil {
		t.Fatal(err)
	}
	if got := chain.RootKeyID(); attest.KeyID(got) != attest.IntelRoot {
		t.Errorf("the chain ends in %x, not in Intel's root", got)
	}
	policy := attest.HardwarePolicy(attest.DeferredImages())
	ev := attest.Evidence{Format: attest.FormatTDX, Quote: raw}
	_, err = attest.Verify(ev, attest.ReportData(q.TD.ReportData), &attest.Endorsements{Intel: collateral(t)}, policy, tdxTime)
	theirs := tdxverify.RawTdxQuote(tdxdata.RawQuote, &tdxverify.Options{Now: tdxTime, GetCollateral: true, Getter: tdxtesting.TestGetter})
	if theirs == nil || !strings.Contains(theirs.Error(), "TCB") {
		t.Fatalf("go-tdx-guest says %v", theirs)
	}
	if !errors.Is(err, dcap.ErrTCBUnknown) {
		t.Errorf("ours says %v, want %v, as theirs says %v", err, dcap.ErrTCBUnknown, theirs)
	}
	// Everything else was found to be good, but for the guest's attributes:
	// ours demands that page faults are not hidden from the guest
	// (SEPT_VE_DISABLE), which the library leaves to its caller.
	for _, f := range attest.Factors(err) {
		if f.Result == attest.Fail && f.Enforced && f.Name != "collateral" && f.Name != "attributes" {
			t.Errorf("factor %q failed: %s", f.Name, f.Detail)
		}
	}
	// The image hash stands in spec attestation 2.4.
	var registers []attest.Measurement
	td := q.TD
	for _, v := range [][]byte{td.MRTD[:], td.MRConfigID[:], td.MROwner[:], td.MROwnerConfig[:], td.RTMR[0][:], td.RTMR[1][:], td.RTMR[2][:], td.RTMR[3][:]} {
		registers = append(registers, attest.Measurement{Value: v})
	}
	if got, want := attest.TDXImageHash(registers).String(), "6f07b63ffaad70ee8ffd5fcf7adfd79d1c853c1db0e3612568921649259771b5"; got != want {
		t.Errorf("image hash %s, want %s", got, want)
	}
}

// TestSimulatedQuoteIsGenuineInForm: the library accepts quotes of our
// simulated vendor under our root and refuses them under Intel's.
func TestSimulatedQuoteIsGenuineInForm(t *testing.T) {
	vendor, guest := machine(t)
	ev, err := guest.Attest(t.Context(), [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(vendor.Root())
	if err := tdxverify.RawTdxQuote(ev.Quote, &tdxverify.Options{Now: time.Now(), TrustedRoots: roots}); err != nil {
		t.Errorf("under the simulated root: %v", err)
	}
	if err := tdxverify.RawTdxQuote(ev.Quote, &tdxverify.Options{Now: time.Now()}); err == nil {
		t.Error("accepted under Intel's root")
	}
	if _, err := attest.Verify(ev, [64]byte{1}, nil, attest.HardwarePolicy(attest.DeferredImages()), time.Now()); err == nil {
		t.Error("ours takes it for hardware")
	}
}

func machine(t *testing.T) (*simulated.Vendor, *simulated.Guest) {
	t.Helper()
	vendor, err := simulated.New(bytes.Repeat([]byte{3}, 32))
	if err != nil {
		t.Fatal(err)
	}
	guest, err := vendor.NewGuest(simulated.GuestConfig{Registers: simulated.Image("oracle")})
	if err != nil {
		t.Fatal(err)
	}
	return vendor, guest
}

// TestSameVerdictOnFlippedBits: with one bit of a quote changed, ours never
// accepts what the library refuses. The other way round there are three
// reasons, each counted: ours binds the report data, refuses debug and
// migratable guests, and insists on the header's meaning.
func TestSameVerdictOnFlippedBits(t *testing.T) {
	vendor, guest := machine(t)
	want := [64]byte{1}
	ev, err := guest.Attest(t.Context(), want)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(vendor.Root())
	now := time.Now()
	policy := vendor.Policy(attest.DeferredImages())
	rng := rand.New(rand.NewPCG(1, 2))
	both, oursOnly := 0, 0
	for range 400 {
		quote := bytes.Clone(ev.Quote)
		quote[rng.IntN(len(quote))] ^= 1 << rng.IntN(8)
		theirs := tdxverify.RawTdxQuote(quote, &tdxverify.Options{Now: now, TrustedRoots: roots})
		_, ours := attest.Verify(attest.Evidence{Format: attest.FormatTDX, Quote: quote}, want, nil, policy, now)
		switch {
		case ours == nil && theirs != nil:
			t.Errorf("ours accepts what go-tdx-guest refuses: %v", theirs)
		case ours != nil && theirs != nil:
			both++
		case ours != nil:
			oursOnly++
		}
	}
	if both < 100 {
		t.Errorf("only %d changes were refused by both: the test tests nothing", both)
	}
	t.Logf("refused by both: %d, by ours alone: %d", both, oursOnly)
}

// TestAMDReport: a report of a real Milan machine and its VCEK are genuine
// for both verifiers.
func TestAMDReport(t *testing.T) {
	report := sevdata.AttestationBytes[:sevabi.ReportSize]
	vcek, err := x509.ParseCertificate(sevdata.VcekBytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := sevverify.SnpReportSignature(report, vcek); err != nil {
		t.Fatalf("go-sev-guest refuses its own sample: %v", err)
	}
	r, err := sevsnp.Parse(report)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := sevsnp.ParseSigner(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sevdata.VcekBytes}))
	if err != nil {
		t.Fatal(err)
	}
	if err := signer.VerifyReport(r); err != nil {
		t.Error(err)
	}
	forged := bytes.Clone(report)
	forged[0x90] ^= 1 // the measurement
	fr, err := sevsnp.Parse(forged)
	if err != nil {
		t.Fatal(err)
	}
	if err := signer.VerifyReport(fr); err == nil {
		t.Error("a forged measurement is accepted")
	}
	if err := sevverify.SnpReportSignature(forged, vcek); err == nil {
		t.Error("go-sev-guest accepts a forged measurement")
	}
	t.Logf("image hash %s, measurement %s", attest.SEVImageHash(r.Measurement), hex.EncodeToString(r.Measurement[:8]))
}
