//go:build !tee

package attest_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cocoon-network/cocoon/attest"
	"github.com/cocoon-network/cocoon/attest/dcap"
	"github.com/cocoon-network/cocoon/attest/sevsnp"
	"github.com/cocoon-network/cocoon/internal/tee/simulated"
)

// lines derives the SEV-SNP vendors once: their RSA keys take a while.
var lines = sync.OnceValues(func() (l struct{ amd, other, genoa *simulated.SNPVendor }, err error) {
	one, err1 := simulated.New(bytes.Repeat([]byte{1}, simulated.SeedSize))
	two, err2 := simulated.New(bytes.Repeat([]byte{2}, simulated.SeedSize))
	if err := errors.Join(err1, err2); err != nil {
		return l, err
	}
	var errs [3]error
	var wg sync.WaitGroup
	wg.Go(func() { l.amd, errs[0] = one.SNP(sevsnp.Milan) })
	wg.Go(func() { l.other, errs[1] = two.SNP(sevsnp.Milan) })
	wg.Go(func() { l.genoa, errs[2] = one.SNP(sevsnp.Genoa) })
	wg.Wait()
	return l, errors.Join(errs[:]...)
})

// bench is a fake Intel and a fake AMD, each with neighbours and strangers.
type bench struct {
	t testing.TB

	intel, otherIntel          *simulated.Vendor
	guest, neighbour, stranger *simulated.Guest
	guest15                    *simulated.Guest

	amd, otherAMD, genoa                    *simulated.SNPVendor
	snp, snpNeighbour, snpStranger, snpVLEK *simulated.SNPGuest
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{t: t, intel: vendor(t, 1), otherIntel: vendor(t, 2)}
	b.guest = guest(t, b.intel, simulated.GuestConfig{})
	b.guest15 = guest(t, b.intel, simulated.GuestConfig{QuoteVersion: 5})
	b.neighbour = guest(t, b.intel, simulated.GuestConfig{Machine: "another"})
	b.stranger = guest(t, b.otherIntel, simulated.GuestConfig{})
	l, err := lines()
	b.must(err)
	b.amd, b.otherAMD, b.genoa = l.amd, l.other, l.genoa
	start := func(v *simulated.SNPVendor, cfg simulated.SNPGuestConfig) *simulated.SNPGuest {
		cfg.Measurement = [48]byte{1, 2, 3}
		g, err := v.NewGuest(cfg)
		b.must(err)
		return g
	}
	b.snp = start(b.amd, simulated.SNPGuestConfig{})
	b.snpNeighbour = start(b.amd, simulated.SNPGuestConfig{Machine: "another"})
	b.snpStranger = start(b.otherAMD, simulated.SNPGuestConfig{})
	b.snpVLEK = start(b.amd, simulated.SNPGuestConfig{VLEK: true})
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// tdxCase is a good TDX appraisal that a row changes.
type tdxCase struct {
	quote      *dcap.Quote
	statements simulated.Statements
	late       func(*dcap.Collateral) // after signing
	policy     *attest.Policy
	want       attest.ReportData
	at         time.Time
}

func (b *bench) tdx(change func(*tdxCase)) func() error { return b.tdxOf(b.guest, change) }

func (b *bench) tdxOf(g *simulated.Guest, change func(*tdxCase)) func() error {
	return func() error {
		q, err := g.Quote(data)
		b.must(err)
		q.QEAuth, q.Chain = bytes.Clone(q.QEAuth), bytes.Clone(q.Chain)
		c := &tdxCase{quote: q, statements: simulated.Statements{At: now.Add(-time.Hour)}, policy: b.intel.Policy(attest.DeferredImages()), want: data, at: now}
		change(c)
		collateral, err := b.intel.Collateral(c.statements)
		b.must(err)
		if c.late != nil {
			c.late(collateral)
		}
		res, err := attest.Verify(attest.Evidence{Format: attest.FormatTDX, Quote: c.quote.Bytes()}, c.want, &attest.Endorsements{Intel: collateral}, c.policy, c.at)
		if err == nil && (res.Kind != attest.Simulated || res.Status == "" || res.Platform == attest.PlatformID{}) {
			b.t.Errorf("incomplete result %+v", res)
		}
		return err
	}
}

// sign signs what the quote says after a change.
func (b *bench) sign(change func(*dcap.Quote)) func(*tdxCase) {
	return func(c *tdxCase) {
		change(c.quote)
		b.must(b.guest.Sign(c.quote))
	}
}

// edit changes a statement before it is signed.
func edit(name string, change func(doc map[string]any)) func(*tdxCase) {
	return func(c *tdxCase) {
		c.statements.Edit = func(n string, doc map[string]any) {
			if n == name {
				change(doc)
			}
		}
	}
}

func set(name, key string, value any) func(*tdxCase) {
	return edit(name, func(doc map[string]any) { doc[key] = value })
}

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// snpCase is a good SEV-SNP appraisal that a row changes.
type snpCase struct {
	report     *sevsnp.Report
	resign     bool
	evidence   func(*attest.Evidence)
	statements simulated.SNPStatements
	late       func(*sevsnp.Collateral)
	none       bool // no endorsements
	policy     *attest.Policy
	want       attest.ReportData
	at         time.Time
}

func (b *bench) sev(change func(*snpCase)) func() error { return b.sevOf(b.snp, change) }

func (b *bench) sevOf(g *simulated.SNPGuest, change func(*snpCase)) func() error {
	return func() error {
		r, err := g.Report(data)
		b.must(err)
		image := attest.SEVImageHash(r.Measurement)
		c := &snpCase{report: r, statements: simulated.SNPStatements{At: now.Add(-time.Hour), VLEK: g == b.snpVLEK}, want: data, at: now, policy: &attest.Policy{
			Kinds:  []attest.Kind{attest.Simulated},
			Roots:  []attest.KeyID{b.amd.RootKeyID()},
			Images: attest.DeferredImages(),
			SNP:    attest.SNPRules{KernelMeasured: []attest.ImageHash{image}, MinTCB: simulated.SNPTCB},
		}}
		change(c)
		if c.resign {
			b.must(g.Sign(c.report))
		}
		ev := g.Evidence(c.report)
		if c.evidence != nil {
			c.evidence(&ev)
		}
		collateral, err := b.amd.Collateral(c.statements)
		b.must(err)
		if c.late != nil {
			c.late(collateral)
		}
		end := &attest.Endorsements{AMD: collateral}
		if c.none {
			end = nil
		}
		res, err := attest.Verify(ev, c.want, end, c.policy, c.at)
		if err == nil && (res.Kind != attest.Simulated || res.ImageHash != image || res.Platform == attest.PlatformID{}) {
			b.t.Errorf("incomplete result %+v", res)
		}
		return err
	}
}

// sgxCase is a good appraisal of the sealing enclave that a row changes.
type sgxCase struct {
	enclave    dcap.EnclaveReport
	quote      func(*dcap.Quote)
	statements simulated.Statements
	collateral func(simulated.Statements) (*dcap.Collateral, error)
	policy     *attest.EnclavePolicy
	want       attest.ReportData
}

func (b *bench) sgx(change func(*sgxCase)) func() error {
	return func() error {
		enclave := simulated.SealingEnclave(data)
		c := &sgxCase{enclave: enclave, statements: simulated.Statements{At: now.Add(-time.Hour)}, collateral: b.intel.EnclaveCollateral, want: data,
			policy: &attest.EnclavePolicy{Roots: []attest.KeyID{b.intel.RootKeyID()}, MREnclaves: [][32]byte{enclave.MREnclave}, MinISVSVN: 1}}
		change(c)
		q, err := b.guest.EnclaveQuote(c.enclave)
		b.must(err)
		if c.quote != nil {
			c.quote(q)
		}
		collateral, err := c.collateral(c.statements)
		b.must(err)
		_, err = attest.VerifyEnclave(q.Bytes(), c.want, &attest.Endorsements{Intel: collateral}, c.policy, now)
		return err
	}
}

// TestFullAppraisal: everything is well.
func TestFullAppraisal(t *testing.T) {
	b := newBench(t)
	for name, run := range map[string]func() error{
		"TDX v4":            b.tdx(func(*tdxCase) {}),
		"TDX v5, TD 1.5":    b.tdxOf(b.guest15, func(*tdxCase) {}),
		"SGX v3":            b.sgx(func(*sgxCase) {}),
		"SEV-SNP with VCEK": b.sev(func(*snpCase) {}),
		"SEV-SNP with VLEK": b.sevOf(b.snpVLEK, func(*snpCase) {}),
		"weaker status listed": b.tdx(func(c *tdxCase) {
			c.statements.Platform = dcap.SWHardeningNeeded
			c.policy.Statuses = []dcap.Status{dcap.UpToDate, dcap.SWHardeningNeeded}
		}),
		"module listed": b.tdx(func(c *tdxCase) { c.policy.TDX.Modules = [][48]byte{{}, c.quote.TD.MRSEAM} }),
		"service TD listed": b.tdxOf(b.guest15, func(c *tdxCase) {
			c.quote.TD15.MRServiceTD[0] = 1
			c.policy.TDX.ServiceTDs = [][48]byte{c.quote.TD15.MRServiceTD}
			b.must(b.guest15.Sign(c.quote))
		}),
		"evaluation and age": b.tdx(func(c *tdxCase) { c.policy.MinEvaluation, c.policy.MaxAge = 17, time.Hour }),
		"module of version 0": b.tdx(func(c *tdxCase) {
			b.sign(func(q *dcap.Quote) { q.TD.TCBSVN = [16]byte{7, 0, 3} })(c)
			edit("tcbInfo", func(d map[string]any) { // all components count then
				tcb := d["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any)
				tcb["tdxtcbcomponents"].([]map[string]any)[1]["svn"] = 0
			})(c)
		}),
		"the first two components are the module's own": b.tdx(edit("tcbInfo", func(d map[string]any) {
			tcb := d["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any)
			tcb["tdxtcbcomponents"].([]map[string]any)[0]["svn"] = 255
		})),
		"relaunch advised": b.tdxOf(b.guest15, func(c *tdxCase) {
			c.quote.TD.TCBSVN[0] = 2
			c.policy.Statuses = []dcap.Status{dcap.RelaunchAdvised}
			b.must(b.guest15.Sign(c.quote))
		}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTampered changes one thing at a time and demands the right refusal.
func TestTampered(t *testing.T) {
	b := newBench(t)
	quoteOf := func(g *simulated.Guest) *dcap.Quote {
		q, err := g.Quote(data)
		b.must(err)
		return q
	}
	other, err := b.otherIntel.Collateral(simulated.Statements{At: now.Add(-time.Hour)})
	b.must(err)
	sgx, err := b.intel.EnclaveCollateral(simulated.Statements{At: now.Add(-time.Hour)})
	b.must(err)
	snpCRL := func(v *simulated.SNPVendor) *sevsnp.Collateral {
		c, err := v.Collateral(simulated.SNPStatements{At: now.Add(-time.Hour)})
		b.must(err)
		return c
	}
	change := func(f func(*dcap.Quote)) func() error { return b.tdx(func(c *tdxCase) { f(c.quote) }) }
	signed := func(f func(*dcap.Quote)) func() error { return b.tdx(b.sign(f)) }
	status := func(f func(*simulated.Statements)) func() error { return b.tdx(func(c *tdxCase) { f(&c.statements) }) }
	late := func(f func(*dcap.Collateral)) func() error { return b.tdx(func(c *tdxCase) { c.late = f }) }
	policy := func(f func(*attest.Policy)) func() error { return b.tdx(func(c *tdxCase) { f(c.policy) }) }
	at := func(when time.Time) func() error { return b.tdx(func(c *tdxCase) { c.at = when }) }
	report := func(f func(*sevsnp.Report)) func() error { return b.sev(func(c *snpCase) { f(c.report) }) }
	resigned := func(f func(*sevsnp.Report)) func() error {
		return b.sev(func(c *snpCase) { f(c.report); c.resign = true })
	}
	snpPolicy := func(f func(*attest.Policy)) func() error { return b.sev(func(c *snpCase) { f(c.policy) }) }
	snpLate := func(f func(*sevsnp.Collateral)) func() error { return b.sev(func(c *snpCase) { c.late = f }) }
	zeros := strings.Repeat("00", 8)
	both := func(changes ...func(*tdxCase)) func() error {
		return b.tdx(func(c *tdxCase) {
			for _, change := range changes {
				change(c)
			}
		})
	}
	module := func(key, value string) func(*tdxCase) {
		return edit("tcbInfo", func(d map[string]any) { d["tdxModuleIdentities"].([]any)[0].(map[string]any)[key] = value })
	}

	for _, row := range []struct {
		name string
		run  func() error
		err  error
	}{
		// The quote.
		{"MRTD bit", change(func(q *dcap.Quote) { q.TD.MRTD[0] ^= 1 }), dcap.ErrQuoteSignature},
		{"RTMR3 bit", change(func(q *dcap.Quote) { q.TD.RTMR[3][47] ^= 0x80 }), dcap.ErrQuoteSignature},
		{"report data bit", change(func(q *dcap.Quote) { q.TD.ReportData[5] ^= 1 }), dcap.ErrQuoteSignature},
		{"header user data", change(func(q *dcap.Quote) { q.Header.UserData[0] ^= 1 }), dcap.ErrQuoteSignature},
		{"quote signature", change(func(q *dcap.Quote) { q.Signature[63] ^= 1 }), dcap.ErrQuoteSignature},
		{"quote signature zero", change(func(q *dcap.Quote) { q.Signature = [64]byte{} }), dcap.ErrQuoteSignature},
		{"v5 body type", b.tdxOf(b.guest15, func(c *tdxCase) { c.quote.BodyType, c.quote.TD15 = dcap.BodyTD10, nil }), dcap.ErrQuoteSignature},
		{"attestation key", change(func(q *dcap.Quote) { q.AttestationKey[0] ^= 1 }), dcap.ErrQEBinding},
		{"auth data", change(func(q *dcap.Quote) { q.QEAuth[0] ^= 1 }), dcap.ErrQEBinding},
		{"auth data dropped", change(func(q *dcap.Quote) { q.QEAuth = nil }), dcap.ErrQEBinding},
		{"QE report", change(func(q *dcap.Quote) { q.QEReport.ISVSVN++ }), dcap.ErrQESignature},
		{"QE signature", change(func(q *dcap.Quote) { q.QEReportSignature[0] ^= 1 }), dcap.ErrQESignature},
		{"key type", change(func(q *dcap.Quote) { q.Header.KeyType = 3 }), dcap.ErrFormat},
		{"version 6", change(func(q *dcap.Quote) { q.Header.Version = 6 }), dcap.ErrFormat},
		{"version 3 with a TD", change(func(q *dcap.Quote) { q.Header.Version = 3 }), dcap.ErrFormat},
		{"enclave instead of guest", signed(func(q *dcap.Quote) { q.Header.TEE, q.Enclave, q.TD = dcap.TEESGX, &dcap.EnclaveReport{}, nil }), dcap.ErrFormat},
		// Its chain.
		{"chain of a neighbour", change(func(q *dcap.Quote) { q.Chain = quoteOf(b.neighbour).Chain }), dcap.ErrQESignature},
		{"chain of another vendor", change(func(q *dcap.Quote) { q.Chain = quoteOf(b.stranger).Chain }), attest.ErrRoot},
		{"chain empty", change(func(q *dcap.Quote) { q.Chain = nil }), dcap.ErrChainFormat},
		{"chain of two", change(func(q *dcap.Quote) { q.Chain = cut(q.Chain, 0, 2) }), dcap.ErrChainFormat},
		{"chain of four", change(func(q *dcap.Quote) { q.Chain = slices.Concat(q.Chain, cut(q.Chain, 2, 3)) }), dcap.ErrChainFormat},
		{"chain of garbage", change(func(q *dcap.Quote) {
			q.Chain = []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
		}), dcap.ErrChainFormat},
		{"chain reversed", change(func(q *dcap.Quote) {
			q.Chain = slices.Concat(cut(q.Chain, 2, 3), cut(q.Chain, 1, 2), cut(q.Chain, 0, 1))
		}), attest.ErrRoot},
		{"root of ours, leaf of others", change(func(q *dcap.Quote) { q.Chain = slices.Concat(cut(quoteOf(b.stranger).Chain, 0, 2), cut(q.Chain, 2, 3)) }), dcap.ErrChainSignature},
		{"intermediate twice", change(func(q *dcap.Quote) { q.Chain = slices.Concat(cut(q.Chain, 1, 2), cut(q.Chain, 1, 3)) }), dcap.ErrChainName},
		{"TCB signer as leaf", change(func(q *dcap.Quote) { q.Chain = slices.Concat(cut(sgx.TCBInfoChain, 0, 1), cut(q.Chain, 1, 3)) }), dcap.ErrChainName},
		{"before the chain", at(time.Date(2024, 12, 31, 0, 0, 0, 0, time.UTC)), dcap.ErrChainDate},
		{"after the chain", at(time.Date(2050, 1, 1, 0, 0, 0, 0, time.UTC)), dcap.ErrChainDate},
		// The guest.
		{"debug guest", signed(func(q *dcap.Quote) { q.TD.Attributes |= dcap.TDDebug }), attest.ErrDebug},
		{"migratable guest", signed(func(q *dcap.Quote) { q.TD.Attributes |= dcap.TDMigratable }), attest.ErrMigratable},
		{"debug and migratable allowed by mistake", b.tdx(func(c *tdxCase) {
			c.policy.TDX.Attributes = ^uint64(0)
			b.sign(func(q *dcap.Quote) { q.TD.Attributes |= dcap.TDDebug })(c)
		}), attest.ErrDebug},
		{"performance counters", signed(func(q *dcap.Quote) { q.TD.Attributes |= dcap.TDPerfmon }), attest.ErrAttributes},
		{"exceptions injected", signed(func(q *dcap.Quote) { q.TD.Attributes &^= dcap.TDSeptVEDisable }), attest.ErrAttributes},
		{"processor trace", signed(func(q *dcap.Quote) { q.TD.XFAM |= 1 << 8 }), attest.ErrXFAM},
		{"features beyond the policy's", policy(func(p *attest.Policy) { p.TDX.XFAM = 3 }), attest.ErrXFAM},
		{"service TD", b.tdxOf(b.guest15, func(c *tdxCase) { c.quote.TD15.MRServiceTD[0] = 1; b.must(b.guest15.Sign(c.quote)) }), attest.ErrServiceTD},
		{"another report data", signed(func(q *dcap.Quote) { q.TD.ReportData[0] ^= 1 }), attest.ErrReportData},
		{"asked for another key", b.tdx(func(c *tdxCase) { c.want[0] ^= 1 }), attest.ErrReportData},
		{"no measurements at all", signed(func(q *dcap.Quote) { q.TD.MRTD = [48]byte{}; q.TD.RTMR = [4][48]byte{} }), attest.ErrImage},
		{"another image", policy(func(p *attest.Policy) { p.Images = attest.ListedImages(attest.ImageHash{1}) }), attest.ErrImage},
		{"another machine", policy(func(p *attest.Policy) { p.Platforms = []attest.PlatformID{{1}} }), attest.ErrPlatform},
		// The module.
		{"another module's signer", signed(func(q *dcap.Quote) { q.TD.MRSignerSEAM[0] = 1 }), dcap.ErrModule},
		{"debug module", signed(func(q *dcap.Quote) { q.TD.SEAMAttributes = 1 }), dcap.ErrModule},
		{"module of an unknown version", signed(func(q *dcap.Quote) { q.TD.TCBSVN[1] = 2 }), dcap.ErrModule},
		// What the vendor would accept is held against rules of ours.
		{"debug module that the vendor knows", both(
			b.sign(func(q *dcap.Quote) { q.TD.SEAMAttributes = 1 }),
			module("attributes", "0100000000000000"),
		), attest.ErrModule},
		{"another signer's module that the vendor knows", both(
			b.sign(func(q *dcap.Quote) { q.TD.MRSignerSEAM[0] = 1 }),
			module("mrsigner", "01"+strings.Repeat("00", 47)),
		), attest.ErrModule},
		{"another module", policy(func(p *attest.Policy) { p.TDX.Modules = [][48]byte{{1}} }), attest.ErrMRSEAM},
		{"module older than all known", signed(func(q *dcap.Quote) { q.TD.TCBSVN[0] = 0 }), dcap.ErrTCBUnknown},
		{"module of an old version", signed(func(q *dcap.Quote) { q.TD.TCBSVN[0] = 2 }), attest.ErrStatus},
		{"relaunch advised", b.tdxOf(b.guest15, func(c *tdxCase) { c.quote.TD.TCBSVN[0] = 2; b.must(b.guest15.Sign(c.quote)) }), attest.ErrStatus},
		{"module out of date", status(func(s *simulated.Statements) { s.Module = dcap.OutOfDate }), attest.ErrStatus},
		{"module revoked", status(func(s *simulated.Statements) { s.Module = dcap.Revoked }), attest.ErrStatus},
		// The platform.
		{"hardening needed", status(func(s *simulated.Statements) { s.Platform = dcap.SWHardeningNeeded }), attest.ErrStatus},
		{"configuration needed", status(func(s *simulated.Statements) { s.Platform = dcap.ConfigurationNeeded }), attest.ErrStatus},
		{"configuration and hardening needed", status(func(s *simulated.Statements) { s.Platform = dcap.ConfigurationAndSWHardening }), attest.ErrStatus},
		{"platform out of date", status(func(s *simulated.Statements) { s.Platform = dcap.OutOfDate }), attest.ErrStatus},
		{"platform out of date, configuration needed", status(func(s *simulated.Statements) { s.Platform = dcap.OutOfDateConfigurationNeeded }), attest.ErrStatus},
		{"platform revoked", status(func(s *simulated.Statements) { s.Platform = dcap.Revoked }), attest.ErrStatus},
		{"revoked, though out of date is accepted", b.tdx(func(c *tdxCase) {
			c.statements.Platform = dcap.Revoked
			c.policy.Statuses = []dcap.Status{dcap.UpToDate, dcap.OutOfDate}
		}), attest.ErrStatus},
		{"revoked is accepted", b.tdx(func(c *tdxCase) {
			c.statements.Platform = dcap.Revoked
			c.policy.Statuses = []dcap.Status{dcap.Revoked}
		}), attest.ErrPolicy},
		{"endless TCB info", late(func(c *dcap.Collateral) { c.TCBInfo = append(c.TCBInfo, bytes.Repeat([]byte(" "), 1<<20)...) }), dcap.ErrCollateral},
		{"QE identity of another version", b.tdx(set("enclaveIdentity", "version", 1)), dcap.ErrCollateralMismatch},
		{"provisioning enclave older than the level", b.tdx(edit("tcbInfo", func(d map[string]any) {
			d["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any)["pcesvn"] = 65535
		})), attest.ErrStatus},
		{"loader older than the level", signed(func(q *dcap.Quote) { q.TD.TCBSVN[2] = 0 }), attest.ErrStatus},
		{"platform older than all levels", b.tdx(edit("tcbInfo", func(d map[string]any) { d["tcbLevels"] = d["tcbLevels"].([]any)[:0] })), dcap.ErrTCBUnknown},
		// The quoting enclave.
		{"QE out of date", status(func(s *simulated.Statements) { s.QE = dcap.OutOfDate }), attest.ErrStatus},
		{"QE revoked", status(func(s *simulated.Statements) { s.QE = dcap.Revoked }), attest.ErrStatus},
		{"QE of another signer", signed(func(q *dcap.Quote) { q.QEReport.MRSigner[0] ^= 1 }), dcap.ErrQEIdentity},
		{"QE of another product", signed(func(q *dcap.Quote) { q.QEReport.ISVProdID = 1 }), dcap.ErrQEIdentity},
		{"QE with debugging", signed(func(q *dcap.Quote) { q.QEReport.Attributes[0] |= dcap.EnclaveDebug }), dcap.ErrQEIdentity},
		{"QE with other features", signed(func(q *dcap.Quote) { q.QEReport.MiscSelect = 1 }), dcap.ErrQEIdentity},
		{"QE of version 0", signed(func(q *dcap.Quote) { q.QEReport.ISVSVN = 0 }), dcap.ErrTCBUnknown},
		// Revocation.
		{"machine revoked", status(func(s *simulated.Statements) { s.RevokedMachines = []string{"x", ""} }), dcap.ErrRevoked},
		{"platform CA revoked", status(func(s *simulated.Statements) { s.RevokePlatformCA = true }), dcap.ErrRevoked},
		{"signer revoked", status(func(s *simulated.Statements) { s.RevokeSigner = true }), dcap.ErrRevoked},
		{"root list of another vendor", late(func(c *dcap.Collateral) { c.RootCRL = other.RootCRL }), dcap.ErrCRLSignature},
		{"PCK list of another vendor", late(func(c *dcap.Collateral) { c.PCKCRL = other.PCKCRL }), dcap.ErrCRLSignature},
		{"lists swapped", late(func(c *dcap.Collateral) { c.PCKCRL, c.RootCRL = c.RootCRL, c.PCKCRL }), dcap.ErrCRLSignature},
		{"root list, flipped bit", late(func(c *dcap.Collateral) { c.RootCRL = flip(c.RootCRL) }), dcap.ErrCRLSignature},
		{"PCK list, flipped bit", late(func(c *dcap.Collateral) { c.PCKCRL = flip(c.PCKCRL) }), dcap.ErrCRLSignature},
		{"no root list", late(func(c *dcap.Collateral) { c.RootCRL = nil }), dcap.ErrCRL},
		{"no PCK list", late(func(c *dcap.Collateral) { c.PCKCRL = nil }), dcap.ErrCRL},
		{"endless list", late(func(c *dcap.Collateral) { c.RootCRL = make([]byte, 9<<20) }), dcap.ErrCRL},
		{"list for less than it seems", status(func(s *simulated.Statements) { s.CriticalList = true }), dcap.ErrCRL},
		{"lists expired", at(now.Add(31 * 24 * time.Hour)), dcap.ErrCRLDate},
		{"lists of tomorrow", at(now.Add(-2 * time.Hour)), dcap.ErrCRLDate},
		// The statements.
		{"TCB info expired", b.tdx(set("tcbInfo", "nextUpdate", now.Add(-time.Second))), dcap.ErrCollateralDate},
		{"TCB info of tomorrow", b.tdx(set("tcbInfo", "issueDate", now.Add(time.Second))), dcap.ErrCollateralDate},
		{"QE identity expired", b.tdx(set("enclaveIdentity", "nextUpdate", now.Add(-time.Second))), dcap.ErrCollateralDate},
		{"TCB info without dates", b.tdx(edit("tcbInfo", func(d map[string]any) { delete(d, "issueDate") })), dcap.ErrCollateral},
		{"TCB info changed", late(func(c *dcap.Collateral) {
			c.TCBInfo = bytes.Replace(c.TCBInfo, []byte(`"pcesvn":13`), []byte(`"pcesvn":12`), 1)
		}), dcap.ErrCollateralSignature},
		{"QE identity changed", late(func(c *dcap.Collateral) {
			c.QEIdentity = bytes.Replace(c.QEIdentity, []byte(`"isvsvn":6`), []byte(`"isvsvn":5`), 1)
		}), dcap.ErrCollateralSignature},
		{"space added", late(func(c *dcap.Collateral) {
			c.TCBInfo = bytes.Replace(c.TCBInfo, []byte(`{"fmspc"`), []byte(`{ "fmspc"`), 1)
		}), dcap.ErrCollateralSignature},
		{"signature not hex", late(func(c *dcap.Collateral) {
			c.TCBInfo = bytes.Replace(c.TCBInfo, []byte(`"signature":"`), []byte(`"signature":"x`), 1)
		}), dcap.ErrCollateral},
		{"signature missing", late(func(c *dcap.Collateral) {
			c.TCBInfo = bytes.Replace(c.TCBInfo, []byte(`"signature"`), []byte(`"s"`), 1)
		}), dcap.ErrCollateral},
		{"statements swapped", late(func(c *dcap.Collateral) { c.TCBInfo, c.QEIdentity = c.QEIdentity, c.TCBInfo }), dcap.ErrCollateral},
		{"TCB info not JSON", late(func(c *dcap.Collateral) { c.TCBInfo = []byte("<html>") }), dcap.ErrCollateral},
		{"TCB info missing", late(func(c *dcap.Collateral) { c.TCBInfo = nil }), dcap.ErrCollateral},
		{"endless TCB info", late(func(c *dcap.Collateral) { c.TCBInfo = make([]byte, 2<<20) }), dcap.ErrCollateral},
		{"signed by another vendor", late(func(c *dcap.Collateral) { c.TCBInfo, c.TCBInfoChain = other.TCBInfo, other.TCBInfoChain }), dcap.ErrCollateralRoot},
		{"QE identity of another vendor", late(func(c *dcap.Collateral) { c.QEIdentity, c.QEIdentityChain = other.QEIdentity, other.QEIdentityChain }), dcap.ErrCollateralRoot},
		{"another vendor's signer, our root", late(func(c *dcap.Collateral) {
			c.TCBInfoChain = slices.Concat(cut(other.TCBInfoChain, 0, 1), cut(c.TCBInfoChain, 1, 2))
		}), dcap.ErrChainSignature},
		{"signed by a platform CA", late(func(c *dcap.Collateral) {
			c.TCBInfoChain = slices.Concat(cut(quoteOf(b.guest).Chain, 1, 2), cut(c.TCBInfoChain, 1, 2))
		}), dcap.ErrChainName},
		{"signer without root", late(func(c *dcap.Collateral) { c.TCBInfoChain = cut(c.TCBInfoChain, 0, 1) }), dcap.ErrChainFormat},
		{"another FMSPC", b.tdx(set("tcbInfo", "fmspc", "000000000000")), dcap.ErrCollateralMismatch},
		{"another PCE", b.tdx(set("tcbInfo", "pceId", "0001")), dcap.ErrCollateralMismatch},
		{"TCB info of SGX", late(func(c *dcap.Collateral) { c.TCBInfo = sgx.TCBInfo }), dcap.ErrCollateralMismatch},
		{"identity of the SGX QE", late(func(c *dcap.Collateral) { c.QEIdentity = sgx.QEIdentity }), dcap.ErrCollateralMismatch},
		{"TCB info of version 2", b.tdx(set("tcbInfo", "version", 2)), dcap.ErrCollateralMismatch},
		{"TCB info of another type", b.tdx(set("tcbInfo", "tcbType", 1)), dcap.ErrCollateralMismatch},
		{"level of 15 components", b.tdx(edit("tcbInfo", func(d map[string]any) {
			tcb := d["tcbLevels"].([]any)[0].(map[string]any)["tcb"].(map[string]any)
			tcb["tdxtcbcomponents"] = tcb["tdxtcbcomponents"].([]map[string]any)[:15]
		})), dcap.ErrCollateral},
		{"level of an unknown status", b.tdx(edit("tcbInfo", func(d map[string]any) { d["tcbLevels"].([]any)[0].(map[string]any)["tcbStatus"] = "Fine" })), dcap.ErrCollateral},
		{"module identity of three bytes", b.tdx(module("attributes", "000000")), dcap.ErrCollateral},
		{"no module identities", b.tdx(edit("tcbInfo", func(d map[string]any) { delete(d, "tdxModuleIdentities") })), dcap.ErrModule},
		{"mask of the QE too short", b.tdx(set("enclaveIdentity", "attributesMask", zeros)), dcap.ErrCollateral},
		{"number too low", policy(func(p *attest.Policy) { p.MinEvaluation = 18 }), attest.ErrEvaluation},
		{"too old for the policy", policy(func(p *attest.Policy) { p.MaxAge = 59 * time.Minute }), attest.ErrEvaluation},

		// SEV-SNP.
		{"SNP: measurement bit", report(func(r *sevsnp.Report) { r.Measurement[0] ^= 1 }), sevsnp.ErrSignature},
		{"SNP: report data bit", report(func(r *sevsnp.Report) { r.ReportData[0] ^= 1 }), sevsnp.ErrSignature},
		{"SNP: host data bit", report(func(r *sevsnp.Report) { r.HostData[0] ^= 1 }), sevsnp.ErrSignature},
		{"SNP: signature bit", report(func(r *sevsnp.Report) { r.S[0] ^= 1 }), sevsnp.ErrSignature},
		{"SNP: signature zero", report(func(r *sevsnp.Report) { r.R, r.S = [72]byte{}, [72]byte{} }), sevsnp.ErrSignature},
		{"SNP: version 1", resigned(func(r *sevsnp.Report) { r.Version = 1 }), sevsnp.ErrFormat},
		{"SNP: version 6", resigned(func(r *sevsnp.Report) { r.Version = 6 }), sevsnp.ErrFormat},
		{"SNP: algorithm", resigned(func(r *sevsnp.Report) { r.Algorithm = 2 }), sevsnp.ErrFormat},
		{"SNP: cut off", b.sev(func(c *snpCase) { c.evidence = func(e *attest.Evidence) { e.Quote = e.Quote[:1183] } }), sevsnp.ErrFormat},
		{"SNP: no certificate", b.sev(func(c *snpCase) { c.evidence = func(e *attest.Evidence) { e.Certificate = nil } }), sevsnp.ErrCertificate},
		{"SNP: a CA as certificate", b.sev(func(c *snpCase) {
			c.evidence = func(e *attest.Evidence) { e.Certificate = cut(snpCRL(b.amd).Chain, 0, 1) }
		}), sevsnp.ErrChainName},
		{"SNP: certificate of a neighbour", b.sev(func(c *snpCase) {
			c.evidence = func(e *attest.Evidence) { e.Certificate = b.snpNeighbour.Evidence(c.report).Certificate }
		}), sevsnp.ErrChip},
		{"SNP: certificate of another vendor", b.sev(func(c *snpCase) {
			c.evidence = func(e *attest.Evidence) { e.Certificate = b.snpStranger.Evidence(c.report).Certificate }
		}), sevsnp.ErrChainSignature},
		{"SNP: VLEK for a VCEK", b.sev(func(c *snpCase) {
			c.statements.VLEK = true
			c.evidence = func(e *attest.Evidence) { e.Certificate = b.snpVLEK.Evidence(c.report).Certificate }
		}), sevsnp.ErrSigner},
		{"SNP: another machine", resigned(func(r *sevsnp.Report) { r.ChipID[0] ^= 1 }), sevsnp.ErrChip},
		{"SNP: chip id masked", resigned(func(r *sevsnp.Report) { r.ChipID = [64]byte{} }), sevsnp.ErrChip},
		{"SNP: another patch level", resigned(func(r *sevsnp.Report) { r.ReportedTCB++ }), sevsnp.ErrTCB},
		{"SNP: chain of another vendor", snpLate(func(c *sevsnp.Collateral) { *c = *snpCRL(b.otherAMD) }), attest.ErrRoot},
		{"SNP: chain of another product", b.sev(func(c *snpCase) {
			c.policy.Roots = append(c.policy.Roots, b.genoa.RootKeyID())
			c.late = func(s *sevsnp.Collateral) { *s = *snpCRL(b.genoa) }
		}), sevsnp.ErrChainName},
		{"SNP: chain above VLEKs", b.sev(func(c *snpCase) { c.statements.VLEK = true }), sevsnp.ErrChainName},
		{"SNP: chain of one", snpLate(func(c *sevsnp.Collateral) { c.Chain = cut(c.Chain, 0, 1) }), sevsnp.ErrChainFormat},
		{"SNP: chain reversed", snpLate(func(c *sevsnp.Collateral) { c.Chain = slices.Concat(cut(c.Chain, 1, 2), cut(c.Chain, 0, 1)) }), attest.ErrRoot},
		{"SNP: another vendor's intermediate", snpLate(func(c *sevsnp.Collateral) {
			c.Chain = slices.Concat(cut(snpCRL(b.otherAMD).Chain, 0, 1), cut(c.Chain, 1, 2))
		}), sevsnp.ErrChainSignature},
		{"SNP: before the chain", b.sev(func(c *snpCase) { c.at = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC) }), sevsnp.ErrChainDate},
		{"SNP: intermediate revoked", b.sev(func(c *snpCase) { c.statements.RevokeCA = true }), sevsnp.ErrRevoked},
		{"SNP: list of another vendor", snpLate(func(c *sevsnp.Collateral) { c.CRL = snpCRL(b.otherAMD).CRL }), sevsnp.ErrCRLSignature},
		{"SNP: list, flipped bit", snpLate(func(c *sevsnp.Collateral) { c.CRL = flip(c.CRL) }), sevsnp.ErrCRLSignature},
		{"SNP: no list", snpLate(func(c *sevsnp.Collateral) { c.CRL = nil }), sevsnp.ErrCRL},
		{"SNP: list expired", b.sev(func(c *snpCase) { c.at = now.Add(31 * 24 * time.Hour) }), sevsnp.ErrCRLDate},
		{"SNP: nothing published at hand", b.sev(func(c *snpCase) { c.none = true }), attest.ErrEndorsements},
		{"SNP: debugging", resigned(func(r *sevsnp.Report) { r.Policy |= sevsnp.PolicyDebug }), attest.ErrDebug},
		{"SNP: migration agent", resigned(func(r *sevsnp.Report) { r.Policy |= sevsnp.PolicyMigrate }), attest.ErrMigratable},
		{"SNP: reserved bit clear", resigned(func(r *sevsnp.Report) { r.Policy &^= sevsnp.PolicyReserved }), attest.ErrGuestPolicy},
		{"SNP: lower privilege", resigned(func(r *sevsnp.Report) { r.VMPL = 1 }), attest.ErrVMPL},
		{"SNP: forbidden bit", snpPolicy(func(p *attest.Policy) { p.SNP.ForbidPolicy = sevsnp.PolicySMT }), attest.ErrGuestPolicy},
		{"SNP: required bit", snpPolicy(func(p *attest.Policy) { p.SNP.RequirePolicy = sevsnp.PolicySingleSocket }), attest.ErrGuestPolicy},
		{"SNP: below the minimum", snpPolicy(func(p *attest.Policy) { p.SNP.MinTCB.Microcode++ }), attest.ErrMinimumTCB},
		{"SNP: no minimum named", snpPolicy(func(p *attest.Policy) { p.SNP.MinTCB = sevsnp.TCB{} }), attest.ErrMinimumTCB},
		{"SNP: kernel not measured", snpPolicy(func(p *attest.Policy) { p.SNP.KernelMeasured = nil }), attest.ErrKernel},
		{"SNP: another image", snpPolicy(func(p *attest.Policy) { p.Images = attest.Images{} }), attest.ErrImage},
		{"SNP: another key", b.sev(func(c *snpCase) { c.want[0] ^= 1 }), attest.ErrReportData},
		{"SNP: another platform", snpPolicy(func(p *attest.Policy) { p.Platforms = []attest.PlatformID{{1}} }), attest.ErrPlatform},
		{"SNP: list too old", snpPolicy(func(p *attest.Policy) { p.MaxAge = time.Minute }), attest.ErrEvaluation},
		{"SNP: simulated for real", snpPolicy(func(p *attest.Policy) {
			p.Kinds, p.Roots = []attest.Kind{attest.SEVSNP}, append(slices.Clone(attest.AMDRoots), p.Roots...)
		}), attest.ErrKind},
		{"SNP: real, but no minimum named", snpPolicy(func(p *attest.Policy) {
			p.Kinds, p.Roots, p.SNP.MinTCB = []attest.Kind{attest.SEVSNP}, attest.AMDRoots, sevsnp.TCB{}
		}), attest.ErrPolicy},
		{"SNP: real, but no kernel measured", snpPolicy(func(p *attest.Policy) {
			p.Kinds, p.Roots, p.SNP.KernelMeasured = []attest.Kind{attest.SEVSNP}, attest.AMDRoots, nil
		}), attest.ErrPolicy},

		// SGX.
		{"SGX: zero policy", b.sgx(func(c *sgxCase) { c.policy = &attest.EnclavePolicy{} }), attest.ErrRejectsAll},
		{"SGX: no enclaves listed", b.sgx(func(c *sgxCase) { c.policy.MREnclaves = nil }), attest.ErrRejectsAll},
		{"SGX: another vendor's root", b.sgx(func(c *sgxCase) { c.policy.Roots = []attest.KeyID{attest.IntelRoot} }), attest.ErrRoot},
		{"SGX: debug enclave", b.sgx(func(c *sgxCase) { c.enclave.Attributes[0] |= dcap.EnclaveDebug }), attest.ErrDebug},
		{"SGX: another enclave", b.sgx(func(c *sgxCase) { c.enclave.MREnclave[0] ^= 1 }), attest.ErrEnclave},
		{"SGX: an old version", b.sgx(func(c *sgxCase) { c.enclave.ISVSVN = 0 }), attest.ErrEnclave},
		{"SGX: report data", b.sgx(func(c *sgxCase) { c.want[63] ^= 1 }), attest.ErrReportData},
		{"SGX: flipped bit", b.sgx(func(c *sgxCase) { c.quote = func(q *dcap.Quote) { q.Enclave.MREnclave[31] ^= 1 } }), dcap.ErrQuoteSignature},
		{"SGX: QE's SVN in the header", b.sgx(func(c *sgxCase) { c.quote = func(q *dcap.Quote) { q.Header.Reserved[0] ^= 1 } }), dcap.ErrQuoteSignature},
		{"SGX: TDX statements", b.sgx(func(c *sgxCase) { c.collateral = b.intel.Collateral }), dcap.ErrCollateralMismatch},
		{"SGX: platform out of date", b.sgx(func(c *sgxCase) { c.statements.Platform = dcap.OutOfDate }), attest.ErrStatus},
		{"SGX: QE out of date", b.sgx(func(c *sgxCase) { c.statements.QE = dcap.OutOfDate }), attest.ErrStatus},
		{"SGX: revoked is accepted", b.sgx(func(c *sgxCase) {
			c.statements.Platform, c.policy.Statuses = dcap.Revoked, []dcap.Status{dcap.Revoked}
		}), attest.ErrStatus},
		{"SGX: machine revoked", b.sgx(func(c *sgxCase) { c.statements.RevokedMachines = []string{""} }), dcap.ErrRevoked},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := row.run()
			if !errors.Is(err, row.err) {
				t.Fatalf("got %v, want %v", err, row.err)
			}
			f := attest.Factors(err)
			if !slices.ContainsFunc(f, func(f attest.Factor) bool { return f.Result == attest.Fail && f.Enforced }) {
				t.Errorf("no failed factor explains the refusal: %+v", f)
			}
		})
	}
}

// cut returns certificates from..to-1 of a PEM chain.
func cut(chain []byte, from, to int) []byte {
	end := []byte("-----END CERTIFICATE-----\n")
	return bytes.Join(bytes.SplitAfter(chain, end)[from:to], nil)
}

// TestEveryBit flips bits all over a quote: none goes unnoticed.
func TestEveryBit(t *testing.T) {
	v := vendor(t, 1)
	good := evidence(t, guest(t, v, simulated.GuestConfig{}))
	policy := v.Policy(attest.DeferredImages())
	chain := bytes.Index(good.Quote, []byte("-----BEGIN"))
	for i := range chain {
		ev := attest.Evidence{Format: attest.FormatTDX, Quote: bytes.Clone(good.Quote)}
		ev.Quote[i] ^= 1 << (i % 8)
		if _, err := attest.Verify(ev, data, nil, policy, now); err == nil {
			t.Errorf("a bit of byte %d flipped (%s): accepted", i, hex.EncodeToString(ev.Quote[i:i+1]))
		}
	}
}

// TestResultExpires: a verdict lives no longer than what it rests on.
func TestResultExpires(t *testing.T) {
	b := newBench(t)
	made := now.Add(-time.Hour)
	c, err := b.intel.Collateral(simulated.Statements{At: made, Edit: func(name string, doc map[string]any) {
		if name == "enclaveIdentity" {
			doc["nextUpdate"] = now.Add(time.Hour)
		}
	}})
	b.must(err)
	policy := b.intel.Policy(attest.DeferredImages())
	ev := evidence(t, b.guest)
	res, err := attest.Verify(ev, data, &attest.Endorsements{Intel: c}, policy, now)
	b.must(err)
	if !res.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("expires %v, the QE identity at %v", res.Expires, now.Add(time.Hour))
	}
	policy.MaxAge = 90 * time.Minute
	res, err = attest.Verify(ev, data, &attest.Endorsements{Intel: c}, policy, now)
	b.must(err)
	if !res.Expires.Equal(made.Add(90 * time.Minute)) {
		t.Errorf("expires %v, the policy's age at %v", res.Expires, made.Add(90*time.Minute))
	}
	res, err = attest.Verify(ev, data, nil, b.intel.Policy(attest.DeferredImages()), now)
	b.must(err)
	if y := res.Expires.Year(); y != 2049 {
		t.Errorf("without statements it expires in %d, the certificates in 2049", y)
	}
}
